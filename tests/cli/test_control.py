"""`gracewrap status | drain | undrain | stop | restart | health`: against a stub that says what a
test wants, and real ones."""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import pty
import select
import signal
import socket
import struct
import subprocess
import sys
import termios
import threading
import time
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler
from pathlib import Path
from socketserver import ThreadingUnixStreamServer

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from rich.console import Console

from gracewrap.cli import app, control_arguments, control_client, status_watch
from gracewrap.cli import status_view as status
from gracewrap.cli import wait_for_programs as part
from gracewrap.server.control_socket import Instance
from processes import BOUND, GRACEWRAP, INSTALLED, Lines, environment

ACTIONS = ["status", "drain", "undrain", "stop", "restart", "health"]
WIDTH, HEIGHT = 80, 24


def a_probe(**more: object) -> dict[str, object]:
    probe = {
        "kind": "http",
        "unit": "jobs",
        "reading": "busy",
        "in_flight": 3,
        "why": "",
        "age_seconds": 0.1,
        "failures": 0,
    }
    return {**probe, **more}


def a_status(
    phase: str = "running", stop: object = None, waits: str = "", **more: object
) -> dict[str, object]:
    """Return what a gracewrap would say that wraps one program with one probe."""
    program: dict[str, object] = {
        "name": "node",
        "command": ["node", "server.js"],
        "pid": 7,
        "phase": phase,
        "status_text": "",
        "waiting_for": waits,
        "drain": {"drained": phase == "drained", "in_flight": 3, "probes": [a_probe()]},
        "processes": [
            {"pid": 7, "parent": 1, "name": "node", "state": "S"},
            {"pid": 9, "parent": 7, "name": "sh", "state": "Z"},
        ],
        **more,
    }
    return {
        "gracewrap": "0.1.0", "pid": 1, "phase": phase, "ready": phase == "running",
        "reason": "" if phase == "running" else phase, "uptime_seconds": 12.3,
        "zombies_reaped": 3, "signals_forwarded": 1, "stop": stop, "programs": [program],
    }  # fmt: skip


def one_of(name: str, phase: str = "running", why: str = "", **more: object) -> dict[str, object]:
    """Return what is said of one of several programs."""
    up = phase not in ("pending", "starting", "backing off", *status.ENDED)
    program: dict[str, object] = {
        "name": name,
        "command": ["node", f"{name}.js"],
        "pid": 7 if up else None,
        "phase": phase,
        "ready": phase == "running" and not why,
        "why": why,
        "waits_for": [],
        "left_seconds": None,
        "uptime_seconds": 192.4 if up else None,
        "restarts": 0,
        "next_start_seconds": None,
        "exit_status": None,
        "status_text": "",
        "waiting_for": "",
        "drain": None,
        "processes": [],
        "all_processes": False,
        **more,
    }
    return program


def several(
    phase: str = "running", *programs: dict[str, object], **more: object
) -> dict[str, object]:
    """Return what a gracewrap would say that runs several programs."""
    return {**a_status(phase), "part": None, "programs": list(programs), **more}


STOP = {
    "requested_by": "SIGTERM from pid 4",
    "elapsed_seconds": 1.2,
    "left_seconds": 23.8,
    "budget_seconds": 25,
}


class Stub(ThreadingUnixStreamServer):
    """What listens where a gracewrap would, and answers what a test has put into *answers*; the
    last of a list stays."""

    daemon_threads = True

    def __init__(self, path: str) -> None:
        self.answers: dict[str, list[object]] = {
            "/livez": [(200, {"live": True})],
            "/readyz": [(200, {"ready": True})],
        }
        self.asked: list[str] = []
        super().__init__(path, Handler)
        self.path = path
        self.thread = threading.Thread(target=self.serve_forever, args=(0.01,))
        self.thread.start()

    def say(self, target: str, *answers: object) -> None:
        """Answer *target* with these (status, JSON), raw bytes, or None (which hangs up and ends it
        all), one after another."""
        self.answers[target] = list(answers)

    def end(self) -> None:
        """Be gone, as a gracewrap that has ended."""
        if os.path.exists(self.path):
            os.unlink(self.path)
            self.shutdown()
            self.server_close()


