"""Bad weather after the start: closed, blocked and full places to write to, no descriptors, bugs.
Nothing is lost or late."""

from __future__ import annotations

import contextlib
import ctypes
import json
import os
import resource
import shutil
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING

import h11
import pytest

from gracewrap.config import settings
from gracewrap.report import log
from gracewrap.runtime import cleanup_at_exit, fallback, handover, loop
from processes import (
    BOUND,
    GRACEWRAP,
    MAIN,
    OTHER_USER,
    TALKER,
    TELLS_IMPORTS,
    Run,
    alive,
    environment,
    pause,
    require,
    require_other_user,
    require_root,
    running,
    wait_until,
)

if TYPE_CHECKING:
    from collections.abc import Iterator

FULL = "/dev/full"


def test_closed_stderr_does_not_disturb_the_stop(talk):
    reading, writing = os.pipe()
    run = talk("exit=3", stderr=writing)
    os.close(writing)
    os.close(reading)
    run.ready()
    run.send(signal.SIGTERM)
    assert run.wait() == 3


SLOW = "trap 'sleep 0.2; echo finished; exit 0' TERM; echo ready; while :; do sleep 0.02; done"


def test_a_reader_of_the_log_that_is_gone_does_not_end_the_command(start):
    """Our own write gives SIGPIPE; blocked, it is pending although it is ignored, and was forwarded
    to the command."""
    reading, writing = os.pipe()
    run = start("--", "bash", "-c", SLOW, stderr=writing)
    os.close(writing)
    assert run.line() == "ready"
    os.close(reading)
    run.send(signal.SIGTERM)
    assert run.line() == "finished"
    assert run.wait() == 0


# Waits for SIGTERM while it is being loaded, after the spawn, and takes its time with the rest.
LOADED_SLOWLY = f"""
import _signal, sys, time
class Slow:
    def find_spec(self, name, *_):
        while name == "gracewrap.runtime.loop" and _signal.SIGTERM not in _signal.sigpending():
            time.sleep(0.001)
        if name == "gracewrap.runtime.cleanup_at_exit":
            time.sleep(0.5)
_signal.pthread_sigmask(_signal.SIG_SETMASK, _signal.valid_signals())
sys.meta_path.insert(0, Slow())
sys.path.insert(0, {str(MAIN.parents[1])!r})
from gracewrap import start
sys.exit(start.main(sys.argv[1:]))
"""


def test_the_budget_counts_from_a_request_that_comes_while_it_is_loaded(start):
    python = [sys.executable, "-I", "-S", "-c", LOADED_SLOWLY]
    deaf = "trap '' TERM; kill -TERM $PPID; while :; do sleep 0.02; done"
    run = start("--shutdown-timeout", "1s", "--", "sh", "-c", deaf, command=python)
    assert run.log_line("stop_requested")["elapsed"] == 0
    assert run.log_line("stop_signal")["elapsed"] >= 0.5
    assert run.wait() == 137


@pytest.mark.parametrize("level", ["info", "debug"])
def test_a_log_that_reaches_the_limit_of_file_sizes_does_not_end_the_command(
    start, tmp_path, level
):
    """SIGXFSZ, likewise; at debug level it was forwarded, logged, and so came again, for ever."""
    options = ("--log-file", tmp_path / "log", "--log-level", level)
    prefix = ("bash", "-c", 'ulimit -f 0; exec "$@"', "bash")
    run = start(*options, "--", "bash", "-c", SLOW, prefix=prefix)
    assert run.line() == "ready"
    run.send(signal.SIGTERM)
    assert run.line() == "finished"
    assert run.wait() == 0


