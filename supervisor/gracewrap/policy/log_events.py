"""What the policy reports: one record for each kind of event in the log and the report.

A program is named by its index in Policy.programs; times are seconds.  What only the runtime knows,
such as pids, is added where the line is written (report/log_messages.py).
"""

from __future__ import annotations

from gracewrap.record import TYPE_CHECKING, Record

if TYPE_CHECKING:
    from gracewrap.policy.held_up_evidence import Cause, Evidence


class LogRecord(Record):
    """Base of all log events; EVENT is the name that machines read in the log: it never changes."""

    EVENT = ""


class OfTheStop(LogRecord):
    """Base of events about the stop as a whole."""


class OfAPart(OfTheStop):
    """Base of events about the stop, or the restart, of some programs."""


class OfASignal(LogRecord):
    """Base of events about signals that are sent."""


class OfTheDrain(LogRecord):
    """Base of events about the drain, and of hooks."""


class OfAProgram(LogRecord):
    """Base of events about a program's start and end."""


# The stop of all, or of some programs.


class StopRequested(OfTheStop):
    """The stop of all begins: by a signal, or (*signum* is 0) because *by* asks for it."""

    EVENT = "stop_requested"
    signum: int
    by: str = ""


class AskedAgain(OfTheStop):
    """One more stop request, by a signal or (0) otherwise.

    *effect*: "none", "stopping already", "nothing to skip", "skip ahead" or "kill".
    """

    EVENT = "asked_again"
    signum: int
    effect: str


class StopWaits(OfTheStop):
    """The program is stopped after *programs*."""

    EVENT = "stop_waits"
    program: int
    programs: tuple[int, ...]


class Serving(OfTheStop):
    """The stop signal is held back for *seconds* until load balancers have noticed the stop."""

    EVENT = "serving"
    program: int
    seconds: float


class HeldTooLong(OfTheStop):
    """The stop signal was held back for *after* seconds and is sent now because the budget ends.

    *doing*: what it waited for: "propagation_delay", "pre_stop", "agent", "drain.start" or
    "drain".
    """

    EVENT = "held_too_long"
    program: int
    doing: str
    after: float


class Extended(OfTheStop):
    """The program has asked for more time and has *remaining* seconds until SIGKILL."""

    EVENT = "extended"
    program: int
    remaining: float


class AllEnded(OfTheStop):
    """The run ends because every program has ended."""

    EVENT = "all_ended"


class PartRequested(OfAPart):
    """*by* asks for the stop of *programs*, or with *again* for their restart."""

    EVENT = "part_requested"
    by: str
    again: bool
    programs: tuple[int, ...]


class PartRefused(OfAPart):
    """Such a request is rejected: another stop or restart is in progress."""

    EVENT = "part_refused"
    by: str
    programs: tuple[int, ...]


class PartStopped(OfAPart):
    """All *programs* of such a request are gone; with *again* they are restarted."""

    EVENT = "part_stopped"
    programs: tuple[int, ...]
    again: bool


class RollingRestart(OfTheStop):
    """*by* asks for a rolling restart; it *waits* until all programs are ready."""

    EVENT = "roll"
    by: str
    waits: bool


class Unsent(OfTheStop):
    """gracewrap exits while the kernel holds unsent bytes on that many connections."""

    EVENT = "unsent"
    connections: int


class TimeGap(OfTheStop):
    """gracewrap was not running for *seconds*, in a stop or not; all timers stood still."""

    EVENT = "time_gap"
    seconds: float


class CpuWait(OfTheStop):
    """In a stop gracewrap waited *seconds* for a CPU; no time limit is extended."""

    EVENT = "cpu_wait"
    seconds: float


# Signals that are sent.


class Forwarded(OfASignal):
    """A signal was forwarded, as *sent*."""

    EVENT = "forwarded"
    signum: int
    sent: int


class Dropped(OfASignal):
    """A signal was not forwarded: because of signal_map, because nothing is left to receive it, or
    because it requests a restart during a stop."""

    EVENT = "dropped"
    signum: int


class Spared(OfASignal):
    """A signal was not forwarded to *programs*, which have no handler for it."""

    EVENT = "spared"
    signum: int
    programs: tuple[int, ...]


class SignalSent(OfASignal):
    """The program was sent a signal because *by* asked for it."""

    EVENT = "signal_sent"
    program: int
    signum: int
    by: str


class StopSignal(OfASignal):
    """The stop signal was sent; *to*: "leader" or "group"."""

    EVENT = "stop_signal"
    program: int
    signum: int
    to: str


