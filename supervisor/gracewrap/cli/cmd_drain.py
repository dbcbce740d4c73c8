"""`gracewrap drain` and `gracewrap undrain`."""

from __future__ import annotations

import time

from gracewrap.cli import control_client
from gracewrap.cli.control_arguments import FINDING, WHICH, Asked
from gracewrap.cli.wait import limit_of, wait, was_told
from gracewrap.record import TYPE_CHECKING

if TYPE_CHECKING:
    from typing import Any

    from gracewrap.server.control_socket import Instance


DRAIN = f"""\
gracewrap drain has a running gracewrap drain its command without stopping it:
readiness turns 503, so that no new work comes, and what is in flight is
finished. gracewrap undrain takes that back. Several programs are drained all
at once.

Usage:
  gracewrap drain [--wait] [OPTIONS]

Options:
  --wait              Wait until nothing is in flight, as the drain probe says,
                      or until gracewrap has gone.
  --timeout DURATION  Wait no longer than this: 20s, 1m30s. Without --wait: for
                      the answer. [default with --wait: no limit]
{WHICH}  -h, --help          Print this.

Examples:
  Kubernetes, before it sends SIGTERM. It runs the hook within
  terminationGracePeriodSeconds, which must have room for the stop as well:
    lifecycle: {{preStop: {{exec: {{command: [gracewrap, drain, --wait]}}}}}}
  A hook that leaves the last 10 of 30 seconds for the stop:
    command: [gracewrap, drain, --wait, --timeout, 20s]
  Before maintenance, by hand:
    docker exec web gracewrap drain --wait && docker restart web
{FINDING}
Exit status:
  0    drained, or gracewrap has gone; without --wait: it has begun
  1    not drained in time, cut by SIGKILL or taken back; or no gracewrap here
  2    there is nothing to wait for: no drain probe is configured
  125  a mistake in the options, or several are running
"""

UNDRAIN = f"""\
gracewrap undrain takes a gracewrap drain back: readiness is 200 again, so that
new work comes. (What drain.start has told the command is not taken back.)

Usage:
  gracewrap undrain [OPTIONS]

Options:
{WHICH}  --timeout DURATION  How long to wait for an answer. [default: 5s]
  -h, --help          Print this.

Example:
  gracewrap drain --wait --timeout 20s || gracewrap undrain
{FINDING}
Exit status:
  0    it is ready again
  1    it cannot: it is stopping already; or no gracewrap is here
  125  a mistake in the options, or several are running
"""

TAKEN_BACK = 2.0  # seconds after which a drain that has been asked for must have begun


def undrain(found: Instance, asked: Asked) -> int:
    answer = control_client.Peer(found, limit_of(asked)).post("undrain")
    return was_told(found, answer)


def drain(found: Instance, asked: Asked) -> int:
    from gracewrap.cli import status_view

    peer = control_client.Peer(found, control_client.WAIT if asked.wait else limit_of(asked))
    began = time.monotonic()
    answer = peer.post("drain")
    if not asked.wait or answer.status not in (
        200,
        202,
        409,
    ):  # 409: it is stopping already, and that is waited for as well
        return was_told(found, answer)
    told = was_told(found, answer) if answer.status != 409 else 0
    if told:
        return told
    begun = False

    def judge(status: dict[str, Any], elapsed: float) -> tuple[int, str] | None:
        nonlocal begun
        phase = status_view.word(status, "phase")
        if phase in (*status_view.UP, "draining", "drained") and not status_view.probes(status):
            return (
                2,
                "there is nothing to wait for: no drain probe is configured; readiness is off, and "
                "what is in flight goes on",
            )
        if status_view.is_drained(status):
            return 0, f"drained after {status_view.span(elapsed)}"
        begun = begun or phase not in ("", *status_view.UP)
        if phase in status_view.UP and (begun or elapsed > TAKEN_BACK):
            return 1, "not drained: the drain was taken back (gracewrap undrain)"
        return None

    return wait(peer, began, asked.timeout, judge, "drained")
