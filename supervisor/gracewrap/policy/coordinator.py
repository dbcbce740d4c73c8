"""All programs under one budget: from the stop request to the exit status.  Pure.

    Up -> ShuttingDown -> Flushing -> Finishing -> Ended

One program is the simple case of several; order between programs belongs here, what one program's stop looks like does not.
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
    Policy,
    ProgramGone,
    RunHelper,
    Sampled,
    SendGroup,
    SendLeader,
    SendRest,
    ShellTold,
    SignalReceived,
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
    from typing import TypeVar

# One stop may reach us twice at once: timeout(1) signals its child and then its whole group, a wrapper passes on the Ctrl-C
# that the terminal has sent us already.  People and orchestrators that ask again take longer than this.
SAME_REQUEST = 0.1

FLUSH_INTERVAL = 0.02

# What comes after the programs is kept for it at the end of the budget: this part of it, and no more seconds than that.
POST_STOP_PART, POST_STOP = 0.1, 2.0
PUSH_PART, PUSH = 0.05, 1.0

NEVER_FORWARDED = (9, 17, 19)  # SIGKILL, SIGCHLD, SIGSTOP


class Up(Record):
    """Programs are running, drained perhaps, and nobody has asked for a stop."""

    programs: tuple[one.Phase, ...]


class ShuttingDown(Record):
    """A stop was asked for at *since*, by a signal or by a program's exit; what is left is killed at *kill_at*."""

    programs: tuple[one.Phase, ...]
    since: float
    kill_at: float
    requests: int  # how often it was asked for; 0: a program's exit or failure was the reason
    asked_at: float
    sent: frozenset[int] = frozenset()  # the signals that we have sent


class Flushing(Record):
    """All programs are gone; the kernel may still hold bytes for their clients."""

    status: int
    until: float
    again_at: float
    requests: int
    asked_at: float
    kill_at: float  # the end of the programs' time; what comes after has its own


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


_Sends = SendLeader | SendGroup | SendRest | KillProgram
System = Up | ShuttingDown | Flushing | Finishing | Ended
Step = tuple[System, tuple[Command, ...]]
if TYPE_CHECKING:
    _Living = TypeVar("_Living", Up, ShuttingDown)
    _Last = TypeVar("_Last", Flushing, Finishing)


def routes(policy: Policy) -> dict[int, tuple[SendLeader | SendGroup, ...]]:
    """Return for each signal that is passed on what is sent for it while all leaders are alive; the loop does that at once.

    What is in stop_on, and SIGCHLD, is not among them; a signal that is dropped is, with nothing to send.
    """
    passed_on = (n for n in range(1, 65) if n not in policy.stop_on and n not in NEVER_FORWARDED)
    return {signum: _route(signum, policy) for signum in passed_on}


def _route(signum: int, policy: Policy) -> tuple[SendLeader | SendGroup, ...]:
    sent = policy.signal_map.get(signum, signum)
    return tuple(
        SendGroup(i, sent) if rules.kill_mode == "group" else SendLeader(i, sent)
        for i, rules in enumerate(policy.programs)
        if sent
    )


def begin(policy: Policy) -> Up:
    """Return the system right after the spawn."""
    return Up(tuple(one.Running() for _ in policy.programs))


def deadline(system: System, policy: Policy) -> float | None:
    """Return when the system next needs a tick, or None: never on its own."""
    match system:
        case Finishing() | Ended():
            return None
        case Up(programs) | ShuttingDown(programs):
            times = [one.deadline(phase, policy.programs[i]) for i, phase in enumerate(programs)]
            return min((t for t in times if t is not None), default=None)
        case Flushing(again_at=again_at):
            return again_at
        case _:
            assert_never(system)


def step(system: System, event: Event, policy: Policy) -> Step:
    """Return what becomes of *system* when *event* happens, and what to do about it."""
    match system:
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


def is_ready(system: System) -> bool:
    """Return whether new work is welcome: nobody has asked for a stop, or for a drain."""
    return isinstance(system, Up) and all(isinstance(phase, one.Running) for phase in system.programs)


def _up(system: Up, event: Event, policy: Policy) -> Step:
    done: list[Command] = []
    match event:
        case SignalReceived(signum, at):
            if signum not in policy.stop_on:
                return system, _forward(system.programs, signum, policy)
            return _shut_down(system, at, policy, 1, note("stop_requested", signal=signum))
        case StopRequested(by, at, failure):
            return _shut_down(system, at, policy, 0 if failure else 1, note("stop_requested", signal=0, by=by))
        case LeaderExited(program, status, signum, left, at):
            said = note("leader_exited", program=program, status=status, signal=signum, left=left, asked=False)
            return _shut_down(system, at, policy, 0, said, event)
        case DrainRequested() if is_ready(system):
            done.append(note("drain_requested"))
        case UndrainRequested() if not is_ready(system):
            done.append(note("undrain_requested"))
        case Tick() | Sampled() | HelperEnded() | DrainRequested() | UndrainRequested():
            pass
        case ProgramGone() | StopSignalIgnored() | ShellTold() | UnsentCounted() | TimeExtended():
            return system, ()
        case _:
            assert_never(event)
    return _each(system, done, policy, event, one.FOREVER), tuple(done)


