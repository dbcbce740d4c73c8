"""Tests of the tcp probe: real connections and servers, idle or with requests in flight, and the
ports of a program."""

from __future__ import annotations

import contextlib
import json
import os
import resource
import shutil
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from gracewrap.config.probe_specs import Request, TcpProbeSpec, Url
from gracewrap.http_client.exchange import Exchange
from gracewrap.linux import ports_of_program, process_tree, tcp_sockets
from gracewrap.linux.ports_of_program import Ports
from gracewrap.policy.model import BUSY, DRAINED, INVALID, UNREACHABLE, Reading
from gracewrap.probes import tcp
from gracewrap.probes.tcp import TcpProbe
from gracewrap.record import replace
from processes import (
    BOUND,
    OTHER_USER,
    ROOT,
    Lines,
    require,
    require_host_network,
    require_other_user,
    require_root,
    wait_until,
)
from reactor_driver import Driver, driving, readable

QUIET = 0.3
# As long as a request is at least: shorter messages are those of a WebSocket.
REQUEST = b"GET / HTTP/1.1\r\nHost: x\r\n\r\n"
NOTHING = Reading(DRAINED, 0.0)


def refuse() -> socket.socket:
    raise OSError(93, "Protocol not supported")


@pytest.fixture
def driver() -> Iterator[Driver]:
    with driving() as driver:
        yield driver


class TcpProbeUnderTest:
    """A tcp probe on the reactor of a driver."""

    def __init__(
        self,
        driver: Driver,
        probe: TcpProbeSpec,
        pids: Callable[[], list[int]] = list,
        connect=tcp_sockets.connect,
        agent_decides: bool = False,
    ) -> None:
        self.driver = driver
        self.ports = Ports(driver.reactor, pids, connect)
        self.probe = TcpProbe(
            probe, driver.reactor, self.ports, connect, not agent_decides, agent_decides
        )

    def sample(self) -> Reading:
        answers: list[Reading] = []
        self.probe.sample(answers.append)
        self.driver.until(lambda: answers)
        (self.seen,) = answers
        return replace(self.seen, work="", open="")  # tests/probes/test_other_work.py looks at them

    def until(self, wanted: Callable[[Reading], bool]) -> Reading:
        """Sample until a reading is *wanted*, and return it."""
        readings: list[Reading] = []

        def seen() -> bool:
            readings[:] = [self.sample()]
            return wanted(readings[0])

        wait_until(seen, f"the wanted reading; the last: {readings}")
        return readings[0]

    def until_kind(self, kind: str) -> Reading:
        return self.until(lambda reading: reading.kind == kind)


class Server:
    """A listening socket of the test, with clients and the server ends of their connections."""

    def __init__(
        self, stack: contextlib.ExitStack, host: str = "127.0.0.1", **options: object
    ) -> None:
        self.stack = stack
        self.listener = stack.enter_context(socket.create_server((host, 0), **options))  # type: ignore[arg-type]
        self.port = int(self.listener.getsockname()[1])

    def connect(self, host: str = "127.0.0.1") -> tuple[socket.socket, socket.socket]:
        """Return both ends of a new connection: the client's and the server's."""
        client = self.stack.enter_context(socket.create_connection((host, self.port), BOUND))
        served, _ = self.listener.accept()
        served.settimeout(BOUND)
        return client, self.stack.enter_context(served)

    def exchange(self, client: socket.socket, served: socket.socket, rounds: int = 1) -> None:
        """Send requests that are answered at once, each right after the previous response."""
        for _ in range(rounds):
            client.sendall(REQUEST)
            served.recv(len(REQUEST), socket.MSG_WAITALL)
            served.sendall(b"!")
            client.recv(1)

    def probed(
        self, driver: Driver, mode: str = "idle", quiet: float = QUIET, **options: object
    ) -> TcpProbeUnderTest:
        return TcpProbeUnderTest(driver, TcpProbeSpec((self.port,), mode, quiet), **options)  # type: ignore[arg-type]


@pytest.fixture
def served() -> Iterator[Server]:
    with contextlib.ExitStack() as stack:
        yield Server(stack)


# In flight or idle.


def test_a_connection_that_never_carried_a_byte_is_idle(driver, served):
    served.connect()
    assert served.probed(driver).sample() == NOTHING


def test_a_request_is_in_flight_until_it_is_answered(driver, served):
    client, end = served.connect()
    probed = served.probed(driver)
    client.sendall(b"?")
    assert probed.until_kind(BUSY) == Reading(BUSY, 1.0, "1 of 1 connection in flight")
    end.recv(1)
    assert probed.sample().in_flight == 1
    end.sendall(b"!")
    client.recv(1)
    assert (
        probed.until(lambda reading: "none" in reading.why).why
        == "none of 1 connection in flight, 1 of them active in the last 0.3 s"
    )
    assert probed.until_kind(DRAINED) == NOTHING
    assert probed.sample() == NOTHING


