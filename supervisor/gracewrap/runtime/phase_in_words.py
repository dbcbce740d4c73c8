"""Status of each program for display: phase, what it waits for, time left."""

from __future__ import annotations

from gracewrap.policy.program_phases import (
    FOREVER,
    Aborting,
    BackingOff,
    Drained,
    Draining,
    Gone,
    Killing,
    Pending,
    Phase,
    PreStop,
    Running,
    Spawning,
    Stage,
    Starting,
    Stopping,
    Stragglers,
    Waiting,
)
from gracewrap.policy.readiness import is_ready
from gracewrap.policy.run_phases import ShuttingDown, System, Up, waits_for
from gracewrap.record import TYPE_CHECKING, Record, assert_never

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from gracewrap.policy.model import Policy, ProgramPolicy

MOST = 3  # programs that are named in one line, with what is said of each
# Phases in which nothing is left of a program; the policy has one for all of them, Gone.
ENDED = ("completed", "stopped", "failed", "exited")


class ProgramStatus(Record):
    """The status of one program; times are seconds."""

    # pending, starting, running, draining, drained, stopping, killing, "backing off", one of ENDED,
    # or "ending" when all is over
    phase: str
    held: str = ""  # for what its stop signal is held back
    waits_for: tuple[int, ...] = ()  # programs that come before it in the start or in the stop
    seconds_left: float | None = None  # until the stop signal if that is held back, else SIGKILL
    kill_in: float | None = None  # until SIGKILL, unless those before it in the order end sooner
    again_in: float | None = None  # until it is started again
    status: int | None = None  # its exit status, while it is not up
    ready: bool = False  # it is up, and nothing keeps it from being ready
    given_up: bool = False  # a drain without a stop has not come to its end, and nobody asks


def of(system: System, policy: Policy, index: int, at: float) -> ProgramStatus:
    """Return the status of a program."""
    if not isinstance(system, Up | ShuttingDown):
        return ProgramStatus("ending")
    phase = system.programs[index]
    waiting = waits_for(system, policy, index)
    match phase:
        case PreStop(_, stage, kill_at, signal_at):
            word = "drained" if isinstance(stage, Drained) else "draining"
            held = _held(stage, at)
            if signal_at == FOREVER:
                left = _left(system, index, at)
                given_up = isinstance(stage, Draining) and stage.drain.failed
                return ProgramStatus(word, held, waiting, kill_in=left, given_up=given_up)
            signal_at = min(signal_at, _signal_at(phase, policy.programs[index]))
            left, kill_in = max(0.0, signal_at - at), max(0.0, kill_at - at)
            return ProgramStatus(word, held, waiting, left, kill_in)
        case Stopping(kill_at=kill_at) | Aborting(kill_at) | Stragglers(_, kill_at):
            left = max(0.0, kill_at - at)
            return ProgramStatus("stopping", seconds_left=left, kill_in=left)
        case BackingOff(status, until):
            return ProgramStatus("backing off", again_in=max(0.0, until - at), status=status)
        case Running():
            left, ready = _left(system, index, at), True
            if system.pasts:
                past = system.pasts[index]
                ready = past.ready and not past.unhealthy_since
            return ProgramStatus("running", "", waiting, left, left, ready=ready)
        case Spawning():
            left = _left(system, index, at)
            return ProgramStatus("starting", "", waiting, left, left)
        case Gone(status):
            word = _ended(system, policy, index, status)
            return ProgramStatus(word, status=status if _has_run(system, index) else None)
        case Pending():
            return ProgramStatus("pending", waits_for=waiting)
        case Killing():
            return ProgramStatus("killing", waits_for=waiting)
        case _:
            assert_never(phase)


def _signal_at(phase: PreStop, rules: ProgramPolicy) -> float:
    """Return when the stop signal goes if only a time is waited for, and nothing comes after it."""
    start = rules.drain.start and not phase.started
    if not isinstance(phase.stage, Waiting) or phase.stage.hook or start:
        return FOREVER
    if rules.drain.probes and rules.drain.when == "before-signal":
        return FOREVER
    return max(phase.stage.until, phase.stage.agents_until or 0.0)


