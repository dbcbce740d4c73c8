"""python -m benchmarks.scan [NUMBER...]: measures a sample of the tcp probe, by the number of
connections; prints JSON.

The probe runs in this process; no gracewrap is started.  The connections are real, over loopback,
from another process.  They are idle, and their last response followed the request at once, which is
the expensive case: a tie, for which the first sample also reads /proc/net/tcp.
"""

from __future__ import annotations

import json
import os
import resource
import signal
import socket
import struct
import sys
import time
from collections.abc import Callable
from functools import partial

from gracewrap.config.probe_specs import TcpProbeSpec
from gracewrap.linux.ports_of_program import Ports
from gracewrap.linux.reactor import Reactor
from gracewrap.policy.model import Reading
from gracewrap.probes.tcp import TcpProbe

NUMBERS = (10, 1_000, 10_000)
ROUNDS = 5


def main() -> int:
    """Run the command line; return the exit status."""
    numbers = [int(word) for word in sys.argv[1:]] or list(NUMBERS)
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    if max(numbers) + 100 > hard:
        print(f"too many connections: ulimit -Hn is {hard}", file=sys.stderr)
        return 1
    print(json.dumps([measure(number) for number in numbers], indent=1))
    return 0


def measure(number: int) -> dict[str, object]:
    """Return the costs with *number* connections."""
    listener = listen()
    port = listener.getsockname()[1]
    client = os.fork()
    if not client:
        connect(port, number)
    try:
        served = [serve(listener) for _ in range(number)]
        result: dict[str, object] = {"connections": number}
        result["find_ports"] = best(lambda reactor: look(reactor, number))
        time.sleep(0.5)  # before that, the probe does not decide ties
        with_ties, remembered = [], []
        for _ in range(ROUNDS):
            reactor = Reactor(fault)
            probe = TcpProbe(TcpProbeSpec((port,), quiet=0.25), reactor, Ports(reactor, list))
            with_ties.append(cost(reactor, partial(sample, probe)))
            remembered.append(cost(reactor, partial(sample, probe)))
        result["first_sample"] = min(with_ties, key=lambda result: result["cpu_ms"])
        result["next_sample"] = min(remembered, key=lambda result: result["cpu_ms"])
        for connection in served:
            # Reset the connection instead of leaving thousands in TIME_WAIT.
            connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            connection.close()
        return result
    finally:
        listener.close()
        os.kill(client, signal.SIGKILL)
        os.waitpid(client, 0)


def listen() -> socket.socket:
    """Listen on a port outside the ephemeral range, from which the clients get their ports."""
    for port in range(20_000, 30_000):
        try:
            return socket.create_server(("127.0.0.1", port), backlog=4096)
        except OSError:
            continue
    raise OSError("no free port")


def connect(port: int, number: int) -> None:
    """Run the clients, until killed."""
    clients = []
    for count in range(number):
        client = socket.socket()
        client.bind((f"127.0.0.{2 + count % 8}", 0))  # one address has too few ports
        client.connect(("127.0.0.1", port))
        client.sendall(b"?")
        client.recv(1)
        clients.append(client)
    signal.pause()


def serve(listener: socket.socket) -> socket.socket:
    """Answer one request at once, and keep the connection."""
    connection, _ = listener.accept()
    connection.recv(1)
    connection.sendall(b"!")
    return connection


def sample(probe: TcpProbe) -> None:
    """Take one sample, which must find nothing in flight."""

    def on_reading(reading: Reading) -> None:
        assert reading.kind == "drained", reading

    probe.sample(on_reading)


def look(reactor: Reactor, number: int) -> None:
    """Find the ports of this process, which has *number* other file descriptors."""
    Ports(reactor, lambda: [os.getpid()]).look()


def best(start: Callable[[Reactor], None]) -> dict[str, float]:
    def once() -> dict[str, float]:
        reactor = Reactor(fault)
        return cost(reactor, lambda: start(reactor))

    return min((once() for _ in range(ROUNDS)), key=lambda result: result["cpu_ms"])


def cost(reactor: Reactor, start: Callable[[], None]) -> dict[str, float]:
    """Return the CPU time until the reactor is idle, and that of the longest slice.

    A signal would have waited for the longest slice.  CPU time, because a busy machine hardly
    changes it.
    """
    cpu, longest, slices = time.process_time(), 0.0, 0
    start()
    while reactor.due(0.0) is not None:
        began = time.thread_time()
        reactor.run(time.monotonic())
        longest = max(longest, time.thread_time() - began)
        slices += 1
    return {
        "cpu_ms": round((time.process_time() - cpu) * 1000, 2),
        "slices": slices,
        "longest_slice_ms": round(longest * 1000, 2),
    }


def fault(error: BaseException) -> None:
    raise error


if __name__ == "__main__":
    sys.exit(main())
