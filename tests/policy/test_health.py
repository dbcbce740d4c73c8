"""What follows when a health check changes its mind: one example a rule, then properties over any
history."""

from __future__ import annotations

import pytest
from hypothesis import given, settings

from gracewrap.policy import failed_health_check, log_events, readiness, restart, run_phases
from gracewrap.policy.model import (
    DrainPolicy,
    DrainRequested,
    KillProgram,
    NotReadyInTime,
    PartRequested,
    Policy,
    ProgramHealthy,
    ProgramPolicy,
    ProgramReady,
    ProgramUnhealthy,
    ProgramUnready,
    SendGroup,
    SendLeader,
    StartProgram,
    StopAsking,
    StopChecks,
    UndrainRequested,
)
from gracewrap.policy.program_phases import FAILED, GIVE_UP, Gone
from histories import health_histories, play_out, ready_policies, worlds
from simulation import Body, Simulation

TERM, QUIT, CONT = 15, 3, 18
EPSILON = 0.01
DEAF = Body(stops=None, ready=None)


def up(*bodies: Body, policy: dict[str, object] | None = None, **rules: object) -> Simulation:
    """Return a simulation of a program whose readiness is asked, beside another one."""
    web = ProgramPolicy(name="web", ready=True, **rules)  # type: ignore[arg-type]
    all_of_it = Policy((web, ProgramPolicy(name="db")), flush_timeout=0.0, **(policy or {}))  # type: ignore[arg-type]
    return Simulation(all_of_it, bodies=[*(bodies or (Body(ready=None),)), Body()], started=(0, 1))


def ready(s: Simulation) -> Simulation:
    s.feed(ProgramReady(0, s.now))
    return s


def late(s: Simulation) -> Simulation:
    s.feed(NotReadyInTime(0, "refused", s.now))
    return s


# Ready, and not ready any more


def test_readiness_follows_the_application():
    s = ready(up())
    assert readiness.is_ready(s.system)
    s.pass_time(5)
    s.feed(ProgramUnready(0, "503", s.now))
    assert not readiness.is_ready(s.system)
    assert s.reported(log_events.Unready) == [log_events.Unready(0, "503")]
    s.pass_time(7)
    ready(s)
    assert readiness.is_ready(s.system) and not s.log
    assert s.reported(log_events.ReadyAgain) == [log_events.ReadyAgain(0, 7.0)]
    assert len(s.reported(log_events.ProgramReady)) == 1


def test_how_long_it_took_to_be_ready_counts_from_its_start():
    s = up()
    s.pass_time(3)
    assert ready(s).reported(log_events.ProgramReady) == [log_events.ProgramReady(0, 3.0)]


def test_what_was_not_ready_is_not_said_to_have_lost_it():
    s = up()
    s.feed(ProgramUnready(0, "503", s.now))
    assert not s.reports


def test_what_waits_for_it_is_not_started_while_it_is_not_ready():
    db = ProgramPolicy(name="db", ready=True)
    web = ProgramPolicy(name="web", depends_on=((0, "ready"), (2, "ready")))
    slow = ProgramPolicy(name="slow", ready=True)
    policy = Policy((db, web, slow), flush_timeout=0.0)
    s = Simulation(policy, bodies=[Body(ready=None)] * 3, started=(0, 2))
    s.feed(ProgramReady(0, s.now))
    s.feed(ProgramUnready(0, "503", s.now))
    s.feed(ProgramReady(2, s.now))
    assert s.starts == [0, 0, 0]
    s.feed(ProgramReady(0, s.now))
    s.pass_time(1)
    assert s.starts == [0, 1, 0]


def test_a_drain_that_is_taken_back_leaves_it_as_its_probes_say():
    s = ready(up())
    s.feed(DrainRequested(s.now))
    s.feed(ProgramUnready(0, "503", s.now))
    s.feed(UndrainRequested(s.now))
    assert not readiness.is_ready(s.system)
    ready(s)
    assert readiness.is_ready(s.system)


def test_what_does_not_count_may_be_missing():
    rules = (ProgramPolicy(name="web", ready=True), ProgramPolicy(name="job", readyz=False))
    s = Simulation(Policy(rules), bodies=[Body(ready=None)] * 2, started=(0,))
    assert not readiness.is_ready(s.system, s.policy)
    ready(s)
    assert readiness.is_ready(s.system, s.policy) and not readiness.is_ready(s.system)
    s.feed(ProgramUnready(0, "503", s.now))
    assert not readiness.is_ready(s.system, s.policy)


# A stop: nobody is asked any more, and nothing that a check says counts


