"""Bad input: one line on stderr that says what and what is allowed, the contract's exit code, and nothing created."""

from __future__ import annotations

import errno
import os
import re
import shutil
from pathlib import Path

import pytest

from org.errors import MissingTool
from org.home import Home

from .conftest import Cli, tree


def one_line(text: str) -> str:
    lines = text.splitlines()
    assert len(lines) == 1, text
    assert lines[0].startswith("org: ")
    assert "Traceback" not in text
    return lines[0]


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["launhc"], "'launhc' is no verb (did you mean 'launch'?)"),
        (["lnad", "main"], "'lnad' is no verb"),
        (["promote", "E0001"], "Missing option '--to'"),
        (["launch", "--junior", "3"], "--juniors"),
        (["launch", "--juniors", "-1"], "a whole number from 1 to 64"),
        (["launch", "--juniors", "0"], "a whole number from 1 to 64"),
        (["launch", "--juniors", "1.5"], "a whole number from 1 to 64"),
        (["launch", "--juniors", "abc"], "'abc' is not allowed; use a whole number from 1 to 64"),
        (["launch", "--chief", "-1"], "a whole number from 0 to 8"),
        (["launch", "--juniors", ""], "a whole number from 1 to 64"),
        (["launch", "--budget", "5 minutes"], "90s, 5m, 2h or 100runs"),
        (["launch", "--budget", "0s"], "90s, 5m, 2h or 100runs"),
        (["launch", "--agents", "oflfine"], "did you mean 'offline'"),
        (["launch", "--devices", "tpu:8"], "cpu:N"),
        (["launch", "--org", "../../etc"], "a-z 0-9 _ -"),
        (["launch", "--org", "flat"], "org folders here: chief-juniors"),
        (["launch", "--task", "nowhere.yaml"], "no readable file is there"),
        (["seat", "all"], "a word of the org's own"),
        (["seat", "a b"], "a-z 0-9 _ -"),
        (["seat", "me", "--program", "a/b"], "a-z 0-9 _ -"),
        (["hold", "j9"], "there is no seat 'j9'"),
        (["stop", "j9"], "there is no seat 'j9'"),
        (["run"], 'org run -m "why"'),
        (["run", "-m", "why"], "org seat me"),
        (["run", "-m", "why", "--expect", "nan"], "finite number"),
        (["run", "-m", "why", "--expect", "much"], "not a valid float"),
        (["run", "words", "without", "m"], 'org run -m "why"'),
        (["verify", "42"], "write it as in E0042"),
        (["verify", "E0042"], "is not in the ledger"),
        (["stack", "nothing"], "there is no program 'nothing'"),
        (["land"], "PROGRAM"),
        (["land", "nothing"], "there is no program 'nothing'"),
        (["land", "../x"], "a-z 0-9 _ -"),
        (["--seat", "j1", "land", "main"], "there is no seat 'j1'"),
        (["send", "chief", "hello"], "no seat exists yet"),
        (["send", "human", " "], "the letter is empty"),
        (["inbox", "../../x"], "a-z 0-9 _ -"),
        (["--seat", "j1", "inbox"], "there is no seat 'j1'"),
        (["standup", "rewiew"], "'show', 'now'"),
        (["audit", "nowhere.md"], "is no file"),
        (["status", "--jsno"], "--json"),
        (["--home", "/nonexistent", "status"], "org init /nonexistent"),
    ],
)
def test_bad_usage_is_one_line_exit_2_and_makes_nothing(
    cli: Cli, tiny_home: Home, monkeypatch: pytest.MonkeyPatch, arguments: list[str], said: str
) -> None:
    monkeypatch.chdir(tiny_home.root)
    before = tree(tiny_home.root)
    done = cli(*arguments)
    assert said in one_line(done.err)
    assert (done.code, done.out) == (2, "")
    # the validated copy of a good charter is a cache, not a thing made
    after = {name: data for name, data in tree(tiny_home.root).items() if name != "comms/charter.json"}
    assert {n: d for n, d in after.items() if not n.startswith("comms/leases")} == before


