"""What the policy is told (Policy), what happens (events) and what it answers (commands).

Times are seconds on a monotonic clock, given by the caller.  A program is named by its index in
Policy.programs.
"""

from __future__ import annotations

from gracewrap.record import TYPE_CHECKING, Record

if TYPE_CHECKING:
    from collections.abc import Mapping

    from gracewrap.policy.log_events import LogEvent

# The same on every Linux architecture that Python runs on (signal(7)).
SIGABRT, SIGKILL, SIGCONT = 6, 9, 18


# What a sample of a probe can say.
DRAINED, BUSY, UNREACHABLE, INVALID, FAILED = "drained", "busy", "unreachable", "invalid", "failed"


class Reading(Record):
    """One sample of a probe.

    *kind* is DRAINED, BUSY (*in_flight* says how much, if it is known), UNREACHABLE (no answer:
    keep waiting), INVALID (an
    answer that cannot be used: a mistake in the configuration, or an endpoint that is not there) or
    FAILED (do not ask again).
    """

    kind: str
    in_flight: float | None = None
    why: str = (
        ""  # for people, of what is not drained: "404 Not Found", "3 of 7 connections in flight"
    )


class Rung(Record):
    """One step of the ladder between the stop signal and SIGKILL: *after* seconds from the stop
    signal, send *signum*."""

    after: float
    signum: int


class DrainPolicy(Record):
    """When a program counts as drained, and what that is good for.  Times are seconds."""

    probes: int = 0  # how many are asked
    combine: str = "all"  # or "any"
    when: str = "after-signal"  # or "before-signal": the stop signal is held back until drained
    start: bool = False  # there is an action that tells the program to take no new work
    interval: float = 0.25
    timeout: float | None = None  # of the whole drain; None: what is left
    min_drain: float = 0.0  # before that no reading counts
    confirm: int = 2  # DRAINED readings in a row
    linger: float | None = (
        2.0  # drained, but still running: so long until it is killed early; None: it is not
    )


class BackOff(Record):
    """How long to wait before a program that has ended is started again.  Times are seconds."""

    first: float = 0.5
    factor: float = 2.0  # each wait over the one before
    cap: float = 30.0
    # up to this part of a wait is left out, so that what fell together does not rise together
    jitter: float = 0.25
    stable: float = 10.0  # what has run so long starts counting anew


class ProgramPolicy(Record):
    """How one program is started and stopped."""

    stop_signal: int = 15
    stop_timeout: float | None = (
        None  # seconds from the stop signal to SIGKILL; None: what is left of the budget
    )
    escalation: tuple[Rung, ...] = ()
    kill_mode: str = "mixed"
    propagation_delay: float = 0.0  # seconds to go on serving after readiness was turned off
    pre_stop: bool = False  # there are such hooks
    post_stop: bool = False
    drain: DrainPolicy = DrainPolicy()
    name: str = ""
    depends_on: tuple[
        tuple[int, str], ...
    ] = ()  # (program, "started" | "ready" | "completed"); stopped before it
    stop_after: tuple[int, ...] = ()  # only stopped after these
    # or "drained": what those that are stopped before this one have to be, before it is its turn
    until: str = "gone"
    reserve: float | None = (
        # seconds of the budget that are kept for its stop; None: stop_timeout, else a fair share
        None
    )
    # something tells when it is ready (ProgramReady); else it is as soon as it is started
    ready: bool = False
    oneshot: bool = False  # it is to complete; its exit with 0 is no reason to stop
    restart: str = "never"  # or "on-failure" or "always"
    back_off: BackOff = BackOff()
    max_restarts: int | None = None  # in a row, without a stable time in between
    on_exit: str = (
        "shutdown"  # or "restart" or "ignore": when it exits with 0, and is not restarted
    )
    on_failure: str = "shutdown"  # when it fails, and is not restarted
    success_exit_codes: frozenset[int] | None = None  # None: the Policy's
    drained_is_success: bool | None = None
    on_watchdog: str = "stop"  # or "ignore": a missed watchdog is only logged


class Policy(Record):
    """How everything is stopped: one budget across all programs."""

    programs: tuple[ProgramPolicy, ...]
    shutdown_timeout: float = 25.0  # seconds from the stop request to the last SIGKILL
    stop_on: frozenset[int] = frozenset((15, 2))
    signal_map: Mapping[int, int] = {}  # signal received -> signal sent on; 0 drops it
    on_repeat: str = "escalate"
    flush_timeout: float = 1.0  # seconds to stay for bytes that the kernel has not sent yet
    success_exit_codes: frozenset[int] = frozenset()
    drained_is_success: bool = (
        False  # of a program that was killed because it was drained and did not exit
    )
    push: bool = False  # metrics are pushed when all is over
    exit_code_from: int | None = (
        None  # the program whose status is ours; None: the first one that has failed
    )
    seed: int = 0  # of the jitter: two runs with the same wait the same times
    # False: one command alone, that is not started again and whose end is the end of all
    managed: bool = True


# Events: what happened.


class SignalReceived(Record):
    """A signal arrived at gracewrap itself."""

    signum: int
    at: float


