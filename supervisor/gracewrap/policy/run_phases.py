"""All programs under one budget: from the stop request to the exit status.  Pure.

    Up -> ShuttingDown -> Flushing -> Finishing -> Ended

One program is the simple case of several; order between programs belongs here, what one program's
stop looks like does not.
Nobody is stopped before all that must be gone before it are (stop_order.py); so each waits as it
is, Running, until it is its turn.
"""

from __future__ import annotations

from gracewrap.policy.model import Command, Policy, ProgramPolicy
from gracewrap.policy.program_phases import (
    DEAD,
    FOREVER,
    Gone,
    Killing,
    Pending,
    Phase,
    PreStop,
    Running,
    Spawning,
    Stopping,
    Stragglers,
)
from gracewrap.record import TYPE_CHECKING, Record, replace

if TYPE_CHECKING:
    from collections.abc import Iterable

    from gracewrap.policy.restart import ProgramRecord
    from gracewrap.policy.stop_order import Order


# One stop may reach us twice at once: timeout(1) signals its child and then its whole group, a
# wrapper passes on the Ctrl-C that the terminal has sent us already.  People and orchestrators that
# ask again take longer than this.
SAME_REQUEST = 0.1


class Subset(Record):
    """Some programs are being stopped, and those of *again* will be started anew; the others go
    on."""

    programs: frozenset[int]
    again: frozenset[int]
    since: float
    kill_ats: tuple[float, ...]


class Rolling(Record):
    """A rolling restart: the sets of programs that are still to be restarted, in their order, and
    who asked for it."""

    sets: tuple[tuple[int, ...], ...]
    by: str


class Up(Record):
    """Programs are running, or are being started, or drained; nobody has asked for the stop of
    all."""

    programs: tuple[Phase, ...]
    pasts: tuple[ProgramRecord, ...] = ()  # empty: one command alone, which is ready as it is up
    order: Order | None = None  # None: nothing depends on anything
    drain: bool = False  # a drain was asked for
    part: Subset | None = None
    rolling: Rolling | None = None


class ShuttingDown(Record):
    """A stop was asked for at *since*, by a signal or by a program's exit; what is left is killed
    at *kill_at*."""

    programs: tuple[Phase, ...]
    since: float
    kill_at: float
    requests: int  # how often it was asked for; 0: a program's exit or failure was the reason
    asked_at: float
    kill_ats: tuple[
        float, ...
    ]  # each program's; what comes after it in the order has the time until kill_at
    sent: frozenset[tuple[int, int]] = frozenset()  # (program, signal) that we have sent
    exits: tuple[
        tuple[int, bool], ...
    ] = ()  # the programs that have ended, the first one first, and whether they were asked to
    ignored: frozenset[int] = frozenset()  # they had ended before, which was no reason to stop
    pasts: tuple[ProgramRecord, ...] = ()
    order: Order | None = None


class Flushing(Record):
    """All programs are gone; the kernel may still hold bytes for their clients."""

    status: int
    until: float
    again_at: float
    requests: int
    asked_at: float
    kill_at: float  # the end of the programs' time; what comes after has its own
    hooks: tuple[int, ...] = ()  # the programs whose post_stop is to be run


class Finishing(Record):
    """The post_stop hooks run, or the metrics are pushed."""

    status: int
    pending: frozenset[tuple[int, str]]  # (program, what) of the helpers that are still running
    push_until: float
    requests: int
    asked_at: float


class Ended(Record):
    """Exit has been commanded."""

    status: int


# They need no tick, and most programs are so most of the time.
AT_REST = frozenset((Pending, Spawning, Running, Gone))
System = Up | ShuttingDown | Flushing | Finishing | Ended
Step = tuple[System, tuple[Command, ...]]


def phase(system: System, index: int) -> Phase | None:
    """Return a program's phase, or None when all is over."""
    return system.programs[index] if isinstance(system, Up | ShuttingDown) else None


