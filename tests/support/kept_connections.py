"""Clients behind a balancer of connections, as a Kubernetes Service is one: new connections go to
instances that are ready, and what is connected stays until the client leaves.

Half of the clients keep their connection until they are asked to close it, or find it closed; the
others make one for each request.
"""

from __future__ import annotations

import asyncio
import contextlib
import threading
import time
from collections import Counter
from collections.abc import Callable
from typing import NamedTuple

from processes import BOUND, wait_until

PAUSE = 0.3  # seconds at most between two requests of a client


class Instance(NamedTuple):
    """One replica: where it serves, and where it says whether it is ready."""

    port: int
    health: int


class Sent(NamedTuple):
    """What became of the requests."""

    good: int
    failures: Counter[str]

    @property
    def failed(self) -> int:
        return sum(self.failures.values())


class Clients:
    """Runs clients in a thread of its own, from entering to leaving.

    Args:
        instances: All replicas.
        target: Returns the method and the target of the nth request.
        rate: Requests a second, about.
        clients: How many; half of them keep their connections.
        via: The port of a proxy that all of them connect to.
    """

    def __init__(
        self,
        instances: list[Instance],
        target: Callable[[int], str],
        rate: float = 60.0,
        clients: int = 60,
        via: int | None = None,
    ) -> None:
        self._via = via
        self._instances, self._target, self._clients = instances, target, clients
        self._every = clients / rate
        self._ready: list[Instance] = []
        self._over = False
        self.numbers = 0
        self.good: list[int] = []
        self.failures: Counter[str] = Counter()
        self._thread = threading.Thread(target=lambda: asyncio.run(self._run()))

    def __enter__(self) -> Clients:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    def stop(self) -> Sent:
        """Let what is under way end, and return what became of all."""
        self._over = True
        self._thread.join(BOUND)
        return Sent(len(self.good), self.failures)

    def wait(self, true: Callable[[], bool], what: str) -> None:
        """Wait until true() is true."""
        try:
            wait_until(true, what)
        except TimeoutError as error:
            error.add_note(f"{self.good[-1:]} {self.failures}")
            raise

    def wait_for(self, count: int) -> None:
        """Wait for so many more good answers."""
        before = len(self.good)
        self.wait(lambda: len(self.good) >= before + count, f"{count} more answers")

    @property
    def ready(self) -> list[Instance]:
        """The instances that new connections go to."""
        return list(self._ready)

    async def _run(self) -> None:
        watching = asyncio.create_task(self._watch())
        await asyncio.gather(*(self._client(i, i % 2 == 0) for i in range(self._clients)))
        watching.cancel()
        await asyncio.wait([watching])

    async def _watch(self) -> None:
        """Ask each instance ten times a second whether it is ready."""
        while True:
            found = await asyncio.gather(*map(self._is_ready, self._instances))
            self._ready = [one for one, ready in zip(self._instances, found) if ready]
            await asyncio.sleep(0.1)

    async def _is_ready(self, instance: Instance) -> bool:
        connection = None
        try:
            async with asyncio.timeout(1):
                connection = await asyncio.open_connection("127.0.0.1", instance.health)
                reader, writer = connection
                writer.write(b"GET /readyz HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
                return b" 200 " in await reader.readline()
        except (OSError, TimeoutError):
            return False
        finally:
            await _close(connection)

    async def _client(self, index: int, keeps: bool) -> None:
        connection: tuple[asyncio.StreamReader, asyncio.StreamWriter] | None = None
        await asyncio.sleep(self._every * index / self._clients)
        while not self._over:
            began = time.monotonic()
            if connection is not None and connection[0].at_eof():  # it has been closed, in time
                connection = await _close(connection)
            while connection is None and not self._ready and not self._over:
                await asyncio.sleep(0.05)
            if self._over:
                break
            connection = await self._request(connection, index, keeps)
            await asyncio.sleep(max(0.0, began + self._every - time.monotonic()))
        await _close(connection)

    async def _request(
        self,
        connection: tuple[asyncio.StreamReader, asyncio.StreamWriter] | None,
        index: int,
        keeps: bool,
    ) -> tuple[asyncio.StreamReader, asyncio.StreamWriter] | None:
        self.numbers += 1
        number = self.numbers
        kept = "kept" if connection is not None else "new"
        try:
            async with asyncio.timeout(BOUND):
                if connection is None:
                    instance = self._ready[number % len(self._ready)]
                    port = self._via or instance.port
                    connection = await asyncio.open_connection("127.0.0.1", port)
                reader, writer = connection
                close = "" if keeps else "Connection: close\r\n"
                head = f"{self._target(number)} HTTP/1.1\r\nHost: x\r\nContent-Length: 0\r\n{close}"
                writer.write(f"{head}\r\n".encode())
                closes = await _answer(reader)
        except (OSError, EOFError, ValueError, TimeoutError, IndexError) as error:
            what = str(error) if isinstance(error, ValueError) else type(error).__name__
            self.failures[f"{kept} connection: {what}"] += 1
            return await _close(connection)
        self.good.append(number)
        return await _close(connection) if closes or not keeps else connection


async def _answer(reader: asyncio.StreamReader) -> bool:
    """Read an answer with a Content-Length; return whether the connection is to be closed."""
    head = (await reader.readuntil(b"\r\n\r\n")).decode().lower()
    status = head.partition("\r\n")[0]
    if " 200 " not in status:
        raise ValueError(status)
    length = head.partition("content-length:")[2].partition("\r\n")[0]
    await reader.readexactly(int(length))
    return "connection: close" in head


async def _close(
    connection: tuple[asyncio.StreamReader, asyncio.StreamWriter] | None,
) -> None:
    if connection is not None:
        connection[1].close()
        with contextlib.suppress(OSError):  # it was reset
            await connection[1].wait_closed()
