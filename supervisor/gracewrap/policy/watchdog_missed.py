"""A missed watchdog: SIGABRT and, if need be, SIGKILL for the program; or the stop of all.  Pure.

Loaded when a program first misses its watchdog.

Source: WatchdogSec= and WatchdogSignal= of systemd.service(5) and systemd.kill(5).
"""

from __future__ import annotations

from gracewrap.policy import log_events, restart
from gracewrap.policy.advance import put
from gracewrap.policy.model import (
    SIGABRT,
    SIGCONT,
    Command,
    Policy,
    RestartWatchdog,
    SendLeader,
    WatchdogMissed,
)
from gracewrap.policy.program_phases import Aborting, PreStop, Running
from gracewrap.policy.program_stop import end_stage
from gracewrap.policy.run_phases import Up, is_waiting, untouched

ABORT_TIME = 5.0  # seconds from SIGABRT to SIGKILL for a program without a stop_timeout


def say(event: WatchdogMissed, policy: Policy) -> tuple[Command, ...]:
    """Return what is logged of a missed watchdog; one that is ignored goes on counting."""
    said = log_events.Watchdog(event.program, event.after)
    ignored = policy.programs[event.program].on_watchdog == "ignore"
    return (said, RestartWatchdog(event.program)) if ignored else (said,)


def ends_all(system: Up, program: int, policy: Policy, at: float) -> bool:
    """Return whether a missed watchdog is a reason to stop all: if a failure would be one.

    Then all are stopped gracefully, this program too, instead of aborting it.
    """
    if not _counts(system, program, policy):
        return False
    if not system.pasts:
        return True
    rules = policy.programs[program]
    past = restart.ended(system.pasts[program], rules, at)
    return restart.verdict(rules, past, 128 + SIGABRT) == restart.SHUTDOWN


def abort(system: Up, done: list[Command], program: int, policy: Policy, at: float) -> Up:
    """Send a program SIGABRT, so that it fails; what follows from that is decided at its exit."""
    if not _counts(system, program, policy):
        return system
    phase, limit = system.programs[program], policy.programs[program].stop_timeout
    seconds = ABORT_TIME if limit is None else limit
    ended = end_stage(phase, program) if isinstance(phase, PreStop) else ()
    said = log_events.WatchdogAbort(program, SIGABRT, seconds)
    signals = SendLeader(program, SIGABRT), SendLeader(program, SIGCONT)
    return put(system, done, program, (Aborting(at + seconds), (*ended, said, *signals)))


def _counts(system: Up, program: int, policy: Policy) -> bool:
    """Return whether anything follows: what is being stopped, or is to be when it is its turn, owes
    no more signs of life."""
    phase = system.programs[program]
    is_there = isinstance(phase, Running | PreStop) and untouched(phase)
    is_up = is_there and not is_waiting(system, program)
    return is_up and policy.programs[program].on_watchdog != "ignore"
