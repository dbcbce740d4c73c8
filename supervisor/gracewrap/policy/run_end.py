"""The end of a run: flushing unsent bytes, then post_stop and the push of metrics."""

from __future__ import annotations

from gracewrap.policy import log_events
from gracewrap.policy.model import (
    AgentsTold,
    CountUnsent,
    DrainRequested,
    Event,
    Examined,
    Exit,
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
    RunHelper,
    Sampled,
    SignalReceived,
    StartFailed,
    StopHelper,
    StopRequested,
    Tick,
    TimeExtended,
    TimeGap,
    TreeSeen,
    UndrainRequested,
    UnsentCounted,
    WatchdogMissed,
)
from gracewrap.policy.run_phases import SAME_REQUEST, Ended, Finishing, Flushing, Step
from gracewrap.record import TYPE_CHECKING, assert_never, replace

if TYPE_CHECKING:
    from typing import TypeVar

    _Last = TypeVar("_Last", Flushing, Finishing)


FLUSH_INTERVAL = 0.02


# What comes after the programs is kept for it at the end of the budget: this part of it, and no
# more seconds than that.
POST_STOP_PART, POST_STOP = 0.1, 2.0
PUSH_PART, PUSH = 0.05, 1.0


def final_reserve(policy: Policy) -> float:
    """Return how much of the budget is kept for what comes after the programs: hooks, the push of
    metrics."""
    budget = policy.shutdown_timeout
    hooks = (
        min(POST_STOP, POST_STOP_PART * budget)
        if any(rules.post_stop for rules in policy.programs)
        else 0.0
    )
    return hooks + _push_time(policy)


def _push_time(policy: Policy) -> float:
    return min(PUSH, PUSH_PART * policy.shutdown_timeout) if policy.push else 0.0


def finish(system: Flushing, at: float, policy: Policy) -> Step:
    """Run the hooks that come last; they have what was kept for them, and what the programs have
    left."""
    until = max(system.kill_at, at) + final_reserve(policy) - _push_time(policy)
    hooks = tuple(RunHelper(i, "post_stop", until) for i in system.hooks)
    pending = frozenset((hook.program, hook.what) for hook in hooks)
    after = Finishing(
        system.status, pending, until + _push_time(policy), system.requests, system.asked_at
    )
    return (after, hooks) if hooks else _push(after, at, policy)


def _push(system: Finishing, at: float, policy: Policy) -> Step:
    """Push the metrics; nobody waits longer for that than what is kept for it, however much else is
    left."""
    if not policy.push:
        return Ended(system.status), (Exit(system.status),)
    until = min(system.push_until, at + _push_time(policy))
    return replace(system, pending=frozenset(((0, "push"),))), (RunHelper(0, "push", until),)


def flushing(system: Flushing, event: Event, policy: Policy) -> Step:
    match event:
        case UnsentCounted(connections, at):
            if connections and at < system.until:
                return replace(system, again_at=min(at + FLUSH_INTERVAL, system.until)), ()
            said = (log_events.Unsent(connections),) if connections else ()
            after, commands = finish(system, at, policy)
            return after, (*said, *commands)
        case Tick(at):
            due = at >= system.again_at
            return (
                (replace(system, again_at=at + FLUSH_INTERVAL), (CountUnsent(),))
                if due
                else (system, ())
            )
        case SignalReceived(at=at) | StopRequested(at=at) if _is_request(event, policy):
            # Asked again: skip the one delay that is left.
            return (
                finish(system, at, policy)
                if _again(system, at, policy)
                else (_noted(system, at), ())
            )
        case (
            SignalReceived()
            | StopRequested()
            | DrainRequested()
            | UndrainRequested()
            | Sampled()
            | HelperEnded()
            | AgentsTold()
        ):
            return system, ()
        case TimeExtended() | LeaderExited() | ProgramGone() | TreeSeen() | MemberEnded():
            return system, ()
        case ProgramStarted() | ProgramReady() | StartFailed() | PartRequested():
            return system, ()
        case WatchdogMissed() | RollingRestartRequested() | TimeGap() | ProgramSignalRequested():
            return system, ()
        case Examined() | KilledSeen():
            return system, ()
        case ProgramUnready() | NotReadyInTime() | ProgramUnhealthy() | ProgramHealthy():
            return system, ()
        case _:
            assert_never(event)


def finishing(system: Finishing, event: Event, policy: Policy) -> Step:
    match event:
        case HelperEnded(program, what) if (program, what) in system.pending:
            return _helper_ended(system, event, policy)
        case SignalReceived(at=at) | StopRequested(at=at) if _is_request(event, policy):
            if not _again(system, at, policy):
                return _noted(system, at), ()
            return Ended(system.status), (
                *(StopHelper(*hook) for hook in sorted(system.pending)),
                Exit(system.status),
            )
        case (
            SignalReceived()
            | StopRequested()
            | DrainRequested()
            | UndrainRequested()
            | Sampled()
            | HelperEnded()
            | AgentsTold()
        ):
            return system, ()
        case (
            TimeExtended()
            | LeaderExited()
            | ProgramGone()
            | TreeSeen()
            | MemberEnded()
            | UnsentCounted()
            | Tick()
        ):
            return system, ()
        case ProgramStarted() | ProgramReady() | StartFailed() | PartRequested():
            return system, ()
        case WatchdogMissed() | RollingRestartRequested() | TimeGap() | ProgramSignalRequested():
            return system, ()
        case Examined() | KilledSeen():
            return system, ()
        case ProgramUnready() | NotReadyInTime() | ProgramUnhealthy() | ProgramHealthy():
            return system, ()
        case _:
            assert_never(event)


def _helper_ended(system: Finishing, event: HelperEnded, policy: Policy) -> Step:
    """When the last hook has ended the metrics are pushed; when they are, all is over."""
    program, what = event.program, event.what
    said = log_events.HelperEnded(program, what, event.ok, event.why)
    system = replace(system, pending=system.pending - {(program, what)})
    if system.pending:
        return system, (said,)
    if what == "push":
        return Ended(system.status), (said, Exit(system.status))
    after, commands = _push(system, event.at, policy)
    return after, (said, *commands)


def _is_request(event: Event, policy: Policy) -> bool:
    """Return whether somebody asks for a stop; something that failed meanwhile asks for nothing
    more."""
    if isinstance(event, SignalReceived):
        return event.signum in policy.stop_on
    return isinstance(event, StopRequested) and not event.failure


def _again(system: Flushing | Finishing, at: float, policy: Policy) -> bool:
    """Return whether a request is one more, and counts."""
    return (
        bool(system.requests)
        and at - system.asked_at >= SAME_REQUEST
        and policy.on_repeat != "ignore"
    )


def _noted(system: _Last, at: float) -> _Last:
    return replace(system, requests=max(1, system.requests), asked_at=at)