@pytest.mark.parametrize("kilobytes", [0, 1])
def test_a_log_file_that_is_full_goes_on_whole_on_stderr(talk, tmp_path, kilobytes):
    """The line that reached the limit was cut in two: one half here, the other there."""
    prefix = ("bash", "-c", f'ulimit -f {kilobytes}; exec "$@"', "bash")
    command = [GRACEWRAP[0], "-B", *GRACEWRAP[1:]]  # else Python writes halves of .pyc files
    run = talk("exit=3", options=["--log-file", tmp_path / "log"], prefix=prefix, command=command)
    run.ready()
    run.send(signal.SIGTERM)
    assert run.wait() == 3
    lines = run.log()  # whole lines of JSON
    assert [line["event"] for line in lines].count("log_file_unusable") == 1
    assert lines[0]["event"] == "log_file_unusable"
    assert "File too large; it goes to stderr" in str(lines[0]["message"])
    assert lines[-1]["event"] == "summary"
    *whole, cut = (tmp_path / "log").read_text().split("\n")
    asked = [
        line for line in [*map(json.loads, whole), *lines] if line["event"] == "stop_requested"
    ]
    assert len(asked) == 1
    assert len("\n".join([*whole, cut])) == kilobytes * 1024


def full_pipe() -> tuple[int, int]:
    """Return a pipe that takes not a byte more."""
    reading, writing = os.pipe()
    os.set_blocking(writing, False)
    for size in (65536, 4096, 1):
        try:
            while True:
                os.write(writing, b"x" * size)
        except BlockingIOError:
            pass
    os.set_blocking(writing, True)
    return reading, writing


@pytest.mark.parametrize("unprivileged", [False, True])
def test_blocked_stderr_does_not_delay_the_stop(unprivileged):
    """Also where the pipe cannot be opened anew, because it belongs to somebody else."""
    prefix: tuple[str, ...] = ()
    if unprivileged:
        require_other_user()
        prefix = OTHER_USER
    reading, writing = full_pipe()
    command = [*prefix, *GRACEWRAP, "--shutdown-timeout", "300ms", "--", *TALKER, "ignore=15"]
    with subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=writing, env=environment()
    ) as run:
        assert run.stdout and run.stdout.readline().startswith(b"ready")
        began = time.monotonic()
        run.send_signal(signal.SIGTERM)
        assert run.wait(BOUND) == 137
        assert time.monotonic() - began < 10
    os.close(reading)
    os.close(writing)


def test_blocked_stderr_does_not_delay_a_start_that_has_something_to_say():
    """Signals are blocked by then, so that nobody could interrupt the wait."""
    reading, writing = full_pipe()
    # no subreaper: it is said before the spawn
    block = "import sys; sys.modules['_ctypes'] = None; sys.argv[1:] = ['--', 'true']; "
    main = (
        f"sys.path.append({str(MAIN.parent.parent)!r}); from gracewrap.__main__ import main; main()"
    )
    command = [sys.executable, "-I", "-S", "-c", block + main]
    assert subprocess.run(command, stderr=writing, env=environment(), timeout=BOUND).returncode == 0
    os.close(reading)
    os.close(writing)


def test_a_reader_that_is_slow_at_the_end_gets_the_last_lines(talk):
    """Nobody can say later that they are lost: it is waited for, no longer than a second."""
    reading, writing = full_pipe()
    run = talk("exit=3", stderr=writing)
    os.close(writing)
    run.ready()
    run.send(signal.SIGTERM)
    wchan = Path(f"/proc/{run.pid}/wchan")
    wait_until(lambda: "poll" in wchan.read_text(), "it waits for who reads")
    with os.fdopen(reading, "rb") as pipe:
        lines = pipe.read().lstrip(b"x").splitlines()
    assert [json.loads(line)["event"] for line in lines][-1] == "summary"
    assert run.wait() == 3


@pytest.fixture
def disk(tmp_path):
    """Give a disk that freeze() makes hang, until thaw()."""
    require_root()
    require(shutil.which("mkfs.ext4") and shutil.which("fsfreeze"), "mkfs.ext4 and fsfreeze")
    image, place = tmp_path / "image", tmp_path / "disk"
    with image.open("wb") as file:
        file.truncate(8 << 20)
    place.mkdir()
    subprocess.run(["mkfs.ext4", "-q", image], check=True, timeout=BOUND)
    mounted = subprocess.run(["mount", "-o", "loop", image, place], check=False, timeout=BOUND)
    require(mounted.returncode == 0, "loop devices")
    yield place
    thaw(place)
    subprocess.run(["umount", "-l", place], check=True, timeout=BOUND)


