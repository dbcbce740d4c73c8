"""Settings of config.schema_core that contradict each other.  Loaded at every start that has a
setting."""

from __future__ import annotations

from gracewrap.config.origins import Origins
from gracewrap.config.problems import Problem
from gracewrap.config.values import show_duration
from gracewrap.record import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping
    from typing import Any


def cross_check(values: Mapping[str, Any], where: Origins, unusable: set[str]) -> Iterable[Problem]:
    """Find what no single value is wrong with, but two together are.  What comes of an unusable
    value is no news."""
    for keys, find in _CHECKS:
        text = None if unusable.intersection(keys) else find(values, where)
        if text is not None:
            yield Problem(text)


def _over_budget(values: Mapping[str, Any], where: Origins) -> str | None:
    budget, timeout = values["shutdown_timeout"], values["stop_timeout"]
    if timeout is None or timeout <= budget:
        return None
    return (
        f'cannot use {where.name("stop_timeout")} = "{show_duration(timeout)}" '
        f"({where('stop_timeout')}): it is longer than the "
        "whole budget, "
        f'shutdown_timeout = "{show_duration(budget)}" ({where("shutdown_timeout")}); write at '
        f'most "{show_duration(budget)}", or raise shutdown_timeout'
    )


def _never_climbed(values: Mapping[str, Any], where: Origins) -> str | None:
    rungs, budget, timeout = (
        values["escalation"],
        values["shutdown_timeout"],
        values["stop_timeout"],
    )
    limit, key = (
        (budget, "shutdown_timeout")
        if timeout is None or timeout > budget
        else (timeout, "stop_timeout")
    )
    if not rungs or rungs[-1][0] < limit:
        return None
    last = show_duration(rungs[-1][0])
    return (
        f"cannot use {where.name('escalation')} ({where('escalation')}): the step at {last} is "
        "never reached, because "
        f'SIGKILL comes first ({key} = "{show_duration(limit)}", {where(key)}); write an earlier '
        "one"
    )


def _never_forwarded(values: Mapping[str, Any], where: Origins) -> str | None:
    both = sorted(values["stop_on"].intersection(values["signal_map"]))
    if not both:
        return None
    from gracewrap.linux.signals import name

    names = ", ".join(name(signum).removeprefix("SIG") for signum in both)
    return (
        f"cannot use signal_map for {names} ({where('signal_map')}): a stop request (stop_on, "
        f"{where('stop_on')}) is not "
        "forwarded; set stop_signal to the signal for the command, or remove it from stop_on"
    )


_CHECKS: tuple[tuple[tuple[str, ...], Callable[[Mapping[str, Any], Origins], str | None]], ...] = (
    (("stop_timeout", "shutdown_timeout"), _over_budget),
    (("escalation", "stop_timeout", "shutdown_timeout"), _never_climbed),
    (("signal_map", "stop_on"), _never_forwarded),
)
