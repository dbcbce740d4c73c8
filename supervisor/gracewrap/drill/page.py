"""A drill as one HTML page that needs nothing else, no script either: the verdict, and for each
stop its phases and what became of each request, over time."""

from __future__ import annotations

import shlex
from collections import Counter
from html import escape

from gracewrap.config.problems import one_line
from gracewrap.drill.fates import ELSEWHERE, FATES, OK
from gracewrap.picture import past_stop
from gracewrap.picture.chart import KINDS, Row, Segment, shown, ticks
from gracewrap.record import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from gracewrap.drill.fates import Request
    from gracewrap.drill.model import Asked, Run, Verdict

WIDTH, LEFT, RIGHT = 960, 110, 20  # of a picture
BAR, TALLEST, LANES = 12, 7.0, 260  # heights: of a phase, of a request at most, of all requests
MOST = 200  # lost requests of a run that the table names
COLOURS = {  # of fates, on light and on dark
    "ok": ("#2da44e", "#3fb950"),
    "refused": ("#cf222e", "#f85149"),
    "reset": ("#bc4c00", "#f0883e"),
    "cut": ("#bf3989", "#f778ba"),
    "5xx": ("#9a6700", "#e3b341"),
    "timed out": ("#8250df", "#bc8cff"),
    "not done": ("#cf222e", "#f85149"),
    "twice": ("#0969da", "#58a6ff"),
    "elsewhere": ("#afb8c1", "#6e7681"),
}
PHASES = {  # as gracewrap report draws them
    "waits": ("#d8dee4", "#30363d"),
    "hook": ("#8250df", "#a371f7"),
    "propagation": ("#54aeff", "#79c0ff"),
    "drain": ("#0969da", "#388bfd"),
    "stop": ("#57606a", "#9198a1"),
    "linger": ("#bf8700", "#d29922"),
    "killed": ("#cf222e", "#f85149"),
    "after": ("#8c959f", "#6e7681"),
}
STYLE = """\
:root{color-scheme:light dark;--ink:#1f2328;--dim:#57606a;--line:#d0d7de;--paper:#fff;--bad:#b3261e;
--good:#1a7f37;--open:#7d5600}
@media (prefers-color-scheme:dark){:root{--ink:#e6edf3;--dim:#9198a1;--line:#30363d;--paper:#0d1117;
--bad:#ff8182;--good:#56d364;--open:#e3b341}}
body{font:15px/1.5 system-ui,sans-serif;max-width:1000px;margin:2em auto;padding:0 1em;
background:var(--paper);color:var(--ink)}
h1{font-size:1.6em;margin:0 0 .4em}h2,summary{font-size:1.1em;font-weight:600;margin:1.6em 0 .4em}
summary{cursor:pointer}summary.less{font-size:1em;font-weight:400;margin:.4em 0}
.passed{color:var(--good)}.failed{color:var(--bad)}
.inconclusive{color:var(--open)}.dim{color:var(--dim)}code{overflow-wrap:anywhere}
div.wide{overflow-x:auto}table{border-collapse:collapse;margin:.6em 0;font-variant-numeric:
tabular-nums}th{text-align:left;font-weight:600;vertical-align:top}th,td{padding:.2em 1.2em .2em 0;
border-bottom:1px solid var(--line)}td.n,th.n{text-align:right}td.why{overflow-wrap:anywhere}
td.n,th.n{white-space:nowrap}
svg{width:100%;min-width:760px;height:auto;display:block}svg text{font:12px system-ui,sans-serif;
fill:var(--dim)}.grid{stroke:var(--line)}.mark{stroke:var(--ink);stroke-dasharray:4 3}
.key{display:inline-block;margin-right:1.2em;white-space:nowrap}
.key i{display:inline-block;width:.8em;height:.8em;border-radius:2px;margin-right:.4em}
"""