class Handler(BaseHTTPRequestHandler):
    server: Stub
    protocol_version = "HTTP/1.1"

    def do_GET(self) -> None:
        self.server.asked.append(f"{self.command} {self.path}")
        answers = self.server.answers.get(
            self.path.partition("?")[0], [(404, {"error": "no such page"})]
        )
        answer = answers.pop(0) if len(answers) > 1 else answers[0]
        self.close_connection = True
        if answer is None:
            self.server.end()
        elif isinstance(answer, bytes):
            with contextlib.suppress(ConnectionError):
                self.wfile.write(answer)
        else:
            code, body = answer
            content = json.dumps(body).encode() if not isinstance(body, bytes) else body
            self.send_response(code)
            self.send_header("Content-Length", str(len(content)))
            self.end_headers()
            self.wfile.write(content)

    do_POST = do_GET  # noqa: N815 - as BaseHTTPRequestHandler wants it

    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture
def stub(tmp_path: Path) -> Iterator[Stub]:
    server = Stub(str(tmp_path / "c.sock"))
    server.say("/status", (200, a_status()))
    yield server
    server.end()
    server.thread.join(BOUND)


class Done:
    """What a client that has ended said."""

    def __init__(self, *words: object, program: list[str] = GRACEWRAP, **options: object) -> None:
        settings = {
            "stdin": subprocess.DEVNULL,
            "text": True,
            "timeout": BOUND,
            "env": environment(),
            **options,
        }
        done = subprocess.run([*program, *map(str, words)], capture_output=True, **settings)  # type: ignore[call-overload]
        self.status, self.out, self.err = done.returncode, done.stdout, done.stderr


def ask(stub: Stub, *words: object, **options: object) -> Done:
    return Done(*words, "--socket", stub.path, **options)


# --- words ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["drain", "--wiat"], "cannot use --wiat (gracewrap drain): no such option; write --wait"),
        (["health", "--watch"], "no such option; write "),
        (["status", "--pid", "x"], 'cannot use --pid = "x" (gracewrap status): not a pid; '),
        (["status", "--pid=0"], "not a pid"),
        (["status", "--pid", "9" * 5000], "not a pid"),
        (
            ["stop", "--timeout", "5"],
            'cannot use --timeout = "5" (gracewrap stop): has no unit; write "5s"',
        ),
        (["drain", "--timeout"], "it needs a value; write --timeout 20s"),
        (["drain", "--timeout", "--wait"], "it needs a value"),
        (["health", "--live=1"], "it takes no value; write --live"),
        (["status", "--socket", ""], "empty; write a path"),
        (["undrain", "now"], "gracewrap -- undrain"),
        (["stop", ""], "empty; write the name of a program"),
        (["status", "a", "b"], "one program at a time"),
        (["stop", "--wait", "--no-wait"], "write one of them"),
        (["restart", "--wait"], "no such option; write --no-wait"),
        (["undrain", "\x1b[2J"], r"'\\x1b[2J'"),
        (["status", "--watch", "--json"], "write one of them"),
        (
            ["--log-level", "debug", "status"],
            "cannot use --log-level (command line) with status: it is for a run",
        ),
    ],
)
def test_a_mistake_is_named_with_what_to_write_and_ends_with_125(words, said):
    done = Done(*words)
    assert (
        (done.status, done.out) == (125, "")
        and said in done.err
        and done.err.startswith("gracewrap: cannot use ")
    )
    assert done.err.count("\n") == 1


@pytest.mark.parametrize("action", ACTIONS)
def test_help_names_every_option_and_fits_a_terminal(action):
    done = Done(action, "--pid", "x", "--help")
    assert (done.status, done.err, done.out) == (0, "", app.help_text(action))
    for word in [
        *control_arguments.OPTIONS[action],
        "Example",
        "Exit status:",
        "PID 1",
        "docker exec",
    ]:
        assert word in done.out
    assert max(map(len, done.out.splitlines())) < WIDTH


