"""What an experiment's numbers rest on in train.py: causality, pairing by seed, the loss, the optimizer, the summary."""

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
import yaml
from tiny_corpus import ROOT, command, one_line_without_traceback, run

from nanochat import harness, prepare, train
from nanochat import machine as machines

SMALL = train.Config(vocab_size=300, n_layer=2, n_embd=64, head_dim=32, seq_len=32)


@pytest.fixture
def tokens():
    return torch.randint(0, 300, (2, 33), generator=torch.Generator().manual_seed(0))


def trained_a_little(config=SMALL):
    """Weights where nothing is zero any more, so that every path through the model carries signal."""
    model = train.GPT(config).init(1)
    with torch.no_grad():
        for p in model.parameters():
            p.add_(torch.randn(p.shape, generator=torch.Generator().manual_seed(p.numel())) * 0.1)
    return model


def test_loss_at_init_is_ln_vocab(dataset):
    model = train.GPT(train.config_for(2, dataset.vocab_size)).init(1)
    loss = model.loss(*prepare.batch(dataset, 1, 0, 8, 128)).item()
    assert loss == pytest.approx(math.log(dataset.vocab_size), rel=0.02)


def test_one_batch_overfits(dataset):
    torch.set_num_threads(1)
    model = train.GPT(train.config_for(2, dataset.vocab_size)).init(1)
    muon, adamw = train.optimizers(model)
    x, y = prepare.batch(dataset, 1, 0, 2, 64)
    for _ in range(60):
        loss = model.loss(x, y)
        loss.backward()
        muon.step(1.0, 0.0)
        adamw.step(1.0)
        model.zero_grad()
    assert loss.item() < 0.5


def variant(**changes):
    return train.Config(**{**vars(SMALL), **changes})


@pytest.mark.parametrize(
    "changes",
    [{}, {"value_embeddings": False}, {"window_pattern": "S"}, {"window_pattern": "SSL", "n_layer": 4}],
)
def test_a_later_token_never_changes_earlier_logits(tokens, changes):
    model = trained_a_little(variant(**changes))
    x = tokens[:, :-1]
    for t in (0, 7, 30):
        other = x.clone()
        other[:, t + 1 :] = (other[:, t + 1 :] + 1) % 300
        with torch.no_grad():
            before, after = model(x), model(other)
        assert torch.allclose(before[:, : t + 1], after[:, : t + 1], atol=1e-5)
        assert (before[:, t + 1 :] - after[:, t + 1 :]).abs().max() > 1e-3


CPU, CUDA = torch.device("cpu"), torch.device("cuda", 0)


@pytest.mark.parametrize("T", [32, 50])
def test_a_short_window_hides_what_lies_before_it_and_nothing_else(T):
    config = variant(window_pattern="S")  # 8 tokens of the 32; the last layer sees all
    assert [config.window(i) for i in range(2)] == [8, None]
    mask = train.attention_mask(T, T, 8, CPU, torch.float32, False)
    reach = [[i for i in range(T) if row[i]] for row in mask.tolist()]
    assert reach == [list(range(max(0, t - 7), t + 1)) for t in range(T)]


def qkv():
    return [torch.randn(2, 3, 32, 16, generator=torch.Generator().manual_seed(i)) for i in range(3)]


@pytest.mark.filterwarnings("ignore:flex_attention called without")  # eager is what a CPU can do
@pytest.mark.parametrize("window", [8, 32])
def test_flex_attention_of_a_gpu_is_the_same_function(window):
    from torch.nn.attention.flex_attention import create_block_mask

    block_mask = create_block_mask(train.band(32, 32, window), None, None, 32, 32, "cpu")
    mask = train.attention_mask(32, 32, window, CPU, torch.float32, False)
    assert torch.allclose(train.attend(*qkv(), block_mask, 0.3), train.attend(*qkv(), mask, 0.3), atol=1e-5)


