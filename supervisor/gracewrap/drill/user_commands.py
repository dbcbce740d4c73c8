"""Commands of the user's that a drill runs beside the instance: they load it, or keep its jobs."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
from concurrent.futures import ThreadPoolExecutor

from gracewrap.record import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from typing import IO

MOST = 64  # that run at once


class Helpers:
    """Starts commands and waits for them.  What they start is not what the instance leaves behind.

    Args:
        environment: Of each of them.
    """

    def __init__(self, environment: Mapping[str, str]) -> None:
        self._environment = environment
        self._pool = ThreadPoolExecutor(MOST)
        self._open: list[subprocess.Popen[bytes]] = []
        self.pids: set[int] = set()

    def start(
        self, words: Sequence[str], stdout: int, stderr: int | IO[bytes]
    ) -> subprocess.Popen[bytes]:
        """Start a command.  Raises OSError.

        Its pid is known before anything else can run: nobody takes it for one left behind.
        """
        process = subprocess.Popen(
            words,
            stdin=subprocess.DEVNULL,
            stdout=stdout,
            stderr=stderr,
            env=self._environment,
            start_new_session=True,
        )
        self.pids.add(process.pid)
        self._open.append(process)
        return process

    async def call(self, words: Sequence[str], seconds: float) -> tuple[int | None, bytes, bytes]:
        """Return the exit status of a command, its output and what it wrote to stderr; the status
        is None if it took longer.  Raises OSError."""
        process = self.start(words, subprocess.PIPE, subprocess.PIPE)
        loop = asyncio.get_running_loop()
        try:
            out, error = await loop.run_in_executor(
                self._pool, lambda: process.communicate(timeout=seconds)
            )
        except subprocess.TimeoutExpired:
            return None, b"", b""
        finally:
            self.end(process)
        return process.returncode, out, error

    def end(self, process: subprocess.Popen[bytes]) -> None:
        """SIGKILL a command and its group, if it still runs."""
        if process in self._open:
            self._open.remove(process)
        if process.poll() is None:
            try:
                os.killpg(process.pid, signal.SIGKILL)
            except OSError:
                pass  # it has just ended
            process.wait()

    def close(self) -> None:
        """End all that still run."""
        for process in list(self._open):
            self.end(process)
        self._pool.shutdown()


def last_line(text: bytes) -> str:
    """Return the last line that says something, to go after a sentence."""
    lines = [line for line in text.decode(errors="replace").splitlines() if line.strip()]
    return f": {lines[-1].strip()}" if lines else ""
