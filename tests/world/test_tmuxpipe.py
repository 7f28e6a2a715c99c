"""The lasting connection to a real tmux server, and servers that hang."""

import os
import signal
import sys
import time

import pytest
from grid import READ_LINES, info, seats, text_of
from waiting import wait_for

from org.world import process, tmux
from org.world.tmux import ServerLost, TmuxError
from org.world.tmuxwords import Pane


def test_the_connection_is_no_person_and_answers_as_processes_do(server, tmp_path):
    [pane] = server.grid("org", [Pane("j1", READ_LINES)], width=100, height=20)
    asked = (["display-message", "-p", "#{pid} ;"], ["list-panes", "-a", "-F", "#{pane_id} it's #{session_name}"])
    by_process = server.run(*asked)
    assert server.connect() and server.connect()
    assert server.run(*asked) == by_process
    assert [client.control for client in server.clients()] == [True]
    assert info(server, pane).width == 100
    wait_for(lambda: info(server, pane).command.startswith("python"))
    with pytest.raises(TmuxError, match="unknown command"):
        server.run(["list-panes", "-a"], ["no-such-command"])
    with pytest.raises(TmuxError, match="%77"):
        server.run(["display-message", "-p", "one"], ["send-keys", "-t", "%77", "x"], ["kill-server"])
    assert server.run(*asked) == by_process  # the failed call left nothing behind
    assert server.run() == "" and server.run(*asked) == by_process


def test_a_connection_is_attached_before_it_is_asked(server):
    """Its first command is otherwise answered now and then as if no client were there."""
    server.grid("org", [Pane("j1", READ_LINES)])
    for _ in range(20):
        assert server.connect() and [client.control for client in server.clients()] == [True]
        server.disconnect()


def test_what_a_pane_shows_cannot_end_an_answer(server):
    fake = "import time\nfor n in range(400): print(f'%end 1 {n} 1'); print(f'%error 1 {n} 1')\ntime.sleep(600)"
    [pane] = server.grid("org", [Pane("j1", (sys.executable, "-c", fake))])
    assert server.connect()
    wait_for(lambda: "%error 1 399 1" in server.capture(pane, history=2000))
    assert server.capture(pane, history=2000).count("%end") == 400
    assert server.run(["display-message", "-p", "still here"]) == "still here\n"


def test_a_connection_that_breaks_is_said_and_made_again(server):
    server.grid("org", seats(2))
    assert server.connect()
    server._pipe._child.kill()
    server._pipe._child.wait()
    with pytest.raises(TmuxError, match="asked again later"):
        server.list_panes()
    assert len(server.list_panes()) == 2, "processes serve again"
    assert server.connect() and len(server.list_panes()) == 2


def test_a_server_that_dies_or_hangs_under_the_connection_meets_the_deadline(server, monkeypatch):
    server.grid("org", seats(2))
    pid = server.pid()
    monkeypatch.setattr(tmux, "SILENT_S", 0.1)
    assert server.connect()
    os.kill(pid, signal.SIGSTOP)
    try:
        with pytest.raises(TmuxError):
            server.run(["list-panes"], timeout_s=0.3)
    finally:
        os.kill(pid, signal.SIGCONT)
    wait_for(server.connect)
    os.kill(pid, signal.SIGKILL)
    with pytest.raises(ServerLost):
        wait_for(lambda: server.list_panes() and False, what="the end of the server")
    assert not server.connect()


def test_a_session_that_a_person_renamed_or_left_is_no_matter_to_the_connection(server):
    server.grid("org", seats(2))
    assert server.connect()
    server.run(["rename-session", "-t", "org", "night"])
    assert len(server.list_panes()) == 2
    server.disconnect()
    assert server.connect() and len(server.list_panes()) == 2


def test_a_folder_with_a_line_break_is_no_matter(server, tmp_path):
    odd = tmp_path / "a\nb"
    odd.mkdir()
    [pane] = server.grid("org", seats(1))
    assert server.connect()
    server.respawn(pane, ["sh", "-c", "pwd > here; sleep 600"], {"X": "1\n2"}, odd)
    wait_for(lambda: text_of(odd / "here").startswith(str(odd)))


# --- servers that hang


def test_a_hanging_server_meets_the_deadline(server):
    server.grid("org", seats(1))
    pid = server.pid()
    os.kill(pid, signal.SIGSTOP)
    try:
        with pytest.raises(TmuxError, match=r"does not answer; .* `org stop`"):
            server.run(["list-panes"], timeout_s=0.3)
    finally:
        os.kill(pid, signal.SIGCONT)


@pytest.mark.parametrize("by_pipe", [False, True])
def test_who_missed_a_deadline_is_not_waited_for_again_at_once(server, monkeypatch, by_pipe):
    server.grid("org", seats(1))
    pid = server.pid()
    assert not by_pipe or server.connect()
    os.kill(pid, signal.SIGSTOP)
    try:
        with pytest.raises(TmuxError):
            server.run(["list-panes"], timeout_s=0.3)
        began = time.monotonic()
        for _ in range(20):
            with pytest.raises(TmuxError, match="does not answer"):
                server.list_panes()
            assert not server.connect()
        assert time.monotonic() - began < 9.0, "a deadline was waited for"
    finally:
        os.kill(pid, signal.SIGCONT)
    monkeypatch.setattr(server, "_silent_until", 0.0)
    assert len(server.list_panes()) == 1 and server.connect()


def test_a_server_that_hangs_is_ended_all_the_same(server, monkeypatch):
    monkeypatch.setattr(tmux, "KILL_S", 0.3)
    [pane] = server.grid("org", seats(1))
    pid, program = server.pid(), info(server, pane).pid
    assert server.listener() == pid
    os.kill(pid, signal.SIGSTOP)
    server.kill()
    assert server.listener() is None and not server.socket.exists()
    wait_for(lambda: process.identity(program) is None, what="the end of what ran in it")
