"""Runs the policy in simulated time: what it would command, and when, if the programs behaved in a
given way."""

from __future__ import annotations

from gracewrap.policy import model as m
from gracewrap.policy import run_phases, step
from gracewrap.policy.log_events import LogRecord
from gracewrap.policy.program_phases import (
    FOREVER,
    Aborting,
    Gone,
    Killing,
    Phase,
    PreStop,
    Starting,
    Stopping,
    Stragglers,
    Waiting,
)
from gracewrap.record import TYPE_CHECKING, Record, replace

if TYPE_CHECKING:
    from collections.abc import Callable

MOST_STEPS = 200_000  # events; a stop that takes more is none that can be drawn
PROBE_TIME = 0.001


class World(Record):
    """How the programs behave in a stop."""

    drained: bool  # the probes say so at once, and who is sent the stop signal exits
    hooks_end: bool  # hooks take no time; else as long as they may
    dies_after: float = 0.0  # seconds from SIGKILL to the end


WORST = World(drained=False, hooks_end=False)
ALL_DRAINED = World(drained=True, hooks_end=True)


class Told(Record):
    """One thing that the policy commands or reports, and the program's phase after it."""

    at: float
    what: m.Command


class Course(Record):
    """The whole stop: what was commanded, and each program's phases with the time they began."""

    told: tuple[Told, ...]
    phases: tuple[tuple[tuple[float, str], ...], ...]  # of each program: (since, kind of segment)
    after: tuple[tuple[float, str], ...]  # the same of what comes after the programs
    ended: float
    status: int


def stop(policy: m.Policy, world: World) -> Course:
    """Return the course of a stop of all programs, which are up and ready; times count from the
    request."""
    return _Run(policy, world).run()


