"""What is done on the side: probes are asked, hooks run, metrics pushed.  Never waits; what comes
of it is an event.

Imported only where there is something to do: the plain wrapping of a command needs none of it.
"""

from __future__ import annotations

import posix
import time

from gracewrap.config import probe_specs
from gracewrap.linux.helper_processes import Helper, Helpers
from gracewrap.policy import model as m
from gracewrap.policy.program import FOREVER
from gracewrap.probes.base import Probe
from gracewrap.probes.sampler import Sampler
from gracewrap.record import TYPE_CHECKING, assert_never, replace
from gracewrap.report.in_flight import InFlight
from gracewrap.report.runtime_events import HookStarted, NotReady
from gracewrap.runtime import lazy_imports

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence

    from gracewrap.config.settings import Settings
    from gracewrap.linux.listening_ports import Ports
    from gracewrap.linux.reactor import Reactor, Timer
    from gracewrap.probes.base import OnReading
    from gracewrap.probes.log_line import LogLineState
    from gracewrap.probes.notify import NotifyState
    from gracewrap.report.runtime_events import RuntimeEvent
    from gracewrap.runtime.child import Child

# The first look at the probes: so long after the start, then after twice that, and so on, while
# nothing answers.
FIRST_LOOK, LAST_LOOK = 1.0, 16.0
NOT_READY = 10.0  # seconds after which it is told that it is not, and again after twice as many
# Seconds between two looks at whether the program is ready: most are soon, and others wait for it.
READY_FIRST, READY_INTERVAL = 0.02, 0.25


def in_flight_of(settings: Settings) -> InFlight:
    """Return where the numbers of the probes of [drain] are kept."""
    return InFlight(
        [(probe_specs.kind(probe), probe_specs.unit(probe)) for probe in settings.drain.probes]
        if settings.drain
        else ()
    )


