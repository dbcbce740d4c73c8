"""What gracewrap does beside looking after the programs: it answers on the control socket, tells
the service manager above, logs what a stop waits for, and rests.

None of it may cost a program: what fails is logged.
"""

from __future__ import annotations

import posix
import time

from gracewrap.policy.run_phases import ShuttingDown, System, Up
from gracewrap.record import TYPE_CHECKING
from gracewrap.report.runtime_events import ShellInFront
from gracewrap.runtime import lazy_imports

if TYPE_CHECKING:
    from collections.abc import Callable

    from gracewrap.config.settings import Settings
    from gracewrap.linux.reactor import Reactor
    from gracewrap.policy.log_events import PartEvent
    from gracewrap.policy.model import Event, Policy
    from gracewrap.report.recorder import Recorder
    from gracewrap.runtime.control_requests import ControlApi
    from gracewrap.runtime.handover import Handover
    from gracewrap.runtime.programs import Programs
    from gracewrap.runtime.progress import Progress
    from gracewrap.runtime.return_to_launcher import Rest
    from gracewrap.runtime.service_manager_socket import ServiceManager

LOAD_AFTER = 0.1  # seconds after the start, when what only a stop needs is imported
START = 1.5  # seconds; what was started before is not new: the launcher has had it meanwhile


class SideTasks:
    """All of them.

    Args:
        system: Returns the policy's system.
        idle: Returns it too; None: there is still something to be fed to the policy.
        post: Takes events for the policy.
        safely: Calls what must not cost a program: an exception is logged.
    """

    def __init__(
        self,
        settings: Settings,
        policy: Policy,
        handover: Handover,
        programs: Programs,
        recorder: Recorder,
        reactor: Reactor,
        system: Callable[[], System],
        idle: Callable[[], System | None],
        post: Callable[[Event], None],
        safely: Callable[[Callable[[], object]], None],
    ) -> None:
        self.settings, self.policy, self.handover = settings, policy, handover
        self.programs, self.recorder, self.reactor = programs, recorder, reactor
        self.system, self.idle, self.post, self.safely = system, idle, post, safely
        self.control: ControlApi | None = None
        self.progress: Progress | None = None
        self.above: ServiceManager | None = None  # None: nobody there wants to be told
        self.rest: Rest | None = None  # None: we stay

    def begin(self) -> None:
        """Open what can be asked from outside, and find who is to be told."""
        settings = self.settings
        if settings.control_socket != "off" or self.handover.listening or settings.tells_metrics:
            self.safely(self._open_control)
        if b"NOTIFY_SOCKET" in posix.environ:
            self.safely(self._find_service_manager)
        # Not while the command starts, which may have no other CPU.
        self.reactor.call_at(time.monotonic() + LOAD_AFTER, self._come_to_rest)

    def _open_control(self) -> None:
        from gracewrap.runtime.control_requests import ControlApi

        self.control = ControlApi(
            self.reactor,
            self.handover,
            self.recorder,
            self.settings,
            self.policy,
            self.programs,
            self.system,
            self.post,
        )
        self.control.open()

    def _find_service_manager(self) -> None:
        from gracewrap.runtime import service_manager_socket

        to = service_manager_socket.address()
        if to is not None:
            self.above = service_manager_socket.ServiceManager(
                to, self.policy, self.programs, self.recorder
            )

    def _come_to_rest(self) -> None:
        """Leave the command to the native launcher, if it has started us and there is nothing for
        us to do; else load what is needed some time."""
        if time.monotonic() < self.handover.at + START:
            self.safely(self._look_in_front)
        lazy_imports.import_now("gracewrap.linux.launcher")
        from gracewrap.linux import launcher

        if launcher.path() is not None and not self.policy.managed and self.above is None:
            from gracewrap.runtime import return_to_launcher

            if return_to_launcher.is_possible(self.settings, self.handover):
                self.rest = return_to_launcher.Rest(
                    self.settings,
                    self.handover,
                    self.policy,
                    self.programs,
                    self.recorder,
                    self.reactor,
                    self.control,
                    self.idle,
                    self._stay,
                )
                self.rest.begin()
                return
        self._stay()

    def _look_in_front(self) -> None:
        """Say that a stop will not reach us, while something can be done about it."""
        lazy_imports.import_now("gracewrap.linux.shell_in_front")
        from gracewrap.linux import shell_in_front

        if shell := shell_in_front.deaf_shell():
            self.recorder.record(ShellInFront(shell), time.monotonic())

    def _stay(self) -> None:
        from gracewrap.runtime import needed_later

        self.rest = None
        self.reactor.run_in_slices(lazy_imports.load(needed_later.modules(self.settings)))

    def look(self, at: float) -> None:
        """Do what is to be done at the end of each turn of the loop."""
        if self.above is not None:
            above = self.above
            self.safely(lambda: above.look(self.system()))
        if isinstance(self.system(), ShuttingDown):
            self.safely(lambda: self._show_progress(at))
            if self.rest is not None:  # there is none any more
                self._stay()

    def _show_progress(self, at: float) -> None:
        if self.progress is None:
            from gracewrap.runtime.progress import Progress

            self.progress = Progress(self.recorder, self.policy, self.programs, at)
        system = self.system()
        if isinstance(system, ShuttingDown):
            self.progress.show(system, at)

    def due(self) -> float | None:
        """Return when the next line about what a stop waits for is due; None: there is none."""
        if self.progress is None or not isinstance(self.system(), ShuttingDown):
            return None
        return self.progress.at

    def begin_rest(self, at: float) -> None:
        """Rest some time after *at*, when there is still nothing to do."""
        if self.rest is not None:
            self.rest.begin_later(at)

    def noted(self, event: PartEvent, at: float) -> None:
        """Take in what has come of the stop of some programs: somebody may wait for it on the
        control socket."""
        control = self.control
        if control is not None:
            self.safely(lambda: control.noted(event, at))

    def last_metrics(self) -> str:
        """Return the metrics of a run of which nothing is left."""
        system = self.system()
        if isinstance(system, Up | ShuttingDown) or self.control is None:
            return ""
        return self.control.last_metrics(system.status)
