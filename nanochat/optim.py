"""Muon for matrices, AdamW for the rest. Knows nothing of the model: who gets which, and how fast, train.py says.

Research edits this file too. State is fp32 tensors, listed by `tensors()` in an order that never changes, so that an
interrupted run can put them back.
"""

import math

import torch

# Polar Express (Amsel et al., 2025, arXiv 2505.16932): the best odd quintic for each step, with a 2 % safety margin.
POLAR_EXPRESS = (
    (8.156554524902461, -22.48329292557795, 15.878769915207462),
    (4.042929935166739, -2.808917465908714, 0.5000178451051316),
    (3.8916678022926607, -2.772484153217685, 0.5060648178503393),
    (3.285753657755655, -2.3681294933425376, 0.46449024233003106),
    (2.3465413258596377, -1.7097828382687081, 0.42323551169305323),
)


def orthogonalise(G, steps: int):
    """The orthogonal matrix nearest to each of (K, short, long): singular vectors kept, singular values moved near 1: to
    0.85-1.15 in five steps, 0.4-1.6 in four, 0.15-1.9 in three, for all values above 0.1 % of the Frobenius norm."""
    X = G.bfloat16() if G.is_cuda else G
    X = X / (1.02 * X.norm(dim=(1, 2), keepdim=True) + 1e-6)
    for a, b, c in POLAR_EXPRESS[:steps]:
        A = X @ X.mT  # the small Gram matrix
        X = a * X + torch.baddbmm(A, A, A, beta=b, alpha=c) @ X
    return X.to(G.dtype)


def wide(t):
    """A matrix or a stack of them as (K, short, long), a view."""
    t = t.view(-1, *t.shape[-2:])
    return t.mT if t.size(1) > t.size(2) else t


class Muon:
    """Momentum, then an orthogonal step, for matrices and stacks of them; those of one shape, lying or standing, go
    through one batched orthogonalisation. Every rank makes the same step: at one node's sizes that costs less than
    sharing it. Decay is cautious: only where it points the way of the update (Chen et al., arXiv 2510.12402)."""

    def __init__(self, params, lr: float, momentum: float, ns_steps: int):
        self.momentum, self.ns_steps = momentum, ns_steps
        self.groups = []
        for shape in sorted({wide(p).shape[1:] for p in params}):
            group = [p for p in params if wide(p).shape[1:] == shape]
            sizes = [len(wide(p)) for p in group]
            # a tall matrix is worth a larger step
            lrs = [lr * math.sqrt(max(1.0, p.size(-2) / p.size(-1))) for p in group for _ in range(len(wide(p)))]
            device = group[0].device
            lrs = torch.tensor(lrs, device=device)[:, None, None]
            self.groups.append((group, sizes, lrs, torch.zeros(sum(sizes), *shape, device=device)))

    def tensors(self):
        return [momentum for *_, momentum in self.groups]

    @torch.no_grad()
    def step(self, lr_scale: float, decay: float):
        for params, sizes, lrs, momentum in self.groups:
            g = torch.cat([wide(p.grad) for p in params])  # (K, short, long)
            momentum.lerp_(g, 1 - self.momentum)
            update = orthogonalise(g.lerp_(momentum, self.momentum), self.ns_steps)  # Nesterov
            p = torch.cat([wide(p) for p in params])
            p -= lrs * lr_scale * (update + decay * p * (update * p > 0))
            for param, new in zip(params, p.split(sizes), strict=True):
                wide(param).copy_(new)


class AdamW:
    """Adam with a learning rate per parameter. Calls the fused kernel itself: torch.optim's first use imports
    torch._dynamo, which takes longer than fifty steps."""

    def __init__(self, lrs: list[tuple[torch.nn.Parameter, float]], beta1: float, beta2: float):
        self.beta1, self.beta2 = beta1, beta2
        self.groups = []
        for lr in sorted({lr for _, lr in lrs}):
            params = [p for p, own in lrs if own == lr]
            first, second = [torch.zeros_like(p) for p in params], [torch.zeros_like(p) for p in params]
            self.groups.append((lr, params, first, second, [torch.zeros((), device=p.device) for p in params]))

    def tensors(self):
        return [t for _, _, first, second, steps in self.groups for t in (*first, *second, *steps)]

    @torch.no_grad()
    def step(self, lr_scale: float):
        for lr, params, first, second, steps in self.groups:
            torch._foreach_add_(steps, 1)
            torch._fused_adamw_(
                params,
                [p.grad for p in params],
                first,
                second,
                [],
                steps,
                lr=lr * lr_scale,
                beta1=self.beta1,
                beta2=self.beta2,
                weight_decay=0.0,
                eps=1e-10,
                amsgrad=False,
                maximize=False,
            )
