"""What the service manager above is told, and when."""

from __future__ import annotations

import pytest

from gracewrap.policy import service_manager_news
from gracewrap.policy.model import Policy, ProgramPolicy, ProgramReady, ProgramUnready
from simulation import Body, Simulation

TERM = 15


def asked() -> Simulation:
    policy = Policy((ProgramPolicy(ready=True),), flush_timeout=0.0)
    return Simulation(policy, bodies=[Body(ready=None, stops=5.0)], started=(0,))


def test_it_is_told_once_that_all_is_ready_and_once_that_it_stops():
    s, told = asked(), service_manager_news.Told()
    told, lines = service_manager_news.news(told, s.system, s.policy, "starting")
    assert lines == ("STATUS=starting",)
    s.feed(ProgramReady(0, s.now))
    told, lines = service_manager_news.news(told, s.system, s.policy, "running")
    assert lines == ("READY=1", "STATUS=running")
    s.feed(ProgramUnready(0, "503", s.now))
    told, lines = service_manager_news.news(told, s.system, s.policy, "degraded")
    assert lines == ("STATUS=degraded",)
    s.feed(ProgramReady(0, s.now))
    told, lines = service_manager_news.news(told, s.system, s.policy, "running")
    assert lines == ("STATUS=running",)
    assert service_manager_news.news(told, s.system, s.policy, "running") == (told, ())
    s.signal(TERM)
    told, lines = service_manager_news.news(told, s.system, s.policy, "stopping")
    assert lines == ("STOPPING=1", "STATUS=stopping")
    s.pass_time(30)
    assert service_manager_news.news(told, s.system, s.policy, "stopping") == (told, ())


def test_what_was_never_ready_is_not_said_to_be_when_it_stops():
    s = asked()
    s.signal(TERM)
    assert service_manager_news.news(service_manager_news.Told(), s.system, s.policy, "stopping")[
        1
    ] == (
        "STOPPING=1",
        "STATUS=stopping",
    )


def test_a_status_of_the_command_stands_beside_ours_in_one_short_line():
    s = asked()
    _, lines = service_manager_news.news(
        service_manager_news.Told(), s.system, s.policy, "starting", "a\nREADY=1 " + "x" * 500
    )
    assert lines[0].startswith("STATUS=starting: a READY=1 xx")
    assert (
        len(lines) == 1
        and len(lines[0]) <= 7 + service_manager_news.STATUS
        and "\n" not in lines[0]
    )


@pytest.mark.parametrize(
    ("programs", "hears", "speaks"),
    [
        ((ProgramPolicy(),), False, False),
        ((ProgramPolicy(),), True, True),
        ((ProgramPolicy(ready=True),), False, True),
        ((ProgramPolicy(live=True),), False, True),
        ((ProgramPolicy(), ProgramPolicy()), False, True),
    ],
)
def test_of_one_command_that_nobody_asks_it_is_left_to_the_command(programs, hears, speaks):
    assert service_manager_news.speaks(Policy(programs), hears) is speaks
