"""Tests of the file and exec probes, with real files and commands."""

from __future__ import annotations

import functools
import os
import resource
import select
import signal
import sys
import time
import traceback
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gracewrap.config.probe_specs import ExecProbeSpec, FileProbeSpec
from gracewrap.linux import prctl, reaper
from gracewrap.linux.hook_and_probe_process_groups import Helpers
from gracewrap.policy.model import BUSY, DRAINED, INVALID, UNREACHABLE, Reading
from gracewrap.probes.exec import ExecProbe, interpret
from gracewrap.probes.file import MAX_SEARCHED, FileProbe
from processes import BOUND, alive, descendants, require_root, wait_until
from reactor_driver import Driver, driving, readable

PR_SET_CHILD_SUBREAPER = 36  # linux/prctl.h

# Files


def look(path: object, state: str = "exists", contains: str = "") -> Reading:
    answers: list[Reading] = []
    with driving() as driver:
        probe = FileProbe(FileProbeSpec(str(path), state, contains), driver.reactor)
        probe.sample(answers.append)
        driver.until(lambda: answers)  # at once, unless the machine is very busy
    (answer,) = answers
    return answer


def test_a_file_that_should_appear(tmp_path):
    path = tmp_path / "drained"
    assert look(path) == Reading(BUSY, None, f"{path} does not exist")
    path.touch()
    assert look(path) == Reading(DRAINED)
    assert look(tmp_path) == look("/") == Reading(DRAINED)


def test_a_file_that_should_disappear(tmp_path):
    path = tmp_path / "busy"
    path.touch()
    assert look(path, "absent") == Reading(BUSY, None, f"{path} exists")
    path.unlink()
    assert look(path, "absent") == Reading(DRAINED)
    assert look(tmp_path / "no" / "busy", "absent") == Reading(DRAINED)


def test_mistakes_are_invalid(tmp_path):
    assert look(tmp_path / "no" / "drained") == Reading(
        INVALID, None, f"the directory {tmp_path}/no does not exist"
    )
    (tmp_path / "file").touch()
    (tmp_path / "loop").symlink_to("loop")
    for path, why in {
        "file/x": "Not a directory",
        "loop": "Too many levels",
        "x" * 300: "too long",
        "a\0b": "null",
    }.items():
        for state in ("exists", "absent"):
            answer = look(tmp_path / path, state)
            assert answer.kind == INVALID and why in answer.why, path


def test_a_dangling_link_is_an_absent_file(tmp_path):
    path = tmp_path / "link"
    path.symlink_to(tmp_path / "no")
    assert look(path).kind == BUSY and look(path, "absent").kind == DRAINED


def test_a_text_within_the_first_mebibyte(tmp_path):
    path = tmp_path / "status"
    assert look(path, contains="idle").kind == BUSY
    path.write_text("workers: idle\n")
    assert look(path, contains="idle") == Reading(DRAINED)
    assert look(path, contains="\u00fcber") == Reading(
        BUSY, None, f"{path} does not contain the text"
    )
    path.write_bytes(bytes(MAX_SEARCHED - 4) + b"idle")
    assert look(path, contains="idle").kind == DRAINED
    path.write_bytes(bytes(MAX_SEARCHED - 3) + b"idle")
    assert look(path, contains="idle").kind == BUSY
    with path.open("wb") as file:
        file.truncate(1 << 40)
    since = time.monotonic()
    assert look(path, contains="idle").kind == BUSY
    assert time.monotonic() - since < 10


def test_only_regular_files_are_opened(tmp_path):
    fifo = tmp_path / "fifo"
    os.mkfifo(fifo)
    for path in (fifo, tmp_path, Path("/dev/zero"), Path("/dev/null")):
        assert look(path).kind == DRAINED
        assert look(path, contains="x").kind == INVALID
    for path in (
        "/proc/self/stat",
        "/proc/kmsg",
        "/proc/version",
    ):  # regular, they say; the second one waits where it can
        if os.access(path, os.R_OK):
            assert look(path, contains="Linux version 0.0.1").kind == BUSY


def test_a_file_without_permission(tmp_path):
    require_root()
    inner = tmp_path / "private" / "file"
    inner.parent.mkdir(0o700)
    inner.touch(0o600)
    reading, writing = os.pipe()
    pid = os.fork()
    if pid == 0:
        os.setresuid(34567, 34567, 34567)
        os.write(
            writing,
            "\n".join(
                look(inner, *how).kind for how in ((), ("absent",), ("exists", "x"))
            ).encode(),
        )
        os._exit(0)
    os.close(writing)
    assert readable(reading)
    assert os.read(reading, 4096).decode().split() == [INVALID] * 3
    os.close(reading)
    os.waitpid(pid, 0)


def test_no_free_descriptor_is_unreachable(tmp_path):
    path = tmp_path / "file"
    path.write_text("x")
    limits = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (0, limits[1]))
    try:
        found, searched = look(path), look(path, contains="x")
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, limits)
    assert found.kind == DRAINED and searched == Reading(
        UNREACHABLE, None, f"{path}: Too many open files", asked=False
    )


