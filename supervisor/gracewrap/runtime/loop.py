"""The loop: the only place that waits.  A signal, a deadline or an answer becomes an event, the
policy decides, its commands are carried out, and then logged.

Signals stay blocked and are fetched one by one (sigtimedwait(2)): no handler ever runs, nothing is
interrupted, and with no deadline set gracewrap sleeps without a single wakeup.  Descriptors wake it
by a signal too, SIGIO (linux/reactor.py).  After the spawn no exception leaves this module.
"""

from __future__ import annotations

import _signal
import gc
import posix
import time

from gracewrap.config.to_policy import policy_of
from gracewrap.linux import launcher, terminal, unsent_bytes
from gracewrap.linux.procfs import keep_spare
from gracewrap.linux.reactor import Reactor
from gracewrap.linux.signals import (
    BLOCKABLE,
    SIGCHLD,
    SIGIO,
    fetch,
)
from gracewrap.policy import model as m
from gracewrap.policy import step, system
from gracewrap.policy.log_events import Forwarded, LogRecord, OfAPart, StopSignal
from gracewrap.policy.system import ShuttingDown, System, Up
from gracewrap.record import TYPE_CHECKING, replace
from gracewrap.report.log import Log
from gracewrap.report.program_history import PassedOn
from gracewrap.report.recorder import Recorder
from gracewrap.report.runtime_events import CannotRun, ProgramGone
from gracewrap.runtime import docker_limit, fallback, lazy_imports
from gracewrap.runtime.ending import Ending
from gracewrap.runtime.gap_detector import GapDetector
from gracewrap.runtime.policy_commands import CommandExecutor
from gracewrap.runtime.programs import Programs, hint
from gracewrap.runtime.reaping import ExitCollector
from gracewrap.runtime.signal_router import SignalRouter

if TYPE_CHECKING:
    from collections.abc import Callable

    from gracewrap.config.settings import Settings
    from gracewrap.linux.reaper import Reaped
    from gracewrap.policy.log_events import LogEvent
    from gracewrap.runtime.child import Child
    from gracewrap.runtime.control import ControlApi
    from gracewrap.runtime.handover import Handover
    from gracewrap.runtime.program import ProgramRuntime
    from gracewrap.runtime.progress import Progress
    from gracewrap.runtime.rest import Rest
    from gracewrap.runtime.service_manager import ServiceManager

HEARTBEAT = 1.0  # seconds between two wakeups at most while the policy has something timed
LOAD_AFTER = 0.1  # seconds after the start, when what only a stop needs is imported


# What a stop and the end of a run need.  Loaded when the command has been started and nothing else
# is to be done: a later stop finds them even if the package has been replaced meanwhile.
AT_REST = (
    *lazy_imports.STOP,
    "gracewrap.policy.kill_reason",
    "gracewrap.policy.time_gap",
    "gracewrap.policy.successor",
    "gracewrap.report.held_up",
    "gracewrap.runtime.program_status",
    "gracewrap.runtime.progress",
    "gracewrap.report.program_summary",
    "gracewrap.config.recognise",
    "gracewrap.report.summary",
    "gracewrap.report.report_files",
    "gracewrap.runtime.last_word",
)
# What else may be decided about programs that are started again, or one by one.
OF_PROGRAMS = (
    "gracewrap.policy.restart",
    "gracewrap.policy.dependencies",
    "gracewrap.policy.rolling",
    "gracewrap.policy.part_stop",
    "gracewrap.policy.check_failure",
    "gracewrap.policy.watchdog",
    "gracewrap.runtime.partial_restart",
)