def test_ties_of_requests_right_after_a_response_are_decided(driver, served):
    """tcp_info alone cannot tell the two kinds apart."""
    busy, idle = [served.connect() for _ in range(30)], [served.connect() for _ in range(30)]
    for client, end in busy + idle:
        served.exchange(client, end, 20)
    for client, end in busy:
        served.exchange(client, end)
        client.sendall(b"?")
        end.recv(1)
    probed = served.probed(driver)
    reading = probed.until(lambda reading: "active" not in reading.why)
    assert reading == Reading(BUSY, 30.0, "30 of 60 connections in flight")
    assert [probed.sample() for _ in range(5)] == [reading] * 5
    for _, end in busy:
        end.sendall(b"!")
    probed.until_kind(DRAINED)


def test_decided_ties_are_remembered_without_traffic(driver, served, monkeypatch):
    client, end = served.connect()
    served.exchange(client, end, 20)
    probed = served.probed(driver)
    probed.until_kind(DRAINED)
    read: list[object] = []
    monkeypatch.setattr(tcp_sockets, "table", lambda *_: read.append(1) or iter(()))
    assert [probed.sample().kind for _ in range(5)] == [DRAINED] * 5 and not read
    served.exchange(client, end, 20)
    probed.until(lambda _: bool(read))


def test_undecided_ties_count_as_in_flight(driver, served, monkeypatch, tmp_path):
    client, end = served.connect()
    served.exchange(client, end, 20)
    monkeypatch.setattr(
        tcp_sockets, "TABLES", {2: str(tmp_path / "none"), 10: str(tmp_path / "none")}
    )
    assert served.probed(driver).until(lambda reading: "active" not in reading.why).in_flight == 1


def test_a_slow_upload_is_in_flight(driver, served):
    client, end = served.connect()
    probed = served.probed(driver)
    for _ in range(3):
        client.sendall(b"x" * 1000)
        end.recv(1000)
        assert probed.until(lambda reading: bool(reading.in_flight)).in_flight == 1
    assert probed.until(lambda reading: "active" not in reading.why).in_flight == 1  # stalled


def test_a_response_that_the_client_does_not_read_is_in_flight(driver, served):
    client, end = served.connect()
    served.exchange(client, end)
    end.setblocking(False)
    with contextlib.suppress(BlockingIOError):
        while True:
            end.send(b"x" * 65_536)
    probed = served.probed(driver)
    assert probed.until(lambda reading: "active" not in reading.why).in_flight == 1
    end.close()  # its data is still on the way
    assert probed.sample().in_flight == 1
    client.close()
    probed.until_kind(DRAINED)


def test_a_half_closed_connection_that_waits_is_in_flight(driver, served):
    client, end = served.connect()
    client.sendall(b"?")
    client.shutdown(socket.SHUT_WR)
    assert end.recv(1) == b"?" and end.recv(1) == b""
    probed = served.probed(driver)
    assert probed.sample() == Reading(BUSY, 1.0, "1 of 1 connection in flight")
    end.sendall(b"!")
    probed.until_kind(DRAINED)


def test_a_client_that_left_without_a_request_is_not_in_flight(driver, served):
    client, _ = served.connect()
    client.close()
    assert served.probed(driver).sample() == NOTHING


def test_connections_closed_by_the_program_are_not_in_flight(driver, served):
    client, end = served.connect()
    served.exchange(client, end)
    end.close()
    served.probed(driver).until_kind(DRAINED)
    # FIN_WAIT2, because the client does not close.
    assert served.probed(driver, "no-connections").sample() == NOTHING


def test_a_request_that_is_not_accepted_yet_is_in_flight(driver, served):
    with socket.create_connection(("127.0.0.1", served.port)) as client:
        probed = served.probed(driver)
        assert probed.sample() == NOTHING
        client.sendall(b"?")
        reading = probed.until_kind(BUSY)
        assert reading.why == "1 of 1 connection in flight (1 not accepted yet)"
        assert reading.not_accepted == 1


@pytest.mark.parametrize("host", ["127.0.0.1", "::1"])
def test_both_families_on_a_dual_stack_listener(driver, host):
    with contextlib.ExitStack() as stack:
        served = Server(stack, "::", family=socket.AF_INET6, dualstack_ipv6=True)
        client, end = served.connect(host)
        probed = served.probed(driver)
        served.exchange(client, end, 20)
        client.sendall(b"?")
        end.recv(1)
        assert probed.until(lambda reading: "active" not in reading.why).in_flight == 1
        end.sendall(b"!")
        probed.until_kind(DRAINED)


