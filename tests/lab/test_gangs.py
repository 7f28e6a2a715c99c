"""A run that holds several devices: all of them or none, freed together whoever dies, and never kept waiting for ever."""

from __future__ import annotations

import os
import signal
import subprocess

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from waiting import wait_for
from whole import TICK, run

from org import charter as charters
from org import files, schema
from org.errors import BadInput, LeaseHeld
from org.evidence import progress
from org.lab import dispatch, fidelity, follow, gate, ledger, spec, wants
from org.world import devices, process

CPUS = [devices.Device(f"cpu{i}", "cpu", i) for i in range(4)]
LADDER = "  tiny: {steps: 10, bank: 3, deadline_s: 30}\n"
PAIR = LADDER + "  pair: {steps: 12, devices: 2, bank: 2, deadline_s: 600}\n"


def want(name: str, scale: str = "one", order: int = 3) -> wants.Want:
    return wants.Want(name, "candidate", 1, "search", name, name, scale, "s", "j1", (order, 0))


# --- the choice ---------------------------------------------------------------------------------------------------


def test_single_runs_are_chosen_as_ever() -> None:
    found = [want("a"), want("b"), want("a"), want("c")]
    assert wants.choose(found, {want("b").identity}, ["cpu0", "cpu1"]) == [(found[0], ("cpu0",)), (found[3], ("cpu1",))]


def test_a_gang_gets_all_its_devices_or_waits_and_nothing_behind_it_starts() -> None:
    found = [want("big", "two"), want("small")]
    sizes = {"two": 2}
    assert wants.choose(found, set(), ["cpu0", "cpu1"], [], sizes) == [(found[0], ("cpu0", "cpu1"))]
    assert wants.choose(found, set(), ["cpu0"], [["cpu1"]], sizes) == []
    assert wants.choose(found[::-1], set(), ["cpu0"], [["cpu1"]], sizes) == [(found[1], ("cpu0",))], "it is not first"


def test_a_gang_waits_for_the_running_one_and_leaves_the_other_devices_at_work() -> None:
    found = [want("big", "two"), want("small")]
    assert wants.choose(found, set(), ["cpu2"], [["cpu0", "cpu1"]], {"two": 2}) == [(found[1], ("cpu2",))]


def test_a_gang_larger_than_the_org_reserves_nothing() -> None:
    found = [want("huge", "five"), want("small")]
    assert wants.choose(found, set(), ["cpu0"], [["cpu1"]], {"five": 5}) == [(found[1], ("cpu0",))]


jobs = st.lists(st.tuples(st.integers(1, 4), st.integers(1, 5)), min_size=1, max_size=12)  # (devices, seconds)


@settings(max_examples=200, deadline=None)
@given(count=st.integers(1, 4), jobs=jobs, stream=st.lists(st.integers(1, 5), min_size=1, max_size=4))
def test_every_gang_that_fits_runs_in_time_while_single_runs_keep_coming(count, jobs, stream) -> None:
    """A clock of whole seconds: those that wait in their order, and behind them one new single run every second."""
    sizes = {str(size): size for size in range(1, 5)}
    queue = [(want(f"job{i}", str(size)), seconds) for i, (size, seconds) in enumerate(jobs)]
    names = [device.name for device in CPUS[:count]]
    running: list[tuple[wants.Want, tuple[str, ...], int]] = []
    waited: set[str] = {w.experiment for w, _ in queue if sizes[w.scale] <= count}
    for now in range(200):
        running = [(w, held, ends) for w, held, ends in running if ends > now]
        held = [held for _, held, _ in running]
        used = [name for group in held for name in group]
        free = [name for name in names if name not in used]
        pairs = wants.choose([w for w, _ in queue], set(), free, held, sizes)
        given_out = [name for _, group in pairs for name in group]
        assert len(set(given_out)) == len(given_out) and set(given_out) <= set(free)
        for w, group in pairs:
            assert len(group) == sizes[w.scale]
            seconds = next(seconds for other, seconds in queue if other is w)
            running.append((w, group, now + seconds))
        started = [w for w, _ in pairs]
        queue = [(w, seconds) for w, seconds in queue if not any(w is other for other in started)]
        waited -= {w.experiment for w in started}
        if not waited:
            return
        queue.append((want(f"new{now}", "1", 3), stream[now % len(stream)]))
    raise AssertionError(f"still waiting: {waited}")


# --- leases -------------------------------------------------------------------------------------------------------


