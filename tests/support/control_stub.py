"""A stub of a running gracewrap that answers what a test wants, and clients to ask it."""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import pty
import select
import struct
import subprocess
import termios
import threading
import time
from http.server import BaseHTTPRequestHandler
from socketserver import ThreadingUnixStreamServer

from gracewrap.cli import status_view as status
from processes import BOUND, GRACEWRAP, INSTALLED, environment

WIDTH, HEIGHT = 80, 24
ACTIONS = ["status", "drain", "undrain", "stop", "restart", "health", "reopen"]


def a_probe(**more: object) -> dict[str, object]:
    probe = {
        "kind": "http",
        "unit": "jobs",
        "reading": "busy",
        "in_flight": 3,
        "why": "",
        "age_seconds": 0.1,
        "failures": 0,
    }
    return {**probe, **more}


def a_status(
    phase: str = "running", stop: object = None, waits: str = "", **more: object
) -> dict[str, object]:
    """Return what a gracewrap would say that wraps one program with one probe."""
    program: dict[str, object] = {
        "name": "node",
        "command": ["node", "server.js"],
        "pid": 7,
        "phase": phase,
        "status_text": "",
        "waiting_for": waits,
        "drain": {"drained": phase == "drained", "in_flight": 3, "probes": [a_probe()]},
        "processes": [
            {"pid": 7, "parent": 1, "name": "node", "state": "S"},
            {"pid": 9, "parent": 7, "name": "sh", "state": "Z"},
        ],
        **more,
    }
    return {
        "gracewrap": "0.1.0", "pid": 1, "phase": phase, "ready": phase == "running",
        "reason": "" if phase == "running" else phase, "uptime_seconds": 12.3,
        "zombies_reaped": 3, "signals_forwarded": 1, "stop": stop, "programs": [program],
    }  # fmt: skip


def one_of(name: str, phase: str = "running", why: str = "", **more: object) -> dict[str, object]:
    """Return what is said of one of several programs."""
    up = phase not in ("pending", "starting", "backing off", *status.ENDED)
    program: dict[str, object] = {
        "name": name,
        "command": ["node", f"{name}.js"],
        "pid": 7 if up else None,
        "phase": phase,
        "ready": phase == "running" and not why,
        "why": why,
        "waits_for": [],
        "left_seconds": None,
        "uptime_seconds": 192.4 if up else None,
        "restarts": 0,
        "next_start_seconds": None,
        "exit_status": None,
        "status_text": "",
        "waiting_for": "",
        "drain": None,
        "processes": [],
        "all_processes": False,
        **more,
    }
    return program


def several(
    phase: str = "running", *programs: dict[str, object], **more: object
) -> dict[str, object]:
    """Return what a gracewrap would say that runs several programs."""
    return {**a_status(phase), "part": None, "programs": list(programs), **more}


STOP = {
    "requested_by": "SIGTERM from pid 4",
    "elapsed_seconds": 1.2,
    "left_seconds": 23.8,
    "budget_seconds": 25,
}


class Stub(ThreadingUnixStreamServer):
    """What listens where a gracewrap would, and answers what a test has put into *answers*; the
    last of a list stays."""

    daemon_threads = True

    def __init__(self, path: str) -> None:
        self.answers: dict[str, list[object]] = {
            "/livez": [(200, {"live": True})],
            "/readyz": [(200, {"ready": True})],
        }
        self.asked: list[str] = []
        super().__init__(path, Handler)
        self.path = path
        self.thread = threading.Thread(target=self.serve_forever, args=(0.01,))
        self.thread.start()

    def say(self, target: str, *answers: object) -> None:
        """Answer *target* with these (status, JSON), raw bytes, or None (which hangs up and ends it
        all), one after another."""
        self.answers[target] = list(answers)

    def end(self) -> None:
        """Be gone, as a gracewrap that has ended."""
        if os.path.exists(self.path):
            os.unlink(self.path)
            self.shutdown()
            self.server_close()


class Handler(BaseHTTPRequestHandler):
    server: Stub
    protocol_version = "HTTP/1.1"

    def do_GET(self) -> None:
        self.server.asked.append(f"{self.command} {self.path}")
        answers = self.server.answers.get(
            self.path.partition("?")[0], [(404, {"error": "no such page"})]
        )
        answer = answers.pop(0) if len(answers) > 1 else answers[0]
        self.close_connection = True
        if answer is None:
            self.server.end()
        elif isinstance(answer, bytes):
            with contextlib.suppress(ConnectionError):
                self.wfile.write(answer)
        else:
            code, body = answer
            content = json.dumps(body).encode() if not isinstance(body, bytes) else body
            self.send_response(code)
            self.send_header("Content-Length", str(len(content)))
            self.end_headers()
            self.wfile.write(content)

    do_POST = do_GET  # noqa: N815 - as BaseHTTPRequestHandler wants it

    def log_message(self, *_: object) -> None:
        pass


