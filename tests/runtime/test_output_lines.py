"""The programs' output: real programs write into our pipes, and what stands for our stdout is read
late, never, or not at all."""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import pty
import resource
import select
import signal
import subprocess
import sys
import termios
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from gracewrap.linux import spawn
from gracewrap.runtime import output_lines
from gracewrap.runtime.output_lines import KEPT, LONGEST, LineSplitter, Outputs
from processes import require
from reactor_driver import Driver, driving, readable

PYTHON = [sys.executable, "-I", "-S", "-c"]
PIPE = 65536  # bytes that a pipe holds (pipe(7))


class Stage:
    """Outputs whose stdout and stderr are descriptors of the test, and programs that write into
    them."""

    def __init__(self, driver: Driver, out: int, err: int) -> None:
        self.driver = driver
        self.outputs = Outputs(driver.reactor, driver.faults.append, (out, err))
        self.running: set[int] = set()

    def open(
        self,
        name: str = "web",
        how: str = "through",
        width: int = 3,
        on_line: Callable[[bytes], None] | None = None,
    ):
        return self.outputs.open(name, how, width, on_line)

    def start(self, opened: output_lines.Output, code: str) -> int:
        pid, _, errno = spawn.spawn([*PYTHON, code], None, stdio=opened.stdio, no_stdin=True)
        assert errno == 0
        self.running.add(pid)
        return pid

    def gone(self, pid: int) -> bool:
        """Return whether it has exited; it is reaped then."""
        if pid in self.running and os.waitpid(pid, os.WNOHANG)[0]:
            self.running.remove(pid)
        return pid not in self.running

    def run(self, opened: output_lines.Output, code: str, **options: Callable[[], object]) -> None:
        """Run a program to its end, and take in what it has written."""
        pid = self.start(opened, code)
        self.driver.until(lambda: self.gone(pid), **options)
        opened.drain()

    def fill(self) -> None:
        """Have a program write more than is kept for a reader that does not read, and end it."""
        web = self.open()
        pid = self.start(web, FLOOD.format(lines=8000))
        self.driver.until(lambda: web.streams[0]._target.full and self.at_rest())
        os.kill(pid, signal.SIGKILL)
        self.driver.until(lambda: self.gone(pid))

    def written(self) -> bool:
        """Return whether all that was drained has been written."""
        return all(
            not stream._ends and stream._target.empty
            for one in self.outputs._all
            for stream in one.streams
        )

    def at_rest(self) -> bool:
        """Return whether nothing is due, after a last look."""
        self.driver.reactor.run(time.monotonic())
        return self.driver.reactor.due(time.monotonic()) is None


@contextlib.contextmanager
def on_stage(out: int, err: int | None = None) -> Iterator[Stage]:
    with driving() as driver:
        stage = Stage(driver, out, out if err is None else err)
        try:
            yield stage
        finally:
            for pid in stage.running:
                os.kill(pid, signal.SIGKILL)
                os.waitpid(pid, 0)
            stage.outputs.close(0)


class Reader:
    """The other end of our stdout: reads when it is told to, and keeps what it has read."""

    def __init__(self) -> None:
        self.reading, self.writing = os.pipe()
        os.set_blocking(self.reading, False)
        self.got = b""

    def read(self, most: int = 1 << 20) -> None:
        with contextlib.suppress(BlockingIOError):
            self.got += os.read(self.reading, most)

    def rest(self) -> bytes:
        """Read until nothing is left."""
        before = None
        while before != len(self.got):
            before = len(self.got)
            self.read()
        return self.got

    def lines(self) -> list[bytes]:
        got = self.rest()
        assert not got or got.endswith(b"\n")
        return got.split(b"\n")[:-1]


@pytest.fixture
def reader() -> Iterator[Reader]:
    reader = Reader()
    yield reader
    for fd in (reader.reading, reader.writing):
        with contextlib.suppress(OSError):
            os.close(fd)


