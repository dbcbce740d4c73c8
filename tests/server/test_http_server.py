"""Tests of the HTTP server: real sockets, real clients, and malicious ones."""

from __future__ import annotations

import contextlib
import errno
import http.client
import json
import os
import shutil
import socket
import stat
import subprocess
import sys
import threading
import time
import tracemalloc
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from gracewrap.config.probe_specs import Address
from gracewrap.server import control_socket, http_server, listen
from processes import BOUND, OTHER_USER, SUPPORT, Lines, environment, require_other_user
from reactor_driver import driving
from server_under_test import FakeBackend, ServerUnderTest, receive_all

PAGES = ["/livez", "/health/live", "/readyz", "/health/ready", "/metrics", "/status"]
GET = b"GET /livez HTTP/1.1\r\nHost: x\r\n\r\n"


@contextlib.contextmanager
def served(
    address: Address | None = None, control: bool = False, mode: int = 0o600
) -> Iterator[ServerUnderTest]:
    with driving() as driver:
        one = ServerUnderTest(driver, address or Address("127.0.0.1"), control, mode)
        try:
            yield one
        finally:
            one.server.close()
            assert not one.server.connections
            driver.reactor.run(time.monotonic())
            driver.until(lambda: not driver.reactor.busy)  # nothing is left behind


@pytest.fixture
def tcp() -> Iterator[ServerUnderTest]:
    with served() as one:
        yield one


@pytest.fixture
def control(tmp_path: Path) -> Iterator[ServerUnderTest]:
    with served(Address(path=str(tmp_path / "control.sock")), control=True) as one:
        yield one


def status(answer: bytes) -> int:
    """Return the status of the first response in *answer*."""
    version, number, _ = answer.split(b"\r\n")[0].split(b" ", 2)
    assert version == b"HTTP/1.1"
    return int(number)


def headers(answer: bytes) -> dict[str, str]:
    lines = answer.partition(b"\r\n\r\n")[0].decode().split("\r\n")[1:]
    return {name.lower(): value for name, _, value in (line.partition(": ") for line in lines)}


def body(answer: bytes) -> bytes:
    return answer.partition(b"\r\n\r\n")[2]


# Responses.


def test_pages_over_one_connection(tcp):
    def client():
        connection = http.client.HTTPConnection("127.0.0.1", tcp.port, timeout=BOUND)
        answers = []
        for page in PAGES:
            connection.request("GET", page)
            ours = connection.sock.getsockname()
            answer = connection.getresponse()
            answers.append((answer.status, dict(answer.headers), answer.read(), ours))
        connection.close()
        return answers

    answers = tcp.during(client)
    assert len({ours for *_, ours in answers}) == 1
    for page, (code, fields, content, _) in zip(PAGES, answers, strict=True):
        assert code == 200 and fields["Cache-Control"] == "no-store" and "Connection" not in fields
        if page == "/metrics":
            assert (
                fields["Content-Type"] == "text/plain; version=0.0.4; charset=utf-8"
                and content == b"# nothing\n"
            )
        else:
            assert fields["Content-Type"] == "application/json" and content.endswith(b"}\n")
    assert json.loads(answers[0][2]) == {"live": True}
    assert json.loads(answers[2][2]) == {"ready": True}
    assert json.loads(answers[5][2])["programs"] == [{"name": "caf\u00e9"}]
    tcp.driver.until(lambda: not tcp.server.connections)  # the client has closed


def test_not_ready_is_503_with_the_reason_and_still_live(tcp):
    tcp.backend.ready = False, {"reason": "stopping", "seconds_left": 12.5}
    answer = tcp.exchange(b"GET /readyz HTTP/1.0\r\n\r\n")
    assert status(answer) == 503
    assert json.loads(body(answer)) == {"ready": False, "reason": "stopping", "seconds_left": 12.5}
    assert "retry-after" not in headers(answer)
    assert status(tcp.exchange(b"GET /health/live HTTP/1.0\r\n\r\n")) == 200


def test_not_live_is_503_with_the_reason(tcp):
    tcp.backend.live = False, {"why": "no answer within 2 s"}
    answer = tcp.exchange(b"GET /livez HTTP/1.0\r\n\r\n")
    assert status(answer) == 503
    assert json.loads(body(answer)) == {"live": False, "why": "no answer within 2 s"}


