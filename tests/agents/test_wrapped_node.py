"""gracewrap with its agent in a real Node.js: what is lost without it is finished with it."""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
import socket
import subprocess
import urllib.request
from concurrent.futures import Future, ThreadPoolExecutor

import pytest

from processes import BOUND, INSTALLED, MAIN, TELLS_IMPORTS, descendants, require, running

pytestmark = pytest.mark.node

SERVER = """
const server = require('http').createServer((request, response) => {
  console.log('request')
  setTimeout(() => response.end('done'), Number(request.url.slice(1)))
})
server.listen(0, '127.0.0.1', () => console.log('port ' + server.address().port))
"""
OWN = "process.on('SIGTERM', () => %s)"


def get(url: str) -> bytes:
    with urllib.request.urlopen(url, timeout=BOUND) as answer:
        body: bytes = answer.read()
        return body


@pytest.fixture
def pool():
    require(shutil.which("node"), "node")
    with ThreadPoolExecutor() as made:
        yield made


def stopped(run, pool, path: str) -> Future[bytes]:
    """Return the request that is in flight when the command is stopped."""
    port = run.line().rpartition(" ")[2]
    request = pool.submit(get, f"http://127.0.0.1:{port}{path}")
    assert run.line() == "request"
    run.send(signal.SIGTERM)
    return request


@pytest.mark.parametrize(
    "words",
    [["--agent", "node"], ["--agent", "auto"], ["--agent", "off"], ["--preset", "node"],
     ["--preset", "bullmq"]],
)  # fmt: skip
def test_a_request_in_flight_is_finished_with_the_agent_and_lost_without(words, pool):
    with running(*words, "--", "node", "-e", SERVER, command=INSTALLED) as run:
        request = stopped(run, pool, "/1000")
        if "off" in words:
            assert request.exception(BOUND)
            assert run.wait() == 143
        else:
            assert request.result(BOUND) == b"done"
            assert run.wait() == 0
            summary = run.log_line("summary")
            assert summary["requests_finished"] == 1
            assert "; 1 request finished; " in str(summary["message"])


@pytest.mark.parametrize("preset", ["", "node"])
def test_behind_a_shell_too_it_is_told_what_lost_a_request_and_the_cure(preset, pool, tmp_path):
    """The shell dies of the signal, and leaves the server behind."""
    (tmp_path / "server.js").write_text(SERVER)
    options = [f"--preset={preset}"] if preset else []
    words = (*options, "--", "sh", "-c", f"node {tmp_path}/server.js; true")
    with running(*words, command=INSTALLED) as run:
        request = stopped(run, pool, "/1000")
        assert run.wait() == 143
        assert request.result(BOUND) == b"done" if preset else request.exception(BOUND)
        summary = run.log_line("summary")
    assert summary["outcome"] == ("graceful" if preset else "ended_by_signal")
    assert summary["level"] == ("info" if preset else "warning")
    assert ("at once" in summary["message"]) == (not preset)
    assert ("--preset node" in summary["message"]) == (not preset)


BUSY_LOOP = """
require('http').createServer((request, response) => {
  console.log('request')
  for (;;) {}
}).listen(0, '127.0.0.1', function () { console.log('port ' + this.address().port) })
"""


@pytest.mark.parametrize("handler", [False, True])
def test_an_event_loop_that_does_not_turn_is_named(handler, pool):
    script = (OWN % "0" if handler else "") + BUSY_LOOP
    options = ("--preset", "node", "--shutdown-timeout", "4s", "--log-format", "text")
    with running(*options, "--", "node", "-e", script, command=INSTALLED) as run:
        request = stopped(run, pool, "/")
        assert run.wait() == (137 if handler else 143)
        assert request.exception(BOUND)
        *log, summary = run.err.rest()
    waiting = [line for line in log if "until the stop signal" in line]
    assert waiting and all("event loop" in line for line in waiting)
    assert "event loop" in summary and "handler" not in summary
    assert not any("serving" in line for line in log)


