"""The terminal grid: one tmux server of the org's own, its pages of panes, and one line typed at a time.

The only module that calls tmux; what is said to it and read from it is worded in `world.tmuxwords`. The server has its
own socket, reads no configuration of the person's and starts from an allow-listed environment, or every pane would see
the launcher's API keys. Panes are named by `%id` only, which restart at %0 when the server does: keep them with
`pid()`. Only our own ids become tmux names, because tmux runs `#(cmd)` in a name. Nothing here decides when to type:
`type_line` refuses where a person is in copy mode, no more.
"""

from __future__ import annotations

import os
import re
import shlex
import shutil
import signal
import socket
import subprocess
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from org.errors import BadInput, Busy, MissingTool, OrgError
from org.files import locked
from org.world import tmuxwords
from org.world.tmuxwords import ClientInfo, Pane, PaneInfo

TIMEOUT_S = 10.0
PANES_PER_PAGE = 9  # 3x3; splitting stops at 5-6 panes without `tiled`, and more than 9 are too small to read
MAX_LINE = 300  # characters typed into a pane; longer text goes into a letter
PASSED_ON = frozenset(
    {"PATH", "HOME", "LANG", "LC_ALL", "LC_CTYPE", "TERM", "COLORTERM", "SHELL", "USER", "TMPDIR", "TZ"}
)

_LOST = re.compile(r"no server running|error connecting|server exited|lost server|no sessions")


class TmuxError(OrgError):
    """tmux said no, or not in time."""


class ServerLost(TmuxError):
    """There is no server on the socket, or it went away under the command."""


class PaneBusy(Busy):
    """A person is scrolling or the pane takes no input: not a byte was typed."""


