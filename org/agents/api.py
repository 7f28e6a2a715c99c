"""`python -m org.agents.api`: a seat whose model is asked over a vendor's API (`anthropic:MODEL`, `openai:MODEL`), at a
terminal of our own. This file is its edge: how it is started, and from what.

The key and the base URL come from the environment (ANTHROPIC_API_KEY, ANTHROPIC_BASE_URL, OPENAI_API_KEY, OPENAI_BASE_URL)
and are written nowhere. Any server that speaks one of the APIs will do, a local one too.
"""

from __future__ import annotations

import importlib.util
import sys
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

from org.agents.base import Backend, Start, pane_env, passed_on, role_file, role_text
from org.errors import BadInput, MissingTool
from org.home import Home
from org.records import Seat

if TYPE_CHECKING:
    from org.agents.repl import Repl
    from org.agents.thinker import Thinker

KEYS = {"anthropic": ("ANTHROPIC_API_KEY", "ANTHROPIC_AUTH_TOKEN"), "openai": ("OPENAI_API_KEY",)}


def _plan(vendor: str) -> Callable[[Home, Seat, str | Path], Start]:
    def plan(home: Home, seat: Seat, role_page: str | Path) -> Start:
        """Raises MissingTool without the vendor's SDK, BadInput where nothing says whom to ask with what key."""
        if importlib.util.find_spec(vendor) is None:
            raise MissingTool(f"the {vendor} SDK is not installed; install it with `pip install {vendor}`")
        page = role_file(home, seat)
        own = passed_on(f"{vendor.upper()}_", f"ORG_{vendor.upper()}_", "ORG_API_")
        if not any(own.get(name) for name in (*KEYS[vendor], f"{vendor.upper()}_BASE_URL")):
            raise BadInput(
                f"{seat.backend:.60} needs {KEYS[vendor][0]} in the environment, or {vendor.upper()}_BASE_URL"
            )
        argv = [sys.executable, "-m", "org.agents.api"]
        return Start(argv, {**pane_env(home, seat, page), **own}, {page: role_text(home, seat, role_page)})

    return plan


BACKENDS = {
    name: Backend(name, doorbell="self", readiness="event", plan=_plan(name), counts="cost", start_gap_s=0.3)
    for name in KEYS
}


def main() -> int:
    from org.agents.brain import sit

    return sit(_brain)


def _brain(home: Home, seat_name: str, repl: Repl, environ: dict[str, str]) -> Thinker:
    from org.agents import prices
    from org.agents.models import Anthropic, Model
    from org.agents.openai_models import OpenAI
    from org.agents.thinker import Thinker
    from org.agents.tools import load_seat, org_argv

    seat = load_seat(home, seat_name)
    vendor, _, name = seat.backend.partition(":")
    if vendor not in KEYS or not name:
        raise BadInput(f"seat {seat.name} is for {seat.backend!r:.60}, which is no model of anthropic: or openai:")
    makers: dict[str, type[Model]] = {"anthropic": Anthropic, "openai": OpenAI}
    model = makers[vendor](name, prices.terms(home, name))
    return Thinker(home, seat.name, repl=repl, model=model, environ=environ, argv=org_argv(environ))


if __name__ == "__main__":
    sys.exit(main())
