"""The drain with a real command: probes, hooks, readiness, control; what becomes of endpoints that
lie, die, or say nothing."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from control_api import get
from processes import (
    BOUND,
    SUPPORT,
    TALKER,
    Run,
    alive,
    order,
    require_host_network,
    require_other_user,
    running,
    wait_until,
)

ENDPOINT = [sys.executable, "-I", "-S", str(SUPPORT / "endpoint.py")]
JOBS = ("--drain-json", "/active/jobs")
IDLE = '200 {"active": {"jobs": 0}}'
QUICK = ("--drain-interval", "20ms")
# The interpreter may lie in somebody's home: whoever the command becomes, it may read it.  But it
# may not look into the processes of others.
NO_PTRACE = (
    *("setpriv", "--inh-caps=+dac_read_search", "--ambient-caps=+dac_read_search"),
    *("--securebits=+no_setuid_fixup", "--bounding-set=-sys_ptrace"),
)


@pytest.fixture
def ask(start: Callable[..., Run], tmp_path: Path) -> Callable[..., Run]:
    """Start an endpoint under gracewrap, with a drain that asks it: ask("term=0",
    options=[...])."""

    def begin(
        *words: str, options: tuple[str, ...] = (), probe: tuple[str, ...] = (*JOBS, *QUICK)
    ) -> Run:
        socket = tmp_path / "app.sock"
        url = ("--drain-http", f"unix://{socket}:/drain") if probe else ()
        report = ("--report", str(tmp_path / "report.json"))
        # Not only our own files: h11 is needed too.
        run = start(
            *url, *probe, *report, *options, "--", *ENDPOINT, str(socket), *words,
            command=[sys.executable, "-m", "gracewrap"], stdin=subprocess.PIPE,
        )  # fmt: skip
        run.ready()
        return run

    return begin


def asked(run: Run, times: int = 1) -> None:
    """Wait until the endpoint has been asked so many times from now on."""
    assert run.out is not None
    for _ in range(times):
        run.out.until("GET /drain")


def report(tmp_path: Path) -> dict[str, object]:
    found: dict[str, object] = json.loads((tmp_path / "report.json").read_text())
    return found


def test_a_command_that_is_drained_but_does_not_exit_is_ended_after_the_linger(ask, tmp_path):
    run = ask(options=("--shutdown-timeout", "10m", "--drain-linger", "50ms"))
    run.send(signal.SIGTERM)
    assert run.out is not None
    run.out.until("15")
    asked(run, 3)
    assert alive(run.process.pid)
    order(run, IDLE)
    assert run.wait() == 137
    assert report(tmp_path)["outcome"] == "drained"
    assert report(tmp_path)["interrupted"] == 0
    assert [
        e["event"]
        for e in report(tmp_path)["timeline"]
        if e["event"] in ("stop_signal", "drained", "kill")
    ] == [
        "stop_signal",
        "drained",
        "kill",
    ]


@pytest.mark.parametrize(
    ("order_first", "status"), [(IDLE, 0), ('200 {"active": {"jobs": 1}}', 137)]
)
def test_being_killed_when_drained_may_count_as_success_and_being_cut_does_not(
    ask, order_first, status
):
    run = ask(
        options=(
            "--shutdown-timeout",
            "1s",
            "--drain-linger",
            "50ms",
            "--success-exit-codes",
            "drained",
        )
    )
    order(run, order_first)
    run.send(signal.SIGTERM)
    assert run.wait() == status


def test_what_was_in_flight_when_the_budget_ended_is_reported(ask, tmp_path):
    run = ask(options=("--shutdown-timeout", "500ms"))
    run.send(signal.SIGTERM)
    assert run.wait() == 137
    assert report(tmp_path)["interrupted"] == 3
    assert "3 in flight were cut" in str(report(tmp_path)["summary"])


def test_what_was_in_flight_before_the_page_was_closed_was_not_cut_at_the_end(ask, tmp_path):
    """A server that closes its listeners finishes its work, and nobody can ask it any more."""
    run = ask(options=("--shutdown-timeout", "1s"))
    run.send(signal.SIGTERM)
    asked(run, 2)
    order(run, "closed")
    assert run.wait() == 137
    found = report(tmp_path)
    assert found["interrupted"] is None, found
    assert "(3 in flight when it last answered, " in str(found["summary"])


def test_the_stop_signal_is_held_back_until_drained(ask, tmp_path):
    run = ask("term=0", options=("--drain-when", "before-signal", "--shutdown-timeout", "10m"))
    run.send(signal.SIGTERM)
    asked(run, 3)
    assert run.out is not None and "15" not in run.out.seen
    order(run, IDLE)
    run.out.until("15")
    assert run.wait() == 0
    assert report(tmp_path)["outcome"] == "graceful"


def test_a_signal_that_is_held_back_comes_while_there_is_time_to_act_on_it(ask):
    run = ask(
        "term=0",
        options=(
            "--drain-when",
            "before-signal",
            "--shutdown-timeout",
            "2s",
            "--stop-timeout",
            "1500ms",
        ),
    )
    run.send(signal.SIGTERM)
    assert run.out is not None
    run.out.until("15")
    assert run.wait() == 0  # and not 137


@pytest.mark.parametrize("fault", ["closed", "silent", "404 nothing", "200 no JSON", "503 busy"])
def test_an_endpoint_that_fails_shortens_nothing(ask, tmp_path, fault):
    """The budget ends it, and not a moment sooner."""
    run = ask(
        options=(
            "--shutdown-timeout",
            "600ms",
            "--drain-linger",
            "0s",
            "--drain-probe-timeout",
            "100ms",
        )
    )
    order(run, fault)
    before = time.monotonic()
    run.send(signal.SIGTERM)
    assert run.wait() == 137
    assert time.monotonic() - before >= 0.6
    assert [e["why"] for e in report(tmp_path)["timeline"] if e["event"] == "kill"] == [
        "out of time"
    ]


def test_an_endpoint_that_takes_its_word_back_is_believed(ask, tmp_path):
    run = ask(
        options=("--shutdown-timeout", "2s", "--drain-linger", "500ms", "--log-level", "debug")
    )
    order(run, IDLE)
    run.send(signal.SIGTERM)
    run.log_line("drained")
    order(run, '200 {"active": {"jobs": 1}}')
    run.log_line("undrained")
    assert run.wait() == 137
    assert report(tmp_path)["interrupted"] == 1


def test_a_sample_from_before_the_stop_is_not_told_as_current(ask):
    """While it serves on nobody is asked, and nothing is said of what is in flight."""
    options = ("--log-format", "text", "--log-level", "debug", "--propagation-delay", "10m")
    run = ask(options=(*options, "--shutdown-timeout", "20m"))
    assert run.err is not None
    run.err.until("probe http: busy; in flight: 3")
    run.send(signal.SIGTERM)
    waits = run.err.until("until the stop signal")
    assert "jobs" not in waits
    assert float(waits.split(" s until")[0].split()[-1]) < 600  # of the delay, not of the budget


def test_a_mistake_in_the_probe_is_told_while_the_command_runs(ask):
    run = ask(probe=("--drain-json", "/active/requests"))
    line = run.log_line("probe_invalid")
    assert "/active/requests" in str(line["why"])
    run.send(signal.SIGKILL)
    run.wait()


@pytest.mark.root
def test_ports_that_cannot_be_found_are_told_while_the_command_runs(start):
    require_other_user()
    require_host_network()
    listener = "import signal, socket; s = socket.create_server(('127.0.0.1', 0)); signal.pause()"
    run = start(
        *("--user", "nobody", "--drain-tcp", "auto", "--", sys.executable, "-c", listener),
        prefix=NO_PTRACE,
    )
    assert "CAP_SYS_PTRACE" in str(run.log_line("probe_invalid")["why"])


def test_of_a_command_that_is_not_ready_any_more_the_status_is_asked_too(ask, tmp_path):
    socket, ready = tmp_path / "control", tmp_path / "ready"
    ready.touch()
    file = tmp_path / "gracewrap.toml"
    file.write_text(f'ready = {{file = "{ready}", failures = 1}}')
    run = ask(options=("--config", str(file), "--control-socket", str(socket)))
    asked(run)  # the first look
    ready.unlink()
    run.log_line("unready")
    assert run.out is not None
    order(run, '200 {"active": {"jobs": 8}}')

    def told() -> object:
        program = json.loads(get(socket, "/status")[1])["programs"][0]
        return program["ready"], program["in_flight"]

    wait_until(lambda: told() == (False, 8), "it is asked")


def test_a_probe_that_is_silent_is_not_asked_anew_for_each_status(ask, tmp_path):
    """Else its time would never be over, however long somebody looks."""
    socket = tmp_path / "control"
    run = ask(options=("--control-socket", str(socket)), probe=(*JOBS, "--drain-interval", "20ms"))
    asked(run)  # the first look

    def probe() -> dict[str, Any]:
        return dict(json.loads(get(socket, "/status")[1])["programs"][0]["drain"]["probes"][0])

    wait_until(lambda: probe()["answered_seconds"] is not None, "it has answered")
    order(run, "silent")
    wait_until(lambda: (probe()["asked_seconds"] or 0) > 1, "it is asked, and does not answer")
    assert probe()["reading"] == "busy" and probe()["answered_seconds"] > 1
    wait_until(lambda: probe()["reading"] == "unreachable", "its time is over")
    assert probe()["why"] == "no answer within 2 s" and probe()["answered_seconds"] > 2


def test_a_second_request_does_not_wait_for_the_drain(ask):
    run = ask("term=0", options=("--drain-when", "before-signal", "--shutdown-timeout", "10m"))
    run.send(signal.SIGTERM)
    asked(run, 2)
    began = time.monotonic()
    wait_until(
        lambda: time.monotonic() - began > 0.11,
        "a second request is one, and not the first one again",
    )
    run.send(signal.SIGTERM)
    assert run.out is not None
    run.out.until("15")
    assert run.wait() == 0


def test_hooks_run_around_the_stop_and_know_how_it_went(talk, tmp_path):
    before, after = tmp_path / "before", tmp_path / "after"
    run = talk(
        options=[
            "--pre-stop", f"sh -c 'echo \"$GRACEWRAP_COMMAND_PID $GRACEWRAP_REASON\" >{before}'",
            "--post-stop", f"sh -c 'echo \"$GRACEWRAP_OUTCOME $GRACEWRAP_EXIT_STATUS\" >{after}'",
        ]
    )  # fmt: skip
    pid = run.ready()
    run.send(signal.SIGTERM)
    assert run.line() == "15" and before.exists()  # it was done when the signal came
    assert run.wait() == 0
    assert before.read_text().startswith(f"{pid} SIGTERM from ")
    assert after.read_text() == "graceful 0\n"
    assert [
        line["hook"] for line in run.log() if line["event"] == "helper_ended" and line["ok"]
    ] == ["pre_stop", "post_stop"]


def test_a_hook_that_hangs_is_given_up_in_time_for_the_stop_signal(talk):
    seconds = f"600.{os.getpid()}"  # found among those of other test runs
    options = ["--pre-stop", f"sleep {seconds}"]
    run = talk(options=[*options, "--shutdown-timeout", "1s", "--stop-timeout", "700ms"])
    run.ready()
    run.send(signal.SIGTERM)
    assert run.line() == "15"
    assert run.wait() == 0
    log = run.log()
    assert [
        line["event"]
        for line in log
        if line["event"] in ("helper_ended", "held_too_long", "stop_signal")
    ]
    words = f"sleep\0{seconds}".encode()
    assert not [pid for pid in os.listdir("/proc") if pid.isdigit() and words in cmdline(pid)]


def cmdline(pid: str) -> bytes:
    try:
        return Path(f"/proc/{pid}/cmdline").read_bytes()
    except OSError:
        return b""


@pytest.mark.parametrize("hook", ["false", "/no/such/file"])
def test_a_hook_that_fails_does_not_stop_the_stop(talk, hook):
    run = talk(options=["--pre-stop", hook, "--post-stop", hook])
    run.ready()
    run.send(signal.SIGTERM)
    assert run.wait() == 0
    assert [line["ok"] for line in run.log() if line["event"] == "helper_ended"] == [False, False]


def test_a_hook_that_asks_for_the_stop_it_is_part_of_cuts_nothing_short(talk):
    run = talk(options=["--pre-stop", "sh -c 'kill -TERM $PPID; kill -TERM $PPID; echo hooked'"])
    run.ready()
    run.send(signal.SIGTERM)
    assert run.line() == "hooked" and run.line() == "15"
    assert run.wait() == 0


def test_a_probe_that_runs_when_the_command_ends_does_not_stay(start, tmp_path):
    mark = tmp_path / "pid"
    probe = f"sh -c 'echo $$ >{mark}.new; mv {mark}.new {mark}; exec sleep 600'"
    command = ["sh", "-c", f"while ! test -e {mark}; do sleep 0.05; done"]
    run = start(
        "--drain-exec",
        probe,
        "--drain-probe-timeout",
        "9m",
        "--shutdown-timeout",
        "10m",
        "--",
        *command,
    )
    assert run.wait() == 0
    wait_until(lambda: not alive(int(mark.read_text())), "the probe's process is gone")


@pytest.mark.parametrize("broken", ["--drain-interval=10ms"])
def test_the_last_resort_sends_the_stop_signal_that_was_held_back(broken, tmp_path):
    """What raises in the loop while the signal is held: a policy of our own does."""
    code = """
