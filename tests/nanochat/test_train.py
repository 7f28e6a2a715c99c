"""What an experiment's numbers rest on in train.py: knobs, steps, schedule, pairing by seed, the summary."""

import dataclasses
import hashlib
import io
import math
import os
import re
import signal
import subprocess
import sys
import tokenize

import numpy as np
import pytest
import torch
from tiny_corpus import ROOT, command, one_line_without_traceback, run, summary_of

from nanochat import harness, prepare, train
from nanochat import machine as machines
from nanochat import model as models

SMALL = dataclasses.replace(train.config_for(2, 300), n_embd=64, head_dim=32, seq_len=32)


def test_loss_at_init_is_ln_vocab(dataset):
    model = models.GPT(train.config_for(2, dataset.vocab_size)).init(1)
    loss = model.loss(*prepare.batch(dataset, 1, 0, 8, 128)).item()
    assert loss == pytest.approx(math.log(dataset.vocab_size), rel=0.02)


def test_one_batch_overfits(dataset):
    torch.set_num_threads(1)
    model = models.GPT(train.config_for(2, dataset.vocab_size)).init(1)
    muon, adamw = train.optimizers(model)
    x, y = prepare.batch(dataset, 1, 0, 2, 64)
    for _ in range(60):
        loss = model.loss(x, y)
        loss.backward()
        muon.step(1.0, 0.0)
        adamw.step(1.0)
        model.zero_grad()
    assert loss.item() < 0.5


def test_accumulated_parts_give_the_gradient_of_the_whole(dataset, monkeypatch):
    seen = []
    monkeypatch.setattr(machines.Machine, "mean", lambda self, tensors: seen.append([t.clone() for t in tensors]))
    for tokens_at_once in (10**6, 3 * train.SEQ_LEN):  # all 8 rows; 3 + 3 + 2
        monkeypatch.setattr(train, "MICRO_TOKENS", tokens_at_once)
        train.train(models.GPT(train.config_for(2, dataset.vocab_size)).init(1), dataset, 1, 8, clock(steps=1))
    for whole, parts in zip(*seen, strict=True):
        assert torch.allclose(whole, parts, rtol=1e-3, atol=1e-6)


def test_dropout_draws_from_a_generator_of_its_own(dataset):
    def after(global_seed):
        torch.manual_seed(global_seed)
        model = models.GPT(dataclasses.replace(train.config_for(1, dataset.vocab_size), dropout=0.2)).init(1)
        losses = train.train(model, dataset, 1, 8, clock(steps=3))
        return parameter_hash(model), losses

    one, two = after(1), after(2)
    assert one[0] == two[0]  # whatever else used the global generator
    plain = models.GPT(train.config_for(1, dataset.vocab_size)).init(1)
    assert not torch.allclose(train.train(plain, dataset, 1, 8, clock(steps=3)), one[1])


def clock(steps=None, seconds=None):
    return harness.Clock(machines.machine("cpu", 1), 0.0, steps, seconds)


def parameter_hash(model) -> str:
    digest = hashlib.sha256()
    for name, p in model.named_parameters():
        digest.update(name.encode() + p.detach().numpy().tobytes())
    return digest.hexdigest()


def test_same_seed_gives_the_same_parameters_after_training(dataset):
    torch.set_num_threads(1)

    def after(seed):
        model = models.GPT(train.config_for(2, dataset.vocab_size)).init(seed)
        train.train(model, dataset, seed, 8, clock(steps=3))
        return parameter_hash(model)

    once = after(1)
    burner = subprocess.Popen([sys.executable, "-c", "while True: pass"])  # under load too
    try:
        assert after(1) == once != after(2)
    finally:
        burner.kill()
        burner.wait()


def test_every_parameter_is_trained_by_exactly_one_optimizer():
    model = models.GPT(SMALL)
    muon, adamw = train.optimizers(model)
    held = [p for group, *_ in muon.groups for p in group] + [p for _, params, *_ in adamw.groups for p in params]
    assert sorted(map(id, held)) == sorted(map(id, model.parameters()))


