"""The tcp probe: asks the kernel about the program's TCP connections.

It never connects, and needs no help from the program.

A connection is in flight when a request arrived after the last response, or when bytes are on their
way.  The kernel reports when data was last received and last sent, in jiffies, so a request that
follows the previous response at once is a tie.  The "pingpong" bit of /proc/net/tcp decides ties:
the kernel sets the bit when data is answered at once, and clears it when it has to acknowledge data
that is not answered (after 40 to 200 ms).

A client that speaks last without asking for anything looks like a request: the end of a TLS
handshake (a resumed session of TLS 1.2, or TLS 1.3 without tickets), a message on a WebSocket.
Where a thread of the program waits for more from that client, none of them works on an answer.

Not detected: a response that pauses for longer than `quiet` (streams, headers sent early,
100-continue), pipelined requests, and on a tie an upload of more than a segment or two.  Counted as
in flight although idle: a connection whose client sent last (HTTP/2, WebSocket).
"""

from __future__ import annotations

import time

from gracewrap.linux import blocked_readers, tcp_sockets
from gracewrap.linux.ports_of_program import Ports
from gracewrap.linux.procfs import SHORTAGE
from gracewrap.linux.tcp_sockets import CLOSE_WAIT, CONNECTED, JIFFY, SETTLED, SHUT, Refused
from gracewrap.policy.model import (
    BUSY,
    DRAINED,
    INVALID,
    NOT_YET,
    UNREACHABLE,
    Reading,
    in_words,
)
from gracewrap.probes.base import Probe
from gracewrap.probes.other_work import Background
from gracewrap.probes.streams import Streams, is_talk
from gracewrap.record import TYPE_CHECKING, replace

if TYPE_CHECKING:
    from collections.abc import Generator, Iterator, Set

    from gracewrap.config.probe_specs import TcpProbeSpec
    from gracewrap.linux.reactor import Reactor
    from gracewrap.linux.tcp_sockets import Connect, Connection
    from gracewrap.probes.base import OnReading

    Steps = Generator[None, None, Reading]

# The states of a connection.
IN_FLIGHT, RECENT, IDLE, TIE, GONE = "in flight", "recent", "idle", "tie", "gone"

# Seconds between reading /proc/net/tcp for ties when the reading is "busy" anyway: reading it costs
# six times as much as a dump of sock_diag.
_TIES_INTERVAL = 1.0
_SLICE = 500  # ties to process before signals are handled: half a millisecond
# Up to this many ports are queried one by one; the kernel searches its table for each.
_MAX_SINGLE_PORTS = 4

_CANNOT_FIND_PORTS = (
    "cannot find the program's ports: its processes run as another user, the network is the "
    "host's, and gracewrap lacks CAP_SYS_PTRACE; grant that, or set "
)
# drain.tcp would take the agent's place, and the jobs that it counts would be cut.
_NAME_THEM = "drain.tcp = [PORT]"
_NAME_THEM_TOO = "drain.all = [{agent = true}, {tcp = [PORT]}] in a file"


def classify(connection: Connection, quiet: float) -> str:
    """Return the state of a connection; TIE if only the pingpong bit can decide.

    A connection that is not in flight but sent or received data within the last *quiet*
    milliseconds is RECENT: a stream looks like that.
    """
    _, state, _, unread, unsent, inode, info, _ = connection
    if state in SHUT:
        # The program has shut it down.  A FIN that is not acknowledged counts as one unsent byte.
        if unsent > 1:
            return IN_FLIGHT
        return IDLE if inode else GONE
    # A received FIN counts as one byte, unread until the program has seen the end.
    fin = state == CLOSE_WAIT
    if unread > fin or unsent or info is None:
        return IN_FLIGHT
    sent, received, count, segments = info[:4]
    if count <= fin:  # no byte has ever been received
        return IDLE
    if received < sent or not segments:  # a request after the last response, or no response ever
        return IN_FLIGHT
    age = min(sent, received)
    if received - sent <= JIFFY and age >= SETTLED:
        return TIE
    return RECENT if age < max(quiet, SETTLED) else IDLE


