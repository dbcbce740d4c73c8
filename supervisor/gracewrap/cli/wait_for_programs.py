"""What `gracewrap restart NAME` and `gracewrap stop NAME` wait for: some programs, while the others
go on."""

from __future__ import annotations

from gracewrap.cli import status_view
from gracewrap.record import TYPE_CHECKING
from gracewrap.report.wording import listed

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from typing import Any

MOST = 3  # so many programs that had to be killed are told of one by one


class Waited:
    """Programs that are being stopped, or started anew.

    Args:
        answer: What was answered to the request: its number ("request"), the programs that were
            "named", all of them ("programs"), what it is waited for that they are ("until":
            "restarted", "started", "stopped"), and whether nothing else runs ("ends").
        asked: The names that were asked for.
    """

    def __init__(self, answer: Mapping[str, Any], asked: Sequence[str]) -> None:
        self.named = status_view.words(answer.get("named")) or list(asked)
        self.names = status_view.words(answer.get("programs")) or self.named
        self.request, self.done, self.ends = (
            status_view.word(answer, "request"),
            status_view.word(answer, "until"),
            answer.get("ends") is True,
        )
        self.again = self.done != "stopped"
        self._seen = 0.0  # how much time had gone when it was judged last
        self._who = listed(self.named)
        self._not = f"{self._who} {'is' if len(self.named) == 1 else 'are'} not {self.done}"

    def _of(self, status: Mapping[str, Any]) -> list[dict[str, Any]]:
        return [
            one
            for one in status_view.programs(status)
            if status_view.word(one, "name") in self.names
        ]

    def judge(self, status: Mapping[str, Any], elapsed: float) -> tuple[int, str] | None:
        """Return exit status and last word once it is clear how it went."""
        self._seen = elapsed
        request = status_view.mapping(status.get("request")) or {}
        if status_view.word(request, "state") == "refused":
            why = status_view.word(request, "why") or "another part is being stopped"
            return 1, f"{self._not}: {why}, which was asked for before; ask again after that"
        stop = status_view.mapping(status.get("stop"))
        if stop and self.again:
            by = status_view.word(stop, "requested_by")
            return 1, f"{self._not}: all is being stopped{f' ({by})' if by else ''}"
        if _is_under_way(status):
            return None
        if self.again:
            return self._is_up(status, elapsed)
        if not all(map(_has_ended, self._of(status))):
            return None
        return self._stopped(status, elapsed)

    def _stopped(
        self, status: Mapping[str, Any], elapsed: float, more: str = ""
    ) -> tuple[int, str]:
        killed = [
            status_view.word(one, "name")
            for one in self._of(status)
            if one.get("killed") or status_view.word(one, "phase") == "killing"
        ]
        cut = f"; {listed(killed)} had to be killed" if killed else ""
        return int(
            bool(killed)
        ), f"stopped {self._who} in {status_view.span(elapsed)}{self._others()}{cut}{more}"

    def _is_up(self, status: Mapping[str, Any], elapsed: float) -> tuple[int, str] | None:
        programs = self._of(status)
        for one in programs:
            if status_view.word(one, "phase") in ("backing off", "failed", "stopped"):
                soon = status_view.figure(one, "next_start_seconds")
                again = "" if soon is None else f"; the next start is in {status_view.span(soon)}"
                return (
                    1,
                    f"{status_view.word(one, 'name')} did not come up: it "
                    f"{_how_it_ended(one)}{again}",
                )
        if all(_has_come(one) for one in programs):
            return (
                0,
                f"{self.done} {self._who} in "
                f"{status_view.span(elapsed)}{self._others()}{_killed(status)}"
                f"{self._still_stopped(status)}",
            )
        return None

    def _still_stopped(self, status: Mapping[str, Any]) -> str:
        """Return which other programs do not run, such as those that were stopped before one of
        these, and how to start them; "" if all run."""
        found = [
            status_view.word(one, "name")
            for one in status_view.programs(status)
            if status_view.word(one, "phase") == "stopped"
            if status_view.word(one, "name") not in self.names
        ]
        if not found:
            return ""
        shown = " ".join(found)
        return f"; still stopped: {listed(found)} (gracewrap restart {shown})"

    def _others(self) -> str:
        others = [one for one in self.names if one not in self.named]
        return (
            f", and with {'it' if len(self.named) == 1 else 'them'} {listed(others)}"
            if others
            else ""
        )

    def doing(self, status: Mapping[str, Any]) -> str:
        """Return what is waited for, in a line."""
        well = _has_come if self.again and not _is_under_way(status) else _has_ended
        return (
            status_view.each([one for one in self._of(status) if not well(one)])
            or status_view.word(status, "phase")
            or "?"
        )

    def left(self, status: Mapping[str, Any]) -> str:
        """Return how long there is until the next SIGKILL: "3 s until web's SIGKILL"; "" if nothing
        is to be stopped."""
        in_turn = [one for one in self._of(status) if not one.get("waits_for")]
        found = [
            (left, status_view.word(one, "name"))
            for one in in_turn
            if (left := status_view.figure(one, "left_seconds")) is not None
        ]
        if not found:
            return status_view.until_sigkill(status)
        left, name = min(found)
        whose = f"{name}'s " if len(self.names) > 1 else ""
        return f"{status_view.span(left, whole=True)} until {whose}SIGKILL"

    def gone(self, last: Mapping[str, Any], elapsed: float) -> tuple[int, str]:
        """Return exit status and last word when gracewrap has ended; *last* is what it said when it
        was judged last."""
        if not self.again:
            with_it = f"; gracewrap has ended {'with it' if self.ends else 'too; its log says why'}"
            lefts = {
                status_view.word(one, "name"): status_view.figure(one, "left_seconds")
                for one in self._of(last)
                if not _has_ended(one)
            }
            late = [
                name
                for name, left in lefts.items()
                if left is not None and left <= elapsed - self._seen
            ]
            if late:  # nobody has seen its end, but its time was up
                killed = f"{listed(late)} had to be killed, as it seems"
                return 1, f"{self._not} gracefully: {killed}{with_it}"
            return self._stopped(last, elapsed, with_it)
        seen = f"; last seen: {self.doing(last)}" if last else ""
        return (
            1,
            f"{self._not}: gracewrap has ended after {status_view.span(elapsed)}{seen}; its log "
            "says why",
        )


