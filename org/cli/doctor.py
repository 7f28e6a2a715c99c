"""`doctor`: is everything here that this home needs, and does the record agree with itself. Mends nothing that is evidence."""

from __future__ import annotations

import functools
import importlib.util
import os
import platform
import shutil
import subprocess
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from org.cli import view
from org.cli.verb import Call, as_json, pass_call, print_json, say, verb
from org.errors import OrgError
from org.files import printable
from org.home import Home

Finding = tuple[str, bool, str]  # what, is it well, one line


@verb("doctor", "org doctor", "org doctor --json")
@as_json
@pass_call
def doctor(call: Call, is_json: bool) -> int | None:
    """Check tools, charter, org folders, processes, code, record and results; exit 1 when something is wrong."""
    found = list(checks(call.home))
    if is_json:
        rows = [{"check": what, "ok": ok, "note": note} for what, ok, note in found]
        print_json({"ok": all(ok for _, ok, _ in found), "checks": rows})
    else:
        lines = [[what, "ok" if ok else "WRONG", note] for what, ok, note in found]
        say(view.table(("check", "", "found"), lines, [None if ok else "red" for _, ok, _ in found]))
    return None if all(ok for _, ok, _ in found) else 1


def checks(home: Home) -> Iterator[Finding]:
    yield "python", True, f"{platform.python_version()} on {platform.system()} {platform.machine()}"
    for tool, flag in (("git", "--version"), ("tmux", "-V")):
        yield tool, shutil.which(tool) is not None, _version(tool, flag)
    yield from _named(
        ("charter", lambda: _charter(home)),
        ("code", lambda: _code(home)),
        ("intents", lambda: _intents(home)),
        ("org folders", lambda: _folders(home)),
        ("prices", lambda: _prices(home)),
    )
    yield from _named(
        ("devices", lambda: _devices(home)), ("torch", lambda: _torch(home)), ("disk", lambda: _disk(home))
    )
    yield from _named(("isolation", _isolation))
    yield from _programs(home)
    yield from _named(("record", lambda: _record(home)), ("mail", lambda: _mail(home)))


def _programs(home: Home) -> Iterator[Finding]:
    """The agent programs, built in and described: none of them has to be installed, but a description has to be sound."""
    from org.agents import pins, versions

    built_in = [(pin.program, functools.partial(versions.of_pin, pin)) for pin in pins.PINS]
    described = [(path.stem, functools.partial(_described, path)) for path in sorted(home.backends.glob("*.yaml"))]
    with ThreadPoolExecutor(4) as pool:  # each takes up to seconds to say its version
        asked = [(f"agent {printable(name, 40)}", pool.submit(how)) for name, how in (*built_in, *described)]
        yield from _named(*((what, answer.result) for what, answer in asked))


def _described(path: Path) -> str:
    from org import backendschema
    from org.agents import versions

    row = backendschema.backend(path)
    how = f"install it with `{row['install']}`" if row["install"] else f"see {path}"
    argv = row["version"] or [row["argv"][0], "--version"]
    return versions.told(argv, row["tested"], f"{argv[0]} is not installed; {how}")


def _isolation() -> str:
    from org.world import confine

    if confine.level() == "none":
        return "none: no Landlock in this kernel, so what runs and agents tamper with is detected, not prevented"
    return f"{confine.level()}: runs see no held-out split, no network, and write their own folders; agents run as you"


def _named(*rows: tuple[str, Callable[[], str]]) -> Iterator[Finding]:
    """Each check's own line, or the error it met."""
    for what, check in rows:
        try:
            yield what, True, check()
        except (OrgError, OSError) as error:  # a folder where a file belongs is wrong; the other rows are still wanted
            yield what, False, " ".join(str(error).split())


def _version(tool: str, flag: str) -> str:
    if shutil.which(tool) is None:
        return f"not installed; apt-get install {tool}"
    done = subprocess.run([tool, flag], capture_output=True, text=True, timeout=20, check=False)
    return done.stdout.strip()