def is_unanswered(connection: Connection, quiet: float) -> bool:
    """Return whether all that is in flight on a connection is what the client has sent last, more
    than *quiet* milliseconds ago, and the program has read it."""
    _, state, _, unread, unsent, inode, info, _ = connection
    if state in SHUT or state == CLOSE_WAIT or unread or unsent or not inode or info is None:
        return False
    return info[1] >= max(quiet, SETTLED)


class Counts:
    """The connections of one sample, counted by state."""

    __slots__ = (
        "idle_streams", "in_flight", "not_accepted", "recent", "streams", "ties", "total",
        "unanswered", "unsure",
    )  # fmt: skip

    def __init__(self) -> None:
        self.total = self.in_flight = self.recent = self.not_accepted = 0
        self.streams = self.idle_streams = 0  # those that are not in flight
        self.unsure = 0  # of the recent ones, those that may be in flight
        # Each with its state if the pingpong bit shows that it is not in flight.
        self.ties: list[tuple[Connection, str]] = []
        # Of those in flight, the inodes of those whose client spoke last, some time ago.
        self.unanswered: list[int] = []

    def add(self, state: str, connection: Connection, quiet: float) -> None:
        """Count one connection that is not a tie, or not any more."""
        self.in_flight += state == IN_FLIGHT
        if state == IN_FLIGHT and is_unanswered(connection, quiet):
            self.unanswered.append(connection[5])
        self.recent += state == RECENT
        info = connection[6]
        if state == RECENT and info is not None and info[1] - info[0] <= JIFFY:
            self.unsure += 1