# --- which one -----------------------------------------------------------------------------------


def finds(*found: Instance) -> Callable[[int | None, str | None], list[Instance]]:
    return lambda pid, explicit: [one for one in found if pid in (None, one.pid)]


def test_the_only_one_is_meant_and_of_several_the_one_with_pid_1():
    one, other, init = Instance("/a", 71), Instance("/b", 72), Instance("/c", 1)
    assert control_client.choose(None, None, find=finds(one)) == one
    assert control_client.choose(None, None, find=finds(one, init, other)) == init
    assert control_client.choose(72, None, find=finds(one, other)) == other


def test_several_are_listed_with_their_commands(stub):
    there = Instance(stub.path, 72)
    with pytest.raises(control_client.Unusable) as fault:
        control_client.choose(None, None, find=finds(there, Instance("/gone", os.getpid())))
    lines = str(fault.value).splitlines()
    assert "2 are running" in lines[0]
    listed = {line.split()[1]: " ".join(line.split()[2:]) for line in lines[1:]}
    assert listed["72"] == "node server.js" and "pytest" in listed[str(os.getpid())]


def test_root_finds_a_pid_1_of_another_user():
    init = Instance("/c", 1)
    assert control_client.choose(None, None, find=lambda pid, _: [init] if pid == 1 else []) == init


def test_nobody_is_there(tmp_path, stub):
    with pytest.raises(control_client.NoAnswer, match="docker exec"):
        control_client.choose(None, None, find=finds())
    for words, said in (
        (["--socket", str(tmp_path / "none")], "there is no such file"),
        (["--pid", "999999999"], "no such process"),
        (["--pid", str(os.getpid())], "no gracewrap"),
    ):
        done = Done("status", *words)
        assert done.status == 1 and said in done.err
    stub.end()
    Path(stub.path).touch()
    assert "nobody listens" in Done("status", "--socket", stub.path).err


def test_a_variable_names_the_socket_and_a_pid_goes_before_it(stub):
    named = environment(GRACEWRAP_CONTROL_SOCKET=stub.path)
    assert Done("health", env=named).out == "ready\n"
    assert "no such process" in Done("health", "--pid", "999999999", env=named).out
    missing = Done("status", env=environment(GRACEWRAP_CONTROL_SOCKET="/none"))
    assert missing.status == 1 and "(environment, GRACEWRAP_CONTROL_SOCKET)" in missing.err


# --- health --------------------------------------------------------------------------------------


def test_health_is_readiness_and_live_is_life(stub):
    done = ask(stub, "health")
    assert (done.status, done.out, done.err) == (0, "ready\n", "")
    stub.say("/readyz", (503, {"ready": False, "reason": "stopping", "seconds_left": 23.81}))
    done = ask(stub, "health")
    assert (done.status, done.out, done.err) == (1, "not ready: stopping, 23.8 s left\n", "")
    stub.say(
        "/readyz", (503, {"ready": False, "reason": "starting", "why": "tcp: connection refused"})
    )
    assert ask(stub, "health").out == "not ready: starting (tcp: connection refused)\n"
    stub.say("/readyz", (500, b"Something is wrong.\n"))
    assert ask(stub, "health").out == "not ready: Something is wrong.\n"
    assert ask(stub, "health", "--live").out == "alive\n"
    assert stub.asked == ["GET /readyz"] * 4 + ["GET /livez"]


def test_health_without_a_gracewrap_is_one_line(tmp_path):
    done = Done("health", "--socket", tmp_path / "none")
    assert (
        (done.status, done.err) == (1, "")
        and done.out.startswith("not healthy: ")
        and done.out.count("\n") == 1
    )


def test_health_waits_no_longer_than_its_timeout_for_one_that_is_stopped(tmp_path):
    with socket.socket(socket.AF_UNIX) as deaf:
        deaf.bind(str(tmp_path / "deaf"))
        deaf.listen(8)
        began = time.monotonic()
        done = Done("health", "--timeout", "200ms", "--socket", tmp_path / "deaf")
        assert (
            done.status == 1
            and "no answer in 0.2 s" in done.out
            and time.monotonic() - began < BOUND / 3
        )


