"""What experiments rely on in prepare.py: the same splits for the same text, a hidden split that stays hidden."""

import hashlib
import json
import math
import os
import re
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from tiny_corpus import ROOT, command, one_line_without_traceback, run, write_corpus

from nanochat import corpus as corpus_
from nanochat import prepare
from nanochat.corpus import documents, split


def texts_of(folder) -> dict[str, list[str]]:
    return vars(split(documents(str(folder))))


def test_split_bytes_equal_text_bytes(corpus, tmp_path):
    meta = prepare.build(str(corpus), 1024, tmp_path, encoded=("train", "val", "hidden"))
    token_bytes = np.fromfile(tmp_path / "token_bytes.bin", np.uint16)
    texts = texts_of(corpus)
    for name in texts:
        tokens = np.fromfile(tmp_path / f"{name}.bin", np.uint16)
        n_bytes = sum(len(text.encode()) for text in texts[name])
        assert token_bytes[tokens].sum() == n_bytes == meta["splits"][name]["bytes"]
        assert len(tokens) == meta["splits"][name]["tokens"]
    files = [path.read_bytes() for path in corpus.iterdir()]
    assert sum(len(text.encode()) for split in texts.values() for text in split) == sum(map(len, files))


def test_tokens_decode_to_the_text(corpus, dataset):
    texts = texts_of(corpus)["train"]
    decoded = prepare.tokenizer((dataset.folder / "tokenizer.tiktoken").read_text()).decode(dataset.train.tolist())
    assert decoded == "".join(prepare.BOS + text for text in texts)


def test_a_document_is_in_one_split_only_and_another_file_moves_none(tmp_path):
    folder = write_corpus(tmp_path / "grows")
    before = texts_of(folder)
    (folder / "new.txt").write_text("one more document\n")
    (folder / "copy.txt").write_text((folder / "it's 0.txt").read_text())
    after = texts_of(folder)
    added = [(split, text) for split in after for text in after[split] if text not in before[split]]
    assert [text for _, text in added] == ["one more document\n"]
    assert all(set(before[split]) <= set(after[split]) for split in before)
    assert not set(after["train"]) & set(after["hidden"]) and not set(after["val"]) & set(after["hidden"])


def test_a_book_in_one_file_can_be_split(tmp_path):
    (tmp_path / "book").mkdir()
    book = "".join(f"Line {i} of a long book, {i * i}.\n" for i in range(20_000))
    (tmp_path / "book" / "book.txt").write_text(book)
    texts = texts_of(tmp_path / "book")
    assert all(texts.values())
    assert sorted("".join(text for split in texts.values() for text in split)) == sorted(book)


def test_hidden_split_is_absent_from_the_cache_and_matches_it(corpus, dataset, cache_home, tmp_path):
    meta = prepare.write_referee(str(corpus), tmp_path / "referee")
    hidden = (tmp_path / "referee" / "hidden.bin").read_bytes()
    assert len(hidden) > 1000
    assert not any(hidden[:200] in path.read_bytes() for path in cache_home.rglob("*") if path.is_file())
    assert sorted(path.name for path in (tmp_path / "referee").iterdir()) == [
        "hidden.bin",
        "meta.json",
        "token_bytes.bin",
        "tokenizer.tiktoken",
        "val.bin",
    ]
    assert meta["data_hash"] == dataset.data_hash
    assert (tmp_path / "referee" / "val.bin").read_bytes() == dataset.val.tobytes()


def test_referee_splits_are_written_once_and_never_for_another_corpus(corpus, tmp_path):
    first = prepare.write_referee(str(corpus), tmp_path / "r")
    stamp = (tmp_path / "r" / "hidden.bin").stat().st_mtime_ns
    assert prepare.write_referee(str(corpus), tmp_path / "r") == first
    assert (tmp_path / "r" / "hidden.bin").stat().st_mtime_ns == stamp
    other = write_corpus(tmp_path / "other", files=230)
    with pytest.raises(prepare.Problem, match="another corpus"):
        prepare.write_referee(str(other), tmp_path / "r")


def test_two_processes_preparing_at_once_give_one_cache(corpus, tmp_path):
    env = os.environ | {"XDG_CACHE_HOME": str(tmp_path)}
    pair = [
        subprocess.Popen(command("prepare", "--data", corpus), cwd=ROOT, env=env, stdout=-1, stderr=-1, text=True)
        for _ in range(2)
    ]
    outputs = [process.communicate(timeout=60) for process in pair]
    assert [process.returncode for process in pair] == [0, 0]
    assert outputs[0][0] == outputs[1][0]
    assert sum("preparing" in err for _, err in outputs) == 1
    assert len(list((tmp_path / "nanochat").glob("*/meta.json"))) == 1
    assert not list((tmp_path / "nanochat").glob(".building-*"))


