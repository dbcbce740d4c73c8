"""Every signal reaches the child, at every moment; none is lost, none is made up."""

from __future__ import annotations

import _signal
import os
import shlex
import shutil
import signal
import subprocess

import pytest

from gracewrap.linux import signals
from processes import (
    GRACEWRAP,
    TALKER,
    descendants,
    environment,
    require,
    require_root,
    running,
    state,
    wait_until,
)

STOPS = {signal.SIGTERM, signal.SIGINT}
JOB_CONTROL = {signal.SIGTSTP, signal.SIGTTIN, signal.SIGTTOU}
UNCATCHABLE = {signal.SIGKILL, signal.SIGSTOP}
# The kernel's SIGIO is one with a user's while it is pending: as long as somebody who looks for
# gracewraps knocks at the control socket.
OF_THE_KERNEL = {signal.SIGCHLD, signal.SIGIO}
FORWARDED = sorted(signal.valid_signals() - STOPS - UNCATCHABLE - OF_THE_KERNEL)


def test_every_catchable_signal_is_forwarded(talk):
    """HUP, QUIT, USR1, USR2, WINCH, ALRM, SEGV and the realtime ones too."""
    run = talk()
    run.ready()
    for signum in FORWARDED:
        run.send(signum)
        assert run.line() == str(int(signum))
    run.send(signal.SIGTERM)
    assert run.line() == "15"
    assert run.wait() == 0


def test_a_users_sigio_is_forwarded(talk):
    run = talk(options=["--control-socket", "off"])
    run.ready()
    for _ in range(3):
        run.send(signal.SIGIO)
        assert run.line() == str(int(signal.SIGIO))


@pytest.mark.parametrize(("code", "pid", "ours"), [(128, 0, True), (0, 1, False)])
def test_the_limit_of_our_own_cpu_time_is_not_the_child_s(code, pid, ours):
    """RLIMIT_CPU, as the kernel sends it: the child was ended by it, with no time used."""
    got = _signal.struct_siginfo((signal.SIGXCPU, code, 0, pid, 0, 0, 0))
    assert signals.is_our_own(got) == ours


def test_realtime_signals_are_queued_and_keep_their_number(talk):
    run = talk()
    run.ready()
    for _ in range(50):
        run.send(signal.SIGRTMIN + 3)
    assert [run.line() for _ in range(50)] == [str(signal.SIGRTMIN + 3)] * 50


def test_signals_go_to_the_leader_only(talk):
    run = talk("fork")
    assert {run.line().split()[0], run.line().split()[0]} == {"ready", "straggler"}
    run.send(signal.SIGUSR1)
    assert run.line() == "10"
    run.send(signal.SIGHUP)
    assert run.line() == "1"  # and not "straggler 10"


def test_group_mode_forwards_to_the_group(talk):
    run = talk("fork", options=["--kill-mode", "group"])
    assert {run.line().split()[0], run.line().split()[0]} == {"ready", "straggler"}
    run.send(signal.SIGUSR1)
    assert {run.line(), run.line()} == {"10", "straggler 10"}


def test_signal_map_rewrites_and_drops(talk):
    run = talk(options=["--signal-map", "HUP=QUIT,USR1=none", "--signal-map", "USR2=RTMIN+1"])
    run.ready()
    for sent, seen in ((signal.SIGHUP, signal.SIGQUIT), (signal.SIGUSR2, signal.SIGRTMIN + 1)):
        run.send(signal.SIGUSR1)
        run.send(sent)
        assert run.line() == str(int(seen))


def test_stop_on_and_stop_signal(talk):
    run = talk(
        "exit=-1", options=["--stop-on", "QUIT", "--stop-signal", "TERM", "--stop-timeout", "20s"]
    )
    run.ready()
    run.send(signal.SIGINT)
    assert run.line() == "2"  # forwarded now
    run.send(signal.SIGQUIT)
    assert [run.line(), run.line()] == ["15", "18"]


def test_a_stop_request_says_who_sent_it(talk):
    run = talk()
    run.ready()
    run.send(signal.SIGTERM)
    line = run.log_line("stop_requested")
    assert f"pid {os.getpid()}, uid {os.getuid()}" in str(line["sender"])
    assert line["signal"] == "SIGTERM"


