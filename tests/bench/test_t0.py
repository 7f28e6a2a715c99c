"""T0: the surface says what was measured, simulated orgs decide as the judge does, planted things are counted as planted."""

from __future__ import annotations

import json
import random
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import yaml
from click.testing import CliRunner
from traps import all_traps

from org import charter as charters
from org.agents.heads import Heads
from org.bench import brains, design, surface, t0, tpe
from org.bench.brains import History, Result
from org.bench.compare import Standing, ranking
from org.bench.controls import ungated
from org.bench.course import Roster
from org.bench.surface import Row
from org.bench.virtual import Lab
from org.bench.world import BASE, CATCHES, TRICK_SIGMAS, World
from org.cli.bench import bench
from org.cli.compare import compare
from org.errors import BadInput
from org.evidence import stats
from org.home import Home
from org.records import Knob

ROOT = Path(__file__).parents[2]
CHIEF = Roster("chief", ("j1", "j2", "j3", "j4"), has_chief=True)
SOLO = Roster("solo", ("solo",))


def world(seed: str = "w", **more: Any) -> World:
    return World(surface.shipped(), charters.load(Home(ROOT)).knobs, seed, **more)


def rows(values: dict[tuple[tuple[str, Any], ...], float | None], seeds: int = 2, part: str = "single") -> list[Row]:
    return [Row(part, 2, seed, config, value, 3.6e11, 300) for config, value in values.items() for seed in range(seeds)]


# --- the surface -------------------------------------------------------------------------------------------------


def test_the_fit_gives_back_what_was_measured_and_the_line_between_it() -> None:
    lr, rate = (("matrix_lr", 0.04),), (("matrix_lr", 0.08),)
    both = (("matrix_lr", 0.04), ("warmdown_frac", 0.5))
    table = {(): 2.0, lr: 1.9, rate: 2.2, (("warmdown_frac", 0.5),): 1.95, both: 1.75}
    found = surface.fit(rows(table, seeds=40))
    assert found.base == pytest.approx(2.0, abs=0.01)
    for config, value in table.items():
        assert found.effect(dict(config)) == pytest.approx(value - 2.0, abs=0.015), config
    middle = found.effect({"matrix_lr": (0.04 * 0.08) ** 0.5})  # half way in the logarithm
    assert middle == pytest.approx((found.effect(dict(lr)) + found.effect(dict(rate))) / 2, abs=1e-9)
    far = found.effect({"matrix_lr": 0.04, "warmdown_frac": 0.8}) - found.effect(dict(both))
    assert abs(far) < 0.02  # an interaction reaches no further than it was measured
    assert found.effect({"switch_1": "on"}) == 0.0


def test_what_diverged_crashes_with_everything_that_holds_it() -> None:
    found = surface.fit(rows({(): 2.0, (("matrix_lr", 0.12),): None}))
    assert found.crashes({"matrix_lr": 0.12, "rows": 4}) and not found.crashes({"matrix_lr": 0.08})


def test_the_error_on_drawn_configurations_is_reported_with_and_without_them() -> None:
    stream = random.Random(1)
    drawn = {
        tuple(sorted({"rows": stream.choice((4, 16)), "matrix_lr": m}.items())): 2.0 + m
        for m in design.LEVELS["matrix_lr"][1:]
    }
    facts = surface.fit([*rows({(): 2.0}), *rows(drawn, part="drawn")]).facts
    assert facts["drawn"] == 2 * len(drawn) and facts["error_left_out"] > 0
    assert facts["error_unseen"] > 0 and facts["error_of_a_constant"] > 0


def test_the_scale_shift_is_the_slope_from_depth_to_depth() -> None:
    shallow = rows({(): 2.0, (("rows", 4),): 2.1, (("rows", 16),): 1.9, (("seq_len", 64),): 2.2})
    deep = [Row("deeper", 3, r.seed, r.config, 1.9 + 0.5 * ((r.value or 0) - 2.0), 1.0, 300) for r in shallow]
    shift = surface.fit([*shallow, *deep]).facts["scale_shift"]
    assert shift["slope"] == pytest.approx(0.5) and shift["correlation"] == pytest.approx(1.0)


# --- the world ---------------------------------------------------------------------------------------------------


