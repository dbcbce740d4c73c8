"""What the policy is told (Policy), what happens (events) and what it answers (commands).

Times are seconds on a monotonic clock, given by the caller.  A program is named by its index in Policy.programs.
"""

from __future__ import annotations

from gracewrap.record import TYPE_CHECKING, Record

if TYPE_CHECKING:
    from collections.abc import Mapping

SIGKILL, SIGCONT = 9, 18  # the same on every Linux architecture that Python runs on (signal(7))


# What a sample of a probe can say.
DRAINED, BUSY, UNREACHABLE, INVALID = "drained", "busy", "unreachable", "invalid"


class Reading(Record):
    """One sample of a probe.

    *kind* is DRAINED, BUSY (*in_flight* says how much, if it is known), UNREACHABLE (no answer: keep waiting) or INVALID (an
    answer that cannot be used: a mistake in the configuration, or an endpoint that is not there).
    """

    kind: str
    in_flight: float | None = None
    why: str = ""  # for people, of what is not drained: "404 Not Found", "3 of 7 connections in flight"


class Rung(Record):
    """One step of the ladder between the stop signal and SIGKILL: *after* seconds from the stop signal, send *signum*."""

    after: float
    signum: int


class ProgramPolicy(Record):
    """How one program is stopped."""

    stop_signal: int = 15
    stop_timeout: float | None = None  # seconds from the stop signal to SIGKILL; None: what is left of the budget
    escalation: tuple[Rung, ...] = ()
    kill_mode: str = "mixed"


class Policy(Record):
    """How everything is stopped: one budget across all programs."""

    programs: tuple[ProgramPolicy, ...]
    shutdown_timeout: float = 25.0  # seconds from the stop request to the last SIGKILL
    stop_on: frozenset[int] = frozenset((15, 2))
    signal_map: Mapping[int, int] = {}  # signal received -> signal sent on; 0 drops it
    on_repeat: str = "escalate"
    flush_timeout: float = 1.0  # seconds to stay for bytes that the kernel has not sent yet
    success_exit_codes: frozenset[int] = frozenset()


# Events: what happened.


class SignalReceived(Record):
    """A signal arrived at gracewrap itself."""

    signum: int
    at: float


class LeaderExited(Record):
    """The process that was spawned for a program has been reaped; *left* says whether anything of the program lives on."""

    program: int
    status: int  # exit status as a shell reports it
    signum: int  # the signal that ended it, or 0
    left: bool
    at: float
    may_have_told: bool = False  # it is a shell, and shells pass a signal on by a trap and do not wait


class ProgramGone(Record):
    """The leader had been reaped before, and now nothing is left of the program."""

    program: int
    at: float


class StopSignalIgnored(Record):
    """The leader ignores the stop signal that it has just been sent."""

    program: int
    at: float


class ShellTold(Record):
    """The leader that has just been sent the stop signal is a shell with a trap for it."""

    program: int
    at: float


class UnsentCounted(Record):
    """The kernel still holds unsent bytes on this many connections that nobody owns any more."""

    connections: int
    at: float


class Tick(Record):
    """Time has passed."""

    at: float


Event = SignalReceived | LeaderExited | ProgramGone | StopSignalIgnored | ShellTold | UnsentCounted | Tick


# Commands: what to do about it.


class SendLeader(Record):
    """Signal the leader, and nobody else."""

    program: int
    signum: int


class SendGroup(Record):
    """Signal the leader's whole process group at once."""

    program: int
    signum: int


class SendRest(Record):
    """Signal whatever is left of the program and has not been sent its stop signal yet."""

    program: int
    signum: int


class KillProgram(Record):
    """SIGKILL everything that is left of the program."""

    program: int


class CountUnsent(Record):
    """Count the connections with unsent bytes; UnsentCounted answers."""


class Exit(Record):
    """Leave with this exit status; always the last command."""

    status: int


class Note(Record):
    """Tell people: *what* happened or was decided, with its particulars (seconds, statuses, signal numbers)."""

    what: str
    fields: Mapping[str, object]


Command = SendLeader | SendGroup | SendRest | KillProgram | CountUnsent | Exit | Note


def note(what: str, **fields: object) -> Note:
    """Return a Note with *fields*."""
    return Note(what, fields)
