"""Does: system calls about processes, signals, terminals and sockets.  Reports what happened and decides nothing."""

from __future__ import annotations

import posix


def read_file(path: str) -> bytes:
    """Return what is in a small file of /proc; empty if it is gone."""
    try:
        fd = posix.open(path, posix.O_RDONLY | posix.O_CLOEXEC)
    except OSError:
        return b""
    try:
        content = b""
        while part := posix.read(fd, 1 << 16):
            content += part
        return content
    except OSError:  # ESRCH: it exited while we read
        return b""
    finally:
        posix.close(fd)