def test_with_the_stop_it_is_asked_no_more():
    s = ready(up())
    s.signal(TERM)
    assert [c for c in s.commands if isinstance(c, StopChecks)] == [StopChecks(0)]


def test_with_the_stop_of_a_part_only_that_part_is_asked_no_more():
    s = ready(up())
    s.feed(PartRequested((1,), "gracewrap stop db", False, s.now))
    assert StopChecks(0) not in s.commands
    s.pass_time(30)
    s.feed(PartRequested((0,), "gracewrap restart web", True, s.now))
    assert StopChecks(0) in s.commands


@pytest.mark.parametrize("again", [True, False])
def test_while_it_is_stopped_a_check_that_fails_changes_nothing(again):
    s = ready(up(restart="always"))
    s.feed(PartRequested((0,), "somebody", again, s.now))
    before, told = s.system, len(s.reports)
    s.feed(ProgramUnready(0, "503", s.now))
    late(s)
    assert s.system == before and len(s.reports) == told


def test_in_a_shutdown_nothing_restarts_whatever_the_checks_say():
    s = up(DEAF, restart="always")
    s.signal(TERM)
    late(s)
    s.pass_time(60)
    assert s.starts == [0, 0] and not s.reported(log_events.NotReadyInTime)


# ready_timeout


def test_what_is_not_ready_in_time_has_failed_and_by_default_that_stops_all():
    s = late(up(Body(stops=1.0, status=0, ready=None)))
    assert [c for _, c in s.deeds if isinstance(c, SendLeader)] == [
        SendLeader(0, TERM),
        SendLeader(1, TERM),
    ]
    said = s.reported(log_events.NotReadyInTime)
    assert said == [log_events.NotReadyInTime(0, 0.0, "refused", "shutdown")]
    s.pass_time(30)
    assert s.status == 1  # that of the failed program counts, and its 0 is no success


def test_its_own_status_counts_if_it_says_that_it_has_failed():
    s = late(up(Body(stops=1.0, status=143, ready=None)))
    s.pass_time(30)
    assert s.status == 143


def test_what_is_restarted_when_it_fails_is_ended_alone_and_started_again():
    s = late(up(Body(stops=1.0, status=0, ready=None), restart="on-failure"))
    assert s.reported(log_events.FailedStop) == [
        log_events.FailedStop(0, TERM, failed_health_check.STOP_TIME)
    ]
    s.pass_time(5)
    assert s.starts == [1, 0] and not [c for c in s.commands if c == SendLeader(1, TERM)]
    assert s.reported(log_events.LeaderExited)[0].then == restart.RESTART


def test_so_it_is_when_it_ends_with_a_status_that_would_be_success():
    s = late(up(Body(stops=1.0, status=0, ready=None), on_failure="restart"))
    s.pass_time(5)
    assert s.starts == [1, 0]


@pytest.mark.parametrize(("limit", "at"), [(None, 110.0), (3.0, 103.0)])
def test_what_does_not_end_is_killed(limit, at):
    s = late(up(DEAF, restart="always", stop_timeout=limit))
    s.pass_time(30)
    assert s.times(KillProgram)[0] == at
    assert s.reported(log_events.Kill)[0] == log_events.Kill(0, FAILED, True)


def test_a_frozen_one_is_continued_so_that_it_can_act_on_the_signal():
    s = late(up(DEAF, restart="always", kill_mode="group", stop_signal=QUIT))
    assert s.commands[-2:] == [SendGroup(0, QUIT), SendGroup(0, CONT)]


def test_that_it_ran_for_a_while_is_no_success_so_max_restarts_is_reached():
    s = up(Body(stops=0.1, status=0, ready=None), restart="always", max_restarts=2)
    for _ in range(3):
        s.pass_time(30)
        late(s)
    s.pass_time(30)
    assert s.starts == [2, 0] and s.status == 1
    assert [one.then for one in s.reported(log_events.NotReadyInTime)] == [
        "restart",
        "restart",
        "shutdown",
    ]


def test_a_failure_that_is_ignored_leaves_it_down():
    s = late(up(Body(stops=0.1, status=0, ready=None), on_failure="ignore"))
    s.pass_time(30)
    assert s.starts == [0, 0] and isinstance(s.system, run_phases.Up)
    assert isinstance(s.system.programs[0], Gone)


def test_what_is_only_being_drained_is_ended_and_its_drain_too():
    s = up(DEAF, restart="always", drain=DrainPolicy(probes=1))
    s.feed(DrainRequested(s.now))
    late(s)
    assert StopAsking(0) in s.commands and not s.under_way


