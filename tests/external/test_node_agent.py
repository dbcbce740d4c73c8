"""The Node.js agent with real frameworks, WebSockets, BullMQ on a real Redis and pg on a real
PostgreSQL: applications without a line of shutdown code, restarted under load.

Two restarts of each replica here; for ten, and a line for each way:
PYTHONPATH=tests/support python tests/external/test_node_agent.py NODE_MODULES 10
"""

from __future__ import annotations

import contextlib
import itertools
import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import pytest
import redis

from control_api import get
from databases import SHOP, postgres, redis_server, sql
from kept_connections import Clients, Instance, Sent
from load_balancer import free_ports
from node_agent import Node, node
from processes import (
    BOUND,
    GRACEWRAP,
    INSTALLED,
    Run,
    environment,
    npm_packages,
    running,
    wait_until,
)
from real_servers import haproxy_before

APPS = Path(__file__).with_name("agent")
PROPAGATION, LONGEST, SLACK = 1.0, 4.0, 3.0  # seconds; the slack is for a loaded machine
JOBS = (400, 1500, 4000)  # milliseconds
RESTARTS = int(os.environ.get("GRACEWRAP_RESTARTS", "1"))

pytestmark = [pytest.mark.node, pytest.mark.slow, pytest.mark.timeout(600)]


