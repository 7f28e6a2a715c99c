"""world.process on real processes, some of which try to get away."""

import contextlib
import os
import signal
import subprocess
import sys
from dataclasses import replace
from uuid import uuid4

import pytest
from waiting import wait_for

from org.world import process

# A child in a session of its own whose parent is gone, deaf to TERM: what a group kill leaves behind.
ESCAPE = """
import os, signal, sys, time
if os.fork() == 0:
    os.setsid()
    if os.fork():
        os._exit(0)
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    os.write(1, b'%d\\n' % os.getpid())  # one write: two processes share this pipe
    time.sleep(600)
os.wait()
os.write(1, b"ready\\n")
time.sleep(600)
"""


@pytest.fixture
def marker():
    """A unique environment entry; what still carries it at the end is killed."""
    entry = f"ORG_TEST_MARK={uuid4().hex}"
    yield entry
    process.kill_all(lambda: process.find_marked(entry), 5)


def marked(marker, *more):
    return dict([*os.environ.items(), marker.split("=", 1), *more])


def test_a_process_is_known_by_more_than_its_pid():
    with subprocess.Popen(["sleep", "600"]) as child:
        who = process.identity(child.pid)
        assert who == process.identity(child.pid) and process.is_alive(who)
        assert not process.is_alive(replace(who, start_ticks=who.start_ticks - 1))
        assert not process.is_alive(replace(who, boot_id="another boot"))
        child.kill()
    assert not process.is_alive(who)
    assert process.identity(2**22 + 1) is None


def test_a_zombie_is_dead():
    child = subprocess.Popen(["true"])
    wait_for(lambda: process.identity(child.pid) is None)
    assert os.path.exists(f"/proc/{child.pid}")  # noqa: PTH110 - still in the table: it is a zombie
    assert child.pid not in process.descendants(os.getpid())
    child.wait()


def test_a_program_name_with_parentheses_and_spaces_is_read(tmp_path):
    odd = tmp_path / "a) R 1 (b"
    odd.symlink_to("/bin/sleep")
    with subprocess.Popen([str(odd), "600"]) as child:
        wait_for(lambda: child.pid in process.descendants(os.getpid()))
        assert process.is_alive(process.identity(child.pid))
        child.kill()


def test_descendants_are_found_through_generations():
    with subprocess.Popen(["sh", "-c", "sleep 600 & sleep 600 & wait"]) as child:
        found = wait_for(lambda: len(process.descendants(child.pid)) == 2 and process.descendants(child.pid))
        assert child.pid in process.descendants(os.getpid())
        process.end_tree(child.pid)
        assert child.wait(60) is not None  # by the signal, or because it saw its children end first
    assert all(process.identity(pid) is None for pid in found)


def test_a_subreaper_ends_one_that_escaped_its_session(marker):
    """In a process of its own, because a subreaper adopts every orphan below it."""
    guard = (
        "import os, subprocess, sys\nfrom org.world import process\nprocess.set_subreaper()\n"
        f"child = subprocess.Popen([sys.executable, '-c', {ESCAPE!r}], stdout=subprocess.PIPE, text=True)\n"
        "[escaped] = {int(line) for line in (child.stdout.readline(), child.stdout.readline()) if line != 'ready\\n'}\n"
        "assert process.identity(escaped)\n"
        "process.end_tree(os.getpid(), grace_s=0.1, keep=child.pid)\n"
        "assert process.identity(escaped) is None and process.descendants(os.getpid()) == []\n"
        "print(child.wait())\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", guard], env=marked(marker), capture_output=True, text=True, timeout=60, check=False
    )
    assert (done.stdout.strip(), done.stderr) == (str(-signal.SIGTERM), "")
    assert process.find_marked(marker) == []


def test_a_deaf_tree_is_killed_after_the_grace_and_its_status_is_left_to_the_caller():
    deaf = "import signal, time\nsignal.signal(signal.SIGTERM, signal.SIG_IGN)\nprint('x', flush=True)\ntime.sleep(600)"
    with subprocess.Popen([sys.executable, "-c", deaf], stdout=subprocess.PIPE) as child:
        child.stdout.readline()
        process.end_tree(child.pid, grace_s=0.1)
        assert child.wait(60) == -signal.SIGKILL


def test_survivors_are_found_by_an_exact_mark(marker):
    name, value = marker.split("=")
    env = marked(marker)
    near = [{**env, name: value + "1"}, {**os.environ, "X" + name: value}]
    others = [subprocess.Popen(["sleep", "600"], env=other) for other in near]
    with subprocess.Popen(["sh", "-c", "sleep 600 & wait"], env=env) as child:
        wait_for(lambda: len(process.find_marked(marker)) == 2)
        assert set(process.kill_all(lambda: process.find_marked(marker), 5)) >= {child.pid}
        assert process.find_marked(marker) == []
    for other in others:
        assert other.poll() is None
        other.kill()
        other.wait()


