"""A program that nobody here has seen, described in YAML: seated, rung, read and resumed in a real pane."""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
import subprocess
import sys
import textwrap
import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from agents.stage import TERMINAL, Heard
from agents.terminal import tell
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from team.conftest import Org
from waiting import wait_for

from org import backendschema, files, strictyaml
from org.agents import base, described
from org.cli import main
from org.errors import BadInput, MissingTool, OrgError
from org.home import Home
from org.records import Seat
from org.team import doorbell, launch, mail
from org.world import tmux

ROOT = Path(__file__).parents[2]
# Slow to its first prompt, leaves a session, says in no event what it does, and keeps what it was started with.
PROGRAM = f"""\
import json, os, runpy, sys, time
from pathlib import Path
home = Path(os.environ["AGENT_HOME"])
with (home / "started.jsonl").open("a") as file:
    file.write(json.dumps({{"argv": sys.argv[1:], "env": dict(os.environ)}}) + "\\n")
print("Loading the models")
time.sleep(1.0)
(home / "sessions").mkdir(exist_ok=True)
(home / "sessions" / "one.jsonl").touch()
sys.argv = [{str(TERMINAL)!r}, "--quiet-events", "--burst"]
runpy.run_path(sys.argv[0], run_name="__main__")
"""
TOLD = {
    "about": "a program that nobody has seen",
    "argv": ["unseen", "--role", "{role_file}", "{first_prompt}"],
    "resume": {"argv": ["unseen", "--continue", "{first_prompt}"], "when": "sessions/*.jsonl"},
    "env": {"AGENT_HOME": "{config}", "AGENT_KEY": "key $UNSEEN_KEY"},
    "pass_on": ["UNSEEN_KEY", "UNSEEN_URL"],
    "files": {"settings.json": '{"role": "{role}", "url": "${UNSEEN_URL:-http://127.0.0.1:1}", "price": "$$5"}'},
    "seeds": {"deep/state.toml": 'worktree = "{worktree}"\n'},
    "readiness": "screen",
    "screens": {
        "asking": [r"\(y/n\)$"],
        "limited": ["^Rate limited until"],
        "working": ["^. Working"],
        "ready": [r"^\? for shortcuts"],
        "lines": 2,
    },
    "doorbell": {"kind": "typed", "gap_s": 0.1},
    "install": "make install",
    "tested": "1.2.3",
}


def describe(home: Home, name: str = "unseen", **changes: Any) -> Path:
    path = home.backend_file(name)
    files.replace(path, strictyaml.dump({**TOLD, **changes}))
    return path