@pytest.mark.parametrize(
    ("old", "new", "said"),
    [
        ("margin: 0.005", "margn: 0.005", "unknown key 'margn' (did you mean 'margin'?)"),
        ("{steps: 10,", "{steps: ten,", "scales.tiny.steps"),
        ("{steps: 10,", "{steps: 0,", "scales.tiny.steps"),
        ("scale: tiny", "scale: huge", "scale 'huge' is not one of scales: tiny"),
        ("frozen: [README.md]", "frozen: [READNE.md]", "frozen: 'READNE.md' matches no file"),
        ("editable: [train.py]", "editable: [src/*.py]", "editable: 'src/*.py' matches no file"),
        ("frozen: [README.md]", "frozen: [../x]", "a path inside the code"),
        ("code: code", "code: nowhere", "is no repository or folder"),
        ("code: code", "code: prompts/charter.yaml", "is no repository or folder"),
        ("metric: {", "metric: [", "line"),
        ("name: val_bpb", "name: val bpb", "metric.name: 'val bpb' cannot be the key"),
        ("direction: lower", "direction: lower, range: [1, 0]", "range is [lowest, highest]"),
        ("direction: lower", "direction: lower, range: [null, null]", "range is [lowest, highest]"),
        ("direction: lower", "direction: lower, range: [0, .inf]", "metric.range"),
        ("command: python", "command: python {seeed}", "nothing is put in for {seeed}; it may hold {seed} {out}"),
        ("command: python", "command: python {foo!r}", "nothing is put in for {foo!r}"),
        ("command: python", "command: python {0}", "nothing is put in for {0}"),
        ("command: python", "command: python {seed:03d}", "nothing is put in for {seed:03d}"),
        ("frozen: [README.md]", "frozen: ['*']", "all that 'train.py' matches is frozen too"),
    ],
)
@pytest.mark.parametrize("verb", [["launch", "--detach"], ["launch", "--dry-run"]])
def test_a_bad_charter_stops_a_launch_before_anything_is_made(
    cli: Cli, tiny_home: Home, verb: list[str], old: str, new: str, said: str
) -> None:
    text = tiny_home.charter.read_text()
    assert old in text
    tiny_home.charter.write_text(text.replace(old, new))
    before = tree(tiny_home.root)
    done = cli("--home", tiny_home.root, *verb)
    assert said in one_line(done.err)
    assert (done.code, done.out) == (2, "")
    assert tree(tiny_home.root) == before


def test_a_role_page_that_is_no_text_stops_a_launch_before_anything_is_made(cli: Cli, tiny_home: Home) -> None:
    page = tiny_home.org_folder("chief-juniors") / "roles" / "junior.md"
    page.write_bytes("Sei höflich.\n".encode("latin-1"))
    before = tree(tiny_home.root)
    done = cli("--home", tiny_home.root, "launch", "--detach")
    assert f"{page} is not UTF-8 text" in one_line(done.err)
    assert (done.code, done.out) == (2, "")
    assert tree(tiny_home.root) == before


@pytest.mark.parametrize("tool", ["git", "tmux"])
def test_a_missing_tool_says_how_to_install_it(
    cli: Cli, tiny_home: Home, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, tool: str
) -> None:
    programs = tmp_path / "bin"
    programs.mkdir()
    for name in {"git", "tmux", "sh", "env"} - {tool}:
        (programs / name).symlink_to(str(shutil.which(name)))
    monkeypatch.setenv("PATH", str(programs))
    before = tree(tiny_home.root)
    done = cli("--home", tiny_home.root, "launch", "--detach")
    assert f"{tool} is not installed" in one_line(done.err)
    assert f"apt-get install {tool}" in done.err
    assert done.code == 1
    assert tree(tiny_home.root) == before


def test_a_missing_agent_program_stops_a_launch_before_anything_is_made(cli: Cli, tiny_home: Home) -> None:
    before = tree(tiny_home.root)
    done = cli("--home", tiny_home.root, "launch", "--agents", "cmd:'no-such-agent --flag'", "--detach")
    assert "'no-such-agent' is not installed" in one_line(done.err)
    assert done.code == 1
    assert tree(tiny_home.root) == before


