"""The entry points in scripts/: they parse, refuse what they do not know, and the second set-up takes no time."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from waiting import wait_for

ROOT = Path(__file__).parents[2]
SCRIPTS = (
    "scripts/setup",
    "scripts/demo",
    "scripts/screenshot",
    "scripts/test",
    "scripts/check",
    "scripts/bench",
    ".ci/run",
)


@pytest.mark.parametrize("name", SCRIPTS)
def test_a_script_is_executable_and_parses(name: str) -> None:
    path = ROOT / name
    assert path.stat().st_mode & 0o111
    subprocess.run(["bash", "-n", str(path)], check=True)


def checkout(folder: Path) -> Path:
    """A checkout whose .venv holds stand-ins for python and org: set-up is only asked what it would do."""
    (folder / "scripts").mkdir(parents=True)
    shutil.copy(ROOT / "scripts" / "setup", folder / "scripts")
    shutil.copy(ROOT / "pyproject.toml", folder)
    (folder / ".venv" / "bin").mkdir(parents=True)
    for name in ("python", "org"):
        program = folder / ".venv" / "bin" / name
        program.write_text('#!/bin/sh\necho "$@" >> "$(dirname "$0")/../calls"\n')
        program.chmod(0o755)
    return folder


def setup(folder: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    argv = ["bash", str(folder / "scripts" / "setup"), *arguments]
    return subprocess.run(argv, capture_output=True, text=True, check=False)


def test_a_second_setup_does_nothing_until_the_project_changes(odd_path: Path) -> None:
    folder = checkout(odd_path / "a checkout")
    calls = folder / ".venv" / "calls"
    first = setup(folder)
    assert first.returncode == 0, first.stderr
    assert "done in" in first.stdout
    assert "-e .[train,dev]" in calls.read_text()
    calls.unlink()
    started = time.monotonic()
    assert setup(folder).stdout == ""
    assert setup(folder, "dev").stdout == ""  # all holds dev too
    assert time.monotonic() - started < 3
    assert not calls.exists()
    with (folder / "pyproject.toml").open("a") as file:
        file.write("# changed\n")
    assert "done in" in setup(folder).stdout


def test_setup_shows_pips_words_only_when_it_fails(odd_path: Path) -> None:
    folder = checkout(odd_path / "a checkout")
    python = folder / ".venv" / "bin" / "python"
    python.write_text("#!/bin/sh\n[ \"$3\" = --version ] && exit 0\necho 'ERROR: no such version'\nexit 1\n")
    done = setup(folder)
    assert done.returncode == 1
    assert "ERROR: no such version" in done.stderr
    assert done.stderr.splitlines()[-1].startswith("setup: pip could not install")
    assert setup(folder, "everything").returncode == 2


# Stand-ins of the demo: `org` notes what it is asked and answers from files, `python` is the real one but for the trainer.
DEMO_ORG = """\
#!/bin/sh
here=$(dirname "$0")/..
echo "$@" >> "$here/calls"
case "$*" in
"status --json") cat "$here/status" ;;
"results --check") exit "$(cat "$here/check")" ;;
launch*) exit "$(cat "$here/launch")" ;;
esac
"""
DEMO_PYTHON = """\
#!/bin/sh
case "$*" in
*nanochat.prepare*) exit 0 ;;
*nanochat.train*) exec /bin/sh "$(dirname "$0")/../train" "$@" ;;
esac
exec python3 "$@"
"""


class Demo:
    """scripts/demo in a folder of stand-ins."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.tmp = folder, folder / "tmp"
        for name in ("scripts", ".venv/bin", "comms/standup", "comms/plot", "tmp"):
            (folder / name).mkdir(parents=True)
        shutil.copy(ROOT / "scripts" / "demo", folder / "scripts")
        (folder / "scripts" / "setup").write_text("#!/bin/sh\n")
        (folder / "comms" / "ledger.jsonl").write_text("")
        for name, text in (("org", DEMO_ORG), ("python", DEMO_PYTHON)):
            (folder / ".venv" / "bin" / name).write_text(text)
        for program in (folder / "scripts" / "setup", *(folder / ".venv" / "bin").iterdir()):
            program.chmod(0o755)
        self.answers(status='{"org": {"running": false}}', check="0", launch="0", train="echo tokens_per_s: 30000")

    def answers(self, **texts: str) -> None:
        for name, text in texts.items():
            (self.folder / ".venv" / name).write_text(text)

    def start(self) -> subprocess.Popen[str]:
        return subprocess.Popen(
            ["bash", str(self.folder / "scripts" / "demo")],
            env={**os.environ, "TMPDIR": str(self.tmp)},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            start_new_session=True,
        )

    def run(self) -> tuple[int, str, str]:
        demo = self.start()
        out, err = demo.communicate(timeout=30)
        return demo.returncode, out, err

    @property
    def calls(self) -> list[str]:
        path = self.folder / ".venv" / "calls"
        return path.read_text().splitlines() if path.is_file() else []


@pytest.fixture
def demo(odd_path: Path) -> Iterator[Demo]:
    made = Demo(odd_path / "demo")
    yield made
    assert list(made.tmp.iterdir()) == []  # the probe's folder is gone, however it ended


def test_a_demo_ends_the_organisation_that_it_started(demo: Demo) -> None:
    code, out, err = demo.run()
    assert (code, err) == (0, "")
    assert "Bring it back with" in out
    assert [line.split()[0] for line in demo.calls] == ["status", "launch", "results", "results", "stop"]


@pytest.mark.parametrize(
    ("answers", "code", "says", "calls"),
    [
        ({"status": '{"org": {"running": true}}'}, 4, "already running", ["status"]),
        ({"train": "echo no such preset >&2; exit 2"}, 1, "no such preset", ["status"]),
        ({"launch": "4"}, 4, "", ["status", "launch"]),  # somebody started another one meanwhile
        ({"launch": "1"}, 1, "", ["status", "launch", "stop"]),
        ({"check": "1"}, 1, "", ["status", "launch", "results", "results", "stop"]),
    ],
)
def test_a_demo_that_cannot_go_on_says_so_in_its_exit_code(
    demo: Demo, answers: dict[str, str], code: int, says: str, calls: list[str]
) -> None:
    demo.answers(**answers)
    done, out, err = demo.run()
    assert (done, len(err.splitlines())) == (code, 1 if says else 0)
    assert says in err
    assert "Bring it back" not in out
    assert [line.split()[0] for line in demo.calls] == calls


def test_an_interrupted_probe_leaves_no_process_and_no_folder(demo: Demo) -> None:
    demo.answers(train='echo $$ >> "$TMPDIR/pids"; exec sleep 600')
    pids = demo.tmp / "pids"
    running = demo.start()
    wait_for(
        lambda: pids.is_file() and len(pids.read_text().split()) >= len(os.sched_getaffinity(0)),
        what="the probe to start",
    )
    running.send_signal(signal.SIGINT)
    running.communicate(timeout=60)
    assert running.returncode == 130
    assert demo.calls == ["status --json"]  # nothing was launched, so nothing is stopped
    assert [pid for pid in pids.read_text().split() if Path(f"/proc/{pid}").exists()] == []
    pids.unlink()
