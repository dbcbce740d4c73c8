"""A world without processes: the policy is fed events, and time passes by its own deadlines.

Probes and hooks are a script: of a probe, what it says when it is asked at a time, and how long it
takes for it; of a hook, how long it takes.  They keep what gracewrap.probes.sampler and
gracewrap.runtime.hooks promise: an answer within the limit, and none after StopAsking and
StopHelper.

Programs are scripts too, where they are given (Body): when they are up and ready, when they end,
what a signal does to them.
Without one, the test says when a leader exits.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

from gracewrap.policy import log_events, run_phases, step
from gracewrap.policy import model as m
from gracewrap.policy.program_phases import Gone, Killing, PreStop, Stopping, Stragglers
from gracewrap.record import replace

PROBE_TIMEOUT = 2.0
AT_ONCE = 200  # more steps than this without time passing: it would never end

LEADER, LEFT = 70, 90  # pids of the first program's leader, and of what is below it


def default_tree(program: int) -> tuple[m.Process, ...]:
    """Return a leader without a handler and its forked child, which is the leader's to stop."""
    return (
        m.Process(LEADER + program, 1, 1),
        m.Process(LEFT + program, 1, LEADER + program, forked=True),
    )


def below_a_shell(program: int = 0) -> tuple[m.Process, ...]:
    """Return a shell with a trap, and what it has started and may pass a signal on to."""
    return (
        m.Process(LEADER + program, 1, 1, takes=m.CATCHES, shell=True),
        m.Process(LEFT + program, 1, LEADER + program, takes=m.CATCHES),
    )


def below_one_that_ignores_it(program: int = 0) -> tuple[m.Process, ...]:
    """Return a leader that ignores the stop signal, and what is below it."""
    return (
        m.Process(LEADER + program, 1, 1, takes=m.IGNORES),
        m.Process(LEFT + program, 1, LEADER + program, takes=m.CATCHES),
    )


Probe = Callable[
    [float], tuple[m.Reading | None, float]
]  # time -> what it says (None: nothing, ever), and after how many seconds

DRAINED = m.Reading(m.DRAINED)
UNREACHABLE = m.Reading(m.UNREACHABLE, None, "refused")
INVALID = m.Reading(m.INVALID, None, "404 Not Found")
FAILED = m.Reading(m.FAILED, None, "refused, and on_refused is fail")


def busy(in_flight: float | None = 1) -> m.Reading:
    return m.Reading(m.BUSY, in_flight, "not yet")


def says(*script: tuple[float, m.Reading | None], latency: float = 0.001) -> Probe:
    """Return a probe that says each reading from its time on; times count from 100, when
    simulations begin."""

    def probe(at: float) -> tuple[m.Reading | None, float]:
        return [reading for since, reading in script if at >= 100 + since][-1], latency

    return probe


class Hook:
    """How long a hook takes (None: it hangs), and how it ends."""

    def __init__(self, seconds: float | None = 0.0, ok: bool = True) -> None:
        self.seconds, self.ok = seconds, ok


class Body:
    """What a program does.  Times are seconds from what leads to it; None: it never comes."""

    def __init__(
        self,
        stops: float | None = 0.0,  # from the stop signal to the leader's exit
        status: int = 0,  # and its status
        rest: float | None = 0.0,  # from the leader's exit to that of what it leaves
        dies: float | None = 0.001,  # from SIGKILL to its end
        spawns: float | None = 0.0,
        ready: float | None = 0.0,
        runs: tuple[
            tuple[float, int], ...
        ] = (),  # of each start in turn: it ends by itself after seconds, with a status
        fails: int = 0,  # so often it cannot be spawned
        aborts: float | None = 0.0,  # from SIGABRT to the leader's exit
    ) -> None:
        self.stops, self.status, self.rest, self.dies = stops, status, rest, dies
        self.spawns, self.ready, self.runs, self.fails = spawns, ready, runs, fails
        self.aborts = aborts


