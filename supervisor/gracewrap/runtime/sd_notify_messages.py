"""Acts on what a program says by sd_notify(3): ready, stopping, status, more time, a sign of life,
its main process."""

from __future__ import annotations

import time

from gracewrap.config.probe_specs import NotifyProbeSpec
from gracewrap.linux import sd_notify
from gracewrap.policy.model import TimeExtended, WatchdogMissed
from gracewrap.record import TYPE_CHECKING
from gracewrap.report.probe_events import MainPid, Said

if TYPE_CHECKING:
    from collections.abc import Callable

    from gracewrap.linux.reactor import Timer
    from gracewrap.runtime.probing import Prober

WATCHDOG_LOOKS = 4  # in the time that a watchdog gives
STATUS_EVERY = 1.0  # seconds between two log lines about a STATUS


class NotifyListener:
    """Reads a program's NOTIFY_SOCKET and acts on the messages that are not for a probe.

    Args:
        prober: The program's.
        fd: The socket.
        is_member: Returns whether a process is of the program.
    """

    def __init__(self, prober: Prober, fd: int, is_member: Callable[[int], bool]) -> None:
        self._prober, self._is_member = prober, is_member
        self._settings, self._child, self._reactor = prober.settings, prober.child, prober.reactor
        self._timer: Timer | None = None  # of the watchdog
        self._receiver = sd_notify.Receiver(
            prober.reactor, fd, self._child.pid, is_member, self._received
        )
        self.reset()

    def reset(self) -> None:
        """Reset the state of the previous run: the program is about to be started."""
        self.state = self._prober.notify_state()
        self.status = ""
        self._status_logged_at, self._stopping = 0.0, False
        self._watchdog = self._settings.watchdog
        ready = self._settings.ready.probes if self._settings.ready else ()
        # As systemd counts: from READY=1 on, if that is waited for.
        self._waits = any(isinstance(spec, NotifyProbeSpec) for spec in ready)

    def on_started(self) -> None:
        """Let the watchdog count from the start on: from when we listen.  The command is started
        before we are, and what holds us up meanwhile, a pause or a slow disk, is not its fault."""
        self._receiver.leader = self._child.pid
        if not self._waits:
            self._count_from(time.monotonic())

    def on_gone(self) -> None:
        """Read the last messages, and stop the watchdog.

        What the program said last must not count for its next run: its exit is fetched first, for
        SIGCHLD is a lower number than SIGIO.
        """
        self._receiver.read()
        self._reactor.cancel(self._timer)
        self._timer = None

    def restart_watchdog(self) -> None:
        """Let the watchdog count again from now on."""
        self._count_from(time.monotonic())

    def excuse_watchdog(self) -> None:
        """Let the watchdog count again from now on, if it counts."""
        if self._timer is not None:
            self._count_from(time.monotonic())

    def _received(self, message: sd_notify.Message) -> None:
        """Act on one message."""
        at = time.monotonic()
        self.state.update(message)
        if message.ready or message.drained is not None:
            self._prober.check_ready()
        if message.status is not None and message.status != self.status:
            self.status = message.status
            self._log_status(at)
        if message.stopping and not self._stopping:
            self._stopping = True
            self._log("it is stopping", at)
        if message.extend_timeout is not None:
            self._prober.post(TimeExtended(self._child.index, message.extend_timeout, at))
        if message.main_pid is not None:
            self._name_main(message.main_pid)
        self._watch(message, at)

    def _watch(self, message: sd_notify.Message, at: float) -> None:
        """Let the watchdog count anew, or see it missed."""
        if message.watchdog_timeout is not None:
            self._watchdog = message.watchdog_timeout
        if self._waits and message.ready:
            self._waits = False
            self._count_from(at)
        if message.watchdog_trigger:
            self._missed(0.0)
        elif message.watchdog or message.watchdog_timeout is not None:
            self._count_from(at)

    def _log_status(self, at: float) -> None:
        """Log the status, but not more often than people read."""
        if self.status and at >= self._status_logged_at + STATUS_EVERY:
            self._status_logged_at = at
            self._log(self.status, at)

    def _log(self, text: str, at: float) -> None:
        self._prober.recorder.record(Said(self._child.index, text), at)

    def _name_main(self, pid: int) -> None:
        who = self._child.history.who  # and not the process that is named
        fd = sd_notify.open_main(pid, self._is_member)
        if fd is not None and self._child.names_main(pid, fd):
            event = MainPid(self._child.index, who, pid)
            self._prober.recorder.record(event, time.monotonic())

    def _count_from(self, at: float) -> None:
        self._reactor.cancel(self._timer)
        self._timer = None
        if self._watchdog:
            self._wait_from(at, at + self._watchdog, self._watchdog)

    def _wait_from(self, at: float, expires: float, limit: float) -> None:
        """Look again before its time is over: a gap in time shows by a timer that fires late."""

        def look() -> None:
            now = time.monotonic()
            if now >= expires:
                self._missed(limit)
            else:
                self._wait_from(now, expires, limit)

        self._timer = self._reactor.call_at(min(expires, at + limit / WATCHDOG_LOOKS), look)

    def _missed(self, after: float) -> None:
        timer, self._timer = self._timer, None
        self._reactor.cancel(timer)  # WATCHDOG=trigger comes before its time
        if after:
            self._receiver.read()  # if we were stopped ourselves, it may have been there in time
        if self._timer is None:
            self._prober.post(WatchdogMissed(self._child.index, after, time.monotonic()))
