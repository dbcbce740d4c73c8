"""Samples the probes of one program.  Never waits; an answer becomes an event.

Imported only where there are probes or hooks: the plain wrapping of a command needs none of it.
"""

from __future__ import annotations

import time

from gracewrap.config import probe_specs
from gracewrap.policy.model import (
    BUSY,
    DRAINED,
    INVALID,
    Event,
    ProgramReady,
    Reading,
    Sampled,
)
from gracewrap.probes import factory
from gracewrap.probes.sampler import Sampler
from gracewrap.record import TYPE_CHECKING
from gracewrap.report.in_flight import InFlight
from gracewrap.runtime import lazy_imports

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from gracewrap.config.settings import Settings
    from gracewrap.linux.hook_and_probe_process_groups import Helpers
    from gracewrap.linux.ports_of_program import Ports
    from gracewrap.linux.reactor import Reactor, Timer
    from gracewrap.probes.base import AskAgents
    from gracewrap.probes.log_line import LogLineState
    from gracewrap.probes.notify import NotifyState
    from gracewrap.report.recorder import Recorder
    from gracewrap.runtime.health_checks import HealthCheck, LiveCheck, ReadyCheck
    from gracewrap.runtime.program_processes import Child

# The first look at the probes: so long after the start, then after twice that, and so on, while
# there is no answer.
FIRST_LOOK, LAST_LOOK = 1.0, 16.0
COUNT_THE_REST = 0.5  # seconds from one question to the next, once the leader is gone


def in_flight_of(settings: Settings) -> InFlight:
    """Return where the numbers of the drain probes are kept."""
    drain = settings.drain
    if drain is None:
        return InFlight(())
    in_flight = InFlight(
        [(probe_specs.kind(probe), probe_specs.unit(probe)) for probe in drain.probes],
        probe_specs.rests_on_tcp(drain),
    )
    in_flight.fresh = 2 * settings.drain_interval + settings.drain_probe_timeout
    return in_flight


