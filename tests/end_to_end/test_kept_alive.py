"""Clients that keep their connections and go on sending, as behind a Kubernetes Service: nothing
from outside makes them leave, so the stop signal goes in a good moment."""

from __future__ import annotations

import contextlib
import signal
import socket
import sys
import threading
from collections.abc import Callable, Iterator

import pytest

from processes import BOUND, Run

# Without a handler for SIGTERM; answers each line after a short while.
SERVER = """
import socket, threading, time
listener = socket.create_server(("127.0.0.1", 0))
print("ready", listener.getsockname()[1], flush=True)
def serve(connection):
    with connection.makefile("rwb", 0) as lines:
        for _ in lines:
            time.sleep(0.01)
            lines.write(b"answer\\n")
while True:
    threading.Thread(target=serve, args=(listener.accept()[0],), daemon=True).start()
"""
CLIENTS = 3
REQUEST = b"GET / HTTP/1.1 Host: x.example\n"


class Clients:
    """Threads that send one request after the other, each on one connection."""

    def __init__(self, port: int) -> None:
        self.over = threading.Event()
        self.answered = threading.Barrier(CLIENTS + 1)  # each has had its first answer
        self.threads = [threading.Thread(target=self._run, args=(port,)) for _ in range(CLIENTS)]
        for thread in self.threads:
            thread.start()
        self.answered.wait(BOUND)

    def _run(self, port: int) -> None:
        with socket.create_connection(("127.0.0.1", port), BOUND) as connection:
            lines = connection.makefile("rwb", 0)
            with contextlib.suppress(OSError):  # the server is gone
                lines.write(REQUEST)
                answer = lines.readline()
                self.answered.wait(BOUND)
                while answer and not self.over.wait(0.1):
                    lines.write(REQUEST)
                    answer = lines.readline()
            lines.close()

    def close(self) -> None:
        self.over.set()
        for thread in self.threads:
            thread.join(BOUND)


@pytest.fixture
def run(start: Callable[..., Run]) -> Iterator[Run]:
    yield start(
        *("--shutdown-timeout", "8s", "--drain-tcp", "auto", "--drain-when", "before-signal"),
        *("--drain-interval", "50ms", "--", sys.executable, "-c", SERVER),
    )


def test_the_stop_signal_goes_in_a_moment_without_a_request(run):
    clients = Clients(int(run.line().split()[1]))
    try:
        run.send(signal.SIGTERM)
        said = run.log_line("kept_alive")
        assert 1 <= int(str(said["connections"])) <= CLIENTS
        assert "kept alive by" in str(said["message"]) and "sending" in str(said["message"])
        moment = run.log_line("good_moment")
        assert moment["in_flight"] == 0
        assert run.wait() == 143
        (summary,) = [line for line in run.log() if line["event"] == "summary"]
        assert float(str(summary["used_seconds"])) < 7.2  # when the signal would have gone else
    finally:
        clients.close()
