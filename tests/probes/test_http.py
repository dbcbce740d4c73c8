"""Tests of http_client/ and the http probe, with real and hostile servers on loopback,
unix sockets and TLS.
"""

from __future__ import annotations

import contextlib
import http.server
import os
import posix
import resource
import shutil
import socket
import socketserver
import ssl
import struct
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import h11
import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from gracewrap.config.probe_specs import Expect, Header, HttpProbeSpec, Request, Url
from gracewrap.http_client import dns
from gracewrap.http_client.exchange import Exchange
from gracewrap.http_client.http_hook import HttpHook
from gracewrap.http_client.response import (
    MAX_BODY,
    MAX_CHUNK_HEAD,
    Failure,
    HttpError,
    IncompleteResponse,
    Response,
    ResponseParser,
)
from gracewrap.linux.hook_and_probe_process_groups import Helpers
from gracewrap.policy.model import BUSY, DRAINED, FAILED, INVALID, UNREACHABLE, Reading
from gracewrap.probes.http import HttpProbe
from gracewrap.probes.sampler import Sampler
from processes import BOUND, require
from reactor_driver import Driver, driving

MIB = 1 << 20
OK = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nhi"


@pytest.fixture
def driver() -> Iterator[Driver]:
    """A reactor; the test fails if it leaves a watch, a timer or a file descriptor behind."""
    with driving() as driver:
        before = len(os.listdir("/proc/self/fd"))
        yield driver
        assert not driver.reactor._watched and not driver.reactor._timers
        assert len(os.listdir("/proc/self/fd")) == before


def url(where: object, scheme: str = "http", host: str | None = None) -> Url:
    """Return the URL of a listener's address."""
    if isinstance(where, str):
        return Url("unix", where, 0, "/drain")
    assert isinstance(where, tuple)
    return Url(scheme, host or where[0], where[1], "/drain")


def fetch(
    driver: Driver, request: Request | Url, helpers: Helpers | None = None, bound: float = BOUND
) -> Response | Failure:
    got: list[Response | Failure] = []
    made = request if isinstance(request, Request) else Request(request)
    Exchange(driver.reactor, made, got.append, helpers)
    assert not got  # done() is never called from within the constructor
    driver.until(lambda: got, bound, lambda: reap(helpers))
    assert len(got) == 1
    return got[0]


def reap(helpers: Helpers | None) -> None:
    for pid in helpers.pids if helpers else ():
        done, status = os.waitpid(pid, os.WNOHANG)
        if done and helpers:
            helpers.reaped(pid, os.waitstatus_to_exitcode(status))


@contextlib.contextmanager
def peer(
    script: Callable[[socket.socket], object], address: object = ("127.0.0.1", 0)
) -> Iterator[object]:
    """Listen and call *script* for each connection; yields the address.

    Use it within driving(), which blocks SIGIO.
    """
    family = (
        socket.AF_UNIX
        if isinstance(address, str)
        else socket.AF_INET6
        if ":" in str(address[0])
        else socket.AF_INET
    )  # type: ignore[index]
    with socket.socket(family, socket.SOCK_STREAM) as listener:
        listener.bind(address)  # type: ignore[arg-type]
        listener.listen()

        def serve() -> None:
            while True:
                try:
                    conn, _ = listener.accept()
                except OSError:  # shut down: the test is over
                    return
                with conn, contextlib.suppress(OSError):
                    conn.settimeout(BOUND)
                    script(conn)

        thread = threading.Thread(target=serve)
        thread.start()
        try:
            yield listener.getsockname()
        finally:
            listener.shutdown(socket.SHUT_RDWR)
            thread.join(BOUND)
            assert not thread.is_alive()


def read_request(conn: socket.socket) -> bytes:
    got = b""
    while b"\r\n\r\n" not in got:
        part = conn.recv(65536)
        if not part:
            return got
        got += part
    return got


def until_closed(conn: socket.socket) -> None:
    while conn.recv(65536):
        pass


def says(*parts: bytes, stay: bool = False) -> Callable[[socket.socket], None]:
    """Return a peer script that sends *parts*, then closes, or stays until the client closes."""

    def script(conn: socket.socket) -> None:
        read_request(conn)
        for part in parts:
            conn.sendall(part)
        if stay:
            until_closed(conn)

    return script


def reset(conn: socket.socket) -> None:
    conn.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    conn.close()


# Real servers.


