"""Tells the service manager above gracewrap (systemd, podman, another gracewrap) when the service
is ready, how it is, and that it stops: the sending side of sd_notify(3).

Imported where NOTIFY_SOCKET was inherited.  A message that cannot be sent is dropped, and the first
such is logged: nothing waits for the service manager.
"""

from __future__ import annotations

import _socket
import posix
import time

from gracewrap.policy import service_manager_news
from gracewrap.record import TYPE_CHECKING
from gracewrap.report.runtime_events import Unheard
from gracewrap.runtime import phase_in_words

if TYPE_CHECKING:
    from gracewrap.policy.model import Policy
    from gracewrap.policy.run_phases import System
    from gracewrap.report.recorder import Recorder
    from gracewrap.runtime.programs import Programs


def address() -> bytes | None:
    """Return the address in our NOTIFY_SOCKET, as the kernel wants it; None: there is none that can
    be used.

    Source: sd_notify(3): a path, or @ and the name of an abstract socket.  (A vsock address is that
    of another machine's manager.)
    """
    named = posix.environ.get(b"NOTIFY_SOCKET", b"")
    if named[:1] == b"@" and len(named) > 1:
        return b"\0" + named[1:]
    return named if named[:1] == b"/" else None


class ServiceManager:
    """The service manager above.

    Args:
        to: Its address, from address().
        policy: As the policy has it.
        programs: The programs, by their index.
        recorder: Takes what is to be logged.
    """

    def __init__(self, to: bytes, policy: Policy, programs: Programs, recorder: Recorder) -> None:
        self._to, self._programs, self._recorder = to, programs, recorder
        self._policy = policy
        self._told = service_manager_news.Told()
        self._failed = False
        only = programs[0]
        self._hears = len(programs) == 1 and not policy.programs[0].ready and only.settings.notify
        self._speaks = service_manager_news.speaks(policy, self._hears)

    def look(self, system: System) -> None:
        """Say what is new."""
        phase = phase_in_words.overall(system)
        if not self._speaks and phase not in ("stopping", "draining", "killing", "ending"):
            return
        listener = self._programs[0].notify if len(self._programs) == 1 else None
        text = "" if listener is None else listener.status
        ready = self._speaks
        if self._hears:
            ready = listener is not None and listener.state.ready
        self._told, lines = service_manager_news.news(
            self._told, system, self._policy, phase, text, ready
        )
        if lines:
            self._send("\n".join(lines))

    def _send(self, message: str) -> None:
        try:
            sock = _socket.socket(_socket.AF_UNIX, _socket.SOCK_DGRAM | _socket.SOCK_CLOEXEC)
            try:
                data = message.encode("utf-8", "backslashreplace")
                sock.sendto(data, _socket.MSG_DONTWAIT | _socket.MSG_NOSIGNAL, self._to)
            finally:
                sock.close()
        except OSError as error:
            if not self._failed:
                self._failed = True
                what = "the service manager cannot be told (NOTIFY_SOCKET)"
                event = Unheard(what, error.strerror or "")
                self._recorder.record(event, time.monotonic())
