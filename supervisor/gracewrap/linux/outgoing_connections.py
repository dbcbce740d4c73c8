"""What a program is connected to: databases, queues, services; other ports of its own.

Found through the descriptors of its processes.  Nothing is asked of anybody but the kernel.
"""

from __future__ import annotations

import posix

from gracewrap.linux import agent_socket, tcp_sockets, unix_sockets
from gracewrap.linux.ports_of_program import sockets
from gracewrap.linux.tcp_sockets import CLOSE_WAIT, ESTABLISHED, JIFFY, SETTLED, SYN_SENT, Refused
from gracewrap.record import TYPE_CHECKING, Record, replace

if TYPE_CHECKING:
    from collections.abc import Generator, Iterable, Set

    from gracewrap.linux.tcp_sockets import Address, Connect, Info

    Found = Generator[None, None, list["Peer"]]

# Where the standard output of a service of systemd goes, and the bus: no work comes from there.
_NO_WORK = ("/run/systemd/", "/run/dbus/", "/var/run/dbus/")
_UNKNOWN = "unix sockets (the kernel does not say which)"


class Peer(Record):
    """One connection of the program that is not one of a client to the ports in question."""

    to: str  # "127.0.0.1:6379", "/run/postgresql/.s.PGSQL.5432"; "port 9000": of its own
    # A byte was sent or received once, or that is not known; of its own ports: an answer is due.
    used: bool = True
    age: float | None = None  # seconds since the last byte; None: not known


def find(
    pids: Iterable[int], own: Set[int], counted: Set[int], connect: Connect = tcp_sockets.connect
) -> Found:
    """Return what the processes *pids* are connected to.

    Where the descriptors of a process cannot be read, all connections of its user count.

    Args:
        pids: The program's processes.
        own: The ports that they listen on.
        counted: Those of them whose connections are counted elsewhere.
        connect: Where the kernel is asked.

    Raises:
        OSError: If the kernel cannot be asked about TCP.
    """
    inodes, users = set[int](), set[int]()
    for pid in pids:
        try:
            for inode in sockets(pid):
                inodes.add(inode)
                if not inode:
                    yield
        except PermissionError:
            users |= _user(pid)
        except OSError:  # it is gone
            pass
        yield
    inodes.discard(0)
    if not inodes and not users:
        return []
    by_tcp = yield from _by_tcp(inodes, users, own, counted, connect)
    by_unix = yield from _by_unix(inodes, users, connect)
    return by_tcp + by_unix


def _user(pid: int) -> set[int]:
    try:
        return {posix.stat(f"/proc/{pid}").st_uid}
    except OSError:
        return set()


def _by_tcp(
    inodes: Set[int], users: Set[int], own: Set[int], counted: Set[int], connect: Connect
) -> Found:
    found: list[Peer] = []
    ties: dict[int, int] = {}  # by inode, where it is in *found*
    states = frozenset((ESTABLISHED, SYN_SENT, CLOSE_WAIT))
    try:
        for batch in tcp_sockets.dump(tcp_sockets.ends, states, connect=connect):
            for state, inode, uid, here, there, info in batch:
                ours = inode in inodes or uid in users
                if not ours or here[1] in counted:
                    continue
                if tcp_sockets.is_own(there[1], here[1], state):
                    continue
                if there[1] in own and _is_local(here, there):  # its other end is one of ours too
                    continue
                if here[1] not in own:
                    if state != CLOSE_WAIT:  # a client that has said all that it has to say
                        found.append(_outgoing(state, there, info))
                    continue
                if _is_tie(state, info):
                    ties[inode] = len(found)
                found.append(_incoming(state, here, info))
            yield
        yield from _decide(ties, found)
    except Refused:
        found.clear()
        for lines in tcp_sockets.table():
            found += [
                Peer(f"port {here}" if here in own else f"somebody's port {there}")
                for _, state, here, _, _, inode, _, there in lines
                if state == ESTABLISHED and inode in inodes and here not in counted
                if there not in own
            ]
            yield
    return found


def _outgoing(state: int, there: Address, info: Info | None) -> Peer:
    if info is None or state == SYN_SENT:
        return Peer(tcp_sockets.shown(there))
    sent, received, count, segments, _ = info
    used = bool(count or segments)
    return Peer(tcp_sockets.shown(there), used, min(sent, received) / 1000 if used else None)


def _incoming(state: int, here: Address, info: Info | None) -> Peer:
    """Return a client of another port; of a tie as if an answer were due."""
    to = f"port {here[1]}"
    if info is None:
        return Peer(to)
    sent, received, count, segments, _ = info
    heard = count > (state == CLOSE_WAIT)  # a received FIN counts as one byte
    due = heard and (received < sent or not segments or _is_tie(state, info))
    return Peer(to, due, min(sent, received) / 1000 if count or segments else None)


def _is_tie(state: int, info: Info | None) -> bool:
    """Return whether a request may have come right after the last answer."""
    if info is None:
        return False
    sent, received, count, segments, _ = info
    return count > (state == CLOSE_WAIT) and segments != 0 and 0 <= received - sent <= JIFFY


def _decide(ties: dict[int, int], found: list[Peer]) -> Generator[None, None, None]:
    """Find out where an answer is due of those for which the ages tell nothing.

    Where it cannot be found out, one is: to wait loses no work.
    """
    ports = frozenset(int(found[i].to.removeprefix("port ")) for i in ties.values())
    try:
        for lines in tcp_sockets.table(ports=ports) if ties else ():
            for *_, inode, answered, _peer in lines:
                i = ties.get(inode)
                if i is not None and answered and (found[i].age or 0.0) >= SETTLED / 1000:
                    found[i] = replace(found[i], used=False)
            yield
    except OSError:
        pass


def _by_unix(inodes: Set[int], users: Set[int], connect: Connect) -> Found:
    """Return the peers on unix sockets that somebody has bound to a path, on one side or the other:
    a socketpair(2) stays within a program.

    They do not tell whether they were used, or when.
    """
    names, peers = dict[int, str](), dict[int, int]()
    try:
        for batch in unix_sockets.connected(connect):
            for inode, peer, name, uid in batch:
                names[inode] = name
                if inode in inodes or (users and (uid is None or uid in users)):
                    peers[inode] = peer
            yield
    except Refused:
        return [Peer(_UNKNOWN)] if _has_unix_sockets(inodes) else []
    return [
        Peer(name)
        for inode, peer in peers.items()
        if (name := names[inode] or names.get(peer, ""))
        if peer and peer not in inodes and not name.startswith(_NO_WORK)
        if not name.rpartition("/")[2].startswith(agent_socket.PREFIX)  # to us, not to its work
    ]


def _has_unix_sockets(inodes: Set[int]) -> bool:
    """Return whether any of these is a connected unix socket, by /proc/net/unix."""
    from gracewrap.linux.procfs import read_file

    for line in read_file("/proc/net/unix").split(b"\n")[1:]:
        fields = line.split()
        # Type 0001: a stream; state 03: connected (Linux: net/unix/af_unix.c, unix_seq_show).
        is_connected = len(fields) > 6 and fields[4] == b"0001" and fields[5] == b"03"
        if is_connected and int(fields[6]) in inodes:
            return True
    return False


def _is_local(here: Address, there: Address) -> bool:
    return here[0] == there[0] or there[0][:1] == b"\x7f" or there[0] == b"\0" * 15 + b"\x01"
