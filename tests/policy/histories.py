"""Any policy, any world and any history of it, for properties that must hold in all of them; and an
oracle for the drain."""

from __future__ import annotations

from hypothesis import strategies as st

from gracewrap.policy import log_events, run_phases
from gracewrap.policy import model as m
from gracewrap.record import replace
from simulation import (
    DRAINED,
    FAILED,
    INVALID,
    UNREACHABLE,
    Hook,
    Probe,
    Simulation,
    below_a_shell,
    below_one_that_ignores_it,
    busy,
    default_tree,
    says,
)

HUP, INT, QUIT, KILL, USR1, TERM = 1, 2, 3, 9, 10, 15
PROBES = 2

_programs = st.integers(0, 1)
_exits = st.sampled_from([(0, 0), (7, 0), (143, TERM), (137, KILL)])
_trees = [default_tree, below_a_shell, below_one_that_ignores_it]
events = st.one_of(
    st.tuples(st.just("time"), st.floats(0, 20)),
    st.tuples(st.just("time"), st.floats(0, 1)),
    st.tuples(st.just("signal"), st.sampled_from([TERM, INT, HUP, USR1])),
    st.tuples(st.just("stop"), st.booleans()),
    st.tuples(st.sampled_from(["drain", "undrain"]), st.none()),
    st.tuples(st.just("leader"), st.tuples(_programs, _exits, st.booleans())),
    st.tuples(st.sampled_from(["gone", "watchdog", "ended"]), _programs),
    st.tuples(st.just("extend"), st.tuples(_programs, st.floats(0, 30))),
    st.tuples(st.just("unsent"), st.integers(0, 2)),
    st.tuples(st.just("tree"), st.tuples(_programs, st.sampled_from(_trees))),
)
_stop = ("signal", TERM)
_turns: list[list[tuple[str, object]]] = [
    [_stop],
    [_stop, ("time", 20.0)],
    [("drain", None), ("time", 5.0), _stop],
    [],
]
histories = st.builds(
    lambda before, turn, after: before + turn + after,
    st.lists(events, max_size=4),
    st.sampled_from(_turns),
    st.lists(events, max_size=20),
)

_misses: list[list[tuple[str, object]]] = [
    [("watchdog", 0), ("time", 1.0), _stop, ("time", 2.0)],
    [("watchdog", 1), _stop, ("extend", (1, 9.0)), ("time", 30.0)],
    [("watchdog", 0), ("watchdog", 1), ("time", 4.0), ("leader", (0, (134, 6), True)), _stop],
    [_stop, ("watchdog", 0)],
    [("drain", None), ("watchdog", 0), ("undrain", None)],
    [("watchdog", 1), ("time", 10.0)],
]
watchdog_histories = st.builds(
    lambda before, miss, between, turn: before + miss + between + turn,
    st.lists(events, max_size=4),
    st.sampled_from(_misses),
    st.lists(events, max_size=6),
    st.sampled_from(_turns),
)

_checks = st.tuples(st.sampled_from(["ready", "unready", "late", "hangs", "heals"]), _programs)
_failed_checks: list[list[tuple[str, object]]] = [
    [("ready", 0), ("unready", 0), ("time", 1.0), _stop, ("ready", 0)],
    [("late", 1), ("time", 3.0), _stop, ("late", 0)],
    [("hangs", 0), ("time", 3.0), _stop, ("hangs", 1)],
    [("hangs", 0), ("time", 11.0), ("heals", 0)],
    [_stop, ("late", 0), ("unready", 1)],
    [("drain", None), ("late", 0), ("undrain", None)],
    [("late", 0), ("time", 11.0)],
]
health_histories = st.builds(
    lambda before, failed, between, turn: before + failed + between + turn,
    st.lists(events | _checks, max_size=6),
    st.sampled_from(_failed_checks),
    st.lists(events | _checks, max_size=10),
    st.sampled_from(_turns),
)

drains = st.builds(
    m.DrainPolicy,
    probes=st.sampled_from([1, 1, PROBES, 0]),
    combine=st.sampled_from(["all", "any"]),
    when=st.sampled_from(["after-signal", "before-signal"]),
    start=st.booleans(),
    interval=st.sampled_from([0.1, 0.25, 1.0]),
    timeout=st.none() | st.none() | st.floats(0.05, 15),
    min_drain=st.just(0.0) | st.floats(0, 3),
    confirm=st.integers(1, 3),
    linger=st.floats(0, 3) | st.floats(0, 3) | st.none(),
)
policies = st.builds(
    m.Policy,
    programs=st.lists(
        st.builds(
            m.ProgramPolicy,
            stop_timeout=st.none() | st.none() | st.floats(0, 15),
            escalation=st.just(()) | st.just((m.Rung(1, INT), m.Rung(2.5, QUIT))),
            kill_mode=st.sampled_from(["mixed", "group", "process"]),
            propagation_delay=st.just(0.0) | st.floats(0, 10),
            pre_stop=st.booleans(),
            post_stop=st.booleans(),
            drain=drains | drains | st.just(m.DrainPolicy()),
            on_watchdog=st.sampled_from(["stop", "stop", "ignore"]),
        ),
        min_size=1,
        max_size=2,
    ).map(tuple),
    shutdown_timeout=st.floats(4, 25) | st.floats(0, 15),
    on_repeat=st.sampled_from(["escalate", "ignore"]),
    flush_timeout=st.floats(0, 2),
    push=st.booleans(),
)


