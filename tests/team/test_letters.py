"""What the ledger's lines become as letters: to whom, once, and past whatever is broken."""

from __future__ import annotations

import shutil

from postbox import take
from team.rows import book_of, contract, verdict

from org import charter as charters
from org import files
from org.home import Home
from org.lab import ledger
from org.team import letters, mail, needs, seats, standup

ROLES = {"chief": "chief", "j1": "junior", "j2": "junior", "j3": "junior"}
PROGRAMS = dict.fromkeys(ROLES, "main") | {"j3": "other"}


def test_a_verdict_goes_to_who_filed_it_and_to_the_chief(tiny_home: Home) -> None:
    book = book_of(contract("E0001"), verdict("E0001"))
    [letter] = letters.outgoing(book, charters.load(tiny_home), ROLES, PROGRAMS, 0)
    assert (letter.to, letter.about) == (("j1", "chief"), "E0001")
    first = letter.body.splitlines()[0]
    assert first.startswith("E0001 win (tentative): effect -0.0412 ± 0.0113 val_bpb, z 3.6, n 2")
    assert "expected -0.0400, measured -0.0412" in letter.body
    assert letters.outgoing(book, charters.load(tiny_home), ROLES, PROGRAMS, 2) == []


def test_a_breaker_has_no_letter_with_the_words_of_an_author(tiny_home: Home) -> None:
    book = book_of({**contract("E0001"), "why": "PERSUASION"}, verdict("E0001"))
    [sent] = letters.outgoing(book, charters.load(tiny_home), {**ROLES, "b": "breaker"}, PROGRAMS, 0)
    assert sent.to == ("j1", "chief") and "PERSUASION" in sent.body  # a page of `processes/` asks the breaker


def test_an_attack_is_answered_to_who_made_it_and_what_it_broke_to_the_author(tiny_home: Home) -> None:
    row = {"kind": "head", "program": "main", "commit": "c1", "was": "c1", "experiment": "E0002", "retracts": ["E0001"]}
    attack = {**contract("E0002", "b"), "refutes": "E0001", "attack": "seeds", "stage": "refute"}
    book = book_of(contract("E0001"), verdict("E0001"), attack, verdict("E0002", "loss"), {**row, "why": "seeds"})
    sent = letters.outgoing(book, charters.load(tiny_home), {**ROLES, "b": "breaker"}, PROGRAMS, 2)
    assert [(letter.id, letter.to) for letter in sent] == [
        ("verdict-e0002", ("b",)),
        ("retracted-e0002", ("j1", "chief")),
    ]


def test_a_moved_head_is_told_to_everybody_on_that_program_once(tiny_home: Home) -> None:
    head = {"kind": "head", "program": "main", "commit": "abcdef0123", "experiment": "E0002"}
    book = book_of(contract("E0001"), contract("E0002", "human", ("E0001",)), verdict("E0002"), head)
    sent = letters.outgoing(book, charters.load(tiny_home), ROLES, PROGRAMS, 0)
    assert [(letter.id, letter.to) for letter in sent] == [
        ("verdict-e0002", ("human", "j1", "chief")),
        ("head-e0002", ("j2",)),
    ]
    assert all("The head of main moved to abcdef0 by E0002" in letter.body for letter in sent)


def test_a_broken_mailbox_keeps_no_verdict_from_the_others(tiny_home: Home) -> None:
    for name, role in {"chief": "chief", "j1": "junior"}.items():
        seats.create(tiny_home, name, role, "cmd:true", "main")
    shutil.rmtree(tiny_home.mailbox("j1") / "new")
    (tiny_home.mailbox("j1") / "new").write_text("no folder")
    book = book_of(contract("E0001"), verdict("E0001"))
    [problem] = letters.deliver(tiny_home, book, charters.load(tiny_home))
    assert "did not reach j1" in problem
    assert [letter.about for letter in mail.peek(tiny_home, "chief")] == ["E0001"]
    assert letters.deliver(tiny_home, book, charters.load(tiny_home)) == []


