"""A log line, and what its sentences are made of: numbers, names and statuses as people read
them."""

from __future__ import annotations

from gracewrap.linux.signals import name
from gracewrap.record import TYPE_CHECKING, Record

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

# What they are called in the settings.
HOOKS = {
    "pre_stop": "pre_stop",
    "start": "drain.start",
    "post_stop": "post_stop",
    "push": "the push of metrics",
}

NOT_OURS = "which gracewrap did not send (out of memory?)"  # of a SIGKILL
MOST = 6  # programs that are named in one line; more are counted


class Line(Record):
    """One log line.  Of the fields those that are None or "" are left out.

    *on_change*: it is about a number that has changed; people read it in the line of each second.
    """

    level: str
    text: str
    fields: Mapping[str, object] = {}
    on_change: bool = False


def seconds(value: float) -> str:
    """Return seconds for people: "25 s", "1.25 s", "12 ms"."""
    if 0 < value < 0.0995:
        return f"{value * 1000:.0f} ms"
    return f"{value:.0f} s" if value == int(value) else f"{value:.2f} s"


def listed(names: Sequence[str], most: int = MOST, last: str = "and") -> str:
    """Return names for people: "web", "web and worker", "web, worker and 44 more"; with *last*
    before the last one."""
    if len(names) > most:
        return f"{', '.join(names[:most])} and {len(names) - most} more"
    return f" {last} ".join(filter(None, (", ".join(names[:-1]), *names[-1:])))


def outcome(status: int, signum: int) -> str:
    """Return how a process ended: "exited with 0", "was ended by SIGKILL"."""
    return f"was ended by {name(signum)}" if signum else f"exited with {status}"


def ordinal(number: int) -> str:
    """Return "1st", "2nd", "11th"."""
    suffix = (
        "th" if number % 100 in (11, 12, 13) else {1: "st", 2: "nd", 3: "rd"}.get(number % 10, "th")
    )
    return f"{number}{suffix}"


def signal_name(signum: int) -> str | None:
    """Return the name of a signal, or None for 0."""
    return name(signum) if signum else None


def in_flight_now(number: float | None) -> str:
    """Return the end of a sentence: how much is in flight, if that is known."""
    return "" if number is None else f"; in flight: {number:g}"


def because(why: str) -> str:
    """Return the end of a sentence: *why*, if that is known."""
    return f" ({why})" if why else ""