def test_a_text_that_spells_the_special_token_is_ordinary_text(tmp_path):
    folder = write_corpus(tmp_path / "spells")
    for i in range(40):
        (folder / f"special {i}.txt").write_text(f"{prepare.BOS} is not {prepare.BOS} here, {i}\n")
    dataset = prepare.load(str(folder))
    texts = texts_of(folder)["train"]
    assert any(prepare.BOS in text for text in texts)
    assert (dataset.train == dataset.vocab_size - 1).sum() == len(texts)
    assert dataset.token_bytes[dataset.train].sum() == sum(len(text.encode()) for text in texts)


def test_the_hash_of_a_split_sees_every_byte_and_where_each_text_ends():
    def sha256(*texts: str) -> str:
        seen = prepare._Seen("")
        assert tuple(seen.through(texts)) == texts
        return seen.sha256.hexdigest()

    assert sha256("ab", "c") == sha256("ab", "c")
    others = [("a", "bc"), ("abc",), ("c", "ab"), ("ab", "d"), ("ad", "c"), ("ab", "c", "")]
    assert len({sha256("ab", "c"), *(sha256(*texts) for texts in others)}) == 1 + len(others)


def test_tokens_are_on_disk_before_the_last_text_is_read(tmp_path, dataset, monkeypatch):
    monkeypatch.setattr(prepare, "ENCODED_AT_ONCE", 50_000)
    path, sizes = tmp_path / "tokens.bin", []

    def texts():
        for _ in range(100):
            sizes.append(path.stat().st_size)
            yield "a few words, " * 400

    n = prepare._write_tokens(path, prepare.tokenizer((dataset.folder / "tokenizer.tiktoken").read_text()), texts())
    assert path.stat().st_size == 2 * n
    # what is read and not yet written is at most a batch, and what Python's file object buffers
    assert all(size > 2 * n * (i - 12) / 100 for i, size in enumerate(sizes))


def test_the_vocabulary_is_an_argument_and_each_has_a_cache(corpus, dataset, tmp_path):
    small = prepare.load(str(corpus), vocab_size=300)
    assert small.vocab_size == len(small.token_bytes) == small.train.max() + 1 == 300
    assert dataset.vocab_size == prepare.VOCAB_SIZE
    assert small.data_hash != dataset.data_hash
    assert small.token_bytes[small.train].sum() == dataset.token_bytes[dataset.train].sum()
    assert prepare.load(str(corpus)).folder == dataset.folder and dataset.folder.exists()
    assert prepare.write_referee(str(corpus), tmp_path / "referee", vocab_size=300)["data_hash"] == small.data_hash
    with pytest.raises(prepare.Problem, match="another corpus"):
        prepare.write_referee(str(corpus), tmp_path / "referee")


def test_the_smallest_vocabulary_is_bytes(corpus):
    dataset = prepare.load(str(corpus), vocab_size=257)
    assert set(dataset.token_bytes[:256]) == {1} and dataset.token_bytes[256] == 0


@pytest.mark.parametrize("vocab", ["256", "65537", "-1", "many"])
def test_a_vocabulary_that_no_cache_can_hold_is_bad_usage(corpus, vocab):
    done = run("prepare", "--data", corpus, "--vocab", vocab)
    assert done.returncode == 2
    assert one_line_without_traceback(done)


@pytest.mark.parametrize("name", prepare.PRESETS)
def test_a_preset_is_whole_steps_and_a_vocabulary_of_16_bits(name):
    preset = prepare.PRESETS[name]
    step = 8 * preset.rows_factor * 128 * preset.seq_factor  # at train.py's default ROWS and SEQ_LEN
    assert preset.tokens % step == 0 and preset.eval_tokens % (prepare.EVAL_SEQ_LEN * preset.seq_factor) == 0
    assert 257 <= preset.vocab_size <= 65_536


def test_a_warm_load_imports_nothing_heavy(corpus, dataset):
    code = f"import sys; from nanochat import prepare; prepare.load({str(corpus)!r}); print(*sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, check=True, capture_output=True, text=True)
    assert not {"torch", "pyarrow", "tiktoken", "rustbpe", "urllib.request"} & set(done.stdout.split())
    assert "numpy" in done.stdout.split()


