"""What the start and the stop of several programs would be: what `gracewrap check` ends with for
them."""

from __future__ import annotations

import textwrap

from gracewrap.cli import explain_stop
from gracewrap.config.settings import RESTART
from gracewrap.config.to_policy import policy_of
from gracewrap.config.values import show_duration
from gracewrap.linux.signals import name as signal_name
from gracewrap.policy import budget as budget_
from gracewrap.policy import run_end, stop_order
from gracewrap.record import TYPE_CHECKING, Record
from gracewrap.report.wording import listed

if TYPE_CHECKING:
    from collections.abc import Callable, Hashable, Iterator, Sequence

    from gracewrap.config.probe_specs import CheckSpecs
    from gracewrap.config.settings import Settings
    from gracewrap.policy.model import Policy

WIDTH = 79
NAMES = 18  # columns of names in the table of the stop
AXIS = 20  # columns of its time axis
MANY = 6  # programs; more are not named where "all others" says as much
EVERY = 1 << 20  # programs are named, however many they are


class Slot(Record):
    """When a program is stopped, in seconds after the request, if all before it take as long as
    they may."""

    told: float  # its turn comes then
    killed: float  # so it has the time from one to the other for sure


def lines(settings: Settings) -> Iterator[str]:
    """Yield the text of all of it, paragraph by paragraph."""
    policy = policy_of(settings)
    yield _start(settings, policy)
    yield _stop(settings, policy)
    yield from _kept_by_default(settings, policy)
    yield from _particulars(settings, policy)
    yield _ends(settings, policy)
    if rolling := _rolling(settings, policy):
        yield rolling
    yield _status(settings)


def _filled(text: str, first: str = "  ", others: str = "  ") -> str:
    return textwrap.fill(
        text, WIDTH, initial_indent=first, subsequent_indent=others, break_on_hyphens=False
    )


def _grouped(
    settings: Settings, key: Callable[[Settings], Hashable]
) -> list[tuple[Hashable, list[Settings]]]:
    """Return the programs that have the same *key* together, in the order of the file."""
    found: dict[Hashable, list[Settings]] = {}
    for one in settings.programs:
        found.setdefault(key(one), []).append(one)
    return list(found.items())


def _names(programs: Sequence[Settings]) -> str:
    return ", ".join(one.name for one in programs)


# --- the start -----------------------------------------------------------------------------------


def _start(settings: Settings, policy: Policy) -> str:
    """Return what is started when; who waits for the same stands in one line."""
    place = {
        settings.programs[i].name: n
        for n, i in enumerate(reversed(stop_order.order(policy.programs).sequence))
    }
    groups = _grouped(settings, lambda one: tuple(sorted(one.depends_on.items())))
    groups.sort(key=lambda group: min(place[one.name] for one in group[1]))
    rows = ["  The start:"]
    for waits, programs in groups:
        assert isinstance(waits, tuple)
        rows.append(_filled(f"{_names(programs)}: {_when(waits)}", "    ", "      "))
    each = settings.programs
    tells = [f"{one.name} is ready when {_signs(one.ready)}" for one in each if one.ready]
    tells += [f"{one.name} is healthy when {_signs(one.live)}" for one in each if one.live]
    rows += [_filled(text, "    ", "      ") for text in tells]
    return "\n".join(rows)


def _when(waits: tuple[tuple[str, str], ...]) -> str:
    """Return what programs wait for before they are started, for people."""
    if not waits:
        return "at once"
    said = []
    for condition, verb in (("started", "started"), ("ready", "ready"), ("completed", "completed")):
        names = [name for name, wanted in waits if wanted == condition]
        if names:
            has = "has" if condition == "completed" else "is"
            have = "have" if condition == "completed" else "are"
            said.append(f"{listed(names, EVERY)} {has if len(names) == 1 else have} {verb}")
    return f"when {' and '.join(said)}"


def _signs(check: CheckSpecs) -> str:
    joined = " and " if check.combine == "all" else " or "
    return joined.join(explain_stop.sign_of_readiness(probe) for probe in check.probes)


