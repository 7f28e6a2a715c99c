"""A person's repository with the code under study in it, a home beside it, and verified heads without training."""

from __future__ import annotations

import json
from pathlib import Path

from repos import sh
from tiny import TINY_TRAIN

from org import files, strictyaml
from org.home import Home
from org.lab import fidelity, ledger, record
from org.records import Contract, KnobChange, Verdict
from org.world import git

LR, WARM = ("MATRIX_LR", 0.02, 0.04), ("WARMDOWN_FRAC", 0.0, 0.5)


class Work:
    """A person's repository, its code in a folder with a space, and a home beside it. `plant` makes a verified head
    without training: the ledger's lines and the record's commits as the gate writes them."""

    def __init__(self, home: Home, top: Path, sub: str = "sub dir/code", start: str = "", **files_: str) -> None:
        self.home, self.top, self.sub = home, top, sub
        self.code = top / sub
        self.code.mkdir(parents=True)
        sh("git", "init", "-q", "-b", "trunk", str(top), cwd=top.parent)
        for name, text in {"train.py": TINY_TRAIN, "README.md": "The code.\n", **files_}.items():
            (self.code / name).write_text(text)
        (top / "other.txt").write_text("theirs\n")
        (top / "run.sh").write_text("#!/bin/sh\n")
        (top / "run.sh").chmod(0o755)
        if sub:  # the import takes no symlink
            (top / "link").symlink_to("other.txt")
        text = home.charter.read_text().replace("code: code", f"code: {json.dumps(str(self.code))}")
        home.charter.write_text(text + start)

    def commit(self, message: str = "theirs") -> str:
        sh("git", "add", "-A", cwd=self.top)
        sh("git", "commit", "-qm", message, cwd=self.top)
        return self.head

    @property
    def head(self) -> str:
        return sh("git", "rev-parse", "HEAD", cwd=self.top).strip()

    def edit(self, old: str, new: str, name: str = "train.py") -> None:
        text = (self.code / name).read_text()
        assert old in text
        (self.code / name).write_text(text.replace(old, new))

    def show(self, what: str, name: str = "train.py") -> str:
        return sh("git", "show", f"{what}:{self.sub}/{name}" if self.sub else f"{what}:{name}", cwd=self.top)

    def plant(
        self, *knobs: tuple[str, float, float], edits: dict[str, bytes] | None = None, removed=(), trust="reported"
    ):
        """A stack of one member a knob (and `edits`) becomes the head of `main`; its id. removed: a head line on the
        present stack, that these members left."""
        home = self.home
        program = record.ensure_program(home, "main")
        head, tree = record.program_head(home, "main")
        writer = ledger.Ledger(home)
        book = writer.refresh()
        changes: dict[str, bytes | None] = dict(edits or {})
        number = len(book.experiments)
        members = []
        for name, old, new in knobs:
            text = (changes.get("train.py") or git.read_file(home.record, tree, "train.py") or b"").decode()
            turned = record.set_constant(text, name, new)
            assert turned is not None
            changes["train.py"] = turned.encode()
            number += 1
            knob = KnobChange(name, "train.py", 1, old, new)
            one = self._contract(
                f"E{number:04}", "search", head, tree, head, tree, f"turn {name}\n\x1b[31m", (), (knob,)
            )
            members.append(self._file(writer, one, -0.05, "tentative", trust))
        new_tree = git.tree_with(home.record, tree, changes)
        commit = git.commit(home.record, new_tree, [head], "stack")
        if removed:
            name, last = book.heads["main"]["experiment"], book.heads["main"]
            members = [member for member in last["members"] if member not in removed]
        else:
            name, members = f"E{number + 1:04}", members or [f"E{number + 1:04}"]
            stack = self._contract(name, "verify", commit, new_tree, head, tree, "together", tuple(members), ())
            self._file(writer, stack, -0.0712345, "verified", trust)
        git.update_ref(home.record, record.main_ref("main"), commit, head)
        row = {"program": "main", "commit": commit, "tree": new_tree, "experiment": name, "members": list(members)}
        row |= {"was": head, "effect": -0.07, "se": 0.004, **({"removed": list(removed)} if removed else {})}
        writer.append("head", f"head:{commit}", row)
        record.note_head(home, "main")
        assert fidelity.problems(home) == [] and program
        return name

    def _contract(self, name, stage, commit, tree, base, base_tree, why, members, knobs) -> Contract:
        return Contract(
            experiment=name, why=why, claim="better", expect=-0.06, seat="j1", program="main", commit=commit, tree=tree,
            baseline_commit=base, baseline_tree=base_tree, scale="tiny", stage=stage, matched="tokens",
            members=members, knobs=knobs, lines_added=len(knobs), lines_removed=len(knobs), created=files.utc_now(),
        )  # fmt: skip

    def _file(self, writer: ledger.Ledger, contract: Contract, effect: float, tier: str, trust: str) -> str:
        name = contract.experiment
        files.replace(self.home.contract(name), strictyaml.dump(contract.page()))
        git.update_ref(self.home.record, f"refs/org/experiments/{name}", contract.commit)
        writer.append("experiment", f"experiment:{name}", contract.to_dict())
        verdict = Verdict(
            name, "win", tier, "better", effect, 0.0041, 17.4, 4, "tokens", trust, ("beats it",), (), expect=-0.06
        )  # fmt: skip
        writer.append("verdict", f"verdict:{name}", verdict.to_dict())
        return name


def snapshot(top: Path, but: str = "org/main") -> dict[str, object]:
    """Everything of a repository but its objects and one branch: names, modes, bytes; and the work tree's status."""
    found: dict[str, object] = {}
    for path in sorted(top.rglob("*")):
        name = str(path.relative_to(top))
        is_branch = path.is_dir() or any(name.endswith(f"{kind}/refs/heads/{but}") for kind in (".git", ".git/logs"))
        if "/objects/" in name or is_branch or name.endswith("/objects"):
            continue
        stat = path.lstat()
        is_small = path.is_file() and stat.st_size < 1 << 20
        found[name] = (stat.st_mode, stat.st_size, stat.st_mtime_ns, path.read_bytes() if is_small else None)
    return found


def refs(top: Path) -> set[str]:
    return set(sh("git", "for-each-ref", "--format=%(refname) %(objectname)", cwd=top).splitlines())
