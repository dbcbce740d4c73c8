"""Takes samples of a probe of any kind, each within a time limit."""

from __future__ import annotations

from gracewrap.linux.procfs import SHORTAGE
from gracewrap.policy.model import UNREACHABLE, Reading
from gracewrap.record import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable

    from gracewrap.linux.reactor import Reactor, Timer
    from gracewrap.probes.base import OnReading, Probe


class Sampler:
    """Samples one probe, one sample at a time."""

    def __init__(self, probe: Probe, reactor: Reactor, timeout: float) -> None:
        self.probe, self.reactor, self.timeout = probe, reactor, timeout
        self._limit: Timer | None = None
        self.asked_at: float | None = None  # when the sample in progress began; None: there is none
        self._sample = 0  # the number of the current sample; readings of earlier ones are ignored

    def sample(self, at: float, on_reading: OnReading) -> None:
        """Take one sample; a sample in progress is aborted first.

        Args:
            at: The time now, from which the timeout counts.
            on_reading: Called once, at at + timeout at the latest, unless cancel() comes first.
        """
        self.cancel()
        self._sample += 1
        number = self._sample

        def finish(reading: Reading) -> None:
            if number == self._sample and self._limit is not None:
                self.reactor.cancel(self._limit)
                self._limit = self.asked_at = None
                on_reading(reading)

        def time_out() -> None:
            if number == self._sample and self._limit is not None:
                self._safely(self.probe.cancel)
                finish(Reading(UNREACHABLE, None, f"no answer within {self.timeout:g} s"))

        self._limit = self.reactor.call_at(at + self.timeout, time_out)
        self.asked_at = at
        try:
            self.probe.sample(finish)
        except Exception as error:  # a bug, or no memory: the stop continues without this sample
            self._safely(self.probe.cancel)
            short = isinstance(error, MemoryError) or getattr(error, "errno", None) in SHORTAGE
            why = f"{type(error).__name__}: {error}"
            finish(Reading(UNREACHABLE, None, why, asked=not short))

    def cancel(self) -> None:
        """Abort the sample in progress, if any."""
        if self._limit is not None:
            self.reactor.cancel(self._limit)
            self._limit = self.asked_at = None
            self._safely(self.probe.cancel)

    def _safely(self, call: Callable[[], None]) -> None:
        try:
            call()
        except Exception:
            pass  # cancelling must not fail; the probe's resources are freed with the probe