def test_a_handler_that_the_agent_knows_of_is_not_said_to_be_missing(tmp_path):
    """As that of NestJS, which ends the process by the signal when all is closed."""
    ends = "process.once('SIGTERM', () => process.kill(process.pid, 'SIGTERM'));"
    ready = "console.log('ready ' + process.pid); setInterval(() => 0, 1e6);"
    with running("--agent", "node", "--", "node", "-e", ends + ready, command=INSTALLED) as run:
        run.ready()
        run.send(signal.SIGTERM)
        assert run.wait() == 143
        summary = run.log_line("summary")
    assert summary["level"] == "info" and "handler" not in summary["message"]


def test_a_preset_in_use_is_not_advised_behind_a_shell_either(pool, tmp_path):
    (tmp_path / "server.js").write_text(SERVER)
    options = ("--preset", "node", "--agent", "off")
    shell = ("sh", "-c", f"node {tmp_path}/server.js; true")
    with running(*options, "--", *shell, command=INSTALLED) as run:
        request = stopped(run, pool, "/60000")
        assert request.exception(BOUND)
        assert run.wait() == 143
        message = run.log_line("summary")["message"]
    assert "at once" in message and "--preset" not in message


@pytest.mark.parametrize("cut", [True, False])
def test_agents_count_what_is_left_when_a_shell_in_front_has_gone(cut, pool, tmp_path):
    """A server that is killed: with a request in flight, or long after it was answered."""
    (tmp_path / "server.js").write_text(SERVER + OWN % "0")
    options = ("--agent", "node", "--shutdown-timeout", "3s", "--log-format", "text")
    shell = ("sh", "-c", f"node {tmp_path}/server.js; true")
    report = tmp_path / "report.json"
    with running(*options, "--report", report, "--", *shell, command=INSTALLED) as run:
        request = stopped(run, pool, "/60000" if cut else "/700")
        assert run.wait() == 143
        assert request.exception(BOUND) if cut else request.result(BOUND) == b"done"
    found = json.loads(report.read_text())
    waited = [one for one in found["timeline"] if one["event"] == "waiting"]
    assert waited[-1]["in_flight"] == int(cut)
    assert found["killed"] and found["interrupted"] == int(cut)


def test_a_request_behind_npm_is_finished_with_the_preset(pool, tmp_path, monkeypatch):
    require(shutil.which("npm"), "npm")
    monkeypatch.setenv("npm_config_loglevel", "silent")
    (tmp_path / "server.js").write_text(SERVER)
    (tmp_path / "package.json").write_text('{"scripts": {"start": "node server.js"}}')
    words = ("--preset", "npm", "--working-dir", tmp_path, "--", "npm", "start")
    with running(*words, command=INSTALLED) as run:
        request = stopped(run, pool, "/1000")
        assert request.result(BOUND) == b"done"
        assert run.wait() == 0
        assert run.log_line("summary")["outcome"] == "graceful"


def test_the_report_says_what_was_cut(pool, tmp_path):
    options = ("--agent", "node", "--shutdown-timeout", "2s", "--report", tmp_path / "report.json")
    with running(*options, "--", "node", "-e", SERVER, command=INSTALLED) as run:
        assert stopped(run, pool, "/60000").exception(BOUND)
        run.wait()
        log = run.log()
    told = next(line for line in log if line["event"] == "agents_told")
    assert (told["own"], told["agent"]) == (0, 1)
    report = json.loads((tmp_path / "report.json").read_text())
    assert report["interrupted"] == 1 and report["killed"]
    assert report["drain"][0]["counts"]["requests"] == 1


AT_ONCE = """
require('http').createServer((request, response) => {
  console.log('request')
  process.on('SIGTERM', () => { response.end('done'); process.exit(0) })
}).listen(0, '127.0.0.1', function () { console.log('port ' + this.address().port) })
"""


