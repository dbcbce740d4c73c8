"""A program that is started again: what was asked and heard of one life is nothing to the next."""

from __future__ import annotations

import contextlib
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator

import pytest

from gracewrap.config import command_line, load
from gracewrap.linux import process_tree, sd_notify
from gracewrap.policy.model import DRAINED, Reading
from gracewrap.report.program_history import ProgramHistory
from gracewrap.runtime.child import Child
from gracewrap.runtime.handover import Equipment
from gracewrap.runtime.notify import NotifyListener
from gracewrap.runtime.prober import Prober, in_flight_of
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


def errands_of(
    driver: Driver, *options: str, members: Callable[[], list[process_tree.Member]] = list
) -> Prober:
    """Return the errands of a program with these settings, whose processes are *members*."""
    settings, problems = load.resolve(command_line.read_command_line([*options, "--", "true"]), {})
    assert settings is not None, problems
    child = Child(
        0, settings, ProgramHistory("web", settings.command), Equipment(), lambda _: members()
    )
    child.started_at, child.history.in_flight = time.monotonic(), in_flight_of(settings)
    return Prober(driver.reactor, child, lambda _: None, lambda *_, **__: None, lambda _: None)


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


def test_the_ports_of_a_former_life_are_not_its_own_any_more(driver: Driver):
    there: list[process_tree.Member] = []
    prober = errands_of(
        driver, "--drain-tcp", "auto", "--drain-mode", "no-connections", members=lambda: there
    )
    prober.renew()
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
        prober.renew()
        assert sample(driver, prober).kind == DRAINED


def test_a_life_that_was_too_short_to_be_asked_is_not_asked_for_later(driver: Driver, tmp_path):
    file = tmp_path / "drained"
    file.touch()
    prober = errands_of(driver, "--drain-file", str(file))
    seen: list[int] = []
    for _ in range(2):
        prober.renew()
        prober.begin(lambda probe, _: seen.append(probe))
    driver.until(lambda: seen)
    assert seen == [0]  # and nothing has raised


def test_what_it_said_last_does_not_count_for_its_next_life(driver: Driver):
    fd, value = sd_notify.make()
    prober = errands_of(driver, "--drain-notify")
    hearing = NotifyListener(prober, fd, lambda _: True, lambda *_: None)
    prober.renew()
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as sock:
        sock.sendto(b"X_GRACEWRAP=drained", value.replace("@", "\0", 1))
    for one in (prober, hearing):
        one.end()
    for one in (prober, hearing):
        one.renew()
    driver.reactor.notify_ready()
    driver.reactor.run(time.monotonic())
    assert sample(driver, prober).kind != DRAINED
    hearing._receiver.close()
    sd_notify.remove(value)
