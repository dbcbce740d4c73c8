"""stdin, stdout and stderr: what a container runtime does with them for one process, done for each
program.

Programs that share an open file description share its flags: Node sets O_NONBLOCK on the pipe that
is its stdout, and what another program then writes to a full pipe is lost.  And a program of
another user cannot open /dev/stdout: the pipe belongs to whoever has started us.
"""

from __future__ import annotations

import fcntl
import posix

FIFO, CHARACTER_DEVICE, _KIND = 0o010000, 0o020000, 0o170000


def reopened(number: int) -> int:
    """Return a new open file description of our stdout or stderr, closed on exec; -1: share ours.

    A file is shared: O_NONBLOCK means nothing there, but the position does.  A socket cannot be
    opened again, nor can a pipe that nobody reads any more.
    """
    try:
        kind = posix.fstat(number).st_mode & _KIND
        if kind != FIFO and not (kind == CHARACTER_DEVICE and posix.isatty(number)):
            return -1
        access = fcntl.fcntl(number, fcntl.F_GETFL) & posix.O_ACCMODE
        # O_NONBLOCK: else it would wait here for a reader.
        flags = access | posix.O_NONBLOCK | posix.O_CLOEXEC | posix.O_NOCTTY
        fd = posix.open(f"/proc/self/fd/{number}", flags)
        posix.set_blocking(fd, True)
        return fd
    except OSError:  # not ours to open; no /proc; no descriptors
        return -1


def own(stdio: tuple[int, int]) -> tuple[tuple[int, int], list[int]]:
    """Return stdout and stderr of a program, where -1 means ours, so that it shares none of them;
    and what to close when it has been started."""
    pair = [fd if fd >= 0 else reopened(number) for number, fd in enumerate(stdio, 1)]
    return (pair[0], pair[1]), [fd for fd, given in zip(pair, stdio) if fd >= 0 > given]


def let_open(uid: int) -> None:
    """In the child, before it becomes user *uid*: let that user open /dev/stdin, /dev/stdout and
    /dev/stderr.

    A pipe without a name can only be reached by who has it open, so anybody may be allowed to; a
    terminal is given to the user, as container runtimes do, but only in a container.
    """
    for number in (0, 1, 2):
        try:
            found = posix.fstat(number)
            kind = found.st_mode & _KIND
            if found.st_uid == uid:
                continue
            if kind == FIFO and posix.readlink(f"/proc/self/fd/{number}").startswith("pipe:"):
                more = 0o222 if number else 0o444
                posix.chmod(number, found.st_mode & 0o7777 | more)
            elif kind == CHARACTER_DEVICE and posix.getppid() == 1 and posix.isatty(number):
                posix.chown(number, uid, -1)
        except OSError:
            pass  # closed, or not ours to change: then it is as it was
