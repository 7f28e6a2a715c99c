"""What a conversation has used, and how full its context is: counted here, shown in the pane, written to the seat's usage."""

from __future__ import annotations

from dataclasses import replace

from org import files
from org.agents import usage
from org.agents.models import Model
from org.agents.prices import Tokens
from org.agents.talk import Talk
from org.agents.usage import Usage
from org.home import Home

FULL = 0.8  # of the context: the seat hands over
CHARACTERS = 3.5  # a token's, where no service has counted yet; on the careful side


class Meter:
    """Counts one conversation of a seat after the other."""

    def __init__(self, home: Home, seat: str, talk: Talk, model: Model) -> None:
        self.home, self.seat, self.talk, self.model = home, seat, talk, model
        self.used = self._fresh()
        self._grown = 0.0  # tokens, about, that were added since the service last counted
        for old in usage.of_seat(home, seat):
            if old.session == self.used.session:
                self.used = replace(old, model=model.name, context_limit=model.terms.context)

    def begin(self) -> None:
        """The talk is a fresh one."""
        self.used, self._grown = self._fresh(), 0.0

    def count(self, tokens: Tokens) -> None:
        """What one question took, an interrupted one too."""
        cost = self.model.terms.cost(tokens)
        known = self.used.cost_usd
        self.used = replace(
            self.used,
            input_tokens=self.used.input_tokens + tokens.input,
            cached_tokens=self.used.cached_tokens + tokens.cached,
            output_tokens=self.used.output_tokens + tokens.output,
            cost_usd=None if cost is None or known is None else known + cost,
        )
        self.write()

    def answered(self, tokens: Tokens) -> None:
        self.used = replace(self.used, context_tokens=tokens.input + tokens.output)
        self._grown = 0.0
        self.write()

    def grew(self, characters: int) -> None:
        self._grown += characters / CHARACTERS

    def write(self) -> None:
        self.used = replace(self.used, t=files.utc_now())
        try:
            usage.write(self.home, self.seat, self.used)
        except OSError:
            pass  # a full disk must not end the researcher

    @property
    def context_used(self) -> float:
        return (self.used.context_tokens + self._grown) / max(self.used.context_limit, 1)

    @property
    def is_full(self) -> bool:
        return self.context_used >= FULL

    def line(self) -> str:
        """All of it in a line for a person; the seat's other conversations count in its tokens and dollars."""
        total = usage.total([*self._others(), self.used]) or self.used
        cached = f" ({_short(total.cached_tokens)} cached)" if total.cached_tokens else ""
        cost = "cost unknown" if total.cost_usd is None else f"${total.cost_usd:.2f}"
        return (
            f"{self.model.name} · {_short(total.input_tokens)} in{cached}, {_short(total.output_tokens)} out · {cost} · "
            f"context {100 * self.context_used:.0f} % of {_short(self.used.context_limit)}"
        )

    def _others(self) -> list[Usage]:
        if getattr(self, "_kept", ("", None))[0] != self.used.session:
            kept = [old for old in usage.of_seat(self.home, self.seat) if old.session != self.used.session]
            self._kept: tuple[str, list[Usage]] = (self.used.session, kept)
        return self._kept[1]

    def _fresh(self) -> Usage:
        return Usage(
            f"api-{self.talk.name}",
            self.model.name,
            cost_usd=0.0,
            context_limit=self.model.terms.context,
            t=files.utc_now(),
        )


def _short(count: int) -> str:
    return str(count) if count < 1000 else f"{count / 1000:.1f}k" if count < 1_000_000 else f"{count / 1e6:.2f}M"