class _Run:
    """One stop in simulated time."""

    def __init__(self, policy: m.Policy, world: World) -> None:
        self._policy, self._world = policy, world
        # One command alone has been spawned already; several are started in their order.
        self._system: run_phases.System = run_phases.begin(
            policy, () if policy.managed else None, -1.0
        )
        self._now, self._count, self._began = -1.0, 0, False
        self._coming: list[tuple[float, tuple[int, object], m.Event]] = []
        self._told: list[Told] = []
        self._phases: list[list[tuple[float, str]]] = [[] for _ in policy.programs]
        self._after: list[tuple[float, str]] = []
        self._status: int | None = None
        self._samplers: dict[int, int] = {}

    def run(self) -> Course:
        self._feed(m.Tick(self._now))
        if not self._policy.managed and self._policy.programs[0].ready:
            self._will(0.0, (0, "ready"), m.ProgramReady(0, 0.0))
        self._pass(lambda at: at <= -1.0)  # what is started, is ready at once
        self._now, self._began = 0.0, True
        signum = min(self._policy.stop_on, key=lambda number: number != 15)
        self._feed(m.SignalReceived(signum, 0.0))
        self._pass(lambda _at: True)
        return Course(
            tuple(self._told),
            tuple(map(tuple, self._phases)),
            tuple(self._after),
            self._now,
            self._status or 0,
        )

    def _pass(self, goes_on: Callable[[float], bool]) -> None:
        while self._status is None and self._count < MOST_STEPS:
            deadline = step.deadline(self._system, self._policy)
            next_at = min((at for at, _, _ in self._coming), default=None)
            times = [at for at in (deadline, next_at) if at is not None]
            if not times or not goes_on(min(times)):
                return
            self._now = max(self._now, min(times))
            due = next((one for one in self._coming if one[0] <= self._now), None)
            if due is not None:
                self._coming.remove(due)
                self._feed(due[2])
            else:
                self._feed(m.Tick(self._now))

    def _feed(self, event: m.Event) -> None:
        self._count += 1
        self._system, commands = step.step(self._system, event, self._policy)
        for command in commands:
            if self._began and not isinstance(
                command, m.Ask | m.StopAsking | m.CountUnsent | m.Examine
            ):
                self._told.append(Told(self._now, command))
            self._act(command)
        if self._began:
            self._note_phases()

    def _act(self, command: m.Command) -> None:
        """Let happen what a command leads to."""
        match command:
            case LogRecord():
                pass
            case m.StartProgram(i):
                self._will(0.0, (i, "start"), m.ProgramStarted(i, 0.0))
                if self._policy.programs[i].oneshot:
                    self._will(0.0, (i, "end"), m.LeaderExited(i, 0, 0, False, 0.0))
                elif self._policy.programs[i].ready:
                    self._will(0.0, (i, "ready"), m.ProgramReady(i, 0.0))
            case m.SendLeader(i, signum) | m.SendGroup(i, signum):
                asked = signum not in (m.SIGCONT, m.SIGABRT)
                if asked and self._world.drained and not self._is_coming(i):
                    exits = m.LeaderExited(i, 0, 0, False, 0.0)
                    self._will(PROBE_TIME, (i, "end"), exits)
            case m.KillProgram(i):
                if not self._is_coming(i):
                    exits = m.LeaderExited(i, 137, 9, False, 0.0)
                    self._will(self._world.dies_after, (i, "end"), exits)
            case m.Ask(i, probe):
                kind = m.DRAINED if self._world.drained else m.BUSY
                reading = m.Reading(kind, 0.0 if self._world.drained else 1.0)
                self._will(PROBE_TIME, (i, probe), m.Sampled(i, probe, reading, 0.0))
            case m.StopAsking(i):
                self._forget(lambda key: key[0] == i and isinstance(key[1], int))
            case m.RunHelper(i, what, until):
                length = 0.0 if self._world.hooks_end else max(0.0, until - self._now)
                ended = m.HelperEnded(i, what, self._world.hooks_end, "", 0.0)
                self._will(length, (i, what), ended)
            case m.StopHelper(i, what):
                self._forget(lambda key: key == (i, what))
            case m.TellAgents(i, "stop"):
                # Within milliseconds, also of a program that never exits.
                self._will(0.0, (i, "agents"), m.AgentsTold(i, 0.0))
            case m.CountUnsent():
                self._will(0.0, (-1, "unsent"), m.UnsentCounted(0, 0.0))
            case m.Exit(status):
                self._status = status
            case _:
                pass

    def _will(self, after: float, key: tuple[int, object], event: m.Event) -> None:
        at = self._now + after
        self._coming.append((at, key, replace(event, at=at)))
        self._coming.sort(key=lambda coming: coming[0])

    def _is_coming(self, program: int) -> bool:
        return any(key == (program, "end") for _, key, _ in self._coming)

    def _forget(self, unwanted: Callable[[tuple[int, object]], bool]) -> None:
        self._coming = [coming for coming in self._coming if not unwanted(coming[1])]

    def _note_phases(self) -> None:
        if isinstance(self._system, run_phases.Up | run_phases.ShuttingDown):
            for i, phase in enumerate(self._system.programs):
                _note(self._phases[i], self._now, _kind(phase))
        else:
            for phases in self._phases:
                _note(phases, self._now, "")
            over = isinstance(self._system, run_phases.Ended)
            _note(self._after, self._now, "" if over else "after")


def _note(phases: list[tuple[float, str]], at: float, kind: str) -> None:
    if not phases or phases[-1][1] != kind:
        phases.append((at, kind))


def _kind(phase: Phase) -> str:
    """Return the kind of segment that a phase is; "": there is nothing of the program."""
    match phase:
        case PreStop(kill_at=kill_at) if kill_at == FOREVER:
            return "waits"
        case PreStop(stage=Waiting(hook=True)) | PreStop(stage=Starting()):
            return "hook"
        case PreStop(stage=Waiting()):
            return "propagation"
        case PreStop():
            return "drain"
        case Stopping():
            return "stop" if phase.drain.drained_at is None else "linger"
        case Aborting() | Stragglers():
            return "stop"
        case Killing():
            return "killed"
        case Gone():
            return ""
        case _:
            return "waits"
