"""How far a drill is, on a terminal; nothing where nobody watches."""

from __future__ import annotations

import os
import sys
from contextlib import contextmanager

from gracewrap.record import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from gracewrap.drill.model import Step


@contextmanager
def shown() -> Iterator[Callable[[Step], None]]:
    """Yield what is to be told of each step."""
    if sys.stderr is None or not sys.stderr.isatty() or os.environ.get("TERM") == "dumb":
        yield lambda _step: None
        return
    try:
        from rich.console import Console
        from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn
        from rich.progress import TimeElapsedColumn as Elapsed
    except ImportError:
        yield _line
        return
    console = Console(stderr=True)
    columns = TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), Elapsed()
    with Progress(*columns, console=console, transient=True) as progress:
        task = progress.add_task("", total=None)

        def tell(step: Step) -> None:
            lost = f", [red]{step.lost} lost so far[/]" if step.lost else ""
            said = f"{step.who} {step.doing}{lost}"
            progress.update(task, description=said, completed=step.done, total=step.total)

        yield tell


def _line(step: Step) -> None:
    print(f"{step.done + 1} of {step.total}: {step.who} {step.doing}", file=sys.stderr)
