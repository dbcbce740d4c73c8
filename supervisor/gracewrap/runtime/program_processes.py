"""One program's processes: its leader, what it says is its main one, its group, and the rest.
Does; decides nothing."""

from __future__ import annotations

import posix

from gracewrap.linux import process_tree, signal_and_kill
from gracewrap.linux.signals import SIGCONT
from gracewrap.record import TYPE_CHECKING
from gracewrap.runtime import lazy_imports

if TYPE_CHECKING:
    from collections.abc import Callable

    from gracewrap.config.settings import Settings
    from gracewrap.linux.reaper import Reaped
    from gracewrap.policy.model import Process
    from gracewrap.report.program_history import ProgramHistory
    from gracewrap.runtime.handover import Equipment, Told

    Look = Callable[[float | None], list[process_tree.Member]]


class Child:
    """A program, over all of its starts.

    Args:
        index: The policy's number for it.
        settings: Its own.
        tale: Where what happens to it is kept.
        equipment: What has been prepared for it.
        look: Returns its living processes, and stops looking at the time that it is given.
    """

    def __init__(
        self,
        index: int,
        settings: Settings,
        history: ProgramHistory,
        equipment: Equipment,
        look: Look = process_tree.descendants,
    ) -> None:
        self.index, self.settings, self.history, self.equipment, self.look = (
            index,
            settings,
            history,
            equipment,
            look,
        )
        history.find, history.oneshot = lambda: look(None), settings.oneshot
        history.preset = settings.preset or ""
        self.pid = 0  # 0: it has not been started
        self.started_at = 0.0
        self.status: int | None = None  # the leader's, once it is reaped
        self.exec_fd = -1  # tells of an exec that fails later (posix.fork.exec_failure), or -1
        self.group = 0  # its process group
        self.stop_sent = False  # the stop signal has been sent to its leader
        self.told: Told | None = None  # that was done by the launcher
        self.killed_groups: set[int] = set()  # process groups of what SIGKILL has been sent to
        self.signalled: set[tuple[int, int]] = set()  # who has been sent the stop signal by us
        self.main: tuple[int, int] | None = (
            None  # pid and pidfd of what it says is its main process
        )

    def started(self, pid: int, exec_fd: int, at: float) -> None:
        """It has a leader, perhaps not its first one."""
        self._close_exec_fd()
        self.pid = self.group = pid
        self.exec_fd, self.started_at, self.status, self.stop_sent = exec_fd, at, None, False
        self.signalled, self.killed_groups = set(), set()
        self.forget_main()

    @property
    def leader(self) -> int | None:
        """The leader's pid as long as it is not reaped."""
        return self.pid if self.pid and self.status is None else None

    def ended(self, status: int) -> tuple[int, str] | None:
        """Its leader has been reaped; return status and reason if it had never become the command,
        else None."""
        self.status = status
        if self.exec_fd < 0:
            return None
        from gracewrap.linux import fork  # loaded already: it is what gave us the descriptor

        failure = fork.exec_failure(self.exec_fd)
        self._close_exec_fd()
        return failure

    def has_executed(self) -> bool:
        """Return whether it has become the command."""
        return self.exec_fd < 0 or process_tree.has_executed(self.pid)

    def _close_exec_fd(self) -> None:
        if self.exec_fd >= 0:
            posix.close(self.exec_fd)
            self.exec_fd = -1

    # --- signals ---------------------------------------------------------------------------------

    def _target(self) -> tuple[int | None, int | None]:
        """Return pid and pidfd of the process that signals go to; no pid: there is none."""
        return self.main if self._main_is_there() and self.main is not None else (self.leader, None)

    @property
    def target_pid(self) -> int:
        """The pid of the process that signals go to; 0: there is none."""
        return self._target()[0] or 0

    def signal(self, signum: int) -> None:
        """Signal the leader, or its main process, if it is there."""
        pid, fd = self._target()
        if pid is not None:
            signal_and_kill.signal_leader(pid, signum, fd)

    def signal_group(self, signum: int) -> None:
        """Signal the leader's group, as long as its number is the leader's."""
        if self.leader is not None:
            signal_and_kill.signal_group(self.group, signum)

    def see(self, signum: int, before: bool = False) -> tuple[Process, ...]:
        """Return what is to be known of its processes.

        Args:
            signum: The stop signal.
            before: It is just to be sent: then nobody asks for the sockets of a leader that has
                nothing below it, and that is not kept waiting.
        """
        for module in lazy_imports.STOP:
            lazy_imports.import_now(module)
        from gracewrap.linux import process_facts

        members = self.look(None)
        return process_facts.look(members, signum, not before or len(members) > 1)

    def see_told(self, told: Told) -> tuple[Process, ...]:
        """Return what is to be known of its leader, which the launcher has sent the stop signal:
        that was all there was of it."""
        for module in lazy_imports.STOP:
            lazy_imports.import_now(module)
        from gracewrap.linux import process_facts

        self.stop_sent = True
        leader = process_tree.member(self.pid)
        seen = process_facts.look(() if leader is None else (leader,), told.signum, sockets=False)
        return process_facts.as_before(seen, told.catches, told.ignores)

    def send_stop(self, signum: int) -> int | None:
        """Send the stop signal to the leader, or its main process; return which process that
        was."""
        pid, fd = self._target()
        if pid is not None:
            signal_and_kill.signal_leader(pid, signum, fd)
            self.stop_sent = True
        return pid

    def send_stop_group(self, signum: int) -> bool:
        """Send the stop signal to the leader's group; return whether it was there."""
        if self.leader is not None:
            signal_and_kill.signal_group(self.group, signum)
            self.stop_sent = True
        return self.leader is not None

    def send_to(self, targets: tuple[tuple[int, int], ...], signum: int) -> None:
        """Send the stop signal to processes, by pid and start time."""
        self.history.unreached = set()
        for pid, started in targets:
            self.signalled.add((pid, started))
            if signal_and_kill.signal_process(pid, started, signum):
                signal_and_kill.signal_process(pid, started, SIGCONT)
            else:
                self.history.unreached.add(pid)

    def send_dump(self, targets: tuple[tuple[int, int], ...], signum: int) -> None:
        """Send processes, by pid and start time, what makes them write what they are doing."""
        self.history.unreached = {
            pid
            for pid, started in targets
            if not signal_and_kill.signal_process(pid, started, signum)
        }

    def untold(self, members: list[process_tree.Member]) -> list[process_tree.Member]:
        """Return those that we have not sent the stop signal."""
        return [
            one
            for one in members
            if one.pid != self.leader and (one.pid, one.started) not in self.signalled
        ]

    def kill(self, everyone: bool) -> list[process_tree.Member]:
        """SIGKILL all that is left of it; see tree.kill_all()."""
        leader = self.leader
        if leader is None and self.group and process_tree.our_children() is None:
            # Without /proc, its group is all that is known of what the leader has left behind; the
            # number is not used again while there is anybody in it.
            leader = self.group
        return signal_and_kill.kill_all(leader, everyone, self.look, self.killed_groups)

    # --- the main process ------------------------------------------------------------------------

    def names_main(self, pid: int, fd: int) -> bool:
        """It says which of its processes is the main one; return whether that is news."""
        known = self.main is not None and self.main[0] == pid
        self.forget_main()
        if pid == self.pid:
            posix.close(fd)
            return False
        self.main = (pid, fd)
        self.history.pid = pid
        return not known

    def find_successor(self, leader: process_tree.Member | None) -> int | None:
        """Name the new master that the *leader*, which has exited, has started in its place as the
        main process; return its pid, or None if there is none."""
        if self.stop_sent or self.main is not None:
            return None
        there = [one for one in self.look(None) if not one.zombie]
        if not there:
            return None
        from gracewrap.policy import successor

        ours, ticks = posix.getpid(), posix.sysconf("SC_CLK_TCK")
        left = [
            successor.Left(
                one.pid,
                one.name,
                process_tree.words(one.pid),
                one.started / ticks,
                bool(process_tree.children(one.pid)),
            )
            for one in there
            if process_tree.parent_of(one.pid) == ours and process_tree.has_executed(one.pid)
        ]
        name, started = (
            ("", self.started_at) if leader is None else (leader.name, leader.started / ticks)
        )
        pid = successor.of(name, started, left)
        try:
            return pid if pid and self.names_main(pid, posix.pidfd_open(pid)) else None
        except OSError:  # it has just gone, or there is no pidfd
            return None

    def forget_main(self) -> None:
        """There is no other main process than the leader."""
        if self.main is not None:
            posix.close(self.main[1])
        self.main = None
        if not self.stop_sent:  # the one that was told is named, also when it ends at once
            self.history.pid = self.pid

    def _main_is_there(self) -> bool:
        """Return whether the main process that was named is still there; else the leader is it
        again."""
        if self.main is not None:
            known = (
                process_tree.member(self.main[0])
                if signal_and_kill.signal_leader(self.main[0], 0, self.main[1])
                else None
            )
            # If it is a zombie of ours, its starter has gone, and its exit is the one that counts:
            # it is reaped in a moment.
            if known is None or (
                known.zombie and process_tree.parent_of(self.main[0]) != posix.getpid()
            ):
                self.forget_main()
        return self.main is not None

    def follow_main(self, found: list[Reaped]) -> Reaped | None:
        """Let its main process take the place of a leader that has gone; return that exit, of
        *found*: it does not count."""
        if self.main is None:
            return None
        main, fd = self.main
        gone = next((one for one in found if one.pid == self.pid and not one.stopped_by), None)
        ended = any(one.pid == main and not one.stopped_by for one in found)
        if gone is None and ended:
            self.forget_main()
        if gone is None or not (ended or process_tree.parent_of(main) == posix.getpid()):
            return None
        posix.close(fd)
        self.main, self.pid = None, main
        self.group = process_tree.group_of(main, self.group)
        return gone
