"""Programs that can sit in a seat: how they are named, found and started."""

from __future__ import annotations

import dataclasses
import json
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from org.agents import base
from org.errors import BadInput, MissingTool, OrgError
from org.home import Home
from org.records import Seat


@pytest.fixture
def seat(tiny_home: Home) -> Seat:
    worktree = tiny_home.worktree("j1")
    worktree.mkdir()
    return Seat("j1", "junior", "claude", "main", "program/main/j1", str(worktree), "cpu0", "2026-01-01T00:00:00Z")


@pytest.fixture
def installed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A PATH where `claude` and `codex` are, and nothing else that matters."""
    folder = tmp_path / "bin dir"
    folder.mkdir()
    for name in ("claude", "codex"):
        (folder / name).write_text("#!/bin/sh\n")
        (folder / name).chmod(0o755)
    monkeypatch.setenv("PATH", f"{folder}:/usr/bin:/bin")
    monkeypatch.setenv("ANTHROPIC_API_KEY", "sk-test-" + "x" * 30 + "the-last-twenty-char")
    return folder


@pytest.mark.parametrize(
    "text, found",
    [
        ("offline", [("offline", None)]),
        ("claude:4,codex:4", [("claude", 4), ("codex", 4)]),
        ("claude=opus:2,codex=gpt-5.1-codex", [("claude=opus", 2), ("codex=gpt-5.1-codex", None)]),
        ("claude=claude-opus-4-6[1m]:9", [("claude=claude-opus-4-6[1m]", 9)]),
        ("claude:1, offline", [("claude", 1), ("offline", None)]),
        ("cmd:'vim -R, really':2,offline", [("cmd:vim -R, really", 2), ("offline", None)]),
        ("cmd:python x.py", [("cmd:python x.py", None)]),
        ("anthropic:claude-x:4,openai:org/m.1", [("anthropic:claude-x", 4), ("openai:org/m.1", None)]),
        ("openai:qwen2.5:7b:2", [("openai:qwen2.5:7b", 2)]),
    ],
)
def test_agents_are_parsed(text: str, found: list[tuple[str, int | None]]) -> None:
    assert base.parse_agents(text) == found


@pytest.mark.parametrize(
    "text, says",
    [
        ("claud:4", "did you mean 'claude'"),
        ("anthropic", "a model's name"),
        ("openai:4", "a model's name"),
        ("anthropic:two words", "a model's name"),
        ("openai:some-model:0", "at least one"),
        ("claude:0", "at least one"),
        ("claude=:2", "a model's name"),
        ("claude=-x", "a model's name"),
        ("offline=opus", "no model to choose"),
        ("claude:many", "number of seats"),
        ("cmd:", "names no program"),
        ("", "form"),
        ("offline,,codex", "form"),
    ],
)
def test_what_is_no_agent_is_refused_in_one_line(text: str, says: str) -> None:
    with pytest.raises(BadInput, match=says) as caught:
        base.parse_agents(text)
    assert "\n" not in str(caught.value)


@given(st.text(max_size=40))
def test_any_text_is_parsed_or_refused(text: str) -> None:
    try:
        found = base.parse_agents(text)
    except BadInput:
        return
    for spec, _ in found:
        try:
            assert base.backend(spec).doorbell in ("self", "typed")
        except OrgError as error:
            assert error.exit_code == 2  # cmd: with open quotes


@pytest.mark.parametrize("spec", ["claude", "codex", "cmd:no-such-program-here -x"])
def test_a_missing_program_is_named_in_one_line(
    spec: str, tiny_home: Home, seat: Seat, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(MissingTool, match="not installed"):
        base.backend(spec).prepare(tiny_home, seat, "# Junior")


def test_claude_finds_a_home_in_which_no_dialog_is_open(tiny_home: Home, seat: Seat, installed: Path) -> None:
    page = tiny_home.org_folder("chief-juniors") / "roles" / "junior.md"
    start = base.backend("claude").prepare(tiny_home, seat, page)
    config = Path(start.env["CLAUDE_CONFIG_DIR"])
    state = json.loads((config / ".claude.json").read_text())
    assert state["hasCompletedOnboarding"] and state["customApiKeyResponses"]["approved"] == ["the-last-twenty-char"]
    assert state["projects"][str(Path(seat.worktree).resolve())]["hasTrustDialogAccepted"]
    settings = json.loads((config / "settings.json").read_text())
    assert settings["skipDangerousModePermissionPrompt"] and "UserPromptSubmit" in settings["hooks"]
    role = Path(start.argv[start.argv.index("--append-system-prompt-file") + 1]).read_text()
    assert "`j1`" in role and page.read_text().strip() in role
    assert "--session-id" in start.argv and start.env["ORG_SEAT"] == "j1"


def test_claude_resumes_its_own_session_and_keeps_what_it_wrote(tiny_home: Home, seat: Seat, installed: Path) -> None:
    first = base.backend("claude").prepare(tiny_home, seat, "# Junior")
    session = first.argv[first.argv.index("--session-id") + 1]
    config = Path(first.env["CLAUDE_CONFIG_DIR"])
    (config / ".claude.json").write_text('{"numStartups": 99}')
    (config / "projects" / "x").mkdir(parents=True)
    (config / "projects" / "x" / f"{session}.jsonl").write_text("{}\n")
    again = base.backend("claude").prepare(tiny_home, seat, "# Junior, edited")
    assert again.argv[again.argv.index("--resume") + 1] == session and "--session-id" not in again.argv
    kept = json.loads((config / ".claude.json").read_text())
    assert kept["numStartups"] == 99 and "theme" not in kept
    assert kept["customApiKeyResponses"]["approved"] == ["the-last-twenty-char"]  # or a new key would be a dialog
    assert "edited" in (tiny_home.seat("j1") / "role.md").read_text()


def test_claude_is_given_its_model_and_looks_for_the_login_where_the_person_keeps_it(
    tiny_home: Home, seat: Seat, installed: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    start = base.backend("claude=opus").prepare(tiny_home, dataclasses.replace(seat, backend="claude=opus"), "# Junior")
    assert start.argv[start.argv.index("--model") + 1] == "opus"
    assert start.env["CLAUDE_SECURESTORAGE_CONFIG_DIR"] == ""  # the usual place
    assert Path(start.env["CLAUDE_CONFIG_DIR"]).stat().st_mode & 0o077 == 0
    monkeypatch.setenv("CLAUDE_CONFIG_DIR", "/of the/person")
    plain = base.backend("claude").plan(tiny_home, seat, "# Junior")
    assert plain.env["CLAUDE_SECURESTORAGE_CONFIG_DIR"] == "/of the/person" and "--model" not in plain.argv
    assert "CLAUDE_SECURESTORAGE_CONFIG_DIR" in base.PASSED_ON  # the office starts a seat again, in its own environment


@pytest.mark.parametrize(
    ("status", "word"), [("idle", "ready"), ("busy", "working"), ("waiting", "asking"), ("else", None), (None, None)]
)
def test_claude_says_itself_what_it_does(tiny_home: Home, seat: Seat, status: str | None, word: str | None) -> None:
    folder = tiny_home.seat("j1") / "claude" / "sessions"
    folder.mkdir(parents=True)
    (folder / "71.json").write_text(json.dumps({"pid": 71, "status": status} if status else ["rubbish"]))
    said = base.backend("claude").own_word
    assert said is not None
    assert (said(tiny_home, "j1", 71), said(tiny_home, "j1", 72)) == (word, None)


SESSION = "01a1fff2-41c6-78b2-a521-ed3081fe7f5a"


def spoke(home: Home, config: Path) -> Path:
    """The seat's program has named its session, and begun to write it down."""
    row = {"t": "x", "event": "working", "session": SESSION}
    home.seat_events("j1").parent.mkdir(parents=True, exist_ok=True)
    home.seat_events("j1").write_text(json.dumps(row) + "\n")
    path = config / "sessions" / "2026" / "03" / "01" / f"rollout-2026-03-01T00-00-00-{SESSION}.jsonl"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.touch()
    return path


