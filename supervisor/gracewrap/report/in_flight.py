"""What the probes have said last, and what is in flight: for progress lines, status, metrics and
the report."""

from __future__ import annotations

from gracewrap.policy.model import DRAINED, INVALID, UNREACHABLE, Reading
from gracewrap.record import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence


class Number:
    """One probe, and what it has said."""

    def __init__(self, kind: str, unit: str) -> None:
        self.kind, self.unit = kind, unit
        self.first: float | None = None  # in flight when the drain began
        self.last: float | None = None
        self.reading = Reading("none")
        self.at: float | None = None
        self.failures = 0


class InFlight:
    """The probes of one program, in their order."""

    def __init__(self, probes: Sequence[tuple[str, str]]) -> None:
        self.probes = [Number(kind, unit) for kind, unit in probes]

    def begin(self) -> None:
        """A drain begins: what is in flight is counted from here on."""
        for one in self.probes:
            one.first = one.last = None

    def begin_again(self) -> None:
        """The program was started again: what the one before it had is not its own; failures go on
        being counted."""
        for one in self.probes:
            one.first, one.last, one.reading, one.at = None, None, Reading("none"), None

    def take(self, probe: int, reading: Reading, at: float) -> bool:
        """Take in a reading; return whether what is in flight has changed."""
        one = self.probes[probe]
        one.reading, one.at = reading, at
        one.failures += reading.kind == UNREACHABLE
        number = 0 if reading.kind == DRAINED else _whole(reading.in_flight)
        if number is None:
            return False
        changed = number != one.last
        one.last = number
        one.first = number if one.first is None else one.first
        return changed

    def unusable(self) -> str:
        """Return what is wrong with probes whose last answer could not be used, or that did not
        answer."""
        return "; ".join(
            f"probe {one.kind}: {one.reading.why}"
            for one in self.probes
            if one.reading.kind in (UNREACHABLE, INVALID)
        )

    def in_flight(self) -> float | None:
        """Return the sum of what is known to be in flight, or None."""
        known = [one.last for one in self.probes if one.last is not None]
        return sum(known) if known else None

    def shown(self) -> str:
        """Return the numbers for people: "requests 7 → 3 · jobs 2"; "" if none is known."""
        return " · ".join(text for one in self.probes if (text := _shown(one)))

    def busy(self) -> str:
        """Return why it is not drained yet, as the probes say it."""
        said = [
            f"{one.kind}: {one.reading.why}"
            for one in self.probes
            if one.reading.kind != DRAINED and one.reading.why
        ]
        return "; ".join(said)


def _shown(one: Number) -> str:
    if one.last is None or not one.unit:
        return ""
    if one.first == one.last:
        return f"{one.unit} {number(one.last)}"
    return f"{one.unit} {number(one.first or 0.0)} → {number(one.last)}"


def _whole(value: float | None) -> float | None:
    """Return a count as a count: 3, and not 3.0."""
    return int(value) if value is not None and value == int(value) else value


def number(value: float) -> str:
    """Return a number without needless decimals."""
    return f"{value:.0f}" if value == int(value) else f"{value:.2f}"