class Handler(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def do_GET(self) -> None:
        body = f"{self.command} {self.path}".encode()
        self.send_response(200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    do_POST = do_GET  # noqa: N815

    def log_message(self, *_: object) -> None:
        pass


class UnixServer(socketserver.ThreadingMixIn, socketserver.UnixStreamServer):
    daemon_threads = True

    def get_request(self) -> tuple[socket.socket, tuple[str, int]]:  # type: ignore[override]
        return super().get_request()[0], ("unix", 0)


@contextlib.contextmanager
def serving(server: socketserver.BaseServer) -> Iterator[object]:
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    try:
        yield server.server_address
    finally:
        server.shutdown()
        thread.join(BOUND)
        server.server_close()


def test_pythons_server_over_tcp_and_a_unix_socket(driver, tmp_path):
    for server in (
        http.server.HTTPServer(("127.0.0.1", 0), Handler),
        UnixServer(str(tmp_path / "s"), Handler),
    ):
        with serving(server) as where:
            got = fetch(driver, url(where))
            assert isinstance(got, Response)
            assert (got.status, got.status_line, got.body, got.complete) == (
                200,
                "200 OK",
                b"GET /drain",
                True,
            )
            assert got.header(b"content-length") == "10" and got.header(b"x-none") == ""


def test_ipv6_and_localhost(driver):
    with peer(says(OK), ("::1", 0)) as where:
        assert fetch(driver, url(where)).status == 200
        assert fetch(driver, url(where, host="localhost")).status == 200  # refused by 127.0.0.1
        assert fetch(driver, url(where, host="LOCALHOST.")).status == 200
    assert fetch(driver, url(where, host="localhost")) == Failure("refused", "connection refused")
    with peer(says(OK)) as where:
        assert fetch(driver, url(where, host="localhost")).status == 200


@pytest.mark.parametrize(
    ("parts", "body"),
    [
        ((OK,), b"hi"),
        ((b"HTTP/1.0 200 OK\r\n\r\nhi",), b"hi"),
        ((b"HTTP/1.1 200 OK\r\n\r\n", b"h", b"i"), b"hi"),
        (
            (
                b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n1\r\nh\r\n",
                b"1;x=y\r\ni\r\n0\r\nTrailer: 1\r\n\r\n",
            ),
            b"hi",
        ),
        ((b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 103 Early Hints\r\nLink: x\r\n\r\n", OK), b"hi"),
        ((b"HTTP/1.1 204 No Content\r\n\r\n",), b""),
        ((b"HTTP/1.1 200\r\nContent-Length: 0\r\n\r\n",), b""),
        ((b"HTTP/1.1 200 OK\nContent-Length: 2\n\nhi",), b"hi"),
        ((b"HTTP/1.1 200 OK\r\nX: a\r\n b\r\nContent-Length: 2\r\n\r\nhi and more",), b"hi"),
    ],
)
def test_ways_to_send_a_response(driver, parts, body):
    with peer(says(*parts)) as where:
        got = fetch(driver, url(where))
    assert isinstance(got, Response) and got.body == body and got.complete


def test_a_complete_response_does_not_wait_for_the_close(driver):
    """The server closes only after the client."""
    with peer(says(OK, stay=True)) as where:
        assert fetch(driver, url(where)).body == b"hi"
    with peer(says(b"HTTP/1.1 200 OK\r\nContent-Length: 99\r\n\r\n", stay=True)) as where:
        assert fetch(driver, Request(url(where), "HEAD")).status == 200


def test_a_byte_at_a_time(driver):
    answer = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nhi\r\n0\r\n\r\n"
    with peer(says(*(bytes([byte]) for byte in answer))) as where:
        assert fetch(driver, url(where)).body == b"hi"


# What is sent.


def seen(driver: Driver, request: Callable[[Url], Request], answer: bytes = OK) -> bytes:
    got: list[bytes] = []

    def script(conn: socket.socket) -> None:
        text = read_request(conn)
        length = int(text.lower().partition(b"content-length: ")[2].partition(b"\r\n")[0] or 0)
        while len(text.partition(b"\r\n\r\n")[2]) < length:
            text += conn.recv(65536)
        got.append(text)
        conn.sendall(answer)

    with peer(script) as where:
        assert isinstance(fetch(driver, request(url(where))), Response)
    return got[0]


def test_the_request(driver, tmp_path, monkeypatch):
    monkeypatch.setitem(posix.environ, b"TOKEN", b"s3cret")
    monkeypatch.setenv("http_proxy", "http://127.0.0.1:1")
    (tmp_path / "key").write_text("of the file\n")
    headers = (
        Header("Authorization", "Bearer ", env="TOKEN"),
        Header("X-Key", file=str(tmp_path / "key")),
        Header("Accept", "a/b"),
    )
    head, _, body = seen(driver, lambda to: Request(to, "POST", headers, b"x=1")).partition(
        b"\r\n\r\n"
    )
    line, *rest = head.split(b"\r\n")
    fields = {name.lower(): value for name, _, value in (one.partition(b": ") for one in rest)}
    assert line == b"POST /drain HTTP/1.1" and body == b"x=1"
    assert fields.pop(b"host").startswith(b"127.0.0.1:")
    assert fields.pop(b"user-agent").startswith(b"gracewrap/")
    assert fields == {
        b"authorization": b"Bearer s3cret",
        b"x-key": b"of the file",
        b"accept": b"a/b",
        b"accept-encoding": b"identity",
        b"connection": b"close",
        b"content-length": b"3",
    }


def test_the_host_header(driver):
    assert (
        b"\r\nhost: example.org\r\n"
        in seen(driver, lambda to: Request(to, headers=(Header("Host", "example.org"),))).lower()
    )
    hosts: list[bytes] = []
    with peer(
        lambda conn: (hosts.append(read_request(conn)), conn.sendall(OK)), ("::1", 0)
    ) as where:
        fetch(driver, url(where))
        assert f"host: [::1]:{where[1]}\r\n".encode() in hosts[0].lower()  # type: ignore[index]


def test_a_long_body_is_sent_in_parts(driver):
    body = os.urandom(8 * MIB)
    assert seen(driver, lambda to: Request(to, "PUT", body=body)).endswith(body)


def test_a_response_before_the_body_is_read(driver):
    def script(conn: socket.socket) -> None:
        conn.sendall(b"HTTP/1.1 413 Too Large\r\nContent-Length: 0\r\n\r\n")
        reset(conn)

    with peer(script) as where:
        got = fetch(driver, Request(url(where), "PUT", body=bytes(8 * MIB)))
    assert got == Response(413, "Too Large", ((b"content-length", b"0"),), b"")


@pytest.mark.parametrize(
    ("header", "text"),
    [
        (Header("X-Key", env="NOT_SET"), "header X-Key: the variable NOT_SET is not set"),
        (Header("X-Key", env="SPLIT"), "header X-Key: the variable SPLIT contains a line break"),
        (Header("X-Key", file="{tmp}/gone"), "/gone: No such file"),
        (Header("X-Key", file="{tmp}"), "not a regular file"),
        (Header("X-Key", file="{tmp}/fifo"), "not a regular file"),
        (Header("X-Key", file="{tmp}/long"), "longer than 8 KiB"),
        (Header("X-Key", file="{tmp}/lines"), "contains a line break"),
        (Header("X Key", env="GOOD"), "headers (headers: X Key)"),
        (Header("Content-Length", env="GOOD"), "headers (headers: Content-Length)"),
    ],
)
def test_a_header_that_cannot_be_sent(driver, tmp_path, monkeypatch, header, text):
    monkeypatch.setitem(posix.environ, b"SPLIT", b"s3cret\r\nX: y")
    monkeypatch.setitem(posix.environ, b"GOOD", b"s3cret")
    os.mkfifo(tmp_path / "fifo")
    (tmp_path / "long").write_text("s3cret" * 2000)
    (tmp_path / "lines").write_text("s3cret\ns3cret\n")
    header = Header(header.name, header.prefix, header.env, header.file.format(tmp=tmp_path))
    got = fetch(driver, Request(Url("http", "127.0.0.1", 1, "/"), headers=(header,)))
    assert isinstance(got, Failure) and got.kind == "invalid" and text in got.why, got
    assert "s3cret" not in got.why


# Nothing listens.


def free_port() -> int:
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        port: int = sock.getsockname()[1]
        return port


def test_refused(driver, tmp_path):
    assert fetch(driver, Url("http", "127.0.0.1", free_port(), "/")) == Failure(
        "refused", "connection refused"
    )
    assert fetch(driver, url(str(tmp_path / "none"))) == Failure(
        "refused", f"{tmp_path}/none does not exist"
    )
    with socket.socket(socket.AF_UNIX) as stale:
        stale.bind(str(tmp_path / "stale"))
    assert fetch(driver, url(str(tmp_path / "stale"))) == Failure("refused", "connection refused")


def test_unix_sockets_that_cannot_be_used(driver, tmp_path):
    got = fetch(driver, url(str(tmp_path / ("x" * 200))))
    assert isinstance(got, Failure) and got.kind == "invalid" and "too long" in got.why
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as other:
        other.bind(str(tmp_path / "datagrams"))
        assert fetch(driver, url(str(tmp_path / "datagrams"))).kind == "invalid"
    with socket.socket(socket.AF_UNIX) as listener, contextlib.ExitStack() as waiting:
        listener.bind(str(tmp_path / "full"))
        listener.listen(0)
        with contextlib.suppress(BlockingIOError):
            while True:
                one = waiting.enter_context(socket.socket(socket.AF_UNIX))
                one.setblocking(False)
                one.connect(str(tmp_path / "full"))
        got = fetch(driver, url(str(tmp_path / "full")))
        assert isinstance(got, Failure) and got.kind == "unreachable" and "backlog" in got.why


def test_no_descriptor_left(driver):
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    spare = os.open("/dev/null", os.O_RDONLY)
    os.close(spare)
    resource.setrlimit(resource.RLIMIT_NOFILE, (spare, hard))
    try:
        got = fetch(driver, Url("http", "127.0.0.1", 1, "/"))
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
    assert got == Failure("unreachable", "Too many open files", asked=False)


# Hostile peers.


@pytest.mark.parametrize(
    ("script", "kind", "text"),
    [
        (
            says(b"SSH-2.0-OpenSSH_9.2\r\n", stay=True),
            "invalid",
            'not HTTP: the response starts with "SSH-2.0-OpenSSH_9.2',
        ),
        (says(b"\x00\x00\x12\x04\x00", stay=True), "invalid", "not HTTP"),  # HTTP/2
        (says(b"\x15\x03\x01\x00\x02\x02\x46", stay=True), "invalid", "use https://"),
        (says(b"\r\n\r\n", stay=True), "invalid", "not HTTP"),
        (says(b"HTTP/1.1 abc\r\n\r\n"), "invalid", "not HTTP/1.1"),
        (says(b"HTTP/1.1 200 OK\r\nno colon\r\n\r\n"), "invalid", "not HTTP/1.1"),
        (says(b"HTTP/1.1 200 OK\r\nContent-Length: x\r\n\r\n"), "invalid", "not HTTP/1.1"),
        (says(b"HTTP/1.1 200 OK\r\nContent-Length: " + b"9" * 9000 + b"\r\n\r\n"), None, ""),
        (
            says(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n"),
            "invalid",
            "not HTTP/1.1",
        ),
        (
            says(b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: x\r\n\r\n", stay=True),
            "invalid",
            "not HTTP/1.1",
        ),
        (
            says(b"HTTP/1.1 200 OK\r\nX: " + b" " * 15000 + b"\0\r\n\r\n", stay=True),
            "invalid",
            "control character",
        ),
        (says(b"HTTP/1.1 200 OK\r\nX: a\rb\r\n\r\n", stay=True), "invalid", "control character"),
        (says(b""), "unreachable", "closed without a response"),
        (says(b"HTTP/1.1 200 O"), "unreachable", "in the middle"),
        (says(b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhi"), "unreachable", "in the middle"),
        (
            says(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhi"),
            "unreachable",
            "in the middle",
        ),
        (says(b"HTTP/1.1 100 Continue\r\n\r\n"), "unreachable", "in the middle"),
        (lambda conn: (read_request(conn), reset(conn)), "refused", "connection reset"),
        (reset, "refused", "connection re"),
        (
            lambda conn: (read_request(conn), conn.sendall(b"HTTP/1.1 200"), reset(conn)),
            "unreachable",
            "in the middle",
        ),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_invalid_and_incomplete_responses(driver, script, kind, text):
    with peer(script) as where:
        got = fetch(driver, url(where))
    assert isinstance(got, Failure) and (kind is None or got.kind == kind) and text in got.why, got


@pytest.mark.parametrize(
    ("start", "more", "text"),
    [
        (b"HTTP/1.1 200 OK\r\n", b"X: " + b"y" * 100 + b"\r\n", "longer than 16 KiB"),
        (b"HTTP/1.1 200 OK\r\nX: ", b"y" * 4096, "longer than 16 KiB"),
        (b"", b"HTTP/1.1 102 Processing\r\n\r\n", "too many 1xx"),
        (b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n", b"1;" + b"x" * 5000, "too long"),
        (b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n", b"X: y\r\n", "too long"),
        (b"HTTP/1.1 200 OK\r\n\r\n", b"x" * 65536, None),
        (b"HTTP/1.1 200 OK\r\nContent-Length: 99999999999\r\n\r\n", b"x" * 65536, None),
        (
            b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n",
            b"1000\r\n" + b"x" * 4096 + b"\r\n",
            None,
        ),
    ],
)
def test_endless_responses(driver, start, more, text):
    """Reading stops at the limits; *text* None: an endless body, of which the first MiB is kept."""
    sent = [0]

    def script(conn: socket.socket) -> None:
        read_request(conn)
        conn.sendall(start)
        while True:
            sent[0] += conn.send(more)

    with peer(script) as where:
        got = fetch(driver, url(where))
    if text is None:
        assert isinstance(got, Response) and len(got.body) == MAX_BODY and not got.complete
    else:
        assert isinstance(got, Failure) and got.kind == "invalid" and text in got.why
    assert sent[0] < 16 * MIB  # the kernel's buffers


@pytest.mark.parametrize("framing", ["length", "chunks", "close"])
@pytest.mark.parametrize("extra", [0, 1])
def test_the_longest_body(driver, framing, extra):
    body = os.urandom(MAX_BODY + extra)
    if framing == "length":
        parts = (b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % len(body), body)
    elif framing == "close":
        parts = (b"HTTP/1.1 200 OK\r\n\r\n", body)
    else:
        parts = (
            b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n%x\r\n" % len(body),
            body,
            b"\r\n0\r\n\r\n",
        )
    with peer(says(*parts)) as where:
        got = fetch(driver, url(where))
    assert (
        isinstance(got, Response) and got.body == body[:MAX_BODY] and got.complete is (extra == 0)
    )


@pytest.mark.parametrize(
    "answer",
    [
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"
        + b"1\r\nx\r\n" * 40000
        + b"0\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n0\r\nX:"
        + b" " * 60000
        + b"\0\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n1;" + b" " * 60000 + b"\n\r\n",
        b"HTTP/1.1 200 OK\r\nX:" + b" " * 60000 + b"\0\r\n\r\n",
        b"HTTP/1.1 200 OK\r\n" + b"X: y\r\n" * 2000 + b"\r\n",
    ],
    ids=["tiny chunks", "trailer", "chunk head", "header", "many headers"],
)
def test_no_response_blocks_the_loop(driver, answer):
    """A round takes 1 ms of processor time, 9 with 2000 headers; without the limits some of these
    take seconds to minutes."""
    longest = [0.0, time.thread_time()]

    def measure() -> None:
        now = time.thread_time()
        longest[:] = [max(longest[0], now - longest[1]), now]

    got: list[object] = []
    with peer(says(answer)) as where:
        Exchange(driver.reactor, Request(url(where)), got.append)
        driver.until(lambda: got, BOUND, measure)
    measure()
    assert longest[0] < 1


def test_cancel_closes_and_never_calls_done(driver):
    closed = threading.Event()
    asked = threading.Event()

    def script(conn: socket.socket) -> None:
        read_request(conn)
        asked.set()
        until_closed(conn)
        closed.set()

    got: list[object] = []
    with peer(script) as where:
        exchange = Exchange(driver.reactor, Request(url(where)), got.append)
        driver.until(asked.is_set)
        exchange.cancel()
        assert closed.wait(BOUND)
        exchange.cancel()
        not_started = Exchange(driver.reactor, Request(url(where)), got.append)
        not_started.cancel()
        driver.reactor.run(time.monotonic())
    assert got == []


# TLS.


@pytest.fixture(scope="module")
def certificate(tmp_path_factory) -> Path:
    """A self-signed certificate for localhost, example.test and 127.0.0.1, with its key."""
    require(shutil.which("openssl"), "openssl")
    path: Path = tmp_path_factory.mktemp("tls") / "own.pem"
    names = "subjectAltName=DNS:localhost,DNS:example.test,IP:127.0.0.1"
    command = [
        "openssl",
        "req",
        "-x509",
        "-newkey",
        "ec",
        "-pkeyopt",
        "ec_paramgen_curve:prime256v1",
        "-nodes",
        "-days",
        "2",
    ]
    command += [
        "-subj",
        "/CN=example.test",
        "-addext",
        names,
        "-keyout",
        str(path),
        "-out",
        str(path.with_suffix(".crt")),
    ]
    subprocess.run(command, check=True, capture_output=True, timeout=BOUND)
    with path.open("a") as both:
        both.write(path.with_suffix(".crt").read_text())
    return path


def over_tls(
    certificate: Path,
    script: Callable[[socket.socket], object],
    names: list[str | None] | None = None,
):
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate)
    if names is not None:
        context.sni_callback = lambda _sock, name, _context: names.append(name)

    def served(conn: socket.socket) -> None:
        with context.wrap_socket(conn, server_side=True) as wrapped:
            script(wrapped)

    return served


def test_tls(driver, certificate):
    names: list[str | None] = []
    ca = str(certificate.with_suffix(".crt"))
    with peer(over_tls(certificate, says(OK, stay=True), names)) as where:
        for request in (
            Request(url(where, "https"), ca=ca),
            Request(url(where, "https", "localhost"), ca=ca),
            Request(url(where, "https"), insecure=True),
        ):
            assert fetch(driver, request).body == b"hi"
        assert names == [None, "localhost", None]  # no SNI for an address
        got = fetch(driver, url(where, "https"))  # the system's CAs
        assert isinstance(got, Failure) and got.kind == "invalid" and "not trusted: self" in got.why
    with peer(over_tls(certificate, says(OK)), ("127.0.0.2", 0)) as where:
        got = fetch(driver, Request(url(where, "https"), ca=ca))
        assert isinstance(got, Failure) and got.kind == "invalid" and "127.0.0.2" in got.why


@pytest.mark.parametrize("extra", [0, 1])
def test_a_long_body_over_tls_that_ends_without_close_notify(driver, certificate, extra):
    body = os.urandom(MAX_BODY + extra)
    with peer(over_tls(certificate, says(b"HTTP/1.0 200 OK\r\n\r\n", body))) as where:
        got = fetch(driver, Request(url(where, "https"), insecure=True))
    assert (
        isinstance(got, Response) and got.body == body[:MAX_BODY] and got.complete is (extra == 0)
    )


@pytest.mark.parametrize(
    ("script", "kind", "text"),
    [
        (
            lambda conn: (conn.sendall(b"HTTP/1.1 400 Bad Request\r\n\r\n"), until_closed(conn)),
            "invalid",
            "use http://",
        ),
        (lambda conn: (conn.recv(65536), None), "unreachable", "during the TLS handshake"),
        (reset, "refused", "connection re"),
        (lambda conn: (conn.sendall(os.urandom(4096)), until_closed(conn)), "invalid", ""),
    ],
    ids=["http", "closed", "reset", "garbage"],
)
def test_servers_without_tls(driver, script, kind, text):
    with peer(script) as where:
        got = fetch(driver, Request(url(where, "https"), insecure=True))
    assert isinstance(got, Failure) and got.kind == kind and text in got.why, got


def test_http_to_a_port_for_https(driver, certificate):
    with peer(over_tls(certificate, until_closed)) as where:
        got = fetch(driver, url(where))
    assert isinstance(got, Failure) and got.kind in ("invalid", "refused", "unreachable")


def test_ca_files_that_cannot_be_read(driver, tmp_path):
    (tmp_path / "not.pem").write_text("nothing")
    os.mkfifo(tmp_path / "fifo")
    for name in ("not.pem", "fifo", "none"):
        got = fetch(driver, Request(Url("https", "127.0.0.1", 1, "/"), ca=str(tmp_path / name)))
        assert isinstance(got, Failure) and got.kind == "invalid" and name in got.why


# Host names.


def test_a_host_name_is_looked_up_by_a_helper(driver):
    name = socket.gethostname()
    try:
        family, _, _, _, address = socket.getaddrinfo(name, 0, 0, socket.SOCK_STREAM)[0]
    except OSError:
        require(False, "a host name that can be looked up")
    assert name != "localhost" and family in (socket.AF_INET, socket.AF_INET6)
    helpers = Helpers(driver.reactor)
    dns._cache.clear()
    with peer(says(OK), (address[0], 0)) as where:
        assert fetch(driver, url(where, host=name), helpers).status == 200
        assert (
            fetch(driver, url(where, host=name), helpers).status == 200 and not helpers.pids
        )  # cached by now
    assert fetch(driver, url(where, host=name), helpers).kind == "refused"
    assert not dns._cache  # looked up anew the next time


@pytest.mark.parametrize("name", ["nobody.invalid", "$(touch x)", "-c", "..", "x" * 300, "ä" * 70])
def test_unknown_host_names(driver, name):
    helpers = Helpers(driver.reactor)
    got = fetch(driver, Url("http", name, 1, "/"), helpers)
    assert isinstance(got, Failure) and got.kind in ("unreachable", "invalid") and got.why, got


def test_host_names_without_helpers(driver):
    got = fetch(driver, Url("http", "example.test", 1, "/"))
    assert isinstance(got, Failure) and got.kind == "invalid" and "example.test" in got.why


def test_a_lookup_can_be_cancelled(driver):
    helpers = Helpers(driver.reactor)
    got: list[object] = []
    exchange = Exchange(
        driver.reactor, Request(Url("http", "nobody.invalid", 1, "/")), got.append, helpers
    )
    driver.until(lambda: helpers.pids)
    exchange.cancel()
    driver.until(lambda: not helpers.pids, BOUND, lambda: reap(helpers))
    assert got == []


def test_several_addresses_are_tried_in_order(driver):
    """The first is refused, the second never answers: its queue is full."""
    helpers = Helpers(driver.reactor)
    with (
        peer(says(OK), ("127.0.0.3", 0)) as where,
        socket.socket() as full,
        contextlib.ExitStack() as waiting,
    ):
        port = where[1]  # type: ignore[index]
        full.bind(("127.0.0.2", port))
        full.listen(0)
        for _ in range(3):
            one = waiting.enter_context(socket.socket())
            one.setblocking(False)
            one.connect_ex(("127.0.0.2", port))
        addresses = [(socket.AF_INET, f"127.0.0.{last}", 0) for last in (1, 2, 3)]
        dns._cache["several.test"] = (time.monotonic() + BOUND, addresses)
        assert fetch(driver, Url("http", "several.test", port, "/"), helpers).status == 200
        dns._cache["several.test"] = (time.monotonic() + BOUND, addresses[:1])
        assert fetch(driver, Url("http", "several.test", port, "/"), helpers).kind == "refused"


# The probe and the hook.


def sample(driver: Driver, probe: HttpProbeSpec, timeout: float = BOUND) -> Reading:
    got: list[Reading] = []
    Sampler(HttpProbe(probe, driver.reactor), driver.reactor, timeout).sample(
        time.monotonic(), got.append
    )
    driver.until(lambda: got)
    return got[0]


def test_the_probe(driver):
    answers = iter([b'{"jobs": 3}', b'{"jobs": 0}', b"{}"])

    def script(conn: socket.socket) -> None:
        body = next(answers)
        says(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % len(body), body, stay=True)(conn)

    with peer(script) as where:
        probe = HttpProbeSpec(Request(url(where)), Expect("json", "/jobs"))
        assert sample(driver, probe) == Reading(BUSY, 3.0, "/jobs is 3")
        assert sample(driver, probe) == Reading(DRAINED, 0.0)
        assert sample(driver, probe).kind == INVALID
    assert sample(driver, probe) == Reading(UNREACHABLE, None, "connection refused", refused=True)


@pytest.mark.parametrize(
    ("on_refused", "kind"), [("wait", UNREACHABLE), ("drained", DRAINED), ("fail", FAILED)]
)
def test_on_refused(driver, tmp_path, on_refused, kind):
    assert (
        sample(driver, HttpProbeSpec(Request(url(str(tmp_path / "x"))), on_refused=on_refused)).kind
        == kind
    )
    with peer(says(b"")) as where:  # closed is not refused
        assert (
            sample(driver, HttpProbeSpec(Request(url(where)), on_refused=on_refused)).kind
            == UNREACHABLE
        )
    with peer(says(b"x")) as where:
        assert (
            sample(driver, HttpProbeSpec(Request(url(where)), on_refused=on_refused)).kind
            == INVALID
        )


def drip(conn: socket.socket) -> None:
    """Send an endless body, one byte at a time."""
    read_request(conn)
    conn.sendall(b"HTTP/1.1 200 OK\r\n\r\n")
    conn.settimeout(0.02)
    while True:
        conn.sendall(b"x")
        with contextlib.suppress(TimeoutError):
            if not conn.recv(1):
                return


@pytest.mark.parametrize("script", [until_closed, drip], ids=["never", "for ever"])
def test_a_slow_response_costs_one_timeout(driver, script):
    with peer(script) as where:
        reading = sample(driver, HttpProbeSpec(Request(url(where))), timeout=0.2)
    assert reading == Reading(UNREACHABLE, None, "no answer within 0.2 s")


@pytest.mark.parametrize(
    ("answer", "ok", "why"),
    [
        (b"HTTP/1.1 204 No Content\r\n\r\n", True, "204 No Content"),
        (b"HTTP/1.1 302 Found\r\nLocation: /x\r\nContent-Length: 0\r\n\r\n", False, "302 Found"),
        (b"HTTP/1.1 500 \x1b[31mOops\r\nContent-Length: 0\r\n\r\n", False, "500 ?[31mOops"),
        (b"nonsense", False, 'not HTTP: the response starts with "nonsense"'),
    ],
)
def test_hooks(driver, answer, ok, why):
    got: list[tuple[bool, str]] = []
    with peer(says(answer)) as where:
        HttpHook(Request(url(where), "POST"), driver.reactor, None, lambda *text: got.append(text))
        driver.until(lambda: got)
    assert got == [(ok, why)]


# Any bytes, split anywhere.


def read(parts: list[bytes], method: str = "GET") -> Response | str:
    """Return what a ResponseParser makes of *parts*, followed by end of file."""
    connection = h11.Connection(h11.CLIENT, max_incomplete_event_size=MAX_CHUNK_HEAD)
    connection.send(
        h11.Request(method=method, target="/", headers=[("host", "x"), ("connection", "close")])
    )
    connection.send(h11.EndOfMessage())
    parser = ResponseParser(connection)
    try:
        for part in [*(part for part in parts if part), b""]:
            parser.feed(part)
            while (response := parser.parse()) is None and not parser.needs_data:
                pass
            if response is not None:
                return response
    except (HttpError, IncompleteResponse) as error:
        return type(error).__name__
    raise AssertionError("no result at end of file")


def cut(data: bytes, places: list[int]) -> list[bytes]:
    places = sorted({place % (len(data) + 1) for place in places})
    return [data[a:b] for a, b in zip([0, *places], [*places, len(data)])]


cuts = st.lists(st.integers(0, 500), max_size=12)
_LINES = [
    b"HTTP/1.1 200 OK",
    b"HTTP/1.0 503 x",
    b"HTTP/1.1 100 c",
    b"Transfer-Encoding: chunked",
    b"X: y",
    b"Connection: close",
]
_WORDS = [
    b"\r\n",
    b"\n",
    b"\r\n\r\n",
    b"Content-Length: ",
    b"2",
    b"1",
    b"0",
    b"hi",
    b": ",
    b" ",
    b"\t",
    b"\0",
    b"\r",
    b"a;b=c",
    b"f" * 22,
]
pieces = st.sampled_from(_LINES + _WORDS)


@given(
    st.binary(max_size=100)
    | st.lists(pieces, max_size=14).map(b"".join)
    | st.binary(max_size=60).map(OK.__add__),
    cuts,
)
@example(b"", [])
@example(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nContent-Length: 1\r\n\r\n0\r\n\r\n", [])
def test_any_bytes_give_one_outcome_however_they_are_cut(data, places):
    assert read(cut(data, places)) == read([data]) == read([bytes([byte]) for byte in data])


@given(
    st.binary(max_size=3000),
    st.lists(st.integers(1, 700), max_size=8),
    st.sampled_from(["length", "chunks", "close"]),
    cuts,
)
def test_any_body_is_read_however_it_is_cut(body, sizes, framing, places):
    if framing == "length":
        data = b"HTTP/1.1 200 OK\r\ncontent-length: %d\r\n\r\n" % len(body) + body
    elif framing == "close":
        data = b"HTTP/1.1 200 OK\r\n\r\n" + body
    else:
        chunks, rest = [], body
        for size in [*sizes, len(body) + 1]:
            if rest:
                chunks.append(b"%x\r\n%s\r\n" % (len(rest[:size]), rest[:size]))
                rest = rest[size:]
        data = (
            b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n"
            + b"".join(chunks)
            + b"0\r\n\r\n"
        )
    got = read(cut(data, places))
    assert isinstance(got, Response) and got.body == body and got.complete


@settings(
    max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(
    data=st.binary(max_size=200) | st.lists(pieces, max_size=14).map(b"".join),
    places=cuts,
    ending=st.booleans(),
)
def test_any_bytes_over_a_socket(driver, tmp_path, data, places, ending):
    path = str(tmp_path / "any")
    with contextlib.suppress(FileNotFoundError):
        os.unlink(path)
    script = says(*cut(data, places))
    with peer(script if ending else lambda conn: (script(conn), reset(conn)), path) as where:
        assert isinstance(fetch(driver, url(where)), Response | Failure)
