"""The stop, with real processes: who is signalled, when SIGKILL comes, what "stopped" means."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time

import pytest

from processes import (
    GRACEWRAP,
    TALKER,
    Lines,
    alive,
    environment,
    require_root,
    state,
    wait_until,
    wait_until_next_request,
)


def straggler_and_leader(run) -> tuple[int, int]:
    """Return their pids once both sleep: who is awake when the stop signal is sent may be at it."""
    found = dict(run.line().split() for _ in range(2))
    pids = int(found["straggler"]), int(found["ready"])
    wait_until(lambda: [state(pid) for pid in pids] == ["S", "S"], "both wait for signals")
    return pids


def events(run) -> list[str]:
    return [str(line["event"]) for line in run.log()]


def test_sigkill_at_the_end_of_the_budget(talk):
    run = talk("ignore=15", options=["--shutdown-timeout", "300ms"])
    run.ready()
    before = time.monotonic()
    run.send(signal.SIGTERM)
    assert run.wait() == 137
    assert time.monotonic() - before >= 0.3
    log = run.log()
    assert [line["event"] for line in log][-3:] == ["kill", "leader_exited", "summary"]
    assert log[-1]["outcome"] == "killed"


HOG = """
import os, sys, time
os.sched_setaffinity(0, {int(sys.argv[1])})
os.sched_setscheduler(0, os.SCHED_FIFO, os.sched_param(1))
print(flush=True)
end = time.monotonic() + 3
while time.monotonic() < end:
    pass
