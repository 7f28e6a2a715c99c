"""Letters arrive once, whole and as they were written, whatever dies and whatever is dropped into a box."""

import dataclasses
import errno
import json
import os
import re
import signal
import subprocess
import sys
from datetime import UTC, datetime
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from patience import in_time
from postbox import take

from org import files, strictyaml
from org.errors import BadInput, OrgError
from org.home import ID_PATTERN, Home
from org.records import Letter, Seat
from org.team import envelope, mail


def make_home(root: Path, **roles: str) -> Home:
    home = Home(root.resolve())
    for name, role in (roles or {"chief": "chief", "j1": "junior", "j2": "junior"}).items():
        seat = Seat(name, role, "offline", "main", f"program/main/{name}", "", None, files.utc_now())
        files.replace_json(home.seat(name) / "seat.json", seat.to_dict())
    return home


@pytest.fixture
def home(tmp_path: Path) -> Home:
    root = tmp_path / "a home with 'quotes'\nand a line"
    root.mkdir()
    return make_home(root)


HOSTILE = st.lists(
    st.one_of(
        st.sampled_from(
            [
                "\x1b[2J",
                "\x00",
                "\r",
                "\r\n",
                "\x1b[201~\r",
                "\n---\n",
                "---\n",
                "\u202eevil\u202c",
                "\u2028",
                "\x85",
                "é🙂",
            ]
        ),
        st.text(max_size=30),
    ),
    max_size=12,
).map("".join)


# --- the form ----------------------------------------------------------------------------------------------------


@settings(max_examples=120, deadline=None)
@given(body=HOSTILE)
def test_a_hostile_body_comes_back_byte_for_byte(tmp_path_factory, body):
    home = make_home(tmp_path_factory.mktemp("home"))
    mail.send(home, "j1", "chief", body, kind="report", about="E0042")
    [letter] = take(home, "chief")
    assert letter.body == body.encode("utf-8", "replace").decode()
    assert letter.verified and (letter.sender, letter.kind, letter.about) == ("j1", "report", "E0042")
    assert not set(envelope.show(letter)) & set("\x00\x1b\r\u202e\x85")


@settings(max_examples=80, deadline=None)
@given(body=HOSTILE, about=st.none() | st.text(min_size=1, max_size=40).filter(str.isprintable))
def test_the_front_matter_is_yaml_that_any_strict_reader_reads_alike(body, about):
    letter = Letter(
        "l-261121-051502-4f2a9c", "j1", "all", "note", "2026-11-21T05:15:02.000Z", body, about, None, "12e4"
    )
    text = envelope.render(letter)
    assert envelope.parse(text, "a letter") == letter
    fields, rest = strictyaml.front_matter(text, "a letter")
    assert rest == body and fields["from"] == "j1" and fields["signature"] == "12e4" and fields["reply_to"] is None
    assert fields["about"] == about


