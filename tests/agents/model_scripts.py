"""What a stand-in model answers, as data, and the scripts in prompts that say it: `[[bash: COMMAND]]` and the like.

    [[bash: COMMAND]]      one call of the shell tool that the request offers
    [[tool: NAME {json}]]  one call of any tool
    [[say: TEXT]]          text, with the next call or as the end of the turn
    [[slow: SECONDS]]      the next answer is streamed over so long
    [[stall: SECONDS]]     the next answer's headers come at once, and nothing else for so long
    [[err: CODE x3 after 2]]  this status instead of the next answer, three times (no number: always), `retry-after: 2`
    [[cut: x1]]            the connection ends in the middle of the next answer
    [[tokens: N]]          every answer of this script says that the request had N tokens

Steps are done in order, one call an answer; which one is due follows from the calls in the conversation alone, so that any
number of agents can share one port. COMMAND and TEXT cannot contain `]]`.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import Any

from agents.model_dialogue import POLL, Request

STEP = re.compile(r"\[\[(bash|tool|say|slow|stall|err|cut|tokens):\s*(.*?)\s*\]\]", re.DOTALL)
ERROR = re.compile(r"([45]\d\d)(?:\s+x(\d+))?(?:\s+after\s+([\d.]+))?")
MOST_CALLS = 80  # in one turn: a stand-in that goes round in circles ends there
MOST_POLLS = 10
WAIT_MS = 30_000  # how long Codex waits for a command at a time
DONE = "Done."


@dataclass(frozen=True)
class Call:
    name: str
    arguments: dict[str, Any]


@dataclass(frozen=True)
class Fault:
    """What comes in place of an answer: an HTTP error, or (0) a connection that ends halfway. times: None is always."""

    status: int
    times: int | None = None
    retry_after_s: float | None = None


@dataclass(frozen=True)
class Reply:
    """One answer of the model: text, calls, or both."""

    text: str = ""
    calls: tuple[Call, ...] = ()
    slow_s: float = 0.0
    stall_s: float = 0.0
    input_tokens: int | None = None
    faults: tuple[Fault, ...] = field(default=())


Policy = Callable[[Request], Reply]


def shell(request: Request, command: str, text: str = "") -> Reply:
    """The call that runs `command`; a sentence where no tool could."""
    if request.shell is None:
        return Reply(text or "I have no tool that runs commands.")
    name, argument = request.shell
    arguments: dict[str, Any] = {argument: command}
    if name == "Bash":
        arguments["description"] = command.split("\n")[0][:80]
    if name == "exec_command" and any(tool.name == POLL for tool in request.tools):
        arguments["yield_time_ms"] = WAIT_MS
    return Reply(text, (Call(name, arguments),))


def poll(request: Request) -> Reply | None:
    """Codex hands a long command back while it runs: its output is waited for, not for ever."""
    polled = sum(piece.who == "call" and piece.name == POLL for piece in request.turn[-2 * MOST_POLLS :])
    if request.running is None or polled >= MOST_POLLS:
        return None
    return Reply(calls=(Call(POLL, {"session_id": request.running, "chars": "", "yield_time_ms": WAIT_MS}),))


def scripted(request: Request) -> Reply | None:
    """The next step of the scripts that this turn's texts contain; None when there is none."""
    return follow(request, (piece.text for piece in request.turn if piece.who == "user"))


def follow(request: Request, texts: Iterable[str]) -> Reply | None:
    """The next step of the scripts in `texts`, which stand one behind the other; None without one."""
    steps = [(found[1], found[2]) for text in texts for found in STEP.finditer(text)]
    if not steps:
        return None
    done = sum(piece.who == "call" for piece in request.turn)
    if done >= MOST_CALLS:
        return Reply("That is enough for one turn.")
    said: list[str] = []
    slow_s = stall_s = 0.0
    tokens: int | None = None
    faults: list[Fault] = []
    for kind, rest in steps:
        if kind == "tokens":
            tokens = int(_number(rest)) if _number(rest) is not None else None
            continue
        if kind in ("bash", "tool"):
            if done == 0:
                call = _call(request, kind, rest)
                calls = (call,) if call else ()
                text = " ".join(said) or ("" if call else f"I cannot call {rest[:80]!r}.")
                return Reply(text, calls, slow_s, stall_s, tokens, tuple(faults))
            done -= 1
            said, faults, slow_s, stall_s = [], [], 0.0, 0.0
        elif kind == "say":
            said.append(rest)
        elif kind == "slow":
            slow_s += _number(rest) or 0.0
        elif kind == "stall":
            stall_s += _number(rest) or 0.0
        elif kind == "cut":
            times = _number(rest.lstrip("x"))
            faults.append(Fault(0, int(times) if times is not None else None))
        elif found := ERROR.match(rest):
            times_, after = found[2], found[3]
            faults.append(Fault(int(found[1]), int(times_) if times_ else None, float(after) if after else None))
    return Reply(" ".join(said) or DONE, (), slow_s, stall_s, tokens, tuple(faults))


def _call(request: Request, kind: str, rest: str) -> Call | None:
    if kind == "bash":
        reply = shell(request, rest)
        return reply.calls[0] if reply.calls else None
    name, _, arguments = rest.partition(" ")
    try:
        given = json.loads(arguments or "{}")
    except ValueError:
        return None
    return Call(name, given) if isinstance(given, dict) else None


def _number(text: str) -> float | None:
    try:
        return float(text)
    except ValueError:
        return None
