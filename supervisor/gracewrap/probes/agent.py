"""What agents inside a program say, and the probe that asks them what is in flight.

The protocol is in docs/agents.md.  A message is parsed into one of the records below or, if it is
anything else, into None: an agent of a later version may say more.
"""

from __future__ import annotations

import json

from gracewrap.policy.model import (
    BUSY,
    DRAINED,
    FAILED,
    UNREACHABLE,
    AgentCounts,
    QueueJobs,
    Reading,
    put_together,
)
from gracewrap.probes.base import Probe
from gracewrap.record import TYPE_CHECKING, Record, replace

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from gracewrap.linux.ports_of_program import Ports
    from gracewrap.linux.reactor import Reactor
    from gracewrap.probes.base import AskAgents, OnReading
    from gracewrap.probes.other_work import Background

VERSION = 1
MOST_QUEUES, MOST_IDS, LONGEST_TEXT = 64, 32, 200
_MOST = 1 << 31
HANDLERS = ("own", "agent", "none")


class Hello(Record):
    """The first message of each connection."""

    version: int
    runtime: str  # "node 20.20.2"
    thread: int = 0  # 0: the main thread


class InFlight(Record):
    """The answer to an "ask" with the same number; 0: unasked, as that has changed.

    *unheard*: no signal that came before the question has called the program's own handler.
    """

    number: int
    counts: AgentCounts
    unheard: bool = False


class LastCounts(Record):
    """What is in flight in a process that exits, in a stop.

    *exception*: what ends it, if that is an exception that nothing has caught: its kind.
    """

    counts: AgentCounts
    exception: str = ""


class State(Record):
    """The answer to "stop", "drain" and "undrain": it has been done.

    *handler* says who acts on the stop signal: the program's own handler, the agent, or nobody.
    *unheard*: the signal has not come yet.  *counts*: what is in flight, if it says so.
    """

    handler: str
    unheard: bool = False
    counts: AgentCounts | None = None


class Trouble(Record):
    """A part of the agent has been switched off; the program is as without it."""

    why: str


Message = Hello | InFlight | LastCounts | State | Trouble


def parse(line: bytes) -> Message | None:
    """Return the message in a line; None if there is none that we know."""
    try:
        said = json.loads(line)
    except (ValueError, RecursionError):
        return None
    if not isinstance(said, dict):
        return None
    match said.get("type"):
        case "hello":
            version = _count(said.get("version"))
            return Hello(version, _text(said.get("runtime")), _count(said.get("thread")))
        case "in_flight":
            return InFlight(_count(said.get("id")), _counts(said), said.get("heard") is False)
        case "exit":
            return LastCounts(_counts(said), _text(said.get("exception")))
        case "state":
            handler = said.get("handler")
            unheard = said.get("heard") is False
            counts = _counts(said) if "requests" in said or "jobs" in said else None
            return State(handler if handler in HANDLERS else "none", unheard, counts)
        case "trouble":
            return Trouble(_text(said.get("why")))
        case _:
            return None


def _counts(said: dict[str, object]) -> AgentCounts:
    queues = said.get("jobs")
    return AgentCounts(
        _count(said.get("requests")),
        _count(said.get("streams")),
        _count(said.get("websockets")),
        tuple(
            QueueJobs(_text(one.get("queue")), _count(one.get("active")), _ids(one.get("ids")))
            for one in (queues if isinstance(queues, list) else [])[:MOST_QUEUES]
            if isinstance(one, dict)
        ),
        _count(said.get("waits")),
        _count(said.get("finished")),
    )


def _ids(value: object) -> tuple[str, ...]:
    return tuple(map(_text, value[:MOST_IDS])) if isinstance(value, list) else ()


def _count(value: object) -> int:
    is_number = isinstance(value, int) and not isinstance(value, bool)
    return value if is_number and isinstance(value, int) and 0 <= value < _MOST else 0


def _text(value: object) -> str:
    text = value if isinstance(value, str) else str(value) if isinstance(value, int) else ""
    return "".join(char if char.isprintable() else " " for char in text[:LONGEST_TEXT])


def total(all_counts: Iterable[AgentCounts]) -> AgentCounts:
    """Return the counts of several processes together, queue by queue."""
    requests = streams = websockets = waits = 0
    jobs: dict[str, QueueJobs] = {}
    for counts in all_counts:
        requests += counts.requests
        streams += counts.streams
        websockets += counts.websockets
        waits += counts.waits
        for queue in counts.jobs:
            before = jobs.get(queue.queue, QueueJobs(queue.queue, 0))
            ids = (*before.ids, *queue.ids)[:MOST_IDS]
            jobs[queue.queue] = QueueJobs(queue.queue, before.active + queue.active, ids)
    return AgentCounts(requests, streams, websockets, tuple(jobs.values()), waits)


