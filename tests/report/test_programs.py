"""What is told of several programs: real policy, no process; notes go in, lines and the report come
out."""

from __future__ import annotations

import json
import math
import tracemalloc
from collections.abc import Iterable, Mapping

import pytest

from gracewrap.policy import log_events, run_phases, step
from gracewrap.policy import model as m
from gracewrap.policy.log_events import LogRecord
from gracewrap.policy.model import (
    LeaderExited,
    Policy,
    ProgramPolicy,
    Reading,
    Sampled,
    SignalReceived,
)
from gracewrap.policy.program_phases import GIVE_UP, Gone
from gracewrap.report import (
    log_messages,
    probe_events,
    report_document,
    report_files,
    runtime_events,
    summary,
)
from gracewrap.report.hook_variables import hook_variables
from gracewrap.report.in_flight import InFlight, number
from gracewrap.report.log import Log
from gracewrap.report.metrics import Facts, exposition, facts_of
from gracewrap.report.program_history import OUTCOMES
from gracewrap.report.recorder import Recorder
from gracewrap.report.runtime_events import WaitedFor


class Kept(Log):
    """A log that keeps its lines."""

    def __init__(self, format: str = "json", level: str = "info") -> None:
        super().__init__(format, level)
        self.lines: list[dict[str, object]] = []
        self.moments: list[float | None] = []

    def open(self) -> None:
        pass

    def say(self, level: str, event: str, message: str, fields: Mapping[str, object]) -> None:
        if self.enabled(level):
            self.moments.append(self.moment)
            self.lines.append({"level": level, "event": event, "message": message, **fields})


class Run:
    """Programs that do what they are told when the test says so, under the real policy."""

    def __init__(
        self, programs: Mapping[str, ProgramPolicy], level: str = "info", **more: int
    ) -> None:
        self.log, self.at, self.names = Kept(level=level), 100.0, list(programs)
        self.policy = Policy(tuple(programs.values()), flush_timeout=0.0, **more)  # type: ignore[arg-type]
        self.recorder = Recorder(
            self.log, 25.0, self.at, 1e9, [(name, ["/bin/" + name]) for name in programs]
        )
        self.recorder.run.sender = "pid 1"
        self.system: run_phases.System = run_phases.begin(self.policy, (), self.at)
        self.status: int | None = None
        self.fails: set[str] = set()
        self.feed(m.Tick(self.at))

    def feed(self, event: m.Event) -> None:
        """As the loop does: decide, do, tell."""
        before = self.phases()
        self.system, commands = step.step(self.system, event, self.policy)
        answers: list[m.Event] = []
        for command in commands:
            if isinstance(command, m.StartProgram):
                answers.append(self.start(command.program))
            elif isinstance(command, m.KillProgram):
                self.recorder.histories[
                    command.program
                ].members = f"{self.names[command.program]} (pid {10 + command.program})"
            elif isinstance(command, m.Exit):
                self.status = command.status
        if isinstance(event, Sampled):
            self.recorder.sampled(event.program, event.probe, event.reading, self.at)
        for command in commands:
            if isinstance(command, LogRecord):
                self.recorder.record(command, self.at)
        for i, (was, phase) in enumerate(zip(before, self.phases(), strict=True)):
            if isinstance(phase, Gone) and not isinstance(was, Gone):
                self.recorder.record(runtime_events.ProgramGone(i), self.at)
        for answer in answers:
            self.feed(answer)

    def phases(self) -> tuple[object, ...]:
        if isinstance(self.system, run_phases.Up | run_phases.ShuttingDown):
            return self.system.programs
        return tuple(Gone(0) for _ in self.names)

    def start(self, program: int) -> m.Event:
        if self.names[program] in self.fails:
            return m.StartFailed(program, 127, "not found", self.at)
        self.recorder.histories[program].begins_again(10 + program, self.at)
        self.recorder.record(runtime_events.Started(program), self.at)
        return m.ProgramStarted(program, self.at)

    def after(self, seconds: float) -> Run:
        self.at += seconds
        return self

    def tick(self) -> None:
        self.feed(m.Tick(self.at))

    def exits(self, name: str, status: int = 0, signum: int = 0) -> None:
        self.feed(
            LeaderExited(
                self.names.index(name), 128 + signum if signum else status, signum, False, self.at
            )
        )

    def asked(self) -> None:
        self.feed(SignalReceived(15, self.at))

    def says(self, event: str, **fields: object) -> str:
        """Return the last line of that event, with those fields."""
        found = [
            one for one in self.log.lines if one["event"] == event and fields.items() <= one.items()
        ]
        assert found, [(one["event"], one.get("program")) for one in self.log.lines]
        return str(found[-1]["message"])

    def events(self, name: str) -> list[object]:
        return [one["event"] for one in self.log.lines if one.get("program") == name]

    def report(self) -> dict[str, object]:
        assert self.status is not None
        found = report_document.report(self.recorder, self.status, self.at, "1.0")
        assert json.loads(json.dumps(found)) == found
        return found

    def programs(self) -> dict[str, dict[str, object]]:
        found = self.report()["programs"]
        assert isinstance(found, list)
        return {one["name"]: one for one in found}


