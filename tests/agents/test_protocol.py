"""What agents say: read by the protocol's rules whatever it is, counted, and shown; and a socket
that survives those who break the rules."""

from __future__ import annotations

import json
import socket
from collections.abc import Iterator

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gracewrap.linux import agent_socket, sd_notify
from gracewrap.linux.agent_socket import Listener, Peer
from gracewrap.policy.model import (
    BUSY,
    DRAINED,
    FAILED,
    UNREACHABLE,
    AgentCounts,
    QueueJobs,
    Reading,
)
from gracewrap.probes import agent
from gracewrap.report.in_flight import InFlight
from reactor_driver import Driver, driving

JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
    max_leaves=8,
)
KEYS = st.sampled_from(
    ("type", "id", "version", "requests", "streams", "websockets", "jobs", "handler", "why")
)
TYPES = st.sampled_from(("hello", "in_flight", "state", "trouble"))
MESSAGES = st.dictionaries(KEYS, JSON).flatmap(
    lambda message: TYPES.map(lambda kind: {**message, "type": kind})
)


def line(**message: object) -> bytes:
    return json.dumps(message).encode()


@given(st.binary() | JSON.map(lambda value: json.dumps(value).encode()))
def test_any_line_is_read_or_ignored(data: bytes):
    agent.parse(data)


def test_a_deep_line_is_ignored():
    assert agent.parse(b"[" * 60_000) is None


@given(MESSAGES)
def test_whatever_a_message_holds_its_numbers_are_bounded(message: dict[str, object]):
    said = agent.parse(json.dumps(message).encode())
    assert said is not None
    if isinstance(said, agent.InFlight):
        counts = said.counts
        assert 0 <= counts.requests < 1 << 31 and counts.in_flight >= 0
        assert len(counts.jobs) <= agent.MOST_QUEUES
        assert all(len(queue.ids) <= agent.MOST_IDS for queue in counts.jobs)
        assert agent.shown(counts).isprintable()


@pytest.mark.parametrize(
    ("said", "meant"),
    [
        ({"type": "hello", "version": 1, "runtime": "node 20"}, agent.Hello(1, "node 20")),
        ({"type": "hello"}, agent.Hello(0, "")),
        ({"type": "state", "handler": "own"}, agent.State("own")),
        ({"type": "state", "handler": "mine"}, agent.State("none")),
        ({"type": "state", "handler": "agent", "heard": False}, agent.State("agent", True)),
        ({"type": "state", "handler": "agent", "heard": True}, agent.State("agent")),
        ({"type": "state", "handler": "agent", "heard": 0}, agent.State("agent")),
        ({"type": "state", "requests": 2}, agent.State("none", counts=AgentCounts(2))),
        ({"type": "trouble", "why": "a\nb"}, agent.Trouble("a b")),
        ({"type": "exit", "requests": 2}, agent.LastCounts(AgentCounts(2))),
        ({"type": "exit", "exception": "E"}, agent.LastCounts(AgentCounts(), "E")),
        ({"type": "later"}, None),
        ({"type": "in_flight", "id": 3, "requests": 2}, agent.InFlight(3, AgentCounts(2))),
        ({"type": "in_flight", "id": 4, "waits": 1}, agent.InFlight(4, AgentCounts(waits=1))),
        (
            {"type": "in_flight", "id": 1, "jobs": [{"queue": "q", "active": 1, "ids": ["7", 8]}]},
            agent.InFlight(1, AgentCounts(jobs=(QueueJobs("q", 1, ("7", "8")),))),
        ),
    ],
)
def test_a_message_is_what_the_protocol_says(said: dict[str, object], meant: object):
    assert agent.parse(line(**said)) == meant


def test_counts_of_several_processes_are_summed_by_queue():
    one = AgentCounts(1, 1, 2, (QueueJobs("mails", 1, ("1",)),))
    two = AgentCounts(2, 0, 0, (QueueJobs("mails", 2, ("2", "3")), QueueJobs("bills", 1)))
    both = agent.total([one, two])
    assert both == AgentCounts(
        3, 1, 2, (QueueJobs("mails", 3, ("1", "2", "3")), QueueJobs("bills", 1))
    )
    assert both.in_flight == 7
    shown = "3 requests (1 stream), 3 jobs of mails (1, 2, 3), 1 job of bills, 2 WebSockets"
    assert agent.shown(both) == shown


class Asked:
    """Agents that answer at once."""

    def __init__(self, answers: list[AgentCounts] | None) -> None:
        self.answers = answers

    def ask(self, on_answers):
        on_answers(self.answers)

    def cancel(self):
        pass


@pytest.mark.parametrize(
    ("agents", "kind", "in_flight"),
    [
        (Asked([AgentCounts()]), DRAINED, 0),
        (Asked([AgentCounts(websockets=3)]), DRAINED, 0),
        (Asked([AgentCounts(1), AgentCounts(2, 1)]), BUSY, 3),
        (Asked([AgentCounts(jobs=(QueueJobs("q", 2),))]), BUSY, 2),
        (Asked(None), UNREACHABLE, None),
        (None, FAILED, None),
    ],
)
def test_the_probe_is_drained_when_no_request_and_no_job_is_left(agents, kind, in_flight):
    readings = []
    agent.AgentProbe(agents).sample(readings.append)
    assert [(one.kind, one.in_flight) for one in readings] == [(kind, in_flight)]


