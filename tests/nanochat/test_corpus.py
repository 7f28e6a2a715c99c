"""ClimbMix from a hub on this machine: shards that arrive whole or not at all, and a hidden split that stays hidden."""

import fcntl
import hashlib
import http.server
import io
import random
import socket
import subprocess
import sys
import threading
from collections import Counter
from functools import partial
from pathlib import Path

import numpy as np
import pytest
from tiny_corpus import ROOT, command, one_line_without_traceback, run
from waiting import wait_for

from nanochat import corpus, fetch, prepare

pyarrow = pytest.importorskip("pyarrow")

LAST = "shard_06542.parquet"


class Hub(http.server.ThreadingHTTPServer):
    """The hub's way of serving: /resolve/ redirects, with the sha256 in a header, to a storage that knows ranges."""

    daemon_threads = True

    def __init__(self):
        super().__init__(("127.0.0.1", 0), _Request)
        self.files: dict[str, bytes] = {}
        self.sha256: dict[str, str | None] = {}  # what the header says, where it is not the truth
        self.faults: dict[str, list] = {}  # taken one a request to the storage: a status, or bytes before the cut
        self.sent: Counter[str] = Counter()  # bytes of each file
        self.ranges: dict[str, list[str | None]] = {}
        self.url = f"http://127.0.0.1:{self.server_port}"

    def shard(self, i: int) -> str:
        return f"{self.url}/datasets/{corpus.REPOSITORY}/resolve/main/shard_{i:05}.parquet"


class _Request(http.server.BaseHTTPRequestHandler):
    server: Hub

    def do_GET(self):
        place, _, name = self.path.rpartition("/")
        content = self.server.files.get(name)
        if content is None:
            return self.answer(404)
        if place != "/storage":
            sha256 = self.server.sha256.get(name, hashlib.sha256(content).hexdigest())
            linked = {"X-Linked-Etag": f'"{sha256}"'} if sha256 else {}
            return self.answer(302, {"Location": f"/storage/{name}"} | linked)
        asked = self.headers.get("Range")
        self.server.ranges.setdefault(name, []).append(asked)
        fault = next(iter(self.server.faults.get(name, [])), None)
        if fault is not None:
            self.server.faults[name].pop(0)
        if isinstance(fault, http.HTTPStatus):
            return self.answer(fault)
        start = int(asked.removeprefix("bytes=").removesuffix("-")) if asked else 0
        if asked and start >= len(content):
            return self.answer(416)
        body = content[start:]
        self.server.sent[name] += len(body[:fault])  # before: the client may be done before write returns
        self.answer(206 if asked else 200, {"Content-Length": str(len(body))})
        self.wfile.write(body[:fault])

    def answer(self, status: int, headers: dict[str, str] | None = None):
        self.send_response(status)
        for key, value in (headers or {"Content-Length": "0"}).items():
            self.send_header(key, value)
        self.end_headers()

    def log_message(self, *_):
        pass


def parquet(texts: list[str], column: str = "text") -> bytes:
    from pyarrow import parquet

    file = io.BytesIO()
    parquet.write_table(pyarrow.table({column: texts}), file, row_group_size=64, compression="zstd")
    return file.getvalue()


def texts_of(seed: int, n: int = 300) -> list[str]:
    rng = random.Random(seed)
    return [" ".join("".join(rng.choices("abcdeéß", k=5)) for _ in range(60)) + f" {seed}.{i}" for i in range(n)]


@pytest.fixture
def hub(monkeypatch, tmp_path):
    server = Hub()
    for i in (0, 1, corpus.LAST_SHARD):
        server.files[f"shard_{i:05}.parquet"] = parquet(texts_of(i))
    monkeypatch.setenv("HF_ENDPOINT", server.url)
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "the cache"))
    monkeypatch.setattr(fetch, "fetch", partial(fetch.fetch, pause_s=0))
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    yield server
    server.shutdown()
    thread.join()
    server.server_close()