def _charter(home: Home) -> str:
    from org import charter, schema

    loaded = charter.from_plain(schema.charter(home.charter))
    return f"{loaded.metric.name} {loaded.metric.direction}, scale {loaded.scale}, {len(loaded.knobs)} knobs"


def _code(home: Home) -> str:
    from org import charter
    from org.lab import record

    return f"{len(record.read_code(home, charter.load(home)))} files of {record.code_path(home, charter.load(home))}"


def _intents(home: Home) -> str:
    from org import charter
    from org.lab import intents, record

    if not home.intents.is_file():
        return "none"
    code = record.read_code(home, charter.load(home))
    mine = [intent for intent in intents.load(home.intents) if intent.path in code]  # another task's watch nothing here
    lost = intents.missing(mine, {path: content.decode(errors="replace") for path, content in code.items()})
    if lost:
        raise OrgError(
            f"'{lost[0].id}' watches nothing: its anchor is nowhere in {lost[0].path}; mend it in {home.intents}"
        )
    intents.check_scales(mine, charter.load(home).scales, home.intents)
    return f"{len(mine)}, each found in the code"


def _prices(home: Home) -> str:
    from org.agents import prices

    count = prices.check(home)
    return f"{count} in {prices.lines_of(home)}, before those of org" if count else "those of org"


def _folders(home: Home) -> str:
    from org import schema
    from org.team import pages, roster

    parent = home.org_folder("x").parent
    names = sorted(p.name for p in parent.iterdir() if p.is_dir()) if parent.is_dir() else []
    if not names:
        raise OrgError(f"{parent} has no org folder; `org launch` needs one")
    for name in names:
        folder = schema.org_folder(home.org_folder(name))
        for seat in folder["seats"]:
            _backend(home, name, seat["backend"])
        pages.check(home.org_folder(name), roster.names(folder))
    return ", ".join(names)


def _backend(home: Home, folder: str, spec: str | None) -> None:
    """Raises OrgError when an org folder seats a program that nobody knows."""
    from org.agents import base, described

    try:
        base.kind(spec or "offline", described.names(home))
    except OrgError as error:
        raise OrgError(f"{home.org_folder(folder) / 'org.yaml'}: {error}") from None


def _devices(home: Home) -> str:
    from org.world import devices

    return ", ".join(device.name for device in devices.in_force(home))


def _torch(home: Home) -> str:
    from org import charter

    needed = charter.load(home).referee is not None
    if importlib.util.find_spec("torch") is not None:
        return "installed"
    if needed:
        raise OrgError("not installed, and this charter's runs need it; run scripts/setup")
    return "not installed; this charter does not need it"


def _disk(home: Home) -> str:
    free = shutil.disk_usage(home.root).free / 2**30
    if free < 1:
        raise OrgError(f"{free:.1f} GB free at {home.root}; a night of runs needs more")
    return f"{free:.0f} GB free, {_size(home.comms) / 2**20:.0f} MB in comms/"


def _size(folder: Path) -> int:
    return sum(_bytes(Path(parent) / name) for parent, _, names in os.walk(folder) for name in names)


def _bytes(path: Path) -> int:
    try:
        return path.lstat().st_size
    except OSError:
        return 0  # an organisation that runs replaces its files all the time


def _record(home: Home) -> str:
    from org.lab import fidelity, ledger

    problems = fidelity.problems(home)
    if problems:
        raise OrgError(
            f"{len(problems)} problems, first line {problems[0]['line']}: {problems[0]['what']}; `org results --check`"
        )
    if not home.ledger.is_file():
        return "no run yet"
    return f"{len(ledger.read(home).rows)} ledger lines agree with the record and the result files"


def _mail(home: Home) -> str:
    bad = sorted(home.mail.glob("*/bad/*")) if home.mail.is_dir() else []
    if bad:
        return f"{len(bad)} files that were no letters were set aside, the last is {bad[-1]}"
    return "no letter was set aside"