@pytest.fixture
def unseen(odd_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A PATH where `unseen` is, and the person's key for it."""
    folder = odd_path / "bin"
    folder.mkdir()
    (folder / "program.py").write_text(PROGRAM)
    script = folder / "unseen"
    script.write_text(f'#!/bin/sh\nexec {sys.executable} -P "${{0%unseen}}program.py" "$@"\n')
    script.chmod(0o755)
    monkeypatch.setenv("PATH", f"{folder}{os.pathsep}{os.environ['PATH']}")
    monkeypatch.setenv("UNSEEN_KEY", "of the person")
    monkeypatch.setenv("UNLISTED_KEY", "of the person too")
    return script


@pytest.fixture
def seat(tiny_home: Home) -> Seat:
    worktree = tiny_home.worktree("j1")
    worktree.mkdir()
    return Seat("j1", "junior", "unseen", "main", "program/main/j1", str(worktree), "cpu0", "2026-01-01T00:00:00Z")


# --- in a pane -----------------------------------------------------------------------------------------------------


@pytest.fixture
def org(tiny_home: Home, unseen: Path) -> Iterator[Org]:
    made = Org(tiny_home, "unseen")
    yield made
    launch.stop(tiny_home, lambda line: None)
    assert made.marked() == []


def state(home: Home) -> str:
    return str((files.read_json(home.seat_state("j1")) or {}).get("state"))


def started(home: Home) -> list[dict[str, Any]]:
    rows, _ = files.read_lines(home.seat_config("j1", "unseen") / "started.jsonl", 0)
    return rows


@pytest.mark.slow  # two launches of a real organisation
def test_a_described_program_is_started_rung_read_and_resumed(org: Org) -> None:
    home, folder, heard = org.home, org.home.seat("j1"), Heard(org.home, "j1")
    describe(home)
    org.launch(chief=0, juniors=1, agents=base.parse_agents("unseen:1", described.names(home)))
    screen = tmux.Server(home.socket).capture(org.look().panes["j1"].id)
    assert "? for shortcuts" in screen  # the launch has waited for its prompt
    [first] = started(home)
    assert first["argv"][0] == "--role" and first["argv"][2] == base.first_prompt(home_seat(home), False)
    assert first["env"]["AGENT_KEY"] == "key of the person" and "UNLISTED_KEY" not in first["env"]
    wait_for(lambda: state(home) == "ready", 15, "ready by its screen")

    one = mail.send(home, "human", "j1", "a letter")[0].id
    wait_for(lambda: heard.lines, 15, "the line")
    assert [row["text"] for row in heard.lines] == [doorbell.line_of([one])]

    tell(folder, "dialog May I go on?")
    wait_for(lambda: state(home) == "asking", 15, "the dialog to be seen")
    two = mail.send(home, "human", "j1", "another")[0].id
    wait_for(lambda: "dialog" in str(files.read_json(home.seat_state("j1"))), 15, "its reason")
    tell(folder, "clear")
    wait_for(lambda: len(heard.lines) == 2, 15, "the second line")
    wait_for(lambda: state(home) == "ready", 15, "ready again")
    tell(folder, "limit 60")
    wait_for(lambda: state(home) == "limited", 15, "the limit to be seen")
    tell(folder, "clear")
    tell(folder, "busy 30")
    wait_for(lambda: state(home) == "working", 15, "the turn to be seen")
    tell(folder, "clear")
    wait_for(lambda: state(home) == "ready", 15, "ready at last")
    assert heard.faults({one, two}) == []

    os.kill(org.look().panes["j1"].pid, signal.SIGKILL)
    wait_for(lambda: len(started(home)) == 2, 20, "the second start")
    again = started(home)[1]
    assert again["argv"] == ["--continue", base.first_prompt(home_seat(home), True)]
    assert again["env"]["AGENT_KEY"] == "key of the person"  # the office had it to hand on
    wait_for(lambda: state(home) == "ready", 20, "ready after the restart")


def home_seat(home: Home) -> Seat:
    return Seat.from_dict(files.read_json(home.seat_file("j1")))


def test_a_line_is_handed_over_by_a_command_and_no_key_is_pressed(org: Org, odd_path: Path) -> None:
    keeper = odd_path / "keep.py"
    keeper.write_text("import os, sys; open(os.environ['AGENT_HOME'] + '/got', 'a').write(repr(sys.argv[1:]) + '\\n')")
    argv = [sys.executable, str(keeper), "--seat={seat}", "{line}"]
    screens = {**TOLD["screens"], "asking": []}  # type: ignore[dict-item]
    describe(org.home, doorbell={"kind": "command", "argv": argv}, screens=screens)
    org.launch(chief=0, juniors=1)
    letter = mail.send(org.home, "human", "j1", "a letter")[0].id
    got = org.home.seat_config("j1", "unseen") / "got"
    wait_for(got.exists, 15, "the line")
    wait_for(lambda: got.read_text(), 15, "what it says")
    assert eval(got.read_text()) == ["--seat=j1", doorbell.line_of([letter])]
    tell(org.home.seat("j1"), "dialog One that nobody has described")
    wait_for(lambda: state(org.home) == "asking", 15, "the dialog to be taken for one")
    assert Heard(org.home, "j1").bytes == b""


# --- the start, without a pane ------------------------------------------------------------------------------------


def test_the_configuration_holds_hostile_values_and_nothing_of_the_person_that_is_not_listed(
    tiny_home: Home, seat: Seat, unseen: Path
) -> None:
    describe(tiny_home)
    page = 'A "role" with\ttabs, {config}, $UNSEEN_KEY and \\ back\x1b[31m\n'
    start = base.backend("unseen", tiny_home).prepare(tiny_home, seat, page)
    config = tiny_home.seat_config("j1", "unseen")
    told = json.loads((config / "settings.json").read_text())
    assert '"role" with\ttabs, {config}, $UNSEEN_KEY and \\ back' in told["role"] and "\x1b" not in told["role"]
    assert (told["url"], told["price"]) == ("http://127.0.0.1:1", "$5")
    assert tomllib.loads((config / "deep" / "state.toml").read_text())["worktree"] == seat.worktree
    assert config.stat().st_mode & 0o777 == 0o700
    assert start.argv[0] == str(unseen) and "of the person" not in " ".join(start.argv)
    assert start.handed == {"UNSEEN_KEY": "of the person"} and "UNLISTED_KEY" not in start.env
    (config / "deep" / "state.toml").write_text("mine = 1\n")
    (config / "settings.json").write_text("{}")
    again = base.backend("unseen", tiny_home).prepare(tiny_home, seat, page)
    assert (config / "deep" / "state.toml").read_text() == "mine = 1\n"  # a seed is the program's once it is there
    assert json.loads((config / "settings.json").read_text()) == told
    assert again.argv == start.argv  # no session yet
    (config / "sessions").mkdir()
    (config / "sessions" / "a.jsonl").touch()
    assert "--continue" in base.backend("unseen", tiny_home).prepare(tiny_home, seat, page).argv


def test_what_is_missing_is_named_in_one_line(
    tiny_home: Home, seat: Seat, unseen: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = describe(tiny_home)
    monkeypatch.delenv("UNSEEN_KEY")
    with pytest.raises(MissingTool, match="UNSEEN_KEY is not set") as caught:
        base.backend("unseen", tiny_home).plan(tiny_home, seat, "# Junior")
    assert str(path) in str(caught.value)
    monkeypatch.setenv("UNSEEN_KEY", "there")
    unseen.unlink()
    with pytest.raises(MissingTool, match="not installed; install it with `make install`"):
        base.backend("unseen", tiny_home).plan(tiny_home, seat, "# Junior")


def test_names_are_found_by_agents_and_org_yaml_and_may_choose_a_model(
    tiny_home: Home, seat: Seat, unseen: Path
) -> None:
    describe(tiny_home, argv=["unseen", "--model", "{model}", "{session}"], model="small-1", resume=None)
    describe(tiny_home, "two-words")
    names = described.names(tiny_home)
    text = "unseen:1,unseen=big/2.5:2,two-words:3,offline"
    expected = [("unseen", 1), ("unseen=big/2.5", 2), ("two-words", 3), ("offline", None)]
    assert base.parse_agents(text, names) == expected
    argv = base.backend("unseen=big/2.5", tiny_home).plan(tiny_home, seat, "# Junior").argv
    assert argv[2] == "big/2.5" and re.fullmatch("[0-9a-f-]{36}", argv[3])
    assert base.backend("unseen", tiny_home).plan(tiny_home, seat, "# Junior").argv[2:] == ["small-1", argv[3]]
    with pytest.raises(BadInput, match="would be ignored"):
        base.backend("two-words=big", tiny_home)
    with pytest.raises(BadInput, match="did you mean 'unseen'"):
        base.parse_agents("unsee:2", names)
    describe(tiny_home, argv=["unseen", "{model}"])
    with pytest.raises(BadInput, match="names no model"):
        base.backend("unseen", tiny_home)


def test_an_edit_counts_at_the_next_start_and_who_reads_it_again_needs_no_pydantic(tiny_home: Home) -> None:
    describe(tiny_home)
    assert base.backend("unseen", tiny_home).gap_s == 0.1
    look = "import sys; from pathlib import Path; from org.agents import base; from org.home import Home\n"
    look += "assert base.backend('unseen', Home(Path(sys.argv[1]))).gap_s == 0.1 and 'pydantic' not in sys.modules"
    subprocess.run(
        [sys.executable, "-c", look, str(tiny_home.root)], check=True, env={**os.environ, "PYTHONPATH": str(ROOT)}
    )
    describe(tiny_home, doorbell={"gap_s": 0.7, "stash": {"keys": ["C-s"], "mark": "stashed", "column": 2}})
    backend = base.backend("unseen", tiny_home)
    assert (backend.gap_s, backend.stash) == (0.7, base.Stash(("C-s",), "stashed", 2))


# --- what is no description ---------------------------------------------------------------------------------------


def test_a_copy_that_another_version_checked_is_checked_again(tiny_home: Home, monkeypatch: pytest.MonkeyPatch) -> None:
    describe(tiny_home)
    whole = described.description(tiny_home, "unseen")
    [(name, row)] = files.read_json(tiny_home.backend_cache).items()
    del row["backend"]["doorbell"]  # as an older one left it
    files.replace_json(tiny_home.backend_cache, {name: row})
    assert "doorbell" not in described.description(tiny_home, "unseen")
    monkeypatch.setattr(described, "SCHEMA", Path(__file__))
    assert described.description(tiny_home, "unseen") == whole


@pytest.mark.parametrize(
    "changes, says",
    [
        ({"argv": []}, "names no program"),
        ({"argv": ["./unseen"]}, "whole path"),
        ({"argv": ["{config}"]}, "is no program"),
        ({"argv": ["unseen", "{role_fil}"]}, "did you mean 'role_file'"),
        ({"argv": ["unseen", "{role}"]}, "nothing is put in for {role}"),
        ({"argv": ["unseen", "a\0b"]}, "control character"),
        ({"argv": "unseen"}, "argv"),
        ({"argvs": ["unseen"]}, "did you mean 'argv'"),
        ({"env": {"X": "$OTHER_KEY"}}, "list it under pass_on"),
        ({"env": {"ORG_SEAT": "chief"}}, "set by the org"),
        ({"env": {"PATH": "/tmp"}}, "set by the org"),
        ({"env": {"X": 1}}, "string"),
        ({"pass_on": ["A=B"]}, "no name"),
        ({"files": {"../../held": ""}}, "inside the program's own folder"),
        ({"files": {"/etc/passwd": ""}}, "inside the program's own folder"),
        ({"files": {"a": "b", "a/b": "c"}}, "'a/b' lies below it"),
        ({"seeds": {"a.json": "{worktre}"}}, "did you mean 'worktree'"),
        ({"seeds": {"a": "$OTHER_KEY"}}, "list it under pass_on"),
        ({"screens": {"ready": ["("]}}, "no regular expression"),
        ({"screens": {"ready": ["x*"]}}, "empty line"),
        ({"screens": {"sleeping": ["x"]}}, "unknown key"),
        ({"screens": {}}, "screens: ready or working"),
        ({"doorbell": {"stash": {"keys": ["Enter"], "mark": "x", "column": 2}}}, "puts a draft aside"),
        ({"doorbell": {"stash": {"keys": ["C-c"], "mark": "x", "column": 2}}}, "puts a draft aside"),
        ({"doorbell": {"kind": "command"}}, "names no program"),
        ({"doorbell": {"kind": "command", "argv": ["x"]}}, "must hold {line}"),
        ({"doorbell": {"kind": "shout"}}, "typed"),
        ({"resume": {"argv": ["unseen"]}}, "when"),
        ({"resume": {"argv": ["unseen"], "when": "../*"}}, "inside"),
        ({"resume": {"argv": ["unseen"], "when": "**x"}}, "pattern"),
        ({"readiness": "soon"}, "alive"),
        ({"a\nkey": 1}, "unknown key"),
    ],
)
def test_a_mistake_is_named_in_one_line(tiny_home: Home, changes: dict[str, Any], says: str) -> None:
    path = describe(tiny_home, **changes)
    with pytest.raises(BadInput, match=re.escape(says)) as caught:
        base.backend("unseen", tiny_home)
    assert str(path) in str(caught.value) and "\n" not in str(caught.value)


def test_a_built_in_program_cannot_be_described_away(tiny_home: Home) -> None:
    path = describe(tiny_home, "claude")
    assert base.backend("claude", tiny_home).name == "claude" and described.names(tiny_home) == ()
    with pytest.raises(BadInput, match="built in"):
        backendschema.backend(path)


LEAF = st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=20)
LEAF |= st.sampled_from(
    ["{role_file}", "$KEY", "${A:-b}", "{", "**x", "(?P<", "a{99999}", "[[:alpha:]]", "\\", "C-s", "../x"]
)
VALUE = st.recursive(LEAF, lambda v: st.lists(v, max_size=3) | st.dictionaries(st.text(max_size=8), v, max_size=3))
KEYS = st.sampled_from([*TOLD, "model", "version"])


@pytest.mark.slow  # three seconds of drawn files
@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None, max_examples=300)
@given(st.dictionaries(KEYS, VALUE, max_size=4), st.booleans())
def test_whatever_is_written_is_a_backend_or_one_line(tiny_home: Home, changes: dict[str, Any], is_whole: bool) -> None:
    try:
        text = strictyaml.dump({**(TOLD if is_whole else {}), **changes})
    except ValueError:
        return  # no YAML to begin with
    check(tiny_home, text)


