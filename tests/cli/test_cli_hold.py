"""`org hold`: a seat, a role or all; twice is once; it says what waits and what will be delivered."""

from __future__ import annotations

import pytest

from org.home import Home
from org.team import mail, roster, seats

from .conftest import Cli


@pytest.fixture
def team(tiny_home: Home) -> Home:
    for name, role in (("chief", "chief"), ("j1", "junior"), ("j2", "junior"), ("j9", "junior")):
        seats.create(tiny_home, name, role, "cmd:true", "main")
    here = [
        {"name": name, "role": role, "backend": "cmd:true"}
        for name, role in (("chief", "chief"), ("j1", "junior"), ("j2", "junior"))
    ]
    roster.update(tiny_home, org="chief-juniors", roster=here)  # j9 is retired
    return tiny_home


def held(home: Home) -> set[str]:
    return {name for name in ("chief", "j1", "j2", "j9") if home.held(name).exists()}


def test_a_seat_is_held_once_and_its_mail_is_counted(team: Home, cli: Cli) -> None:
    run = lambda *words: cli("--home", team.root, "hold", *words).out.strip()
    assert run("j1") == "j1 is held; let go with `org hold j1 --off`"
    since = team.held("j1").read_text()
    mail.send(team, "human", "j1", "hello")
    assert run("j1") == "j1 is held; a letter waits; let go with `org hold j1 --off`"
    assert team.held("j1").read_text() == since and held(team) == {"j1"}
    mail.send(team, "human", "j1", "again")
    assert run("j1", "--off") == "j1 is no longer held; 2 letters will be delivered"
    assert run("j1", "--off") == "j1 is not held; 2 letters will be delivered"
    assert run("j2", "--off") == "j2 is not held" and held(team) == set()


@pytest.mark.parametrize(
    ("name", "expected"),
    [("junior", {"j1", "j2"}), ("chief", {"chief"}), ("all", {"chief", "j1", "j2"}), ("j9", {"j9"})],
)
def test_a_role_and_all_mean_who_is_here(team: Home, cli: Cli, name: str, expected: set[str]) -> None:
    assert cli("--home", team.root, "hold", name).code == 0
    assert held(team) == expected
    assert cli("--home", team.root, "hold", name, "--off").code == 0
    assert held(team) == set()


def test_a_retired_seat_that_is_called_as_a_role_gives_way_to_it_as_for_letters(team: Home, cli: Cli) -> None:
    seats.create(team, "junior", "junior", "cmd:true", "main")  # in no roster
    assert cli("--home", team.root, "hold", "junior").code == 0
    assert held(team) == {"j1", "j2"} and not team.held("junior").exists()
    assert mail.recipients(team, "junior", "human") == ["j1", "j2"]


@pytest.mark.parametrize("name", ["../x", "", "-b", "a:b", "#(id)", "j" * 33, "junio", "J1", "j1\n", "ϳ1", "human"])  # noqa: RUF001
def test_a_name_that_is_nobodys_is_one_line(team: Home, cli: Cli, name: str) -> None:
    done = cli("--home", team.root, "hold", "--", name)
    assert done.code == 2 and done.err.count("\n") == 1 and held(team) == set()


def test_status_says_who_holds_what(team: Home, cli: Cli) -> None:
    seats.create(team, "me")
    for name in ("j1", "me"):
        cli("--home", team.root, "hold", name)
    lines = {line.split()[0]: line for line in cli("--home", team.root, "status").out.splitlines() if line.strip()}
    assert "gone, held by you" in lines["j1"] and "held by you" in lines["me"] and "held by you" not in lines["j2"]
    rows = {row["name"]: row for row in cli("--home", team.root, "status", "--json").json["seats"]}
    assert (rows["j1"]["state"], rows["j1"]["held"]) == ("gone", True)
