"""What an intent demands joins the plan: written into the contract, run by the org, and waited for before a stack."""

from __future__ import annotations

import json
import signal
from dataclasses import replace

import pytest
from whole import TICK, dispatch_until, run

from org import charter as charters
from org import files, strictyaml
from org.cli import doctor, main, results
from org.errors import BadInput, OrgError, Refused
from org.evidence import ladder
from org.lab import dispatch, fidelity, follow, gate, intents, ledger, promotions, stacks
from org.lab.book import Book
from org.records import PERSON
from org.team import ideas, letters

GOOD = ("MATRIX_LR = 0.02", "MATRIX_LR = 0.04")
RUNGS = "  tiny: {steps: 10, bank: 3, deadline_s: 30}\n"
LADDER = RUNGS + "  demo: {steps: 20, bank: 3, deadline_s: 30}\n  std: {steps: 30, bank: 3, deadline_s: 30}\n"
INTENT = """\
- id: careful-steps
  path: train.py
  anchor: MATRIX_LR
  why: a large step is unstable
  status: settled
  demand: val_bpb of both forms, on longer runs
  scales: [std, tiny, demo]
"""
# at 20 steps a larger learning rate hurts
BENT = ("noise = random", "bent = 5 * (MATRIX_LR - 0.02) if flags.steps == 20 else 0.0\nnoise = bent + random")


@pytest.fixture
def watched(tiny_home):
    tiny_home.charter.write_text(tiny_home.charter.read_text().replace(RUNGS, LADDER))
    tiny_home.intents.write_text(INTENT)
    files.replace_json(tiny_home.org_file, {"devices_spec": "cpu:2"})
    return tiny_home


def filed(home, make_seat, edit, **more):
    seat = make_seat()
    edit(seat, *GOOD)
    return gate.submit(home, seat, "why", cites=("careful-steps",), **more)


def judged(home, name: str):
    """The verdict of an experiment, and nothing filed after it: somebody else is filing all the while."""
    with gate.filing(home):
        return follow.drive(home, name, lambda line: None, poll_s=0.03)


def retests(book: Book) -> list[tuple[str, str]]:
    return [(c.promotes, c.scale) for c in book.experiments.values() if c.promotes]


def test_the_contract_says_what_is_to_be_shown_and_where(watched, make_seat, edit) -> None:
    contract = filed(watched, make_seat, edit, dry=True)
    assert contract.demands == ("careful-steps: val_bpb of both forms, on longer runs",)
    assert contract.owed_scales == ("demo", "std"), "in the ladder's order, without the one it is measured at"
    assert filed_page(watched, make_seat, edit)["owed_scales"] == ["demo", "std"]


def filed_page(home, make_seat, edit) -> dict:
    seat = make_seat("you")
    edit(seat, *GOOD)
    contract = gate.submit(home, seat, "why", cites=("careful-steps",))
    assert fidelity.problems(home) == []
    return strictyaml.read(home.contract(contract.experiment))


@pytest.mark.parametrize(
    ("named", "said"),
    [
        (
            {"cites": ("careful-step",)},
            r"'careful-step': there is no such intent \(did you mean 'careful-steps'\?\); .*",
        ),
        ({"cites": ("careful-steps", "nonsense")}, r"'nonsense': there is no such intent; .* has careful-steps$"),
        ({"idea": "I9999"}, r"'I9999': there is no such idea; .*`org idea TEXT`"),
        ({"idea": "I0002"}, r"did you mean 'I0001'"),
        ({"idea": "a longer warmdown"}, r"there is no such idea"),
    ],
)
def test_what_nobody_wrote_down_is_not_cited(watched, make_seat, edit, named: dict, said: str) -> None:
    assert ideas.add(watched, "larger steps", "human") == "I0001"
    seat = make_seat()
    edit(seat, *GOOD)
    with pytest.raises(BadInput, match=said) as caught:
        gate.submit(watched, seat, "why", **{"cites": ("careful-steps",), **named})
    assert "\n" not in str(caught.value)
    assert gate.submit(watched, seat, "why", cites=("careful-steps",), idea="I0001", dry=True).idea == "I0001"


