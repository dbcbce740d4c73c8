"""The stop that was: a chart of a report."""

from __future__ import annotations

import os

from gracewrap.picture.chart import Chart, Limit, Mark, Note, Row, Sample, Segment, shown
from gracewrap.record import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    Entry = Mapping[str, object]


LARGEST = 1e9  # no time in seconds, and no number in flight, is larger


class NoReport(Exception):
    """A document is not a report of gracewrap; says why."""


def chart(report: Mapping[str, object]) -> Chart:
    """Return the chart of a report.  Raises NoReport."""
    timeline = report.get("timeline")
    ours = isinstance(report.get("gracewrap"), str)
    if ours and timeline is None and "outcome" in report:
        raise NoReport("it has no timeline, as a termination log that was too long; a run writes "
                       "all of it with --report-file FILE")  # fmt: skip
    if isinstance(report.get("runs"), list):
        raise NoReport("it is a drill; gracewrap drill --html FILE draws each stop, and gracewrap "
                       "learn reads it")  # fmt: skip
    if not ours or not isinstance(timeline, list):
        raise NoReport("it is not a report of gracewrap: it has no timeline; a run writes one with "
                       "--report-file FILE")  # fmt: skip
    entries: list[Entry] = [one for one in timeline if isinstance(one, dict) and "event" in one]
    if report.get("stop_began") is None:
        raise NoReport(f"there was no stop: {report.get('summary') or 'the command has ended'}")
    used, budget = number(report, "used_seconds"), number(report, "budget_seconds")
    entries = _since_the_stop(entries, report)
    rows = [
        _Track(name, entries, used, facts).row()
        for name, facts in programs(report)
        if name or facts
    ]
    if (after := _after(entries, used)) is not None:
        rows.append(after)
    return Chart(
        _title(report, used, budget),
        tuple(rows),
        (Limit(budget, "budget"),) if budget else (),
        tuple(_notes(report, entries)),
    )


def number(entry: Mapping[str, object], key: str) -> float:
    """Return a number of a report; 0 where there is none, or none that can be."""
    value = entry.get(key)
    # JSON has NaN and Infinity for Python, and whole numbers of any length.
    return float(value) if isinstance(value, int | float) and abs(value) < LARGEST else 0.0


def _title(report: Mapping[str, object], used: float, budget: float) -> str:
    asked = report.get("requested_by")
    by = ""
    if isinstance(asked, dict) and asked.get("signal"):
        by = f", on {asked['signal']}"
    return (
        f"The stop of {report.get('stop_began')}{by}: {shown(used)} of {shown(budget)}, "
        f"exit status {report.get('exit_status')}"
    )


def _since_the_stop(entries: Sequence[Entry], report: Mapping[str, object]) -> list[Entry]:
    """Return the entries of the stop: there the clock begins anew."""
    for n, entry in enumerate(entries):
        earlier = number(entries[n - 1], "at") if n else 0.0
        if entry["event"] == "stop_requested" or number(entry, "at") < earlier:
            return list(entries[n:])
    return list(entries)


def programs(report: Mapping[str, object]) -> Iterator[tuple[str, Mapping[str, object]]]:
    """Yield the name of each program that was up when the stop began, and its part of the
    report."""
    several = report.get("programs")
    if isinstance(several, list):
        for one in several:
            if isinstance(one, dict) and one.get("pid") and one.get("outcome") != "exited":
                yield str(one.get("name") or ""), one
        return
    yield "", report


def _notes(report: Mapping[str, object], entries: Sequence[Entry]) -> Iterator[Note]:
    if report.get("summary"):
        yield Note(str(report["summary"]), report.get("outcome") in ("killed", "gave_up"))
    for name, facts in programs(report):
        held_up = str(facts.get("held_up") or "")
        if held_up and held_up not in str(report.get("summary")):
            yield Note(f"{name}: {held_up}" if name else held_up, True)
    for entry in entries:
        if entry["event"] == "held_too_long":
            who, until = entry.get("program") or "the command", shown(number(entry, "at"))
            yield Note(f"{who}: {entry.get('doing')} held the stop signal back until {until}", True)


def _after(entries: Sequence[Entry], used: float) -> Row | None:
    """Return a row for what came after the programs."""
    starts = [
        number(entry, "at")
        for entry in entries
        if entry["event"] == "hook" and entry.get("hook") in ("post_stop", "push")
    ]
    if not starts:
        return None
    said = f"post_stop, metrics from {shown(min(starts))} to {shown(used)}"
    return Row("gracewrap", (Segment("after", min(starts), used),), (), said)


