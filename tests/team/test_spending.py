"""Real panes whose programs write down what they use: read cheaply, shown, and asked to end where it is too much."""

from __future__ import annotations

import json
import shlex
import signal
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from test_states import pane
from waiting import wait_for

from org import files
from org.agents import base, codex, usage
from org.agents.usage import Usage
from org.cli import status
from org.errors import Busy
from org.home import Home
from org.lab import ledger
from org.records import Seat
from org.team import borders, caps, costs, launch, mail, panes, ringer, roster, seats, spending, standup
from org.team.caps import Cap
from org.team.office import Office
from org.team.spending import Spending
from org.team.states import Look

# Uses tokens as it is told by typed lines: `use 500 0.5`; deaf to TERM after `deaf`.
SPENDER = """\
import os, pathlib, signal, sys
from org.agents import usage
from org.home import Home
home, seat = Home(pathlib.Path(os.environ["ORG_HOME"])), os.environ["ORG_SEAT"]
for line in sys.stdin:
    words = line.split()
    if words[:1] == ["use"]:
        cost = None if words[2] == "?" else float(words[2])
        usage.write(home, seat, usage.Usage("s1", "stub", int(words[1]), 0, 0, cost, 50, 100, "2026-03-01T00:00:00Z"))
    if words == ["deaf"]:
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
        (home.seat(seat) / "deaf").touch()
"""


def use(home: Home, seat: str, tokens: int, usd: float | None, session: str = "s1") -> None:
    usage.write(home, seat, Usage(session, "stub", tokens, 0, 0, usd, 50, 100, "2026-03-01T00:00:00Z"))


def pane_of(org: Any, seat: str) -> Any:
    return org.look().panes[seat]


def is_dead(org: Any, seat: str) -> bool:
    return bool(pane_of(org, seat).dead)


def facts_when(org: Any, met: Callable[[dict[str, Any]], Any], what: str) -> dict[str, Any]:
    wait_for(lambda: met(roster.facts(org.home)), 60, what=what)
    return roster.facts(org.home)


@pytest.fixture
def spender(org: Any, odd_path: Path) -> Any:
    script = odd_path / "a spender.py"
    script.write_text(SPENDER)
    org.fake = f"cmd:{shlex.join([sys.executable, str(script)])}"
    return org


# --- one seat, and all -------------------------------------------------------------------------------------------


@pytest.mark.slow  # a launched organisation for seconds
def test_a_seat_over_its_own_limit_is_stopped_and_the_others_go_on(spender: Any) -> None:
    org = spender
    yaml = org.home.org_folder("chief-juniors") / "org.yaml"
    yaml.write_text(yaml.read_text().replace('names: "j{n}"', 'names: "j{n}", max_tokens: 1000'))
    use(org.home, "j1", 5_000, 1.0, "before this launch")
    org.launch(chief=0, juniors=2)
    org.tmux("send-keys", "-t", pane_of(org, "j1").id, "deaf", "Enter")
    wait_for((org.home.seat("j1") / "deaf").exists, 20, what="its deafness")
    use(org.home, "j1", 1_200, 0.5)
    wait_for(lambda: is_dead(org, "j1"), 30, what="the end of who asks too much, made where it was not heard")
    assert not is_dead(org, "j2") and "limit_reached" not in {k for k, v in roster.facts(org.home).items() if v}
    note = panes.note(org.home, "j1")
    assert note["stopped"] and note["why"] == "1.2k of 1.0k tokens are used"
    [letter] = wait_for(lambda: mail.peek(org.home, "human"), 20, what="the letter")
    assert letter.verified and "j1 was stopped: 1.2k of 1.0k tokens are used" in letter.body
    facts = status.collect(org.home)
    [row] = [row for row in facts["seats"] if row["name"] == "j1"]
    assert borders.said(row) == "stopped: 1.2k of 1.0k tokens are used"
    assert "j1 1.2k of 1.0k tokens; j2 0 of 1.0k tokens" in status.render(facts)
    # a launch that brings back what is missing lets it rest; with more in org.yaml it comes back and counts anew
    assert any(said.startswith("j1 stays stopped: 1.2k of 1.0k") for said in org.launch())
    assert is_dead(org, "j1")
    yaml.write_text(yaml.read_text().replace("max_tokens: 1000", "max_tokens: 2000"))
    org.launch()
    assert not is_dead(org, "j1")
    assert caps.limits(roster.facts(org.home)).before["j1"].tokens == 6_200


