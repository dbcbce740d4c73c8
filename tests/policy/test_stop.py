"""The policy, without a process and without a clock: one example a rule, then properties over any
history."""

from __future__ import annotations

import pytest
from hypothesis import given, settings

from gracewrap.policy import log_events, readiness, run_phases, step
from gracewrap.policy import model as m
from gracewrap.policy.model import (
    CountUnsent,
    Exit,
    KilledSeen,
    KillProgram,
    LeaderExited,
    PartRequested,
    Policy,
    ProgramPolicy,
    ProgramReady,
    Rung,
    SendGroup,
    SendLeader,
    SendTo,
    SignalReceived,
)
from gracewrap.policy.program_phases import GIVE_UP, GIVE_UP_BUSY, KILL_AGAIN
from histories import histories, ordered_policies, play, policies, worlds
from simulation import (
    LEFT,
    Simulation,
    below_a_shell,
    below_one_that_ignores_it,
    simulate,
)

HUP, INT, QUIT, KILL, USR1, TERM, CONT = 1, 2, 3, 9, 10, 15, 18


def test_sends_the_stop_signal_once_to_the_leader_and_continues_it():
    s = simulate()
    s.signal(TERM)
    assert s.log == [(100, SendLeader(0, TERM)), (100, SendLeader(0, CONT))]


def test_kills_when_the_budget_ends():
    s = simulate(10)
    s.signal(TERM)
    s.pass_time(9.999)
    assert KillProgram(0) not in s.commands
    s.pass_time(0.001)
    assert s.log[2:] == [(110, KillProgram(0))]


def test_kills_earlier_at_the_stop_timeout():
    s = simulate(10, stop_timeout=3.0)
    s.signal(TERM)
    s.pass_time(5)
    assert s.log[2] == (103, KillProgram(0))


def test_exit_status_is_the_leaders():
    s = simulate()
    s.signal(TERM)
    s.leader_exits(7)
    assert s.commands[-1] == Exit(7)


def test_a_command_that_ends_by_itself_ends_the_run():
    s = simulate()
    s.leader_exits(3)
    assert s.commands == [Exit(3)]


def test_what_a_leader_leaves_behind_is_sent_the_stop_signal_once_and_has_the_rest_of_the_time():
    s = simulate(10)
    s.signal(TERM)
    s.pass_time(4)
    s.leader_exits(143, TERM, left=True)
    assert s.log[2:] == [(104, SendTo(0, ((LEFT, 1),), TERM))]
    s.pass_time(5.9)
    assert len(s.log) == 3
    s.pass_time(0.1)
    assert s.log[3] == (110, KillProgram(0))
    s.rest_goes()
    assert s.status == 143


def test_a_leader_with_a_handler_may_have_passed_the_signal_on_so_the_rest_has_half_of_the_time():
    s = simulate(10)
    s.trees[0] = below_a_shell()
    s.signal(TERM)
    s.pass_time(4)
    s.leader_exits(0, left=True)
    assert s.log[2:] == []
    s.pass_time(1)
    assert s.log[2:] == [(105, SendTo(0, ((LEFT, 1),), TERM))]


def test_a_second_request_skips_that_pause_too():
    s = simulate(10)
    s.trees[0] = below_a_shell()
    s.signal(TERM)
    s.pass_time(4)
    s.leader_exits(0, left=True)
    s.signal(TERM)
    assert s.log[2:] == [(104, SendTo(0, ((LEFT, 1),), TERM))]


def test_leftovers_of_a_command_that_ended_by_itself_have_the_whole_budget():
    s = simulate(10)
    s.leader_exits(5, left=True)
    assert s.log == [(100, SendTo(0, ((LEFT, 1),), TERM))]
    s.pass_time(10)
    assert s.log[1] == (110, KillProgram(0))


def test_stop_request_while_leftovers_end_changes_nothing():
    s = simulate(10)
    s.leader_exits(5, left=True)
    s.pass_time(1)
    s.signal(TERM)
    assert s.commands == [SendTo(0, ((LEFT, 1),), TERM)]


