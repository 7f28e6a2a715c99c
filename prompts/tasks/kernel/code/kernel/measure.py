"""The judge of kernel.py: fresh inputs each round, every output checked, time read from outside. Frozen: nobody edits it.

    python -m kernel.measure --rounds 50 --seed 1

The edited code runs in a child process only. The judge writes inputs into memory it shares with the child, says go, waits
for one byte, copies the output, and compares it with its own. A round's time is what the child's CPU clock, read by the
judge once the output is copied, went on by since the round before: threads count, and so does work done between rounds.
Beside it the judge times its own plain code on the same inputs; `seconds` is the median ratio of the two times REFERENCE_S,
so that a machine that is slow this hour is slow for both. What the child prints is dropped, what it says is not believed.

Nothing can be known before it is counted. Inputs come from the seed and a number drawn once a run that the child never
has: a seed pairs nothing, and timing needs no pair, since all inputs cost the same. Import of the edited code and the
rounds of warm-up are on the clock too; what they take beyond SETUP_FREE calls is spread over the rounds. The child cannot
start processes, whose time no clock here sees: Linux refuses them to it, and the judge looks for them besides.

Not a security boundary: the child runs as the same user. Numbers are what this file prints, for whoever runs it.
"""

import argparse
import contextlib
import ctypes
import mmap
import os
import platform
import secrets
import select
import signal
import socket
import struct
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
# Of an output, as a share of the largest one. float32 errs by 4e-7, by matmul 1.2e-5 and up to 2.6e-5 in 300 rounds (at 2e-5
# every third run of it failed); WINDOW 4 by 4e-5 to 9e-5, median 5.6e-5: over 50 rounds it never passes. float16 by 3e-3.
TOLERANCE = 5e-5
REFERENCE_S = 0.019  # CPU seconds of the judge's own code on a quiet core (AMD EPYC, numpy 2.2): sets the unit, no more
WARM_UP = 2  # rounds checked and not in the median
SETUP_FREE = 20  # calls of the judge's own code that import and warm-up may take, beyond WARM_UP rounds, at no cost
ROUND_LIMIT_S = 20.0  # for one round, by the clock on the wall
START_LIMIT_S = 60.0
SAYS = 300  # characters of the child's last words that are shown
NOT_ALONE = "the kernel started a process of its own, whose time would not be counted"
PR_SET_SECCOMP, PR_SET_CHILD_SUBREAPER, PR_SET_NO_NEW_PRIVS = 22, 36, 38  # linux/prctl.h


# Freed memory stays with the process. Otherwise glibc gives blocks back and asks for them again at each step, or does not,
# by what else happens to lie on the heap: the same code then takes 14 or 25 ms.
with contextlib.suppress(OSError, AttributeError):
    for option, value in ((-1, 2**30), (-3, 2**25), (-2, 2**26)):  # trim threshold, mmap threshold, top pad
        ctypes.CDLL(None).mallopt(option, value)


class Failed(Exception):
    """What is wrong with the kernel, as one line."""


def main(argv=None):
    flags = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    flags.add_argument("--rounds", type=whole, default=50, help="timed rounds; more of them, less noise [50]")
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
    secret = secrets.randbits(128)  # a name of this call alone: never at import, where the child would have it too
    inputs, output = buffers()
    answer = np.frombuffer(output[1], dtype=np.float64)
    with Child(inputs[0], output[0]) as child:
        setup_s = child.ready()
        ready = time.monotonic()
        own, theirs, wall, worst = [], [], [], 0.0
        for number in range(-WARM_UP, rounds):
            x, y, w = draw(seed % 2**63, number + WARM_UP, secret)
            for array, place in zip((x, y, w), views(inputs[1]), strict=True):
                place[:] = array
            answer[:] = np.nan  # what the kernel does not write is no output
            sums, cpu_s, wall_s = child.round(answer)
            before = time.thread_time()
            wanted = reference(x, y, w, H)
            own_s = time.thread_time() - before
            worst = max(worst, check(sums, wanted, number + WARM_UP + 1))
            if number < 0:
                setup_s += cpu_s
                continue
            own.append(own_s)
            theirs.append(cpu_s)
            wall.append(wall_s)
            if (number + 1) % 20 == 0:
                print(f"round {number + 1}/{rounds} ratio {np.median(np.divide(theirs, own)):.4f}", flush=True)
    ratio = float(np.median(np.divide(theirs, own)))
    setup_s = max(0.0, setup_s - WARM_UP * float(np.median(theirs)))
    setup_ratio = max(0.0, setup_s / float(np.median(own)) - SETUP_FREE) / rounds
    return {
        "seconds": f"{(ratio + setup_ratio) * REFERENCE_S:.7f}",
        "ratio": f"{ratio:.6f}",
        "setup_ratio": f"{setup_ratio:.6f}",  # what import and warm-up beyond SETUP_FREE calls add to a round
        "setup_s": f"{setup_s:.3f}",
        "raw_s": f"{np.median(theirs):.7f}",
        "raw_reference_s": f"{np.median(own):.7f}",
        "wall_s": f"{np.median(wall):.7f}",
        "clock": child.clock_name,
        "processes": child.processes,
        "worst_error": f"{worst:.3g}",
        "steps": rounds,
        "train_s": f"{sum(theirs):.3f}",
        "first_step_s": f"{ready - started:.3f}",
        "data_hash": f"n{N}-m{M}-d{D}-h{H}",
    }


