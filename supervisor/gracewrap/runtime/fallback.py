"""The last resort: forward, reap, SIGKILL at the deadline.  Runs when the policy, or anything else
after the spawn, has raised.

The first thing that is loaded after the spawn, before what could raise; uses nothing but the posix
package.
"""

from __future__ import annotations

import posix
import time

from gracewrap.linux import process_tree, procfs, reaper, signal_and_kill
from gracewrap.linux.signals import SIGCHLD, SIGCONT, SIGKILL, fetch, is_our_own
from gracewrap.record import TYPE_CHECKING, Record

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from gracewrap.config.settings import Settings

COPY_EVERY = 0.05  # seconds
AFTER_KILL = 1.0  # seconds to wait for what cannot be killed


class FallbackState(Record):
    """What is known when the real loop has failed."""

    leaders: Mapping[int, int]  # of those that are not reaped, the pid and its stop signal
    statuses: tuple[int, ...] = ()  # the exit statuses of the others
    kill_at: float | None = None  # when a stop has begun
    stop_signal_sent: bool = False
    in_hand: int = 0  # the signal that was being acted on when it failed, or 0
    output: tuple[
        tuple[int, int], ...
    ] = ()  # pipes that the programs write to, and which of our descriptors that is meant for


class Rules(Record):
    """The settings that matter here, with the defaults of the table."""

    shutdown_timeout: float = 25.0
    stop_on: frozenset[int] = frozenset((15, 2))
    stop_signal: int = 15  # of what a leader has left behind
    signal_map: Mapping[int, int] = {}


def rules_of(settings: Settings | None) -> Rules:
    """Return what *settings* say, or the defaults if not even they could be loaded."""
    if settings is None:
        return Rules()
    return Rules(
        settings.shutdown_timeout, settings.stop_requests, settings.stop_signal, settings.signal_map
    )


def run(known: FallbackState, rules: Rules) -> int:
    """Look after the child to its end, by the simplest rules there are, and return the exit status.

    Should even this raise, everything is killed: staying without control would be worse.
    """
    try:
        procfs.release_memory()
        return _loop(known, rules)
    except BaseException:
        _kill_all(known.leaders)
        return 137


def _kill_all(leaders: Mapping[int, int]) -> None:
    """Kill everything, or at least the groups of the leaders where there is no memory to look for
    the rest."""
    try:
        # kill(-1) from any other process would reach the whole machine
        signal_and_kill.kill_all(None, posix.getpid() == 1)
    except BaseException:
        for pid in leaders:
            signal_and_kill.signal_group(pid, SIGKILL)


def _loop(known: FallbackState, rules: Rules) -> int:
    leaders, statuses = dict(known.leaders), list(known.statuses)
    kill_at, told, killed, signum = known.kill_at, known.stop_signal_sent, False, known.in_hand
    if kill_at is not None and not told:  # it was still being held back
        told = True
        _stop(leaders)
    while True:
        found, left, _ = reaper.reap(leaders)
        statuses += [one.status for one in found]
        ended = [leaders.pop(one.pid) for one in found]
        if not left:
            _copy(known.output)
            return _status(statuses)
        now = time.monotonic()
        if statuses and kill_at is None:  # the end of one is the end of all
            told, kill_at = True, now + rules.shutdown_timeout
            _stop(leaders)
            for member in process_tree.descendants() if not leaders else ():
                signal_and_kill.signal_member(member, ended[-1] if ended else rules.stop_signal)
        if kill_at is not None and now >= kill_at:
            if killed:
                return _status(statuses)
            for pid in leaders or (None,):
                signal_and_kill.kill_all(pid, False)
            killed, kill_at = True, now + AFTER_KILL
        if signum not in (0, SIGCHLD) and signum not in rules.stop_on:
            for pid in leaders:
                signal_and_kill.signal_leader(pid, rules.signal_map.get(signum, signum))
        elif signum in rules.stop_on and leaders and not told:
            told, kill_at = True, kill_at or now + rules.shutdown_timeout
            _stop(leaders)
        longest = COPY_EVERY if known.output else 3600.0
        got = fetch(longest if kill_at is None else min(longest, kill_at - time.monotonic()))
        _copy(known.output)
        signum = got.si_signo if got is not None and not is_our_own(got) else 0


def _copy(output: Sequence[tuple[int, int]]) -> None:
    """Pass on what the programs write, as it comes: whoever reads it may hold us up, but nobody
    else."""
    for reading, ours in output:
        try:
            while part := posix.read(reading, 1 << 16):
                posix.write(ours, part)
        except (OSError, MemoryError):
            pass  # EAGAIN: that was all; or nobody reads ours any more; or there is no memory


def _stop(leaders: Mapping[int, int]) -> None:
    for pid, signum in leaders.items():
        signal_and_kill.signal_leader(pid, signum)
        signal_and_kill.signal_leader(pid, SIGCONT)


def _status(statuses: Sequence[int]) -> int:
    """Return the first failure's status; 137 if nothing has been reaped."""
    return next((status for status in statuses if status), 0) if statuses else 137
