"""What a run is apart from its recipe: flags, budget and clock, files on disk, progress, summary. Frozen for agents.

Knows nothing of models: train.py hands it tensors and plain facts. Every rank of a `torchrun` calls it alike; rank 0
alone writes and prints.
"""

import argparse
import contextlib
import errno
import hashlib
import io
import json
import os
import pickle
import sys
import time
from pathlib import Path

import torch

from nanochat.command import Flags, Problem
from nanochat.machine import Machine
from nanochat.prepare import PRESETS

# Training tokens per matmul parameter when --depth is the only dial turned: what `std` gives depth 2.
TOKENS_PER_PARAM = 11

# A run that reads its corpus more often than this says so: it is about something else than the preset's name says.
EPOCHS = 4

# ---- flags ----


def arguments(description: str, argv: list[str] | None = None) -> argparse.Namespace:
    """The command line of a trainer: the same flags on every machine. Raises Problem for what cannot be meant."""
    flags = Flags(prog="python -m nanochat.train", description=description)
    flags.add_argument("--preset", help=f"budget and shape: {', '.join(PRESETS)}; noise falls as it grows. [smoke]")
    flags.add_argument("--seed", type=int, default=1, help="of weights, data order and dropout; compare seed by seed")
    flags.add_argument("--out", type=Path, metavar="DIR", help="write DIR/checkpoint; without it nothing is kept")
    flags.add_argument("--data", help="as for nanochat.prepare, default the preset's; two corpora don't compare")
    flags.add_argument(
        "--depth", type=int, help="layers, width follows; alone, without preset and budget, batch and horizon too"
    )
    budget = flags.add_mutually_exclusive_group()
    budget.add_argument("--tokens", type=int, help="training tokens, instead of the preset's")
    budget.add_argument("--steps", type=int, help="the same, in steps")
    budget.add_argument("--flops", type=float, help="the same, in FLOPs: what models of two shapes are compared at")
    budget.add_argument(
        "--seconds", type=float, help="the same, from the end of the first step: only on a device nobody else uses"
    )
    flags.add_argument("--no-eval", action="store_true", help="no val_bpb: saves ~1 s where a referee scores anyway")
    flags.add_argument("--save-every", type=int, metavar="N", help="write what --resume needs every N steps")
    flags.add_argument("--resume", action="store_true", help="go on from DIR's saved state, if there is one")
    flags.add_argument("--device", default="auto", choices=("auto", "cpu", "cuda"), help="auto: cuda if there is one")
    flags.add_argument("--threads", type=int, help="CPU threads, default $OMP_NUM_THREADS or 1: one run a core is best")
    flags.add_argument(
        "--compile",
        action=argparse.BooleanOptionalAction,
        help="default: on CUDA only; on a CPU it costs a minute once and buys a sixth",
    )
    flags.add_argument("--log-every", type=int, help="steps between progress lines; default: 10 %% of the run")
    args = flags.parse_args(argv)
    if args.preset is not None and args.preset not in PRESETS:
        raise Problem(f"no preset {args.preset!r}; there are {', '.join(PRESETS)}", code=2)
    for name in ("tokens", "steps", "flops", "depth", "threads", "save_every", "log_every"):
        most = {"threads": 1024, "depth": 10_000, "flops": 1e30}.get(name, 10**15)
        if (value := getattr(args, name)) is not None and not 1 <= value <= most:
            raise Problem(f"--{name.replace('_', '-')} is {value:.6g}, 1 to {most:.6g} is needed", code=2)
    if not 0 <= args.seed < 2**63:
        raise Problem(f"--seed is {args.seed}, 0 to 2**63 - 1 is needed", code=2)
    if args.seconds is not None and not 0 < args.seconds < float("inf"):
        raise Problem(f"--seconds is {args.seconds}, more than 0 is needed", code=2)
    if args.data == "" or (args.out is not None and str(args.out) == "."):
        raise Problem("--data or --out is empty; name a place, or leave the flag out", code=2)
    if (args.save_every or args.resume) and args.out is None:
        raise Problem("--save-every and --resume need a place to keep the state; pass --out DIR", code=2)
    return args