def test_torch_is_asked_for_only_when_the_charter_needs_it(monkeypatch: pytest.MonkeyPatch, tiny_home: Home) -> None:
    from dataclasses import replace

    from org import charter
    from org.cli import launch
    from org.records import RefereeSpec

    plain = charter.load(tiny_home)
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    launch.need_tools(plain)
    with pytest.raises(MissingTool, match=r"torch is not installed.*pip install"):
        launch.need_tools(replace(plain, referee=RefereeSpec("train:load", "python splits.py {dir}")))


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--code", "nowhere"], "is no repository or folder"),
        (["--code", "code", "--editable", "x.py"], "'x.py' matches no file"),
        (["--code", "code", "--frozen", "x.py"], "'x.py' matches no file"),
        (["--code", "code", "--metric", "loss:down"], "NAME:lower or NAME:higher"),
        (["--code", "code", "--metric", "a b:lower"], "NAME:lower or NAME:higher"),
        (["--code", "code", "--metric", "accuracy:higher:0..one"], "accuracy:higher:0..1"),
        (["--code", "code", "--metric", "accuracy:higher:1..0"], "range is [lowest, highest]"),
        (["--code", "code", "--metric", "a{b:lower"], "cannot be the key"),
        (["--code", "code", "--command", "python {seeed}"], "nothing is put in for {seeed}"),
        (["--code", "code", "--frozen", "train.py"], "all that 'train.py' matches is frozen too"),
        (["--code", "empty"], "it is empty"),
        (["--metric", "loss"], "name it with --code PATH"),
        (["--task", "nowhere.yaml"], "nowhere.yaml"),
        (["--task", "code/train.py"], "code/train.py"),
    ],
)
def test_init_refuses_before_it_writes(
    cli: Cli, tiny_home: Home, monkeypatch: pytest.MonkeyPatch, arguments: list[str], said: str
) -> None:
    monkeypatch.chdir(tiny_home.root)
    (tiny_home.root / "empty").mkdir()
    before = tree(tiny_home.root.parent)
    done = cli("init", "../new home", *arguments)
    assert re.sub(r"\s+", " ", said) in one_line(done.err)
    assert done.code == 2
    assert tree(tiny_home.root.parent) == before


@pytest.mark.parametrize(
    ("metric", "known"),
    [
        ("val_bpb:lower", ("lower", None)),
        ("val_bpb", ("lower", None)),
        ("val_bpb:higher:0..1", ("higher", (0.0, 1.0))),
        ("val_bpb:lower:0..", ("lower", (0.0, None))),
        ("val_bpb:higher:..", ("higher", None)),
    ],
)
def test_init_writes_what_the_metric_can_be(
    cli: Cli, tiny_home: Home, odd_path: Path, metric: str, known: tuple[str, tuple[float | None, float | None] | None]
) -> None:
    from org import charter

    words = ["--code", tiny_home.root / "code", "--command", "bash -c 'echo ${HOME} {seed}'", "--metric", metric]
    assert cli("init", odd_path / "made", *words).code == 0
    made = charter.load(Home(odd_path / "made")).metric
    assert (made.direction, made.range) == known
    assert charter.load(Home(odd_path / "made")).metric == made, "as the copy that is kept says it"


def test_init_refuses_a_home_and_a_file(cli: Cli, tiny_home: Home, odd_path: Path) -> None:
    home = tiny_home
    assert "is a home already" in one_line(cli("init", home.root).err)
    assert "is a file; name a folder" in one_line(cli("init", home.charter / "x").err)
    inside = cli("init", home.root / "code" / "new", "--code", home.root / "code")
    assert "lies in the code" in one_line(inside.err) and not (home.root / "code" / "new").exists()
    (odd_path / "half" / "comms").mkdir(parents=True)
    (odd_path / "half" / "comms" / "x").touch()
    assert "is there and not empty" in one_line(cli("init", odd_path / "half").err)


def test_json_errors_go_to_stderr_and_refusals_keep_their_document(
    cli: Cli, tiny_home: Home, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tiny_home.root)
    done = cli("run", "-m", "why", "--json")
    assert (done.code, done.out) == (2, "")
    one_line(done.err)
    assert cli("seat", "me", "--json").json["branch"] == "program/main/me"
    monkeypatch.chdir(tiny_home.worktree("me"))
    done = cli("run", "-m", "nothing was changed", "--json")
    assert done.code == 3
    assert done.json["experiment"] is None
    assert done.json["violations"]
    assert one_line(done.err).startswith("org: refused: ")


@pytest.mark.parametrize("named", [True, False])
def test_a_full_disk_names_the_place_and_what_to_do(
    cli: Cli, tiny_home: Home, monkeypatch: pytest.MonkeyPatch, named: bool
) -> None:
    def full(path: Path, content: str) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), *([str(path)] if named else []))

    monkeypatch.setattr("org.files.replace", full)
    for arguments in (["--home", tiny_home.root, "idea", "x"], ["idea", "x", "--home", tiny_home.root]):
        done = cli(*arguments)
        place = tiny_home.ideas if named else tiny_home.root
        assert one_line(done.err).startswith(f"org: {place}")
        mount = next(p for p in tiny_home.root.parents if os.path.ismount(p))
        assert done.err.endswith(f": No space left on device (file system {mount}); make room and run it again\n")
        assert done.code == 1
