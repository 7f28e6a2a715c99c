"""T1 with a trainer that takes no time: an org that is played on runs, killed and gone on with ends as one never killed."""

from __future__ import annotations

import json
import math
import os
import random
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner
from waiting import wait_for

from org.bench import design, measure, t0, t1, trainer
from org.bench.trainer import Ran, Want
from org.bench.world import BASE, SEED
from org.cli.bench import bench
from org.errors import BadInput, RunFailed
from org.world import process

ROOT = Path(__file__).parents[2]

FAKE = '''\
"""Prints what nanochat's trainer prints: a smooth function of three constants plus the luck of a seed and the constants."""
import argparse, math, random, sys, time  # noqa: E401

{constants}
SLEEP_S = {sleep_s}

flags = argparse.ArgumentParser()
for name in ("--tokens", "--depth", "--seed"):
    flags.add_argument(name, type=int)
flags = flags.parse_args()
time.sleep(SLEEP_S)
if MATRIX_LR > 0.11:
    sys.exit("org: the loss is nan at step 7; lower a learning rate, or undo the last change")
luck = random.Random(f"{{flags.seed}} {{MATRIX_LR}} {{WARMDOWN_FRAC}} {{ROWS}}").gauss(0, 0.01)
val_bpb = 2.6 + 0.03 * math.log2(MATRIX_LR / 0.03) ** 2 + 0.2 * (WARMDOWN_FRAC - 0.5) ** 2 + 0.004 * ROWS + luck
print("---")
print(f"val_bpb: {{val_bpb:.6f}}")
print("data_hash: fake")
'''


def fake(folder: Path, sleep_s: float = 0.0) -> Path:
    """A trainer with the knobs of the real one."""
    folder.mkdir(parents=True)
    constants = "\n".join(f"{name.upper()} = {value!r}" for name, value in design.base().items())
    (folder / "train.py").write_text(FAKE.format(constants=constants, sleep_s=sleep_s))
    (folder / "__init__.py").write_text('"""A trainer that trains nothing."""\n')
    return folder


def contestants(*names: str) -> list[t0.Contestant]:
    return t0.named(ROOT / "prompts", names or t1.DEFAULT, lambda home, name: "")


def played(out: Path, code: Path, setting: t1.Setting, repeats: int = 2, **more: Any) -> Any:
    return t1.play(contestants(), setting, out, repeats=repeats, cores=2, code=code, **more)


SHORT = t1.Setting(ROOT / "prompts", seed=3, runs=16)


def test_greedy_overstates_and_every_run_is_trained_once(odd_path: Path) -> None:
    found, facts = played(odd_path / "out", fake(odd_path / "nanochat"), SHORT)
    greedy, gated = found
    assert [one["repeat"] for one in greedy] == [1, 2] and all(one["runs"] >= 10 for one in greedy + gated)
    assert all(one["claimed"] > 0 for one in greedy)
    lines = (odd_path / "out" / "runs.jsonl").read_text().splitlines()
    rows = [json.loads(line) for line in lines]
    assert len({(json.dumps(row["config"]), row["seed"]) for row in rows}) == len(rows) == facts["runs"]
    assert not (odd_path / "out" / "work").exists()
    # what is on disk is all there is to it: nothing is trained again, and the numbers are the same
    again, facts_again = played(odd_path / "out", odd_path / "nanochat", SHORT)
    assert again == found and facts_again == facts
    # another trainer's runs are not taken for this one's
    (odd_path / "nanochat" / "__init__.py").write_text('"""Another one."""\n')
    assert not trainer.Book(odd_path / "out", odd_path / "nanochat", t1.TOKENS).known
    rows = t1.table(contestants(), found, facts, SHORT)
    assert [len(t1.cells(row)) for row in rows] == [len(t1.HEAD)] * 2
    assert len(t1.ordering(rows)) == 1 and "greedy+gate" in t1.ordering(rows)[0]
    assert "0 repeats" in t1.ordering(t1.table(contestants(), [[], []], facts, SHORT))[0]


