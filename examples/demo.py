"""The main job, for `make demo`: wrap a real HTTP server, stop it while a slow request is in
flight, show what happens; then rehearse the stops of a server and of a worker that have no shutdown
code, with gracewrap and without."""

from __future__ import annotations

import contextlib
import os
import re
import shlex
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import urllib.request
from collections.abc import Iterator
from pathlib import Path

HERE = Path(__file__).parent
GRACEWRAP = str(Path(sys.executable).with_name("gracewrap"))
PACKAGES = Path(sys.prefix) / "demo-packages"  # make clean removes it
OLDEST_NODE = 18
PROGRAMS = {"node": f"nodejs ({OLDEST_NODE} or newer)", "npm": "npm",
            "redis-server": "redis-server", "tini": "tini"}  # fmt: skip
SAVED_BY_HAND = ("--drain-when", "before-signal", "--success-exit-codes", "TERM")


def main() -> int:
    """Return 0 if nothing was lost that gracewrap is to save."""
    signal.signal(signal.SIGINT, lambda *_: None)  # the drill hears of it too, and cleans up
    failed = stop_one() or rehearse_requests() or rehearse_jobs()
    if missing := [PROGRAMS[name] for name in PROGRAMS if not has(name)]:
        print("\nSkipped: what needs", ", ".join(missing), "(names of Debian's packages).")
        print(
            "With all of them, a Node.js server and a BullMQ worker are stopped, also under tini."
        )
    return failed


def has(name: str) -> bool:
    """Return whether a program is there, and Node.js is not too old."""
    if name != "node" or not shutil.which(name):
        return shutil.which(name) is not None
    version = subprocess.run([name, "--version"], capture_output=True, text=True, check=False)
    major = re.match(r"v(\d+)", version.stdout)
    return major is not None and int(major[1]) >= OLDEST_NODE


def stop_one() -> int:
    """Return 0 if the request in flight was answered and the server ended well."""
    command = [GRACEWRAP, "--log-format", "text", "--shutdown-timeout", "8s", "--"]
    command += [sys.executable, "-u", str(HERE / "slow_server.py")]
    print("$", " ".join(["gracewrap", *command[1:5], "--", "python3", "slow_server.py"]))
    wrapped = subprocess.Popen(command, env={"PORT": "0"}, stdout=subprocess.PIPE, text=True)
    assert wrapped.stdout is not None
    first = wrapped.stdout.readline()
    print(first, end="", flush=True)
    answers: list[str] = []
    url = f"http://127.0.0.1:{first.rsplit(maxsplit=1)[-1]}/slow?s=1.5"
    client = threading.Thread(
        target=lambda: answers.append(urllib.request.urlopen(url, timeout=10).read().decode())
    )
    client.start()
    print(f"client: GET {url}", flush=True)
    print(
        wrapped.stdout.readline(), end="", flush=True
    )  # "working on ...": the request is in flight
    print(f"you:    kill -TERM {wrapped.pid}", flush=True)
    wrapped.send_signal(signal.SIGTERM)
    for line in wrapped.stdout:
        print(line, end="", flush=True)
    status = wrapped.wait(20)
    client.join(5)
    print(f"client: {answers[0] if answers else 'the request was cut'}", end="")
    print(f"gracewrap left with exit status {status}")
    return 0 if answers and status == 0 else 1


def rehearse_requests() -> int:
    """Return 0 if no request was lost under gracewrap; without it, some are."""
    print("\nA server without shutdown code, 20 requests a second, one stop under each (10 s):\n")
    load = ["--url", "http://127.0.0.1:{port}/", "--propagation-delay", "1s"]
    if has("node"):
        return drill([*load, "--preset", "node"], ["node", "node/server.js"])
    saved = ["--drain-tcp", "auto", *SAVED_BY_HAND]
    return drill([*load, *saved], ["python3", "server_without_shutdown_code.py"])


def rehearse_jobs() -> int:
    """Return 0 if no job was lost under gracewrap; without it, some are."""
    load = ["--rate", "4", "--job-timeout", "5s", "--job-command"]
    with (
        tempfile.TemporaryDirectory(prefix="gracewrap-demo-") as folder,
        redis(folder) if bullmq_is_here() else contextlib.nullcontext() as socket,
    ):
        what = "BullMQ worker" if socket else "worker"
        print(f"\nA {what} without shutdown code, 4 jobs a second, one stop under each (20 s):\n")
        if socket:
            more = {"REDIS_SOCKET": socket, "NODE_PATH": str(PACKAGES / "node_modules")}
            worker = ["node", "node/worker.js"]
            return drill([*load, shlex.join(worker), "--preset", "bullmq"], worker, more)
        worker = ["python3", "worker_without_shutdown_code.py"]
        saved = ["--drain-start", f"{shlex.join(worker)} pause"]
        saved += ["--drain-exec", f"{shlex.join(worker)} busy", *SAVED_BY_HAND]
        return drill([*load, shlex.join(worker), *saved], worker, {"JOBS": folder})


def drill(options: list[str], command: list[str], more: dict[str, str] | None = None) -> int:
    """Hold a drill, beside the same without gracewrap; return its exit status."""
    ways = ",".join(["bare", *filter(has, ("tini",))])
    words = ["drill", *options, "--compare", ways, "--", *command]
    print("$", shlex.join(["gracewrap", *words]), flush=True)
    python3 = {"PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}"}
    env = {**os.environ, **python3, **(more or {})}
    return subprocess.run([GRACEWRAP, *words], cwd=HERE, env=env, check=False).returncode


def bullmq_is_here() -> bool:
    """Return whether a BullMQ worker can be shown; its packages are installed once."""
    if not all(map(has, ("node", "npm", "redis-server"))):
        return False
    if (PACKAGES / "installed").exists():
        return True
    print("\ninstalling BullMQ, once: npm install", flush=True)
    PACKAGES.mkdir(exist_ok=True)
    shutil.copy(HERE / "node" / "package.json", PACKAGES)
    words = ["timeout", "60", "npm", "install", "--no-audit", "--no-fund", "--ignore-scripts"]
    done = subprocess.run(words, cwd=PACKAGES, check=False)
    if done.returncode == 0:
        (PACKAGES / "installed").touch()
    else:
        print("npm could not install it: another worker is shown instead")
    return done.returncode == 0


@contextlib.contextmanager
def redis(folder: str) -> Iterator[str]:
    """Run a Redis; yields the path of its socket."""
    path = f"{folder}/redis.sock"
    words = ["redis-server", "--port", "0", "--unixsocket", path, "--save", "", "--dir", folder]
    with subprocess.Popen(words, stdout=subprocess.PIPE, text=True) as server:
        assert server.stdout is not None
        any("ccept connections" in line for line in server.stdout)  # or it has ended
        try:
            yield path
        finally:
            server.terminate()


if __name__ == "__main__":
    sys.exit(main())
