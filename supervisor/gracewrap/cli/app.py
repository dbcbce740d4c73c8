"""The subcommands and the help, on typer.  Settings are read by config.sources, as they are for a run."""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence

import typer

from gracewrap import __version__
from gracewrap.cli import check as checking
from gracewrap.cli import help as helping
from gracewrap.cli import init as initialising
from gracewrap.config.sources import CommandLine

app = typer.Typer(add_completion=False, no_args_is_help=False, help="Wrap any command and stop it gracefully.")
_ANY_OPTIONS = {"allow_extra_args": True, "ignore_unknown_options": True, "help_option_names": ["-h", "--help"]}


@app.command(context_settings=_ANY_OPTIONS)
def check(context: typer.Context) -> None:
    """Check file, variables and flags: every problem with where it is and what to write instead. Starts nothing.

    Takes the options of a run, and a command after -- if the file has none. Without --config, ./gracewrap.toml is read if it is
    there. Exits with 0 if all can be used, else 125.
    """
    raise typer.Exit(checking.check(context.args))


@app.command(context_settings={"help_option_names": ["-h", "--help"]})
def init(
    file: str = typer.Argument("gracewrap.toml", help="Where to write it; - is standard output."),
    force: bool = typer.Option(False, "--force", help="Overwrite a file that is there."),
) -> None:
    """Write a commented gracewrap.toml with every setting, its default and what it means."""
    raise typer.Exit(initialising.init(file, force))


def run(line: CommandLine, args: Sequence[str]) -> int:
    """Do what the words after `gracewrap` ask for, other than wrapping a command; return the exit status."""
    try:
        if line.action == "version":
            print(f"gracewrap {__version__}")
            status = 0
        elif line.action == "help":
            helping.show()
            status = 0
        else:
            words = [*_run_options(line, args), *line.command]
            result = app([line.action, *words], prog_name="gracewrap", standalone_mode=False)
            status = result if isinstance(result, int) else 0
    except typer.Exit as leaving:
        status = leaving.exit_code
    except Exception as error:  # click's UsageError and its kin have a message of their own
        message = error.format_message() if hasattr(error, "format_message") else f"{type(error).__name__}: {error}"
        print(f"gracewrap: {message}", file=sys.stderr)
        status = 125
    return _flush(status)


def _run_options(line: CommandLine, args: Sequence[str]) -> list[str]:
    """Return the options before the subcommand: `gracewrap --config F check` is `gracewrap check --config F`."""
    before = list(args[: args.index(line.action)])
    return before if line.action == "check" else []


def _flush(status: int) -> int:
    """Return *status* after what was printed has been written; a closed pipe (`| head`) is no error of ours."""
    try:
        sys.stdout.flush()
        sys.stderr.flush()
    except OSError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
    return status
