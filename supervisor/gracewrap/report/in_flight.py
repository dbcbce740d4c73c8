"""What the probes said last, and what is in flight: for progress lines, status, metrics and the
report."""

from __future__ import annotations

from gracewrap.policy.model import (
    BUSY,
    DRAINED,
    INVALID,
    NOT_YET,
    UNREACHABLE,
    Reading,
    in_words,
    put_together,
)
from gracewrap.record import TYPE_CHECKING
from gracewrap.report.wording import seconds

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from gracewrap.policy.model import AgentCounts, QueueJobs


FRESH = 2.5
LATELY = 1.0  # seconds before its exit in which what is seen of a program says how it ended
SILENT = 0.5  # seconds; an event loop that turns answers within milliseconds
EVENT_LOOP = "its event loop does not turn"
_MOST = 1e15  # from here on no count is written out


class ProbeHistory:
    """One probe, and what it said."""

    def __init__(self, kind: str, unit: str) -> None:
        self.kind, self.unit = kind, unit
        self.first: float | None = None  # in flight when the drain began
        self.last: float | None = None
        self.counted_at = 0.0  # when *last* was said
        self.reading = Reading("none")
        self.at: float | None = None
        self.answered_at: float | None = None  # when *reading* last said how much is in flight
        self.failures = 0
        # Connections with a request, in each of two samples, and when the second one was taken.
        self.not_accepted = (0, 0.0)
        self.counts: AgentCounts | None = None  # the last ones, of a probe that asks agents


class InFlight:
    """The probes of one program, in their order."""

    def __init__(self, probes: Sequence[tuple[str, str]], requests_only: bool = False) -> None:
        self.requests_only = requests_only  # the verdict may rest on what sees nothing but requests
        self.fresh = FRESH  # seconds for which a number is told without its age
        self.of_the_rest = False  # the leader is gone, and agents count what is left
        self.probes = [ProbeHistory(kind, unit) for kind, unit in probes]
        # Who has an agent that owes an answer, and for how many seconds.
        self.unanswered: Callable[[float], Sequence[tuple[int, float]]] = lambda at: ()

    def count_anew(self) -> None:
        """Forget the numbers: a drain begins, and they are compared with those of its begin."""
        for probe in self.probes:
            probe.first = probe.last = None

    def forget(self) -> None:
        """Forget all but the number of failures: the program is started again."""
        self.count_anew()
        self.of_the_rest = False
        for probe in self.probes:
            probe.reading, probe.counts = Reading("none"), None
            probe.at = probe.answered_at = None
            probe.not_accepted = (0, 0.0)

    def only_agents(self, counts: bool) -> None:
        """The leader is gone, and what is left is asked no more; but agents are, if they *count*
        something yet.  The other numbers are of what was."""
        self.of_the_rest = counts
        for probe in self.probes:
            if not counts or probe.kind != "agent":
                probe.last = None

    def take(self, index: int, reading: Reading, at: float) -> bool:
        """Take in the reading of a probe; return whether its number in flight has changed."""
        probe = self.probes[index]
        before, probe.reading, probe.at = probe.reading, reading, at
        if waiting := min(before.not_accepted, reading.not_accepted):
            probe.not_accepted = (waiting, at)
        elif reading.kind == BUSY:  # it has accepted them; else the listener may be gone with them
            probe.not_accepted = (0, 0.0)
        probe.counts = probe.counts if reading.counts is None else reading.counts
        probe.failures += reading.kind == UNREACHABLE
        if reading.kind in (BUSY, DRAINED):
            probe.answered_at = at
        count = 0 if reading.kind == DRAINED else _whole(reading.in_flight)
        if count is None:
            return False
        changed = count != probe.last or reading.streams != before.streams
        probe.last, probe.counted_at = count, at
        probe.first = count if probe.first is None else probe.first
        return changed

    def total(self, at_the_end: bool = False) -> float | None:
        """Return the sum of what is known to be in flight, or None.

        A request that an agent counts is on a connection that the kernel counts as well: it is
        taken once.  *at_the_end* a number is not known any more if nobody listens where it came
        from: a program that closes its listeners goes on with its work.
        """
        known = [
            probe
            for probe in self.probes
            if probe.last is not None and not (at_the_end and probe.reading.refused)
        ]
        counts = [probe.counts for probe in known if probe.counts is not None and probe.last]
        requests = sum(one.requests for one in counts)
        return (
            sum(_beyond(probe, requests if probe.kind == "tcp" else 0) for probe in known)
            if known
            else None
        )

    def shown(self, at: float) -> str:
        """Return the numbers for people: "requests 7 → 3 · jobs 2 (9 s ago)"; "" if none is
        known."""
        return " · ".join(
            text for probe in self.probes if (text := _shown(probe, at - self.fresh, at))
        )

    def jobs(self) -> tuple[QueueJobs, ...]:
        """Return the jobs in flight that agents have named."""
        known = [probe.counts for probe in self.probes if probe.counts is not None]
        return tuple(queue for counts in known for queue in counts.jobs if queue.active)

    def counted(self) -> str:
        """Return the work in flight that the program or its agent counts; "" if there is none, or
        only the kernel knows of connections."""
        return ", ".join(
            probe.reading.why if probe.kind == "agent" else f"{number(probe.last)} ({probe.kind})"
            for probe in self.probes
            if probe.kind != "tcp" and probe.reading.kind == BUSY and probe.last
        )

    def why_waiting(self, at: float) -> str:
        """Return what is to be said beside shown(): without numbers why the program is busy, with
        numbers only what they do not tell."""
        shown, silence = self.shown(at), self.silence(at)
        reasons = (
            f"{probe.kind}: {why}{_age(probe.at, at - self.fresh, at)}"
            for probe in self.probes
            if not shown or probe.reading.kind == DRAINED
            if not (silence and probe.kind == "agent")
            if (why := _why_busy(probe.reading))
        )
        return "; ".join(filter(None, (silence, *reasons)))

    def silent(self, at: float) -> list[tuple[int, float]]:
        """Return the processes whose agents have not answered for so long that their event loops
        do not turn, and for how many seconds."""
        return [one for one in self.unanswered(at) if one[1] >= SILENT]

    def silence(self, at: float) -> str:
        """Return which agents do not answer, for people; "" if all do."""
        silent = self.silent(at)
        return f"{have_not_answered(silent)}: {EVENT_LOOP}" if silent else ""

    def streams(self) -> tuple[int, int]:
        """Return how many streams were open in the last samples, and how many of them were idle.

        Agents count them all, so what other probes see of them is not added.
        """
        readings = [probe.reading for probe in self.probes]
        counted = sum(one.streams for one in readings if one.counts is not None)
        others = [one for one in readings if one.counts is None]
        open_now = max(counted, sum(one.streams for one in others))
        return open_now, sum(one.idle_streams for one in others)

    def not_accepted(self, at: float) -> tuple[int, float]:
        """Return how many connections with a request waited for the program to accept them a moment
        ago, and how many seconds ago that was; 0 if there were none, or it has gone on accepting.

        It takes milliseconds while a program accepts; what is left is reset with the listener.
        """
        found = [(count, at - seen) for count, seen in (one.not_accepted for one in self.probes)]
        return max((one for one in found if one[0] and one[1] <= LATELY), default=(0, 0.0))

    def waiting_for(self, at: float) -> str:
        """Return what holds the drain up, in numbers and words; "" if nothing is known."""
        return "; ".join(filter(None, (self.shown(at), self.why_waiting(at))))

    def still_open(self) -> str:
        """Return what was still open although no request was in flight."""
        return "; ".join(
            dict.fromkeys(probe.reading.open for probe in self.probes if probe.reading.open)
        )

    def work(self) -> str:
        """Return what shows that it may be at work although no request is in flight."""
        work = put_together(one.reading.work for one in self.probes if one.reading.kind == DRAINED)
        return "" if work == NOT_YET else work

    def unusable(self, at: float) -> str:
        """Return what is wrong with probes that could not use their last answer, or had none."""
        return "; ".join(
            f"probe {probe.kind}: {probe.reading.why}{_last_answer(probe, at)}"
            for probe in self.probes
            if probe.reading.kind in (UNREACHABLE, INVALID)
        )


