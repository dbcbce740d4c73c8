"""What does not fit into the budget or the grace period, and which setting mends it."""

from __future__ import annotations

from gracewrap.config.to_policy import policy_of
from gracewrap.config.values import show_duration
from gracewrap.linux.signals import name as signal_name
from gracewrap.picture.chart import shown
from gracewrap.picture.course_steps import EPSILON, marks_of, segments_of
from gracewrap.picture.simulated_stop import WORST, stop
from gracewrap.record import TYPE_CHECKING, Record, replace

if TYPE_CHECKING:
    from collections.abc import Iterator

    from gracewrap.config.settings import Settings
    from gracewrap.picture.simulated_stop import Course

MARGIN = 1.0  # seconds for the exit before the platform's SIGKILL


class Fault(Record):
    """What does not fit: by how many seconds, and which setting mends it."""

    program: str
    setting: str
    by: float
    text: str


def faults(settings: Settings, worst: Course, grace: float | None) -> Iterator[Fault]:
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
    marks = list(marks_of(index, worst))
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
        length = sum(one.end - one.start for one in segments_of(worst.phases[index])
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
