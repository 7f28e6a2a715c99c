"""What an experiment's numbers rest on in the model: causality in every form of a mask, pairing by seed, checkpoints."""

import dataclasses

import pytest
import torch

from nanochat import harness, prepare, train
from nanochat import machine as machines
from nanochat import model as models

SMALL = dataclasses.replace(train.config_for(2, 300), n_embd=64, head_dim=32, seq_len=32)


@pytest.fixture
def tokens():
    return torch.randint(0, 300, (2, 33), generator=torch.Generator().manual_seed(0))


def trained_a_little(config=SMALL):
    """Weights where nothing is zero any more, so that every path through the model carries signal."""
    model = models.GPT(config).init(1)
    with torch.no_grad():
        for p in model.parameters():
            p.add_(torch.randn(p.shape, generator=torch.Generator().manual_seed(p.numel())) * 0.1)
    return model


def variant(**changes):
    return dataclasses.replace(SMALL, **changes)


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
    mask = models.attention_mask(T, T, 8, CPU, torch.float32, False)
    reach = [[i for i in range(T) if row[i]] for row in mask.tolist()]
    assert reach == [list(range(max(0, t - 7), t + 1)) for t in range(T)]


def qkv():
    return [torch.randn(2, 3, 32, 16, generator=torch.Generator().manual_seed(i)) for i in range(3)]


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore:flex_attention called without")  # eager is what a CPU can do
@pytest.mark.parametrize("window", [8, 32])
def test_flex_attention_of_a_gpu_is_the_same_function(window):
    from torch.nn.attention.flex_attention import create_block_mask

    block_mask = create_block_mask(models.band(32, 32, window), None, None, 32, 32, "cpu")
    mask = models.attention_mask(32, 32, window, CPU, torch.float32, False)
    assert torch.allclose(models.attend(*qkv(), block_mask, 0.3), models.attend(*qkv(), mask, 0.3), atol=1e-5)


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

    monkeypatch.setattr(models, "FLASH", flash)
    mask = models.attention_mask(32, 32, window, CUDA, torch.bfloat16, True)
    assert isinstance(mask, models.Flash)
    for scale in (0.3, None):
        plain = models.attend(*qkv(), models.attention_mask(32, 32, window, CPU, torch.float32, False), scale)
        assert torch.allclose(models.attend(*qkv(), mask, scale), plain, atol=1e-5)
    # it knows no fp32, and no queries that go on where a cache ends
    assert models.attention_mask(32, 32, None, CUDA, torch.float32, True) is None
    assert models.attention_mask(1, 32, None, CUDA, torch.bfloat16, False) is None


@pytest.mark.slow  # the compiler takes four seconds
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_the_compiler_takes_the_trunk_and_the_loss_whole(tokens, dtype):
    """Where it breaks off, it compiles scraps, and nobody is told."""
    from torch._dynamo.testing import CompileCounter

    model = models.GPT(variant(window_pattern="SL")).init(1)
    model.dtype = dtype
    trunk, chunk = CompileCounter(), CompileCounter()
    model.trunk = torch.compile(model.trunk, backend=trunk, fullgraph=True)
    model.loss_chunk = torch.compile(model.loss_chunk, backend=chunk, fullgraph=True)
    model.loss(tokens[:, :-1], tokens[:, 1:]).backward()
    assert trunk.frame_count == 1 and chunk.frame_count == 1
    assert trunk.op_count > 50


def test_a_cache_gives_the_logits_of_the_whole(tokens):
    model = trained_a_little(variant(window_pattern="SL", n_layer=3)).eval()
    caches = [models.Cache() for _ in range(3)]
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


def test_init_of_one_parameter_does_not_depend_on_the_others():
    full = dict(models.GPT(SMALL).init(5).named_parameters())
    arms = [{"value_embeddings": False}, {"x0_residual": False}, {"n_layer": 3}]
    for arm in arms:
        other = dict(models.GPT(variant(**arm)).init(5).named_parameters())
        shared = [n for n in full if n in other and full[n].shape == other[n].shape]
        assert len(shared) >= 8
        assert all(torch.equal(full[name], other[name]) for name in shared)


def test_flops_by_hand_of_two_shapes():
    # V 300, C 64, 2 layers of 4 CC (attention) + 8 CC (MLP), one gate of 2 heads x 32 channels
    matmul = 2 * 12 * 64 * 64 + 300 * 64 + 2 * 32
    model = models.GPT(SMALL)
    assert model.matmul_params() == matmul == 117_568
    # attention: QK^T and AV, 2 FLOPs a multiply-add, x3 with backward: 2 * 2 * 3 * C * T a layer
    assert model.flops_per_token() == 6 * matmul + 2 * 12 * 64 * 32 == 754_560
    # C 128, 4 layers, gates of 4 heads on layers 1 and 3; layers 0 to 2 see 16 of 64 positions, the last one all
    model = models.GPT(variant(vocab_size=1024, n_layer=4, n_embd=128, seq_len=64, window_pattern="S"))
    matmul = 4 * 12 * 128 * 128 + 1024 * 128 + 2 * 4 * 32
    assert model.matmul_params() == matmul == 917_760
    assert model.flops_per_token() == 6 * matmul + 12 * 128 * (3 * 16 + 64) == 5_678_592


def test_windows_save_attention_flops():
    # of two layers of C 64 the first sees 8 of 32 positions
    saved = 12 * 64 * (32 - 8)
    assert models.GPT(SMALL).flops_per_token() - models.GPT(variant(window_pattern="S")).flops_per_token() == saved


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
    harness.write_checkpoint(tmp_path, other, models.GPT(SMALL).state_dict(), "")
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


def test_dropout_leaves_out_of_both_halves_of_a_block(tokens):
    block = models.Block(variant(dropout=0.5), False)
    for p in block.parameters():
        torch.nn.init.ones_(p)
    x = torch.randn(1, 8, 64)
    cos, sin = models.GPT(SMALL).places(tokens[:1, :8])[:2]

    def zeros(part) -> float:
        """Share of what `part` adds that is nothing."""
        block.attn.forward = block.mlp.forward = lambda x, *_: torch.zeros_like(x)
        vars(block)["_modules"][part].forward = lambda x, *_: torch.ones_like(x)
        return (block(x, None, cos, sin, None) == x).float().mean().item()

    assert 0.3 < zeros("attn") < 0.7 and 0.3 < zeros("mlp") < 0.7
    block.eval()
    assert zeros("attn") == zeros("mlp") == 0