# --- the stop ------------------------------------------------------------------------------------


def slots(settings: Settings, policy: Policy) -> list[Slot]:
    """Return for each program when it is stopped; a oneshot has completed by then, and takes no
    time."""
    budget = policy.shutdown_timeout - run_end.final_reserve(policy)
    the_order = stop_order.order(policy.programs)
    alive = frozenset(i for i, one in enumerate(settings.programs) if not one.oneshot)
    limits = budget_.kill_times(the_order, policy.programs, alive, 0.0, budget)
    found: dict[int, Slot] = {}
    for i in the_order.sequence:
        told = max((found[first].killed for first in the_order.before[i]), default=0.0)
        if i in alive:
            found[i] = Slot(told, max(told, min(limits[i], told + _longest(settings.programs[i]))))
        else:
            found[i] = Slot(told, told)
    return [found[i] for i in range(len(settings.programs))]


def _longest(settings: Settings) -> float:
    """Return how long a program's stop takes at most, in seconds; infinite if only the budget
    limits it."""
    held = (
        settings.pre_stop
        or settings.drain_start
        or (settings.drain and settings.drain_when == "before-signal")
    )
    if settings.stop_timeout is None or held:
        return float("inf")
    return settings.propagation_delay + settings.stop_timeout


def _stop(settings: Settings, policy: Policy) -> str:
    """Return a table of the stop: who is told when, how long it has for sure, and when it is killed
    at the latest."""
    budget = settings.shutdown_timeout
    said = f"{explain_stop.requests(settings)}, within {show_duration(budget)}"
    if settings.health_listen and settings.health_on_stop == "503":
        said += "; /readyz says 503"
    rows = [
        _filled(
            f"The stop, on {said}. Whoever takes less time leaves the rest to those after it; at "
            "the latest:"
        )
    ]
    rows.append(
        f"  {'':{NAMES}}  {'told':8} {'signal':8} {'has':7} {'SIGKILL':8} "
        f"0s{show_duration(budget):>{AXIS}}"
    )
    planned = dict(zip((one.name for one in settings.programs), slots(settings, policy)))
    groups = _grouped(
        settings,
        lambda one: (planned[one.name], "" if one.oneshot else signal_name(one.stop_signal)),
    )
    ordered = sorted(
        groups, key=lambda group: (planned[group[1][0].name].told, planned[group[1][0].name].killed)
    )
    for _, programs in ordered:
        one = programs[0]
        if not one.oneshot:
            rows += _row(_names(programs), signal_name(one.stop_signal), planned[one.name], budget)
    if once := [one for one in settings.programs if one.oneshot]:
        those = (
            "It has completed by then, as it runs once"
            if len(once) == 1
            else "They have completed by then, as they run once"
        )
        rows.append(_filled(f"{those}: {_names(once)}.", "  ", "  "))
    if (kept := run_end.final_reserve(policy)) > 0:
        rows.append(
            _filled(
                f"The last {show_duration(kept)} are kept for what comes after the programs: "
                "post_stop, metrics."
            )
        )
    return "\n".join(rows)


def _row(names: str, signal: str, slot: Slot, budget: float) -> list[str]:
    """Return the lines of some programs that are stopped alike; names for which its column is too
    small stand above it."""
    above = _filled(f"{names}:").splitlines()
    wrapped = textwrap.wrap(names, NAMES, break_on_hyphens=False)
    first, *more = wrapped if len(wrapped) < 3 else [""]
    told = _seconds(slot.told) if slot.told else "at once"
    times = f"{told:8} {signal:8} {_seconds(slot.killed - slot.told):7} {_seconds(slot.killed):8}"
    row = f"  {first:<{NAMES}}  {times} |{_bar(slot, budget)}|"
    return [*([] if first else above), row, *(f"  {name}" for name in more)]


def _seconds(value: float) -> str:
    return show_duration(round(value, 2))