@pytest.fixture(scope="module")
def apps(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the applications and their packages."""
    assert request.config.cache is not None
    modules = npm_packages(request.config.cache, APPS / "package.json")
    return folder_of(tmp_path_factory.mktemp("apps"), modules)


def folder_of(folder: Path, modules: Path) -> Path:
    for file in APPS.glob("*.cjs"):
        shutil.copy(file, folder)
    (folder / "node_modules").symlink_to(modules)
    return folder


@contextlib.contextmanager
def started(apps: Path, file: str, *words: str, **env: str) -> Iterator[Node]:
    """Run one of the applications under the agent, with the test as gracewrap."""
    with node("", words[-1], ["node", file, *words[:-1]], apps, **env) as run:
        yield run


# --- frameworks ----------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["express", "fastify", "hono", "koa", "nest"])
def test_each_framework_is_counted_and_finished(kind: str, apps: Path):
    with started(apps, "frameworks.cjs", kind) as run:
        agent = run.begin()
        slow = run.get("/1000")
        agent.until(requests=1)
        assert agent.stop() == "agent"
        run.terminate()
        status, headers, body = slow.result(BOUND)
        assert (status, headers["Connection"], body) == (200, "close", b"done")
        assert run.wait() == 0


SERVER = """
require('http').createServer((request, response) => {
  setTimeout(() => response.end('done'), Number(request.url.slice(1)))
}).listen(0, '127.0.0.1', function () { console.log('port ' + this.address().port) })
"""


@pytest.mark.parametrize("load", ["require('signal-exit3')", "require('signal-exit').onExit"])
def test_the_listeners_of_signal_exit_are_no_handler(load: str, apps: Path):
    """They end the process as the signal would; what they call is called at any exit."""
    with node(f"{load}(() => console.log('left'))" + SERVER, folder=apps) as run:
        run.stopped_within_a_request("/700")
        assert run.lines.rest() == ["left"]
    handled = f"{load}(() => {{}}); process.on('SIGTERM', () => process.exit(3))" + SERVER
    with node(handled, folder=apps) as run:
        agent = run.begin()
        assert agent.stop() == "own"
        run.terminate()
        assert run.wait() == 3


TELEMETRY = {
    **{f"OTEL_{kind}_EXPORTER": "none" for kind in ("TRACES", "METRICS", "LOGS")},
    "OTEL_NODE_RESOURCE_DETECTORS": "none",
    "OTEL_LOG_LEVEL": "debug",
}


def test_the_listener_of_opentelemetry_is_no_handler_and_is_called_last(apps: Path):
    """Loaded without code, it sends what it has on SIGTERM; the process goes on serving."""
    register = "@opentelemetry/auto-instrumentations-node/register"
    words = ["node", "--require", register]
    script = "console.debug = console.log\n" + SERVER.replace(
        "response.end", "console.log('answered') || response.end"
    )
    with node(script, "traced.js", words, apps, **TELEMETRY) as run:
        agent = run.connect()
        run.port = int(run.lines.until("port ").rpartition(" ")[2])
        slow = run.get("/700")
        agent.until(requests=1)
        assert agent.stop() == "agent"
        run.terminate()
        assert slow.result(BOUND)[2] == b"done"
        assert run.wait() == 0
        rest = run.lines.rest()
    [sent] = [at for at, line in enumerate(rest) if "SDK terminated" in line]
    assert rest.index("answered") < sent
    handled = "process.on('SIGTERM', () => process.exit(3))\n" + script
    with node(handled, "handled.js", words, apps, **TELEMETRY) as run:
        agent = run.connect()
        run.lines.until("port ")
        assert agent.stop() == "own"
        run.terminate()
        assert run.wait() == 3


APOLLO = """
const { ApolloServer } = require('@apollo/server')
const serverWillStop = async () => console.log('stops')
const plugin = { serverWillStart: async () => ({ serverWillStop }) }
const slow = () => new Promise((resolve) => setTimeout(() => {
  console.log('answered')
  resolve('done')
}, 700))
const server = new ApolloServer({
  typeDefs: 'type Query { slow: String }',
  resolvers: { Query: { slow } },
  csrfPrevention: false,
  plugins: [plugin]
})
require('@apollo/server/standalone').startStandaloneServer(server, { listen: { port: 0 } })
  .then(({ url }) => console.log(`port ${new URL(url).port}`))
"""


def test_the_listener_of_apollo_server_is_no_handler_and_is_called_last(apps: Path):
    """It stops Apollo Server and sends the process the signal, whatever else that works on."""
    with node(APOLLO, "apollo.js", folder=apps) as run:
        agent = run.begin()
        slow = run.get("/?query=%7Bslow%7D")
        agent.until(requests=1)
        assert agent.stop() == "agent"
        run.terminate()
        assert b"done" in slow.result(BOUND)[2]
        assert run.wait() == 0
        assert run.lines.rest() == ["answered", "stops"]


@pytest.mark.parametrize("kind", ["ws", "socket.io", "polling"])  # the last one is Socket.IO too
def test_websockets_are_counted_and_closed_one_after_another(kind: str, apps: Path):
    with started(apps, "sockets.cjs", kind) as run:
        agent = run.connect()
        words = ["node", "client.cjs", kind, str(run.listens()), "20"]
        with (
            subprocess.Popen(words, cwd=apps, stdout=subprocess.PIPE, text=True) as client,
            contextlib.ExitStack() as stack,
        ):
            stack.callback(client.kill)  # it goes on as long as the server does
            assert client.stdout is not None and client.stdout.readline() == "open\n"
            agent.until(websockets=20, requests=0)
            assert agent.stop(streams_ms=2000) == "agent"
            run.terminate()
            closed, times = set(), []
            for line in client.stdout:
                closed.add(line.strip())
                times.append(time.monotonic())
        assert closed == ({"1001"} if kind == "ws" else {"transport close"})
        assert len(times) == 20 and times[-1] - times[0] > 1.0, times
        assert run.wait() == 0


# --- BullMQ --------------------------------------------------------------------------------------


BESIDES = ("queue", "events", "flow")


@pytest.mark.parametrize("library", ["bullmq", "bullmq5", "bullmq4"])
def test_bullmq_jobs_are_counted_named_and_finished(library: str, apps: Path, tmp_path: Path):
    with (
        redis_server(tmp_path) as port,
        started(apps, "jobs.cjs", library, "8", "1500", REDIS_PORT=str(port)) as run,
    ):
        agent = run.connect()
        begun = {run.lines.until("begin").split()[1] for _ in range(3)}
        (queue,) = agent.ask()["jobs"]
        assert (queue["queue"], queue["active"], set(queue["ids"])) == ("mails", 3, begun)
        assert agent.stop() == "agent"
        run.terminate()
        assert run.wait() == 0
        said = run.lines.rest()
        assert {line for line in said if "closed" in line} == {f"closed {one}" for one in BESIDES}
        ended = [line for line in said if line.startswith(("begin", "end"))]
        assert set(ended) == {f"end {job}" for job in begun}  # and no other has been begun
        with redis.Redis(port=port) as client:
            assert client.zcard("bull:mails:completed") == 3
            assert client.llen("bull:mails:active") == 0 and client.llen("bull:mails:wait") == 5


PAUSES = """
process.on('SIGTERM', async () => {
  await worker.pause()
  console.log('paused')
  process.exit(0)
})
"""


@pytest.mark.parametrize("library", ["bullmq", "bullmq5", "bullmq4"])
def test_a_handler_that_pauses_its_worker_still_waits_for_the_jobs(
    library: str, apps: Path, tmp_path: Path
):
    """The agent has paused it before, and BullMQ's pause() does nothing the second time."""
    (apps / "pauses.cjs").write_text((apps / "jobs.cjs").read_text() + PAUSES)
    with (
        redis_server(tmp_path) as port,
        started(apps, "pauses.cjs", library, "3", "1500", REDIS_PORT=str(port)) as run,
    ):
        agent = run.connect()
        for _ in range(3):
            run.lines.until("begin")
        assert agent.stop() == "own"
        run.terminate()
        assert run.wait() == 0
        *ended, last = run.lines.rest()
        assert len([line for line in ended if line.startswith("end")]) == 3 and last == "paused"


TELLS = """
process.on('SIGUSR2', () => console.log('runs', worker.isRunning(), worker.isPaused()))
setInterval(() => {}, 1e6)
worker.waitUntilReady().then(() => console.log('ready'))
"""


@pytest.mark.parametrize("library", ["bullmq", "bullmq5", "bullmq4"])
@pytest.mark.parametrize("runs", [True, False])
def test_a_cancelled_drain_starts_no_worker_that_has_not_been_started(
    runs: bool, library: str, apps: Path, tmp_path: Path
):
    autorun = f"connection, autorun: {str(runs).lower()}, "
    script = (apps / "jobs.cjs").read_text().replace("{ connection, c", "{ " + autorun + "c")
    assert autorun in script
    (apps / "starts.cjs").write_text(script + TELLS)
    with (
        redis_server(tmp_path) as port,
        started(apps, "starts.cjs", library, "0", "0", REDIS_PORT=str(port)) as run,
    ):
        agent = run.connect()
        run.lines.until("ready")
        for what in ("drain", "undrain"):
            agent.send(type=what)
            agent.read("state")
            run.process.send_signal(signal.SIGUSR2)
            state = run.lines.until("runs")
            assert state.endswith("false")  # the application has not paused it
        assert state == f"runs {str(runs).lower()} false"


BY_HAND = """
const { Queue, Worker } = require(process.argv[2])
const connection = { port: Number(process.env.REDIS_PORT), maxRetriesPerRequest: null }
const queue = new Queue('mails', { connection })
const worker = new Worker('mails', null, { connection })
const work = async () => {
  for (;;) {
    const job = await worker.getNextJob('token')
    if (!job) continue
    console.log(`begin ${job.id}`)
    await new Promise((resolve) => process.once('SIGUSR2', resolve))
    await job.moveToCompleted('done', 'token', false)
    console.log(`end ${job.id}`)
  }
}
queue.add('mail', {}).then(() => queue.add('mail', {})).then(work)
"""


@pytest.mark.parametrize("library", ["bullmq", "bullmq5", "bullmq4"])
def test_jobs_that_the_application_fetches_are_finished_and_no_more_are_fetched(
    library: str, apps: Path, tmp_path: Path
):
    """Closing its worker, whose jobs they are no more, would make them fail; and one that is paused
    says at once that there is no job, so that a loop of questions never lets the process hear."""
    (apps / "by_hand.cjs").write_text(BY_HAND)
    with (
        redis_server(tmp_path) as port,
        started(apps, "by_hand.cjs", library, REDIS_PORT=str(port)) as run,
    ):
        agent = run.connect()
        begun = run.lines.until("begin").split()[1]
        agent.send(type="drain")
        jobs = [{"queue": "mails", "active": 1, "ids": [begun]}]
        agent.until(jobs=jobs)
        assert agent.stop() == "agent"
        run.terminate()
        assert agent.read("state")["heard"] is True
        agent.until(jobs=jobs)
        run.process.send_signal(signal.SIGUSR2)
        assert run.wait() == 0
        assert run.lines.rest() == [f"end {begun}"]
        with redis.Redis(port=port) as client:
            assert client.zcard("bull:mails:completed") == 1
            assert client.llen("bull:mails:wait") == 1


@pytest.mark.parametrize("library", ["bullmq", "bullmq5", "bullmq4"])
def test_a_loop_that_fetches_jobs_still_lets_the_process_hear(
    library: str, apps: Path, tmp_path: Path
):
    (apps / "by_hand.cjs").write_text(BY_HAND)
    with (
        redis_server(tmp_path) as port,
        started(apps, "by_hand.cjs", library, REDIS_PORT=str(port)) as run,
    ):
        agent = run.connect()
        run.lines.until("begin")
        agent.send(type="drain")
        agent.read("state")
        run.process.send_signal(signal.SIGUSR2)
        run.lines.until("end")
        agent.until(jobs=[{"queue": "mails", "active": 0, "ids": []}])
        agent.send(type="undrain")
        run.lines.until("begin")


@pytest.mark.parametrize("library", ["bullmq", "bullmq5", "bullmq4"])
def test_a_worker_goes_on_when_a_drain_is_taken_back(library: str, apps: Path, tmp_path: Path):
    with (
        redis_server(tmp_path) as port,
        started(apps, "jobs.cjs", library, "5", "500", REDIS_PORT=str(port)) as run,
    ):
        agent = run.connect()
        for _ in range(3):
            run.lines.until("begin")
        agent.send(type="drain")
        agent.read("state")
        agent.until(jobs=[{"queue": "mails", "active": 0, "ids": []}])
        assert [run.lines.next()[:4] for _ in range(3)] == ["end "] * 3
        agent.send(type="undrain")
        for _ in range(2):
            run.lines.until("end")


def test_jobs_that_are_cut_are_counted_and_named(apps: Path, tmp_path: Path):
    report = tmp_path / "report.json"
    with redis_server(tmp_path) as port:
        words = [
            *("--preset", "bullmq", "--shutdown-timeout", "3s", "--report", str(report)),
            *("--health-listen", f"unix:{tmp_path}/health"),
            *("--", "node", "jobs.cjs", "bullmq", "8", "600000"),
        ]
        env = environment(REDIS_PORT=str(port))
        with running(*words, command=INSTALLED, cwd=apps, env=env) as run:
            begun = sorted(run.line().removeprefix("begin ") for _ in range(3))
            run.send(signal.SIGTERM)
            counted = 'gracewrap_agent_in_flight{program="node",kind="jobs",queue="mails"} 3'
            wait_until(lambda: counted in get(tmp_path / "health", "/metrics")[1], counted)
            assert run.wait() == 137
    found = json.loads(report.read_text())
    assert (found["interrupted"], found["killed"][0].split()[0]) == (3, "node")
    [queue] = found["interrupted_jobs"]
    assert (queue["queue"], queue["active"], sorted(queue["ids"])) == ("mails", 3, begun)


WAITS = """
const { Queue, QueueEvents, Worker } = require(process.argv[2])
const connection = { port: Number(process.env.REDIS_PORT), maxRetriesPerRequest: null }
const queue = new Queue('sums', { connection })
const events = new QueueEvents('sums', { connection })
const worker = new Worker('sums', () => new Promise((resolve) => {
  setTimeout(resolve, 400, 'done')
}), { connection })
const server = require('http').createServer(async (request, response) => {
  const job = await queue.add('sum', {})
  response.end(await job.waitUntilFinished(events))
})
events.waitUntilReady().then(() => server.listen(0, '127.0.0.1', () => {
  console.log(`port ${server.address().port}`)
}))
"""


@pytest.mark.parametrize("library", ["bullmq", "bullmq5", "bullmq4"])
def test_a_request_that_waits_for_a_job_is_answered(library: str, apps: Path, tmp_path: Path):
    """By a worker of the same process, which else would take no more jobs."""
    (apps / "waits.cjs").write_text(WAITS)
    with (
        redis_server(tmp_path) as port,
        started(apps, "waits.cjs", library, REDIS_PORT=str(port)) as run,
    ):
        agent = run.begin()
        requests = [run.get("/") for _ in range(3)]
        agent.until(requests=3)
        assert agent.stop() == "agent"
        requests.append(run.get("/"))
        agent.until(requests=4)
        run.terminate()
        assert [request.result(BOUND)[2] for request in requests] == [b"done"] * 4
        assert run.wait() == 0
        with redis.Redis(port=port) as client:
            assert client.zcard("bull:sums:completed") == 4


def test_check_names_the_libraries_the_worker_and_the_clients(apps: Path, tmp_path: Path):
    with redis_server(tmp_path) as port:
        words = [*GRACEWRAP, "check", "--agent", "--", "node", "jobs.cjs", "bullmq5", "2", "200"]
        env = {**os.environ, "REDIS_PORT": str(port)}
        done = subprocess.run(
            words, cwd=apps, env=env, capture_output=True, text=True, timeout=60, check=False
        )
    assert done.returncode == 0, done.stdout + done.stderr
    versions = [
        json.loads((apps / "node_modules" / name / "package.json").read_text())["version"]
        for name in ("bullmq5", "ioredis")
    ]
    assert "bullmq {}, ioredis {}".format(*versions) in done.stdout, done.stdout
    assert "workers    queue mails\n" in done.stdout and "ioredis client" in done.stdout
    assert "BullMQ queue object" in done.stdout
    assert "exit status 0" in done.stdout and "problem" not in done.stdout


# --- the stack -----------------------------------------------------------------------------------


class Replica:
    """One instance after another, on the same ports; each is what gracewrap wraps."""

    def __init__(
        self, role: str, apps: Path, folder: Path, env: dict[str, str], options: list[str]
    ) -> None:
        self.instance = Instance(*free_ports(2))
        self._report = folder / f"{self.instance.port}.json"
        health = f"127.0.0.1:{self.instance.health}"
        self._words = [
            *("--health-listen", health, "--ready", "tcp", "--report", str(self._report)),
            *("--propagation-delay", f"{PROPAGATION}s", *options),
            *("--", "node", "app.cjs", role),
        ]
        self._log, self._apps = folder / f"{self.instance.port}.log", apps
        self._env = environment(**env, PORT=str(self.instance.port))
        self.used: list[float] = []
        self.start()

    def start(self) -> None:
        with self._log.open("ab") as log:
            self.run = Run(*self._words, command=INSTALLED, stdout=log, stderr=log, cwd=self._apps,
                           env=self._env)  # fmt: skip

    def restart(self) -> None:
        """Stop it, and start the next one."""
        self.run.send(signal.SIGTERM)
        self.run.wait()
        self.run.close()
        self.used.append(json.loads(self._report.read_text())["used_seconds"])
        self.start()


class Outcome(NamedTuple):
    """What rolling restarts came to."""

    sent: Sent
    orders: int  # that were answered
    interrupted: int  # runs of jobs that were begun and not finished
    twice: int  # jobs with more than one run
    lost: int  # answered orders whose job was never finished
    longest: float  # seconds of a stop


def roll(
    layout: tuple[str, ...],
    agent: str,
    restarts: int,
    apps: Path,
    folder: Path,
    behind_haproxy: bool = False,
) -> Outcome:
    """Restart two replicas of each role in turn, under 60 requests a second.

    Args:
        layout: The roles; the first one serves.
        agent: The setting.
        restarts: How many of each replica.
        behind_haproxy: Or behind a balancer of connections.
    """
    with contextlib.ExitStack() as stack:
        port = stack.enter_context(redis_server(folder))
        env = stack.enter_context(postgres()) | {"REDIS_PORT": str(port)}
        sql(env, SHOP)
        replicas = [
            [Replica(role, apps, folder, env, ["--agent", agent]) for _ in range(2)]
            for role in layout
        ]
        for one in (one for pair in replicas for one in pair):
            stack.callback(lambda one=one: one.run.close())
        instances = [one.instance for one in replicas[0]]
        proxy = stack.enter_context(haproxy_before(instances, folder)) if behind_haproxy else None
        clients = Clients(
            instances,
            lambda n: f"POST /orders/{n}?ms={50 + n % 10 * 50}&job={JOBS[n % 3]}",
            via=None if proxy is None else proxy.port,
        )

        def serves() -> bool:
            """The proxy asks at times of its own."""
            return proxy is None or proxy.up() == 2

        def both_are_ready() -> bool:
            return len(clients.ready) == 2 and serves()

        wait_until(serves, "the proxy has found both ready")
        with clients:
            for turn in range(2 * restarts):
                clients.wait(both_are_ready, "both are ready")
                clients.wait_for(60)
                for pair in replicas:
                    pair[turn % 2].restart()
            clients.wait(both_are_ready, "both are ready")
            clients.wait_for(60)
            sent = clients.stop()
        with contextlib.suppress(TimeoutError):  # BullMQ runs again what was cut, 30 s later
            wait_until(lambda: not unfinished(env), "all jobs are finished")
        answered = ",".join(f"({number})" for number in clients.good)
        lost = (
            f"select count(*) from (values {answered}) a(number) where not exists "
            "(select from runs where runs.number = a.number and finished)"
        )
        twice = "select count(*) from (select number from runs group by 1 having count(*) > 1) x"
        return Outcome(
            sent,
            sent.good,
            int(sql(env, "select count(*) from runs where not finished")),
            int(sql(env, twice)),
            int(sql(env, lost)),
            max(used for pair in replicas for one in pair for used in one.used),
        )


def unfinished(env: dict[str, str]) -> int:
    query = (
        "select count(*) from orders o where not exists "
        "(select from runs r where r.number = o.number and finished)"
    )
    return int(sql(env, query))


LAYOUTS = {"one process": ("both",), "two processes": ("web", "worker")}


@pytest.mark.parametrize(
    ("layout", "behind_haproxy"),
    [*itertools.product(LAYOUTS, (False, True))],
)
def test_nothing_is_lost_with_the_agent(
    layout: str, behind_haproxy: bool, apps: Path, tmp_path: Path
):
    found = roll(LAYOUTS[layout], "node", RESTARTS, apps, tmp_path, behind_haproxy)
    assert (found.sent.failed, found.interrupted, found.twice, found.lost) == (0, 0, 0, 0), found
    assert found.longest <= PROPAGATION + LONGEST + SLACK


def test_without_the_agent_requests_and_jobs_are_lost(apps: Path, tmp_path: Path):
    """Else the load would show nothing."""
    found = roll(LAYOUTS["one process"], "off", 1, apps, tmp_path)
    assert found.sent.failed > 0 and found.interrupted > 0, found


def main(modules: Path, restarts: int) -> None:
    """Print one line for each way."""
    ways = itertools.product(LAYOUTS.items(), (False, True), ("node", "off"))
    for (layout, roles), behind_haproxy, agent in ways:
        with tempfile.TemporaryDirectory() as made:
            folder = Path(made)
            (folder / "apps").mkdir()
            apps = folder_of(folder / "apps", modules)
            found = roll(roles, agent, restarts, apps, folder, behind_haproxy)
        front = "HAProxy" if behind_haproxy else "a balancer of connections"
        print(f"{layout} behind {front}, agent {agent}: {found}", flush=True)


if __name__ == "__main__":
    main(Path(sys.argv[1]), int(sys.argv[2]))