def stack() -> dict[str, ProgramPolicy]:
    """A database below a web server and a worker."""
    return {
        "db": ProgramPolicy(name="db"),
        "web": ProgramPolicy(name="web", depends_on=((0, "started"),)),
        "worker": ProgramPolicy(name="worker", depends_on=((0, "started"),), stop_timeout=5.0),
    }


def many(count: int, **more: str) -> dict[str, ProgramPolicy]:
    return {f"p{i}": ProgramPolicy(name=f"p{i}", **more) for i in range(count)}  # type: ignore[arg-type]


def stop_all(run: Run, names: Iterable[str]) -> None:
    run.asked()
    for name in names:
        run.after(0.5).exits(name)


def test_an_ordered_stop_from_start_to_report():
    run = Run(stack())
    stop_all(run.after(60), ("web", "worker", "db"))
    assert run.status == 0
    assert (
        run.says("stop_requested")
        == "stop requested: SIGTERM from pid 1; 25 s to stop 3 programs (db, web and worker)"
    )
    assert (
        run.says("stop_waits", program="db", programs=["web", "worker"])
        == "db will stop after web and worker"
    )
    assert run.events("web") == ["started", "stop_signal", "program_gone"]
    assert run.says("program_gone", program="db") == "db is gone after 0.50 s (exited with 0)"
    report, programs = run.report(), run.programs()
    assert (report["outcome"], report["exit_status"], report["used_seconds"]) == (
        "graceful",
        0,
        1.5,
    )
    assert programs["db"]["stop"] == {"signal_after_seconds": 1.0, "gone_after_seconds": 1.5}
    assert {one["outcome"] for one in programs.values()} == {"graceful"}
    assert programs["web"]["signals_sent"] == ["SIGTERM"] and programs["web"]["command"] == [
        "/bin/web"
    ]
    assert not report.keys() & {"command", "pid", "leader"}
    assert report["summary"] == (
        "stopped in 1.50 s of 25 s, 23.50 s left: 3 programs: db exited with 0 after SIGTERM; "
        "web exited with 0 after SIGTERM; worker exited with 0 after SIGTERM; exit status 0"
    )


def test_lines_name_their_program_and_no_other_does():
    run = Run(stack())
    stop_all(run.after(60), ("web", "worker", "db"))
    with_one = {one["event"] for one in run.log.lines if "program" in one}
    assert with_one == {"started", "stop_signal", "stop_waits", "program_gone"}
    assert not any(
        {"several", "who", "named", "then", "ended"} & one.keys() for one in run.log.lines
    )


def test_the_end_of_one_that_stops_the_others_is_clear():
    run = Run(stack())
    run.after(60).exits("web", 1)
    for name in ("worker", "db"):
        run.after(0.5).exits(name)
    assert run.status == 1
    assert (
        run.says("leader_exited", program="web")
        == "web (pid 11) exited with 1; stopping the others because of it"
    )
    report, programs = run.report(), run.programs()
    assert (report["requested_by"], report["cause"], report["exit_code_from"]) == (
        None,
        "web exited with 1",
        "web",
    )
    assert report["outcome"] == "graceful"
    assert programs["web"]["outcome"] == "exited" and programs["db"]["outcome"] == "graceful"
    assert str(report["summary"]).endswith("; exit status 1 (web's)")
    assert hook_variables(run.recorder, 0, run.at)["REASON"] == "web exited with 1"