def is_stopping(system: System, index: int) -> bool:
    """Return whether a program has been sent the stop signal, and has its time to act on it."""
    return isinstance(phase(system, index), Stopping | Stragglers)


def waits_for_rest(system: System, index: int) -> bool:
    """Return whether the policy waits until nothing is left of a program."""
    return isinstance(phase(system, index), Stragglers | Killing)


def begin(policy: Policy, started: Iterable[int] | None = None, at: float = 0.0) -> Up:
    """Return the system at its beginning; *started* are the programs that have been spawned
    already, at *at*.  None: all have.

    Where not all have, the first tick commands the first start.
    """
    every = range(len(policy.programs))
    up = frozenset(every if started is None else started)
    system = Up(tuple(Running() if i in up else Pending() for i in every))
    if any(rules.depends_on or rules.stop_after for rules in policy.programs):
        from gracewrap.policy import stop_order as order

        system = replace(system, order=order.order(policy.programs))
    if policy.managed or not all(map(_plain, policy.programs)):
        from gracewrap.policy import restart

        pasts = (
            restart.started(restart.ProgramRecord(), policy.programs[i], at)
            if i in up
            else restart.ProgramRecord()
            for i in every
        )
        system = replace(system, pasts=tuple(pasts))
    return system


def _plain(rules: ProgramPolicy) -> bool:
    """Return whether a program's end is the end of all, and it is ready and healthy when it
    runs."""
    ends_all = (
        rules.restart == "never"
        and rules.on_exit == rules.on_failure == "shutdown"
        and not rules.oneshot
    )
    return ends_all and not is_checked(rules)


def is_checked(rules: ProgramPolicy) -> bool:
    """Return whether a program is asked, as long as it runs, whether it is ready or healthy."""
    return rules.ready or rules.live


def stop_of(system: Up | ShuttingDown, program: int) -> tuple[float, float]:
    """Return since when a program is to be stopped, and when it is killed; FOREVER: nobody wants
    to."""
    if isinstance(system, ShuttingDown):
        return system.since, system.kill_ats[program]
    if system.part is not None and program in system.part.programs:
        return system.part.since, system.part.kill_ats[program]
    return FOREVER, FOREVER


def is_waiting(system: Up | ShuttingDown, program: int) -> bool:
    """Return whether a program is to be stopped, and it is not its turn yet."""
    return stop_of(system, program)[0] != FOREVER and untouched(system.programs[program])


def untouched(phase: Phase) -> bool:
    """Return whether a program is there, and its stop has not begun."""
    return isinstance(phase, Running | Spawning) or (
        isinstance(phase, PreStop) and phase.kill_at == FOREVER
    )


def waits_for(system: System, policy: Policy, program: int) -> tuple[int, ...]:
    """Return which programs a program waits for, to be started or to be stopped; for people."""
    if not isinstance(system, Up | ShuttingDown):
        return ()
    if isinstance(system, Up) and isinstance(system.programs[program], Pending):
        from gracewrap.policy import stop_order

        return stop_order.missing(program, policy, system.programs, system.pasts)
    if system.order is None or not is_waiting(system, program):
        return ()
    found: set[int] = set()
    seen, todo = {program}, [program]
    while todo:
        for first in system.order.before[todo.pop()]:
            if first in seen:
                continue
            seen.add(first)
            if isinstance(system.programs[first], Gone) or stop_of(system, first)[0] == FOREVER:
                todo.append(first)  # it is not in the way, but what comes before it may be
            elif not (
                policy.programs[program].until == "drained" and is_drained(system.programs[first])
            ):
                found.add(first)
    return tuple(sorted(found))


def is_drained(phase: Phase) -> bool:
    """Return whether a program that has been told to stop has no work left, as far as is seen."""
    if not isinstance(phase, Stopping):
        return False
    return phase.drain.drained_at is not None and not phase.drain.work


def is_over(phase: Phase, at: float) -> bool:
    """Return whether nothing is left that could do any work."""
    return isinstance(phase, Gone) or (isinstance(phase, Killing) and at >= phase.since + DEAD)
