"""A pause is told from waiting for a CPU by how much longer we have waited since the last look."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from gracewrap.policy.model import TimeGap
from gracewrap.runtime import gap_detector
from gracewrap.runtime.gap_detector import GapDetector


class Machine:
    """Tells the time, the CPU time that we have used, and for how long we have waited for a CPU."""

    def __init__(self) -> None:
        self.now, self.used, self.waited = 100.0, 0.0, 0.0

    def monotonic(self) -> float:
        return self.now

    def process_time(self) -> float:
        return self.used


@pytest.fixture
def machine(monkeypatch: pytest.MonkeyPatch) -> Machine:
    made = Machine()
    monkeypatch.setattr(gap_detector, "time", made)
    monkeypatch.setattr(gap_detector, "waited_for_cpu", lambda: made.waited)
    return made


def sleep(
    gaps: GapDetector, machine: Machine, seconds: float, until: float | None
) -> TimeGap | None:
    gaps.sleeps(machine.now, until)
    machine.now += seconds
    return gaps.wakes(machine.now)


def pause(machine: Machine) -> None:
    machine.now += 5


def be_busy(machine: Machine) -> None:
    machine.now += 5
    machine.waited += 4.9


@pytest.mark.parametrize(("lose", "busy"), [(pause, False), (be_busy, True)])
def test_a_gap_between_two_waits(
    machine: Machine, lose: Callable[[Machine], None], busy: bool
) -> None:
    gaps = GapDetector()
    for _ in range(100):  # signals are passed on, each a little late; no time is set
        machine.waited += 0.1
        assert sleep(gaps, machine, 1, None) is None
    lose(machine)
    assert sleep(gaps, machine, 0, machine.now) == TimeGap(5, machine.now, busy)


@pytest.mark.parametrize(("lose", "busy"), [(pause, False), (be_busy, True)])
def test_a_gap_in_a_wait(machine: Machine, lose: Callable[[Machine], None], busy: bool) -> None:
    gaps = GapDetector()
    gaps.sleeps(machine.now, machine.now)
    lose(machine)
    assert gaps.wakes(machine.now) == TimeGap(5, machine.now, busy)
