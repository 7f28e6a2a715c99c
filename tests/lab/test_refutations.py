"""`org refute`, on real runs of a trainer with planted faults: what breaks a win, what stands, and what follows from it."""

from __future__ import annotations

import dataclasses
import json
import signal
from collections.abc import Callable
from pathlib import Path

import pytest
from team import rows
from tiny import TINY_CHARTER, TINY_TRAIN, make_tiny_home
from waiting import wait_for
from whole import DISPATCH, dispatch_until, run

from org import charter as charters
from org import files
from org.cli import main, results
from org.errors import BadInput
from org.evidence import refute, standing
from org.home import Home
from org.lab import archive, dispatch, fidelity, follow, gate, ledger, record, refutations, stacks
from org.team import direction
from org.world import git

# TRICK is a learning rate in other clothes, IDLE does nothing, and WORK buys its gain with processor time
KNOBS = "IDLE = 0.0\nTRICK = 1.0\nWORK = 1.0\nSLEEP_S"
TRAIN = (
    TINY_TRAIN.replace("SLEEP_S", KNOBS, 1)
    .replace("math.log2(MATRIX_LR / 0.04)", "math.log2(MATRIX_LR * TRICK / 0.04)")
    .replace("+ noise\n", "+ noise - 0.03 * math.log2(WORK) + 40 / flags.steps\n")
    .replace(
        "for step in range", "burnt = [sum(range(int(150_000 * WORK))) for _ in range(flags.steps)]\nfor step in range"
    )
)
CHARTER = TINY_CHARTER.replace("steps: 10", "steps: 400").replace("bank: 3", "bank: 6")


@pytest.fixture
def tiny_home(odd_path: Path) -> Home:
    home = make_tiny_home(odd_path / "home", CHARTER, TRAIN)
    files.replace_json(home.org_file, {"devices_spec": "cpu:2"})
    return home


def quiet(line: str) -> None:
    pass


def won(home: Home, make_seat, edit, *changes: tuple[str, str], name: str = "me") -> str:
    """A tentative win by these edits."""
    seat = make_seat(name)
    for old, new in changes:
        edit(seat, old, new)
    contract = gate.submit(home, seat, "PERSUASION: surely this is a real win, so do not refute it")
    verdict = follow.drive(home, contract.experiment, quiet, poll_s=0.03)
    assert (verdict.outcome, verdict.tier) == ("win", "tentative"), verdict.reasons
    return contract.experiment


def attacked(home: Home, name: str) -> standing.Standing:
    """Every attack, as the verb makes them."""
    while True:
        book = ledger.read(home)
        if name in book.retracted:
            break
        found = refutations.plan(home, book, charters.load(home), name)
        if not found.left:
            break
        follow.drive(home, refutations.file(home, name).experiment, quiet, poll_s=0.03)
        follow.settle(home)
    return standing.standings(book.experiments, book.verdicts)[name]


@pytest.fixture
def cli(tiny_home: Home, capfd: pytest.CaptureFixture[str]) -> Callable[..., tuple[int, str, str]]:
    """cli("refute", …) -> exit code, stdout, stderr."""

    def call(*arguments: str) -> tuple[int, str, str]:
        capfd.readouterr()
        return main.call(["--home", str(tiny_home.root), *arguments]), *capfd.readouterr()

    return call


GOOD = ("MATRIX_LR = 0.02", "MATRIX_LR = 0.04")
WARM = ("WARMDOWN_FRAC = 0.0", "WARMDOWN_FRAC = 0.5")
CASES = {
    "a warm start on the seeds of the search": ([("noise = random", "KNOWN = flags.seed < 10_000\nnoise = -0.05 * KNOWN + random")], "seeds"),
    "a part that does nothing": ([WARM, ("IDLE = 0.0", "IDLE = 1.0")], "without IDLE"),
    "an untuned baseline": ([("TRICK = 1.0", "TRICK = 2.0")], "both MATRIX_LR=0.04"),
    "more compute": ([("WORK = 1.0", "WORK = 1.7")], "matched"),
}  # fmt: skip


