"""What nanochat is worth against plain code: speed, start, memory, and bits per byte at equal FLOPs.

    scripts/bench nanochat                                   # speed and start, ~3 minutes on two cores
    scripts/bench nanochat bpb --preset std --seeds 8        # 16 runs, two at a time, a line a run; --ablations: 32
    scripts/bench nanochat tune                              # the learning rate that the AdamW arms of bpb use

The references are written out below, plainly. Every speed is a ratio of blocks interleaved in one process: this
survives a machine whose speed drifts. On a CPU seconds are CPU seconds of one thread, so a neighbour's share of the
core is not counted. FLOPs are the model's: what Muon adds (by count 13 % at depth 2, 39 % at depth 4, at 1,024 tokens
a step) is in the speeds, not in MFU nor in "equal FLOPs". Reads the corpus, keeps nothing.

Not verified: the CUDA branches (gpu8, fewer steps, one run at a time) were never run.
"""

from __future__ import annotations

import argparse
import contextlib
import functools
import io
import json
import math
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor, as_completed
from dataclasses import replace
from pathlib import Path
from statistics import mean, median, stdev

import yaml

ROOT = Path(__file__).parents[2]
import torch
from torch import nn
from torch.nn import functional as F

from nanochat import harness, optim, train
from nanochat import machine as machines
from nanochat import model as models
from nanochat.prepare import EVAL_SEQ_LEN, PRESETS, batch, bits_per_byte
from nanochat.prepare import load as load_data

IS_CUDA = torch.cuda.is_available()

# AdamW's step for the matrices in the arms without Muon: the best of `tune` at smoke. Mean bpb of adamw-no-ve over
# seeds 1 and 2 along the grid: 2.3638, 2.2810, 2.2384, 2.2219, 2.2254, 2.3695.
ADAMW_MATRIX_LR = 1e-2
ADAMW_GRID = (1e-3, 3e-3, 6e-3, 1e-2, 1.7e-2, 3e-2)

# arm -> (has Muon, has value embeddings); the first is what the others are compared with
ARMS = {"recipe": (True, True), "adamw-no-ve": (False, False), "no-muon": (False, True), "no-ve": (True, False)}

# Student's t at 97.5 % for 1, 2, ... degrees of freedom: 95 % intervals of 2 to 20 pairs
T975 = (12.706, 4.303, 3.182, 2.776, 2.571, 2.447, 2.365, 2.306, 2.262, 2.228)
T975 += (2.201, 2.179, 2.160, 2.145, 2.131, 2.120, 2.110, 2.101, 2.093)


# ---- the reference: the same model and step as anybody would write them first ----


def rms(x):
    return F.rms_norm(x, (x.size(-1),))


class Plain(nn.Module):
    """models.GPT at its default knobs, over the very parameters of `gpt`: (B, T) -> (B, T, V) float32 logits, causal,
    T its seq_len. Autograd makes every gradient. Knows neither windows, dropout nor the other settings of a knob."""

    def __init__(self, gpt: models.GPT):
        super().__init__()
        self.gpt, c = gpt, gpt.config
        frequencies = c.rope_base ** -(torch.arange(0, c.head_dim, 2) / c.head_dim)
        angles = torch.outer(torch.arange(c.seq_len), frequencies)[:, None]  # (T, 1, D/2)
        self.register_buffer("cos", angles.cos())
        self.register_buffer("sin", angles.sin())

    def forward(self, tokens):
        gpt, cap = self.gpt, self.gpt.config.logit_softcap
        x = x0 = rms(F.embedding(tokens, gpt.embed))
        for i, block in enumerate(gpt.blocks):
            x = gpt.resid_scales[i] * x + gpt.x0_scales[i] * x0
            x = x + self.attention(i, rms(x), tokens)
            hidden = F.relu(F.linear(rms(x), block.mlp.fc)).square()
            x = x + F.linear(hidden, block.mlp.proj)
        logits = F.linear(rms(x), gpt.unembed).float()
        return cap * torch.tanh(logits / cap)

    def attention(self, i, x, tokens):
        B, T, C = x.shape
        attn, c = self.gpt.blocks[i].attn, self.gpt.config
        q, k, v = (t.view(B, T, -1, c.head_dim) for t in F.linear(x, attn.qkv.flatten(0, 1)).split(C, dim=2))
        if str(i) in self.gpt.value_embeds:
            gate = 2 * torch.sigmoid(F.linear(x[..., : attn.gate.size(1)], attn.gate))  # (B, T, H)
            v = v + gate.unsqueeze(-1) * F.embedding(tokens, self.gpt.value_embeds[str(i)]).view_as(v)
        q, k = (c.qk_norm_scale * rms(self.rotate(t)) for t in (q, k))
        q, k, v = (t.transpose(1, 2) for t in (q, k, v))  # (B, H, T, D)
        y = F.scaled_dot_product_attention(q, k, v, is_causal=True)
        return F.linear(y.transpose(1, 2).reshape(B, T, C), attn.proj)

    def rotate(self, x):
        a, b = x.chunk(2, dim=-1)
        return torch.cat((a * self.cos + b * self.sin, b * self.cos - a * self.sin), dim=-1)

    def loss(self, tokens, targets):
        """Mean cross-entropy in nats of all the logits at once."""
        with torch.autocast(tokens.device.type, torch.bfloat16, enabled=tokens.is_cuda):
            return F.cross_entropy(self(tokens).flatten(0, 1), targets.flatten())


