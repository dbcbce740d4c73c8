"""What a program's CPU time says about work, where its processes come and go."""

from __future__ import annotations

import os
import subprocess

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
