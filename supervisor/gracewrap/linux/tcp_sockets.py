"""The kernel's table of the TCP sockets of our network namespace: who listens, which connections
there are, when they last moved.

Asked by sock_diag over netlink (sock_diag(7)), which filters in the kernel; where that is refused
(gVisor, seccomp, no tcp_diag module) /proc/net/tcp{,6} stands in, and tells less.  Everything is a
generator that yields what the kernel gives in one go, so that the loop can look at signals in
between; nothing waits, for the kernel has each part of a dump ready when it is asked.
"""

from __future__ import annotations

import posix
from _struct import Struct, pack

from gracewrap.record import TYPE_CHECKING, Record

if TYPE_CHECKING:
    from _socket import socket
    from collections.abc import Callable, Iterator, Sequence, Set
    from typing import TypeVar

    Row = TypeVar("Row")
    Connect = Callable[[], socket]
    Parse = Callable[[bytes, int, int], Row]
    # Milliseconds since it last sent and last received data, bytes received, segments with data
    # sent and received (-1: not told, Linux < 4.6).
    Info = tuple[int, int, int, int, int]
    # Family, state, local port, bytes not read by the program, bytes not acknowledged by the peer,
    # inode (0: no descriptor is open for it, not yet or not any more), Info (None: not told, Linux
    # < 4.1), the peer's port.
    Connection = tuple[int, int, int, int, int, int, Info | None, int]
    # State, inode, user id, address and port of this end and of the other, Info.
    Address = tuple[bytes, int]
    Ends = tuple[int, int, int, Address, Address, Info | None]
    # State, inode, user id, this end, the other, bytes not read by the program, bytes not
    # acknowledged by the peer, Info, and whether this end has opened it (None: not told).
    Socket = tuple[int, int, int, Address, Address, int, int, Info | None, bool | None]
    # Family, state, local port, unread, unacknowledged, inode, the "pingpong" bit of delayed
    # acknowledgement, the peer's port.
    Line = tuple[int, int, int, int, int, int, bool, int]

AF_INET, AF_INET6 = 2, 10
# Of net/tcp_states.h.
ESTABLISHED, SYN_SENT, FIN_WAIT1, FIN_WAIT2 = 1, 2, 4, 5
CLOSE_WAIT, LAST_ACK, LISTEN, CLOSING = 8, 9, 10, 11
# Shut by the program: it has no more to say on these.
SHUT = frozenset((FIN_WAIT1, FIN_WAIT2, LAST_ACK, CLOSING))
# A handshake that is not over (SYN_RECV) carries no request yet, and a flood of them must not look
# like one.
CONNECTED = frozenset((ESTABLISHED, CLOSE_WAIT)) | SHUT
# Two ages that differ by no more than this are a tie: one jiffy.  Its length cannot be queried; it
# is at most 10 ms (CONFIG_HZ=100).
JIFFY = 10  # milliseconds
# After this time a delayed acknowledgement has been sent (TCP_DELACK_MAX is 200 ms), and the
# "pingpong" bit, which decides a tie, is reliable.
SETTLED = 250  # milliseconds
TABLES = {AF_INET: "/proc/net/tcp", AF_INET6: "/proc/net/tcp6"}

# The connections that gracewrap itself makes, for an http probe has one in flight whenever both
# kinds are asked at the same time: the local port and the peer's.  Whoever connects adds them, and
# calls leave() when it closes.
OWN: set[tuple[int, int]] = set()
# Those that it has closed.  The program keeps its end until it comes to look: one whose endpoint
# hangs would seem to have ever more requests in flight, and every one of them is gracewrap's.
_LEFT: dict[tuple[int, int], None] = {}
_MOST_LEFT = 4096


def leave(ports: tuple[int, int]) -> None:
    """Note that gracewrap has closed its end of a connection of its own."""
    OWN.discard(ports)
    _LEFT.pop(ports, None)
    _LEFT[ports] = None
    if len(_LEFT) > _MOST_LEFT:
        del _LEFT[next(iter(_LEFT))]


def is_own(peer_port: int, port: int, state: int) -> bool:
    """Return whether a connection of the program is one of gracewrap's own.

    Somebody else may be given the port of one that was closed: that connection is told by its
    state, for the end of ours has been received.
    """
    ports = peer_port, port
    return ports in OWN or (state == CLOSE_WAIT and ports in _LEFT)