# ---- budget and clock ----


class Clock:
    """How much of a run is spent: of its steps, or of its seconds. Seconds count from the end of the first step, which
    holds imports, data and compilation and is an axis of its own; a resumed process has such a step too. Work after the
    last state that was kept is lost with its process and counted nowhere."""

    def __init__(self, machine: Machine, started: float, steps: int | None, seconds: float | None):
        """started: time.perf_counter() when the process began. Give steps or seconds."""
        self.machine, self.started, self.steps, self.seconds = machine, started, steps, seconds
        self.first_step_s = 0.0  # from the start of the process
        self._started: float | None = None
        self.first_s = 0.0  # of the first step alone
        self.train_s = self.busy_s = 0.0  # after the first step: by the wall clock, and of CPU time where that trains
        self.trained_steps = 0  # in train_s
        self.before_s = self.total_before_s = (
            0.0  # of earlier processes of a resumed run: to their first step's end, in all
        )
        self.resumed = 0
        self._mark: tuple[float, float] | None = None

    def start(self) -> None:
        """Before the first step."""
        self._started = time.perf_counter()

    def progress(self, step: int) -> float:
        """Share of the budget spent before `step`, in [0, 1]; 1 ends the run."""
        if self.steps is not None:
            return step / self.steps
        assert self.seconds is not None
        return min(1.0, self.machine.from_main(self.train_s) / self.seconds)

    def tick(self) -> None:
        """After every step. Waits for the device where seconds are the budget, else only after the first step."""
        if self._mark is None or self.seconds is not None:
            self.machine.wait()
        now = self._now()
        if self._mark is None:
            self.first_step_s = self.before_s + now[0] - self.started
            self.first_s = now[0] - (self._started or now[0])
        else:
            self._count(now)
            self.trained_steps += 1
        self._mark = now

    def skip(self) -> None:
        """What happened since the last tick is no training."""
        self._mark = self._now() if self._mark else None

    def _now(self) -> tuple[float, float]:
        """Seconds of the wall clock, and of the processor: a busy neighbour moves the first alone."""
        return time.perf_counter(), time.process_time() / torch.get_num_threads()

    def _count(self, now: tuple[float, float]) -> None:
        assert self._mark is not None
        self.train_s += now[0] - self._mark[0]
        self.busy_s += now[1] - self._mark[1]

    def state(self) -> dict:
        """What a resumed run goes on counting from."""
        counts = {name: getattr(self, name) for name in ("train_s", "busy_s", "trained_steps", "resumed")}
        return counts | {"before_s": self.first_step_s, "total_before_s": self.total_s()}

    def restore(self, state: dict) -> None:
        for name in ("train_s", "busy_s", "trained_steps", "before_s", "total_before_s"):
            setattr(self, name, state[name])
        self.resumed = state["resumed"] + 1

    def total_s(self) -> float:
        return self.total_before_s + time.perf_counter() - self.started

    def stop(self) -> None:
        """After the last step: count what the device still had to do."""
        self.machine.wait()
        if self._mark is not None and self.trained_steps:
            self._count(self._now())

    def summary(self, steps: int, step_tokens: int, flops_per_token: int, eval_s: float, is_compiled: bool) -> dict:
        """What the run took: counts, seconds (first_step_s + train_s + eval_s is nearly total_s), speed, memory."""
        step_s = self.train_s / self.trained_steps if self.trained_steps else self.first_s
        is_cpu = self.machine.device.type == "cpu"
        busy_s = self.busy_s / self.trained_steps if is_cpu and self.trained_steps else step_s
        peak = self.machine.peak_flops()
        return {
            "steps": steps,
            "tokens": steps * step_tokens,
            "flops_per_token": flops_per_token,
            "flops_total": flops_per_token * steps * step_tokens,
            "first_step_s": self.first_step_s,
            "train_s": self.train_s,
            "compile_s": max(0.0, self.first_s - step_s) if is_compiled else 0.0,  # part of first_step_s
            "eval_s": eval_s,
            "total_s": self.total_s(),
            "resumed": self.resumed,
            "tokens_per_s": step_tokens / step_s,
            # of a GPU's bf16, looked up; of a CPU's fp32, measured now, and both in CPU seconds
            "mfu": flops_per_token * step_tokens / busy_s / peak if peak else None,
            "peak_flops": peak,
            "peak_mem_mb": self.machine.peak_mem_mb(),
            "device": self.machine.name,
            "devices": self.machine.world,
            "torch": torch.__version__,
        }