# --- lines ---------------------------------------------------------------------------------------


def cut(pieces: list[bytes], longest: int = LONGEST) -> list[bytes]:
    """Return the lines and parts of lines that come of *pieces*."""
    cutter = LineSplitter(longest)
    blocks = [block for piece in pieces for block in cutter.feed(piece)] + [cutter.end()]
    return split(blocks)


def split(blocks: list[bytes]) -> list[bytes]:
    found: list[bytes] = []
    for block in blocks:
        found += (
            [line + b"\n" for line in block.split(b"\n")[:-1]]
            if block.endswith(b"\n")
            else [block]
            if block
            else []
        )
    return found


DATA = st.lists(
    st.sampled_from([b"a", b"\n", b"\r\n", b"\0", b"\xff", b"bcdef", b"g" * 30, b"\x1b[1m"]),
    max_size=60,
).map(b"".join)


@given(DATA, st.lists(st.integers(0, 200), max_size=20), st.sampled_from([1, 2, 7, 40, LONGEST]))
@example(b"a\n" * 3, [1, 2, 3], 1)
def test_lines_are_the_same_however_they_come(data, cuts, longest):
    cuts = sorted(cut for cut in cuts if cut < len(data))
    pieces = [data[begin:end] for begin, end in zip([0, *cuts], [*cuts, len(data)])]
    lines = cut(pieces, longest)
    assert lines == cut([data], longest)
    ended = data if data.endswith(b"\n") or not data else data + b"\n"
    assert b"".join(lines) == ended
    assert all(len(line.removesuffix(b"\n")) <= longest for line in lines)
    if longest == LONGEST:
        assert lines == [line + b"\n" for line in ended.split(b"\n")[:-1]]


@given(
    st.lists(
        st.binary(max_size=20).map(lambda line: line.replace(b"\n", b"")), min_size=1, max_size=20
    )
)
def test_each_line_becomes_one_of_ours(lines):
    block = b"".join(line + b"\n" for line in lines)
    assert output_lines._prefixed("web", None)(block) == b"".join(
        b"web | " + line + b"\n" for line in lines
    )
    told = output_lines._json_lines("web", "stderr")(block)
    assert told.count(b"\n") == len(lines)
    for line, one in zip(lines, told.split(b"\n")):
        assert json.loads(one)["message"] == line.decode("utf-8", "backslashreplace")


def test_a_line_that_comes_byte_by_byte_takes_no_longer_with_its_length():
    cutter = LineSplitter()
    begun = time.process_time()
    for _ in range(LONGEST):
        assert not cutter.feed(b"x")
    assert cutter.feed(b"\n") == [b"x" * LONGEST + b"\n"]
    assert time.process_time() - begun < 10  # copied anew for each byte, it is half a terabyte


# --- what is written -----------------------------------------------------------------------------


def test_through_passes_lines_on_as_they_are(reader):
    with on_stage(reader.writing) as stage:
        web = stage.open()
        stage.run(
            web,
            r"import os; os.write(1, b'one\r\n\x00\xff two\n\n'); os.write(2, b'three\n'); "
            r"os.write(1, b'no end')",
        )
        assert sorted(reader.lines()) == sorted(
            [b"one\r", b"\x00\xff two", b"", b"three", b"no end"]
        )
        stage.driver.until(stage.at_rest)


def test_stdout_and_stderr_go_where_ours_do():
    out, err = Reader(), Reader()
    with on_stage(out.writing, err.writing) as stage:
        web = stage.open("web", "prefix", 8)
        stage.run(web, r"import os; os.write(1, b'one\n'); os.write(2, b'two\n')")
        assert out.lines() == [b"web      | one"]
        assert err.lines() == [b"web      | two"]
        assert [number for _, number in stage.outputs.sources()] == [out.writing, err.writing]
    for fd in (out.reading, out.writing, err.reading, err.writing):
        os.close(fd)


