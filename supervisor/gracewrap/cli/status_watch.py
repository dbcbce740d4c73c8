"""`gracewrap status --watch`: the status, live; on a terminal by rich, and elsewhere a line for
each change."""

from __future__ import annotations

import signal
import sys
import time
from typing import TYPE_CHECKING

from gracewrap.cli import control_client, status_view

if TYPE_CHECKING:
    from collections.abc import Mapping
    from types import FrameType
    from typing import Any

    from rich.console import Console
    from rich.text import Text

CALM, BUSY = 1.0, 0.25  # seconds from one look to the next; busy: it drains or stops
LOOK = 2.0  # seconds for an answer
STYLES = {"title": "bold", "program": "bold", "detail": "dim", "head": "dim"}
NO_SCREEN = "gracewrap: a line for each change; the live view needs rich: pip install rich"
TONES = {"good": "green", "busy": "yellow", "bad": "bold red"}


class Ended(Exception):
    """A signal has asked us to end."""


def watch(peer: control_client.Peer, program: str = "") -> int:
    """Show it, or one *program* of it, until it has gone, or Ctrl-C; return the exit status.

    Raises:
        NoAnswer: If there is none at the beginning.
        Unusable: If there is no such program.
    """
    peer.timeout = min(peer.timeout, LOOK)
    first = peer.status(program)
    end = control_client.End(peer)
    for signum in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(signum, _end)
    try:
        console = _console()
        watched = peer, program, first, end
        last = _live(*watched, console) if console else _lines(*watched)
    except KeyboardInterrupt:
        return 0
    except Ended as ended:
        return 128 + int(ended.args[0])
    print(_farewell(peer, last, end), flush=True)
    return 0


def _end(signum: int, _: FrameType | None) -> None:
    sys.unraisablehook = lambda _: None  # an object that is half made complains when it is dropped
    # So that the terminal is put back on the way out.
    raise KeyboardInterrupt if signum == signal.SIGINT else Ended(signum)


def _console() -> Console | None:
    """Return the terminal, or None if there is none that can be written over."""
    if not sys.stdout.isatty():
        return None
    try:
        from rich.console import Console
    except ImportError:
        print(NO_SCREEN, file=sys.stderr, flush=True)
        return None
    console = Console(highlight=False, markup=False, emoji=False)
    return None if console.is_dumb_terminal else console


def _lines(
    peer: control_client.Peer, program: str, now: dict[str, Any], end: control_client.End
) -> dict[str, Any]:
    """Print a line for each change; return the last status there was.

    Raises:
        BrokenPipeError: If nobody reads the lines any more.
    """
    said = ""
    while True:
        headline = status_view.headline(now)
        if headline != said:
            said = headline
            print(f"{time.strftime('%H:%M:%S')} {headline}", flush=True)
        if end.comes(_pause(now)):
            return now
        _need_a_reader()
        try:
            now = peer.status(program, processes=False)
        except control_client.Gone:
            return now
        except control_client.NoAnswer as fault:
            if str(fault) != said:
                said = str(fault)
                print(f"{time.strftime('%H:%M:%S')} {said}", flush=True)


def _need_a_reader() -> None:
    """Raise BrokenPipeError if stdout is a pipe without a reader (`| grep -m 1 ready`): a write
    would find it out, but there is none as long as nothing changes."""
    from select import POLLERR, poll

    poller = poll()
    poller.register(1, 0)  # nothing is asked for: POLLERR comes by itself (poll(2))
    if any(events & POLLERR for _, events in poller.poll(0)):
        raise BrokenPipeError


def _live(
    peer: control_client.Peer,
    program: str,
    now: dict[str, Any],
    end: control_client.End,
    console: Console,
) -> dict[str, Any]:
    """Show the status on a screen of its own; return the last one there was."""
    from rich.live import Live

    meter = status_view.Meter()
    meter.look(now, peer.pid)
    meter.cpu(now)
    at, fault = time.monotonic(), ""
    time.sleep(status_view.MEASURE)
    with Live(console=console, screen=True, auto_refresh=False) as live:
        while True:
            try:
                now, at, fault = peer.status(program), time.monotonic(), ""
            except control_client.Gone:
                return now
            except control_client.NoAnswer:
                fault = f"no answer for {status_view.span(time.monotonic() - at, whole=True)}"
            use = meter.look(now, peer.pid)
            size = console.width, console.height
            live.update(page(now, use, *size, fault, meter.cpu(now)), refresh=True)
            if end.comes(_pause(now)):
                return now


