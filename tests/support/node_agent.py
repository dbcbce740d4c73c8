"""Node.js with the agent loaded into it, and the other end of its socket in the test's hands."""

from __future__ import annotations

import json
import os
import shutil
import signal
import socket
import subprocess
import tempfile
import urllib.request
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path

from gracewrap.runtime import node_agent
from processes import BOUND, Lines, require, wait_until

NODE = shutil.which("node")


class Connection:
    """One agent's connection."""

    def __init__(self, sock: socket.socket) -> None:
        sock.settimeout(BOUND)
        self._socket, self._file = sock, sock.makefile("r")
        self._asked = 0
        self.hello = self.read("hello")

    def read(self, kind: str) -> dict[str, object]:
        """Return the next message of a kind."""
        while line := self._file.readline():
            message: dict[str, object] = json.loads(line)
            if message["type"] == kind:
                return message
        raise EOFError(f"no {kind}")

    def send(self, **message: object) -> None:
        self._socket.sendall(json.dumps(message).encode() + b"\n")

    def ask(self) -> dict[str, object]:
        """Return what is in flight."""
        self._asked += 1
        self.send(type="ask", id=self._asked)
        answer = self.read("in_flight")
        assert answer.pop("id") == self._asked
        answer.pop("type")
        return answer

    def requests(self) -> int:
        """Return how many requests are in flight."""
        return int(str(self.ask()["requests"]))

    def until(self, **wanted: object) -> dict[str, object]:
        """Ask until the answer holds what is *wanted*."""
        answer: dict[str, object] = {}

        def found() -> bool:
            answer.update(self.ask())
            return wanted.items() <= answer.items()

        wait_until(found, f"the agent counts {wanted}")
        return answer

    def stop(self, seconds: float = 20.0, **more: object) -> object:
        """Tell it that SIGTERM comes next, and *more*; return who will act on it."""
        self.send(type="stop", signal=int(signal.SIGTERM), deadline_ms=int(seconds * 1000), **more)
        return self.read("state")["handler"]

    def close(self) -> None:
        self._file.close()
        self._socket.close()


class Node:
    """A process of Node.js; the port that it prints is where it serves."""

    def __init__(
        self, words: list[str], listener: socket.socket, path: str, folder: Path, **env: str
    ) -> None:
        options = node_agent.with_agent(b"", node_agent.agent_file()).decode()
        variables = {"NODE_OPTIONS": options, "GRACEWRAP_AGENT_SOCKET": path, **env}
        self._listener = listener
        self.process = subprocess.Popen(
            words,
            cwd=folder,
            env=os.environ | variables,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
        )
        assert self.process.stdout is not None
        self.lines = Lines(self.process.stdout.fileno())
        self.port = 0
        self._pool = ThreadPoolExecutor(64)
        self._connections: list[Connection] = []

    def connect(self) -> Connection:
        """Return the next agent that connects."""
        sock, _ = self._listener.accept()
        self._connections.append(Connection(sock))
        return self._connections[-1]

    def begin(self) -> Connection:
        """Wait until its agent has connected and it serves."""
        agent = self.connect()
        self.listens()
        return agent

    def listens(self) -> int:
        """Wait for the line with its port."""
        self.port = int(self.lines.next().rpartition(" ")[2])
        return self.port

    def stopped_within_a_request(self, path: str) -> None:
        """Wait until it serves, and stop it in the middle of a request for *path*, which answers
        "done": the agent finishes that, and it exits with 0."""
        agent = self.begin()
        slow = self.get(path)
        agent.until(requests=1)
        assert agent.stop() == "agent"
        self.terminate()
        assert slow.result(BOUND)[2] == b"done"
        assert self.wait() == 0

    def get(self, path: str) -> Future[tuple[int, dict[str, str], bytes]]:
        """Begin a request: status, headers, body."""

        def request() -> tuple[int, dict[str, str], bytes]:
            url = f"http://127.0.0.1:{self.port}{path}"
            with urllib.request.urlopen(url, timeout=BOUND) as answer:
                return answer.status, dict(answer.headers), answer.read()

        return self._pool.submit(request)

    def terminate(self) -> None:
        self.process.send_signal(signal.SIGTERM)

    def wait(self) -> int:
        """Return its exit status; -N: signal N has ended it."""
        return self.process.wait(BOUND)

    def close(self) -> None:
        for connection in self._connections:
            connection.close()
        self.process.kill()
        self.process.wait(BOUND)
        for pipe in (self.process.stdout, self.process.stderr):
            if pipe is not None:
                pipe.close()
        self._pool.shutdown()


@contextmanager
def node(
    script: str,
    name: str = "server.js",
    command: list[str] | None = None,
    folder: Path | None = None,
    **env: str,
) -> Iterator[Node]:
    """Run a script under the agent.

    Args:
        script: Its text; "": the command needs none.
        name: Of its file.
        command: What runs it; without: node.
        folder: Where it is; without: a new one.
        env: More variables.
    """
    require(NODE, "node")
    with (
        tempfile.TemporaryDirectory() as made,
        socket.socket(socket.AF_UNIX) as listener,
    ):
        path = f"{made}/agent"
        listener.bind(path)
        listener.listen(64)
        listener.settimeout(BOUND)
        folder = folder or Path(made)
        if script:
            (folder / name).write_text(script)
        running = Node([*(command or ["node"]), name], listener, path, folder, **env)
        try:
            yield running
        finally:
            running.close()
