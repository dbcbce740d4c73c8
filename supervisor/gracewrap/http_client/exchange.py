"""One HTTP/1.1 request and its answer, over TCP, TLS or a unix socket, without ever waiting.

How long it may take is for the caller to say, by cancel(); what is read has its limits in
probes/answer.py.  Redirects are not followed and proxy variables are not read.
"""

from __future__ import annotations

import _socket
import errno
import posix
import time

import h11

from gracewrap.http_client import dns
from gracewrap.http_client.request import compose, host_name
from gracewrap.http_client.response import (
    CHUNK_HEAD,
    INVALID,
    PART,
    REFUSED,
    UNREACHABLE,
    Answer,
    Broken,
    Failure,
    Reader,
    Unusable,
    printable,
)
from gracewrap.linux import sock_diag
from gracewrap.record import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable

    from gracewrap.config.probe_specs import Request
    from gracewrap.http_client.tls import Secured
    from gracewrap.linux.helper_processes import Helpers
    from gracewrap.linux.reactor import Reactor, Timer

PER_ADDRESS = 0.5  # seconds to connect before the next address is tried, if there is one
MSG_NOSIGNAL = 0x4000  # a SIGPIPE of our own would be pending for ever
NOT_HERE = {
    errno.EAFNOSUPPORT,
    errno.EADDRNOTAVAIL,
    errno.ENETUNREACH,
}  # says something of our network, and nothing of the peer


class Clear:
    """A channel that carries bytes as they are."""

    deep = False  # it never holds more than it has just given

    def __init__(self, request: bytes) -> None:
        self.out = bytearray(request)  # what is still to be sent
        self._come: bytes | None = None

    def put(self, data: bytes) -> None:
        """Take in what has come over the socket; b"": its end."""
        self._come = data

    def get(self) -> bytes | None:
        """Return the next of what the peer said, b"" at its end, None while there is none."""
        data, self._come = self._come, None
        return data


