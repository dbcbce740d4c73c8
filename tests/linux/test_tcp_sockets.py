"""What the kernel says about sockets, read from real sockets, and from whatever else a netlink
buffer may hold."""

from __future__ import annotations

import contextlib
import os
import socket
import struct
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gracewrap.linux import tcp_sockets
from processes import wait_until

INFO = (
    bytes(44)
    + struct.pack("=I", 111)
    + bytes(4)
    + struct.pack("=I", 222)
    + bytes(72)
    + struct.pack("=Q", 7)
    + bytes(20)
)
INFO += struct.pack("=I", 3) + bytes(120)


def refuse() -> socket.socket:
    raise OSError(93, "Protocol not supported")


def attribute(kind: int, payload: bytes) -> bytes:
    return struct.pack("=HH", 4 + len(payload), kind) + payload + bytes(-len(payload) % 4)


def message(kind: int = 18, body: bytes = b"", flags: int = 2, length: int | None = None) -> bytes:
    length = 16 + len(body) if length is None else length
    return struct.pack("=IHHII", length, kind, flags, 1, 0) + body + bytes(-len(body) % 4)


def a_socket(info: bytes | None = INFO, port: int = 8080, state: int = 1) -> bytes:
    """One inet_diag_msg of a connection with 5 unread and 6 unsent bytes."""
    head = struct.pack("=BBBB", 2, state, 0, 0) + struct.pack(">HH", port, 40_000) + bytes(44)
    head += struct.pack("=IIIII", 0, 5, 6, 1000, 77)
    attributes = attribute(8, b"\0") + attribute(15, b"\0") + attribute(21, struct.pack("=Q", 4242))
    return head + attributes + (attribute(2, info) if info is not None else b"")


DONE = message(3, struct.pack("=i", 0))


@contextlib.contextmanager
def connected(host: str = "127.0.0.1", family: int = socket.AF_INET):
    """A listener, a client and the server's end of its connection."""
    with (
        socket.create_server((host, 0), family=family) as listener,
        socket.socket(family) as client,
    ):
        client.connect(listener.getsockname()[:2])
        served, _ = listener.accept()
        with served:
            yield listener, client, served


def connections(
    port: int, states: frozenset[int] = tcp_sockets.CONNECTED
) -> list[tcp_sockets.Connection]:
    return [row for rows in tcp_sockets.dump(tcp_sockets.connection, states, port) for row in rows]


def port_of(one: socket.socket) -> int:
    return int(one.getsockname()[1])


def inode(one: socket.socket) -> int:
    return os.fstat(one.fileno()).st_ino


@pytest.mark.parametrize(
    ("host", "family"), [("127.0.0.1", socket.AF_INET), ("::1", socket.AF_INET6)]
)
def test_only_the_server_s_end_of_a_connection_is_told(host, family):
    with connected(host, family) as (listener, client, served):
        client.sendall(b"hello")
        wait_until(lambda: connections(port_of(listener))[0][3] == 5, "it has come")
        (row,) = connections(port_of(listener))
        assert row[:6] == (
            int(family),
            tcp_sockets.ESTABLISHED,
            port_of(listener),
            5,
            0,
            inode(served),
        )
        assert row[6] is not None and row[6][2:] == (5, 0, 1)
        served.recv(5)
        served.sendall(b"answer")
        wait_until(lambda: connections(port_of(listener))[0][4] == 0, "it is acknowledged")
        (row,) = connections(port_of(listener))
        assert row[3] == 0 and row[6] is not None and row[6][2:] == (5, 1, 1)


@pytest.mark.parametrize("size", [0, 5, 4_000_000])
def test_who_has_opened_a_connection_is_told(size):
    """Also with bytes on their way: the kernel counts the SYN that was sent."""
    with connected() as (listener, client, served):
        for end in (client, served):
            end.setblocking(False)
            with contextlib.suppress(BlockingIOError):
                end.send(bytes(size))
        opened = {
            row[1]: row[8]
            for rows in tcp_sockets.dump(tcp_sockets.whole, tcp_sockets.CONNECTED)
            for row in rows
            if port_of(listener) in (row[3][1], row[4][1])
        }
        assert opened == {inode(client): True, inode(served): False}


def test_a_connection_over_ipv4_to_a_dual_stack_socket_is_told_as_one_of_ipv6():
    with (
        socket.create_server(("::", 0), family=socket.AF_INET6, dualstack_ipv6=True) as listener,
        socket.create_connection(("127.0.0.1", port_of(listener))),
    ):
        assert [row[0] for row in connections(port_of(listener))] == [socket.AF_INET6]


