"""All programs under one budget: from the stop request to the exit status.  Pure.

    Up -> ShuttingDown -> Flushing -> Finishing -> Ended

One program is the simple case of several; order between programs belongs here, what one program's stop looks like does not.
Nobody is stopped before all that must be gone before it are (order.py); so each waits as it is, Running, until it is its turn.
"""

from __future__ import annotations

from gracewrap.policy import program as one
from gracewrap.policy.model import (
    SIGKILL,
    Command,
    CountUnsent,
    DrainRequested,
    Event,
    Exit,
    HelperEnded,
    KillProgram,
    LeaderExited,
    PartRequested,
    Policy,
    ProgramGone,
    ProgramPolicy,
    ProgramReady,
    ProgramStarted,
    RunHelper,
    Sampled,
    SendGroup,
    SendLeader,
    SendRest,
    ShellTold,
    SignalReceived,
    StartFailed,
    StartProgram,
    StopHelper,
    StopRequested,
    StopSignalIgnored,
    Tick,
    TimeExtended,
    UndrainRequested,
    UnsentCounted,
    note,
)
from gracewrap.record import TYPE_CHECKING, Record, assert_never, replace

if TYPE_CHECKING:
    from collections.abc import Iterable
    from typing import TypeVar

    from gracewrap.policy.dependencies import Order
    from gracewrap.policy.restart import Past

# One stop may reach us twice at once: timeout(1) signals its child and then its whole group, a wrapper passes on the Ctrl-C
# that the terminal has sent us already.  People and orchestrators that ask again take longer than this.
SAME_REQUEST = 0.1

FLUSH_INTERVAL = 0.02

# What comes after the programs is kept for it at the end of the budget: this part of it, and no more seconds than that.
POST_STOP_PART, POST_STOP = 0.1, 2.0
PUSH_PART, PUSH = 0.05, 1.0

NEVER_FORWARDED = (9, 17, 19)  # SIGKILL, SIGCHLD, SIGSTOP


class Part(Record):
    """Some programs are being stopped, and those of *again* will be started anew; the others go on."""

    programs: frozenset[int]
    again: frozenset[int]
    since: float
    kill_ats: tuple[float, ...]


class Up(Record):
    """Programs are running, or are being started, or drained; nobody has asked for the stop of all."""

    programs: tuple[one.Phase, ...]
    pasts: tuple[Past, ...] = ()  # empty: one command alone, whose end is the end of all
    order: Order | None = None  # None: nothing depends on anything
    drain: bool = False  # a drain was asked for
    part: Part | None = None


class ShuttingDown(Record):
    """A stop was asked for at *since*, by a signal or by a program's exit; what is left is killed at *kill_at*."""

    programs: tuple[one.Phase, ...]
    since: float
    kill_at: float
    requests: int  # how often it was asked for; 0: a program's exit or failure was the reason
    asked_at: float
    kill_ats: tuple[float, ...]  # each program's; what comes after it in the order has the time until kill_at
    sent: frozenset[tuple[int, int]] = frozenset()  # (program, signal) that we have sent
    exits: tuple[tuple[int, bool], ...] = ()  # the programs that have ended, the first one first, and whether they were asked to
    ignored: frozenset[int] = frozenset()  # they had ended before, which was no reason to stop
    pasts: tuple[Past, ...] = ()
    order: Order | None = None


class Flushing(Record):
    """All programs are gone; the kernel may still hold bytes for their clients."""

    status: int
    until: float
    again_at: float
    requests: int
    asked_at: float
    kill_at: float  # the end of the programs' time; what comes after has its own
    hooks: tuple[int, ...] = ()  # the programs whose post_stop is to be run


class Finishing(Record):
    """The post_stop hooks run, or the metrics are pushed."""

    status: int
    pending: frozenset[tuple[int, str]]  # (program, what) of the helpers that are still running
    push_until: float
    requests: int
    asked_at: float


class Ended(Record):
    """Exit has been commanded."""

    status: int


# They need no tick, and most programs are so most of the time.
_AT_REST = frozenset((one.Pending, one.Spawning, one.Running, one.Gone))
_Sends = SendLeader | SendGroup | SendRest | KillProgram
System = Up | ShuttingDown | Flushing | Finishing | Ended
Step = tuple[System, tuple[Command, ...]]
if TYPE_CHECKING:
    _Living = TypeVar("_Living", Up, ShuttingDown)
    _Last = TypeVar("_Last", Flushing, Finishing)


