"""A missed watchdog: one example a rule, then properties over any history."""

from __future__ import annotations

import pytest
from hypothesis import given, settings

from gracewrap.policy import log_events, readiness, run_end, watchdog_missed
from gracewrap.policy.model import (
    DrainPolicy,
    DrainRequested,
    KillProgram,
    PartRequested,
    Policy,
    ProgramPolicy,
    RestartWatchdog,
    SendGroup,
    SendLeader,
    SendTo,
    StartProgram,
    StopAsking,
    TimeExtended,
)
from gracewrap.policy.program_phases import ABORTED, GIVE_UP, OUT_OF_TIME
from histories import Played, play_out, restarting_policies, watchdog_histories, worlds
from simulation import Body, Simulation, simulate

ABRT, TERM, INT, QUIT, CONT = 6, 15, 2, 3, 18
EPSILON = 0.01
ABORT = (SendLeader(0, ABRT), SendLeader(0, CONT))
DEAF = Body(stops=None, aborts=None)


def restarting(body: Body | None = None, budget: float = 25.0, **rules: object) -> Simulation:
    """Return a simulation of a program that is started again when it fails, beside another one."""
    again = ProgramPolicy(name="web", **{"restart": "on-failure", **rules})  # type: ignore[arg-type]
    policy = Policy((again, ProgramPolicy(name="db")), budget, flush_timeout=0.0)
    return Simulation(policy, bodies=[body or Body(), Body()], started=(0, 1))


def killed(s: Simulation) -> list[float]:
    return s.times(KillProgram)


def reasons(s: Simulation) -> list[object]:
    return [event.why for event in s.reported(log_events.Kill)]


# What follows from it


def test_one_command_is_stopped_as_by_a_request_that_nobody_made():
    s = simulate(10)
    s.misses_watchdog(after=2.0)
    assert s.log == [(100, SendLeader(0, TERM)), (100, SendLeader(0, CONT))]
    assert s.reported(log_events.Watchdog) == [log_events.Watchdog(0, 2.0)]
    assert s.reported(log_events.StopRequested) == [
        log_events.StopRequested(0, "the watchdog was missed")
    ]
    s.signal(TERM)
    assert s.reported(log_events.AskedAgain) == [log_events.AskedAgain(TERM, "stopping already")]


def test_where_a_failure_is_the_end_of_all_they_are_stopped_in_order_and_not_aborted():
    s = restarting(restart="never")
    s.misses_watchdog()
    assert [c for _, c in s.deeds] == [SendLeader(0, TERM), SendLeader(1, TERM)]


def test_a_program_that_is_to_be_started_again_is_aborted_first():
    s = restarting(Body(aborts=0.5))
    s.misses_watchdog()
    assert s.log == [(100, ABORT[0]), (100, ABORT[1])]
    assert s.reported(log_events.WatchdogAbort) == [log_events.WatchdogAbort(0, ABRT, 5.0)]
    s.pass_time(2)
    assert s.starts == [1, 0]
    assert s.reported(log_events.LeaderExited) == [
        log_events.LeaderExited(0, 134, ABRT, False, asked=False, then="restart")
    ]
    assert not killed(s)


def test_a_failure_that_is_ignored_leaves_it_down():
    s = restarting(Body(aborts=0.5, rest=0.0), restart="never", on_failure="ignore")
    s.misses_watchdog()
    s.pass_time(2)
    assert s.starts == [0, 0] and s.reported(log_events.ProgramEnded) == [
        log_events.ProgramEnded(0, 134)
    ]


def test_after_max_restarts_a_missed_watchdog_is_the_end_of_all():
    s = restarting(Body(aborts=0.5), max_restarts=1)
    s.misses_watchdog()
    s.pass_time(2)
    s.misses_watchdog()
    assert [c for _, c in s.deeds][-2:] == [SendLeader(0, TERM), SendLeader(1, TERM)]


@pytest.mark.parametrize(("limit", "at"), [(None, 100 + watchdog_missed.ABORT_TIME), (2.0, 102)])
def test_what_does_not_end_by_sigabrt_is_killed_with_a_kill_event_and_started_again(limit, at):
    s = restarting(DEAF, stop_timeout=limit)
    s.misses_watchdog()
    s.pass_time(10)
    assert killed(s) == [at]
    assert s.reported(log_events.Kill) == [log_events.Kill(0, ABORTED, True)]
    assert s.starts == [1, 0] and s.reported(log_events.Restarts)[0].status == 137


def test_while_it_is_aborted_it_is_not_ready_and_signals_are_still_forwarded():
    s = restarting(DEAF)
    assert readiness.is_ready(s.system)
    s.misses_watchdog()
    assert not readiness.is_ready(s.system)
    s.signal(QUIT)
    assert SendLeader(0, QUIT) in s.commands


