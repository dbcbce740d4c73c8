"""Makes the probe that a spec describes; each kind's module is imported when it is first asked."""

from __future__ import annotations

from gracewrap.config import probe_specs
from gracewrap.probes.base import Probe
from gracewrap.record import TYPE_CHECKING, assert_never

if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Protocol

    from gracewrap.config.settings import Settings
    from gracewrap.linux.hook_and_probe_process_groups import Helpers
    from gracewrap.linux.ports_of_program import Ports
    from gracewrap.linux.reactor import Reactor
    from gracewrap.probes.agent import OtherWork
    from gracewrap.probes.base import AskAgents, OnReading
    from gracewrap.probes.log_line import LogLineState
    from gracewrap.probes.notify import NotifyState
else:
    Protocol = object


# Of the time between two samples, which is never exact.
_MOST_OF_IT = 0.8


class Program(Protocol):
    """What the probes of one program need; made when it is first needed."""

    reactor: Reactor
    settings: Settings
    helpers: Helpers
    log_lines: LogLineState | None
    agents: AskAgents | None

    @property
    def counted_by_agents(self) -> bool:
        """Whether a drain probe asks agents, and there may be some."""

    @property
    def agents_must_agree(self) -> bool:
        """Whether all drain probes must agree, and one asks agents, of which there may be some."""

    def ports(self) -> Ports:
        """Return the ports that the program listens on."""

    def notify_state(self) -> NotifyState:
        """Return what the program has said by sd_notify(3)."""


class LazyProbe(Probe):
    """A probe that is made when it is first asked."""

    def __init__(self, make: Callable[[], Probe]) -> None:
        self._make = make
        self._probe: Probe | None = None

    def sample(self, on_reading: OnReading) -> None:
        if self._probe is None:
            self._probe = self._make()
        self._probe.sample(on_reading)

    def cancel(self) -> None:
        if self._probe is not None:
            self._probe.cancel()


def probe_of(spec: probe_specs.ProbeSpec, program: Program) -> Probe:
    """Return the probe of a program that *spec* describes."""
    return LazyProbe(lambda: _make(spec, program))


def _make(spec: probe_specs.ProbeSpec, program: Program) -> Probe:
    match spec:
        case probe_specs.HttpProbeSpec():
            from gracewrap.probes.http import HttpProbe

            return HttpProbe(spec, program.reactor, program.helpers)
        case probe_specs.TcpProbeSpec():
            from gracewrap.probes.tcp import TcpProbe

            return TcpProbe(
                spec,
                program.reactor,
                program.ports(),
                needs_port=not program.counted_by_agents,
                agent_decides=program.agents_must_agree,
            )
        case probe_specs.ExecProbeSpec():
            from gracewrap.probes.exec import ExecProbe

            return ExecProbe(spec, program.helpers)
        case probe_specs.FileProbeSpec():
            from gracewrap.probes.file import FileProbe

            return FileProbe(spec, program.reactor)
        case probe_specs.NotifyProbeSpec():
            from gracewrap.probes.notify import NotifyProbe

            return NotifyProbe(spec, program.notify_state())
        case probe_specs.AgentProbeSpec():
            from gracewrap.probes.agent import AgentProbe

            # Beside another probe that one decides what shows work.
            return AgentProbe(
                program.agents, spec.alone, _other_work(program) if spec.alone else None
            )
        case probe_specs.LogLineProbeSpec():
            from gracewrap.probes.log_line import LogLineProbe

            assert program.log_lines is not None
            return LogLineProbe(spec, program.log_lines)
        case _:
            assert_never(spec)


def _other_work(program: Program) -> OtherWork:
    """Return what looks at the work that agents do not count, from one sample to the next.

    No longer back: what ends a job is no work any more half a second later.
    """
    from gracewrap.probes.agent import OtherWork
    from gracewrap.probes.other_work import Background

    ports, between = program.ports(), program.settings.drain_interval
    return OtherWork(program.reactor, ports, Background(ports, _MOST_OF_IT * between, True))
