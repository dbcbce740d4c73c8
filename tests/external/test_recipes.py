"""Every ready-made setting for an application that serves HTTP and works on jobs in one process,
stopped under load: no request is cut, no job interrupted and none lost.

Some of them here; each with GRACEWRAP_RECIPES=all (68 stops, 6 minutes).  -s shows how long the
stops take.
"""

from __future__ import annotations

import contextlib
import json
import os
import shlex
import signal
import socket
import sys
import tomllib
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, NamedTuple

import pytest
import redis
import tomli_w

from databases import redis_server
from load_balancer import Load, Request, Tally, free_ports
from processes import BOUND, INSTALLED, ROOT, Run, environment, npm_packages, wait_until
from real_servers import PROPAGATION, SERVERS, nginx_command

JOBS = (400, 1500, 4000)  # milliseconds
BUDGET = 10.0  # seconds; of a file that says less, that
RATE = 20.0  # orders a second

pytestmark = [pytest.mark.slow, pytest.mark.timeout(300)]

# What the application does on SIGTERM: it has no handler, one that finishes all and exits, or one
# that finishes all and does not exit.
NONE, CORRECT, STAYS = "", "correct", "never exits"
# Settings that wait for requests, or for nothing, are for applications that have one.
HANDLED = (CORRECT, STAYS)
ALL = (NONE, *HANDLED)


class Recipe(NamedTuple):
    """Settings as users write them, and the applications that they are for."""

    words: str = ""  # on the command line
    handlers: tuple[str, ...] = ALL
    late: tuple[str, ...] = ()  # those of them that nothing ends before the budget does
    by: str = "node"  # what starts the application
    file: str = ""  # of several programs, in configs/
    program: str = ""  # that of them; "": those that there are


CELERY = [sys.executable, "-m", "celery", "-A", "jobs_celery", "worker", "--concurrency", "4"]
COUNTED = "--drain-http http://127.0.0.1:{page}/active --drain-json /active"
NODE = {
    "preset node": Recipe("--preset node", late=(STAYS,)),
    "preset bullmq": Recipe("--preset bullmq"),
    "preset npm": Recipe("--preset npm", late=(STAYS,), by="npm"),
    "preset node, npm start": Recipe("--preset node", late=(STAYS,), by="npm"),
    "preset node, sh -c": Recipe("--preset node", late=(STAYS,), by="sh"),
    "preset node, before-signal": Recipe("--preset node --drain-when before-signal", late=(STAYS,)),
    "preset node, streams": Recipe("--preset node --drain-streams 5s", late=(STAYS,)),
    "agent, before-signal": Recipe("--agent node --drain-when before-signal", late=(STAYS,)),
    "preset docker-default, agent": Recipe("--preset docker-default --agent node", late=(STAYS,)),
    "preset kubernetes-default, agent": Recipe(
        "--preset kubernetes-default --agent node", late=(STAYS,)
    ),
    "preset docker-default": Recipe("--preset docker-default", HANDLED, late=HANDLED),
    "preset kubernetes-default": Recipe("--preset kubernetes-default", HANDLED, late=HANDLED),
    "preset any-http-server": Recipe("--preset any-http-server", HANDLED, late=HANDLED),
    "preset node, without its agent": Recipe("--preset node --agent off", HANDLED, late=HANDLED),
    "preset bullmq, without its agent": Recipe(f"--preset bullmq --agent off {COUNTED}", HANDLED),
    "linger": Recipe("--drain-tcp auto --drain-linger 1s", HANDLED, late=HANDLED),
    "linger, streams": Recipe(
        "--drain-tcp auto --drain-linger 1s --drain-streams 0s", HANDLED, late=HANDLED
    ),
    "before-signal": Recipe(
        "--drain-tcp auto --drain-when before-signal --success-exit-codes TERM",
        HANDLED,
        late=HANDLED,
    ),
    "counted": Recipe(COUNTED, HANDLED),
    "counted, before-signal": Recipe(f"{COUNTED} --drain-when before-signal"),
    "web of web-worker": Recipe(file="web-worker", program="web", handlers=HANDLED, late=HANDLED),
    "worker of web-worker": Recipe(
        file="web-worker", program="worker", handlers=HANDLED, late=HANDLED
    ),
    "web of stack": Recipe(file="stack", program="web", handlers=HANDLED, late=HANDLED),
    "worker of stack": Recipe(file="stack", program="worker", handlers=HANDLED),
    "behind nginx": Recipe(file="nginx-php-fpm", handlers=(NONE, CORRECT)),
}
PYTHON = {
    "preset gunicorn": Recipe("--preset gunicorn", (CORRECT,), by="gunicorn"),
    "preset gunicorn, linger": Recipe(
        "--preset gunicorn --drain-linger 2s", (CORRECT,), by="gunicorn"
    ),
    "preset uvicorn": Recipe("--preset uvicorn", (CORRECT,), by="uvicorn"),
    "preset hypercorn": Recipe("--preset hypercorn", (CORRECT,), by="hypercorn"),
    "any-http-server, Python": Recipe("--preset any-http-server", (CORRECT,), (CORRECT,), "python"),
    "gunicorn-celery": Recipe(file="gunicorn-celery", handlers=(CORRECT,), by="celery"),
    "linger, Python": Recipe("--drain-tcp auto --drain-linger 1s", (CORRECT,), by="python"),
}
RECIPES = NODE | PYTHON
SOME = ("preset node", "preset bullmq", "linger", "before-signal", "preset gunicorn, linger")
# The files of configs/ that are for something else.
OTHERS = {
    "proxies, which have no jobs: test_servers.py": ("haproxy", "httpd", "nginx"),
    "workers without an HTTP server: test_servers.py": ("celery", "dramatiq", "rq"),
    "databases": ("postgres", "redis"),
    "tried with requests only: test_servers.py": ("uwsgi", "unicorn"),
    "not tried": ("envoy", "php-fpm", "puma", "sidekiq", "vllm"),
}


