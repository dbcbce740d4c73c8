"""One program's stop: leader signalled, rungs climbed, the rest told, SIGKILL, gone.  Pure.

The phases, in the order in which a program passes through them (any may be skipped):

    Running -> Stopping -> Leftover -> Killing -> Gone

"Gone" means that nothing is left of the program, not that its leader has been reaped: under supervisord and circus a member
that ignored the signal outlived a stop that was reported as clean.
"""

from __future__ import annotations

from gracewrap.policy.model import (
    SIGCONT,
    SIGKILL,
    Command,
    KillProgram,
    LeaderExited,
    ProgramPolicy,
    SendGroup,
    SendLeader,
    SendRest,
    note,
)
from gracewrap.record import Record, assert_never, replace

KILLED = 128 + SIGKILL

# After SIGKILL the exit takes milliseconds, unless a process hangs in the kernel or belongs to somebody we may not signal.
# Look again soon (a forking program may have slipped a child through), and give up after this long: staying would break our word
# about time, and when PID 1 goes the kernel finishes the job anyway.
KILL_AGAIN = 0.02
GIVE_UP = 1.0

# A leader that ends by exit(2) after the stop signal had a handler for it, and may have passed the signal on before (a shell's
# `trap 'kill $pid' TERM`).  Wait so long for the receivers to act on it, and thereby to show that they have had it.  A shell most
# likely has: its receivers get half of the time that is left, to end by themselves, before they are told (again).
SETTLE = 0.2
LAST_CALL = 0.75  # of a shell's time; then its members are told by us


class Running(Record):
    """The leader is alive and nobody has asked it to stop."""


class Stopping(Record):
    """The leader has been sent the stop signal at *since*; *rung* is the next one of the ladder."""

    since: float
    kill_at: float
    rung: int = 0
    whole: bool = False  # the stop signal has gone to more than the leader
    rest_at: float | None = None  # when it goes to the others, should the leader still be there


class Leftover(Record):
    """The leader is gone, members are left: they have the rest of the time, and are sent the stop signal at *tell_at*."""

    status: int
    kill_at: float
    tell_at: float | None = None


class Killing(Record):
    """Everything has been sent SIGKILL at *since*; *status* is the leader's, or KILLED while it is not reaped."""

    status: int
    since: float
    again_at: float


class Gone(Record):
    """Nothing is left.  *gave_up*: something is, but it cannot be killed."""

    status: int
    gave_up: bool = False


Phase = Running | Stopping | Leftover | Killing | Gone
Step = tuple[Phase, tuple[Command, ...]]


def deadline(phase: Phase, policy: ProgramPolicy) -> float | None:
    """Return when the program next needs a tick, or None."""
    match phase:
        case Running() | Gone():
            return None
        case Stopping(since, kill_at, rung, _, rest_at):
            rung_at = since + policy.escalation[rung].after if rung < len(policy.escalation) else kill_at
            return min(kill_at, rung_at, kill_at if rest_at is None else rest_at)
        case Leftover(_, kill_at, tell_at):
            return kill_at if tell_at is None else min(kill_at, tell_at)
        case Killing(_, since, again_at):
            return min(again_at, since + GIVE_UP)
        case _:
            assert_never(phase)


def stop(phase: Phase, program: int, policy: ProgramPolicy, at: float, kill_at: float) -> Step:
    """Send the stop signal to a program that has not had it; *kill_at* is the coordinator's limit for it."""
    if not isinstance(phase, Running):
        return phase, ()
    if policy.stop_timeout is not None:
        kill_at = min(kill_at, at + policy.stop_timeout)
    if kill_at <= at:
        return kill(phase, program, at, "no time was given to stop in")
    group = policy.kill_mode == "group"
    return Stopping(at, kill_at, 0, group), (
        note("stop_signal", program=program, signal=policy.stop_signal, to="group" if group else "leader"),
        *_send(program, policy, policy.stop_signal),
    )


def _send(program: int, policy: ProgramPolicy, signum: int) -> tuple[Command, ...]:
    target = SendGroup if policy.kill_mode == "group" else SendLeader
    # A stopped process cannot act on SIGTERM until it is continued; systemd and s6-supervise send both for this reason.
    return (target(program, signum), target(program, SIGCONT)) if signum != SIGCONT else (target(program, signum),)


