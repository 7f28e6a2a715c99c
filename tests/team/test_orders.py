"""An order of the person's reaches its seats once, whatever is saved again and whoever is killed; the next page tells of it."""

from __future__ import annotations

import os
import signal
from pathlib import Path

import pytest
from books import CHARTER, Story
from persons import LR, Work
from postbox import take
from test_standup import section
from whole import run

from org import files
from org.home import Home
from org.lab import ledger
from org.lab.book import Book
from org.records import Seat
from org.team import mail, orders, review, standup

NOW, LATER = "2026-03-01T07:00:00.000Z", "2026-03-02T07:00:00.000Z"
SEATS = {"chief": "chief", "j1": "junior", "j2": "junior"}


@pytest.fixture
def home(tiny_home: Home) -> Home:
    for name, role in SEATS.items():
        program = "main" if name == "chief" else "optimizer"
        seat = Seat(name, role, "offline", program, f"program/{program}/{name}", "", None, NOW)
        files.replace_json(tiny_home.seat_file(name), seat.to_dict())
    return tiny_home


def page(home: Home, text: str = "", now: str = NOW, book: Book | None = None) -> Path:
    """Today's page with the person's words at its end."""
    path = standup.write(home, book or Book(), CHARTER, now, {})
    path.write_text(path.read_text() + text)
    return path


def letters(home: Home) -> list[tuple[str, str, str]]:
    return [(seat, letter.kind, letter.body.splitlines()[0]) for seat in SEATS for letter in take(home, seat)]


def test_saved_and_made_again_each_line_is_one_letter_and_an_edited_one_another(home: Home) -> None:
    path = page(home, "- stop warmdown_frac\n- @j1 why so slow?\n")
    carried, is_open = orders.take(home, Book())
    assert len(carried) == 2 and not is_open
    assert letters(home) == [("chief", "task", "stop warmdown_frac"), ("j1", "question", "@j1 why so slow?")]
    for _ in range(2):
        standup.write(home, Book(), CHARTER, NOW, {})
        assert orders.take(home, Book()) == ([], False)
    path.write_text(path.read_text().replace("stop warmdown_frac", "stop matrix_lr"))
    orders.take(home, Book())
    assert letters(home) == [("chief", "task", "stop matrix_lr")]
    assert "stop matrix_lr" in path.read_text() and "review-" not in path.read_text()


def test_letters_are_the_persons_and_say_how_to_answer(home: Home) -> None:
    page(home, "@j1 stop it (E0042)\n")
    [one], _ = orders.take(home, Book())
    [letter] = take(home, "j1")
    assert (letter.sender, letter.verified, letter.about) == ("human", True, "E0042")
    assert f"--reply-to {one.order.letter}" in letter.body and "standup of 2026-03-01" in letter.body


def test_half_a_save_is_waited_for_and_an_office_looks_only_where_something_changed(home: Home) -> None:
    path = page(home, "@j1 st")
    clerk = orders.Clerk(home)
    assert clerk.step(Book()) == ([], orders.SETTLE_S)
    past = path.stat().st_mtime - 5
    path.write_text(path.read_text() + "op it\n")
    os.utime(path, (past, past))
    [one] = clerk.step(Book())[0]
    assert one.order.text == "@j1 stop it"
    home.orders.unlink()
    assert clerk.step(Book()) == ([], None)  # nothing on the pages has changed
    assert len(orders.Clerk(home).step(Book())[0]) == 1 and len(take(home, "j1")) == 1


def test_before_there_are_seats_an_order_waits_on_the_page(tiny_home: Home) -> None:
    page(tiny_home, "stop it\n")
    assert orders.take(tiny_home, Book()) == ([], False) and not tiny_home.orders.exists()


CODE = "from org.lab import ledger; from org.team import orders; orders.take(home, ledger.read(home))"


def killed_at(home: Home, point: str) -> None:
    assert run(CODE, home, point=point) == -signal.SIGKILL


@pytest.mark.parametrize("point", ["orders.noted:2", "orders.done:1", "mail.new:1", "mail.new:2", "orders.sent:1"])
def test_killed_anywhere_everybody_gets_each_order_once(home: Home, point: str) -> None:
    page(home, "@all stop\n@j2 go on\n")
    killed_at(home, point)
    orders.take(home, Book())
    assert orders.take(home, Book()) == ([], False)
    # in any order: two letters of one millisecond that bear no time in their ids have none
    assert sorted(letters(home)) == sorted([*((s, "task", "@all stop") for s in SEATS), ("j2", "task", "@j2 go on")])


@pytest.fixture
def ladder(home: Home, tmp_path: Path) -> Home:
    """A home with a verified win E0001, and another scale above."""
    text = home.charter.read_text()
    rung = "  tiny: {steps: 10, bank: 3, deadline_s: 30}\n"
    assert rung in text
    home.charter.write_text(text.replace(rung, rung + "  demo: {steps: 20, bank: 3, deadline_s: 30}\n"))
    files.replace_json(home.org_file, {"devices_spec": "cpu:2"})
    work = Work(home, tmp_path / "theirs", start="")
    work.commit()
    work.plant(LR)
    return home