# linux/netlink.h, linux/sock_diag.h, linux/inet_diag.h
_AF_NETLINK, _SOCK_RAW, _SOCK_CLOEXEC, _SOCK_NONBLOCK, _NETLINK_SOCK_DIAG = (
    16,
    3,
    0o2000000,
    0o4000,
    4,
)
_TCPDIAG_GETSOCK, SOCK_DIAG_BY_FAMILY, _REQUEST_DUMP = 18, 20, 0x301
_NOOP, _ERROR, _DONE, _DUMP_INTR = 1, 2, 3, 0x10
_INFO, _CGROUP = 2, 21
_WANT_INFO = 1 << (_INFO - 1)
_BUFFER = 1 << 16  # the kernel gives 32 KiB at a time at most
_FULL = 3_600  # bytes; a page of /proc/net/tcp is full when it is longer than this

_HEADER = Struct("=IHH8x")  # nlmsghdr: length, type, flags, sequence number, port id
_NUMBER = Struct("=i")
_ATTRIBUTE = Struct("=HH")  # nlattr: length, type
_CGROUP_ID = Struct("=Q")
# inet_diag_msg: family, state, timer, retrans, inet_diag_sockid (48 bytes), expires, rqueue,
# wqueue, uid, inode
_MESSAGE = 72
_LEAST = 16  # of unix_diag_msg
_CONNECTION = Struct("=BBxx2s2s44x4xII4xI")
_LISTENER = Struct("=BBxx2s46x12xII")
_ENDS = Struct("=BBxx2s2s16s16s24xII")
_QUEUES = Struct("=56xII")
# tcp_info: last_data_sent at 44, last_data_recv at 52; bytes_received at 128 (Linux 4.1),
# data_segs_in at 152, data_segs_out at 156 (4.6); bytes_acked at 120, notsent_bytes at 144,
# bytes_sent at 200, bytes_retrans at 208 (4.19).
_AGES, _RECEIVED, _SEGMENTS = Struct("=44xI4xI"), Struct("=128xQ"), Struct("=152xII")
_SENT = Struct("=120xQ16xI52xQQ")


class Refused(OSError):
    """The kernel does not answer sock_diag, or not so that it could be understood."""


class Listener(Record):
    """A socket that listens."""

    port: int
    inode: int
    cgroup: int = 0  # id of the cgroup (version 2) that it was made in; 0: not told, 1: the root


def connect() -> socket:
    """Return a netlink socket that answers sock_diag, non-blocking.

    Raises:
        OSError: If the kernel has none (gVisor), or seccomp forbids it, or there is no descriptor
            left.
    """
    from _socket import socket

    return socket(_AF_NETLINK, _SOCK_RAW | _SOCK_CLOEXEC | _SOCK_NONBLOCK, _NETLINK_SOCK_DIAG)


def dump(
    parse_one: Parse[Row], states: frozenset[int], port: int = 0, connect: Connect = connect
) -> Iterator[list[Row]]:
    """Yield the sockets in these states, up to 80 at a time, which takes half a millisecond.

    The old request (TCPDIAG_GETSOCK) goes over the table once for both families; with
    SOCK_DIAG_BY_FAMILY it would be twice.

    Args:
        parse_one: connection() or listener(), which says what is wanted of each.
        states: Of net/tcp_states.h.
        port: The local port, which the kernel looks at; 0: any.
        connect: Where to ask.

    Raises:
        Refused: If the kernel does not answer.
    """
    wanted = 0 if parse_one is listener else _WANT_INFO
    request = pack(
        "=BBBBHH44xII", 0, 0, 0, wanted, _swapped(port), 0, sum(1 << state for state in states), 0
    )
    yield from ask(request, _TCPDIAG_GETSOCK, parse_one, connect)


def ask(
    request: bytes, kind: int, parse_one: Parse[Row], connect: Connect = connect
) -> Iterator[list[Row]]:
    """Yield what the kernel answers to a request of this *kind*, a part at a time.

    Raises:
        Refused: If it does not answer.
    """
    try:
        asking = connect()
    except (OSError, ImportError) as error:
        raise _refused(error) from error
    try:
        asking.send(pack("=IHHII", 16 + len(request), kind, _REQUEST_DUMP, 1, 0) + request)
        done = False
        while not done:
            rows, done = parse(asking.recv(_BUFFER), parse_one, kind)
            yield rows
    except Refused:
        raise
    except OSError as error:  # EAGAIN too: a part of a dump is there at once, or never
        raise _refused(error) from error
    finally:
        asking.close()


