"""Charts as SVG, in light and dark, and as one HTML page that needs no script."""

from __future__ import annotations

from html import escape as escaped

from gracewrap.config.printable import printable
from gracewrap.picture.chart import KINDS, Chart, Row, shown, ticks, wrapped
from gracewrap.record import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

WIDTH, LEFT, RIGHT = 960, 150, 40
ROW, BAR, LINE = 30, 16, 17
STYLE = """\
text{font:13px system-ui,-apple-system,"Segoe UI",sans-serif;fill:#1f2328}
.t{font-weight:600;font-size:15px}.d{fill:#57606a;font-size:12px}.b{fill:#b3261e}
.g{stroke:#d0d7de}.l{stroke:#57606a;stroke-dasharray:4 3}.paper{fill:#ffffff}
.waits{fill:#d8dee4}.hook{fill:#8250df}.propagation{fill:#54aeff}.drain{fill:#0969da}
.stop{fill:#2da44e}.linger{fill:#bf8700}.killed{fill:#cf222e}.after{fill:#8c959f}
.m{stroke:#1f2328;stroke-width:1.5}.k{stroke:#cf222e;stroke-width:2.5}.s{fill:none;stroke:#0969da}
@media (prefers-color-scheme:dark){text{fill:#e6edf3}.d{fill:#9198a1}.b{fill:#ff8182}
.g{stroke:#30363d}.l{stroke:#9198a1}.paper{fill:#0d1117}.waits{fill:#30363d}.hook{fill:#a371f7}
.propagation{fill:#79c0ff}.drain{fill:#388bfd}.stop{fill:#3fb950}.linger{fill:#d29922}
.killed{fill:#f85149}.after{fill:#6e7681}.m{stroke:#e6edf3}.k{stroke:#f85149}.s{stroke:#58a6ff}}
"""


def escape(text: str) -> str:
    """Return a text as XML can have it: of the control characters it forbids most."""
    return escaped(printable(text))


def svg(charts: Sequence[Chart]) -> str:
    """Return an SVG document of several charts, one below the other, with one legend."""
    parts: list[str] = []
    y = 16.0
    for chart in charts:
        drawn, y = _chart(chart, y)
        parts += drawn
        y += 14
    legend, y = _legend(charts, y)
    parts += legend
    height = round(y + 10)
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {height}" '
        f'width="{WIDTH}" height="{height}" role="img" aria-label="{escape(charts[0].title)}">\n'
        f'<style>{STYLE}</style>\n<rect class="paper" width="100%" height="100%"/>\n'
        + "\n".join(parts)
        + "\n</svg>\n"
    )


def html(charts: Sequence[Chart], title: str, rows: Sequence[tuple[str, str]] = ()) -> str:
    """Return one self-contained page: the picture, and a table of facts below it."""
    table = "".join(f"<tr><th>{escape(key)}</th><td>{escape(text)}</td></tr>" for key, text in rows)
    return (
        '<!doctype html>\n<html lang="en"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width,initial-scale=1">'
        f"<title>{escape(title)}</title><style>\n"
        ":root{color-scheme:light dark}body{font:15px/1.5 system-ui,sans-serif;max-width:1000px;"
        "margin:2em auto;padding:0 1em;background:#fff;color:#1f2328}svg{max-width:100%;"
        "height:auto}table{border-collapse:collapse}th{text-align:left;font-weight:600;"
        "white-space:nowrap;"
        "padding:.2em 1.5em .2em 0;vertical-align:top}td{padding:.2em 0;overflow-wrap:anywhere}\n"
        "@media (prefers-color-scheme:dark){body{background:#0d1117;color:#e6edf3}}\n"
        f"</style></head><body><h1>{escape(title)}</h1>\n{svg(charts)}"
        f"<table>{table}</table></body></html>\n"
    )


