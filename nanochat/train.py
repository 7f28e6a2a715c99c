"""Train a small GPT on one core or one GPU, save it, print what it took. This is the file that research edits.

    python -m nanochat.train --preset smoke --seed 1 --out runs/a

Every constant below is a knob: one literal on one line, its range and its trade-off above it, a blank line around it
(so that two edits to two knobs merge). Budgets, data, batches and the metric are in prepare.py and are not up for edit.
Progress goes to stderr; stdout ends with `---` and a YAML summary.
"""

import time

STARTED = time.perf_counter()  # before torch, whose import is part of what a run costs

import signal
import sys

if __name__ == "__main__":
    # Ctrl-C ends a run quietly at any moment, the second of imports included; the checkpoint is written whole or not
    signal.signal(signal.SIGINT, lambda *_: sys.exit(130))

import gc
import hashlib
import io
import json
import math
import os
import resource
from dataclasses import asdict, dataclass
from pathlib import Path

import torch
from torch import nn
from torch.nn import functional as F

from nanochat.prepare import EVAL_SEQ_LEN, PRESETS, Dataset, Flags, Problem, batch, bits_per_byte, exit_code
from nanochat.prepare import load as load_data

# ---- knobs: optimisation ----
# Effects in brackets: bpb at `smoke` against these defaults, paired over 3-4 seeds. Those with ~ were measured on an
# earlier cut of the corpus with other defaults: directions, not numbers. The sd of one seed is 0.015.

# Muon's step for the matrices of the blocks, in units of an orthogonal matrix. 0.01-0.12, log.
# [0.02 +0.016, 0.06 +0.007, 0.08 +0.022]
MATRIX_LR = 0.04

# AdamW's step for token and value embeddings at width 64; falls as 1/sqrt(width). 0.1-1, log. [0.3 +0.007]
EMBEDDING_LR = 0.5

# AdamW's step for the output matrix at width 64; falls as 1/sqrt(width). 0.002-0.03, log. [0.03 +0.004]
UNEMBEDDING_LR = 0.02

# AdamW's step for the x0 scales and the value gate; the residual scales, which compound, take 1 % of it. 0-0.5.
# [0.005 0]
SCALAR_LR = 0.02

# Decay of the matrices per unit of learning rate, only where it agrees with the update, falling to 0 over the run.
# 0-0.3. [0 -0.002: nothing at `smoke`]
WEIGHT_DECAY = 0.2

# Last share of the steps, over which the learning rate falls linearly. 0.2-0.8. [0.7 +0.002, 0 ~+0.05, 0.2 ~+0.01]
# With MATRIX_LR 0.02 as well, 0 costs 0.123 (8 seeds).
WARMDOWN_FRAC = 0.5

# First share of the steps, over which the learning rate rises linearly. 0-0.1; Muon's unit steps need none.
WARMUP_FRAC = 0.0

# Where the warmdown ends, as a share of the full learning rate. 0-0.2.
FINAL_LR_FRAC = 0.0

# AdamW's memory of gradients. 0.6-0.95; short runs want short memories. [0.9 ~+0.02]
ADAM_BETA1 = 0.8

# AdamW's memory of squared gradients. 0.9-0.99.
ADAM_BETA2 = 0.95

# Muon's memory of gradients (Nesterov). 0.8-0.98. [0.95 +0.010]
MUON_MOMENTUM = 0.9

# Polynomials per orthogonalisation. 3-5; each is 1-2 % of a step. [4 +0.005]
NS_STEPS = 5

# Sequences a step. 4-32. Fewer make more steps of the same tokens, and the matmuls less efficient.
# [4 +0.009, 16 ~+0.05]
ROWS = 8

# Tokens a sequence. 64-256. As ROWS; attention sees this far. [64 ~-0.03]
SEQ_LEN = 128

# ---- knobs: model ----

# Of the MLP: "relu2" (relu(x)^2) or "gelu". [gelu ~+0.02]
ACTIVATION = "relu2"

# Queries and keys are RMS-normed and multiplied by this: attention sharpness. 0 = no norm, else 1-1.5. Upstream's 1.2.
# [1.0 +0.003]
QK_NORM_SCALE = 1.2

