"""Scores one trained checkpoint in a process of its own: `python -m org.lab.referee HOME RUN` prints one JSON line.

The model runs in a child with the candidate's code; cross-entropy, byte counts, batch shape and split are the org's.
The softmax is taken here, so any output is a normalised distribution; the targets are never given, but inputs hold them
shifted by one, hence the probes: the same prefix with another row's suffix, in another batch of another process, must give
the same logits. A model that looks ahead, at its neighbours or back at what it was asked before, does not.
Splits lie under comms/referee/, made once by the base commit's frozen code; no trainer reads there.
"""

from __future__ import annotations

import json
import math
import mmap
import os
import random
import shlex
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NoReturn, Self

from org import files
from org.errors import OrgError
from org.failpoint import failpoint
from org.home import Home
from org.lab import guard, logits, runner
from org.records import Charter, RefereeSpec, RunSpec
from org.world import git, process

SPLITS_DEADLINE_S = 1800.0
PROBE_BATCHES = 16
NEAR, FAR = 4, 12  # positions compared: the last before the cut, and some of the rest
TOLERANCE = 1e-3  # of a logit: the arithmetic of another batch order stays far below, a leak far above


class CannotScore(OrgError):
    """The checkpoint cannot be scored; the message says why in one line."""


class ModelKilled(OrgError):
    """A signal ended the model's process."""


def main(argv: list[str]) -> int:
    home = Home(Path(argv[0]))
    folder = home.run(argv[1])
    spec = RunSpec.from_dict(files.read_json(folder / "spec.json"))
    assert spec.referee is not None
    rules = RefereeSpec.from_dict(spec.referee)
    process.set_subreaper()
    failpoint("referee.start")
    try:
        score = _score(home, folder, spec, rules)
    except CannotScore as error:
        score = {"status": "invalid", "reason": files.printable(str(error), 300)}
    except ModelKilled as error:
        # see runner.is_base: the org cannot tell who killed it, and repeats only what gains nothing by it
        lost = {"status": "lost", "reason": runner.KILLED.format("model")}
        score = lost if runner.is_base(spec) else {"status": "crash", "reason": str(error)}
    failpoint("referee.scored")
    print(json.dumps(score))
    return 0


def ensure_splits(home: Home, charter: Charter, base: str) -> None:
    """Build the validation and hidden splits with the base commit's own frozen code, once."""
    if charter.referee is None or (home.referee_data / "meta.json").is_file():
        return
    with files.locked(home.leases / "referee"):
        if (home.referee_data / "meta.json").is_file():
            return
        for left in home.comms.glob(f"{home.referee_data.name}.*"):
            shutil.rmtree(left, ignore_errors=True)  # of a maker that was killed
        made = Path(tempfile.mkdtemp(dir=home.comms, prefix=f"{home.referee_data.name}."))
        work, splits = made / "work", made / "splits"
        git.export(home.record, base, work)
        command = [
            sys.executable if part in ("python", "python3") else part.replace("{dir}", str(splits))
            for part in shlex.split(charter.referee.splits)
        ]
        done = guard.once(command, dict(os.environ), work, made / "log.txt", SPLITS_DEADLINE_S)
        failpoint("referee.splits")
        is_made = done.returncode == 0 and (splits / "meta.json").is_file()
        if is_made:
            shutil.rmtree(home.referee_data, ignore_errors=True)
            splits.rename(home.referee_data)
        shutil.rmtree(made, ignore_errors=True)
        if not is_made:
            last = "not done in time" if done.timed_out else done.last_line() or "no output"
            raise OrgError(
                f"the referee's splits could not be made: {files.printable(last, 200)}; "
                f"run `{charter.referee.splits}` by hand"
            )


def _score(home: Home, folder: Path, spec: RunSpec, rules: RefereeSpec) -> dict[str, Any]:
    """Both passes over the held-out rows. Everything is read from disk before the candidate's code begins."""
    import numpy as np

    meta = files.read_json(home.referee_data / "meta.json")
    vocab = int(meta["vocab_size"])
    with (
        _Child(home, folder, spec, rules, vocab, "scoring") as scorer,
        _Child(home, folder, spec, rules, vocab, "probes") as prober,
    ):
        byte_counts = np.fromfile(home.referee_data / "token_bytes.bin", dtype=np.uint16)
        splits = ["val", "hidden"] if spec.stage in ("verify", "promote") else ["val"]
        windows = {name: _windows(np, home.referee_data / f"{name}.bin", spec.eval_tokens, rules) for name in splits}
        rows = _Rows(
            inputs=np.concatenate([windows[name][0] for name in splits]),
            targets=np.concatenate([windows[name][1] for name in splits]),
            split=[name for name in splits for _ in windows[name][0]],
        )
        probes = _probes(np, rows.inputs, rules.rows, random.SystemRandom())
        prober.load()
        asked = list(_batches(probes, rules.rows))
        for batch, scores in zip(asked, prober.scores(np.stack([p.tokens for p in b]) for b in asked), strict=True):
            for number, probe in enumerate(batch):
                probe.logits = prober.memory.at(scores, number, probe.positions)
        prober.end(spare=scorer)
        failpoint("referee.probed")
        scorer.load()
        found, worst = _bits_per_byte(np, scorer, rows, byte_counts, probes, spec.seed)
    if not all(math.isfinite(value) for value in found.values()):
        return {"status": "crash", "reason": "logits are not finite"}
    if worst > TOLERANCE:
        raise CannotScore(
            f"logits depend on later tokens, other rows or earlier batches: one prefix was read as two, {worst:.3g} apart"
        )
    return {
        "status": "ok",
        "trust": "referee",
        "metric": found["val"],
        "hidden": found.get("hidden"),
        "probes": {
            "causality": worst,
            "rows": len(probes),
            "eval_tokens": int(windows["val"][0].size),
            "logits": scorer.memory.where,
        },
    }


