"""When a program whose stop takes long is looked at, and what is said to hold it up."""

from __future__ import annotations

import pytest

from gracewrap.policy import held_up_cause, held_up_looks, log_events
from gracewrap.policy import held_up_evidence as e
from gracewrap.policy import model as m
from gracewrap.policy.held_up_evidence import Evidence, Link, Suspect, Wait
from simulation import DRAINED, Simulation, says, simulate


def looked(s: Simulation) -> list[tuple[float, str]]:
    return [(at - 100, one.moment) for at, one in s.story if isinstance(one, m.Examine)]


def test_it_is_looked_at_at_half_of_its_time_and_before_sigkill():
    s = simulate(shutdown_timeout=10.0)
    s.signal(15)
    s.pass_time(20)
    assert looked(s) == [(5.0, "half"), (10 - held_up_looks.LEAD, "last")]
    assert s.times(m.KillProgram)[0] == 110


def test_the_half_is_of_the_time_from_the_stop_signal_on():
    s = simulate(shutdown_timeout=10.0, propagation_delay=4.0)
    s.signal(15)
    s.pass_time(20)
    assert looked(s) == [(7.0, "half"), (10 - held_up_looks.LEAD, "last")]


def test_in_a_short_stop_nobody_looks():
    s = simulate(shutdown_timeout=0.9)
    s.signal(15)
    s.pass_time(20)
    assert looked(s) == []


def test_one_that_exits_is_not_looked_at():
    s = simulate(shutdown_timeout=10.0)
    s.signal(15)
    s.pass_time(4.9)
    s.leader_exits()
    s.pass_time(20)
    assert looked(s) == []


def test_it_is_looked_at_before_it_is_killed_early():
    s = simulate(shutdown_timeout=20.0, probe=says((0, DRAINED)), linger=2.0)
    s.signal(15)
    s.pass_time(30)
    (killed,) = s.times(m.KillProgram)[:1]
    assert looked(s) == [(pytest.approx(killed - 100 - held_up_looks.LEAD), "last")]


def test_what_it_leaves_behind_is_looked_at_too():
    s = simulate(shutdown_timeout=10.0)
    s.signal(15)
    s.pass_time(6)
    s.leader_exits(left=True)
    s.pass_time(20)
    assert looked(s) == [(5.0, "half"), (10 - held_up_looks.LEAD, "last")]


def test_more_time_means_one_more_look():
    s = simulate(shutdown_timeout=10.0, stop_timeout=2.0)
    s.signal(15)
    s.pass_time(1.9)
    s.feed(m.TimeExtended(0, 3.0, s.now))
    s.pass_time(20)
    assert [moment for _, moment in looked(s)] == ["half", "last", "last"]


def test_what_was_seen_is_told_and_changes_nothing():
    s = simulate(shutdown_timeout=10.0)
    s.signal(15)
    s.pass_time(5)
    before = s.system
    s.feed(m.Examined(0, "half", Evidence((Suspect(70, 1, 1, "web"),), 1), s.now))
    assert s.system == before
    (told,) = s.reported(log_events.HeldUp)
    assert told.moment == "half"


def test_what_is_seen_of_one_that_has_ended_is_not_told():
    s = simulate(shutdown_timeout=10.0)
    s.signal(15)
    s.leader_exits()
    s.feed(m.Examined(0, "last", Evidence((Suspect(70, 1, 1, "web"),), 1), s.now))
    assert not s.reported(log_events.HeldUp)


def suspect(*waits: Wait, pid: int = 70, **more: object) -> Suspect:
    threads = sum(wait.threads for wait in waits) or 1
    return Suspect(pid, 1, 1 if pid == 70 else 70, "web", threads=threads, waits=waits, **more)  # type: ignore[arg-type]


EVENTS, LOCKS = Wait("S", e.EVENTS), Wait("S", e.LOCK, threads=2)
IDLE = Link("10.0.0.2:80", "10.0.3.7", 5000, True, e.PROGRAM, 41.0)
ASKED = Link("10.0.0.2:80", "10.0.3.8", 5000, True, e.PEER, 41.0)
POOL = Link("10.0.0.2:40000", "10.0.0.9", 5432, False, e.PEER, 41.0)
PARENT = suspect(Wait("S", e.CHILD), children=1)
SERVER = suspect(EVENTS, children=1)


