"""What is seen of real processes, of which it decides who is sent the stop signal."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from gracewrap.linux import process_facts, process_tree, signal_and_kill
from gracewrap.policy.model import CATCHES, DEFAULT, IGNORES, Process
from processes import wait_until

TERM = int(signal.SIGTERM)
PYTHON = [sys.executable, "-I", "-S", "-c"]
# Handlers, pipes and sockets are there before it prints a line.
UP = "import os, signal; os.write(2, b'.'); signal.pause()"
CATCH = "import signal; signal.signal(15, lambda *_: None)\n"


@contextmanager
def started(command: list[str], ups: int = 1) -> Iterator[int]:
    """Start a command in a session of its own, and yield its pid when *ups* of it are up."""
    reading, writing = os.pipe()
    child = subprocess.Popen(
        # What starts the tests in the background has it ignored.
        ["env", "--default-signal=QUIT", *command],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=writing,
        start_new_session=True,
    )
    os.close(writing)
    try:
        for _ in range(ups):
            assert os.read(reading, 1)
        yield child.pid
    finally:
        os.killpg(child.pid, signal.SIGKILL)
        child.wait(30)
        os.close(reading)


def seen(pid: int) -> tuple[Process, ...]:
    return process_facts.look(process_tree.descendants(roots=[pid]), TERM)


def one(pid: int) -> Process:
    return next(process for process in seen(pid) if process.pid == pid)


@pytest.mark.parametrize(
    ("code", "takes"),
    [
        ("", DEFAULT),
        ("import signal; signal.signal(15, signal.SIG_IGN)\n", IGNORES),
        (CATCH, CATCHES),
        ("import signal; signal.pthread_sigmask(signal.SIG_BLOCK, {15})\n", CATCHES),
    ],
)
def test_what_it_does_on_the_stop_signal(code, takes):
    with started([*PYTHON, code + UP]) as pid:
        assert one(pid).takes == takes


def test_what_waits_for_signals_takes_them():
    block = "signal.pthread_sigmask(signal.SIG_BLOCK, {15})"
    code = f"import os, signal; {block}; os.write(2, b'.'); signal.sigwait({{15}})"
    with started([*PYTHON, code]) as pid:
        wait_until(lambda: process_tree.waits_for_signals(pid), "it waits")
        assert one(pid).takes == CATCHES


def test_one_on_its_way_into_sigwait_is_looked_at_again(monkeypatch):
    """It runs: what it blocks does not show any more, and that it waits does not show yet."""
    nothing = b"SigBlk:\t0\nSigIgn:\t0\nSigCgt:\t0\n"
    states = iter((b"R", b"R", b"S"))
    state = [b""]

    def read(path: str) -> bytes:
        if path.endswith("/stat"):
            state[0] = next(states)
            return b"9 (web) %s 1 9 9" % state[0]
        if path.endswith("/wchan"):
            return b"do_sigtimedwait" if state[0] == b"S" else b"0"
        return nothing

    monkeypatch.setattr(process_tree, "read_file", read)
    assert not process_tree.would_end(9, TERM)
    assert next(states, None) is None


@pytest.mark.parametrize(
    ("states", "refused", "only_wait"),
    [
        ((b"R", b"S", b"Z"), set(), True),
        ((b"R", b"D"), set(), False),
        ((b"R", b"R"), {11}, False),
        ((b"Z", b""), set(), False),
        ((b"t",), set(), False),  # its tracer is told of the exit first (PTRACE_O_TRACEEXIT)
        ((b"S",), set(), False),  # the init of a PID namespace, which waits for somebody outside
        ((b"ZR",), set(), True),  # the main thread is over
        ((b"RD",), set(), False),
    ],
)
def test_what_has_been_killed_and_only_waits_for_a_cpu(monkeypatch, states, refused, only_wait):
    """*states*: of each process, a letter for each of its threads."""

    def stat(pid: int, state: int, threads: int) -> bytes:
        return b"%d (web) %c %s %d 0 9" % (pid, state, b"0 " * 16, threads)

    said = {}
    for pid, letters in enumerate(states, 10):
        for tid, state in enumerate(letters, pid * 10):
            said[f"/proc/{pid}/task/{tid}/stat"] = stat(tid, state, len(letters))
        if letters:
            said[f"/proc/{pid}/stat"] = stat(pid, letters[0], len(letters))
    monkeypatch.setattr(process_tree, "read_file", lambda path: said.get(path, b""))
    monkeypatch.setattr(
        process_tree.posix,
        "listdir",
        lambda path: [one.split("/")[4] for one in said if one.startswith(f"{path}/")],
    )
    monkeypatch.setattr(signal_and_kill, "REFUSED", refused)
    killed = [process_tree.Member(10 + i, 1, 9, "web", False) for i in range(len(states))]
    assert signal_and_kill.only_wait_for_cpu(killed) is only_wait


def test_one_whose_main_thread_is_over_waits_for_a_cpu_if_another_thread_does():
    code = """