def _is_under_way(status: Mapping[str, Any]) -> bool:
    """Return whether the programs are still to be stopped, or not all of them have."""
    request = status_view.mapping(status.get("request"))
    return (
        bool(status_view.mapping(status.get("part")))
        if request is None
        else status_view.word(request, "state") in ("asked", "begun")
    )


def _has_come(program: Mapping[str, Any]) -> bool:
    """Return whether a program is as far as it is to come: up and ready, or completed; or drained,
    if all are."""
    phase = status_view.word(program, "phase")
    up = phase == "running" and bool(program.get("ready")) and not program.get("oneshot")
    return up or phase in ("draining", "drained", "completed", "exited")


def _has_ended(program: Mapping[str, Any]) -> bool:
    phase = status_view.word(program, "phase")
    return phase in status_view.ENDED or phase == "ending"


def _how_it_ended(program: Mapping[str, Any]) -> str:
    return (
        "was stopped again"
        if status_view.word(program, "phase") == "stopped"
        else status_view.word(program, "why") or "has ended"
    )


def _killed(status: Mapping[str, Any]) -> str:
    """Return which programs had to be killed before they were started again; "" if none had."""
    request = status_view.mapping(status.get("request")) or {}
    pids = {
        status_view.word(one, "name"): status_view.word(one, "pid")
        for one in status_view.programs(status)
    }
    said = []
    for one in status_view.mappings(request.get("killed")):
        name, after = status_view.word(one, "program"), status_view.figure(one, "after_seconds")
        whole, pid = one.get("whole") is not False, pids.get(name)
        when = "" if after is None else f" after {status_view.span(after)}"
        who, it = (name, "") if whole else (f"some of {name}", "it was ")
        said.append(
            f"; {who} was killed{when}, and {it}started again{f' (pid {pid})' if pid else ''}"
        )
    more = f"; {len(said) - MOST} more were killed" if len(said) > MOST else ""
    return "".join(said[:MOST]) + more