def test_more_connections_than_one_netlink_message_holds(driver):
    with contextlib.ExitStack() as stack:
        all_of_them = [Server(stack) for _ in range(6)]
        pairs = [served.connect() for served in all_of_them for _ in range(60)]
        for client, end in pairs[::2]:
            client.sendall(b"?")
            end.recv(1)
        probed = TcpProbeUnderTest(
            driver, TcpProbeSpec(tuple(served.port for served in all_of_them), "idle", QUIET)
        )
        before = driver.rounds
        assert probed.sample() == Reading(BUSY, 180.0, "180 of 360 connections in flight")
        assert driver.rounds - before > 4  # in slices


def test_a_cancelled_sample_leaves_nothing_behind(driver, served):
    served.connect()
    probed, answers = served.probed(driver), []
    before = os.listdir("/proc/self/fd")
    probed.probe.sample(answers.append)
    driver.reactor.run(0.0)
    probed.probe.cancel()
    assert os.listdir("/proc/self/fd") == before
    driver.until(lambda: driver.reactor.due(0.0) is None)
    assert not answers and probed.sample().kind == DRAINED


def test_no_free_file_descriptor(driver, served):
    probed = served.probed(driver)
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (3, hard))
    try:
        reading = probed.sample()
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
    assert reading == Reading(
        UNREACHABLE,
        None,
        "cannot query the kernel's connections: Too many open files",
        asked=False,
    )


def test_our_own_connections_do_not_count(driver, served, monkeypatch):
    """An http probe has a connection in flight while the tcp probe is sampled."""
    pairs = [served.connect() for _ in range(2)]
    for client, end in pairs:
        client.sendall(b"?")
        end.recv(1)
    probed = served.probed(driver)
    assert probed.sample().in_flight == 2
    monkeypatch.setattr(tcp_sockets, "OWN", {(pairs[0][0].getsockname()[1], served.port)})
    assert probed.sample() == Reading(BUSY, 1.0, "1 of 1 connection in flight")
    assert served.probed(driver, connect=refuse).sample().in_flight == 1


def test_our_own_request_that_was_given_up_does_not_count(driver, served):
    """A health check that is not answered is cancelled; the program keeps its end of it."""
    exchange = Exchange(driver.reactor, Request(Url("http", "127.0.0.1", served.port, "/")), print)
    driver.until(lambda: readable(served.listener.fileno(), 0))
    with served.listener.accept()[0] as end:
        driver.until(lambda: readable(end.fileno(), 0))
        probed = served.probed(driver)
        assert probed.sample() == NOTHING
        exchange.cancel()
        while end.recv(1000):
            pass
        assert probed.sample() == NOTHING
        assert served.probed(driver, connect=refuse).sample().in_flight == 0
        # Somebody else may come from its port.
        others, other = served.connect()
        tcp_sockets.leave((others.getsockname()[1], served.port))
        others.sendall(b"?")
        assert other.recv(1) == b"?"
        assert probed.sample().in_flight == 1


# The other modes.


def test_listener_closed(driver, served):
    client, _ = served.connect()
    client.sendall(b"?")
    probed = served.probed(driver, "listener-closed")
    assert probed.sample() == Reading(
        BUSY, None, f"the program still listens on port {served.port}"
    )
    served.listener.close()
    assert probed.sample() == Reading(DRAINED)


def test_no_connections(driver, served):
    client, end = served.connect()
    probed = served.probed(driver, "no-connections")
    assert probed.sample() == Reading(BUSY, 1.0, f"1 connection on port {served.port}")
    end.close()
    client.close()
    probed.until_kind(DRAINED)


def test_listening(driver, served):
    with socket.socket() as other:
        other.bind(("127.0.0.1", 0))
        port = other.getsockname()[1]
        probed = TcpProbeUnderTest(driver, TcpProbeSpec((served.port, port), "listening"))
        assert probed.sample() == Reading(BUSY, None, f"nothing listens on port {port} yet")
        other.listen()
        assert probed.sample() == Reading(DRAINED)


# Without sock_diag.


def test_proc_cannot_tell_idle_connections_and_says_so(driver, served):
    probed = served.probed(driver, connect=refuse)
    assert probed.sample() == NOTHING
    client, end = served.connect()
    reading = probed.sample()
    why = "/proc/net/tcp does not show which are idle (sock_diag: Protocol not supported)"
    assert reading == Reading(BUSY, 1.0, f"1 connection on port {served.port}; {why}")
    end.close()
    client.close()
    probed.until_kind(DRAINED)


@pytest.mark.parametrize("mode", ["listener-closed", "no-connections", "listening"])
def test_proc_is_enough_for_the_other_modes(driver, served, mode):
    client, end = served.connect()
    both = [
        served.probed(driver, mode, connect=connect) for connect in (tcp_sockets.connect, refuse)
    ]
    readings = [probed.sample() for probed in both]
    assert readings[0] == readings[1]
    for one in (client, end, served.listener):
        one.close()
    wait_until(lambda: both[0].sample() == both[1].sample() != readings[0], "both see the change")