@pytest.mark.slow  # a launched organisation for seconds
def test_all_of_them_over_the_limit_end_as_a_budget_does(spender: Any) -> None:
    org = spender
    org.launch(chief=1, juniors=2, cap=Cap(max_usd=2.0))
    use(org.home, "j1", 100, 0.9)
    use(org.home, "j2", 100, 0.9)
    wait_for(lambda: org.look().panes and status.collect(org.home)["limits"]["used"]["usd"] == 1.8, 20, what="the sum")
    assert not any(pane.dead for pane in org.look().panes.values())
    use(org.home, "chief", 100, 0.4)
    facts = facts_when(org, lambda facts: facts.get("ended"), "the end")
    assert facts["limit_reached"]["why"] == "$2.20 of $2.00 are used" and facts["budget_ended"]
    wait_for(lambda: all(pane.dead for pane in org.look().panes.values()), 20, what="the programs' ends")
    assert "the limit is reached: $2.20 of $2.00 are used" in status.render(status.collect(org.home))
    [page] = org.home.standups.glob("*.md")
    assert "- the limit is reached: $2.20 of $2.00 are used" in page.read_text()
    assert "| all | | 300 |" in page.read_text()
    assert [row.body for row in mail.peek(org.home, "human") if "The organisation was stopped" in row.body]
    assert all(not org.typed(seat) for seat in ("chief", "j1", "j2")), "nobody is asked for a standup any more"
    with pytest.raises(Busy, match=r"the limit is reached.*--max-usd"):
        org.launch()
    org.launch(cap=Cap(max_usd=5.0))
    assert not any(pane.dead for pane in org.look().panes.values())
    facts = roster.facts(org.home)
    assert not facts["ended"] and not facts["limit_reached"] and facts["limits"]["before"]["chief"]["usd"] == 0.4


def test_a_limit_in_dollars_says_whose_price_is_unknown(spender: Any) -> None:
    org = spender
    said = org.launch(chief=0, juniors=2, cap=Cap(max_usd=2.0))
    assert "nothing is known of what j1, j2 uses: no limit in dollars or tokens counts it" in said
    use(org.home, "j1", 100, None)
    use(org.home, "j2", 100, 0.1)
    wait_for(lambda: "the price of what j1 uses" in status.render(status.collect(org.home)), 20, what="that it is said")


def test_limits_come_back_from_the_ledger_where_org_json_is_torn(spender: Any) -> None:
    org = spender
    org.launch(chief=0, juniors=1, cap=Cap(max_usd=2.0))
    use(org.home, "j1", 100, 0.5)
    org.home.org_file.write_text('{"limits": ')
    launch.mend(org.home, print)
    org.launch()
    found = caps.limits(roster.facts(org.home))
    assert found.org == Cap(max_usd=2.0) and found.is_said
    assert any("$0.50 of $2.00" in said for said in costs.sentences(status.collect(org.home)["limits"]))


def test_more_in_org_yaml_holds_at_the_next_launch_unless_the_command_line_said_something(spender: Any) -> None:
    org = spender
    yaml = org.home.org_folder("chief-juniors") / "org.yaml"
    text = yaml.read_text()
    org.launch(chief=0, juniors=1)
    assert not caps.limits(roster.facts(org.home))
    yaml.write_text(f"limits: {{max_usd: 3}}\n{text}")
    org.launch()
    assert caps.limits(roster.facts(org.home)).org == Cap(3.0)
    org.launch(cap=Cap(max_tokens=7_000_000))
    assert caps.limits(roster.facts(org.home)).org == Cap(3.0, 7_000_000)
    yaml.write_text(f"limits: {{max_usd: 9}}\n{text}")
    org.launch()
    assert caps.limits(roster.facts(org.home)).org == Cap(3.0, 7_000_000)
    org.stop()
    org.launch()
    assert caps.limits(roster.facts(org.home)).org == Cap(9.0)