def test_a_disk_that_hangs_holds_nothing_up_and_its_late_answer_is_not_taken(tmp_path):
    """As a call that does not come back: a FIFO that nobody has opened for writing."""
    gate = tmp_path / "gate"
    os.mkfifo(gate)
    answers: list[Reading] = []
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGCHLD})
    with driving() as driver:
        probe = FileProbe(FileProbeSpec(str(gate), "exists", ""), driver.reactor)
        check, probe._check = probe._check, gate.read_text
        probe.sample(answers.append)
        probe.cancel()
        probe._check = check
        probe.sample(answers.append)
        assert not answers and driver.reactor.due(time.monotonic()) is not None
        gate.write_text("")  # the first call returns, with what is no reading of the second
        driver.until(lambda: answers)
    assert answers == [Reading(DRAINED)]
    while signal.sigtimedwait({signal.SIGCHLD}, 0):
        pass
    signal.pthread_sigmask(signal.SIG_SETMASK, before)


# Commands


def alone(test: Callable[..., None]) -> Callable[..., None]:
    """Run a test in a process of its own that is a subreaper: reaping reaps all children."""

    @functools.wraps(test)
    def run(*args: object, **fixtures: object) -> None:
        pid = os.fork()
        if pid == 0:
            status = 1
            try:
                prctl.prctl(PR_SET_CHILD_SUBREAPER, 1)
                test(*args, **fixtures)
                status = 0
            except BaseException:
                traceback.print_exc()
                sys.stderr.flush()
            finally:
                os._exit(status)
        fd = os.pidfd_open(pid)
        try:
            if not select.select([fd], [], [], 2 * BOUND)[0]:
                for one in [*descendants(pid), pid]:
                    os.kill(one, signal.SIGKILL)
            assert os.waitpid(pid, 0)[1] == 0, "see its stderr"
        finally:
            os.close(fd)

    return run


class ExecUnderTest:
    """An exec probe with its helpers, and the reaper."""

    def __init__(self, driver: Driver, *command: str) -> None:
        self.driver = driver
        self.helpers = Helpers(driver.reactor)
        self.probe = ExecProbe(ExecProbeSpec(command), self.helpers)
        self.answers: list[Reading] = []

    def reap(self) -> None:
        for one in reaper.reap(self.helpers.pids)[0]:
            assert self.helpers.reaped(one.pid, one.status)

    def until(self, true: Callable[[], object]) -> None:
        self.driver.until(true, meanwhile=self.reap)

    def sample(self) -> Reading:
        self.answers.clear()
        self.probe.sample(self.answers.append)
        self.until(lambda: self.answers)
        (answer,) = self.answers
        return answer


def run(*command: str) -> Reading:
    """Return one sample, and check that it leaves nothing behind."""
    before = len(os.listdir("/proc/self/fd"))
    with driving() as driver:
        exec_probe = ExecUnderTest(driver, *command)
        answer = exec_probe.sample()
        assert not exec_probe.helpers.pids
        exec_probe.until(lambda: not reaper.reap(())[1])
    assert len(os.listdir("/proc/self/fd")) == before
    return answer


@pytest.mark.parametrize(
    ("script", "reading"),
    [
        ("exit 0", Reading(DRAINED)),
        ("echo drained; exit 0", Reading(DRAINED)),
        ("echo 7; exit 0", Reading(BUSY, 7, "7 in flight")),  # as redis-cli LLEN does
        ("echo 0; exit 0", Reading(DRAINED, 0.0)),
        ("echo 0; exit 1", Reading(DRAINED, 0.0)),  # as grep -c does
        ("echo; echo '   0'; exit 0", Reading(DRAINED, 0.0)),  # as psql -t does
        ("echo 0; kill -KILL $$", Reading(BUSY, None, "exit status 137 (SIGKILL): 0")),
        ("echo -1; exit 0", Reading(INVALID, None, "printed -1, which counts nothing")),
        ("echo nan; exit 0", Reading(INVALID, None, "printed nan, which counts nothing")),
        ("exit 1", Reading(BUSY, None, "exit status 1")),
        ("echo 7; exit 1", Reading(BUSY, 7, "7 in flight")),
        ("printf '  2.5 \\n9\\n'; exit 3", Reading(BUSY, 2.5, "2.5 in flight")),
        ("echo waiting for 2; exit 3", Reading(BUSY, None, "exit status 3: waiting for 2")),
        ("echo 7 >&2; exit 1", Reading(BUSY, None, "exit status 1")),
        ("kill -KILL $$", Reading(BUSY, None, "exit status 137 (SIGKILL)")),
        ("nonexistent-command 2>/dev/null", Reading(INVALID, None, "exit status 127: not found")),
        ("exit 126", Reading(INVALID, None, "exit status 126: cannot be executed")),
    ],
)
@alone
def test_status_and_output_of_a_command(script, reading):
    assert run("sh", "-c", script) == reading


