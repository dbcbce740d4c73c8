"""Logs at intervals what a stop is waiting for."""

from __future__ import annotations

from gracewrap.policy import system as coordinator
from gracewrap.record import TYPE_CHECKING
from gracewrap.report import runtime_events
from gracewrap.runtime.program_status import of

if TYPE_CHECKING:
    from collections.abc import Sequence

    from gracewrap.policy.model import Policy
    from gracewrap.report.recorder import Recorder
    from gracewrap.runtime.child import Child


PROGRESS = {"text": 1.0, "json": 5.0}  # seconds between two lines that say what is being waited for


class Progress:
    """Says now and then what a stop waits for, while it waits for something."""

    def __init__(self, recorder: Recorder, policy: Policy, children: Sequence[Child]) -> None:
        self._narrator, self._policy, self._children = recorder, policy, children
        self.at: float | None = None  # when the next line is due

    def show(self, system: coordinator.System, at: float) -> None:
        """Say it, if it is time."""
        if not isinstance(system, coordinator.ShuttingDown):
            self.at = None
            return
        every = PROGRESS.get(self._narrator.log.format, 5.0)
        if self.at is None:
            self.at = at + every
        elif at >= self.at:
            self.at = at + every
            tell = self._tell_programs if self._narrator.run.several else self._tell_command
            tell(system, at)

    def _tell_programs(self, system: coordinator.ShuttingDown, at: float) -> None:
        """Say what is being waited for, for each program that is still there."""
        parts = []
        for child in self._children:
            stands, leftover = of(system, self._policy, child.index, at), child.leader is None
            if stands.waits_for or stands.seconds_left is not None:
                left, held = stands.seconds_left or 0.0, stands.held
                parts.append(
                    self._narrator.waited_for(
                        child.index, left, held, stands.waits_for, bool(held), is_leftover=leftover
                    )
                )
        if parts:
            remaining = max(0.0, system.kill_at - at)
            event = runtime_events.WaitingForPrograms(tuple(parts), at - system.since, remaining)
            self._narrator.record(event, at)

    def _tell_command(self, system: coordinator.ShuttingDown, at: float) -> None:
        """Say what is being waited for, how much of it there is, and how long it may take."""
        child, history = self._children[0], self._narrator.histories[0]
        stands, leftover = of(system, self._policy, 0, at), child.leader is None
        if stands.seconds_left is None:
            return
        who, in_flight = history.members_now() if leftover else history.who, history.in_flight
        event = runtime_events.WaitingForCommand(
            who,
            f"draining {who}" if stands.held == "draining" else stands.held,
            bool(stands.held),
            at - system.since,
            stands.seconds_left,
            "" if leftover else in_flight.shown(),
            None if leftover else in_flight.total(),
            "" if in_flight.shown() or leftover else in_flight.why_busy(),
        )
        self._narrator.record(event, at)
