"""Health, status, metrics and control of a real gracewrap: what is answered in each phase, and what
asking does to the stop."""

from __future__ import annotations

import contextlib
import http.client
import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from prometheus_client.parser import text_string_to_metric_families

from control_api import get
from gracewrap.server import control_socket
from processes import (
    BOUND,
    INSTALLED,
    OTHER_USER,
    TALKER,
    Run,
    environment,
    require,
    require_other_user,
    state,
    wait_until,
)


@pytest.fixture
def serve(talk: Callable[..., Run], tmp_path: Path) -> Callable[..., Run]:
    """Start a talker whose gracewrap answers at tmp_path/health."""

    def begin(*words: str, options: tuple[str, ...] = ()) -> Run:
        run = talk(
            *words,
            options=["--health-listen", f"unix:{tmp_path}/health", *options],
            command=INSTALLED,
        )
        run.ready()
        return run

    return begin


def test_readiness_goes_with_the_stop_request_and_liveness_stays(serve, tmp_path):
    run = serve("exit=-1", options=("--shutdown-timeout", "10m"))
    health = tmp_path / "health"
    assert get(health, "/readyz") == (200, '{"ready": true}\n')
    run.send(signal.SIGTERM)
    assert run.line() == "15"
    status, body = get(health, "/readyz")
    assert (
        status == 503
        and json.loads(body)["reason"] == "stopping"
        and json.loads(body)["seconds_left"] > 500
    )
    assert get(health, "/health/ready")[0] == 503
    assert get(health, "/livez")[0] == get(health, "/health/live")[0] == 200


def test_readiness_can_be_kept(serve, tmp_path):
    run = serve("exit=-1", options=("--health-on-stop", "keep"))
    run.send(signal.SIGTERM)
    assert run.line() == "15"
    assert get(tmp_path / "health", "/readyz")[0] == 200


def test_it_serves_on_before_the_stop_signal(serve, tmp_path):
    run = serve("exit=0", options=("--propagation-delay", "500ms", "--shutdown-timeout", "10m"))
    before = time.monotonic()
    run.send(signal.SIGTERM)
    wait_until(lambda: get(tmp_path / "health", "/readyz")[0] == 503, "readiness is off")
    assert run.line() == "15"
    assert time.monotonic() - before >= 0.5
    assert run.wait() == 0


def test_a_command_is_ready_when_its_probe_says_so(serve, tmp_path):
    mark = tmp_path / "up"
    file = tmp_path / "g.toml"
    file.write_text(f'[ready]\nfile = "{mark}"\n')
    run = serve(options=("--config", str(file)))
    status, body = get(tmp_path / "health", "/readyz")
    assert status == 503 and json.loads(body)["reason"] == "starting"
    mark.touch()
    run.log_line("ready")
    assert get(tmp_path / "health", "/readyz")[0] == 200


def test_status_says_what_is_going_on(serve, tmp_path):
    run = serve("exit=-1", options=("--shutdown-timeout", "10m"))
    status = json.loads(get(tmp_path / "health", "/status")[1])
    assert (status["phase"], status["ready"], status["stop"], status["pid"]) == (
        "running",
        True,
        None,
        run.pid,
    )
    (program,) = status["programs"]
    assert [process["pid"] for process in program["processes"]] == [program["pid"]]
    run.send(signal.SIGTERM)
    assert run.line() == "15"
    status = json.loads(get(tmp_path / "health", "/status")[1])
    assert status["phase"] == "stopping" and 590 < status["stop"]["left_seconds"] <= 600
    assert status["stop"]["requested_by"].startswith("SIGTERM from ")


def families(text: str) -> dict[str, float]:
    return {
        sample.name + "".join(f" {value}" for value in sample.labels.values()): sample.value
        for family in text_string_to_metric_families(text)
        for sample in family.samples
    }


def test_metrics_in_each_phase_and_the_last_ones_in_a_file(serve, tmp_path):
    textfile = tmp_path / "gracewrap.prom"
    run = serve(
        "exit=-1",
        options=("--shutdown-timeout", "1s", "--report-prometheus-textfile", str(textfile)),
    )
    found = families(get(tmp_path / "health", "/metrics")[1])
    assert found["gracewrap_phase running"] == 1 and "gracewrap_seconds_left" not in found
    run.send(signal.SIGTERM)
    assert run.line() == "15"
    found = families(get(tmp_path / "health", "/metrics")[1])
    assert found["gracewrap_phase stopping"] == 1 and 0 < found["gracewrap_seconds_left"] <= 1
    assert run.wait() == 137
    found = families(textfile.read_text())
    assert found["gracewrap_phase ended"] == 1 and found["gracewrap_exit_status"] == 137
    assert 1 <= found["gracewrap_shutdown_duration_seconds_sum"] < 5
    assert found["gracewrap_shutdown_duration_seconds_bucket 1"] == 0
    assert found["gracewrap_shutdown_duration_seconds_count"] == 1


