"""The GPT: a Config, and the module it describes. Knows no knobs, no data and no optimizer; research edits it.

Read GPT.trunk first. Forward in any precision, with a cache for sampling; `loss` is the trainer's faster way in.
"""

import hashlib
import math
from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import nn
from torch.nn import functional as F

try:  # here and not where it is used: the compiler cannot trace an import that fails
    from flash_attn_interface import flash_attn_func as FLASH  # FlashAttention 3, for Hopper GPUs
except ImportError:
    FLASH = None

from nanochat.command import Problem
from nanochat.kernels import cross_entropy, loss_chunk, norm, relu2
from nanochat.machine import Machine


@dataclass(frozen=True)
class Config:
    """All that is needed to rebuild the module; saved with the weights: a checkpoint outlives edits of the knobs."""

    vocab_size: int
    n_layer: int
    n_embd: int
    head_dim: int  # even, for the rotary pairs; n_embd is a multiple of it
    seq_len: int  # trained with; any other may be asked for
    window_pattern: str  # S and L by layer, repeated
    activation: str  # relu2 or gelu
    qk_norm_scale: float  # 0: no norm
    logit_softcap: float  # 0: none
    value_embeddings: bool
    x0_residual: bool
    rope_base: float
    dropout: float

    def __post_init__(self):
        """Raises Problem for a shape that no model has: of a knob out of its range, or of a checkpoint not ours."""
        sizes = ("vocab_size", "n_layer", "n_embd", "head_dim", "seq_len")
        allowed = {name: isinstance(getattr(self, name), int) and getattr(self, name) > 0 for name in sizes}
        if all(allowed.values()):
            allowed["head_dim (even, n_embd a multiple of it)"] = not (self.head_dim % 2 or self.n_embd % self.head_dim)
        allowed["window_pattern (S and L)"] = bool(self.window_pattern) and {*self.window_pattern} <= {*"SL"}
        allowed["activation (relu2 or gelu)"] = self.activation in ("relu2", "gelu")
        allowed |= {name: getattr(self, name) >= 0 for name in ("qk_norm_scale", "logit_softcap", "rope_base")}
        allowed["dropout"] = 0 <= self.dropout < 1
        for name, is_allowed in allowed.items():
            if not is_allowed:
                raise Problem(f"no model has such a {name}; look at the knobs of train.py")

    def window(self, layer: int) -> int | None:
        """How many tokens back a layer sees, its own included; None: all of them."""
        letter = self.window_pattern[layer % len(self.window_pattern)]
        return None if letter == "L" or layer == self.n_layer - 1 else max(1, self.seq_len // 4)


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
    def init(self, seed: int, scale: float = 1.0) -> "GPT":
        """Initial weights, those of the blocks' matrices times `scale`. Each parameter is drawn from a generator of its own, keyed by (its name, seed): an arm that adds or removes
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
                    p.copy_(noise * width * scale)
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
