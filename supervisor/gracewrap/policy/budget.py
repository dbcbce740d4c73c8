"""Shares the budget along the stop order, and works out when each program is killed."""

from __future__ import annotations

from gracewrap.policy.dependencies import Order
from gracewrap.record import TYPE_CHECKING, Record

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from gracewrap.policy.model import ProgramPolicy


# A program that claims nothing has at least this part of the budget, and no more seconds than that,
# in a chain that is full.
LEAST_PART, LEAST = 0.1, 2.0


class Overrun(Record):
    """The programs of *chain* are stopped one after the other and need *needed* seconds for it:
    *over* more than there are."""

    chain: tuple[int, ...]
    needed: float
    over: float


def claim(rules: ProgramPolicy) -> float | None:
    """Return the seconds that are kept for a program's stop whatever the others do, or None: a
    share."""
    return rules.stop_timeout if rules.reserve is None else rules.reserve


def shares(
    the_order: Order, programs: Sequence[ProgramPolicy], alive: frozenset[int], budget: float
) -> tuple[float, ...]:
    """Return the seconds of *budget* that are kept for each program; in no chain is their sum
    greater than that.

    What is not *alive* needs none, but those on both sides of it still keep their order.  Claims
    that cannot be met are cut in
    proportion: the last of the chain is to be stopped gracefully as well.
    """
    claims = [claim(rules) if i in alive else 0.0 for i, rules in enumerate(programs)]
    least = min(LEAST, LEAST_PART * budget)
    wanted = [
        max(least, share) if need is None else need
        for need, share in zip(claims, _equal(the_order, claims, budget))
    ]
    whole = _through(the_order, wanted)
    return tuple(
        want * min(1.0, budget / total) if total > 0 else 0.0 for want, total in zip(wanted, whole)
    )


def _equal(the_order: Order, claims: Sequence[float | None], budget: float) -> list[float]:
    """Return for each program its equal share, with those that claim nothing, of what is not
    claimed: in its tightest chain."""
    up = _claimed(the_order.before, the_order.sequence, claims)
    down = _claimed(the_order.after, reversed(the_order.sequence), claims)
    found = []
    for i, need in enumerate(claims):
        own, sharer = need or 0.0, need is None
        chains = (
            (n + m - sharer, more + other - own)
            for n, more in up[i].items()
            for m, other in down[i].items()
        )
        found.append(
            min((budget - claimed) / sharers for sharers, claimed in chains if sharers)
            if sharer
            else 0.0
        )
    return found


def _claimed(
    near: tuple[tuple[int, ...], ...], sequence: Iterable[int], claims: Sequence[float | None]
) -> list[dict[int, float]]:
    """Return for each program and each number of sharers the most that is claimed in a chain of
    those that *near* leads to.

    A chain in which another one has as many sharers and as much is claimed is left out: it is not
    as tight.
    """
    found: list[dict[int, float]] = [{} for _ in claims]
    for i in sequence:
        need = claims[i]
        chains = [
            (sharers, claimed) for other in near[i] for sharers, claimed in found[other].items()
        ] or [(0, 0.0)]
        most = -1.0
        for sharers, claimed in sorted(chains, reverse=True):
            if claimed > most:
                most = claimed
                found[i][sharers + (need is None)] = claimed + (need or 0.0)
    return found


def kill_times(
    the_order: Order,
    programs: Sequence[ProgramPolicy],
    alive: frozenset[int],
    since: float,
    kill_at: float,
) -> tuple[float, ...]:
    """Return when each program is sent SIGKILL at the latest; the budget runs from *since* to
    *kill_at*."""
    kept = shares(the_order, programs, alive, max(0.0, kill_at - since))
    later = _longest(the_order.after, reversed(the_order.sequence), kept)
    return tuple(max(since, kill_at - (later[i] - kept[i])) for i in range(len(programs)))


def cannot_fit(
    the_order: Order, programs: Sequence[ProgramPolicy], budget: float
) -> Overrun | None:
    """Return the chain whose claims exceed *budget* most, or None if all can be met.

    A full chain in which a program claims nothing does not fit either: so much is needed for that
    as it has at least.
    """
    least = min(LEAST, LEAST_PART * budget)
    needs = [least if (need := claim(rules)) is None else need for rules in programs]
    longest = _longest(the_order.before, the_order.sequence, needs)
    if max(longest, default=0.0) <= budget:
        return None
    chain = [longest.index(max(longest))]
    while the_order.before[chain[0]]:
        chain.insert(0, max(the_order.before[chain[0]], key=lambda i: longest[i]))
    return Overrun(tuple(chain), max(longest), max(longest) - budget)


def _through(the_order: Order, values: Sequence[float]) -> list[float]:
    """Return for each program the greatest sum of *values* along any chain that it stands in."""
    up = _longest(the_order.before, the_order.sequence, values)
    down = _longest(the_order.after, reversed(the_order.sequence), values)
    return [up[i] + down[i] - value for i, value in enumerate(values)]


def _longest(
    near: tuple[tuple[int, ...], ...], sequence: Iterable[int], values: Sequence[float]
) -> list[float]:
    """Return for each program its value and the greatest sum along any chain of those that *near*
    leads to."""
    found = [0.0] * len(values)
    for i in sequence:
        found[i] = values[i] + max((found[other] for other in near[i]), default=0.0)
    return found