@pytest.mark.parametrize(
    ("script", "cut"),
    [
        (SERVER + OWN % "process.exit(0)", 1),
        (SERVER + OWN % "server.close(() => process.exit(0))", None),
        (AT_ONCE, None),  # the kernel has the answer
    ],
)
def test_a_handler_that_exits_with_a_request_in_flight_is_told(pool, tmp_path, script, cut):
    options = ("--agent", "node", "--report", tmp_path / "report.json")
    with running(*options, "--", "node", "-e", script, command=INSTALLED) as run:
        request = stopped(run, pool, "/300")
        assert run.wait() == 0
        log = run.log()
    assert request.exception(BOUND) if cut else request.result(BOUND) == b"done"
    told = [line["requests"] for line in log if line["event"] == "exited_with_work"]
    report = json.loads((tmp_path / "report.json").read_text())
    assert (told, report["interrupted"]) == ([1] if cut else [], cut)
    assert report["outcome"] == ("interrupted" if cut else "graceful")
    assert ("--drain-when before-signal" in report["summary"]) == bool(cut)


@pytest.mark.parametrize("more", [", 'SIGTERM'", ""])
def test_a_handler_that_ends_by_the_signal_with_a_request_in_flight_is_told(pool, tmp_path, more):
    """As those of NestJS and of many a library end; Node.js says nothing of its exit then."""
    script = SERVER + OWN.replace(".on", ".once") % f"process.kill(process.pid{more})"
    options = ("--agent", "node", "--report", tmp_path / "report.json")
    with running(*options, "--", "node", "-e", script, command=INSTALLED) as run:
        request = stopped(run, pool, "/300")
        assert run.wait() == 143
        log = run.log()
    assert request.exception(BOUND)
    assert [line["requests"] for line in log if line["event"] == "exited_with_work"] == [1]
    report = json.loads((tmp_path / "report.json").read_text())
    assert (report["interrupted"], report["outcome"]) == (1, "interrupted")
    assert "--drain-when before-signal" in report["summary"]
    assert "nothing was lost" not in report["summary"]


@pytest.mark.parametrize("caught", ["", "process.on('uncaughtException', () => process.exit(1));"])
@pytest.mark.parametrize(
    ("how", "origin"),
    [("throw %s", "uncaughtException"), ("Promise.reject(%s)", "unhandledRejection")],
)
def test_an_exception_in_the_middle_is_told_and_no_handler_is_blamed(
    pool, tmp_path, caught, how, origin
):
    fails = how % "new Error('in the middle')"
    script = f"{SERVER}; {caught} process.on('SIGUSR2', () => {{ {fails} }})"
    options = ("--agent", "node", "--report", tmp_path / "report.json")
    with running(*options, "--", "node", "-e", script, command=INSTALLED) as run:
        request = stopped(run, pool, "/60000")
        run.log_line("stop_signal")
        (child,) = descendants(run.process.pid)
        os.kill(child, signal.SIGUSR2)
        told = run.log_line("exited_with_work")
        assert request.exception(BOUND)
        assert run.wait() == 1
    assert (told["requests"], told["exception"]) == (1, origin)
    report = json.loads((tmp_path / "report.json").read_text())
    assert (report["interrupted"], report["outcome"]) == (1, "interrupted")
    assert f"1 in flight was cut ({origin} ended the process)" in report["summary"]
    assert "before-signal" not in report["summary"]


def test_an_exception_that_the_application_survives_is_not_what_ended_it(pool):
    script = SERVER + "process.on('uncaughtException', () => {});" + OWN % "process.exit(0)"
    script += "; process.on('SIGTERM', () => { throw new Error('ignored') })"
    script = script.replace("process.exit(0)", "setTimeout(() => process.exit(0), 100)")
    with running("--agent", "node", "--", "node", "-e", script, command=INSTALLED) as run:
        request = stopped(run, pool, "/60000")
        assert request.exception(BOUND)
        assert run.wait() == 0
        message = run.log_line("summary")["message"]
    assert "before-signal" in message and "Exception" not in message


