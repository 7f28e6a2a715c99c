"""The judge of the task `kernel`: what it counts, and what it refuses in one line."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

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


@pytest.mark.slow  # seconds of processor time that are measured
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
    while time.thread_time() < 0.03: pass
def kernel_sums(*a):
    done = plain(*a)
    threading.Thread(target=burn).start()
    return done
"""
    made.write(made.file.read_text() + later)
    assert made.judge("--rounds", 9).summary["ratio"] > 1.4 * base


@pytest.mark.slow  # two seconds of a judge
def test_a_kernel_that_knew_its_inputs_beforehand_is_told_by_its_output(task: Make) -> None:
    """Drawing them is open to the child: what it draws of any seed and round is never what it is handed."""
    made = task("kernel")
    made.write(f"""{HONEST}
from kernel.measure import draw
known = {{}}
for seed in (1, 2):
    for number in range(4):
        x, y, w = draw(seed, number)
        known[x[0, 0]] = kernel_sums(x, y, w, 0.3)
def kernel_sums(x, y, w, h):
    return known[x[0, 0]]
""")
    assert "KeyError" in made.judge("--rounds", 2, "--seed", 1).line


@pytest.mark.slow
@pytest.mark.parametrize("place", ["at import", "in the first call"])
def test_what_is_prepared_before_the_rounds_is_counted(task: Make, place: str) -> None:
    made = task("kernel")
    burn = "import time\ndef burn():\n    while time.process_time() < 2: pass\n"
    made.write(burn + HONEST.replace("    d =", "    burn()\n    d =") + ("burn()\n" if place == "at import" else ""))
    summary = made.judge("--rounds", 3).summary
    assert summary["setup_s"] > 1
    assert summary["setup_ratio"] > 3
    assert summary["seconds"] == pytest.approx((summary["ratio"] + summary["setup_ratio"]) * 0.019, rel=1e-3)


def test_an_ordinary_kernel_prepares_for_nothing(task: Make) -> None:
    assert task("kernel").judge("--rounds", 3).summary["setup_ratio"] == 0


ORPHAN = """
import os, time, pathlib
if not os.fork():
    os.setsid()
    if os.fork():
        os._exit(0)
    pathlib.Path({seen!r}).write_text(str(os.getpid()))
    time.sleep(60)
    os._exit(0)
os.wait()
while not (os.path.exists({seen!r}) and open({seen!r}).read()):  # it is at work before the judge looks
    time.sleep(0.01)
"""
BRIEF = """
import os, signal
signal.signal(signal.SIGCHLD, signal.SIG_IGN)
plain = kernel_sums
def kernel_sums(*a):
    if not os.fork():
        plain(*a)
        os._exit(0)
    try: os.wait()  # for nobody: it is reaped as it ends
    except ChildProcessError: pass
    return plain(*a)
"""


@pytest.mark.parametrize("how", ["refused", "watched"])
def test_an_orphan_made_at_import_ends_the_run_and_itself(task: Make, tmp_path: Path, how: str) -> None:
    """It works on memory of the child's, in a session of its own, and its parent is dead: the judge is its parent now."""
    made = task("kernel")
    if how == "watched":
        made.frozen('b"c" if refuse_processes() else b"w"', 'b"w"')
    seen = tmp_path / "orphan"
    made.write(HONEST + ORPHAN.format(seen=str(seen)))
    assert "a process of its own" in made.judge("--rounds", 2).line
    assert seen.exists() == (how == "watched")
    assert not seen.exists() or not Path(f"/proc/{seen.read_text()}").exists()


def test_a_process_that_ends_within_a_round_is_refused(task: Make) -> None:
    """Nobody could see it afterwards: it is waited for by none and no clock holds its time."""
    made = task("kernel")
    made.write(HONEST + BRIEF)
    assert "a process of its own" in made.judge("--rounds", 2).line


def test_where_linux_tells_nothing_of_processes_there_is_no_number(task: Make) -> None:
    made = task("kernel")
    made.frozen('b"c" if refuse_processes() else b"w"', 'b"w"')
    made.frozen('"/proc/{pid}/task"', '"/nowhere/{pid}/task"')
    assert "cannot tell whether the kernel starts processes" in made.judge("--rounds", 2).line


@pytest.mark.slow  # two seconds of a judge
def test_threads_are_no_process(task: Make) -> None:
    made = task("kernel")
    started = "import threading; t = threading.Thread(target=print); t.start(); t.join()"
    made.write(HONEST.replace("    d =", f"    {started}\n    d ="))
    assert made.judge("--rounds", 2).summary["processes"] == "refused"


@pytest.mark.slow
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


@pytest.mark.slow  # two seconds of a judge
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
    assert says in made.judge("--rounds", 12).line  # WINDOW 4 passes one round in five


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
    assert made.judge("--rounds", 1).summary["worst_error"] < 5e-5


def test_a_flag_that_is_no_number_is_bad_usage(task: Make) -> None:
    assert task("kernel").judge("--rounds", "0").code == 2