@pytest.mark.parametrize("page", [*PAGES, "/nowhere"])
def test_head_has_the_headers_of_get_and_no_body(tcp, page):
    get, head = (
        tcp.exchange(b"%s %s HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n" % (m, page.encode()))
        for m in (b"GET", b"HEAD")
    )
    assert body(get) and body(head) == b""
    of_get, of_head = headers(get), headers(head)
    assert of_get.pop("date").endswith(" GMT") and of_head.pop("date").endswith(" GMT")
    assert of_get == of_head and int(of_get["content-length"]) == len(body(get))
    assert status(get) == status(head)


@pytest.mark.parametrize(
    ("request_line", "closes"),
    [
        (b"GET /livez HTTP/1.1\r\nHost: x\r\n\r\n", False),
        (b"HEAD /livez HTTP/1.1\r\nHost: x\r\n\r\n", False),
        (b"GET /nowhere HTTP/1.1\r\nHost: x\r\n\r\n", False),
        (b"GET /livez HTTP/1.1\r\nHost: x\r\nContent-Length: 0\r\n\r\n", False),
        (b"GET /livez HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n", True),
        (b"GET /livez HTTP/1.0\r\n\r\n", True),
        (b"GET /livez HTTP/1.0\r\nConnection: keep-alive\r\n\r\n", True),
    ],
)
def test_keep_alive(tcp, request_line, closes):
    def client():
        with tcp.connect() as sock:
            sock.sendall(request_line)
            first = sock.recv(65536)
            if closes:
                return first, sock.recv(65536)
            sock.sendall(GET)
            return first, sock.recv(65536)

    first, second = tcp.during(client)
    assert (headers(first).get("connection") == "close") == closes
    assert second == b"" if closes else status(second) == 200


@pytest.mark.parametrize("count", [2, 300])
def test_pipelined_requests_are_answered_in_order(tcp, count):
    asked = [PAGES[number % 2 and 5] for number in range(count)]
    line = b"".join(b"GET %s HTTP/1.1\r\nHost:\r\n\r\n" % page.encode() for page in asked)
    answers = tcp.exchange(line + b"GET /nowhere HTTP/1.0\r\n\r\n")
    assert answers.count(b"HTTP/1.1 200 OK\r\n") == count and answers.count(b"HTTP/1.1 404 ") == 1
    assert [b'"live"' in part for part in answers.split(b"HTTP/1.1 200 OK\r\n")[1:]] == [
        page == "/livez" for page in asked
    ]


def test_a_request_in_pieces(tcp):
    def client():
        with tcp.connect() as sock:
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            for at in range(len(GET)):
                sock.sendall(GET[at : at + 1])
            return sock.recv(65536)

    assert status(tcp.during(client)) == 200


def test_a_half_closed_connection_is_answered(tcp):
    assert status(tcp.exchange(GET, end=True)) == 200


@pytest.mark.parametrize(
    ("target", "code"),
    [
        ("/livez?verbose=1&exclude=etcd", 200),
        ("http://example.org/livez", 200),
        ("http://example.org:80/livez?x", 200),
        ("http://example.org", 404),
        ("http://example.org?/livez", 404),
        ("/", 404),
        ("/livez/", 404),
        ("/%6Civez", 404),
        ("//livez", 404),
        ("/drain", 404),
        ("*", 404),
    ],
)
def test_targets(tcp, target, code):
    answer = tcp.exchange(f"GET {target} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n".encode())
    assert status(answer) == code
    if code == 404:
        assert headers(answer)["content-type"].startswith("text/plain")
        assert all(
            page in body(answer).decode().splitlines() for page in PAGES
        ) and b"POST" not in body(answer)


@pytest.mark.parametrize("method", ["POST", "PUT", "DELETE", "OPTIONS", "TRACE", "CONNECT", "BREW"])
@pytest.mark.parametrize(
    "more", ["", "Content-Length: 5\r\n", "Content-Length: 5\r\nExpect: 100-continue\r\n"]
)
def test_only_get_and_head_on_tcp(tcp, method, more):
    answer = tcp.exchange(
        f"{method} /stop HTTP/1.1\r\nHost: x\r\n{more}\r\n".encode(),
        b"hello" if more else b"",
        end=True,
    )
    assert status(answer) == 405 and headers(answer)["allow"] == "GET, HEAD"
    assert tcp.backend.actions == []