class Progress:
    """One line on stderr that renews itself on a terminal; plain lines, every tenth of the run and every half minute, in
    a log."""

    def __init__(self, clock: Clock, step_tokens: int, every: int | None):
        self.clock, self.step_tokens, self.every = clock, step_tokens, every
        self.is_tty = sys.stderr.isatty()
        self.shown, self.shown_at = 0.0, time.perf_counter()

    def is_due(self, step: int, progress: float) -> bool:
        """Whether to show the line after `step`; the last one always."""
        if progress >= 1 or step == 0 or time.perf_counter() - self.shown_at > 30:
            return True
        if self.every and (step + 1) % self.every == 0:
            return True
        return not self.every and progress >= self.shown + (0.01 if self.is_tty else 0.1) - 1e-9

    def show(self, step: int, progress: float, loss: float) -> None:
        self.shown, self.shown_at = progress, time.perf_counter()
        if not self.clock.machine.is_main:
            return
        total = f"/{self.clock.steps}" if self.clock.steps else f" ({progress:.0%} of {self.clock.seconds:g} s)"
        line = f"step {step + 1}{total} loss {loss:.3f}"
        if self.clock.trained_steps:
            line += f" tok/s {self.step_tokens * self.clock.trained_steps / self.clock.train_s / 1e3:.1f}k"
        print(line, end="\r" if self.is_tty and progress < 1 else "\n", file=sys.stderr, flush=True)


# ---- files on disk ----


# what torch.load raises for a file that is no checkpoint, or half of one
UNREADABLE = (ValueError, RuntimeError, EOFError, AttributeError, IndexError, pickle.UnpicklingError)


def prepare_folder(folder: Path) -> None:
    """Make the place of a checkpoint, and see that it can be written, before a run is spent on it."""
    _write(folder, "probe", b"")
    (folder / "probe").unlink()


def write_checkpoint(folder: Path, config: dict, tensors: dict[str, torch.Tensor], tokenizer: str) -> None:
    """model.pt: config, weights and tokenizer, all that is needed to score the model or to sample, in one file, so that
    they are of one run. What --resume would have needed goes."""
    weights = {name: t.detach().cpu() for name, t in tensors.items()}
    _write(folder, "model.pt", _pickled({"config": config, "weights": weights, "tokenizer": tokenizer}))
    (folder / "state.pt").unlink(missing_ok=True)


def read_checkpoint(folder: Path) -> dict:
    """config, weights (tensors on the CPU) and tokenizer. Reads plain data only: a checkpoint cannot run code."""
    path = folder / "model.pt"
    try:
        found = torch.load(path, map_location="cpu", weights_only=True)
        if isinstance(found, dict) and found.keys() >= {"config", "weights", "tokenizer"}:
            return found
        reason = "it is not one of ours"
    except (FileNotFoundError, NotADirectoryError, IsADirectoryError) as error:
        raise Problem(f"{folder} holds no checkpoint (model.pt is missing); train one with --out") from error
    except UNREADABLE as error:
        reason = (str(error).splitlines() or ["it is empty"])[0]
    raise Problem(f"{path} cannot be read: {reason:.100}; train it again")


def code_hash() -> str:
    """Of every file that training reads: a run goes on under the code it began with, or not at all."""
    digest = hashlib.sha256()
    for path in sorted(Path(__file__).parent.glob("*.py")):
        if path.name not in ("sample.py", "fetch.py"):
            digest.update(path.name.encode() + path.read_bytes())
    return digest.hexdigest()[:16]


