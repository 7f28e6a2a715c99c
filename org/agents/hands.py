"""The hands of a seat's model: each call it makes is checked, run and shown, and its result told."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from org import files
from org.agents import limits, shell, toolbox
from org.agents.shell import Result
from org.agents.tools import Reply
from org.agents.work import Job

if TYPE_CHECKING:
    from org.agents.thinker import Thinker


class Hands:
    """One call at a time; commands and files in a thread, verbs of the org like the brain's own."""

    def __init__(self, brain: Thinker) -> None:
        self.brain = brain

    def run(self, call: dict[str, Any]) -> None:
        brain = self.brain
        name, given = call["name"], call["input"]
        brain.said = name
        shown = str((given or {}).get("command") or (given or {}).get("path") or (given or {}).get("why") or "")[:500]
        brain.say(f"$ {shown}" if name == "shell" else f"• {name} {shown}".rstrip(), "dim")
        brain.call = call
        wrong = toolbox.misfit(name, given)
        refused = None if wrong else limits.refusal(brain.home.root, brain.name, name, given)
        if wrong or refused:
            if refused:
                brain.events.note("denied", refused, tool=name)
            self.on_result(call, Result(f"refused: {refused}" if refused else str(wrong), True))
            return
        brain.events.note("tool", f"{name} {shown}"[:300])
        worktree = Path(brain.seat.worktree)
        if name == "shell":
            env = shell.shell_env(brain.environ, brain.home.root, brain.name)
            limit_s = given.get("timeout_s") or shell.SHELL_S
            brain.job = Job(
                "tool",
                lambda job: shell.shell(
                    given["command"], limit_s, cwd=worktree, env=env, is_cut=job.is_cut,
                    began=lambda pid: brain.talk.begin(call["id"], pid),
                ),
            )  # fmt: skip
        elif name in ("read", "edit"):
            do = toolbox.read if name == "read" else toolbox.edit
            brain.job = Job("tool", lambda job: do(worktree, given))
        else:
            words = [word.replace("\0", "").encode(errors="replace").decode() for word in toolbox.org_args(name, given)]
            brain.talk.begin(call["id"], 0)
            brain.calls.add(*words, done=lambda reply: self.on_reply(call, reply))

    def on_reply(self, call: dict[str, Any], reply: Reply) -> None:
        text = "\n".join(part for part in (reply.text.rstrip(), reply.error) if part) or "done"
        note = "" if reply.is_ok else f"\n[exit code {reply.code}]"
        self.on_result(call, Result(shell.middle_cut(files.printable(text)) + note, not reply.is_ok))

    def on_result(self, call: dict[str, Any], result: Result) -> None:
        brain = self.brain
        brain.call = None
        brain.talk.add("tool", result.text, id=call["id"], name=call["name"], is_error=result.is_error)
        brain.meter.grew(len(result.text))
        lines = result.text.split("\n")
        more = f" … ({len(lines)} lines)" if len(lines) > 4 else ""
        brain.say("\n".join(f"  {line[:300]}" for line in (*lines[:3], *lines[3:][-1:])) + more, "dim")
        if brain.is_halted:
            brain.is_halted = False
            brain.talk.settle(brain.why_stopped)
            brain.end_turn("idle", "stopped by the person at the pane")
