"""What the loop is given to begin with: one small value, because somebody else may have held the
child first: start.py, or the native launcher (launcher/launch.c)."""

from __future__ import annotations

import posix

from gracewrap.linux.reaper import Reaped, exit_status
from gracewrap.record import TYPE_CHECKING, Record
from gracewrap.runtime import fallback

if TYPE_CHECKING:
    from collections.abc import Mapping

    from gracewrap.linux.between_fork_and_exec import ExecContext


class StopRequest(Record):
    """A stop request that came before there was a loop to act on it."""

    signum: int
    at: float
    sender: str


class Told(Record):
    """The stop signal, which the launcher has sent the leader: it had nothing below it."""

    signum: int
    at: float
    catches: bool  # what it was about to do with it
    ignores: bool


class LeaderEnded(Record):
    """The exit of a leader that was reaped before there was a loop; *left*: something of it was
    there still."""

    reaped: Reaped
    left: bool
    at: float


class ControlSocket(Record):
    """A control socket that listens already, and its file."""

    fd: int
    path: str
    device: int
    inode: int


class Equipment(Record):
    """What has been prepared for one program."""

    environment: Mapping[
        bytes, bytes
    ] = {}  # variables for it, beside those of *process*, or else ours
    process: ExecContext | None = None  # what it is to be, and its helpers are; None: as we are
    notify: tuple[int, str] | None = (
        None  # the socket that it finds in NOTIFY_SOCKET, and that value
    )
    agent: tuple[int, str] | None = None  # the socket of its agent, and the path of that
    without_agent: str = ""  # why it has none, though the settings ask for one


class Handover(Record):
    """A child that has been spawned; it leads the process group of its own pid.

    Times are seconds of CLOCK_MONOTONIC.
    """

    # 0: there is none: its exec failed with *exec_errno*, or the loop is to start all programs
    # (exec_errno = 0)
    pid: int
    at: float  # when it was spawned
    stop_requests: tuple[StopRequest, ...] = ()
    pending_since: Mapping[int, float] = {}  # signals that nobody has fetched yet
    told: Told | None = None  # None: it has not been sent the stop signal
    dead_at: float | None = None  # when it was seen to have ended; it has not been reaped
    ended: LeaderEnded | None = None  # None: it has not been reaped
    orphans_reaped: int = 0
    signals_forwarded: int = 0
    passed_on: tuple[int, float, int] = (
        0,
        0.0,
        0,
    )  # the last of them, when, and what was sent; 0: there is none
    exec_fd: int = -1  # tells of an exec that fails later (posix.fork.exec_failure), or -1
    exec_errno: int = 0
    tty: int | None = None  # our controlling terminal
    control: ControlSocket | None = None  # None: there is none yet
    listening: tuple[int, ...] = ()  # sockets for health.listen, in its order
    equipment: tuple[Equipment, ...] = (Equipment(),)  # of each program
    words: tuple[str, ...] = ()  # what gracewrap was started with
    visitors: tuple[int, ...] = ()  # connections of the control socket

    def fallback_state(self, rules: fallback.Rules) -> fallback.FallbackState:
        """Return what the fallback has to know if there is no loop at all."""
        asked = self.stop_requests[0] if self.stop_requests else None
        ended = self.ended
        return fallback.FallbackState(
            {self.pid: rules.stop_signal} if self.pid and ended is None else {},
            () if ended is None else (ended.reaped.status,),
            None if asked is None else asked.at + rules.shutdown_timeout,
            self.told is not None,
        )


# --- what the launcher writes --------------------------------------------------------------------

# The package may have been replaced since the launcher was started: notes of earlier ones are read.
VERSIONS = ("1", "2", "3")
# The variable of its environment in which the launcher has our note while it rests, and we find it
# again: only the same user may read that, as a file.
REST_NOTE = b"GRACEWRAP_REST"


def read_note(note: str) -> Handover:
    """Return what a note says has been begun.

    Each of its lines is a word and the values that belong to it: launch.c writes them.

    Raises:
        ValueError: If it is of a version that is not known.
    """
    lines = [line.partition(" ")[::2] for line in note.split("\n")]
    fields = dict(lines)
    if fields["version"] not in VERSIONS:
        raise ValueError("the launcher is of another version")
    pid, at = fields["child"].split()
    orphans, forwarded = map(int, fields["counts"].split())
    signum, passed_at, *passed_as = fields["passed"].split()
    return Handover(
        int(pid),
        float(at),
        stop_requests=tuple(_request(rest) for word, rest in lines if word == "request"),
        told=_told(fields["told"]) if "told" in fields else None,
        dead_at=float(fields["seen_dead"]) if "seen_dead" in fields else None,
        ended=_ended(int(pid), fields["ended"]) if "ended" in fields else None,
        orphans_reaped=orphans,
        signals_forwarded=forwarded,
        passed_on=(int(signum), float(passed_at), int(passed_as[0] if passed_as else signum)),
        control=_control(fields["control"]) if "control" in fields else None,
        visitors=tuple(int(rest) for word, rest in lines if word == "visitor"),
    )


def _request(text: str) -> StopRequest:
    from gracewrap.report.signal_sender import sender

    signum, at, pid, uid, code, comm = text.split(" ", 5)
    who = sender(int(pid), int(uid), int(code), int(signum), comm)
    return StopRequest(int(signum), float(at), who)


def _told(text: str) -> Told:
    signum, at, catches, ignores = text.split()
    return Told(int(signum), float(at), catches == "1", ignores == "1")


def _ended(pid: int, text: str) -> LeaderEnded:
    status, at, left = text.split()
    wait_status = int(status)
    signum = posix.WTERMSIG(wait_status) if posix.WIFSIGNALED(wait_status) else 0
    return LeaderEnded(Reaped(pid, exit_status(wait_status), signum), left == "1", float(at))


def _control(text: str) -> ControlSocket:
    fd, device, inode, path = text.split(" ", 3)
    return ControlSocket(int(fd), path, int(device), int(inode))
