"""When a program that is being stopped is looked at, to say what holds it up.  Pure."""

from __future__ import annotations

from gracewrap.record import Record, replace

# Which look it is: at half of the time from the stop signal to SIGKILL, and just before SIGKILL.
HALF, LAST = "half", "last"
# Seconds before SIGKILL: a look takes LIMIT at most, and is over by then.
LEAD = 0.25
LIMIT = 0.2
# A program that has less time than this (seconds) is not looked at: nobody waits for it for long.
SHORT = 1.0
# The last look is taken again if SIGKILL has been put off by this many seconds.
AGAIN = 0.5


class Looks(Record):
    """Which looks have been taken; times are those of the policy's clock.

    Attributes:
        since: When the time began to run: with the stop signal, or the leader's exit.
        half: The look at half of the time has been taken.
        last_at: When the last one was taken; 0: it was not.
        dumped: Who has been sent what makes it write what it is doing.
    """

    since: float
    half: bool = False
    last_at: float = 0.0
    dumped: frozenset[tuple[int, int]] = frozenset()


def due(looks: Looks | None, kill_at: float, end: float) -> float | None:
    """Return when the next look is to be taken, or None.

    Args:
        looks: Those that have been taken; None: nobody looks.
        kill_at: When its time is up.
        end: When it is sent SIGKILL as things are: then, or sooner as it is drained.
    """
    if looks is None or kill_at - looks.since < SHORT:
        return None
    times = [at for at in (_half_at(looks, kill_at), _last_at(looks, end)) if at is not None]
    return min(times, default=None)


def _half_at(looks: Looks, kill_at: float) -> float | None:
    return None if looks.half else looks.since + (kill_at - looks.since) / 2


def _last_at(looks: Looks, end: float) -> float | None:
    at = max(end - LEAD, looks.since + (end - looks.since) / 2)
    return None if looks.last_at and at < looks.last_at + AGAIN else at


def take(looks: Looks, end: float, at: float) -> tuple[Looks, str]:
    """Return the looks with the one that is due, and which one that is."""
    last_at = _last_at(looks, end)
    if last_at is not None and at >= last_at:
        return replace(looks, half=True, last_at=at), LAST
    return replace(looks, half=True), HALF
