"""Read a file that somebody named, with care: it may be a directory, a gigabyte, a pipe that nobody
writes to."""

from __future__ import annotations

import os
import select
import stat
import time

LARGEST = 1 << 18  # bytes; a large configuration has a few thousand
PIPE_WAIT = (
    5.0  # seconds for all of `--config <(...)`; we cannot be interrupted here, so it must end
)


class Unreadable(Exception):
    """A file that cannot be used; the text says why and what to do."""


def read(path: str, what: str) -> bytes:
    """Return the content of a file or pipe; *what* says what it should be.

    Raises:
        OSError: If it cannot be opened or read.
        Unreadable: If it is something else, or too large.
    """
    fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)
    try:
        info = os.fstat(fd)
        if stat.S_ISDIR(info.st_mode):
            raise Unreadable("it is a directory; name the file in it")
        if not stat.S_ISREG(info.st_mode) and not stat.S_ISFIFO(info.st_mode):
            raise Unreadable("it is neither a file nor a pipe")
        if info.st_size > LARGEST:
            raise Unreadable(
                f"it has {info.st_size} bytes, and {what} at most {LARGEST}; is it the right file?"
            )
        content, until = b"", time.monotonic() + PIPE_WAIT
        while len(content) <= LARGEST:
            if (
                stat.S_ISFIFO(info.st_mode)
                and not select.select([fd], [], [], max(0.0, until - time.monotonic()))[0]
            ):
                raise Unreadable(
                    f"the pipe did not end within {PIPE_WAIT:g} s; is anybody writing to it?"
                )
            part = os.read(fd, 1 << 16)
            if not part:
                return content
            content += part
        raise Unreadable(f"it has more than {LARGEST} bytes; is it the right file?")
    finally:
        os.close(fd)


def remedy(path: str, error: OSError) -> str:
    """Return what to do about a file that cannot be opened, to go after the reason; "" if there is
    nothing to say."""
    if not path:
        return "; its name is empty"
    if isinstance(error, FileNotFoundError):
        return (
            "" if os.path.isdir(os.path.dirname(path) or ".") else "; its directory does not exist"
        )
    if isinstance(error, PermissionError):
        return f" for user {os.geteuid()}; chmod or chown it"
    return ""
