"""NOTIFY_SOCKET: what real senders say, who is believed, and what cannot harm us."""

from __future__ import annotations

import contextlib
import os
import posix
import select
import shutil
import signal
import socket
import stat
import struct
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gracewrap.config.probe_specs import NotifyProbeSpec
from gracewrap.linux import process_tree, procfs, sd_notify
from gracewrap.linux.sd_notify import Message, parse
from gracewrap.policy.model import BUSY, DRAINED, INVALID, Reading
from gracewrap.probes.notify import NotifyProbe, NotifyState
from processes import (
    BOUND,
    OTHER_USER,
    Lines,
    descendants,
    environment,
    require,
    require_other_user,
    require_root,
)
from reactor_driver import Driver, driving, readable

# Sends each argument as a datagram; then waits for a line, or ends at once if told so.
SENDER = """
import os, socket, sys
address = os.environ["NOTIFY_SOCKET"]
sender = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
sender.connect("\\0" + address[1:] if address[0] == "@" else address)
for word in sys.argv[1:]:
    if word == "wait":
        sys.stdin.readline()
    else:
        sender.send(word.encode())
"""


class Hall:
    """A receiver whose command is the test's own children; *heard* are the messages."""

    def __init__(self, driver: Driver, leader: int, value: str, fd: int) -> None:
        self.driver, self.value, self.fd = driver, value, fd
        self.heard: list[Message] = []
        self.receiver = sd_notify.Receiver(
            driver.reactor, fd, leader, process_tree.is_below_us, self.heard.append
        )

    def start(
        self, *argv: str, prefix: tuple[str, ...] = (), **options: object
    ) -> subprocess.Popen[bytes]:
        settings: dict[str, object] = {
            "stdin": subprocess.PIPE,
            "env": environment(NOTIFY_SOCKET=self.value),
            **options,
        }
        return subprocess.Popen([*prefix, *argv], **settings)  # type: ignore[call-overload,no-any-return]

    def send(self, *words: str, **options: object) -> subprocess.Popen[bytes]:
        return self.start(sys.executable, "-I", "-S", "-c", SENDER, *words, **options)  # type: ignore[arg-type]

    def fields(self) -> list[dict[str, str]]:
        return [dict(message.fields) for message in self.heard]

    def until_heard(self, count: int) -> None:
        self.driver.until(lambda: len(self.heard) >= count)


@pytest.fixture
def hall() -> Iterator[Hall]:
    fd, value = sd_notify.make()
    with driving() as driver:
        room = Hall(driver, os.getpid(), value, fd)
        yield room
        room.receiver.close()
    sd_notify.remove(value)


@contextlib.contextmanager
def ended(process: subprocess.Popen[bytes]) -> Iterator[subprocess.Popen[bytes]]:
    """End a process and what is below it with the block."""
    try:
        yield process
    finally:
        for pid in [*descendants(process.pid), process.pid]:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        process.wait(BOUND)
        for stream in (process.stdin, process.stdout):
            if stream:
                stream.close()


def sender_of_ours(value: str) -> socket.socket:
    """A socket of the test's own process, which is not below itself: only for a receiver that
    believes everybody."""
    sock = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
    sock.connect("\0" + value[1:] if value[0] == "@" else value)
    return sock


# Where the socket is


def test_the_socket_takes_messages_from_every_user_and_is_removed(monkeypatch, tmp_path):
    tmp_path.chmod(0o755)
    monkeypatch.setitem(posix.environ, b"XDG_RUNTIME_DIR", os.fsencode(tmp_path))
    before = os.umask(0o077)
    try:
        fd, value = sd_notify.make()
        assert os.umask(0o077) == 0o077
    finally:
        os.umask(before)
    assert Path(value).parent == tmp_path
    assert stat.S_ISSOCK(os.stat(value).st_mode) and stat.S_IMODE(os.stat(value).st_mode) == 0o666
    assert not os.get_inheritable(fd) and not os.get_blocking(fd)
    sd_notify.remove(value)
    assert not Path(value).exists()
    sd_notify.remove(value)
    os.close(fd)


