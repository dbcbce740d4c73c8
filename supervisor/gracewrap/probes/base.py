"""The base class of all probes."""

from __future__ import annotations

from gracewrap.record import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable

    from gracewrap.policy.model import Reading

    OnReading = Callable[[Reading], None]


class Probe:
    """Checks one thing about the program, one sample at a time.  It never blocks.

    A probe only reports what it saw; the policy decides what that means for the stop.
    """

    def sample(self, on_reading: OnReading) -> None:
        """Take one sample.

        Args:
            on_reading: Called once with the result, from within this call or later.
        """
        raise NotImplementedError

    def cancel(self) -> None:
        """Abort the sample in progress, if any: on_reading() is not called any more."""
