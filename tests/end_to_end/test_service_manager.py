"""A service manager above gracewrap, as systemd and podman are: what it is told over the
NOTIFY_SOCKET that it has given us."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from processes import BOUND, INSTALLED, TALKER, Run, environment


class Manager:
    """Receives what it is told; *named* is what NOTIFY_SOCKET says."""

    def __init__(self, named: str) -> None:
        self.named = named
        self.socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self.socket.settimeout(BOUND)
        self.socket.bind("\0" + named[1:] if named[0] == "@" else named)
        self.seen: list[str] = []

    def until(self, wanted: str) -> None:
        """Wait until it is told something; what came before is kept."""
        while wanted not in self.seen:
            self.seen += self.socket.recv(4096).decode().split("\n")

    def rest(self) -> list[str]:
        """Return all that it has been told."""
        self.socket.setblocking(False)
        try:
            while True:
                self.seen += self.socket.recv(4096).decode().split("\n")
        except BlockingIOError:
            return self.seen


@pytest.fixture(params=["path", "abstract"])
def manager(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Manager]:
    name = f"@gracewrap-test-{os.getpid()}-{tmp_path.name}"
    found = Manager(str(tmp_path / "notify") if request.param == "path" else name)
    yield found
    found.socket.close()


def under(manager: Manager) -> dict[str, str]:
    return {**environment(), "NOTIFY_SOCKET": manager.named}


def test_it_is_told_that_it_is_ready_and_that_it_stops(
    start: Callable[..., Run], manager: Manager, tmp_path: Path
):
    file = tmp_path / "g.toml"
    file.write_text(f'[ready]\nfile = "{tmp_path}/up"\nevery = "20ms"\nfailures = 1\n')
    run = start("--config", file, "--", *TALKER, "exit=0", command=INSTALLED, env=under(manager))
    run.ready()
    manager.until("STATUS=starting")
    assert "READY=1" not in manager.seen
    (tmp_path / "up").touch()
    manager.until("STATUS=running")
    assert manager.seen.count("READY=1") == 1
    (tmp_path / "up").unlink()
    manager.until("STATUS=degraded")
    run.send(signal.SIGTERM)
    manager.until("STOPPING=1")
    assert run.wait() == 0
    assert manager.rest().count("STOPPING=1") == manager.seen.count("READY=1") == 1


def test_one_command_that_nobody_asks_speaks_for_itself(start, manager):
    run = start("--", *TALKER, "exit=0", command=INSTALLED, env=under(manager))
    run.ready()
    run.send(signal.SIGTERM)
    manager.until("STOPPING=1")
    assert run.wait() == 0 and "READY=1" not in manager.rest()


def test_what_the_command_says_of_itself_is_passed_up(start, manager, tmp_path):
    """The command's manager is a gracewrap, whose manager is this one."""
    say = (
        "import os, socket, sys, signal;"
        "s = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM); to = os.environ['NOTIFY_SOCKET'];"
        "s.connect('\\0' + to[1:] if to[0] == '@' else to);"
        "s.send(b'STATUS=loading 3 of 7'); sys.stdin.readline();"
        "s.send(b'READY=1\\nSTATUS=serving'); signal.pause()"
    )
    run = start(
        "--notify", "--", sys.executable, "-I", "-S", "-c", say,
        command=INSTALLED, env=under(manager), stdin=subprocess.PIPE,
    )  # fmt: skip
    while not any("loading 3 of 7" in line for line in manager.seen):
        manager.seen += manager.socket.recv(4096).decode().split("\n")
    assert "READY=1" not in manager.seen
    run.process.stdin.write(b"go\n")
    run.process.stdin.flush()
    manager.until("STATUS=running: serving")
    assert manager.rest().count("READY=1") == 1


def test_several_programs_are_ready_when_all_are_up(start, manager, tmp_path):
    file = tmp_path / "g.toml"
    talker = ", ".join(f'"{word}"' for word in (*TALKER, "exit=0"))
    file.write_text(
        f"[programs.a]\ncommand = [{talker}]\n[programs.b]\ncommand = [{talker}]\n"
        'depends_on = ["a"]\n'
    )
    run = start("--config", file, command=INSTALLED, env=under(manager))
    manager.until("READY=1")
    run.send(signal.SIGTERM)
    manager.until("STOPPING=1")


def test_a_manager_that_is_not_there_costs_nothing_but_a_line(start, tmp_path):
    env = {**environment(), "NOTIFY_SOCKET": f"{tmp_path}/nobody"}
    run = start("--ready", "tcp", "--", *TALKER, "exit=0", command=INSTALLED, env=env)
    run.ready()
    line = run.log_line("unheard")
    assert line["why"] == "No such file or directory"
    assert line["message"] == f"the service manager cannot be told (NOTIFY_SOCKET): {line['why']}"
    run.send(signal.SIGTERM)
    assert run.wait() == 0
