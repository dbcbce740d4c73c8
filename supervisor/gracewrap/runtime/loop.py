"""The loop: the only place that waits.  A signal, a deadline or an answer becomes an event, the
policy decides, its commands are carried out, and then logged.

Signals stay blocked and are fetched one by one (sigtimedwait(2)): no handler ever runs, nothing is
interrupted, and with no deadline set gracewrap sleeps without a single wakeup.  Descriptors wake it
by a signal too, SIGIO (linux/reactor.py).  After the spawn no exception leaves this module.
"""

from __future__ import annotations

import _signal
import gc
import time

from gracewrap.config.to_policy import policy_of
from gracewrap.linux import unsent_bytes
from gracewrap.linux.procfs import keep_spare
from gracewrap.linux.reactor import Reactor
from gracewrap.linux.signals import BLOCKABLE, SIGCHLD, SIGIO, fetch
from gracewrap.policy import model as m
from gracewrap.policy import run_phases, step
from gracewrap.policy.log_events import LogRecord
from gracewrap.policy.run_phases import System
from gracewrap.record import TYPE_CHECKING, replace
from gracewrap.report.runtime_events import CannotRun
from gracewrap.runtime import record_policy_events
from gracewrap.runtime.cleanup_at_exit import Ending
from gracewrap.runtime.gap_detector import GapDetector
from gracewrap.runtime.policy_commands import CommandExecutor
from gracewrap.runtime.programs import Programs, hint
from gracewrap.runtime.reaping import ExitCollector
from gracewrap.runtime.side_tasks import SideTasks
from gracewrap.runtime.signal_router import SignalRouter

if TYPE_CHECKING:
    from collections.abc import Callable

    from gracewrap.config.settings import Settings
    from gracewrap.linux.reaper import Reaped
    from gracewrap.runtime.handover import Handover
    from gracewrap.runtime.program import ProgramRuntime

HEARTBEAT = 1.0  # seconds between two wakeups at most while the policy has something timed