@pytest.mark.parametrize("connect", [tcp_sockets.connect, refuse])
def test_listeners_are_found_by_either_way(connect):
    with contextlib.ExitStack() as stack:
        four = stack.enter_context(socket.create_server(("127.0.0.1", 0)))
        six = stack.enter_context(socket.create_server(("::1", 0), family=socket.AF_INET6))
        stack.enter_context(connected())  # its connections are not listeners
        found = {one.inode: one.port for rows in tcp_sockets.listeners(connect) for one in rows}
        assert found[inode(four)] == port_of(four) and found[inode(six)] == port_of(six)
        assert all(port for port in found.values())


def test_netlink_and_proc_agree():
    with connected() as (listener, client, served):
        client.sendall(b"hello")
        port = port_of(listener)
        wait_until(lambda: connections(port)[0][3] == 5, "it has come")
        lines = [line for lines in tcp_sockets.table(ports={port}) for line in lines]
        assert {line[1] for line in lines} == {tcp_sockets.LISTEN, tcp_sockets.ESTABLISHED}
        assert [line[:6] for line in lines if line[1] == tcp_sockets.ESTABLISHED] == [
            row[:6] for row in connections(port)
        ]
        everything = [line for lines in tcp_sockets.table() for line in lines]
        assert set(lines) <= set(everything) and any(
            line[2] == port_of(client) for line in everything
        )
        assert inode(served) in {line[5] for line in lines}


def test_the_pingpong_bit_is_read_from_where_the_kernel_writes_it():
    with connected() as (listener, client, served):
        for _ in range(5):
            client.sendall(b"?")
            served.recv(1)
            served.sendall(b"!")
            client.recv(1)

        def bit() -> list[bool]:
            found = (
                line
                for lines in tcp_sockets.table((tcp_sockets.AF_INET,), {port_of(listener)})
                for line in lines
            )
            return [line[6] for line in found if line[5] == inode(served)]

        assert bit() == [True]
        client.sendall(b"?")
        served.recv(1)
        wait_until(lambda: bit() == [False], "what is not answered is acknowledged at last")


def test_a_dump_comes_in_parts_and_leaves_no_descriptor():
    with (
        socket.create_server(("127.0.0.1", 0), backlog=300) as listener,
        contextlib.ExitStack() as stack,
    ):
        for _ in range(300):
            stack.enter_context(socket.create_connection(listener.getsockname()))
        before = os.listdir("/proc/self/fd")
        parts = list(
            tcp_sockets.dump(tcp_sockets.connection, tcp_sockets.CONNECTED, port_of(listener))
        )
        assert sum(map(len, parts)) == 300 and len(parts) >= 4
        half = tcp_sockets.dump(tcp_sockets.connection, tcp_sockets.CONNECTED, port_of(listener))
        next(half)
        half.close()
        assert os.listdir("/proc/self/fd") == before


def test_a_refusal_is_told_with_its_reason():
    with pytest.raises(tcp_sockets.Refused, match="Protocol not supported"):
        next(tcp_sockets.dump(tcp_sockets.connection, tcp_sockets.CONNECTED, 1, refuse))


@pytest.mark.parametrize(
    "sent", [b"", b"x", message(2, struct.pack("=i", -2)), message(18, a_socket()) + b"trailing"]
)
def test_a_kernel_that_says_nonsense_or_nothing_is_refused(sent):
    """An unconnected end of a pair of sockets stands for it; it takes the request, and has an
    answer or none."""
    kernel, ours = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    ours.setblocking(False)
    with kernel:
        if sent:
            kernel.send(sent)
        with pytest.raises(tcp_sockets.Refused):
            list(tcp_sockets.dump(tcp_sockets.connection, tcp_sockets.CONNECTED, 0, lambda: ours))
        assert ours.fileno() == -1


def test_parse():
    rows, done = tcp_sockets.parse(message(18, a_socket()) * 2, tcp_sockets.connection)
    assert rows == [(2, 1, 8080, 5, 6, 77, (111, 222, 7, 3, 0), 40_000)] * 2 and not done
    assert tcp_sockets.parse(DONE, tcp_sockets.connection) == ([], True)
    assert tcp_sockets.parse(message(1) + DONE, tcp_sockets.connection) == ([], True)
    assert tcp_sockets.parse(message(18, a_socket()), tcp_sockets.listener) == (
        [tcp_sockets.Listener(8080, 77, 4242)],
        False,
    )


