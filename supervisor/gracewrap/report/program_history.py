"""What happened to one program since its last start; its log lines, summary and report use it."""

from __future__ import annotations

from gracewrap.linux import process_tree, signal_and_kill, signals
from gracewrap.policy import log_events
from gracewrap.policy.program_phases import EARLY, KILLED, NO_REQUEST
from gracewrap.record import TYPE_CHECKING, Record, assert_never
from gracewrap.report import runtime_events
from gracewrap.report.in_flight import InFlight, number
from gracewrap.report.wording import outcome, signal_name

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from gracewrap.policy.model import AgentCounts, QueueJobs
    from gracewrap.report.held_up import HeldUp
    from gracewrap.report.probe_events import AgentUnseen, ProbeEvent

AT_ONCE = 0.1  # seconds; a signal handler that finishes anything takes longer
# What a script starts only to wait, to pass on what others write, or to start others: nothing of
# its own is lost.
IDLERS = (
    *("sh", "bash", "dash", "ash", "ksh", "zsh", "sleep", "tail", "cat", "tee"),
    *("xargs", "time", "watch", "flock", "setsid", "unbuffer", "cron"),
)

MOST_LOOKS = 3  # that are kept for the report

# How a program can have ended, the worst first.
OUTCOMES = (
    "not_started",
    "gave_up",
    "killed",
    "ended_by_other_signal",
    "interrupted",
    "drained",
    "ended_by_signal",
    "graceful",
    "exited",
    "skipped",
)


class LeaderExit(Record):
    """How a leader ended; *asked*: it had been told to stop; *killed*: SIGKILL had been sent."""

    status: int
    signum: int
    asked: bool
    at: float
    killed: bool


class LeftLost(Record):
    """A process that was left behind and ended at once by the stop signal, *signum*; *caught*: it
    had something to run on it, which may be its runtime's own."""

    name: str
    pid: int
    caught: bool
    signum: int


class PassedOn(Record):
    """A signal that was sent for somebody else at *at*: one that was *received*, or that *by* asked
    for."""

    received: int
    at: float
    by: str = ""


class HookRun(Record):
    """A hook that was started at *at*; *seconds* is None while it runs."""

    at: float
    ok: bool = False
    why: str = ""
    seconds: float | None = None


class LastWords:
    """What agents have said of processes that ended with work in flight."""

    def __init__(self) -> None:
        self.cut = 0  # requests and jobs
        self.exception = ""  # that ended such a process: its kind
        self.unseen: list[AgentUnseen] = []  # those that had not been able to say so at the end


