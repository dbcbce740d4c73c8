"""Find the addresses of a host without waiting for a resolver: getaddrinfo(3) blocks, so a helper
calls it."""

from __future__ import annotations

import sys
import time

from gracewrap.record import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable

    from gracewrap.linux.helper_processes import Helper, Helpers

    # A family and the address that connect() takes for it.
    Address = tuple[int, tuple[str, int] | tuple[str, int, int, int] | str]

AF_UNIX, AF_INET, AF_INET6, SOCK_STREAM = 1, 2, 10, 1
MOST = 8  # addresses that are tried
# How long an answer is good for, in seconds: a helper costs some 20 ms, and a probe asks several
# times a second.
KEEP = 15.0

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
_known: dict[
    str, tuple[float, list[tuple[int, str, int]]]
] = {}  # host: until when, and (family, address, scope)


def literal(host: str, port: int) -> list[Address]:
    """Return where *host* is if no resolver is needed for that: an address, or localhost, which is
    127.0.0.1 and then ::1.

    Empty if it is a name.
    """
    import _socket

    if host.lower().rstrip(".") == "localhost":  # RFC 6761, 6.3: never looked up
        return [(AF_INET, ("127.0.0.1", port)), (AF_INET6, ("::1", port, 0, 0))]
    try:
        # In bytes: a str would load the idna codec.
        found = _socket.getaddrinfo(host.encode(), port, 0, SOCK_STREAM, 0, _socket.AI_NUMERICHOST)
    except (OSError, UnicodeError):
        return []
    return [(family, address) for family, _, _, _, address in found]  # type: ignore[misc]


def forget(host: str) -> None:
    """Look *host* up anew next time: nobody answers where it was."""
    _known.pop(host, None)


class Lookup:
    """One question for the addresses of a host name."""

    def __init__(
        self, helpers: Helpers, host: str, port: int, done: Callable[[list[Address] | str], None]
    ) -> None:
        """Ask; *done* is called once, maybe at once, with addresses in the order to be tried, or
        with why there are none.

        Raises:
            OSError: If no helper can be started.
        """
        self._helpers, self._host, self._port, self._done = helpers, host, port, done
        self._helper: Helper | None = None
        until, found = _known.get(host, (0.0, []))
        if time.monotonic() < until:
            done(self._addresses(found))
        else:
            argv = [sys.executable or "python3", "-I", "-S", "-c", _HELPER, host]
            self._helper = helpers.run(argv, self._ended, capture=4096, ours=True)

    def cancel(self) -> None:
        """Give up; *done* is not called any more."""
        self._helpers.kill(self._helper)
        self._helper = None

    def _ended(self, status: int, output: bytes) -> None:
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
            return self._done(
                f"{self._host}: no address (the helper that looks it up ended with {status})"
            )
        _known[self._host] = time.monotonic() + KEEP, found[:MOST]
        return self._done(self._addresses(found[:MOST]))

    def _addresses(self, found: list[tuple[int, str, int]]) -> list[Address]:
        return [
            (family, (host, self._port) if family == AF_INET else (host, self._port, 0, scope))
            for family, host, scope in found
        ]
