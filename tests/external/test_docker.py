"""gracewrap in containers of a real Docker engine, in the image that our Dockerfile makes."""

from __future__ import annotations

import json
import socket
import time
import urllib.request
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from containers import ENTRYPOINT, REPORT, TALKER, Container, Terminal, build, docker, engine
from processes import require, wait_until

pytestmark = [pytest.mark.docker, pytest.mark.timeout(600)]  # the first test builds the image

# Everything that a security baseline takes away; and a place in memory for the report, for as long
# as some container has it.
RESTRICTED = (
    "--read-only",
    "--user=1000",
    "--cap-drop=ALL",
    "--security-opt=no-new-privileges",
    "--pids-limit=20",
)
MEMORY = (
    "--mount",
    'type=volume,dst=/report,volume-opt=type=tmpfs,volume-opt=device=tmpfs,"volume-opt=o=mode=1777"',
)

# An HTTP server that dies of SIGTERM.
PLAIN = """
import http.server, sys, time
class Handler(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    def do_GET(self):
        print("asked")
        time.sleep(float(self.path.partition("s=")[2]))
        self.send_response(200)
        self.send_header("Content-Length", "9")
        self.end_headers()
        self.wfile.write(b"answered\\n")
    def log_message(self, *args): pass
server = http.server.ThreadingHTTPServer(("127.0.0.1", int(sys.argv[1])), Handler)
print("listening")
server.serve_forever()
"""

# Says 42 when it runs, and `resumed` when it is continued; SIGINT ends it.  (The terminal echoes
# what is typed: hence 40 + 2.)
JOB = """
from os import *; from signal import *
signal(SIGCONT, lambda *_: write(1, b're' + b'sumed'))
write(1, b'%d' % (40 + 2))
while True: pause()
"""


@pytest.fixture(scope="module")
def image() -> Iterator[str]:
    """The image of the Dockerfile's last stage; gone when the module is through."""
    require(engine(), "a Docker engine (DOCKER_HOST)")
    names: list[str] = []
    try:
        for target in (
            "build",
            "service",
        ):  # the first one by name too, or it would stay behind without one
            names.append(build(target))
        yield names[-1]
    finally:
        for name in names:
            docker("rmi", name, check=False)


@pytest.fixture
def run(image: str) -> Iterator[Callable[..., Container]]:
    """Start containers that are removed with the test: run("sleep", 9, options=("-e",
    "GRACEWRAP_STOP_TIMEOUT=1s"))."""
    containers: list[Container] = []

    def begin(*command: object, **more: object) -> Container:
        containers.append(Container(image, *command, **more))  # type: ignore[arg-type]
        return containers[-1]

    yield begin
    for container in reversed(containers):
        container.close()


@pytest.fixture
def terminal(image: str) -> Iterator[Callable[..., Terminal]]:
    """Start containers on a terminal: terminal("bash")."""
    terminals: list[Terminal] = []

    def begin(*command: object) -> Terminal:
        terminals.append(Terminal(image, *command))
        return terminals[-1]

    yield begin
    for one in terminals:
        one.close()


def free_port() -> int:
    with socket.socket() as sock:
        sock.bind(("", 0))
        return int(sock.getsockname()[1])


def timed_get(url: str) -> tuple[str, float]:
    """Return a whole answer, and how many seconds it took."""
    start = time.monotonic()
    with urllib.request.urlopen(url, timeout=60) as answer:
        return answer.read().decode(), time.monotonic() - start


# The example service.


def test_the_service_becomes_healthy_and_is_not_root(run):
    service = run(options=("--health-interval=500ms",))
    wait_until(lambda: service.inspect(".State.Health.Status") == "healthy", "healthy")
    status = service.execute("sh", "-c", "cat /proc/1/status /proc/1/task/1/children")
    child = status.split()[-1]
    status += service.execute("cat", f"/proc/{child}/status")
    assert [line.split()[1:] for line in status.splitlines() if line.startswith("Uid:")] == [
        ["10001"] * 4
    ] * 2


def test_docker_exec_asks_how_it_is(run):
    service = run()
    service.out.until("listening")
    status = json.loads(service.execute("gracewrap", "status", "--json"))
    assert (status["pid"], status["phase"], status["ready"]) == (1, "running", True)
    assert "running, ready" in service.execute("gracewrap", "status")
    assert service.execute("gracewrap", "health") == "ready"