def tail(policy: Policy) -> float:
    """Return how much of the budget is kept for what comes after the programs: hooks, the push of metrics."""
    budget = policy.shutdown_timeout
    hooks = min(POST_STOP, POST_STOP_PART * budget) if any(rules.post_stop for rules in policy.programs) else 0.0
    return hooks + _push_time(policy)


def _push_time(policy: Policy) -> float:
    return min(PUSH, PUSH_PART * policy.shutdown_timeout) if policy.push else 0.0


def _shut_down(system: Up, at: float, policy: Policy, requests: int, said: Command, exited: Event | None = None) -> Step:
    """Start the shutdown: every program is stopped (the one whose exit started it has only its rest to stop)."""
    shutdown = ShuttingDown(system.programs, at, at + policy.shutdown_timeout - tail(policy), requests, at)
    done: list[Command] = [said]
    if exited is not None:
        shutdown = _each(shutdown, done, policy, exited, shutdown.kill_at)
    for i, phase in enumerate(shutdown.programs):
        shutdown = _put(shutdown, done, i, one.stop(phase, i, policy.programs[i], at, shutdown.kill_at))
    return _close(shutdown, done, policy, at)


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
        case ProgramGone(at=at) | StopSignalIgnored(at=at) | ShellTold(at=at) | Tick(at):
            pass
        case Sampled(at=at) | HelperEnded(at=at) | TimeExtended(at=at):
            pass
        case UnsentCounted() | DrainRequested() | UndrainRequested():
            return system, ()
        case _:
            assert_never(event)
    return _close(_each(system, done, policy, event, system.kill_at), done, policy, at)


def _each(system: _Living, done: list[Command], policy: Policy, event: Event, kill_at: float) -> _Living:
    """Let every program that *event* is about take its step; commands are added to *done*."""
    for i, phase in enumerate(system.programs):
        rules = policy.programs[i]
        match event:
            case LeaderExited(program) if program == i:
                step = one.leader_exited(phase, i, rules, event, kill_at)
            case ProgramGone(program) if program == i:
                step = one.gone(phase)
            case StopSignalIgnored(program) if program == i:
                step = one.ignored(phase, i, rules, event.at)
            case ShellTold(program) if program == i:
                step = one.shell_told(phase, rules)
            case Sampled(program) if program == i:
                step = one.sampled(phase, i, rules, event)
            case HelperEnded(program) if program == i:
                step = one.helper_ended(phase, i, rules, event)
            case TimeExtended(program, seconds, at) if program == i:
                step = one.extended(phase, i, seconds, at, kill_at)
            case DrainRequested(at):
                step = one.hold(phase, i, rules, at)
            case UndrainRequested():
                step = one.let_go(phase, i)
            case Tick(at):
                step = one.tick(phase, i, rules, at)
            case _:
                continue
        system = _put(system, done, i, step)
    return system


def _put(system: _Living, done: list[Command], i: int, step: one.Step) -> _Living:
    phase, commands = step
    done.extend(commands)
    system = replace(system, programs=(*system.programs[:i], phase, *system.programs[i + 1 :]))
    if isinstance(system, ShuttingDown):
        sent = {SIGKILL if isinstance(c, KillProgram) else c.signum for c in commands if isinstance(c, _Sends)}
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
    phases = [phase for phase in system.programs if isinstance(phase, one.Gone)]
    if len(phases) < len(system.programs):
        return system, tuple(done)
    status = _exit_status(system, phases[0], policy)
    flushing = Flushing(status, at + policy.flush_timeout, at + FLUSH_INTERVAL, system.requests, system.asked_at, system.kill_at)
    if policy.flush_timeout <= 0:
        after, commands = _finish(flushing, at, policy)
        return after, (*done, *commands)
    return flushing, (*done, CountUnsent())


def _finish(system: Flushing, at: float, policy: Policy) -> Step:
    """Run the hooks that come last; they have what was kept for them, and what the programs have left."""
    until = max(system.kill_at, at) + tail(policy) - _push_time(policy)
    hooks = tuple(RunHelper(i, "post_stop", until) for i, rules in enumerate(policy.programs) if rules.post_stop)
    pending = frozenset((hook.program, hook.what) for hook in hooks)
    after = Finishing(system.status, pending, until + _push_time(policy), system.requests, system.asked_at)
    return (after, hooks) if hooks else _push(after, at, policy)


def _push(system: Finishing, at: float, policy: Policy) -> Step:
    """Push the metrics; nobody waits longer for that than what is kept for it, however much else is left."""
    if not policy.push:
        return Ended(system.status), (Exit(system.status),)
    until = min(system.push_until, at + _push_time(policy))
    return replace(system, pending=frozenset(((0, "push"),))), (RunHelper(0, "push", until),)


def _exit_status(system: ShuttingDown, gone: one.Gone, policy: Policy) -> int:
    """Return 0 for a status that the user counts as success after a requested stop, else the status.

    128 + N of a signal N counts only if we sent N (uvicorn and Puma end a perfect drain so); anybody else's was not asked for.
    """
    status = gone.status
    if system.requests and gone.early and status == one.KILLED and policy.drained_is_success:
        return 0
    if not system.requests or status not in policy.success_exit_codes:
        return status
    return 0 if status <= 128 or status - 128 in system.sent else status


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
