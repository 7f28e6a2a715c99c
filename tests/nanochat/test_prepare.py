"""What experiments rely on in prepare.py: the same splits for the same text, a hidden split that stays hidden."""

import json
import math
import os
import subprocess

import numpy as np
import pytest
from tiny_corpus import ROOT, command, one_line_without_traceback, run, write_corpus

from nanochat import prepare


def test_split_bytes_equal_text_bytes(corpus, tmp_path):
    built = prepare.build(str(corpus))
    token_bytes = np.frombuffer(built.files["token_bytes.bin"], np.uint16)
    texts = prepare.splits(prepare.documents(str(corpus)))
    for split in texts:
        tokens = np.frombuffer(built.files[f"{split}.bin"], np.uint16)
        n_bytes = sum(len(text.encode()) for text in texts[split])
        assert token_bytes[tokens].sum() == n_bytes == built.meta["splits"][split]["bytes"]
    files = [path.read_bytes() for path in corpus.iterdir()]
    assert sum(len(text.encode()) for split in texts.values() for text in split) == sum(map(len, files))


def test_tokens_decode_to_the_text(corpus, dataset):
    texts = prepare.splits(prepare.documents(str(corpus)))["train"]
    decoded = prepare.tokenizer(dataset.folder).decode(dataset.train.tolist())
    assert decoded == "".join(prepare.BOS + text for text in texts)


def test_a_document_is_in_one_split_only_and_another_file_moves_none(tmp_path):
    folder = write_corpus(tmp_path / "grows")
    before = prepare.splits(prepare.documents(str(folder)))
    (folder / "new.txt").write_text("one more document\n")
    (folder / "copy.txt").write_text((folder / "it's 0.txt").read_text())
    after = prepare.splits(prepare.documents(str(folder)))
    added = [(split, text) for split in after for text in after[split] if text not in before[split]]
    assert [text for _, text in added] == ["one more document\n"]
    assert all(set(before[split]) <= set(after[split]) for split in before)
    assert not set(after["train"]) & set(after["hidden"]) and not set(after["val"]) & set(after["hidden"])


def test_a_book_in_one_file_can_be_split(tmp_path):
    (tmp_path / "book").mkdir()
    book = "".join(f"Line {i} of a long book, {i * i}.\n" for i in range(20_000))
    (tmp_path / "book" / "book.txt").write_text(book)
    texts = prepare.splits(prepare.documents(str(tmp_path / "book")))
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


def test_a_killed_build_leaves_nothing_that_stays(corpus, tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    debris = tmp_path / "nanochat" / ".building-0000-1"
    debris.mkdir(parents=True)
    (debris / "train.bin").write_bytes(b"half")
    prepare.load(str(corpus))
    assert not debris.exists()


def test_a_warm_load_reads_no_document(corpus, dataset, monkeypatch):
    monkeypatch.setattr(prepare, "documents", lambda data: pytest.fail("walked the corpus again"))
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