def _last_answer(probe: ProbeHistory, at: float) -> str:
    if not probe.last or not probe.reading.refused:
        return ""
    ago = f"{at - probe.counted_at:.1f} s before"
    return f" ({number(probe.last)} in flight when it last answered, {ago})"


def _beyond(probe: ProbeHistory, requests: int) -> float:
    """Return the number of a probe without those *requests* that another has counted."""
    return max(0.0, (probe.last or 0.0) - requests)


def _why_busy(reading: Reading) -> str:
    if reading.kind != DRAINED:
        return reading.why
    if reading.work in ("", NOT_YET):
        return ""
    return f"no request is in flight; it may be at work: {reading.work}"


def _shown(probe: ProbeHistory, fresh_since: float, at: float) -> str:
    if probe.last is None or not probe.unit:
        return ""
    first = "" if probe.first == probe.last else f"{number(probe.first or 0.0)} → "
    ago = _age(probe.counted_at, fresh_since, at)
    open_now, idle = probe.reading.streams, probe.reading.idle_streams
    streams = f", {in_words(open_now, idle)}" if open_now else ""
    return f"{probe.unit} {first}{number(probe.last)}{streams}{ago}"


def _age(seen_at: float | None, fresh_since: float, at: float) -> str:
    """Return how old something is: " (9 s ago)"; "" as long as it is fresh."""
    return "" if seen_at is None or seen_at >= fresh_since else f" ({at - seen_at:.0f} s ago)"


def have_not_answered(silent: Sequence[tuple[int, float]], have: str = "has") -> str:
    """Return which agents have not answered: "the agent in node (pid 7) has not answered for 4 s";
    of several, the one that has been silent for the longest time."""
    pid, time = max(silent, key=lambda one: one[1])
    more = f" (and {len(silent) - 1} more)" if len(silent) > 1 else ""
    time = round(time, 0 if time >= 1 else 1)
    return f"the agent in node (pid {pid}){more} {have} not answered for {seconds(time)}"


def _whole(value: float | None) -> float | None:
    """Return a count as an int: 3 instead of 3.0."""
    return int(value) if value is not None and _is_whole(value) else value


def number(value: float) -> str:
    """Return a number without needless decimals."""
    if abs(value) >= _MOST:
        return f"{value:g}"
    return f"{value:.0f}" if _is_whole(value) else f"{value:.2f}"


def _is_whole(value: float) -> bool:
    # An endpoint may say +Inf, of which int() makes an error, or 1e300.
    return abs(value) < _MOST and value == int(value)