@pytest.mark.slow  # a second of drawn files
@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None, max_examples=200)
@given(st.text(max_size=200), st.integers(0, 2000))
def test_whatever_stands_in_the_file_is_a_backend_or_one_line(tiny_home: Home, text: str, at: int) -> None:
    whole = strictyaml.dump(TOLD)
    check(tiny_home, whole[:at] + text + whole[at:])


def check(home: Home, text: str) -> None:
    path = home.backend_file("unseen")
    files.replace(path, text.encode(errors="replace"))
    try:
        backend = base.backend("unseen", home)
    except BadInput as error:
        assert "\n" not in str(error)
        return
    seat = Seat("j1", "junior", "unseen", "main", "b", str(home.root), "cpu0", "2026-01-01T00:00:00Z")
    try:
        start = backend.plan(home, seat, "# Junior")
    except MissingTool as error:
        assert "\n" not in str(error)
        return
    config = home.seat_config("j1", "unseen")
    assert all(
        p.resolve().is_relative_to(config) for p in (*start.files, *start.seeds) if p != base.role_file(home, seat)
    )


# --- what is shipped, and what doctor says ------------------------------------------------------------------------


def examples() -> list[Any]:
    shipped = [pytest.param(p.read_text(), id=p.name) for p in sorted((ROOT / "prompts" / "backends").glob("*.yaml"))]
    page = (ROOT / "docs" / "backends.md").read_text()
    blocks = [textwrap.dedent(text) for text in re.findall(r"```yaml\n(.*?)```", page, re.DOTALL)]
    return shipped + [pytest.param(text, id=f"docs {n}") for n, text in enumerate(blocks) if "argv:" in text]