import sys
from gracewrap.runtime import loop
from gracewrap.policy import step as policy_step
def step(system, event, policy, real=policy_step.step):
    if type(event).__name__ == "Sampled":
        raise RuntimeError("a bug")
    return real(system, event, policy)
loop.Loop.__init__.__defaults__ = (step,)
from gracewrap.__main__ import main
main()
"""
    options = ["--drain-file", "/no/such/file", "--drain-when", "before-signal", broken]
    with running(*options, "--", *TALKER, command=[sys.executable, "-c", code]) as run:
        run.ready()
        run.send(signal.SIGTERM)
        assert run.line() == "15"
        assert run.wait() == 0


def test_what_a_hook_leaves_running_is_neither_waited_for_nor_left(talk, tmp_path):
    mark = tmp_path / "pid"
    run = talk(options=["--pre-stop", f"sh -c 'sleep 600 & echo $! >{mark}'"])
    run.ready()
    run.send(signal.SIGTERM)
    assert run.wait() == 0
    assert not alive(int(mark.read_text()))


def test_an_exec_probe_says_drained_by_its_status_and_how_much_by_a_number(talk, tmp_path):
    busy = tmp_path / "busy"
    busy.write_text("2\n")
    run = talk(
        "exit=-1",
        options=[
            "--drain-exec",
            f"sh -c 'test ! -e {busy} || {{ cat {busy}; exit 1; }}'",
            *QUICK,
            "--drain-linger",
            "0s",
            "--shutdown-timeout",
            "10m",
            "--report",
            tmp_path / "report.json",
        ],
    )
    run.ready()
    run.send(signal.SIGTERM)
    assert run.log_line("in_flight")["in_flight"] == 2
    busy.unlink()
    assert run.wait() == 137
    assert report(tmp_path)["interrupted"] == 0


def test_a_probe_that_answers_at_once_is_asked_again_in_its_time(talk, tmp_path):
    """Not only when something else wakes us: there is a line of progress each five seconds."""
    mark = tmp_path / "busy"
    mark.touch()
    run = talk(
        options=[
            "--drain-file",
            mark,
            "--drain-file-is",
            "absent",
            *QUICK,
            "--drain-when",
            "before-signal",
            "--shutdown-timeout",
            "10m",
        ]
    )
    run.ready()
    run.send(signal.SIGTERM)
    run.log_line("draining")
    mark.unlink()
    assert run.line() == "15"
    assert "waiting" not in [line["event"] for line in run.log()]


def test_a_file_probe_and_its_absence(talk, tmp_path):
    mark = tmp_path / "postmaster.pid"
    mark.write_text("7\n")
    run = talk(
        "exit=-1",
        options=[
            "--drain-file",
            mark,
            "--drain-file-is",
            "absent",
            *QUICK,
            "--drain-linger",
            "0s",
            "--shutdown-timeout",
            "10m",
        ],
    )
    run.ready()
    run.send(signal.SIGTERM)
    run.log_line("stop_signal")
    mark.unlink()
    assert run.wait() == 137
    assert [line["why"] for line in run.log() if line["event"] == "kill"] == [
        "drained, and still running"
    ]


# As gunicorn: on SIGTERM it accepts nobody any more, and keeps its listener while it finishes.
ACCEPTS_NO_MORE = """
import signal, socket
listener = socket.create_server(("127.0.0.1", 0))
print("port", listener.getsockname()[1], flush=True)
served, _ = listener.accept()
signal.signal(signal.SIGTERM, lambda *_: None)
print("ready", served.recv(64) and "", flush=True)
while data := served.recv(64):
    pass
