"""Train a small GPT on one core, one GPU or several, save it, print what it took. This is the file that research edits.

    python -m nanochat.train --preset smoke --seed 1 --out runs/a
    torchrun --nproc-per-node 8 -m nanochat.train --preset gpu12 --out runs/b   # web text, fetched once

Every constant below is a knob: one literal on one line, its range and its trade-off above it, a blank line around it
(so that two edits to two knobs merge). Budgets, data, batches, the clock and the metric are in prepare.py and
harness.py and are not up for edit. Progress goes to stderr; stdout ends with `---` and a YAML summary.
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
import math
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import NamedTuple

import torch
from torch import nn
from torch.nn import functional as F

try:  # here and not where it is used: the compiler cannot trace an import that fails
    from flash_attn_interface import flash_attn_func as FLASH  # FlashAttention 3, for Hopper GPUs
except ImportError:
    FLASH = None

from nanochat import harness
from nanochat import machine as machines
from nanochat.command import Problem, exit_code
from nanochat.harness import Clock
from nanochat.kernels import cross_entropy, loss_chunk, norm, relu2
from nanochat.machine import Machine
from nanochat.optim import AdamW, Muon
from nanochat.prepare import EVAL_SEQ_LEN, PRESETS, Dataset, Preset, batch, bits_per_byte
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

# Which layers look far: letters for layers, repeated. L sees all before it, S the last quarter of SEQ_LEN; the last layer
# is always L. Upstream's "SSSL" pays at contexts of 2,048.
WINDOW_PATTERN = "L"

# Share of the features dropped where a block adds to the residual stream. 0-0.2; pays only when data repeats.
DROPOUT = 0.0

# Width of an attention head; even, for the rotary pairs.
HEAD_DIM = 32

# Tokens that go through a device at once; what a step has more is accumulated. Speed and memory, not the result.
MICRO_TOKENS = 131_072

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
    window_pattern: str = WINDOW_PATTERN
    activation: str = ACTIVATION
    qk_norm_scale: float = QK_NORM_SCALE
    logit_softcap: float = LOGIT_SOFTCAP
    value_embeddings: bool = VALUE_EMBEDDINGS
    x0_residual: bool = X0_RESIDUAL
    rope_base: float = ROPE_BASE
    dropout: float = DROPOUT

    def __post_init__(self):
        """Raises Problem for a shape that no model has: of a knob out of its range, or of a checkpoint not ours."""
        whole = ("vocab_size", "n_layer", "n_embd", "head_dim", "seq_len")
        wrong = [name for name in whole if not isinstance(getattr(self, name), int) or getattr(self, name) < 1]
        wrong += (
            ["head_dim (even, and n_embd is a multiple of it)"]
            if not wrong and (self.head_dim % 2 or self.n_embd % self.head_dim)
            else []
        )
        wrong += ["window_pattern (S and L)"] if not self.window_pattern or set(self.window_pattern) - {*"SL"} else []
        wrong += ["activation (relu2 or gelu)"] if self.activation not in ("relu2", "gelu") else []
        at_least_0 = ("qk_norm_scale", "logit_softcap", "rope_base", "dropout")
        wrong += [name for name in at_least_0 if not 0 <= getattr(self, name) < (1 if name == "dropout" else math.inf)]
        if wrong:
            raise Problem(f"no model has such a {wrong[0]}; look at the knobs of train.py")

    def window(self, layer: int) -> int | None:
        """How many tokens back a layer sees, its own included; None: all of them."""
        letter = self.window_pattern[layer % len(self.window_pattern)]
        return None if letter == "L" or layer == self.n_layer - 1 else max(1, self.seq_len // 4)


def config_for(depth: int, vocab_size: int, rung: Preset = PRESETS["smoke"]) -> Config:
    """The shape that follows from `depth` on a rung of the ladder."""
    head_dim = HEAD_DIM * rung.head_factor
    width = math.ceil(ASPECT * rung.aspect_factor * depth / max(1, head_dim)) * head_dim
    return Config(vocab_size, n_layer=depth, n_embd=width, head_dim=head_dim, seq_len=SEQ_LEN * rung.seq_factor)


def linear(x, weight):
    """Master weights are fp32; the product is in the dtype of the activations (fp32 on CPU, bf16 on CUDA)."""
    return F.linear(x, weight.to(x.dtype))


def rotate(x, cos, sin):
    """Rotary embedding of (..., T, heads, D); cos, sin: (T, 1, D/2)."""
    a, b = x.chunk(2, dim=-1)
    return torch.cat((a * cos + b * sin, b * cos - a * sin), dim=-1)


class Flash(NamedTuple):
    """A mask in FlashAttention 3's words."""

    left: int  # how many tokens before its own a query sees; -1: all