def test_what_is_planted_changes_no_truth_and_a_trick_lowers_the_printed_number_alone() -> None:
    task = world(tricks=3)
    tricks = [name for name, kind in task.kinds.items() if kind == "trick"]
    nulls = [name for name, kind in task.kinds.items() if kind == "null"]
    assert len(tricks) == 3 and len(nulls) == 12
    tree = task.changed(BASE, {tricks[0]: "on", nulls[0]: "on"})
    assert task.gain(tree) == 0.0
    printed, hidden = task.run(tree, 1), task.hidden(tree, 1)
    assert printed is not None and hidden is not None
    assert hidden - printed == pytest.approx(TRICK_SIGMAS * task.surface.sigma)
    assert task.changed(tree, {tricks[0]: "off", nulls[0]: "off"}) == BASE


def test_tricks_are_caught_as_often_as_the_traps_are() -> None:
    missed = [miss.family for miss in all_traps.KNOWN_MISSED]
    caught = [trap.family for trap in all_traps.TRAPS]
    assert {family: (caught.count(family), missed.count(family)) for family in dict.fromkeys(caught)} == CATCHES


# --- orgs --------------------------------------------------------------------------------------------------------


@pytest.mark.slow  # the judge is asked over all results at every search
@pytest.mark.parametrize(("roster", "devices"), [(SOLO, 1), (CHIEF, 4)], ids=["solo", "chief"])
def test_every_simulated_search_decides_as_the_judge(roster: Roster, devices: int) -> None:
    lab = Lab(world("check"), roster, devices, 120 * surface.shipped().seconds({}), brains.Shipped, check=True)
    lab.run()
    assert len(lab.verdicts) > 20 and any(row["kind"] == "head" for row in lab.rows)


def test_a_search_is_measured_against_the_head_it_was_filed_on_wherever_that_has_moved() -> None:
    """Every search of a campaign whose head moves, held against its own arms: many end on another head than they began."""
    moved = []

    class Looks(Lab):
        def _judged(self, contract: Any, outcome: str, found: Any, changes: Any) -> None:
            if found is not None:
                arms = self.line.noise.arms
                old, new = arms[self.trees[contract.baseline_commit]], arms[self.trees[contract.tree]]
                own = {seed: new[seed] for seed in contract.seeds[: found.n]}
                against = {seed: old[seed] for seed in own} if found.paired else old
                assert found.effect == pytest.approx(stats.mean(own.values()) - stats.mean(against.values()))
                moved.append(contract.baseline_commit != self.line.commit)
            super()._judged(contract, outcome, found, changes)

    Looks(world("moves"), CHIEF, 4, 200 * surface.shipped().seconds({}), brains.Shipped).run()
    assert 3 < sum(moved) < len(moved)


def test_an_org_that_does_not_try_and_one_that_only_cheats_gain_nothing() -> None:
    task = world("cheat", tricks=30)
    budget = 80 * task.surface.seconds({})
    names = [name for name, kind in task.kinds.items() if kind == "trick"]
    for maker in (brains.Nothing, partial(brains.Tricks, names=names)):
        course = Lab(task, SOLO, 1, budget, maker).run()
        assert course.points[-1].true == course.points[-1].claimed == 0.0
    believed = ungated(task, budget, partial(brains.Tricks, names=names))
    assert believed.points[-1].claimed > 10 * task.surface.sigma and believed.points[-1].true == 0.0


def test_more_juniors_on_more_devices_are_faster_and_devices_are_charged_while_idle() -> None:
    budget = 160 * surface.shipped().seconds({})
    one = Lab(world("speed"), SOLO, 1, budget, brains.Shipped).run()
    four = Lab(world("speed"), CHIEF, 4, budget, brains.Shipped).run()
    assert one.points[-1].true > 0 and four.points[-1].true > 0
    assert four.device_s == one.device_s == budget and four.busy_s <= budget
    first = [next(p.device_s for p in course.points if p.true > 0) for course in (one, four)]
    assert first[1] / 4 < first[0]  # in wall time


