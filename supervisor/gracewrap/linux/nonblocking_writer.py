"""Write to stderr or stdout without ever waiting for its reader.

They are shared with the child, so their O_NONBLOCK flag is not ours to set.  A pipe or terminal is
opened anew by way of /proc, which gives flags of our own; a socket, or what may not be opened
again, is written with RWF_NOWAIT.  The disk of a file may hang: where that must hold nothing up, it
is written to aside.
"""

from __future__ import annotations

import posix

from gracewrap.linux.call_in_thread import Aside

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

_RWF_NOWAIT = 8  # pwritev2(2)
_FIFO, _CHARACTER_DEVICE, _REGULAR = 0o010000, 0o020000, 0o100000
# EPERM, ESPIPE, ENOSYS, EOPNOTSUPP: the container runtime refuses it, or it is not for this kind of
# file, or not by this kernel.
_UNSUPPORTED = (1, 29, 38, 95)
# pipe(7): so much is written in one piece, or not at all; and there is room for it if poll(2) says
# so
PIPE_BUF = 4096
PATIENCE = 0.1  # seconds in which a disk takes a line


class Writer:
    """Where bytes go: stderr, another one of our standard descriptors, or a descriptor that does
    not block anyway.

    Attributes:
        fd: What is written to.
        own: Whether it has flags of its own: it never blocks, and may be watched.
        whole: Whether it takes everything in one go: a file.
    """

    def __init__(self, fd: int = -1, number: int = 2, aside: bool = False) -> None:
        # How not to block: the descriptor itself does not; by RWF_NOWAIT; by asking first.
        self.own, self.whole = True, False
        self.fd, self._nowait = (fd, False) if fd >= 0 else self._open(number)
        self._ask = False
        self._aside = Aside() if aside and _is_file(self.fd) else None

    def _open(self, number: int) -> tuple[int, bool]:
        self.own = False
        try:
            kind = posix.fstat(number).st_mode & 0o170000
            if kind in (_FIFO, _CHARACTER_DEVICE):
                flags = posix.O_WRONLY | posix.O_NONBLOCK | posix.O_CLOEXEC | posix.O_NOCTTY
                fd = posix.open(f"/proc/self/fd/{number}", flags)
                self.own = True
                return fd, False
            self.whole = kind == _REGULAR
            return number, not self.whole
        except (
            OSError
        ):  # closed; or owned by another user, so that it cannot be opened anew; or nobody reads it
            return number, True

    def write(self, data: bytes) -> int:
        """Write what can be written now, and return how much that was.

        Raises:
            BlockingIOError: Not a byte; or a disk does not answer: then the next call has to begin
                with the same bytes, and says what has become of them.
            OSError: The reader is gone, the disk is full.
        """
        if self._nowait:
            try:
                return posix.pwritev(self.fd, [data], -1, _RWF_NOWAIT)
            except OSError as error:
                if error.errno not in _UNSUPPORTED:
                    raise
                self._nowait, self._ask = False, True
        if self._ask:  # a terminal of another user, or an old kernel
            if not wait_for_room([self], 0):
                raise BlockingIOError
            data = data[:PIPE_BUF]  # of more it would wait until all is read
        if self._aside is not None:
            fd, patience = self.fd, 0.0 if self.hangs else PATIENCE
            written = self._aside.call(lambda: posix.write(fd, data), patience)
            assert isinstance(written, int)
            return written
        return posix.write(self.fd, data)

    @property
    def hangs(self) -> bool:
        """Whether a disk has not answered yet."""
        return self._aside is not None and self._aside.is_busy

    def wait_until_idle(self, seconds: float) -> None:
        """Wait until there is room, or the disk has answered, no longer than *seconds*."""
        if self._aside is None:
            wait_for_room([self], seconds)
        else:
            self._aside.wait_until_idle(seconds)

    def close(self) -> None:
        """Close what has been opened anew."""
        if self.own and self.fd >= 0 and not self.hangs:
            posix.close(self.fd)
            self.fd, self.own = -1, False


def wait_until_one_is_idle(writers: Sequence[Writer], seconds: float) -> None:
    """Wait until one of *writers* can be written to, no longer than *seconds*; where a disk hangs,
    only for a moment, since the others may have room."""
    hanging = [writer for writer in writers if writer.hangs]
    if hanging:
        hanging[0].wait_until_idle(min(seconds, PATIENCE))
    else:
        wait_for_room(writers, seconds)


def _is_file(fd: int) -> bool:
    try:
        return posix.fstat(fd).st_mode & 0o170000 == _REGULAR
    except OSError:  # it is closed
        return False


def wait_for_room(writers: Iterable[Writer], seconds: float) -> bool:
    """Wait until one of *writers* can be written to, no longer than *seconds*; return whether one
    can.

    For when nothing else is to be waited for any more, or for 0 seconds.
    """
    import select

    asking = select.poll()  # select(2) knows no descriptor above 1023
    for writer in writers:
        asking.register(writer.fd, select.POLLOUT)
    return bool(asking.poll(seconds * 1000))
