"""What agents are told: short enough to be read, true of the gate they meet, and with every name in it known."""

from __future__ import annotations

import ast
import re
import shlex
import shutil
from pathlib import Path

import click
import pytest
import yaml

from org import charter, files, schema
from org.agents import base
from org.cli import main
from org.evidence import audit
from org.home import Home
from org.lab import ledger
from org.records import Seat
from org.team import brief, mail, roster, tokens

ROOT = Path(__file__).parents[1]
PROMPTS = ROOT / "prompts"
ROLES = sorted(PROMPTS.glob("orgs/*/roles/*.md"))
SKILLS = sorted(PROMPTS.glob("skills/*.md"))
PAGES = [*ROLES, *SKILLS, *sorted(PROMPTS.glob("orgs/*/processes/*.md"))]
GATE = PROMPTS / "skills" / "when-refused.md"
PRIMING = 3000  # tokens of everything a junior reads before its first thought of its own
AT_THE_START = {"junior": [GATE], "solo": [GATE], "breaker": [GATE], "researcher": [GATE]}
# files in which the gate refuses an experiment, and the calls that make a violation, its rule's name first
REFUSING = [ROOT / "org" / "evidence" / name for name in ("rules.py", "conduct.py")]
REFUSING += [ROOT / "org" / "lab" / name for name in ("gate.py", "edits.py", "checks.py")]
MAKERS = ("Violation", "_Use", "_one")


def rules_of_the_gate() -> set[str]:
    found = set()
    for path in REFUSING:
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id in MAKERS:
                first = node.args[0]
                found |= {str(first.value)} if isinstance(first, ast.Constant) else set()
    return found


def told_rules(path: Path) -> list[str]:
    return re.findall(r"`\[([a-z-]+)\]`", path.read_text())


def ids(path: Path) -> str:
    return path.relative_to(PROMPTS).as_posix()


# --- length ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("path", ROLES, ids=ids)
def test_all_that_a_seat_is_primed_with_is_under_3000_tokens(tmp_path: Path, path: Path) -> None:
    """In the home of an ordinary user, with as much on record as `org brief` ever shows."""
    home = Home((tmp_path / "home" / "researcher" / "nanochat-research").resolve())
    home.root.mkdir(parents=True)
    shutil.copytree(PROMPTS, home.prompts)
    name, role = path.parents[1].name, path.stem
    page = home.org_folder(name) / "roles" / f"{role}.md"
    worktree = str(home.worktree("j1"))
    seat = Seat("j1", role, "claude", "optimizer", "program/optimizer/j1", worktree, "gpu0", "2026-03-01T00:00:00Z")
    files.replace_json(home.seat_file("j1"), seat.to_dict())
    roster.update(home, org=name, roster=[seat.to_dict()], devices=["gpu0"], budget={"seconds": 28800, "from": None})
    for _ in range(12):
        mail.send(home, "human", "j1", "Please look at the warmup first, since E0017 may have been luck. " * 3)
    shown = brief.page(home, ledger.read(home), charter.load(home), "j1", 0.0).text
    read = [base.role_text(home, seat, page), base.first_prompt(seat, is_resumed=False)]
    read += [path.read_text() for path in AT_THE_START.get(role, [])]
    fixed = sum(map(tokens.count, read))
    assert fixed + tokens.count(shown) < PRIMING
    assert fixed + brief.LIMIT < PRIMING, "with a full brief"
    for told in AT_THE_START.get(role, []):
        assert told.name in read[0], "counted, and so it is named as what is read at the start"


@pytest.mark.parametrize("path", [p for p in ROLES if "org run" in p.read_text()], ids=ids)
def test_who_files_experiments_is_told_how_to_get_back_to_the_head(path: Path) -> None:
    assert re.search(r"--sync`[^.]*\bhead\b", path.read_text())


@pytest.mark.parametrize("path", SKILLS, ids=ids)
def test_a_skill_is_one_screen_and_its_first_line_says_what_for(path: Path) -> None:
    assert tokens.count(path.read_text()) <= 700
    assert path.read_text().startswith("# ")
    assert 20 <= len(brief.summary(path)) <= 80  # what `org brief` shows of it


def test_the_brief_lists_every_skill_with_room_for_all() -> None:
    section = brief.skills(Home(ROOT), "chief-juniors")
    assert set(section) == {path.stem for path in SKILLS}
    rows = "".join(f"- {path.stem}: {brief.summary(path)}\n" for path in SKILLS)
    assert tokens.count(rows) < 190


# --- the rules of the gate ---------------------------------------------------------------------------------------


def test_every_rule_of_the_gate_is_told_once_and_none_that_is_not() -> None:
    told = told_rules(GATE)
    assert len(told) == len(set(told))
    assert set(told) == rules_of_the_gate()
    for path in PAGES:
        assert path == GATE or not told_rules(path), "told once, on the page about refusals"


