"""Everything that descends from us: find it, signal it, kill it.

As PID 1 or subreaper every orphan below us becomes our child, so the tree below us is complete:
setsid(2) and double forks do not lead out of it.
"""

from __future__ import annotations

import _signal
import posix
import time

from gracewrap.linux.procfs import read_file, spared
from gracewrap.linux.signals import SIGKILL
from gracewrap.record import TYPE_CHECKING, Record

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

# A fork bomb can add processes while we look, signal or kill: we go over the tree again, but not
# for longer than this in one go (seconds), for we are deaf meanwhile.  The policy comes back to a
# kill.
LOOK = 0.25
DEEPEST = 1000  # no tree of processes is deeper than this, unless it changes while we climb

# The process groups of helpers, ours and not the command's, as long as there is anything in them.
HELPERS: set[int] = set()


class Member(Record):
    """One process of the tree.  Its start time tells it from a later one with the same pid."""

    pid: int
    started: int  # clock ticks after boot
    pgid: int
    name: str
    zombie: bool


def member(pid: int) -> Member | None:
    """Return what there is to know about a process, or None if there is none."""
    name, fields = _stat(pid)
    if not fields:
        return None
    # A process whose main thread has ended looks like a zombie, but lives on in its other threads.
    zombie = fields[0] in (b"Z", b"X") and int(fields[17]) <= 1
    return Member(pid, int(fields[19]), int(fields[2]), name, zombie)


def _stat(pid: int) -> tuple[str, list[bytes]]:
    """Return a process's name, and what /proc/PID/stat says from field 3 (state) on (proc(5));
    nothing if it is gone."""
    head, _, rest = read_file(f"/proc/{pid}/stat").rpartition(
        b")"
    )  # the name in brackets may hold anything, a bracket too
    return head.partition(b"(")[2].decode(errors="replace"), rest.split()


class Look(Record):
    """One process of the tree, for people."""

    pid: int
    parent: int
    name: str
    state: str  # the letter of proc(5)


def look(seconds: float) -> tuple[list[Look], bool]:
    """Return what is below us, helpers left out, as far as one can look in *seconds*, and whether
    that is all."""
    until, found, todo = time.monotonic() + seconds, list[Look](), children(posix.getpid())
    while todo and time.monotonic() < until:
        pid = todo.pop(0)
        name, fields = _stat(pid)
        if fields and int(fields[2]) not in HELPERS:
            found.append(Look(pid, int(fields[1]), name, fields[0].decode()))
            todo += children(pid)
    return found, not todo


def looks(members: Iterable[Member]) -> list[Look]:
    """Return how these look now; those that have gone meanwhile are left out."""
    seen = ((member, _stat(member.pid)[1]) for member in members)
    return [
        Look(member.pid, int(fields[1]), member.name, fields[0].decode())
        for member, fields in seen
        if fields
    ]


def children(pid: int) -> list[int]:
    """Return the pids of a process's children, of all its threads; empty if it is gone."""
    try:
        return _children(pid)
    except OSError:
        return []


def _children(pid: int) -> list[int]:
    found: list[int] = []
    for thread in spared(lambda: posix.listdir(f"/proc/{pid}/task")):
        found += map(int, read_file(f"/proc/{pid}/task/{thread}/children").split())
    return found


def descendants(until: float | None = None, roots: Iterable[int] | None = None) -> list[Member]:
    """Return every living process below us that is not a helper's, parents before their children.

    Args:
        until: When to stop looking, for a tree can grow faster than one can look (monotonic; None:
            in LOOK seconds).
        roots: Look only at these of our children, and at what is below them.
    """
    found: list[Member] = []
    until = time.monotonic() + LOOK if until is None else until
    todo = our_children() or [] if roots is None else list(roots)
    while todo and time.monotonic() < until:
        pid = todo.pop(0)
        known = member(pid)
        if known is not None and known.pgid not in HELPERS:
            if not known.zombie:
                found.append(known)
            todo += children(pid)
    return found


def our_children() -> list[int] | None:
    """Return the pids of our children, zombies and helpers too; None if /proc cannot be read, or is
    of another namespace."""
    us = posix.getpid()
    try:
        if posix.readlink("/proc/self") != str(us):
            return None
        found = _children(us)
    except OSError:
        return None
    return found if found or _has_children_file(us) else _children_by_scan(us)


def anything_left() -> bool:
    """Return whether a child of ours is no helper's: something of the command, or an orphan of
    it."""
    return any(not is_helpers(pid) for pid in children(posix.getpid()))


def is_helpers(pid: int) -> bool:
    """Return whether a process is of a helper's group, or gone."""
    return bool(HELPERS) and _group(pid) in HELPERS


def group_of(pid: int, otherwise: int) -> int:
    """Return a process's group to signal, or *otherwise*; never our own."""
    try:
        group = posix.getpgid(pid)
    except OSError:
        return otherwise
    return otherwise if group == posix.getpgrp() else group


def _group(pid: int) -> int:
    try:
        return posix.getpgid(pid)
    except OSError:  # gone, and reaped
        return next(iter(HELPERS), 0)


