"""Real servers and job workers, stopped under load with their ready-made settings in configs/:
nothing is lost.

For HTTP that means: what the load balancer handed over before /readyz turned 503 is answered in
full.  For jobs: every job that was queued is done exactly once, when another worker has had its
turn.
"""

from __future__ import annotations

import contextlib
import json
import os
import shlex
import shutil
import signal
import socket
import subprocess
import sys
import tomllib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import pytest
import redis
import tomli_w

from load_balancer import Load, answered, free_ports, mixed, slow
from processes import BOUND, INSTALLED, ROOT, Run, environment, npm_packages, require
from real_servers import PROPAGATION, SERVERS, SLACK, nginx_command, upstream

INTERVAL = 0.25  # gracewrap's own default
QUIET, LINGER = 2.0, 0.5  # of the ready-made settings

pytestmark = pytest.mark.slow


def config(name: str, folder: Path, command: list[str], tcp: str = "") -> tuple[str, str]:
    """Return the option for a ready-made file, with *command* in the place of its own."""
    settings = tomllib.loads((ROOT / "configs" / f"{name}.toml").read_text())
    file = folder / f"{name}.toml"
    text = tomli_w.dumps({**settings, "command": command})
    file.write_text(text.replace('tcp = "auto"', tcp or 'tcp = "auto"'))
    return "--config", str(file)


def read(report: Path) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(report.read_text())
    return found


@pytest.fixture(scope="session")
def packages(request: pytest.FixtureRequest) -> Path:
    """Where Node.js finds what tests/package.json names."""
    return npm_packages(request.config.cache, Path(__file__).with_name("package.json"))


# --- HTTP servers --------------------------------------------------------------------------------


class Server(NamedTuple):
    """How a server is started for a test, and what of its stop is peculiar."""

    command: Callable[
        [Path, int, int], list[str]
    ]  # of a folder, the port, and the port of a server behind it
    config: str = ""  # of configs/; "": as it is called here
    rate: float = 40.0
    longest: int = 1500  # milliseconds
    holds: bool = True  # a connection that never sends anything can be open meanwhile
    asked_by: int = signal.SIGTERM  # the stop request: an image may have a STOPSIGNAL of its own


def nginx(folder: Path, port: int, behind: int) -> list[str]:
    return nginx_command(folder, port, behind)


def haproxy(folder: Path, port: int, behind: int) -> list[str]:
    require(shutil.which("haproxy"), "haproxy")
    file = folder / "haproxy.cfg"
    file.write_text(
        f"""
defaults
  mode http
  timeout connect 5s
  timeout client 60s
  timeout server 60s
frontend web
  bind 127.0.0.1:{port}
  default_backend slow
backend slow
  server one 127.0.0.1:{behind}
"""
    )
    return ["haproxy", "-db", "-f", str(file)]


HTTPD = """
ServerName localhost
ServerRoot {folder}
PidFile {folder}/httpd.pid
ErrorLog {folder}/error.log
Listen 127.0.0.1:{port}
LoadModule mpm_event_module {modules}/mod_mpm_event.so
LoadModule authz_core_module {modules}/mod_authz_core.so
LoadModule proxy_module {modules}/mod_proxy.so
LoadModule proxy_http_module {modules}/mod_proxy_http.so
{user}
ProxyPass / http://127.0.0.1:{behind}/
"""


def httpd(folder: Path, port: int, behind: int) -> list[str]:
    require(shutil.which("apache2"), "apache2 (apache2-bin)")
    file = folder / "httpd.conf"
    modules = "/usr/lib/apache2/modules"
    user = "User www-data\nGroup www-data" if os.geteuid() == 0 else ""  # no worker is root
    file.write_text(
        HTTPD.format(folder=folder, port=port, behind=behind, modules=modules, user=user)
    )
    return ["apache2", "-DFOREGROUND", "-f", str(file)]