def route(signum: int, policy: Policy) -> tuple[SendLeader | SendGroup, ...] | None:
    """Return what is sent for a signal that is passed on, while all leaders are alive; the loop does that at once.

    None: it is in stop_on, or is SIGCHLD.  Nothing is sent for one that is dropped.
    """
    return None if signum in policy.stop_on or signum in NEVER_FORWARDED else _route(signum, policy)


def _route(signum: int, policy: Policy) -> tuple[SendLeader | SendGroup, ...]:
    sent = policy.signal_map.get(signum, signum)
    return tuple(
        SendGroup(i, sent) if rules.kill_mode == "group" else SendLeader(i, sent)
        for i, rules in enumerate(policy.programs)
        if sent
    )


def begin(policy: Policy, started: Iterable[int] | None = None, at: float = 0.0) -> Up:
    """Return the system at its beginning; *started* are the programs that have been spawned already, at *at*.  None: all have.

    Where not all have, the first tick commands the first start.
    """
    every = range(len(policy.programs))
    up = frozenset(every if started is None else started)
    system = Up(tuple(one.Running() if i in up else one.Pending() for i in every))
    if any(rules.depends_on or rules.stop_after for rules in policy.programs):
        from gracewrap.policy import dependencies as order

        system = replace(system, order=order.order(policy.programs))
    if started is not None or not all(map(_plain, policy.programs)) or len(every) > 1:
        from gracewrap.policy import restart as starting

        pasts = (starting.started(starting.Past(), policy.programs[i], at) if i in up else starting.Past() for i in every)
        system = replace(system, pasts=tuple(pasts))
    return system


def _plain(rules: ProgramPolicy) -> bool:
    """Return whether a program's end is the end of all, and it is ready when it runs."""
    ends_all = rules.restart == "never" and rules.on_exit == rules.on_failure == "shutdown" and not rules.oneshot
    return ends_all and not rules.ready


def deadline(system: System, policy: Policy) -> float | None:
    """Return when the system next needs a tick, or None: never on its own."""
    match system:
        case Finishing() | Ended():
            return None
        case Up(programs) | ShuttingDown(programs):
            times: list[float | None] = []
            if not _AT_REST.issuperset(map(type, programs)):
                times += [
                    one.deadline(phase, policy.programs[i]) for i, phase in enumerate(programs) if type(phase) not in _AT_REST
                ]
            if isinstance(system, ShuttingDown) or system.part is not None:
                times += [_stop_of(system, i)[1] for i in range(len(programs)) if _is_waiting(system, i)]
            return min((t for t in times if t is not None), default=None)
        case Flushing(again_at=again_at):
            return again_at
        case _:
            assert_never(system)


def _stop_of(system: Up | ShuttingDown, program: int) -> tuple[float, float]:
    """Return since when a program is to be stopped, and when it is killed; FOREVER: nobody wants to."""
    if isinstance(system, ShuttingDown):
        return system.since, system.kill_ats[program]
    if system.part is not None and program in system.part.programs:
        return system.part.since, system.part.kill_ats[program]
    return one.FOREVER, one.FOREVER


def _is_waiting(system: Up | ShuttingDown, program: int) -> bool:
    """Return whether a program is to be stopped, and it is not its turn yet."""
    return _stop_of(system, program)[0] != one.FOREVER and untouched(system.programs[program])


def untouched(phase: one.Phase) -> bool:
    """Return whether a program is there, and its stop has not begun."""
    return isinstance(phase, one.Running | one.Spawning) or (isinstance(phase, one.Held) and phase.kill_at == one.FOREVER)


def waits_for(system: System, policy: Policy, program: int) -> tuple[int, ...]:
    """Return which programs a program waits for, to be started or to be stopped; for people."""
    if not isinstance(system, Up | ShuttingDown):
        return ()
    if isinstance(system, Up) and isinstance(system.programs[program], one.Pending):
        from gracewrap.policy import restart as starting

        return starting.missing(program, policy, system.programs, system.pasts)
    if system.order is None or not _is_waiting(system, program):
        return ()
    found: set[int] = set()
    seen, todo = {program}, [program]
    while todo:
        for first in system.order.before[todo.pop()]:
            if first in seen:
                continue
            seen.add(first)
            if isinstance(system.programs[first], one.Gone) or _stop_of(system, first)[0] == one.FOREVER:
                todo.append(first)  # it is not in the way, but what comes before it may be
            elif not (policy.programs[program].until == "drained" and _is_drained(system.programs[first])):
                found.add(first)
    return tuple(sorted(found))


