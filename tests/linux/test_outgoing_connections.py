"""What a program is connected to, asked of the real kernel."""

from __future__ import annotations

import contextlib
import os
import socket
import subprocess
import sys
from collections.abc import Iterator

import pytest

from gracewrap.linux import agent_socket, outgoing_connections
from processes import wait_until

LISTENS = """
import socket, sys
held = []
for path in sys.argv[1:]:
    held.append(socket.socket(socket.AF_UNIX)); held[-1].bind(path); held[-1].listen()
print("ready", flush=True)
held += [one.accept() for one in held]
print("accepted", flush=True)
sys.stdin.read()
"""


def test_an_agent_that_is_connected_to_us_is_no_work_of_the_program(tmp_path):
    paths = [str(tmp_path / "db.sock"), str(tmp_path / f"{agent_socket.PREFIX}1-2")]
    words = [sys.executable, "-c", LISTENS, *paths]
    with subprocess.Popen(words, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as listener:
        assert listener.stdout is not None and listener.stdout.readline() == b"ready\n"
        clients = [socket.socket(socket.AF_UNIX) for _ in paths]
        try:
            for client, path in zip(clients, paths):
                client.connect(path)
            assert listener.stdout.readline() == b"accepted\n"
            found = _result(outgoing_connections.find([os.getpid()], set(), set()))
            named = [one.to for one in found]
            assert paths[0] in named and paths[1] not in named
        finally:
            for client in clients:
                client.close()
            listener.communicate(timeout=30)


def ask(client: socket.socket, served: socket.socket) -> None:
    client.sendall(b"?")
    assert served.recv(1) == b"?"


def reply(client: socket.socket, served: socket.socket) -> None:
    served.sendall(b"!")
    assert client.recv(1) == b"!"


@contextlib.contextmanager
def client_of_another_port() -> Iterator[tuple[socket.socket, socket.socket, int]]:
    with (
        socket.create_server(("127.0.0.1", 0)) as listener,
        socket.create_connection(listener.getsockname()) as client,
        listener.accept()[0] as served,
    ):
        yield client, served, listener.getsockname()[1]


def is_due(port: int) -> bool:
    """Return whether an answer is due on a port, once its last byte is no news any more."""
    found: list[outgoing_connections.Peer] = []

    def settled() -> bool:
        found[:] = _result(outgoing_connections.find([os.getpid()], {port}, set()))
        return [one.age is None or one.age > 0.3 for one in found] == [True]

    wait_until(settled, "nothing moves")
    assert found[0].to == f"port {port}"
    return found[0].used


@pytest.mark.parametrize("half_closed", [False, True])
@pytest.mark.parametrize("answers", [0, 1, 3])
def test_a_request_to_another_port_is_due_until_it_is_answered(answers, half_closed):
    """Also one that comes with the connection, or right after the last answer."""
    with client_of_another_port() as (client, served, port):
        for _ in range(answers):
            ask(client, served)
            reply(client, served)
        ask(client, served)
        if half_closed:
            client.shutdown(socket.SHUT_WR)
        assert is_due(port)
        reply(client, served)
        assert half_closed or not is_due(port)


@pytest.mark.parametrize("half_closed", [False, True])
def test_a_client_of_another_port_that_has_asked_nothing_is_idle(half_closed):
    with client_of_another_port() as (client, _, port):
        if half_closed:
            client.shutdown(socket.SHUT_WR)
        assert not is_due(port)


def test_where_descriptors_cannot_be_read_the_unix_sockets_of_the_user_count(tmp_path, monkeypatch):
    """As those of a TCP connection do: another user's process, without CAP_SYS_PTRACE."""

    def denied(pid: int) -> Iterator[int]:
        raise PermissionError

    path = str(tmp_path / "db.sock")
    with socket.socket(socket.AF_UNIX) as listener, socket.socket(socket.AF_UNIX) as client:
        listener.bind(path)
        listener.listen()
        client.connect(path)
        with listener.accept()[0]:
            monkeypatch.setattr(outgoing_connections, "sockets", denied)
            assert path in [
                one.to for one in _result(outgoing_connections.find([os.getpid()], set(), set()))
            ]
            monkeypatch.setattr(outgoing_connections, "_user", lambda pid: {os.getuid() + 34567})
            assert path not in [
                one.to for one in _result(outgoing_connections.find([os.getpid()], set(), set()))
            ]


def _result(steps):
    while True:
        try:
            next(steps)
        except StopIteration as end:
            return end.value
