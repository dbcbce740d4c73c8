"""Stops or restarts selected programs on request while the others keep running.

Loaded with the first request.
"""

from __future__ import annotations

from gracewrap.policy import log_events
from gracewrap.policy.model import Event, PartRequested, Policy
from gracewrap.policy.program_phases import Gone
from gracewrap.policy.run_phases import System, Up
from gracewrap.record import TYPE_CHECKING, assert_never
from gracewrap.report.wording import listed

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping, Sequence

    from gracewrap.report.program_history import ProgramHistory
    from gracewrap.report.recorder import Recorder

# Requests whose outcome is known; clients that wait for theirs ask several times a second.
KEPT = 64

# The answer for one command that is not managed, by whether it is to be started again.
_ONE_COMMAND = {
    False: "it runs one command, which has no name; use gracewrap stop",
    True: "it runs one command, and ends with it; write --restart always where it is run to have "
    "that started again",
}


class Request:
    """A request that was accepted.

    Args:
        by: Who asks for what, as in model.PartRequested.
        programs: All that it stops.
        again: Whether they are to be started again.
    """

    def __init__(self, by: str, programs: Iterable[int], again: bool) -> None:
        self.by, self.programs, self.again = by, frozenset(programs), again
        self.state = "asked"  # then "begun" and, once all are stopped, "over"; or "refused"
        self.why = ""  # it was refused
        self.since = 0.0
        self.killed: list[dict[str, object]] = []