def test_a_full_queue_of_visitors_is_waited_for_and_no_longer(tmp_path):
    path = str(tmp_path / "full")
    with socket.socket(socket.AF_UNIX) as full, contextlib.ExitStack() as stack:
        full.bind(path)
        full.listen(0)
        with pytest.raises(BlockingIOError):
            for _ in range(100):
                visitor = stack.enter_context(socket.socket(socket.AF_UNIX))
                visitor.setblocking(False)
                visitor.connect(path)
        with pytest.raises(control_client.NoAnswer, match="no answer in"):
            control_client.ask(path, "GET", "/livez", 0.1)


def test_health_loads_little(stub):
    """A health check runs every few seconds: no typer, rich or psutil, and no json where all is
    well."""
    done = subprocess.run(
        [sys.executable, "-X", "importtime", *GRACEWRAP[1:], "health", "--socket", stub.path],
        capture_output=True, text=True, timeout=BOUND, env=environment(),
    )  # fmt: skip
    loaded = {
        line.rpartition("|")[2].strip()
        for line in done.stderr.splitlines()
        if line.startswith("import time:")
    }
    assert done.stdout == "ready\n" and "gracewrap.cli.control_client" in loaded
    assert not loaded & {
        "typer",
        "rich",
        "psutil",
        "json",
        "re",
        "socket",
        "http.client",
        "enum",
        "os",
        "typing",
        "gracewrap.cli.help",
    }


# --- status --------------------------------------------------------------------------------------


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


STOPPING = several(
    "stopping",
    one_of(
        "db",
        why="waiting for web: requests 7 → 3; worker: jobs 2",
        waits_for=["web", "worker"],
        left_seconds=23.2,
    ),
    one_of("web", "stopping", left_seconds=11.2, waiting_for="requests 7 → 3", restarts=2),
    one_of("worker", "draining", "waiting for pre_stop", left_seconds=9.4, waiting_for="jobs 2"),
    one_of("migrate", "completed", "exited with 0", exit_status=0),
    one_of(
        "cache", "backing off", "exited with 1", exit_status=1, next_start_seconds=3.2, restarts=12
    ),
    stop=STOP,
)


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


NO_ANSWERS = {
    "refused": ((403, b"This is for root.\n"), "This is for root."),
    "a bug": ((500, {"error": "a bug"}), "a bug"),
    "a list": ((200, b"[]"), "no status"),
    "no JSON": ((200, b"{"), "no status"),
    "no HTTP": (b"SSH-2.0-OpenSSH\r\n\r\n", "is no gracewrap"),
    "nothing": (b"", "hung up"),
    "half": (b"HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\n{}", "hung up"),
    "an endless body": (b"HTTP/1.1 200 OK\r\n\r\n" + b"x" * (17 << 20), "no end"),
    "an endless head": (b"x" * (17 << 20), "no end"),
}


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


# --- drain, undrain, stop ------------------------------------------------------------------------

ACCEPTED = (202, {"ok": True, "message": "draining"})


def test_drain_and_undrain_say_what_was_answered(stub):
    stub.say("/drain", ACCEPTED)
    done = ask(stub, "drain")
    assert (done.status, done.out) == (0, f"gracewrap (pid {os.getpid()}): draining\n")
    stub.say("/undrain", (409, {"error": "it is stopping already"}))
    done = ask(stub, "undrain")
    assert (done.status, done.out) == (1, "") and "it is stopping already" in done.err
    assert stub.asked == ["POST /drain", "POST /undrain"]


def waited(
    stub: Stub, *answers: object, words: tuple[str, ...] = (), posted: object = ACCEPTED
) -> Done:
    """Return what `drain --wait` says where /status says *answers*, one after another."""
    stub.say("/drain", posted)
    stub.say("/status", *[answer if answer is None else (200, answer) for answer in answers])
    return ask(stub, "drain", "--wait", *words)


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
    assert done.status == 2 and "nothing to wait for: no drain probe is configured" in done.err


