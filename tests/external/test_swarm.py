"""A rolling update by Docker Swarm: a shop without shutdown code (HTTP, BullMQ, PostgreSQL), two
tasks of it, all replaced under load.  No request fails and no job is cut.

The tasks share the host's network, as the databases and the clients are there: each slot has a port
of its own.  What they run is mounted, so no image is built.
"""

from __future__ import annotations

import contextlib
import importlib.util
import os
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from containers import docker, engine, unique_name
from databases import SHOP, postgres, redis_server, sql
from kept_connections import Clients, Instance
from load_balancer import free_ports
from processes import ROOT, npm_packages, require, wait_until

APPS = Path(__file__).with_name("agent")
JOBS = (400, 1500)  # milliseconds
GRACEWRAP = "python3 -I -S /opt/gracewrap/gracewrap/__main__.py"

pytestmark = [
    pytest.mark.docker,
    pytest.mark.node,
    pytest.mark.slow,
    pytest.mark.timeout(300),
]


@pytest.fixture
def swarm() -> Iterator[None]:
    """Make the engine a swarm of one, for as long as the test lasts."""
    require(engine(), "a Docker engine (DOCKER_HOST)")
    state = docker("info", "--format", "{{.Swarm.LocalNodeState}}")
    require(state == "inactive", "an engine that is in no swarm")
    networks = docker("network", "ls", "--format", "{{.Name}}").split()
    docker("swarm", "init", "--advertise-addr", "127.0.0.1")
    try:
        yield
    finally:
        docker("swarm", "leave", "--force")
        if "docker_gwbridge" not in networks:
            docker("network", "rm", "docker_gwbridge", check=False)


@pytest.fixture
def mounts(request: pytest.FixtureRequest, tmp_path: Path) -> list[str]:
    """gracewrap and the application, for the containers."""
    assert request.config.cache is not None
    modules = npm_packages(request.config.cache, APPS / "package.json")
    h11 = importlib.util.find_spec("h11")
    assert h11 is not None and h11.origin is not None
    for source, name in (
        (ROOT / "supervisor" / "gracewrap", "gracewrap"),
        (Path(h11.origin).parent, "h11"),
    ):
        shutil.copytree(source, tmp_path / "opt" / name, ignore=shutil.ignore_patterns("*.pyc"))
    (tmp_path / "srv").mkdir()
    shutil.copy(APPS / "app.cjs", tmp_path / "srv")
    (tmp_path / "srv" / "node_modules").mkdir()
    return [
        f"type=bind,readonly,src={source},dst={there}"
        for source, there in (
            (tmp_path / "opt", "/opt/gracewrap"),
            (tmp_path / "srv", "/srv"),
            (modules, "/srv/node_modules"),
        )
    ]


@contextlib.contextmanager
def service(
    instances: list[Instance], mounts: list[str], env: dict[str, str], agent: str
) -> Iterator[str]:
    """Run two tasks of the shop; its name."""
    image = os.environ.get("GRACEWRAP_NODE_IMAGE", "")
    require(image, "a base image with Python and Node.js (GRACEWRAP_NODE_IMAGE)")
    ports = " ".join(f"{one.port} {one.health}" for one in instances)
    # The slot of a task is known to the container only.
    choose = (
        f'set -- {ports}; [ "$SLOT" = 1 ] || shift 2; export PORT="$1"; '
        f'export GRACEWRAP_HEALTH_LISTEN="127.0.0.1:$2"; exec {GRACEWRAP} -- node app.cjs both'
    )
    name = unique_name()
    settings = {
        "GRACEWRAP_AGENT": agent,
        "GRACEWRAP_READY": "tcp",
        "GRACEWRAP_PROPAGATION_DELAY": "1s",
        "GRACEWRAP_SHUTDOWN_TIMEOUT": "18s",
    }
    variables = settings | env | {"SLOT": "{{.Task.Slot}}", "LOCK": "30000"}
    health = f"{GRACEWRAP} health"
    docker(
        *("service", "create", "--detach", "--name", name, "--replicas=2", "--network=host"),
        *("--no-resolve-image", "--workdir=/srv", "--stop-grace-period=20s"),
        *("--restart-condition=none", "--update-delay=0s", "--update-monitor=1s"),
        *("--health-cmd", health, "--health-interval=500ms", "--health-retries=60"),
        *(word for mount in mounts for word in ("--mount", mount)),
        *(word for key, value in variables.items() for word in ("--env", f"{key}={value}")),
        *(image, "/bin/sh", "-c", choose),
    )
    try:
        yield name
    finally:
        docker("service", "rm", name)
        wait_until(lambda: not tasks(name, "-q"), "its containers are gone")


def tasks(name: str, *options: str) -> list[str]:
    """Return the containers of a service, a line each."""
    return docker("ps", "--filter", f"name={name}", *options).splitlines()


def updated(mounts: list[str], env: dict[str, str], agent: str) -> tuple[list[str], int, int, int]:
    """Replace both tasks under load; return failures, requests that were answered, and how many
    jobs were run, and begun but not finished."""
    ports = free_ports(4)
    instances = [Instance(ports[0], ports[1]), Instance(ports[2], ports[3])]
    sql(env, SHOP)
    with service(instances, mounts, env, agent) as name:
        clients = Clients(
            instances,
            lambda n: f"POST /orders/{n}?ms={50 + n % 10 * 50}&job={JOBS[n % 2]}",
            rate=10,
            clients=10,
        )
        with clients:
            clients.wait(lambda: len(clients.ready) == 2, "both are ready")
            clients.wait_for(20)
            before = set(tasks(name, "-q"))
            docker("service", "update", "--force", "--quiet", name, bound=150)  # it waits
            assert not before & set(tasks(name, "-q"))
            clients.wait(lambda: len(clients.ready) == 2, "both are ready")
            sent = clients.stop()
        with contextlib.suppress(TimeoutError):
            wait_until(lambda: not unfinished(env), "all jobs are finished", bound=10)
    runs = int(sql(env, "select count(*) from runs"))
    return sorted(sent.failures.elements()), sent.good, runs, unfinished(env)


def unfinished(env: dict[str, str]) -> int:
    return int(sql(env, "select count(*) from runs where not finished"))


def test_a_rolling_update_loses_nothing(swarm: None, mounts: list[str], tmp_path: Path):
    with redis_server(tmp_path) as port, postgres() as env:
        failures, good, runs, cut = updated(mounts, env | {"REDIS_PORT": str(port)}, "node")
    assert (failures, cut) == ([], 0)
    assert good >= 20 and runs == good  # each job has been run, and once
