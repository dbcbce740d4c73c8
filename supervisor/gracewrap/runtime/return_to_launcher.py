"""Leaves the command to the native launcher again while there is nothing to judge and nothing to
watch: it needs a tenth of our memory, and forwards in half the time.

It is executed in this process, as we were by it, so that pid, children and pending signals stay;
signals are blocked all the time.  It knows no setting: what it is to do with which signal is asked
of the policy here, and written down for it.  The settings travel too, for a file may have changed
when they are needed again.
"""

from __future__ import annotations

import marshal
import posix
import time

from gracewrap.config.settings import Settings
from gracewrap.linux import launcher, spawn
from gracewrap.linux.signals import BLOCKABLE, SIGCHLD, SIGCONT, SIGIO, SIGWINCH
from gracewrap.policy import forwarding, step
from gracewrap.policy import model as m
from gracewrap.policy.log_events import LogRecord
from gracewrap.policy.program_phases import Running
from gracewrap.policy.run_phases import System, Up
from gracewrap.record import TYPE_CHECKING
from gracewrap.runtime.handover import REST_NOTE

if TYPE_CHECKING:
    from collections.abc import Callable

    from typing_extensions import TypeIs

    from gracewrap.linux.reactor import Reactor, Timer
    from gracewrap.report.recorder import Recorder
    from gracewrap.runtime.control_requests import ControlApi
    from gracewrap.runtime.handover import Handover
    from gracewrap.runtime.programs import Programs

VERSION = "3"  # of the notes, as in launcher/launch.h
REST_AFTER = 2.0  # seconds without anything to do; one visitor may follow another
FORMAT = 4  # of marshal, which every Python reads: it may have been replaced too
# It cannot tell those of the kernel and of a terminal from requests.
NO_REQUESTS = frozenset((SIGCHLD, SIGIO, SIGWINCH))
SIGNALS_OF_STAT = 32  # /proc/PID/stat, where the launcher looks, tells only of the ones below


def is_possible(settings: Settings, handover: Handover) -> bool:
    """Return whether the settings of one command leave nothing to be watched, and the launcher is
    there."""
    watched = (
        settings.needs_errands
        or settings.health_listen
        or settings.tells_metrics
        or settings.log_level == "debug"
        or any(sent < 0 for sent in settings.signal_map.values())
        or not NO_REQUESTS.isdisjoint(settings.stop_requests)
    )
    started = handover.pid and not handover.exec_errno and handover.tty is None
    return not watched and bool(started) and launcher.unchanged(VERSION) is not None