class Keeper:
    """Keeps what an interrupted run needs to go on as if it had never stopped: DIR/checkpoint/state.pt, one file."""

    def __init__(self, folder: Path, facts: dict, machine: Machine, is_resumed: bool):
        """facts: what has to be equal for two processes to be one run, beside the machine."""
        where = {"device": machine.device.type, "ranks": machine.world, "torch": str(torch.__version__)}
        facts = facts | where
        self.file, self.facts, self.machine, self.is_resumed = folder / "state.pt", facts, machine, is_resumed

    def restore(self, held: dict[str, list[torch.Tensor]], clock: Clock) -> list[torch.Tensor]:
        """Bring back tensors and clock, in place; returns the losses so far, none for a fresh run.
        Raises Problem when the state is of another run."""
        if not self.is_resumed:
            if self.file.exists() and self.machine.is_main:
                print(
                    f"nanochat: {self.file.parent} holds an interrupted run; it is replaced (--resume would go on with it)",
                    file=sys.stderr,
                )
            return []
        if not self.file.exists():
            if (self.file.parent / "model.pt").exists():
                raise Problem(f"{self.file.parent} is of a run that ended; there is nothing to resume")
            return []
        try:
            state = torch.load(self.file, map_location=self.machine.device, weights_only=True)
            for name, value in self.facts.items():
                if (was := state["facts"].get(name)) != value:
                    raise Problem(f"{self.file} is of another run: {name} was {was}, is {value}; pass another --out")
            with torch.no_grad():
                for name, tensors in held.items():
                    for t, kept in zip(tensors, state[name], strict=True):
                        t.copy_(kept)
            clock.restore(state["clock"])
            return list(state["losses"])
        except (*UNREADABLE, KeyError, TypeError) as error:
            raise Problem(f"{self.file} cannot be read as a state; remove it to start again") from error

    def keep(self, held: dict[str, list[torch.Tensor]], clock: Clock, losses: list[torch.Tensor]) -> None:
        """Write the state, outside the clock's seconds of training."""
        if self.machine.is_main:
            tensors = {name: [t.detach() for t in ts] for name, ts in held.items()}
            state = {"facts": self.facts, "clock": clock.state(), **tensors, "losses": torch.stack(losses)}
            _write(self.file.parent, self.file.name, _pickled(state))
        clock.skip()


def _pickled(value: object) -> bytes:
    buffer = io.BytesIO()  # torch.save itself reports a full disk as a crash of its zip writer
    torch.save(value, buffer)
    return buffer.getvalue()


def _write(folder: Path, name: str, content: bytes) -> None:
    """Whole or not at all."""
    temporary = folder / f".writing-{os.getpid()}"
    try:
        folder.mkdir(parents=True, exist_ok=True)
        temporary.write_bytes(content)
        temporary.replace(folder / name)
    except OSError as error:
        is_full = error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
        what_next = "free some space" if is_full else "pass another --out"
        raise Problem(f"cannot write {folder}: {error.strerror}; {what_next}") from error
    finally:
        with contextlib.suppress(OSError):  # gone, if all went well; without its folder there is none
            temporary.unlink()


# ---- summary ----


def epochs(tokens: int, train_tokens: int) -> float:
    """How often the corpus was read. Says so where that is no longer what presets are meant for."""
    times = tokens / train_tokens
    if times > EPOCHS:
        print(
            f"nanochat: {times:.0f} times the same {train_tokens / 1e6:.1f} M tokens; more text is --data",
            file=sys.stderr,
        )
    return times


def print_summary(summary: dict) -> None:
    """`---`, then one `key: value` a line: YAML, and last on stdout."""
    print("---")
    for key, value in summary.items():
        shown = f"{value:.6f}" if isinstance(value, float) else json.dumps(value)  # JSON scalars are YAML
        print(f"{key}: {shown}")