"""


def stopped_beside_a_hog(talk) -> list[dict[str, object]]:
    """Return the log of a stop in which gracewrap has a CPU with real-time work to itself."""
    cpu = min(os.sched_getaffinity(0))
    run = talk("ignore=15", options=["--shutdown-timeout", "2s"])
    run.ready()
    run.send(signal.SIGTERM)
    run.log_line("stop_signal")
    os.sched_setaffinity(run.pid, {cpu})
    command = [sys.executable, "-I", "-S", "-c", HOG, str(cpu)]
    with subprocess.Popen(command, stdout=subprocess.PIPE) as hog:
        assert hog.stdout is not None and hog.stdout.readline() == b"\n"
        assert run.wait() == 137
        hog.kill()
    return [json.loads(line) for line in run.err.rest()]


@pytest.mark.root
def test_the_budget_holds_while_gracewrap_has_to_wait_for_a_cpu(talk):
    """Of each second the kernel leaves some 50 ms to those without real-time priority; when, is its
    own choice, and now and then gracewrap has not to wait for long."""
    require_root()
    waits: list[object] = []
    for _ in range(8):
        log = stopped_beside_a_hog(talk)
        summary = log[-1]
        assert (summary["outcome"], summary["paused_seconds"]) == ("killed", 0)
        assert 2 <= summary["used_seconds"] < 3.5
        waits = [line["seconds"] for line in log if line["event"] == "cpu_wait"]
        if waits:
            break
    assert waits and waits[0] > 0.5


def test_who_has_ended_is_not_out_of_time(talk):
    """Its exit is found out when the budget has ended, after a signal with a lower number."""
    run = talk("exit=-1", options=["--shutdown-timeout", "400ms"])
    child = run.ready()
    began = time.monotonic()
    run.send(signal.SIGTERM)
    assert run.line() == "15"
    run.send(signal.SIGSTOP)
    wait_until(lambda: state(run.pid) == "T", "it is stopped")
    os.kill(child, signal.SIGKILL)
    wait_until(lambda: state(child) == "Z", "the child has ended")
    # A pause that extends the budget is longer.
    wait_until(lambda: time.monotonic() - began > 0.45, "the budget has ended")
    run.send(signal.SIGUSR1)
    run.send(signal.SIGCONT)
    assert run.wait() == 137
    assert "kill" not in events(run)


def test_time_that_is_not_needed_is_not_spent(talk, tmp_path):
    run = talk(options=["--shutdown-timeout", "10m", "--report", tmp_path / "report"])
    run.ready()
    run.send(signal.SIGTERM)
    assert run.wait() == 0  # BOUND is far below ten minutes


@pytest.mark.parametrize("where", ["fork", "session"])
def test_a_straggler_is_told_once_when_the_leader_is_gone(talk, where):
    """Also one in a session of its own: setsid does not lead out of "nothing left"."""
    run = talk(where, "exit=4")
    straggler, _ = straggler_and_leader(run)
    run.send(signal.SIGTERM)
    assert [run.line() for _ in range(3)] == ["15", "straggler 15", ""]
    assert run.wait() == 4
    assert not alive(straggler)
    assert events(run) == ["stop_requested", "stop_signal", "leader_exited", "leftover", "summary"]


@pytest.mark.parametrize("where", ["fork", "session"])
def test_a_straggler_that_ignores_the_signal_is_killed_in_time(talk, where):
    """Under supervisord and circus it outlives a stop that is reported as clean."""
    run = talk(where, "ignore=15", "leave", options=["--shutdown-timeout", "300ms"])
    word, pid = run.line().split()
    assert word == "straggler"
    assert run.wait() == 7  # the leader's
    assert not alive(int(pid))
    log = run.log()
    assert [line["event"] for line in log] == ["leader_exited", "leftover", "kill", "summary"]
    assert f"(pid {pid})" in str(log[2]["members"])


THREAD = """
import ctypes, os, threading
os.setsid()
threading.Thread(target=threading.Event().wait).start()
print("ready", os.getpid(), flush=True)
ctypes.CDLL(None).pthread_exit(None)
"""


def test_a_process_that_lives_on_in_its_threads_is_no_zombie(start):
    """Its main thread has ended, and /proc says Z."""
    python = f"{sys.executable} -I -c"
    run = start(
        "--shutdown-timeout",
        "500ms",
        "--",
        "bash",
        "-c",
        f"{python} '{THREAD}' & read line; exit 7",
        stdin=subprocess.PIPE,
    )
    pid = run.ready()
    wait_until(lambda: state(pid) == "Z", "its main thread has ended")
    assert run.process.stdin
    run.process.stdin.write(b"\n")
    run.process.stdin.flush()
    assert run.wait() == 7
    assert state(pid) == ""


TRACED = (
    "import ctypes, os, signal; ctypes.CDLL(None).ptrace(0, 0, 0, 0); print('ready', "
    "os.getpid(), flush=True); signal.pause()"
)


def test_a_child_that_has_itself_traced_has_not_exited_at_its_first_signal(start):
    """PTRACE_TRACEME, against debuggers: we are the tracer, and its stops are reported without
    being asked for."""
    run = start("--shutdown-timeout", "500ms", "--", sys.executable, "-I", "-c", TRACED)
    pid = run.ready()
    run.send(signal.SIGUSR1)
    wait_until(lambda: state(pid) == "t", "it is stopped by its tracer")
    run.send(signal.SIGTERM)
    assert run.wait() == 137
    assert [line["event"] for line in run.log()][:2] == ["stop_requested", "stop_signal"]


def test_a_forwarded_signal_does_not_count_as_the_stop_signal(start):
    """In group mode; what the leader leaves behind is told all the same."""
    talker = " ".join(TALKER)
    run = start(
        "--kill-mode",
        "group",
        "--",
        "bash",
        "-c",
        f"trap '' HUP; {talker} & read line; exit 3",
        stdin=subprocess.PIPE,
    )
    run.ready()
    run.send(signal.SIGHUP)
    assert run.process.stdin
    run.process.stdin.write(b"\n")
    run.process.stdin.flush()
    assert [run.line(), run.line()] == ["1", "15"]
    assert run.wait() == 3


def test_process_mode_leaves_the_rest_alone_until_sigkill(talk):
    run = talk("fork", "exit=0", options=["--kill-mode", "process", "--shutdown-timeout", "500ms"])
    straggler, _ = straggler_and_leader(run)
    run.send(signal.SIGTERM)
    assert [run.line(), run.line()] == ["15", ""]
    assert run.wait() == 0
    assert not alive(straggler)


def test_group_mode_signals_the_group_once(talk):
    run = talk("fork", "exit=-1", options=["--kill-mode", "group", "--shutdown-timeout", "500ms"])
    straggler_and_leader(run)
    run.send(signal.SIGTERM)
    lines = list(iter(run.line, ""))
    assert sorted(line for line in lines if "15" in line) == ["15", "straggler 15"]
    assert run.wait() == 137


def test_a_leader_that_ignores_the_signal_does_not_keep_it_from_its_members(start):
    """A wrapper with `trap '' TERM`; its child sets a handler of its own and would never hear of
    the stop."""
    child = " ".join(f"'{word}'" for word in TALKER)
    run = start("--", "bash", "-c", f"trap '' TERM; {child} exit=0; exit 3")
    run.ready()
    run.send(signal.SIGTERM)
    assert run.line() == "15"
    assert run.wait() == 3
    assert "stop_signal_ignored" in events(run)


WRITES_ON = """
import os, signal, sys
signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGTERM})
os.write(2, b"ready\\n")
signal.sigwait({signal.SIGTERM})
os.write(2, b"told\\n")
os.read(3, 1)
print("its last line", flush=True)
"""


@pytest.mark.parametrize("trap", ["trap 'true' TERM", "trap '' TERM"])
def test_a_pipeline_behind_a_shell_that_handles_the_signal_is_read_to_its_end(start, trap):
    """Without a reader, who writes would be ended by SIGPIPE."""
    reader = f"{sys.executable} -I -S -c 'import _signal; _signal.signal(15, 0); print(input())'"
    server = f"{sys.executable} -I -c '{WRITES_ON}' 3<&0 2>&4"
    script = f"exec 4>&1; {trap}; {server} | {reader}"
    run = start("--shutdown-timeout", "20s", "--", "bash", "-c", script, stdin=subprocess.PIPE)
    assert run.line() == "ready"
    run.send(signal.SIGTERM)
    assert run.line() == "told"
    run.process.stdin.write(b"x")
    run.process.stdin.flush()
    assert run.line() == "its last line"
    assert run.wait() == 0


PASSES_ON = """#!{python} -ISu
import os, signal, sys
pid = os.spawnvp(os.P_NOWAIT, sys.argv[1], sys.argv[1:])
signal.signal(signal.SIGTERM, lambda *_: os.kill(pid, signal.SIGTERM))
os.waitpid(pid, 0)
"""


def test_what_a_known_supervisor_has_started_is_told_once_however_long_it_takes(start, tmp_path):
    """It is still at work at half of the time, and up to its end."""
    (tmp_path / "runsv").write_text(PASSES_ON.format(python=sys.executable))
    (tmp_path / "runsv").chmod(0o755)
    run = start("--shutdown-timeout", "1s", "--", tmp_path / "runsv", *TALKER, "exit=-1")
    run.ready()
    run.send(signal.SIGTERM)
    assert list(iter(run.line, "")) == ["15"]
    run.wait()
    assert "kill" in events(run)


ONCE = """
import _signal, posix
def once(signum, frame):
    _signal.signal(15, _signal.SIG_DFL)
    posix.write(1, b"told\\n")