def test_json_wraps_each_line(reader):
    with on_stage(reader.writing) as stage:
        web = stage.open("web", "json")
        stage.run(
            web,
            r"""import os
os.write(2, b'{"level": "info"}\n\xc3\xbc \xff \xed\xa0\x80 "\\\n\x00\r\n')""",
        )
        told = [json.loads(line) for line in reader.lines()]
        assert [one["message"] for one in told] == [
            '{"level": "info"}',
            'ü \\xff \\xed\\xa0\\x80 "\\',
            "\0\r",
        ]
        assert {(one["source"], one["program"], one["stream"]) for one in told} == {
            ("output", "web", "stderr")
        }
        assert all(one["time"].endswith("Z") and one["time"][19] == "." for one in told)


def test_each_line_is_told_without_its_end_and_what_fails_there_costs_no_line(reader):
    heard: list[bytes] = []

    def on_line(line: bytes) -> None:
        heard.append(line)
        raise ValueError(line)

    with on_stage(reader.writing) as stage:
        web = stage.open("web", "prefix", 3, on_line)
        stage.run(web, r"import os; os.write(1, b'one\r\ntwo\n\nno end')")
        assert heard == [b"one", b"two", b"", b"no end"]
        assert reader.lines() == [b"web | one\r", b"web | two", b"web | ", b"web | no end"]
        assert len(stage.driver.faults) == 4
        stage.driver.faults.clear()
        web.listen(None)
        stage.run(web, "print('more')")
        assert len(heard) == 4


def test_a_line_that_a_slow_reader_has_held_up_is_not_told_of_the_next_life(reader):
    heard: list[bytes] = []
    with on_stage(reader.writing) as stage:
        db, web = stage.open("db"), stage.open("web", on_line=heard.append)
        flood = stage.start(db, "while True: print('x' * 99)")
        stage.driver.until(lambda: db.streams[0]._target.full)
        stage.run(web, "print('up')")
        assert not stage.written() and not heard
        os.kill(flood, signal.SIGKILL)
        stage.driver.until(lambda: stage.gone(flood))
        db.drain()
        pid = stage.start(web, "print('again')")
        stage.driver.until(
            lambda: stage.gone(pid) and heard and stage.written(), meanwhile=reader.read
        )
        assert heard == [b"again"]
        assert b"up" in reader.lines()


def test_a_restarted_program_goes_on_with_the_same_pipes(reader):
    with on_stage(reader.writing) as stage:
        web = stage.open("web", "prefix")
        before = web.stdio
        for number in range(3):
            stage.run(web, f"import os; os.write(1, b'line\\nbegun {number}')")
        assert web.stdio == before
        assert reader.lines() == [
            b"web | line",
            b"web | begun 0",
            b"web | line",
            b"web | begun 1",
            b"web | line",
            b"web | begun 2",
        ]


def test_a_restarted_program_finds_its_pipes_as_they_were_made(reader):
    """Node makes them non-blocking, for whoever has them."""
    with on_stage(reader.writing) as stage:
        web = stage.open()
        stage.run(web, "import os; os.set_blocking(1, False); os.write(1, b'no end')")
        assert os.get_blocking(web.stdio[0])
        assert reader.lines() == [b"no end"]


def test_a_line_without_an_end_is_held_until_its_end_comes(reader):
    with on_stage(reader.writing) as stage:
        web = stage.open()
        other = stage.open("other")
        go, tell = os.pipe()
        os.set_inheritable(go, True)
        pid = stage.start(
            web, f"import os; os.write(1, b'beg'); os.read({go}, 1); os.write(1, b'un\\n')"
        )
        stage.driver.until(lambda: web.streams[0]._taken == 3)
        stage.run(other, "print('whole', flush=True)")
        assert reader.rest() == b"whole\n"
        os.write(tell, b"x")
        stage.driver.until(lambda: stage.gone(pid))
        web.drain()
        assert reader.rest() == b"whole\nbegun\n"
        os.close(go)
        os.close(tell)


