"""Runs one wrapper with its child, and ends both in any case.  Every wait is bounded."""

from __future__ import annotations

import os
import select
import signal
import time
from pathlib import Path
from types import TracebackType
from typing import Self

from benchmarks.peers import Bench, Peer

PATIENCE = 30.0  # seconds that only a broken program reaches
SETTLE = 0.05  # seconds for which all are idle, whenever they came to rest
CACHE = 16 << 20  # bytes that leave nothing else in a CPU's own caches
NANO = 1_000_000_000
# As in a Debian container.  PYTHON* variables would change the start.
ENVIRONMENT = {"PATH": "/usr/local/bin:/usr/bin:/bin"}

_serial = 0


class Failed(Exception):
    """A peer did not do what is measured."""


class Wrapped:
    """A peer that wraps the child; both end with the `with` block.

    Times are nanoseconds of CLOCK_MONOTONIC.  With *as_pid_1* the wrapper is the init of a PID
    namespace, and the first word in the output is the time right before its exec.
    """

    def __init__(self, bench: Bench, peer: Peer, *mode: str, as_pid_1: bool = False) -> None:
        global _serial  # noqa: PLW0603 - numbers the files
        _serial += 1
        self.peer, self.as_pid_1 = peer, as_pid_1
        self.out = bench.folder / f"out{_serial}"
        self.child_pid: int | None = None
        self.status: int | None = None
        os.mkfifo(self.out)
        # O_RDWR: never at end of file.
        self._fifo = os.open(self.out, os.O_RDWR | os.O_NONBLOCK | os.O_CLOEXEC)
        argv = peer.wrap([bench.child, mode[0], str(self.out), *mode[1:]])
        if as_pid_1:
            argv = [*unshare(), bench.child, "launch", str(self.out), *argv]
        null = [(os.POSIX_SPAWN_OPEN, fd, os.devnull, os.O_RDWR, 0) for fd in (0, 1, 2)]
        self.started = time.monotonic_ns()
        self.pid = os.posix_spawnp(
            argv[0], argv, ENVIRONMENT, file_actions=null, setsid=True, setsigmask=[]
        )
        self._pidfd = os.pidfd_open(self.pid)
        self.wrapper, self._wrapper_fd = self.pid, self._pidfd  # not PID 1, until it is ready()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        value: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if self.status is None:
            _kill(self.pid)  # the child dies with it
            self.wait_exit()
        for fd in {self._fifo, self._pidfd, self._wrapper_fd}:
            os.close(fd)
        self.out.unlink()
        self._exit_file.unlink(missing_ok=True)

    @property
    def _exit_file(self) -> Path:
        return self.out.with_name(self.out.name + ".exit")

    def read(self, count: int) -> list[str]:
        """Return the next *count* words that the child writes.

        Raises:
            Failed: If they do not arrive.
        """
        words: list[str] = []
        while len(words) < count:
            ready = _readable(self._fifo, self._pidfd)
            if self._fifo not in ready:
                what = "exited without output" if ready else f"no output for {PATIENCE:g} s"
                raise Failed(f"{self.peer.name}: {what} of the child")
            words += os.read(self._fifo, 4096).decode().split()
        return words

    def ready(self) -> Self:
        """Wait until the child runs and the wrapper is idle."""
        self.child_pid = int(self.read(3 if self.as_pid_1 else 2)[-1])
        if self.as_pid_1:
            self.wrapper = _only_child(self.pid)
            self._wrapper_fd = os.pidfd_open(self.wrapper)
            self.child_pid = _only_child(self.wrapper)  # it knows another number
        self._wait_until_at_rest()
        return self

    def _wait_until_at_rest(self) -> None:
        """Wait until the wrapper sleeps in its loop, after everything that it imports late."""
        end = time.monotonic() + PATIENCE
        while time.monotonic() < end:
            try:
                proc = Path(f"/proc/{self.wrapper}")
                words = (proc / "cmdline").read_text()
                if (
                    self.peer.rests_as in words
                    and self.peer.rests_in in (proc / "wchan").read_text()
                ):
                    _cool_caches()
                    time.sleep(SETTLE)
                    return
            except OSError:
                break
            time.sleep(0.002)
        raise Failed(
            f"{self.peer.name}: not at rest in {self.peer.rests_in} (is /proc/PID/wchan readable?)"
        )

    def signal(self, signum: int) -> int:
        """Send the wrapper a signal; return the time right before."""
        at = time.monotonic_ns()
        os.kill(self.pid, signum)
        return at

    def signal_init(self, signum: int) -> None:
        """Send a signal to the wrapper that is PID 1 of the namespace."""
        os.kill(_only_child(self.pid), signum)

    def exits_in(self, seconds: float) -> bool:
        """Return whether the wrapper exits within so many seconds."""
        poll = select.poll()
        poll.register(self._pidfd, select.POLLIN)
        return bool(poll.poll(seconds * 1000))

    def end_child(self) -> None:
        """Make the child exit without involving the wrapper."""
        assert self.child_pid is not None
        os.kill(self.child_pid, signal.SIGUSR2)

    def child_exited(self) -> int:
        """Return the time right before the child's exit, which the child has recorded."""
        return int(self._exit_file.read_text())

    def wait_exit(self) -> int:
        """Wait for the wrapper's exit and return its time.

        Raises:
            Failed: If it does not exit.
        """
        gone = _readable(self._wrapper_fd)
        at = time.monotonic_ns()
        if not gone:
            _kill(self.pid)
        self.status = os.waitpid(self.pid, 0)[1]
        if not gone:
            raise Failed(f"{self.peer.name}: did not exit within {PATIENCE:g} s")
        return at

    def context_switches(self) -> int:
        """Return the number of context switches of the wrapper, voluntary and not."""
        path = f"/proc/{self.pid}/status"
        return _field(path, "voluntary_ctxt_switches") + _field(path, "nonvoluntary_ctxt_switches")

    def memory(self) -> tuple[int, int]:
        """Return PSS and RSS in KiB."""
        path = f"/proc/{self.pid}/smaps_rollup"
        return _field(path, "Pss"), _field(path, "Rss")