def _chart(chart: Chart, y: float) -> tuple[list[str], float]:
    """Return the elements of a chart that begins at *y*, and where it ends."""
    parts = [f'<text class="t" x="16" y="{y + 12:g}">{escape(chart.title)}</text>']
    y += 40
    top, bottom = y, y + sum(_height(row) for row in chart.rows)
    for at in ticks(chart.span, 10):
        x = _x(chart, at)
        parts.append(f'<line class="g" x1="{x}" y1="{top}" x2="{x}" y2="{bottom}"/>')
        label = shown(at) if at else "0"
        parts.append(f'<text class="d" x="{x}" y="{top - 6}" text-anchor="middle">{label}</text>')
    for row in chart.rows:
        parts += _row(chart, row, y)
        y += _height(row)
    for n, limit in enumerate(chart.limits):
        x, end = _x(chart, limit.at), bottom + 4 + LINE * n
        parts.append(f'<line class="l" x1="{x}" y1="{top}" x2="{x}" y2="{end:g}"/>')
        parts.append(
            f'<text class="d" x="{x - 5:g}" y="{end + 10:g}" text-anchor="end">'
            f"{escape(limit.label)}: {shown(limit.at)}</text>"
        )
    y += 12 + LINE * len(chart.limits)
    for note in chart.notes:
        for text in wrapped(note.text, 125):
            y += LINE
            parts.append(
                f'<text class="{"b" if note.bad else "d"}" x="16" y="{y:g}">{escape(text)}</text>'
            )
    return parts, y + 6


def _height(row: Row) -> float:
    return ROW + (22 if row.samples else 0) + LINE * len(_wrapped(row.said))


def _wrapped(said: str) -> list[str]:
    return wrapped(said, 118)


def _x(chart: Chart, at: float) -> float:
    return round(LEFT + (WIDTH - LEFT - RIGHT) * max(0.0, min(1.0, at / chart.span)), 1)


def _row(chart: Chart, row: Row, y: float) -> Iterator[str]:
    name = row.name if len(row.name) < 18 else row.name[:16] + "…"
    style = ' class="b"' if row.bad else ""
    yield f'<text{style} x="16" y="{y + 14:g}">{escape(name)}</text>'
    for one in row.segments:
        if one.end > one.start:
            x, end = _x(chart, one.start), _x(chart, one.end)
            yield (
                f'<rect class="{one.kind}" x="{x}" y="{y + 2:g}" width="{max(1.5, end - x):.1f}" '
                f'height="{BAR}" rx="2"><title>{KINDS[one.kind]}: {shown(one.start)} to '
                f"{shown(one.end)}</title></rect>"
            )
    for mark in row.marks:
        x, kind = _x(chart, mark.at), "k" if mark.kind == "kill" else "m"
        yield (
            f'<line class="{kind}" x1="{x}" y1="{y - 1:g}" x2="{x}" y2="{y + BAR + 5:g}">'
            f"<title>{escape(mark.label)} at {shown(mark.at)}</title></line>"
        )
    below = y + BAR + 4
    if row.samples:
        yield _sparks(chart, row, below)
        below += 22
    style = "b" if row.bad else "d"
    for text in _wrapped(row.said):
        yield f'<text class="{style}" x="{LEFT}" y="{below + 12:g}">{escape(text)}</text>'
        below += LINE


def _sparks(chart: Chart, row: Row, y: float) -> str:
    most = max(1e-9, *(sample.value for sample in row.samples))
    points = []
    for n, sample in enumerate(row.samples):
        height = y + 18 - 16 * max(0.0, sample.value) / most
        until = row.samples[n + 1].at if n + 1 < len(row.samples) else sample.at
        points += [f"{_x(chart, sample.at)},{height:.1f}", f"{_x(chart, until)},{height:.1f}"]
    return (
        f'<polyline class="s" points="{" ".join(points)}"><title>in flight, at most {most:g}'
        "</title></polyline>"
    )


def _legend(charts: Sequence[Chart], y: float) -> tuple[list[str], float]:
    used = {one.kind for chart in charts for row in chart.rows for one in row.segments
            if one.end > one.start}  # fmt: skip
    parts, x = list[str](), 16.0
    for kind, said in KINDS.items():
        if kind not in used:
            continue
        length = 24 + 6.4 * len(said)
        if x + length > WIDTH - 16:
            x, y = 16.0, y + 20
        parts.append(f'<rect class="{kind}" x="{x:g}" y="{y:g}" width="12" height="12" rx="2"/>')
        parts.append(f'<text class="d" x="{x + 17:g}" y="{y + 11:g}">{said}</text>')
        x += length + 10
    return parts, y + 16
