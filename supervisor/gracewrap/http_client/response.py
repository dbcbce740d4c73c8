"""Parses a response from the bytes that a server sends, using h11.

At most 16 KiB of headers and 1 MiB of body are read.
"""

from __future__ import annotations

import re

import h11

from gracewrap.http_client.safe_text import printable
from gracewrap.record import Record

# Limits in bytes: of the headers, of the body, of one read from the socket.
MAX_HEAD, MAX_BODY, MAX_READ = 1 << 14, 1 << 20, 1 << 16
# h11 makes an event of every chunk, in some 10 us each, and a hostile peer can send 11,000 chunks
# in one read.
MAX_EVENTS = 64
# h11 takes quadratic time for a malformed trailer or chunk header: 7 ms for 1 KiB, 2.3 s for
# 16 KiB.  So it may buffer 1 KiB of one, and receives chunked bodies in small pieces.
MAX_CHUNK_HEAD, CHUNKED_PIECE = 1 << 10, 1 << 8
MAX_INFORMATIONAL = 8  # 1xx responses before the final one

_BLANK_LINE = re.compile(rb"\n\r?\n")
# Not allowed in any header (RFC 9110, 5.5).  h11 detects these too, in quadratic time.
_CONTROL = re.compile(rb"[\x00\x0b\x0c]|\r(?!\n)")

REFUSED, UNREACHABLE, INVALID = "refused", "unreachable", "invalid"


class Response(Record):
    """A final (not 1xx) HTTP response."""

    status: int
    reason: str  # printable
    headers: tuple[tuple[bytes, bytes], ...]  # names in lower case
    body: bytes
    complete: bool = True  # False: *body* is the first 1 MiB of a longer body

    @property
    def status_line(self) -> str:
        """Status and reason: "404 Not Found"."""
        return f"{self.status} {self.reason}".rstrip()

    def header(self, name: bytes) -> str:
        """Return the first header called *name* (in lower case), or ""."""
        return next((value.decode("latin-1") for key, value in self.headers if key == name), "")


class Failure(Record):
    """Why there is no response.

    *kind* is REFUSED (nothing listens, the unix socket does not exist, or the connection was reset
    before the first byte), UNREACHABLE (no route, closed in the middle, no file descriptor left: a
    retry may succeed) or INVALID (a mistake: the server does not speak HTTP, its certificate is not
    trusted, a header value cannot be read).
    """

    kind: str
    why: str
    asked: bool = True  # False: we had no process, memory or descriptor for it


class HttpError(Exception):
    """The request cannot be sent, or the response is not HTTP.

    The text says why.  It never contains a header value.
    """


class IncompleteResponse(Exception):
    """The connection was closed before the end of the response."""


class ResponseParser:
    """Turns the bytes of a connection into a Response."""

    def __init__(self, connection: h11.Connection) -> None:
        self._h11 = connection  # has encoded the request already
        self._unread = bytearray()
        self._at_eof = self._h11_at_eof = False
        self._heads = 0
        self._response: h11.Response | None = None
        self._piece = MAX_READ
        self._body = bytearray()

    def feed(self, data: bytes) -> None:
        """Add bytes from the peer; b"" means end of file."""
        self._unread += data
        self._at_eof = self._at_eof or not data

    def parse(self) -> Response | None:
        """Parse a limited part of the bytes; return the response if it is complete.

        See needs_data for whether to call parse() or feed() next.

        Raises:
            HttpError: If the bytes are not HTTP.
            IncompleteResponse: If the connection was closed too early.
        """
        try:
            for _ in range(MAX_EVENTS):
                event = self._h11.next_event()
                if event is h11.NEED_DATA:
                    if not self._feed_h11():
                        return None
                elif isinstance(event, h11.Response):
                    self._response = event
                    if any(name == b"transfer-encoding" for name, _ in event.headers):
                        self._piece = CHUNKED_PIECE
                elif isinstance(event, h11.Data):
                    self._body += event.data
                    if len(self._body) > MAX_BODY:
                        return self._result()
                elif isinstance(event, h11.EndOfMessage):
                    return self._result()
                elif not isinstance(event, h11.InformationalResponse):
                    raise HttpError("not HTTP/1.1: the server switched to another protocol")
        except h11.RemoteProtocolError as error:
            if self._h11_at_eof:
                raise IncompleteResponse from None
            raise HttpError(f"not HTTP/1.1: {printable(str(error))}") from None
        return None

    @property
    def started(self) -> bool:
        """Whether a byte of the response has arrived."""
        return bool(self._unread or self._heads)

    @property
    def needs_data(self) -> bool:
        """Whether parse() can make progress only after another feed()."""
        if self._at_eof:
            return False
        return not self._unread if self._response else not _BLANK_LINE.search(self._unread)

    def _feed_h11(self) -> bool:
        """Pass the next piece to h11: complete headers, then parts of the body.

        Returns whether there was one.
        """
        if self._response is None:
            return self._feed_head()
        if self._unread:
            self._h11.receive_data(bytes(self._unread[: self._piece]))
            del self._unread[: self._piece]
            return True
        if self._at_eof and not self._h11_at_eof:
            self._h11_at_eof = True
            self._h11.receive_data(b"")
            return True
        return False

    def _feed_head(self) -> bool:
        start = bytes(self._unread[:5])
        if not b"HTTP/".startswith(start):
            if start[:2] == b"\x15\x03":  # a TLS alert (RFC 8446, section 6)
                raise HttpError("the server speaks TLS: use https://")
            shown = printable(bytes(self._unread[:20]).decode("latin-1"))
            raise HttpError(f'not HTTP: the response starts with "{shown}"')
        blank_line = _BLANK_LINE.search(self._unread)
        end = blank_line.end() if blank_line else len(self._unread)
        if end > MAX_HEAD:
            raise HttpError(f"the response headers are longer than {MAX_HEAD >> 10} KiB")
        if blank_line is None:
            if self._at_eof:
                raise IncompleteResponse
            return False
        head = bytes(self._unread[:end])
        if _CONTROL.search(head):
            raise HttpError("not HTTP: control character in the response headers")
        self._heads += 1
        if self._heads > 1 + MAX_INFORMATIONAL:
            raise HttpError("too many 1xx responses")
        del self._unread[:end]
        self._h11.receive_data(head)
        return True

    def _result(self) -> Response:
        assert self._response is not None
        reason = printable(bytes(self._response.reason).decode("latin-1"))
        headers = tuple((bytes(name), bytes(value)) for name, value in self._response.headers)
        complete = len(self._body) <= MAX_BODY
        body = bytes(self._body[:MAX_BODY])
        return Response(self._response.status_code, reason, headers, body, complete)
