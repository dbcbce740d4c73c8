"""A program that is started again: what was asked and heard in one run is nothing to the next."""

from __future__ import annotations

import contextlib
import os
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator

import pytest

from gracewrap.config import command_line, load
from gracewrap.linux import process_tree, sd_notify
from gracewrap.linux.hook_and_probe_process_groups import Helpers
from gracewrap.policy.model import DRAINED, INVALID, Reading
from gracewrap.report.log import Log
from gracewrap.report.recorder import Recorder
from gracewrap.runtime import probing
from gracewrap.runtime.handover import Equipment
from gracewrap.runtime.probing import Prober, in_flight_of
from gracewrap.runtime.program_processes import Child
from gracewrap.runtime.sd_notify_messages import NotifyListener
from reactor_driver import Driver, driving

# Listens on a port of the kernel's choice, says which, and goes when its stdin is closed.
SERVER = (
    "import socket, sys; s = socket.create_server(('127.0.0.1', 0)); "
    "print(s.getsockname()[1], flush=True); sys.stdin.read()"
)


@pytest.fixture
def driver() -> Iterator[Driver]:
    with driving() as one:
        yield one


class Looks(Recorder):
    """A recorder that keeps which probes have been looked at."""

    def __init__(self) -> None:
        super().__init__(Log("json", "error", os.devnull), 25.0, 0.0, 0.0, [("web", ["true"])])
        self.seen: list[int] = []
        self.readings: list[Reading] = []

    def looked(self, program: int, probe: int, reading: Reading, at: float) -> None:
        self.seen.append(probe)
        self.readings.append(reading)


def prober_of(
    driver: Driver, *options: str, members: Callable[[], list[process_tree.Member]] = list
) -> Prober:
    """Return the prober of a program with these settings, whose processes are *members*."""
    settings, problems = load.resolve(command_line.read_command_line([*options, "--", "true"]), {})
    assert settings is not None, problems
    recorder = Looks()
    child = Child(0, settings, recorder.histories[0], Equipment(), lambda _: members())
    child.started_at, child.history.in_flight = time.monotonic(), in_flight_of(settings)
    helpers = Helpers(driver.reactor)
    return Prober(driver.reactor, child, helpers, lambda _: None, recorder)


def sample(driver: Driver, prober: Prober) -> Reading:
    readings: list[Reading] = []
    prober.samplers[0].sample(time.monotonic(), readings.append)
    driver.until(lambda: readings)
    return readings[0]


@contextlib.contextmanager
def server() -> Iterator[tuple[process_tree.Member, int]]:
    """A process that listens, and its port."""
    with subprocess.Popen(
        [sys.executable, "-c", SERVER], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as process:
        assert process.stdout is not None
        port = int(process.stdout.readline())
        found = process_tree.member(process.pid)
        assert found is not None
        yield found, port


def test_the_ports_of_the_previous_run_are_not_its_own_any_more(driver: Driver):
    there: list[process_tree.Member] = []
    prober = prober_of(
        driver, "--drain-tcp", "auto", "--drain-mode", "no-connections", members=lambda: there
    )
    prober.reset()
    with server() as (member, port):
        there.append(member)
        assert sample(driver, prober).kind == DRAINED
    there.clear()
    # Somebody else listens on that port now, and has a client.
    with (
        socket.create_server(("127.0.0.1", port)),
        socket.create_connection(("127.0.0.1", port)),
        server() as (member, _),
    ):
        there.append(member)
        prober.reset()
        assert sample(driver, prober).kind == DRAINED


def test_a_run_that_was_too_short_to_be_asked_is_not_asked_for_later(driver: Driver, tmp_path):
    file = tmp_path / "drained"
    file.touch()
    prober = prober_of(driver, "--drain-file", str(file))
    assert isinstance(prober.recorder, Looks)
    seen = prober.recorder.seen
    for _ in range(2):
        prober.reset()
        prober.on_started()
    driver.until(lambda: seen)
    assert seen == [0]  # and nothing has raised


def test_what_it_said_last_does_not_count_for_its_next_run(driver: Driver):
    fd, value = sd_notify.make()
    prober = prober_of(driver, "--drain-notify")
    listener = NotifyListener(prober, fd, lambda _: True)
    prober.reset()
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as sock:
        sock.sendto(b"X_GRACEWRAP=drained", value.replace("@", "\0", 1))
    for one in (prober, listener):
        one.on_gone()
    for one in (prober, listener):
        one.reset()
    driver.reactor.notify_ready()
    driver.reactor.run(time.monotonic())
    assert sample(driver, prober).kind != DRAINED
    listener._receiver.close()
    sd_notify.remove(value)


@pytest.mark.parametrize("ready", [(), ("--ready", "tcp")], ids=["without", "with-ready"])
def test_what_takes_long_to_listen_is_no_mistake(driver: Driver, monkeypatch, ready):
    """A look finds no port before it listens; that is not told as a probe that cannot be used."""
    monkeypatch.setattr(probing, "FIRST_LOOK", 0.01)
    there: list[process_tree.Member] = []
    prober = prober_of(driver, "--drain-tcp", "auto", *ready, members=lambda: there)
    assert isinstance(prober.recorder, Looks)
    taken = []
    take = prober.child.history.in_flight.take
    monkeypatch.setattr(
        prober.child.history.in_flight,
        "take",
        lambda index, reading, at: taken.append(reading.kind) or take(index, reading, at),
    )
    prober.reset()
    prober.on_started()
    if ready:
        driver.until(lambda: "no port" in prober.why_not_ready())
        assert not taken
    else:
        driver.until(lambda: len(taken) > 3)
        assert set(taken) == {INVALID}
    with server() as (member, _):
        there.append(member)
        driver.until(lambda: prober.recorder.readings)
    assert [reading.kind for reading in prober.recorder.readings] == [DRAINED]
    prober.on_gone()