def test_every_seat_is_asked_to_end_in_the_pass_that_finds_the_limit_reached(tiny_home: Home) -> None:
    at_work = Office(tiny_home, None, lambda home: None)
    programs = {name: subprocess.Popen(["sleep", "600"], start_new_session=True) for name in ("j1", "j2")}
    try:
        for name in programs:
            seats.create(tiny_home, name, "junior", "cmd:true", "main")
        limits = {"max_tokens": 1000, "since": "2026-03-01T00:00:00Z"}
        roster.update(tiny_home, roster=[{"name": name} for name in programs], limits=limits)
        use(tiny_home, "j1", 1_200, 0.5)
        at_work._rows = [row(name) for name in programs]
        at_work.view = Look(panes={name: pane(seat=name, pid=each.pid) for name, each in programs.items()})
        at_work._spend(4e9)
        assert roster.facts(tiny_home)["limit_reached"]["why"] == "1.2k of 1.0k tokens are used"
        assert {each.wait(10) for each in programs.values()} == {-signal.SIGTERM}
        assert all(panes.note(tiny_home, name)["stopped"] for name in programs)
        assert [flag.text for flag in at_work._limits] == ["stopped: 1.2k of 1.0k tokens are used"]
    finally:
        for each in programs.values():
            each.kill()
            each.wait()
        at_work.close()


# --- reading, cheaply --------------------------------------------------------------------------------------------


def row(name: str, backend: str = "cmd:true", state: str = "ready") -> dict[str, Any]:
    return {"name": name, "backend": backend, "state": state}


