"""What reports and drills tell of stops: the figures that settings are learnt from."""

from __future__ import annotations

import math

from gracewrap.picture import past_stop
from gracewrap.policy.held_up_evidence import BLOCKED, IGNORED
from gracewrap.record import TYPE_CHECKING, Record

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from gracewrap.picture.chart import Row

    Entry = Mapping[str, object]

AT_ONCE = 0.1  # seconds; a signal handler that finishes anything takes longer
NOT_LOST = ("ok", "elsewhere", "twice")  # fates of a drill's requests and jobs
SOON = 0.05  # seconds
GAPS = 2.5  # usual gaps between new connections; a longer silence means that no more came


class Stop(Record):
    """How one program stopped, once."""

    name: str  # "": the one command
    command: tuple[str, ...]
    took: float  # seconds from the stop signal to its end, or to SIGKILL
    killed: bool  # SIGKILL ended it although it was not drained
    cut: float  # in flight then, or when it exited by itself
    status: int | None
    signal: str  # what ended it, or ""
    sent: tuple[str, ...]
    drained: bool  # its work was done when the stop signal came
    lingered: float | None = None  # seconds that it was still there, drained, after the signal
    ended_early: bool = False  # for that reason SIGKILL ended it before its time
    probes: tuple[str, ...] = ()  # the kinds of its drain probes
    unproved: bool = False  # under load, and nothing shows that it finishes after the stop signal
    ignored: str = ""  # why SIGKILL was needed, if it ignores or blocks the stop signal

    @property
    def died(self) -> bool:
        """Whether the stop signal ended it, handled or not."""
        return bool(self.signal) and self.signal in self.sent and not self.killed

    @property
    def at_once(self) -> bool:
        """Whether the stop signal ended it sooner than anything that handles one, as far as is
        known: on a busy machine it takes longer to be gone."""
        return self.died and not self.drained and (self.unproved or self.took < AT_ONCE)

    @property
    def left_work(self) -> bool:
        """Whether it exited by itself before what was in flight was done."""
        return self.cut > 0 and not self.killed

    @property
    def held(self) -> bool:
        """Whether it was drained, and stayed until its time was up."""
        return self.killed and self.lingered is not None


class Load(Record):
    """What became of the requests of one stop in a drill."""

    sent: int
    in_flight: int = 0  # lost, and begun before the stop request
    late: int = 0  # lost, and begun after it
    last_new: float = 0.0  # when the last new connection came; 0.0: none after the stop request
    to_the_end: bool = False  # new connections came until it was gone
    longest: float = 0.0  # seconds; of the requests that were answered
    twice: int = 0  # jobs that were done more than once
    jobs: bool = False  # they are jobs, and come by no connection
    finished: bool = False  # a request was answered that was in flight at the stop signal
    balancer: str = ""  # that was played, as --balancer says it; "": it is not known
    chosen: bool = False  # the user said how it behaves


class Watched(Record):
    """What documents tell of."""

    reports: tuple[Entry, ...] = ()
    loads: tuple[Load, ...] = ()  # of drills, one for each stop

    def __add__(self, other: Watched) -> Watched:
        return Watched(self.reports + other.reports, self.loads + other.loads)


def read(document: Entry) -> Watched:
    """Return what a document tells of: a report, or a drill as JSON.

    Raises:
        NoReport: If it is neither, or there was no stop.
    """
    runs = document.get("runs")
    if not isinstance(runs, list):
        return Watched((_with_programs(document),))
    found = Watched()
    for run in runs:
        if not isinstance(run, dict) or run.get("who") != "gracewrap":
            continue
        if isinstance(report := run.get("report"), dict):
            found += Watched((_with_programs(report),), tuple(_loads(run, report)))
    if not found.reports:
        raise past_stop.NoReport("it is a drill without a report of a stop")
    return found


def _with_programs(report: Entry) -> Entry:
    """Return a report.  Raises NoReport if there was no stop in it, or of nothing."""
    if not any(stops(report)):
        raise past_stop.NoReport("no program was up when the stop began")
    return report


