"""Which program a process below us belongs to, when several programs run; a single program owns
everything.

A child of ours is a program's leader or an orphan, and what is below it belongs to the same
program.  An orphan has lost its parent: its program is found by what the orphan still carries (its
place when it was last seen, a variable in its environment, its process group or session, a user
that only one program has), or else by when it appeared: what is new among our children when a
leader has been reaped was most likely that leader's.

Variables alone would not do: programs that show a title (PostgreSQL, nginx) write over their
environment, and that of another user's process is not ours to read without CAP_SYS_PTRACE
(proc(5)).  Groups alone would not: daemons and PostgreSQL's backends start sessions of their own.
"""

from __future__ import annotations

import posix

from gracewrap.linux import process_tree, reaper
from gracewrap.linux.procfs import read_file
from gracewrap.record import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Collection, Sequence

MARK = b"GRACEWRAP_PROGRAM"  # the variable in which a program finds its name
NOBODY = -1


class ProcessOwners:
    """The children that we have, and whose they are; programs by their index.

    Args:
        names: The programs' names, as MARK has them.
        users: The programs' users, by number.
    """

    def __init__(self, names: Sequence[str], users: Sequence[int]) -> None:
        self._users = {
            user: program for program, user in enumerate(users) if users.count(user) == 1
        }
        self._names = {name.encode(): program for program, name in enumerate(names)}
        self._blind = False  # we could not look
        self._of: dict[int, int] = {}  # until it is reaped, a child's number is nobody else's
        self._leaders: dict[int, int] = {}  # the same, of the leaders alone
        self._groups: dict[int, int] = {}
        self._seen: dict[
            int, frozenset[tuple[int, int]]
        ] = {}  # what was below a program when we last looked
        self._there: set[int] = set()  # the programs of which something may be left

    def spawned(self, pid: int, program: int) -> None:
        """A program has a leader, which leads the group of its own number too."""
        self._of[pid] = self._leaders[pid] = self._groups[pid] = program
        self._there.add(program)

    def reaped(self, pid: int) -> None:
        """A child of ours is no more; its number may be used again."""
        self._of.pop(pid, None)
        self._leaders.pop(pid, None)

    def gone(self, program: int) -> None:
        """Nothing is left of a program, so nothing has its groups any more."""
        self._groups = {group: owner for group, owner in self._groups.items() if owner != program}
        self._seen.pop(program, None)
        self._there.discard(program)

    def sort(self, ended: Collection[int] = ()) -> None:
        """Find out whose the new ones among our children are; *ended* are the programs whose
        leaders have just been reaped."""
        children = process_tree.our_children()
        self._blind = children is None
        unknown = [
            pid
            for pid in children or ()
            if self._of.get(pid, NOBODY) == NOBODY and not process_tree.is_helpers(pid)
        ]
        if unknown:
            ended = {*ended, *self._not_yet_reaped()}
        for pid in unknown:
            # What has been here before did not come with the end of these.
            self._of[pid] = self._whose(pid, () if pid in self._of else ended)

    def _not_yet_reaped(self) -> list[int]:
        """Return the programs whose leaders have ended and are still to be reaped: what they have
        left behind is among our children already."""
        return [program for pid, program in self._leaders.items() if reaper.has_ended(pid)]

    def left(self, program: int) -> bool:
        """Return whether anything may be left of a program, as far as sort() has seen; what is
        nobody's is the last one's."""
        if self._blind:
            return self.is_last(program)
        owners = set(self._of.values())
        return program in owners or (NOBODY in owners and self.is_last(program))

    def is_last(self, program: int) -> bool:
        """Return whether nothing is left of all the other programs."""
        return self._there <= {program}

    def owns(self, program: int, pid: int) -> bool:
        """Return whether a process is of a program: its leader, what is below that, or an orphan of
        it."""
        us, steps = posix.getpid(), 0
        self.sort()
        while pid > 1 and steps < process_tree.DEEPEST:
            parent, steps = process_tree.parent_of(pid), steps + 1
            if parent == us:
                owner = self._of.get(pid, NOBODY)
                return owner == program or (owner == NOBODY and self.is_last(program))
            pid = parent
        return False

    def look(self, program: int, until: float | None = None) -> list[process_tree.Member]:
        """Return every living process of a program; see tree.descendants()."""
        self.sort()
        whose = (program, NOBODY) if self.is_last(program) else (program,)
        found = process_tree.descendants(
            until, [pid for pid, owner in self._of.items() if owner in whose]
        )
        self._seen[program] = frozenset((one.pid, one.started) for one in found)
        return found

    def _whose(self, pid: int, ended: Collection[int]) -> int:
        known = process_tree.member(pid)
        for program, seen in self._seen.items():
            if known is not None and (pid, known.started) in seen:
                return program
        marked = self._mark(pid)
        if marked is not None:
            return marked
        for group in _groups(pid):
            if group in self._groups:
                return self._groups[group]
        user = process_tree.user_of(pid)
        if user is not None and user in self._users:
            return self._users[user]
        return next(iter(ended)) if len(ended) == 1 else NOBODY

    def _mark(self, pid: int) -> int | None:
        """Return the program whose name is in a process's environment."""
        for word in read_file(f"/proc/{pid}/environ").split(b"\0"):
            name, _, value = word.partition(b"=")
            if name == MARK:
                return self._names.get(value)
        return None


def _groups(pid: int) -> list[int]:
    """Return a process's group and session."""
    try:
        return [posix.getpgid(pid), posix.getsid(pid)]
    except OSError:
        return []