def test_a_server_without_shutdown_code_loses_no_request(run):
    """Another user's than root's, without capabilities, on a file system that cannot be written."""
    port = free_port()
    drain = (
        "-e",
        "GRACEWRAP_DRAIN_TCP=auto",
        "-e",
        "GRACEWRAP_DRAIN_WHEN=before-signal",
        "-e",
        "GRACEWRAP_DRAIN_QUIET=200ms",
    )
    server = run(
        "python3", "-u", "-c", PLAIN, port, options=("--network=host", *RESTRICTED, *drain)
    )
    server.out.until("listening")
    with ThreadPoolExecutor() as pool:
        asked = pool.submit(timed_get, f"http://127.0.0.1:{port}/?s=2")
        server.out.until("asked")
        assert server.stop() == 143
        assert asked.result()[0] == "answered\n"
    log = server.log()
    assert [
        line["event"] for line in log if line["event"] in ("draining", "drained", "stop_signal")
    ] == [
        "draining",
        "drained",
        "stop_signal",
    ]


def test_docker_stop_lets_a_slow_request_finish_and_takes_no_longer(run):
    port = free_port()
    service = run(options=("--network=host", "-e", f"PORT={port}"))
    service.out.until("listening")
    with ThreadPoolExecutor() as pool:
        asked = pool.submit(timed_get, f"http://127.0.0.1:{port}/slow?s=2")
        service.out.until("working on")
        assert service.stop() == 0
        answer, took = asked.result()
    assert answer.startswith("answered by pid")
    (exited,) = (line for line in service.log() if line["event"] == "leader_exited")
    assert exited["elapsed"] < took + 1
    assert service.killed_with() == ["15"]


# Exit status.


@pytest.mark.parametrize(
    ("command", "status"),
    [
        (("true",), 0),
        (("sh", "-c", "exit 7"), 7),
        (("sh", "-c", "kill -TERM $$"), 143),
        (("/etc/passwd",), 126),
        (("no-such-command",), 127),
    ],
)
def test_docker_records_the_exit_status(run, command, status):
    assert run(*command).wait() == status


def test_a_mistake_in_flags_or_environment_is_125(run):
    assert run("true", entrypoint=(*ENTRYPOINT, "--no-such-option", "--")).wait() == 125
    assert run("true", options=("-e", "GRACEWRAP_SHUTDOWN_TIMEOUT=soon")).wait() == 125


# PID 1's duties.


def test_zombies_are_reaped_while_the_command_runs(run):
    container = run(*TALKER, "orphans=500", options=REPORT)
    container.out.until("ready")
    wait_until(lambda: "Z" not in [state for _, state in container.processes()], "no zombies")
    assert container.inspect(".State.Running") == "true"
    assert container.stop() == 0
    assert container.report()["orphans_reaped"] == 500


def test_a_child_that_ignores_the_stop_is_killed_before_docker_would(run):
    container = run(*TALKER, "ignore=15", options=(*REPORT, "-e", "GRACEWRAP_SHUTDOWN_TIMEOUT=2s"))
    container.out.until("ready")
    assert container.stop() == 137
    # The last word proves that it was not gracewrap that was killed; the events, that Docker did
    # not try.
    log = {line["event"]: line for line in container.log()}
    assert 2 <= log["kill"]["elapsed"] < 4
    assert log["summary"]["outcome"] == container.report()["outcome"] == "killed"
    assert container.killed_with() == ["15"]


@pytest.mark.parametrize(("name", "number"), [("HUP", "1"), ("USR1", "10")])
def test_docker_kill_forwards_other_signals(run, name, number):
    container = run(*TALKER)
    container.out.until("ready")
    docker("kill", "-s", name, container.name)
    assert container.out.next() == number
    assert container.inspect(".State.Running") == "true"
    assert container.stop() == 0
    assert container.out.next() == "15"


def has_blocked_signals(pid: int) -> bool:
    """Return whether the init of a container, by its pid on this host, is past gracewrap's first
    statement."""
    status = dict(
        line.split(":\t", 1) for line in Path(f"/proc/{pid}/status").read_text().splitlines()
    )
    assert status["NSpid"].split()[1:] == ["1"]
    blocked = int(status["SigBlk"], 16)
    # While sigtimedwait(2) waits for signals, SigBlk does not show them; it is called when there is
    # a child.
    child = Path(f"/proc/{pid}/task/{pid}/children").read_text()
    return status["Name"].startswith("python") and bool(
        child or all(blocked >> signum - 1 & 1 for signum in (1, 2, 15))
    )


def test_docker_stop_works_from_the_first_statement_on(run):
    """Before that statement the kernel drops a signal for PID 1, whatever the program
    (pid_namespaces(7))."""
    for _ in range(10):
        container = run("sleep", 1000)
        pid = int(container.inspect(".State.Pid"))
        require(Path(f"/proc/{pid}").exists(), "an engine on this machine")
        wait_until(lambda: has_blocked_signals(pid), "signals blocked")  # noqa: B023 - called at once
        assert container.stop() == 143
        assert container.killed_with() == ["15"]