def test_group_mode_signals_the_group_and_afterwards_whoever_is_outside_of_it():
    s = simulate(kill_mode="group")
    s.signal(TERM)
    assert s.commands == [SendGroup(0, TERM), SendGroup(0, CONT)]
    s.trees[0] = (m.Process(LEFT, 1, 1), m.Process(LEFT + 1, 1, 1))
    s.leader_exits(143, TERM, left=True)
    s.pass_time(20)
    assert s.commands[2:] == [SendTo(0, ((LEFT + 1, 1),), TERM)]


def test_process_mode_signals_the_leader_only_but_waits_for_all_and_kills_all():
    s = simulate(10, kill_mode="process")
    s.signal(TERM)
    s.leader_exits(0, left=True)
    assert s.commands == [SendLeader(0, TERM), SendLeader(0, CONT)]
    s.pass_time(10)
    assert s.commands[2:3] == [KillProgram(0)]


def test_a_leader_that_ignores_the_signal_does_not_keep_it_from_the_others():
    s = simulate(10)
    s.trees[0] = below_one_that_ignores_it()
    s.signal(TERM)
    assert s.commands[2:] == [SendTo(0, ((LEFT, 1),), TERM)]
    s.leader_exits(0, left=True)
    assert s.commands[3:] == []  # they have had it


def test_what_a_shell_that_still_waits_may_have_kept_from_its_child_is_sent_at_half_of_the_time():
    s = simulate(10)
    s.trees[0] = below_a_shell()
    s.signal(TERM)
    s.pass_time(9)
    assert s.log[2:] == [(105, SendTo(0, ((LEFT, 1),), TERM))]
    s.leader_exits(0, left=True)
    assert s.log[3:] == []


def test_in_process_mode_nobody_but_the_leader_is_sent_it():
    s = simulate(10, kill_mode="process")
    s.trees[0] = below_a_shell()
    s.signal(TERM)
    s.pass_time(9.9)
    assert s.log[2:] == []


@pytest.mark.parametrize("signum", [20, 21, 22])
def test_a_stop_signal_that_stops_is_sent_after_sigcont_which_would_take_it_back(signum):
    s = simulate(stop_signal=signum)
    s.signal(TERM)
    assert s.commands == [SendLeader(0, CONT), SendLeader(0, signum)]


def test_escalation_climbs_its_rungs_in_time():
    s = simulate(20, escalation=(Rung(5, INT), Rung(8, QUIT)))
    s.signal(TERM)
    s.pass_time(20)
    assert [(at, c) for at, c in s.log if getattr(c, "signum", CONT) != CONT] == [
        (100, SendLeader(0, TERM)),
        (105, SendLeader(0, INT)),
        (108, SendLeader(0, QUIT)),
    ]
    assert s.log[6] == (120, KillProgram(0))


def test_second_request_skips_ahead_and_third_kills():
    s = simulate(20, escalation=(Rung(5, INT),))
    s.signal(TERM)
    s.pass_time(1)
    s.signal(TERM)
    assert s.log[2:] == [(101, SendLeader(0, INT)), (101, SendLeader(0, CONT))]
    s.pass_time(1)
    s.signal(INT)
    assert s.log[4:] == [(102, KillProgram(0))]


def test_second_request_with_nothing_to_skip_sends_nothing():
    s = simulate()
    s.signal(TERM)
    s.pass_time(1)
    s.signal(TERM)
    assert len(s.log) == 2
    assert s.reports[-1] == log_events.AskedAgain(TERM, "nothing to skip")


def test_one_request_that_arrives_twice_at_once_counts_once():
    """timeout(1) signals its child and then its group."""
    s = simulate(20, escalation=(Rung(5, INT),))
    s.signal(TERM)
    s.pass_time(0.001)
    s.signal(TERM)
    s.signal(INT)
    assert len(s.log) == 2


