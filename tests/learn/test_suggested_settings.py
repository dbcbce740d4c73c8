"""What the stops that were say about the settings."""

from __future__ import annotations

import json
import os
import pty
import signal
import subprocess
import sys
import tomllib

import pytest

from gracewrap.learn import observed_stops, suggested_settings
from gracewrap.picture import past_stop
from processes import MAIN, environment


def a_report(took: float = 2.0, status: int = 0, ended: str | None = None, **more: object):
    """Return the report of a stop of one command."""
    return {
        "gracewrap": "1.0",
        "outcome": "graceful",
        "exit_status": status,
        "budget_seconds": 10.0,
        "used_seconds": took,
        "killed": [],
        "interrupted": None,
        "summary": "stopped",
        "stop_began": "2026-11-27T07:29:09.934Z",
        "requested_by": {"signal": "SIGTERM", "sender": None},
        "command": ["./serve"],
        "signals_sent": ["SIGTERM"],
        "leader": {"status": status, "signal": ended},
        "timeline": [
            {"at": 0.0, "event": "stop_requested", "signal": "SIGTERM", "budget": 10.0},
            {"at": 0.0, "event": "stop_signal", "signal": "SIGTERM", "to": "leader"},
            {"at": took, "event": "leader_exited", "status": status},
        ],
        **more,
    }


KILLED = a_report(
    10.0, 137, "SIGKILL", outcome="killed", killed=["serve (pid 7)"], interrupted=2
)  # fmt: skip


def learn(*documents):
    seen = observed_stops.Watched()
    for document in documents:
        seen += observed_stops.read(document)
    return suggested_settings.learn(seen)


def values(*documents):
    return tomllib.loads(suggested_settings.toml(learn(*documents)))


def reasons(*documents):
    return " / ".join(line.why for line in learn(*documents))


def test_the_longest_counts_and_half_as_much_again():
    lines = learn(a_report(2.0), a_report(4.0), a_report(1.0))
    assert values(a_report(2.0), a_report(4.0)) == {
        "shutdown_timeout": "8s",  # 6 s, the flush, and one second for the program
        "stop_timeout": "6s",
    }
    assert not any(line.unsettled for line in lines)
    assert "the longest of 3 stops took 4 s, 40% of the budget of 10 s" in lines[0].why
    assert any("grace period of 13 s" in line.why for line in lines)


def test_a_stop_that_used_most_of_the_budget_is_tight():
    assert "that is tight" in reasons(a_report(8.5))
    assert "that is tight" not in reasons(a_report(7.5))


def test_few_stops_are_said_to_be_few():
    assert "may not be the longest there is" in reasons(a_report())
    assert "may not be the longest there is" not in reasons(*[a_report()] * 5)


def test_after_sigkill_it_gets_more_time_and_nothing_is_settled():
    killed = {**KILLED, "timeline": [*KILLED["timeline"][:2],
              {"at": 10.0, "event": "kill", "why": "out of time"}]}  # fmt: skip
    lines = learn(a_report(), killed)
    assert values(a_report(), killed) == {"shutdown_timeout": "30s", "stop_timeout": "20s"}
    assert [line.name for line in lines if line.unsettled] == ["shutdown_timeout", "stop_timeout"]
    assert "SIGKILL ended it in 1 of 2 stops, 10 s after the stop signal, 2 in flight cut" in (
        reasons(a_report(), killed)
    )


def test_more_time_does_not_help_what_ignores_the_stop_signal():
    cause = "sleep (pid 8) ignores SIGTERM"
    killed = {
        **KILLED,
        "timeline": [*KILLED["timeline"][:2], {"at": 10.0, "event": "kill", "why": "out of time"}],
        "flight_record": [{"kind": "signal_ignored", "cause": f"held up: {cause}"}],
    }
    assert values(a_report(), killed) == {}
    assert f"{cause}; so SIGKILL ended it in 1 of 2 stops, and more time would not help" in (
        reasons(a_report(), killed)
    )
    assert learn(killed)[-1].unsettled


def test_an_exit_status_after_a_signal_that_it_handled_is_a_success():
    assert values(a_report(status=143))["success_exit_codes"] == [143]
    died = a_report(0.01, 143, "SIGTERM")
    assert "success_exit_codes" not in values(died)
    assert "SIGTERM ended it in 1 of 1 stop" in reasons(died)
    assert learn(died)[-1].unsettled


