"""A program that has failed a health check: the stop signal and, if need be, SIGKILL for it; or the
stop of all.  Pure.

Loaded when a program first fails one.
"""

from __future__ import annotations

from gracewrap.policy import log_events, restart
from gracewrap.policy.advance import put, with_past
from gracewrap.policy.model import (
    Command,
    NotReadyInTime,
    Policy,
    ProgramHealthy,
    ProgramUnhealthy,
    StopChecks,
)
from gracewrap.policy.program_phases import FAILED, Aborting, PreStop, Running
from gracewrap.policy.program_stop import end_stage, send
from gracewrap.policy.run_phases import Step, Up, is_waiting, untouched
from gracewrap.policy.shutdown import shut_down
from gracewrap.record import assert_never, replace

# Seconds from the stop signal to SIGKILL for a program without a stop_timeout.
STOP_TIME = 10.0


TELL = "tell"


def take(
    system: Up,
    event: NotReadyInTime | ProgramUnhealthy | ProgramHealthy,
    done: list[Command],
    policy: Policy,
) -> Up | Step:
    """Return the system, or the whole step, when a check of a program says so."""
    if not _is_up(system, event.program):
        return system
    match event:
        case NotReadyInTime():
            return _not_ready_in_time(system, event, done, policy)
        case ProgramUnhealthy():
            return _unhealthy(system, event, done, policy)
        case ProgramHealthy():
            return _healthy(system, event, done)
        case _:
            assert_never(event)


def _unhealthy(
    system: Up, event: ProgramUnhealthy, done: list[Command], policy: Policy
) -> Up | Step:
    i, at, rules = event.program, event.at, policy.programs[event.program]
    past = replace(system.pasts[i], unhealthy_since=at, unhealthy_why=event.why)
    if rules.on_unhealthy == TELL:
        done.append(log_events.Unhealthy(i, event.why, TELL))
        return with_past(system, i, past)
    past = replace(past, failed="live")
    then = restart.SHUTDOWN
    if rules.on_unhealthy == restart.RESTART:
        then = restart.verdict(rules, restart.ended(past, rules, at), 1)
    done.append(log_events.Unhealthy(i, event.why, then))
    return _end(with_past(system, i, past), done, i, policy, then, at)


def _healthy(system: Up, event: ProgramHealthy, done: list[Command]) -> Up:
    i, past = event.program, system.pasts[event.program]
    if not past.unhealthy_since:
        return system
    done.append(log_events.HealthyAgain(i, event.at - past.unhealthy_since))
    return with_past(system, i, replace(past, unhealthy_since=0.0, unhealthy_why=""))


def _not_ready_in_time(
    system: Up, event: NotReadyInTime, done: list[Command], policy: Policy
) -> Up | Step:
    """Treat a program that was not ready in time as one that has failed."""
    i, at = event.program, event.at
    if system.pasts[i].ready:
        return system
    past = replace(system.pasts[i], failed="ready")
    then = restart.verdict(policy.programs[i], restart.ended(past, policy.programs[i], at), 1)
    after = at - past.since
    done.append(log_events.NotReadyInTime(i, after, event.why, then))
    return _end(with_past(system, i, past), done, i, policy, then, at)


def _is_up(system: Up, program: int) -> bool:
    """Return whether a program is there to be ended: what is being stopped, or is to be when it is
    its turn, need not be healthy."""
    phase = system.programs[program]
    is_there = isinstance(phase, Running | PreStop) and untouched(phase)
    return bool(system.pasts) and is_there and not is_waiting(system, program)


def _end(
    system: Up, done: list[Command], program: int, policy: Policy, then: str, at: float
) -> Up | Step:
    """Stop all if a failure is a reason for that, and else this program alone; what follows from
    its end is decided then."""
    if then == restart.SHUTDOWN:
        begins = log_events.StopRequested(0, "a health check failed")
        after, commands = shut_down(system, at, policy, 0, begins)
        return after, (*done, *commands)
    phase, rules = system.programs[program], policy.programs[program]
    seconds = STOP_TIME if rules.stop_timeout is None else rules.stop_timeout
    ended = end_stage(phase, program) if isinstance(phase, PreStop) else ()
    said = log_events.FailedStop(program, rules.stop_signal, seconds)
    commands = (StopChecks(program), *ended, said, *send(program, rules, rules.stop_signal))
    return put(system, done, program, (Aborting(at + seconds, why=FAILED), commands))
