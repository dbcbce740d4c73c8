"""Log lines that never hold anything up: a reader that is slow, gone or stopped costs lines, not
time."""

from __future__ import annotations

import posix
import time

from gracewrap.linux.call_in_thread import NO_ANSWER, Aside
from gracewrap.linux.nonblocking_writer import PATIENCE, Writer
from gracewrap.record import TYPE_CHECKING
from gracewrap.report.json_encoder import dumps, quote_readable

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

LEVELS = {"debug": 0, "info": 1, "warning": 2, "error": 3}
KEPT = 64 * 1024  # bytes of unwritten lines that are kept for a slow reader
_NEW_FLAGS = posix.O_WRONLY | posix.O_APPEND | posix.O_NONBLOCK | posix.O_CLOEXEC | posix.O_NOCTTY


class Log:
    """Where lines go.  Opened when the first line is written, so that a quiet run opens nothing."""

    def __init__(
        self,
        format: str = "auto",
        level: str = "info",
        file: str | None = None,
        times: bool = False,
    ) -> None:
        self.lowest = LEVELS[level]
        self.format = format
        self.file = self.path = file
        self.times = times  # whether lines of text have a time
        self.dropped = 0
        # When what is being said has happened, in seconds since 1970; None: now.
        self.moment: float | None = None
        self.beside: Callable[[bytes], bool] | None = (
            None  # takes lines for stderr, where others write there too; False: no room
        )
        self._writer: Writer | None = None
        self._kept: list[bytes] = []
        self._written = 0  # how much of the first of them has been written

    def open(self) -> None:
        """Find out where and how to write; does nothing the second time, and nothing goes wrong."""
        if self._writer is not None:
            return
        fault = ""
        if self.file is not None:
            try:
                self._writer = _open(self.file)
            except OSError as error:
                fault = _unusable(self.file, error)
        if self._writer is None:
            self._writer = Writer(aside=True)
        if self.format == "auto":
            self.format = "text" if self.file is None and posix.isatty(2) else "json"
        if fault:
            self.say("warning", "log_file_unusable", fault, {})

    def reopen(self) -> str:
        """Open the file anew, by its name: it has been rotated.  Return what went wrong; then lines
        go where they went."""
        if self.path is None or self._writer is None:
            return ""  # it is opened with the first line
        self.flush()
        try:
            if self._writer.hangs:
                raise BlockingIOError(0, "it does not take the last line yet")
            writer = _open(self.path)
        except OSError as error:
            return f"cannot reopen the log file {self.path!r}: {error.strerror}"
        self._writer.close()
        self._writer, self.file, self._written = writer, self.path, 0
        return ""

    def enabled(self, level: str) -> bool:
        """Return whether lines of this level are written at all."""
        return LEVELS[level] >= self.lowest

    def say(self, level: str, event: str, message: str, fields: Mapping[str, object]) -> None:
        """Write one line; what cannot be written now is kept for the next time, as far as there is
        room."""
        if not self.enabled(level):
            return
        self.open()
        data = self._line(level, event, message, fields)
        if self.beside is not None and self.file is None:
            self.dropped += not self.beside(data)
            return
        if sum(map(len, self._kept)) + len(data) > KEPT:
            self.dropped += 1
        else:
            self._kept.append(data)
        self.flush()

    def _line(self, level: str, event: str, message: str, fields: Mapping[str, object]) -> bytes:
        """Return one line in the format of this log."""
        if self.format == "json":
            at = timestamp(self.moment)
            line = dumps(
                {
                    "time": at,
                    "level": level,
                    "source": "gracewrap",
                    "event": event,
                    "message": message,
                    **fields,
                },
                quote_readable,
            )
        else:
            at = f"{timestamp(self.moment)} " if self.times else ""
            line = f"{at}gracewrap: {message}"
        return line.encode("utf-8", "backslashreplace") + b"\n"

    @property
    def is_behind(self) -> bool:
        """Whether lines wait for a slow reader, or have been lost."""
        return bool(self._kept or self.dropped)

    def flush(self) -> None:
        """Write what has been kept, as far as it goes without waiting."""
        while self._kept and self._writer is not None:
            try:
                written = self._writer.write(self._kept[0][self._written :])
            except BlockingIOError:
                return
            except OSError as error:  # EPIPE, ENOSPC, EIO: the reader is gone, the disk is full
                if self.file is not None:
                    self._go_to_stderr(self.file, error)
                    continue
                self.dropped += len(self._kept)
                self._kept.clear()
                self._written = 0
                return
            self._written += written
            # A part is written if there is no more room, which the next try says: a full disk has
            # the rest of the last line too.
            if self._written == len(self._kept[0]):
                del self._kept[0]
                self._written = 0
            elif not written:
                return

    def finish(self, until: float) -> None:
        """Write what has been kept, waiting until then at most (monotonic) for who reads it; of a
        file whose disk does not answer, on stderr."""
        while True:
            self.flush()
            left = until - time.monotonic()
            if not self._kept or self._writer is None:
                return
            if left > 0:
                self._writer.wait_until_idle(left)
            elif self.file is not None:
                self._go_to_stderr(self.file, BlockingIOError(0, NO_ANSWER))
            else:
                return

    def _go_to_stderr(self, file: str, error: OSError) -> None:
        """Write to stderr from now on, and say so; the line that has been cut is written again."""
        self.file, self._writer, self._written = None, Writer(aside=True), 0
        if self.enabled("warning"):
            said = self._line("warning", "log_file_unusable", _unusable(file, error), {})
            self._kept.insert(0, said)


def _open(file: str) -> Writer:
    """Open a log file.

    Raises:
        OSError: It cannot be opened, or its disk does not answer.
    """
    fd = Aside().call(lambda: posix.open(file, _NEW_FLAGS | posix.O_CREAT, 0o644), PATIENCE)
    assert isinstance(fd, int)
    return Writer(fd, aside=True)


def _unusable(file: str, error: OSError) -> str:
    return f"cannot write the log to {file!r}: {error.strerror}; it goes to stderr"


def timestamp(at: float | None = None) -> str:
    """Return the wall-clock time *at* (seconds since 1970; None: now) as RFC 3339 in UTC with
    milliseconds."""
    now = time.time() if at is None else at
    return time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(now)) + f".{int(now % 1 * 1000):03d}Z"