def helpers_members(pgid: int) -> list[Member]:
    """Return every living process of a helper's group, below us."""
    found = (member(pid) for pid in children(posix.getpid()))
    return [
        known for known in found if known is not None and known.pgid == pgid and not known.zombie
    ]


def _has_children_file(us: int) -> bool:
    try:
        posix.stat(f"/proc/{us}/task/{us}/children")
    except FileNotFoundError:
        return False
    except OSError:
        pass
    return True


def _children_by_scan(parent: int) -> list[int]:
    """Return *parent*'s children where the kernel has no `children` file (CONFIG_PROC_CHILDREN;
    gVisor)."""
    found = []
    try:
        entries = spared(lambda: posix.listdir("/proc"))
    except OSError:
        return []
    for entry in entries:
        if entry.isdigit() and parent_of(int(entry)) == parent:
            found.append(int(entry))
    return found


def parent_of(pid: int) -> int:
    """Return the pid of a process's parent; 0 if it has none in our namespace, or is gone."""
    fields = _stat(pid)[1]
    return int(fields[1]) if fields else 0


def user_of(pid: int) -> int | None:
    """Return the real user of a process; None if it is gone.  (Who owns /proc/PID is root for one
    that changed its user.)"""
    for line in read_file(f"/proc/{pid}/status").split(b"\n"):
        if line.startswith(b"Uid:"):
            return int(line.split()[1])
    return None


def is_below_us(pid: int) -> bool:
    """Return whether a process descends from us and is no helper's."""
    us, steps = posix.getpid(), 0
    while pid > 1 and steps < DEEPEST:
        known = member(pid)
        if known is None or known.pgid in HELPERS:
            return False
        pid, steps = parent_of(pid), steps + 1
        if pid == us:
            return True
    return False


def signal_leader(pid: int, signum: int, fd: int | None = None) -> bool:
    """Signal a child of ours that has not been reaped, or what *fd*, a pidfd, stands for; return
    whether it was there."""
    try:
        if fd is None:
            posix.kill(pid, signum)
        else:
            _signal.pidfd_send_signal(fd, signum)
    except OSError:
        # ESRCH: it exited between the decision and the call; its SIGCHLD is on the way.  EPERM: it
        # changed its user.
        return False
    return True


def signal_group(pgid: int, signum: int) -> bool:
    """Signal a process group; only while its leader is not reaped, or the number may have passed to
    somebody else."""
    try:
        posix.killpg(pgid, signum)
    except OSError:
        return False
    return True


def signal_member(target: Member, signum: int) -> bool:
    """Signal exactly this process: by pidfd, so that a later process with its pid is never hit."""
    try:
        fd = posix.pidfd_open(target.pid)
    except OSError:  # gone; or no pidfd (Linux < 5.3, seccomp), no descriptor left: then by number
        again = member(target.pid)
        return (
            again is not None
            and again.started == target.started
            and signal_leader(target.pid, signum)
        )
    try:
        again = member(target.pid)
        if again is None and not read_file(
            "/proc/self/stat"
        ):  # the pidfd was the last descriptor: by number, then
            return signal_leader(target.pid, signum)
        if again is None or again.started != target.started:
            return False
        _signal.pidfd_send_signal(fd, signum)
    except OSError:
        return False
    finally:
        posix.close(fd)
    return True


def ignores(pid: int, signum: int) -> bool:
    """Return whether a process ignores a signal."""
    return _in_mask(pid, b"SigIgn:", signum)


def catches(pid: int, signum: int) -> bool:
    """Return whether a process has a handler for a signal."""
    return _in_mask(pid, b"SigCgt:", signum)


def _in_mask(pid: int, mask: bytes, signum: int) -> bool:
    """Look into a signal mask of /proc/PID/status (proc(5))."""
    for line in read_file(f"/proc/{pid}/status").split(b"\n"):
        if line.startswith(mask):
            return bool(int(line.split()[1], 16) >> (signum - 1) & 1)
    return False


def kill_all(
    leader: int | None, everyone: bool, look: Callable[[float], list[Member]] = descendants
) -> list[Member]:
    """SIGKILL everything below us, or what *look* finds of it, until nothing new is found; return
    what was killed.

    Args:
        leader: The leader's pid, which is its group's too, while it is not reaped.
        everyone: We are PID 1 and nothing else is to live on: kill(-1) hits all of the namespace in
            one go of the kernel, faster than anything can fork.
        look: Returns what is to be killed, and stops looking at the time that it is given.
    """
    until = time.monotonic() + LOOK
    killed: dict[tuple[int, int], Member] = {}
    new = look(until)  # before anything is killed, to know their names
    if leader is not None:
        signal_group(leader, SIGKILL)
    while new:
        for found in new:
            killed[found.pid, found.started] = found
            if not everyone:
                signal_member(found, SIGKILL)
        if everyone:
            signal_leader(-1, SIGKILL)
        new = [found for found in look(until) if (found.pid, found.started) not in killed]
    if everyone and not killed:
        signal_leader(-1, SIGKILL)  # /proc could not be read, or nothing is left: this harms nobody
    return list(killed.values())
