"""Shows charts on a terminal, and writes them to files."""

from __future__ import annotations

import os
import shutil
import sys

from gracewrap.picture import draw_text
from gracewrap.record import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence

    from gracewrap.picture.chart import Chart

PIPED = 80  # columns where there is no terminal
# Colours that can be read on light and on dark.
STYLES = {
    "title": "bold",
    "dim": "dim",
    "bad": "bold red",
    "waits": "dim",
    "hook": "magenta",
    "propagation": "cyan",
    "drain": "blue",
    "stop": "green",
    "linger": "yellow",
    "killed": "bold red",
    "after": "dim",
}


class Unwritable(Exception):
    """A file cannot be written; says which, and why."""


def show(charts: Sequence[Chart]) -> None:
    """Print charts; in colour on a terminal, if rich is here."""
    if sys.stdout is None:  # closed
        return
    is_terminal = sys.stdout.isatty()
    width = shutil.get_terminal_size((PIPED, 24)).columns if is_terminal else PIPED
    encoding = (sys.stdout.encoding or "ascii").lower().replace("-", "")
    lines = draw_text.lines(charts, min(160, width), ascii_only=not encoding.startswith("utf"))
    if is_terminal and not os.environ.get("NO_COLOR"):
        try:
            from rich.console import Console
            from rich.text import Text
        except ImportError:
            pass
        else:
            console = Console(highlight=False, soft_wrap=True)
            for line in lines:
                console.print(Text.assemble(*((part, STYLES.get(style, "")) for part, style in
                                              line)))  # fmt: skip
            return
    plain = draw_text.plain(lines)
    if lines and not encoding.startswith("utf"):  # a name may have any character
        name = sys.stdout.encoding or "ascii"
        plain = plain.encode(name, "backslashreplace").decode(name)
    sys.stdout.write(plain)


def write(path: str, content: str) -> None:
    """Write a picture; "-" is standard output.  Raises Unwritable."""
    if path == "-":
        sys.stdout.write(content)
        return
    try:
        with open(path, "w", encoding="utf-8") as file:
            file.write(content)
    except OSError as error:
        raise Unwritable(f"cannot write {path}: {error.strerror}") from None
