"""Several programs under one budget: started in order, started again, stopped in the inverse order,
and never over the total."""

from __future__ import annotations

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from gracewrap.policy import budget as budget_
from gracewrap.policy import log_events, readiness, restart, run_phases, step, stop_order
from gracewrap.policy import model as m
from gracewrap.policy.model import (
    SendLeader,
    SendTo,
)
from gracewrap.policy.program_phases import DEAD, GIVE_UP, KILL_AGAIN
from gracewrap.record import replace
from programs import (
    DB,
    EPSILON,
    STUCK,
    WEB,
    WORKER,
    budgets,
    densities,
    graph,
    killed,
    launched,
    near,
    phases,
    rules,
    seeds,
    signalled,
    sizes,
    stop,
    world,
)
from simulation import DRAINED, Body, Simulation, busy, says

INT, TERM, USR1, CONT = 2, 15, 10, 18


# The order of the stop


def test_what_depends_on_others_is_stopped_before_them_and_side_by_side():
    s = stop(world(DB, WEB, WORKER, bodies={0: Body(1), 1: Body(2), 2: Body(5)}))
    assert signalled(s) == {1: 100, 2: 100, 0: 105}
    assert s.ends == [(102, 1), (105, 2), (106, 0)]
    assert (s.status, s.log[-1][0], killed(s)) == (0, 106, {})


def test_what_has_to_wait_runs_on_and_says_for_whom():
    s = stop(world(DB, WEB, WORKER, bodies={1: Body(2), 2: Body(5)}), 3)
    assert phases(s) == ["Running", "Gone", "Stopping"]
    assert run_phases.waits_for(s.system, s.policy, 0) == (2,)
    assert run_phases.waits_for(s.system, s.policy, 2) == ()
    assert s.reported(log_events.StopWaits) == [log_events.StopWaits(0, (1, 2))]
    s.signal(USR1)
    assert SendLeader(0, USR1) in s.commands


def test_a_start_that_is_answered_after_the_stop_request_is_stopped_without_a_delay():
    """It was carried out a moment before: the log said "still serving for 1 ms, for load balancers
    to notice"."""
    policy = m.Policy((rules("a"),), shutdown_timeout=30.0)
    known, commands = step.step(run_phases.begin(policy, (), 100.0), m.Tick(100.0), policy)
    assert commands == (m.StartProgram(0),)
    known, _ = step.step(known, m.StopRequested("somebody", 100.5), policy)
    known, commands = step.step(known, m.ProgramStarted(0, 100.4), policy)
    assert SendLeader(0, TERM) in commands
    assert not [one for one in commands if isinstance(one, log_events.Serving)]


def test_gone_means_that_nothing_is_left():
    s = stop(world(DB, WEB, bodies={1: Body(2, rest=3.0)}))
    assert signalled(s) == {1: 100, 0: 105}


def test_stop_after_counts_only_at_the_stop():
    s = world(rules("proxy", stop_after=(1,)), rules("web"), bodies={1: Body(4)}, cold=True)
    s.pass_time(1)
    assert launched(s) == [(100, 0), (100, 1)]
    stop(s)
    assert signalled(s) == {1: 101, 0: 105}


def test_the_order_holds_across_what_is_gone_already():
    """web needs migrate, migrate needs db: web is stopped before db."""
    s = world(
        DB,
        rules("migrate", 0, oneshot=True),
        rules("web", (1, "completed")),
        bodies={1: Body(runs=((1, 0),)), 2: Body(3)},
    )
    s.pass_time(2)
    stop(s)
    assert signalled(s) == {2: 102, 0: 105}


def test_until_drained_is_enough_if_that_is_asked_for():
    drain = m.DrainPolicy(probes=1, linger=None)
    s = world(
        rules("db", until="drained"),
        rules("web", 0, drain=drain),
        bodies={1: Body(14)},
        probes={0: says((0, busy()), (4, DRAINED))},
    )
    stop(s)
    assert signalled(s) == {1: 100, 0: near(104.25)}
    assert [i for _, i in s.ends] == [0, 1]


def test_without_a_request_it_is_not_drained_while_something_shows_work():
    """It may have a job, which needs the database; at last, it is gone."""
    drain = m.DrainPolicy(probes=1, linger=None, requests_only=True)
    at_work = replace(DRAINED, work="used connections: 127.0.0.1:5432")
    for script, seconds in (((4, DRAINED),), 104), ((), 114):
        s = world(
            rules("db", until="drained"),
            rules("web", 0, drain=drain),
            bodies={1: Body(14)},
            probes={0: says((0, at_work), *script)},
        )
        stop(s)
        assert signalled(s) == {1: 100, 0: near(seconds)}


def test_a_program_that_dies_by_itself_while_it_waits_is_not_missed():
    s = world(DB, WEB, bodies={0: Body(runs=((3, 5),)), 1: Body(6)})
    stop(s)
    assert signalled(s) == {1: 100}
    assert (s.status, s.log[-1][0]) == (5, 106)


