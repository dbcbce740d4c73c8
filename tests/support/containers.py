"""Runs Docker containers for tests and reads their output.

Every wait has a bound that only a broken program reaches.  DOCKER_HOST names the engine, and
GRACEWRAP_BASE_IMAGE a base image with Python for the Dockerfile (default: the Dockerfile's own).
"""

from __future__ import annotations

import json
import os
import pty
import re
import select
import shutil
import subprocess
import tempfile
import time
import uuid
from pathlib import Path

from processes import BOUND, ROOT, Lines

# Of the Dockerfile, without its `--`.
ENTRYPOINT = ("python3", "-I", "-S", "/opt/gracewrap/gracewrap/__main__.py")
TALKER = ("python3", "-I", "-S", "-c", Path(__file__).with_name("talker.py").read_text())
REPORT_FILE = "/tmp/report.json"
REPORT = ("-e", f"GRACEWRAP_REPORT_FILE={REPORT_FILE}")
ENGINE_BOUND = 2 * BOUND  # the engine itself takes seconds on a loaded machine


def docker(*args: object, check: bool = True, bound: float = ENGINE_BOUND) -> str:
    """Run a docker command and return its output, stderr included."""
    command = ["docker", *map(str, args)]
    done = subprocess.run(
        command,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=bound,
        check=False,
    )
    if check and done.returncode:
        raise RuntimeError(
            f"{' '.join(command)[:300]}: exit status {done.returncode}: {done.stdout}"
        )
    return done.stdout.strip()


def engine() -> str:
    """Return the version of the engine, or "" if there is none."""
    try:
        return (
            docker("version", "--format", "{{.Server.Version}}") if shutil.which("docker") else ""
        )
    except RuntimeError:
        return ""


def build(target: str) -> str:
    """Build one stage of the Dockerfile and return its name."""
    name = f"gracewrap-test-{target}:{uuid.uuid4().hex[:12]}"
    base = os.environ.get("GRACEWRAP_BASE_IMAGE")
    arguments = ["--build-arg", f"BASE_IMAGE={base}"] if base else []
    docker(
        "build",
        "--network=host",
        "--force-rm",
        "--target",
        target,
        "-t",
        name,
        *arguments,
        ROOT,
        bound=600,
    )
    return name


def derive(dockerfile: str) -> str:
    """Build an image that needs no files, and return its name."""
    name = f"gracewrap-test-derived:{uuid.uuid4().hex[:12]}"
    done = subprocess.run(
        ["docker", "build", "--network=host", "--force-rm", "-t", name, "-"],
        input=dockerfile,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=300,
        check=False,
    )
    assert done.returncode == 0, done.stdout[-3000:]
    return name


def unique_name() -> str:
    return f"gracewrap-test-{uuid.uuid4().hex[:12]}"