@pytest.mark.parametrize(
    ("line", "code"),
    [
        (b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03", 400),  # https
        (b"GET /livez\r\n\r\n", 400),
        (b"GET /livez HTTP/1.1\r\n\r\n", 400),  # no Host
        (b"GET /a b HTTP/1.1\r\nHost: x\r\n\r\n", 400),
        (b"GET /livez HTTP/1.1\r\nHost: x\r\nContent-Length: -1\r\n\r\n", 400),
        (b"GET /livez HTTP/1.1\r\nHost: x\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\n", 400),
        (b"GET /livez HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: gzip\r\n\r\n", 501),
        (b"GET /livez HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n", 413),
        (b"GET /livez HTTP/1.1\r\nHost: x\r\nContent-Length: 1\r\n\r\nx", 413),
        (
            b"GET /livez HTTP/1.1\r\nHost: x\r\nContent-Length: 99999999999999999999\r\nExpect: "
            b"100-continue\r\n\r\n",
            413,
        ),
        (b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", 505),
        (b"GET /livez HTTP/1.1\r\nHost: x\r\n" + b"X: y\r\n" * 99 + b"\r\n", 200),
        (b"GET /livez HTTP/1.1\r\nHost: x\r\n" + b"X: y\r\n" * 100 + b"\r\n", 431),
        (b"GET /livez HTTP/1.1\r\nHost: x\r\nX: " + b"y" * 8149 + b"\r\n\r\n", 200),
        (b"GET /livez HTTP/1.1\r\nHost: x\r\nX: " + b"y" * 8160 + b"\r\n\r\n", 431),
        (b"GET /" + b"y" * 100_000, 431),
        (
            b"GET /livez HTTP/1.1\r\nHost: x\r\nUpgrade: h2c\r\nConnection: Upgrade, "
            b"HTTP2-Settings\r\n\r\n",
            200,
        ),
    ],
)
def test_limits_and_invalid_requests(tcp, line, code):
    """The response arrives although the request is not read to its end."""
    assert status(tcp.exchange(line, end=True)) == code


def test_endless_headers_are_not_buffered(tcp):
    def client():
        with tcp.connect() as sock:
            with contextlib.suppress(ConnectionError):
                for _ in range(1000):
                    sock.sendall(b"X: " + b"y" * 10_000 + b"\r\n")
            return receive_all(sock)

    tcp.during(client)
    tcp.driver.until(lambda: not tcp.server.connections)


@pytest.mark.parametrize("page", ["/readyz", "/metrics", "/status"])
def test_an_exception_of_the_backend_is_logged_and_answered_with_500(tcp, page, monkeypatch):
    monkeypatch.setattr(
        FakeBackend,
        {"/readyz": "is_ready", "/metrics": "metrics", "/status": "status"}[page],
        lambda *_: 1 // 0,
    )
    answer = tcp.exchange(b"GET %s HTTP/1.0\r\n\r\n" % page.encode())
    assert status(answer) == 500 and b"Traceback" not in answer
    tcp.driver.until(lambda: tcp.driver.faults)
    assert [type(fault) for fault in tcp.driver.faults] == [ZeroDivisionError]
    tcp.driver.faults.clear()
    assert status(tcp.exchange(b"GET /livez HTTP/1.0\r\n\r\n")) == 200


def test_curl(tcp, control):
    if not shutil.which("curl"):
        pytest.skip("needs curl")
    url = f"http://127.0.0.1:{tcp.port}"
    # curl prints the status and the number of new connections.
    argv = [
        "curl",
        "-sS",
        "-m",
        "20",
        "-w",
        "%{http_code} %{num_connects}\n",
        "-o",
        "/dev/null",
        "-o",
        "/dev/null",
    ]
    done = tcp.during(
        lambda: subprocess.run(
            [*argv, f"{url}/livez", f"{url}/metrics"], capture_output=True, text=True
        )
    )
    assert (done.stdout, done.stderr) == ("200 1\n200 0\n", "")
    argv = [
        "curl",
        "-sS",
        "-m",
        "20",
        "--unix-socket",
        control.address,
        "-d",
        "hello",
        "-H",
        "Expect: 100-continue",
        "http://x/drain?a=b",
    ]
    done = control.during(lambda: subprocess.run(argv, capture_output=True, text=True))
    assert (done.stdout, done.stderr) == ('{"done": "drain"}\n', "")


# Limits.


def test_idle_without_connections(tcp):
    tcp.driver.until(lambda: tcp.driver.reactor.due(0.0) is None)
    assert status(tcp.exchange(b"GET /livez HTTP/1.0\r\n\r\n")) == 200
    tcp.driver.until(lambda: tcp.driver.reactor.due(0.0) is None)
    assert not tcp.driver.reactor.busy


def test_an_idle_connection_costs_one_timer(tcp):
    with tcp.connect():
        tcp.driver.until(lambda: tcp.server.connections)
        now = time.monotonic()
        tcp.driver.until(
            lambda: (tcp.driver.reactor.due(now) or 0) > now + http_server.IDLE_TIMEOUT - 5
        )
        (connection,) = tcp.server.connections.values()
        assert connection._parser is None  # created at the first byte


def test_an_idle_connection_is_closed(tcp, monkeypatch):
    monkeypatch.setattr(http_server, "IDLE_TIMEOUT", 0.05)
    assert tcp.exchange() == b""
    with tcp.connect() as sock:
        sock.sendall(GET)
        # Closed after the response, despite keep-alive.
        assert status(tcp.during(lambda: receive_all(sock))) == 200


def test_a_request_that_takes_too_long_is_408(tcp, monkeypatch):
    monkeypatch.setattr(http_server, "REQUEST_TIMEOUT", 0.05)
    assert status(tcp.exchange(b"GET /livez HTT")) == 408


def test_a_slow_reader_is_disconnected(tcp, monkeypatch):
    monkeypatch.setattr(http_server, "SEND_TIMEOUT", 0.2)
    tcp.backend.text = "#" * (8 << 20)
    with tcp.connect() as sock:
        sock.sendall(b"GET /metrics HTTP/1.1\r\nHost: x\r\n\r\n" * 3)
        tcp.driver.until(lambda: any(one._out for one in tcp.server.connections.values()))
        assert status(tcp.exchange(b"GET /livez HTTP/1.0\r\n\r\n")) == 200
        tcp.driver.until(lambda: not tcp.server.connections)
        got = receive_all(sock)
    assert 0 < len(got) < 8 << 20


def test_a_big_answer_arrives_whole(tcp):
    tcp.backend.text = "#" * (8 << 20)
    answer = tcp.exchange(b"GET /metrics HTTP/1.0\r\n\r\n")
    assert len(body(answer)) == 8 << 20


@pytest.mark.parametrize("expected", [b"", b"GET /li", GET])
def test_a_thousand_connections_cost_little_and_block_no_client(tcp, expected):
    tracemalloc.start()
    try:
        held = []
        before, _ = tracemalloc.get_traced_memory()
        for _ in range(1000):
            sock = socket.socket()
            sock.setblocking(False)
            sock.connect_ex(tcp.address)
            held.append(sock)
            if len(held) % 50 == 0:
                tcp.driver.until(tcp.settled)
                for one in held[-50:]:
                    with contextlib.suppress(OSError):
                        one.send(expected)
            assert len(tcp.server.connections) <= http_server.MAX_CONNECTIONS
        tcp.driver.until(
            lambda: (
                len(tcp.server.connections) == http_server.MAX_CONNECTIONS and not tcp.server._queue
            )
        )
        assert status(tcp.exchange(b"GET /readyz HTTP/1.0\r\n\r\n")) == 200
        cost = tracemalloc.get_traced_memory()[0] - before
        for sock in held:
            sock.close()
    finally:
        tracemalloc.stop()
    assert cost < 2 << 20  # including the thousand client sockets of the test
    tcp.driver.until(lambda: not tcp.server.connections)


def test_a_flood_of_new_connections_cannot_evict_an_unanswered_request(tcp):
    """A batch larger than the limit: each request is answered before its connection is closed."""
    held = [tcp.connect() for _ in range(100)]
    for sock in held:
        sock.sendall(GET)
    tcp.driver.until(tcp.settled)
    answers = [sock.recv(65536) for sock in held]
    assert [status(answer) for answer in answers] == [200] * 100
    for sock in held:
        sock.close()
    tcp.driver.until(lambda: not tcp.server.connections)


def test_a_regular_client_outlives_idle_ones(tcp):
    """The kubelet's connection is kept, those of a slowloris attack are closed."""
    with tcp.connect() as regular, contextlib.ExitStack() as stack:
        for _ in range(3):
            for _ in range(http_server.MAX_CONNECTIONS - 10):
                stack.enter_context(tcp.connect()).sendall(b"G")
            tcp.driver.until(tcp.settled)
            regular.sendall(GET)
            assert status(tcp.during(lambda: regular.recv(65536))) == 200


def test_garbage_in_any_pieces_is_answered_or_closed(control):
    word = st.sampled_from(
        [
            b"GET",
            b"POST",
            b" ",
            b"/livez",
            b"/stop?x=%",
            b"HTTP/1.1",
            b"\r\n",
            b"\n",
            b"Host: x",
            b"\r\n\r\n",
            b"0",
        ]
    )
    more = st.sampled_from(
        [
            b"Content-Length: 5\r\n",
            b"Transfer-Encoding: chunked\r\n",
            b"Expect: 100-continue\r\n",
            b"\0",
            b"\t",
        ]
    )
    piece = st.one_of(
        word, more, st.just(GET), st.just(GET[:-2]), st.binary(max_size=40), st.just(b"A" * 5000)
    )

    @settings(max_examples=200, deadline=None, suppress_health_check=list(HealthCheck))
    @given(st.lists(piece, max_size=12), st.lists(st.integers(1, 60), max_size=20))
    def sends(pieces, sizes):
        left = b"".join(pieces)
        with control.connect() as sock:
            sock.setblocking(False)
            with contextlib.suppress(BrokenPipeError, ConnectionResetError):
                while left:
                    left = left[sock.send(left[: sizes.pop() if sizes else None]) :]
                    control.driver.reactor.notify_ready()
                    control.driver.reactor.run(time.monotonic())
                sock.shutdown(socket.SHUT_WR)
            control.driver.until(lambda: control.settled() and not control.server.connections)
            answer = receive_all(sock)
        assert answer == b"" or answer.startswith(b"HTTP/1.1 ")
        assert not control.driver.faults

    sends()


NO_DESCRIPTORS = """
import os, resource, sys, time
from reactor_driver import driving
from server_under_test import Address, ServerUnderTest

spare, want = sys.argv[1] == "spare", int(sys.argv[2])
resource.setrlimit(resource.RLIMIT_NOFILE, (64, 64))
with driving() as driver:
    served = ServerUnderTest(driver, Address("127.0.0.1"), False, 0o600)
    if not spare:
        os.close(served.server._spare)
        served.server._spare = None
    taken = []
    try:
        while True:
            taken.append(os.open("/dev/null", os.O_RDONLY))
    except OSError:
        pass
    print(served.port, flush=True)
    if not spare:
        driver.until(lambda: driver.faults)
        assert driver.faults[0].errno == 24, driver.faults
        driver.faults.clear()
        rounds, end = driver.rounds, time.monotonic() + 0.3
        driver.until(lambda: time.monotonic() > end)
        print("pause", driver.rounds - rounds, flush=True)
        os.close(taken.pop())
    asked = []
    served.backend.status = lambda _: asked.append(1) or (200, {})
    driver.until(lambda: len(asked) == want)
    served.server.close()
print("done", flush=True)
"""


@contextlib.contextmanager
def without_descriptors(*args: object) -> Iterator[tuple[Lines, int]]:
    """A server in a process without free file descriptors, and its port."""
    path = os.pathsep.join([str(SUPPORT), str(Path(http_server.__file__).parents[2])])
    argv = [sys.executable, "-c", NO_DESCRIPTORS, *map(str, args)]
    with subprocess.Popen(
        argv, stdout=subprocess.PIPE, env=environment(PYTHONPATH=path)
    ) as process:
        try:
            assert process.stdout is not None
            lines = Lines(process.stdout.fileno())
            yield lines, int(lines.next())
            assert lines.next() == "done"
            assert process.wait(BOUND) == 0
        finally:
            process.kill()


def get_status(port: int) -> int:
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=BOUND)
    connection.request("GET", "/status", headers={"Connection": "close"})
    answer = connection.getresponse()
    answer.read()
    connection.close()
    return answer.status


def test_without_descriptors_one_connection_at_a_time_is_served():
    with without_descriptors("spare", 5) as (_, port), contextlib.ExitStack() as stack:
        for _ in range(5):
            # A client that keeps its connection.
            stack.enter_context(socket.create_connection(("127.0.0.1", port))).send(b"GE")
            assert get_status(port) == 200


def test_without_a_spare_descriptor_it_pauses_and_goes_on():
    with without_descriptors("none", 1) as (lines, port):
        answers: list[int] = []
        thread = threading.Thread(target=lambda: answers.append(get_status(port)))
        thread.start()
        word, rounds = lines.next().split()
        # The driver runs a round every 10 ms; a busy loop would run thousands.
        assert word == "pause" and int(rounds) < 100
        thread.join(BOUND)
        assert answers == [200]


# Listening sockets.


def test_listens_on_both_families_without_a_host():
    with served(Address("")) as one:
        for host in ("127.0.0.1", "::1"):
            sock = one.during(lambda host=host: socket.create_connection((host, one.port), BOUND))
            with sock:
                sock.sendall(GET)
                assert status(one.during(lambda sock=sock: sock.recv(65536))) == 200


def test_listens_on_ipv6_alone():
    with served(Address("::1")) as one:
        with pytest.raises(ConnectionRefusedError):
            socket.create_connection(("127.0.0.1", one.port), BOUND)
        with one.during(lambda: socket.create_connection(("::1", one.port), BOUND)) as sock:
            sock.sendall(GET)
            assert status(one.during(lambda: sock.recv(65536))) == 200


@pytest.mark.parametrize("host", ["127.0.0.1", "::1", ""])
def test_a_port_in_use(host):
    with served(Address(host)) as one, pytest.raises(OSError) as raised:
        listen.bind(Address(host, one.port))
    assert raised.value.errno == errno.EADDRINUSE


def test_a_port_can_be_used_again_at_once():
    with served() as one:
        port = one.port
        # The server closes first, so the port is in TIME_WAIT.
        assert status(one.exchange(b"GET /livez HTTP/1.0\r\n\r\n")) == 200
    os.close(listen.bind(Address("127.0.0.1", port)))


def test_an_address_that_is_not_ours():
    with pytest.raises(OSError) as raised:
        listen.bind(Address("192.0.2.1", 0))
    assert raised.value.errno == errno.EADDRNOTAVAIL


@pytest.mark.parametrize("address", [Address("127.0.0.1"), Address(""), Address(path="sock")])
def test_listening_sockets_are_closed_on_exec(address, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    fd = listen.bind(address)
    assert not os.get_inheritable(fd)
    os.close(fd)


@pytest.mark.parametrize("mode", [0o600, 0o660])
def test_the_umask_does_not_change_the_mode_of_a_unix_socket(tmp_path, mode):
    for mask in (0o000, 0o077, 0o777):
        before = os.umask(mask)
        try:
            path = tmp_path / f"{mask:o}.sock"
            os.close(listen.bind(Address(path=str(path)), mode))
            assert os.umask(mask) == mask
        finally:
            os.umask(before)
        assert stat.S_IMODE(path.stat().st_mode) == mode


def test_a_stale_unix_socket_is_replaced_and_one_in_use_is_not(tmp_path):
    address = Address(path=str(tmp_path / "sock"))
    os.close(listen.bind(address))
    assert stat.S_ISSOCK(os.stat(address.path).st_mode)  # stale
    fd = listen.bind(address)
    with pytest.raises(OSError) as raised:
        listen.bind(address)
    assert raised.value.errno == errno.EADDRINUSE and os.path.exists(address.path)
    os.close(fd)
    listen.remove(address.path)
    assert not os.path.exists(address.path)


def test_a_socket_with_a_full_backlog_is_in_use(tmp_path):
    path = str(tmp_path / "sock")
    with socket.socket(socket.AF_UNIX) as full, socket.socket(socket.AF_UNIX) as waiting:
        full.bind(path)
        full.listen(0)
        waiting.connect(path)
        with pytest.raises(OSError) as raised:
            listen.bind(Address(path=path))
    assert raised.value.errno == errno.EADDRINUSE


@pytest.mark.parametrize("kind", ["file", "directory", "fifo", "link", "dangling link", "datagram"])
def test_files_that_are_not_stale_sockets_are_never_deleted(tmp_path, kind):
    path = tmp_path / "there"
    holder = None
    if kind == "file":
        path.write_text("precious")
    elif kind == "directory":
        path.mkdir()
    elif kind == "fifo":
        os.mkfifo(path)
    elif kind == "datagram":
        holder = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        holder.bind(str(path))
    else:
        os.close(listen.bind(Address(path=str(tmp_path / "stale"))))
        path.symlink_to(tmp_path / ("stale" if kind == "link" else "nowhere"))
    before = path.lstat()
    with pytest.raises(OSError) as raised:
        listen.bind(Address(path=str(path)))
    assert raised.value.errno == errno.EADDRINUSE and raised.value.strerror
    after = path.lstat()
    assert (after.st_ino, after.st_mode) == (before.st_ino, before.st_mode)
    if holder:
        holder.close()


def test_paths_that_are_too_long_or_missing(tmp_path):
    for path, number in (
        (str(tmp_path / ("x" * 108)), errno.ENAMETOOLONG),
        (str(tmp_path / "a" / "b"), errno.ENOENT),
    ):
        with pytest.raises(OSError) as raised:
            listen.bind(Address(path=path))
        assert raised.value.errno == number and raised.value.strerror


def test_remove_keeps_the_file_of_another_process(tmp_path):
    path = str(tmp_path / "sock")
    fd = listen.bind(Address(path=path))
    os.unlink(path)
    Path(path).write_text("another process")
    listen.remove(path)
    listen.remove(str(tmp_path / "nowhere"))
    assert os.path.exists(path)
    os.close(fd)


# The control socket.


@pytest.mark.parametrize("action", ["drain", "undrain", "stop"])
def test_actions(control, action):
    answer = control.exchange(
        f"POST /{action}?wait=1&why=a+%26%20b%zz&why2 HTTP/1.0\r\n\r\n".encode()
    )
    assert status(answer) == 202 and json.loads(body(answer)) == {"done": action}
    options = {"wait": "1", "why": "a & b%zz", "why2": ""}
    assert control.backend.actions == [(action, options, f"pid {os.getpid()}, uid {os.geteuid()}")]


def test_pages_and_not_found(control):
    assert status(control.exchange(b"GET /status HTTP/1.0\r\n\r\n")) == 200
    assert b"POST /drain" in control.exchange(b"GET /nowhere HTTP/1.0\r\n\r\n")
    assert status(control.exchange(b"POST /nowhere HTTP/1.0\r\n\r\n")) == 404


@pytest.mark.parametrize(
    ("line", "allow"),
    [
        (b"GET /stop", "POST"),
        (b"HEAD /drain", "POST"),
        (b"POST /status", "GET, HEAD"),
        (b"PUT /stop", "GET, HEAD, POST"),
    ],
)
def test_methods_of_the_control_socket(control, line, allow):
    answer = control.exchange(line + b" HTTP/1.0\r\n\r\n")
    assert status(answer) == 405 and headers(answer)["allow"] == allow
    assert control.backend.actions == []


@pytest.mark.parametrize(
    ("fields", "content", "code"),
    [
        (b"Content-Length: 4096", b"x" * 4096, 202),
        (b"Transfer-Encoding: chunked", b"5\r\nhello\r\n0\r\n\r\n", 202),
        (b"Content-Length: 4097", b"x" * 4097, 413),
        (
            b"Transfer-Encoding: chunked",
            b"1000\r\n" + b"x" * 4096 + b"\r\n1\r\nx\r\n0\r\n\r\n",
            413,
        ),
        (b"Content-Length: 5", b"hell", 400),
    ],
)
def test_the_body_of_a_post_is_limited_and_ignored(control, fields, content, code):
    answer = control.exchange(
        b"POST /drain HTTP/1.1\r\nHost: x\r\n" + fields + b"\r\n\r\n", content, end=True
    )
    assert status(answer) == code
    assert len(control.backend.actions) == (code == 202)


def test_100_continue(control):
    def client():
        with control.connect() as sock:
            sock.sendall(
                b"POST /drain HTTP/1.1\r\nHost: x\r\nContent-Length: 5\r\nExpect: "
                b"100-continue\r\n\r\n"
            )
            first = sock.recv(65536)
            sock.sendall(b"hello")
            return first, sock.recv(65536)

    first, second = control.during(client)
    assert (status(first), status(second)) == (100, 202)


CLIENT = """
import socket, sys
sock = socket.socket(socket.AF_UNIX)
sock.settimeout(30)
try:
    sock.connect(sys.argv[1])
except PermissionError:
    print("no permission")
    sys.exit()
sock.sendall(b"POST /stop HTTP/1.1\\r\\nHost: x\\r\\n\\r\\n")
answer = b""
while part := sock.recv(65536):
    answer += part
print(answer.split()[1].decode())
"""


@pytest.mark.root
@pytest.mark.parametrize(("mode", "expected"), [(0o600, "no permission"), (0o666, "403")])
def test_other_users_do_not_control(tmp_path, mode, expected):
    require_other_user()
    argv = [*OTHER_USER, sys.executable, "-I", "-S", "-c", CLIENT, str(tmp_path / "control.sock")]
    with served(Address(path=str(tmp_path / "control.sock")), control=True, mode=mode) as one:
        done = one.during(
            lambda: subprocess.run(argv, capture_output=True, text=True, timeout=BOUND)
        )
        assert (done.stdout.strip(), done.stderr) == (expected, "")
        assert one.backend.actions == []


# Finding the control socket.


@pytest.fixture
def directories(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> list[Path]:
    """The two directories, of four, in which a socket can be created.

    The first of the four does not exist, and no file can be created in the second.
    """
    directories = [tmp_path / "none", Path("/proc"), tmp_path / "shm", tmp_path / "tmp"]
    for one in directories[2:]:
        one.mkdir()
    monkeypatch.setattr(control_socket, "DIRECTORIES", tuple(map(str, directories)))
    return directories[2:]


def test_the_socket_is_created_and_found(directories):
    made = control_socket.create()
    assert made is not None
    fd, path = made
    assert path == f"{directories[0]}/gracewrap-{os.getpid()}.sock"
    assert stat.S_IMODE(os.stat(path).st_mode) == 0o600
    ours = [control_socket.Instance(path, os.getpid())]
    assert (
        control_socket.find() == ours
        and control_socket.find(os.getpid()) == ours
        and control_socket.find(None, path) == ours
    )
    assert control_socket.find(1) == [] and control_socket.find(1, path) == []
    os.close(fd)
    assert control_socket.find() == []  # stale
    again = control_socket.create()
    assert again is not None and again[1] == path
    control_socket.remove(path)
    os.close(again[0])
    assert not os.path.exists(path)


def test_a_name_in_use_by_another_container_is_avoided(directories):
    taken = listen.bind(Address(path=f"{directories[0]}/gracewrap-{os.getpid()}.sock"))
    made = control_socket.create()
    assert made is not None and made[1].startswith(f"{directories[1]}/")
    os.close(taken)
    os.close(made[0])
    control_socket.remove(made[1])


def test_the_private_directory_of_the_user_is_one_of_them(monkeypatch, tmp_path):
    """Root finds that of a process that it names."""
    monkeypatch.setattr(control_socket, "DIRECTORIES", (f"{tmp_path}/{{uid}}", str(tmp_path)))
    own = tmp_path / str(os.geteuid())
    own.mkdir()
    made = control_socket.create()
    assert made is not None and made[1] == f"{own}/gracewrap-{os.getpid()}.sock"
    assert [one.path for one in control_socket.find()] == [made[1]]
    assert [one.path for one in control_socket.find(os.getpid())] == [made[1]]
    os.close(made[0])
    control_socket.remove(made[1])


def test_an_explicit_path_is_the_only_one(directories, tmp_path):
    made = control_socket.create(str(tmp_path / "mine.sock"))
    assert made is not None and made[1] == str(tmp_path / "mine.sock")
    assert (
        control_socket.find(None, made[1]) == [control_socket.Instance(made[1], os.getpid())]
        and control_socket.find() == []
    )
    os.close(made[0])
    assert control_socket.find(None, made[1]) == []
    for bad in (str(tmp_path / "none" / "sock"), "\0", "x" * 200, "/proc/sock"):
        assert control_socket.create(bad) is None and control_socket.find(None, bad) == []
    assert os.listdir(directories[0]) == os.listdir(directories[1]) == []


def test_a_false_pid_in_the_name_is_ignored(directories):
    """Created by a process with another pid, in another container or on purpose."""
    fds = [
        listen.bind(Address(path=f"{directories[0]}/{name}"), 0o600)
        for name in ("gracewrap-1.sock", "gracewrap-x.sock", "other.sock")
    ]
    (directories[0] / "gracewrap-2.sock").write_text("")
    assert (
        control_socket.find() == []
        and control_socket.find(1) == []
        and control_socket.find(2) == []
    )
    for fd in fds:
        os.close(fd)


SQUATTER = """
import os, socket, sys
sock = socket.socket(socket.AF_UNIX)
path = f"{sys.argv[1]}/gracewrap-{os.getpid()}.sock"
os.umask(0)
sock.bind(path)
sock.listen()
print(os.getpid(), flush=True)
sys.stdin.read()  # until it is closed
"""


@pytest.mark.root
def test_root_finds_another_users_socket_only_by_name(directories):
    require_other_user()
    directories[1].chmod(0o1777)
    argv = [*OTHER_USER, sys.executable, "-I", "-S", "-c", SQUATTER, str(directories[1])]
    with subprocess.Popen(argv, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        pid = int(Lines(process.stdout.fileno()).next())
        path = f"{directories[1]}/gracewrap-{pid}.sock"
        assert control_socket.find() == []
        assert (
            control_socket.find(pid)
            == control_socket.find(None, path)
            == [control_socket.Instance(path, pid)]
        )
        process.communicate(timeout=BOUND)
