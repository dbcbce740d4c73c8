"""Modules that are imported while the command runs, one per turn of the loop: an import of many at
once would leave signals waiting for it."""

from __future__ import annotations

from gracewrap.linux.procfs import spared
from gracewrap.record import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

# What a stop and the end of a run need.  Loaded when the command has been started and nothing else
# is to be done: a later stop finds them even if the package has been replaced meanwhile.
AT_REST = (
    "gracewrap.runtime.program_status",
    "gracewrap.runtime.progress",
    "gracewrap.report.program_summary",
    "gracewrap.report.summary",
    "gracewrap.report.report_files",
    "gracewrap.runtime.last_word",
)

# All that h11 imports, in an order in which only h11 itself takes longer than a few milliseconds.
H11 = (
    *("types", "operator", "_collections_abc", "collections", "functools", "enum", "re"),
    *("contextlib", "warnings", "typing", "copy", "ast", "opcode", "dis", "tokenize"),
    *("linecache", "importlib.machinery", "inspect", "dataclasses", "h11"),
)


def load(names: Iterable[str]) -> Iterator[None]:
    """Import modules, one a step, if need be with the descriptor that is held back."""
    for name in names:
        _import(name)
        yield


def _import(name: str) -> None:
    spared(lambda: __import__(name))