class Done:
    """What a client that has ended said."""

    def __init__(self, *words: object, program: list[str] = GRACEWRAP, **options: object) -> None:
        settings = {
            "stdin": subprocess.DEVNULL,
            "text": True,
            "timeout": BOUND,
            "env": environment(),
            **options,
        }
        done = subprocess.run([*program, *map(str, words)], capture_output=True, **settings)  # type: ignore[call-overload]
        self.status, self.out, self.err = done.returncode, done.stdout, done.stderr


def ask(stub: Stub, *words: object, **options: object) -> Done:
    return Done(*words, "--socket", stub.path, **options)


STOPPING = several(
    "stopping",
    one_of(
        "db",
        why="waiting for web: requests 7 → 3; worker: jobs 2",
        waits_for=["web", "worker"],
        left_seconds=23.2,
    ),
    one_of("web", "stopping", left_seconds=11.2, waiting_for="requests 7 → 3", restarts=2),
    one_of("worker", "draining", "waiting for pre_stop", left_seconds=9.4, waiting_for="jobs 2"),
    one_of("migrate", "completed", "exited with 0", exit_status=0),
    one_of(
        "cache", "backing off", "exited with 1", exit_status=1, next_start_seconds=3.2, restarts=12
    ),
    stop=STOP,
)


NO_ANSWERS = {
    "refused": ((403, b"This is for root.\n"), "This is for root."),
    "a bug": ((500, {"error": "a bug"}), "a bug"),
    "a list": ((200, b"[]"), "no status"),
    "no JSON": ((200, b"{"), "no status"),
    "no HTTP": (b"SSH-2.0-OpenSSH\r\n\r\n", "not gracewrap's HTTP"),
    "nothing": (b"", "closed connection"),
    "half": (b"HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\n{}", "ends in the middle"),
    "an endless body": (b"HTTP/1.1 200 OK\r\n\r\n" + b"x" * (17 << 20), "longer than"),
    "an endless head": (b"x" * (17 << 20), "more than 65536 bytes"),
}


ACCEPTED = (202, {"ok": True, "message": "draining"})


def waited(
    stub: Stub, *answers: object, words: tuple[str, ...] = (), posted: object = ACCEPTED
) -> Done:
    """Return what `drain --wait` says where /status says *answers*, one after another."""
    stub.say("/drain", posted)
    stub.say("/status", *[answer if answer is None else (200, answer) for answer in answers])
    return ask(stub, "drain", "--wait", *words)


def asked(stub: Stub, action: str, *statuses: object, **more: object) -> Done:
    """Return what `gracewrap ACTION web` says where the request gets number 7 and /status says
    *statuses* after that."""
    until = {"restart": "restarted", "stop": "stopped"}[action]
    answer = {
        "message": f"{action} web",
        "request": 7,
        "named": ["web"],
        "programs": ["web"],
        "until": until,
        **more,
    }
    stub.say(f"/{action}", (202, answer))
    stub.say("/status", *[one if one is None else (200, one) for one in statuses])
    return ask(stub, action, "web")


def request(state: str, **more: object) -> dict[str, object]:
    return {"request": {"number": 7, "state": state, "why": "", "killed": [], **more}}


class Terminal:
    """A client on a terminal of 80 columns and 24 lines."""

    def __init__(self, *words: object, term: str = "xterm-256color") -> None:
        self.master, slave = pty.openpty()
        fcntl.ioctl(slave, termios.TIOCSWINSZ, struct.pack("HHHH", HEIGHT, WIDTH, 0, 0))
        self.before = termios.tcgetattr(slave)
        # Only by a preexec_fn can a test make the terminal the controlling one.
        self.process = subprocess.Popen(
            [*INSTALLED, *map(str, words)],
            stdin=slave,
            stdout=slave,
            stderr=slave,
            env=environment(TERM=term),
            start_new_session=True,
            preexec_fn=lambda: fcntl.ioctl(0, termios.TIOCSCTTY, 0),  # noqa: PLW1509
        )
        self.slave, self.seen = slave, ""

    def until(self, *wanted: str) -> str:
        """Read until all of *wanted* has come, and return all that has come."""
        until = time.monotonic() + BOUND
        while not all(one in self.seen for one in wanted):
            if not select.select([self.master], [], [], max(0.0, until - time.monotonic()))[0]:
                raise TimeoutError(f"{wanted} not in {self.seen!r}")
            self.seen += os.read(self.master, 65536).decode(errors="replace")
        return self.seen

    def wait(self) -> int:
        """Return the exit status, with all that was shown in *seen*."""
        os.close(self.slave)
        self.slave = -1
        with contextlib.suppress(OSError):  # EIO: nobody has it open any more
            while select.select([self.master], [], [], BOUND)[0] and (
                part := os.read(self.master, 65536)
            ):
                self.seen += part.decode(errors="replace")
        return self.process.wait(BOUND)

    def close(self) -> None:
        if self.process.poll() is None:
            self.process.kill()
        self.process.wait(BOUND)
        for fd in (self.master, self.slave):
            with contextlib.suppress(OSError):
                os.close(fd)
