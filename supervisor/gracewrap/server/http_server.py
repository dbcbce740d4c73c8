"""The HTTP/1.1 server: one listening socket, its connections, and their limits.

It never blocks, and no client can block it.  It is idle without connections, and each connection
costs one timer.  routes.py decides what is answered.
"""

from __future__ import annotations

import _socket
import posix
import time

import h11

from gracewrap.linux.procfs import EMFILE, ENFILE
from gracewrap.record import TYPE_CHECKING
from gracewrap.server import control_socket, routes

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from gracewrap.linux.reactor import Reactor, Timer
    from gracewrap.server.routes import Backend, Response

MAX_CONNECTIONS = 64  # one more closes the connection that has been idle longest
IDLE_TIMEOUT = 15.0  # seconds without a request
REQUEST_TIMEOUT = 5.0  # seconds from the first byte of a request to its last
SEND_TIMEOUT = 5.0  # seconds in which the client must receive a response
LINGER_TIMEOUT = 1.0  # seconds to go on reading after a refusal
MAX_HEAD = 8192  # bytes of a request line and its headers
MAX_HEADERS = 100
MAX_BODY = 4096  # bytes, of a POST on a control socket; no other request may have a body
MAX_LINGER = 1 << 18  # bytes to go on reading after a refusal
ACCEPT_BATCH = 8  # connections accepted before signals are handled
SLICE = 0.001  # seconds of accepting or serving before signals are handled
ACCEPT_PAUSE = 0.5  # seconds without accepting, after an error that would repeat at once

_MSG_NOSIGNAL, _SHUT_WR = 0x4000, 1
_NO_DESCRIPTORS = (ENFILE, EMFILE)
# accept(2): errors of the new connection or of the network; accept() should be called again.
# EPERM, EPROTO, ENOPROTOOPT, EOPNOTSUPP, ENETDOWN, ENETUNREACH, ECONNABORTED, EHOSTDOWN,
# EHOSTUNREACH
_PEER_ERRORS = (1, 71, 92, 95, 100, 101, 103, 112, 113)

_REASONS = {
    200: "OK",
    202: "Accepted",
    400: "Bad Request",
    403: "Forbidden",
    404: "Not Found",
    405: "Method Not Allowed",
    408: "Request Timeout",
    409: "Conflict",
    413: "Content Too Large",
    431: "Request Header Fields Too Large",
    500: "Internal Server Error",
    501: "Not Implemented",
    503: "Service Unavailable",
    505: "HTTP Version Not Supported",
}


