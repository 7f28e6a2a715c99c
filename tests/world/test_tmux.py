"""world.tmux on a real server with a private socket, killed after each test."""

import os
import pty
import shlex
import shutil
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path
from uuid import uuid4

import pytest

from org.errors import BadInput, MissingTool
from org.world.tmux import PaneBusy, Server, ServerLost, TmuxError
from org.world.tmuxwords import Pane, escape_format

SLEEP = ("sleep", "600")
READ_LINES = (sys.executable, "-c", "import sys\nfor line in sys.stdin: print('got', repr(line), flush=True)")


def wait_for(condition, limit_s=10.0, what="the condition"):
    deadline = time.monotonic() + limit_s
    while True:
        value = condition()
        if value:
            return value
        assert time.monotonic() < deadline, f"{what} did not come true in {limit_s} s"
        time.sleep(0.02)


@pytest.fixture
def server():
    server = Server(f"org-test-{uuid4().hex[:10]}")
    yield server
    server.kill()


def text_of(path):
    return path.read_text() if path.exists() else ""


def seats(number, argv=SLEEP):
    return [Pane(f"j{n}", argv) for n in range(1, number + 1)]


def info(server, pane_id):
    return next(pane for pane in server.list_panes() if pane.id == pane_id)


# --- the grid ----------------------------------------------------------------------------------------------------


def test_nine_panes_are_a_three_by_three_page(server):
    ids = server.grid("org", seats(9))
    panes = server.list_panes()
    assert [pane.id for pane in panes] == ids
    assert [pane.seat for pane in panes] == [f"j{n}" for n in range(1, 10)]
    assert len({pane.window for pane in panes}) == 1
    widths, heights = {pane.width for pane in panes}, {pane.height for pane in panes}
    assert max(widths) - min(widths) <= 2 and min(widths) >= 64
    assert max(heights) - min(heights) <= 2 and min(heights) >= 14


def test_a_tenth_pane_opens_a_second_page(server):
    ids = server.grid("org", seats(10))
    panes = server.list_panes()
    assert len(set(ids)) == 10
    assert [pane.window_name for pane in panes] == ["grid"] * 9 + ["grid-2"]
    assert panes[-1].width == 200 and panes[-1].id == ids[-1]


def test_a_second_grid_joins_the_session(server):
    server.grid("org", seats(2))
    [office] = server.grid("org", [Pane("office", SLEEP)], window="office")
    assert info(server, office).window_name == "office"
    with pytest.raises(TmuxError, match="already"):
        server.grid("org", seats(1), window="office")
    assert len(server.list_panes()) == 3


def test_a_grid_larger_than_one_command_line_is_built(server):
    env = {"LONG": "x" * 2000}
    ids = server.grid("org", [Pane(f"j{n}", SLEEP, env) for n in range(20)])
    assert len(ids) == 20
    assert {pane.window_name for pane in server.list_panes()} == {"grid", "grid-2", "grid-3"}


def test_a_pane_is_the_program_itself_with_its_arguments_as_given(server, tmp_path):
    odd = ["a b", "it's", '"$HOME"', "#(touch x)", "tail;", ";", "%0", "é\n"]
    out = tmp_path / "it's out; #{pid}"
    script = "import json, os, sys, pathlib as p, time; p.Path(sys.argv[1]).write_text(json.dumps([os.getpid(), os.getcwd(), sys.argv[2:]])); time.sleep(600)"
    folder = tmp_path / "odd 'dir';"
    folder.mkdir()
    [pane] = server.grid("org", [Pane("j1", [sys.executable, "-c", script, str(out), *odd], {}, folder)])
    import json

    pid, cwd, argv = json.loads(wait_for(lambda: text_of(out)))
    assert (cwd, argv) == (str(folder), odd)
    assert pid == info(server, pane).pid


def test_a_missing_folder_is_refused_before_anything_starts(server, tmp_path):
    with pytest.raises(BadInput, match="does not exist"):
        server.grid("org", [Pane("j1", SLEEP, {}, tmp_path / "missing")])
    assert not server.alive()