@pytest.mark.parametrize("how", ["through", "prefix"])
def test_a_line_of_5_mib_goes_in_parts(reader, how):
    with on_stage(reader.writing) as stage:
        web = stage.open("web", how)
        size = 5 * LONGEST + 7
        code = f"import sys; sys.stdout.write('x' * {size} + '\\nshort\\n')"
        stage.run(web, code, meanwhile=reader.read)
        stage.driver.until(lambda: reader.rest().endswith(b"short\n"))
        if how == "through":
            assert reader.got == b"x" * size + b"\nshort\n"
        else:
            assert [len(line) - len("web | ") for line in reader.lines()] == [LONGEST] * 5 + [7, 5]


def test_many_write_at_once_and_no_line_is_lost_or_mixed(reader):
    """Each writes its lines in odd pieces, some to stdout and some to stderr, which are the
    same."""
    code = """if True:
        import os, sys
        for number in range(2000):
            line, at = b'%d %s end\\n' % (number, b'y' * (number * 7 % 300)), 0
            while at < len(line):
                at += os.write(1 + number % 2, line[at:at + 97])
    """
    with on_stage(reader.writing) as stage:
        opened = {name: stage.open(name, "prefix") for name in ("a", "bb", "ccc", "dddd")}
        pids = [stage.start(one, code) for one in opened.values()]
        stage.driver.until(lambda: all(stage.gone(pid) for pid in pids), meanwhile=reader.read)
        for one in opened.values():
            one.drain()
        stage.driver.until(stage.written, meanwhile=reader.read)
        lines = reader.lines()
        for name in opened:
            own = [
                line.split(b" | ")[1]
                for line in lines
                if line.startswith(name.ljust(3).encode() + b" | ")
            ]
            whole = [b"%d %s end" % (number, b"y" * (number * 7 % 300)) for number in range(2000)]
            assert sorted(own) == sorted(whole)
            assert [line for line in own if int(line.split()[0]) % 2] == whole[
                1::2
            ]  # the order of each stream
        assert len(lines) == 8000


# --- readers that are slow, stopped, gone --------------------------------------------------------

FLOOD = """if True:
    import os
    for number in range({lines}):
        data = b'%07d %s\\n' % (number, b'z' * 90)
        while data:
            data = data[os.write(1, data):]
"""


def flooded(lines: int, prefix: bytes = b"") -> bytes:
    return b"".join(prefix + b"%07d %s\n" % (number, b"z" * 90) for number in range(lines))


@pytest.mark.parametrize("how", ["through", "prefix"])
def test_a_stopped_reader_holds_the_program_up_and_not_us(reader, how):
    with on_stage(reader.writing) as stage:
        web = stage.open("web", how)
        pid = stage.start(web, FLOOD.format(lines=50_000))  # 5 MB
        target = web.streams[0]._target
        ticks: list[float] = []
        stage.driver.until(
            lambda: target.full and stage.at_rest(),
            meanwhile=lambda: ticks.append(time.monotonic()),
        )
        assert target._size <= KEPT + PIPE // 2
        wait_until_blocked(pid)
        assert stage.at_rest()  # no timer, nothing that is watched and ready
        assert (
            max(after - before for before, after in zip(ticks, ticks[1:])) < 1
        )  # SIGIO is fetched after 10 ms at the latest
        stage.driver.until(lambda: stage.gone(pid), meanwhile=lambda: reader.read(10_000))
        web.drain()
        stage.driver.until(stage.written, meanwhile=reader.read)
        assert reader.rest() == flooded(50_000, b"" if how == "through" else b"web | ")


def wait_until_blocked(pid: int) -> None:
    """Wait until a process sleeps in write(2): its pipe is full."""
    end = time.monotonic() + 30
    while Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "S":
        assert time.monotonic() < end
        select.select([], [], [], 0.005)