def step(system: System, event: Event, policy: Policy) -> Step:
    """Return what becomes of *system* when *event* happens, and what to do about it."""
    match system:
        case Up() | ShuttingDown() if _comes_too_late(system, event):
            return system, ()
        case Up():
            return _up(system, event, policy)
        case ShuttingDown():
            return _shutting_down(system, event, policy)
        case Flushing():
            return _flushing(system, event, policy)
        case Finishing():
            return _finishing(system, event, policy)
        case Ended():
            return system, ()
        case _:
            assert_never(system)


def _comes_too_late(system: Up | ShuttingDown, event: Event) -> bool:
    """Return whether it is the exit of a leader that was given up on: with that its end was settled, whatever follows."""
    return isinstance(event, LeaderExited) and isinstance(system.programs[event.program], one.Pending | one.BackingOff | one.Gone)


def is_ready(system: System) -> bool:
    """Return whether new work is welcome: nobody has asked for a stop, or for a drain, and all that is to be up is ready."""
    return isinstance(system, Up) and not system.drain and is_up(system)


def is_up(system: Up) -> bool:
    """Return whether all that is to be up is, and ready."""
    if not system.pasts:
        return all(isinstance(phase, one.Running) for phase in system.programs)
    return all(
        isinstance(phase, one.Gone) or (untouched(phase) and past.ready) for phase, past in zip(system.programs, system.pasts)
    )


def _up(system: Up, event: Event, policy: Policy) -> Step:
    done: list[Command] = []
    before = system.programs
    match event:
        case SignalReceived(signum, at):
            if signum not in policy.stop_on:
                return system, _forward(system.programs, signum, policy)
            return _shut_down(system, at, policy, 1, note("stop_requested", signal=signum))
        case StopRequested(by, at, failure):
            return _shut_down(system, at, policy, 0 if failure else 1, note("stop_requested", signal=0, by=by))
        case LeaderExited(at=at) | StartFailed(at=at):
            system, said, then = _an_end(system, event, policy)
            if then == "shutdown":
                return _shut_down(system, at, policy, 0, said, event)
            done.append(said)
        case ProgramStarted(program, at):
            system = _has_started(system, program, policy, at)
        case ProgramReady(program, at):
            system = _is_now_ready(system, done, program, at)
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
        case Tick(at) | Sampled(at=at) | HelperEnded(at=at) | ProgramGone(at=at):
            pass
        case StopSignalIgnored(at=at) | ShellTold(at=at) | TimeExtended(at=at):
            pass
        case UnsentCounted():
            return system, ()
        case _:
            assert_never(event)
    counts = isinstance(event, LeaderExited | TimeExtended)
    system = _each(system, done, policy, event, at + policy.shutdown_timeout - tail(policy) if counts else one.FOREVER)
    return _settle(system, before, done, policy, event, at) if system.pasts else (system, tuple(done))


def _an_end(system: Up, event: LeaderExited | StartFailed, policy: Policy) -> tuple[Up, Command, str]:
    """Return what becomes of *system*, what is to be said of it, and what follows: "" from an end that was asked for."""
    program = event.program
    if isinstance(event, StartFailed):
        system = _never_ran(system, program)
    asked = _stop_of(system, program)[0] != one.FOREVER
    system = _has_ended(system, program, policy, event.at)
    then = "" if asked else _verdict(system, program, event.status, policy)
    if isinstance(event, StartFailed):
        return system, note("start_failed", program=program, status=event.status, why=event.why, then=then), then
    how = {"status": event.status, "signal": event.signum, "left": event.left}
    return system, note("leader_exited", program=program, **how, asked=asked, then=then), then


def _has_started(system: _Living, program: int, policy: Policy, at: float) -> _Living:
    if not system.pasts:
        return system
    from gracewrap.policy import restart as starting

    return _with_past(system, program, starting.started(system.pasts[program], policy.programs[program], at))


def _has_ended(system: Up, program: int, policy: Policy, at: float) -> Up:
    if not system.pasts:
        return system
    from gracewrap.policy import restart as starting

    return _with_past(system, program, starting.ended(system.pasts[program], policy.programs[program], at))


def _never_ran(system: _Living, program: int) -> _Living:
    """Take back that a program has run, if it was taken to be started."""
    if not system.pasts or isinstance(system.programs[program], one.Spawning):
        return system
    from gracewrap.policy import restart as starting

    return _with_past(system, program, starting.never_ran(system.pasts[program]))


