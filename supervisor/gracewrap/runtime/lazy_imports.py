"""Modules that are imported while the command runs, one per turn of the loop: an import of many at
once would leave signals waiting for it."""

from __future__ import annotations

from gracewrap.linux.procfs import spared
from gracewrap.record import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

# What decides who is sent the stop signal.
STOP = ("gracewrap.policy.stop_signal_recipients", "gracewrap.linux.process_facts")

# What finds out what holds a stop up; in this order none of them takes long.
EXAMINE = (
    "gracewrap.policy.held_up_evidence",
    "gracewrap.policy.held_up_cause",
    "gracewrap.linux.process_facts",
    "gracewrap.linux.tcp_sockets",
    "gracewrap.linux.ports_of_program",
    "gracewrap.linux.thread_waits",
    "gracewrap.linux.held_up_processes",
)

# All that h11 imports, in an order in which only h11 itself takes longer than a few milliseconds.
H11 = (
    *("types", "operator", "_collections_abc", "collections", "functools", "enum", "re"),
    *("contextlib", "warnings", "typing", "copy", "ast", "opcode", "dis", "tokenize"),
    *("linecache", "importlib.machinery", "inspect", "dataclasses", "h11"),
)


def load(names: Iterable[str]) -> Iterator[None]:
    """Import modules, one a step."""
    for name in names:
        import_now(name)
        yield


def import_now(name: str) -> None:
    """Import a module, if need be with the descriptor that is held back."""
    spared(lambda: __import__(name))
