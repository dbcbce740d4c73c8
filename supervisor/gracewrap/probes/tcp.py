"""Ask the kernel about the program's TCP connections; never connects, needs nothing of the program.

A connection is in flight when a request came after the last answer, or bytes are on their way.
What the kernel tells is when data last came and last went, in jiffies, so a request that follows
its predecessor's answer at once is a tie.  There the "pingpong" bit of /proc/net/tcp decides: the
kernel sets it when data is answered at once, and clears it when it has to acknowledge data that is
not answered (after 40 to 200 ms).

Known to be missed: an answer that pauses for longer than `quiet` (streams, headers sent early,
100-continue), pipelined requests, on a tie an upload of more than a segment or two.  Called in
flight although idle: a connection on which the peer had the last word (HTTP/2, WebSocket).
"""

from __future__ import annotations

import time

from gracewrap.linux import sock_diag
from gracewrap.linux.listening_ports import Ports
from gracewrap.linux.sock_diag import CLOSE_WAIT, CONNECTED, SHUT, Refused
from gracewrap.policy.model import BUSY, DRAINED, INVALID, UNREACHABLE, Reading
from gracewrap.probes.base import Probe
from gracewrap.record import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Generator, Iterator, Set

    from gracewrap.config.probe_specs import TcpProbeSpec
    from gracewrap.linux.reactor import Reactor
    from gracewrap.linux.sock_diag import Connect, Connection
    from gracewrap.probes.base import OnReading

    Steps = Generator[None, None, Reading]

# What a connection is.
IN_FLIGHT, RECENT, IDLE, TIE, GONE = "in flight", "recent", "idle", "tie", "gone"

# Two ages that differ by no more than this are a tie: a jiffy, which nothing tells us the length of
# (10 ms at CONFIG_HZ=100).
_JIFFY = 10  # milliseconds
# By then a delayed acknowledgement has been sent (TCP_DELACK_MAX is 200 ms) and the pingpong bit
# says what it has to say.
_SETTLED = 250  # milliseconds
# How often to read /proc/net/tcp for ties when the answer is "busy" anyway; it costs six times what
# a dump does.
_TIES_EVERY = 1.0  # seconds
_SLICE = 500  # how many ties to go over between two looks at the signals: half a millisecond
# Up to so many ports are asked for one by one; the kernel goes over its table for each.
_ONE_BY_ONE = 4

_BLIND = (
    "cannot see which ports it listens on: its processes run as another user, gracewrap has no "
    "CAP_SYS_PTRACE, "
    "and the network is the host's; write drain.tcp = [PORT]"
)


def judge(connection: Connection, quiet: float) -> str:
    """Return what a connection is; TIE if only the pingpong bit can tell.

    *quiet* is in milliseconds.  One that moved within it and is not in flight is RECENT: a stream
    looks like that.
    """
    _, state, _, unread, unsent, inode, info, _ = connection
    if (
        state in SHUT
    ):  # the program has said its last word; a FIN that is not acknowledged counts as one byte
        if unsent > 1:
            return IN_FLIGHT
        return IDLE if inode else GONE
    fin = (
        state == CLOSE_WAIT
    )  # a FIN counts as a byte: received, and unread until the program sees the end
    if unread > fin or unsent or info is None:
        return IN_FLIGHT
    sent, received, count, segments = info
    if count <= fin:  # it has never carried a byte
        return IDLE
    if received < sent or not segments:  # a request after the last answer, or never an answer
        return IN_FLIGHT
    age = min(sent, received)
    if received - sent <= _JIFFY and age >= _SETTLED:
        return TIE
    return RECENT if age < max(quiet, _SETTLED) else IDLE


class Count:
    """What the connections were in one sample."""

    __slots__ = ("in_flight", "not_accepted", "recent", "ties", "total")

    def __init__(self) -> None:
        self.total = self.in_flight = self.recent = self.not_accepted = 0
        self.ties: list[tuple[Connection, str]] = []  # with what it is if it is not in flight

    def add(self, verdict: str) -> None:
        """Count one more that is not a tie."""
        self.in_flight += verdict == IN_FLIGHT
        self.recent += verdict == RECENT


