"""Connections that nobody owns any more but for which the kernel still holds bytes: what a closing
network would cut off.

Asked by sock_diag over netlink (sock_diag(7)), which filters by state in the kernel; else from
/proc/net/tcp.
"""

from __future__ import annotations

from gracewrap.linux.procfs import read_file

# Closed by the program, not yet acknowledged by the peer (tcp_states.h).
FIN_WAIT1, LAST_ACK, CLOSING = 4, 9, 11
STATES = (FIN_WAIT1, LAST_ACK, CLOSING)
INITIAL_PID_NAMESPACE = "pid:[4026531836]"  # PROC_PID_INIT_INO of linux/proc_ns.h
# A setting of the whole kernel, which only the first network namespace shows (net_core_table in
# net/core/sysctl_net_core.c).
OF_THE_HOST = "/proc/sys/net/core/netdev_max_backlog"

_AF_INET, _AF_INET6 = 2, 10


def network_may_go() -> bool:
    """Return whether the network may go when we go: we live in a PID namespace of our own, and not
    in the host's network (docker run --network=host), whose connections are everybody's too."""
    import posix

    try:
        if posix.readlink("/proc/self/ns/pid") == INITIAL_PID_NAMESPACE:
            return False
    except OSError:
        return False
    try:
        posix.stat(OF_THE_HOST)
    except OSError:
        return True
    return False


def unsent_connections() -> int:
    """Return how many orphaned TCP connections of this network namespace still have unsent or
    unacknowledged bytes."""
    if is_ruled_out():
        return 0
    try:
        return sum(_by_netlink(family) for family in (_AF_INET, _AF_INET6))
    except (OSError, ImportError, ValueError):
        return sum(_by_proc(f"/proc/net/{table}") for table in ("tcp", "tcp6"))


def is_ruled_out() -> bool:
    """Return whether the kernel's counts say that no connection is without an owner, or that there
    is none in this network.

    They cost some microseconds; either way to look at the connections walks a table that is as
    large as the machine's memory allows, up to ten milliseconds.
    """
    of, of6 = (_counts_of_tcp(f"/proc/net/{name}") for name in ("sockstat", "sockstat6"))
    no_orphans = of.get(b"orphan") == b"0"  # of every network
    return no_orphans or (of.get(b"inuse") == b"0" and of6.get(b"inuse", b"0") == b"0")


def _counts_of_tcp(path: str) -> dict[bytes, bytes]:
    """Return the counts of TCP."""
    for line in read_file(path).splitlines():
        if line.startswith(b"TCP"):
            words = line.split()
            return dict(zip(words[1::2], words[2::2], strict=False))
    return {}


def _by_netlink(family: int) -> int:
    """Count by sock_diag.

    Raises:
        OSError: If the kernel refuses (gVisor, no INET_DIAG).
    """
    from gracewrap.linux import tcp_sockets  # only now: most runs end without

    count = 0
    for rows in tcp_sockets.dump(tcp_sockets.connection, frozenset(STATES)):
        count += sum(
            bool(unsent and not inode) for of, _, _, _, unsent, inode, *_ in rows if of == family
        )
    return count


def _by_proc(path: str) -> int:
    count = 0
    for line in read_file(path).splitlines()[1:]:
        fields = line.split()
        unsent = int(fields[4].partition(b":")[0], 16)
        count += bool(int(fields[3], 16) in STATES and unsent and fields[9] == b"0")
    return count