def test_a_port_that_is_taken_is_an_error_before_anything_starts(start, tmp_path):
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        run = start(
            "--health-listen",
            f"127.0.0.1:{port}",
            "--",
            "touch",
            tmp_path / "started",
            command=INSTALLED,
        )
        assert run.wait() == 125
    assert run.err is not None
    (line,) = run.err.rest()
    assert f"127.0.0.1:{port}" in line and "in use" in line and "health.listen" in line
    assert not (tmp_path / "started").exists()


@pytest.fixture(autouse=True, scope="module")
def no_stale_sockets() -> None:
    """Remove control sockets of killed gracewraps: a test may get the same pid again."""
    control_socket.find()


def control(run: Run) -> str:
    """Return the path of the control socket that was found without configuration."""
    (path,) = (path for path in Path("/run").glob(f"gracewrap-{run.pid}.sock"))
    return str(path)


@pytest.fixture
def controlled(talk: Callable[..., Run]) -> Callable[..., Run]:
    require(os.geteuid() == 0, "root, who may write to /run")

    def begin(*words: str, options: tuple[str, ...] = ()) -> Run:
        run = talk(*words, options=options, command=INSTALLED)
        run.ready()
        wait_until(
            lambda: Path(f"/run/gracewrap-{run.pid}.sock").exists(), "the control socket is there"
        )
        return run

    return begin


def test_the_control_socket_is_ours_alone_and_gone_with_us(controlled):
    run = controlled()
    path = control(run)
    assert os.stat(path).st_mode & 0o777 == 0o600
    assert get(path, "/status")[0] == 200
    run.send(signal.SIGTERM)
    assert run.wait() == 0
    assert not Path(path).exists()


def test_drain_and_undrain_do_not_stop(controlled):
    run = controlled("exit=0")
    path = control(run)
    assert get(path, "/drain", "POST")[0] == 202
    wait_until(lambda: get(path, "/readyz")[0] == 503, "it is drained")
    assert json.loads(get(path, "/status")[1])["phase"] == "drained"
    assert get(path, "/undrain", "POST")[0] == 202
    wait_until(lambda: get(path, "/readyz")[0] == 200, "it is ready again")
    run.send(signal.SIGHUP)
    assert run.line() == "1"  # and not 15


@pytest.mark.parametrize("undrain", [True, False])
@pytest.mark.parametrize("when", ["before-signal", "after-signal"])
def test_what_was_drained_before_the_stop_is_not_drained_in_it(controlled, tmp_path, undrain, when):
    busy, report = tmp_path / "busy", tmp_path / "report"
    probe = ("--drain-file", busy, "--drain-file-is", "absent", "--drain-interval", "20ms")
    options = (*probe, "--drain-when", when, "--report", report, "--shutdown-timeout", "500ms")
    run = controlled("ignore=15", options=tuple(map(str, options)))
    path = control(run)
    assert get(path, "/drain", "POST")[0] == 202
    run.log_line("drained")
    if undrain:
        assert get(path, "/undrain", "POST")[0] == 202
        run.log_line("undrain_requested")
    busy.touch()
    run.send(signal.SIGTERM)
    assert run.wait() == 137
    assert json.loads(report.read_text())["drained_after_seconds"] is None


def test_a_drain_that_is_not_reached_in_its_time_is_given_up(controlled, tmp_path):
    """gracewrap drain --wait, which has no limit of its own, must not wait for it."""
    options = ("--drain-file", str(tmp_path / "drained"), "--drain-timeout", "600ms")
    run = controlled("exit=0", options=options)
    path = control(run)

    def drain() -> tuple[object, ...]:
        (program,) = json.loads(get(path, "/status")[1])["programs"]
        return program["phase"], program["drain"]["drained"], program["drain"]["given_up"]

    assert drain() == ("running", False, False)
    assert get(path, "/drain", "POST")[0] == 202
    run.log_line("drain_timeout")
    wait_until(lambda: drain() == ("draining", False, True), "it is given up")
    place = ("--socket", path)
    done = subprocess.run([*INSTALLED, "drain", "--wait", *place], timeout=BOUND, check=False)
    assert done.returncode == 1
    assert get(path, "/undrain", "POST")[0] == 202
    wait_until(lambda: drain() == ("running", False, False), "it is taken back")


