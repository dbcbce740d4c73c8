"""The entry to the policy: step() takes an event, deadline() says when time itself is one."""

from __future__ import annotations

from gracewrap.policy import log_events, program_phases
from gracewrap.policy.model import Event, LeaderExited, Policy, TimeGap
from gracewrap.policy.program_phases import BackingOff, Gone, Pending
from gracewrap.policy.run_end import finishing, flushing
from gracewrap.policy.run_phases import (
    AT_REST,
    Ended,
    Finishing,
    Flushing,
    ShuttingDown,
    Step,
    System,
    Up,
    is_waiting,
    stop_of,
)
from gracewrap.policy.running import up
from gracewrap.policy.shutdown import shutting_down
from gracewrap.record import assert_never


def deadline(system: System, policy: Policy) -> float | None:
    """Return when the system next needs a tick, or None: never on its own."""
    match system:
        case Finishing() | Ended():
            return None
        case Up(programs) | ShuttingDown(programs):
            times: list[float | None] = []
            if not AT_REST.issuperset(map(type, programs)):
                times += [
                    program_phases.deadline(phase, policy.programs[i])
                    for i, phase in enumerate(programs)
                    if type(phase) not in AT_REST
                ]
            if isinstance(system, ShuttingDown) or system.part is not None:
                times += [
                    stop_of(system, i)[1] for i in range(len(programs)) if is_waiting(system, i)
                ]
            return min((t for t in times if t is not None), default=None)
        case Flushing(again_at=again_at):
            return again_at
        case _:
            assert_never(system)


def step(system: System, event: Event, policy: Policy) -> Step:
    """Return what becomes of *system* when *event* happens, and what to do about it."""
    if isinstance(event, TimeGap):
        from gracewrap.policy import time_gap

        return time_gap.take(system, event, policy)
    after, commands = _step(system, event, policy)
    if any(isinstance(command, log_events.Kill) for command in commands):
        from gracewrap.policy import kill_reason

        commands = kill_reason.explain(system, after, commands, policy, event.at)
    return after, commands


def _step(system: System, event: Event, policy: Policy) -> Step:
    match system:
        case Up() | ShuttingDown() if _comes_too_late(system, event):
            return system, ()
        case Up():
            return up(system, event, policy)
        case ShuttingDown():
            return shutting_down(system, event, policy)
        case Flushing():
            return flushing(system, event, policy)
        case Finishing():
            return finishing(system, event, policy)
        case Ended():
            return system, ()
        case _:
            assert_never(system)


def _comes_too_late(system: Up | ShuttingDown, event: Event) -> bool:
    """Return whether it is the exit of a leader that was given up on: with that its end was
    settled, whatever follows."""
    return isinstance(event, LeaderExited) and isinstance(
        system.programs[event.program], Pending | BackingOff | Gone
    )
