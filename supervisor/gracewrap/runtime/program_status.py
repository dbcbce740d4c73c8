"""How each program stands, for people: its phase in a word, what it is held for or waits for, and
how much time it has left."""

from __future__ import annotations

from gracewrap.policy import program
from gracewrap.policy import system as coordinator
from gracewrap.record import TYPE_CHECKING, Record, assert_never

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from gracewrap.policy.model import Policy


MOST = 3  # so many programs are named in one line, with what is said of each
ENDED = ("completed", "stopped", "failed", "exited")  # phases in which nothing is left of a program


# The policy's phases, in the words of people; what it calls gone is one of ENDED.
_PHASES = {
    program.Pending: "pending",
    program.Spawning: "starting",
    program.BackingOff: "backing off",
    program.Running: "running",
    program.PreStop: "draining",
    program.Stopping: "stopping",
    program.Aborting: "stopping",
    program.Stragglers: "stopping",
    program.Killing: "killing",
}


class ProgramStatus(Record):
    """One program."""

    phase: str  # a value of _PHASES, "drained", one of ENDED, or "ending": all is over
    held: str = ""  # for what its stop signal is held back
    waits_for: tuple[
        int, ...
    ] = ()  # the programs that have to come so far, or be gone, before it is its turn
    seconds_left: float | None = (
        None  # until its stop signal, if it is held back, else until SIGKILL
    )
    kill_in: float | None = (
        # seconds until its SIGKILL, as it stands now: what is before it in the order may end sooner
        None
    )
    again_in: float | None = None  # seconds until it is started again
    status: int | None = None  # its exit status, while it is not up
    ready: bool = False  # it is up, and nobody waits for it to come so far


def of(system: coordinator.System, policy: Policy, index: int, at: float) -> ProgramStatus:
    """Return how a program stands."""
    if not isinstance(system, coordinator.Up | coordinator.ShuttingDown):
        return ProgramStatus("ending")
    phase = system.programs[index]
    waits_for = coordinator.waits_for(system, policy, index)
    match phase:
        case program.PreStop(_, stage, kill_at, signal_at):
            word = "drained" if isinstance(stage, program.Drained) else "draining"
            if signal_at == program.FOREVER:
                return ProgramStatus(
                    word, _held(stage), waits_for, kill_in=_left(system, index, at)
                )
            return ProgramStatus(
                word, _held(stage), waits_for, max(0.0, signal_at - at), max(0.0, kill_at - at)
            )
        case (
            program.Stopping(kill_at=kill_at)
            | program.Aborting(kill_at)
            | program.Stragglers(_, kill_at)
        ):
            return ProgramStatus(
                "stopping", seconds_left=max(0.0, kill_at - at), kill_in=max(0.0, kill_at - at)
            )
        case program.BackingOff(status, until):
            return ProgramStatus("backing off", again_in=max(0.0, until - at), status=status)
        case program.Running() | program.Spawning():
            ready = isinstance(phase, program.Running) and (
                not system.pasts or system.pasts[index].ready
            )
            left = _left(system, index, at)
            return ProgramStatus(
                _PHASES[type(phase)],
                waits_for=waits_for,
                seconds_left=left,
                kill_in=left,
                ready=ready,
            )
        case program.Gone(status):
            return ProgramStatus(
                _how(system, policy, index, status),
                status=status if _has_run(system, index) else None,
            )
        case program.Pending() | program.Killing():
            return ProgramStatus(_PHASES[type(phase)], waits_for=waits_for)
        case _:
            assert_never(phase)


def _held(stage: program.Stage) -> str:
    match stage:
        case program.Waiting(_, hook):
            return "waiting for pre_stop" if hook else "not ready any more, still serving"
        case program.Starting():
            return "waiting for drain.start"
        case program.Draining() | program.Drained():
            return "draining"
        case _:
            assert_never(stage)