def test_a_body_of_64_kb_passes_and_one_byte_more_is_refused_with_its_size(home):
    mail.send(home, "j1", "j2", "x" * envelope.MAX_BODY_BYTES)
    with pytest.raises(BadInput, match=r"64 KB.*file"):
        mail.send(home, "j1", "j2", "é" * (envelope.MAX_BODY_BYTES // 2) + "x")
    assert len(take(home, "j2")[0].body) == envelope.MAX_BODY_BYTES


def test_ids_are_names_and_sort_by_time():
    moments = [f"2026-11-21T05:15:02.{ms:03d}Z" for ms in range(0, 1000, 37)]
    ids = [envelope.new_id(moment, "j1") for moment in moments]
    assert ids == sorted(ids) and len(set(ids)) == len(ids) and all(ID_PATTERN.fullmatch(i) for i in ids)
    assert ids[0].startswith("l-261121-051502-")


# --- who gets what -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("sender", "to", "boxes"),
    [
        ("j1", "chief", ["chief"]),
        ("chief", "junior", ["j1", "j2"]),
        ("j1", "junior", ["j2"]),
        ("j1", "all", ["chief", "j2"]),
        ("human", "all", ["chief", "j1", "j2"]),
        ("j1", "human", ["human"]),
        ("j1", "j1", ["j1"]),
        ("j2", "council", ["chief"]),
        ("office", "j1", ["j1"]),
    ],
)
def test_recipients(home, sender, to, boxes):
    sent = mail.send(home, sender, to, "hello")
    assert [letter.to for letter in sent] == boxes
    assert len({letter.id for letter in sent}) == 1
    assert [box for box in ("chief", "j1", "j2", "human") if mail.waiting(home, box)] == boxes


def test_the_council_is_chiefs_and_councillors(tmp_path):
    home = make_home(tmp_path.resolve(), chief="chief", wise="councillor", b="breaker", j1="junior")
    assert [letter.to for letter in mail.send(home, "j1", "council", "which first?")] == ["chief", "wise"]
    assert [letter.to for letter in mail.send(home, "wise", "council", "and you?")] == ["chief"]


@pytest.mark.parametrize("to", ["cheif", "../j1", "", "j9", "juniors", "J1", "a\nb", "x" * 300])
def test_an_unknown_recipient_is_refused_and_the_known_are_named(home, to):
    with pytest.raises(BadInput, match="known: chief, j1, j2, junior, all, human") as error:
        mail.send(home, "j1", to, "hello")
    assert "\n" not in str(error.value).replace(to, "")
    assert not home.mail.exists()


def test_a_misspelt_name_is_guessed(home):
    with pytest.raises(BadInput, match="did you mean 'chief'"):
        mail.send(home, "j1", "cheif", "hello")


def test_a_stranger_cannot_send(home):
    with pytest.raises(BadInput, match="no seat is called 'ghost'"):
        mail.send(home, "ghost", "j1", "hello")
    assert not home.seat("ghost").exists()


def test_seats_sort_as_people_count(tmp_path):
    home = make_home(tmp_path, j10="junior", j2="junior", chief="chief", **{"1a": "junior"})
    assert list(mail.seats(home)) == ["1a", "chief", "j2", "j10"]


# --- signatures --------------------------------------------------------------------------------------------------


def test_keys_are_per_seat_and_private(home):
    mail.send(home, "j1", "j2", "a")
    mail.send(home, "human", "j2", "b")
    keys = [home.seat(name) / "key" for name in ("j1", "human")]
    assert [oct(key.stat().st_mode & 0o777) for key in keys] == ["0o600", "0o600"]
    assert keys[0].read_text() != keys[1].read_text()
    assert all(letter.verified for letter in take(home, "j2"))


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("from: j1", "from: human"),
        ("kind: note", "kind: task"),
        ("about: E0001", "about: E0002"),
        ("pay 1", "pay 9"),
        ('signature: "', 'signature: "0'),
        ("reply_to: null", "reply_to: l-1"),
    ],
)
def test_a_changed_letter_is_shown_unverified(home, old, new):
    mail.send(home, "human", "j1", "so that a key exists")
    [sent] = mail.send(home, "j1", "j2", "pay 1", about="E0001")
    path = home.mailbox("j2") / "new" / f"{sent.id}.md"
    assert old in path.read_text()
    path.write_text(path.read_text().replace(old, new))
    [letter] = take(home, "j2")
    assert not letter.verified and "(unverified)" in envelope.show(letter)


@pytest.mark.parametrize("name", ["signature", "about"])
def test_half_of_a_surrogate_pair_in_the_head_is_no_letter_and_stops_no_box(home, name):
    mail.send(home, "human", "j1", "so that a key exists")
    mail.send(home, "j1", "j2", "a letter")
    [sent] = mail.send(home, "j1", "j2", "another", about="E0001")
    path = home.mailbox("j2") / "new" / f"{sent.id}.md"
    path.write_text(re.sub(rf"(?m)^{name}: .*$", rf'{name}: "\\ud800"', path.read_text()))
    with pytest.raises(BadInput, match="the front matter is not text"):
        envelope.parse(path.read_text(), "it")
    assert [letter.body for letter in mail.peek(home, "j2")] == ["a letter"]
    assert [letter.body for letter in mail.received(home, "j2", "2026-01-01T00:00:00Z")] == ["a letter"]


def test_a_pipe_in_place_of_a_key_stops_no_reader_and_its_sender_is_told(home):
    mail.send(home, "j1", "j2", "before")
    (home.seat("j1") / "key").unlink()
    os.mkfifo(home.seat("j1") / "key")
    [letter] = in_time(lambda: mail.peek(home, "j2"))
    with pytest.raises(OrgError, match="key is no plain file"):
        in_time(lambda: mail.send(home, "j1", "j2", "after"))
    assert (letter.body, letter.verified) == ("before", False)


def test_one_broken_box_keeps_the_letter_from_nobody_else(home):
    box = home.mailbox("j1")
    box.mkdir(parents=True)
    (box / "new").write_text("no folder")
    with pytest.raises(mail.Undelivered, match=r"did not reach j1 .*; chief, j2 have it") as caught:
        mail.send(home, "human", "all", "hello")
    for name in ("chief", "j2"):
        assert [letter.id for letter in mail.peek(home, name)] == [caught.value.sent[0].id]
    assert list(caught.value.missed) == ["j1"]


def test_a_full_disk_is_no_broken_box(home, monkeypatch):
    full = OSError(errno.ENOSPC, "No space left on device")
    monkeypatch.setattr(mail.boxes, "deliver", lambda *args, **options: (_ for _ in ()).throw(full))
    with pytest.raises(OSError, match="No space"):
        mail.send(home, "human", "all", "hello")


