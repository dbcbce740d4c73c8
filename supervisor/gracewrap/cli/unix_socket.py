"""Connects to a unix socket within a time limit."""

from __future__ import annotations

import _socket
import time

AGAIN = 0.01  # seconds until the next try while its queue of connections is full


def connect(path: str, until: float) -> _socket.socket:
    """Return a connection to the unix socket at *path*, made before *until* (monotonic).

    Raises:
        OSError: If it cannot be had; TimeoutError at the end of the time.
    """
    while True:
        sock = _socket.socket(_socket.AF_UNIX, _socket.SOCK_STREAM)
        try:
            sock.settimeout(max(0.001, until - time.monotonic()))
            sock.connect(path)
            return sock
        except BlockingIOError:
            # Too many wait to be accepted; with a timeout, connect(2) does not wait for that.
            sock.close()
            if time.monotonic() + AGAIN > until:
                raise TimeoutError from None
            time.sleep(AGAIN)
        except BaseException:
            sock.close()
            raise
