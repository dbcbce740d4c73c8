"""What the runtime reports about probes, hooks and agents, and what a program says of itself.

Apart from runtime_events.py because a run without all of these need not load it.
"""

from __future__ import annotations

from gracewrap.policy.model import AgentCounts, Reading
from gracewrap.record import TYPE_CHECKING
from gracewrap.report.runtime_events import OfAProbe


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
    """A process exits in a stop, and its agent says that something is in flight: that is cut.

    *exception*: the kind of exception that ends it, if one does: "uncaughtException".
    """

    EVENT = "exited_with_work"
    program: int
    pid: int
    counts: AgentCounts
    what: str  # the counts for people
    exception: str = ""


class AgentUnseen(OfAProbe):
    """A process has ended in a stop without a last word of its agent: somebody else has killed it,
    or it has crashed.  When the agent was heard last, *before* seconds before the end, something
    was in flight: it was probably cut."""

    EVENT = "ended_with_work"
    program: int
    pid: int
    counts: AgentCounts
    what: str  # the counts for people
    before: float


class AgentsAnswered(OfAProbe):
    """The agents know of the stop: so many processes have their own handler for the stop signal, or
    leave it to the agent, or have none and nothing to finish."""

    EVENT = "agents_told"
    program: int
    own: int
    agent: int
    none: int


# As in policy/log_events.py, for mypy alone.
if TYPE_CHECKING:
    AgentEvent = (
        AgentOff | AgentConnected | AgentExited | AgentUnseen | AgentTrouble | AgentsAnswered
    )
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