class Prober:
    """All that is under way for one program.

    Args:
        reactor: Where what is watched and timed is.
        child: The program.
        post: Takes an event for the policy.
        tell: Takes what is to be logged, and when it happened.
        is_ready: Called, with the time, when the probes of `ready` have passed.
    """

    def __init__(
        self,
        reactor: Reactor,
        child: Child,
        post: Callable[[m.Event], None],
        tell: Callable[[RuntimeEvent, float], None],
        is_ready: Callable[[float], None],
    ) -> None:
        self.reactor, self.child, self.settings, self.post, self.tell = (
            reactor,
            child,
            child.settings,
            post,
            tell,
        )
        self.is_ready = is_ready
        self.in_flight = child.history.in_flight
        self.helpers = Helpers(reactor, child.equipment.process)
        self.facts: Callable[[], Mapping[str, str]] = (
            dict  # what hooks find in their environment, after GRACEWRAP_
        )
        self.metrics: Callable[[], str] = str
        self.state: NotifyState | None = None
        self._ports: Ports | None = None
        self.probes = self.settings.drain.probes if self.settings.drain else ()
        self.samplers = [self.sampler(probe) for probe in self.probes]
        self._ready = self.settings.ready.probes if self.settings.ready else ()
        self.lines: LogLineState | None = None
        self.first: FirstLook | None = None
        self.readiness: Readiness | None = None
        self._hooks: dict[tuple[int, str], tuple[Callable[[], None], Timer | None]] = {}

    def sampler(self, probe: probe_specs.ProbeSpec) -> Sampler:
        """Return what takes samples of a probe."""
        return Sampler(
            _Later(lambda: self._asker(probe)), self.reactor, self.settings.drain_probe_timeout
        )

    def _asker(self, probe: probe_specs.ProbeSpec) -> Probe:
        match probe:
            case probe_specs.HttpProbeSpec():
                from gracewrap.probes.http import HttpProbe

                return HttpProbe(probe, self.reactor, self.helpers)
            case probe_specs.TcpProbeSpec():
                from gracewrap.probes.tcp import TcpProbe

                return TcpProbe(probe, self.reactor, self.ports())
            case probe_specs.ExecProbeSpec():
                from gracewrap.probes.exec import ExecProbe

                return ExecProbe(probe, self.helpers)
            case probe_specs.FileProbeSpec():
                from gracewrap.probes.file import FileProbe

                return FileProbe(probe)
            case probe_specs.NotifyProbeSpec():
                from gracewrap.probes.notify import NotifyProbe

                return NotifyProbe(probe, self.notify_state())
            case probe_specs.LogLineProbeSpec():
                from gracewrap.probes.log_line import LogLineProbe

                assert self.lines is not None
                return LogLineProbe(probe, self.lines)
            case _:
                assert_never(probe)

    def renew(self) -> None:
        """The program is about to be started, for the first time or again: what is known of it is
        of another life."""
        self.end()
        self._ports = None
        self.samplers = [self.sampler(probe) for probe in self.probes]
        if self.state is not None:
            self.state.reset()
        if self.hears_lines:
            from gracewrap.probes.log_line import LogLineState

            self.lines = LogLineState(
                probe for probe in self._ready if isinstance(probe, probe_specs.LogLineProbeSpec)
            )

    def begin(self, looked: Callable[[int, m.Reading], None]) -> None:
        """The program has been started: take a first look with each probe, and see when it is
        ready."""
        if self.samplers:
            self.first = FirstLook(self, looked)
        if self.settings.ready is not None:
            self.readiness = Readiness(self, self.settings.ready)
        if self.samplers or self.readiness is not None:
            self.reactor.run_in_slices(self._load(self.first, self.readiness))

    def end(self) -> None:
        """It has ended: ask it no more."""
        for one in (self.first, self.readiness):
            if one is not None:
                one.end()
        self.first = self.readiness = None
        self.stop_asking()

    def _load(self, *those: FirstLook | Readiness | None) -> Iterator[None]:
        """Import what the probes need, a module a step, with a look at the signals in between; then
        look what they say."""
        for name in _modules((*self.probes, *self._ready)):
            __import__(name)
            yield
        for one in those:
            if one is not None and one in (
                self.first,
                self.readiness,
            ):  # else it is of a life that was short
                one.begin()

    def refresh(self) -> None:
        """Somebody wants to know how it stands: take a sample with each probe, unless one is under
        way."""
        if self.first is not None:
            self.first.look()

    def ports(self) -> Ports:
        """Return what knows the ports that the program listens on."""
        if self._ports is None:
            from gracewrap.linux.listening_ports import Ports

            self._ports = Ports(
                self.reactor, lambda: [member.pid for member in self.child.look(None)]
            )
        return self._ports

    def notify_state(self) -> NotifyState:
        """Return what the program has said about itself."""
        if self.state is None:
            from gracewrap.probes.notify import NotifyState

            self.state = NotifyState()
        return self.state

    @property
    def hears_lines(self) -> bool:
        """Whether what the program writes tells when it is ready."""
        return any(isinstance(probe, probe_specs.LogLineProbeSpec) for probe in self._ready)

    def line(self, line: bytes) -> None:
        """Take in a line that the program has written, without its end."""
        if self.lines is not None and self.lines.is_waiting and self.lines.feed(line):
            self.look_again()

    def look_again(self) -> None:
        """It has said something of itself: whether it is ready can be seen at once."""
        if self.readiness is not None:
            self.readiness.look_now()

    def before_the_signal(self) -> None:
        """Look what the program listens on, now: a moment later it may have closed it."""
        if any(isinstance(probe, probe_specs.TcpProbeSpec) for probe in self.probes):
            self.ports().look_now()

    def ask(self, program: int, probe: int, at: float) -> None:
        """Take a sample of a probe; Sampled will tell."""
        if self.first is not None:
            self.first.end()
        self.samplers[probe].sample(
            at, lambda reading: self.post(m.Sampled(program, probe, reading, time.monotonic()))
        )

    def stop_asking(self) -> None:
        """Give up on all samples."""
        for sampler in self.samplers:
            sampler.cancel()

    def run(self, command: m.RunHelper, at: float) -> None:
        """Run a hook; HelperEnded will tell."""
        key, action = (command.program, command.what), self._action(command.what)
        self.tell(HookStarted(command.program, command.what, _shown(action)), at)
        limit = command.until if action.timeout is None else min(command.until, at + action.timeout)

        def ended(ok: bool, why: str) -> None:
            if key in self._hooks:
                self.reactor.cancel(self._hooks.pop(key)[1])
                self.post(m.HelperEnded(*key, ok, why, time.monotonic()))

        def too_late() -> None:
            stop, _ = self._hooks[key]
            stop()
            ended(False, f"not done after {limit - at:.1f} s, and given up")

        # A drain that was asked for without a stop has no end of its own.
        self._hooks[key] = (
            _nothing,
            self.reactor.call_at(limit, too_late) if limit < FOREVER else None,
        )
        try:
            stop = self._begin(action, ended)
        except Exception as error:
            ended(False, getattr(error, "strerror", None) or f"{type(error).__name__}: {error}")
            return
        if key in self._hooks:  # it may be over already
            self._hooks[key] = (stop, self._hooks[key][1])

    def stop(self, command: m.StopHelper) -> None:
        """Kill a hook that is still running; nothing is told."""
        stop, timer = self._hooks.pop((command.program, command.what), (_nothing, None))
        self.reactor.cancel(timer)
        stop()

    def _action(self, what: str) -> probe_specs.Action:
        if what == "push":
            return self._push()
        settings = self.settings
        found = {
            "pre_stop": settings.pre_stop,
            "start": settings.drain_start,
            "post_stop": settings.post_stop,
        }[what]
        assert found is not None, what
        return found

    def _push(self) -> probe_specs.HttpAction:
        """Return the request that leaves our metrics with a Pushgateway, which keeps them when we
        are gone."""
        from gracewrap.report.metrics import push_path

        url = self.settings.report_pushgateway
        assert url is not None
        job = self.settings.report_pushgateway_job or self.settings.command[0].rpartition("/")[2]
        target = url.target.rstrip("/") + push_path(job, posix.uname().nodename)
        headers = (probe_specs.Header("Content-Type", "text/plain; version=0.0.4; charset=utf-8"),)
        return probe_specs.HttpAction(
            probe_specs.Request(
                replace(url, target=target), "PUT", headers, self.metrics().encode()
            )
        )

    def _begin(
        self, action: probe_specs.Action, ended: Callable[[bool, str], None]
    ) -> Callable[[], None]:
        """Start an action and return what gives it up."""
        match action:
            case probe_specs.CommandAction(command):
                more = {
                    f"GRACEWRAP_{name}".encode(): value.encode(errors="replace")
                    for name, value in self.facts().items()
                }

                def over(status: int, _: bytes) -> None:
                    ended(status == 0, "" if status == 0 else f"{command[0]}: exit status {status}")

                helper: Helper = self.helpers.run(command, over, more=more)
                return lambda: self.helpers.kill(helper)
            case probe_specs.HttpAction(request):
                from gracewrap.http_client.hook import HttpHook

                hook = HttpHook(request, self.reactor, self.helpers, ended)
                return hook.cancel
            case _:
                assert_never(action)