@pytest.mark.parametrize("name", ["#(touch /tmp/x)", "a.b", "a:b", "", "-t", "a b", "é"])
def test_only_ids_become_tmux_names(server, name):
    with pytest.raises(BadInput):
        server.grid("org", [Pane(name, SLEEP)])
    with pytest.raises(BadInput):
        server.grid(name, seats(1))
    with pytest.raises(BadInput):
        Server(name)


def test_a_window_can_be_resized_and_stays_even(server):
    server.grid("org", seats(9))
    server.resize(server.list_panes()[0].window, 260, 80)
    panes = server.list_panes()
    assert min(pane.width for pane in panes) >= 84 and min(pane.height for pane in panes) >= 24


# --- environment -------------------------------------------------------------------------------------------------


def shown(path):
    return dict(line.split("=", 1) for line in text_of(path).splitlines() if "=" in line)


def dump_env(path):
    return [
        "sh",
        "-c",
        f"env > {shlex.quote(str(path))}.new; mv {shlex.quote(str(path))}.new {shlex.quote(str(path))}; exec sleep 600",
    ]


def test_panes_see_their_variables_and_no_secret_of_the_launcher(tmp_path, monkeypatch):
    monkeypatch.setenv("ANTHROPIC_API_KEY", "sk-secret")
    monkeypatch.setenv("GIT_DIR", "/elsewhere")
    monkeypatch.setenv("SHELL", "/bin/bash")
    server = Server(f"org-test-{uuid4().hex[:10]}")
    try:
        server.grid("org", [Pane("j1", dump_env(tmp_path / "env"), {"ORG_SEAT": "j1", "ODD": "a b;'\"$x #(y);"})])
        env = wait_for(lambda: shown(tmp_path / "env"))
        assert env["ORG_SEAT"] == "j1" and env["ODD"] == "a b;'\"$x #(y);"
        assert env["SHELL"] == "/bin/bash"
        assert not {"ANTHROPIC_API_KEY", "GIT_DIR", "TMUX_TMPDIR"} & set(env)
    finally:
        server.kill()


def test_variables_are_carried_through_a_respawn(server, tmp_path):
    [pane] = server.grid("org", [Pane("j1", SLEEP, {"CUDA_VISIBLE_DEVICES": "3"})])
    before = info(server, pane).pid
    server.respawn(pane, dump_env(tmp_path / "env"), {"CUDA_VISIBLE_DEVICES": "3"}, tmp_path)
    assert wait_for(lambda: shown(tmp_path / "env"))["CUDA_VISIBLE_DEVICES"] == "3"
    after = info(server, pane)
    assert after.pid != before and after.seat == "j1"


def test_a_hostile_configuration_is_ignored(tmp_path, monkeypatch):
    trap = tmp_path / "ran"
    (tmp_path / ".tmux.conf").write_text(
        f"run-shell 'touch {trap}'\nset -g base-index 1\nset -g pane-base-index 1\nset -g default-command 'touch {trap}'\n"
        "set -g remain-on-exit off\nset -g status-right '#(touch /tmp/x)'\nset -g prefix C-a\nunbind-key -a\n"
    )
    (tmp_path / ".config/tmux").mkdir(parents=True)
    (tmp_path / ".config/tmux/tmux.conf").write_text((tmp_path / ".tmux.conf").read_text())
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("TMUX", "/tmp/tmux-0/default,1,0")
    monkeypatch.setenv("TMUX_TMPDIR", str(tmp_path))
    server = Server(f"org-test-{uuid4().hex[:10]}")
    try:
        server.grid("org", seats(2))
        assert len(server.list_panes()) == 2
        assert server.run(["show-options", "-gv", "base-index"]).strip() == "0"
        assert server.run(["show-options", "-gv", "prefix"]).strip() == "C-b"
        assert server.socket.exists() and not trap.exists()
    finally:
        server.kill()


# --- life and death ----------------------------------------------------------------------------------------------


def test_a_killed_server_can_be_started_again_ten_times(server):
    for _ in range(10):
        [pane] = server.grid("org", seats(1))
        assert not info(server, pane).dead
        server.kill()
        assert not server.alive() and not server.socket.exists()


def test_a_start_right_behind_a_kill_gets_through(server):
    """As another process does it: kill-server without waiting, then at once a new session."""
    for _ in range(10):
        server.grid("org", seats(1))
        server.run(["kill-server"])
        [pane] = server.grid("again", seats(1))
        assert not info(server, pane).dead
        server.kill()


