"""What a run is, whatever the recipe: budgets, interruption and resumption, several ranks, what runs out, sampling."""

import itertools
import os
import re
import resource
import shutil
import signal
import subprocess
import sys
import time

import pytest
import torch
from tiny_corpus import ROOT, command, one_line_without_traceback, run, summary_of

from nanochat import command as command_line
from nanochat import harness, prepare, sample, train
from nanochat import machine as machines

SHORT = ("--depth", 1, "--preset", "smoke", "--device", "cpu", "--no-eval")


def weights(out):
    return harness.read_checkpoint(out / "checkpoint")["weights"]


def same(a, b) -> bool:
    return a.keys() == b.keys() and all(torch.equal(a[name], b[name]) for name in a)


def killed_after(step: int, *args: object) -> None:
    """Run `args` and kill it, hard, once it says that `step` is done."""
    process = subprocess.Popen(command("train", *args, "--log-every", 1), cwd=ROOT, stderr=subprocess.PIPE, text=True)
    for line in process.stderr:
        if line.startswith(f"step {step}/"):
            process.kill()
            break
    assert process.wait() == -signal.SIGKILL


@pytest.mark.slow  # starts several real runs
def test_a_killed_run_goes_on_to_the_very_same_weights(corpus, dataset, tmp_path):
    args = (*SHORT, "--data", corpus, "--steps", 30, "--seed", 3)
    whole = summary_of(run("train", *args, "--out", tmp_path / "whole"))
    broken = (*args, "--out", tmp_path / "broken", "--save-every", 8)
    killed_after(19, *broken)
    assert not (tmp_path / "broken" / "checkpoint" / "model.pt").exists()
    done = run("train", *broken, "--resume", "--log-every", 1)
    got = summary_of(done)
    assert done.stderr.startswith("step 17/30")  # from the last state, not from the start
    assert same(weights(tmp_path / "whole"), weights(tmp_path / "broken"))
    assert got["train_loss"] == whole["train_loss"] and got["first_loss"] == whole["first_loss"]
    assert got["tokens"] == whole["tokens"] and got["resumed"] == 1 and whole["resumed"] == 0
    assert got["first_step_s"] + got["train_s"] + got["eval_s"] <= got["total_s"]


def test_a_resumed_clock_goes_on_counting():
    machine = machines.machine("cpu", 1)
    before = harness.Clock(machine, time.perf_counter() - 5.0, None, 10.0)
    before.start()
    before.tick()
    before.train_s, before.trained_steps = 8.0, 80
    after = harness.Clock(machine, time.perf_counter(), None, 10.0)
    after.restore(before.state())
    assert after.progress(81) == pytest.approx(0.8)
    assert after.total_s() == pytest.approx(5.0, abs=0.5) and after.resumed == 1
    after.tick()
    assert after.first_step_s == pytest.approx(5.0, abs=0.5)  # of both processes
    after._mark = (after._mark[0] - 100.0, after._mark[1])
    after.skip()  # a checkpoint was written meanwhile
    after.tick()
    assert after.train_s == pytest.approx(8.0, abs=0.5) and after.trained_steps == 81


@pytest.mark.slow  # starts a real run
def test_a_place_that_cannot_be_written_is_said_before_a_run_is_spent(corpus, dataset, tmp_path):
    (tmp_path / "file").write_text("")
    done = run("train", *SHORT, "--data", corpus, "--steps", 10**9, "--out", tmp_path / "file")
    assert done.returncode == 1 and "cannot write" in done.stderr
    assert one_line_without_traceback(done)


@pytest.mark.slow  # starts several real runs
def test_a_checkpoint_needs_no_cache_when_the_run_ends(corpus, dataset, cache_home, tmp_path):
    own = tmp_path / "cache"
    shutil.copytree(cache_home, own)
    process = subprocess.Popen(
        command("train", *SHORT, "--data", corpus, "--steps", 400, "--log-every", 1, "--out", tmp_path / "out"),
        cwd=ROOT,
        env=os.environ | {"XDG_CACHE_HOME": str(own)},
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
    )
    next(line for line in process.stderr if line.startswith("step 1/"))
    shutil.rmtree(own)
    process.communicate()
    assert process.returncode == 0
    assert harness.read_checkpoint(tmp_path / "out" / "checkpoint")["tokenizer"]