def uwsgi(folder: Path, port: int, behind: int) -> list[str]:
    require(
        shutil.which("uwsgi") and Path("/usr/lib/uwsgi/plugins/python3_plugin.so").exists(),
        "uwsgi-core, uwsgi-plugin-python3",
    )
    file = folder / "uwsgi.ini"
    file.write_text(
        f"""
[uwsgi]
plugin = python3
http11-socket = 127.0.0.1:{port}
master = true
processes = 4
threads = 16
wsgi-file = {SERVERS / "wsgi.py"}
disable-logging = true
"""
    )
    return [
        "uwsgi",
        "--ini",
        str(file),
        "--hook-master-start",
        "unix_signal:15 gracefully_kill_them_all",
    ]


def unicorn(folder: Path, port: int, behind: int) -> list[str]:
    require(shutil.which("unicorn"), "unicorn")
    file = folder / "unicorn.rb"
    file.write_text(f'worker_processes 8\nlisten "127.0.0.1:{port}"\n')
    return ["unicorn", "-c", str(file), str(SERVERS / "config.ru")]


def python(module: str, *arguments: str) -> Callable[[Path, int, int], list[str]]:
    """Return what makes the command of a server that is a Python package."""

    def command(folder: Path, port: int, behind: int) -> list[str]:
        return [sys.executable, "-m", module, *(word.format(port=port) for word in arguments)]

    return command


HTTP = {
    "any-http-server": Server(lambda folder, port, behind: [sys.executable, "plain.py", str(port)]),
    "nginx": Server(nginx),
    "haproxy": Server(haproxy),
    "httpd": Server(httpd),
    "httpd-stopsignal": Server(httpd, config="httpd", asked_by=signal.SIGWINCH),
    "uwsgi": Server(uwsgi),
    "unicorn": Server(unicorn, rate=8, longest=800, holds=False),
    "gunicorn": Server(
        python(
            "gunicorn",
            "--graceful-timeout",
            "20",
            "-w",
            "2",
            "--threads",
            "40",
            "-b",
            "127.0.0.1:{port}",
            "wsgi:application",
        )
    ),
    "gunicorn-sync": Server(
        python(
            "gunicorn",
            "--graceful-timeout",
            "20",
            "-w",
            "8",
            "-b",
            "127.0.0.1:{port}",
            "wsgi:application",
        ),
        config="gunicorn",
        rate=8,
        longest=800,
        holds=False,
    ),
    "uvicorn": Server(
        python(
            "uvicorn", "--timeout-graceful-shutdown", "20", "--port", "{port}", "asgi:application"
        )
    ),
    "uvicorn-workers": Server(
        python(
            "uvicorn",
            "--timeout-graceful-shutdown",
            "20",
            "--workers",
            "2",
            "--port",
            "{port}",
            "asgi:application",
        ),
        config="uvicorn",
    ),
    "hypercorn": Server(
        python(
            "hypercorn", "--graceful-timeout", "20", "-b", "127.0.0.1:{port}", "asgi:application"
        )
    ),
}


BEHIND = ("nginx", "haproxy", "httpd", "httpd-stopsignal")  # they have a server behind them


@pytest.mark.parametrize("name", HTTP)
def test_every_request_is_answered(name: str, tmp_path: Path, start: Callable[..., Run]):
    server = HTTP[name]
    port, health = free_ports(2)
    report = tmp_path / "report.json"
    options = [
        "--health-listen",
        f"127.0.0.1:{health}",
        "--ready",
        "tcp",
        "--propagation-delay",
        f"{PROPAGATION}s",
    ]
    with contextlib.ExitStack() as stack:
        behind = stack.enter_context(upstream()) if name in BEHIND else 0
        log = stack.enter_context((tmp_path / "log").open("wb"))
        configured = config(server.config or name, tmp_path, server.command(tmp_path, port, behind))
        where = {
            "cwd": SERVERS,
            "env": environment(PYTHONDONTWRITEBYTECODE="1"),
            "stdout": log,
            "stderr": log,
        }
        run = start(*configured, *options, "--report", report, command=INSTALLED, **where)
        with Load([(port, health)], mixed(50, server.longest), server.rate) as load:
            load.more(10, 15.0)
            if server.holds:
                stack.enter_context(socket.create_connection(("127.0.0.1", port), BOUND))
            load.until(lambda: load.backends[0].in_flight > 3, "it is busy")
            run.send(server.asked_by)
            status = run.wait()
            tally = load.stop()
    found = read(report)
    print(name, tally, found["summary"])
    assert not tally.failures, (tally, found)
    assert tally.good + tally.turned_away == tally.sent
    assert status == 0, found
    assert not found["interrupted"]
    assert (
        found["used_seconds"]
        <= PROPAGATION + server.longest / 1000 + QUIET + LINGER + 3 * INTERVAL + SLACK
    ), found


