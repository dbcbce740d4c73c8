"""The phases of one program from its start to its end, and when each next needs a tick.  Pure.

The phases, in the order in which a program passes through them (any may be skipped):

    Pending -> Spawning -> Running -> PreStop -> Stopping -> Stragglers -> Killing -> Gone
    -> BackingOff -> Pending ...

Aborting takes the place of PreStop and Stopping after a missed watchdog (watchdog_missed.py) or a
failed health check (failed_health_check.py).

One program alone is spawned before the policy is asked, and begins as Running.  When to start one
of several is running.py's, and whether to start it again restart.py's.

"Gone" means that nothing is left of the program, not that its leader has been reaped: under
supervisord and circus a member that ignored the signal outlived a stop that was reported as clean.
"""

from __future__ import annotations

from gracewrap.policy import drain as draining
from gracewrap.policy import held_up_looks
from gracewrap.policy.drain import Drain
from gracewrap.policy.model import (
    SIGKILL,
    Command,
    ProgramPolicy,
    Watch,
)
from gracewrap.record import Record, assert_never

KILLED = 128 + SIGKILL
# Why a program is killed, or sent the next rung.
OUT_OF_TIME = "out of time"
# Before its time: its work is done, or nothing shows any.
EARLY = "drained, and still running"
NO_REQUEST = "no request is in flight, and it is still running"
ABORTED = "still running after SIGABRT"
FAILED = "still running after the stop signal"

# After SIGKILL the exit takes milliseconds, unless a process hangs in the kernel or belongs to
# somebody we may not signal.
# Look again soon (a forking program may have slipped a child through), and give up after this long:
# staying would break our word about time, and when PID 1 goes the kernel finishes the job anyway.
KILL_AGAIN = 0.02
GIVE_UP = 1.0
# Where all that is left can run and only waits for a CPU, it will end: on a machine so busy we stay
# for it, but no longer than this.
GIVE_UP_BUSY = 5.0
# What comes after it in the order waits no longer than this: what hangs in the kernel does no work
# that could miss what it depends on, and the time of the others goes by.
DEAD = 0.1

# What is done before the stop signal leaves it a time to act: stop_timeout, else this part of the
# budget, and no more than that.
RESERVE_PART, RESERVE = 0.1, 2.0
FOREVER = float("inf")
# While only a drain was asked for, no budget runs; so long may the action that starts it take then,
# unless it has its own limit.
START_LIMIT = 60.0

# An agent answers within milliseconds, unless its process is busy computing: then it could not act
# on the stop signal either, which without a handler would end it at once.
AGENT_LIMIT = 5.0
# What the agent takes after the stop signal though nothing is in flight, and as much again: it
# serves for 0.5 s, closes connections idle for 0.75 s, and database clients, for 2 s at most.
FINISHING = 3.5


class Waiting(Record):
    """The pre_stop hook runs, or load balancers are given time to notice, until *until*.

    *agents_until*: how long the agents' answer is waited for; None: it is there, or there are none.
    """

    until: float
    hook: bool
    agents_until: float | None = None


class Starting(Record):
    """The action that starts the drain is under way."""


class Draining(Record):
    """The probes are asked."""

    drain: Drain


class Drained(Record):
    """It is drained, or there is nothing to tell it by; nobody has asked for a stop yet."""


Stage = Waiting | Starting | Draining | Drained


class Pending(Record):
    """Its leader is to be spawned when what it depends on has come so far."""


class Spawning(Record):
    """That has been commanded, and not been answered yet."""


class BackingOff(Record):
    """It has ended with *status* and is to be started again at *until*."""

    status: int
    until: float


class Running(Record):
    """The leader is alive and nobody has asked it to stop."""


class PreStop(Record):
    """It is to take no new work since *since*; the stop signal goes at *signal_at* at the latest.

    Both times are FOREVER while only a drain was asked for, and not a stop.
    """

    since: float
    stage: Stage
    kill_at: float = FOREVER
    signal_at: float = FOREVER
    started: bool = False  # the action that starts the drain has been run
    finishes: bool = False  # an agent in it does when the stop signal comes


class Stopping(Record):
    """The leader has been sent the stop signal at *since*; *rung* is the next one of the ladder."""

    since: float
    kill_at: float
    rung: int = 0
    # Who else is sent the stop signal, and when; None: nobody (kill_mode = "process").
    watch: Watch | None = None
    drain: Drain = draining.NONE
    patient_since: float = (
        0.0  # from when on a drained program is given its linger: the last signal
    )
    drained_kill_at: float = (
        0.0  # what kill_at is once it has been drained: drain.timeout limits the wait for that only
    )
    looked: held_up_looks.Looks | None = None
    finishes: bool = False  # an agent in it does


