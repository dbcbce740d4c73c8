"""The base class of all probes."""

from __future__ import annotations

from gracewrap.record import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Protocol

    from gracewrap.policy.model import AgentCounts, Reading

    OnReading = Callable[[Reading], None]
    OnAnswers = Callable[[list[AgentCounts] | None], None]
else:
    Protocol = object


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


class AskAgents(Protocol):
    """Asks the agents inside a program."""

    def ask(self, on_answers: OnAnswers) -> None:
        """Ask each; call back once with the answers, or with None if there is no agent."""

    def cancel(self) -> None:
        """End the asking."""