def test_repeats_can_be_ignored():
    s = simulate(20, on_repeat="ignore")
    for _ in range(5):
        s.signal(TERM)
        s.pass_time(1)
    assert len(s.log) == 2


def test_other_signals_are_forwarded_before_and_during_the_stop():
    s = simulate()
    s.signal(HUP)
    s.signal(TERM)
    s.signal(USR1)
    assert s.commands == [
        SendLeader(0, HUP),
        SendLeader(0, TERM),
        SendLeader(0, CONT),
        SendLeader(0, USR1),
    ]


def test_signal_map_rewrites_and_drops():
    s = simulate(signal_map={HUP: QUIT, USR1: 0})
    s.signal(HUP)
    s.signal(USR1)
    assert s.commands == [SendLeader(0, QUIT)]


def test_signals_for_a_leader_that_is_gone_go_nowhere():
    s = simulate()
    s.leader_exits(0, left=True)
    s.signal(USR1)
    assert s.commands == [SendTo(0, ((LEFT, 1),), TERM)]


@pytest.mark.parametrize(
    ("status", "signum", "codes", "expected"),
    [
        (143, TERM, {143}, 0),
        (143, TERM, set(), 143),
        (1, 0, {1}, 0),
        (130, INT, {130}, 130),
        (137, KILL, {137}, 137),
    ],
)
def test_success_exit_codes_count_after_a_request_and_only_for_signals_that_we_sent(
    status, signum, codes, expected
):
    s = simulate(success_exit_codes=frozenset(codes))
    s.signal(TERM)
    s.leader_exits(status, signum)
    assert s.status == expected


def test_success_exit_codes_do_not_count_unasked():
    s = simulate(success_exit_codes=frozenset({143}))
    s.leader_exits(143, TERM)
    assert s.status == 143


def test_stays_for_unsent_bytes_no_longer_than_there_are_any():
    s = simulate(flush_timeout=1.0)
    s.unsent = 1
    s.signal(TERM)
    s.leader_exits(0)
    s.pass_time(0.5)
    assert s.status is None
    s.unsent = 0
    s.pass_time(0.02)
    assert s.status == 0


def test_stays_for_unsent_bytes_no_longer_than_flush_timeout():
    s = simulate(flush_timeout=1.0)
    s.unsent = 1
    s.leader_exits(0)
    s.pass_time(1.0)
    assert s.status == 0
    assert s.log[-1][0] == 101


def test_a_second_request_skips_the_flush():
    s = simulate(flush_timeout=1.0)
    s.unsent = 1
    s.signal(TERM)
    s.leader_exits(0)
    s.pass_time(0.2)
    s.signal(TERM)
    assert s.status == 0


def test_gives_up_on_what_sigkill_does_not_end():
    s = simulate(10)
    s.signal(TERM)
    s.pass_time(10 + GIVE_UP)
    assert s.status == 137
    assert s.log[-1][0] == 110 + GIVE_UP
    assert (
        3 <= s.commands.count(KillProgram(0)) <= GIVE_UP / KILL_AGAIN + 2
    )  # looked again, but did not spin


def test_stays_for_what_only_waits_for_a_cpu_to_end_on_but_not_for_ever():
    s = simulate(10)
    s.signal(TERM)
    s.pass_time(10)
    s.feed(KilledSeen(0, True, s.now))
    s.pass_time(GIVE_UP + 1)
    assert s.status is None
    s.pass_time(GIVE_UP_BUSY - GIVE_UP - 1)
    assert s.status == 137
    assert s.log[-1][0] == 110 + GIVE_UP_BUSY


def test_gives_up_at_once_when_what_waited_for_a_cpu_hangs_after_all():
    s = simulate(10)
    s.signal(TERM)
    s.pass_time(10)
    s.feed(KilledSeen(0, True, s.now))
    s.pass_time(GIVE_UP + 1)
    s.feed(KilledSeen(0, False, s.now))
    s.pass_time(0)
    assert s.status == 137


