"""The loop: the only place that waits.  Signal, deadline, answer -> event -> policy step -> commands carried out -> told.

Signals stay blocked and are fetched one by one (sigtimedwait(2)): no handler ever runs, nothing is interrupted, and with no
deadline set we sleep without a single wakeup.  Descriptors wake us by a signal too, SIGIO (posix/agenda.py).  After the spawn no
exception leaves this module.
"""

from __future__ import annotations

import _signal
import posix
import time

from gracewrap import __version__, bare
from gracewrap.config.policies import policy_of
from gracewrap.policy import coordinator, program
from gracewrap.policy import model as m
from gracewrap.posix import reap, sockets, terminal, told, tree
from gracewrap.posix.agenda import Agenda
from gracewrap.posix.signals import BLOCKABLE, SIGCHLD, SIGCONT, SIGIO, is_our_own
from gracewrap.record import TYPE_CHECKING, assert_never, replace
from gracewrap.report import files, narrator
from gracewrap.report.log import Log

if TYPE_CHECKING:
    from collections.abc import Callable

    from gracewrap.config.table import Settings
    from gracewrap.desk import Desk
    from gracewrap.errands import Errands
    from gracewrap.handover import Handover
    from gracewrap.hearing import Hearing

PROGRESS = {"text": 1.0, "json": 5.0}  # seconds between two lines that say what is being waited for


def supervise(handover: Handover, settings: Settings) -> int:
    """Look after the child until nothing of it is left; return the exit status."""
    loop = None
    try:
        loop = Loop(handover, settings)
        return loop.run()
    except BaseException as error:
        return last_resort(handover, settings, error, loop) if handover.pid else 126


def last_resort(handover: Handover, settings: Settings, error: BaseException, loop: Loop | None = None) -> int:
    """Say that something has raised, and carry on without it."""
    known = bare.Remains(handover.pid)
    if loop is not None:
        known = bare.Remains(handover.pid, loop.leader_status, loop.kill_at(), bool(loop.narrator.sent), loop.in_hand)
        try:
            loop.narrator.tell("bug", time.monotonic(), error=f"{type(error).__name__}: {error}")
            loop.close(0)
        except Exception:
            pass  # telling is not worth the child
    return bare.carry_on(known, bare.rules_of(settings))