def test_climbmix_from_end_to_end(hub, tmp_path):
    dataset = prepare.load("climbmix:2", vocab_size=400)
    meta = prepare.write_referee("climbmix:2", tmp_path / "referee", vocab_size=400)
    assert meta["data_hash"] == dataset.data_hash
    assert dataset.vocab_size == 400
    decode = prepare.tokenizer((dataset.folder / "tokenizer.tiktoken").read_text()).decode
    assert decode(dataset.train.tolist()) == "".join(prepare.BOS + text for text in texts_of(0) + texts_of(1))
    held_out = [np.fromfile(tmp_path / "referee" / f"{name}.bin", np.uint16) for name in ("val", "hidden")]
    val, hidden = (decode(tokens.tolist()).split(prepare.BOS)[1:] for tokens in held_out)
    assert decode(dataset.val.tolist()).split(prepare.BOS)[1:] == val
    assert len(val) > 100 and len(hidden) > 100
    assert sorted(val + hidden) == sorted(texts_of(corpus.LAST_SHARD))


def test_the_cache_holds_no_byte_of_the_hidden_split(hub, tmp_path):
    prepare.load("climbmix:2", vocab_size=400)
    prepare.write_referee("climbmix:2", tmp_path / "referee", vocab_size=400)
    hidden = (tmp_path / "referee" / "hidden.bin").read_bytes()
    cached = [path for path in prepare.cache().rglob("*") if path.is_file()]
    assert not any(hidden[:100] in path.read_bytes() for path in cached)
    assert sorted(path.name for path in cached if "shard" in path.name) == [
        f"shard_0000{i}.parquet{suffix}" for i in (0, 1) for suffix in ("", ".sha256")
    ]


def test_a_text_that_is_held_out_is_not_trained_on(hub):
    shared = texts_of(corpus.LAST_SHARD)[7]
    hub.files["shard_00000.parquet"] = parquet([*texts_of(0), shared, "", "  "])
    splits = corpus.splits("climbmix:1", prepare.cache() / "climbmix")
    assert list(splits.train) == list(splits.train) == texts_of(0)
    assert (shared in splits.val) != (shared in splits.hidden)


def test_a_warm_load_asks_the_hub_nothing_and_another_vocabulary_fetches_no_shard_of_train(hub):
    first = prepare.load("climbmix:2", vocab_size=400)
    hub.ranges.clear()
    assert prepare.load("climbmix:2", vocab_size=400).data_hash == first.data_hash
    assert hub.ranges == {}
    assert prepare.load("climbmix:2", vocab_size=300).data_hash != first.data_hash
    assert list(hub.ranges) == [LAST]


def test_trainers_and_a_referee_at_once_fetch_each_shard_of_train_once(hub, tmp_path):
    prepare_it = command("prepare", "--data", "climbmix:2", "--vocab", 400)
    calls = [prepare_it, prepare_it, [*prepare_it, "--referee", str(tmp_path / "referee")]]
    processes = [subprocess.Popen(call, cwd=ROOT, stdout=-1, stderr=-1, text=True) for call in calls]
    outputs = [process.communicate(timeout=60)[0] for process in processes]
    assert [process.returncode for process in processes] == [0, 0, 0]
    assert outputs[0] == outputs[1]
    assert len({line.partition(":")[0] for output in outputs for line in output.splitlines()[1:]}) == 1  # data_hash
    sizes = {name: len(content) for name, content in hub.files.items()}
    assert hub.sent == sizes | {LAST: 2 * sizes[LAST]}  # each of the two builds deletes it