def test_a_program_that_ends_while_the_reader_is_stopped(reader):
    """What its pipe holds is taken in when there is room; its last line gets its end, also if it
    has been started again."""
    with on_stage(reader.writing) as stage:
        web, noisy = stage.open("web"), stage.open("noisy")
        flood = stage.start(noisy, FLOOD.format(lines=50_000))
        stage.driver.until(lambda: web.streams[0]._target.full and stage.at_rest())
        for number in range(3):
            pid = stage.start(web, f"import os; os.write(1, b'begun {number}')")
            stage.driver.until(lambda pid=pid: stage.gone(pid))
            web.drain()
        stage.driver.until(lambda: stage.gone(flood), meanwhile=reader.read)
        noisy.drain()
        stage.driver.until(stage.written, meanwhile=reader.read)
        lines = reader.lines()
        assert [line for line in lines if line.startswith(b"begun")] == [
            b"begun 0",
            b"begun 1",
            b"begun 2",
        ]
        assert len(lines) == 50_003


def test_everybody_gets_a_turn_with_a_slow_reader(reader):
    with on_stage(reader.writing) as stage:
        opened = [stage.open(f"p{number}", "prefix", 2) for number in range(6)]
        for one in opened:
            stage.start(one, FLOOD.format(lines=1_000_000))
        # With somebody always first, the last would never come so far.
        stage.driver.until(
            lambda: all(one.streams[0]._taken > 500_000 for one in opened),
            meanwhile=lambda: reader.read(20_000),
        )


@pytest.mark.parametrize("how", ["through", "json"])
def test_a_reader_that_is_gone_costs_lines_and_nothing_else(reader, how):
    with on_stage(reader.writing) as stage:
        web = stage.open("web", how)
        pid = stage.start(web, FLOOD.format(lines=20_000))
        stage.driver.until(lambda: web.streams[0]._target.full)
        os.close(reader.reading)
        stage.driver.until(lambda: stage.gone(pid))
        web.drain()
        assert (
            20_000 - 6000 < stage.outputs.lost <= 20_000
        )  # without those that were in the reader's pipe
        stage.driver.until(stage.at_rest)


def test_nobody_there_from_the_start(reader):
    os.close(reader.reading)
    with on_stage(reader.writing) as stage:
        stage.run(stage.open(), "print('one\\ntwo')")
        assert stage.outputs.lost == 2
    with on_stage(9999) as stage:  # closed
        stage.run(stage.open(), "print('one\\ntwo')")
        assert stage.outputs.lost == 2


def test_a_full_disk_costs_lines_and_nothing_else():
    full = os.open("/dev/full", os.O_WRONLY)
    with on_stage(full) as stage:
        stage.run(stage.open(), FLOOD.format(lines=5000))
        assert stage.outputs.lost == 5000
        stage.driver.until(stage.at_rest)
    os.close(full)


def test_a_disk_that_is_full_for_a_while_leaves_no_torn_line(tmp_path):
    """RLIMIT_FSIZE of this process stands for the disk: EFBIG after a line that fits only half."""
    path = tmp_path / "out"
    fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    with on_stage(fd) as stage:
        web = stage.open()
        try:
            resource.setrlimit(resource.RLIMIT_FSIZE, (10, hard))
            os.write(web.stdio[0], b"first\nsecond\n")
            stage.driver.until(lambda: stage.outputs.lost)
            os.write(web.stdio[0], b"third\n")
            stage.driver.until(lambda: stage.outputs.lost == 2)
        finally:
            resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
        os.write(web.stdio[0], b"fourth\n")
        stage.driver.until(lambda: path.read_bytes() == b"first\nseco\nfourth\n")
    os.close(fd)


def test_a_file_takes_everything(tmp_path):
    fd = os.open(tmp_path / "out", os.O_WRONLY | os.O_CREAT)
    with on_stage(fd) as stage:
        stage.run(stage.open("web", "prefix"), FLOOD.format(lines=20_000))
        assert (tmp_path / "out").read_bytes() == flooded(20_000, b"web | ")
    os.close(fd)


