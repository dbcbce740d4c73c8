"""`gracewrap presets`: lists the presets, or prints one of them."""

from __future__ import annotations

import textwrap

from gracewrap.cli.control_client import Unusable
from gracewrap.cli.subcommand import WIDTH, Arguments, Subcommand
from gracewrap.config import apply_preset
from gracewrap.config.closest_name import close_to
from gracewrap.config.parsers.preset_names import FILES, PRESETS


def show(arguments: Arguments) -> int:
    """Print the names, or the file of the one that is named; return the exit status."""
    if arguments.names:
        print(text_of(arguments.names[0], "presets"), end="")
        return 0
    width = max(map(len, (*PRESETS, *FILES)))
    print("Presets, for preset = NAME, GRACEWRAP_PRESET=NAME or --preset NAME:")
    for name, (what, lost) in PRESETS.items():
        _print_row(name, f"{what}; without it, {lost}" if lost else what, width)
    print("\nFiles to start from, for gracewrap init --for NAME only:")
    for name, what in FILES.items():
        _print_row(name, what, width)
    print("\nTo see what is in one: gracewrap presets NAME")
    return 0


def text_of(name: str, subcommand: str) -> str:
    """Return the file of a preset.  Raises Unusable if there is none, for *subcommand*."""
    if name not in PRESETS and name not in FILES:
        hint = close_to(name, (*PRESETS, *FILES)) or "; gracewrap presets lists them"
        raise Unusable(f"cannot use {name!r} (gracewrap {subcommand}): no such preset{hint}")
    return apply_preset.text_of(name)


def _print_row(name: str, text: str, width: int) -> None:
    rows = textwrap.wrap(text, WIDTH - width - 4)
    print(f"  {name:<{width}}  {rows[0]}")
    for row in rows[1:]:
        print(f"  {'':<{width}}  {row}")


PRESETS_COMMAND = Subcommand(
    "presets",
    """\
gracewrap presets lists the presets: settings for well-known programs, for a stop
that lets their work end. What a preset says counts less than anything that you say.

gracewrap presets NAME prints what is in one.
""",
    ("[NAME]",),
    (),
    """\
gracewrap presets
gracewrap presets nginx
gracewrap --preset nginx -- nginx -g "daemon off;"
""",
    """\
  0    it is printed
  125  there is no such preset
""",
    show,
    ("NAME", "The preset to print."),
    1,
)
