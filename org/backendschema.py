"""Validation of the description of a program that sits in a pane. Imported when one of them changed; needs pydantic."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import BaseModel, Field, field_validator, model_validator

from org import expressions, strictyaml
from org.errors import BadInput, did_you_mean
from org.home import check_id
from org.records import PERSON
from org.validation import validated

# What the org puts into its command lines and environment, and besides into its files.
IN_WORDS = ("role_file", "first_prompt", "worktree", "session", "config", "seat", "model", "hook")
IN_FILES = (*IN_WORDS, "role")
PUT_IN = re.compile(r"\{([a-z_]+)\}")
# What is the person's: $NAME, ${NAME} or ${NAME:-what stands for it where it is not set}; `$$` is a dollar sign.
PERSONS = re.compile(r"\$(?:\$|\{([A-Z_][A-Z0-9_]*)(?::-([^{}]*))?\}|([A-Z_][A-Z0-9_]*))")
ENV_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")
# A key of tmux's that puts a draft aside. Those that submit, clear, interrupt or end are never sent.
KEY = re.compile(r"(?:[CMS]-)?(?:[!-~]|F[0-9]{1,2}|Tab|BTab|Home|End|Up|Down|Left|Right)")
NO_KEYS = frozenset({"C-c", "C-d", "C-z", "C-m", "C-j", "C-[", "C-u", "C-w", "C-k", "C-\\"})
BUILT_IN = ("offline", "claude", "codex", "cmd", "anthropic", "openai", "api", PERSON, "none")


def _words(argv: list[str]) -> list[str]:
    """A command line: its program by name or whole path, {names} that are known, nothing that ends a text."""
    if not argv:
        raise ValueError("names no program; write [PROGRAM, ARGUMENT, …]")
    if not argv[0].strip() or PUT_IN.search(argv[0]) or ("/" in argv[0] and not argv[0].startswith("/")):
        raise ValueError(f"'{argv[0]:.60}' is no program; name it as on the PATH, or by its whole path")
    for word in argv:
        _known(word, IN_WORDS)
    return argv


def _known(text: str, allowed: tuple[str, ...]) -> None:
    if re.search(r"[\x00-\x08\x0b-\x1f\x7f]", text):
        raise ValueError(f"{text!r:.60} holds a control character")
    for found in PUT_IN.finditer(text):
        if found[1] not in allowed:
            known = " ".join(f"{{{name}}}" for name in allowed) or "nothing"
            raise ValueError(f"nothing is put in for {found[0]:.40}{did_you_mean(found[1], allowed)}; known: {known}")


def _expression(pattern: str) -> str:
    """A regular expression that says something."""
    try:
        is_empty = len(pattern) > 300 or re.search(pattern, "") is not None
        is_endless = expressions.is_nested(pattern)
    except (re.error, OverflowError, RecursionError) as error:
        raise ValueError(f"{pattern!r:.60} is no regular expression: {error}") from None
    if is_empty:
        raise ValueError(f"{pattern!r:.60} is found in an empty line; name what stands there, in 300 characters")
    if is_endless:
        raise ValueError(
            f"{pattern!r:.60} has a repeat or a choice inside a repeat: one line may make it endless; write it plainly"
        )
    return pattern


def _inside(path: str) -> str:
    """A path, or a pattern of paths, below the program's own configuration folder."""
    if not path.strip() or path.startswith("/") or ".." in Path(path).parts or Path(path) == Path() or path[-1] == "/":
        raise ValueError(f"'{path:.60}' must be a path inside the program's own folder, such as settings.json")
    _known(path, ())
    return path


def _apart(paths: list[str]) -> None:
    """Each path is a file of its own: none is the folder that another lies in."""
    for path in paths:
        if below := next((other for other in paths if Path(path) in Path(other).parents), None):
            raise ValueError(f"'{path:.60}' cannot be a file, since '{below:.60}' lies below it")


class StashModel(BaseModel, extra="forbid"):
    """Keys that put a half-typed line aside, what the screen shows then, and the cursor's column in an empty box."""

    keys: list[str] = Field(min_length=1, max_length=4)
    mark: str
    column: Annotated[int, Field(ge=0, le=200, strict=True)]

    @field_validator("keys")
    @classmethod
    def _keys(cls, keys: list[str]) -> list[str]:
        for key in keys:
            if not KEY.fullmatch(key) or key in NO_KEYS:
                raise ValueError(f"{key!r:.20} is no key that puts a draft aside; write it as tmux does, as in C-s")
        return keys

    @field_validator("mark")
    @classmethod
    def _says_something(cls, pattern: str) -> str:
        return _expression(pattern)


