"""One run, one detached process: `python -m org.lab.runner HOME RUN RUN_LOCK_FD LEASE_FD…`. Knows only its run folder.

    spec.json  -> launch line -> export -> guard: trainer -> export again -> guard: referee -> result.json -> result line

The trainer has a home and a scratch folder of its own, gone after the run; where the kernel has walls (`world.confine`) it
sees no held-out split, no other run and no network, and what it writes elsewhere is refused.

The guard is a fork of this process that is subreaper of everything the run starts, holds the locks of all its devices
and has a lifeline to the runner. Runner dead: the guard ends the tree and frees the devices. Guard dead: the runner ends
the tree by the run's environment markers and records the run as lost. Both dead: whoever leases one of the devices next
finds survivors by that device's marker. Agent code never sees a lock's descriptor.
"""

from __future__ import annotations

import contextlib
import functools
import json
import math
import os
import shutil
import signal
import site
import sys
from pathlib import Path
from typing import Any

from org import files, strictyaml
from org.errors import OrgError
from org.failpoint import failpoint
from org.home import Home
from org.lab import guard
from org.lab.ledger import Ledger
from org.records import RunResult, RunSpec
from org.world import confine, git, process

REFEREE_DEADLINE_S = 600.0
STOPPED = "stopped with the org; the run is repeated with the same seed"
KILLED = "the base's {} was killed, for want of memory or from outside; the run is repeated with the same seed"
COUNTS = {"params": "params", "steps": "steps", "tokens": "tokens"}  # key of the summary -> field of the result
AMOUNTS = {"flops_total": "flops", "first_step_s": "first_step_s", "train_s": "train_s", "compile_s": "compile_s"}
FOLDERS = ("work", "out", "private", "scored")  # of a run, while it runs
STATUS = "status.json"  # as long
LARGEST = 1e30  # of any axis; beyond it is nonsense that would spoil a mean


class Stopped(Exception):
    """SIGTERM came: the org is being stopped, and the run with it."""


def _stop(*_: object) -> None:
    signal.signal(signal.SIGTERM, signal.SIG_IGN)  # once is enough, and what follows must not be interrupted
    raise Stopped


def main(argv: list[str]) -> int:
    home, run, lock_fd, leases = Home(Path(argv[0])), argv[1], int(argv[2]), [int(fd) for fd in argv[3:]]
    for descriptor in (lock_fd, *leases):
        os.set_inheritable(descriptor, False)
    folder = home.run(run)
    spec = RunSpec.from_dict(files.read_json(folder / "spec.json"))
    ledger = Ledger(home)
    failpoint("runner.start")
    started = files.utc_now()
    keeper: guard.Guard | None = None
    try:
        signal.signal(signal.SIGTERM, _stop)
        process.set_subreaper()
        launched = {"run": run, "experiment": spec.experiment, "device": spec.device, "seed": spec.seed}
        launched |= {"stage": spec.stage, "spec": files.digest(folder / "spec.json")}
        if ledger.append("launch", f"launch:{run}", launched) is None:
            return 0  # another runner has it, whose folder was taken away with its lock: its result is the one
        failpoint("runner.launched")
        keeper = guard.start(*leases)
        for descriptor in leases:
            os.close(descriptor)  # from here on the guard alone holds the devices
        failpoint("runner.guarded")
        result = _run(home, folder, spec, keeper)
        signal.signal(signal.SIGTERM, signal.SIG_IGN)  # the last lines are short; they are written whole
    except Stopped:
        if keeper is not None:
            keeper.end()
        result = lost(spec, STOPPED)
    except guard.GuardLost:
        # its orphans are this process's children; the marker would also name the run that has the device by now
        process.end_tree(os.getpid(), grace_s=0.0)
        result = lost(spec, "the run's guard was killed; the run is repeated with the same seed")
    except OrgError as error:
        result = lost(spec, str(error))
    log = files.digest(folder / "log.txt")
    result = RunResult(**{**result.to_dict(), "log": log, "started": started, "ended": files.utc_now()})
    failpoint("runner.scored")
    files.replace_json(folder / "result.json", result.to_dict())
    failpoint("runner.result")
    ledger.append("result", f"result:{run}", result.to_dict())
    failpoint("runner.recorded")
    put_away(folder)
    return 0


def put_away(folder: Path) -> None:
    """What a run has only while it runs goes. How it ended says result.json."""
    for made in FOLDERS:
        shutil.rmtree(folder / made, ignore_errors=True)
    with contextlib.suppress(OSError):
        (folder / STATUS).unlink()


def is_put_away(folder: Path) -> bool:
    """Whether a run that ended was put away whole, with no file of a write that did not end."""
    return not any(name in (*FOLDERS, STATUS) or name.startswith(".") for name in os.listdir(folder))  # noqa: PTH208 - one call for each run ever made


