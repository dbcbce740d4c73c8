"""Has the program said that it is drained, or ready?  It says so itself, by sd_notify(3)."""

from __future__ import annotations

from gracewrap.policy.model import BUSY, DRAINED, INVALID, Reading
from gracewrap.probes.base import Probe
from gracewrap.record import TYPE_CHECKING

if TYPE_CHECKING:
    from gracewrap.config.probe_specs import NotifyProbeSpec
    from gracewrap.linux.sd_notify import Message
    from gracewrap.probes.base import OnReading


class NotifyState:
    """What the program has said so far; the last word counts, whichever of its processes it came
    from."""

    def __init__(self) -> None:
        self.reset()

    def reset(self) -> None:
        """The program has been started: nothing has been said yet."""
        self.ready = self.stopping = self.drained = False
        self.in_flight: int | None = None
        self.status = ""

    def update(self, message: Message) -> None:
        """Take in a message.

        X_GRACEWRAP=busy takes an earlier X_GRACEWRAP=drained back, and so does a number in flight
        that is not 0.  A number of 0
        is not drained: more may come at any moment, and only the program knows.
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
        """Return whether an assignment holds; None if it is none that a probe can wait for."""
        return {
            "X_GRACEWRAP=drained": self.drained,
            "READY=1": self.ready,
            "STOPPING=1": self.stopping,
        }.get(assignment)


class NotifyProbe(Probe):
    """Answers at once, from what has been said."""

    def __init__(self, probe: NotifyProbeSpec, state: NotifyState) -> None:
        self._assignment, self._state = probe.assignment, state

    def sample(self, on_reading: OnReading) -> None:
        """Take one sample."""
        said = self._state.holds(self._assignment)
        if said is None:
            on_reading(
                Reading(
                    INVALID,
                    None,
                    f"{self._assignment!r} is not waited for; X_GRACEWRAP=drained and READY=1 are",
                )
            )
        elif said:
            on_reading(Reading(DRAINED))
        else:
            on_reading(Reading(BUSY, self._state.in_flight, self._why()))

    def _why(self) -> str:
        number = "" if self._state.in_flight is None else f"{self._state.in_flight} in flight"
        said = ", ".join(part for part in (number, self._state.status) if part)
        return said or f"it has not sent {self._assignment}"