class HttpServer:
    """A listening socket and its connections."""

    def __init__(self, reactor: Reactor, backend: Backend, fd: int, control: bool) -> None:
        """Start to accept connections.

        Args:
            reactor: Watches the sockets and the timers.  Its fault handler receives exceptions of
                the backend, and errors that keep the server from accepting.
            backend: Provides the content of the responses.
            fd: A listening socket, from listen.bind(); close() closes it.
            control: Whether this is the control socket, a unix socket that accepts actions from
                root and from gracewrap's own user.
        """
        self.reactor, self.backend, self.control = reactor, backend, control
        # By file descriptor; the connection that has been idle longest comes first.
        self.connections: dict[int, Connection] = {}
        self._listener = _socket.socket(fileno=fd)
        self._spare = _open_spare()
        self._queue: dict[Connection, None] = {}  # connections that can read or write
        self._serving = False
        self._pause: Timer | None = None
        reactor.watch(fd, self._accept)

    def close(self) -> None:
        """Close the listening socket and all connections.  A second call does nothing."""
        self.reactor.cancel(self._pause)
        self.reactor.unwatch(self._listener.fileno())
        self._listener.close()
        for connection in list(self.connections.values()):
            connection.close()
        if self._spare is not None:
            posix.close(self._spare)
            self._spare = None

    def waiting(self) -> list[Connection]:
        """Return the connections whose request is to be answered at the end of the run."""
        return [one for one in self.connections.values() if one.waits_for_end]

    def report(self, error: BaseException) -> None:
        """Pass *error* to the fault handler of the reactor."""

        def reraise() -> None:
            raise error

        self.reactor.call_at(0.0, reraise)

    def queue(self, connection: Connection) -> None:
        """Call connection.advance() in one of the next slices."""
        self._queue[connection] = None
        if not self._serving:
            self._serving = True
            self.reactor.run_in_slices(self._serve())

    def mark_used(self, connection: Connection) -> None:
        """Note that *connection* has just served a request: others are evicted before it."""
        self.connections[connection.fd] = self.connections.pop(connection.fd)

    def remove(self, connection: Connection) -> None:
        """Forget a connection that has been closed."""
        self.connections.pop(connection.fd, None)
        self._queue.pop(connection, None)
        if self._spare is None and self._listener.fileno() >= 0:
            self._spare = _open_spare()

    def _serve(self) -> Iterator[None]:
        """Advance queued connections, as many as fit in a slice."""
        try:
            while self._queue:
                end = time.monotonic() + SLICE
                while self._queue and time.monotonic() < end:
                    connection = next(iter(self._queue))
                    del self._queue[connection]
                    connection.advance()
                if self._queue:
                    yield
        finally:
            self._serving = False

    def _accept(self) -> None:
        """Accept a few connections; the reactor calls again while more are waiting.

        An error only pauses the server.
        """
        end = time.monotonic() + SLICE
        try:
            for number in range(ACCEPT_BATCH):
                if not self._accept_one(number == 0) or time.monotonic() > end:
                    return
        except BlockingIOError:
            pass
        except Exception as error:
            self._pause_accepting(error)

    def _accept_one(self, first: bool) -> bool:
        """Accept one connection; return whether more may be waiting.

        Raises:
            OSError: If that fails; BlockingIOError if none was waiting.
        """
        try:
            fd, _peer = self._listener._accept()  # type: ignore[attr-defined]  # typeshed leaves it out
        except OSError as error:
            if error.errno in _PEER_ERRORS:
                return True
            if error.errno not in _NO_DESCRIPTORS:
                raise
            if not first:
                # The kernel reports this before it checks for a waiting connection.  Only for the
                # first one do we know that it exists.
                return False
            if not self._free_descriptor():
                raise
            self._add(self._listener._accept()[0])  # type: ignore[attr-defined]
            return False
        self._add(fd)
        return True

    def adopt(self, fd: int) -> None:
        """Serve a connection that somebody else has accepted."""
        self._add(fd)

    def _add(self, fd: int) -> None:
        """Start to serve a new connection."""
        if len(self.connections) >= MAX_CONNECTIONS:
            self._evict()
        connection = Connection(self, _socket.socket(fileno=fd))
        self.connections[fd] = connection
        self.reactor.watch(fd, connection.on_ready)
        connection.start()

    def _evict(self) -> None:
        """Close the connection that has been idle longest, after answering what it has sent."""
        oldest = next(iter(self.connections.values()))
        oldest.advance()
        oldest.close()

    def _free_descriptor(self) -> bool:
        """Free one file descriptor, so that at least one connection can always be served.

        Returns whether that was possible.
        """
        if self._spare is not None:
            posix.close(self._spare)
            self._spare = None
            return True
        if self.connections:
            self._evict()
            if self._spare is not None:  # remove() has used the freed descriptor for it
                posix.close(self._spare)
                self._spare = None
            return True
        return False

    def _pause_accepting(self, error: Exception) -> None:
        """Stop accepting for a while: the socket stays readable, so we would retry at once."""
        self.reactor.unwatch(self._listener.fileno())
        self._pause = self.reactor.call_at(time.monotonic() + ACCEPT_PAUSE, self._resume)
        self.report(error)

    def _resume(self) -> None:
        self._pause = None
        self._spare = self._spare if self._spare is not None else _open_spare()
        self.reactor.watch(self._listener.fileno(), self._accept)


def _open_spare() -> int | None:
    """Open a file descriptor to close when a connection needs one and none is left."""
    try:
        return posix.open("/dev/null", posix.O_RDONLY | posix.O_CLOEXEC)
    except OSError:
        return None


