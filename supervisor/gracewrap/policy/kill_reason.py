"""Why a program is out of time while some of the budget is left.  Pure.

Loaded when a program is killed.
"""

from __future__ import annotations

from gracewrap.policy import log_events
from gracewrap.policy.program_phases import FOREVER, OUT_OF_TIME, BackingOff, Gone, Pending
from gracewrap.policy.run_phases import ShuttingDown, System, Up, stop_of
from gracewrap.record import TYPE_CHECKING, replace

if TYPE_CHECKING:
    from gracewrap.policy.model import Command, Policy, ProgramPolicy

AT_LEAST = 0.05  # seconds; less of the budget is not worth a word


def explain(
    before: System, after: System, commands: tuple[Command, ...], policy: Policy, at: float
) -> tuple[Command, ...]:
    """Return the commands of a step, with the reasons of each Kill."""
    return tuple(
        _explained(before, after, command, policy, at)
        if isinstance(command, log_events.Kill) and command.why == OUT_OF_TIME
        else command
        for command in commands
    )


def _explained(
    before: System, after: System, kill: log_events.Kill, policy: Policy, at: float
) -> Command:
    if not isinstance(before, Up | ShuttingDown):
        return kill
    since, kill_at = stop_of(before, kill.program)
    left = since + policy.shutdown_timeout - at
    if since == FOREVER or left < AT_LEAST:
        return kill
    if at < kill_at - AT_LEAST:
        return replace(kill, left=left, limit=_own_limit(policy.programs[kill.program]))
    return replace(kill, left=left, kept_for=_later(before, after, kill.program))


def _own_limit(rules: ProgramPolicy) -> str:
    """Return the setting that gives a program less time than the budget leaves it."""
    limits = [] if rules.stop_timeout is None else [(rules.stop_timeout, "stop_timeout")]
    drain = rules.drain
    if drain.probes and drain.timeout is not None and drain.when == "after-signal":
        limits.append((drain.timeout, "drain.timeout"))
    return min(limits)[1] if limits else ""


def _later(before: Up | ShuttingDown, after: System, program: int) -> tuple[int, ...]:
    """Return the programs that are still there and are stopped after *program*."""
    phases = after.programs if isinstance(after, Up | ShuttingDown) else before.programs
    found: set[int] = set()
    todo = [program] if before.order is not None else []
    while todo and before.order is not None:
        for later in before.order.after[todo.pop()]:
            if later not in found:
                found.add(later)
                todo.append(later)
    return tuple(i for i in sorted(found) if not isinstance(phases[i], Gone | Pending | BackingOff))
