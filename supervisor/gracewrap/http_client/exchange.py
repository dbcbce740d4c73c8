"""Sends one HTTP/1.1 request and receives the response, over TCP, TLS or a unix socket.

It never blocks.  The caller sets the time limit and calls cancel(); response.py limits the size.
Redirects are not followed, and proxy variables are not read.
"""

from __future__ import annotations

import _socket
import errno
import posix
import time

import h11

from gracewrap.http_client import dns
from gracewrap.http_client.request import ascii_host, encode_request
from gracewrap.http_client.response import (
    INVALID,
    MAX_CHUNK_HEAD,
    MAX_READ,
    REFUSED,
    UNREACHABLE,
    Failure,
    HttpError,
    IncompleteResponse,
    Response,
    ResponseParser,
)
from gracewrap.http_client.safe_text import printable
from gracewrap.linux import tcp_sockets
from gracewrap.linux.procfs import SHORTAGE
from gracewrap.record import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable

    from gracewrap.config.probe_specs import Request
    from gracewrap.http_client.tls import TlsChannel
    from gracewrap.linux.hook_and_probe_process_groups import Helpers
    from gracewrap.linux.reactor import Reactor, Timer

CONNECT_TIMEOUT = 0.5  # seconds before the next address is tried, if there is one
MSG_NOSIGNAL = 0x4000  # without it, a SIGPIPE would stay pending for ever
# Errors that say something about our network, and nothing about the server.
LOCAL_ERRORS = {errno.EAFNOSUPPORT, errno.EADDRNOTAVAIL, errno.ENETUNREACH}


class PlainChannel:
    """Passes bytes on unencrypted.  *out* holds what is still to be sent over the socket."""

    buffers = False  # read() returns everything that feed() was given

    def __init__(self, request: bytes) -> None:
        self.out = bytearray(request)
        self._received: bytes | None = None

    def feed(self, data: bytes) -> None:
        """Add bytes from the socket; b"" means end of file."""
        self._received = data

    def read(self) -> bytes | None:
        """Return the next bytes of the response, b"" at its end, None if there are none yet."""
        data, self._received = self._received, None
        return data