def band(T: int, S: int, window: int):
    """Whether query i of T, the last of S positions, sees position j: up to its own, at most `window` in all."""
    return lambda b, h, i, j: (j <= i + S - T) & (j > i + S - T - window)


def attention_mask(T: int, S: int, window: int | None, device, dtype, is_compiled: bool):
    """How T queries, the last of S positions, see them, in the form of the kernel to use. None: every device has one."""
    sees_all = window is None or window >= S
    is_cuda = device.type == "cuda" and T == S
    if FLASH and is_cuda and dtype == torch.bfloat16:
        return Flash(-1 if sees_all else window - 1)
    if sees_all and T in (1, S):
        return None
    sees = band(T, S, S if sees_all else window)
    if is_cuda and is_compiled:
        from torch.nn.attention.flex_attention import create_block_mask

        return create_block_mask(sees, None, None, T, S, device)  # blocks that nobody sees are skipped
    i, j = torch.arange(T, device=device)[:, None], torch.arange(S, device=device)
    return sees(0, 0, i, j)  # (T, S)


def attend(q, k, v, mask, scale):
    """softmax(scale * q k^T, masked) v for (B, H, T, D) queries and (B, H, S, D) keys and values; causal."""
    if isinstance(mask, Flash):
        q, k, v = (t.transpose(1, 2) for t in (q, k, v))
        scale = scale or q.size(-1) ** -0.5
        y = FLASH(q, k, v, softmax_scale=scale, causal=True, window_size=(mask.left, -1 if mask.left < 0 else 0))
        return (y[0] if isinstance(y, tuple) else y).transpose(1, 2)  # some versions return the log-sums too
    if mask is None or isinstance(mask, torch.Tensor):
        is_causal = mask is None and q.size(2) == k.size(2)
        return F.scaled_dot_product_attention(q, k, v, attn_mask=mask, is_causal=is_causal, scale=scale)
    from torch.nn.attention.flex_attention import flex_attention

    return flex_attention(q, k, v, block_mask=mask, scale=scale)


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

    def forward(self, x, value_embedding, cos, sin, mask, cache=None):
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
        v = v.transpose(1, 2)
        if cache is not None:
            k, v = cache.extend(k, v)  # (B, H, S, D)
        y = attend(q, k, v, mask, scale)
        return linear(y.transpose(1, 2).reshape(B, T, C), self.proj)


class MLP(nn.Module):
    def __init__(self, config: Config):
        super().__init__()
        self.activation = {"relu2": relu2, "gelu": F.gelu}[config.activation]
        self.fc = nn.Parameter(torch.empty(4 * config.n_embd, config.n_embd))
        self.proj = nn.Parameter(torch.empty(config.n_embd, 4 * config.n_embd))

    def forward(self, x):
        return linear(self.activation(linear(x, self.fc)), self.proj)


class Block(nn.Module):
    def __init__(self, config: Config, has_value_embedding: bool):
        super().__init__()
        self.dropout = config.dropout
        self.attn = Attention(config, has_value_embedding)
        self.mlp = MLP(config)

    def forward(self, x, value_embedding, cos, sin, mask, cache=None):
        x = x + self.drop(self.attn(norm(x), value_embedding, cos, sin, mask, cache))
        return x + self.drop(self.mlp(norm(x)))

    def drop(self, x):
        return F.dropout(x, self.dropout, self.training) if self.dropout else x