# Logits are squeezed into (-c, c) by c * tanh(z / c). 0 = off, 15, 30. Upstream's 15.
LOGIT_SOFTCAP = 15.0

# A second embedding of the token, added to the values of every other layer behind a small gate. [False ~+0.04]
VALUE_EMBEDDINGS = True

# Every layer sees the normed embedding again, times a learned scale. [False +0.015]
X0_RESIDUAL = True

# Scales the initial matrices of the blocks. 0.5-2, log.
INIT_SCALE = 1.0

# The dial: layers; everything else follows. Compare depths at equal FLOPs (equal tokens favour the deeper). [3 ~-0.03]
DEPTH = 2

# Width per layer, so n_embd = ASPECT * depth, rounded up to whole heads. Upstream's 64 is for larger scales.
ASPECT = 32

# Width of an attention head; even, for the rotary pairs.
HEAD_DIM = 32

# Rotary base: the slowest pair turns once in 2 pi * this many tokens. Upstream's 100k is for contexts of 2,048.
ROPE_BASE = 10_000

# ---- model ----


@dataclass(frozen=True)
class Config:
    """All that is needed to rebuild the module; saved with the weights: a checkpoint outlives edits of the knobs."""

    vocab_size: int
    n_layer: int = DEPTH
    n_embd: int = ASPECT * DEPTH
    head_dim: int = HEAD_DIM
    seq_len: int = SEQ_LEN
    activation: str = ACTIVATION
    qk_norm_scale: float = QK_NORM_SCALE
    logit_softcap: float = LOGIT_SOFTCAP
    value_embeddings: bool = VALUE_EMBEDDINGS
    x0_residual: bool = X0_RESIDUAL
    rope_base: float = ROPE_BASE


def config_for(depth: int, vocab_size: int) -> Config:
    width = math.ceil(ASPECT * depth / HEAD_DIM) * HEAD_DIM
    return Config(vocab_size, n_layer=depth, n_embd=width)


def norm(x):
    """RMS norm over the last axis, without weights."""
    return F.rms_norm(x, (x.size(-1),))


def linear(x, weight):
    """Master weights are fp32; the product is in the dtype of the activations (fp32 on CPU, bf16 on CUDA)."""
    return F.linear(x, weight.to(x.dtype))


def rotate(x, cos, sin):
    """Rotary embedding of (..., T, heads, D); cos, sin: (T, 1, D/2)."""
    a, b = x.chunk(2, dim=-1)
    return torch.cat((a * cos + b * sin, b * cos - a * sin), dim=-1)


class Attention(nn.Module):
    def __init__(self, config: Config, has_value_embedding: bool):
        super().__init__()
        self.config = config
        self.n_head = config.n_embd // config.head_dim
        # a 3-axis parameter is a stack of matrices: one matmul here, but orthogonalised one by one in Muon
        self.qkv = nn.Parameter(torch.empty(3, config.n_embd, config.n_embd))
        self.proj = nn.Parameter(torch.empty(config.n_embd, config.n_embd))
        if has_value_embedding:
            self.gate = nn.Parameter(torch.empty(self.n_head, min(32, config.n_embd)))

    def forward(self, x, value_embedding, cos, sin):
        B, T, C = x.shape
        qkv = linear(x, self.qkv.flatten(0, 1)).view(B, T, 3 * self.n_head, self.config.head_dim)
        qk, v = qkv.split((2 * self.n_head, self.n_head), dim=2)  # queries and keys share every op up to attention
        if value_embedding is not None:
            gate = 2 * torch.sigmoid(linear(x[..., : self.gate.size(1)], self.gate))  # (B, T, H), 1 at init
            v = v + gate.unsqueeze(-1) * value_embedding.view(B, T, self.n_head, -1)
        qk = rotate(qk, cos, sin)
        scale = None  # 1 / sqrt(head_dim)
        if self.config.qk_norm_scale:
            qk = norm(qk)
            scale = self.config.qk_norm_scale**2 / math.sqrt(self.config.head_dim)  # on q and on k
        q, k = qk.transpose(1, 2).chunk(2, dim=1)  # (B, H, T, D)
        y = F.scaled_dot_product_attention(q, k, v.transpose(1, 2), is_causal=True, scale=scale)
        return linear(y.transpose(1, 2).reshape(B, T, C), self.proj)


