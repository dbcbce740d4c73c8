"""`gracewrap drain`, `undrain`, `stop` and `restart`, against a stub."""

from __future__ import annotations

import os

import pytest

from control_stub import (
    ACCEPTED,
    STOP,
    Stub,
    a_probe,
    a_status,
    ask,
    asked,
    one_of,
    request,
    several,
    waited,
)
from processes import BOUND


def test_drain_and_undrain_say_what_was_answered(stub):
    stub.say("/drain", ACCEPTED)
    done = ask(stub, "drain")
    assert (done.status, done.out) == (0, f"gracewrap (pid {os.getpid()}): draining\n")
    stub.say("/undrain", (409, {"error": "already stopping"}))
    done = ask(stub, "undrain")
    assert (done.status, done.out) == (1, "") and "already stopping" in done.err
    assert stub.asked == ["POST /drain", "POST /undrain"]


def test_drain_waits_until_drained_and_says_how_it_goes(stub):
    busy = [
        a_status("draining", waits=f"jobs 3 → {left}") for left in (3, 3, 3, 3, 3, 3, 3, 3, 3, 2, 1)
    ]
    done = waited(stub, a_status(waits="jobs 3 → 3"), *busy, a_status("drained"))
    assert (done.status, done.err) == (0, "")
    lines = done.out.splitlines()
    assert lines[0].endswith("draining") and lines[-1].startswith("drained after ")
    assert (
        any("jobs 3 → 2" in line or "jobs 3 → 1" in line for line in lines[1:-1]) and len(lines) < 6
    )


def test_drain_that_takes_too_long_ends_with_1(stub):
    done = waited(stub, a_status("draining", waits="jobs 3"), words=("--timeout", "300ms"))
    assert done.status == 1 and "not drained in 0.3 s: jobs 3" in done.err


def test_drain_without_a_probe_has_nothing_to_wait_for(stub):
    done = waited(stub, a_status("draining", drain=None))
    assert done.status == 2 and "no drain probe to wait for" in done.err


def test_drain_that_is_given_up_ends_with_1(stub):
    drain = {"drained": False, "given_up": True, "probes": [a_probe()]}
    done = waited(stub, a_status("draining"), a_status("draining", waits="jobs 3", drain=drain))
    assert done.status == 1 and "not drained, and given up: jobs 3 (drain.timeout" in done.err


def test_drain_that_is_taken_back_ends_with_1(stub):
    done = waited(stub, a_status("draining"), a_status("running"))
    assert done.status == 1 and "cancelled" in done.err


def test_drain_goes_on_when_it_stops_meanwhile_until_drained_or_gone(stub):
    drained = a_status("stopping", STOP, drain={"drained": True, "probes": [a_probe()]})
    assert waited(stub, a_status("draining"), a_status("draining", STOP), drained).status == 0
    done = waited(stub, a_status("draining"), a_status("stopping", STOP, drain=None), None)
    assert done.status == 0 and "has gone after" in done.out


def test_what_was_killed_was_not_drained(stub):
    done = waited(stub, a_status("stopping", STOP), a_status("killing", STOP, "jobs 2"), None)
    assert done.status == 1 and "it was killing what was left: jobs 2" in done.err


def test_drain_waits_for_a_stop_that_is_under_way(stub):
    refused = (409, {"error": "already stopping"})
    assert waited(stub, a_status("stopping", STOP), None, posted=refused).status == 0
    assert ask(stub, "status").status == 1


def test_drain_notices_that_another_has_taken_its_place(stub):
    done = waited(stub, a_status("draining"), {**a_status("running"), "uptime_seconds": 0.1})
    assert done.status == 0 and "has gone" in done.out


def test_stop_says_what_is_stopped_and_waits_until_it_has_gone(stub):
    stub.say("/stop", (202, {"ok": True, "message": "stopping, within 25 s"}))
    done = ask(stub, "stop", "--no-wait")
    assert done.status == 0 and ": stopping, within 25 s\n  node server.js\n" in done.out
    stub.say("/status", (200, a_status("stopping", STOP)))
    done = ask(stub, "stop", "--wait", "--timeout", "200ms")
    assert done.status == 1 and "not gone in 0.2 s" in done.err
    stub.say("/status", (200, a_status()), (200, a_status("stopping", STOP, "jobs 1")), None)
    done = ask(stub, "stop")
    assert (
        done.status == 0
        and "jobs 1, 0 s gone, 24 s until SIGKILL" in done.out
        and "has gone after" in done.out
    )


