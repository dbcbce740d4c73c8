"""The order in which programs are stopped, as a graph, and the budget along it.  Pure.

An edge says that one program has to be gone before another is told to stop: what depends on a
program, and what it is to be stopped after.  The order of the start is the inverse, without what
only counts at the stop.

The budget is kept backwards (policy/budget.py).  What a program needs for its stop (`reserve`, else
`stop_timeout`, else a small part of the budget) is kept for it in every chain that it stands in.
SIGKILL comes when what has to come after would else have less than was kept for it.  So what stops
first may use all the rest, and who is early leaves the rest of its time to the next.
"""

from __future__ import annotations

from gracewrap.policy.model import Policy
from gracewrap.policy.program_phases import Gone, Phase, PreStop, Running
from gracewrap.policy.restart import ProgramRecord
from gracewrap.record import TYPE_CHECKING, Record

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from gracewrap.policy.model import ProgramPolicy


class Order(Record):
    """For each program those that are stopped before it and after it; *sequence* has every program
    after those before it."""

    before: tuple[tuple[int, ...], ...]
    after: tuple[tuple[int, ...], ...]
    sequence: tuple[int, ...]


def order(programs: Sequence[ProgramPolicy]) -> Order:
    """Return the order of the stop.  Where it goes in a circle (`cycle`, an error before the
    start), it is cut somewhere."""
    before: list[list[int]] = [[] for _ in programs]
    for i, rules in enumerate(programs):
        for needed, _ in rules.depends_on:
            if i not in before[needed]:
                before[needed].append(i)
    for i, rules in enumerate(programs):
        before[i] += [first for first in dict.fromkeys(rules.stop_after) if first not in before[i]]
    sequence = _sequence(before)
    place = {i: n for n, i in enumerate(sequence)}
    kept = tuple(
        tuple(sorted(p for p in firsts if place[p] < place[i])) for i, firsts in enumerate(before)
    )
    after: list[list[int]] = [[] for _ in programs]
    for i, firsts in enumerate(kept):
        for first in firsts:
            after[first].append(i)
    return Order(kept, tuple(map(tuple, after)), sequence)


def _sequence(before: list[list[int]]) -> tuple[int, ...]:
    """Return every program after those before it; one in a circle when there is nothing else
    left."""
    waits = [len(firsts) for firsts in before]
    after: list[list[int]] = [[] for _ in before]
    for i, firsts in enumerate(before):
        for first in firsts:
            after[first].append(i)
    free = [i for i, n in enumerate(waits) if not n]
    found: dict[int, None] = {}
    while len(found) < len(before):
        if not free:
            free.append(next(i for i in range(len(before)) if i not in found))
        i = free.pop(0)
        if i in found:
            continue
        found[i] = None
        for later in after[i]:
            waits[later] -= 1
            if not waits[later]:
                free.append(later)
    return tuple(found)


def cycle(programs: Sequence[ProgramPolicy]) -> tuple[int, ...] | None:
    """Return programs each of which is to be stopped before the next, the last being the first
    again; None if there are none."""
    after: list[list[int]] = [[needed for needed, _ in rules.depends_on] for rules in programs]
    for i, rules in enumerate(programs):
        for first in rules.stop_after:
            after[first].append(i)
    done: set[int] = set()
    for start in range(len(programs)):
        path: list[int] = [start]
        todo = [iter(after[start])]
        while path and start not in done:
            following = next(todo[-1], None)
            if following is None:
                todo.pop()
                done.add(path.pop())
            elif following in path:
                return (*path[path.index(following) :], following)
            elif following not in done:
                path.append(following)
                todo.append(iter(after[following]))
    return None


def spelled(circle: Sequence[int], programs: Sequence[ProgramPolicy]) -> str:
    """Return in words why a cycle is one: "web depends on db, db stops after web"."""
    said = []
    for first, then in zip(circle, circle[1:]):
        one, other = programs[first].name, programs[then].name
        depends = any(needed == then for needed, _ in programs[first].depends_on)
        said.append(f"{one} depends on {other}" if depends else f"{other} stops after {one}")
    return ", ".join(said)


def dependants(
    the_order: Order, programs: Sequence[ProgramPolicy], needed: Iterable[int]
) -> frozenset[int]:
    """Return programs and all that depends on them, directly or not: what cannot go on without
    them."""
    todo = list(needed)
    found = set(todo)
    while todo:
        one = todo.pop()
        for i in the_order.before[one]:
            if i not in found and any(other == one for other, _ in programs[i].depends_on):
                found.add(i)
                todo.append(i)
    return frozenset(found)


def components(the_order: Order, programs: Sequence[ProgramPolicy]) -> list[frozenset[int]]:
    """Return the programs in sets, none of which depends on another: what can be restarted one
    after the other."""
    found: list[frozenset[int]] = []
    for i in reversed(the_order.sequence):
        if not programs[i].depends_on:
            stack = dependants(the_order, programs, (i,))
            touched = [other for other in found if other & stack]
            found = [other for other in found if not other & stack]
            found.append(stack.union(*touched))
    return found


def missing(
    program: int, policy: Policy, phases: tuple[Phase, ...], pasts: tuple[ProgramRecord, ...]
) -> tuple[int, ...]:
    """Return what a program still waits for before it is started.

    What has ended without being a reason to stop keeps nobody waiting, unless it is to complete and
    has failed.
    """
    found = []
    for needed, condition in policy.programs[program].depends_on:
        up = isinstance(phases[needed], Running | PreStop)
        come = condition == "started" or (condition == "ready" and pasts[needed].ready)
        phase = phases[needed]
        ended = isinstance(phase, Gone) and not (condition == "completed" and phase.status)
        if not ended and not (up and come):
            found.append(needed)
    return tuple(found)