def test_the_gpu_rungs_have_the_published_shape():
    rung = prepare.PRESETS["gpu8"]
    config = train.config_for(train.DEPTH * rung.depth_factor, rung.vocab_size, rung)
    assert (config.n_layer, config.n_embd, config.head_dim, config.seq_len) == (8, 512, 128, 2048)
    with torch.device("meta"):
        model = models.GPT(config)
    assert sum(p.numel() for p in model.parameters()) == pytest.approx(50.3e6, rel=0.01)


def test_lr_schedule_is_a_trapezoid_of_the_step_fraction(monkeypatch):
    monkeypatch.setattr(train, "WARMUP_FRAC", 0.1)
    monkeypatch.setattr(train, "WARMDOWN_FRAC", 0.4)
    monkeypatch.setattr(train, "FINAL_LR_FRAC", 0.2)
    shape = [train.lr_scale(p) for p in (0.0, 0.05, 0.1, 0.6, 0.8, 1.0)]
    assert shape == pytest.approx([0.0, 0.5, 1.0, 1.0, 0.6, 0.2])
    monkeypatch.setattr(train, "WARMUP_FRAC", 0.0)
    monkeypatch.setattr(train, "WARMDOWN_FRAC", 0.0)
    assert [train.lr_scale(p) for p in (0.0, 0.999)] == [1.0, 1.0]


def test_every_step_gets_its_own_batch_learning_rate_and_decay(dataset, monkeypatch):
    seen = []
    real = train.batch
    monkeypatch.setattr(train, "batch", lambda *args: seen.append(args[1:]) or real(*args))
    monkeypatch.setattr(train.Muon, "step", lambda self, lr_scale, decay: seen.append((lr_scale, decay)))
    monkeypatch.setattr(train.AdamW, "step", lambda self, lr_scale: seen.append(lr_scale))
    monkeypatch.setattr(train, "WARMDOWN_FRAC", 0.5)
    train.train(models.GPT(train.config_for(1, dataset.vocab_size)).init(1), dataset, 7, 8, clock(steps=4))
    decay = train.WEIGHT_DECAY
    assert seen == [
        *((7, 0, 8, 128), (1.0, decay), 1.0),
        *((7, 1, 8, 128), (1.0, 0.75 * decay), 1.0),
        *((7, 2, 8, 128), (1.0, 0.5 * decay), 1.0),
        *((7, 3, 8, 128), (0.5, 0.25 * decay), 0.5),
    ]


def test_every_knob_is_one_literal_with_a_comment_and_blank_lines_around_it():
    """Two edits to two knobs must merge: git conflicts on adjacent lines."""
    lines = (ROOT / "nanochat" / "train.py").read_text().splitlines()
    end = lines.index("# ---- model and optimizers that follow from the knobs ----")
    knobs = [i for i, line in enumerate(lines[:end]) if re.match(r"[A-Z][A-Z0-9_]+ = ", line) and "STARTED" not in line]
    assert len(knobs) >= 24
    for i in knobs:
        assert lines[i - 1].startswith("# "), lines[i]
        assert lines[i + 1] == "", lines[i]
        kinds = [token.type for token in tokenize.generate_tokens(io.StringIO(lines[i]).readline)][2:]
        assert len([kind for kind in kinds if kind in (tokenize.NUMBER, tokenize.STRING, tokenize.NAME)]) == 1, lines[i]


def test_the_command_writes_a_checkpoint_and_a_yaml_summary(corpus, dataset, tmp_path):
    out = tmp_path / "out"
    done = run("train", "--data", corpus, "--steps", 12, "--seed", 2, "--out", out, "--device", "cpu")
    got = summary_of(done)
    assert got["steps"] == 12 and got["tokens"] == 12 * 1024 and got["seed"] == 2 and 0.02 < got["mfu"] < 1.2
    assert got["flops_total"] == got["flops_per_token"] * got["tokens"]
    assert got["first_loss"] == pytest.approx(math.log(dataset.vocab_size), rel=0.02)
    assert got["data_hash"] == dataset.data_hash and got["peak_mem_mb"] < 700
    assert min(got["first_step_s"], got["train_s"], got["eval_s"]) > 0 == got["compile_s"]
    assert got["first_step_s"] + got["train_s"] + got["eval_s"] <= got["total_s"]
    assert 5 <= len(done.stderr.splitlines()) <= 12  # plain lines when stderr is no terminal
    scored = prepare.bits_per_byte(
        train.load(out / "checkpoint"), dataset.val[:65_537], dataset.token_bytes, prepare.EVAL_SEQ_LEN, 8
    )
    assert got["val_bpb"] == pytest.approx(scored, abs=1e-4)