class ToMembers(OfASignal):
    """Base of events about *members*, processes that are not the leader: their names and pids.

    *parent*: what they are below of, likewise; None: it has gone.
    """

    program: int
    signum: int = 0
    members: tuple[tuple[str, int], ...] = ()
    parent: tuple[str, int] | None = None


class StopSignalIgnored(ToMembers):
    """*parent* ignores the stop signal; *members* were sent it."""

    EVENT = "stop_signal_ignored"


class ShellWaits(ToMembers):
    """*parent* is a shell, which waits for its command and passes nothing on until that exits:
    *members* were sent the stop signal."""

    EVENT = "shell_waits"


class LastCall(ToMembers):
    """*parent* is still running and may not have passed the stop signal on to *members*: they were
    sent it."""

    EVENT = "last_call"


class Leftover(ToMembers):
    """The parent of *members* has gone; they were sent the stop signal (*signum*).

    0: they have had it, or get none.
    """

    EVENT = "leftover"


class LeftoverWaits(ToMembers):
    """The leader is gone, and *members* may already have the stop signal, from it or from the
    terminal; those still running *after* seconds are sent it."""

    EVENT = "leftover_waits"
    after: float = 0.0


class Rung(OfASignal):
    """The next signal of escalation was sent; *why*: the reason."""

    EVENT = "rung"
    program: int
    signum: int
    why: str


class WatchdogAbort(OfASignal):
    """The program was sent SIGABRT for a missed watchdog, and has *remaining* seconds to end."""

    EVENT = "watchdog_abort"
    program: int
    signum: int
    remaining: float


class FailedStop(OfASignal):
    """The program, which has failed its health check, was sent the stop signal; it has *remaining*
    seconds to end."""

    EVENT = "failed_stop"
    program: int
    signum: int
    remaining: float


class Kill(OfASignal):
    """All of the program was sent SIGKILL; *leader*: its leader was still there.

    If *left* seconds of the budget are left: *limit* is the setting that gave it less time, else
    they are kept for the programs *kept_for*; for neither: for hooks and metrics.
    """

    EVENT = "kill"
    program: int
    why: str
    leader: bool
    left: float = 0.0
    limit: str = ""
    kept_for: tuple[int, ...] = ()


class DumpSignal(OfASignal):
    """The stop of the program takes long, and *members* were sent the signal that makes them dump
    what they are doing."""

    EVENT = "dump_signal"
    program: int
    signum: int
    members: tuple[tuple[str, int], ...]


class GaveUp(OfASignal):
    """Processes of the program, *members* if they are known, are still there *after* seconds of
    SIGKILL; gracewrap no longer waits for them."""

    EVENT = "gave_up"
    program: int
    after: float


# The drain, and hooks.


class DrainRequested(OfTheDrain):
    """All programs should take no new work."""

    EVENT = "drain_requested"


class UndrainRequested(OfTheDrain):
    """All programs should take new work again."""

    EVENT = "undrain_requested"


class DrainStart(OfTheDrain):
    """The action that tells the program to take no new work runs."""

    EVENT = "drain_start"
    program: int


class Draining(OfTheDrain):
    """The probes are being asked; *stopping*: the stop signal follows once they report drained."""

    EVENT = "draining"
    program: int
    stopping: bool


class Drained(OfTheDrain):
    """The probes say that the program is drained, *after* seconds."""

    EVENT = "drained"
    program: int
    after: float


class MayBeAtWork(OfTheDrain):
    """No request is in flight, but *work* shows that the program may still be at work: it is not
    ended early until that changes."""

    EVENT = "may_be_at_work"
    program: int
    work: str


class KeptAlive(OfTheDrain):
    """That many connections are kept open by their clients, which keep sending requests."""

    EVENT = "kept_alive"
    program: int
    connections: int


class GoodMoment(OfTheDrain):
    """Clients keep sending, so the stop signal is sent at a moment with as few requests in flight
    as possible; *after* seconds of the drain."""

    EVENT = "good_moment"
    program: int
    in_flight: float
    after: float


class Undrained(OfTheDrain):
    """A probe says that the program, which was drained, is busy again."""

    EVENT = "undrained"
    program: int
    probe: int
    in_flight: float | None
    why: str


class DrainFailed(OfTheDrain):
    """A probe has failed for good; the drain is over."""

    EVENT = "drain_failed"
    program: int
    probe: int
    why: str


class AgentsSilent(OfTheDrain):
    """Agents have not answered that they know of the stop, and are waited for no longer."""

    EVENT = "agents_silent"
    program: int


class DrainTimeout(OfTheDrain):
    """The program is not drained *after* the seconds of drain.timeout."""

    EVENT = "drain_timeout"
    program: int
    after: float
    in_flight: float | None


