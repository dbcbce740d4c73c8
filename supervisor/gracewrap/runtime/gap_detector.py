"""Finds out for how long gracewrap was not running: paused, stopped, on a suspended machine, or
without a CPU."""

from __future__ import annotations

import time

from gracewrap.linux.process_tree import waited_for_cpu
from gracewrap.policy.model import TimeGap

LOOK_EVERY = 1.0  # seconds between two looks at how long we have waited for a CPU

# Woken so many seconds later than asked for, gracewrap was not running.  A loaded machine delays by
# less.  What follows from a gap is policy/time_gap.py's.
TIME_GAP = 0.5


class GapDetector:
    """Told when the loop goes to sleep and when it wakes."""

    def __init__(self) -> None:
        self._woke_at, self._cpu = time.monotonic(), time.process_time()
        self._lost = 0.0  # between two waits
        self._until: float | None = None
        self._waited, self._looked_at = waited_for_cpu(), self._woke_at

    def sleeps(self, at: float, until: float | None) -> None:
        """Take in that a wait begins, which is to end at *until* at the latest."""
        elapsed = at - self._woke_at
        if elapsed > TIME_GAP:  # what it has computed meanwhile is no gap
            self._lost = elapsed - (time.process_time() - self._cpu)
        elif at > self._looked_at + LOOK_EVERY:
            self._waited, self._looked_at = waited_for_cpu(), at
        self._until = None if until is None else max(at, until)

    def wakes(self, at: float) -> TimeGap | None:
        """Return for how long it was not running since the last wait began, or before that; None
        if that is no more than a loaded machine may take."""
        late = 0.0 if self._until is None else at - self._until
        gap = sum(lost for lost in (self._lost, late) if lost > TIME_GAP)
        self._woke_at, self._cpu, self._lost = at, time.process_time(), 0.0
        if not gap:
            return None
        before, self._waited, self._looked_at = self._waited, waited_for_cpu(), at
        return TimeGap(gap, at, self._waited - before > gap / 2)
