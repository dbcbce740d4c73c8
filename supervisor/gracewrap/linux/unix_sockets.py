"""The kernel's table of the connected unix sockets of our network namespace (sock_diag(7))."""

from __future__ import annotations

from _struct import Struct, pack

from gracewrap.linux import tcp_sockets
from gracewrap.record import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator

    from gracewrap.linux.tcp_sockets import Connect

    # Inode, inode of the peer (0: it is gone), the path that it is bound to ("": none; "@x" is
    # an abstract one), whose it is (None: not told, Linux < 5.3).  What accept(2) returns is bound
    # to the path of its listener.
    Pair = tuple[int, int, str, int | None]

_AF_UNIX, _ESTABLISHED, _DATAGRAMS = 1, 1, 2
# linux/unix_diag.h: what to show, and the attributes with it.
_SHOW = 1 | 4 | 64
_NAME, _PEER, _UID = 0, 2, 7
_MESSAGE = Struct("=BBBxI8x")  # family, type, state; inode, cookie
_NUMBER = Struct("=I")


def connected(connect: Connect = tcp_sockets.connect) -> Iterator[list[Pair]]:
    """Yield the connected stream (and seqpacket) sockets, as many as the kernel gives in one go.

    Raises:
        Refused: If the kernel does not answer (no unix_diag module).
    """
    request = pack("=BBHIIIII", _AF_UNIX, 0, 0, 1 << _ESTABLISHED, 0, _SHOW, 0, 0)
    yield from tcp_sockets.ask(request, tcp_sockets.SOCK_DIAG_BY_FAMILY, _pair, connect)


def _pair(answer: bytes, at: int, end: int) -> Pair:
    _, kind, _, inode = _MESSAGE.unpack_from(answer, at)
    if kind == _DATAGRAMS:  # to syslog or NOTIFY_SOCKET: nobody answers
        return inode, 0, "", None
    start, length = tcp_sockets.attribute(answer, at + _MESSAGE.size, end, _NAME)
    name = answer[start : start + length]
    name = b"@" + name[1:] if name[:1] == b"\0" else name.partition(b"\0")[0]
    start, length = tcp_sockets.attribute(answer, at + _MESSAGE.size, end, _PEER)
    peer = _NUMBER.unpack_from(answer, start)[0] if length >= 4 else 0
    start, length = tcp_sockets.attribute(answer, at + _MESSAGE.size, end, _UID)
    uid = _NUMBER.unpack_from(answer, start)[0] if length >= 4 else None
    return inode, peer, name.decode(errors="replace"), uid
