"""Events while the system is up: starts, exits, restarts, requests."""

from __future__ import annotations

from gracewrap.policy import log_events
from gracewrap.policy.advance import (
    each,
    has_ended,
    has_started,
    is_now_ready,
    is_unready,
    never_ran,
    put,
    turns_at,
    with_past,
)
from gracewrap.policy.forwarding import forward, send_one
from gracewrap.policy.model import (
    AgentsTold,
    Command,
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
    StartProgram,
    StopRequested,
    Tick,
    TimeExtended,
    TimeGap,
    TreeSeen,
    UndrainRequested,
    UnsentCounted,
    WatchdogMissed,
)
from gracewrap.policy.program_phases import FOREVER, BackingOff, Gone, Pending, Phase, Spawning
from gracewrap.policy.readiness import is_up
from gracewrap.policy.run_end import final_reserve
from gracewrap.policy.run_phases import Step, Up, stop_of, waits_for
from gracewrap.policy.shutdown import shut_down
from gracewrap.record import assert_never, replace


def up(system: Up, event: Event, policy: Policy) -> Step:
    """Return what becomes of a system that is up when *event* happens, and what to do about it."""
    done: list[Command] = []
    taken = _take(system, event, done, policy)
    if isinstance(taken, tuple):
        return taken
    counts = isinstance(event, LeaderExited | TimeExtended)
    limit = event.at + policy.shutdown_timeout - final_reserve(policy) if counts else FOREVER
    before, system = system.programs, each(taken, done, policy, event, limit)
    if not system.pasts:
        return system, tuple(done)
    after, commands = _settle(system, before, done, policy, event, event.at)
    if not isinstance(after, Up) or after.rolling is None:
        return after, commands
    from gracewrap.policy import rolling

    after, request = rolling.next_request(after, event.at)
    if request is None:
        return after, commands
    rolled, more = up(after, request, policy)
    return rolled, (*commands, *more)


def _take(system: Up, event: Event, done: list[Command], policy: Policy) -> Up | Step:
    """Take in what happened to all, or what was asked; return the whole step if that ends it."""
    at = event.at
    match event:
        case SignalReceived() | ProgramSignalRequested() | StopRequested():
            return _take_request(system, event, policy)
        case LeaderExited() | StartFailed():
            system, ended, then = _an_end(system, event, policy)
            if then == "shutdown":
                return shut_down(system, at, policy, 0, ended, event)
            done.append(ended)
        case WatchdogMissed():
            return _take_miss(system, event, done, policy)
        case ProgramStarted(program):
            return has_started(system, program, policy, at)
        case ProgramReady(program):
            return is_now_ready(system, done, program, policy, at)
        case ProgramUnready():
            return is_unready(system, done, event)
        case NotReadyInTime() | ProgramUnhealthy() | ProgramHealthy():
            from gracewrap.policy import failed_health_check

            return failed_health_check.take(system, event, done, policy)
        case PartRequested():
            from gracewrap.policy import partial_stop

            return partial_stop.begin(system, event, done, policy)
        case RollingRestartRequested(_, by):
            from gracewrap.policy import rolling

            done.append(log_events.RollingRestart(by, waits=not is_up(system)))
            return rolling.request(system, by, policy)
        case DrainRequested() | UndrainRequested():
            return _ask_for_drain(system, done, isinstance(event, DrainRequested))
        case Tick() | Sampled() | HelperEnded() | AgentsTold() | ProgramGone():
            pass
        case TreeSeen() | MemberEnded() | Examined() | KilledSeen() | TimeExtended():
            pass
        case UnsentCounted() | TimeGap():
            return system, ()
        case _:
            assert_never(event)
    return system


def _take_request(
    system: Up, event: SignalReceived | ProgramSignalRequested | StopRequested, policy: Policy
) -> Step:
    match event:
        case SignalReceived(signum, at) if signum in policy.stop_on:
            return shut_down(system, at, policy, 1, log_events.StopRequested(signum))
        case SignalReceived():
            return system, forward(system.programs, event, policy)
        case ProgramSignalRequested():
            return system, send_one(system.programs, event, policy)
        case StopRequested(by, at, failure):
            said = log_events.StopRequested(0, by)
            return shut_down(system, at, policy, 0 if failure else 1, said)
        case _:
            assert_never(event)


