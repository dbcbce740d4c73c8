"""The HTTP server under a reactor of the test, and a client in a thread."""

from __future__ import annotations

import contextlib
import os
import select
import socket
import threading
from collections.abc import Callable
from typing import TypeVar

from gracewrap.config.probe_specs import Address
from gracewrap.server import http, listen
from processes import BOUND
from reactor_driver import Driver

T = TypeVar("T")


class Loop:
    """A source that says what it is told to."""

    def __init__(self) -> None:
        self.ready: tuple[bool, dict[str, object]] = True, {}
        self.text = "# nothing\n"
        self.acted: list[tuple[str, dict[str, str], str]] = []

    def is_ready(self):
        return self.ready

    def status(self, options):
        self.asked = dict(options)
        return 200, {"phase": "running", "programs": [{"name": "caf\u00e9"}]}

    def metrics(self):
        return self.text

    def act(self, action, options, peer):
        self.acted.append((action, dict(options), peer))
        return 202, {"done": action}


class Served:
    """A server under a driver."""

    def __init__(self, driver: Driver, address: Address, control: bool, mode: int) -> None:
        self.driver, self.loop = driver, Loop()
        self.fd = listen.bind(address, mode)
        with socket.socket(fileno=os.dup(self.fd)) as same:
            self.at = address.path or same.getsockname()  # the file was made under another name
        self.server = http.Server(driver.reactor, self.loop, self.fd, control)

    @property
    def port(self) -> int:
        return int(self.at[1])

    def connect(self) -> socket.socket:
        """Return a connected client; it is only waited for by the driver."""
        sock = socket.socket(socket.AF_UNIX if isinstance(self.at, str) else socket.AF_INET)
        sock.settimeout(BOUND)
        sock.connect(self.at)
        return sock

    def settled(self) -> bool:
        """Whether nobody waits to be accepted, and nobody for a turn."""
        return not select.select([self.fd], [], [], 0)[0] and not self.server._queue

    def during(self, client: Callable[[], T]) -> T:
        """Serve while *client* does what it likes, in a thread, and return what it returns."""
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
        """Send *parts*, and return all that comes back until the server closes."""

        def client() -> bytes:
            with self.connect() as sock:
                for part in parts:
                    sock.sendall(part)
                if end:
                    sock.shutdown(socket.SHUT_WR)
                return everything(sock)

        return self.during(client)


def everything(sock: socket.socket) -> bytes:
    """Return what comes up to the end, be it a reset."""
    got = b""
    with contextlib.suppress(ConnectionResetError):
        while part := sock.recv(65536):
            got += part
    return got