def test_holders_of_an_open_file_are_found(tmp_path):
    lock = tmp_path / "gpu 0's.lock"
    assert process.open_holders(lock) == []
    with lock.open("w") as file, subprocess.Popen(["sleep", "600"], pass_fds=[file.fileno()]) as child:
        assert set(process.open_holders(lock)) == {os.getpid(), child.pid}
        child.kill()


def test_a_detached_process_outlives_us_and_leaves_no_zombie(tmp_path, marker):
    log = tmp_path / "it's a log"
    script = "import os, sys; print(os.getsid(0) == os.getppid() or os.getsid(0), sys.stdin.read(), flush=True); print('err', file=sys.stderr)"
    before = os.getsid(0)
    pid = process.spawn_detached([sys.executable, "-c", script], marked(marker), tmp_path, log)
    wait_for(lambda: "err" in log.read_text())
    assert str(before) not in log.read_text().split()
    wait_for(lambda: process.identity(pid) is None)
    with pytest.raises(ChildProcessError):
        os.waitpid(pid, 0)  # not ours: nothing to reap


def test_a_detached_process_gets_the_descriptors_named_and_no_other(tmp_path, marker):
    script = (
        "import os; print(sorted(int(n) for n in os.listdir('/proc/self/fd') if int(n) > 2), flush=True); print('end')"
    )
    with (tmp_path / "lease").open("w") as lease, (tmp_path / "other").open("w") as other:
        os.set_inheritable(other.fileno(), True)
        log = tmp_path / "log"
        argv = [sys.executable, "-c", script]
        process.spawn_detached(argv, marked(marker), tmp_path, log, (lease.fileno(),))
        wait_for(lambda: "end" in log.read_text())
        shown = log.read_text().splitlines()[0]
        assert str(lease.fileno()) in shown and str(other.fileno()) not in shown.strip("[]").split(", ")[:1]


def test_a_program_that_does_not_exist_is_an_error_here(tmp_path):
    with pytest.raises(OSError, match="no-such-program"):
        process.spawn_detached(["/no-such-program"], {}, tmp_path, tmp_path / "log")


def test_a_detached_process_is_no_copy_of_ours_made_while_other_threads_hold_locks(tmp_path, marker, monkeypatch):
    monkeypatch.setattr(os, "fork", lambda: pytest.fail("forked"))
    script = "import os, signal; print(os.getpid(), os.getsid(0), signal.getsignal(signal.SIGINT))"
    pid = process.spawn_detached([sys.executable, "-c", script], marked(marker), tmp_path, tmp_path / "log")
    words = wait_for(lambda: (tmp_path / "log").read_text().split())
    assert int(words[0]) == pid and int(words[1]) not in (os.getsid(0), pid)
    assert "default_int_handler" in " ".join(words)


def test_several_marks_are_looked_for_at_once(marker):
    others = [f"{marker}-{n}" for n in range(3)]
    with contextlib.ExitStack() as ends:
        children = [ends.enter_context(subprocess.Popen(["sleep", "600"], env=marked(mark))) for mark in others]
        try:
            wait_for(lambda: len(process.find_marked(*others)) == 3)
            assert set(process.find_marked(*others[:2])) == {child.pid for child in children[:2]}
            assert process.find_marked() == []
        finally:
            for child in children:
                child.kill()


def test_processor_time_is_counted_for_a_whole_tree_and_ended_children_too():
    burn = "import time\nend = time.process_time() + 0.3\nwhile time.process_time() < end: pass"
    work = f"import subprocess, sys, time\nsubprocess.run([sys.executable, '-c', {burn!r}])\ntime.sleep(600)"
    tree = subprocess.Popen([sys.executable, "-c", work])
    idle = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)"])
    gone = subprocess.Popen([sys.executable, "-c", ""])
    gone.wait()
    try:
        wait_for(lambda: process.cpu_s([tree.pid])[tree.pid] >= 0.3)
        used = process.cpu_s([tree.pid, idle.pid, gone.pid])
        assert used[idle.pid] < 0.3 and used[gone.pid] == 0.0
        wait_for(lambda: not process.descendants(tree.pid))
        assert process.cpu_s([tree.pid])[tree.pid] >= 0.3  # its child ended and was waited for
        assert process.program(idle.pid).startswith("python") and process.program(gone.pid) == ""
    finally:
        for child in (tree, idle):
            child.kill()
            child.wait()