class Loop:
    """One run, of one command or of several programs."""

    def __init__(
        self,
        handover: Handover,
        settings: Settings,
        decide: Callable[..., run_phases.Step] = step.step,
    ) -> None:
        self.handover, self.settings, self.decide = handover, settings, decide
        self.policy = policy_of(settings, time.time_ns() % 2**32)
        if not unsent_bytes.network_may_go():
            self.policy = replace(self.policy, flush_timeout=0.0)
        started = () if self.policy.managed else None
        self.system: System = run_phases.begin(self.policy, started, handover.at)
        keep_spare()
        self._due_of: System | None = None  # of which _due is the deadline
        self._due: float | None = None
        self.gaps = GapDetector()
        self.exit: int | None = None
        # The signal that is being acted on; should that raise, the fallback acts on it.
        self.in_hand = 0
        self.recorder = record_policy_events.begin(settings, self.policy, handover)
        self.log = self.recorder.log
        self.reactor = Reactor(self.fault)
        self.posted: list[m.Event] = []  # events for the policy that are to be fed
        self.started: m.Event | None = None  # the answer to StartProgram, likewise
        self.programs = Programs(
            settings, handover, self.reactor, self.recorder, self.posted.append
        )
        self.commands = CommandExecutor(self.programs, self.policy, self.reactor, self.fault)
        self.exits = ExitCollector(self.programs, self.recorder, handover.tty, self._is_watched)
        self.signals = SignalRouter(
            settings, self.policy, self.programs, self.recorder, handover.tty, self.do, self.safely
        )
        self.side = self._side_tasks()
        self.ending = Ending(handover, settings, self.recorder, self.programs, self.side)
        self.reported = record_policy_events.PolicyEvents(
            self.recorder, handover, bool(settings.programs), self.side.noted
        )

    def _side_tasks(self) -> SideTasks:
        return SideTasks(
            self.settings,
            self.policy,
            self.handover,
            self.programs,
            self.recorder,
            self.reactor,
            lambda: self.system,
            lambda: None if self.posted or self.started else self.system,
            self.posted.append,
            self.safely,
        )

    # --- the run ---------------------------------------------------------------------------------

    def run(self) -> int:
        """Wait, decide, do, log; until Exit."""
        if self.handover.exec_errno:
            return self.ending.leave(self._exec_failed())
        self.set_up()
        for program in self.programs.leaders.values():
            self.recorder.started_one(program.index, program.child.started_at)
            program.on_started()
        self._catch_up()
        if self.policy.managed:
            self.feed(m.Tick(time.monotonic()))  # the first start
        gc.freeze()  # what is imported stays: no collection need look at it
        gc.enable()  # start disabled it for the imports
        while self.exit is None:
            self.turn()
        return self.ending.leave(self.exit)

    def _catch_up(self) -> None:
        """Feed what has happened before we were there."""
        for request in self.handover.stop_requests:
            self.recorder.run.sender = request.sender
            self.log.moment = record_policy_events.wall(request.at)
            self._stop_requested(request.signum, request.at)
        dead_at, ended = self.handover.dead_at, self.handover.ended
        if self.handover.told is not None:
            self.recorder.histories[0].watched_from = time.monotonic()
        if dead_at is not None:
            self.log.moment = record_policy_events.wall(dead_at)
            self.collect(dead_at)
        self.log.moment = None
        if ended is not None:
            self._leader_exited(self.programs[0], ended.reaped, ended.left, ended.at)
            if self.exit is None:
                self.collect(time.monotonic())
        elif not self.handover.stop_requests and dead_at is None:
            self._catch_up_with_pending()

    def _catch_up_with_pending(self) -> None:
        """Act on a first stop request that came while we were being loaded: its budget counts from
        then."""
        for signum, at in self.handover.pending_since.items():
            if signum in self.policy.stop_on and (got := _signal.sigtimedwait((signum,), 0)):
                self.log.moment = record_policy_events.wall(at)
                self.received(got, at)
        self.log.moment = None

    def set_up(self) -> None:
        """Open what can be asked from outside, and prepare what the settings ask for.  A failure of
        any of it is logged; the child keeps running."""
        self.safely(lambda: self.programs.prepare(self.policy.push, self.side.last_metrics))
        self.safely(self.programs.open_output)
        self.side.begin()

    def safely(self, act: Callable[[], object]) -> None:
        """Call *act*.  Log an exception instead of raising it: no extra may cost the child."""
        try:
            act()
        except Exception as error:
            self.fault(error)

    def fault(self, error: BaseException) -> None:
        """Log an internal error that does not concern the programs, each kind of it once."""
        self.recorder.fault(error, time.monotonic())

    # --- waiting ---------------------------------------------------------------------------------

    def turn(self) -> None:
        """Wait for one thing to happen, and act on it."""
        got = self.wait()
        at = time.monotonic()
        if gap := self.gaps.wakes(at):  # before anything that it has made due
            self.feed(gap)
        if self.started is not None:  # before its exit is collected; the next start may follow
            self.feed_start()
        if got is not None or self.started is None or self.reactor.is_ready:
            self.recorder.catch_up(at)  # before a line of the program, for one
        if got is not None:
            if got.si_signo == SIGCHLD:
                self.collect(at)
            else:
                if got.si_signo == SIGIO:
                    # Also if somebody else has sent it: only one of each signal is kept, and the
                    # kernel's may be lost in it.
                    self.reactor.notify_ready()
                self.received(got, at)
        if self.reactor.busy:
            self.reactor.run(at)
        while self.posted and self.exit is None:
            if self.started is not None:  # by the one before
                self.feed_start()
            self.feed(self.posted.pop(0))
        if self.is_due(at):
            # Signals with lower numbers come before it: who has ended already is not out of time.
            if _signal.sigtimedwait((SIGCHLD,), 0):
                self.collect(at)
            if self.is_due(at):
                self.feed(m.Tick(at))
        self.side.look(at)
        self.log.flush()
        self.side.begin_rest(at)

    def due(self) -> float | None:
        """Return when the policy next needs a tick; worked out only when the system has changed:
        signals come by thousands."""
        if self.system is not self._due_of:
            self._due_of, self._due = self.system, step.deadline(self.system, self.policy)
        return self._due

    def is_due(self, at: float) -> bool:
        """Return whether the policy needs a tick."""
        due = self.due()
        return due is not None and at >= due

    def wait(self) -> _signal.struct_siginfo | None:
        """Return the next signal, or None when something else is due."""
        now = time.monotonic()
        if self.posted or self.started is not None:  # a tick may have had an answer at once
            self.gaps.sleeps(now, now)
            return fetch(0)
        due = self.due()
        if due is not None:  # what is timed is looked after, to see a gap in time
            due = min(due, now + HEARTBEAT)
        line_at = self.side.due()
        if due is not None and line_at is not None:
            due = min(due, line_at)
        if self.reactor.busy:
            soon = self.reactor.due(now)
            due = soon if due is None else due if soon is None else min(due, soon)
        self.gaps.sleeps(now, due)
        if due is None:
            return _signal.sigwaitinfo(BLOCKABLE)
        return fetch(due - now)

    # --- signals ---------------------------------------------------------------------------------

    def received(self, got: _signal.struct_siginfo, at: float) -> None:
        """Pass a signal on at once, or let the policy decide about it."""
        match self.signals.received(got, at):
            case m.SignalReceived(signum, at, unhandled):
                self._stop_requested(signum, at, unhandled)
            case m.RollingRestartRequested() as request:
                self.feed(request)

    def _stop_requested(
        self, signum: int, at: float, unhandled: frozenset[int] = frozenset()
    ) -> None:
        self.feed(m.SignalReceived(signum, at, unhandled))
        # What came while we acted on it came at once with it, however long that took: it is no
        # second request.
        for also in self.policy.stop_on:
            if _signal.sigtimedwait((also,), 0):
                self.feed(m.SignalReceived(also, at))

    # --- exits -----------------------------------------------------------------------------------

    def collect(self, at: float) -> None:
        """Collect every exit; feed those of leaders, and of the last process of each program."""
        ended, left = self.exits.collect(at)
        for program in self.programs:  # what it has had above it may be gone
            if run_phases.is_stopping(self.system, program.index):
                self.feed(m.MemberEnded(program.index, at))
        for program, reaped in ended:
            self._leader_exited(program, reaped, self.programs.is_left(program, left), at)
        for program in self.programs:
            gone = program.child.status is not None and self._is_watched(program.index)
            if gone and not self.programs.is_left(program, left):
                self.programs.on_gone(program)
                self.feed(m.ProgramGone(program.index, at), program)

    def _leader_exited(
        self, program: ProgramRuntime, reaped: Reaped, left: bool, at: float
    ) -> None:
        """Feed a leader's exit, or that its exec had failed."""
        if isinstance(self.started, m.ProgramStarted) and self.started.program == program.index:
            self.feed_start()  # it was started a moment ago, and has ended already
        event = self.exits.leader_exited(program, reaped, left, at)
        failed = isinstance(event, m.StartFailed)
        if isinstance(event, m.StartFailed) and not self.policy.managed:
            self.exit = program.child.status = self._cannot_run(event.status, event.why, at)
            return
        if failed or not left:
            self.programs.on_gone(program)
        self.feed(event, None if failed or left else program)
        if left and not failed:
            program.on_leftover()

    def _is_watched(self, index: int) -> bool:
        return run_phases.waits_for_rest(self.system, index)

    def _exec_failed(self) -> int:
        """Log why the command could not be executed; return the exit status."""
        from gracewrap.linux import exec_errors  # only now of use

        command = self.settings.command
        status, why = exec_errors.explain(command, self.handover.exec_errno)
        return self._cannot_run(status, why + hint(status, self.settings), self.handover.at)

    def _cannot_run(self, status: int, why: str, at: float) -> int:
        """Log why the one command could not be run; return the exit status."""
        self.recorder.record(CannotRun(0, why, status), at)
        return status

    # --- deciding, doing, logging ----------------------------------------------------------------

    def feed_start(self) -> None:
        """Feed the answer to StartProgram; then find out when the program is ready."""
        event, self.started = self.started, None
        assert event is not None
        program = self.programs[event.program] if isinstance(event, m.ProgramStarted) else None
        if program is not None:  # logged before what follows from it
            self.recorder.started_one(program.index, program.child.started_at)
        self.feed(event)
        if program is not None:
            program.on_started()

    def feed(self, event: m.Event, gone: ProgramRuntime | None = None) -> None:
        """Let the policy decide, do it, then log it, whatever the order of the commands.

        Args:
            event: What has happened.
            gone: The program of which nothing is left with that.
        """
        self.in_hand = event.signum if isinstance(event, m.SignalReceived) else 0
        self.system, commands = self.decide(self.system, event, self.policy)
        # Hooks are given what has been logged, and the log of a program's end comes before that of
        # its next start: these are done last.
        last = [one for one in commands if isinstance(one, m.RunHelper | m.StartProgram)]
        first = [one for one in commands if one not in last]
        answers = [self.do(command) for command in first]
        self.in_hand = 0
        if isinstance(event, m.SignalReceived):
            self.reported.passed_on(event, commands)
        if isinstance(event, m.Sampled):
            self.recorder.sampled(event.program, event.probe, event.reading, event.at)
        said = [one for one in first if isinstance(one, LogRecord)]
        self.reported.record(said, event.at, None if gone is None else gone.index)
        answers += [self.do(command) for command in last]
        for answer in answers:
            if answer is not None:
                self.feed(answer)

    def do(self, command: m.Command) -> m.Event | None:
        """Carry out one command; return the event that answers at once, if any."""
        match command:
            case m.StartProgram(i):
                self.started = self.programs.start(self.programs[i])
            case m.Exit(status):
                self.exit = status
            case LogRecord():
                pass  # logged later
            case _:
                return self.commands.do(command, self.system)
        return None
