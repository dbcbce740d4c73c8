"""Which TCP ports the program listens on, found through the descriptors of its processes and
remembered when they are closed.

What listens in the network namespace is a short question to the kernel; only for sockets not seen
before are descriptors looked at.  Nothing here blocks for long: all of it is done in slices.
"""

from __future__ import annotations

import posix
import time

from gracewrap.linux import process_tree, tcp_sockets
from gracewrap.linux.procfs import EMFILE, ENFILE, read_file
from gracewrap.linux.unsent_bytes import OF_THE_HOST
from gracewrap.record import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

    from gracewrap.linux.reactor import Reactor
    from gracewrap.linux.tcp_sockets import Connect, Listener

# How many links of /proc/PID/fd to read between two looks at the signals: 6 us each.
_LINKS = 100
# After so many looks a socket that is in none of the program's processes is somebody else's, and is
# not looked for again.
# Not after one: a descriptor may pass from one process to another while we look.
_LOOKS = 2
_ENOMEM = 12


class Ports:
    """The ports of one program.

    Sockets of helpers and of gracewrap itself never count.  Where the descriptors of a process
    cannot be read (another uid, and no CAP_SYS_PTRACE), those listeners count that nobody is known
    to have and that were made in a cgroup (version 2) of such a process; where cgroups tell nothing
    (version 1, or the root cgroup), all that nobody is known to have, provided that the network
    namespace is not the host's.  On the host's network they would be everybody's: then it is
    *blind*.
    """

    def __init__(
        self,
        reactor: Reactor,
        pids: Callable[[], Iterable[int]],
        connect: Connect = tcp_sockets.connect,
    ) -> None:
        self._reactor, self.pids, self._connect = reactor, pids, connect
        self._ours: dict[int, int] = {}  # inode -> port, of all that were ever seen
        self._strangers: dict[int, int] = {}  # inode -> how many looks have not found it
        self.known: frozenset[int] = frozenset()  # all that were ever seen
        self.open: frozenset[int] = frozenset()  # those on which it listens now
        self.everyone: frozenset[int] = (
            frozenset()
        )  # whatever is listened on in the network namespace
        self.blind = False  # none is known, and there are some that may be its

    def look(self) -> None:
        """Look, in slices, from the loop; at boot, and when a stop is requested."""
        self._reactor.run_in_slices(self._quietly())

    def look_now(self, bound: float = 0.02) -> None:
        """Look at once, for *bound* seconds at most (the loop is deaf meanwhile), and for what is
        left in slices.

        For the moment before the stop signal, after which listeners are closed.
        """
        until = time.monotonic() + bound
        steps = self._quietly()
        for _ in steps:
            if time.monotonic() > until:
                self._reactor.run_in_slices(steps)
                return

    def _quietly(self) -> Iterator[None]:
        try:
            yield from self.steps()
        except OSError:
            # no descriptor, no memory: the next look may do better, and a probe says why it cannot
            pass

    def steps(self) -> Iterator[None]:
        """Look, with a yield between any two slices.

        Raises:
            OSError: If the kernel cannot be asked, by neither way.
        """
        now: dict[int, Listener] = {}
        for some in tcp_sockets.listeners(self._connect):
            now.update((listener.inode, listener) for listener in some)
            yield
        self._strangers = {inode: looks for inode, looks in self._strangers.items() if inode in now}
        new = {
            inode: listener
            for inode, listener in now.items()
            if inode not in self._ours and self._strangers.get(inode, 0) < _LOOKS
        }
        if new:
            yield from self._map(new)
        self.known = frozenset(self._ours.values())
        self.open = frozenset(port for inode, port in self._ours.items() if inode in now)
        self.everyone = frozenset(listener.port for listener in now.values())
        self.blind = self.blind and not self.known

    def _map(self, new: dict[int, Listener]) -> Iterator[None]:
        """Find out which of these listeners are the program's."""
        closed_to_us: list[int] = []  # pids
        complete = True
        for pid in self.pids():
            if not new:
                break
            try:
                yield from self._match(pid, new)
            except PermissionError:
                closed_to_us.append(pid)
            except OSError as error:  # ENOENT, ESRCH: it is gone
                complete = complete and error.errno not in (EMFILE, ENFILE, _ENOMEM)
            yield
        if closed_to_us and new:
            yield from self._guess(new, closed_to_us)
        else:
            self.blind = False
        if complete and not self.blind:
            for inode in new:
                self._strangers[inode] = self._strangers.get(inode, 0) + 1

    def _match(self, pid: int, new: dict[int, Listener]) -> Iterator[None]:
        """Take those out of *new* for which a process has a descriptor."""
        for inode in sockets(pid):
            if inode in new:
                self._take(new.pop(inode))
                if not new:
                    return
            if not inode:
                yield

    def _guess(self, new: dict[int, Listener], closed_to_us: list[int]) -> Iterator[None]:
        """Judge those that no process is seen to have, while the descriptors of these processes
        cannot be read."""
        for pid in (posix.getpid(), *_helpers()):
            try:
                for inode in sockets(pid, own=pid == posix.getpid()):
                    new.pop(inode, None)
                    if not inode:
                        yield
            except OSError:
                pass  # it is gone, or another user's too
        cgroups = {cgroup(pid) for pid in closed_to_us}
        yield
        if 0 in cgroups or not all(listener.cgroup for listener in new.values()):
            self.blind = bool(new) and on_host_network()
            chosen = [] if self.blind else list(new.values())
        else:
            self.blind = False
            chosen = [listener for listener in new.values() if listener.cgroup in cgroups]
        for listener in chosen:
            self._take(new.pop(listener.inode))

    def _take(self, listener: Listener) -> None:
        self._ours[listener.inode] = listener.port


