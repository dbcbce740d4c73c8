"""Starts a real gracewrap and reads its lines, and helpers around processes.

Every wait has a bound that only a broken program reaches.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import select
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
SUPPORT = ROOT / "tests" / "support"
MAIN = ROOT / "supervisor" / "gracewrap" / "__main__.py"
GRACEWRAP = [sys.executable, "-I", "-S", str(MAIN)]
# The same, with a line on stderr for each module that has been loaded.
TELLS_IMPORTS = [GRACEWRAP[0], "-X", "importtime", *GRACEWRAP[1:]]
# With the installed packages (h11, rich, ...), which -S hides.
INSTALLED = [sys.executable, "-m", "gracewrap"]
TALKER = [sys.executable, "-I", "-S", str(Path(__file__).with_name("talker.py"))]
BOUND = 30.0  # seconds; a loaded machine needs a fraction of this


def environment(**more: str) -> dict[str, str]:
    """Return our environment without GRACEWRAP_ variables, plus *more*."""
    kept = {k: v for k, v in os.environ.items() if not k.startswith("GRACEWRAP_")}
    return {**kept, **more}


def require(condition: object, what: str) -> None:
    """Skip the test unless *condition*; fail it in CI, which installs everything."""
    if not condition:
        if os.environ.get("CI"):
            pytest.fail(f"CI must have {what}")
        pytest.skip(f"needs {what}")


def require_root() -> None:
    require(os.geteuid() == 0 and shutil.which("unshare"), "root and unshare(1), for namespaces")


# Another user, who may read all files (the interpreter and this checkout may be in someone's home)
# but write none.
OTHER_USER = (
    *("setpriv", "--reuid=34567", "--regid=34567", "--clear-groups"),
    *("--inh-caps=-all,+dac_read_search", "--ambient-caps=-all,+dac_read_search"),
)


def require_other_user() -> None:
    require_root()
    require(shutil.which("setpriv"), "setpriv(1), from util-linux")


def require_host_network() -> None:
    """Skip a test of what is told on the host's network, if ours is another one."""
    from gracewrap.linux.ports_of_program import on_host_network

    if not on_host_network():
        pytest.skip("this is not the host's network namespace")


def npm_packages(cache: pytest.Cache, wanted: Path) -> Path:
    """Return the node_modules directory with the packages of *wanted*, a package.json.

    They are installed once, and kept in pytest's cache.
    """
    require(shutil.which("node") and shutil.which("npm"), "node and npm")
    content = wanted.read_bytes()
    folder = Path(cache.mkdir(f"npm-{hashlib.sha256(content).hexdigest()[:12]}"))
    if not (folder / "installed").exists():
        shutil.rmtree(folder / "node_modules", ignore_errors=True)  # of one that was cut
        (folder / "package.json").write_bytes(content)
        quiet = [
            "--no-audit",
            "--no-fund",
            "--no-package-lock",
            "--ignore-scripts",
            "--loglevel=error",
        ]
        done = subprocess.run(
            ["npm", "install", *quiet], cwd=folder, capture_output=True, text=True, timeout=300
        )
        require(done.returncode == 0, f"the packages of {wanted}: {done.stderr[-500:]}")
        (folder / "installed").touch()
    return folder / "node_modules"


class Lines:
    """Reads lines from a file descriptor, each within a bound."""

    def __init__(self, fd: int) -> None:
        self.fd = fd
        self.buffer = b""
        self.seen: list[str] = []
        self.ended = False

    def next(self, bound: float = BOUND) -> str:
        """Return the next line without its end; "" at the end of file."""
        until = time.monotonic() + bound
        while b"\n" not in self.buffer:
            if not select.select([self.fd], [], [], max(0.0, until - time.monotonic()))[0]:
                raise TimeoutError(
                    f"no line in {bound} s; so far: {self.seen}, then {self.buffer!r}"
                )
            try:
                part = os.read(self.fd, 65536)
            except OSError:  # EIO: the other side of a terminal is gone
                part = b""
            if not part:
                self.ended = True
                rest, self.buffer = self.buffer, b""
                return rest.decode(errors="replace")
            self.buffer += part
        line, _, self.buffer = self.buffer.partition(b"\n")
        self.seen.append(line.decode(errors="replace").rstrip("\r"))
        return self.seen[-1]

    def until(self, wanted: str, bound: float = BOUND) -> str:
        """Return the next line that contains *wanted*."""
        until = time.monotonic() + bound
        while True:
            line = self.next(max(0.0, until - time.monotonic()))
            if wanted in line:
                return line
            if self.ended:
                raise EOFError(f"no line with {wanted!r}; all lines: {self.seen}")

    def rest(self, bound: float = BOUND) -> list[str]:
        """Return all lines up to the end of file."""
        lines = []
        until = time.monotonic() + bound
        while not self.ended:
            lines.append(self.next(max(0.0, until - time.monotonic())))
        return [line for line in lines if line]