def _take_miss(system: Up, event: WatchdogMissed, done: list[Command], policy: Policy) -> Up | Step:
    from gracewrap.policy import watchdog_missed

    done += watchdog_missed.say(event, policy)
    if watchdog_missed.ends_all(system, event.program, policy, event.at):
        said = log_events.StopRequested(0, "the watchdog was missed")
        after, commands = shut_down(system, event.at, policy, 0, said)
        return after, (*done, *commands)
    return watchdog_missed.abort(system, done, event.program, policy, event.at)


def _ask_for_drain(system: Up, done: list[Command], drain: bool) -> Up:
    if system.drain != drain:
        done.append(log_events.DrainRequested() if drain else log_events.UndrainRequested())
    return replace(system, drain=drain)


def _an_end(
    system: Up, event: LeaderExited | StartFailed, policy: Policy
) -> tuple[Up, Command, str]:
    """Return what becomes of *system*, what is to be said of it, and what follows: "" from an end
    that was asked for."""
    program = event.program
    if isinstance(event, StartFailed):
        system = never_ran(system, program)
    asked = stop_of(system, program)[0] != FOREVER
    system = has_ended(system, program, policy, event.at)
    then = "" if asked else _verdict(system, program, event.status, policy)
    if isinstance(event, StartFailed):
        return (
            system,
            log_events.StartFailed(program, event.status, event.why, then),
            then,
        )
    ended = log_events.LeaderExited(
        program, event.status, event.signum, event.left, asked=asked, then=then
    )
    return system, ended, then


def _verdict(system: Up, program: int, status: int, policy: Policy) -> str:
    """Return what follows from a program's end."""
    if not system.pasts:
        return "shutdown"
    from gracewrap.policy import restart

    return restart.verdict(policy.programs[program], system.pasts[program], status)


def _settle(
    system: Up,
    before: tuple[Phase, ...],
    done: list[Command],
    policy: Policy,
    event: Event,
    at: float,
) -> Step:
    """Draw the consequences: what has ended is started again, what may be started is, and with
    nothing left all is over."""
    about = getattr(event, "program", None)
    for i in range(len(before)) if about is None else (about,):
        phase = system.programs[i]
        if isinstance(phase, Gone) and phase is not before[i] and stop_of(system, i)[0] == FOREVER:
            system = _start_again(system, done, i, phase.status, policy, at)
    if system.part is not None:
        from gracewrap.policy import partial_stop

        system = partial_stop.end(turns_at(system, done, policy, event, at), done)
    system = _launch(system, done, policy, at)
    if all(
        isinstance(phase, Gone | Pending) for phase in system.programs
    ):  # what is pending waits in vain
        after, commands = shut_down(system, at, policy, 0, log_events.AllEnded())
        return after, (*done, *commands)
    return system, tuple(done)


def _start_again(
    system: Up, done: list[Command], program: int, status: int, policy: Policy, at: float
) -> Up:
    """A program has ended, and is no reason to stop: start it again after a pause, or let it be."""
    from gracewrap.policy import restart

    rules, past = policy.programs[program], system.pasts[program]
    if restart.verdict(rules, past, status) != restart.RESTART:
        return put(
            system,
            done,
            program,
            (system.programs[program], (log_events.ProgramEnded(program, status),)),
        )
    wait = restart.delay(rules, past.in_a_row, restart.chance(policy.seed, program, int(at * 1e6)))
    system = with_past(system, program, replace(past, in_a_row=past.in_a_row + 1))
    said = log_events.Restarts(program, status, wait, past.in_a_row + 1)
    return put(system, done, program, (BackingOff(status, at + wait), (said,)))


def _launch(system: Up, done: list[Command], policy: Policy, at: float) -> Up:
    """Command the next start, if there is one: one at a time, so that a stop request need not wait
    for all of them."""
    kinds = list(
        map(type, system.programs)
    )  # hundreds of programs are looked through after each start
    if Spawning in kinds or Pending not in kinds:
        return system
    for i in range(kinds.index(Pending), len(kinds)):
        if kinds[i] is Pending and not waits_for(system, policy, i):
            system = with_past(system, i, replace(system.pasts[i], since=at))
            return put(system, done, i, (Spawning(), (StartProgram(i),)))
    return system