# As nodemon: it kills its child in a stop, by a signal that this has no handler for.
KILLS = """
const [script, after] = process.argv.slice(1)
const child = require('child_process').spawn('node', ['-e', script], { stdio: 'inherit' })
process.on('SIGTERM', () => setTimeout(() => child.kill('SIGUSR2'), Number(after)))
child.on('exit', () => process.exit(143))
"""
PROBABLY = "and was probably cut"


@pytest.mark.parametrize(
    ("path", "after", "cut"), [("/60000", "50", 1), ("/0", "50", None), ("/500", "1500", None)]
)
def test_what_is_in_flight_in_a_process_that_others_kill_is_told_if_anything_is(
    pool, tmp_path, path, after, cut
):
    """It has no last word then: its agent has said what was in flight when it heard of the stop."""
    options = ("--agent", "node", "--drain-interval", "12s", "--report", tmp_path / "report.json")
    script = SERVER + OWN % "0"
    with running(*options, "--", "node", "-e", KILLS, script, after, command=INSTALLED) as run:
        if path == "/0":
            port = run.line().rpartition(" ")[2]
            assert get(f"http://127.0.0.1:{port}/0") == b"done"
            run.send(signal.SIGTERM)
        else:
            request = stopped(run, pool, path)
            assert request.exception(BOUND) if cut else request.result(BOUND) == b"done"
        assert run.wait() == 143
        told = [line for line in run.log() if line["event"] == "ended_with_work"]
    assert [(line["requests"], line["jobs"]) for line in told] == ([(1, 0)] if cut else [])
    report = json.loads((tmp_path / "report.json").read_text())
    assert (report["interrupted"], report["outcome"]) == (cut, "interrupted" if cut else "graceful")
    assert (PROBABLY in report["summary"]) == bool(cut)
    assert ("nothing was lost" in report["summary"]) == (not cut)
    assert "before-signal" not in report["summary"]
    events = [one["event"] for one in report["timeline"]]
    assert ("ended_with_work" in events) == bool(cut)


@pytest.mark.parametrize("when", ["at once", "after work"])
def test_a_process_that_kills_its_whole_group_has_a_last_word(pool, tmp_path, when):
    ends = "process.kill(-process.pid, 'SIGKILL')"
    script = SERVER + OWN % (ends if when == "at once" else f"server.close(() => {ends})")
    options = ("--agent", "node", "--drain-interval", "12s", "--report", tmp_path / "report.json")
    with running(*options, "--", "node", "-e", script, command=INSTALLED) as run:
        request = stopped(run, pool, "/300")
        assert run.wait() == 137
        assert request.exception(BOUND) if when == "at once" else request.result(BOUND) == b"done"
    report = json.loads((tmp_path / "report.json").read_text())
    assert report["interrupted"] == (1 if when == "at once" else None)
    assert PROBABLY not in report["summary"]


def test_a_server_that_somebody_kills_in_a_stop_is_told_with_what_was_in_flight(pool):
    with running("--agent", "node", "--", "node", "-e", SERVER, command=INSTALLED) as run:
        request = stopped(run, pool, "/60000")
        run.log_line("stop_signal")
        (child,) = descendants(run.process.pid)
        os.kill(child, signal.SIGKILL)
        assert request.exception(BOUND)
        assert run.wait() == 137
        summary = run.log_line("summary")
    assert (summary["outcome"], summary["interrupted"]) == ("ended_by_other_signal", 1)
    assert summary["level"] == "warning" and PROBABLY in summary["message"]


def test_our_own_sigkill_is_told_as_that(pool):
    options = ("--agent", "node", "--shutdown-timeout", "2s")
    script = SERVER + OWN % "0"
    with running(*options, "--", "node", "-e", script, command=INSTALLED) as run:
        assert stopped(run, pool, "/60000").exception(BOUND)
        assert run.wait() == 137
        log = run.log()
    assert not any(line["event"] == "ended_with_work" for line in log)
    assert log[-1]["interrupted"] == 1 and PROBABLY not in log[-1]["message"]