def test_a_start_that_a_dying_server_takes_with_it_is_repeated(tmp_path, monkeypatch):
    """The same race held still: a tmux whose first two sessions meet a server on its way down."""
    wrapper, count = tmp_path / "tmux", tmp_path / "count"
    wrapper.write_text(
        f'#!/bin/sh\ncase "$*" in *new-session*) echo x >> "{count}";\n'
        f'[ $(wc -l < "{count}") -le 2 ] && {{ echo "server exited unexpectedly" >&2; exit 1; }} ;; esac\n'
        f'exec {shutil.which("tmux")} "$@"\n'
    )
    wrapper.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    server = Server(f"org-test-{uuid4().hex[:10]}")
    try:
        assert len(server.grid("org", seats(2))) == 2
        assert len(server.list_panes()) == 2
    finally:
        server.kill()


def test_a_stale_socket_is_no_server(server):
    server.grid("org", seats(1))
    os.kill(server.pid(), signal.SIGKILL)
    wait_for(lambda: not server.alive())
    with pytest.raises(ServerLost):
        server.list_panes()
    server.kill()
    assert not server.socket.exists()
    assert server.grid("org", seats(1))


@pytest.mark.parametrize(
    ("argv", "status"),
    [(("sh", "-c", "exit 3"), 3), (("true",), 0), (("sh", "-c", "kill -9 $$"), 137), (("/no/such/program",), 127)],
)
def test_a_dead_pane_stays_with_its_exit_status(server, argv, status):
    [pane] = server.grid("org", [Pane("j1", argv)])
    wait_for(lambda: info(server, pane).dead_status is not None)
    assert (info(server, pane).dead, info(server, pane).dead_status) == (True, status)
    server.respawn(pane, SLEEP, {}, Path("/"))
    assert (info(server, pane).dead, info(server, pane).dead_status) == (False, None)


def test_a_hanging_server_meets_the_deadline(server):
    server.grid("org", seats(1))
    pid = server.pid()
    os.kill(pid, signal.SIGSTOP)
    try:
        with pytest.raises(TmuxError, match="was not done"):
            server.run(["list-panes"], timeout_s=0.3)
    finally:
        os.kill(pid, signal.SIGCONT)


def test_missing_tmux_says_how_to_install_it():
    with pytest.raises(MissingTool, match="apt-get install tmux"):
        Server("org-none", env={"PATH": "/nowhere"}).alive()


# --- options -----------------------------------------------------------------------------------------------------


def test_options_of_many_panes_are_set_and_a_gone_pane_is_left_out(server):
    ids = server.grid("org", seats(4))
    server.run(["kill-pane", "-t", ids[1]])
    label = escape_format("E0042 100%; #(touch /tmp/org-pwned) #[fg=red] it's;")
    server.set_options(
        {pane: {"@label": label, "@colour": "green"} for pane in ids} | {"org": {"status-right": "3 wins"}}
    )
    shown = server.run(["show-options", "-pv", "-t", ids[3], "@label"]).rstrip("\n")
    assert shown == label
    assert server.run(["show-options", "-v", "-t", "org", "status-right"]).strip() == "3 wins"
    server.set_options({ids[0]: {"@label": None}})
    assert server.run(["show-options", "-pqv", "-t", ids[0], "@label"]) == ""


@pytest.mark.parametrize("value", ["#(touch /tmp/x)", "a###(x)", "line\nbreak", "\x1b]0;x"])
def test_an_option_that_tmux_would_run_is_refused(server, value):
    [pane] = server.grid("org", seats(1))
    with pytest.raises(BadInput):
        server.set_options({pane: {"@label": value}})
    server.set_options({pane: {"@label": escape_format(value)}})


# --- typing ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "text", ["plain", "ends;", "-l --", "Enter", "quotes ' \" $x `id` #(x) #{pid} \\", "é 漢", ";", "C-c"]
)
def test_a_typed_line_arrives_as_it_is(server, tmp_path, text):
    [pane] = server.grid("org", [Pane("j1", READ_LINES)])
    server.type_line(pane, text, tmp_path / "lock", gap_s=0)
    wait_for(lambda: repr(text + "\n") in server.capture(pane))


