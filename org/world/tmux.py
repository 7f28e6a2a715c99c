"""The terminal grid: one tmux server of the org's own, its pages of panes, and one line typed at a time.

The only module that calls tmux. The server has its own socket, reads no configuration of the person's and starts from
an allow-listed environment, or every pane would see the launcher's API keys. Panes are named by `%id` only, which
restart at %0 when the server does: keep them with `pid()`. Only our own ids become tmux names, because tmux runs
`#(cmd)` in a name. Nothing here decides when to type: `type_line` refuses where a person is in copy mode, no more.
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
import unicodedata
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from org.errors import BadInput, Busy, MissingTool, OrgError
from org.files import locked

TIMEOUT_S = 10.0
PANES_PER_PAGE = 9  # 3x3; splitting stops at 5-6 panes without `tiled`, and more than 9 are too small to read
MAX_LINE = 300  # characters typed into a pane; longer text goes into a letter
MAX_COMMAND_BYTES = 12_000  # of one tmux process: it refuses 16 KB ("command too long")
PASSED_ON = frozenset(
    {"PATH", "HOME", "LANG", "LC_ALL", "LC_CTYPE", "TERM", "COLORTERM", "SHELL", "USER", "TMPDIR", "TZ"}
)

_ID = re.compile(r"[A-Za-z0-9][A-Za-z0-9_-]{0,63}")
_LOST = re.compile(r"no server running|error connecting|server exited|lost server|no sessions")
_SEPARATOR = "|"  # printable: tmux turns control characters of a format into underscores
# The free text comes last: a program can put a separator into its title.
_PANE_FORMAT = """pid pane_id window_id window_name session_name pane_pid pane_dead pane_dead_status pane_dead_signal
    pane_in_mode pane_input_off pane_width pane_height pane_active @seat pane_title"""
_CLIENT_FORMAT = (
    """client_activity pane_id client_control_mode client_readonly client_prefix client_width client_height"""
)


class TmuxError(OrgError):
    """tmux said no, or not in time."""


class ServerLost(TmuxError):
    """There is no server on the socket, or it went away under the command."""


class PaneBusy(Busy):
    """A person is scrolling or the pane takes no input: not a byte was typed."""


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
    session: str
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


@dataclass(frozen=True)
class ClientInfo:
    """One attached terminal. `activity`: Unix seconds of the person's last key, not moved by what we type. `control`:
    a program reads this client, no person. `prefix`: the person has pressed the prefix key and is about to command."""

    activity: int
    pane_id: str
    control: bool
    readonly: bool
    prefix: bool
    width: int
    height: int


def escape_format(text: str) -> str:
    """`text` so that a tmux format shows it as it is: no `#(cmd)`, no `#{variable}`, no style."""
    return _clean(text).replace("#", "##")


class Server:
    """The tmux server on socket `name`. Making this object starts nothing; `grid` starts the server when there is none."""

    def __init__(self, name: str, conf: Path | None = None, env: Mapping[str, str] | None = None) -> None:
        self.name = _id(name)
        self.conf = conf or Path("/dev/null")
        self.env = _environment(env or {})
        self.socket = Path(f"/tmp/tmux-{os.getuid()}/{name}")  # TMUX_TMPDIR is not passed on, so tmux uses /tmp

    # --- the server ----------------------------------------------------------------------------------------------

    def run(self, *commands: Sequence[str], timeout_s: float = TIMEOUT_S) -> str:
        """Run tmux commands in order in one process (several when they are over 12 KB) and return what they print.
        The first failing one stops the rest. A literal `;` at the end of an argument stays literal."""
        out = ""
        deadline = time.monotonic() + timeout_s
        for batch in _batches(commands):
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
                out = self.run(*self._building(_id(session), panes, _id(window), width, height))
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
        self.run(["respawn-pane", "-k", "-t", _pane_id(pane_id), *self._start(pane)])

    def list_panes(self) -> list[PaneInfo]:
        """Every pane of the server. One process, 3 ms for 65 panes: cheap enough for once a second."""
        found = []
        for row in self._rows("list-panes -a", _PANE_FORMAT):
            dead, status, ended_by = row["pane_dead"] == "1", row["pane_dead_status"], row["pane_dead_signal"]
            known = int(status) if status else 128 + int(ended_by) if ended_by.isdigit() else None
            found.append(
                PaneInfo(
                    id=row["pane_id"],
                    window=row["window_id"],
                    window_name=row["window_name"],
                    session=row["session_name"],
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
                )
            )
            if dead and known is None:
                # tmux 3.3a misses some deaths right after a start and leaves a zombie; told again, it looks again.
                _tell_of_a_death(int(row["pid"]))
        return found

    def clients(self) -> list[ClientInfo]:
        """The terminals attached now; `activity` and `pane_id` together say where a person is working."""
        return [
            ClientInfo(
                activity=int(row["client_activity"] or 0),
                pane_id=row["pane_id"],
                control=row["client_control_mode"] == "1",
                readonly=row["client_readonly"] == "1",
                prefix=row["client_prefix"] == "1",
                width=int(row["client_width"] or 0),
                height=int(row["client_height"] or 0),
            )
            for row in self._rows("list-clients", _CLIENT_FORMAT)
        ]

    def set_options(self, values: Mapping[str, Mapping[str, str | None]]) -> None:
        """target -> {option: value}, in one chained call. A target is a pane `%1`, a window `@1` or a session's name;
        None unsets. Panes that are gone are left out. Pass text that is not ours through `escape_format` first."""
        groups = {target: _settings(target, options) for target, options in values.items()}
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
        return self.run(["capture-pane", "-p", *flags, "-t", _pane_id(pane_id)])

    def resize(self, window: str, width: int, height: int) -> None:
        """Give a window (`@id`) a fixed size and even tiles."""
        self.run(
            ["resize-window", "-t", _window_id(window), "-x", str(width), "-y", str(height)],
            ["select-layout", "-t", window, "tiled"],
        )

    def attach_argv(self, session: str, pane_id: str | None = None) -> list[str]:
        """The command a person's terminal runs to look at `session`, on `pane_id` when given. Works inside another
        tmux too."""
        words = ["env", "-u", "TMUX", "-u", "TMUX_TMPDIR", "tmux", "-L", self.name, "-f", str(self.conf)]
        if pane_id is not None:
            words += ["select-window", "-t", _pane_id(pane_id), ";", "select-pane", "-t", pane_id, ";"]
        return [*words, "attach-session", "-t", f"={_id(session)}"]

    # --- typing --------------------------------------------------------------------------------------------------

    def type_line(self, pane_id: str, text: str, lock: Path, gap_s: float = 0.2, before: Sequence[str] = ()) -> None:
        """Type one line and Enter into a pane, under the file lock that every sender to this pane takes.

        Control characters are taken out; over 300 characters or empty is BadInput. PaneBusy when the pane is in copy
        mode (send-keys would hang), dead or closed to input. `before` are keys pressed first (a program's own stash).
        `gap_s` between text and Enter: agent programs read both at once as a pasted line break (6 to 15 of 20 orders
        got stuck without a gap, none of 50 with 0.2 s). It says nothing of whether the program took the line.
        """
        line = _clean(text)
        if not line.strip() or len(line) > MAX_LINE:
            raise BadInput(f"a typed line has 1 to {MAX_LINE} characters, this one {len(line)}; send a letter instead")
        with locked(lock):  # text and Enter of 8 senders without it: 221 of 800 lines intact
            self._refuse_busy(pane_id)
            for key in before:
                self.run(["send-keys", "-t", pane_id, _key(key)])
            self.run(["send-keys", "-t", pane_id, "-l", "--", line])
            time.sleep(gap_s)
            self._refuse_busy(pane_id)
            self.run(["send-keys", "-t", pane_id, "Enter"])

    def press(self, pane_id: str, *keys: str, lock: Path) -> None:
        """Press named keys (Enter, Down, ...) in a pane, refusing as `type_line` does. Never C-c, C-u or Escape: they
        kill sessions and eat a person's draft."""
        named = [_key(key) for key in keys]
        with locked(lock):
            self._refuse_busy(pane_id)
            self.run(["send-keys", "-t", pane_id, *named])

    def _refuse_busy(self, pane_id: str) -> None:
        state = self.run(
            [
                "display-message",
                "-p",
                "-t",
                _pane_id(pane_id),
                "#{pane_id}|#{pane_in_mode}|#{pane_dead}|#{pane_input_off}",
            ]
        ).strip()
        found, in_mode, dead, input_off = state.split(_SEPARATOR) if state.count(_SEPARATOR) == 3 else ("", "", "", "")
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
        chain = [] if there is not None else [["start-server"], *_defaults(f"{width}x{height}")]
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
        names = fields.split()
        out = self.run([*command.split(), "-F", _SEPARATOR.join(f"#{{{name}}}" for name in names)])
        lines = [line for line in out.split("\n") if line.count(_SEPARATOR) >= len(names) - 1]
        return [dict(zip(names, line.split(_SEPARATOR, len(names) - 1), strict=True)) for line in lines]

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
            raise kind(f"tmux {words[0]}: {_clean(said)[:300]}")
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


def _defaults(size: str) -> list[list[str]]:
    """Options of our server, set before its first pane: history and terminal are fixed when a pane is made."""
    has_own_entry = any(
        (Path(folder) / "t/tmux-256color").exists()
        for folder in ("/etc/terminfo", "/lib/terminfo", "/usr/share/terminfo", "/usr/lib/terminfo")
    )
    server = {
        "default-terminal": "tmux-256color" if has_own_entry else "screen-256color",
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


def _settings(target: str, options: Mapping[str, str | None]) -> list[list[str]]:
    if target.startswith("%"):
        scope = ["-p", "-t", _pane_id(target)]
    elif target.startswith("@"):
        scope = ["-w", "-t", _window_id(target)]
    else:
        scope = ["-t", f"={_id(target)}:"]
    commands = []
    for name, value in options.items():
        if not re.fullmatch(r"@?[a-z][a-z0-9_-]*", name):
            raise BadInput(f"{name!r} is not a tmux option")
        if value is not None and ("#(" in value.replace("##", "") or value != _clean(value)):
            raise BadInput(f"{value!r} would be run by tmux; pass it through escape_format")
        commands.append(
            ["set-option", *scope, name, value] if value is not None else ["set-option", "-u", *scope, name]
        )
    return commands


def _batches(commands: Sequence[Sequence[str]]) -> list[list[Sequence[str]]]:
    batches: list[list[Sequence[str]]] = [[]]
    size = 0
    for command in commands:
        length = sum(len(os.fsencode(word)) + 2 for word in command) + 2
        if batches[-1] and size + length > MAX_COMMAND_BYTES:
            batches.append([])
            size = 0
        batches[-1].append(command)
        size += length
    return [batch for batch in batches if batch]


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
    _id(pane.title)
    if not pane.argv:
        raise BadInput(f"pane {pane.title} has no command")
    if not pane.cwd.is_dir():
        raise BadInput(f"pane {pane.title}: folder {pane.cwd} does not exist")
    for name, value in pane.env.items():
        if not re.fullmatch(r"[A-Za-z_][A-Za-z0-9_]*", name) or "\0" in value:
            raise BadInput(f"pane {pane.title}: {name!r} is not a variable")


def _id(text: str) -> str:
    if not _ID.fullmatch(text):
        raise BadInput(f"{text!r} cannot be a tmux name: letters, digits, - and _ only")
    return text


def _pane_id(text: str) -> str:
    if not re.fullmatch(r"%\d+", text):
        raise BadInput(f"{text!r} is not a pane id like %3")
    return text


def _window_id(text: str) -> str:
    if not re.fullmatch(r"@\d+", text):
        raise BadInput(f"{text!r} is not a window id like @3")
    return text


def _key(text: str) -> str:
    if not re.fullmatch(r"[A-Za-z0-9-]+", text) or text.lower() in ("c-c", "c-u", "c-d", "c-z", "escape", "c-["):
        raise BadInput(f"{text!r} is not a key that may be pressed in a pane")
    return text


def _clean(text: str) -> str:
    """Without control characters, line separators and lone surrogates: nothing that ends a line or starts an escape."""
    return "".join(letter for letter in text if unicodedata.category(letter) not in ("Cc", "Cs", "Zl", "Zp"))


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
