"""Loss, norm and activation with gradients written by hand: what autograd makes of the plain forms costs a depth-2 step
a third of its time on a CPU. Each is the same function as the plain form beside it. Research may edit this file.
"""

import torch
from torch.nn import functional as F


def is_plain_cpu(x) -> bool:
    """Where the forms by hand pay: on CUDA the compiler fuses the plain ones."""
    return x.dtype == torch.float32 and not x.is_cuda


def norm(x):
    """RMS norm over the last axis, without weights."""
    return RMSNorm.apply(x) if is_plain_cpu(x) else F.rms_norm(x, (x.size(-1),))


class RMSNorm(torch.autograd.Function):
    """3.5 % of a depth-2 step against F.rms_norm."""

    @staticmethod
    def forward(ctx, x):
        mean_square = torch.linalg.vector_norm(x, dim=-1, keepdim=True).square_().div_(x.size(-1))
        r = mean_square.add_(torch.finfo(x.dtype).eps).rsqrt_()
        y = x * r
        ctx.save_for_backward(y, r)
        return y

    @staticmethod
    def backward(ctx, grad):
        y, r = ctx.saved_tensors
        along = (grad * y).mean(-1, keepdim=True)
        return torch.addcmul(grad, y, along, value=-1).mul_(r)


def relu2(x):
    """relu(x)^2 (So et al., 2021, arXiv 2109.08668)."""
    return ReLU2.apply(x) if is_plain_cpu(x) else F.relu(x).square()


class ReLU2(torch.autograd.Function):
    """3 % of a depth-2 step: the gradient, 2 relu(x), needs no mask."""

    @staticmethod
    def forward(ctx, x):
        r = F.relu(x)
        ctx.save_for_backward(r)
        return r * r

    @staticmethod
    def backward(ctx, grad):
        (r,) = ctx.saved_tensors
        return (grad * r).mul_(2)


def loss_chunk(x, weight, targets, cap: float):
    """Cross-entropy of softcapped logits and its gradients: (sum of nats, (n, C) d/dx, (V, C) d/dweight in fp32).

    x: (n, C), weight: (V, C), both in the dtype of the activations; targets: (n, 1).
    cap * tanh(z / cap) is 2 cap * sigmoid(2 z / cap) - cap, whose constant drops out of a softmax; on a CPU a sigmoid
    costs a sixth of a tanh.
    """
    if cap:
        s = (x * (2 / cap) @ weight.t()).float().sigmoid_()  # (n, V)
        p = torch.softmax(s * (2 * cap), dim=1)  # at least exp(-2 cap) / V, whose log is a number
        nats = -p.gather(1, targets).log().sum()
    else:
        log_p = torch.log_softmax((x @ weight.t()).float(), dim=1)
        nats = -log_p.gather(1, targets).sum()
        p = log_p.exp_()
    p.scatter_add_(1, targets, p.new_full(targets.shape, -1.0))  # d nats / d logits
    if cap:
        p.mul_(4).mul_(torch.addcmul(s, s, s, value=-1))  # sigmoid' = s - s^2
    p = p.to(x.dtype)
    return nats, p @ weight, (p.t() @ x).float()


def cross_entropy(x, weight, targets, cap: float, chunk=loss_chunk):
    """Mean nats of `targets` (N,) under cap * tanh(x @ weight.t() / cap), without ever holding all the logits.
    x: (N, C) features; weight: (V, C) in fp32; cap 0: none; `chunk` may be a compiled loss_chunk."""
    return CrossEntropy.apply(x, weight, targets, cap, chunk)


class CrossEntropy(torch.autograd.Function):
    """The gradient is made in the same pass, a chunk of rows at a time. On a CPU a chunk's logits (256 x 1,024 x 4 bytes)
    stay in cache: a quarter of a depth-2 step against torch's cross-entropy. On a GPU a step's logits would not fit."""

    ROWS, ROWS_CUDA = 256, 16_384

    @staticmethod
    def forward(ctx, x, weight, targets, cap, chunk):
        w = weight.to(x.dtype)
        n, rows = len(x), CrossEntropy.ROWS_CUDA if x.is_cuda else CrossEntropy.ROWS
        nats, dx, dw = x.new_zeros((), dtype=torch.float32), torch.empty_like(x), torch.zeros_like(weight)
        for i in range(0, n, rows):
            chunk_nats, dx[i : i + rows], chunk_dw = chunk(x[i : i + rows], w, targets[i : i + rows, None], cap)
            nats += chunk_nats
            dw += chunk_dw
        ctx.save_for_backward(dx.div_(n), dw.div_(n))
        return nats / n

    @staticmethod
    def backward(ctx, grad):
        dx, dw = ctx.saved_tensors
        return dx * grad.to(dx.dtype), dw * grad, None, None, None
