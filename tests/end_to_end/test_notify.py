"""What the command says of itself (sd_notify), through a whole gracewrap: more time, a watchdog,
its main process, its status."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

from processes import alive, pause, state, wait_until

# Speaks when it is told to on stdin: `STATUS=...` and the like go to NOTIFY_SOCKET, `fork` starts a
# child whose pid is said, and that says which signals it gets; `leave` ends it.
SPEAKER = """
import os, select, signal, socket, sys
def notify(text):
    to = os.environ["NOTIFY_SOCKET"]
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as s:
        s.connect("\\0" + to[1:] if to[0] == "@" else to)
        s.send(text.encode())
def say(text): os.write(1, (text + "\\n").encode())
def on(name):
    for n in (signal.SIGTERM, signal.SIGUSR1):
        def heard(n, _):
            say(f"{name} {n}")
            if name == "child" and n == 15:
                os._exit(5)
        signal.signal(n, heard)
on("leader")
say(f"ready {os.getpid()}")
for line in sys.stdin:
    line = line.strip()
    if line == "fork sleep":
        child = os.fork()
        if child == 0:
            signal.signal(signal.SIGTERM, signal.SIG_DFL)
            os.execvp("sleep", ["sleep", "1000"])
        say(f"child {child}")
    elif line == "fork":
        if os.fork() == 0:
            on("child")
            say(f"child {os.getpid()}")
            while True: signal.pause()
    elif line == "leave":
        os._exit(0)
    else:
        notify(line)
        say(f"sent {line}")
while True: signal.pause()
"""


def speaker(start, *options: str):
    run = start(
        *options, "--notify", "--", sys.executable, "-I", "-S", "-c", SPEAKER, stdin=subprocess.PIPE
    )
    run.ready()
    return run


def tell(run, line: str) -> None:
    run.process.stdin.write(f"{line}\n".encode())
    run.process.stdin.flush()


def name_main(run) -> int:
    """Have the command start a child and name it as its main process; return its pid."""
    tell(run, "fork")
    child = int(run.line().split()[1])
    tell(run, f"MAINPID={child}")
    assert run.log_line("main_pid")["main"] == child
    assert run.line() == f"sent MAINPID={child}"
    return child


def leave(run, child: int) -> None:
    """Have the command exit, and wait until its child is gracewrap's."""
    tell(run, "leave")
    stat = Path(f"/proc/{child}/stat")
    wait_until(lambda: run.pid == int(stat.read_text().rpartition(")")[2].split()[1]), "it is ours")


def test_a_program_may_take_more_of_the_budget_than_its_stop_timeout(start):
    run = speaker(start, "--shutdown-timeout", "2s", "--stop-timeout", "500ms")
    before = time.monotonic()
    run.send(signal.SIGTERM)
    assert run.line() == "leader 15"
    tell(run, "EXTEND_TIMEOUT_USEC=3600000000")
    assert run.log_line("extended")
    assert run.wait() == 137
    assert time.monotonic() - before >= 2.0
    assert [line for line in run.log() if line["event"] == "kill" and line["elapsed"] >= 2.0]


def test_a_watchdog_that_hears_nothing_stops_the_command(start):
    run = speaker(start, "--watchdog", "400ms", "--shutdown-timeout", "500ms")
    tell(run, "WATCHDOG=1")
    assert run.log_line("watchdog")["after"] == 0.4
    assert "the watchdog was missed" in str(run.log_line("stop_requested")["message"])
    assert run.line() == "sent WATCHDOG=1" and run.line() == "leader 15"
    assert run.wait() == 137


def test_a_watchdog_may_only_be_told_of(start):
    run = speaker(start, "--watchdog", "200ms", "--on-watchdog", "ignore")
    run.log_line("watchdog")
    run.log_line("watchdog")  # it goes on
    run.send(signal.SIGUSR1)
    assert run.line() == "leader 10"


def test_a_program_may_say_itself_that_its_watchdog_was_missed(start):
    run = speaker(start, "--watchdog", "1h", "--on-watchdog", "ignore")
    for _ in range(2):  # it goes on
        tell(run, "WATCHDOG=trigger")
        line = run.log_line("watchdog")
        assert line["after"] == 0.0 and "WATCHDOG=trigger" in str(line["message"])
        assert run.line() == "sent WATCHDOG=trigger"


def test_signals_go_to_the_main_process_that_the_command_names(start):
    run = speaker(start)
    name_main(run)
    run.send(signal.SIGUSR1)
    assert run.line() == "child 10"
    run.send(signal.SIGTERM)
    assert run.line() == "child 15"