class _Track:
    """Follows one program through the entries of a stop."""

    def __init__(
        self, name: str, entries: Sequence[Entry], used: float, facts: Mapping[str, object]
    ) -> None:
        self._name, self._facts = name, facts
        self._entries = [one for one in entries if str(one.get("program") or "") == name]
        self._used = used
        self._segments: list[Segment] = []
        self._marks: list[Mark] = []
        self._samples: list[Sample] = []
        self._kind, self._since = "", 0.0

    def row(self) -> Row:
        """Return its row."""
        stop = self._facts.get("stop")
        gone = number(stop, "gone_after_seconds") if isinstance(stop, dict) else 0.0
        for entry in self._entries:
            self._take(str(entry["event"]), number(entry, "at"), entry)
        ended = gone or max(self._since, self._end())
        self._begin("", ended)
        return Row(
            self._shown_name(),
            tuple(self._segments),
            tuple(self._marks),
            " · ".join(self._said()),
            bool(self._facts.get("killed")) and self._facts.get("outcome") != "drained",
            self._held_until(ended),
        )

    def _held_until(self, ended: float) -> tuple[Sample, ...]:
        """Return what was in flight; each number was so until another one was told."""
        if len(self._samples) < 2:
            return ()
        last = self._samples[-1]
        return (*self._samples, *([Sample(ended, last.value)] if ended > last.at else []))

    def _shown_name(self) -> str:
        command = self._facts.get("command")
        if self._name or not isinstance(command, list) or not command:
            return self._name or "command"
        return os.path.basename(str(command[0]))

    def _end(self) -> float:
        """Return when the one command was gone: the report says no more than its leader's exit."""
        ends = [number(one, "at") for one in self._entries if one["event"] in
                ("leader_exited", "program_gone")]  # fmt: skip
        return max(ends, default=self._used)

    def _begin(self, kind: str, at: float) -> None:
        """Begin a segment; "": nothing follows."""
        if self._kind == kind:
            return
        if self._kind and at > self._since:
            self._segments.append(Segment(self._kind, self._since, at))
        self._kind, self._since = kind, at

    def _take(self, event: str, at: float, entry: Entry) -> None:
        match event:
            case "stop_waits":
                self._begin("waits", at)
            case "serving" if self._kind != "hook":
                self._begin("propagation", at)
            case "hook" | "drain_start" if entry.get("hook") != "post_stop":
                self._begin("hook", at)
            case "helper_ended" if self._kind == "hook":
                self._begin("propagation" if self._serves() else "drain", at)
            case "draining" if self._kind not in ("stop", "linger"):
                self._begin("drain", at)
            case "stop_signal" | "rung":
                self._marks.append(Mark(at, "signal", str(entry.get("signal"))))
                self._begin("stop", at)
            case "drained":
                self._marks.append(Mark(at, "drained", "drained"))
                if self._kind == "stop":
                    self._begin("linger", at)
            case "undrained" if self._kind == "linger":
                self._begin("stop", at)
            case "kill":
                self._marks.append(Mark(at, "kill", "SIGKILL"))
                self._begin("killed", at)
            case "in_flight" if isinstance(entry.get("in_flight"), int | float):
                self._samples.append(Sample(at, number(entry, "in_flight")))
            case "program_gone":
                self._begin("", at)

    def _serves(self) -> bool:
        return any(entry["event"] == "serving" for entry in self._entries)

    def _said(self) -> Iterator[str]:
        """Yield how it went, in words."""
        verbs = {
            "waits": "waited",
            "propagation": "not ready",
            "hook": "hook",
            "drain": "held back",
        }
        for segment in self._segments:
            length = segment.end - segment.start
            if segment.kind in verbs and length >= 0.005:
                yield f"{verbs[segment.kind]} {shown(length)}"
        for mark in self._marks:
            if mark.kind != "drained":
                yield f"{mark.label} at {shown(mark.at)}"
        after = self._facts.get("drained_after_seconds")
        if isinstance(after, int | float):
            yield f"drained after {shown(number(self._facts, 'drained_after_seconds'))}"
        if interrupted := self._facts.get("interrupted"):
            yield f"{interrupted} in flight cut"
        killed = self._facts.get("killed")
        if isinstance(killed, list) and killed:
            yield f"killed: {', '.join(map(str, killed))}"
        if left := self._facts.get("left_behind"):
            yield f"left behind: {left}"
        if self._samples:
            yield f"at most {max(one.value for one in self._samples):g} in flight"
        yield f"gone at {shown(self._segments[-1].end if self._segments else 0.0)}"