def _is_now_ready(system: Up, done: list[Command], program: int, at: float) -> Up:
    if not system.pasts or system.pasts[program].ready:
        return system
    if not isinstance(system.programs[program], one.Running | one.Held):
        return system
    done.append(note("program_ready", program=program, after=at - system.pasts[program].since))
    return _with_past(system, program, replace(system.pasts[program], ready=True))


def _with_past(system: _Living, program: int, past: Past) -> _Living:
    return replace(system, pasts=(*system.pasts[:program], past, *system.pasts[program + 1 :]))


def _verdict(system: Up, program: int, status: int, policy: Policy) -> str:
    """Return what follows from a program's end."""
    if not system.pasts:
        return "shutdown"
    from gracewrap.policy import restart as starting

    return starting.verdict(policy.programs[program], system.pasts[program], status)


def _settle(system: Up, before: tuple[one.Phase, ...], done: list[Command], policy: Policy, event: Event, at: float) -> Step:
    """Draw the consequences: what has ended is started again, what may be started is, and with nothing left all is over."""
    about = getattr(event, "program", None)
    for i in range(len(before)) if about is None else (about,):
        phase = system.programs[i]
        if isinstance(phase, one.Gone) and phase is not before[i] and _stop_of(system, i)[0] == one.FOREVER:
            system = _start_again(system, done, i, phase.status, policy, at)
    if system.part is not None:
        system = _end_part(_turns_at(system, done, policy, event, at), done)
    system = _launch(system, done, policy, at)
    if all(isinstance(phase, one.Gone | one.Pending) for phase in system.programs):  # what is pending waits in vain
        after, commands = _shut_down(system, at, policy, 0, note("all_ended"))
        return after, (*done, *commands)
    return system, tuple(done)


def _start_again(system: Up, done: list[Command], program: int, status: int, policy: Policy, at: float) -> Up:
    """A program has ended, and is no reason to stop: start it again after a pause, or let it be."""
    from gracewrap.policy import restart as starting

    rules, past = policy.programs[program], system.pasts[program]
    if starting.verdict(rules, past, status) != starting.RESTART:
        return _put(system, done, program, (system.programs[program], (note("program_ended", program=program, status=status),)))
    wait = starting.delay(rules, past.in_a_row, starting.chance(policy.seed, program, int(at * 1e6)))
    system = _with_past(system, program, replace(past, in_a_row=past.in_a_row + 1))
    said = note("restarts", program=program, status=status, after=wait, in_a_row=past.in_a_row + 1)
    return _put(system, done, program, (one.BackingOff(status, at + wait), (said,)))


def _launch(system: Up, done: list[Command], policy: Policy, at: float) -> Up:
    """Command the next start, if there is one: one at a time, so that a stop request need not wait for all of them."""
    kinds = list(map(type, system.programs))  # hundreds of programs are looked through after each start
    if one.Spawning in kinds or one.Pending not in kinds:
        return system
    for i in range(kinds.index(one.Pending), len(kinds)):
        if kinds[i] is one.Pending and not waits_for(system, policy, i):
            system = _with_past(system, i, replace(system.pasts[i], since=at))
            return _put(system, done, i, (one.Spawning(), (StartProgram(i),)))
    return system


def _begin_part(system: Up, event: PartRequested, done: list[Command], policy: Policy) -> Up:
    """Stop programs, and before them what depends on them; one that was not up is only started, if that is what is wanted."""
    if not system.pasts or system.part is not None:
        done.append(note("part_refused", programs=event.programs, by=event.by))
        return system
    programs, kill_at = frozenset(event.programs), event.at + policy.shutdown_timeout - tail(policy)
    if system.order is not None:
        from gracewrap.policy import dependencies as order

        programs = order.dependants(system.order, policy.programs, event.programs)
    # What was stopped stays so; but a oneshot has to complete anew, or what waits for it would not wait for what it waits for.
    anew = frozenset(i for i in programs if event.again and policy.programs[i].oneshot)
    programs = frozenset(i for i in programs if i in event.programs or i in anew or not isinstance(system.programs[i], one.Gone))
    done.append(note("part_requested", by=event.by, again=event.again, programs=tuple(sorted(programs))))
    kill_ats = _kill_ats(system, programs & _up_of(system.programs), policy, event.at, kill_at)
    system = replace(system, part=Part(programs, programs if event.again else frozenset(), event.at, kill_ats))
    for i in programs:
        system = _put(system, done, i, (one.limit(system.programs[i], kill_ats[i]), ()))
        system = _with_past(system, i, replace(system.pasts[i], stopped=True))
    return system


