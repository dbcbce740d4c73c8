"""The last resort: forward, reap, SIGKILL at the deadline.  Runs when the policy, or anything else after the spawn, has raised.

The first thing that is loaded after the spawn, before what could raise; uses nothing but the posix package.
"""

from __future__ import annotations

import _signal
import posix
import time

from gracewrap.posix import reap, tree
from gracewrap.posix.signals import BLOCKABLE, SIGCHLD, SIGCONT, is_our_own
from gracewrap.record import TYPE_CHECKING, Record

if TYPE_CHECKING:
    from collections.abc import Mapping

    from gracewrap.config.table import Settings

AFTER_KILL = 1.0  # seconds to wait for what cannot be killed


class Remains(Record):
    """What is known when the real loop has failed."""

    pid: int
    status: int | None = None  # the leader's exit status once it is reaped
    kill_at: float | None = None  # when a stop has begun
    stop_signal_sent: bool = False
    in_hand: int = 0  # the signal that was being acted on when it failed, or 0


class Rules(Record):
    """The settings that matter here, with the defaults of the table."""

    shutdown_timeout: float = 25.0
    stop_on: frozenset[int] = frozenset((15, 2))
    stop_signal: int = 15
    signal_map: Mapping[int, int] = {}


def rules_of(settings: Settings | None) -> Rules:
    """Return what *settings* say, or the defaults if not even they could be loaded."""
    if settings is None:
        return Rules()
    return Rules(settings.shutdown_timeout, settings.stop_on, settings.stop_signal, settings.signal_map)


def carry_on(known: Remains, rules: Rules) -> int:
    """Look after the child to its end, by the simplest rules there are, and return the exit status.

    Should even this raise, everything is killed: staying without control would be worse.
    """
    try:
        return _loop(known, rules)
    except BaseException:
        tree.kill_all(None, None, posix.getpid() == 1)  # kill(-1) from any other process would reach the whole machine
        return 137


def _loop(known: Remains, rules: Rules) -> int:
    status, kill_at, told, killed = known.status, known.kill_at, known.stop_signal_sent, False
    signum = known.in_hand
    if kill_at is not None and not told and status is None:  # it was still being held back
        told = True
        tree.signal_leader(known.pid, rules.stop_signal)
        tree.signal_leader(known.pid, SIGCONT)
    while True:
        found, left, _ = reap.reap({known.pid})
        status = next((one.status for one in found), status)
        if not left:
            return 137 if status is None else status
        now = time.monotonic()
        if status is not None and kill_at is None:
            kill_at = now + rules.shutdown_timeout
            for member in tree.descendants():
                tree.signal_member(member, rules.stop_signal)
        if kill_at is not None and now >= kill_at:
            if killed:
                return 137 if status is None else status
            tree.kill_all(known.pid if status is None else None, None, False)
            killed, kill_at = True, now + AFTER_KILL
        if signum not in (0, SIGCHLD) and status is None:
            if signum not in rules.stop_on:
                tree.signal_leader(known.pid, rules.signal_map.get(signum, signum))
            elif not told:
                told, kill_at = True, kill_at or now + rules.shutdown_timeout
                tree.signal_leader(known.pid, rules.stop_signal)
                tree.signal_leader(known.pid, SIGCONT)
        got = _signal.sigtimedwait(BLOCKABLE, 3600.0 if kill_at is None else max(0.0, kill_at - time.monotonic()))
        signum = got.si_signo if got is not None and not is_our_own(got) else 0
