"""The Node.js agent in applications that have shutdown code, good or bad, or are behind npm: what
is in flight when they are stopped ends no worse than without the agent."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import signal
import urllib.request
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import NamedTuple

import pytest

from databases import SHOP, is_open, postgres, redis_server, sql
from load_balancer import free_ports
from processes import BOUND, INSTALLED, Run, npm_packages, wait_until

APPS = Path(__file__).with_name("agent")
REQUEST, JOB, TIMEOUT = 2.5, 4.0, 7.0  # seconds; a handler that never exits takes all of them
SLACK = 2.0  # seconds; for a loaded machine

pytestmark = [pytest.mark.node, pytest.mark.slow, pytest.mark.timeout(300)]


@pytest.fixture(scope="module")
def apps(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the application, its packages, and what npm starts."""
    assert request.config.cache is not None
    folder = tmp_path_factory.mktemp("apps")
    shutil.copy(APPS / "app.cjs", folder)
    modules = npm_packages(request.config.cache, APPS / "package.json")
    (folder / "node_modules").symlink_to(modules)
    start = 'node app.cjs both "$HANDLER"'
    (folder / "package.json").write_text(json.dumps({"scripts": {"start": start}}))
    return folder


@pytest.fixture(scope="module")
def databases(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, str]]:
    """Where Redis and PostgreSQL are."""
    with redis_server(tmp_path_factory.mktemp("redis")) as port, postgres() as env:
        yield env | {"REDIS_PORT": str(port)}


class Outcome(NamedTuple):
    """What became of a request and a job that were in flight."""

    answered: bool
    finished: bool
    killed: bool
    status: int
    used: float  # seconds
    cut: bool  # as the report says


class Shop:
    """The application under gracewrap, with a database and a queue of its own.

    Args:
        words: Its command.
        options: Of gracewrap.
        apps: Where it is.
        folder: For its log and its report.
        env: Where the databases are, and more.
    """

    def __init__(
        self, words: list[str], options: list[str], apps: Path, folder: Path, env: dict[str, str]
    ) -> None:
        [self._port] = free_ports(1)
        name = f"shop{self._port}"
        sql(env, f"create database {name}")
        self._env = env | {"PGDATABASE": name, "QUEUE": name, "PORT": str(self._port)}
        sql(self._env, SHOP)
        self._report = folder / f"{name}.json"
        report = ("--report", str(self._report), "--shutdown-timeout", f"{TIMEOUT}s")
        with (folder / f"{name}.log").open("wb") as log:
            self.run = Run(*report, *options, "--", *words, command=INSTALLED, stdout=log,
                           stderr=log, cwd=apps, env=os.environ | self._env)  # fmt: skip

    def _order(self, number: int, seconds: float, job: float) -> bool:
        """Return whether an order has been answered."""
        query = f"ms={int(seconds * 1000)}&job={int(job * 1000)}"
        url = f"http://127.0.0.1:{self._port}/orders/{number}?{query}"
        with contextlib.suppress(OSError):
            order = urllib.request.Request(url, method="POST")
            with urllib.request.urlopen(order, timeout=BOUND) as answer:
                return bool(answer.read())
        return False

    def work(self, pool: ThreadPoolExecutor) -> Future[bool]:
        """Begin a job and a request; return whether the request has been answered."""
        self._order(1, 0, JOB)
        wait_until(lambda: sql(self._env, "select 1 from runs"), "the job is worked on")
        request = pool.submit(self._order, 2, REQUEST, 0)
        arrived = "select 1 from orders where number = 2"
        wait_until(lambda: sql(self._env, arrived), "the request is worked on")
        return request

    def serves(self) -> bool:
        return is_open(self._port)

    def outcome(self, request: Future[bool]) -> Outcome:
        """Wait until it has ended."""
        status = self.run.wait()
        finished = sql(self._env, "select finished from runs where number = 1") == "t"
        report = json.loads(self._report.read_text())
        killed = bool(report["killed"])
        used, cut = report["used_seconds"], bool(report["interrupted"])
        return Outcome(request.result(BOUND), finished, killed, status, used, cut)


def stopped(shops: list[Shop]) -> list[Outcome]:
    """Stop applications in the middle of their work, side by side."""
    with contextlib.ExitStack() as stack:
        pool = stack.enter_context(ThreadPoolExecutor())
        for shop in shops:
            stack.callback(shop.run.close)
        for shop in shops:
            wait_until(shop.serves, "it serves")
        requests = list(pool.map(lambda shop: shop.work(pool), shops))
        for shop in shops:
            shop.run.send(signal.SIGTERM)
        return [shop.outcome(request) for shop, request in zip(shops, requests)]


@pytest.mark.parametrize(
    ("handler", "by"),
    [
        ("", "npm"),
        ("correct", "node"),
        ("correct", "npm"),
        ("forgets the queue", "node"),
        ("never exits", "node"),
    ],
)
def test_nothing_is_worse_with_the_agent(
    handler: str, by: str, apps: Path, databases: dict[str, str], tmp_path: Path
):
    words = ["npm", "start"] if by == "npm" else ["node", "app.cjs", "both", handler]
    env = databases | {"HANDLER": handler}
    bare, agent = stopped(
        [Shop(words, ["--agent", agent], apps, tmp_path, env) for agent in ("off", "node")]
    )
    assert agent.answered and agent.finished >= bare.finished, (bare, agent)
    assert agent.finished or handler == "forgets the queue", agent
    assert agent.killed <= bare.killed and agent.killed == (handler == "never exits"), agent
    assert agent.cut == (not agent.finished), agent
    assert agent.used <= max(bare.used, JOB) + SLACK, (bare, agent)
    assert not handler or agent.status == bare.status, (bare, agent)
    assert handler or not bare.answered, bare  # else this would show nothing


def test_a_forgotten_queue_is_saved_if_the_signal_waits(
    apps: Path, databases: dict[str, str], tmp_path: Path
):
    words = ["node", "app.cjs", "both", "forgets the queue"]
    options = ["--agent", "node", "--drain-when", "before-signal"]
    [found] = stopped([Shop(words, options, apps, tmp_path, databases)])
    assert (found.answered, found.finished, found.killed, found.status) == (True, True, False, 0)
