"""The measurements, one function each.

Each alternates between the peers, so that other load on the machine affects all of them alike.
"""

from __future__ import annotations

import os
import random
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field

from benchmarks.peers import (
    BARE,
    CATATONIT,
    DIRECT,
    DUMB_INIT,
    GRACEWRAP,
    ISOLATED,
    NATIVE,
    PRESET,
    RESTING,
    S6,
    SINGLE,
    SINGLE_RESTING,
    SUPERVISORD,
    TINI,
    Bench,
    Peer,
)
from benchmarks.process import NANO, Failed, Wrapped, deaths

MILLI, MICRO = 1e6, 1e3  # nanoseconds in one
MEBI = 1 << 20
WARM_UP = 2  # rounds that do not count: they read files from the disk
SIGNALS = 200  # forwarded by one wrapper before a new one is started
ORPHANS = 10_000
IDLE_SECONDS = 5.0
COPIES = 5  # wrappers of one kind that run at the same time
EARLY = 0.03  # seconds after the exec in which an early SIGTERM comes
EARLY_PATIENCE = 3.0  # seconds after which it counts as lost
SPREAD = 0.03  # seconds between their stop requests, so that their deadlines differ
PROGRESS_SECONDS = 5.0  # between two lines, if stderr is not a terminal

FOREIGN = (TINI, DUMB_INIT, CATATONIT)
OURS = (GRACEWRAP, NATIVE, RESTING, PRESET, SINGLE, SINGLE_RESTING, ISOLATED)
FAST = (*OURS, *FOREIGN)  # who runs one command, and ends with it
SLOW = (S6, SUPERVISORD)


@dataclass
class Samples:
    """The samples of some series (rows of the table) by peer, with notes on missing or odd ones."""

    unit: str
    notes: dict[str, str] = field(default_factory=dict)
    series: dict[str, dict[str, list[float]]] = field(default_factory=dict)

    def add(self, series: str, peer: str, value: float) -> None:
        """Add one sample."""
        self.series.setdefault(series, {}).setdefault(peer, []).append(value)


@dataclass(frozen=True)
class Metric:
    """A measurement: its number of rounds, its peers, and the function that takes the samples."""

    name: str
    rounds: int
    peers: tuple[str, ...]
    take: Callable[[Bench, Sequence[Peer], int], Samples]


class Progress:
    """Shows progress on stderr: on a terminal in one line, else in a line every few seconds."""

    def __init__(self, what: str, total: int) -> None:
        self.what, self.total, self.shown_at = what, total, 0.0

    def at(self, n: int) -> None:
        """Show that round *n* begins."""
        now = time.monotonic()
        if now - self.shown_at > (0.1 if sys.stderr.isatty() else PROGRESS_SECONDS):
            self.shown_at = now
            begin, end = ("\r\033[K", "") if sys.stderr.isatty() else ("", "\n")
            print(
                f"{begin}{self.what}: {max(n, 0) + 1} of {self.total}",
                end=end,
                file=sys.stderr,
                flush=True,
            )

    def done(self) -> None:
        """Clear the line after the last round."""
        if sys.stderr.isatty():
            print("\r\033[K", end="", file=sys.stderr, flush=True)


def count(rounds: int, what: str, warm_up: int = WARM_UP) -> Iterator[int]:
    """Yield the numbers of the rounds, and show progress; those below 0 are warm-up rounds."""
    progress = Progress(what, rounds)
    for n in range(-warm_up, rounds):
        progress.at(n)
        yield n
    progress.done()


def rotated(peers: Sequence[Peer], n: int) -> list[Peer]:
    """Return the peers, starting with another one in each round."""
    first = n % len(peers) if peers else 0
    return [*peers[first:], *peers[:first]]


def size(bench: Bench, peers: Sequence[Peer], rounds: int) -> Samples:
    """Size of the file that is the wrapper."""
    del rounds  # it has one
    samples = Samples("MiB")
    for peer in peers:
        file = shutil.which(peer.wrap([bench.child])[0])
        samples.add("size", peer.name, os.stat(str(file)).st_size / MEBI)
    return samples


def start(bench: Bench, peers: Sequence[Peer], rounds: int) -> Samples:
    """Time from the spawn of the wrapper to the first instruction of the child."""
    samples = Samples(
        "ms", {SUPERVISORD: "starts its programs at the first tick of its loop, after one second"}
    )
    for n in count(rounds, "start"):
        for peer in rotated(peers, n):
            with Wrapped(bench, peer, "start") as wrapped:
                began = int(wrapped.read(1)[0])
                if peer.name not in SLOW:  # they stay, and are killed at the end of the block
                    wrapped.wait_exit()
            if n >= 0:
                samples.add("start", peer.name, (began - wrapped.started) / MILLI)
    return samples