def test_what_cannot_be_had_whole_is_let_go_whole(tmp_path) -> None:
    places = [(tmp_path / f"{d.name}.lock", d) for d in CPUS[:3]]
    taken = devices.lease(*places[2])
    with pytest.raises(LeaseHeld, match="cpu2"):
        devices.lease_all(places)
    assert [devices.holder(path) for path, _ in places] == [None, None, {}]
    os.close(taken)
    for descriptor in devices.lease_all(places):
        os.close(descriptor)


def test_the_environment_of_a_gang() -> None:
    assert devices.device_env(*CPUS[:3])["OMP_NUM_THREADS"] == "3"
    gpus = [devices.Device("gpu2", "H200", 2), devices.Device("gpu0", "H200", 0)]
    assert devices.device_env(*gpus)["CUDA_VISIBLE_DEVICES"] == "2,0"


# --- whole runs ---------------------------------------------------------------------------------------------------


@pytest.fixture
def ladder(tiny_home):
    """The tiny home with a rung of two devices, on two cores, whatever the machine has."""
    text = tiny_home.charter.read_text().replace(LADDER, PAIR)
    tiny_home.charter.write_text(text.replace("--steps {steps}", "--steps {steps}  --out {out}/of-{devices}"))
    files.replace_json(tiny_home.org_file, {"devices_spec": "cpu:2"})
    return tiny_home


def test_a_setting_names_the_devices_only_where_there_are_several(ladder) -> None:
    charter = charters.load(ladder)
    alone = charters.from_plain({**schema.charter(ladder.charter), "scales": {"pair": {"steps": 12, "bank": 2}}})
    assert spec.setting(alone, "pair", "cpu") != spec.setting(charter, "pair", "cpu")
    one = charters.from_plain(
        {**schema.charter(ladder.charter), "scales": {"pair": {"steps": 12, "bank": 2, "devices": 1}}}
    )
    assert spec.setting(alone, "pair", "cpu") == spec.setting(one, "pair", "cpu")


@pytest.mark.slow
def test_a_gang_runs_on_all_its_devices_and_is_charged_for_them(ladder, make_seat, edit) -> None:
    seat = make_seat()
    edit(seat, "MATRIX_LR = 0.02", "MATRIX_LR = 0.04")
    contract = gate.submit(ladder, seat, "why", scale="pair")
    verdict = follow.drive(ladder, contract.experiment, lambda line: None, poll_s=0.05)
    assert verdict.outcome == "win"
    book = ledger.read(ladder)
    runs = [book.results[name] for name in verdict.runs]
    assert {run.device for run in runs} == {"cpu0+cpu1"} and {run.devices for run in runs} == {("cpu0", "cpu1")}
    plan = files.read_json(ladder.run(verdict.runs[0]) / "spec.json")
    assert (plan["env"]["RUN_DEVICES"], plan["env"]["OMP_NUM_THREADS"]) == ("2", "2")
    assert plan["command"][-1].endswith("/of-2")
    assert all(ladder.lease_marker(name) in [f"{k}={v}" for k, v in plan["env"].items()] for name in ("cpu0", "cpu1"))
    spent = progress.device_time(runs, book.verdicts)
    assert sum(spent.values()) == pytest.approx(2 * sum(run.total_s or 0.0 for run in runs))
    assert fidelity.problems(ladder) == []


def test_more_devices_than_there_are_is_one_line_at_filing(ladder, make_seat, edit) -> None:
    seat = make_seat()
    files.replace_json(ladder.org_file, {"devices_spec": "cpu:1"})
    edit(seat, "MATRIX_LR = 0.02", "MATRIX_LR = 0.04")
    with pytest.raises(BadInput, match=r"pair holds 2 devices and this org has 1 \(cpu0\); what fits: tiny"):
        gate.submit(ladder, seat, "why", scale="pair")


def test_a_scale_that_the_charter_has_no_longer_is_one_line(ladder) -> None:
    with pytest.raises(BadInput, match="scale gone is no longer in the charter; it has "):
        gate.check_devices(ladder, charters.load(ladder), "gone")


def test_a_gang_of_an_org_that_shrank_gets_a_verdict(ladder, make_seat, edit) -> None:
    seat = make_seat()
    edit(seat, "MATRIX_LR = 0.02", "MATRIX_LR = 0.04")
    ladder.charter.write_text(ladder.charter.read_text().replace("scale: tiny", "scale: pair"))
    contract = gate.submit(ladder, seat, "why")
    files.replace_json(ladder.org_file, {"devices_spec": "cpu:1"})
    verdict = follow.drive(ladder, contract.experiment, lambda line: None, poll_s=0.05)
    assert verdict.outcome == "lost" and "2 devices" in verdict.reasons[0]


