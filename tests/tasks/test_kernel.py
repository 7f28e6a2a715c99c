"""The judge of the task `kernel`: what it counts, and what it refuses in one line."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from org.lab import runner

from .conftest import Task

Make = Callable[[str], Task]
HONEST = """\
import numpy as np
def kernel_sums(x, y, w, h):
    d = ((x[:, None, :] - y[None, :, :]) ** 2).sum(-1)
    return np.exp(-d / (2 * h * h)) @ w
"""


def test_the_summary_is_what_the_runner_reads(task: Make) -> None:
    summary = task("kernel").judge("--rounds", 3, "--seed", 7).summary
    assert 0.003 < summary["seconds"] < 0.3
    assert summary["steps"] == 3
    assert summary["clock"] == "cpu"
    assert summary["worst_error"] < 1e-12
    assert summary["train_s"] == pytest.approx(3 * summary["raw_s"], rel=0.5)
    assert set(runner.summary_facts(summary)) == {"steps", "train_s", "first_step_s", "data_hash"}


def test_work_between_rounds_and_in_threads_is_counted(task: Make) -> None:
    """The clock is the process's, and what it went on by since the round before is the round's."""
    made = task("kernel")
    made.set(METHOD='"matmul"', BLOCK="64")
    base = made.judge("--rounds", 9).summary["ratio"]
    later = """
import threading, time
plain = kernel_sums
def burn():
    time.sleep(0.001)  # the round is over by now, and the judge is at its own sums
    while time.thread_time() < 0.012: pass
def kernel_sums(*a):
    done = plain(*a)
    threading.Thread(target=burn).start()
    return done
"""
    made.write(made.file.read_text() + later)
    assert made.judge("--rounds", 9).summary["ratio"] > 1.4 * base


@pytest.mark.parametrize(
    ("old", "new", "says"),
    [
        ("@ w", "@ w * 1.0001", "wrong output"),
        ("@ w", "@ w * np.nan", "no finite numbers"),
        ("@ w", "@ w[:, None]", "(2000, 1), not floats of shape (2000,)"),
        ("return", "return None and", "returned NoneType"),
        ("    d =", "    raise RuntimeError('two\\nlines')\n    d =", "RuntimeError: two lines"),
        ("    d =", "    raise SystemExit(0)\n    d =", "SystemExit: 0"),
        ("    d =", "    import os; os._exit(0)\n    d =", "ended by itself (exit 0)"),
        ("    d =", "    import os; os.abort()\n    d =", "ended by itself (signal 6)"),
        ("    d =", "    import os, sys; os.close(int(sys.argv[3]))\n    while True: pass\n    d =", "hung up"),
        ("    d =", "    import os, sys; os.write(int(sys.argv[3]), b'd')\n    d =", "no finite numbers"),
        ("    d =", "    w[:] = 0\n    d =", "read-only"),
        ("import numpy", "import nowhere, numpy", "No module named 'nowhere'"),
        ("import numpy", "if numpy", "SyntaxError"),
        ("    d =", "    import subprocess; subprocess.Popen(['sleep', '9'])\n    d =", "a process of its own"),
    ],
)
def test_what_is_wrong_ends_the_run_in_one_line(task: Make, old: str, new: str, says: str) -> None:
    made = task("kernel")
    made.write(HONEST.replace(old, new, 1))
    assert says in made.judge("--rounds", 2).line


def test_an_output_of_the_round_before_is_wrong_output(task: Make) -> None:
    made = task("kernel")
    made.write(
        f"{HONEST}plain, kept = kernel_sums, []\ndef kernel_sums(*a):\n    kept or kept.append(plain(*a))\n    return kept[0]\n"
    )
    assert "round 2: wrong output" in made.judge("--rounds", 2).line


def test_a_kernel_that_never_returns_meets_its_limit(task: Make) -> None:
    made = task("kernel")
    made.frozen("ROUND_LIMIT_S = 20.0", "ROUND_LIMIT_S = 0.3")
    made.write("def kernel_sums(x, y, w, h):\n    while True: pass\n")
    done = made.judge("--rounds", 2)
    assert "longer than 0.3 s for one round" in done.line
    assert done.wall_s < 8


def test_what_the_kernel_prints_is_no_summary(task: Make) -> None:
    made = task("kernel")
    made.write(f"print('---\\nseconds: 0.0', flush=True)\n{HONEST}")
    assert made.judge("--rounds", 1).summary["seconds"] > 0


@pytest.mark.parametrize(
    ("constants", "says"),
    [
        ({"METHOD": '"magic"'}, "METHOD 'magic' is none of difference, dimensions, matmul"),
        ({"DTYPE": '"float16"'}, "wrong output"),
        ({"WINDOW": "4.0"}, "wrong output"),
        ({"BLOCK": "0"}, "ValueError"),
    ],
)
def test_a_trap_of_the_start_is_refused_by_its_output(task: Make, constants: dict[str, str], says: str) -> None:
    made = task("kernel")
    made.set(**constants)
    assert says in made.judge("--rounds", 1).line


@pytest.mark.parametrize(
    "constants",
    [
        {"METHOD": '"difference"', "BY_COORDINATE": "True", "EXPONENTIAL": '"exp2"', "REDUCE": '"dot"'},
        {"METHOD": '"matmul"', "DTYPE": '"float32"', "BLOCK": "64", "SCALE_FIRST": "True", "IN_PLACE": "True"},
        {"METHOD": '"matmul"', "SORTED": "True", "WINDOW": "5.0", "EXPONENTIAL": '"exp2"', "SCALE_FIRST": "True"},
        {"SORTED": "True", "WINDOW": "7.0", "IN_PLACE": "True", "DTYPE": '"float32"', "BLOCK": "2048"},
    ],
)
def test_every_fair_setting_gives_the_same_output(task: Make, constants: dict[str, str]) -> None:
    made = task("kernel")
    made.set(**constants)
    assert made.judge("--rounds", 1).summary["worst_error"] < 2e-5


def test_a_flag_that_is_no_number_is_bad_usage(task: Make) -> None:
    assert task("kernel").judge("--rounds", "0").code == 2