def test_a_socket_is_written_without_waiting():
    """It cannot be opened anew, so it is tried again by the clock."""
    import socket

    ours, theirs = socket.socketpair()
    theirs.settimeout(0)
    got = bytearray()

    def read() -> None:
        with contextlib.suppress(BlockingIOError):
            got.extend(theirs.recv(1 << 16))

    with ours, theirs, on_stage(ours.fileno()) as stage:
        assert ours.getblocking()
        web = stage.open()
        pid = stage.start(web, FLOOD.format(lines=20_000))
        stage.driver.until(lambda: web.streams[0]._target.full)
        due = stage.driver.reactor.due(time.monotonic())
        assert due is not None
        stage.driver.until(lambda: stage.gone(pid), meanwhile=read)
        web.drain()
        stage.driver.until(lambda: len(got) >= len(flooded(20_000)), meanwhile=read)
        assert bytes(got) == flooded(20_000)
        assert ours.getblocking()
        stage.driver.until(stage.at_rest)


def test_the_flags_of_our_stdout_are_not_touched(reader):
    before = fcntl.fcntl(reader.writing, fcntl.F_GETFL)
    with on_stage(reader.writing) as stage:
        web = stage.open()
        stage.start(web, FLOOD.format(lines=10_000))
        stage.driver.until(lambda: web.streams[0]._target.full)
        assert fcntl.fcntl(reader.writing, fcntl.F_GETFL) == before


@pytest.mark.parametrize("call", ["read", "write"])
def test_a_call_that_fails_is_made_again(reader, monkeypatch, call):
    """No memory for the bytes; faked, everything else is real."""
    real, failed = getattr(output_lines.posix, call), []

    def failing(fd: int, *args: object) -> object:
        if not failed and fd not in (reader.reading, web.stdio[0]):
            failed.append(fd)
            raise MemoryError
        return real(fd, *args)

    with on_stage(reader.writing) as stage:
        web = stage.open()
        os.write(web.stdio[0], b"one\ntwo\n")
        monkeypatch.setattr(output_lines.posix, call, failing)
        stage.driver.until(lambda: reader.rest() == b"one\ntwo\n")
        assert failed and [type(fault) for fault in stage.driver.faults] == [MemoryError]
        stage.driver.faults.clear()


# --- the end -------------------------------------------------------------------------------------


def test_an_orphan_that_keeps_the_pipe_open_holds_nothing_up(reader):
    """It floods, and outlives its program: drain() takes what is there, and what follows is still
    passed on."""
    with on_stage(reader.writing) as stage:
        web = stage.open()
        pid = stage.start(
            web,
            "import os\n"
            "pid = os.fork()\n"
            "if pid: os.write(2, b'%d\\n' % pid); os._exit(0)\n"
            "while True: os.write(1, b'orphan\\n' * 1000)",
        )
        stage.driver.until(lambda: stage.gone(pid), meanwhile=reader.read)
        begun = time.monotonic()
        web.drain()
        stage.driver.until(
            lambda: any(line.isdigit() for line in reader.got.split(b"\n")), meanwhile=reader.read
        )
        orphan = next(int(line) for line in reader.got.split(b"\n") if line.isdigit())
        size = len(reader.got)
        stage.driver.until(lambda: len(reader.got) > size + 500_000, meanwhile=reader.read)
        stage.outputs.close(
            time.monotonic() + 0.3
        )  # its own pipe has no reader now: it gets SIGPIPE
        assert time.monotonic() - begun < 20
        with contextlib.suppress(ProcessLookupError):
            os.kill(orphan, signal.SIGKILL)


def test_close_takes_what_is_there_and_writes_until_its_time(reader):
    with on_stage(reader.writing) as stage:
        web = stage.open()
        os.write(web.stdio[0], b"one\n" * 1000 + b"no end")
        stage.outputs.close(0)
        assert reader.lines() == [b"one"] * 1000 + [b"no end"]
        assert stage.outputs.lost == 0 and stage.outputs.sources() == []