def test_a_letter_moved_to_another_box_is_unverified(home):
    [sent] = mail.send(home, "j1", "j2", "for j2 alone")
    (home.mailbox("chief") / "new").mkdir(parents=True)
    name = f"{sent.id}.md"
    (home.mailbox("j2") / "new" / name).rename(home.mailbox("chief") / "new" / name)
    assert [letter.verified for letter in take(home, "chief")] == [False]


def test_a_letter_written_by_hand_is_read_and_unverified(home):
    new = home.mailbox("j1") / "new"
    new.mkdir(parents=True)
    (new / "by-hand.md").write_text("---\nid: by-hand\nfrom: 'chief'\nto: j1\nkind: nonsense\n---\nhello\n")
    [letter] = take(home, "j1")
    assert (letter.sender, letter.kind, letter.body, letter.verified) == ("chief", "note", "hello\n", False)
    assert letter.created.endswith("Z")


# --- reading -----------------------------------------------------------------------------------------------------


def test_reading_acknowledges_and_looking_does_not(home):
    [sent] = mail.send(home, "j1", "j2", "hello")
    assert [letter.id for letter in mail.peek(home, "j2")] == [sent.id]
    assert mail.waiting(home, "j2") == 1
    assert [letter.id for letter in take(home, "j2")] == [sent.id]
    assert mail.waiting(home, "j2") == 0 and take(home, "j2") == []
    assert mail.find(home, "j2", sent.id).body == "hello"
    assert mail.find(home, "j2", "l-none") is None


def test_received_is_what_came_since_read_or_not(home):
    mail.send(home, "j1", "j2", "before")
    take(home, "j2")
    since = files.utc_now()
    mail.send(home, "j1", "j2", "after, read")
    take(home, "j2")
    mail.send(home, "j1", "j2", "after")
    bodies = [letter.body for letter in mail.received(home, "j2", since)]
    assert bodies[-2:] == ["after, read", "after"]


def test_nothing_in_a_box_stops_its_reader(home):
    [good] = mail.send(home, "j1", "j2", "good")
    new = home.mailbox("j2") / "new"
    whole = (new / f"{good.id}.md").read_bytes()
    (new / "l-torn.md").write_bytes(whole[:40])
    (new / "l-empty.md").write_bytes(b"")
    (new / "l-binary.md").write_bytes(b"\xff\xfe\x00" * 100)
    (new / "l-other.md").write_bytes(whole)
    (new / "l-bomb.md").write_text("---\na: &a [1]\nid: l-bomb\nb: *a\n---\n")
    (new / "l-big.md").write_bytes(whole + b"x" * 200_000)
    (new / "l-link.md").symlink_to("/etc/hostname")
    (new / "l-folder.md").mkdir()
    os.mkfifo(new / "l-pipe.md")
    (new / "odd\n\x1b[2Jname").write_text("hello")
    Path(os.fsdecode(bytes(new) + b"/\xff.md")).write_text("hello")
    assert [letter.body for letter in mail.peek(home, "j2")] == ["good"]
    assert [letter.body for letter in take(home, "j2")] == ["good"]
    assert mail.waiting(home, "j2") == 0
    assert len(list((home.mailbox("j2") / "bad").iterdir())) == 11
    rows, _ = files.read_lines(home.events)
    assert len(rows) == 11 and all(row["event"] == "bad letter" and "\x1b" not in row["text"] for row in rows)


@pytest.mark.parametrize(
    ("created", "seen"),
    [
        ("2026-03-01T07:00:00.123Z", "2026-03-01T07:00:00.123Z"),
        ("2026-03-01T08:00:00+01:00", "2026-03-01T07:00:00.000Z"),
        ("2026-03-01", "2026-03-01T00:00:00.000Z"),
        ("", "2026-03-02T00:00:00.000Z"),
        ("yesterday", "2026-03-02T00:00:00.000Z"),
        ("2026-03-02T07:00:00Z", "2026-03-02T00:00:00.000Z"),
        ("9999-12-31T23:59:59-12:00", "2026-03-02T00:00:00.000Z"),
        ("0001-01-01T00:00:00+12:00", "2026-03-02T00:00:00.000Z"),
    ],
)
def test_a_letter_is_no_newer_than_its_file_and_its_time_is_one(home, created, seen):
    letter = Letter("l-1", "j1", "j2", "note", created, "hello", verified=True)  # type: ignore[arg-type]
    path = home.mailbox("j2") / "new" / "l-1.md"
    path.parent.mkdir(parents=True)
    signed = dataclasses.replace(letter, signature=envelope.signature(letter, envelope.make_key(home, "j1")))
    path.write_text(envelope.render(signed))
    at = datetime(2026, 3, 2, tzinfo=UTC).timestamp()
    os.utime(path, (at, at))
    [read] = mail.peek(home, "j2")
    assert (read.created, read.verified) == (seen, True)
    assert [one.id for one in mail.received(home, "j2", "2026-02-01T00:00:00Z")] == ["l-1"]


