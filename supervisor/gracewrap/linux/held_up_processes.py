"""What there is to see of a program whose stop takes long: its processes, what they wait for, its
connections.

Everything is read from /proc, and by one dump of sock_diag; nothing is asked of the program, and
nothing waits.
"""

from __future__ import annotations

import time

from gracewrap.linux import process_facts, process_tree, tcp_sockets, thread_waits
from gracewrap.linux.ports_of_program import sockets
from gracewrap.linux.procfs import read_file
from gracewrap.linux.signals import SIGQUIT
from gracewrap.linux.tcp_sockets import (
    AF_INET,
    AF_INET6,
    CLOSE_WAIT,
    CONNECTED,
    JIFFY,
    LISTEN,
    SETTLED,
    SYN_SENT,
)
from gracewrap.policy import held_up_evidence
from gracewrap.policy.held_up_evidence import Evidence, Link, Suspect
from gracewrap.record import TYPE_CHECKING, replace

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence, Set

    from gracewrap.linux.tcp_sockets import Connect, Info, Socket

MOST = 24  # processes that are looked at
MOST_LINKS = 20  # connections that are told one by one
_MOST_TIES = 300  # of which it is found out who has spoken last: half a millisecond for 50
_SLICE = 50
_LONGEST = 120  # characters of a command line
# Where local ports are given out by the kernel.
_OWN_PORTS = "/proc/sys/net/ipv4/ip_local_port_range"


class Look:
    """One look at a program.

    Args:
        members: Its processes, parents before their children.
        signum: The stop signal.
        signalled: Who has been sent it by gracewrap, by pid and start time.
        dump: The signal that makes it write what it is doing; 0: none.
        connect: Where the kernel is asked.
    """

    def __init__(
        self,
        members: Sequence[process_tree.Member],
        signum: int,
        signalled: Set[tuple[int, int]],
        dump: int = 0,
        connect: Connect = tcp_sockets.connect,
    ) -> None:
        self._members, self._signum, self._signalled = members, signum, signalled
        self._dump, self._connect = dump, connect
        self._began = time.monotonic()
        self._suspects: list[Suspect] = []
        self._links: list[Link] = []
        self._ties: dict[int, Link] = {}
        self._listens: list[str] = []
        self._owners: dict[int, int] = {}  # inode of a socket -> pid
        self._users: set[int] = set()  # of processes whose descriptors cannot be read
        self._read: set[str] | None = None  # what threads wait to read from
        self._complete = False

    def steps(self) -> Iterator[None]:
        """Look, a step at a time, each of some 2 ms at most."""
        for member in self._members[:MOST]:
            yield from self._process(member)
        for suspect in list(self._suspects):
            yield from self._sockets(suspect.pid)
        if self._owners or self._users:
            yield from self._connections()
        yield from self._settle_ties()
        for suspect in list(self._suspects):
            if suspect.state == "R" and process_tree.state(suspect.pid) == "R":
                self._replace(suspect, replace(suspect, busy=True))
        self._complete = True

    def evidence(self, lines: Mapping[str, tuple[str, ...]]) -> Evidence:
        """Return what has been seen so far; *lines*: the last ones that it wrote."""
        links = sorted(
            (*self._links, *self._ties.values()),
            key=lambda link: (not link.in_flight, -(link.idle or 0.0)),
        )
        return Evidence(
            tuple(self._suspects),
            len(self._members),
            tuple(links[:MOST_LINKS]),
            len(links),
            tuple(sorted(set(self._listens))),
            lines,
            self._complete,
            time.monotonic() - self._began,
        )

    def _process(self, member: process_tree.Member) -> Iterator[None]:
        known = process_facts.look([member], self._signum, sockets=False)
        seen = process_tree.looks([member])
        if not known or not seen:
            return  # it is gone
        fact = known[0]
        found = yield from thread_waits.of(member.pid)
        fields = process_tree.stat(member.pid)[1]
        dumps, ends = _handles(member.pid, self._dump)
        self._suspects.append(
            Suspect(
                member.pid,
                member.started,
                fact.parent,
                member.name,
                _command(member.pid),
                seen[0].state,
                int(fields[17]) if fields else 1,
                len(process_tree.children(member.pid)),
                found,
                takes=fact.takes,
                pending=fact.pending,
                signalled=fact.id in self._signalled,
                forked=fact.forked,
                cpu=round(seen[0].cpu, 2),
                dumps=dumps,
                ends=ends,
            )
        )
        yield

    def _sockets(self, pid: int) -> Iterator[None]:
        try:
            for inode in sockets(pid):
                if inode:
                    self._owners.setdefault(inode, pid)
                else:
                    yield
        except PermissionError:
            user = process_tree.user_of(pid)
            self._users |= set() if user is None else {user}
        except OSError:  # it is gone
            pass
        yield

    def _connections(self) -> Iterator[None]:
        states = CONNECTED | {LISTEN, SYN_SENT}
        try:
            for batch in tcp_sockets.dump(tcp_sockets.whole, states, connect=self._connect):
                for socket in batch:
                    self._take(socket)
                yield
        except OSError:
            yield from self._by_table()
        ours = {link.here for link in self._links} | {one.here for one in self._ties.values()}
        # Of a connection within the program one end is enough.
        self._links = [link for link in self._links if not _is_inner(link, ours)]
        self._ties = {key: one for key, one in self._ties.items() if not _is_inner(one, ours)}

    def _take(self, socket: Socket) -> None:
        state, inode, uid, here, there, unread, unsent, info, opened = socket
        if not (inode in self._owners or (uid in self._users and inode)):
            return
        if state == LISTEN:
            self._listens.append(tcp_sockets.shown(here))
            self._listens_at(inode)
            return
        if tcp_sockets.is_own(there[1], here[1], state):
            return
        last = _last(state, info)
        fin = state == CLOSE_WAIT
        accepted = _is_given_out(here[1], there[1]) if opened is None else not opened
        link = Link(
            tcp_sockets.shown(here), tcp_sockets.host(there), there[1],
            accepted,
            held_up_evidence.UNKNOWN if last == _TIE else last,
            None if info is None else min(info[:2]) / 1000,
            unsent, max(0, unread - fin),
            self._is_read(inode), inode, None if inode in self._owners else uid,
        )  # fmt: skip
        if last == _TIE and not (unsent or unread) and len(self._ties) < _MOST_TIES:
            self._ties[inode] = link
        else:
            self._links.append(link)

    def _listens_at(self, inode: int) -> None:
        for suspect in list(self._suspects):
            if suspect.pid == self._owners.get(inode):
                self._replace(suspect, replace(suspect, listens=True))

    def _replace(self, suspect: Suspect, by: Suspect) -> None:
        self._suspects[self._suspects.index(suspect)] = by

    def _is_read(self, inode: int) -> bool:
        """Return whether a thread waits to read from a socket."""
        if self._read is None:
            self._read = {
                wait.on
                for suspect in self._suspects
                for wait in suspect.waits
                if wait.what == held_up_evidence.READ
            }
        on = f"socket:[{inode}]"
        return bool(self._read) and any(on in read for read in self._read)

    def _by_table(self) -> Iterator[None]:
        """Take what /proc/net/tcp tells, where sock_diag is refused: neither addresses nor
        ages."""
        self._links, self._ties, self._listens = [], {}, []
        try:
            for lines in tcp_sockets.table():
                for _, state, port, unread, unsent, inode, _, peer in lines:
                    if inode in self._owners and state == LISTEN:
                        self._listens.append(f":{port}")
                        self._listens_at(inode)
                    elif inode in self._owners and state in CONNECTED:
                        link = Link(f":{port}", "", peer, _is_given_out(port, peer), inode=inode)
                        read = self._is_read(inode)
                        link = replace(link, unsent=unsent, unread=unread, read=read)
                        self._links.append(link)
                yield
        except OSError:
            pass  # then nothing is known of its connections

    def _settle_ties(self) -> Iterator[None]:
        """Find out who has spoken last where both have within a jiffy."""
        if not self._ties:
            return
        ports = frozenset(int(link.here.rpartition(":")[2]) for link in self._ties.values())
        try:
            for lines in tcp_sockets.table((AF_INET, AF_INET6), ports):
                found = [(inode, answered) for *_, inode, answered, _ in lines]
                found = [one for one in found if one[0] in self._ties]
                for count, (inode, answered) in enumerate(found, 1):
                    last = held_up_evidence.PROGRAM if answered else held_up_evidence.PEER
                    link = self._ties.pop(inode, None)
                    if link is not None:  # the table may tell one twice while it changes
                        self._links.append(replace(link, last=last))
                    if not count % _SLICE:
                        yield
                if not self._ties:
                    return
                yield
        except OSError:
            pass


