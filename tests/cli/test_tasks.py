"""`--task`: by name or by file, adopted once, refused where another task has begun, gone on with from then on."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from org import charter, files
from org.cli import tasks
from org.errors import BadInput
from org.home import Home
from org.lab import record

from .conftest import Cli, tree

CLASSIFIER = tasks.INSTALLATION / "prompts" / "tasks" / "classifier"


@pytest.fixture
def no_launch(monkeypatch: pytest.MonkeyPatch) -> None:
    """Everything up to the first process: panes are the business of other tests."""
    from org.team import launch

    monkeypatch.setattr(launch, "launch", lambda home, plan, say: None)


def one_line(text: str) -> str:
    assert len(text.splitlines()) == 1, text
    return text


@pytest.mark.parametrize(("name", "metric"), [("kernel", ("seconds", "lower")), ("classifier", ("accuracy", "higher"))])
def test_init_makes_a_home_that_works_on_the_task(cli: Cli, odd_path: Path, name: str, metric: tuple[str, str]) -> None:
    made = Home(odd_path / "made here")
    done = cli("init", made.root, "--task", name)
    assert done.code == 0
    assert str(made.charter) in done.out
    assert made.task_file.read_text() == f"{name}\n"
    loaded = charter.load(made)
    assert (loaded.metric.name, loaded.metric.direction) == metric
    assert record.code_path(made, loaded).is_relative_to(made.root)  # whole by itself: it can be moved and copied
    assert cli("--home", made.root, "seat", "me").code == 0
    assert cli("--home", made.root, "doctor", "--json").json["ok"]
    assert (made.worktree("me") / loaded.editable[0]).is_file()
    assert f"Metric {metric[0]}, {metric[1]} is better" in cli("--home", made.root, "--seat", "me", "brief").out


def test_a_launch_adopts_a_task_in_a_home_that_has_begun_nothing(cli: Cli, tiny_home: Home, no_launch: None) -> None:
    assert charter.load(tiny_home).metric.name == "val_bpb"
    launch = ("--home", tiny_home.root, "launch", "--juniors", 1, "--devices", "cpu:1", "--detach")
    assert cli(*launch, "--task", "kernel").code == 0
    assert charter.load(tiny_home).metric.name == "seconds"
    assert cli(*launch, "--task", "classifier").code == 0  # still nothing begun
    assert charter.load(tiny_home).metric.name == "accuracy"
    record.ensure_record(tiny_home, charter.load(tiny_home))
    for again in (launch, (*launch, "--task", "classifier")):
        assert cli(*again).code == 0
    assert charter.load(tiny_home).metric.name == "accuracy"
    assert tiny_home.task_file.read_text() == "classifier\n"


def test_a_home_at_work_on_another_task_refuses(cli: Cli, tiny_home: Home, no_launch: None) -> None:
    record.ensure_record(tiny_home, charter.load(tiny_home))
    before = tree(tiny_home.root)
    for more in ((), ("--dry-run",)):
        done = cli("--home", tiny_home.root, "launch", "--task", "kernel", "--detach", *more)
        assert done.code == 4
        assert "`org init DIR --task kernel`, then `org --home DIR launch`" in one_line(done.err)
    assert tree(tiny_home.root) == before


def test_a_dry_launch_with_a_task_writes_nothing(cli: Cli, tiny_home: Home) -> None:
    before = tree(tiny_home.root)
    done = cli("--home", tiny_home.root, "launch", "--task", "kernel", "--juniors", 2, "--dry-run")
    assert (done.code, "program/main/j2" in done.out) == (0, True)
    assert tree(tiny_home.root) == before


def test_a_homes_own_task_goes_before_the_installations(cli: Cli, tiny_home: Home, no_launch: None) -> None:
    shutil.copytree(CLASSIFIER, tiny_home.tasks / "kernel")
    own = tiny_home.task_charter("kernel")
    own.write_text(own.read_text().replace("tasks/classifier/code", "tasks/kernel/code"))
    assert tasks.find("kernel", tiny_home) == own.parent
    assert cli("--home", tiny_home.root, "launch", "--task", "kernel", "--juniors", 1, "--detach").code == 0
    assert charter.load(tiny_home).metric.name == "accuracy"


@pytest.mark.parametrize("verb", ["launch", "init"])
def test_an_unknown_task_is_bad_input_and_says_which_there_are(
    cli: Cli, tiny_home: Home, odd_path: Path, verb: str
) -> None:
    before = tree(odd_path)
    words = ["--home", tiny_home.root, "launch"] if verb == "launch" else ["init", odd_path / "new"]
    done = cli(*words, "--task", "kernal")
    assert done.code == 2
    line = one_line(done.err)
    assert "did you mean 'kernel'?" in line
    assert "classifier, kernel" in line
    assert tree(odd_path) == before


def test_a_file_is_a_task_as_before(cli: Cli, tiny_home: Home, odd_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(odd_path)
    shutil.copyfile(tiny_home.charter, odd_path / "mine")  # no ending, and a word that could be a name
    assert cli("--home", tiny_home.root, "launch", "--task", "mine", "--dry-run").code == 0
    assert cli("--home", tiny_home.root, "launch", "--task", CLASSIFIER / "charter.yaml", "--dry-run").code == 2
    monkeypatch.chdir(tiny_home.root)
    assert cli("init", odd_path / "theirs", "--task", tiny_home.charter).code == 0
    assert not Home(odd_path / "theirs").task_file.exists()


def test_a_named_task_brings_its_own_code(cli: Cli, tiny_home: Home, odd_path: Path) -> None:
    done = cli("init", odd_path / "new", "--task", "kernel", "--code", tiny_home.root / "code")
    assert (done.code, "brings its own code" in one_line(done.err)) == (2, True)


def test_a_task_file_that_names_nothing_is_an_error_and_never_another_task(cli: Cli, tiny_home: Home) -> None:
    for text, says in (("../../etc\n", "is not allowed"), ("gone\n", "put it back, or remove")):
        files.replace(tiny_home.task_file, text)
        done = cli("--home", tiny_home.root, "results")
        assert charter_error(tiny_home, says), text
        assert "Traceback" not in done.err
    files.replace(tiny_home.task_file, "\n")  # empty: nothing was adopted
    assert charter.load(tiny_home).metric.name == "val_bpb"


def charter_error(home: Home, says: str) -> bool:
    with pytest.raises(BadInput, match=says):
        charter.load(home)
    return True


def test_every_ready_made_task_is_whole() -> None:
    there = tasks.known(Home(tasks.INSTALLATION))
    assert list(there) == ["classifier", "kernel"]
    from org import schema
    from org.agents import knobs

    for name, folder in there.items():
        home = Home(tasks.INSTALLATION, as_task=name)
        loaded = charter.from_plain(schema.charter(home.charter))
        code = record.read_code(home, loaded)
        assert (folder / "README.md").is_file()
        assert {knob.group for knob in loaded.knobs.values()} == set(loaded.programs)
        assert {p for p in code if not p.startswith(f"{name}/")} == set()
        for knob in loaded.knobs.values():
            value = knobs.read(code[knob.path].decode(), knob.name)
            assert value is not None, knob.name
            assert not knobs.is_outside(knob, value), knob.name
            assert not knob.choices or any(knobs.same(value, choice) for choice in knob.choices), knob.name


def test_what_python_left_behind_is_not_copied(tmp_path: Path) -> None:
    for place in ("code/kernel.py", "code/__pycache__/kernel.pyc"):
        files.replace(tmp_path / "from" / place, "x")
    tasks.copy(tmp_path / "from", tmp_path / "to")
    assert [p.name for p in (tmp_path / "to").rglob("*") if p.is_file()] == ["kernel.py"]


KILLED = """
import os, pathlib, shutil, sys
from org.cli import tasks
from org.home import Home
plain = shutil.copy2
def copy2(source, to, **more):
    plain(source, to, **more)
    if pathlib.Path(source).name == "charter.yaml":
        os.kill(os.getpid(), 9)
shutil.copytree.__defaults__ = tuple(copy2 if value is plain else value for value in shutil.copytree.__defaults__)
tasks.adopt(Home(pathlib.Path(sys.argv[1])), pathlib.Path(sys.argv[2]))
"""


def test_a_copy_killed_halfway_is_no_task_and_the_next_one_removes_it(
    cli: Cli, tiny_home: Home, no_launch: None
) -> None:
    done = subprocess.run([sys.executable, "-c", KILLED, tiny_home.root, CLASSIFIER], check=False)
    assert done.returncode == -9
    assert [path.name for path in tiny_home.tasks.iterdir()] == [".classifier.copy"]
    assert tasks.known(tiny_home) == {}
    assert charter.load(tiny_home).metric.name == "val_bpb"
    launch = ("--home", tiny_home.root, "launch", "--juniors", 1, "--devices", "cpu:1", "--detach")
    assert cli(*launch, "--task", "classifier").code == 0
    assert [path.name for path in tiny_home.tasks.iterdir()] == ["classifier"]
    assert not {p for p in tree(CLASSIFIER) if "__pycache__" not in str(p)} - set(tree(tiny_home.tasks / "classifier"))
