"""Train a small GPT on one core, one GPU or several, save it, print what it took. This is the file that research edits.

    python -m nanochat.train --preset smoke --seed 1 --out runs/a
    torchrun --nproc-per-node 8 -m nanochat.train --preset gpu12 --out runs/b   # web text, fetched once

Every constant below is a knob: one literal on one line, its range and its trade-off above it, a blank line around it
(so that two edits to two knobs merge). The model is model.py, the optimizers optim.py. Budgets, data, batches, the clock and the metric are in prepare.py and
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
import math
from dataclasses import asdict
from pathlib import Path

import torch

from nanochat import harness
from nanochat import machine as machines
from nanochat.command import Problem, exit_code
from nanochat.harness import Clock
from nanochat.model import GPT, Config, key
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

# ---- model and optimizers that follow from the knobs ----


def config_for(depth: int, vocab_size: int, rung: Preset = PRESETS["smoke"]) -> Config:
    """The shape that follows from `depth` on a rung of the ladder."""
    head_dim = HEAD_DIM * rung.head_factor
    return Config(
        vocab_size,
        n_layer=depth,
        n_embd=math.ceil(ASPECT * rung.aspect_factor * depth / max(1, head_dim)) * head_dim,
        head_dim=head_dim,
        seq_len=SEQ_LEN * rung.seq_factor,
        window_pattern=WINDOW_PATTERN,
        activation=ACTIVATION,
        qk_norm_scale=QK_NORM_SCALE,
        logit_softcap=LOGIT_SOFTCAP,
        value_embeddings=VALUE_EMBEDDINGS,
        x0_residual=X0_RESIDUAL,
        rope_base=ROPE_BASE,
        dropout=DROPOUT,
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
        model = GPT(config).init(args.seed, INIT_SCALE).on(machine, is_compiled)
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