def test_a_line_of_another_hand_silences_no_verdict_letter_and_is_flagged(tiny_home: Home) -> None:
    for name, role in {"chief": "chief", "j1": "junior"}.items():
        seats.create(tiny_home, name, role, "cmd:true", "main")
    charter = charters.load(tiny_home)
    writer = ledger.Ledger(tiny_home)

    def judged(name: str) -> list[str | None]:
        for row in (contract(name), verdict(name)):
            writer.append(row["kind"], f"{row['kind']}:{name}", row)
        assert letters.deliver(tiny_home, writer.refresh(), charter) == []
        return [letter.about for letter in take(tiny_home, "chief")]

    assert judged("E0001") == ["E0001"]
    for line in ('{"kind":"verdict"}', '{"seq": 2, "kind": "x", "experiment": "E0001", "retracts": 5}'):
        files.append_line(tiny_home.ledger, line)
    assert letters.deliver(tiny_home, writer.refresh(), charter) == []
    assert judged("E0002") == ["E0002"]
    [flag] = needs.Needs(tiny_home).step([], [], [], writer.book, 0.0, is_dispatching=True)
    assert str(flag) == "the ledger was written by another hand: line 3 and 1 more; `org results --check`"
    page = standup.page(writer.book, charter, "2026-03-02T00:00:00Z", standup.Words())
    assert "**The ledger was written by another hand: line 3 and 1 more; `org results --check`" in page


def test_a_ledger_that_was_cut_keeps_no_later_verdict_back(tiny_home: Home) -> None:
    for name, role in {"chief": "chief", "j1": "junior"}.items():
        seats.create(tiny_home, name, role, "cmd:true", "main")
    charter = charters.load(tiny_home)
    assert letters.deliver(tiny_home, book_of(*[{"kind": "org"}] * 9), charter) == []
    assert letters.deliver(tiny_home, book_of({"kind": "org"}), charter) == []
    letters.deliver(tiny_home, book_of({"kind": "org"}, contract("E0001"), verdict("E0001")), charter)
    assert [letter.about for letter in mail.peek(tiny_home, "chief")] == ["E0001"]


def changed(*pages: str) -> dict[str, object]:
    return {"kind": "org", "event": "changed", "folder": "chief-juniors", "pages": list(pages)}


def test_an_edit_of_the_pages_is_told_to_who_is_here_and_the_newest_says_it(tiny_home: Home) -> None:
    book = book_of(changed("prompts/charter.yaml"), changed("prompts/orgs/x/roles/\x1b[2Jjunior.md"), changed())
    roles = {**ROLES, "old": "retired"}
    [letter] = letters.outgoing(book, charters.load(tiny_home), roles, PROGRAMS, 1)
    assert (
        letter.to == tuple(ROLES) and letter.id == "pages-3" and "$ORG_HOME/prompts/orgs/chief-juniors" in letter.body
    )
    [letter] = letters.outgoing(book_of(changed("prompts/orgs/x/\x1b[2J.md")), charters.load(tiny_home), roles, {}, 0)
    assert "$ORG_HOME/prompts/orgs/x/" in letter.body and "\x1b" not in letter.body and "`org brief`" in letter.body


def test_a_seat_has_one_unread_letter_about_pages_however_often_they_are_edited(tiny_home: Home) -> None:
    seats.create(tiny_home, "j1", "junior", "cmd:true", "main")
    rows = [changed(f"prompts/skills/{n}.md") for n in range(4)]
    for count in (1, 2, 3):
        letters.deliver(tiny_home, book_of(*rows[:count]), charters.load(tiny_home))
    assert [letter.id for letter in take(tiny_home, "j1")] == ["pages-1"]
    letters.deliver(tiny_home, book_of(*rows), charters.load(tiny_home))
    [letter] = take(tiny_home, "j1")
    assert letter.id == "pages-4" and "prompts/skills/3.md" in letter.body and letter.kind == "note"