@pytest.fixture
def dead_disk(tmp_path):
    """Give a disk of which nothing is ever answered: a FUSE file system whose server is silent."""
    require_root()
    require(os.path.exists("/dev/fuse"), "/dev/fuse")
    place = tmp_path / "dead"
    place.mkdir()
    libc = ctypes.CDLL(None, use_errno=True)
    server = os.open("/dev/fuse", os.O_RDWR | os.O_CLOEXEC)
    options = f"fd={server},rootmode=40000,user_id=0,group_id=0".encode()
    mounted = libc.mount(b"dead", os.fsencode(place), b"fuse", 0, options)
    require(mounted == 0, "mounts")
    yield place
    libc.umount2(os.fsencode(place), 2)  # MNT_DETACH
    os.close(server)


def has_begun(log: Path) -> bool:
    return log.exists() and '"started"' in log.read_text()


def freeze(place: Path) -> None:
    subprocess.run(["fsfreeze", "--freeze", place], check=True, timeout=BOUND)


def thaw(place: Path) -> None:
    subprocess.run(["fsfreeze", "--unfreeze", place], stderr=subprocess.DEVNULL, timeout=BOUND)


@pytest.mark.root
def test_a_log_file_on_a_disk_that_hangs_delays_neither_signals_nor_the_kill(talk, disk):
    """gracewrap waited in write(2), for ever, and nobody was killed in time."""
    file = disk / "log"
    options = ["--log-file", file, "--log-level", "debug", "--shutdown-timeout", "1s"]
    run = talk("ignore=15", options=options)
    run.ready()
    wait_until(lambda: has_begun(file), "the log has begun")
    freeze(disk)
    for signum in (signal.SIGUSR1, signal.SIGUSR2):
        run.send(signum)
        assert run.line() == str(int(signum))
    run.send(signal.SIGTERM)
    assert run.log_line("log_file_unusable")  # at the end
    assert run.log_line("kill")["why"] == "out of time"
    assert run.log_line("summary")["exit_status"] == 137
    thaw(disk)  # a process whose thread waits for a disk cannot even end
    assert run.wait() == 137


@pytest.mark.root
def test_a_stdout_on_a_disk_that_hangs_delays_neither_signals_nor_the_kill(talk, disk):
    file = disk / "out"
    options = ["--output", "prefix", "--shutdown-timeout", "1s"]
    with file.open("w") as stdout:
        run = talk("ignore=15", options=options, stdout=stdout)
    wait_until(lambda: "ready" in file.read_text(), "it is up")
    freeze(disk)
    for _ in range(2):
        run.send(signal.SIGUSR1)
    run.send(signal.SIGTERM)
    assert run.err.until("SIGKILL (out of time)") and run.err.until("exit status 137")
    thaw(disk)  # a process whose thread waits for a disk cannot even end
    assert run.wait() == 137


@pytest.mark.root
@pytest.mark.parametrize("setting", ["drain", "ready", "live"])
def test_a_file_probe_on_a_disk_that_hangs_delays_neither_signals_nor_the_kill(
    talk, dead_disk, tmp_path, setting
):
    """gracewrap waited in stat(2), for ever: no signal was passed on, and nobody was killed."""
    config, file = tmp_path / "gracewrap.toml", dead_disk / "file"
    config.write_text(f'shutdown_timeout = "1s"\n{setting} = {{ file = "{file}" }}\n')
    run = talk("ignore=15", options=["--config", config])
    run.ready()
    tasks = Path(f"/proc/{run.pid}/task")
    wait_until(lambda: len(list(tasks.iterdir())) == 2, "a thread waits for the disk")
    run.send(signal.SIGUSR1)
    assert run.line() == "10"
    run.send(signal.SIGTERM)
    assert run.log_line("kill")["why"] == "out of time"
    assert run.wait() == 137


