"""What the policy is told (Policy), what happens (events) and what it answers (commands).

Times are seconds on a monotonic clock, given by the caller.  A program is named by its index in
Policy.programs.
"""

from __future__ import annotations

from gracewrap.record import TYPE_CHECKING, Record

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from gracewrap.policy.held_up_evidence import Evidence
    from gracewrap.policy.log_events import LogEvent

# The same on every Linux architecture that Python runs on (signal(7)).
SIGINT, SIGABRT, SIGKILL, SIGCONT = 2, 6, 9, 18
SIGTSTP, SIGTTIN, SIGTTOU = 20, 21, 22


# What a sample of a probe can say.
DRAINED, BUSY, UNREACHABLE, INVALID, FAILED = "drained", "busy", "unreachable", "invalid", "failed"


# What Reading.work says while it is not known.
NOT_YET = "it has not been watched for long enough"


class QueueJobs(Record):
    """The jobs of one queue that a program works on; *ids* may hold fewer than there are."""

    queue: str
    active: int
    ids: tuple[str, ...] = ()


class AgentCounts(Record):
    """What the agents in a program count.  Streams are part of the requests; WebSockets are not.

    *waits* are none of what clients have sent: queries and requests of the program itself that have
    had no answer yet, and its children, all begun since the stop.  *finished* are the requests that
    have ended since then.
    """

    requests: int = 0
    streams: int = 0
    websockets: int = 0
    jobs: tuple[QueueJobs, ...] = ()
    waits: int = 0
    finished: int = 0

    @property
    def in_flight(self) -> int:
        """How many requests and jobs there are."""
        return self.requests + sum(queue.active for queue in self.jobs)


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
    # Of a probe that sees requests only: what shows that the program may be at work although none
    # is in flight; "": nothing does.
    work: str = ""
    open: str = ""  # what is still open then, for people
    streams: int = 0  # connections that carry a stream, of which *idle_streams* are silent
    idle_streams: int = 0
    senders: int = (
        0  # connections that are kept open by their clients, which go on sending requests
    )
    unsure: int = 0  # connections of which it cannot be told yet whether a request is in flight
    not_accepted: int = 0  # connections with a request that wait for the program to accept them
    only_streams: bool = False  # BUSY, because of streams that move, and of nothing else
    counts: AgentCounts | None = None  # of a probe that asks agents
    refused: bool = False  # UNREACHABLE, for nobody listens there
    # False: nobody could be asked, for we had no process, memory or descriptor for it.
    asked: bool = True


def put_together(works: Iterable[str]) -> str:
    """Return what several have seen of work, once each; NOT_YET only if nobody has seen any."""
    shown = dict.fromkeys(filter(None, works))
    return "; ".join(work for work in shown if work != NOT_YET) or "".join(shown)


def in_words(streams: int, idle: int) -> str:
    """Return how many streams there are, for people: "streams open: 3 (2 idle)"."""
    return f"streams open: {streams}" + (f" ({idle} idle)" if idle else "")


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
    # How long streams are waited for, from the beginning of the drain on, idle ones too (infinite:
    # as long as there is time); None: as long as they move.
    streams: float | None = None
    requests_only: bool = False  # the verdict may rest on probes that see nothing but requests
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
        # seconds of the budget that are kept for its stop; None: stop_timeout, else a little
        None
    )
    # something tells when it is ready (ProgramReady, ProgramUnready); else it is as soon as it is
    # started
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
    signal_map: Mapping[int, int] = {}  # before that of the Policy
    on_watchdog: str = "stop"  # or "ignore": a missed watchdog is only logged
    readyz: bool = True  # False: it may be not ready, and for those who ask all are
    # something tells when it is not healthy (ProgramUnhealthy), and healthy again
    live: bool = False
    on_unhealthy: str = "restart"  # or "stop": all; or "tell": it is only logged
    # it has an agent in it, which is told of a stop before the stop signal, and answers
    agent: bool = False
    # what makes it write what it is doing, when its stop takes long; 0: nothing
    dump_signal: int = 0


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


# By the name of the process, or of its file.
SHELLS = frozenset(("sh", "bash", "dash", "ash", "ksh", "ksh93", "mksh", "zsh", "busybox"))
# What a process does on a signal.
DEFAULT, IGNORES, CATCHES = "default", "ignores", "catches"


