"""What a program's CPU time and its connections say about work, where its processes and its
connections come and go."""

from __future__ import annotations

import os
import subprocess

import pytest

from gracewrap.linux.peers import Peer
from gracewrap.linux.process_tree import CpuTime, cpu_time
from gracewrap.probes import background

BURN = "i=0; while [ $i -lt 100000 ]; do i=$((i+1)); done"


def test_what_children_have_used_that_were_waited_for_counts():
    before = cpu_time(os.getpid())
    subprocess.run(["sh", "-c", BURN], check=True)
    assert cpu_time(os.getpid()).of_children > before.of_children


def test_a_child_that_came_and_went_between_two_looks_has_worked():
    before = {1: CpuTime(5.0, 5.0, 60.0)}
    now = {1: CpuTime(5.0, 5.0, 60.5)}
    assert background._used(before, now) == (0.5, 0.5)


def test_what_ends_has_not_used_all_its_time_just_now():
    """A worker that was forked long ago, and its own children."""
    before = {1: CpuTime(5.0, 5.0, 60.0), 2: CpuTime(100.0, 100.0, 7.0)}
    now = {1: CpuTime(5.0, 5.0, 167.5)}
    assert background._used(before, now) == (0.5, 0.5)


def test_a_new_process_counts_from_its_start():
    assert background._used({}, {2: CpuTime(0.25, 0.5)}) == (0.25, 0.5)


class Connected(background.Background):
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