def _end_part(system: Up, done: list[Command]) -> Up:
    """Once a part is stopped, start it anew or let it be."""
    part = system.part
    if part is None or not all(isinstance(system.programs[i], one.Gone) for i in part.programs):
        return system
    done.append(note("part_stopped", programs=tuple(sorted(part.programs)), again=bool(part.again)))
    for i in part.again:
        system = _put(system, done, i, (one.Pending(), ()))
        system = _with_past(system, i, replace(system.pasts[i], in_a_row=0, stopped=False))
    return replace(system, part=None)


def tail(policy: Policy) -> float:
    """Return how much of the budget is kept for what comes after the programs: hooks, the push of metrics."""
    budget = policy.shutdown_timeout
    hooks = min(POST_STOP, POST_STOP_PART * budget) if any(rules.post_stop for rules in policy.programs) else 0.0
    return hooks + _push_time(policy)


def _push_time(policy: Policy) -> float:
    return min(PUSH, PUSH_PART * policy.shutdown_timeout) if policy.push else 0.0


def _shut_down(system: Up, at: float, policy: Policy, requests: int, said: Command, exited: Event | None = None) -> Step:
    """Start the shutdown: every program is stopped in its turn (the one whose exit started it has only its rest to stop)."""
    kill_at = at + policy.shutdown_timeout - tail(policy)
    up = _up_of(system.programs)
    if isinstance(exited, StartFailed) or (isinstance(exited, LeaderExited) and not exited.left):
        up -= {exited.program}
    shutdown = ShuttingDown(
        system.programs,
        at,
        kill_at,
        requests,
        at,
        _kill_ats(system, up, policy, at, kill_at),
        ignored=_ignored(system, policy),
        pasts=system.pasts,
        order=system.order,
    )
    done: list[Command] = [said]
    if exited is not None:
        shutdown = _each(_noted_exit(shutdown, exited), done, policy, exited, kill_at)
    shutdown = replace(
        shutdown,
        programs=tuple(map(one.limit, shutdown.programs, shutdown.kill_ats)),
        exits=shutdown.exits + tuple((i, False) for i, p in enumerate(shutdown.programs) if isinstance(p, one.BackingOff)),
    )
    shutdown = _turns(shutdown, done, policy, at)
    for i in range(len(shutdown.programs)):
        if waited_for := waits_for(shutdown, policy, i):
            done.append(note("stop_waits", program=i, programs=waited_for))
    return _close(shutdown, done, policy, at)


def _up_of(programs: tuple[one.Phase, ...]) -> frozenset[int]:
    """Return the programs of which something is there, which takes time to stop."""
    return frozenset(i for i, phase in enumerate(programs) if not isinstance(phase, one.Pending | one.BackingOff | one.Gone))


def _ignored(system: Up, policy: Policy) -> frozenset[int]:
    """Return the programs that have ended and do not count: those that others could not be started for count nevertheless."""
    found = {i for i, phase in enumerate(system.programs) if isinstance(phase, one.Gone)}
    for i, phase in enumerate(system.programs) if system.pasts and found else ():
        if isinstance(phase, one.Pending):
            found.difference_update(waits_for(system, policy, i))
    return frozenset(found)


def _kill_ats(system: Up, up: frozenset[int], policy: Policy, since: float, kill_at: float) -> tuple[float, ...]:
    """Return when each program is killed at the latest, so that those after it have their time."""
    if system.order is None:
        return (kill_at,) * len(system.programs)
    from gracewrap.policy import dependencies as order

    return order.kill_times(system.order, policy.programs, up, since, kill_at)


def _turns(system: _Living, done: list[Command], policy: Policy, at: float) -> _Living:
    """Stop the programs whose turn it is: all that have to be gone before them are."""
    over: set[int] = set()
    for i in range(len(system.programs)) if system.order is None else system.order.sequence:
        rules, before = policy.programs[i], () if system.order is None else system.order.before[i]
        drained = rules.until == "drained"
        if not all(first in over or (drained and _is_drained(system.programs[first])) for first in before):
            continue
        since, kill_at = _stop_of(system, i)
        phase = system.programs[i]
        if since != one.FOREVER and untouched(phase) and not isinstance(phase, one.Spawning):
            system = _put(system, done, i, one.stop(phase, i, rules, at, kill_at, since))
            phase = system.programs[i]
            if isinstance(phase, one.Held) and isinstance(system, ShuttingDown) and system.requests > 1:
                system = _put(system, done, i, one.hurry(phase, i, rules, at))
        if since == one.FOREVER or _is_over(phase, at):
            over.add(i)
    return system


