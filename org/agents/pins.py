"""The versions of other people's agent programs that this version of org was tested with. The one place that names them."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Pin:
    """A program of the npm registry. Both move weekly: another version may work, or meet a dialog nobody has seen."""

    program: str
    package: str
    version: str

    @property
    def spec(self) -> str:
        return f"{self.package}@{self.version}"

    @property
    def missing(self) -> str:
        """What to say where it is not installed."""
        return f"{self.program} is not installed; install it with `npm install -g {self.spec}`"


CLAUDE = Pin("claude", "@anthropic-ai/claude-code", "2.1.329")
CODEX = Pin("codex", "@openai/codex", "0.169.0")
PINS = (CLAUDE, CODEX)
