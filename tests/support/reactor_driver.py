"""Runs a reactor in the test's own process, without the loop of the runtime."""

from __future__ import annotations

import contextlib
import select
import signal
import time
from collections.abc import Callable, Iterator

from gracewrap.linux.reactor import Reactor
from processes import BOUND


class Driver:
    """Runs a reactor until a condition holds.  SIGIO is blocked and fetched as the loop does."""

    def __init__(self) -> None:
        self.faults: list[BaseException] = []
        self.reactor = Reactor(self.faults.append)
        self.rounds = 0

    def until(
        self,
        true: Callable[[], object],
        bound: float = BOUND,
        meanwhile: Callable[[], object] | None = None,
    ) -> None:
        """Run until true() is true; *meanwhile* is called once a round."""
        end = time.monotonic() + bound
        while not true():
            now = time.monotonic()
            if now > end:
                raise TimeoutError(f"not in {bound} s; faults: {self.faults}")
            due = self.reactor.due(now)
            # Short: true() may depend on something outside the reactor.
            wait = 0.01 if due is None else max(0.0, min(due - now, 0.01))
            if signal.sigtimedwait({signal.SIGIO}, wait):
                self.reactor.notify_ready()
            if meanwhile:
                meanwhile()
            self.reactor.run(time.monotonic())
            self.rounds += 1


@contextlib.contextmanager
def driving() -> Iterator[Driver]:
    """Yield a driver; an exception within its reactor fails the test."""
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGIO})
    driver = Driver()
    try:
        yield driver
    finally:
        while signal.sigtimedwait({signal.SIGIO}, 0):
            pass
        signal.pthread_sigmask(signal.SIG_SETMASK, before)
    assert not driver.faults, driver.faults


def readable(fd: int, bound: float = BOUND) -> bool:
    """Wait until *fd* can be read."""
    return bool(select.select([fd], [], [], bound)[0])