def test_drain_that_is_taken_back_ends_with_1(stub):
    done = waited(stub, a_status("draining"), a_status("running"))
    assert done.status == 1 and "taken back" in done.err


def test_drain_goes_on_when_it_stops_meanwhile_until_drained_or_gone(stub):
    drained = a_status("stopping", STOP, drain={"drained": True, "probes": [a_probe()]})
    assert waited(stub, a_status("draining"), a_status("draining", STOP), drained).status == 0
    done = waited(stub, a_status("draining"), a_status("stopping", STOP, drain=None), None)
    assert done.status == 0 and "has gone after" in done.out


def test_what_was_killed_was_not_drained(stub):
    done = waited(stub, a_status("stopping", STOP), a_status("killing", STOP, "jobs 2"), None)
    assert done.status == 1 and "it was killing what was left: jobs 2" in done.err


def test_drain_waits_for_a_stop_that_is_under_way(stub):
    refused = (409, {"error": "it is stopping already"})
    assert waited(stub, a_status("stopping", STOP), None, posted=refused).status == 0
    assert ask(stub, "status").status == 1


def test_drain_notices_that_another_has_taken_its_place(stub):
    done = waited(stub, a_status("draining"), {**a_status("running"), "uptime_seconds": 0.1})
    assert done.status == 0 and "has gone" in done.out


def test_stop_says_what_is_stopped_and_waits_until_it_has_gone(stub):
    stub.say("/stop", (202, {"ok": True, "message": "stopping, within 25 s"}))
    done = ask(stub, "stop")
    assert done.status == 0 and ": stopping, within 25 s\n  node server.js\n" in done.out
    stub.say("/status", (200, a_status("stopping", STOP)))
    done = ask(stub, "stop", "--wait", "--timeout", "200ms")
    assert done.status == 1 and "not gone in 0.2 s" in done.err
    stub.say("/status", (200, a_status()), (200, a_status("stopping", STOP, "jobs 1")), None)
    done = ask(stub, "stop", "--wait")
    assert (
        done.status == 0
        and "jobs 1, 0 s gone, 24 s until SIGKILL" in done.out
        and "has gone after" in done.out
    )


def asked(stub: Stub, action: str, *statuses: object, **more: object) -> Done:
    """Return what `gracewrap ACTION web` says where the request gets number 7 and /status says
    *statuses* after that."""
    until = {"restart": "restarted", "stop": "stopped"}[action]
    answer = {
        "message": f"{action} web",
        "request": 7,
        "named": ["web"],
        "programs": ["web"],
        "until": until,
        **more,
    }
    stub.say(f"/{action}", (202, answer))
    stub.say("/status", *[one if one is None else (200, one) for one in statuses])
    return ask(stub, action, "web")


def request(state: str, **more: object) -> dict[str, object]:
    return {"request": {"number": 7, "state": state, "why": "", "killed": [], **more}}


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


# --- on a terminal -------------------------------------------------------------------------------