class Prober:
    """All probes of one program.

    Args:
        reactor: For descriptors and timers.
        child: The program.
        helpers: For probes that are commands.
        post: Takes an event for the policy.
        recorder: Takes what is to be logged.
    """

    def __init__(
        self,
        reactor: Reactor,
        child: Child,
        helpers: Helpers,
        post: Callable[[Event], None],
        recorder: Recorder,
    ) -> None:
        self.reactor, self.child, self.helpers = reactor, child, helpers
        self.settings, self.post, self.recorder = child.settings, post, recorder
        self.log_lines: LogLineState | None = None
        self._notify_state: NotifyState | None = None
        self.agents: AskAgents | None = None
        self._ports: Ports | None = None
        self.probes = self.settings.drain.probes if self.settings.drain else ()
        self._ready = self.settings.ready.probes if self.settings.ready else ()
        self._live = self.settings.live.probes if self.settings.live else ()
        self.samplers = [self.sampler(spec) for spec in self.probes]
        self.first_look: FirstLook | None = None
        self._rest: Timer | None = None  # when agents in what is left are asked again
        self.ready_check: ReadyCheck | None = None
        self.live_check: LiveCheck | None = None
        self._checks_over = False  # the program is being stopped

    @property
    def counted_by_agents(self) -> bool:
        """Whether a drain probe asks agents, and there may be some."""
        asks = any(isinstance(spec, probe_specs.AgentProbeSpec) for spec in self.probes)
        return asks and self.agents is not None

    @property
    def agents_must_agree(self) -> bool:
        """Whether all drain probes must agree, and one asks agents, of which there may be some."""
        drain = self.settings.drain
        return self.counted_by_agents and drain is not None and drain.combine == "all"

    def sampler(self, spec: probe_specs.ProbeSpec, timeout: float | None = None) -> Sampler:
        """Return what takes samples of a probe; without a *timeout*, of a drain probe."""
        probe = factory.probe_of(spec, self)
        limit = self.settings.drain_probe_timeout if timeout is None else timeout
        return Sampler(probe, self.reactor, limit)

    # --- the program's starts and ends -----------------------------------------------------------

    def reset(self) -> None:
        """Reset the state of the previous run: the program is about to be started."""
        self.on_gone()
        self._checks_over = False
        self._ports = None
        self.samplers = [self.sampler(spec) for spec in self.probes]
        if self._notify_state is not None:
            self._notify_state.reset()
        if self.reads_lines:
            from gracewrap.probes.log_line import LogLineState

            self.log_lines = LogLineState(
                spec for spec in self._ready if isinstance(spec, probe_specs.LogLineProbeSpec)
            )

    def on_started(self) -> None:
        """Take a first look with each drain probe, and ask whether the program is ready and healthy
        as long as it runs."""
        if self.samplers:
            self.first_look = FirstLook(self)
        if (self._ready or self._live) and not self._checks_over:
            self._make_checks()
        asking = (self.first_look, self.ready_check, self.live_check)
        if any(one is not None for one in asking):
            self.reactor.run_in_slices(self._load(*asking))

    def _make_checks(self) -> None:
        from gracewrap.runtime.health_checks import LiveCheck, ReadyCheck

        ready, live = self.settings.ready, self.settings.live
        if ready is not None:
            samplers, limit = self._of_a_check(ready), self.settings.ready_timeout
            self.ready_check = ReadyCheck(
                self.child, ready, samplers, self.reactor, self._hear, self.recorder, limit
            )
        if live is not None:
            self.live_check = LiveCheck(
                self.child, live, self._of_a_check(live), self.reactor, self.post, self.recorder
            )

    def _of_a_check(self, specs: probe_specs.CheckSpecs) -> list[Sampler]:
        return [self.sampler(spec, specs.timeout) for spec in specs.probes]

    def on_gone(self) -> None:
        """Ask no more."""
        for asking in (self.first_look, self.ready_check, self.live_check):
            if asking is not None:
                asking.end()
        self.first_look = self.ready_check = self.live_check = None
        self._count_no_more()
        self.stop_asking()

    def count_the_rest(self, is_connected: Callable[[], bool]) -> None:
        """Go on asking agents, for people: the leader is gone, and the policy asks no more."""
        self._count_no_more()
        counts = self.counted_by_agents and is_connected()
        history, at = self.child.history, time.monotonic()
        history.in_flight.only_agents(counts)
        for probe, spec in enumerate(self.probes if counts else ()):
            if isinstance(spec, probe_specs.AgentProbeSpec):
                self.samplers[probe].sample(at, self._of_the_rest(probe))
        if counts:
            again_at = at + max(COUNT_THE_REST, self.settings.drain_interval)
            self._rest = self.reactor.call_at(again_at, lambda: self.count_the_rest(is_connected))

    def _of_the_rest(self, probe: int) -> Callable[[Reading], None]:
        def saw(reading: Reading) -> None:
            if reading.counts is not None:  # else it is busy
                self.recorder.sampled(self.child.index, probe, reading, time.monotonic())

        return saw

    def _count_no_more(self) -> None:
        if self._rest is not None:
            self.reactor.cancel(self._rest)
            self._rest = None

    def _load(self, *asking: FirstLook | HealthCheck | None) -> Iterator[None]:
        """Import what the probes need, a module a step, with a look at the signals in between; then
        begin to ask."""
        for name in _modules((*self.probes, *self._ready, *self._live)):
            __import__(name)
            yield
        for one in asking:
            # Else it belongs to a run of the program that has ended meanwhile.
            now = (self.first_look, self.ready_check, self.live_check)
            waits = one is self.first_look and self.ready_check is not None
            if one is not None and any(one is other for other in now) and not waits:
                one.begin()

    def _hear(self, event: Event) -> None:
        """Post an event of the ready check.  Once the program is ready the first look is taken:
        what was not ready could not have been told from a mistake."""
        self.post(event)
        if isinstance(event, ProgramReady) and self.first_look is not None:
            self.first_look.begin()

    # --- the policy's commands -------------------------------------------------------------------

    def ask(self, probe: int, at: float) -> None:
        """Take a sample of a drain probe; Sampled answers."""
        if self.first_look is not None:
            self.first_look.end()
        index = self.child.index
        self.samplers[probe].sample(
            at, lambda reading: self.post(Sampled(index, probe, reading, time.monotonic()))
        )

    def stop_asking(self) -> None:
        """Give up on all samples of drain probes."""
        for sampler in self.samplers:
            sampler.cancel()

    def stop_checks(self) -> None:
        """Ask no more whether the program is ready and healthy: it is being stopped."""
        self._checks_over = True
        for check in (self.ready_check, self.live_check):
            if check is not None:
                check.end()

    def shift(self, seconds: float) -> None:
        """Take *seconds* in which gracewrap was not running off what the checks have waited."""
        for check in (self.ready_check, self.live_check):
            if check is not None:
                check.shift(seconds)

    def before_stop_signal(self) -> None:
        """Look what the program listens on: a moment after the stop signal it may have closed
        it."""
        looks = probe_specs.TcpProbeSpec | probe_specs.AgentProbeSpec
        if any(isinstance(spec, looks) for spec in self.probes):
            self.ports().look_now()

    # --- what the probes need --------------------------------------------------------------------

    def ports(self) -> Ports:
        """Return the ports that the program listens on."""
        if self._ports is None:
            from gracewrap.linux.ports_of_program import Ports

            self._ports = Ports(
                self.reactor, lambda: [member.pid for member in self.child.look(None)]
            )
        return self._ports

    def notify_state(self) -> NotifyState:
        """Return what the program has said by sd_notify(3)."""
        if self._notify_state is None:
            from gracewrap.probes.notify import NotifyState

            self._notify_state = NotifyState()
        return self._notify_state

    @property
    def reads_lines(self) -> bool:
        """Whether the output of the program says when it is ready."""
        return any(isinstance(spec, probe_specs.LogLineProbeSpec) for spec in self._ready)

    def on_line(self, line: bytes) -> None:
        """Take in a line of the program's output, without its end."""
        lines = self.log_lines
        if lines is not None and lines.is_waiting and lines.feed(line):
            self.check_ready()

    # --- asked from outside ----------------------------------------------------------------------

    def check_ready(self) -> None:
        """Ask the ready probes at once: the program has said something."""
        if self.ready_check is not None:
            self.ready_check.look_now()

    def why_not_ready(self) -> str:
        """Return why the ready probes do not pass; "" if they do, or if there are none."""
        return "" if self.ready_check is None else self.ready_check.why_not()

    def refresh(self) -> None:
        """Take a sample with each drain probe, unless one is under way: somebody asks for the
        status."""
        if self.first_look is not None:
            self.first_look.look()


