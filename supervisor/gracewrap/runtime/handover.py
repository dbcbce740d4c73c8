"""What start.py hands to supervise.py: one small value, so that whoever holds the child first can
be something else one day."""

from __future__ import annotations

from gracewrap.record import TYPE_CHECKING, Record

if TYPE_CHECKING:
    from collections.abc import Mapping

    from gracewrap.linux.exec_context import ExecContext


class StopRequest(Record):
    """A stop request that came before there was a loop to act on it."""

    signum: int
    at: float
    sender: str


class Equipment(Record):
    """What has been prepared for one program."""

    environment: Mapping[
        bytes, bytes
    ] = {}  # variables for it, beside those of *process*, or else ours
    process: ExecContext | None = None  # what it is to be, and its helpers are; None: as we are
    notify: tuple[int, str] | None = (
        None  # the socket that it finds in NOTIFY_SOCKET, and that value
    )


class Handover(Record):
    """A child that has been spawned and not been reaped; it leads the process group of its own pid.

    Times are seconds of CLOCK_MONOTONIC.
    """

    # 0: there is none: its exec failed with *exec_errno*, or the loop is to start all programs
    # (exec_errno = 0)
    pid: int
    at: float  # when it was spawned
    stop_requests: tuple[StopRequest, ...] = ()
    orphans_reaped: int = 0
    exec_fd: int = -1  # tells of an exec that fails later (posix.fork.exec_failure), or -1
    exec_errno: int = 0
    tty: int | None = None  # our controlling terminal
    listening: tuple[int, ...] = ()  # sockets for health.listen, in its order
    equipment: tuple[Equipment, ...] = (Equipment(),)  # of each program
