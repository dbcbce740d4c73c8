"""Takes the events of a run: they become log lines and timeline, and are kept for summary and
report."""

from __future__ import annotations

import time

from gracewrap.policy import log_events
from gracewrap.policy.model import INVALID, UNREACHABLE
from gracewrap.record import TYPE_CHECKING
from gracewrap.report import runtime_events
from gracewrap.report.log_messages import describe
from gracewrap.report.program_history import PassedOn
from gracewrap.report.run_history import RunHistory

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from gracewrap.policy.model import Reading
    from gracewrap.report import probe_events
    from gracewrap.report.in_flight import InFlight
    from gracewrap.report.log import Log
    from gracewrap.report.program_history import ProgramHistory
    from gracewrap.report.wording import Line

    Event = log_events.LogEvent | runtime_events.RuntimeEvent | probe_events.ProbeEvent

# Events that are kept for the report, and so many more for each further program: a flood of them
# must not fill the memory.
TIMELINE = 200
TIMELINE_MORE = 8


class Recorder:
    """Keeps what happened, and logs it.  The arguments are those of RunHistory.

    Attributes:
        run: What is known of the run.
        histories: What is known of each program.
        timeline: The events for the report.
        omitted: How many there was no room for.
    """

    def __init__(
        self,
        log: Log,
        budget: float,
        at: float,
        wall: float,
        programs: Sequence[tuple[str, Sequence[str]]],
    ) -> None:
        self.log = log
        self.run = RunHistory(budget, at, wall, programs)
        self.histories = self.run.programs
        self.timeline: list[dict[str, object]] = []
        self.omitted = 0
        self._room = TIMELINE + TIMELINE_MORE * (len(self.histories) - 1)
        self._before_the_stop = 0  # entries of the timeline
        self._said: set[str] = set()  # faults and mistakes that have been logged
        self._late: list[tuple[int, float]] = []  # starts that have not been logged yet

    def record(self, event: Event, at: float) -> None:
        """Take in and log one event."""
        if self._late:
            self.catch_up(at)
        if isinstance(event, log_events.ProbeInvalid) and not self._is_news(_mistake(event)):
            return  # it was logged when the command started
        self._take(event, at)

    def _take(self, event: Event, at: float) -> None:
        history = self._history(event)
        self.run.take(event, at, history)
        history.take(event, at, self.run.since)
        to_members = log_events.Leftover | log_events.ShellWaits | log_events.LastCall
        if isinstance(event, to_members) and event.signum and not history.reached(event.members):
            return  # it was just leaving
        self._log(event, describe(event, history, self.run, at), at)

    def _history(self, event: Event) -> ProgramHistory:
        """Return the history of the program that an event is about."""
        program: int | None = getattr(event, "program", None)
        if program is None or getattr(event, "hook", "") == "push":  # which is done for all
            return self.run.all
        return self.histories[program]

    def _log(self, event: Event, line: Line, at: float) -> None:
        level, text, since = line.level, line.text, self.run.since
        if level != "debug" or line.on_change:
            self._keep(event.EVENT, line, at)
        if line.on_change and self.log.format == "json":
            level = "info"  # an event on change; people read it in the line of each second
        if not self.log.enabled(level):
            return
        if self.log.format == "auto":
            self.log.open()
        if since is None:
            self.log.say(level, event.EVENT, text, line.fields)
            return
        if self.log.format == "text":
            text = f"{at - since:6.2f} s  {text}"
        self.log.say(level, event.EVENT, text, {"elapsed": round(at - since, 6), **line.fields})

    def _keep(self, name: str, line: Line, at: float) -> None:
        """Keep an event for the report.  Without room the oldest one goes, but none of the stop."""
        if len(self.timeline) >= self._room:
            self.omitted += 1
            if not self._before_the_stop:
                return
            del self.timeline[0]
            self._before_the_stop -= 1
        self._before_the_stop += self.run.since is None
        start = self.run.started if self.run.since is None else self.run.since
        self.timeline.append({"at": round(at - start, 6), "event": name, **line.fields})

    # --- what is recorded in a way of its own ----------------------------------------------------

    def forwarded(
        self, signum: int, sent: Sequence[tuple[int, int]], at: float, by_kernel: bool = False
    ) -> None:
        """Count a signal that was passed on.  There may be thousands, so they are logged at debug
        level only.

        Args:
            signum: The signal.
            sent: The programs that it was sent to, each with the signal that it was sent.
            at: When.
            by_kernel: Whether it came from the kernel.
        """
        if not by_kernel:
            self.passed_on(signum, sent, at)
        if self.log.lowest == 0:
            event = log_events.Forwarded(signum, sent[0][1]) if sent else log_events.Dropped(signum)
            self.record(event, at)
        elif sent:
            self.run.signals_forwarded += 1

    def left_ended(self, pid: int, signum: int, at: float) -> None:
        """Take in the end of a process that a leader had left behind."""
        for history in self.histories:
            if pid in history.left_told:
                history.left_ended(pid, signum, at)

    def about_to_be_told(self, program: int, caught: bool) -> None:
        """Take in whether a leader had something to run on the stop signal before it was sent, as
        far as could be seen."""
        self.histories[program].caught = caught

    def passed_on(self, signum: int, sent: Iterable[tuple[int, int]], at: float) -> None:
        """Remember a signal that somebody has sent, for the case that it ends a program; the
        arguments are those of forwarded()."""
        for program, as_what in sent:
            self.histories[program].passed_on[as_what] = PassedOn(signum, at)

    def started_one(self, program: int, at: float) -> None:
        """Record the start of a program, to be logged before the next event or by catch_up();
        hundreds of starts need not wait for that."""
        self._late.append((program, at))

    def catch_up(self, now: float) -> None:
        """Log the starts whose log line was deferred."""
        late, self._late = self._late, []
        moment, began = self.log.moment, time.time() - now
        for program, at in late:
            self.log.moment = began + min(at, now)
            self.record(runtime_events.Started(program), at)
        self.log.moment = moment

    def sampled(self, program: int, probe: int, reading: Reading, at: float) -> None:
        """Take in what a probe said; log a change of what is in flight during a drain."""
        history = self.histories[program]
        changed = history.in_flight.take(probe, reading, at)
        if changed and history.in_flight.shown(at) and history.drain_began is not None:
            from gracewrap.report import probe_events  # loaded: there are probes

            self.record(probe_events.InFlightChanged(program), at)

    def looked(self, program: int, probe: int, reading: Reading, at: float) -> None:
        """Log what a look with a probe has shown while nothing is drained: a mistake as a warning,
        the rest at debug level."""
        from gracewrap.report import probe_events  # loaded: there are probes

        mistake = log_events.ProbeInvalid(program, probe, reading.why)
        if reading.kind == INVALID and self._is_news(_mistake(mistake)):
            self._take(mistake, at)
        elif reading.kind == UNREACHABLE:
            after = at - self.histories[program].started
            self.record(probe_events.ProbeSilent(program, probe, reading.why, after), at)
        elif self.log.lowest == 0:
            self.record(probe_events.ProbeSeen(program, probe, reading), at)

    def fault(self, error: BaseException, at: float) -> None:
        """Log an internal error that does not concern the programs; each kind of it once."""
        text = f"{type(error).__name__}: {error}"
        if self._is_news(text):
            self.record(runtime_events.Fault(text), at)

    def reopen_log(self, at: float) -> str:
        """Open the log file anew, and log that, or what went wrong; return the latter."""
        fault = self.log.reopen()
        if fault:
            what, _, why = fault.rpartition(": ")
            self.record(runtime_events.Unheard(what, why), at)
        elif self.log.path is not None:
            self.record(runtime_events.LogReopened(self.log.path), at)
        return fault

    def _is_news(self, text: str) -> bool:
        """Return whether this has not been logged yet; nothing is, once too much has."""
        news = text not in self._said and len(self._said) < TIMELINE
        self._said.add(text) if news else None
        return news

    def waited_for(
        self,
        program: int,
        remaining: float,
        at: float,
        doing: str = "",
        waits_for: Sequence[int] = (),
        held: bool = False,
        is_leftover: bool = False,
    ) -> runtime_events.WaitedFor:
        """Return what one of several programs is waited for.

        Args:
            program: Its index.
            remaining: As of WaitedFor, as are *doing* and *held*.
            waits_for: The programs that are stopped before it; then nothing else matters.
            is_leftover: Its leader is gone: its numbers say nothing any more, but for agents'.
        """
        history = self.histories[program]
        in_flight = history.in_flight
        is_known = in_flight.of_the_rest or not is_leftover
        return runtime_events.WaitedFor(
            history.name,
            remaining,
            doing,
            held,
            tuple(self.histories[i].name for i in waits_for),
            in_flight.shown(at) if is_known and not waits_for else "",
            in_flight.total() if is_known else None,
            _why(in_flight, is_leftover, at) if not waits_for else "",
        )


def _why(in_flight: InFlight, is_leftover: bool, at: float) -> str:
    return in_flight.silence(at) if is_leftover else in_flight.why_waiting(at)


def _mistake(event: log_events.ProbeInvalid) -> str:
    return f"probe {event.probe} of {event.program}: {event.why}"
