"""What tests of a real tmux server share: programs for its panes, and looks at them."""

import sys

from org.world.tmuxwords import Pane

SLEEP = ("sleep", "600")
READ_LINES = (sys.executable, "-c", "import sys\nfor line in sys.stdin: print('got', repr(line), flush=True)")


def text_of(path):
    return path.read_text() if path.exists() else ""


def seats(number, argv=SLEEP):
    return [Pane(f"j{n}", argv) for n in range(1, number + 1)]


def info(server, pane_id):
    return next(pane for pane in server.list_panes() if pane.id == pane_id)
