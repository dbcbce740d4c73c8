"""What is done for people: help, version, check, init, and talking to a running gracewrap.  Settings are read by config.sources.

All but init need nothing but the standard library, so that they work wherever a run does; each imports what it needs itself, for
`gracewrap health` is run every few seconds.
"""

from __future__ import annotations

import posix
import sys

from gracewrap import __version__
from gracewrap.config.load import COMMAND_LINE, CommandLine, read_command_line
from gracewrap.record import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence

INSTALLED = ("typer", "rich", "tomli_w", "psutil", "h11")  # packages that come with ours
TALKING = ("status", "drain", "undrain", "stop", "restart", "health")  # to a running gracewrap


def run(line: CommandLine, args: Sequence[str]) -> int:
    """Do what the words after `gracewrap` ask for, other than wrapping a command; return the exit status."""
    try:
        status = _act(line, args)
    except BrokenPipeError:  # `| head`
        status = 0
    except ImportError as error:
        if error.name not in INSTALLED:
            raise  # of the standard library: start says what to do
        _complain(f"cannot run {line.action}: {error}; it comes with: pip install gracewrap")
        status = 125
    except Exception as error:
        _complain(f"cannot run {line.action}: {getattr(error, 'strerror', None) or error or type(error).__name__}")
        status = 125
    return _flush(status)


def _act(line: CommandLine, args: Sequence[str]) -> int:
    if line.action == "version":
        print(f"gracewrap {__version__}")
        return 0
    if line.action in TALKING:
        return _talk(line)
    from gracewrap.cli import help as helping

    if line.action == "help":
        return helping.show()
    if line.action == "check":
        from gracewrap.cli import cmd_check as checking

        # `gracewrap --config F check` is `gracewrap check --config F`.
        words, strict = checking.without_strict([*args[: len(args) - len(line.command) - 1], *line.command])
        asked = read_command_line(words)
        return helping.show("check") if asked.action == "help" else checking.check(asked, strict)
    if {"-h", "--help"}.intersection(line.command):
        return helping.show("init")
    from gracewrap.cli.commands import call

    return call(line.command)


def _talk(line: CommandLine) -> int:
    """Run a subcommand that talks to a running gracewrap; settings are of no use there."""
    if line.given or line.config is not None:
        name = line.given[0].origin.partition(", ")[2] if line.given else "--config"
        _complain(f"cannot use {name} ({COMMAND_LINE}) with {line.action}: it is for a run; write gracewrap {line.action} --help")
        return 125
    from gracewrap.cli import control_arguments as control

    return control.call(line.action, line.command)


def _complain(text: str) -> None:
    if sys.stderr is not None:
        print(f"gracewrap: {text}", file=sys.stderr)


def _flush(status: int) -> int:
    """Return *status* after what was printed has been written; a closed pipe (`| head`) is no error of ours."""
    try:
        for stream in (sys.stdout, sys.stderr):
            if stream is not None:
                stream.flush()
    except BrokenPipeError:
        posix.dup2(posix.open("/dev/null", posix.O_WRONLY), 1)
    except OSError as error:
        posix.dup2(posix.open("/dev/null", posix.O_WRONLY), 1)
        _complain(f"cannot write to stdout: {error.strerror}")
        return 125
    return status
