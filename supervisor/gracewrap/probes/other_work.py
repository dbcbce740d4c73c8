"""What else shows work where no request is in flight: the evidence by which a probe of tcp or of
an agent may end a program early, or may not.

A job that runs may be silent for as long as it takes, and what fetched it looks the same as a pool
of idle connections.  So a connection to somebody else that has carried a byte counts as work as
long as it is open, unless the user says that only what moves does.
"""

from __future__ import annotations

import posix
import time

from gracewrap.linux import outgoing_connections, process_tree, tcp_sockets
from gracewrap.policy.model import NOT_YET
from gracewrap.record import TYPE_CHECKING, Record

if TYPE_CHECKING:
    from collections.abc import Callable, Generator, Iterable, Mapping, Set

    from gracewrap.linux.outgoing_connections import Peer
    from gracewrap.linux.ports_of_program import Ports
    from gracewrap.linux.process_tree import CpuTime
    from gracewrap.linux.tcp_sockets import Connect

# The part of one CPU that a program may use and still count as idle: timers, a collection of
# garbage.  Less than what an idle JVM or a loop that polls every 10 ms uses is not told from work.
IDLE_CPU = 0.03
# On a busy machine one that would use a CPU gets little of it: then the time counts in which it
# waited for one.
IDLE_WAIT = 0.5
# The shortest time over which that is measured, where nobody has to be *quiet* for so long.
_SHORTEST = 0.2  # seconds
_TICK = 1 / posix.sysconf("SC_CLK_TCK")
MOST = 4  # peers that are named


class Seen(Record):
    """What else the program has open or does."""

    work: str  # what shows that it may be at work; "": nothing
    open: str  # to whom it is connected; "": to nobody


class Background:
    """Looks at what a program does besides answering requests.

    Args:
        ports: The program's, with its processes.
        quiet: Seconds for which nothing may move; or from one look to the next, if that is longer.
        only_moving: A used connection counts only if it has carried a byte within *quiet*.
        connect: Where the kernel is asked.
    """

    def __init__(
        self,
        ports: Ports,
        quiet: float,
        only_moving: bool,
        connect: Connect = tcp_sockets.connect,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._ports, self._quiet, self._only_moving = ports, quiet, only_moving
        self._connect, self._clock = connect, clock
        # When the last byte was seen on a connection to somebody else, and to whom.
        self._moved_at, self._moved = float("-inf"), ""
        self._window = max(quiet, _SHORTEST)  # seconds over which the CPU time is measured
        self._cpu: list[tuple[float, dict[int, CpuTime]]] = []  # when, and by pid
        # Bytes from and to disks by pid, at this look and the one before.
        self._disk: tuple[dict[int, int], dict[int, int]] = {}, {}
        self._within = quiet  # seconds, of this look

    def look(self, counted: Set[int]) -> Generator[None, None, Seen]:
        """Return what there is besides the connections to the ports *counted*.

        Raises:
            OSError: If the kernel cannot be asked.
        """
        found = yield from outgoing_connections.find(
            self._ports.pids(), self._ports.known, counted, self._connect
        )
        work = self._at_work(found) + self._disk_used()
        cpu = self._cpu_used()
        if cpu and not (work and cpu == NOT_YET):
            work.append(cpu)
        return Seen("; ".join(work), _named(found))

    def _at_work(self, found: Iterable[Peer]) -> list[str]:
        """Return which connections show that the program may be at work.

        One that has carried a byte and was closed since counts like those that are still open: jobs
        may make a connection for each thing that they do.
        """
        at, within = self._clock(), self._within
        for peer in found:
            moved_at = at - (peer.age or 0.0)
            if peer.used and moved_at >= self._moved_at:
                self._moved_at, self._moved = moved_at, peer.to
        moving = [peer for peer in found if peer.age is not None and peer.age < within]
        shown = [f"bytes within {within:.2g} s: {_named(moving)}"] if moving else []
        if at - self._moved_at < within and self._moved not in {peer.to for peer in found}:
            shown.append(f"bytes within {within:.2g} s: {self._moved}, closed since")
        used = [
            peer for peer in found if peer.used and peer not in moving and not self._only_moving
        ]
        return shown + ([f"used connections: {_named(used)}"] if used else [])

    def watch(self) -> None:
        """Note the CPU time and what has gone to disks, for a look at the last seconds."""
        at, pids = self._clock(), list(self._ports.pids())
        gap = at - self._cpu[-1][0] if self._cpu else 0.0
        if gap > 2 * self._window + 1:  # nobody has asked for long
            self._cpu.clear()
            self._disk = {}, {}
            gap = 0.0
        self._within = max(self._quiet, gap)
        self._cpu.append((at, {pid: process_tree.cpu_time(pid) for pid in pids}))
        self._disk = self._disk[1], {pid: process_tree.disk_bytes(pid) for pid in pids}
        while len(self._cpu) > 1 and self._cpu[1][0] <= at - self._window:
            del self._cpu[0]

    def _cpu_used(self) -> str:
        """Return what the CPU time says about the last seconds; "": nothing was done."""
        if not self._cpu or not self._cpu[-1][1]:  # there are no processes
            return ""
        (since, before), (at, now) = self._cpu[0], self._cpu[-1]
        seconds = at - since
        if seconds < self._window:
            return NOT_YET
        used, wanted = _used(before, now)
        if used <= IDLE_CPU * seconds + _TICK and wanted <= IDLE_WAIT * seconds:
            return ""
        return f"it uses, or would use, {100 * max(used, wanted) / seconds:.0f} % of a CPU"

    def _disk_used(self) -> list[str]:
        """Return what the disks say about the time since the look before."""
        before, now = self._disk
        if any(count > before.get(pid, count) for pid, count in now.items()):
            return ["it reads from or writes to a disk"]
        waits = any(map(process_tree.is_uninterruptible, now))
        return ["it waits in the kernel (state D), as for a disk"] if waits else []


def _used(before: Mapping[int, CpuTime], now: Mapping[int, CpuTime]) -> tuple[float, float]:
    """Return the seconds of CPU time that were used, and those that were used or waited for.

    What has ended between two looks is in the time of its parent, with all that it had used before.
    """
    used = wanted = ended = 0.0
    for pid, time_now in now.items():
        then = before.get(pid, process_tree.CpuTime())
        used += max(0.0, time_now.used - then.used)
        wanted += max(0.0, time_now.wanted - then.wanted)
        ended += max(0.0, time_now.of_children - then.of_children)
    gone = [then for pid, then in before.items() if pid not in now]
    ended = max(0.0, ended - sum(then.used + then.of_children for then in gone))
    return used + ended, wanted + ended


def _named(found: Iterable[Peer]) -> str:
    """Return to whom these connections lead, for people: "127.0.0.1:6379 (3), 10.0.0.7:5432"."""
    names = [peer.to for peer in found]
    each = list(dict.fromkeys(names))
    shown = [f"{to} ({names.count(to)})" if names.count(to) > 1 else to for to in each[:MOST]]
    return ", ".join(shown) + (f" and {len(each) - MOST} more" if len(each) > MOST else "")
