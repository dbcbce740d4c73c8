"""The Node.js agent behind what stands between gracewrap and an application: tsx, ts-node and
`nest start`, which run TypeScript, Next.js, which has a handler of its own, and PM2, which sends a
signal of its own.  The request in flight is finished."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import urllib.request
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from databases import is_open
from load_balancer import free_ports
from processes import BOUND, INSTALLED, Run, npm_packages, running, wait_until

APPS = Path(__file__).with_name("agent")
STARTERS = Path(__file__).with_name("starters")
NO_TELEMETRY = {"NEXT_TELEMETRY_DISABLED": "1"}
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
    run: Run, pool: ThreadPoolExecutor, port: int, path: str = "/1500", status: int = 0
) -> tuple[object, list[dict[str, object]]]:
    """Stop it while it works on a request, which is answered; return how many processes the agent
    has finished, and what was logged."""
    request = pool.submit(get, f"http://127.0.0.1:{port}{path}")
    until(run, "request")
    run.send(signal.SIGTERM)
    assert request.result(BOUND) == b"done"
    assert run.wait() == status
    log = run.log()
    (told,) = (line for line in log if line["event"] == "agents_told")
    return told["agent"], log


@pytest.fixture(scope="module")
def starters(request: pytest.FixtureRequest) -> Path:
    """A folder with ts-node and Nest."""
    assert request.config.cache is not None
    folder = npm_packages(request.config.cache, STARTERS / "package.json").parent
    (folder / "src").mkdir(exist_ok=True)
    shutil.copy(APPS / "server.ts", folder)
    shutil.copy(STARTERS / "tsconfig.json", folder)
    shutil.copy(STARTERS / "main.ts", folder / "src")
    return folder


@pytest.fixture(scope="module")
def next_application(request: pytest.FixtureRequest) -> Path:
    """A folder with a built Next.js application; its packages must not be links (Turbopack)."""
    assert request.config.cache is not None
    folder = npm_packages(request.config.cache, STARTERS / "next" / "package.json").parent
    (folder / "pages" / "api").mkdir(parents=True, exist_ok=True)
    shutil.copy(STARTERS / "next" / "slow.js", folder / "pages" / "api" / "[ms].js")
    build = ["node", "node_modules/.bin/next", "build"]
    env = os.environ | NO_TELEMETRY
    done = subprocess.run(build, cwd=folder, env=env, capture_output=True, text=True, timeout=200)
    assert done.returncode == 0, done.stdout + done.stderr
    return folder


@pytest.mark.parametrize(
    "words",
    [
        ("node", "node_modules/.bin/ts-node", "server.ts"),
        ("node", "-r", "ts-node/register", "server.ts"),
        ("node", "node_modules/.bin/nest", "start"),
        ("npx", "nest", "start"),
    ],
    ids=["ts-node", "require ts-node", "nest", "npx nest"],
)
def test_a_request_is_finished_soon_behind(
    words: tuple[str, ...], starters: Path, pool: ThreadPoolExecutor
):
    [port] = free_ports(1)
    env = os.environ | {"PORT": str(port), "npm_config_loglevel": "silent"}
    options = ("--agent", "node", "--success-exit-codes", "0,TERM", "--shutdown-timeout", "40s")
    with running(*options, "--", *words, command=INSTALLED, cwd=starters, env=env) as run:
        until(run, "listens")
        told, log = stopped_within_a_request(run, pool, port)
        assert told == 1
    [summary] = (line for line in log if line["event"] == "summary")
    assert summary["used_seconds"] < 15  # half of the time, if it is not told soon


def test_next_finishes_its_requests_itself(next_application: Path, pool: ThreadPoolExecutor):
    [port] = free_ports(1)
    env = os.environ | NO_TELEMETRY
    words = ("--agent", "node", "--", "node", "node_modules/.bin/next", "start", "-p", str(port))
    with running(*words, command=INSTALLED, cwd=next_application, env=env) as run:
        wait_until(lambda: is_open(port), "Next.js serves")
        told, _ = stopped_within_a_request(run, pool, port, "/api/1500", 143)
        assert told == 0


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