def test_what_an_earlier_one_left_is_swept_and_what_is_alive_stays(monkeypatch, tmp_path):
    tmp_path.chmod(0o755)
    monkeypatch.setitem(posix.environ, b"XDG_RUNTIME_DIR", os.fsencode(tmp_path))
    alive, its_value = sd_notify.make()
    dead, dead_value = sd_notify.make()
    young, young_value = sd_notify.make()
    os.close(dead)
    os.close(young)
    (tmp_path / f"{sd_notify.PREFIX}file").write_text("not a socket")
    (tmp_path / f"{sd_notify.PREFIX}link").symlink_to(dead_value)
    for path in (its_value, dead_value):
        os.utime(path, (0, 0))
    fd, value = sd_notify.make()
    left = {path.name for path in tmp_path.iterdir()}
    assert left == {
        f"{sd_notify.PREFIX}file",
        f"{sd_notify.PREFIX}link",
        *(Path(v).name for v in (value, its_value, young_value)),
    }
    for one in (alive, fd):
        os.close(one)


@pytest.mark.parametrize(
    "why", ["missing", "not a directory", "too long", "relative", "not UTF-8", "private"]
)
def test_another_place_is_found(monkeypatch, tmp_path, why):
    (tmp_path / "file").touch()
    (tmp_path / "private").mkdir(0o700)
    if why == "private":
        require_root()  # whose command may become somebody else
    own = {
        "missing": os.fsencode(tmp_path / "missing"),
        "not a directory": os.fsencode(tmp_path / "file"),
        "too long": b"/" + b"x" * 120,
        "relative": b"here",
        "not UTF-8": b"/\xff",
        "private": os.fsencode(tmp_path / "private"),
    }[why]
    monkeypatch.setitem(posix.environ, b"XDG_RUNTIME_DIR", own)
    fd, value = sd_notify.make()
    assert value.startswith(sd_notify.DIRECTORIES) and not value.startswith(str(tmp_path))
    os.close(fd)
    sd_notify.remove(value)


def test_an_abstract_address_when_no_directory_takes_it(monkeypatch):
    monkeypatch.setattr(sd_notify, "DIRECTORIES", ("/nonexistent",))
    monkeypatch.delitem(posix.environ, b"XDG_RUNTIME_DIR", raising=False)
    fd, value = sd_notify.make()
    assert value.startswith("@gracewrap-notify-")
    with driving() as driver:
        room = Hall(driver, os.getpid(), value, fd)
        with ended(room.send("READY=1", "wait")):
            room.until_heard(1)
        room.receiver.close()
    sd_notify.remove(value)


# Who is believed


def test_a_child_is_heard_and_its_pid_known(hall):
    with ended(hall.send("READY=1\nSTATUS=up", "X_GRACEWRAP=drained", "wait")) as child:
        hall.until_heard(2)
        assert hall.heard == [
            Message(child.pid, {"READY": "1", "STATUS": "up"}),
            Message(child.pid, {"X_GRACEWRAP": "drained"}),
        ]
    assert hall.receiver.refused == 0


def test_sigio_alone_tells_of_a_message(hall):
    hall.driver.reactor.run(time.monotonic())
    assert hall.driver.reactor.due(time.monotonic()) is None
    with ended(hall.send("READY=1", "wait")):
        got = signal.sigtimedwait({signal.SIGIO}, BOUND)
        assert got is not None and got.si_code > 0
        hall.driver.reactor.notify_ready()
        hall.driver.reactor.run(time.monotonic())
        assert hall.fields() == [{"READY": "1"}]


def test_one_that_has_ended_is_believed_by_its_user(hall):
    with ended(hall.send("READY=1")) as child:
        assert child.wait(BOUND) == 0  # reaped: nothing of it is left but its credentials
    hall.until_heard(1)
    assert hall.fields() == [{"READY": "1"}]


