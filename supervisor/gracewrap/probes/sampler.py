"""Take a sample of any kind of probe, with a limit of time that none can break."""

from __future__ import annotations

from gracewrap.policy.model import UNREACHABLE, Reading
from gracewrap.record import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable

    from gracewrap.linux.reactor import Reactor, Timer

    Answer = Callable[[Reading], None]


class Probe:
    """What every kind of probe is."""

    def ask(self, answer: Answer) -> None:
        """Take one sample."""
        raise NotImplementedError

    def cancel(self) -> None:
        """Give up on the sample that is under way, if any."""


class Sampler:
    """One probe, asked one sample at a time."""

    def __init__(self, asker: Probe, reactor: Reactor, timeout: float) -> None:
        self.asker, self.reactor, self.timeout = asker, reactor, timeout
        self._limit: Timer | None = None
        self._sample = 0  # its number; an answer to another one comes too late

    def ask(self, at: float, answered: Answer) -> None:
        """Take one sample; *answered* is called once, by at + timeout at the latest, unless
        cancel() comes before."""
        self.cancel()
        self._sample += 1
        number = self._sample

        def answer(reading: Reading) -> None:
            if number == self._sample and self._limit is not None:
                self.reactor.cancel(self._limit)
                self._limit = None
                answered(reading)

        def too_late() -> None:
            if number == self._sample and self._limit is not None:
                self._safely(self.asker.cancel)
                answer(Reading(UNREACHABLE, None, f"no answer within {self.timeout:g} s"))

        self._limit = self.reactor.call_at(at + self.timeout, too_late)
        try:
            self.asker.ask(answer)
        except Exception as error:  # a bug, or no memory: the stop goes on without this sample
            self._safely(self.asker.cancel)
            answer(Reading(UNREACHABLE, None, f"{type(error).__name__}: {error}"))

    def cancel(self) -> None:
        """Give up on the sample that is under way, if any."""
        if self._limit is not None:
            self.reactor.cancel(self._limit)
            self._limit = None
            self._safely(self.asker.cancel)

    def _safely(self, call: Callable[[], None]) -> None:
        try:
            call()
        except Exception:
            pass  # giving up must not fail; what it held is closed with it