def test_what_a_waiting_program_leaves_when_it_dies_is_not_lost():
    s = world(DB, WEB, bodies={0: Body(rest=2.0, runs=((3, 5),)), 1: Body(6)})
    stop(s)
    assert s.ends == [(105, 0), (106, 1)]


def test_a_circle_is_no_reason_to_hang():
    """It is refused before the start; should that fail, the stop still ends."""
    s = stop(world(rules("a", 1), rules("b", 0), bodies={0: STUCK, 1: STUCK}))
    assert s.status == 137
    assert s.log[-1][0] <= 130 + EPSILON


# One budget


def test_three_stuck_programs_in_a_chain_are_each_stopped_gracefully_and_all_is_over_in_time():
    s = stop(world(DB, rules("queue", 0), rules("web", 1), bodies=dict.fromkeys(range(3), STUCK)))
    assert signalled(s) == {2: 100, 1: near(126), 0: near(128)}
    assert killed(s) == {2: 126, 1: near(128), 0: 130}
    assert (s.status, s.log[-1][0]) == (137, near(130))


def test_what_an_earlier_wave_does_not_use_flows_on():
    s = stop(world(DB, rules("queue", 0), rules("web", 1), bodies={0: STUCK, 1: STUCK, 2: Body(1)}))
    assert signalled(s) == {2: 100, 1: 101, 0: near(128)}
    s = stop(
        world(DB, rules("queue", 0), rules("web", 1), bodies={0: STUCK, 1: Body(1), 2: Body(1)})
    )
    assert (signalled(s), killed(s)) == ({2: 100, 1: 101, 0: 102}, {0: 130})


def test_half_of_the_budget_is_not_kept_for_what_needs_a_moment():
    s = stop(world(DB, rules("worker", 0), bodies={0: Body(0.1), 1: Body(6)}, shutdown_timeout=10))
    assert (killed(s), s.status) == ({}, 0)
    assert signalled(s) == {1: 100, 0: 106}


def test_what_is_killed_before_the_budget_ends_says_for_whom_the_rest_is_kept():
    late = rules("web", 1, stop_timeout=4.0), rules("side", post_stop=True)
    s = stop(
        world(DB, rules("api", 0), *late, bodies=dict.fromkeys(range(4), STUCK)),
    )
    said = {c.program: c for _, c in s.story if isinstance(c, log_events.Kill)}
    assert (said[2].limit, said[2].left, said[2].kept_for) == ("stop_timeout", near(26), ())
    assert (said[1].limit, said[1].left, said[1].kept_for) == ("", near(4), (0,))
    for last in (said[0], said[3]):  # what is left is kept for post_stop
        assert (last.limit, last.left, last.kept_for) == ("", near(2), ())
    s = stop(world(DB, bodies={0: STUCK}))
    (kill,) = s.reported(log_events.Kill)
    assert kill.left == 0


def test_a_stop_timeout_is_kept_for_a_later_wave_and_limits_it():
    s = stop(world(rules("db", stop_timeout=5.0), WEB, bodies=dict.fromkeys(range(2), STUCK)))
    assert killed(s) == {1: 125, 0: near(130)}
    s = stop(world(rules("db", stop_timeout=5.0), WEB, bodies={0: STUCK, 1: Body(2)}))
    assert killed(s) == {0: 107}


def test_a_reserve_is_kept_and_limits_nothing():
    s = stop(world(rules("db", reserve=5.0), WEB, bodies=dict.fromkeys(range(2), STUCK)))
    assert killed(s) == {1: 125, 0: 130}
    s = stop(world(rules("db", reserve=5.0), WEB, bodies={0: STUCK, 1: Body(2)}))
    assert killed(s) == {0: 130}


def test_what_is_stopped_first_has_all_but_what_is_kept_for_those_that_come_after():
    chain = [rules("a"), rules("b", 0), rules("c", 1), rules("d", 2), rules("x"), rules("y", 4)]
    s = stop(world(*chain, bodies=dict.fromkeys(range(6), STUCK), shutdown_timeout=20))
    assert killed(s) == {3: 114, 2: near(116), 1: near(118), 0: 120, 5: 118, 4: 120}


def test_a_claim_beside_a_chain_takes_nothing_from_it():
    """The database is shared with one that claims 20 s of 30: web has more than that."""
    s = stop(
        world(
            DB,
            rules("web", 0),
            rules("worker", 0, stop_timeout=20.0),
            bodies=dict.fromkeys(range(3), STUCK),
        )
    )
    assert killed(s) == {1: 128, 2: 120, 0: 130}