def test_what_an_idea_predicted_when_it_was_filed_is_in_the_contract(watched, make_seat, edit) -> None:
    seat = make_seat()
    edit(seat, *GOOD)

    def predicted() -> float | None:
        return gate.submit(watched, seat, "why", cites=("careful-steps",), idea="I0001", dry=True).idea_expect

    ideas.add(watched, "larger steps", "human", expect=-0.02)
    [page] = watched.ideas.glob("I0001-*.md")
    assert predicted() == -0.02
    for head, number in (("expect: '-0.03'", -0.03), ("expect: 1e999", None), ("expect: [", None), ("x: y", None)):
        page.write_text(f"---\n{head}\n---\nlarger steps\n")
        assert predicted() == number


def test_without_a_registry_nothing_can_be_cited(tiny_home, make_seat, edit) -> None:
    seat = make_seat()
    edit(seat, *GOOD)
    with pytest.raises(BadInput, match=r"there is no such intent; .*yaml has none"):
        gate.submit(tiny_home, seat, "why", cites=("careful-steps",))


def test_what_is_not_touched_asks_for_nothing(watched, make_seat, edit) -> None:
    seat = make_seat()
    edit(seat, "WARMDOWN_FRAC = 0.0", "WARMDOWN_FRAC = 0.5")
    contract = gate.submit(watched, seat, "why", cites=("careful-steps",), dry=True)
    assert contract.demands == () and contract.owed_scales == ()


@pytest.mark.slow
def test_the_org_files_the_retests_and_the_win_waits_for_all_of_them(watched, make_seat, edit) -> None:
    home = watched
    contract = filed(home, make_seat, edit)
    name = contract.experiment
    assert judged(home, name).outcome == "win"
    assert stacks.stack(home, "main") is None
    with pytest.raises(BadInput, match="owes a re-test at demo and std"):
        stacks.verify(home, name)
    book = ledger.read(home)
    rows = {row["experiment"]: row for row in results.rows(book)}
    assert rows[name]["owes"] == ["demo", "std"] and "owes demo" in results._line(rows[name])[1]
    sent = letters.outgoing(book, charters.load(home), {"chief": "chief", "me": "junior"}, {"me": "main"}, 0)
    body = next(letter.body for letter in sent if letter.about == name)
    assert "val_bpb of both forms" in body and "carried to demo and std" in body
    book = dispatch_until(home, lambda book: retests(book))
    assert retests(book) == [(name, "demo")], "one at a time"
    retest = next(c for c in book.experiments.values() if c.promotes)
    assert (retest.seat, retest.demands, retest.owed_scales) == ("me", (), ())
    book = dispatch_until(home, lambda book: len(retests(book)) == 2 and not book.open())
    assert retests(book) == [(name, "demo"), (name, "std")] and book.out() == {}
    stack = stacks.stack(home, "main")
    assert stack is not None and stack.members == (name,)
    assert fidelity.problems(home) == []


