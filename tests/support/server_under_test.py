"""Runs the HTTP server in the test's own process, with its clients in threads."""

from __future__ import annotations

import contextlib
import os
import select
import socket
import threading
from collections.abc import Callable
from typing import TypeVar

from gracewrap.config.probe_specs import Address
from gracewrap.server import http_server, listen
from processes import BOUND
from reactor_driver import Driver

T = TypeVar("T")


class FakeBackend:
    """A backend whose answers the test sets; it records actions."""

    def __init__(self) -> None:
        self.ready: tuple[bool, dict[str, object]] = True, {}
        self.live: tuple[bool, dict[str, object]] = True, {}
        self.text = "# nothing\n"
        self.actions: list[tuple[str, dict[str, str], str]] = []

    def is_live(self):
        return self.live

    def is_ready(self):
        return self.ready

    def status(self, options):
        return 200, {"phase": "running", "programs": [{"name": "caf\u00e9"}]}

    def metrics(self):
        return self.text

    def act(self, action, options, peer):
        self.actions.append((action, dict(options), peer))
        return 202, {"done": action}


class ServerUnderTest:
    """A server on the reactor of a driver."""

    def __init__(self, driver: Driver, address: Address, control: bool, mode: int) -> None:
        self.driver, self.backend = driver, FakeBackend()
        self.fd = listen.bind(address, mode)
        with socket.socket(fileno=os.dup(self.fd)) as listener:
            # A unix socket is bound under a temporary name, so its own name is of no use.
            self.address = address.path or listener.getsockname()
        self.server = http_server.HttpServer(driver.reactor, self.backend, self.fd, control)

    @property
    def port(self) -> int:
        return int(self.address[1])

    def connect(self) -> socket.socket:
        """Return a connected client socket; the server accepts it only when the driver runs."""
        sock = socket.socket(socket.AF_UNIX if isinstance(self.address, str) else socket.AF_INET)
        sock.settimeout(BOUND)
        sock.connect(self.address)
        return sock

    def settled(self) -> bool:
        """Return whether no connection waits to be accepted or advanced."""
        return not select.select([self.fd], [], [], 0)[0] and not self.server._queue

    def during(self, client: Callable[[], T]) -> T:
        """Serve while *client* runs in a thread; return or raise what it returns or raises."""
        results: list[T] = []
        failures: list[BaseException] = []

        def run() -> None:
            try:
                results.append(client())
            except BaseException as error:
                failures.append(error)

        thread = threading.Thread(target=run)
        thread.start()
        self.driver.until(lambda: not thread.is_alive())
        thread.join()
        if failures:
            raise failures[0]
        return results[0]

    def exchange(self, *parts: bytes, end: bool = False) -> bytes:
        """Send *parts*, and return all that comes back until the server closes.

        *end*: shut down the sending side of the connection after that.
        """

        def client() -> bytes:
            with self.connect() as sock:
                for part in parts:
                    sock.sendall(part)
                if end:
                    sock.shutdown(socket.SHUT_WR)
                return receive_all(sock)

        return self.during(client)


def receive_all(sock: socket.socket) -> bytes:
    """Return everything up to the end of the connection, or up to a reset."""
    received = b""
    with contextlib.suppress(ConnectionResetError):
        while part := sock.recv(65536):
            received += part
    return received