def test_close_waits_for_a_slow_reader_no_longer_than_it_may(reader):
    with on_stage(reader.writing) as stage:
        stage.fill()
        begun = time.monotonic()
        stage.outputs.close(begun + 0.2)
        assert 0.2 <= time.monotonic() - begun < 10
        assert stage.outputs.lost > 1900  # all that was kept, and in the program's pipe
        whole, _, torn = reader.rest().rpartition(b"\n")
        assert flooded(8000).startswith(whole) and torn == b""


def test_close_waits_for_a_slow_reader_as_long_as_it_reads(reader):
    """Its pauses are shorter than the patience, all of it takes longer."""
    script = (
        "import os, select\nwhile os.read(0, 2048):\n    select.select([], [], [], 0.03)\n    "
        "os.write(1, b'.')\n"
    )
    with on_stage(reader.writing) as stage:
        stage.fill()
        with subprocess.Popen(
            [sys.executable, "-c", script], stdin=reader.reading, stdout=subprocess.DEVNULL
        ) as slow:
            begun = time.monotonic()
            stage.outputs.close(begun + 60, 1.5)
            assert time.monotonic() - begun > 1.5
            assert stage.outputs.lost == 0
            slow.kill()


def test_close_gives_up_on_a_reader_that_reads_no_more(reader):
    with on_stage(reader.writing) as stage:
        stage.fill()
        begun = time.monotonic()
        stage.outputs.close(begun + 60, 0.1)
        assert time.monotonic() - begun < 30
        assert stage.outputs.lost > 0


def test_close_writes_all_to_a_reader_that_reads(reader):
    with on_stage(reader.writing) as stage:
        web = stage.open("web", "prefix")
        pid = stage.start(
            web, FLOOD.format(lines=3000)
        )  # more than the pipes hold, less than is kept
        stage.driver.until(lambda: stage.gone(pid))
        cat = os.fork()
        if cat == 0:
            os.set_blocking(reader.reading, True)
            os.close(reader.writing)
            size = 0
            while size < len(flooded(3000, b"web | ")):
                size += len(os.read(reader.reading, 1000))
            os._exit(17)
        stage.outputs.close(time.monotonic() + 30)
        assert os.waitstatus_to_exitcode(os.waitpid(cat, 0)[1]) == 17
        assert stage.outputs.lost == 0


def test_one_output_can_be_closed_by_itself(reader):
    with on_stage(reader.writing) as stage:
        before = len(os.listdir("/proc/self/fd"))
        web, other = stage.open(), stage.open("other")
        assert len(os.listdir("/proc/self/fd")) == before + 8 + 1  # and one for the target
        os.write(web.stdio[0], b"one\nno end")
        web.close()
        web.close()
        web.drain()
        assert reader.lines() == [b"one", b"no end"]
        assert [fd for fd, _ in stage.outputs.sources()] == [
            stream.reading for stream in other.streams
        ]
        stage.outputs.close(0)
        assert len(os.listdir("/proc/self/fd")) == before


def test_no_descriptors_left(reader):
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    with on_stage(reader.writing) as stage:
        stage.open()
        before = os.listdir("/proc/self/fd")
        taken: list[int] = []
        resource.setrlimit(resource.RLIMIT_NOFILE, (max(map(int, before)) + 10, hard))
        try:
            with contextlib.suppress(OSError):
                while True:
                    taken.append(os.dup(0))
            for fd in taken[:3]:
                os.close(fd)
            with pytest.raises(
                OSError,
                match=r"output of db: Too many open files; it needs 4 descriptors \(raise ulimit "
                r"-n\)",
            ):
                stage.open("db")
        finally:
            resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
            for fd in taken[3:]:
                os.close(fd)
        assert os.listdir("/proc/self/fd") == before
        stage.run(stage.open("db"), "print('there')")
        assert reader.lines() == [b"there"]