class Exchange:
    """One request and its response."""

    def __init__(
        self,
        reactor: Reactor,
        request: Request,
        done: Callable[[Response | Failure], None],
        helpers: Helpers | None = None,
    ) -> None:
        """Start the exchange.

        Args:
            reactor: Watches the socket and the timers.
            request: What to send.
            done: Called once with the result, unless cancel() comes first; from the reactor's
                run(), never from within this call.
            helpers: Look up host names.  None: only IP addresses, localhost and unix sockets work.
        """
        self._reactor, self._request, self._done, self._helpers = reactor, request, done, helpers
        self._connection = h11.Connection(h11.CLIENT, max_incomplete_event_size=MAX_CHUNK_HEAD)
        self._parser = ResponseParser(self._connection)
        self._channel: PlainChannel | TlsChannel | None = None
        self._own_ports = (0, 0)  # local and remote port of our TCP connection
        self._sock: _socket.socket | None = None
        self._lookup: dns.Lookup | None = None
        self._addresses: list[dns.Address] = []  # not tried yet
        self._address: object = None  # being tried
        self._connect_errors: list[int] = []
        self._finished = self._reset = False
        self._writing: bool | None = None  # None: the transfer has not started
        self._timer: Timer | None = reactor.call_at(0.0, lambda: self._run(self._start))

    def cancel(self) -> None:
        """Abort the exchange: done() is not called any more."""
        self._finished = True
        self._reactor.cancel(self._timer)
        if self._lookup is not None:
            self._lookup.cancel()
        self._close_socket()

    def _run(self, step: Callable[[], Response | Failure | None]) -> None:
        """Run one step; if it returns a result or raises, the exchange is finished."""
        if self._finished:
            return
        try:
            outcome = step()
        except HttpError as error:
            outcome = Failure(INVALID, str(error))
        except IncompleteResponse:
            outcome = self._connection_lost()
        except Exception as error:
            outcome = explain(error)
            if outcome.kind == UNREACHABLE and self._reset:
                outcome = self._connection_lost()  # TLS reports a reset as an end
        if outcome is not None and not self._finished:
            self.cancel()
            self._done(outcome)

    def _start(self) -> Failure | None:
        url = self._request.url
        encoded = encode_request(self._connection, self._request)
        self._channel = make_channel(encoded, self._request)
        if url.scheme == "unix":
            self._addresses = [(dns.AF_UNIX, url.host)]
        else:
            self._addresses = dns.literal_addresses(url.host, url.port)
        if self._addresses:
            return self._connect()
        if self._helpers is None:
            raise HttpError(f"cannot look up host names here: use the address of {url.host}")
        self._lookup = dns.Lookup(
            self._helpers,
            ascii_host(url),
            url.port,
            lambda result: self._run(lambda: self._looked_up(result)),
        )
        return None

    def _looked_up(self, result: list[dns.Address] | str) -> Failure | None:
        self._lookup = None
        if isinstance(result, str):
            return Failure(UNREACHABLE, printable(result))
        self._addresses = list(result)
        return self._connect()

    def _connect(self) -> Failure | None:
        """Start connecting to the next address that does not fail at once."""
        self._close_socket()
        self._reactor.cancel(self._timer)
        while self._addresses:
            address = self._addresses.pop(0)
            code = self._connect_socket(address)
            if code in (0, errno.EINPROGRESS):
                if self._addresses:
                    self._timer = self._reactor.call_at(
                        time.monotonic() + CONNECT_TIMEOUT,
                        lambda: self._run(self._connect_timed_out),
                    )
                return None
            self._connect_errors.append(code)
            self._close_socket()
        return self._not_connected()

    def _connect_socket(self, target: dns.Address) -> int:
        """Start a non-blocking connect; return 0 or an errno.

        Raises:
            HttpError: If the path of a unix socket is too long.
        """
        family, address = target
        self._address = address
        try:
            kind = dns.SOCK_STREAM | _socket.SOCK_NONBLOCK | _socket.SOCK_CLOEXEC
            self._sock = sock = _socket.socket(family, kind)
            code = sock.connect_ex(address)
        except OSError as error:
            if error.errno is None:
                raise HttpError(str(error)) from None
            return error.errno
        if code in (0, errno.EINPROGRESS):
            self._reactor.watch(
                sock.fileno(), lambda: self._run(self._connected), read=False, write=True
            )
            if family != dns.AF_UNIX:
                # A tcp probe must not count our own connection.
                self._own_ports = (sock.getsockname()[1], int(address[1]))
                tcp_sockets.OWN.add(self._own_ports)
        return code

    def _connect_timed_out(self) -> Failure | None:
        self._connect_errors.append(errno.ETIMEDOUT)
        return self._connect()

    def _connected(self) -> Response | Failure | None:
        assert self._sock is not None
        code = self._sock.getsockopt(_socket.SOL_SOCKET, _socket.SO_ERROR)
        if code == errno.ECONNRESET:
            # Reset after it was connected, else it would be ECONNREFUSED: a response may have
            # arrived.
            self._reset, code = True, 0
        elif not code and self._sock.getsockname() == self._address:
            # Connected to itself, by TCP's simultaneous open: nothing listens, and the port is in
            # the range that is used for outgoing connections.
            code = errno.ECONNREFUSED
        if code:
            self._connect_errors.append(code)
            return self._connect()
        self._reactor.cancel(self._timer)
        return self._transfer()

    def _not_connected(self) -> Failure:
        """Return why none of the addresses could be connected to."""
        url = self._request.url
        errors = self._connect_errors
        errors = [code for code in errors if code not in LOCAL_ERRORS] or errors
        if url.scheme == "unix":
            code = errors[0]
            if code in (errno.ENOENT, errno.ENOTDIR):
                return Failure(REFUSED, f"{url.host} does not exist")
            if code == errno.EAGAIN:  # unix(7): a non-blocking connect() does not wait
                return Failure(UNREACHABLE, "the server's backlog of connections is full")
            if code in (errno.EPERM, errno.EACCES, errno.EPROTOTYPE):
                return Failure(INVALID, f"{url.host}: {posix.strerror(code)}")
        elif url.host and self._helpers:
            dns.forget(url.host)
        not_refused = [code for code in errors if code != errno.ECONNREFUSED]
        if not_refused:
            code = not_refused[0]
            return Failure(UNREACHABLE, posix.strerror(code), asked=code not in SHORTAGE)
        return Failure(REFUSED, "connection refused")

    def _transfer(self) -> Response | None:
        """Receive, send and parse, a limited part each; schedule the next call if not finished.

        Raises:
            HttpError: If the response is not HTTP.
            IncompleteResponse: If the connection is closed too early.
            ssl.SSLError: If TLS fails.
        """
        assert self._sock is not None and self._channel is not None
        data = None
        if self._parser.needs_data:
            data = self._channel.read()
            if data is None and (received := self._receive()) is not None:
                self._channel.feed(received)
                data = self._channel.read()
            if data is not None:
                self._parser.feed(data)
        self._send()
        response = self._parser.parse()
        if response is None:
            more_buffered = data is not None and self._channel.buffers
            self._schedule_transfer(at_once=not self._parser.needs_data or more_buffered)
        return response

    def _schedule_transfer(self, at_once: bool) -> None:
        """Call _transfer() when the socket is ready, or *at_once*: in the reactor's next round."""
        assert self._sock is not None and self._channel is not None
        writing = bool(self._channel.out)
        if writing is not self._writing:
            self._writing = writing
            self._reactor.watch(
                self._sock.fileno(), lambda: self._run(self._transfer), write=writing
            )
        self._reactor.cancel(self._timer)
        if at_once:
            self._timer = self._reactor.call_at(0.0, lambda: self._run(self._transfer))

    def _receive(self) -> bytes | None:
        """Return bytes from the socket, b"" at end of file, None if there are none yet."""
        assert self._sock is not None
        try:
            return self._sock.recv(MAX_READ)
        except BlockingIOError:
            return None
        except OSError:
            self._reset = True
            raise IncompleteResponse from None

    def _send(self) -> None:
        assert self._sock is not None and self._channel is not None
        out = self._channel.out
        while out:
            try:
                del out[: self._sock.send(out[:MAX_READ], MSG_NOSIGNAL)]
            except BlockingIOError:
                return
            except OSError:  # the server closed the connection; a response may have arrived before
                self._reset = True
                out.clear()

    def _connection_lost(self) -> Failure:
        if self._parser.started:
            return Failure(UNREACHABLE, "connection closed in the middle of the response")
        if self._reset:
            return Failure(REFUSED, "connection reset")
        return Failure(UNREACHABLE, "connection closed without a response")

    def _close_socket(self) -> None:
        if self._sock is not None:
            self._reactor.unwatch(self._sock.fileno())
            self._sock.close()
            self._sock = None
            if self._own_ports[0]:
                tcp_sockets.leave(self._own_ports)
                self._own_ports = (0, 0)


def make_channel(encoded: bytes, request: Request) -> PlainChannel | TlsChannel:
    """Return the channel that carries the encoded request to its URL.

    Raises:
        HttpError: If the certificates to trust cannot be read.
    """
    if request.url.scheme != "https":
        return PlainChannel(encoded)
    from gracewrap.http_client.tls import TlsChannel, tls_context

    host = ascii_host(request.url).partition("%")[0]
    return TlsChannel(encoded, tls_context(request.ca, request.insecure), host)


def explain(error: Exception) -> Failure:
    """Return the Failure for an exception that was raised during an exchange."""
    if isinstance(error, OSError) and type(error).__name__.startswith("SSL"):
        from gracewrap.http_client import tls

        return tls.explain(error)
    if isinstance(error, OSError) and error.errno:
        asked = error.errno not in SHORTAGE
        return Failure(UNREACHABLE, posix.strerror(error.errno), asked)
    why = f"{type(error).__name__}: {printable(str(error))}"
    return Failure(UNREACHABLE, why, not isinstance(error, MemoryError))