class Terminal:
    """A client on a terminal of 80 columns and 24 lines."""

    def __init__(self, *words: object, term: str = "xterm-256color") -> None:
        self.master, slave = pty.openpty()
        fcntl.ioctl(slave, termios.TIOCSWINSZ, struct.pack("HHHH", HEIGHT, WIDTH, 0, 0))
        self.before = termios.tcgetattr(slave)
        # Only by a preexec_fn can a test make the terminal the controlling one.
        self.process = subprocess.Popen(
            [*INSTALLED, *map(str, words)],
            stdin=slave,
            stdout=slave,
            stderr=slave,
            env=environment(TERM=term),
            start_new_session=True,
            preexec_fn=lambda: fcntl.ioctl(0, termios.TIOCSCTTY, 0),  # noqa: PLW1509
        )
        self.slave, self.seen = slave, ""

    def until(self, *wanted: str) -> str:
        """Read until all of *wanted* has come, and return all that has come."""
        until = time.monotonic() + BOUND
        while not all(one in self.seen for one in wanted):
            if not select.select([self.master], [], [], max(0.0, until - time.monotonic()))[0]:
                raise TimeoutError(f"{wanted} not in {self.seen!r}")
            self.seen += os.read(self.master, 65536).decode(errors="replace")
        return self.seen

    def wait(self) -> int:
        """Return the exit status, with all that was shown in *seen*."""
        os.close(self.slave)
        self.slave = -1
        with contextlib.suppress(OSError):  # EIO: nobody has it open any more
            while select.select([self.master], [], [], BOUND)[0] and (
                part := os.read(self.master, 65536)
            ):
                self.seen += part.decode(errors="replace")
        return self.process.wait(BOUND)

    def close(self) -> None:
        if self.process.poll() is None:
            self.process.kill()
        self.process.wait(BOUND)
        for fd in (self.master, self.slave):
            with contextlib.suppress(OSError):
                os.close(fd)


@pytest.fixture
def terminal() -> Iterator[Callable[..., Terminal]]:
    terminals: list[Terminal] = []

    def begin(*words: object, **options: str) -> Terminal:
        terminals.append(Terminal(*words, **options))
        return terminals[-1]

    yield begin
    for one in terminals:
        one.close()


SCREEN, NO_SCREEN = "\x1b[?1049h", "\x1b[?1049l"


def test_watch_shows_a_screen_until_it_has_gone(stub, terminal):
    stub.say("/status", (200, a_status()), (200, a_status("draining", STOP, "jobs 7 → 3")))
    shown = terminal("status", "-w", "--socket", stub.path)
    shown.until(SCREEN, "jobs 7 → 3", "24 s left of 25 s", "└ sh")
    stub.end()
    assert shown.wait() == 0
    rest = shown.seen.rpartition(NO_SCREEN)[2].strip().splitlines()
    assert (
        len(rest) == 1
        and "has gone 1.2 s after a stop requested by SIGTERM from pid 4; last seen: jobs 7 → 3"
        in rest[0]
    )


@pytest.mark.parametrize(
    ("how", "ends_with"), [("\x03", 0), (signal.SIGTERM, 143), (signal.SIGHUP, 129)]
)
def test_watch_gives_the_terminal_back_when_it_is_ended(stub, terminal, how, ends_with):
    shown = terminal("status", "--watch", "--socket", stub.path)
    shown.until(SCREEN, "node server.js")
    if isinstance(how, str):
        os.write(shown.master, how.encode())
    else:
        shown.process.send_signal(how)
    shown.until(NO_SCREEN, "\x1b[?25h")
    assert termios.tcgetattr(shown.slave) == shown.before
    assert shown.wait() == ends_with and "Traceback" not in shown.seen


def test_watch_says_that_there_is_no_answer(stub, terminal):
    stub.say("/status", (200, a_status()), (500, {"error": "a bug"}))
    terminal("status", "--watch", "--socket", stub.path).until("no answer for ", "node server.js")


@pytest.mark.parametrize("term", ["dumb", None])
def test_watch_where_nothing_can_be_written_over_is_a_line_for_each_change(stub, terminal, term):
    same = [(200, a_status("draining", STOP, "jobs 3")) for _ in range(3)]
    stub.say("/status", *same, (200, a_status("stopping", STOP, "jobs 0")), None)
    if term:
        shown = terminal("status", "--watch", "--socket", stub.path, term=term)
        assert shown.wait() == 0
        lines = shown.seen.splitlines()
    else:
        lines = ask(stub, "status", "--watch").out.splitlines()
    asked = "; stop requested by SIGTERM from pid 4"
    assert [line.partition(" ")[2] for line in lines[:2]] == [
        f"draining, not ready: jobs 3{asked}",
        f"stopping, not ready: jobs 0{asked}",
    ]
    assert len(lines) == 3 and "has gone" in lines[2]