def _only_child(pid: int) -> int:
    return int(Path(f"/proc/{pid}/task/{pid}/children").read_text().split()[0])


def _cool_caches() -> None:
    """Leave nothing of the wrapper, its child and the kernel in the caches of any CPU, as at a real
    stop: else whoever runs a Python before it rests would be the only one to find them cold."""
    allowed = os.sched_getaffinity(0)
    for cpu in allowed:
        os.sched_setaffinity(0, {cpu})
        bytearray(b"\1") * CACHE  # written to
    os.sched_setaffinity(0, allowed)


def _field(path: str, name: str) -> int:
    for line in Path(path).read_text().splitlines():
        if line.startswith(f"{name}:"):
            return int(line.split()[1])
    raise Failed(f"{path} has no {name}")


def _readable(*fds: int) -> list[int]:
    """Wait until one of *fds* is readable or at its end; return all that are, or none in time."""
    poll = select.poll()
    for fd in fds:
        poll.register(fd, select.POLLIN)
    return [fd for fd, _ in poll.poll(PATIENCE * 1000)]


def unshare() -> list[str]:
    """Return the command that runs another one as PID 1 of a PID namespace, and kills it when it is
    killed itself."""
    user = [] if os.geteuid() == 0 else ["--map-root-user"]
    return ["unshare", *user, "--pid", "--fork", "--kill-child", "--mount-proc"]


def _kill(pid: int) -> None:
    try:
        os.kill(pid, signal.SIGKILL)
    except ProcessLookupError:
        pass


def deaths(pids: list[int], until: int) -> dict[int, int]:
    """Return the time of death of each process that dies before *until*."""
    poll, of_fd, died = select.poll(), {os.pidfd_open(pid): pid for pid in pids}, dict[int, int]()
    for fd in of_fd:
        poll.register(fd, select.POLLIN)
    while len(died) < len(pids) and (left := until - time.monotonic_ns()) > 0:
        ready = poll.poll(left // 1_000_000 + 1)
        at = time.monotonic_ns()
        for fd, _ in ready:
            died[of_fd[fd]] = at
            poll.unregister(fd)
    for fd in of_fd:
        os.close(fd)
    return died
