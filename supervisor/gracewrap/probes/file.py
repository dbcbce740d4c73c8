"""Is a file there, is it gone, does it hold a text?

Opened is nothing but a regular file, and only to look for a text in it: opening a FIFO or a device
can wait, or do something.
"""

from __future__ import annotations

import posix

from gracewrap.policy.model import BUSY, DRAINED, INVALID, UNREACHABLE, Reading
from gracewrap.probes.base import Probe
from gracewrap.record import TYPE_CHECKING

if TYPE_CHECKING:
    from gracewrap.config.probe_specs import FileProbeSpec
    from gracewrap.probes.base import OnReading

MOST = 1 << 20  # bytes that are searched for the text; what is behind them is not looked at

_S_IFMT, _S_IFREG = 0o170000, 0o100000  # inode(7)
# EIO, ENOMEM, ENFILE, EMFILE, ESTALE: it may well be there, but it cannot be seen now.
_NOT_NOW = {5, 12, 23, 24, 116}


class FileProbe(Probe):
    """Answers at once.  Symbolic links are followed: one that leads nowhere is a file that is not
    there."""

    def __init__(self, probe: FileProbeSpec) -> None:
        self._path, self._absent = probe.path, probe.state == "absent"
        self._text = probe.contains.encode(errors="surrogateescape")

    def sample(self, on_reading: OnReading) -> None:
        """Take one sample."""
        try:
            reading = self._look()
        except FileNotFoundError:
            reading = self._not_there()
        except OSError as error:
            reading = Reading(
                UNREACHABLE if error.errno in _NOT_NOW else INVALID,
                None,
                f"{self._path}: {error.strerror}",
            )
        except ValueError as error:  # a NUL in the path
            reading = Reading(INVALID, None, f"{self._path!r}: {error}")
        on_reading(reading)

    def _look(self) -> Reading:
        """Return what is to be said of a file that is there.

        Raises:
            OSError: If it is not, or cannot be looked at.
        """
        mode = posix.stat(self._path).st_mode
        if self._absent:
            return Reading(BUSY, None, f"{self._path} is there")
        if not self._text:
            return Reading(DRAINED)
        if mode & _S_IFMT == _S_IFREG:
            fd = posix.open(
                self._path, posix.O_RDONLY | posix.O_NONBLOCK | posix.O_NOCTTY | posix.O_CLOEXEC
            )
            try:
                # It may be another file by now: that one has been opened without waiting, and is
                # not read.
                if posix.fstat(fd).st_mode & _S_IFMT == _S_IFREG:
                    found = self._text in _read(fd)
                    return (
                        Reading(DRAINED)
                        if found
                        else Reading(BUSY, None, f"{self._path} does not hold the text")
                    )
            finally:
                posix.close(fd)
        return Reading(INVALID, None, f"{self._path} is not a regular file, so it is not searched")

    def _not_there(self) -> Reading:
        """An absent directory is a mistake for a file that is to come; one that is to go may take
        its directory along."""
        if self._absent:
            return Reading(DRAINED)
        directory = self._path.rpartition("/")[0] or "/"
        try:
            posix.stat(directory)
        except OSError:
            return Reading(INVALID, None, f"the directory {directory} does not exist")
        return Reading(BUSY, None, f"{self._path} is not there")


def _read(fd: int) -> bytes:
    """Return the first MOST bytes; what cannot be read without waiting (files of /proc may be so)
    is the end."""
    content = b""
    try:
        while len(content) < MOST and (part := posix.read(fd, MOST - len(content))):
            content += part
    except BlockingIOError:
        pass
    return content