def test_the_view_fits_and_leaves_processes_out_first():
    members = [
        {"pid": pid, "parent": pid - 1, "name": f"worker {pid}", "state": "S"}
        for pid in range(7, 60)
    ]
    said = a_status("draining", STOP, "jobs 7 → 3" + " and more" * 30, processes=members)
    console = Console(width=WIDTH, height=HEIGHT, record=True, file=open(os.devnull, "w"))  # noqa: SIM115
    with console.file:
        console.print(status_watch.page(said, {}, WIDTH, HEIGHT))
        lines = console.export_text().splitlines()
    assert len(lines) == HEIGHT and max(map(len, lines)) <= WIDTH
    assert "24 s left of 25 s" in lines[1] and "worker 7" in "".join(lines)
    shown = sum("worker" in line for line in lines)
    assert (
        lines[-1].strip()
        == f"... and {len(members) - shown} more processes: gracewrap status lists all"
    )


def test_the_view_of_several_leaves_out_those_that_are_well_first():
    well = [one_of(f"program-{i}") for i in range(50)]
    said = several(
        "stopping", *well[:25], one_of("stuck", "stopping", left_seconds=3.2), *well[25:], stop=STOP
    )
    lines = status_watch.page(said, {}, WIDTH, HEIGHT).plain.split("\n")
    assert len(lines) == HEIGHT and max(map(len, lines)) <= WIDTH
    shown = sum(" program-" in line for line in lines)
    assert any("stuck" in line for line in lines) and shown > 10
    assert lines[-1].strip() == f"... and {50 - shown} more programs: gracewrap status lists all"
    assert "24 s left of 25 s" in lines[1]


def test_a_restart_on_a_terminal_writes_over_its_line(stub, terminal):
    answer = {
        "message": "restarting web",
        "request": 1,
        "named": ["web"],
        "programs": ["web"],
        "until": "restarted",
    }
    stub.say("/restart", (202, answer))
    part = {
        "programs": ["web"],
        "again": True,
        "elapsed_seconds": 1.2,
        "left_seconds": 18.8,
        "budget_seconds": 20,
    }
    stopping = one_of("web", "stopping", waiting_for="requests 7 → 3", left_seconds=8.8)
    stub.say(
        "/status",
        (200, several("restarting", stopping, one_of("db"), part=part, **request("begun"))),
    )
    shown = terminal("restart", "web", "--socket", stub.path)
    shown.until("\r\x1b[Kweb: requests 7 → 3, 0 s gone, 9 s until SIGKILL")
    stub.say(
        "/status",
        (200, several("running", one_of("web", restarts=1), one_of("db"), **request("over"))),
    )
    assert shown.wait() == 0
    assert shown.seen.rpartition("\x1b[K")[2].startswith("restarted web in ")
    assert stub.asked[0] == "POST /restart?program=web"


def test_drain_on_a_terminal_writes_over_its_line(stub, terminal):
    stub.say("/drain", ACCEPTED)
    stub.say("/status", (200, a_status("draining", waits="jobs 7 → 3" + " and more" * 30)))
    shown = terminal("drain", "--wait", "--socket", stub.path)
    shown.until("\r\x1b[Kjobs 7 → 3 and")
    assert max(len(part.removeprefix("\x1b[K")) for part in shown.seen.split("\r")) < WIDTH
    stub.say("/status", (200, a_status("drained")))
    assert shown.wait() == 0
    assert shown.seen.rpartition("\x1b[K")[2].startswith("drained after ")


def test_ctrl_c_ends_the_waiting(stub, terminal):
    stub.say("/drain", ACCEPTED)
    stub.say("/status", (200, a_status("draining", waits="jobs 7")))
    shown = terminal("drain", "--wait", "--socket", stub.path)
    shown.until("jobs 7")
    os.write(shown.master, b"\x03")
    assert shown.wait() == 130 and shown.seen.endswith("\n") and "Traceback" not in shown.seen


