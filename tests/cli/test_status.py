"""`gracewrap status`, against a stub."""

from __future__ import annotations

import json
import os
import subprocess

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from control_stub import (
    NO_ANSWERS,
    STOP,
    STOPPING,
    WIDTH,
    a_probe,
    a_status,
    ask,
    one_of,
    several,
)
from gracewrap.cli import status_view as status
from gracewrap.cli import status_watch
from processes import BOUND, GRACEWRAP, INSTALLED, environment


def test_status_says_it_all(stub):
    stub.say("/status", (200, a_status("draining", STOP, "jobs 7 → 3", status_text="saving")))
    done = ask(stub, "status")
    assert (done.status, done.err) == (0, "")
    for said in (
        "gracewrap 0.1.0 (pid 1): draining, not ready; up ",
        "requested by SIGTERM from pid 4: 1.2 s of 25 s gone, 24 s until",
        "reaped 3 zombies, forwarded 1 signal\n",
        "node (pid 7)  node server.js",
        "says: saving",
        "waits for: jobs 7 → 3",
        "drain probe http: busy, 3 jobs; 0.1 s ago",
        "        7  sleeping  node",
        "        9  zombie    └ sh",
    ):
        assert said in done.out
    assert max(map(len, done.out.splitlines())) < WIDTH


@pytest.mark.parametrize(
    ("probe", "line", "cell"),
    [
        ({}, "busy, 3 jobs; 0.1 s ago", "3"),
        ({"unit": "requests and jobs", "in_flight": 1}, "busy, 1 request or job; 0.1 s ago", "1"),
        ({"asked_seconds": 0.2}, "busy, 3 jobs; 0.1 s ago", "3"),
        (
            {"asked_seconds": 0.2, "age_seconds": 10.8},
            "no answer yet; the last one was busy, 3 jobs, 11 s ago",
            "3+",
        ),
        (
            {"reading": "unreachable", "why": "no answer within 2 s", "answered_seconds": 23.0},
            "unreachable, 3 jobs (no answer within 2 s); 0.1 s ago; the last answer was 23 s ago",
            "3+",
        ),
        ({"reading": "invalid", "in_flight": None, "why": "404"}, "invalid (404); 0.1 s ago", "?"),
    ],
)
def test_what_a_probe_does_not_know_now_is_told(stub, probe, line, cell):
    told = a_probe(**probe)
    drain = {"drained": False, "in_flight": told["in_flight"], "probes": [told]}
    stub.say("/status", (200, a_status(drain=drain)))
    assert f"  drain probe http: {line}\n" in ask(stub, "status").out
    web = one_of("web", drain=drain, in_flight=told["in_flight"])
    stub.say("/status", (200, several("running", web, one_of("db"))))
    _, row, _ = ask(stub, "status").out.splitlines()[-3:]
    assert row.split()[-1] == cell


def test_status_measures_what_is_in_our_pid_namespace(stub):
    own = {"pid": os.getpid(), "parent": 1, "name": "python", "state": "R"}
    stub.say("/status", (200, {**a_status(processes=[own]), "pid": os.getpid()}))
    done = ask(stub, "status", program=INSTALLED)
    header, row = done.out.splitlines()[-2:]
    assert (
        header.split() == ["PID", "CPU", "MEMORY", "STATE", "NAME"]
        and "% " in row
        and " MiB " in row
    )
    stub.say("/status", (200, {**a_status(processes=[own]), "pid": os.getpid() + 1}))
    assert "MEMORY" not in ask(stub, "status", program=INSTALLED).out


def test_status_as_json_is_what_gracewrap_said(stub):
    said = a_status("draining", STOP)
    stub.say("/status", (200, said))
    assert json.loads(ask(stub, "status", "--json").out) == said
    assert stub.asked == ["GET /status"]


def test_status_of_a_terminal_without_arrows(stub):
    stub.say("/status", (200, a_status("draining", None, "jobs 7 → 3")))
    latin = {**environment(LC_ALL="C", PYTHONIOENCODING="latin-1")}
    done = ask(stub, "status", program=INSTALLED, env=latin, text=False)
    assert done.status == 0 and b"jobs 7 ? 3" in done.out


def test_status_of_several_programs_is_a_table(stub):
    stub.say("/status", (200, STOPPING))
    lines = ask(stub, "status").out.splitlines()
    assert lines[1].startswith("  stop requested by SIGTERM from pid 4: ") and lines[2].startswith(
        "  reaped"
    )
    assert lines[4].split() == ["NAME", "PHASE", "PID", "UP", "RESTARTS", "LEFT"]
    assert [" ".join(row.split()) for row in lines[5:]] == [
        "db running 7 3 min 12 s 23 s waiting for web: requests 7 → 3; worker: jobs 2",
        "web stopping 7 3 min 12 s 2 11 s requests 7 → 3",
        "worker draining 7 3 min 12 s 9 s waiting for pre_stop; jobs 2",
        "migrate completed exited with 0",
        "cache backing off 12 exited with 1; starts in 3.2 s",
    ]
    stub.say("/status", (200, several("running", one_of("db"), one_of("web"))))
    assert ask(stub, "status").out.splitlines()[-3:] == [
        "  NAME  PHASE    PID  UP", "  db    running    7  3 min 12 s", "  web   running    7  3 "
                                                                        "min 12 s",
    ]  # fmt: skip


