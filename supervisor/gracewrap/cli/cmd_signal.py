"""`gracewrap signal`."""

from __future__ import annotations

from gracewrap.cli import subcommand
from gracewrap.cli.control_client import Peer
from gracewrap.cli.subcommand import PID, SOCKET, Arguments, Subcommand
from gracewrap.cli.wait import complain, limit_of, report
from gracewrap.linux import signals


def signal(arguments: Arguments) -> int:
    """Send programs a signal; return the exit status."""
    *names, word = arguments.names or ("",)
    if not _is_signal(word):
        what = "names no signal" if word else "a signal is missing"
        complain(f"cannot use {word!r}: {what}; use gracewrap signal NAME HUP")
        return 125
    instance = subcommand.chosen(arguments)
    answer = Peer(instance, limit_of(arguments)).post("signal", ",".join(names), word)
    if answer.status in (400, 404):  # a name is missing, or there is no such program
        complain(f"cannot send {word}: {answer.text()}")
        return 125
    return report(instance, answer)


def _is_signal(word: str) -> bool:
    try:
        return bool(signals.number(word))
    except ValueError:
        return False


SIGNAL = Subcommand(
    "signal",
    """\
gracewrap signal NAME SIGNAL sends a signal to the main process of one of several
programs (or of more: NAME ... SIGNAL), and to no other. A signal that is sent to
gracewrap itself goes to all of them.

A program that ends by it has ended by itself: what follows is what its restart,
on_exit and on_failure say.
""",
    ("[NAME ...] SIGNAL [OPTIONS]",),
    (
        subcommand.timeout("The limit for the answer: 20s, 1m30s. [default: 5s]"),
        PID,
        SOCKET,
    ),
    """\
gracewrap signal web HUP
gracewrap signal web worker USR1
docker exec app gracewrap signal nginx USR1
""",
    """\
  0    it has been sent
  1    a program is not running, or no gracewrap runs here
  125  a mistake in the options, no such program or signal (then nothing is
       sent), or several gracewraps are running
""",
    signal,
    ("NAME", "A program, by its name in [programs.NAME]; last of all the signal: HUP, USR1, 10."),
    None,
    subcommand.FINDING,
)