def test_a_breaker_keeps_what_it_refutes_out_of_every_stack() -> None:
    broken, ideas = Roster("pairs", ("a1", "a2"), breakers=2), partial(brains.Ideas, has_seed=False)  # who wins by luck
    for seed in "abcdefghijklmnop":
        lab = Lab(world(seed), broken, 2, 240 * surface.shipped().seconds({}), ideas)
        lab.run()
        if lab.out:
            break
    assert lab.out and all(trial.is_out == (trial.experiment in lab.out) for trial in lab.trials)
    at = {trial.experiment: n for n, trial in enumerate(lab.trials)}
    refuted_late = [
        m
        for trial in lab.trials
        if trial.is_stack
        for m in trial.members
        if m in lab.out and at[m] + 20 < at[trial.experiment]
    ]
    assert not refuted_late


def test_the_roster_is_what_the_folder_says(tmp_path: Path) -> None:
    folder = tmp_path / "prompts" / "orgs" / "mine"
    (folder / "roles").mkdir(parents=True)
    seats = [{"role": "chief", "count": 1}, {"role": "maker", "count": 3}, {"role": "breaker", "count": 2}]
    (folder / "org.yaml").write_text(yaml.safe_dump({"seats": seats}))
    for seat in seats:
        (folder / "roles" / f"{seat['role']}.md").write_text("A role.\n")
    (one,) = t0.rosters(tmp_path / "prompts", (), lambda home, name: "abc")
    assert one.roster == Roster("mine", ("maker1", "maker2", "maker3"), True, 2) and one.devices == 3
    with pytest.raises(BadInput, match=r"no org 'mini'.*did you mean 'mine'"):
        t0.rosters(tmp_path / "prompts", ("mini",), lambda home, name: "")


def test_a_name_with_a_count_is_that_org_or_control_on_so_many_devices() -> None:
    def named(*names: str, devices: int = 64) -> list[t0.Contestant]:
        return t0.named(ROOT / "prompts", names, lambda home, name: "", devices)

    two, ten, tpe4, plain = named("chief-juniors:2", "chief-juniors:10", "tpe:4", "chief-juniors")
    assert two.roster is not None and ten.roster is not None and plain.roster is not None
    assert two.roster.proposers == plain.roster.proposers[:2] and two.devices == 2 and two.roster.has_chief
    assert ten.roster.proposers == (*plain.roster.proposers, "junior9", "junior10")
    assert (tpe4.name, tpe4.devices, tpe4.brain, tpe4.roster) == ("tpe:4", 4, "tpe", None)
    everyone = named()
    more = ("tpe:4", "solo:2")
    assert [one.name for one in named("all", *more, "solo")] == [*(one.name for one in everyone), *more]
    for wrong in ("all:2", "tpe:0", "tpe:9", "tpe:x", "tpe:"):
        with pytest.raises(BadInput, match="takes one org or control and 1 to 8 devices"):
            named(wrong, devices=8)


@pytest.mark.parametrize("devices", [1, 3])
def test_a_control_on_several_devices_chooses_without_what_is_under_way(devices: int) -> None:
    under_way = []

    class Asks(brains.Random):
        def ask(self, history: History) -> dict[str, Any]:  # type: ignore[override]
            under_way.append(sum(trial.is_open for trial in history.trials))
            return dict(super().ask(history) or {})

    task = world("wide")
    budget = 40 * task.surface.seconds({})
    course = ungated(task, budget, Asks, is_local=False, devices=devices)
    assert max(under_way) == devices - 1 and sum(n == devices - 1 for n in under_way) >= len(under_way) - devices
    assert budget * 0.8 < course.busy_s <= budget == course.device_s
    assert course.runs == len(under_way)  # the base's own run, and all but the last, which would end too late
    assert [point.device_s for point in course.points] == sorted(point.device_s for point in course.points)


def test_targets_are_read_off_the_plain_rows_and_off_rows_of_as_many_devices() -> None:
    def row(org: str, devices: int, gain: float, kind: str = "org") -> dict[str, Any]:
        marks = {f"gain_{mark}": gain for mark in t0.MARKS}
        more = {"kind": kind, "gate": kind == "org", "claim_inflation": None, "wall_over_solo": None}
        return {"org": org, "devices": devices, **marks, **more}

    names = (
        ("chief-juniors", 8, 0.2),
        ("chief-juniors:1", 1, 0.3),
        ("tpe", 1, 0.25),
        ("tpe:8", 8, 0.21),
        ("tpe:4", 4, 1),
    )
    said = t0.missed([row(name, devices, gain) for name, devices, gain in names])
    assert [line.partition(" truly")[0] for line in said if line.endswith("0.9") and "in 100" in line] == [
        "missed: chief-juniors verifies 0.80 x what tpe",
        "met: chief-juniors verifies 0.95 x what tpe:8",
        "met: chief-juniors:1 verifies 1.20 x what tpe",
    ]