def test_what_was_drained_may_die_of_the_stop_signal():
    report = a_report(0.01, 143, "SIGTERM")
    drained = {"at": 0.0, "event": "drained"}
    for timeline, is_settled in (
        ([report["timeline"][0], drained, *report["timeline"][1:]], True),
        ([*report["timeline"][:2], {**drained, "at": 0.005}, report["timeline"][2]], False),
    ):
        stop = {**report, "timeline": timeline}
        assert ("success_exit_codes" in values(stop)) is is_settled
        assert any(line.unsettled for line in learn(stop)) is not is_settled


CHOSEN = {"played": "lag=1s", "chosen": True}


def a_drill(report, *requests, duration: float = 4.0, balancer=CHOSEN):
    """Return a drill of one stop; a request is (at, fate), each on a new connection, and takes 1
    s."""
    sent = [{"at": at, "ended": at + 1.0, "connection": "new", "fate": fate}
            for at, fate in requests]  # fmt: skip
    return {
        "runs": [
            {
                "who": "gracewrap",
                "duration_seconds": duration,
                "report": report,
                "requests": sent,
                "balancer": balancer,
            }
        ]
    }


STEADY = [(n / 10 - 1, "ok") for n in range(20)]  # one each 0.1 s, until 0.9 s after the request
AT_ONCE = a_report(0.02, 143, "SIGTERM")


def drained_first(**more):
    """Return the report of a stop whose signal came when it was drained."""
    report = a_report(3.0, 143, "SIGTERM", **more)
    asked, signal_, gone = report["timeline"]
    timeline = [asked, {"at": 2.9, "event": "drained"}, {**signal_, "at": 2.9}, gone]
    return {**report, "timeline": timeline}


def test_a_stop_that_cut_work_says_nothing_about_times():
    cut = a_drill({**a_report(0.3), "command": ["nginx"]}, *STEADY, (-0.5, "reset"))
    lines = learn(cut)
    assert values(cut) == {"preset": "nginx", "propagation_delay": "2s"}
    assert any(line.unsettled for line in lines)
    assert "1 of 21 requests in 1 stop were lost, 1 in flight at the stop request" in reasons(cut)
    assert "SIGTERM cuts the requests in flight; 1 in flight were cut in 1 stop" in reasons(cut)


def test_one_that_exits_with_work_in_flight_says_nothing_about_times():
    """Its report says so, also without a drill: the handler exited at once."""
    report = a_report(0.01, command=["node", "own.js"], interrupted=1, drain=[{"probe": "agent"}])
    well = a_report(2.0, command=["node", "own.js"])
    for lines in (learn(report), learn(well, report)):
        found = {line.name for line in lines if line.name}
        assert found == {"preset", "drain.when"}
        assert any(line.unsettled for line in lines)
    assert "in 1 of 2 stops with work in flight, and 1 in flight were cut" in (
        reasons(well, report)
    )
    assert "SIGKILL cut nothing" not in reasons(report)
    assert "it needs a drain before the signal" in reasons({**report, "drain": []})


def test_requests_that_came_too_late_need_a_delay_and_the_times_count():
    late = a_drill(a_report(2.0), *STEADY, (1.0, "refused"))
    assert values(late) == {
        "propagation_delay": "2s",
        "shutdown_timeout": "7s",
        "stop_timeout": "3s",
    }
    assert [line.name for line in learn(late) if line.unsettled] == [""]  # hold it again
    assert "the last new connection came 1 s after the stop request; 1 requests" in reasons(late)
    assert not any(line.unsettled for line in learn(a_drill(a_report(2.0), *STEADY)))


def test_the_delay_of_the_balancer_that_is_played_is_not_the_orchestrator_s():
    """The budget has room for a usual one, as the environment may give it (README)."""
    quick = {"played": "readiness=0.5s", "chosen": False}
    for balancer, said in (
        (quick, "the balancer that the drill played (readiness=0.5s), not your orchestrator's"),
        (None, "what the drill sent, not your orchestrator's"),
    ):
        drill = a_drill(a_report(0.8), *STEADY, balancer=balancer)
        assert said in reasons(drill)
        found = values(drill)
        assert (found["propagation_delay"], found["shutdown_timeout"]) == ("2s", "9s")
        assert 5 + float(found["stop_timeout"][:-1]) <= 9
    chosen = a_drill(a_report(0.8), *STEADY)
    assert values(chosen)["shutdown_timeout"] == "6s"
    assert "orchestrator" not in reasons(chosen)
    assert "(--balancer lag=1s)" in reasons(chosen)