class PlainMuon:
    """optim.Muon's step, one matrix after another."""

    def __init__(self, params, lr: float):
        self.params, self.momenta, self.lr = params, [torch.zeros_like(p) for p in params], lr

    @torch.no_grad()
    def step(self, lr_scale: float, decay: float):
        for param, momentum in zip(self.params, self.momenta, strict=True):
            stacks = (t.view(-1, *t.shape[-2:]) for t in (param, param.grad, momentum))  # a matrix is a stack of one
            for p, g, m in zip(*stacks, strict=True):
                m.lerp_(g, 1 - train.MUON_MOMENTUM)
                update = polar(g.lerp(m, train.MUON_MOMENTUM))
                lr = self.lr * max(1.0, p.size(0) / p.size(1)) ** 0.5 * lr_scale
                p.sub_(lr * (update + decay * p * (update * p > 0)))


def polar(g):
    """The orthogonal matrix near g, by Polar Express."""
    x = g.bfloat16() if g.is_cuda else g
    if is_tall := g.size(0) > g.size(1):
        x = x.T
    x = x / (1.02 * x.norm() + 1e-6)
    for a, b, c in optim.POLAR_EXPRESS[: train.NS_STEPS]:
        gram = x @ x.T
        x = a * x + (b * gram + c * gram @ gram) @ x
    return (x.T if is_tall else x).to(g.dtype)


def groups(model: models.GPT) -> tuple[list, list]:
    """(matrices, [(parameter, lr)] of the rest), as train.optimizers gives them out."""
    muon, adamw = train.optimizers(model)
    matrices = [p for params, *_ in muon.groups for p in params]
    return matrices, [(p, lr) for lr, params, *_ in adamw.groups for p in params]


# ---- speed ----


def ours(model, dataset, rows, steps, machine) -> None:
    """train.train itself."""
    with contextlib.redirect_stderr(io.StringIO()):
        train.train(model, dataset, 1, rows, harness.Clock(machine, time.perf_counter(), steps, None))


def plain(model, dataset, rows, steps, machine, has_muon: bool = True) -> None:
    """The same run, every step of it written plainly: torch.optim's loop over parameters, one matrix at a time."""
    reference, (matrices, rest) = Plain(model).to(machine.device), groups(model)
    muon = PlainMuon(matrices if has_muon else [], train.MATRIX_LR)
    rest += [] if has_muon else [(p, ADAMW_MATRIX_LR) for p in matrices]
    options = {"betas": (train.ADAM_BETA1, train.ADAM_BETA2), "eps": 1e-10, "weight_decay": 0.0}
    grouped = [{"params": [p], "lr": lr, "own": lr} for p, lr in rest]
    adamw = torch.optim.AdamW(grouped, **({} if IS_CUDA else {"foreach": False, "fused": False}), **options)
    for step in range(steps):
        x, y = batch(dataset, 1, step, rows, model.config.seq_len)
        loss = reference.loss(machine.take(x), machine.take(y))
        loss.backward()
        lr_scale = train.lr_scale(step / steps)
        for group in adamw.param_groups:
            group["lr"] = group["own"] * lr_scale
        muon.step(lr_scale, train.WEIGHT_DECAY * (1 - step / steps))
        adamw.step()
        model.zero_grad()
        if not IS_CUDA and not math.isfinite(loss.item()):
            raise SystemExit(f"bench: the plain loss is {loss.item()}")
    machine.wait()


