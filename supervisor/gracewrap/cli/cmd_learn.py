"""`gracewrap learn`: the settings that a command needs, from stops that were watched."""

from __future__ import annotations

import json
import sys

from gracewrap.cli import report_file
from gracewrap.cli.control_client import Unusable
from gracewrap.cli.subcommand import Arguments, Option, Subcommand
from gracewrap.learn import observed_stops, suggested_settings
from gracewrap.picture import past_stop


def learn(arguments: Arguments) -> int:
    """Print the settings; return the exit status."""
    seen = observed_stops.Watched()
    for name in arguments.names or ("-",):
        seen += _read(name)
    lines = suggested_settings.learn(seen)
    if arguments.json:
        found = [
            {"program": one.program or None, "setting": one.name or None,
             "value": json.loads(one.value) if one.value else None, "why": one.why,
             "settled": not one.unsettled}
            for one in lines
        ]  # fmt: skip
        sys.stdout.write(json.dumps(found, indent=2, ensure_ascii=False) + "\n")
    else:
        sys.stdout.write(suggested_settings.toml(lines))
    return int(any(one.unsettled for one in lines))


def _read(name: str) -> observed_stops.Watched:
    """Return what a file tells of.  Raises Unusable if nothing can be learnt from it."""
    try:
        return observed_stops.read(report_file.document(name, "learn from"))
    except past_stop.NoReport as fault:
        raise Unusable(f"cannot learn from {name}: {fault}") from None


LEARN = Subcommand(
    "learn",
    """\
gracewrap learn prints the settings that a command needs, from the reports of its
stops (--report-file) and from drills (gracewrap drill --json): the preset, the
budget, the time of each program, the grace period to ask the platform for, when
new connections end; each with the reason and the figure that was measured. The
longest that was seen counts, and half as much again. Stops that lost something
show what is missing: watch it again with what was learnt.
""",
    ("[--json] [FILE...]",),
    (Option(("--json",), "Print it for machines."),),
    """\
gracewrap learn stop-1.json stop-2.json stop-3.json
gracewrap drill --json --url http://127.0.0.1:8000/ -- ./serve >drill.json
gracewrap learn drill.json
""",
    """\
  0    the stops say what is needed
  1    not all: requests were lost, or a program was killed, died of the stop
       signal undrained, or exited with work in flight: watch it again with
       these settings; or the files are about different commands
  125  a file is no report, or there was no stop in it
""",
    learn,
    operand=("[FILE...]", 'Reports or drills; without one, or "-": standard input.'),
)