def test_the_longest_request_fits_after_the_signal():
    """One that begins just before it, though none did in the stops that were watched."""
    (run,) = a_drill(a_report(0.2), *STEADY)["runs"]
    slow = {"at": -4.5, "ended": -0.5, "connection": "new", "fate": "ok"}
    found = values({"runs": [{**run, "requests": [slow, *run["requests"]]}]})
    assert (found["stop_timeout"], found["shutdown_timeout"]) == ("6s", "10s")


def test_connections_that_came_to_the_end_do_not_show_when_the_last_one_comes():
    short = a_drill(a_report(1.0), *STEADY, duration=1.0)
    assert values(short)["propagation_delay"] == "5s"
    assert [line.name for line in learn(short) if line.unsettled] == ["propagation_delay"]


@pytest.mark.parametrize("report", [AT_ONCE, drained_first()])
def test_a_server_without_shutdown_code_is_drained_before_the_signal(report):
    """Also when it has been: the next file must not be without it."""
    drill = a_drill(report, *STEADY, duration=3.0)
    assert values(drill)["preset"] == "any-http-server"
    assert "success_exit_codes" not in values(drill)
    assert "preset" not in values(report)  # that it is an HTTP server is not known


def test_a_drill_that_says_when_the_balancer_has_noticed_is_believed():
    short = a_drill(a_report(1.0), *STEADY, duration=1.0)
    (run,) = short["runs"]
    noticed = {"runs": [{**run, "diverted_after_seconds": 0.92}]}
    assert values(noticed)["propagation_delay"] == "2s"
    assert not any(line.unsettled for line in learn(noticed))
    gone = {"runs": [{**run, "duration_seconds": 9.0, "diverted_after_seconds": 9.0}]}
    assert values(gone)["propagation_delay"] == "5s"


@pytest.mark.parametrize(
    ("command", "until", "dies"),
    [
        (["./serve"], 1.0, True),  # idle when it died, 0.3 s after the signal on a busy machine
        (["./serve"], 5.3, False),  # one in flight was answered after the signal
        (["uvicorn", "app:app"], 1.0, False),  # known to end so
    ],
)
def test_only_what_was_in_flight_at_the_signal_shows_that_it_is_handled(command, until, dies):
    report = a_report(5.3, 143, "SIGTERM", command=command)
    asked, told, gone = report["timeline"]
    serving = [asked, {"at": 0.0, "event": "serving"}, {**told, "at": 5.0}, gone]
    requests = [*STEADY, (until - 0.5, "ok")]
    drill = a_drill({**report, "timeline": serving}, *requests, duration=5.6)
    assert (values(drill).get("preset") == "any-http-server") is dies
    assert ("stop_timeout" in values(drill)) is not dies


def test_jobs_come_by_no_connection_and_may_be_done_twice():
    def jobs(report, *fates):
        (run,) = a_drill(report, *((-0.5, fate) for fate in fates))["runs"]
        requests = [{**one, "connection": None} for one in run["requests"]]
        return {"runs": [{**run, "requests": requests, "diverted_after_seconds": None}]}

    well = jobs(a_report(2.0), "ok", "ok")
    assert values(well) == {"shutdown_timeout": "5s", "stop_timeout": "3s"}
    assert not any(line.unsettled for line in learn(well))
    assert "none of 2 jobs in 1 stop was lost" in reasons(well)
    assert "propagation_delay" not in reasons(well)
    again = jobs(a_report(2.0), "ok", "twice")
    assert "1 of 2 jobs in 1 stop were done twice" in reasons(again)
    assert [line.name for line in learn(again) if line.unsettled] == [""]
    lost = jobs(AT_ONCE, "ok", "not done")
    assert "preset" not in values(lost)  # it is no HTTP server
    assert values(lost) == {}
    assert "stop_timeout stay as they are" in reasons(lost)


def test_a_preset_that_ends_what_is_drained_is_for_those_that_need_it():
    well = {**a_report(), "command": ["node", "server.js"]}
    assert "preset" not in values(well)
    for needs in (
        {**AT_ONCE, "command": ["node", "server.js"]},
        {**well, "drain": [{"probe": "agent"}]},
        {**KILLED, "command": ["node", "server.js"]},
    ):
        assert values(needs)["preset"] == "node"
    assert values({**well, "command": ["celery"]})["preset"] == "celery"


@pytest.mark.parametrize(
    "report", [{**AT_ONCE, "drain": [{"probe": "tcp"}]}, drained_first(drain=[{"probe": "tcp"}])]
)
def test_without_its_agent_a_server_is_drained_before_the_signal(report):
    """The drain of preset node comes after the signal, of which it dies."""
    node = {**report, "command": ["node", "server.js"]}
    assert values(a_drill(node, *STEADY, duration=3.0))["preset"] == "any-http-server"


