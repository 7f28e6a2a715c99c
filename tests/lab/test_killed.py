"""A SIGKILL of the code under study, which nobody can tell from one it gave itself: a crash of a candidate, a loss of the org
when it is the base's. Real processes, a real referee."""

from __future__ import annotations

from pathlib import Path

import pytest
from traps import play, small

from org.lab import dispatch, follow, gate, ledger
from org.records import RunResult

pytestmark = pytest.mark.slow  # runs with a referee each

KILL = "os.kill(os.getpid(), 9)"
TRAIN = ("    table = normalise(counts)\n    folder", f"    table = normalise(counts)\n    {KILL}\n    folder")
LOAD = ("    return Model(np.load", f"    {KILL}\n    return Model(np.load")
FIRST = ("        return self.table[tokens]", f"        {KILL}\n        return self.table[tokens]")
# after an answer, before the next question
BETWEEN = (
    "        return self.table[tokens]",
    "        import threading\n        threading.Timer(0.0, os.kill, (os.getpid(), 9)).start()\n        return self.table[tokens]",
)
CLOSES = (
    "        return self.table[tokens]",
    "        os.closerange(3, 99)\n        time.sleep(60)\n        return self.table[tokens]",
)


def scored(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, edit: tuple[str, str], base: bool) -> list[RunResult]:
    """The first runs of an experiment with the edit, or of a base with it."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    home = small.make_home(tmp_path / "home")
    path = home.root / "code" / "train.py"
    if base:
        assert edit[0] in path.read_text()
        path.write_text(path.read_text().replace(*edit))
        dispatcher = dispatch.Dispatcher(home)
        while not dispatcher.ledger.refresh().results:
            dispatcher.tick()
        while dispatcher.running():
            pass
        return list(ledger.read(home).results.values())
    dispatch.Dispatcher(home)._prepare(play.charters.load(home))
    seat = play.make_seat(home)
    path = Path(seat.worktree) / "train.py"
    assert edit[0] in path.read_text()
    path.write_text(path.read_text().replace(*edit))
    filed = gate.submit(home, seat, "an idea", cites=("causal",))
    verdict = follow.drive(home, filed.experiment, lambda line: None, poll_s=0.02)
    found = [r for r in ledger.read(home).results.values() if r.experiment == filed.experiment]
    assert verdict.outcome == {"crash": "crash", "invalid": "invalid"}[found[0].status]
    assert len(found) == 1, "it was asked again"
    return found


@pytest.mark.parametrize("edit", [TRAIN, LOAD, FIRST, BETWEEN], ids=["trainer", "loading", "scoring", "between"])
@pytest.mark.parametrize(("base", "status"), [(False, "crash"), (True, "lost")])
def test_code_that_is_killed(tmp_path, monkeypatch, edit, base, status) -> None:
    results = scored(tmp_path, monkeypatch, edit, base)
    assert results and {r.status for r in results} == {status}
    assert all("killed" in r.reason or "SIGKILL" in r.reason or "exit -9" in r.reason for r in results)


def test_a_model_that_closes_its_channel_and_waits_is_the_candidates_fault(tmp_path, monkeypatch) -> None:
    [result] = scored(tmp_path, monkeypatch, CLOSES, base=False)
    assert (result.status, "closed its channel" in result.reason) == ("invalid", True)
