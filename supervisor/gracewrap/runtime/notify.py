"""What the command says of itself (sd_notify(3)): ready, stopping, status, more time, a sign of
life, its main pid."""

from __future__ import annotations

import time

from gracewrap.config.probe_specs import NotifyProbeSpec
from gracewrap.linux import sd_notify
from gracewrap.policy import model as m
from gracewrap.record import TYPE_CHECKING
from gracewrap.report.runtime_events import Said

if TYPE_CHECKING:
    from collections.abc import Callable

    from gracewrap.linux.reactor import Timer
    from gracewrap.runtime.prober import Prober

STATUS_EVERY = 1.0  # seconds between two log lines about a STATUS


class NotifyListener:
    """Reads NOTIFY_SOCKET and acts on it, as far as that is not for a probe."""

    def __init__(
        self,
        prober: Prober,
        fd: int,
        is_member: Callable[[int], bool],
        main: Callable[[int, int], None],
    ) -> None:
        """Listen.

        Args:
            errands: Of the same program.
            fd: The socket that it finds in NOTIFY_SOCKET.
            is_member: Returns whether a process is of the program.
            main: Takes pid and pidfd of what it says is its main process.
        """
        self._errands, self._is_member, self._main = prober, is_member, main
        self._settings, self._child = prober.settings, prober.child
        self._timer: Timer | None = None
        self._receiver = sd_notify.Receiver(
            prober.reactor, fd, self._child.pid, is_member, self._said
        )
        self.renew()

    def renew(self) -> None:
        """The program is about to be started: nothing has been said yet."""
        self.state = self._errands.notify_state()
        self.status = ""
        self._told_at, self._stopping = 0.0, False
        self.watchdog = self._settings.watchdog
        ready = self._settings.ready.probes if self._settings.ready else ()
        # As systemd counts: from READY=1 on, where there is to be one.
        self._waits = any(isinstance(probe, NotifyProbeSpec) for probe in ready)

    def begin(self) -> None:
        """The program has been started."""
        self._receiver.leader = self._child.pid
        if not self._waits:
            self._expect_life(self._child.started_at)

    def end(self) -> None:
        """It has ended: nobody has to give a sign of life any more."""
        # What it said last must not count for its next life: its exit is fetched first, for SIGCHLD
        # is a lower number than SIGIO.
        self._receiver.read()
        self._errands.reactor.cancel(self._timer)
        self._timer = None

    def _said(self, message: sd_notify.Message) -> None:
        """Act on one message."""
        at = time.monotonic()
        self.state.update(message)
        if message.ready or message.drained is not None:
            self._errands.look_again()
        if message.status is not None and message.status != self.status:
            self.status = message.status
            self._tell_status(at)
        if message.stopping and not self._stopping:
            self._stopping = True
            self._errands.tell(Said(self._child.index, "it is stopping"), at)
        if message.extend_timeout is not None:
            self._errands.post(m.TimeExtended(self._child.index, message.extend_timeout, at))
        if message.watchdog_timeout is not None:
            self.watchdog = message.watchdog_timeout
        if self._waits and message.ready:
            self._waits = False
            self._expect_life(at)
        if message.watchdog_trigger:
            self._missed(0.0)
        elif message.watchdog or message.watchdog_timeout is not None:
            self._expect_life(at)
        if message.main_pid is not None:
            self._name_main(message.main_pid)

    def _tell_status(self, at: float) -> None:
        """Log what it says now, but not more often than people read."""
        if self.status and at >= self._told_at + STATUS_EVERY:
            self._told_at = at
            self._errands.tell(Said(self._child.index, self.status), at)

    def _name_main(self, pid: int) -> None:
        fd = sd_notify.open_main(pid, self._is_member)
        if fd is not None:
            self._main(pid, fd)

    def restart_watchdog(self) -> None:
        """Let the watchdog count again from now on."""
        self._expect_life(time.monotonic())

    def _expect_life(self, at: float) -> None:
        """Start to count anew: the watchdog is missed if nothing comes in its time."""
        self._errands.reactor.cancel(self._timer)
        self._timer = None
        if self.watchdog:
            limit = self.watchdog
            self._timer = self._errands.reactor.call_at(at + limit, lambda: self._missed(limit))

    def _missed(self, after: float) -> None:
        timer, self._timer = self._timer, None
        self._errands.reactor.cancel(timer)  # WATCHDOG=trigger comes before its time
        if after:
            self._receiver.read()  # if we were stopped ourselves, it may have been there in time
        if self._timer is None:
            self._errands.post(m.WatchdogMissed(self._child.index, after, time.monotonic()))
