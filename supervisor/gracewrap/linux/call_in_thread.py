"""System calls that do not come back while a disk hangs (NFS, FUSE, a frozen file system): made in
a thread, so that they hold nothing up.

There is no such thread but during a call.  It has every signal blocked, as we have, and only does
what it is given.
"""

from __future__ import annotations

import _thread
import posix
import time

from gracewrap.linux.signals import SIGCHLD

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any, TypeVar

    T = TypeVar("T")

EAGAIN = 11
NO_ANSWER = "no answer (a disk that hangs?)"
_ENDING = 0.05  # seconds that a thread may take to end after its call
_began: list[bool] = []  # whether there has ever been a thread


class Aside:
    """Makes one call at a time.

    Attributes:
        is_busy: Whether a call has not come back in its time.
    """

    def __init__(self) -> None:
        self.is_busy = self._is_late = False
        self._done = _thread.allocate_lock()
        self._done.acquire()
        self._value: Any = None
        self._error: BaseException | None = None

    def call(self, act: Callable[[], T], seconds: float) -> T:
        """Return what *act* returns within *seconds*.

        Later it goes on, and SIGCHLD says when it has come back.  The next call then waits for that
        one, and returns what it has returned, whatever it was to do itself.

        Raises:
            BlockingIOError: It has not come back.
            BaseException: As *act* does.
        """
        if not self.is_busy:
            try:
                _thread.start_new_thread(self._run, (act,))
            except RuntimeError:  # no process, or no memory, to be had
                return act()
            self.is_busy = True
            _began[:] = [True]
        if not self._done.acquire(timeout=max(seconds, 0)):
            self._is_late = True
            if not self._done.acquire(blocking=False):
                raise BlockingIOError(EAGAIN, NO_ANSWER)
        self.is_busy = self._is_late = False
        error, self._error = self._error, None
        if error is not None:
            raise error
        value: T = self._value
        return value

    def wait_until_idle(self, seconds: float) -> None:
        """Wait for a call that has not come back in its time."""
        if self.is_busy and self._done.acquire(timeout=max(seconds, 0)):
            self._done.release()

    def _run(self, act: Callable[[], object]) -> None:
        try:
            self._value = act()
        except BaseException as error:
            self._error = error
        self._done.release()
        if self._is_late:
            posix.kill(posix.getpid(), SIGCHLD)


def is_alone() -> bool:
    """Return whether no thread is left, once the last one has had the time to end."""
    until = time.monotonic() + _ENDING
    while _began and posix.stat("/proc/self/task").st_nlink > 3:
        if time.monotonic() > until:
            return False
        posix.sched_yield()
    return True
