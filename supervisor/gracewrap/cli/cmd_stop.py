"""`gracewrap stop` and `gracewrap restart`."""

from __future__ import annotations

import time

from gracewrap.cli import subcommand
from gracewrap.cli.control_client import WAIT, End, Peer
from gracewrap.cli.subcommand import PID, SOCKET, Arguments, Option, Subcommand
from gracewrap.cli.wait import complain, limit_of, report, tell, wait
from gracewrap.record import replace


def stop(arguments: Arguments) -> int:
    """Ask gracewrap, or some of its programs, to stop; return the exit status."""
    from gracewrap.cli import status_view

    if arguments.names:
        return _ask_programs(arguments, "stop")
    instance = subcommand.chosen(arguments)
    peer = Peer(instance, limit_of(arguments) if arguments.no_wait else WAIT)
    before = peer.status()
    # PID 1 takes its whole container with it, us too, unless it knows that we wait for its end.
    end = End(peer) if peer.pid == 1 and not arguments.no_wait else None
    began = time.monotonic()
    failed = report(instance, peer.post("stop"))
    if failed:
        return failed
    if not arguments.no_wait:
        return wait(peer, began, arguments.timeout, lambda status, elapsed: None, "gone", end=end)
    if not before.get("stop"):
        tell(f"  {status_view.commands(before)}\n  to see it stop: gracewrap status --watch")
    return 0


def restart(arguments: Arguments) -> int:
    """Ask gracewrap to restart some of its programs, or all; return the exit status."""
    if arguments.all:
        found = Peer(subcommand.chosen(arguments), WAIT).status(processes=False).get("programs")
        listed = found if isinstance(found, list) else []
        names = [one.get("name") for one in listed if isinstance(one, dict)]
        arguments = replace(arguments, names=tuple(name for name in names if name))
    return _ask_programs(arguments, "restart")


def _ask_programs(arguments: Arguments, action: str) -> int:
    """Ask for *action* on the named programs; wait until it is done; return the exit status."""
    instance = subcommand.chosen(arguments)
    peer = Peer(instance, limit_of(arguments) if arguments.no_wait else WAIT)
    began = time.monotonic()
    answer = peer.post(action, ",".join(arguments.names))
    if answer.status in (400, 404):  # a name is missing, or there is no such program
        from gracewrap.config.problems import one_line

        complain(f"cannot {one_line(' '.join((action, *arguments.names)))}: {answer.text()}")
        return 125
    failed = report(instance, answer)
    if failed or arguments.no_wait or answer.status != 202:
        return failed
    from gracewrap.cli import wait_for_programs

    waited = wait_for_programs.Waited(answer.fields(), arguments.names)
    return wait(peer, began, arguments.timeout, waited.judge, waited.done, waited)


STOP = Subcommand(
    "stop",
    """\
gracewrap stop asks a running gracewrap to stop, as SIGTERM does: gracefully,
within its shutdown_timeout. Asking again changes nothing; a second SIGTERM
skips remaining delays and drains, and a third one kills (on_repeat).

gracewrap stop NAME ... stops one or more of several programs, and first those
that depend on them; the others keep running. To start them again: gracewrap
restart NAME ...

Both wait until it is done.
""",
    ("[--no-wait] [OPTIONS]", "NAME ... [--no-wait] [OPTIONS]"),
    (
        Option(("--no-wait",), "Do not wait until it is done."),
        Option(("--wait",), "Wait until it is done, as it does without this option too."),
        Option(("--all",), "Stop gracewrap and all programs, as without a NAME."),
        subcommand.timeout(
            "Give up waiting after this time: 20s, 1m30s. If it does not wait: the limit for the "
            "answer. [default: no limit]"
        ),
        PID,
        SOCKET,
    ),
    """\
gracewrap stop
gracewrap stop --no-wait --pid 4711; gracewrap status --watch --pid 4711
gracewrap stop worker
gracewrap stop web worker
""",
    """\
  0    it has exited (its exit status goes to its parent); with NAME: the
       programs have stopped; with --no-wait: it is stopping
  1    not in time, or no gracewrap runs here; with NAME: one had to be killed,
       or others are being stopped: ask again after that
  125  a mistake in the options, no such program (then nothing is stopped), or
       several gracewraps are running
""",
    stop,
    ("NAME", "A program, by its name in [programs.NAME]."),
    None,
    subcommand.FINDING,
)

RESTART = Subcommand(
    "restart",
    """\
gracewrap restart NAME ... stops one or more of several programs gracefully, and
first those that depend on them, and starts them again in their order; the
others keep running. It waits until they are ready again. It also starts a
program that has ended, or was stopped with gracewrap stop NAME.
""",
    ("NAME ... [--no-wait] [OPTIONS]", "--all [--no-wait] [OPTIONS]"),
    (
        Option(("--all",), "Restart all programs."),
        Option(("--no-wait",), "Do not wait until the programs are ready again."),
        subcommand.timeout(
            "Give up waiting after this time: 20s, 1m30s. With --no-wait: the limit for the "
            "answer. [default: no limit]"
        ),
        PID,
        SOCKET,
    ),
    """\
gracewrap restart web
gracewrap restart web worker
gracewrap restart --all
docker exec app gracewrap restart worker --timeout 1m
To restart all of them, one after the other: kill -HUP, with
  signal_map = {HUP = "restart"}
""",
    """\
  0    they run again, and are ready; those that had to be killed are named
  1    they do not, or not in time; others are being stopped: ask again after
       that; or no gracewrap runs here
  125  a mistake in the options, no such program (then nothing is stopped), or
       several gracewraps are running
""",
    restart,
    (
        "NAME",
        "A program, by its name in [programs.NAME]. A single command that runs with restart = "
        '"always" needs none.',
    ),
    None,
    subcommand.FINDING,
)