def test_a_stopped_child_is_continued_so_that_it_can_stop(talk):
    run = talk("exit=5")
    child = run.ready()
    os.kill(child, signal.SIGSTOP)
    wait_until(lambda: state(child) == "T", "the child has stopped")
    run.send(signal.SIGTERM)
    assert run.wait() == 5


def test_a_stop_request_and_the_exit_in_the_same_instant(start):
    """Whichever comes first, gracewrap ends at once and with the child's status."""
    for _ in range(20):
        run = start("--", *TALKER, "exit=6")
        child = run.ready()
        os.kill(child, signal.SIGTERM)
        run.send(signal.SIGTERM)
        assert run.wait() == 6


def calls_of_the_start(trace: str) -> list[tuple[str, int]]:
    """Return each system call from the blocking of signals to the first wait, as (name, how many of
    that name so far)."""
    counts: dict[str, int] = {}
    found: list[tuple[str, int]] = []
    is_blocked = False
    for line in trace.splitlines():
        name = line.partition("(")[0]
        counts[name] = counts.get(name, 0) + 1
        if name == "rt_sigtimedwait":
            return found
        if is_blocked and name.isidentifier():
            found.append((name, counts[name]))
        is_blocked = is_blocked or line.startswith("rt_sigprocmask(SIG_SETMASK, ~[")
    raise AssertionError(f"no wait in the trace: {trace[-500:]}")


FORKED = [
    "sh",
    "-c",
    'LISTEN_PID=$$ exec "$@"',
    "sh",
]  # LISTEN_PID cannot be set by posix_spawn: the other way to start a child


