"""`run`, `verify`, `stack`: file an experiment, follow it to its verdict. The gate decides; here it is only shown."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import click

from org.cli.verb import Call, as_json, pass_call, print_json, say, tell, verb
from org.errors import BadInput, Refused
from org.home import Home, check_experiment
from org.words import CONTROLS, GAINS

if TYPE_CHECKING:
    from org.records import Contract, Verdict

SHOWN = ("outcome", "tier", "claim", "effect", "se", "z", "n", "matched_on", "trust", "reasons")
AXES = f"{', '.join(GAINS[:-1])} or {GAINS[-1]}"


@verb(
    "run",
    'org run -m "warmdown over the last half: late steps are too large" --expect -0.04',
    'org run -m "delete the softcap" --claim no-worse:lines --dry',
    'org run -m "a third layer, at the FLOPs of two" --control flops',
    "org run --scratch -- python train.py --steps 5",
)
@click.option("-m", "--why", metavar="TEXT", help="Why this change is made, in one sentence.")
@click.option("--expect", type=float, metavar="X", help="The predicted change of the metric, as in -0.002.")
@click.option("--claim", default="better", metavar="CLAIM", help=f"better, or no-worse:AXIS where AXIS is {AXES}.")
@click.option("--idea", metavar="I0007", help="The idea it tests.")
@click.option("--cites", multiple=True, metavar="INTENT", help="A touched intent; may be given several times.")
@click.option(
    "--control",
    type=click.Choice(CONTROLS),
    help="The same change, its budget cut until both arms spend the same FLOPs. Can be verified; moves no head.",
)
@click.option("--scale", metavar="NAME", help="A scale of the charter; default: the one the search happens at.")
@click.option("--dry", is_flag=True, help="Show the contract and every violation; run nothing.")
@click.option("--no-wait", is_flag=True, help="Return when it is filed; the verdict comes as a letter.")
@click.option("--scratch", is_flag=True, help="Only try CMD (default: 5 steps), at most 60 s; counts for nothing.")
@click.argument("cmd", nargs=-1)
@as_json
@pass_call
def run(
    call: Call,
    why: str | None,
    expect: float | None,
    claim: str,
    idea: str | None,
    cites: tuple[str, ...],
    control: str | None,
    scale: str | None,
    dry: bool,
    no_wait: bool,
    scratch: bool,
    cmd: tuple[str, ...],
    is_json: bool,
) -> None:
    """File what stands in the seat's worktree as an experiment and follow it to its verdict. Leaving stops nothing."""
    if scratch:
        from org.cli import scratch as scratches

        scratches.scratch(call.home, call.seat(), cmd, is_json)
        return
    if cmd:
        raise click.UsageError(f"'{cmd[0]:.40}' is not expected; the reason is one text: org run -m \"why\"")
    if not why:
        raise click.UsageError('an experiment says why it is made: org run -m "why" [--expect X]')
    if expect is not None and not -1e9 < expect < 1e9:
        raise BadInput("--expect is the predicted change of the metric: a finite number such as -0.002")
    from org.lab import gate

    home, seat = call.home, call.seat()
    try:
        contract = gate.submit(home, seat, why, expect, claim, idea, cites, scale, dry=dry, control=control or "")
    except Refused as refusal:
        if is_json:
            rows = [violation.to_dict() for violation in refusal.violations]
            print_json({"experiment": None, "violations": rows, "verdict": None, "runs": []})
        else:
            for violation in refusal.violations:
                place = f"{violation.path or seat.name}{f':{violation.line}' if violation.line else ''}"
                say(f"{place}: [{violation.rule}] {violation.message}")
        raise
    if dry:
        _print_dry(contract, is_json)
        return
    follow_up(home, contract, is_json, no_wait)


@verb("verify", "org verify E0042")
@click.argument("experiment", metavar="E0042")
@click.option("--no-wait", is_flag=True, help="Return when it is filed.")
@as_json
@pass_call
def verify(call: Call, experiment: str, no_wait: bool, is_json: bool) -> None:
    """Measure a tentative win, or a no-worse claim that holds, again: alone, on fresh seeds and the hidden split."""
    from org.lab import stacks

    home = call.home
    contract = stacks.verify(home, check_experiment(experiment), call.who)
    follow_up(home, contract, is_json, no_wait)


