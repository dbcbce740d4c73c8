"""What a command of ours has left below us, when it was run from a subcommand."""

from __future__ import annotations

import os

from gracewrap.linux import process_tree, signal_and_kill
from gracewrap.record import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Set


def known() -> Set[int]:
    """Return the children that we have: at the beginning, of whoever was this process before."""
    return frozenset(process_tree.our_children() or ())


def since(before: Set[int]) -> Set[int]:
    """Return the children that have come since known() was *before*."""
    return known() - before


def end(before: Set[int]) -> None:
    """SIGKILL and reap those that have come since known() was *before*, and all below them."""
    signal_and_kill.kill_all(
        None, False, lambda until: process_tree.descendants(until, since(before))
    )
    for pid in since(before):
        try:
            os.waitpid(pid, 0)
        except OSError:
            pass  # it has been reaped
