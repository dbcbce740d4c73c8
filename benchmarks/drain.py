"""python -m benchmarks.drain: measures what probes cost at ten samples a second, and how soon
gracewrap acts on their result; prints JSON.

The wrapped command is this program itself (`serve`).  It has an HTTP endpoint on a unix socket, a
TCP port with an open connection, a file, and NOTIFY_SOCKET.  All of them report "busy" until a line
on stdin makes them report "drained".
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import select
import signal
import socket
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

from benchmarks import peers

SECONDS = 10.0
ROUNDS = 20
KINDS = ("http", "tcp", "exec", "file", "notify")


def main() -> int:
    """Run the command line; return the exit status."""
    if sys.argv[1:2] == ["serve"]:
        return serve(Path(sys.argv[2]))
    parser = argparse.ArgumentParser(prog="python -m benchmarks.drain", description=__doc__)
    peers.add_options(parser)
    options = parser.parse_args()
    gracewrap = peers.gracewrap_command(options.gracewrap, options.python)
    with tempfile.TemporaryDirectory() as folder:
        result: dict[str, object] = {
            "gracewrap_started_by": peers.how(options.gracewrap),
            "seconds": SECONDS,
            "samples_a_second": 10,
        }
        result["percent_of_a_core"] = {
            name: cost(gracewrap, Path(folder), kinds)
            for name, kinds in [*((kind, (kind,)) for kind in KINDS), ("all", KINDS)]
        }
        result["late_ms"] = {
            kind: lateness(gracewrap, Path(folder), kind) for kind in ("http", "file")
        }
        print(json.dumps(result, indent=1))
    return 0


@contextlib.contextmanager
def draining(
    gracewrap: list[str], folder: Path, kinds: tuple[str, ...]
) -> Iterator[subprocess.Popen[str]]:
    """Run gracewrap around `serve`, with probes of these *kinds* at ten samples a second.

    Yields it after its stop request; kills it and the command at the end.
    """
    probes = {
        "http": f'{{http = "unix://{folder}/app.sock:/drain", json = "/jobs", equals = 0}}',
        "tcp": '{tcp = true, quiet = "1s"}',
        "exec": f'{{exec = ["test", "!", "-e", "{folder}/busy"]}}',
        "file": f'{{file = "{folder}/busy", file_is = "absent"}}',
        "notify": "{notify = true}",
    }
    (folder / "g.toml").write_text(
        '[drain]\nwhen = "before-signal"\ninterval = "100ms"\nall = '
        f"[{', '.join(probes[kind] for kind in kinds)}]\n"
    )
    (folder / "busy").touch()
    (folder / "app.sock").unlink(missing_ok=True)
    process = subprocess.Popen(
        [*gracewrap, "--config", str(folder / "g.toml"), "--shutdown-timeout", "10m", "--",
         sys.executable, "-m", "benchmarks.drain", "serve", str(folder)],
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True,
    )  # fmt: skip
    assert process.stdout is not None
    child = int(process.stdout.readline().split()[1])  # "ready PID"
    process.terminate()
    try:
        yield process
    finally:
        process.kill()
        with contextlib.suppress(ProcessLookupError):
            os.kill(child, signal.SIGKILL)
        process.communicate()


def cost(gracewrap: list[str], folder: Path, kinds: tuple[str, ...]) -> float:
    """Return the share of a core that gracewrap uses while it samples, in percent."""
    with draining(gracewrap, folder, kinds) as process:
        time.sleep(2.0)  # the imports for the probes are not part of the cost of a sample
        before, at = cpu_seconds(process.pid), time.monotonic()
        time.sleep(SECONDS)
        used = cpu_seconds(process.pid) - before
        return round(100 * used / (time.monotonic() - at), 2)


def cpu_seconds(pid: int) -> float:
    """Return the CPU time of a process (proc(5): schedstat)."""
    return int(Path(f"/proc/{pid}/schedstat").read_text().split()[0]) / 1e9


def lateness(gracewrap: list[str], folder: Path, kind: str) -> dict[str, float]:
    """Return how late the stop signal is sent, beyond the two intervals of two samples, in ms."""
    late = []
    for _ in range(ROUNDS):
        with draining(gracewrap, folder, (kind,)) as process:
            assert process.stdin is not None and process.stdout is not None
            time.sleep(0.5)
            process.stdin.write("drained\n")
            process.stdin.flush()
            drained, signalled = (float(process.stdout.readline()) for _ in range(2))
            late.append(1000 * (signalled - drained) - 200)
    return {"median": round(statistics.median(late), 1), "worst": round(max(late), 1)}


def serve(folder: Path) -> int:
    """Report busy until a line on stdin; print the time of that line and of the stop signal."""
    signal.signal(signal.SIGTERM, lambda *_: print(time.monotonic(), flush=True))
    jobs = 3
    listener = socket.socket(socket.AF_UNIX)
    listener.bind(str(folder / "app.sock"))
    listener.listen()
    port = socket.create_server(("127.0.0.1", 0))
    client = socket.create_connection(port.getsockname())
    served, _ = port.accept()
    client.send(b"GET / HTTP/1.1\r\n\r\n")
    print("ready", os.getpid(), flush=True)
    while True:
        for source in select.select([0, listener], [], [])[0]:
            if source is listener:
                connection, _ = listener.accept()
                connection.recv(65536)
                body = json.dumps({"jobs": jobs}).encode()
                connection.sendall(
                    b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % len(body) + body
                )
                connection.close()
            elif not os.read(0, 4096):
                return 0
            else:
                jobs = 0
                (folder / "busy").unlink(missing_ok=True)
                served.send(b"done")
                print(time.monotonic(), flush=True)


if __name__ == "__main__":
    sys.exit(main())
