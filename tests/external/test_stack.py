"""PostgreSQL, Redis, a worker and an HTTP server under one gracewrap as PID 1, by
configs/stack.toml, stopped under load.

Every order that was answered is a row and a job; so afterwards, with the same data, those of the
database and of the queue are counted.  That these two were stopped last, and in order, is what
their own logs say.
"""

from __future__ import annotations

import hashlib
import http.client
import importlib.util
import os
import random
import re
import shutil
import time
import tomllib
import uuid
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, NamedTuple

import pytest
import tomli_w

from containers import REPORT, Container, docker, engine
from load_balancer import Load, Request, Tally, free_ports
from processes import BOUND, ROOT, npm_packages, require, wait_until

STACK = Path(__file__).with_name("stack")
PROPAGATION = 0.5  # seconds; five looks of the load balancer
RATE, LONGEST = 40.0, 1.5  # orders a second, and seconds that one takes at most
BUDGET = 28.0  # seconds; of configs/stack.toml
GRANTED = 30  # seconds until Docker's own SIGKILL
SLACK = 2.0  # for the engine, on a loaded machine

pytestmark = [
    pytest.mark.docker,
    pytest.mark.node,
    pytest.mark.slow,
    pytest.mark.timeout(600),
]  # the first run makes the image


class Ports(NamedTuple):
    """Where everything listens, on the machine's own loopback."""

    web: int
    health: int
    active: int
    db: int
    queue: int


def settings(ports: Ports) -> dict[str, Any]:
    """Return what configs/stack.toml says, with these ports; Debian's psql and postgres are told
    PGPORT."""
    found = tomllib.loads((ROOT / "configs" / "stack.toml").read_text())
    web, worker, queue = (found["programs"][name] for name in ("web", "worker", "queue"))
    web["ready"]["tcp"], web["drain"]["tcp"], web["propagation_delay"] = (
        ports.web,
        [ports.web],
        f"{PROPAGATION}s",
    )
    worker["drain"]["http"] = f"http://127.0.0.1:{ports.active}/active"
    queue["command"] += ["--port", str(ports.queue)]
    found["health"]["listen"] = [f"127.0.0.1:{ports.health}"]
    return found


def order(number: int) -> Request:
    """An order that takes any time up to LONGEST; a POST, which no load balancer sends twice."""
    ms = random.Random(number).randint(50, int(LONGEST * 1000))
    return Request("POST", f"/orders/{number}?ms={ms}", b"", b"order %d" % number)


# --- the image -----------------------------------------------------------------------------------


def build(folder: Path, *options: object) -> None:
    base = os.environ.get("GRACEWRAP_NODE_IMAGE")
    arguments = ["--build-arg", f"BASE_IMAGE={base}"] if base else []
    docker("build", "--network=host", "--force-rm", *arguments, *options, folder, bound=500)


@pytest.fixture(scope="module")
def ports() -> Ports:
    return Ports(*free_ports(len(Ports._fields)))


@pytest.fixture(scope="module")
def image(
    ports: Ports, tmp_path_factory: pytest.TempPathFactory, request: pytest.FixtureRequest
) -> Iterator[str]:
    """The image of stack/Dockerfile; gone when the module is through, but for the stage with
    Debian's packages."""
    require(engine(), "a Docker engine (DOCKER_HOST)")
    modules, h11 = (
        npm_packages(request.config.cache, STACK / "package.json"),
        importlib.util.find_spec("h11"),
    )
    assert h11 is not None and h11.submodule_search_locations
    folder = tmp_path_factory.mktemp("stack") / "context"
    no_code = shutil.ignore_patterns("__pycache__", "tests")
    shutil.copytree(STACK, folder)
    shutil.copytree(modules, folder / "node_modules")
    shutil.copytree(
        ROOT / "supervisor" / "gracewrap", folder / "gracewrap" / "gracewrap", ignore=no_code
    )
    shutil.copytree(h11.submodule_search_locations[0], folder / "gracewrap" / "h11", ignore=no_code)
    (folder / "gracewrap.toml").write_text(tomli_w.dumps(settings(ports)))
    made_of = hashlib.sha256((STACK / "Dockerfile").read_bytes()).hexdigest()[:12]
    build(folder, "--target", "packages", "-t", f"gracewrap-test-stack:{made_of}")
    name = f"gracewrap-test-stack:{uuid.uuid4().hex[:12]}"
    build(folder, "-t", name)
    yield name
    docker("rmi", name, check=False)


@pytest.fixture
def stack(image: str, ports: Ports) -> Iterator[Container]:
    """All of it, running."""
    variables = {"PORT": ports.web, "ACTIVE_PORT": ports.active, "REDIS_PORT": ports.queue}
    variables |= {
        "PGPORT": ports.db,
        "PGHOST": "127.0.0.1",
        "PGUSER": "postgres",
        "NODE_ENV": "production",
    }
    options = [word for name, value in variables.items() for word in ("-e", f"{name}={value}")]
    container = Container(image, options=("--network=host", *REPORT, *options))
    try:
        yield container
    finally:
        container.close()


# --- what is left of it --------------------------------------------------------------------------


class Kept(NamedTuple):
    """What the database and the queue hold, by the numbers of the orders."""

    orders: int
    begun: int  # mails
    sent: int
    waiting: int  # jobs
    active: int
    completed: int
    failed: int


