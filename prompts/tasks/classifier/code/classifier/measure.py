"""The judge of train.py: makes the data, hands out the budget, predicts and scores. Frozen: nobody edits it.

    python -m classifier.measure --examples 400000 --seed 1

The edited code runs in a child process only. It asks for training examples, gets as many as the budget holds, and gives
back the layers of a network. Predictions are made here, with those layers, on test examples drawn after they came. So
`params` is what the network has, and `flops_total` follows from it and from the examples handed out: 6 a weight and
example, a forward and a backward pass. What the child makes of its examples beyond that, such as going over them twice, is
seen in `train_s` alone, its CPU seconds by a clock read here.

Every example, of training and of test, comes from numbers drawn once a run that the child never has, and so does how far
the spirals are turned: `draw` is open to it, but what it draws there are points of other spirals. The seed it is given
names its own fresh weights and no data. That arms on one seed shared their data was worth nothing: over 14 seeds the
correlation of three arms' accuracies with the start's was 0.13, -0.37 and 0.28.

Not a security boundary: the child runs as the same user, and this file can be read: who fits the turn to the examples
handed out can draw more. Numbers are what this file prints, for whoever runs it.
"""

import argparse
import contextlib
import hashlib
import os
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
os.environ.update(THREADS)  # before numpy

import numpy as np

INPUTS, CLASSES = 2, 3  # a point of the plane; the arm of the spiral it lies on
TURNS = 0.85  # of each arm around the middle
BLUR = 0.18  # standard deviation of a point's angle, in radians times pi
TEST = 100_000  # test examples, fresh ones each run: counting errors on them has a standard deviation of 0.1 %
LIMIT_S = 60.0  # for the whole training, by the clock on the wall
MAX_WEIGHTS = 2_000_000
MAX_LAYERS = 64
SAYS = 300  # characters of the child's last words that are shown
ACTIVATIONS = {
    "tanh": np.tanh,
    "relu": lambda z: np.maximum(z, 0),
    "gelu": lambda z: z / (1 + np.exp(-1.702 * z)),
    "sine": np.sin,
}


class Failed(Exception):
    """What is wrong with the training, as one line."""


def main(argv=None):
    flags = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    flags.add_argument(
        "--examples", type=whole, default=400_000, help="training examples handed out, the budget [400000]"
    )
    flags.add_argument("--seed", type=int, default=int(os.environ.get("RUN_SEED", "1")), help="of the start [1]")
    flags.add_argument("--out", type=Path, default=None, help="accepted as every task's command; nothing is kept there")
    flags = flags.parse_args(argv)
    try:
        with np.errstate(all="ignore"):  # a network gone wild is told by its accuracy
            summary = measure(flags.examples, flags.seed % 2**63)
    except Failed as error:
        print(f"classifier: {error}", file=sys.stderr)
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


def measure(budget, seed):
    """The summary. Raises Failed."""
    started = time.monotonic()
    stream, turn = secrets.randbits(128), 2 * np.pi * secrets.randbits(53) / 2**53  # here, never at import
    with Child(budget, start(seed)) as child:
        batches, handed, first_step_s = hand_out(child, budget, stream, turn, started)
        layers, activation = child.network()
        train_s = child.cpu_s()
    accuracy = tested(layers, activation, secrets.randbits(128), turn)
    weights = sum(w.size for w, _ in layers)
    return {
        "accuracy": f"{accuracy:.6f}",
        "test_examples": TEST,
        "steps": batches,
        "tokens": handed,  # examples handed out: the axis on which arms are held equal
        "params": weights + sum(b.size for _, b in layers),
        "flops_total": 6 * weights * handed,
        "train_s": f"{train_s:.3f}",
        "first_step_s": f"{first_step_s:.3f}",
        "data_hash": f"spirals-{CLASSES}-{TURNS}-{BLUR}",
    }


def start(seed):
    """What the child is given for a seed: fresh weights are the same in every run on it, and no stream of data is named."""
    return int.from_bytes(hashlib.sha256(f"start {seed}".encode()).digest()[:7], "big")


