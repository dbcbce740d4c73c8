"""`gracewrap stop` and `gracewrap restart`."""

from __future__ import annotations

import time

from gracewrap.cli import control_client
from gracewrap.cli.control_arguments import FINDING, WHICH, Asked
from gracewrap.cli.wait import complain, limit_of, tell, wait, was_told
from gracewrap.record import TYPE_CHECKING

if TYPE_CHECKING:
    from gracewrap.server.control_socket import Instance


STOP = f"""\
gracewrap stop asks a running gracewrap to stop, as SIGTERM does: gracefully,
within its shutdown_timeout. Asked again it changes nothing; a second SIGTERM
skips what is left of delays and drains, and a third one kills (on_repeat).

gracewrap stop NAME ... stops one or more of several programs, and before them
those that depend on them; the others go on. It waits until they are gone. To
start them again: gracewrap restart NAME ...

Usage:
  gracewrap stop [--wait] [OPTIONS]
  gracewrap stop NAME ... [--no-wait] [OPTIONS]

Options:
  --wait              Wait until gracewrap has gone.
  --no-wait           Do not wait until the programs have stopped.
  --timeout DURATION  Wait no longer than this: 20s, 1m30s. Where it does not
                      wait: for the answer. [default: no limit]
{WHICH}  -h, --help          Print this.

Examples:
  gracewrap stop --wait
  gracewrap stop --pid 4711; gracewrap status --watch --pid 4711
  gracewrap stop worker
  gracewrap stop web worker
{FINDING}
Exit status:
  0    it stops; with --wait: it has gone (its exit status is its parent's);
       with NAME: they have stopped
  1    not in time, or no gracewrap is here; with NAME: one had to be killed,
       or others are being stopped: ask again after that
  125  a mistake in the options, no such program (then nothing is stopped), or
       several gracewraps run
"""

RESTART = f"""\
gracewrap restart NAME ... stops one or more of several programs gracefully,
and before them those that depend on them, and starts them again in their
order; the others go on. It waits until they are ready again. It also starts
what has ended, or was stopped with gracewrap stop NAME.

Usage:
  gracewrap restart NAME ... [--no-wait] [OPTIONS]

Options:
  NAME                A program, as it is called in [programs.NAME]. One
                      command that is run with restart = "always" needs none.
  --no-wait           Do not wait until all is ready again.
  --timeout DURATION  Wait no longer than this: 20s, 1m30s. With --no-wait: for
                      the answer. [default: no limit]
{WHICH}  -h, --help          Print this.

Examples:
  gracewrap restart web
  gracewrap restart web worker
  docker exec app gracewrap restart worker --timeout 1m
  All of them, one stack after the other: signal_map = {{HUP = "restart"}} in the
  file, and then kill -HUP.
{FINDING}
Exit status:
  0    they are up again, and ready; what had to be killed is named
  1    they are not, or not in time; others are being stopped: ask again after
       that; or no gracewrap is here
  125  a mistake in the options, no such program (then nothing is stopped), or
       several gracewraps run
"""


def stop(found: Instance, asked: Asked) -> int:
    from gracewrap.cli import status_view

    if asked.programs:
        return _stop_part(found, asked, "stop")
    peer = control_client.Peer(found, control_client.WAIT if asked.wait else limit_of(asked))
    before = peer.status()
    began = time.monotonic()
    answer = peer.post("stop")
    if was_told(found, answer):
        return 1
    if not before.get("stop") and not asked.wait:
        tell(f"  {status_view.commands(before)}\n  to see it stop: gracewrap status --watch")
    return (
        wait(peer, began, asked.timeout, lambda status, elapsed: None, "gone") if asked.wait else 0
    )


def restart(found: Instance, asked: Asked) -> int:
    return _stop_part(found, asked, "restart")


def _stop_part(found: Instance, asked: Asked, action: str) -> int:
    """Stop programs, and what cannot go on without them; start that anew if *action* is
    "restart"."""
    peer = control_client.Peer(found, limit_of(asked) if asked.no_wait else control_client.WAIT)
    began = time.monotonic()
    answer = peer.post(action, ",".join(asked.programs))
    if answer.status in (400, 404):  # they must be named, or these are other names
        from gracewrap.config.problems import one_line

        complain(f"cannot {one_line(' '.join((action, *asked.programs)))}: {answer.text()}")
        return 125
    told = was_told(found, answer)
    if told or asked.no_wait or answer.status != 202:
        return told
    from gracewrap.cli import wait_for_programs

    waited = wait_for_programs.Waited(answer.fields(), asked.programs)
    return wait(peer, began, asked.timeout, waited.judge, waited.done, waited)