class Rest:
    """Looks whether a run can rest, and lets it.

    Args:
        settings: Of the one command.
        handover: What the run has begun with.
        policy: As the policy has it.
        programs: The one program.
        recorder: Knows what is to be told later.
        reactor: Knows what is under way.
        control: Who may have visitors.
        system: Returns the policy's system; None: there is still something to be fed to it.
        stay: Called when there is no way to rest.
    """

    def __init__(
        self,
        settings: Settings,
        handover: Handover,
        policy: m.Policy,
        programs: Programs,
        recorder: Recorder,
        reactor: Reactor,
        control: ControlApi | None,
        system: Callable[[], System | None],
        stay: Callable[[], None],
    ) -> None:
        self._settings, self._handover, self._policy = settings, handover, policy
        self._child, self._recorder = programs[0].child, recorder
        self._reactor, self._control, self._system, self._stay = reactor, control, system, stay
        self._timer: Timer | None = None

    def begin(self) -> None:
        """Rest now, unless there is something to do."""
        self._timer, system = None, self._system()
        if self._is_idle(system) and not self._execute(system):
            self._stay()

    def begin_later(self, at: float) -> None:
        """Rest some time after *at*, when there is still nothing to do."""
        if self._timer is None and self._is_idle(self._system()):
            self._timer = self._reactor.call_at(at + REST_AFTER, self.begin)

    def _is_idle(self, system: System | None) -> TypeIs[Up]:
        """Return whether nothing is under way, and nothing has been said that is to be told again
        at the end."""
        child, recorder = self._child, self._recorder
        return (
            isinstance(system, Up)
            and isinstance(system.programs[0], Running)
            and not (system.drain or self._reactor.busy)
            and child.main is None
            and child.leader == child.group
            and child.has_executed()
            and not (recorder.timeline or recorder.log.is_behind)
            and (self._control is None or self._control.is_idle)
        )

    def _execute(self, system: System) -> bool:
        """Execute the launcher; return False if that is impossible."""
        file, fds = launcher.unchanged(VERSION), self._control.fds if self._control else []
        if file is None:
            return False
        try:
            note = self._note(system) + f"settings {_written(self._settings)}\n"
            for fd in fds:
                posix.set_inheritable(fd, True)
            words = [file, f"--rest={VERSION}", *self._handover.words]
            kept = note.encode(errors="surrogateescape")
            posix.execve(file, words, {**spawn.environment(), REST_NOTE: kept})
        except (OSError, ValueError):  # ValueError: a setting that cannot be written down
            for fd in fds:
                posix.set_inheritable(fd, False)
        return False

    def _note(self, system: System) -> str:
        run, passed_on = self._recorder.run, self._recorder.histories[0].passed_on
        last = max(passed_on.items(), key=lambda item: item[1].at, default=None)
        stop_on, rules = self._policy.stop_on, self._policy.programs[0]
        tells, is_quiet = int(self._may_tell(system)), int(_is_quiet(self._settings))
        lines = [
            f"child {self._child.pid} {self._handover.at:.9f}",
            f"counts {run.orphans_reaped} {run.signals_forwarded}",
            f"budget {self._policy.shutdown_timeout:.9f}",
            f"stop_on {sum(1 << (signum - 1) for signum in stop_on):x}",
            f"stop_signal {rules.stop_signal} {tells}",
            f"how {int(rules.kill_mode == 'group')} {is_quiet}",
        ]
        if last is not None:
            lines.append(f"passed {last[1].received} {last[1].at:.9f} {last[0]}")
        for signum in BLOCKABLE:
            route = forwarding.route(signum, self._policy)
            as_what = route[0].signum if route else 0
            if route is not None and as_what != signum:
                lines.append(f"send {signum} {as_what}")
        if self._control is not None:
            lines += self._control.described()
        return "\n".join(lines) + "\n"

    def _may_tell(self, system: System) -> bool:
        """Return whether the stop signal to the leader is the first thing that follows from any
        stop request, whatever there is below it."""
        signum = self._policy.programs[0].stop_signal
        wanted = [m.SendLeader(0, signum), m.SendLeader(0, SIGCONT)]
        for request in self._policy.stop_on:
            event = m.SignalReceived(request, time.monotonic())
            _, commands = step.step(system, event, self._policy)
            if [one for one in commands if not isinstance(one, LogRecord)] != wanted:
                return False
        return signum < SIGNALS_OF_STAT


def _is_quiet(settings: Settings) -> bool:
    """Return whether nothing is to be said, or done, if the command just exits."""
    files = settings.report_file or settings.report_termination_log
    return not (files or settings.success_exit_codes)


def _written(settings: Settings) -> str:
    """Return settings in hexadecimal.

    Raises:
        ValueError: If they hold what cannot be written down.
    """
    return marshal.dumps(vars(settings), FORMAT).hex()


def kept_settings(note: bytes) -> Settings:
    """Return the settings that a note has kept while the launcher held the command.

    The package may have been replaced since: what another version has kept and this one does not
    know is left out, what it has not kept has its default.

    Raises:
        Exception: Of whatever kind, if they cannot be read.
    """
    kept = marshal.loads(bytes.fromhex(note.partition(b"\nsettings ")[2].decode()))
    return Settings(**{name: kept[name] for name in Settings.__match_args__ if name in kept})