_TIE = "tie"


def _last(state: int, info: Info | None) -> str:
    """Return who has spoken last on a connection."""
    if info is None:
        return held_up_evidence.UNKNOWN
    sent, received, count, segments, _ = info
    heard = count > (state == CLOSE_WAIT)  # a received FIN counts as one byte
    if not heard:
        return held_up_evidence.PROGRAM if segments > 0 else held_up_evidence.NOBODY
    if received < sent or not segments:
        return held_up_evidence.PEER
    return _TIE if received - sent <= JIFFY and sent >= SETTLED else held_up_evidence.PROGRAM


def _is_given_out(here: int, there: int) -> bool | None:
    """Return whether a client has opened a connection, from the ports: who opens one is given its
    own by the kernel.  None: both look so, or neither."""
    bounds = read_file(_OWN_PORTS).split()
    if len(bounds) < 2:
        return None
    low, high = int(bounds[0]), int(bounds[1])
    ours, theirs = low <= here <= high, low <= there <= high
    return None if ours == theirs else theirs


def _is_inner(link: Link, ours: Set[str]) -> bool:
    return link.accepted is False and link.peer in ours


def _command(pid: int) -> str:
    """Return a process's command line, without users and passwords in URLs."""
    words = read_file(f"/proc/{pid}/cmdline").decode(errors="replace").split("\0")[:-1]
    shown = " ".join(words[:1] + [_concealed(word) for word in words[1:]])
    return shown if len(shown) <= _LONGEST else shown[: _LONGEST - 3] + "..."


def _handles(pid: int, signum: int) -> tuple[bool, bool]:
    """Return whether a process has a handler for a signal, and whether that ends it: the runtime of
    Go ends on SIGQUIT when it has written all stacks (os/signal, "Default behavior of signals").
    """
    if not signum:
        return False, False
    caught = process_facts.caught(pid)
    return process_facts.has(caught, signum), signum == SIGQUIT and _is_go(caught)


def _is_go(caught: int) -> bool:
    """Return whether a process is of Go, by the signals that it catches: no other runtime catches
    all of the real-time signals (runtime/sigtab_linux_generic.go)."""
    return caught >> 34 == (1 << 30) - 1


def _concealed(word: str) -> str:
    scheme, mark, rest = word.partition("://")
    return f"{scheme}://...@{rest.rpartition('@')[2]}" if mark and "@" in rest else word