def test_cpu_is_measured_from_the_last_look_at_each_program():
    def said(uptime: float, used: float | None, age: float | None, pid: int = 7) -> dict:
        web = one_of("web", cpu_seconds=used, usage_age_seconds=age, pid=pid)
        return several("running", web, one_of("db"), uptime_seconds=uptime)

    meter = status.Meter()
    assert meter.cpu(said(10.0, 4.0, 0.0)) == {}  # of one look there is no rate
    assert meter.cpu(said(12.0, 5.0, 0.0)) == {"web": 50.0}
    assert meter.cpu(said(14.0, 5.0, 2.0)) == {"web": 50.0}  # gracewrap has not looked again
    assert meter.cpu(said(16.0, 6.0, 0.0)) == {"web": 25.0}
    assert meter.cpu(said(17.0, 0.1, 0.0, pid=8)) == {}  # started again
    assert meter.cpu(said(18.0, 1.1, 0.0, pid=8)) == {"web": 100.0}
    assert meter.cpu(said(19.0, None, None, pid=8)) == {}


def test_fifty_programs_are_fifty_lines_that_fit(stub):
    fifty = [
        one_of(f"program-{i}", restarts=i, waiting_for="requests 3", pid=4000000 + i)
        for i in range(50)
    ]
    stub.say("/status", (200, several("running", *fifty)))
    lines = ask(stub, "status").out.splitlines()
    assert len(lines) == 54 and max(map(len, lines)) < WIDTH


def test_what_several_programs_do_is_told_with_their_names(stub):
    said = (
        "web: requests 7 → 3 · worker: waiting for pre_stop, jobs 2 · cache: exited with 1 and "
        "1 more"
    )
    assert status.waiting_for(STOPPING) == said
    assert status.headline(STOPPING).endswith(
        ": exited with 1 · db waits for web and worker; stop requested by SIGTERM from pid 4"
    )
    assert status.commands(STOPPING) == "db, web, worker, migrate, cache"
    part = {
        "programs": ["web", "worker"],
        "again": True,
        "elapsed_seconds": 1.2,
        "left_seconds": 18.8,
        "budget_seconds": 20,
    }
    stub.say(
        "/status", (200, several("restarting", one_of("web", "stopping"), one_of("db"), part=part))
    )
    assert (
        "  restarting web and worker: 1.2 s of 20 s gone, 19 s until the last SIGKILL\n"
        in ask(stub, "status").out
    )


@pytest.mark.parametrize(("answer", "said"), NO_ANSWERS.values(), ids=NO_ANSWERS)
def test_an_answer_that_is_none_is_told_and_ends_with_1(stub, answer, said):
    stub.say("/status", answer)
    done = ask(stub, "status")
    assert (done.status, done.out) == (1, "") and said in done.err and done.err.count("\n") == 1


def test_a_closed_pipe_is_no_error(stub):
    stub.say(
        "/status",
        (200, a_status(processes=[{"pid": pid, "name": "x" * 50} for pid in range(1, 5000)])),
    )
    process = subprocess.Popen(
        [*GRACEWRAP, "status", "--socket", stub.path],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        env=environment(),
    )
    with process:
        process.stdout.readline()
        process.stdout.close()
        assert (process.wait(BOUND), process.stderr.read()) == (0, b"")


ANY = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=20),
    lambda inner: (
        st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=8), inner, max_size=4)
    ),
    max_leaves=8,
)


def shaped(like: object) -> st.SearchStrategy[object]:
    """Return values of the shape of *like* in which anything may be missing or something else."""
    if isinstance(like, dict):
        return ANY | st.fixed_dictionaries(
            {}, optional={key: shaped(value) for key, value in like.items()}
        )
    if isinstance(like, list) and like:
        return ANY | st.lists(st.one_of(*map(shaped, like)), max_size=30)
    return ANY | st.just(like)


@settings(max_examples=200, deadline=None)
@given(
    shaped(a_status("draining", STOP, "jobs 3")) | shaped(STOPPING),
    st.integers(10, 120),
    st.integers(3, 50),
)
def test_whatever_is_said_can_be_shown(said, width, height):
    said = said if isinstance(said, dict) else {}
    lines = list(status.describe(said, {}))
    assert all(line.text.isprintable() for line in lines)
    assert (
        status.headline(said).isprintable()
        and status.waiting_for(said)
        and status.is_drained(said) in (True, False)
    )
    assert (
        status.probes(said) is not None
        and status.commands(said).isprintable()
        and status.left_of(said).isprintable()
    )
    shown = status_watch.page(said, {}, width, height).plain.split("\n")
    assert len(shown) <= height


@pytest.mark.parametrize(
    ("seconds", "said"),
    [
        (0, "0.0 s"),
        (-1, "0.0 s"),
        (9.94, "9.9 s"),
        (9.96, "10 s"),
        (59.6, "1 min 0 s"),
        (192, "3 min 12 s"),
        (7380, "2 h 3 min"),
        (439300, "5 d 2 h"),
    ],
)
def test_times_are_for_people(seconds, said):
    assert status.span(seconds) == said