def html(asked: Asked, runs: Sequence[Run], verdict: Verdict) -> str:
    """Return the page.  All that comes from outside is escaped."""
    body = "\n".join((*_head(asked, verdict), *_table(runs), *_legend(runs), *_runs(asked, runs)))
    return (
        '<!doctype html>\n<html lang="en"><head><meta charset="utf-8">\n'
        '<meta name="viewport" content="width=device-width,initial-scale=1">\n'
        '<meta http-equiv="Content-Security-Policy" '
        "content=\"default-src 'none'; style-src 'unsafe-inline'\">\n"
        f"<title>gracewrap drill: {verdict.outcome}</title>\n<style>\n{STYLE}{_colours()}</style>"
        f"</head><body>\n{body}\n</body></html>\n"
    )


def _safe(text: object) -> str:
    return escape(one_line(str(text)))


def _colours() -> str:
    """Return the rules of all colours, as backgrounds of the legend too."""
    both = {**{_name(fate): two for fate, two in COLOURS.items()}, **PHASES}

    def rules(at: int) -> str:
        return "".join(f".{kind}{{fill:{two[at]};background:{two[at]}}}" for kind, two in
                       both.items())  # fmt: skip

    return f"{rules(0)}\n@media (prefers-color-scheme:dark){{{rules(1)}}}\n"


def _name(fate: str) -> str:
    return "f-" + fate.replace(" ", "-")


def _head(asked: Asked, verdict: Verdict) -> Iterator[str]:
    yield f'<h1>Drill: <span class="{verdict.outcome}">{verdict.outcome}</span></h1>'
    for reason in verdict.reasons:
        yield f"<p>{_safe(reason[:1].upper() + reason[1:])}.</p>"
    balancer = f"balancer: {asked.balancer.kind}, {shown(asked.balancer.lag)}"
    load = " ".join(asked.urls)
    if asked.load_command:
        load = asked.load_command
    if asked.job_command:
        load, balancer = f"jobs by {shlex.join(asked.job_command)}", ""
    rate = "" if asked.load_command else f"{asked.rate:g} a second"
    facts = [part for part in (load, rate, balancer) if part]
    words = shlex.join(
        ("gracewrap", *asked.options, *(("--", *asked.command) * bool(asked.command)))
    )
    yield f'<p class="dim"><code>{_safe(words)}</code><br>{_safe("; ".join(facts))}</p>'


def _table(runs: Sequence[Run]) -> Iterator[str]:
    counts = [Counter(one.fate for one in run.requests) for run in runs]
    fates = [fate for fate in FATES if fate == OK or any(count[fate] for count in counts)]
    heads = ["stop after", "took", "exit", *fates]
    yield '<div class="wide"><table><tr><th></th>' + "".join(
        f'<th class="n">{head}</th>' for head in heads) + "</tr>"  # fmt: skip
    for run, count in zip(runs, counts):
        status = "none" if run.exit_status is None else str(run.exit_status)
        cells = [f"{run.stop_after:.2f} s", f"{run.duration:.2f} s", status,
                 *(str(count[fate] or "·") for fate in fates)]  # fmt: skip
        yield f"<tr><th>{_safe(run.who)}</th>" + "".join(
            f'<td class="n">{cell}</td>' for cell in cells) + "</tr>"  # fmt: skip
    yield "</table></div>"


def _legend(runs: Sequence[Run]) -> Iterator[str]:
    fates = {one.fate for run in runs for one in run.requests}
    keys = [(_name(fate), _fate_said(fate)) for fate in FATES if fate in fates]
    kinds = {segment.kind for run in runs for row in _phases(run) for segment in row.segments}
    keys += [(kind, said) for kind, said in KINDS.items() if kind in kinds]
    shown = [f'<span class="key"><i class="{kind}"></i>{said}</span>' for kind, said in keys]
    yield f"<p>{''.join(shown)}</p>"


def _fate_said(fate: str) -> str:
    return "elsewhere: does not count" if fate == ELSEWHERE else fate