@dataclass
class _Rows:
    """Held-out rows: inputs and targets (n, seq_len) int64, and the split of each."""

    inputs: Any
    targets: Any
    split: list[str]


@dataclass
class _Probe:
    """A held-out row with another row's suffix from `cut` on. Its logits before the cut have to be those of the row."""

    row: int
    tokens: Any  # (seq_len,) int64
    positions: Any  # those before the cut that are compared
    logits: Any = None  # (positions, vocab), of the first child


def _windows(np: Any, path: Path, tokens: int, rules: RefereeSpec) -> tuple[Any, Any]:
    """Inputs and targets of the split's first `tokens` tokens, each (rows, seq_len) int64, whole batches only."""
    batch = rules.rows * rules.seq_len
    data = np.fromfile(path, dtype=np.uint16, count=tokens + 1).astype(np.int64)
    batches = (len(data) - 1) // batch
    if batches < 1:
        raise OrgError(f"{path} holds {len(data)} tokens, fewer than one batch of {batch}; use a larger corpus")
    shape = (batches * rules.rows, rules.seq_len)
    return data[: batches * batch].reshape(shape), data[1 : batches * batch + 1].reshape(shape)


def _probes(np: Any, inputs: Any, rows: int, dice: random.Random) -> list[_Probe]:
    """Probes in whole batches. Every position is just before a cut in one of them where there is room for it: a model
    that looks ahead at a few positions only is caught there."""
    count, seq_len = inputs.shape
    batches = min(PROBE_BATCHES, -(-(seq_len - 1) // rows))
    cuts = list(range(1, seq_len))
    dice.shuffle(cuts)
    found = []
    for number in range(batches * rows):
        row, cut = dice.randrange(count), cuts[number % len(cuts)]
        others = [dice.randrange(count) for _ in range(8)]
        other = next((o for o in others if inputs[o, cut] != inputs[row, cut]), others[0])
        near = set(range(max(0, cut - NEAR), cut))
        far = {dice.randrange(cut) for _ in range(FAR)}
        tokens = np.concatenate([inputs[row, :cut], inputs[other, cut:]])
        found.append(_Probe(row, tokens, np.array(sorted(near | far))))
    return found


def _batches(items: Sequence[Any], size: int) -> Iterator[Sequence[Any]]:
    for start in range(0, len(items), size):
        yield items[start : start + size]


def _bits_per_byte(
    np: Any, child: _Child, rows: _Rows, byte_counts: Any, probes: list[_Probe], seed: int
) -> tuple[dict[str, float], float]:
    """{split: total nats / (ln 2 * total bytes)}, tokens of no bytes (specials) masked out; and how far the probes' logits
    are from the rows'. Rows come shuffled: what precedes a row in the text does not precede it here."""
    order = list(range(len(rows.split)))
    random.Random(seed).shuffle(order)
    by_row: dict[int, list[_Probe]] = {}
    for probe in probes:
        by_row.setdefault(probe.row, []).append(probe)
    nats: dict[str, list[float]] = {}
    total_bytes: dict[str, int] = {}
    worst = 0.0
    asked = list(_batches(order, child.rows))
    for batch, scores in zip(asked, child.scores(rows.inputs[b] for b in asked), strict=True):
        losses = child.memory.losses(scores, rows.targets[batch])
        for number, row in enumerate(batch):
            for probe in by_row.get(row, ()):
                worst = max(worst, _distance(np, child.memory.at(scores, number, probe.positions), probe.logits))
            counts = byte_counts[rows.targets[row]]
            split = rows.split[row]
            nats.setdefault(split, []).append(float(losses[number][counts > 0].sum()))
            total_bytes[split] = total_bytes.get(split, 0) + int(counts.sum())
    return {
        split: math.fsum(sorted(parts)) / (math.log(2) * total_bytes[split]) for split, parts in nats.items()
    }, worst


def _distance(np: Any, a: Any, b: Any) -> float:
    """Largest difference; equal infinities (a masked token) and two NaN (a crash of its own) are none."""
    same = (a == b) | (np.isnan(a) & np.isnan(b))
    with np.errstate(invalid="ignore"):
        apart = np.where(same, 0.0, np.abs(a - b))
    return float(np.nan_to_num(apart, nan=math.inf, posinf=math.inf).max())


class _Child:
    """A fresh process of the model behind walls of its own, and the memory shared with it. It sees the commit, the
    checkpoint and what it is asked; what it writes is gone when it ends.

    It starts by importing what takes long and is not the candidate's; the candidate's code begins at `load`. So the
    second starts beside the first, and never runs a line of the candidate's while the first lives: two that met could tell
    each other which rows are probes."""

    PATIENCE_S = 10.0  # with one that said what it should not

    def __init__(self, home: Home, folder: Path, spec: RunSpec, rules: RefereeSpec, vocab: int, name: str) -> None:
        self.vocab, self.rows = vocab, rules.rows
        self._shape = (rules.rows, rules.seq_len, vocab)
        self._home, self._folder, self._spec, self._rules = home, folder, spec, rules
        self._private = folder / "private" / name

    def __enter__(self) -> Self:
        self.memory: logits.Logits = logits.memory(self._shape, self._spec.device)
        self._start()
        return self

    def load(self) -> None:
        if self._answer() != b"m":
            if self.memory.where == "host":
                self._fail()
            self._kill()
            # none of the candidate's code ran yet: what failed is the sharing, and the host's memory always works
            self.memory = logits.HostLogits(self._shape)
            self._start()
            self._expect(b"m")
        self._ask(b"g")
        self._expect(b"r")

    def _start(self) -> None:
        import numpy as np

        rows, seq_len, vocab = self._shape
        handle = os.memfd_create("org-tokens")
        os.ftruncate(handle, rows * seq_len * 8)
        self._tokens = np.frombuffer(mmap.mmap(handle, 0), dtype=np.int64).reshape(rows, seq_len)
        ours, theirs = socket.socketpair()
        checkpoint, work = self._folder / "out" / "checkpoint", self._folder / "scored"
        program = Path(__file__).with_name("model_child.py")
        words = [program, self._rules.loader, checkpoint, rows, seq_len, vocab]
        environment = {name: value for name, value in self._spec.env.items() if not name.startswith("RUN_")}
        environment |= runner.private_environment(self._spec.env, self._private)
        walls = runner.walls_of(self._home, self._spec, read=[work, checkpoint, program], write=[self._private])
        self._log = (self._folder / "model.txt").open("ab")
        passed = (handle, *self.memory.handles, theirs.fileno())
        self._process = subprocess.Popen(
            [sys.executable, *map(str, [*words, handle, self.memory.argument, theirs.fileno()])],
            cwd=work,
            env=environment,
            stdin=subprocess.DEVNULL,
            stdout=self._log,
            stderr=self._log,
            pass_fds=passed,
            preexec_fn=walls.enter,  # noqa: PLW1509 - one thread here
        )
        theirs.close()
        for descriptor in passed[:-1]:
            os.close(descriptor)
        self._control = ours

    def scores(self, batches: Iterable[Any]) -> Iterator[Any]:
        """Each (rows, seq_len) int64 -> a snapshot of its logits (rows, seq_len, vocab); `memory` takes losses and rows
        from it. The model is at the next batch while the caller is at this one."""
        snapshot = None
        for tokens in batches:
            self._tokens[:] = tokens
            self._ask(b"b")
            failpoint("referee.asked")
            if snapshot is not None:
                yield snapshot
            self._expect(b"d")
            snapshot = self.memory.snapshot()
        if snapshot is not None:
            yield snapshot

    def _ask(self, word: bytes) -> None:
        try:
            self._control.sendall(word)
        except OSError:
            pass  # it ended meanwhile; what it answers now says how

    def _expect(self, answer: bytes) -> None:
        if self._answer() != answer:
            self._fail()

    def _answer(self) -> bytes:
        try:
            return self._control.recv(1)
        except OSError:
            return b""  # reset: it ended with a batch unread

    def _fail(self) -> NoReturn:
        try:
            ended = self._process.wait(timeout=self.PATIENCE_S)
        except subprocess.TimeoutExpired:
            raise CannotScore("the model closed its channel and lives on") from None
        if ended < 0:
            name = signal.Signals(ended * -1).name
            raise ModelKilled(f"the model was ended by {name} while it was scored; was there memory enough?")
        lines = (self._folder / "model.txt").read_text(errors="replace").strip().splitlines()
        raise CannotScore(f"the checkpoint does not load and run: {lines[-1] if lines else 'no output'}")

    def end(self, spare: _Child | None = None) -> None:
        """End it, and whatever it started: this process is subreaper of all of it. `spare` has not been loaded yet."""
        self._kill()
        process.end_tree(os.getpid(), grace_s=0.0, spare=spare._process.pid if spare else None)
        shutil.rmtree(self._private, ignore_errors=True)

    def _kill(self) -> None:
        self._control.close()
        self._process.kill()
        self._process.wait()
        self._log.close()

    def __exit__(self, *_: object) -> None:
        self.end()


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