@pytest.mark.slow
def test_the_default_corpus_is_the_one_that_results_were_measured_on(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    meta = prepare.write_referee("python", tmp_path / "referee")
    versions = {"torch": "2.13.0+cpu", "sympy": "1.14.0", "numpy": "2.2.6", "networkx": "3.4.2", "rustbpe": "0.1.0"}
    if meta["versions"] | versions != meta["versions"]:
        pytest.skip(f"other packages are another corpus: {meta['versions']}")
    dataset = prepare.load()
    assert meta["data_hash"] == dataset.data_hash == "b4584880bbc2f5cb"
    assert hashlib.sha256(dataset.train.tobytes()).hexdigest()[:16] == "833221788c67c4c1"
    assert hashlib.sha256((tmp_path / "referee" / "hidden.bin").read_bytes()).hexdigest()[:16] == "d215b528e9c73266"


def test_a_killed_build_leaves_nothing_that_stays(corpus, tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    debris = tmp_path / "nanochat" / ".building-1"
    debris.mkdir(parents=True)
    (debris / "train.bin").write_bytes(b"half")
    prepare.load(str(corpus))
    assert not debris.exists()


def test_a_warm_load_reads_no_document(corpus, dataset, monkeypatch):
    monkeypatch.setattr("nanochat.corpus.documents", lambda data: pytest.fail("walked the corpus again"))
    assert prepare.load(str(corpus)).data_hash == dataset.data_hash


def test_cached_files_are_read_only(dataset):
    assert all(path.stat().st_mode & 0o222 == 0 for path in dataset.folder.iterdir())
    with pytest.raises(ValueError, match="read-only"):
        dataset.train[0] = 1


def test_batch_is_a_pure_function_whose_targets_are_the_next_tokens(dataset):
    x, y = prepare.batch(dataset, seed=3, step=5, rows=4, seq_len=16)
    again, _ = prepare.batch(dataset, seed=3, step=5, rows=4, seq_len=16)
    assert x.shape == y.shape == (4, 16)
    assert (x == again).all() and (x[:, 1:] == y[:, :-1]).all()
    assert (x != prepare.batch(dataset, seed=4, step=5, rows=4, seq_len=16)[0]).any()
    assert (x != prepare.batch(dataset, seed=3, step=6, rows=4, seq_len=16)[0]).any()


def test_fewer_rows_a_step_read_the_same_crops_in_the_same_order(dataset):
    wide, _ = prepare.batch(dataset, seed=1, step=2, rows=4, seq_len=8)
    narrow = [prepare.batch(dataset, seed=1, step=step, rows=2, seq_len=8)[0] for step in (4, 5)]
    assert wide.tolist() == narrow[0].tolist() + narrow[1].tolist()


def peak_kb():
    return int(re.search(r"VmHWM:\s+(\d+)", Path("/proc/self/status").read_text())[1])


def test_a_batch_of_gigabytes_reads_only_its_crops(dataset, tmp_path):
    import torch  # noqa: F401  its memory is not the batch's

    n = 2**32 + 1000  # more tokens than 32 bits count, in a file without blocks
    with (tmp_path / "train.bin").open("wb") as file:
        file.truncate(2 * n)
    tokens = np.memmap(tmp_path / "train.bin", dtype=np.uint16, mode="r+")
    starts = prepare._scramble(np.arange(4, dtype=np.uint64) + prepare._scramble(np.array([1], dtype=np.uint64)))
    for row, start in enumerate((starts % np.uint64(n - 16)).tolist()):
        tokens[start : start + 17] = np.arange(17) + 100 * row
    Path("/proc/self/clear_refs").write_text("5")  # the peak of this process begins anew, whatever it held before
    before = peak_kb()
    x, y = prepare.batch(replace(dataset, train=tokens), seed=1, step=0, rows=4, seq_len=16)
    assert [row.tolist() for row in x] == [list(range(100 * i, 100 * i + 16)) for i in range(4)]
    assert (y == x + 1).all()
    assert peak_kb() - before < 50_000
    assert (tmp_path / "train.bin").stat().st_blocks * 512 < 1e6


def test_batches_cover_the_corpus_evenly(dataset):
    import torch

    crops = torch.cat([prepare.batch(dataset, 1, step, 64, 8)[0] for step in range(200)])
    seen = np.bincount(crops.flatten().numpy(), minlength=dataset.vocab_size) / crops.numel()
    share = np.bincount(dataset.train, minlength=dataset.vocab_size) / len(dataset.train)
    assert np.abs(seen - share).max() < 0.01


def test_bits_per_byte_of_a_uniform_model_is_known_and_special_tokens_do_not_count(dataset):
    import torch

    class Uniform(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.anchor = torch.nn.Parameter(torch.zeros(1))

        def forward(self, tokens):
            return torch.zeros(*tokens.shape, dataset.vocab_size)

    tokens = dataset.val[: 64 * 50 + 1]
    worth = dataset.token_bytes[tokens[1:]]
    expected = (worth > 0).sum() * math.log2(dataset.vocab_size) / worth.sum()
    assert (worth == 0).sum() > 0
    for rows in (1, 8, 50):
        assert prepare.bits_per_byte(Uniform(), tokens, dataset.token_bytes, 64, rows) == pytest.approx(expected)


def test_meta_says_what_the_numbers_rest_on(dataset):
    meta = json.loads((dataset.folder / "meta.json").read_text())
    assert meta["data_hash"] == dataset.data_hash == dataset.folder.name
    assert meta["vocab_size"] == dataset.vocab_size == len(dataset.token_bytes)
    assert meta["splits"]["train"]["tokens"] == len(dataset.train)


@pytest.mark.parametrize(
    ("setup", "says"),
    [
        (lambda folder: None, "no folder"),
        (lambda folder: folder.mkdir(), "holds no .txt"),
        (lambda folder: (folder.mkdir(), (folder / "a.txt").write_text("too short")), "too little text"),
    ],
)
def test_a_folder_that_cannot_be_used_is_one_line(tmp_path, setup, says):
    setup(tmp_path / "data")
    done = run("prepare", "--data", tmp_path / "data")
    lines = done.stderr.splitlines()
    assert done.returncode == 1
    assert says in lines[-1] and "Traceback" not in done.stderr


def test_a_cache_that_cannot_be_written_is_one_line(corpus, tmp_path):
    (tmp_path / "file").write_text("")
    done = run("prepare", "--data", corpus, XDG_CACHE_HOME=str(tmp_path / "file"))
    assert done.returncode == 1
    assert one_line_without_traceback(done)


def test_a_disk_that_fills_up_is_one_line_and_leaves_no_half_written_file(corpus, tmp_path):
    limited = ["bash", "-c", 'ulimit -f 1; exec "$@"', "-", *command("prepare", "--data", corpus)]
    env = os.environ | {"XDG_CACHE_HOME": str(tmp_path)}
    done = subprocess.run(limited, cwd=ROOT, env=env, check=False, capture_output=True, text=True)
    assert done.returncode == 1
    assert "cannot write" in done.stderr.splitlines()[-1] and "Traceback" not in done.stderr
    assert not list(tmp_path.rglob("*.bin"))


def test_an_unknown_flag_is_bad_usage_in_one_line():
    done = run("prepare", "--dat", "x", "--nonsense")
    assert done.returncode == 2
    assert one_line_without_traceback(done)


@pytest.mark.parametrize("damage", ["train.bin", "val.bin", "meta.json", "token_bytes.bin"])
def test_a_damaged_cache_is_built_again(corpus, tmp_path, monkeypatch, damage):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    whole = prepare.load(str(corpus))
    path = whole.folder / damage
    for content in (None, b"", path.read_bytes()[:-1]):
        path.unlink(missing_ok=True)
        if content is not None:
            path.write_bytes(content)
        again = prepare.load(str(corpus))
        assert again.data_hash == whole.data_hash and len(again.train) == len(whole.train)


def test_a_place_for_the_referee_that_is_taken_is_named_at_once(corpus, tmp_path):
    (tmp_path / "file").write_text("")
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "thesis.txt").write_text("")
    for place in ("file", "full"):
        done = run("prepare", "--data", corpus, "--referee", tmp_path / place)
        assert done.returncode == 1 and str(tmp_path / place) in done.stderr
        assert one_line_without_traceback(done)


def test_a_folder_that_may_not_be_read_is_no_smaller_corpus(corpus, tmp_path, monkeypatch):
    def refuse(root, onerror):
        onerror(PermissionError(13, "Permission denied", str(root)))

    monkeypatch.setattr(corpus_.os, "walk", refuse)  # root may read everything: the kernel would not refuse here
    with pytest.raises(PermissionError):
        prepare.fingerprint(str(corpus))
