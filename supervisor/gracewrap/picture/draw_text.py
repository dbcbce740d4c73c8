"""A chart as lines of characters.  A line is a list of (text, style); styles are the kinds of
segments, and "bad", "dim", "title"."""

from __future__ import annotations

from gracewrap.config.printable import printable
from gracewrap.picture.chart import KINDS, Chart, Row, shown, ticks, wrapped
from gracewrap.record import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence

Span = tuple[str, str]
Line = list[Span]

NAMES = 16  # columns of names, at most
NARROWEST = 36  # columns of a picture
FILL = {"waits": "·", "hook": "▒", "propagation": "░", "drain": "▚", "stop": "█", "linger": "▓",
        "killed": "✗", "after": "═"}  # fmt: skip
ASCII = {"waits": ".", "hook": "+", "propagation": "-", "drain": "%", "stop": "#", "linger": "~",
         "killed": "x", "after": "="}  # fmt: skip
SPARKS, ASCII_SPARKS = "▁▂▃▄▅▆▇█", "_.-=+*#@"


def lines(charts: Sequence[Chart], width: int, ascii_only: bool = False) -> list[Line]:
    """Return the lines of several charts, with one legend."""
    found: list[Line] = []
    longest = max((len(row.name) for chart in charts for row in chart.rows), default=0)
    span = max(chart.span for chart in charts)
    width = max(NARROWEST, width)
    names = min(NAMES, max(4, longest), max(4, (width - 20) // 3))
    for chart in charts:
        drawing = _Drawing(chart, width, ascii_only, names, span)
        found += [*drawing.lines(), []]
    used = {segment.kind for chart in charts for row in chart.rows for segment in row.segments
            if segment.end > segment.start}  # fmt: skip
    marks = any(mark.kind == "kill" for chart in charts for row in chart.rows for mark in row.marks)
    used |= {"killed"} if marks else set()
    return [*found, *_legend(used, width, ascii_only)]


def _legend(used: set[str], width: int, ascii_only: bool) -> list[Line]:
    fill = ASCII if ascii_only else FILL
    found: list[Line] = []
    line: Line = [("  ", "")]
    for kind, said in KINDS.items():
        if kind not in used:
            continue
        item: Line = [(fill[kind], kind), (f" {said}   ", "dim")]
        if _length(line) + _length(item) > width:
            found.append(line)
            line = [("  ", "")]
        line = line + item
    return [*found, line] if len(line) > 1 else found


def _length(line: Line) -> int:
    return sum(len(text) for text, _ in line)


def plain(found: Sequence[Line]) -> str:
    """Return lines without their styles."""
    return "".join("".join(text for text, _ in line).rstrip() + "\n" for line in found)


class _Drawing:
    """Draws one chart."""

    def __init__(self, chart: Chart, width: int, ascii_only: bool, names: int, span: float) -> None:
        self._chart, self._width, self._ascii = chart, width, ascii_only
        self._names, self._span = names, span
        self._left = names + 4
        self._columns = width - self._left - 2

    def lines(self) -> list[Line]:
        title = wrapped(self._chart.title, self._width)
        found: list[Line] = [*([(line, "title")] for line in title), *self._axis()]
        for row in self._chart.rows:
            found += self._row(row)
        found += self._limits()
        for note in self._chart.notes:
            lead = "  ! " if note.bad else "    "
            for text in wrapped(note.text, self._width - 6):
                found.append([(lead + text, "bad" if note.bad else "")])
                lead = "    "
        return found

    def _column(self, at: float) -> int:
        return max(0, min(self._columns, round(self._columns * at / self._span)))

    def _axis(self) -> list[Line]:
        text = [" "] * (self._columns + 10)
        for at in ticks(self._span, max(2, self._columns // 10)):
            label, column = shown(at).replace(" ", "") if at else "0", self._column(at)
            if column + len(label) <= self._columns + 2:
                text[column : column + len(label)] = label
        return [[(" " * self._left + "".join(text).rstrip(), "dim")]]

    def _row(self, row: Row) -> list[Line]:
        fill = ASCII if self._ascii else FILL
        cells: list[Span] = [(" ", "")] * (self._columns + 1)
        for segment in row.segments:
            begin, end = self._column(segment.start), self._column(segment.end)
            for column in range(begin, max(end, begin + (segment.end > segment.start))):
                cells[column] = (fill[segment.kind], segment.kind)
        for mark in row.marks:
            if mark.kind == "kill":
                cells[self._column(mark.at)] = (fill["killed"], "killed")
        cut = "~" if self._ascii else "…"
        name = printable(row.name)
        name = name if len(name) <= self._names else name[: self._names - 1] + cut
        head = f"  {name:<{self._names}}  "
        found: list[Line] = [[(head, "bad" if row.bad else ""), *cells]]
        if row.samples:
            found.append([(" " * self._left, ""), (self._sparks(row), "dim")])
        said = row.said.replace(" · ", ", ") if self._ascii else row.said
        for text in wrapped(said, self._width - self._left):
            found.append([(" " * self._left + text, "bad" if row.bad else "dim")])
        return found

    def _sparks(self, row: Row) -> str:
        """Return what was in flight, as a line of bars over the time."""
        bars = ASCII_SPARKS if self._ascii else SPARKS
        most = max(1e-9, *(sample.value for sample in row.samples))
        text = [" "] * (self._columns + 1)
        for n, sample in enumerate(row.samples):
            until = row.samples[n + 1].at if n + 1 < len(row.samples) else sample.at
            bar = bars[round((len(bars) - 1) * max(0.0, sample.value) / most)]
            for column in range(self._column(sample.at), self._column(until) + 1):
                text[column] = bar
        return "".join(text).rstrip()

    def _limits(self) -> list[Line]:
        bar = "|" if self._ascii else "┊"
        found: list[Line] = []
        for limit in self._chart.limits:
            column = self._column(limit.at)
            label = f"{limit.label}: {shown(limit.at)}"
            if column > len(label) + 1:
                text = " " * (column - len(label) - 1) + f"{label} {bar}"
            elif column + len(label) + 2 <= self._columns:
                text = " " * column + f"{bar} {label}"
            else:
                text = label
            found.append([(" " * self._left + text, "dim")])
        return found
