"""Who is sent the stop signal besides the leader, and when."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gracewrap.policy import log_events
from gracewrap.policy import model as m
from gracewrap.policy.stop_signal_recipients import LOOK_SOON, NEVER, SETTLE, Watch, decide, observe
from gracewrap.record import replace

TERM, INT = 15, 2
LEADER = (10, 1)
SINCE, KILL_AT = 100.0, 110.0
HALF = 105.0
LAST = 108.0  # everything has been sent it by then


def process(pid: int, parent: int, takes: str = m.CATCHES, **more: object) -> m.Process:
    fields: dict[str, object] = {"name": "app", "switches": 5, "asleep": False, **more}
    return m.Process(pid, 1, parent, takes=takes, **fields)  # type: ignore[arg-type]


def watch(*before: m.Process, **more: object) -> Watch:
    """Return what is known when the leader has just been sent the stop signal."""
    fields = {
        "before": {one.id: one for one in before},
        "sent": {LEADER: SINCE},
        "leader": LEADER,
        **more,
    }
    return Watch(SINCE, TERM, **fields)  # type: ignore[arg-type]


def due(known: Watch, *seen: m.Process, pid: int = 11) -> float:
    """Return when a process is sent the stop signal, if all stays as it is; SINCE + 0.1 is now."""
    at = SINCE + 0.1
    while at < KILL_AT:
        decision = decide(known, seen, at, KILL_AT)
        if any(one.pid == pid for one in decision.now):
            return at
        if decision.again_at == NEVER:
            return NEVER
        at = decision.again_at
    return NEVER


NOW = SINCE + 0.1


def test_what_a_leader_without_a_handler_leaves_cannot_have_been_told():
    leader, app = process(10, 1, m.DEFAULT), process(11, 10)
    assert due(watch(leader, app), replace(app, parent=1, switches=9)) == NOW


def test_what_says_that_it_has_heard_nothing_is_told_once_its_parent_is_gone():
    leader, app = process(10, 1), process(11, 10)
    known = watch(leader, app)
    assert due(known, replace(app, parent=1, switches=9)) == HALF
    assert due(known, replace(app, parent=1, switches=9, unheard=True)) == SINCE + SETTLE
    assert due(known, leader, replace(app, unheard=True)) == HALF  # it may pass the signal on


def test_forked_workers_are_left_to_their_parent_as_long_as_it_is_there():
    shell, master = process(10, 1, m.DEFAULT, shell=True), process(11, 10)
    worker = process(12, 11, forked=True)
    known = watch(shell, master, worker)
    seen = replace(master, parent=1), worker
    assert due(known, *seen) == NOW
    assert due(known, *seen, pid=12) == NEVER
    assert due(replace(known, sent={LEADER: SINCE, master.id: NOW}), *seen, pid=12) == NEVER


def test_a_worker_whose_parent_had_a_handler_and_has_gone_has_half_of_the_time():
    master, worker = process(10, 1), process(11, 10, forked=True)
    assert due(watch(master, worker), replace(worker, parent=1, switches=9)) == HALF


def test_what_reads_the_output_of_another_one_is_left_to_the_end_of_it():
    shell = process(10, 1, m.DEFAULT, shell=True)
    server = process(11, 10, writes=("pipe:[7]",))
    formatter = process(12, 10, m.DEFAULT, reads="pipe:[7]")
    known = watch(shell, server, formatter)
    orphans = replace(server, parent=1), replace(formatter, parent=1)
    assert due(known, *orphans) == NOW
    assert due(known, *orphans, pid=12) == LAST
    assert due(known, orphans[1], pid=12) == HALF  # its input has ended: it writes the rest


@pytest.mark.parametrize(
    ("takes", "server_due"),
    [(m.CATCHES, SINCE + SETTLE), (m.IGNORES, NOW)],
    ids=["trap", "ignores"],
)
def test_what_reads_the_output_of_another_one_is_left_to_it_below_a_shell_too(takes, server_due):
    shell = process(10, 1, takes, shell=True)
    server = process(11, 10, asleep=True, writes=("pipe:[7]",))
    formatter = process(12, 10, m.DEFAULT, asleep=True, reads="pipe:[7]")
    known = watch(shell, server, formatter)
    assert due(known, shell, server, formatter) == server_due
    assert due(known, shell, server, formatter, pid=12) == LAST
    assert due(known, shell, formatter, pid=12) == HALF


def test_one_that_slept_all_the_time_has_not_been_told_by_the_wrapper_that_is_gone():
    wrapper, app = process(10, 1), process(11, 10, asleep=True)
    assert due(watch(wrapper, app), replace(app, parent=1)) == NOW
    assert due(watch(wrapper, app), replace(app, parent=1, switches=6)) == HALF
    assert due(watch(wrapper, app), replace(app, parent=1, asleep=False)) == HALF


@pytest.mark.parametrize("sign", [{"takes": m.DEFAULT}, {"listens": False}, {"pending": True}])
def test_one_that_shows_that_it_has_been_told_is_not_told_again(sign):
    wrapper, app = process(10, 1), process(11, 10, listens=True)
    known = watch(wrapper, app)
    assert due(known, replace(app, parent=1, **sign)) == NEVER
    assert due(known, wrapper, replace(app, **sign)) == NEVER


def test_what_executes_a_program_meanwhile_has_lost_its_handler_by_that():
    wrapper, app = process(10, 1), process(11, 10, forked=True)
    assert due(watch(wrapper, app), replace(app, parent=1, forked=False, takes=m.DEFAULT)) == NOW


def test_npm_signals_the_shell_that_it_has_started_and_nothing_below_it():
    npm, shell = process(10, 1), process(12, 10, m.DEFAULT, shell=True)
    server = process(11, 12, listens=True)
    known = watch(npm, shell, server)
    assert due(known, replace(server, parent=1, switches=9)) == SINCE + SETTLE
    worker = replace(server, listens=False)
    known = watch(npm, shell, worker)
    assert due(known, replace(worker, parent=1, switches=9)) == HALF  # no sign can be seen of it


def test_honcho_signals_what_the_shell_that_it_has_started_has_started():
    leader, shell = process(10, 1, name="honcho"), process(11, 10, m.DEFAULT, shell=True)
    app = process(12, 11, listens=True)
    orphan = replace(app, parent=1, switches=9)
    assert due(watch(leader, shell, app), leader, orphan, pid=12) == LAST
    slept = replace(app, asleep=True)
    assert due(watch(leader, shell, slept), leader, replace(slept, parent=1), pid=12) == NOW


def test_below_one_that_ignores_it_everything_is_told_at_once():
    leader, app = process(10, 1, m.IGNORES), process(11, 10)
    assert due(watch(leader, app), leader, app) == NOW


def test_a_shell_with_a_trap_passes_nothing_on_before_its_command_ends():
    shell = process(10, 1, shell=True)
    app = process(11, 10, asleep=True)
    assert due(watch(shell, app), shell, app) == SINCE + SETTLE
    assert due(watch(shell, app), shell, replace(app, switches=6)) == HALF
    behind = replace(app, background=True)
    assert due(watch(shell, behind), shell, behind) == HALF
    sleeps = process(13, 10, m.DEFAULT, name="sleep")  # trap 'sleep 5; kill $pid' TERM
    assert due(watch(shell, app), shell, app, sleeps) == HALF
    assert due(watch(shell, app), shell, app, sleeps, pid=13) == HALF


def test_a_shell_handles_sigint_without_a_trap():
    shell, app = process(10, 1, shell=True), process(11, 10)
    known = replace(watch(shell, app), signum=INT)
    assert due(known, shell, replace(app, switches=6)) == SINCE + 1


def test_what_is_below_a_wrapper_that_keeps_it_is_told_at_half_of_its_time():
    wrapper, app = process(10, 1, name="unshare"), process(11, 10)
    assert due(watch(wrapper, app), wrapper, app) == HALF


def test_what_is_below_a_server_is_the_server_s_until_the_last_moment():
    server, tool = process(10, 1, has_sockets=True), process(11, 10, m.DEFAULT)
    assert due(watch(server, tool), server, tool) == LAST


@pytest.mark.parametrize(
    "name", ["tini", "dumb-init", "gracewrap", "runsv", "s6-supervise", "sudo"]
)
def test_what_is_below_another_supervisor_is_its_own(name):
    init, app = process(10, 1, name=name), process(11, 10)
    assert due(watch(init, app), init, app) == NEVER


def test_what_supervisord_has_not_come_to_is_told_at_last():
    # It stops one program after another: at half of the time one may be finishing, others be due.
    parent, first, second = process(10, 1, name="supervisord"), process(11, 10), process(12, 10)
    known = watch(parent, first, second)
    assert due(known, parent, first, second) == LAST
    assert due(known, parent, second, pid=12) == LAST


def test_a_daemon_may_be_stopped_by_its_pid_file_while_the_leader_is_there():
    leader, daemon = process(10, 1, m.DEFAULT), process(11, 1)
    known = watch(leader, daemon)
    assert due(known, leader, daemon) == HALF
    assert due(known, daemon) == NOW


def test_clean_up_work_has_half_of_the_time():
    leader = process(10, 1, m.DEFAULT)
    assert due(watch(leader), process(11, 1, m.DEFAULT)) == HALF


def test_leftovers_of_a_leader_that_was_sent_nothing_are_told_at_once():
    known = Watch(SINCE, TERM, signalled=False)
    assert due(known, process(11, 1), process(12, 11), pid=11) == NOW
    # On a terminal they may have had Ctrl-C.
    known = replace(known, terminal=10)
    assert due(known, process(11, 1, group=10, catches_int=True)) == HALF
    assert due(known, process(11, 1, group=11, catches_int=True)) == NOW
    assert due(known, process(11, 1, group=10)) == NOW


def test_a_starter_that_is_left_when_the_main_process_has_gone_is_looked_at_and_told():
    """The signal went to a main process that the starter had named; the starter is alone now."""
    main, starter = process(10, 9), process(9, 1)
    known = watch(starter, main)
    known, commands = observe(known, m.TreeSeen(0, (starter,), NOW), KILL_AT, leader_gone=False)
    assert not commands and known.look_at is not None
    seen = m.TreeSeen(0, (replace(starter, switches=9),), HALF)
    known, commands = observe(known, seen, KILL_AT, leader_gone=False)
    assert m.SendTo(0, (starter.id,), TERM) in commands
    known, _ = observe(watch(main), m.TreeSeen(0, (main,), NOW), KILL_AT, leader_gone=False)
    assert known.look_at is None  # one that was told, and is alone: nobody waits for anything


@pytest.mark.parametrize(
    ("takes", "shell", "event"),
    [
        (m.IGNORES, True, log_events.StopSignalIgnored),
        (m.CATCHES, True, log_events.ShellWaits),
        (m.CATCHES, False, log_events.LastCall),
    ],
)
def test_a_loop_in_front_is_logged_once_although_each_of_its_children_is_sent_it(
    takes, shell, event
):
    """`trap '' TERM; while :; do sleep 0.2; done`: at each look there is another sleep."""
    leader = process(10, 1, takes, shell=shell)
    known, sent, lines = watch(leader), [], []
    for pid in range(11, 20):
        seen = m.TreeSeen(0, (leader, process(pid, 10)), LAST + pid / 100)
        known, commands = observe(known, seen, KILL_AT, leader_gone=False)
        sent += [one.targets for one in commands if isinstance(one, m.SendTo)]
        lines += [one for one in commands if isinstance(one, log_events.ToMembers)]
    assert sent == [((pid, 1),) for pid in range(11, 20)]
    assert lines == [event(0, TERM, (("app", 11),), ("app", 10))]


def test_each_one_that_was_there_before_is_logged_when_it_has_lost_its_parent():
    leader, *apps = process(10, 1), process(11, 10), process(12, 10)
    known, lines = watch(leader, *apps), []
    for at, one in ((LAST, apps[0]), (LAST + 0.1, apps[1])):
        seen = m.TreeSeen(0, (replace(one, parent=1),), at)
        known, commands = observe(known, seen, KILL_AT, leader_gone=True)
        lines += [one for one in commands if isinstance(one, log_events.Leftover)]
    assert [line.members for line in lines] == [(("app", 11),), (("app", 12),)]


# --- any tree ------------------------------------------------------------------------------------


@st.composite
def trees(draw: st.DrawFn) -> tuple[m.Process, ...]:
    """Any tree below a leader: shells, wrappers, prefork servers, pipelines."""
    found = [process(10, 1, draw(_takes), shell=draw(st.booleans()), asleep=True)]
    for pid in range(11, 11 + draw(st.integers(0, 7))):
        parent = draw(st.sampled_from(found))
        found.append(
            process(
                pid,
                parent.pid,
                draw(_takes),
                shell=draw(st.booleans()),
                forked=draw(st.booleans()),
                background=draw(st.booleans()),
                asleep=draw(st.booleans()),
                has_sockets=draw(st.booleans()),
                listens=draw(st.booleans()),
                reads=draw(st.sampled_from(["", "pipe:[1]"])),
                writes=draw(st.sampled_from([(), ("pipe:[1]",)])),
            )
        )
    return tuple(found)


_takes = st.sampled_from([m.DEFAULT, m.IGNORES, m.CATCHES])


class World:
    """A program that is being stopped: processes with a handler take the signal and go on, those
    without one die of it, and some pass it on to their children at some time."""

    def __init__(self, tree: tuple[m.Process, ...], exits: dict[int, float]) -> None:
        self.tree = {one.pid: one for one in tree}
        self.exits = exits  # pid -> when it ends by itself
        self.known = watch(*tree, sent={LEADER: SINCE})
        self.sent: dict[int, list[float]] = {10: [SINCE]}
        self.parents_at: dict[int, m.Process | None] = {}  # of those told: who was above them
        self.is_news = False  # something has ended since the last look
        if tree[0].takes == m.DEFAULT:
            self.ends(10)

    def ends(self, pid: int) -> None:
        self.is_news = self.tree.pop(pid, None) is not None or self.is_news
        for one in list(self.tree.values()):
            if one.parent == pid:
                self.tree[one.pid] = replace(one, parent=1)

    def look(self, at: float) -> float:
        for pid in [pid for pid, end in self.exits.items() if end <= at]:
            self.ends(pid)
        self.is_news = False  # or has just been seen
        decision = decide(self.known, tuple(self.tree.values()), at, KILL_AT)
        for one in decision.now:
            self.sent.setdefault(one.pid, []).append(at)
            self.parents_at[one.pid] = self.tree.get(one.parent)
            self.known = replace(self.known, sent={**self.known.sent, one.id: at})
        for one in decision.now:
            if one.takes == m.DEFAULT:
                self.ends(one.pid)
        return at + LOOK_SOON if self.is_news else decision.again_at


@settings(max_examples=300, deadline=None)
@given(trees(), st.dictionaries(st.integers(10, 17), st.floats(SINCE, KILL_AT - 0.5), max_size=4))
def test_in_any_tree_each_is_told_once_in_time_and_prefork_children_never_before_their_parent(
    tree, exits
):
    world = World(tree, exits)
    at = SINCE
    while at < KILL_AT:
        again = world.look(at)
        at = max(at + 0.01, min(again, at + 0.25))
    for pid, times in world.sent.items():
        assert len(times) == 1, f"{pid} was told at {times}"
        # A forked one is its parent's until that ends, whenever that is.
        assert times[0] <= LAST + 0.5 or _tree(tree, pid).forked, f"{pid} was told at {times}"
        above = world.parents_at.get(pid)
        assert above is None or above.shell or not _tree(tree, pid).forked
    for one in world.tree.values():  # those that SIGKILL finds
        if one.pid not in world.sent:
            assert _is_cared_for(world, one), f"{one} was told by nobody"


def _tree(tree: tuple[m.Process, ...], pid: int) -> m.Process:
    return next(one for one in tree if one.pid == pid)


def _is_cared_for(world: World, one: m.Process) -> bool:
    """Return whether a process runs the program of a parent that is there: the parent stops it."""
    parent = world.tree.get(one.parent)
    return parent is not None and one.forked and not parent.shell