def test_several_programs_are_named_with_commas_in_between(stub):
    stub.say(
        "/stop", (200, {"message": "web and a,b are not running", "named": [], "programs": []})
    )
    assert ask(stub, "stop", "web", "--timeout", "5s", "x y").status == 0
    assert stub.asked == ["POST /stop?program=web%2Cx%20y"]


@pytest.mark.parametrize("action", ["restart", "stop"])
def test_a_request_that_is_refused_later_is_told_and_what_to_do(stub, action):
    part = {
        "programs": ["db"],
        "again": True,
        "elapsed_seconds": 1.2,
        "left_seconds": 18.8,
        "budget_seconds": 20,
    }
    up = one_of("web"), one_of("db", "stopping")
    refused = request("refused", why="db is being stopped")
    done = asked(
        stub,
        action,
        several("running", *up, **request("asked")),
        several("restarting", *up, part=part, **refused),
    )
    assert done.status == 1
    assert done.err == (
        f"gracewrap: web is not {action}{'ed' if action == 'restart' else 'ped'}: "
        "db is being stopped, which was asked for before; ask again after that\n"
    )
    assert stub.asked[1:] == ["GET /status?processes=no&request=7"] * 2


def test_another_part_is_not_waited_for(stub):
    part = {
        "programs": ["db"],
        "again": False,
        "elapsed_seconds": 1.2,
        "left_seconds": 18.8,
        "budget_seconds": 20,
    }
    done = asked(
        stub,
        "restart",
        several("running", one_of("web"), one_of("db", "stopping"), part=part, **request("over")),
    )
    assert done.status == 0 and "restarted web in " in done.out


def test_a_restart_names_what_had_to_be_killed(stub):
    killed = [
        {"program": "web", "after_seconds": 10.04, "whole": True},
        {"program": "db", "after_seconds": 3, "whole": False},
    ]
    done = asked(
        stub,
        "restart",
        several(
            "running", one_of("web", pid=8), one_of("db", pid=9), **request("over", killed=killed)
        ),
    )
    assert done.status == 0
    assert (
        "; web was killed after 10 s, and started again (pid 8); some of db was killed after 3.0 "
        "s, and it was" in done.out
    )


def test_gracewrap_that_has_ended_meanwhile(stub):
    starting = several(
        "starting", one_of("web", "running", "nothing listens on port 80 yet"), **request("over")
    )
    done = asked(stub, "restart", starting, None)
    assert done.status == 1 and "web is not restarted: gracewrap has ended after " in done.err
    assert done.err.endswith("; last seen: web: nothing listens on port 80 yet; its log says why\n")


@pytest.mark.parametrize(
    ("phase", "ends", "status", "said"),
    [("stopping", True, 0, "; gracewrap has ended with it"),
     ("stopping", False, 0, "; gracewrap has ended too; its log says why"),
     ("killing", True, 1, "; web had to be killed; gracewrap has ended with it")],
)  # fmt: skip
def test_gracewrap_that_has_ended_with_what_was_stopped(tmp_path, phase, ends, status, said):
    stub = Stub(str(tmp_path / "c.sock"))
    try:
        done = asked(
            stub,
            "stop",
            several("running", one_of("web", phase), **request("begun")),
            None,
            ends=ends,
        )
    finally:
        stub.end()
        stub.thread.join(BOUND)
    assert done.status == status and (done.out + done.err).endswith(f"{said}\n")


@pytest.mark.parametrize(
    ("program", "said"),
    [(one_of("web", "failed", "exited with 1", exit_status=1), "it exited with 1\n"),
     (one_of("web", "stopped", "exited with 0", exit_status=0), "it was stopped again\n"),
     (one_of("web", "backing off", "exited with 1", next_start_seconds=3.2), "it exited with 1; "
                                                                             "the next start is in "
                                                                             "3.2 s\n")],
)  # fmt: skip
def test_a_restart_that_does_not_come_up_says_why(stub, program, said):
    done = asked(stub, "restart", several("running", program, **request("over")))
    assert done.status == 1 and done.err.endswith(f"web did not come up: {said}")