@pytest.mark.root
def test_a_log_file_goes_on_when_its_disk_answers_again(talk, disk):
    file = disk / "log"
    run = talk("exit=3", options=["--log-file", file, "--log-level", "debug"])
    run.ready()
    wait_until(lambda: has_begun(file), "the log has begun")
    freeze(disk)
    for _ in range(2):
        run.send(signal.SIGUSR1)
        assert run.line() == "10"
    thaw(disk)
    wait_until(lambda: file.read_text().count('"signal": "SIGUSR1"') == 2, "both lines are there")
    run.send(signal.SIGTERM)
    assert run.wait() == 3
    assert [json.loads(line)["event"] for line in file.read_text().splitlines()][-1] == "summary"
    assert run.log() == []


@pytest.mark.root
@pytest.mark.parametrize("option", ["--report", "--termination-log"])
def test_a_report_on_a_disk_that_hangs_is_given_up_in_time(talk, disk, option):
    (disk / "file").touch()
    run = talk("exit=3", options=[option, disk / "file", "--shutdown-timeout", "1s"])
    run.ready()
    freeze(disk)
    run.send(signal.SIGTERM)
    assert "no answer" in str(run.log_line("report_failed")["message"])
    thaw(disk)
    assert run.wait() == 3


def test_stderr_stays_blocking_for_the_child(talk):
    """The flag O_NONBLOCK belongs to the open file, which the child shares."""
    run = talk("exit=-1", options=["--log-level", "debug"])
    child = run.ready()
    run.log_line("started")  # it has been written to
    flags = Path(f"/proc/{child}/fdinfo/2").read_text().split("flags:")[1].split()[0]
    assert not int(flags, 8) & os.O_NONBLOCK


def test_slow_stderr_loses_lines_and_says_how_many(talk, tmp_path):
    reading, writing = full_pipe()
    report = tmp_path / "report"
    run = talk(options=["--log-level", "debug", "--report", report], stderr=writing)
    os.close(writing)
    run.ready()
    for _ in range(1000):
        run.send(signal.SIGRTMIN)
        assert run.line() == "34"
    run.send(signal.SIGTERM)
    assert run.wait() == 0
    assert json.loads(report.read_text())["log_lines_lost"] > 0
    os.close(reading)


@pytest.mark.parametrize("option", ["--log-file", "--report", "--termination-log"])
@pytest.mark.parametrize("place", [FULL, "/proc/no/such/place", "/no/such/directory/file"])
def test_places_that_cannot_be_written_change_nothing(talk, option, place):
    run = talk("exit=3", options=[option, place])
    run.ready()
    run.send(signal.SIGTERM)
    assert run.wait() == 3


def test_report_on_a_read_only_file_system_is_said_to_fail(talk):
    run = talk("exit=3", options=["--report", "/proc/report"])
    run.ready()
    run.send(signal.SIGTERM)
    assert run.wait() == 3
    assert "cannot write the report to '/proc/report'" in str(
        run.log_line("report_failed")["message"]
    )


@pytest.mark.parametrize("descriptors", [5, 6, 8, 12])
def test_no_descriptors_left(descriptors):
    """The soft limit, low from the start: the stop works, and the kill finds a member in another
    session."""

    def limit() -> None:
        resource.setrlimit(resource.RLIMIT_NOFILE, (descriptors, descriptors))

    command = [*GRACEWRAP, "--shutdown-timeout", "300ms", "--", *TALKER, "ignore=15", "fork"]
    with subprocess.Popen(
        command,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        env=environment(),
        preexec_fn=limit,  # noqa: PLW1509
    ) as run:
        assert run.stdout
        pids = [int(run.stdout.readline().split()[1]) for _ in range(2)]
        run.send_signal(signal.SIGTERM)
        assert run.wait(BOUND) == 137
        assert not any(alive(pid) for pid in pids)


