"""A rolling restart: one example a rule, then properties over any graph of programs."""

from __future__ import annotations

from hypothesis import given, settings
from hypothesis import strategies as st

from gracewrap.policy import log_events, readiness, stop_order
from gracewrap.policy.model import PartRequested, ProgramPolicy, RollingRestartRequested
from programs import (
    DB,
    STUCK,
    TERM,
    WEB,
    densities,
    graph,
    killed,
    launched,
    phases,
    rules,
    seeds,
    signalled,
    stop,
    world,
)
from simulation import Body, Simulation

HUP = 1
SIDE = rules("side")


def roll(s: Simulation) -> Simulation:
    s.feed(RollingRestartRequested(HUP, "SIGHUP from somebody", s.now))
    return s


def restarted(s: Simulation) -> list[object]:
    return [event.programs for event in s.reported(log_events.PartRequested)]


def test_sets_are_restarted_one_after_the_other_and_each_in_its_order():
    s = roll(world(DB, WEB, SIDE, bodies={0: Body(1), 1: Body(2), 2: Body(4)}))
    s.pass_time(60)
    assert s.reported(log_events.RollingRestart) == [
        log_events.RollingRestart("SIGHUP from somebody", waits=False)
    ]
    assert [(i, at) for at, i in launched(s)] == [(0, 103), (1, 103), (2, 107)]
    assert signalled(s) == {1: 100, 0: 102, 2: 103}
    assert restarted(s) == [(0, 1), (2,)]
    assert s.reported(log_events.PartRequested)[0].by == "SIGHUP from somebody"
    assert readiness.is_ready(s.system) and s.system.rolling is None


def test_the_next_set_waits_until_the_one_before_is_ready():
    s = world(rules("a", ready=True), rules("b", ready=True), bodies={0: Body(ready=3)})
    s.pass_time(5)
    roll(s).pass_time(2.5)
    assert launched(s) == [(105, 0)]
    s.pass_time(1)
    assert launched(s) == [(105, 0), (108, 1)]


def test_it_begins_when_all_that_is_to_be_up_is_ready():
    s = world(rules("a", ready=True), rules("b"), bodies={0: Body(ready=3)})
    roll(s)
    assert s.reported(log_events.RollingRestart)[0].waits is True and not signalled(s)
    s.pass_time(10)
    assert signalled(s) == {0: 103, 1: 106}


def test_asked_again_it_does_not_restart_twice_what_is_still_to_come():
    s = world(*(rules(name) for name in "abc"), bodies={0: Body(1)})
    roll(s).pass_time(0.5)
    roll(s).pass_time(20)
    assert [i for _, i in launched(s)] == [0, 1, 2, 0]


def test_what_has_completed_or_was_stopped_stays_so():
    oneshot = rules("migrate", oneshot=True)
    s = world(oneshot, rules("web"), rules("off"), bodies={0: Body(runs=((1, 0),))}, cold=True)
    s.pass_time(2)
    s.feed(PartRequested((2,), "gracewrap stop off", False, s.now))
    s.pass_time(2)
    roll(s).pass_time(20)
    assert s.starts == [1, 2, 1]
    assert phases(s) == ["Gone", "Running", "Gone"]


def test_it_waits_for_a_part_that_is_being_stopped():
    s = world(rules("a"), rules("b"), bodies={0: Body(4)})
    s.feed(PartRequested((0,), "gracewrap restart a", True, s.now))
    roll(s).pass_time(3)
    assert restarted(s) == [(0,)] and not s.reported(log_events.PartRefused)
    s.pass_time(20)
    assert restarted(s) == [(0,), (0,), (1,)]


def test_what_is_stuck_is_killed_within_the_budget_and_the_roll_goes_on():
    s = roll(world(rules("a"), rules("b"), bodies={0: STUCK}, shutdown_timeout=10))
    s.pass_time(60)
    assert killed(s) == {0: 110}
    assert [i for _, i in launched(s)] == [0, 1]


def test_a_stop_request_ends_it():
    s = roll(world(rules("a"), rules("b"), bodies={0: Body(2), 1: Body(1)}))
    s.pass_time(1)
    stop(s)
    assert launched(s) == [] and s.status == 0
    assert signalled(s) == {0: 100, 1: 101}


def test_in_a_stop_the_signal_is_dropped():
    s = world(rules("a"), rules("b"), bodies={0: Body(2), 1: Body(2)})
    s.signal(TERM)
    roll(s)
    assert s.reported(log_events.Dropped) == [log_events.Dropped(HUP)] and not s.reported(
        log_events.RollingRestart
    )
    s.pass_time(5)
    roll(s)
    assert s.status == 0


def finite(n: int, seed: int, edges: float) -> tuple[list[ProgramPolicy], list[Body]]:
    """Return programs that stop, and get ready, in a time that has an end."""
    programs, bodies = graph(n, seed, edges, 10.0, ready=True)
    for body in bodies:
        body.rest, body.ready = body.rest or 0.0, body.ready or 0.0
    return programs, bodies


def sets_of(programs: list[ProgramPolicy]) -> list[frozenset[int]]:
    if not any(one.depends_on or one.stop_after for one in programs):
        return [frozenset((i,)) for i in range(len(programs))]
    return stop_order.components(stop_order.order(programs), programs)


@settings(max_examples=150, deadline=None)
@given(st.integers(2, 12), seeds, densities)
def test_any_program_is_restarted_once_and_no_set_before_the_one_before_it_is_ready(n, seed, edges):
    programs, bodies = finite(n, seed, edges)
    s = world(*programs, bodies=dict(enumerate(bodies)), shutdown_timeout=20.0)
    s.pass_time(6)  # all are ready
    assert readiness.is_ready(s.system)
    roll(s)
    s.pass_time(30.0 * n)
    assert s.starts == [1] * n and readiness.is_ready(s.system)
    sets, began = sets_of(programs), signalled(s)
    assert restarted(s) == [tuple(sorted(one)) for one in sets]
    ready = {i: at for at, i in launched(s)}
    for at, event in s.story:
        if isinstance(event, log_events.ProgramReady):
            ready[event.program] = at
    for before, then in zip(sets, sets[1:]):
        assert min(began[i] for i in then) >= max(ready[i] for i in before)


@settings(max_examples=100, deadline=None)
@given(st.integers(2, 12), seeds, densities, st.floats(0, 60))
def test_any_rolling_restart_is_ended_by_a_stop_request(n, seed, edges, seconds):
    programs, bodies = finite(n, seed, edges)
    s = world(*programs, bodies=dict(enumerate(bodies)), shutdown_timeout=20.0)
    roll(s)
    s.pass_time(seconds)
    starts = list(s.starts)
    stop(s, 25)
    assert s.status is not None and s.starts == starts
    assert s.log[-1][0] <= 100 + seconds + 20 + 1.1
