"""The notify probe: waits until the program reports by sd_notify(3) that it is drained or ready."""

from __future__ import annotations

from gracewrap.policy.model import BUSY, DRAINED, INVALID, Reading
from gracewrap.probes.base import Probe
from gracewrap.record import TYPE_CHECKING

if TYPE_CHECKING:
    from gracewrap.config.probe_specs import NotifyProbeSpec
    from gracewrap.linux.sd_notify import Message
    from gracewrap.probes.base import OnReading


class NotifyState:
    """What the program has reported since its start.

    The latest message counts, whichever of its processes sent it.
    """

    def __init__(self) -> None:
        self.reset()

    def reset(self) -> None:
        """Forget all messages, because the program is started again."""
        self.ready = self.stopping = self.drained = False
        self.in_flight: int | None = None
        self.status = ""

    def update(self, message: Message) -> None:
        """Apply a message.

        X_GRACEWRAP=busy cancels an earlier X_GRACEWRAP=drained, and so does a number in flight
        other than 0.  A number of 0 does not mean drained: more work may arrive at any moment, and
        only the program knows.
        """
        self.ready = self.ready or message.ready
        self.stopping = self.stopping or message.stopping
        if message.status is not None:
            self.status = message.status
        if message.in_flight is not None:
            self.in_flight = message.in_flight
            self.drained = self.drained and message.in_flight == 0
        if message.drained is not None:
            self.drained = message.drained

    def holds(self, assignment: str) -> bool | None:
        """Return whether an assignment is true now; None if a probe cannot wait for it."""
        return {
            "X_GRACEWRAP=drained": self.drained,
            "READY=1": self.ready,
            "STOPPING=1": self.stopping,
        }.get(assignment)


class NotifyProbe(Probe):
    """Takes its samples at once, from the messages received so far."""

    def __init__(self, spec: NotifyProbeSpec, state: NotifyState) -> None:
        self._assignment, self._state = spec.assignment, state

    def sample(self, on_reading: OnReading) -> None:
        """Take one sample."""
        holds = self._state.holds(self._assignment)
        if holds is None:
            why = f"{self._assignment!r} is not supported; use X_GRACEWRAP=drained or READY=1"
            on_reading(Reading(INVALID, None, why))
        elif holds:
            on_reading(Reading(DRAINED))
        else:
            on_reading(Reading(BUSY, self._state.in_flight, self._why_not()))

    def _why_not(self) -> str:
        number = "" if self._state.in_flight is None else f"{self._state.in_flight} in flight"
        parts = [part for part in (number, self._state.status) if part]
        return ", ".join(parts) or f"{self._assignment} not received yet"
