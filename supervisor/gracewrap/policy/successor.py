"""A leader that replaces itself: nginx, unicorn and gunicorn start a new master on SIGUSR2, and the
old one exits when it is told to.  Pure.

The new master is the program from then on, and nothing that was left behind.  Loaded when a leader
exits with 0 and leaves something.
"""

from __future__ import annotations

from gracewrap.policy.model import SHELLS
from gracewrap.record import TYPE_CHECKING, Record

if TYPE_CHECKING:
    from collections.abc import Iterable

# What puts itself into the background leaves a process like itself too, but a moment after its
# start.
SECONDS_LATER = 1.0


class Left(Record):
    """A process that a leader has left behind, and whose parent is now gracewrap."""

    pid: int
    name: str  # of the process, which has 15 bytes at most
    words: tuple[str, ...]  # of its command line, without directories
    started: float  # seconds on the clock of the leader's start
    has_children: bool


def of(name: str, started: float, left: Iterable[Left]) -> int | None:
    """Return the pid of the leader's successor among what it has *left*, or None if there is none.

    It has the leader's name, or runs the script of that name (gunicorn starts "python gunicorn"),
    was started later on, and has workers of its own.  Workers that a master leaves behind have
    none.

    Args:
        name: The leader's; "" if it is not known.
        started: When it was started, in seconds.
        left: What it has left.
    """
    found = [
        one
        for one in left
        if (not name or one.name == name or name in (word[:15] for word in one.words[:2]))
        and one.name not in SHELLS  # a subshell
        and one.has_children
        and one.started >= started + SECONDS_LATER
    ]
    return max(found, key=lambda one: one.started).pid if found else None