def shown(counts: AgentCounts) -> str:
    """Return counts for people: "3 requests, 2 jobs of emails (12, 14), 5 WebSockets"."""
    parts = [_plural(counts.requests, "request")] if counts.requests else []
    if counts.streams:
        parts[-1:] = [f"{parts[-1]} ({_plural(counts.streams, 'stream')})"] if parts else []
    parts += [
        f"{_plural(queue.active, 'job')} of {queue.queue}" + _named(queue)
        for queue in counts.jobs
        if queue.active
    ]
    parts += [_plural(counts.websockets, "WebSocket")] if counts.websockets else []
    return ", ".join(parts)


def _plural(count: int, word: str) -> str:
    return f"{count} {word}{'' if count == 1 else 's'}"


def _named(queue: QueueJobs, most: int = 8) -> str:
    if not queue.ids:
        return ""
    more = f" and {queue.active - most} more" if queue.active > most else ""
    return f" ({', '.join(queue.ids[:most])}{more})"


class OtherWork:
    """Looks what shows work that agents do not count: a handler of the program that goes on after
    the last job.

    Connections of clients do not: agents count the requests on them, and WebSockets hold nothing
    up.
    """

    def __init__(self, reactor: Reactor, ports: Ports, background: Background) -> None:
        self._reactor, self._ports, self._background = reactor, ports, background
        self._steps: Iterator[None] | None = None

    def watch(self) -> None:
        """Note what has been used so far; before each look, and where none is taken."""
        self._background.watch()

    def add_to(self, reading: Reading, on_reading: OnReading) -> None:
        """Call back once with the reading and what shows work, from within this call or later."""
        self.cancel()
        self._steps = self._run(reading, on_reading)
        self._reactor.run_in_slices(self._steps)

    def _run(self, reading: Reading, on_reading: OnReading) -> Iterator[None]:
        try:
            yield from self._ports.steps()
            seen = yield from self._background.look(self._ports.known)
            reading = replace(reading, work=put_together((reading.work, seen.work)))
        except OSError as error:  # it may be at work: to wait loses none
            why = f"cannot query the kernel's connections: {error.strerror or error}"
            reading = replace(reading, work=why)
        self._steps = None
        on_reading(reading)

    def cancel(self) -> None:
        """Abort the look in progress, if any."""
        steps, self._steps = self._steps, None
        if steps is not None:
            steps.close()  # type: ignore[attr-defined]


class AgentProbe(Probe):
    """Asks all agents of a program, and sums up what they answer.

    Args:
        agents: Asks them; None: the program was started without an agent.
        alone: Whether it fails then; else the other probes decide.
        other_work: What is looked at besides; None: other probes do.
    """

    def __init__(
        self, agents: AskAgents | None, alone: bool = True, other_work: OtherWork | None = None
    ) -> None:
        self._agents, self._alone, self._other_work = agents, alone, other_work

    def sample(self, on_reading: OnReading) -> None:
        """Take one sample; a process that is busy computing does not answer, and is waited for."""
        other_work = self._other_work

        def answered(answers: list[AgentCounts] | None) -> None:
            reading = _reading(answers)
            if reading.kind != BUSY and other_work is not None:
                other_work.add_to(reading, on_reading)
            else:
                on_reading(reading)

        if self._agents is None:
            kind = FAILED if self._alone else DRAINED
            on_reading(Reading(kind, None, "the command was started without an agent"))
            return
        if other_work is not None:
            other_work.watch()
        self._agents.ask(answered)

    def cancel(self) -> None:
        """Abort the sample in progress."""
        if self._agents is not None:
            self._agents.cancel()
        if self._other_work is not None:
            self._other_work.cancel()


def _reading(answers: list[AgentCounts] | None) -> Reading:
    if answers is None:
        return Reading(UNREACHABLE, None, "no agent is connected")
    counts = total(answers)
    return Reading(
        BUSY if counts.in_flight else DRAINED,
        counts.in_flight,
        shown(counts),
        f"queries, requests or children that it waits for: {counts.waits}" if counts.waits else "",
        streams=counts.streams + counts.websockets,
        only_streams=counts.in_flight == counts.streams,
        counts=counts,
    )
