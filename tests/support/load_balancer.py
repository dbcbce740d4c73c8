"""A load balancer and its clients: real sockets, keep-alive, every response checked to the byte.

The balancer does what HAProxy and nginx do by default, and no more to spare the backends:

- A backend whose /readyz does not return 200 gets no new requests; connections to it stay open.
- If it cannot connect to a backend, it tries another one ("redispatched"; HAProxy: `retries`,
  `option redispatch`).
- A GET on a reused connection that fails before the first byte of the response is sent again, once
  ("retried": the server may have closed the idle connection at that moment; RFC 9112, 9.3.1).
- Every other error is a failure; the client gets a 502 with the reason.
"""

from __future__ import annotations

import asyncio
import contextlib
import random
import socket
import threading
import time
from collections import Counter
from collections.abc import Callable
from typing import NamedTuple

from processes import BOUND

CONNECT_TIMEOUT = 5.0  # seconds; HAProxy's usual `timeout connect`
FILLER = b"x" * 1_000_000


class Request(NamedTuple):
    """A request, and the only correct body of its response."""

    method: str
    target: str
    body: bytes
    expected: bytes

    @property
    def wire(self) -> bytes:
        length = f"Content-Length: {len(self.body)}\r\n" if self.method == "POST" else ""
        return (
            f"{self.method} {self.target} HTTP/1.1\r\nHost: test\r\n{length}\r\n".encode()
            + self.body
        )


class Answer(NamedTuple):
    """A complete HTTP response; *wire* has all of its bytes."""

    status: int
    body: bytes
    wire: bytes
    stays: bool  # the connection can be used again


def slow(n: int, ms: int, size: int = 100, body: bytes = b"") -> Request:
    """Return a request for tests/external/servers: a response of *size* bytes after *ms* ms."""
    target = f"/slow?n={n}&ms={ms}&size={size}"
    return Request(
        "POST" if body else "GET", target, body, b"%d:%d:" % (n, len(body)) + FILLER[:size]
    )


def mixed(shortest: int = 50, longest: int = 2000) -> Callable[[int], Request]:
    """Return a function that returns request number N.

    They last *shortest* to *longest* ms; a fifth has a body, and the sizes of the responses differ.
    """

    def request(n: int) -> Request:
        dice = random.Random(n)
        body = FILLER[: dice.randint(1, 5000)] if dice.random() < 0.2 else b""
        return slow(
            n, dice.randint(shortest, longest), dice.choice((0, 100, 20_000, 200_000)), body
        )

    return request


def free_ports(count: int) -> list[int]:
    """Return unused ports outside the ephemeral range, so that a restarted backend gets its port
    back."""
    found: list[int] = []
    while len(found) < count:
        port = random.SystemRandom().randint(20000, 32000)
        with contextlib.suppress(OSError), socket.socket() as one:
            one.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            one.bind(("127.0.0.1", port))
            if port not in found:
                found.append(port)
    return found


class Broken(Exception):
    """There was no complete response; *answered*: but at least one byte of it."""

    def __init__(self, why: str, answered: bool) -> None:
        super().__init__(why)
        self.answered = answered


