"""Behind the walls: what is hidden stays dark, what is not given stays unwritten, nothing outside is reached."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from org.world import confine

pytestmark = pytest.mark.skipif(confine.level() == "none", reason="this kernel has no Landlock")

TRIES = {
    "read hidden": "open(sys.argv[1] + '/hidden/x').read()",
    "read hidden by a link": "open(sys.argv[1] + '/open/link').read()",
    "list hidden": "os.listdir(sys.argv[1] + '/hidden')",
    "write beside": "open(sys.argv[1] + '/beside', 'w')",
    "write open": "open(sys.argv[1] + '/open/x', 'w')",
    "truncate open": "os.truncate(sys.argv[1] + '/open/kept', 0)",
    "link hidden out": "os.link(sys.argv[1] + '/hidden/x', sys.argv[1] + '/out/x')",
    "connect": "socket.socket()",
    "connect v6": "socket.socket(socket.AF_INET6)",
    "signal the parent": "os.kill(os.getppid(), 0)",
    "the parent's memory": "open(f'/proc/{os.getppid()}/mem', 'rb')",
}
ALLOWED = {
    "read open": "open(sys.argv[1] + '/open/kept').read()",
    "write out": "open(sys.argv[1] + '/out/y', 'w').write('y')",
    "rename out": "os.rename(sys.argv[1] + '/out/y', sys.argv[1] + '/out/z')",
    "null": "open('/dev/null', 'w').write('x')",
    "socket pair": "socket.socketpair()",
    "semaphore": "multiprocessing.Lock()",
    "a child": "subprocess.run(['true'], check=True)",
    "read a library": "importlib.import_module('sqlite3')",
}


def tried(tmp_path: Path, what: dict[str, str]) -> dict[str, str]:
    for name in ("hidden", "open", "out"):
        (tmp_path / name).mkdir()
    (tmp_path / "hidden" / "x").write_text("secret")
    (tmp_path / "open" / "kept").write_text("kept")
    (tmp_path / "open" / "link").symlink_to("../hidden/x")
    code = (
        "import importlib, json, multiprocessing, os, socket, subprocess, sys\nsaid = {}\n"
        f"for name, text in {what!r}.items():\n"
        "    try:\n        eval(text)\n        said[name] = 'done'\n"
        "    except OSError as error:\n        said[name] = 'refused' if error.errno in (1, 13, 18) else str(error)\n"
        "print(json.dumps(said))\n"
    )
    # this very checkout may lie in a scratch folder, and pickle asks for a package named org
    readable = [tmp_path / "open", Path(sys.prefix), Path(sys.base_prefix), Path(confine.__file__).parents[1]]
    walls = confine.walls([tmp_path / "hidden"], readable, [tmp_path / "out"])
    done = subprocess.run(
        [sys.executable, "-c", code, str(tmp_path)],
        preexec_fn=walls.enter,
        capture_output=True,
        text=True,
        check=True,
        cwd="/",
        env={"PATH": os.environ["PATH"]},
    )
    return json.loads(done.stdout)


def test_what_is_not_given_is_refused(tmp_path: Path) -> None:
    assert tried(tmp_path, TRIES) == dict.fromkeys(TRIES, "refused")


def test_ordinary_work_goes_on(tmp_path: Path) -> None:
    assert tried(tmp_path, ALLOWED) == dict.fromkeys(ALLOWED, "done")


def test_what_may_be_read_covers_everything_but_what_is_hidden(tmp_path: Path) -> None:
    for name in ("a", "b/c", "b/d"):
        (tmp_path / name).mkdir(parents=True)
    seen = confine._cover(tmp_path, [tmp_path / "b" / "c"])
    assert sorted(seen) == [tmp_path / "a", tmp_path / "b" / "d"]