def test_the_status_is_that_of_the_chosen_one():
    run = Run(stack(), exit_code_from=2)
    run.recorder.run.exit_code_from = 2
    run.after(60).exits("web", 1)
    run.exits("worker", 1)
    run.exits("db", 0)
    assert run.report()["exit_code_from"] == "worker"


def test_a_program_that_is_killed_is_named_with_what_was_cut():
    run = Run(stack())
    run.recorder.histories[2].in_flight = InFlight([("file", "jobs")])
    run.after(60).asked()
    run.exits("web")
    run.recorder.sampled(2, 0, Reading("busy", 2), run.at)
    assert run.says("in_flight", program="worker") == "worker: in flight: jobs 2"
    run.after(5.0).tick()
    assert run.says("kill", program="worker") == (
        "worker: SIGKILL (out of time: stop_timeout has passed; 20 s of the budget left): "
        "worker (pid 12)"
    )
    run.exits("worker", signum=9)
    run.after(0.5).exits("db")
    report, programs = run.report(), run.programs()
    assert (report["outcome"], report["interrupted"], report["killed"]) == (
        "killed",
        2,
        ["worker (pid 12)"],
    )
    assert programs["worker"]["outcome"] == "killed" and programs["worker"]["interrupted"] == 2
    assert "worker was ended by SIGKILL (out of time), 2 in flight were cut" in str(
        report["summary"]
    )
    assert str(report["summary"]).endswith("exit status 137 (worker's)")
    assert summary.summary_line(run.recorder, 137, run.at)[0] == "warning"


def test_what_a_leader_has_left_and_cannot_be_killed_is_named():
    run = Run(stack())
    run.after(60).asked()
    run.exits("web")
    run.after(5.0).tick()
    run.feed(LeaderExited(2, 137, 9, True, run.at))
    run.recorder.histories[2].members = "sleep (pid 99)"
    run.after(GIVE_UP)
    run.feed(m.Tick(run.at))
    run.exits("db")
    assert run.says("gave_up") == "worker: gave up on sleep (pid 99): still there 1 s after SIGKILL"
    assert run.programs()["worker"]["outcome"] == "gave_up"
    assert "worker was ended by SIGKILL (out of time), sleep (pid 99) could not be killed" in str(
        run.report()["summary"]
    )


def test_a_restart_begins_no_stop_and_forgets_the_life_before():
    run = Run(
        stack() | {"web": ProgramPolicy(name="web", restart="always", depends_on=((0, "started"),))}
    )
    run.after(60).exits("web", 1)
    assert "web (pid 11) exited with 1; it will be restarted in" in run.says(
        "restarts", program="web", restart=1
    )
    assert "leader_exited" not in run.events("web")  # one line for one exit
    assert run.recorder.run.since is None
    run.after(5).tick()
    history = run.recorder.histories[1]
    assert (history.restarts, history.leader, history.pid) == (1, None, 11)
    stop_all(run.after(60), ("web", "worker", "db"))
    assert run.programs()["web"]["restarts"] == 1 and run.programs()["web"]["outcome"] == "graceful"
    assert all("elapsed" not in one for one in run.log.lines if one["event"] == "restarts")


def test_what_was_cut_in_one_life_counts_in_all():
    run = Run(many(1))
    history = run.recorder.histories[0]
    history.in_flight = InFlight([("file", "jobs")])
    for in_flight in (2, 3):
        history.drain_begins(run.at)
        run.recorder.sampled(0, 0, Reading("busy", in_flight), run.at)
        run.recorder.record(log_events.Kill(0, "out of time", True), run.at)
        history.begins_again(11, run.at)
    assert (history.interrupted, history.cut, history.killed, run.recorder.run.interrupted) == (
        5,
        None,
        [],
        5,
    )
    assert history.in_flight.total() is None


def test_a_crash_that_nobody_meant_is_a_warning_however_it_goes_on():
    run = Run(many(2, on_failure="ignore"))
    run.after(1).exits("p0", signum=9)
    line = next(one for one in run.log.lines if one["event"] == "program_ended")
    assert (line["level"], line["signal"]) == ("warning", "SIGKILL")
    assert "out of memory?" in str(line["message"])
    assert "the others keep running" in str(line["message"])