def _restarting(policy: m.Policy) -> m.Policy:
    """Let every program be started again whenever it ends."""
    again = (replace(rules, restart="always") for rules in policy.programs)
    return replace(policy, programs=tuple(again))


# Of these a missed watchdog does not stop all: the program is aborted.
restarting_policies = st.builds(_restarting, policies)


def _asked(policy: m.Policy, restart: str, on_unhealthy: str) -> m.Policy:
    """Let every program be asked whether it is ready and healthy."""
    asked = (
        replace(rules, ready=True, live=True, restart=restart, on_unhealthy=on_unhealthy)
        for rules in policy.programs
    )
    return replace(policy, programs=tuple(asked))


ready_policies = st.builds(
    _asked,
    policies,
    st.sampled_from(["always", "always", "never"]),
    st.sampled_from(["restart", "restart", "stop", "tell"]),
)


def _in_order(policy: m.Policy, until: str) -> m.Policy:
    """Let the last program depend on the first."""
    first, *others = policy.programs
    if not others:
        return policy
    last = replace(others[-1], depends_on=((0, "started"),))
    return replace(policy, programs=(replace(first, until=until), *others[:-1], last))


ordered_policies = st.builds(_in_order, policies, st.sampled_from(["gone", "drained"]))

# A probe is honest or lies, changes its mind, falls silent, is slow; and it may well say in the end
# that it is drained.
_readings = st.sampled_from(
    [DRAINED] * 5 + [busy(), busy(7), busy(None), UNREACHABLE, UNREACHABLE, INVALID, FAILED, None]
)
_changes = st.lists(st.tuples(st.floats(0, 10) | st.floats(0, 60), _readings), max_size=6)
_latencies = st.sampled_from([0.0, 0.001, 0.001, 0.3, 1.9, 5.0])


def _scripted(
    first: m.Reading | None, changes: list[tuple[float, m.Reading | None]], latency: float
) -> Probe:
    return says((-1, first), *sorted(changes, key=lambda change: change[0]), latency=latency)


probes = st.builds(_scripted, _readings, _changes, _latencies)
hooks = st.builds(Hook, st.none() | st.floats(0, 12), st.booleans())
worlds = st.tuples(
    st.fixed_dictionaries(dict.fromkeys(range(PROBES), probes)),
    st.fixed_dictionaries(dict.fromkeys(("pre_stop", "start", "post_stop", "push"), hooks)),
)