def test_each_file_is_here_or_left_out_for_a_reason():
    here = " ".join(f"{recipe.words} {recipe.file}" for recipe in RECIPES.values()).split()
    others = [name for names in OTHERS.values() for name in names]
    files = sorted(file.stem for file in (ROOT / "configs").glob("*.toml"))
    assert [name for name in files if name not in here] == sorted(others)


# --- what is left of the work --------------------------------------------------------------------


def order(number: int) -> Request:
    """An order with a job; a POST, which no load balancer sends twice."""
    target = f"/orders/{number}?ms={50 + number % 10 * 50}&job={JOBS[number % 3]}"
    return Request("POST", target, b"", b"order %d" % number)


class Ledger:
    """What Redis knows of the jobs.

    Args:
        url: Its database.
    """

    def __init__(self, url: str) -> None:
        self._client = redis.Redis.from_url(url, decode_responses=True)

    def numbers(self, key: str) -> set[int]:
        return set(map(int, self._client.lrange(key, 0, -1)))  # type: ignore[union-attr,arg-type]

    def unfinished(self) -> set[int]:
        return self.numbers("begun") - self.numbers("done")

    def at_work(self) -> bool:
        """Return whether a job of each length is running."""
        return {number % 3 for number in self.unfinished()} == {0, 1, 2}

    def runs(self) -> int:
        return int(self._client.llen("done"))  # type: ignore[arg-type]

    def waiting(self) -> int:
        """Return how many jobs another worker will find: BullMQ's, Celery's or ours."""
        queues = ("bull:orders:wait", "celery", "queue")
        return sum(int(self._client.llen(key)) for key in queues)  # type: ignore[arg-type]