def test_a_restart_keeps_no_time_for_what_has_completed():
    bodies = {0: Body(runs=((1.0, 0), (1.0, 0))), 1: STUCK}
    s = world(
        rules("migrate", oneshot=True),
        rules("web", (0, "completed")),
        bodies=bodies,
        cold=True,
        shutdown_timeout=20,
    )
    s.pass_time(5)
    s.feed(m.PartRequested((0,), "somebody", True, s.now))
    s.pass_time(30)
    assert killed(s) == {1: 125}


def test_claims_that_cannot_be_met_are_cut_in_proportion():
    s = world(
        rules("db", stop_timeout=10.0),
        rules("web", 0, stop_timeout=30.0),
        bodies=dict.fromkeys(range(2), STUCK),
        shutdown_timeout=20,
    )
    stop(s)
    assert killed(s) == {1: 115, 0: near(120)}


def test_what_claims_nothing_in_a_chain_that_is_full_still_has_a_moment():
    s = world(
        DB,
        rules("web", 0, stop_timeout=20.0),
        bodies=dict.fromkeys(range(2), STUCK),
        shutdown_timeout=20,
    )
    stop(s)
    assert signalled(s)[0] == near(120 - 2 * 20 / 22)
    assert killed(s)[0] == 120


def test_post_stop_hooks_have_what_is_kept_for_them():
    s = stop(
        world(
            rules("db", post_stop=True),
            WEB,
            bodies=dict.fromkeys(range(2), STUCK),
            shutdown_timeout=20,
        )
    )
    assert killed(s) == {1: near(116.2), 0: 118}


def test_post_stop_hooks_are_run_for_what_ran():
    s = stop(
        world(
            rules("db", post_stop=True, ready=True),
            rules("web", (0, "ready"), post_stop=True),
            cold=True,
        )
    )
    assert [c.program for c in s.commands if isinstance(c, m.RunHelper)] == [0]


def test_what_hangs_in_the_kernel_does_not_take_the_others_their_time():
    s = stop(
        world(DB, WEB, bodies={0: Body(1.5), 1: Body(stops=None, dies=None)}, shutdown_timeout=20)
    )
    assert killed(s) == {1: 118}
    late = DEAD + KILL_AGAIN
    assert 118 + DEAD <= signalled(s)[0] <= 118 + late
    assert s.log[-1][0] <= 119.5 + late


def test_more_time_is_given_but_not_what_is_kept_for_the_next():
    db, web = rules("db", stop_timeout=5.0), rules("web", 0, stop_timeout=2.0)
    s = stop(world(db, web, bodies=dict.fromkeys(range(2), STUCK)), 1)
    s.feed(m.TimeExtended(1, 100, s.now))
    s.pass_time(40)
    assert killed(s) == {1: 125, 0: near(130)}


def test_load_balancers_have_noticed_when_it_is_the_next_one_s_turn():
    s = stop(
        world(
            rules("db", propagation_delay=5.0),
            rules("web", 0, propagation_delay=3.0),
            bodies={1: Body(4)},
        )
    )
    assert signalled(s) == {1: 103, 0: 107}


# Asked again


def test_a_second_request_skips_ahead_in_all_and_keeps_the_order():
    slow = {"propagation_delay": 10.0}
    s = world(
        rules("db", **slow),
        rules("web", 0, **slow),
        rules("worker", 0, **slow),
        bodies={1: Body(2), 2: Body(3)},
    )
    stop(s, 1)
    s.signal(TERM)
    s.pass_time(20)
    assert signalled(s) == {1: 101, 2: 101, 0: 104}


def test_after_a_second_request_what_it_skips_is_not_begun_in_those_that_come_later():
    """A pre_stop hook would be killed at once, and nobody is served any longer."""
    s = world(
        rules("db", propagation_delay=10.0, pre_stop=True), rules("web", 0), bodies={1: STUCK}
    )
    stop(s, 1)
    s.signal(TERM)
    s.pass_time(40)
    assert signalled(s)[0] > 101
    assert not s.times(m.RunHelper) and not s.reported(log_events.Serving)


def test_a_third_request_kills_all_at_once():
    s = world(DB, WEB, bodies=dict.fromkeys(range(2), STUCK))
    for _ in range(3):
        stop(s, 1)
    assert killed(s) == {0: 102, 1: 102}
    assert s.status == 137


# The start


def test_a_start_is_gated_by_what_is_depended_on():
    s = world(
        rules("db", ready=True),
        rules("migrate", (0, "ready"), oneshot=True),
        rules("web", (1, "completed")),
        rules("side", (2, "started")),
        bodies={0: Body(spawns=0.5, ready=2), 1: Body(runs=((3, 0),))},
        cold=True,
    )
    s.pass_time(1)
    assert (phases(s), run_phases.waits_for(s.system, s.policy, 1)) == (
        ["Running", "Pending", "Pending", "Pending"],
        (0,),
    )
    assert not readiness.is_ready(s.system)
    s.pass_time(10)
    assert launched(s) == [(100, 0), (102.5, 1), (105.5, 2), (105.5, 3)]
    assert phases(s) == ["Running", "Gone", "Running", "Running"]
    assert readiness.is_ready(s.system)