# --- servers that are drained but never exit -----------------------------------------------------


NEVER_EXIT = ["http", "express", "fastify", "hono"]
BUDGET = 4.0  # seconds


@pytest.mark.node
@pytest.mark.parametrize("kind", NEVER_EXIT)
def test_a_server_that_would_not_exit(
    kind: str, packages: Path, tmp_path: Path, start: Callable[..., Run]
):
    """A client that has sent nothing, and a keep-alive connection whose request was in flight, both
    hold server.close()."""
    handler = 1.0
    ports = free_ports(2)
    quiet = 0.5
    env = environment(NODE_PATH=str(packages))
    with contextlib.ExitStack() as stack:
        runs = []
        commands = [["node", str(SERVERS / "closing.js"), kind, str(port)] for port in ports]
        drained = config("node", tmp_path, commands[0], tcp=f'tcp = "auto", quiet = "{quiet}s"')
        for port, options in zip(
            ports, (drained, ("--shutdown-timeout", f"{BUDGET}s", "--", *commands[1]))
        ):
            runs.append(
                start("--report", tmp_path / f"{port}.json", *options, command=INSTALLED, env=env)
            )
        for run, port in zip(runs, ports):
            run.out.until("listening")
            stack.enter_context(socket.create_connection(("127.0.0.1", port), BOUND))

        def stop() -> None:
            for run in runs:
                run.out.until("request")
                run.send(signal.SIGTERM)

        request = slow(1, int(handler * 1000), 100_000)
        # Each connection stays open until both servers are gone.
        answers = answered(
            dict.fromkeys(ports, request),
            meanwhile=stop,
            until=lambda: [run.wait() for run in runs],
        )
        assert [answer.body for answer in answers] == [request.expected] * 2
    with_drain, without = (read(tmp_path / f"{port}.json") for port in ports)
    print(kind, with_drain["summary"], "|", without["summary"])
    after = with_drain["drained_after_seconds"]
    assert after <= handler + quiet + 2 * INTERVAL + SLACK
    assert with_drain["used_seconds"] - after <= LINGER + SLACK / 4
    assert with_drain["killed"] and not with_drain["interrupted"]
    assert without["killed"] and without["used_seconds"] >= BUDGET - 0.1


# --- jobs ----------------------------------------------------------------------------------------


class Redis(NamedTuple):
    url: str
    client: redis.Redis

    def numbers(self, key: str) -> list[int]:
        """Return what jobs have noted."""
        return sorted(int(n) for n in self.client.lrange(key, 0, -1))  # type: ignore[union-attr]

    def wait(self, key: str, count: int) -> None:
        """Wait until so many jobs have noted something."""
        seen = self.client.llen(key)
        watching = self.client.pubsub()
        watching.psubscribe(f"__keyspace@0__:{key}")
        with contextlib.closing(watching):
            while (seen := self.client.llen(key)) < count:  # type: ignore[operator]
                if watching.get_message(timeout=BOUND) is None:
                    raise TimeoutError(f"{seen} and not {count} in {key!r}")


@pytest.fixture
def queue(tmp_path: Path) -> Iterator[Redis]:
    """A Redis of its own, which tells of each change."""
    require(shutil.which("redis-server"), "redis-server")
    [port] = free_ports(1)
    words = [
        "--port",
        str(port),
        "--bind",
        "127.0.0.1",
        "--save",
        "",
        "--notify-keyspace-events",
        "Kl",
        "--dir",
        str(tmp_path),
    ]
    with (tmp_path / "redis.log").open("wb") as log:
        process = subprocess.Popen(["redis-server", *words], stdout=log)
    try:
        yield Redis(f"redis://127.0.0.1:{port}", connect(port))
    finally:
        process.kill()
        process.wait(BOUND)