def test_codex_gets_a_configuration_that_parses_and_a_queue_once_it_spoke(
    tiny_home: Home, seat: Seat, installed: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OPENAI_BASE_URL", "http://127.0.0.1:1/v1")
    seat = dataclasses.replace(seat, backend="codex=some-model")
    backend = base.backend(seat.backend)
    start = backend.prepare(tiny_home, seat, '# Junior "quoted" \\ back\tslash\nand a line \x1b[31m\n')
    home = Path(start.env["CODEX_HOME"])
    config = tomllib.loads((home / "config.toml").read_text())
    assert config["disable_paste_burst"] and config["approval_policy"] == "never" and config["model"] == "some-model"
    assert '"quoted" \\ back\tslash\nand a line' in config["developer_instructions"]
    assert config["projects"][str(Path(seat.worktree).resolve())]["trust_level"] == "trusted"
    assert config["model_providers"][config["model_provider"]]["wire_api"] == "responses"
    assert config["features"]["daemon_auto_start"] is False
    assert home.stat().st_mode & 0o777 == 0o700
    assert backend.queue is not None and backend.queue(tiny_home, seat, "hello") is None
    rollout = spoke(tiny_home, home)
    queued = backend.queue(tiny_home, seat, "hello")
    assert queued is not None and queued.argv[-4:] == ["--thread", SESSION, "--message", "hello"]
    assert "resume" in backend.prepare(tiny_home, seat, "# Junior").argv
    rollout.unlink()  # killed before it wrote a word: there is nothing to go on with
    assert "resume" not in backend.prepare(tiny_home, seat, "# Junior").argv


def test_codex_uses_the_persons_login_in_place_else_their_key(
    tiny_home: Home, seat: Seat, installed: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    person = tmp_path / "their codex"
    person.mkdir()
    monkeypatch.setenv("CODEX_HOME", str(person))
    monkeypatch.setenv("OPENAI_API_KEY", "sk-never-written-down")
    monkeypatch.delenv("OPENAI_BASE_URL", raising=False)
    backend, link = base.backend("codex"), tiny_home.seat("j1") / "codex" / "auth.json"
    start = backend.prepare(tiny_home, seat, "# Junior")
    config = tomllib.loads((link.parent / "config.toml").read_text())
    provider = config["model_providers"][config["model_provider"]]
    assert provider["env_key"] == "OPENAI_API_KEY" and provider["base_url"].startswith("https://api.openai.com/")
    assert start.env["OPENAI_API_KEY"] == "sk-never-written-down" and not link.exists()

    (person / "auth.json").write_text('{"tokens": "theirs"}')
    start = backend.prepare(tiny_home, seat, "# Junior")
    assert link.is_symlink() and link.read_text() == '{"tokens": "theirs"}' and "OPENAI_API_KEY" not in start.env
    assert "model_provider" not in tomllib.loads((link.parent / "config.toml").read_text())
    monkeypatch.delenv("CODEX_HOME")  # the office that starts it again does not see where it was
    backend.prepare(tiny_home, seat, "# Junior")
    assert link.resolve() == (person / "auth.json").resolve()
    for path in tiny_home.root.rglob("*"):
        assert path.is_symlink() or not path.is_file() or b"never-written" not in path.read_bytes()


def test_any_program_finds_its_role_page(tiny_home: Home, seat: Seat) -> None:
    backend = base.backend("cmd:sh -c 'cat \"$ORG_ROLE\"'")
    start = backend.prepare(tiny_home, seat, "# Junior\n\nDo good work.\n")
    done = subprocess.run(start.argv, env=start.env, capture_output=True, text=True, check=True)
    assert "Do good work." in done.stdout
    assert (backend.doorbell, backend.readiness) == ("typed", "alive")


def test_our_own_researcher_needs_no_doorbell(tiny_home: Home, seat: Seat) -> None:
    backend = base.backend("offline")
    assert (backend.doorbell, backend.readiness) == ("self", "event")
    assert backend.prepare(tiny_home, seat, "# Junior").argv == [sys.executable, "-m", "org.agents.offline"]


def test_a_model_over_an_api_gets_its_own_key_and_no_other(
    tiny_home: Home, seat: Seat, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("ANTHROPIC_API_KEY", "ANTHROPIC_AUTH_TOKEN", "ANTHROPIC_BASE_URL", "OPENAI_BASE_URL"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("OPENAI_API_KEY", "sk-of-the-other")
    api = Seat.from_dict({**seat.to_dict(), "backend": "anthropic:claude-x"})
    backend = base.backend(api.backend)
    with pytest.raises(BadInput, match="needs ANTHROPIC_API_KEY in the environment, or ANTHROPIC_BASE_URL"):
        backend.plan(tiny_home, api, "# Junior")
    monkeypatch.setenv("ANTHROPIC_BASE_URL", "http://127.0.0.1:1")
    start = backend.plan(tiny_home, api, "# Junior")
    assert start.argv == [sys.executable, "-m", "org.agents.api"] and "ANTHROPIC_BASE_URL" in start.env
    assert not any("sk-of-the-other" in value for value in start.env.values())
    assert (backend.doorbell, backend.readiness) == ("self", "event")
