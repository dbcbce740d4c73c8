"""The native launcher: what the child finds is what Python gives it, nothing is lost when Python
takes over, and it does without Python where it must."""

from __future__ import annotations

import contextlib
import json
import os
import re
import resource
import shutil
import signal
import socket
import subprocess
import sys
import sysconfig
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from gracewrap.runtime import return_to_launcher
from gracewrap.server import control_socket
from launchers import SOURCES, STRICT, compile_launcher, put_package
from processes import (
    BOUND,
    GRACEWRAP,
    TALKER,
    Run,
    alive,
    descendants,
    environment,
    require,
    require_root,
    wait_until,
)

ROUNDS = int(os.environ.get("GRACEWRAP_HANDOVERS", "200"))
OF_GLIBC = 1 << 31 | 1 << 32  # see tests/linux/test_spawn.py
pytestmark = pytest.mark.timeout(600)
UNSHARE = ("unshare", "--pid", "--fork", "--mount-proc")


@pytest.fixture(scope="session")
def checked(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The launcher, compiled with sanitizers that end it at the first mistake."""
    prefix = tmp_path_factory.mktemp("checked")
    put_package(prefix)
    sanitize = ["-g", "-fsanitize=address,undefined", "-fno-sanitize-recover=all"]
    return compile_launcher(prefix / "bin" / "gracewrap", *sanitize)


@pytest.fixture(scope="session")
def alone(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The launcher where there is neither a Python nor the package."""
    return compile_launcher(tmp_path_factory.mktemp("alone") / "bin" / "gracewrap")


@pytest.fixture
def both(launcher: Path) -> list[list[str]]:
    """Both ways to start gracewrap: by Python, and by the launcher."""
    return [list(GRACEWRAP), [str(launcher)]]


# --- the source ----------------------------------------------------------------------------------


def test_the_analyzer_finds_nothing(tmp_path):
    require(shutil.which("gcc"), "gcc")
    include = Path(sysconfig.get_path("include"))
    of_python = ["embed.c"] if (include / "Python.h").exists() else []
    for source in ("launch.c", "exec.c", *of_python):
        path = Path(__file__).parents[2] / "launcher" / source
        command = ["gcc", *STRICT, "-O2", "-fanalyzer", f"-I{include}", "-c", path]
        command += ["-o", tmp_path / "object"]
        done = subprocess.run(command, capture_output=True, text=True, timeout=500)
        assert done.returncode == 0, done.stderr


def test_it_can_be_linked_statically_against_musl(start, tmp_path):
    require(shutil.which("musl-gcc"), "musl-gcc")
    target = tmp_path / "gracewrap"
    command = ["musl-gcc", *STRICT, "-static", "-Os", "-o", target, *SOURCES]
    subprocess.run(list(map(str, command)), check=True, timeout=500)
    assert subprocess.run([target, "--", "sh", "-c", "exit 3"], env=environment()).returncode == 3
    assert target.stat().st_size < 200_000
    run = start("--", *TALKER, command=[str(target)])
    run.ready()
    run.send(34)  # which musl keeps for itself
    assert run.line() == "34"


# --- what the child finds ------------------------------------------------------------------------

SHOWN = ("status", "limits", "environ", "cmdline", "cgroup", "oom_score_adj", "personality")
CHANGING = re.compile(
    r"^(Pid|SigQ|Tgid|NSpid|NStgid|NSpgid|PPid|Vm\w+|Rss\w+|.*ctxt_switches|Hugetlb\w+|Cpus_\w+):.*$",
    re.MULTILINE,
)


def starts(ignored: set[int], blocked: set[int]) -> Callable[[], None]:
    def prepare() -> None:
        for signum in ignored:
            signal.signal(signum, signal.SIG_IGN)
        signal.pthread_sigmask(signal.SIG_SETMASK, blocked)
        os.umask(0o027)
        os.nice(3)

    return prepare


def shown(gracewrap: list[str], ignored: set[int], blocked: set[int], fd: int) -> list[str]:
    """Return what a child of gracewrap finds of itself, without what is never the same twice."""
    files = [f"/proc/self/{name}" for name in SHOWN]
    script = "readlink /proc/self/fd/0 /proc/self/fd/1; ls /proc/self/fd; umask; nice; pwd"
    options: dict[str, object] = {
        "env": {"PATH": os.environ["PATH"], "B": "2", "A": "\udcff", "EMPTY": ""},
        "pass_fds": (fd,),
        "stdin": subprocess.DEVNULL,
        "stdout": subprocess.PIPE,
        "preexec_fn": starts(ignored, blocked),
        "timeout": 30,
    }
    command = [*gracewrap, "--", "cat", *files]
    first = subprocess.run(command, check=True, **options).stdout  # type: ignore[call-overload]
    text = CHANGING.sub("", first.decode(errors="surrogateescape"))
    masks = re.search(r"SigIgn:\t(\w+)", text)
    assert masks is not None
    text = text.replace(masks[0], hex(int(masks[1], 16) & ~OF_GLIBC))
    second = subprocess.run([*gracewrap, "--", "sh", "-c", script], check=True, **options).stdout  # type: ignore[call-overload]
    # The pipe differs, and ls opens a descriptor more.
    return [text, re.sub(r"pipe:\[\d+\]", "pipe", second.decode())]


@pytest.mark.parametrize(
    ("ignored", "blocked"),
    [
        (set(), set()),
        ({signal.SIGINT, signal.SIGQUIT, signal.SIGCHLD, signal.SIGTERM}, set()),
        ({signal.SIGHUP, signal.SIGUSR1}, {signal.SIGTERM, signal.SIGCHLD, signal.SIGRTMIN + 1}),
        ({signal.SIGPIPE, signal.SIGRTMAX, signal.SIGRTMIN}, {signal.SIGHUP, signal.SIGINT}),
    ],
    ids=["plainly", "background", "nohup", "others"],
)
def test_the_child_finds_the_same_bit_for_bit(both, ignored, blocked):
    """Mask, dispositions, limits, environment, words, descriptors, capabilities, directory."""
    reading, writing = os.pipe()
    try:
        by_python, by_launcher = (shown(way, ignored, blocked, writing) for way in both)
    finally:
        os.close(reading)
        os.close(writing)
    assert by_python == by_launcher


def test_group_session_and_parent_are_the_same(both):
    script = (
        "import posix; print(posix.getpid() == posix.getpgrp(), posix.getsid(0) == "
        "posix.getsid(posix.getppid()), posix.getpgid(posix.getppid()) != posix.getpgrp())"
    )
    for way in both:
        command = [*way, "--", sys.executable, "-I", "-S", "-c", script]
        done = subprocess.run(command, env=environment(), stdout=subprocess.PIPE, text=True)
        assert done.stdout == "True True True\n"


def open_files(pid: int) -> list[str]:
    """Return what the descriptors of a process lead to; one may be closed between two looks."""
    links = []
    for fd in os.listdir(f"/proc/{pid}/fd"):
        with contextlib.suppress(FileNotFoundError):
            links.append(os.readlink(f"/proc/{pid}/fd/{fd}"))
    return links


def test_at_rest_it_holds_nothing_of_the_child_s_and_is_small(start, launcher):
    run = start("--", "cat", command=[str(launcher)], stdin=subprocess.PIPE)
    # find() would connect, and Python takes over when somebody comes.
    paths = [Path(at) / f"gracewrap-{run.pid}.sock" for at in control_socket.directories()]
    wait_until(lambda: any(path.exists() for path in paths), "the control socket")
    (socket,) = (path for path in paths if path.exists())
    assert socket.stat().st_mode & 0o777 == 0o600
    wait_until(lambda: os.readlink(f"/proc/{run.pid}/cwd") == "/", "the launcher at rest")
    wait_until(lambda: len(open_files(run.pid)) == 7, "only what it needs")
    links = open_files(run.pid)
    assert sum("socket:" in link for link in links) == 1
    assert sum(link.startswith("/proc/") for link in links) == 3
    memory = re.search(
        r"^Private_Dirty: +(\d+)", Path(f"/proc/{run.pid}/smaps_rollup").read_text(), re.MULTILINE
    )
    assert memory is not None and int(memory[1]) < 500  # kB
    run.process.stdin.close()
    assert run.wait() == 0
    assert not socket.exists()


# --- handing over --------------------------------------------------------------------------------


@pytest.fixture
def rain(tmp_path) -> Path:
    require(shutil.which("cc"), "a C compiler")
    source = Path(__file__).with_name("rain.c")
    command = ["cc", "-O2", "-o", tmp_path / "rain", source]
    subprocess.run(command, check=True, timeout=60)
    return tmp_path / "rain"


def test_handovers_lose_nothing(launcher, rain):
    """Signals and orphans rain while Python takes over: each signal reaches the child, SIGTERM
    once, and the status is the child's."""
    signals = 30
    for number in range(ROUNDS):
        orphans = 20 * (number % 2)  # without any, the launcher sends the stop signal
        run = Run("--", rain, signals, orphans, command=[str(launcher)])
        try:
            assert run.line() == "ready"
            before = number % signals
            for _ in range(before):
                run.send(signal.SIGRTMIN + 3)
            run.send(signal.SIGTERM)
            for _ in range(signals - before):
                run.send(signal.SIGRTMIN + 3)
            assert run.wait() == 7, number
            summary = [line for line in run.log() if line["event"] == "summary"]
            assert summary[0]["orphans_reaped"] == orphans, number
            assert summary[0]["exit_status"] == 7
        finally:
            run.close()


def test_in_a_rest_nothing_is_lost(launcher, rain):
    """Signals and orphans rain while Python leaves the command to the launcher, and comes back."""
    signals = 30
    for number in range(max(5, ROUNDS // 40)):
        orphans = 20 * (number % 2)
        run = Run(
            *("--shutdown-timeout", "8s", "--", rain, signals, orphans), command=[str(launcher)]
        )
        try:
            assert run.line() == "ready"
            left = signals
            until = time.monotonic() + BOUND
            while not rests(run) and time.monotonic() < until:
                if left > 5 and time.monotonic() % 0.01 < 0.003:
                    run.send(signal.SIGRTMIN + 3)
                    left -= 1
            run.send(signal.SIGRTMIN + 3)
            run.send(signal.SIGTERM)
            for _ in range(left - 1):
                run.send(signal.SIGRTMIN + 3)
            assert run.wait() == 7, number
            summary = [line for line in run.log() if line["event"] == "summary"]
            assert summary[0]["orphans_reaped"] == orphans, number
            assert summary[0]["budget_seconds"] == 8.0
        finally:
            run.close()


def rests(run: Run) -> bool:
    return "--rest=" in cmdline(run.pid)


def test_the_budget_counts_from_the_request(start, launcher):
    run = start("--", *TALKER, "exit=-1", command=[str(launcher)])
    child = run.ready()
    run.send(signal.SIGTERM)
    assert run.line() == "15"
    wait_until(lambda: "launched" in cmdline(run.pid), "Python has taken over")
    assert run.log_line("stop_requested")["budget"] == 25.0
    first = run.log_line("stop_signal")
    assert first["to"] == "leader"
    os.kill(child, signal.SIGKILL)
    assert run.wait() == 137


def cmdline(pid: int) -> str:
    return Path(f"/proc/{pid}/cmdline").read_text()


def test_the_pid_and_the_child_stay_and_it_is_signalled_once(start, launcher):
    run = start("--", *TALKER, "exit=4", command=[str(launcher)])
    child = run.ready()
    assert "launched" not in cmdline(run.pid)
    run.send(signal.SIGUSR1)
    assert run.line() == "10"
    run.send(signal.SIGTERM)
    assert run.line() == "15"
    assert run.wait() == 4
    words = [json.loads(line) for line in run.err.rest()]
    assert [line["event"] for line in words][:3] == [
        "stop_requested",
        "stop_signal",
        "leader_exited",
    ]
    assert f"pid {os.getpid()}, uid {os.getuid()}" in words[0]["sender"]
    assert str(child) in words[1]["message"]
    assert run.out.rest() == ["18"] or not run.out.rest()  # and no second 15


@pytest.fixture
def without_judge(launcher, tmp_path) -> str:
    """The launcher with a Python that never comes to judge anything."""
    (tmp_path / "bin").mkdir()
    shutil.copy(launcher, tmp_path / "bin" / "gracewrap")
    (tmp_path / "gracewrap").symlink_to(launcher.parents[1] / "gracewrap")
    (tmp_path / "bin" / "python3").write_text("#!/bin/sh\nwhile :; do /bin/sleep 100; done")
    (tmp_path / "bin" / "python3").chmod(0o755)
    return str(tmp_path / "bin" / "gracewrap")


def says_signals(more: str) -> list[str]:
    """Return a command that prints each signal, as the talker does, and does something before."""
    script = (
        "import os, signal, subprocess, threading\n"
        "for signum in 10, 15: signal.signal(signum, lambda got, _: os.write(1, b'%d\\n' % got))\n"
        "reading, writing = os.pipe()\n"
        "os.set_blocking(writing, False)\n"
        "signal.set_wakeup_fd(writing)\n"
        f"{more}\n"
        "print('ready', os.getpid(), flush=True)\n"
        "while True: os.read(reading, 1)"
    )
    return [sys.executable, "-I", "-S", "-c", script]


@pytest.mark.parametrize("request_by", [signal.SIGTERM, signal.SIGINT])
def test_the_stop_signal_does_not_wait_for_python(start, without_judge, request_by):
    """Threads are no other processes."""
    wait = "threading.Thread(target=threading.Event().wait, daemon=True).start()"
    command = says_signals(f"for _ in range(20): {wait}")
    run = start("--", *command, command=[without_judge])
    run.ready()
    run.send(request_by)
    assert run.line() == "15"


@pytest.mark.parametrize(
    "more",
    [
        "threading.Thread(target=subprocess.call, args=(['sleep', '99'],), daemon=True).start()",
        "subprocess.call(['setsid', '--fork', 'sleep', '99'])",
    ],
    ids=["of-a-thread", "an-orphan"],
)
def test_with_more_than_one_process_python_looks_first(start, without_judge, more):
    """Who has had the signal can only be told of those who were seen before it."""
    run = start("--", *says_signals(more), command=[without_judge])
    child = run.ready()
    wait_until(lambda: "sleep" in map(name, descendants(run.pid)), "the other process")
    run.send(signal.SIGTERM)
    wait_until(lambda: cmdline(run.pid).startswith("/bin/sh"), "Python has been asked")
    os.kill(child, signal.SIGUSR1)
    assert run.line() == "10"


def name(pid: int) -> str:
    try:
        return Path(f"/proc/{pid}/comm").read_text().strip()
    except OSError:
        return ""


def test_when_it_was_told_and_when_it_ended_is_known(start, launcher):
    """However long Python takes to start."""
    run = start("--", "sleep", "99", command=[str(launcher)])
    wait_until(lambda: "sleep" in map(name, descendants(run.pid)), "the command")
    run.send(signal.SIGTERM)
    assert run.wait() == 143
    requested, told, exited, summary = run.log()
    assert 0 < told["elapsed"] <= exited["elapsed"]
    assert requested["time"] <= told["time"] <= exited["time"] <= summary["time"]
    assert exited["elapsed"] < summary["used_seconds"]
    assert "at once (it has no handler for the signal" in summary["message"]


def test_who_sets_the_signal_to_be_ignored_in_its_handler_does_not_ignore_it(start, launcher):
    again = "signal.signal(15, lambda *_: (signal.signal(15, 1), os.write(1, b'15\\n')))"
    run = start("--", *says_signals(again), command=[str(launcher)])
    child = run.ready()
    run.send(signal.SIGTERM)
    assert run.line() == "15"
    run.log_line("stop_signal")
    run.send(signal.SIGUSR1)
    assert run.line() == "10"
    os.kill(child, signal.SIGKILL)
    assert "stop_signal_ignored" not in [line["event"] for line in run.log()]


def test_who_ignores_the_stop_signal_is_named(start, launcher):
    ignoring = "signal.signal(15, signal.SIG_IGN)"
    run = start("--", *says_signals(ignoring), command=[str(launcher)])
    child = run.ready()
    run.send(signal.SIGTERM)
    run.log_line("stop_signal_ignored")
    os.kill(child, signal.SIGKILL)
    assert run.wait() == 137


def test_a_visitor_is_answered(start, launcher):
    """gracewrap status and stop find it, and Python answers."""
    run = start("--", *TALKER, "exit=3", command=[str(launcher)])
    child = run.ready()
    ask = [sys.executable, "-m", "gracewrap"]
    status = subprocess.run(
        [*ask, "status", "--json", "--pid", str(run.pid)],
        env=environment(),
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert status.returncode == 0, status.stderr
    assert str(child) in status.stdout
    assert "launched" in cmdline(run.pid)
    run.send(signal.SIGHUP)
    assert run.line() == "1"
    run.send(signal.SIGTERM)
    assert run.line() == "15"
    assert run.wait() == 3
    assert not control_socket.find(run.pid)


# --- the rest ------------------------------------------------------------------------------------


def test_with_settings_it_rests_and_keeps_to_them(start, launcher, tmp_path):
    """Also to those of a file that is not there any more when they are needed."""
    config = tmp_path / "gracewrap.toml"
    config.write_text(
        'stop_signal = "QUIT"\nshutdown_timeout = "600ms"\nstop_on = ["TERM", "USR2"]\n'
        'signal_map = { USR1 = "WINCH", HUP = "none" }\n'
    )
    command = ["--config", config, "--", *TALKER, "exit=-1"]
    run = start(*command, command=[str(launcher)])
    child = run.ready()
    wait_until(lambda: rests(run), "the launcher at rest")
    config.unlink()
    # To close memory that holds the note would delay the end; and anybody may read the words.
    wait_until(lambda: len(open_files(run.pid)) == 7, "no file beside those of a plain run")
    assert "SIGQUIT" not in cmdline(run.pid) and "stop_signal" not in cmdline(run.pid)
    memory = re.search(
        r"^Private_Dirty: +(\d+)", Path(f"/proc/{run.pid}/smaps_rollup").read_text(), re.MULTILINE
    )
    assert memory is not None and int(memory[1]) < 1024  # kB
    for signum in (signal.SIGHUP, signal.SIGUSR1, signal.SIGINT):
        run.send(signum)
    assert {run.line(), run.line()} == {"2", str(int(signal.SIGWINCH))}
    run.send(signal.SIGUSR2)
    assert run.line() == "3"
    assert run.log_line("stop_requested")["budget"] == 0.6
    assert run.wait() == 137
    killed = run.log_line("kill")
    assert 0.6 <= killed["elapsed"] < 0.6 + BOUND
    assert str(child) in killed["message"]


def test_a_group_is_forwarded_to_and_looked_at_first(start, launcher):
    script = "trap 'echo got' USR1; trap 'exit 5' TERM; echo ready; while :; do sleep 0.01; done"
    run = start("--kill-mode", "group", "--", "sh", "-c", script, command=[str(launcher)])
    assert run.line() == "ready"
    wait_until(lambda: rests(run), "the launcher at rest")
    run.send(signal.SIGUSR1)
    assert run.line() == "got"
    run.send(signal.SIGTERM)
    assert run.log_line("stop_signal")["to"] == "group"
    assert run.wait() == 5


@pytest.mark.root
def test_in_a_rest_a_command_of_another_user_is_signalled_all_the_same(start, launcher):
    """Without CAP_KILL that takes more than kill(2), which only Python knows."""
    require_root()
    without = ("setpriv", "--bounding-set", "-kill", "--inh-caps", "-kill")
    script = "trap 'echo hup' HUP; trap 'exit 6' TERM; echo ready; while :; do sleep 0.01; done"
    command = ["--user", "nobody", "--", "/bin/sh", "-c", script]
    run = start(*command, prefix=without, command=[str(launcher)])
    assert run.line() == "ready"
    wait_until(lambda: rests(run), "the launcher at rest")
    run.send(signal.SIGHUP)
    assert run.line() == "hup"
    run.send(signal.SIGTERM)
    assert run.wait() == 6


def test_after_a_visit_it_rests_again(start, launcher):
    run = start("--", *TALKER, "exit=3", command=[str(launcher)])
    run.ready()
    run.send(signal.SIGUSR1)
    assert run.line() == "10"
    for _ in range(2):
        with visit(run.pid) as visitor:
            visitor.sendall(b"GET /status HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
            answer = b"".join(iter(lambda: visitor.recv(65536), b""))
        assert b'"signals_forwarded": 1' in answer
        wait_until(lambda: rests(run), "the launcher at rest again")
    run.send(signal.SIGTERM)
    assert run.line() == "15"
    assert run.wait() == 3
    assert not control_socket.find(run.pid)


def standard_files(pid: int) -> list[str]:
    """Return what a process has as its stdin and stderr; "" if that is closed, as in an exec."""
    try:
        return [os.readlink(f"/proc/{pid}/fd/{fd}") for fd in (0, 2)]
    except FileNotFoundError:
        return ["", ""]


def test_closed_standard_descriptors_are_taken_by_nobody(start, launcher):
    """Else what is logged goes to whoever has connected."""
    command = ["sh", "-c", 'exec "$@" <&- 2>&-', "sh", str(launcher)]
    run = start("--", *TALKER, "exit=3", command=command)
    run.ready()
    for at_rest in (False, True):
        if at_rest:
            wait_until(lambda: rests(run), "the launcher at rest")
        wait_until(lambda: standard_files(run.pid) == ["/dev/null"] * 2, "they are taken")
        with visit(run.pid) as visitor:
            visitor.sendall(b"GET /livez HTTP/1.1\r\nHost: x\r\n\r\n")
            assert visitor.recv(65536).startswith(b"HTTP/1.1 200")
            assert standard_files(run.pid) == ["/dev/null"] * 2
    run.send(signal.SIGTERM)
    assert run.wait() == 3


def test_who_connects_and_leaves_does_not_wake_python(start, without_judge):
    """As other gracewraps' commands do, when they look which ones there are."""
    run = start("--", *TALKER, command=[without_judge])
    run.ready()
    silent = visit(run.pid)  # without a word
    for _ in range(20):
        visit(run.pid).close()
    assert [one.pid for one in control_socket.find(run.pid)] == [run.pid]
    run.send(signal.SIGUSR1)
    assert run.line() == "10"
    wait_until(lambda: len(open_files(run.pid)) == 8, "only who has not left is known")
    assert not cmdline(run.pid).startswith("/bin/sh")
    silent.sendall(b"GET")
    wait_until(lambda: cmdline(run.pid).startswith("/bin/sh"), "Python is asked to answer")
    silent.close()


def test_who_has_come_before_is_answered(start, launcher):
    """The launcher hands over connections too."""
    run = start("--", *TALKER, "exit=3", command=[str(launcher)])
    run.ready()
    with visit(run.pid) as first, visit(run.pid) as second:
        for visitor in (first, second):
            visitor.sendall(b"GET /livez HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
            answer = b"".join(iter(lambda to=visitor: to.recv(65536), b""))
            assert answer.startswith(b"HTTP/1.1 200")
    run.send(signal.SIGTERM)
    assert run.wait() == 3


def visit(pid: int) -> socket.socket:
    """Connect to a control socket whose file may not be there yet."""
    paths = [Path(at) / f"gracewrap-{pid}.sock" for at in control_socket.directories()]
    wait_until(lambda: any(path.exists() for path in paths), "the control socket")
    visitor = socket.socket(socket.AF_UNIX)
    visitor.settimeout(BOUND)
    visitor.connect(str(next(path for path in paths if path.exists())))
    return visitor


def test_an_exit_with_a_report_is_python_s(start, launcher, tmp_path):
    report = tmp_path / "report.json"
    run = start(
        "--report-file", report, "--", "cat", command=[str(launcher)], stdin=subprocess.PIPE
    )
    wait_until(lambda: rests(run), "the launcher at rest")
    run.process.stdin.close()
    assert run.wait() == 0
    assert json.loads(report.read_text())["exit_status"] == 0


@pytest.mark.parametrize(
    "options",
    [
        ("--health-listen", "unix:{}/health"),
        ("--log-level", "debug"),
        ("--drain-file", "/nowhere"),
        ("--restart", "always"),
        ("--output", "prefix"),
    ],
    ids=lambda options: options[0],
)
def test_where_something_is_watched_python_stays(start, launcher, tmp_path, options):
    options = [word.format(tmp_path) for word in options]
    run = start(*options, "--", *TALKER, command=[str(launcher)])
    assert "ready" in run.line()
    maps = Path(f"/proc/{run.pid}/maps")
    with visit(run.pid) as visitor:
        visitor.sendall(b"GET /livez HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
        while visitor.recv(65536):
            pass
    assert "python" in maps.read_text()
    assert not rests(run)


def test_a_launcher_that_was_replaced_is_not_executed(start, launcher, tmp_path):
    """It may not know of such a note: a script, or an older one."""
    put_package(tmp_path)
    mine = tmp_path / "bin" / "gracewrap"
    shutil.copy(launcher, mine)
    command = ["--shutdown-timeout", "3s", "--", *TALKER, "exit=3"]
    replace = "import os, shutil; os.unlink({0!r}); shutil.copy('/bin/false', {0!r})"
    (tmp_path / "sitecustomize.py").write_text(replace.format(str(mine)))
    run = start(*command, command=[str(mine)], env=environment(PYTHONPATH=str(tmp_path)))
    run.ready()
    with visit(run.pid) as visitor:
        visitor.sendall(b"GET /livez HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
        while visitor.recv(65536):
            pass
    run.send(signal.SIGTERM)
    assert run.line() == "15"
    assert run.wait() == 3


def test_a_launcher_that_was_replaced_at_rest_is_not_executed(start, launcher, tmp_path):
    """By an installation without one, say: after a visit, the script was, did not know what to do,
    and left the command alone."""
    put_package(tmp_path)
    mine = tmp_path / "bin" / "gracewrap"
    shutil.copy(launcher, mine)
    command = ["--shutdown-timeout", "3s", "--", *TALKER, "exit=3"]
    run = start(*command, command=[str(mine)])
    run.ready()
    wait_until(lambda: rests(run), "the launcher at rest")
    mine.unlink()
    shutil.copy("/bin/false", mine)
    with visit(run.pid) as visitor:
        visitor.sendall(b"GET /livez HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
        while visitor.recv(65536):
            pass
    known = re.search(r"gracewrap_rest=\S+ \d+ (\d+) ", cmdline(run.pid))
    assert known is not None and int(known[1]) != mine.stat().st_ino
    with pytest.raises(subprocess.TimeoutExpired):  # when it would rest again
        run.process.wait(return_to_launcher.REST_AFTER + 0.5)
    run.send(signal.SIGTERM)
    assert run.line() == "15"
    assert run.wait() == 3


def test_at_the_end_of_the_budget_nothing_is_read_from_the_disk(start, launcher, tmp_path):
    """What judges the SIGKILL and the end of the run has been loaded before: the SIGKILL is in time
    and the run is summed up even if the package is gone by then."""
    put_package(tmp_path)
    mine = tmp_path / "bin" / "gracewrap"
    shutil.copy(launcher, mine)
    run = start("--shutdown-timeout", "3s", "--", *TALKER, "exit=-1", command=[str(mine)])
    run.ready()
    wait_until(lambda: rests(run), "the launcher at rest")
    run.send(signal.SIGTERM)
    assert run.log_line("held_up")["moment"] == "half"
    (tmp_path / "gracewrap").unlink()
    assert run.wait() == 137
    assert run.log_line("kill")["why"] == "out of time"
    assert run.log_line("summary")["outcome"] == "killed"


@pytest.mark.root
def test_at_the_exit_in_a_container_no_table_is_walked(launcher, tmp_path):
    """It is as large as the machine's memory allows, and took ten milliseconds."""
    require(shutil.which("strace"), "strace")
    trace = tmp_path / "trace"
    inside = ["unshare", "--pid", "--fork", "--mount-proc", "--net"]
    strace = ["strace", "-qq", "-e", "trace=open,openat", "-o", trace]
    command = [*inside, *strace, launcher, "--", "sh", "-c", "exit 6"]
    done = subprocess.run(command, env=environment(), stdin=subprocess.DEVNULL, timeout=BOUND)
    assert done.returncode == 6
    assert "/proc/net/sockstat" in trace.read_text()
    assert "/proc/net/tcp" not in trace.read_text()


def test_what_the_command_leaves_behind_is_python_s_to_judge(start, launcher):
    run = start("--", "sh", "-c", "sleep 100 & exit 3", command=[str(launcher)])
    assert run.wait() == 3
    events = [line["event"] for line in run.log()]
    assert events == ["leader_exited", "leftover", "summary"]


def test_with_sanitizers_nothing_is_found(start, checked, tmp_path):
    """Start, forwarding, a tree of processes with threads, a visitor, the stop."""
    for words in (
        ["--", "true"],
        ["--", "no-such-command"],
        ["--", str(tmp_path)],
        ["--version"],
        ["--shutdown-timeout", "3s", "--", "true"],
        [],
    ):
        run = start(*words, command=[str(checked)])
        run.wait()
        assert "Sanitizer" not in "".join(run.err.rest())
    script = (
        "import threading, signal, subprocess, sys, time\n"
        "signal.signal(15, lambda *_: sys.exit(6))\n"
        "[threading.Thread(target=time.sleep, args=(60,), daemon=True).start() for _ in range(9)]\n"
        "tree = 'trap : TERM; sh -c \"sleep 9 & wait\" & sleep 9'\n"
        "[subprocess.Popen(['sh', '-c', tree], start_new_session=True) for _ in range(3)]\n"
        "print('ready', flush=True)\ntime.sleep(60)"
    )
    command = [sys.executable, "-I", "-S", "-c", script]
    run = start("--", *command, command=[str(checked)])
    assert run.line() == "ready"
    wait_until(lambda: len(descendants(run.pid)) >= 10, "the tree is there")
    run.send(signal.SIGWINCH)
    run.send(signal.SIGTERM)
    log = [run.log_line("stop_signal"), run.log_line("leader_exited")]
    assert log[1]["status"] == 6
    run.send(signal.SIGTERM)
    run.send(signal.SIGTERM)
    assert run.wait() == 6
    assert "Sanitizer" not in "".join(run.err.rest())


# --- without Python ------------------------------------------------------------------------------


def test_a_command_needs_no_python(alone):
    for status in (0, 3, 255):
        command = [alone, "--", "/bin/sh", "-c", f"exit {status}"]
        done = subprocess.run(command, env=environment(PATH="/nowhere"), timeout=30)
        assert done.returncode == status


def test_anything_else_says_that_there_is_no_python(alone):
    for words in (
        ["--version"],
        ["--", "no-such-command"],
        ["--shutdown-timeout", "3s", "--", "x"],
    ):
        done = subprocess.run(
            [alone, *words], env=environment(PATH="/nowhere"), capture_output=True, text=True
        )
        assert done.returncode == 125
        assert "no Python 3.11 or newer" in done.stderr


def test_the_bare_stop_ends_the_command(start, alone):
    run = start("--", *TALKER, "exit=4", command=[str(alone)], env=environment(PATH="/nowhere"))
    run.ready()
    run.send(signal.SIGUSR2)
    assert run.line() == "12"
    run.send(signal.SIGTERM)
    assert run.line() == "15"
    assert run.wait() == 4
    assert run.err.rest() == [
        "gracewrap: cannot start Python, which is needed from here on (no memory, or no Python); "
        "it only forwards signals, reaps, and kills in time"
    ]


def test_the_bare_stop_ends_what_is_left_behind(start, alone):
    script = "/bin/sleep 100 & exec /bin/sleep 100"
    command = ["/bin/sh", "-c", script]
    run = start("--", *command, command=[str(alone)], env=environment(PATH="/nowhere"))
    wait_until(lambda: len(descendants(run.pid)) == 2, "both are there")
    tree = descendants(run.pid)
    os.kill(tree[0], signal.SIGKILL)
    assert run.wait() == 137
    assert not any(map(alive, tree))


FLOOD = """
import os, signal
parent, flood = os.getppid(), signal.SIGRTMIN + 3
signal.signal(signal.SIGTERM, signal.SIG_IGN)
signal.signal(flood, signal.SIG_IGN)
print("ready", flush=True)
os.fork()
while True:
    try:
        os.kill(parent, flood)
    except BlockingIOError:
        pass  # no more can be pending
    except ProcessLookupError:
        break
"""


def test_the_bare_stop_kills_in_time_while_signals_keep_coming(start, alone):
    """More than it can forward: it looked at the clock only when no signal was pending."""
    note = "child $! 0.0\nbudget 0.200000000"
    run = start(
        *(alone, sys.executable, FLOOD),
        command=[
            "/bin/bash",
            "-c",
            f'"$1" -I -S -c "$2" & GRACEWRAP_REST="{note}" exec "$0" --rest=3 --',
        ],
        env=environment(PATH="/nowhere"),
    )
    assert run.line() == "ready"
    run.send(signal.SIGTERM)
    assert run.wait() == 137


@pytest.mark.root
def test_the_bare_stop_as_pid_1(start, alone):
    require_root()
    run = start(
        "--", *TALKER, "exit=4", prefix=UNSHARE, command=[str(alone)], env=environment(PATH="/bin")
    )
    assert run.line() == "ready 2"
    (init,) = [
        pid
        for pid in descendants(run.pid)
        if Path(f"/proc/{pid}/comm").read_text() == "gracewrap\n"
    ]
    os.kill(init, signal.SIGTERM)
    assert run.line() == "15"
    assert run.wait() == 4


def test_a_python_that_is_too_old_is_not_asked(start, alone, launcher, tmp_path):
    """By the name of its file, as Debian and python.org name it."""
    prefix = tmp_path / "old"
    (prefix / "bin").mkdir(parents=True)
    shutil.copy(launcher, prefix / "bin" / "gracewrap")
    (prefix / "gracewrap").symlink_to(launcher.parents[1] / "gracewrap")
    (prefix / "bin" / "python3").symlink_to("python3.9")
    (prefix / "bin" / "python3.9").write_text("#!/bin/sh\nexit 99\n")
    (prefix / "bin" / "python3.9").chmod(0o755)
    command = [str(prefix / "bin" / "gracewrap")]
    run = start("--", *TALKER, "exit=4", command=command, env=environment(PATH="/nowhere"))
    run.ready()
    run.send(signal.SIGTERM)
    assert run.line() == "15"
    assert run.wait() == 4
    assert "cannot start Python" in run.err.rest()[0]


def test_a_python_that_is_a_script_does_not_lose_the_exit(start, launcher, tmp_path):
    """As those of pyenv on PATH: its shell has our children for its own."""
    put_package(tmp_path)
    mine, shims = tmp_path / "bin" / "gracewrap", tmp_path / "shims"
    (tmp_path / "bin" / "python3").unlink(missing_ok=True)
    shutil.copy(launcher, mine)
    python = os.path.realpath(sys.executable)
    shims.mkdir()
    (shims / "python3").write_text(f'#!/bin/bash\nwait\n/bin/true\nexec {python} "$@"\n')
    (shims / "python3").chmod(0o755)
    (tmp_path / "real").mkdir()
    (tmp_path / "real" / "python3").symlink_to(python)
    path = f"{shims}:{tmp_path}/real:{os.environ['PATH']}"
    run = start("--", *TALKER, "exit=4", command=[str(mine)], env=environment(PATH=path))
    run.ready()
    run.send(signal.SIGTERM)
    assert run.line() == "15"
    assert run.wait() == 4
    assert run.log_line("summary")["exit_status"] == 4


def test_without_a_descriptor_python_takes_over_all_the_same(start, launcher, tmp_path):
    """The package is in a directory of which the launcher does not know the name."""
    site = tmp_path / "lib" / "python3.99" / "site-packages"
    site.mkdir(parents=True)
    (site / "gracewrap").symlink_to(launcher.parents[1] / "gracewrap")
    mine = tmp_path / "bin" / "gracewrap"
    mine.parent.mkdir()
    shutil.copy(launcher, mine)
    (mine.parent / "python3").symlink_to(os.path.realpath(sys.executable))
    run = start("--", *TALKER, "exit=4", command=[str(mine)])
    run.ready()
    wait_until(lambda: len(open_files(run.pid)) == 7, "the launcher at rest")
    _, hard = resource.prlimit(run.pid, resource.RLIMIT_NOFILE)
    there = {int(fd) for fd in os.listdir(f"/proc/{run.pid}/fd")}
    free = next(number for number in range(1 << 10) if number not in there)
    resource.prlimit(run.pid, resource.RLIMIT_NOFILE, (free, hard))
    run.send(signal.SIGTERM)
    assert run.line() == "15"
    assert run.wait() == 4
    assert run.log_line("summary")["exit_status"] == 4


@pytest.mark.parametrize("limit", [f"--as={24 << 20}", f"--data={4 << 20}"])
def test_without_address_space_the_bare_stop_is_taken(start, launcher, limit):
    """Python would die as it starts, and take PID 1 with it."""
    limited = ("prlimit", limit)
    command = ["sh", "-c", "trap 'exit 6' TERM; echo ready; while :; do sleep 0.01; done"]
    run = start("--", *command, prefix=limited, command=[str(launcher)])
    assert run.line() == "ready"
    run.send(signal.SIGTERM)
    assert run.wait() == 6
    assert "no memory" in "".join(run.err.rest())


def visit_in_vain(pid: int) -> None:
    """Ask a launcher that has no Python."""
    with socket.socket(socket.AF_UNIX) as visitor:
        visitor.settimeout(BOUND)
        visitor.connect(control_socket.find(pid)[0].path)
        visitor.send(b"GET /status HTTP/1.1\r\n\r\n")
        with contextlib.suppress(ConnectionResetError):
            assert visitor.recv(1) == b""


def test_a_preloaded_library_survives_visitors_whom_python_cannot_answer(start, tmp_path):
    """musl frees the value of a variable that is set anew."""
    require(shutil.which("musl-gcc"), "musl-gcc")
    put_package(tmp_path)
    mine, python, words = (tmp_path / name for name in ("bin/gracewrap", "bin/python3", "words"))
    command = ["musl-gcc", *STRICT, "-static", "-Os", "-o", mine, *SOURCES]
    subprocess.run(list(map(str, command)), check=True, timeout=500)
    python.unlink()
    python.write_text(f"#!/bin/sh\nprintf '%s\\n' \"$@\" >{words}\n")
    python.chmod(0o644)
    library = "/nowhere/" + "x" * 200
    env = environment(PATH="/nowhere", LD_PRELOAD=library)
    run = start("--", "/bin/sleep", "100", command=[str(mine)], env=env)
    wait_until(lambda: len(open_files(run.pid)) == 7, "the launcher at rest")
    child = descendants(run.pid)[0]
    for _ in range(3):
        visit_in_vain(run.pid)
    python.chmod(0o755)
    run.send(signal.SIGTERM)
    run.wait()
    assert f"gracewrap_preload={library}" in words.read_text().splitlines()
    wait_until(lambda: not alive(child), "the command is gone")


@pytest.mark.root
def test_without_proc_it_finds_its_python_by_a_relative_name(start, launcher):
    require_root()
    script = 'umount -l /proc && cd "$1" && shift && exec ./gracewrap -- "$@"'
    prefix = ("unshare", "--mount", "sh", "-c", script, "sh", launcher.parent)
    run = start(*TALKER, "exit=4", command=list(map(str, prefix)))
    run.ready()
    run.send(signal.SIGTERM)
    assert run.line() == "15"
    assert run.wait() == 4
    assert run.log_line("summary")["exit_status"] == 4


def test_a_visitor_whom_python_cannot_answer_costs_the_stop_nothing(start, launcher, tmp_path):
    """A health check every few seconds, and one of them when memory was short: then the launcher
    was alone for the rest of the run, without the settings, a summary or a report."""
    report, config = tmp_path / "report", tmp_path / "gracewrap.toml"
    config.write_text(f'report.file = "{report}"\nshutdown_timeout = "20s"\n')
    run = start("--config", config, "--", *TALKER, "exit=4", command=[str(launcher)])
    run.ready()
    wait_until(lambda: rests(run), "the launcher at rest")
    limits = resource.prlimit(run.pid, resource.RLIMIT_AS)
    resource.prlimit(run.pid, resource.RLIMIT_AS, (24 << 20, limits[1]))
    for _ in range(2):
        visit_in_vain(run.pid)
    assert run.err is not None
    assert "to answer" in run.err.next()
    run.send(signal.SIGHUP)
    assert run.line() == "1"
    resource.prlimit(run.pid, resource.RLIMIT_AS, limits)
    run.send(signal.SIGTERM)
    assert run.line() == "15"
    assert run.wait() == 4
    assert run.log_line("stop_requested")["budget"] == 20.0
    assert json.loads(report.read_text())["exit_status"] == 4


LIMITS = {
    2: ("memory.max", "memory.current", "memory.stat", "file"),
    1: ("memory.limit_in_bytes", "memory.usage_in_bytes", "memory.stat", "total_cache"),
}


@pytest.mark.root
@pytest.mark.parametrize("version", LIMITS)
@pytest.mark.parametrize(("files", "is_short"), [(0, True), (8 << 20, False)])
def test_with_a_full_memory_cgroup_the_bare_stop_is_taken(
    start, launcher, files, is_short, version
):
    """The files of a cgroup as a container sees them; the cache of files can be had back."""
    require_root()
    most, (limit, used, stat, cache) = 64 << 20, LIMITS[version]
    script = (
        "mount -t tmpfs none /sys/fs/cgroup && cd /sys/fs/cgroup && "
        f"mkdir memory && cd {'.' if version == 2 else 'memory'} && "
        f"echo {most} >{limit} && echo {most - (12 << 20)} >{used} && "
        f'printf "anon 1\\n{cache} {files}\\n" >{stat} && cd / && exec "$@"'
    )
    run = start(
        *("--", *TALKER, "exit=4"),
        prefix=("unshare", "--mount", "sh", "-c", script, "sh"),
        command=[str(launcher)],
    )
    run.ready()
    run.send(signal.SIGTERM)
    assert run.line() == "15"
    assert run.wait() == 4
    assert ("no memory" in "".join(run.err.rest())) is is_short
