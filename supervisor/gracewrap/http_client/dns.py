"""Looks up the addresses of a host name without blocking.

getaddrinfo(3) blocks, so a helper process calls it.
"""

from __future__ import annotations

import time

from gracewrap.linux import launcher
from gracewrap.record import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable

    from gracewrap.linux.hook_and_probe_process_groups import Helper, Helpers

    # An address family, and an address as connect() takes it for that family.
    Address = tuple[int, tuple[str, int] | tuple[str, int, int, int] | str]

AF_UNIX, AF_INET, AF_INET6, SOCK_STREAM = 1, 2, 10, 1
MAX_ADDRESSES = 8
# Seconds for which a result is reused: a helper costs some 20 ms, and probes sample several times
# a second.
CACHE_SECONDS = 15.0

_HELPER = """\
import sys, _socket
try:
    found = _socket.getaddrinfo(sys.argv[1].encode(), None, 0, 1)
except OSError as error:
    print("!", error.args[-1])
else:
    for family, _, _, _, address in found:
        print(family, address[0], *address[2:])
"""
# Host name -> until when the result is valid, and its (family, address, scope)s.
_cache: dict[str, tuple[float, list[tuple[int, str, int]]]] = {}


def literal_addresses(host: str, port: int) -> list[Address]:
    """Return the addresses of a host that needs no lookup: an IP address, or localhost.

    localhost is 127.0.0.1, then ::1.  Empty if *host* is any other name.
    """
    import _socket

    if host.lower().rstrip(".") == "localhost":  # RFC 6761, 6.3: never looked up
        return [(AF_INET, ("127.0.0.1", port)), (AF_INET6, ("::1", port, 0, 0))]
    try:
        # As bytes: a str would load the idna codec.
        found = _socket.getaddrinfo(host.encode(), port, 0, SOCK_STREAM, 0, _socket.AI_NUMERICHOST)
    except (OSError, UnicodeError):
        return []
    return [(family, address) for family, _, _, _, address in found]  # type: ignore[misc]


def forget(host: str) -> None:
    """Drop the cached addresses of *host*, because none of them could be connected to."""
    _cache.pop(host, None)


class Lookup:
    """One lookup of a host name."""

    def __init__(
        self, helpers: Helpers, host: str, port: int, done: Callable[[list[Address] | str], None]
    ) -> None:
        """Start the lookup.

        Args:
            helpers: Run the helper process.
            host: The name.
            port: Part of each resulting address.
            done: Called once, perhaps from within this call, with the addresses in the order in
                which to try them, or with the reason why there are none.

        Raises:
            OSError: If no helper process can be started.
        """
        self._helpers, self._host, self._port, self._done = helpers, host, port, done
        self._helper: Helper | None = None
        valid_until, found = _cache.get(host, (0.0, []))
        if time.monotonic() < valid_until:
            done(self._addresses(found))
        else:
            argv = [*launcher.python(), "-c", _HELPER, host]
            self._helper = helpers.run(argv, self._helper_exited, capture=4096, ours=True)

    def cancel(self) -> None:
        """Abort the lookup: done() is not called any more."""
        self._helpers.kill(self._helper)
        self._helper = None

    def _helper_exited(self, status: int, output: bytes) -> None:
        self._helper = None
        text = output.decode(errors="replace")
        if text.startswith("!"):
            return self._done(f"{self._host}: {text[1:].strip()}")
        found = []
        for line in text.splitlines():
            words = line.split()
            if len(words) in (2, 4) and words[0] in (str(AF_INET), str(AF_INET6)):
                found.append((int(words[0]), words[1], int(words[3]) if len(words) == 4 else 0))
        if not found:
            return self._done(f"{self._host}: no address (lookup helper: exit status {status})")
        _cache[self._host] = time.monotonic() + CACHE_SECONDS, found[:MAX_ADDRESSES]
        return self._done(self._addresses(found[:MAX_ADDRESSES]))

    def _addresses(self, found: list[tuple[int, str, int]]) -> list[Address]:
        return [
            (family, (host, self._port) if family == AF_INET else (host, self._port, 0, scope))
            for family, host, scope in found
        ]