def test_the_cure_for_a_handler_that_exits_with_a_request_in_flight(pool):
    options = ("--preset", "node", "--drain-when", "before-signal")
    script = SERVER + OWN % "process.exit(0)"
    with running(*options, "--", "node", "-e", script, command=INSTALLED) as run:
        request = stopped(run, pool, "/300")
        assert run.wait() == 0
        assert request.result(BOUND) == b"done"
        assert run.log_line("summary")["outcome"] == "graceful"


# An event stream that always has something to say, from the beginning.
EVENTS = """
const server = require('http').createServer((request, response) => {
  response.writeHead(200, { 'Content-Type': 'text/event-stream' })
  const say = () => response.write('data: 1\\n\\n')
  say()
  const timer = setInterval(say, 20)
  response.on('close', () => clearInterval(timer))
  console.log('request')
})
server.listen(0, '127.0.0.1', () => console.log('port ' + server.address().port))
"""


def test_streams_are_counted_and_ended_within_the_time_that_is_set(pool):
    """One after the other, evenly: the last one of three when two thirds of it are over."""
    options = ("--agent", "node", "--drain-streams", "3s", "--shutdown-timeout", "20s")
    with running(*options, "--", "node", "-e", EVENTS, command=INSTALLED) as run:
        port = run.line().rpartition(" ")[2]
        streams = [pool.submit(get, f"http://127.0.0.1:{port}/events") for _ in range(3)]
        assert [run.line() for _ in streams] == ["request"] * 3
        run.send(signal.SIGTERM)
        for stream in streams:
            assert stream.result(BOUND).endswith(b"data: 1\n\n")
        assert run.wait() == 0
        log = run.log()
    assert any(re.search("streams open: [23]", line["message"]) for line in log), log
    (summary,) = (line for line in log if line["event"] == "summary")
    assert 2 < summary["used_seconds"] < 9  # without the setting it would be half of the time


# As a pool of threads (Piscina) has them: while there is nothing to do they wait, and hear nothing.
DEAF = (
    SERVER
    + """
const { Worker } = require('worker_threads')
const wait = 'setTimeout(() => Atomics.wait(new Int32Array(new SharedArrayBuffer(4)), 0, 0), 300)'
new Worker('console.log("thread");' + wait, { eval: true })
"""
)


def test_a_thread_that_does_not_listen_holds_nothing_up(pool):
    options = ("--agent", "node", "--shutdown-timeout", "20s")
    with running(*options, "--", "node", "-e", DEAF, command=INSTALLED) as run:
        lines = [run.line(), run.line()]
        port = next(line for line in lines if line.startswith("port")).rpartition(" ")[2]
        assert get(f"http://127.0.0.1:{port}/500") == b"done"
        assert run.line() == "request"
        request = pool.submit(get, f"http://127.0.0.1:{port}/500")
        assert run.line() == "request"
        run.send(signal.SIGTERM)
        assert request.result(BOUND) == b"done"
        assert run.wait() == 0
        log = run.log()
    assert any(line["event"] == "in_flight" for line in log), "it is counted all the same"
    (summary,) = (line for line in log if line["event"] == "summary")
    assert summary["used_seconds"] < 4.5, log


def test_a_command_that_is_not_node_runs_without_it():
    with running("--agent", "node", "--", "/bin/sleep", "60", command=INSTALLED) as run:
        why = run.log_line("agent_off")["why"]
        run.send(signal.SIGTERM)
        assert run.wait() == 143
    assert why == "/bin/sleep is not Node.js"


STUBBORN = """
process.on('SIGTERM', () => {})
const server = require('net').createServer().listen(0, () => console.log('listens'))
"""