class FirstLook:
    """Asks each probe once the program is up, so that a mistake is told then and not at the stop.

    Later only when somebody wants to know: the policy asks while there is something to drain, and
    at rest nothing wakes for it.
    """

    def __init__(self, prober: Prober, looked: Callable[[int, m.Reading], None]) -> None:
        self._errands, self._looked = prober, looked
        self._timers: dict[int, Timer] = {}
        self._asked_at = prober.child.started_at
        self._over = False

    def begin(self) -> None:
        """Look in a moment, unless the policy has begun to ask."""
        for probe in range(len(self._errands.samplers) if not self._over else 0):
            self._look_in(probe, self._errands.child.started_at, FIRST_LOOK, False)

    def _look_in(self, probe: int, at: float, pause: float, was_invalid: bool) -> None:
        def look() -> None:
            del self._timers[probe]
            self._ask(probe, lambda reading: self._saw(probe, reading, pause, was_invalid))

        self._timers[probe] = self._errands.reactor.call_at(at + pause, look)

    def _ask(self, probe: int, answered: Callable[[m.Reading], None]) -> None:
        self._asked_at = time.monotonic()
        self._errands.samplers[probe].sample(self._asked_at, answered)

    def _saw(self, probe: int, reading: m.Reading, pause: float, was_invalid: bool) -> None:
        """What is not there yet is asked again; so is what is wrong, for it may be half way up."""
        invalid = reading.kind == m.INVALID
        self._errands.in_flight.take(probe, reading, time.monotonic())
        if reading.kind in (m.DRAINED, m.BUSY) or (invalid and was_invalid) or pause >= LAST_LOOK:
            self._looked(probe, reading)
        else:
            self._look_in(probe, time.monotonic(), pause * 2, invalid)

    def look(self) -> None:
        """Ask those that are not about to be asked anyway."""
        if time.monotonic() >= self._asked_at + self._errands.settings.drain_interval:
            for probe in range(len(self._errands.samplers)):
                if probe not in self._timers:
                    self._ask(probe, lambda reading, probe=probe: self._looked(probe, reading))  # type: ignore[misc]

    def end(self) -> None:
        """The policy asks now."""
        self._over = True
        for timer in self._timers.values():
            self._errands.reactor.cancel(timer)
        self._timers.clear()