def draw(*key):
    """Inputs of one round: x (N, D), y (M, D), w (M,). `key` is seed, round and secret: no two rounds or runs share any."""
    random = np.random.default_rng(key)
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
    """The process that runs kernel.py, from start to end. Nothing it started is left when the block ends."""

    def __init__(self, inputs, output):
        self.line, theirs = socket.socketpair()
        self.sees_orphans = prctl(PR_SET_CHILD_SUBREAPER, 1)  # a process whose parent died becomes this one's child
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
        self.processes = "unknown"  # whether it can be known that the child works alone

    def __enter__(self):
        return self

    def __exit__(self, *_):
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self.process.pid, signal.SIGKILL)
        self.process.wait()
        self.line.close()
        while self.sees_orphans and (left := children(os.getpid())):  # what it left behind; theirs come to us in turn
            for pid in left:
                with contextlib.suppress(OSError):
                    os.kill(pid, signal.SIGKILL)
                with contextlib.suppress(OSError):
                    os.waitpid(pid, 0)

    def ready(self):
        """Seconds that the import of the edited code took, on the clock that rounds are timed by."""
        self._answer(START_LIMIT_S, "to start", b"cw")
        self.processes = self._kept_alone()
        self.used_s = self._clock(at_start=True)
        import_s, _ = self._timed(START_LIMIT_S, "to import")
        self._alone()
        return import_s

    def round(self, answer):
        """(a copy of the answer, CPU seconds, seconds on the wall) of one round."""
        copies = []
        # copied before the clock is read: what is written later is not seen, what was done until then is counted
        cpu_s, wall_s = self._timed(ROUND_LIMIT_S, "for one round", lambda: copies.append(answer.copy()))
        self._alone()
        return copies[0], cpu_s, wall_s

    def _timed(self, limit_s, what, then=lambda: None):
        """(seconds on the clock rounds are timed by, seconds on the wall) from go to done."""
        before = time.monotonic()
        with contextlib.suppress(OSError):  # a child that is gone: the answer says so
            self.line.send(b"g")
        self._answer(limit_s, what, b"d")
        then()
        wall_s = time.monotonic() - before
        used_s = self._clock()
        cpu_s, self.used_s = used_s - self.used_s, used_s
        return (cpu_s if self.clock_name == "cpu" else wall_s), wall_s

    def _answer(self, limit_s, what, wanted):
        """Wait for one of the bytes `wanted`. Raises Failed with the last line of what went wrong in the child."""
        try:
            said = self.line.recv(4 * SAYS) if select.select([self.line], [], [], limit_s)[0] else None
        except OSError:  # it died with our byte unread
            said = b""
        if said is None:
            raise Failed(f"the kernel took longer than {limit_s:g} s {what}")
        if len(said) == 1 and said in wanted:
            self.said = said
            return
        if not said:
            try:
                code = self.process.wait(5)
            except subprocess.TimeoutExpired:
                raise Failed("the kernel's process hung up and went on") from None
            if code == -signal.SIGSYS:
                raise Failed(NOT_ALONE)
            raise Failed(f"the kernel's process ended by itself ({f'signal {-code}' if code < 0 else f'exit {code}'})")
        text = "".join(c if c.isprintable() else " " for c in said.decode(errors="replace")[:SAYS])
        raise Failed(" ".join(text.split()) or "the kernel's process said nothing that can be read")

    def _clock(self, at_start=False):
        """CPU seconds of the child so far, all threads of it; on the wall where this kernel has no such clock."""
        if self.clock_name == "wall":
            return 0.0
        try:
            return time.clock_gettime((~self.process.pid << 3) | 2)  # Linux: the CPU clock of another process
        except OSError as error:
            if not at_start:  # decided once: nothing the edited code does makes it the wall's
                raise Failed(f"the CPU clock of the kernel's process cannot be read any more: {error}") from None
            self.clock_name = "wall"
            return 0.0

    def _kept_alone(self):
        """How it is known that the child works alone. Raises Failed where Linux would tell and does not."""
        if self.said == b"c":  # believed: it was said before any edited code ran
            return "refused"
        if self.sees_orphans and children(os.getpid()) is not None:
            return "watched"
        if sys.platform == "linux":
            raise Failed(
                "cannot tell whether the kernel starts processes: no seccomp, no /proc/PID/task/*/children here"
            )
        return "unknown"

    def _alone(self):
        """Processes of the child's, and those whose parent died, would work on a clock nobody reads."""
        ours = children(os.getpid()) if self.sees_orphans else {self.process.pid}
        if (ours is not None and ours != {self.process.pid}) or children(self.process.pid):
            raise Failed(NOT_ALONE)


