"""What is asked of some of the programs from outside: that they are stopped or restarted, while the
others go on.

Loaded when somebody first asks for it.
"""

from __future__ import annotations

from gracewrap.policy import log_events, program
from gracewrap.policy import model as m
from gracewrap.policy import system as coordinator
from gracewrap.record import TYPE_CHECKING, assert_never
from gracewrap.report import text

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping, Sequence

    from gracewrap.report.program_history import ProgramHistory
    from gracewrap.report.recorder import Recorder

# requests of which it is known how they went; who waits for one looks several times a second
KEPT = 64

# What to write instead where there is one command, whose end is the end of all; by whether it is to
# be started again.
_ONE_COMMAND = {
    False: "it runs one command, which has no name; write gracewrap stop",
    True: "it runs one command, and ends with it; write --restart always where it is run to have "
    "that started again",
}


class Request:
    """One that was taken.

    Args:
        by: Who asks for what, as the policy is told.
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
    """Takes such requests, and knows how they went.

    Args:
        recorder: Knows the programs' names, and how they ended.
        policy: What the policy was told.
        system: Returns how all of it stands now.
        post: Takes an event for the policy.
    """

    def __init__(
        self,
        recorder: Recorder,
        policy: m.Policy,
        system: Callable[[], coordinator.System],
        post: Callable[[m.Event], None],
    ) -> None:
        self._tales, self._policy, self._system, self._post = (
            recorder.histories,
            policy,
            system,
            post,
        )
        self._labels = [history.label for history in recorder.histories]
        self._requests: dict[int, Request] = {}
        self._last = 0  # its number

    def _listed(self, programs: Iterable[int]) -> str:
        return text.listed([self._labels[i] for i in programs])

    # --- what is asked ---------------------------------------------------------------------------

    def act(
        self, asked: str, again: bool, peer: str, at: float
    ) -> tuple[int, Mapping[str, object]]:
        """Stop programs, and start them anew if *again*; return HTTP status and answer, which says
        what goes with them.

        Args:
            asked: Their names, with commas in between: no name has one.
            again: Whether it is a restart.
            peer: Who asks.
            at: When.
        """
        system = self._system()
        assert isinstance(system, coordinator.Up)
        if not self._policy.managed:
            return 409, {"error": _ONE_COMMAND[again]}
        names = list(dict.fromkeys(filter(None, asked.split(",")))) or (
            self._labels if len(self._labels) == 1 else []
        )
        if not names or not set(names).issubset(self._labels):
            return (404 if names else 400), {
                "error": self.no_such([name for name in names if name not in self._labels])
            }
        if busy := self._busy(system):
            return 409, {"error": f"{busy}; ask again after that"}
        return self._take(system, [self._labels.index(name) for name in names], again, peer, at)

    def no_such(self, names: Sequence[str]) -> str:
        """Return what to write instead of names that are none, or of no name."""
        there = text.listed(self._labels, 20, "or")
        if not names:
            return f"it runs several programs; write which one: {there}"
        if len(names) > 1:
            return (
                f"there are no programs {text.listed([repr(name) for name in names])}; "
                f"write {there}"
            )
        from gracewrap.config.did_you_mean import closest

        near = closest(names[0], self._labels)
        every = text.listed(self._labels, 20)
        meant = (
            f"did you mean {near}, of {every}?"
            if near and len(self._labels) > 1
            else f"write {there}"
        )
        return f"there is no program {names[0]!r}; {meant}"

    def _busy(self, system: coordinator.System) -> str:
        """Return what is being stopped already, or is about to be; "" for nothing: it is one part
        at a time."""
        part = system.part if isinstance(system, coordinator.Up) else None
        waiting = (
            (one.programs, one.again) for one in self._requests.values() if one.state == "asked"
        )
        busy, again = (
            next(waiting, (frozenset(), False))
            if part is None
            else (part.programs, bool(part.again))
        )
        doing = f"{'is' if len(busy) == 1 else 'are'} being {'restarted' if again else 'stopped'}"
        return f"{self._listed(sorted(busy))} {doing}" if busy else ""

    def _take(
        self, system: coordinator.Up, found: list[int], again: bool, peer: str, at: float
    ) -> tuple[int, Mapping[str, object]]:
        """Have the policy do it, but for a stop of what has ended before."""
        ended = [i for i in found if isinstance(system.programs[i], program.Gone)]
        wanted = found if again else [i for i in found if i not in ended]
        names = [self._labels[i] for i in wanted]
        not_running = f"{self._listed(ended)} {'is' if len(ended) == 1 else 'are'} not running"
        if not wanted:
            return 200, {"ok": True, "named": [], "programs": [], "message": not_running}
        first = self._stopped_before(system, wanted)
        stopped = {*first, *wanted}
        by = f"gracewrap {'restart' if again else 'stop'} {' '.join(names)} ({peer})"
        number = self._keep(Request(by, stopped, again))
        self._post(m.PartRequested(tuple(wanted), by, again, at))
        is_all = not again and all(
            i in stopped or isinstance(one, program.Gone) for i, one in enumerate(system.programs)
        )
        message = (
            f"{self._doing(wanted, ended, again)}{self._goes_with(first, again, len(wanted) > 1)}"
        )
        message += self._without(system, wanted) if again else f"; {not_running}" if ended else ""
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
            "message": message
            + ("; nothing else runs, and gracewrap ends with it" if is_all else ""),
        }

    def _doing(self, wanted: Sequence[int], ended: Sequence[int], again: bool) -> str:
        if not again:
            return f"stopping {self._listed(wanted)}"
        running = [i for i in wanted if i not in ended]
        parts = [f"restarting {self._listed(running)}"] if running else []
        return " and ".join([*parts, f"starting {self._listed(ended)}"] if ended else parts)

    def _stopped_before(self, system: coordinator.Up, wanted: Sequence[int]) -> list[int]:
        """Return what else cannot go on without programs, in the order in which it is stopped
        before them."""
        if system.order is None:
            return []
        from gracewrap.policy import dependencies

        those = dependencies.dependants(system.order, self._policy.programs, wanted) - set(wanted)
        return [
            i
            for i in system.order.sequence
            if i in those and not isinstance(system.programs[i], program.Gone)
        ]

    def _goes_with(self, first: Sequence[int], again: bool, several: bool) -> str:
        if not first:
            return ""
        it = "them" if several else "it"
        if len(first) == 1:
            return (
                f"; {self._listed(first)}, which depends on {it}, stops "
                f"first{' and is started again' if again else ''}"
            )
        return (
            f"; {self._listed(first)}, which depend on {it}, stop "
            f"first{' and are started again' if again else ''}"
        )

    def _without(self, system: coordinator.Up, wanted: Sequence[int]) -> str:
        """Return what programs need and will have to do without: it was stopped, and nobody has
        started it again."""
        missing = {
            needed: None
            for i in wanted
            for needed, condition in self._policy.programs[i].depends_on
            if condition != "completed"
            and needed not in wanted
            and isinstance(system.programs[needed], program.Gone)
        }
        if not missing:
            return ""
        depend = "they depend" if len(wanted) > 1 else "it depends"
        return (
            f"; {self._listed(missing)}, on which {depend}, "
            f"{'is' if len(missing) == 1 else 'are'} not running"
        )

    # --- how it went -----------------------------------------------------------------------------

    def _keep(self, request: Request) -> int:
        self._last += 1
        self._requests[self._last] = request
        self._requests.pop(self._last - KEPT, None)
        return self._last

    def noted(self, event: log_events.PartEvent, at: float) -> None:
        """Take in what the policy says of a request; it decides about them in their order."""
        match event:
            case log_events.PartStopped(programs):
                for one in self._requests.values():
                    if one.state == "begun":
                        one.state, one.killed = "over", self._killed(programs, one.since, at)
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
        histories: list[ProgramHistory] = [self._tales[i] for i in programs]
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
        """Return what has become of a request; None: of one that is not known, or not any more."""
        one = (
            self._requests.get(int(number))
            if number.isascii() and number.isdecimal() and len(number) < 10
            else None
        )
        if one is None:
            return None
        return {"number": int(number), "state": one.state, "why": one.why, "killed": one.killed}
