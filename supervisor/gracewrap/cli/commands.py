"""The words after `gracewrap init`, as typer reads them.  (Those of check are read as a run's are,
by config.sources.)"""

from __future__ import annotations

from collections.abc import Sequence

import typer

from gracewrap.cli import cmd_init

app = typer.Typer(add_completion=False, no_args_is_help=False)


@app.command(add_help_option=False)  # cli.help has it
def init(
    file: str = typer.Argument("gracewrap.toml"),
    force: bool = typer.Option(False, "--force"),
    programs: bool = typer.Option(False, "--programs"),
) -> None:
    """Write a gracewrap.toml."""
    raise typer.Exit(cmd_init.init(file, force, programs))


def call(words: Sequence[str]) -> int:
    """Run `gracewrap init` with *words* and return its exit status."""
    try:
        result = app(list(words), prog_name="gracewrap init", standalone_mode=False)
    except typer.Exit as leaving:
        return leaving.exit_code
    except SystemExit:  # what click makes of EPIPE, whatever standalone_mode is
        raise BrokenPipeError from None
    except Exception as error:
        if not hasattr(error, "format_message"):
            raise
        raise ValueError(
            error.format_message()
        ) from None  # a usage error of click, which has a text of its own
    return result if isinstance(result, int) else 0