def test_one_that_has_ended_and_was_somebody_else_is_refused(hall):
    require_other_user()
    with ended(hall.send("READY=1", prefix=OTHER_USER)) as child:
        assert child.wait(BOUND) == 0
    hall.driver.until(lambda: hall.receiver.refused)
    assert hall.heard == []


def test_a_child_that_became_somebody_else_is_heard_and_so_are_its_gone_children():
    require_other_user()
    fd, value = sd_notify.make()
    with driving() as driver:
        leader = subprocess.Popen(
            [*OTHER_USER, "cat"], stdin=subprocess.PIPE, stdout=subprocess.PIPE
        )
        with ended(leader):
            assert leader.stdin and leader.stdout
            leader.stdin.write(b"up\n")
            leader.stdin.flush()
            assert leader.stdout.readline() == b"up\n"  # setpriv has exec'd
            room = Hall(driver, leader.pid, value, fd)
            with ended(room.send("READY=1", prefix=OTHER_USER)) as child:
                assert child.wait(BOUND) == 0
            with ended(room.send("STOPPING=1", "wait", prefix=OTHER_USER)):
                room.until_heard(2)
            assert room.fields() == [{"READY": "1"}, {"STOPPING": "1"}]
            room.receiver.close()
    sd_notify.remove(value)


def test_a_process_outside_of_the_tree_is_refused(hall):
    """An orphan: it goes to whoever reaps above us, and lives on while we look."""
    reading, writing = os.pipe()
    waiting, ending = os.pipe()
    orphan = (
        f"if (os.fork()): os._exit(0)\nos.setsid()\n{SENDER}\nos.write({writing}, "
        f"b'sent\\n')\nos.read({waiting}, 1)"
    )
    starter = hall.start(
        sys.executable,
        "-I",
        "-S",
        "-c",
        f"import os\n{orphan}",
        "READY=1",
        "X_GRACEWRAP=drained",
        pass_fds=(writing, waiting),
    )
    with ended(starter):
        assert starter.wait(BOUND) == 0
        assert Lines(reading).next() == "sent"
        hall.driver.until(lambda: hall.receiver.refused == 2)
        assert hall.heard == []
    os.close(ending)
    os.close(writing)
    assert readable(reading)  # end of file: the orphan has ended
    for fd in (reading, waiting):
        os.close(fd)


def test_our_own_process_and_helpers_are_refused(hall):
    with sender_of_ours(hall.value) as sock:
        sock.send(b"READY=1")
        hall.driver.until(lambda: hall.receiver.refused == 1)
    with ended(hall.send("READY=1", "wait", process_group=0)) as helper:
        process_tree.HELPERS.add(helper.pid)
        try:
            hall.driver.until(lambda: hall.receiver.refused == 2)
        finally:
            process_tree.HELPERS.discard(helper.pid)
    assert hall.heard == []


def test_credentials_cannot_be_forged(hall):
    require_other_user()
    forging = SENDER.replace(
        "sender.send(word.encode())",
        "sender.sendmsg([word.encode()], "
        "[(1, 2, (os.getppid()).to_bytes(4, 'little') + bytes(8))])",
    )
    with ended(
        hall.start(
            *OTHER_USER,
            sys.executable,
            "-I",
            "-S",
            "-c",
            forging,
            "READY=1",
            stderr=subprocess.PIPE,
        )
    ) as child:
        assert child.stderr and b"PermissionError" in child.stderr.read()
        child.stderr.close()


# Descriptors


def test_a_barrier_is_let_through_and_no_descriptor_is_kept(hall):
    before = len(os.listdir("/proc/self/fd"))
    barrier = """
import os, select, socket
sender = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
sender.connect(os.environ["NOTIFY_SOCKET"])
reading, writing = os.pipe()
sender.send(b"STATUS=before")
socket.send_fds(sender, [b"FDSTORE=1\\nFDNAME=many\\nSTATUS=with them"], [0] * 253)
socket.send_fds(sender, [b"BARRIER=1"], [writing])
os.close(writing)
asking = select.poll()
asking.register(reading, 0)
raise SystemExit(0 if asking.poll(30000) else 1)
"""
    with ended(hall.start(sys.executable, "-I", "-S", "-c", barrier)) as child:
        hall.driver.until(lambda: child.poll() is not None)
        assert child.returncode == 0
    assert hall.fields() == [{"STATUS": "before"}, {"STATUS": "with them"}]
    assert len(os.listdir("/proc/self/fd")) == before