class Server:
    """The tmux server on socket `name`. Making this object starts nothing; `grid` starts the server when there is none."""

    def __init__(self, name: str, conf: Path | None = None, env: Mapping[str, str] | None = None) -> None:
        self.name = tmuxwords.name(name)
        self.conf = conf or Path("/dev/null")
        self.env = _environment(env or {})
        self.socket = Path(f"/tmp/tmux-{os.getuid()}/{name}")  # TMUX_TMPDIR is not passed on, so tmux uses /tmp

    # --- the server ----------------------------------------------------------------------------------------------

    def run(self, *commands: Sequence[str], timeout_s: float = TIMEOUT_S) -> str:
        """Run tmux commands in order in one process (several when they are over 12 KB) and return what they print.
        The first failing one stops the rest. A literal `;` at the end of an argument stays literal."""
        out = ""
        deadline = time.monotonic() + timeout_s
        for batch in tmuxwords.batches(commands):
            words: list[str] = []
            for command in batch:
                words += [";"] if words else []
                words += [word[:-1] + "\\;" if word.endswith(";") else word for word in command]
            out += self._call(words, max(0.1, deadline - time.monotonic()))
        return out

    def alive(self) -> bool:
        """Whether the server answers."""
        return self.pid() is not None

    def pid(self) -> int | None:
        """The server's process id; pane ids are only good under the same one."""
        try:
            return int(self.run(["display-message", "-p", "#{pid}"]))
        except (ServerLost, ValueError):  # ValueError: a server that is going down prints nothing
            return None

    def kill(self, timeout_s: float = TIMEOUT_S) -> None:
        """End the server and every pane, then wait until it is gone and its socket too: a `new-session` right behind
        `kill-server` fails one time in three. Without a server only a stale socket is removed."""
        pid = self.pid()
        if pid is not None:
            try:
                self.run(["kill-server"], timeout_s=timeout_s)
            except ServerLost:
                pass  # it went down before it could answer
        if not _until(lambda: not self._listens() and (pid is None or _has_ended(pid)), timeout_s):
            raise TmuxError(f"tmux server {self.name} (pid {pid}) does not end; kill it by hand")
        self.socket.unlink(missing_ok=True)

    # --- panes ---------------------------------------------------------------------------------------------------

    def grid(
        self, session: str, panes: Sequence[Pane], window: str = "grid", width: int = 200, height: int = 50
    ) -> list[str]:
        """Start `panes` in pages of at most 9, tiled, and return their ids in order. One chained call.

        Makes the session (and the server) when absent, else adds windows to it. Pages are windows named `window`,
        `window-2`, ... of a fixed size, so that a small terminal that attaches does not shrink the grid for good.
        """
        for pane in panes:
            _check(pane)
        if not panes:
            return []
        deadline = time.monotonic() + TIMEOUT_S
        while True:
            try:
                out = self.run(*self._building(tmuxwords.name(session), panes, tmuxwords.name(window), width, height))
                return out.split()
            except ServerLost:
                # A server on its way down took the command with it.
                if time.monotonic() > deadline:
                    raise
                _until(lambda: not self._listens(), 0.2)

    def respawn(self, pane_id: str, argv: Sequence[str], env: Mapping[str, str], cwd: Path) -> None:
        """Start `argv` in an existing pane, killing what runs there. `env` is given again because tmux drops what the
        pane was started with: a seat would lose its CUDA_VISIBLE_DEVICES."""
        pane = Pane("respawn", argv, env, cwd)
        _check(pane)
        self.run(["respawn-pane", "-k", "-t", tmuxwords.pane_id(pane_id), *self._start(pane)])

    def list_panes(self) -> list[PaneInfo]:
        """Every pane of the server. One process, 3 ms for 65 panes: cheap enough for once a second."""
        found = []
        for row in self._rows("list-panes -a", tmuxwords.PANE_FIELDS):
            found.append(tmuxwords.pane_info(row))
            if found[-1].dead and found[-1].dead_status is None:
                # tmux 3.3a misses some deaths right after a start and leaves a zombie; told again, it looks again.
                _tell_of_a_death(int(row["pid"]))
        return found

    def clients(self) -> list[ClientInfo]:
        """The terminals attached now; `activity` and `pane_id` together say where a person is working."""
        return [tmuxwords.client_info(row) for row in self._rows("list-clients", tmuxwords.CLIENT_FIELDS)]

    def set_options(self, values: Mapping[str, Mapping[str, str | None]]) -> None:
        """target -> {option: value}, in one chained call. A target is a pane `%1`, a window `@1` or a session's name;
        None unsets. Panes that are gone are left out. Text that is not ours goes through `escape_format` first."""
        groups = {target: tmuxwords.settings(target, options) for target, options in values.items()}
        try:
            self.run(*[command for commands in groups.values() for command in commands])
        except ServerLost:
            raise
        except TmuxError as error:
            if "can't find" not in str(error) and "no such" not in str(error):
                raise
            for commands in groups.values():  # one target is gone, and it stopped those behind it
                try:
                    self.run(*commands)
                except TmuxError as each:
                    if "can't find" not in str(each) and "no such" not in str(each):
                        raise

    def capture(self, pane_id: str, escapes: bool = False, history: int = 0) -> str:
        """What the pane shows, with `history` lines above it. Hostile: a program can hide text there, or fake any."""
        flags = ["-e"] if escapes else []
        flags += ["-S", f"-{history}"] if history else []
        return self.run(["capture-pane", "-p", *flags, "-t", tmuxwords.pane_id(pane_id)])

    def resize(self, window: str, width: int, height: int) -> None:
        """Give a window (`@id`) a fixed size and even tiles."""
        self.run(
            ["resize-window", "-t", tmuxwords.window_id(window), "-x", str(width), "-y", str(height)],
            ["select-layout", "-t", window, "tiled"],
        )

    def attach_argv(self, session: str, pane_id: str | None = None) -> list[str]:
        """The command a person's terminal runs to look at `session`, on `pane_id` when given. Works inside another
        tmux too."""
        words = ["env", "-u", "TMUX", "-u", "TMUX_TMPDIR", "tmux", "-L", self.name, "-f", str(self.conf)]
        if pane_id is not None:
            words += ["select-window", "-t", tmuxwords.pane_id(pane_id), ";", "select-pane", "-t", pane_id, ";"]
        return [*words, "attach-session", "-t", f"={tmuxwords.name(session)}"]

    # --- typing --------------------------------------------------------------------------------------------------

    def type_line(self, pane_id: str, text: str, lock: Path, gap_s: float = 0.2, before: Sequence[str] = ()) -> None:
        """Type one line and Enter into a pane, under the file lock that every sender to this pane takes.

        Control characters are taken out; over 300 characters or empty is BadInput. PaneBusy when the pane is in copy
        mode (send-keys would hang), dead or closed to input. `before` are keys pressed first (a program's own stash).
        `gap_s` between text and Enter: agent programs read both at once as a pasted line break (6 to 15 of 20 orders
        got stuck without a gap, none of 50 with 0.2 s). It says nothing of whether the program took the line.
        """
        line = tmuxwords.clean(text)
        if not line.strip() or len(line) > MAX_LINE:
            raise BadInput(f"a typed line has 1 to {MAX_LINE} characters, this one {len(line)}; send a letter instead")
        with locked(lock):  # text and Enter of 8 senders without it: 221 of 800 lines intact
            self._refuse_busy(pane_id)
            for key in before:
                self.run(["send-keys", "-t", pane_id, tmuxwords.key(key)])
            self.run(["send-keys", "-t", pane_id, "-l", "--", line])
            time.sleep(gap_s)
            self._refuse_busy(pane_id)
            self.run(["send-keys", "-t", pane_id, "Enter"])

    def press(self, pane_id: str, *keys: str, lock: Path) -> None:
        """Press named keys (Enter, Down, ...) in a pane, refusing as `type_line` does. Never C-c, C-u or Escape: they
        kill sessions and eat a person's draft."""
        named = [tmuxwords.key(key) for key in keys]
        with locked(lock):
            self._refuse_busy(pane_id)
            self.run(["send-keys", "-t", pane_id, *named])

    def _refuse_busy(self, pane_id: str) -> None:
        state = self.run(
            [
                "display-message",
                "-p",
                "-t",
                tmuxwords.pane_id(pane_id),
                "#{pane_id}|#{pane_in_mode}|#{pane_dead}|#{pane_input_off}",
            ]
        ).strip()
        fields = state.split(tmuxwords.SEPARATOR)
        found, in_mode, dead, input_off = fields if len(fields) == 4 else ("", "", "", "")
        if found != pane_id:
            raise TmuxError(f"there is no pane {pane_id} on tmux server {self.name}")
        if in_mode not in ("", "0"):
            raise PaneBusy(f"a person is reading back in pane {pane_id}; nothing was typed, try again later")
        if dead == "1" or input_off == "1":
            raise PaneBusy(f"pane {pane_id} {'has ended' if dead == '1' else 'takes no input'}; nothing was typed")

    # --- building ------------------------------------------------------------------------------------------------

    def _building(self, session: str, panes: Sequence[Pane], window: str, width: int, height: int) -> list[list[str]]:
        """The chain of commands behind `grid`."""
        there = self._windows(session)
        size = ["-x", str(width), "-y", str(height)]
        chain = [] if there is not None else [["start-server"], *tmuxwords.defaults(f"{width}x{height}", _terminal())]
        for page, first in enumerate(range(0, len(panes), PANES_PER_PAGE), start=1):
            name = window if page == 1 else f"{window}-{page}"
            if name in (there or ()):
                raise TmuxError(f"session {session} has a window {name} already")
            target = f"={session}:={name}"
            for number, pane in enumerate(panes[first : first + PANES_PER_PAGE]):
                begin = ["-P", "-F", "#{pane_id}", *self._start(pane)]
                if number:
                    chain.append(["split-window", "-t", target, *begin])
                elif page == 1 and there is None:
                    chain.append(["new-session", "-d", "-s", session, "-n", name, *size, *begin])
                else:
                    chain.append(["new-window", "-d", "-t", f"={session}:", "-n", name, *begin])
                if not number:
                    # Makes this window's size manual. Set for all windows, tmux 3.3a would die of it at the next one.
                    chain.append(["resize-window", "-t", target, *size])
                chain.append(["set-option", "-p", "-t", target, "@seat", pane.title])
                chain.append(["select-pane", "-t", target, "-T", pane.title])
                chain.append(["select-layout", "-t", target, "tiled"])  # after each: or "no space for new pane"
            chain.append(["select-pane", "-t", f"{target}.0"])
        return chain

    def _start(self, pane: Pane) -> list[str]:
        """The tail of new-session, new-window, split-window and respawn-pane. `env` hands the shell's process over to
        the program, and sets SHELL, which tmux overwrites with its own default-shell."""
        variables = [word for name, value in pane.env.items() for word in ("-e", f"{name}={value}")]
        shell = pane.env.get("SHELL", self.env.get("SHELL", "/bin/sh"))
        return ["-c", str(pane.cwd), *variables, "exec " + shlex.join(["env", f"SHELL={shell}", *pane.argv])]

    def _windows(self, session: str) -> list[str] | None:
        """Names of the session's windows; None without the session."""
        try:
            return self.run(["list-windows", "-t", f"={session}", "-F", "#{window_name}"]).splitlines()
        except TmuxError as error:
            if isinstance(error, ServerLost) or "can't find session" in str(error):
                return None
            raise

    # --- calling -------------------------------------------------------------------------------------------------

    def _rows(self, command: str, fields: str) -> list[dict[str, str]]:
        out = self.run([*command.split(), "-F", tmuxwords.row_format(fields)])
        return tmuxwords.rows(out, fields)

    def _call(self, words: Sequence[str], timeout_s: float) -> str:
        argv = ["tmux", "-u", "-L", self.name, "-f", str(self.conf), *words]
        try:
            done = subprocess.run(
                argv,
                stdin=subprocess.DEVNULL,
                capture_output=True,
                env=self.env,
                timeout=timeout_s,
                cwd="/",
                check=False,
            )
        except FileNotFoundError:
            if shutil.which("tmux", path=self.env["PATH"]) is None:
                raise MissingTool("tmux is not installed; install it with `apt-get install tmux`") from None
            raise
        except subprocess.TimeoutExpired:
            raise TmuxError(f"tmux {words[0]} was not done in {timeout_s:.0f} s on server {self.name}") from None
        if done.returncode:
            said = (done.stderr.decode(errors="replace").strip() or f"exit status {done.returncode}").splitlines()[0]
            kind = ServerLost if _LOST.search(said) else TmuxError
            raise kind(f"tmux {words[0]}: {tmuxwords.clean(said)[:300]}")
        return done.stdout.decode(errors="replace")

    def _listens(self) -> bool:
        """Whether some process accepts on the socket; a file without a server refuses."""
        with socket.socket(socket.AF_UNIX) as probe:
            probe.settimeout(1.0)
            try:
                probe.connect(str(self.socket))
            except OSError:  # refused, missing, or its queue is full because the server hangs: silent all the same
                return False
            return True


