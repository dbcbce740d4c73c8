"""Sends requests by the clock: each at its time, whatever has become of those before it.

A client that waits for an answer before it sends the next request hides an outage: the requests
that it would have sent are missing.  So latency counts from the scheduled time, and each scheduled
request has one fate.
"""

from __future__ import annotations

import asyncio
import errno
import time

from gracewrap.drill.fates import CUT, ELSEWHERE, OK, REFUSED, RESET, TIMED_OUT, Request, of_status
from gracewrap.drill.model import Unready
from gracewrap.record import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable

    import httpx

    from gracewrap.drill.model import Asked

WITHOUT = "it needs httpx: pip install httpx"


class _NotHere(Exception):
    """The balancer gives this request to another instance."""


def require() -> None:
    """Refuse a drill that could send nothing, before anything is started.  Raises Unready."""
    try:
        import httpx  # noqa: F401
    except ImportError:
        raise Unready(WITHOUT) from None


class Load:
    """Sends requests to one instance, or with a second one to that as soon as the balancer does.

    Args:
        asked: What to send.
        urls: Where to; those of the instance that is stopped.
        goes_here: Says whether a request goes to it: one on an open connection (True), or a new
            one.
    """

    def __init__(
        self, asked: Asked, urls: tuple[str, ...], goes_here: Callable[[bool], bool]
    ) -> None:
        try:
            import httpx
        except ImportError:
            raise Unready(WITHOUT) from None
        self._httpx = httpx
        self._asked, self._urls, self._goes_here = asked, urls, goes_here
        self._kept, self._single = self._client(100), self._client(0)
        self._tasks: set[asyncio.Task[None]] = set()
        self.requests: list[tuple[str, float, float, str, bool, str]] = []
        self.late = 0.0  # the most that one was sent late

    def _client(self, kept: int) -> httpx.AsyncClient:
        """Return a client that keeps so many connections alive."""
        return self._httpx.AsyncClient(
            limits=self._httpx.Limits(max_connections=None, max_keepalive_connections=kept),
            timeout=self._asked.request_timeout,
            trust_env=False,
            verify=False,
        )

    async def run(self, until: Callable[[], bool]) -> None:
        """Send requests at their times, until it is over."""
        began, n = time.monotonic(), 0
        while not until():
            at = began + n / self._asked.rate
            await asyncio.sleep(max(0.0, at - time.monotonic()))
            self.late = max(self.late, time.monotonic() - at)
            url = self._urls[n // 2 % len(self._urls)]
            task = asyncio.create_task(self._one(url, at, kept=n % 2 == 0))
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)
            n += 1

    async def finish(self, seconds: float) -> None:
        """Wait for the answers that are under way."""
        if self._tasks:
            _, open_ones = await asyncio.wait(self._tasks, timeout=seconds)
            for task in open_ones:
                task.cancel()
            await asyncio.gather(*open_ones, return_exceptions=True)
        await self._kept.aclose()
        await self._single.aclose()

    async def _one(self, url: str, at: float, kept: bool) -> None:
        """Send one request and note its fate."""
        fate, why, reused = TIMED_OUT, "the drill ended before its answer", kept
        opened = False

        async def trace(event: str, _info: object) -> None:
            nonlocal opened
            if event == "connection.connect_tcp.started":
                opened = True
                if not self._goes_here(False):
                    raise _NotHere

        try:
            if not self._goes_here(kept):
                raise _NotHere
            fate, why = await self._sent(url, kept, trace)
        except _NotHere:
            fate, why = ELSEWHERE, ""
        finally:
            reused = kept and not opened
            self.requests.append((url, at, time.monotonic(), fate, reused, why))

    async def _sent(self, url: str, kept: bool, trace: object) -> tuple[str, str]:
        """Return the fate of a request, and why."""
        httpx, asked = self._httpx, self._asked
        client = self._kept if kept else self._single
        headers = {**asked.headers} if kept else {"connection": "close", **asked.headers}
        began = False
        try:
            request = client.build_request(
                asked.method,
                url,
                content=asked.body.encode() or None,
                headers=headers,
                extensions={"trace": trace, "timeout": dict.fromkeys(
                    ("connect", "read", "write", "pool"), asked.request_timeout)},
            )  # fmt: skip
            response = await client.send(request, stream=True)
            began = True
            try:
                async for _ in response.aiter_raw():
                    pass
            finally:
                await response.aclose()
        except httpx.TimeoutException:
            return TIMED_OUT, f"no answer within {asked.request_timeout:g} s"
        except httpx.ConnectError as error:
            return REFUSED, _reason(error) or "the connection was refused"
        except httpx.TransportError as error:
            return (CUT if began else RESET), _reason(error) or str(error)
        fate = of_status(response.status_code)
        return fate, "" if fate == OK else f"status {response.status_code}"

    def fates(self, stop_at: float, _diverted_at: float) -> tuple[Request, ...]:
        """Return the requests, with times from the stop request."""
        return tuple(
            Request(url, at - stop_at, ended - stop_at, fate, kept, why)
            for url, at, ended, fate, kept, why in sorted(self.requests, key=lambda one: one[1])
        )


def _reason(error: BaseException) -> str:
    """Return what the system said, where it said anything."""
    found: BaseException | None = error
    while found is not None:
        if isinstance(found, OSError) and found.errno:
            return errno.errorcode.get(found.errno, str(found.errno))
        found = found.__cause__ or found.__context__
    return ""


async def status(url: str, seconds: float, asked: Asked | None = None) -> int:
    """Return the status of a GET, or of the request of a drill; 0: no answer within so many
    seconds."""
    import httpx

    method, content, headers = "GET", b"", dict[str, str]()
    if asked is not None:  # a route may take nothing else, or nobody without a token
        method, content, headers = asked.method, asked.body.encode(), dict(asked.headers)
    # httpx bounds each read, not all of them.  The body is not read: one of events never ends.
    try:
        async with (
            asyncio.timeout(seconds),
            httpx.AsyncClient(timeout=seconds, trust_env=False, verify=False) as client,
            client.stream(method, url, content=content or None, headers=headers) as found,
        ):
            code: int = found.status_code
            return code
    except (httpx.HTTPError, TimeoutError):
        return 0
