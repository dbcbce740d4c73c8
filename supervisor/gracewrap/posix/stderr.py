"""Write to stderr without ever waiting for its reader.

stderr is shared with the child, so its O_NONBLOCK flag is not ours to set.  A pipe or terminal is opened anew by way of /proc,
which gives flags of our own; a socket, or what may not be opened again, is written with RWF_NOWAIT.
"""

from __future__ import annotations

import posix

_RWF_NOWAIT = 8  # pwritev2(2)
_FIFO, _CHARACTER_DEVICE, _REGULAR = 0o010000, 0o020000, 0o100000
_UNSUPPORTED = (29, 38, 95)  # ESPIPE, ENOSYS, EOPNOTSUPP: not for this kind of file, or not by this kernel


class Writer:
    """Where bytes go: stderr, or a descriptor that does not block anyway."""

    def __init__(self, fd: int = -1) -> None:
        # How not to block: the descriptor itself does not; by RWF_NOWAIT; by asking first.
        self._fd, self._nowait = (fd, False) if fd >= 0 else _open_stderr()
        self._ask = False

    def write(self, data: bytes) -> int:
        """Write what can be written now, and return how much that was.

        Raises:
            BlockingIOError: Not a byte.
            OSError: The reader is gone, the disk is full.
        """
        if self._nowait:
            try:
                return posix.pwritev(self._fd, [data], -1, _RWF_NOWAIT)
            except OSError as error:
                if error.errno not in _UNSUPPORTED:
                    raise
                self._nowait, self._ask = False, True
        if self._ask:
            import select  # a terminal of another user, or an old kernel

            if not select.select([], [self._fd], [], 0)[1]:
                raise BlockingIOError
        return posix.write(self._fd, data)


def _open_stderr() -> tuple[int, bool]:
    try:
        kind = posix.fstat(2).st_mode & 0o170000
        if kind in (_FIFO, _CHARACTER_DEVICE):
            return posix.open("/proc/self/fd/2", posix.O_WRONLY | posix.O_NONBLOCK | posix.O_CLOEXEC | posix.O_NOCTTY), False
        return 2, kind != _REGULAR
    except OSError:  # closed; or owned by another user, so that it cannot be opened anew
        return 2, True