def children(pid):
    """Processes whose parent is `pid`, ended ones that nobody waited for too; None where the kernel does not say."""
    found = None
    for path in Path(f"/proc/{pid}/task").glob("*/children"):
        with contextlib.suppress(OSError):  # a thread that ended just now
            found = (found or set()) | {int(word) for word in path.read_text().split()}
    return found


def prctl(option, *values):
    """Whether Linux took it."""
    try:
        return ctypes.CDLL(None).prctl(option, *(ctypes.c_ulong(v) for v in (*values, 0, 0, 0, 0)[:4])) == 0
    except (OSError, AttributeError):  # not Linux
        return False


# --- the child itself -----------------------------------------------------------------------------------------------


def serve(inputs, output, line):
    """The child's main loop: `g` in, one call of kernel_sums, `d` or a line about what went wrong out. The first `g` is
    answered by the import of kernel.py."""
    line = socket.socket(fileno=line)
    places = views(mmap.mmap(inputs, 0, prot=mmap.PROT_READ))
    answer = np.frombuffer(mmap.mmap(output, 0), dtype=np.float64)
    line.send(b"c" if refuse_processes() else b"w")
    try:
        line.recv(1)
        from kernel import kernel

        line.send(b"d")
        while line.recv(1):
            answer[:] = proper(kernel.kernel_sums(*places, H))
            line.send(b"d")
    except BaseException as error:  # noqa: BLE001 - whatever the edited code raises, SystemExit too, is one line to the judge
        words = " ".join(f"{type(error).__name__}: {error}".split())
        line.send(f"kernel.py: {words}".encode()[:SAYS])


def refuse_processes():
    """From here on this process dies of SIGSYS when it starts another one; threads stay allowed. Whether Linux took it.
    It cannot be undone, and what is executed in its place inherits it. Numbers: linux/seccomp.h, linux/filter.h."""
    machines = {  # the architecture's number; fork, vfork; clone; clone3
        "x86_64": (0xC000003E, (57, 58), 56, 435),
        "aarch64": (0xC00000B7, (), 220, 435),
    }
    if platform.machine() not in machines or sys.maxsize < 2**32:
        return False
    architecture, forks, clone, clone3 = machines[platform.machine()]
    load, equal, at_least, any_bit, give = 0x20, 0x15, 0x35, 0x45, 0x06
    allow, kill, no_such_call = 0x7FFF0000, 0x80000000, 0x00050000 | 38
    rules = [
        (load, 0, 0, 4),  # another architecture's calls, such as a 32-bit program's, have other numbers
        (equal, 1, 0, architecture),
        (give, 0, 0, kill),
        (load, 0, 0, 0),  # the call's number
        (at_least, 0, 1, 0x40000000),  # so has x32
        (give, 0, 0, kill),
    ]
    for number in forks:
        rules += [(equal, 0, 1, number), (give, 0, 0, kill)]
    rules += [
        (equal, 0, 1, clone3),  # its flags cannot be read from here; without it the C library takes clone
        (give, 0, 0, no_such_call),
        (equal, 1, 0, clone),
        (give, 0, 0, allow),
        (load, 0, 0, 16),  # the lower half of clone's flags
        (any_bit, 0, 1, 0x00010000),  # CLONE_THREAD: on this process's clock
        (give, 0, 0, allow),
        (give, 0, 0, kill),
    ]
    program = b"".join(struct.pack("=HBBI", *rule) for rule in rules)
    held = ctypes.create_string_buffer(program)
    header = ctypes.create_string_buffer(struct.pack("@HP", len(rules), ctypes.addressof(held)))  # struct sock_fprog
    return prctl(PR_SET_NO_NEW_PRIVS, 1) and prctl(PR_SET_SECCOMP, 2, ctypes.addressof(header))


def proper(array):
    """The kernel's return value if it is one float number a row; else ValueError saying what came."""
    if not isinstance(array, np.ndarray) or array.shape != (N,) or array.dtype.kind != "f":
        kind = f"{array.dtype} {array.shape}" if isinstance(array, np.ndarray) else type(array).__name__
        raise ValueError(f"kernel_sums returned {kind}, not floats of shape ({N},)")
    return array


if __name__ == "__main__":
    sys.exit(main())
