"""The fixture repository of the trap suite: a bigram model in numpy that the referee scores, a run of it in a fraction of a second."""

from __future__ import annotations

from pathlib import Path

from org.home import Home

TRAIN = '''\
"""Counts pairs of tokens. val_bpb falls with the right smoothing."""
import argparse
import json
import os
import pathlib
import time

import numpy as np

import data

# Pseudo-counts of every pair. 0.05-20.
SMOOTHING = 8.0  # far too much: 0.5 is best
# Tokens of a crop. 16-64.
SEQ_LEN = 32
# Weight of the newest pairs. 1.0 weighs all alike.
DECAY = 1.0


def update(counts, x, y):
    """Add the pairs of one batch."""
    # the clamp keeps a rare pair from being forgotten
    counts *= max(DECAY, 0.5)
    np.add.at(counts, (x.ravel(), y.ravel()), 1.0)  # (V, V)


def normalise(counts):
    """Log-probabilities of the next token, (V, V)."""
    smooth = counts + SMOOTHING
    return np.log(smooth / smooth.sum(axis=1, keepdims=True))


class Model:
    """Tokens (B, T) to logits (B, T, V)."""

    def __init__(self, table):
        self.table = table

    def forward(self, tokens):
        return self.table[tokens]

    def __call__(self, tokens):
        return self.forward(tokens)


def load(folder):
    """The model that a run left behind."""
    return Model(np.load(pathlib.Path(folder) / "table.npy"))


def main():
    """Train, save, print the summary."""
    flags = argparse.ArgumentParser()
    flags.add_argument("--seed", type=int, default=1)
    flags.add_argument("--steps", type=int, default=10)
    flags.add_argument("--out", type=pathlib.Path, default=pathlib.Path("out"))
    args = flags.parse_args()
    started = time.perf_counter()
    tokens = data.load("train")
    counts = np.zeros((data.VOCAB, data.VOCAB))
    rows = 256 // SEQ_LEN
    for step in range(args.steps):
        x, y = data.batch(tokens, args.seed, step, rows, SEQ_LEN)
        update(counts, x, y)
    table = normalise(counts)
    folder = args.out / "checkpoint"
    folder.mkdir(parents=True, exist_ok=True)
    np.save(folder / "table.npy", table.astype(np.float32))
    val_bpb = data.score(table)
    train_s = time.perf_counter() - started
    print("---")
    print(f"val_bpb: {val_bpb:.6f}")
    print(f"steps: {args.steps}")
    print(f"tokens: {args.steps * rows * SEQ_LEN}")
    print(f"params: {table.size}")
    print(f"flops_total: {6 * table.size * args.steps * rows * SEQ_LEN}")
    print(f"train_s: {train_s:.4f}")


if __name__ == "__main__":
    main()
'''

DATA = '''\
"""The text, the batches and the score. Frozen."""
import json
import os
import pathlib
import sys

import numpy as np

VOCAB = 24


def text(split, n):
    """Tokens of one split: a chain of its own random state over shared transitions."""
    rng = np.random.default_rng(7)
    table = rng.dirichlet(np.full(VOCAB, 0.12), VOCAB).cumsum(axis=1)
    rng = np.random.default_rng({"train": 1, "val": 2, "hidden": 3}[split])
    draws, tokens, at = rng.random(n), np.empty(n, dtype=np.uint16), 0
    for i in range(n):
        at = min(int(np.searchsorted(table[at], draws[i])), VOCAB - 1)
        tokens[i] = at
    return tokens


def cache():
    return pathlib.Path(os.environ.get("XDG_CACHE_HOME") or pathlib.Path.home() / ".cache") / "tinytext"


def load(split):
    """Tokens of train or val, from the cache; made on the first call."""
    path = cache() / f"{split}.bin"
    if not path.exists():
        path.parent.mkdir(parents=True, exist_ok=True)
        temporary = path.with_name(f".{split}-{os.getpid()}")
        text(split, 20_000 if split == "train" else 4_097).tofile(temporary)
        temporary.rename(path)
    return np.fromfile(path, dtype=np.uint16)


def batch(tokens, seed, step, rows, seq_len):
    """x, y (rows, seq_len): crops that are a function of seed and step."""
    rng = np.random.default_rng([seed, step])
    starts = rng.integers(0, len(tokens) - seq_len - 1, rows)
    crops = tokens[starts[:, None] + np.arange(seq_len + 1)].astype(np.int64)
    return crops[:, :-1], crops[:, 1:]


def score(table):
    """Bits per token of a table on val; a token is a byte."""
    val = load("val").astype(np.int64)
    return float(-table[val[:-1], val[1:]].mean() / np.log(2))


if __name__ == "__main__":
    folder = pathlib.Path(sys.argv[sys.argv.index("--referee") + 1])
    folder.mkdir(parents=True, exist_ok=True)
    for split in ("val", "hidden"):
        text(split, 4_097).tofile(folder / f"{split}.bin")
    np.ones(VOCAB, dtype=np.uint16).tofile(folder / "token_bytes.bin")
    (folder / "meta.json").write_text(json.dumps({"vocab_size": VOCAB}))
'''

# Another editable file of the tree, imported by nothing: what a trap may use to reach the trainer from outside.
EXTRA = '''\
"""Parts that an idea may add."""

WIDTH = 4


def twice(x):
    """x, two times."""
    return x + x
'''

CHARTER = """\
task: Lower val_bpb of a table of pairs.
code: code
command: python train.py --seed {seed} --out {out} --steps {steps}
metric: {name: val_bpb, direction: lower}
editable: [train.py, parts/*.py]
frozen: [data.py, README.md, requirements.txt, tests/*.py]
scale: tiny
scales:
  tiny: {steps: 16, bank: 3, deadline_s: 6, eval_tokens: 2048}
matched: tokens
margin: 0.02
REFEREE
knobs:
  smoothing: {path: train.py, low: 0.05, high: 20.0, log: true}
  seq_len: {path: train.py, choices: [16, 32, 64]}
  decay: {path: train.py, low: 0.5, high: 1.0}
"""
REFEREE = """\
referee:
  loader: train:load
  splits: python data.py --referee {dir}
  seq_len: 32
  rows: 8"""

INTENTS = """\
- id: causal
  path: train.py
  anchor: Model.forward
  why: The output at t may depend on tokens up to t alone.
  status: settled
- id: clamp
  path: train.py
  anchor: counts *= max(DECAY, 0.5)
  why: A rare pair must not be forgotten.
- id: normalised
  path: train.py
  anchor: normalise
  why: The table holds log-probabilities.
"""

FILES = {
    "train.py": TRAIN,
    "data.py": DATA,
    "parts/extra.py": EXTRA,
    "README.md": "The code under study.\n",
    "requirements.txt": "numpy\n",
    "tests/test_train.py": "def test_nothing():\n    assert True\n",
}


def make_home(root: Path, scored: bool = True, charter: str = CHARTER) -> Home:
    """A home at `root` with the fixture repository; not `scored`: the printed summary is believed."""
    home = Home(root.resolve())
    home.prompts.mkdir(parents=True)
    home.charter.write_text(charter.replace("REFEREE\n", REFEREE + "\n" if scored else ""))
    home.intents.write_text(INTENTS)
    for name, text in FILES.items():
        path = home.root / "code" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    home.comms.mkdir()
    home.worktrees.mkdir()
    return home
