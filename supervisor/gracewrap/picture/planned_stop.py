"""The stop that would be: two charts, at worst and with all drained, and what does not fit."""

from __future__ import annotations

from gracewrap.config.to_policy import policy_of
from gracewrap.config.values import show_duration
from gracewrap.linux.signals import name as signal_name
from gracewrap.picture.chart import Chart, Limit, Mark, Note, Row, Segment, shown
from gracewrap.picture.simulate import ALL_DRAINED, WORST, stop
from gracewrap.policy import log_events
from gracewrap.policy import model as m
from gracewrap.record import TYPE_CHECKING, Record, replace

if TYPE_CHECKING:
    from collections.abc import Iterator

    from gracewrap.config.settings import Settings
    from gracewrap.picture.simulate import Course

MARGIN = 1.0  # seconds for the exit before the platform's SIGKILL
EPSILON = 1e-6
SHORTEST = 0.005  # seconds; less is shown as 0 s


class Fault(Record):
    """What does not fit: by how many seconds, and which setting mends it."""

    program: str
    setting: str
    by: float
    text: str


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
    faults = tuple(_faults(settings, worst, grace))
    limits: tuple[Limit, ...] = (Limit(settings.shutdown_timeout, "budget"),)
    if grace is not None:
        limits += (Limit(grace, "the platform's SIGKILL"),)
    limits = tuple(sorted(limits, key=lambda limit: limit.at))
    bad = {fault.program for fault in faults}
    notes = tuple(Note(fault.text, True) for fault in faults)
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
        faults,
    )


def _name(settings: Settings) -> str:
    import os

    return settings.name or (os.path.basename(settings.command[0]) if settings.command else
                             "command")  # fmt: skip


def _rows(settings: Settings, course: Course, bad: set[str]) -> Iterator[Row]:
    for i, each in enumerate(settings.each):
        if each.oneshot:
            continue
        marks = tuple(_marks(i, course))
        gone = next((at for at, kind in course.phases[i] if kind == ""), course.ended)
        killed = any(mark.kind == "kill" for mark in marks)
        said = " · ".join(_steps(course.phases[i], marks))
        if not killed:
            said += f"{' · ' if said else ''}gone at {shown(gone)}"
        yield Row(_name(each), _segments(course.phases[i]), marks, said, each.name in bad or (
            "" in bad and not each.name))  # fmt: skip
    if segments := tuple(one for one in _segments(course.after) if one.end > one.start):
        yield Row("gracewrap", segments, (), f"flush, post_stop, metrics from "
                  f"{shown(segments[0].start)} to {shown(segments[-1].end)}")  # fmt: skip


def _segments(phases: tuple[tuple[float, str], ...]) -> tuple[Segment, ...]:
    """Return the segments; a step that takes less than what is shown is none."""
    ends = [since for since, _ in phases[1:]]
    return tuple(
        Segment(kind, since, until)
        for (since, kind), until in zip(phases, ends)
        if kind and (kind not in _VERBS or until - since >= SHORTEST)
    )


def _marks(program: int, course: Course) -> Iterator[Mark]:
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


_VERBS = {
    "waits": "waits",
    "hook": "hook",
    "propagation": "serves on",
    "drain": "drain",
    "linger": "linger",
}


def _steps(phases: tuple[tuple[float, str], ...], marks: tuple[Mark, ...]) -> Iterator[str]:
    """Yield the steps of a program's stop in words."""
    steps: list[tuple[float, str]] = []
    for segment in _segments(phases):
        if segment.kind in _VERBS:
            length = shown(segment.end - segment.start)
            steps.append((segment.start, f"{_VERBS[segment.kind]} {length}"))
    for mark in marks:
        if mark.kind != "drained":
            steps.append((mark.at + EPSILON, f"{mark.label} at {shown(mark.at)}"))
    for _, text in sorted(steps, key=lambda step: step[0]):
        yield text


# --- what does not fit ---------------------------------------------------------------------------


