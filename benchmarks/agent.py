"""python -m benchmarks.agent: measures what the Node.js agent costs a server, and prints JSON.

The same server runs bare, under gracewrap, and under gracewrap with the agent, one after the other
in each round, so that other load of the machine meets all alike.  h2load (Debian package
nghttp2-client) asks it, over kept connections: as fast as it answers (requests a second, and the
server's CPU time for each of them, which other load hardly changes), and at a fixed rate that the
clock sets (the 99th percentile of the time of an answer).
"""

from __future__ import annotations

import argparse
import contextlib
import json
import re
import shutil
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from benchmarks import peers

SERVERS = {
    "node:http": "require('http').createServer((request, response) => response.end('done'))",
    "express": "require('express')().get('/', (request, response) => response.send('done'))",
    "fastify": "(() => { const app = require('fastify')(); app.get('/', async () => 'done'); "
    "return { listen: (port, host, then) => app.listen({ port, host })"
    ".then(() => then.call(app.server)) } })()",
}
LISTEN = ".listen(0, '127.0.0.1', function () { console.log(process.pid, this.address().port) })"
WAYS = ("bare", "gracewrap", "gracewrap with the agent")
CLIENTS, SECONDS, WARM_UP = 20, 4, 1
RATE = 1000  # requests a second, far below what any of them can do


class Taken(NamedTuple):
    """What was measured of a server in one round."""

    requests_a_second: float
    cpu_us: float
    p99_ms: float


def main() -> int:
    """Run the command line; return the exit status."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.agent", description=__doc__)
    peers.add_options(parser)
    parser.add_argument("--rounds", type=int, default=10)
    parser.add_argument(
        "--modules", help="a folder with node_modules that has express and fastify; else node:http"
    )
    options = parser.parse_args()
    for program, package in (("node", "nodejs"), ("h2load", "nghttp2-client")):
        if shutil.which(program) is None:
            sys.exit(f"{program} is missing (Debian package {package})")
    gracewrap = peers.gracewrap_command(options.gracewrap, options.python)
    names = SERVERS if options.modules else ("node:http",)
    result = {name: compare(name, gracewrap, options.modules, options.rounds) for name in names}
    node = subprocess.run(["node", "--version"], capture_output=True, text=True, check=True)
    print(json.dumps({"node": node.stdout.strip(), "rounds": options.rounds, **result}, indent=1))
    return 0


def compare(name: str, gracewrap: list[str], modules: str | None, rounds: int) -> dict[str, object]:
    """Return the medians of each way, and of the ratios to bare in the same round."""
    taken: dict[str, list[Taken]] = {way: [] for way in WAYS}
    for n in range(rounds):
        print(f"{name}: round {n + 1} of {rounds}", file=sys.stderr, flush=True)
        for way in (*WAYS[n % 3 :], *WAYS[: n % 3]):
            with serving(name, way, gracewrap, modules) as (pid, url):
                load(url, WARM_UP)
                taken[way].append(Taken(*as_fast_as_it_can(pid, url), slowest(url)))
    return {
        way: {
            what: {
                "median": round(statistics.median(getattr(one, what) for one in taken[way]), 3),
                "to_bare": round(
                    statistics.median(
                        getattr(mine, what) / getattr(bare, what)
                        for mine, bare in zip(taken[way], taken["bare"], strict=True)
                    ),
                    3,
                ),
            }
            for what in Taken._fields
        }
        for way in WAYS
    }


@contextlib.contextmanager
def serving(
    name: str, way: str, gracewrap: list[str], modules: str | None
) -> Iterator[tuple[int, str]]:
    """Run a server in one of the ways; yields its pid and URL."""
    words = ["node", "-e", SERVERS[name] + LISTEN]
    if way != "bare":
        agent = "node" if way.endswith("agent") else "off"
        words = [*gracewrap, "--agent", agent, "--", *words]
    with subprocess.Popen(
        words, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, cwd=modules, text=True
    ) as process:
        assert process.stdout is not None
        try:
            pid, port = map(int, process.stdout.readline().split())
            yield pid, f"http://127.0.0.1:{port}/"
        finally:
            process.terminate()


def load(url: str, seconds: int, *more: str) -> str:
    """Ask for so long; return what h2load says."""
    words = ["h2load", "--h1", f"--clients={CLIENTS}", f"--duration={seconds}", *more, url]
    done = subprocess.run(words, capture_output=True, text=True, check=True, timeout=60)
    return done.stdout


def as_fast_as_it_can(pid: int, url: str) -> tuple[float, float]:
    """Return how many requests a second were answered, and the CPU time of each, in µs."""
    before = cpu_seconds(pid)
    said = load(url, SECONDS)
    used = cpu_seconds(pid) - before
    rate = re.search(r"finished in .*, ([\d.]+) req/s", said)
    done = re.search(r"(\d+) succeeded", said)
    assert rate is not None and done is not None
    return float(rate[1]), 1e6 * used / int(done[1])


def cpu_seconds(pid: int) -> float:
    """Return the CPU time of a process with all its threads (proc(5): schedstat)."""
    threads = Path(f"/proc/{pid}/task").glob("*/schedstat")
    return sum(int(one.read_text().split()[0]) for one in threads) / 1e9


def slowest(url: str) -> float:
    """Return the 99th percentile of the time of an answer at a fixed rate, in ms."""
    with tempfile.NamedTemporaryFile() as log:
        load(url, SECONDS, f"--rps={RATE // CLIENTS}", f"--log-file={log.name}")
        rows = [line.split("\t") for line in Path(log.name).read_text().splitlines()]
    times = sorted(int(took) / 1000 for _, status, took, *_ in rows if status == "200")
    return times[int(len(times) * 0.99)]


if __name__ == "__main__":
    sys.exit(main())
