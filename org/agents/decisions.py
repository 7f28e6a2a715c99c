"""What a chief decides, from histories alone: who works on what, when to verify, whom to move. Pure."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass

from org.agents.search import Trial

Programs = str | Sequence[str]  # one, or those that stand on one head and stack their wins together

STACK_OF = 4  # tentative keeps that are worth a stack at once
STACK_AFTER = 6  # verdicts since the first keep that waits, or two a seat, after which waiting longer buys nothing
STRONG = 6.0  # standard errors of a keep that nothing is gained by waiting with
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


def split(
    groups: Mapping[str, Sequence[str]],
    juniors: Sequence[str],
    worth: Mapping[str, float] | None = None,
    tied: Collection[tuple[str, str]] = (),
) -> list[Post]:
    """One post a junior: as many programs as there are groups and juniors for them, juniors in proportion to what is
    expected of their knobs, and within a program every knob with exactly one of its juniors (shared only when there are
    more juniors than knobs).

    worth: knob -> what is expected of it, 1 where nothing is said; tied: knobs whose changes are known to depend on each
    other, which go to one junior as long as every junior has something."""
    if not juniors:
        return []
    value = {name: (worth or {}).get(name, 1.0) for names in groups.values() for name in names}
    programs = _programs(groups, len(juniors), value)
    staff = _staff({slug: sum(value[n] for n in names) for slug, names in programs.items()}, len(juniors))
    posts, rest = [], list(juniors)
    for slug, names in programs.items():
        team, rest = rest[: staff[slug]], rest[staff[slug] :]
        hands = _dealt(names, len(team), value, tied)
        for rank, seat in enumerate(team):
            own = tuple(hands[rank]) or ((names[rank % len(names)],) if names else ())
            posts.append(Post(seat, slug, own))
    return sorted(posts, key=lambda post: juniors.index(post.seat))


def worth(
    names: Iterable[str], trials: Sequence[Trial], wanted: Collection[str] = (), asked: Collection[str] = ()
) -> dict[str, float]:
    """What is expected of each knob: a win or an idea about it (`wanted`) makes it worth more, what a person asks for
    (`asked`) most; turned again and again without a win it is worth half."""
    found = {}
    for name in names:
        judged = [
            t for t in trials if not t.is_open and not t.is_stack and any(n == name.lower() for n, _, _ in t.changes)
        ]
        value = 1.0 + (name in wanted) + 2.0 * (name in asked) + min(_wins(judged), 2)
        found[name] = value / 2 if len(judged) >= DRY_AFTER // 2 and not _wins(judged) else value
    return found


def waiting_keeps(program: Programs, trials: Sequence[Trial]) -> list[Trial]:
    """Tentative keeps of a program, or of several on one head, on that head, that no stack has taken yet; oldest first."""
    stacked = {member for trial in trials for member in trial.members}
    programs = _named(program)
    mine = [t for t in trials if t.program in programs]
    moves = [i for i, t in enumerate(mine) if t.is_stack and t.outcome == "win"]  # what came before was on another head
    since = mine[moves[-1] + 1 :] if moves else mine
    return [t for t in since if t.is_keep and not t.is_stack and t.experiment not in stacked]


def half_waits(program: Programs, trials: Sequence[Trial]) -> Trial | None:
    """The last stack of several wins that failed on the program's present head while neither of its halves, or one of the
    two, was tried; a half that failed is dropped. The gate deals the halves: it is only asked again."""
    programs = _named(program)
    stacks = [t for t in trials if t.is_stack and not t.is_open and t.outcome != "lost" and t.program in programs]
    moves = [i for i, t in enumerate(stacks) if t.outcome in ("win", "holds")]
    stacks = stacks[moves[-1] + 1 :] if moves else stacks
    for failed in reversed(stacks):
        halves = [t for t in stacks if set(t.members) < set(failed.members)]
        is_half = any(set(failed.members) < set(t.members) for t in stacks)
        if len(failed.members) > 1 and not is_half and len(halves) < 2:
            return failed
    return None


def unverified(program: Programs, trials: Sequence[Trial]) -> tuple[str, ...]:
    """What a program would have verified now: to be handed back as `declined` when the gate has nothing to verify."""
    failed = half_waits(program, trials)
    return (*(t.experiment for t in waiting_keeps(program, trials)), *(failed.members if failed else ()))


def stack_due(
    program: Programs, trials: Sequence[Trial], knobs: Collection[str], *, is_idle: bool, declined: Collection[str] = ()
) -> Decision | None:
    """Whether to verify the keeps of a program, or of several on one head, together now; the decision is about the program
    of the oldest. `is_idle`: nothing waits for a device. `declined`: the keeps that were waiting when the gate last had
    nothing to verify."""
    programs = _named(program)
    mine = [t for t in trials if t.program in programs]
    if any(t.is_stack and t.is_open for t in mine):
        return None  # one at a time: the next is measured against the head that this one may move
    if (failed := half_waits(program, trials)) is not None and not set(failed.members) <= set(declined):
        return Decision(failed.program, f"{failed.experiment} did not hold together; a half of it may hold alone")
    keeps = waiting_keeps(program, trials)
    names = [t.experiment for t in keeps]
    if not keeps or set(names) <= set(declined):
        return None
    listed, subject = ", ".join(names), keeps[0].program
    if len(keeps) >= STACK_OF:
        return Decision(subject, f"{len(keeps)} tentative wins wait ({listed}); together they are worth verifying now")
    strong = next((t for t in keeps if t.effect and t.se and abs(t.effect) >= STRONG * t.se), None)
    if strong is not None and strong.experiment not in declined:
        return Decision(strong.program, f"{strong.experiment} showed too much to wait ({listed} with it)")
    visited = {name for slug in programs for name in _visited(slug, trials)}
    has_stack = any(t.is_stack for t in mine)
    if knobs and not has_stack and all(name.lower() in visited for name in knobs):
        of = " and ".join(programs)
        return Decision(subject, f"every knob of {of} was moved once; what won ({listed}) can be verified")
    since = [t for t in mine[mine.index(keeps[0]) + 1 :] if not t.is_open]
    if len(since) >= max(STACK_AFTER, 2 * len({t.seat for t in mine if not t.is_stack})):
        return Decision(
            subject, f"{len(since)} verdicts came since {names[0]}; what won ({listed}) should not wait longer"
        )
    if is_idle:
        return Decision(subject, f"devices are free; they may as well verify {listed}")
    return None


def move_due(posts: Sequence[Post], trials: Sequence[Trial], moved_at: Mapping[str, int]) -> Decision | None:
    """Which junior leaves a program that has run dry, and for which other. `moved_at`: judged verdicts of a program when
    somebody last left it, so that its verdicts are not counted twice."""
    programs: dict[str, list[Post]] = {}
    for post in posts:
        programs.setdefault(post.program, []).append(post)
    for slug, team in programs.items():
        judged = _judged(slug, trials)
        if not is_dry(slug, trials) or len(judged) - moved_at.get(slug, -MOVE_AFTER) < MOVE_AFTER:
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
    visited = _visited(program, trials)
    fresh = [name for name in names if name.lower() not in visited]
    return Post(seat, program, tuple(fresh or names))


def handed_over(posts: Sequence[Post], seat: str, program: str, trials: Sequence[Trial]) -> list[Post]:
    """The posts that a move changes, the moved junior's first: who was there gives up what it takes, and keeps something,
    so that no two turn the same knob while there are enough."""
    taken = moved(posts, seat, program, trials)
    changed, kept = [], set()
    for post in posts:
        if post.program != program or post.seat == seat:
            continue
        rest = tuple(n for n in post.knobs if n not in taken.knobs) or post.knobs[: (len(post.knobs) + 1) // 2]
        kept |= set(rest)
        if rest != post.knobs:
            changed.append(Post(post.seat, program, rest))
    own = tuple(name for name in taken.knobs if name not in kept)
    return [Post(seat, program, own or taken.knobs), *changed]


def is_dry(program: str, trials: Sequence[Trial]) -> bool:
    """Whether the last verdicts of a program brought no win."""
    judged = _judged(program, trials)
    return len(judged) >= DRY_AFTER and not _wins(judged[-DRY_AFTER:])


def double_work(trials: Sequence[Trial]) -> list[Decision]:
    """Juniors of one program that turn the same knob at this moment: the one that came second, and why."""
    found: dict[tuple[str, str], Decision] = {}
    first: dict[tuple[str, str], Trial] = {}
    for trial in trials:
        if not trial.is_open or trial.is_stack or len(trial.changes) != 1:
            continue
        name = trial.changes[0][0]
        before = first.setdefault((trial.program, name), trial)
        if before.seat != trial.seat:
            why = f"{before.seat} turns {name} already ({before.experiment}), and {trial.experiment} turns it too"
            found[(trial.seat, trial.experiment)] = Decision(trial.seat, why, trial.program)
    return list(found.values())


def conflicts(trials: Sequence[Trial]) -> list[Decision]:
    """Tentative wins that cannot both be kept: two of one knob, or two that did not hold together in a stack."""
    found = []
    for program in dict.fromkeys(trial.program for trial in trials):
        keeps = waiting_keeps(program, trials)
        for at, one in enumerate(keeps):
            for other in keeps[at + 1 :]:
                both = {n for n, _, _ in one.changes} & {n for n, _, _ in other.changes}
                if both:
                    why = f"{one.experiment} and {other.experiment} both turned {', '.join(sorted(both))}"
                    found.append(Decision(f"{one.experiment} {other.experiment}", why, program))
    for trial in trials:
        if trial.is_stack and len(trial.members) == 2 and trial.outcome in ("null", "loss"):
            why = f"{trial.members[0]} and {trial.members[1]} did not hold together in {trial.experiment}"
            found.append(Decision(" ".join(trial.members), why, trial.program))
    return found


def tied(trials: Sequence[Trial]) -> list[tuple[str, str]]:
    """Pairs of knobs whose wins did not hold together."""
    turned = {trial.experiment: [name for name, _, _ in trial.changes] for trial in trials}
    return [
        (one, other)
        for trial in trials
        if trial.is_stack and len(trial.members) == 2 and trial.outcome in ("null", "loss")
        for one in turned.get(trial.members[0], ())
        for other in turned.get(trial.members[1], ())
        if one != other
    ]


# --- the parts ---------------------------------------------------------------------------------------------------


def _programs(groups: Mapping[str, Sequence[str]], juniors: int, value: Mapping[str, float]) -> dict[str, list[str]]:
    """The groups of which most is expected keep their names; those without a junior of their own join the smallest program."""
    order = sorted(groups, key=lambda slug: -sum(value[name] for name in groups[slug])) or ["main"]
    kept = [slug for slug in groups if slug in order[:juniors]] or ["main"]
    programs = {slug: list(groups.get(slug, ())) for slug in kept}
    for slug in order[juniors:]:
        programs[min(programs, key=lambda name: len(programs[name]))].extend(groups[slug])
    return programs


def _dealt(
    names: Sequence[str], hands: int, value: Mapping[str, float], tied: Collection[tuple[str, str]]
) -> list[list[str]]:
    """The knobs of a program dealt to so many juniors, the dearest first, each to who has least; tied ones together."""
    units = [[name] for name in names]
    for one, other in tied:
        pair = [next((u for u in units if any(n.lower() == k for n in u)), None) for k in (one.lower(), other.lower())]
        if pair[0] and pair[1] and pair[0] is not pair[1] and len(units) > hands:
            pair[0].extend(pair[1])
            units.remove(pair[1])
    dealt: list[list[str]] = [[] for _ in range(hands)]
    for unit in sorted(units, key=lambda unit: -sum(value[name] for name in unit)):
        min(dealt, key=lambda hand: (sum(value[name] for name in hand), len(hand))).extend(unit)
    return [sorted(hand, key=list(names).index) for hand in dealt]


def _staff(sizes: Mapping[str, float], juniors: int) -> dict[str, int]:
    """Juniors a program: one each, then one by one to where most is expected a junior."""
    staff = dict.fromkeys(sizes, 1)
    for _ in range(juniors - len(staff)):
        staff[max(sizes, key=lambda slug: sizes[slug] / staff[slug])] += 1
    return staff


def _named(program: Programs) -> tuple[str, ...]:
    return (program,) if isinstance(program, str) else tuple(program)


def _judged(program: str, trials: Sequence[Trial]) -> list[Trial]:
    return [t for t in trials if t.program == program and not t.is_open and not t.is_stack]


def _wins(trials: Sequence[Trial]) -> int:
    return sum(t.outcome in ("win", "holds") for t in trials)


def _visited(program: str, trials: Sequence[Trial]) -> set[str]:
    return {name for t in trials if t.program == program and not t.is_open for name, _, _ in t.changes}


def _promise(program: str, team: Sequence[Post], trials: Sequence[Trial]) -> int:
    """How much there is still to find: recent wins, and knobs that nobody has moved."""
    visited = _visited(program, trials)
    untested = {name for post in team for name in post.knobs if name.lower() not in visited}
    return 2 * _wins(_judged(program, trials)[-DRY_AFTER:]) + len(untested)
