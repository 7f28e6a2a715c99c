"""`init`: a home from this installation's prompts, or from a few facts about somebody's own code. Checks all, then makes all."""

from __future__ import annotations

import json
import re
import shlex
import shutil
import tempfile
from pathlib import Path
from typing import Any

import click

from org import files, strictyaml
from org.cli import tasks
from org.cli.tasks import INSTALLATION
from org.cli.verb import as_json, print_json, say, verb
from org.errors import BadInput, OrgError
from org.home import Home
from org.words import counted

PARTS = ("prompts", "comms", "worktrees")


@verb(
    "init",
    "org init ~/research",
    "org init ~/faster --task kernel",
    'org init my-org --code ../nanogpt --command "python train.py" --metric val_loss:lower --editable train.py',
)
@click.argument("folder", metavar="DIR")
@click.option("--code", metavar="PATH", help="The code under study: a git repository or a folder. Default: nanochat/.")
@click.option(
    "--command",
    metavar="CMD",
    help="How it is trained; may hold {seed} {out} {steps} {scale}. [python train.py]",
)
@click.option(
    "--metric",
    metavar="NAME:lower[:LOW..HIGH]",
    help="What its summary prints, which way is better, and what it can be, as in accuracy:higher:0..1. [val_bpb:lower]",
)
@click.option("--editable", multiple=True, metavar="GLOB", help="What research may change. [train.py]")
@click.option("--frozen", multiple=True, metavar="GLOB", help="What it may never change.")
@click.option("--task", metavar="NAME|FILE", help="What to work on: a folder of prompts/tasks/, or a charter file.")
@click.option("--wiki", "wiki", metavar="FROM", help="Begin with the wiki of another home, or with a folder of pages.")
@as_json
def init(
    folder: str,
    code: str | None,
    command: str | None,
    metric: str | None,
    editable: tuple[str, ...],
    frozen: tuple[str, ...],
    task: str | None,
    wiki: str | None,
    is_json: bool,
) -> None:
    """Make a home in DIR: prompts/ (what people write), comms/ (what the org knows), worktrees/ (what agents write)."""
    root = Path(folder).expanduser().resolve()
    check_room(root)
    if wiki is not None:
        check_wiki(wiki)
    if code is not None:
        check_apart(root, source(code))
    derived = [name for name, given in (("--command", command), ("--metric", metric), ("--editable", editable), ("--frozen", frozen)) if given]  # fmt: skip
    if derived and not code:
        raise BadInput(f"{derived[0]} describes code of your own; name it with --code PATH")
    if task and derived:
        raise BadInput(f"--task brings a whole charter; write {derived[0]} into it instead")
    ready_made = tasks.find(task) if task else None
    if ready_made and code:
        raise BadInput(f"--task {task} brings its own code; leave out --code, or name the charter file")
    if task and not ready_made:
        text = from_file(Path(task), code)
    elif code:
        text = derive(source(code), command or "python train.py", metric or "val_bpb:lower", editable, frozen)
    else:
        text = from_file(INSTALLATION / "prompts" / "charter.yaml", None)
    brought = make(root, text, with_all=code is None, task=ready_made.name if ready_made else None, wiki=wiki)
    if is_json:
        print_json({"home": str(root), **({"wiki": brought} if wiki is not None else {})})
    else:
        say(f"{root}: {', '.join(f'{part}/' for part in PARTS)}")
        if wiki is not None:
            say(f"{counted(brought, 'wiki page')} brought from {wiki}")
        say(f"read {Home(root).charter}, then: org --home {shlex.quote(str(root))} launch --chief 1 --juniors 8")


def check_room(root: Path) -> None:
    """Raises BadInput when `root` cannot become a home."""
    if (root / "prompts" / "charter.yaml").exists():
        raise BadInput(f"{root} is a home already; edit {root / 'prompts' / 'charter.yaml'}, or name another folder")
    first = next(p for p in (root, *root.parents) if p.exists())
    if not first.is_dir():
        raise BadInput(f"{first} is a file; name a folder")
    for part in PARTS:
        place = root / part
        if place.exists() and (not place.is_dir() or any(place.iterdir())):
            raise BadInput(f"{place} is there and not empty; name another folder")


def check_wiki(named: str) -> None:
    """Raises BadInput when there is no wiki to begin with."""
    from org.team import heritage

    heritage.source(named)


def check_apart(root: Path, code: Path) -> None:
    """Raises BadInput when the home would be a part of the code that it researches."""
    if root.is_relative_to(code):
        raise BadInput(f"{root} lies in the code {code}; name a folder outside of it, such as {code}-org")


def source(code: str) -> Path:
    path = Path(code).expanduser().resolve()
    if not path.is_dir():
        raise BadInput(f"--code {code}: {path} is no repository or folder")
    return path