@pytest.mark.skipif(not Path("/proc/locks").exists(), reason="who waits for a lock is read from /proc/locks")
def test_whoever_finds_the_shards_locked_asks_the_hub_nothing_until_they_are_free(hub, tmp_path):
    shards = prepare.cache() / "climbmix"
    shards.mkdir(parents=True)
    with (shards / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        referee = command("prepare", "--data", "climbmix:1", "--vocab", 400, "--referee", tmp_path / "referee")
        process = subprocess.Popen(referee, cwd=ROOT, stdout=-1, stderr=-1)
        wait_for(
            lambda: is_waiting_for_a_lock(process.pid) or process.poll() is not None, what="the lock to be waited for"
        )
        assert is_waiting_for_a_lock(process.pid) and hub.ranges == {}
    process.communicate(timeout=60)
    assert process.returncode == 0 and len(hub.ranges) == 2


def is_waiting_for_a_lock(pid: int) -> bool:
    return any("->" in line and str(pid) in line.split() for line in Path("/proc/locks").read_text().splitlines())


# ---- fetching ----


def test_a_cut_connection_goes_on_where_it_was(hub, tmp_path):
    content = hub.files["shard_00000.parquet"]
    hub.faults["shard_00000.parquet"] = [20_000, 1000]
    path = fetch.fetch(hub.shard(0), tmp_path)
    assert path.read_bytes() == content
    assert hub.ranges["shard_00000.parquet"] == [None, "bytes=20000-", "bytes=21000-"]
    assert hub.sent["shard_00000.parquet"] == len(content)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["shard_00000.parquet", "shard_00000.parquet.sha256"]


def test_a_later_run_goes_on_where_the_first_gave_up(hub, tmp_path):
    hub.faults["shard_00000.parquet"] = [20_000]
    with pytest.raises(prepare.Problem, match=r"closed after 20,000 of .* prepare again"):
        fetch.fetch(hub.shard(0), tmp_path, tries=1)
    assert not (tmp_path / "shard_00000.parquet").exists()
    assert fetch.fetch(hub.shard(0), tmp_path).read_bytes() == hub.files["shard_00000.parquet"]
    assert hub.sent["shard_00000.parquet"] == len(hub.files["shard_00000.parquet"])


@pytest.mark.parametrize("left", [0, 1])
def test_a_part_that_is_whole_or_longer_than_the_file_is_fetched_anew(hub, tmp_path, left):
    content = hub.files["shard_00000.parquet"]
    (tmp_path / "shard_00000.parquet.part").write_bytes(content + bytes(left))
    assert fetch.fetch(hub.shard(0), tmp_path).read_bytes() == content


@pytest.mark.parametrize("status", [500, 503, 429])
def test_a_hub_that_is_busy_is_asked_again(hub, tmp_path, status):
    hub.faults["shard_00000.parquet"] = [http.HTTPStatus(status), http.HTTPStatus(status)]
    assert fetch.fetch(hub.shard(0), tmp_path).read_bytes() == hub.files["shard_00000.parquet"]
    assert len(hub.ranges["shard_00000.parquet"]) == 3


def test_a_hub_that_says_no_is_not_asked_again(hub, tmp_path):
    hub.faults["shard_00000.parquet"] = [http.HTTPStatus(403)]
    with pytest.raises(prepare.Problem, match="answers 403"):
        fetch.fetch(hub.shard(0), tmp_path)
    with pytest.raises(prepare.Problem, match="answers 404"):
        fetch.fetch(hub.shard(5), tmp_path)
    assert len(hub.ranges["shard_00000.parquet"]) == 1


def test_a_shard_with_another_checksum_is_refused_and_removed(hub, tmp_path):
    hub.sha256["shard_00000.parquet"] = "0" * 64
    with pytest.raises(prepare.Problem, match=r"the hub says 00000000; deleted"):
        fetch.fetch(hub.shard(0), tmp_path)
    assert list(tmp_path.iterdir()) == []
    del hub.sha256["shard_00000.parquet"]
    assert fetch.fetch(hub.shard(0), tmp_path).exists()


@pytest.mark.parametrize(
    ("damage", "says"),
    [
        (lambda path: path.write_bytes(path.read_bytes()[:-100]), "its sha256 is another"),
        (lambda path: path.write_bytes(b"PAR1" + path.read_bytes()[4:-1] + b"x"), "its sha256 is another"),
        (lambda path: fetch.sidecar(path).unlink(), "has no shard_00000.parquet.sha256 beside it"),
    ],
)
def test_a_shard_that_changed_on_disk_is_never_data(hub, capsys, monkeypatch, damage, says):
    prepare.load("climbmix:1", vocab_size=400)
    damage(prepare.cache() / "climbmix" / "shard_00000.parquet")
    assert main(monkeypatch, "--data", "climbmix:1", "--vocab", "300") == 1
    assert says in capsys.readouterr().err.splitlines()[-1]


@pytest.mark.parametrize("name", ["shard_00000.parquet", LAST])
@pytest.mark.parametrize(
    ("change", "says"),
    [
        (lambda content: content[:-200], "is not a whole parquet file"),
        (lambda content: b"<html>a captive portal</html>", "is not a whole parquet file"),
        (lambda content: parquet(["x"], column="words"), "has no column `text`"),
    ],
)
def test_what_is_no_shard_is_one_line_though_the_hub_gives_no_checksum(hub, capsys, monkeypatch, name, change, says):
    hub.files[name], hub.sha256[name] = change(hub.files[name]), None
    assert main(monkeypatch, "--data", "climbmix:1", "--vocab", "400") == 1
    last = capsys.readouterr().err.splitlines()[-1]
    assert name in last and says in last
    assert not list(prepare.cache().rglob("*.bin")) and not list(prepare.cache().glob(".building-*"))


def test_a_hub_out_of_reach_is_one_line(hub, capsys, monkeypatch):
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))  # bound, not listening: connections are refused
        monkeypatch.setenv("HF_ENDPOINT", f"http://127.0.0.1:{free.getsockname()[1]}")
        assert main(monkeypatch, "--data", "climbmix") == 1
    lines = capsys.readouterr().err.splitlines()
    assert len(lines) == 2 and lines[0].startswith("nanochat: preparing climbmix")
    assert "cannot fetch http://127.0.0.1" in lines[1] and "refused" in lines[1]


