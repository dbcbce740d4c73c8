"""Events while the system is up: starts, exits, restarts, requests."""

from __future__ import annotations

from gracewrap.policy import program as one
from gracewrap.policy.advance import (
    each,
    forward,
    has_ended,
    has_started,
    is_now_ready,
    never_ran,
    put,
    turns_at,
    with_past,
)
from gracewrap.policy.finishing import final_reserve
from gracewrap.policy.model import (
    Command,
    DrainRequested,
    Event,
    HelperEnded,
    LeaderExited,
    PartRequested,
    Policy,
    ProgramGone,
    ProgramReady,
    ProgramStarted,
    Sampled,
    ShellTold,
    SignalReceived,
    StartFailed,
    StartProgram,
    StopRequested,
    StopSignalIgnored,
    Tick,
    TimeExtended,
    UndrainRequested,
    UnsentCounted,
    WatchdogMissed,
    note,
)
from gracewrap.policy.stopping import kill_times, shut_down, up_of
from gracewrap.policy.system import Step, Subset, Up, stop_of, waits_for
from gracewrap.record import assert_never, replace


def up(system: Up, event: Event, policy: Policy) -> Step:
    done: list[Command] = []
    before = system.programs
    match event:
        case SignalReceived(signum, at):
            if signum not in policy.stop_on:
                return system, forward(system.programs, signum, policy)
            return shut_down(system, at, policy, 1, note("stop_requested", signal=signum))
        case StopRequested(by, at, failure):
            return shut_down(
                system, at, policy, 0 if failure else 1, note("stop_requested", signal=0, by=by)
            )
        case LeaderExited(at=at) | StartFailed(at=at):
            system, said, then = _an_end(system, event, policy)
            if then == "shutdown":
                return shut_down(system, at, policy, 0, said, event)
            done.append(said)
        case ProgramStarted(program, at):
            system = has_started(system, program, policy, at)
        case ProgramReady(program, at):
            system = is_now_ready(system, done, program, at)
        case PartRequested(at=at):
            system = _begin_part(system, event, done, policy)
        case DrainRequested(at):
            if not system.drain:
                done.append(note("drain_requested"))
            system = replace(system, drain=True)
        case UndrainRequested(at):
            if system.drain:
                done.append(note("undrain_requested"))
            system = replace(system, drain=False)
        case WatchdogMissed(program, _, at):
            from gracewrap.policy import watchdog

            done += watchdog.say(event, policy)
            if watchdog.ends_all(system, program, policy, at):
                said = note("stop_requested", signal=0, by="the watchdog was missed")
                after, commands = shut_down(system, at, policy, 0, said)
                return after, (*done, *commands)
            system = watchdog.abort(system, done, program, policy, at)
        case Tick(at) | Sampled(at=at) | HelperEnded(at=at) | ProgramGone(at=at):
            pass
        case StopSignalIgnored(at=at) | ShellTold(at=at) | TimeExtended(at=at):
            pass
        case UnsentCounted():
            return system, ()
        case _:
            assert_never(event)
    counts = isinstance(event, LeaderExited | TimeExtended)
    system = each(
        system,
        done,
        policy,
        event,
        at + policy.shutdown_timeout - final_reserve(policy) if counts else one.FOREVER,
    )
    return (
        _settle(system, before, done, policy, event, at) if system.pasts else (system, tuple(done))
    )


def _an_end(
    system: Up, event: LeaderExited | StartFailed, policy: Policy
) -> tuple[Up, Command, str]:
    """Return what becomes of *system*, what is to be said of it, and what follows: "" from an end
    that was asked for."""
    program = event.program
    if isinstance(event, StartFailed):
        system = never_ran(system, program)
    asked = stop_of(system, program)[0] != one.FOREVER
    system = has_ended(system, program, policy, event.at)
    then = "" if asked else _verdict(system, program, event.status, policy)
    if isinstance(event, StartFailed):
        return (
            system,
            note("start_failed", program=program, status=event.status, why=event.why, then=then),
            then,
        )
    how = {"status": event.status, "signal": event.signum, "left": event.left}
    return system, note("leader_exited", program=program, **how, asked=asked, then=then), then


