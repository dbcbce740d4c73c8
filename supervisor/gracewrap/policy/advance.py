"""Advances each program of the system by one event and collects the commands."""

from __future__ import annotations

from gracewrap.policy import log_events, program_stop
from gracewrap.policy.model import (
    SIGKILL,
    AgentsTold,
    Command,
    DrainRequested,
    Event,
    Examined,
    HelperEnded,
    KilledSeen,
    KillProgram,
    LeaderExited,
    MemberEnded,
    NotReadyInTime,
    PartRequested,
    Policy,
    ProgramGone,
    ProgramHealthy,
    ProgramPolicy,
    ProgramReady,
    ProgramSignalRequested,
    ProgramStarted,
    ProgramUnhealthy,
    ProgramUnready,
    RollingRestartRequested,
    Sampled,
    SendGroup,
    SendLeader,
    SendTo,
    SignalReceived,
    StartFailed,
    StopRequested,
    Tick,
    TimeExtended,
    TimeGap,
    TreeSeen,
    UndrainRequested,
    UnsentCounted,
    WatchdogMissed,
)
from gracewrap.policy.program_phases import (
    FOREVER,
    OUT_OF_TIME,
    PreStop,
    Running,
    Spawning,
    Step,
)
from gracewrap.policy.run_phases import (
    ShuttingDown,
    Up,
    is_drained,
    is_over,
    is_waiting,
    stop_of,
    untouched,
)
from gracewrap.record import TYPE_CHECKING, assert_never, replace

if TYPE_CHECKING:
    from typing import TypeVar

    from gracewrap.policy.restart import ProgramRecord

    _Living = TypeVar("_Living", Up, ShuttingDown)


_Sends = SendLeader | SendGroup | SendTo | KillProgram


def has_started(system: _Living, program: int, policy: Policy, at: float) -> _Living:
    if not system.pasts:
        return system
    from gracewrap.policy import restart

    return with_past(
        system, program, restart.started(system.pasts[program], policy.programs[program], at)
    )


def has_ended(system: Up, program: int, policy: Policy, at: float) -> Up:
    if not system.pasts:
        return system
    from gracewrap.policy import restart

    return with_past(
        system, program, restart.ended(system.pasts[program], policy.programs[program], at)
    )


def never_ran(system: _Living, program: int) -> _Living:
    """Take back that a program has run, if it was taken to be started."""
    if not system.pasts or isinstance(system.programs[program], Spawning):
        return system
    from gracewrap.policy import restart

    return with_past(system, program, restart.never_ran(system.pasts[program]))


def is_now_ready(system: Up, done: list[Command], program: int, policy: Policy, at: float) -> Up:
    """Return the system when the ready probes of a program that is up have passed."""
    if not system.pasts or system.pasts[program].ready:
        return system
    if not isinstance(system.programs[program], Running | PreStop):
        return system
    past = system.pasts[program]
    if past.unready_since:
        done.append(log_events.ReadyAgain(program, at - past.unready_since))
    else:
        kind = log_events.ProgramReady if policy.managed else log_events.CommandReady
        done.append(kind(program, at - past.since))
    return with_past(system, program, replace(past, ready=True))


def is_unready(system: Up, done: list[Command], event: ProgramUnready) -> Up:
    """Return the system when the ready probes of a program that was ready fail."""
    i = event.program
    if not system.pasts or not system.pasts[i].ready:
        return system
    if not isinstance(system.programs[i], Running | PreStop):
        return system
    done.append(log_events.Unready(i, event.why))
    return with_past(system, i, replace(system.pasts[i], ready=False, unready_since=event.at))


def with_past(system: _Living, program: int, past: ProgramRecord) -> _Living:
    return replace(system, pasts=(*system.pasts[:program], past, *system.pasts[program + 1 :]))


def turns(system: _Living, done: list[Command], policy: Policy, at: float) -> _Living:
    """Stop the programs whose turn it is: all that have to be gone before them are."""
    over: set[int] = set()
    for i in range(len(system.programs)) if system.order is None else system.order.sequence:
        rules, before = policy.programs[i], () if system.order is None else system.order.before[i]
        drained = rules.until == "drained"
        if not all(
            first in over or (drained and is_drained(system.programs[first])) for first in before
        ):
            continue
        since, kill_at = stop_of(system, i)
        phase = system.programs[i]
        if since != FOREVER and untouched(phase) and not isinstance(phase, Spawning):
            hurried = isinstance(system, ShuttingDown) and system.requests > 1
            system = put(
                system, done, i, program_stop.stop(phase, i, rules, at, kill_at, since, hurried)
            )
            phase = system.programs[i]
        if since == FOREVER or is_over(phase, at):
            over.add(i)
    return system