class ProbeInvalid(OfTheDrain):
    """A probe got an answer that it cannot use."""

    EVENT = "probe_invalid"
    program: int
    probe: int
    why: str


class HelperEnded(OfTheDrain):
    """A hook, or the push of metrics, has ended; *why* it failed."""

    EVENT = "helper_ended"
    program: int
    hook: str
    ok: bool
    why: str


# Programs that start and end.


class CommandReady(OfAProgram):
    """The one command, which is not managed, is ready *after* seconds."""

    EVENT = "ready"
    program: int
    after: float


class ProgramReady(OfAProgram):
    """A managed program is ready, *after* seconds."""

    EVENT = "program_ready"
    program: int
    after: float


class Unready(OfAProgram):
    """The program, which was ready, no longer is."""

    EVENT = "unready"
    program: int
    why: str


class ReadyAgain(OfAProgram):
    """The program is ready again, *after* seconds in which it was not."""

    EVENT = "ready_again"
    program: int
    after: float


class Unhealthy(OfAProgram):
    """The program has failed its live check.

    *then* says what follows: "restart", "shutdown", "ignore" (it is stopped and stays stopped) or
    "tell" (nothing).
    """

    EVENT = "unhealthy"
    program: int
    why: str
    then: str


class HealthyAgain(OfAProgram):
    """The program, which was reported as not healthy and left running, is healthy again, *after*
    seconds."""

    EVENT = "healthy_again"
    program: int
    after: float


class NotReadyInTime(OfAProgram):
    """The program is not ready *after* the seconds of ready_timeout.

    *then* says what follows: "shutdown", "restart" or "ignore" (it is stopped and stays stopped).
    """

    EVENT = "not_ready_in_time"
    program: int
    after: float
    why: str
    then: str


class LeaderExited(OfAProgram):
    """The leader has been reaped; *left*: other processes of the program are still running.

    *asked*: it had been told to stop.  If not, *then* says what follows: "shutdown", "restart" or
    "ignore".
    """

    EVENT = "leader_exited"
    program: int
    status: int
    signum: int
    left: bool
    asked: bool
    then: str = ""


class StartFailed(OfAProgram):
    """The program could not be started; *then* as of LeaderExited."""

    EVENT = "start_failed"
    program: int
    status: int
    why: str
    then: str = ""


class ProgramEnded(OfAProgram):
    """The program is gone and will not be restarted; the others keep running."""

    EVENT = "program_ended"
    program: int
    status: int


class Restarts(OfAProgram):
    """The program will be restarted in *after* seconds, for the n-th time *in_a_row*."""

    EVENT = "restarts"
    program: int
    status: int
    after: float
    in_a_row: int


class Watchdog(OfAProgram):
    """The program has missed its watchdog; *after* as of model.WatchdogMissed."""

    EVENT = "watchdog"
    program: int
    after: float


class HeldUp(OfAProgram):
    """The stop of the program takes long, and *cause* says what holds it up, as *evidence* has it;
    *moment*: at "half" of its time, or at the "last" moment before SIGKILL."""

    EVENT = "held_up"
    program: int
    moment: str
    cause: Cause
    evidence: Evidence


# For mypy alone, for making unions takes time: it finds out which kind a match has forgotten.
if TYPE_CHECKING:
    StopEvent = (
        StopRequested
        | AskedAgain
        | StopWaits
        | Serving
        | HeldTooLong
        | Extended
        | AllEnded
        | PartRequested
        | PartRefused
        | PartStopped
        | RollingRestart
        | Unsent
        | TimeGap
        | CpuWait
    )
    SignalEvent = (
        Forwarded
        | Dropped
        | Spared
        | SignalSent
        | StopSignal
        | StopSignalIgnored
        | ShellWaits
        | LastCall
        | Leftover
        | LeftoverWaits
        | Rung
        | WatchdogAbort
        | FailedStop
        | Kill
        | DumpSignal
        | GaveUp
    )
    DrainEvent = (
        DrainRequested
        | UndrainRequested
        | DrainStart
        | Draining
        | Drained
        | MayBeAtWork
        | KeptAlive
        | GoodMoment
        | Undrained
        | DrainFailed
        | AgentsSilent
        | DrainTimeout
        | ProbeInvalid
        | HelperEnded
    )
    ProgramEvent = (
        CommandReady
        | ProgramReady
        | Unready
        | ReadyAgain
        | NotReadyInTime
        | Unhealthy
        | HealthyAgain
        | LeaderExited
        | StartFailed
        | ProgramEnded
        | Restarts
        | Watchdog
        | HeldUp
    )
    PartEvent = PartRequested | PartRefused | PartStopped
    LogEvent = StopEvent | SignalEvent | DrainEvent | ProgramEvent