@pytest.mark.parametrize(("words", "status"), [(("exit=3",), 3), (("ignore=15",), 137)])
def test_no_memory_left(talk, words, status):
    """RLIMIT_AS, reached when the stop begins: gracewrap itself ended, with a traceback and status
    1, and left the straggler behind."""
    run = talk(*words, "session", options=["--shutdown-timeout", "500ms"])
    pids = [int(run.line().split()[1]) for _ in range(2)]
    wchan = Path(f"/proc/{run.pid}/wchan")
    wait_until(lambda: "sigtimedwait" in wchan.read_text(), "it waits for a signal")
    pages = int(Path(f"/proc/{run.pid}/statm").read_text().split()[0])
    resource.prlimit(run.pid, resource.RLIMIT_AS, (pages * resource.getpagesize(), -1))
    run.send(signal.SIGTERM)
    assert run.wait() == status
    assert not any(alive(pid) for pid in pids)
    assert run.log_line("summary")["exit_status"] == status


def test_the_last_descriptor_is_for_the_reports_and_for_a_restart(start, tmp_path):
    report, termination = tmp_path / "report", tmp_path / "termination"
    files = f'report = {{file = "{report}", termination_log = "{termination}"}}\n'
    config = tmp_path / "gracewrap.toml"
    config.write_text(
        f"{files}[programs.talker]\ncommand = {json.dumps([*TALKER, 'exit=0'])}\n"
        'restart = "always"\nbackoff = "50ms"\numask = "077"\n'
    )
    run = start("--config", config, command=TELLS_IMPORTS)
    child = run.ready()
    run.err.until(" gracewrap.policy.watchdog_missed")  # all that it may need is loaded
    _, hard = resource.prlimit(run.pid, resource.RLIMIT_NOFILE)
    there = {int(fd) for fd in os.listdir(f"/proc/{run.pid}/fd")}
    free = next(number for number in range(1 << 16) if number not in there)
    resource.prlimit(run.pid, resource.RLIMIT_NOFILE, (free, hard))
    os.kill(child, signal.SIGKILL)
    run.ready()
    run.send(signal.SIGTERM)
    assert run.wait() == 0
    assert run.log_line("summary")["outcome"] == "graceful"
    assert json.loads(report.read_text())["exit_status"] == 0
    assert json.loads(termination.read_text())["exit_status"] == 0


BROKEN_POLICY = """
import sys
sys.path.insert(0, {source!r})
import gracewrap.__main__
from gracewrap.policy import step as policy_step
real, calls = policy_step.step, []
def step(system, event, policy):
    calls.append(event)
    if len(calls) > {after}:
        raise RuntimeError("a bug, planted here")
    return real(system, event, policy)
policy_step.step = step
from gracewrap.runtime import loop
loop.Loop.__init__.__defaults__ = (step,)
gracewrap.__main__.main()
"""


def broken(after: int, *args: object, tmp_path: Path) -> Run:
    """Return a gracewrap whose policy raises after so many events."""
    source = str(Path(GRACEWRAP[-1]).parent.parent)
    script = tmp_path / "broken.py"
    script.write_text(BROKEN_POLICY.format(source=source, after=after))
    return Run(*args, command=[sys.executable, "-I", "-S", str(script)])