def leader_exited(phase: Phase, program: int, policy: ProgramPolicy, event: LeaderExited, kill_at: float) -> Step:
    """Take the leader's exit status; what is left is sent the stop signal if it has not had it, and has the rest of the time."""
    status, left, at = event.status, event.left, event.at
    if isinstance(phase, Killing):
        return (Killing(status, phase.since, phase.again_at), ()) if left else (Gone(status), ())
    if isinstance(phase, Leftover | Gone):
        return phase, ()
    if not left:
        return Gone(status), ()
    told, tell_at = False, at
    if isinstance(phase, Stopping):
        kill_at, told = phase.kill_at, phase.whole and policy.kill_mode != "group"
        if not event.signum:
            tell_at = at + (max(SETTLE, (kill_at - at) / 2) if event.may_have_told else SETTLE)
    elif policy.stop_timeout is not None:
        kill_at = min(kill_at, at + policy.stop_timeout)
    if kill_at <= at:
        return kill(Leftover(status, kill_at), program, at, "no time was given to stop in")
    if policy.kill_mode == "process" or told:
        return Leftover(status, kill_at), (note("leftover", program=program, told=False),)
    after = Leftover(status, kill_at, tell_at)
    if tell_at <= at:
        return _tell(after, program, policy)
    said = note("leftover_waits", program=program, signal=policy.stop_signal, after=tell_at - at)
    return after, (said,) if event.may_have_told else ()


def _tell(phase: Leftover, program: int, policy: ProgramPolicy) -> Step:
    return Leftover(phase.status, phase.kill_at), (
        note("leftover", program=program, told=True, signal=policy.stop_signal),
        SendRest(program, policy.stop_signal),
    )


def ignored(phase: Phase, program: int, policy: ProgramPolicy) -> Step:
    """The leader ignores the stop signal (`trap '' TERM`): it will not pass it on either, so tell the others now."""
    if not isinstance(phase, Stopping) or phase.whole or policy.kill_mode != "mixed":
        return phase, ()
    return _tell_rest(phase, program, policy, "stop_signal_ignored")


def _tell_rest(phase: Stopping, program: int, policy: ProgramPolicy, why: str) -> Step:
    return Stopping(phase.since, phase.kill_at, phase.rung, True), (
        note(why, program=program, signal=policy.stop_signal),
        SendRest(program, policy.stop_signal),
    )


def shell_told(phase: Phase, policy: ProgramPolicy) -> Step:
    """The leader is a shell with a trap: if it is still there late in its time, it waits for a child that it has not told.

    Or for one that it has told and that is slow: for that one the second signal comes so late that SIGKILL is near anyway.
    """
    if not isinstance(phase, Stopping) or phase.whole or policy.kill_mode != "mixed":
        return phase, ()
    return replace(phase, rest_at=phase.since + LAST_CALL * (phase.kill_at - phase.since)), ()


def gone(phase: Phase) -> Step:
    """Nothing is left of a program whose leader had gone before."""
    match phase:
        case Leftover(status) | Killing(status):
            return Gone(status), ()
        case Running() | Stopping() | Gone():
            return phase, ()
        case _:
            assert_never(phase)


def tick(phase: Phase, program: int, policy: ProgramPolicy, at: float) -> Step:
    """Climb the rungs whose time has come, SIGKILL at the end of the time, give up on what cannot be killed."""
    match phase:
        case Running() | Gone():
            return phase, ()
        case Stopping(_, kill_at) | Leftover(_, kill_at) if at >= kill_at:
            return kill(phase, program, at, "out of time")
        case Stopping(since, _, rung, _, rest_at):
            if rest_at is not None and at >= rest_at:
                return _tell_rest(phase, program, policy, "last_call")
            if rung >= len(policy.escalation) or at < since + policy.escalation[rung].after:
                return phase, ()
            return _climb(phase, program, policy, "its time has come")
        case Leftover(_, _, tell_at):
            return (phase, ()) if tell_at is None or at < tell_at else _tell(phase, program, policy)
        case Killing(status, since, again_at):
            if at >= since + GIVE_UP:
                return Gone(status, True), (note("gave_up", program=program, after=at - since),)
            if at < again_at:
                return phase, ()
            return Killing(status, since, at + KILL_AGAIN), (KillProgram(program),)
        case _:
            assert_never(phase)


def _climb(phase: Stopping, program: int, policy: ProgramPolicy, why: str) -> Step:
    rung = policy.escalation[phase.rung]
    after = replace(phase, rung=phase.rung + 1)
    return after, (note("rung", program=program, signal=rung.signum, why=why), *_send(program, policy, rung.signum))


def hurry(phase: Phase, program: int, policy: ProgramPolicy) -> Step:
    """Skip ahead: the next rung, or the pause, now.  With none left there is nothing to skip; the stop signal is not sent twice.

    (A second SIGTERM made RQ, Dramatiq and close-with-grace drop their work.)
    """
    if isinstance(phase, Stopping) and phase.rung < len(policy.escalation):
        return _climb(phase, program, policy, "asked again")
    if isinstance(phase, Leftover) and phase.tell_at is not None:
        return _tell(phase, program, policy)
    return phase, ()


def kill(phase: Phase, program: int, at: float, why: str) -> Step:
    """SIGKILL all that is left, now."""
    match phase:
        case Gone():
            return phase, ()
        case Killing():
            return phase, (KillProgram(program),)
        case Running() | Stopping():
            status, leader = KILLED, True
        case Leftover(status):
            leader = False
        case _:
            assert_never(phase)
    return Killing(status, at, at + KILL_AGAIN), (
        note("kill", program=program, why=why, leader=leader),
        KillProgram(program),
    )
