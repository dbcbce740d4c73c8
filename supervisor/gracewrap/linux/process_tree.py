"""Everything that descends from us, and what the kernel says of each process.

As PID 1 or subreaper every orphan below us becomes our child, so the tree below us is complete:
setsid(2) and double forks do not lead out of it.
"""

from __future__ import annotations

import posix
import time

from gracewrap.linux.procfs import read_file, spared
from gracewrap.record import TYPE_CHECKING, Record

if TYPE_CHECKING:
    from collections.abc import Iterable

# A fork bomb can add processes while we look, signal or kill: we go over the tree again, but not
# for longer than this in one go (seconds), for we are deaf meanwhile.  The policy comes back to a
# kill.
LOOK = 0.25
DEEPEST = 1000  # no tree of processes is deeper than this, unless it changes while we climb

_EXITING = 0x4  # PF_EXITING of linux/sched.h: set before the kernel closes what it has open

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
    name, fields = stat(pid)
    if not fields:
        return None
    # A process whose main thread has ended looks like a zombie, but lives on in its other threads.
    zombie = fields[0] in (b"Z", b"X") and int(fields[17]) <= 1
    return Member(pid, int(fields[19]), int(fields[2]), name, zombie)


def stat(pid: int) -> tuple[str, list[bytes]]:
    """Return a process's name, and what /proc/PID/stat says from field 3 (state) on (proc(5));
    nothing if it is gone."""
    name, fields = _stat(str(pid))
    return name.decode(errors="replace"), fields


def _stat(of: str) -> tuple[bytes, list[bytes]]:
    """Return the same of a process, or of a thread (PID/task/TID)."""
    head, _, rest = read_file(f"/proc/{of}/stat").rpartition(
        b")"
    )  # the name in brackets may hold anything, a bracket too
    return head.partition(b"(")[2], rest.split()


def state(of: int | str) -> str:
    """Return the state letter of a process, or of a thread (PID/task/TID); "" if it is gone
    (proc(5))."""
    return b"".join(_stat(str(of))[1][:1]).decode()


def is_ending(pid: int) -> bool:
    """Return whether a process is gone, or has begun to exit: a process may also close what it has
    open and go on."""
    fields = stat(pid)[1]
    return not fields or fields[0] in (b"Z", b"X") or bool(int(fields[6]) & _EXITING)


def is_stopped(pid: int) -> bool:
    """Return whether a process is stopped by a signal (SIGSTOP); not: by a debugger."""
    return state(pid) == "T"


class CpuTime(Record):
    """Seconds of CPU time of one process.

    Attributes:
        used: What it has used.
        wanted: What its threads have run or waited for a CPU; 0 where the kernel does not tell
            (CONFIG_SCHED_INFO).
        of_children: What those children had used, with theirs, that it has waited for.
    """

    used: float = 0.0
    wanted: float = 0.0
    of_children: float = 0.0


def cpu_time(pid: int) -> CpuTime:
    """Return the CPU time of a process; zeros if it is gone.

    Source: Linux, Documentation/scheduler/sched-stats.rst; proc(5).
    """
    fields = stat(pid)[1]
    if len(fields) < 15:
        return CpuTime()
    user, kernel, of_user, of_kernel = (
        int(ticks) / posix.sysconf("SC_CLK_TCK") for ticks in fields[11:15]
    )
    wanted = 0
    try:
        for thread in spared(lambda: posix.listdir(f"/proc/{pid}/task")):
            wanted += sum(map(int, read_file(f"/proc/{pid}/task/{thread}/schedstat").split()[:2]))
    except OSError:
        pass  # it is gone
    return CpuTime(user + kernel, wanted / 1e9, of_user + of_kernel)


def disk_bytes(pid: int) -> int:
    """Return how many bytes a process has read from disks and written to files that are on one; 0
    if it is gone, or if we may not know (another user's).

    Source: Linux, Documentation/filesystems/proc.rst, 3.3; a write counts when it reaches the page
    cache, so what is written in place again counts again only once it has been on the disk.
    """
    words = read_file(f"/proc/{pid}/io").split()
    fields = dict(zip(words[::2], words[1::2], strict=False))
    return int(fields.get(b"read_bytes:", 0)) + int(fields.get(b"write_bytes:", 0))


def thread_states(pid: int) -> set[str]:
    """Return the states of a process's threads that live."""
    fields = stat(pid)[1]
    if not fields or int(fields[17]) <= 1:
        states = {field.decode() for field in fields[:1]}
    else:  # the main thread may have ended before the others
        try:
            threads = spared(lambda: posix.listdir(f"/proc/{pid}/task"))
        except OSError:  # it is gone
            return set()
        states = {state(f"{pid}/task/{thread}") for thread in threads}
    return states - {"Z", "X", ""}


