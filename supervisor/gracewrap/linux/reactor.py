"""What is under way besides the command: descriptors that are watched, times to call back at, long
work in short slices.

It never waits.  SIGIO wakes the loop's one wait when something can be read or written (fcntl(2):
F_SETOWN, O_ASYNC), and poll(2)
with no timeout then says what: so at rest nothing wakes, signals keep their siginfo, and no handler
of signals ever runs.
"""

from __future__ import annotations

import posix

from gracewrap.record import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

_F_GETFL, _F_SETFL, _F_SETOWN, _O_ASYNC = 3, 4, 8, 0o20000  # fcntl(2), asm-generic/fcntl.h
POLLIN, POLLOUT, POLLERR, POLLHUP = 1, 4, 8, 16

# How often to look at descriptors for which the kernel sends no SIGIO; only while there are such.
LOOK_EVERY = 0.02


class Timer:
    """A call that is to be made at a time (monotonic seconds)."""

    __slots__ = ("at", "call")

    def __init__(self, at: float, call: Callable[[], None]) -> None:
        self.at, self.call = at, call


class Reactor:
    """One for the whole of gracewrap.  Whatever raises in here is told to *fault* and forgotten, so
    that the rest goes on."""

    def __init__(self, fault: Callable[[BaseException], None]) -> None:
        self._fault = fault
        self._watched: dict[int, tuple[Callable[[], None], int]] = {}
        self._deaf: set[int] = set()  # of the watched ones, those without SIGIO
        self._timers: list[Timer] = []
        self._work: list[Iterator[None]] = []
        self.is_ready = False  # something can be read or written

    def watch(
        self, fd: int, call: Callable[[], None], read: bool = True, write: bool = False
    ) -> None:
        """Call *call* whenever *fd* can be read, or written; watching it again changes what for.

        It is made non-blocking.  *call* is called again and again as long as it can be, so it must
        read what there is, or forget() it.  Errors and a hang-up count as both.
        """
        if fd not in self._watched:
            self._arm(fd)
        self._watched[fd] = call, (POLLIN if read else 0) | (POLLOUT if write else 0)
        self.is_ready = True  # what came before SIGIO was switched on

    def _arm(self, fd: int) -> None:
        import fcntl  # C, and only where there is something to watch

        flags = fcntl.fcntl(fd, _F_GETFL)
        fcntl.fcntl(fd, _F_SETFL, flags | posix.O_NONBLOCK)
        try:
            fcntl.fcntl(fd, _F_SETOWN, posix.getpid())
            fcntl.fcntl(fd, _F_SETFL, flags | posix.O_NONBLOCK | _O_ASYNC)
        except OSError:  # no SIGIO for this kind of file, or by this kernel
            self._deaf.add(fd)

    def unwatch(self, fd: int) -> None:
        """Watch *fd* no more; to be called before it is closed.  Nothing happens if it is not
        watched."""
        self._watched.pop(fd, None)
        self._deaf.discard(fd)

    def call_at(self, when: float, call: Callable[[], None]) -> Timer:
        """Make *call* once it is *when*."""
        timer = Timer(when, call)
        self._timers.append(timer)
        return timer

    def cancel(self, timer: Timer | None) -> None:
        """Make that call no more; it may have been made already."""
        if timer in self._timers:
            self._timers.remove(timer)

    def shift(self, seconds: float) -> None:
        """Make all timers that are not due at once later by *seconds*."""
        for timer in self._timers:
            timer.at += seconds if timer.at else 0.0

    def run_in_slices(self, steps: Iterator[None]) -> None:
        """Advance *steps* again and again, with a look at the signals between any two: each should
        take 2 ms at most."""
        self._work.append(steps)

    def notify_ready(self) -> None:
        """SIGIO has come: something can be read or written."""
        self.is_ready = True

    @property
    def busy(self) -> bool:
        """Whether run() will have something to do without SIGIO: at once, or some time."""
        return bool(self.is_ready or self._timers or self._work or self._deaf)

    def due(self, at: float) -> float | None:
        """Return when run() has something to do (at once: *at*), or None: not before SIGIO."""
        if self.is_ready or self._work:
            return at
        times = [timer.at for timer in self._timers]
        if self._deaf:
            times.append(at + LOOK_EVERY)
        return min(times, default=None)

    def run(self, at: float) -> None:
        """Do what is due: what can be read or written, then timers (which that may have made
        needless), then slices of work."""
        if (self.is_ready or self._deaf) and not self._safely(self._look):
            self.call_at(
                at + LOOK_EVERY, self.notify_ready
            )  # no memory, no descriptor for the import: there may be some soon
        for timer in sorted(
            (timer for timer in self._timers if timer.at <= at), key=lambda timer: timer.at
        ):
            if timer in self._timers:  # another one may have cancelled it
                self._timers.remove(timer)
                self._safely(timer.call)
        for steps in list(self._work):
            if not self._advance(steps):
                self._work.remove(steps)

    def _look(self) -> None:
        """Call whoever waits for a descriptor that is ready; when none is, the next SIGIO will say
        so."""
        import select

        self.is_ready = False
        asking = select.poll()
        for fd, (_, mask) in self._watched.items():
            asking.register(fd, mask)
        ready = asking.poll(0)
        self.is_ready = bool(ready)
        for fd, _ in ready:
            if fd in self._watched and not self._safely(self._watched[fd][0]):
                self.unwatch(fd)

    def _safely(self, call: Callable[[], None]) -> bool:
        try:
            call()
        except Exception as error:
            self._fault(error)
            return False
        return True

    def _advance(self, steps: Iterator[None]) -> bool:
        try:
            next(steps)
        except StopIteration:
            return False
        except Exception as error:
            self._fault(error)
            return False
        return True