def test_no_time_at_all_kills_at_once():
    s = simulate(0)
    s.signal(TERM)
    assert s.commands == [KillProgram(0)]


@pytest.mark.parametrize(
    ("managed", "event"), [(False, log_events.CommandReady), (True, log_events.ProgramReady)]
)
def test_a_command_is_ready_once_its_probes_have_passed_and_it_is_said_after_how_long(
    managed, event
):
    s = simulate(ready=True, managed=managed)
    assert not readiness.is_ready(s.system)
    s.pass_time(2.5)
    s.feed(ProgramReady(0, s.now))
    s.feed(ProgramReady(0, s.now))
    assert readiness.is_ready(s.system)
    assert s.reported(event) == [event(0, 2.5)]


def test_a_command_that_is_stopped_before_it_is_ready_is_not_ready_any_more():
    s = simulate(ready=True, managed=False)
    s.signal(TERM)
    s.feed(ProgramReady(0, s.now))
    assert not readiness.is_ready(s.system) and not s.reported(log_events.CommandReady)
    s.leader_exits(0)
    assert s.status == 0


def test_one_command_that_is_not_managed_cannot_be_restarted():
    s = simulate(managed=False)
    s.feed(PartRequested((0,), "gracewrap restart", True, s.now))
    assert s.commands == []
    assert s.reported(log_events.PartRefused) == [log_events.PartRefused("gracewrap restart", (0,))]


def test_several_programs_are_stopped_together_and_waited_for():
    """Nothing depends on anything here; test_programs.py is about those that do."""
    s = Simulation(Policy((ProgramPolicy(), ProgramPolicy(stop_signal=QUIT)), flush_timeout=0.0))
    s.signal(TERM)
    assert [c for c in s.commands if getattr(c, "signum", CONT) != CONT] == [
        SendLeader(0, TERM),
        SendLeader(1, QUIT),
    ]
    s.leader_exits(0, program=1)
    assert s.status is None
    s.leader_exits(4, program=0)
    assert s.status == 4


# More of these, about the drain and about SIGKILL, are in test_drain.py.


@settings(max_examples=200, deadline=None)
@given(policies | ordered_policies, worlds, histories)
def test_any_history_ends_with_one_exit_and_not_before_nothing_is_left(policy, world, history):
    """Exit is never commanded while something is left, unless it could not be killed."""
    p = play(policy, world, history)
    if p.s.status is None:
        return
    assert isinstance(p.s.system, run_phases.Ended)
    assert isinstance(p.s.commands[-1], Exit)
    for i in range(len(policy.programs)):
        assert (i in p.exits and not p.left[i]) or p.noted(i, log_events.GaveUp)


@settings(max_examples=200, deadline=None)
@given(policies | ordered_policies, worlds, histories)
def test_any_history_sends_the_stop_signal_once_to_each(policy, world, history):
    p = play(policy, world, history)
    for i, rules in enumerate(policy.programs):
        p.signalled(i)  # checks that
        sent = [c.targets for c in p.s.commands if isinstance(c, SendTo) and c.program == i]
        assert len(sent) <= (rules.kill_mode != "process")  # there is one beside the leader


@settings(max_examples=200, deadline=None)
@given(policies | ordered_policies, worlds, histories)
def test_any_history_is_ready_until_a_stop_or_a_drain_is_asked_for(policy, world, history):
    p = play(policy, world, history)
    drains = [kind for kind, _ in history if kind in ("drain", "undrain")]
    assert readiness.is_ready(p.s.system) == (p.began is None and drains[-1:] != ["drain"])


def test_an_ended_system_answers_nothing():
    s = simulate()
    s.leader_exits(0)
    for event in (SignalReceived(TERM, 1.0), LeaderExited(0, 1, 0, False, 2.0)):
        assert step.step(s.system, event, s.policy) == (s.system, ())
    assert CountUnsent() not in s.commands