class Loop:
    """One run, of one command or of several programs."""

    def __init__(
        self, handover: Handover, settings: Settings, decide: Callable[..., system.Step] = step.step
    ) -> None:
        self.handover, self.settings, self.decide = handover, settings, decide
        self.policy = policy_of(settings, time.time_ns() % 2**32)
        if not unsent_bytes.in_container():
            self.policy = replace(self.policy, flush_timeout=0.0)
        started = () if self.policy.managed else None
        self.system: System = system.begin(self.policy, started, handover.at)
        keep_spare()
        self._due_of: System | None = None  # of which _due is the deadline
        self._due: float | None = None
        self.gaps = GapDetector()
        self.exit: int | None = None
        # The signal that is being acted on; should that raise, the fallback acts on it.
        self.in_hand = 0
        self.log = Log(
            settings.log_format_in_use, settings.log_level, settings.log_file, settings.log_time
        )
        programs = [(program.name, program.command) for program in settings.each]
        self.recorder = Recorder(
            self.log, settings.shutdown_timeout, handover.at, _wall(handover.at), programs
        )
        self.recorder.run.orphans_reaped = handover.orphans_reaped
        self.recorder.run.is_short_of_docker = docker_limit.is_exceeded(settings)
        self.recorder.run.signals_forwarded = handover.signals_forwarded
        if handover.passed_on[0]:
            signum, at, as_what = handover.passed_on
            self.recorder.histories[0].passed_on[as_what] = PassedOn(signum, at)
        self.recorder.run.interactive = handover.tty is not None
        self.recorder.run.exit_code_from = self.policy.exit_code_from
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
        self.ending = Ending(handover, settings, self.recorder, self.programs, self.last_metrics)
        self.control: ControlApi | None = None
        self.progress: Progress | None = None
        self.above: ServiceManager | None = None  # None: nobody there wants to be told
        self.rest: Rest | None = None  # None: we stay

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
            self.log.moment = _wall(request.at)
            self._stop_requested(request.signum, request.at)
        dead_at, ended = self.handover.dead_at, self.handover.ended
        if self.handover.told is not None:
            self.recorder.histories[0].watched_from = time.monotonic()
        if dead_at is not None:
            self.log.moment = _wall(dead_at)
            self.collect(dead_at)
        self.log.moment = None
        if ended is not None:
            self._leader_exited(self.programs[0], ended.reaped, ended.left, ended.at)
            if self.exit is None:
                self.collect(time.monotonic())

    def set_up(self) -> None:
        """Open what can be asked from outside, and prepare what the settings ask for.  A failure of
        any of it is logged; the child keeps running."""
        self.safely(lambda: self.programs.prepare(self.policy.push, self.last_metrics))
        self.safely(self.programs.open_output)
        settings = self.settings
        if settings.control_socket != "off" or self.handover.listening or settings.tells_metrics:
            self.safely(self._open_control)
        if b"NOTIFY_SOCKET" in posix.environ:
            self.safely(self._find_service_manager)
        # Not while the command starts, which may have no other CPU.
        self.reactor.call_at(time.monotonic() + LOAD_AFTER, self._come_to_rest)

    def _come_to_rest(self) -> None:
        """Leave the command to the native launcher, if it has started us and there is nothing for
        us to do; else load what is needed some time."""
        if launcher.path() is not None and not self.policy.managed and self.above is None:
            from gracewrap.runtime import rest

            if rest.is_possible(self.settings, self.handover):
                self.rest = rest.Rest(
                    self.settings,
                    self.handover,
                    self.policy,
                    self.programs,
                    self.recorder,
                    self.reactor,
                    self.control,
                    self._idle_system,
                    self._stay,
                )
                self.rest.begin()
                return
        self._stay()

    def _stay(self) -> None:
        self.rest = None
        modules = AT_REST + OF_PROGRAMS if self.policy.managed else AT_REST
        self.reactor.run_in_slices(lazy_imports.load(modules))

    def _idle_system(self) -> System | None:
        return None if self.posted or self.started else self.system

    def _find_service_manager(self) -> None:
        from gracewrap.runtime import service_manager

        to = service_manager.address()
        if to is not None:
            self.above = service_manager.ServiceManager(
                to, self.policy, self.programs, self.recorder
            )

    def _open_control(self) -> None:
        from gracewrap.runtime.control import ControlApi

        self.control = self.ending.control = ControlApi(
            self.reactor,
            self.handover,
            self.recorder,
            self.settings,
            self.policy,
            self.programs,
            lambda: self.system,
            self.posted.append,
        )
        self.control.open()

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
        if self.above is not None:
            above = self.above
            self.safely(lambda: above.look(self.system))
        if isinstance(self.system, ShuttingDown):
            self.safely(lambda: self._show_progress(at))
            if self.rest is not None:  # there is none any more
                self._stay()
        self.log.flush()
        if self.rest is not None:
            self.rest.begin_later(at)

    def _show_progress(self, at: float) -> None:
        if self.progress is None:
            from gracewrap.runtime.progress import Progress

            self.progress = Progress(self.recorder, self.policy, self.programs, at)
        if isinstance(self.system, ShuttingDown):
            self.progress.show(self.system, at)

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
        if isinstance(self.system, ShuttingDown) and self.progress is not None and due is not None:
            due = min(due, self.progress.at)
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
            if system.is_stopping(self.system, program.index):
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
        """Feed a leader's exit; take the terminal back, find out whether its exec had failed."""
        if isinstance(self.started, m.ProgramStarted) and self.started.program == program.index:
            self.feed_start()  # it was started a moment ago, and has ended already
        child = program.child
        del self.programs.leaders[reaped.pid]
        if self.handover.tty is not None:
            terminal.take_back(self.handover.tty, child.pid)
        failure = child.ended(reaped.status)
        if failure is not None and not self.policy.managed:
            self.exit = child.status = self._cannot_run(program, *failure, at)
            return
        if not left or failure is not None:
            self.programs.on_gone(program)
        if failure is not None:
            status, why = failure
            why += hint(status, program.settings)
            self.feed(m.StartFailed(program.index, status, why, at))
            return
        event = m.LeaderExited(
            program.index, reaped.status, reaped.signum, left, at, self._terminal_group(child)
        )
        self.feed(event, None if left else program)
        if left:
            program.on_leftover()

    def _terminal_group(self, child: Child) -> int:
        """Return the group that has had what was typed on the terminal; 0: there is none."""
        return child.group if self.handover.tty is not None else 0

    def _is_watched(self, index: int) -> bool:
        return system.waits_for_rest(self.system, index)

    def _exec_failed(self) -> int:
        """Log why the command could not be executed; return the exit status."""
        from gracewrap.linux import exec_errors  # only now of use

        status, why = exec_errors.explain(self.settings.command, self.handover.exec_errno)
        return self._cannot_run(self.programs[0], status, why, self.handover.at)

    def _cannot_run(self, program: ProgramRuntime, status: int, why: str, at: float) -> int:
        """Log why the command could not be run; return the exit status."""
        why += hint(status, program.settings)
        self.recorder.record(CannotRun(program.index, why, status), at)
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
            self._passed_on(event, commands)
        if isinstance(event, m.Sampled):
            self.recorder.sampled(event.program, event.probe, event.reading, event.at)
        self._record([one for one in first if isinstance(one, LogRecord)], event.at, gone)
        answers += [self.do(command) for command in last]
        for answer in answers:
            if answer is not None:
                self.feed(answer)

    def _passed_on(self, event: m.SignalReceived, commands: tuple[m.Command, ...]) -> None:
        """Remember a signal that the policy has passed on, unless the kernel sent it."""
        info = self.recorder.run.siginfo
        by_kernel = info is not None and info[2] > 0
        if not by_kernel and any(isinstance(one, Forwarded) for one in commands):
            sent = [
                (one.program, one.signum)
                for one in commands
                if isinstance(one, m.SendLeader | m.SendGroup)
            ]
            self.recorder.passed_on(event.signum, sent, event.at)

    def _record(self, events: list[LogEvent], at: float, gone: ProgramRuntime | None) -> None:
        """Log events; those about a program that is *gone* before what follows for others."""
        if gone is None or not self.settings.programs:
            for event in events:
                self._record_one(event, at)
            return
        own = [event for event in events if getattr(event, "program", None) == gone.index]
        for event in own:
            self._record_one(event, at)
        self.recorder.record(ProgramGone(gone.index), at)
        for event in events:
            if event not in own:
                self._record_one(event, at)

    def _record_one(self, event: LogEvent, at: float) -> None:
        if isinstance(event, StopSignal) and self.log.moment is not None:
            # The request was before we were there; if the launcher has not sent it, we do so now.
            told = self.handover.told
            at = time.monotonic() if told is None else told.at
        self.recorder.record(event, at)
        control = self.control
        if control is not None and isinstance(event, OfAPart):  # somebody may wait for it there
            self.safely(lambda: control.noted(event, at))

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

    # --- the end ---------------------------------------------------------------------------------

    def fallback_state(self) -> fallback.FallbackState:
        """Return what the fallback has to know."""
        children = [program.child for program in self.programs]
        return fallback.FallbackState(
            {pid: one.settings.stop_signal for pid, one in self.programs.leaders.items()},
            tuple(child.status for child in children if child.status is not None),
            self.system.kill_at if isinstance(self.system, ShuttingDown) else None,
            any(child.history.sent for child in children),
            self.in_hand,
            self.programs.output_sources(),
        )

    def last_metrics(self) -> str:
        """Return the metrics of a run of which nothing is left."""
        if isinstance(self.system, Up | ShuttingDown) or self.control is None:
            return ""
        return self.control.last_metrics(self.system.status)


def _wall(at: float) -> float:
    """Return what time of day it was, in seconds since 1970, at a time of the monotonic clock."""
    return time.time() - max(0.0, time.monotonic() - at)
