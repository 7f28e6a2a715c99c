"""world.tmux on a real server with a private socket, killed after each test."""

import os
import pty
import shlex
import shutil
import signal
import subprocess
import sys
import threading
from pathlib import Path
from uuid import uuid4

import pytest
from grid import READ_LINES, SLEEP, info, seats, text_of
from waiting import wait_for

from org.errors import BadInput, MissingTool
from org.files import locked
from org.world.tmux import PaneBusy, Server, ServerLost, TmuxError
from org.world.tmuxwords import Pane, escape_format

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


def test_what_stands_in_a_panes_environment_is_in_no_process_words(server, tmp_path):
    """Everybody on the machine can read these, and a pane of an agent holds a key."""
    said, out = tmp_path / "said", tmp_path / "out"
    shim = tmp_path / "tmux"
    shim.write_text(f'#!/bin/sh\necho "$@" >> "{said}"\nexec "{shutil.which("tmux")}" "$@"\n')
    shim.chmod(0o755)
    server.grid("org", [Pane("shell", SLEEP)], window="shell")
    asked = Server(server.name, env={"PATH": f"{tmp_path}:{os.environ['PATH']}"})
    show = ["sh", "-c", f'echo "$KEY" >> "{out}"; exec sleep 600']
    env = {"KEY": "sk-of-nobody; it's $0"}
    ids = asked.grid("org", [Pane(f"j{n}", show, env) for n in range(12)])
    asked.respawn(ids[0], show, env, Path("/"))
    wait_for(lambda: out.is_file() and out.read_text().count(env["KEY"] + "\n") == 13)
    assert "attach-session" in said.read_text() and "sk-of" not in said.read_text()


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


def test_missing_tmux_says_how_to_install_it():
    with pytest.raises(MissingTool, match="apt-get install tmux"):
        Server("org-none", env={"PATH": "/nowhere"}).alive()


# --- options -----------------------------------------------------------------------------------------------------


def test_a_separator_in_a_name_that_a_person_gives_hides_no_pane(server):
    first, second = server.grid("org", seats(2))
    server.run(["rename-window", "-t", first, "a|b|c"], ["rename-session", "-t", "org", "x|y"])
    server.run(["select-pane", "-t", first, "-T", "t|u"], ["set-option", "-p", "-t", second, "@seat", "j|1"])
    found = {pane.id: pane for pane in server.list_panes()}
    assert set(found) == {first, second} and all(pane.pid > 1 and pane.width > 1 for pane in found.values())
    assert (found[first].window_name, found[first].title, found[second].seat) == ("a_b_c", "t_u", "j_1")


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


def type_line(server, pane, text, lock):
    """As every sender does it: text and Enter under one lock."""
    with locked(lock):
        server.type_text(pane, text)
        server.press(pane, "Enter")


@pytest.mark.parametrize(
    "text", ["plain", "ends;", "-l --", "Enter", "quotes ' \" $x `id` #(x) #{pid} \\", "é 漢", ";", "C-c"]
)
def test_a_typed_line_arrives_as_it_is(server, typist, tmp_path, text):
    pane = typist()
    type_line(server, pane, text, tmp_path / "lock")
    wait_for(lambda: repr(text + "\n") in server.capture(pane))


def test_control_characters_are_taken_out_and_long_lines_refused(server, tmp_path):
    [pane] = server.grid("org", [Pane("j1", READ_LINES)])
    type_line(server, pane, "a\x03b\x1b[201~c\rd\ne\u2028f", tmp_path / "lock")
    wait_for(lambda: repr("ab[201~cdef\n") in server.capture(pane))
    for bad in ("x" * 301, "", " \n"):
        with pytest.raises(BadInput):
            type_line(server, pane, bad, tmp_path / "lock")


def test_nothing_is_typed_while_a_person_reads_back(server, typist, tmp_path):
    pane = typist()
    server.run(["copy-mode", "-t", pane])
    assert info(server, pane).in_mode
    with pytest.raises(PaneBusy):
        type_line(server, pane, "hello", tmp_path / "lock")
    server.run(["send-keys", "-t", pane, "-X", "cancel"])
    type_line(server, pane, "later", tmp_path / "lock")
    wait_for(lambda: "later" in server.capture(pane))
    assert "hello" not in server.capture(pane)


def test_nothing_is_typed_into_a_dead_closed_or_missing_pane(server, tmp_path):
    [dead, closed] = server.grid("org", [Pane("j1", ("true",)), Pane("j2", SLEEP)])
    wait_for(lambda: info(server, dead).dead)
    server.run(["select-pane", "-d", "-t", closed])
    assert info(server, closed).input_off
    for pane in (dead, closed):
        with pytest.raises(PaneBusy):
            type_line(server, pane, "hello", tmp_path / "lock")
    with pytest.raises(TmuxError, match="%99"):
        type_line(server, "%99", "hello", tmp_path / "lock")


def test_lines_of_several_senders_stay_whole(server, tmp_path):
    [pane] = server.grid("org", [Pane("j1", READ_LINES)])

    def send(sender):
        for number in range(5):
            type_line(server, pane, f"sender-{sender}-{number}", tmp_path / "lock")

    threads = [threading.Thread(target=send, args=(n,)) for n in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    wait_for(lambda: server.capture(pane, history=200).count("got ") == 20)
    out = server.capture(pane, history=200)
    assert all(f"got 'sender-{s}-{n}\\n'" in out for s in range(4) for n in range(5))


def test_nothing_is_typed_into_another_program_than_the_one_that_was_looked_at(server, typist, tmp_path):
    pane = typist()
    before = info(server, pane).pid
    server.type_text(pane, "for the first", pid=before)
    server.respawn(pane, READ_LINES, {}, tmp_path)
    with pytest.raises(PaneBusy, match="another program"):
        server.type_text(pane, "for the first", pid=before)
    with pytest.raises(PaneBusy):
        server.press(pane, "Enter", pid=before)
    server.type_text(pane, "for the second", pid=info(server, pane).pid)
    server.press(pane, "Enter")
    wait_for(lambda: repr("for the second\n") in server.capture(pane))


@pytest.mark.parametrize("key", ["C-c", "Escape", "C-u", "a b", ";"])
def test_keys_that_eat_a_draft_are_not_pressed(server, key):
    [pane] = server.grid("org", seats(1))
    with pytest.raises(BadInput):
        server.press(pane, key)


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


def test_one_pass_over_the_grid_is_one_process_or_none_at_all(server, monkeypatch):
    server.grid("org", seats(10))
    calls = []
    run = subprocess.run
    monkeypatch.setattr(subprocess, "run", lambda *a, **k: calls.append(a) or run(*a, **k))

    def one_pass():
        calls.clear()
        server.list_panes()
        server.set_options({pane.id: {"@label": "x"} for pane in server.list_panes()})
        server.clients()
        return len(calls)

    assert one_pass() == 4
    assert server.connect()
    assert one_pass() == 0