@pytest.mark.parametrize("point", [None, "orders.noted:1", "ledger.experiment:1", "promotions.file:1", "orders.done:1"])
def test_measured_again_by_the_org_itself_once(ladder: Home, point: str | None) -> None:
    page(ladder, "- E0001 again at demo\n")
    if point:
        killed_at(ladder, point)
    orders.take(ladder, ledger.read(ladder))
    orders.take(ladder, ledger.read(ladder))
    filed = [c for c in ledger.read(ladder).experiments.values() if c.promotes]
    assert [(c.promotes, c.scale) for c in filed] == [("E0001", "demo")]
    [one] = orders.placed(ladder).values()
    assert one.closed and one.did == (filed[0].experiment,)
    assert letters(ladder) == [("j1", "note", "E0001 again at demo")]  # nothing is left for the seat to do
    text = standup.write(ladder, ledger.read(ladder), CHARTER, LATER, {}).read_text()
    assert f"the org filed {one.did[0]} (no verdict yet)." in section(text, "Your orders")


def test_what_the_org_cannot_measure_again_goes_to_who_filed_it_with_the_reason(ladder: Home) -> None:
    page(ladder, "E0001 again at tiny\n")
    [one], _ = orders.take(ladder, ledger.read(ladder))
    assert one.did == () and "it can be promoted to demo" in one.refused
    [letter] = take(ladder, "j1")
    assert letter.kind == "task" and one.refused in letter.body


def test_of_several_each_is_measured_again_and_each_that_is_not_is_named(ladder: Home) -> None:
    page(ladder, "E0998, E0001 and E0999 again at demo\n")
    [one], _ = orders.take(ladder, ledger.read(ladder))
    [filed] = [c for c in ledger.read(ladder).experiments.values() if c.promotes]
    assert one.did == (filed.experiment,) and filed.promotes == "E0001"
    assert "E0998" in one.refused and "E0999" in one.refused
    [letter] = take(ladder, "j1")
    assert letter.kind == "task" and one.refused in letter.body and f"has filed {filed.experiment}" in letter.body
    assert "nothing left" not in letter.body and "org send human --reply-to" in letter.body
    text = standup.write(ladder, ledger.read(ladder), CHARTER, LATER, {}).read_text()
    assert "the org filed not the rest: E0998" in section(text, "Your orders")


def test_the_office_does_not_wait_for_somebody_who_files(ladder: Home) -> None:
    path = page(ladder, "E0001 again at demo\n@j2 stop\n")
    os.utime(path, (1e9, 1e9))
    clerk = orders.Clerk(ladder)
    with files.locked(ladder.leases / "gate"):
        carried, again_s = clerk.step(ledger.read(ladder))
    assert [one.order.text for one in carried] == ["@j2 stop"] and again_s is not None
    with files.locked(ladder.leases / "orders"):  # `org standup review` is at it
        assert clerk.step(ledger.read(ladder)) == ([], orders.SETTLE_S)
    assert [one.order.text for one in clerk.step(ledger.read(ladder))[0]] == ["E0001 again at demo"]


# --- the next page -----------------------------------------------------------------------------------------------


def test_the_next_page_says_who_read_it_what_they_answered_and_what_was_filed_since(home: Home) -> None:
    page(home, "@j1 try a later warmdown for I0007\n@j2 stop\n")
    first, _ = orders.take(home, Book())
    assert "Your orders" in standup.write(home, Book(), CHARTER, NOW, {}).read_text()
    mail.acknowledge(home, "j1", first[0].order.letter)
    mail.send(home, "j1", "human", "I do: \x1b[2J\n## Review\nnow", "report", reply_to=first[0].order.letter)
    story = Story()
    story.experiment("E0001", seat="j1", why="old", created=NOW)
    story.experiment("E0002", seat="j1", why="its own", created=files.utc_now())
    story.experiment("E0003", seat="j2", why="for it", idea="I0007", created=files.utc_now())
    story.verdict("E0003", "win", [], -0.02, 0.005, "tentative")
    text = standup.write(home, story.book, CHARTER, LATER, {}).read_text()
    told, other = section(text, "Your orders").splitlines()
    assert told.startswith("- \u201c@j1 try a later warmdown for I0007\u201d (try, 2026-03-01): to j1 (read 20")
    assert "j1 answered: I do: \N{REPLACEMENT CHARACTER}[2J ## Review now" in told
    assert told.endswith("filed since: E0003 (win, tentative, -0.0200 ± 0.0050), E0002 (no verdict yet).")
    assert "to j2 (not read yet); filed since: E0003" in other
    assert not review.below(text).strip()


def test_a_later_page_is_silent_about_orders_of_pages_before_the_last(home: Home) -> None:
    page(home, "@j1 stop\n")
    orders.take(home, Book())
    page(home, "@j2 stop\n", LATER)
    orders.take(home, Book())
    found = orders.fates(home, "2099-01-01T00:00:00Z", "2026-03-03")
    assert [fate.placed.order.text for fate in found] == ["@j2 stop"]


def test_rows_of_others_in_the_file_are_no_orders(home: Home) -> None:
    page(home, "@j1 stop\n")
    [one], _ = orders.take(home, Book())
    good = home.orders.read_text()
    for bad in ("[]", "{}", '{"key": 3, "t": "x"}', '{"key": "k", "t": "2026-03-01T00:00:00Z", "to": 5}', "\x00", "x"):
        files.append_line(home.orders, bad)
    assert list(orders.placed(home).values()) == [one]
    assert good in home.orders.read_text()
