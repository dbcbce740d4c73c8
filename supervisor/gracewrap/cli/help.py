"""`gracewrap --help`: made from the table of settings."""

from __future__ import annotations

import sys

from rich.console import Console
from rich.table import Table
from rich.text import Text

from gracewrap.config.table import TABLE

_USAGE = """\
gracewrap wraps any command and stops it gracefully: it forwards signals, reaps zombies, sends the stop
signal on SIGTERM, gives what is running one budget of time to end, SIGKILLs what is left, and says what happened.

  gracewrap [OPTIONS] [--] COMMAND [ARG...]    wrap a command; its words are passed on as they are
  gracewrap --config gracewrap.toml            wrap what the file says
  gracewrap check [OPTIONS] [--] [COMMAND]     say what is wrong with file, variables and flags
  gracewrap init [FILE]                        write a commented gracewrap.toml

  In a Dockerfile:   ENTRYPOINT ["gracewrap", "--"]
                     CMD ["node", "server.js"]
"""
_END = """\
Every option is also a variable (--stop-timeout: GRACEWRAP_STOP_TIMEOUT) and a key of the file (stop_timeout).
An option wins over a variable, a variable over the file. Durations have a unit: 500ms, 10s, 1m30s.

Exit status: the command's own; 128+N if signal N ended it; 125 a mistake in options, variables or file;
126 it cannot be executed; 127 it was not found."""


def show() -> None:
    """Print the help, as wide as the terminal, without colours if it is none."""
    console = Console(highlight=False, width=None if sys.stdout.isatty() else 110)
    console.print(Text(_USAGE))
    options = Table(box=None, padding=(0, 2, 0, 0), show_header=False)
    options.add_column(no_wrap=True, style="bold")
    options.add_column()
    options.add_row("-c, --config FILE", "Read settings from a TOML file (GRACEWRAP_CONFIG).")
    for setting in TABLE:
        if not setting.flag:
            continue
        names = ", ".join((setting.option, *setting.aliases))
        default = "" if setting.default in (None, [], {}) else f" Default: {_shown(setting.default)}."
        options.add_row(Text(f"{names} {setting.metavar}"), Text(setting.help + default))
    options.add_row("-h, --help", "Print this.")
    options.add_row("-V, --version", "Print the version.")
    console.print(options)
    console.print()
    console.print(Text(_END))


def _shown(default: object) -> str:
    return ",".join(map(str, default)) if isinstance(default, list) else str(default)