def _turns_at(system: _Living, done: list[Command], policy: Policy, event: Event, at: float) -> _Living:
    """Stop those whose turn it is; if it has become so by a tick, what is due with them is done by the same tick."""
    after = _turns(system, done, policy, at)
    if isinstance(event, Tick) and after is not system:
        return _each(after, done, policy, event, one.FOREVER)
    return after


def _is_drained(phase: one.Phase) -> bool:
    """Return whether a program that has been told to stop has no work left."""
    return isinstance(phase, one.Stopping) and phase.drain.drained_at is not None


def _is_over(phase: one.Phase, at: float) -> bool:
    """Return whether nothing is left that could do any work."""
    return isinstance(phase, one.Gone) or (isinstance(phase, one.Killing) and at >= phase.since + one.DEAD)


def _shutting_down(system: ShuttingDown, event: Event, policy: Policy) -> Step:
    done: list[Command] = []
    match event:
        case SignalReceived(signum, at) if signum in policy.stop_on:
            return _asked_again(system, signum, at, policy)
        case SignalReceived(signum):
            return system, _forward(system.programs, signum, policy)
        case StopRequested(at=at, failure=failure):
            return (system, ()) if failure else _asked_again(system, 0, at, policy)
        case LeaderExited(program, status, signum, left, at):
            done.append(note("leader_exited", program=program, status=status, signal=signum, left=left, asked=True))
            system = _noted_exit(system, event)
        case StartFailed(program, status, why, at):
            done.append(note("start_failed", program=program, status=status, why=why))
            system = _never_ran(system, program)
            system = _noted_exit(system, event)
        case ProgramStarted(program, at):
            system = _has_started(system, program, policy, at)
        case ProgramGone(at=at) | StopSignalIgnored(at=at) | ShellTold(at=at) | Tick(at):
            pass
        case Sampled(at=at) | HelperEnded(at=at) | TimeExtended(at=at):
            pass
        case UnsentCounted() | DrainRequested() | UndrainRequested() | ProgramReady() | PartRequested():
            return system, ()
        case _:
            assert_never(event)
    system = _each(system, done, policy, event, system.kill_at)
    return _close(_turns_at(system, done, policy, event, at), done, policy, at)


def _noted_exit(system: ShuttingDown, event: Event) -> ShuttingDown:
    """Remember who has ended before whom, and whether it had been told to."""
    if not isinstance(event, LeaderExited | StartFailed) or any(program == event.program for program, _ in system.exits):
        return system
    phase = system.programs[event.program]
    asked = not untouched(phase) and isinstance(event, LeaderExited)
    return replace(system, exits=(*system.exits, (event.program, asked)))


def _each(system: _Living, done: list[Command], policy: Policy, event: Event, kill_at: float) -> _Living:
    """Let every program that *event* is about take its step; commands are added to *done*.

    *kill_at* is for what is left of a program that nobody has told to stop.
    """
    about = getattr(event, "program", None)
    for i in range(len(system.programs)) if about is None else (about,):
        step = _one_step(system, i, policy.programs[i], event, kill_at)
        if step is not None and (step[1] or step[0] is not system.programs[i]):
            system = _put(system, done, i, step)
    return system


def _one_step(system: Up | ShuttingDown, i: int, rules: ProgramPolicy, event: Event, kill_at: float) -> one.Step | None:
    phase, limit = system.programs[i], min(kill_at, _stop_of(system, i)[1])
    match event:
        case LeaderExited():
            return one.leader_exited(phase, i, rules, event, limit)
        case ProgramGone():
            return one.gone(phase)
        case ProgramStarted(at=at):
            after, commands = one.spawned(phase, i)
            if isinstance(system, Up) and system.drain:
                after, commands = one.hold(after, i, rules, at)
            return after, commands
        case StartFailed(status=status):
            return one.start_failed(phase, i, status)
        case StopSignalIgnored(at=at):
            return one.ignored(phase, i, rules, at)
        case ShellTold():
            return one.shell_told(phase, rules)
        case Sampled():
            return one.sampled(phase, i, rules, event)
        case HelperEnded():
            return one.helper_ended(phase, i, rules, event)
        case TimeExtended(_, seconds, at) if _stop_of(system, i)[1] != one.FOREVER:
            return one.extended(phase, i, seconds, at, limit)
        case DrainRequested(at):
            return one.hold(phase, i, rules, at)
        case UndrainRequested():
            return one.let_go(phase, i)
        case Tick(at):
            if at >= limit and _is_waiting(system, i):
                return one.kill(phase, i, at, "out of time")
            return one.tick(phase, i, rules, at)
        case TimeExtended() | SignalReceived() | StopRequested() | ProgramReady() | PartRequested() | UnsentCounted():
            return None
        case _:
            assert_never(event)


