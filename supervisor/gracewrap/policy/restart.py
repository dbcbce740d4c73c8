"""Several programs: when each is started, and what its end is a reason for.  Pure.

Loaded only where there is more to decide than for one command, whose end is the end of all.
"""

from __future__ import annotations

from gracewrap.policy.model import ProgramPolicy
from gracewrap.record import Record, replace

SHUTDOWN, RESTART, IGNORE = "shutdown", "restart", "ignore"


class ProgramRecord(Record):
    """What has become of a program so far."""

    ran: bool = False  # its leader has been alive, at some time
    ready: bool = False  # the one that is alive is
    since: float = 0.0  # when it was started last
    ran_before: bool = False  # as *ran* was before that
    in_a_row: int = 0  # so often it was started again without having been stable
    stopped: bool = False  # a stop of it was asked for, and no new start
    unready_since: float = 0.0  # when it was found to be ready no more; 0: not yet
    unhealthy_since: float = 0.0  # its live check fails; 0: it does not
    unhealthy_why: str = ""
    # "ready" or "live": it is ended because it was not ready in time, or failed its live check; it
    # has failed whatever its status is
    failed: str = ""


def started(past: ProgramRecord, rules: ProgramPolicy, at: float) -> ProgramRecord:
    """Return the past of a program that has just been spawned."""
    return ProgramRecord(True, not rules.ready, at, past.ran, past.in_a_row, past.stopped)


def ended(past: ProgramRecord, rules: ProgramPolicy, at: float) -> ProgramRecord:
    """Return the past of a program that has just ended; a stable time makes up for all the starts
    before it."""
    stable = at - past.since >= rules.back_off.stable and past.failed != "ready"
    return replace(past, ready=False, in_a_row=0 if stable else past.in_a_row)


def never_ran(past: ProgramRecord) -> ProgramRecord:
    """Return the past of a program that was taken to be started, and could not become its
    command."""
    return replace(past, ran=past.ran_before)


def verdict(rules: ProgramPolicy, past: ProgramRecord, status: int) -> str:
    """Return what follows from a program's end: SHUTDOWN, RESTART or IGNORE.

    What has failed its live check is restarted: on_unhealthy says so, or it is stopped with all.
    Else *restart* comes first; what on_exit or on_failure says counts when it does not restart the
    program, or not any more.
    """
    status = status or bool(past.failed)
    if rules.oneshot and not status:
        return IGNORE
    then = rules.on_failure if status else rules.on_exit
    again = (
        past.failed == "live"
        or rules.restart == "always"
        or (rules.restart == "on-failure" and status)
        or then == RESTART
    )
    if again and (rules.max_restarts is None or past.in_a_row < rules.max_restarts):
        return RESTART
    return SHUTDOWN if then == RESTART else then


def delay(rules: ProgramPolicy, in_a_row: int, chance: float) -> float:
    """Return the seconds until a program is started again that was so *in_a_row* times before;
    *chance* is from [0, 1)."""
    back_off = rules.back_off
    # An exponent beyond this is beyond any cap, and beyond what a float holds.
    wait = min(back_off.cap, back_off.first * back_off.factor ** min(in_a_row, 64))
    return wait * (1.0 - back_off.jitter * chance)


def chance(seed: int, program: int, time: int) -> float:
    """Return a number from [0, 1) that looks like chance and is the same for the same arguments.

    Source: the finaliser of splitmix64 (Steele, Lea and Flood, "Fast splittable pseudorandom number
    generators", 2014).
    """
    mixed = (
        seed * 0x9E3779B97F4A7C15 + program * 0xD1B54A32D192ED03 + time * 0x8CB92BA72F3D8DD7
    ) % 2**64
    mixed = (mixed ^ mixed >> 30) * 0xBF58476D1CE4E5B9 % 2**64
    mixed = (mixed ^ mixed >> 27) * 0x94D049BB133111EB % 2**64
    return (mixed ^ mixed >> 31) / 2**64