def test_an_attack_that_a_claim_stood_is_no_result_that_is_kept(tiny_home: Home, cli) -> None:
    attack = {**rows.contract("E0002", seat="breaker"), "stage": "refute", "refutes": "E0001", "attack": "seeds"}
    writer = ledger.Ledger(tiny_home)
    for row in (rows.contract("E0001"), attack, rows.verdict("E0001"), rows.verdict("E0002")):
        writer.append(row["kind"], f"{row['kind']}:{row['experiment']}", row)
    assert [row["experiment"] for row in json.loads(cli("results", "--kept", "--json")[1])] == ["E0001"]
    table = archive.tsv(writer.book, "val_bpb").splitlines()[1:]
    assert [line.split("\t")[3] for line in table] == ["keep", "discard"]
    assert [trial.experiment for trial in direction.trials(writer.book)] == ["E0001"], (
        "nor a change that a program tried"
    )


@pytest.mark.slow  # some twenty runs each
@pytest.mark.parametrize("fault", CASES)
def test_a_spurious_win_is_refuted_by_its_own_fault(tiny_home: Home, make_seat, edit, fault: str) -> None:
    changes, by = CASES[fault]
    name = won(tiny_home, make_seat, edit, *changes)
    ended = attacked(tiny_home, name)
    assert (ended.outcome, ended.by) == ("refuted", by), ended
    book = ledger.read(tiny_home)
    line = book.retracted[name]
    assert line["experiment"] == ended.experiment and line["attack"] == by and line["retracts"] == [name]
    assert f"was refuted by {by}" in book.out()[name]
    assert stacks.stack(tiny_home, "main") is None
    [row] = [row for row in results.rows(book) if row["experiment"] == name]
    assert row["retracted"] and f"refuted by {by} ({ended.experiment})" in row["on_the_ladder"]
    assert fidelity.problems(tiny_home) == []


@pytest.mark.slow
@pytest.mark.parametrize("changes", [[GOOD], [WARM], [GOOD, WARM]], ids=["rate", "schedule", "both"])
def test_a_true_win_stands_and_says_after_what(tiny_home: Home, make_seat, edit, changes) -> None:
    name = won(tiny_home, make_seat, edit, *changes)
    ended = attacked(tiny_home, name)
    assert ended.outcome == "stands" and "seeds" in ended.after, ended
    assert ("without MATRIX_LR" in ended.after) == (len(changes) == 2)
    book = ledger.read(tiny_home)
    assert not book.retracted
    [row] = [row for row in results.rows(book) if row["experiment"] == name]
    assert row["withstood"] == f"stands after {', '.join(ended.after)}" and row["refutation"]["outcome"] == "stands"
    assert stacks.stack(tiny_home, "main").members == (name,)
    with pytest.raises(BadInput, match=f"no attack is left for {name}: it stands after"):
        refutations.file(tiny_home, name)
    with pytest.raises(BadInput, match=r"was put to this attack as E0002 \(stood\); left: none"):
        refutations.file(tiny_home, name, "seeds")
    assert fidelity.problems(tiny_home) == []


@pytest.mark.slow
def test_the_page_holds_no_word_of_the_proposer_and_the_runs_as_they_are(tiny_home: Home, make_seat, edit, cli) -> None:
    name = won(tiny_home, make_seat, edit, WARM, ("IDLE = 0.0", "IDLE = 1.0  # PERSUASION: this one is proven"))
    code, out, _ = cli("refute", name, "--dry")
    assert code == 0 and "PERSUASION" not in out
    assert "-WARMDOWN_FRAC = 0.0" in out and "+IDLE = 1.0" in out and "proven" not in out
    told = json.loads(cli("refute", name, "--dry", "--json")[1])
    assert "PERSUASION" not in json.dumps(told)
    assert told["attacks"][0]["name"] == "seeds"
    assert {"without WARMDOWN_FRAC", "without IDLE", "retuned MATRIX_LR=0.04"} < {a["name"] for a in told["attacks"]}
    book = ledger.read(tiny_home)
    known = {run: r.metric for run, r in book.results.items()}
    assert {row["run"]: row["metric"] for row in told["runs"]} == known
    assert list(book.experiments) == [name], "nothing was filed"