class MLP(nn.Module):
    def __init__(self, config: Config):
        super().__init__()
        self.activation = {"relu2": lambda x: F.relu(x).square(), "gelu": F.gelu}[config.activation]
        self.fc = nn.Parameter(torch.empty(4 * config.n_embd, config.n_embd))
        self.proj = nn.Parameter(torch.empty(config.n_embd, 4 * config.n_embd))

    def forward(self, x):
        return linear(self.activation(linear(x, self.fc)), self.proj)


class Block(nn.Module):
    def __init__(self, config: Config, has_value_embedding: bool):
        super().__init__()
        self.attn = Attention(config, has_value_embedding)
        self.mlp = MLP(config)

    def forward(self, x, value_embedding, cos, sin):
        x = x + self.attn(norm(x), value_embedding, cos, sin)
        return x + self.mlp(norm(x))


class GPT(nn.Module):
    """(B, T) int64 tokens -> (B, T, V) float32 logits, causal, for any T. `loss` is the trainer's faster way in."""

    def __init__(self, config: Config):
        super().__init__()
        self.config = config
        V, C, L = config.vocab_size, config.n_embd, config.n_layer
        # every other layer, the last one always
        layers = [i for i in range(L) if i % 2 == (L - 1) % 2] if config.value_embeddings else []
        self.embed = nn.Parameter(torch.empty(V, C))
        self.value_embeds = nn.ParameterDict({str(i): nn.Parameter(torch.empty(V, C)) for i in layers})
        self.blocks = nn.ModuleList(Block(config, i in layers) for i in range(L))
        self.unembed = nn.Parameter(torch.empty(V, C))
        self.resid_scales = nn.Parameter(torch.empty(L))
        if config.x0_residual:
            self.x0_scales = nn.Parameter(torch.empty(L))

    def trunk(self, tokens):
        """(B, T) -> (B, T, C) normed features, in bf16 on CUDA and fp32 on CPU."""
        dtype = torch.bfloat16 if tokens.is_cuda else torch.float32
        cos, sin = self.rotary(tokens.size(1), tokens.device, dtype)
        x = x0 = norm(F.embedding(tokens, self.embed).to(dtype))
        for i, block in enumerate(self.blocks):
            x = self.resid_scales[i].to(dtype) * x
            if self.config.x0_residual:
                x = x + self.x0_scales[i].to(dtype) * x0
            has_ve = str(i) in self.value_embeds
            x = block(x, F.embedding(tokens, self.value_embeds[str(i)]).to(dtype) if has_ve else None, cos, sin)
        return norm(x)

    def forward(self, tokens):
        logits = linear(self.trunk(tokens), self.unembed).float()
        cap = self.config.logit_softcap
        return cap * torch.tanh(logits / cap) if cap else logits

    def loss(self, tokens, targets):
        """Mean cross-entropy in nats, the same number as from `forward`, without ever holding all the logits."""
        return ChunkedLoss.apply(self.trunk(tokens).flatten(0, 1), self.unembed, targets.flatten(), self.config)

    def rotary(self, T, device, dtype):
        pairs = torch.arange(0, self.config.head_dim, 2, device=device) / self.config.head_dim
        angles = torch.arange(T, device=device)[:, None] * self.config.rope_base**-pairs  # (T, D/2)
        return angles.cos()[:, None].to(dtype), angles.sin()[:, None].to(dtype)

    def matmul_params(self) -> int:
        """Parameters that multiply activations: all but embeddings (a lookup) and scales."""
        return self.unembed.numel() + sum(p.numel() for p in self.blocks.parameters())

    def flops_per_token(self) -> int:
        """Forward and backward: 6 per matmul parameter, 12 T C per layer for attention (causal not halved)."""
        return 6 * self.matmul_params() + 12 * self.config.n_layer * self.config.seq_len * self.config.n_embd

    @torch.no_grad()
    def init(self, seed: int) -> "GPT":
        """Each parameter is drawn from a generator of its own, keyed by (its name, seed): an arm that adds or removes
        one leaves the others as they were, so arms stay paired by seed."""
        width = 1 / math.sqrt(self.config.n_embd)
        for name, p in self.named_parameters():
            key = hashlib.sha256(f"{seed}:{name}".encode()).digest()
            rng = torch.Generator().manual_seed(int.from_bytes(key[:8], "little") >> 1)
            noise = torch.randn(p.shape, generator=rng)  # on the CPU, whatever the device: the same start everywhere
            match name.rpartition(".")[2]:
                case "embed":
                    p.copy_(noise)
                case "unembed":
                    p.copy_(noise * 0.001)  # near-uniform predictions: the first loss is ln V
                case "qkv" | "fc":
                    p.copy_(noise * width * INIT_SCALE)
                case "proj" | "gate":
                    p.zero_()  # each block starts as the identity, each gate half open
                case "resid_scales":
                    p.fill_(1.0)
                case "x0_scales":
                    p.fill_(0.1)
                case _:
                    p.copy_(noise * width)  # value embeddings, as large as the values they join
        return self