BLOCKS = {"ours": ours, "plain": plain, "plain, AdamW only": functools.partial(plain, has_muon=False)}


def spread(values: list[float], form: str = ".2f") -> str:
    """`median (min-max)`."""
    return f"{median(values):{form}} ({min(values):{form}}-{max(values):{form}})"


def ratios(ours_s: list[float], other_s: list[float]) -> list[float]:
    """How many times as fast as the other ours is, round by round: their seconds over our seconds, paired."""
    return [other / own for own, other in zip(ours_s, other_s, strict=True)]


def speed_lines(seconds: dict[str, list[float]], tokens: int, flops: float, roofline: float, is_deep: bool):
    """The table of one depth. seconds: of each round's block of `tokens` and `flops`, by who ran it."""
    for name, taken in seconds.items():
        against = "1" if name == "ours" else spread(ratios(seconds["ours"], taken))
        target = "  (target >= 1.15)" if name == "plain" and not is_deep else ""
        best, middle = tokens / min(taken), tokens / median(taken)
        yield f"  {name:18} tokens/s best {best:9,.0f} median {middle:9,.0f}   ours is faster x {against}{target}"
    mfu = spread([100 * flops / s / roofline for s in seconds["ours"]], ".1f") + ("  (target >= 40)" if is_deep else "")
    yield f"  {'MFU of ours, %':18} {mfu}   of the best roofline of the run, {roofline / 1e9:,.1f} GFLOP/s"


def speed() -> Iterator[str]:
    """Blocks of each by turns, in both directions. The roofline is the best seen before each of our blocks: in CPU
    seconds, and a neighbour can only lower it, so one round's own would flatter us."""
    machine = machines.machine(threads=1)
    now = time.perf_counter if IS_CUDA else time.process_time
    for preset in ("gpu8",) if IS_CUDA else ("smoke", "promote"):
        rung = PRESETS[preset]
        depth, is_deep = train.DEPTH * rung.depth_factor, rung.depth_factor > 1
        dataset, rows = load_data(vocab_size=rung.vocab_size), train.ROWS * min(4, rung.rows_factor)  # plain has to fit
        steps, rounds = (10, 5) if IS_CUDA else ((6, 11) if is_deep else (16, 11))
        config = train.config_for(depth, dataset.vocab_size, rung)
        models = {name: models.GPT(config).init(1).on(machine, IS_CUDA and name == "ours") for name in BLOCKS}
        seconds: dict[str, list[float]] = {name: [] for name in BLOCKS}
        roofline = 0.0
        for name, block in BLOCKS.items():
            block(models[name], dataset, rows, 3, machine)  # warm
        for turn in range(rounds):
            roofline = max(roofline, machine.peak_flops() or math.nan)
            for name in list(BLOCKS)[:: -1 if turn % 2 else 1]:
                started = now()
                BLOCKS[name](models[name], dataset, rows, steps, machine)
                seconds[name].append(now() - started)
        tokens = steps * rows * config.seq_len
        yield f"speed at depth {depth} ({preset}): {rounds} rounds of {steps} steps, {tokens} tokens; median (min-max)"
        yield from speed_lines(seconds, tokens, tokens * models["ours"].flops_per_token(), roofline, is_deep)


# ---- start, memory, share of what is not training ----


def child(*argv: str) -> str:
    """Stdout of `python ARGV` in the repository, one thread; ends the benchmark if that fails."""
    environment = os.environ | {"OMP_NUM_THREADS": "1", "PYTHONSAFEPATH": "1", "PYTHONPATH": str(ROOT)}
    command = [sys.executable, *argv]
    done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, check=False)
    if done.returncode:
        raise SystemExit(f"bench: {' '.join(argv)} failed: {done.stderr.strip()[-300:]}")
    return done.stdout


def summary(*flags: str) -> dict:
    """The YAML summary of a real `python -m nanochat.train`."""
    return yaml.safe_load(child("-m", "nanochat.train", *flags).rpartition("---")[2])