def is_ready(port: int) -> bool:
    """Return whether /readyz says that all is up."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=BOUND)
    try:
        connection.request("GET", "/readyz")
        return connection.getresponse().status == 200
    except OSError:
        return False
    finally:
        connection.close()


def count(stack: Container, ports: Ports) -> Kept:
    """Ask the database and the queue, which are running."""
    rows = "select (select count(*) from orders), count(*), count(sent) from mails"
    orders, begun, sent = map(int, stack.execute("psql", "-qAt", "-F", ",", "-c", rows).split(","))
    jobs = {"wait": "llen", "active": "llen", "completed": "zcard", "failed": "zcard"}
    command = ("redis-cli", "-p", ports.queue)
    return Kept(
        orders,
        begun,
        sent,
        *(int(stack.execute(*command, how, f"bull:mails:{what}")) for what, how in jobs.items()),
    )


def reopened(stack: Container, ports: Ports, folder: Path) -> tuple[Kept, str]:
    """Start the database and the queue again, alone and with their data; return what is in them,
    and what they wrote."""
    alone = settings(ports)
    alone["programs"] = {name: alone["programs"][name] for name in ("db", "queue")}
    file = folder / "gracewrap.toml"
    file.write_text(tomli_w.dumps(alone))
    docker("cp", file, f"{stack.name}:/etc/gracewrap.toml")
    before = docker("logs", stack.name)
    docker("start", stack.name)
    wait_until(lambda: is_ready(ports.health), "database and queue are up")
    kept = count(stack, ports)
    assert stack.stop() == 0
    return kept, docker("logs", stack.name).removeprefix(before)


# --- when, by what each has written --------------------------------------------------------------

WORK = r"(\d{4}-\d\d-\d\dT[\d:.]+)Z (?:order|mail) \d+ (?:answered|sent)"
DB = r"(\d{4}-\d\d-\d\d [\d:.]+) UTC \[\d+\] LOG:  "
QUEUE = r"\d+:[A-Z] (\d\d \w{3} \d{4} [\d:.]+) . "
FORMATS = {WORK: "%Y-%m-%dT%H:%M:%S.%f", DB: "%Y-%m-%d %H:%M:%S.%f", QUEUE: "%d %b %Y %H:%M:%S.%f"}


def times(log: str, who: str, what: str = "") -> list[datetime]:
    """Return when somebody wrote lines with *what*, by their own clocks."""
    found = re.findall(who + what, log)
    return [datetime.strptime(one, FORMATS[who]).replace(tzinfo=UTC) for one in found]


class Ended(NamedTuple):
    """How all of it ended, under load."""

    tally: Tally
    status: int
    seconds: float  # until the engine said so
    report: dict[str, Any]
    log: str


def ended(stack: Container, ports: Ports, by: Callable[[], object]) -> Ended:
    """End it while orders come in and are carried out."""
    with Load([(ports.web, ports.health)], order, RATE) as load:
        load.more(int(2 * RATE))
        load.until(lambda: load.backends[0].in_flight > 10, "it is busy")
        began = time.monotonic()
        by()
        seconds = time.monotonic() - began
        tally = load.stop()
    found = Ended(tally, stack.status(), seconds, stack.report(), docker("logs", stack.name))
    print(f"{tally}; ended in {seconds:.2f} s: {found.report['summary']}")
    return found


def assert_nothing_is_lost(end: Ended) -> None:
    """Every request that reached it was answered, and once; those that came later found no
    backend."""
    tally = end.tally
    assert not tally.failures and not tally.retried and not tally.redispatched, tally
    assert tally.good + tally.turned_away == tally.sent and tally.turned_away, tally
    assert end.report["used_seconds"] < BUDGET and end.seconds < BUDGET + SLACK


def assert_the_last_were_last(log: str) -> None:
    """Nobody had anything left to do when database and queue were told to stop, and both ended in
    order."""
    last = max(times(log, WORK))
    for who, told, done in (
        (DB, "received fast shutdown request", "database system is shut down"),
        (QUEUE, "User requested shutdown", "Redis is now ready to exit, bye bye"),
    ):
        [asked] = times(log, who, told)
        assert last < asked, log
        assert done in log
    assert "DB saved on disk" in log


def assert_it_was_closed(log: str) -> None:
    """PostgreSQL says so, when it is started again."""
    assert times(log, DB, "database system was shut down at"), log
    assert not re.search("was interrupted|automatic recovery|not properly shut down", log), log


def test_docker_stop_under_load_loses_nothing(stack: Container, ports: Ports, tmp_path: Path):
    end = ended(stack, ports, lambda: docker("stop", "-t", GRANTED, stack.name))
    assert_nothing_is_lost(end)
    assert end.status == 0 and stack.killed_with() == ["15"]
    assert_the_last_were_last(end.log)

    kept, log = reopened(stack, ports, tmp_path)
    print(kept)
    assert_it_was_closed(log)
    assert kept.orders == end.tally.good == kept.waiting + kept.completed
    assert kept.waiting and kept.completed  # else there was no load on the worker
    assert kept.begun == kept.sent == kept.completed and not kept.active and not kept.failed


def test_a_crash_of_the_worker_stops_the_rest_in_order(
    stack: Container, ports: Ports, tmp_path: Path
):
    """All that the crash costs is what the worker was doing."""

    def crash() -> None:
        stack.execute(
            "sh", "-c", "kill -KILL $(grep -lzx 'worker[.]js' /proc/[0-9]*/cmdline | cut -d/ -f3)"
        )
        docker("wait", stack.name)

    end = ended(stack, ports, crash)
    assert_nothing_is_lost(end)
    assert end.status == 137 and stack.killed_with() == []
    assert_the_last_were_last(end.log)

    kept, log = reopened(stack, ports, tmp_path)
    print(kept)
    assert_it_was_closed(log)
    assert kept.orders == end.tally.good == kept.waiting + kept.active + kept.completed
    assert kept.active and not kept.failed