def test_a_socket_that_would_linger_does_not_hold_us_up():
    fd, value = sd_notify.make()
    with driving() as driver, socket.socket() as listener:
        heard: list[Message] = []
        receiver = sd_notify.Receiver(driver.reactor, fd, os.getpid(), lambda _: True, heard.append)
        listener.bind(("127.0.0.1", 0))
        listener.listen()
        client = socket.create_connection(listener.getsockname())
        server = listener.accept()[0]
        client.setblocking(False)
        client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 20))
        with contextlib.suppress(BlockingIOError):
            while True:
                client.send(bytes(1 << 16))
        with sender_of_ours(value) as sock:
            socket.send_fds(sock, [b"FDSTORE=1\nSTATUS=here"], [client.fileno()])
        client.close()
        since = time.monotonic()
        driver.until(lambda: heard)
        assert time.monotonic() - since < 10
        server.close()
        receiver.close()
    sd_notify.remove(value)


def test_without_a_descriptor_left_it_is_heard(monkeypatch):
    import resource

    monkeypatch.setattr(procfs, "_SPARE", [])  # that of a loop in another test would serve

    fd, value = sd_notify.make()
    with driving() as driver, sender_of_ours(value) as sock:
        heard: list[Message] = []
        receiver = sd_notify.Receiver(
            driver.reactor, fd, os.getpid(), process_tree.is_below_us, heard.append
        )
        limits = resource.getrlimit(resource.RLIMIT_NOFILE)
        socket.send_fds(sock, [b"STATUS=here"], [0, 1])
        driver.reactor.run(time.monotonic())
        assert receiver.refused == 1  # /proc says that we are not below ourselves
        socket.send_fds(sock, [b"STATUS=here"], [0, 1])
        free = os.dup(0)
        os.close(free)
        resource.setrlimit(resource.RLIMIT_NOFILE, (free, limits[1]))
        try:
            driver.reactor.notify_ready()
            driver.reactor.run(time.monotonic())
        finally:
            resource.setrlimit(resource.RLIMIT_NOFILE, limits)
        # Nobody can be looked for, and we are alive: by the user, then.
        assert [message.status for message in heard] == ["here"]
        receiver.close()
    sd_notify.remove(value)


# Floods and garbage


def test_a_flood_is_read_in_short_goes(hall):
    flood = (
        SENDER + "\nfor number in range(10000): sender.send(b'X_GRACEWRAP_IN_FLIGHT=%d' % "
        "number)\nsys.stdin.readline()"
    )
    with ended(hall.start(sys.executable, "-I", "-S", "-c", flood)):
        while len(hall.heard) < 10000:
            assert readable(hall.fd)
            count = len(hall.heard)
            hall.driver.reactor.notify_ready()
            hall.driver.reactor.run(time.monotonic())
            assert len(hall.heard) - count <= sd_notify.AT_ONCE
    assert [message.in_flight for message in hall.heard] == list(range(10000))


def test_what_is_too_long_or_empty_is_ignored():
    fd, value = sd_notify.make()
    with driving() as driver, sender_of_ours(value) as sock:
        heard: list[Message] = []
        receiver = sd_notify.Receiver(driver.reactor, fd, os.getpid(), lambda _: True, heard.append)
        most = b"STATUS=" + b"x" * (sd_notify.MESSAGE - 7)
        for datagram in (b"", most + b"x", bytes(60000), b"BARRIER=1", b"nothing", most):
            sock.send(datagram)
        driver.until(lambda: heard)
        assert [message.fields for message in heard] == [{"STATUS": "x" * (sd_notify.MESSAGE - 7)}]
        assert heard[0].status == "x" * sd_notify.STATUS
        receiver.close()
        with pytest.raises(ConnectionRefusedError):
            sock.send(b"READY=1")
    sd_notify.remove(value)


