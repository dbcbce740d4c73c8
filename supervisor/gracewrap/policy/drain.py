"""Is it drained?  What probes have said, when to ask them next, and when that is enough.  Pure.

Only DRAINED, several times in a row, shortens a wait; nothing lengthens one.  What was drained once
stays so while the endpoint cannot be reached (many close it at the end), but not when it says that
it is busy again.
"""

from __future__ import annotations

from gracewrap.policy import log_events
from gracewrap.policy.model import (
    BUSY,
    DRAINED,
    FAILED,
    INVALID,
    NOT_YET,
    UNREACHABLE,
    Ask,
    Command,
    DrainPolicy,
    Reading,
    StopAsking,
    in_words,
    put_together,
)
from gracewrap.record import Record, replace


class Probing(Record):
    """One probe while it is asked again and again."""

    asked_at: float
    next_at: float | None  # when it is to be asked next; None: it is being asked
    in_a_row: int = 0  # DRAINED readings, up to the last one
    drained: bool = False  # that was often enough
    in_flight: float | None = None  # the last number that is known
    invalid: bool = False  # that has been told
    work: str = ""  # what shows that the program may be at work although this probe says drained
    only_counts: bool = False  # it counts requests and jobs, and sees nothing else


class Drain(Record):
    """The probes of one program since *since*; *drained_at* says since when it is drained."""

    since: float
    probes: tuple[Probing, ...] = ()
    drained_at: float | None = None
    failed: bool = False  # a probe has said that asking is of no use
    work: str = ""  # drained, but it may be at work: this shows it
    free_since: float = 0.0  # when that was last so
    told_work: bool = False
    senders: int = 0  # connections whose clients go on sending
    now: float | None = None  # how many requests are, or may be, in flight
    least: float = float("inf")  # the lowest of these numbers


NONE = Drain(0.0)
# Clients that go on sending: the parts of the time after which a moment is looked for in which few
# requests are in flight, and how often (seconds).
HALF, LATE, SOON = 0.5, 0.75, 0.025
# Seconds that clients have to leave, before it is said of them that they do not.
LEAVE = 2.0
# Seconds after which an agent's answer is late: its process was at work.
LATE_ANSWER = 0.5


def begin(rules: DrainPolicy, at: float) -> Drain:
    """Return a drain whose probes are to be asked at once."""
    return Drain(at, tuple(Probing(at, at) for _ in range(rules.probes)))


def deadline(drain: Drain) -> float | None:
    """Return when a probe is to be asked next, or None."""
    return min(
        (probing.next_at for probing in drain.probes if probing.next_at is not None), default=None
    )


def tick(drain: Drain, program: int, at: float) -> tuple[Drain, tuple[Command, ...]]:
    """Ask the probes whose time has come."""
    due = [
        i
        for i, probing in enumerate(drain.probes)
        if probing.next_at is not None and at >= probing.next_at
    ]
    if not due:
        return drain, ()
    probes = tuple(
        replace(p, asked_at=at, next_at=None) if i in due else p for i, p in enumerate(drain.probes)
    )
    return replace(drain, probes=probes), tuple(Ask(program, i) for i in due)


def sampled(
    drain: Drain, program: int, rules: DrainPolicy, probe: int, reading: Reading, at: float
) -> tuple[Drain, tuple[Command, ...]]:
    """Take in one reading."""
    if drain.failed or probe >= len(drain.probes) or drain.probes[probe].next_at is not None:
        return drain, ()  # nobody has asked, or nobody asks any more: it comes too late
    before, reading = drain.probes[probe], _with_streams(drain, rules, reading, at)
    after = replace(
        _counted(drain, rules, before, reading, at),
        next_at=max(at, before.asked_at + rules.interval),
    )
    said: list[Command] = []
    if reading.kind == INVALID and not before.invalid:
        after = replace(after, invalid=True)
        said.append(log_events.ProbeInvalid(program, probe, reading.why))
    drain, kept_alive = _with_senders(drain, program, reading, at)
    said += kept_alive
    if before.only_counts and at >= before.asked_at + max(LATE_ANSWER, rules.interval):
        drain = replace(drain, free_since=at)  # its process has been busy until now
    drain = replace(drain, probes=(*drain.probes[:probe], after, *drain.probes[probe + 1 :]))
    if reading.kind == FAILED:
        return _fail(drain, program, probe, reading, said)
    drained = (all if rules.combine == "all" else any)(probing.drained for probing in drain.probes)
    if drained and drain.drained_at is None:
        said.append(log_events.Drained(program, at - drain.since))
        drain = replace(drain, drained_at=at)
    elif not drained and drain.drained_at is not None:
        said.append(log_events.Undrained(program, probe, after.in_flight, reading.why))
        drain = replace(drain, drained_at=None)
    return _with_work(drain, program, rules, at, said)


