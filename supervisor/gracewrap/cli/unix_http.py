"""http.client over a unix socket, with one time limit for the whole exchange."""

from __future__ import annotations

import http.client
import socket
import time

from gracewrap.cli.unix_socket import connect
from gracewrap.record import TYPE_CHECKING

if TYPE_CHECKING:
    from typing_extensions import Buffer


class UnixConnection(http.client.HTTPConnection):
    """A connection to the HTTP server that listens at a path.

    Args:
        path: The socket.
        until: When the whole exchange must be over (monotonic).
    """

    def __init__(self, path: str, until: float) -> None:
        super().__init__("gracewrap")
        self._path, self._until = path, until

    def extend(self, until: float) -> None:
        """Set another limit for what is still to come of the exchange."""
        self._until = until
        if isinstance(self.sock, _Hurried):
            self.sock.extend(until)

    def connect(self) -> None:
        """Connect (HTTPConnection calls this).  Raises OSError."""
        raw = connect(self._path, self._until)
        self.sock = _Hurried(raw.detach(), self._until)


class _Hurried(socket.socket):
    """A socket each of whose operations takes no longer than what is left of one limit."""

    def __init__(self, fd: int, until: float) -> None:
        super().__init__(fileno=fd)
        self._until = until

    def extend(self, until: float) -> None:
        """Set another limit."""
        self._until = until

    def _hurry(self) -> None:
        left = self._until - time.monotonic()
        if left <= 0:
            raise TimeoutError
        self.settimeout(left)

    def sendall(self, data: Buffer, flags: int = 0) -> None:
        self._hurry()
        super().sendall(data, flags)

    def recv_into(self, buffer: Buffer, nbytes: int = 0, flags: int = 0) -> int:
        self._hurry()
        return super().recv_into(buffer, nbytes, flags)