class DoorbellModel(BaseModel, extra="forbid"):
    kind: Literal["typed", "command"] = "typed"
    gap_s: Annotated[float, Field(ge=0, le=5)] = 0.3
    stash: StashModel | None = None
    argv: list[str] = []

    @model_validator(mode="after")
    def _one_kind(self) -> DoorbellModel:
        if self.kind == "typed" and self.argv:
            raise ValueError("argv belongs to a doorbell of the kind `command`")
        if self.kind == "command":
            if self.stash:
                raise ValueError("stash belongs to a doorbell of the kind `typed`")
            _words([word.replace("{line}", "") if place else word for place, word in enumerate(self.argv)])
            if not any("{line}" in word for word in self.argv):
                raise ValueError("argv must hold {line}, the line that is handed over")
        return self


class ResumeModel(BaseModel, extra="forbid"):
    argv: list[str]
    when: str | None = None

    @field_validator("argv")
    @classmethod
    def _a_command(cls, argv: list[str]) -> list[str]:
        return _words(argv)

    @field_validator("when")
    @classmethod
    def _a_pattern(cls, when: str | None) -> str | None:
        if when is not None:
            try:
                any(Path("/nowhere").glob(_inside(when)))
            except (RuntimeError, IndexError, re.error) as error:
                raise ValueError(f"'{when:.60}' is no pattern of paths: {error}") from None
        return when


class ScreensModel(BaseModel, extra="forbid"):
    """Regular expressions, looked for line by line."""

    asking: list[str] = Field(default=[], max_length=20)
    limited: list[str] = Field(default=[], max_length=20)
    working: list[str] = Field(default=[], max_length=20)
    ready: list[str] = Field(default=[], max_length=20)
    lines: Annotated[int, Field(ge=1, le=60, strict=True)] = 60  # so many of the last ones are looked at

    @field_validator("asking", "limited", "working", "ready")
    @classmethod
    def _expressions(cls, patterns: list[str]) -> list[str]:
        return [_expression(pattern) for pattern in patterns]


class BackendModel(BaseModel, extra="forbid"):
    about: str = ""
    argv: list[str]
    resume: ResumeModel | None = None
    model: str | None = Field(None, pattern=r"^[A-Za-z0-9][A-Za-z0-9._/@:\[\]-]{0,99}$")
    env: dict[str, str] = {}
    pass_on: list[str] = []
    files: dict[str, str] = {}
    seeds: dict[str, str] = {}
    screens: ScreensModel = ScreensModel()
    doorbell: DoorbellModel = DoorbellModel()
    readiness: Literal["alive", "event", "screen"] = "alive"
    ready_s: Annotated[float, Field(ge=1, le=600)] | None = None
    install: str = ""
    version: list[str] | None = None
    tested: str | None = None

    @field_validator("argv", "version")
    @classmethod
    def _a_command(cls, argv: list[str] | None) -> list[str] | None:
        return argv if argv is None else _words(argv)

    @field_validator("version")
    @classmethod
    def _as_it_stands(cls, argv: list[str] | None) -> list[str] | None:
        for word in argv or ():
            _known(word, ())
        return argv

    @field_validator("about", "install", "tested")
    @classmethod
    def _a_line(cls, text: str | None) -> str | None:
        if text and (len(text) > 300 or "\n" in text.strip()):
            raise ValueError("must be one line of at most 300 characters")
        _known(text or "", ())
        return text

    @field_validator("pass_on")
    @classmethod
    def _names(cls, names: list[str]) -> list[str]:
        for name in names:
            if not ENV_NAME.fullmatch(name):
                raise ValueError(f"{name!r:.40} is no name of an environment variable")
        return names

    @model_validator(mode="after")
    def _consistent(self) -> BackendModel:
        for name, value in self.env.items():
            if not ENV_NAME.fullmatch(name) or name.startswith("ORG_") or name == "PATH":
                raise ValueError(f"env: {name!r:.40} is not a program's to have; ORG_… and PATH are set by the org")
            _known(value, IN_WORDS)
        for path, text in (*self.files.items(), *self.seeds.items()):
            _inside(path)
            _known(text, IN_FILES)
        _apart([*self.files, *self.seeds])
        for where, texts in (("env", self.env), ("files", self.files), ("seeds", self.seeds)):
            used = {found[1] or found[3] for text in texts.values() for found in PERSONS.finditer(text)} - {None}
            if lost := sorted(used - set(self.pass_on)):
                raise ValueError(
                    f"{where}: ${lost[0]:.40} is the person's; list it under pass_on, or write $$ for a dollar"
                )
        if self.readiness == "screen" and not (self.screens.ready or self.screens.working):
            raise ValueError("readiness: screen needs a pattern under screens: ready or working")
        if self.resume and not self.resume.when and self.readiness != "event":
            raise ValueError(
                "resume: give `when`, a file in the program's own folder that is there once there is a session"
            )
        return self


def backend(path: Path) -> dict[str, Any]:
    """The description of a program as plain dictionaries, defaults filled in. Raises BadInput."""
    name = check_id(path.stem, f"{path}: the name of a program")
    if name in BUILT_IN:
        raise BadInput(f"{path}: '{name}' is a program that is built in; give the file another name")
    return validated(BackendModel, strictyaml.read(path), str(path))