def _put(system: _Living, done: list[Command], i: int, step: one.Step) -> _Living:
    phase, commands = step
    done.extend(commands)
    system = replace(system, programs=(*system.programs[:i], phase, *system.programs[i + 1 :]))
    if isinstance(system, ShuttingDown):
        sent = {(i, SIGKILL if isinstance(c, KillProgram) else c.signum) for c in commands if isinstance(c, _Sends)}
        system = replace(system, sent=system.sent | sent)
    return system


def _asked_again(system: ShuttingDown, signum: int, at: float, policy: Policy) -> Step:
    """A second request skips ahead, a third kills now."""
    if system.requests and (at - system.asked_at < SAME_REQUEST or policy.on_repeat == "ignore"):
        return replace(system, asked_at=at), (note("asked_again", signal=signum, effect="none"),)
    requests = system.requests + 1
    system = replace(system, requests=requests, asked_at=at)
    if requests == 1:  # a program's exit had started the shutdown: this is the first request, and changes nothing
        return system, (note("asked_again", signal=signum, effect="stopping already"),)
    done: list[Command] = []
    for i, phase in enumerate(system.programs):
        if requests == 2:
            system = _put(system, done, i, one.hurry(phase, i, policy.programs[i], at))
        else:
            system = _put(system, done, i, one.kill(phase, i, at, "asked three times"))
    effect = "kill" if requests > 2 else "skip ahead" if done else "nothing to skip"
    return system, (note("asked_again", signal=signum, effect=effect), *done)


def _forward(programs: tuple[one.Phase, ...], signum: int, policy: Policy) -> tuple[Command, ...]:
    """Pass a signal on to the leaders that are alive (a leader's rest did not ask for signals meant for it)."""
    leaders = (one.Running, one.Held, one.Stopping)
    alive = tuple(command for command in _route(signum, policy) if isinstance(programs[command.program], leaders))
    if not alive:
        return (note("dropped", signal=signum),)
    return (*alive, note("forwarded", signal=signum, sent=policy.signal_map.get(signum, signum)))


def _close(system: ShuttingDown, done: list[Command], policy: Policy, at: float) -> Step:
    """Go on to flushing when nothing is left of any program."""
    if not all(isinstance(phase, one.Gone) for phase in system.programs):
        return system, tuple(done)
    times = at + policy.flush_timeout, at + FLUSH_INTERVAL
    hooks = tuple(i for i, rules in enumerate(policy.programs) if rules.post_stop and (not system.pasts or system.pasts[i].ran))
    flushing = Flushing(_status(system, policy), *times, system.requests, system.asked_at, system.kill_at, hooks)
    if policy.flush_timeout <= 0:
        after, commands = _finish(flushing, at, policy)
        return after, (*done, *commands)
    return flushing, (*done, CountUnsent())


def _finish(system: Flushing, at: float, policy: Policy) -> Step:
    """Run the hooks that come last; they have what was kept for them, and what the programs have left."""
    until = max(system.kill_at, at) + tail(policy) - _push_time(policy)
    hooks = tuple(RunHelper(i, "post_stop", until) for i in system.hooks)
    pending = frozenset((hook.program, hook.what) for hook in hooks)
    after = Finishing(system.status, pending, until + _push_time(policy), system.requests, system.asked_at)
    return (after, hooks) if hooks else _push(after, at, policy)


def _push(system: Finishing, at: float, policy: Policy) -> Step:
    """Push the metrics; nobody waits longer for that than what is kept for it, however much else is left."""
    if not policy.push:
        return Ended(system.status), (Exit(system.status),)
    until = min(system.push_until, at + _push_time(policy))
    return replace(system, pending=frozenset(((0, "push"),))), (RunHelper(0, "push", until),)