def sockets(pid: int, own: bool = False) -> Iterator[int]:
    """Yield the inodes of a process's sockets, and a 0 after every so many descriptors.

    Args:
        pid: Whose.
        own: It is us; then only what is closed on exec, for the rest we hold for the program
            (socket activation).

    Raises:
        OSError: PermissionError if we may not know; else it is gone, or there is no descriptor
            left.
    """
    with posix.scandir(f"/proc/{pid}/fd") as entries:
        for count, entry in enumerate(entries, 1):
            try:
                link = posix.readlink(entry.path)
                if link.startswith("socket:[") and not (
                    own and posix.get_inheritable(int(entry.name))
                ):
                    yield int(link[8:-1])
            except PermissionError:
                raise
            except OSError:
                pass  # closed meanwhile
            if not count % _LINKS:
                yield 0


def _helpers() -> list[int]:
    """Return the pids of what helpers there are."""
    return [
        member.pid
        for pgid in list(process_tree.HELPERS)
        for member in process_tree.helpers_members(pgid)
    ]


def on_host_network() -> bool:
    """Return whether our network namespace is the machine's first one, whose listeners are
    everybody's."""
    try:
        posix.stat(OF_THE_HOST)
    except FileNotFoundError:
        return not _exists("/proc/sys/net")  # without it nothing is known
    except OSError:
        pass
    return True


def _exists(path: str) -> bool:
    try:
        posix.stat(path)
    except OSError:
        return False
    return True


def cgroup(pid: int) -> int:
    """Return the id of a process's cgroup (version 2); 0 if it is not known, or the root, in which
    anybody may be.

    It is the inode of its directory (cgroups(7); 64-bit kernels), which a cgroup namespace does not
    hide.
    """
    path = next(
        (
            line[3:]
            for line in read_file(f"/proc/{pid}/cgroup").split(b"\n")
            if line.startswith(b"0::")
        ),
        b"",
    )
    for line in read_file("/proc/self/mountinfo").split(b"\n"):
        mount, _, source = line.partition(b" - ")
        fields = mount.split()
        if (
            source.startswith(b"cgroup2 ")
            and b"/.." not in path
            and path.startswith(fields[3].rstrip(b"/"))
        ):
            directory = fields[4] + b"/" + path[len(fields[3].rstrip(b"/")) :]
            try:
                inode = posix.stat(directory).st_ino
            except OSError:
                continue
            return inode if inode > 1 else 0
    return 0
