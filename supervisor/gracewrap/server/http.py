"""The server: one listener, its connections, and what they may cost.  HTTP/1.1 by h11; never waits,
and a peer cannot hold it up.

At rest it wakes for nothing; a connection has one timer.  Which request is answered how is known to
routes.py.
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
    from gracewrap.server.routes import Answer, Source

MOST = 64  # connections at once; one more pushes out the one that has been idle longest
IDLE = 15.0  # seconds in which a connection may have nothing to say
REQUEST = 5.0  # seconds from a request's first byte to its last
TAKE = 5.0  # seconds in which an answer must be taken
LINGER = 1.0  # seconds to read on after a refusal
HEAD_MOST = 8192  # bytes of a request line and its headers
HEADERS_MOST = 100
BODY_MOST = 4096  # bytes, of a POST on a control socket; nothing else has a body
LINGER_MOST = 1 << 18  # bytes to read on after a refusal
ACCEPTS = 8  # connections taken at one go, and
SLICE = 0.001  # seconds of taking and of serving at one go: then signals have their turn
PAUSE = 0.5  # seconds without accepting, when it fails and nothing can be done about it

_MSG_NOSIGNAL, _SHUT_WR = 0x4000, 1
_NO_DESCRIPTORS = (ENFILE, EMFILE)
# accept(2): errors of the new connection, or of the network: to be taken like none at all.
# EPERM, EPROTO, ENOPROTOOPT, EOPNOTSUPP, ENETDOWN, ENETUNREACH, ECONNABORTED, EHOSTDOWN,
# EHOSTUNREACH
_OF_THE_PEER = (1, 71, 92, 95, 100, 101, 103, 112, 113)

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


class Server:
    """A listener and its connections."""

    def __init__(self, reactor: Reactor, source: Source, fd: int, control: bool) -> None:
        """Serve what comes to *fd* (listen.bind), which is closed by close().

        Args:
            reactor: Watches and calls; its fault is told what *source* raises, and what keeps us
                from accepting.
            source: Who knows the answers.
            fd: Listens.
            control: Whether actions are taken, from root and from our own user: for unix sockets
                only.
        """
        self.reactor, self.source, self.control = reactor, source, control
        self.connections: dict[
            int, Connection
        ] = {}  # by descriptor; the one that has been idle longest comes first
        self._listener = _socket.socket(fileno=fd)
        self._spare = _spare()
        self._queue: dict[Connection, None] = {}  # those that have something to read or to write
        self._serving = False
        self._pause: Timer | None = None
        reactor.watch(fd, self._accept)

    def close(self) -> None:
        """Close the listener and all connections; nothing happens the second time."""
        self.reactor.cancel(self._pause)
        self.reactor.unwatch(self._listener.fileno())
        self._listener.close()
        for connection in list(self.connections.values()):
            connection.close()
        if self._spare is not None:
            posix.close(self._spare)
            self._spare = None

    def fault(self, error: BaseException) -> None:
        """Tell what has gone wrong, by the reactor: it tells whatever is raised in there."""

        def tell() -> None:
            raise error

        self.reactor.call_at(0.0, tell)

    def queue(self, connection: Connection) -> None:
        """Let *connection* have a turn."""
        self._queue[connection] = None
        if not self._serving:
            self._serving = True
            self.reactor.run_in_slices(self._serve())

    def freshen(self, connection: Connection) -> None:
        """*connection* has been of use just now: others are pushed out before it."""
        self.connections[connection.fd] = self.connections.pop(connection.fd)

    def gone(self, connection: Connection) -> None:
        """*connection* is closed."""
        self.connections.pop(connection.fd, None)
        self._queue.pop(connection, None)
        if self._spare is None and self._listener.fileno() >= 0:
            self._spare = _spare()

    def _serve(self) -> Iterator[None]:
        """Give turns, as many as fit in a slice."""
        try:
            while self._queue:
                end = time.monotonic() + SLICE
                while self._queue and time.monotonic() < end:
                    connection = next(iter(self._queue))
                    del self._queue[connection]
                    connection.turn()
                if self._queue:
                    yield
        finally:
            self._serving = False

    def _accept(self) -> None:
        """Take a few connections; we are called again while there are more.  What goes wrong costs
        a pause, not the server."""
        end = time.monotonic() + SLICE
        try:
            for number in range(ACCEPTS):
                if not self._take(number == 0) or time.monotonic() > end:
                    return
        except BlockingIOError:
            pass
        except Exception as error:
            self._pause_accepting(error)

    def _take(self, first: bool) -> bool:
        """Take one connection and return whether there may be another.

        Raises:
            OSError: If that fails; BlockingIOError if there was none.
        """
        try:
            fd, _peer = self._listener._accept()  # type: ignore[attr-defined]  # typeshed leaves it out
        except OSError as error:
            if error.errno in _OF_THE_PEER:
                return True
            if error.errno not in _NO_DESCRIPTORS:
                raise
            if not first:
                # the kernel says so before it looks whether anybody waits, and we know of the first
                # only
                return False
            if not self._free_descriptor():
                raise
            self._welcome(self._listener._accept()[0])  # type: ignore[attr-defined]
            return False
        self._welcome(fd)
        return True

    def _welcome(self, fd: int) -> None:
        """Begin with a new connection."""
        if len(self.connections) >= MOST:
            self._push_out()
        connection = Connection(self, _socket.socket(fileno=fd))
        self.connections[fd] = connection
        self.reactor.watch(fd, connection.ready)
        connection.begin()

    def _push_out(self) -> None:
        """Close the connection that has been idle longest; what it has asked up to now is answered
        before."""
        oldest = next(iter(self.connections.values()))
        oldest.turn()
        oldest.close()

    def _free_descriptor(self) -> bool:
        """Make room for one descriptor, and return whether there was a way: thus one connection can
        always be served."""
        if self._spare is not None:
            posix.close(self._spare)
            self._spare = None
            return True
        if self.connections:
            self._push_out()
            if self._spare is not None:  # gone() has taken what was freed
                posix.close(self._spare)
                self._spare = None
            return True
        return False

    def _pause_accepting(self, error: Exception) -> None:
        """Accept nothing for a while: what waits stays readable, and would have us try again and
        again."""
        self.reactor.unwatch(self._listener.fileno())
        self._pause = self.reactor.call_at(time.monotonic() + PAUSE, self._resume)
        self.fault(error)

    def _resume(self) -> None:
        self._pause = None
        self._spare = self._spare if self._spare is not None else _spare()
        self.reactor.watch(self._listener.fileno(), self._accept)


def _spare() -> int | None:
    """Return a descriptor to give up when there are no others for a connection."""
    try:
        return posix.open("/dev/null", posix.O_RDONLY | posix.O_CLOEXEC)
    except OSError:
        return None


class Connection:
    """One connection: waits for a request, reads it, answers, and so on.  What costs memory is made
    at its first byte."""

    def __init__(self, server: Server, sock: _socket.socket) -> None:
        self._server, self._sock, self.fd = server, sock, sock.fileno()
        self._parser: h11.Connection | None = None
        self._request: h11.Request | None = None
        self._body = 0  # bytes of it that have come
        self._out = b""  # of an answer, what is still to be sent
        self._writing = False  # the peer does not take it all at once
        self._idle = True  # not a byte of the next request has come
        self._pipelined = False  # bytes of the next request are there already
        self._lingering, self._lingered = False, 0
        self._limit: Timer | None = None
        self._peer, self._refused = "", False

    def begin(self) -> None:
        """Find out who it is, and see what has come already."""
        self._safely(self._begin)

    def _begin(self) -> None:
        if self._server.control:
            pid, uid = control_socket.peer(self._sock)
            self._peer = f"pid {pid}, uid {uid}"
            self._refused = uid not in (0, posix.geteuid())
        self._allow(IDLE)
        self.ready()

    def ready(self) -> None:
        """It can be read, or written."""
        self._server.queue(self)

    def turn(self) -> None:
        """Do what can be done now."""
        self._safely(self._flush if self._out else self._discard if self._lingering else self._read)

    def close(self) -> None:
        """Close it, whatever is under way; nothing happens the second time."""
        if self._sock.fileno() < 0:
            return
        self._server.reactor.cancel(self._limit)
        self._server.reactor.unwatch(self.fd)
        self._sock.close()
        self._server.gone(self)
        self._out, self._parser, self._request = b"", None, None

    def _safely(self, do: Callable[[], None]) -> None:
        if self._sock.fileno() < 0:
            return
        try:
            do()
        except BlockingIOError:
            pass  # nothing more has come
        except OSError:
            self.close()  # the peer has gone
        except Exception as error:
            self._server.fault(error)
            self.close()

    def _allow(self, seconds: float) -> None:
        """Let what comes next take so long."""
        self._server.reactor.cancel(self._limit)
        self._limit = self._server.reactor.call_at(
            time.monotonic() + seconds, lambda: self._safely(self._too_late)
        )

    def _too_late(self) -> None:
        if self._idle or self._out or self._lingering:
            self.close()
        else:
            self._refuse(
                routes.text(408, f"A request must be complete {REQUEST:g} s after its first byte.")
            )

    def _read(self) -> None:
        """Read a part of a request."""
        parser = self._parser
        if parser is not None and self._pipelined:
            self._pipelined = False
            self._parse(parser)
            return
        held = len(parser.trailing_data[0]) if parser else 0
        part = self._sock.recv(HEAD_MOST + 1 - held)
        if self._idle:
            if not part:
                self.close()
                return
            self._idle = False
            self._allow(REQUEST)
        if parser is None:
            self._parser = parser = h11.Connection(h11.SERVER, HEAD_MOST)
        parser.receive_data(part)
        self._parse(parser)

    def _parse(self, parser: h11.Connection) -> None:
        """Take in what has come, up to the end of a request, and answer that."""
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
                        # 25 bytes, and nothing else is on its way: there is room for them.
                        self._sock.send(
                            parser.send(h11.InformationalResponse(status_code=100, headers=[])),
                            _MSG_NOSIGNAL,
                        )
                elif isinstance(event, h11.Data):
                    self._body += len(event.data)
                    if self._body > BODY_MOST:
                        self._refuse(_TOO_LARGE)
                        return
                elif isinstance(event, h11.EndOfMessage):
                    self._respond()
                    return
                elif event is h11.NEED_DATA:
                    return
                else:  # the peer has closed
                    self.close()
                    return
        except h11.RemoteProtocolError as error:
            self._refuse(
                routes.text(
                    error.error_status_hint, f"This is no request that can be answered: {error}"
                )
            )

    def _refusal(self, request: h11.Request) -> Answer | None:
        """Return what speaks against a request before its body has come."""
        if request.http_version not in (b"1.0", b"1.1"):
            return routes.text(505, "There is only HTTP/1.1 and HTTP/1.0 here.")
        if self._refused:
            return routes.text(
                403, f"This is for root and for gracewrap's own user, not for {self._peer}."
            )
        if len(request.headers) > HEADERS_MOST:
            return routes.text(431, f"There are more than {HEADERS_MOST} headers.")
        methods = routes.methods(self._server.control)
        if request.method.decode() not in methods:
            return routes.not_allowed(methods)
        headers = dict(request.headers)
        chunked, length = b"transfer-encoding" in headers, int(headers.get(b"content-length", b"0"))
        most = BODY_MOST if request.method == b"POST" else 0
        return _TOO_LARGE if length > most or (chunked and not most) else None

    def _respond(self) -> None:
        """Answer the request that has been read."""
        request = self._request
        assert request is not None
        try:
            method, target = request.method.decode(), request.target.decode(errors="replace")
            answer = routes.answer(
                self._server.source, method, target, self._server.control, self._peer
            )
        except Exception as error:
            self._server.fault(error)
            answer = routes.text(500, "Something is wrong in gracewrap; its log says what.")
        self._send(answer, ())

    def _refuse(self, answer: Answer) -> None:
        """Answer something that is not to be read to its end; the connection ends with that."""
        self._send(answer, (("Connection", "close"),))

    def _send(self, answer: Answer, more: tuple[tuple[str, str], ...]) -> None:
        parser = self._parser
        assert parser is not None
        if parser.our_state not in (h11.IDLE, h11.SEND_RESPONSE):
            self.close()
            return
        headers = [
            # RFC 9110, section 6.6.1: who has a clock must say so.
            ("Date", time.strftime("%a, %d %b %Y %H:%M:%S GMT", time.gmtime())),
            ("Content-Type", answer.content_type),
            ("Content-Length", str(len(answer.body))),
            ("Cache-Control", "no-store"),
            *answer.headers,
            *more,
        ]
        reason = _REASONS.get(answer.status, "")
        out = parser.send(h11.Response(status_code=answer.status, headers=headers, reason=reason))
        if self._request is None or self._request.method != b"HEAD":
            out += parser.send(h11.Data(data=answer.body))
        self._out = out + parser.send(h11.EndOfMessage())
        self._request = None
        self._allow(TAKE)
        self._flush()

    def _flush(self) -> None:
        """Send what the peer takes."""
        try:
            self._out = self._out[self._sock.send(self._out, _MSG_NOSIGNAL) :]
        except BlockingIOError:
            pass
        if bool(self._out) != self._writing:
            self._writing = not self._writing
            self._server.reactor.watch(
                self.fd, self.ready, read=not self._writing, write=self._writing
            )
        if not self._out:
            self._sent()

    def _sent(self) -> None:
        """The answer is with the kernel: wait for the next request, or end."""
        parser = self._parser
        assert parser is not None
        rest = parser.trailing_data[0]
        if parser.our_state is h11.DONE and parser.their_state is h11.DONE:
            parser.start_next_cycle()
            self._server.freshen(self)
            self._pipelined = bool(rest)
            self._idle = not rest
            self._allow(REQUEST if rest else IDLE)
            if rest:
                self.ready()
        elif rest or parser.their_state not in (h11.MUST_CLOSE, h11.CLOSED):
            # A close(2) while something is unread is a reset, which may overtake the answer (RFC
            # 9112, section 9.6).
            self._sock.shutdown(_SHUT_WR)
            self._lingering = True
            self._allow(LINGER)
        else:
            self.close()

    def _discard(self) -> None:
        """Read what nobody wants, up to the end, or to where it is too much."""
        part = self._sock.recv(HEAD_MOST)
        self._lingered += len(part)
        if not part or self._lingered > LINGER_MOST:
            self.close()


_TOO_LARGE = routes.text(
    413, f"A body has {BODY_MOST} bytes at most with POST, and none otherwise."
)