@verb("stack", "org stack optimizer", "org stack main --no-wait --json")
@click.argument("program")
@click.option("--no-wait", is_flag=True, help="Return when it is filed, also with no office running.")
@as_json
@pass_call
def stack(call: Call, program: str, no_wait: bool, is_json: bool) -> None:
    """Verify the tentative wins of PROGRAM together, on its head. With an office running it returns at once; without one
    the re-tests that they owe come first."""
    from org.files import is_locked
    from org.lab import follow, record, stacks

    home = call.home
    record.check_program(home, program)
    is_alone = not no_wait and not is_locked(home.office_lock)
    if is_alone:
        follow.drive_owed(home, program, lambda line: None if is_json else say(line))
    contract = stacks.stack(home, program, call.who)
    left_out = {} if contract else stacks.left_out(home, program)
    verdict = None
    if contract and is_alone:
        verdict = follow.drive(home, contract.experiment, _listener(contract, is_json))
    branch, commit = f"program/{program}/main", record.program_head(home, program)[0]
    if is_json:
        row = document(home, contract, verdict) if contract else {"experiment": None, "verdict": None, "runs": []}
        members = list(contract.members) if contract else []
        row |= {"members": members, "left_out": left_out, "branch": branch, "commit": commit}
        print_json({"program": program, **row})
    elif contract is None:
        say(f"nothing to verify in {program}" + ("" if left_out else ": no tentative win that is not in its head"))
        for name, why in left_out.items():
            say(f"  {name} {why}")
    else:
        say(f"{contract.experiment} {contract.why}")
        say(
            f"{branch} at {commit[:7]}"
            + ("" if verdict else f"; `org results` shows {contract.experiment} when it is in")
        )


def follow_up(home: Home, contract: Contract, is_json: bool, no_wait: bool) -> None:
    """Print what was filed and follow it to the verdict; exit 5 when it ends without a number."""
    from org.lab import follow

    if not is_json:
        say(f"{contract.experiment} {contract.description}")
        for notice in contract.notices:
            say(f"  notice: {notice}")
        for demand in contract.demands:
            say(f"  to be shown: {demand}")
        if contract.owed_scales:
            say(f"  a win is stacked when it has carried to {' and '.join(contract.owed_scales)}; the org runs that")
    if no_wait:
        if is_json:
            print_json(document(home, contract, None))
        return
    try:
        verdict = follow.drive(home, contract.experiment, _listener(contract, is_json))
    except KeyboardInterrupt:
        tell(f"org: {contract.experiment} stays filed; the office, or the next `org run`, goes on with it")
        raise
    if is_json:
        print_json(document(home, contract, verdict))
    else:
        _print_verdict(home, contract, verdict)
    follow.require_number(verdict)


def document(home: Home, contract: Contract, verdict: Verdict | None) -> dict[str, Any]:
    """The `--json` of section 12."""
    from org.lab import ledger

    results = ledger.read(home).results
    own = [r for r in results.values() if r.experiment == contract.experiment]
    rows = [results[name] for name in verdict.runs if name in results] if verdict else own
    return {
        "experiment": contract.experiment,
        "violations": [],
        "verdict": verdict_row(verdict),
        "runs": [r.to_dict() for r in rows],
        **_told(contract),
    }


def _told(contract: Contract) -> dict[str, list[str]]:
    """What a person reads below the experiment's name."""
    return {name: list(getattr(contract, name)) for name in ("notices", "demands", "owed_scales")}


def verdict_row(verdict: Verdict | None) -> dict[str, Any] | None:
    if verdict is None:
        return None
    row = {name: getattr(verdict, name) for name in SHOWN}
    return {**row, "reasons": list(verdict.reasons)}


def _listener(contract: Contract, is_json: bool) -> Callable[[str], None]:
    """What happens to the lines of the work: the verdict's own sentence comes last, with its reasons."""
    return lambda line: None if is_json or line.startswith(f"{contract.experiment} ") else say(line)


def _print_dry(contract: Contract, is_json: bool) -> None:
    if is_json:
        none: dict[str, Any] = {"experiment": None, "violations": [], "verdict": None, "runs": []}
        print_json({**none, **_told(contract), "contract": contract.to_dict()})
        return
    from org.strictyaml import dump

    row = {
        k: v for k, v in contract.to_dict().items() if v not in (None, "", [], ()) and k not in ("experiment", "tree")
    }
    say(dump(_plain(row)).rstrip())
    say("nothing was filed")


def _plain(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _plain(inner) for key, inner in value.items()}
    return [_plain(inner) for inner in value] if isinstance(value, list | tuple) else value


def _print_verdict(home: Home, contract: Contract, verdict: Verdict) -> None:
    from org import charter
    from org.lab.dispatch import sentence

    line = sentence(verdict, contract, charter.load(home))
    say(line)
    for reason in verdict.reasons:
        if reason not in line:  # without an effect the first stands in the sentence
            say(f"  {reason}")
    say(f"  {home.experiment(contract.experiment)}")