@pytest.mark.slow
@pytest.mark.parametrize("before", [[], FORKED], ids=["spawn", "fork"])
def test_a_stop_request_at_any_moment_of_the_start_is_not_lost(tmp_path, before):
    """At each of gracewrap's own system calls in turn: before the child, before its exec, or in its
    first instructions."""
    require(shutil.which("strace"), "strace")
    trace = tmp_path / "trace"
    strace = ["strace", "-qq", "-o", str(trace)]
    command = [*before, *GRACEWRAP, "--", "cat"]
    for _ in range(
        2
    ):  # the first run may write byte code, and then its calls are not those of the next
        subprocess.run(
            [*strace, *command], env=environment(), stdin=subprocess.DEVNULL, timeout=60, check=True
        )
    moments = calls_of_the_start(trace.read_text())
    births = [
        i for i, (name, _) in enumerate(moments) if name in ("clone", "clone3", "fork", "vfork")
    ]
    assert births, moments
    every = max(1, len(moments) // 25)
    chosen = {*range(0, len(moments), every), *range(births[0] - 4, births[0] + 8)}
    for name, count in (moments[i] for i in sorted(chosen) if 0 <= i < len(moments)):
        inject = [*strace, "-e", f"inject={name}:signal=TERM:when={count}", *command]
        with subprocess.Popen(
            inject, env=environment(), stdin=subprocess.PIPE, stderr=subprocess.PIPE
        ) as run:
            # `cat` never ends by itself here: only the stop request ends it, by SIGTERM, as it has
            # no handler.
            assert run.wait(30) == 143, (name, count)


@pytest.mark.parametrize("before", [[], FORKED], ids=["spawn", "fork"])
def test_a_stop_request_between_fork_and_exec_is_not_lost(before):
    """dumb-init loses it: its child has dummy handlers there.  The child's exec is held up to make
    the window wide."""
    require(shutil.which("strace"), "strace")
    hold = [
        "strace",
        "-qq",
        "-f",
        "-o",
        "/dev/null",
        "-e",
        "inject=execve:delay_enter=1500000:when=1",
        "-e",
        "trace=execve",
    ]
    # strace counts for each process on its own; gracewrap's exec comes before `when` can, the
    # child's is its first.
    with subprocess.Popen(
        [*hold, *GRACEWRAP, "--", "cat"],
        env=environment(),
        stdin=subprocess.PIPE,
        stderr=subprocess.PIPE,
    ) as run:
        gracewrap: list[int] = []

        def forked() -> bool:
            gracewrap[:] = [pid for pid in descendants(run.pid) if descendants(pid)]
            return bool(gracewrap)

        wait_until(forked, "gracewrap has forked")
        os.kill(gracewrap[0], signal.SIGTERM)
        assert run.wait(30) == 143


UNSHARE = ("unshare", "--pid", "--fork", "--mount-proc")


def init_of(unshare: subprocess.Popen[bytes]) -> int:
    """Return the pid, seen from here, of the process that is PID 1 in there."""
    found: list[int] = []

    def look() -> bool:
        try:
            with open(f"/proc/{unshare.pid}/task/{unshare.pid}/children") as file:
                found[:] = map(int, file.read().split())
        except OSError:
            return False
        return bool(found)

    wait_until(look, "unshare has forked")
    return found[0]


def blocked(pid: int) -> int:
    try:
        with open(f"/proc/{pid}/status") as file:
            return next(int(line.split()[1], 16) for line in file if line.startswith("SigBlk"))
    except (OSError, StopIteration):
        return 0


@pytest.mark.root
def test_as_pid_1_a_stop_request_after_the_first_statement_is_never_lost(start):
    """Before it, the kernel drops it; so the moment to send is when the mask shows, and random ones
    after that."""
    require_root()
    for delay in range(30):
        run = start("--", *TALKER, prefix=UNSHARE)
        init = init_of(run.process)
        # SIGUSR1: unshare itself blocks SIGTERM for a moment.  A child: while gracewrap waits, the
        # mask does not show.
        wait_until(
            lambda init=init: blocked(init) >> 9 & 1 or descendants(init),
            "gracewrap has blocked its signals",
        )
        for _ in range(delay * 40):
            os.getppid()  # a moment later each time
        os.kill(init, signal.SIGTERM)
        # unshare passes the status on; a child that had not blocked SIGTERM yet died of it.
        assert run.wait() in (0, 143), delay


@pytest.mark.root
def test_as_pid_1_forwards_and_reports_the_status(start):
    require_root()
    run = start("--", *TALKER, "exit=9", prefix=UNSHARE)
    assert run.line() == "ready 2"
    init = init_of(run.process)
    for signum in FORWARDED:
        os.kill(init, signum)
        assert run.line() == str(int(signum))
    os.kill(init, signal.SIGTERM)
    assert run.line() == "15"
    assert run.wait() == 9


def wrap(script: str, seconds: int) -> str:
    return script.format(shlex.join([*GRACEWRAP, "--", "sleep", str(seconds)]))


@pytest.mark.root
@pytest.mark.parametrize("script", ["{}; true", "sh -c '{}; true'; true"])
def test_a_shell_that_is_pid_1_and_passes_no_signal_on_is_said_at_the_start(start, script):
    require_root()
    run = start("-c", wrap(script, 600), command=[*UNSHARE, "sh"])
    assert run.log_line("shell_in_front")["shell"] == "sh"


@pytest.mark.root
@pytest.mark.parametrize(
    "script",
    [
        "trap : TERM; {} & wait",
        "exec {}",
        "exec bash -c 'set -m; {}; true'",  # as a shell that somebody types into
        "env -- setsid -w sh -c '{}; true'; true",
        "python3 -c 'import os; os.system(\"{}; true\")'; true",
    ],
)
def test_a_shell_that_is_not_in_front_of_gracewrap_is_no_cause_for_a_warning(start, script):
    require_root()
    run = start("-c", wrap(script, 1), command=[*UNSHARE, "sh"])
    run.wait()
    assert "shell_in_front" not in [one["event"] for one in run.log()]


def test_forwarding_under_a_flood_of_signals_still_stops_in_time():
    """A flood must not starve the deadline."""
    options = ("--shutdown-timeout", "1s", "--log-level", "warning")
    with running(*options, "--", *TALKER, "exit=-1") as run:
        run.ready()
        run.send(signal.SIGTERM)
        while run.process.poll() is None:
            run.send(signal.SIGUSR1)
            run.send(signal.SIGRTMIN + 1)
        assert run.wait() == 137