def parse(
    answer: bytes, parse_one: Parse[Row], asked: int = _TCPDIAG_GETSOCK
) -> tuple[list[Row], bool]:
    """Return the sockets in one part of a dump, and whether it was the last part; *asked* is the
    kind of the request, which the kernel gives to each row as well.

    Raises:
        Refused: If it is an error message, makes no sense, or says that the table changed under the
            dump.
    """
    rows: list[Row] = []
    at, size = 0, len(answer)
    while at + 16 <= size:
        length, kind, flags = _HEADER.unpack_from(answer, at)
        end = at + length
        if length < 16 or end > size:
            raise _garbled()
        if flags & _DUMP_INTR:
            raise Refused(4, "the table changed while it was read")
        if kind in (_DONE, _ERROR):
            error = _NUMBER.unpack_from(answer, at + 16)[0] if length >= 20 else 0
            if error < 0:
                raise Refused(-error, posix.strerror(-error))
            if kind == _ERROR:
                raise _garbled()
            return rows, True
        if kind == asked:
            if length < 16 + (_MESSAGE if kind == _TCPDIAG_GETSOCK else _LEAST):
                raise _garbled()
            rows.append(parse_one(answer, at + 16, end))
        elif kind != _NOOP:
            raise _garbled()
        at = (end + 3) & ~3
    if at < size or not size:
        raise _garbled()
    return rows, False


def connection(answer: bytes, at: int, end: int) -> Connection:
    """Return the connection whose inet_diag_msg begins at *at*."""
    family, state, port, peer, unread, unsent, inode = _CONNECTION.unpack_from(answer, at)
    return (
        family,
        state,
        port[0] << 8 | port[1],
        unread,
        unsent,
        inode,
        _info(answer, at, end),
        peer[0] << 8 | peer[1],
    )


def ends(answer: bytes, at: int, end: int) -> Ends:
    """Return both ends of the connection whose inet_diag_msg begins at *at*."""
    family, state, port, peer, source, destination, uid, inode = _ENDS.unpack_from(answer, at)
    size = 4 if family == AF_INET else 16
    here = _mapped(family, source[:size]), port[0] << 8 | port[1]
    there = _mapped(family, destination[:size]), peer[0] << 8 | peer[1]
    return state, inode, uid, here, there, _info(answer, at, end)


def host(address: Address) -> str:
    """Return the address of one end, without its port, for people."""
    from _socket import inet_ntop

    return inet_ntop(AF_INET if len(address[0]) == 4 else AF_INET6, address[0])


def shown(address: Address) -> str:
    """Return one end for people: 10.0.3.7:80 or [::1]:80."""
    name = host(address)
    return f"[{name}]:{address[1]}" if ":" in name else f"{name}:{address[1]}"


def whole(answer: bytes, at: int, end: int) -> Socket:
    """Return all that is of use of the socket whose inet_diag_msg begins at *at*; of one that
    listens the numbers of bytes are those of connections."""
    state, inode, uid, here, there, info = ends(answer, at, end)
    unread, unsent = _QUEUES.unpack_from(answer, at)
    return state, inode, uid, here, there, unread, unsent, info, _opened(answer, at, end, unsent)


def _opened(answer: bytes, at: int, end: int, queued: int) -> bool | None:
    """Return whether this end has opened a connection, and not the peer; None: not told.

    Of one that it has opened, the kernel counts its SYN among the bytes acknowledged, but not among
    those sent; of one that it has accepted, in neither (Linux: tcp_rcv_synsent_state_process() of
    net/ipv4/tcp_input.c; measured).
    """
    start, length = attribute(answer, at + _MESSAGE, end, _INFO)
    if length < 216 or answer[at + 1] != ESTABLISHED:  # a FIN counts as well
        return None
    acknowledged, not_sent, sent, again = _SENT.unpack_from(answer, start)
    more = acknowledged + queued - not_sent - (sent - again)
    return bool(more) if more in (0, 1) else None


def _info(answer: bytes, at: int, end: int) -> Info | None:
    start, length = attribute(answer, at + _MESSAGE, end, _INFO)
    if length < 136:
        return None
    sent, received = _AGES.unpack_from(answer, start)
    came, went = _SEGMENTS.unpack_from(answer, start) if length >= 160 else (-1, -1)
    return sent, received, _RECEIVED.unpack_from(answer, start)[0], went, came


def _mapped(family: int, address: bytes) -> bytes:
    """Return an address; one of IPv4 that is mapped into IPv6 (::ffff:1.2.3.4) as that of IPv4."""
    mapped = family != AF_INET and address[:12] == b"\0" * 10 + b"\xff\xff"
    return address[12:] if mapped else address


