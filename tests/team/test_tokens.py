"""Tokens are counted offline, of any text, once a letter; with nothing new the count costs next to nothing."""

import base64
import json
import os
import subprocess
import sys
import time
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from postbox import take
from test_mail import make_home
from waiting import wait_for

from org import files
from org.home import Home
from org.team import boxes, envelope, mail, tokens

ROOT = Path(__file__).parents[2]


@pytest.fixture
def home(tmp_path: Path) -> Home:
    return make_home(tmp_path.resolve())


@pytest.fixture(autouse=True)
def _a_new_office():
    tokens._counter.cache_clear()


# --- the vocabulary ----------------------------------------------------------------------------------------------


def test_the_vocabulary_is_small_whole_and_in_tiktokens_form():
    data = tokens.VOCABULARY.read_bytes()
    rows = [line.split() for line in data.splitlines()]
    assert len(rows) == tokens.SIZE and len(data) < 80_000
    assert [int(rank) for _, rank in rows] == list(range(tokens.SIZE))
    assert {base64.b64decode(token) for token, _ in rows} >= {bytes([byte]) for byte in range(256)}


def test_any_bytes_come_back():
    encoding = tokens._encoding()
    for data in (bytes(range(256)) * 3, os.urandom(5000), "héllo \u202e 🙂 日本".encode()):
        assert encoding.decode_bytes(encoding._encode_bytes(data)) == data


@settings(max_examples=150, deadline=None)
@given(st.text(max_size=300))
def test_any_text_comes_back_and_nothing_in_it_is_special(text):
    encoding = tokens._encoding()
    assert encoding.decode(encoding.encode_ordinary(text)) == text
    assert (tokens.count(text) > 0) == bool(text) and tokens.count(text) <= len(text.encode())
    assert tokens.count(text + "<|endoftext|>") > tokens.count(text)


def test_the_estimate_without_tiktoken_is_the_count():
    for path in [*(ROOT / "prompts").rglob("*.md"), ROOT / "README.md", ROOT / "org" / "files.py"]:
        text = path.read_text()
        assert abs(tokens.estimate(text) - tokens.count(text)) <= 0.01 * tokens.count(text), path
    loads = "import sys; from org.team import tokens; tokens.estimate('a b'); assert 'tiktoken' not in sys.modules"
    subprocess.run([sys.executable, "-c", loads], check=True, cwd=ROOT)


@settings(max_examples=150, deadline=None)
@given(st.text(max_size=300))
def test_the_estimate_of_any_text_is_near_its_count(text):
    assert abs(tokens.estimate(text) - tokens.count(text)) <= 2 + 0.1 * tokens.count(text)


def test_one_long_word_is_estimated_as_fast_as_any():
    start = time.process_time()
    assert tokens.estimate("qzxj" * 16_000) >= tokens.count("qzxj" * 16_000)
    assert time.process_time() - start < 1.0


def test_english_and_code_are_about_three_bytes_a_token():
    text = (ROOT / "README.md").read_text()
    assert 2.5 < len(text.encode()) / tokens.count(text) < 4.5