def test_a_disk_that_fills_up_while_fetching_is_one_line(hub):
    limited = ["bash", "-c", 'ulimit -f 8; exec "$@"', "-", *command("prepare", "--data", "climbmix:1")]
    done = subprocess.run(limited, cwd=ROOT, check=False, capture_output=True, text=True)
    assert done.returncode == 1
    assert "cannot write" in done.stderr.splitlines()[-1] and "Traceback" not in done.stderr
    assert not list(prepare.cache().rglob("*.parquet"))
    assert len(hub.ranges["shard_00000.parquet"]) == 1  # a full disk is not tried again


def test_without_pyarrow_nothing_is_fetched_and_one_line_says_what_to_install(hub, capsys, monkeypatch):
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    assert main(monkeypatch, "--data", "climbmix") == 1
    assert "pip install pyarrow" in capsys.readouterr().err.splitlines()[-1]
    assert hub.ranges == {}


@pytest.mark.parametrize("data", ["climbmix:", "climbmix:0", "climbmix:6543", "climbmix:-1", "climbmix:two"])
def test_a_number_of_shards_that_makes_no_sense_is_bad_usage(data):
    done = run("prepare", "--data", data)
    assert done.returncode == 2
    assert one_line_without_traceback(done)


def test_a_hub_that_is_no_url_is_bad_usage(monkeypatch, capsys):
    monkeypatch.setenv("HF_ENDPOINT", "hf.example")
    assert main(monkeypatch, "--data", "climbmix") == 2
    assert "hf.example" in capsys.readouterr().err.splitlines()[-1]


def main(monkeypatch, *args: str) -> int:
    monkeypatch.setattr(sys, "argv", ["prepare", *args])
    return prepare.exit_code(prepare.main)