def test_the_escalation_of_a_preset_comes_after_the_time_that_is_needed():
    quit_ = {**a_report(4.0), "command": ["nginx"], "signals_sent": ["SIGQUIT"],
             "drain": [{"probe": "tcp"}]}  # fmt: skip
    found = values(quit_)
    assert (found["preset"], found["stop_signal"]) == ("nginx", "QUIT")
    assert found["stop_timeout"] == "7s"  # SIGTERM comes 1 s before
    assert found["shutdown_timeout"] == "9s"


def test_a_shorter_delay_leaves_more_to_do_after_the_signal():
    report = a_report(6.0)
    serving = [report["timeline"][0], {"at": 0.0, "event": "serving"},
               {**report["timeline"][1], "at": 5.0}, report["timeline"][2]]  # fmt: skip
    found = values(a_drill({**report, "timeline": serving}, *STEADY, duration=6.0))
    # 1 s was seen, and a request takes another one.
    assert (found["propagation_delay"], found["stop_timeout"]) == ("2s", "3s")
    # A drain waits for silence as well: after the delay now, and no longer during it.
    drained = {**report, "timeline": serving, "drain": [{"probe": "tcp"}]}
    assert values(a_drill(drained, *STEADY, duration=6.0))["stop_timeout"] == "6s"


def lingering(until: float, *, killed: bool, budget: float = 10.0):
    """Return the report of a stop that was drained after 2 s."""
    report = a_report(until, budget_seconds=budget, drain=[{"probe": "tcp"}])
    end = {"at": until, "event": "kill"} if killed else report["timeline"][2]
    late = until >= budget
    return {
        **report,
        "killed": ["serve (pid 7)"] if killed else [],
        "outcome": "killed" if late else "drained" if killed else "graceful",
        "timeline": [*report["timeline"][:2], {"at": 2.0, "event": "drained"}, end],
    }


def test_what_is_drained_and_stays_is_ended_early():
    held = lingering(10.0, killed=True)
    assert values(held) == {
        "drain": {"tcp": "auto", "linger": "1s"},
        "stop_timeout": "5s",
        "shutdown_timeout": "7s",
    }
    assert [line.name for line in learn(held) if line.unsettled] == ["drain.linger"]
    early = lingering(2.5, killed=True)
    assert values(early)["drain"] == {"tcp": "auto", "linger": "0.5s"}
    assert not any(line.unsettled for line in learn(early))
    own = lingering(2.5, killed=False)
    assert "drain" not in values(own)
    assert "it exits by itself, at most 0.5 s after it is drained" in reasons(own)


def test_the_last_new_connection_of_a_drill_gives_the_delay():
    requests = [
        {"at": at, "connection": kind}
        for at, kind in [(-1.0, "new"), (1.2, "new"), (3.0, "kept-alive")]
    ]
    own = {"who": "gracewrap", "report": a_report(), "requests": requests}
    late = {"who": "bare", "report": None, "requests": [{"at": 9.0, "connection": "new"}]}
    assert values({"runs": [own, late]})["propagation_delay"] == "2.5s"
    many = values({"runs": [own] * 5})
    assert many["propagation_delay"] == "2s"  # five have seen more
    none = {**own, "requests": requests[:1]}
    assert "propagation_delay" not in values({"runs": [none]})
    assert "no new connection came after" in reasons({"runs": [none]})
    with pytest.raises(past_stop.NoReport):
        learn({"runs": [late]})


def test_a_delay_in_which_nobody_came_is_said_too_for_the_preset_has_one():
    report = a_report(5.2)
    serving = [report["timeline"][0], {"at": 0.0, "event": "serving"},
               {**report["timeline"][1], "at": 5.0}, report["timeline"][2]]  # fmt: skip
    drill = a_drill({**report, "timeline": serving}, (-0.5, "ok"), duration=5.2)
    few = values(drill)
    assert (few["propagation_delay"], few["shutdown_timeout"]) == ("5s", "9s")
    assert "stays as it was" in reasons(drill)
    many = {"runs": drill["runs"] * 5}
    assert (values(many)["propagation_delay"], values(many)["shutdown_timeout"]) == ("0s", "4s")
    (run,) = drill["runs"]
    requests = [{**one, "connection": None} for one in run["requests"]]
    assert values({"runs": [{**run, "requests": requests}]})["propagation_delay"] == "0s"  # jobs