BUSY_MACHINE = ("cpu_wait", "time_gap")


class Run:
    """A running gracewrap with pipes for its stdout (the child's) and stderr (the log)."""

    def __init__(
        self,
        *args: object,
        prefix: tuple[str, ...] = (),
        command: list[str] = GRACEWRAP,
        env: dict[str, str] | None = None,
        **options: object,
    ) -> None:
        settings: dict[str, object] = {
            "stdin": subprocess.DEVNULL,
            "stdout": subprocess.PIPE,
            "stderr": subprocess.PIPE,
        }
        settings |= {"env": environment() if env is None else env, **options}
        self.process = subprocess.Popen([*prefix, *command, *map(str, args)], **settings)  # type: ignore[call-overload]
        self.out = Lines(self.process.stdout.fileno()) if self.process.stdout else None
        self.err = Lines(self.process.stderr.fileno()) if self.process.stderr else None

    @property
    def pid(self) -> int:
        return self.process.pid

    def line(self) -> str:
        assert self.out is not None
        return self.out.next()

    def ready(self) -> int:
        """Wait for `ready PID` of the talker; return the pid."""
        word, pid = self.line().split()
        assert word == "ready"
        return int(pid)

    def send(self, signum: int) -> None:
        self.process.send_signal(signum)

    def log_line(self, event: str) -> dict[str, object]:
        """Return the next JSON log line about *event*."""
        assert self.err is not None
        found: dict[str, object] = json.loads(self.err.until(f'"event": "{event}"'))
        return found

    def wait(self) -> int:
        """Return the exit status; a signal N as -N."""
        return self.process.wait(BOUND)

    def log(self) -> list[dict[str, object]]:
        """Return the JSON log lines that were not read yet, but for those that say how busy the
        machine was."""
        assert self.err is not None
        lines = [json.loads(line) for line in self.err.rest()]
        return [line for line in lines if line["event"] not in BUSY_MACHINE]

    def close(self) -> None:
        """Kill gracewrap and its descendants, whatever their state."""
        if self.process.poll() is None:
            for pid in [*descendants(self.process.pid), self.process.pid]:
                with contextlib.suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGKILL)
        self.process.wait(BOUND)
        for stream in (self.process.stdin, self.process.stdout, self.process.stderr):
            if stream:
                stream.close()


def descendants(pid: int) -> list[int]:
    """Return the pids of the descendants of *pid*, parents first."""
    found: list[int] = []
    try:
        tasks = os.listdir(f"/proc/{pid}/task")
    except OSError:
        return found
    for task in tasks:
        with contextlib.suppress(OSError):
            for child in Path(f"/proc/{pid}/task/{task}/children").read_text().split():
                found += [int(child), *descendants(int(child))]
    return found


def alive(pid: int) -> bool:
    """Return whether a process exists and is not a zombie."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] not in "ZX"
    except OSError:
        return False


def state(pid: int) -> str:
    """Return the state letter of a process (R, S, T, Z, ...), or "" if it does not exist."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except OSError:
        return ""


def wait_until(true: object, what: str, bound: float = BOUND) -> None:
    """Poll until true() is true: for states that no file descriptor reports (of a process)."""
    until = time.monotonic() + bound
    while not true():  # type: ignore[operator]
        if time.monotonic() > until:
            raise TimeoutError(f"not in {bound} s: {what}")
        select.select([], [], [], 0.002)


def pause(pid: int, seconds: float) -> None:
    """Stop a process for so long, as `docker pause` does."""
    os.kill(pid, signal.SIGSTOP)
    wait_until(lambda: state(pid) == "T", "it is stopped")
    stopped = time.monotonic()
    wait_until(lambda: time.monotonic() > stopped + seconds, "the time is over")
    os.kill(pid, signal.SIGCONT)


@contextlib.contextmanager
def running(*args: object, **options: object) -> Iterator[Run]:
    run = Run(*args, **options)  # type: ignore[arg-type]
    try:
        yield run
    finally:
        run.close()


def wait_until_next_request() -> None:
    """Wait until a stop request counts as a second one (policy.shutdown.SAME_REQUEST: 0.1 s)."""
    began = time.monotonic()
    wait_until(lambda: time.monotonic() - began > 0.15, "time passes")


def order(run: Run, line: str) -> None:
    """Have the endpoint of support/endpoint.py do something, and wait until it does."""
    assert run.process.stdin is not None and run.out is not None
    run.process.stdin.write(f"{line}\n".encode())
    run.process.stdin.flush()
    run.out.until(f"now {line}")


def call(*words: object, cwd: Path | None = None) -> tuple[int, str, str]:
    """Run gracewrap to its end; return its exit status, and what it has written to stdout and
    stderr."""
    done = subprocess.run(
        [*GRACEWRAP, *map(str, words)],
        capture_output=True,
        text=True,
        timeout=60,
        env=environment(),
        cwd=cwd,
        check=False,
    )
    return done.returncode, done.stdout, done.stderr