import ctypes, os, threading
def work():
    os.write(2, b'.')
    while True:
        pass
threading.Thread(target=work).start()
ctypes.CDLL(None).pthread_exit(None)
"""
    with started([*PYTHON, code]) as pid:
        wait_until(lambda: process_tree.stat(pid)[1][0] == b"Z", "it is over")
        found = process_tree.member(pid)
        assert found is not None and signal_and_kill.only_wait_for_cpu([found])


def test_one_that_waits_for_something_else_or_runs_all_the_time_would_be_ended():
    with started([*PYTHON, UP]) as pid:
        assert process_tree.would_end(pid, TERM)
    with started([*PYTHON, "import os; os.write(2, b'.')\nwhile True: pass"]) as pid:
        assert process_tree.would_end(pid, TERM)


def test_one_that_sleeps_has_not_had_a_signal_until_its_switches_change():
    with started([*PYTHON, CATCH + "while True:\n    " + UP]) as pid:
        wait_until(lambda: one(pid).asleep, "it sleeps")
        before = one(pid)
        assert one(pid).switches == before.switches
        os.kill(pid, TERM)
        wait_until(lambda: one(pid).switches > before.switches, "it has woken")


def test_a_signal_that_waits_is_seen():
    with started([*PYTHON, UP]) as pid:
        os.kill(pid, signal.SIGSTOP)
        wait_until(lambda: process_tree.stat(pid)[1][0] == b"T", "it is stopped")
        os.kill(pid, TERM)
        assert one(pid).pending


def test_forked_children_are_told_from_those_that_execute_a_program():
    code = "import os\nif os.fork() == 0:\n    " + UP + "\n" + UP
    with started([*PYTHON, code], 2) as pid:
        assert {process.pid: process.forked for process in seen(pid)}[pid] is False
        (child,) = [process for process in seen(pid) if process.pid != pid]
        assert child.forked and child.parent == pid


@pytest.mark.parametrize("shell", ["sh", "bash"])
def test_a_shell_is_known_by_its_file_and_what_it_starts_behind_it_too(shell, tmp_path):
    script = tmp_path / "run.sh"
    script.write_text(f"#!/bin/{shell}\nsleep 60 &\nprintf . >&2\nwait\n")
    script.chmod(0o755)
    with started([str(script)]) as pid:
        leader = one(pid)
        assert leader.name == "run.sh" and leader.shell and not leader.background
        wait_until(lambda: "sleep" in {process.name for process in seen(pid)}, "sleep is there")
        (sleep,) = [process for process in seen(pid) if process.name == "sleep"]
        assert sleep.background and not sleep.shell


def test_a_pipeline_shows_who_reads_whose_output():
    with started(["sh", "-c", "(printf . >&2; exec sleep 60) | cat; :"]) as pid:
        wait_until(lambda: {"sleep", "cat"} <= {one.name for one in seen(pid)}, "both are there")
        found = {process.name: process for process in seen(pid)}
        assert found["cat"].reads and found["cat"].reads in found["sleep"].writes


def test_sockets_and_listeners():
    code = CATCH + "import socket; s = socket.create_server(('127.0.0.1', 0))\n" + UP
    with started([*PYTHON, code]) as pid:
        assert one(pid).listens and one(pid).has_sockets
    code = CATCH + "import socket; s = socket.socketpair()\n" + UP
    with started([*PYTHON, code]) as pid:
        assert not one(pid).has_sockets


def test_a_process_that_is_gone_is_not_seen():
    with started([*PYTHON, UP]) as pid:
        members = process_tree.descendants(roots=[pid])
    assert process_facts.look(members, TERM) == ()


def test_a_process_that_is_gone_or_about_to_be_is_ending():
    child = subprocess.Popen(["sleep", "60"])
    try:
        assert not process_tree.is_ending(child.pid)
    finally:
        child.kill()
    wait_until(lambda: process_tree.is_ending(child.pid), "it ends")
    child.wait(30)
    assert process_tree.is_ending(child.pid)
