"""Looks after what has been started until nothing of it is left, also when gracewrap itself fails:
no exception leaves this module."""

from __future__ import annotations

import time

from gracewrap.policy.run_phases import ShuttingDown
from gracewrap.record import TYPE_CHECKING
from gracewrap.report.runtime_events import Bug
from gracewrap.runtime import fallback
from gracewrap.runtime.loop import Loop

if TYPE_CHECKING:
    from gracewrap.config.settings import Settings
    from gracewrap.runtime.handover import Handover


def supervise(handover: Handover, settings: Settings) -> int:
    """Look after the child until nothing of it is left; return the exit status."""
    loop = None
    try:
        loop = Loop(handover, settings)
        return loop.run()
    except BaseException as error:
        return 126 if handover.exec_errno else last_resort(handover, settings, error, loop)


def last_resort(
    handover: Handover, settings: Settings, error: BaseException, loop: Loop | None = None
) -> int:
    """Log what has raised, and carry on without it."""
    known = handover.fallback_state(fallback.rules_of(settings))
    if loop is not None:
        known = fallback_state(loop)
        try:
            bug = Bug(f"{type(error).__name__}: {error}")
            loop.recorder.record(bug, time.monotonic())
            loop.ending.close(0)
        except Exception:
            pass  # logging must not keep us from the child
    if not known.leaders and not known.statuses:
        return 125  # nothing has been started
    return fallback.run(known, fallback.rules_of(settings))


def fallback_state(loop: Loop) -> fallback.FallbackState:
    """Return what the fallback has to know."""
    children = [program.child for program in loop.programs]
    return fallback.FallbackState(
        {pid: one.settings.stop_signal for pid, one in loop.programs.leaders.items()},
        tuple(child.status for child in children if child.status is not None),
        loop.system.kill_at if isinstance(loop.system, ShuttingDown) else None,
        any(child.history.sent for child in children),
        loop.in_hand,
        loop.programs.output_sources(),
    )