def test_a_oneshot_that_is_done_has_completed():
    run = Run(
        {
            "migrate": ProgramPolicy(oneshot=True),
            "web": ProgramPolicy(depends_on=((0, "completed"),)),
        }
    )
    run.recorder.histories[0].oneshot = True
    run.after(2).exits("migrate")
    assert run.says("program_ended", program="migrate") == "migrate (pid 10) has completed"
    stop_all(run.after(60), ("web",))
    assert (
        run.report()["outcome"] == "graceful" and run.programs()["migrate"]["outcome"] == "exited"
    )


@pytest.mark.parametrize("then", ["shutdown", "ignore"])
def test_a_failed_start(then):
    run = Run(
        {
            "a": ProgramPolicy(oneshot=True),
            "b": ProgramPolicy(depends_on=((0, "completed"),), on_failure=then),
            "c": ProgramPolicy(),
        }
    )
    run.fails = {"b"}
    run.after(1).exits("a")
    assert run.says("start_failed", program="b").startswith("b cannot be started: not found")
    assert ("the others" in run.says("start_failed")) == (then == "shutdown")
    if then == "ignore":
        run.asked()
    run.exits("c")
    assert run.programs()["b"]["outcome"] == run.report()["outcome"] == "not_started"
    assert run.programs()["b"]["exit_status"] == 127


def test_a_stop_during_the_start_skips_what_was_not_started():
    run = Run({"db": ProgramPolicy(ready=True), "web": ProgramPolicy(depends_on=((0, "ready"),))})
    stop_all(run.after(1), ("db",))
    assert run.programs()["web"]["outcome"] == "skipped" and run.programs()["web"]["pid"] is None
    assert run.report()["outcome"] == "graceful"
    assert run.programs()["web"]["exit_status"] is None


def test_a_part_is_named_and_is_no_stop():
    run = Run(stack())
    request = {"program": 0} if "program" in m.PartRequested.__match_args__ else {"programs": (0,)}
    run.after(1).feed(m.PartRequested(**request, by="gracewrap restart", again=True, at=run.at))  # type: ignore[arg-type]
    asked = "asked to restart db, web and worker: gracewrap restart"
    assert run.says("part_requested", programs=["db", "web", "worker"]) == asked
    for name in ("web", "worker", "db"):
        run.after(0.5).exits(name)
    assert run.says("part_stopped") == "db, web and worker stopped, restarting"
    assert [history.restarts for history in run.recorder.histories] == [
        1,
        1,
        1,
    ] and run.recorder.run.since is None
    stop_all(run.after(5), ("web", "worker", "db"))
    assert run.programs()["db"]["stop"] == {"signal_after_seconds": 1.0, "gone_after_seconds": 1.5}


def test_the_worst_outcome_is_the_runs():
    run = Run(many(len(OUTCOMES)))
    for i in range(len(OUTCOMES)):
        for history, outcome in zip(
            run.recorder.histories, OUTCOMES[i:] + OUTCOMES[-1:] * i, strict=True
        ):
            history.outcome = lambda outcome=outcome: outcome  # type: ignore[method-assign, misc]
        assert run.recorder.run.outcome() == (OUTCOMES[i] if OUTCOMES[i] != "skipped" else "exited")


def test_fifty_programs_are_counted_and_the_troubled_ones_named():
    run = Run(many(50))
    run.after(60).asked()
    for i in range(50):
        run.exits(f"p{i}", signum=9 if i == 3 else 0, status=0)
    report = run.report()
    summary = str(report["summary"])
    assert "50 programs: p3 was ended by SIGKILL" in summary and "49 ended in time" in summary
    assert len(summary) < 200
    assert "p5 and 44 more" in run.says("stop_requested")
    assert "stop_waits" not in {one["event"] for one in run.log.lines}
    assert report["timeline_omitted"] == 0


def fifty(status: int, chosen: Iterable[int]) -> dict[str, object]:
    run = Run({f"some-program-{i}": ProgramPolicy() for i in range(50)})
    run.after(60).asked()
    for i in range(50):
        run.recorder.histories[i].in_flight = InFlight([("http", "requests")])
        run.exits(f"some-program-{i}", status if i in chosen else 0)
    return run.report()