def test_the_preset_ends_what_is_drained_also_if_the_agent_cannot_be_loaded(pool, tmp_path):
    words = ("--preset", "node", "--report", tmp_path / "report.json")
    shutil.copy(shutil.which("node"), tmp_path / "other")  # a name that is not Node's
    with running(*words, "--", tmp_path / "other", "-e", STUBBORN, command=INSTALLED) as run:
        assert run.line() == "listens"
        run.send(signal.SIGTERM)
        assert run.wait() == 0
        assert run.log_line("agent_off")
    report = json.loads((tmp_path / "report.json").read_text())
    assert report["outcome"] == "drained" and report["killed"]


BY_UNIX_SOCKET = SERVER.replace("listen(0, '127.0.0.1'", "listen(process.argv[1]").replace(
    "'port ' + server.address().port", "'listens'"
)


def test_a_server_on_a_unix_socket_is_drained_as_its_agent_says(pool, tmp_path):
    path = str(tmp_path / "socket")
    words = ("--preset", "node", "--drain-when", "before-signal", "--", "node")
    with running(*words, "-e", BY_UNIX_SOCKET, path, command=INSTALLED) as run:
        assert run.line() == "listens"
        with socket.socket(socket.AF_UNIX) as client:
            client.settimeout(BOUND)
            client.connect(path)
            client.sendall(b"GET /700 HTTP/1.1\r\nHost: x\r\n\r\n")
            assert run.line() == "request"
            run.send(signal.SIGTERM)
            received = b""
            while data := client.recv(4096):
                received += data
        assert received.endswith(b"done")
        assert run.wait() == 0
        summary = run.log_line("summary")
    assert 0.3 < summary["drained_after_seconds"] < summary["used_seconds"] < 10


def test_the_preset_does_not_kill_what_the_agent_is_about_to_end(pool):
    """Drained before the signal; after it the agent needs longer than the linger of the preset."""
    words = ("--preset", "node", "--drain-when", "before-signal")
    with running(*words, "--", "node", "-e", SERVER, command=INSTALLED) as run:
        assert stopped(run, pool, "/300").result(BOUND) == b"done"
        assert run.wait() == 0
        log = run.log()
    (summary,) = (line for line in log if line["event"] == "summary")
    assert summary["drained_after_seconds"] is not None and summary["killed"] == []


def test_where_the_agent_could_not_be_loaded_it_is_told_what_helps(pool, tmp_path):
    shutil.copy(shutil.which("node"), tmp_path / "other")  # as a single executable application
    words = ("--preset", "node", "--", tmp_path / "other", "-e", SERVER)
    with running(*words, command=INSTALLED) as run:
        request = stopped(run, pool, "/60000")
        assert request.exception(BOUND)
        assert run.wait() == 143
        message = run.log_line("summary")["message"]
    assert "--preset any-http-server lets it finish" in message and "agent" not in message


def test_what_the_agent_does_not_finish_is_not_said_to_need_the_preset():
    script = "setInterval(() => {}, 1000); console.log('runs')"
    with running("--preset", "node", "--", "node", "-e", script, command=INSTALLED) as run:
        assert run.line() == "runs"
        run.send(signal.SIGTERM)
        assert run.wait() == 143
        message = run.log_line("summary")["message"]
    assert "handle the signal in it" in message and "--preset" not in message
    assert "timers" in message


@pytest.mark.parametrize("option", ["--env-file={}", "--env-file {}"])
def test_options_in_a_file_that_are_not_heard_are_named(option: str, pool, tmp_path):
    """Node.js reads them there only if the environment has none."""
    (tmp_path / "env").write_text("A=1\nNODE_OPTIONS=--title=other\n")
    words = option.format(tmp_path / "env").split()
    script = "setInterval(() => {}, 1000); console.log(process.env.A)"
    with running("--agent", "node", "--", "node", *words, "-e", script, command=INSTALLED) as run:
        assert run.line() == "1"
        run.send(signal.SIGTERM)
        run.wait()
        assert f"NODE_OPTIONS in {tmp_path}/env" in run.log_line("agent_trouble")["why"]


