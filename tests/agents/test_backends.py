"""Programs that can sit in a seat: how they are named, found and started."""

from __future__ import annotations

import json
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from org.agents import base, hook
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
        ("claude:1, offline", [("claude", 1), ("offline", None)]),
        ("cmd:'vim -R, really':2,offline", [("cmd:vim -R, really", 2), ("offline", None)]),
        ("cmd:python x.py", [("cmd:python x.py", None)]),
    ],
)
def test_agents_are_parsed(text: str, found: list[tuple[str, int | None]]) -> None:
    assert base.parse_agents(text) == found


@pytest.mark.parametrize(
    "text, says",
    [
        ("claud:4", "did you mean 'claude'"),
        ("anthropic:some-model", "not in this version"),
        ("openai:some-model", "not in this version"),
        ("claude:0", "at least one"),
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
    assert json.loads((config / ".claude.json").read_text()) == {"numStartups": 99}
    assert "edited" in (tiny_home.seat("j1") / "role.md").read_text()


def test_codex_gets_a_configuration_that_parses_and_a_queue_once_it_spoke(
    tiny_home: Home, seat: Seat, installed: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OPENAI_BASE_URL", "http://127.0.0.1:1/v1")
    backend = base.backend("codex")
    start = backend.prepare(tiny_home, seat, '# Junior "quoted" \\ back\tslash\nand a line \x1b[31m\n')
    config = tomllib.loads(Path(start.env["CODEX_HOME"], "config.toml").read_text())
    assert config["disable_paste_burst"] and config["approval_policy"] == "never"
    assert '"quoted" \\ back\tslash\nand a line' in config["developer_instructions"]
    assert config["projects"][str(Path(seat.worktree).resolve())]["trust_level"] == "trusted"
    assert config["model_providers"][config["model_provider"]]["wire_api"] == "responses"
    assert config["features"]["daemon_auto_start"] is False
    assert backend.queue is not None and backend.queue(tiny_home, seat, "hello") is None
    row = {"t": "x", "event": "working", "session": "0199-abcd-ef01"}
    tiny_home.seat_events("j1").write_text(json.dumps(row) + "\n")
    queued = backend.queue(tiny_home, seat, "hello")
    assert queued is not None and queued.argv[-4:] == ["--thread", "0199-abcd-ef01", "--message", "hello"]
    assert "resume" in backend.prepare(tiny_home, seat, "# Junior").argv


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


def run_hook(home: Home, hook_input: object) -> list[dict[str, object]]:
    events = home.seat_events("j1")
    events.unlink(missing_ok=True)
    events.parent.mkdir(parents=True, exist_ok=True)
    env = {"ORG_HOME": str(home.root), "ORG_SEAT": "j1", "ORG_EVENTS": str(events), "PATH": "/usr/bin:/bin"}
    text = hook_input if isinstance(hook_input, str) else json.dumps(hook_input)
    done = subprocess.run(["sh", "-c", hook.command()], input=text, env=env, capture_output=True, text=True, check=True)
    assert done.stdout == "" and done.stderr == ""  # a hook that speaks speaks to the model
    return [json.loads(line) for line in events.read_text().splitlines()] if events.exists() else []


def test_the_hook_tells_states_and_which_letters_were_submitted(tiny_home: Home) -> None:
    box = tiny_home.mailbox("j1") / "new"
    box.mkdir(parents=True)
    (box / "l-260101-000000-abc.md").write_text("x")
    prompt = "You have a letter (l-260101-000000-abc): read with `org inbox`, not l-260101-000000-zzz"
    rows = run_hook(tiny_home, {"hook_event_name": "UserPromptSubmit", "session_id": "s-1", "prompt": prompt})
    assert [row["event"] for row in rows] == ["working", "processed"]
    assert rows[0]["session"] == "s-1" and rows[1]["letters"] == ["l-260101-000000-abc"]
    assert run_hook(tiny_home, {"hook_event_name": "StopFailure", "error": "overloaded"})[0]["text"] == "overloaded"
    assert (
        run_hook(tiny_home, {"hook_event_name": "Notification", "notification_type": "permission"})[0]["event"]
        == "asking"
    )


@pytest.mark.parametrize("text", ["", "not json", "[]", '{"hook_event_name": 3}', '{"hook_event_name": "New"}'])
def test_the_hook_never_fails_a_turn(tiny_home: Home, text: str) -> None:
    assert run_hook(tiny_home, text) == []
