"""Rolling restarts of servers that contain no shutdown code, behind a load balancer, under load: no
request is lost.

Three restarts of each server here; to make twenty, and print what was measured:
PYTHONPATH=tests/support python tests/external/test_rolling_restart.py 20
"""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import signal
import sys
import tempfile
import time
from pathlib import Path
from typing import NamedTuple

import pytest

from load_balancer import Load, Tally, free_ports, mixed
from processes import INSTALLED, Run, require
from real_servers import PROPAGATION, SERVERS, SLACK, nginx_command, upstream

LONGEST = 2.0  # seconds that a handler takes
QUIET = (
    0.5  # much less than that: handlers must be recognised as such, not as what has moved lately
)
INTERVAL = 0.25  # gracewrap's own default
DRAIN_FIRST = (
    *("--drain-tcp", "auto", "--drain-when", "before-signal", "--drain-quiet", f"{QUIET}s"),
    *("--propagation-delay", f"{PROPAGATION}s", "--ready", "tcp"),
)


def command(kind: str, folder: Path, port: int, upstream: int) -> list[str]:
    """Return the command of a server that listens on *port*."""
    if kind == "node":
        require(shutil.which("node"), "node")
        return ["node", str(SERVERS / "plain.js"), str(port)]
    if kind == "nginx":
        folder.mkdir(exist_ok=True)
        return nginx_command(folder, port, upstream)
    return [sys.executable, str(SERVERS / "plain.py"), str(port)]


class Slot:
    """A place behind the balancer: one wrapped server after another, on the same ports."""

    def __init__(
        self, command: list[str], port: int, health: int, folder: Path, options: tuple[str, ...]
    ) -> None:
        self.port, self.health, self.report, self.log = (
            port,
            health,
            folder / f"{port}.json",
            folder / f"{port}.log",
        )
        self._args = (
            *options,
            "--health-listen",
            f"127.0.0.1:{health}",
            "--report",
            self.report,
            "--",
            *command,
        )
        self.start()

    def start(self) -> None:
        with self.log.open("ab") as log:
            self.run = Run(*self._args, command=INSTALLED, stdout=log, stderr=log)

    def stop(self) -> dict[str, object]:
        """Ask it to stop, wait until it has, and return the report."""
        self.run.send(signal.SIGTERM)
        self.run.wait()
        self.run.close()
        found: dict[str, object] = json.loads(self.report.read_text())
        return found


class Rolled(NamedTuple):
    """What rolling restarts came to."""

    tally: Tally
    reports: list[dict[str, object]]

    @property
    def used(self) -> list[float]:
        return [float(str(report["used_seconds"])) for report in self.reports]


def roll(kind: str, restarts: int, folder: Path, options: tuple[str, ...] = DRAIN_FIRST) -> Rolled:
    """Restart two servers in turn under 100 requests a second."""
    ports = free_ports(4)
    pairs = [(ports[0], ports[1]), (ports[2], ports[3])]
    with contextlib.ExitStack() as stack:
        behind = stack.enter_context(upstream()) if kind == "nginx" else 0
        slots = []
        for port, health in pairs:
            slot = Slot(
                command(kind, folder / str(port), port, behind), port, health, folder, options
            )
            stack.callback(lambda slot=slot: slot.run.close())
            slots.append(slot)
        reports = []
        with Load(pairs, mixed(50, int(LONGEST * 1000))) as load:
            for i in range(restarts):
                load.until(
                    lambda: all(backend.up for backend in load.backends), "both are in rotation"
                )
                load.until(lambda i=i: load.backends[i % 2].in_flight > 20, "it is busy")
                reports.append(slots[i % 2].stop())
                slots[i % 2].start()
            load.until(lambda: all(backend.up for backend in load.backends), "both are in rotation")
            return Rolled(load.stop(), reports)


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["python", pytest.param("node", marks=pytest.mark.node), "nginx"])
def test_no_request_is_lost(kind: str, tmp_path: Path):
    rolled = roll(kind, int(os.environ.get("GRACEWRAP_RESTARTS", "3")), tmp_path)
    assert not rolled.tally.failures and not rolled.tally.turned_away, (
        rolled.tally,
        *(log.read_text() for log in tmp_path.glob("*.log")),
    )
    assert rolled.tally.good == rolled.tally.sent
    for report in rolled.reports:
        assert report["killed"] == [] and not report["interrupted"]
        assert report["signals_sent"] == ["SIGTERM"]
    assert max(rolled.used) <= PROPAGATION + LONGEST + QUIET + 2 * INTERVAL + SLACK


def test_without_a_drain_requests_are_lost(tmp_path: Path):
    """Else the load would show nothing."""
    rolled = roll("python", 1, tmp_path, ("--ready", "tcp"))
    assert sum(rolled.tally.failures.values()) > 10, rolled.tally


def main(restarts: int) -> None:
    """Print one line for each server."""
    for kind in ("python", "node", "nginx"):
        with tempfile.TemporaryDirectory() as folder:
            began = time.monotonic()
            rolled = roll(kind, restarts, Path(folder))
            used = sorted(rolled.used)
            print(
                f"{kind}: {restarts} restarts in {time.monotonic() - began:.0f} s; {rolled.tally}; "
                "stop "
                f"{used[0]:.2f} to {used[-1]:.2f} s, median {used[len(used) // 2]:.2f} s",
                flush=True,
            )


if __name__ == "__main__":
    main(int(sys.argv[1]))
