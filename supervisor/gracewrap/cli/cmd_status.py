"""`gracewrap status`."""

from __future__ import annotations

import sys
import time

from gracewrap.cli import control_client
from gracewrap.cli.control_arguments import FINDING, WHICH, Asked
from gracewrap.cli.status_view import MEASURE, Line, Meter, describe
from gracewrap.cli.wait import limit_of, tell
from gracewrap.record import TYPE_CHECKING

if TYPE_CHECKING:
    from gracewrap.server.control_socket import Instance


HELP = f"""\
gracewrap status says how a running gracewrap and its command are: ready or
not, what is in flight, which processes there are, and, while it stops, for
what it waits and how long that may still take. Of several programs: a line for
each; with the NAME of one, all of that one.

Usage:
  gracewrap status [NAME] [OPTIONS]

Options:
  -w, --watch         Show it live, until gracewrap has gone; Ctrl-C ends the
                      view and nothing else. Where the output is no terminal:
                      a line for each change.
  --json              Print what gracewrap answered, for machines.
{WHICH}  --timeout DURATION  How long to wait for an answer. [default: 5s]
  -h, --help          Print this.

Examples:
  gracewrap status
  docker exec -it web gracewrap status --watch
  gracewrap status worker
  gracewrap status --json | jq .programs[0].drain.in_flight
{FINDING}
Exit status:
  0    it answered
  1    none is running here, or it did not answer
  125  a mistake in the options, or several are running
"""


def look_twice(peer: control_client.Peer, program: str = "") -> list[Line]:
    """Return the lines of `gracewrap status`, of one *program* or ("") of all.  Raises NoAnswer,
    and Unusable: no such program.

    The first look has gracewrap ask its probes, which it does not do while nothing is the matter,
    and begins the measuring.
    """
    meter = Meter()
    first = peer.status(program)
    meter.look(first, peer.pid)
    time.sleep(MEASURE)
    try:
        second = peer.status(program)
    except control_client.NoAnswer:  # it has just ended
        second = first
    return list(describe(second, meter.look(second, peer.pid)))


def status(found: Instance, asked: Asked) -> int:

    peer, program = control_client.Peer(found, limit_of(asked)), "".join(asked.programs)
    if asked.json:
        answer = peer.get(control_client.status_of(program))
        if answer.status != 200:
            raise control_client.NoAnswer(
                f"gracewrap (pid {peer.pid}) has no status to tell: {answer.text()}"
            )
        tell(answer.body.decode(errors="replace").strip())
        return 0
    if asked.watch:
        from gracewrap.cli import status_watch

        return status_watch.watch(peer, program)
    width = _width()
    for line in look_twice(peer, program):
        tell(line.text[:width] if line.kind == "row" else line.text)
    return 0


def _width() -> int | None:
    """Return the columns of the terminal; None where the output goes elsewhere."""
    if sys.stdout is None or not sys.stdout.isatty():
        return None
    from shutil import get_terminal_size

    return max(1, get_terminal_size().columns)
