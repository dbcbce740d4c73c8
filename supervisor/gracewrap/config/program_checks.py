"""What is wrong between several programs: names, circles, conditions that never come, and a budget
that is too small."""

from __future__ import annotations

from gracewrap.config.closest_name import close_to
from gracewrap.config.origins import Origins
from gracewrap.config.problems import Problem
from gracewrap.config.settings import RESTART
from gracewrap.config.to_policy import policy_of
from gracewrap.config.values import show_duration
from gracewrap.policy import budget as budget_
from gracewrap.policy import model as m
from gracewrap.policy import stop_order
from gracewrap.record import TYPE_CHECKING, replace

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence
    from typing import Any

    from gracewrap.config.settings import Settings


class Program:
    """One of several programs while it is put together."""

    def __init__(
        self,
        name: str,
        origin: str,
        own: Mapping[str, str],
        values: dict[str, Any],
        where: Origins,
        unusable: set[str],
    ) -> None:
        self.name, self.origin = name, origin
        self.own = own  # what it says itself
        self.values, self.where, self.unusable = values, where, unusable

    def cannot(self, key: str, fault: str, warning: bool = False) -> Problem:
        """Return the problem that a setting is."""
        return Problem(f"cannot use {self.where.name(key)} ({self.where(key)}): {fault}", warning)

    def doubt(self, key: str, fault: str) -> Problem:
        """Return a warning about a setting."""
        return Problem(f"{self.where.name(key)} ({self.where(key)}): {fault}", True)


def check_names(
    programs: Sequence[Program], exit_code_from: str | None, where: Origins
) -> Iterator[Problem]:
    """Yield what is wrong with whom programs name; what they wait for is filled in where it was not
    written."""
    by_name = {one.name: one for one in programs}
    for one in programs:
        for key, verb in (("depends_on", "depend on"), ("stop_after", "stop after")):
            for named in one.values[key]:
                if named == one.name:
                    yield one.cannot(key, f"{named} cannot {verb} itself; remove it")
                elif named not in by_name:
                    yield one.cannot(key, _nobody(named, by_name))
        one.values["depends_on"] = {
            needed: condition or ("completed" if by_name[needed].values["oneshot"] else "ready")
            for needed, condition in one.values["depends_on"].items()
            if needed in by_name
        }
    if exit_code_from is not None and exit_code_from not in by_name:
        yield Problem(
            f"cannot use exit_code_from ({where('exit_code_from')}): "
            f"{_nobody(exit_code_from, by_name)}"
        )
    yield from _circle(programs)


def _nobody(name: str, by_name: Mapping[str, object]) -> str:
    """Say that there is no such program, and who may be meant."""
    few = ", ".join(list(by_name)[:10]) + (", ..." if len(by_name) > 10 else "")
    return f"there is no program {name}{close_to(name, by_name) or f'; the programs are: {few}'}"


def _circle(programs: Sequence[Program]) -> Iterator[Problem]:
    """Yield the first circle in which programs would have to be stopped."""
    if not any(one.values["depends_on"] or one.values["stop_after"] for one in programs):
        return
    index = {one.name: n for n, one in enumerate(programs)}
    rules = [
        m.ProgramPolicy(
            name=one.name,
            depends_on=tuple(
                (index[needed], how)
                for needed, how in one.values["depends_on"].items()
                if needed != one.name
            ),
            stop_after=tuple(
                index[first]
                for first in one.values["stop_after"]
                if first in index and first != one.name
            ),
        )
        for one in programs
    ]
    circle = stop_order.cycle(rules)
    if circle is None:
        return
    first, then = programs[circle[0]], programs[circle[1]]
    one, key = (
        (first, "depends_on") if then.name in first.values["depends_on"] else (then, "stop_after")
    )
    yield one.cannot(
        key, f"circular dependency: {stop_order.spelled(circle, rules)}; remove one of them"
    )


def check_runs(programs: Sequence[Program]) -> Iterator[Problem]:
    """Yield what does not go together in how programs run, and wait for each other."""
    by_name = {one.name: one for one in programs}
    for one in programs:
        if one.values["oneshot"] and one.values["restart"] == "always":
            why = f"{one.name} is a oneshot, which ends once it has completed"
            yield one.cannot(
                "restart", f'{why}; write restart = "on-failure" in [programs.{one.name}]'
            )
        for needed, condition in one.values["depends_on"].items():
            if condition == "completed":
                yield from _never_completed(one, by_name[needed])
        if "signal_map" in one.own and RESTART in one.values["signal_map"].values():
            why = "restart is for all programs, one after the other; write it at the top"
            yield one.cannot("signal_map", f"{why}, or use gracewrap restart {one.name}")
        if not one.unusable.intersection(("shutdown_timeout", "reserve")):
            yield from _over_budget(one)
    if programs and not any(one.values["readyz"] for one in programs):
        yield programs[0].cannot("readyz", "at least one program must count for /readyz")
    yield from _none_to_drain(programs)


def _over_budget(one: Program) -> Iterator[Problem]:
    budget, kept = one.values["shutdown_timeout"], one.values["reserve"]
    if kept is not None and kept > budget:
        yield Problem(
            f'cannot use {one.where.name("reserve")} = "{show_duration(kept)}" '
            f"({one.where('reserve')}): it is longer than the "
            f'whole budget, shutdown_timeout = "{show_duration(budget)}" '
            f"({one.where('shutdown_timeout')}); write at most "
            f'"{show_duration(budget)}", or raise shutdown_timeout'
        )


