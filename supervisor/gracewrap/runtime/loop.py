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
from gracewrap.config.values import RESTART
from gracewrap.linux import process_tree, terminal, unsent_bytes
from gracewrap.linux.procfs import keep_spare
from gracewrap.linux.reactor import Reactor
from gracewrap.linux.signals import BLOCKABLE, SIGCHLD, SIGCONT, SIGIO, SIGTSTP, is_our_own, name
from gracewrap.policy import advance, step, system
from gracewrap.policy import model as m
from gracewrap.policy.log_events import LogRecord, OfAPart
from gracewrap.policy.program import Killing, Phase, Stopping, Stragglers
from gracewrap.policy.system import ShuttingDown, System, Up
from gracewrap.record import TYPE_CHECKING, assert_never, replace
from gracewrap.report.log import Log
from gracewrap.report.recorder import Recorder
from gracewrap.report.run_history import sender
from gracewrap.report.runtime_events import Bug, CannotRun, ProgramGone
from gracewrap.runtime import fallback, lazy_imports
from gracewrap.runtime.programs import Programs, hint
from gracewrap.runtime.reaping import ExitCollector

if TYPE_CHECKING:
    from collections.abc import Callable

    from gracewrap.config.settings import Settings
    from gracewrap.linux.reaper import Reaped
    from gracewrap.policy.log_events import LogEvent
    from gracewrap.runtime.control import ControlApi
    from gracewrap.runtime.handover import Handover
    from gracewrap.runtime.program import ProgramRuntime
    from gracewrap.runtime.progress import Progress

LOAD_AFTER = 0.1  # seconds after the start, when what only a stop needs is imported


def supervise(handover: Handover, settings: Settings) -> int:
    """Look after the child until nothing of it is left; return the exit status."""
    loop = None
    try:
        loop = Loop(handover, settings)
        return loop.run()
    except BaseException as error:
        return 126 if handover.exec_errno else last_resort(handover, settings, error, loop)


