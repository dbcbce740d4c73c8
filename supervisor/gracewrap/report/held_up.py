"""What held a program up, in words and for the report."""

from __future__ import annotations

from gracewrap.policy import held_up_evidence as seen
from gracewrap.record import TYPE_CHECKING, Record
from gracewrap.report.wording import seconds

if TYPE_CHECKING:
    from collections.abc import Sequence

    from gracewrap.policy.held_up_evidence import Cause, Evidence, Link, Suspect

# What listens on these ports by custom (iana.org/assignments/service-names-port-numbers, and the
# products' own documentation).
_SERVICES = {
    1433: "SQL Server", 1521: "Oracle", 2181: "ZooKeeper", 3306: "MySQL", 4222: "NATS",
    5432: "PostgreSQL", 5672: "RabbitMQ", 6379: "Redis", 6432: "PgBouncer", 9042: "Cassandra",
    9092: "Kafka", 9200: "Elasticsearch", 11211: "memcached", 26257: "CockroachDB",
    27017: "MongoDB",
}  # fmt: skip
_MOST_HOSTS = 3


class HeldUp(Record):
    """What one look has shown, *at* seconds after the stop began."""

    moment: str
    at: float
    cause: Cause
    evidence: Evidence


def sentence(cause: Cause, signal: str) -> str:
    """Return what holds a program up, for people: "held up by 1 connection from 10.0.3.7, kept
    alive, idle 41 s"; *signal*: the name of what it was sent."""
    if cause.links:
        return f"held up by {_links(cause)}"
    if cause.work:
        return f"held up by work in flight: {cause.work}"
    who = _who(cause.suspect)
    on = cause.waits_for.on if cause.waits_for is not None else ""
    match cause.kind:
        case seen.STOPPED:
            why = f"{who} is stopped (SIGSTOP, SIGTSTP) and does not run"
        case seen.TRACED:
            why = f"{who} is stopped by a debugger"
        case seen.FROZEN:
            why = f"{who} is frozen by its cgroup (docker pause, a freezer) and does not run"
        case seen.DISK:
            place = cause.waits_for.wchan if cause.waits_for is not None else ""
            why = (
                f"{who} waits in the kernel{f' ({place})' if place else ''} for a disk, NFS or FUSE"
            )
        case seen.BLOCKED:
            why = f"{who} blocks {signal}, which is still pending"
        case seen.IGNORED:
            why = f"{who} ignores {signal}{_waited_for(cause)}"
        case seen.NOT_TOLD:
            parent = _who(cause.parent)
            why = f"{who} has not been sent {signal}: {parent} has not passed it on"
        case seen.WAITS_FOR_FILE:
            why = f"{who} {_file(cause)}"
        case seen.FULL_PIPE:
            why = f"{who} cannot write to {on or 'a pipe'}: it is full, and nothing reads it"
        case seen.LOCKED:
            why = _locked(cause, who)
        case seen.BUSY:
            why = f"{who} is computing"
        case seen.INPUT:
            why = f"{who} {_input(cause, on)}"
        case seen.TIMER:
            why = f"{who} sleeps with no TCP connection open: {_event(cause.suspect)}"
        case seen.CHILDREN:
            why = f"{who} waits for its children"
        case _:
            return f"cannot see what holds {who} up"
    return f"held up: {why}"


def _who(suspect: Suspect | None) -> str:
    return "it" if suspect is None else f"{suspect.name} (pid {suspect.pid})"


def _event(suspect: Suspect | None) -> str:
    timer = "a timer, its children," if suspect is not None and suspect.children else "a timer,"
    return f"{timer} or an event that never comes"


def _waited_for(cause: Cause) -> str:
    return "" if cause.parent is None else f"; its parent is {_who(cause.parent)}"


def _file(cause: Cause) -> str:
    assert cause.waits_for is not None
    on = cause.waits_for.on
    match cause.waits_for.what:
        case seen.FILE_LOCK:
            return f"waits for a lock on {on or 'a file'} that another process holds"
        case seen.OPEN:
            return f"waits in open() of {on or 'a file'}: a FIFO without its other end, or a disk"
        case _:
            return f"waits until {on or 'a file'} is on the disk (fsync)"


def _input(cause: Cause, on: str) -> str:
    match cause.waits_for.what if cause.waits_for is not None else "":
        case seen.ACCEPT:
            return "still waits for new connections (accept)"
        case seen.CONNECT:
            return "waits for a connection that it is opening (connect)"
        case _:
            return f"waits for data from {on or 'an unknown source'}"


def _locked(cause: Cause, who: str) -> str:
    count = 0 if cause.suspect is None else cause.suspect.threads
    timers = cause.waits_for is not None and cause.waits_for.timed
    what = "locks or timers" if timers else "locks"
    if count == 1:
        return f"{who} waits for {'a lock or a timer' if timers else 'a lock'} (futex)"
    return (
        f"all {count} threads of {who} wait for {what} (futex): a deadlock, or nothing wakes them"
    )


