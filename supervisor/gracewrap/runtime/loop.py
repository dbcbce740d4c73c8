"""The loop: the only place that waits.  Signal, deadline, answer -> event -> policy step ->
commands carried out -> told.

Signals stay blocked and are fetched one by one (sigtimedwait(2)): no handler ever runs, nothing is
interrupted, and with no deadline set we sleep without a single wakeup.  Descriptors wake us by a
signal too, SIGIO (posix/reactor.py).  After the spawn no exception leaves this module.
"""

from __future__ import annotations

import _signal
import gc
import posix
import time

from gracewrap import __version__
from gracewrap.config.problems import COMMAND_LINE
from gracewrap.config.to_policy import policy_of
from gracewrap.config.values import RESTART
from gracewrap.linux import process_tree, reaper, spawn, terminal, unsent_bytes
from gracewrap.linux.procfs import EMFILE, ENFILE, keep_spare
from gracewrap.linux.reactor import Reactor
from gracewrap.linux.signals import (
    BLOCKABLE,
    SIGCHLD,
    SIGCONT,
    SIGIO,
    SIGTSTP,
    is_our_own,
    name,
)
from gracewrap.policy import advance, program
from gracewrap.policy import model as m
from gracewrap.policy import step as step_
from gracewrap.policy import system as coordinator
from gracewrap.policy.log_events import LogEvent, LogRecord, PartEvent
from gracewrap.record import TYPE_CHECKING, assert_never, replace
from gracewrap.report import recorder, report_files, run_history, runtime_events, summary
from gracewrap.report.log import Log
from gracewrap.report.program_history import name_members
from gracewrap.runtime import fallback, progress
from gracewrap.runtime import program as aside
from gracewrap.runtime.child import Child

if TYPE_CHECKING:
    from collections.abc import Callable

    from gracewrap.config.settings import Settings
    from gracewrap.linux.process_owners import ProcessOwners
    from gracewrap.linux.reactor import Timer
    from gracewrap.runtime.handover import Handover
    from gracewrap.runtime.snapshot import ControlApi

SORT = (1.0, 10.0)  # seconds after a start, when what goes into the background has gone there


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
    """Say that something has raised, and carry on without it."""
    known = fallback.FallbackState({handover.pid: settings.stop_signal} if handover.pid else {})
    if loop is not None:
        known = loop.remains()
        try:
            bug = runtime_events.Bug(f"{type(error).__name__}: {error}")
            loop.recorder.record(bug, time.monotonic())
            loop.close(0)
        except Exception:
            pass  # telling is not worth the child
    if not known.leaders and not known.statuses:
        return 125  # nothing has been started
    return fallback.run(known, fallback.rules_of(settings))