def last_resort(
    handover: Handover, settings: Settings, error: BaseException, loop: Loop | None = None
) -> int:
    """Log what has raised, and carry on without it."""
    known = fallback.FallbackState({handover.pid: settings.stop_signal} if handover.pid else {})
    if loop is not None:
        known = loop.fallback_state()
        try:
            bug = Bug(f"{type(error).__name__}: {error}")
            loop.recorder.record(bug, time.monotonic())
            loop.close(0)
        except Exception:
            pass  # logging must not keep us from the child
    if not known.leaders and not known.statuses:
        return 125  # nothing has been started
    return fallback.run(known, fallback.rules_of(settings))


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
        self.exit: int | None = None
        # The signal that is being acted on; should that raise, the fallback acts on it.
        self.in_hand = 0
        self.log = Log(log_format(settings), settings.log_level, settings.log_file)
        programs = [(program.name, program.command) for program in settings.each]
        self.recorder = Recorder(
            self.log, settings.shutdown_timeout, handover.at, time.time(), programs
        )
        self.recorder.run.orphans_reaped = handover.orphans_reaped
        self.recorder.run.interactive = handover.tty is not None
        self.recorder.run.exit_code_from = self.policy.exit_code_from
        self._routes: dict[int, tuple[m.SendLeader | m.SendGroup, ...] | None] = {}
        self.reactor = Reactor(self.fault)
        self.posted: list[m.Event] = []  # events for the policy that are to be fed
        self.started: m.Event | None = None  # the answer to StartProgram, likewise
        self.programs = Programs(
            settings, handover, self.reactor, self.recorder, self.posted.append
        )
        self.exits = ExitCollector(self.programs, self.recorder, handover.tty, self._is_watched)
        self.control: ControlApi | None = None
        self.progress: Progress | None = None

    # --- the run ---------------------------------------------------------------------------------

    def run(self) -> int:
        """Wait, decide, do, log; until Exit."""
        if self.handover.exec_errno:
            return self.leave(self._exec_failed())
        self.set_up()
        for program in self.programs.leaders.values():
            self.recorder.started_one(program.index, program.child.started_at)
            program.on_started()
        for request in self.handover.stop_requests:
            self.recorder.run.sender = request.sender
            self.feed(m.SignalReceived(request.signum, request.at))
        if self.policy.managed:
            self.feed(m.Tick(time.monotonic()))  # the first start
        gc.enable()  # start disabled it for the imports
        while self.exit is None:
            self.turn()
        return self.leave(self.exit)

    def set_up(self) -> None:
        """Open what can be asked from outside, and prepare what the settings ask for.  A failure of
        any of it is logged; the child keeps running."""
        self.safely(lambda: self.programs.prepare(self.policy.push, self.last_metrics))
        self.safely(self.programs.open_output)
        settings = self.settings
        if settings.control_socket != "off" or self.handover.listening or settings.tells_metrics:
            self.safely(self._open_control)
        # Not while the command starts, which may have no other CPU.
        self.reactor.call_at(time.monotonic() + LOAD_AFTER, self._load_the_rest)

    def _load_the_rest(self) -> None:
        self.reactor.run_in_slices(lazy_imports.load(lazy_imports.AT_REST))

    def _open_control(self) -> None:
        from gracewrap.runtime.control import ControlApi

        self.control = ControlApi(
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

    def safely(self, act: Callable[[], None]) -> None:
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
            self.feed(self.posted.pop(0))
        due = self.due()
        if due is not None and at >= due:
            self.feed(m.Tick(at))
        if isinstance(self.system, ShuttingDown):
            self.safely(lambda: self._show_progress(at))
        self.log.flush()

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

    def wait(self) -> _signal.struct_siginfo | None:
        """Return the next signal, or None when something else is due."""
        if self.posted or self.started is not None:  # a tick may have had an answer at once
            return _signal.sigtimedwait(BLOCKABLE, 0)
        due = self.due()
        if isinstance(self.system, ShuttingDown) and self.progress is not None and due is not None:
            due = min(due, self.progress.at)
        if self.reactor.busy:
            now = time.monotonic()
            soon = self.reactor.due(now)
            due = soon if due is None else due if soon is None else min(due, soon)
        if due is None:
            return _signal.sigwaitinfo(BLOCKABLE)
        return _signal.sigtimedwait(BLOCKABLE, max(0.0, due - time.monotonic()))

    # --- signals ---------------------------------------------------------------------------------

    def received(self, got: _signal.struct_siginfo, at: float) -> None:
        """Pass a signal on at once, or let the policy decide about it."""
        signum = got.si_signo
        if is_our_own(got):
            return  # the write, or the descriptor, has said so itself; the command must not get it
        is_stop = signum in self.policy.stop_on
        if is_stop and got.si_code <= 0 and process_tree.is_helpers(got.si_pid):
            return  # a hook that asks for the stop which it is a part of
        tty = self.handover.tty if self.programs.leaders else None
        if tty is not None and signum == SIGCONT and not is_stop:
            # `fg`, or `bg`: it goes to the child's whole group.
            terminal.resume(tty, self.programs[0].child.pid)
            return
        if self.settings.signal_map.get(signum) == RESTART:
            by = f"{name(signum)} from {sender(got.si_pid, got.si_uid, got.si_code, signum)}"
            self.feed(m.RollingRestartRequested(signum, by, at))
            return
        if not self._pass_on(got, at):
            self.recorder.run.siginfo = (got.si_pid, got.si_uid, got.si_code)
            self.feed(m.SignalReceived(signum, at))
            # What came while we acted on it came at once with it, however long that took: it is no
            # second request.
            for also in self.policy.stop_on:
                if _signal.sigtimedwait((also,), 0):
                    self.feed(m.SignalReceived(also, at))

    def _pass_on(self, got: _signal.struct_siginfo, at: float) -> bool:
        """Pass a signal on to all leaders; return False if the policy has to decide about it."""
        signum, leaders = got.si_signo, self.programs.leaders
        if signum not in self._routes:  # thousands of them would be too slow
            self._routes[signum] = advance.route(signum, self.policy)
        route = self._routes[signum]
        if route is None:
            return False
        if self.policy.managed and signum == SIGTSTP and got.si_code > 0:
            # Ctrl-Z: passed on, it would freeze them.
            terminal.stop_with([program.child.group for program in leaders.values()])
            return True
        if len(leaders) < len(self.programs):
            return False
        for command in route:
            self.do(command)
        self.recorder.forwarded(signum, route[0].signum if route else 0, at)
        return True

    # --- exits -----------------------------------------------------------------------------------

    def collect(self, at: float) -> None:
        """Collect every exit; feed those of leaders, and of the last process of each program."""
        ended, left = self.exits.collect(at)
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
            program.index, reaped.status, reaped.signum, left, at, child.told.shell
        )
        self.feed(event, None if left else program)

    def _is_watched(self, index: int) -> bool:
        """Return whether the policy waits until nothing is left of a program."""
        return isinstance(self.phase(index), Stragglers | Killing)

    def phase(self, index: int) -> Phase | None:
        """Return a program's phase, or None when all is over."""
        return self.system.programs[index] if isinstance(self.system, Up | ShuttingDown) else None

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
        if isinstance(event, m.Sampled):
            self.recorder.sampled(event.program, event.probe, event.reading, event.at)
        self._record([one for one in first if isinstance(one, LogRecord)], event.at, gone)
        answers += [self.do(command) for command in last]
        for answer in answers:
            if answer is not None:
                self.feed(answer)

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
        self.recorder.record(event, at)
        control = self.control
        if control is not None and isinstance(event, OfAPart):  # somebody may wait for it there
            self.safely(lambda: control.noted(event, at))

    def do(self, command: m.Command) -> m.Event | None:
        """Carry out one command; return the event that answers at once, if any."""
        match command:
            case m.SendLeader(i, signum) if self._is_stop(i, signum):
                return self.programs[i].send_stop(signum)
            case m.SendLeader(i, signum):
                self.programs[i].child.signal(signum)
            case m.SendGroup(i, signum) if self._is_stop(i, signum):
                self.programs[i].send_stop_group(signum)
            case m.SendGroup(i, signum):
                self.programs[i].child.signal_group(signum)
            case m.SendRest(i, signum):
                self.programs[i].send_rest(signum, lambda: self._is_stopping(i))
            case m.KillProgram(i):
                # Whoever is there beside the programs (docker exec) goes with the last one, but not
                # with a restart.
                is_last = isinstance(self.system, ShuttingDown) and self.programs.is_last(i)
                self.programs[i].kill(is_last and posix.getpid() == 1)
            case m.StartProgram(i):
                self.started = self.programs.start(self.programs[i])
            case m.Ask() | m.StopAsking() | m.RunHelper() | m.StopHelper() | m.RestartWatchdog():
                return self.programs[command.program].do(command)
            case m.CountUnsent():
                return m.UnsentCounted(unsent_bytes.unsent_connections(), time.monotonic())
            case m.Exit(status):
                self.exit = status
            case LogRecord():
                pass  # logged later
            case _:
                assert_never(command)
        return None

    def _is_stopping(self, index: int) -> bool:
        return isinstance(self.phase(index), Stopping | Stragglers)

    def _is_stop(self, index: int, signum: int) -> bool:
        """Return whether *signum*, about to be sent to a program, is meant as its stop signal."""
        stopping = self._is_stopping(index) or isinstance(self.phase(index), Killing)
        return stopping and signum == self.policy.programs[index].stop_signal

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

    def leave(self, status: int) -> int:
        """Log and write what is to be said at the end; return *status*, which nothing that fails
        here changes."""
        for act in (self.last_output, self.last_word, self.close):
            try:
                act(status)
            except Exception as error:
                text = f"a bug in gracewrap: {type(error).__name__}: {error}"
                self.log.say("error", "bug", text, {})
        return status

    def last_output(self, _: int) -> None:
        """Write what the programs have written last."""
        since = self.recorder.run.since
        began = time.monotonic() if since is None else since
        self.programs.last_output(began + self.settings.shutdown_timeout)

    def last_word(self, status: int) -> None:
        """Log the summary, write the reports."""
        if _writes_reports(self.settings) or self.recorder.run.is_worth_a_summary():
            from gracewrap.runtime import last_word

            last_word.say(self.recorder, self.settings, status, self.last_metrics)

    def last_metrics(self) -> str:
        """Return the metrics of a run of which nothing is left."""
        if isinstance(self.system, Up | ShuttingDown) or self.control is None:
            return ""
        return self.control.last_metrics(self.system.status)

    def close(self, _: int) -> None:
        """Remove what others could find of us: helpers, and sockets in the file system."""
        self.programs.kill_helpers()
        if self.control is not None:
            self.control.close()
        notifies = any(prepared.notify is not None for prepared in self.handover.equipment)
        if self.handover.listening or notifies:
            from gracewrap.runtime import prepare

            prepare.clean(self.handover, self.settings)


def _writes_reports(settings: Settings) -> bool:
    files = (
        settings.report_file,
        settings.report_termination_log,
        settings.report_prometheus_textfile,
    )
    return any(file is not None for file in files)


def log_format(settings: Settings) -> str:
    """Return how the log is written: as text beside prefixed lines of programs, which are for
    people."""
    with_lines = settings.log_format == "auto" and settings.log_file is None
    if with_lines and any(one.output == "prefix" for one in settings.each):
        return "text"
    return settings.log_format