def test_the_memory_of_a_run_is_its_own_and_not_its_starters():
    """Linux hands the peak of a process on to what it executes: a large parent made every run look large."""
    ask = "from nanochat.machine import machine; print(machine('cpu').peak_mem_mb())"
    code = f"import os, sys; big = b'x' * 900_000_000; os.execv(sys.executable, [sys.executable, '-c', {ask!r}])"
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    assert 50 < float(done.stdout) < 700


@pytest.mark.slow  # starts a real run
def test_budgets_are_tokens(corpus):
    got = summary_of(run("train", "--data", corpus, "--tokens", 2048, "--no-eval", "--depth", 1))
    assert got["tokens"] == 2048 and got["steps"] == 2 and "val_bpb" not in got


@pytest.mark.slow  # starts a real run
def test_importing_and_training_leaves_the_compiler_alone():
    code = """
import sys, torch, nanochat.train as t
model = t.GPT(t.config_for(2, 64)).init(0)
muon, adamw = t.optimizers(model)
model.loss(torch.zeros(1, 8, dtype=torch.int64), torch.zeros(1, 8, dtype=torch.int64)).backward()
muon.step(1.0, 0.1); adamw.step(1.0)
print([m for m in sys.modules if m.split(".")[0] in ("sympy", "tiktoken") or m.startswith(("torch._dynamo", "org."))])
"""
    done = subprocess.run([*command("train")[:1], "-c", code], cwd=ROOT, check=False, capture_output=True, text=True)
    assert done.stdout.strip() == "[]", done.stderr


@pytest.mark.slow
@pytest.mark.parametrize(
    ("flags", "code"),
    [
        (("--preset", "huge"), 2),
        (("--steps", "0"), 2),
        (("--nonsense",), 2),
        (("--data", "/no/such/folder"), 1),
    ],
)
def test_what_a_person_can_cause_is_one_line(flags, code):
    done = run("train", *flags)
    assert done.returncode == code
    assert one_line_without_traceback(done)


def test_a_loss_that_is_no_number_stops_the_run(dataset, monkeypatch):
    monkeypatch.setattr(train, "MATRIX_LR", math.nan)
    model = models.GPT(train.config_for(1, dataset.vocab_size)).init(1)
    with pytest.raises(prepare.Problem, match=r"the loss is nan at step 1;"):
        train.train(model, dataset, 1, 8, clock(steps=50))


@pytest.mark.slow  # starts a real run
def test_ctrl_c_ends_a_run_with_130_and_no_traceback(corpus, dataset):
    process = subprocess.Popen(
        command("train", "--data", corpus, "--steps", 100_000, "--log-every", 1),
        cwd=ROOT,
        env=os.environ,
        stderr=subprocess.PIPE,
        text=True,
    )
    assert "step 1/" in process.stderr.readline()  # it trains: no need to guess when
    process.send_signal(signal.SIGINT)
    _, rest = process.communicate(timeout=20)
    assert process.returncode == 130
    assert "Traceback" not in rest


@pytest.mark.slow  # trains the whole smoke preset on the default corpus: ~15 s
def test_smoke_learns_python(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    got = summary_of(run("train", "--preset", "smoke", "--seed", 1, "--out", tmp_path / "out"))
    assert got["steps"] == 300 and 1.8 < got["val_bpb"] < 2.3
    assert np.isclose(got["first_loss"], math.log(1024), rtol=0.02)
