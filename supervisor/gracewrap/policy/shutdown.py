"""Events while the system is shutting down; second and third stop requests."""

from __future__ import annotations

from gracewrap.policy import log_events, program_stop
from gracewrap.policy.advance import (
    each,
    has_started,
    never_ran,
    noted_exit,
    put,
    turns,
    turns_at,
)
from gracewrap.policy.exit_status import status_of_system
from gracewrap.policy.forwarding import forward, send_one
from gracewrap.policy.model import (
    AgentsTold,
    Command,
    CountUnsent,
    DrainRequested,
    Event,
    Examined,
    HelperEnded,
    KilledSeen,
    LeaderExited,
    MemberEnded,
    NotReadyInTime,
    PartRequested,
    Policy,
    ProgramGone,
    ProgramHealthy,
    ProgramReady,
    ProgramSignalRequested,
    ProgramStarted,
    ProgramUnhealthy,
    ProgramUnready,
    RollingRestartRequested,
    Sampled,
    SignalReceived,
    StartFailed,
    StopChecks,
    StopRequested,
    Tick,
    TimeExtended,
    TimeGap,
    TreeSeen,
    UndrainRequested,
    UnsentCounted,
    WatchdogMissed,
)
from gracewrap.policy.program_phases import BackingOff, Gone, Pending, Phase
from gracewrap.policy.run_end import FLUSH_INTERVAL, final_reserve, finish
from gracewrap.policy.run_phases import (
    SAME_REQUEST,
    Flushing,
    ShuttingDown,
    Step,
    Up,
    is_checked,
    waits_for,
)
from gracewrap.record import assert_never, replace


def shut_down(
    system: Up, at: float, policy: Policy, requests: int, said: Command, exited: Event | None = None
) -> Step:
    """Start the shutdown: every program is stopped in its turn (the one whose exit started it has
    only its rest to stop)."""
    kill_at = at + policy.shutdown_timeout - final_reserve(policy)
    up = up_of(system.programs)
    if isinstance(exited, StartFailed) or (isinstance(exited, LeaderExited) and not exited.left):
        up -= {exited.program}
    shutdown = ShuttingDown(
        system.programs,
        at,
        kill_at,
        requests,
        at,
        kill_times(system, up, policy, at, kill_at),
        ignored=_ignored(system, policy),
        pasts=system.pasts,
        order=system.order,
    )
    checked = (i for i in sorted(up) if is_checked(policy.programs[i]))
    done: list[Command] = [said, *map(StopChecks, checked)]
    if exited is not None:
        shutdown = each(noted_exit(shutdown, exited), done, policy, exited, kill_at)
    shutdown = replace(
        shutdown,
        programs=tuple(
            program_stop.limit(phase, rules, at, program_kill_at)
            for phase, rules, program_kill_at in zip(
                shutdown.programs, policy.programs, shutdown.kill_ats
            )
        ),
        exits=shutdown.exits
        + tuple((i, False) for i, p in enumerate(shutdown.programs) if isinstance(p, BackingOff)),
    )
    shutdown = turns(shutdown, done, policy, at)
    for i in range(len(shutdown.programs)):
        if waited_for := waits_for(shutdown, policy, i):
            done.append(log_events.StopWaits(i, waited_for))
    return _close(shutdown, done, policy, at)


def up_of(programs: tuple[Phase, ...]) -> frozenset[int]:
    """Return the programs of which something is there, which takes time to stop."""
    return frozenset(
        i for i, phase in enumerate(programs) if not isinstance(phase, Pending | BackingOff | Gone)
    )


def _ignored(system: Up, policy: Policy) -> frozenset[int]:
    """Return the programs that have ended and do not count: those that others could not be started
    for count nevertheless."""
    found = {i for i, phase in enumerate(system.programs) if isinstance(phase, Gone)}
    for i, phase in enumerate(system.programs) if system.pasts and found else ():
        if isinstance(phase, Pending):
            found.difference_update(waits_for(system, policy, i))
    return frozenset(found)


def kill_times(
    system: Up, up: frozenset[int], policy: Policy, since: float, kill_at: float
) -> tuple[float, ...]:
    """Return when each program is killed at the latest, so that those after it have their time."""
    if system.order is None:
        return (kill_at,) * len(system.programs)
    from gracewrap.policy import budget

    return budget.kill_times(system.order, policy.programs, up, since, kill_at)