@pytest.mark.slow  # an experiment, its re-tests and its stack
def test_the_verb_alone_runs_what_a_win_owes_and_then_stacks_it(watched, make_seat, edit, capsys) -> None:
    home = watched
    name = filed(home, make_seat, edit).experiment
    assert judged(home, name).outcome == "win"
    call = ["--home", str(home.root), "stack", "main"]
    capsys.readouterr()
    assert main.call([*call, "--no-wait"]) == 0
    assert capsys.readouterr().out.splitlines()[:2] == [
        "nothing to verify in main",
        f"  {name} owes a re-test at demo and std, which the org files",
    ]
    assert main.call([*call, "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert (found["members"], found["left_out"], found["verdict"]["tier"]) == ([name], {}, "verified")
    assert sorted(retests(ledger.read(home))) == [(name, "demo"), (name, "std")]


@pytest.mark.slow  # an experiment and its re-test
def test_one_that_falls_is_out_and_the_next_scale_is_not_tried(watched, make_seat, edit) -> None:
    home = watched
    path = home.root / "code" / "train.py"
    path.write_text(path.read_text().replace(*BENT, 1))
    name = filed(home, make_seat, edit).experiment
    book = dispatch_until(home, lambda book: book.retracted)
    dispatcher = dispatch.Dispatcher(home)
    for _ in range(3):
        dispatcher.tick()
    book = ledger.read(home)
    assert retests(book) == [(name, "demo")] and set(book.retracted) == {name}
    assert stacks.stack(home, "main") is None and "did not carry to demo" in book.out()[name]
    shown = results._line({r["experiment"]: r for r in results.rows(book)}[name])[1]
    assert "retracted at demo by" in shown and "owes" not in shown


@pytest.mark.slow  # an experiment and its re-tests for each
@pytest.mark.parametrize("point", ["promotions.file", "gate.pinned", "gate.contract", "ledger.experiment"])
def test_a_dispatcher_killed_while_it_files_owes_the_same(watched, make_seat, edit, point) -> None:
    home = watched
    name = filed(home, make_seat, edit).experiment
    judged(home, name)
    assert run(TICK, home, point=point) == -signal.SIGKILL
    book = dispatch_until(home, lambda book: len(retests(book)) == 2 and not book.open())
    assert retests(book) == [(name, "demo"), (name, "std")]
    assert fidelity.problems(home) == []


def test_who_files_at_the_moment_is_waited_for_without_a_stop(watched, make_seat, edit) -> None:
    home = watched
    name = filed(home, make_seat, edit).experiment
    judged(home, name)
    dispatcher = dispatch.Dispatcher(home)
    with gate.filing(home):
        dispatcher.tick()
    assert retests(ledger.read(home)) == []
    dispatcher.tick()
    assert retests(ledger.read(home)) == [(name, "demo")]


def test_a_lost_retest_is_filed_again_so_often(watched, make_seat, edit) -> None:
    name = filed(watched, make_seat, edit).experiment
    judged(watched, name)
    book = ledger.read(watched)
    contracts, verdicts = dict(book.experiments), dict(book.verdicts)
    lost = replace(verdicts[name], outcome="lost", tier=None)
    for count in range(3):
        assert ladder.due(contracts, verdicts, 3) == [(name, "demo")]
        again = f"E01{count}0"
        contracts[again] = replace(contracts[name], stage="promote", promotes=name, scale="demo", owed_scales=())
        assert ladder.due(contracts, verdicts, 3) == [], "one is under way"
        verdicts[again] = lost
    assert ladder.due(contracts, verdicts, 3) == []
    assert promotions.promote(watched, [name], "demo"), "a person may ask for it"


def test_off_limits_is_a_persons_to_change(watched, make_seat, edit) -> None:
    watched.intents.write_text(INTENT.replace("settled", "off-limits"))
    seat = make_seat()
    edit(seat, *GOOD)
    with pytest.raises(Refused, match=r"off-limits: .*propose it: `org send human"):
        gate.submit(watched, seat, "why", cites=("careful-steps",))
    person = replace(seat, backend=PERSON)
    with pytest.raises(Refused, match="cite it with --cites careful-steps"):
        gate.submit(watched, person, "why")
    assert gate.submit(watched, person, "why", cites=("careful-steps",)).owed_scales == ("demo", "std")


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("scales: [std, tiny, dmo]", r"'careful-steps': scale 'dmo' \(did you mean 'demo'\?\) is not in the charter"),
        ("scales: demo", "must be a list"),
        ("scales: []", "must be a list"),
        ("scales: [1]", "must be a list"),
    ],
)
def test_a_scale_that_is_not_there_is_one_line(watched, make_seat, edit, text, said) -> None:
    watched.intents.write_text(INTENT.replace("scales: [std, tiny, demo]", text))
    with pytest.raises(OrgError, match=said) as caught:
        filed(watched, make_seat, edit)
    assert "\n" not in str(caught.value)
    with pytest.raises(OrgError, match=said):
        doctor._intents(watched)


def test_a_scale_that_is_too_large_for_the_org_is_said_at_filing(watched, make_seat, edit) -> None:
    watched.charter.write_text(watched.charter.read_text().replace("std: {steps: 30,", "std: {steps: 30, devices: 3,"))
    with pytest.raises(BadInput, match="std holds 3 devices"):
        filed(watched, make_seat, edit)


def test_shipped_intents_name_scales_of_the_shipped_charter() -> None:
    from pathlib import Path

    from org.home import Home

    home = Home(Path(__file__).parents[2])
    found = intents.load(home.intents)
    assert any(intent.scales for intent in found)
    intents.check_scales(found, charters.load(home).scales, home.intents)
