"""What a picture of a stop is made of, whatever it is drawn with.  Times are seconds from the
request."""

from __future__ import annotations

import re
import textwrap

from gracewrap.config.printable import printable
from gracewrap.record import Record

# The kinds of segments, in the order of a legend, and what they are called.
KINDS = {
    "waits": "waits for its turn",
    "hook": "a hook runs",
    "propagation": "not ready, signal held back",
    "drain": "drains, or waits for an agent",
    "stop": "has the stop signal",
    "linger": "drained, still there",
    "killed": "SIGKILL",
    "after": "flush, post_stop, metrics",
}


class Segment(Record):
    """What goes on from *start* to *end*."""

    kind: str
    start: float
    end: float


class Mark(Record):
    """What happens at one moment: a signal that is sent, or (*kind*) "kill", "exit", "drained"."""

    at: float
    kind: str
    label: str


class Sample(Record):
    """How much was in flight at a moment."""

    at: float
    value: float


class Row(Record):
    """One program."""

    name: str
    segments: tuple[Segment, ...]
    marks: tuple[Mark, ...] = ()
    said: str = ""  # how it ended
    bad: bool = False
    samples: tuple[Sample, ...] = ()


class Limit(Record):
    """A moment by which all has to be over."""

    at: float
    label: str


class Note(Record):
    """A sentence below the picture."""

    text: str
    bad: bool = False


class Chart(Record):
    """A stop."""

    title: str
    rows: tuple[Row, ...]
    limits: tuple[Limit, ...]
    notes: tuple[Note, ...] = ()

    @property
    def span(self) -> float:
        """The end of the axis."""
        ends = [limit.at for limit in self.limits]
        ends += [segment.end for row in self.rows for segment in row.segments]
        ends += [mark.at for row in self.rows for mark in row.marks]
        return max(ends, default=0.0) or 1.0


def ticks(span: float, most: int) -> list[float]:
    """Return round moments for an axis, at most so many after the first."""
    steps = [unit * ten for ten in (0.001, 0.01, 0.1, 1, 10, 100, 1000) for unit in (1, 2, 5)]
    steps += [15, 30, 60, 120, 300, 600, 900, 1800, 3600, 7200]
    step = next((one for one in sorted(steps) if span / one <= most), span)
    return [round(n * step, 6) for n in range(int(span / step + 1e-9) + 1)]


def wrapped(said: str, width: int) -> list[str]:
    """Return a text as lines of at most *width* columns, a number in one with its unit."""
    kept = re.sub(r"(?<=\d) (?=m?s\b)", "\xa0", printable(said))
    return [
        line.replace("\xa0", " ") for line in textwrap.wrap(kept, width, break_on_hyphens=False)
    ]


def shown(seconds: float) -> str:
    """Return a moment or a length for people: 0.3 s, 25 s, 1m30s."""
    if seconds >= 120:
        whole = round(seconds)
        rest = f"{whole % 60}s" if whole % 60 else ""
        return f"{whole // 60}m{rest}"
    digits = 2 if seconds < 10 else 1
    return f"{round(seconds, digits):g} s"