def test_a_drain_without_a_stop_runs_its_start_once(controlled, tmp_path):
    run = controlled(
        "exit=0", options=("--drain-start", f"sh -c 'echo started >>{tmp_path}/started; cat'")
    )
    path = control(run)
    assert get(path, "/drain", "POST")[0] == 202
    assert run.log_line("helper_ended")["ok"]
    assert json.loads(get(path, "/status")[1])["phase"] == "drained"
    run.send(signal.SIGTERM)
    assert run.line() == "15" and run.wait() == 0
    assert (tmp_path / "started").read_text() == "started\n"


def test_stop_is_a_stop_request_that_says_who_asked(controlled):
    run = controlled("exit=3")
    assert get(control(run), "/stop", "POST")[0] == 202
    assert run.line() == "15"
    assert run.wait() == 3
    assert "gracewrap stop" in str(run.log_line("stop_requested")["message"])


def test_another_user_is_refused(controlled):
    """The file is closed to others; should it be open, the kernel's word about the peer counts."""
    require_other_user()
    run = controlled()
    path = control(run)
    os.chmod(path, 0o666)
    code = (
        f"import socket; s = socket.socket(socket.AF_UNIX); s.connect({path!r}); "
        "s.sendall(b'POST /stop HTTP/1.1\\r\\nHost: x\\r\\nContent-Length: 0\\r\\n\\r\\n'); "
        "print(s.recv(100))"
    )
    done = subprocess.run(
        [*OTHER_USER, sys.executable, "-I", "-S", "-c", code],
        capture_output=True,
        text=True,
        timeout=BOUND,
        env=environment(),
    )
    assert " 403 " in done.stdout, done.stderr
    run.send(signal.SIGUSR1)
    assert run.line() == "10"  # it was not stopped


def test_a_user_s_sigio_is_forwarded_and_hides_nothing(serve, tmp_path):
    # Whoever looks for a gracewrap visits its control socket: a SIGIO of the kernel, in which ours
    # would be merged.
    run = serve(options=("--control-socket", "off"))
    os.kill(run.pid, signal.SIGSTOP)
    wait_until(lambda: state(run.pid) == "T", "gracewrap is stopped")
    run.send(signal.SIGIO)
    with socket.socket(socket.AF_UNIX) as visitor:  # the kernel's SIGIO finds one pending already
        visitor.connect(str(tmp_path / "health"))
        visitor.settimeout(BOUND)
        visitor.sendall(b"GET /livez HTTP/1.1\r\nHost: x\r\n\r\n")
        os.kill(run.pid, signal.SIGCONT)
        assert b" 200 " in visitor.recv(1000)
    assert {run.line(), run.line()} == {"18", "29"}


def test_a_thousand_idle_connections_change_nothing(serve, tmp_path):
    """Neither the memory by more than a few MiB, nor the stop."""
    run = serve("exit=0", options=("--shutdown-timeout", "10m"))
    assert get(tmp_path / "health", "/readyz")[0] == 200
    before = rss(run.pid)
    idle: list[socket.socket] = []
    try:
        for _ in range(1000):
            idle.append(socket.socket(socket.AF_UNIX))
            idle[-1].connect(str(tmp_path / "health"))  # waits while the backlog is full
        assert get(tmp_path / "health", "/readyz")[0] == 200
        assert rss(run.pid) - before < 4 << 20
        run.send(signal.SIGTERM)
        assert run.line() == "15"
        assert run.wait() == 0
    finally:
        for sock in idle:
            sock.close()