def draw(number, seed, turn=0.0):
    """x (number, INPUTS), y (number,): points of noisy spirals, one arm a class, turned by `turn` radians."""
    random = np.random.default_rng(seed)
    y = random.integers(0, CLASSES, number)
    radius = np.sqrt(random.random(number))
    angle = 2 * np.pi * (TURNS * radius + y / CLASSES) + np.pi * BLUR * random.normal(size=number) + turn
    return 2 * np.stack([radius * np.cos(angle), radius * np.sin(angle)], 1), y


def hand_out(child, budget, stream, turn, started):
    """Serve the child's requests until it sends its network: (batches, examples handed out, seconds to the first)."""
    left, batches, first_step_s = budget, 0, 0.0
    end = time.monotonic() + LIMIT_S
    while (asked := child.request(end)) is not None:
        first_step_s = first_step_s or time.monotonic() - started
        number = min(asked, left)
        left -= number
        batches += number > 0
        # drawn by place in the run and not in one go: what is not asked for is not made
        child.give(*draw(number, [stream, budget - left], turn))
    return batches, budget - left, first_step_s


def tested(layers, activation, stream, turn):
    """The accuracy on TEST examples, 10,000 at a time: a wide network's activations must fit into memory."""
    right = 0
    for place in range(0, TEST, 10_000):
        x, y = draw(min(10_000, TEST - place), [stream, place], turn)
        right += int((predict(layers, activation, x) == y).sum())
    return right / TEST


def predict(layers, activation, x):
    """The class of each row of x."""
    for weights, biases in layers[:-1]:
        x = ACTIVATIONS[activation](x @ weights + biases)
    weights, biases = layers[-1]
    scores = x @ weights + biases
    if not np.isfinite(scores).all():
        raise Failed("the network's outputs are no finite numbers on some test examples")
    return scores.argmax(1)


# --- the child, seen from the judge ---------------------------------------------------------------------------------


class Child:
    """The process that runs train.py. It says `t` and a number for more examples, `n` and a network at the end, or `e` and a
    line about what went wrong; all else is an error."""

    def __init__(self, budget, seed):
        ours, theirs = socket.socketpair()
        environment = {k: v for k, v in os.environ.items() if k in ("PATH", "LD_LIBRARY_PATH", "HOME", "TMPDIR")}
        code = "import sys; from classifier.measure import serve; serve(*map(int, sys.argv[1:]))"
        self.line = ours
        self.process = subprocess.Popen(
            [sys.executable, "-c", code, str(theirs.fileno()), str(budget), str(seed)],
            pass_fds=(theirs.fileno(),),
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
        self.end = time.monotonic() + LIMIT_S

    def __enter__(self):
        return self

    def __exit__(self, *_):
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self.process.pid, signal.SIGKILL)
        self.process.wait()
        self.line.close()

    def request(self, end):
        """How many examples are asked for; None when a network comes. Raises Failed."""
        self.end = end
        word = self._read(1)
        if word == b"t":
            return min(struct.unpack("<Q", self._read(8))[0], 2**20)
        if word == b"n":
            return None
        if word == b"e":
            said = self._read(struct.unpack("<H", self._read(2))[0])
            text = "".join(c if c.isprintable() else " " for c in said.decode(errors="replace")[:SAYS])
            raise Failed(" ".join(text.split()) or "train.py failed and said nothing that can be read")
        raise Failed("train.py's process said what is no request")

    def give(self, x, y):
        self.line.settimeout(max(0.01, self.end - time.monotonic()))  # it may ask and never read
        try:
            self.line.sendall(struct.pack("<Q", len(x)) + x.tobytes() + y.astype(np.int64).tobytes())
        except OSError:
            pass  # it is gone, or does not listen: the next request says so

    def network(self):
        """[(weights, biases), …] and the activation's name, every number of it checked. Raises Failed."""
        name = self._read(struct.unpack("<H", self._read(2))[0]).decode(errors="replace")
        if name not in ACTIVATIONS:
            raise Failed(f"train.py gave activation {name!r:.40}, none of {', '.join(ACTIVATIONS)}")
        count = struct.unpack("<Q", self._read(8))[0]
        if not 1 <= count <= MAX_LAYERS:
            raise Failed(f"train.py gave {count} layers, not 1 to {MAX_LAYERS}")
        layers, width, weights = [], INPUTS, 0
        for number in range(count):
            rows, columns = struct.unpack("<QQ", self._read(16))
            weights += rows * columns
            if rows != width or (number == count - 1 and columns != CLASSES) or not columns or weights > MAX_WEIGHTS:
                raise Failed(
                    f"train.py gave layer {number + 1} of {count} as {rows} x {columns}; it needs {width} rows, the last layer "
                    f"{CLASSES} columns, and all together at most {MAX_WEIGHTS} weights"
                )
            numbers = np.frombuffer(self._read(8 * (rows * columns + columns)), dtype=np.float64)
            if not np.isfinite(numbers).all():
                raise Failed(
                    f"train.py gave layer {number + 1} with numbers that are not finite: the training diverged"
                )
            layers.append((numbers[: rows * columns].reshape(rows, columns), numbers[rows * columns :]))
            width = columns
        return layers, name

    def cpu_s(self):
        """CPU seconds of the child, all its threads; 0 where this kernel has no such clock."""
        try:
            return time.clock_gettime((~self.process.pid << 3) | 2)  # Linux: the CPU clock of another process
        except OSError:
            return 0.0

    def _read(self, number):
        data = bytearray()
        while len(data) < number:
            left_s = self.end - time.monotonic()
            if left_s <= 0 or not select.select([self.line], [], [], left_s)[0]:
                raise Failed(f"train.py took longer than {LIMIT_S:g} s")
            try:
                part = self.line.recv(min(number - len(data), 2**20))
            except OSError:
                part = b""
            if not part:
                try:
                    code = self.process.wait(5)
                except subprocess.TimeoutExpired:
                    raise Failed("train.py's process hung up and went on") from None
                raise Failed(
                    f"train.py's process ended by itself ({f'signal {-code}' if code < 0 else f'exit {code}'})"
                )
            data += part
        return bytes(data)


