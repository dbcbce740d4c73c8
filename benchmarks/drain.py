"""python -m benchmarks.drain: what probes cost at ten samples a second, and how late their verdict
is acted on; prints JSON.

The command is this program itself (`serve`): an HTTP endpoint on a unix socket, a TCP port with an
open connection, a file, and NOTIFY_SOCKET, all of which say "busy" until a line on stdin has them
say "drained".
"""

from __future__ import annotations

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
from pathlib import Path

SECONDS = 10.0
ROUNDS = 20
KINDS = ("http", "tcp", "exec", "file", "notify")


def main() -> int:
    """Measure, print; return the exit status."""
    if sys.argv[1:2] == ["serve"]:
        return serve(Path(sys.argv[2]))
    with tempfile.TemporaryDirectory() as folder:
        result: dict[str, object] = {"seconds": SECONDS, "samples_a_second": 10}
        result["percent_of_a_core"] = {
            name: cost(Path(folder), kinds)
            for name, kinds in [*((kind, (kind,)) for kind in KINDS), ("all", KINDS)]
        }
        result["late_ms"] = {kind: lateness(Path(folder), kind) for kind in ("http", "file")}
        print(json.dumps(result, indent=1))
    return 0


def start(folder: Path, kinds: tuple[str, ...], *more: str) -> subprocess.Popen[str]:
    """Start gracewrap with these probes, ten samples a second, around this program; it is stopping
    when this returns."""
    parts = {
        "http": f'{{http = "unix://{folder}/app.sock:/drain", json = "/jobs", equals = 0}}',
        "tcp": '{tcp = true, quiet = "1s"}',
        "exec": f'{{exec = ["test", "!", "-e", "{folder}/busy"]}}',
        "file": f'{{file = "{folder}/busy", file_is = "absent"}}',
        "notify": "{notify = true}",
    }
    (folder / "g.toml").write_text(
        '[drain]\nwhen = "before-signal"\ninterval = "100ms"\nall = '
        f"[{', '.join(parts[kind] for kind in kinds)}]\n"
    )
    (folder / "busy").touch()
    (folder / "app.sock").unlink(missing_ok=True)
    process = subprocess.Popen(
        [sys.executable, "-m", "gracewrap", "--config", str(folder / "g.toml"),
         "--shutdown-timeout", "10m", *more, "--", sys.executable, "-m", "benchmarks.drain",
         "serve", str(folder)],
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True,
    )  # fmt: skip
    assert process.stdout is not None
    process.stdout.readline()
    process.terminate()
    return process


def cost(folder: Path, kinds: tuple[str, ...]) -> float:
    """Return the share of a core that gracewrap takes while it asks, in percent."""
    process = start(folder, kinds)
    time.sleep(2.0)  # what is imported for it is not the cost of a sample
    before, at = runtime(process.pid), time.monotonic()
    time.sleep(SECONDS)
    used = runtime(process.pid) - before
    took = time.monotonic() - at
    end(process)
    return round(100 * used / took, 2)


def runtime(pid: int) -> float:
    """Return the seconds that a process has run (proc(5): schedstat)."""
    return int(Path(f"/proc/{pid}/schedstat").read_text().split()[0]) / 1e9


def lateness(folder: Path, kind: str) -> dict[str, float]:
    """Return how late the stop signal comes, beyond the two intervals that two samples take, in
    milliseconds."""
    late = []
    for _ in range(ROUNDS):
        process = start(folder, (kind,))
        assert process.stdin is not None and process.stdout is not None
        time.sleep(0.5)
        process.stdin.write("drained\n")
        process.stdin.flush()
        drained, signalled = (float(process.stdout.readline()) for _ in range(2))
        late.append(1000 * (signalled - drained) - 200)
        end(process)
    return {"median": round(statistics.median(late), 1), "worst": round(max(late), 1)}


def end(process: subprocess.Popen[str]) -> None:
    process.kill()
    process.communicate()
    subprocess.run(["pkill", "-KILL", "-f", "benchmarks.drain serve"], check=False)


def serve(folder: Path) -> int:
    """Be busy until told otherwise; print when that was, and when the stop signal came."""
    say = lambda: print(time.monotonic(), flush=True)  # noqa: E731
    signal.signal(signal.SIGTERM, lambda *_: say())
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
                say()


if __name__ == "__main__":
    sys.exit(main())