def test_one_start_at_a_time():
    """A stop request need not wait for all of them."""
    s = world(*(rules() for _ in range(5)), bodies={i: Body(spawns=1) for i in range(5)}, cold=True)
    s.pass_time(2.5)
    assert launched(s) == [(100, 0), (101, 1), (102, 2)]
    stop(s)
    assert len(launched(s)) == 3
    assert signalled(s) == {0: 102.5, 1: 102.5, 2: 103}
    assert s.status == 0


def test_a_oneshot_that_fails_stops_the_others_in_order():
    s = world(
        DB,
        rules("migrate", 0, oneshot=True),
        rules("web", (1, "completed")),
        bodies={0: Body(1), 1: Body(runs=((3, 4),))},
        cold=True,
    )
    s.pass_time(20)
    assert launched(s) == [(100, 0), (100, 1)]
    assert signalled(s) == {0: 103}
    assert (s.status, s.log[-1][0]) == (4, 104)


def test_what_is_to_complete_and_has_failed_is_not_followed_by_what_waits_for_it():
    """Although its failure is ignored: with nothing else to come, all is over, and it is the
    reason."""
    s = world(
        rules("warm", oneshot=True, on_failure="ignore"),
        rules("web", (0, "completed")),
        bodies={0: Body(runs=((3, 4),))},
        cold=True,
    )
    s.pass_time(20)
    assert not [at for i, at in launched(s) if i == 1]
    assert s.status == 4


def test_when_everything_has_completed_all_is_over():
    s = world(
        rules("a", oneshot=True),
        rules("b", (0, "completed"), oneshot=True),
        bodies=dict.fromkeys(range(2), Body(runs=((1, 0),))),
        cold=True,
    )
    s.pass_time(5)
    assert (s.status, s.log[-1][0]) == (0, 102)


def test_what_cannot_be_started_stops_the_others():
    s = world(DB, WEB, bodies={1: Body(fails=1)}, cold=True)
    s.pass_time(5)
    assert signalled(s) == {0: 100}
    assert s.status == 127


def test_what_cannot_be_started_may_be_tried_again():
    s = world(DB, rules("web", 0, restart="on-failure"), bodies={1: Body(fails=3)}, cold=True)
    s.pass_time(20)
    assert (s.starts, phases(s)) == ([1, 4], ["Running", "Running"])


# A stop request in each phase of the start


@pytest.mark.parametrize("seconds", [0.0, 0.25, 1.0, 2.0, 3.0, 3.25, 4.0, 6.0, 7.0])
def test_a_stop_in_each_phase_of_the_start_stops_what_is_up_in_order_and_starts_nothing_more(
    seconds,
):
    s = world(
        rules("db", ready=True),
        rules("migrate", (0, "ready"), oneshot=True),
        rules("web", (1, "completed"), restart="always"),
        bodies={
            0: Body(1, spawns=0.5, ready=2),
            1: Body(1, runs=((1, 0),)),
            2: Body(1, spawns=0.5, runs=((1, 3), (1, 3))),
        },
        cold=True,
    )
    s.pass_time(seconds)
    starts = list(s.starts)
    stop(s)
    assert s.starts == starts
    assert s.status in (0, 3)
    ended = {i: at for at, i in s.ends}
    assert all(signalled(s)[0] >= ended[i] for i in (1, 2) if i in ended)
    assert not killed(s)
    assert s.log[-1][0] <= 100 + seconds + 3


def test_a_stop_during_back_off_ends_it_at_once():
    s = world(
        rules("web", restart="always", back_off=m.BackOff(first=20.0)),
        bodies={0: Body(runs=((1, 3),))},
    )
    s.pass_time(5)
    assert phases(s) == ["BackingOff"]
    s.signal(TERM)
    assert (s.status, s.now) == (3, 105)


@pytest.mark.parametrize("budget", [10.0, 0.0])
def test_a_spawn_that_is_never_answered_does_not_outlast_the_budget(budget):
    s = world(DB, WEB, bodies={0: Body(spawns=None)}, cold=True, shutdown_timeout=budget)
    stop(s)
    assert s.log[-1][0] <= 100 + budget + GIVE_UP + EPSILON


def test_what_comes_up_after_it_was_to_be_killed_is_killed():
    s = world(DB, bodies={0: Body(spawns=3)}, cold=True, shutdown_timeout=2.5)
    stop(s)
    assert killed(s) == {0: 102.5}
    assert s.ends == [(near(103), 0)]


# Restarts


