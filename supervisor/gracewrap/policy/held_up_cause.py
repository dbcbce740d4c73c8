"""Decides what holds a program up, by what there is to see of it.  Pure.

Loaded when a program is looked at because its stop takes long.
"""

from __future__ import annotations

from gracewrap.policy.held_up_evidence import (
    ACCEPT,
    BLOCKED,
    BUSY,
    CHILD,
    CHILDREN,
    CONNECT,
    DISK,
    EVENTS,
    FILE_LOCK,
    FROZEN,
    FULL_PIPE,
    IDLE,
    IGNORED,
    IN_FLIGHT,
    INPUT,
    LOCK,
    LOCKED,
    NOT_KNOWN,
    NOT_TOLD,
    OPEN,
    OTHER,
    OUTGOING,
    READ,
    SIGNAL,
    SLEEP,
    STOPPED,
    SYNC,
    TIMER,
    TRACED,
    WAITS_FOR_FILE,
    WORK,
    WRITE,
    Cause,
    Evidence,
    Suspect,
    Wait,
)  # fmt: skip
from gracewrap.policy.held_up_looks import LAST
from gracewrap.policy.model import CATCHES, DEFAULT, IGNORES
from gracewrap.policy.stop_signal_recipients import ONE_BY_ONE, SUPERVISORS
from gracewrap.record import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Set


def cause(seen: Evidence) -> Cause:
    """Return what holds a program up, as far as it can be told: the surest reason first.

    Of a look that was cut short, that nothing was seen says nothing.
    """
    for find in (
        _halted, _without_the_signal, _on_a_file, _locked, _with_clients, _working, _computing,
        _idle, _left_alone, _sleeping,
    ):  # fmt: skip
        found = find(seen)
        if found is not None and (seen.complete or found.kind not in (TIMER, INPUT, CHILDREN)):
            return found
    return Cause(NOT_KNOWN, seen.suspects[0] if seen.suspects else None)


# Whoever handles these does it to write a last word.
_FATAL = frozenset((4, 5, 6, 7, 8, 11, 31))  # ILL, TRAP, ABRT, BUS, FPE, SEGV, SYS


def to_dump(
    seen: Evidence, signum: int, moment: str, dumped: Set[tuple[int, int]]
) -> list[Suspect]:
    """Return the processes that are sent *signum* now, to write what they are doing.

    Only who has a handler; who would end of it not before the last moment, when it has no time left
    anyway.
    """
    return [
        one
        for one in seen.suspects
        if one.dumps and one.id not in dumped
        if moment == LAST or not (one.ends or signum in _FATAL)
    ]


def _halted(seen: Evidence) -> Cause | None:
    """It cannot act at all: stopped, traced, in the kernel, or deaf to the signal."""
    for states, kind in (("T", STOPPED), ("t", TRACED)):
        if found := _first(seen, lambda one, states=states: one.state == states):  # type: ignore[misc]
            return Cause(kind, found, _wait_of(found, lambda wait: bool(wait.wchan)))
    if found := _first(seen, lambda one: any(_is_frozen(one, wait) for wait in one.waits)):
        return Cause(FROZEN, found)
    if found := _first(seen, _hangs_in_kernel):
        return Cause(DISK, found, _wait_of(found, _is_in_kernel))
    if found := _first(seen, lambda one: one.pending):
        return Cause(BLOCKED, found)
    return None


# What a signal ends: in state D it is only where a freezer holds it.
_ENDED_BY_A_SIGNAL = frozenset((EVENTS, SIGNAL, LOCK, SLEEP))


def _is_frozen(one: Suspect, wait: Wait) -> bool:
    """Return whether a cgroup's freezer holds it.  That of version 1 leaves it where it was, in
    state D (kernel/freezer.c); that of version 2 has it sleep where signals are taken
    (kernel/signal.c: do_freezer_trap(), as a rule within get_signal())."""
    if one.state == wait.state == "D":
        return wait.what in _ENDED_BY_A_SIGNAL or "refrigerator" in wait.wchan
    return wait.state == "S" and wait.wchan in ("get_signal", "do_freezer_trap")


def _hangs_in_kernel(one: Suspect) -> bool:
    """Return whether a thread does: the main thread if it was so twice, for any may be so for a
    moment."""
    seen_again = _wait_of(one, _is_in_kernel) is not None or not one.waits
    return seen_again and (one.state == "D" or one.threads > 1)


def _is_in_kernel(wait: Wait) -> bool:
    """Return whether it is in state D; so is who waits in vfork(2), as dash and posix_spawn(3)
    do."""
    return wait.state == "D" and wait.what != CHILD