class FirstLook:
    """Asks each drain probe once the program is up, so that a mistake is logged then and not at the
    stop.

    Later only when somebody asks for the status: the policy asks while there is something to drain,
    and at rest nothing wakes for it.
    """

    def __init__(self, prober: Prober) -> None:
        self._prober, self._index = prober, prober.child.index
        self._timers: dict[int, Timer] = {}
        self._asked_at = prober.child.started_at
        self._begun = self._over = False

    def begin(self) -> None:
        """Look in a moment, unless the policy has begun to ask."""
        at, begun, self._begun = time.monotonic(), self._begun, True
        for probe in range(0 if self._over or begun else len(self._prober.samplers)):
            self._look_in(probe, at, FIRST_LOOK, False)

    def _look_in(self, probe: int, at: float, pause: float, was_invalid: bool) -> None:
        def look() -> None:
            del self._timers[probe]
            self._ask(probe, lambda reading: self._saw(probe, reading, pause, was_invalid))

        self._timers[probe] = self._prober.reactor.call_at(at + pause, look)

    def _ask(self, probe: int, answered: Callable[[Reading], None]) -> None:
        self._asked_at = time.monotonic()
        self._prober.samplers[probe].sample(self._asked_at, answered)

    def _saw(self, probe: int, reading: Reading, pause: float, was_invalid: bool) -> None:
        """What does not answer is asked again; so is what is wrong, for it may be half way up.

        What does not listen yet is asked as long as there are looks, other mistakes once more.
        """
        invalid, prober = reading.kind == INVALID, self._prober
        is_tcp = isinstance(prober.probes[probe], probe_specs.TcpProbeSpec)
        listens = not is_tcp or prober.ports().blind  # which no time changes
        prober.child.history.in_flight.take(probe, reading, time.monotonic())
        if (
            reading.kind in (DRAINED, BUSY)
            or (invalid and was_invalid and listens)
            or pause >= LAST_LOOK
        ):
            self._looked(probe, reading)
        else:
            self._look_in(probe, time.monotonic(), pause * 2, invalid)

    def _looked(self, probe: int, reading: Reading) -> None:
        at = time.monotonic()
        self._prober.recorder.sampled(self._index, probe, reading, at)
        self._prober.recorder.looked(self._index, probe, reading, at)

    def look(self) -> None:
        """Ask the probes that are not being asked, or about to be, anyway.

        To ask anew what has not answered yet would hide for ever that it does not; before the
        first look nothing can be told from a mistake.
        """
        again_at = self._asked_at + self._prober.settings.drain_interval
        if self._begun and time.monotonic() >= again_at:
            for probe, sampler in enumerate(self._prober.samplers):
                if probe not in self._timers and sampler.asked_at is None:
                    self._ask(probe, self._answer_of(probe))

    def _answer_of(self, probe: int) -> Callable[[Reading], None]:
        return lambda reading: self._looked(probe, reading)

    def end(self) -> None:
        """Look no more: the policy asks now, or the program is gone."""
        self._over = True
        for timer in self._timers.values():
            self._prober.reactor.cancel(timer)
        self._timers.clear()


def _modules(specs: Sequence[probe_specs.ProbeSpec]) -> Iterator[str]:
    """Return what the probes import, in an order in which no single module takes long."""
    for spec in specs:
        if isinstance(spec, probe_specs.AgentProbeSpec):
            yield from ("json", "gracewrap.probes.agent")
            yield from ("gracewrap.probes.other_work",) if spec.alone else ()
        if isinstance(spec, probe_specs.HttpProbeSpec):
            yield from (*lazy_imports.H11, "gracewrap.probes.http")
            yield from ("ssl",) if spec.request.url.scheme == "https" else ()
            yield from ("json",) if spec.expect.how == "json" else ()
