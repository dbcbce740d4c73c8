"""The programs of a run, which processes belong to which, and what they share: output, helpers."""

from __future__ import annotations

import posix
import time

from gracewrap.config.settings import COMMAND_LINE
from gracewrap.linux import process_tree, spawn
from gracewrap.linux.procfs import EMFILE, ENFILE
from gracewrap.linux.signals import HARMLESS
from gracewrap.policy.model import Event, ProgramStarted, StartFailed
from gracewrap.record import TYPE_CHECKING
from gracewrap.report.runtime_events import OutputLost
from gracewrap.runtime import lazy_imports
from gracewrap.runtime.program import ProgramRuntime
from gracewrap.runtime.program_processes import Child

if TYPE_CHECKING:
    import _signal
    from collections.abc import Callable, Iterator

    from gracewrap.config.settings import Settings
    from gracewrap.linux.process_owners import ProcessOwners
    from gracewrap.linux.reactor import Reactor, Timer
    from gracewrap.linux.reaper import Reaped
    from gracewrap.report.recorder import Recorder
    from gracewrap.runtime.handover import Handover
    from gracewrap.runtime.output_lines import Outputs

# Seconds after a start by which what goes into the background has gone there.
SORT = (1.0, 10.0)
# What the programs have written last has the rest of the budget, as long as its reader takes some
# of it in so many seconds; and at least these when the budget is used up.
LAST_OUTPUT, LEAST_OUTPUT = 1.0, 0.2