def _links(cause: Cause) -> str:
    links = cause.links
    count = f"{len(links)} connection{'' if len(links) == 1 else 's'}"
    idle = _idle(links) + _whose(links)
    match cause.kind:
        case seen.IN_FLIGHT:
            return f"{count} from {_hosts(links)}, in flight: {_in_flight(links)}{idle}"
        case seen.IDLE:
            silent = all(link.last == seen.NOBODY for link in links)
            kept = "never used" if silent else "kept alive"
            return f"{count} from {_hosts(links)}, {kept}{idle}"
        case _:
            return f"{count} of its own to {_services(links)}{idle}"


def _in_flight(links: Sequence[Link]) -> str:
    if any(link.unsent for link in links):
        return f"{sum(link.unsent for link in links)} bytes are not yet received by the client"
    if any(link.read for link in links):
        return "it waits for the rest of the client's request"
    if any(link.unread for link in links):
        return f"{sum(link.unread for link in links)} bytes are not yet read by the program"
    return "the client sent last"


def _idle(links: Sequence[Link]) -> str:
    times = [link.idle for link in links if link.idle is not None]
    if not times:
        return ""
    least, most = _about(min(times)), _about(max(times))
    return f", idle {least}" if least == most else f", idle {least} to {most}"


def _about(time: float) -> str:
    return seconds(round(time, 0 if time >= 10 else 1))


def _whose(links: Sequence[Link]) -> str:
    users = sorted({link.user for link in links if link.user is not None})
    if not users:
        return ""
    of = f"user{'' if len(users) == 1 else 's'} {', '.join(map(str, users))}"
    return f" (counted for all processes of {of}: gracewrap may not see which of them)"


def _hosts(links: Sequence[Link]) -> str:
    hosts = list(dict.fromkeys(link.host or "an unknown host" for link in links))
    more = f" and {len(hosts) - _MOST_HOSTS} more" if len(hosts) > _MOST_HOSTS else ""
    return ", ".join(hosts[:_MOST_HOSTS]) + more


def _services(links: Sequence[Link]) -> str:
    found = list(dict.fromkeys(map(_service, links)))
    more = f" and {len(found) - _MOST_HOSTS} more" if len(found) > _MOST_HOSTS else ""
    return ", ".join(found[:_MOST_HOSTS]) + more


def _service(link: Link) -> str:
    known = _SERVICES.get(link.port)
    return f"{link.peer}{f' ({known})' if known else ''}"


def last_sentence(looks: Sequence[HeldUp], sent: Sequence[str]) -> str:
    """Return what the last look has shown, for people; *sent*: the signals that the program was
    sent."""
    return sentence(looks[-1].cause, _signal(sent)) if looks else ""


def _signal(sent: Sequence[str]) -> str:
    return sent[0] if sent else "the stop signal"


# --- the report ----------------------------------------------------------------------------------


def entries(looks: Sequence[HeldUp], sent: Sequence[str]) -> dict[str, object]:
    """Return what held a program up, for the report; nothing if there was no look."""
    if not looks:
        return {}
    signal = _signal(sent)
    return {
        "held_up": last_sentence(looks, sent),
        "flight_record": [_entry(one, signal) for one in looks],
    }


def _entry(one: HeldUp, signal: str) -> dict[str, object]:
    """Return what one look has shown, for the report."""
    found = one.evidence
    return {
        "moment": one.moment,
        "at": round(one.at, 6),
        "kind": one.cause.kind,
        "cause": sentence(one.cause, signal),
        "processes": [_process(suspect) for suspect in found.suspects],
        "processes_total": found.processes,
        "listens": list(found.listens),
        "connections": [_connection(link) for link in found.links],
        "connections_total": found.connections,
        "last_lines": {stream: list(lines) for stream, lines in found.lines.items() if lines},
        "complete": found.complete,
        "took_seconds": round(found.took, 6),
    }


def _process(suspect: Suspect) -> dict[str, object]:
    return {
        "pid": suspect.pid,
        "parent": suspect.parent,
        "name": suspect.name,
        "command": suspect.command,
        "state": suspect.state,
        "threads": suspect.threads,
        "children": suspect.children,
        "stop_signal": "pending" if suspect.pending else suspect.takes,
        "signalled": suspect.signalled,
        "cpu_seconds": suspect.cpu,
        "waits": [
            {
                "threads": wait.threads,
                "state": wait.state,
                "for": wait.what or None,
                "on": wait.on or None,
                "wchan": wait.wchan or None,
            }
            for wait in suspect.waits
        ],
    }


def _connection(link: Link) -> dict[str, object]:
    return {
        "local": link.here,
        "peer": link.peer,
        "opened_by": _OPENED[link.accepted],
        "spoke_last": link.last,
        "idle_seconds": link.idle,
        "unsent": link.unsent,
        "unread": link.unread,
    }


_OPENED = {True: "client", False: "program", None: None}