def _bar(slot: Slot, budget: float) -> str:
    """Return the time from its turn to SIGKILL as a part of the time axis."""
    if budget <= 0:
        return " " * AXIS
    begin = min(AXIS - 1, round(AXIS * slot.told / budget))
    end = min(AXIS, max(begin + 1, round(AXIS * slot.killed / budget)))
    return " " * begin + "=" * (end - begin) + " " * (AXIS - end)


def _kept_by_default(settings: Settings, policy: Policy) -> Iterator[str]:
    """Yield how little is kept for programs that come after others and claim no time."""
    budget = policy.shutdown_timeout - run_end.final_reserve(policy)
    before = stop_order.order(policy.programs).before
    late = [
        one.name
        for one, rules, firsts in zip(settings.programs, policy.programs, before)
        if firsts and budget_.claim(rules) is None and not one.oneshot
    ]
    if late:
        least, each = _seconds(budget_.least(budget)), " each" if len(late) > 1 else ""
        yield _filled(
            f"{listed(late, EVERY)}: {least}{each} kept for the stop, as by default (a tenth of "
            "the budget, at most 2s); those before may use all the rest. Set reserve to keep more."
        )


def _particulars(settings: Settings, policy: Policy) -> Iterator[str]:
    """Yield what is not as plain as the table says; programs of which the same is to be said stand
    together."""
    found: dict[str, list[Settings]] = {}
    for one, slot in zip(settings.programs, slots(settings, policy)):
        if said := _particular(one, slot):
            found.setdefault(said, []).append(one)
    for said, programs in found.items():
        yield _filled(f"{_names(programs)}: {said}", "  ", "    ")


def _particular(settings: Settings, slot: Slot) -> str:
    parts = []
    if settings.stop_after:
        parts.append(f"it is stopped after {listed(settings.stop_after, EVERY)}.")
    if settings.until == "drained":
        parts.append("Its turn comes as soon as those before it are drained.")
    plain = settings.kill_mode == "mixed" and not settings.escalation
    if (
        not plain
        or settings.propagation_delay
        or settings.pre_stop
        or settings.drain_start
        or settings.post_stop
        or settings.drain
    ):
        parts.append(
            "; ".join(
                explain_stop.steps(
                    settings, "it", slot.killed, f"{_seconds(slot.killed)} after the request"
                )
            )
            + "."
        )
    if settings.drain:
        parts.append(" ".join(explain_stop.drain(settings, "it")))
    return " ".join(parts)


# --- what else happens ---------------------------------------------------------------------------


def _ends(settings: Settings, policy: Policy) -> str:
    """Return what follows from a program's end; where that is the same for most, it is said of all
    others."""
    rules = {
        one.name: explain_stop.end_of(by, several=True)
        for one, by in zip(settings.programs, policy.programs)
    }
    groups = _grouped(settings, lambda one: rules[one.name])
    groups.sort(key=lambda group: len(group[1]) > MANY)
    rows = ["  When a program ends by itself:"]
    for n, (text, programs) in enumerate(groups):
        others = n == len(groups) - 1 and len(programs) > MANY
        who = ("all others" if n else "all") if others else _names(programs)
        rows.append(_filled(f"{who}: {text}", "    ", "      "))
    return "\n".join(rows)


def _rolling(settings: Settings, policy: Policy) -> str:
    """Return what a signal for a rolling restart does; "" if there is none."""
    signals = [
        signal_name(signum) for signum, sent in settings.signal_map.items() if sent == RESTART
    ]
    if not signals:
        return ""
    stacks = stop_order.components(stop_order.order(policy.programs), policy.programs)
    shown = "; ".join(
        listed([settings.programs[i].name for i in sorted(stack)], EVERY) for stack in stacks
    )
    return _filled(
        f"{' or '.join(signals)} restarts them, each when those before it are ready again: {shown}."
    )


def _status(settings: Settings) -> str:
    if settings.exit_code_from is not None:
        return _filled(f"The exit status is that of {settings.exit_code_from}.")
    return _filled("The exit status is that of the first program that fails, or 0.")
