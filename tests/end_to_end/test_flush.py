"""PID 1 stays until the kernel has delivered what the program has written: when PID 1 goes, its
network goes."""

from __future__ import annotations

import os
import shutil
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from gracewrap.linux import unsent_bytes
from processes import BOUND, Run, require, require_host_network, require_root, wait_until

SIZE = 2_000_000
# Of this run of the tests alone: another one may be under way on the same machine.
NET = f"10.{100 + os.getpid() // 256 % 100}.{os.getpid() % 256}"

# Writes 2 MB into the kernel's buffers, more than the client's window takes, and exits at once on
# SIGTERM.
SERVER = f"""
import os, signal, socket
signal.signal(signal.SIGTERM, lambda *_: os._exit(0))
listener = socket.create_server(("{NET}.1", 7007))
print("listening", flush=True)
client, _ = listener.accept()
client.setsockopt(socket.SOL_SOCKET, 32, {2 * SIZE})  # SO_SNDBUFFORCE
client.sendall(b"x" * {SIZE})
print("written", flush=True)
signal.pause()
"""


def ip(*words: str) -> None:
    subprocess.run(["ip", *words], check=True, timeout=BOUND)


@pytest.fixture
def network() -> Iterator[str]:
    """A network namespace with a veth to ours, as a container has; returns its name."""
    require_root()
    require(shutil.which("ip"), "ip(8), from iproute2")
    name, here, there = f"gw{os.getpid()}", f"gwa{os.getpid()}", f"gwb{os.getpid()}"
    ip("netns", "add", name)
    try:
        ip("link", "add", here, "type", "veth", "peer", "name", there, "netns", name)
        ip("addr", "add", f"{NET}.2/24", "dev", here)
        ip("link", "set", here, "up")
        ip("-n", name, "addr", "add", f"{NET}.1/24", "dev", there)
        ip("-n", name, "link", "set", there, "up")
        ip("-n", name, "link", "set", "lo", "up")
        yield name
    finally:
        subprocess.run(
            ["ip", "link", "del", here], stderr=subprocess.DEVNULL, timeout=BOUND, check=False
        )
        ip("netns", "del", name)


def received_after_teardown(network: str, flush: str) -> tuple[int, list[dict[str, object]]]:
    """Return how many bytes a client gets that begins to read once the server is gone, if the
    network goes with gracewrap."""
    prefix = ("ip", "netns", "exec", network, "unshare", "--pid", "--fork", "--mount-proc")
    run = Run("--flush-timeout", flush, "--", sys.executable, "-c", SERVER, prefix=prefix)
    client = socket.socket()
    client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 16_384)
    client.settimeout(2)
    try:
        assert run.line() == "listening"
        client.connect((f"{NET}.1", 7007))
        assert run.line() == "written"
        unshare = Path(f"/proc/{run.pid}/task/{run.pid}/children").read_text().split()
        os.kill(int(unshare[0]), signal.SIGTERM)
        log = [run.log_line("leader_exited")]
        if flush == "0s":
            assert run.wait() == 0
        count = 0
        while count < SIZE:
            if run.process.poll() is not None:
                subprocess.run(
                    ["ip", "link", "del", f"gwa{os.getpid()}"],
                    stderr=subprocess.DEVNULL,
                    timeout=BOUND,
                    check=False,
                )
            try:
                part = client.recv(65_536)
            except OSError:  # timed out: nothing comes any more
                break
            if not part:
                break
            count += len(part)
        assert run.wait() == 0
        return count, [*log, *run.log()]
    finally:
        client.close()
        run.close()


@pytest.mark.root
@pytest.mark.parametrize("own_network", [True, False])
def test_it_is_not_waited_for_on_a_network_that_stays(own_network):
    """On the host's, somebody else's connection would hold up each stop."""
    require_root()
    require_host_network()
    look = "from gracewrap.linux import unsent_bytes as u; print(u.network_may_go())"
    apart = ["unshare", "--pid", "--fork", "--mount-proc", *["--net"] * own_network]
    done = subprocess.run(
        [*apart, sys.executable, "-c", look], capture_output=True, text=True, timeout=BOUND
    )
    assert done.stdout == f"{own_network}\n"