def _runs(asked: Asked, runs: Sequence[Run]) -> Iterator[str]:
    """Yield the stops: the first of each, and those that lost anything, are open."""
    shown_before: set[str] = set()
    several = Counter(run.who for run in runs)
    seen: Counter[str] = Counter()
    for run in runs:
        seen[run.who] += 1
        count = f", stop {seen[run.who]} of {several[run.who]}" if several[run.who] > 1 else ""
        trouble = [*run.lost, *run.twice]
        lost = f", {len(trouble)} lost" if run.lost else ", some done twice" if trouble else ""
        is_open = " open" if trouble or run.who not in shown_before else ""
        shown_before.add(run.who)
        yield f"<details{is_open}><summary>{_safe(run.who)}{count}{lost}</summary>"
        yield _Picture(run, "jobs" if asked.job_command else "requests").svg()
        yield from _troubles(run, trouble)
        yield "</details>"


def _troubles(run: Run, trouble: Sequence[Request]) -> Iterator[str]:
    facts = []
    if run.leftovers:
        facts.append(f"left behind: {', '.join(run.leftovers)}")
    if run.ports:
        facts.append(f"still answers at port {', '.join(map(str, run.ports))}")
    killed = run.report.get("killed") if run.report is not None else None
    if isinstance(killed, list) and killed:
        facts.append(f"SIGKILL: {', '.join(map(str, killed))}")
    for fact in facts:
        yield f'<p class="failed">{_safe(fact)}</p>'
    if not trouble:
        return
    is_open = " open" if run.who == "gracewrap" else ""
    yield f'<details{is_open}><summary class="less">The {len(trouble)} in words</summary>'
    yield ('<div class="wide"><table><tr><th>fate</th><th class="n">sent</th><th class="n">ended'
           "</th><th>what</th><th>why</th></tr>")  # fmt: skip
    kinds = {None: "", True: ", kept-alive connection", False: ", new connection"}
    for one in trouble[:MOST]:
        yield (f'<tr><td>{one.fate}</td><td class="n">{_moment(one.at)}</td><td class="n">'
               f'{_moment(one.ended)}</td><td class="why">{_safe(one.url)}{kinds[one.kept]}</td>'
               f'<td class="why">{_safe(one.why)}</td></tr>')  # fmt: skip
    yield "</table></div>"
    if len(trouble) > MOST:
        yield f"<p>and {len(trouble) - MOST} more</p>"
    yield "</details>"


def _phases(run: Run) -> list[Row]:
    """Return the phases of a stop, one row a program: of a twin only that it was asked to stop."""
    if run.report is not None:
        try:
            return list(past_stop.chart(run.report).rows)
        except past_stop.NoReport:
            pass
    kind = "killed" if run.exit_status is None else "stop"
    return [Row(run.who, (Segment(kind, 0.0, run.duration),))]