def test_once_it_was_ready_there_is_no_limit():
    s = ready(up(restart="always"))
    late(s)
    assert not s.commands and not s.reported(log_events.NotReadyInTime)


# live


def alive(*bodies: Body, **rules: object) -> Simulation:
    web = ProgramPolicy(name="web", live=True, **rules)  # type: ignore[arg-type]
    policy = Policy((web, ProgramPolicy(name="db")), flush_timeout=0.0)
    return Simulation(policy, bodies=[*(bodies or (Body(),)), Body()], started=(0, 1))


def hangs(s: Simulation) -> Simulation:
    s.feed(ProgramUnhealthy(0, "no answer", s.now))
    return s


def test_what_is_not_healthy_is_ended_alone_and_started_again():
    s = hangs(alive(Body(stops=1.0, status=0)))
    assert s.reported(log_events.Unhealthy) == [log_events.Unhealthy(0, "no answer", "restart")]
    assert s.commands == [StopChecks(0), SendLeader(0, TERM), SendLeader(0, CONT)]
    assert not readiness.is_ready(s.system)
    s.pass_time(5)
    assert s.starts == [1, 0] and readiness.is_ready(s.system)


def test_what_hangs_so_that_it_does_not_end_is_killed():
    s = hangs(alive(Body(stops=None)))
    s.pass_time(30)
    assert s.times(KillProgram) == [100 + failed_health_check.STOP_TIME] and s.starts == [1, 0]


def test_after_max_restarts_on_failure_says_what_follows():
    s = alive(Body(stops=0.1, status=0), max_restarts=1)
    for _ in range(2):
        s.pass_time(5)
        hangs(s)
    s.pass_time(30)
    assert [one.then for one in s.reported(log_events.Unhealthy)] == ["restart", "shutdown"]
    assert s.starts == [1, 0] and s.status == 1


def test_stop_stops_all_in_order_and_the_status_is_that_of_a_failure():
    s = hangs(alive(Body(stops=1.0, status=0), on_unhealthy="stop"))
    assert [c for _, c in s.deeds if isinstance(c, SendLeader)] == [
        SendLeader(0, TERM),
        SendLeader(1, TERM),
    ]
    s.pass_time(30)
    assert s.status == 1 and s.starts == [0, 0]


def test_tell_only_tells_and_it_may_recover():
    s = hangs(alive(on_unhealthy="tell"))
    assert not s.commands and not readiness.is_ready(s.system)
    s.pass_time(8)
    s.feed(ProgramHealthy(0, s.now))
    s.feed(ProgramHealthy(0, s.now))
    assert s.reported(log_events.HealthyAgain) == [log_events.HealthyAgain(0, 8.0)]
    assert not s.commands and readiness.is_ready(s.system)


def test_while_it_stops_it_need_not_be_healthy():
    s = alive(Body(stops=None))
    s.signal(TERM)
    assert s.commands[0] == StopChecks(0)
    hangs(s)
    s.pass_time(60)
    assert s.starts == [0, 0] and not s.reported(log_events.Unhealthy)


def test_a_stop_while_it_is_ended_restarts_nothing():
    s = hangs(alive(Body(stops=3.0)))
    s.pass_time(1)
    s.signal(TERM)
    s.pass_time(60)
    assert s.starts == [0, 0] and s.commands.count(SendLeader(0, TERM)) == 1
    assert not s.times(KillProgram)


# Any history, any policy, any world


@settings(max_examples=100, deadline=None)
@given(ready_policies, worlds, health_histories)
def test_any_history_restarts_nothing_while_stopping_and_ends_in_time(policy, world, history):
    p = play_out(policy, world, history)
    if p.began is None:
        return
    starts = [at for at, c in p.s.log if isinstance(c, StartProgram) and at > p.began + EPSILON]
    assert not starts
    limit = policy.shutdown_timeout + GIVE_UP + policy.flush_timeout
    assert p.s.status is not None and p.s.log[-1][0] <= p.began + limit + EPSILON


@settings(max_examples=100, deadline=None)
@given(ready_policies, worlds, health_histories)
def test_any_program_that_is_sent_the_stop_signal_is_asked_no_more(policy, world, history):
    p = play_out(policy, world, history)
    for i, rules in enumerate(policy.programs):
        asked = True
        for _, command in p.s.log:
            if command == StopChecks(i):
                asked = False
            elif command == StartProgram(i):
                asked = True
            elif isinstance(command, SendLeader | SendGroup) and command.program == i:
                assert not (command.signum == rules.stop_signal and asked)