def _status(system: ShuttingDown, policy: Policy) -> int:
    """Return the status of the program that exit_code_from names, if it ever ran, else that of the first that has failed."""
    chosen = policy.exit_code_from
    if chosen is not None and (not system.pasts or system.pasts[chosen].ran):
        return _exit_status(system, chosen, policy)
    in_turn = [program for program, _ in system.exits]
    in_turn += [i for i in range(len(system.programs)) if i not in in_turn and i not in system.ignored]
    return next((status for i in in_turn if (status := _exit_status(system, i, policy))), 0)


def _exit_status(system: ShuttingDown, program: int, policy: Policy) -> int:
    """Return 0 for a status that the user counts as success after a requested stop, else the status.

    128 + N of a signal N counts only if we sent N (uvicorn and Puma end a perfect drain so); anybody else's was not asked for.
    """
    gone, rules = system.programs[program], policy.programs[program]
    assert isinstance(gone, one.Gone)
    status = gone.status
    codes = policy.success_exit_codes if rules.success_exit_codes is None else rules.success_exit_codes
    drained = policy.drained_is_success if rules.drained_is_success is None else rules.drained_is_success
    asked = bool(system.requests) or (program, True) in system.exits
    if asked and gone.early and status == one.KILLED and drained:
        return 0
    if not asked or status not in codes:
        return status
    return 0 if status <= 128 or (program, status - 128) in system.sent else status


def _flushing(system: Flushing, event: Event, policy: Policy) -> Step:
    match event:
        case UnsentCounted(connections, at):
            if connections and at < system.until:
                return replace(system, again_at=min(at + FLUSH_INTERVAL, system.until)), ()
            said = (note("unsent", connections=connections),) if connections else ()
            after, commands = _finish(system, at, policy)
            return after, (*said, *commands)
        case Tick(at):
            due = at >= system.again_at
            return (replace(system, again_at=at + FLUSH_INTERVAL), (CountUnsent(),)) if due else (system, ())
        case SignalReceived(at=at) | StopRequested(at=at) if _is_request(event, policy):
            # Asked again: skip the one delay that is left.
            return _finish(system, at, policy) if _again(system, at, policy) else (_noted(system, at), ())
        case SignalReceived() | StopRequested() | DrainRequested() | UndrainRequested() | Sampled() | HelperEnded():
            return system, ()
        case TimeExtended() | LeaderExited() | ProgramGone() | StopSignalIgnored() | ShellTold():
            return system, ()
        case ProgramStarted() | ProgramReady() | StartFailed() | PartRequested():
            return system, ()
        case _:
            assert_never(event)


def _finishing(system: Finishing, event: Event, policy: Policy) -> Step:
    match event:
        case HelperEnded(program, what, ok, why, at) if (program, what) in system.pending:
            said = note("helper_ended", program=program, hook=what, ok=ok, why=why)
            system = replace(system, pending=system.pending - {(program, what)})
            if system.pending:
                return system, (said,)
            after, commands = (Ended(system.status), (Exit(system.status),)) if what == "push" else _push(system, at, policy)
            return after, (said, *commands)
        case SignalReceived(at=at) | StopRequested(at=at) if _is_request(event, policy):
            if not _again(system, at, policy):
                return _noted(system, at), ()
            return Ended(system.status), (*(StopHelper(*hook) for hook in sorted(system.pending)), Exit(system.status))
        case SignalReceived() | StopRequested() | DrainRequested() | UndrainRequested() | Sampled() | HelperEnded():
            return system, ()
        case TimeExtended() | LeaderExited() | ProgramGone() | StopSignalIgnored() | ShellTold() | UnsentCounted() | Tick():
            return system, ()
        case ProgramStarted() | ProgramReady() | StartFailed() | PartRequested():
            return system, ()
        case _:
            assert_never(event)


def _is_request(event: Event, policy: Policy) -> bool:
    """Return whether somebody asks for a stop; something that failed meanwhile asks for nothing more."""
    if isinstance(event, SignalReceived):
        return event.signum in policy.stop_on
    return isinstance(event, StopRequested) and not event.failure


def _again(system: Flushing | Finishing, at: float, policy: Policy) -> bool:
    """Return whether a request is one more, and counts."""
    return bool(system.requests) and at - system.asked_at >= SAME_REQUEST and policy.on_repeat != "ignore"


def _noted(system: _Last, at: float) -> _Last:
    return replace(system, requests=max(1, system.requests), asked_at=at)
