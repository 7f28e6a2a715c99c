"""Programs that a person described in `prompts/backends/NAME.yaml`: started, resumed and rung by what stands there.

What may stand there says `backendschema.BackendModel`. It is checked once an edit, since what agents call all day must not import
pydantic. Knows no program by its name.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from org import files, strictyaml
from org.agents.base import (
    KNOWN,
    Backend,
    Start,
    Stash,
    first_prompt,
    last_session,
    own_session,
    pane_env,
    passed_on,
    role_file,
    role_text,
)
from org.agents.hook import command as hook_command
from org.errors import BadInput, MissingTool
from org.home import ID_PATTERN, Home
from org.records import Seat

SCHEMA = Path(__file__).parents[1] / "backendschema.py"
ORDER = ("asking", "limited", "working", "ready")  # of a screen's patterns: a dialog over a prompt is a dialog
# a {name} of ours, or what is the person's: both in one pass, so that nothing is put into what was put in
SPOT = re.compile(r"\{([a-z_]+)\}|\$(?:\$|\{([A-Z_][A-Z0-9_]*)(?::-([^{}]*))?\}|([A-Z_][A-Z0-9_]*))")


def names(home: Home) -> tuple[str, ...]:
    """The programs described in this home, sound or not; a built-in one's name is never taken."""
    found = sorted(path.stem for path in home.backends.glob("*.yaml"))
    return tuple(name for name in found if ID_PATTERN.fullmatch(name) and name not in KNOWN)


def description(home: Home, name: str) -> dict[str, Any]:
    """What the file says, defaults filled in. Raises BadInput with one line."""
    path = home.backend_file(name)
    try:
        text = files.read_plain(path, strictyaml.MAX_BYTES)
    except OSError as error:
        raise BadInput(f"{path} cannot be read: {error.strerror}") from None
    # with what checked it: another version of org may ask for what this copy does not say
    digest = hashlib.sha256(text + files.digest(SCHEMA).encode()).hexdigest()[:16]
    cached = files.read_json(home.backend_cache)
    cached = cached if isinstance(cached, dict) else {}
    row = cached.get(name)
    if isinstance(row, dict) and row.get("hash") == digest and isinstance(row.get("backend"), dict):
        return dict(row["backend"])
    from org import backendschema

    plain = backendschema.backend(path)
    if home.comms.is_dir():
        files.replace_json(home.backend_cache, {**cached, name: {"hash": digest, "backend": plain}})
    return plain


def backend(home: Home, spec: str) -> Backend:
    """The backend of `NAME` or `NAME=MODEL`. Raises BadInput for a description with a mistake."""
    name, _, model = spec.partition("=")
    told = description(home, name)
    _check_model(home.backend_file(name), told, model)
    bell, aside = told["doorbell"], told["doorbell"]["stash"]

    def plan(home: Home, seat: Seat, role_page: str | Path) -> Start:
        return _plan(home, seat, role_page, name, told, model)

    def hand_over(home: Home, seat: Seat, line: str) -> Start | None:
        return _hand_over(home, seat, name, told, model, line)

    return Backend(
        name,
        doorbell="typed",
        readiness=told["readiness"],
        ready_s=told["ready_s"],
        plan=plan,
        reports=told["readiness"] == "event",
        gap_s=bell["gap_s"],
        stash=Stash(tuple(aside["keys"]), aside["mark"], aside["column"]) if aside else None,
        queue=hand_over if bell["kind"] == "command" else None,
        screens=tuple((pattern, state) for state in ORDER for pattern in told["screens"][state]),
        screen_lines=told["screens"]["lines"],
        start_gap_s=0.5,
    )


def _check_model(path: Path, told: Mapping[str, Any], model: str) -> None:
    texts = [*told["argv"], *told["env"].values(), *told["files"].values(), *told["seeds"].values()]
    takes = any("{model}" in text for text in texts)
    if model and not takes:
        raise BadInput(f"{path} puts {{model}} nowhere, so '{path.stem}={model:.40}' would be ignored; leave it out")
    if takes and not (model or told["model"]):
        raise BadInput(f"{path} names no model; write `model: …` there, or --agents {path.stem}=MODEL")


# --- starting ----------------------------------------------------------------------------------------------------


