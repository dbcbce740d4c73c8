"""What happened to the run as a whole, beside the histories of its programs."""

from __future__ import annotations

from gracewrap.policy import log_events
from gracewrap.record import TYPE_CHECKING, Record
from gracewrap.report.program_history import OUTCOMES, PassedOn, ProgramHistory
from gracewrap.report.signal_sender import sender
from gracewrap.report.wording import listed, outcome, signal_name

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from gracewrap.report.probe_events import ProbeEvent
    from gracewrap.report.runtime_events import RuntimeEvent


# Seconds in which a program that was passed a signal may be expected to act on it.
LATELY = 5.0
# Signals after which a program exits for another reason, most likely: HUP, USR1, USR2, CHLD, CONT,
# URG.
NO_STOP = (1, 10, 12, 17, 18, 23)


class Requester(Record):
    """Who asked for the stop; *signal*: the name of the signal, or None if it was none."""

    signal: str | None
    sender: str


class RunHistory:
    """The run's history.  Times are on the loop's monotonic clock.

    Args:
        budget: Seconds there are for the stop of all.
        at: When the run began.
        wall: The same in seconds since 1970.
        programs: Name and command of each; one command alone has no name.
    """

    def __init__(
        self, budget: float, at: float, wall: float, programs: Sequence[tuple[str, Sequence[str]]]
    ) -> None:
        self.budget, self.started, self.started_wall = budget, at, wall
        self.is_short_of_docker = False  # the budget is longer than what plain Docker grants
        self.programs = [ProgramHistory(*program) for program in programs]
        # 0: the one command, whose lines do not name it.
        self.several = len(self.programs) if self.programs[0].name else 0
        # Of events that are about no single program.
        self.all = ProgramHistory(self._everybody(), ()) if self.several else self.programs[0]
        self.since: float | None = None  # when the stop began
        self.began_with: object = None  # the log event with which it began, if nobody asked for it
        self.cause = ""  # the same, for people
        self.requested: Requester | None = None
        self.exit_code_from: int | None = None  # the program whose status is to be ours
        self.orphans_reaped = 0
        self.signals_forwarded = 0
        self.paused = 0.0  # seconds of the stop in which gracewrap was not running
        self.unsent = 0  # connections with unsent bytes at the end
        self.output_lost = 0  # lines of the programs
        self.sender = ""  # of the signal that asks for the stop
        self.siginfo: tuple[int, int, int] | None = None  # its pid, uid and code
        self.interactive = False  # there is a terminal, whose keys send signals

    def _everybody(self) -> str:
        names = listed([history.name for history in self.programs])
        return f"{self.several} programs ({names})" if self.several > 1 else names

    def take(
        self,
        event: log_events.LogEvent | RuntimeEvent | ProbeEvent,
        at: float,
        history: ProgramHistory,
    ) -> None:
        """Take in an event; *history* is that of the program that it is about."""
        match event:
            case log_events.StopRequested(signum, by):
                if self.siginfo is not None and signum:
                    self.sender = sender(*self.siginfo, signum)
                self.requested = Requester(signal_name(signum), self.sender if signum else by)
                self.since = at
            case log_events.LeaderExited(_, status, signum, _, False, "shutdown"):
                self._begins_with(event, f"{history.label} {outcome(status, signum)}", at)
            case log_events.StartFailed(then="shutdown"):
                self._begins_with(event, f"{history.label} could not be started", at)
            case log_events.AllEnded():
                self.since = at if self.since is None else self.since
                self.cause = self.cause or "all programs have ended"
            case log_events.DrainRequested():
                for program in self.programs:
                    program.drain_begins(at)
            case log_events.TimeGap(seconds):
                self.paused += seconds if self.since is not None else 0.0
            case log_events.Unsent(connections):
                self.unsent = connections
            case log_events.Forwarded():
                self.signals_forwarded += 1
            case _:
                pass  # it concerns no more than its program

    def _begins_with(self, event: log_events.LogEvent, cause: str, at: float) -> None:
        """Record that the stop began because a program ended."""
        if self.since is None:
            self.since, self.began_with, self.cause = at, event, cause

    def passed_on(self, history: ProgramHistory, signum: int, at: float) -> PassedOn | None:
        """Return the signal that a program was sent lately, for somebody else, and that may be the
        reason of its end: by signal *signum*, or (0) by an exit.  None: there is none."""
        found = [
            one
            for sent, one in history.passed_on.items()
            if 0 <= at - one.at < LATELY and (sent == signum if signum else sent not in NO_STOP)
        ]
        return max(found, key=lambda one: one.at, default=None)

    def used(self, at: float) -> float:
        """Return the seconds of the budget that are used up *at* a time."""
        return 0.0 if self.since is None else max(0.0, at - self.since - self.paused)

    @property
    def interrupted(self) -> float | None:
        """What was in flight when it was killed, of all programs, as far as that is known."""
        known = [one.interrupted for one in self.programs if one.interrupted is not None]
        return sum(known) if known else None

    def names(self, programs: Iterable[int]) -> list[str]:
        """Return the names of programs."""
        return [self.programs[i].label for i in programs]

    def who(self) -> str:
        """Return what there is, for people: all programs, or those that have not ended."""
        there = [one.name for one in self.programs if one.is_there] if self.several else []
        return listed(there) if there and len(there) < self.several else self.all.who

    def is_worth_a_summary(self) -> bool:
        """Return whether anything happened but that the one command ended by itself."""
        return bool(
            self.several
            or self.requested is not None
            or any(one.leftover or one.killed or one.sent for one in self.programs)
            or self.all.killed_by_others()
        )

    def requested_by(self) -> str:
        """Return who asked for the stop, for people."""
        if self.requested is None:
            return self.cause if self.several or not self.cause else "the command's own exit"
        asked = self.requested
        return f"{asked.signal} from {asked.sender}" if asked.signal else asked.sender

    def outcome(self) -> str:
        """Return in one word how the program ended that ended worst."""
        ended = {program.outcome() for program in self.programs} - {"skipped"}
        default = "exited" if self.requested is None else "graceful"
        return next((one for one in OUTCOMES if one in ended), default)