def test_the_page_shows_what_is_shipped() -> None:
    page = (ROOT / "docs" / "backends.md").read_text()
    for path in (ROOT / "prompts" / "backends").glob("*.yaml"):
        assert f"`prompts/backends/{path.name}`\n\n```yaml\n{path.read_text()}```" in page, (
            f"{path.name} is another there"
        )
    shown = set(re.findall(r"^\| `(\w+)`(?:, `(\w+)`)? \|", page, re.MULTILINE))
    assert {key for keys in shown for key in keys if key} == set(backendschema.BackendModel.model_fields)
    assert set(re.findall(r"`\{(\w+)\}`", page)) == {*backendschema.IN_FILES, "line"}


@pytest.mark.parametrize("text", examples())
def test_every_example_is_sound_and_its_files_parse(
    tiny_home: Home, seat: Seat, text: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    files.replace(tiny_home.backend_file("it"), text)
    row = backendschema.backend(tiny_home.backend_file("it"))
    program = tmp_path / row["argv"][0]
    program.write_text("#!/bin/sh\n")
    program.chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path))
    for name in row["pass_on"]:
        monkeypatch.setenv(name, 'http://127.0.0.1:1/"odd"')
    is_open = any("{model}" in word for word in row["argv"])
    start = base.backend("it=a-model" if is_open else "it", tiny_home).prepare(tiny_home, seat, '# "Junior"\n')
    for path in (*start.files, *start.seeds):
        if path.suffix == ".json":
            json.loads(path.read_text())
    assert row["install"] and row["tested"] in row["install"]