class Simulation:
    """Runs one policy.  *log* holds (time, command) for every command that is not for the log.

    *story* holds those, what is for the log, and what the probes said, in their order.
    """

    def __init__(
        self,
        policy: m.Policy,
        probes: Mapping[int, Probe] | None = None,
        hooks: Mapping[str, Hook] | None = None,
        at: float = 100.0,
        bodies: Sequence[Body] | None = None,
        started: Sequence[int] | None = None,
    ) -> None:
        self.policy = policy
        self.bodies = bodies
        self.probes, self.hooks = probes or {}, hooks or {}
        self.now = at
        self.system: run_phases.System = run_phases.begin(policy, started, at)
        self.log: list[tuple[float, m.Command]] = []
        self.story: list[tuple[float, m.Command | m.Sampled]] = []
        self.unsent = 0
        self.ticks = 0
        # What a program's processes look like; a test says so.
        self.trees: dict[int, tuple[m.Process, ...]] = {}
        self._answers: dict[
            tuple[int, int | str], tuple[float, m.Event]
        ] = {}  # what is under way, and how it will end
        self._steps: list[float] = []
        self._over = False
        self._coming: dict[tuple[int, str], tuple[float, m.Event]] = {}  # what the bodies will do
        self.leaders: set[int] = set()  # those that are alive, and whose rest is
        self.rests: set[int] = set()
        self.starts = [0] * len(policy.programs)
        self._runs = [0] * len(policy.programs)
        self.ends: list[tuple[float, int]] = []  # (time, program): nothing is left of it
        if bodies is not None:
            for i in range(len(policy.programs)) if started is None else started:
                self._is_up(i)
        if started is not None:
            self.feed(m.Tick(at))

    def feed(self, event: m.Event) -> None:
        if not isinstance(event, m.TreeSeen):  # one answers each stop signal
            self._steps = [*(at for at in self._steps if at == self.now), self.now]
        assert len(self._steps) < AT_ONCE, f"it spins at {self.now}: {self.system}"
        if isinstance(event, m.Sampled):
            self.story.append((self.now, event))
        self.system, commands = step.step(self.system, event, self.policy)
        for command in commands:
            assert not self._over, f"{command} after Exit"
            self._over = isinstance(command, m.Exit)
            self.story.append((self.now, command))
            if isinstance(command, log_events.LogRecord | m.Look | m.Examine):
                continue
            self.log.append((self.now, command))
            if self.bodies is not None:
                self._embody(command, self.bodies)
            match command:
                case m.Ask(program, probe):
                    self._ask(program, probe)
                case m.StopAsking(program):
                    self._forget(program, int)
                case m.RunHelper():
                    self._run(command)
                case m.StopHelper(program, what):
                    assert self._answers.pop((program, what), None), (
                        f"{what} of {program} is not running"
                    )
                case m.StartProgram(program) if self.bodies is None:
                    self.feed(m.ProgramStarted(program, self.now))
                case m.CountUnsent():
                    self.feed(m.UnsentCounted(self.unsent, self.now))
        for command in commands:
            self._look(command)
        self._check_what_is_under_way()

    def _look(self, command: m.Command) -> None:
        """Look at a program when that is commanded, and when it has been sent the stop signal."""
        if isinstance(command, m.Look):
            i = command.program
            self.feed(m.TreeSeen(i, self.tree(i), self.now))
        elif isinstance(command, m.SendLeader | m.SendGroup):
            i = command.program
            if command.signum == self.policy.programs[i].stop_signal:
                seen = self.tree(i)
                leader = next((one.id for one in seen if one.pid == LEADER + i), None)
                sent = [one.id for one in seen if one.id == leader or "Group" in str(command)]
                self.feed(m.TreeSeen(i, seen, self.now, True, leader, frozenset(sent)))

    def _check_what_is_under_way(self) -> None:
        """Nothing is asked or run for a program that is not being drained or stopped, and nothing
        at all after the exit."""
        assert not (self._over and self._answers), f"{self.under_way} after Exit"
        phases = getattr(self.system, "programs", ())
        for i, phase in enumerate(phases):
            if not isinstance(phase, PreStop | Stopping):
                assert not [key for key in self._answers if key[0] == i], (
                    f"{self.under_way} for {phase}"
                )

    def _ask(self, program: int, probe: int) -> None:
        assert (program, probe) not in self._answers, (
            f"probe {probe} of {program} is being asked already"
        )
        script = self.probes.get(probe)
        reading, latency = script(self.now) if script else (None, 0.0)
        if reading is None or latency > PROBE_TIMEOUT:
            reading, latency = m.Reading(m.UNREACHABLE, None, "no answer within 2 s"), PROBE_TIMEOUT
        at = self.now + latency
        self._answers[program, probe] = at, m.Sampled(program, probe, reading, at)

    def _embody(self, command: m.Command, bodies: Sequence[Body]) -> None:
        """Let a program do what it does when it is started or signalled."""
        match command:
            case m.StartProgram(i):
                body, n = bodies[i], self.starts[i]
                assert i not in self.leaders | self.rests, f"{i} is up already"
                assert not any(what == "spawn" for _, what in self._coming), "two starts at once"
                self.starts[i] += 1
                if body.spawns is not None:
                    at = self.now + body.spawns
                    failed = m.StartFailed(i, 127, "not found", at)
                    self._coming[i, "spawn"] = (
                        at,
                        failed if n < body.fails else m.ProgramStarted(i, at),
                    )
            case m.SendLeader(i, signum) | m.SendGroup(i, signum) if (
                signum == self.policy.programs[i].stop_signal
            ):
                assert i in self.leaders, f"{i} is signalled, and not there"
                if bodies[i].stops is not None:
                    self._will(
                        i,
                        "leader",
                        bodies[i].stops,
                        m.LeaderExited(i, bodies[i].status, 0, bodies[i].rest != 0, 0.0),
                    )
            case m.SendLeader(i, m.SIGABRT):
                assert i in self.leaders, f"{i} is aborted, and not there"
                if (aborts := bodies[i].aborts) is not None:
                    self._will(
                        i, "leader", aborts, m.LeaderExited(i, 134, 6, bodies[i].rest != 0, 0.0)
                    )
            case m.KillProgram(i) if bodies[i].dies is not None:
                if i in self.leaders:
                    if (i, "leader") in self._coming:  # what it would leave is killed with it
                        at, event = self._coming[i, "leader"]
                        self._coming[i, "leader"] = at, replace(event, left=False)
                    self._will(i, "leader", bodies[i].dies, m.LeaderExited(i, 137, 9, False, 0.0))
                elif i in self.rests:
                    self._will(i, "rest", bodies[i].dies, m.ProgramGone(i, 0.0))
            case _:
                pass

    def _will(
        self,
        i: int,
        what: str,
        seconds: float,
        event: m.LeaderExited | m.ProgramGone | m.ProgramReady,
    ) -> None:
        """Let something happen in so many seconds, if it does not sooner."""
        at = self.now + seconds
        if (i, what) not in self._coming or self._coming[i, what][0] > at:
            self._coming[i, what] = at, replace(event, at=at)

    def _is_up(self, i: int) -> None:
        assert self.bodies is not None
        self.leaders.add(i)
        body, n = self.bodies[i], self._runs[i]
        self._runs[i] += 1
        if self.policy.programs[i].ready and body.ready is not None:
            self._will(i, "ready", body.ready, m.ProgramReady(i, 0.0))
        if n < len(body.runs):
            seconds, status = body.runs[n]
            self._will(i, "leader", seconds, m.LeaderExited(i, status, 0, body.rest != 0, 0.0))

    def _happens(self, key: tuple[int, str]) -> None:
        """Let a program do what it was about to do."""
        event = self._coming.pop(key)[1]
        i, body = key[0], (self.bodies or ())[key[0]]
        match event:
            case m.ProgramStarted():
                self._is_up(i)
            case m.LeaderExited(left=left):
                self.leaders.remove(i)
                self._coming.pop((i, "ready"), None)
                if left:
                    self.rests.add(i)
                    if body.rest is not None:
                        self._will(i, "rest", body.rest, m.ProgramGone(i, 0.0))
                else:
                    self.ends.append((self.now, i))
            case m.ProgramGone():
                self.rests.remove(i)
                self.ends.append((self.now, i))
        self.feed(event)

    def _run(self, command: m.RunHelper) -> None:
        key = command.program, command.what
        assert key not in self._answers, f"{key} is running already"
        assert self.now <= command.until < float("inf"), f"{command} at {self.now}"
        hook = self.hooks.get(command.what, Hook())
        at = command.until if hook.seconds is None else min(self.now + hook.seconds, command.until)
        ok = hook.ok and hook.seconds is not None and self.now + hook.seconds <= command.until
        self._answers[key] = at, m.HelperEnded(*key, ok, "" if ok else "failed, or given up", at)

    def _forget(self, program: int, kind: type) -> None:
        for key in [key for key in self._answers if key[0] == program and isinstance(key[1], kind)]:
            del self._answers[key]

    @property
    def under_way(self) -> set[tuple[int, int | str]]:
        """The (program, probe) that are being asked, and the (program, hook) that are running."""
        return set(self._answers)

    def tree(self, program: int) -> tuple[m.Process, ...]:
        """Return the processes of a program.  By default the leader has one below it that has no
        handler, and dies of the stop signal itself."""
        phase = getattr(self.system, "programs", ())[program:]
        gone = phase and isinstance(phase[0], Stragglers | Killing | Gone)
        return tuple(
            process
            for process in self.trees.get(program, default_tree(program))
            if not (gone and process.pid == LEADER + program)
        )

    def signal(self, signum: int) -> None:
        self.feed(m.SignalReceived(signum, self.now))

    def leader_exits(
        self, status: int = 0, signum: int = 0, left: bool = False, program: int = 0
    ) -> None:
        self.feed(m.LeaderExited(program, status, signum, left, self.now))

    def misses_watchdog(self, program: int = 0, after: float = 1.0) -> None:
        self.feed(m.WatchdogMissed(program, after, self.now))

    def rest_goes(self, program: int = 0) -> None:
        self.feed(m.ProgramGone(program, self.now))

    def pass_time(self, seconds: float) -> None:
        """Let *seconds* pass: answers come, then a tick at each deadline; a tick at the deadline
        must move the deadline."""
        until = self.now + seconds
        while (due := self._due(until)) is not None:
            self.now = max(self.now, due)
            if ready := [key for key, (at, _) in self._answers.items() if at <= self.now]:
                self.feed(self._answers.pop(ready[0])[1])
                continue
            if coming := [key for key, (at, _) in self._coming.items() if at <= self.now]:
                self._happens(min(coming, key=lambda key: self._coming[key][0]))
                continue
            self.feed(m.Tick(self.now))
            self.ticks += 1
            after = step.deadline(self.system, self.policy)
            assert after is None or after > due, (
                f"a tick at {due} did not move the deadline: {self.system}"
            )
        self.now = until

    def _due(self, until: float) -> float | None:
        times = [at for at, _ in (*self._answers.values(), *self._coming.values())]
        if (deadline := step.deadline(self.system, self.policy)) is not None:
            times.append(deadline)
        return min((at for at in times if at <= until), default=None)

    @property
    def commands(self) -> list[m.Command]:
        return [command for _, command in self.log]

    @property
    def reports(self) -> list[log_events.LogRecord]:
        """What was reported for the log."""
        return [thing for _, thing in self.story if isinstance(thing, log_events.LogRecord)]

    @property
    def deeds(self) -> list[tuple[float, m.Command]]:
        """The log without what only asks, and without SIGCONT."""
        asks = (m.Ask, m.StopAsking)
        return [
            (at, c)
            for at, c in self.log
            if not isinstance(c, asks) and getattr(c, "signum", 0) != m.SIGCONT
        ]

    def times(self, *wanted: type[m.Command]) -> list[float]:
        """When commands of these kinds were given."""
        return [
            at
            for at, command in self.log
            if isinstance(command, wanted) and getattr(command, "signum", 0) != m.SIGCONT
        ]

    def reported(self, kind: type[log_events.LogRecord]) -> list[log_events.LogRecord]:
        """What was reported for the log, of one kind."""
        return [event for event in self.reports if type(event) is kind]

    @property
    def status(self) -> int | None:
        """The exit status that was commanded, or None."""
        found = [command.status for command in self.commands if isinstance(command, m.Exit)]
        assert len(found) <= 1
        return found[0] if found else None


def simulate(
    shutdown_timeout: float = 25.0,
    probe: Probe | None = None,
    probes: Mapping[int, Probe] | None = None,
    hooks: Mapping[str, Hook] | None = None,
    **settings: object,
) -> Simulation:
    """Return a simulation of one program; settings of the program, of its drain or of the whole, by
    name."""
    world = {0: probe} if probe else dict(probes or {})
    whole = {k: v for k, v in settings.items() if k in m.Policy.__match_args__}
    drain = {k: v for k, v in settings.items() if k in m.DrainPolicy.__match_args__}
    one = {k: v for k, v in settings.items() if k not in whole and k not in drain}
    whole.setdefault("flush_timeout", 0.0)
    drain.setdefault("probes", len(world))
    rules = m.ProgramPolicy(drain=m.DrainPolicy(**drain), **one)  # type: ignore[arg-type]
    policy = m.Policy((rules,), shutdown_timeout=shutdown_timeout, **whole)  # type: ignore[arg-type]
    return Simulation(policy, world, hooks)