@pytest.mark.slow  # starts several real runs
def test_an_interrupted_run_is_not_replaced_without_a_word(corpus, dataset, tmp_path):
    args = (*SHORT, "--data", corpus, "--steps", 12, "--out", tmp_path, "--save-every", 4)
    killed_after(9, *args)
    assert "holds an interrupted run" in run("train", *args).stderr
    assert "interrupted" not in run("train", *args).stderr


@pytest.mark.slow  # starts several real runs
def test_a_foreign_state_is_one_line(corpus, dataset, tmp_path):
    (tmp_path / "checkpoint").mkdir()
    for foreign in ({"a": 1}, [1], {"facts": {}}):
        torch.save(foreign, tmp_path / "checkpoint" / "state.pt")
        done = run("train", *SHORT, "--data", corpus, "--steps", 2, "--out", tmp_path, "--resume")
        assert done.returncode == 1 and "state.pt" in done.stderr
        assert one_line_without_traceback(done)


@pytest.mark.slow  # starts several real runs
def test_resume_begins_where_there_is_nothing_and_refuses_another_run(corpus, dataset, tmp_path):
    args = (*SHORT, "--data", corpus, "--steps", 12, "--out", tmp_path, "--save-every", 4)
    killed_after(9, *args, "--resume")
    for other in (("--seed", 2), ("--steps", 20)):
        done = run("train", *args, *other, "--resume")
        assert done.returncode == 1 and "is of another run" in done.stderr
        assert one_line_without_traceback(done)
    (tmp_path / "checkpoint" / "state.pt").write_bytes(b"not a state")
    done = run("train", *args, "--resume")
    assert done.returncode == 1 and "cannot be read" in done.stderr
    assert one_line_without_traceback(done)
    (tmp_path / "checkpoint" / "state.pt").unlink()
    summary_of(run("train", *args, "--resume"))
    done = run("train", *args, "--resume")
    assert done.returncode == 1 and "ended" in done.stderr


def test_a_copy_of_the_folder_works_and_knows_no_org(corpus, dataset, tmp_path):
    shutil.copytree(ROOT / "nanochat", tmp_path / "nanochat", ignore=shutil.ignore_patterns("__pycache__"))
    for path in (tmp_path / "nanochat").glob("*.py"):
        assert not re.search(r"^\s*(import|from) org\b", path.read_text(), re.MULTILINE)
    args = command("train", *SHORT, "--data", corpus, "--steps", 2)
    done = subprocess.run(args, cwd=tmp_path, check=False, capture_output=True, text=True)
    assert summary_of(done)["steps"] == 2


@pytest.mark.slow  # starts several real runs
def test_seconds_count_from_the_end_of_the_first_step(corpus, dataset):
    got = summary_of(run("train", *SHORT, "--data", corpus, "--seconds", 1.5))
    assert got["tokens_per_s"] == pytest.approx(1024 * (got["steps"] - 1) / got["train_s"], rel=0.02)
    assert 1.5 <= got["train_s"] < 3.0  # one step late at most, on a slow machine
    assert got["steps"] > 3 and got["tokens"] == got["steps"] * 1024


@pytest.mark.slow  # starts several real runs
def test_a_budget_in_flops_gives_every_shape_the_same(corpus, dataset):
    args = ("--data", corpus, "--preset", "smoke", "--no-eval", "--flops", 3e10)
    shapes = [summary_of(run("train", *args, "--depth", depth)) for depth in (1, 2)]
    assert shapes[0]["steps"] > shapes[1]["steps"]
    for got in shapes:
        assert got["flops_total"] == pytest.approx(3e10, rel=0.5 / got["steps"])


@pytest.mark.slow  # starts several real runs
def test_flops_compare_two_depths_at_one_batch(corpus, dataset):
    got = summary_of(run("train", "--data", corpus, "--no-eval", "--flops", 2e10, "--depth", 4, "--device", "cpu"))
    assert got["tokens"] == 1024 * got["steps"] and got["preset"] is None


@pytest.mark.slow  # starts several real runs
def test_depth_alone_is_the_dial_of_horizon_and_batch():
    """Read from the run's first lines: the whole would take minutes."""
    process = subprocess.Popen(
        command("train", "--depth", 4, "--log-every", 1, "--device", "cpu"), cwd=ROOT, stderr=subprocess.PIPE, text=True
    )
    line = next(line for line in process.stderr if line.startswith("step 1/"))
    process.kill()
    process.communicate()
    steps = int(line.split()[1].removeprefix("1/"))
    matmul = 4 * 12 * 128 * 128 + 1024 * 128 + 2 * 4 * 32  # V is 1,024 or, for a small corpus, less
    assert steps == pytest.approx(11 * matmul / (2 * 8 * 128), rel=0.01)