if %r:
    late, _ = listener.accept()
    late.sendall(late.recv(64))
    print("answered", flush=True)
    served.sendall(b"done")
    late.recv(64)
"""
REQUEST = b"GET / HTTP/1.1\r\nHost: x\r\n\r\n"


@pytest.mark.parametrize("late", [True, False])
def test_clients_that_were_never_accepted_are_told(start, tmp_path, late):
    options = ("--drain-tcp", "auto", *QUICK, "--log-format", "text")
    options += ("--report", str(tmp_path / "report.json"))
    run = start(*options, "--", sys.executable, "-c", ACCEPTS_NO_MORE % late)
    address = "127.0.0.1", int(run.line().rpartition(" ")[2])
    with (
        socket.create_connection(address, BOUND) as first,
        socket.create_connection(address, BOUND) as second,
    ):
        first.sendall(REQUEST)
        assert run.out is not None and run.err is not None
        run.out.until("ready")
        run.send(signal.SIGTERM)
        run.err.until("sent SIGTERM")
        second.sendall(REQUEST)
        run.err.until("waiting for")
        run.err.until("waiting for")  # it was looked at some times in between
        first.shutdown(socket.SHUT_WR)
        if late:  # it goes on accepting, and is seen to
            assert first.recv(64) == b"done"
            run.err.until("waiting for")
            second.sendall(REQUEST)
        assert run.wait() == 0
    found = report(tmp_path)
    assert found.get("not_accepted") == (None if late else 1)
    assert ("waiting to be accepted" in str(found["summary"])) == (not late)
