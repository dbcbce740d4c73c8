"""The last resort: forward, reap, SIGKILL at the deadline.  Runs when the policy, or anything else after the spawn, has raised.

Loaded before the spawn, so that no missing file or descriptor can keep it away; uses nothing but the posix package.
"""

from __future__ import annotations

import _signal
import time

from gracewrap.posix import reap, tree
from gracewrap.posix.signals import BLOCKABLE, SIGCHLD, SIGCONT
from gracewrap.record import TYPE_CHECKING, Record

if TYPE_CHECKING:
    from gracewrap.config.table import Settings

AFTER_KILL = 1.0  # seconds to wait for what cannot be killed


class Remains(Record):
    """What is known when the real loop has failed."""

    pid: int
    status: int | None = None  # the leader's exit status once it is reaped
    kill_at: float | None = None  # when a stop has begun
    stop_signal_sent: bool = False
    in_hand: int = 0  # the signal that was being acted on when it failed, or 0


def carry_on(known: Remains, settings: Settings) -> int:
    """Look after the child to its end, by the simplest rules there are, and return the exit status.

    Should even this raise, everything is killed: staying without control would be worse.
    """
    try:
        return _loop(known, settings)
    except BaseException:
        tree.kill_all(None, None, True)
        return 137


def _loop(known: Remains, settings: Settings) -> int:
    status, kill_at, told, killed = known.status, known.kill_at, known.stop_signal_sent, False
    signum = known.in_hand
    while True:
        found, left = reap.reap(stops=False)
        status = next((one.status for one in found if one.pid == known.pid), status)
        if not left:
            return 137 if status is None else status
        now = time.monotonic()
        if status is not None and kill_at is None:
            kill_at = now + settings.shutdown_timeout
            for member in tree.descendants():
                tree.signal_member(member, settings.stop_signal)
        if kill_at is not None and now >= kill_at:
            if killed:
                return 137 if status is None else status
            tree.kill_all(known.pid if status is None else None, None, False)
            killed, kill_at = True, now + AFTER_KILL
        if signum not in (0, SIGCHLD) and status is None:
            if signum not in settings.stop_on:
                tree.signal_leader(known.pid, settings.signal_map.get(signum, signum))
            elif not told:
                told, kill_at = True, kill_at or now + settings.shutdown_timeout
                tree.signal_leader(known.pid, settings.stop_signal)
                tree.signal_leader(known.pid, SIGCONT)
        got = _signal.sigtimedwait(BLOCKABLE, 3600.0 if kill_at is None else max(0.0, kill_at - time.monotonic()))
        signum = got.si_signo if got is not None else 0
