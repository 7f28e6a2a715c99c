"""The judge of kernel.py: fresh inputs each round, every output checked, time read from outside. Frozen: nobody edits it.

    python -m kernel.measure --rounds 40 --seed 1

The edited code runs in a child process only. The judge writes inputs into memory it shares with the child, says go, waits
for one byte, copies the output, and compares it with its own. A round's time is what the child's CPU clock, read by the
judge, went on by since the round before: threads count, and so does work done between rounds. Beside it the judge times
its own plain code on the same inputs; `seconds` is the median ratio of the two times REFERENCE_S, so that a machine that is
slow this hour is slow for both. What the child prints is dropped, what it says is not believed.

Not a security boundary: the child runs as the same user. Numbers are what this file prints, for whoever runs it.
"""

import argparse
import contextlib
import ctypes
import mmap
import os
import select
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

THREADS = {name: "1" for name in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS", "NUMEXPR_NUM_THREADS")}
os.environ.update(THREADS)  # before numpy: the judge's own time is one thread's too

import numpy as np

N, M, D = 2000, 2000, 3  # points that sums are wanted at, points summed over, coordinates
H = 0.3  # the width of the kernel
SPREAD = 4.2  # of the points along each coordinate: 14 widths
TOLERANCE = 2e-5  # of an output, as a share of the largest one: float32 errs by 1e-6, float16 by 1e-3
REFERENCE_S = 0.019  # CPU seconds of the judge's own code on a quiet core (AMD EPYC, numpy 2.2): sets the unit, no more
WARM_UP = 2  # rounds checked and not timed
ROUND_LIMIT_S = 20.0  # for one round, by the clock on the wall
START_LIMIT_S = 60.0
SAYS = 300  # characters of the child's last words that are shown


# Freed memory stays with the process. Otherwise glibc gives blocks back and asks for them again at each step, or does not,
# by what else happens to lie on the heap: the same code then takes 14 or 25 ms.
with contextlib.suppress(OSError, AttributeError):
    for option, value in ((-1, 2**30), (-3, 2**25), (-2, 2**26)):  # trim threshold, mmap threshold, top pad
        ctypes.CDLL(None).mallopt(option, value)


class Failed(Exception):
    """What is wrong with the kernel, as one line."""


def main(argv=None):
    flags = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    flags.add_argument("--rounds", type=whole, default=80, help="timed rounds; more of them, less noise [80]")
    flags.add_argument("--seed", type=int, default=int(os.environ.get("RUN_SEED", "1")), help="of the inputs [1]")
    flags.add_argument("--out", type=Path, default=None, help="accepted as every task's command; nothing is kept there")
    flags = flags.parse_args(argv)
    try:
        summary = measure(flags.rounds, flags.seed)
    except Failed as error:
        print(f"kernel: {error}", file=sys.stderr)
        return 1
    print("---")
    for key, value in summary.items():
        print(f"{key}: {value}")
    return 0


def whole(text):
    number = int(text)
    if number < 1:
        raise argparse.ArgumentTypeError("write a number from 1 up")
    return number


def measure(rounds, seed):
    """The summary. Raises Failed."""
    started = time.monotonic()
    inputs, output = buffers()
    with Child(inputs[0], output[0]) as child:
        child.ready()
        ready = time.monotonic()
        own, theirs, wall, worst = [], [], [], 0.0
        for number in range(-WARM_UP, rounds):
            x, y, w = draw(seed, number + WARM_UP)
            for array, place in zip((x, y, w), views(inputs[1]), strict=True):
                place[:] = array
            answer = np.frombuffer(output[1], dtype=np.float64)
            answer[:] = np.nan  # what the kernel does not write is no output
            cpu_s, wall_s = child.round()
            answer = answer.copy()  # from here on nobody can change it
            before = time.thread_time()
            wanted = reference(x, y, w, H)
            own_s = time.thread_time() - before
            worst = max(worst, check(answer, wanted, number + WARM_UP + 1))
            if number >= 0:
                own.append(own_s)
                theirs.append(cpu_s)
                wall.append(wall_s)
                if (number + 1) % 20 == 0:
                    print(f"round {number + 1}/{rounds} ratio {np.median(np.divide(theirs, own)):.4f}", flush=True)
    ratio = float(np.median(np.divide(theirs, own)))
    return {
        "seconds": f"{ratio * REFERENCE_S:.7f}",
        "ratio": f"{ratio:.6f}",
        "raw_s": f"{np.median(theirs):.7f}",
        "raw_reference_s": f"{np.median(own):.7f}",
        "wall_s": f"{np.median(wall):.7f}",
        "clock": child.clock_name,
        "worst_error": f"{worst:.3g}",
        "steps": rounds,
        "train_s": f"{sum(theirs):.3f}",
        "first_step_s": f"{ready - started:.3f}",
        "data_hash": f"n{N}-m{M}-d{D}-h{H}",
    }


def draw(seed, number):
    """Inputs of one round: x (N, D), y (M, D), w (M,). No two rounds or seeds share any."""
    random = np.random.default_rng([seed % 2**63, number])
    return SPREAD * random.random((N, D)), SPREAD * random.random((M, D)), random.random(M)


def reference(x, y, w, h):
    """The sums as plainly as they can be written; what is right, and the clock that the kernel's is held against."""
    sums = np.empty(len(x))
    for start in range(0, len(x), 64):
        total = 0.0
        for d in range(D):
            total = total + (x[start : start + 64, d, None] - y[None, :, d]) ** 2
        sums[start : start + 64] = np.exp(total / (-2 * h * h)) @ w
    return sums


def check(answer, wanted, number):
    """The largest error as a share of the largest output. Raises Failed."""
    if not np.isfinite(answer).all():
        raise Failed(f"round {number}: {int((~np.isfinite(answer)).sum())} of {N} outputs are no finite numbers")
    error = float(np.abs(answer - wanted).max() / np.abs(wanted).max())
    if error > TOLERANCE:
        raise Failed(f"round {number}: wrong output: off by {error:.2g} of the largest sum, more than {TOLERANCE:g}")
    return error


# --- memory both can see --------------------------------------------------------------------------------------------


def buffers():
    """((descriptor, map) of the inputs, the same of the output)."""
    made = []
    for name, numbers in (("inputs", N * D + M * D + M), ("output", N)):
        descriptor = os.memfd_create(name)
        os.ftruncate(descriptor, 8 * numbers)
        made.append((descriptor, mmap.mmap(descriptor, 8 * numbers)))
    return made


def views(shared):
    """x (N, D), y (M, D), w (M,) in the shared memory."""
    flat = np.frombuffer(shared, dtype=np.float64)
    return flat[: N * D].reshape(N, D), flat[N * D : (N + M) * D].reshape(M, D), flat[(N + M) * D :]


# --- the child, seen from the judge ---------------------------------------------------------------------------------


class Child:
    """The process that runs kernel.py, from start to end."""

    def __init__(self, inputs, output):
        self.line, theirs = socket.socketpair()
        environment = {k: v for k, v in os.environ.items() if k in ("PATH", "LD_LIBRARY_PATH", "HOME", "TMPDIR")}
        code = "import sys; from kernel.measure import serve; serve(*map(int, sys.argv[1:]))"
        self.process = subprocess.Popen(
            [sys.executable, "-c", code, str(inputs), str(output), str(theirs.fileno())],
            pass_fds=(inputs, output, theirs.fileno()),
            env={
                **environment,
                **THREADS,
                "PYTHONDONTWRITEBYTECODE": "1",
                "PYTHONPATH": str(Path(__file__).parents[1]),
            },
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            start_new_session=True,
        )
        theirs.close()
        self.used_s = 0.0
        self.clock_name = "cpu"

    def __enter__(self):
        return self

    def __exit__(self, *_):
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self.process.pid, signal.SIGKILL)
        self.process.wait()
        self.line.close()

    def ready(self):
        self._answer(START_LIMIT_S, "to start")
        self.used_s = self._clock()

    def round(self):
        """(CPU seconds, seconds on the wall) of one round."""
        before = time.monotonic()
        with contextlib.suppress(OSError):  # a child that is gone: the answer says so
            self.line.send(b"g")
        self._answer(ROUND_LIMIT_S, "for one round")
        wall_s = time.monotonic() - before
        used_s = self._clock()
        cpu_s, self.used_s = used_s - self.used_s, used_s
        self._alone()
        return (cpu_s if self.clock_name == "cpu" else wall_s), wall_s

    def _answer(self, limit_s, what):
        """Wait for the byte that says done. Raises Failed with the last line of what went wrong in the child."""
        try:
            said = self.line.recv(4 * SAYS) if select.select([self.line], [], [], limit_s)[0] else None
        except OSError:  # it died with our byte unread
            said = b""
        if said is None:
            raise Failed(f"the kernel took longer than {limit_s:g} s {what}")
        if said == b"d":
            return
        if not said:
            try:
                code = self.process.wait(5)
            except subprocess.TimeoutExpired:
                raise Failed("the kernel's process hung up and went on") from None
            raise Failed(f"the kernel's process ended by itself ({f'signal {-code}' if code < 0 else f'exit {code}'})")
        text = "".join(c if c.isprintable() else " " for c in said.decode(errors="replace")[:SAYS])
        raise Failed(" ".join(text.split()) or "the kernel's process said nothing that can be read")

    def _clock(self):
        """CPU seconds of the child so far, all threads of it; on the wall where this kernel has no such clock."""
        try:
            return time.clock_gettime((~self.process.pid << 3) | 2)  # Linux: the CPU clock of another process
        except OSError:
            self.clock_name = "wall"
            return 0.0

    def _alone(self):
        """A process started by the child would work on a clock nobody reads."""
        for path in Path(f"/proc/{self.process.pid}/task").glob("*/children"):
            with contextlib.suppress(OSError):
                if path.read_text().split():
                    raise Failed("the kernel started a process of its own, whose time would not be counted")