@alone
def test_a_command_that_cannot_be_executed(tmp_path):
    plain = tmp_path / "plain"
    plain.write_text("#!/bin/sh\n")
    for command, why in {
        "nonexistent-command": "No such file or directory (searched PATH)",
        str(tmp_path / "no"): "No such file",
        str(plain): "no execute permission",
        str(tmp_path): "it is a directory",
    }.items():
        answer = run(command)
        assert answer.kind == INVALID and why in answer.why, command


@alone
def test_invalid_arguments_of_a_command():
    with driving() as driver:
        for command in ("", "a\0b"):
            assert ExecUnderTest(driver, command).sample().kind == INVALID


@alone
def test_no_free_descriptor_or_process_is_unreachable():
    limits = resource.getrlimit(resource.RLIMIT_NOFILE)
    with driving() as driver:
        exec_probe = ExecUnderTest(driver, "true")
        free = os.dup(0)
        os.close(free)
        for most in (free, free + 1):  # no pipe at all, half a pipe
            resource.setrlimit(resource.RLIMIT_NOFILE, (most, limits[1]))
            answer = exec_probe.sample()
            resource.setrlimit(resource.RLIMIT_NOFILE, limits)
            why = "cannot run 'true': Too many open files"
            assert answer == Reading(UNREACHABLE, None, why, asked=False)
        assert exec_probe.sample() == Reading(DRAINED)


@alone
def test_a_hanging_command_is_killed_with_its_group(tmp_path):
    pids = tmp_path / "pids"
    os.mkfifo(pids)
    with driving() as driver:
        exec_probe = ExecUnderTest(
            driver, "sh", "-c", f'trap "" TERM; sleep 1000 & echo $$ $! > {pids}; wait'
        )
        exec_probe.probe.sample(exec_probe.answers.append)
        shell, sleep = map(int, pids.read_text().split())
        assert alive(shell) and alive(sleep)
        exec_probe.probe.cancel()
        exec_probe.probe.cancel()
        exec_probe.until(lambda: not reaper.reap(exec_probe.helpers.pids)[1])
        assert not alive(shell) and not alive(sleep)
        assert exec_probe.answers == []


@alone
def test_a_new_sample_aborts_the_previous_one():
    with driving() as driver:
        exec_probe = ExecUnderTest(driver, "sh", "-c", "read x; exit 1")
        exec_probe.probe = ExecProbe(ExecProbeSpec(("sleep", "1000")), exec_probe.helpers)
        exec_probe.probe.sample(exec_probe.answers.append)
        (first,) = exec_probe.helpers.pids
        exec_probe.probe.sample(exec_probe.answers.append)
        exec_probe.until(lambda: first not in exec_probe.helpers.pids)
        assert len(exec_probe.helpers.pids) == 1 and exec_probe.answers == []
        exec_probe.probe.cancel()
        exec_probe.until(lambda: not exec_probe.helpers.pids)


@alone
def test_a_grandchild_that_keeps_stdout_open_does_not_delay_the_sample():
    since = time.monotonic()
    assert run("sh", "-c", "sleep 1000 & echo 4; exit 1") == Reading(BUSY, 4, "4 in flight")
    assert time.monotonic() - since < BOUND


@alone
def test_endless_output_is_read_and_dropped():
    """Its size exceeds a pipe, so the command would block if its output were not read."""
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    assert run("sh", "-c", "echo 12; head -c 50000000 /dev/zero; exit 1") == Reading(
        BUSY, 12, "12 in flight"
    )
    assert run("sh", "-c", "head -c 50000000 /dev/zero; exit 1").in_flight is None
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 20_000  # KiB


@alone
def test_a_command_that_never_stops_writing_is_killed():
    with driving() as driver:
        exec_probe = ExecUnderTest(driver, "yes")
        exec_probe.probe.sample(exec_probe.answers.append)
        (pid,) = exec_probe.helpers.pids
        wait_until(lambda: Path(f"/proc/{pid}/comm").read_text() == "yes\n", "yes runs")
        rounds = driver.rounds
        exec_probe.until(lambda: driver.rounds > rounds + 50)
        exec_probe.probe.cancel()
        exec_probe.until(lambda: not exec_probe.helpers.pids)
        assert exec_probe.answers == []


@given(
    st.integers(0, 255),
    st.one_of(st.binary(), st.floats().map(lambda number: str(number).encode())),
)
def test_any_output_gives_a_reading(status, output):
    reading = interpret(status, output)
    without_number = interpret(status, output, counts=False)
    assert (without_number.kind == DRAINED) == (status == 0)
    assert reading.kind != DRAINED or reading.in_flight == 0 or status == 0
    assert reading.in_flight is None or 0 <= reading.in_flight < float("inf")
    assert reading.why.isprintable() and len(reading.why) < 200
