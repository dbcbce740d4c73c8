"""Helpers: processes that we start for a probe or a hook.  Spawned, reaped and killed like the
command, but never part of it.

Each leads a process group of its own, by which what it starts is told from what the command left
behind.
"""

from __future__ import annotations

import posix

from gracewrap.linux import process_tree, signal_and_kill, spawn
from gracewrap.linux.signals import SIGKILL
from gracewrap.record import TYPE_CHECKING, replace

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence, Set

    from gracewrap.linux.between_fork_and_exec import ExecContext
    from gracewrap.linux.reactor import Reactor

    Done = Callable[[int, bytes], None]


class Helper:
    """One running helper."""

    __slots__ = ("capture", "done", "output", "pid", "reading", "status")

    def __init__(self, pid: int, reading: int, capture: int, done: Done) -> None:
        self.pid, self.reading, self.capture, self.done = pid, reading, capture, done
        self.output = b""
        self.status: int | None = None


class Helpers:
    """All that run; *process* is what they are to be, None: as we are."""

    def __init__(self, reactor: Reactor, process: ExecContext | None = None) -> None:
        self._reactor = reactor
        self._process = process and replace(process, no_stdin=True)
        self._running: dict[int, Helper] = {}

    @property
    def pids(self) -> frozenset[int]:
        """The pids of all that run, which the reaper is to tell about."""
        return frozenset(self._running)

    def run(
        self,
        argv: Sequence[str],
        done: Done,
        capture: int = 0,
        more: Mapping[bytes, bytes] | None = None,
        ours: bool = False,
    ) -> Helper:
        """Start a helper; *done* is called with its exit status and its output when it has ended,
        unless kill() comes before.

        Args:
            argv: Looked up and passed on as a command's is; a file without a format is not run by
                the shell.
            done: Called once, from the loop.
            capture: How many bytes of its stdout to keep (the rest is read and dropped); 0: its
                stdout is ours.
            more: Variables for its environment, beside those that the command has.
            ours: It is gracewrap's own work, done as we are.

        Raises:
            OSError: If it cannot be executed, or there is no process or descriptor to be had.
            ValueError: If a word holds a NUL.
        """
        reading, writing = posix.pipe2(posix.O_CLOEXEC) if capture else (-1, -1)
        try:
            pid = spawn.helper(argv, writing, more or {}, None if ours else self._process)
        except BaseException:
            if capture:
                posix.close(reading)
            raise
        finally:
            if capture:
                posix.close(writing)
        helper = Helper(pid, reading, capture, done)
        self._running[pid] = helper
        process_tree.HELPERS.add(pid)
        if capture:
            self._reactor.watch(reading, lambda: self._read(helper))
        return helper

    def kill(self, helper: Helper | None) -> None:
        """SIGKILL its whole group; it is reaped later, and *done* is not called."""
        if helper is not None and self._running.get(helper.pid) is helper:
            helper.done = _nobody
            self._close(helper)
            signal_and_kill.signal_group(helper.pid, SIGKILL)

    def reaped(self, pid: int, status: int) -> bool:
        """Take in an exit, and return whether it was a helper's.  What it has left running is
        killed."""
        helper = self._running.pop(pid, None)
        if helper is None:
            return False
        if helper.reading >= 0:
            self._read(helper)
        self._close(helper)
        if process_tree.helpers_members(
            pid
        ):  # the group keeps its number as long as it has a member
            signal_and_kill.signal_group(pid, SIGKILL)
        helper.done(status, helper.output)
        return True

    def kill_all(self) -> None:
        """SIGKILL all that run: we are leaving."""
        for helper in list(self._running.values()):
            self.kill(helper)

    def _read(self, helper: Helper) -> None:
        """Read what it has written, in one go of 64 KiB at most: more is offered again."""
        try:
            part = posix.read(helper.reading, 1 << 16)
        except BlockingIOError:
            return
        except OSError:
            part = b""
        if part:
            helper.output = (helper.output + part)[: helper.capture]
        else:
            self._close(helper)

    def _close(self, helper: Helper) -> None:
        if helper.reading >= 0:
            self._reactor.unwatch(helper.reading)
            posix.close(helper.reading)
            helper.reading = -1


def forget_gone(running: Set[int]) -> None:
    """Forget the groups of which nothing is left: their numbers may be used again, by others.

    Args:
        running: The pids of all helpers that run.
    """
    for group in process_tree.HELPERS - running:
        if not signal_and_kill.signal_group(group, 0):
            process_tree.HELPERS.discard(group)


def _nobody(status: int, output: bytes) -> None:
    """Hear of a helper that was given up."""