@pytest.mark.parametrize(
    ("info", "told"),
    [
        (None, None),
        (b"", None),
        (INFO[:104], None),
        (INFO[:136], (111, 222, 7, -1, -1)),
        (INFO[:160], (111, 222, 7, 3, 0)),
    ],
)
def test_older_kernels_tell_less(info, told):
    rows, _ = tcp_sockets.parse(message(18, a_socket(info)), tcp_sockets.connection)
    assert rows[0][6] == told


@pytest.mark.parametrize(
    ("answer", "why"),
    [
        (b"", "no sense"),
        (message(2, struct.pack("=i", -2)), "No such file"),
        (message(2, struct.pack("=i", 0)), "no sense"),
        (message(3, struct.pack("=i", -12)), "annot allocate"),
        (message(99, bytes(80)), "no sense"),
        (message(18, a_socket(), flags=0x12), "changed"),
        (message(18, bytes(40)), "no sense"),
        (message(20, bytes(16)), "no sense"),  # of AF_UNIX, which was not asked for
        (message(18, a_socket(), length=5), "no sense"),
        (message(18, a_socket(), length=5000), "no sense"),
        (message(18, a_socket() + struct.pack("=HH", 900, 99))[:-4], "no sense"),
        (DONE[:10], "no sense"),
    ],
)
def test_what_cannot_be_used_is_refused(answer, why):
    with pytest.raises(tcp_sockets.Refused, match=why):
        tcp_sockets.parse(answer, tcp_sockets.connection)


def test_no_cut_of_a_real_looking_answer_raises_anything_else():
    answer = message(18, a_socket()) + message(18, a_socket(None)) + DONE
    for length in range(len(answer)):
        with contextlib.suppress(tcp_sockets.Refused):
            tcp_sockets.parse(answer[:length], tcp_sockets.connection)


bodies = st.one_of(
    st.binary(max_size=200),
    st.builds(a_socket, st.none() | st.binary(max_size=300), st.integers(0, 65_535)),
)
messages = st.builds(
    message,
    st.sampled_from([0, 1, 2, 3, 18, 20, 21]),
    bodies,
    st.sampled_from([0, 2, 0x10]),
    st.none() | st.integers(0, 2**32 - 1),
)


@given(
    st.one_of(st.binary(max_size=500), st.lists(messages, max_size=4).map(b"".join)),
    st.integers(0, 10),
)
def test_no_buffer_crashes_the_parser(answer, cut):
    for one in (tcp_sockets.connection, tcp_sockets.listener):
        with contextlib.suppress(tcp_sockets.Refused):
            rows, _ = tcp_sockets.parse(answer[: len(answer) - cut], one)
            assert len(rows) <= len(answer) / 88


PROC_LINE = (
    b"   0: 0100007F:1F90 0100007F:D431 01 00000006:00000005 02:000004D3 00000000  1000        0 "
    b"77 2 "
    b"0000000000000000 20 4 31 10 -1"
)


def test_parse_lines():
    assert tcp_sockets.parse_lines(PROC_LINE, 2) == [(2, 1, 8080, 5, 6, 77, True, 54321)]
    assert tcp_sockets.parse_lines(PROC_LINE.replace(b" 31 ", b" 30 "), 2) == [
        (2, 1, 8080, 5, 6, 77, False, 54321)
    ]
    assert tcp_sockets.parse_lines(PROC_LINE, 2, {8080}) and not tcp_sockets.parse_lines(
        PROC_LINE, 2, {80}
    )
    assert tcp_sockets.parse_lines(PROC_LINE.replace(b" 01 ", b" 06 "), 2) == []  # TIME_WAIT
    header = Path("/proc/net/tcp").read_bytes().split(b"\n", maxsplit=1)[0]
    assert tcp_sockets.parse_lines(header + b"\n" + PROC_LINE, 2) == [
        (2, 1, 8080, 5, 6, 77, True, 54321)
    ]


@given(
    st.binary(max_size=300)
    | st.lists(st.sampled_from([*PROC_LINE.split(), b"\n", b":", b"-1"])).map(b" ".join)
)
def test_no_line_crashes_the_parser(text):
    for family in (2, 10):
        tcp_sockets.parse_lines(text, family)
        tcp_sockets.parse_lines(text, family, {8080})