# The ports of a program.

# Runs the commands on its stdin: "listen HOST", "close", "unix PATH", "open N"; prints the port or
# "ok" after each.
LISTENER = """
import os, resource, socket, sys
held = []
for line in sys.stdin:
    word, *rest = line.split()
    if word == "listen":
        family = socket.AF_INET6 if ":" in rest[0] else socket.AF_INET
        held.append(socket.create_server((rest[0], 0), family=family))
        print(held[-1].getsockname()[1], flush=True)
        continue
    if word == "close":
        held.pop().close()
    if word == "unix":
        held.append(socket.socket(socket.AF_UNIX)); held[-1].bind(rest[0]); held[-1].listen()
    if word == "open":
        resource.setrlimit(resource.RLIMIT_NOFILE, (int(rest[0]) + 50,) * 2)
        held[:0] = [socket.socket() for _ in range(int(rest[0]))]
    print("ok", flush=True)
"""


class Program:
    """A program that listens where the test tells it to."""

    def __init__(self) -> None:
        pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE}
        self.process = subprocess.Popen([sys.executable, "-S", "-c", LISTENER], text=True, **pipes)
        self.pid = self.process.pid

    def pids(self) -> list[int]:
        return [self.pid]

    def do(self, words: str) -> str:
        assert self.process.stdin and self.process.stdout
        self.process.stdin.write(words + "\n")
        self.process.stdin.flush()
        return self.process.stdout.readline().strip()

    def listen(self, host: str = "127.0.0.1") -> int:
        return int(self.do(f"listen {host}"))

    def close(self) -> None:
        self.process.kill()
        self.process.communicate()


@pytest.fixture
def program() -> Iterator[Program]:
    one = Program()
    yield one
    one.close()


@pytest.mark.parametrize("connect", [tcp_sockets.connect, refuse])
def test_the_ports_of_the_program_are_found_and_remembered(driver, program, served, connect):
    found = Ports(driver.reactor, program.pids, connect)
    found.look_now(BOUND)
    assert found.known == found.open == frozenset() and not found.blind
    four, six = program.listen(), program.listen("::1")
    found.look()
    driver.until(lambda: found.known)
    assert found.known == found.open == {four, six}
    assert found.everyone >= {four, six, served.port}
    program.do("close")
    found.look_now(BOUND)
    assert (found.known, found.open) == ({four, six}, {four})
    again = program.listen()
    found.look_now(BOUND)
    assert (found.known, found.open) == ({four, six, again}, {four, again})
    program.close()
    found.look_now(BOUND)
    assert (found.known, found.open) == ({four, six, again}, frozenset())


def test_connections_of_a_closed_listener_still_count(driver, program):
    probed = TcpProbeUnderTest(driver, TcpProbeSpec(quiet=QUIET), program.pids)
    assert probed.sample() == Reading(
        INVALID,
        None,
        "the program listens on no TCP port; if it will later, set drain.tcp = [PORT]",
    )
    port = program.listen()
    with socket.create_connection(("127.0.0.1", port)) as client:
        assert probed.sample() == NOTHING
        client.sendall(b"?")
        assert probed.until_kind(BUSY).in_flight == 1
        closed = TcpProbeUnderTest(driver, TcpProbeSpec(mode="listener-closed"), program.pids)
        assert closed.sample() == Reading(BUSY, None, f"the program still listens on port {port}")
        program.do("close")  # this also resets the connection that was not accepted
        assert closed.sample() == Reading(DRAINED)
    probed.until_kind(DRAINED)


def test_without_a_port_it_leaves_the_verdict_to_an_agent_that_must_agree(driver, program):
    spec = TcpProbeSpec(quiet=QUIET)
    probed = TcpProbeUnderTest(driver, spec, program.pids, agent_decides=True)
    assert probed.sample() == Reading(DRAINED)
    assert probed.seen.work  # so it is not ended early
    with socket.create_connection(("127.0.0.1", program.listen())) as client:
        assert probed.sample() == NOTHING
        client.sendall(b"?")
        probed.until_kind(BUSY)


def test_listening_on_any_port(driver, program):
    probed = TcpProbeUnderTest(driver, TcpProbeSpec(mode="listening"), program.pids)
    assert probed.sample() == Reading(BUSY, None, "the program listens on no port yet")
    program.listen()
    assert probed.sample() == Reading(DRAINED)


def test_listening_on_another_port_than_the_one_that_is_set(driver, program):
    listens = program.listen()
    with socket.socket() as other:
        other.bind(("127.0.0.1", 0))
        port = other.getsockname()[1]
        probed = TcpProbeUnderTest(driver, TcpProbeSpec((port,), "listening"), program.pids)
        why = f"nothing listens on port {port} yet; the program listens on port {listens}"
        assert probed.sample() == Reading(BUSY, None, why)