def test_a_worker_without_a_port_is_no_mistake_of_the_preset_and_has_its_time():
    handler = "process.on('SIGTERM', () => setTimeout(() => process.exit(0), 1500))"
    script = f"setInterval(() => {{}}, 1000); {handler}; console.log('runs')"
    with running("--preset", "node", "--", "node", "-e", script, command=INSTALLED) as run:
        assert run.line() == "runs"
        run.send(signal.SIGTERM)
        assert run.wait() == 0
        events = [line["event"] for line in run.log()]
    assert "agents_told" in events and "probe_invalid" not in events


# As npm with a shell between, or npx: it ends by its handler, and has passed nothing on.
PASSES_NOTHING_ON = """
process.on('SIGTERM', () => process.exit(0))
require('child_process').spawn('node', ['-e', process.argv[1]], { stdio: 'inherit' })
"""
PASSES_ON = PASSES_NOTHING_ON.replace("process.exit(0)", "child.kill()").replace(
    "require('child_process')", "const child = require('child_process')"
)
CALLED = """
process.on('SIGTERM', () => { console.log('called'); setTimeout(() => process.exit(0), %d) })
console.log('runs')
setInterval(() => {}, 100000)
"""


IN_A_THREAD = """
new (require('worker_threads').Worker)('setInterval(() => {}, 1000)', { eval: true })
"""


@pytest.mark.parametrize("script", [CALLED % 0, CALLED.split("\n", 2)[2]])  # or without a handler
def test_what_the_agent_does_not_finish_is_told_soon_if_its_parent_is_gone(script, pool):
    options = ("--agent", "node", "--shutdown-timeout", "40s", "--")
    words = ("node", "-e", PASSES_NOTHING_ON, script)
    with running(*options, *words, command=INSTALLED) as run:
        assert run.line() == "runs"
        run.send(signal.SIGTERM)
        assert run.wait() == 0
        summary = run.log_line("summary")
    assert summary["used_seconds"] < 10  # half of the time is how long one is waited for otherwise


@pytest.mark.parametrize("more", ["", IN_A_THREAD])
def test_an_own_handler_that_was_called_is_not_called_again_if_its_parent_is_gone(more, pool):
    script = PASSES_ON + "child.on('spawn', () => process.on('SIGTERM', () => process.exit(0)))"
    words = ("--agent", "node", "--", "node", "-e", script, more + CALLED % 1500)
    with running(*words, command=INSTALLED) as run:
        assert run.line() == "runs"
        run.send(signal.SIGTERM)
        assert run.wait() == 0
        called = run.out.rest()
    assert called == ["called"]


# What a handler still does for a second and a half after the last job.
LATER = """
process.on('SIGTERM', () => {
  const over = Date.now() + 1500;
  %s
  setTimeout(() => { console.log('done'); process.exit(0) }, 1500)
})
setInterval(() => {}, 1000)
console.log('runs')
"""
LATER_WORK = {
    "bytes": "const socket = require('net').connect(%d, '127.0.0.1');"
    "setInterval(() => socket.write('some'), 50)",
    "threads": "(function more () { if (Date.now() < over) {"
    "require('crypto').pbkdf2('a', 'b', 20000, 64, 'sha512', more) } })()",
    "child": "require('child_process').spawn('timeout', "
    "['1.5', 'sh', '-c', 'while :; do :; done'])",
    "answer": "require('http').get({ host: '127.0.0.1', port: %d })",
    "in step": "setTimeout(() => require('child_process').execSync('sleep 1.5'), 300)",
    "nothing": "",
}