@pytest.mark.parametrize("window", [8, None])
def test_flash_attention_3_is_called_for_the_same_function(window, monkeypatch):
    def flash(q, k, v, softmax_scale, causal, window_size):
        """What its documentation says, written plainly: (B, T, H, D); keys i - left to i + right, -1 for all."""
        left, right = window_size
        i, j = torch.arange(q.size(1))[:, None], torch.arange(k.size(1))
        sees = (j <= i) if causal else torch.ones(len(i), len(j), dtype=torch.bool)
        sees = sees & ((j >= i - left) if left >= 0 else True) & ((j <= i + right) if right >= 0 else True)
        scores = torch.einsum("bthd,bshd->bhts", q, k) * softmax_scale
        return torch.einsum("bhts,bshd->bthd", scores.masked_fill(~sees, -torch.inf).softmax(-1), v), "log-sums"

    monkeypatch.setattr(train, "FLASH", flash)
    mask = train.attention_mask(32, 32, window, CUDA, torch.bfloat16, True)
    assert isinstance(mask, train.Flash)
    for scale in (0.3, None):
        plain = train.attend(*qkv(), train.attention_mask(32, 32, window, CPU, torch.float32, False), scale)
        assert torch.allclose(train.attend(*qkv(), mask, scale), plain, atol=1e-5)
    # it knows no fp32, and no queries that go on where a cache ends
    assert train.attention_mask(32, 32, None, CUDA, torch.float32, True) is None
    assert train.attention_mask(1, 32, None, CUDA, torch.bfloat16, False) is None


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_the_compiler_takes_the_trunk_and_the_loss_whole(tokens, dtype):
    """Where it breaks off, it compiles scraps, and nobody is told."""
    from torch._dynamo.testing import CompileCounter

    model = train.GPT(variant(window_pattern="SL")).init(1)
    model.dtype = dtype
    trunk, chunk = CompileCounter(), CompileCounter()
    model.trunk = torch.compile(model.trunk, backend=trunk, fullgraph=True)
    model.loss_chunk = torch.compile(model.loss_chunk, backend=chunk, fullgraph=True)
    model.loss(tokens[:, :-1], tokens[:, 1:]).backward()
    assert trunk.frame_count == 1 and chunk.frame_count == 1
    assert trunk.op_count > 50


def test_a_cache_gives_the_logits_of_the_whole(tokens):
    model = trained_a_little(variant(window_pattern="SL", n_layer=3)).eval()
    caches = [train.Cache() for _ in range(3)]
    with torch.no_grad():
        whole = model(tokens)
        parts = [model(part, caches) for part in tokens.split([5, 1, 1, 20, 1, 5], dim=1)]
    assert torch.allclose(torch.cat(parts, dim=1), whole, atol=1e-4)


def test_bf16_activations_give_nearly_the_same_loss(tokens):
    model = trained_a_little()
    exact = model.loss(tokens[:, :-1], tokens[:, 1:]).item()
    model.on(machines.Machine(torch.device("cpu"), torch.bfloat16), is_compiled=False)
    loss = model.loss(tokens[:, :-1], tokens[:, 1:])
    loss.backward()
    assert loss.item() == pytest.approx(exact, rel=0.02)
    assert loss.item() != exact
    assert {p.grad.dtype for p in model.parameters()} == {torch.float32}


def test_accumulated_parts_give_the_gradient_of_the_whole(dataset, monkeypatch):
    seen = []
    monkeypatch.setattr(machines.Machine, "mean", lambda self, tensors: seen.append([t.clone() for t in tensors]))
    for tokens_at_once in (10**6, 3 * train.SEQ_LEN):  # all 8 rows; 3 + 3 + 2
        monkeypatch.setattr(train, "MICRO_TOKENS", tokens_at_once)
        train.train(train.GPT(train.config_for(2, dataset.vocab_size)).init(1), dataset, 1, 8, clock(steps=1))
    for whole, parts in zip(*seen, strict=True):
        assert torch.allclose(whole, parts, rtol=1e-3, atol=1e-6)


def test_dropout_draws_from_a_generator_of_its_own(dataset):
    def after(global_seed):
        torch.manual_seed(global_seed)
        model = train.GPT(dataclasses.replace(train.config_for(1, dataset.vocab_size), dropout=0.2)).init(1)
        losses = train.train(model, dataset, 1, 8, clock(steps=3))
        return parameter_hash(model), losses

    one, two = after(1), after(2)
    assert one[0] == two[0]  # whatever else used the global generator
    plain = train.GPT(train.config_for(1, dataset.vocab_size)).init(1)
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
        model = train.GPT(train.config_for(2, dataset.vocab_size)).init(seed)
        train.train(model, dataset, seed, 8, clock(steps=3))
        return parameter_hash(model)

    once = after(1)
    burner = subprocess.Popen([sys.executable, "-c", "while True: pass"])  # under load too
    try:
        assert after(1) == once != after(2)
    finally:
        burner.kill()
        burner.wait()