def _terminal() -> str:
    """What our panes call their terminal: tmux's own entry where the machine has it."""
    has_own_entry = any(
        (Path(folder) / "t/tmux-256color").exists()
        for folder in ("/etc/terminfo", "/lib/terminfo", "/usr/share/terminfo", "/usr/lib/terminfo")
    )
    return "tmux-256color" if has_own_entry else "screen-256color"


def _environment(extra: Mapping[str, str]) -> dict[str, str]:
    kept = {name: value for name, value in os.environ.items() if name in PASSED_ON or name.startswith("XDG_")}
    usual = {
        "PATH": os.defpath,
        "TERM": "xterm-256color",
        "LANG": "C.UTF-8",
        "HOME": str(Path.home()),
        "SHELL": "/bin/sh",
    }
    return usual | kept | dict(extra)


def _check(pane: Pane) -> None:
    tmuxwords.name(pane.title)
    if not pane.argv:
        raise BadInput(f"pane {pane.title} has no command")
    if not pane.cwd.is_dir():
        raise BadInput(f"pane {pane.title}: folder {pane.cwd} does not exist")
    for name, value in pane.env.items():
        if not re.fullmatch(r"[A-Za-z_][A-Za-z0-9_]*", name) or "\0" in value:
            raise BadInput(f"pane {pane.title}: {name!r} is not a variable")


def _tell_of_a_death(pid: int) -> None:
    try:
        os.kill(pid, signal.SIGCHLD)
    except ProcessLookupError:
        pass  # the server itself has ended


def _has_ended(pid: int) -> bool:
    """A zombie has: PID 1 may reap it only after 2 s."""
    try:
        stat = Path(f"/proc/{pid}/stat").read_bytes()
    except OSError:  # no such process
        return True
    return stat[stat.rindex(b")") + 2 :][:1] in b"ZX"


def _until(condition: Callable[[], bool], limit_s: float) -> bool:
    deadline = time.monotonic() + limit_s
    while not condition():
        if time.monotonic() > deadline:
            return False
        time.sleep(0.01)
    return True