class Loop:
    """One run, of one command or of several programs."""

    def __init__(
        self,
        handover: Handover,
        settings: Settings,
        step: Callable[..., coordinator.Step] = step_.step,
    ) -> None:
        self.handover, self.settings, self.step = handover, settings, step
        self.managed = settings.is_managed
        self.policy = policy_of(settings, time.time_ns() % 2**32)
        if not unsent_bytes.in_container():
            self.policy = replace(self.policy, flush_timeout=0.0)
        self.system: coordinator.System = coordinator.begin(
            self.policy, () if self.managed else None, handover.at
        )
        keep_spare()
        self._due_of: coordinator.System | None = None  # of which _due is the deadline
        self._due: float | None = None
        self.exit: int | None = None
        self.in_hand = (
            0  # the signal that is being acted on; should that fail, the last resort does
        )
        self.log = Log(log_format(settings), settings.log_level, settings.log_file)
        self.recorder = recorder.Recorder(
            self.log,
            settings.shutdown_timeout,
            handover.at,
            time.time(),
            [(one.name, one.command) for one in settings.each],
        )
        self.recorder.run.orphans_reaped = handover.orphans_reaped
        self.recorder.run.interactive = handover.tty is not None
        self.recorder.run.exit_code_from = self.policy.exit_code_from
        self._routes: dict[
            int, tuple[m.SendLeader | m.SendGroup, ...] | None
        ] = {}  # of the signals that have come so far
        self.reactor = Reactor(self.fault)
        self.posted: list[m.Event] = []  # what has come of errands, to be fed to the policy
        self.started: m.Event | None = None  # what has come of a start
        self._sorts: list[
            Timer
        ] = []  # when to find out whose the orphans are, after the last start
        self.owners: ProcessOwners | None = None  # None: whatever there is, is of the one command
        self.children: list[Child] = []
        self.leaders: dict[int, Child] = {}  # of those that are not reaped, by pid
        self.aside = aside.Aside(
            self.reactor, self.recorder, self.log, self.posted.append, self.managed
        )
        self.control_api: ControlApi | None = None
        self._know_programs()
        self.progress = progress.Progress(self.recorder, self.policy, self.children)

    def _know_programs(self) -> None:
        """Make what looks after each program."""
        if len(self.settings.programs) > 1:
            from gracewrap.linux.process_owners import ProcessOwners

            processes = [one.process for one in self.handover.equipment]
            users = [
                posix.geteuid() if one is None or one.uid is None else one.uid for one in processes
            ]
            self.owners = ProcessOwners([one.name for one in self.settings.programs], users)
        for i, one in enumerate(self.settings.each):
            look = process_tree.descendants if self.owners is None else _looking(self.owners, i)
            self.children.append(
                Child(i, one, self.recorder.histories[i], self.handover.equipment[i], look)
            )
        if self.handover.pid:
            self._has_started(
                self.children[0], self.handover.pid, self.handover.exec_fd, self.handover.at
            )

    def _has_started(self, child: Child, pid: int, exec_fd: int, at: float) -> None:
        if (
            child.leader is not None
        ):  # it could not be killed; should it end after all, that is not the end of the new one
            self.leaders.pop(child.leader, None)
        child.started(pid, exec_fd, at)
        child.history.begins_again(pid, at)
        self.leaders[pid] = child
        if self.owners is not None:
            self.owners.spawned(pid, child.index)
            for timer in self._sorts:
                self.reactor.cancel(timer)
            self._sorts = [self.reactor.call_at(at + after, self.owners.sort) for after in SORT]

    def run(self) -> int:
        """Wait, decide, do, tell; until Exit."""
        if self.handover.exec_errno:
            from gracewrap.linux import (
                exec_errors,
            )  # only now of use, and nothing is running that could be lost

            why = exec_errors.explain(self.settings.command, self.handover.exec_errno)
            return self.leave(self.cannot_run(self.children[0], *why, self.handover.at))
        self.set_up()
        for child in self.leaders.values():
            self.recorder.started_one(child.index, child.started_at)
            self.aside.begin(child)
        for request in self.handover.stop_requests:
            self.recorder.run.sender = request.sender
            self.feed(m.SignalReceived(request.signum, request.at))
        if self.managed:
            self.feed(m.Tick(time.monotonic()))  # the first start
        gc.enable()  # start disabled it for the imports
        while self.exit is None:
            self.turn()
        return self.leave(self.exit)

    # --- what is prepared ------------------------------------------------------------------------

    def set_up(self) -> None:
        """Open what can be asked from outside, and prepare what the settings ask for; none of it is
        worth a child."""
        settings = self.settings
        for act in (self._set_up_errands, self._set_up_output):
            self.aside.safely(act)
        if settings.control_socket != "off" or self.handover.listening or settings.tells_metrics:
            self.aside.safely(self._set_up_desk)

    def _set_up_errands(self) -> None:
        """Prepare probes and hooks, and hear what the programs say of themselves."""
        for child in self.children:
            if child.settings.needs_errands or (child.index == 0 and self.policy.push):
                self.aside.prepare(child, self.last_metrics)
                self.aside.listen(child, self._members_of(child))

    def _members_of(self, child: Child) -> Callable[[int], bool]:
        return lambda pid: (
            process_tree.is_below_us(pid)
            and (self.owners is None or self.owners.owns(child.index, pid))
        )

    def _set_up_output(self) -> None:
        self.aside.take_in(self.children)

    def _set_up_desk(self) -> None:
        from gracewrap.runtime import snapshot as control_api

        system, post = lambda: self.system, self.posted.append
        known = self.policy, self.children, self.aside.prober, self.aside.hearing
        self.control_api = control_api.ControlApi(
            self.reactor, self.settings, self.handover, self.recorder, *known, system, post
        )
        self.control_api.open()

    # --- programs that begin and end -------------------------------------------------------------

    def start(self, child: Child) -> m.Event:
        """Start a program; return what came of it."""
        settings, made = child.settings, child.equipment
        self.aside.renew(child.index)
        # A group in the background must not read from a terminal; where there is no /dev/null,
        # there is none.
        no_stdin = settings.stdin == "null" or ("stdin" not in settings.origins and _has_null())
        try:
            stdio = self.aside.stdio(child.index)
            pid, exec_fd, errno = spawn.spawn(
                settings.command, None, made.environment, made.process, stdio, no_stdin
            )
        except OSError as error:
            limit = "ulimit -n" if error.errno in (EMFILE, ENFILE) else "ulimit -u, --pids-limit"
            why = f"there is no process to be had: {error.strerror}; raise the limit ({limit})"
            return m.StartFailed(child.index, 126, why, time.monotonic())
        at = time.monotonic()
        if errno:
            from gracewrap.linux import exec_errors

            status, why = exec_errors.explain(settings.command, errno)
            return m.StartFailed(child.index, status, why + _hint(status, settings), at)
        self._has_started(child, pid, exec_fd, at)
        return m.ProgramStarted(child.index, at)

    def has_begun(self) -> None:
        """Let the policy know what has come of a start; see when the program is ready, and hear
        what it says."""
        event, self.started = self.started, None
        assert event is not None
        child = self.children[event.program] if isinstance(event, m.ProgramStarted) else None
        if child is not None:
            self.recorder.started_one(child.index, child.started_at)  # before what follows from it
        self.feed(event)
        if child is not None:
            self.aside.begin(child)

    def end(self, child: Child) -> None:
        """Nothing is left of it, for now."""
        self.aside.end(child.index)
        if self.owners is not None:
            self.owners.gone(child.index)

    def fault(self, error: BaseException) -> None:
        """Something beside the child has failed: told once for each kind, and the rest goes on."""
        self.recorder.fault(error, time.monotonic())

    def turn(self) -> None:
        """Wait for one thing to happen, and act on it."""
        got = self.wait()
        at = time.monotonic()
        if self.started is not None:  # before its exit is collected; the next start may come of it
            self.has_begun()
        if got is not None or self.started is None or self.reactor.is_ready:
            self.recorder.catch_up(at)  # before a line of the program, for one
        if got is not None:
            if got.si_signo == SIGCHLD:
                self.collect(at)
            else:
                if got.si_signo == SIGIO:
                    # also if it is somebody else's: the kernel's may be behind it, for one is kept
                    # of each
                    self.reactor.notify_ready()
                self.received(got, at)
        if self.reactor.busy:
            self.reactor.run(at)
        while self.posted and self.exit is None:
            self.feed(self.posted.pop(0))
        due = self.due()
        if due is not None and at >= due:
            self.feed(m.Tick(at))
        self.progress.show(self.system, at)
        self.log.flush()

    def due(self) -> float | None:
        """Return when the policy next needs a tick; worked out only when the system has changed:
        signals come by thousands."""
        if self.system is not self._due_of:
            self._due_of, self._due = self.system, step_.deadline(self.system, self.policy)
        return self._due

    def wait(self) -> _signal.struct_siginfo | None:
        """Return the next signal, or None when something else is due."""
        if self.posted or self.started is not None:  # a tick may have had an answer at once
            return _signal.sigtimedwait(BLOCKABLE, 0)
        due = self.due()
        if self.progress.at is not None and due is not None:
            due = min(due, self.progress.at)
        if self.reactor.busy:
            now = time.monotonic()
            soon = self.reactor.due(now)
            due = soon if due is None else due if soon is None else min(due, soon)
        if due is None:
            return _signal.sigwaitinfo(BLOCKABLE)
        return _signal.sigtimedwait(BLOCKABLE, max(0.0, due - time.monotonic()))

    def received(self, got: _signal.struct_siginfo, at: float) -> None:
        """A signal for us: it is passed on at once, or the policy says what becomes of it."""
        if is_our_own(got):
            return  # the write, or the descriptor, has said so itself; the command must not get it
        if (
            got.si_signo in self.policy.stop_on
            and got.si_code <= 0
            and process_tree.is_helpers(got.si_pid)
        ):
            return  # a hook that asks for the stop which it is a part of
        tty = self.handover.tty if self.leaders else None
        if tty is not None and got.si_signo == SIGCONT and SIGCONT not in self.policy.stop_on:
            terminal.resume(
                tty, self.children[0].pid
            )  # `fg`, or `bg`: it goes to the child's whole group
            return
        if self.settings.signal_map.get(got.si_signo) == RESTART:
            sender = run_history.sender(got.si_pid, got.si_uid, got.si_code, got.si_signo)
            by = f"{name(got.si_signo)} from {sender}"
            self.feed(m.RollingRestartRequested(got.si_signo, by, at))
            return
        route = self._route(got.si_signo)
        if self.managed and got.si_signo == SIGTSTP and got.si_code > 0 and route is not None:
            terminal.stop_with(
                [child.group for child in self.leaders.values()]
            )  # Ctrl-Z: passed on, it would freeze them
            return
        if route is not None and len(self.leaders) == len(self.children):
            for command in route:
                self.do(command)
            self.recorder.forwarded(got.si_signo, route[0].signum if route else 0, at)
            return
        self.recorder.run.siginfo = (got.si_pid, got.si_uid, got.si_code)
        self.feed(m.SignalReceived(got.si_signo, at))
        # What came while we acted on it came at once with it, however long that took: no second
        # request.
        for signum in self.policy.stop_on:
            if _signal.sigtimedwait((signum,), 0):
                self.feed(m.SignalReceived(signum, at))

    def _route(self, signum: int) -> tuple[m.SendLeader | m.SendGroup, ...] | None:
        """Return what is sent for a signal, as coordinator.route() does, which thousands of signals
        would be too slow for."""
        if signum not in self._routes:
            self._routes[signum] = advance.route(signum, self.policy)
        return self._routes[signum]

    def collect(self, at: float) -> None:
        """Collect every exit there is; tell the policy about the leaders', and about the last of
        each program."""
        found, left, orphans = reaper.reap(self._known(), self.handover.tty is not None)
        self.recorder.run.orphans_reaped += orphans
        found = self.aside.without_helpers(found)
        if self.aside.prober:
            left = left and process_tree.anything_left()
        ended = self._leaders_of(found, at)
        if self.owners is not None:
            self._sort(found, [child.index for child, _ in ended])
        for child, one in ended:
            self.leader_gone(child, one, self._is_left(child, left), at)
        for child in self.children:
            if (
                child.status is not None
                and self._is_watched(child)
                and not self._is_left(child, left)
            ):
                self.end(child)
                self.feed(m.ProgramGone(child.index, at), child)

    def _known(self) -> set[int] | None:
        """Return the children of which the reaper is to tell; None: all.  Of the others it is
        enough to know how many."""
        if (
            self.owners is not None or self.log.lowest == 0
        ):  # at debug level orphans are told of one by one
            return None
        return {
            *self.leaders,
            *(child.main[0] for child in self.children if child.main),
            *self.aside.helpers(),
        }

    def _leaders_of(
        self, found: list[reaper.Reaped], at: float
    ) -> list[tuple[Child, reaper.Reaped]]:
        """Return the exits of leaders among what has been reaped; see to the others."""
        for child in self.children if any(child.main for child in self.children) else ():
            starter = child.follow_main(found)
            if starter is not None:
                found.remove(starter)
                del self.leaders[starter.pid]
                self.leaders[child.pid] = child
                if self.owners is not None:
                    self.owners.reaped(starter.pid)  # or something of it would be left for ever
                    self.owners.spawned(child.pid, child.index)
        ended = []
        for one in found:
            leads = self.leaders.get(one.pid)
            if leads is None:
                self.orphan(one, at)
            elif one.stopped_by:
                self.stopped(leads, one.stopped_by)
            else:
                ended.append((leads, one))
        return ended

    def _sort(self, found: list[reaper.Reaped], ended: list[int]) -> None:
        """Find out whose the orphans are, as long as that matters: some program is there without
        its leader."""
        assert self.owners is not None
        for one in found:
            if not one.stopped_by:
                self.owners.reaped(one.pid)
        if ended or any(
            child.status is not None and self._is_watched(child) for child in self.children
        ):
            self.owners.sort(ended)

    def _is_watched(self, child: Child) -> bool:
        """Return whether the policy waits until nothing is left of a program."""
        return isinstance(self.phase(child.index), program.Stragglers | program.Killing)

    def _is_left(self, child: Child, left: bool) -> bool:
        """Return whether anything of a program is left; *left* says whether anything at all is."""
        return left and (self.owners is None or self.owners.left(child.index))

    def phase(self, index: int) -> program.Phase | None:
        """Return a program's phase, or None when all is over."""
        system = self.system
        return (
            system.programs[index]
            if isinstance(system, coordinator.Up | coordinator.ShuttingDown)
            else None
        )

    def orphan(self, one: reaper.Reaped, at: float) -> None:
        """A process that had been re-parented to us is no more."""
        if not one.stopped_by:
            self.recorder.run.orphans_reaped += 1
            if self.log.lowest == 0:
                self.recorder.record(runtime_events.Reaped(one.pid, one.status), at)

    def stopped(self, child: Child, signum: int) -> None:
        """The leader was stopped: on a terminal, Ctrl-Z; we stop with it."""
        if self.handover.tty is not None:
            done = terminal.child_stopped(self.handover.tty, child.pid, signum)
            if not done.startswith("stopped"):
                event = runtime_events.ChildStopped(child.index, signum, done)
                self.recorder.record(event, time.monotonic())

    def leader_gone(self, child: Child, one: reaper.Reaped, left: bool, at: float) -> None:
        """A leader's exit: take the terminal back, find out whether it ever became the command."""
        if isinstance(self.started, m.ProgramStarted) and self.started.program == child.index:
            self.has_begun()  # it was started a moment ago, and has ended already
        del self.leaders[one.pid]
        if self.handover.tty is not None:
            terminal.take_back(self.handover.tty, child.pid)
        failure = child.ended(one.status)
        if failure is not None and not self.managed:
            self.exit = child.status = self.cannot_run(child, *failure, at)
            return
        if not left or failure is not None:
            self.end(child)
        if failure is not None:
            status, why = failure
            self.feed(m.StartFailed(child.index, status, why + _hint(status, child.settings), at))
        else:
            event = m.LeaderExited(child.index, one.status, one.signum, left, at, child.told.shell)
            self.feed(event, None if left else child)

    def cannot_run(self, child: Child, status: int, why: str, at: float) -> int:
        """Say why the command could not be run; return the exit status."""
        why += _hint(status, child.settings)
        child.history.not_started = why
        self.recorder.record(runtime_events.CannotRun(child.index, why, status), at)
        return status

    def feed(self, event: m.Event, gone: Child | None = None) -> None:
        """Let the policy decide, do it, then tell: telling comes after doing, whatever the order of
        the commands.

        Args:
            event: What has happened.
            gone: The program of which nothing is left with that.
        """
        self.in_hand = event.signum if isinstance(event, m.SignalReceived) else 0
        self.system, commands = self.step(self.system, event, self.policy)
        # Hooks know what has been told; and what is told of a program's end is not of its next
        # start.
        later = [
            command for command in commands if isinstance(command, m.RunHelper | m.StartProgram)
        ]
        answers = [
            answer
            for command in commands
            if command not in later and (answer := self.do(command)) is not None
        ]
        self.in_hand = 0
        if isinstance(event, m.Sampled):
            self.recorder.sampled(event.program, event.probe, event.reading, event.at)
        self.tell([one for one in commands if isinstance(one, LogRecord)], event.at, gone)
        answers += [answer for command in later if (answer := self.do(command)) is not None]
        for answer in answers:
            self.feed(answer)

    def tell(self, events: list[LogEvent], at: float, gone: Child | None) -> None:
        """Tell what was decided; what is about a program that is *gone* before what follows from it
        for others."""
        if gone is None or not self.settings.programs:
            for one in events:
                self.tell_one(one, at)
            return
        for own in (True, False):
            for one in events:
                if own == (getattr(one, "program", None) == gone.index):
                    self.tell_one(one, at)
            if own:
                self.recorder.record(runtime_events.ProgramGone(gone.index), at)

    def tell_one(self, event: LogEvent, at: float) -> None:
        """Tell one event; of a part also to the desk, for somebody may wait for it there."""
        self.recorder.record(event, at)
        control_api = self.control_api
        if control_api is not None and isinstance(event, PartEvent):
            self.aside.safely(lambda: control_api.noted(event, at))

    def do(self, command: m.Command) -> m.Event | None:
        """Carry out one command; return what came of it, if the policy should know."""
        match command:
            case m.SendLeader(i, signum) if self._is_stop(i, signum):
                return self._stop_leader(self.children[i], signum)
            case m.SendLeader(i, signum):
                self.children[i].signal(signum)
            case m.SendGroup(i, signum) if self._is_stop(i, signum):
                self.aside.before_the_signal(i)
                self.children[i].send_stop_group(signum)
            case m.SendGroup(i, signum):
                self.children[i].signal_group(signum)
            case m.SendRest(i, signum):
                child = self.children[i]
                child.history.members = name_members(child.send_rest(signum))
                self._send_more(child, signum)
            case m.KillProgram(i):
                self.kill(self.children[i])
            case m.StartProgram(i):
                self.started = self.start(self.children[i])
            case m.Ask() | m.StopAsking() | m.RunHelper() | m.StopHelper():
                return self.aside.do(command)
            case m.RestartWatchdog(i):
                self.aside.restart_watchdog(i)
            case m.CountUnsent():
                return m.UnsentCounted(unsent_bytes.unsent_connections(), time.monotonic())
            case m.Exit(status):
                self.exit = status
            case LogRecord():
                pass  # told later
            case _:
                assert_never(command)
        return None

    def _stop_leader(self, child: Child, signum: int) -> m.Event | None:
        """Send the stop signal; return what shows of how it is taken."""
        self.aside.before_the_signal(child.index)
        pid = child.send_stop(signum)
        if pid is not None and process_tree.ignores(pid, signum):
            return m.StopSignalIgnored(child.index, time.monotonic())
        return (
            m.ShellTold(child.index, time.monotonic())
            if pid is not None and child.told.shell
            else None
        )

    def _send_more(self, child: Child, signum: int) -> None:
        """Go on sending the stop signal to thousands of processes, with a look at the signals in
        between."""

        def again() -> None:
            if isinstance(self.phase(child.index), program.Stragglers | program.Stopping):
                child.send_rest(signum)
                self._send_more(child, signum)

        if child.told.unfinished:
            self.reactor.call_at(time.monotonic(), again)

    def kill(self, child: Child) -> None:
        """SIGKILL everything that is left of a program, and keep the names of those that were never
        sent the stop signal."""
        # Whoever is there beside the programs (docker exec) goes with the last one, but not with a
        # restart.
        ending = isinstance(self.system, coordinator.ShuttingDown)
        leader, alone = (
            child.leader,
            ending and (self.owners is None or self.owners.is_last(child.index)),
        )
        killed = child.kill(alone and posix.getpid() == 1)
        child.history.members = name_members(killed)
        if leader is not None and child.stop_sent and child.settings.kill_mode == "mixed":
            child.history.untold = name_members(child.told.untold(leader, killed))

    def _is_stop(self, index: int, signum: int) -> bool:
        """Return whether *signum*, about to be sent to a program, is its stop signal, and meant as
        such."""
        phase = self.phase(index)
        stopping = isinstance(phase, program.Stopping | program.Stragglers | program.Killing)
        return stopping and signum == self.policy.programs[index].stop_signal

    def remains(self) -> fallback.FallbackState:
        """Return what the last resort has to know."""
        leaders = {pid: child.settings.stop_signal for pid, child in self.leaders.items()}
        statuses = tuple(child.status for child in self.children if child.status is not None)
        sent = any(child.history.sent for child in self.children)
        return fallback.FallbackState(
            leaders, statuses, self.kill_at(), sent, self.in_hand, self.aside.sources()
        )

    def kill_at(self) -> float | None:
        """Return when all will be over, if a stop has begun."""
        return self.system.kill_at if isinstance(self.system, coordinator.ShuttingDown) else None

    def leave(self, status: int) -> int:
        """Say the last word and return *status*; nothing that goes wrong here changes it."""
        for act in (self.last_output, self.last_word, self.close):
            try:
                act(status)
            except Exception as error:
                self.log.say(
                    "error", "bug", f"a bug in gracewrap: {type(error).__name__}: {error}", {}
                )
        return status

    def last_output(self, _: int) -> None:
        """Write what the programs have written last."""
        since = self.recorder.run.since
        self.aside.last_output(
            (time.monotonic() if since is None else since) + self.settings.shutdown_timeout
        )

    def close(self, _: int) -> None:
        """Take away what others could find of us: helpers, and sockets in the file system."""
        self.aside.kill_helpers()
        if self.control_api is not None:
            self.control_api.close()
        if self.handover.listening or any(
            one.notify is not None for one in self.handover.equipment
        ):
            from gracewrap.runtime import prepare

            prepare.clean(self.handover, self.settings)

    def last_metrics(self) -> str:
        """Return the metrics of a run of which nothing is left."""
        if (
            isinstance(self.system, coordinator.Up | coordinator.ShuttingDown)
            or self.control_api is None
        ):
            return ""
        return self.control_api.last_metrics(self.system.status)

    def last_word(self, status: int) -> None:
        """Log the summary, write the reports."""
        at = time.monotonic()
        if summary.is_worth_a_line(self.recorder.run):
            level, text = summary.summary_line(self.recorder, status, at)
            fields = summary.summary_fields(self.recorder.run, status, at)
            self.log.say(level, "summary", text, fields)
        settings, report = self.settings, summary.report(self.recorder, status, at, __version__)
        metrics = self.last_metrics if settings.report_prometheus_textfile is not None else None
        for fault in report_files.write_all(settings, report, metrics):
            self.log.say("error", "report_failed", fault, {})


def log_format(settings: Settings) -> str:
    """Return how the log is written: beside lines of programs that are for people, ours are too."""
    with_lines = settings.log_format == "auto" and settings.log_file is None
    return (
        "text"
        if with_lines and any(one.output == "prefix" for one in settings.each)
        else settings.log_format
    )


def _hint(status: int, settings: Settings) -> str:
    """Return what to write instead of a command that was not found, or is a file of settings."""
    command = settings.command
    if settings.origins.get("command") != COMMAND_LINE or not (
        status == 127 or command[0].endswith(".toml")
    ):
        return ""
    from gracewrap.config import suggestions

    return suggestions.unknown_command(*command)


def _has_null() -> bool:
    try:
        return bool(posix.stat("/dev/null"))
    except OSError:
        return False


def _looking(
    owners: ProcessOwners, program: int
) -> Callable[[float | None], list[process_tree.Member]]:
    return lambda until: owners.look(program, until)
