"""What is recorded of a run: what is known when it begins, and what the policy reports, in the
order in which it is to be read."""

from __future__ import annotations

import posix
import time

from gracewrap.policy.log_events import Forwarded, OfAPart, StopSignal
from gracewrap.policy.model import SendGroup, SendLeader
from gracewrap.record import TYPE_CHECKING
from gracewrap.report.log import Log
from gracewrap.report.program_history import PassedOn
from gracewrap.report.recorder import Recorder
from gracewrap.report.runtime_events import ProgramGone

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from gracewrap.config.settings import Settings
    from gracewrap.policy.log_events import LogEvent, PartEvent
    from gracewrap.policy.model import Command, Policy, SignalReceived
    from gracewrap.runtime.handover import Handover

DOCKER = 10.0  # seconds that `docker stop` grants by itself
# What orchestrators set that grant more, or say so: Kubernetes, ECS, Nomad.
GRANTS_MORE = frozenset(
    (b"KUBERNETES_SERVICE_HOST", b"ECS_CONTAINER_METADATA_URI_V4", b"NOMAD_ALLOC_ID")
)


def begin(settings: Settings, policy: Policy, handover: Handover) -> Recorder:
    """Return the recorder of a run, which knows what there is to know before the loop."""
    log = Log(settings.log_format_in_use, settings.log_level, settings.log_file, settings.log_time)
    programs = [(program.name, program.command) for program in settings.each]
    recorder = Recorder(log, settings.shutdown_timeout, handover.at, wall(handover.at), programs)
    run = recorder.run
    run.orphans_reaped, run.signals_forwarded = handover.orphans_reaped, handover.signals_forwarded
    run.is_short_of_docker = exceeds_docker(settings)
    run.interactive = handover.tty is not None
    run.exit_code_from = policy.exit_code_from
    if handover.passed_on[0]:
        signum, at, as_what = handover.passed_on
        recorder.histories[0].passed_on[as_what] = PassedOn(signum, at)
    return recorder


def exceeds_docker(settings: Settings) -> bool:
    """Return whether this looks like plain Docker, which kills 10 s after `docker stop` unless it
    is told otherwise, and the budget is longer.

    Whether it was told otherwise cannot be seen from within; somebody who has chosen the budget may
    have had Kubernetes in mind.
    """
    if settings.shutdown_timeout <= DOCKER:
        return False
    if posix.getpid() != 1 or not GRANTS_MORE.isdisjoint(posix.environ):
        return False
    try:
        posix.lstat("/.dockerenv")
    except OSError:
        return False
    return True


def wall(at: float) -> float:
    """Return what time of day it was, in seconds since 1970, at a time of the monotonic clock."""
    return time.time() - max(0.0, time.monotonic() - at)


class PolicyEvents:
    """Records what the policy reports.

    Args:
        recorder: Takes it.
        handover: Knows what has been done before the loop.
        several: Whether the programs have names, so that an end is told of each.
        noted: Is told of what concerns some of the programs.
    """

    def __init__(
        self,
        recorder: Recorder,
        handover: Handover,
        several: bool,
        noted: Callable[[PartEvent, float], None],
    ) -> None:
        self._recorder, self._handover = recorder, handover
        self._several, self._noted = several, noted

    def record(self, events: Sequence[LogEvent], at: float, gone: int | None) -> None:
        """Record events; those about a program of which nothing is left, *gone*, before what
        follows for others."""
        if gone is None or not self._several:
            for event in events:
                self._record_one(event, at)
            return
        own = [event for event in events if getattr(event, "program", None) == gone]
        for event in own:
            self._record_one(event, at)
        self._recorder.record(ProgramGone(gone), at)
        for event in events:
            if event not in own:
                self._record_one(event, at)

    def _record_one(self, event: LogEvent, at: float) -> None:
        if isinstance(event, StopSignal) and self._recorder.log.moment is not None:
            # The request was before we were there; if the launcher has not sent it, we do so now.
            told = self._handover.told
            at = time.monotonic() if told is None else told.at
        self._recorder.record(event, at)
        if isinstance(event, OfAPart):
            self._noted(event, at)

    def passed_on(self, event: SignalReceived, commands: Sequence[Command]) -> None:
        """Remember a signal that the policy has passed on, unless the kernel sent it."""
        info = self._recorder.run.siginfo
        by_kernel = info is not None and info[2] > 0
        if not by_kernel and any(isinstance(one, Forwarded) for one in commands):
            sent = [
                (one.program, one.signum)
                for one in commands
                if isinstance(one, SendLeader | SendGroup)
            ]
            self._recorder.passed_on(event.signum, sent, event.at)