def _without_the_signal(seen: Evidence) -> Cause | None:
    """It ignores the stop signal, or whoever is in front of it has not passed it on."""
    ends = _last_ones(seen)
    for one in seen.suspects:
        parent = _parent(seen, one)
        # A server may have helpers that ignore it, and end them in another way when its clients
        # have gone (PostgreSQL's checkpointer, Squid's pinger).
        is_theirs = one.signalled or parent is None or parent not in ends
        if one.takes == IGNORES and one in ends and is_theirs:
            return Cause(IGNORED, one, parent=parent)
        # Without a handler it would be gone; and who has had it takes no more clients.
        untold = one.takes == DEFAULT or (one.takes == CATCHES and one.listens)
        if _wait_of(one, lambda wait: wait.what == READ and "pipe:" in wait.on):
            untold = False  # it is left to the end of its input
        if untold and not one.signalled and not one.forked and parent is not None:
            return Cause(NOT_TOLD, one, parent=parent)
    return None


def _left_alone(seen: Evidence) -> Cause | None:
    """It ignores the stop signal, and nothing else is to be seen: whoever has started another
    program may wait for its end as for any event."""
    for one in _last_ones(seen):
        if one.takes == IGNORES and not one.forked:
            return Cause(IGNORED, one, parent=_parent(seen, one))
    return None


def _on_a_file(seen: Evidence) -> Cause | None:
    for one in seen.suspects:
        if wait := _wait_of(one, lambda wait: wait.what in (FILE_LOCK, OPEN, SYNC)):
            return Cause(WAITS_FOR_FILE, one, wait)
        if wait := _wait_of(one, lambda wait: wait.what == WRITE and "socket:" not in wait.on):
            return Cause(FULL_PIPE, one, wait)
    return None


def _locked(seen: Evidence) -> Cause | None:
    """All threads of a process wait for others: nobody can wake them but a timer."""
    for one in _last_ones(seen):
        locks = [wait for wait in one.waits if wait.what == LOCK]
        if locks and sum(wait.threads for wait in locks) >= one.threads:
            # In a JVM, who sleeps waits so too.
            return Cause(LOCKED, one, next((wait for wait in locks if wait.timed), locks[0]))
    return None


def _with_clients(seen: Evidence) -> Cause | None:
    found = tuple(link for link in seen.links if link.in_flight and link.accepted is not False)
    return Cause(IN_FLIGHT, _owner(seen), links=found) if found else None


def _working(seen: Evidence) -> Cause | None:
    """It counts work in flight: that it is connected to its queue meanwhile holds nothing up."""
    return Cause(WORK, _owner(seen), work=seen.work) if seen.work else None


def _computing(seen: Evidence) -> Cause | None:
    found = _first(seen, lambda one: one.busy)
    return None if found is None else Cause(BUSY, found)


def _idle(seen: Evidence) -> Cause | None:
    for kind, wanted in ((IDLE, (True, None)), (OUTGOING, (False,))):
        if found := tuple(link for link in seen.links if link.accepted in wanted):
            return Cause(kind, _owner(seen), links=found)
    return None


def _sleeping(seen: Evidence) -> Cause | None:
    """Nothing is open: what it still waits for is its own."""
    for one in _last_ones(seen):
        if wait := _wait_of(one, lambda wait: wait.what in (READ, ACCEPT, CONNECT)):
            return Cause(INPUT, one, wait)
        if wait := _wait_of(one, lambda wait: wait.what in (SLEEP, EVENTS, SIGNAL, LOCK)):
            return Cause(TIMER, one, wait)
    found = _first(seen, lambda one: _wait_of(one, lambda wait: wait.what == CHILD) is not None)
    return None if found is None else Cause(CHILDREN, found)


def _owner(seen: Evidence) -> Suspect | None:
    return next(iter(_last_ones(seen)), None)


def _last_ones(seen: Evidence) -> list[Suspect]:
    """Return the processes that wait for no child; who waits for one is not to blame."""
    waiting = [
        one
        for one in seen.suspects
        if one.children and (_waits_for_child(one) or one.name in SUPERVISORS | ONE_BY_ONE)
    ]
    return [one for one in seen.suspects if one not in waiting]


def _waits_for_child(one: Suspect) -> bool:
    known = [wait for wait in one.waits if wait.what != OTHER]
    return any(wait.what == CHILD for wait in known)


def _parent(seen: Evidence, one: Suspect) -> Suspect | None:
    return next((other for other in seen.suspects if other.pid == one.parent), None)


def _first(seen: Evidence, is_one: Callable[[Suspect], bool]) -> Suspect | None:
    return next(filter(is_one, seen.suspects), None)


def _wait_of(one: Suspect, is_one: Callable[[Wait], bool]) -> Wait | None:
    return next(filter(is_one, _by_state(one.waits)), None)


def _by_state(waits: Iterable[Wait]) -> list[Wait]:
    """Return those first that wait for good."""
    return sorted(waits, key=lambda wait: wait.timed)