def _left(system: coordinator.Up | coordinator.ShuttingDown, index: int, at: float) -> float | None:
    """Return the seconds until SIGKILL of a program that is to be stopped and has not been told
    yet."""
    if isinstance(system, coordinator.ShuttingDown):
        return max(0.0, system.kill_ats[index] - at)
    if system.part is not None and index in system.part.programs:
        return max(0.0, system.part.kill_ats[index] - at)
    return None


def _how(
    system: coordinator.Up | coordinator.ShuttingDown, policy: Policy, index: int, status: int
) -> str:
    """Return in one word how a program ended of which nothing is left."""
    if _was_stopped(system, index):
        return "stopped"
    if status:
        return "failed"
    return "completed" if policy.programs[index].oneshot else "exited"


def _was_stopped(system: coordinator.Up | coordinator.ShuttingDown, index: int) -> bool:
    """Return whether a program has ended because that was asked for, of it or of all; or was never
    started because of that."""
    asked = dict(system.exits).get(index) if isinstance(system, coordinator.ShuttingDown) else None
    if asked is not None:
        return asked
    return not _has_run(system, index) or (bool(system.pasts) and system.pasts[index].stopped)


def _has_run(system: coordinator.Up | coordinator.ShuttingDown, index: int) -> bool:
    return not system.pasts or system.pasts[index].since > 0.0


def overall(system: coordinator.System) -> str:
    """Return in one word how several programs stand together.

    "starting": some are not up yet, or not ready.  "degraded": one has ended, and is to be started
    again, or is aborted for its watchdog.  "restarting": that was asked for.
    """
    if not isinstance(system, coordinator.Up | coordinator.ShuttingDown):
        return "ending"
    there = [phase for phase in system.programs if not isinstance(phase, program.Gone)]
    if isinstance(system, coordinator.ShuttingDown) or system.drain:
        return _least(system, there)
    if any(isinstance(phase, program.BackingOff | program.Aborting) for phase in there):
        return "degraded"
    if system.part is not None:
        return "restarting" if system.part.again else "running"
    if any(isinstance(phase, program.Pending | program.Spawning) for phase in there):
        return "starting"
    return "running" if coordinator.is_ready(system) else "starting"


def _least(
    system: coordinator.Up | coordinator.ShuttingDown, there: Sequence[program.Phase]
) -> str:
    """Return how far all of them are with their drain or stop."""
    if any(isinstance(phase, program.Killing) for phase in there):
        return "killing"
    if isinstance(system, coordinator.ShuttingDown):
        draining = any(isinstance(phase, program.PreStop) for phase in there)
        signalled = program.Stopping | program.Aborting | program.Stragglers
        told = any(isinstance(phase, signalled) for phase in there)
        return "draining" if draining and not told else "stopping"
    working = (
        phase for phase in there if not isinstance(phase, program.Pending | program.BackingOff)
    )
    drained = all(
        isinstance(phase, program.PreStop) and isinstance(phase.stage, program.Drained)
        for phase in working
    )
    return "drained" if drained else "draining"


def why(
    stands: ProgramStatus, other: Callable[[int], str], kept_by: str = "", ended: str = ""
) -> str:
    """Return why a program is not as it is to be, for people: "waiting for web: requests 2"; "" if
    it is.

    Args:
        stands: How it stands.
        other: Says of another program, by its index, who it is and what keeps it: "web: requests
            2".
        kept_by: What keeps this one from being ready.
        ended: How it ended last: "exited with 1".
    """
    if stands.waits_for:
        more = f" and {len(stands.waits_for) - MOST} more" if len(stands.waits_for) > MOST else ""
        return f"waiting for {'; '.join(other(i) for i in stands.waits_for[:MOST])}{more}"
    if stands.phase == "backing off" or stands.phase in ENDED:
        return ended
    if stands.phase == "running" and not stands.ready:
        return kept_by or "not ready yet"
    return stands.held if stands.phase == "draining" and stands.held != "draining" else ""
