"""Ten classic ways in which a stop hangs, as real processes: the flight recorder names the cause.

All of them are started at once and stopped at once, for each takes the whole of its short budget.
"""

from __future__ import annotations

import contextlib
import json
import signal
import socket
import sys
import threading
from collections.abc import Iterator

import pytest

from processes import Run, descendants, state, wait_until

PYTHON = (sys.executable, "-I", "-S", "-c")
BUDGET = "4s"

# Each ignores nothing, has a handler for SIGTERM, and yet does not end.
BEGIN = """
import os, signal, socket, sys, threading, time
heard = []
signal.signal(signal.SIGTERM, lambda *_: heard.append(1))
def ready(word=""):
    print("ready", word, flush=True)
"""
SERVER = (
    BEGIN
    + """
server = socket.create_server(("127.0.0.1", 0))
ready(server.getsockname()[1])
client, _ = server.accept()
asked = client.recv(1000)
"""
)
ANSWERS = "client.sendall(b'HTTP/1.1 200 OK\\r\\nContent-Length: 0\\r\\n\\r\\n'); server.close()\n"
# select without a timeout, as event loops do: only the client can end it.
WAITS = "import select\nwhile True: select.select([client], [], [])\n"

HANGS = {
    "kept_alive": SERVER + ANSWERS + WAITS,
    # The client has sent half a request, and is silent.
    "in_flight": SERVER + "server.close()\nwhile True: client.recv(1000)\n",
    "lock": BEGIN
    + """
one, other = threading.Lock(), threading.Lock()
barrier = threading.Barrier(3)
def take(first, second):
    with first:
        barrier.wait()
        with second: pass
threads = [threading.Thread(target=take, args=pair) for pair in ((one, other), (other, one))]
for thread in threads: thread.start()
barrier.wait()
ready()
threads[0].join()
""",
    "file": BEGIN
    + """
import fcntl
holder = open(sys.argv[1], "w")
fcntl.flock(holder, fcntl.LOCK_EX)
if not os.fork():
    os.setsid()
    mine = open(sys.argv[1])
    ready()
    while True: fcntl.flock(mine, fcntl.LOCK_EX)
while True: os.wait()
""",
    "signal_ignored": BEGIN
    + """
import subprocess
child = subprocess.Popen(["sh", "-c", "trap '' TERM; echo ready; exec sleep 1000"])
while True:
    try: child.wait()
    except InterruptedError: pass
""",
    "outgoing": BEGIN
    + """
database = socket.create_connection(("127.0.0.1", int(sys.argv[1])))
database.sendall(b"SELECT 1"); database.recv(100)
ready()
import select
while True: select.select([database], [], [])
""",
    "timer": BEGIN + "ready()\nwhile True: time.sleep(1000)\n",
    "full_pipe": BEGIN
    + """
reading, writing = os.pipe()
ready()
while True: os.write(writing, bytes(65536))
""",
    "stopped": BEGIN
    + """
def stops(*_):
    os.kill(os.getpid(), signal.SIGSTOP)
signal.signal(signal.SIGCONT, stops)
ready()
while True: time.sleep(1000)
""",
    # As npm does: it goes on waiting, and its child does not hear of the stop.
    "not_told": BEGIN
    + """
import subprocess
server = "import http.server as h; s = h.HTTPServer(('127.0.0.1', 0), h.BaseHTTPRequestHandler); "
server += "import signal; signal.signal(15, lambda *_: None); print('ready', flush=True); "
server += "s.serve_forever()"
child = subprocess.Popen([sys.executable, "-I", "-S", "-c", server])
while True:
    try: child.wait()
    except InterruptedError: pass
""",
}


@contextlib.contextmanager
def database() -> Iterator[int]:
    """Answer one client once, as a database, and say nothing more; yield the port."""
    with socket.create_server(("127.0.0.1", 0)) as server, contextlib.ExitStack() as kept:

        def serve() -> None:
            client = kept.enter_context(server.accept()[0])
            client.recv(100)
            client.sendall(b"1")

        thread = threading.Thread(target=serve, daemon=True)
        thread.start()
        yield server.getsockname()[1]
        thread.join(30)