# --- brains ------------------------------------------------------------------------------------------------------


def history(**more: Any) -> History:
    knobs = [Knob("a", "t.py", low=0.0, high=1.0), Knob("b", "t.py", choices=(1, 2))]
    return History(knobs, {"a": 0.5, "b": 1}, [], "solo", 1, 0, 0.01, **more)


def test_a_file_with_ask_and_tell_is_a_brain_of_every_seat_anew(tmp_path: Path) -> None:
    path = tmp_path / "my brain.py"
    path.write_text(
        "told = []\ndef ask(history):\n    return {'a': 0.1 * (1 + len(told))}\ndef tell(result):\n    told.append(result)\n"
    )
    make = brains.load(str(path))
    one, other = make("1"), make("2")
    one.tell(Result({"a": 0.1}, "null", 0.0, 2.0))
    assert one.ask(history()) == {"a": 0.2} and other.ask(history()) == {"a": 0.1}


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("def ask(history): return {}", "has no function tell"),
        ("tell = 1\ndef ask(h): return {}", "has no function tell"),
        ("def ask(", "is no Python file"),
        ("1 / 0", "ZeroDivisionError"),
    ],
)
def test_a_file_that_is_no_brain_is_named_in_one_line(tmp_path: Path, text: str, said: str) -> None:
    path = tmp_path / "b.py"
    path.write_text(text)
    with pytest.raises(BadInput, match=said):
        brains.load(str(path))
    with pytest.raises(BadInput, match="there is no brain 'nobody'"):
        brains.load("nobody")


@pytest.mark.parametrize("answer", ["{'c': 1}", "{'a': 7}", "{'b': 3}", "{'a': float('nan')}", "[1]"])
def test_an_answer_that_is_no_setting_is_named(tmp_path: Path, answer: str) -> None:
    path = tmp_path / "b.py"
    path.write_text(f"def ask(history): return {answer}\ndef tell(result): pass\n")
    with pytest.raises(BadInput, match="ask answered"):
        brains.load(str(path))("1").ask(history())


@pytest.mark.slow  # twice twenty studies of sixty asks each, fifty of them by the estimate
def test_the_estimator_finds_what_optuna_s_finds() -> None:
    import optuna

    optuna.logging.set_verbosity(optuna.logging.ERROR)
    ranged = [Knob(f"k{n}", "t.py", low=0.0, high=1.0) for n in range(8)]
    listed = [Knob(f"c{n}", "t.py", choices=(0, 1, 2)) for n in range(8)]
    space = {k.name: optuna.distributions.FloatDistribution(0, 1) for k in ranged}
    space |= {k.name: optuna.distributions.CategoricalDistribution(k.choices) for k in listed}

    def truth(settings: dict[str, Any]) -> float:
        return sum((v - 0.3) ** 2 if name[0] == "k" else 0.1 * v for name, v in settings.items())

    def study(seed: int, is_ours: bool) -> float:
        luck, told = random.Random(seed), []
        ours = tpe.Sampler([*ranged, *listed], str(seed))
        theirs = optuna.create_study(sampler=optuna.samplers.TPESampler(seed=seed))
        for _ in range(60):
            trial = None if is_ours else theirs.ask(space)
            settings = ours.ask() if trial is None else trial.params
            value = truth(settings) + luck.gauss(0, 0.05)
            told.append((value, truth(settings)))
            ours.tell(settings, value) if trial is None else theirs.tell(trial, value)
        return min(told)[1]

    found = [[study(seed, is_ours) for seed in range(20)] for is_ours in (True, False)]
    means = [sum(values) / 20 for values in found]
    spread = [sum((value - mean) ** 2 for value in values) / 19 / 20 for values, mean in zip(found, means, strict=True)]
    assert abs(means[0] - means[1]) < 3 * sum(spread) ** 0.5
    assert means[0] < 0.75 * sum(
        truth({**{k.name: 0.9 for k in ranged}, **{k.name: 1 for k in listed}}) for _ in range(1)
    )


# --- the table ---------------------------------------------------------------------------------------------------