class StopRequested(Record):
    """A stop was asked for by other means than a signal: *by* says whose or what.  *failure*: it is
    because something failed."""

    by: str
    at: float
    failure: bool = False


class DrainRequested(Record):
    """All programs are to be drained, and not to be stopped."""

    at: float


class UndrainRequested(Record):
    """That is taken back."""

    at: float


class Sampled(Record):
    """A probe has been asked (Ask), and this is what it said."""

    program: int
    probe: int
    reading: Reading
    at: float


class HelperEnded(Record):
    """A hook (*what*: "pre_stop", "start", "post_stop") or the push of metrics ("push") is done;
    *why* says what went wrong."""

    program: int
    what: str
    ok: bool
    why: str
    at: float


class TimeExtended(Record):
    """The program asks for *seconds* from now on (EXTEND_TIMEOUT_USEC of sd_notify(3))."""

    program: int
    seconds: float
    at: float


class WatchdogMissed(Record):
    """The program has not sent WATCHDOG=1 for *after* seconds; 0: it says itself that it has failed
    (WATCHDOG=trigger).

    Its watchdog counts no more until RestartWatchdog, or until the program is started again.
    """

    program: int
    after: float
    at: float


class ProgramStarted(Record):
    """StartProgram has been carried out: the program's leader is alive."""

    program: int
    at: float


class ProgramReady(Record):
    """The ready probes of a program have passed."""

    program: int
    at: float


class StartFailed(Record):
    """StartProgram could not be carried out, as may show only after ProgramStarted; *status* is
    what a shell would report."""

    program: int
    status: int
    why: str
    at: float


class PartRequested(Record):
    """Some programs and what depends on them are to be stopped, and, if *again*, started anew; the
    others go on."""

    programs: tuple[int, ...]
    by: str
    again: bool
    at: float


class RollingRestartRequested(Record):
    """All programs are to be restarted, one set of them after the other; *by* says who asks.

    *signum*: the signal that asks for it.  In a stop it has no effect.
    """

    signum: int
    by: str
    at: float


class LeaderExited(Record):
    """The process that was spawned for a program has been reaped; *left* says whether anything of
    the program lives on."""

    program: int
    status: int  # exit status as a shell reports it
    signum: int  # the signal that ended it, or 0
    left: bool
    at: float
    may_have_told: bool = (
        False  # it is a shell, and shells pass a signal on by a trap and do not wait
    )


class ProgramGone(Record):
    """The leader had been reaped before, and now nothing is left of the program."""

    program: int
    at: float


class StopSignalIgnored(Record):
    """The leader ignores the stop signal that it has just been sent."""

    program: int
    at: float


class ShellTold(Record):
    """The leader that has just been sent the stop signal is a shell with a trap for it."""

    program: int
    at: float


class UnsentCounted(Record):
    """The kernel still holds unsent bytes on this many connections that nobody owns any more."""

    connections: int
    at: float


class Tick(Record):
    """Time has passed."""

    at: float


# Commands: what to do about it.  A LogEvent is told after the others are done.


class StartProgram(Record):
    """Spawn the program; ProgramStarted or StartFailed answers.  No other is commanded before
    that."""

    program: int


class SendLeader(Record):
    """Signal the leader, and nobody else."""

    program: int
    signum: int


class SendGroup(Record):
    """Signal the leader's whole process group at once."""

    program: int
    signum: int


class SendRest(Record):
    """Signal whatever is left of the program and has not been sent its stop signal yet."""

    program: int
    signum: int


class KillProgram(Record):
    """SIGKILL everything that is left of the program."""

    program: int


class RunHelper(Record):
    """Run a hook, or push the metrics, and kill it at *until*; HelperEnded answers."""

    program: int
    what: str
    until: float


class StopHelper(Record):
    """Kill a hook that is still running; there is no answer."""

    program: int
    what: str


class Ask(Record):
    """Take a sample of a probe; Sampled answers."""

    program: int
    probe: int


class StopAsking(Record):
    """Give up on all samples of a program's probes; there is no answer."""

    program: int


class RestartWatchdog(Record):
    """Let the program's watchdog count again, from now on."""

    program: int


class CountUnsent(Record):
    """Count the connections with unsent bytes; UnsentCounted answers."""


class Exit(Record):
    """Leave with this exit status; always the last command."""

    status: int


# For mypy alone, for making unions takes time: it finds out which one a match has forgotten.
if TYPE_CHECKING:
    Event = (
        SignalReceived
        | StopRequested
        | DrainRequested
        | UndrainRequested
        | Sampled
        | HelperEnded
        | TimeExtended
        | WatchdogMissed
        | ProgramStarted
        | ProgramReady
        | StartFailed
        | PartRequested
        | RollingRestartRequested
        | LeaderExited
        | ProgramGone
        | StopSignalIgnored
        | ShellTold
        | UnsentCounted
        | Tick
    )
    Command = (
        StartProgram
        | SendLeader
        | SendGroup
        | SendRest
        | KillProgram
        | RunHelper
        | StopHelper
        | Ask
        | StopAsking
        | RestartWatchdog
        | CountUnsent
        | Exit
        | LogEvent
    )
else:
    Event = Command = Record