def test_rubbish_in_front_of_a_letter_keeps_it_from_nobody(home):
    mail.send(home, "j1", "j2", "good")
    new = home.mailbox("j2") / "new"
    for number in range(mail.MAX_AT_ONCE + 5):
        (new / f"!{number}").touch()
    assert [letter.body for letter in mail.peek(home, "j2")] == ["good"]
    assert [letter.body for letter in take(home, "j2")] == ["good"]
    assert take(home, "j2") == [] and mail.waiting(home, "j2") == 0


# --- crashes and crowds ------------------------------------------------------------------------------------------

SENDER = """
import sys; from pathlib import Path
from org.home import Home; from org.team import mail
mail.send(Home(Path(sys.argv[1])), "human", "all", "do it", kind="task", letter_id="l-once")
"""
READER = """
import os, sys; from pathlib import Path
from org.failpoint import failpoint; from org.home import Home; from org.team import mail
home = Home(Path(sys.argv[1]))
for letter in mail.peek(home, "j1"):
    try:
        os.close(os.open(home.root / f"effect-{letter.id}", os.O_CREAT | os.O_EXCL))
    except FileExistsError:
        print("seen before")
    failpoint("reader.effect")
    mail.acknowledge(home, "j1", letter.id)
"""


def run(code: str, home: Home, failpoint: str = "") -> int:
    environ = {**os.environ, "ORG_FAILPOINT": failpoint}
    return subprocess.run([sys.executable, "-c", code, str(home.root)], env=environ, timeout=20, check=False).returncode


@pytest.mark.parametrize(
    ("sender", "reader"),
    [
        ("mail.tmp:1", ""),
        ("mail.tmp:2", ""),
        ("mail.new:1", ""),
        ("mail.new:2", "reader.effect:1"),
        ("mail.new:3", "mail.cur:1"),
    ],
)
def test_killed_at_any_step_and_repeated_everything_happens_once(home, sender, reader):
    assert run(SENDER, home, sender) == -signal.SIGKILL
    seen = [len(mail.peek(home, box)) for box in ("chief", "j1", "j2")]
    assert set(seen) <= {0, 1}  # whole or absent, never torn
    if reader:
        assert run(READER, home, reader) == -signal.SIGKILL
    assert run(SENDER, home) == 0
    assert run(READER, home) == 0
    assert run(SENDER, home) == 0  # once more, after it was read
    assert [path.name for path in home.root.glob("effect-*")] == ["effect-l-once"]
    assert [mail.waiting(home, box) for box in ("chief", "j1", "j2")] == [1, 0, 1]
    assert [len(list((home.mailbox(box) / "cur").iterdir())) for box in ("chief", "j1", "j2")] == [0, 1, 0]
    assert not (home.mailbox("j1") / "bad").exists()


@pytest.mark.slow  # ten processes
def test_eight_writers_and_two_readers_lose_and_double_nothing(home):
    writer = """
import sys; from pathlib import Path
from org.home import Home; from org.team import mail
for i in range(25): mail.send(Home(Path(sys.argv[1])), "human", "chief", f"{sys.argv[2]}-{i}")
"""
    reader = """
import json, sys, time; from pathlib import Path
from org.home import Home; from org.team import mail
home, got, end = Home(Path(sys.argv[1])), [], time.monotonic() + 120
while time.monotonic() < end and not ((home.root / "written").exists() and not mail.waiting(home, "chief")):
    found = [letter for letter in mail.peek(home, "chief", is_tidy=True) if mail.acknowledge(home, "chief", letter.id)]
    got += [(letter.body, letter.verified) for letter in found]
print(json.dumps(got))
"""
    readers = [
        subprocess.Popen([sys.executable, "-c", reader, str(home.root)], stdout=subprocess.PIPE) for _ in range(2)
    ]
    writers = [subprocess.Popen([sys.executable, "-c", writer, str(home.root), str(i)]) for i in range(8)]
    assert [process.wait(120) for process in writers] == [0] * 8
    (home.root / "written").touch()
    got = [tuple(row) for process in readers for row in json.loads(process.communicate(timeout=150)[0])]
    assert sorted(got) == sorted((f"{w}-{i}", True) for w in range(8) for i in range(25))


def test_mail_imports_nothing_heavy():
    code = "import sys, org.team.mail; print([m for m in ('yaml', 'pydantic', 'torch', 'click') if m in sys.modules])"
    assert (
        subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.strip() == "[]"
    )