def test_a_program_with_only_a_unix_socket_has_no_port(driver, program, tmp_path):
    assert program.do(f"unix {tmp_path / 's'}") == "ok"
    for mode in ("idle", "no-connections", "listener-closed"):
        assert (
            TcpProbeUnderTest(driver, TcpProbeSpec(mode=mode), program.pids).sample().kind
            == INVALID
        )


def test_listeners_of_others_are_searched_for_only_twice(driver, program, served):
    looks: list[int] = []
    found = Ports(driver.reactor, lambda: looks.append(1) or program.pids())
    for _ in range(5):
        found.look_now(BOUND)
    assert len(looks) == 2 and not found.known
    port = program.listen()
    found.look_now(BOUND)
    assert found.known == {port}


def test_thousands_of_descriptors_are_searched_in_slices(driver, program):
    program.do("open 3000")
    port = program.listen()
    found = Ports(driver.reactor, program.pids)
    found.look_now(0.0)  # the search goes on in slices
    assert not found.known
    before = driver.rounds
    driver.until(lambda: found.known)
    assert found.known == {port} and driver.rounds - before > 20


# Run as another user, who may not inspect the program's processes: prints the ports it found, and
# one sample without configured ports.
SAMPLE = """
import atexit, json, os, signal, socket, sys, time
from gracewrap.config.probe_specs import Request, TcpProbeSpec, Url
from gracewrap.http_client.exchange import Exchange
from gracewrap.linux import ports_of_program as ports, process_tree as tree
from gracewrap.linux.reactor import Reactor
from gracewrap.probes.tcp import TcpProbe
ours = socket.create_server(("127.0.0.1", 0))
given = socket.create_server(("127.0.0.1", 0))
given.set_inheritable(True)
child = os.fork()
if not child:
    os.setsid()
    helpers = socket.create_server(("127.0.0.1", 0))
    ours.close()
    given.close()
    os.write(1, b"%d\\n" % helpers.getsockname()[1])
    signal.pause()
atexit.register(os.kill, child, signal.SIGKILL)
tree.HELPERS.add(child)
sys.stdin.readline()
reactor = Reactor(lambda error: print(error))
found = ports.Ports(reactor, lambda: [int(pid) for pid in sys.argv[1:]])
found.look_now(10)
answers = []
TcpProbe(TcpProbeSpec(), reactor, found).sample(answers.append)
while not answers:
    reactor.run(time.monotonic())
ours, given = ours.getsockname()[1], given.getsockname()[1]
result = [ours, given, sorted(found.known), found.blind, answers[0].kind, answers[0].why]
print(json.dumps(result), flush=True)
"""


def sample_as_another_user(*pids: int, netns_of: int | None = None) -> tuple[int, list]:
    """Return the port of a helper that listens, and the output of SAMPLE."""
    enter = ("nsenter", f"--net=/proc/{netns_of}/ns/net") if netns_of else ()
    command = [*enter, *OTHER_USER, sys.executable, "-c", SAMPLE, *map(str, pids)]
    env = {**os.environ, "PYTHONPATH": str(ROOT / "supervisor"), "PYTHONDONTWRITEBYTECODE": "1"}
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE}
    process = subprocess.Popen(command, env=env, **pipes)
    try:
        assert process.stdin and process.stdout
        out = Lines(process.stdout.fileno())
        helper = int(out.next())
        process.stdin.write(b"\n")
        process.stdin.flush()
        return helper, json.loads(out.next())
    finally:
        process.communicate(b"", BOUND)


@pytest.fixture
def apart() -> Iterator[Program]:
    """A program in a network namespace of its own."""
    require_other_user()
    require(shutil.which("nsenter"), "nsenter(1), from util-linux")
    one = Program.__new__(Program)
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE}
    one.process = subprocess.Popen(
        ["unshare", "--net", sys.executable, "-S", "-c", LISTENER], text=True, **pipes
    )
    one.pid = one.process.pid
    yield one
    one.close()


@pytest.mark.root
def test_in_a_private_network_namespace_unowned_ports_are_the_program_s(apart):
    port = apart.listen()
    _, (_, given, known, blind, kind, _) = sample_as_another_user(apart.pid, netns_of=apart.pid)
    assert not blind and kind == DRAINED
    # Not SAMPLE's own port or its helper's, but the one that it can pass on to the program.
    assert known == sorted([port, given])


@pytest.mark.root
def test_on_the_host_network_it_says_that_it_cannot_find_the_ports(program):
    require_other_user()
    require_host_network()
    program.listen()
    _, (_, _, known, blind, kind, why) = sample_as_another_user(program.pid)
    assert (known, blind, kind) == ([], True, INVALID)
    assert "drain.tcp = [PORT]" in why and "CAP_SYS_PTRACE" in why