@pytest.mark.slow  # starts several real runs
def test_two_ranks_train_as_one_does(corpus, dataset, tmp_path):
    args = [*map(str, (*SHORT, "--data", corpus, "--steps", 6)), "--out"]
    alone = summary_of(run("train", *args, tmp_path / "one"))
    torchrun = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"]
    done = subprocess.run(
        [*torchrun, "-m", "nanochat.train", *args, str(tmp_path / "two")],
        cwd=ROOT,
        check=False,
        capture_output=True,
        text=True,
        env=os.environ | {"OMP_NUM_THREADS": "1"},
    )
    got = summary_of(done)
    assert got["devices"] == 2 and got["tokens"] == alone["tokens"]
    assert got["train_loss"] == pytest.approx(alone["train_loss"], abs=1e-3)
    assert done.stdout.count("---\n") == 1
    one, two = weights(tmp_path / "one"), weights(tmp_path / "two")
    for name in one:  # Adam turns rounding into a whole step where a gradient is nearly nothing
        assert (one[name] - two[name]).norm() <= 0.05 * one[name].norm(), name


@pytest.mark.slow  # the compiler takes a minute
def test_a_compiled_run_trains_as_a_plain_one_does(corpus, dataset, tmp_path):
    args = (*SHORT, "--data", corpus, "--steps", 6)
    plain = summary_of(run("train", *args))
    compiled = summary_of(run("train", *args, "--compile", TORCHINDUCTOR_CACHE_DIR=str(tmp_path)))
    assert compiled["train_loss"] == pytest.approx(plain["train_loss"], abs=1e-3)
    assert compiled["compile_s"] > 1 > plain["compile_s"] == 0
    assert compiled["compile_s"] < compiled["first_step_s"]


@pytest.mark.slow  # starts a real run
def test_too_little_memory_is_one_line_that_names_the_knobs(corpus, dataset):
    limit = 6 * 2**30  # torch alone maps several GB
    done = subprocess.run(
        command("train", "--data", corpus, "--depth", 200, "--preset", "smoke", "--device", "cpu", "--steps", 2),
        cwd=ROOT,
        check=False,
        capture_output=True,
        text=True,
        preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_AS, (limit, limit)),
    )
    assert done.returncode == 1
    assert "out of memory on cpu" in done.stderr and "ROWS" in done.stderr
    assert one_line_without_traceback(done)


@pytest.mark.slow  # starts a real run
def test_a_full_disk_is_one_line_and_leaves_no_half_written_checkpoint(corpus, dataset, tmp_path):
    limited = ["bash", "-c", 'ulimit -f 40; exec "$@"', "-"]
    args = command("train", *SHORT, "--data", corpus, "--steps", 2, "--out", tmp_path / "out")
    done = subprocess.run([*limited, *args], cwd=ROOT, check=False, capture_output=True, text=True)
    assert done.returncode == 1
    assert "cannot write" in done.stderr.splitlines()[-1] and "Traceback" not in done.stderr
    left = {p.name for p in (tmp_path / "out" / "checkpoint").iterdir()}
    assert left == set()


@pytest.mark.slow
@pytest.mark.parametrize(
    "flags",
    [
        ("--steps", 2, "--tokens", 2048),
        ("--seconds", 0),
        ("--flops", "nan"),
        ("--resume",),
        ("--save-every", 5),
        ("--device", "tpu"),
        ("--seed", -1),
        ("--threads", 10**11),
        ("--tokens", 10**20),
        ("--data", ""),
    ],
)
def test_flags_that_cannot_be_meant_are_bad_usage(flags):
    done = run("train", *flags)
    assert done.returncode == 2
    assert one_line_without_traceback(done)


def test_the_peak_is_measured_on_a_cpu_and_never_a_guess_on_a_gpu(monkeypatch):
    cpu = machines.machine("cpu", 1)
    assert 1e9 < cpu.peak_flops() < 1e13
    names = {
        "NVIDIA H100 80GB HBM3": 989e12,
        "NVIDIA H100 PCIe": 756e12,
        "NVIDIA H100 NVL": 835e12,
        "NVIDIA H200": 989e12,
        "NVIDIA A100-SXM4-80GB": 312e12,
        "NVIDIA GeForce RTX 4090": 165e12,
        "NVIDIA GeForce RTX 4090 Laptop GPU": None,
        "NVIDIA RTX A1000": None,
        "NVIDIA A10G": None,
    }
    for name, peak in names.items():
        monkeypatch.setattr(torch.cuda, "get_device_name", lambda device, name=name: name)
        assert machines.Machine(torch.device("cuda", 0), torch.bfloat16).peak_flops() == peak


