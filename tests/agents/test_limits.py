"""What a seat's program may not touch, as tools name it."""

from __future__ import annotations

import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
from tiny import make_tiny_home

from org import charter, files
from org.agents import limits
from org.home import Home


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Home:
    home = make_tiny_home(tmp_path_factory.mktemp("h") / "a home's place")
    charter.load(home)  # as every launch does: the copy that is read here
    for seat in ("j1", "j2"):
        (home.worktree(seat) / "sub").mkdir(parents=True)
        (home.seat(seat)).mkdir(parents=True)
    (home.worktree("j1") / "out").symlink_to(home.ledger)
    return home


@pytest.mark.parametrize(
    "command",
    [
        "cat README.md | head -50",
        "sed -i 's/0.02/0.03/' train.py && git diff --stat",
        "python train.py --steps 5 2>&1 | tee /tmp/log.txt",
        "python - <<'EOF'\nfrom pathlib import Path\np = Path('train.py')\np.write_text(p.read_text().replace('a', 'b'))\nEOF",
        "cat > notes.md <<'EOF'\nI do not touch README.md; the ledger isn't mine\nEOF",
        'org run -m "the README.md says > 0.03" --expect -0.01 --no-wait',
        "org inbox; org send chief 'done'",
        "ls $ORG_HOME/comms/wiki && tail -5 $ORG_HOME/comms/results.tsv",
        "cp README.md /tmp/x.md; mkdir -p sub/deep; rm -rf sub/deep",
        'if [ 3 -gt 2 ]; then echo "it\'s > fine"; fi',
        "git checkout -- README.md",
        "grep -rn 'frozen' . > /dev/null 2>&1",
        "echo 'an open quote",
    ],
)
def test_ordinary_work_is_let_through(home: Home, command: str) -> None:
    assert limits.refusal(home.root, "j1", "shell", {"command": command}) is None


@pytest.mark.parametrize(
    ("command", "says"),
    [
        ("echo x >> README.md", "frozen"),
        ("sed -i s/a/b/ README.md", "frozen"),
        ("cd sub && mv ../README.md ../R", "frozen"),
        ("rm *.md", "frozen"),
        ("rm [R]EADME.m?", "frozen"),
        ("bash -lc 'truncate -s0 README.md'", "frozen"),
        ("python3 -c \"open('README.md', 'w').write('')\"", "frozen"),
        ("python - <<EOF\nimport pathlib\npathlib.Path('README.md').write_text('x')\nEOF", "frozen"),
        ("echo $(cp train.py README.md)", "frozen"),
        ("apply_patch <<'EOF'\n*** Begin Patch\n*** Update File: README.md\n*** End Patch\nEOF", "frozen"),
        ("echo '{}' >> \"$ORG_HOME/comms/ledger.jsonl\"", "organisation's own"),
        ("echo '{}' >> out", "organisation's own"),
        ("timeout 5 tee -a ../../comms/ledger.jsonl < x", "organisation's own"),
        ("cat ../j2/train.py", "another seat"),
        ("cd ../j2 && ls", "another seat"),
        ("git -C ../hub.git log", "another seat"),
        ("cat $ORG_HOME/comms/seats/j1/key", "closed to seats"),
        ("python -c \"print(open('../../comms/seats/chief/key').read())\"", "closed to seats"),
        ("ls ../../comms/mail/chief/new", "somebody else's mail"),
        ("org --seat chief send all hello", "act under your own name"),
        ("ORG_SEAT=chief org send all hello", "act under your own name"),
        ("env -u X ORG_SEAT=chief python -m org send all hi", "act under your own name"),
        ("export ORG_SEAT=; org send j2 hi", "act under your own name"),
        ("tmux send-keys -t j2 hello", "org send"),
        ("rm -rf ~/somebody", "outside your worktree"),
        ("sed -i s/a/b/ ../../code/train.py", "organisation's own"),
        ("echo 'x > ../j2/train.py; cat ../j2/train.py", "another seat"),
    ],
)
def test_what_is_not_the_seats_own_is_refused_in_a_sentence(home: Home, command: str, says: str) -> None:
    said = limits.refusal(home.root, "j1", "Bash", {"command": command})
    assert said is not None and says in said and "\n" not in said


@pytest.mark.parametrize(
    ("tool", "input", "says"),
    [
        ("Edit", {"file_path": "README.md"}, "frozen"),
        ("edit", {"path": "train.py"}, None),
        ("read", {"path": "README.md"}, None),
        ("Read", {"file_path": "../j2/train.py"}, "another seat"),
        ("Write", {"file_path": "/etc/motd"}, "outside"),
        ("Write", {"file_path": "/tmp/note.md"}, None),
        ("Edit", {"file_path": "../../comms/ledger.jsonl"}, "organisation's own"),
        ("shell", {"command": ["bash", "-lc", "echo > README.md"]}, "frozen"),
        ("apply_patch", {"input": "*** Begin Patch\n*** Add File: ../j2/x.py\n*** End Patch"}, "another seat"),
        ("TodoWrite", {"todos": []}, None),
    ],
)
def test_tools_are_judged_by_the_paths_that_they_name(home: Home, tool: str, input: dict[str, Any], says: str) -> None:
    said = limits.refusal(home.root, "j1", tool, input)
    assert said is None if says is None else said is not None and says in said


@pytest.mark.parametrize("path", ["a\0b", "a/\ud800"])
def test_what_cannot_be_looked_at_is_not_let_through(home: Home, path: str) -> None:
    """Programs mend such words before they run them: what stands beside is run all the same."""
    for tool, input in (("Write", {"file_path": path}), ("Bash", {"command": f"rm README.md; rm {path}/b"})):
        assert limits.refusal(home.root, "j1", tool, input) is not None


@pytest.mark.parametrize(
    "text", ["rm " + "*a" * 40 + "z", "rm " + "a*" * 40, "echo " + "x" * 140_000, "rm " + "x/y " * 9999]
)
def test_no_command_takes_longer_than_a_hook_may(home: Home, text: str) -> None:
    charter = {"charter": {"frozen": ["a" * 60 + ".py"]}}
    other = Home(home.root.parent / "stars")
    files.replace_json(other.charter_cache, charter)
    begun = time.process_time()
    said = limits.refusal(other.root, "j1", "Bash", {"command": text})
    assert time.process_time() - begun < 5
    assert said is None or len(said) < 300


def test_it_is_read_by_a_bare_interpreter_alone() -> None:
    path = Path(limits.__file__)
    code = f"import sys; sys.path.insert(0, {str(path.parent)!r}); import limits; print(sorted(m for m in sys.modules if m.startswith('org')))"
    done = subprocess.run([sys.executable, "-S", "-E", "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "[]\n"
