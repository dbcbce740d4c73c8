"""`gracewrap reopen`."""

from __future__ import annotations

from gracewrap.cli import subcommand
from gracewrap.cli.control_client import Peer
from gracewrap.cli.subcommand import PID, SOCKET, Arguments, Subcommand
from gracewrap.cli.wait import limit_of, report


def reopen(arguments: Arguments) -> int:
    """Have the log file opened anew; return the exit status."""
    instance = subcommand.chosen(arguments)
    return report(instance, Peer(instance, limit_of(arguments)).post("reopen"))


REOPEN = Subcommand(
    "reopen",
    """\
gracewrap reopen makes a running gracewrap open its log file (log.file) anew,
so that a file which has been renamed is not written to any more.
""",
    ("[OPTIONS]",),
    (PID, SOCKET, subcommand.timeout("The limit for the answer. [default: 5s]")),
    """\
logrotate:
  /var/log/gracewrap.log {
    daily
    postrotate
      gracewrap reopen
    endscript
  }
Without a control socket, by a signal: --signal-map USR1=reopen
""",
    """\
  0    lines go to the new file
  1    it cannot be opened, and they go on to the old one; or there is no
       log.file, or no gracewrap runs here
  125  a mistake in the options, or several gracewraps are running
""",
    reopen,
    more=subcommand.FINDING,
)