class ChunkedLoss(torch.autograd.Function):
    """Unembedding, softcap and mean cross-entropy of (N, C) features, with the gradient made in the same pass.

    A chunk's logits (256 x 1,024 x 4 bytes) stay in cache and are overwritten in place: +15 % tokens/s on a CPU at
    equal loss against the plain form, where softcap and cross-entropy are 30 % of a depth-2 step.
    """

    ROWS = 256

    @staticmethod
    def forward(ctx, x, weight, targets, config: Config):
        cap, w = config.logit_softcap, weight.to(x.dtype)  # w: (V, C)
        n, total = len(x), x.new_zeros((), dtype=torch.float32)
        dx, dw = torch.empty_like(x), torch.zeros_like(weight)
        for i in range(0, n, ChunkedLoss.ROWS):
            rows, y = x[i : i + ChunkedLoss.ROWS], targets[i : i + ChunkedLoss.ROWS, None]
            z = (rows @ w.t()).float()  # (256, V)
            if cap:
                z.div_(cap).tanh_()
            g = z * cap if cap else z
            picked = g.gather(1, y).sum()
            log_sum = torch.logsumexp(g, dim=1, keepdim=True)
            total += log_sum.sum() - picked
            g.sub_(log_sum).exp_()  # softmax
            g.scatter_add_(1, y, g.new_full(y.shape, -1.0))  # d loss / d logits
            if cap:
                g.mul_(z.square_().neg_().add_(1))  # tanh' = 1 - tanh^2
            g = g.to(x.dtype)
            dx[i : i + ChunkedLoss.ROWS] = g @ w
            dw += g.t() @ rows
        ctx.save_for_backward(dx.div_(n), dw.div_(n))
        return total / n

    @staticmethod
    def backward(ctx, grad):
        dx, dw = ctx.saved_tensors
        return dx * grad.to(dx.dtype), dw * grad, None, None


# ---- optimizers ----

# Polar Express (Amsel et al., 2025, arXiv 2505.16932): the best odd quintic for each step, with a 2 % safety margin.
POLAR_EXPRESS = (
    (8.156554524902461, -22.48329292557795, 15.878769915207462),
    (4.042929935166739, -2.808917465908714, 0.5000178451051316),
    (3.8916678022926607, -2.772484153217685, 0.5060648178503393),
    (3.285753657755655, -2.3681294933425376, 0.46449024233003106),
    (2.3465413258596377, -1.7097828382687081, 0.42323551169305323),
)


def orthogonalise(G, steps: int):
    """The orthogonal matrix nearest to each of (K, m, n): singular vectors kept, singular values moved near 1: to
    0.85-1.15 in five steps, 0.4-1.6 in four, 0.15-1.9 in three, for all values above 0.1 % of the Frobenius norm."""
    X = G.bfloat16() if G.is_cuda else G
    tall = X.size(1) > X.size(2)
    X = X.mT if tall else X  # (K, short, long): the Gram matrix below is the small one
    X = X / (1.02 * X.norm(dim=(1, 2), keepdim=True) + 1e-6)
    for a, b, c in POLAR_EXPRESS[:steps]:
        A = X @ X.mT
        X = a * X + torch.baddbmm(A, A, A, beta=b, alpha=c) @ X
    return (X.mT if tall else X).to(G.dtype)