def test_a_program_is_started_again_after_pauses_that_grow_up_to_a_cap():
    back_off = m.BackOff(first=1.0, factor=3.0, cap=10.0, jitter=0.0)
    s = world(
        rules("web", restart="always", back_off=back_off), bodies={0: Body(runs=((1.0, 0),) * 5)}
    )
    s.pass_time(60)
    assert [at for at, _ in launched(s)] == [102, 106, 116, 127, 138]


def test_a_stable_time_starts_counting_anew():
    back_off = m.BackOff(first=1.0, jitter=0.0, stable=10.0)
    s = world(
        rules("web", restart="always", back_off=back_off),
        bodies={0: Body(runs=((1, 1), (1, 1), (10, 1), (1, 1)))},
    )
    s.pass_time(60)
    assert [at for at, _ in launched(s)] == [102, 105, 116, 119]


def test_jitter_only_ever_shortens_a_pause_and_is_the_same_for_the_same_seed():
    pauses = [
        restart.delay(rules(back_off=m.BackOff(first=8.0)), 0, restart.chance(7, i, 100))
        for i in range(200)
    ]
    assert 6.0 <= min(pauses) < 6.2 and 7.8 < max(pauses) <= 8.0
    assert pauses == [
        restart.delay(rules(back_off=m.BackOff(first=8.0)), 0, restart.chance(7, i, 100))
        for i in range(200)
    ]
    assert restart.delay(rules(), 10**6, 0.0) == 30.0


@pytest.mark.parametrize(
    ("then", "over"), [("shutdown", True), ("restart", True), ("ignore", False)]
)
def test_max_restarts_ends_it_and_what_was_said_about_a_failure_counts(then, over):
    s = world(
        DB,
        rules("web", 0, restart="on-failure", max_restarts=2, on_failure=then),
        bodies={1: Body(runs=((0.1, 9),) * 9)},
    )
    s.pass_time(20)
    assert s.starts[1] == 2
    assert (s.status == 9) == over
    assert (s.status is None) != over


@pytest.mark.parametrize(
    ("settings", "status", "again"),
    [
        ({}, 0, False),
        ({"restart": "on-failure"}, 0, False),
        ({"restart": "on-failure"}, 1, True),
        ({"restart": "always"}, 0, True),
        ({"on_exit": "restart"}, 0, True),
        ({"on_exit": "restart"}, 1, False),
        ({"on_failure": "restart"}, 1, True),
        ({"oneshot": True, "on_failure": "restart"}, 1, True),
    ],
)
def test_what_is_started_again(settings, status, again):
    s = world(DB, rules("web", **settings), bodies={1: Body(runs=((1, status),))})
    s.pass_time(5)
    assert s.starts[1] == again
    assert (s.status == status) != again


def test_what_a_leader_leaves_is_stopped_before_it_is_started_again():
    s = world(
        rules("web", restart="always", stop_timeout=4.0),
        bodies={0: Body(rest=None, runs=((1, 1),))},
    )
    s.pass_time(20)
    assert s.times(SendTo) == [101]
    assert killed(s) == {0: 105}
    assert launched(s)[0][0] > 105


def test_leftovers_of_a_program_to_be_started_again_have_no_more_time_than_the_stop_gives():
    s = world(DB, rules("web", 0, restart="always"), bodies={1: Body(rest=None, runs=((1, 1),))})
    s.pass_time(3)
    stop(s)
    assert killed(s) == {1: 131}
    assert signalled(s) == {0: near(131)}


def test_leftovers_cannot_put_the_restart_off_for_ever():
    s = world(
        rules("web", restart="always", stop_timeout=4.0),
        bodies={0: Body(rest=None, runs=((1, 1),))},
    )
    s.pass_time(2)
    s.feed(m.TimeExtended(0, 1000, s.now))
    s.pass_time(10)
    assert killed(s) == {0: 105}


def test_an_end_that_is_ignored_changes_nothing_for_the_others():
    s = world(
        DB, rules("side", on_exit="ignore", on_failure="ignore"), bodies={1: Body(runs=((1, 7),))}
    )
    s.pass_time(5)
    assert phases(s) == ["Running", "Gone"]
    assert stop(s).status == 0


def test_a_program_that_starts_again_while_all_are_drained_is_drained_too():
    drain = m.DrainPolicy(probes=1)
    s = world(
        rules("web", restart="always", drain=drain),
        bodies={0: Body(runs=((1, 1),))},
        probes={0: says((0, busy()))},
    )
    s.feed(m.DrainRequested(s.now))
    s.pass_time(5)
    assert (s.starts, phases(s)) == ([1], ["PreStop"])
    s.feed(m.UndrainRequested(s.now))
    assert readiness.is_ready(s.system)


# The exit status


def test_a_crash_stops_the_others_in_order_and_its_status_is_ours():
    s = world(
        DB,
        WEB,
        rules("worker", 0, on_failure="shutdown"),
        bodies={0: Body(1, 1), 1: Body(2, 143), 2: Body(runs=((3, 9),))},
    )
    s.pass_time(10)
    assert signalled(s) == {1: 103, 0: 105}
    assert (s.status, s.log[-1][0]) == (9, 106)


