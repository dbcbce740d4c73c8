"""What is to be seen of a program whose stop takes long, and what may hold it up."""

from __future__ import annotations

from gracewrap.record import TYPE_CHECKING, Record

if TYPE_CHECKING:
    from collections.abc import Mapping

# What a thread waits for.
LOCK, CHILD, SLEEP, EVENTS, SIGNAL = "lock", "child", "sleep", "events", "signal"
READ, WRITE, ACCEPT, CONNECT = "read", "write", "accept", "connect"
FILE_LOCK, OPEN, SYNC = "file lock", "open", "sync"
OTHER = ""  # it is not known, or it waits for nothing
# Who has spoken last on a connection.
PEER, PROGRAM, NOBODY, UNKNOWN = "peer", "program", "nobody", "unknown"


class Wait(Record):
    """What one thread or more of a process wait for.

    Attributes:
        state: The letter of proc(5): R, S, D, T, t, Z.
        what: LOCK, READ ...; OTHER.
        on: The file, pipe or socket: "pipe:[123]", "/data/lock"; "": none, or not known.
        timed: It ends by itself after a time.
        wchan: The function of the kernel in which it sleeps; "": not known.
        threads: How many they are.
    """

    state: str
    what: str = OTHER
    on: str = ""
    timed: bool = False
    wchan: str = ""
    threads: int = 1


class Suspect(Record):
    """One process of a program whose stop takes long.

    Attributes:
        pid: Its number.
        started: When, in clock ticks after boot.
        parent: Its parent's number.
        name: Its name in the kernel.
        command: Its command line, shortened.
        state: The letter of proc(5) of its main thread.
        threads: How many it has.
        children: How many it has.
        waits: What its threads wait for.
        takes: What it does on the stop signal: as model.Process has it.
        pending: The stop signal waits for it, for it blocks it.
        signalled: gracewrap has sent it the stop signal.
        forked: It runs the program of its parent, as prefork workers do.
        listens: It has a socket that listens.
        busy: It was running each time it was looked at.
        cpu: Seconds of CPU time that it has used.
        dumps: It has a handler for the signal that makes it write what it is doing.
        ends: Its runtime (Go) ends it when it has written that.
    """

    pid: int
    started: int
    parent: int
    name: str
    command: str = ""
    state: str = "S"
    threads: int = 1
    children: int = 0
    waits: tuple[Wait, ...] = ()
    takes: str = "catches"
    pending: bool = False
    signalled: bool = False
    forked: bool = False
    listens: bool = False
    busy: bool = False
    cpu: float = 0.0
    dumps: bool = False
    ends: bool = False

    @property
    def id(self) -> tuple[int, int]:
        return self.pid, self.started


class Link(Record):
    """One connection of a program.

    Attributes:
        here: Address and port of this end.
        host: The peer's address.
        port: The peer's port.
        accepted: A client has opened it; False: the program has; None: not known.
        last: Who has spoken last: PEER, PROGRAM, NOBODY or UNKNOWN.
        idle: Seconds since the last byte, or since it was opened; None: not known.
        unsent: Bytes that the peer has not acknowledged.
        unread: Bytes that the program has not read.
        read: A thread of the program is blocked in reading from it.
        inode: Of its socket.
        user: Whose it is, where nothing more is known: of any process of this user.  None: it is
            the program's.
    """

    here: str
    host: str
    port: int
    accepted: bool | None = None
    last: str = UNKNOWN
    idle: float | None = None
    unsent: int = 0
    unread: int = 0
    read: bool = False
    inode: int = 0
    user: int | None = None

    @property
    def peer(self) -> str:
        """The peer's address and port, for people."""
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"

    @property
    def in_flight(self) -> bool:
        """Whether an answer is due on it, or bytes are on their way."""
        return bool(self.unsent or self.unread) or self.last == PEER


class Evidence(Record):
    """What was seen in one look.

    Attributes:
        suspects: The processes, parents before their children; there may be more.
        processes: How many there are.
        links: The connections, those in flight first; there may be more.
        connections: How many there are.
        listens: Where it listens: "0.0.0.0:8080".
        lines: The last lines that it wrote, of each stream, if gracewrap reads them.
        work: What it, or its agent, says is in flight, for people: "3 jobs of mails (4, 5, 6)".
        complete: The look was not cut short.
        took: Seconds.
    """

    suspects: tuple[Suspect, ...] = ()
    processes: int = 0
    links: tuple[Link, ...] = ()
    connections: int = 0
    listens: tuple[str, ...] = ()
    lines: Mapping[str, tuple[str, ...]] = {}
    complete: bool = True
    took: float = 0.0
    work: str = ""


# The kinds of causes; machines read them in log and report: they never change.
STOPPED, TRACED, FROZEN = "stopped", "traced", "frozen"
DISK, BLOCKED = "disk", "signal_blocked"
IGNORED, NOT_TOLD, WAITS_FOR_FILE, FULL_PIPE = "signal_ignored", "not_told", "file", "full_pipe"
LOCKED, BUSY, IN_FLIGHT, IDLE, OUTGOING = "lock", "busy", "in_flight", "kept_alive", "outgoing"
INPUT, TIMER, CHILDREN, NOT_KNOWN = "input", "timer", "child", "unknown"
WORK = "work"


class Cause(Record):
    """What holds a program up most likely: *kind*, the process, what it waits for, the
    connections, or what it works on."""

    kind: str
    suspect: Suspect | None = None
    waits_for: Wait | None = None
    links: tuple[Link, ...] = ()
    parent: Suspect | None = None  # that waits for it
    work: str = ""  # as Evidence has it
