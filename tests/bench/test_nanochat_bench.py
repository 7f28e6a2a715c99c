"""The references that nanochat is measured against compute what it computes; ratios and intervals are as said."""

import sys
from pathlib import Path

import pytest
import torch

from nanochat import model as models
from nanochat import train

from . import nanochat as bench

ROOT = Path(__file__).parents[2]


def model_and_tokens(depth: int = 3):
    """A small GPT with every parameter away from its initial zeros, and one batch."""
    knobs = {
        "activation": "relu2",
        "qk_norm_scale": 1.2,
        "logit_softcap": 15.0,
        "window_pattern": "L",
        "dropout": 0.0,
        "rope_base": 10_000,
    }
    config = models.Config(300, depth, 64, 32, 16, value_embeddings=True, x0_residual=True, **knobs)
    model = models.GPT(config).init(1)
    rng = torch.Generator().manual_seed(2)
    with torch.no_grad():
        for p in model.parameters():
            p += 0.05 * torch.randn(p.shape, generator=rng)
    return model, *torch.randint(300, (2, 4, 16), generator=rng)


def gradients(model):
    return {name: p.grad.clone() for name, p in model.named_parameters()}


def test_nanochat_is_the_package_whichever_folder_comes_first():
    assert Path(sys.modules["nanochat.train"].__file__) == ROOT / "nanochat" / "train.py"


@pytest.mark.parametrize("depth", [2, 3])
def test_the_plain_model_has_the_same_logits_loss_and_gradients(depth):
    model, x, y = model_and_tokens(depth)
    reference = bench.Plain(model)
    assert torch.allclose(reference(x), model(x), atol=1e-5)
    ours, plain = model.loss(x, y), reference.loss(x, y)
    assert ours.item() == pytest.approx(plain.item(), rel=1e-6)
    ours.backward()
    expected = gradients(model)
    model.zero_grad()
    plain.backward()
    for name, gradient in gradients(model).items():
        assert torch.allclose(gradient, expected[name], rtol=1e-3, atol=1e-6), name


@pytest.mark.parametrize("decay", [0.0, 0.1])
def test_the_plain_muon_makes_the_same_steps(decay):
    (model, x, y), (other, *_) = model_and_tokens(), model_and_tokens()
    muon, _ = train.optimizers(model)
    plain = bench.PlainMuon(bench.groups(other)[0], train.MATRIX_LR)
    for step in range(3):
        for each, optimizer in ((model, muon), (other, plain)):
            each.zero_grad()
            each.loss(x, y).backward()
            optimizer.step(1 - step / 3, decay)
    pairs = zip(model.parameters(), other.parameters(), strict=True)
    off = torch.cat([~torch.isclose(p, q, rtol=0, atol=1e-5).flatten() for p, q in pairs])
    # an update of nearly 0 may round to either sign, and cautious decay asks for the sign
    assert off.float().mean() <= (1e-3 if decay else 0)


def test_every_parameter_is_in_one_group():
    model, *_ = model_and_tokens()
    matrices, rest = bench.groups(model)
    given = sorted(id(p) for p in (*matrices, *(p for p, _ in rest)))
    assert given == sorted(id(p) for p in model.parameters())


def test_ratios_pair_the_blocks_of_a_round():
    assert bench.ratios([1.0, 2.0, 4.0], [2.0, 2.0, 12.0]) == [2.0, 1.0, 3.0]
    assert bench.spread([2.0, 1.0, 3.0]) == "2.00 (1.00-3.00)"


def test_the_table_divides_by_ours_and_by_the_roofline():
    seconds = {"ours": [1.0, 2.0, 4.0], "plain": [2.0, 2.0, 12.0]}
    ours, plain, mfu = bench.speed_lines(seconds, tokens=800, flops=10e9, roofline=20e9, is_deep=False)
    assert ours.split() == ["ours", "tokens/s", "best", "800", "median", "400", "ours", "is", "faster", "x", "1"]
    assert plain.split()[:6] == ["plain", "tokens/s", "best", "400", "median", "400"]
    assert "x 2.00 (1.00-3.00)  (target >= 1.15)" in plain
    assert "25.0 (12.5-50.0)" in mfu


def test_differences_are_paired_by_seed():
    recipe, other = {1: 2.0, 2: 2.2, 3: 2.4}, {3: 2.53, 2: 2.3, 1: 2.07}  # differences 0.07, 0.1, 0.13
    difference, half = bench.paired(recipe, other)
    assert difference == pytest.approx(0.1)
    assert half == pytest.approx(4.303 * 0.03 / 3**0.5)
    *_, line = bench.bpb_lines({"recipe": recipe, "no-ve": other})
    assert (
        "val_bpb 2.3000 +- 0.2300 (sd, 3 seeds)   minus recipe +0.1000 +- 0.0745 (95 %, paired): excludes zero" in line
    )