@pytest.mark.parametrize("chosen", [(), (7, 9), range(50)])
def test_the_termination_log_of_fifty_programs_fits(chosen):
    report = fifty(3, chosen)
    short = json.loads(report_files.shorten(report, 4095))
    assert len(report_files.shorten(report, 4095)) <= 4095
    assert (short["exit_status"], short["outcome"], short["summary"]) == (
        3 if chosen else 0,
        "graceful",
        report["summary"],
    )
    named = {one["name"] for one in short.get("programs", ())}
    assert {f"some-program-{i}" for i in chosen} <= named or len(chosen) == 50
    assert len(named) + short.get("programs_omitted", 0) == 50


def test_what_a_few_programs_did_is_kept_whole():
    run = Run(stack())
    stop_all(run.after(60), ("web", "worker", "db"))
    short = json.loads(report_files.shorten(run.report(), 4095))
    assert [one["command"] for one in short["programs"]] == [
        ["/bin/db"],
        ["/bin/web"],
        ["/bin/worker"],
    ]


def test_a_number_that_is_not_fresh_has_its_age():
    in_flight = InFlight([("http", "jobs")])
    in_flight.take(0, Reading("busy", 7), 100.0)
    in_flight.take(0, Reading("busy", 3), 101.0)
    in_flight.take(0, Reading("unreachable", None, "refused"), 109.0)
    assert in_flight.shown(102.0) == "jobs 7 → 3"
    assert in_flight.shown(110.0) == "jobs 7 → 3 (9 s ago)"


def test_a_reason_that_is_not_fresh_has_its_age():
    in_flight = InFlight([("http", "jobs")])
    in_flight.take(0, Reading("unreachable", None, "no answer within 2 s"), 100.0)
    assert in_flight.why_waiting(102.0) == "http: no answer within 2 s"
    assert in_flight.why_waiting(109.0) == "http: no answer within 2 s (9 s ago)"


def test_what_a_probe_said_before_the_drain_has_its_age_too():
    in_flight = InFlight([("tcp", "connections")])
    in_flight.take(0, Reading("busy", 1, "1 of 1 connection in flight"), 100.0)
    in_flight.count_anew()
    assert in_flight.why_waiting(101.0) == "tcp: 1 of 1 connection in flight"
    assert in_flight.why_waiting(105.0) == "tcp: 1 of 1 connection in flight (5 s ago)"


@pytest.mark.parametrize(
    ("said", "shown"), [(math.inf, "inf"), (1e300, "1e+300"), (2.5, "2.50"), (3.0, "3")]
)
def test_whatever_number_an_endpoint_says_can_be_shown(said, shown):
    in_flight = InFlight([("http", "jobs")])
    in_flight.take(0, Reading("busy", said), 100.0)
    assert in_flight.shown(100.0) == f"jobs {shown}"
    assert number(in_flight.total() or 0.0) == shown


def test_what_is_waited_for_is_one_line():
    run = Run(stack())
    for i, unit in ((1, "requests"), (2, "jobs")):
        run.recorder.histories[i].in_flight = InFlight([("file", unit)])
    run.after(60).asked()
    run.recorder.sampled(1, 0, Reading("busy", 7), run.at)
    run.recorder.sampled(1, 0, Reading("busy", 3), run.at)
    run.recorder.sampled(2, 0, Reading("busy", 2), run.at)
    recorder = run.recorder
    parts = [
        recorder.waited_for(0, 20.0, run.at, waits_for=(1, 2)),
        recorder.waited_for(1, 12.0, run.at),
        recorder.waited_for(2, 2.0, run.at, "draining", held=True),
    ]
    recorder.record(runtime_events.WaitingForPrograms(tuple(parts), 3.1, 12.0), run.at)
    assert run.says("waiting") == (
        "waiting: web: requests 7 → 3, SIGKILL in 12 s · worker: draining, jobs 2, its stop signal "
        "in 2 s · "
        "db waits for web and worker; 3.10 s gone, 12 s left for all"
    )
    assert run.log.lines[-1]["programs"] == [
        {"program": "db", "waits_for": ["web", "worker"], "remaining": 20.0},
        {"program": "web", "in_flight": 3, "remaining": 12.0},
        {"program": "worker", "doing": "draining", "in_flight": 2, "remaining": 2.0},
    ]


def test_a_line_about_fifty_is_short():
    waits_for = ("a", "b", "c", "d", "e")
    parts = [WaitedFor(f"p{i}", 1.0, waits_for=waits_for) for i in range(49)]
    line = log_messages.waiting_for([*parts, WaitedFor("web", 1.0, numbers="requests 1")])
    assert line.startswith(
        "web: requests 1, SIGKILL in 1 s · p0 waits for a, b, c and 2 more"
    ) and line.endswith(" and 44 more")


