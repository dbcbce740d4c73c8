"""`gracewrap status`."""

from __future__ import annotations

import sys
import time

from gracewrap.cli import control_client, subcommand
from gracewrap.cli.control_client import NoAnswer, Peer
from gracewrap.cli.status_view import MEASURE, Line, Meter, describe, wrapped
from gracewrap.cli.subcommand import PID, SOCKET, Arguments, Option, Subcommand
from gracewrap.cli.wait import limit_of, tell


def status(arguments: Arguments) -> int:
    """Print how a running gracewrap and its command are; return the exit status."""
    instance = subcommand.chosen(arguments)
    peer, program = Peer(instance, limit_of(arguments)), "".join(arguments.names)
    if arguments.json:
        answer = peer.get(control_client.status_of(program))
        if answer.status != 200:
            raise NoAnswer(f"gracewrap (pid {peer.pid}) has no status: {answer.text()}")
        tell(answer.body.decode(errors="replace").strip())
        return 0
    if arguments.watch:
        from gracewrap.cli import status_watch

        return status_watch.watch(peer, program)
    width = _width()
    for line in look_twice(peer, program, width):
        for text in wrapped(line, width) if width and line.kind == "row" else [line.text]:
            tell(text[:width] if line.kind in ("row", "head") else text)
    return 0


def look_twice(peer: Peer, program: str = "", width: int | None = None) -> list[Line]:
    """Return the lines of `gracewrap status`.

    The first look makes gracewrap ask its probes, which it does not do while nothing is going on,
    and is what CPU use is measured from.

    Args:
        peer: The gracewrap.
        program: The program that the lines are about; "": all of them.
        width: The columns that a table may have; None: as many as it needs.

    Raises:
        NoAnswer: If there is no answer.
        Unusable: If there is no such program.
    """
    meter = Meter()
    first = peer.status(program)
    meter.look(first, peer.pid)
    meter.cpu(first)
    time.sleep(MEASURE)
    try:
        second = peer.status(program)
    except NoAnswer:  # it has just ended
        second = first
    return list(describe(second, meter.look(second, peer.pid), meter.cpu(second), width))


def _width() -> int | None:
    """Return how many columns the terminal has; None if the output is no terminal."""
    if sys.stdout is None or not sys.stdout.isatty():
        return None
    from shutil import get_terminal_size

    return max(1, get_terminal_size().columns)


STATUS = Subcommand(
    "status",
    """\
gracewrap status shows the state of a running gracewrap and its command: whether
it is ready, what is in flight, which processes there are, and during a stop
what it waits for and how long that may still take. With several programs: one
line each; with a NAME, everything about that program. CPU is in percent of one
core, since the look before (0.2 s ago, with --watch up to 1 s); MEMORY is the
sum of what the processes have resident (RSS), shared pages counted for each.
""",
    ("[NAME] [OPTIONS]",),
    (
        Option(
            ("-w", "--watch"),
            "Show it live until gracewrap exits, then how it ended; Ctrl-C ends the view and "
            "nothing else. If the output is no terminal: a line for each change.",
        ),
        Option(("--json",), "Print gracewrap's answer as JSON."),
        PID,
        SOCKET,
        subcommand.timeout("The limit for the answer. [default: 5s]"),
    ),
    """\
gracewrap status
docker exec -it web gracewrap status --watch
gracewrap status worker
gracewrap status --json | jq .programs[0].drain.in_flight
""",
    """\
  0    it answered
  1    no gracewrap runs here, or it did not answer
  125  a mistake in the options, or several gracewraps are running
""",
    status,
    ("[NAME]", "A program, by its name in [programs.NAME]."),
    1,
    subcommand.FINDING,
)