def test_different_commands_are_not_one():
    def of(*command):
        return a_report(2.0, command=list(command))

    one, other = of("node", "server.js"), of("node", "own.js")
    assert "different commands" in reasons(one, other)
    assert "(node server.js; node own.js)" in reasons(one, other)
    assert learn(one, other)[0].unsettled
    for same in (of("/usr/bin/node", "server.js"), of("node", "server.js")):
        assert "different commands" not in reasons(one, same)
    ports = of("./web", "--listen=127.0.0.1:40001"), of("./web", "--listen=127.0.0.1:51234")
    assert "different commands" not in reasons(*ports)
    web = {"name": "web", "pid": 7, "exit_status": 0, "signals_sent": ["SIGTERM"],
           "stop": {"signal_after_seconds": 0.0, "gone_after_seconds": 1.0}}  # fmt: skip
    timeline = [{"at": 0.0, "event": "stop_signal", "signal": "SIGTERM", "program": "web"}]
    several = a_report(2.0, programs=[web], timeline=timeline)
    assert "several programs (web) are mixed" in reasons(one, several)


def test_each_program_has_its_own():
    programs = [
        {"name": name, "pid": 7, "outcome": "graceful", "exit_status": 0, "signal": None,
         "signals_sent": ["SIGTERM"], "killed": [], "interrupted": None,
         "stop": {"signal_after_seconds": 0.0, "gone_after_seconds": gone}}
        for name, gone in (("web", 1.0), ("the worker", 2.0))
    ]  # fmt: skip
    timeline = [{"at": 0.0, "event": "stop_signal", "signal": "SIGTERM", "program": one["name"]}
                for one in programs]  # fmt: skip
    several = a_report(3.0, programs=programs, timeline=timeline)
    assert values(several) == {
        "shutdown_timeout": "8s",
        "programs": {"web": {"stop_timeout": "2s"}, "the worker": {"stop_timeout": "3s"}},
    }
    found = values(a_drill(several, *STEADY))
    assert found["defaults"].keys() == {"propagation_delay"}  # beside [programs] it stands there
    assert "propagation_delay" not in found


SLOW = """
import signal, sys, time
def end(*_):
    time.sleep(0.3)
    sys.exit(143)
signal.signal(signal.SIGTERM, end)
print("ready", flush=True)
while True:
    signal.pause()
"""


def stop(*options: str) -> int:
    """Stop a command that takes 0.3 s for it; return the exit status."""
    with subprocess.Popen(
        [sys.executable, MAIN, *options, "--", sys.executable, "-c", SLOW],
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        env=environment(),
    ) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == b"ready\n"
        process.send_signal(signal.SIGTERM)
        return process.wait(60)


def call(*words: object, stdin: str = "") -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, MAIN, *map(str, words)],
        input=stdin, capture_output=True, text=True, timeout=60, env=environment(),
    )  # fmt: skip


def test_the_learnt_file_stops_the_command_without_a_kill(tmp_path):
    file = tmp_path / "stop.json"
    assert stop("--report-file", str(file)) == 143
    done = call("learn", file)
    assert done.returncode == 0, done.stderr
    assert call("learn", "-", stdin=file.read_text()).stdout == done.stdout
    (tmp_path / "learnt.toml").write_text(done.stdout)
    assert stop("--config", str(tmp_path / "learnt.toml"), "--report-file", str(file)) == 0
    assert json.loads(file.read_text())["killed"] == []
    found = json.loads(call("learn", "--json", file).stdout)
    assert {one["setting"]: one["value"] for one in found}["success_exit_codes"] == [143]


def test_on_a_terminal_it_says_that_it_reads_standard_input():
    master, slave = pty.openpty()
    with subprocess.Popen([sys.executable, MAIN, "learn"], stdin=slave, stdout=subprocess.DEVNULL,
                          stderr=subprocess.PIPE, env=environment()) as process:  # fmt: skip
        assert process.stderr is not None
        assert b"reads a report from standard input" in process.stderr.readline()
        os.write(master, b"\x04")  # Ctrl-D
        assert process.wait(60) == 125
    os.close(slave)
    os.close(master)


@pytest.mark.parametrize(
    ("content", "said"),
    [(json.dumps({**a_report(), "programs": []}), "no program was up"),
     ("no", "it is not JSON"), ("[]", "it is not a report"), ("{}", "it has no timeline"),
     ('{"runs": []}', "without a report of a stop")],
)  # fmt: skip
def test_other_files_are_125(content, said):
    done = call("learn", stdin=content)
    assert (done.returncode, said in done.stderr) == (125, True), done.stderr