class TcpProbe(Probe):
    """Counts connections.

    gracewrap's own connections to the program (sock_diag.is_own()) do not count.  Connections that
    sent or received data within `quiet` keep the program busy too, but are not part of a reading's
    in_flight.

    With *needs_port* it is a mistake if the program listens on none.  Beside an agent it is not: a
    worker may well listen on none, and a server on a unix socket.  If both must agree
    (*agent_decides*) this one agrees then, but does not know whether the program is at work.
    """

    def __init__(
        self,
        spec: TcpProbeSpec,
        reactor: Reactor,
        ports: Ports,
        connect: Connect = tcp_sockets.connect,
        needs_port: bool = True,
        agent_decides: bool = False,
    ) -> None:
        self.spec, self.reactor, self.ports = spec, reactor, ports
        self._connect, self._needs_port = connect, needs_port
        self._agent_decides = agent_decides
        self._streams = Streams()
        self._background = Background(ports, spec.quiet, spec.outgoing == "quiet", connect)
        self._steps: Iterator[None] | None = None
        # Ties decided earlier: inode -> bytes received and segments sent then, and in flight.
        self._decided: dict[int, tuple[int, int, bool]] = {}
        self._decided_at = float("-inf")

    def sample(self, on_reading: OnReading) -> None:
        """Take one sample."""
        self.cancel()
        self._steps = self._run(on_reading)
        self.reactor.run_in_slices(self._steps)

    def cancel(self) -> None:
        """Abort the sample in progress, if any."""
        steps, self._steps = self._steps, None
        if steps is not None:
            steps.close()  # type: ignore[attr-defined]

    def _run(self, on_reading: OnReading) -> Iterator[None]:
        try:
            if self.spec.mode != "listening":
                self._background.watch()
            reading = yield from self._sample()
            if reading.kind == DRAINED and not reading.work and self.spec.mode != "listening":
                reading = yield from self._with_background(reading)
        except OSError as error:  # neither sock_diag nor /proc works: no descriptor, no memory
            why = f"cannot query the kernel's connections: {error.strerror or error}"
            reading = Reading(UNREACHABLE, None, why, asked=error.errno not in SHORTAGE)
        self._steps = None
        on_reading(reading)

    def _sample(self) -> Steps:
        spec, found = self.spec, self.ports
        if not spec.ports or spec.mode in ("listening", "listener-closed"):
            yield from found.steps()
        ports = frozenset(spec.ports) or found.known
        listening = ports & (found.everyone if spec.ports else found.open)
        if not ports and found.blind:
            cure = _NAME_THEM if self._needs_port else _NAME_THEM_TOO
            return Reading(INVALID, None, _CANNOT_FIND_PORTS + cure)
        if spec.mode == "listening":
            return self._listening(ports, listening)
        if not ports:
            if self._agent_decides:
                return Reading(DRAINED, work=NOT_YET)
            why = "the program listens on no TCP port"
            if not self._needs_port:
                return Reading(BUSY, None, why)
            return Reading(INVALID, None, f"{why}; if it will later, set drain.tcp = [PORT]")
        if spec.mode == "listener-closed":
            if listening:
                return Reading(BUSY, None, f"the program still listens on {_shown(listening)}")
            return Reading(DRAINED)
        try:
            counts = yield from self._count(ports)
        except Refused as error:
            return (yield from self._without_sock_diag(ports, error))
        if spec.mode == "no-connections":
            return _by_total(counts.total, ports)
        yield from self._decide_ties(counts)
        if counts.unanswered:
            blocked = yield from blocked_readers.find(self.ports.pids())
            counts.in_flight -= len(blocked.intersection(counts.unanswered))
        return self._by_activity(counts)

    def _with_background(self, reading: Reading) -> Steps:
        """Add to a reading what else shows work, and what is still open."""
        counted = frozenset(self.spec.ports) or self.ports.known
        if self.spec.ports:
            yield from self.ports.steps()  # what it listens on besides
        seen = yield from self._background.look(counted)
        still_open = [reading.open, f"connections to {seen.open}" if seen.open else ""]
        return replace(reading, work=seen.work, open="; ".join(filter(None, still_open)))

    def _listening(self, ports: Set[int], listening: Set[int]) -> Reading:
        """Return the reading of mode "listening".

        All configured ports must be open.  Of ports that were found, one is enough.
        """
        missing = ports - listening if self.spec.ports or not listening else frozenset()
        if missing:
            why = f"nothing listens on {_shown(missing)} yet"
            others = self.ports.open - ports  # most often it is another number in the settings
            why += f"; the program listens on {_shown(others)}" if others else ""
            return Reading(BUSY, None, why)
        if not ports:
            return Reading(BUSY, None, "the program listens on no port yet")
        return Reading(DRAINED)

    def _count(self, ports: Set[int]) -> Generator[None, None, Counts]:
        """Count all connections except our own.

        The client's end of a local connection is not counted: it has another local port.
        """
        counts, quiet = Counts(), self.spec.quiet * 1000
        self._streams.begin()
        for port in ports if len(ports) <= _MAX_SINGLE_PORTS else (0,):
            for batch in tcp_sockets.dump(tcp_sockets.connection, CONNECTED, port, self._connect):
                for connection in batch:
                    _, tcp_state, local_port, _, _, inode, info, peer_port = connection
                    if local_port not in ports:
                        continue
                    if tcp_sockets.is_own(peer_port, local_port, tcp_state):
                        continue
                    state = classify(connection, quiet)
                    if state == GONE:
                        continue
                    counts.total += 1
                    is_stream, talk = self._streams.is_one(connection), is_talk(connection)
                    # Who spoke last is no question where the program goes on sending by itself.
                    if (state == TIE and (is_stream or talk)) or (
                        state == IN_FLIGHT and talk and is_unanswered(connection, quiet)
                    ):
                        state = RECENT if info and min(info[:2]) < quiet else IDLE
                    if is_stream and state in (RECENT, IDLE):
                        counts.streams += 1
                        counts.idle_streams += state == IDLE
                    elif state == TIE:
                        age = info[0] if info else 0
                        counts.ties.append((connection, RECENT if age < quiet else IDLE))
                    else:
                        counts.add(state, connection, quiet)
                        counts.not_accepted += (
                            state == IN_FLIGHT and not inode and tcp_state not in SHUT
                        )
                yield
        return counts

    def _decide_ties(self, counts: Counts) -> Iterator[None]:
        """Add the ties to the counts, by earlier decisions if nothing has moved since, else by
        /proc/net/tcp."""
        earlier, self._decided = self._decided, {}
        quiet = self.spec.quiet * 1000
        undecided: dict[int, tuple[Connection, str]] = {}
        for done, (connection, otherwise) in enumerate(counts.ties, 1):
            known = earlier.get(connection[5])
            if known and connection[6] and known[:2] == connection[6][2:4]:
                self._decided[connection[5]] = known
                counts.add(IN_FLIGHT if known[2] else otherwise, connection, quiet)
            else:
                undecided[connection[5]] = connection, otherwise
            if not done % _SLICE:
                yield
        if not undecided:
            return
        now = time.monotonic()
        if (counts.in_flight or counts.recent) and now - self._decided_at < _TIES_INTERVAL:
            counts.recent += len(undecided)  # busy anyway; a later sample decides them
            counts.unsure += len(undecided)
            return
        self._decided_at = now
        try:
            pingpong = yield from self._pingpong(undecided)
        except OSError:  # unknown: counting an idle connection as busy loses no work
            for connection, _ in undecided.values():
                counts.add(IN_FLIGHT, connection, quiet)
            return
        for done, (inode, (connection, otherwise)) in enumerate(undecided.items(), 1):
            if inode not in pingpong:  # closed meanwhile
                counts.total -= 1
                continue
            in_flight = not pingpong[inode]
            if connection[6]:
                self._decided[inode] = (*connection[6][2:4], in_flight)
            counts.add(IN_FLIGHT if in_flight else otherwise, connection, quiet)
            if not done % _SLICE:
                yield

    def _pingpong(
        self, wanted: dict[int, tuple[Connection, str]]
    ) -> Generator[None, None, dict[int, bool]]:
        """Return the pingpong bit of these sockets, by inode."""
        found: dict[int, bool] = {}
        families = {connection[0] for connection, _ in wanted.values()}
        ports = {connection[2] for connection, _ in wanted.values()}
        for lines in tcp_sockets.table(tuple(families), ports):
            found.update((inode, bit) for _, _, _, _, _, inode, bit, _ in lines if inode in wanted)
            if len(found) == len(wanted):
                break
            yield
        return found

    def _by_activity(self, counts: Counts) -> Reading:
        """Return the reading of mode "idle"."""
        streams, idle = counts.streams, counts.idle_streams
        reading = Reading(
            DRAINED, 0.0, streams=streams, idle_streams=idle, senders=self._streams.senders,
            unsure=counts.unsure, not_accepted=counts.not_accepted,
        )  # fmt: skip
        others = counts.total - streams
        if not counts.in_flight and not counts.recent:
            still_open = [f"{_connections(others)} of clients, idle" if others else ""]
            still_open += [f"{in_words(streams, idle)}" if streams else ""]
            reading = replace(reading, open=", ".join(filter(None, still_open)))
            if streams == idle:
                return reading
            return replace(reading, kind=BUSY, only_streams=True, why=in_words(streams, idle))
        why = f"{counts.in_flight or 'none'} of {_connections(others)} in flight"
        if counts.not_accepted:
            why += f" ({counts.not_accepted} not accepted yet)"
        if counts.recent:
            of_them = "more" if counts.in_flight else "of them"
            why += f", {counts.recent} {of_them} active in the last {self.spec.quiet:g} s"
        why += f", {in_words(streams, idle)}" if streams else ""
        return replace(reading, kind=BUSY, in_flight=float(counts.in_flight), why=why)

    def _without_sock_diag(self, ports: Set[int], refused: Refused) -> Steps:
        """Count by /proc/net/tcp, which does not tell when a connection was last active."""
        total = 0
        for lines in tcp_sockets.table(ports=ports):
            for _, state, port, _, unsent, inode, _, peer in lines:
                live = state in CONNECTED and (state not in SHUT or unsent > 1 or inode > 0)
                total += live and not tcp_sockets.is_own(peer, port, state)
            yield
        reading = _by_total(total, ports)
        if self.spec.mode == "idle" and total:
            why = (
                f"{reading.why}; /proc/net/tcp does not show which are idle (sock_diag: "
                f"{refused.strerror})"
            )
            return Reading(BUSY, reading.in_flight, why)
        return reading


def _by_total(total: int, ports: Set[int]) -> Reading:
    """Return the reading of mode "no-connections"."""
    if not total:
        return Reading(DRAINED, 0.0)
    return Reading(BUSY, float(total), f"{_connections(total)} on {_shown(ports)}")


def _connections(count: int) -> str:
    return f"{count} connection{'' if count == 1 else 's'}"


def _shown(ports: Set[int]) -> str:
    """Return "port 80", or "ports 80, 443" with at most eight of them."""
    numbers = sorted(ports)
    more = f" and {len(numbers) - 8} more" if len(numbers) > 8 else ""
    return f"port{'' if len(numbers) == 1 else 's'} {', '.join(map(str, numbers[:8]))}{more}"
