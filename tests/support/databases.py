"""Starts real database servers, each on a port of its own, for as long as a test needs them."""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import socket
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path

import redis

from load_balancer import free_ports
from processes import BOUND, require, wait_until


@contextlib.contextmanager
def redis_server(folder: Path) -> Iterator[int]:
    """Run a Redis; its port."""
    require(shutil.which("redis-server"), "redis-server")
    [port] = free_ports(1)
    words = ["redis-server", "--port", port, "--bind", "127.0.0.1", "--save", "", "--dir", folder]
    words += ["--databases", 200]
    with subprocess.Popen(list(map(str, words)), stdout=subprocess.DEVNULL) as process:
        try:
            client = redis.Redis(port=port)
            wait_until(lambda: answers(client), "Redis answers")
            client.close()
            yield port
        finally:
            process.kill()


def answers(client: redis.Redis) -> bool:
    with contextlib.suppress(redis.ConnectionError):
        return bool(client.ping())
    return False


@contextlib.contextmanager
def postgres() -> Iterator[dict[str, str]]:
    """Run a PostgreSQL; the variables by which its clients find it."""
    with tempfile.TemporaryDirectory() as folder:  # pytest's own is for root alone
        yield from _postgres(Path(folder))


def _postgres(folder: Path) -> Iterator[dict[str, str]]:
    homes = sorted(Path("/usr/lib/postgresql").glob("*/bin"))
    require(homes, "postgresql")
    [port] = free_ports(1)
    data, user = folder / "db", {}
    folder.chmod(0o755)
    data.mkdir()
    if os.geteuid() == 0:  # it does not run as root
        shutil.chown(data, "postgres")
        user = {"user": "postgres", "group": "postgres", "extra_groups": []}
    quiet = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL, "cwd": "/", **user}
    fast = ["--auth=trust", "--no-sync", "--no-instructions", "--username=postgres"]
    subprocess.run([homes[-1] / "initdb", "-D", data, *fast], check=True, **quiet)
    options = ["-F", "-h", "127.0.0.1", "-p", str(port), "-k", ""]
    process = subprocess.Popen([homes[-1] / "postgres", "-D", data, *options], **quiet)
    try:
        env = {"PGHOST": "127.0.0.1", "PGPORT": str(port), "PGUSER": "postgres"}
        wait_until(lambda: sql(env, "select 1") == "1", "PostgreSQL answers")
        yield env
    finally:
        process.send_signal(signal.SIGQUIT)
        process.wait(BOUND)


def sql(env: dict[str, str], query: str) -> str:
    """Run a query; PGDATABASE in *env* says in which database."""
    words = ["psql", "-qAtX", "-d", env.get("PGDATABASE", "postgres"), "-c", query]
    done = subprocess.run(words, env=os.environ | env, capture_output=True, text=True)
    return done.stdout.strip()


# What tests/external/agent/app.cjs writes down.
SHOP = """
create table orders (number int primary key);
create table runs (id serial primary key, number int, finished bool default false)
"""


@contextlib.contextmanager
def mariadb() -> Iterator[int]:
    """Run a MariaDB, which has a database "test" and lets everybody in; its port."""
    server = shutil.which("mariadbd", path=f"{os.environ.get('PATH', '')}:/usr/sbin")
    require(server, "mariadbd (Debian: mariadb-server-core)")
    [port] = free_ports(1)
    with tempfile.TemporaryDirectory() as made:  # pytest's own is for root alone
        Path(made).chmod(0o755)
        data = Path(made) / "db"
        (data / "test").mkdir(parents=True)
        if os.geteuid() == 0:  # it does not run as root
            shutil.chown(data, "nobody")
            shutil.chown(data / "test", "nobody")
        words = [
            *(server, "--no-defaults", f"--datadir={data}", f"--socket={data}/socket"),
            *(f"--pid-file={data}/pid", f"--port={port}", "--bind-address=127.0.0.1"),
            *("--skip-grant-tables", "--skip-networking=0", "--user=nobody"),
        ]
        quiet = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
        with subprocess.Popen(words, **quiet) as process:  # type: ignore[call-overload]
            try:
                wait_until(lambda: is_open(port), "MariaDB answers")
                yield port
            finally:
                process.kill()


def is_open(port: int) -> bool:
    """Return whether something listens."""
    with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), 1):
        return True
    return False