def _faults(settings: Settings, worst: Course, grace: float | None) -> Iterator[Fault]:
    """Yield what the worst case cuts short, and which setting mends it."""
    yield from _of_programs(settings, worst)
    budget = settings.shutdown_timeout
    if grace is not None and budget + MARGIN > grace:
        over = budget + MARGIN - grace
        less = replace(settings, shutdown_timeout=max(0.0, grace - MARGIN))
        shorter = f'shutdown_timeout = "{show_duration(less.shutdown_timeout)}"'
        longer = f"a grace period of {shown(budget + MARGIN)}"
        fits = grace > MARGIN and not any(_of_programs(less, stop(policy_of(less), WORST)))
        mend = f"{shorter}, or {longer}" if fits else (
            f"{longer}; {shorter} would be too short for the other settings")  # fmt: skip
        yield Fault("", "shutdown_timeout", over, (
            f"shutdown_timeout = {show_duration(budget)} is {shown(over)} too long for a grace "
            f"period of {shown(grace)}, of which one second is for the exit: set {mend}"
        ))  # fmt: skip


def _of_programs(settings: Settings, worst: Course) -> Iterator[Fault]:
    for i, each in enumerate(settings.each):
        if not each.oneshot:
            yield from _of_program(settings, i, each, worst)


def _of_program(settings: Settings, index: int, each: Settings, worst: Course) -> Iterator[Fault]:
    marks = list(_marks(index, worst))
    kill = next((mark.at for mark in marks if mark.kind == "kill"), None)
    told = next((mark.at for mark in marks if mark.kind == "signal"), None)
    if kill is None:
        return
    where = f"{each.name}: " if each.name else ""
    budget = settings.shutdown_timeout
    has = 0.0 if told is None else kill - told
    # Who waits for its turn serves on meanwhile.
    if told is not None and told + EPSILON < each.propagation_delay:
        over = each.propagation_delay - told
        yield Fault(each.name, "shutdown_timeout", over, (
            f"{where}propagation_delay = {show_duration(each.propagation_delay)} is cut by "
            f"{shown(over)}: the stop signal comes {shown(told)} after the request; set "
            f'shutdown_timeout = "{show_duration(round(budget + over, 3))}"{_or_less(each)}'
        ))  # fmt: skip
    if each.stop_timeout is not None and has + EPSILON < each.stop_timeout:
        over = each.stop_timeout - has
        yield Fault(each.name, "shutdown_timeout", over, (
            f"{where}stop_timeout = {show_duration(each.stop_timeout)} is cut by {shown(over)}: "
            f'at worst SIGKILL comes {shown(has)} after the stop signal; set shutdown_timeout = '
            f'"{show_duration(round(budget + over, 3))}"{_or_less(each)}'))  # fmt: skip
    for after, signum in each.escalation:
        if told is not None and told + after + EPSILON >= kill and after + EPSILON > has:
            over = told + after - kill
            yield Fault(each.name, "escalation", over, (
                f"{where}{signal_name(signum)} after {show_duration(after)} never comes: SIGKILL "
                f"is {shown(over)} earlier; set a shorter time in escalation, or a longer "
                "shutdown_timeout"))  # fmt: skip
    if each.drain and each.drain_timeout is not None and each.drain_when == "before-signal":
        length = sum(one.end - one.start for one in _segments(worst.phases[index])
                     if one.kind == "drain")  # fmt: skip
        if length + EPSILON < each.drain_timeout:
            over = each.drain_timeout - length
            yield Fault(each.name, "drain.timeout", over, (
                f"{where}drain.timeout = {show_duration(each.drain_timeout)} is cut by "
                f'{shown(over)}; set shutdown_timeout = "{show_duration(round(budget + over, 3))}"'
            ))  # fmt: skip


def _or_less(each: Settings) -> str:
    if each.propagation_delay:
        return ", or a shorter stop_timeout or propagation_delay"
    return ", or a shorter stop_timeout"
