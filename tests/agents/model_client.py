"""A terminal agent of a hundred lines: a line on stdin is a turn, the model of `--api` decides, a shell does it.

    python tests/agents/model_client.py --api messages|responses|chat --url http://127.0.0.1:PORT

What our tests drive the model server with where no real agent program is installed. Its tools are named as the programs
they stand for name theirs.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any, ClassVar

MOST_STEPS = 100
MAX_SHOWN = 30_000  # characters of a command's output


def schema(argument: str) -> dict[str, Any]:
    return {"type": "object", "properties": {argument: {"type": "string"}}, "required": [argument]}


class Messages:
    tool: ClassVar[Any] = {"name": "Bash", "description": "run a command", "input_schema": schema("command")}

    def __init__(self, url: str, system: str) -> None:
        import anthropic

        self.client = anthropic.Anthropic(base_url=url, api_key="stub", max_retries=4)
        self.system, self.history = system, []  # type: str, list[Any]

    def told(self, text: str) -> None:
        self.history.append({"role": "user", "content": text})

    def ask(self) -> tuple[str, list[tuple[str, str]]]:
        with self.client.messages.stream(
            model="stub-1", max_tokens=4096, system=self.system, messages=self.history, tools=[self.tool]
        ) as stream:
            reply = stream.get_final_message()
        self.history.append({"role": "assistant", "content": [block.model_dump() for block in reply.content]})
        text = " ".join(block.text for block in reply.content if block.type == "text")
        return text, [(block.id, str(block.input["command"])) for block in reply.content if block.type == "tool_use"]

    def done(self, results: Sequence[tuple[str, str]]) -> None:
        blocks = [{"type": "tool_result", "tool_use_id": name, "content": text} for name, text in results]
        self.history.append({"role": "user", "content": blocks})


class Responses:
    tool: ClassVar[Any] = {"type": "function", "name": "exec_command", "parameters": schema("cmd"), "strict": False}

    def __init__(self, url: str, system: str) -> None:
        import openai

        self.client = openai.OpenAI(base_url=f"{url}/v1", api_key="stub", max_retries=4)
        self.system, self.history = system, []  # type: str, list[Any]

    def told(self, text: str) -> None:
        self.history.append({"role": "user", "content": [{"type": "input_text", "text": text}]})

    def ask(self) -> tuple[str, list[tuple[str, str]]]:
        with self.client.responses.stream(
            model="stub-1", instructions=self.system, input=self.history, tools=[self.tool]
        ) as stream:
            reply = stream.get_final_response()
        calls = []
        for item in reply.output:
            if item.type == "function_call":
                row = {"type": item.type, "call_id": item.call_id, "name": item.name, "arguments": item.arguments}
                calls.append((item.call_id, str(json.loads(item.arguments)["cmd"])))
            else:
                row = item.model_dump()
            self.history.append(row)
        return reply.output_text, calls

    def done(self, results: Sequence[tuple[str, str]]) -> None:
        for name, text in results:
            output = f"Wall time: 0.1 seconds\nProcess exited with code 0\nOutput:\n{text}"  # as Codex puts it
            self.history.append({"type": "function_call_output", "call_id": name, "output": output})


class Chat:
    tool: ClassVar[Any] = {"type": "function", "function": {"name": "shell", "parameters": schema("command")}}

    def __init__(self, url: str, system: str) -> None:
        import openai

        self.client = openai.OpenAI(base_url=f"{url}/v1", api_key="stub", max_retries=4)
        self.history: list[Any] = [{"role": "system", "content": system}]

    def told(self, text: str) -> None:
        self.history.append({"role": "user", "content": text})

    def ask(self) -> tuple[str, list[tuple[str, str]]]:
        with self.client.chat.completions.stream(model="stub-1", messages=self.history, tools=[self.tool]) as stream:
            message = stream.get_final_completion().choices[0].message
        calls = message.tool_calls or []
        rows = [
            {"id": c.id, "type": "function", "function": {"name": c.function.name, "arguments": c.function.arguments}}
            for c in calls
        ]
        self.history.append({"role": "assistant", "content": message.content, **({"tool_calls": rows} if rows else {})})
        return message.content or "", [(c.id, str(json.loads(c.function.arguments)["command"])) for c in calls]

    def done(self, results: Sequence[tuple[str, str]]) -> None:
        self.history += [{"role": "tool", "tool_call_id": name, "content": text} for name, text in results]


APIS: dict[str, Any] = {"messages": Messages, "responses": Responses, "chat": Chat}


def turn(model: Any, line: str, say: Any = print) -> None:
    """One line to its end: what the model wants run is run."""
    model.told(line)
    for _ in range(MOST_STEPS):
        text, calls = model.ask()
        if text:
            say(f"* {text}")
        if not calls:
            return
        results = []
        for name, command in calls:
            say(f"$ {command}")
            done = subprocess.run(
                ["bash", "-c", command],
                check=False,
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
            )
            shown = done.stdout.decode(errors="replace")[:MAX_SHOWN]
            say("\n".join(f"  {row}" for row in shown.splitlines()))
            results.append((name, shown or f"exit code {done.returncode}"))
        model.done(results)
    say("* too many steps")


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--api", choices=sorted(APIS), default="messages")
    parser.add_argument("--url", required=True)
    options = parser.parse_args()
    role = Path(os.environ.get("ORG_ROLE", os.devnull)).read_text(encoding="utf-8")
    model = APIS[options.api](options.url, role)
    seat = os.environ.get("ORG_SEAT", "j1")
    turn(model, f"You are {seat}. Run `org brief`, then `org inbox`, and begin.")
    for line in sys.stdin:
        if line.strip():
            turn(model, line.strip())
    return 0


if __name__ == "__main__":
    sys.exit(main())
