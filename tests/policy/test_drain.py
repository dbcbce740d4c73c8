"""The drain in the policy, without a process and without a clock: one example a rule, then
properties over any history."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gracewrap.policy import log_events, readiness, run_end
from gracewrap.policy import model as m
from gracewrap.policy.model import (
    Ask,
    DrainRequested,
    Exit,
    KillProgram,
    Policy,
    ProgramPolicy,
    Rung,
    RunHelper,
    SendGroup,
    SendLeader,
    SendTo,
    StopAsking,
    StopHelper,
    StopRequested,
    TimeExtended,
    UndrainRequested,
)
from gracewrap.policy.program_phases import EARLY, GIVE_UP, RESERVE, RESERVE_PART, START_LIMIT
from gracewrap.record import replace
from histories import histories, play, play_out, policies, worlds
from simulation import (
    DRAINED,
    FAILED,
    INVALID,
    LEFT,
    PROBE_TIMEOUT,
    UNREACHABLE,
    Hook,
    Simulation,
    below_a_shell,
    busy,
    says,
    simulate,
)

INT, QUIT, USR1, TERM = 2, 3, 10, 15
EPSILON = 0.01
EXAMPLES = 200  # of each property
BEFORE = {"when": "before-signal"}


def near(at: float) -> object:
    return pytest.approx(at, abs=EPSILON)


def asked(s: Simulation) -> list[float]:
    return s.times(Ask)


def signalled(s: Simulation) -> list[float]:
    return s.times(SendLeader, SendGroup)


def killed(s: Simulation) -> list[float]:
    return s.times(KillProgram)[:1]


def stop(s: Simulation, seconds: float = 30.0) -> Simulation:
    """Ask for a stop, and let time pass."""
    s.signal(TERM)
    s.pass_time(seconds)
    return s


# When


def test_after_signal_asks_once_the_signal_is_sent():
    s = simulate(probe=says((0, busy())))
    s.signal(TERM)
    assert signalled(s) == [100]
    s.pass_time(1.1)
    assert asked(s) == pytest.approx([100, 100.25, 100.5, 100.75, 101])


def test_before_signal_holds_the_signal_back_until_drained():
    s = stop(simulate(probe=says((0, busy(3)), (4, DRAINED)), **BEFORE, linger=None), 10)
    assert signalled(s) == [near(104.25)]


def test_before_signal_does_not_hold_it_longer_than_leaves_it_a_tenth_of_the_budget():
    s = stop(simulate(10, probe=says((0, busy())), **BEFORE))
    assert signalled(s) == [109]
    assert killed(s) == [110]


def test_a_large_budget_leaves_the_signal_two_seconds():
    s = stop(simulate(100, probe=says((0, busy())), **BEFORE), 110)
    assert (signalled(s), killed(s)) == ([198], [200])


def test_before_signal_leaves_the_signal_its_stop_timeout():
    s = stop(simulate(10, probe=says((0, busy())), **BEFORE, stop_timeout=4.0))
    assert (signalled(s), killed(s)) == ([106], [110])


def test_a_stop_timeout_as_long_as_the_budget_leaves_nothing_to_hold_the_signal_for():
    s = stop(simulate(10, probe=says((0, busy())), **BEFORE, stop_timeout=10.0))
    assert (signalled(s), killed(s)) == ([100], [110])


def test_the_probes_go_on_after_a_signal_that_was_held():
    s = stop(simulate(10, probe=says((0, busy())), **BEFORE), 9.6)
    assert asked(s)[-1] > 109


# Propagation, pre_stop, start


def test_serves_on_for_the_propagation_delay_before_the_signal():
    s = stop(simulate(propagation_delay=5.0), 10)
    assert s.deeds == [(105, SendLeader(0, TERM))]


def test_the_drain_begins_after_the_propagation_delay():
    s = stop(simulate(probe=says((0, DRAINED)), propagation_delay=5.0, linger=None, **BEFORE), 10)
    assert asked(s)[0] == 105
    assert signalled(s) == [near(105.25)]


def test_a_propagation_delay_that_is_too_long_is_cut_for_the_signal():
    assert stop(simulate(10, propagation_delay=50.0)).deeds[:2] == [
        (109, SendLeader(0, TERM)),
        (110, KillProgram(0)),
    ]


def test_pre_stop_ends_and_the_signal_goes():
    s = stop(simulate(pre_stop=True, hooks={"pre_stop": Hook(2)}), 10)
    assert s.deeds == [(100, RunHelper(0, "pre_stop", 123)), (102, SendLeader(0, TERM))]


def test_pre_stop_runs_while_load_balancers_notice():
    s = stop(simulate(pre_stop=True, propagation_delay=3.0, hooks={"pre_stop": Hook(2)}), 10)
    assert signalled(s) == [103]


def test_a_pre_stop_that_fails_is_told_and_changes_nothing():
    s = stop(simulate(pre_stop=True, hooks={"pre_stop": Hook(2, ok=False)}), 10)
    assert signalled(s) == [102]
    assert [said.ok for said in s.reported(log_events.HelperEnded)] == [False]


def test_a_pre_stop_that_hangs_is_cut_for_the_signal():
    s = stop(simulate(10, pre_stop=True, hooks={"pre_stop": Hook(None)}), 9.5)
    assert signalled(s) == [109]
    assert not s.under_way


def test_the_start_of_the_drain_runs_once_after_the_delay_and_before_the_first_question():
    world = {"start": Hook(1)}
    s = stop(
        simulate(
            probe=says((0, DRAINED)),
            start=True,
            propagation_delay=5.0,
            hooks=world,
            linger=None,
            **BEFORE,
        ),
        10,
    )
    assert [at for at, c in s.log if isinstance(c, RunHelper)] == [105]
    assert asked(s)[0] == 106
    assert signalled(s) == [near(106.25)]


def test_without_a_probe_the_start_of_the_drain_is_run_and_the_signal_goes():
    assert signalled(stop(simulate(start=True, hooks={"start": Hook(1)}), 10)) == [101]


def test_a_start_of_the_drain_that_fails_does_not_keep_the_probes_from_being_asked():
    s = stop(
        simulate(
            probe=says((0, DRAINED)), start=True, hooks={"start": Hook(1, ok=False)}, **BEFORE
        ),
        10,
    )
    assert signalled(s) == [near(101.25)]


def test_a_start_of_the_drain_that_hangs_is_cut_for_the_signal():
    s = stop(simulate(10, start=True, hooks={"start": Hook(None)}), 9.5)
    assert signalled(s) == [109]


# What counts


@pytest.mark.parametrize("confirm", [1, 2, 5])
def test_drained_counts_when_it_was_said_so_often_in_a_row(confirm):
    s = stop(simulate(probe=says((0, DRAINED)), confirm=confirm, linger=None, **BEFORE), 10)
    assert signalled(s) == [near(100 + 0.25 * (confirm - 1))]


@pytest.mark.parametrize("between", [busy(), UNREACHABLE, INVALID, None])
def test_in_a_row_means_that_nothing_else_is_said_in_between(between):
    s = simulate(
        probe=says((0, DRAINED), (0.4, between), (2.3, DRAINED)), confirm=3, linger=None, **BEFORE
    )
    stop(s, 10)
    assert signalled(s)[0] >= 102.3 + 2 * 0.25


def test_no_reading_counts_before_min_drain():
    s = stop(simulate(probe=says((0, DRAINED)), min_drain=3.0, linger=None, **BEFORE), 10)
    assert signalled(s) == [near(103.25)]


def test_busy_before_min_drain_is_known():
    s = stop(
        simulate(
            probe=says((0, DRAINED), (2.9, busy(4)), (6, DRAINED)),
            min_drain=3.0,
            linger=None,
            **BEFORE,
        ),
        10,
    )
    assert signalled(s) == [near(106.25)]


def test_a_program_that_was_not_drained_in_the_drain_timeout_is_signalled():
    s = stop(simulate(probe=says((0, busy())), timeout=4.0, linger=None, **BEFORE))
    assert (signalled(s), killed(s)) == ([104], [125])


def test_the_drain_timeout_leaves_the_signal_its_own_time():
    s = stop(simulate(probe=says((0, busy())), timeout=4.0, stop_timeout=3.0, **BEFORE))
    assert (signalled(s), killed(s)) == ([104], [107])


def test_after_the_signal_a_program_that_was_not_drained_in_the_drain_timeout_is_killed():
    s = stop(simulate(probe=says((0, busy())), timeout=4.0))
    assert killed(s) == [104]


def test_of_stop_timeout_and_drain_timeout_after_the_signal_the_shorter_one_counts():
    assert killed(stop(simulate(probe=says((0, busy())), timeout=4.0, stop_timeout=3.0))) == [103]
    assert killed(stop(simulate(probe=says((0, busy())), timeout=4.0, stop_timeout=5.0))) == [104]


def test_once_drained_the_drain_timeout_is_over_and_the_program_may_finish():
    s = stop(
        simulate(probe=says((0, busy()), (3, DRAINED)), timeout=4.0, stop_timeout=10.0, linger=None)
    )
    assert killed(s) == [110]
    s = stop(simulate(probe=says((0, busy()), (3.2, DRAINED)), timeout=4.0, linger=2.0))
    assert killed(s) == [near(105.5)]


def test_all_probes_have_to_say_so():
    probes = {0: says((0, DRAINED)), 1: says((0, busy()), (5, DRAINED))}
    assert signalled(stop(simulate(probes=probes, **BEFORE), 20)) == [near(105.25)]


def test_any_probe_is_enough_if_that_is_asked_for():
    probes = {0: says((0, busy())), 1: says((0, busy()), (5, DRAINED))}
    assert signalled(stop(simulate(probes=probes, combine="any", **BEFORE), 20)) == [near(105.25)]


# Linger


def test_drained_and_still_running_is_killed_after_its_linger():
    s = stop(simulate(probe=says((0, busy()), (4, DRAINED)), linger=2.0))
    assert killed(s) == [near(106.25)]


def test_without_linger_a_drained_program_has_all_its_time():
    assert killed(stop(simulate(probe=says((0, DRAINED)), linger=None))) == [125]


def test_linger_counts_from_the_signal_that_was_held_back():
    s = stop(simulate(probe=says((0, DRAINED)), linger=2.0, **BEFORE))
    assert (signalled(s), killed(s)) == ([near(100.25)], [near(102.25)])


def test_linger_longer_than_the_budget_changes_nothing():
    assert killed(stop(simulate(10, probe=says((0, DRAINED)), linger=60.0))) == [110]


def test_busy_again_takes_the_linger_back():
    s = stop(simulate(probe=says((0, DRAINED), (1, busy()), (8, DRAINED)), linger=2.0))
    assert killed(s) == [near(110.25)]


def test_what_was_drained_stays_so_when_the_endpoint_goes_away():
    s = stop(simulate(probe=says((0, DRAINED), (0.5, UNREACHABLE)), linger=2.0))
    assert killed(s) == [near(102.25)]


def test_an_endpoint_that_lies_costs_no_work_when_it_corrects_itself_in_time():
    s = stop(simulate(probe=says((0, busy()), (1, DRAINED), (2.5, busy())), linger=2.0))
    assert killed(s) == [125]


def test_an_endpoint_that_goes_away_half_way_is_not_drained():
    s = stop(simulate(probe=says((0, busy()), (3, UNREACHABLE)), linger=2.0))
    assert killed(s) == [125]
    assert not s.reported(log_events.Drained)


def test_an_endpoint_that_never_answers_costs_one_timeout_a_question_and_shortens_nothing():
    s = stop(simulate(probe=says((0, None)), linger=2.0))
    assert killed(s) == [125]
    assert len(asked(s)) == pytest.approx(25 / PROBE_TIMEOUT, abs=1)


def test_an_endpoint_that_is_slow_is_asked_again_when_it_has_answered():
    s = stop(simulate(probe=says((0, DRAINED), latency=1.5), linger=None, **BEFORE), 10)
    assert signalled(s) == [near(103)]


def test_an_answer_that_cannot_be_used_is_told_once():
    s = stop(simulate(probe=says((0, INVALID), (3, busy()), (5, INVALID))))
    assert len(s.reported(log_events.ProbeInvalid)) == 1
    assert killed(s) == [125]


def test_a_probe_that_has_failed_lets_the_signal_go_at_once():
    s = stop(simulate(probe=says((0, busy()), (3, FAILED)), **BEFORE))
    assert signalled(s) == [near(103)]
    assert killed(s) == [125]
    assert asked(s)[-1] <= 103.001


def test_a_probe_that_has_failed_after_the_signal_ends_nothing_early():
    s = stop(simulate(probe=says((0, FAILED), (1, DRAINED)), linger=1.0))
    assert len(asked(s)) == 1
    assert killed(s) == [125]


def test_an_answer_that_was_on_its_way_when_another_probe_failed_changes_nothing():
    """The loop has both in its queue."""
    s = simulate(probes={0: says((0, None)), 1: says((0, None))}, linger=1.0)
    stop(s, 0)
    s.feed(m.Sampled(0, 0, FAILED, s.now))
    s.feed(m.Sampled(0, 1, DRAINED, s.now))
    s.pass_time(30)
    assert len(asked(s)) == 2
    assert len(s.reported(log_events.DrainFailed)) == 1
    assert killed(s) == [125]


def test_drained_climbs_the_rungs_early_and_each_has_its_linger():
    s = simulate(probe=says((0, DRAINED)), linger=2.0, escalation=(Rung(10, INT), Rung(15, QUIT)))
    stop(s)
    assert [near(at) for at in (100, 102.25, 104.25, 106.25)] == [at for at, _ in s.deeds[:4]]
    assert [c for _, c in s.deeds[:4]] == [
        SendLeader(0, TERM),
        SendLeader(0, INT),
        SendLeader(0, QUIT),
        KillProgram(0),
    ]


def test_a_rung_whose_time_has_come_gives_a_drained_program_its_linger_anew():
    s = stop(
        simulate(probe=says((0, busy()), (4, DRAINED)), linger=2.0, escalation=(Rung(5, INT),))
    )
    assert [at for at, _ in s.deeds[:3]] == [100, 105, near(107)]


def test_what_a_shell_has_perhaps_not_told_is_told_before_it_is_killed_as_drained():
    """Else `sh -c 'trap ...; server & wait'` would have its server killed without a word, because
    it is idle."""
    s = simulate(probe=says((0, DRAINED)), linger=2.0)
    s.trees[0] = below_a_shell()
    s.signal(TERM)
    s.pass_time(30)
    assert s.deeds[:3] == [
        (100, SendLeader(0, TERM)),
        (near(102.25), SendTo(0, ((LEFT, 1),), TERM)),
        (near(104.25), KillProgram(0)),
    ]


# Asked again


def test_a_second_request_skips_the_hold_and_a_third_kills():
    s = simulate(probe=says((0, busy())), **BEFORE)
    stop(s, 1)
    s.signal(TERM)
    assert signalled(s) == [101]
    s.pass_time(1)
    s.signal(TERM)
    assert killed(s) == [102]
    assert s.commands[-2:] == [StopAsking(0), KillProgram(0)]


@pytest.mark.parametrize(
    "settings",
    [
        {"pre_stop": True},
        {"start": True},
        {"propagation_delay": 5.0},
        {"probe": says((0, None)), **BEFORE},
    ],
)
def test_a_second_request_skips_whatever_holds_the_signal(settings):
    s = simulate(**settings, hooks={"pre_stop": Hook(None), "start": Hook(None)})
    stop(s, 1)
    assert not signalled(s)
    s.signal(INT)
    assert signalled(s) == [101]
    assert not [key for key in s.under_way if isinstance(key[1], str)]


@pytest.mark.parametrize("by_signal", [True, False])
def test_a_request_over_the_control_socket_counts_like_a_signal(by_signal):
    s = simulate(probe=says((0, busy())), **BEFORE)
    for _ in range(3):
        s.feed(
            m.SignalReceived(TERM, s.now) if by_signal else StopRequested("gracewrap stop", s.now)
        )
        s.pass_time(1)
    assert (signalled(s), killed(s)) == ([101], [102])


def test_a_missed_watchdog_stops_and_a_request_after_it_is_the_first():
    s = simulate(probe=says((0, busy())), **BEFORE)
    s.feed(StopRequested("watchdog", s.now, failure=True))
    s.pass_time(1)
    s.signal(TERM)
    s.pass_time(1)
    assert not signalled(s)
    s.feed(StopRequested("watchdog", s.now, failure=True))
    assert not signalled(s)
    s.signal(TERM)
    assert signalled(s) == [102]


# gracewrap drain


def test_a_drain_without_a_stop_drains_and_sends_nothing():
    s = simulate(probe=says((0, busy()), (60, DRAINED)), start=True, propagation_delay=5.0)
    assert readiness.is_ready(s.system)
    s.feed(DrainRequested(s.now))
    assert not readiness.is_ready(s.system)
    s.pass_time(200)
    assert s.deeds == [(105, RunHelper(0, "start", 105 + START_LIMIT))]
    assert len(s.reported(log_events.Drained)) == 1
    assert s.commands[-1] == StopAsking(0)
    assert asked(s)[-1] == near(160.25)


def test_a_second_request_to_drain_changes_nothing():
    s = simulate(probe=says((0, busy())), start=True)
    s.feed(DrainRequested(s.now))
    s.pass_time(1)
    s.feed(DrainRequested(s.now))
    assert len(s.reported(log_events.DrainRequested)) == 1
    assert len([c for c in s.commands if isinstance(c, RunHelper)]) == 1


def test_undrain_takes_it_back():
    s = simulate(probe=says((0, busy())))
    s.feed(DrainRequested(s.now))
    s.pass_time(1)
    s.feed(UndrainRequested(s.now))
    assert readiness.is_ready(s.system)
    assert not s.under_way
    before = list(s.log)
    s.pass_time(100)
    assert s.log == before


def test_a_stop_after_a_drain_waits_for_no_propagation_again_and_starts_nothing_again():
    s = simulate(probe=says((0, DRAINED)), start=True, propagation_delay=5.0, linger=None, **BEFORE)
    s.feed(DrainRequested(s.now))
    s.pass_time(20)
    stop(s, 1)
    assert signalled(s) == [near(120.25)]
    assert len(s.times(RunHelper)) == 1


def test_a_stop_half_way_through_the_delay_of_a_drain_waits_for_the_rest_of_it():
    s = simulate(propagation_delay=5.0)
    s.feed(DrainRequested(s.now))
    s.pass_time(3)
    assert signalled(stop(s, 10)) == [105]


def test_a_stop_while_the_drain_is_being_started_starts_it_again():
    """What was cut has perhaps not told the program."""
    s = simulate(start=True, hooks={"start": Hook(1)})
    s.feed(DrainRequested(s.now))
    s.pass_time(0.5)
    stop(s, 10)
    assert [c for c in s.commands if isinstance(c, RunHelper | StopHelper)] == [
        RunHelper(0, "start", 100 + START_LIMIT),
        StopHelper(0, "start"),
        RunHelper(0, "start", 123.5),
    ]
    assert signalled(s) == [101.5]


def test_a_stop_after_undrain_starts_from_the_beginning():
    s = simulate(start=True, propagation_delay=5.0)
    s.feed(DrainRequested(s.now))
    s.pass_time(20)
    s.feed(UndrainRequested(s.now))
    s.pass_time(20)
    stop(s, 10)
    assert signalled(s) == [145]
    assert len(s.times(RunHelper)) == 2


def test_a_drain_that_is_not_reached_in_its_time_is_told_and_asked_no_more():
    s = simulate(probe=says((0, busy())), timeout=5.0)
    s.feed(DrainRequested(s.now))
    s.pass_time(60)
    assert len(s.reported(log_events.DrainTimeout)) == 1
    assert asked(s)[-1] < 105
    assert not signalled(s)
    assert not readiness.is_ready(s.system)


def test_signals_are_passed_on_to_a_program_that_is_drained():
    s = simulate(probe=says((0, busy())))
    s.feed(DrainRequested(s.now))
    s.signal(USR1)
    assert s.commands[-1] == SendLeader(0, USR1)


# The leader's exit


STAGES = {
    "propagation": {"propagation_delay": 5.0},
    "pre_stop": {"pre_stop": True, "hooks": {"pre_stop": Hook(None)}},
    "start": {"start": True, "hooks": {"start": Hook(None)}},
    "before the signal": {"probe": says((0, None)), **BEFORE},
    "after the signal": {"probe": says((0, None))},
}


@pytest.mark.parametrize("stage", STAGES)
@pytest.mark.parametrize("left", [True, False])
def test_the_leaders_exit_ends_whatever_is_under_way(stage, left):
    s = stop(simulate(**STAGES[stage]), 1)
    s.leader_exits(3, left=left)
    assert not s.under_way
    before = len(asked(s)), len(signalled(s))
    s.pass_time(5)
    assert (len(asked(s)), len(signalled(s))) == before
    assert s.status == (None if left else 3)


@pytest.mark.parametrize("stage", ["propagation", "start", "before the signal"])
def test_what_a_leader_leaves_that_exits_before_the_signal_is_told_at_once(stage):
    s = stop(simulate(**STAGES[stage]), 1)
    s.leader_exits(3, left=True)
    assert s.deeds[-1] == (101, SendTo(0, ((LEFT, 1),), TERM))


@pytest.mark.parametrize("stage", STAGES)
def test_a_program_that_exits_while_it_is_drained_ends_the_run(stage):
    s = simulate(**STAGES[stage])
    s.feed(DrainRequested(s.now))
    s.pass_time(1)
    s.leader_exits(3)
    assert not s.under_way
    assert s.status == 3


# More time


def test_a_program_may_ask_for_more_time_but_not_past_the_budget():
    s = simulate(10, stop_timeout=3.0)
    stop(s, 2)
    s.feed(TimeExtended(0, 4, s.now))
    s.pass_time(3.9)
    assert not killed(s)
    s.feed(TimeExtended(0, 1000, s.now))
    s.pass_time(10)
    assert killed(s) == [110]


def test_more_time_that_is_not_more_is_none():
    s = simulate(10, stop_timeout=3.0)
    stop(s, 1)
    s.feed(TimeExtended(0, 0.5, s.now))
    s.pass_time(10)
    assert killed(s) == [103]


def test_what_a_shell_has_told_and_asks_for_more_time_is_not_told_again_before_that_ends():
    s = simulate(100, stop_timeout=10.0)
    s.trees[0] = below_a_shell()
    s.signal(TERM)
    s.pass_time(4)
    s.feed(TimeExtended(0, 36, s.now))
    s.pass_time(50)
    assert s.times(SendTo) == [120]  # half of its time


# What comes last


def test_post_stop_and_push_have_their_time_when_the_program_used_all_of_its_own():
    s = simulate(20, post_stop=True, push=True, hooks={"post_stop": Hook(None), "push": Hook(None)})
    stop(s, 17)
    assert killed(s) == [117]
    s.leader_exits(137, 9)
    s.pass_time(10)
    assert s.deeds[-3:] == [
        (117, RunHelper(0, "post_stop", 119)),
        (119, RunHelper(0, "push", 120)),
        (120, Exit(137)),
    ]


@pytest.mark.parametrize(("budget", "kept"), [(10, 1), (20, 2), (60, 2)])
def test_a_tenth_of_the_budget_and_at_most_2_s_are_kept_for_post_stop(budget, kept):
    s = simulate(budget, post_stop=True, hooks={"post_stop": Hook(None)})
    stop(s, budget - kept)
    s.leader_exits(137, 9)
    s.pass_time(budget)
    end = 100 + budget
    assert killed(s) == [end - kept]
    assert s.deeds[-2:] == [(end - kept, RunHelper(0, "post_stop", end)), (end, Exit(137))]


def test_post_stop_has_all_that_the_program_left():
    s = stop(simulate(20, post_stop=True, hooks={"post_stop": Hook(15)}), 2)
    s.leader_exits(0)
    s.pass_time(20)
    assert s.deeds[-2:] == [(102, RunHelper(0, "post_stop", 120)), (117, Exit(0))]


def test_a_push_that_hangs_costs_no_more_than_what_is_kept_for_it():
    s = stop(simulate(20, push=True, hooks={"push": Hook(None)}), 2)
    s.leader_exits(0)
    s.pass_time(20)
    assert s.deeds[-2:] == [(102, RunHelper(0, "push", 103)), (103, Exit(0))]


@pytest.mark.parametrize("by_signal", [True, False])
@pytest.mark.parametrize("last", ["flush", "post_stop", "push"])
def test_a_second_request_skips_what_comes_last(last, by_signal):
    s = simulate(
        20,
        post_stop=last == "post_stop",
        push=last == "push",
        flush_timeout=5.0 if last == "flush" else 0.0,
    )
    s.hooks = {last: Hook(None)}
    s.unsent = 1
    stop(s, 2)
    s.leader_exits(4)
    s.pass_time(0.2)
    assert s.status is None
    s.feed(m.SignalReceived(TERM, s.now) if by_signal else StopRequested("gracewrap stop", s.now))
    assert s.status == 4
    assert not s.under_way


@pytest.mark.parametrize("last", ["flush", "post_stop"])
def test_a_first_request_while_the_last_things_are_done_skips_nothing(last):
    s = simulate(20, post_stop=last == "post_stop", flush_timeout=5.0 if last == "flush" else 0.0)
    s.hooks = {last: Hook(1)}
    s.unsent = 1
    s.leader_exits(4)
    s.pass_time(0.2)
    s.signal(TERM)
    assert s.status is None
    s.feed(StopRequested("watchdog", s.now, failure=True))
    assert s.status is None
    s.pass_time(10)
    assert s.status == 4


def test_several_programs_drain_side_by_side():
    drain = m.DrainPolicy(probes=1, when="before-signal", linger=None)
    s = Simulation(
        Policy((ProgramPolicy(drain=drain), ProgramPolicy(drain=drain)), flush_timeout=0.0),
        {0: says((0, busy()), (4, DRAINED))},
    )
    stop(s, 2)
    s.leader_exits(0, program=1)
    s.pass_time(5)
    assert s.deeds[-1] == (near(104.25), SendLeader(0, TERM))
    assert {key[0] for key in s.under_way} <= {0}
    s.leader_exits(6)
    assert s.status == 6


# Any history, any policy, any world


@settings(max_examples=EXAMPLES, deadline=None)
@given(policies, worlds, histories)
def test_any_stop_ends_in_time(policy, world, history):
    p = play_out(policy, world, history)
    if p.began is None:
        return
    assert isinstance(p.s.commands[-1], Exit)
    assert (
        p.s.log[-1][0]
        <= p.began + policy.shutdown_timeout + GIVE_UP + policy.flush_timeout + EPSILON
    )


@settings(max_examples=EXAMPLES, deadline=None)
@given(policies, worlds, histories)
def test_any_sigkill_has_its_reason_and_comes_within_the_budget(policy, world, history):
    p = play_out(policy, world, history)
    for i, rules in enumerate(policy.programs):
        at = p.killed(i)
        if at is None:
            continue
        assert p.began is not None
        budget_ends = p.began + policy.shutdown_timeout - run_end.final_reserve(policy)
        assert at <= budget_ends + EPSILON
        if len(p.requests) >= 3 and policy.on_repeat == "escalate":
            continue  # asked three times: it may be now
        place, _, kill = p.noted(i, log_events.Kill)[0]
        why = kill.why
        if why == EARLY:
            assert rules.drain.linger is not None
            assert p.is_drained(i, place)
            assert at >= p.noted(i, log_events.Drained)[-1][1] + rules.drain.linger - EPSILON
            assert at >= p.last_signal(i, at) + rules.drain.linger - EPSILON
            continue
        signalled = p.signalled(i)
        ends = [budget_ends]
        if rules.stop_timeout is not None:
            since = signalled if signalled is not None else p.exits.get(i, at)
            ends.append(since + rules.stop_timeout)
        if (
            rules.drain.timeout is not None
            and rules.drain.probes
            and rules.drain.when == "after-signal"
            and signalled is not None
        ):
            ends.append(signalled + rules.drain.timeout)
        assert at >= min(ends) - EPSILON, why


@settings(max_examples=EXAMPLES, deadline=None)
@given(policies, worlds, histories)
def test_any_drain_holds_the_stop_signal_no_longer_than_its_time_and_sends_it_once(
    policy, world, history
):
    p = play_out(policy, world, history)
    for i, rules in enumerate(policy.programs):
        signalled = p.signalled(i)  # checks: once
        assert len([c for c in p.s.commands if isinstance(c, SendTo) and c.program == i]) <= 1
        if p.began is None:
            assert signalled is None
            continue
        time = policy.shutdown_timeout - run_end.final_reserve(policy)
        kept = (
            min(RESERVE, RESERVE_PART * time) if rules.stop_timeout is None else rules.stop_timeout
        )
        latest = p.began + max(0.0, time - kept)
        if signalled is not None:
            assert signalled <= latest + EPSILON
        elif p.s.now > latest + EPSILON and p.exits.get(i, p.s.now) > latest + EPSILON:
            killed = p.killed(i)
            assert killed is not None and killed <= latest + EPSILON


@settings(max_examples=EXAMPLES, deadline=None)
@given(policies, worlds, histories)
def test_any_verdict_rests_on_what_was_said(policy, world, history):
    p = play_out(policy, world, history)
    for i in range(len(policy.programs)):
        for place, _, _ in p.noted(i, log_events.Drained):
            assert p.is_drained(i, place)


@settings(max_examples=EXAMPLES, deadline=None)
@given(policies, worlds, histories)
def test_any_probe_is_asked_no_more_often_than_its_interval(policy, world, history):
    """One that is being asked is not asked again, and nothing is asked of what is not drained: the
    simulation sees to that."""
    p = play_out(policy, world, history)
    for i, rules in enumerate(policy.programs):
        last: dict[int, float] = {}
        for at, command in p.s.log:
            if isinstance(command, StopAsking) and command.program == i:
                last.clear()
            elif isinstance(command, Ask) and command.program == i:
                assert at >= last.get(command.probe, 0) + rules.drain.interval - 1e-6
                last[command.probe] = at


@settings(max_examples=EXAMPLES, deadline=None)
@given(policies, worlds, histories)
def test_any_hook_runs_once(policy, world, history):
    p = play_out(policy, world, history)
    for i in range(len(policy.programs)):
        ran = [c.what for c in p.s.commands if isinstance(c, RunHelper) and c.program == i]
        cut = [c.what for c in p.s.commands if isinstance(c, StopHelper) and c.program == i]
        for what in ("pre_stop", "post_stop", "push"):
            assert ran.count(what) <= 1
        assert ran.count("start") <= 1 + min(1, cut.count("start")) + p.undrains


@settings(max_examples=EXAMPLES, deadline=None)
@given(policies, worlds, histories)
def test_any_history_without_a_stop_sends_nothing_of_its_own(policy, world, history):
    p = play(policy, world, history)
    if p.began is None:
        p.s.pass_time(500)
        assert p.s.status is None
        assert not [c for c in p.s.commands if getattr(c, "signum", 0) in (TERM, INT, QUIT)]
        assert not p.s.times(KillProgram, SendTo)


@settings(max_examples=EXAMPLES, deadline=None)
@given(
    drained_from=st.floats(0, 20),
    was=st.sampled_from([busy(), UNREACHABLE, None]),
    latency=st.floats(0, 1.9),
    interval=st.floats(0.05, 3),
    confirm=st.integers(1, 4),
    min_drain=st.floats(0, 5),
    linger=st.floats(0, 3),
)
def test_any_drain_is_seen_in_time(
    drained_from, was, latency, interval, confirm, min_drain, linger
):
    """At most *confirm* intervals, and the time that an answer takes, after it has become drained
    for good."""
    probe = says((-1, was), (drained_from, DRAINED), latency=latency)
    rules = {"interval": interval, "confirm": confirm, "min_drain": min_drain}
    every = max(interval, latency)
    seen = (
        max(100 + drained_from, 100 + min_drain)
        + confirm * every
        + latency
        + (PROBE_TIMEOUT if was is None else 0)
    )
    s = stop(simulate(60, probe=probe, linger=None, **BEFORE, **rules), 60)
    assert 100 + max(drained_from - every, min_drain) <= signalled(s)[0] <= seen + EPSILON
    s = stop(simulate(60, probe=probe, linger=linger, **rules), 60)
    assert (
        100 + max(drained_from - every, min_drain) + linger
        <= killed(s)[0]
        <= seen + linger + EPSILON
    )


# What shows work although no request is in flight

AT_WORK = replace(DRAINED, work="used connections: 127.0.0.1:6379")
COUNTED = replace(DRAINED, counts=m.AgentCounts())


def test_what_may_be_at_work_is_not_ended_early():
    s = stop(simulate(10, probe=says((0, AT_WORK)), linger=1.0), 11)
    assert killed(s) == [110]
    assert len(s.reported(log_events.MayBeAtWork)) == 1


@pytest.mark.parametrize(
    ("other", "at"), [((AT_WORK,), 120), ((DRAINED,), near(101.25)), ((), near(101.25))]
)
def test_an_agent_only_counts_and_does_not_outvote_who_sees_work(other, at):
    probes = {i: says((0, reading)) for i, reading in enumerate((COUNTED, *other))}
    assert killed(stop(simulate(20, probes=probes, linger=1.0), 21)) == [at]


@pytest.mark.parametrize(("combine", "at"), [("all", 120), ("any", near(101.25))])
def test_an_agent_that_sees_work_is_heard_where_all_must_agree(combine, at):
    counted = replace(COUNTED, work="queries, requests or children that it waits for: 1")
    probes = {0: says((0, counted)), 1: says((0, DRAINED))}
    assert killed(stop(simulate(20, probes=probes, linger=1.0, combine=combine), 21)) == [at]


def test_what_is_not_known_yet_is_not_told_beside_what_is():
    assert m.put_together(("", m.NOT_YET, "a", "b", "a")) == "a; b"
    assert m.put_together((m.NOT_YET, "", m.NOT_YET)) == m.NOT_YET
    assert not m.put_together(("", ""))


@pytest.mark.parametrize("beside", [False, True])
def test_a_process_that_does_not_answer_its_agent_is_at_work(beside):
    """Its handler computes from the first second to the sixth, or waits in execSync()."""

    def agent(at):
        return COUNTED, 106.0 - at if 101.0 <= at < 106.0 else 0.001

    probes = {0: agent} | ({1: says((0, DRAINED))} if beside else {})
    s = stop(simulate(20, probes=probes, linger=2.0), 21)
    assert killed(s) == [pytest.approx(108.0, abs=0.3)]


def test_without_an_answer_it_has_its_whole_time_and_no_more():
    def agent(at):
        return (COUNTED, 0.001) if at < 101.0 else (UNREACHABLE, 2.0)

    assert killed(stop(simulate(20, probes={0: agent}, linger=2.0), 21)) == [120]


def test_what_is_left_without_an_agent_may_be_at_work():
    at_work = replace(UNREACHABLE, work="it uses, or would use, 90 % of a CPU")
    s = simulate(20, probe=says((0, COUNTED), (1, at_work), (4, UNREACHABLE)), linger=2.0)
    assert killed(stop(s, 21)) == [pytest.approx(106.0, abs=0.3)]


def test_the_linger_begins_when_nothing_shows_work_any_more():
    s = stop(simulate(20, probe=says((0, AT_WORK), (4, DRAINED)), linger=1.0), 21)
    assert killed(s) == [pytest.approx(105, abs=0.3)]


def test_what_was_not_watched_for_long_enough_is_no_news():
    s = simulate(20, probe=says((0, replace(DRAINED, work=m.NOT_YET)), (2, DRAINED)), linger=1.0)
    stop(s, 21)
    assert killed(s) == [pytest.approx(103, abs=0.3)]
    assert not s.reported(log_events.MayBeAtWork)


def test_a_heartbeat_holds_nothing_for_ever_that_comes_less_often_than_the_linger_lasts():
    beats = (1.0, 4.0, 7.0, 10.0, 13.0, 16.0)
    readings = [one for at in beats for one in ((at, AT_WORK), (at + 0.25, DRAINED))]
    s = stop(simulate(20, probe=says((0, DRAINED), *readings), linger=2.0), 21)
    assert killed(s) == [pytest.approx(103.0, abs=0.5)]


def test_work_that_shows_again_ends_the_linger():
    s = stop(simulate(20, probe=says((0, DRAINED), (1, AT_WORK)), linger=2.0), 21)
    assert killed(s) == [120]


def test_work_holds_no_stop_signal_back():
    s = stop(simulate(20, probe=says((0, AT_WORK)), **BEFORE, linger=None), 5)
    assert signalled(s) == [near(100.25)]


def test_one_probe_that_counts_is_enough():
    probes = {"probes": {0: says((0, AT_WORK)), 1: says((0, DRAINED))}}
    s = stop(simulate(20, **probes, linger=1.0), 21)
    assert killed(s) == [near(101.25)]


# Streams

MOVING = m.Reading(m.BUSY, 0.0, "streams open: 1", streams=1, only_streams=True)
SILENT = m.Reading(m.DRAINED, 0.0, streams=1, idle_streams=1)
FOREVER = float("inf")


@pytest.mark.parametrize(
    ("reading", "streams", "drained_at"),
    [
        (MOVING, None, None),
        (MOVING, FOREVER, None),
        (MOVING, 5.0, 105.25),
        (SILENT, None, 100.25),
        (SILENT, FOREVER, None),
        (SILENT, 5.0, 105.25),
        (busy(2), 5.0, None),  # not only streams
        (replace(MOVING, in_flight=1.0, only_streams=False), 5.0, None),
    ],
)
def test_streams_are_waited_for_as_long_as_is_said(reading, streams, drained_at):
    s = stop(simulate(20, probe=says((0, reading)), streams=streams, linger=None, **BEFORE), 21)
    latest = 118.0  # when a tenth of the budget is left
    assert signalled(s) == [pytest.approx(drained_at or latest, abs=0.05)]


# Clients that go on sending


def sending(in_flight: float, unsure: int = 0) -> m.Reading:
    return m.Reading(m.BUSY, in_flight, "active", senders=17, unsure=unsure)


def test_clients_that_go_on_sending_are_told_of_once():
    s = stop(simulate(20, probe=says((0, busy(3)), (2, sending(3)), (3, busy(2))), **BEFORE), 5)
    assert s.reported(log_events.KeptAlive) == [log_events.KeptAlive(0, 17)]


def test_from_half_of_the_time_on_a_moment_without_a_request_is_good():
    probe = says((0, sending(3)), (4, sending(0)), (5, sending(2)), (11, sending(0)))
    s = stop(simulate(20, probe=probe, **BEFORE), 19)
    assert signalled(s) == [pytest.approx(111, abs=0.1)]  # half of 18 s are over at 109


def test_what_may_be_in_flight_makes_no_good_moment():
    s = stop(simulate(20, probe=says((0, sending(1)), (10, sending(0, unsure=2))), **BEFORE), 21)
    assert signalled(s) == [118]


def test_late_the_best_moment_that_there_was_is_good():
    probe = says((0, sending(5)), (3, sending(2)), (4, sending(6)), (15, sending(2)))
    s = stop(simulate(20, probe=probe, **BEFORE), 21)
    assert signalled(s) == [pytest.approx(115, abs=0.1)]


def test_requests_of_clients_that_come_and_go_are_waited_for():
    s = stop(simulate(20, probe=says((0, busy(1)), (11, busy(0))), **BEFORE), 21)
    assert signalled(s) == [118]