class Container:
    """A running container, with `docker logs -f` on its stdout and stderr.

    By default without network and health checks (these would be further processes inside).
    """

    def __init__(
        self,
        image: str,
        *command: object,
        options: tuple[object, ...] = (),
        entrypoint: tuple[str, ...] = (),
    ) -> None:
        self.name = unique_name()
        self.reader: subprocess.Popen[bytes] | None = None
        defaults = {"--network": "--network=none", "--health": "--no-healthcheck"}
        missing = [
            default
            for name, default in defaults.items()
            if not any(str(o).startswith(name) for o in options)
        ]
        first = ("--entrypoint", entrypoint[0]) if entrypoint else ()
        try:
            docker(
                "run",
                "-d",
                "--name",
                self.name,
                *missing,
                *first,
                *options,
                image,
                *entrypoint[1:],
                *command,
            )
            self.reader = subprocess.Popen(
                ["docker", "logs", "-f", self.name],
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
            )
        except BaseException:
            self.close()
            raise
        assert self.reader.stdout and self.reader.stderr
        self.out = Lines(self.reader.stdout.fileno())
        self.err = Lines(self.reader.stderr.fileno())

    def inspect(self, field: str) -> str:
        """Return a field of `docker inspect`: inspect(".State.Pid")."""
        return docker("inspect", "--format", "{{" + field + "}}", self.name)

    def execute(self, *command: object) -> str:
        """Run a command inside the container and return its output."""
        return docker("exec", self.name, *command)

    def stop(self) -> int:
        """Stop it with Docker's default grace period of 10 s; return the exit status."""
        docker("stop", "-t", 10, self.name)
        return self.status()

    def wait(self) -> int:
        """Wait until it exits and return the exit status."""
        docker("wait", self.name)
        return self.status()

    def status(self) -> int:
        """Return the exit status that Docker recorded."""
        assert self.inspect(".State.Status") == "exited"
        return int(self.inspect(".State.ExitCode"))

    def log(self) -> list[dict[str, object]]:
        """Return gracewrap's log lines that were not read yet."""
        return [json.loads(line) for line in self.err.rest() if '"source": "gracewrap"' in line]

    def report(self) -> dict[str, object]:
        """Return gracewrap's report (see REPORT) of a container that has exited."""
        with tempfile.TemporaryDirectory() as folder:
            docker("cp", f"{self.name}:{REPORT_FILE}", f"{folder}/report.json")
            found: dict[str, object] = json.loads(Path(folder, "report.json").read_text())
        return found

    def processes(self) -> list[list[str]]:
        """Return name and state letter of every process in the container."""
        # Some exit before cat reads their file.
        stats = self.execute("sh", "-c", "cat /proc/[0-9]*/stat 2>/dev/null; true")
        return [
            [line.partition("(")[2].rpartition(")")[0], line.rpartition(")")[2].split()[0]]
            for line in stats.splitlines()
        ]

    def killed_with(self) -> list[str]:
        """Return the numbers of the signals that Docker has sent so far."""
        # By the engine's clock.  Not until .State.FinishedAt: the exit can be recorded before the
        # signal that caused it.
        period = (
            "--since",
            self.inspect(".Created"),
            "--until",
            docker("info", "--format", "{{.SystemTime}}"),
        )
        wanted = ("--filter", f"container={self.name}", "--filter", "event=kill")
        return docker(
            "events", *period, *wanted, "--format", "{{.Actor.Attributes.signal}}"
        ).split()

    def close(self) -> None:
        """Remove the container, whatever its state."""
        docker("rm", "-f", "-v", self.name, check=False)
        if self.reader is not None:
            self.reader.kill()
            self.reader.wait(BOUND)
            for stream in (self.reader.stdout, self.reader.stderr):
                assert stream
                stream.close()


class Terminal:
    """`docker run -it` on a pseudo-terminal: the test reads its screen and types into it."""

    def __init__(self, image: str, *command: object, options: tuple[object, ...] = ()) -> None:
        self.name = unique_name()
        self.fd, theirs = pty.openpty()
        self.shown = ""
        self.process = subprocess.Popen(
            [
                "docker",
                "run",
                "-it",
                "--name",
                self.name,
                "--network=none",
                *map(str, options),
                image,
                *map(str, command),
            ],
            stdin=theirs,
            stdout=theirs,
            stderr=theirs,
            start_new_session=True,
        )
        os.close(theirs)

    def until(self, pattern: str, bound: float = ENGINE_BOUND) -> str:
        """Wait for output that matches *pattern*; return it, and drop all up to its end."""
        until = time.monotonic() + bound
        while not (found := re.search(pattern, self.shown)):
            if not select.select([self.fd], [], [], max(0.0, until - time.monotonic()))[0]:
                raise TimeoutError(f"no {pattern!r} in {bound} s; shown: {self.shown!r}")
            try:
                self.shown += os.read(self.fd, 65536).decode(errors="replace")
            except OSError as error:  # EIO: the other side is closed
                raise EOFError(f"no {pattern!r}; shown: {self.shown!r}") from error
        self.shown = self.shown[found.end() :]
        return found[0]

    def type(self, text: str) -> None:
        os.write(self.fd, text.encode())

    def wait(self) -> int:
        """Return the exit status of `docker run`, which is the container's."""
        return self.process.wait(ENGINE_BOUND)

    def close(self) -> None:
        docker("rm", "-f", "-v", self.name, check=False)
        self.process.kill()
        self.process.wait(BOUND)
        os.close(self.fd)