@pytest.mark.root
def test_the_cgroup_shows_the_owner_of_a_socket(program, served):
    require_other_user()
    mounts = (line.split() for line in Path("/proc/mounts").read_text().splitlines())
    root = next((Path(mount[1]) for mount in mounts if mount[2] == "cgroup2"), None)
    if root is None:
        pytest.skip("no cgroup2 file system")
    group = root / f"gracewrap-test-{os.getpid()}"
    with contextlib.ExitStack() as stack:
        try:
            group.mkdir()
            stack.callback(group.rmdir)
            stack.callback(program.close)
            (group / "cgroup.procs").write_text(str(program.pid))
        except OSError as error:
            pytest.skip(f"no cgroup of our own: {error}")
        port = program.listen()
        assert ports_of_program.cgroup(program.pid) == group.stat().st_ino
        _, (_, _, known, blind, kind, _) = sample_as_another_user(program.pid)
        assert (known, blind, kind) == ([port], False, DRAINED)


@pytest.mark.root
def test_network_namespace_detection():
    require_root()
    code = "from gracewrap.linux import ports_of_program as ports; print(ports.on_host_network())"
    command = ["unshare", "--net", sys.executable, "-c", code]
    env = {**os.environ, "PYTHONPATH": str(ROOT / "supervisor")}
    assert (
        subprocess.run(command, env=env, capture_output=True, text=True, timeout=BOUND).stdout
        == "False\n"
    )


# Real servers.

NODE = """
const http = require("http");
const server = http.createServer((request, response) => {
  const answer = () => response.end("done\\n");
  if (request.url === "/slow") process.once("SIGUSR2", answer); else answer();
});
server.keepAliveTimeout = 60000;
server.listen(0, "127.0.0.1", () => console.log(server.address().port));
process.on("SIGTERM", () => { server.close(); console.log("closing"); });
"""

PYTHON = """
import http.server, signal, threading
release = threading.Event()
signal.signal(signal.SIGUSR2, lambda *_: release.set())
class Handler(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    def do_GET(self):
        if self.path == "/slow":
            release.wait()
        self.wfile.write(b"HTTP/1.1 200 OK\\r\\nContent-Length: 5\\r\\n\\r\\ndone\\n")
    def log_message(self, *_): pass
server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
server.daemon_threads = True
def stop(*_):
    print("closing", flush=True)
    threading.Thread(target=lambda: (server.shutdown(), server.socket.close())).start()
signal.signal(signal.SIGTERM, stop)
print(server.server_port, flush=True)
server.serve_forever()
threading.Event().wait()
"""


@contextlib.contextmanager
def web_server(*command: str) -> Iterator[tuple[subprocess.Popen[bytes], Lines]]:
    process = subprocess.Popen(command, stdout=subprocess.PIPE)
    try:
        assert process.stdout
        yield process, Lines(process.stdout.fileno())
    finally:
        process.kill()
        process.communicate()


def get(client: socket.socket, path: str) -> None:
    client.sendall(f"GET {path} HTTP/1.1\r\nHost: x\r\n\r\n".encode())


def read_response(client: socket.socket) -> None:
    """Read one response."""
    response = b""
    while not response.endswith(b"done\n"):
        part = client.recv(4096)
        assert part, response
        response += part


@pytest.mark.parametrize(
    ("tool", "command"),
    [
        pytest.param("node", ("node", "-e", NODE), marks=pytest.mark.node),
        pytest.param(sys.executable, (sys.executable, "-c", PYTHON)),
    ],
    ids=["node", "python"],
)
def test_a_real_server_through_its_stop(driver, tool, command):
    """With idle clients, clients that never sent anything, and requests in flight: first requests,
    and requests right after a response."""
    require(shutil.which(tool), tool)
    with contextlib.ExitStack() as stack:
        process, out = stack.enter_context(web_server(*command))
        port = int(out.next())
        clients = [
            stack.enter_context(socket.create_connection(("127.0.0.1", port), BOUND))
            for _ in range(25)
        ]
        for client in clients[:20]:
            for _ in range(10):
                get(client, "/")
                read_response(client)
        probed = TcpProbeUnderTest(driver, TcpProbeSpec(quiet=QUIET), lambda: [process.pid])
        probed.until_kind(DRAINED)
        for client in clients[:10]:  # each right after a response
            get(client, "/")
            read_response(client)
            get(client, "/slow")
        for client in clients[20:22]:  # first requests
            get(client, "/slow")
        reading = probed.until(lambda reading: reading.kind == BUSY and "active" not in reading.why)
        assert reading == Reading(BUSY, 12.0, "12 of 25 connections in flight")
        process.send_signal(signal.SIGTERM)
        out.until("closing")
        closed = TcpProbeUnderTest(driver, TcpProbeSpec((port,), "listener-closed"))
        closed.until_kind(DRAINED)
        assert probed.sample().in_flight == 12
        process.send_signal(signal.SIGUSR2)
        for client in [*clients[:10], *clients[20:22]]:
            read_response(client)
        probed.until_kind(DRAINED)
        assert process.poll() is None  # kept alive by its connections, with nothing in flight