class Process(Record):
    """One living process of a program, as it was seen.

    Attributes:
        pid: Its number.
        started: When, in clock ticks after boot: tells it from a later one with the same number.
        parent: Its parent's number.
        group: Its process group.
        name: Its name in the kernel, of 15 bytes at most.
        takes: What it does on the stop signal: DEFAULT, IGNORES or CATCHES.
        catches_int: It catches SIGINT.
        pending: The stop signal waits for it.
        shell: It is a shell, or a script of one.
        background: It ignores SIGQUIT: a shell has started it with `&`.
        forked: It runs the program of its parent, as prefork workers do.
        switches: How often its main thread has been switched away from.
        asleep: Its main thread sleeps, and would be woken by the stop signal.
        reads: The pipe that is its stdin, if one is.
        writes: The pipes that are its stdout and stderr.
        listens: It has a socket that listens.
        has_sockets: It has internet sockets.
        unheard: An agent in it says that the stop signal has not come.
    """

    pid: int
    started: int
    parent: int
    group: int = 0
    name: str = ""
    takes: str = DEFAULT
    catches_int: bool = False
    pending: bool = False
    shell: bool = False
    background: bool = False
    forked: bool = False
    switches: int = 0
    asleep: bool = False
    reads: str = ""
    writes: tuple[str, ...] = ()
    listens: bool = False
    has_sockets: bool = False
    unheard: bool = False

    @property
    def id(self) -> tuple[int, int]:
        return self.pid, self.started

    @property
    def catches(self) -> bool:
        return self.takes == CATCHES


class Watch(Record):
    """What is known of a program's processes since its leader was sent the stop signal: of it
    stop_signal_recipients.py decides who else is.

    Attributes:
        since: When that was, or when the leader exited if it was sent none.
        signum: The stop signal.
        leader: The leader, while it is there.
        signalled: Whether the leader was sent the stop signal.
        before: What there was just before that.
        sent: Whom we have sent it, and when.
        logged: Of what a line is not repeated: the kind of it, and the parent.
        terminal: The foreground group of a terminal, which may have had its SIGINT; 0: none.
        look_at: When to look again; None: not before something exits.
        hurry: Whoever waits is sent it with the next look.
        hurried: That was so before: what is born later is not waited for.
        waiting: Somebody may have had it, and is sent it later.
        leader_gone: What it has left behind has been logged.
        cost: How long a look takes, about.
    """

    since: float
    signum: int
    leader: tuple[int, int] | None = None
    signalled: bool = True
    before: Mapping[tuple[int, int], Process] = {}
    sent: Mapping[tuple[int, int], float] = {}
    logged: frozenset[tuple[str, object]] = frozenset()
    terminal: int = 0
    look_at: float | None = None
    hurry: bool = False
    hurried: bool = False
    waiting: bool = False
    leader_gone: bool = False
    cost: float = 0.0


# Events: what happened.


class SignalReceived(Record):
    """A signal arrived at gracewrap itself; it would end the programs *unhandled*, which have no
    handler for it."""

    signum: int
    at: float
    unhandled: frozenset[int] = frozenset()


class StopRequested(Record):
    """A stop was asked for by other means than a signal: *by* says whose or what.  *failure*: it is
    because something failed."""

    by: str
    at: float
    failure: bool = False


class ProgramSignalRequested(Record):
    """A program is to be sent a signal, because *by* asks for it."""

    program: int
    signum: int
    by: str
    at: float


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


class AgentsTold(Record):
    """TellAgents has been carried out, and every agent of the program has answered; one of them
    *finishes* what has begun when the stop signal comes."""

    program: int
    at: float
    finishes: bool = False


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


class ProgramUnready(Record):
    """The ready probes of a program that was ready fail, so often in a row that it counts; *why*
    says what is wrong."""

    program: int
    why: str
    at: float


class ProgramUnhealthy(Record):
    """The live probes of a program that was healthy fail, so often in a row that it counts; *why*
    says what is wrong."""

    program: int
    why: str
    at: float


class ProgramHealthy(Record):
    """They pass again."""

    program: int
    at: float


