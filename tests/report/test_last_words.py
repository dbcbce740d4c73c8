"""What agents say of processes that ended with work in flight, in the history of their program."""

from __future__ import annotations

import pytest

from gracewrap.policy import log_events
from gracewrap.policy.model import BUSY, AgentCounts, QueueJobs, Reading
from gracewrap.report import summary
from gracewrap.report.in_flight import InFlight
from gracewrap.report.probe_events import AgentExited, AgentUnseen
from gracewrap.report.program_history import ProgramHistory

ONE = AgentCounts(1, jobs=(QueueJobs("mails", 1, ("17",)),))
SIGNAL = log_events.StopSignal(0, 15, "leader")
HELD_TOO_LONG = log_events.DrainTimeout(0, 1.0, 2)


def told(*events) -> ProgramHistory:
    """Return the history of a program that is stopped with ONE in flight."""
    history = ProgramHistory("", ["node"])
    history.begins_again(7, 0.0)
    history.in_flight = InFlight([("agent", "requests and jobs")])
    history.drain_begins(1.0)
    history.in_flight.take(0, Reading(BUSY, 2, counts=ONE), 1.5)
    for event in events:
        history.take(event, 2.0, 1.0)
    return history


def ended(status: int, signum: int = 0) -> log_events.LeaderExited:
    return log_events.LeaderExited(0, status, signum, left=False, asked=True)


UNSEEN = AgentUnseen(0, 8, ONE, "1 request, 1 job of mails (17)", 0.25)
EXITED = AgentExited(0, 9, AgentCounts(3), "3 requests")


def test_what_several_processes_ended_with_is_added_and_what_is_certain_told_apart():
    history = told(SIGNAL, UNSEEN, EXITED, ended(143))
    assert (history.interrupted, history.outcome()) == (5, "interrupted")
    assert history.cut_jobs == ONE.jobs
    certain, probable = summary._particulars(history)
    assert certain.startswith("3 in flight were cut (it exited") and "17" not in certain
    assert probable.startswith("1 request, 1 job of mails (17) were in flight 0.25 s before pid 8")


@pytest.mark.parametrize("first", [True, False])
def test_what_the_last_sample_counts_as_well_is_taken_once(first):
    """The stop signal ended it although it was not drained: that cuts what was in flight."""
    events = (UNSEEN, ended(143, 15)) if first else (ended(143, 15), UNSEEN)
    history = told(HELD_TOO_LONG, SIGNAL, *events)
    assert history.interrupted == 2 and history.cut_jobs == ONE.jobs
    (probable,) = summary._particulars(history)
    assert probable.endswith("and were probably cut")