def test_nginx_and_its_workers(driver, tmp_path):
    """The master and every worker share the listening socket.  A client that reads a large file
    slowly is in flight, the others are idle."""
    require(shutil.which("nginx"), "nginx")
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    (tmp_path / "large").write_bytes(b"x" * 20_000_000)
    (tmp_path / "small").write_bytes(b"done\n")
    paths = " ".join(
        f"{kind}_temp_path {tmp_path}/{kind};"
        for kind in ("client_body", "proxy", "fastcgi", "uwsgi", "scgi")
    )
    (tmp_path / "nginx.conf").write_text(f"""
        daemon off; worker_processes 2; pid {tmp_path}/pid;
        error_log {tmp_path}/error.log; {"user root;" * (os.geteuid() == 0)}
        events {{}}
        http {{
            access_log off; {paths}
            server {{ listen 127.0.0.1:{port}; root {tmp_path}; keepalive_timeout 60s; }}
        }}
    """)
    with contextlib.ExitStack() as stack:
        process, _ = stack.enter_context(
            web_server(
                "nginx", "-c", str(tmp_path / "nginx.conf"), "-e", str(tmp_path / "error.log")
            )
        )
        stack.callback(process.wait, BOUND)
        stack.callback(process.terminate)  # kills its workers, which SIGKILL would leave behind
        pids = lambda: [process.pid, *process_tree.children(process.pid)]  # noqa: E731
        TcpProbeUnderTest(driver, TcpProbeSpec(mode="listening"), pids).until_kind(DRAINED)
        probed = TcpProbeUnderTest(driver, TcpProbeSpec(quiet=QUIET), pids)
        idle = [
            stack.enter_context(socket.create_connection(("127.0.0.1", port), BOUND))
            for _ in range(10)
        ]
        for client in idle[1:]:
            get(client, "/small")
            read_response(client)
        slow = stack.enter_context(socket.create_connection(("127.0.0.1", port), BOUND))
        get(slow, "/large")
        reading = probed.until(lambda reading: reading.kind == BUSY and "active" not in reading.why)
        assert reading.why == "1 of 11 connections in flight"
        # Closes listening sockets and idle connections, except the one that was never used.
        process.send_signal(signal.SIGQUIT)
        closed = TcpProbeUnderTest(driver, TcpProbeSpec((port,), "listener-closed"))
        closed.until_kind(DRAINED)
        assert probed.sample().in_flight == 1
        reader = threading.Thread(
            target=lambda: [None for _ in iter(lambda: slow.recv(1 << 20), b"")]
        )
        reader.start()
        probed.until_kind(DRAINED)
        slow.shutdown(socket.SHUT_RDWR)
        reader.join(BOUND)


# The rule.


def state_of(
    state: int = 1,
    unread: int = 0,
    unsent: int = 0,
    inode: int = 7,
    info: tuple | None = (5000, 5000, 10, 3),
) -> str:
    return tcp.classify((2, state, 80, unread, unsent, inode, info, 40_000), 2000)


@pytest.mark.parametrize(
    ("state", "connection"),
    [
        (tcp.IN_FLIGHT, {"unread": 1}),
        (tcp.IN_FLIGHT, {"unsent": 1}),
        (tcp.IN_FLIGHT, {"info": None}),  # an old kernel
        (tcp.IN_FLIGHT, {"info": (5000, 4996, 10, 3)}),  # a request after the last response
        (tcp.IN_FLIGHT, {"info": (5000, 5000, 10, 0)}),  # no response ever: no tie
        (tcp.TIE, {}),
        (tcp.TIE, {"info": (5000, 5010, 10, 3)}),
        (tcp.TIE, {"info": (5000, 5000, 10, -1)}),
        (tcp.RECENT, {"info": (200, 200, 10, 3)}),  # too young for the pingpong bit
        (tcp.RECENT, {"info": (1900, 4000, 10, 3)}),
        (tcp.IDLE, {"info": (2000, 4000, 10, 3)}),
        (tcp.IDLE, {"info": (2000, 2000, 0, 0)}),
        (tcp.IDLE, {"info": (1, 1, 0, 0)}),
        # Only a FIN was received.
        (tcp.IDLE, {"state": tcp_sockets.CLOSE_WAIT, "unread": 1, "info": (1, 1, 1, 0)}),
        (tcp.IN_FLIGHT, {"state": tcp_sockets.CLOSE_WAIT, "unread": 2}),
        (tcp.IN_FLIGHT, {"state": tcp_sockets.CLOSE_WAIT, "info": (5000, 4000, 10, 3)}),
        # Only the FIN is not acknowledged.
        (tcp.GONE, {"state": tcp_sockets.FIN_WAIT1, "unsent": 1, "inode": 0}),
        (tcp.IN_FLIGHT, {"state": tcp_sockets.FIN_WAIT1, "unsent": 2, "inode": 0}),
        (tcp.IN_FLIGHT, {"state": tcp_sockets.LAST_ACK, "unsent": 2, "inode": 0, "info": None}),
        (tcp.GONE, {"state": tcp_sockets.FIN_WAIT2, "inode": 0, "info": None}),
        (tcp.IDLE, {"state": tcp_sockets.FIN_WAIT2}),
    ],
)
def test_classify(state, connection):
    assert state_of(**connection) == state