def turns_at(
    system: _Living, done: list[Command], policy: Policy, event: Event, at: float
) -> _Living:
    """Stop those whose turn it is; if it has become so by a tick, what is due with them is done by
    the same tick."""
    after = turns(system, done, policy, at)
    if isinstance(event, Tick) and after is not system:
        return each(after, done, policy, event, FOREVER)
    return after


def noted_exit(system: ShuttingDown, event: Event) -> ShuttingDown:
    """Remember who has ended before whom, and whether it had been told to."""
    if not isinstance(event, LeaderExited | StartFailed) or any(
        program == event.program for program, _ in system.exits
    ):
        return system
    phase = system.programs[event.program]
    asked = not untouched(phase) and isinstance(event, LeaderExited)
    return replace(system, exits=(*system.exits, (event.program, asked)))


def each(
    system: _Living, done: list[Command], policy: Policy, event: Event, kill_at: float
) -> _Living:
    """Let every program that *event* is about take its step; commands are added to *done*.

    *kill_at* is for what is left of a program that nobody has told to stop.
    """
    about = getattr(event, "program", None)
    for i in range(len(system.programs)) if about is None else (about,):
        step = _one_step(system, i, policy.programs[i], event, kill_at)
        if step is not None and (step[1] or step[0] is not system.programs[i]):
            system = put(system, done, i, step)
    return system


def _one_step(
    system: Up | ShuttingDown, i: int, rules: ProgramPolicy, event: Event, kill_at: float
) -> Step | None:
    phase, limit = system.programs[i], min(kill_at, stop_of(system, i)[1])
    match event:
        case LeaderExited() | ProgramGone() | ProgramStarted() | StartFailed():
            return _leader_step(system, i, rules, event, limit)
        case TreeSeen():
            return program_stop.tree_seen(phase, event)
        case MemberEnded(at=at):
            return program_stop.member_ended(phase, at)
        case KilledSeen():
            return program_stop.killed_seen(phase, event)
        case Examined():
            return program_stop.examined(phase, i, rules, event)
        case Sampled():
            return program_stop.sampled(phase, i, rules, event)
        case HelperEnded():
            return program_stop.helper_ended(phase, i, rules, event)
        case AgentsTold():
            return program_stop.agents_told(phase, i, rules, event)
        case TimeExtended(_, seconds, at) if stop_of(system, i)[1] != FOREVER:
            return program_stop.extended(phase, i, seconds, at, limit)
        case DrainRequested(at):
            return program_stop.hold(phase, i, rules, at)
        case UndrainRequested():
            return program_stop.let_go(phase, i, rules)
        case Tick(at):
            if at >= limit and is_waiting(system, i):
                return program_stop.kill(phase, i, at, OUT_OF_TIME)
            return program_stop.tick(phase, i, rules, at)
        case SignalReceived() | StopRequested() | PartRequested() | RollingRestartRequested():
            return None
        case ProgramSignalRequested() | TimeExtended() | UnsentCounted() | TimeGap():
            return None
        case ProgramReady() | ProgramUnready() | NotReadyInTime() | WatchdogMissed():
            return None
        case ProgramUnhealthy() | ProgramHealthy():
            return None
        case _:
            assert_never(event)


def _leader_step(
    system: Up | ShuttingDown,
    i: int,
    rules: ProgramPolicy,
    event: LeaderExited | ProgramGone | ProgramStarted | StartFailed,
    limit: float,
) -> Step:
    """Take the step that a leader's start or end makes."""
    phase = system.programs[i]
    match event:
        case LeaderExited():
            return program_stop.leader_exited(phase, i, rules, event, limit)
        case ProgramGone():
            return program_stop.gone(phase)
        case ProgramStarted(at=at):
            after, commands = program_stop.spawned(phase, i)
            if isinstance(system, Up) and system.drain:
                after, commands = program_stop.hold(after, i, rules, at)
            return after, commands
        case StartFailed(status=status):
            return program_stop.start_failed(phase, i, status)
        case _:
            assert_never(event)


def put(system: _Living, done: list[Command], i: int, step: Step) -> _Living:
    phase, commands = step
    done.extend(commands)
    system = replace(system, programs=(*system.programs[:i], phase, *system.programs[i + 1 :]))
    if isinstance(system, ShuttingDown):
        sent = {
            (i, SIGKILL if isinstance(c, KillProgram) else c.signum)
            for c in commands
            if isinstance(c, _Sends)
        }
        system = replace(system, sent=system.sent | sent)
    return system
