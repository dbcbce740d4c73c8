"""Logs at intervals what a stop is waiting for."""

from __future__ import annotations

from gracewrap.record import TYPE_CHECKING
from gracewrap.report.runtime_events import WaitingForCommand, WaitingForPrograms
from gracewrap.runtime.phase_in_words import of

if TYPE_CHECKING:
    from gracewrap.policy.model import Policy
    from gracewrap.policy.run_phases import ShuttingDown
    from gracewrap.report.recorder import Recorder
    from gracewrap.runtime.programs import Programs

INTERVALS = {"text": 1.0, "json": 5.0}  # seconds between two lines, by the format of the log


class Progress:
    """Logs what a stop, which begins at *at*, waits for."""

    def __init__(self, recorder: Recorder, policy: Policy, programs: Programs, at: float) -> None:
        self._recorder, self._policy, self._programs = recorder, policy, programs
        self.at = at + self._interval()  # when the next line is due

    def _interval(self) -> float:
        return INTERVALS.get(self._recorder.log.format, 5.0)

    def show(self, system: ShuttingDown, at: float) -> None:
        """Log it, if it is time."""
        if at >= self.at:
            self.at = at + self._interval()
            if self._recorder.run.several:
                self._show_programs(system, at)
            else:
                self._show_command(system, at)

    def _show_programs(self, system: ShuttingDown, at: float) -> None:
        """Log what is waited for, for each program that is still there."""
        parts = []
        for program in self._programs:
            status = of(system, self._policy, program.index, at)
            if status.waits_for or status.seconds_left is not None:
                parts.append(
                    self._recorder.waited_for(
                        program.index,
                        status.seconds_left or 0.0,
                        at,
                        status.held,
                        status.waits_for,
                        bool(status.held),
                        is_leftover=program.child.leader is None,
                    )
                )
        if parts:
            remaining = max(0.0, system.kill_at - at)
            event = WaitingForPrograms(tuple(parts), at - system.since, remaining)
            self._recorder.record(event, at)

    def _show_command(self, system: ShuttingDown, at: float) -> None:
        """Log what is waited for, how much of it there is, and how long it may take."""
        history = self._recorder.histories[0]
        status = of(system, self._policy, 0, at)
        if status.seconds_left is None:
            return
        is_leftover = self._programs[0].child.leader is None
        who = history.members_now() if is_leftover else history.who
        in_flight = history.in_flight
        is_known = in_flight.of_the_rest or not is_leftover
        event = WaitingForCommand(
            who,
            f"draining {who}" if status.held == "draining" else status.held,
            bool(status.held),
            at - system.since,
            status.seconds_left,
            in_flight.shown(at) if is_known else "",
            in_flight.total() if is_known else None,
            in_flight.silence(at) if is_leftover else in_flight.why_waiting(at),
        )
        self._recorder.record(event, at)
