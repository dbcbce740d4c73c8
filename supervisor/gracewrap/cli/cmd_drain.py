"""`gracewrap drain` and `gracewrap undrain`."""

from __future__ import annotations

import time

from gracewrap.cli import subcommand
from gracewrap.cli.control_client import WAIT, Peer
from gracewrap.cli.subcommand import PID, SOCKET, Arguments, Option, Subcommand
from gracewrap.cli.wait import limit_of, report, wait
from gracewrap.record import TYPE_CHECKING

if TYPE_CHECKING:
    from typing import Any

TAKEN_BACK = 2.0  # seconds within which a drain that was requested has begun


def drain(arguments: Arguments) -> int:
    """Ask for a drain, and with --wait wait until it is done; return the exit status."""
    from gracewrap.cli import status_view

    instance = subcommand.chosen(arguments)
    peer = Peer(instance, WAIT if arguments.wait else limit_of(arguments))
    began = time.monotonic()
    answer = peer.post("drain")
    stopping = answer.status == 409  # then that stop is waited for
    if not (arguments.wait and stopping):
        failed = report(instance, answer)
        if failed or not arguments.wait:
            return failed
    begun = False

    def judge(status: dict[str, Any], elapsed: float) -> tuple[int, str] | None:
        nonlocal begun
        phase = status_view.word(status, "phase")
        if phase in (*status_view.UP, "draining", "drained") and not status_view.probes(status):
            return (
                2,
                "there is no drain probe to wait for; readiness is off, and work in flight "
                "continues",
            )
        if status_view.is_drained(status):
            return 0, f"drained after {status_view.span(elapsed)}"
        if status_view.is_given_up(status):
            return (
                1,
                f"not drained, and given up: {status_view.waiting_for(status)} (drain.timeout, or "
                "a probe that has failed); run gracewrap undrain before another drain",
            )
        begun = begun or phase not in ("", *status_view.UP)
        if phase in status_view.UP and (begun or elapsed > TAKEN_BACK):
            return 1, "not drained: the drain was cancelled (gracewrap undrain)"
        return None

    return wait(peer, began, arguments.timeout, judge, "drained")


def undrain(arguments: Arguments) -> int:
    """Cancel a drain; return the exit status."""
    instance = subcommand.chosen(arguments)
    return report(instance, Peer(instance, limit_of(arguments)).post("undrain"))


DRAIN = Subcommand(
    "drain",
    """\
gracewrap drain makes a running gracewrap drain its command without stopping it:
readiness turns 503, so that no new work arrives, and work in flight is
finished. gracewrap undrain cancels that. If there are several programs, all of
them are drained.
""",
    ("[--wait] [OPTIONS]",),
    (
        Option(
            ("--wait",),
            "Wait until nothing is in flight, according to the drain probe, or until gracewrap has "
            "exited.",
        ),
        subcommand.timeout(
            "Give up waiting after this time: 20s, 1m30s. Without --wait: the limit for the "
            "answer. [default with --wait: no limit]"
        ),
        PID,
        SOCKET,
    ),
    """\
Kubernetes, before it sends SIGTERM. The hook runs within
terminationGracePeriodSeconds, which must have room for the stop as well:
  lifecycle: {preStop: {exec: {command: [gracewrap, drain, --wait]}}}
A hook that leaves the last 10 of 30 seconds for the stop:
  command: [gracewrap, drain, --wait, --timeout, 20s]
Before maintenance, by hand:
  docker exec web gracewrap drain --wait && docker restart web
""",
    """\
  0    drained, or gracewrap has exited; without --wait: the drain has begun
  1    not drained in time (or in drain.timeout), killed or cancelled; or no
       gracewrap runs here
  2    there is no drain probe, so there is nothing to wait for
  125  a mistake in the options, or several gracewraps are running
""",
    drain,
    more=subcommand.FINDING,
)

UNDRAIN = Subcommand(
    "undrain",
    """\
gracewrap undrain cancels a gracewrap drain: readiness is again what it is without
one, so that new work arrives. (It does not undo what drain.start has told the
command.)
""",
    ("[OPTIONS]",),
    (PID, SOCKET, subcommand.timeout("The limit for the answer. [default: 5s]")),
    "gracewrap drain --wait --timeout 20s || gracewrap undrain\n",
    """\
  0    it is to take new work again
  1    it cannot, because it is stopping; or no gracewrap runs here
  125  a mistake in the options, or several gracewraps are running
""",
    undrain,
    more=subcommand.FINDING,
)