def listener(answer: bytes, at: int, end: int) -> Listener:
    """Return the listening socket whose inet_diag_msg begins at *at*."""
    _, _, port, _, inode = _LISTENER.unpack_from(answer, at)
    start, length = attribute(answer, at + _MESSAGE, end, _CGROUP)
    cgroup = _CGROUP_ID.unpack_from(answer, start)[0] if length >= 8 else 0
    return Listener(port[0] << 8 | port[1], inode, cgroup)


def attribute(answer: bytes, at: int, end: int, wanted: int) -> tuple[int, int]:
    """Return where the payload of an attribute begins and how long it is; 0, 0 if it is not
    there."""
    while at + 4 <= end:
        length, kind = _ATTRIBUTE.unpack_from(answer, at)
        if length < 4 or at + length > end:
            raise _garbled()
        if kind == wanted:
            return at + 4, length - 4
        at += (length + 3) & ~3
    return 0, 0


def listeners(connect: Connect = connect) -> Iterator[list[Listener]]:
    """Yield all sockets that listen, some of them twice if the kernel refused half-way.

    Raises:
        OSError: If /proc cannot be read either.
    """
    try:
        yield from dump(listener, frozenset((LISTEN,)), connect=connect)
    except Refused:
        for lines in table():
            yield [
                Listener(port, inode)
                for _, state, port, _, _, inode, *_ in lines
                if state == LISTEN
            ]


def table(
    families: Sequence[int] = (AF_INET, AF_INET6), ports: Set[int] = frozenset()
) -> Iterator[list[Line]]:
    """Yield what /proc/net/tcp{,6} say, some 200 lines at a time.

    A part with few lines takes as long as the kernel needs to find them in its table, which is the
    whole host's: up to 5 ms where that has 262,144 buckets.

    Args:
        families: Which of the two to read.
        ports: Only sockets with these local ports; empty: all.

    Raises:
        OSError: If there is none, or no descriptor left.
    """
    for family in families:
        try:
            fd = posix.open(TABLES[family], posix.O_RDONLY | posix.O_CLOEXEC)
        except FileNotFoundError:
            if family == AF_INET6 and len(families) > 1:  # without IPv6 there is no such file
                continue
            raise
        try:
            yield from _lines(fd, family, ports)
        finally:
            posix.close(fd)


def _lines(fd: int, family: int, ports: Set[int]) -> Iterator[list[Line]]:
    rest = b""
    while part := posix.read(fd, _BUFFER):
        count = 1
        while (
            part and len(part) > _FULL and count < 8
        ):  # the kernel gives a page at a time; less than that was hard to find
            rest += part
            part = posix.read(fd, _BUFFER)
            count += 1
        whole, _, rest = (rest + part).rpartition(b"\n")
        yield parse_lines(whole, family, ports)


def parse_lines(text: bytes, family: int, ports: Set[int] = frozenset()) -> list[Line]:
    """Return the sockets that some lines of /proc/net/tcp are about (Linux:
    Documentation/networking/proc_net_tcp.rst).

    Left out are sockets in TIME_WAIT, for there can be thousands of which nobody wants to know, and
    lines that make no sense.
    """
    found: list[Line] = []
    wanted = {b"%04X" % port for port in ports}
    skip = 11 if family == AF_INET else 35  # from the colon of the line's number to the local port
    for line in text.split(b"\n"):
        at = line.find(b":") + skip
        if (wanted and line[at : at + 4] not in wanted) or line[
            at + skip + 8 : at + skip + 10
        ] == b"06":
            continue
        fields = line.split(None, 15)
        try:
            unsent, _, unread = fields[4].partition(b":")
            # Sockets in SYN_RECV have fewer fields.
            pingpong = len(fields) > 14 and bool(int(fields[14]) & 1)
            port, peer = int(line[at : at + 4], 16), int(fields[2].rpartition(b":")[2], 16)
            found.append(
                (
                    family,
                    int(fields[3], 16),
                    port,
                    int(unread, 16),
                    int(unsent, 16),
                    int(fields[9]),
                    pingpong,
                    peer,
                )
            )
        except (IndexError, ValueError):
            continue
    return found


def _swapped(port: int) -> int:
    """Return a port as the network has it, seen as a number of ours."""
    swapped: int = Struct("=H").unpack(port.to_bytes(2, "big"))[0]
    return swapped


def _refused(error: BaseException) -> Refused:
    if isinstance(error, OSError) and error.errno:
        return Refused(error.errno, error.strerror)
    return Refused(38, str(error))


def _garbled() -> Refused:
    return Refused(74, "an answer that makes no sense")
