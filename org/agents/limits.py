"""What a seat's program may not touch: frozen paths, other seats' worktrees, the organisation's own files. One question,
`refusal`, asked before every tool call by our own brain and by the hook of other people's programs.

Standard library only, and nothing of `org`: a hook starts this file many times a day. It reads a command as a person at a
glance would; it is no security boundary. What it misses, the gate and the referee find out.
"""

# Paths here are words of commands, taken apart as text.
# ruff: noqa: PTH111, PTH118, PTH119, PTH122, PTH206

from __future__ import annotations

import fnmatch
import json
import os
import re
import shlex
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

READING = ("read", "view", "glob", "grep", "ls", "list", "search", "fetch", "open")
WRITING = re.compile(r"edit|write|patch|create|delete|remove|move|rename|replace|insert", re.IGNORECASE)
PATH_KEYS = ("path", "file_path", "notebook_path", "filename", "file")
COMMAND_KEYS = ("command", "cmd", "script")
LONGEST = 131_072  # bytes of a command: Linux hands no longer word to a shell, and a hook's time is limited
PATCHED = re.compile(r"^\*\*\* (?:(?:Add|Update|Delete) File|Move to): (.+?)\s*$", re.MULTILINE)
HEREDOC = re.compile(r"<<-?[ \t]*(['\"]?)(\w+)\1([^\n]*)\n(.*?)(?:\n[ \t]*\2[ \t]*(?=\n|$)|\Z)", re.DOTALL)
BEFORE = re.compile(
    r"sudo|env|nohup|time|timeout|nice|command|exec|stdbuf|setsid|xargs|builtin|then|do|else|if|while|!"
)
SHELLS = frozenset({"sh", "bash", "zsh", "dash", "ash", "ksh"})
CODE = re.compile(r"(?:python|perl|ruby|node|php|lua)[\d.]*")
ALL_WRITTEN = re.compile(r"rm|rmdir|unlink|shred|truncate|touch|mkdir|chmod|chown|chgrp|tee|patch|mv")
LAST_WRITTEN = frozenset({"cp", "install", "rsync", "scp", "ln"})
TMUX_READS = frozenset({"capture-pane", "list-panes", "list-windows", "display-message", "ls", "-V"})
WRITES_IN_CODE = re.compile(
    r"write|unlink|os\.(?:remove|replace|rename|system|chmod)|\.rename\(|shutil|truncate|symlink|subprocess|"
    r"open\([^)]*,\s*(?:mode\s*=\s*)?['\"][rbt+]*[wax]"
)


def refusal(home: str | Path, seat: str, tool: str, input: Mapping[str, Any]) -> str | None:
    """Why this tool call of `seat` is not allowed, in one sentence that says what to do instead; None when it is.

    `tool` and `input` as the program names them: a command (text or a list of words), a file to edit, a patch. Never raises:
    what cannot be looked at is not let through.
    """
    try:
        return _refusal(home, seat, tool, input)
    except Exception as error:  # noqa: BLE001 - a model writes what is read here, and a hook that fails lets the call through
        return f"this call cannot be looked at ({type(error).__name__}): write its commands and paths plainly"


def _refusal(home: str | Path, seat: str, tool: str, input: Mapping[str, Any]) -> str | None:
    place = _Place(os.path.realpath(home), seat)
    for value in input.values():
        if isinstance(value, str) and "*** Begin Patch" in value:
            for name in PATCHED.findall(value):
                if said := place.written(place.resolved(name)):
                    return said
    for key in COMMAND_KEYS:
        value = input.get(key)
        text = shlex.join(map(str, value)) if isinstance(value, list | tuple) else value
        if not isinstance(text, str):
            continue
        if len(text) > LONGEST and "*** Begin Patch" not in text:
            return f"this command is longer than {LONGEST // 1024} KB, which no shell takes: write a file and run that"
        if said := _command(place, text):
            return said
    is_write = bool(WRITING.search(tool)) and not tool.lower().startswith(READING)
    for key in PATH_KEYS:
        if isinstance(input.get(key), str):
            path = place.resolved(input[key])
            said = place.written(path) if is_write else place.touched(path)
            if said:
                return said
    return None