# --- the child itself -----------------------------------------------------------------------------------------------


class Examples:
    """What train.py asks for its data."""

    def __init__(self, line, budget):
        self.budget = budget
        self._line, self._left = line, budget

    def take(self, number):
        """x (n, INPUTS), y (n,): the next `number` examples, fewer at the end of the budget; None when it is used up."""
        if not self._left:
            return None
        self._line.send(b"t" + struct.pack("<Q", int(number)))
        count = struct.unpack("<Q", self._exactly(8))[0]
        self._left -= count
        x = np.frombuffer(self._exactly(8 * INPUTS * count)).reshape(count, INPUTS)
        return x, np.frombuffer(self._exactly(8 * count), dtype=np.int64)

    def _exactly(self, number):
        return self._line.recv(number, socket.MSG_WAITALL) if number else b""


def serve(descriptor, budget, seed):
    """The child's whole life: one call of train, then the network, or a line about what went wrong."""
    line = socket.socket(fileno=descriptor)
    np.seterr(all="ignore")
    try:
        from classifier import train

        layers, activation = train.train(Examples(line, budget), INPUTS, CLASSES, dict(ACTIVATIONS), seed)
        line.sendall(b"n" + packed([(proper(w, 2), proper(b, 1)) for w, b in layers], activation))
    except BaseException as error:  # noqa: BLE001 - whatever the edited code raises, SystemExit too, is one line to the judge
        words = " ".join(f"train.py: {type(error).__name__}: {error}".split()).encode()[:SAYS]
        line.sendall(b"e" + struct.pack("<H", len(words)) + words)


def proper(array, dimensions):
    array = np.asarray(array, dtype=np.float64)
    if array.ndim != dimensions:
        raise ValueError(f"a layer is (weights (n_in, n_out), biases (n_out,)), not an array of shape {array.shape}")
    return array


def packed(layers, activation):
    name = str(activation).encode()[:100]
    parts = [struct.pack("<H", len(name)), name, struct.pack("<Q", len(layers))]
    for weights, biases in layers:
        if len(biases) != weights.shape[1]:
            raise ValueError(f"a layer has weights {weights.shape} and {len(biases)} biases")
        parts += [struct.pack("<QQ", *weights.shape), weights.tobytes(), biases.tobytes()]
    return b"".join(parts)


if __name__ == "__main__":
    sys.exit(main())
