"""What is done for people: help, version, check, init.  Settings are read by config.sources, as they are for a run.

Help, version and check need nothing but the standard library, so that they work wherever a run does.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence

from gracewrap import __version__
from gracewrap.cli import check as checking
from gracewrap.cli import help as helping
from gracewrap.config.sources import CommandLine, read_command_line


def run(line: CommandLine, args: Sequence[str]) -> int:
    """Do what the words after `gracewrap` ask for, other than wrapping a command; return the exit status."""
    try:
        status = _act(line, args)
    except BrokenPipeError:  # `| head`
        status = 0
    except ImportError as error:
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
    if line.action == "help":
        return helping.show()
    if line.action == "check":
        # `gracewrap --config F check` is `gracewrap check --config F`.
        words = read_command_line([*args[: len(args) - len(line.command) - 1], *line.command])
        return helping.show("check") if words.action == "help" else checking.check(words)
    if {"-h", "--help"}.intersection(line.command):
        return helping.show("init")
    from gracewrap.cli.commands import call

    return call(line.command)


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
        os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
    except OSError as error:
        os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
        _complain(f"cannot write to stdout: {error.strerror}")
        return 125
    return status