class Muon:
    """Momentum, then an orthogonal step, for matrices and stacks of them; those of one shape go through one batched
    orthogonalisation. Decay is cautious: only where it points the way of the update (Chen et al., arXiv 2510.12402)."""

    def __init__(self, params, lr: float):
        self.lr = lr
        self.groups = []
        shapes = sorted({p.shape[-2:] for p in params})
        for m, n in shapes:
            group = [p for p in params if p.shape[-2:] == (m, n)]
            count = sum(p.numel() // (m * n) for p in group)
            self.groups.append((group, torch.zeros(count, m, n, device=group[0].device)))

    @torch.no_grad()
    def step(self, lr_scale: float, decay: float):
        for params, momentum in self.groups:
            _, m, n = momentum.shape
            g = torch.cat([p.grad.view(-1, m, n) for p in params])  # (K, m, n)
            momentum.lerp_(g, 1 - MUON_MOMENTUM)
            update = orthogonalise(g.lerp_(momentum, MUON_MOMENTUM), NS_STEPS)  # Nesterov
            lr = self.lr * lr_scale * math.sqrt(max(1, m / n))  # a tall matrix is worth a larger step
            p = torch.cat([p.view(-1, m, n) for p in params])
            p -= lr * (update + decay * p * (update * p > 0))
            sizes = [param.numel() // (m * n) for param in params]
            for param, new in zip(params, p.split(sizes), strict=True):
                param.copy_(new.view_as(param))


class AdamW:
    """Adam with a learning rate per parameter. Calls the fused kernel itself: torch.optim's first use imports
    torch._dynamo, which takes longer than fifty steps."""

    def __init__(self, lrs: list[tuple[nn.Parameter, float]]):
        self.groups = []
        for lr in sorted({lr for _, lr in lrs}):
            params = [p for p, own in lrs if own == lr]
            first, second = [torch.zeros_like(p) for p in params], [torch.zeros_like(p) for p in params]
            self.groups.append((lr, params, first, second, [torch.zeros((), device=p.device) for p in params]))

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
                beta1=ADAM_BETA1,
                beta2=ADAM_BETA2,
                weight_decay=0.0,
                eps=1e-10,
                amsgrad=False,
                maximize=False,
            )


def optimizers(model: GPT) -> tuple[Muon, AdamW]:
    """Muon for the matrices of the blocks, AdamW for the rest, each at the step its kind needs."""
    by_width = (model.config.n_embd / 64) ** -0.5
    matrices, rest = [], []
    for name, p in model.named_parameters():
        match name.rpartition(".")[2]:
            case "qkv" | "proj" | "fc":
                matrices.append(p)
            case "unembed":
                rest.append((p, UNEMBEDDING_LR * by_width))
            case "gate" | "x0_scales":
                rest.append((p, SCALAR_LR))
            case "resid_scales":
                rest.append((p, SCALAR_LR * 0.01))
            case _:
                rest.append((p, EMBEDDING_LR * by_width))
    return Muon(matrices, MATRIX_LR), AdamW(rest)


def lr_scale(progress: float) -> float:
    """Share of the full learning rate after `progress` in [0, 1) of the steps: a trapezoid, blind to elapsed time."""
    if progress < WARMUP_FRAC:
        return progress / WARMUP_FRAC
    if progress > 1 - WARMDOWN_FRAC:
        left = (1 - progress) / WARMDOWN_FRAC
        return FINAL_LR_FRAC + (1 - FINAL_LR_FRAC) * left
    return 1.0


# ---- checkpoints ----


def save(model: GPT, folder: Path) -> None:
    """model.pt (weights only) and config.json."""
    buffer = io.BytesIO()  # torch.save itself reports a full disk as a crash of its zip writer
    torch.save({name: p.detach().cpu() for name, p in model.state_dict().items()}, buffer)
    config = json.dumps(asdict(model.config), indent=1).encode()
    temporary = folder / f".writing-{os.getpid()}"
    try:
        folder.mkdir(parents=True, exist_ok=True)
        for name, content in (("config.json", config), ("model.pt", buffer.getvalue())):
            temporary.write_bytes(content)
            temporary.replace(folder / name)
    except OSError as error:
        temporary.unlink(missing_ok=True)
        raise Problem(f"cannot write {folder}: {error.strerror}; free some space or pass another --out") from error


def load(path, device: str = "cpu") -> GPT:
    """The model of a checkpoint folder, in evaluation mode. Reads tensors only: a checkpoint cannot run code."""
    config = Config(**json.loads((Path(path) / "config.json").read_text()))
    model = GPT(config)
    model.load_state_dict(torch.load(Path(path) / "model.pt", map_location="cpu", weights_only=True))
    return model.to(device).eval()


# ---- the run ----


def train(model: GPT, dataset: Dataset, seed: int, steps: int, log_every: int) -> dict:
    """Train for `steps`; losses and seconds of it. Raises Problem when the loss is no longer a number."""
    device = next(model.parameters()).device
    muon, adamw = optimizers(model)
    losses = torch.zeros(steps, device=device)
    check_every = log_every if device.type == "cuda" else 1  # reading a loss stalls a GPU, and costs a CPU nothing
    on_tty = sys.stderr.isatty()
    gc.freeze()  # nothing allocated so far will die; the collector need not look at it
    started = time.perf_counter()
    for step in range(steps):
        x, y = batch(dataset, seed, step, ROWS, SEQ_LEN)  # (ROWS, SEQ_LEN)
        loss = model.loss(x.to(device, non_blocking=True), y.to(device, non_blocking=True))
        loss.backward()
        scale = lr_scale(step / steps)
        muon.step(scale, WEIGHT_DECAY * (1 - step / steps))
        adamw.step(scale)
        model.zero_grad()
        losses[step] = loss.detach()
        if step == 0:
            first_loss, first_step_s = loss.item(), time.perf_counter() - started
        is_last = step == steps - 1
        if (step % check_every == 0 or is_last) and not torch.isfinite(losses[step]):
            raise Problem(f"the loss is {losses[step].item()} at step {step} of {steps}; a learning rate is too high")
        if (step + 1) % log_every == 0 or is_last:
            rate = (step + 1) * ROWS * SEQ_LEN / (time.perf_counter() - started)
            line = f"step {step + 1}/{steps} loss {losses[step].item():.3f} tok/s {rate / 1e3:.1f}k"
            print(line, end="\r" if on_tty and not is_last else "\n", file=sys.stderr, flush=True)
    return {
        "first_loss": first_loss,
        "train_loss": losses[-max(1, steps // 10) :].mean().item(),  # of the last tenth: one batch is noise
        "first_step_s": first_step_s,
        "train_s": time.perf_counter() - started,
    }


def peak_flops(device: torch.device) -> float | None:
    """The device's bf16 peak in FLOP/s; None where it is not known (any CPU), and then MFU is null."""
    peaks = {"H200": 989e12, "H100": 989e12, "A100": 312e12, "L40S": 362e12, "4090": 165e12, "A10": 125e12}
    name = torch.cuda.get_device_name(device) if device.type == "cuda" else ""
    return next((peak for key, peak in peaks.items() if key in name), None)


def peak_mem_mb(device: torch.device) -> float:
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device) / 2**20
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / (2**20 if sys.platform == "darwin" else 2**10)


def main() -> None:
    flags = Flags(prog="python -m nanochat.train", description=(__doc__ or "").partition("\n")[0])
    flags.add_argument("--preset", default="smoke", help=f"budget: {', '.join(PRESETS)}; noise falls as it grows")
    flags.add_argument("--seed", type=int, default=1, help="of initial weights and data order; compare seed by seed")
    flags.add_argument("--out", type=Path, metavar="DIR", help="write DIR/checkpoint; without it nothing is kept")
    flags.add_argument(
        "--data", default="python", help="as for nanochat.prepare; numbers of two corpora do not compare"
    )
    flags.add_argument("--tokens", type=int, help="instead of the preset's training tokens")
    flags.add_argument("--steps", type=int, help="the same, in steps of ROWS * SEQ_LEN tokens")
    flags.add_argument("--depth", type=int, help="instead of the preset's; compare at equal FLOPs, not equal tokens")
    flags.add_argument("--no-eval", action="store_true", help="no val_bpb: saves ~1 s where a referee scores anyway")
    flags.add_argument(
        "--device", default="auto", choices=("auto", "cpu", "cuda"), help="auto: cuda where there is one"
    )
    flags.add_argument("--threads", type=int, help="CPU threads, default $OMP_NUM_THREADS or 1: one run a core is best")
    flags.add_argument("--log-every", type=int, help="steps between progress lines; default: 10 %% of the run")
    args = flags.parse_args()
    if args.preset not in PRESETS:
        raise Problem(f"no preset {args.preset!r}; there are {', '.join(PRESETS)}", code=2)
    for flag in ("tokens", "steps", "depth", "threads", "log_every"):
        if (value := getattr(args, flag)) is not None and value < 1:
            raise Problem(f"--{flag.replace('_', '-')} is {value}, at least 1 is needed", code=2)
    if args.device == "cuda" and not torch.cuda.is_available():
        raise Problem("--device cuda, but torch sees no CUDA device; use --device cpu")

    preset = PRESETS[args.preset]
    device = torch.device("cuda" if args.device != "cpu" and torch.cuda.is_available() else "cpu")
    torch.set_num_threads(args.threads or int(os.environ.get("OMP_NUM_THREADS") or 1))
    depth = args.depth or DEPTH * preset.depth_factor
    step_tokens = ROWS * SEQ_LEN
    steps = args.steps or max(1, round((args.tokens or preset.tokens) / step_tokens))

    dataset = load_data(args.data)
    model = GPT(config_for(depth, dataset.vocab_size)).init(args.seed).to(device)
    default_log = max(1, steps // (100 if sys.stderr.isatty() else 10))
    trained = train(model, dataset, args.seed, steps, args.log_every or default_log)

    summary: dict = {}
    eval_started = time.perf_counter()
    if not args.no_eval:
        tokens = dataset.val[: preset.eval_tokens + 1]
        summary["val_bpb"] = bits_per_byte(model.eval(), tokens, dataset.token_bytes, EVAL_SEQ_LEN, rows=8)
    eval_s = time.perf_counter() - eval_started
    if args.out:
        save(model, args.out / "checkpoint")

    tokens_per_s = steps * step_tokens / trained["train_s"]
    peak = peak_flops(device)
    summary |= {
        "train_loss": trained["train_loss"],  # nats per token, mean of the last tenth of the steps
        "first_loss": trained["first_loss"],  # near ln(vocab_size)
        "steps": steps,
        "tokens": steps * step_tokens,
        "params": sum(p.numel() for p in model.parameters()),
        "matmul_params": model.matmul_params(),
        "flops_per_token": model.flops_per_token(),
        "flops_total": model.flops_per_token() * steps * step_tokens,
        "first_step_s": trained["first_step_s"],  # part of train_s
        "train_s": trained["train_s"],
        "compile_s": 0.0,  # nothing is compiled: on a CPU 44 s of compiling buy 16 %
        "eval_s": eval_s,
        "total_s": time.perf_counter() - STARTED,  # imports included
        "tokens_per_s": tokens_per_s,
        "mfu": model.flops_per_token() * tokens_per_s / peak if peak else None,
        "peak_mem_mb": peak_mem_mb(device),
        "data_hash": dataset.data_hash,
        "seed": args.seed,
        "preset": args.preset,
        "device": torch.cuda.get_device_name(device) if device.type == "cuda" else "cpu",
        "torch": torch.__version__,
    }
    print("---")
    for key, value in summary.items():
        shown = f"{value:.6f}" if isinstance(value, float) else json.dumps(value)  # JSON scalars are YAML
        print(f"{key}: {shown}")


if __name__ == "__main__":
    raise SystemExit(exit_code(main))
