"""Which connections carry a stream: server-sent events, a WebSocket, HTTP/2, a long answer.

The kernel does not tell what a connection is for; it is told by how its bytes come.  A server that
sends what nobody has asked for since is streaming; so is a client whose messages are on average
shorter than any request of HTTP/1.1.
"""

from __future__ import annotations

from gracewrap.record import TYPE_CHECKING

if TYPE_CHECKING:
    from gracewrap.linux.tcp_sockets import Connection

# Seconds after the client's last word, after which no answer in one piece is sent any more.
_AFTER = 5.0
# A client has sent more so many times, from one sample to another: it keeps its connection.
_AGAIN = 2
# The program has sent more so many times, from one sample to another, without a word of the client.
_PUSHES = 2
# The shortest request of HTTP/1.1, with an empty Host header, has 25 bytes.  So many messages that
# are shorter are those of a WebSocket: pongs, acknowledgements.
_SHORT = 24  # bytes
_MANY = 20


class Streams:
    """Tells streams, by one sample and by those before."""

    def __init__(self) -> None:
        # inode -> bytes received, segments sent; how often more was sent since they were received;
        # how often more was received
        self._before: dict[int, tuple[int, int, int, int]] = {}
        self._seen: dict[int, tuple[int, int, int, int]] = {}
        self.senders = 0  # connections whose clients go on sending

    def begin(self) -> None:
        """A sample begins: those not seen in the last one are gone."""
        self._before, self._seen = self._seen, {}
        self.senders = 0

    def is_one(self, connection: Connection) -> bool:
        """Return whether a connection carries a stream."""
        unsent, inode, info = connection[4], connection[5], connection[6]
        if info is None or len(info) < 5:
            return False
        sent, received, count, segments, _ = info
        if not count or not segments or not inode:
            return False
        before, sent_then, pushes, words = self._before.get(inode, (count, segments, 0, 0))
        if before != count:
            pushes, words = 0, words + 1
        elif segments > sent_then and not unsent:  # what waits to be sent is a long answer
            pushes += 1
        self._seen[inode] = count, segments, pushes, words
        is_stream = is_talk(connection) or pushes >= _PUSHES or received - sent >= _AFTER * 1000
        self.senders += words >= _AGAIN and not is_stream
        return is_stream


def is_talk(connection: Connection) -> bool:
    """Return whether the client's messages are shorter than requests: its last one is none."""
    info = connection[6]
    return info is not None and len(info) > 4 and info[4] >= _MANY and info[2] < _SHORT * info[4]