class _Place:
    """The home as one seat may see it. `cwd` follows the `cd`s of a command."""

    def __init__(self, root: str, seat: str) -> None:
        self.root, self.seat = root, seat
        self.worktrees, self.comms = os.path.join(root, "worktrees"), os.path.join(root, "comms")
        self.own = os.path.join(self.worktrees, seat)
        self.cwd = self.own
        self.temporary = [os.path.realpath(p) for p in ("/tmp", "/var/tmp", os.environ.get("TMPDIR") or "/tmp")]
        self.temporary += ["/dev", os.path.expanduser("~/.cache")]
        try:
            charter = json.loads(Path(self.comms, "charter.json").read_text(encoding="utf-8"))["charter"]
            self.frozen = [str(glob) for glob in charter.get("frozen") or ()]
        except (OSError, ValueError, KeyError, TypeError, AttributeError):
            self.frozen = []  # never launched: nothing is frozen yet

    def resolved(self, word: str) -> str:
        word = re.sub(r"\$\{?ORG_HOME\}?", lambda m: self.root, word)
        word = re.sub(r"\$\{?PWD\}?", lambda m: self.cwd, word)
        word = re.sub(r"\$\{?HOME\}?", "~", word)
        return os.path.realpath(os.path.join(self.cwd, os.path.expanduser(word)))

    def touched(self, path: str) -> str | None:
        """Why not even to look there."""
        if _inside(path, self.worktrees) and not _inside(path, self.own) and path != self.worktrees:
            return f"{self._name(path)} belongs to another seat: stay in your worktree; `org results` shows what others did"
        inside = os.path.relpath(path, self.comms) if _inside(path, self.comms) else ""
        parts = inside.split(os.sep)
        if parts[0] in ("referee", "record.git", "leases") or (parts[0] == "seats" and parts[-1] == "key"):
            return f"{self._name(path)} is the organisation's own and closed to seats: ask with the `org` command"
        if parts[0] == "mail" and len(parts) > 1 and parts[1] != self.seat:
            return f"{self._name(path)} is somebody else's mail: yours comes with `org inbox`"
        return None

    def written(self, path: str) -> str | None:
        """Why not to change what lies there."""
        if said := self.touched(path):
            return said
        if _inside(path, self.own):
            inside = os.path.relpath(path, self.own)
            if self.is_frozen(inside):
                return f"{inside} is frozen: experiments change editable files only, and the gate puts frozen ones back"
            if inside.split(os.sep)[0] == ".git":
                return f"{inside} ties this worktree to the organisation's repository: leave it as it is"
            return None
        if _inside(path, self.root):
            return f"{self._name(path)} is the organisation's own: it is written by the `org` command only"
        if any(_inside(path, folder) for folder in self.temporary):
            return None
        return f"{path[:200]} is outside your worktree: write inside it, or under /tmp"

    def is_frozen(self, inside: str) -> bool:
        """Also a folder that holds a frozen file, and a pattern that may match one."""
        for glob in self.frozen:
            if _globbed(glob).fullmatch(inside) or glob.startswith(inside + "/") or inside == ".":
                return True
            if _is_shell_match(inside, glob):
                return True
        return False

    def _name(self, path: str) -> str:
        return os.path.relpath(path, self.root)[:200]


def _inside(path: str, folder: str) -> bool:
    return path == folder or path.startswith(folder.rstrip(os.sep) + os.sep)


def _is_shell_match(pattern: str, path: str) -> bool:
    """Whether a shell may put `path` in for a word. By fnmatch: it never tries one star against the next, so that a word of
    thirty stars takes no time."""
    parts, names = pattern.split("/"), path.split("/")
    return len(parts) == len(names) and all(map(fnmatch.fnmatchcase, names, parts))


def _globbed(glob: str) -> re.Pattern[str]:
    """`*` and `?` stay within one folder, `**` crosses folders, `folder/` is all below it."""
    parts = re.split(r"(\*\*/|\*\*|\*|\?)", glob + "**" if glob.endswith("/") else glob)
    known = {"**/": "(?:[^/]+/)*", "**": ".*", "*": "[^/]*", "?": "[^/]"}
    return re.compile("".join(known.get(part, re.escape(part)) for part in parts))


# --- commands ----------------------------------------------------------------------------------------------------


def _command(place: _Place, text: str, depth: int = 0) -> str | None:
    if depth > 4:
        return "this command hides another five times over: write it plainly"
    if "*** Begin Patch" in text:
        for name in PATCHED.findall(text):
            if said := place.written(place.resolved(name)):
                return said
    bodies = [match[4] for match in HEREDOC.finditer(text)]
    text = HEREDOC.sub(lambda match: f" {match[3]}\n", text)
    for words, targets in _simple(text):
        for inner in re.findall(r"\$\(([^()]*)\)|`([^`]*)`", " ".join(words)):
            if said := _command(place, inner[0] or inner[1], depth + 1):
                return said
        said = _words(place, words, bodies, depth)
        said = said or next((s for t in targets if (s := place.written(place.resolved(t)))), None)
        if said:
            return said
    return None