class Connection:
    """One client connection: reads a request, sends the response, then waits for the next request.

    Its parser is created when the first byte arrives: an idle connection costs little memory.
    """

    def __init__(self, server: HttpServer, sock: _socket.socket) -> None:
        self._server, self._sock, self.fd = server, sock, sock.fileno()
        self._parser: h11.Connection | None = None
        self._request: h11.Request | None = None
        self._body = 0  # bytes of the request body received so far
        self._out = b""  # bytes of the response not sent yet
        self._writing = False  # the socket is watched for writing
        self._idle = True  # no byte of the next request has arrived
        self._pipelined = False  # bytes of the next request have arrived already
        self._lingering, self._lingered = False, 0
        self._limit: Timer | None = None
        self._peer, self._refused = "", False
        self.pid = 0  # of who has connected to the control socket; 0: not known
        self.waits_for_end = False

    def start(self) -> None:
        """Identify the peer of a control connection, and wait for a request."""
        self._safely(self._start)

    def _start(self) -> None:
        if self._server.control:
            self.pid, uid = control_socket.peer(self._sock)
            self._peer = f"pid {self.pid}, uid {uid}"
            self._refused = uid not in (0, posix.geteuid())
        self._set_timeout(IDLE_TIMEOUT)
        self.on_ready()

    def on_ready(self) -> None:
        """The socket can be read or written."""
        self._server.queue(self)

    def advance(self) -> None:
        """Read or write what is possible without blocking."""
        self._safely(self._flush if self._out else self._discard if self._lingering else self._read)

    def close(self) -> None:
        """Close the connection, whatever its state.  A second call does nothing."""
        if self._sock.fileno() < 0:
            return
        self._server.reactor.cancel(self._limit)
        self._server.reactor.unwatch(self.fd)
        self._sock.close()
        self._server.remove(self)
        self._out, self._parser, self._request = b"", None, None

    def _safely(self, do: Callable[[], None]) -> None:
        if self._sock.fileno() < 0:
            return
        try:
            do()
        except BlockingIOError:
            pass  # no more bytes have arrived
        except OSError:
            self.close()  # the peer is gone
        except Exception as error:
            self._server.report(error)
            self.close()

    def _set_timeout(self, seconds: float) -> None:
        """Replace the timeout of the connection."""
        self._server.reactor.cancel(self._limit)
        self._limit = self._server.reactor.call_at(
            time.monotonic() + seconds, lambda: self._safely(self._timed_out)
        )

    def _timed_out(self) -> None:
        if self._idle or self._out or self._lingering:
            self.close()
        else:
            self._refuse(
                routes.text(408, f"The request was not complete within {REQUEST_TIMEOUT:g} s.")
            )

    def _read(self) -> None:
        """Read a part of a request."""
        parser = self._parser
        if parser is not None and self._pipelined:
            self._pipelined = False
            self._parse(parser)
            return
        buffered = len(parser.trailing_data[0]) if parser else 0
        data = self._sock.recv(MAX_HEAD + 1 - buffered)
        if self._idle:
            if not data:
                self.close()
                return
            self._idle = False
            self._set_timeout(REQUEST_TIMEOUT)
        if parser is None:
            self._parser = parser = h11.Connection(h11.SERVER, MAX_HEAD)
        parser.receive_data(data)
        self._parse(parser)

    def _parse(self, parser: h11.Connection) -> None:
        """Parse what has arrived, up to the end of one request, and answer that request."""
        try:
            while True:
                event = parser.next_event()
                if isinstance(event, h11.Request):
                    self._request, self._body = event, 0
                    refusal = self._refusal(event)
                    if refusal:
                        self._refuse(refusal)
                        return
                    if parser.they_are_waiting_for_100_continue:
                        # 25 bytes, with nothing else in the send buffer: they always fit.
                        self._sock.send(
                            parser.send(h11.InformationalResponse(status_code=100, headers=[])),
                            _MSG_NOSIGNAL,
                        )
                elif isinstance(event, h11.Data):
                    self._body += len(event.data)
                    if self._body > MAX_BODY:
                        self._refuse(_TOO_LARGE)
                        return
                elif isinstance(event, h11.EndOfMessage):
                    self._respond()
                    return
                elif event is h11.NEED_DATA:
                    return
                else:  # the client has closed the connection
                    self.close()
                    return
        except h11.RemoteProtocolError as error:
            self._refuse(routes.text(error.error_status_hint, f"Bad request: {error}"))

    def _refusal(self, request: h11.Request) -> Response | None:
        """Return the response to a request that is refused before its body is read, else None."""
        if request.http_version not in (b"1.0", b"1.1"):
            return routes.text(505, "Only HTTP/1.1 and HTTP/1.0 are supported.")
        if self._refused:
            return routes.text(
                403, f"Only root and gracewrap's own user may use this, not {self._peer}."
            )
        if len(request.headers) > MAX_HEADERS:
            return routes.text(431, f"Too many headers; the limit is {MAX_HEADERS}.")
        methods = routes.methods(self._server.control)
        if request.method.decode() not in methods:
            return routes.not_allowed(methods)
        headers = dict(request.headers)
        chunked, length = b"transfer-encoding" in headers, int(headers.get(b"content-length", b"0"))
        limit = MAX_BODY if request.method == b"POST" else 0
        return _TOO_LARGE if length > limit or (chunked and not limit) else None

    def _respond(self) -> None:
        """Answer the request that has been read."""
        request = self._request
        assert request is not None
        try:
            method, target = request.method.decode(), request.target.decode(errors="replace")
            if routes.waits_for_end(method, target, self._server.control):
                self.waits_for_end = True
                self._server.reactor.cancel(self._limit)
                return
            response = routes.respond(
                self._server.backend, method, target, self._server.control, self._peer
            )
        except Exception as error:
            self._server.report(error)
            response = routes.text(500, "Internal error; see gracewrap's log.")
        self._send(response, ())

    def tell_end(self, response: Response) -> None:
        """Answer a request that has waited for the end of the run."""
        self._safely(lambda: self._send(response, (("Connection", "close"),)))

    def _refuse(self, response: Response) -> None:
        """Answer a request without reading it to its end; this ends the connection."""
        self._send(response, (("Connection", "close"),))

    def _send(self, response: Response, more_headers: tuple[tuple[str, str], ...]) -> None:
        parser = self._parser
        assert parser is not None
        if parser.our_state not in (h11.IDLE, h11.SEND_RESPONSE):
            self.close()
            return
        headers = [
            # RFC 9110, section 6.6.1: a server with a clock must send the date.
            ("Date", time.strftime("%a, %d %b %Y %H:%M:%S GMT", time.gmtime())),
            ("Content-Type", response.content_type),
            ("Content-Length", str(len(response.body))),
            ("Cache-Control", "no-store"),
            *response.headers,
            *more_headers,
        ]
        reason = _REASONS.get(response.status, "")
        out = parser.send(h11.Response(status_code=response.status, headers=headers, reason=reason))
        if self._request is None or self._request.method != b"HEAD":
            out += parser.send(h11.Data(data=response.body))
        self._out = out + parser.send(h11.EndOfMessage())
        self._request = None
        self._set_timeout(SEND_TIMEOUT)
        self._flush()

    def _flush(self) -> None:
        """Send as much as the kernel takes."""
        try:
            self._out = self._out[self._sock.send(self._out, _MSG_NOSIGNAL) :]
        except BlockingIOError:
            pass
        if bool(self._out) != self._writing:
            self._writing = not self._writing
            self._server.reactor.watch(
                self.fd, self.on_ready, read=not self._writing, write=self._writing
            )
        if not self._out:
            self._response_sent()

    def _response_sent(self) -> None:
        """Called when the kernel has the whole response: wait for the next request, or end the
        connection."""
        parser = self._parser
        assert parser is not None
        rest = parser.trailing_data[0]
        if parser.our_state is h11.DONE and parser.their_state is h11.DONE:
            parser.start_next_cycle()
            self._server.mark_used(self)
            self._pipelined = bool(rest)
            self._idle = not rest
            self._set_timeout(REQUEST_TIMEOUT if rest else IDLE_TIMEOUT)
            if rest:
                self.on_ready()
        elif rest or parser.their_state not in (h11.MUST_CLOSE, h11.CLOSED):
            # A close(2) with unread data sends a reset, which may overtake the response (RFC 9112,
            # section 9.6).
            self._sock.shutdown(_SHUT_WR)
            self._lingering = True
            self._set_timeout(LINGER_TIMEOUT)
        else:
            self.close()

    def _discard(self) -> None:
        """Read and drop data after a refusal, up to its end or to a limit."""
        data = self._sock.recv(MAX_HEAD)
        self._lingered += len(data)
        if not data or self._lingered > MAX_LINGER:
            self.close()


_TOO_LARGE = routes.text(413, f"Only a POST may have a body, of at most {MAX_BODY} bytes.")
