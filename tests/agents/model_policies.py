"""What a stand-in model does where no script tells it: policies, each a function of the request alone.

quiet      one sentence, no tool
obey       reads its mail when the doorbell rings and does what scripts in the letters say
competent  a chief or a junior, by the seat's role, who carries an organisation
sloppy     the same chief; a junior with two changes at once, no predictions and wrong numbers, who polls
cheating   the same chief; a junior who tries its way round the rules
"""

from __future__ import annotations

from agents.model_chief import Chief
from agents.model_dialogue import Request
from agents.model_juniors import Cheating, Junior, Sloppy
from agents.model_scripts import MOST_CALLS, Policy, Reply, follow
from agents.model_view import BELL, STEERED

INBOX = "[[bash: org inbox]]"


def quiet(request: Request) -> Reply:
    words = " ".join(request.users[-1].split())[:60] if request.users else "nothing"
    return Reply(f"I heard: {words}")


def obey(request: Request) -> Reply:
    turn = request.turn
    if sum(piece.who == "call" for piece in turn) >= MOST_CALLS:
        return Reply("That is enough for one turn.")
    texts = []
    for piece in turn:
        said = piece.text
        if piece.who == "result":
            said, _, steered = said.partition(STEERED)
            texts += [said, *([steered if "[[" in steered else INBOX] if steered else [])]
        elif piece.who == "user":
            texts.append(INBOX if BELL.search(said) and "[[" not in said else said)
    return follow(request, texts) or quiet(request)


def competent(request: Request) -> Reply:
    return (Chief if is_chief(request) else Junior)(request).answer()


def sloppy(request: Request) -> Reply:
    return (Chief if is_chief(request) else Sloppy)(request).answer()


def cheating(request: Request) -> Reply:
    return (Chief if is_chief(request) else Cheating)(request).answer()


def is_chief(request: Request) -> bool:
    return (request.role or "").startswith("chief")


POLICIES: dict[str, Policy] = {
    "quiet": quiet,
    "obey": obey,
    "competent": competent,
    "sloppy": sloppy,
    "cheating": cheating,
}


def policy(words: str) -> Policy:
    """`competent`, or with exceptions by seat: `competent,j3=sloppy,j4=cheating`. Raises KeyError for an unknown one."""
    first, *rest = words.split(",")
    by_seat = {seat: POLICIES[name] for seat, _, name in (part.partition("=") for part in rest)}
    common = POLICIES[first]
    return (lambda request: by_seat.get(request.seat or "", common)(request)) if by_seat else common