def test_exit_code_from_names_whose_status_counts():
    s = world(DB, WEB, bodies={0: Body(1, 5), 1: Body(2, 7)}, exit_code_from=0)
    assert stop(s).status == 5
    s = world(DB, WEB, bodies={0: Body(1, 5), 1: Body(2, 7)})
    assert stop(s).status == 7


def test_exit_code_from_a_program_that_never_ran_is_of_no_use():
    s = world(
        rules("a", oneshot=True),
        rules("web", (0, "completed")),
        bodies={0: Body(runs=((1, 4),))},
        cold=True,
        exit_code_from=1,
    )
    s.pass_time(5)
    assert s.status == 4


def test_success_codes_are_each_program_s_own_and_count_where_we_asked():
    asked = rules("a", success_exit_codes=frozenset({143}))
    s = world(asked, rules("b"), bodies={0: Body(1, 143), 1: Body(1, 0)})
    assert stop(s).status == 0
    s = world(asked, rules("b"), bodies={0: Body(1, 0), 1: Body(1, 143)})
    assert stop(s).status == 143
    s = world(
        asked, rules("b"), bodies={0: Body(1, 143), 1: Body(runs=((1, 0),))}
    )  # nobody asked us, but we asked it
    s.pass_time(5)
    assert s.status == 0


# A part of it: gracewrap stop NAME, gracewrap restart NAME


def test_a_part_is_stopped_with_what_depends_on_it_and_the_others_go_on():
    s = world(DB, WEB, rules("other"), bodies={0: Body(1), 1: Body(2)})
    s.feed(m.PartRequested((0,), "gracewrap stop db", False, s.now))
    s.pass_time(10)
    assert signalled(s) == {1: 100, 0: 102}
    assert phases(s) == ["Gone", "Gone", "Running"]
    assert s.reported(log_events.PartStopped) == [log_events.PartStopped((0, 1), False)]


def test_a_part_is_started_again_in_its_order():
    s = world(
        rules("db", ready=True),
        rules("web", (0, "ready")),
        rules("other"),
        bodies={0: Body(1, ready=4), 1: Body(2)},
    )
    s.pass_time(5)
    s.feed(m.PartRequested((0,), "gracewrap restart db", True, s.now))
    assert not readiness.is_ready(s.system)
    s.pass_time(20)
    assert launched(s) == [(108, 0), (112, 1)]
    assert readiness.is_ready(s.system)


def test_a_part_that_is_stuck_is_killed_within_the_budget():
    s = world(DB, WEB, rules("other"), bodies=dict.fromkeys(range(2), STUCK))
    s.feed(m.PartRequested((0,), "", False, s.now))
    s.pass_time(40)
    assert killed(s) == {1: 128, 0: 130}
    assert phases(s)[2] == "Running"


def test_the_late_exit_of_what_was_given_up_on_is_no_failure():
    s = world(
        rules("stuck"), rules("other"), bodies={0: Body(stops=None, dies=None)}, shutdown_timeout=5
    )
    s.feed(m.PartRequested((0,), "", False, s.now))
    s.pass_time(10)
    assert s.reported(log_events.GaveUp) and phases(s) == ["Gone", "Running"]
    s.leader_exits(137, 9)
    assert phases(s) == ["Gone", "Running"] and not s.reported(log_events.LeaderExited)
    stop(s)
    assert s.status == 0


def test_a_stop_while_a_part_is_stopped_takes_no_longer_and_starts_nothing_again():
    s = world(
        DB, WEB, rules("other", 1), bodies={0: STUCK, 1: STUCK, 2: Body(1)}, shutdown_timeout=20
    )
    s.feed(m.PartRequested((1,), "", True, s.now))
    s.pass_time(5)
    stop(s)
    assert s.starts == [0, 0, 0]
    assert killed(s)[0] <= 125
    assert s.log[-1][0] <= 125 + EPSILON


def test_one_part_at_a_time():
    s = world(DB, WEB, bodies=dict.fromkeys(range(2), STUCK))
    for i in (1, 0):
        s.feed(m.PartRequested((i,), "", True, s.now))
    assert len(s.reported(log_events.PartRefused)) == 1
    assert signalled(s) == {1: 100}


def test_a_part_does_not_wait_for_those_that_go_on():
    s = world(rules("log", stop_after=(1,)), rules("web"))
    s.feed(m.PartRequested((0,), "", False, s.now))
    s.pass_time(1)
    assert signalled(s) == {0: 100}
    assert phases(s) == ["Gone", "Running"]


def test_a_part_that_was_stopped_stays_so_whatever_its_restart_says():
    s = world(
        rules("web", restart="always"),
        rules("other", restart="always"),
        bodies={1: Body(runs=((3, 1),))},
    )
    s.feed(m.PartRequested((0,), "", False, s.now))
    s.pass_time(10)
    assert (s.starts, phases(s)) == ([0, 1], ["Gone", "Running"])