def _loads(run: Entry, report: Entry) -> Iterator[Load]:
    """Yield the load of a run, if it had one."""
    requests = run.get("requests")
    if not isinstance(requests, list) or not requests:
        return
    found = [one for one in requests if isinstance(one, dict)]
    lost = [past_stop.number(one, "at") for one in found if one.get("fate", "ok") not in NOT_LOST]
    new = sorted(past_stop.number(one, "at") for one in found if one.get("connection") == "new")
    last = max(0.0, new[-1]) if new else 0.0
    gaps = [later - earlier for earlier, later in zip(new, new[1:], strict=False)]
    balancer = run.get("balancer")
    played = balancer if isinstance(balancer, dict) else {}
    duration = past_stop.number(run, "duration_seconds")
    jobs = all(one.get("connection") is None for one in found)
    told_at = _told_at(report)
    to_the_end = bool(gaps and duration) and duration - last <= GAPS * sorted(gaps)[len(gaps) // 2]
    if isinstance(run.get("diverted_after_seconds"), int | float):
        # The balancer looks elsewhere at the latest when it is gone.
        to_the_end = past_stop.number(run, "diverted_after_seconds") >= duration - SOON
    yield Load(
        len(found),
        sum(at <= 0 for at in lost),
        sum(at > 0 for at in lost),
        last,
        to_the_end and not jobs,
        max((_took(one) for one in found if one.get("fate") == "ok" and not jobs), default=0.0),
        sum(one.get("fate") == "twice" for one in found),
        jobs,
        any(
            one.get("fate") == "ok"
            and past_stop.number(one, "at") < told_at < past_stop.number(one, "ended") - AT_ONCE
            for one in found
        ),
        str(played.get("played", "")),
        bool(played.get("chosen")),
    )


def _told_at(report: Entry) -> float:
    """Return when the first stop signal was sent."""
    marks = [mark for row in past_stop.chart(report).rows for mark in row.marks]
    return min((mark.at for mark in marks if mark.kind == "signal"), default=math.inf)


def _took(request: Entry) -> float:
    return past_stop.number(request, "ended") - past_stop.number(request, "at")


def stops(report: Entry) -> Iterator[Stop]:
    """Yield how each program of a report stopped.  Raises NoReport."""
    rows = past_stop.chart(report).rows
    for (name, facts), row in zip(past_stop.programs(report), rows, strict=False):
        leader = facts.get("leader")
        ended = leader if isinstance(leader, dict) else facts
        status = ended.get("status", facts.get("exit_status"))
        killed = facts.get("killed")
        yield Stop(
            name,
            _words(facts.get("command")),
            _lasted(row, "stop", "linger", "killed"),
            row.bad,
            past_stop.number(facts, "interrupted"),
            status if isinstance(status, int) else None,
            str(ended.get("signal") or ""),
            _words(facts.get("signals_sent")),
            _was_drained(row),
            _lingered(row),
            bool(killed) and not row.bad,
            tuple(_probes(facts)),
            ignored=_ignored(facts) if row.bad else "",
        )


def served(report: Entry) -> float:
    """Return how long a stop served on, not ready (propagation_delay)."""
    rows = past_stop.chart(report).rows
    return max((_lasted(row, "propagation") for row in rows), default=0.0)


def _words(found: object) -> tuple[str, ...]:
    return tuple(map(str, found)) if isinstance(found, list) else ()


def _probes(facts: Entry) -> Iterator[str]:
    drain = facts.get("drain")
    for one in drain if isinstance(drain, list) else ():
        if isinstance(one, dict):
            yield str(one.get("probe"))


def _ignored(facts: Entry) -> str:
    """Return what the last entry of the flight record says, if the stop signal could not end it."""
    records = facts.get("flight_record")
    last = records[-1] if isinstance(records, list) and records else None
    if not isinstance(last, dict) or last.get("kind") not in (IGNORED, BLOCKED):
        return ""
    return str(last.get("cause", "")).removeprefix("held up: ")


def _lasted(row: Row, *kinds: str) -> float:
    return sum(one.end - one.start for one in row.segments if one.kind in kinds)


def _lingered(row: Row) -> float | None:
    """Return how long it was still there when it was drained for the last time; None: it was not,
    or before the stop signal."""
    kept = [one for one in row.segments if one.kind in ("stop", "linger")]
    return kept[-1].end - kept[-1].start if kept and kept[-1].kind == "linger" else None


def _was_drained(row: Row) -> bool:
    signals = [mark.at for mark in row.marks if mark.kind == "signal"]
    drained = [mark.at for mark in row.marks if mark.kind == "drained"]
    return bool(drained) and (not signals or drained[0] <= signals[0])