def test_the_probe_tells_streams_and_websockets_apart_from_requests():
    readings: list[Reading] = []
    for counts in (AgentCounts(2, 2, 3), AgentCounts(3, 2, 3)):
        agent.AgentProbe(Asked([counts])).sample(readings.append)
    assert [(one.streams, one.only_streams) for one in readings] == [(5, True), (5, False)]


@pytest.mark.parametrize("waits", [0, 2])
def test_the_probe_is_drained_and_says_what_the_program_itself_waits_for(waits):
    readings: list[Reading] = []
    agents = Asked([AgentCounts(), AgentCounts(waits=waits)])
    agent.AgentProbe(agents).sample(readings.append)
    assert [one.kind for one in readings] == [DRAINED]
    assert ("waits for: 2" in readings[0].work) == bool(waits)


def test_streams_that_an_agent_counts_are_not_counted_twice():
    in_flight = InFlight([("agent", "requests"), ("tcp", "connections")])
    in_flight.take(0, Reading(BUSY, 2, streams=3, counts=AgentCounts(2, 2, 1)), 0.0)
    in_flight.take(1, Reading(BUSY, 0, streams=2, idle_streams=1), 0.0)
    assert in_flight.streams() == (3, 1)


class Served:
    """A listening socket, and what was received."""

    def __init__(self, driver: Driver, is_member: bool = True) -> None:
        self.fd, self.path = agent_socket.make()
        self.driver, self.lines, self.gone = driver, list[bytes](), list[Peer]()
        self.listener = Listener(
            driver.reactor,
            self.fd,
            lambda pid: is_member,
            lambda peer, data: self.lines.append(data),
            self.gone.append,
        )

    def connect(self) -> socket.socket:
        client = socket.socket(socket.AF_UNIX)
        client.settimeout(10)
        client.connect(self.path)
        self.driver.until(lambda: self.listener.peers or self.listener.refused)
        return client


@pytest.fixture
def served() -> Iterator[Served]:
    with driving() as driver:
        made = Served(driver)
        yield made
        for peer in list(made.listener.peers):
            made.listener.drop(peer)
        driver.reactor.unwatch(made.fd)
        made.listener._socket.close()
        sd_notify.remove(made.path)


def test_lines_are_put_together(served: Served):
    with served.connect() as client:
        client.sendall(b'{"a"')
        client.sendall(b": 1}\n{}\nhalf")
        served.driver.until(lambda: len(served.lines) == 2)
        assert served.lines == [b'{"a": 1}', b"{}"]
    served.driver.until(lambda: served.gone)
    assert served.listener.peers == []


def test_a_line_without_an_end_ends_the_connection(served: Served):
    with served.connect() as client:
        served.driver.until(lambda: served.gone, meanwhile=lambda: send_some(client))
    assert served.lines == []


def send_some(client: socket.socket) -> None:
    try:
        client.send(b"x" * 10_000)
    except OSError:
        pass


def test_the_last_word_of_a_peer_that_is_gone_is_read_if_it_is_sent_something(served: Served):
    client = served.connect()
    (peer,) = served.listener.peers
    client.sendall(b"last\n")
    client.close()
    served.listener.send(peer, "x")
    assert (served.lines, served.gone) == ([b"last"], [peer])


def test_a_peer_that_does_not_read_is_disconnected(served: Served):
    with served.connect():
        (peer,) = served.listener.peers
        for _ in range(10_000):
            served.listener.send(peer, "x" * 1000)
            if served.gone:
                break
        assert served.gone == [peer]
        served.listener.send(peer, "x")  # nothing happens


def test_strangers_are_refused():
    with driving() as driver:
        made = Served(driver, is_member=False)
        with made.connect() as client:
            assert client.recv(1) == b""
        assert made.listener.refused == 1 and not made.listener.peers
        driver.reactor.unwatch(made.fd)
        made.listener._socket.close()
        sd_notify.remove(made.path)


def test_no_more_than_the_bound_are_accepted(served: Served, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(agent_socket, "MOST_PEERS", 3)
    clients = [served.connect() for _ in range(5)]
    served.driver.until(lambda: served.listener.refused == 2)
    assert len(served.listener.peers) == 3
    for client in clients:
        client.close()


def test_a_path_that_is_too_long_is_not_used(monkeypatch: pytest.MonkeyPatch, tmp_path):
    long = tmp_path / ("x" * 100)
    long.mkdir()
    monkeypatch.setattr(sd_notify, "directories", lambda: iter((str(long), "/tmp")))
    fd, path = agent_socket.make()
    try:
        assert path.startswith("/tmp/gracewrap-agent-")
    finally:
        socket.socket(fileno=fd).close()
        sd_notify.remove(path)
