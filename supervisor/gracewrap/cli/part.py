"""What `gracewrap restart NAME` and `gracewrap stop NAME` wait for: some programs, while the others go on."""

from __future__ import annotations

from gracewrap.cli import status as view
from gracewrap.record import TYPE_CHECKING
from gracewrap.report.words import listed

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from typing import Any


class Waited:
    """Programs that are being stopped, or started anew.

    Args:
        name: The one that was named.
        names: All of them, that one too.
        done: What it is waited for that they are: "restarted", "started", "stopped".
    """

    def __init__(self, name: str, names: Sequence[str], done: str) -> None:
        self.name, self.names, self.done = name, names, done
        self.again = done != "stopped"

    def _of(self, status: Mapping[str, Any]) -> list[dict[str, Any]]:
        return [one for one in view.programs(status) if view.word(one, "name") in self.names]

    def judge(self, status: Mapping[str, Any], elapsed: float) -> tuple[int, str] | None:
        """Return exit status and last word once it is clear how it went."""
        stop = view.mapping(status.get("stop"))
        if stop and self.again:
            by = view.word(stop, "requested_by")
            return 1, f"{self.name} is not {self.done}: all is being stopped{f' ({by})' if by else ''}"
        if view.mapping(status.get("part")):
            return None
        if self.again:
            return self._is_up(self._of(status), elapsed)
        if not all(map(_has_ended, self._of(status))):
            return None
        killed = [view.word(one, "name") for one in self._of(status) if one.get("killed")]
        cut = f"; {listed(killed)} had to be killed" if killed else ""
        return int(bool(killed)), f"stopped {self.name} in {view.span(elapsed)}{self._others()}{cut}"

    def _is_up(self, programs: Sequence[Mapping[str, Any]], elapsed: float) -> tuple[int, str] | None:
        for one in programs:
            phase = view.word(one, "phase")
            if phase == "backing off" or (phase == "gone" and one.get("exit_status") != 0):
                soon = view.figure(one, "next_start_seconds")
                again = "" if soon is None else f"; the next start is in {view.span(soon)}"
                return 1, f"{view.word(one, 'name')} did not come up: it {view.word(one, 'why') or 'has ended'}{again}"
        if all(_has_come(one) for one in programs):
            return 0, f"{self.done} {self.name} in {view.span(elapsed)}{self._others()}"
        return None

    def _others(self) -> str:
        others = [one for one in self.names if one != self.name]
        return f", and with it {listed(others)}" if others else ""

    def doing(self, status: Mapping[str, Any]) -> str:
        """Return what is waited for, in a line."""
        is_part = bool(view.mapping(status.get("part")))
        well = _has_come if self.again and not is_part else _has_ended
        return view.each([one for one in self._of(status) if not well(one)]) or view.word(status, "phase") or "?"

    def gone(self, elapsed: float) -> tuple[int, str]:
        """Return exit status and last word when gracewrap has ended."""
        if self.again:
            return 1, f"{self.name} is not {self.done}: gracewrap has ended after {view.span(elapsed)}"
        return 0, f"stopped {self.name} in {view.span(elapsed)}{self._others()}; gracewrap has ended with it"


def _has_come(program: Mapping[str, Any]) -> bool:
    """Return whether a program is as far as it is to come: up and ready, or completed; or drained, if all are."""
    phase = view.word(program, "phase")
    return (phase == "running" and bool(program.get("ready"))) or phase in ("draining", "drained", "gone")


def _has_ended(program: Mapping[str, Any]) -> bool:
    return view.word(program, "phase") in ("gone", "ending")