def _run(home: Home, folder: Path, spec: RunSpec, keeper: guard.Guard) -> RunResult:
    """Export, train, score. Every way a candidate can fail ends in a RunResult; only the org's own failures raise."""
    work, out, private = folder / "work", folder / "out", folder / "private"
    for made in FOLDERS:
        shutil.rmtree(folder / made, ignore_errors=True)
        (folder / made).mkdir(parents=True)
    _status(folder, "export")
    lay_out(home, spec, work)
    failpoint("runner.laid")
    _status(folder, "train")
    environment = {**spec.env, **private_environment(spec.env, private), "RUN_OUT": str(out)}
    command = [part.replace("{out}", str(out)) for part in spec.command]
    walls = walls_of(home, spec, read=[], write=[work, out, private])
    trained = keeper.ask(command, environment, work, folder / "log.txt", spec.deadline_s, walls).answer()
    failpoint("runner.trained")
    _status(folder, "check")
    facts: dict[str, Any] = {"total_s": trained.wall_s, "vram_mb": trained.peak_mb, "cpu_s": trained.cpu_s}
    facts["probes"] = {"isolation": confine.level()}
    if trained.timed_out:
        return _result(spec, status="timeout", reason=f"passed its deadline of {spec.deadline_s:g} s", **facts)
    if trained.returncode == -signal.SIGKILL and is_base(spec):
        return _result(spec, status="lost", reason=KILLED.format("trainer"), **facts)
    if trained.returncode != 0:
        last = files.printable(trained.last_line(), 200)
        return _result(spec, status="crash", reason=f"exit {trained.returncode}: {last}", **facts)
    summary, problem = read_summary(trained.tail)
    facts |= summary_facts(summary)
    lay_out(home, spec, folder / "scored")  # what is scored was not within the trainer's reach
    why = _rewritten(folder / "scored", work) or _impossible(facts, trained.wall_s)
    if why:
        return _result(spec, status="invalid", reason=why, **facts)
    if spec.referee is None:
        value = summary.get(spec.metric)
        if problem or not isinstance(value, int | float) or isinstance(value, bool):
            why = problem or f"the summary has no number `{spec.metric}:`"
            return _result(spec, status="invalid", reason=why, **facts)
        if not math.isfinite(value):
            return _result(spec, status="crash", reason=f"{spec.metric} is {value}", **facts)
        return _result(spec, status="ok", metric=float(value), trust="reported", **facts)
    _status(folder, "score")
    scored = keeper.ask(
        [sys.executable, "-P", "-m", "org.lab.referee", str(home.root), spec.run],  # -P: the folder is the run's
        {**_own_environment(), **{k: v for k, v in spec.env.items() if k.startswith(("OMP", "MKL", "ORG_", "CUDA"))}},
        folder,
        folder / "referee.txt",
        REFEREE_DEADLINE_S,
    ).answer()
    facts["eval_s"], facts["total_s"] = scored.wall_s, trained.wall_s + scored.wall_s
    if scored.timed_out:
        return _result(spec, status="timeout", reason="scoring passed its deadline", **facts)
    try:
        score = json.loads(scored.last_line())
    except ValueError:
        reason = f"the referee ended without a score: {files.printable(scored.last_line(), 200)}"
        return _result(spec, status="lost", reason=reason, **facts)
    score["probes"] = {**facts["probes"], **score.get("probes", {})}
    return _result(spec, **{**facts, **score})


def lay_out(home: Home, spec: RunSpec, folder: Path) -> None:
    """The commit, and over it the frozen files of the base, whatever the commit says."""
    git.export(home.record, spec.commit, folder)
    for path, data in git.read_files(home.record, spec.frozen_commit, spec.frozen).items():
        target = folder / path
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_bytes(data)


def private_environment(env: dict[str, str], private: Path) -> dict[str, str]:
    """A home and a scratch folder that no other run sees: what one run leaves there is no head start for the next. The
    cache stays where it is; data lies there."""
    for name in ("home", "tmp"):
        (private / name).mkdir(parents=True, exist_ok=True)
    mine = {"HOME": str(private / "home"), "TMPDIR": str(private / "tmp"), "XDG_CACHE_HOME": str(cache_of(env))}
    # packages of the person's own, where there is no virtual environment, are not found by HOME any more
    packages = {"PYTHONUSERBASE": site.getuserbase()} if sys.prefix == sys.base_prefix else {"PYTHONNOUSERSITE": "1"}
    return mine | packages


def is_base(spec: RunSpec) -> bool:
    """Whether the run is of the base itself, code that nobody competes with. From outside, a SIGKILL by the kernel or by a
    person looks as one that the code gave itself: a candidate's is its crash, or it could end its unlucky runs and be
    asked again; the base's is the org's loss."""
    return spec.commit == spec.frozen_commit


def walls_of(home: Home, spec: RunSpec, read: list[Path], write: list[Path]) -> confine.Walls:
    """Of a process that runs the commit's code: the org's own folders are dark but for what is named. The base may also
    write the cache, since the first run builds it; a candidate never does."""
    cache = cache_of(spec.env)
    if is_base(spec) and not cache.exists():
        cache.mkdir(parents=True)
    known = [cache, *programs(), *_named_folders(spec.env)]
    hidden = [home.comms, home.worktrees]
    return confine.walls(hidden, [*known, *read, *write], [*write, *([cache] if is_base(spec) else [])])


