"""Scores one trained checkpoint in a process of its own: `python -m org.lab.referee HOME RUN` prints one JSON line.

The model runs in a child with the candidate's code; cross-entropy, byte counts, batch shape and split are the org's.
The softmax is taken here, so any output is a normalised distribution; the targets are never given, but inputs hold them
shifted by one, hence the causality probe: the same prefix with another document's suffix must give the same logits.
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
import socket
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any, Self

from org import files
from org.errors import OrgError
from org.home import Home
from org.records import Charter, RefereeSpec, RunSpec
from org.world import git

PROBES = 2
TOLERANCE = 1e-3  # of a logit: the arithmetic of another batch order stays far below, a leak far above


class CannotScore(OrgError):
    """The checkpoint cannot be scored; the message says why in one line."""


def main(argv: list[str]) -> int:
    home = Home(Path(argv[0]))
    folder = home.run(argv[1])
    spec = RunSpec.from_dict(files.read_json(folder / "spec.json"))
    assert spec.referee is not None
    rules = RefereeSpec.from_dict(spec.referee)
    try:
        score = _score(home, folder, spec, rules)
    except CannotScore as error:
        score = {"status": "invalid", "reason": files.printable(str(error), 300)}
    print(json.dumps(score))
    return 0


def ensure_splits(home: Home, charter: Charter, base: str) -> None:
    """Build the validation and hidden splits with the base commit's own frozen code, once."""
    if charter.referee is None or (home.referee_data / "meta.json").is_file():
        return
    with files.locked(home.leases / "referee"):
        if (home.referee_data / "meta.json").is_file():
            return
        with tempfile.TemporaryDirectory(prefix="org-splits-") as work:
            git.export(home.record, base, Path(work))
            command = [
                sys.executable if part in ("python", "python3") else part.replace("{dir}", str(home.referee_data))
                for part in shlex.split(charter.referee.splits)
            ]
            done = subprocess.run(command, check=False, cwd=work, capture_output=True, text=True, timeout=1800)
        if done.returncode or not (home.referee_data / "meta.json").is_file():
            shutil.rmtree(home.referee_data, ignore_errors=True)
            last = (done.stderr or done.stdout).strip().splitlines()[-1:] or ["no output"]
            raise OrgError(
                f"the referee's splits could not be made: {last[0]:.200}; run `{charter.referee.splits}` by hand"
            )


def _score(home: Home, folder: Path, spec: RunSpec, rules: RefereeSpec) -> dict[str, Any]:
    import numpy as np

    meta = files.read_json(home.referee_data / "meta.json")
    vocab = int(meta["vocab_size"])
    byte_counts = np.fromfile(home.referee_data / "token_bytes.bin", dtype=np.uint16)
    splits = ["val", "hidden"] if spec.stage == "verify" else ["val"]
    windows = {name: _windows(np, home.referee_data / f"{name}.bin", spec.eval_tokens, rules) for name in splits}
    with _Child(folder, rules, vocab) as child:
        worst = _probe(np, child, windows["val"][0], random.SystemRandom())
        if worst > TOLERANCE:
            raise CannotScore(f"logits depend on later tokens: changing the suffix moved the prefix by {worst:.3g}")
        scores = {name: _bits_per_byte(np, child, *windows[name], byte_counts) for name in splits}
    if not all(math.isfinite(value) for value in scores.values()):
        return {"status": "crash", "reason": "logits are not finite"}
    return {
        "status": "ok",
        "trust": "referee",
        "metric": scores["val"],
        "hidden": scores.get("hidden"),
        "probes": {"causality": worst, "eval_tokens": int(windows["val"][0].size)},
    }


def _windows(np: Any, path: Path, tokens: int, rules: RefereeSpec) -> tuple[Any, Any]:
    """Inputs and targets of the split's first `tokens` tokens, each (batches, rows, seq_len) int64."""
    batch = rules.rows * rules.seq_len
    data = np.fromfile(path, dtype=np.uint16, count=tokens + 1).astype(np.int64)
    batches = (len(data) - 1) // batch
    if batches < 1:
        raise OrgError(f"{path} holds {len(data)} tokens, fewer than one batch of {batch}; use a larger corpus")
    shape = (batches, rules.rows, rules.seq_len)
    return data[: batches * batch].reshape(shape), data[1 : batches * batch + 1].reshape(shape)