@pytest.fixture(scope="module")
def reports(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, dict[str, object]]]:
    """Run all of them into SIGKILL; yield the reports."""
    folder = tmp_path_factory.mktemp("hangs")
    runs: dict[str, Run] = {}
    with contextlib.ExitStack() as stack:
        port = stack.enter_context(database())
        for kind, program in HANGS.items():
            word = {"file": str(folder / "lock"), "outgoing": str(port)}.get(kind, "")
            report = ("--report", folder / kind, "--shutdown-timeout", BUDGET)
            runs[kind] = Run(*report, "--log-format", "json", "--", *PYTHON, program, word)
            stack.callback(runs[kind].close)
        for kind, run in runs.items():
            words = run.line().split()
            assert words[0] == "ready"
            if len(words) > 1:
                client = socket.create_connection(("127.0.0.1", int(words[1])))
                stack.enter_context(client).sendall(b"GET / HTTP/1.1\r\n")
                if kind == "kept_alive":
                    assert client.recv(1000)
        for run in runs.values():
            run.send(signal.SIGTERM)
        for run in runs.values():
            run.wait()
        yield {kind: json.loads((folder / kind).read_text()) for kind in runs}


def causes(report: dict[str, object]) -> set[str]:
    looks = report["flight_record"]
    assert isinstance(looks, list)
    return {look["kind"] for look in looks}


def test_the_cause_of_nine_in_ten_is_named(reports):
    named = {kind for kind, report in reports.items() if kind in causes(report)}
    assert len(named) >= 9, {kind: report["held_up"] for kind, report in reports.items()}


def test_what_it_counts_itself_holds_it_up_and_is_told_once(start, tmp_path):
    report = tmp_path / "report"
    counts = ("--drain-exec", "echo 3", "--drain-interval", "50ms")
    options = ("--shutdown-timeout", "1s", "--report", report, *counts)
    run = start(*options, "--", *PYTHON, HANGS["timer"])
    assert "ready" in run.line()
    run.send(signal.SIGTERM)
    assert run.log_line("held_up")["message"] == "held up by work in flight: 3 (exec)"
    summary = str(run.log_line("summary")["message"])
    assert "3 in flight were cut" in summary
    assert "held up" not in summary
    assert run.wait() == 137
    assert causes(json.loads(report.read_text())) == {"work"}


# What is to execute the command opens a file first, and its parent waits in vfork(2) for that, with
# all signals blocked.
SPAWNS = (
    BEGIN
    + """
os.mkfifo(sys.argv[1])
ready()
os.posix_spawn("/bin/true", ["true"], {},
               file_actions=[(os.POSIX_SPAWN_OPEN, 5, sys.argv[1], os.O_RDONLY, 0)])
"""
)


def test_who_waits_in_vfork_does_not_wait_for_a_disk(start, tmp_path):
    report = tmp_path / "report"
    options = ("--shutdown-timeout", "1s", "--report", report)
    run = start(*options, "--", *PYTHON, SPAWNS, tmp_path / "fifo")
    assert "ready" in run.line()
    wait_until(lambda: "D" in map(state, descendants(run.pid)), "it waits in vfork")
    run.send(signal.SIGTERM)
    assert run.wait() == 137
    assert causes(json.loads(report.read_text())) == {"signal_blocked"}


# Its child has no handler for the signal: that would end it.
DUMPS = (
    BEGIN
    + """
import faulthandler, subprocess
faulthandler.register(signal.SIGUSR1, file=sys.stdout)
child = subprocess.Popen(["sh", "-c", "trap '' TERM; exec sleep 1000"])
def the_function_that_hangs():
    while True:
        try: child.wait()
        except InterruptedError: pass
ready()
the_function_that_hangs()
"""
)


def test_who_handles_it_is_sent_the_dump_signal_once(start, tmp_path):
    report = tmp_path / "report"
    options = ("--dump-signal", "USR1", "--output", "prefix", "--shutdown-timeout", "3s")
    run = start(*options, "--report", report, "--", *PYTHON, DUMPS)
    assert "ready" in run.line()
    run.send(signal.SIGTERM)
    assert run.wait() == 137
    found = json.loads(report.read_text())
    (sent,) = [one for one in found["timeline"] if one["event"] == "dump_signal"]
    last = found["flight_record"][-1]
    leader, child = last["processes"]
    assert sent["members"] == f"{leader['name']} (pid {leader['pid']})"
    assert child["name"] == "sleep"
    dumped = [line for line in last["last_lines"]["stdout"] if "the_function_that_hangs" in line]
    assert len(dumped) == 1
