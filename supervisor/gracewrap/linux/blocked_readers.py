"""Which sockets a program's threads are blocked on until the other side sends something.

The kernel tells in which system call a thread is (/proc/PID/task/TID/syscall, proc(5)).  A thread
that reads from a connection works on no answer to it.  Of servers with an event loop this tells
nothing: one call waits for all of their connections.
"""

from __future__ import annotations

import posix
from struct import Struct, error

from gracewrap.linux.procfs import read_file, spared
from gracewrap.record import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Generator, Iterable

# System calls that read from their first argument, and those that poll what it points to (Linux:
# arch/x86/entry/syscalls/syscall_64.tbl, include/uapi/asm-generic/unistd.h): read, readv, recvfrom,
# recvmsg; poll, ppoll.
_READS = {"x86_64": (0, 19, 45, 47), "aarch64": (63, 65, 207, 212)}
_POLLS = {"x86_64": (7, 271), "aarch64": (73,)}
_POLLFD = Struct("=ihh")
_POLLIN = 1
MOST = 2000  # threads that are looked at in one go


def find(pids: Iterable[int]) -> Generator[None, None, set[int]]:
    """Return the inodes of the sockets that threads of these processes wait to read from, each for
    one alone; empty where that may not be known."""
    machine = posix.uname().machine
    reads, polls = _READS.get(machine, ()), _POLLS.get(machine, ())
    found, looked = set[int](), 0
    for pid in pids:
        try:
            threads = spared(lambda pid=pid: posix.listdir(f"/proc/{pid}/task"))  # type: ignore[misc]
        except OSError:
            continue
        for thread in threads:
            looked += 1
            if looked > MOST:
                return found
            fd = _waits_for(pid, thread, reads, polls)
            if fd >= 0:
                found |= _inode(pid, fd)
            yield
    return found


def _waits_for(pid: int, thread: str, reads: tuple[int, ...], polls: tuple[int, ...]) -> int:
    """Return the descriptor that a thread is blocked on, or -1."""
    # "running", or the number of the call and its arguments; empty if we may not know.
    words = read_file(f"/proc/{pid}/task/{thread}/syscall").split()
    if len(words) < 3 or not words[0].isdigit():
        return -1
    call, first, second = int(words[0]), int(words[1], 16), int(words[2], 16)
    if call in reads:
        return first & 0x7FFFFFFF
    return _polled(pid, first) if call in polls and second == 1 else -1


def _polled(pid: int, address: int) -> int:
    """Return the one descriptor that poll(2) was called with, if it waits for data."""
    try:
        memory = posix.open(f"/proc/{pid}/mem", posix.O_RDONLY | posix.O_CLOEXEC)
    except OSError:
        return -1
    try:
        fd, events, _ = _POLLFD.unpack(posix.pread(memory, _POLLFD.size, address))
    except (OSError, OverflowError, error):
        return -1
    finally:
        posix.close(memory)
    return int(fd) if events & _POLLIN else -1


def _inode(pid: int, fd: int) -> set[int]:
    try:
        link = posix.readlink(f"/proc/{pid}/fd/{fd}")
    except OSError:
        return set()
    return {int(link[8:-1])} if link.startswith("socket:[") else set()