@pytest.mark.parametrize(
    ("kind", "suspects", "links"),
    [
        (e.STOPPED, [suspect(state="T", pending=True)], [IDLE]),
        (e.FROZEN, [suspect(Wait("D", e.SIGNAL, wchan="do_sigtimedwait"), state="D")], [IDLE]),
        (e.FROZEN, [suspect(Wait("S", wchan="get_signal"), state="S", pending=True)], []),
        (e.BLOCKED, [suspect(Wait("S", wchan="do_sigtimedwait"), state="S", pending=True)], []),
        (e.DISK, [suspect(Wait("D", wchan="nfs_wait"), state="D")], [IDLE]),
        (e.DISK, [suspect(EVENTS, Wait("D", wchan="jbd2_log_wait"))], []),
        (e.NOT_KNOWN, [suspect(Wait("R"), state="D")], []),  # it was so for a moment
        (e.NOT_KNOWN, [suspect(Wait("D"), state="S")], []),
        # It is in vfork(2) for a moment each time it starts something; or for good.
        (e.CHILDREN, [suspect(Wait("D", e.CHILD), state="D", children=1)], []),
        (
            e.DISK,
            [
                suspect(Wait("D", e.CHILD), state="D", children=1),
                suspect(Wait("D", wchan="nfs_wait"), pid=71, state="D"),
            ],
            [],
        ),
        (e.BLOCKED, [suspect(EVENTS, pending=True)], [IDLE]),
        (e.IGNORED, [suspect(EVENTS, takes=m.IGNORES)], [IDLE]),
        (e.IGNORED, [PARENT, suspect(Wait("S", e.SLEEP), pid=71, takes=m.IGNORES)], []),
        # Whose parent waits for something else may not be what that waits for.
        (e.IDLE, [SERVER, suspect(EVENTS, pid=71, takes=m.IGNORES)], [IDLE]),
        (e.IGNORED, [SERVER, suspect(EVENTS, pid=71, takes=m.IGNORES)], []),
        (e.TIMER, [SERVER, suspect(EVENTS, pid=71, takes=m.IGNORES, forked=True)], []),
        (
            e.IGNORED,
            [SERVER, suspect(EVENTS, pid=71, takes=m.IGNORES, signalled=True)],
            [IDLE],
        ),
        (e.NOT_TOLD, [PARENT, suspect(EVENTS, pid=71, takes=m.CATCHES, listens=True)], [IDLE]),
        (e.NOT_TOLD, [PARENT, suspect(Wait("S", e.SLEEP), pid=71, takes=m.DEFAULT)], []),
        (
            e.BUSY,
            [
                PARENT,
                suspect(Wait("R"), pid=71, busy=True),
                suspect(Wait("S", e.READ, "pipe:[7]"), pid=72, takes=m.DEFAULT),
            ],
            [],
        ),
        # It has had the signal, or has closed its listener for it.
        (e.IDLE, [PARENT, suspect(EVENTS, pid=71, signalled=True, listens=True)], [IDLE]),
        (e.IDLE, [PARENT, suspect(EVENTS, pid=71)], [IDLE]),
        # A prefork worker has its parent's listener.
        (e.IDLE, [PARENT, suspect(EVENTS, pid=71, forked=True, listens=True)], [IDLE]),
        (e.WAITS_FOR_FILE, [suspect(Wait("S", e.FILE_LOCK, "/data/lock"))], [IDLE]),
        (e.FULL_PIPE, [suspect(Wait("S", e.WRITE, "its stdout (pipe:[7])"))], [IDLE]),
        (e.IN_FLIGHT, [suspect(Wait("S", e.WRITE, "socket:[7]"))], [ASKED]),
        (e.LOCKED, [suspect(LOCKS)], [ASKED]),
        (e.IN_FLIGHT, [suspect(LOCKS, EVENTS)], [IDLE, ASKED]),
        (e.BUSY, [suspect(Wait("R"), busy=True)], [IDLE]),
        (e.IDLE, [suspect(EVENTS)], [POOL, IDLE]),
        (e.OUTGOING, [suspect(EVENTS)], [POOL]),
        (e.TIMER, [suspect(Wait("S", e.EVENTS, timed=True))], []),
        (e.INPUT, [suspect(Wait("S", e.READ, "pipe:[7]"))], []),
        (e.CHILDREN, [PARENT], []),
        (e.NOT_KNOWN, [suspect(Wait("S"))], []),
    ],
)
def test_the_cause(kind, suspects, links):
    seen = Evidence(tuple(suspects), len(suspects), tuple(links), len(links))
    assert held_up_cause.cause(seen).kind == kind


@pytest.mark.parametrize(
    ("kind", "links"), [(e.WORK, [POOL]), (e.WORK, [IDLE]), (e.WORK, []), (e.IN_FLIGHT, [ASKED])]
)
def test_what_it_counts_is_the_cause_and_not_the_pool_of_its_queue(kind, links):
    busy = suspect(EVENTS, busy=True)
    seen = Evidence((busy,), 1, tuple(links), len(links), work="3 jobs of mails (4, 5, 6)")
    assert held_up_cause.cause(seen).kind == kind


def test_a_known_supervisor_waits_for_what_it_has_started():
    parent = Suspect(70, 1, 1, "supervisord", children=1, waits=(EVENTS,))
    assert held_up_cause.cause(Evidence((parent, suspect(EVENTS, pid=71)), 2)).suspect.pid == 71


def test_a_look_that_was_cut_short_does_not_say_that_nothing_is_open():
    seen = Evidence((suspect(EVENTS),), 1, complete=False)
    assert held_up_cause.cause(seen).kind == e.NOT_KNOWN


def dumps(s: Simulation) -> list[tuple[float, m.Command]]:
    return [(at - 100, c) for at, c in s.log if isinstance(c, m.SendDump)]


@pytest.mark.parametrize(
    ("signum", "more", "at"),
    [
        (3, {"dumps": True}, 5.0),
        (3, {"dumps": True, "ends": True}, 10 - held_up_looks.LEAD),  # Go ends by it
        (6, {"dumps": True}, 10 - held_up_looks.LEAD),  # so does whoever handles SIGABRT
        (3, {}, None),  # without a handler it would end
    ],
)
def test_who_handles_the_dump_signal_is_sent_it_once(signum, more, at):
    s = simulate(shutdown_timeout=10.0, dump_signal=signum)
    s.signal(15)
    for moment, until in (("half", 5.0), ("last", 10 - held_up_looks.LEAD)):
        s.pass_time(100 + until - s.now)
        s.feed(m.Examined(0, moment, Evidence((suspect(EVENTS, **more),), 1), s.now))
    s.pass_time(5)
    wanted = [] if at is None else [(pytest.approx(at), m.SendDump(0, ((70, 1),), signum))]
    assert dumps(s) == wanted
    assert s.times(m.KillProgram)[0] == 110