def test_the_same_mistake_of_two_programs_is_told_of_each():
    run = Run(many(2))
    for i in (0, 1, 1):
        run.recorder.histories[i].in_flight = InFlight([("http", "requests")])
        run.recorder.looked(i, 0, Reading("invalid", why="404"), run.at)
    assert [one["program"] for one in run.log.lines if one["event"] == "probe_invalid"] == [
        "p0",
        "p1",
    ]


def test_hooks_learn_of_their_own_program():
    run = Run(stack())
    run.after(60).asked()
    run.exits("web", 3)
    facts = hook_variables(run.recorder, 1, run.at)
    assert (facts["PROGRAM"], facts["COMMAND_PID"], facts["EXIT_STATUS"], facts["OUTCOME"]) == (
        "web",
        "11",
        "3",
        "graceful",
    )
    assert "OUTCOME" not in hook_variables(run.recorder, 0, run.at)
    assert "PROGRAM" not in hook_variables(Recorder(Kept(), 25.0, 0.0, 0.0, [("", ["x"])]), 0, 0.0)


def test_the_push_of_metrics_is_nobodys():
    run = Run(many(2))
    run.recorder.record(probe_events.HookStarted(0, "push", "PUT http://gateway/"), run.at)
    run.recorder.record(probe_events.HookStarted(0, "post_stop", "x"), run.at)
    first, second = run.log.lines[-2:]
    assert (
        "program" not in first
        and first["message"] == "running the push of metrics: PUT http://gateway/"
    )
    assert second["message"] == "p0: running post_stop: x"


def test_what_is_long_past_makes_room_for_the_stop():
    run = Run(many(1, restart="always"))
    for _ in range(300):
        run.after(60).exits("p0", 1)
        run.after(60).tick()
    stop_all(run, ("p0",))
    report = run.report()
    timeline = report["timeline"]
    assert isinstance(timeline, list) and [one["event"] for one in timeline][-3:] == [
        "stop_requested",
        "stop_signal",
        "program_gone",
    ]
    assert len(timeline) == 200 and report["timeline_omitted"]


def test_the_metrics_of_several_programs():
    run = Run(stack())
    history = run.recorder.histories[1]
    history.in_flight = InFlight([("http", "requests"), ("exec", "")])
    history.begins_again(20, run.at)
    run.recorder.sampled(1, 0, Reading("busy", 3), run.at)
    run.recorder.sampled(1, 1, Reading("unreachable"), run.at)
    programs = tuple(facts_of(one, True, one is history) for one in run.recorder.histories)
    text = exposition(Facts("1", 0.0, "running", programs))
    for line in (
        'gracewrap_program_up{program="db"} 1',
        'gracewrap_program_ready{program="db"} 0',
        'gracewrap_program_ready{program="web"} 1',
        'gracewrap_restarts_total{program="web"} 1',
        'gracewrap_drain_in_flight{program="web",unit="requests"} 3',
        'gracewrap_probe_failures_total{program="web",probe="exec"} 1',
    ):
        assert line in text.splitlines()


def test_a_program_costs_little():
    tracemalloc.start()
    try:
        before, _ = tracemalloc.get_traced_memory()
        recorder = Recorder(Kept(), 25.0, 0.0, 0.0, [(f"p{i}", ["/bin/x"]) for i in range(200)])
        for i, history in enumerate(recorder.histories):
            history.begins_again(10 + i, 0.0)
            recorder.record(runtime_events.Started(i), 0.0)
        recorder.log.lines.clear()  # type: ignore[attr-defined]
        after, _ = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert (after - before) / 200 < 4096


def test_starts_are_told_before_whatever_comes_next_with_the_time_at_which_they_were():
    log = Kept()
    recorder = Recorder(log, 25.0, 0.0, 0.0, [("db", ["x"]), ("web", ["x"])])
    recorder.histories[0].begins_again(7, 1.0)
    recorder.started_one(0, 1.0)
    recorder.started_one(1, 1.25)
    assert not log.lines
    recorder.record(log_events.ProgramReady(0, 0.5), 1.5)
    assert [(line["event"], line["program"]) for line in log.lines] == [
        ("started", "db"),
        ("started", "web"),
        ("program_ready", "db"),
    ]
    db, web, ready = log.moments
    assert db is not None and web is not None and web - db == pytest.approx(0.25)
    assert ready is None  # now
    assert [entry["at"] for entry in recorder.timeline] == [1.0, 1.25, 1.5]
    recorder.catch_up(2.0)
    assert len(log.lines) == 3


