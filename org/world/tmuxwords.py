"""What is said to tmux and what it says back: records, names, formats, options. Pure; `world.tmux` does the calling."""

from __future__ import annotations

import os
import re
import unicodedata
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from org.errors import BadInput

MAX_COMMAND_BYTES = 12_000  # of one tmux process: it refuses 16 KB ("command too long")
SEPARATOR = "|"  # printable: tmux turns control characters of a format into underscores
PANE_FIELDS = """pid pane_id window_id window_name pane_pid pane_dead pane_dead_status pane_dead_signal
    pane_in_mode pane_input_off pane_width pane_height pane_active cursor_x cursor_y @seat pane_current_command
    pane_title"""
CLIENT_FIELDS = """client_activity pane_id client_control_mode client_readonly client_prefix client_width client_height
    client_created"""

# texts that a person or a program gives as they like: a separator in one would shift every field behind it
FREE = frozenset({"window_name", "@seat", "pane_current_command", "pane_title"})

BUSY = "org-busy"  # printed in place of typing

_ID = re.compile(r"[A-Za-z0-9][A-Za-z0-9_-]{0,63}")


@dataclass(frozen=True)
class Pane:
    """What runs in a pane: `title` is its seat (an id), `argv` becomes the pane's own process, `env` is on top of the
    server's clean environment. `cwd` must exist: tmux would start elsewhere without a word."""

    title: str
    argv: Sequence[str]
    env: Mapping[str, str] = field(default_factory=dict)
    cwd: Path = Path("/")


@dataclass(frozen=True)
class PaneInfo:
    """One pane as tmux sees it. `dead_status` is None while the program runs, and for a moment after its death: not
    known yet; a program ended by a signal has 128 + signal. `window` is the window's @id."""

    id: str
    window: str
    window_name: str
    pid: int
    dead: bool
    dead_status: int | None
    in_mode: bool
    input_off: bool
    width: int
    height: int
    active: bool
    seat: str
    title: str
    command: str = ""  # what is in front on its terminal: the program itself, or one that it has put there
    cursor: tuple[int, int] = (0, 0)  # column and row, from 0


@dataclass(frozen=True)
class ClientInfo:
    """One attached terminal. `activity`: Unix seconds of the person's last key, not moved by what we type; before their
    first one, of `created`, the moment when they attached. `control`:
    a program reads this client, no person. `prefix`: the person has pressed the prefix key and is about to command."""

    activity: int
    pane_id: str
    control: bool
    readonly: bool
    prefix: bool
    width: int
    height: int
    created: int = 0


# --- reading -----------------------------------------------------------------------------------------------------


def row_format(fields: str) -> str:
    """The tmux format that prints `fields` (names between spaces) as one row; tmux writes `_` for a separator in a text."""
    return SEPARATOR.join(
        f"#{{s/[{SEPARATOR}]/_/:{word}}}" if word in FREE else f"#{{{word}}}" for word in fields.split()
    )


def rows(out: str, fields: str) -> list[dict[str, str]]:
    """field -> text of every row that tmux printed for `row_format(fields)`."""
    names = fields.split()
    lines = [line.split(SEPARATOR) for line in out.split("\n")]
    return [dict(zip(names, parts, strict=True)) for parts in lines if len(parts) == len(names)]


def pane_info(row: Mapping[str, str]) -> PaneInfo:
    """The pane that a row of PANE_FIELDS describes."""
    dead, status, ended_by = row["pane_dead"] == "1", row["pane_dead_status"], row["pane_dead_signal"]
    known = int(status) if status else 128 + int(ended_by) if ended_by.isdigit() else None
    return PaneInfo(
        id=row["pane_id"],
        window=row["window_id"],
        window_name=row["window_name"],
        pid=int(row["pane_pid"] or 0),
        dead=dead,
        dead_status=known if dead else None,
        in_mode=row["pane_in_mode"] not in ("", "0"),
        input_off=row["pane_input_off"] == "1",
        width=int(row["pane_width"]),
        height=int(row["pane_height"]),
        active=row["pane_active"] == "1",
        seat=row["@seat"],
        title=row["pane_title"],
        command=row["pane_current_command"],
        cursor=(int(row["cursor_x"] or 0), int(row["cursor_y"] or 0)),
    )


def client_info(row: Mapping[str, str]) -> ClientInfo:
    """The terminal that a row of CLIENT_FIELDS describes."""
    return ClientInfo(
        activity=int(row["client_activity"] or 0),
        pane_id=row["pane_id"],
        control=row["client_control_mode"] == "1",
        readonly=row["client_readonly"] == "1",
        prefix=row["client_prefix"] == "1",
        width=int(row["client_width"] or 0),
        height=int(row["client_height"] or 0),
        created=int(row["client_created"] or 0),
    )


# --- names and text ----------------------------------------------------------------------------------------------


def name(text: str) -> str:
    """`text`, if it may be the name of a server, session, window or seat."""
    if not _ID.fullmatch(text):
        raise BadInput(f"{text!r} cannot be a tmux name: letters, digits, - and _ only")
    return text


def pane_id(text: str) -> str:
    """`text`, if it is a pane's id."""
    if not re.fullmatch(r"%\d+", text):
        raise BadInput(f"{text!r} is not a pane id like %3")
    return text


def window_id(text: str) -> str:
    """`text`, if it is a window's id."""
    if not re.fullmatch(r"@\d+", text):
        raise BadInput(f"{text!r} is not a window id like @3")
    return text


