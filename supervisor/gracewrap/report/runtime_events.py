"""What the runtime reports beside the policy: one record for each kind of event in the log and the
report.

As in policy/log_events.py, a program is named by its index and times are seconds.
"""

from __future__ import annotations

from gracewrap.policy.log_events import LogRecord
from gracewrap.policy.model import AgentCounts, Reading
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


class NotReady(OfAProbe):
    """The ready probes have not passed in *after* seconds."""

    EVENT = "not_ready"
    program: int
    after: float
    why: str


class NotYetHealthy(OfAProbe):
    """The live probes have not passed once in *after* seconds."""

    EVENT = "not_yet_healthy"
    program: int
    after: float
    why: str


class ProbeSilent(OfAProbe):
    """A drain probe has had no answer in the *after* seconds since the start."""

    EVENT = "probe_silent"
    program: int
    probe: int
    why: str
    after: float


class ProbeSeen(OfAProbe):
    """What a drain probe says while nothing is being drained."""

    EVENT = "probe_seen"
    program: int
    probe: int
    reading: Reading


class InFlightChanged(OfAProbe):
    """The number of requests or jobs in flight has changed during a drain."""

    EVENT = "in_flight"
    program: int


class HookStarted(OfAProbe):
    """A hook, or the push of metrics, was started."""

    EVENT = "hook"
    program: int
    hook: str
    command: str


class Said(OfAProbe):
    """The program has sent a status by sd_notify(3)."""

    EVENT = "said"
    program: int
    text: str


class LeaderReplaced(OfAProcess):
    """The leader, *was*, has exited with 0; its successor *main*, which it had started, is the
    program now."""

    EVENT = "leader_replaced"
    program: int
    was: str
    main: int


class MainPid(OfAProbe):
    """The program, so far *who*, has named its main process by sd_notify(3)."""

    EVENT = "main_pid"
    program: int
    who: str
    main: int


class AgentOff(OfAProbe):
    """The program was started without the agent that the settings ask for."""

    EVENT = "agent_off"
    program: int
    why: str


class AgentConnected(OfAProbe):
    """An agent in a process of the program has said hello; *thread* 0 is the main one."""

    EVENT = "agent"
    program: int
    pid: int
    runtime: str
    thread: int


class AgentTrouble(OfAProbe):
    """A part of an agent has been switched off, or it cannot be talked to."""

    EVENT = "agent_trouble"
    program: int
    pid: int
    why: str


class AgentExited(OfAProbe):
    """A process exits in a stop, and its agent says that something is in flight: that is cut."""

    EVENT = "exited_with_work"
    program: int
    pid: int
    counts: AgentCounts
    what: str  # the counts for people


class AgentsAnswered(OfAProbe):
    """The agents know of the stop: so many processes have their own handler for the stop signal, or
    leave it to the agent, or have none and nothing to finish."""

    EVENT = "agents_told"
    program: int
    own: int
    agent: int
    none: int


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


class LogReopened(OfTheRun):
    """The log file was opened anew; lines from now on are in the new one."""

    EVENT = "log_reopened"
    file: str


class Unheard(OfTheRun):
    """Something that the settings ask for does not work: a socket, a pipe."""

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
    """An internal error after which only the fallback goes on."""

    EVENT = "bug"
    error: str


# As in policy/log_events.py, for mypy alone.
if TYPE_CHECKING:
    LifeEvent = Started | CannotRun | ProgramGone | ChildStopped | LeaderReplaced | Reaped
    AgentEvent = AgentOff | AgentConnected | AgentExited | AgentTrouble | AgentsAnswered
    ProbeEvent = (
        NotReady
        | NotYetHealthy
        | ProbeSilent
        | ProbeSeen
        | InFlightChanged
        | HookStarted
        | Said
        | MainPid
        | AgentEvent
    )
    RunEvent = (
        WaitingForPrograms | WaitingForCommand | OutputLost | LogReopened | Unheard | Fault | Bug
    )
    RuntimeEvent = LifeEvent | ProbeEvent | RunEvent