@pytest.mark.root
def test_a_slow_reader_gets_all_of_it_before_the_network_goes(network):
    count, log = received_after_teardown(network, "20s")
    assert count == SIZE
    assert log[-1]["event"] == "summary"


@pytest.mark.root
def test_without_it_the_answer_is_cut(network):
    """What the other test would see if gracewrap did not wait: it can fail."""
    count, _ = received_after_teardown(network, "0s")
    assert count < SIZE


@pytest.mark.root
def test_a_reader_that_never_reads_holds_it_up_for_flush_timeout_only(network):
    prefix = ("ip", "netns", "exec", network, "unshare", "--pid", "--fork", "--mount-proc")
    run = Run("--flush-timeout", "300ms", "--", sys.executable, "-c", SERVER, prefix=prefix)
    client = socket.socket()
    client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 16_384)
    try:
        assert run.line() == "listening"
        client.connect((f"{NET}.1", 7007))
        assert run.line() == "written"
        os.kill(int(Path(f"/proc/{run.pid}/task/{run.pid}/children").read_text()), signal.SIGTERM)
        assert run.wait() == 0
        assert [line["event"] for line in run.log()][-2:] == ["unsent", "summary"]
    finally:
        client.close()
        run.close()


def unsent_on_loopback() -> socket.socket:
    """Close a connection whose peer does not read, and return the peer."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        peer = socket.socket()
        peer.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        peer.connect(listener.getsockname())
        served, _ = listener.accept()
    served.setblocking(False)
    try:
        while True:
            served.send(b"x" * 65_536)
    except BlockingIOError:
        served.close()
    return peer


@pytest.mark.parametrize("way", ["netlink", "proc"])
def test_counts_unsent_connections(monkeypatch, way):
    """sock_diag, and what stands in for it where it is refused (gVisor)."""
    if way == "proc":

        def refuse(family: int) -> int:
            raise OSError(93, "Protocol not supported")

        monkeypatch.setattr(unsent_bytes, "_by_netlink", refuse)

    def one_more_until_it_is_reset() -> bool:
        before = unsent_bytes.unsent_connections()
        with unsent_on_loopback():
            meanwhile = unsent_bytes.unsent_connections()
        return meanwhile == before + 1 and unsent_bytes.unsent_connections() == before

    # What else runs on the machine has such connections for moments, too.
    wait_until(one_more_until_it_is_reset, "one more, and then as many as before")


@pytest.mark.parametrize(
    ("inuse", "orphan", "inuse6", "ruled_out"),
    [(3, 0, 1, True), (0, 4, 0, True), (0, 4, 1, False), (1, 4, 0, False), (None, 0, 0, False)],
)
def test_the_counts_of_the_kernel_rule_it_out(monkeypatch, inuse, orphan, inuse6, ruled_out):
    """Then nothing walks the table of all connections, which takes ten milliseconds."""
    files = {
        "/proc/net/sockstat": f"sockets: used 9\nTCP: inuse {inuse} orphan {orphan} tw 81\n",
        "/proc/net/sockstat6": f"TCP6: inuse {inuse6}\nUDP6: inuse 0\n",
    }
    if inuse is None:  # gVisor
        files.clear()
    monkeypatch.setattr(unsent_bytes, "read_file", lambda path: files.get(path, "").encode())
    assert unsent_bytes.is_ruled_out() == ruled_out


def test_the_kernel_counts_an_orphan():
    with unsent_on_loopback():
        assert not unsent_bytes.is_ruled_out()


def test_both_ways_agree():
    def agree() -> bool:  # others come and go between the two
        families = sum(unsent_bytes._by_netlink(family) for family in (2, 10))
        tables = sum(unsent_bytes._by_proc(f"/proc/net/{table}") for table in ("tcp", "tcp6"))
        return families == tables > 0

    with unsent_on_loopback():
        wait_until(agree, "they agree")