@pytest.fixture
def checkpoint(corpus, dataset, tmp_path):
    summary_of(run("train", *SHORT, "--data", corpus, "--steps", 20, "--out", tmp_path / "it's a run"))
    return tmp_path / "it's a run"


@pytest.mark.slow  # starts two real programs
def test_a_checkpoint_writes_text_that_goes_on_from_the_prompt(checkpoint):
    done = run("sample", checkpoint, "--prompt", "über <|bos|> ", "--tokens", 40)
    assert done.returncode == 0 and "tokens" in done.stderr, done.stderr
    assert done.stdout.startswith("über <|bos|> ") and len(done.stdout) > 40


@pytest.mark.slow  # starts a real run
def test_what_is_drawn_depends_on_seed_temperature_and_top_k_alone(checkpoint):
    model = train.load(checkpoint / "checkpoint")

    def drawn(seed, temperature=0.8, top_k=None):
        rng = torch.Generator().manual_seed(seed)
        return list(itertools.islice(sample.generate(model, [5, 6, 7], temperature, top_k, rng), 40))

    assert drawn(1) == drawn(1) != drawn(2)
    assert drawn(1, temperature=0) == drawn(2, temperature=0) == drawn(3, top_k=1)
    with torch.no_grad():  # the cache changes speed, not what is likeliest
        tokens = [5, 6, 7]
        for _ in range(10):
            tokens.append(int(model(torch.tensor([tokens]))[0, -1].argmax()))
    assert tokens[3:] == drawn(1, temperature=0)[:10]


@pytest.mark.slow
@pytest.mark.parametrize(
    ("flags", "code"),
    [
        (("--tokens", 0), 2),
        (("--temperature", 1e-300), 2),
        (("--seed", 2**64), 2),
        (("--top-k", 0), 2),
        (("--device", "cuda:7"), 2),
    ],
)
def test_sampling_flags_that_cannot_be_meant_are_bad_usage(flags, code, tmp_path):
    done = run("sample", tmp_path, *flags)
    assert done.returncode == code
    assert one_line_without_traceback(done)


@pytest.mark.slow
def test_a_folder_without_a_checkpoint_or_with_a_broken_one_is_one_line(checkpoint, tmp_path, monkeypatch, capfd):
    assert "holds no checkpoint" in run("sample", tmp_path).stderr
    model = checkpoint / "checkpoint" / "model.pt"
    whole, found = model.read_bytes(), harness.read_checkpoint(checkpoint / "checkpoint")
    model.write_bytes(whole[:1000])
    done = run("sample", checkpoint)
    assert done.returncode == 1 and "cannot be read" in done.stderr
    assert one_line_without_traceback(done)
    config, weights = found["config"], found["weights"]
    broken = [
        b"",
        [1, 2],
        {**found, "config": []},
        {**found, "config": {**config, "n_layer": "x"}},
        {**found, "config": {**config, "activation": "evil"}},
        {**found, "config": {**config, "n_layer": 3}},
        {**found, "weights": {}},
        {**found, "tokenizer": "junk"},
        {**found, "tokenizer": None},
        {**found, "weights": {name: w * float("nan") for name, w in weights.items()}},
    ]
    for content in broken:  # in one process: ten starts would take ten seconds
        if isinstance(content, bytes):
            model.write_bytes(content)
        else:
            torch.save(content, model)
        monkeypatch.setattr(sys, "argv", ["sample", str(checkpoint), "--tokens", "3"])
        capfd.readouterr()
        assert command_line.exit_code(sample.main) == 1, content
        assert capfd.readouterr().err.startswith("nanochat: ")


@pytest.mark.slow  # starts several real runs
def test_a_corpus_read_too_often_is_said(corpus, dataset, tmp_path):
    done = run("train", *SHORT, "--data", corpus, "--steps", 40)
    got = summary_of(done)
    assert got["epochs"] == pytest.approx(got["tokens"] / len(dataset.train), rel=1e-4)
    assert ("times the same" in done.stderr) == (got["epochs"] > 4)


@pytest.mark.slow  # starts a real run
def test_a_preset_is_known_to_the_trainer_by_name():
    done = run("train", "--preset", "huge")
    assert all(name in done.stderr for name in prepare.PRESETS)
