"""python -m benchmarks.scan: what a sample of the tcp probe costs, by the number of connections;
prints JSON.

The connections are real ones over loopback, to this process, from another one.  They are idle, and
their last answer followed its
request at once, which is the dear case: a tie, for which the first sample reads /proc/net/tcp too.
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
from gracewrap.linux.listening_ports import Ports
from gracewrap.linux.reactor import Reactor
from gracewrap.policy.model import Reading
from gracewrap.probes.tcp import TcpProbe

NUMBERS = (10, 1_000, 10_000)
ROUNDS = 5


def main() -> int:
    """Measure, print; return the exit status."""
    numbers = [int(word) for word in sys.argv[1:]] or list(NUMBERS)
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    if max(numbers) + 100 > hard:
        print(f"only {hard} descriptors may be open (ulimit -Hn)", file=sys.stderr)
        return 1
    print(json.dumps([measure(number) for number in numbers], indent=1))
    return 0


def measure(number: int) -> dict[str, object]:
    """Return the costs with this many connections."""
    listener = listen()
    port = listener.getsockname()[1]
    client = os.fork()
    if not client:
        connect(port, number)
    try:
        served = [serve(listener) for _ in range(number)]
        result: dict[str, object] = {"connections": number}
        result["find_ports"] = best(lambda reactor: look(reactor, number))
        time.sleep(0.5)  # a tie is not looked at before
        with_ties, remembered = [], []
        for _ in range(ROUNDS):
            reactor = Reactor(fault)
            probe = TcpProbe(TcpProbeSpec((port,), quiet=0.25), reactor, Ports(reactor, list))
            with_ties.append(cost(reactor, partial(sample, probe)))
            remembered.append(cost(reactor, partial(sample, probe)))
        result["first_sample"] = min(with_ties, key=lambda one: one["cpu_ms"])
        result["next_sample"] = min(remembered, key=lambda one: one["cpu_ms"])
        for one in served:
            one.setsockopt(
                socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0)
            )  # no thousands in TIME_WAIT
            one.close()
        return result
    finally:
        listener.close()
        os.kill(client, signal.SIGKILL)
        os.waitpid(client, 0)


def listen() -> socket.socket:
    """Listen on a port that no client is given as its own, for these bind to an address of
    theirs."""
    for port in range(20_000, 30_000):
        try:
            return socket.create_server(("127.0.0.1", port), backlog=4096)
        except OSError:
            continue
    raise OSError("no free port")


def connect(port: int, number: int) -> None:
    """Be the clients, until killed."""
    kept = []
    for count in range(number):
        one = socket.socket()
        one.bind((f"127.0.0.{2 + count % 8}", 0))  # one address has not ports enough
        one.connect(("127.0.0.1", port))
        one.sendall(b"?")
        one.recv(1)
        kept.append(one)
    signal.pause()


def serve(listener: socket.socket) -> socket.socket:
    """Answer one request at once, and keep the connection."""
    one, _ = listener.accept()
    one.recv(1)
    one.sendall(b"!")
    return one


def sample(probe: TcpProbe) -> None:
    """Take one sample, which must say that nothing is in flight."""

    def answer(reading: Reading) -> None:
        assert reading.kind == "drained", reading

    probe.sample(answer)


def look(reactor: Reactor, number: int) -> None:
    """Find this process's own ports, as if it were the program: it has *number* descriptors beside
    the listener's."""
    Ports(reactor, lambda: [os.getpid()]).look()


def best(start: Callable[[Reactor], None]) -> dict[str, float]:
    def once() -> dict[str, float]:
        reactor = Reactor(fault)
        return cost(reactor, lambda: start(reactor))

    return min((once() for _ in range(ROUNDS)), key=lambda one: one["cpu_ms"])


def cost(reactor: Reactor, start: Callable[[], None]) -> dict[str, float]:
    """Return what it costs until the reactor has nothing more to do, and the longest time that a
    signal would have waited.

    Both are CPU time, which a busy machine does not change much.
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