def test_a_part_that_was_down_is_started():
    s = world(rules("a", on_failure="ignore"), rules("b"), bodies={0: Body(runs=((1, 1),))})
    s.pass_time(2)
    s.feed(m.PartRequested((0,), "", True, s.now))
    s.pass_time(1)
    assert phases(s) == ["Running", "Running"]


# The graph


def test_sequence():
    found = stop_order.order([DB, WEB, WORKER, rules("proxy", stop_after=(1,))])
    assert found.before == ((1, 2), (), (), (1,))


@pytest.mark.parametrize(
    ("programs", "said"),
    [
        ([rules("a", 0)], "a depends on a"),
        ([rules("a", stop_after=(0,))], "a stops after a"),
        (
            [rules("web", 1), rules("db", 2), rules("queue", 0)],
            "web depends on db, db depends on queue, queue depends on web",
        ),
        ([rules("web", 1, stop_after=(1,)), rules("db")], "web depends on db, web stops after db"),
        ([rules("x"), rules("web", 2), rules("db", 1)], "web depends on db, db depends on web"),
    ],
)
def test_a_cycle_is_found_and_spelled_out(programs, said):
    circle = stop_order.cycle(programs)
    assert circle is not None
    assert stop_order.spelled(circle, programs) == said


def test_the_inverse_of_depends_on_said_twice_is_no_cycle():
    assert stop_order.cycle([rules("db", stop_after=(1,)), rules("web", 0)]) is None


def test_a_chain_that_cannot_fit_is_named_with_what_it_is_over():
    programs = [
        rules("db", stop_timeout=5.0),
        rules("web", 0, stop_timeout=20.0),
        rules("side", 0, stop_timeout=3.0),
    ]
    assert budget_.cannot_fit(stop_order.order(programs), programs, 20.0) == budget_.Overrun(
        (1, 0), 25.0, 5.0
    )
    assert budget_.cannot_fit(stop_order.order(programs), programs, 25.0) is None
    programs = [DB, rules("web", 0, stop_timeout=20.0)]
    assert budget_.cannot_fit(stop_order.order(programs), programs, 20.0) == budget_.Overrun(
        (1, 0), 22.0, 2.0
    )


# Any graph


def _not_before_its_turn(s: Simulation, the_order: stop_order.Order) -> None:
    """Nothing is told to stop before all are gone that have to be."""
    ends: dict[int, float] = {}
    for at, i in s.ends:
        ends[i] = at  # the last end: it may have been started again
    for i, at in signalled(s).items():
        seen, todo = {i}, [i]
        while todo:
            for first in the_order.before[todo.pop()]:
                if first not in seen:
                    seen.add(first)
                    todo.append(first)
                    assert first not in s.leaders | s.rests
                    assert ends.get(first, 0) <= at + 1e-9, (
                        f"{i} was told at {at}, {first} ended at {ends[first]}"
                    )


def _at_least(the_order: stop_order.Order, programs, budget: float) -> list[float]:
    """Return the seconds that each program has from its turn on, whatever the others do."""
    alive = frozenset(range(len(programs)))
    kill_ats = budget_.kill_times(the_order, programs, alive, 0.0, budget)
    found = []
    for i, rule in enumerate(programs):
        turn = max((kill_ats[first] for first in the_order.before[i]), default=0.0)
        limit = budget if rule.stop_timeout is None else rule.stop_timeout
        found.append(min(limit, kill_ats[i] - turn))
    return found


@settings(max_examples=120, deadline=None)
@given(sizes, seeds, densities, budgets)
@example(200, 12395, 0.0, 1.0)  # one exits by itself just when it is killed
def test_any_graph_is_stopped_in_order_and_in_time_and_gracefully_where_there_was_time(
    n, seed, edges, budget
):
    programs, bodies = graph(n, seed, edges, budget)
    the_order = stop_order.order(programs)
    assert stop_order.cycle(programs) is None
    s = world(*programs, bodies=dict(enumerate(bodies)), shutdown_timeout=budget)
    stop(s, budget + 3)
    assert isinstance(s.commands[-1], m.Exit)
    assert s.log[-1][0] <= 100 + budget + EPSILON
    assert all(at <= 100 + budget for at in killed(s).values())
    _not_before_its_turn(s, the_order)
    for i, limit in enumerate(_at_least(the_order, programs, budget)):
        body = bodies[i]
        if (
            body.stops is not None
            and body.rest is not None
            and body.stops + body.rest < limit - EPSILON
        ):
            assert i in signalled(s)
            assert i not in killed(s), f"{i} had {limit} and needs {body.stops + body.rest}"