def rss(pid: int) -> int:
    return int(Path(f"/proc/{pid}/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")


def test_nothing_wakes_while_nobody_asks(serve, tmp_path):
    """Also after somebody has asked: voluntary context switches are counted by the kernel."""
    run = serve()
    assert get(tmp_path / "health", "/metrics")[0] == 200

    def switches() -> str:
        return next(
            line
            for line in Path(f"/proc/{run.pid}/status").read_text().splitlines()
            if line.startswith("voluntary")
        )

    seen = [switches()]

    def quiet() -> bool:
        seen.append(switches())
        return len(seen) > 300 and len(set(seen[-300:])) == 1  # 0.6 s

    wait_until(quiet, "it sleeps")


def test_the_last_metrics_are_pushed_to_a_real_gateway(talk, tmp_path):
    gateway = Path("/usr/bin/prometheus-pushgateway")
    require(gateway.exists(), "prometheus-pushgateway")
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    with subprocess.Popen(
        [str(gateway), f"--web.listen-address=127.0.0.1:{port}"],
        stderr=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
    ) as server:
        try:
            wait_until(lambda: answers(port), "the gateway is up")
            run = talk(
                "exit=-1",
                options=[
                    "--shutdown-timeout",
                    "1s",
                    "--report-pushgateway",
                    f"http://localhost:{port}",
                ],
                command=INSTALLED,
            )
            run.ready()
            run.send(signal.SIGTERM)
            assert run.wait() == 137
            connection = http.client.HTTPConnection("127.0.0.1", port, timeout=BOUND)
            connection.request("GET", "/metrics")
            found = connection.getresponse().read().decode()
            connection.close()
            assert "gracewrap_exit_status{" in found and "} 137" in found
        finally:
            server.kill()


def answers(port: int) -> bool:
    try:
        socket.create_connection(("127.0.0.1", port), timeout=BOUND).close()
    except OSError:
        return False
    return True


def test_a_gateway_that_says_nothing_costs_its_share_of_the_budget_and_no_more(talk):
    with socket.create_server(("127.0.0.1", 0)) as silent:
        port = silent.getsockname()[1]
        run = talk(
            "exit=-1",
            options=[
                "--shutdown-timeout",
                "1s",
                "--report-pushgateway",
                f"http://127.0.0.1:{port}",
            ],
            command=INSTALLED,
        )
        run.ready()
        before = time.monotonic()
        run.send(signal.SIGTERM)
        assert run.wait() == 137
        took = time.monotonic() - before
    assert took >= 0.95
    log = run.log()
    assert [line["ok"] for line in log if line["event"] == "helper_ended"] == [False]


def test_without_h11_nothing_is_started_that_needs_it(start, tmp_path):
    run = start("--health-listen", f"unix:{tmp_path}/health", "--", "touch", tmp_path / "started")
    assert run.wait() == 125 and run.err is not None
    assert "pip install h11" in run.err.next()
    assert not (tmp_path / "started").exists()


def test_without_h11_the_control_socket_turns_visitors_away(talk):
    require(os.geteuid() == 0, "root, who may write to /run")
    run = talk()
    run.ready()
    wait_until(
        lambda: Path(f"/run/gracewrap-{run.pid}.sock").exists(), "the control socket is there"
    )
    with socket.socket(socket.AF_UNIX) as visitor:
        visitor.settimeout(BOUND)
        visitor.connect(f"/run/gracewrap-{run.pid}.sock")
        with contextlib.suppress(ConnectionResetError):
            assert visitor.recv(100) == b""
    assert "pip install h11" in str(run.log_line("unheard")["message"])
    run.send(signal.SIGTERM)
    assert run.line() == "15" and run.wait() == 0


def test_who_asks_how_the_drain_stands_does_not_disturb_it(start, tmp_path):
    """Each look at /status makes us ask the probes while it is up; not while the policy does."""
    mark = tmp_path / "busy"
    mark.touch()
    run = start(
        "--drain-file",
        mark,
        "--drain-file-is",
        "absent",
        "--drain-interval",
        "30ms",
        "--health-listen",
        f"unix:{tmp_path}/health",
        "--",
        *TALKER,
        command=INSTALLED,
    )
    run.ready()
    wait_until(
        lambda: Path(f"/run/gracewrap-{run.pid}.sock").exists(), "the control socket is there"
    )
    assert get(control(run), "/drain", "POST")[0] == 202
    phases = [json.loads(get(tmp_path / "health", "/status")[1])["phase"] for _ in range(50)]
    assert set(phases) <= {"running", "draining"}
    mark.unlink()
    wait_until(
        lambda: json.loads(get(tmp_path / "health", "/status")[1])["phase"] == "drained",
        "it is drained",
    )


def test_stopping_twice_over_the_socket_is_stopping_once(controlled):
    run = controlled("exit=-1", options=("--shutdown-timeout", "10m", "--escalation", "5m=INT"))
    assert get(control(run), "/stop", "POST")[0] == 202
    assert run.line() == "15"
    assert get(control(run), "/stop", "POST")[0] == 200
    assert run.line() == "18"
    run.send(signal.SIGUSR1)
    assert run.line() == "10"  # and not 2