def test_control_characters_are_taken_out_and_long_lines_refused(server, tmp_path):
    [pane] = server.grid("org", [Pane("j1", READ_LINES)])
    server.type_line(pane, "a\x03b\x1b[201~c\rd\ne\u2028f", tmp_path / "lock", gap_s=0)
    wait_for(lambda: repr("ab[201~cdef\n") in server.capture(pane))
    for bad in ("x" * 301, "", " \n"):
        with pytest.raises(BadInput):
            server.type_line(pane, bad, tmp_path / "lock", gap_s=0)


def test_nothing_is_typed_while_a_person_reads_back(server, tmp_path):
    [pane] = server.grid("org", [Pane("j1", READ_LINES)])
    server.run(["copy-mode", "-t", pane])
    assert info(server, pane).in_mode
    with pytest.raises(PaneBusy):
        server.type_line(pane, "hello", tmp_path / "lock")
    server.run(["send-keys", "-t", pane, "-X", "cancel"])
    server.type_line(pane, "later", tmp_path / "lock", gap_s=0)
    wait_for(lambda: "later" in server.capture(pane))
    assert "hello" not in server.capture(pane)


def test_nothing_is_typed_into_a_dead_closed_or_missing_pane(server, tmp_path):
    [dead, closed] = server.grid("org", [Pane("j1", ("true",)), Pane("j2", SLEEP)])
    wait_for(lambda: info(server, dead).dead)
    server.run(["select-pane", "-d", "-t", closed])
    assert info(server, closed).input_off
    for pane in (dead, closed):
        with pytest.raises(PaneBusy):
            server.type_line(pane, "hello", tmp_path / "lock")
    with pytest.raises(TmuxError, match="%99"):
        server.type_line("%99", "hello", tmp_path / "lock")


def test_lines_of_several_senders_stay_whole(server, tmp_path):
    [pane] = server.grid("org", [Pane("j1", READ_LINES)])

    def send(sender):
        for number in range(5):
            server.type_line(pane, f"sender-{sender}-{number}", tmp_path / "lock", gap_s=0)

    threads = [threading.Thread(target=send, args=(n,)) for n in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    wait_for(lambda: server.capture(pane, history=200).count("got ") == 20)
    out = server.capture(pane, history=200)
    assert all(f"got 'sender-{s}-{n}\\n'" in out for s in range(4) for n in range(5))


@pytest.mark.parametrize("key", ["C-c", "Escape", "C-u", "a b", ";"])
def test_keys_that_eat_a_draft_are_not_pressed(server, tmp_path, key):
    [pane] = server.grid("org", seats(1))
    with pytest.raises(BadInput):
        server.press(pane, key, lock=tmp_path / "lock")


# --- people ------------------------------------------------------------------------------------------------------


def test_an_attached_person_is_seen_and_does_not_shrink_the_grid(server):
    ids = server.grid("org", seats(9))
    assert server.clients() == []
    pid, terminal = pty.fork()
    if pid == 0:
        os.environ["TERM"] = "xterm-256color"
        argv = server.attach_argv("org", ids[4])
        os.execvp(argv[0], argv)
    try:
        threading.Thread(target=lambda: [None for _ in iter(lambda: _drain(terminal), b"")], daemon=True).start()
        [person] = wait_for(server.clients)
        assert person.pane_id == ids[4] and not person.control and not person.readonly and person.activity > 0
        assert (person.width, person.height) != (200, 50)
        server.set_options({"org": {"status-right": "x"}})
        assert min(pane.width for pane in server.list_panes()) >= 64
        os.write(terminal, b"\x02")
        wait_for(lambda: server.clients()[0].prefix)
    finally:
        os.kill(pid, signal.SIGKILL)
        os.waitpid(pid, 0)
        os.close(terminal)


def _drain(terminal):
    try:
        return os.read(terminal, 65536)
    except OSError:
        return b""


def test_one_pass_over_the_grid_is_one_process(server, monkeypatch):
    server.grid("org", seats(10))
    calls = []
    run = subprocess.run
    monkeypatch.setattr(subprocess, "run", lambda *a, **k: calls.append(a) or run(*a, **k))
    server.list_panes()
    server.set_options({pane.id: {"@label": "x"} for pane in server.list_panes()})
    server.clients()
    assert len(calls) == 4