def _plan(home: Home, seat: Seat, role_page: str | Path, name: str, told: dict[str, Any], model: str) -> Start:
    """Start, or go on with its session. Raises MissingTool when it, or what it needs of the environment, is not there."""
    page, role = role_file(home, seat), role_text(home, seat, role_page)
    config = home.seat_config(seat.name, name)
    session, is_resumed = _session(home, seat, config, told)
    values = _values(home, seat, name, told, model, session or own_session(home, seat))
    values |= {"role": role, "first_prompt": first_prompt(seat, is_resumed)}
    argv = told["resume"]["argv"] if is_resumed else told["argv"]
    where = str(home.backend_file(name))
    env = {key: _filled(text, values, where) for key, text in told["env"].items()}
    placed = {kind: _placed(config, told[kind], values, where) for kind in ("files", "seeds")}
    handed = _handed(told)
    return Start(
        [_program(argv[0], told), *(_filled(word, values) for word in argv[1:])],
        {**passed_on(), **handed, **pane_env(home, seat, page), **env},
        files={page: role, **placed["files"]},
        seeds=placed["seeds"],
        private=config,
        handed=handed,
    )


def _session(home: Home, seat: Seat, config: Path, told: Mapping[str, Any]) -> tuple[str | None, bool]:
    """The session that its events named last, and whether there is one to go on with."""
    session = seat.session or last_session(home, seat.name)
    resume = told["resume"]
    if resume is None:
        return session, False
    return session, any(config.glob(resume["when"])) if resume["when"] else session is not None


def _values(home: Home, seat: Seat, name: str, told: Mapping[str, Any], model: str, session: str) -> dict[str, str]:
    return {
        "role_file": str(role_file(home, seat)),
        "worktree": str(seat.worktree),
        "session": session,
        "config": str(home.seat_config(seat.name, name)),
        "seat": seat.name,
        "model": model or told["model"] or "",
        "hook": hook_command(),
    }


def _placed(config: Path, texts: Mapping[str, str], values: Mapping[str, str], where: str) -> dict[Path, str]:
    """Files with what belongs into them; in JSON and TOML a value is put in as the inside of a text in quotes."""
    found = {}
    for path, text in texts.items():
        quoted = Path(path).suffix in (".json", ".toml")
        found[config / path] = _filled(text, values, where, quoted)
    return found


def _filled(text: str, values: Mapping[str, str], where: str | None = None, is_quoted: bool = False) -> str:
    """The text with its {names} and, given `where`, with what is the person's. Raises MissingTool for what is not
    set: half a configuration would only fail later."""

    def put(found: re.Match[str]) -> str:
        if found[1]:
            value = values.get(found[1], found[0])
        elif where is None:
            return found[0]
        elif found[0] == "$$":
            return "$"
        else:
            variable = found[2] or found[4]
            given = os.environ.get(variable) or found[3]
            if given is None:
                raise MissingTool(f"{variable} is not set, and {where} needs it; export it, or write the value there")
            value = given
        return json.dumps(files.printable(value), ensure_ascii=False)[1:-1] if is_quoted else value

    return SPOT.sub(put, text)


def _handed(told: Mapping[str, Any]) -> dict[str, str]:
    """Those of the listed variables that are set here."""
    return {name: os.environ[name] for name in told["pass_on"] if os.environ.get(name)}


def _program(word: str, told: Mapping[str, Any]) -> str:
    found = shutil.which(word)
    if found is None:
        how = f"install it with `{told['install']}`" if told["install"] else "install it, or put it on the PATH"
        raise MissingTool(f"'{word:.60}' is not installed; {how}")
    return str(Path(found).absolute())


# --- ringing -----------------------------------------------------------------------------------------------------


def _hand_over(home: Home, seat: Seat, name: str, told: dict[str, Any], model: str, line: str) -> Start | None:
    """The command that hands the line over; None where its program is gone, or it needs a session that is not known yet."""
    words = told["doorbell"]["argv"]
    session = seat.session or last_session(home, seat.name)
    if any("{session}" in word for word in told["argv"]):
        session = session or own_session(home, seat)  # it was started with this one
    if session is None and any("{session}" in word for word in words):
        return None
    values = {**_values(home, seat, name, told, model, session or ""), "first_prompt": "", "line": line}
    where = str(home.backend_file(name))
    try:
        program = _program(words[0], told)
        env = {key: _filled(text, values, where) for key, text in told["env"].items()}
    except MissingTool:
        return None
    return Start([program, *(_filled(word, values) for word in words[1:])], {**passed_on(), **_handed(told), **env})