@settings(max_examples=200, deadline=None)
@given(sizes, seeds, densities, budgets)
def test_what_is_kept_fits_and_claims_that_can_be_met_are(n, seed, edges, budget):
    programs, _ = graph(n, seed, edges, budget)
    the_order = stop_order.order(programs)
    kept = budget_.kept(the_order, programs, frozenset(range(n)), budget)
    assert max(budget_._longest(the_order.before, the_order.sequence, kept)) <= budget + 1e-6
    over = budget_.cannot_fit(the_order, programs, budget)
    for i, (rule, seconds) in enumerate(zip(programs, kept)):
        claim = budget_.claim(rule)
        assert seconds >= 0
        assert (
            _at_least(the_order, programs, budget)[i]
            >= min(seconds, budget if rule.stop_timeout is None else rule.stop_timeout) - 1e-6
        )
        if over is None:
            assert seconds == pytest.approx(min(2.0, budget / 10) if claim is None else claim)
    if over is not None:
        assert over.needed > budget
        assert all(
            first in the_order.before[then] for first, then in zip(over.chain, over.chain[1:])
        )


@settings(max_examples=200, deadline=None)
@given(st.integers(1, 9), seeds, densities, budgets)
def test_what_stops_first_has_all_but_what_is_kept_for_the_longest_chain_after_it(
    n, seed, edges, budget
):
    programs, _ = graph(n, seed, edges, budget)
    the_order = stop_order.order(programs)
    if budget_.cannot_fit(the_order, programs, budget) is not None:
        return  # what is kept is cut then
    small = min(2.0, budget / 10)
    needs = [small if (need := budget_.claim(one)) is None else need for one in programs]

    def after(i: int) -> float:
        return max((needs[j] + after(j) for j in the_order.after[i]), default=0.0)

    kill_ats = budget_.kill_times(the_order, programs, frozenset(range(n)), 0.0, budget)
    assert kill_ats == pytest.approx([budget - after(i) for i in range(n)])


@settings(max_examples=120, deadline=None)
@given(sizes, seeds, densities, budgets, st.floats(0, 40), st.integers(0, 3), st.booleans())
def test_any_start_that_is_interrupted_ends_in_order_and_in_time(
    n, seed, edges, budget, seconds, requests, part
):
    """Programs come up, get ready, crash and are started again; then a stop is asked for, perhaps
    again and again."""
    programs, bodies = graph(n, seed, edges, budget, ready=True, restart=True)
    s = world(*programs, bodies=dict(enumerate(bodies)), shutdown_timeout=budget, cold=True)
    s.pass_time(seconds / 2)
    if part and s.status is None:
        s.feed(m.PartRequested((seed % n,), "somebody", bool(seed % 2), s.now))
    s.pass_time(seconds / 2)
    by_itself = s.status is not None or not isinstance(s.system, run_phases.Up)
    began, starts = s.now, list(s.starts)
    for _ in range(0 if by_itself else 1 + requests):
        if s.status is None:
            s.signal(TERM)
        s.pass_time(0.2)
    s.pass_time(budget + 3)
    assert isinstance(s.commands[-1], m.Exit)
    assert s.log[-1][0] <= began + budget + EPSILON + 0.2
    assert s.starts == starts
    assert not s.leaders and not s.rests
    if requests < 2 and not part:
        _not_before_its_turn(s, stop_order.order(programs))


@settings(max_examples=60, deadline=None)
@given(sizes, seeds, densities)
def test_any_start_comes_after_what_it_needs(n, seed, edges):
    programs, bodies = graph(n, seed, edges, 10.0, ready=True)
    s = world(*programs, bodies=dict(enumerate(bodies)), cold=True)
    s.pass_time(100)
    at = {i: time for time, i in launched(s)}
    ready = {event.program for event in s.reported(log_events.ProgramReady)}
    for i, rule in enumerate(programs):
        for needed, condition in rule.depends_on:
            if i in at:
                assert at[needed] <= at[i]
                assert condition == "started" or needed in ready or not programs[needed].ready
        if i not in at:
            assert run_phases.waits_for(s.system, s.policy, i)
    assert not readiness.is_ready(s.system) or len(at) == n


def test_a_restart_does_not_pass_over_a_oneshot_that_had_completed():
    """web waits for migrate, and migrate for db: without it web would be up before db is ready
    again."""
    s = world(
        rules("db", ready=True),
        rules("migrate", (0, "ready"), oneshot=True),
        rules("web", (1, "completed")),
        bodies={0: Body(ready=3), 1: Body(runs=((1, 0), (1, 0)))},
        cold=True,
    )
    s.pass_time(10)
    assert phases(s) == ["Running", "Gone", "Running"]
    s.feed(m.PartRequested((0,), "gracewrap restart db", True, s.now))
    began = s.now
    s.pass_time(10)
    assert [(at - began, i) for at, i in launched(s) if at >= began] == [(0, 0), (3, 1), (4, 2)]