def is_uninterruptible(pid: int) -> bool:
    """Return whether a thread of a process waits in the kernel for what no signal ends (state D): a
    disk, NFS, FUSE; in vfork(2) for the child."""
    return "D" in thread_states(pid)


def waited_for_cpu() -> float:
    """Return the seconds that our main thread could run and has waited for a CPU so far, also where
    a limit of its cgroup was used up; 0 where the kernel does not tell (CONFIG_SCHED_INFO).

    Source: Linux, Documentation/scheduler/sched-stats.rst.
    """
    fields = read_file("/proc/self/schedstat").split()
    return int(fields[1]) / 1e9 if len(fields) > 1 else 0.0


class Look(Record):
    """One process of the tree, for people."""

    pid: int
    parent: int
    name: str
    state: str  # the letter of proc(5)
    cpu: float  # seconds of CPU time that it and its children that have been waited for have used
    memory: int  # bytes resident; what it shares with others is in it


def _seen(pid: int, name: str, fields: list[bytes]) -> Look:
    """Return a process as stat() found it."""
    ticks = sum(map(int, fields[11:15]))  # utime, stime, cutime, cstime
    memory = int(fields[21]) * posix.sysconf("SC_PAGE_SIZE")
    used = ticks / posix.sysconf("SC_CLK_TCK")
    return Look(pid, int(fields[1]), name, fields[0].decode(), used, memory)


def look(seconds: float) -> tuple[list[Look], bool]:
    """Return what is below us, helpers left out, as far as one can look in *seconds*, and whether
    that is all."""
    until, found, todo = time.monotonic() + seconds, list[Look](), children(posix.getpid())
    while todo and time.monotonic() < until:
        pid = todo.pop(0)
        name, fields = stat(pid)
        if fields and int(fields[2]) not in HELPERS:
            found.append(_seen(pid, name, fields))
            todo += children(pid)
    return found, not todo


def looks(members: Iterable[Member]) -> list[Look]:
    """Return how these look now; those that have gone meanwhile are left out."""
    seen = ((member, stat(member.pid)[1]) for member in members)
    return [_seen(member.pid, member.name, fields) for member, fields in seen if fields]


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


def has_executed(pid: int) -> bool:
    """Return whether a process has executed a program since its fork."""
    fields = stat(pid)[1]
    return bool(fields) and not is_forked(fields)


def is_forked(fields: list[bytes]) -> bool:
    """Return whether a process, of what stat() says of it, runs its parent's program since a fork
    (PF_FORKNOEXEC of linux/sched.h)."""
    return bool(int(fields[6]) & 0x40)


def words(pid: int) -> tuple[str, ...]:
    """Return the words of a process's command line, without directories."""
    raw = read_file(f"/proc/{pid}/cmdline").decode(errors="replace").split("\0")[:-1]
    return tuple(word.rpartition("/")[2] for word in raw)


def parent_of(pid: int) -> int:
    """Return the pid of a process's parent; 0 if it has none in our namespace, or is gone."""
    fields = stat(pid)[1]
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


def would_end(pid: int, signum: int) -> bool:
    """Return whether a signal would end a process: it neither ignores, nor handles, nor blocks it;
    what blocks it waits for it (signalfd(2), or sigwait(3), during which it does not show as
    blocked)."""
    until = time.monotonic() + _RUNS
    while True:
        fields = stat(pid)[1]  # before the rest, which may be of one that runs to its sigwait(3)
        runs = bool(fields) and fields[0] == b"R"
        if not _seems_to_end(pid, signum):
            return False
        if not runs or time.monotonic() >= until:
            return True
        posix.sched_yield()


def _seems_to_end(pid: int, signum: int) -> bool:
    status = read_file(f"/proc/{pid}/status")
    masks = [line.split()[1] for line in status.split(b"\n") if line.startswith(_MASKS)]
    if not masks or any(int(mask, 16) >> (signum - 1) & 1 for mask in masks):
        return False
    return not waits_for_signals(pid)


def waits_for_signals(pid: int) -> bool:
    """Return whether a process's main thread waits for signals in sigwait(3), as far as we may
    know: what it waits for shows neither as blocked nor as caught meanwhile."""
    return b"sigtimedwait" in read_file(f"/proc/{pid}/wchan")


_MASKS = b"SigBlk:", b"SigIgn:", b"SigCgt:"
# So many seconds one that runs, or waits for a CPU, may be on its way into sigwait(3) or out of it:
# what it blocks does not show, and not yet that it waits.
_RUNS = 0.05