@pytest.mark.parametrize("work", LATER_WORK)
def test_what_a_handler_does_after_the_last_job_is_not_cut(work, pool):
    with socket.create_server(("127.0.0.1", 0)) as sink:
        port = sink.getsockname()[1]
        script = LATER % LATER_WORK[work].replace("%d", str(port))
        words = ("--preset", "bullmq", "--drain-linger", "500ms")
        with running(*words, "--", "node", "-e", script, command=INSTALLED) as run:
            assert run.line() == "runs"
            run.send(signal.SIGTERM)
            assert run.wait() == 0
            done, log = run.out.rest(), run.log()
    (summary,) = (line for line in log if line["event"] == "summary")
    ended = work == "nothing"
    assert summary["outcome"] == ("drained" if ended else "graceful")
    assert bool(summary["killed"]) == ended
    assert ("done" in done) != ended


def test_check_shows_the_agent_of_a_preset():
    words = [*INSTALLED, "check", "--preset", "node", "--", "node", "server.js"]
    done = subprocess.run(words, capture_output=True, text=True, timeout=BOUND)
    assert done.returncode == 0 and "agent" in done.stdout + done.stderr


def test_no_socket_is_left_behind(pool, tmp_path):
    env = os.environ | {"XDG_RUNTIME_DIR": str(tmp_path)}
    words = ("--agent", "node", "--", "node", "-p", "process.env.GRACEWRAP_AGENT_SOCKET")
    with running(*words, command=INSTALLED, env=env) as run:
        path = run.line()
        assert run.wait() == 0
    assert "gracewrap-agent-" in path and not os.path.exists(path)


def test_losing_the_package_keeps_no_node_from_starting(tmp_path):
    """A Node.js that is to load a file that is not there does not start: neither what the command
    starts, nor the command once more."""
    require(shutil.which("node"), "node")
    package = tmp_path / "gracewrap"
    shutil.copytree(MAIN.parent, package)
    script = """
      process.on('SIGUSR2', () => {
        const words = ['-e', "console.log('child')"]
        require('child_process').spawn(process.execPath, words, { stdio: 'inherit' })
          .on('exit', (status) => console.log('ended ' + status))
      })
      require('http').createServer().listen(0, '127.0.0.1', () => console.log('ready'))
    """
    command = [*TELLS_IMPORTS[:-1], str(package / "__main__.py")]
    with running("--agent", "node", "--", "node", "-e", script, command=command) as run:
        assert run.line() == "ready"
        assert run.err is not None
        run.err.until(" gracewrap.linux.between_fork_and_exec")  # all that it may need is loaded
        package.rename(tmp_path / "gone")
        run.send(signal.SIGUSR2)
        assert run.line() == "child"
        assert run.line() == "ended 0"
        run.send(signal.SIGTERM)
        assert run.wait() == 0


BUSY_WHEN_TOLD = """
const fs = require('fs')
let told = 0
process.on('SIGTERM', () => {
  console.log('told ' + ++told)
  setTimeout(() => process.exit(0), 1500)
})
fs.createReadStream('go').once('data', () => {
  fs.writeFileSync('is_busy', 'x')
  for (const until = Date.now() + 1500; Date.now() < until;) {}
})
setInterval(() => {}, 1e6)
console.log('up')
"""
PASSES_ON_AND_EXITS = """
mkfifo go is_busy
node worker.js &
trap 'echo >go; read x <is_busy; kill -TERM $!; exit 0' TERM
while :; do wait; done
"""


def test_a_busy_process_whose_starter_has_passed_the_signal_on_is_not_told_again(pool, tmp_path):
    """It had the signal while its event loop did not turn, so its agent has not heard of it."""
    (tmp_path / "worker.js").write_text(BUSY_WHEN_TOLD)
    words = ("--agent", "node", "--working-dir", tmp_path, "--", "bash", "-c", PASSES_ON_AND_EXITS)
    with running(*words, command=INSTALLED) as run:
        assert run.line() == "up"
        run.send(signal.SIGTERM)
        assert run.out.rest() == ["told 1"]
        assert run.wait() == 0