def test_init_of_one_parameter_does_not_depend_on_the_others():
    full = dict(train.GPT(SMALL).init(5).named_parameters())
    arms = [{"value_embeddings": False}, {"x0_residual": False}, {"n_layer": 3}]
    for arm in arms:
        other = dict(train.GPT(variant(**arm)).init(5).named_parameters())
        shared = [n for n in full if n in other and full[n].shape == other[n].shape]
        assert len(shared) >= 8
        assert all(torch.equal(full[name], other[name]) for name in shared)


def test_every_parameter_is_trained_by_exactly_one_optimizer():
    model = train.GPT(SMALL)
    muon, adamw = train.optimizers(model)
    held = [p for group, *_ in muon.groups for p in group] + [p for _, params, *_ in adamw.groups for p in params]
    assert sorted(map(id, held)) == sorted(map(id, model.parameters()))


def test_flops_by_hand_of_two_shapes():
    # V 300, C 64, 2 layers of 4 CC (attention) + 8 CC (MLP), one gate of 2 heads x 32 channels
    matmul = 2 * 12 * 64 * 64 + 300 * 64 + 2 * 32
    model = train.GPT(SMALL)
    assert model.matmul_params() == matmul == 117_568
    # attention: QK^T and AV, 2 FLOPs a multiply-add, x3 with backward: 2 * 2 * 3 * C * T a layer
    assert model.flops_per_token() == 6 * matmul + 2 * 12 * 64 * 32 == 754_560
    # C 128, 4 layers, gates of 4 heads on layers 1 and 3; layers 0 to 2 see 16 of 64 positions, the last one all
    model = train.GPT(train.Config(1024, 4, 128, 32, 64, window_pattern="S"))
    matmul = 4 * 12 * 128 * 128 + 1024 * 128 + 2 * 4 * 32
    assert model.matmul_params() == matmul == 917_760
    assert model.flops_per_token() == 6 * matmul + 12 * 128 * (3 * 16 + 64) == 5_678_592


def test_windows_save_attention_flops():
    # of two layers of C 64 the first sees 8 of 32 positions
    saved = 12 * 64 * (32 - 8)
    assert train.GPT(SMALL).flops_per_token() - train.GPT(variant(window_pattern="S")).flops_per_token() == saved


def test_the_gpu_rungs_have_the_published_shape():
    rung = prepare.PRESETS["gpu8"]
    config = train.config_for(train.DEPTH * rung.depth_factor, rung.vocab_size, rung)
    assert (config.n_layer, config.n_embd, config.head_dim, config.seq_len) == (8, 512, 128, 2048)
    with torch.device("meta"):
        model = train.GPT(config)
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


def test_a_checkpoint_gives_the_same_logits_at_any_length(tmp_path, tokens):
    model = trained_a_little()
    harness.write_checkpoint(tmp_path / "it's a checkpoint", vars(SMALL), model.state_dict(), "")
    loaded = train.load(tmp_path / "it's a checkpoint")
    for x in (tokens[:, :5], tokens, tokens.repeat(1, 4)):
        with torch.no_grad():
            logits = loaded(x)
            assert logits.dtype == torch.float32 and logits.shape == (*x.shape, 300)
            assert torch.equal(logits, model(x))
            assert logits.abs().max() <= train.LOGIT_SOFTCAP


def test_a_checkpoint_of_another_model_is_one_line(tmp_path):
    other = {**vars(SMALL), "n_embd": 96}
    harness.write_checkpoint(tmp_path, other, train.GPT(SMALL).state_dict(), "")
    with pytest.raises(prepare.Problem, match="is of another model"):
        train.load(tmp_path)
    harness.write_checkpoint(tmp_path, {"smear": True}, {}, "")
    with pytest.raises(prepare.Problem, match="is of another model"):
        train.load(tmp_path)


@pytest.mark.parametrize(
    "wrong",
    [
        {"head_dim": 31},
        {"n_layer": 0},
        {"n_layer": 2.5},
        {"window_pattern": ""},
        {"window_pattern": "XQ"},
        {"activation": "silu"},
        {"dropout": 1.5},
        {"logit_softcap": -5.0},
    ],
)
def test_a_shape_that_no_model_has_is_one_line(wrong):
    with pytest.raises(prepare.Problem, match=f"no model has such a {next(iter(wrong))}"):
        variant(**wrong)


