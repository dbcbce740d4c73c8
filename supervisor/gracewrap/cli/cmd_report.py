"""`gracewrap report`: a picture of the stop that was, from the report that the run has written."""

from __future__ import annotations

from gracewrap.cli import report_file, show_picture
from gracewrap.cli.control_client import Unusable
from gracewrap.cli.subcommand import Arguments, Option, Subcommand
from gracewrap.picture import draw_svg, past_stop
from gracewrap.record import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping


def report(arguments: Arguments) -> int:
    """Show the stop of a report; return the exit status."""
    name = arguments.names[0] if arguments.names else "-"
    document = report_file.document(name, "draw")
    try:
        chart = past_stop.chart(document)
    except past_stop.NoReport as fault:
        raise Unusable(f"cannot draw {name}: {fault}") from None
    if arguments.svg:
        show_picture.write(arguments.svg, draw_svg.svg((chart,)))
    if arguments.html:
        page = draw_svg.html((chart,), "The stop that was", tuple(_facts(document)))
        show_picture.write(arguments.html, page)
    if not arguments.svg and not arguments.html:
        show_picture.show((chart,))
    return 1 if _is_bad(document) else 0


_BAD = ("killed", "gave_up", "ended_by_other_signal")


def _is_bad(document: Mapping[str, object]) -> bool:
    return document.get("outcome") in _BAD or bool(document.get("interrupted"))


def _facts(document: Mapping[str, object]) -> list[tuple[str, str]]:
    """Return the rows of the table below the picture."""
    keys = ("summary", "outcome", "exit_status", "started", "stop_began", "used_seconds",
            "budget_seconds", "interrupted", "held_up", "orphans_reaped", "gracewrap")  # fmt: skip
    return [
        (key.replace("_", " "), str(document[key]))
        for key in keys
        if document.get(key) not in (None, "")
    ]


REPORT = Subcommand(
    "report",
    """\
gracewrap report draws a stop that was, from the report that the run has written
(--report-file): for each program how long it served on, drained, had the stop
signal and was killed, what was in flight, and how it ended.
""",
    ("[--svg FILE] [--html FILE] [FILE]",),
    (
        Option(("--svg",), 'Write the picture to FILE ("-": standard output).', "FILE", "a.svg"),
        Option(("--html",), "Write it as a page that needs no script.", "FILE", "stop.html"),
    ),
    """\
gracewrap report /var/log/gracewrap.json
docker cp web:/run/stop.json - | tar -xO | gracewrap report -
gracewrap report stop.json --html stop.html
""",
    """\
  0    nothing was killed or cut
  1    something was killed, or cut in flight
  125  it is no report, or there was no stop
""",
    report,
    operand=("[FILE]", 'The report; without it, or "-": standard input.'),
    operands=1,
)