def start_as_pid_1(bench: Bench, peers: Sequence[Peer], rounds: int) -> Samples:
    """Time from the exec of the wrapper as PID 1 to the first instruction of the child."""
    samples = Samples("ms")
    for n in count(rounds, "start as PID 1"):
        for peer in rotated(peers, n):
            with Wrapped(bench, peer, "start", as_pid_1=True) as wrapped:
                execed, began = map(int, wrapped.read(2))
                wrapped.wait_exit()
            if n >= 0:
                samples.add("start_pid1", peer.name, (began - execed) / MILLI)
    return samples


def memory(bench: Bench, peers: Sequence[Peer], rounds: int) -> Samples:
    """PSS and RSS at rest.

    One wrapper at a time: PSS divides a page by all processes that map it.
    """
    samples = Samples("MiB")
    for n in count(rounds, "memory"):
        for peer in rotated(peers, n):
            with Wrapped(bench, peer, "wait") as wrapped:
                pss, rss = wrapped.ready().memory()
            if n >= 0:
                samples.add("pss", peer.name, pss / 1024)
                samples.add("rss", peer.name, rss / 1024)
    return samples


def forward(bench: Bench, peers: Sequence[Peer], rounds: int) -> Samples:
    """Time from kill() on the wrapper to the child's return from sigwaitinfo().

    The first signal is a series of its own.
    """
    samples = Samples("µs", dict.fromkeys(SLOW, "do not forward SIGUSR1"))
    for n in count(rounds, "forward", warm_up=1):
        with ExitStack() as stack:
            running = [
                stack.enter_context(Wrapped(bench, peer, "wait")).ready()
                for peer in rotated(peers, n)
            ]
            for i in range(SIGNALS):
                for wrapped in running:
                    sent = wrapped.signal(signal.SIGUSR1)
                    took = int(wrapped.read(1)[0]) - sent
                    if n >= 0:
                        samples.add(
                            "forward" if i else "forward_first", wrapped.peer.name, took / MICRO
                        )
    return samples


def plain_exit(bench: Bench, peers: Sequence[Peer], rounds: int) -> Samples:
    """Time from the child's voluntary exit to the wrapper's exit."""
    return _exits(bench, peers, rounds, "exit", as_pid_1=False)


def exit_as_pid_1(bench: Bench, peers: Sequence[Peer], rounds: int) -> Samples:
    """The same for a wrapper that is PID 1, with which its namespace ends: gracewrap first makes
    sure that no connection has unsent bytes."""
    return _exits(bench, peers, rounds, "exit_pid1", as_pid_1=True)


def _exits(
    bench: Bench, peers: Sequence[Peer], rounds: int, series: str, as_pid_1: bool
) -> Samples:
    samples = Samples("µs", dict.fromkeys(SLOW, "stay when their program exits"))
    for n in count(rounds, "exit as PID 1" if as_pid_1 else "exit"):
        for peer in rotated(peers, n):
            with Wrapped(bench, peer, "wait", as_pid_1=as_pid_1) as wrapped:
                wrapped.ready().end_child()
                gone = wrapped.wait_exit()
                if n >= 0:
                    samples.add(series, peer.name, (gone - wrapped.child_exited()) / MICRO)
    return samples


def stop(bench: Bench, peers: Sequence[Peer], rounds: int) -> Samples:
    """Time from SIGTERM on the wrapper to its exit, and the parts of it before the child's handler
    runs and after the child's exit.

    The child exits at once.
    """
    samples = Samples("µs", {SUPERVISORD: "notices both at the ticks of its loop"})
    for n in count(rounds, "stop"):
        for peer in rotated(peers, n):
            with Wrapped(bench, peer, "wait") as wrapped:
                asked = wrapped.ready().signal(signal.SIGTERM)
                gone = wrapped.wait_exit()
                if n >= 0:
                    handled = wrapped.child_exited()
                    samples.add("stop", peer.name, (gone - asked) / MICRO)
                    samples.add("stop_handler", peer.name, (handled - asked) / MICRO)
                    samples.add("stop_exit", peer.name, (gone - handled) / MICRO)
    return samples


def stop_while_busy(bench: Bench, peers: Sequence[Peer], rounds: int) -> Samples:
    """Time from SIGTERM on the wrapper to the child's handler while as many other processes as
    there are CPUs compute."""
    samples = Samples("µs")
    hog = [sys.executable, "-I", "-S", "-c", "while True: pass"]
    hogs = [subprocess.Popen(hog) for _ in range(os.cpu_count() or 1)]
    try:
        for n in count(rounds, "stop while busy"):
            for peer in rotated(peers, n):
                with Wrapped(bench, peer, "wait") as wrapped:
                    asked = wrapped.ready().signal(signal.SIGTERM)
                    wrapped.wait_exit()
                    if n >= 0:
                        took = wrapped.child_exited() - asked
                        samples.add("busy_handler", peer.name, took / MICRO)
    finally:
        for one in hogs:
            one.kill()
            one.wait()
    return samples


