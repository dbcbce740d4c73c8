"""Make an answer of the bytes that a server sends, by h11.  A header is read to 16 KiB and a body
to 1 MiB."""

from __future__ import annotations

import re

import h11

from gracewrap.record import Record

HEAD, BODY, PART = 1 << 14, 1 << 20, 1 << 16  # limits in bytes: of a header, a body, one read
# h11 makes an event of every chunk, in some 10 us each, and a hostile peer can send 11,000 chunks
# in one read.
EVENTS = 64
# It also takes the square of the length for a trailer or the head of a chunk that is wrong: 1 KiB
# costs it 7 ms, 16 KiB 2.3 s.
# So it may keep 1 KiB of one, and gets what is in chunks in pieces.
CHUNK_HEAD, PIECE = 1 << 10, 1 << 8
INFORMATIONAL = 8  # 1xx answers before the real one

_BLANK_LINE = re.compile(rb"\n\r?\n")
# What no header may hold (RFC 9110, 5.5); h11 finds it too, in the square of the length.
_CONTROL = re.compile(rb"[\x00\x0b\x0c]|\r(?!\n)")

REFUSED, UNREACHABLE, INVALID = "refused", "unreachable", "invalid"


class Answer(Record):
    """What was answered."""

    status: int
    reason: str  # printable
    headers: tuple[tuple[bytes, bytes], ...]  # names in lower case
    body: bytes
    whole: bool = True  # False: the body is longer than 1 MiB, and this is its first

    @property
    def line(self) -> str:
        """The status for people: "404 Not Found"."""
        return f"{self.status} {self.reason}".rstrip()

    def header(self, name: bytes) -> str:
        """Return the first header of that name (in lower case), or ""."""
        return next((value.decode("latin-1") for key, value in self.headers if key == name), "")


class Failure(Record):
    """Why there is no answer.

    *kind* is REFUSED (nobody listens, there is no such unix socket, or the connection was reset
    before a byte came), UNREACHABLE (no way there, closed in the middle, no descriptor left: it may
    be better next time) or INVALID (a mistake: what answers does not speak HTTP, its certificate is
    not trusted, a header's value cannot be read).
    """

    kind: str
    why: str


class Unusable(Exception):
    """The request cannot be made, or what is answered is not HTTP; the text says why, without the
    value of any header."""


class Broken(Exception):
    """The connection ended before the answer did."""


class Reader:
    """Makes an Answer of bytes."""

    def __init__(self, connection: h11.Connection) -> None:
        self._h11 = connection  # which has sent its request
        self._unread = bytearray()
        self._ended = self._end_told = False
        self._heads = 0
        self._response: h11.Response | None = None
        self._piece = PART
        self._body = bytearray()

    def give(self, data: bytes) -> None:
        """Take in what has come; b"": the end."""
        self._unread += data
        self._ended = self._ended or not data

    def read(self) -> Answer | None:
        """Return the answer if it is complete, having looked at some of what was given; see hungry.

        Raises:
            Unusable: If it is not HTTP.
            Broken: If it ended too early.
        """
        try:
            for _ in range(EVENTS):
                event = self._h11.next_event()
                if event is h11.NEED_DATA:
                    if not self._feed():
                        return None
                elif isinstance(event, h11.Response):
                    self._response = event
                    if any(name == b"transfer-encoding" for name, _ in event.headers):
                        self._piece = PIECE
                elif isinstance(event, h11.Data):
                    self._body += event.data
                    if len(self._body) > BODY:
                        return self._answer()
                elif isinstance(event, h11.EndOfMessage):
                    return self._answer()
                elif not isinstance(event, h11.InformationalResponse):
                    raise Unusable("not HTTP/1.1: it goes on in another protocol")
        except h11.RemoteProtocolError as error:
            if self._end_told:
                raise Broken from None
            raise Unusable(f"not HTTP/1.1: {printable(str(error))}") from None
        return None

    @property
    def begun(self) -> bool:
        """Whether a byte of the answer has come."""
        return bool(self._unread or self._heads)

    @property
    def hungry(self) -> bool:
        """Whether read() can go on only after another give()."""
        if self._ended:
            return False
        return not self._unread if self._response else not _BLANK_LINE.search(self._unread)

    def _feed(self) -> bool:
        """Give the next piece to h11, and return whether there was one: a whole header, then parts
        of the body."""
        if self._response is None:
            return self._feed_head()
        if self._unread:
            self._h11.receive_data(bytes(self._unread[: self._piece]))
            del self._unread[: self._piece]
            return True
        if self._ended and not self._end_told:
            self._end_told = True
            self._h11.receive_data(b"")
            return True
        return False

    def _feed_head(self) -> bool:
        start = bytes(self._unread[:5])
        if not b"HTTP/".startswith(start):
            tls = start[:2] == b"\x15\x03"  # an alert (RFC 8446, section 6)
            shown = printable(bytes(self._unread[:20]).decode("latin-1"))
            raise Unusable(
                'it speaks TLS: write "https://"'
                if tls
                else f'not HTTP: the answer starts with "{shown}"'
            )
        blank = _BLANK_LINE.search(self._unread)
        end = blank.end() if blank else len(self._unread)
        if end > HEAD:
            raise Unusable(f"its header is longer than {HEAD >> 10} KiB")
        if blank is None:
            if self._ended:
                raise Broken
            return False
        head = bytes(self._unread[:end])
        if _CONTROL.search(head):
            raise Unusable("not HTTP: a control character in its header")
        self._heads += 1
        if self._heads > 1 + INFORMATIONAL:
            raise Unusable("nothing but 1xx answers")
        del self._unread[:end]
        self._h11.receive_data(head)
        return True

    def _answer(self) -> Answer:
        assert self._response is not None
        reason = printable(bytes(self._response.reason).decode("latin-1"))
        headers = tuple((bytes(name), bytes(value)) for name, value in self._response.headers)
        return Answer(
            self._response.status_code,
            reason,
            headers,
            bytes(self._body[:BODY]),
            len(self._body) <= BODY,
        )


def printable(text: str) -> str:
    """Return *text* fit for a line of the log: 120 characters at most, and none that moves the
    cursor."""
    return "".join(char if char.isprintable() else "?" for char in text[:120])