class Played:
    """What has become of a history.  Times are None where it has not come to that."""

    def __init__(self, policy: m.Policy, world: tuple[dict[int, Probe], dict[str, Hook]]) -> None:
        self.policy, self.s = policy, Simulation(policy, *world)
        self.began: float | None = None  # when the stop did
        self.requests: list[float] = []
        self.undrains = 0
        self.exits: dict[int, float] = {}  # of leaders, by program
        self.left: dict[int, bool] = {}  # what a leader has left behind is still there
        self._seen = 0  # commands up to which starts have been seen

    @property
    def stopping(self) -> bool:
        return isinstance(self.s.system, run_phases.ShuttingDown)

    def happen(self, kind: str, value: object) -> None:
        """Let one thing happen, if it can."""
        self._happen(kind, value)
        if self.began is None and not isinstance(self.s.system, run_phases.Up):
            self.began = self.s.now
        for _, command in self.s.log[self._seen :]:
            if isinstance(command, m.StartProgram):
                self.exits.pop(command.program, None)
        self._seen = len(self.s.log)

    def _happen(self, kind: str, value: object) -> None:
        s = self.s
        match kind, value:
            case "time", float(seconds):
                s.pass_time(seconds)
            case "signal", int(signum):
                if signum in self.policy.stop_on:
                    self.requests.append(s.now)
                s.signal(signum)
            case "stop", bool(failure):
                if not failure:
                    self.requests.append(s.now)
                s.feed(m.StopRequested("somebody", s.now, failure))
            case "drain", _:
                s.feed(m.DrainRequested(s.now))
            case "undrain", _:
                self.undrains += 1
                s.feed(m.UndrainRequested(s.now))
            case "leader", (int(i), (int(status), int(signum)), bool(left)) if self._lives(i):
                self.exits[i], self.left[i] = s.now, left
                s.feed(m.LeaderExited(i, status, signum, left, s.now))
            case "gone", int(i) if self.left.get(i):
                self.left[i] = False
                s.rest_goes(i)
            case "ended", int(i) if i < len(self.policy.programs):
                s.feed(m.MemberEnded(i, s.now))
            case "tree", (int(i), tree) if i < len(self.policy.programs) and self.began is None:
                assert callable(tree)
                s.trees[i] = tree(i)
            case "extend", (int(i), float(seconds)) if self._lives(i):
                s.feed(m.TimeExtended(i, seconds, s.now))
            case "watchdog", int(i) if self._lives(i):
                s.misses_watchdog(i)
            case "ready", int(i) if self._lives(i):
                s.feed(m.ProgramReady(i, s.now))
            case "unready", int(i) if self._lives(i):
                s.feed(m.ProgramUnready(i, "503", s.now))
            case "late", int(i) if self._lives(i):
                s.feed(m.NotReadyInTime(i, "refused", s.now))
            case "hangs", int(i) if self._lives(i):
                s.feed(m.ProgramUnhealthy(i, "no answer", s.now))
            case "heals", int(i) if self._lives(i):
                s.feed(m.ProgramHealthy(i, s.now))
            case "unsent", int(connections):
                s.unsent = connections

    def _lives(self, i: int) -> bool:
        return i < len(self.policy.programs) and i not in self.exits

    def signalled(self, i: int) -> float | None:
        """When the leader of program *i* was sent its stop signal."""
        sends = (m.SendLeader, m.SendGroup)
        times = [
            at
            for at, c in self.s.log
            if isinstance(c, sends) and c.program == i and c.signum == TERM
        ]
        assert len(times) <= 1, f"the stop signal was sent at {times}"
        return times[0] if times else None

    def last_signal(self, i: int, at: float) -> float:
        """When the last signal that is a decision of ours had gone to program *i* by *at*."""
        sends = (m.SendLeader, m.SendGroup, m.SendTo)
        return max(
            t
            for t, c in self.s.log
            if t <= at and isinstance(c, sends) and c.program == i and c.signum in (TERM, INT, QUIT)
        )

    def killed(self, i: int) -> float | None:
        """When program *i* was first sent SIGKILL."""
        return next(
            (at for at, c in self.s.log if isinstance(c, m.KillProgram) and c.program == i), None
        )

    def noted(
        self, i: int, kind: type[log_events.LogRecord]
    ) -> list[tuple[int, float, log_events.LogRecord]]:
        """What was reported of program *i*, of one kind, with places in the story and times."""
        return [
            (place, at, thing)
            for place, (at, thing) in enumerate(self.s.story)
            if isinstance(thing, kind) and getattr(thing, "program", None) == i
        ]

    def is_drained(self, i: int, place: int) -> bool:
        """Say whether program *i* is drained by what its probes had said up to a place in the
        story.

        That is: *confirm* DRAINED in a row, none of them before min_drain, since the drain began
        and since the last BUSY.
        """
        rules = self.policy.programs[i].drain
        said: list[tuple[float, int, str]] = []
        since = 0.0
        for at, thing in self.s.story[:place]:
            if isinstance(thing, m.StopAsking) and thing.program == i:
                since = 0.0
            elif isinstance(thing, m.Ask) and thing.program == i and not since:
                since, said = at, []
            elif isinstance(thing, m.Sampled) and thing.program == i:
                said.append((at, thing.probe, thing.reading.kind))
        combine = all if rules.combine == "all" else any
        counts = since + rules.min_drain
        return combine(
            _confirmed(
                [(at >= counts, kind) for at, which, kind in said if which == probe], rules.confirm
            )
            for probe in range(rules.probes)
        )


def _confirmed(said: list[tuple[bool, str]], confirm: int) -> bool:
    last_busy = max((n for n, (_, kind) in enumerate(said) if kind == m.BUSY), default=-1)
    since_then = [
        (counts, kind) for counts, kind in said[last_busy + 1 :] if counts or kind != m.DRAINED
    ]
    word = "".join("d" if kind == m.DRAINED else "-" for _, kind in since_then)
    return "d" * confirm in word


def play(
    policy: m.Policy,
    world: tuple[dict[int, Probe], dict[str, Hook]],
    history: list[tuple[str, object]],
) -> Played:
    """Play a history that could happen: a leader exits once, its rest goes after it."""
    played = Played(policy, world)
    for kind, value in history:
        if played.s.status is not None:
            break
        played.happen(kind, value)
    return played


def play_out(
    policy: m.Policy,
    world: tuple[dict[int, Probe], dict[str, Hook]],
    history: list[tuple[str, object]],
) -> Played:
    """Play a history, and then let pass so much time that a stop which has begun is over."""
    played = play(policy, world, history)
    if played.began is not None and played.s.status is None:
        played.s.pass_time(policy.shutdown_timeout + policy.flush_timeout + 5)
    return played