@pytest.mark.parametrize("restart", ["never", "on-failure"])
def test_a_program_that_waits_for_its_turn_in_a_restart_owes_no_more_signs_of_life(restart):
    """Neither are all stopped, nor does SIGABRT come before the stop signal, with a time of its own
    beyond the end of the budget."""
    db = ProgramPolicy(name="db", restart=restart)
    web = ProgramPolicy(name="web", depends_on=((0, "started"),))
    policy = Policy((db, web), shutdown_timeout=10.0, flush_timeout=0.0)
    s = Simulation(policy, bodies=[DEAF, Body(stops=6.0)], started=(0, 1))
    s.feed(PartRequested((0,), "gracewrap restart db", True, s.now))
    s.pass_time(5)
    s.misses_watchdog()
    s.pass_time(6)
    sent = [(at, c) for at, c in s.deeds if isinstance(c, SendLeader | KillProgram)]
    assert sent == [(100, SendLeader(1, TERM)), (106, SendLeader(0, TERM)), (110, KillProgram(0))]
    assert s.starts == [1, 1] and not s.reported(log_events.StopRequested)


def test_a_second_miss_changes_nothing():
    s = restarting(DEAF)
    s.misses_watchdog()
    s.pass_time(1)
    s.misses_watchdog()
    s.pass_time(10)
    assert killed(s) == [105]
    assert (
        len(s.reported(log_events.Watchdog)) == 2 and len(s.reported(log_events.WatchdogAbort)) == 1
    )


def test_what_is_only_being_drained_is_aborted_and_its_probes_are_asked_no_more():
    s = restarting(DEAF, drain=DrainPolicy(probes=1))
    s.feed(DrainRequested(s.now))
    assert s.under_way == {(0, 0)}
    s.misses_watchdog()
    assert s.commands[-3:] == [StopAsking(0), *ABORT] and not s.under_way


# on_watchdog = "ignore"


def test_an_ignored_miss_is_logged_and_the_watchdog_counts_again():
    s = restarting(DEAF, on_watchdog="ignore")
    for _ in range(2):
        s.misses_watchdog()
        s.pass_time(10)
    assert s.commands == [RestartWatchdog(0)] * 2
    assert len(s.reported(log_events.Watchdog)) == 2 and readiness.is_ready(s.system)


def test_an_ignored_miss_in_a_stop_counts_again_too():
    s = simulate(10, on_watchdog="ignore")
    s.signal(TERM)
    s.misses_watchdog()
    assert s.commands[2:] == [RestartWatchdog(0)]


# A stop while it is aborted


def test_what_is_being_stopped_owes_no_more_signs_of_life():
    s = simulate(10)
    s.signal(TERM)
    s.misses_watchdog()
    s.pass_time(9.9)
    assert s.commands == [SendLeader(0, TERM), SendLeader(0, CONT)]
    assert len(s.reported(log_events.Watchdog)) == 1


def test_a_stop_gives_it_the_rest_of_the_budget_and_no_second_signal():
    s = restarting(DEAF)
    s.misses_watchdog()
    s.pass_time(3)
    s.signal(TERM)
    s.pass_time(30)
    assert [c for _, c in s.deeds if getattr(c, "program", 1) == 0][:2] == [
        SendLeader(0, ABRT),
        KillProgram(0),
    ]
    assert killed(s) == [128]
    assert reasons(s) == [OUT_OF_TIME]
    assert s.status == 137


@pytest.mark.parametrize(
    ("limit", "stop_at", "budget", "at"),
    [
        (2.0, 1.0, 25.0, 103.0),  # the stop's own time ends later
        (10.0, 1.0, 4.0, 105.0),  # but never beyond the end of the budget
        (0.5, 0.25, 25.0, 100.75),
    ],
)
def test_of_both_times_the_later_one_counts_up_to_the_end_of_the_budget(limit, stop_at, budget, at):
    s = restarting(DEAF, budget, stop_timeout=limit)
    s.misses_watchdog()
    s.pass_time(stop_at)
    s.signal(TERM)
    s.pass_time(30)
    assert killed(s) == [at]


def test_a_part_that_is_stopped_while_it_is_aborted_is_started_again_if_that_was_asked_for():
    s = restarting(DEAF, stop_timeout=2.0)
    s.misses_watchdog()
    s.pass_time(1)
    s.feed(PartRequested((0,), "gracewrap restart web", True, s.now))
    s.pass_time(10)
    assert killed(s) == [103] and s.starts == [1, 0]
    assert not s.reported(log_events.Restarts)


