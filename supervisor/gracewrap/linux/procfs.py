"""Does: system calls about processes, signals, terminals and sockets.  Reports what happened and
decides nothing."""

from __future__ import annotations

import posix

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import TypeVar

    T = TypeVar("T")

ENFILE, EMFILE = 23, 24
# No process, memory or descriptor is left: what failed may succeed the next time.
SHORTAGE = frozenset((11, 12, ENFILE, EMFILE))  # EAGAIN, ENOMEM
_SPARE: list[int] = []
# Never written to, so that it takes up addresses only: those are what RLIMIT_AS, RLIMIT_DATA and
# vm.overcommit_memory limit.  More than the 1 MiB that malloc(3) asks for once brk(2) fails, less
# than a huge page.
_MEMORY = 3 << 19
_SPARE_MEMORY: list[bytes] = []


def keep_spare() -> None:
    """Hold back a descriptor and memory for what must be read when there is none left: who is there
    to be stopped, or killed."""
    if not _SPARE:
        try:
            _SPARE.append(posix.open("/", posix.O_RDONLY | posix.O_CLOEXEC))
        except OSError:
            pass
    if not _SPARE_MEMORY:
        try:
            _SPARE_MEMORY.append(bytes(_MEMORY))  # by calloc(3); a bytearray would be written to
        except MemoryError:
            pass


def release_memory() -> None:
    """Give up the memory that was held back: it is needed now."""
    _SPARE_MEMORY.clear()


def spared(call: Callable[[], T]) -> T:
    """Return what *call* returns, a second time with the descriptor, or the memory, that was held
    back if there was none left for it."""
    try:
        return call()
    except MemoryError:
        if not _SPARE_MEMORY:
            raise
        release_memory()
    except OSError as error:
        if error.errno not in (ENFILE, EMFILE) or not _SPARE:
            raise
        posix.close(_SPARE.pop())
    try:
        return call()
    finally:
        keep_spare()


def read_file(path: str) -> bytes:
    """Return what is in a small file of /proc; empty if it is gone."""
    try:
        return spared(lambda: read_whole(path))
    except OSError:  # ENOENT; ESRCH: it exited while we read
        return b""


def read_whole(path: str) -> bytes:
    """Return what is in a file.

    Raises:
        OSError: If it cannot be read.
    """
    fd = posix.open(path, posix.O_RDONLY | posix.O_CLOEXEC)
    try:
        content = b""
        while part := posix.read(fd, 1 << 16):
            content += part
        return content
    finally:
        posix.close(fd)
