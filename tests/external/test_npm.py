"""The real `npm start`, and shells around node: whoever stands between, the server hears of the
stop once, and finishes.

What npm 11 does with SIGTERM: it passes it on once, to the shell that runs the script.  Debian's sh
(dash) has node as a child and dies of it, npm then ends itself by the same signal (143), and node,
left behind, is told by gracewrap.  Under a shell that makes way for the script's last command
(bash, busybox) npm's signal reaches node itself, and npm exits with node's status.
"""

from __future__ import annotations

import json
import shutil
import signal
import urllib.request
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from processes import Run, alive, descendants, environment, require

pytestmark = pytest.mark.node

HALF = 100_000  # bytes, one before the pause and one after it

SERVER = f"""
const half = 'x'.repeat({HALF});
const server = require('node:http').createServer((request, response) => {{
  response.setHeader('Content-Length', 2 * half.length);
  response.write(half, () => console.log('request'));
  setTimeout(() => response.end(half), 1000);
}});
process.on('SIGTERM', () => {{
  console.log('SIGTERM');
  server.close(() => console.log('closed'));
}});
server.listen(0, '127.0.0.1', () => console.log(`port ${{server.address().port}}`));
"""


@pytest.fixture
def project(tmp_path: Path) -> Path:
    """A folder with a server in it."""
    require(shutil.which("node") and shutil.which("npm"), "node and npm")
    (tmp_path / "server.js").write_text(SERVER)
    return tmp_path


def npm(project: Path, script: str) -> list[str]:
    """Make *script* the start script; return the command that runs it."""
    (project / "package.json").write_text(
        json.dumps({"name": "x", "version": "1.0.0", "scripts": {"start": script}})
    )
    return ["npm", "start"]


def script(project: Path, *lines: str) -> str:
    """Write an executable start.sh."""
    file = project / "start.sh"
    file.write_text("\n".join(["#!/usr/bin/env bash", *lines, ""]))
    file.chmod(0o755)
    return "./start.sh"


@pytest.fixture
def stop_in_flight(project: Path, start: Callable[..., Run]) -> Callable[..., dict[str, object]]:
    """Stop a command while its server is in the middle of an answer; return gracewrap's report if
    all went well."""

    def stop(*command: str, **variables: str) -> dict[str, object]:
        report = project / "report.json"
        quiet = {
            "npm_config_loglevel": "silent",
            "npm_config_update_notifier": "false",
            "npm_config_cache": str(project / "npm"),
        }
        env = environment(**quiet, **variables)
        run = start("--report", report, "--", *command, cwd=project, env=env, stderr=None)
        url = f"http://127.0.0.1:{run.out.until('port').split()[1]}/"
        with ThreadPoolExecutor() as pool:
            answer = pool.submit(lambda: urllib.request.urlopen(url, timeout=60).read())
            run.out.until("request")
            members = descendants(run.pid)
            run.send(signal.SIGTERM)
            assert len(answer.result()) == 2 * HALF
        status = run.wait()
        said = run.out.rest()
        assert said.count("SIGTERM") == 1  # not twice
        assert "closed" in said
        assert not [pid for pid in members if alive(pid)]
        found: dict[str, object] = json.loads(report.read_text())
        assert (found["outcome"], found["exit_status"]) == ("graceful", status)
        return found

    return stop


@pytest.mark.parametrize("words", ["node server.js", "node server.js && echo done"])
def test_npm_start(project, stop_in_flight, words):
    report = stop_in_flight(*npm(project, words))
    assert report["exit_status"] == report["leader"]["status"]
    assert report["exit_status"] in (0, 143)  # it depends on what sh is


def test_npm_start_when_its_shell_makes_way_for_node(project, stop_in_flight):
    report = stop_in_flight(*npm(project, "exec node server.js"))
    assert report["exit_status"] == 0
    assert report["left_behind"] is None


def test_npm_start_with_a_script_that_stays(project, stop_in_flight):
    report = stop_in_flight(*npm(project, script(project, "node server.js", "echo after")))
    assert report["exit_status"] == report["leader"]["status"] == 143
    assert "node" in report["left_behind"]


def test_a_shell_that_stays(stop_in_flight):
    report = stop_in_flight("sh", "-c", "node server.js; true")
    assert report["exit_status"] == 143
    assert "node" in report["left_behind"]


def test_a_shell_that_ignores_the_stop_signal(project, stop_in_flight):
    report = stop_in_flight(script(project, "trap '' TERM", "node server.js", "exit 3"))
    assert report["exit_status"] == 3  # it lived on, and saw node end
    assert "stop_signal_ignored" in [step["event"] for step in report["timeline"]]


def test_a_shell_that_catches_the_signal_and_waits(project, stop_in_flight):
    """It runs its trap when node is gone, so it cannot pass anything on: node is told by gracewrap,
    and still finishes."""
    shell = script(project, "trap 'echo trapped' TERM", "node server.js")
    report = stop_in_flight(shell, GRACEWRAP_SHUTDOWN_TIMEOUT="8s")
    assert report["exit_status"] == 0
    assert "shell_waits" in [step["event"] for step in report["timeline"]]


@pytest.mark.parametrize("use", ["once", "on"])
def test_a_shell_that_passes_the_signal_on_and_does_not_wait(project, stop_in_flight, use):
    """The commonest entrypoint.  A second SIGTERM would be one too many, most of all for a handler
    for one use."""
    server = project / "server.js"
    server.write_text(SERVER.replace("process.on(", f"process.{use}("))
    report = stop_in_flight(
        script(project, "node server.js & pid=$!", "trap 'kill -TERM $pid' TERM", "wait $pid")
    )
    assert report["leader"]["status"] == 143


def test_a_143_that_we_caused_can_count_as_success(project, stop_in_flight):
    report = stop_in_flight("sh", "-c", "node server.js; true", GRACEWRAP_SUCCESS_EXIT_CODES="143")
    assert report["exit_status"] == 0