def test_the_stop_of_all_takes_over_the_time_that_the_stop_of_a_part_gave_it():
    s = restarting(DEAF, stop_timeout=2.0)
    s.misses_watchdog()
    s.feed(PartRequested((0,), "gracewrap stop web", False, s.now))
    s.pass_time(1)
    s.signal(TERM)
    s.pass_time(10)
    assert killed(s) == [102]


def test_what_others_depend_on_is_ended_by_its_abort_before_its_turn():
    """It has had its signal; the one that is stopped before it has its own time all the same."""
    rules = (
        ProgramPolicy(name="db", restart="always"),
        ProgramPolicy(name="web", depends_on=((0, "started"),)),
    )
    bodies = [Body(aborts=4.0), Body(stops=6.0, rest=0.0)]
    s = Simulation(Policy(rules, 25.0, flush_timeout=0.0), bodies=bodies, started=(0, 1))
    s.misses_watchdog(0)
    s.pass_time(1)
    s.signal(TERM)
    s.pass_time(20)
    assert [i for _, i in s.ends] == [0, 1]
    assert [c for _, c in s.deeds][:2] == [SendLeader(0, ABRT), SendLeader(1, TERM)]
    assert s.status == 134 and s.log[-1][0] == 107


def test_what_is_left_after_sigabrt_is_sent_the_stop_signal_and_has_the_rest_of_the_time():
    s = restarting(Body(aborts=3.0, rest=None), budget=10.0)
    s.misses_watchdog()
    s.pass_time(1)
    s.signal(TERM)
    s.pass_time(20)
    assert s.times(SendTo) == [103]
    assert killed(s) == [111]


def test_more_time_is_given_in_a_stop_only():
    s = restarting(DEAF, stop_timeout=2.0)
    s.misses_watchdog()
    s.feed(TimeExtended(0, 8.0, s.now))
    s.pass_time(1)
    s.signal(TERM)
    s.feed(TimeExtended(0, 8.0, s.now))
    s.pass_time(30)
    assert killed(s) == [109]


def test_a_third_request_kills_it_at_once():
    s = restarting(DEAF)
    s.misses_watchdog()
    for _ in range(3):
        s.signal(TERM)
        s.pass_time(1)
    assert killed(s) == [102]


# Any history, any policy, any world


def lives(p: Played, i: int) -> list[list[tuple[float, object]]]:
    """Return what happened to program *i*, a list for each time that it was up."""
    found: list[list[tuple[float, object]]] = [[]]
    for at, thing in p.s.story:
        if getattr(thing, "program", None) == i:
            if isinstance(thing, StartProgram):
                found.append([])
            found[-1].append((at, thing))
    return found


@settings(max_examples=300, deadline=None)
@given(restarting_policies, worlds, watchdog_histories)
def test_any_sigkill_has_its_event_and_any_stop_ends_in_time(policy, world, history):
    p = play_out(policy, world, history)
    for i in range(len(policy.programs)):
        for life in lives(p, i):
            said = [at for at, thing in life if isinstance(thing, log_events.Kill)]
            kills = [at for at, thing in life if isinstance(thing, KillProgram)]
            assert bool(said) == bool(kills) and said[:1] == kills[:1]
    if p.began is not None:
        limit = policy.shutdown_timeout + GIVE_UP + policy.flush_timeout
        assert p.s.status is not None and p.s.log[-1][0] <= p.began + limit + EPSILON


@settings(max_examples=300, deadline=None)
@given(restarting_policies, worlds, watchdog_histories)
def test_no_sigkill_after_sigabrt_comes_before_its_time_and_no_other_signal_does(
    policy, world, history
):
    p = play_out(policy, world, history)
    for i, rules in enumerate(policy.programs):
        for life in lives(p, i):
            aborted = [at for at, c in life if c == SendLeader(i, ABRT)]
            if not aborted:
                continue
            assert len(aborted) == 1
            signals = [
                c
                for _, c in life
                if isinstance(c, SendLeader | SendGroup) and c.signum in (TERM, INT, QUIT)
            ]
            assert not signals
            kills = [at for at, thing in life if isinstance(thing, KillProgram)]
            left = any(isinstance(thing, SendTo | log_events.Leftover) for _, thing in life)
            if not kills or left or (len(p.requests) > 2 and policy.on_repeat == "escalate"):
                continue  # the leader had gone, or it was asked for
            own = watchdog_missed.ABORT_TIME if rules.stop_timeout is None else rules.stop_timeout
            promised = aborted[0] + own
            if p.began is not None and p.began < promised:
                budget_ends = p.began + policy.shutdown_timeout - run_end.final_reserve(policy)
                limit = rules.stop_timeout
                ends = budget_ends if limit is None else p.began + limit
                promised = min(budget_ends, max(promised, ends))
            assert kills[0] >= promised - EPSILON