def connect(port: int) -> redis.Redis:
    """Return a client, once it is answered."""
    from redis.backoff import ConstantBackoff
    from redis.retry import Retry

    retry = Retry(ConstantBackoff(0.02), int(BOUND / 0.02))
    client = redis.Redis(port=port, retry=retry, retry_on_error=[redis.exceptions.ConnectionError])
    client.ping()
    return client


class Worker(NamedTuple):
    """A queue's worker, and what puts jobs into it."""

    command: tuple[str, ...]
    add: tuple[str, ...]  # a command; [[number, milliseconds], ...] as JSON is added to it
    jobs: int = 16
    node: bool = False
    longest_stop: float = 2 * 1.3 + 3 * INTERVAL + 2 + SLACK  # seconds
    repeats: bool = False  # a job may be done more than once, but none is lost


def adds(code: str) -> tuple[str, ...]:
    """Return a command that calls `add(n, ms)`, which *code* defines, for each job."""
    return (
        sys.executable,
        "-c",
        f"import json, sys\n{code}\nfor job in json.loads(sys.argv[1]): add(*job)",
    )


CELERY = (sys.executable, "-m", "celery", "-A", "jobs_celery", "worker", "--concurrency", "4")
WORKERS = {
    "celery": Worker(
        CELERY,
        adds("from jobs_celery import work; add = work.delay"),
        # With all jobs done, a pool process of billiard 4.3 now and then waits 30 s for its result
        # to be taken notice of, also without gracewrap (_ensure_messages_consumed in
        # billiard/pool.py).  That job is then delivered once more.
        longest_stop=40,
        repeats=True,
    ),
    "celery behind a shell": Worker(  # which dies of the signal; its pool is Celery's to tell
        ("sh", "-c", f"{shlex.join(CELERY)}; true"),
        adds("from jobs_celery import work; add = work.delay"),
        longest_stop=40,
        repeats=True,
    ),
    "rq": Worker(
        (str(Path(sys.executable).with_name("rq")), "worker", "--url", "{url}", "default"),
        adds(
            "import redis, rq, jobs; q = rq.Queue(connection=redis.Redis.from_url(jobs.URL))\n"
            "def add(n, ms): q.enqueue(jobs.work, n, ms)"
        ),
        jobs=6,
    ),
    "dramatiq": Worker(
        (sys.executable, "-m", "dramatiq", "jobs_dramatiq", "--processes", "2", "--threads", "2"),
        adds("from jobs_dramatiq import work; add = work.send"),
    ),
    "bullmq": Worker(
        ("node", "jobs_bullmq.js", "{port}"), ("node", "jobs_bullmq.js", "add"), node=True
    ),
}


