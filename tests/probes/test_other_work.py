"""What a program's CPU time and its connections say about work, where its processes and its
connections come and go."""

from __future__ import annotations

import os
import pathlib
import subprocess
import sys
import time

import pytest

from gracewrap.linux import process_tree
from gracewrap.linux.outgoing_connections import Peer
from gracewrap.linux.process_tree import CpuTime, cpu_time
from gracewrap.probes import other_work
from processes import BOUND

BURN = "i=0; while [ $i -lt 100000 ]; do i=$((i+1)); done"


def test_what_children_have_used_that_were_waited_for_counts():
    before = cpu_time(os.getpid())
    subprocess.run(["sh", "-c", BURN], check=True)
    assert cpu_time(os.getpid()).of_children > before.of_children


def test_a_child_that_came_and_went_between_two_looks_has_worked():
    before = {1: CpuTime(5.0, 5.0, 60.0)}
    now = {1: CpuTime(5.0, 5.0, 60.5)}
    assert other_work._used(before, now) == (0.5, 0.5)


def test_what_ends_has_not_used_all_its_time_just_now():
    """A worker that was forked long ago, and its own children."""
    before = {1: CpuTime(5.0, 5.0, 60.0), 2: CpuTime(100.0, 100.0, 7.0)}
    now = {1: CpuTime(5.0, 5.0, 167.5)}
    assert other_work._used(before, now) == (0.5, 0.5)


def test_a_new_process_counts_from_its_start():
    assert other_work._used({}, {2: CpuTime(0.25, 0.5)}) == (0.25, 0.5)


class Connected(other_work.Background):
    """The connections at a time, in seconds."""

    def __init__(self, only_moving: bool = False) -> None:
        self.at = 0.0
        super().__init__(None, 2.0, only_moving, clock=lambda: self.at)  # type: ignore[arg-type]

    def work(self, at: float, *found: Peer) -> str:
        self.at = at
        return "; ".join(self._at_work(found))


@pytest.mark.parametrize("only_moving", [False, True])
def test_a_connection_that_was_closed_since_has_moved(only_moving):
    """A job may make one for each thing that it does."""
    seen = Connected(only_moving)
    assert seen.work(10, Peer("db", age=0.5)) == "bytes within 2 s: db"
    assert seen.work(11) == "bytes within 2 s: db, closed since"
    assert seen.work(11.4, Peer("other", used=False)) == "bytes within 2 s: db, closed since"
    assert seen.work(11.6) == ""


def test_one_that_was_idle_when_it_was_closed_holds_nothing():
    seen = Connected()
    assert seen.work(10, Peer("db", age=30.0)) == "used connections: db"
    assert seen.work(10.25) == ""


def test_of_a_unix_socket_it_is_not_known_when_a_byte_moved():
    seen = Connected()
    assert seen.work(10, Peer("/run/db")) == "used connections: /run/db"
    assert seen.work(11.9) == "bytes within 2 s: /run/db, closed since"
    assert seen.work(12.1) == ""


DISK = "it reads from or writes to a disk"


def test_what_goes_to_a_disk_is_work_until_the_next_look():
    seen = other_work.Background(Nobody(), 2.0, True)  # type: ignore[arg-type]
    for now, shown in (({}, []), ({0: 4096}, []), ({0: 8192}, [DISK]), ({0: 8192}, [])):
        seen._disk = seen._disk[1], now
        assert seen._disk_used() == shown


class Watched(Connected):
    """The connections, of a program that is looked at again and again."""

    def __init__(self, quiet: float) -> None:
        super().__init__(only_moving=True)
        self._ports, self._quiet, self._window = Nobody(), quiet, quiet

    def work(self, at: float, *found: Peer) -> str:
        self.at = at
        self.watch()
        return super().work(at, *found)


class Nobody:
    def pids(self) -> list[int]:
        return []


def test_a_byte_between_two_looks_has_moved_however_long_that_was():
    seen = Watched(0.2)
    assert seen.work(10.0, Peer("db", age=0.25)) == ""
    assert seen.work(10.3, Peer("db", age=0.25)) == "bytes within 0.3 s: db"
    assert seen.work(10.4, Peer("db", age=0.25)) == ""


def test_what_moved_while_nobody_asked_is_no_work_now():
    seen = Watched(0.2)
    assert seen.work(10.0) == ""
    assert seen.work(3600.0, Peer("db", age=20.0)) == ""


# Until somebody writes into the FIFO, the child waits for it, and its parent for the child's exec.
IN_THE_KERNEL = """
import os, sys
os.posix_spawn("/bin/true", ["true"], {},
               file_actions=[(os.POSIX_SPAWN_OPEN, 0, sys.argv[1], os.O_RDONLY, 0)])
"""


def test_what_waits_in_the_kernel_is_seen(tmp_path):
    os.mkfifo(fifo := tmp_path / "fifo")
    with subprocess.Popen([sys.executable, "-c", IN_THE_KERNEL, fifo]) as process:
        try:
            until = time.monotonic() + BOUND
            while not process_tree.is_uninterruptible(process.pid):
                assert time.monotonic() < until
        finally:
            fifo.write_text("")
        assert process.wait(BOUND) == 0
    assert not process_tree.is_uninterruptible(process.pid)
    assert not process_tree.is_uninterruptible(os.getpid())


def test_what_is_written_to_a_disk_counts(tmp_path):
    before = process_tree.disk_bytes(os.getpid())
    with open(tmp_path / "file", "wb") as file:
        file.write(bytes(1 << 20))
    if is_in_memory(tmp_path):
        pytest.skip(f"{tmp_path} is in memory")
    assert process_tree.disk_bytes(os.getpid()) >= before + (1 << 20)


def is_in_memory(path: pathlib.Path) -> bool:
    device = path.stat().st_dev
    number = f"{os.major(device)}:{os.minor(device)}"
    mounts = pathlib.Path("/proc/self/mountinfo").read_text().splitlines()
    return any(line.split()[2] == number and " - tmpfs " in line for line in mounts)
