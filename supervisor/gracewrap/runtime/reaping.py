"""Collects exits of leaders, helpers and orphans; the policy decides what follows from them."""

from __future__ import annotations

import time

from gracewrap.linux import process_tree, reaper, terminal
from gracewrap.policy.model import LeaderExited, StartFailed
from gracewrap.record import TYPE_CHECKING
from gracewrap.report.runtime_events import ChildStopped, LeaderReplaced, Reaped
from gracewrap.runtime.programs import hint

if TYPE_CHECKING:
    from collections.abc import Callable

    from gracewrap.report.recorder import Recorder
    from gracewrap.runtime.program import ProgramRuntime
    from gracewrap.runtime.programs import Programs


class ExitCollector:
    """Collects every exit there is.

    Args:
        programs: The programs, by their index.
        recorder: Counts orphans; at debug level it logs each.
        tty: Our controlling terminal, or None.
        is_watched: Returns whether the policy waits until nothing is left of a program.
    """

    def __init__(
        self,
        programs: Programs,
        recorder: Recorder,
        tty: int | None,
        is_watched: Callable[[int], bool],
    ) -> None:
        self._programs, self._recorder, self._tty = programs, recorder, tty
        self._is_watched = is_watched

    def collect(self, at: float) -> tuple[list[tuple[ProgramRuntime, reaper.Reaped]], bool]:
        """Return the exits of leaders, and whether any process is left that is a program's."""
        programs = self._programs
        leaving = self._leaving()
        found, left, orphans = reaper.reap(self._known(), self._tty is not None)
        self._recorder.run.orphans_reaped += orphans
        found = programs.without_helpers(found)
        if programs.has_helpers:
            left = left and process_tree.anything_left()
        self._find_successors(found, leaving, at)
        ended = self._leaders_of(found, at)
        if programs.owners is not None:
            self._sort(found, [program.index for program, _ in ended])
        return ended, left

    def leader_exited(
        self, program: ProgramRuntime, reaped: reaper.Reaped, left: bool, at: float
    ) -> LeaderExited | StartFailed:
        """Take the terminal back from a leader, and find out whether its exec had failed; return
        the event.

        Args:
            program: Its program.
            reaped: Its exit.
            left: Whether anything is left of the program.
            at: When.
        """
        child = program.child
        del self._programs.leaders[reaped.pid]
        group = 0  # that has had what was typed on the terminal
        if self._tty is not None:
            terminal.take_back(self._tty, child.pid)
            group = child.group
        failure = child.ended(reaped.status)
        if failure is None:
            return LeaderExited(program.index, reaped.status, reaped.signum, left, at, group)
        status, why = failure
        return StartFailed(program.index, status, why + hint(status, program.settings), at)

    def _leaving(self) -> dict[int, process_tree.Member | None]:
        """Return the leaders that have ended, and what they were: known only until they are
        reaped."""
        return {
            pid: process_tree.member(pid) for pid in self._programs.leaders if reaper.has_ended(pid)
        }

    def _find_successors(
        self,
        found: list[reaper.Reaped],
        leaving: dict[int, process_tree.Member | None],
        at: float,
    ) -> None:
        """Let a new master, which a leader has started, take its place when it exits with 0."""
        for one in found:
            program = self._programs.leaders.get(one.pid)
            if program is None or one.status or one.stopped_by:
                continue
            was = program.child.history.who
            if pid := program.child.find_successor(leaving.get(one.pid)):
                self._recorder.record(LeaderReplaced(program.index, was, pid), at)

    def _known(self) -> set[int] | None:
        """Return the children whose exits the reaper returns; None: all.  It counts the others."""
        programs = self._programs
        if programs.owners is not None or self._recorder.log.lowest == 0:
            return None  # at debug level orphans are logged one by one
        main = (program.child.main[0] for program in programs if program.child.main)
        left = (pid for history in self._recorder.histories for pid in history.left_told)
        return {*programs.leaders, *main, *left, *programs.helper_pids()}

    def _leaders_of(
        self, found: list[reaper.Reaped], at: float
    ) -> list[tuple[ProgramRuntime, reaper.Reaped]]:
        """Return the exits of leaders; deal with the others."""
        leaders = self._programs.leaders
        if any(program.child.main for program in self._programs):
            self._follow_main(found)
        ended = []
        for one in found:
            program = leaders.get(one.pid)
            if program is None:
                self._orphan(one, at)
            elif one.stopped_by:
                self._stopped(program, one.stopped_by)
            else:
                ended.append((program, one))
        return ended

    def _follow_main(self, found: list[reaper.Reaped]) -> None:
        """Let main processes that programs have named take the place of leaders that exited."""
        leaders, owners = self._programs.leaders, self._programs.owners
        for program in self._programs:
            starter = program.child.follow_main(found)
            if starter is not None:
                found.remove(starter)
                del leaders[starter.pid]
                leaders[program.child.pid] = program
                if owners is not None:
                    owners.reaped(starter.pid)  # or something of it would be left for ever
                    owners.spawned(program.child.pid, program.index)

    def _sort(self, found: list[reaper.Reaped], ended: list[int]) -> None:
        """Find out which programs orphans belong to, as long as that matters: some program is there
        without its leader."""
        owners = self._programs.owners
        assert owners is not None
        for one in found:
            if not one.stopped_by:
                owners.reaped(one.pid)
        if ended or any(
            program.child.status is not None and self._is_watched(program.index)
            for program in self._programs
        ):
            owners.sort(ended)

    def _orphan(self, one: reaper.Reaped, at: float) -> None:
        if not one.stopped_by:
            self._recorder.run.orphans_reaped += 1
            self._recorder.left_ended(one.pid, one.signum, at)
            if self._recorder.log.lowest == 0:
                self._recorder.record(Reaped(one.pid, one.status), at)

    def _stopped(self, program: ProgramRuntime, signum: int) -> None:
        """A leader was stopped: on a terminal by Ctrl-Z, and then gracewrap stops with it."""
        if self._tty is not None:
            done = terminal.child_stopped(self._tty, program.child.pid, signum)
            if not done.startswith("stopped"):
                event = ChildStopped(program.index, signum, done)
                self._recorder.record(event, time.monotonic())
