"""The controlling terminal: its foreground goes to the child's group and comes back; Ctrl-Z stops
us along with the child."""

from __future__ import annotations

import _signal
import posix

from gracewrap.linux.process_tree import parent_of
from gracewrap.linux.signal_and_kill import signal_group
from gracewrap.linux.signals import SIGCONT, SIGINT, SIGSTOP, SIGTSTP, SIGTTIN, SIGTTOU
from gracewrap.record import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence


def is_foreground(tty: int, pgid: int) -> bool:
    """Return whether *pgid* is the terminal's foreground process group."""
    try:
        return posix.tcgetpgrp(tty) == pgid
    except OSError:  # the terminal hung up
        return False


def is_interactive(tty: int) -> bool:
    """Return whether the child should have the foreground from its first instruction on.

    Not in a pipeline (`gracewrap -- server | less`: the pager is in our group and needs the
    terminal; a child that does read gets it then), nor as a script's background job (there the
    shell ignores SIGINT: POSIX.1-2017, XCU 2.11).
    """
    ignored = _signal.getsignal(SIGINT) is _signal.SIG_IGN
    return (
        posix.isatty(0) and posix.isatty(1) and not ignored and is_foreground(tty, posix.getpgrp())
    )


def give(tty: int, pgid: int) -> None:
    """Make *pgid* the foreground group (SIGTTOU is blocked, so we may do that from the
    background)."""
    try:
        posix.tcsetpgrp(tty, pgid)
    except OSError:  # the terminal hung up, or the group is gone
        pass


def take_back(tty: int, pgid: int) -> None:
    """Take the foreground back from *pgid*, unless somebody else has it by now."""
    if is_foreground(tty, pgid):
        give(tty, posix.getpgrp())


def _has_resumer() -> bool:
    """Return whether somebody could continue us: an ancestor in our session but not in our group,
    which is a job-control shell.

    Without one our group is orphaned (POSIX.1-2017, XBD 3.264), and a stop would be for ever; on
    PID 1 it has no effect at all.
    """
    session, group, pid = posix.getsid(0), posix.getpgrp(), posix.getppid()
    while pid > 0:
        try:
            if posix.getsid(pid) != session:
                return False
            if posix.getpgid(pid) != group:
                return True
        except OSError:
            return False
        pid = parent_of(pid)
    return False


def child_stopped(tty: int, pgid: int, signum: int) -> str:
    """Do what a shell expects of a job whose process was stopped by *signum*; return what was done.

    Returns only after SIGCONT has resumed us, if we stopped too.
    """
    if signum in (SIGTTIN, SIGTTOU) and is_foreground(tty, posix.getpgrp()):
        give(tty, pgid)  # it needs the terminal, and we have it
        signal_group(pgid, SIGCONT)
        return "it was given the terminal"
    if signum not in (SIGTSTP, SIGTTIN, SIGTTOU, SIGSTOP):
        return "left stopped"
    if not _has_resumer():
        if signum != SIGTSTP:
            return "left stopped"
        signal_group(pgid, SIGCONT)
        return "resumed, since nobody else could"
    take_back(tty, pgid)
    # Our whole job stops, as the shell that started it sees it; SIGTSTP is blocked here, so we
    # ourselves stop by SIGSTOP.
    posix.kill(0, SIGTSTP)
    posix.kill(posix.getpid(), SIGSTOP)
    resume(tty, pgid)
    return "stopped with it, and resumed"


def stop_with(pgids: Sequence[int]) -> None:
    """After Ctrl-Z: stop groups that are not in the foreground, and ourselves, as one job; return
    once that is resumed.

    Nobody is stopped whom nobody could resume.
    """
    if _has_resumer():
        for pgid in pgids:
            signal_group(pgid, SIGTSTP)
        posix.kill(posix.getpid(), SIGSTOP)
        for pgid in pgids:
            signal_group(pgid, SIGCONT)


def resume(tty: int, pgid: int) -> None:
    """After SIGCONT: give the child the foreground if `fg` gave it to us and it is meant to have
    it, and continue it."""
    if is_interactive(tty):
        give(tty, pgid)
    signal_group(pgid, SIGCONT)
