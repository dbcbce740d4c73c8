"""The socket over which agents inside the command talk to us: one JSON object a line, both ways.

make() comes before the spawn and imports next to nothing.  Who connects is believed for its pid,
which the kernel says (SO_PEERCRED of unix(7)), never because it could connect: everybody may, so
that a command which changes its user still can.  Lines, peers and what waits to be read are
bounded; a peer that breaks a bound, or does not read, is disconnected and nothing else happens.
"""

from __future__ import annotations

import _socket
import posix

from gracewrap.linux import sd_notify
from gracewrap.record import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from gracewrap.linux.reactor import Reactor

PREFIX = "gracewrap-agent-"
LONGEST_PATH = 107  # bytes; sockaddr_un holds 108, the last one is a NUL
MOST_PEERS = 256  # a cluster with a process for each core, and worker threads beside them
MOST_WAITING = 64  # connections that wait to be accepted
LINE = 1 << 16  # bytes of a line; longer ones end the connection
AT_ONCE = 1 << 16  # bytes that are read in one go: there is a signal to look for in between
_UCRED = 12  # linux/socket.h: three 32 bit numbers, pid, uid and gid


def make() -> tuple[int, str]:
    """Return the descriptor of a listening socket and its path; to be called before the spawn.

    The path is in the first directory that takes it: not every runtime can do abstract addresses.

    Raises:
        OSError: If no directory takes it.
    """
    import time

    sock = _socket.socket(_socket.AF_UNIX, _socket.SOCK_STREAM | _socket.SOCK_NONBLOCK)
    try:
        name = f"{PREFIX}{posix.getpid()}-{time.time_ns():x}"
        for directory in sd_notify.directories():
            path = f"{directory}/{name}"
            if len(path.encode()) <= LONGEST_PATH and sd_notify.bind(sock, directory, name):
                sock.listen(MOST_WAITING)
                sd_notify.sweep(directory, name, PREFIX, _socket.SOCK_STREAM)
                return sock.detach(), path
        raise OSError(2, "no directory takes it: " + ", ".join(sd_notify.DIRECTORIES))
    finally:
        sock.close()  # nothing is closed if it has been detached


class Peer:
    """One connection, from one process (or one thread of it).

    Attributes:
        pid: Of the process that has connected, as the kernel says.
    """

    def __init__(self, sock: _socket.socket, pid: int) -> None:
        self._socket, self.pid = sock, pid
        self._unread = b""
        self.fd = sock.fileno()

    def lines(self) -> Iterator[bytes]:
        """Yield the lines that have come, without their ends.

        Raises:
            EOFError: If the peer is gone, or breaks a bound.
        """
        try:
            data = self._socket.recv(AT_ONCE)
        except BlockingIOError:
            return
        except OSError as error:
            raise EOFError(str(error)) from None
        if not data:
            raise EOFError("closed")
        *lines, self._unread = (self._unread + data).split(b"\n")
        if len(self._unread) > LINE or any(len(line) > LINE for line in lines):
            raise EOFError(f"a line of more than {LINE} bytes")
        yield from lines

    def send(self, line: str) -> bool:
        """Send a line; return False if the peer does not take all of it at once."""
        data = line.encode() + b"\n"
        try:
            return self._socket.send(data, _socket.MSG_NOSIGNAL) == len(data)
        except OSError:
            return False

    def close(self) -> None:
        """Close the connection."""
        self._socket.close()


class Listener:
    """Accepts the command's own processes, and passes on what they say.

    Args:
        reactor: Where the descriptors are watched.
        fd: From make(); ours from now on.
        is_member: Whether a pid is a process of the command's.
        said: Takes each line, with who has said it.
        gone: Told of each peer that is gone.

    Attributes:
        peers: Those that are connected.
        refused: How many connections came from somebody else, or were too many.
    """

    def __init__(
        self,
        reactor: Reactor,
        fd: int,
        is_member: Callable[[int], bool],
        said: Callable[[Peer, bytes], None],
        gone: Callable[[Peer], None],
    ) -> None:
        self._reactor, self._is_member, self._said, self._gone = reactor, is_member, said, gone
        self.peers: list[Peer] = []
        self.refused = 0
        self._socket = _socket.socket(fileno=fd)
        self._socket.setblocking(False)
        reactor.watch(fd, self._accept)

    def _accept(self) -> None:
        """Accept one connection; if there are more, this is called again."""
        try:
            fd, _ = self._socket._accept()  # type: ignore[attr-defined]  # typeshed leaves it out
        except OSError:  # nobody, or no descriptor for it: it stays where it is
            return
        sock = _socket.socket(fileno=fd)
        sock.setblocking(False)
        pid = pid_of(sock)
        if len(self.peers) >= MOST_PEERS or not self._is_member(pid):
            self.refused += 1
            sock.close()
            return
        peer = Peer(sock, pid)
        self.peers.append(peer)
        self._reactor.watch(peer.fd, lambda: self._read(peer))

    def _read(self, peer: Peer) -> None:
        try:
            for line in peer.lines():
                if peer not in self.peers:  # it was disconnected for what it said
                    return
                self._said(peer, line)
        except EOFError:
            self.drop(peer)

    def read(self) -> None:
        """Accept and read what there is at this moment."""
        for _ in range(MOST_WAITING):
            known = len(self.peers) + self.refused
            self._accept()
            if len(self.peers) + self.refused == known:
                break
        for peer in list(self.peers):
            self._read(peer)

    def send(self, peer: Peer, line: str) -> None:
        """Send a line to a peer that is connected; disconnect it if it does not take it."""
        if peer in self.peers and not peer.send(line):
            self._read(peer)  # its last word, if it has just ended
            self.drop(peer)

    def drop(self, peer: Peer) -> None:
        """Disconnect a peer."""
        if peer in self.peers:
            self.peers.remove(peer)
            self._reactor.unwatch(peer.fd)
            peer.close()
            self._gone(peer)


def pid_of(sock: _socket.socket) -> int:
    """Return the pid of who has connected, as the kernel says."""
    data = sock.getsockopt(_socket.SOL_SOCKET, _socket.SO_PEERCRED, _UCRED)
    return int(memoryview(data).cast("i")[0])