class _Picture:
    """Draws one stop."""

    def __init__(self, run: Run, noun: str) -> None:
        self._run, self._noun = run, noun
        self._rows = _phases(run)
        ats = [one.at for one in run.requests]
        ends = [one.ended for one in run.requests]
        self._from = min([-0.2, *ats])
        self._to = max([0.2, run.duration, *ends])

    def _x(self, at: float) -> float:
        share = (at - self._from) / (self._to - self._from)
        return round(LEFT + (WIDTH - LEFT - RIGHT) * min(1.0, max(0.0, share)), 1)

    def svg(self) -> str:
        """Return it."""
        top = 22.0
        parts, y = list[str](), top
        for row in self._rows:
            parts += self._phase(row, y)
            y += BAR + 6
        for name, found in self._groups():
            parts += self._lanes(name, found, y + 4)
            y += 10 + self._height(found)
        marks, end = self._marks(top, y)
        return (
            f'<div class="wide"><svg viewBox="0 0 {WIDTH} {end:g}" role="img" '
            f'aria-label="{self._noun} and phases of the stop of {_safe(self._run.who)}">'
            + "\n".join((*self._grid(top, y), *parts, *marks))
            + "</svg></div>"
        )

    def _groups(self) -> Iterator[tuple[str, list[Request]]]:
        names = {False: "new", True: "kept alive", None: self._noun}
        for kept, name in names.items():
            if found := [one for one in self._run.requests if one.kept is kept]:
                yield name, sorted(found, key=lambda one: one.at)

    def _grid(self, top: float, bottom: float) -> Iterator[str]:
        step = ticks(self._to - self._from, 10)[1:2] or [1.0]
        n = int(self._from / step[0])
        while n * step[0] <= self._to:
            at = n * step[0]
            x, n = self._x(at), n + 1
            yield f'<line class="grid" x1="{x}" y1="{top - 4}" x2="{x}" y2="{bottom:g}"/>'
            label = f"{'−' if at < 0 else ''}{shown(abs(at))}" if at else "0"
            yield f'<text x="{x}" y="{top - 8}" text-anchor="middle">{label}</text>'

    def _phase(self, row: Row, y: float) -> Iterator[str]:
        yield self._label(row.name, y + BAR - 2)
        for one in row.segments:
            if one.end > one.start:
                x, end = self._x(one.start), self._x(one.end)
                yield (
                    f'<rect class="{one.kind}" x="{x}" y="{y:g}" width="{max(1.5, end - x):.1f}" '
                    f'height="{BAR}" rx="2"><title>{KINDS[one.kind]}: {shown(one.start)} to '
                    f"{shown(one.end)}</title></rect>"
                )

    def _label(self, name: str, y: float) -> str:
        cut = name if len(name) <= 16 else name[:15] + "…"
        return f'<text x="{LEFT - 10}" y="{y:g}" text-anchor="end">{_safe(cut)}</text>'

    def _placed(self, found: Sequence[Request]) -> list[int]:
        """Return the lane of each request: the first that is free at its time."""
        free: list[float] = []
        lanes = []
        for one in found:
            x = self._x(one.at)
            lane = next((n for n, until in enumerate(free) if until <= x), len(free))
            if lane == len(free):
                free.append(0.0)
            free[lane] = max(self._x(one.ended), x + 2.5) + 1
            lanes.append(lane)
        return lanes

    def _pitch(self, found: Sequence[Request]) -> tuple[list[int], float]:
        lanes = self._placed(found)
        return lanes, min(TALLEST, LANES / (max(lanes, default=0) + 1))

    def _height(self, found: Sequence[Request]) -> float:
        lanes, pitch = self._pitch(found)
        return max(14.0, (max(lanes, default=0) + 1) * pitch)

    def _lanes(self, name: str, found: Sequence[Request], y: float) -> Iterator[str]:
        lanes, pitch = self._pitch(found)
        yield self._label(name, y + 10)
        for one, lane in zip(found, lanes):
            x = self._x(one.at)
            width = max(2.5, self._x(one.ended) - x)
            said = f"{one.fate}: {_moment(one.at)} to {_moment(one.ended)}"
            if one.fate not in (OK, ELSEWHERE):
                said += f" {one.url} {one.why}"
            yield (
                f'<rect class="{_name(one.fate)}" x="{x}" y="{y + lane * pitch:.1f}" '
                f'width="{width:.1f}" height="{max(1.0, pitch - 1.5):.1f}"><title>{_safe(said)}'
                "</title></rect>"
            )

    def _marks(self, top: float, bottom: float) -> tuple[list[str], float]:
        """Return the moments that all of it is about, and where the picture ends."""
        moments = [(0.0, "stop request")]
        if self._run.diverted is not None and self._run.diverted < self._run.duration - 0.01:
            moments.append((self._run.diverted, "the balancer sends elsewhere"))
        ended = "exit" if self._run.exit_status is not None else "given up"
        moments.append((self._run.duration, f"{ended} after {shown(self._run.duration)}"))
        parts, y = [], bottom
        for at, said in moments:
            x = self._x(at)
            y += 16
            at_end = x > WIDTH * 0.7
            side, anchor = (x - 5, "end") if at_end else (x + 5, "start")
            parts.append(f'<line class="mark" x1="{x}" y1="{top - 4}" x2="{x}" y2="{y:g}"/>')
            parts.append(f'<text x="{side:g}" y="{y:g}" text-anchor="{anchor}">{said}</text>')
        return parts, y + 8


def _moment(seconds: float) -> str:
    return f"{seconds:+.2f} s".replace("-", "−")
