"""Log lines that never hold anything up: a reader that is slow, gone or stopped costs lines, not
time."""

from __future__ import annotations

import posix
import time

from gracewrap.linux.nonblocking_writer import Writer
from gracewrap.record import TYPE_CHECKING
from gracewrap.report.json_text import dumps

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

LEVELS = {"debug": 0, "info": 1, "warning": 2, "error": 3}
KEPT = 64 * 1024  # bytes of unwritten lines that are kept for a slow reader
_NEW_FLAGS = posix.O_WRONLY | posix.O_APPEND | posix.O_NONBLOCK | posix.O_CLOEXEC | posix.O_NOCTTY


class Log:
    """Where lines go.  Opened when the first line is written, so that a quiet run opens nothing."""

    def __init__(self, format: str = "auto", level: str = "info", file: str | None = None) -> None:
        self.lowest = LEVELS[level]
        self.format = format
        self.file = file
        self.dropped = 0
        self.behind = 0.0  # seconds since what is being said has happened
        self.beside: Callable[[bytes], bool] | None = (
            None  # takes lines for stderr, where others write there too; False: no room
        )
        self._writer: Writer | None = None
        self._kept: list[bytes] = []

    def open(self) -> None:
        """Find out where and how to write; does nothing the second time, and nothing goes wrong."""
        if self._writer is not None:
            return
        fault = ""
        if self.file is not None:
            try:
                self._writer = Writer(posix.open(self.file, _NEW_FLAGS | posix.O_CREAT, 0o644))
            except OSError as error:
                fault = (
                    f"cannot write the log to {self.file!r}: {error.strerror}; it goes to stderr"
                )
        if self._writer is None:
            self._writer = Writer()
        if self.format == "auto":
            self.format = "text" if self.file is None and posix.isatty(2) else "json"
        if fault:
            self.say("warning", "log_file_unusable", fault, {})

    def enabled(self, level: str) -> bool:
        """Return whether lines of this level are written at all."""
        return LEVELS[level] >= self.lowest

    def say(self, level: str, event: str, message: str, fields: Mapping[str, object]) -> None:
        """Write one line; what cannot be written now is kept for the next time, as far as there is
        room."""
        if not self.enabled(level):
            return
        self.open()
        if self.format == "json":
            at = timestamp(time.time() - self.behind)
            line = dumps(
                {
                    "time": at,
                    "level": level,
                    "source": "gracewrap",
                    "event": event,
                    "message": message,
                    **fields,
                }
            )
        else:
            line = f"gracewrap: {message}"
        data = line.encode("utf-8", "backslashreplace") + b"\n"
        if self.beside is not None and self.file is None:
            self.dropped += not self.beside(data)
            return
        if sum(map(len, self._kept)) + len(data) > KEPT:
            self.dropped += 1
        else:
            self._kept.append(data)
        self.flush()

    def flush(self) -> None:
        """Write what has been kept, as far as it goes without waiting."""
        while self._kept and self._writer is not None:
            try:
                written = self._writer.write(self._kept[0])
            except BlockingIOError:
                return
            except OSError:  # EPIPE, ENOSPC, EIO: whoever read this is gone, or the disk is full
                if self.file is not None:
                    self.file, self._writer = None, Writer()  # better there than nowhere
                    continue
                self.dropped += len(self._kept)
                self._kept.clear()
                return
            if written < len(self._kept[0]):
                self._kept[0] = self._kept[0][written:]
                return
            del self._kept[0]


def timestamp(at: float | None = None) -> str:
    """Return the wall-clock time *at* (seconds since 1970; None: now) as RFC 3339 in UTC with
    milliseconds."""
    now = time.time() if at is None else at
    return time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(now)) + f".{int(now % 1 * 1000):03d}Z"