def programs() -> list[Path]:
    """The interpreter, its packages and the org's own code: they may themselves lie in a scratch folder."""
    return [Path(sys.prefix), Path(sys.base_prefix), Path(__file__).parents[1]]


def cache_of(env: dict[str, str]) -> Path:
    return Path(env.get("XDG_CACHE_HOME") or Path(env.get("HOME", "/nonexistent")) / ".cache")


def _named_folders(env: dict[str, str]) -> list[Path]:
    """Absolute paths in the environment that the charter lets through: where else a trainer's data may lie."""
    ours = ("HOME", "TMPDIR", "XDG_CACHE_HOME", "PATH", "LD_LIBRARY_PATH")
    return [
        Path(value) for name, value in env.items() if name not in ours and value.startswith("/") and ":" not in value
    ]


def _rewritten(original: Path, work: Path) -> str:
    """Which file of the commit differs in the trainer's folder by now, as a sentence; "" when none does."""
    for path in sorted(p for p in original.rglob("*") if p.is_file()):
        there = work / path.relative_to(original)
        if there.is_symlink() or not there.is_file() or there.read_bytes() != path.read_bytes():
            return f"the run rewrote {path.relative_to(original)}, its own code; write to RUN_OUT instead"
    return ""


def _impossible(facts: dict[str, Any], wall_s: float) -> str:
    """A summary that says more seconds than the org's clock saw."""
    said = sum(facts.get(name, 0.0) for name in ("first_step_s", "train_s"))
    if said <= 1.02 * wall_s + 0.5:
        return ""
    return f"the summary says {said:.4g} s of training and the run lasted {wall_s:.4g} s by the org's clock"


def read_summary(text: str) -> tuple[dict[str, Any], str]:
    """The `key: value` lines after the one line `---`, and what is wrong with them ("" when nothing is)."""
    parts = f"\n{text}".replace("\r", "\n").split("\n---\n")
    if len(parts) < 2:
        return {}, "the log has no summary: print a line `---` and then `key: value` lines"
    if len(parts) > 2:
        return {}, "the log has more than one summary line `---`"
    try:
        value = strictyaml.parse(parts[1][:10_000], "summary")
    except OrgError as error:
        return {}, str(error)
    return (value, "") if isinstance(value, dict) else ({}, "the summary is not `key: value` lines")


def summary_facts(summary: dict[str, Any]) -> dict[str, Any]:
    """The axes a trainer printed, as numbers that cannot spoil a table: finite, not negative, of the right type. What is
    anything else is left out, as if it had not been printed."""
    facts: dict[str, Any] = {}
    for names, kind in ((COUNTS, int), (AMOUNTS, float)):
        for key, name in names.items():
            value = summary.get(key)
            if isinstance(value, int | float) and not isinstance(value, bool) and 0 <= value < LARGEST:
                facts[name] = kind(value)
    if isinstance(summary.get("data_hash"), str):
        facts["data_hash"] = files.printable(summary["data_hash"], 80)
    return facts


def _result(spec: RunSpec, **facts: Any) -> RunResult:
    return RunResult(
        **{
            "run": spec.run,
            "experiment": spec.experiment,
            "arm": spec.arm,
            "seed": spec.seed,
            "stage": spec.stage,
            "commit": spec.commit,
            "tree": spec.tree,
            "scale": spec.scale,
            "device": spec.device,
            "device_kind": spec.device_kind,
            "attempt": spec.attempt,
            "software": spec.software,
            "setting": spec.setting,
            **facts,
        }
    )


def lost(spec: RunSpec, reason: str) -> RunResult:
    """The result of a run that ended without its runner."""
    return _result(spec, status="lost", reason=reason, ended=files.utc_now())


@functools.cache
def software() -> str:
    """What the numbers depend on beside the code: versions of Python and of torch when it is there."""
    from importlib import metadata  # 20 ms, and every verb that reads the queue imports this module

    try:
        torch = f" torch {metadata.version('torch')}"
    except metadata.PackageNotFoundError:
        torch = ""
    return f"python {sys.version_info.major}.{sys.version_info.minor}.{sys.version_info.micro}{torch}"


def _status(folder: Path, phase: str) -> None:
    """Which phase, since when, who. For people and `org status`; nothing is decided by it."""
    me = process.identity(os.getpid())
    files.replace_json(
        folder / STATUS,
        {"phase": phase, "t": files.utc_now(), "pid": os.getpid(), "start_ticks": me.start_ticks if me else None},
    )


def _own_environment() -> dict[str, str]:
    """For the org's own processes: enough to find Python, nothing of a person's secrets."""
    keep = ("PATH", "HOME", "LANG", "TMPDIR", "XDG_CACHE_HOME", "ORG_FAILPOINT")
    return {name: os.environ[name] for name in keep if name in os.environ} | {
        "PYTHONPATH": str(Path(__file__).resolve().parents[2])
    }


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