def test_the_same_seed_gives_the_same_table_on_one_worker_and_on_two() -> None:
    everyone = [one for one in t0.controls() if one.name in ("no-op", "greedy", "greedy+gate")]
    one, two = (t0.play(everyone, ROOT / "prompts", 2, 3, workers=workers) for workers in (1, 2))
    assert one == two
    rows = {row["org"]: row for row in t0.table(everyone, one, 3)}
    assert rows["no-op"]["gain_300"] == 0.0 and rows["greedy"]["claim_inflation"] > 1.5
    assert rows["greedy+gate"]["null_keep_rate"] < rows["greedy"]["null_keep_rate"]


@pytest.mark.slow  # some orgs through some worlds, and a picture
def test_the_verb_prints_a_row_an_org_and_draws(tmp_path: Path) -> None:
    path = tmp_path / "a plot.svg"
    done = CliRunner().invoke(bench, ["t0", "--repeats", "2", "--json", "--plot", str(path)])
    assert done.exit_code == 0, done.output
    found = json.loads(done.stdout)
    assert {row["org"] for row in found} >= {*t0.CONTROLS, "chief-juniors", "solo"}
    assert all(len(row["gain_300_ci"]) == 2 and row["folder"] == "" for row in found if row["kind"] == "control")
    assert path.read_text().startswith("<?xml")


def test_orgs_are_ranked_only_where_their_intervals_keep_apart() -> None:
    apart, near = Standing("a", 20, 0.3, 0.25, 0.35), Standing("b", 20, 0.1, 0.05, 0.15)
    assert ranking([near, apart])[0].startswith("a gains more than b")
    assert "overlap" in ranking([apart, Standing("c", 20, 0.28, 0.2, 0.36)])[0]
    alone = Standing("d", 1, 0.9, float("-inf"), float("inf"))
    assert "one repeat" in ranking([apart, alone])[0]


def test_compare_takes_orgs_or_homes_and_not_both() -> None:
    done = CliRunner().invoke(compare, ["solo", str(ROOT)])
    assert done.exit_code != 0 and isinstance(done.exception, BadInput) and "is no home" in str(done.exception)
    done = CliRunner().invoke(compare, ["no-op", "greedy", "--repeats", "2", "--json"])
    assert done.exit_code == 0, done.output
    assert [row["org"] for row in json.loads(done.stdout)["rows"]] == ["no-op", "greedy"]


def test_targets_are_sentences_met_or_missed() -> None:
    row = {"gate": True, "kind": "org", "claim_inflation": 1.0, "wall_over_solo": 0.1, "gain_100": 0.1, "gain_300": 0.1}
    known = [
        {**row, "org": "chief-juniors"},
        {**row, "org": "solo"},
        {**row, "org": "tpe", "gate": False, "gain_300": 0.2},
    ]
    said = t0.missed(known)
    assert [line.split(":")[0] for line in said if "tpe" in line] == ["met", "missed"]
    assert next(line for line in said if "wall time" in line).startswith("met")


def test_the_brain_of_the_docs_page_runs(tmp_path: Path) -> None:
    page = (ROOT / "docs" / "bench.md").read_text(encoding="utf-8")
    path = tmp_path / "brain.py"
    path.write_text(page.partition("```python\n")[2].partition("```")[0])
    course = Lab(world(), SOLO, 1, 40 * surface.shipped().seconds({}), brains.load(str(path))).run()
    assert len(course.tried) > 5


def test_a_researcher_knows_where_the_knobs_stood_on_every_head() -> None:
    """Put together from the record alone, with members that left and programs that share a head, it is what the head is."""
    left = 0
    for name, proposers, has_chief in (("chief", ("j1", "j2", "j3"), True), ("alone", ("a1",), False)):
        lab = Lab(
            world(name),
            Roster(name, proposers, has_chief),
            len(proposers),
            260 * surface.shipped().seconds({}),
            brains.Shipped,
        )
        lab.run()
        heads = Heads(lab.trials)
        for trial in lab.trials:
            if not trial.is_stack:
                assert heads.beside(trial.baseline) == {n.lower(): v for n, v in lab.trees[trial.baseline]}, trial
        left += sum(bool(row.get("removed")) for row in lab.rows)
        assert len(heads.moved) > 2
    assert left, "some member left a head"
