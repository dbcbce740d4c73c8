"""The one reaper: nothing else in the package waits for a process, or exit statuses get lost
(subprocess reports 0 then)."""

from __future__ import annotations

import posix

from gracewrap.record import TYPE_CHECKING, Record

if TYPE_CHECKING:
    from collections.abc import Container


class Reaped(Record):
    """One process that is no more, or one that stopped (*stopped_by* is the signal, and it
    lives)."""

    pid: int
    status: int
    signum: int
    stopped_by: int = 0


def exit_status(wait_status: int) -> int:
    """Return what a shell would report for *wait_status*: 0..255.

    A child that died of signal N gives 128 + N, as sh, tini and docker do.

    Args:
        wait_status: As waitpid() returned it, of a process that has ended.

    Source: POSIX.1-2017, XCU 2.8.2 (asks for more than 128; 128 + N is the custom).
    """
    if posix.WIFSIGNALED(wait_status):
        return 128 + posix.WTERMSIG(wait_status)
    return posix.WEXITSTATUS(wait_status)


def has_ended(pid: int) -> bool:
    """Return whether a child of ours has ended, and leave it to reap()."""
    try:
        found = posix.waitid(posix.P_PID, pid, posix.WEXITED | posix.WNOHANG | posix.WNOWAIT)
    except OSError:
        return False
    return found is not None


def reap(known: Container[int] | None, stops: bool = False) -> tuple[list[Reaped], bool, int]:
    """Return what has become of the children in *known*, whether any child is left, and how many
    others have been reaped.

    One SIGCHLD may stand for any number of exits, or for none: so all are fetched, always.

    Args:
        known: The pids to be told about; None: all.  Those of orphans are only counted, and
            thousands of them cost little.
        stops: Report stopped children too (for a terminal's job control).
    """
    flags = posix.WNOHANG | posix.WUNTRACED if stops else posix.WNOHANG
    found: list[Reaped] = []
    others = 0
    while True:
        try:
            pid, status = posix.waitpid(-1, flags)
        except (
            ChildProcessError
        ):  # ECHILD: no child at all, hence no descendant either: orphans come to us
            return found, False, others
        if pid == 0:
            return found, True, others
        if known is not None and pid not in known:
            others += not posix.WIFSTOPPED(status)
        elif posix.WIFSTOPPED(
            status
        ):  # also unasked, of a child that is traced (PTRACE_TRACEME, with us as the tracer)
            if stops:
                found.append(Reaped(pid, 0, 0, posix.WSTOPSIG(status)))
        else:
            found.append(
                Reaped(
                    pid,
                    exit_status(status),
                    posix.WTERMSIG(status) if posix.WIFSIGNALED(status) else 0,
                )
            )
