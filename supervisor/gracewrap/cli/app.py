"""What is done for people: help, version, check, init, and talking to a running gracewrap.
Settings are read by config.load.

All but init need nothing but the standard library, so that they work wherever a run does; each
imports what it needs itself, for `gracewrap health` is run every few seconds.
"""

from __future__ import annotations

import posix
import sys

from gracewrap import __version__
from gracewrap.cli import control_client
from gracewrap.cli.control_arguments import Asked, read
from gracewrap.cli.wait import tell
from gracewrap.config.command_line import CommandLine, read_command_line
from gracewrap.config.problems import COMMAND_LINE
from gracewrap.record import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from gracewrap.server.control_socket import Instance


INSTALLED = ("typer", "rich", "tomli_w", "psutil", "h11")  # packages that come with ours
TALKING = ("status", "drain", "undrain", "stop", "restart", "health")  # to a running gracewrap


def run(line: CommandLine, args: Sequence[str]) -> int:
    """Do what the words after `gracewrap` ask for, other than wrapping a command; return the exit
    status."""
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
        _complain(
            f"cannot run {line.action}: "
            f"{getattr(error, 'strerror', None) or error or type(error).__name__}"
        )
        status = 125
    return _flush(status)


def _act(line: CommandLine, args: Sequence[str]) -> int:
    if line.action == "version":
        print(f"gracewrap {__version__}")
        return 0
    if line.action in TALKING:
        return _talk(line)
    from gracewrap.cli import help

    if line.action == "help":
        return help.show()
    if line.action == "check":
        from gracewrap.cli import cmd_check

        # `gracewrap --config F check` is `gracewrap check --config F`.
        words, strict = cmd_check.without_strict(
            [*args[: len(args) - len(line.command) - 1], *line.command]
        )
        asked = read_command_line(words)
        return help.show("check") if asked.action == "help" else cmd_check.check(asked, strict)
    if {"-h", "--help"}.intersection(line.command):
        return help.show("init")
    from gracewrap.cli.commands import call

    return call(line.command)


def _talk(line: CommandLine) -> int:
    """Run a subcommand that talks to a running gracewrap; settings are of no use there."""
    if line.given or line.config is not None:
        name = line.given[0].origin.partition(", ")[2] if line.given else "--config"
        _complain(
            f"cannot use {name} ({COMMAND_LINE}) with {line.action}: it is for a run; write "
            f"gracewrap {line.action} --help"
        )
        return 125

    return call(line.action, line.command)


def _complain(text: str) -> None:
    if sys.stderr is not None:
        print(f"gracewrap: {text}", file=sys.stderr)


def _flush(status: int) -> int:
    """Return *status* after what was printed has been written; a closed pipe (`| head`) is no error
    of ours."""
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


def call(action: str, words: Sequence[str]) -> int:
    """Do what `gracewrap ACTION WORDS` asks for, and return the exit status."""
    if {"-h", "--help"}.intersection(words):
        print(help_text(action), end="")
        return 0
    try:
        asked = read(action, words)
        found = control_client.choose(asked.pid, asked.socket, asked.origin)
        return _command(action)[1](found, asked)
    except control_client.Unusable as fault:
        _complain(str(fault))
        return 125
    except control_client.NoAnswer as fault:
        if action == "health":
            tell(f"not healthy: {str(fault).partition(chr(10))[0].partition('; is it')[0]}")
        else:
            _complain(str(fault))
        return 1
    except KeyboardInterrupt:
        return 130


def help_text(action: str) -> str:
    """Return what `gracewrap ACTION --help` says."""
    return _command(action)[0]


def _command(action: str) -> tuple[str, Callable[[Instance, Asked], int]]:
    """Return the help and the function of a subcommand; each module is loaded for itself."""
    match action:
        case "status":
            from gracewrap.cli import cmd_status

            return cmd_status.HELP, cmd_status.status
        case "drain" | "undrain":
            from gracewrap.cli import cmd_drain

            if action == "drain":
                return cmd_drain.DRAIN, cmd_drain.drain
            return cmd_drain.UNDRAIN, cmd_drain.undrain
        case "stop" | "restart":
            from gracewrap.cli import cmd_stop

            if action == "stop":
                return cmd_stop.STOP, cmd_stop.stop
            return cmd_stop.RESTART, cmd_stop.restart
    from gracewrap.cli import cmd_health

    return cmd_health.HEALTH, cmd_health.health
