"""`gracewrap plan`: the stop that would be, on one time axis."""

from __future__ import annotations

import json
import os
import sys

from gracewrap.cli import own_options, show_picture
from gracewrap.cli.wait import complain
from gracewrap.config import command_line, load
from gracewrap.config.problems import DEFAULT_FILE
from gracewrap.config.settings import COMMAND_LINE
from gracewrap.config.values import BadValue, duration
from gracewrap.picture import draw_svg, planned_stop
from gracewrap.record import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence

    from gracewrap.config.settings import Settings
    from gracewrap.picture.chart import Chart

OPTIONS = {"--svg": "stop.svg", "--html": "stop.html", "--json": "", "--grace": "30s"}


def run(words: Sequence[str]) -> int:
    """Run `gracewrap plan WORDS`: 0, 1 if something does not fit, 125 for unusable settings."""
    words, own, problem = own_options.taken(words, OPTIONS)
    problem = problem or own_options.mistyped(words, OPTIONS)
    line = command_line.read_command_line(words)
    if line.action == "help":
        print(HELP, end="")
        return 0
    grace = None
    if "--grace" in own and not problem:
        try:
            grace = duration(own["--grace"][-1])
        except BadValue as fault:
            problem = f"cannot use --grace = {own['--grace'][-1]!r} ({COMMAND_LINE}): {fault}"
    if problem:
        complain(problem)
        return 125
    default = DEFAULT_FILE if os.path.lexists(DEFAULT_FILE) and not line.command else None
    settings, problems = load.resolve(line, os.environb, needs_command=False, otherwise=default)
    if settings is None or any(not one.warning for one in problems):
        for one in problems:
            complain(one.text)
        return 125
    return show(settings, grace, own)


def show(settings: Settings, grace: float | None, own: dict[str, list[str]]) -> int:
    """Show the plan of these settings as the options ask for; return the exit status."""
    made = planned_stop.plan(settings, grace)
    charts = (made.worst, made.drained)
    for path in own.get("--svg", ()):
        show_picture.write(path, draw_svg.svg(charts))
    for path in own.get("--html", ()):
        rows = [("does not fit", fault.text) for fault in made.faults]
        show_picture.write(path, draw_svg.html(charts, "The stop that would be", rows))
    if "--json" in own:
        sys.stdout.write(json.dumps(document(made), indent=2, ensure_ascii=False) + "\n")
    elif "--svg" not in own and "--html" not in own:
        show_picture.show(charts)
    return 1 if made.faults else 0


def document(made: planned_stop.Plan) -> dict[str, object]:
    """Return a plan for machines."""
    return {
        "worst": as_json(made.worst),
        "all_drained": as_json(made.drained),
        "faults": [
            {"program": one.program or None, "setting": one.setting,
             "by_seconds": round(one.by, 6), "text": one.text}
            for one in made.faults
        ],
    }  # fmt: skip


def as_json(chart: Chart) -> dict[str, object]:
    """Return a chart for machines."""
    return {
        "title": chart.title,
        "limits": [{"at": limit.at, "what": limit.label} for limit in chart.limits],
        "programs": [
            {
                "name": row.name,
                "segments": [
                    {"kind": one.kind, "from": round(one.start, 6), "to": round(one.end, 6)}
                    for one in row.segments
                ],
                "marks": [
                    {"at": round(mark.at, 6), "kind": mark.kind, "what": mark.label}
                    for mark in row.marks
                ],
                "in_flight": [[round(one.at, 6), one.value] for one in row.samples],
                "said": row.said,
            }
            for row in chart.rows
        ],
    }


HELP = """\
gracewrap plan draws the stop that these settings would give, on one time axis:
at worst, when nothing drains and nobody exits, and when all is drained. It
runs the same rules as a real stop, in simulated time, and starts nothing. What
does not fit is named, with the setting that mends it.

Usage:
  gracewrap plan [--grace DURATION] [--svg FILE] [--html FILE] [--json]
                 [OPTIONS] [--] [COMMAND [ARG...]]

Options:
  It takes all options of a run (gracewrap help all lists them), and a
  command. Without --config and without a command it reads gracewrap.toml in the
  current directory, if there is one.
  --grace DURATION    The platform's grace period:
                      terminationGracePeriodSeconds, stop_grace_period,
                      docker stop -t.
  --svg FILE          Write the picture to FILE ("-": standard output).
  --html FILE         Write it as a page.
  --json              Print it for machines.
  -h, --help          Print this help.

Examples:
  gracewrap plan --config web.toml --grace 30s
  gracewrap plan --propagation-delay 5s --stop-timeout 15s -- node server.js

Exit status:
  0    all fits
  1    something does not fit
  125  the settings cannot be used
"""