def _none_to_drain(programs: Sequence[Program]) -> Iterator[Problem]:
    """Yield which programs wait until others are drained, and these have nothing that could tell.

    Of what [defaults] says it is told only if it is so for all.
    """
    stopped_before = _stopped_before(programs)
    waiting = [one for one in programs if one.values["until"] == "drained"]
    idle = [
        one
        for one in waiting
        if not any(other.values["drain"] for other in stopped_before[one.name])
    ]
    for one in idle:
        who = ", ".join(other.name for other in stopped_before[one.name])
        has = f"none of the programs stopped before {one.name} ({who}) has a drain probe"
        if "until" in one.own:
            yield one.doubt(
                "until",
                f"{has if who else f'nothing is stopped before {one.name}'}; this means "
                'the same as "gone"',
            )
        elif len(idle) == len(waiting):
            yield one.doubt(
                "until",
                "no program that is stopped before another one has a drain probe; this means "
                'the same as "gone"',
            )
            return


def _never_completed(one: Program, needed: Program) -> Iterator[Problem]:
    """Yield what is to be said of a program that waits until another one has completed, which may
    never be."""
    if needed.values["oneshot"]:
        if needed.values["on_failure"] == "ignore":
            why = f"if {needed.name} fails, that is ignored and {one.name} waits forever"
            yield one.doubt(
                "depends_on",
                f'{why}; write {{{needed.name} = "started"}} if it need not have completed',
            )
    elif needed.values["restart"] == "always" or needed.values["on_exit"] == "restart":
        why = f"{needed.name} is restarted whenever it exits, so it never completes"
        yield one.cannot(
            "depends_on",
            f'{why}; write {{{needed.name} = "ready"}}, or oneshot = true in '
            f"[programs.{needed.name}]",
        )
    elif needed.values["on_exit"] == "shutdown":
        why = f"{needed.name} is not a oneshot, and its exit stops everything"
        yield one.doubt("depends_on", f"{why}; write oneshot = true in [programs.{needed.name}]")


def _stopped_before(programs: Sequence[Program]) -> dict[str, list[Program]]:
    """Return for each program those that have to be gone, or drained, before it is its turn."""
    found: dict[str, list[Program]] = {one.name: [] for one in programs}
    by_name = {one.name: one for one in programs}
    for one in programs:
        for needed in one.values["depends_on"]:
            found[needed].append(one)
        found[one.name] += [
            by_name[first] for first in one.values["stop_after"] if first in by_name
        ]
    return found


def check_budget(settings: Settings) -> Iterator[Problem]:
    """Yield the chain of programs that cannot be stopped one after the other within the budget, if
    there is one."""
    from gracewrap.policy import run_end

    policy = policy_of(settings)
    if not policy.shutdown_timeout:
        return  # all is killed at once, and somebody may want just that
    left = policy.shutdown_timeout - run_end.final_reserve(policy)
    the_order = stop_order.order(policy.programs)
    tightest = budget_.cannot_fit(the_order, policy.programs, left)
    if tightest is None:
        return
    claimed = [replace(rules, reserve=budget_.claim(rules) or 0.0) for rules in policy.programs]
    if overrun := budget_.cannot_fit(the_order, claimed, left):
        yield _claims_too_much(settings, [policy.programs[i] for i in overrun.chain], left)
    else:
        yield _leaves_too_little(settings, [policy.programs[i] for i in tightest.chain], left)


def _claims(chain: Sequence[m.ProgramPolicy]) -> str:
    """Return who claims how much, in the order of the stop: "web (15s) and db (9s)"."""
    claims = [
        f"{one.name} ({show_duration(claim)})" for one in chain if (claim := budget_.claim(one))
    ]
    return " and ".join(filter(None, (", ".join(claims[:-1]), *claims[-1:])))


def _budget(settings: Settings, left: float) -> tuple[str, str]:
    """Return the budget as it was written, and what is left of it for programs."""
    budget = settings.shutdown_timeout
    written = (
        f'shutdown_timeout = "{show_duration(budget)}" '
        f"({settings.origins.get('shutdown_timeout', 'default')})"
    )
    return (
        written,
        f"the {show_duration(left)} that hooks and metrics leave of it"
        if left < budget
        else "the budget",
    )


def _claims_too_much(settings: Settings, chain: Sequence[m.ProgramPolicy], left: float) -> Problem:
    """Return the problem of a chain; of one that fits but for what comes after it, the warning."""
    written, whole = _budget(settings, left)
    total = sum(budget_.claim(one) or 0.0 for one in chain)
    claiming = sum(bool(budget_.claim(one)) for one in chain)
    over = f"{show_duration(total)}, {show_duration(total - left)} more than {whole}"
    if claiming == 1:  # as it may of a single command
        one = next(one for one in chain if budget_.claim(one))
        return Problem(f"{written}: {one.name} needs {over}; it will have less", True)
    return Problem(
        f"cannot use {written}: {_claims(chain)} are stopped one after the other and need {over}; "
        "shorten one, or raise shutdown_timeout"
    )


def _leaves_too_little(
    settings: Settings, chain: Sequence[m.ProgramPolicy], left: float
) -> Problem:
    """Return the warning about a chain in which little is left for those that claim nothing."""
    written, whole = _budget(settings, left)
    rest = show_duration(max(0.0, left - sum(budget_.claim(one) or 0.0 for one in chain)))
    without = ", ".join(one.name for one in chain if budget_.claim(one) is None)
    claiming = sum(bool(budget_.claim(one)) for one in chain)
    taken = (
        f"{_claims(chain)} leave{'s' * (claiming == 1)} {rest} of {whole} for {without}"
        if claiming
        else f"only {rest} is left for {without}"
    )
    advice = "set a stop_timeout for each, or raise shutdown_timeout"
    return Problem(
        f"{written}: {taken}, stopped one after the other, which may not be enough; {advice}", True
    )
