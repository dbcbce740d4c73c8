"""Readiness of a real application that turns unhealthy, hangs, freezes and comes back."""

from __future__ import annotations

import json
import os
import resource
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from control_api import get
from processes import INSTALLED, SUPPORT, TALKER, Run, order, wait_until

ENDPOINT = [sys.executable, "-I", "-S", str(SUPPORT / "endpoint.py")]
QUICK = 'every = "20ms"\nfailures = 2\ntimeout = "300ms"\n'


@pytest.fixture
def app(start: Callable[..., Run], tmp_path: Path) -> Callable[..., Run]:
    """Start an endpoint under gracewrap, whose URL is its health: app("term=0", more=TOML)."""

    def begin(*words: str, more: str = "", check: str = "ready") -> Run:
        file, socket = tmp_path / "g.toml", tmp_path / "app.sock"
        probe = f'[{check}]\nhttp = "unix://{socket}:/drain"\n{QUICK}'
        place = f'[health]\nlisten = "unix:{tmp_path}/health"\n'
        file.write_text(f'{more}\ncontrol.socket = "{tmp_path}/control"\n{probe}{place}')
        run = start(
            "--config", str(file), "--", *ENDPOINT, str(socket), *words,
            command=[sys.executable, "-m", "gracewrap"], stdin=subprocess.PIPE,
        )  # fmt: skip
        run.ready()
        return run

    return begin


def readyz(tmp_path: Path) -> tuple[int, dict[str, object]]:
    status, body = get(tmp_path / "health", "/readyz")
    return status, json.loads(body)


def test_readyz_and_health_follow_the_application(app, tmp_path):
    run = app()
    run.log_line("ready")
    assert readyz(tmp_path) == (200, {"ready": True})
    order(run, "503 overloaded")
    why = "503 x; 2 times in a row"
    assert run.log_line("unready")["why"] == why
    status, body = readyz(tmp_path)
    assert (status, body["reason"], body["why"]) == (503, "degraded", "503 x")
    asked = subprocess.run(
        [*INSTALLED, "health", "--socket", f"{tmp_path}/control"], capture_output=True, text=True
    )
    assert asked.returncode == 1 and "503 x" in asked.stdout + asked.stderr
    order(run, "200 ok")
    assert run.log_line("ready_again")["after"] > 0
    assert readyz(tmp_path)[0] == 200


def test_what_hangs_does_not_stay_ready(app, tmp_path):
    run = app()
    run.log_line("ready")
    order(run, "silent")
    assert "no answer within 0.3 s" in str(run.log_line("unready")["why"])
    assert readyz(tmp_path)[0] == 503


def test_what_is_frozen_does_not_stay_ready_and_comes_back(app, tmp_path):
    run = app()
    run.log_line("ready")
    pid = json.loads(get(tmp_path / "health", "/status")[1])["programs"][0]["pid"]
    os.kill(pid, signal.SIGSTOP)
    assert "SIGSTOP" in str(run.log_line("unready")["why"])
    assert "SIGSTOP" in str(readyz(tmp_path)[1]["why"])
    os.kill(pid, signal.SIGCONT)
    run.log_line("ready_again")
    assert readyz(tmp_path)[0] == 200


def test_what_is_frozen_is_not_ready_where_nothing_is_configured_either(talk, tmp_path):
    run = talk(options=["--health-listen", f"unix:{tmp_path}/health"], command=INSTALLED)
    pid = run.ready()
    assert readyz(tmp_path)[0] == 200
    os.kill(pid, signal.SIGSTOP)
    wait_until(lambda: readyz(tmp_path)[0] == 503, "it is not ready")
    assert readyz(tmp_path)[1]["reason"] == "degraded"
    status = json.loads(get(tmp_path / "health", "/status")[1])
    assert status["ready"] is False and "SIGSTOP" in status["programs"][0]["why"]
    os.kill(pid, signal.SIGCONT)
    wait_until(lambda: readyz(tmp_path)[0] == 200, "it is ready again")


def test_while_it_stops_it_is_asked_no_more(app):
    run = app(more='shutdown_timeout = "1s"')
    run.log_line("ready")
    run.send(signal.SIGTERM)
    assert run.out is not None
    run.out.until("15")
    assert run.wait() == 137
    # One question may have been under way.
    assert len([line for line in run.out.rest() if line.startswith("GET")]) <= 1


def livez(tmp_path: Path) -> tuple[int, dict[str, object]]:
    status, body = get(tmp_path / "health", "/livez")
    return status, json.loads(body)


def test_what_hangs_is_started_again(app, tmp_path):
    socket = tmp_path / "app.sock"
    run = app("term=0", check="live", more='stdin = "inherit"\nbackoff = "100ms"')
    run.out.until("GET")
    order(run, "silent")
    unhealthy = run.log_line("unhealthy")
    assert (unhealthy["then"], "no answer" in str(unhealthy["why"])) == ("restart", True)
    socket.unlink()  # the endpoint does not take over one that is there
    run.out.until("15")
    run.log_line("restarts")
    run.out.until("ready")
    run.out.until("GET")