def training_gang(home, make_seat, edit, seconds: float = 300.0):
    """(dispatcher, runner's pid): a run of two devices that trains."""
    path = home.root / "code" / "train.py"
    path.write_text(path.read_text().replace("SLEEP_S = 0.0", f"SLEEP_S = {seconds}"))
    home.charter.write_text(home.charter.read_text().replace("scale: tiny", "scale: pair"))
    seat = make_seat()
    edit(seat, "MATRIX_LR = 0.02", "MATRIX_LR = 0.04")
    gate.submit(home, seat, "why")
    dispatcher = dispatch.Dispatcher(home)
    dispatcher.tick()
    status = home.run("E0000/baseline-s1") / "status.json"
    wait_for(lambda: (files.read_json(status) or {}).get("phase") == "train" and len(marked(home)) >= 2)
    return dispatcher, files.read_json(status)["pid"]


def marked(home) -> list[int]:
    return [pid for name in ("cpu0", "cpu1") for pid in process.find_marked(home.lease_marker(name))]


@pytest.mark.slow
@pytest.mark.parametrize("victim", ["runner", "guard", "both"])
def test_killing_either_frees_every_device_and_the_run_is_repeated(ladder, make_seat, edit, victim) -> None:
    dispatcher, pid = training_gang(ladder, make_seat, edit)
    keeper = next(p for p in process.descendants(pid) if p in process.open_holders(ladder.lease("cpu1")))
    assert keeper in process.open_holders(ladder.lease("cpu0")), "the guard holds all of them"
    assert [row["run"] for row in follow.device_table(ladder, devices.in_force(ladder))] == ["E0000/baseline-s1"] * 2
    for each in {"runner": [pid], "guard": [keeper], "both": [keeper, pid]}[victim]:
        os.kill(each, signal.SIGKILL)
    wait_for(lambda: all(devices.holder(ladder.lease(name)) is None for name in ("cpu0", "cpu1")))
    wait_for(lambda: not dispatcher.running())  # a runner whose guard was killed writes down that its run is lost
    if victim != "both":
        wait_for(lambda: not marked(ladder))
    said: list[str] = []
    wait_for(lambda: said.extend(dispatcher.tick()) or "E0000/baseline-s1-r2 started on cpu0+cpu1" in said)
    assert len([r for r in ledger.read(ladder).results.values() if r.status == "lost"]) == 1
    for left in process.open_holders(ladder.run("E0000/baseline-s1-r2") / "lock"):
        os.kill(left, signal.SIGTERM)
    wait_for(lambda: not dispatcher.running() and not marked(ladder))


@pytest.mark.slow
@pytest.mark.parametrize("point", ["dispatch.spawn", "runner.start", "runner.launched", "runner.guarded"])
def test_a_kill_while_a_gang_starts_leaves_no_device_held(ladder, make_seat, edit, point) -> None:
    ladder.charter.write_text(ladder.charter.read_text().replace("scale: tiny", "scale: pair"))
    seat = make_seat()
    edit(seat, "MATRIX_LR = 0.02", "MATRIX_LR = 0.04")
    contract = gate.submit(ladder, seat, "why")
    assert run(TICK, ladder, point=point) == (-signal.SIGKILL if point.startswith("dispatch") else 0)
    wait_for(lambda: all(devices.holder(ladder.lease(name)) is None for name in ("cpu0", "cpu1")))
    verdict = follow.drive(ladder, contract.experiment, lambda line: None, poll_s=0.05)
    assert verdict.outcome == "win"
    rows = ledger.read(ladder)
    assert len({(r.tree, r.seed) for r in rows.results.values() if r.status == "ok"}) == len(
        [r for r in rows.results.values() if r.status == "ok"]
    )


def test_survivors_are_found_by_any_device_of_the_gang(ladder) -> None:
    env = dict(ladder.lease_marker(name).split("=", 1) for name in ("cpu0", "cpu1"))
    with subprocess.Popen(["sleep", "600"], env={**os.environ, **env}) as left:
        try:
            assert all(process.find_marked(ladder.lease_marker(name)) == [left.pid] for name in ("cpu0", "cpu1"))
        finally:
            left.kill()