def test_who_has_ended_before_is_not_stopped():
    run = Run(many(3, on_failure="ignore"))
    run.after(1).exits("p1", 1)
    run.after(1).asked()
    assert run.says("stop_requested").endswith("25 s to stop p0 and p2")


def test_only_what_ended_by_itself_counts_as_started_again():
    run = Run({"web": ProgramPolicy(name="web", restart="always"), "db": ProgramPolicy(name="db")})
    run.after(60).feed(
        m.PartRequested(programs=(0,), by="gracewrap restart", again=True, at=run.at)
    )
    run.exits("web")
    run.after(60).exits("web", 1)
    assert run.says("restarts", program="web").endswith("(1st restart in a row)")
    run.after(60).tick()
    assert run.recorder.histories[0].restarts == 2


@pytest.mark.parametrize(
    ("status", "signum", "seconds", "hint"),
    [
        (143, 0, 0.01, True),  # a JVM says so after a perfect stop
        (143, 15, 3.0, True),  # uvicorn ends itself with the signal once it is done
        (143, 15, 0.01, False),  # nothing handled it, and what it did is lost
        (1, 0, 3.0, False),
        (130, 0, 3.0, False),  # we sent no SIGINT
    ],
)
def test_a_status_that_only_names_the_stop_signal_comes_with_what_makes_it_0(
    status, signum, seconds, hint
):
    run = Run(many(1))
    run.after(60).asked()
    run.after(seconds).exits("p0", status, signum)
    assert run.status == status
    assert str(run.report()["summary"]).endswith('success_exit_codes = ["TERM"] makes it 0') == hint
    assert run.report()["exit_code_from"] == "p0"


def test_a_key_of_the_terminal_is_named():
    run = Run(many(1))
    run.recorder.run.siginfo = (0, 0, 128)
    run.after(1).feed(SignalReceived(2, run.at))
    assert run.says("stop_requested").startswith(
        "stop requested: SIGINT from the terminal (Ctrl-C);"
    )


def test_supervisord_is_not_said_to_keep_the_signal_to_itself():
    run = Run(many(1))
    call = log_events.LastCall(0, 15, (("app", 20),), ("supervisord", 10))
    run.recorder.record(call, run.at)
    assert run.says("last_call").endswith("have come to all of them; sent SIGTERM to app (pid 20)")


def test_what_ignores_the_stop_signal_is_not_told_to_exec():
    run = Run(many(1))
    history = run.recorder.histories[0]
    run.recorder.record(log_events.StopSignalIgnored(0, 15), run.at)
    history.untold = "sleep (pid 20)"
    run.recorder.record(log_events.Kill(0, "out of time", True), run.at)
    assert run.says("kill").endswith(
        "it ignores the stop signal, and so do the processes it has started since"
    )


@pytest.mark.parametrize(
    ("agent", "connections", "total"),
    [
        (m.AgentCounts(requests=1), 1, 1),  # the same request twice
        (m.AgentCounts(jobs=(m.QueueJobs("mails", 3),)), 1, 4),
        (m.AgentCounts(), 2, 2),  # of a process without an agent
        (m.AgentCounts(requests=5), 1, 5),  # HTTP/2
    ],
)
def test_a_request_that_both_agent_and_kernel_see_is_one(agent, connections, total):
    found = InFlight([("agent", "requests and jobs"), ("tcp", "connections")])
    found.take(0, m.Reading(m.BUSY, agent.in_flight, counts=agent), 1.0)
    found.take(1, m.Reading(m.BUSY, connections), 1.0)
    assert found.total() == total


def test_a_preset_is_told_as_it_is_written_for_one_of_several():
    run = Run(many(1))
    run.after(60).asked()
    run.after(0.01).exits("p0", 143, 15)
    said = str(run.report()["summary"])
    assert 'preset = "any-http-server" in [programs.p0] lets it finish first' in said, said
