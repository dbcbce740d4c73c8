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

    def hold(options: list[str], command: list[str], url: str) -> dict[str, Any]:
        words = ["drill", "--json", "--stop-after", "1s", "--expect-exit", "any", "--ready-timeout"]
        words += ["60s", "--url", url, *options, "--", *command]
        done = subprocess.run(
            [sys.executable, "-m", "gracewrap", *words],
            cwd=SERVERS,
            env=environment(PYTHONDONTWRITEBYTECODE="1"),
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
        url = f"http://127.0.0.1:{port}/slow?n=1&size=10&ms=600"

        first = drill(agent, command, url)
        assert first["verdict"] == "failed", first["reasons"]
        status, text = learnt(tmp_path)
        assert (status, f'preset = "{name}"' in text) == (1, True), text
        file = ["--config", str(tmp_path / "learnt.toml"), *agent]
        for _ in range(1 + bool(agent)):
            again = drill(file, command, url)
            assert again["verdict"] == "passed", (text, again["reasons"])
            status, text = learnt(tmp_path)
        assert (status, f'preset = "{preset}"' in text) == (0, True), text
        last = drill(file, command, url)
        delay = next(line for line in text.splitlines() if line.startswith("propagation_delay"))
        same = ["--preset", preset, "--propagation-delay", delay.split('"')[1], *agent]
        ready_made = drill(same, command, url)
    print(name, agent, last["reasons"], last["runs"][0]["duration_seconds"], "|",
          ready_made["reasons"], ready_made["runs"][0]["duration_seconds"])  # fmt: skip
    assert last["verdict"] == "passed", (text, last["reasons"])
    longest = SLOWER * ready_made["runs"][0]["duration_seconds"] + NOISE
    assert last["runs"][0]["duration_seconds"] <= longest, text
