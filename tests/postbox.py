"""Reading a mailbox as a program would that keeps nothing: what dies with it is lost, which no verb of the org may do."""

from __future__ import annotations

from org.home import Home
from org.records import Letter
from org.team import mail


def take(home: Home, seat: str) -> list[Letter]:
    """Letters waiting for `seat`, oldest first, acknowledged: each is returned by one reader only."""
    return [letter for letter in mail.peek(home, seat, is_tidy=True) if mail.acknowledge(home, seat, letter.id)]
