"""The terminal grid: one tmux server of the org's own, its pages of panes, and one line typed at a time.

The only module that calls tmux; what is said to it and read from it is worded in `world.tmuxwords`. The server has its
own socket, reads no configuration of the person's and starts from an allow-listed environment, or every pane would see
the launcher's API keys. Panes are named by `%id` only, which restart at %0 when the server does: keep them with
`pid()`. Only our own ids become tmux names, because tmux runs `#(cmd)` in a name. Nothing here decides when to type:
`type_text` refuses where a person is in copy mode, no more.
"""

from __future__ import annotations

import contextlib
import os
import re
import shlex
import shutil
import signal
import socket
import struct
import subprocess
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from org.errors import BadInput, Busy, MissingTool, OrgError
from org.world import process, tmuxwords
from org.world.tmuxpipe import Pipe, PipeLost, PipeRefused, PipeSilent
from org.world.tmuxwords import ClientInfo, Pane, PaneInfo

TIMEOUT_S = 10.0
PANES_PER_PAGE = 9  # 3x3; splitting stops at 5-6 panes without `tiled`, and more than 9 are too small to read
KILL_S = 3.0  # so long a server may take to end by itself
PROBE_S = 2.0  # so long a new connection may take
SILENT_S = 5.0  # so long a server that missed a deadline is not asked again
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
        self._pipe: Pipe | None = None
        self._silent_until = 0.0
        self._panes: tuple[str, list[tuple[int, PaneInfo]]] = ("", [])  # what was listed last, and as it was read

    # --- the server ----------------------------------------------------------------------------------------------

    def run(self, *commands: Sequence[str], timeout_s: float = TIMEOUT_S) -> str:
        """Run tmux commands in order in one process (several when they are over 12 KB) and return what they print.
        The first failing one stops the rest. A literal `;` at the end of an argument stays literal. A server that has just
        missed a deadline is not asked: who asks every second would wait for nothing else."""
        if self.is_silent:
            raise TmuxError(self._hangs())
        if self._pipe is not None and self._pipe.is_open and all(map(tmuxwords.is_sayable, commands)):
            return self._through(self._pipe, commands, timeout_s)
        out = ""
        deadline = time.monotonic() + timeout_s
        for batch in tmuxwords.batches(commands):
            words: list[str] = []
            for command in batch:
                words += [";"] if words else []
                words += [word[:-1] + "\\;" if word.endswith(";") else word for word in command]
            out += self._call(words, max(0.1, deadline - time.monotonic()))
        return out

    def connect(self) -> bool:
        """Let every later `run` of this object go through one lasting connection, 0.1 ms instead of a process of 3 ms,
        until it breaks; then processes serve again. False when there is none to be had. For one thread, and for whoever
        asks once a second: a client stays attached, to whatever session there is, since a person may rename ours."""
        if self._pipe is not None and self._pipe.is_open:
            return True
        if self.is_silent or self.listener() is None:
            return False
        argv = ["tmux", "-u", "-L", self.name, "-f", str(self.conf)]
        try:
            self._pipe = Pipe(argv, self.env, PROBE_S)
        except PipeSilent:
            self._fell_silent()
            return False
        except (PipeLost, FileNotFoundError):
            return False
        self._end_strays()
        return True

    def _end_strays(self) -> None:
        """End the connections of offices that were killed: one that got stuck keeps the server from ever ending. A person's
        own control client (`tmux -CC`) wants output and is let alone."""
        asked = "#{client_pid} #{client_control_mode} #{client_flags}"
        for line in self.run(["list-clients", "-F", asked]).splitlines():
            pid, is_control, flags = (*line.split(" ", 2), "", "")[:3]
            is_ours = is_control == "1" and {"no-output", "ignore-size"} <= set(flags.split(","))
            if is_ours and self._pipe is not None and int(pid) != self._pipe.pid:
                with contextlib.suppress(ProcessLookupError, PermissionError):
                    os.kill(int(pid), signal.SIGKILL)

    def disconnect(self) -> None:
        if self._pipe is not None:
            self._pipe.close()
            self._pipe = None

    def alive(self) -> bool:
        """Whether the server answers."""
        return self.pid() is not None

    def pid(self) -> int | None:
        """The server's process id; pane ids are only good under the same one."""
        try:
            return int(self.run(["display-message", "-p", "#{pid}"]))
        except (ServerLost, ValueError):  # ValueError: a server that is going down prints nothing
            return None

    def listener(self) -> int | None:
        """The process id behind the socket, whether it answers or hangs; None where a file without a server refuses."""
        with socket.socket(socket.AF_UNIX) as probe:
            probe.settimeout(1.0)
            try:
                probe.connect(str(self.socket))
                found = probe.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, struct.calcsize("3i"))
            except OSError:  # refused, missing, or its queue is full because the server hangs: silent all the same
                return None
        return int(struct.unpack("3i", found)[0]) or None

    @property
    def is_silent(self) -> bool:
        """Whether the server missed a deadline a moment ago."""
        return time.monotonic() < self._silent_until

    def kill(self, timeout_s: float = TIMEOUT_S) -> None:
        """End the server and every pane, one that hangs too, then wait until it is gone and its socket too: a `new-session`
        right behind `kill-server` fails one time in three. Without a server only a stale socket is removed."""
        self.disconnect()
        hangs, self._silent_until = self.is_silent, 0.0
        pid = self.listener()
        if pid is not None and not hangs:
            with contextlib.suppress(TmuxError):  # it went down before it could answer, or it hangs
                self.run(["kill-server"], timeout_s=min(KILL_S, timeout_s))
        has_ended = lambda: self.listener() is None and (pid is None or process.identity(pid) is None)
        if not _until(has_ended, 0.0 if hangs else min(KILL_S, timeout_s)) and pid is not None:
            with contextlib.suppress(ProcessLookupError):  # a client that takes no goodbye holds it up for ever
                os.kill(pid, signal.SIGKILL)
        if not _until(has_ended, timeout_s):
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
                building = self._building(tmuxwords.name(session), panes, tmuxwords.name(window), width, height)
                return self._run_unseen(building).split()
            except ServerLost:
                # A server on its way down took the command with it.
                if time.monotonic() > deadline:
                    raise
                _until(lambda: self.listener() is None, 0.2)

    def respawn(self, pane_id: str, argv: Sequence[str], env: Mapping[str, str], cwd: Path) -> None:
        """Start `argv` in an existing pane, killing what runs there. `env` is given again because tmux drops what the
        pane was started with: a seat would lose its CUDA_VISIBLE_DEVICES."""
        pane = Pane("respawn", argv, env, cwd)
        _check(pane)
        self._run_unseen([["respawn-pane", "-k", "-t", tmuxwords.pane_id(pane_id), *self._start(pane)]])

    def list_panes(self) -> list[PaneInfo]:
        """Every pane of the server. One process, 3 ms for 65 panes: cheap enough for once a second."""
        out = self._listed("list-panes -a", tmuxwords.PANE_FIELDS)
        if out != self._panes[0]:  # the same text once a second: reading it costs more than asking for it
            rows = tmuxwords.rows(out, tmuxwords.PANE_FIELDS)
            self._panes = out, [(int(row["pid"]), tmuxwords.pane_info(row)) for row in rows]
        for server, pane in self._panes[1]:
            if pane.dead and pane.dead_status is None:
                # tmux 3.3a misses some deaths right after a start and leaves a zombie; told again, it looks again.
                _tell_of_a_death(server)
        return [pane for _, pane in self._panes[1]]

    def clients(self) -> list[ClientInfo]:
        """The terminals attached now; `activity` and `pane_id` together say where a person is working."""
        out = self._listed("list-clients", tmuxwords.CLIENT_FIELDS)
        return [tmuxwords.client_info(row) for row in tmuxwords.rows(out, tmuxwords.CLIENT_FIELDS)]

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

    def type_text(self, pane_id: str, text: str, pid: int | None = None) -> None:
        """Type one line into a pane, without the Enter. Control characters are taken out; over 300 characters or empty is
        BadInput. PaneBusy, and not a byte typed, when the pane is in copy mode, dead or closed to input, or when another
        program than `pid` runs in it: the one that was looked at may have been started again. The caller holds the lock that every sender to this pane takes until it has pressed Enter: text and Enter of 8 senders without it
        left 221 of 800 lines intact. Says nothing of whether the program took the line.
        """
        line = tmuxwords.clean(text)
        if not line.strip() or len(line) > MAX_LINE:
            raise BadInput(f"a typed line has 1 to {MAX_LINE} characters, this one {len(line)}; send a letter instead")
        self._type(pane_id, ["send-keys", "-t", pane_id, "-l", "--", line], pid)

    def press(self, pane_id: str, *keys: str, pid: int | None = None) -> None:
        """Press named keys (Enter, Down, ...) in a pane, refusing as `type_text` does. Never C-c, C-u or Escape: they
        kill sessions and eat a person's draft."""
        self._type(pane_id, ["send-keys", "-t", pane_id, *map(tmuxwords.key, keys)], pid)

    def _type(self, pane_id: str, command: Sequence[str], pid: int | None) -> None:
        said = self.run(tmuxwords.if_open(pane_id, command, pid)).strip()
        if said == tmuxwords.BUSY:
            raise PaneBusy(
                f"pane {pane_id} is in copy mode, has ended, takes no input or runs another program; nothing was typed"
            )

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

    def _listed(self, command: str, fields: str) -> str:
        return self.run([*command.split(), "-F", tmuxwords.row_format(fields)])

    def _run_unseen(self, commands: Sequence[Sequence[str]]) -> str:
        """`run`, through a connection where one is to be had: everybody on the machine can read the words of a process, and
        the environment of a pane holds keys. The first pane of a server is started by words; give it none."""
        if self._pipe is None and not self.is_silent and self.listener() and all(map(tmuxwords.is_sayable, commands)):
            try:
                pipe = Pipe(["tmux", "-u", "-L", self.name, "-f", str(self.conf)], self.env, PROBE_S)
            except (PipeLost, FileNotFoundError):
                return self.run(*commands)  # no session yet, or it goes down
            with contextlib.closing(pipe):
                return self._through(pipe, commands, TIMEOUT_S)
        return self.run(*commands)

    def _through(self, pipe: Pipe, commands: Sequence[Sequence[str]], timeout_s: float) -> str:
        try:
            return pipe.run(commands, timeout_s)
        except PipeRefused as error:
            raise TmuxError(f"tmux {commands[0][0]}: {tmuxwords.clean(str(error))[:300]}") from None
        except PipeSilent:
            self._fell_silent()
            raise TmuxError(self._hangs()) from None
        except PipeLost as error:
            # not asked again by a process: what was to be typed may have been typed
            kind = ServerLost if self.listener() is None else TmuxError
            raise kind(f"tmux {commands[0][0]} on server {self.name}: {error}; it is asked again later") from None

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
            self._fell_silent()
            raise TmuxError(self._hangs()) from None
        if done.returncode:
            said = (done.stderr.decode(errors="replace").strip() or f"exit status {done.returncode}").splitlines()[0]
            kind = ServerLost if _LOST.search(said) else TmuxError
            raise kind(f"tmux {words[0]}: {tmuxwords.clean(said)[:300]}")
        return done.stdout.decode(errors="replace")

    def _fell_silent(self) -> None:
        self._silent_until = time.monotonic() + SILENT_S

    def _hangs(self) -> str:
        return f"tmux server {self.name} does not answer; wait, or end it with everything in it by `org stop`"


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


def _until(condition: Callable[[], bool], limit_s: float) -> bool:
    deadline = time.monotonic() + limit_s
    while not condition():
        if time.monotonic() > deadline:
            return False
        time.sleep(0.01)
    return True
