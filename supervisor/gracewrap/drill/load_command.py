"""A load of the user's own: a shell command that prints a JSON line for each request, as
`vegeta attack | vegeta encode` does."""

from __future__ import annotations

import asyncio
import json
import math
import re
import subprocess
import tempfile
import threading
import time
from datetime import datetime

from gracewrap.config.printable import printable
from gracewrap.drill.fates import CUT, ELSEWHERE, OK, REFUSED, RESET, TIMED_OUT, Request, of_status
from gracewrap.drill.model import Unready
from gracewrap.drill.user_commands import last_line
from gracewrap.record import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable

    from gracewrap.drill.model import Asked
    from gracewrap.drill.user_commands import Helpers

POLL = 0.05
# Go wraps what happens before the answer begins as `Get "http://host/": ...`; what happens while a
# body is read has no such head (net/http's url.Error).
BEFORE = re.compile(r'[A-Z][A-Za-z]* "').match


class LoadCommand:
    """Runs the command, and reads what it prints.

    Args:
        asked: The command.
        helpers: Runs it.
    """

    def __init__(self, asked: Asked, command: str, helpers: Helpers) -> None:
        self._asked, self._command, self._helpers = asked, command, helpers
        self._found: list[Request] = []  # with times of the clock on the wall
        self._odd = ""  # the first line that is no result
        self._process: subprocess.Popen[bytes] | None = None
        self._reader: threading.Thread | None = None
        self._errors = tempfile.TemporaryFile()  # noqa: SIM115 - finish() closes it

    async def run(self, until: Callable[[], bool]) -> None:
        """Run it until it is over, or the load is."""
        words = "/bin/sh", "-c", self._command
        self._process = self._helpers.start(words, subprocess.PIPE, self._errors)
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()
        while not until() and self._process.poll() is None:
            await asyncio.sleep(POLL)

    async def begins(self, seconds: float) -> None:
        """Wait for its first result, at most so many seconds, or until it has ended."""
        until = time.monotonic() + seconds
        while not self._found and time.monotonic() < until:
            if self._process is not None and self._process.poll() is not None:
                break
            await asyncio.sleep(POLL)

    async def finish(self, seconds: float) -> None:
        """Wait for its end, at most so many seconds, then kill it: what it printed counts.

        Raises:
            Unready: If it has printed no result.
        """
        assert self._process is not None and self._reader is not None
        until = time.monotonic() + seconds
        while self._process.poll() is None and time.monotonic() < until:
            await asyncio.sleep(POLL)
        status = self._process.poll()
        self._helpers.end(self._process)
        while self._reader.is_alive() and time.monotonic() < until + 5:
            await asyncio.sleep(POLL)
        with self._errors as errors:
            errors.seek(0)
            said = last_line(errors.read())
        if not self._found:
            ended = f"it ended with {status}" if status is not None else "it did not end"
            odd = f"; it printed {self._odd[:60]!r}" if self._odd else ""
            raise Unready(f"the load command printed no result as a JSON line: {ended}{odd}{said}")

    def fates(self, stop_at: float, diverted_at: float) -> tuple[Request, ...]:
        """Return the requests, with times from the stop request."""
        zero = time.time() - time.monotonic() + stop_at
        found = []
        for one in sorted(self._found, key=lambda one: one.at):
            at, ended = one.at - zero, one.ended - zero
            is_here = at < diverted_at - stop_at
            fate, why = (one.fate, one.why) if is_here else (ELSEWHERE, "")
            found.append(Request(one.url, at, ended, fate, None, why))
        return tuple(found)

    def _read(self) -> None:
        assert self._process is not None and self._process.stdout is not None
        with self._process.stdout as lines:
            for line in lines:
                one = parsed(line, self._asked.urls[0])
                if one is not None:
                    self._found.append(one)
                elif line.strip():
                    self._odd = self._odd or line.decode(errors="replace").strip()


def parsed(line: bytes, url: str) -> Request | None:
    """Return the request of a line, with times of the clock on the wall; None: it is none.

    Args:
        url: For a line without one (vegeta before 12.8).
    """
    try:
        found = json.loads(line)
        at = datetime.fromisoformat(_microseconds(found["timestamp"])).timestamp()
        latency, code = float(found["latency"]) / 1e9, int(found["code"])
        error = str(found.get("error") or "")
    except (ValueError, TypeError, KeyError, AttributeError, RecursionError, OverflowError):
        return None
    if not math.isfinite(latency):
        return None
    fate = fate_of(code, error)
    why = printable(error) if fate != OK else ""
    return Request(printable(str(found.get("url") or url)), at, at + latency, fate, None, why)


def _microseconds(stamp: str) -> str:
    """Return a time of Go's, which has up to nine digits after the point, as Python reads it."""
    return re.sub(r"\.(\d{1,6})\d*", lambda part: "." + part[1].ljust(6, "0"), stamp)


def fate_of(code: int, error: str) -> str:
    """Return the fate of a request; *code* is 0 if there was no whole answer."""
    if code:
        return of_status(code)
    if "timeout" in error.lower() or "deadline exceeded" in error:
        return TIMED_OUT
    if "connection refused" in error or "dial tcp" in error:
        return REFUSED
    return RESET if BEFORE(error) else CUT