def test_a_killed_bench_leaves_no_process_and_goes_on(odd_path: Path) -> None:
    code, out = fake(odd_path / "nanochat", sleep_s=0.02), odd_path / "out"
    argv = [sys.executable, "-m", "org", "bench", "t1", "--repeats", "1", "--cores", "2", "--seed", "3"]
    argv += ["--trainer", str(code), "--out", str(out)]
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "T1_TEST": str(odd_path)}

    def lines() -> int:
        return (out / "runs.jsonl").read_bytes().count(b"\n") if (out / "runs.jsonl").is_file() else 0

    for sign, more in ((signal.SIGKILL, 5), (signal.SIGINT, 10)):
        with subprocess.Popen(argv, env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as begun:
            wait_for(lambda more=more: lines() >= more, 60)  # type: ignore[misc]
            assert process.find_marked(f"T1_TEST={odd_path}")
            os.kill(begun.pid, sign)
            assert begun.wait(30) == (-signal.SIGKILL if sign == signal.SIGKILL else 130)
        wait_for(lambda: not process.find_marked(f"T1_TEST={odd_path}"), 20)
        assert sign == signal.SIGKILL or not (out / "work").exists()
    before = lines()
    with (out / "runs.jsonl").open("a") as file:
        file.write('{"made_by": "half a l')
    done = subprocess.run([*argv, "--json"], env=environment, capture_output=True, text=True, timeout=120, check=True)
    rows = json.loads(done.stdout)
    assert [row["repeats"] for row in rows] == [1, 1] and lines() > before
    whole, _ = played(odd_path / "whole", fake(odd_path / "quick"), t1.Setting(ROOT / "prompts", seed=3), repeats=1)
    assert [row["outcomes"] for row in rows] == whole
    page = (out / "t1.md").read_text()
    assert "--trainer" in page, "the command that makes it again"
    assert "| greedy+gate |" in page and "--seed 3" in page and (out / "t1.svg").read_text().startswith("<?xml")


def test_an_org_of_several_devices_begins_several_runs_and_their_order_changes_nothing() -> None:
    (chief,) = contestants("chief-juniors")
    setting = t1.Setting(ROOT / "prompts", devices=4, runs=48)

    def ended(at_once: int) -> tuple[dict[str, Any], int]:
        book: dict[Want, Ran] = {}
        campaign, most = t1.Campaign(chief, 1, setting), 0
        while campaign.found is None:
            campaign.advance(book)
            most = max(most, len(campaign.wants))
            for want in campaign.wants[:at_once]:
                settings = dict(want.config)
                luck = random.Random(f"{want}").gauss(0, 0.005)
                book[want] = Ran(2.6 - 0.1 * float(settings.get("warmdown_frac", 0.0)) + luck, 1.0)
        return campaign.found, most

    found, most = ended(8)
    assert most >= 4 and found["runs"] > 30 and ended(1)[0] == found


def test_when_the_minutes_are_over_no_run_is_begun(tmp_path: Path) -> None:
    found, facts = played(tmp_path / "out", fake(tmp_path / "nanochat"), SHORT, minutes=0.0)
    assert found == [[], []] and facts["runs"] == 0


def test_a_trainer_that_fails_ends_the_bench_and_one_that_diverges_has_no_number(tmp_path: Path) -> None:
    code = fake(tmp_path / "nanochat")
    with trainer.crew(tmp_path / "out", code, t1.TOKENS, 1) as (book, crew):
        crew.begin(Want((("matrix_lr", 0.12),), 1))
        ((want, ran),) = crew.wait(30)
        assert ran.value is None
        book.add(want, ran)
    assert trainer.Book(tmp_path / "out", code, t1.TOKENS).known == {want: ran}
    (code / "train.py").write_text((code / "train.py").read_text() + "\nraise SystemExit('no room left')\n")
    with pytest.raises(RunFailed, match=r"(?s)the base with seed .*no room left"):
        played(tmp_path / "out", code, SHORT)
    assert not (tmp_path / "out" / "work").exists()


def test_a_switch_draws_other_numbers_and_a_held_seed_is_no_part_of_the_truth() -> None:
    task = SHORT.world(1, {})
    null = next(name for name, kind in task.kinds.items() if kind == "null")
    switched = task.changed(BASE, {null: "on"})
    assert task.want(switched, 1).config == () and task.want(switched, 1).seed != task.want(BASE, 1).seed
    turned = task.changed(BASE, {"rows": 4})
    assert task.want(turned, 1).seed == task.want(BASE, 1).seed  # the arms of a pair share their luck
    assert task.want(BASE, 1).seed != SHORT.world(2, {}).want(BASE, 1).seed
    lucky = task.changed(turned, {SEED: 42})
    assert task.want(lucky, 1) == task.want(lucky, 2) != task.want(turned, 1)
    assert task.pairs(lucky) == task.pairs(turned) and len(set(task.pairs(turned))) == t1.PAIRS
    assert task.pairs(task.changed(BASE, {SEED: 42})) == []
    assert math.isnan(task.gain(turned))


def test_greedy_and_gated_are_given_the_same_ideas_but_for_the_seeds() -> None:
    task = SHORT.world(1, {})
    knobs, current = list(task.knobs.values()), task.current(BASE)
    history = t1.History(knobs, current, [], "solo", 1, 0, 0.01)
    loose, gated = t1.Listed("s", True), t1.Listed("s", False)
    ideas = [loose.ask(history) for _ in range(200)]
    assert [idea for idea in ideas if idea and SEED not in idea] == [gated.ask(history) for _ in range(len(ideas))][
        : sum(SEED not in (idea or {}) for idea in ideas)
    ]
    assert 0 < sum(SEED in (idea or {}) for idea in ideas) < 20


def test_whether_the_order_is_shown_is_said_with_its_interval() -> None:
    def row(name: str, gate: bool, *values: float) -> dict[str, Any]:
        return {"org": name, "gate": gate, "outcomes": [{"inflation": value} for value in values]}

    loose = row("greedy", False, 0.03, 0.04, 0.05)
    assert t1.ordering([loose, row("g", True, 0.0, 0.01, 0.02)])[0].startswith("shown: greedy overstates its gain by")
    assert t1.ordering([loose, row("g", True, 0.05, 0.0, 0.03)])[0].startswith("not shown")
    assert t1.ordering([loose, row("g", True, 0.08, 0.09, 0.1)])[0].startswith("the other way round")


def test_the_verb_names_what_it_cannot_do(tmp_path: Path) -> None:
    for argv, said in (
        (["stats", "solo"], "takes no org"),
        (["t1", "--trainer", str(tmp_path)], "is no trainer"),
        (["t1", "nobody", "--out", str(tmp_path)], "no org 'nobody'"),
    ):
        done = CliRunner().invoke(bench, argv)
        assert isinstance(done.exception, BadInput) and said in str(done.exception), argv


@pytest.mark.slow  # two runs of the real trainer
def test_the_real_trainer_prints_what_the_bench_reads(tmp_path: Path) -> None:
    with trainer.crew(tmp_path, measure.CODE, 8 * 1024, 2) as (_, crew):
        wants = [Want((), 1), Want((("warmdown_frac", 0.5),), 1)]
        for want in wants:
            crew.begin(want)
        found: dict[Want, Ran] = {}
        while crew.busy:
            found |= dict(crew.wait(60))
    assert found.keys() == set(wants) and all(0.5 < (ran.value or 0) < 9 and ran.cpu_s > 0 for ran in found.values())


def test_runs_of_another_base_are_others(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "train.py").write_text("LR = 1\n")
    made = trainer.made_by(tmp_path, 1000)
    assert trainer.made_by(tmp_path, 1000) == made
    monkeypatch.setitem(design.LEVELS, "matrix_lr", (0.03, 0.04))
    assert trainer.made_by(tmp_path, 1000) != made
