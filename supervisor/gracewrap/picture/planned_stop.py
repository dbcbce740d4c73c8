"""The stop that would be: two charts, at worst and with all drained, and what does not fit."""

from __future__ import annotations

from gracewrap.config.to_policy import policy_of
from gracewrap.picture.chart import Chart, Limit, Note, Row, shown
from gracewrap.picture.course_steps import EPSILON, VERBS, marks_of, segments_of
from gracewrap.picture.simulated_stop import ALL_DRAINED, WORST, stop
from gracewrap.picture.what_does_not_fit import faults
from gracewrap.record import TYPE_CHECKING, Record

if TYPE_CHECKING:
    from collections.abc import Iterator

    from gracewrap.config.settings import Settings
    from gracewrap.picture.chart import Mark
    from gracewrap.picture.simulated_stop import Course
    from gracewrap.picture.what_does_not_fit import Fault


class Plan(Record):
    """The stop of these settings."""

    worst: Chart
    drained: Chart
    faults: tuple[Fault, ...]


def plan(settings: Settings, grace: float | None = None) -> Plan:
    """Return the plan of a stop.

    Args:
        settings: Of one command, or of several programs.
        grace: The platform's grace period in seconds; None: not known.
    """
    policy = policy_of(settings)
    worst, drained = stop(policy, WORST), stop(policy, ALL_DRAINED)
    found = tuple(faults(settings, worst, grace))
    limits: tuple[Limit, ...] = (Limit(settings.shutdown_timeout, "budget"),)
    if grace is not None:
        limits += (Limit(grace, "the platform's SIGKILL"),)
    limits = tuple(sorted(limits, key=lambda limit: limit.at))
    bad = {fault.program for fault in found}
    notes = tuple(Note(fault.text, True) for fault in found)
    return Plan(
        Chart(
            f"At worst (nothing drains, nobody exits): {shown(worst.ended)}",
            tuple(_rows(settings, worst, bad)),
            limits,
            notes,
        ),
        Chart(
            f"All drained, and exits when it is told to: {shown(drained.ended)}",
            tuple(_rows(settings, drained, set())),
            limits,
        ),
        found,
    )


def _name(settings: Settings) -> str:
    import os

    return settings.name or (os.path.basename(settings.command[0]) if settings.command else
                             "command")  # fmt: skip


def _rows(settings: Settings, course: Course, bad: set[str]) -> Iterator[Row]:
    for i, each in enumerate(settings.each):
        if each.oneshot:
            continue
        marks = tuple(marks_of(i, course))
        gone = next((at for at, kind in course.phases[i] if kind == ""), course.ended)
        killed = any(mark.kind == "kill" for mark in marks)
        said = " · ".join(_steps(course.phases[i], marks))
        if not killed:
            said += f"{' · ' if said else ''}gone at {shown(gone)}"
        yield Row(_name(each), segments_of(course.phases[i]), marks, said, each.name in bad or (
            "" in bad and not each.name))  # fmt: skip
    if segments := tuple(one for one in segments_of(course.after) if one.end > one.start):
        yield Row("gracewrap", segments, (), f"flush, post_stop, metrics from "
                  f"{shown(segments[0].start)} to {shown(segments[-1].end)}")  # fmt: skip


def _steps(phases: tuple[tuple[float, str], ...], marks: tuple[Mark, ...]) -> Iterator[str]:
    """Yield the steps of a program's stop in words."""
    steps: list[tuple[float, str]] = []
    for segment in segments_of(phases):
        if segment.kind in VERBS:
            length = shown(segment.end - segment.start)
            steps.append((segment.start, f"{VERBS[segment.kind]} {length}"))
    for mark in marks:
        if mark.kind != "drained":
            steps.append((mark.at + EPSILON, f"{mark.label} at {shown(mark.at)}"))
    for _, text in sorted(steps, key=lambda step: step[0]):
        yield text