# --- terminals -----------------------------------------------------------------------------------


@contextlib.contextmanager
def terminal() -> Iterator[tuple[int, int]]:
    master, slave = pty.openpty()
    attributes = termios.tcgetattr(slave)
    attributes[1] &= ~termios.OPOST
    attributes[3] &= ~(termios.ECHO | termios.ICANON)
    termios.tcsetattr(slave, termios.TCSANOW, attributes)
    os.set_blocking(master, False)
    try:
        yield master, slave
    finally:
        for fd in (master, slave):
            with contextlib.suppress(OSError):
                os.close(fd)


def test_colours_are_for_terminals(monkeypatch):
    for name, value, coloured in (
        ("TERM", "xterm", True),
        ("TERM", "dumb", False),
        ("NO_COLOR", "1", False),
    ):
        with monkeypatch.context() as patch, terminal() as (master, slave):
            patch.setitem(output_lines.posix.environ, b"TERM", b"xterm")
            patch.delitem(output_lines.posix.environ, b"NO_COLOR", raising=False)
            patch.setitem(output_lines.posix.environ, name.encode(), value.encode())
            with on_stage(slave) as stage:
                for program in ("web", "db"):
                    stage.run(stage.open(program, "prefix"), "print('line')")
                got = b""
                while got.count(b"\n") < 2:  # they may come across one by one
                    assert readable(master)
                    got += os.read(master, 1000)
                first, second = output_lines.COLOURS[:2]
                assert got == (
                    b"\033[0;38;5;%dmweb |\033[0m line\n\033[0;38;5;%dmdb  |\033[0m line\n"
                    % (first, second)
                    if coloured
                    else b"web | line\ndb  | line\n"
                )


def test_a_stopped_terminal_holds_the_program_up_and_not_us():
    """Nobody reads the other side; then somebody does.  Keys that are pressed later wake nobody."""
    with terminal() as (master, slave), on_stage(slave) as stage:
        web = stage.open()
        pid = stage.start(web, FLOOD.format(lines=10_000))
        stage.driver.until(lambda: web.streams[0]._target.full and stage.at_rest())
        got = bytearray()

        def read() -> None:
            with contextlib.suppress(BlockingIOError):
                got.extend(os.read(master, 1 << 16))

        rounds = stage.driver.rounds
        stage.driver.until(lambda: stage.gone(pid), meanwhile=read)
        web.drain()
        stage.driver.until(lambda: len(got) >= len(flooded(10_000)), meanwhile=read)
        assert bytes(got) == flooded(10_000)
        assert stage.driver.rounds > rounds
        stage.driver.until(stage.at_rest)
        os.write(master, b"key")
        assert readable(slave)
        assert not signal.sigtimedwait({signal.SIGIO}, 0)


def test_a_terminal_that_hangs_up_costs_lines_and_nothing_else():
    with terminal() as (master, slave), on_stage(slave) as stage:
        web = stage.open()
        pid = stage.start(web, FLOOD.format(lines=10_000))
        stage.driver.until(lambda: web.streams[0]._target.full and stage.at_rest())
        os.close(master)
        stage.driver.until(lambda: stage.gone(pid))
        web.drain()
        assert stage.outputs.lost > 5000
        stage.driver.until(stage.at_rest)


# --- cost ----------------------------------------------------------------------------------------


def test_at_rest_nothing_is_due_and_little_is_kept(reader):
    tracing = pytest.importorskip("tracemalloc")
    require(resource.getrlimit(resource.RLIMIT_NOFILE)[1] >= 1000, "1000 descriptors")
    with on_stage(reader.writing) as stage:
        stage.open()
        tracing.start()
        begun = tracing.get_traced_memory()[0]
        opened = [stage.open(f"program {number}", "prefix", 11) for number in range(100)]
        taken = (tracing.get_traced_memory()[0] - begun) / len(opened)
        tracing.stop()
        assert taken < 6000
        stage.driver.until(stage.at_rest)