def test_what_is_frozen_is_killed_and_started_again(app, tmp_path):
    run = app(
        "term=0", check="live", more='stdin = "inherit"\nstop_timeout = "1s"\nbackoff = "100ms"'
    )
    run.out.until("GET")
    pid = json.loads(get(tmp_path / "health", "/status")[1])["programs"][0]["pid"]
    os.kill(pid, signal.SIGSTOP)
    assert "SIGSTOP" in str(run.log_line("unhealthy")["why"])
    (tmp_path / "app.sock").unlink()
    run.log_line("restarts")
    run.out.until("ready")


def test_what_cannot_be_asked_is_not_ended_for_that(start, tmp_path):
    """Without a descriptor, or a process, for the probe; the restart would have none either."""
    alive, passed = tmp_path / "alive", tmp_path / "passed"
    alive.touch()
    config = tmp_path / "gracewrap.toml"
    script = f"test -e {alive} && touch {passed}"
    check = f'{{exec = ["sh", "-c", "{script}"], every = "100ms", failures = 1}}'
    config.write_text(
        f'command = {json.dumps([*TALKER, "exit=0"])}\nlive = {check}\non_unhealthy = "stop"\n'
    )
    run = start("--config", config)
    run.ready()
    wait_until(passed.exists, "the check has passed")
    soft, hard = resource.prlimit(run.pid, resource.RLIMIT_NOFILE)
    resource.prlimit(run.pid, resource.RLIMIT_NOFILE, (3, hard))
    # `gracewrap status` of another test may look in meanwhile: that is unheard too.
    said = iter(lambda: str(run.log_line("unheard")["message"]), "")
    assert "Too many open files" in next(message for message in said if "live" in message)
    resource.prlimit(run.pid, resource.RLIMIT_NOFILE, (soft, hard))
    alive.unlink()
    assert "Too many" not in str(run.log_line("unhealthy")["why"])
    assert run.wait() == 1


def test_tell_only_says_so_at_livez_and_in_the_log(app, tmp_path):
    run = app(check="live", more='on_unhealthy = "tell"')
    run.out.until("GET")
    assert livez(tmp_path) == (200, {"live": True})
    order(run, "503 overloaded")
    run.log_line("unhealthy")
    assert livez(tmp_path) == (503, {"live": False, "why": "503 x; 2 times in a row"})
    status = json.loads(get(tmp_path / "health", "/status")[1])["programs"][0]
    assert (status["live"], status["ready"]) == (False, False)
    assert "gracewrap_program_live" in get(tmp_path / "health", "/metrics")[1]
    order(run, "200 ok")
    run.log_line("healthy_again")
    assert livez(tmp_path)[0] == 200


def test_stop_stops_all_and_that_is_a_failure(app):
    run = app("term=0", check="live", more='on_unhealthy = "stop"')
    run.out.until("GET")
    order(run, "503 overloaded")
    assert run.log_line("unhealthy")["then"] == "shutdown"
    assert run.wait() == 1


def test_what_does_not_count_keeps_nobody_from_being_ready(start, tmp_path):
    file = tmp_path / "g.toml"
    talker = ", ".join(f'"{word}"' for word in (*TALKER, "exit=0"))
    file.write_text(
        f'[health]\nlisten = "unix:{tmp_path}/health"\n'
        f'[programs.web]\ncommand = [{talker}]\nready = {{file = "{tmp_path}/web"}}\n'
        f'[programs.job]\ncommand = [{talker}]\nready = {{file = "{tmp_path}/job"}}\n'
        "readyz = false\n"
    )
    run = start("--config", str(file), command=[sys.executable, "-m", "gracewrap"])
    wait_until((tmp_path / "health").exists, "it listens")
    status, body = readyz(tmp_path)
    assert status == 503 and "web" in str(body["why"]) and "job" not in str(body["why"])
    (tmp_path / "web").touch()
    assert run.log_line("program_ready")["program"] == "web"
    assert readyz(tmp_path) == (200, {"ready": True})


def test_what_is_not_ready_in_time_has_failed(start, tmp_path):
    file = tmp_path / "g.toml"
    file.write_text(f'ready_timeout = "2s"\n[ready]\nfile = "{tmp_path}/up"\n')
    run = start("--config", str(file), "--", *TALKER, "exit=0", command=INSTALLED)
    run.ready()
    assert run.log_line("not_ready_in_time")["then"] == "shutdown"
    assert run.line() == "15" and run.wait() == 1


def test_what_is_restarted_on_failure_is_so_when_it_is_not_ready_in_time(start, tmp_path):
    file = tmp_path / "g.toml"
    file.write_text(
        f'ready_timeout = "300ms"\nrestart = "on-failure"\nbackoff = "100ms"\n'
        f'[ready]\nfile = "{tmp_path}/up"\n'
    )
    run = start("--config", str(file), "--", *TALKER, "exit=0", command=INSTALLED)
    assert run.log_line("not_ready_in_time")["then"] == "restart"
    assert run.log_line("failed_stop")["signal"] == "SIGTERM"
    run.log_line("restarts")
    (tmp_path / "up").touch()
    run.log_line("program_ready")