def test_watch_counts_down_to_each_sigkill(stub, terminal):
    part = {
        "programs": ["web", "db"],
        "again": True,
        "elapsed_seconds": 1.2,
        "left_seconds": 18.8,
        "budget_seconds": 20,
    }
    web = one_of("web", "stopping", left_seconds=3.2)
    db = one_of("db", why="waiting for web: stopping", waits_for=["web"], left_seconds=18.8)
    stub.say(
        "/status",
        (
            200,
            several(
                "restarting", web, db, one_of("migrate", "completed", "exited with 0"), part=part
            ),
        ),
    )
    shown = terminal("status", "--watch", "--socket", stub.path)
    shown.until(
        SCREEN,
        "1.2 s of 20 s gone, 19 s until the last SIGKILL",
        "19 s left of 20 s",
        "3 min 12 s  3 s",
        "completed",
    )


def test_who_waits_for_several_is_told_of_the_next_sigkill():
    waited = part.Waited(
        {"request": 1, "named": ["db"], "programs": ["web", "cache", "db"], "until": "restarted"},
        ["db"],
    )
    web, cache = (
        one_of("web", "stopping", left_seconds=8.2),
        one_of("cache", "draining", left_seconds=3.2),
    )
    db = one_of("db", waits_for=["web"], left_seconds=1)  # its turn has not come
    assert (
        waited.left(
            several("restarting", web, cache, db, one_of("x", "stopping", left_seconds=0.5))
        )
        == "3 s until cache's SIGKILL"
    )
    assert waited.left(several("running", one_of("web"), one_of("cache"), one_of("db"))) == ""


# --- real gracewraps -----------------------------------------------------------------------------


@pytest.fixture
def real(talk: Callable[..., object], tmp_path: Path) -> Callable[..., object]:
    """Start a real gracewrap around a talker, with its control socket where nothing else is."""

    def begin(*options: object) -> object:
        run = talk(
            options=("--control-socket", tmp_path / "real.sock", *options), command=INSTALLED
        )
        run.child = run.ready()
        return run

    begin.place = ("--socket", tmp_path / "real.sock")  # type: ignore[attr-defined]
    return begin


def settled(*words: object) -> Done:
    """Ask until the control socket is there: it is made after the command has been started."""
    until = time.monotonic() + BOUND
    while time.monotonic() < until:
        done = Done(*words)
        if (
            "no such file" not in done.out + done.err
            and "nobody listens" not in done.out + done.err
        ):
            return done
    raise TimeoutError(done.out + done.err)


def test_a_real_one_is_healthy_until_it_drains_and_goes_when_it_is_asked_to(real, tmp_path):
    run = real("--drain-file", tmp_path / "drained")
    assert settled("health", *real.place).out == "ready\n"
    shown = Done("status", *real.place, program=INSTALLED)
    assert (
        shown.status == 0
        and f"(pid {run.pid}): running, ready" in shown.out
        and f"{run.child}" in shown.out
    )
    assert "MiB" in shown.out and "drain probe file: " in shown.out
    assert Done("drain", *real.place).status == 0
    done = Done("health", *real.place)
    assert (done.status, done.out) == (1, "not ready: draining\n") and Done(
        "health", "--live", *real.place
    ).out == "alive\n"
    waiting = subprocess.Popen(
        [*GRACEWRAP, "drain", "--wait", *map(str, real.place)],
        stdout=subprocess.PIPE,
        env=environment(),
    )
    with waiting:
        lines = Lines(waiting.stdout.fileno())
        lines.until("drain")
        (tmp_path / "drained").touch()
        lines.until("drained after ")
        assert waiting.wait(BOUND) == 0
    assert (
        Done("undrain", *real.place).status == 0 and settled("health", *real.place).out == "ready\n"
    )
    assert Done("stop", "--wait", *real.place).status == 0
    run.wait()
    assert Done("health", *real.place).status == 1


def test_a_real_one_is_found_by_its_pid_alone(talk):
    run = talk(command=INSTALLED)
    run.ready()
    until = time.monotonic() + BOUND
    while (
        done := Done("status", "--json", "--pid", run.pid)
    ).status == 1 and time.monotonic() < until:
        pass
    assert json.loads(done.out)["pid"] == run.pid