@pytest.mark.parametrize("name", WORKERS)
def test_every_job_is_done_once(
    name: str,
    queue: Redis,
    tmp_path: Path,
    start: Callable[..., Run],
    request: pytest.FixtureRequest,
):
    worker = WORKERS[name]
    port, report = free_ports(1)[0], tmp_path / "report.json"
    env = environment(REDIS_URL=queue.url, PYTHONDONTWRITEBYTECODE="1")
    if worker.node:
        env["NODE_PATH"] = str(request.getfixturevalue("packages"))
    command = [word.format(url=queue.url, port=port) for word in worker.command]
    options = [*config(name.split(maxsplit=1)[0], tmp_path, command), "--report", report]
    jobs = [(n, 300 + 500 * (n % 3)) for n in range(worker.jobs)]

    with (tmp_path / "log").open("wb") as log:
        first = start(*options, command=INSTALLED, cwd=SERVERS, env=env, stdout=log, stderr=log)
        subprocess.run(
            [*worker.add, json.dumps(jobs)], cwd=SERVERS, env=env, check=True, timeout=BOUND
        )
        queue.wait("done", worker.jobs // 4)
        queue.wait("begun", len(queue.numbers("done")) + 1)  # one is running
        first.send(signal.SIGTERM)
        first.process.wait(2 * BOUND)
        found = read(report)
        print(name, found["summary"])
        begun = queue.numbers("begun")
        assert begun == queue.numbers("done") and worker.jobs // 4 < len(begun) < worker.jobs, found
        assert found["signals_sent"][0] == "SIGTERM" and not found["interrupted"]
        assert found["used_seconds"] < worker.longest_stop, found

        second = start(*options, command=INSTALLED, cwd=SERVERS, env=env, stdout=log, stderr=log)
        queue.wait("done", worker.jobs)
        second.send(signal.SIGTERM)
        second.process.wait(2 * BOUND)
    done = queue.numbers("done")
    assert queue.numbers("begun") == done
    assert (sorted(set(done)) if worker.repeats else done) == list(range(worker.jobs))


@pytest.mark.node
def test_a_server_that_also_works_on_jobs_is_not_ended_in_one(
    queue: Redis, packages: Path, tmp_path: Path, start: Callable[..., Run]
):
    """A job of BullMQ is silent for longer than `quiet`; and a client that sends nothing does not
    hold server.close() for ever when all jobs are done."""
    port, report = free_ports(1)[0], tmp_path / "report.json"
    env = environment(REDIS_URL=queue.url, NODE_PATH=str(packages))
    options = config("node", tmp_path, ["node", "jobs_bullmq.js", str(port), "whole"])
    jobs = [(n, (400, 1500, 4000)[n % 3]) for n in range(12)]
    with (tmp_path / "log").open("wb") as log:
        run = start(
            *options, "--report", report, command=INSTALLED, cwd=SERVERS, env=env, stdout=log,
            stderr=log,
        )  # fmt: skip
        add = ["node", "jobs_bullmq.js", "add", json.dumps(jobs)]
        subprocess.run(add, cwd=SERVERS, env=env, check=True, timeout=BOUND)
        queue.wait("done", 2)
        with socket.create_connection(("127.0.0.1", port), BOUND):
            run.send(signal.SIGTERM)
            status = run.process.wait(2 * BOUND)
    found = read(report)
    print(found["summary"])
    assert queue.numbers("begun") == queue.numbers("done"), found
    assert status == 0 and not found["interrupted"], found
    assert found["used_seconds"] < 4 + QUIET + LINGER + 4 * INTERVAL + SLACK


# --- a worker that says how many jobs it has -----------------------------------------------------


@pytest.fixture
def worker(tmp_path: Path, start: Callable[..., Run]) -> Callable[..., Run]:
    """Start servers/worker.py with a drain that asks it."""

    def begin(*options: object) -> Run:
        [port] = free_ports(1)
        drain = (
            "--drain-http",
            f"http://127.0.0.1:{port}/",
            "--drain-json",
            "/active/jobs",
            "--drain-linger",
            f"{LINGER}s",
        )
        command = (sys.executable, SERVERS / "worker.py", port)
        options = (*drain, *options, "--report", tmp_path / "report.json", "--", *command)
        run = start(*options, command=INSTALLED, stdin=subprocess.PIPE)
        assert run.line() == "ready"
        return run

    return begin


def test_a_worker_is_stopped_when_it_says_that_nothing_is_active(worker, tmp_path):
    run = worker()
    run.send(signal.SIGTERM)
    assert run.line() == "SIGTERM"
    for left in (2, 1, 0):
        run.process.stdin.write(b"\n")
        run.process.stdin.flush()
        assert run.line() == f"done, {left} left"
    run.wait()
    found = read(tmp_path / "report.json")
    assert found["killed"] and not found["interrupted"]
    assert found["used_seconds"] <= 2 * INTERVAL + LINGER + SLACK
    assert [one["unit"] for one in found["drain"]] == ["jobs"]


@pytest.mark.parametrize("done", [0, 1])
def test_what_the_budget_interrupts_is_counted(worker, tmp_path, done):
    run = worker("--shutdown-timeout", "1500ms")
    for i in range(done):
        run.process.stdin.write(b"\n")
        run.process.stdin.flush()
        assert run.line() == f"done, {2 - i} left"
    run.send(signal.SIGTERM)
    run.wait()
    found = read(tmp_path / "report.json")
    assert found["interrupted"] == 3 - done
    assert found["killed"] and found["used_seconds"] <= 1.5 + 0.5