def test_doctor_tells_versions_and_what_is_wrong_with_a_description(
    tiny_home: Home, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = tmp_path / "bin"
    folder.mkdir()
    for name, says in (("claude", "2.1.329 (Claude Code)"), ("codex", "codex-cli 0.1.2"), ("unseen", "v1.2.3-beta.1")):
        (folder / name).write_text(f"#!/bin/sh\necho '{says}'\n")
        (folder / name).chmod(0o755)
    for tool in ("git", "tmux"):
        (folder / tool).symlink_to(str(shutil.which(tool)))
    monkeypatch.setenv("PATH", f"{folder}:/bin")
    describe(tiny_home)
    describe(tiny_home, "other", argv=["no-such-program"])
    describe(tiny_home, "wrong", argv=[])

    def found() -> dict[str, tuple[bool, str]]:
        capsys.readouterr()
        main.call(["--home", str(tiny_home.root), "doctor", "--json"])
        return {row["check"]: (row["ok"], row["note"]) for row in json.loads(capsys.readouterr().out)["checks"]}

    rows = found()
    assert rows["agent claude"] == (True, "2.1.329, known good")
    assert rows["agent codex"][1].startswith("0.1.2, not tested with this version of org")
    assert rows["agent unseen"] == (True, "1.2.3-beta.1, not tested with this version of org; 1.2.3 is known good")
    assert rows["agent other"] == (True, "no-such-program is not installed; install it with `make install`")
    assert not rows["agent wrong"][0] and "names no program" in rows["agent wrong"][1]
    page = tiny_home.org_folder("chief-juniors") / "org.yaml"
    page.write_text(page.read_text().replace("count: 2", "count: 2, backend: unsen"))
    assert not found()["org folders"][0] and "did you mean 'unseen'" in found()["org folders"][1]


def test_what_is_described_but_gone_is_one_line(tiny_home: Home) -> None:
    path = describe(tiny_home)
    path.unlink()
    with pytest.raises(OrgError, match="no program 'unseen'"):
        base.backend("unseen", tiny_home)
