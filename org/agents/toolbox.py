"""The tools of a model in a seat: what there is to call, reading and editing, and the words of the org's verbs.

Nothing here decides what is allowed (`limits`), and nothing raises: what goes wrong is said in the result. The org's verbs
are turned into arguments only; the brain runs them like its own.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from org import files
from org.agents.models import Tool
from org.agents.shell import SHELL_MOST_S, SHELL_S, Result, middle_cut
from org.errors import BadInput

READ_LINES = 400
MOST_FILE = 2_000_000  # bytes of a file that is read or edited


def _tool(name: str, description: str, needed: tuple[str, ...] = (), **fields: str) -> Tool:
    """`fields`: name="type: what it is"."""
    properties = {}
    for field, text in fields.items():
        kind, _, what = text.partition(": ")
        properties[field] = {"type": kind, "description": what}
    return Tool(name, description, {"type": "object", "properties": properties, "required": list(needed)})


TOOLS = (
    _tool(
        "shell",
        f"Run a command with bash in your worktree. It is ended after timeout_s (default {SHELL_S}, at most "
        f"{SHELL_MOST_S}) with all that it started; of a long output the middle is left out. Not for waiting: verdicts "
        "come as letters.",
        ("command",),
        command="string: the command line",
        timeout_s="number: seconds",
    ),
    _tool(
        "read",
        f"Read a text file of your worktree, lines numbered; {READ_LINES} lines unless told otherwise.",
        ("path",),
        path="string: relative to the worktree",
        start="integer: first line, from 1",
        lines="integer: how many",
    ),
    _tool(
        "edit",
        "Replace a piece of text in a file of your worktree. `old` must stand there exactly once; with `old` empty a new "
        "file is made.",
        ("path", "old", "new"),
        path="string: relative to the worktree",
        old="string: the exact text, without line numbers",
        new="string: what stands there afterwards",
    ),
    _tool(
        "org_run",
        "File what stands in your worktree as an experiment. Returns when it is filed or refused; the verdict comes as a "
        "letter.",
        ("why", "expect"),
        why="string: why this change is made, in one sentence",
        expect="number: the predicted change of the metric, as in -0.002",
        claim="string: better (default), or no-worse:AXIS",
        idea="string: the idea it tests, as in I0007",
        cites="array: touched intents",
        dry="boolean: show the contract and every violation, run nothing",
    ),
    _tool(
        "org_inbox",
        "Your letters. New ones also reach you by themselves.",
        letter="string: one letter's id, to see it whole",
    ),
    _tool(
        "org_send",
        "Write a letter to a seat, a role, all, council or human.",
        ("to", "text"),
        to="string: to whom",
        text="string: the letter",
        kind="string: task, report, question, review or note",
        about="string: an experiment or an idea",
        reply_to="string: the id of the letter that this answers",
    ),
    _tool(
        "org_results",
        "Every experiment with its verdict.",
        kept="boolean: only what was kept",
        predictions="boolean: how good predictions were",
    ),
    _tool("org_idea", "Write an idea down for the organisation; without text: list them.", text="string: the idea"),
    _tool(
        "org_wiki",
        "Add a page to the wiki, or find pages.",
        text="string: a page to add",
        find="string: words to look for",
    ),
    _tool("org_brief", "What you need to begin or go on, on one page."),
)
BY_NAME = {tool.name: tool for tool in TOOLS}
KINDS: dict[str, tuple[type, ...]] = {
    "string": (str,), "number": (int, float), "integer": (int,), "boolean": (bool,), "array": (list,),
}  # fmt: skip


def misfit(name: str, given: dict[str, Any] | None) -> str | None:
    """Why this is no call of a tool of ours, in a sentence for the model."""
    tool = BY_NAME.get(name)
    if tool is None:
        return f"there is no tool {name:.40}; there are {', '.join(BY_NAME)}"
    if given is None:
        return "the input was no JSON object, or was cut off: call it again, with less at once"
    fields = tool.parameters["properties"]
    for field in tool.parameters["required"]:
        if given.get(field) is None:
            return f"{name} needs {field}: {fields[field]['description']}"
    for field, value in given.items():
        if field not in fields:
            return f"{name} has no {field:.40}; it has {', '.join(fields) or 'no input'}"
        kind = fields[field]["type"]
        if value is not None and (
            not isinstance(value, KINDS[kind]) or (isinstance(value, bool) and kind != "boolean")
        ):
            return f"{name}: {field} is of type {kind}"
    return None


def org_args(name: str, given: Mapping[str, Any]) -> list[str]:
    """The words of the `org` command that an `org_…` tool stands for."""
    get = {key: value for key, value in given.items() if value not in (None, "", [])}
    if name == "org_run":
        args = ["run", "-m", get["why"], f"--expect={get['expect']}"]
        args += [f"--{key}={get[key]}" for key in ("claim", "idea") if key in get]
        args += [f"--cites={intent}" for intent in get.get("cites", ())]
        return [*args, "--dry"] if get.get("dry") else [*args, "--no-wait"]
    if name == "org_send":
        options = (("kind", "kind"), ("about", "about"), ("reply_to", "reply-to"))
        return ["send", *(f"--{o}={get[k]}" for k, o in options if k in get), "--", get["to"], get["text"]]
    if name == "org_inbox":
        return ["inbox", *(["--", get["letter"]] if "letter" in get else [])]
    if name == "org_results":
        return ["results", *(f"--{key}" for key in ("kept", "predictions") if get.get(key))]
    if name == "org_wiki":
        return [
            "wiki",
            *(["find", "--", *get["find"].split()] if "find" in get else ["--", get["text"]] if "text" in get else []),
        ]
    if name == "org_idea":
        return ["idea", *(["--", get["text"]] if "text" in get else [])]
    return [name.removeprefix("org_")]


# --- files -------------------------------------------------------------------------------------------------------


def read(worktree: Path, given: Mapping[str, Any]) -> Result:
    try:
        text = _text(_inside(worktree, given["path"]))
    except ValueError as error:
        return Result(str(error), True)
    lines = text.splitlines()
    start = max(1, given.get("start") or 1)
    end = min(len(lines), start - 1 + max(1, given.get("lines") or READ_LINES))
    shown = "\n".join(f"{number:5d}  {line}" for number, line in enumerate(lines[start - 1 : end], start))
    rest = f"\n[lines {start}-{end} of {len(lines)}]" if (start, end) != (1, len(lines)) else ""
    return Result(middle_cut(files.printable(shown)) + rest or "(empty)")


def edit(worktree: Path, given: Mapping[str, Any]) -> Result:
    try:
        path = _inside(worktree, given["path"])
        if not given["old"]:
            if path.exists():
                raise ValueError(f"{given['path']} exists: give the piece of it that you replace as `old`")
            files.replace(path, given["new"])
            return Result(f"made {given['path']}")
        text = _text(path)
        count = text.count(given["old"])
        if count != 1:
            what = "does not stand" if not count else f"stands {count} times"
            raise ValueError(
                f"`old` {what} in {given['path']}: {'read it again' if not count else 'give more of its surroundings'}"
            )
        mode = path.stat().st_mode
        files.replace(path, text.replace(given["old"], given["new"], 1).encode())
        path.chmod(mode & 0o777)
    except (ValueError, OSError) as error:
        return Result(str(error), True)
    line = text[: text.index(given["old"])].count("\n") + 1
    return Result(f"edited {given['path']} at line {line}")


def _inside(worktree: Path, name: str) -> Path:
    """Raises ValueError for what lies elsewhere, by a link too."""
    root = worktree.resolve()
    try:
        path = (root / name).resolve()
    except (OSError, RuntimeError) as error:  # a link to itself is the latter until Python 3.13
        raise ValueError(f"{name:.200} leads nowhere: {error}") from None
    if path == root or root not in path.parents:
        raise ValueError(f"{name:.200} is not in your worktree {root}")
    return path


def _text(path: Path) -> str:
    """Raises ValueError in words for the model."""
    try:
        return files.read_plain(path, MOST_FILE).decode()
    except UnicodeDecodeError:
        raise ValueError(f"{path.name} is no text") from None
    except (OSError, BadInput) as error:
        raise ValueError(f"cannot read it: {error}") from None
