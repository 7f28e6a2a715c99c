"""The judge of the task `classifier`: what it counts, what it keeps to itself, what it refuses in one line."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from org.lab import runner

from .conftest import Task

Make = Callable[[str], Task]
FEW = ("--examples", 6000)
LAYERS = "[(np.ones((2, 3)), np.zeros(3))], 'tanh'"
BARE = f"import numpy as np\ndef train(examples, inputs, classes, activations, seed):\n    return {LAYERS}\n"


def test_the_summary_is_what_the_runner_reads(task: Make) -> None:
    summary = task("classifier").judge(*FEW).summary
    assert 0.3 < summary["accuracy"] < 1
    assert (summary["steps"], summary["tokens"]) == (94, 6000)
    weights = 2 * 32 + 32 * 32 + 32 * 3
    assert summary["params"] == weights + 32 + 32 + 3
    assert summary["flops_total"] == 6 * weights * 6000
    facts = runner.summary_facts(summary)
    assert set(facts) == {"params", "steps", "tokens", "flops", "train_s", "first_step_s", "data_hash"}


def test_a_seed_decides_the_accuracy(task: Make) -> None:
    made = task("classifier")
    first, again, other = (made.judge(*FEW, "--seed", seed).summary["accuracy"] for seed in (3, 3, 4))
    assert first == again != other


def test_a_wider_network_is_counted_and_a_longer_run_impossible(task: Make) -> None:
    made = task("classifier")
    made.set(WIDTH="64", BATCH="4000")
    summary = made.judge(*FEW).summary
    assert summary["flops_total"] == 6 * (2 * 64 + 64 * 64 + 64 * 3) * 6000
    assert (summary["steps"], summary["tokens"]) == (2, 6000)
    greedy = "    for _ in range(9): examples._left = 10**9; examples.take(10**12)\n    return"
    made.write(BARE.replace("    return", greedy))
    assert made.judge(*FEW).summary["tokens"] == 6000


def test_no_test_example_is_ever_in_the_childs_reach(task: Make) -> None:
    """What the child is given is the training stream, and no point of it is a test point."""
    made = task("classifier")
    seen = made.folder / "seen.npy"
    keep = f"    x, y = examples.take(20000)\n    np.save({str(seen)!r}, x)\n    import sys, gc\n"
    keep += "    assert not [o for o in gc.get_objects() if isinstance(o, np.ndarray) and len(o) == 20000 and o is not x and o is not y]\n    return"
    made.write(BARE.replace("    return", keep))
    assert made.judge("--examples", 20000).code == 0
    code = (
        "import numpy as np; from classifier import measure as m; x, y = m.draw(m.TEST, [1, 0]);"
        f"print(len(np.intersect1d(x, np.load({str(seen)!r}))), len(np.unique(y)))"
    )
    import subprocess
    import sys

    done = subprocess.run([sys.executable, "-c", code], cwd=made.folder, capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["0", "3"]


@pytest.mark.parametrize(
    ("result", "says"),
    [
        ("[(np.ones((2, 3)) * np.nan, np.zeros(3))], 'tanh'", "not finite"),
        ("[(np.ones((2, 3)) * 1e308, np.zeros(3))], 'tanh'", "no finite numbers"),
        ("[(np.ones((2, 4)), np.zeros(4))], 'tanh'", "the last layer 3 columns"),
        ("[(np.ones((5, 3)), np.zeros(3))], 'tanh'", "needs 2 rows"),
        ("[(np.ones((2, 3)), np.zeros(2))], 'tanh'", "2 biases"),
        ("[(np.ones((2, 3)), np.zeros(3))], 'magic'", "none of tanh, relu, gelu, sine"),
        ("[], 'tanh'", "0 layers"),
        ("[(np.ones((2, 2000)), np.zeros(2000)), (np.ones((2000, 2000)), np.zeros(2000))], 'tanh'", "at most 2000000"),
        ("None", "TypeError"),
        ("{}['key']", "KeyError: 'key'"),
        ("exit(0)", "SystemExit"),
        ("__import__('os')._exit(3)", "ended by itself (exit 3)"),
        ("__import__('os').write(int(__import__('sys').argv[1]), b'z')", "no request"),
    ],
)
def test_what_is_wrong_ends_the_run_in_one_line(task: Make, result: str, says: str) -> None:
    made = task("classifier")
    made.write(BARE.replace(LAYERS, result))
    assert says in made.judge(*FEW).line


def test_a_training_that_diverges_or_names_nonsense_ends_in_one_line(task: Make) -> None:
    made = task("classifier")
    made.set(LEARNING_RATE="1e3", WEIGHT_DECAY="1e3")
    assert "not finite" in made.judge(*FEW).line
    made.set(ACTIVATION='"magic"')
    assert "KeyError: 'magic'" in made.judge(*FEW).line


def test_a_training_that_never_ends_meets_its_limit(task: Make) -> None:
    made = task("classifier")
    made.frozen("LIMIT_S = 60.0", "LIMIT_S = 1.5")
    made.write(BARE.replace("    return", "    while True: pass\n    return"))
    done = made.judge(*FEW)
    assert "longer than 1.5 s" in done.line
    assert done.wall_s < 8


def test_a_training_that_asks_and_never_reads_meets_it_too(task: Make) -> None:
    made = task("classifier")
    made.frozen("LIMIT_S = 60.0", "LIMIT_S = 1.5")
    ask = "    import struct\n    while True: examples._line.send(b't' + struct.pack('<Q', 10**6))\n    return"
    made.write(BARE.replace("    return", ask))
    assert "longer than 1.5 s" in made.judge("--examples", 2_000_000).line


def test_what_the_training_prints_is_no_summary(task: Make) -> None:
    made = task("classifier")
    made.write(f"print('---\\naccuracy: 1.0', flush=True)\n{BARE}")
    assert made.judge(*FEW).summary["accuracy"] < 0.9
