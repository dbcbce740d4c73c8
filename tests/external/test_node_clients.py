"""The Node.js agent with the clients of real databases: a request that is in flight at the stop can
still use them, they are closed after it and as they should be, and the status is 0.

MongoDB's driver and Mongoose talk to agent/mongo.cjs, for no registry has a MongoDB.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
import redis

from databases import mariadb, postgres, redis_server, sql
from node_agent import node
from processes import BOUND, Lines, npm_packages, wait_until

APPS = Path(__file__).with_name("agent")
PRISMA = Path(__file__).with_name("prisma")

pytestmark = [pytest.mark.node, pytest.mark.slow, pytest.mark.timeout(300)]


@pytest.fixture(scope="module")
def apps(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the applications and their packages."""
    assert request.config.cache is not None
    folder = tmp_path_factory.mktemp("apps")
    for file in APPS.glob("*.cjs"):
        shutil.copy(file, folder)
    modules = npm_packages(request.config.cache, APPS / "package.json")
    (folder / "node_modules").symlink_to(modules)
    return folder


@pytest.fixture
def with_prisma(request: pytest.FixtureRequest, tmp_path: Path) -> Path:
    """A folder with the application and a client that Prisma has generated."""
    assert request.config.cache is not None
    modules = npm_packages(request.config.cache, PRISMA / "package.json")
    (tmp_path / "node_modules").symlink_to(modules)
    shutil.copy(PRISMA / "schema.prisma", tmp_path)
    shutil.copy(APPS / "clients.cjs", tmp_path)
    words = ["node_modules/.bin/prisma", "generate", "--schema", "schema.prisma"]
    # Its engine for migrations, which would be downloaded, is not used.
    env = os.environ | {"PRISMA_SCHEMA_ENGINE_BINARY": "/bin/true", "CHECKPOINT_DISABLE": "1"}
    subprocess.run(words, cwd=tmp_path, env=env, capture_output=True, check=True, timeout=120)
    return tmp_path


@contextlib.contextmanager
def stopped(kind: str, apps: Path, **env: str) -> Iterator[None]:
    """Stop an application in the middle of a request; it has done all of it, and exits with 0."""
    with node("", kind, ["node", "clients.cjs"], apps, **env) as run:
        run.stopped_within_a_request("/700")
        assert run.lines.rest() == []
        yield


@pytest.mark.parametrize("kind", ["pg Pool", "pg Client"])
def test_postgres(kind: str, apps: Path):
    with postgres() as env:
        with stopped(kind, apps, **env):
            ended = "select sessions > 0 and sessions_abandoned = 0 from pg_stat_database "
            ended += "where datname = 'postgres'"
            wait_until(lambda: sql(env, ended) == "t", "no session was abandoned")
        with node("", kind, ["node", "clients.cjs"], apps, **env) as run:
            run.begin()
            run.process.kill()  # so that the test can fail
            abandoned = ended.replace("= 0", "> 0")
            wait_until(lambda: sql(env, abandoned) == "t", "a session was abandoned")


def test_prisma(with_prisma: Path):
    with postgres() as env:
        sql(env, 'create table "Work" (id int primary key)')
        with stopped("Prisma", with_prisma, **env):
            ended = "select sessions > 0 and sessions_abandoned = 0 from pg_stat_database "
            ended += "where datname = 'postgres'"
            wait_until(lambda: sql(env, ended) == "t", "no session was abandoned")


@pytest.mark.parametrize("kind", ["ioredis", "redis"])
def test_redis(kind: str, apps: Path, tmp_path: Path):
    with redis_server(tmp_path) as port, redis.Redis(port=port) as client:
        with stopped(kind, apps, REDIS_PORT=str(port)):
            assert client.get("work") == b"3"
            wait_until(lambda: len(client.client_list()) == 1, "only the test's is left")
        if kind == "ioredis":  # the other one leaves without a word
            assert "cmdstat_quit" in client.info("commandstats")


@pytest.mark.parametrize("kind", ["mysql2 pool", "mysql2 connection"])
def test_mariadb(kind: str, apps: Path):
    with mariadb() as port:
        env = {"MYSQL_PORT": str(port)}
        with stopped(kind, apps, **env):
            assert aborted(apps, port) == 0
        with node("", kind, ["node", "clients.cjs"], apps, **env) as run:
            run.begin()
            run.process.kill()  # so that the test can fail
            wait_until(lambda: aborted(apps, port) == 1, "the server has noticed")


def aborted(apps: Path, port: int) -> int:
    """Return how many clients of the MariaDB have gone without a word."""
    script = (
        f"require('mysql2/promise').createConnection({{ host: '127.0.0.1', port: {port}, "
        "user: 'root' }).then(async (it) => { "
        "const [[row]] = await it.query(\"show global status like 'Aborted_clients'\"); "
        "console.log(row.Value); await it.end() })"
    )
    done = subprocess.run(["node", "-e", script], cwd=apps, capture_output=True, timeout=BOUND)
    return int(done.stdout)


@pytest.mark.parametrize("kind", ["mongodb", "mongoose"])
def test_mongodb(kind: str, apps: Path):
    with subprocess.Popen(["node", "mongo.cjs"], cwd=apps, stdout=subprocess.PIPE) as server:
        try:
            assert server.stdout is not None
            lines = Lines(server.stdout.fileno())
            port = lines.next().rpartition(" ")[2]
            with stopped(kind, apps, MONGO_PORT=port):
                lines.until("endSessions")  # it says goodbye, after all work
                assert lines.seen.count("insert") == 3
        finally:
            server.kill()


# --- jobs that the agent does not know -----------------------------------------------------------

OTHER_QUEUE = """
const pool = new (require('pg').Pool)()
const redis = { host: '127.0.0.1', port: Number(process.env.REDIS_PORT) }
const server = require('http').createServer((request, response) => response.end())
const work = async () => {
  console.log('begin')
  for (;;) await pool.query('select pg_sleep(0.02)')
}
server.listen(0, '127.0.0.1', () => {
  console.log(`port ${server.address().port}`)
  const queue = new (require(process.argv[2]))('mails', { redis })
  queue.process(process.argv[2] === 'bull' ? work : () => work())
  process.argv[2] === 'bull' ? queue.add({}) : queue.createJob({}).save()
})
"""


@pytest.mark.parametrize(("library", "prefix"), [("bull", "bull"), ("bee-queue", "bq")])
def test_a_job_of_another_queue_does_not_fail_for_a_client_that_is_closed(
    library: str, prefix: str, apps: Path, tmp_path: Path
):
    """It would not be begun anew then, as one that has been cut is."""
    (apps / "other.cjs").write_text(OTHER_QUEUE)
    with contextlib.ExitStack() as stack:
        port = stack.enter_context(redis_server(tmp_path))
        env = stack.enter_context(postgres()) | {"REDIS_PORT": str(port)}
        client = stack.enter_context(redis.Redis(port=port))
        words = ["node", "other.cjs"]
        run = stack.enter_context(node("", library, words, apps, **env))
        agent = run.begin()
        run.lines.until("begin")
        if library == "bull":
            agent.send(type="ask", id=0)
            assert "Bull is not known" in str(agent.read("trouble")["why"])
        assert agent.stop() == "agent"
        run.terminate()
        assert run.wait() == 0
        assert client.llen(f"{prefix}:mails:active") == 1
        assert not client.exists(f"{prefix}:mails:failed")