_signal.signal(15, once)
posix.write(1, b"ready %d\\n" % posix.getpid())
while True:
    got = posix.read(0, 1)
    if not got or got == b"x":
        posix._exit(0)
"""


def test_a_member_that_the_leader_has_told_is_not_told_again(start):
    """`trap 'kill $pid' TERM; wait`: the shell passes the signal on and is gone.  The handler is
    for one use: the next kills."""
    child = f"{sys.executable} -I -S -c '{ONCE}'"
    script = f"exec 3<&0; {child} <&3 & pid=$!; trap 'kill -TERM $pid' TERM; wait $pid"
    run = start("--", "bash", "-c", script, stdin=subprocess.PIPE)
    child_pid = run.ready()
    run.send(signal.SIGTERM)
    assert run.line() == "told"
    assert run.log_line("leader_exited")
    assert run.process.stdin
    run.process.stdin.write(b"x")  # its work is done
    run.process.stdin.flush()
    assert run.wait() == 143
    assert not alive(child_pid)
    assert "kill" not in events(run)


def test_escalation_climbs_in_time_and_second_request_skips_ahead(talk):
    run = talk(
        "ignore=15", options=["--escalation", "30s=INT,40s=QUIT", "--shutdown-timeout", "50s"]
    )
    run.ready()
    run.send(signal.SIGTERM)
    assert run.log_line("stop_signal")
    assert run.line() == "18"  # SIGCONT comes with each
    run.send(signal.SIGQUIT)  # not a stop request: forwarded at once
    assert run.line() == "3"
    wait_until_next_request()
    run.send(signal.SIGTERM)
    assert {run.line(), run.line()} == {"2", "18"}


def test_third_request_kills_now(talk):
    run = talk("exit=-1", options=["--shutdown-timeout", "10m"])
    run.ready()
    for _ in range(3):
        run.send(signal.SIGTERM)
        assert run.err is not None
        run.err.until("SIGTERM")
        wait_until_next_request()
    assert run.wait() == 137
    assert "asked three times" in str(run.log_line("kill")["why"])


def test_the_kill_names_all_of_it_and_who_was_never_told(talk):
    run = talk("fork", "exit=-1", options=["--shutdown-timeout", "300ms"])
    straggler, leader = straggler_and_leader(run)
    run.send(signal.SIGTERM)
    line = run.log_line("kill")
    assert {f"(pid {straggler})", f"(pid {leader})"} == {
        f"({part.split('(')[1]}" for part in str(line["members"]).split(", ")
    }
    assert f"(pid {straggler})" in str(line["untold"])
    assert run.wait() == 137


def test_a_command_without_a_handler_is_not_called_graceful(start):
    run = start("--", "sh", "-c", "echo ready; exec sleep 60")
    assert run.line() == "ready"
    run.send(signal.SIGTERM)
    assert run.wait() == 143
    assert run.log_line("summary")["outcome"] == "ended_by_signal"


def test_success_exit_codes(talk):
    run = talk("exit=143", options=["--success-exit-codes", "TERM"])
    run.ready()
    run.send(signal.SIGTERM)
    assert run.wait() == 0


# No cleaning up after a failed test would get hold of them: they end by themselves.
BOMB = """
import _signal, posix, time
_signal.signal(15, _signal.SIG_IGN)
for _ in range(3):
    if posix.fork() == 0:
        posix.setpgid(0, 0)
