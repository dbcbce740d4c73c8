"""Jobs as the load: the user's command enqueues them by the clock, and says which are done.

COMMAND enqueue ID  puts a job that has this ID into the queue; exit status 0 says that it is there
COMMAND ask         prints the ID of each job that has been done, one a line, and once for each time
"""

from __future__ import annotations

import asyncio
import secrets
import time
from collections import Counter

from gracewrap.drill.fates import NOT_DONE, OK, REFUSED, TIMED_OUT, TWICE, Request
from gracewrap.drill.model import Unready
from gracewrap.drill.user_commands import last_line
from gracewrap.record import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from gracewrap.drill.model import Asked
    from gracewrap.drill.user_commands import Helpers

EVERY = 0.25  # seconds between two questions
AGAIN = 1.0  # seconds after the last job is done, in which one may be done a second time


class Jobs:
    """Enqueues jobs and asks what has become of them.

    Args:
        asked: How often.
        command: What keeps the jobs.
        helpers: Runs it.
    """

    def __init__(self, asked: Asked, command: Sequence[str], helpers: Helpers) -> None:
        self._asked, self._command, self._helpers = asked, tuple(command), helpers
        self._first = ""
        self._run = secrets.token_hex(3)  # other runs may have left their jobs in the queue
        self._tasks: set[asyncio.Task[None]] = set()
        self._at: dict[str, float] = {}
        self._failed: dict[str, tuple[float, str, str]] = {}
        self._done: dict[str, float] = {}  # when each was first seen
        self._times: Counter[str] = Counter()
        self._answered = 0.0  # when it was last known what is done

    async def first(self) -> None:
        """Enqueue the job whose end says that the instance works.  Raises Unready."""
        self._first = self._enqueue(time.monotonic())
        await asyncio.gather(*self._tasks)
        if self._first in self._failed:
            raise Unready(f"cannot enqueue a job: {self._failed[self._first][2]}")

    async def first_is_done(self) -> bool:
        """Return whether it is done.  Raises Unready if the command cannot say so."""
        await self._ask(must=True)
        return bool(self._done)

    async def run(self, until: Callable[[], bool]) -> None:
        """Enqueue jobs at their times, until it is over; and ask meanwhile."""
        asking = asyncio.create_task(self._ask_on())
        began, n = time.monotonic(), 0
        try:
            while not until():
                at = began + n / self._asked.rate
                await asyncio.sleep(max(0.0, at - time.monotonic()))
                self._enqueue(at)
                n += 1
        finally:
            asking.cancel()
            await asyncio.gather(asking, return_exceptions=True)

    async def finish(self, seconds: float) -> None:
        """Ask until all jobs are done, or none has been for so many seconds; and once more for
        those that are done twice."""
        # One more for the next instance: when that is done, those put back before have been, too.
        self._enqueue(time.monotonic())
        await asyncio.wait(self._tasks, timeout=seconds)
        began = time.monotonic()
        while self._missing():
            await asyncio.sleep(EVERY)
            await self._ask()
            if time.monotonic() > max(began, *self._done.values()) + seconds:
                break
        await asyncio.sleep(AGAIN)
        await self._ask(must=True)

    def fates(self, stop_at: float, _diverted_at: float) -> tuple[Request, ...]:
        """Return the jobs, with times from the stop request."""
        load = [(name, at) for name, at in self._at.items() if name != self._first]
        return tuple(self._fate(name, at, stop_at) for name, at in load)

    def _fate(self, name: str, at: float, stop_at: float) -> Request:
        times, url = self._times[name], f"job {name}"
        if times:
            why = f"done {times} times" if times > 1 else ""
            ended = self._done[name] - stop_at
            return Request(url, at - stop_at, ended, TWICE if times > 1 else OK, None, why)
        if name in self._failed:
            ended, fate, why = self._failed[name]
            return Request(url, at - stop_at, ended - stop_at, fate, None, why)
        why = f"and no other for {self._asked.job_timeout:g} s"
        return Request(url, at - stop_at, self._answered - stop_at, NOT_DONE, None, why)

    def _missing(self) -> list[str]:
        return [name for name in self._at if name not in self._failed and name not in self._done]

    def _enqueue(self, at: float) -> str:
        name = f"{self._run}-{len(self._at) + 1}"
        self._at[name] = at
        task = asyncio.create_task(self._one(name))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        return name

    async def _one(self, name: str) -> None:
        words, seconds = (*self._command, "enqueue", name), self._asked.request_timeout
        fate, why = TIMED_OUT, "the drill ended before it was enqueued"
        try:
            status, _, error = await self._helpers.call(words, seconds)
            fate = TIMED_OUT if status is None else REFUSED
            why = f"it was not enqueued within {seconds:g} s"
            if status is not None:
                why = f"enqueue ended with {status}{last_line(error)}"
            fate = fate if status != 0 else OK
        except OSError as fault:
            raise Unready(f"cannot run {words[0]}: {fault.strerror}") from None
        finally:
            if fate != OK:
                self._failed[name] = time.monotonic(), fate, why

    async def _ask_on(self) -> None:
        while True:
            await self._ask()
            await asyncio.sleep(EVERY)

    async def _ask(self, must: bool = False) -> None:
        """Learn which jobs are done.  Raises Unready if that *must* be known."""
        words = (*self._command, "ask")
        began = time.monotonic()
        status, out, error = await self._helpers.call(words, self._asked.request_timeout)
        if status != 0:
            if must:
                ended = "did not end" if status is None else f"ended with {status}"
                raise Unready(f"cannot ask for jobs: {' '.join(words)} {ended}{last_line(error)}")
            return
        self._answered = began
        lines = (line.strip() for line in out.decode(errors="replace").splitlines())
        self._times = Counter(line for line in lines if line in self._at)
        for name in self._times:
            self._done.setdefault(name, time.monotonic())