def test_the_last_resort_of_the_last_resort_kills_nobody_else(monkeypatch):
    """kill(-1) is for PID 1 alone: from any other process it reaches the whole machine."""
    seen = []
    monkeypatch.setattr(fallback.reaper, "reap", lambda known: 1 // 0)
    monkeypatch.setattr(
        fallback.signal_and_kill, "kill_all", lambda leader, everyone: seen.append(everyone)
    )
    assert fallback.run(fallback.FallbackState({2**22: 15}), fallback.Rules()) == 137
    assert seen == [False]


def test_a_last_word_that_raises_does_not_change_the_exit_status(monkeypatch, tmp_path):
    monkeypatch.setattr(cleanup_at_exit.Ending, "last_word", lambda end, status: 1 // 0)
    made = loop.Loop(handover.Handover(2**22, 0.0), settings.defaults(["true"]))
    made.recorder.log = log.Log(file=str(tmp_path / "log"))
    assert made.ending.leave(7) == 7
    assert "ZeroDivisionError" in (tmp_path / "log").read_text()


def test_the_last_resort_of_the_last_resort_needs_no_memory(monkeypatch):
    def no_memory(*_: object) -> None:
        raise MemoryError

    with subprocess.Popen(["sleep", "600"], process_group=0) as child:
        monkeypatch.setattr(fallback.reaper, "reap", no_memory)
        monkeypatch.setattr(fallback.signal_and_kill, "kill_all", no_memory)
        try:
            assert fallback.run(fallback.FallbackState({child.pid: 15}), fallback.Rules()) == 137
            assert child.wait(BOUND) == -signal.SIGKILL
        finally:
            child.kill()


@pytest.mark.parametrize("after", [0, 1])
def test_a_policy_that_raises_is_survived_and_said(tmp_path, after):
    """The bare loop forwards, stops, reaps, and keeps the exit status."""
    run = broken(after, "--shutdown-timeout", "20s", "--", *TALKER, "exit=5", tmp_path=tmp_path)
    try:
        run.ready()
        run.send(signal.SIGUSR1)
        run.send(signal.SIGUSR2)
        run.send(signal.SIGHUP)
        assert {run.line() for _ in range(3)} == {"1", "10", "12"}
        run.send(signal.SIGTERM)
        assert run.line() == "15"
        assert run.wait() == 5
        assert "a bug, planted here" in str(run.log_line("bug")["message"])
    finally:
        run.close()


@pytest.mark.parametrize("after", [0, 1])
def test_a_policy_that_raises_still_kills_in_time(tmp_path, after):
    run = broken(
        after, "--shutdown-timeout", "500ms", "--", *TALKER, "ignore=15", "fork", tmp_path=tmp_path
    )
    try:
        pids = [int(run.line().split()[1]) for _ in range(2)]
        run.send(signal.SIGUSR1)
        run.send(signal.SIGTERM)
        run.send(signal.SIGTERM)
        assert run.wait() == 137
        assert not any(alive(pid) for pid in pids)
    finally:
        run.close()


def copied_package(directory: Path) -> Path:
    source = Path(GRACEWRAP[-1]).parent
    copy = directory / "gracewrap"
    for path in source.rglob("*.py"):
        target = copy / path.relative_to(source)
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_bytes(path.read_bytes())
    return copy


@pytest.mark.parametrize("programs", ["one", "several"])
def test_losing_the_package_later_costs_nothing(tmp_path, programs):
    """A stop that is under way, a pause in it, its end: all that decides is there."""
    copy = copied_package(tmp_path)
    words = "\n".join(f"  {json.dumps(word)}," for word in (*TALKER, "exit=-1"))
    table = "" if programs == "one" else "[programs.one]\n"
    config = tmp_path / "gracewrap.toml"
    config.write_text(f'shutdown_timeout = "4s"\n{table}command = [\n{words}\n]\n')
    run = Run("--config", config, command=[*GRACEWRAP[:-1], str(copy / "__main__.py")])
    try:
        run.ready()
        run.send(signal.SIGTERM)
        assert run.log_line("held_up")["moment"] == "half"
        copy.rename(tmp_path / "gone")
        pause(run.pid, 1.5)
        assert run.log_line("time_gap")
        assert run.log_line("kill")["why"] == "out of time"
        assert run.wait() == 137
        assert run.log_line("summary")["outcome"] == "killed"
    finally:
        run.close()


def test_without_proc_what_is_left_in_the_group_is_killed(start):
    require_root()
    without = ("unshare", "--mount", "sh", "-c", 'umount -l /proc && exec "$@"', "sh")
    script = "trap '' TERM; sleep 1000 & echo $!"
    run = start("--shutdown-timeout", "300ms", "--", "sh", "-c", script, prefix=without)
    left = int(run.line())
    assert run.wait() == 0
    assert not alive(left)
    assert [line for line in run.log() if line["event"] == "gave_up"] == []


@contextlib.contextmanager
def without_package(directory: Path, text: str, last: str) -> Iterator[Run]:
    """Give a run of a file with *text* that loses its package when it has loaded all that it may
    need, of which *last* is the last."""
    copy, config = copied_package(directory), directory / "gracewrap.toml"
    (directory / "h11").symlink_to(Path(h11.__file__).parent)
    config.write_text(text)
    command = [*TELLS_IMPORTS[:-1], str(copy / "__main__.py")]
    with running("--config", config, command=command) as run:
        run.ready()
        assert run.err is not None
        run.err.until(f" {last}")
        copy.rename(directory / "gone")
        yield run


def test_losing_the_package_and_the_command_does_not_cost_its_restart(tmp_path):
    """As when an image, or a directory, is replaced: it is said why it cannot be run, and it is
    tried again."""
    app = tmp_path / "app"
    app.symlink_to(shutil.which("true") or "/bin/true")
    text = (
        f"[programs.talker]\ncommand = {json.dumps([*TALKER, 'exit=0'])}\n"
        f'[programs.app]\ncommand = ["{app}"]\nrestart = "always"\nbackoff = "200ms"\n'
    )
    with without_package(tmp_path, text, "gracewrap.linux.between_fork_and_exec") as run:
        app.rename(tmp_path / "app.old")
        assert "No such file or directory" in str(run.log_line("start_failed")["message"])
        (tmp_path / "app.old").rename(app)
        assert run.log_line("started")["program"] == "app"
        run.send(signal.SIGTERM)
        assert run.wait() == 0
        assert run.log_line("summary")


def test_losing_the_package_costs_neither_checks_nor_hooks_nor_metrics(tmp_path):
    alive, report = tmp_path / "alive", tmp_path / "report"
    alive.touch()
    check = f'{{exec = ["test", "-e", "{alive}"], every = "100ms", failures = 1}}'
    text = (
        f'command = {json.dumps([*TALKER, "exit=0"])}\nlive = {check}\non_unhealthy = "stop"\n'
        'pre_stop = "http://127.0.0.1:1/"\npost_stop = ["true"]\n'
        f'report = {{file = "{report}", pushgateway = "http://127.0.0.1:1/"}}\n'
    )
    with without_package(tmp_path, text, "gracewrap.http_client.http_hook") as run:
        alive.unlink()
        ended = [run.log_line("helper_ended") for _ in range(3)]
        assert [line["hook"] for line in ended] == ["pre_stop", "post_stop", "push"]
        assert "connection refused" in str(ended[0]["message"])
        assert ended[1]["ok"]
        assert "connection refused" in str(ended[2]["message"])
        assert run.wait() == 1
        assert json.loads(report.read_text())["outcome"] == "graceful"


def test_who_asks_while_the_package_is_away_is_answered_when_it_is_back(tmp_path):
    """As in an upgrade: the control socket was closed for the rest of the run."""
    text = f'command = {json.dumps([*TALKER, "exit=0"])}\ncontrol.socket = "{tmp_path}/control"\n'
    with without_package(tmp_path, text, "gracewrap.runtime.final_reports") as run:
        with socket.socket(socket.AF_UNIX) as visitor:
            visitor.settimeout(BOUND)
            visitor.connect(f"{tmp_path}/control")
            visitor.sendall(b"GET /livez HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
            assert "at the moment" in str(run.log_line("unheard")["message"])
            (tmp_path / "gone").rename(tmp_path / "gracewrap")
            assert visitor.recv(12) == b"HTTP/1.1 200"
        run.send(signal.SIGTERM)
        assert run.wait() == 0


def test_losing_the_package_after_the_spawn_is_survived(tmp_path):
    """An image that is being replaced: what has not been imported yet is gone."""
    copy = copied_package(tmp_path)
    (copy / "runtime" / "loop.py").unlink()
    run = Run("--", *TALKER, "exit=6", command=[*GRACEWRAP[:-1], str(copy / "__main__.py")])
    try:
        run.ready()
        assert run.err is not None
        assert "only forwards signals" in run.err.next()
        run.send(signal.SIGUSR1)
        assert run.line() == "10"
        run.send(signal.SIGTERM)
        assert run.line() == "15"
        assert run.wait() == 6
    finally:
        run.close()


def test_a_child_that_hangs_up_its_output_is_still_stopped(start):
    run = start("--", *TALKER, "exit=2")
    run.ready()
    assert run.process.stdout
    run.process.stdout.close()
    run.send(signal.SIGTERM)  # the talker dies of writing, or exits
    assert run.wait() in (1, 2, 128 + signal.SIGPIPE)


def test_gracewrap_killed_leaves_no_half_report(talk, tmp_path):
    report = tmp_path / "report"
    report.write_text("old")
    run = talk(options=["--report", report])
    child = run.ready()
    run.send(signal.SIGKILL)
    assert run.wait() == -9
    assert report.read_text() == "old"
    os.kill(child, signal.SIGKILL)
    wait_until(lambda: not alive(child), "the child is gone")


@pytest.mark.parametrize("after", [0, 1, 2, 3])
def test_a_policy_that_raises_with_several_programs_is_survived(tmp_path, after):
    """Whoever has been started is sent signals, stopped and reaped, and what they write still
    arrives."""
    talker = json.dumps([*TALKER, "exit=5"])
    config = tmp_path / "gracewrap.toml"
    config.write_text(
        'shutdown_timeout = "20s"\n[log]\nformat = "json"\n[defaults]\noutput = "prefix"\n'
        f"[programs.one]\ncommand = {talker}\n[programs.two]\ncommand = {talker}\ndepends_on = "
        '["one"]\n'
    )
    run = broken(after, "--config", config, tmp_path=tmp_path)
    try:
        if after == 0:  # the first event is to start a program
            assert run.wait() == 125
            return
        assert run.out is not None
        started = (
            1 if after == 1 else 2
        )  # the others are what comes of each start, and the stop request
        for expected, signum in (("ready", signal.SIGUSR1), ("10", signal.SIGTERM)):
            for _ in range(started):
                assert expected in run.out.next()
            run.send(signum)
        assert run.wait() == 5
        assert [line[-2:] for line in run.out.rest()] == ["15"] * started
        assert "a bug, planted here" in str(run.log_line("bug")["message"])
    finally:
        run.close()


@pytest.mark.parametrize("descriptors", range(12, 45, 4))
def test_members_of_several_programs_are_found_without_descriptors(tmp_path, descriptors):
    """The pipes of their output may have taken the last one: who is in a session of its own is
    stopped all the same."""

    def limit() -> None:
        resource.setrlimit(resource.RLIMIT_NOFILE, (descriptors, descriptors))

    config = tmp_path / "gracewrap.toml"
    command = f"command = {json.dumps([*TALKER, 'session'])}\n"
    programs = (
        f"[programs.p{i}]\n{command}" + (f'depends_on = ["p{i - 1}"]\n' if i else "")
        for i in range(4)
    )
    config.write_text(
        'shutdown_timeout = "20s"\n[defaults]\noutput = "prefix"\n' + "".join(programs)
    )
    run = Run("--config", config, preexec_fn=limit)
    try:
        assert run.out is not None
        pids = [int(run.out.next().split()[-1]) for _ in range(8)]
        run.send(signal.SIGTERM)
        assert run.wait() == 0
        assert not any(alive(pid) for pid in pids)
    finally:
        run.close()
