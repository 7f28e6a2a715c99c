"""The gate from a terminal, with no agents and no office: a home, a seat, an experiment, its verdict, the pages."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
from tiny import STATUS_SEAT

from org import charter, strictyaml
from org.cli import main, view
from org.cli.init import derive
from org.home import Home
from org.lab import record
from org.world import git

from .conftest import Cli

ORG = {"home", "running", "since", "isolation", "office_pid"}
VERDICT = {"outcome", "tier", "claim", "effect", "se", "z", "n", "matched_on", "trust", "reasons"}


def turn(home: Home, seat: str, name: str, value: str) -> None:
    path = home.worktree(seat) / "train.py"
    lines = path.read_text().splitlines(keepends=True)
    path.write_text("".join(f"{name} = {value}\n" if line.startswith(f"{name} = ") else line for line in lines))


def test_an_empty_home_has_a_whole_status(cli: Cli, tiny_home: Home) -> None:
    status = cli("--home", tiny_home.root, "status", "--json").json
    assert set(status) >= {"org", "seats", "devices", "queue", "best"}
    assert set(status["org"]) == ORG
    assert (status["org"]["home"], status["org"]["running"]) == (str(tiny_home.root), False)
    assert status["seats"] == status["queue"] == []
    assert [set(device) for device in status["devices"]] == [{"name", "kind", "holder", "run"}] * len(status["devices"])
    assert status["best"] == {"tentative": None, "verified": None}
    assert cli("--home", tiny_home.root, "results", "--json").json == []
    assert cli("--home", tiny_home.root, "results", "--check", "--json").json == {
        "ok": True,
        "lines": 0,
        "problems": [],
    }
    assert "not running" in cli("--home", tiny_home.root, "status").out


def test_a_person_runs_an_experiment_with_no_org_running(
    cli: Cli, tiny_home: Home, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tiny_home.root)
    seat = cli("seat", "me", "--json").json
    assert seat["worktree"] == str(tiny_home.worktree("me"))
    monkeypatch.chdir(seat["worktree"])  # standing there says who acts
    turn(tiny_home, "me", "MATRIX_LR", "0.04")
    dry = cli("run", "-m", "the best rate", "--dry", "--json").json
    assert dry["experiment"] is None
    assert dry["contract"]["knobs"][0]["new"] == 0.04
    done = cli("run", "-m", "the best rate", "--expect", "-0.08", "--json").json
    assert set(done) == {"experiment", "violations", "verdict", "runs", "notices", "demands", "owed_scales"}
    assert done["experiment"] == "E0001"
    assert set(done["verdict"]) == VERDICT
    assert (done["verdict"]["outcome"], done["verdict"]["tier"]) == ("win", "tentative")
    assert done["verdict"]["trust"] == "reported"
    assert {"run", "arm", "seed", "status", "metric"} <= set(done["runs"][0])

    (row,) = cli("results", "--json").json
    assert row["knobs"] == [{"name": "MATRIX_LR", "old": 0.02, "new": 0.04}]
    assert row["verdict"] == done["verdict"]
    assert f"{row['verdict']['effect']:+.4f} ± {row['verdict']['se']:.4f}" in cli("results").out
    assert "win (tentative, reported)" in cli("results", "--kept").out
    assert cli("results", "--csv").out.splitlines()[1].startswith("E0001,main,me,")
    score = cli("results", "--predictions", "--json").json[0]
    assert (score["by"], score["who"], score["n"], score["right"]) == ("seat", "me", 1, 1)
    assert score["error"] == pytest.approx(abs(row["verdict"]["effect"] + 0.08))
    assert "1/1 (100%)" in cli("results", "--predictions").out
    check = cli("results", "--check", "--json").json
    assert check["ok"]
    assert check["lines"] > 5
    assert cli("brief").out.count("E0001 win (tentative, reported)") == 1
    assert cli("status", "--json").json["best"]["tentative"]["experiment"] == "E0001"
    seats = cli("status", "--json").json["seats"]
    assert [list(row) for row in seats] == [list(STATUS_SEAT)]

    page = cli("standup", "now", "--json").json
    assert Path(page["path"]).parent == tiny_home.standups
    assert "MATRIX_LR 0.02→0.04" in page["text"]
    lie = tiny_home.root / "lie.md"
    lie.write_text("E0001 had an effect of -0.5000, and there were 20 experiments.\n")
    audit = cli("audit", lie, "--json")
    assert (audit.code, audit.json["ok"]) == (1, False)
    assert {mark["kind"] for mark in audit.json["marks"]} == {"contradicted"}
    assert cli("stack", "main", "--no-wait", "--json").json["members"] == ["E0001"]
    assert cli("stack", "main", "--no-wait", "--json").json["experiment"] is None


def test_the_document_says_what_a_person_reads(cli: Cli, tiny_home: Home, monkeypatch: pytest.MonkeyPatch) -> None:
    rungs = "  tiny: {steps: 10, bank: 3, deadline_s: 30}\n"
    text = tiny_home.charter.read_text()
    tiny_home.charter.write_text(text.replace(rungs, f"{rungs}  demo: {{steps: 20, bank: 3, deadline_s: 30}}\n"))
    watched = {"id": "steps", "path": "train.py", "anchor": "MATRIX_LR", "why": "w", "status": "settled"}
    tiny_home.intents.write_text(strictyaml.dump([{**watched, "demand": "both forms", "scales": ["demo"]}]))
    monkeypatch.chdir(tiny_home.root)
    cli("seat", "me")
    turn(tiny_home, "me", "MATRIX_LR", "0.04")
    head, tree = record.program_head(tiny_home, "main")
    later = git.commit(tiny_home.record, tree, [head], "the head moved")
    git.update_ref(tiny_home.record, record.main_ref("main"), later)
    arguments = ("--seat", "me", "run", "-m", "the best rate", "--cites", "steps", "--json")
    for done in (cli(*arguments, "--dry").json, cli(*arguments, "--no-wait").json):
        assert ["the head of main moved" in notice for notice in done["notices"]] == [True]
        assert done["demands"] == ["steps: both forms"]
        assert done["owed_scales"] == ["demo"]


def test_a_crash_is_exit_5_and_a_scratch_try_leaves_no_line(
    cli: Cli, tiny_home: Home, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tiny_home.root)
    cli("seat", "me")
    monkeypatch.chdir(tiny_home.worktree("me"))
    tried = cli("run", "--scratch")
    assert (tried.code, tried.err) == (0, "")
    assert "val_bpb: 1." in tried.out
    assert "step 4 " in tried.out and "step 5 " not in tried.out
    assert not tiny_home.ledger.exists()
    assert cli("run", "--scratch", "--", sys.executable, "-c", "raise SystemExit(3)").code == 5
    monkeypatch.setenv("PATH", str(tiny_home.root))  # no python there: this one is meant
    named = cli("run", "--scratch", "--", "python", "-c", "import sys; print(sys.executable)")
    assert (named.err, named.out.strip()) == ("", sys.executable)
    missing = cli("run", "--scratch", "--", "no-such-program")
    assert (missing.code, missing.err) == (
        5,
        "org: no-such-program: No such file or directory; it cannot be started\n",
    )
    monkeypatch.undo()
    monkeypatch.chdir(tiny_home.worktree("me"))
    turn(tiny_home, "me", "SLEEP_S", "0 / 0")
    done = cli("run", "-m", "divide by zero")
    assert done.code == 5
    assert done.err.startswith("org: E0001 crash")


def test_what_a_sync_sets_aside_is_named(cli: Cli, tiny_home: Home) -> None:
    home = ("--home", tiny_home.root)
    assert cli(*home, "seat", "me", "--json").json["saved"] == []
    turn(tiny_home, "me", "MATRIX_LR", "0.04")
    [saved] = cli(*home, "seat", "me", "--sync", "--json").json["saved"]
    assert "MATRIX_LR = 0.04" in (Path(saved) / "train.py").read_text()
    turn(tiny_home, "me", "MATRIX_LR", "0.05")
    said = cli(*home, "seat", "me", "--program", "optimizer").out
    assert f"what was not filed is in {tiny_home.seat('me')}/saved-" in said
    assert "not filed" not in cli(*home, "seat", "me", "--sync").out


def test_a_scratch_try_is_ended_at_its_limit(tiny_home: Home) -> None:
    from org.cli.scratch import scratch
    from org.errors import RunFailed
    from org.team import seats

    seat = seats.create(tiny_home, "me")
    with pytest.raises(RunFailed, match="its limit"):
        scratch(tiny_home, seat, [sys.executable, "-c", "import time; time.sleep(60)"], is_json=False, limit_s=0.3)


def test_what_a_scratch_try_leaves_running_cannot_keep_the_device(cli: Cli, tiny_home: Home) -> None:
    from org.world import devices, process

    cli("--home", tiny_home.root, "seat", "me")
    daemon = (
        "import os, time\nif os.fork() == 0:\n    os.setsid()\n    if os.fork() == 0: time.sleep(60)\n    os._exit(0)\n"
    )
    done = cli("--home", tiny_home.root, "run", "--seat", "me", "--scratch", "--", sys.executable, "-c", daemon)
    assert done.code == 0, done.err
    assert process.find_marked(f"ORG_KEY={tiny_home.key}") == []
    assert [devices.holder(lock) for lock in tiny_home.leases.glob("cpu*.lock")] == [None]


@pytest.mark.slow
@pytest.mark.parametrize(
    ("command", "words", "is_short"),
    [
        ("python train.py --steps {steps} --seed {seed}", ["train.py", "--steps", "5", "--seed", "1"], True),
        (
            "python -m nanochat.train --preset {scale} --out {out}",
            ["-m", "nanochat.train", "--preset", "tiny", "--out", "o", "--steps", "5"],
            True,
        ),
        ("python theirs.py --tokens {tokens}", ["theirs.py", "--tokens", "5120"], True),
        ("python3 theirs.py --seed {seed}", ["theirs.py", "--seed", "1"], False),
    ],
)
def test_a_scratch_try_takes_five_steps_or_says_that_it_cannot(
    cli: Cli, tiny_home: Home, command: str, words: list[str], is_short: bool
) -> None:
    from org.cli import scratch

    line = "command: python train.py --seed {seed} --out {out} --steps {steps}"
    tiny_home.charter.write_text(tiny_home.charter.read_text().replace(line, f"command: {command}"))
    tiny_home.charter.write_text(tiny_home.charter.read_text().replace("steps: 10,", "steps: 10, tokens: 10240,"))
    assert scratch.default_command(charter.load(tiny_home), Path("o")) == [sys.executable, *words]
    cli("--home", tiny_home.root, "seat", "me")
    tried = cli("--home", tiny_home.root, "--seat", "me", "run", "--scratch")
    assert ("runs whole, for at most 60 s" in tried.err) is not is_short


def test_in_a_pane_nobody_acts_as_another_seat(cli: Cli, tiny_home: Home, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tiny_home.root)
    for name in ("j1", "j2"):
        cli("seat", name)
    monkeypatch.setenv("ORG_SEAT", "j1")
    for words in (
        ["--seat", "j2", "send", "j1", "x"],
        ["inbox", "--seat", "j2"],
        ["--seat", "human", "send", "j1", "x"],
    ):
        said = cli(*words)
        assert (said.code, said.out, said.err.count("\n")) == (2, "", 1)
        assert "this is j1's pane" in said.err
    assert cli("--seat", "j1", "inbox").code == 0


def test_mail_ideas_and_pages_need_no_office(cli: Cli, tiny_home: Home, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tiny_home.root)
    cli("seat", "me")
    sent = cli("send", "me", "look at E0001", "--kind", "task", "--about", "E0001", "--json").json
    assert {"id", "delivery", "reason"} <= set(sent)
    assert cli("status", "--json").json["seats"][0]["mail_waiting"] == 1
    (letter,) = cli("--seat", "me", "inbox", "--json").json
    assert set(letter) == {"id", "from", "verified", "to", "kind", "about", "reply_to", "created", "body"}
    assert (letter["id"], letter["from"], letter["verified"]) == (sent["id"], "human", True)
    assert cli("inbox", "--seat", "me", "--json").json == []
    assert "look at E0001" in cli("inbox", sent["id"], "--seat", "me").out
    assert cli("idea", "share the embedding").out.strip() == "I0001"
    assert "share the embedding" in cli("idea").out
    cli("wiki", "Muon wants a warm-up")
    assert cli("wiki", "find", "muon", "--json").json[0]["title"] == "Muon wants a warm-up"
    assert cli("hold", "me").code == 0
    assert cli("status", "--json").json["seats"][0]["held"] is True
    cli("hold", "me", "--off")
    assert cli("status", "--json").json["seats"][0]["held"] is False


def test_init_makes_a_home_for_somebody_elses_code(cli: Cli, tiny_home: Home, odd_path: Path) -> None:
    made = Home(odd_path / "a new home")
    done = cli("init", made.root, "--code", tiny_home.root / "code", "--frozen", "README.md", "--metric", "val_bpb")
    assert (done.code, done.err) == (0, "")
    loaded = charter.load(made)
    assert loaded.frozen == ("README.md",)
    assert loaded.referee is None
    assert (made.comms.is_dir(), made.worktrees.is_dir()) == (True, True)
    assert cli("--home", made.root, "seat", "me").code == 0
    assert (made.worktree("me") / "train.py").is_file()
    assert "- when-refused: " in cli("--home", made.root, "--seat", "me", "brief").out
    assert [p.name for p in odd_path.iterdir() if p.name.startswith(".")] == []


def test_init_without_code_is_this_installation(cli: Cli, odd_path: Path) -> None:
    made = Home(odd_path / "mine")
    assert cli("init", made.root, "--json").json == {"home": str(made.root)}
    assert Path(charter.load(made).code).is_dir()
    assert made.org_folder("chief-juniors").is_dir() and (made.skills / "when-refused.md").is_file()
    other = Home(odd_path / "theirs")
    assert cli("init", other.root, "--task", made.charter).code == 0
    assert charter.load(other) == charter.load(made)


@pytest.mark.parametrize("metric", ["loss", "loss:lower", "acc:higher"])
def test_a_derived_charter_is_valid(tmp_path: Path, metric: str) -> None:
    from org import schema

    path = tmp_path / "charter.yaml"
    path.write_text(derive(tmp_path / "co: de's", "python 'my train.py' --n {steps}", metric, ("a.py",), ()))
    plain = schema.charter(path)
    assert plain["metric"]["direction"] == ("higher" if metric == "acc:higher" else "lower")
    assert plain["code"] == str(tmp_path / "co: de's")


def test_a_dry_launch_prints_every_place_and_makes_nothing(cli: Cli, tiny_home: Home) -> None:
    before = sorted(tiny_home.root.rglob("*"))
    rows = cli("--home", tiny_home.root, "launch", "--chief", 1, "--juniors", 8, "--dry-run", "--json").json["seats"]
    assert [row["name"] for row in rows] == ["chief", *(f"j{n}" for n in range(1, 9))]
    out = cli("--home", tiny_home.root, "launch", "--chief", 0, "--juniors", 2, "--dry-run").out
    for text in ("program/j1/j1", "program/j2/j2", str(tiny_home.worktree("j2")), "1.1", "cpu0"):
        assert text in out
    assert sorted(tiny_home.root.rglob("*")) == before


def test_a_reader_that_leaves_and_an_interrupt_are_quiet(tiny_home: Home) -> None:
    environment = {**os.environ, "PYTHONPATH": str(Path(main.__file__).parents[2])}
    line = f"{sys.executable} -m org launch --help | true; exit ${{PIPESTATUS[0]}}"
    done = subprocess.run(["bash", "-c", line], capture_output=True, text=True, env=environment, check=False)
    assert done.stderr == ""
    code = "from org.cli import main, status\ndef stop(home): raise KeyboardInterrupt\nstatus.collect = stop\nmain.main(['status'])"
    argv = [sys.executable, "-c", code]
    done = subprocess.run(argv, capture_output=True, text=True, cwd=tiny_home.root, env=environment, check=False)
    assert done.returncode == 130
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize(
    ("text", "columns", "shown"),
    [("abc", 3, "abc"), ("abcd", 3, "ab…"), ("日本語", 5, "日本…"), ("a\x1b[2Jb", 9, "a\ufffd[2Jb")],
)
def test_a_cell_is_harmless_and_never_wider_than_its_column(text: str, columns: int, shown: str) -> None:
    assert view.cut(text, columns) == shown
    assert view.width(view.cut(text, columns)) <= columns


def test_what_a_person_reads_is_held_against_the_ledger(cli: Cli, tiny_home: Home) -> None:
    home = ("--home", tiny_home.root)
    assert cli(*home, "seat", "me").code == 0
    cli(*home, "--seat", "me", "send", "human", "12 experiments done, and {E0001.effect}")
    body = "12 experiments [the ledger: 0 experiments] done, and [E0001.effect: no verdict]"
    assert [letter["body"] for letter in cli(*home, "inbox", "--json").json] == [body]
    added = cli(*home, "wiki", "3 wins so far")
    assert "3 wins is contradicted; the ledger: 0 wins" in added.err
    assert Path(added.out.strip()).read_text().endswith("3 wins [the ledger: 0 wins] so far\n")
