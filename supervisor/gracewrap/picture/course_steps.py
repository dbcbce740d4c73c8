"""The steps of a simulated stop as what a chart shows: segments and marks."""

from __future__ import annotations

from gracewrap.linux.signals import name as signal_name
from gracewrap.picture.chart import Mark, Segment
from gracewrap.policy import log_events
from gracewrap.policy import model as m
from gracewrap.record import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator

    from gracewrap.picture.simulated_stop import Course

EPSILON = 1e-6
SHORTEST = 0.005  # seconds; less is shown as 0 s
# Kinds of segments, as verbs.
VERBS = {
    "waits": "waits",
    "hook": "hook",
    "propagation": "not ready",
    "drain": "drain",
    "linger": "linger",
}


def segments_of(phases: tuple[tuple[float, str], ...]) -> tuple[Segment, ...]:
    """Return the segments; a step that takes less than what is shown is none."""
    ends = [since for since, _ in phases[1:]]
    return tuple(
        Segment(kind, since, until)
        for (since, kind), until in zip(phases, ends)
        if kind and (kind not in VERBS or until - since >= SHORTEST)
    )


def marks_of(program: int, course: Course) -> Iterator[Mark]:
    """Yield the moments of a program's stop: its stop signals, drained, SIGKILL."""
    for told in course.told:
        match told.what:
            case m.SendLeader(i, signum) | m.SendGroup(i, signum) if (
                i == program and signum != m.SIGCONT
            ):
                yield Mark(told.at, "signal", signal_name(signum))
            case m.KillProgram(i) if i == program:
                yield Mark(told.at, "kill", "SIGKILL")
            case log_events.Drained(program=i) if i == program:
                yield Mark(told.at, "drained", "drained")