class Cache:
    """Keys and values of the tokens a layer has seen, for sampling one token at a time."""

    def __init__(self):
        self.k = self.v = None

    def extend(self, k, v):
        """Append (B, H, T, D) each; returns all so far."""
        if self.k is not None:
            k, v = torch.cat((self.k, k), dim=2), torch.cat((self.v, v), dim=2)
        self.k, self.v = k, v
        return k, v

    def __len__(self):
        return 0 if self.k is None else self.k.size(2)


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
        self.dtype = torch.float32  # of activations
        self.is_compiled = False
        self.loss_chunk = loss_chunk
        self.tables = {}  # of `places`

    def on(self, machine: Machine, is_compiled: bool) -> "GPT":
        """Move to the machine's device and precision; compile there what is worth it, at the first step."""
        self.dtype, self.is_compiled, self.tables = machine.dtype, is_compiled, {}
        if is_compiled:
            self.trunk = torch.compile(self.trunk, dynamic=False)
            self.loss_chunk = torch.compile(loss_chunk, dynamic=False)
        return self.to(machine.device)

    def uncompiled(self) -> "GPT":
        """For evaluation, whose shapes are others: each would be compiled anew."""
        self.is_compiled, self.tables, self.loss_chunk = False, {}, loss_chunk
        self.__dict__.pop("trunk", None)
        return self

    def trunk(self, tokens, cos, sin, masks, caches=None):
        """(B, T) -> (B, T, C) normed features in self.dtype."""
        x = x0 = norm(F.embedding(tokens, self.embed).to(self.dtype))
        for i, block in enumerate(self.blocks):
            x = self.resid_scales[i].to(self.dtype) * x
            if self.config.x0_residual:
                x = x + self.x0_scales[i].to(self.dtype) * x0
            has_ve = str(i) in self.value_embeds
            value_embedding = F.embedding(tokens, self.value_embeds[str(i)]).to(self.dtype) if has_ve else None
            x = block(x, value_embedding, cos, sin, masks[i], caches[i] if caches else None)
        return norm(x)

    def forward(self, tokens, caches=None):
        """caches: one Cache a layer, when `tokens` go on where those of earlier calls ended."""
        features = self.trunk(tokens, *self.places(tokens, len(caches[0]) if caches else 0), caches)
        logits = linear(features, self.unembed).float()
        cap = self.config.logit_softcap
        return cap * torch.tanh(logits / cap) if cap else logits

    def loss(self, tokens, targets):
        """Mean cross-entropy in nats, the same number as from `forward`, without ever holding all the logits."""
        features = self.trunk(tokens, *self.places(tokens)).flatten(0, 1)
        return cross_entropy(features, self.unembed, targets.flatten(), self.config.logit_softcap, self.loss_chunk)

    def places(self, tokens, past: int = 0):
        """What depends on positions alone, kept from call to call: rotary cos and sin, one mask a layer."""
        key = tokens.size(1), past, tokens.device
        if key not in self.tables:
            if len(self.tables) > 4:
                self.tables.clear()  # sampling comes with a new `past` every token
            T, S, device = tokens.size(1), past + tokens.size(1), tokens.device
            pairs = torch.arange(0, self.config.head_dim, 2, device=device) / self.config.head_dim
            angles = torch.arange(past, S, device=device)[:, None] * self.config.rope_base**-pairs  # (T, D/2)
            cos, sin = angles.cos()[:, None].to(self.dtype), angles.sin()[:, None].to(self.dtype)
            windows = [self.config.window(i) for i in range(self.config.n_layer)]
            masks = {w: attention_mask(T, S, w, device, self.dtype, self.is_compiled) for w in set(windows)}
            self.tables[key] = cos, sin, [masks[w] for w in windows]
        return self.tables[key]

    def matmul_params(self) -> int:
        """Parameters that multiply activations: all but embeddings (a lookup) and scales."""
        return self.unembed.numel() + sum(p.numel() for p in self.blocks.parameters())

    def flops_per_token(self) -> int:
        """Forward and backward: 6 per matmul parameter, 12 C per position a layer attends to (causal not halved)."""
        T = self.config.seq_len
        positions = sum(min(self.config.window(i) or T, T) for i in range(self.config.n_layer))
        return 6 * self.matmul_params() + 12 * self.config.n_embd * positions

    @torch.no_grad()
    def init(self, seed: int) -> "GPT":
        """Each parameter is drawn from a generator of its own, keyed by (its name, seed): an arm that adds or removes
        one leaves the others as they were, so arms stay paired by seed."""
        width = 1 / math.sqrt(self.config.n_embd)
        for name, p in self.named_parameters():
            rng = torch.Generator().manual_seed(key(seed, name))
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