class Aborting(Record):
    """The leader has missed its watchdog and been sent SIGABRT, or has failed a health check and
    been sent the stop signal; SIGKILL follows at *kill_at*, and *why*.

    *stopping*: a stop has been requested since then.  SIGABRT counts as its stop signal: it is sent
    no other.
    """

    kill_at: float
    stopping: bool = False
    why: str = ABORTED


class Stragglers(Record):
    """The leader is gone, members are left: they have the rest of the time, and are sent the stop
    signal as *watch* has it."""

    status: int
    kill_at: float
    watch: Watch | None = None
    looked: held_up_looks.Looks | None = None


class Killing(Record):
    """Everything has been sent SIGKILL at *since*; *status* is the leader's, or KILLED while it is
    not reaped.

    *early*: because it was drained, and not because its time was up.  *busy*: what was left when we
    looked last can run, and has not had a CPU to end on.
    """

    status: int
    since: float
    again_at: float
    early: bool = False
    busy: bool = False

    @property
    def give_up_at(self) -> float:
        return self.since + (GIVE_UP_BUSY if self.busy else GIVE_UP)


class Gone(Record):
    """Nothing is left.  *gave_up*: something is, but it cannot be killed.  *early*: as of
    Killing."""

    status: int
    gave_up: bool = False
    early: bool = False


Phase = (
    Pending
    | Spawning
    | BackingOff
    | Running
    | PreStop
    | Stopping
    | Aborting
    | Stragglers
    | Killing
    | Gone
)
Step = tuple[Phase, tuple[Command, ...]]


def deadline(phase: Phase, policy: ProgramPolicy) -> float | None:
    """Return when the program next needs a tick, or None."""
    match phase:
        case BackingOff(_, until):
            return until
        case Pending() | Spawning() | Running() | Gone():
            return None
        case PreStop(_, stage, _, signal_at):
            due = min(signal_at, _stage_deadline(stage, policy))
            return None if due == FOREVER else due
        case Stopping(since, kill_at, rung, watch, drain):
            rung_at = (
                since + policy.escalation[rung].after if rung < len(policy.escalation) else kill_at
            )
            times = (
                kill_at,
                rung_at,
                None if watch is None else watch.look_at,
                draining.deadline(drain),
                _linger_ends(phase, policy),
                held_up_looks.due(phase.looked, kill_at, _end_of_time(phase, policy)),
            )
            return min(time for time in times if time is not None)
        case Aborting(kill_at):
            return kill_at
        case Stragglers(_, kill_at, watch, looked):
            look_at = None if watch is None else watch.look_at
            dues = (kill_at, look_at, held_up_looks.due(looked, kill_at, kill_at))
            return min(time for time in dues if time is not None)
        case Killing(_, _, again_at):
            return min(again_at, phase.give_up_at)
        case _:
            assert_never(phase)


def _stage_deadline(stage: Stage, policy: ProgramPolicy) -> float:
    match stage:
        case Waiting(until, hook, agents_until):
            return FOREVER if hook else max(until, agents_until or 0.0)
        case Draining(drain):
            limit = (
                FOREVER
                if policy.drain.timeout is None or drain.failed
                else drain.since + policy.drain.timeout
            )
            next_at = draining.deadline(drain)
            return limit if next_at is None else min(limit, next_at)
        case Starting() | Drained():
            return FOREVER
        case _:
            assert_never(stage)


def _linger_ends(phase: Stopping, policy: ProgramPolicy) -> float | None:
    """Return when a program that is drained but still running is killed, or sent the next rung."""
    drain = phase.drain
    if drain.drained_at is None or drain.work or policy.drain.linger is None:
        return None
    if draining.waits_for_agent(drain):
        return None
    linger = max(policy.drain.linger, FINISHING if phase.finishes else 0.0)
    return max(drain.drained_at, drain.free_since, phase.patient_since) + linger


def _end_of_time(phase: Stopping, policy: ProgramPolicy) -> float:
    """Return when it is sent SIGKILL as things are."""
    lingers = _linger_ends(phase, policy)
    if lingers is None or phase.rung < len(policy.escalation):
        return phase.kill_at
    return min(phase.kill_at, lingers)
