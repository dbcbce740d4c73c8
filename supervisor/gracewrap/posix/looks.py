"""Processes as people want to see them: who is whose child, and what it is doing.  Reads /proc, for members that are known."""

from __future__ import annotations

from gracewrap.posix import read_file, tree
from gracewrap.record import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable


def of(members: Iterable[tree.Member]) -> list[tree.Look]:
    """Return what /proc/PID/stat says about them (proc(5)); those that have gone meanwhile are left out."""
    found = []
    for member in members:
        _, closing, rest = read_file(f"/proc/{member.pid}/stat").rpartition(b")")
        fields = rest.split()
        if closing:
            found.append(tree.Look(member.pid, int(fields[1]), member.name, fields[0].decode()))
    return found