class Connection:
    """One HTTP/1.1 connection to a server."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader, self.writer = reader, writer
        self.used = 0

    @classmethod
    async def open(cls, port: int) -> Connection:
        async with asyncio.timeout(CONNECT_TIMEOUT):
            return cls(*await asyncio.open_connection("127.0.0.1", port, limit=1 << 20))

    @property
    def usable(self) -> bool:
        return not self.writer.is_closing() and not self.reader.at_eof()

    async def exchange(self, wire: bytes) -> Answer:
        """Send a request and return its answer.

        Raises:
            Broken: If not all of it came.
        """
        self.used += 1
        seen = bytearray()
        try:
            self.writer.write(wire)
            await self.writer.drain()
            return await self._answer(seen)
        except asyncio.IncompleteReadError as error:
            raise Broken(
                f"cut after {len(seen) + len(error.partial)} bytes", bool(seen or error.partial)
            ) from None
        except OSError as error:
            raise Broken(f"{error.strerror or error} after {len(seen)} bytes", bool(seen)) from None

    async def _answer(self, seen: bytearray) -> Answer:
        status, fields = 100, dict[str, str]()
        while status == 100:  # 100 Continue comes before the answer
            head = await self.reader.readuntil(b"\r\n\r\n")
            seen += head
            first, *lines = head.decode("latin-1").split("\r\n")
            status = int(first.split()[1])
            fields = {
                name.lower(): value.strip()
                for name, _, value in (line.partition(":") for line in lines if line)
            }
        body = await self._body(fields, seen)
        stays = (
            fields.get("connection", "").lower() != "close"
            and first.startswith("HTTP/1.1")
            and not self.reader.at_eof()
        )
        return Answer(status, body, bytes(seen), stays)

    async def _body(self, fields: dict[str, str], seen: bytearray) -> bytes:
        if fields.get("transfer-encoding", "").lower() == "chunked":
            parts: list[bytes] = []
            while True:
                line = await self.reader.readuntil(b"\r\n")
                chunk = await self.reader.readexactly(int(line, 16) + 2)
                seen += line + chunk
                if len(chunk) == 2:
                    return b"".join(parts)
                parts.append(chunk[:-2])
        body = (
            await self.reader.readexactly(int(fields["content-length"]))
            if "content-length" in fields
            else b""
        )
        seen += body
        return body

    def close(self) -> None:
        self.writer.close()


class Backend:
    """A server behind the balancer."""

    def __init__(self, port: int, health: int) -> None:
        self.port, self.health = port, health
        self.up = False
        self.idle: list[Connection] = []
        self.in_flight = 0

    async def look(self, timeout: float) -> bool:
        """Return whether /readyz answers 200."""
        try:
            async with asyncio.timeout(timeout):
                connection = await Connection.open(self.health)
                try:
                    return (
                        await connection.exchange(b"GET /readyz HTTP/1.1\r\nHost: test\r\n\r\n")
                    ).status == 200
                finally:
                    connection.close()
        except (OSError, Broken, TimeoutError):
            return False


class Tally(NamedTuple):
    """The outcomes of the requests."""

    sent: int
    good: int
    turned_away: int  # 503: there was no backend
    failures: dict[str, int]  # by reason
    retried: int
    redispatched: int
    longest: float  # seconds


class Load:
    """Clients, a balancer and its backends' health checks, in a thread of their own, until stop().

    Args:
        backends: (port, port of /readyz) of each.
        requests: The request with a number.
        rate: Requests a second, whether or not the earlier ones have been answered.
        poll: Seconds between two looks at /readyz.
    """

    def __init__(
        self,
        backends: list[tuple[int, int]],
        requests: Callable[[int], Request],
        rate: float = 100,
        poll: float = 0.1,
    ) -> None:
        self.backends = [Backend(*ports) for ports in backends]
        self.requests, self.rate, self.poll = requests, rate, poll
        self.port = 0
        self.sent = self.good = self.turned_away = self.retried = self.redispatched = 0
        self.failures: Counter[str] = Counter()
        self.longest = 0.0
        self._changed = threading.Condition()
        self._clients: list[Connection] = []
        self._open: set[asyncio.StreamWriter] = set()
        self._thread = threading.Thread(target=lambda: asyncio.run(self._run()), daemon=True)

    def __enter__(self) -> Load:
        self._thread.start()
        self.until(lambda: self.port, "the balancer listens")
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    def until(self, true: Callable[[], object], what: str, bound: float = BOUND) -> None:
        """Wait until a condition holds.

        It is checked when a backend appears or disappears, and when a request starts or ends.
        """
        with self._changed:
            if not self._changed.wait_for(true, bound):
                raise TimeoutError(f"not in {bound} s: {what}; {self.tally()}")

    def more(self, count: int, bound: float = BOUND) -> None:
        """Wait for *count* more responses."""
        wanted = self.good + count
        self.until(lambda: self.good >= wanted, f"{count} more answers", bound)

    def stop(self) -> Tally:
        """Stop sending; return the outcomes when the last response has arrived."""
        if self._thread.is_alive():
            self._loop.call_soon_threadsafe(self._over.set)
            self._thread.join(BOUND)
        return self.tally()

    def tally(self) -> Tally:
        return Tally(
            self.sent,
            self.good,
            self.turned_away,
            dict(self.failures),
            self.retried,
            self.redispatched,
            round(self.longest, 3),
        )

    def _tell(self) -> None:
        with self._changed:
            self._changed.notify_all()

    async def _run(self) -> None:
        self._loop, self._over = asyncio.get_running_loop(), asyncio.Event()
        server = await asyncio.start_server(
            self._serve, "127.0.0.1", 0, limit=1 << 20, backlog=1000
        )
        self.port = server.sockets[0].getsockname()[1]
        self._tell()
        async with asyncio.TaskGroup() as checks:
            looking = [checks.create_task(self._check(backend)) for backend in self.backends]
            await self._send()
            for task in looking:
                task.cancel()
        server.close()
        for connection in (
            *self._clients,
            *(one for backend in self.backends for one in backend.idle),
        ):
            connection.close()
        for writer in self._open:
            writer.close()
        while self._open:
            await asyncio.sleep(0)

    async def _check(self, backend: Backend) -> None:
        due = time.monotonic()
        while True:
            up = await backend.look(max(1.0, self.poll))
            if up != backend.up:
                backend.up = up
                self._tell()
            due = max(due + self.poll, time.monotonic())
            await asyncio.sleep(due - time.monotonic())

    # --- the clients

    async def _send(self) -> None:
        """Send at the given rate, as soon as there is a backend."""
        while not any(backend.up for backend in self.backends) and not self._over.is_set():
            await self._pause(self.poll)
        began = time.monotonic()
        async with asyncio.TaskGroup() as clients:
            while not self._over.is_set():
                self.sent += 1
                clients.create_task(self._one(self.requests(self.sent)))
                await self._pause(began + self.sent / self.rate - time.monotonic())

    async def _pause(self, seconds: float) -> None:
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(self._over.wait(), max(0.0, seconds))

    async def _one(self, request: Request) -> None:
        began = time.monotonic()
        connection = self._clients.pop() if self._clients else await Connection.open(self.port)
        try:
            answer = await connection.exchange(request.wire)
        except Broken as broken:
            self.failures[f"client: {broken}"] += 1
            connection.close()
            return
        self._clients.append(connection)
        self.longest = max(self.longest, time.monotonic() - began)
        if (answer.status, answer.body) == (200, request.expected):
            self.good += 1
        elif answer.status == 503 and answer.body == b"no backend":
            self.turned_away += 1
        elif answer.status == 200:
            self.failures[
                f"another body, of {len(answer.body)} bytes and not {len(request.expected)}"
            ] += 1
        else:
            self.failures[f"{answer.status}: {answer.body[:80].decode(errors='replace')}"] += 1
        self._tell()

    # --- the balancer

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._open.add(writer)
        try:
            while True:
                head = await reader.readuntil(b"\r\n\r\n")
                at = head.find(b"Content-Length: ")
                body = (
                    await reader.readexactly(int(head[at + 16 :].split(b"\r", 1)[0]))
                    if at >= 0
                    else b""
                )
                writer.write(await self._forward(head + body, head.startswith(b"GET ")))
                await writer.drain()
        except (asyncio.IncompleteReadError, OSError):
            pass  # the client has gone
        finally:
            writer.close()
            self._open.discard(writer)

    async def _forward(self, wire: bytes, again: bool) -> bytes:
        """Return a backend's response, or our 502."""
        tried: set[Backend] = set()
        while True:
            up = [backend for backend in self.backends if backend.up and backend not in tried]
            if not up:
                return _own(503, b"no backend") if not tried else _own(502, b"no other backend")
            backend = min(up, key=lambda one: one.in_flight)
            backend.in_flight += 1
            self._tell()
            try:
                connection = await self._connect(backend)
                reused = connection.used > 0
                answer = await connection.exchange(wire)
            except (ConnectionRefusedError, TimeoutError):  # of the connect: no request was sent
                self.redispatched += 1
                tried.add(backend)
                continue
            except Broken as broken:
                connection.close()
                if again and reused and not broken.answered:
                    self.retried += 1
                    again = False
                    continue
                return _own(502, str(broken).encode())
            finally:
                backend.in_flight -= 1
            if answer.stays:
                backend.idle.append(connection)
            else:
                connection.close()
            return answer.wire

    async def _connect(self, backend: Backend) -> Connection:
        """Return the connection that was used last, as HAProxy and nginx do, or a new one."""
        while backend.idle:
            connection = backend.idle.pop()
            if connection.usable:
                return connection
            connection.close()
        return await Connection.open(backend.port)


def _own(status: int, body: bytes) -> bytes:
    return b"HTTP/1.1 %d x\r\nContent-Length: %d\r\n\r\n" % (status, len(body)) + body


def answered(
    requests: dict[int, Request], meanwhile: Callable[[], object], until: Callable[[], object]
) -> list[Answer]:
    """Send a request to each port, and return the responses.

    *meanwhile* is called when all have been sent; when all are answered the connections stay open
    until *until* returns.

    Raises:
        Broken: If one was not answered in full.
    """

    async def all_of_them() -> list[Answer]:
        connections = [await Connection.open(port) for port in requests]
        try:
            async with asyncio.TaskGroup() as group:
                work = [
                    group.create_task(one.exchange(request.wire))
                    for one, request in zip(connections, requests.values())
                ]
                await asyncio.to_thread(meanwhile)
            await asyncio.to_thread(until)
            return [task.result() for task in work]
        finally:
            for connection in connections:
                connection.close()

    return asyncio.run(asyncio.wait_for(all_of_them(), BOUND))
