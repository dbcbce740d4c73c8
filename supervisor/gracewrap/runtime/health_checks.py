"""Asks the probes of a health check when policy/health_check.py says so, and posts what changes.

Imported where a check is configured.  Between two questions there is one timer, and none at all
when no probe need be asked again.
"""

from __future__ import annotations

import time

from gracewrap.config.probe_specs import LogLineProbeSpec, NotifyProbeSpec
from gracewrap.linux import process_tree
from gracewrap.policy import health_check
from gracewrap.policy.health_check import STOPPED, CheckPolicy
from gracewrap.policy.model import (
    DRAINED,
    UNREACHABLE,
    NotReadyInTime,
    ProgramHealthy,
    ProgramReady,
    ProgramUnhealthy,
    ProgramUnready,
    Reading,
)
from gracewrap.record import TYPE_CHECKING
from gracewrap.report.probe_events import NotReady, NotYetHealthy
from gracewrap.report.runtime_events import Unheard

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from typing import Any

    from gracewrap.config.probe_specs import CheckSpecs
    from gracewrap.linux.reactor import Reactor, Timer
    from gracewrap.policy.health_check import Check
    from gracewrap.policy.model import Event
    from gracewrap.probes.sampler import Sampler
    from gracewrap.report.recorder import Recorder
    from gracewrap.runtime.program_processes import Child

# Seconds without becoming ready after which that is logged, and again after twice as many.
NOT_READY = 10.0


class HealthCheck:
    """Asks the probes of one check of a program, from its start to its stop.

    Args:
        child: The program.
        specs: What is asked, and how.
        samplers: Take samples of the probes.
        reactor: For the timer.
        post: Takes an event for the policy.
        recorder: Takes what is to be logged.
        limit: Seconds in which it must pass for the first time; None: no limit.
    """

    NAME = "ready"
    START_INTERVAL = health_check.START_INTERVAL

    def __init__(
        self,
        child: Child,
        specs: CheckSpecs,
        samplers: Sequence[Sampler],
        reactor: Reactor,
        post: Callable[[Event], None],
        recorder: Recorder,
        limit: float | None = None,
    ) -> None:
        self._child, self._specs, self._samplers = child, specs, samplers
        self._reactor, self.post, self.recorder = reactor, post, recorder
        self.index = child.index
        self._policy = CheckPolicy(
            tuple(isinstance(one, NotifyProbeSpec | LogLineProbeSpec) for one in specs.probes),
            specs.combine,
            specs.every,
            specs.failures,
            specs.passes,
            limit,
            self.START_INTERVAL,
        )
        self._check: Check | None = None  # until begin(), and after end()
        self._timer: Timer | None = None
        self._log_after = NOT_READY
        self._could_ask = True  # the last time

    def begin(self) -> None:
        """Begin to ask."""
        since, at = self._child.started_at, time.monotonic()
        self._check = health_check.begin(self._policy, since, at)
        self._tick()

    def look_now(self) -> None:
        """Ask at once the probes that would be asked later."""
        if self._check is not None:
            self._check = health_check.hurry(self._check, time.monotonic())
            self._tick()

    def end(self) -> None:
        """Ask no more."""
        self._check = None
        self._reactor.cancel(self._timer)
        self._timer = None
        for sampler in self._samplers:
            sampler.cancel()

    def shift(self, seconds: float) -> None:
        """Make everything later by *seconds*, in which gracewrap was not running; the reactor does
        that to the timer."""
        from gracewrap.policy import time_gap

        if self._check is not None:
            self._check = time_gap.later(self._check, seconds)

    def _tick(self) -> None:
        """Ask what is due; come back when something else is."""
        if self._check is None:
            return
        at, before = time.monotonic(), self._check
        self._check, due = health_check.tick(before, self._policy, at)
        self._wait()
        if self._check.overdue and not before.overdue:
            self.is_overdue(self._check, at)
        for probe in due:
            self._ask(probe, at)

    def _wait(self) -> None:
        self._reactor.cancel(self._timer)
        self._timer = None
        if self._check is not None:
            due = health_check.deadline(self._check, self._policy)
            if due is not None:
                self._timer = self._reactor.call_at(due, self._tick)

    def _ask(self, probe: int, at: float) -> None:
        if process_tree.is_stopped(self._child.pid):
            # What listens, or has said that it is ready, looks as if it were alive.
            self._saw(probe, Reading(UNREACHABLE, None, STOPPED))
        else:
            self._samplers[probe].sample(at, lambda reading: self._saw(probe, reading))

    def _saw(self, probe: int, reading: Reading) -> None:
        before, at = self._check, time.monotonic()
        if before is None:
            return
        passes = reading.kind == DRAINED if reading.asked else None
        if not reading.asked and self._could_ask:
            what = f"{self.NAME} of {self._child.history.who} is neither passed nor failed"
            self.recorder.record(Unheard(what, reading.why), at)
        self._could_ask = reading.asked
        check = health_check.answered(before, self._policy, probe, passes, reading.why, at)
        self._check = check
        if check.passing is not before.passing:
            self.has_changed(check, at)
        elif not check.has_passed and at - check.since >= self._log_after:
            self._log_after *= 2
            self.takes_long(check, at)
        self._wait()

    # --- what follows ----------------------------------------------------------------------------

    def has_changed(self, check: Check, at: float) -> None:
        """Post that the check passes now, or fails."""
        raise NotImplementedError

    def is_overdue(self, check: Check, at: float) -> None:
        """Post that it has not passed in time; only if there is a limit."""

    def takes_long(self, check: Check, at: float) -> None:
        """Log that it has not passed yet."""
        raise NotImplementedError

    def why_not(self) -> str:
        """Return why it does not pass; "" if it does, or is not asked."""
        check = self._check
        return "" if check is None or check.passing else check.why

    def in_a_row(self, why: str) -> str:
        """Return why it has failed, and how often in a row that was seen."""
        count = self._specs.failures
        return why if count == 1 else f"{why}; {count} times in a row"


class ReadyCheck(HealthCheck):
    """Asks whether a program is ready: ProgramReady says so, ProgramUnready that it is not."""

    def has_changed(self, check: Check, at: float) -> None:
        if check.passing:
            self.post(ProgramReady(self.index, at))
        else:
            self.post(ProgramUnready(self.index, self.in_a_row(check.why), at))

    def is_overdue(self, check: Check, at: float) -> None:
        self.post(NotReadyInTime(self.index, check.why, at))

    def takes_long(self, check: Check, at: float) -> None:
        after = at - check.since
        self.recorder.record(NotReady(self.index, after, check.why), at)


class LiveCheck(HealthCheck):
    """Asks whether a program is healthy, from the first time on that it is: ProgramUnhealthy says
    that it is not any more.

    What has never passed does not count: a wrong URL must not restart the program for ever, nor a
    slow start.
    """

    NAME = "live"
    START_INTERVAL = 1.0  # nobody waits for it

    def __init__(self, *args: Any) -> None:
        super().__init__(*args)
        self._has_passed = False

    def has_changed(self, check: Check, at: float) -> None:
        if check.passing and self._has_passed:
            self.post(ProgramHealthy(self.index, at))
        elif not check.passing:
            self.post(ProgramUnhealthy(self.index, self.in_a_row(check.why), at))
        self._has_passed = True

    def takes_long(self, check: Check, at: float) -> None:
        after = at - check.since
        self.recorder.record(NotYetHealthy(self.index, after, check.why), at)