def _bits_per_byte(np: Any, child: _Child, inputs: Any, targets: Any, byte_counts: Any) -> float:
    """Total nats / (ln 2 * total bytes); tokens of no bytes (specials) are masked out."""
    nats, total_bytes = 0.0, 0
    for x, y in zip(inputs, targets, strict=True):
        logits = child.logits(x).reshape(-1, child.vocab)  # (rows * seq_len, vocab)
        top = logits.max(axis=1, keepdims=True)
        log_sum = np.log(np.exp(logits - top).sum(axis=1, dtype=np.float64)) + top[:, 0]
        y = y.reshape(-1)
        counts = byte_counts[y]
        loss = log_sum - logits[np.arange(len(y)), y]
        nats += float(loss[counts > 0].sum())
        total_bytes += int(counts.sum())
    return nats / (math.log(2) * total_bytes)


def _probe(np: Any, child: _Child, inputs: Any, dice: random.Random) -> float:
    """Largest change of a prefix's logits when the suffix comes from elsewhere. Variants are asked for first, and the
    cut, the batch and which half is the variant are not known to the model."""
    worst = 0.0
    for _ in range(PROBES):
        original = inputs[dice.randrange(len(inputs))]
        other = inputs[dice.randrange(len(inputs))]
        cut = dice.randrange(1, original.shape[1] - 1)
        variant = original.copy()
        variant[:, cut:] = np.roll(other, 1, axis=0)[:, cut:]
        changed = child.logits(variant)[:, :cut]
        plain = child.logits(original)[:, :cut]
        difference = float(np.abs(changed - plain).max())
        worst = max(worst, difference if math.isfinite(difference) else math.inf)
    return worst


class _Child:
    """The model's process and the memory shared with it."""

    def __init__(self, folder: Path, rules: RefereeSpec, vocab: int) -> None:
        self.vocab = vocab
        self._shape = (rules.rows, rules.seq_len, vocab)
        self._folder, self._rules = folder, rules

    def __enter__(self) -> Self:
        import numpy as np

        rows, seq_len, vocab = self._shape
        sizes = {"tokens": rows * seq_len * 8, "logits": rows * seq_len * vocab * 4}
        handles = {}
        for name, size in sizes.items():
            handles[name] = os.memfd_create(f"org-{name}")
            os.ftruncate(handles[name], size)
        self._tokens = np.frombuffer(mmap.mmap(handles["tokens"], 0), dtype=np.int64).reshape(rows, seq_len)
        self._logits = np.frombuffer(mmap.mmap(handles["logits"], 0), dtype=np.float32).reshape(self._shape)
        ours, theirs = socket.socketpair()
        arguments = [self._rules.loader, str(self._folder / "out" / "checkpoint"), rows, seq_len, vocab]
        program = Path(__file__).with_name("model_child.py")
        self._log = (self._folder / "model.txt").open("wb")
        environment = {k: v for k, v in os.environ.items() if k not in ("PYTHONPATH", "ORG_FAILPOINT")}
        self._process = subprocess.Popen(
            [
                sys.executable,
                str(program),
                *map(str, [*arguments, handles["tokens"], handles["logits"], theirs.fileno()]),
            ],
            cwd=self._folder / "work",
            env=environment,
            stdin=subprocess.DEVNULL,
            stdout=self._log,
            stderr=self._log,
            pass_fds=(handles["tokens"], handles["logits"], theirs.fileno()),
        )
        theirs.close()
        for handle in handles.values():
            os.close(handle)
        self._control = ours
        self._expect(b"r")
        return self

    def logits(self, tokens: Any) -> Any:
        """(rows, seq_len) int64 -> (rows, seq_len, vocab) float32, a copy of the referee's own: the child could still
        write to the shared memory while the loss is taken."""
        self._tokens[:] = tokens
        self._control.sendall(b"b")
        self._expect(b"d")
        return self._logits.copy()

    def _expect(self, answer: bytes) -> None:
        if self._control.recv(1) != answer:
            self._process.wait(timeout=30)
            self._log.flush()
            lines = (self._folder / "model.txt").read_text(errors="replace").strip().splitlines()
            raise CannotScore(f"the checkpoint does not load and run: {lines[-1] if lines else 'no output'}")

    def __exit__(self, *_: object) -> None:
        self._control.close()
        self._process.kill()
        self._process.wait()
        self._log.close()


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
