"""What a chief decides, from histories alone: who works on what, when to verify, whom to move. Pure."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass

from org.agents.search import Trial

STACK_OF = 4  # tentative keeps that are worth a stack at once
STACK_AFTER = 6  # verdicts since the first keep that waits, after which waiting longer buys nothing
DRY_AFTER = 6  # verdicts of a program in a row without a win
MOVE_AFTER = 3  # verdicts between two moves out of one program


@dataclass(frozen=True)
class Post:
    """Where one junior works and which knobs are its own."""

    seat: str
    program: str
    knobs: tuple[str, ...]


@dataclass(frozen=True)
class Decision:
    """What to do about a program or a seat, and why, as a sentence."""

    subject: str
    why: str
    program: str = ""


def split(groups: Mapping[str, Sequence[str]], juniors: Sequence[str]) -> list[Post]:
    """One post a junior: as many programs as there are groups and juniors for them, juniors in proportion to knobs, and
    within a program every knob with exactly one of its juniors (shared only when there are more juniors than knobs)."""
    if not juniors:
        return []
    programs = _programs(groups, len(juniors))
    staff = _staff({slug: len(names) for slug, names in programs.items()}, len(juniors))
    posts, rest = [], list(juniors)
    for slug, names in programs.items():
        team, rest = rest[: staff[slug]], rest[staff[slug] :]
        for rank, seat in enumerate(team):
            own = tuple(names[rank :: len(team)]) or ((names[rank % len(names)],) if names else ())
            posts.append(Post(seat, slug, own))
    return sorted(posts, key=lambda post: juniors.index(post.seat))


def waiting_keeps(program: str, trials: Sequence[Trial]) -> list[Trial]:
    """Tentative keeps of a program, on its present head, that no stack has taken yet; oldest first."""
    stacked = {member for trial in trials for member in trial.members}
    mine = [t for t in trials if t.program == program]
    moves = [i for i, t in enumerate(mine) if t.is_stack and t.outcome == "win"]  # what came before was on another head
    since = mine[moves[-1] + 1 :] if moves else mine
    return [t for t in since if t.is_keep and not t.is_stack and t.experiment not in stacked]


def stack_due(
    program: str, trials: Sequence[Trial], knobs: Collection[str], *, is_idle: bool, declined: Collection[str] = ()
) -> Decision | None:
    """Whether to verify a program's keeps together now. `is_idle`: nothing waits for a device. `declined`: the keeps that
    were waiting when the gate last had nothing to verify."""
    keeps = waiting_keeps(program, trials)
    names = [t.experiment for t in keeps]
    if not keeps or set(names) <= set(declined):
        return None
    if any(t.is_stack and t.is_open and t.program == program for t in trials):
        return None  # one at a time: the next is measured against the head that this one may move
    listed = ", ".join(names)
    if len(keeps) >= STACK_OF:
        return Decision(program, f"{len(keeps)} tentative wins wait ({listed}); together they are worth verifying now")
    visited = _visited(program, trials)
    has_stack = any(t.is_stack and t.program == program for t in trials)
    if knobs and not has_stack and all(name.lower() in visited for name in knobs):
        return Decision(program, f"every knob of {program} was moved once; what won ({listed}) can be verified")
    since = [t for t in trials[trials.index(keeps[0]) + 1 :] if t.program == program and not t.is_open]
    if len(since) >= STACK_AFTER:
        return Decision(
            program, f"{len(since)} verdicts came since {names[0]}; what won ({listed}) should not wait longer"
        )
    if is_idle:
        return Decision(program, f"devices are free; they may as well verify {listed}")
    return None


def move_due(posts: Sequence[Post], trials: Sequence[Trial], moved_at: Mapping[str, int]) -> Decision | None:
    """Which junior leaves a program that has run dry, and for which other. `moved_at`: judged verdicts of a program when
    somebody last left it, so that its verdicts are not counted twice."""
    programs: dict[str, list[Post]] = {}
    for post in posts:
        programs.setdefault(post.program, []).append(post)
    for slug, team in programs.items():
        judged = _judged(slug, trials)
        if len(judged) < DRY_AFTER or len(judged) - moved_at.get(slug, -MOVE_AFTER) < MOVE_AFTER:
            continue
        if _wins(judged[-DRY_AFTER:]):
            continue
        targets = {other: _promise(other, programs[other], trials) for other in programs if other != slug}
        best = max(targets, key=lambda other: targets[other], default=None)
        if best is None or targets[best] <= _promise(slug, team, trials):
            continue
        why = f"the last {DRY_AFTER} verdicts of {slug} brought no win, and {best} has more to find"
        return Decision(team[-1].seat, why, program=best)
    return None


def moved(posts: Sequence[Post], seat: str, program: str, trials: Sequence[Trial]) -> Post:
    """The new post of a junior that joins `program`: the knobs there nobody has moved, or all of them."""
    names = list(dict.fromkeys(name for post in posts if post.program == program for name in post.knobs))
    fresh = [name for name in names if name.lower() not in _visited(program, trials)]
    return Post(seat, program, tuple(fresh or names))


# --- the parts ---------------------------------------------------------------------------------------------------


def _programs(groups: Mapping[str, Sequence[str]], juniors: int) -> dict[str, list[str]]:
    """The largest groups keep their names; those without a junior of their own join the smallest program."""
    order = sorted(groups, key=lambda slug: -len(groups[slug])) or ["main"]
    kept = [slug for slug in groups if slug in order[:juniors]] or ["main"]
    programs = {slug: list(groups.get(slug, ())) for slug in kept}
    for slug in order[juniors:]:
        programs[min(programs, key=lambda name: len(programs[name]))].extend(groups[slug])
    return programs


def _staff(sizes: Mapping[str, int], juniors: int) -> dict[str, int]:
    """Juniors a program: one each, then one by one to where there are most knobs a junior."""
    staff = dict.fromkeys(sizes, 1)
    for _ in range(juniors - len(staff)):
        staff[max(sizes, key=lambda slug: sizes[slug] / staff[slug])] += 1
    return staff


def _judged(program: str, trials: Sequence[Trial]) -> list[Trial]:
    return [t for t in trials if t.program == program and not t.is_open and not t.is_stack]


def _wins(trials: Sequence[Trial]) -> int:
    return sum(t.outcome in ("win", "holds") for t in trials)


def _visited(program: str, trials: Sequence[Trial]) -> set[str]:
    return {name for t in trials if t.program == program and not t.is_open for name, _, _ in t.changes}


def _promise(program: str, team: Sequence[Post], trials: Sequence[Trial]) -> int:
    """How much there is still to find: recent wins, and knobs that nobody has moved."""
    untested = {name for post in team for name in post.knobs if name.lower() not in _visited(program, trials)}
    return 2 * _wins(_judged(program, trials)[-DRY_AFTER:]) + len(untested)