class Exchange:
    """One request and its answer."""

    def __init__(
        self,
        reactor: Reactor,
        request: Request,
        done: Callable[[Answer | Failure], None],
        helpers: Helpers | None = None,
    ) -> None:
        """Begin; *done* is called once, later, unless cancel() comes before.

        Args:
            reactor: Where it waits.
            request: What to ask.
            done: Called from the reactor's run(), never from within this call.
            helpers: Who looks up host names; None: only addresses, localhost and unix sockets can
                be asked.
        """
        self._reactor, self._request, self._done, self._helpers = reactor, request, done, helpers
        self._connection = h11.Connection(h11.CLIENT, max_incomplete_event_size=CHUNK_HEAD)
        self._reader = Reader(self._connection)
        self._channel: Clear | Secured | None = None
        self._own = (0, 0)  # ports of a TCP connection of ours
        self._sock: _socket.socket | None = None
        self._lookup: dns.Lookup | None = None
        self._left: list[dns.Address] = []
        self._address: object = None  # the one that is tried
        self._failed: list[int] = []
        self._over = self._reset = False
        self._writing: bool | None = None  # None: not watched for talking yet
        self._timer: Timer | None = reactor.call_at(0.0, lambda: self._run(self._begin))

    def cancel(self) -> None:
        """Give up: close, and call nobody."""
        self._over = True
        self._reactor.cancel(self._timer)
        if self._lookup is not None:
            self._lookup.cancel()
        self._hang_up()

    def _run(self, step: Callable[[], Answer | Failure | None]) -> None:
        """Do one step; whatever comes of it, the exchange goes on or is over."""
        if self._over:
            return
        try:
            outcome = step()
        except Unusable as error:
            outcome = Failure(INVALID, str(error))
        except Broken:
            outcome = self._lost()
        except Exception as error:
            outcome = explain(error)
            if outcome.kind == UNREACHABLE and self._reset:
                outcome = self._lost()  # TLS knows of an end only
        if outcome is not None and not self._over:
            self.cancel()
            self._done(outcome)

    def _begin(self) -> Failure | None:
        url = self._request.url
        self._channel = channel(compose(self._connection, self._request), self._request)
        if url.scheme == "unix":
            self._left = [(dns.AF_UNIX, url.host)]
        else:
            self._left = dns.literal(url.host, url.port)
        if self._left:
            return self._dial()
        if self._helpers is None:
            raise Unusable(f"host names cannot be looked up here: write the address of {url.host}")
        self._lookup = dns.Lookup(
            self._helpers,
            host_name(url),
            url.port,
            lambda found: self._run(lambda: self._found(found)),
        )
        return None

    def _found(self, found: list[dns.Address] | str) -> Failure | None:
        self._lookup = None
        if isinstance(found, str):
            return Failure(UNREACHABLE, printable(found))
        self._left = list(found)
        return self._dial()

    def _dial(self) -> Failure | None:
        """Begin to connect to the first address that is left and does not fail at once."""
        self._hang_up()
        self._reactor.cancel(self._timer)
        while self._left:
            family, address = self._left.pop(0)
            self._address = address
            try:
                kind = dns.SOCK_STREAM | _socket.SOCK_NONBLOCK | _socket.SOCK_CLOEXEC
                self._sock = sock = _socket.socket(family, kind)
                code = sock.connect_ex(address)
            except OSError as error:
                if error.errno is None:  # a path that is too long for a socket
                    raise Unusable(str(error)) from None
                code = error.errno
            if code in (0, errno.EINPROGRESS):
                self._reactor.watch(
                    sock.fileno(), lambda: self._run(self._connected), read=False, write=True
                )
                if family != dns.AF_UNIX:
                    self._own = (sock.getsockname()[1], int(address[1]))
                    sock_diag.OWN.add(
                        self._own
                    )  # no request of the program's clients: a tcp probe must not count it
                if self._left:
                    self._timer = self._reactor.call_at(
                        time.monotonic() + PER_ADDRESS, lambda: self._run(self._too_slow)
                    )
                return None
            self._failed.append(code)
            self._hang_up()
        return self._nobody()

    def _too_slow(self) -> Failure | None:
        self._failed.append(errno.ETIMEDOUT)
        return self._dial()

    def _connected(self) -> Answer | Failure | None:
        assert self._sock is not None
        code = self._sock.getsockopt(_socket.SOL_SOCKET, _socket.SO_ERROR)
        if (
            code == errno.ECONNRESET
        ):  # after it was connected, or it would be refused: there may be an answer already
            self._reset, code = True, 0
        elif not code and self._sock.getsockname() == self._address:
            # To itself, by TCP's simultaneous open: the port is in the range that is used for
            # outgoing connections.
            code = errno.ECONNREFUSED
        if code:
            self._failed.append(code)
            return self._dial()
        self._reactor.cancel(self._timer)
        return self._talk()

    def _nobody(self) -> Failure:
        """Say why none of the addresses could be connected to."""
        url = self._request.url
        codes = [code for code in self._failed if code not in NOT_HERE] or self._failed
        if url.scheme == "unix":
            code = codes[0]
            if code in (errno.ENOENT, errno.ENOTDIR):
                return Failure(REFUSED, f"there is no {url.host}")
            if code == errno.EAGAIN:  # unix(7): connect() does not wait
                return Failure(
                    UNREACHABLE, "as many connections wait to be accepted as its listener allows"
                )
            if code in (errno.EPERM, errno.EACCES, errno.EPROTOTYPE):
                return Failure(INVALID, f"{url.host}: {posix.strerror(code)}")
        elif url.host and self._helpers:
            dns.forget(url.host)
        others = [code for code in codes if code != errno.ECONNREFUSED]
        return (
            Failure(UNREACHABLE, posix.strerror(others[0]))
            if others
            else Failure(REFUSED, "connection refused")
        )

    def _talk(self) -> Answer | None:
        """Receive, send and read, a part of each, and be called again.

        Raises:
            Unusable: If it is not HTTP.
            Broken: If the connection ends too early.
            ssl.SSLError: If TLS fails.
        """
        assert self._sock is not None and self._channel is not None
        data = None
        if self._reader.hungry:
            data = self._channel.get()
            if data is None and (come := self._receive()) is not None:
                self._channel.put(come)
                data = self._channel.get()
            if data is not None:
                self._reader.give(data)
        self._send()
        answer = self._reader.read()
        if answer is None:
            self._wait(at_once=not self._reader.hungry or (data is not None and self._channel.deep))
        return answer

    def _wait(self, at_once: bool) -> None:
        """Be called again when the socket is ready, or in the next round: what is in hand is not
        read yet."""
        assert self._sock is not None and self._channel is not None
        writing = bool(self._channel.out)
        if writing is not self._writing:
            self._writing = writing
            self._reactor.watch(self._sock.fileno(), lambda: self._run(self._talk), write=writing)
        self._reactor.cancel(self._timer)
        if at_once:
            self._timer = self._reactor.call_at(0.0, lambda: self._run(self._talk))

    def _receive(self) -> bytes | None:
        """Return what has come, b"" at the end, None while nothing has."""
        assert self._sock is not None
        try:
            return self._sock.recv(PART)
        except BlockingIOError:
            return None
        except OSError:
            self._reset = True
            raise Broken from None

    def _send(self) -> None:
        assert self._sock is not None and self._channel is not None
        out = self._channel.out
        while out:
            try:
                del out[: self._sock.send(out[:PART], MSG_NOSIGNAL)]
            except BlockingIOError:
                return
            except OSError:  # it has closed; but it may have answered before
                self._reset = True
                out.clear()

    def _lost(self) -> Failure:
        if self._reader.begun:
            return Failure(UNREACHABLE, "the connection ended in the middle of the answer")
        if self._reset:
            return Failure(REFUSED, "connection reset")
        return Failure(UNREACHABLE, "the connection was closed without an answer")

    def _hang_up(self) -> None:
        if self._sock is not None:
            self._reactor.unwatch(self._sock.fileno())
            self._sock.close()
            self._sock = None
            sock_diag.OWN.discard(self._own)


def channel(sent: bytes, request: Request) -> Clear | Secured:
    """Return what carries *sent* where *request* is to go.

    Raises:
        Unusable: If the certificates to trust cannot be read.
    """
    if request.url.scheme != "https":
        return Clear(sent)
    from gracewrap.http_client.tls import Secured, trust

    return Secured(
        sent, trust(request.ca, request.insecure), host_name(request.url).partition("%")[0]
    )


def explain(error: Exception) -> Failure:
    """Return what became of an exchange in which *error* was raised."""
    if isinstance(error, OSError) and type(error).__name__.startswith("SSL"):
        from gracewrap.http_client import tls

        return tls.explain(error)
    if isinstance(error, OSError) and error.errno:
        return Failure(UNREACHABLE, posix.strerror(error.errno))
    return Failure(UNREACHABLE, f"{type(error).__name__}: {printable(str(error))}")