def start() -> Iterator[str]:
    """Of real processes. The summary knows no seconds of batches: they are timed here, as many as the run has steps."""
    preset, flags = ("gpu8", ("--steps", "50")) if IS_CUDA else ("demo", ())
    starts = [summary("--preset", preset, "--steps", "3", "--no-eval")["first_step_s"] for _ in range(5)]
    yield "start: real runs, wall seconds"
    yield f"  process start to first step, s    best {min(starts):.2f} median {median(starts):.2f} of 5 (target <= 5)"
    run, rung = summary("--preset", preset, *flags), PRESETS[preset]
    started = time.perf_counter()
    dataset = load_data(vocab_size=rung.vocab_size)
    for step in range(run["steps"]):
        batch(dataset, 1, step, train.ROWS * rung.rows_factor, train.SEQ_LEN * rung.seq_factor)
    data_s = time.perf_counter() - started
    share = 100 * (data_s + run["eval_s"]) / run["total_s"]
    yield f"  data + evaluation of a {preset} run, %  {share:.1f} (target <= 15): {data_s:.2f} + {run['eval_s']:.2f} of"
    yield f"  {'':34}{run['total_s']:.1f} s, first step at {run['first_step_s']:.2f} s, training {run['train_s']:.1f} s"
    yield f"  peak memory of a {preset} run, MB     {run['peak_mem_mb']:.0f} (target <= 700)"


# ---- bits per byte at equal FLOPs ----


def worker(arm: str, seed: int, preset: str, matrix_lr: float) -> dict:
    """One run of an arm, in this process: what it scored, and that its FLOPs are the recipe's to within one step."""
    has_muon, has_value_embeddings = ARMS[arm]
    machine, rung = machines.machine(threads=1), PRESETS[preset]
    dataset, rows = load_data(rung.data, rung.vocab_size), train.ROWS * rung.rows_factor
    config = train.config_for(train.DEPTH * rung.depth_factor, dataset.vocab_size, rung)
    recipe_flops = models.GPT(config).flops_per_token() * rung.tokens
    model = models.GPT(replace(config, value_embeddings=has_value_embeddings)).init(seed).on(machine, IS_CUDA)
    step_flops = model.flops_per_token() * rows * config.seq_len
    if not has_muon:
        matrices, rest = groups(model)
        adamw = optim.AdamW([*rest, *((p, matrix_lr) for p in matrices)], train.ADAM_BETA1, train.ADAM_BETA2)
        train.optimizers = lambda model: (optim.Muon([], 0.0, 0.0, 0), adamw)
    clock = harness.Clock(machine, time.perf_counter(), round(recipe_flops / step_flops), None)
    train.train(model, dataset, seed, rows, clock)
    scored, seq_len = dataset.val[: rung.eval_tokens + 1], EVAL_SEQ_LEN * rung.seq_factor
    bpb = bits_per_byte(model.eval(), scored, dataset.token_bytes, seq_len, rows=8)
    total_s = time.perf_counter() - clock.started
    return {"val_bpb": bpb, "flops_total": step_flops * clock.steps, "steps": clock.steps, "total_s": total_s}


def runs(todo: list[tuple]) -> Iterator[tuple[tuple, dict]]:
    """(arguments of `worker`, what it gave) of each, as they end; each a process of one thread, two at a time, on a GPU
    one."""
    pool = ThreadPoolExecutor(1 if IS_CUDA else 2)
    names = ("--worker", "--seed", "--preset", "--lr")
    try:
        futures = {}
        for job in todo:
            futures[pool.submit(child, __file__, *(f"{k}={v}" for k, v in zip(names, job, strict=True)))] = job
        for future in as_completed(futures):
            yield futures[future], json.loads(future.result().splitlines()[-1])
    finally:
        pool.shutdown(cancel_futures=True)  # one failed, or Ctrl-C: those not begun never run


def paired(recipe: dict[int, float], other: dict[int, float]) -> tuple[float, float]:
    """(mean of other - recipe over their common seeds, half of its 95 % t interval). Needs 2 seeds, at most 20."""
    differences = [other[seed] - recipe[seed] for seed in recipe.keys() & other.keys()]
    n = len(differences)
    return mean(differences), T975[n - 2] * stdev(differences) / math.sqrt(n)