def _verdict(system: Up, program: int, status: int, policy: Policy) -> str:
    """Return what follows from a program's end."""
    if not system.pasts:
        return "shutdown"
    from gracewrap.policy import restart

    return restart.verdict(policy.programs[program], system.pasts[program], status)


def _settle(
    system: Up,
    before: tuple[one.Phase, ...],
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
        if (
            isinstance(phase, one.Gone)
            and phase is not before[i]
            and stop_of(system, i)[0] == one.FOREVER
        ):
            system = _start_again(system, done, i, phase.status, policy, at)
    if system.part is not None:
        system = _end_part(turns_at(system, done, policy, event, at), done)
    system = _launch(system, done, policy, at)
    if all(
        isinstance(phase, one.Gone | one.Pending) for phase in system.programs
    ):  # what is pending waits in vain
        after, commands = shut_down(system, at, policy, 0, note("all_ended"))
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
            (system.programs[program], (note("program_ended", program=program, status=status),)),
        )
    wait = restart.delay(rules, past.in_a_row, restart.chance(policy.seed, program, int(at * 1e6)))
    system = with_past(system, program, replace(past, in_a_row=past.in_a_row + 1))
    said = note("restarts", program=program, status=status, after=wait, in_a_row=past.in_a_row + 1)
    return put(system, done, program, (one.BackingOff(status, at + wait), (said,)))


def _launch(system: Up, done: list[Command], policy: Policy, at: float) -> Up:
    """Command the next start, if there is one: one at a time, so that a stop request need not wait
    for all of them."""
    kinds = list(
        map(type, system.programs)
    )  # hundreds of programs are looked through after each start
    if one.Spawning in kinds or one.Pending not in kinds:
        return system
    for i in range(kinds.index(one.Pending), len(kinds)):
        if kinds[i] is one.Pending and not waits_for(system, policy, i):
            system = with_past(system, i, replace(system.pasts[i], since=at))
            return put(system, done, i, (one.Spawning(), (StartProgram(i),)))
    return system


def _begin_part(system: Up, event: PartRequested, done: list[Command], policy: Policy) -> Up:
    """Stop programs, and before them what depends on them; one that was not up is only started, if
    that is what is wanted."""
    if not system.pasts or system.part is not None:
        done.append(note("part_refused", programs=event.programs, by=event.by))
        return system
    programs, kill_at = (
        frozenset(event.programs),
        event.at + policy.shutdown_timeout - final_reserve(policy),
    )
    if system.order is not None:
        from gracewrap.policy import dependencies

        programs = dependencies.dependants(system.order, policy.programs, event.programs)
    # What was stopped stays so; but a oneshot has to complete anew, or what waits for it would not
    # wait for what it waits for.
    anew = frozenset(i for i in programs if event.again and policy.programs[i].oneshot)
    programs = frozenset(
        i
        for i in programs
        if i in event.programs or i in anew or not isinstance(system.programs[i], one.Gone)
    )
    done.append(
        note("part_requested", by=event.by, again=event.again, programs=tuple(sorted(programs)))
    )
    kill_ats = kill_times(system, programs & up_of(system.programs), policy, event.at, kill_at)
    system = replace(
        system, part=Subset(programs, programs if event.again else frozenset(), event.at, kill_ats)
    )
    for i in programs:
        phase = one.limit(system.programs[i], policy.programs[i], event.at, kill_ats[i])
        system = put(system, done, i, (phase, ()))
        system = with_past(system, i, replace(system.pasts[i], stopped=True))
    return system


def _end_part(system: Up, done: list[Command]) -> Up:
    """Once a part is stopped, start it anew or let it be."""
    part = system.part
    if part is None or not all(isinstance(system.programs[i], one.Gone) for i in part.programs):
        return system
    done.append(note("part_stopped", programs=tuple(sorted(part.programs)), again=bool(part.again)))
    for i in part.again:
        system = put(system, done, i, (one.Pending(), ()))
        system = with_past(system, i, replace(system.pasts[i], in_a_row=0, stopped=False))
    return replace(system, part=None)
