"""Runs the subcommands: everything that `gracewrap` does for people, besides wrapping a command.

They need the standard library only, so that they work wherever a run does (init writes TOML with
tomli_w; status and help look better with psutil and rich).  Each module is loaded when its
subcommand is used: `gracewrap health` is run every few seconds.
"""

from __future__ import annotations

import posix
import sys

from gracewrap.cli import subcommand
from gracewrap.cli.control_client import NoAnswer, Unusable
from gracewrap.cli.wait import complain
from gracewrap.config.command_line import CommandLine
from gracewrap.config.settings import COMMAND_LINE
from gracewrap.record import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence

    from gracewrap.cli.subcommand import Subcommand

PACKAGES = ("rich", "tomli_w", "psutil", "h11")  # the ones that are installed with gracewrap


def run(line: CommandLine, args: Sequence[str]) -> int:
    """Run a subcommand; return the exit status.

    Args:
        line: The words after `gracewrap`, read as a run's are.
        args: The words themselves.
    """
    try:
        status = _act(line, args)
    except BrokenPipeError:  # `| head`
        status = 0
    except ImportError as error:
        if error.name not in PACKAGES:
            raise  # a module of the standard library: start says what to do
        complain(f"cannot run {line.action}: {error}; it comes with: pip install gracewrap")
        status = 125
    except Exception as error:
        why = getattr(error, "strerror", None) or error or type(error).__name__
        complain(f"cannot run {line.action}: {why}")
        status = 125
    return _flush(status)


def _act(line: CommandLine, args: Sequence[str]) -> int:
    match line.action:
        case "version":
            from gracewrap.cli import version

            print(version.text())
            return 0
        case "help":
            from gracewrap.cli import help

            return help.show(line.command, load)
        case "check":
            from gracewrap.cli import cmd_check

            # `gracewrap --config F check` is `gracewrap check --config F`.
            before = args[: len(args) - len(line.command) - 1]
            return cmd_check.run([*before, *line.command])
        case "plan":
            from gracewrap.cli import cmd_plan

            return cmd_plan.run([*args[: len(args) - len(line.command) - 1], *line.command])
        case "drill":
            from gracewrap.cli import cmd_drill

            return cmd_drill.run([*args[: len(args) - len(line.command) - 1], *line.command])
    if line.given or line.config is not None:
        name = line.given[0].origin.partition(", ")[2] if line.given else "--config"
        complain(
            f"cannot use {name} ({COMMAND_LINE}) with {line.action}: it is an option of a run; see "
            f"gracewrap {line.action} --help"
        )
        return 125
    return call(line.action, line.command)


def call(name: str, words: Sequence[str]) -> int:
    """Run `gracewrap NAME WORDS`; return the exit status."""
    found = load(name)
    if {"-h", "--help"}.intersection(words):
        print(subcommand.help_text(found, subcommand.terminal_width()), end="")
        return 0
    try:
        return found.run(subcommand.read(found, words))
    except Unusable as fault:
        complain(str(fault))
        return 125
    except NoAnswer as fault:
        complain(str(fault))
        return 1
    except KeyboardInterrupt:
        return 130


# Where each subcommand is declared: module and name.
_DECLARED = {
    "health": ("gracewrap.cli.cmd_health", "HEALTH"),
    "status": ("gracewrap.cli.cmd_status", "STATUS"),
    "drain": ("gracewrap.cli.cmd_drain", "DRAIN"),
    "undrain": ("gracewrap.cli.cmd_drain", "UNDRAIN"),
    "stop": ("gracewrap.cli.cmd_stop", "STOP"),
    "restart": ("gracewrap.cli.cmd_stop", "RESTART"),
    "schema": ("gracewrap.cli.cmd_schema", "SCHEMA"),
    "signal": ("gracewrap.cli.cmd_signal", "SIGNAL"),
    "reopen": ("gracewrap.cli.cmd_reopen", "REOPEN"),
    "report": ("gracewrap.cli.cmd_report", "REPORT"),
    "learn": ("gracewrap.cli.cmd_learn", "LEARN"),
    "presets": ("gracewrap.cli.cmd_presets", "PRESETS_COMMAND"),
    "init": ("gracewrap.cli.cmd_init", "INIT"),
}


def load(name: str) -> Subcommand:
    """Return the declaration of a subcommand; only its own module is loaded."""
    if name == "completion":  # this and the next are made of those of all others
        from gracewrap.cli import completion

        return completion.declared(load)
    if name == "man":
        from gracewrap.cli import man_page

        return man_page.declared(load)
    if name not in _DECLARED:
        raise ValueError(f"there is no subcommand {name}")
    module, constant = _DECLARED[name]
    __import__(module)
    declared: Subcommand = getattr(sys.modules[module], constant)
    return declared


def _flush(status: int) -> int:
    """Return *status* once the output is written; 125 if it cannot be."""
    try:
        for stream in (sys.stdout, sys.stderr):
            if stream is not None:
                stream.flush()
    except BrokenPipeError:  # `| head`
        posix.dup2(posix.open("/dev/null", posix.O_WRONLY), 1)
    except OSError as error:
        posix.dup2(posix.open("/dev/null", posix.O_WRONLY), 1)
        complain(f"cannot write to stdout: {error.strerror}")
        return 125
    return status