def key(text: str) -> str:
    """`text`, if it is a key that ends no program and eats no draft."""
    if not re.fullmatch(r"[A-Za-z0-9-]+", text) or text.lower() in ("c-c", "c-u", "c-d", "c-z", "escape", "c-["):
        raise BadInput(f"{text!r} is not a key that may be pressed in a pane")
    return text


def clean(text: str) -> str:
    """Without control characters, line separators and lone surrogates: nothing that ends a line or starts an escape."""
    return "".join(letter for letter in text if unicodedata.category(letter) not in ("Cc", "Cs", "Zl", "Zp"))


def if_open(pane: str, command: Sequence[str], pid: int | None = None) -> list[str]:
    """`command` for a pane, run by the server in one breath with the look whether the pane takes it: no person can come in
    between. Prints BUSY and does nothing where the pane is in a mode (send-keys would hang), dead, closed to input, or runs
    another process than `pid`."""
    is_same = "1" if pid is None else f"#{{==:#{{pane_pid}},{pid}}}"
    is_open = f"#{{?pane_in_mode,,#{{?pane_dead,,#{{?pane_input_off,,{is_same}}}}}}}"
    return ["if-shell", "-F", "-t", pane_id(pane), is_open, words(command), f"display-message -p {BUSY}"]


def is_sayable(command: Sequence[str]) -> bool:
    """Whether `words` can hold the command: a line break ends a line wherever it stands."""
    return not any(letter in word for word in command for letter in "\n\r\0")


def words(command: Sequence[str]) -> str:
    """A command, without a line break in it, as tmux's own language reads it back."""
    return " ".join(map(_quoted, command))


def _quoted(word: str) -> str:
    """Nothing between single quotes is special."""
    return (
        word if re.fullmatch(r"[A-Za-z0-9_./@-][A-Za-z0-9_./:=@+-]*", word) else "'" + word.replace("'", "'\\''") + "'"
    )


def escape_format(text: str) -> str:
    """`text` so that a tmux format shows it as it is: no `#(cmd)`, no `#{variable}`, no style."""
    return clean(text).replace("#", "##")


# --- commands ----------------------------------------------------------------------------------------------------


def defaults(size: str, terminal: str) -> list[list[str]]:
    """Commands for the options of our server; `size` as WxH, `terminal` the TERM of its panes. Run before its first
    pane: history and terminal are fixed when a pane is made."""
    server = {
        "default-terminal": terminal,
        "escape-time": "10",  # ms; the default 500 makes Escape feel dead in every agent program
        "focus-events": "on",
        "extended-keys": "on",
        "set-clipboard": "off",  # a pane's output must not write the person's clipboard
    }
    everywhere = {
        "default-shell": "/bin/sh",
        "default-command": 'exec "${SHELL:-/bin/sh}"',
        "default-size": size,
        "update-environment": "",  # nothing of an attaching terminal's environment reaches new panes
        "remain-on-exit": "on",  # or the last pane's death ends window, session and server
        "mouse": "on",
        "history-limit": "20000",
        "base-index": "0",
        "pane-base-index": "0",
        "allow-rename": "off",
        "automatic-rename": "off",
        "set-titles": "off",
        "detach-on-destroy": "on",
        "status": "on",
        "status-interval": "5",
        "status-style": "bg=colour236,fg=colour252",
        "status-left-length": "60",
        "status-right-length": "100",
        "status-left": " #S ",
        "status-right": "",
        "pane-border-status": "top",
        "pane-border-format": " #{?@label,#{@label},#{@seat}} ",
        "pane-border-style": "#{?@colour,fg=#{@colour},fg=colour240}",
        "pane-active-border-style": "#{?@colour,fg=#{@colour},fg=colour250},bold",
    }
    chain = [["set-option", "-s", name, value] for name, value in server.items()]
    return chain + [["set-option", "-g", name, value] for name, value in everywhere.items()]


def settings(target: str, options: Mapping[str, str | None]) -> list[list[str]]:
    """Commands that give `target` (a pane `%1`, a window `@1` or a session's name) these options; None unsets."""
    if target.startswith("%"):
        scope = ["-p", "-t", pane_id(target)]
    elif target.startswith("@"):
        scope = ["-w", "-t", window_id(target)]
    else:
        scope = ["-t", f"={name(target)}:"]
    commands = []
    for option, value in options.items():
        if not re.fullmatch(r"@?[a-z][a-z0-9_-]*", option):
            raise BadInput(f"{option!r} is not a tmux option")
        if value is not None and ("#(" in value.replace("##", "") or value != clean(value)):
            raise BadInput(f"{value!r} would be run by tmux; pass it through escape_format")
        commands.append(
            ["set-option", *scope, option, value] if value is not None else ["set-option", "-u", *scope, option]
        )
    return commands


def batches(commands: Sequence[Sequence[str]]) -> list[list[Sequence[str]]]:
    """`commands` in order, in as many runs of tmux as its limit on one command line asks for."""
    found: list[list[Sequence[str]]] = [[]]
    size = 0
    for command in commands:
        length = sum(len(os.fsencode(word)) + 2 for word in command) + 2
        if found[-1] and size + length > MAX_COMMAND_BYTES:
            found.append([])
            size = 0
        found[-1].append(command)
        size += length
    return [batch for batch in found if batch]