def reaping(bench: Bench, peers: Sequence[Peer], rounds: int) -> Samples:
    """CPU time of the wrapper, as PID 1 of a PID namespace, for each orphan that it reaps.

    Raises:
        Failed: If an orphan was not reaped, or no namespace can be created.
    """
    samples = Samples(
        "µs",
        {SUPERVISORD: "reaps at most 100 orphans a tick of its loop, too slow to be measured here"},
    )
    for n in count(rounds, "reap", warm_up=0):
        for peer in rotated(peers, n):
            with Wrapped(bench, peer, "orphans", str(ORPHANS), as_pid_1=True) as wrapped:
                _, cpu, left = map(int, wrapped.read(3))
            if left:
                raise Failed(f"{peer.name}: {left} of {ORPHANS} orphans were not reaped")
            samples.add("reap", peer.name, cpu / MICRO / ORPHANS)
    return samples


def sigkill(bench: Bench, peers: Sequence[Peer], rounds: int) -> Samples:
    """How late a child that ignores SIGTERM dies, counted from its deadline."""
    samples = Samples("ms", dict.fromkeys((TINI, DUMB_INIT, CATATONIT), "never send SIGKILL"))
    for n in count(rounds, "sigkill", warm_up=0):
        with ExitStack() as stack:
            running = [
                stack.enter_context(Wrapped(bench, peer, "stubborn"))
                for peer in rotated(peers, n)
                for _ in range(COPIES)
            ]
            due = {}
            for wrapped in running:
                wrapped.ready()
            for wrapped in running:
                assert wrapped.child_pid is not None and wrapped.peer.kills_after is not None
                due[wrapped.child_pid] = wrapped.signal(signal.SIGTERM) + int(
                    wrapped.peer.kills_after * NANO
                )
                time.sleep(SPREAD)
            died = deaths(list(due), max(due.values()) + 5 * NANO)
            for wrapped in running:
                if wrapped.child_pid not in died:
                    raise Failed(f"{wrapped.peer.name}: the child was alive 5 s after its deadline")
                samples.add(
                    "sigkill",
                    wrapped.peer.name,
                    (died[wrapped.child_pid] - due[wrapped.child_pid]) / MILLI,
                )
    return samples


def wakeups(bench: Bench, peers: Sequence[Peer], rounds: int) -> Samples:
    """Context switches of the wrapper per second at rest; all peers run at the same time."""
    samples = Samples("/s")
    for _ in count(rounds, "wakeups", warm_up=0):
        with ExitStack() as stack:
            running = [stack.enter_context(Wrapped(bench, peer, "wait")).ready() for peer in peers]
            before = [wrapped.context_switches() for wrapped in running]
            time.sleep(IDLE_SECONDS)
            for wrapped, was in zip(running, before, strict=True):
                samples.add(
                    "wakeups", wrapped.peer.name, (wrapped.context_switches() - was) / IDLE_SECONDS
                )
    return samples


def early(bench: Bench, peers: Sequence[Peer], rounds: int) -> Samples:
    """Whether a SIGTERM is lost that comes while the wrapper, as PID 1, starts: in percent, each
    sample 0 or 100."""
    samples = Samples("%")
    moments = random.Random(1)
    for n in count(rounds, "early", warm_up=0):
        moment = moments.uniform(0, EARLY)
        for peer in rotated(peers, n):
            with Wrapped(bench, peer, "wait", as_pid_1=True) as wrapped:
                execed = int(wrapped.read(1)[0])
                time.sleep(max(0.0, moment - (time.monotonic_ns() - execed) / NANO))
                wrapped.signal_init(signal.SIGTERM)
                samples.add("early", peer.name, 0.0 if wrapped.exits_in(EARLY_PATIENCE) else 100.0)
    return samples


METRICS = (
    Metric("size", 1, (NATIVE, SINGLE, *FOREIGN), size),
    Metric("start", 100, (*FAST, BARE, DIRECT), start),
    Metric("pid1", 50, (*FAST, BARE, DIRECT), start_as_pid_1),
    Metric("start-slow", 5, SLOW, start),
    Metric("memory", 5, (*FAST, *SLOW), memory),
    Metric("forward", 10, FAST, forward),
    Metric("exit", 50, FAST, plain_exit),
    Metric("exit-pid1", 50, FAST, exit_as_pid_1),
    Metric("stop", 50, FAST, stop),
    Metric("busy", 30, FAST, stop_while_busy),
    Metric("stop-slow", 5, SLOW, stop),
    Metric("reap", 5, FAST, reaping),
    Metric("sigkill", 8, (NATIVE, ISOLATED, SUPERVISORD), sigkill),
    Metric("wakeups", 2, (*FAST, *SLOW), wakeups),
    Metric("early", 40, FAST, early),
)
