"""What becomes of all that is timed when gracewrap was not running: paused by `docker pause`,
stopped by SIGSTOP, or on a machine that was suspended.  Pure.

Nobody is punished for the gap.  All times stand still while gracewrap does: the budget of a stop,
pauses before a restart, the limits of probes and hooks go on with what was left of them.  A
watchdog counts anew: the command has most likely been frozen too, and needs a moment to say so.

A machine so busy that gracewrap waits for a CPU is another thing: what is paused lives on after it,
but here nobody knows when it ends, and a stop has been promised to be over in time.  Its limits
hold.

The deadline of whoever asked for the stop may be over by then.  It has its own SIGKILL; one from
here would only cost the work that could still be done.

Loaded when that happens.
"""

from __future__ import annotations

from gracewrap.policy import log_events
from gracewrap.policy.model import Command, ExcuseWatchdog, Policy, ShiftTimers, TimeGap
from gracewrap.policy.run_phases import Ended, Step, System, Up, untouched
from gracewrap.record import TYPE_CHECKING, Record, replace

if TYPE_CHECKING:
    from typing import TypeVar

    _Any = TypeVar("_Any", bound=Record)

_TIMES = ("at", "since", "until")


def take(system: System, event: TimeGap, policy: Policy) -> Step:
    """Return the system with its times moved, and what to do about other timers."""
    if isinstance(system, Ended):
        return system, ()
    counting = (
        [i for i, phase in enumerate(system.programs) if untouched(phase)]
        if isinstance(system, Up)
        else []
    )
    if event.busy and (not isinstance(system, Up) or system.part is not None):
        return system, (log_events.CpuWait(event.seconds), *map(ExcuseWatchdog, counting))
    done: list[Command] = [log_events.TimeGap(event.seconds), ShiftTimers(event.seconds)]
    done += [ExcuseWatchdog(i) for i in counting]
    return later(system, event.seconds), tuple(done)


def is_time(name: str) -> bool:
    """Return whether a field of a record is a time, and not a number of seconds."""
    return name.rpartition("_")[2] in _TIMES


def later(record: _Any, seconds: float) -> _Any:
    """Return a record with all times in it, at any depth, moved by *seconds*; 0.0 says never."""
    changes: dict[str, object] = {}
    for name in record.__match_args__:
        value = getattr(record, name)
        if isinstance(value, Record):
            moved: object = later(value, seconds)
        elif isinstance(value, tuple) and any(isinstance(one, Record) for one in value):
            moved = tuple(later(one, seconds) for one in value)
        elif name == "kill_ats":
            moved = tuple(at + seconds for at in value)
        elif value and is_time(name):
            moved = value + seconds
        else:
            continue
        if moved != value:
            changes[name] = moved
    return replace(record, **changes) if changes else record