def test_a_backend_is_asked_only_when_its_seat_has_said_something(
    tiny_home: Home, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[str] = []

    def sessions(home: Home, seat: Seat) -> list[Usage]:
        asked.append(seat.name)
        return [Usage("c1", "gpt", 100 * len(asked), 0, 1)]

    known = replace(base.backend("cmd:true"), usage=sessions, counts="tokens")
    monkeypatch.setattr(spending, "backend_of", lambda spec, home=None: known)
    seats.create(tiny_home, "j1", "junior", "cmd:true", "main")
    tiny_home.seat_events("j1").write_text('{"event": "ready"}\n')
    at_work = Spending(tiny_home, print)
    later = tiny_home.seat_events("j1").stat().st_mtime + 10
    for second in range(600):
        at_work.read([row("j1")], later + second)
    assert asked == ["j1"]
    assert at_work.of("j1") is not None and usage.of_seat(tiny_home, "j1")[0].input_tokens == 100
    files.append_line(tiny_home.seat_events("j1"), json.dumps({"event": "idle"}))
    for second in range(600):
        at_work.read([row("j1")], later + 600 + second)
    assert len(asked) == 2
    for second in range(60):  # in the middle of a long turn nothing is said, and much is used
        at_work.read([row("j1", state="working")], later + 1200 + second)
    assert 3 <= len(asked) <= 2 + 60 / spending.AT_WORK_S


def test_what_was_used_is_not_undone_by_a_smaller_number(tiny_home: Home) -> None:
    at_work = Spending(tiny_home, print)
    seats.create(tiny_home, "j1", "junior", "cmd:true", "main")
    for second, (tokens, usd) in enumerate([(500, 0.5), (3, 0.0), (600, 0.7)]):
        use(tiny_home, "j1", tokens, usd)
        at_work.read([row("j1")], 4e9 + second)
        found = at_work.of("j1")
        assert found is not None and (found.tokens, found.cost_usd) == [(500, 0.5), (500, 0.5), (600, 0.7)][second]


def test_one_seat_that_cannot_be_read_hides_no_other(tiny_home: Home) -> None:
    for name in ("j1", "j2"):
        seats.create(tiny_home, name, "junior", "cmd:true", "main")
    tiny_home.seat_usage("j1").parent.mkdir(parents=True, exist_ok=True)
    tiny_home.seat_usage("j1").write_text("no folder")
    use(tiny_home, "j2", 5, 0.1)
    at_work = Spending(tiny_home, print)
    at_work.read([row("j1"), row("j2")], 4e9)
    assert at_work.of("j2") is not None
    assert at_work.step([row("j1"), row("j2")], Look(), {"roster": []}, 4e9) == ([], "")


def test_what_codex_wrote_down_becomes_the_seats_usage(tiny_home: Home) -> None:
    seats.create(tiny_home, "j1", "junior", "codex", "main")
    session = "01a1fff2-41c6-78b2-a521-ed3081fe7f5a"
    path = (
        tiny_home.seat("j1")
        / "codex"
        / "sessions"
        / "2026"
        / "03"
        / "01"
        / f"rollout-2026-03-01T00-00-00-{session}.jsonl"
    )
    path.parent.mkdir(parents=True)
    counts = {"total_token_usage": {"input_tokens": 3000, "cached_input_tokens": 300, "output_tokens": 60}}
    counts |= {"last_token_usage": {"total_tokens": 1000}, "model_context_window": 4000}
    event = {
        "timestamp": "2026-03-01T00:00:00Z",
        "type": "event_msg",
        "payload": {"type": "token_count", "info": counts},
    }
    path.write_text(json.dumps(event) + "\n")
    tiny_home.seat_events("j1").write_text('{"event": "idle"}\n')
    Spending(tiny_home, print).read([row("j1", "codex")], 4e9)
    [found] = usage.of_seat(tiny_home, "j1")
    assert (found.session, found.tokens, found.cost_usd, found.context_used) == (session, 3060, None, 0.25)
    model = {"timestamp": "2026-03-01T00:00:01Z", "type": "turn_context", "payload": {"model": "gpt-9-unheard-of"}}
    for name, cost in (("gpt-9-unheard-of", None), ("gpt-5.5", (2700 * 5 + 300 * 0.5 + 60 * 30) / 1e6)):
        path.write_text(json.dumps({**model, "payload": {"model": name}}) + "\n" + json.dumps(event) + "\n")
        [priced] = codex.usage_of(tiny_home, seats.require(tiny_home, "j1"))
        assert (priced.model, priced.cost_usd) == (name, pytest.approx(cost) if cost else None)


# --- shown -------------------------------------------------------------------------------------------------------


def test_tokens_cost_and_context_are_shown_by_seat(tiny_home: Home) -> None:
    for name in ("j1", "j2"):
        seats.create(tiny_home, name, "junior", "cmd:true", "main")
    use(tiny_home, "j1", 12_345, 0.5)
    use(tiny_home, "j1", 1, None, "s2")
    facts = status.collect(tiny_home)
    one, two = facts["seats"]
    assert status._usage(two) is None
    shown = status._usage(one)
    assert shown is not None and (shown["tokens"], shown["cost_usd"], shown["context_used"]) == (12_346, None, 0.5)
    assert "12.3k $? 50%" in status.render(facts)
    assert "12.3k $? 50%" in borders.label({**one, "quiet": None, "said": ""})
    used, said = costs.page_of(tiny_home)
    assert list(used) == ["j1"] and said == []


def test_the_page_names_what_was_used(tiny_home: Home) -> None:
    from org import charter as charters

    seats.create(tiny_home, "j1", "junior", "cmd:true", "main")
    use(tiny_home, "j1", 12_345, 0.5)
    path = standup.write(tiny_home, ledger.read(tiny_home), charters.load(tiny_home), "2026-03-02T07:00:00Z", {})
    assert "| j1 | stub | 12.3k | 0 | 0 | $0.50 | 50% |" in path.read_text()
    from org.team import prose

    assert prose.reader(tiny_home).marks(path.read_text()) == []


def test_every_backend_says_what_can_be_known_of_its_use(tiny_home: Home) -> None:
    known = {
        spec: ringer.backend_of(spec, tiny_home).counts
        for spec in ("claude", "codex", "openai:gpt-5.5", "offline", "cmd:true")
    }
    assert known == {
        "claude": "cost",
        "codex": "cost",
        "openai:gpt-5.5": "cost",
        "offline": "cost",
        "cmd:true": "nothing",
    }