def from_file(path: Path, code: str | None) -> str:
    """A charter file with its `code` line made absolute, since it moves; everything else stays as it was written."""
    row = strictyaml.read(path)
    named = row.get("code") if isinstance(row, dict) else None
    if code is None and (not isinstance(named, str) or Path(named).is_absolute()):
        return path.read_text(encoding="utf-8")  # what is wrong with it is said by the validation
    places = (
        [source(code)]
        if code
        else [(place / str(named)).resolve() for place in (Path.cwd(), path.parent, INSTALLATION)]
    )
    if path.is_relative_to(INSTALLATION):
        places.reverse()
    there = next((place for place in places if place.is_dir()), places[0])
    lines = path.read_text(encoding="utf-8").splitlines(keepends=True)
    at = next((i for i, line in enumerate(lines) if line.startswith("code:")), None)
    if at is None:
        return "".join(lines) + f"code: {json.dumps(str(there), ensure_ascii=False)}\n"
    lines[at] = f"code: {json.dumps(str(there), ensure_ascii=False)}\n"
    return "".join(lines)


def derive(code: Path, command: str, metric: str, editable: tuple[str, ...], frozen: tuple[str, ...]) -> str:
    """A charter for code that only prints a summary; its numbers have trust `reported`."""
    measured = metric_of(metric)
    name, direction = measured["name"], measured["direction"]
    row = {
        "task": f"{'Raise' if direction == 'higher' else 'Lower'} {name} of {code.name} at equal training tokens.",
        "code": str(code),
        "command": command,
        "metric": measured,
        "editable": list(editable) or ["train.py"],
        "frozen": list(frozen),
        "scale": "home",
        "scales": {"home": {"steps": 300, "bank": 4, "deadline_s": 600}},
        "matched": "tokens",
        "knobs": {},
        "rules": {},
    }
    head = (
        "# The charter: what this organisation is for. The command prints a summary after a line `---`, as `key: value`\n"
        f"# lines with {name} among them; it may use {{seed}} {{out}} {{steps}} {{scale}}, or RUN_SEED RUN_OUT RUN_STEPS from its\n"
        "# environment. Name the constants that research may turn under `knobs`, so that the offline researcher finds them.\n"
    )
    return head + strictyaml.dump(row)


def metric_of(text: str) -> dict[str, Any]:
    """`NAME:higher:0..1` as the charter's metric. No range is guessed from a name: where none is given, the rules about
    printed numbers are those for losses."""
    form = re.fullmatch(r"([^\s:]+)(?::(lower|higher)(?::([^:]*)\.\.([^:]*))?)?", text)
    try:
        if not form:
            raise ValueError(text)
        span = [float(end) if end else None for end in form.groups()[2:]]
    except ValueError:
        how = "write NAME:lower or NAME:higher, as in val_bpb:lower or accuracy:higher:0..1"
        raise BadInput(f"--metric '{text:.60}' is not allowed; {how}") from None
    found: dict[str, Any] = {"name": form[1], "direction": form[2] or "lower"}
    return found if span == [None, None] else {**found, "range": span}


def make(root: Path, charter_text: str, with_all: bool, task: str | None = None, wiki: str | None = None) -> int:
    """Check the charter against the code in a place of its own, then bring the whole home into place at once. task: the
    ready-made one it begins with. wiki: whose pages it begins with; returns how many those are."""
    with tempfile.TemporaryDirectory(prefix="org-init-") as staging:
        try:
            if task:
                _check_task(task)
            else:
                _check(Home(Path(staging).resolve()), charter_text)
        except OrgError as error:
            text = str(error).replace(str(Path(staging).resolve()), str(root))
            raise type(error)(text) from None
    try:
        root.parent.mkdir(parents=True, exist_ok=True)
        staged = Path(tempfile.mkdtemp(prefix=f".{root.name}-init-", dir=root.parent))
    except OSError as error:
        raise BadInput(f"{root} cannot be made: {error.strerror}; name a place you may write to") from None
    try:
        _fill(Home(staged), charter_text, with_all, task)
        brought = _bring(Home(staged), wiki) if wiki is not None else 0
        staged.chmod(0o755)
        if not root.exists():
            staged.rename(root)
            return brought
        for part in reversed(PARTS):  # prompts/ last: its charter makes the folder a home
            if (root / part).is_dir():
                (root / part).rmdir()
            (staged / part).rename(root / part)
        return brought
    finally:
        shutil.rmtree(staged, ignore_errors=True)


def _check(home: Home, text: str) -> None:
    from org import charter, schema
    from org.lab import record

    files.replace(home.charter, text)
    record.read_code(home, charter.from_plain(schema.charter(home.charter)))


def _check_task(name: str) -> None:
    """A home of its own is not needed: a ready-made task's code lies beside its charter."""
    from org import charter, schema
    from org.lab import record

    there = Home(INSTALLATION, as_task=name)
    record.read_code(there, charter.from_plain(schema.charter(there.charter)))


def _bring(home: Home, wiki: str) -> int:
    from org.team import heritage

    return len(heritage.bring(home, heritage.source(wiki)))


def _fill(home: Home, text: str, with_all: bool, task: str | None) -> None:
    ours = INSTALLATION / "prompts"
    if with_all and ours.is_dir():
        tasks.copy(ours, home.prompts)
    else:
        for part in ("orgs", "skills", "backends"):
            if (ours / part).is_dir():
                tasks.copy(ours / part, home.prompts / part)
    files.replace(home.charter, text)
    if task:
        files.replace(home.task_file, f"{task}\n")
    for place in (home.comms, home.worktrees):
        files.replace(place / ".gitignore", "*\n!README.md\n")
        readme = INSTALLATION / place.name / "README.md"
        if readme.is_file():
            shutil.copyfile(readme, place / "README.md")