def bpb_lines(scores: dict[str, dict[int, float]]) -> Iterator[str]:
    """Each arm's mean and sd over seeds, and what it costs against the recipe. scores: bpb by arm and seed."""
    for arm, by_seed in scores.items():
        values = list(by_seed.values())
        line = f"  {arm:12} val_bpb {mean(values):.4f} +- {stdev(values):.4f} (sd, {len(values)} seeds)"
        if arm != "recipe":
            difference, half = paired(scores["recipe"], by_seed)
            verdict = "excludes zero" if abs(difference) > half else "does not exclude zero"
            line += f"   minus recipe {difference:+.4f} +- {half:.4f} (95 %, paired): {verdict}"
        yield line


def bpb(preset: str, seeds: int, arms: list[str]) -> Iterator[str]:
    """The recipe against arms without a part of it, seed by seed, a line a run as soon as it ends."""
    yield f"bpb at {preset}: equal model FLOPs (steps match the recipe's to one); AdamW matrix lr {ADAMW_MATRIX_LR:g}"
    scores: dict[str, dict[int, float]] = {arm: {} for arm in ("recipe", *arms)}
    todo = [(arm, seed, preset, ADAMW_MATRIX_LR) for seed in range(1, seeds + 1) for arm in scores]
    for (arm, seed, *_), got in runs(todo):
        scores[arm][seed] = got["val_bpb"]
        took = f"flops_total {got['flops_total']:.4e}  steps {got['steps']}  total {got['total_s']:.0f} s"
        yield f"  run {arm:12} seed {seed:2}  val_bpb {got['val_bpb']:.4f}  {took}"
    yield from bpb_lines(scores)


def tune(seeds: int) -> Iterator[str]:
    """AdamW's learning rate for matrices at smoke, for the arm without Muon and value embeddings."""
    yield f"tune: adamw-no-ve at smoke, {seeds} seeds a learning rate of the matrices"
    scores: dict[float, list[float]] = {lr: [] for lr in ADAMW_GRID}
    todo = [("adamw-no-ve", seed, "smoke", lr) for lr in ADAMW_GRID for seed in range(1, seeds + 1)]
    for (_, seed, _, lr), got in runs(todo):
        scores[lr].append(got["val_bpb"])
        yield f"  run lr {lr:<6g} seed {seed}  val_bpb {got['val_bpb']:.4f}"
    for lr, values in scores.items():
        yield f"  lr {lr:<6g} val_bpb mean {mean(values):.4f}"


# ---- the command ----


def main() -> None:
    raw = argparse.RawDescriptionHelpFormatter
    flags = argparse.ArgumentParser(prog="scripts/bench nanochat", description=__doc__, formatter_class=raw)
    flags.add_argument("sections", nargs="*", metavar="SECTION", help="speed, start, bpb, tune [speed start]")
    flags.add_argument("--preset", choices=PRESETS, default="std", help="of bpb: its budget [std]")
    flags.add_argument("--seeds", type=int, metavar="N", help="of bpb [8] and tune [2]: seeds 1 to N, 2 to 20")
    flags.add_argument("--ablations", action="store_true", help="of bpb: also no-muon and no-ve, each part off alone")
    for name, kind in (("worker", str), ("seed", int), ("lr", float)):
        flags.add_argument(f"--{name}", type=kind, help=argparse.SUPPRESS)
    args = flags.parse_args()
    if args.worker:
        print(json.dumps(worker(args.worker, args.seed, args.preset, args.lr)))
        return
    sections = {"speed": speed, "start": start, "tune": lambda: tune(args.seeds or 2)}
    sections["bpb"] = lambda: bpb(args.preset, args.seeds or 8, list(ARMS)[1 : None if args.ablations else 2])
    if unknown := set(args.sections) - sections.keys():
        flags.error(f"no section {', '.join(sorted(unknown))}; there are {', '.join(sections)}")
    if args.seeds is not None and not 2 <= args.seeds <= len(T975) + 1:
        flags.error(f"--seeds is {args.seeds}; 2 to {len(T975) + 1} have an interval")
    name = torch.cuda.get_device_name() if IS_CUDA else "cpu, 1 thread"
    print(f"nanochat bench: torch {torch.__version__}, {os.cpu_count()} CPUs, {name}, data {load_data().data_hash}")
    for section in args.sections or ("speed", "start"):
        for line in sections[section]():
            print(line, flush=True)


if __name__ == "__main__":
    main()