class ProgramHistory:
    """One program's history; times are on the loop's monotonic clock."""

    def __init__(self, name: str, command: Sequence[str]) -> None:
        self.name = name  # "": the one command
        self.command = list(command)
        self.pid = 0  # 0: it has not been started
        self.started = 0.0
        self.restarts = 0
        self.in_a_row = 0  # restarts since it was last stable
        self.last_status: int | None = None  # before the last restart
        self.in_flight = InFlight(())
        self.oneshot = False
        self.preset = ""  # that its settings are taken from
        self.without_agent = False  # though its settings ask for one
        self.interrupted: float | None = None  # in flight when it was killed, over all starts
        self.members = ""  # what is left of it, or was sent a signal just now
        self.find: Callable[[], Sequence[process_tree.Member]] = process_tree.descendants
        self._ran = False
        self._forget()

    def _forget(self) -> None:
        """Reset what is known of how it ends."""
        self.leader: LeaderExit | None = None
        self.killed: list[str] = []
        self.leftover = ""
        self.left_told: dict[int, tuple[str, int, float]] = {}  # by pid: its name, what, when
        self.left_lost: LeftLost | None = None  # of those, who was ended by it at once
        self.catching: set[int] = set()  # who had something to run on the stop signal
        self.sent: list[str] = []
        self.aborted = False  # it was ended for a missed watchdog or a failed health check
        self.gave_up = False
        self.still_there = ""  # what could not be killed
        self.not_started = ""  # why not
        self.not_started_status = KILLED
        self.gave_in = False  # the stop signal was sent although it was not drained
        self.early = False  # it was killed because it was drained, and for no other reason
        self.kill_why = ""
        self.unusable = ""  # what was wrong with its probes when it was killed
        self.streams = (0, 0)  # open, and of those idle, when it ended or was killed
        # Connections with a request that waited to be accepted, and how long before its exit.
        self.not_accepted = (0, 0.0)
        self.still_open = ""  # what it was connected to when it was killed early
        self.passed_on: dict[int, PassedOn] = {}  # by the signal sent
        self.refused = ""  # why it may not be signalled, if the last signal was refused
        self.ignores = False  # its leader ignores the stop signal
        self.unreached: set[int] = set()  # who was gone when it was to be sent the stop signal
        self.untold = ""  # who was killed without having been sent the stop signal
        self.cut: float | None = None  # in flight when it was killed, if that is known
        self.cut_before = self.interrupted
        self.finished = 0  # requests that have ended since the stop, as agents count them
        self.cut_jobs: tuple[QueueJobs, ...] = ()  # those in it that an agent has named
        self.last_words = LastWords()
        self.drained_after: float | None = None  # seconds from the request for a stop or a drain
        self.drain_began: float | None = None
        self.drains_to_stop = False  # and not because of `gracewrap drain`
        self.ready_after: float | None = None
        self.told_at: float | None = None  # when its stop signal was sent
        self.caught = False  # the leader had something to run on it then; a runtime's own, perhaps
        self.handles: bool | None = None  # that is the application's own, by what its agents say
        # Processes whose agents had not answered when it was signalled, and for how many seconds.
        self.silent: Sequence[tuple[int, float]] = ()
        self.watched_from = 0.0  # its end cannot be observed before this time
        self.gone_at: float | None = None
        self.hooks: dict[str, HookRun] = {}
        self.held_up: list[HeldUp] = []  # what the looks have shown while it was being stopped

    def begins_again(self, pid: int, at: float) -> None:
        """Record a start, the first one or another."""
        self.pid, self.started = pid, at
        if self._ran:
            self.last_status = self.status()
            self.restarts += 1
            self._forget()
            self.in_flight.forget()
        self._ran, self.not_started = True, ""

    @property
    def label(self) -> str:
        """Its name: the one it was given, else that of its command."""
        return self.name or self.command[0].rpartition("/")[2] or self.command[0]

    @property
    def who(self) -> str:
        """The leader, for people: its name and pid."""
        return f"{self.label} (pid {self.pid})" if self.pid else self.label

    @property
    def is_there(self) -> bool:
        """Whether it has been started, and something of it may be left."""
        return self._ran and self.gone_at is None and not self.not_started

    def name_of(self, process: tuple[str, int] | None) -> str:
        """Return the name of a process and its pid; of the leader, as it is named elsewhere."""
        if process is None or process[1] == self.pid:
            return self.who
        return name_processes([process])

    def reached(self, members: Sequence[tuple[str, int]]) -> str:
        """Return names and pids of those that were there when they were sent the stop signal."""
        return name_processes([one for one in members if one[1] not in self.unreached])

    def members_now(self) -> str:
        """Return its processes, for people."""
        return name_members(self.find())

    # --- what happens ----------------------------------------------------------------------------

    def take(
        self,
        event: log_events.LogEvent | runtime_events.RuntimeEvent | ProbeEvent,
        at: float,
        since: float | None,
    ) -> None:
        """Take in an event, of this program or of no single one; a stop began at *since*."""
        if isinstance(event, log_events.OfASignal):
            self._take_signal(event, at)
        elif isinstance(event, log_events.OfTheDrain):
            self._take_drain(event, at, since)
        elif isinstance(event, log_events.OfAProgram):
            self._take_end(event, at, since)
        elif isinstance(event, log_events.OfTheStop):
            if isinstance(event, log_events.StopRequested | log_events.Serving):
                self.in_flight.forget()  # what was seen before is not so any more
            self.gave_in = self.gave_in or isinstance(event, log_events.HeldTooLong)
        elif isinstance(event, runtime_events.OfAProcess):
            self._take_life(event, at)
        elif isinstance(event, runtime_events.OfAProbe):
            from gracewrap.report import probe_events  # loaded: there are probes

            if isinstance(event, probe_events.HookStarted):
                self.hooks[event.hook] = HookRun(at)
            elif isinstance(event, probe_events.AgentExited):
                self._ended_with(event.counts)
                self.last_words.exception = self.last_words.exception or event.exception
            elif isinstance(event, probe_events.AgentUnseen):
                self._ended_with(event.counts)
                self.last_words.unseen.append(event)
            elif isinstance(event, probe_events.AgentsAnswered):
                self.silent = ()
                mixed = event.own and (event.agent or event.none)
                self.handles = None if mixed else event.own > 0
        elif isinstance(event, runtime_events.OfTheRun):
            pass
        else:
            assert_never(event)

    def _take_signal(self, event: log_events.SignalEvent, at: float) -> None:
        self.refused = (
            signal_and_kill.why_refused(self.pid) if self.pid in signal_and_kill.REFUSED else ""
        )
        match event:
            case log_events.StopSignal(_, signum):
                self.told_at = at if self.told_at is None else self.told_at
                self.silent = self.in_flight.silent(at)
                if self.drain_began is None or not self.drains_to_stop:
                    self.drain_begins(at)  # anew, if it was told to drain before
                self._was_sent(signum)
            case log_events.Rung(_, signum):
                self._was_sent(signum)
            case log_events.WatchdogAbort(_, signum) | log_events.FailedStop(_, signum):
                self.aborted = True
                self._was_sent(signum)
            case log_events.StopSignalIgnored():
                self.ignores = True
            case log_events.Leftover() | log_events.LeftoverWaits():
                self.members = self.reached(event.members) or self.members_now()
                left = name_members([one for one in self.find() if one.pid != self.pid])
                self.leftover = self.leftover or left or self.members
                if isinstance(event, log_events.Leftover) and event.signum:
                    told = [one for one in event.members if one[1] not in self.unreached]
                    self.left_told |= {pid: (who, event.signum, at) for who, pid in told}
            case log_events.Kill(_, why):
                self.early = why in (EARLY, NO_REQUEST) and not self.killed
                self.still_open = self.in_flight.still_open() if why == NO_REQUEST else ""
                self.kill_why = self.kill_why or why
                self.killed.append(self.members or self.who)
                self._cut_by_sigkill(at)
            case log_events.GaveUp():
                self.gave_up, self.still_there = True, self.members
            case log_events.SignalSent(_, signum, by):
                self.passed_on[signum] = PassedOn(signum, at, by)
            case log_events.LastCall() | log_events.ShellWaits() | log_events.DumpSignal():
                pass
            case log_events.Forwarded() | log_events.Dropped():
                pass
            case log_events.Spared():
                pass
            case _:
                assert_never(event)

    def left_ended(self, pid: int, signum: int, at: float) -> None:
        """Record the end of a process whose parent had gone before."""
        name, told, told_at = self.left_told.pop(pid, ("", 0, 0.0))
        at_once = told and signum == told and at - max(told_at, self.watched_from) < AT_ONCE
        if self.handles or self.drained_after is not None or self.killed:
            return
        if at_once and name not in IDLERS:
            self.left_lost = self.left_lost or LeftLost(name, pid, pid in self.catching, told)

    def _was_sent(self, signum: int) -> None:
        if not self.refused:
            self.sent.append(signals.name(signum))

    def _take_drain(self, event: log_events.DrainEvent, at: float, since: float | None) -> None:
        match event:
            case log_events.Draining(_, stopping):
                self.drain_begins(at)
                self.drains_to_stop = stopping
            case log_events.Drained():
                began = since if since is not None else self.drain_began
                self.drained_after = None if began is None else at - began
            case log_events.Undrained():
                self.drained_after = None
            case log_events.DrainTimeout():
                self.gave_in = True
            case log_events.HelperEnded(_, hook, ok, why):
                began = self.hooks[hook].at if hook in self.hooks else at
                self.hooks[hook] = HookRun(began, ok, why, at - began)
            case log_events.DrainRequested():
                self.in_flight.forget()
            case log_events.UndrainRequested():
                self.drain_began = self.drained_after = None
            case log_events.GoodMoment():
                self.gave_in = True
            case log_events.AgentsSilent():
                self.silent = self.in_flight.unanswered(at)
            case log_events.MayBeAtWork() | log_events.KeptAlive():
                pass
            case log_events.DrainStart() | log_events.DrainFailed() | log_events.ProbeInvalid():
                pass
            case _:
                assert_never(event)

    def _take_end(self, event: log_events.ProgramEvent, at: float, since: float | None) -> None:
        match event:
            case log_events.CommandReady(_, after) | log_events.ProgramReady(_, after):
                self.ready_after = after
            case log_events.LeaderExited(_, status, signum, _, asked):
                self.leader = LeaderExit(status, signum, asked, at, bool(self.killed))
                if asked and not self.killed:
                    self.streams = self.in_flight.streams()
                    self.not_accepted = self.in_flight.not_accepted(at)
                if self.gave_in and self.ended_by_stop_signal():
                    self._cut()
            case log_events.StartFailed(_, status, why):
                self.pid, self.leader = 0, None
                self.not_started, self.not_started_status = why, status
            case log_events.Restarts(_, _, _, in_a_row):
                self.in_a_row = in_a_row
            case log_events.HeldUp(_, moment, cause, evidence):
                from gracewrap.report.held_up import HeldUp

                began = since if since is not None else self.told_at
                after = 0.0 if began is None else at - began
                self.held_up.append(HeldUp(moment, after, cause, evidence))
                del self.held_up[:-MOST_LOOKS]
            case log_events.ProgramEnded() | log_events.Watchdog():
                pass
            case log_events.Unready() | log_events.ReadyAgain() | log_events.NotReadyInTime():
                pass
            case log_events.Unhealthy() | log_events.HealthyAgain():
                pass
            case _:
                assert_never(event)

    def _take_life(self, event: runtime_events.LifeEvent, at: float) -> None:
        match event:
            case runtime_events.CannotRun(_, why, status):
                self.not_started, self.not_started_status = why, status
            case runtime_events.ProgramGone():
                self.gone_at = at
            case runtime_events.LeaderReplaced(_, _, main):
                self.pid = main
            case runtime_events.Started() | runtime_events.ChildStopped() | runtime_events.Reaped():
                pass
            case _:
                assert_never(event)

    def drain_begins(self, at: float) -> None:
        """Record that it is to take no new work from now on."""
        self.drain_began, self.drained_after = at, None
        self.in_flight.count_anew()

    def _cut(self) -> None:
        """Record what is in flight, as far as that is known, as not finished."""
        in_flight = self.in_flight.total(at_the_end=True)
        if in_flight is not None and self.drain_began is not None:
            self.cut = in_flight if self.cut is None else max(self.cut, in_flight)
            self.interrupted = self.cut + (self.cut_before or 0)
            self.cut_jobs = self.in_flight.jobs()

    def _cut_by_sigkill(self, at: float) -> None:
        """Record all that is known of what it does when it is killed."""
        self._cut()
        self.unusable = self.in_flight.unusable(at)
        self.streams = self.in_flight.streams()
        self.silent = self.in_flight.silent(at)

    def _ended_with(self, counts: AgentCounts) -> None:
        """Record what was in flight in a process when it ended: several may."""
        self.last_words.cut += counts.in_flight - counts.streams
        self.cut = max(self.cut or 0, self.last_words.cut)
        self.interrupted = self.cut + (self.cut_before or 0)
        self.cut_jobs += tuple(one for one in counts.jobs if one not in self.cut_jobs)

    # --- how it ended ----------------------------------------------------------------------------

    def outcome(self) -> str:
        """Return in one word how it ended.

        not_started, exited (it was not told to stop), graceful, ended_by_signal (a command without
        a handler for the stop signal, or what it left behind, loses its work; some end so after a
        good stop), interrupted (it exited by itself with work in flight, or a process of it was
        killed by others with some), drained (its
        work was done, as far as could be seen, it did not exit, and was killed early), killed (it,
        or something it left behind), ended_by_other_signal (none of the stop: out of memory, or a
        crash), gave_up (something is still there), skipped (the stop came
        before its start).
        """
        if self.not_started:
            return "not_started"
        if self.gave_up:
            return "gave_up"
        if self.killed:
            return "drained" if self.early else "killed"
        if self.leader is None:
            return "skipped"
        if not self.leader.asked:
            return "exited"
        if self.leader.signum and not self.ended_by_us():
            return "ended_by_other_signal"
        alone = self.ended_by_stop_signal() and not self.leftover
        cut_by_handler = self.handles and self.cut  # one that ends by the signal, sent to itself
        if (alone or self.left_lost) and not cut_by_handler:
            return "ended_by_signal"
        return "interrupted" if self.cut else "graceful"

    def exited_too_soon(self) -> bool:
        """Return whether it exited with work in flight although nobody hurried it: the stop signal
        was not held back until it was drained."""
        return self.outcome() == "interrupted" and not self.gave_in and self.drained_after is None

    def ended_by_stop_signal(self) -> bool:
        """Return whether its leader was ended by a signal, other than SIGKILL, that we had sent."""
        return self.leader is not None and signal_name(self.leader.signum) in self.sent

    def ended_by_us(self) -> bool:
        """Return whether its leader was ended by a signal of ours, or by SIGKILL when we sent
        that."""
        killed = self.leader is not None and self.leader.signum == 9 and self.leader.killed
        return killed or self.ended_by_stop_signal()

    def killed_by_others(self) -> bool:
        """Return whether its leader was ended by a SIGKILL that gracewrap has not sent."""
        killed = self.leader is not None and self.leader.signum == 9
        return killed and not self.ended_by_us() and 9 not in self.passed_on

    def had_no_handler(self) -> bool:
        """Return whether a stop signal ended it sooner than anything that handles one, and it was
        not drained."""
        return self.ended_at_once() and self.drained_after is None

    def ended_at_once(self) -> bool:
        """Return whether a stop signal ended it sooner than anything that handles one."""
        if self.leader is None or self.told_at is None or not self.ended_by_stop_signal():
            return False
        at_once = self.leader.at - max(self.told_at, self.watched_from) < AT_ONCE
        if not at_once or self.aborted or self.leftover:
            return False
        return not (self.handles or (self.caught and self._ends_so()))

    def may_have_handled(self) -> bool:
        """Return whether it is not known if what was ended at once had a handler of its own: of
        what it had to run on the stop signal, for Node.js, Ruby and the JVM catch that for an
        application without a handler too; or because it could not be looked at."""
        caught = self.caught if self.left_lost is None else self.left_lost.caught
        return caught and self.handles is None

    def _ends_so(self) -> bool:
        """Return whether it is a program that ends itself by the stop signal after a good stop."""
        from gracewrap.config.recognise_command import ENDS_BY_SIGNAL, recognised

        return recognised(self.command) in ENDS_BY_SIGNAL

    def status(self) -> int | None:
        """Return its exit status as a shell reports it; None: it never ran."""
        if self.leader is not None:
            return self.leader.status
        return KILLED if self.killed else self.not_started_status if self.not_started else None

    def ended(self) -> str:
        """Return how its leader ended, for people: "exited with 1"."""
        if self.leader is not None:
            return outcome(self.leader.status, self.leader.signum)
        if self.not_started:
            return "could not be started"
        return "could not be killed" if self.killed or not self.name else "was never started"

    def facts(self) -> dict[str, str]:
        """Return what its hooks find in their environment about its end."""
        if self.leader is None and not self.killed:
            return {}
        signal = "SIGKILL" if self.leader is None else signal_name(self.leader.signum) or ""
        interrupted = "" if self.interrupted is None else number(self.interrupted)
        return {"EXIT_STATUS": str(self.status()), "SIGNAL": signal, "INTERRUPTED": interrupted}


def name_members(members: Sequence[process_tree.Member], most: int = 8) -> str:
    """Return processes for people: "node (pid 7), sleep (pid 9) and 3 more"."""
    return name_processes([(member.name, member.pid) for member in members], most)


def name_processes(processes: Sequence[tuple[str, int]], most: int = 8) -> str:
    """Return names and pids, of the first few."""
    # A title that a program has given itself may end in a blank.
    shown = ", ".join(f"{name.rstrip()} (pid {pid})" for name, pid in processes[:most])
    return f"{shown} and {len(processes) - most} more" if len(processes) > most else shown
