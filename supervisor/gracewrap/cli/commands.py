"""The subcommands as typer shows and reads them."""

from __future__ import annotations

from collections.abc import Sequence

import typer

from gracewrap.cli import check as checking
from gracewrap.cli import init as initialising
from gracewrap.config.sources import read_command_line

HELP = {"help_option_names": ["-h", "--help"]}
app = typer.Typer(add_completion=False, no_args_is_help=False)


@app.command(
    options_metavar="[OPTIONS] [--] [COMMAND...]",
    context_settings={**HELP, "allow_extra_args": True, "ignore_unknown_options": True},
)
def check(context: typer.Context) -> None:
    """Say what is wrong with options, variables and file, or else what is in force and where it comes from. Starts nothing.

    It takes the options of a run (gracewrap --help lists them), and a command.
    Without --config it reads gracewrap.toml in the current directory, if there is one.

    Exit status: 0 if all can be used (there may be warnings), 125 if something cannot.

    Examples:

    gracewrap check

    gracewrap check --config nginx.toml

    gracewrap check --stop-timeout 10s -- node server.js
    """
    raise typer.Exit(checking.check(read_command_line(context.args)))


@app.command(context_settings=HELP)
def init(
    file: str = typer.Argument("gracewrap.toml", help="Where to write it; - is standard output."),
    force: bool = typer.Option(False, "--force", help="Replace a file that is there."),
) -> None:
    """Write a gracewrap.toml with every setting, its meaning and its default, commented out.

    Exit status: 0 if it is written, else 125.
    """
    raise typer.Exit(initialising.init(file, force))


def call(words: Sequence[str]) -> int:
    """Run the subcommand *words* and return its exit status."""
    try:
        result = app(list(words), prog_name="gracewrap", standalone_mode=False)
    except typer.Exit as leaving:
        return leaving.exit_code
    except SystemExit:  # what click makes of EPIPE, whatever standalone_mode is
        raise BrokenPipeError from None
    except Exception as error:
        if not hasattr(error, "format_message"):
            raise
        raise ValueError(error.format_message()) from None  # a usage error of click, which has a text of its own
    return result if isinstance(result, int) else 0
