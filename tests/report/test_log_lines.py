"""Every log event: its level, its name, its fields and its sentence, as log_lines.txt has them.

Names and fields are read by machines and stay as they are; the sentences are for people.  To see
what the lines are now, and after a change that is meant to write them anew:

    python tests/report/test_log_lines.py > tests/report/log_lines.txt
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Mapping
from pathlib import Path

import pytest

if __name__ == "__main__":  # without pytest, which sets the path
    sys.path.insert(0, str(Path(__file__).parents[2] / "supervisor"))

from gracewrap.linux import signal_and_kill
from gracewrap.policy import held_up_evidence as evidence
from gracewrap.policy import log_events
from gracewrap.policy.held_up_evidence import Cause, Evidence, Link, Suspect, Wait
from gracewrap.policy.log_events import LogRecord
from gracewrap.policy.model import (
    BUSY,
    DRAINED,
    INVALID,
    UNREACHABLE,
    AgentCounts,
    QueueJobs,
    Reading,
)
from gracewrap.policy.program_phases import NO_REQUEST
from gracewrap.record import replace
from gracewrap.report import probe_events, runtime_events
from gracewrap.report.in_flight import InFlight
from gracewrap.report.json_encoder import dumps
from gracewrap.report.log import Log
from gracewrap.report.recorder import Recorder

EXPECTED = Path(__file__).with_name("log_lines.txt")
HUP, INT, QUIT, KILL, TERM = 1, 2, 3, 9, 15

# The class of each event that is made by its name here; "waiting" has two.
KINDS = {
    kind.EVENT: kind
    for module in (log_events, runtime_events, probe_events)
    for kind in vars(module).values()
    if isinstance(kind, type) and issubclass(kind, LogRecord)
}


class Kept(Log):
    """A log that keeps its lines."""

    def __init__(self) -> None:
        super().__init__("json", "debug")
        self.lines: list[tuple[str, str, str, Mapping[str, object]]] = []

    def open(self) -> None:
        pass

    def say(self, level: str, event: str, message: str, fields: Mapping[str, object]) -> None:
        self.lines.append((level, event, message, fields))


class Scene:
    """A run of one command, or of the programs db, web and worker; *i* is the one that things
    happen to."""

    def __init__(self, several: bool) -> None:
        names = ("db", "web", "worker") if several else ("",)
        self.log, self.several, self.i, self.at = Kept(), several, 1 if several else 0, 100.0
        programs = [(name, [f"/bin/{name or 'web'}"]) for name in names]
        self.recorder = Recorder(self.log, 25.0, self.at, 1e9, programs)
        self.history = self.recorder.histories[self.i]
        self.history.find = list
        self.history.in_flight = InFlight([("http", "requests"), ("file", "jobs")])
        for n, history in enumerate(self.recorder.histories):
            history.begins_again(70 + n, self.at)

    def say(self, event: str, **fields: object) -> None:
        """Let something happen to the program."""
        self.say_of_all(event, program=self.i, **fields)

    def say_of_all(self, event: str, **fields: object) -> None:
        """Let something happen that is about no single program."""
        if event == "stop_requested":
            self.recorder.run.sender = "sh (pid 1, uid 0)"
        if "signal" in fields:
            fields["signum"] = fields.pop("signal")
        self.recorder.record(KINDS[event](**fields), self.at)  # type: ignore[arg-type]

    def after(self, seconds: float) -> Scene:
        self.at += seconds
        return self

    def stops(self) -> Scene:
        """Ask for a stop, and send the stop signal 2 s later."""
        self.say_of_all("stop_requested", signal=TERM)
        self.after(2.0).say("stop_signal", signal=TERM, to="leader")
        return self.after(1.25)

    def exits(self, status: int = 0, signal: int = 0, **more: object) -> Scene:
        more = {"left": False, "asked": False, "then": "ignore", **more}
        self.say("leader_exited", status=status, signal=signal, **more)
        return self

    def samples(self, in_flight: float, kind: str = BUSY, why: str = "") -> None:
        self.recorder.sampled(self.i, 0, Reading(kind, in_flight, why), self.at)


Act = Callable[[Scene], object]
SCENES: dict[str, Act] = {}


def scene(act: Act) -> Act:
    """Keep a scene; its last line is the one that is looked at."""
    SCENES[act.__name__] = act
    return act


def simply(name: str, event: str, of_all: bool = False, **fields: object) -> None:
    """Keep a scene in which nothing happens but one event."""
    SCENES[name] = lambda s: (s.say_of_all if of_all else s.say)(event, **fields)


simply("started", "started")
simply("cannot_run", "cannot_run", why="cannot run 'x': No such file or directory", status=127)
simply("ready", "ready", after=1.5)
simply("program_ready", "program_ready", after=1.5)
simply("not_ready", "not_ready", after=10.2, why="connection refused")
simply("not_ready_and_nobody_knows_why", "not_ready", after=10.2, why="")
simply("unready", "unready", why="503 Service Unavailable; 3 times in a row")
simply("ready_again", "ready_again", after=12.0)
for then in ("shutdown", "restart", "ignore"):
    late = {"after": 60.01, "why": "connection refused", "then": then}
    simply(f"not_ready_in_time_{then}", "not_ready_in_time", **late)
simply("not_ready_in_time_short", "not_ready_in_time", **{**late, "after": 0.2003})
for then in ("restart", "shutdown", "ignore", "tell"):
    simply(f"unhealthy_{then}", "unhealthy", why="no answer within 2 s; 3 times", then=then)
simply("healthy_again", "healthy_again", after=12.0)
simply("not_yet_healthy", "not_yet_healthy", after=10.2, why="404 Not Found")
simply("failed_stop", "failed_stop", signal=TERM, remaining=10.0)
simply("said", "said", text="loading")
simply("watchdog", "watchdog", after=0.4)
simply("watchdog_trigger", "watchdog", after=0.0)
simply("watchdog_abort", "watchdog_abort", signal=6, remaining=5.0)
simply("main_pid", "main_pid", who="web (pid 71)", main=99)
simply("agent_off", "agent_off", why="sleep is not Node.js")
simply("agent", "agent", pid=72, runtime="node 20.20.2", thread=0)
simply("agent_in_a_thread", "agent", pid=72, runtime="node 20.20.2", thread=3)
simply("agent_trouble", "agent_trouble", pid=72, why="counting jobs is switched off: no")
simply("agents_told", "agents_told", own=1, agent=2, none=1)
simply("agents_silent", "agents_silent")
simply("agents_told_and_nothing_to_do", "agents_told", own=0, agent=0, none=2)
simply("roll", "roll", True, by="SIGHUP from sh (pid 1, uid 0)", waits=False)
simply("roll_that_waits", "roll", True, by="SIGHUP from sh (pid 1, uid 0)", waits=True)
simply("hook", "hook", hook="pre_stop", command="./deregister")
simply("hook_push", "hook", hook="push", command="http://push:9091")
simply("fault", "fault", True, error="OSError: no")
TAKEN_IN = "what it writes is not taken in"
simply("unheard", "unheard", what=TAKEN_IN, why="Too many open files")
MINIMAL = "install python3, not only python3-minimal"
simply("unheard_of_all", "unheard", True, what="it cannot be answered", why="No x", cure=MINIMAL)
simply("shell_in_front", "shell_in_front", True, shell="sh")
simply("log_reopened", "log_reopened", True, file="/var/log/gracewrap.log")
simply("output_lost", "output_lost", True, lines=3)
simply("reaped", "reaped", True, pid=9, status=0)
simply("child_stopped", "child_stopped", signal=20, done="not followed")
simply("bug", "bug", True, error="RuntimeError: x")
simply("stop_requested", "stop_requested", True, signal=TERM)
simply("stop_requested_otherwise", "stop_requested", True, signal=0, by="gracewrap stop (pid 7)")
simply("stop_signal", "stop_signal", signal=TERM, to="leader")
simply("stop_signal_to_the_group", "stop_signal", signal=TERM, to="group")
simply("dump_signal", "dump_signal", signal=QUIT, members=(("java", 70),))
simply("rung", "rung", signal=INT, why="escalation")
simply("serving", "serving", seconds=5.0)
simply("drain_requested", "drain_requested", True)
simply("undrain_requested", "undrain_requested", True)
simply("drain_start", "drain_start")
simply("draining", "draining", stopping=False)
simply("draining_before_the_stop_signal", "draining", stopping=True)
simply("drain_failed", "drain_failed", probe=1, why="refused")
simply("drain_timeout", "drain_timeout", after=5.0, in_flight=None)
simply("drain_timeout_with_work_in_flight", "drain_timeout", after=5.0, in_flight=2.0)
simply("held_too_long_by_the_delay", "held_too_long", doing="propagation_delay", after=3.0)
simply("held_too_long_by_pre_stop", "held_too_long", doing="pre_stop", after=3.0)
simply("held_too_long_by_drain_start", "held_too_long", doing="drain.start", after=3.0)
simply("held_too_long_by_the_drain", "held_too_long", doing="drain", after=3.0)
simply("probe_invalid", "probe_invalid", probe=1, why="404 Not Found")
simply("extended", "extended", remaining=12.5)
simply("gave_up", "gave_up", after=1.0)


@scene
def gave_up_on_what_the_leader_has_left(s: Scene) -> None:
    s.stops().say("kill", why="out of time", leader=True)
    s.exits(137, KILL, left=True, asked=True)
    s.history.members = "sleep (pid 12)"
    s.say("gave_up", after=1.0)


simply("stop_waits", "stop_waits", programs=(0,))
simply("all_ended", "all_ended", True)
simply("part_requested", "part_requested", True, by="gracewrap stop x", again=False, programs=(0,))
simply("part_restart", "part_requested", True, by="gracewrap restart x", again=True, programs=(0,))
simply("part_refused", "part_refused", True, by="gracewrap stop x", programs=(0,))
simply("part_stopped", "part_stopped", True, programs=(0,), again=False)
simply("part_to_be_started", "part_stopped", True, programs=(0,), again=True)
simply("forwarded", "forwarded", True, signal=HUP, sent=INT)
simply("dropped", "dropped", True, signal=HUP)
simply("unsent", "unsent", True, connections=2)
simply("leader_exited", "leader_exited", status=0, signal=0, left=False, asked=False, then="ignore")
simply("start_failed", "start_failed", status=127, why="not found", then="ignore")
simply("start_failed_and_ends_all", "start_failed", status=127, why="not found", then="shutdown")
for effect in ("none", "stopping already", "nothing to skip", "skip ahead", "kill"):
    simply(f"asked_again_{effect.replace(' ', '_')}", "asked_again", True, signal=0, effect=effect)
simply("asked_again_by_a_signal", "asked_again", True, signal=INT, effect="skip ahead")


WEB, NPM = Suspect(70, 1, 1, "web", threads=3), Suspect(69, 1, 1, "npm")
LINK = Link("10.0.0.2:80", "10.0.3.7", 40001, True, evidence.PROGRAM, 41.2)
POOL = Link("10.0.0.2:40002", "10.0.0.9", 5432, False, evidence.PEER, 3.0)
ON_FILE, FULL = Wait("S", evidence.FILE_LOCK, "/data/lock"), Wait("S", evidence.WRITE, "its stdout")
IN_OPEN, IN_SYNC = Wait("S", evidence.OPEN, "/run/fifo"), Wait("D", evidence.SYNC, "/data/log")
IN_KERNEL, LOCKS = Wait("D", wchan="nfs_wait_bit"), Wait("S", evidence.LOCK, threads=3)
TIMED, STDIN = Wait("S", evidence.LOCK, timed=True), Wait("S", evidence.READ, "its stdin")


def holds_up(name: str, cause: Cause) -> None:
    """Keep a scene in which a stop takes long, for this cause."""
    seen = Evidence((WEB,), 1, cause.links, len(cause.links))
    SCENES[f"held_up_{name}"] = lambda s: s.stops().say(
        "held_up", moment="half", cause=cause, evidence=seen
    )


holds_up("by_a_kept_connection", Cause(evidence.IDLE, WEB, links=(LINK,)))
UNUSED = Link("[::]:80", "fd00::7", 5, True, evidence.NOBODY, 1.0)
holds_up("by_unused_connections", Cause(evidence.IDLE, WEB, links=(UNUSED, UNUSED)))
holds_up("by_connections_of_its_user", Cause(evidence.IDLE, WEB, links=(replace(LINK, user=1000),)))
for what, more in {
    "request": {"last": evidence.PEER},
    "half_a_request": {"last": evidence.PEER, "read": True},
    "unread": {"unread": 7},
    "unsent": {"unsent": 9000},
}.items():
    link = replace(LINK, **more)
    holds_up(f"by_a_connection_in_flight_{what}", Cause(evidence.IN_FLIGHT, WEB, links=(link,)))
holds_up("by_jobs", Cause(evidence.WORK, WEB, work="3 jobs of mails (4, 5, 6)"))
holds_up("by_a_database", Cause(evidence.OUTGOING, WEB, links=(POOL, POOL)))
for kind, wait in {
    evidence.STOPPED: None, evidence.TRACED: None, evidence.FROZEN: None,
    evidence.DISK: IN_KERNEL,
    evidence.BLOCKED: None, evidence.IGNORED: None, evidence.FULL_PIPE: FULL,
    evidence.LOCKED: LOCKS, evidence.BUSY: None, evidence.INPUT: STDIN, evidence.TIMER: None,
    evidence.CHILDREN: None, evidence.NOT_KNOWN: None,
}.items():  # fmt: skip
    holds_up(kind, Cause(kind, WEB, wait))
for what in (evidence.ACCEPT, evidence.CONNECT):
    holds_up(f"input_{what}", Cause(evidence.INPUT, WEB, Wait("S", what, "socket:[7]")))
holds_up("not_told", Cause(evidence.NOT_TOLD, WEB, parent=NPM))
holds_up("ignored_below_npm", Cause(evidence.IGNORED, WEB, parent=NPM))
holds_up("a_timer_or_a_lock", Cause(evidence.LOCKED, replace(WEB, threads=1), TIMED))
for wait in (ON_FILE, IN_OPEN, IN_SYNC):
    holds_up(f"file_{wait.what.replace(' ', '_')}", Cause(evidence.WAITS_FOR_FILE, WEB, wait))


@scene
def start_failed_in_a_stop(s: Scene) -> None:
    s.stops().say("start_failed", status=127, why="not found")


@scene
def stop_signal_in_a_stop(s: Scene) -> None:
    s.stops()


@scene
def stop_requested_of_those_that_are_there(s: Scene) -> None:
    s.exits().say("program_gone")
    s.say_of_all("stop_requested", signal=TERM)


@scene
def leader_exited_in_a_stop(s: Scene) -> None:
    s.stops().exits(143, TERM, asked=True)


@scene
def leader_exited_and_left_something(s: Scene) -> None:
    s.stops().exits(asked=True, left=True)


@scene
def leader_exited_into_the_background(s: Scene) -> None:
    s.exits(left=True, then="shutdown")


@scene
def leader_exited_and_ends_all(s: Scene) -> None:
    s.exits(3, then="shutdown")


@scene
def leader_exited_with_0_and_ends_all(s: Scene) -> None:
    s.exits(0, then="shutdown")


@scene
def leader_killed_by_somebody_else(s: Scene) -> None:
    s.exits(137, KILL, then="shutdown")


@scene
def leader_ended_by_a_key_at_the_terminal(s: Scene) -> None:
    s.recorder.run.interactive = True
    s.exits(130, INT, then="shutdown")


@scene
def leader_exited_for_the_last_time(s: Scene) -> None:
    s.exits(1, then="restart").say("restarts", status=1, after=0.5, in_a_row=1)
    s.exits(1, then="shutdown")


@scene
def restarts(s: Scene) -> None:
    s.exits(1, then="restart").say("restarts", status=1, after=0.4567, in_a_row=2)


@scene
def restarts_after_a_crash(s: Scene) -> None:
    s.exits(139, 11, then="restart").say("restarts", status=139, after=30.0, in_a_row=11)


@scene
def program_ended(s: Scene) -> None:
    s.exits(0).say("program_ended", status=0)


@scene
def program_ended_by_a_signal(s: Scene) -> None:
    s.exits(137, KILL).say("program_ended", status=137)


@scene
def program_ended_for_the_last_time(s: Scene) -> None:
    for times in (1, 2):
        s.exits(1, then="restart").say("restarts", status=1, after=0.5, in_a_row=times)
    s.exits(1).say("program_ended", status=1)


@scene
def program_completed(s: Scene) -> None:
    s.history.oneshot = True
    s.exits(0).say("program_ended", status=0)


@scene
def program_gone(s: Scene) -> None:
    s.exits(3).say("program_gone")


@scene
def program_gone_in_a_stop(s: Scene) -> None:
    s.stops().exits(3, asked=True).after(0.5).say("program_gone")


@scene
def program_gone_that_could_not_be_started(s: Scene) -> None:
    s.say("start_failed", status=127, why="not found", then="ignore")
    s.say("program_gone")


SLEEP, NODE = (("sleep", 9),), (("node", 12),)


@scene
def leftover(s: Scene) -> None:
    s.exits(143, TERM, left=True, asked=True).say("leftover", signal=TERM, members=SLEEP)


@scene
def leftover_that_was_told_before(s: Scene) -> None:
    s.exits(143, TERM, left=True, asked=True).say("leftover", members=SLEEP)


@scene
def leftover_of_one_below_the_leader(s: Scene) -> None:
    s.say("leftover", signal=TERM, members=SLEEP)


@scene
def leftover_waits(s: Scene) -> None:
    s.say("leftover_waits", signal=TERM, members=SLEEP, after=5.0)


@scene
def shell_waits(s: Scene) -> None:
    s.say("shell_waits", signal=TERM, members=NODE, parent=("sh", s.history.pid))


@scene
def last_call(s: Scene) -> None:
    s.say("last_call", signal=TERM, members=NODE, parent=("unshare", s.history.pid))


@scene
def last_call_of_one_below_the_leader(s: Scene) -> None:
    s.say("last_call", signal=TERM, members=NODE, parent=("npm run start", 11))


@scene
def stop_signal_ignored(s: Scene) -> None:
    s.say("stop_signal_ignored", signal=TERM, parent=("sh", s.history.pid))


@scene
def stop_signal_ignored_but_not_by_its_members(s: Scene) -> None:
    s.say("stop_signal_ignored", signal=TERM, members=SLEEP, parent=("sh", s.history.pid))


@scene
def time_gap(s: Scene) -> None:
    s.say_of_all("time_gap", seconds=61.25)


@scene
def exited_with_work(s: Scene) -> None:
    counts = AgentCounts(requests=2, streams=1, jobs=(QueueJobs("mails", 1, ("17",)),))
    what = "2 requests (1 stream), 1 job of mails (17)"
    s.say("exited_with_work", pid=8, counts=counts, what=what)


@scene
def exited_with_one_request(s: Scene) -> None:
    s.say("exited_with_work", pid=8, counts=AgentCounts(requests=1), what="1 request")


@scene
def exited_with_work_by_an_exception(s: Scene) -> None:
    counts, exception = AgentCounts(requests=1), "uncaughtException"
    s.say("exited_with_work", pid=8, counts=counts, what="1 request", exception=exception)


@scene
def ended_with_work(s: Scene) -> None:
    counts = AgentCounts(requests=2, jobs=(QueueJobs("mails", 1, ("17",)),))
    what = "2 requests, 1 job of mails (17)"
    s.say("ended_with_work", pid=8, counts=counts, what=what, before=0.05)


@scene
def ended_with_one_request(s: Scene) -> None:
    counts = AgentCounts(requests=1)
    s.say("ended_with_work", pid=8, counts=counts, what="1 request", before=1.5)


@scene
def cpu_wait(s: Scene) -> None:
    s.say_of_all("cpu_wait", seconds=0.83)


@scene
def stop_signal_that_is_refused(s: Scene) -> None:
    s.history.pid = 1 << 22  # no pid is as large
    signal_and_kill.REFUSED.add(s.history.pid)
    try:
        s.say("stop_signal", signal=TERM, to="leader")
    finally:
        signal_and_kill.REFUSED.clear()


@scene
def leader_replaced(s: Scene) -> None:
    s.say("leader_replaced", was=s.history.who, main=99)


@scene
def spared(s: Scene) -> None:
    s.say_of_all("spared", signal=HUP, programs=(s.i,))


@scene
def signal_sent(s: Scene) -> None:
    s.say("signal_sent", signal=HUP, by="gracewrap signal (pid 7, uid 0)")


@scene
def leader_exited_by_what_was_asked_for(s: Scene) -> None:
    s.say("signal_sent", signal=TERM, by="gracewrap signal (pid 7, uid 0)")
    s.exits(143, TERM)


@scene
def leader_exited_by_what_was_passed_on(s: Scene) -> None:
    s.recorder.forwarded(HUP, [(s.i, HUP)], s.at)
    s.exits(129, HUP)


@scene
def leader_exited_after_what_was_passed_on(s: Scene) -> None:
    s.recorder.forwarded(QUIT, [(s.i, QUIT)], s.at)
    s.after(0.25).exits(0)


@scene
def kill(s: Scene) -> None:
    s.say("kill", why="out of time", leader=True)


@scene
def kill_before_the_budget_ends(s: Scene) -> None:
    s.say("kill", why="out of time", leader=True, left=4.0, limit="stop_timeout")


@scene
def kill_that_leaves_time_for_hooks(s: Scene) -> None:
    s.say("kill", why="out of time", leader=True, left=2.0)


@scene
def kill_that_leaves_time_for_others(s: Scene) -> None:
    kept_for = (0, 2) if s.several else ()
    s.say("kill", why="out of time", leader=True, left=2.0, kept_for=kept_for)


@scene
def kill_of_what_was_never_told(s: Scene) -> None:
    s.history.members, s.history.untold = "sh (pid 71), sleep (pid 9)", "sleep (pid 9)"
    s.say("kill", why="out of time", leader=True)


@scene
def kill_of_what_ignores_it(s: Scene) -> None:
    s.say("stop_signal_ignored", signal=TERM)
    s.history.members, s.history.untold = "sh (pid 71), sleep (pid 9)", "sleep (pid 9)"
    s.say("kill", why="out of time", leader=True)


def only_requests(s: Scene, **more: str) -> None:
    """The drain rests on a probe that sees requests and no other work."""
    s.history.in_flight = InFlight([("tcp", "connections")], requests_only=True)
    s.recorder.sampled(s.i, 0, Reading(DRAINED, 0.0, **more), s.at)


@scene
def kill_without_a_request(s: Scene) -> None:
    only_requests(s, open="3 connections of clients, idle; connections to 10.0.0.7:5432 (2)")
    s.say("kill", why=NO_REQUEST, leader=True)


@scene
def no_request_is_in_flight(s: Scene) -> None:
    s.stops()
    only_requests(s)
    s.say("drained", after=1.0)


simply("kept_alive", "kept_alive", connections=17)
simply("kept_alive_by_one", "kept_alive", connections=1)
simply("good_moment", "good_moment", in_flight=1.0, after=9.0)


@scene
def may_be_at_work(s: Scene) -> None:
    s.stops().say("may_be_at_work", work="used connections: 10.0.0.7:5432 (2)")


@scene
def drained(s: Scene) -> None:
    s.stops().say("drained", after=1.0)


@scene
def drained_without_a_stop(s: Scene) -> None:
    s.say("draining", stopping=False)
    s.after(0.5).say("drained", after=0.5)


@scene
def undrained(s: Scene) -> None:
    s.stops().say("drained", after=1.0)
    s.say("undrained", probe=0, in_flight=2.5, why="busy again")


@scene
def undrained_nobody_knows_by_how_much(s: Scene) -> None:
    s.say("undrained", probe=1, in_flight=None, why="")


@scene
def helper_ended(s: Scene) -> None:
    s.say("hook", hook="post_stop", command="./x")
    s.after(0.75).say("helper_ended", hook="post_stop", ok=True, why="")


@scene
def helper_failed(s: Scene) -> None:
    s.say("hook", hook="start", command="./x")
    s.after(2.0).say("helper_ended", hook="start", ok=False, why="./x: exit status 1")


@scene
def helper_failed_in_a_stop(s: Scene) -> None:
    s.say_of_all("stop_requested", signal=TERM)
    helper_failed(s)


@scene
def push_failed(s: Scene) -> None:
    s.say("hook", hook="push", command="http://push:9091")
    s.after(2.0).say("helper_ended", hook="push", ok=False, why="refused")


@scene
def in_flight(s: Scene) -> None:
    s.stops()
    s.samples(7)
    s.samples(3)


@scene
def probe_seen(s: Scene) -> None:
    s.recorder.looked(s.i, 1, Reading(BUSY, 3, "3 jobs"), s.at)


@scene
def probe_seen_drained(s: Scene) -> None:
    s.recorder.looked(s.i, 0, Reading(DRAINED), s.at)


@scene
def probe_invalid_at_the_start(s: Scene) -> None:
    s.recorder.looked(s.i, 0, Reading(INVALID, None, "404 Not Found"), s.at)


@scene
def probe_silent(s: Scene) -> None:
    s.recorder.looked(s.i, 0, Reading(UNREACHABLE, None, "refused"), s.after(31.0).at)


def waits(s: Scene, samples: bool = False, **more: object) -> None:
    """Let it be said what a stop waits for."""
    s.stops()
    if samples:
        s.samples(7)
        s.samples(3)
    if s.several:
        held = bool(more.get("held"))
        parts = (
            s.recorder.waited_for(1, 7.5, s.at, str(more.get("doing", "")), (), held),
            s.recorder.waited_for(0, 9.0, s.at, "", (1,), False),
            s.recorder.waited_for(2, 3.0, s.at, "", (), False, is_leftover=True),
        )
        s.recorder.record(runtime_events.WaitingForPrograms(parts, 2.0, 9.0), s.at)
        return
    fields = {"doing": "", "held": False, "who": s.history.who, "why": "", **more}
    in_flight = s.history.in_flight
    fields |= {"numbers": in_flight.shown(s.at), "in_flight": in_flight.total()}
    waiting = runtime_events.WaitingForCommand(remaining=7.5, elapsed=2.0, **fields)  # type: ignore[arg-type]
    s.recorder.record(waiting, s.at)


@scene
def waiting(s: Scene) -> None:
    waits(s, samples=True)


@scene
def waiting_while_the_stop_signal_is_held_back(s: Scene) -> None:
    waits(s, held=True, doing="waiting for pre_stop", why="")


@scene
def waiting_and_nobody_knows_for_how_much(s: Scene) -> None:
    waits(s, why="http: refused")


def last_line(name: str, several: bool) -> str:
    """Return the last line of a scene: level, event, fields, sentence."""
    s = Scene(several)
    SCENES[name](s)
    assert s.log.lines, name
    level, event, message, fields = s.log.lines[-1]
    kept = s.recorder.timeline[-1] if s.recorder.timeline else {}
    in_timeline = kept.get("event") == event
    if in_timeline:  # as much is kept there as is said here
        elapsed = {} if s.recorder.run.since is None or event == "waiting" else {"elapsed"}
        assert {k: v for k, v in fields.items() if k not in elapsed} == {
            k: v for k, v in kept.items() if k not in ("at", "event")
        }
    fields = {key: fields[key] for key in sorted(fields)}
    where = "" if in_timeline or level == "debug" else " (not in the timeline)"
    return f"{level}{where} {event} {dumps(fields)} {message}"


def every_line() -> dict[str, str]:
    return {
        f"{name} {'of several' if several else 'of one'}": last_line(name, several)
        for name in SCENES
        for several in (False, True)
    }


def expected() -> dict[str, str]:
    lines = EXPECTED.read_text().splitlines()
    return dict(zip(lines[::2], (line.removeprefix("    ") for line in lines[1::2]), strict=True))


@pytest.mark.parametrize("name", SCENES)
def test_every_event_has_its_level_its_name_its_fields_and_its_sentence(name):
    for several in (False, True):
        key = f"{name} {'of several' if several else 'of one'}"
        assert last_line(name, several) == expected()[key]


def test_every_kind_of_event_has_a_scene():
    shown = {line.partition(" {")[0].split()[-1] for line in expected().values()}
    assert shown == {kind.EVENT for kind in KINDS.values()} - {""}


def test_nothing_else_is_expected():
    assert list(expected()) == list(every_line())


if __name__ == "__main__":
    for key, line in every_line().items():
        print(f"{key}\n    {line}")
