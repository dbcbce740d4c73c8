"""The file probe: checks whether a file exists, is absent, or contains a text.

Only regular files are opened, and only to search for a text: opening a FIFO or a device can block
or have side effects.  Even stat(2) does not come back while a disk hangs (NFS, FUSE), so all calls
are made in a thread.
"""

from __future__ import annotations

import posix
import time

from gracewrap.linux.call_in_thread import Aside
from gracewrap.linux.procfs import SHORTAGE
from gracewrap.policy.model import BUSY, DRAINED, INVALID, UNREACHABLE, Reading
from gracewrap.probes.base import Probe
from gracewrap.record import TYPE_CHECKING

if TYPE_CHECKING:
    from gracewrap.config.probe_specs import FileProbeSpec
    from gracewrap.linux.reactor import Reactor, Timer
    from gracewrap.probes.base import OnReading

# Seconds: a disk that answers does so at once; one that hangs is then looked at again so often.
PATIENCE, AGAIN = 0.02, 0.1
MAX_SEARCHED = 1 << 20  # bytes of the file that are searched for the text

_S_IFMT, _S_IFREG = 0o170000, 0o100000  # inode(7)
# EIO, ENOMEM, ENFILE, EMFILE, ESTALE: the file may exist, but cannot be checked now.
_TEMPORARY = {5, 12, 23, 24, 116}


class FileProbe(Probe):
    """Takes its samples at once, unless the disk hangs.

    Symbolic links are followed; the target of a dangling one is an absent file.
    """

    def __init__(self, spec: FileProbeSpec, reactor: Reactor) -> None:
        self._path, self._absent = spec.path, spec.state == "absent"
        self._text = spec.contains.encode(errors="surrogateescape")
        self._reactor, self._aside = reactor, Aside()
        self._sample = 0  # the number of the current sample
        self._again: Timer | None = None

    def sample(self, on_reading: OnReading) -> None:
        """Take one sample."""
        self.cancel()
        self._sample += 1
        self._ask(on_reading)

    def cancel(self) -> None:
        """Wait no longer; the call of a disk that hangs goes on, and its result is dropped."""
        self._reactor.cancel(self._again)
        self._again = None

    def _ask(self, on_reading: OnReading) -> None:
        number = self._sample
        try:
            asked = 0
            while asked != number:  # else it is what an earlier sample was to see
                patience = 0 if self._aside.is_busy else PATIENCE
                asked, reading = self._aside.call(lambda: (number, self._look()), patience)
        except BlockingIOError:
            again_at = time.monotonic() + AGAIN
            self._again = self._reactor.call_at(again_at, lambda: self._ask(on_reading))
        else:
            on_reading(reading)

    def _look(self) -> Reading:
        """Return a reading of the file.  Made in the thread."""
        try:
            return self._check()
        except FileNotFoundError:
            return self._not_found()
        except OSError as error:
            kind = UNREACHABLE if error.errno in _TEMPORARY else INVALID
            why = f"{self._path}: {error.strerror}"
            return Reading(kind, None, why, asked=error.errno not in SHORTAGE)
        except ValueError as error:  # the path contains a NUL
            return Reading(INVALID, None, f"{self._path!r}: {error}")

    def _check(self) -> Reading:
        """Return the reading for a file that exists.

        Raises:
            OSError: If it does not exist, or cannot be checked.
        """
        mode = posix.stat(self._path).st_mode
        if self._absent:
            return Reading(BUSY, None, f"{self._path} exists")
        if not self._text:
            return Reading(DRAINED)
        if mode & _S_IFMT == _S_IFREG:
            flags = posix.O_RDONLY | posix.O_NONBLOCK | posix.O_NOCTTY | posix.O_CLOEXEC
            fd = posix.open(self._path, flags)
            try:
                # Another file may be at the path by now.  If it is a FIFO or a device, O_NONBLOCK
                # has kept open() from blocking; it is not read.
                if posix.fstat(fd).st_mode & _S_IFMT == _S_IFREG:
                    if self._text in _read(fd):
                        return Reading(DRAINED)
                    return Reading(BUSY, None, f"{self._path} does not contain the text")
            finally:
                posix.close(fd)
        return Reading(INVALID, None, f"{self._path} is not a regular file, so it is not searched")

    def _not_found(self) -> Reading:
        """Return the reading for an absent file.

        If the file should appear, a missing directory is a mistake.  If it should disappear, its
        directory may have been removed with it.
        """
        if self._absent:
            return Reading(DRAINED)
        directory = self._path.rpartition("/")[0] or "/"
        try:
            posix.stat(directory)
        except OSError:
            return Reading(INVALID, None, f"the directory {directory} does not exist")
        return Reading(BUSY, None, f"{self._path} does not exist")


def _read(fd: int) -> bytes:
    """Return the first MAX_SEARCHED bytes, or what can be read without blocking (in /proc)."""
    content = b""
    try:
        while len(content) < MAX_SEARCHED and (part := posix.read(fd, MAX_SEARCHED - len(content))):
            content += part
    except BlockingIOError:
        pass
    return content