class TcpProbe(Probe):
    """The `tcp` probe.

    What gracewrap itself asks the program (sockdiag.OWN) does not count.  A reading's in_flight
    counts the connections in flight; when there is none, those that moved within `quiet`, which
    keep it busy too.
    """

    def __init__(
        self,
        probe: TcpProbeSpec,
        reactor: Reactor,
        ports: Ports,
        connect: Connect = sock_diag.connect,
    ) -> None:
        self.probe, self.reactor, self.ports = probe, reactor, ports
        self._connect = connect
        self._steps: Iterator[None] | None = None
        self._untied: dict[
            int, tuple[int, int, bool]
        ] = {}  # inode -> bytes received, segments sent, in flight
        self._untied_at = float("-inf")

    def sample(self, on_reading: OnReading) -> None:
        """Take one sample."""
        self.cancel()
        self._steps = self._answer(on_reading)
        self.reactor.run_in_slices(self._steps)

    def cancel(self) -> None:
        """Give up on the sample that is under way, if any."""
        steps, self._steps = self._steps, None
        if steps is not None:
            steps.close()  # type: ignore[attr-defined]

    def _answer(self, on_reading: OnReading) -> Iterator[None]:
        try:
            reading = yield from self._sample()
        except OSError as error:  # neither sock_diag nor /proc: no descriptor, no memory
            reading = Reading(
                UNREACHABLE,
                None,
                f"cannot ask the kernel about connections: {error.strerror or error}",
            )
        self._steps = None
        on_reading(reading)

    def _sample(self) -> Steps:
        probe, ports = self.probe, self.ports
        if not probe.ports or probe.mode in ("listening", "listener-closed"):
            yield from ports.steps()
        asked = frozenset(probe.ports) or ports.known
        listening = asked & (ports.everyone if probe.ports else ports.open)
        if not asked and ports.blind:
            return Reading(INVALID, None, _BLIND)
        if probe.mode == "listening":
            missing = asked - listening if probe.ports else asked if not listening else frozenset()
            if asked and not missing:
                return Reading(DRAINED)
            return Reading(
                BUSY,
                None,
                f"nothing listens on {_shown(missing)} yet"
                if missing
                else "it listens on no port yet",
            )
        if not asked:
            return Reading(
                INVALID, None, "it listens on no TCP port; write drain.tcp = [PORT] if it will"
            )
        if probe.mode == "listener-closed":
            return (
                Reading(BUSY, None, f"it still listens on {_shown(listening)}")
                if listening
                else Reading(DRAINED)
            )
        try:
            count = yield from self._count(asked)
        except Refused as error:
            return (yield from self._without_sock_diag(asked, error))
        if probe.mode == "no-connections":
            return _connections(count.total, asked)
        yield from self._untie(count)
        return self._idle(count)

    def _count(self, ports: Set[int]) -> Generator[None, None, Count]:
        """Go over all connections but our own probes'; ends of clients on this host are left out,
        for their port is another."""
        count, quiet = Count(), self.probe.quiet * 1000
        for port in ports if len(ports) <= _ONE_BY_ONE else (0,):
            for some in sock_diag.dump(sock_diag.connection, CONNECTED, port, self._connect):
                for connection in some:
                    if (
                        connection[2] not in ports
                        or (connection[7], connection[2]) in sock_diag.OWN
                    ):
                        continue
                    verdict = judge(connection, quiet)
                    if verdict == GONE:
                        continue
                    count.total += 1
                    if verdict == TIE:
                        age = connection[6][0] if connection[6] else 0
                        count.ties.append((connection, RECENT if age < quiet else IDLE))
                    else:
                        count.add(verdict)
                        count.not_accepted += (
                            verdict == IN_FLIGHT and not connection[5] and connection[1] not in SHUT
                        )
                yield
        return count

    def _untie(self, count: Count) -> Iterator[None]:
        """Tell ties apart, from memory where nothing has moved since they were told apart, else by
        /proc/net/tcp."""
        old, self._untied = self._untied, {}
        unknown: dict[int, tuple[Connection, str]] = {}
        for done, (connection, otherwise) in enumerate(count.ties, 1):
            known = old.get(connection[5])
            if known and connection[6] and known[:2] == connection[6][2:]:
                self._untied[connection[5]] = known
                count.add(IN_FLIGHT if known[2] else otherwise)
            else:
                unknown[connection[5]] = connection, otherwise
            if not done % _SLICE:
                yield
        if not unknown:
            return
        if (count.in_flight or count.recent) and time.monotonic() - self._untied_at < _TIES_EVERY:
            count.recent += len(unknown)  # busy anyway; they are told apart a little later
            return
        self._untied_at = time.monotonic()
        try:
            pingpong = yield from self._pingpong(unknown)
        except OSError:  # each can be either; of the two mistakes only one loses work
            count.in_flight += len(unknown)
            return
        for done, (inode, (connection, otherwise)) in enumerate(unknown.items(), 1):
            if inode not in pingpong:  # closed meanwhile
                count.total -= 1
                continue
            in_flight = not pingpong[inode]
            if connection[6]:
                self._untied[inode] = (*connection[6][2:], in_flight)
            count.add(IN_FLIGHT if in_flight else otherwise)
            if not done % _SLICE:
                yield

    def _pingpong(
        self, wanted: dict[int, tuple[Connection, str]]
    ) -> Generator[None, None, dict[int, bool]]:
        """Return the pingpong bit of these sockets, by inode."""
        found: dict[int, bool] = {}
        families = {connection[0] for connection, _ in wanted.values()}
        ports = {connection[2] for connection, _ in wanted.values()}
        for lines in sock_diag.table(tuple(families), ports):
            found.update((inode, bit) for _, _, _, _, _, inode, bit, _ in lines if inode in wanted)
            if len(found) == len(wanted):
                break
            yield
        return found

    def _idle(self, count: Count) -> Reading:
        if not count.in_flight and not count.recent:
            return Reading(DRAINED, 0.0)
        why = f"{count.in_flight or 'none'} of {_many(count.total)} in flight"
        if count.not_accepted:
            why += f" ({count.not_accepted} not accepted yet)"
        if count.recent:
            why += (
                f", {count.recent} {'more' if count.in_flight else 'of them'} moved in the last "
                f"{self.probe.quiet:g} s"
            )
        return Reading(BUSY, float(count.in_flight), why)

    def _without_sock_diag(self, ports: Set[int], refused: Refused) -> Steps:
        """Count by /proc/net/tcp, which does not say when a connection last moved."""
        total = 0
        for lines in sock_diag.table(ports=ports):
            for _, state, port, _, unsent, inode, _, peer in lines:
                live = state in CONNECTED and (state not in SHUT or unsent > 1 or inode > 0)
                total += live and (peer, port) not in sock_diag.OWN
            yield
        reading = _connections(total, ports)
        if self.probe.mode == "idle" and total:
            why = (
                f"{reading.why}; /proc/net/tcp cannot tell busy ones from idle ones (sock_diag: "
                f"{refused.strerror})"
            )
            return Reading(BUSY, reading.in_flight, why)
        return reading


def _connections(total: int, ports: Set[int]) -> Reading:
    if not total:
        return Reading(DRAINED, 0.0)
    return Reading(BUSY, float(total), f"{_many(total)} on {_shown(ports)}")


def _many(count: int) -> str:
    return f"{count} connection{'' if count == 1 else 's'}"


def _shown(ports: Set[int]) -> str:
    some = sorted(ports)
    if not some:
        return ""
    more = f" and {len(some) - 8} more" if len(some) > 8 else ""
    return f"port{'' if len(some) == 1 else 's'} {', '.join(map(str, some[:8]))}{more}"