# Clients that speak last without asking for anything.

# Answers "?" with "!" in a thread for each connection; "z" makes that thread do something else.
THREADS = """
import socket, sys, threading
listener = socket.create_server(("127.0.0.1", 0))
print(listener.getsockname()[1], flush=True)
def serve(connection):
    if sys.argv[1] == "poll":
        connection.settimeout(1000)
    while got := connection.recv(1):
        if got == b"?":
            connection.sendall(b"!")
        elif got == b"z":
            threading.Event().wait()
while True:
    threading.Thread(target=serve, args=(listener.accept()[0],), daemon=True).start()
"""


@pytest.fixture(params=["recv", "poll"])
def threads(request: pytest.FixtureRequest) -> Iterator[tuple[int, int]]:
    """The pid and the port of a server with threads, which wait in recv(2) or in poll(2)."""
    command = [sys.executable, "-c", THREADS, request.param]
    with subprocess.Popen(command, stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        try:
            yield process.pid, int(process.stdout.readline())
        finally:
            process.kill()


def test_who_speaks_last_without_a_request_is_not_in_flight(driver, threads):
    """As at the end of a TLS handshake, or a message on a WebSocket that nobody answers: a thread
    that waits for more works on no answer."""
    pid, port = threads
    require(
        Path(f"/proc/{pid}/syscall").read_text(), "a kernel that tells system calls, and the right"
    )
    probed = TcpProbeUnderTest(driver, TcpProbeSpec((port,), quiet=QUIET), lambda: [pid])
    with socket.create_connection(("127.0.0.1", port), BOUND) as client:
        client.sendall(b"?")
        assert client.recv(1) == b"!"
        client.sendall(b".")
        assert probed.until_kind(DRAINED) == NOTHING


def test_a_request_that_a_thread_works_on_stays_in_flight(driver, threads):
    pid, port = threads
    probed = TcpProbeUnderTest(driver, TcpProbeSpec((port,), quiet=QUIET), lambda: [pid])
    with socket.create_connection(("127.0.0.1", port), BOUND) as client:
        client.sendall(b"?")
        assert client.recv(1) == b"!"
        client.sendall(b"z")
        probed.until(lambda reading: reading.in_flight == 1)
        until = time.monotonic() + 3 * QUIET
        while time.monotonic() < until:
            assert probed.sample().kind == BUSY


# Streams.


def sends_events(driver, served, **options) -> TcpProbeUnderTest:
    """Ask for server-sent events, and send one after the other until the probe sees a stream."""
    client, end = served.connect()
    probed = served.probed(driver, **options)
    client.sendall(REQUEST)
    end.recv(len(REQUEST), socket.MSG_WAITALL)

    def another_event() -> bool:
        end.sendall(b"data: x\n\n")
        client.recv(9, socket.MSG_WAITALL)
        return probed.sample().streams == 1

    wait_until(another_event, "it is a stream")
    return probed


def test_what_the_program_sends_by_itself_is_a_stream(driver, served):
    probed = sends_events(driver, served, quiet=2.0)
    reading = probed.sample()
    assert (reading.kind, reading.in_flight, reading.only_streams) == (BUSY, 0, True)
    assert reading.why == "streams open: 1"


def test_an_idle_stream_is_told_and_keeps_nothing_busy(driver, served):
    probed = sends_events(driver, served)
    reading = probed.until_kind(DRAINED)
    assert (reading.streams, reading.idle_streams) == (1, 1)
    assert probed.seen.open == "streams open: 1 (1 idle)"


def test_a_client_that_answers_pings_asks_for_nothing(driver, served):
    """A WebSocket of a server with a heartbeat: the client's pong is always the last word."""
    client, end = served.connect()
    served.exchange(client, end)
    for _ in range(40):
        end.sendall(b"ping")
        client.recv(4, socket.MSG_WAITALL)
        client.sendall(b"pong.")
        end.recv(5, socket.MSG_WAITALL)
    reading = served.probed(driver).until_kind(DRAINED)
    assert (reading.streams, reading.idle_streams) == (1, 1)
