"""The file that is learnt from drills of real servers loses nothing, and is no slower than the
ready-made one."""

from __future__ import annotations

import contextlib
import json
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from databases import redis_server
from load_balancer import free_ports
from processes import environment, require
from real_servers import SERVERS, nginx_command, upstream

pytestmark = pytest.mark.slow

SLOWER = 1.2  # times as long as with the ready-made settings
NOISE = 2.0  # seconds of a loaded machine; the stops of gunicorn differ by as much

GUNICORN = ("-m", "gunicorn", "-w", "2", "--threads", "20", "-b", "127.0.0.1:{port}")


def node(*words: str) -> list[str]:
    require(shutil.which("node"), "node")
    return ["node", *words, "{port}"]


COMMANDS: dict[str, Callable[[], list[str]]] = {
    "gunicorn": lambda: [sys.executable, *GUNICORN, "wsgi:application"],
    "uvicorn": lambda: [sys.executable, "-m", "uvicorn", "--port", "{port}", "asgi:application"],
    "node": lambda: node("plain.js"),
    "any-http-server": lambda: [sys.executable, "plain.py", "{port}"],
}


@pytest.fixture
def drill(tmp_path: Path) -> Callable[..., dict[str, Any]]:
    """Hold a drill of one stop; return its JSON.  It is in drill.json then."""

    def hold(options: list[str], command: list[str], *load: str, **env: str) -> dict[str, Any]:
        words = ["drill", "--json", "--stop-after", "1s", "--expect-exit", "any", "--ready-timeout"]
        words += ["60s", *load, *options, "--", *command]
        done = subprocess.run(
            [sys.executable, "-m", "gracewrap", *words],
            cwd=SERVERS,
            env=environment(PYTHONDONTWRITEBYTECODE="1", **env),
            capture_output=True,
            text=True,
            timeout=110,
        )
        assert done.stdout, done.stderr
        (tmp_path / "drill.json").write_text(done.stdout)
        found: dict[str, Any] = json.loads(done.stdout)
        return found

    return hold


def learnt(folder: Path) -> tuple[int, str]:
    """Learn from drill.json into learnt.toml; return the exit status and the text."""
    done = subprocess.run(
        [sys.executable, "-m", "gracewrap", "learn", str(folder / "drill.json")],
        capture_output=True,
        text=True,
        timeout=60,
    )
    (folder / "learnt.toml").write_text(done.stdout)
    return done.returncode, done.stdout


@pytest.mark.parametrize(
    ("name", "preset"),
    [*((name, name) for name in ("nginx", *COMMANDS)), ("node", "any-http-server")],
    ids=["nginx", *COMMANDS, "node without the agent"],
)
def test_the_learnt_file_loses_nothing(
    name: str, preset: str, tmp_path: Path, drill: Callable[..., dict[str, Any]]
):
    """The first drill loses requests, and shows which preset is needed; the second one how long it
    takes.  Without its agent, Node.js needs one more."""
    agent = [] if name == preset else ["--agent", "off"]
    with contextlib.ExitStack() as stack:
        port = "{port}"
        if name == "nginx":
            behind = stack.enter_context(upstream())
            [free] = free_ports(1)
            command, port = nginx_command(tmp_path, free, behind), str(free)
        else:
            command = COMMANDS[name]()
        load = "--url", f"http://127.0.0.1:{port}/slow?n=1&size=10&ms=600"

        first = drill(agent, command, *load)
        assert first["verdict"] == "failed", first["reasons"]
        status, text = learnt(tmp_path)
        assert (status, f'preset = "{name}"' in text) == (1, True), text
        file = ["--config", str(tmp_path / "learnt.toml"), *agent]
        for _ in range(1 + bool(agent)):
            again = drill(file, command, *load)
            assert again["verdict"] == "passed", (text, again["reasons"])
            status, text = learnt(tmp_path)
        assert (status, f'preset = "{preset}"' in text) == (0, True), text
        last = drill(file, command, *load)
        delay = next(line for line in text.splitlines() if line.startswith("propagation_delay"))
        same = ["--preset", preset, "--propagation-delay", delay.split('"')[1], *agent]
        ready_made = drill(same, command, *load)
    print(name, agent)
    compare(last, ready_made, text)


def compare(last: dict[str, Any], ready_made: dict[str, Any], text: str) -> None:
    """The drill with the learnt file passed, and was no slower than with the preset."""
    took = [one["runs"][0]["duration_seconds"] for one in (last, ready_made)]
    print(last["reasons"], ready_made["reasons"], took)
    assert last["verdict"] == "passed", (text, last["reasons"])
    assert took[0] <= SLOWER * took[1] + NOISE, text


@pytest.mark.timeout(600)
def test_the_file_learnt_for_celery_loses_no_task(
    tmp_path: Path, drill: Callable[..., dict[str, Any]]
):
    """A budget shorter than a task cuts some, and Celery does not begin them again.  That is what
    is counted: a pool process of billiard 4.3 now and then lets a task be delivered once more (see
    test_servers.py), also without gracewrap."""
    command = [sys.executable, "-m", "celery", "-A", "jobs_celery", "worker", "--concurrency", "4"]
    # Longer than it takes the next worker to start.
    load = ["--job-timeout", "20s", "--rate", "3", "--max-twice", "99", "--job-command"]
    load += [f"{sys.executable} keep_celery.py 1500"]
    with redis_server(tmp_path) as port:
        env = {"REDIS_URL": f"redis://127.0.0.1:{port}"}
        first = drill(["--shutdown-timeout", "700ms"], command, *load, **env)
        assert first["verdict"] == "failed" and first["runs"][0]["fates"]["not done"], first
        status, text = learnt(tmp_path)
        assert (status, 'preset = "celery"' in text) == (1, True), text
        file = ["--config", str(tmp_path / "learnt.toml")]
        again = drill(file, command, *load, **env)
        assert again["verdict"] == "passed", (text, again["reasons"])
        status, text = learnt(tmp_path)
        assert (status, 'preset = "celery"' in text) == (0, True), text
        last = drill(file, command, *load, **env)
        ready_made = drill(["--preset", "celery"], command, *load, **env)
    compare(last, ready_made, text)
