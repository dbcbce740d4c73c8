"""Agents in the policy: they are told of a stop before the stop signal, which waits for their
answer, and never for long."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gracewrap.policy import log_events
from gracewrap.policy.model import (
    AgentsTold,
    DrainRequested,
    KillProgram,
    Policy,
    ProgramPolicy,
    SendLeader,
    TellAgents,
    UndrainRequested,
)
from gracewrap.policy.program_phases import AGENT_LIMIT, FINISHING, FOREVER
from simulation import DRAINED, Hook, Simulation, says, simulate

TERM = 15


def stopped(budget: float = 25.0, **rules: object) -> Simulation:
    """Return the simulation of a program with an agent in it that has just been asked to stop."""
    s = Simulation(Policy((ProgramPolicy(agent=True, **rules),), shutdown_timeout=budget))
    s.signal(TERM)
    return s


def test_the_stop_signal_waits_for_the_answer():
    s = stopped()
    assert s.deeds == [(100, TellAgents(0, "stop", 125))]
    s.pass_time(0.01)
    s.feed(AgentsTold(0, s.now))
    assert s.deeds[1:] == [(100.01, SendLeader(0, TERM))]


def test_an_agent_that_does_not_answer_is_not_waited_for_long():
    s = stopped()
    s.pass_time(30)
    assert s.deeds[1] == (100 + AGENT_LIMIT, SendLeader(0, TERM))
    assert s.times(KillProgram)[0] == 125
    assert len(s.reported(log_events.AgentsSilent)) == 1


def test_an_agent_that_answers_is_not_called_silent():
    s = stopped(pre_stop=True)
    s.feed(AgentsTold(0, s.now))
    s.pass_time(30)
    assert not s.reported(log_events.AgentsSilent)


def test_that_it_is_silent_is_said_once_whatever_else_is_waited_for():
    s = Simulation(
        Policy((ProgramPolicy(agent=True, pre_stop=True, propagation_delay=8.0),)),
        hooks={"pre_stop": Hook(6.0)},
    )
    s.signal(TERM)
    s.pass_time(30)
    assert s.times(SendLeader) == [108]
    assert len(s.reported(log_events.AgentsSilent)) == 1


@given(st.floats(0.1, 100), st.none() | st.floats(0.05, 100))
def test_there_is_time_after_the_stop_signal_whatever_the_budget(
    budget: float, stop_timeout: float | None
):
    s = stopped(budget, stop_timeout=stop_timeout)
    s.pass_time(budget + 1)
    (signalled,) = s.times(SendLeader)
    assert signalled <= 100 + min(AGENT_LIMIT, budget / 2) + 0.001
    assert s.times(KillProgram)[0] <= 100 + budget + 0.001


def test_an_answer_that_comes_too_late_changes_nothing():
    s = stopped()
    s.pass_time(AGENT_LIMIT)
    before = s.system
    s.feed(AgentsTold(0, s.now))
    assert s.system == before


def test_with_a_propagation_delay_they_are_told_at_once():
    s = stopped(propagation_delay=5.0)
    s.feed(AgentsTold(0, s.now))
    s.pass_time(10)
    assert s.deeds == [(100, TellAgents(0, "stop", 125)), (105, SendLeader(0, TERM))]


def test_a_hook_runs_meanwhile():
    s = Simulation(
        Policy((ProgramPolicy(agent=True, pre_stop=True),)), hooks={"pre_stop": Hook(2.0)}
    )
    s.signal(TERM)
    s.feed(AgentsTold(0, s.now))
    s.pass_time(10)
    assert s.times(SendLeader) == [102]


def test_a_second_request_does_not_wait():
    s = stopped()
    s.pass_time(1)
    s.signal(TERM)
    assert s.times(SendLeader) == [101]


@pytest.mark.parametrize("then_stop", [False, True])
def test_a_drain_alone_is_told_and_taken_back(then_stop: bool):
    s = Simulation(Policy((ProgramPolicy(agent=True),)))
    s.feed(DrainRequested(s.now))
    assert s.deeds == [(100, TellAgents(0, "drain", FOREVER))]
    if then_stop:
        s.signal(TERM)
        assert s.deeds[1:] == [(100, TellAgents(0, "stop", 125))]
    else:
        s.feed(UndrainRequested(s.now))
        assert s.deeds[1:] == [(100, TellAgents(0, "undrain", FOREVER))]


def test_without_an_agent_nothing_is_told():
    s = Simulation(Policy((ProgramPolicy(),)))
    s.signal(TERM)
    assert s.deeds == [(100, SendLeader(0, TERM))]


def test_what_keeps_the_signal_back_is_logged():
    s = stopped(stop_timeout=25.0)
    s.pass_time(6)
    assert [said.doing for said in s.reported(log_events.HeldTooLong)] == ["agent"]


@pytest.mark.parametrize("when", ["before-signal", "after-signal"])
@pytest.mark.parametrize("finishes", [True, False])
def test_an_agent_that_finishes_has_its_time_whatever_the_linger(when: str, finishes: bool):
    s = simulate(probe=says((0, DRAINED)), agent=True, when=when, linger=0.5)
    s.signal(TERM)
    s.feed(AgentsTold(0, s.now, finishes))
    s.pass_time(30)
    (signalled,) = s.times(SendLeader)
    lingers = FINISHING if finishes else 0.5
    assert signalled + lingers <= s.times(KillProgram)[0] < signalled + lingers + 1