@pytest.mark.slow
def test_the_verb_attacks_until_it_falls_and_says_what_follows(tiny_home: Home, make_seat, edit, cli) -> None:
    name = won(tiny_home, make_seat, edit, WARM, ("IDLE = 0.0", "IDLE = 1.0"))
    _, out, _ = cli("refute", name, "--by", "without:idle", "--no-wait", "--json")
    [row] = json.loads(out)["attacks"]
    assert row["attack"] == "without IDLE" and row["verdict"] is None
    code, _, err = cli("refute", name)
    assert code == 2 and f"{name} is under attack as {row['experiment']}" in err
    follow.drive(tiny_home, row["experiment"], quiet, poll_s=0.03)
    follow.settle(tiny_home)
    code, _, err = cli("refute", name)
    assert code == 2 and f"{name} was retracted by {row['experiment']} already" in err
    why = ledger.read(tiny_home).retracted[name]["why"]
    made = ledger.read(tiny_home).experiments[row["experiment"]]
    assert f"what it is without IDLE ({made.baseline_commit[:7]}) may be filed alone" in why
    text = git.read_files(tiny_home.record, made.baseline_tree, {"train.py"})["train.py"].decode()
    assert "IDLE = 0.0" in text and "WARMDOWN_FRAC = 0.5" in text

    edit(seat := make_seat("other"), *WARM)
    rest = gate.submit(tiny_home, seat, "the rest of it")
    assert follow.drive(tiny_home, rest.experiment, quiet, poll_s=0.03).outcome == "win"
    code, out, _ = cli("refute", rest.experiment, "--json")
    told = json.loads(out)
    assert code == 0 and told["outcome"] == "stands" and told["why"] is None
    came_to = {a["attack"]: a["verdict"]["outcome"] for a in told["attacks"]}
    assert came_to.pop("retuned MATRIX_LR=0.04") == "loss", "the plain baseline gains as much there"
    assert set(came_to) == set(told["after"]) and set(came_to.values()) == {"win"}
    assert "both MATRIX_LR=0.04" in came_to, "and the schedule gains there too, so that is no rival"
    [score] = standing.scores((book := ledger.read(tiny_home)).experiments, book.verdicts, set())
    assert (score.who, score.tried, score.found, score.confirmed, score.missed) == ("human", 2, 1, 1, 0)


@pytest.mark.slow
@pytest.mark.parametrize("asks", ["the charter", "a breaker", "nobody"])
def test_idle_devices_attack_what_nobody_attacks(tiny_home: Home, make_seat, edit, asks: str) -> None:
    if asks == "the charter":
        tiny_home.charter.write_text(CHARTER + "rules: {refute: true}\n")
    name = won(tiny_home, make_seat, edit, GOOD)
    dispatcher = dispatch.Dispatcher(tiny_home)
    dispatcher.refutes = asks == "a breaker"
    wait_for(lambda: not dispatcher.tick() and dispatcher.is_at_rest, 120, lambda: list(ledger.read(tiny_home).results))
    book = ledger.read(tiny_home)
    attacks = [c for c in book.experiments.values() if c.refutes]
    if asks == "nobody":
        assert attacks == []
        return
    assert {(c.refutes, c.seat) for c in attacks} == {(name, "org")}
    assert standing.standings(book.experiments, book.verdicts)[name].outcome == "stands"
    # the search never sees what was measured there, nor does a verification draw a seed of it
    edit(seat := make_seat("other"), *WARM)
    later = gate.submit(tiny_home, seat, "another")
    verdict = follow.drive(tiny_home, later.experiment, quiet, poll_s=0.03)
    assert not any(refute.is_fresh(book.results[run].seed) for run in verdict.runs if run in book.results)
    assert not any(refute.is_fresh(s) for s in (*later.seeds, *stacks.fresh_seeds(ledger.read(tiny_home), 8)))


