"""What a program is connected to, asked of the real kernel."""

from __future__ import annotations

import os
import socket
import subprocess
import sys

from gracewrap.linux import agent_socket, peers

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
            found = _result(peers.find([os.getpid()], set(), set()))
            named = [one.to for one in found]
            assert paths[0] in named and paths[1] not in named
        finally:
            for client in clients:
                client.close()
            listener.communicate(timeout=30)


def _result(steps):
    while True:
        try:
            next(steps)
        except StopIteration as end:
            return end.value