class NotReadyInTime(Record):
    """The ready probes of a program have not passed within ready_timeout."""

    program: int
    why: str
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
    # The foreground group of a terminal, which may have had its SIGINT (Ctrl-C); 0: there is none.
    terminal: int = 0


class ProgramGone(Record):
    """The leader had been reaped before, and now nothing is left of the program."""

    program: int
    at: float


class TreeSeen(Record):
    """The living processes of a program (Look), parents before their children.

    Attributes:
        program: Whose.
        processes: What was seen of them.
        at: When.
        before: It was just before the leader was sent the stop signal, as were those *signalled*.
        leader: The leader, or the process that stands for it.
        signalled: See *before*.
    """

    program: int
    processes: tuple[Process, ...]
    at: float
    before: bool = False
    leader: tuple[int, int] | None = None
    signalled: frozenset[tuple[int, int]] = frozenset()


class MemberEnded(Record):
    """A process of a program that is being stopped has been reaped, and was not its leader."""

    program: int
    at: float


class Examined(Record):
    """The program has been looked at (Examine): *moment* says which look it was."""

    program: int
    moment: str
    evidence: Evidence
    at: float


class KilledSeen(Record):
    """KillProgram has been carried out once more.  *busy*: there was something left, and all of it
    can run: it has not had a CPU to end on."""

    program: int
    busy: bool
    at: float


class UnsentCounted(Record):
    """The kernel still holds unsent bytes on this many connections that nobody owns any more."""

    connections: int
    at: float


class TimeGap(Record):
    """gracewrap was not running for *seconds*: it was woken so much later than it had asked for.
    *busy*: it could run, and waited for a CPU."""

    seconds: float
    at: float
    busy: bool = False


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


class SendTo(Record):
    """Send processes of the program, by pid and start time, the stop signal."""

    program: int
    targets: tuple[tuple[int, int], ...]
    signum: int


class Look(Record):
    """Look at the living processes of the program; TreeSeen answers."""

    program: int


class Examine(Record):
    """Find out what holds the program up, in looks.LIMIT seconds; Examined answers.

    *moment*: looks.HALF or looks.LAST.
    """

    program: int
    moment: str


class SendDump(Record):
    """Send processes of the program, by pid and start time, what makes them write what they are
    doing."""

    program: int
    targets: tuple[tuple[int, int], ...]
    signum: int


class KillProgram(Record):
    """SIGKILL everything that is left of the program; KilledSeen may answer."""

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


class StopChecks(Record):
    """Ask no more whether a program is ready and healthy, until it is started again; there is no
    answer."""

    program: int


class RestartWatchdog(Record):
    """Let the program's watchdog count again, from now on."""

    program: int


class ExcuseWatchdog(Record):
    """If the program's watchdog counts, let it count anew from now on."""

    program: int


class ShiftTimers(Record):
    """Make all that is due by a timer (limits of probes, hooks) due so many seconds later."""

    seconds: float


class TellAgents(Record):
    """Tell the agents in a program to take no new work (*what*: "drain"), to take some again
    ("undrain"), or that the stop signal comes next and SIGKILL at *kill_at* ("stop").

    AgentsTold answers a "stop".
    """

    program: int
    what: str
    kill_at: float


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
        | ProgramSignalRequested
        | DrainRequested
        | UndrainRequested
        | Sampled
        | HelperEnded
        | AgentsTold
        | TimeExtended
        | WatchdogMissed
        | ProgramStarted
        | ProgramReady
        | ProgramUnready
        | NotReadyInTime
        | ProgramUnhealthy
        | ProgramHealthy
        | StartFailed
        | PartRequested
        | RollingRestartRequested
        | LeaderExited
        | ProgramGone
        | TreeSeen
        | MemberEnded
        | Examined
        | KilledSeen
        | UnsentCounted
        | TimeGap
        | Tick
    )
    Command = (
        StartProgram
        | SendLeader
        | SendGroup
        | SendTo
        | Look
        | Examine
        | SendDump
        | KillProgram
        | RunHelper
        | StopHelper
        | Ask
        | StopAsking
        | StopChecks
        | RestartWatchdog
        | ExcuseWatchdog
        | ShiftTimers
        | TellAgents
        | CountUnsent
        | Exit
        | LogEvent
    )
else:
    Event = Command = Record