class Readiness:
    """Asks the probes of `ready` until they say that the program is ready; from then on it is."""

    def __init__(self, prober: Prober, ready: probe_specs.ProbeSpecs) -> None:
        self._errands = prober
        self._samplers = [prober.sampler(probe) for probe in ready.probes]
        self._enough = all if ready.combine == "all" else any
        self._passed = [False] * len(self._samplers)
        self.why = "not ready yet"
        self.ready = False
        self._tell_after = NOT_READY
        self._timers: dict[int, Timer] = {}
        self._pause = [READY_FIRST] * len(self._samplers)

    def begin(self) -> None:
        """Start to ask."""
        for probe in range(len(self._samplers)):
            self._look(probe)

    def look_now(self) -> None:
        """Do not wait any longer for the next look."""
        for probe, timer in list(self._timers.items()):
            self._errands.reactor.cancel(timer)
            self._look(probe)

    def _look(self, probe: int) -> None:
        self._timers.pop(probe, None)
        if not self.ready:
            self._samplers[probe].sample(
                time.monotonic(), lambda reading: self._saw(probe, reading)
            )

    def _saw(self, probe: int, reading: m.Reading) -> None:
        if self.ready:
            return
        at = time.monotonic()
        self._passed[probe] = reading.kind == m.DRAINED
        if self._enough(self._passed):
            self.ready, self.why = True, ""
            self.end()
            self._errands.is_ready(at)
        elif not self._passed[probe]:
            self.why = reading.why or self.why
            after = at - self._errands.child.started_at
            if after >= self._tell_after:
                self._tell_after *= 2
                self._errands.tell(NotReady(self._errands.child.index, after, self.why), at)
            self._timers[probe] = self._errands.reactor.call_at(
                at + self._pause[probe], lambda: self._look(probe)
            )
            self._pause[probe] = min(READY_INTERVAL, self._pause[probe] * 2)

    def end(self) -> None:
        """Ask no more."""
        for sampler in self._samplers:
            sampler.cancel()
        for timer in self._timers.values():
            self._errands.reactor.cancel(timer)


class _Later(Probe):
    """A probe whose module is imported when it is first asked."""

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


def _modules(probes: Sequence[probe_specs.ProbeSpec]) -> Iterator[str]:
    """Return what the probes import, in an order in which no single one takes long."""
    for probe in probes:
        if isinstance(probe, probe_specs.HttpProbeSpec):
            yield from (*lazy_imports.H11, "gracewrap.probes.http")
            yield from ("ssl",) if probe.request.url.scheme == "https" else ()
            yield from ("json",) if probe.expect.how == "json" else ()


def _nothing() -> None:
    """Give up an action that is not under way."""


def _shown(action: probe_specs.Action) -> str:
    return (
        " ".join(action.command)
        if isinstance(action, probe_specs.CommandAction)
        else action.request.url.shown
    )
