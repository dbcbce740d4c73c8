"""What is to be known of a process to decide whether it has had the stop signal (proc(5))."""

from __future__ import annotations

import posix
import time

from gracewrap.linux import process_tree
from gracewrap.linux.procfs import read_file
from gracewrap.linux.signals import SIGINT, SIGQUIT
from gracewrap.policy.model import CATCHES, DEFAULT, IGNORES, SHELLS, Process
from gracewrap.record import TYPE_CHECKING, replace

if TYPE_CHECKING:
    from collections.abc import Iterable

# Sockets are looked for in so many processes at most: what forks thousands keeps them together.
MOST = 64
_INTERNET = (b"TCP", b"UDP")  # how the kernel names the protocols, with or without v6 behind it


def look(
    members: Iterable[process_tree.Member], signum: int, sockets: bool = True
) -> tuple[Process, ...]:
    """Return what there is to know of processes, as far as one can look in process_tree.LOOK
    seconds.

    Args:
        members: The processes, parents before their children.
        signum: The stop signal.
        sockets: Whether to look for their sockets, which takes long where there are thousands.
    """
    until = time.monotonic() + process_tree.LOOK
    found = []
    for member in members:
        if time.monotonic() >= until:
            break
        process = _process(member, signum)
        if process is not None:
            found.append(process)
    return tuple(_with_sockets(found, until) if sockets else found)


def as_before(seen: tuple[Process, ...], catches: bool, ignores: bool) -> tuple[Process, ...]:
    """Return what was seen, but with what was to become of the stop signal before it was sent: a
    handler may have been for one use, or ignore the signal from then on."""
    takes = CATCHES if catches else IGNORES if ignores else DEFAULT
    return tuple(replace(one, takes=takes) for one in seen)


def _process(member: process_tree.Member, signum: int) -> Process | None:
    stat, status = process_tree.stat(member.pid)[1], _status(member.pid)
    if not stat or not status or int(stat[19]) != member.started:
        return None
    ignored, caught, blocked = (
        int(status.get(key, b"0"), 16) for key in (b"SigIgn", b"SigCgt", b"SigBlk")
    )
    pending = int(status.get(b"SigPnd", b"0"), 16) | int(status.get(b"ShdPnd", b"0"), 16)
    forked, shell = process_tree.is_forked(stat), _is_shell(member)
    return Process(
        member.pid,
        member.started,
        int(stat[1]),
        member.pgid,
        member.name,
        takes=_takes(member.pid, caught | blocked, ignored, signum),
        catches_int=has(caught | blocked, SIGINT),
        pending=has(pending, signum),
        shell=shell,
        background=has(ignored, SIGQUIT) and not shell,  # bash ignores it everywhere
        forked=forked,
        switches=int(status.get(b"voluntary_ctxt_switches", b"0"))
        + int(status.get(b"nonvoluntary_ctxt_switches", b"0")),
        # What another thread waits for does not show in this one.
        asleep=stat[0] in (b"S", b"D")
        and (not has(blocked, signum) or status.get(b"Threads") == b"1"),
        reads="" if forked else _pipe(member.pid, 0),
        writes=tuple({_pipe(member.pid, 1), _pipe(member.pid, 2)} - {""}),
    )


def _takes(pid: int, caught: int, ignored: int, signum: int) -> str:
    """Return what a process does on a signal.  What blocks it waits for it (sigwait(3),
    signalfd(2))."""
    if has(caught, signum):
        return CATCHES
    if has(ignored, signum):
        return IGNORES
    return CATCHES if process_tree.waits_for_signals(pid) else DEFAULT


def caught(pid: int) -> int:
    """Return the mask of the signals that a process has handlers for; 0 if it is gone."""
    return int(_status(pid).get(b"SigCgt", b"0"), 16)


def catches(pid: int, signum: int) -> bool:
    """Return whether a process has a handler for a signal, or has blocked it to fetch it; False if
    it is gone."""
    status = _status(pid)
    return any(has(int(status.get(key, b"0"), 16), signum) for key in (b"SigCgt", b"SigBlk"))


def has(mask: int, signum: int) -> bool:
    """Return whether a signal is in a mask of /proc/PID/status."""
    return bool(mask >> (signum - 1) & 1)


def _status(pid: int) -> dict[bytes, bytes]:
    """Return what /proc/PID/status says of the main thread, which is the one to take a signal."""
    lines = (line.partition(b":") for line in read_file(f"/proc/{pid}/status").split(b"\n"))
    return {key: value.strip() for key, _, value in lines}


def _is_shell(member: process_tree.Member) -> bool:
    """Return whether a process is a shell, as a script too.  Of another user's process the file
    cannot be read, but what it was started as."""
    try:
        file = posix.readlink(f"/proc/{member.pid}/exe").removesuffix(" (deleted)")
    except OSError:
        file = read_file(f"/proc/{member.pid}/cmdline").partition(b"\0")[0].decode(errors="replace")
    return file.rpartition("/")[2].lstrip("-") in SHELLS


def _pipe(pid: int, fd: int) -> str:
    """Return which pipe a descriptor is, or an empty text."""
    try:
        link = posix.readlink(f"/proc/{pid}/fd/{fd}")
    except OSError:
        return ""
    return link if link.startswith("pipe:") else ""


def _with_sockets(found: list[Process], until: float) -> list[Process]:
    """Add which ones listen, or have sockets at all, of those for which that is of use."""
    asked = [one.pid for one in found if one.catches and not one.shell and not one.forked][:MOST]
    if not asked:
        return found
    sockets = {pid: _sockets(pid) for pid in asked if time.monotonic() < until}
    listening = _listening() if any(sockets.values()) else frozenset[int]()
    return [
        replace(one, has_sockets=True, listens=not listening.isdisjoint(sockets[one.pid]))
        if sockets.get(one.pid)
        else one
        for one in found
    ]


def _sockets(pid: int) -> frozenset[int]:
    """Return the inodes of a process's internet sockets; empty if we may not know."""
    found = set()
    try:
        for fd in posix.listdir(f"/proc/{pid}/fd"):
            path = f"/proc/{pid}/fd/{fd}"
            link = posix.readlink(path)
            if link.startswith("socket:[") and _is_internet(path):
                found.add(int(link[8:-1]))
    except OSError:
        pass
    return frozenset(found)


def _is_internet(path: str) -> bool:
    try:
        return posix.getxattr(path, "system.sockprotoname").startswith(_INTERNET)
    except OSError:  # no such attribute: then any socket counts
        return True


def _listening() -> frozenset[int]:
    try:
        from gracewrap.linux import tcp_sockets

        rows = [row for rows in tcp_sockets.listeners() for row in rows]
    except (OSError, ImportError):
        return frozenset()
    return frozenset(row.inode for row in rows)