class Programs:
    """All programs, by their index.

    Args:
        settings: Of the run.
        handover: The child that is running already, and what has been prepared for each program.
        reactor: For descriptors and timers.
        recorder: Takes what is to be logged.
        post: Takes an event for the policy.

    Attributes:
        leaders: The programs by the pid of their leader, while that is not reaped.
        owners: Which processes belong to which program; None: all belong to the one there is.
    """

    def __init__(
        self,
        settings: Settings,
        handover: Handover,
        reactor: Reactor,
        recorder: Recorder,
        post: Callable[[Event], None],
    ) -> None:
        self._reactor, self._recorder = reactor, recorder
        self.owners: ProcessOwners | None = None
        self.leaders: dict[int, ProgramRuntime] = {}
        self._outputs: Outputs | None = None
        self._sorts: list[Timer] = []  # when to look for orphans again, after the last start
        if len(settings.programs) > 1:
            from gracewrap.linux.process_owners import ProcessOwners

            contexts = [prepared.process for prepared in handover.equipment]
            users = [
                posix.geteuid() if context is None or context.uid is None else context.uid
                for context in contexts
            ]
            self.owners = ProcessOwners([program.name for program in settings.programs], users)
        self._all = []
        for i, own in enumerate(settings.each):
            look = process_tree.descendants if self.owners is None else _look(self.owners, i)
            child = Child(i, own, recorder.histories[i], handover.equipment[i], look)
            self._all.append(ProgramRuntime(child, reactor, recorder, post))
        self._all[0].child.told = handover.told
        if handover.pid:
            self._has_started(self._all[0], handover.pid, handover.exec_fd, handover.at)

    def __getitem__(self, index: int) -> ProgramRuntime:
        return self._all[index]

    def __iter__(self) -> Iterator[ProgramRuntime]:
        return iter(self._all)

    def __len__(self) -> int:
        return len(self._all)

    def unhandled(self, got: _signal.struct_siginfo) -> frozenset[int]:
        """Return which of several programs a signal would end, as they have no handler for it; none
        of one that comes from the kernel, for that is meant for all."""
        if len(self._all) < 2 or got.si_code > 0 or got.si_signo in HARMLESS:
            return frozenset()
        return frozenset(
            program.index
            for program in self.leaders.values()
            if process_tree.would_end(program.child.target_pid, got.si_signo)
        )

    # --- what is prepared ------------------------------------------------------------------------

    def prepare(self, pushes: bool, metrics: Callable[[], str]) -> None:
        """Prepare probes, hooks and notifications of each program; the first one *pushes* the
        *metrics*."""
        for program in self._all:
            if program.settings.needs_errands or (pushes and program.index == 0):
                program.prepare(self._members_of(program.index), metrics)

    def _members_of(self, index: int) -> Callable[[int], bool]:
        return lambda pid: (
            process_tree.is_below_us(pid) and (self.owners is None or self.owners.owns(index, pid))
        )

    def open_output(self) -> None:
        """Take in what the programs write, if the settings ask for that."""
        width = max(len(program.child.history.label) for program in self._all)
        for program in self._all:
            if program.settings.reads_output:
                from gracewrap.runtime import output_lines

                if self._outputs is None:
                    self._outputs = output_lines.Outputs(self._reactor, self._fault)
                program.open_output(self._outputs, width)
                if program.output is not None:
                    self._recorder.log.beside = self._outputs.log

    def _fault(self, error: BaseException) -> None:
        self._recorder.fault(error, time.monotonic())

    # --- starts and ends -------------------------------------------------------------------------

    def start(self, program: ProgramRuntime) -> Event:
        """Start a program; return the event that answers."""
        settings, equipment = program.settings, program.child.equipment
        program.reset()
        # A group in the background must not read from a terminal; without /dev/null nothing can be
        # put in its place.
        no_stdin = settings.stdin == "null" or ("stdin" not in settings.origins and _has_null())
        lazy_imports.import_now("gracewrap.linux.standard_streams")
        from gracewrap.linux import standard_streams  # only for what is started here

        stdio, opened = standard_streams.own(program.stdio)
        try:
            pid, exec_fd, errno = spawn.spawn(
                settings.command,
                None,
                equipment.environment,
                equipment.process,
                stdio,
                no_stdin,
            )
        except OSError as error:
            limit = "ulimit -n" if error.errno in (EMFILE, ENFILE) else "ulimit -u, --pids-limit"
            why = f"no process can be created: {error.strerror}; raise the limit ({limit})"
            return StartFailed(program.index, 126, why, time.monotonic())
        finally:
            for fd in opened:
                posix.close(fd)
        at = time.monotonic()
        if errno:
            from gracewrap.linux import exec_errors

            status, why = exec_errors.explain(settings.command, errno)
            return StartFailed(program.index, status, why + hint(status, settings), at)
        self._has_started(program, pid, exec_fd, at)
        return ProgramStarted(program.index, at)

    def _has_started(self, program: ProgramRuntime, pid: int, exec_fd: int, at: float) -> None:
        child = program.child
        if child.leader is not None:
            # It could not be killed.  Should it end after all, that is not the end of the new one.
            self.leaders.pop(child.leader, None)
        child.started(pid, exec_fd, at)
        child.history.begins_again(pid, at)
        self.leaders[pid] = program
        if self.owners is not None:
            self.owners.spawned(pid, program.index)
            for timer in self._sorts:
                self._reactor.cancel(timer)
            self._sorts = [self._reactor.call_at(at + after, self.owners.sort) for after in SORT]

    def on_gone(self, program: ProgramRuntime) -> None:
        """The program has no process left; it may be started again."""
        program.on_gone()
        if self.owners is not None:
            self.owners.gone(program.index)

    def is_left(self, program: ProgramRuntime, left: bool) -> bool:
        """Return whether anything of a program is left; *left* says whether any process is."""
        return left and (self.owners is None or self.owners.left(program.index))

    def is_last(self, index: int) -> bool:
        """Return whether nothing is left of any other program."""
        return self.owners is None or self.owners.is_last(index)

    # --- helpers ---------------------------------------------------------------------------------

    def helper_pids(self) -> set[int]:
        """Return the pids of all helpers."""
        return {
            pid
            for program in self._all
            if program.helpers is not None
            for pid in program.helpers.pids
        }

    @property
    def has_helpers(self) -> bool:
        """Whether there may be any."""
        return any(program.helpers is not None for program in self._all)

    def without_helpers(self, found: list[Reaped]) -> list[Reaped]:
        """Return what has been reaped without the helpers, which take their exits."""
        for program in self._all:
            if program.helpers is not None:
                reaped = program.helpers.reaped
                found = [one for one in found if one.stopped_by or not reaped(one.pid, one.status)]
        if self.has_helpers:
            from gracewrap.linux import hook_and_probe_process_groups  # it is loaded

            hook_and_probe_process_groups.forget_gone(self.helper_pids())
        return found

    def kill_helpers(self) -> None:
        """Kill all helpers: the run ends."""
        for program in self._all:
            if program.helpers is not None:
                program.helpers.kill_all()

    # --- the last output -------------------------------------------------------------------------

    def last_output(self, budget_ends: float) -> None:
        """Write what the programs have written last, as far as its reader takes it in time."""
        if self._outputs is not None:
            at = time.monotonic()
            self._outputs.close(max(at + LEAST_OUTPUT, budget_ends), LAST_OUTPUT)
            self._recorder.log.beside = None
            self._recorder.run.output_lost = self._outputs.lost
            if self._outputs.lost:
                self._recorder.record(OutputLost(self._outputs.lost), at)

    def output_sources(self) -> tuple[tuple[int, int], ...]:
        """Return where the fallback reads the programs' output, and to which of our descriptors it
        goes."""
        if self._outputs is None:
            return ()
        found: tuple[tuple[int, int], ...] = ()
        try:
            self._recorder.log.beside = None
            found = tuple(self._outputs.sources())
            self._outputs.settle(time.monotonic() + LEAST_OUTPUT, LEAST_OUTPUT)
        except Exception:
            pass  # the fallback reads the rest
        return found


def hint(status: int, settings: Settings) -> str:
    """Return what to write instead of a command that was not found, or is a file of settings."""
    command = settings.command
    if settings.origins.get("command") != COMMAND_LINE:
        return ""
    if status != 127 and not command[0].endswith(".toml"):
        return ""
    try:
        from gracewrap.config import did_you_mean
    except (ImportError, OSError):  # python3-minimal has no difflib; no descriptor is left
        return ""
    return did_you_mean.unknown_command(*command)


def _has_null() -> bool:
    try:
        return bool(posix.stat("/dev/null"))
    except OSError:
        return False


def _look(
    owners: ProcessOwners, program: int
) -> Callable[[float | None], list[process_tree.Member]]:
    return lambda until: owners.look(program, until)