class Ended(NamedTuple):
    """What became of the work, and of the stop."""

    tally: Tally
    interrupted: int  # jobs that were begun and are not done
    twice: int  # runs of jobs that were done before
    lost: int  # orders that were answered, and whose job is neither done nor waits
    report: dict[str, Any]

    def __str__(self) -> str:
        lost = f"{self.interrupted} interrupted, {self.twice} twice, {self.lost} lost"
        return (
            f"{self.report['used_seconds']:5.2f} s, {lost}, {self.tally}: {self.report['summary']}"
        )


# --- one stop ------------------------------------------------------------------------------------


class Place(NamedTuple):
    """Where one application runs."""

    folder: Path
    port: int
    page: int
    front: int  # that clients know: of nginx, if that is before it

    def command(self, by: str, handler: str) -> list[str]:
        """Return the application's command."""
        node = ["node", str(SERVERS / "shop.js"), str(self.port), str(self.page), handler]
        python, address = [sys.executable, "-m"], f"127.0.0.1:{self.port}"
        match by:
            case "node":
                return node
            case "npm":
                start = {"scripts": {"start": shlex.join(node)}}
                (self.folder / "package.json").write_text(json.dumps(start))
                return ["npm", "start"]
            case "sh":
                return ["sh", "-c", f"{shlex.join(node)}; true"]
            case "gunicorn":
                words = ["-c", "shop.py", "--threads", "40", "-b", address, "shop:wsgi"]
                return [*python, "gunicorn", "--graceful-timeout", "20", *words]
            case "celery":
                words = ["--graceful-timeout", "20", "--threads", "40", "-b", address, "shop:wsgi"]
                return [*python, "gunicorn", *words]
            case "uvicorn":
                words = ["--timeout-graceful-shutdown", "20", "--port", str(self.port)]
                return [*python, "uvicorn", *words, "shop:asgi"]
            case "hypercorn":
                return [
                    *python,
                    "hypercorn",
                    "--graceful-timeout",
                    "20",
                    "-b",
                    address,
                    "shop:asgi",
                ]
            case _:
                return [sys.executable, "shop.py", str(self.port), handler]

    def settings(self, recipe: Recipe, command: list[str]) -> list[str]:
        """Return the words with which gracewrap is called."""
        budget = () if "docker" in recipe.words else ("--shutdown-timeout", f"{BUDGET}s")
        one = ["--ready", "tcp", "--propagation-delay", f"{PROPAGATION}s", *budget]
        if not recipe.file:
            return [*one, *shlex.split(recipe.words.format(page=self.page)), "--", *command]
        found = tomllib.loads((ROOT / "configs" / f"{recipe.file}.toml").read_text())
        if recipe.program:
            found = found["programs"][recipe.program] | {"command": command}
            found.pop("depends_on", None)
        else:
            one = []
            found["programs"] = self._several(recipe.file, found["programs"], command)
        text = tomli_w.dumps(found).replace("8080", str(self.port)).replace("9100", str(self.page))
        (self.folder / "gracewrap.toml").write_text(text)
        return [*one, "--config", str(self.folder / "gracewrap.toml")]

    def _several(
        self, file: str, programs: dict[str, dict[str, Any]], command: list[str]
    ) -> dict[str, dict[str, Any]]:
        """Return the programs of a file, with what is here in the place of what is not."""
        served = {"propagation_delay": f"{PROPAGATION}s"}
        app = {"command": command, "ready": {"tcp": self.port}}
        if file == "gunicorn-celery":
            web = programs["web"] | app | served | {"depends_on": []}
            return {
                "web": web,
                "worker": programs["worker"] | {"command": CELERY, "depends_on": []},
            }
        nginx = nginx_command(self.folder, self.front, self.port, "/orders")
        before = {"command": nginx, "ready": {"tcp": self.front}, "depends_on": ["app"]}
        return {"app": app | {"agent": "node"}, "nginx": programs["nginx"] | before | served}