class Loop:
    """One run of one command."""

    def __init__(self, handover: Handover, settings: Settings, step: Callable[..., coordinator.Step] = coordinator.step) -> None:
        self.handover, self.settings, self.step = handover, settings, step
        self.policy = policy_of(settings)
        if not sockets.in_container():
            self.policy = replace(self.policy, flush_timeout=0.0)
        self.system: coordinator.System = coordinator.begin(self.policy)
        self._due_of: coordinator.System | None = None  # of which _due is the deadline
        self._due: float | None = None
        self.leader_status: int | None = None
        self.exit: int | None = None
        self.in_hand = 0  # the signal that is being acted on; should that fail, the last resort does
        self.told = told.Told()
        self.spare: int | None = _spare()
        self.log = Log(settings.log_format, settings.log_level, settings.log_file)
        self.narrator = narrator.Narrator(
            self.log, settings.command, handover.pid, settings.shutdown_timeout, handover.at, time.time()
        )
        self.narrator.counts["orphans_reaped"] = handover.orphans_reaped
        self.narrator.interactive = handover.tty is not None
        self.routes = coordinator.routes(self.policy)
        self.progress_at: float | None = None
        self.agenda = Agenda(self.fault)
        self.posted: list[m.Event] = []  # what has come of errands, to be fed to the policy
        self.errands: Errands | None = None
        self.hearing: Hearing | None = None
        self.desk: Desk | None = None
        self.group = handover.pid  # the command's process group
        self.main: tuple[int, int] | None = None  # pid and pidfd of what the command says is its main process

    def run(self) -> int:
        """Wait, decide, do, tell; until Exit."""
        if self.handover.exec_errno:
            from gracewrap.posix import explain  # only now of use, and nothing is running that could be lost

            why = explain.explain(self.settings.command, self.handover.exec_errno)
            return self.leave(self.cannot_run(*why, self.handover.at))
        self.narrator.tell("started", self.handover.at)
        self.set_up()
        for request in self.handover.stop_requests:
            self.narrator.sender = request.sender
            self.feed(m.SignalReceived(request.signum, request.at))
        while self.exit is None:
            self.turn()
        return self.leave(self.exit)

    def set_up(self) -> None:
        """Open what can be asked from outside, and prepare what the settings ask for; none of it is worth the child."""
        settings = self.settings
        try:
            if settings.needs_errands:
                self.set_up_errands()
            if settings.control_socket != "off" or self.handover.listening or settings.tells_metrics:
                from gracewrap import desk

                post = self.posted.append
                self.desk = desk.Desk(self.agenda, settings, self.handover, self.narrator, lambda: self.system, post)
                self.desk.errands, self.desk.hearing = self.errands, self.hearing
                self.desk.open()
        except Exception as error:
            self.fault(error)

    def set_up_errands(self) -> None:
        """Prepare probes and hooks, take a first look with the probes, and hear what the command says of itself."""
        from gracewrap import errands

        self.narrator.numbers = errands.numbers_of(self.settings)
        self.errands = errands.Errands(
            self.agenda, self.settings, self.handover, self.posted.append, self.narrator.tell, self.narrator.numbers
        )
        if self.handover.notify is not None:
            from gracewrap.hearing import Hearing

            self.hearing = Hearing(self.errands, self.names_main)
        self.errands.begin(self.looked)
        self.errands.metrics = self.last_metrics
        self.errands.facts = lambda: self.narrator.facts(time.monotonic())

    def looked(self, probe: int, reading: m.Reading) -> None:
        """A first look with a probe, while nobody has asked for a stop: a mistake is told now."""
        at = time.monotonic()
        self.narrator.sampled(probe, reading, at)
        self.narrator.looked(probe, reading, at)

    def names_main(self, pid: int, fd: int) -> None:
        """The command says which of its processes is the main one: signals go there; its exit counts if it comes to be ours."""
        if self.main is not None:
            posix.close(self.main[1])
        known = self.main is not None and self.main[0] == pid
        self.main = (pid, fd)
        self.narrator.pid = pid
        if pid == self.handover.pid:
            posix.close(fd)
            self.main = None
        elif not known:
            self.narrator.tell("main_pid", time.monotonic(), main=pid)

    def fault(self, error: BaseException) -> None:
        """Something beside the child has failed: told once for each kind, and the rest goes on."""
        self.narrator.fault(error, time.monotonic())

    def turn(self) -> None:
        """Wait for one thing to happen, and act on it."""
        got = self.wait()
        at = time.monotonic()
        if got is not None:
            if got.si_signo == SIGCHLD:
                self.collect(at)
            else:
                if got.si_signo == SIGIO:
                    self.agenda.stir()  # also if it is somebody else's: the kernel's may be behind it, for one is kept of each
                self.received(got, at)
        if self.agenda.busy:
            self.agenda.run(at)
        while self.posted and self.exit is None:
            self.feed(self.posted.pop(0))
        due = self.due()
        if due is not None and at >= due:
            self.feed(m.Tick(at))
        self.show_progress(at)
        self.log.flush()

    def due(self) -> float | None:
        """Return when the policy next needs a tick; worked out only when the system has changed: signals come by thousands."""
        if self.system is not self._due_of:
            self._due_of, self._due = self.system, coordinator.deadline(self.system, self.policy)
        return self._due

    def wait(self) -> _signal.struct_siginfo | None:
        """Return the next signal, or None when something else is due."""
        if self.posted:  # a tick may have had an answer at once
            return _signal.sigtimedwait(BLOCKABLE, 0)
        due = self.due()
        if self.progress_at is not None and due is not None:
            due = min(due, self.progress_at)
        if self.agenda.busy:
            now = time.monotonic()
            soon = self.agenda.due(now)
            due = soon if due is None else due if soon is None else min(due, soon)
        if due is None:
            return _signal.sigwaitinfo(BLOCKABLE)
        return _signal.sigtimedwait(BLOCKABLE, max(0.0, due - time.monotonic()))

    def received(self, got: _signal.struct_siginfo, at: float) -> None:
        """A signal for us: it is passed on at once, or the policy says what becomes of it."""
        if is_our_own(got):
            return  # the write, or the descriptor, has said so itself; the command must not get it
        if got.si_signo in self.policy.stop_on and got.si_code <= 0 and self.errands and tree.is_helpers(got.si_pid):
            return  # a hook that asks for the stop which it is a part of
        tty = self.handover.tty if self.leader_status is None else None
        if tty is not None and got.si_signo == SIGCONT and SIGCONT not in self.policy.stop_on:
            terminal.resume(tty, self.handover.pid)  # `fg`, or `bg`: it goes to the child's whole group
            return
        route = self.routes.get(got.si_signo)
        if route is not None and self.leader_status is None:
            for command in route:
                self.do(command)
            self.narrator.forwarded(got.si_signo, route[0].signum if route else 0, at)
            return
        self.narrator.siginfo = (got.si_pid, got.si_uid, got.si_code)
        self.feed(m.SignalReceived(got.si_signo, at))
        # What came while we acted on it came at once with it, however long that took: no second request.
        for signum in self.policy.stop_on:
            if _signal.sigtimedwait((signum,), 0):
                self.feed(m.SignalReceived(signum, at))

    def collect(self, at: float) -> None:
        """Collect every exit there is; tell the policy about the leader's, and about the last."""
        helpers = self.errands.helpers if self.errands else None
        known = None  # at debug level orphans are told of one by one
        if self.log.lowest > 0:
            known = {self.handover.pid, *helpers.pids} if helpers else {self.handover.pid}
            known |= {self.main[0]} if self.main else set()
        found, left, orphans = reap.reap(known, self.handover.tty is not None)
        self.narrator.counts["orphans_reaped"] += orphans
        if helpers is not None:
            found = [one for one in found if one.stopped_by or not helpers.reaped(one.pid, one.status)]
            left = left and tree.anything_left()
            helpers.forget_gone()
        for one in self.without_starter(found) if self.main else found:
            if one.pid != self.handover.pid:
                self.orphan(one, at)
            elif one.stopped_by:
                self.stopped(one.stopped_by)
            else:
                self.leader_gone(one, left, at)
        if not left and self.leader_status is not None:
            self.feed(m.ProgramGone(0, at))

    def main_is_there(self) -> bool:
        """Return whether the main process that was named is still there; else the leader is it again."""
        if self.main is not None:
            known = tree.member(self.main[0]) if tree.signal_leader(self.main[0], 0, self.main[1]) else None
            # If it is a zombie of ours, its starter has gone, and its exit is the one that counts: it is reaped in a moment.
            if known is None or (known.zombie and tree.parent_of(self.main[0]) != posix.getpid()):
                self.forget_main()
        return self.main is not None

    def forget_main(self) -> None:
        """The main process that was named has gone, and the leader has not."""
        assert self.main is not None
        posix.close(self.main[1])
        self.main, self.narrator.pid = None, self.handover.pid

    def without_starter(self, found: list[reap.Reaped]) -> list[reap.Reaped]:
        """Return *found* without a leader that has gone and had named a main process; that is the leader, now that it is ours."""
        assert self.main is not None
        main, fd = self.main
        gone = [one for one in found if one.pid == self.handover.pid and not one.stopped_by]
        if not gone and any(one.pid == main and not one.stopped_by for one in found):
            self.forget_main()
        if not gone or not (tree.parent_of(main) == posix.getpid() or any(one.pid == main for one in found)):
            return found
        posix.close(fd)
        self.main, self.handover = None, replace(self.handover, pid=main)
        self.group = tree.group_of(main, self.group)
        return [one for one in found if one not in gone]

    def orphan(self, one: reap.Reaped, at: float) -> None:
        """A process that had been re-parented to us is no more."""
        if not one.stopped_by:
            self.narrator.counts["orphans_reaped"] += 1
            self.narrator.tell("reaped", at, pid=one.pid, status=one.status)

    def stopped(self, signum: int) -> None:
        """The leader was stopped: on a terminal, Ctrl-Z; we stop with it."""
        if self.handover.tty is not None:
            done = terminal.child_stopped(self.handover.tty, self.handover.pid, signum)
            if not done.startswith("stopped"):
                self.narrator.tell("child_stopped", time.monotonic(), signal=signum, done=done)

    def leader_gone(self, one: reap.Reaped, left: bool, at: float) -> None:
        """The leader's exit: take the terminal back, find out whether it ever became the command."""
        self.leader_status = one.status
        if self.handover.tty is not None:
            terminal.take_back(self.handover.tty, self.handover.pid)
        if self.handover.exec_fd >= 0:
            from gracewrap.posix import fork  # loaded already: it is what gave us the descriptor

            failure = fork.exec_failure(self.handover.exec_fd)
            if failure is not None:
                self.exit = self.leader_status = self.cannot_run(*failure, at)
                return
        self.feed(m.LeaderExited(0, one.status, one.signum, left, at, self.told.shell))

    def cannot_run(self, status: int, why: str, at: float) -> int:
        """Say why the command could not be run; return the exit status."""
        if status == 127:
            from gracewrap.config import hints

            why += hints.unknown_command(self.settings.command[0])
        self.narrator.not_started = why
        self.narrator.tell("cannot_run", at, who=why, status=status)
        return status

    def feed(self, event: m.Event) -> None:
        """Let the policy decide, do it, then tell: telling comes after doing, whatever the order of the commands."""
        self.in_hand = event.signum if isinstance(event, m.SignalReceived) else 0
        self.system, commands = self.step(self.system, event, self.policy)
        hooks = [command for command in commands if isinstance(command, m.RunHelper)]  # they know what has been told
        answers = [answer for command in commands if command not in hooks and (answer := self.do(command)) is not None]
        self.in_hand = 0
        if isinstance(event, m.Sampled):
            self.narrator.sampled(event.probe, event.reading, event.at)
        for command in commands:
            if isinstance(command, m.Note):
                self.narrator.note(command, event.at)
        answers += [answer for command in hooks if (answer := self.do(command)) is not None]
        for answer in answers:
            self.feed(answer)

    def do(self, command: m.Command) -> m.Event | None:
        """Carry out one command; return what came of it, if the policy should know."""
        leader = self.handover.pid if self.leader_status is None else None
        fd = None
        if self.main is not None and isinstance(command, m.SendLeader) and self.main_is_there():
            leader, fd = self.main
        match command:
            case m.SendLeader(_, signum) if leader is not None and self.is_stop(signum):
                self.before_the_signal()
                self.told.send_leader(leader, signum, fd)
                if tree.ignores(leader, signum):
                    return m.StopSignalIgnored(0, time.monotonic())
                if self.told.shell:
                    return m.ShellTold(0, time.monotonic())
            case m.SendLeader(_, signum) if leader is not None:
                tree.signal_leader(leader, signum, fd)
            case m.SendGroup(_, signum) if leader is not None and self.is_stop(signum):
                self.before_the_signal()
                self.told.send_group(self.group, signum)
            case m.SendGroup(_, signum) if leader is not None:
                tree.signal_group(self.group, signum)
            case m.SendRest(_, signum):
                self.narrator.members = narrator.name_members(self.told.send_rest(leader, signum))
            case m.KillProgram():
                self.kill(leader)
            case m.Ask(program, probe) if self.errands is not None:
                self.errands.ask(program, probe, time.monotonic())
            case m.StopAsking() if self.errands is not None:
                self.errands.stop_asking()
            case m.RunHelper() if self.errands is not None:
                self.errands.run(command, time.monotonic())
            case m.StopHelper() if self.errands is not None:
                self.errands.stop(command)
            case m.CountUnsent():
                return m.UnsentCounted(sockets.unsent_connections(), time.monotonic())
            case m.Exit(status):
                self.exit = status
            case m.SendLeader() | m.SendGroup() | m.Note():
                pass  # the leader is gone, its exit not yet told; a note is told later
            case m.RunHelper(index, what):  # it could not even be prepared
                return m.HelperEnded(index, what, False, "gracewrap could not prepare it", time.monotonic())
            case m.Ask(index, probe):
                return m.Sampled(index, probe, m.Reading(m.FAILED, None, "gracewrap could not prepare it"), time.monotonic())
            case m.StopAsking() | m.StopHelper() | m.StartProgram():
                pass  # nothing of it is under way; and the one program that there is has been started
            case _:
                assert_never(command)
        return None

    def before_the_signal(self) -> None:
        """A moment later the command may have closed what it listens on."""
        if self.errands is not None:
            try:
                self.errands.before_the_signal()
            except Exception as error:
                self.fault(error)

    def kill(self, leader: int | None) -> None:
        """SIGKILL everything that is left, and keep the names of those that were never sent the stop signal."""
        killed = tree.kill_all(leader, self.spare, posix.getpid() == 1)
        self.spare = None
        self.narrator.members = narrator.name_members(killed)
        if leader is not None and self.policy.programs[0].kill_mode == "mixed":
            self.narrator.untold = narrator.name_members(self.told.untold(leader, killed))

    def is_stop(self, signum: int) -> bool:
        """Return whether *signum*, about to be sent or just sent to the leader, is its stop signal."""
        return isinstance(self.system, coordinator.ShuttingDown) and signum == self.policy.programs[0].stop_signal

    def kill_at(self) -> float | None:
        """Return when all will be over, if a stop has begun."""
        return self.system.kill_at if isinstance(self.system, coordinator.ShuttingDown) else None

    def show_progress(self, at: float) -> None:
        """Say now and then what is being waited for, while something is."""
        system = self.system
        if not isinstance(system, coordinator.ShuttingDown):
            self.progress_at = None
            return
        every = PROGRESS.get(self.log.format, 5.0)
        if self.progress_at is None:
            self.progress_at = at + every
        elif at >= self.progress_at:
            self.progress_at = at + every
            phase = system.programs[0]
            if isinstance(phase, program.Held | program.Stopping | program.Leftover):
                self.tell_progress(phase, at, at - system.since)

    def tell_progress(self, phase: program.Held | program.Stopping | program.Leftover, at: float, elapsed: float) -> None:
        """Say what is being waited for, how much of it there is, and how long it may take."""
        who = self.narrator.who if self.leader_status is None else narrator.name_members(tree.descendants())
        held = isinstance(phase, program.Held)
        numbers = self.narrator.numbers
        self.narrator.tell(
            "waiting",
            at,
            who=who,
            held=held,
            doing=_doing(phase.stage, who) if isinstance(phase, program.Held) else "",
            remaining=max(0.0, (phase.signal_at if isinstance(phase, program.Held) else phase.kill_at) - at),
            elapsed=elapsed,
            numbers="" if isinstance(phase, program.Leftover) else numbers.shown(),
            in_flight=None if isinstance(phase, program.Leftover) else numbers.in_flight(),
            why="" if numbers.shown() or isinstance(phase, program.Leftover) else numbers.busy(),
        )

    def leave(self, status: int) -> int:
        """Say the last word and return *status*; nothing that goes wrong here changes it."""
        for act in (self.last_word, self.close):
            try:
                act(status)
            except Exception as error:
                self.log.say("error", "bug", f"a bug in gracewrap: {type(error).__name__}: {error}", {})
        return status

    def close(self, _: int) -> None:
        """Take away what others could find of us: helpers, and sockets in the file system."""
        if self.errands is not None:
            self.errands.helpers.kill_all()
        if self.desk is not None:
            self.desk.close()
        if self.handover.listening or self.handover.notify is not None:
            from gracewrap import prepare

            prepare.clean(self.handover, self.settings)

    def last_metrics(self) -> str:
        """Return the metrics of a run of which nothing is left."""
        if isinstance(self.system, coordinator.Up | coordinator.ShuttingDown) or self.desk is None:
            return ""
        return self.desk.last_metrics(self.system.status)

    def last_word(self, status: int) -> None:
        """Log the summary, write the reports."""
        at = time.monotonic()
        last = self.narrator.summary(status, at)
        if last is not None:
            level, text = last
            self.log.say(level, "summary", text, self.narrator.last_words(status, at))
        settings, report = self.settings, self.narrator.report(status, at, __version__)
        faults = []
        if settings.report_file is not None:
            faults.append(files.write_report(settings.report_file, report))
        if settings.report_termination_log is not None:
            faults.append(files.write_termination_log(settings.report_termination_log, report))
        if settings.report_prometheus_textfile is not None:
            faults.append(files.write_whole(settings.report_prometheus_textfile, self.last_metrics().encode(), "the metrics"))
        for fault in faults:
            if fault is not None:
                self.log.say("error", "report_failed", fault, {})


def _doing(stage: program.Stage, who: str) -> str:
    """Return what a program is held for, for people."""
    match stage:
        case program.Waiting(_, hook):
            return "waiting for pre_stop" if hook else "not ready any more, still serving"
        case program.Starting():
            return "waiting for drain.start"
        case program.Draining() | program.Drained():
            return f"draining {who}"
        case _:
            assert_never(stage)


def _spare() -> int | None:
    """Return a descriptor to give up when there are none left and the last kill needs one."""
    try:
        return posix.open("/dev/null", posix.O_RDONLY | posix.O_CLOEXEC)
    except OSError:
        return None