def test_every_step_gets_its_own_batch_learning_rate_and_decay(dataset, monkeypatch):
    seen = []
    real = train.batch
    monkeypatch.setattr(train, "batch", lambda *args: seen.append(args[1:]) or real(*args))
    monkeypatch.setattr(train.Muon, "step", lambda self, lr_scale, decay: seen.append((lr_scale, decay)))
    monkeypatch.setattr(train.AdamW, "step", lambda self, lr_scale: seen.append(lr_scale))
    monkeypatch.setattr(train, "WARMDOWN_FRAC", 0.5)
    train.train(train.GPT(train.config_for(1, dataset.vocab_size)).init(1), dataset, 7, 8, clock(steps=4))
    decay = train.WEIGHT_DECAY
    assert seen == [
        *((7, 0, 8, 128), (1.0, decay), 1.0),
        *((7, 1, 8, 128), (1.0, 0.75 * decay), 1.0),
        *((7, 2, 8, 128), (1.0, 0.5 * decay), 1.0),
        *((7, 3, 8, 128), (0.5, 0.25 * decay), 0.5),
    ]


def test_dropout_leaves_out_of_both_halves_of_a_block(tokens):
    block = train.Block(variant(dropout=0.5), False)
    for p in block.parameters():
        torch.nn.init.ones_(p)
    x = torch.randn(1, 8, 64)
    cos, sin = train.GPT(SMALL).places(tokens[:1, :8])[:2]

    def zeros(part) -> float:
        """Share of what `part` adds that is nothing."""
        block.attn.forward = block.mlp.forward = lambda x, *_: torch.zeros_like(x)
        vars(block)["_modules"][part].forward = lambda x, *_: torch.ones_like(x)
        return (block(x, None, cos, sin, None) == x).float().mean().item()

    assert 0.3 < zeros("attn") < 0.7 and 0.3 < zeros("mlp") < 0.7
    block.eval()
    assert zeros("attn") == zeros("mlp") == 0


def test_every_knob_is_one_literal_with_a_comment_and_blank_lines_around_it():
    """Two edits to two knobs must merge: git conflicts on adjacent lines."""
    lines = (ROOT / "nanochat" / "train.py").read_text().splitlines()
    end = lines.index("# ---- model ----")
    knobs = [i for i, line in enumerate(lines[:end]) if re.match(r"[A-Z][A-Z0-9_]+ = ", line) and "STARTED" not in line]
    assert len(knobs) >= 24
    for i in knobs:
        assert lines[i - 1].startswith("# "), lines[i]
        assert lines[i + 1] == "", lines[i]
        kinds = [token.type for token in tokenize.generate_tokens(io.StringIO(lines[i]).readline)][2:]
        assert len([kind for kind in kinds if kind in (tokenize.NUMBER, tokenize.STRING, tokenize.NAME)]) == 1, lines[i]


def summary_of(done: subprocess.CompletedProcess) -> dict:
    assert done.returncode == 0, done.stderr
    return yaml.safe_load(done.stdout.partition("---\n")[2])


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


def test_budgets_are_tokens(corpus):
    got = summary_of(run("train", "--data", corpus, "--tokens", 2048, "--no-eval", "--depth", 1))
    assert got["tokens"] == 2048 and got["steps"] == 2 and "val_bpb" not in got


def test_importing_and_training_leaves_the_compiler_alone():
    code = """
import sys, torch, nanochat.train as t
model = t.GPT(t.Config(vocab_size=64)).init(0)
muon, adamw = t.optimizers(model)
model.loss(torch.zeros(1, 8, dtype=torch.int64), torch.zeros(1, 8, dtype=torch.int64)).backward()
muon.step(1.0, 0.1); adamw.step(1.0)
print([m for m in sys.modules if m.split(".")[0] in ("sympy", "tiktoken") or m.startswith(("torch._dynamo", "org."))])
"""
    done = subprocess.run([*command("train")[:1], "-c", code], cwd=ROOT, check=False, capture_output=True, text=True)
    assert done.stdout.strip() == "[]", done.stderr


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
    model = train.GPT(train.config_for(1, dataset.vocab_size)).init(1)
    with pytest.raises(prepare.Problem, match=r"the loss is nan at step 1;"):
        train.train(model, dataset, 1, 8, clock(steps=50))


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
