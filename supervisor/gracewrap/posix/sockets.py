"""Connections that nobody owns any more but for which the kernel still holds bytes: what a closing network would cut off.

Asked by sock_diag over netlink (sock_diag(7)), which filters by state in the kernel; else from /proc/net/tcp.
"""

from __future__ import annotations

from gracewrap.posix import read_file

# Closed by the program, not yet acknowledged by the peer (tcp_states.h).
FIN_WAIT1, LAST_ACK, CLOSING = 4, 9, 11
STATES = (FIN_WAIT1, LAST_ACK, CLOSING)
INITIAL_PID_NAMESPACE = "pid:[4026531836]"  # PROC_PID_INIT_INO of linux/proc_ns.h

_AF_NETLINK, _SOCK_RAW, _SOCK_CLOEXEC, _NETLINK_SOCK_DIAG = 16, 3, 0o2000000, 4
_SOCK_DIAG_BY_FAMILY, _NLM_F_REQUEST_DUMP, _NLMSG_ERROR, _NLMSG_DONE = 20, 0x301, 2, 3
_AF_INET, _AF_INET6, _IPPROTO_TCP = 2, 10, 6


def in_container() -> bool:
    """Return whether we live in a PID namespace of our own, so that the network may go when we go."""
    import posix

    try:
        return posix.readlink("/proc/self/ns/pid") != INITIAL_PID_NAMESPACE
    except OSError:
        return False


def unsent_connections() -> int:
    """Return how many orphaned TCP connections of this network namespace still have unsent or unacknowledged bytes."""
    try:
        return sum(_by_netlink(family) for family in (_AF_INET, _AF_INET6))
    except (OSError, ImportError, ValueError):
        return sum(_by_proc(f"/proc/net/{table}") for table in ("tcp", "tcp6"))


def _by_netlink(family: int) -> int:
    """Count by one dump request of inet_diag_req_v2, answered by inet_diag_msg (linux/inet_diag.h).

    Raises:
        OSError: If the kernel refuses (gVisor, no INET_DIAG) or does not answer in time.
    """
    import _socket
    from _struct import pack, unpack_from

    states = sum(1 << state for state in STATES)
    request = pack("=BBBxI", family, _IPPROTO_TCP, 0, states) + bytes(48)
    header = pack("=IHHII", 16 + len(request), _SOCK_DIAG_BY_FAMILY, _NLM_F_REQUEST_DUMP, 1, 0)
    sock = _socket.socket(_AF_NETLINK, _SOCK_RAW | _SOCK_CLOEXEC, _NETLINK_SOCK_DIAG)
    try:
        sock.settimeout(0.1)
        sock.send(header + request)
        count = 0
        while True:
            answer, at = sock.recv(1 << 17), 0
            while at + 16 <= len(answer):
                length, kind = unpack_from("=IH", answer, at)
                if kind == _NLMSG_DONE:
                    return count
                if kind == _NLMSG_ERROR or length < 16:
                    raise OSError("sock_diag refused")
                # inet_diag_msg: 4 bytes, inet_diag_sockid 48, then expires, rqueue, wqueue, uid, inode.
                wqueue, _, inode = unpack_from("=III", answer, at + 16 + 60)
                count += bool(wqueue and not inode)
                at += (length + 3) & ~3
    finally:
        sock.close()


def _by_proc(path: str) -> int:
    count = 0
    for line in read_file(path).splitlines()[1:]:
        fields = line.split()
        unsent = int(fields[4].partition(b":")[0], 16)
        count += bool(int(fields[3], 16) in STATES and unsent and fields[9] == b"0")
    return count