def stop(recipe: Recipe, handler: str, url: str, folder: Path, modules: Path | None) -> Ended:
    """Start the application, and stop it when it answers requests and a job of each length is
    running."""
    folder.mkdir()
    port, page, health, proxy = free_ports(4)
    place = Place(folder, port, page, proxy if recipe.file == "nginx-php-fpm" else port)
    env = environment(REDIS_URL=url, NODE_PATH=str(modules), JOBS=recipe.by)
    words = [
        *("--health-listen", f"127.0.0.1:{health}", "--report", str(folder / "report.json")),
        *place.settings(recipe, place.command(recipe.by, handler)),
    ]
    where, ledger = folder if recipe.by == "npm" else SERVERS, Ledger(url)
    with contextlib.ExitStack() as stack:
        log = stack.enter_context((folder / "log").open("wb"))
        run = Run(*words, command=INSTALLED, cwd=where, env=env, stdout=log, stderr=log)
        stack.callback(run.close)
        with Load([(place.front, health)], order, RATE) as load:
            load.more(10)
            # A load balancer that opens connections in advance.
            stack.enter_context(socket.create_connection(("127.0.0.1", place.front), BOUND))
            wait_until(ledger.at_work, "a job of each length is running")
            load.until(lambda: load.backends[0].in_flight > 3, "it is busy")
            run.send(signal.SIGTERM)
            run.process.wait(2 * BOUND)
            tally = load.stop()
    done = len(ledger.numbers("done"))
    return Ended(
        tally,
        len(ledger.unfinished()),
        ledger.runs() - done,
        tally.good - done - ledger.waiting(),
        json.loads((folder / "report.json").read_text()),
    )


@pytest.fixture(scope="module")
def urls(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Callable[[], str]]:
    """Each call returns another database of Redis."""
    with redis_server(tmp_path_factory.mktemp("redis")) as port:
        numbers = iter(range(200))
        yield lambda: f"redis://127.0.0.1:{port}/{next(numbers)}"


def cases() -> list[Any]:
    names = RECIPES if os.environ.get("GRACEWRAP_RECIPES") == "all" else SOME
    return [pytest.param(name, marks=[pytest.mark.node] * (name in NODE)) for name in names]


@pytest.mark.parametrize("name", cases())
def test_nothing_is_lost(
    name: str, urls: Callable[[], str], tmp_path: Path, request: pytest.FixtureRequest
):
    """Applications with one handler and another are stopped side by side."""
    recipe, modules = RECIPES[name], None
    if name in NODE:
        wanted = Path(__file__).with_name("package.json")
        modules = npm_packages(request.config.cache, wanted)

    def one(handler: str) -> Ended:
        folder = tmp_path / (handler or "none").replace(" ", "-")
        return stop(recipe, handler, urls(), folder, modules)

    with ThreadPoolExecutor() as pool:
        ended = dict(zip(recipe.handlers, pool.map(one, recipe.handlers)))
    for handler, end in ended.items():
        print(f"{name}; handler: {handler or 'none'}; {end}")
    for handler, end in ended.items():
        tally, late = end.tally, end.report["outcome"] == "killed"
        assert (end.interrupted, end.twice, end.lost) == (0, 0, 0), end
        assert not tally.failures and tally.good + tally.turned_away == tally.sent, end
        assert late == (handler in recipe.late) and not end.report["interrupted"], end


@pytest.mark.node
def test_without_a_handler_tcp_does_not_save_jobs_and_the_summary_says_so(
    urls: Callable[[], str], tmp_path: Path, request: pytest.FixtureRequest
):
    """Else the load would show nothing."""
    modules = npm_packages(request.config.cache, Path(__file__).with_name("package.json"))
    end = stop(RECIPES["before-signal"], NONE, urls(), tmp_path / "none", modules)
    assert end.interrupted and not end.tally.failures, end
    # Node.js catches SIGTERM itself, so it cannot be told whether the application does.
    assert "if it was working on a job, that may be lost" in end.report["summary"], end