def key(seed: int, name: str) -> int:
    """The seed of one purpose: what draws for another purpose never shifts it."""
    return int.from_bytes(hashlib.sha256(f"{seed}:{name}".encode()).digest()[:8], "little") >> 1


# ---- optimisation ----


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
    return Muon(matrices, MATRIX_LR, MUON_MOMENTUM, NS_STEPS), AdamW(rest, ADAM_BETA1, ADAM_BETA2)


def lr_scale(progress: float) -> float:
    """Share of the full learning rate after `progress` in [0, 1) of the steps: a trapezoid, blind to elapsed time."""
    if progress < WARMUP_FRAC:
        return progress / WARMUP_FRAC
    if progress > 1 - WARMDOWN_FRAC:
        left = (1 - progress) / WARMDOWN_FRAC
        return FINAL_LR_FRAC + (1 - FINAL_LR_FRAC) * left
    return 1.0


# ---- the run ----


def load(path, device: str = "cpu") -> GPT:
    """The model of a checkpoint folder, in evaluation mode: whoever scores it calls this."""
    found = harness.read_checkpoint(Path(path))
    try:
        model = GPT(Config(**found["config"]))
        model.load_state_dict(found["weights"])
    except (TypeError, RuntimeError, AttributeError, Problem) as error:  # of a train.py that knew other parts
        reason = str(error).splitlines()[0]
        raise Problem(f"{path} is of another model than this train.py makes: {reason:.100}") from error
    return model.to(device).eval()