def page(
    now: Mapping[str, Any],
    use: Mapping[int, status_view.Use],
    width: int,
    height: int,
    fault: str = "",
    cpu: Mapping[str, float] | None = None,
) -> Text:
    """Return the screen: at most *height* lines of *width* columns.  What is too much is left out
    of the processes first; what matters most takes several lines where it does not fit.

    Args:
        now: The status.
        use: What the processes use.
        width: Columns.
        height: Lines.
        fault: Why *now* is old; "": it is not.
        cpu: What the programs use, in percent of one core.
    """
    from rich.text import Text

    lines = list(status_view.describe(now, use, cpu, width))
    if fault:
        lines.insert(
            1, status_view.Line(f"  {fault}; what follows is what it said last", "stop", "bad")
        )
    stop = now.get("stop") or now.get("part")
    tall = [len(status_view.wrapped(line, width)) for line in lines]
    room = height - sum(tall) - (1 if stop else 0)
    lines = _without_some(lines, tall, -room) if room < 0 else lines
    texts = []
    for line in lines:
        style = TONES.get(line.tone) or STYLES.get(line.kind, "")
        texts += [Text(text, style=style) for text in status_view.wrapped(line, width)]
        if line.kind == "title" and stop:
            texts.append(_bar(stop, width))
    for text in texts:
        text.truncate(width, overflow="ellipsis")
    return Text("\n", no_wrap=True, overflow="crop").join(texts[:height])


def _without_some(
    lines: list[status_view.Line], tall: list[int], many: int
) -> list[status_view.Line]:
    """Leave processes or programs out that take *many* lines, and one more to say so: from the end,
    first those that are well; *tall* says how many lines each takes."""
    what = "process" if any(line.kind == "process" for line in lines) else "row"
    where = [i for i, line in enumerate(lines) if line.kind == what]
    calm = [i for i in where if lines[i].tone in ("good", "")]
    out: list[int] = []
    for i in reversed([*(i for i in where if i not in calm), *calm]):
        if sum(tall[j] for j in out) <= many:
            out.insert(0, i)
    out.sort()
    if len(out) < 2:
        return lines
    more = f"{len(out)} more {'processes' if what == 'process' else 'programs'}"
    note = status_view.Line(f"  ... and {more}: gracewrap status lists all", "detail")
    kept = [line for i, line in enumerate(lines) if i not in out]
    return [*kept[: out[0]], note, *kept[out[0] :]] if what == "process" else [*kept, note]


def _bar(stop: object, width: int) -> Text:
    """Return the budget as a bar: what is gone of it, and what is left."""
    from rich.text import Text

    fields = stop if isinstance(stop, dict) else {}
    left, budget = (
        status_view.figure(fields, "left_seconds"),
        status_view.figure(fields, "budget_seconds"),
    )
    if left is None or not budget:
        return Text("")
    words = f" {status_view.span(left)} left of {status_view.span(budget)}"
    columns = max(10, min(width, 80) - len(words) - 2)
    full = round(columns * min(1.0, max(0.0, left / budget)))
    style = "red" if left < budget / 5 else "yellow" if left < budget / 2 else "green"
    return Text.assemble("  ", ("━" * full, style), ("─" * (columns - full), "dim"), (words, style))


def _pause(now: Mapping[str, Any]) -> float:
    return (
        CALM
        if status_view.word(now, "phase") in ("running", "drained", "") and not now.get("part")
        else BUSY
    )


def _farewell(peer: control_client.Peer, last: Mapping[str, Any], end: control_client.End) -> str:
    """Return the last line: how the run has ended; if gracewrap has not said so, what was going on
    when it was last seen."""
    if end.comes(0.0):
        outcome = status_view.word(end.fields, "outcome").replace("_", " ")
        summary = status_view.word(end.fields, "summary")  # its exit status is in it
        return f"gracewrap (pid {peer.pid}) has ended, {outcome}: {summary}"
    stop = last.get("stop")
    fields = stop if isinstance(stop, dict) else {}
    by, elapsed = (
        status_view.word(fields, "requested_by"),
        status_view.figure(fields, "elapsed_seconds"),
    )
    took = f" {status_view.span(elapsed)} after" if elapsed is not None else ""
    left = status_view.left_of(last)
    asked = f"{took} a stop requested by {by}" if by else ""
    return (
        f"gracewrap (pid {peer.pid}) has gone{asked}; last seen: "
        f"{status_view.waiting_for(last)}{left and f'; {left} were left'}"
        "; it has not said how it ended"
    )
