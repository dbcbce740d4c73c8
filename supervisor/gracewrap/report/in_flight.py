"""What the probes said last, and what is in flight: for progress lines, status, metrics and the
report."""

from __future__ import annotations

from gracewrap.policy.model import DRAINED, INVALID, UNREACHABLE, Reading
from gracewrap.record import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence


class ProbeHistory:
    """One probe, and what it said."""

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
        self.probes = [ProbeHistory(kind, unit) for kind, unit in probes]

    def count_anew(self) -> None:
        """Forget the numbers: a drain begins, and they are compared with those of its begin."""
        for probe in self.probes:
            probe.first = probe.last = None

    def forget(self) -> None:
        """Forget all but the number of failures: the program is started again."""
        self.count_anew()
        for probe in self.probes:
            probe.reading, probe.at = Reading("none"), None

    def take(self, index: int, reading: Reading, at: float) -> bool:
        """Take in the reading of a probe; return whether its number in flight has changed."""
        probe = self.probes[index]
        probe.reading, probe.at = reading, at
        probe.failures += reading.kind == UNREACHABLE
        count = 0 if reading.kind == DRAINED else _whole(reading.in_flight)
        if count is None:
            return False
        changed = count != probe.last
        probe.last = count
        probe.first = count if probe.first is None else probe.first
        return changed

    def total(self) -> float | None:
        """Return the sum of what is known to be in flight, or None."""
        known = [probe.last for probe in self.probes if probe.last is not None]
        return sum(known) if known else None

    def shown(self) -> str:
        """Return the numbers for people: "requests 7 → 3 · jobs 2"; "" if none is known."""
        return " · ".join(text for probe in self.probes if (text := _shown(probe)))

    def why_busy(self) -> str:
        """Return why the program is not drained yet, as the probes say it."""
        return "; ".join(
            f"{probe.kind}: {probe.reading.why}"
            for probe in self.probes
            if probe.reading.kind != DRAINED and probe.reading.why
        )

    def unusable(self) -> str:
        """Return what is wrong with probes that could not use their last answer, or had none."""
        return "; ".join(
            f"probe {probe.kind}: {probe.reading.why}"
            for probe in self.probes
            if probe.reading.kind in (UNREACHABLE, INVALID)
        )


def _shown(probe: ProbeHistory) -> str:
    if probe.last is None or not probe.unit:
        return ""
    if probe.first == probe.last:
        return f"{probe.unit} {number(probe.last)}"
    return f"{probe.unit} {number(probe.first or 0.0)} → {number(probe.last)}"


def _whole(value: float | None) -> float | None:
    """Return a count as an int: 3 instead of 3.0."""
    return int(value) if value is not None and value == int(value) else value


def number(value: float) -> str:
    """Return a number without needless decimals."""
    return f"{value:.0f}" if value == int(value) else f"{value:.2f}"