def test_it_may_be_closed_by_whom_it_tells():
    fd, value = sd_notify.make()
    with driving() as driver, sender_of_ours(value) as sock:
        heard: list[Message] = []

        def said(message: Message) -> None:
            heard.append(message)
            receiver.close()
            receiver.close()

        receiver = sd_notify.Receiver(driver.reactor, fd, os.getpid(), lambda _: True, said)
        sock.send(b"READY=1")
        sock.send(b"READY=1")
        driver.until(lambda: heard)
        assert len(heard) == 1
    sd_notify.remove(value)


WORDS = st.one_of(st.binary(max_size=40), st.sampled_from([key.encode() for key in sd_notify.KEYS]))
DATAGRAMS = st.lists(
    st.tuples(WORDS, st.sampled_from([b"=", b"\n", b"", b"==", b"\0"]), WORDS)
).map(lambda parts: b"\n".join(b"".join(part) for part in parts))


@given(DATAGRAMS)
def test_no_message_does_harm(data):
    message = Message(7, parse(data))
    assert set(message.fields) <= sd_notify.KEYS
    for seconds in (message.extend_timeout, message.watchdog_timeout):
        assert seconds is None or 0 <= seconds <= sd_notify.LONGEST
    assert message.status is None or (
        message.status.isprintable() and len(message.status) <= sd_notify.STATUS
    )
    assert message.main_pid is None or message.main_pid > 1
    state = NotifyState()
    state.update(message)
    answers: list[Reading] = []
    for assignment in ("READY=1", "X_GRACEWRAP=drained", "X_GRACEWRAP=done"):
        NotifyProbe(NotifyProbeSpec(assignment), state).sample(answers.append)
    assert len(answers) == 3 and answers[2].kind == INVALID
    assert (message.ready, message.stopping, message.watchdog, message.watchdog_trigger) <= (
        True,
    ) * 4


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("EXTEND_TIMEOUT_USEC=2500000", {"extend_timeout": 2.5}),
        ("EXTEND_TIMEOUT_USEC=18446744073709551615", {"extend_timeout": sd_notify.LONGEST}),
        ("EXTEND_TIMEOUT_USEC=0", {"extend_timeout": None}),
        ("EXTEND_TIMEOUT_USEC=-5", {"extend_timeout": None}),
        ("EXTEND_TIMEOUT_USEC=1e9", {"extend_timeout": None}),
        ("EXTEND_TIMEOUT_USEC=\u0661", {"extend_timeout": None}),
        ("WATCHDOG=1", {"watchdog": True, "watchdog_trigger": False}),
        ("WATCHDOG=trigger", {"watchdog": False, "watchdog_trigger": True}),
        ("WATCHDOG_USEC=0", {"watchdog_timeout": 0.0, "watchdog": False}),
        ("MAINPID=4711", {"main_pid": 4711}),
        ("MAINPID=0", {"main_pid": None}),
        ("MAINPID=1", {"main_pid": None}),
        ("MAINPID=99999999999", {"main_pid": None}),
        ("STATUS=3 jobs\x1b[2J left\u202e\r", {"status": "3 jobs [2J left"}),
        ("STATUS=", {"status": ""}),
        ("READY=1\nREADY=0\0", {"ready": True, "status": None}),
        ("READY=1\0STOPPING=1", {"ready": False}),
        ("X_GRACEWRAP=drained", {"drained": True}),
        ("X_GRACEWRAP=busy", {"drained": False}),
        ("X_GRACEWRAP=", {"drained": None}),
        ("X_GRACEWRAP_IN_FLIGHT=7", {"in_flight": 7}),
    ],
)
def test_what_is_said(text, said):
    message = Message(7, parse(text.encode()))
    assert {name: getattr(message, name) for name in said} == said


# The probe