end = time.monotonic() + 60
while time.monotonic() < end:
    pid = posix.fork()
    if pid:
        posix._exit(0)
"""


@pytest.mark.parametrize("as_pid_1", [False, True])
def test_processes_that_fork_faster_than_one_can_look_are_killed_all(start, as_pid_1, tmp_path):
    """Each member forks and exits at once, in groups of their own: no list of pids is ever
    right."""
    if as_pid_1:
        require_root()
    prefix = ("unshare", "--pid", "--fork", "--mount-proc") if as_pid_1 else ()
    options = ("--shutdown-timeout", "300ms", "--report", tmp_path / "report")
    run = start(
        *options,
        "--",
        sys.executable,
        "-I",
        "-S",
        "-c",
        f"print('ready', flush=True)\n{BOMB}",
        prefix=prefix,
    )
    assert run.line() == "ready"
    assert run.wait() == 0  # the first one's exit status
    assert '"outcome": "killed"' in (tmp_path / "report").read_text()


@pytest.mark.root
@pytest.mark.slow
def test_as_pid_1_reaps_20000_orphans_and_all_statuses():
    require_root()
    command = [
        "unshare",
        "--pid",
        "--fork",
        "--mount-proc",
        *GRACEWRAP,
        "--report",
        "/dev/stderr",
        "--",
        *TALKER,
        "orphans=20000",
    ]
    with subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, env=environment()
    ) as run:
        assert run.stdout and run.stderr
        lines = Lines(run.stdout.fileno())
        assert lines.next(110) == f"ready {lines.seen[-1].split()[1]}"
        with open(f"/proc/{run.pid}/task/{run.pid}/children") as file:
            init = int(file.read())
        wait_until(lambda: zombies_below(init) == 0, "no zombie is left")
        os.kill(init, signal.SIGTERM)
        assert run.wait(30) == 0
        assert '"orphans_reaped": 20000' in run.stderr.read().decode()


def zombies_below(pid: int) -> int:
    with open(f"/proc/{pid}/task/{pid}/children") as file:
        return sum(not alive(int(child)) for child in file.read().split())


def test_orphans_of_a_running_command_are_left_alone(talk):
    """They daemonised; that is their business until the stop."""
    run = talk("session")
    straggler, leader = straggler_and_leader(run)
    os.kill(straggler, signal.SIGUSR1)
    assert run.line() == "straggler 10"
    assert alive(straggler) and alive(leader)


def test_a_stop_that_is_asked_for_while_leftovers_end(talk):
    run = talk("fork", "leave", "exit=-1", options=["--shutdown-timeout", "800ms"])
    assert run.line().split()[0] == "straggler"
    assert run.line() == "straggler 15"
    run.send(signal.SIGTERM)
    assert run.line() in ("straggler 18", "")
    assert run.wait() == 7