# --- the child itself -----------------------------------------------------------------------------------------------


def serve(inputs, output, line):
    """The child's main loop: `g` in, one call of kernel_sums, `d` or a line about what went wrong out."""
    line = socket.socket(fileno=line)
    places = views(mmap.mmap(inputs, 0, prot=mmap.PROT_READ))
    answer = np.frombuffer(mmap.mmap(output, 0), dtype=np.float64)
    try:
        from kernel import kernel

        line.send(b"d")
        while line.recv(1):
            answer[:] = proper(kernel.kernel_sums(*places, H))
            line.send(b"d")
    except BaseException as error:  # noqa: BLE001 - whatever the edited code raises, SystemExit too, is one line to the judge
        words = " ".join(f"{type(error).__name__}: {error}".split())
        line.send(f"kernel.py: {words}".encode()[:SAYS])


def proper(array):
    """The kernel's return value if it is one float number a row; else ValueError saying what came."""
    if not isinstance(array, np.ndarray) or array.shape != (N,) or array.dtype.kind != "f":
        kind = f"{array.dtype} {array.shape}" if isinstance(array, np.ndarray) else type(array).__name__
        raise ValueError(f"kernel_sums returned {kind}, not floats of shape ({N},)")
    return array


if __name__ == "__main__":
    sys.exit(main())
