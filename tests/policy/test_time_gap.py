"""gracewrap was not running for a while: nobody is punished for the gap, in no phase."""

from __future__ import annotations

from hypothesis import given, settings
from hypothesis import strategies as st

from gracewrap.policy import drain, log_events, program_phases, restart, run_phases, time_gap
from gracewrap.policy import model as m
from gracewrap.record import Record, replace
from programs import DB, STUCK, WEB, graph, killed, rules, signalled, stop, world
from simulation import Body, Hook, Simulation

# Fields of phases that are seconds, or numbers, and no times.
NO_TIMES = {"in_flight", "now", "least"}


def gap(s: Simulation, seconds: float) -> None:
    """Let everything stand still for a while, the programs, probes and hooks too."""
    s.now += seconds
    for things in (s._answers, s._coming):
        for key, (at, event) in things.items():
            things[key] = at + seconds, replace(event, at=at + seconds)  # type: ignore[index]
    s.feed(m.TimeGap(seconds, s.now))


def test_the_budget_goes_on_with_what_was_left_of_it():
    s = world(DB, WEB, bodies={0: Body(1), 1: Body(6)}, shutdown_timeout=10)
    s.signal(15)
    s.pass_time(4)
    gap(s, 60)
    s.pass_time(20)
    assert (killed(s), s.status) == ({}, 0)
    assert signalled(s) == {1: 100, 0: 166}
    (said,) = s.reported(log_events.TimeGap)
    assert said.seconds == 60


def test_where_it_only_waited_for_a_cpu_the_budget_of_a_stop_holds():
    s = world(rules("web", stop_timeout=5.0), bodies={0: STUCK})
    s.signal(15)
    s.pass_time(2)
    s.feed(m.TimeGap(1.5, s.now, busy=True))
    s.pass_time(20)
    assert killed(s) == {0: 105}
    (said,) = s.reported(log_events.CpuWait)
    assert said.seconds == 1.5


def test_where_it_only_waited_for_a_cpu_the_stop_of_a_part_is_over_in_time_too():
    s = world(rules("web", stop_timeout=5.0), rules("db"), bodies={0: STUCK})
    s.feed(m.PartRequested((0,), False, "gracewrap stop", s.now))
    began = s.now
    s.pass_time(2)
    s.feed(m.TimeGap(1.5, s.now, busy=True))
    assert s.commands[-1] == m.ExcuseWatchdog(1)
    s.pass_time(20)
    assert killed(s) == {0: began + 5}
    assert [said.seconds for said in s.reported(log_events.CpuWait)] == [1.5]


def test_where_it_only_waited_for_a_cpu_watchdogs_count_anew():
    s = world(rules("web"))
    s.feed(m.TimeGap(1.5, s.now, busy=True))
    assert s.commands[-1] == m.ExcuseWatchdog(0)


def test_what_is_stuck_is_killed_that_much_later():
    s = world(rules("web", stop_timeout=5.0), bodies={0: STUCK})
    s.signal(15)
    s.pass_time(2)
    gap(s, 30)
    s.pass_time(20)
    assert killed(s) == {0: 135}


def test_a_watchdog_counts_anew_where_it_counts():
    s = world(DB, WEB, rules("other"), bodies={1: STUCK})
    s.feed(m.PartRequested((1,), "somebody", False, s.now))
    gap(s, 2)
    assert s.commands[-2:] == [m.ExcuseWatchdog(0), m.ExcuseWatchdog(2)]
    stop(s, 1)
    before = len(s.commands)
    gap(s, 2)
    assert s.commands[before:] == [m.ShiftTimers(2)]


def test_hooks_have_what_was_left_of_their_time():
    hooks = {"post_stop": Hook(1.5)}
    s = world(rules("web", post_stop=True), hooks=hooks, bodies={0: Body(1)})
    s.signal(15)
    s.pass_time(1.5)
    gap(s, 100)
    s.pass_time(10)
    (ended,) = s.reported(log_events.HelperEnded)
    assert ended.ok and s.status == 0


def test_nothing_is_left_to_move_at_the_end():
    s = stop(world(DB))
    gap(s, 1)
    assert isinstance(s.commands[-1], m.Exit)


def test_every_time_in_the_system_is_moved():
    """A field that is neither known as a time nor as none would stay behind."""
    classes = [
        kind
        for module in (run_phases, program_phases, drain, restart)
        for kind in vars(module).values()
        if isinstance(kind, type)
        and issubclass(kind, Record)
        and kind.__module__ == module.__name__
    ]
    assert len(classes) > 20
    for kind in classes:
        for name, annotation in kind.__dict__.get("__annotations__", {}).items():
            if "float" in annotation and name != "kill_ats":
                assert time_gap.is_time(name) != (name in NO_TIMES), (kind, name)


def lengths(least: float, most: float) -> st.SearchStrategy[float]:
    """Times that are added without rounding: with it, 0.1 s after another a request may be the same
    one or not (SAME_REQUEST), as the clock stands."""
    return st.integers(int(64 * least), int(64 * most)).map(lambda number: number / 64)


@settings(max_examples=150, deadline=None)
@given(
    st.integers(1, 6),
    st.integers(0, 2**32),
    st.floats(0, 4),
    lengths(1, 30),
    st.lists(st.tuples(lengths(0, 12), st.booleans(), lengths(0.5, 100)), max_size=5),
)
def test_a_gap_changes_nothing_but_the_time(n, seed, edges, budget, turns):
    programs, bodies = graph(n, seed, edges, budget, ready=True)
    worlds = [
        world(*programs, bodies=dict(enumerate(bodies)), shutdown_timeout=budget, cold=True)
        for _ in range(2)
    ]
    plain, with_gaps = worlds
    for seconds, asks, away in turns:
        for s in worlds:
            s.pass_time(seconds)
            if asks and s.status is None:
                s.signal(15)
        if with_gaps.status is None:
            gap(with_gaps, away)
    for s in worlds:
        s.pass_time(3 * budget + 20)

    def done(s: Simulation) -> list[m.Command]:
        return [c for c in s.commands if not isinstance(c, m.ShiftTimers | m.ExcuseWatchdog)]

    assert [replace(c, until=0) if isinstance(c, m.RunHelper) else c for c in done(plain)] == [
        replace(c, until=0) if isinstance(c, m.RunHelper) else c for c in done(with_gaps)
    ]
