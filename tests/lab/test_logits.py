"""The memory that logits come back through: both kinds take the same losses, and the host's stands in for the device's."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from org import files
from org.home import Home
from org.lab import logits, referee, runner
from org.records import RefereeSpec, RunSpec

ROWS, SEQ_LEN, VOCAB = 2, 8, 16
TOY = """\
import torch


class Toy(torch.nn.Module):
    def __init__(self):
        super().__init__()
        self.table = torch.nn.Parameter(torch.arange(256.0).view(16, 16).sin())

    def forward(self, tokens):
        return self.table[tokens]


def load(folder):
    model = Toy()
    return model.cuda() if torch.cuda.is_available() else model
"""


@settings(max_examples=50, deadline=None)
@given(seed=st.integers(0, 2**32 - 1), scale=st.sampled_from([0.1, 10.0, 1000.0]), hole=st.booleans())
def test_host_and_device_take_the_same_losses(seed: int, scale: float, hole: bool) -> None:
    dice = np.random.default_rng(seed)
    scores = (scale * dice.standard_normal((ROWS, SEQ_LEN, VOCAB))).astype(np.float32)
    targets = dice.integers(0, VOCAB, (ROWS, SEQ_LEN))
    if hole:
        scores[0, 0, (targets[0, 0] + 1) % VOCAB] = -np.inf  # a token masked out
    ours = logits.HostLogits.losses(scores, targets)
    theirs = logits.CudaLogits.losses(torch.from_numpy(scores), targets)
    exact = torch.nn.functional.cross_entropy(
        torch.from_numpy(scores).double().flatten(0, 1), torch.from_numpy(targets).flatten(), reduction="none"
    )
    assert ours.dtype == theirs.dtype == np.float64
    np.testing.assert_allclose(ours, theirs, rtol=1e-6, atol=1e-6 * scale)
    np.testing.assert_allclose(ours.ravel(), exact.numpy(), rtol=1e-5, atol=1e-6 * scale)
    positions = np.array([0, 3, 7])
    picked = logits.CudaLogits.at(torch.from_numpy(scores), 1, positions)
    np.testing.assert_array_equal(picked, logits.HostLogits.at(scores, 1, positions))


@pytest.fixture
def run(tiny_home: Home) -> tuple[Home, Path, RunSpec]:
    """A run's folder after training, with a toy of torch in it."""
    folder = tiny_home.run("E0001/candidate-s1")
    (folder / "scored").mkdir(parents=True)
    (folder / "scored" / "toy.py").write_text(TOY)
    (folder / "out" / "checkpoint").mkdir(parents=True)
    spec = RunSpec(
        run="E0001/candidate-s1", experiment="E0001", arm="candidate", seed=1, stage="search", commit="c", tree="t",
        scale="tiny", steps=1, device="cpu0", device_kind="cpu", command=[], env={"PATH": "/usr/bin:/bin"},
        frozen_commit="b", frozen=[], deadline_s=60.0, eval_tokens=64, referee=None, metric="val_bpb",
        created=files.utc_now(), software=runner.software(), setting="s",
    )  # fmt: skip
    return tiny_home, folder, spec


def scores_of(home: Home, folder: Path, spec: RunSpec) -> tuple[str, np.ndarray]:
    rules = RefereeSpec(loader="toy:load", splits="", seq_len=SEQ_LEN, rows=ROWS)
    tokens = np.arange(ROWS * SEQ_LEN).reshape(ROWS, SEQ_LEN) % VOCAB
    with referee._Child(home, folder, spec, rules, VOCAB, "scoring") as child:
        child.load()
        [found] = child.scores([tokens])
        return child.memory.where, np.stack([child.memory.at(found, row, np.arange(SEQ_LEN)) for row in range(ROWS)])


def expected() -> np.ndarray:
    table = torch.arange(256.0).view(16, 16).sin().numpy()
    return table[np.arange(ROWS * SEQ_LEN).reshape(ROWS, SEQ_LEN) % VOCAB]


@pytest.mark.slow
def test_a_device_that_cannot_share_its_memory_is_stood_in_for_by_the_host(run, monkeypatch) -> None:
    class Unshared(logits.HostLogits):
        where = "device"

        def __init__(self, shape: logits.Shape) -> None:
            super().__init__(shape)
            self.argument = "cuda:" + json.dumps(
                [0, {"base64": "AAAA"}, 64, 0, {"base64": ""}, 0, {"base64": ""}, True]
            )

    monkeypatch.setattr(logits, "memory", lambda shape, device: Unshared(shape))
    where, scores = scores_of(*run)
    assert where == "host"
    np.testing.assert_array_equal(scores, expected())


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a device to share")
def test_a_run_on_a_device_that_torch_does_not_see_is_scored_by_the_host(run) -> None:
    assert logits.memory((1, 1, 1), "gpu0").where == logits.memory((1, 1, 1), "cpu0").where == "host"


@pytest.mark.gpu
def test_logits_stay_on_the_device(run) -> None:
    home, folder, spec = run
    on_gpu = RunSpec.from_dict({**spec.to_dict(), "device": "gpu0", "device_kind": torch.cuda.get_device_name(0)})
    where, scores = scores_of(home, folder, on_gpu)
    assert where == "device"
    np.testing.assert_allclose(scores, expected(), atol=1e-6)
