"""Keeps a part of the budget for each program along the stop order, and works out when each is
killed."""

from __future__ import annotations

from gracewrap.policy.stop_order import Order
from gracewrap.record import TYPE_CHECKING, Record

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from gracewrap.policy.model import ProgramPolicy


# For a program that claims nothing this part of the budget is kept, and no more seconds than that;
# what is stopped before it may use all the rest.
LEAST_PART, LEAST = 0.1, 2.0


class Overrun(Record):
    """The programs of *chain* are stopped one after the other and need *needed* seconds for it:
    *over* more than there are."""

    chain: tuple[int, ...]
    needed: float
    over: float


def claim(rules: ProgramPolicy) -> float | None:
    """Return the seconds that are kept for a program's stop whatever the others do, or None: it
    names none, and a small reserve is kept for it."""
    return rules.stop_timeout if rules.reserve is None else rules.reserve


def kept(
    the_order: Order, programs: Sequence[ProgramPolicy], alive: frozenset[int], budget: float
) -> tuple[float, ...]:
    """Return the seconds of *budget* that are kept for each program; in no chain is their sum
    greater than that.

    What is not *alive* needs none, but those on both sides of it still keep their order.  Claims
    that cannot be met are cut in proportion: the last of the chain is to be stopped gracefully as
    well.
    """
    wanted = [need if i in alive else 0.0 for i, need in enumerate(_needs(programs, least(budget)))]
    whole = _through(the_order, wanted)
    return tuple(
        want * min(1.0, budget / total) if total > 0 else 0.0 for want, total in zip(wanted, whole)
    )


def least(budget: float) -> float:
    """Return the seconds of *budget* that are kept for a program that claims nothing.

    An equal share would be wrong: it kills the web server with half of the budget unused, for a
    database that needs a moment.  What is stopped first has the rest of the chain's time.
    """
    return min(LEAST, LEAST_PART * budget)


def _needs(programs: Sequence[ProgramPolicy], by_default: float) -> list[float]:
    return [by_default if (need := claim(rules)) is None else need for rules in programs]


def kill_times(
    the_order: Order,
    programs: Sequence[ProgramPolicy],
    alive: frozenset[int],
    since: float,
    kill_at: float,
) -> tuple[float, ...]:
    """Return when each program is sent SIGKILL at the latest; the budget runs from *since* to
    *kill_at*."""
    reserves = kept(the_order, programs, alive, max(0.0, kill_at - since))
    later = _longest(the_order.after, reversed(the_order.sequence), reserves)
    return tuple(max(since, kill_at - (later[i] - reserves[i])) for i in range(len(programs)))


def cannot_fit(
    the_order: Order, programs: Sequence[ProgramPolicy], budget: float
) -> Overrun | None:
    """Return the chain whose claims exceed *budget* most, or None if all can be met.

    A full chain in which a program claims nothing does not fit either: so much is needed for that
    as it has at least.
    """
    needs = _needs(programs, least(budget))
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