def _simple(text: str) -> Iterator[tuple[list[str], list[str]]]:
    """The simple commands in a line of shell: its words, and the files that its output is sent to."""
    lexer = shlex.shlex(text, posix=True, punctuation_chars=";&|<>()\n")
    lexer.whitespace, lexer.whitespace_split, lexer.commenters = " \t\r", True, ""
    try:
        tokens = list(lexer)
    except ValueError:  # an open quote: looked at word by word
        tokens = re.findall(r"[;&|<>()\n]+|[^\s;&|<>()'\"]+", text)
    words: list[str] = []
    targets: list[str] = []
    waiting = ""
    for token in [*tokens, ";"]:
        if token and not token.strip(";&|<>()\n"):
            if "<" in token or ">" in token:
                waiting = token
                if words and words[-1].isdigit():
                    words.pop()  # 2>file
                continue
            if words or targets:
                yield words, targets
            words, targets, waiting = [], [], ""
        elif waiting:
            if ">" in waiting and not (waiting.endswith("&") and (token.isdigit() or token == "-")):
                targets.append(token)
            elif ">" not in waiting:
                words.append(token)  # read from: looked at like any other word
            waiting = ""
        else:
            words.append(token)


def _words(place: _Place, words: list[str], bodies: list[str], depth: int) -> str | None:
    while words and (
        BEFORE.fullmatch(words[0]) or re.match(r"\w+=", words[0]) or words[0].startswith("-") or _is_number(words[0])
    ):
        name, is_set, value = words[0].partition("=")
        if is_set and name == "ORG_SEAT" and value != place.seat:
            return _posing(place, value)
        words = words[2 if words[0] in ("-u", "-k", "-s", "-n", "-I") else 1 :]
    if not words:
        return None
    name, args = os.path.basename(words[0]), words[1:]
    if name == "cd":
        place.cwd = place.resolved(args[0] if args else "~")
        return place.touched(place.cwd)
    if name == "export":
        return _words(place, [*args, "true"], bodies, depth)
    if name == "eval":
        return _command(place, " ".join(args), depth + 1)
    if name in SHELLS or CODE.fullmatch(name):
        for at, word in enumerate(args):
            if re.fullmatch(r"-[a-zA-Z]*[ce]", word) and at + 1 < len(args):
                bodies = [args[at + 1]]
                break
        look = _command if name in SHELLS else _code
        if said := next((s for body in bodies if (s := look(place, body, depth + 1))), None):
            return said
    if name == "tmux" and not TMUX_READS & set(args):
        return "the grid of panes is the organisation's: write to a seat with `org send`"
    if name == "org" or args[:2] == ["-m", "org"]:
        return _org(place, args[2:] if name != "org" else args)
    plain = [word for word in args if not word.startswith("-")]
    options = [word.split("=", 1)[1] for word in args if word.startswith("-") and "=" in word]
    for word in (*plain, *options):
        if (
            ("/" in word or word.startswith(".."))
            and len(word) < 1000
            and (said := place.touched(place.resolved(word)))
        ):
            return said
    return next((s for word in _written(name, args, plain) if (s := place.written(place.resolved(word)))), None)


def _written(name: str, args: list[str], plain: list[str]) -> list[str]:
    """The words of a command that name what it changes."""
    if ALL_WRITTEN.fullmatch(name):
        return plain[1:] if name in ("chmod", "chown", "chgrp") else plain
    if name in LAST_WRITTEN:
        return plain[-1:]
    if name == "dd":
        return [word[3:] for word in args if word.startswith("of=")]
    if name == "sed" and any(re.match(r"-[a-zA-Z]*i|--in-place", word) for word in args):
        return [word for word in plain if "/" in word or os.path.splitext(word)[1]]
    if name == "perl" and any(re.match(r"-[a-zA-Z]*i", word) for word in args):
        return plain[1:]
    if name == "git" and plain[:1] in (["rm"], ["mv"], ["clean"]):
        return plain[1:]
    if name == "find" and any(word in ("-delete", "-exec", "-execdir") for word in args):
        return plain[:1]
    return []


def _org(place: _Place, args: list[str]) -> str | None:
    for at, word in enumerate(args):
        if word.startswith("--seat"):
            seat = word.partition("=")[2] or (args[at + 1] if at + 1 < len(args) else "")
            return _posing(place, seat) if seat != place.seat else None
        if not word.startswith("-") and (at == 0 or args[at - 1] != "--home"):
            return None  # the verb: what follows is its own
    return None


def _posing(place: _Place, seat: str) -> str:
    return f"you are {place.seat} and not {seat[:40] or 'the person'}: act under your own name"


def _code(place: _Place, text: str, depth: int = 0) -> str | None:
    """A program in a command's words: it may neither pose as another seat nor write to a path that it names."""
    if "ORG_SEAT" in text and re.search(r"ORG_SEAT['\"\]\s,:=]+['\"]?(?!" + re.escape(place.seat) + r"\b)\w", text):
        return _posing(place, "another")
    is_writing = bool(WRITES_IN_CODE.search(text))
    for word in re.findall(r"[\w./~$*-]{3,400}", text):
        if "/" not in word and not (is_writing and "." in word):
            continue
        path = place.resolved(word)
        said = place.touched(path)
        if said is None and is_writing and _inside(path, place.root):
            said = place.written(path)
        if said:
            return said
    return None


def _is_number(word: str) -> bool:
    return bool(re.fullmatch(r"[\d.]+[smhd]?", word))
