"""A rolling restart: programs are restarted set by set, the next one when all are ready.  Pure.

Loaded when one is first asked for.
"""

from __future__ import annotations

from gracewrap.policy import stop_order
from gracewrap.policy.model import PartRequested, Policy
from gracewrap.policy.program_phases import Gone
from gracewrap.policy.readiness import is_up
from gracewrap.policy.run_phases import Rolling, Up
from gracewrap.record import replace


def request(system: Up, by: str, policy: Policy) -> Up:
    """Return the system with a rolling restart of all that is up; sets that are yet to be restarted
    keep their place."""
    waiting = () if system.rolling is None else system.rolling.sets
    more = tuple(one for one in _sets(system, policy) if one not in waiting)
    return replace(system, rolling=Rolling((*waiting, *more), by))


def _sets(system: Up, policy: Policy) -> tuple[tuple[int, ...], ...]:
    """Return the programs in sets, none of which depends on another."""
    if system.order is None:
        return tuple((i,) for i in range(len(policy.programs)))
    return tuple(tuple(sorted(one)) for one in stop_order.components(system.order, policy.programs))


def next_request(system: Up, at: float) -> tuple[Up, PartRequested | None]:
    """Return the request for the set that is restarted now, and the system without it; None while
    another part is being stopped, or something is not ready.

    What has completed, or was stopped, stays so.
    """
    while system.rolling is not None and system.part is None and is_up(system):
        by, (first, *others) = system.rolling.by, system.rolling.sets
        system = replace(system, rolling=Rolling(tuple(others), by) if others else None)
        up = tuple(i for i in first if not isinstance(system.programs[i], Gone))
        if up:
            return system, PartRequested(up, by, True, at)
    return system, None