class PartialRestart:
    """Accepts such requests, and knows how they went.

    Args:
        recorder: Knows the programs' names, and how they ended.
        policy: As the policy has it.
        system: Returns the state of the policy.
        post: Takes an event for the policy.
    """

    def __init__(
        self,
        recorder: Recorder,
        policy: Policy,
        system: Callable[[], System],
        post: Callable[[Event], None],
    ) -> None:
        self._histories, self._policy = recorder.histories, policy
        self._system, self._post = system, post
        self._labels = [history.label for history in recorder.histories]
        self._requests: dict[int, Request] = {}
        self._last = 0  # its number

    def _listed(self, programs: Iterable[int]) -> str:
        return listed([self._labels[i] for i in programs])

    # --- a request -------------------------------------------------------------------------------

    def act(
        self, asked: str, again: bool, peer: str, at: float
    ) -> tuple[int, Mapping[str, object]]:
        """Stop programs, and with *again* restart them; return HTTP status and answer, which says
        what stops with them.

        Args:
            asked: Their names, separated by commas, which no name contains.
            again: Whether it is a restart.
            peer: Who asks.
            at: When.
        """
        system = self._system()
        assert isinstance(system, Up)
        if not self._policy.managed:
            return 409, {"error": _ONE_COMMAND[again]}
        names = list(dict.fromkeys(filter(None, asked.split(","))))
        if not names and len(self._labels) == 1:
            names = self._labels
        unknown = [name for name in names if name not in self._labels]
        if not names or unknown:
            return (404 if names else 400), {"error": self.no_such(unknown)}
        if busy := self._busy(system):
            return 409, {"error": f"{busy}; ask again after that"}
        return self._accept(system, [self._labels.index(name) for name in names], again, peer, at)

    def no_such(self, names: Sequence[str]) -> str:
        """Return what to write instead of names that no program has; without names: of none."""
        there = listed(self._labels, 20, "or")
        if not names:
            return f"it runs several programs; write which one: {there}"
        if len(names) > 1:
            unknown = listed([repr(name) for name in names])
            return f"there are no programs {unknown}; write {there}"
        from gracewrap.config.closest_name import closest

        near = closest(names[0], self._labels)
        every = listed(self._labels, 20)
        is_near = near and len(self._labels) > 1
        meant = f"did you mean {near}, of {every}?" if is_near else f"write {there}"
        return f"there is no program {names[0]!r}; {meant}"

    def _busy(self, system: System) -> str:
        """Return what is being stopped already, or is about to be; "" for nothing."""
        busy, again = frozenset[int](), False
        if isinstance(system, Up) and system.part is not None:
            busy, again = system.part.programs, bool(system.part.again)
        elif asked := [one for one in self._requests.values() if one.state == "asked"]:
            busy, again = asked[0].programs, asked[0].again
        doing = f"{'is' if len(busy) == 1 else 'are'} being {'restarted' if again else 'stopped'}"
        return f"{self._listed(sorted(busy))} {doing}" if busy else ""

    def _accept(
        self, system: Up, found: list[int], again: bool, peer: str, at: float
    ) -> tuple[int, Mapping[str, object]]:
        """Have the policy do it, but for a stop of what has ended before."""
        ended = [i for i in found if isinstance(system.programs[i], Gone)]
        wanted = found if again else [i for i in found if i not in ended]
        names = [self._labels[i] for i in wanted]
        not_running = f"{self._listed(ended)} {'is' if len(ended) == 1 else 'are'} not running"
        if not wanted:
            return 200, {"ok": True, "named": [], "programs": [], "message": not_running}
        first = self._stopped_before(system, wanted)
        stopped = {*first, *wanted}
        by = f"gracewrap {'restart' if again else 'stop'} {' '.join(names)} ({peer})"
        number = self._keep(Request(by, stopped, again))
        self._post(PartRequested(tuple(wanted), by, again, at))
        is_all = not again and all(
            i in stopped or isinstance(phase, Gone) for i, phase in enumerate(system.programs)
        )
        message = self._doing(wanted, ended, again)
        message += self._goes_with(first, again, len(wanted) > 1)
        message += self._without(system, wanted) if again else f"; {not_running}" if ended else ""
        message += "; nothing else runs, and gracewrap ends with it" if is_all else ""
        return 202, {
            "ok": True,
            "request": number,
            "named": names,
            "programs": [*map(self._labels.__getitem__, first), *names],
            "until": "stopped"
            if not again
            else "started"
            if len(ended) == len(wanted)
            else "restarted",
            "ends": is_all,
            "message": message,
        }

    def _doing(self, wanted: Sequence[int], ended: Sequence[int], again: bool) -> str:
        if not again:
            return f"stopping {self._listed(wanted)}"
        running = [i for i in wanted if i not in ended]
        parts = [f"restarting {self._listed(running)}"] if running else []
        return " and ".join([*parts, f"starting {self._listed(ended)}"] if ended else parts)

    def _stopped_before(self, system: Up, wanted: Sequence[int]) -> list[int]:
        """Return what else cannot go on without programs, in the order in which it is stopped
        before them."""
        if system.order is None:
            return []
        from gracewrap.policy import stop_order

        found = stop_order.dependants(system.order, self._policy.programs, wanted) - set(wanted)
        return [
            i
            for i in system.order.sequence
            if i in found and not isinstance(system.programs[i], Gone)
        ]

    def _goes_with(self, first: Sequence[int], again: bool, several: bool) -> str:
        """Return what is stopped first, because it depends on what is asked for."""
        if not first:
            return ""
        on, names = "them" if several else "it", self._listed(first)
        if len(first) == 1:
            then = " and is started again" if again else ""
            return f"; {names}, which depends on {on}, stops first{then}"
        then = " and are started again" if again else ""
        return f"; {names}, which depend on {on}, stop first{then}"

    def _without(self, system: Up, wanted: Sequence[int]) -> str:
        """Return what programs need and do not have: it was stopped, and not started again."""
        missing = {
            needed: None
            for i in wanted
            for needed, condition in self._policy.programs[i].depends_on
            if condition != "completed"
            and needed not in wanted
            and isinstance(system.programs[needed], Gone)
        }
        if not missing:
            return ""
        depend = "they depend" if len(wanted) > 1 else "it depends"
        are = "is" if len(missing) == 1 else "are"
        return f"; {self._listed(missing)}, on which {depend}, {are} not running"

    # --- how it went -----------------------------------------------------------------------------

    def _keep(self, request: Request) -> int:
        """Keep a request; return its number."""
        self._last += 1
        self._requests[self._last] = request
        self._requests.pop(self._last - KEPT, None)
        return self._last

    def noted(self, event: log_events.PartEvent, at: float) -> None:
        """Take in what the policy says of a request; it decides about them in their order."""
        match event:
            case log_events.PartStopped(programs):
                for request in self._requests.values():
                    if request.state == "begun":
                        request.state = "over"
                        request.killed = self._killed(programs, request.since, at)
            case log_events.PartRequested(by):
                if (asked := self._asked(by)) is not None:
                    asked.state, asked.since = "begun", at
            case log_events.PartRefused(by):
                if (asked := self._asked(by)) is not None:
                    asked.state, asked.why = "refused", self._busy(self._system())
            case _:
                assert_never(event)

    def _asked(self, by: str) -> Request | None:
        """Return the first request of *by* that has not been decided about yet."""
        asked = (one for one in self._requests.values() if one.state == "asked" and one.by == by)
        return next(asked, None)

    def _killed(self, programs: Sequence[int], since: float, at: float) -> list[dict[str, object]]:
        """Return which programs had to be killed; *whole*: and not only something that was left
        behind."""
        histories: list[ProgramHistory] = [self._histories[i] for i in programs]
        return [
            {
                "program": history.label,
                "after_seconds": round(
                    (history.gone_at or at) - max(since, history.told_at or since), 3
                ),
                "whole": history.leader is None or history.leader.signum == 9,
            }
            for history in histories
            if history.killed
            and (history.gone_at is None or history.gone_at >= since)  # else it had ended before
        ]

    def tell(self, number: str) -> Mapping[str, object] | None:
        """Return what has become of a request; None: it is not known, or not any more."""
        is_number = number.isascii() and number.isdecimal() and len(number) < 10
        request = self._requests.get(int(number)) if is_number else None
        if request is None:
            return None
        return {
            "number": int(number),
            "state": request.state,
            "why": request.why,
            "killed": request.killed,
        }