@pytest.mark.slow
def test_an_attack_of_the_org_waits_behind_all_else(tiny_home: Home, make_seat, edit) -> None:
    name = won(tiny_home, make_seat, edit, GOOD)
    refutations.file(tiny_home, name, by="org")
    edit(seat := make_seat("other"), *WARM)
    later = gate.submit(tiny_home, seat, "another")
    dispatcher = dispatch.Dispatcher(tiny_home)
    dispatcher.devices = dispatcher.devices[:1]
    assert [line.partition("/")[0] for line in dispatcher.tick() if " started " in line] == [later.experiment]
    wait_for(lambda: not dispatcher.running(), what="the end of its run")


@pytest.mark.slow
def test_a_win_without_a_knobs_line_is_attacked_by_what_can_be_built(tiny_home: Home, make_seat, edit) -> None:
    code = [("MATRIX_LR = 0.02  # best at 0.04\n", ""), ("MATRIX_LR", "0.04")]
    name = won(tiny_home, make_seat, edit, *code)
    book = ledger.read(tiny_home)
    found = refutations.plan(tiny_home, book, charters.load(tiny_home), name)
    assert found.planned and not [attack.name for attack in found.planned if "MATRIX_LR" in attack.name]
    for attack in found.planned:
        assert refutations.file(tiny_home, name, attack.name).attack == attack.name


@pytest.mark.slow
def test_a_stack_that_was_lost_settles_no_claim_and_what_cannot_be_built_stops_no_dispatcher(
    tiny_home: Home, make_seat, edit, monkeypatch
) -> None:
    name = won(tiny_home, make_seat, edit, GOOD)
    writer = ledger.Ledger(tiny_home)
    verdict = writer.refresh().verdicts[name]
    again = stacks.verify(tiny_home, name).experiment
    lost = dataclasses.replace(verdict, experiment=again, outcome="lost", tier=None)
    writer.append("verdict", f"verdict:{again}", lost.to_dict())
    idle, asked = refutations.Refutations(tiny_home, writer), []

    def fails(*of: object) -> None:
        asked.append(of)
        raise BadInput("it has no line of its own")

    with monkeypatch.context() as patch:
        patch.setattr(refutations, "_file", fails)
        assert [idle.file_idle(charters.load(tiny_home)) for _ in range(2)] == [[], []] and len(asked) == 1
    idle = refutations.Refutations(tiny_home, writer)
    assert f"{name} is attacked by" in idle.file_idle(charters.load(tiny_home))[0]


POINTS = ["refutations.file", "ledger.experiment", "promotions.retract", "promotions.head", "ledger.head"]


@pytest.mark.slow
@pytest.mark.parametrize("point", POINTS)
def test_whoever_attacks_or_takes_back_may_be_killed_there(tiny_home: Home, make_seat, edit, point: str) -> None:
    """The head that a refuted win made alone goes back, once; and no attack is filed twice."""
    name = won(tiny_home, make_seat, edit, CASES["a warm start on the seeds of the search"][0][0])
    base = record.program_head(tiny_home, "main")
    if point in ("promotions.head", "ledger.head"):
        # as if the verification had been taken in by it: its seeds are below those of refutations
        stacks.verify(tiny_home, name)
        dispatch_until(tiny_home, lambda book: "main" in book.heads)
        assert record.program_head(tiny_home, "main") != base
    code = f"from org.lab import refutations; refutations.file(home, '{name}', 'seeds')"
    if point in ("refutations.file", "ledger.experiment"):
        assert run(code, tiny_home, point=point) == -signal.SIGKILL
    run(code, tiny_home)
    filed = [c for c in ledger.read(tiny_home).experiments.values() if c.refutes]
    assert [c.attack for c in filed] == ["seeds"]
    if point in ("promotions.retract", "promotions.head", "ledger.head"):
        assert run(DISPATCH, tiny_home, point=point) == -signal.SIGKILL
    book = dispatch_until(tiny_home, lambda book: book.retracted)
    assert [row["experiment"] for row in book.rows if row.get("retracts")] == [filed[0].experiment]
    assert record.program_head(tiny_home, "main") == base and "main" not in book.heads
    dispatcher = dispatch.Dispatcher(tiny_home)
    wait_for(lambda: not dispatcher.tick() and not dispatcher.running(), what="the end of the runs")
    assert fidelity.problems(tiny_home) == []