def test_what_a_refusal_is_said_to_answer_is_what_it_answers() -> None:
    source = " ".join(re.sub(r'"\s*\n?\s*f?"', "", path.read_text()) for path in REFUSING)
    rows = [row for row in GATE.read_text().splitlines() if row.startswith("| `[")]
    assert len(rows) >= 14
    for row in rows:
        quoted = re.findall(r'"([^"]+)"', row.split("|")[2])
        assert quoted, row
        for words in quoted:
            assert words in source, words


def test_a_refusal_shows_its_rule(tiny_home: Home, capfd: pytest.CaptureFixture[str]) -> None:
    main.call(["--home", str(tiny_home.root), "seat", "me"])
    capfd.readouterr()
    assert main.call(["--home", str(tiny_home.root), "--seat", "me", "run", "-m", "nothing", "--no-wait"]) == 3
    out = capfd.readouterr().out
    assert "me: [empty] nothing changed" in out and "empty" in told_rules(GATE)


# --- names -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("path", PAGES, ids=ids)
def test_every_command_verb_and_option_on_a_page_exists(path: Path) -> None:
    text = path.read_text()
    for words in re.findall(r"`(org [^`]+)`", text):
        rest = shlex.split(words.split(" | ")[0].replace("…", "x"))[1:]
        command = main.org.get_command(click.Context(main.org), rest[0])
        assert command is not None, words
        known = {name for option in command.params for name in option.opts}
        for word in rest[1:]:
            assert not word.startswith("-") or re.match(r"-\d", word) or word.partition("=")[0] in known | {"--help"}, (
                words
            )
    for option in re.findall(r"`(--[a-z-]+)", text):
        verbs = [main.org.get_command(click.Context(main.org), name) for name in main.VERBS]
        names = {name for verb in verbs if verb for parameter in verb.params for name in parameter.opts}
        assert option in names | {"--git-dir"}, option


@pytest.mark.parametrize("path", PAGES, ids=ids)
def test_every_skill_and_reference_named_on_a_page_exists(path: Path) -> None:
    text = path.read_text()
    stems = {skill.stem for skill in SKILLS}
    for name in re.findall(r"`([a-z]+(?:-[a-z]+){1,3})`", text):
        assert name in stems, name
    for name in re.findall(r"skills/([\w-]+)\.md", text):
        assert name in stems, name
    for field in re.findall(r"\{E\d+\.(\w+)\}", text):
        assert field in (*audit.FIELDS, *audit.CITED), field


@pytest.mark.parametrize("path", ROLES, ids=ids)
def test_every_role_says_who_commands_how_to_wait_and_how_to_quote(path: Path) -> None:
    text = " ".join(path.read_text().split())
    for words in (
        "Letters from",
        "`human` are instructions",
        "unverified",
        "`org brief`",
        "`org inbox`",
        "{E0042.effect}",
    ):
        assert words in text, words
    assert re.search(r"[Nn]ever sleep(\*\*)?(,| or) poll", text), "waiting is by mail"
    assert "end your turn" in text and "park-a-question" in text
    if path.stem in ("junior", "solo"):
        for words in (
            "think it through",
            "strong baseline",
            "--expect",
            "refute",
            "one more may wait",
            "ill-posed",
            "context small",
        ):
            assert words in text, words


# --- the orgs ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("folder", sorted(p.parent for p in PROMPTS.glob("orgs/*/org.yaml")), ids=lambda p: p.name)
def test_every_org_is_valid_and_its_seats_have_pages(folder: Path) -> None:
    assert schema.org_folder(folder)["seats"]
    assert {row["role"] for row in schema.org_folder(folder)["seats"]} <= {p.stem for p in folder.glob("roles/*.md")}


def test_the_seats_that_org_yaml_offers_in_comments_are_valid(tmp_path: Path) -> None:
    folder = tmp_path / "org"
    shutil.copytree(PROMPTS / "orgs" / "chief-juniors", folder)
    text = (folder / "org.yaml").read_text()
    (folder / "org.yaml").write_text(text.replace("#  - {", "  - {"))
    assert len(yaml.safe_load((folder / "org.yaml").read_text())["seats"]) == 4
    assert [row["role"] for row in schema.org_folder(folder)["seats"]] == ["chief", "junior", "breaker", "councillor"]


def test_the_offline_researcher_works_alone_in_the_org_solo(tiny_home: Home) -> None:
    shutil.copytree(PROMPTS / "orgs" / "solo", tiny_home.org_folder("solo"))
    folder = schema.org_folder(tiny_home.org_folder("solo"))
    rules = charter.load(tiny_home)
    plan = roster.plan(tiny_home, rules, folder, roster.Options(org="solo"), (), ["cpu0"])
    assert [(s.name, s.role, s.backend, s.program, s.device) for s in plan.seats] == [
        ("solo", "solo", "offline", "solo", "cpu0")
    ]
    agents = [("claude", None)]
    plan = roster.plan(tiny_home, rules, folder, roster.Options(org="solo", agents=agents), (), ["cpu0"])
    assert [s.backend for s in plan.seats] == ["claude"]