@pytest.mark.parametrize(
    "given",
    [
        (),
        ("-e", "LANG=C.UTF-8", "-e", "EMPTY=", "-e", "LINES=a\nb"),
        ("-e", "LC_CTYPE=C"),
    ],
    ids=["no locale", "some", "C"],
)
def test_the_command_sees_exactly_the_containers_environment(run, given):
    def variables(*command: str, **more: object) -> list[str]:
        container = run(*command, options=("--hostname=same", *given), **more)
        assert container.wait() == 0
        return sorted(container.out.rest())

    assert variables("env") == variables(entrypoint=("env",))


# Restricted containers, and other company.


def test_a_restricted_container_stops_gracefully_and_reports(run):
    report = ("-e", "GRACEWRAP_REPORT_FILE=/report/report.json")
    container = run(*TALKER, "exit=3", options=(*RESTRICTED, *MEMORY, *report))
    container.out.until("ready")
    holder = run("sleep", 1000, options=("--volumes-from", container.name))
    assert container.stop() == 3
    report = json.loads(holder.execute("cat", "/report/report.json"))
    assert (report["outcome"], report["exit_status"]) == ("graceful", 3)
    assert container.killed_with() == ["15"]


def test_no_room_for_the_child_is_125_with_a_message(run):
    """The shell takes all of the limit but itself, then becomes gracewrap."""
    fill = (
        "for i in 1 2 3 4 5 6 7 8 9 10 11 12 13 14 15 16 17 18 19; do sleep 1000 & done; exec "
        f"{' '.join(ENTRYPOINT)} -- true"
    )
    container = run(entrypoint=("sh", "-c", fill), options=("--pids-limit=20",))
    assert container.wait() == 125
    assert container.err.until("gracewrap: ")


def test_works_below_another_init(run):
    container = run(*TALKER, "orphans=20", "session", "exit=3", options=(*REPORT, "--init"))
    assert {container.out.next().split()[0] for _ in range(2)} == {"ready", "straggler"}
    assert container.execute("cat", "/proc/1/comm") in ("docker-init", "tini")
    assert container.stop() == 3
    assert container.out.rest() == ["15", "straggler 15"]
    report = container.report()
    assert (report["outcome"], report["orphans_reaped"]) == ("graceful", 21)


@pytest.mark.parametrize("init", [(), ("--init",)], ids=["PID 1", "below --init"])
@pytest.mark.parametrize(
    "command", ["sleep 1000", "sleep 1000 >/dev/null 2>&1 &"], ids=["running", "left behind"]
)
def test_docker_exec_does_not_hold_up_the_exit(run, init, command):
    container = run(*TALKER, options=(*REPORT, *init))
    container.out.until("ready")
    docker("exec", "-d", container.name, "sh", "-c", command)
    wait_until(lambda: "sleep" in [name for name, _ in container.processes()], "the other command")
    assert container.stop() == 0
    assert container.report()["outcome"] == "graceful"
    assert container.killed_with() == ["15"]


# docker run -it


def test_ctrl_c_reaches_the_foreground_job_of_a_shell(terminal):
    shell = terminal("bash", "--norc")
    shell.type(f'python3 -c "{JOB}"\n')
    shell.until("42")
    shell.type("\x03")
    shell.until("KeyboardInterrupt")
    shell.type("echo status=$?; exit 5\n")
    shell.until("status=130")
    assert shell.wait() == 5


def test_ctrl_z_stops_the_job_of_a_shell_and_fg_resumes_it(terminal):
    shell = terminal("bash", "--norc")
    shell.type(f'python3 -c "{JOB}"\n')
    shell.until("42")
    shell.type("\x1a")
    shell.until("Stopped")
    shell.type("fg\n")
    shell.until("resumed")
    shell.type("\x03")
    shell.until("KeyboardInterrupt")
    shell.type("exit 5\n")
    assert shell.wait() == 5


def test_ctrl_c_ends_a_plain_child(terminal):
    plain = terminal("sh", "-c", "echo up; exec sleep 1000")
    plain.until("up")
    plain.type("\x03")
    assert plain.wait() == 130


def test_ctrl_z_does_not_leave_a_plain_child_stopped(terminal):
    plain = terminal("python3", "-c", JOB)
    plain.until("42")
    plain.type("\x1a")
    plain.until("resumed")  # there is no shell that could do it
    plain.type("\x03")
    assert plain.wait() == 130