def shutting_down(system: ShuttingDown, event: Event, policy: Policy) -> Step:
    done: list[Command] = []
    match event:
        case SignalReceived() | ProgramSignalRequested():
            return _signalled(system, event, policy)
        case RollingRestartRequested(signum):
            return system, (log_events.Dropped(signum),)
        case StopRequested(at=at, failure=failure):
            return (system, ()) if failure else _asked_again(system, 0, at, policy)
        case LeaderExited(program, status, signum, left, at):
            done.append(log_events.LeaderExited(program, status, signum, left, asked=True))
            system = noted_exit(system, event)
        case StartFailed(program, status, why, at):
            done.append(log_events.StartFailed(program, status, why))
            system = never_ran(system, program)
            system = noted_exit(system, event)
        case ProgramStarted(program, at):
            system = has_started(system, program, policy, at)
        case ProgramGone(at=at) | TreeSeen(at=at) | MemberEnded(at=at) | Tick(at):
            pass
        case Examined(at=at) | KilledSeen(at=at):
            pass
        case Sampled(at=at) | HelperEnded(at=at) | AgentsTold(at=at) | TimeExtended(at=at):
            pass
        case WatchdogMissed(at=at):
            from gracewrap.policy import watchdog_missed

            done += watchdog_missed.say(event, policy)
        case (
            UnsentCounted()
            | DrainRequested()
            | UndrainRequested()
            | ProgramReady()
            | ProgramUnready()
            | NotReadyInTime()
            | ProgramUnhealthy()
            | ProgramHealthy()
            | PartRequested()
            | TimeGap()
        ):
            return system, ()
        case _:
            assert_never(event)
    system = each(system, done, policy, event, system.kill_at)
    return _close(turns_at(system, done, policy, event, at), done, policy, at)


def _signalled(
    system: ShuttingDown, event: SignalReceived | ProgramSignalRequested, policy: Policy
) -> Step:
    if isinstance(event, ProgramSignalRequested):
        return system, send_one(system.programs, event, policy)
    if event.signum in policy.stop_on:
        return _asked_again(system, event.signum, event.at, policy)
    return system, forward(system.programs, event, policy)


def _asked_again(system: ShuttingDown, signum: int, at: float, policy: Policy) -> Step:
    """A second request skips ahead, a third kills now."""
    if system.requests and (at - system.asked_at < SAME_REQUEST or policy.on_repeat == "ignore"):
        return replace(system, asked_at=at), (log_events.AskedAgain(signum, "none"),)
    requests = system.requests + 1
    system = replace(system, requests=requests, asked_at=at)
    if (
        requests == 1
    ):  # a program's exit had started the shutdown: this is the first request, and changes nothing
        return system, (log_events.AskedAgain(signum, "stopping already"),)
    done: list[Command] = []
    for i, phase in enumerate(system.programs):
        if requests == 2:
            system = put(system, done, i, program_stop.hurry(phase, i, policy.programs[i], at))
        else:
            system = put(system, done, i, program_stop.kill(phase, i, at, "asked three times"))
    effect = "kill" if requests > 2 else "skip ahead" if done else "nothing to skip"
    return system, (log_events.AskedAgain(signum, effect), *done)


def _close(system: ShuttingDown, done: list[Command], policy: Policy, at: float) -> Step:
    """Go on to flushing when nothing is left of any program."""
    if not all(isinstance(phase, Gone) for phase in system.programs):
        return system, tuple(done)
    times = at + policy.flush_timeout, at + FLUSH_INTERVAL
    hooks = tuple(
        i
        for i, rules in enumerate(policy.programs)
        if rules.post_stop and (not system.pasts or system.pasts[i].ran)
    )
    flushing = Flushing(
        status_of_system(system, policy),
        *times,
        system.requests,
        system.asked_at,
        system.kill_at,
        hooks,
    )
    if policy.flush_timeout <= 0:
        after, commands = finish(flushing, at, policy)
        return after, (*done, *commands)
    return flushing, (*done, CountUnsent())
