"""Gradients written by hand equal those that autograd makes of the plain forms; optimizers do what they are named for."""

import math

import pytest
import torch
from torch.nn import functional as F

from nanochat import kernels, optim


def draw(*shape, seed=0):
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


def value_and_gradients(f, *inputs):
    inputs = [x.detach().clone().requires_grad_() for x in inputs]
    y = f(*inputs)
    (y * draw(*y.shape, seed=9)).sum().backward()
    return [y.detach(), *(x.grad for x in inputs)]


@pytest.mark.parametrize(
    ("ours", "plain"),
    [
        (kernels.norm, lambda x: F.rms_norm(x, (x.size(-1),))),
        (kernels.relu2, lambda x: F.relu(x).square()),
    ],
)
@pytest.mark.parametrize("scale", [1e-3, 1.0, 1e3])
def test_norm_and_activation_equal_the_plain_forms(ours, plain, scale):
    x = draw(3, 5, 8) * scale
    for got, expected in zip(value_and_gradients(ours, x), value_and_gradients(plain, x), strict=True):
        assert torch.allclose(got, expected, rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("cap", [0.0, 15.0])
@pytest.mark.parametrize("scale", [1.0, 30.0])  # at 30 the logits run into the cap
def test_chunked_cross_entropy_equals_the_plain_form(cap, scale, monkeypatch):
    monkeypatch.setattr(kernels.CrossEntropy, "ROWS", 10)  # 64 targets: the last chunk is not full
    targets = torch.arange(64) % 50

    def plain(x, w):
        logits = x @ w.t()
        return 3 * F.cross_entropy(cap * torch.tanh(logits / cap) if cap else logits, targets)

    inputs = draw(64, 16) * scale, draw(50, 16, seed=1)
    fast = value_and_gradients(lambda x, w: 3 * kernels.cross_entropy(x, w, targets, cap), *inputs)
    for got, expected in zip(fast, value_and_gradients(plain, *inputs), strict=True):
        assert torch.allclose(got, expected, rtol=1e-3, atol=1e-5)


def test_a_target_of_no_probability_is_a_large_loss_and_not_an_infinite_one():
    x, w = torch.tensor([[1000.0]]), torch.tensor([[1.0], [-1.0]])
    assert kernels.cross_entropy(x, w, torch.tensor([1]), 0.0).item() == pytest.approx(2000)
    assert kernels.cross_entropy(x, w, torch.tensor([1]), 15.0).item() == pytest.approx(30, rel=1e-3)


@pytest.mark.parametrize("shape", [(3, 64, 64), (2, 64, 256)])
def test_muons_update_is_orthogonal(shape):
    U, _, Vh = torch.linalg.svd(draw(*shape), full_matrices=False)
    spread = torch.logspace(1, -1, U.size(-1))  # singular values over two orders of magnitude
    update = optim.orthogonalise(U * spread @ Vh, 5)
    values = torch.linalg.svdvals(update)
    assert values.min() > 0.85 and values.max() < 1.15
    assert ((U @ Vh) * update).sum() > 0.95 * (U @ Vh).norm() * update.norm()  # the nearest one, not just any


def stepped(shapes, grads, decay=0.2):
    params = [torch.nn.Parameter(draw(*shape, seed=i)) for i, shape in enumerate(shapes)]
    for p, grad in zip(params, grads, strict=True):
        p.grad = grad
    optim.Muon(params, 0.1, 0.9, 5).step(1.0, decay)
    return [p.detach() for p in params]


def test_muon_steps_each_matrix_of_a_stack_alone():
    grads = draw(3, 8, 8, seed=5)
    stack = torch.nn.Parameter(draw(3, 8, 8))
    single = torch.nn.Parameter(stack.detach()[1].clone())
    stack.grad, single.grad = grads, grads[1].clone()
    optim.Muon([stack], 0.1, 0.9, 5).step(1.0, 0.2)
    optim.Muon([single], 0.1, 0.9, 5).step(1.0, 0.2)
    assert torch.allclose(stack[1], single, atol=1e-5)


def test_a_standing_matrix_takes_the_step_of_its_transpose_times_the_root_of_its_ratio():
    grad = draw(4, 16, seed=3)
    lying, standing = torch.nn.Parameter(torch.zeros(4, 16)), torch.nn.Parameter(torch.zeros(16, 4))
    lying.grad, standing.grad = grad, grad.t().contiguous()
    optim.Muon([lying, standing], 0.1, 0.9, 5).step(1.0, 0.0)
    assert lying.abs().max() > 0.01
    assert torch.allclose(standing, lying.t() * math.sqrt(16 / 4), atol=1e-5)


def test_muon_decays_only_where_the_update_points_towards_zero():
    p, grad = draw(8, 8), draw(8, 8, seed=3)
    (plain,), (decayed,) = stepped([(8, 8)], [grad], decay=0.0), stepped([(8, 8)], [grad], decay=0.5)
    shrinks = (plain - p) * p < 0
    assert shrinks.any() and not shrinks.all()
    assert torch.equal(decayed[~shrinks], plain[~shrinks])
    assert (decayed[shrinks] != plain[shrinks]).all()


@pytest.mark.slow  # two seconds of steps
def test_adamw_steps_as_torch_does():
    ours = torch.nn.Parameter(torch.linspace(-1, 1, 12))
    theirs = torch.nn.Parameter(ours.detach().clone())
    adamw = optim.AdamW([(ours, 0.1)], 0.8, 0.95)
    reference = torch.optim.AdamW([theirs], lr=0.1, betas=(0.8, 0.95), eps=1e-10, weight_decay=0)
    for i in range(4):
        ours.grad = torch.sin(torch.arange(12.0) + i)
        theirs.grad = ours.grad.clone()
        adamw.step(1.0)
        reference.step()
    assert torch.allclose(ours, theirs, atol=1e-6)
