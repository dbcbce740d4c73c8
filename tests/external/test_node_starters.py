"""The Node.js agent behind what stands between gracewrap and an application: tsx, which runs
TypeScript, and PM2, which sends a signal of its own.  The request in flight is finished."""

from __future__ import annotations

import os
import shutil
import signal
import urllib.request
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from load_balancer import free_ports
from processes import BOUND, INSTALLED, Run, npm_packages, running

APPS = Path(__file__).with_name("agent")
PM2 = ("node", "node_modules/pm2/bin/pm2-runtime", "start", "server.js")

pytestmark = [pytest.mark.node, pytest.mark.slow, pytest.mark.timeout(300)]


@pytest.fixture(scope="module")
def apps(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the server, in TypeScript and in JavaScript."""
    assert request.config.cache is not None
    folder = tmp_path_factory.mktemp("apps")
    modules = npm_packages(request.config.cache, APPS / "package.json")
    (folder / "node_modules").symlink_to(modules)
    shutil.copy(APPS / "server.ts", folder)
    text = (APPS / "server.ts").read_text()
    for typed, plain in (
        ("import { createServer, type IncomingMessage, type ServerResponse } from 'node:http'",
         "const { createServer } = require('node:http')"),
        (": IncomingMessage", ""), (": ServerResponse", ""), (": void", ""), ("!", ""),
    ):  # fmt: skip
        assert typed in text
        text = text.replace(typed, plain)
    (folder / "server.js").write_text(text)
    return folder


@pytest.fixture
def pool() -> Iterator[ThreadPoolExecutor]:
    with ThreadPoolExecutor() as made:
        yield made


def until(run: Run, wanted: str) -> None:
    """Read lines up to one; PM2 writes some of its own."""
    while (line := run.line()) != wanted:
        assert line, f"no {wanted!r}"


def get(url: str) -> bytes:
    with urllib.request.urlopen(url, timeout=BOUND) as answer:
        body: bytes = answer.read()
        return body


def stopped_within_a_request(
    run: Run, pool: ThreadPoolExecutor, port: int
) -> tuple[object, list[dict[str, object]]]:
    """Stop it while it works on a request, which is answered; return how many processes the agent
    has finished, and what was logged."""
    request = pool.submit(get, f"http://127.0.0.1:{port}/1500")
    until(run, "request")
    run.send(signal.SIGTERM)
    assert request.result(BOUND) == b"done"
    assert run.wait() == 0
    log = run.log()
    (told,) = (line for line in log if line["event"] == "agents_told")
    return told["agent"], log


@pytest.mark.parametrize(
    "words",
    [
        ("node", "node_modules/.bin/tsx", "server.ts"),
        ("node", "--import", "tsx", "server.ts"),
        PM2,
        (*PM2, "-i", "2"),  # in a cluster
    ],
    ids=["tsx", "import tsx", "pm2", "pm2 cluster"],
)
def test_a_request_in_flight_is_finished(
    words: tuple[str, ...], apps: Path, pool: ThreadPoolExecutor, tmp_path: Path
):
    [port] = free_ports(1)
    # PM2 kills after 1.6 s, and a loaded machine may need more.
    more = {"PORT": str(port), "PM2_HOME": str(tmp_path), "PM2_KILL_TIMEOUT": "10000"}
    words = ("--agent", "node", "--", *words)
    with running(*words, command=INSTALLED, cwd=apps, env=os.environ | more) as run:
        until(run, "listens")
        told, _ = stopped_within_a_request(run, pool, port)
        assert told in (1, 2)


def test_a_server_that_another_has_forked_is_told_when_that_one_is_gone(
    apps: Path, pool: ThreadPoolExecutor
):
    """Node passes no signal on: the agent in the child says that it has heard of none."""
    first, second = free_ports(2)
    fork = "require('child_process').fork('./server.js', {env: {...process.env, PORT: '%d'}})"
    words = ("node", "-e", f"{fork % second}; require('./server.js')")
    options = ("--agent", "node", "--shutdown-timeout", "30s", "--", *words)
    env = os.environ | {"PORT": str(first)}
    with running(*options, command=INSTALLED, cwd=apps, env=env) as run:
        until(run, "listens")
        until(run, "listens")
        told, log = stopped_within_a_request(run, pool, second)
        assert told == 2
        assert not [line for line in log if line["event"] == "leftover_waits"]
        # It may be seen to be left behind before its parent is reaped; then it is told, and after
        # that only waited for.
        assert len([line for line in log if line["event"] == "leftover" and "signal" in line]) == 1