def test_the_probe_answers_from_what_was_said():
    state = NotifyState()

    def say(text: str) -> list[Reading]:
        state.update(Message(7, parse(text.encode())))
        answers: list[Reading] = []
        for assignment in ("READY=1", "X_GRACEWRAP=drained"):
            NotifyProbe(NotifyProbeSpec(assignment), state).sample(answers.append)
        return answers

    assert say("") == [
        Reading(BUSY, None, "READY=1 not received yet"),
        Reading(BUSY, None, "X_GRACEWRAP=drained not received yet"),
    ]
    assert say("READY=1\nSTATUS=up")[0] == Reading(DRAINED)
    assert say("X_GRACEWRAP_IN_FLIGHT=3")[1] == Reading(BUSY, 3, "3 in flight, up")
    assert say("X_GRACEWRAP_IN_FLIGHT=0")[1].kind == BUSY  # idle is not drained
    assert say("X_GRACEWRAP=drained") == [Reading(DRAINED)] * 2
    assert say("STOPPING=1")[1].kind == DRAINED
    assert say("X_GRACEWRAP=busy")[1].kind == BUSY
    assert say("X_GRACEWRAP=drained")[1].kind == DRAINED
    assert say("X_GRACEWRAP_IN_FLIGHT=1\nSTATUS=")[1] == Reading(BUSY, 1, "1 in flight")
    assert say("X_GRACEWRAP_IN_FLIGHT=0\nX_GRACEWRAP=drained")[1].kind == DRAINED


# MAINPID


def test_the_main_process_must_be_below_us(hall):
    with ended(hall.send("wait")) as child:
        fd = sd_notify.open_main(child.pid, process_tree.is_below_us)
        assert fd is not None and not os.get_inheritable(fd)
        signal.pidfd_send_signal(fd, signal.SIGKILL)
        assert child.wait(BOUND) == -signal.SIGKILL
        os.close(fd)
        before = len(os.listdir("/proc/self/fd"))
        for pid in (child.pid, os.getpid(), os.getppid(), 1, 0, -1, 2**22 + 1):
            assert sd_notify.open_main(pid, process_tree.is_below_us) is None, pid
        assert len(os.listdir("/proc/self/fd")) == before


# Programs that others have written


def test_systemd_notify(hall):
    require(shutil.which("systemd-notify"), "systemd-notify(1), from systemd")
    script = (
        "systemd-notify --ready --status='3 jobs left' && systemd-notify X_GRACEWRAP=drained "
        "&& echo done"
    )
    with ended(hall.start("sh", "-c", script, stdout=subprocess.PIPE)) as shell:
        hall.driver.until(
            lambda: shell.poll() is not None
        )  # its barrier is let through, or it would wait for 5 s
        assert shell.stdout and shell.stdout.read() == b"done\n"
    hall.until_heard(2)
    assert hall.heard[0].ready and hall.heard[0].status == "3 jobs left"
    assert hall.heard[1].drained and hall.receiver.refused == 0


def test_redis(hall, tmp_path):
    require(shutil.which("redis-server"), "redis-server")
    options = (
        "--supervised",
        "systemd",
        "--port",
        "0",
        "--unixsocket",
        "redis.sock",
        "--save",
        "",
        "--dir",
        str(tmp_path),
    )
    with ended(
        hall.start("redis-server", *options, cwd=tmp_path, stdout=subprocess.DEVNULL)
    ) as redis:
        hall.driver.until(lambda: any(message.ready for message in hall.heard))
        assert {message.pid for message in hall.heard} == {redis.pid}
        redis.send_signal(signal.SIGTERM)
        hall.driver.until(lambda: any(message.stopping for message in hall.heard))
        hall.driver.until(lambda: redis.poll() is not None)
        assert redis.returncode == 0


def test_a_sender_waits_until_it_is_read(hall):
    """The queue of a datagram socket is short (net.unix.max_dgram_qlen): what comes before we look
    is kept, not lost."""
    with ended(hall.send(*(f"STATUS={number}" for number in range(100)), "wait")):
        assert readable(hall.fd)
        select.select([], [], [], 0)
        hall.until_heard(100)
    assert [message.status for message in hall.heard] == [str(number) for number in range(100)]
