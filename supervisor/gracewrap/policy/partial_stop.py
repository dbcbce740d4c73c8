"""The stop, or the restart, of some of the programs while the others go on.  Pure.

Loaded when it is first asked for.
"""

from __future__ import annotations

from gracewrap.policy import log_events, program_stop
from gracewrap.policy.advance import put, with_past
from gracewrap.policy.model import Command, PartRequested, Policy, StopChecks
from gracewrap.policy.program_phases import Gone, Pending
from gracewrap.policy.run_end import final_reserve
from gracewrap.policy.run_phases import Subset, Up, is_checked
from gracewrap.policy.shutdown import kill_times, up_of
from gracewrap.record import replace


def begin(system: Up, event: PartRequested, done: list[Command], policy: Policy) -> Up:
    """Stop programs, and before them what depends on them; one that was not up is only started, if
    that is what is wanted."""
    if not policy.managed or system.part is not None:
        done.append(log_events.PartRefused(event.by, event.programs))
        return system
    programs, kill_at = (
        frozenset(event.programs),
        event.at + policy.shutdown_timeout - final_reserve(policy),
    )
    if system.order is not None:
        from gracewrap.policy import stop_order

        programs = stop_order.dependants(system.order, policy.programs, event.programs)
    # What was stopped stays so; but a oneshot has to complete anew, or what waits for it would not
    # wait for what it waits for.
    anew = frozenset(i for i in programs if event.again and policy.programs[i].oneshot)
    programs = frozenset(
        i
        for i in programs
        if i in event.programs or i in anew or not isinstance(system.programs[i], Gone)
    )
    done.append(log_events.PartRequested(event.by, event.again, tuple(sorted(programs))))
    kill_ats = kill_times(system, programs & up_of(system.programs), policy, event.at, kill_at)
    system = replace(
        system, part=Subset(programs, programs if event.again else frozenset(), event.at, kill_ats)
    )
    for i in programs:
        if is_checked(policy.programs[i]):
            done.append(StopChecks(i))
        phase = program_stop.limit(system.programs[i], policy.programs[i], event.at, kill_ats[i])
        system = put(system, done, i, (phase, ()))
        system = with_past(system, i, replace(system.pasts[i], stopped=True))
    return system


def end(system: Up, done: list[Command]) -> Up:
    """Once a part is stopped, start it anew or let it be."""
    part = system.part
    if part is None or not all(isinstance(system.programs[i], Gone) for i in part.programs):
        return system
    done.append(log_events.PartStopped(tuple(sorted(part.programs)), bool(part.again)))
    for i in part.again:
        system = put(system, done, i, (Pending(), ()))
        system = with_past(system, i, replace(system.pasts[i], in_a_row=0, stopped=False))
    return replace(system, part=None)
