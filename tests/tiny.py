"""A tiny home: a whole one, whose trainer takes 50 ms and needs nothing but Python."""

from __future__ import annotations

import textwrap
from pathlib import Path

from org.home import Home
from org.records import Seat

TINY_TRAIN = '''\
"""A stand-in for a trainer: val_bpb is a smooth function of two constants plus the noise of a seed."""
import argparse, json, math, os, pathlib, random, time  # noqa: E401

MATRIX_LR = 0.02  # best at 0.04
WARMDOWN_FRAC = 0.0  # best at 0.5
SLEEP_S = 0.0  # how long a run takes

flags = argparse.ArgumentParser()
flags.add_argument("--seed", type=int, default=int(os.environ.get("RUN_SEED", "1")))
flags.add_argument("--steps", type=int, default=int(os.environ.get("RUN_STEPS", "10")))
flags.add_argument("--out", type=pathlib.Path, default=pathlib.Path(os.environ.get("RUN_OUT", "out")))
flags = flags.parse_args()

started = time.monotonic()
time.sleep(SLEEP_S)
noise = random.Random(flags.seed).gauss(0, 0.003) + random.Random(f"{flags.seed} {MATRIX_LR} {WARMDOWN_FRAC}").gauss(0, 0.003)
val_bpb = 1.5 + 0.08 * math.log2(MATRIX_LR / 0.04) ** 2 + 0.3 * (WARMDOWN_FRAC - 0.5) ** 2 + noise
for step in range(flags.steps):
    print(f"step {step} loss {val_bpb + 2 / (step + 1):.4f}", flush=True)
flags.out.mkdir(parents=True, exist_ok=True)
(flags.out / "checkpoint.json").write_text(json.dumps({"val_bpb": val_bpb}))
print("---")
print(f"val_bpb: {val_bpb:.6f}")
print(f"steps: {flags.steps}")
print(f"tokens: {flags.steps * 1024}")
print("params: 1000")
print(f"train_s: {time.monotonic() - started:.3f}")
'''

TINY_CHARTER = """\
task: Lower val_bpb of a tiny trainer.
code: code
command: python train.py --seed {seed} --out {out} --steps {steps}
metric: {name: val_bpb, direction: lower}
editable: [train.py]
frozen: [README.md]
scale: tiny
scales:
  tiny: {steps: 10, bank: 3, deadline_s: 30}
matched: tokens
margin: 0.005
programs:
  optimizer: the learning rate
  schedule: how it moves over the run
knobs:
  matrix_lr: {path: train.py, group: optimizer, low: 0.005, high: 0.16, log: true}
  warmdown_frac: {path: train.py, group: schedule, low: 0.0, high: 0.9}
"""

# what `status --json` says of a seat: people script against it
STATUS_SEAT = (
    "name", "role", "backend", "program", "branch", "worktree", "device", "pane", "state", "held", "experiment",
    "mail_waiting", "usage",
)  # fmt: skip

TINY_ROLES = {
    "chief": "# Chief\n\nYou split the work into programs and assign the juniors by mail.\n",
    "junior": "# Junior\n\nYou run one experiment after another on your program.\n",
}
TINY_ORG = """\
about: a chief and its juniors
seats:
  - {role: chief, count: 1, name: chief}
  - {role: junior, count: 2, names: "j{n}"}
"""


def make_tiny_home(root: Path, charter: str = TINY_CHARTER, train: str = TINY_TRAIN) -> Home:
    """A complete home at `root`: charter, org folder, code; comms/ and worktrees/ exist and are empty."""
    home = Home(root.resolve())
    folder = home.org_folder("chief-juniors")
    (folder / "roles").mkdir(parents=True)
    (folder / "processes").mkdir()
    (folder / "org.yaml").write_text(TINY_ORG)
    for role, page in TINY_ROLES.items():
        (folder / "roles" / f"{role}.md").write_text(page)
    home.charter.write_text(textwrap.dedent(charter))
    code = home.root / "code"
    code.mkdir()
    (code / "train.py").write_text(train)
    (code / "README.md").write_text("The code under study.\n")
    home.comms.mkdir()
    home.worktrees.mkdir()
    return home


def replace_in_trainer(seat: Seat, old: str, new: str) -> None:
    """An edit in the seat's train.py, as its agent would make it; one that finds nothing is the test's own mistake."""
    path = Path(seat.worktree) / "train.py"
    text = path.read_text()
    assert old in text, f"{old!r} is not in {path}"
    path.write_text(text.replace(old, new))
