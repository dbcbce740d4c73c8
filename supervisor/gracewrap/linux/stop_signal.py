"""Who has had the stop signal: from us, or from its leader as far as that shows.  A second one
makes many drop their work."""

from __future__ import annotations

import posix
import time

from gracewrap.linux import process_tree
from gracewrap.linux.signals import SIGCONT
from gracewrap.record import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable

SHELLS = frozenset(("sh", "bash", "dash", "ash", "ksh", "ksh93", "mksh", "zsh", "busybox"))


class StopSignalTracker:
    """What was seen of a program when its leader was sent the stop signal, and who has been sent it
    since.

    Args:
        look: Returns what there is of the program, and stops looking at the time that it is given.
    """

    def __init__(
        self, look: Callable[[float | None], list[process_tree.Member]] = process_tree.descendants
    ) -> None:
        self._look = look
        self._sent: set[tuple[int, int]] = set()  # (pid, start time)
        self._catching: set[process_tree.Member] = (
            set()
        )  # members that had a handler for it at that time
        self.shell = False  # the leader is a shell with a trap for it
        self.unfinished = False  # send_rest() had to stop before it had looked at everything

    def send_leader(self, pid: int, signum: int, fd: int | None = None) -> None:
        """Send the stop signal to the leader, after a look at what could be gone a moment later.

        Args:
            pid: The leader.
            signum: The stop signal.
            fd: Its pidfd, if it is no child of ours.
        """
        members = [found for found in self._look(None) if found.pid != pid]
        self._catching = {found for found in members if process_tree.catches(found.pid, signum)}
        self.shell = _program(pid) in SHELLS and process_tree.catches(pid, signum)
        process_tree.signal_leader(pid, signum, fd)

    def send_group(self, pgid: int, signum: int) -> None:
        """Send the stop signal to the leader's group; who is outside of it has not had it."""
        self._sent |= {
            (found.pid, found.started) for found in self._look(None) if found.pgid == pgid
        }
        process_tree.signal_group(pgid, signum)

    def send_rest(self, leader: int | None, signum: int) -> list[process_tree.Member]:
        """Send the stop signal to everything of the program that has not had it; return who was
        reached.

        Those that are born meanwhile are found by looking again; those born later are somebody's
        clean-up work, and left alone.
        So is one that had a handler for one use (Node's process.once) and has it no more: the
        leader has passed the signal on.

        Args:
            leader: Its pid while it is not reaped: it has had the signal.
            signum: The stop signal.
        """
        reached: list[process_tree.Member] = []
        until = time.monotonic() + process_tree.LOOK
        self.unfinished = False
        while new := self.untold(leader, self._look(until)):
            for found in new:
                self._sent.add((found.pid, found.started))
                used_up = found in self._catching and not process_tree.catches(found.pid, signum)
                if not used_up and process_tree.signal_member(found, signum):
                    process_tree.signal_member(found, SIGCONT)
                    reached.append(found)
            self.unfinished = time.monotonic() >= until
        return reached

    def untold(
        self, leader: int | None, members: list[process_tree.Member]
    ) -> list[process_tree.Member]:
        """Return those of *members* whom we have never sent the stop signal."""
        return [
            found
            for found in members
            if found.pid != leader and (found.pid, found.started) not in self._sent
        ]


def _program(pid: int) -> str:
    """Return the name of the file that a process runs; of a script that is its interpreter."""
    try:
        return posix.readlink(f"/proc/{pid}/exe").rpartition("/")[2].removesuffix(" (deleted)")
    except OSError:  # another user's
        return ""
