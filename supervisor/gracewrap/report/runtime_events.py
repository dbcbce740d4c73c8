"""What the runtime reports beside the policy: one record for each kind of event in the log and the
report; those about probes are in probe_events.py.

As in policy/log_events.py, a program is named by its index and times are seconds.
"""

from __future__ import annotations

from gracewrap.policy.log_events import LogRecord
from gracewrap.record import TYPE_CHECKING, Record


class OfAProcess(LogRecord):
    """Base of events about processes that start and end."""


class OfAProbe(LogRecord):
    """Base of events about probes, hooks, and what a program says of itself."""


class OfTheRun(LogRecord):
    """Base of events about no single program."""


class Started(OfAProcess):
    """The program was started."""

    EVENT = "started"
    program: int


class CannotRun(OfAProcess):
    """The one command could not be run; the exit status is *status*."""

    EVENT = "cannot_run"
    program: int
    why: str
    status: int


class ProgramGone(OfAProcess):
    """Nothing is left of the program."""

    EVENT = "program_gone"
    program: int


class ChildStopped(OfAProcess):
    """The leader was stopped, as by Ctrl-Z; *done*: what gracewrap did about it."""

    EVENT = "child_stopped"
    program: int
    signum: int
    done: str


class Reaped(OfAProcess):
    """An orphan has been reaped."""

    EVENT = "reaped"
    pid: int
    status: int


class LeaderReplaced(OfAProcess):
    """The leader, *was*, has exited with 0; its successor *main*, which it had started, is now
    the program."""

    EVENT = "leader_replaced"
    program: int
    was: str
    main: int


class WaitedFor(Record):
    """What one of several programs is waited for."""

    program: str  # its name
    remaining: float  # seconds until SIGKILL, or until the stop signal while it is *held* back
    doing: str = ""
    held: bool = False
    waits_for: tuple[str, ...] = ()  # programs that are stopped before it
    numbers: str = ""  # in flight, for people
    in_flight: float | None = None
    why: str = ""

    def fields(self) -> dict[str, object]:
        """Return it for machines, without what is empty."""
        found: dict[str, object] = {
            "program": self.program,
            "doing": self.doing,
            "waits_for": list(self.waits_for),
            "in_flight": self.in_flight,
        }
        found = {key: value for key, value in found.items() if value not in (None, "", [])}
        return {**found, "remaining": round(self.remaining, 3)}


class WaitingForPrograms(OfTheRun):
    """What a stop of several programs waits for; *elapsed* and *remaining* are the budget's."""

    EVENT = "waiting"
    parts: tuple[WaitedFor, ...]
    elapsed: float
    remaining: float


class WaitingForCommand(OfTheRun):
    """What the stop of the one command waits for: *who* of it, or what it is *doing* meanwhile.

    *remaining*: seconds until SIGKILL, or until the stop signal while that is *held* back.
    """

    EVENT = "waiting"
    who: str
    doing: str
    held: bool
    elapsed: float
    remaining: float
    numbers: str
    in_flight: float | None
    why: str


class OutputLost(OfTheRun):
    """Lines that programs wrote could not be passed on."""

    EVENT = "output_lost"
    lines: int


class ShellInFront(OfTheRun):
    """A *shell* is PID 1, and passes no signal on to gracewrap."""

    EVENT = "shell_in_front"
    shell: str


class LogReopened(OfTheRun):
    """The log file was reopened; new lines go to the new one."""

    EVENT = "log_reopened"
    file: str


class Unheard(OfTheRun):
    """Something that the settings require does not work: a socket, a pipe."""

    EVENT = "unheard"
    what: str  # that does not work
    why: str
    cure: str = ""
    program: int | None = None


class Fault(OfTheRun):
    """An internal error that does not concern the programs."""

    EVENT = "fault"
    error: str


class Bug(OfTheRun):
    """An internal error after which only the fallback keeps running."""

    EVENT = "bug"
    error: str


# As in policy/log_events.py, for mypy alone.
if TYPE_CHECKING:
    LifeEvent = Started | CannotRun | ProgramGone | ChildStopped | LeaderReplaced | Reaped
    RunEvent = (
        WaitingForPrograms
        | WaitingForCommand
        | OutputLost
        | ShellInFront
        | LogReopened
        | Unheard
        | Fault
        | Bug
    )
    RuntimeEvent = LifeEvent | RunEvent
