"""An HTTP client for the control socket of a gracewrap under test."""

from __future__ import annotations

import http.client
import socket
from pathlib import Path

from processes import BOUND


class UnixConnection(http.client.HTTPConnection):
    """HTTP over a unix socket."""

    def __init__(self, path: str) -> None:
        super().__init__("localhost", timeout=BOUND)
        self.path = path

    def connect(self) -> None:
        self.sock = socket.socket(socket.AF_UNIX)
        # Without a timeout: with one, a full backlog would be an error (connect(2): EAGAIN).
        self.sock.connect(self.path)
        self.sock.settimeout(BOUND)


def get(path: Path | str, target: str, method: str = "GET") -> tuple[int, str]:
    connection = UnixConnection(str(path))
    try:
        connection.request(method, target)
        response = connection.getresponse()
        return response.status, response.read().decode()
    finally:
        connection.close()