def _held(stage: Stage, at: float) -> str:
    match stage:
        case Waiting(_, True):
            return "waiting for pre_stop"
        case Waiting(until) if at < until:
            return "waiting for load balancers to notice (propagation_delay)"
        case Waiting():
            return "waiting for the agent's answer"
        case Starting():
            return "waiting for drain.start"
        case Draining(drain) if drain.failed:
            return "not drained, and given up"
        case Draining() | Drained():
            return "draining"
        case _:
            assert_never(stage)


def _left(system: Up | ShuttingDown, index: int, at: float) -> float | None:
    """Return the seconds until SIGKILL of a program whose stop has been requested and has not begun
    yet."""
    if isinstance(system, ShuttingDown):
        return max(0.0, system.kill_ats[index] - at)
    if system.part is not None and index in system.part.programs:
        return max(0.0, system.part.kill_ats[index] - at)
    return None


def _ended(system: Up | ShuttingDown, policy: Policy, index: int, status: int) -> str:
    """Return in one word how a program ended of which nothing is left."""
    if _was_stopped(system, index):
        return "stopped"
    if status or (system.pasts and system.pasts[index].failed):
        return "failed"
    return "completed" if policy.programs[index].oneshot else "exited"


def _was_stopped(system: Up | ShuttingDown, index: int) -> bool:
    """Return whether a program has ended, or was never started, because of a stop request."""
    asked = dict(system.exits).get(index) if isinstance(system, ShuttingDown) else None
    if asked is not None:
        return asked
    return not _has_run(system, index) or (bool(system.pasts) and system.pasts[index].stopped)


def _has_run(system: Up | ShuttingDown, index: int) -> bool:
    return not system.pasts or system.pasts[index].since > 0.0


def overall(system: System, stopped: bool = False) -> str:
    """Return in one word the status of several programs together.

    "starting": some are not up yet, or not ready.  "degraded": one is not ready any more, has ended
    and is started again later, is aborted for its watchdog, or (*stopped*) is stopped by a signal.
    "restarting": that was requested.
    """
    if not isinstance(system, Up | ShuttingDown):
        return "ending"
    there = [phase for phase in system.programs if not isinstance(phase, Gone)]
    if isinstance(system, ShuttingDown) or system.drain:
        return _slowest(system, there)
    if any(isinstance(phase, BackingOff | Aborting) for phase in there):
        return "degraded"
    if system.part is not None:
        return "restarting" if system.part.again else "running"
    if any(isinstance(phase, Pending | Spawning) for phase in there):
        return "starting"
    if is_ready(system):
        return "degraded" if stopped else "running"
    lost = any(
        past.unhealthy_since or (past.unready_since and not past.ready) for past in system.pasts
    )
    return "degraded" if lost else "starting"


def _slowest(system: Up | ShuttingDown, there: Sequence[Phase]) -> str:
    """Return how far all programs are with their drain or stop."""
    if any(isinstance(phase, Killing) for phase in there):
        return "killing"
    if isinstance(system, ShuttingDown):
        draining = any(isinstance(phase, PreStop) for phase in there)
        signalled = Stopping | Aborting | Stragglers
        stopping = any(isinstance(phase, signalled) for phase in there)
        return "draining" if draining and not stopping else "stopping"
    working = (phase for phase in there if not isinstance(phase, Pending | BackingOff))
    drained = all(
        isinstance(phase, PreStop) and isinstance(phase.stage, Drained) for phase in working
    )
    return "drained" if drained else "draining"


def why(
    status: ProgramStatus, named: Callable[[int], str], kept_by: str = "", ended: str = ""
) -> str:
    """Return why a program is not as it should be, for people: "waiting for web: requests 2"; "" if
    it is.

    Args:
        status: Its status.
        named: Returns the name of another program and what keeps it: "web: requests 2".
        kept_by: What keeps this one from being ready.
        ended: How it ended last: "exited with 1".
    """
    if status.waits_for:
        hidden = len(status.waits_for) - MOST
        more = f" and {hidden} more" if hidden > 0 else ""
        return f"waiting for {'; '.join(named(i) for i in status.waits_for[:MOST])}{more}"
    if status.phase == "backing off" or status.phase in ENDED:
        return ended
    if status.phase == "running" and not status.ready:
        return kept_by or "not ready yet"
    return status.held if status.phase == "draining" and status.held != "draining" else ""