def test_the_log_names_the_main_process_that_was_told_although_it_ends_at_once(start):
    run = speaker(start)
    tell(run, "fork sleep")
    child = int(run.line().split()[1])
    tell(run, f"MAINPID={child}")
    assert run.log_line("main_pid")["main"] == child
    assert run.line() == f"sent MAINPID={child}"
    run.send(signal.SIGTERM)
    assert f"(pid {child})" in str(run.log_line("stop_signal")["message"])


def test_a_starter_may_leave_when_it_has_named_the_main_process(start):
    """As a forking daemon does: its exit ends nothing, and the exit status is the main
    process's."""
    run = speaker(start)
    child = name_main(run)
    leave(run, child)
    run.send(signal.SIGUSR1)
    assert run.line() == "child 10"
    run.send(signal.SIGTERM)
    assert run.line() == "child 15"
    assert run.wait() == 5
    assert not alive(child)


def test_when_the_main_process_has_gone_the_leader_is_it_again(start):
    run = speaker(start)
    child = name_main(run)
    os.kill(child, signal.SIGKILL)
    wait_until(lambda: not alive(child), "the main process is gone")
    run.send(signal.SIGUSR1)
    assert run.line() == "leader 10"
    run.send(signal.SIGTERM)
    assert run.line() == "leader 15"


def test_a_starter_that_stays_when_its_main_process_has_stopped_is_told_too(start):
    run = speaker(start, "--shutdown-timeout", "3s")
    name_main(run)
    run.send(signal.SIGTERM)
    assert run.line() == "child 15"
    tell(run, "STATUS=here")  # it has done something since: its main process may have told it
    assert run.line() == "sent STATUS=here"
    assert run.line() == "leader 15"


def test_the_group_of_a_starter_that_has_gone_is_still_the_command_s(start):
    run = speaker(start, "--kill-mode", "group")
    child = name_main(run)
    leave(run, child)
    run.send(signal.SIGTERM)
    assert run.line() == "child 15"
    assert run.wait() == 5


def test_a_sign_of_life_that_came_while_gracewrap_was_stopped_counts(start):
    run = speaker(start, "--watchdog", "1s")
    os.kill(run.pid, signal.SIGSTOP)
    wait_until(lambda: state(run.pid) == "T", "gracewrap is stopped")
    tell(run, "WATCHDOG=1")
    assert run.line() == "sent WATCHDOG=1"
    stopped = time.monotonic()
    wait_until(lambda: time.monotonic() > stopped + 1.2, "the watchdog's time is over")
    tell(run, "WATCHDOG=1")
    assert run.line() == "sent WATCHDOG=1"
    os.kill(run.pid, signal.SIGCONT)
    tell(run, "STATUS=alive")
    assert run.log_line("said")["text"] == "alive"
    assert run.line() == "sent STATUS=alive"
    run.send(signal.SIGTERM)
    assert run.line() == "leader 15"
    assert not [line for line in run.err.seen if '"event": "watchdog"' in line]


def test_after_a_pause_the_watchdog_counts_anew(start):
    run = speaker(start, "--watchdog", "2s")
    tell(run, "STATUS=there")
    assert run.line() == "sent STATUS=there"
    assert run.log_line("said")["text"] == "there"  # gracewrap, which starts after it, listens
    tell(run, "WATCHDOG=1")
    assert run.line() == "sent WATCHDOG=1"
    pause(run.pid, 3)
    assert 0.5 < run.log_line("time_gap")["seconds"] < 60
    tell(run, "WATCHDOG=1")
    assert run.line() == "sent WATCHDOG=1"
    tell(run, "STATUS=alive")
    assert run.log_line("said")["text"] == "alive"
    assert run.line() == "sent STATUS=alive"
    assert not [line for line in run.err.seen if '"event": "watchdog"' in line]
    assert run.log_line("watchdog")["after"] == 2  # when it is silent, it is missed as ever
    assert run.line() == "leader 15"


def test_after_a_pause_a_stop_goes_on_with_what_was_left_of_the_budget(start):
    run = speaker(start, "--shutdown-timeout", "4s")
    run.send(signal.SIGTERM)
    assert run.line() == "leader 15"
    pause(run.pid, 5)
    run.log_line("time_gap")
    tell(run, "leave")
    assert run.wait() == 0
    summary = run.log_line("summary")
    assert summary["killed"] == [] and summary["used_seconds"] < 4 < summary["paused_seconds"]


def test_a_process_that_is_not_the_command_s_is_no_main_process(start):
    run = speaker(start)
    tell(run, f"MAINPID={run.pid}")
    assert run.line() == f"sent MAINPID={run.pid}"
    tell(run, "STATUS=still here")
    assert run.log_line("said")["text"] == "still here"
    assert run.line() == "sent STATUS=still here"
    run.send(signal.SIGTERM)
    assert run.line() == "leader 15"