def train(
    model: GPT, dataset: Dataset, seed: int, rows: int, clock: Clock, log_every=None, save_every=None, keeper=None
):
    """Train until the clock's budget is spent, `rows` sequences a step over all ranks. Returns the losses, (steps,).

    keeper: a harness.Keeper, which holds the state of an interrupted run and takes ours every `save_every` steps.
    Raises Problem when the loss is no longer a number.
    """
    machine, seq_len = clock.machine, model.config.seq_len
    muon, adamw = optimizers(model)
    held = {"model": list(model.parameters()), "muon": muon.tensors(), "adamw": adamw.tensors()}
    losses = keeper.restore(held, clock) if keeper else []
    progress_line = harness.Progress(clock, rows * seq_len, log_every)
    own = machine.share(rows)  # the sequences of each step that this rank takes
    at_once = max(1, MICRO_TOKENS // seq_len)
    clock.start()
    gc.freeze()  # nothing allocated so far will die; the collector need not look at it
    model.train()
    progress = clock.progress(len(losses))
    while progress < 1:
        step = len(losses)
        if model.config.dropout:
            torch.manual_seed(key(seed, f"dropout {step} {machine.rank}"))  # the global generator serves dropout alone
        x, y = (t[own] for t in batch(dataset, seed, step, rows, seq_len))  # (own rows, seq_len)
        loss = 0.0
        for i in range(0, len(x), at_once):
            part, targets = (machine.take(t[i : i + at_once]) for t in (x, y))
            part_loss = model.loss(part, targets) * (len(part) / len(x))
            part_loss.backward()
            loss = loss + part_loss.detach()
        machine.mean([p.grad for p in model.parameters()] + [loss])
        muon.step(lr_scale(progress), WEIGHT_DECAY * (1 - progress))
        adamw.step(lr_scale(progress))
        model.zero_grad()
        losses.append(loss)
        clock.tick()
        progress = clock.progress(step + 1)
        is_due = progress_line.is_due(step, progress)
        is_kept = bool(keeper and save_every and (step + 1) % save_every == 0 and progress < 1)
        # reading a loss stalls a GPU, and costs a CPU nothing
        if (is_due or is_kept or machine.device.type == "cpu") and not math.isfinite(number := loss.item()):
            raise Problem(f"the loss is {number} at step {step}; lower a learning rate, or undo the last change")
        if is_due:
            progress_line.show(step, progress, number)
        if is_kept:
            keeper.keep(held, clock, losses)
    clock.stop()
    return torch.stack(losses)


def main() -> None:
    args = harness.arguments((__doc__ or "").partition("\n")[0])
    machine = machines.machine(args.device, args.threads)
    is_compiled = machine.device.type == "cuda" if args.compile is None else args.compile
    rung = PRESETS[args.preset or "smoke"]
    depth = args.depth or DEPTH * rung.depth_factor
    has_budget = any((args.tokens, args.steps, args.flops, args.seconds))
    # the dial alone: a deeper model reads more tokens, in larger batches
    is_dial = args.depth is not None and args.preset is None and not has_budget
    rows = ROWS * (max(1, depth // DEPTH) if is_dial else rung.rows_factor)
    if min(rows, SEQ_LEN, MICRO_TOKENS, ROPE_BASE) < 1 or not 0 <= max(ADAM_BETA1, ADAM_BETA2, MUON_MOMENTUM) < 1:
        raise Problem("ROWS, SEQ_LEN, MICRO_TOKENS and ROPE_BASE are at least 1, betas and momentum below 1")
    machine.share(rows)  # says at once what cannot be divided

    dataset = load_data(args.data or rung.data, rung.vocab_size)
    config = config_for(depth, dataset.vocab_size, rung)
    step_tokens = rows * config.seq_len
    folder, keeper = (args.out / "checkpoint" if args.out else None), None
    if folder and machine.is_main:
        harness.prepare_folder(folder)
    tokenizer = (dataset.folder / "tokenizer.tiktoken").read_text()  # now: a cache may be gone when the run ends
    shape = f"{rows} rows of {config.seq_len} tokens a step at depth {depth}"
    with machines.out_of_memory(machine, shape, f"--depth, MICRO_TOKENS ({MICRO_TOKENS}) or ROWS ({ROWS})"):
        model = GPT(config).init(args.seed).on(machine, is_compiled)
        tokens = args.tokens or (harness.TOKENS_PER_PARAM * model.matmul_params() if is_dial else rung.tokens)
        if args.flops:
            tokens = args.flops / model.flops_per_token()
        steps = args.steps or max(1, round(tokens / step_tokens))
        clock = Clock(machine, STARTED, None if args.seconds else steps, args.seconds)
        if folder:
            facts = {"seed": args.seed, "steps": clock.steps, "seconds": clock.seconds, "rows": rows, "depth": depth}
            facts |= {"data_hash": dataset.data_hash, "code": harness.code_hash(), "is_compiled": is_compiled}
            keeper = harness.Keeper(folder, facts, machine, args.resume)
        losses = train(model, dataset, args.seed, rows, clock, args.log_every, args.save_every, keeper)
        if not machine.is_main:
            return
        summary: dict = {}
        eval_started = time.perf_counter()
        if not args.no_eval:
            scored, seq_len = dataset.val[: rung.eval_tokens + 1], EVAL_SEQ_LEN * rung.seq_factor
            model.uncompiled().eval()
            summary["val_bpb"] = bits_per_byte(model, scored, dataset.token_bytes, seq_len, rows=8)
            summary["eval_tokens"] = (len(scored) - 1) // seq_len * seq_len
        eval_s = time.perf_counter() - eval_started
    if folder:
        harness.write_checkpoint(folder, asdict(model.config), model.state_dict(), tokenizer)
    harness.print_summary(
        summary
        | {
            "train_loss": losses[-max(1, len(losses) // 10) :].mean().item(),  # nats per token: one batch is noise
            "first_loss": losses[0].item(),  # near ln(vocab_size)
            "params": sum(p.numel() for p in model.parameters()),
            "matmul_params": model.matmul_params(),
            **clock.summary(len(losses), step_tokens, model.flops_per_token(), eval_s, is_compiled),
            "epochs": harness.epochs(len(losses) * step_tokens, len(dataset.train)),
            "data_hash": dataset.data_hash,
            "seed": args.seed,
            "preset": None if has_budget or is_dial else args.preset or "smoke",
            "depth": depth,
        }
    )


if __name__ == "__main__":
    raise SystemExit(exit_code(main))