def _with_senders(
    drain: Drain, program: int, reading: Reading, at: float
) -> tuple[Drain, tuple[Command, ...]]:
    """Take in how many clients go on sending, which is told once."""
    if reading.kind not in (DRAINED, BUSY) or reading.in_flight is None:
        return replace(drain, now=None), ()
    now = reading.in_flight + reading.unsure
    senders = reading.senders if at >= drain.since + LEAVE else 0
    said = (log_events.KeptAlive(program, senders),) if senders and not drain.senders else ()
    senders = max(senders, drain.senders)
    return replace(drain, senders=senders, now=now, least=min(now, drain.least)), said


def waits_for_agent(drain: Drain) -> bool:
    """Return whether an agent that has said drained has been asked again, and has not answered yet:
    its process may be computing, or wait for a child with all else held up (execSync)."""
    return any(one.only_counts and one.drained and one.next_at is None for one in drain.probes)


def may_be_ended(drain: Drain, at: float, until: float) -> bool:
    """Return whether this is as good a moment as any to end a drain that will not come to its end
    until *until*: clients that go on sending will be there then, too.

    From half of the time on it is one without a request in flight, from three quarters on one with
    no more of them than there ever were.
    """
    if not drain.senders or drain.now is None:
        return False
    part = (at - drain.since) / max(until - drain.since, 1e-9)
    return (part >= HALF and not drain.now) or (part >= LATE and drain.now <= drain.least)


def ask_soon(drain: Drain, at: float, until: float) -> Drain:
    """Ask more often when such a moment is looked for."""
    if not drain.senders or at < drain.since + HALF * (until - drain.since):
        return drain
    probes = tuple(
        replace(p, next_at=min(p.next_at, at + SOON)) if p.next_at is not None else p
        for p in drain.probes
    )
    return replace(drain, probes=probes)


def _with_streams(drain: Drain, rules: DrainPolicy, reading: Reading, at: float) -> Reading:
    """Return what a reading says where the user says how long streams are waited for."""
    if not reading.streams or rules.streams is None:
        return reading
    is_over = at >= drain.since + rules.streams
    if reading.kind == BUSY and reading.only_streams and is_over:
        return replace(reading, kind=DRAINED)
    if reading.kind == DRAINED and not is_over:
        return replace(reading, kind=BUSY, why=in_words(reading.streams, reading.idle_streams))
    return reading


def _with_work(
    drain: Drain, program: int, rules: DrainPolicy, at: float, said: list[Command]
) -> tuple[Drain, tuple[Command, ...]]:
    """Take in what shows work although it is drained."""
    work = _work(drain, rules)
    is_news = work not in ("", NOT_YET) and not drain.told_work
    if is_news and drain.drained_at is not None and rules.linger is not None:
        said.append(log_events.MayBeAtWork(program, work))
        drain = replace(drain, told_work=True)
    free_since = at if work else drain.free_since
    return replace(drain, work=work, free_since=free_since), tuple(said)


def _work(drain: Drain, rules: DrainPolicy) -> str:
    """Return what shows work: one probe that sees none is enough.  That an agent sees none says
    nothing where another one looks; that it sees some does, where all must agree."""
    drained = [probing for probing in drain.probes if probing.drained]
    others = [one.work for one in drained if not one.only_counts]
    by_agents = [one.work for one in drained if one.only_counts]
    if others and not all(others):
        others = []
        if rules.combine == "any":
            return ""
    elif not others and not all(by_agents):
        return ""
    return put_together((*others, *by_agents))


def _counted(
    drain: Drain, rules: DrainPolicy, probing: Probing, reading: Reading, at: float
) -> Probing:
    if reading.kind == DRAINED:
        if at < drain.since + rules.min_drain:  # it counts only later, but the number is known
            return replace(probing, in_flight=0)
        in_a_row = probing.in_a_row + 1
        return replace(
            probing,
            in_a_row=in_a_row,
            drained=probing.drained or in_a_row >= rules.confirm,
            in_flight=0,
            work=reading.work,
            only_counts=reading.counts is not None,
        )
    if reading.kind == BUSY:
        return replace(probing, in_a_row=0, drained=False, in_flight=reading.in_flight, work="")
    assert reading.kind in (UNREACHABLE, INVALID, FAILED), reading.kind
    # With no agent left to ask, there may be other work.
    return replace(probing, in_a_row=0, work=reading.work if probing.only_counts else probing.work)


def _fail(
    drain: Drain, program: int, probe: int, reading: Reading, said: list[Command]
) -> tuple[Drain, tuple[Command, ...]]:
    probes = tuple(replace(probing, next_at=None) for probing in drain.probes)
    said += [
        log_events.DrainFailed(program, probe, reading.why),
        StopAsking(program),
    ]
    return replace(drain, probes=probes, drained_at=None, failed=True), tuple(said)


def stop(drain: Drain, program: int) -> tuple[Command, ...]:
    """Return what ends the asking."""
    return (StopAsking(program),) if drain.probes and not drain.failed else ()


def in_flight(drain: Drain) -> float | None:
    """Return the sum of the numbers that are known, or None if none is."""
    known = [probing.in_flight for probing in drain.probes if probing.in_flight is not None]
    return sum(known) if known else None