@pytest.mark.parametrize("piece", ["a", " ", "\n", "1", "!", "\u202e", "🙂", "the", "\x00"])
def test_the_worst_letters_are_counted_in_reasonable_time(piece):
    text = piece * (envelope.MAX_BODY_BYTES // len(piece.encode()))
    began = time.monotonic()
    assert tokens.count(text) > 0
    assert time.monotonic() - began < 10


@pytest.mark.slow  # reads every file of a commit and learns
def test_the_command_makes_the_same_bytes(tmp_path):
    pytest.importorskip("rustbpe")
    made = tmp_path / "made"
    commit = next(ln for ln in (ROOT / "scripts/vocabulary").read_text().splitlines() if ln.startswith("COMMIT"))
    commit = commit.split('"')[1]
    if subprocess.run(["git", "-C", ROOT, "cat-file", "-e", commit], check=False, capture_output=True).returncode:
        pytest.skip("this clone does not reach back to the commit that was learned from")
    subprocess.run([sys.executable, ROOT / "scripts/vocabulary", commit, made], check=True, capture_output=True)
    assert made.read_bytes() == tokens.VOCABULARY.read_bytes()


def test_it_needs_no_network_and_leaves_nothing_behind(tmp_path):
    code = (
        "import socket, sys\ndef no(*a, **k): raise SystemExit('network')\nsocket.socket.connect = no\n"
        "from org.team import tokens\nprint(tokens.count('hello'), 'requests' in sys.modules)"
    )
    environ = {**os.environ, "TMPDIR": str(tmp_path), "HOME": str(tmp_path), "XDG_CACHE_HOME": str(tmp_path)}
    done = subprocess.run([sys.executable, "-c", code], env=environ, capture_output=True, text=True, check=True)
    assert done.stdout.split()[1] == "False" and int(done.stdout.split()[0]) > 0
    assert list(tmp_path.iterdir()) == []


# --- the count ---------------------------------------------------------------------------------------------------


def test_each_letter_is_counted_once_in_each_box_wherever_it_lies(home):
    sent = mail.send(home, "human", "all", "try a longer warmdown first", kind="task")
    assert tokens.tally(home) == 3 and tokens.tally(home) == 0
    take(home, "j1")
    mail.send(home, "j1", "chief", "é🙂" * 50, kind="report")
    assert tokens.tally(home) == 1
    tokens._counter.cache_clear()  # another process
    assert tokens.tally(home) == 0
    rows, _ = files.read_lines(home.mail_tokens)
    assert {(row["id"], row["to"]) for row in rows[:3]} == {(letter.id, letter.to) for letter in sent}
    assert rows[3]["from"] == "j1" and rows[3]["bytes"] == 300 and rows[3]["kind"] == "report"
    assert rows[0]["tokens"] == tokens.count("try a longer warmdown first")


def test_a_letter_that_comes_the_moment_after_a_count_is_not_missed(home):
    """The file system's clock stands still for milliseconds: a folder can change again within one of its ticks."""
    new = home.mailbox("j1") / "new"
    for number in range(20):
        mail.send(home, "human", "j1", f"letter {number}")
        at = new.stat().st_mtime_ns
        assert tokens.tally(home) == 1
        mail.send(home, "human", "j1", f"letter {number}, too")
        os.utime(new, ns=(at, at))
        assert tokens.tally(home) == 1


def test_a_letter_that_is_read_while_it_is_counted_is_counted_once(home, monkeypatch):
    mail.send(home, "human", "j1", "hello")
    plain = boxes.read

    def read(home: Home, seat: str, path: Path):
        letter = plain(home, seat, path)
        mail.acknowledge(home, seat, letter.id)
        return letter

    monkeypatch.setattr(boxes, "read", read)
    assert tokens.tally(home) == 1
    assert len(files.read_lines(home.mail_tokens)[0]) == 1


def test_what_was_read_and_put_away_while_no_office_ran_is_counted(home):
    from datetime import UTC, datetime, timedelta

    mail.send(home, "human", "j1", "hello")
    take(home, "j1")
    boxes.archive(home, datetime.now(UTC) + timedelta(days=2))
    assert tokens.tally(home) == 1 and tokens.tally(home) == 0


def test_many_are_counted_over_several_calls(home, monkeypatch):
    monkeypatch.setattr(tokens, "AT_ONCE", 4)
    for number in range(10):
        mail.send(home, "human", "j1", f"letter {number}")
    assert [tokens.tally(home) for _ in range(4)] == [4, 4, 2, 0]


def test_what_is_no_letter_or_no_box_is_passed_over(home):
    new = home.mailbox("j1") / "new"
    new.mkdir(parents=True)
    (new / "torn.md").write_text("---\nid: torn")
    (new / "folder.md").mkdir()
    os.mkfifo(new / "pipe.md")
    (home.mail / "stray").write_text("")
    assert tokens.tally(home) == 0
    assert tokens.tally(Home(home.root / "nowhere")) == 0


def test_a_seat_that_breaks_its_box_keeps_no_other_from_being_counted(home):
    mail.send(home, "human", "all", "hello")
    for part in ("new", "cur"):
        broken = home.mailbox("j1") / part
        subprocess.run(["rm", "-rf", broken], check=True)
        broken.symlink_to(part)
    (home.mail / "Odd\nname" / "new").mkdir(parents=True)
    (home.mail / "Odd\nname" / "new" / "x.md").write_text("---\nid: x\nfrom: j1\nto: x\n---\n")
    assert tokens.tally(home) == 2
    assert set(tokens.per_seat(home)) == {"chief", "j2"}


def test_long_letters_are_counted_a_moment_at_a_time(home, monkeypatch):
    monkeypatch.setattr(tokens, "TALLY_S", 0.0)
    for _ in range(3):
        mail.send(home, "human", "j1", "x" * 60_000)
    assert [tokens.tally(home) for _ in range(4)] == [1, 1, 1, 0]
    for _ in range(3):
        mail.send(home, "human", "j1", "y" * 60_000)
    monkeypatch.setattr(tokens, "PAGE_S", 0.0)
    assert tokens.received(home)["j1"].letters == 4  # the others at the next page


def test_two_at_once_and_a_torn_line_count_once(home):
    mail.send(home, "human", "all", "hello")
    code = "import sys; from pathlib import Path; from org.home import Home; from org.team import tokens\n"
    code += "tokens.tally(Home(Path(sys.argv[1])))"
    both = [subprocess.Popen([sys.executable, "-c", code, str(home.root)]) for _ in range(3)]
    assert [process.wait(60) for process in both] == [0, 0, 0]
    rows, _ = files.read_lines(home.mail_tokens)
    assert len(rows) == 3
    home.mail_tokens.write_bytes(home.mail_tokens.read_bytes()[:-9])  # a full disk took less than the whole line
    assert tokens.tally(home) == 1
    rows, _ = files.read_lines(home.mail_tokens)
    assert len({(row["id"], row["to"]) for row in rows}) == len(rows) == 3


def test_sums_are_of_what_a_box_received_since(home):
    mail.send(home, "human", "j1", "before")
    time.sleep(0.002)
    since = files.utc_now()
    mail.send(home, "human", "j1", "after")
    mail.send(home, "j1", "j2", "after, too")
    tokens.tally(home)
    with home.mail_tokens.open("a") as file:  # agents can write here
        for row in ({"to": "j1"}, {"to": 3, "tokens": 1, "bytes": 1}, {"to": "j1", "tokens": -5, "bytes": 1}, [], "x",
                    {"to": "j1", "tokens": 10**4000, "bytes": 10**4000}, {"to": "| x |", "tokens": 1, "bytes": 1}):  # fmt: skip
            file.write(json.dumps(row) + "\n")
    sums = tokens.per_seat(home, since)
    assert {box: one.letters for box, one in sums.items()} == {"j1": 1, "j2": 1}
    assert sums["j1"].tokens == tokens.count("after") and sums["j1"].bytes == 5
    assert tokens.per_seat(home)["j1"].letters == 2
    assert tokens.per_seat(Home(home.root / "nowhere")) == {}


def test_with_nothing_new_33_boxes_cost_less_than_a_millisecond(tmp_path):
    home = make_home(tmp_path.resolve(), **{f"j{n}": "junior" for n in range(33)})
    for _ in range(3):
        mail.send(home, "human", "all", "hello")
    assert tokens.tally(home) == 99
    wait_for(lambda: tokens.tally(home) == 0 and len(tokens._counter(home.root).settled) == 33)
    took = []
    for _ in range(200):
        began = time.perf_counter()
        tokens.tally(home)
        took.append(time.perf_counter() - began)
    assert min(took) < 0.001


def test_the_vocabulary_travels_with_the_package():
    assert '"org.team" = ["tokens.tiktoken"]' in (ROOT / "pyproject.toml").read_text()
    ignored = subprocess.run(["git", "-C", ROOT, "check-ignore", "-q", tokens.VOCABULARY], check=False)
    assert ignored.returncode != 0
