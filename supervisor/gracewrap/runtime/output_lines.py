"""What the programs write: pipes of ours as their stdout and stderr, passed on line by line to our
own stdout and stderr.

No line is lost, cut in two, or mixed with another one.  Nothing here waits for whoever reads our
output: what cannot be written now is kept, and when there is much of it the pipes are no longer
read, so that the programs wait as they would for that reader.
We hold both ends of each pipe, so it outlives a restart, and nobody waits for an end of file, which
an orphan could keep away.
"""

from __future__ import annotations

import posix
import time

from gracewrap.linux.nonblocking_writer import PIPE_BUF, Writer, wait_until_one_is_idle
from gracewrap.record import TYPE_CHECKING
from gracewrap.report.json_encoder import dumps
from gracewrap.report.log import timestamp

if TYPE_CHECKING:
    from collections.abc import Callable

    from gracewrap.linux.reactor import Reactor, Timer

    Fault = Callable[[BaseException], None]
    Shape = Callable[[bytes], bytes]  # from whole lines, each with its end, to what is written

KEPT = (
    256 * 1024
)  # bytes that are kept for one slow reader; a read that fits in may grow beyond it by its prefixes
AT_ONCE = 64 * 1024  # bytes that are read between two looks at the signals
AT_ONCE_JSON = 16 * 1024  # of these each line costs a microsecond, and an empty one is a line too
LAST = 2048  # bytes of a stream that are kept for the report of a stop that takes long
LAST_LINES, LAST_LINE = 8, 300  # of them: lines, and characters of each
LONGEST = 1024 * 1024  # bytes of one line; what is longer goes in parts
RETRY_FIRST, RETRY_LAST = 0.001, 0.02  # seconds, for a reader that cannot be watched
AFTER_FAULT = 1.0  # seconds
_FIONREAD = 0x541B  # ioctl_tty(2), asm-generic/ioctls.h

# Of the 256 colours those in the middle: each stands out against black and against white by more
# than 4:1 (WCAG 2, 1.4.3).
COLOURS = (31, 130, 64, 133, 62, 29, 162, 98, 131, 28)


class LineSplitter:
    """Makes lines of what comes in pieces; the pieces make no difference to the lines."""

    __slots__ = ("_begun", "_longest")

    def __init__(self, longest: int = LONGEST) -> None:
        self._longest = longest
        self._begun = (
            bytearray()
        )  # the line whose end has not come yet; bytearray: it may come byte by byte

    def feed(self, data: bytes) -> list[bytes]:
        """Return what is complete: blocks of lines with their ends, and without an end the parts of
        a line that is too long."""
        if len(self._begun) + len(data) > self._longest:
            return self._feed_much(data)
        end = data.rfind(b"\n") + 1
        if not end:
            self._begun += data
            return []
        lines = bytes(self._begun) + data[:end] if self._begun else data[:end]
        self._begun = bytearray(data[end:])
        return [lines]

    def _feed_much(self, data: bytes) -> list[bytes]:
        """As feed(), line by line: one of them may be too long."""
        found: list[bytes] = []
        *lines, rest = data.split(b"\n")
        for line in lines:
            self._grow(line, found)
            found.append(self.end() or b"\n")
        self._grow(rest, found)
        return found

    def _grow(self, more: bytes, found: list[bytes]) -> None:
        self._begun += more
        while len(self._begun) > self._longest:
            found.append(bytes(self._begun[: self._longest]))
            del self._begun[: self._longest]

    def end(self) -> bytes:
        """Return the line that has begun, with an end; nothing, if none has."""
        rest, self._begun = bytes(self._begun), bytearray()
        return rest and rest + b"\n"


class Sink:
    """Our stdout or our stderr, or both if they are the same; written without waiting.

    Attributes:
        lost: Lines that could not be written: the reader has gone, the disk is full.
        blocked: Who is to be told when there is room again.
    """

    def __init__(self, reactor: Reactor, fault: Fault, number: int) -> None:
        self._reactor, self._fault = reactor, fault
        self.writer = Writer(number=number, aside=True)
        self.lost = 0
        self.blocked: list[Callable[[], None]] = []
        self._kept: list[bytes] = []
        self._at = 0  # how much of the first of them is written
        self._size = 0  # bytes that are kept
        self._mid_line = False  # whether the last byte written was in the middle of a line
        self._torn = False  # whether the rest of that line is lost
        self._given_up = False
        self._watched = False
        self._timer: Timer | None = None
        self._retry = RETRY_FIRST

    @property
    def full(self) -> bool:
        """Whether so much is kept that no more should be read."""
        return self._size > KEPT - AT_ONCE

    @property
    def size(self) -> int:
        """How many bytes are kept."""
        return self._size

    @property
    def overfull(self) -> bool:
        """Whether nothing more should be kept."""
        return self._size > 2 * KEPT

    @property
    def empty(self) -> bool:
        """Whether all has been written."""
        return not self._kept

    def put(self, data: bytes) -> None:
        """Write *data*, now or as soon as there is room: whole lines, or a part of one that is too
        long."""
        if self._given_up:
            self.lost += data.count(b"\n")
            return
        self._kept.append(data)
        self._size += len(data)
        if not self._watched and self._timer is None:
            self.flush()

    def flush(self) -> None:
        """Write what can be written now, and see to it that this is called again if that was not
        all."""
        try:
            self._flush()
        except Exception as error:  # no memory: there may be some soon
            self._fault(error)
            self._rest()
            self._timer = self._reactor.call_at(time.monotonic() + AFTER_FAULT, self.flush)

    def _flush(self) -> None:
        before = self._size
        self._write()
        if self._kept and self._watch():
            # a terminal sends SIGIO to those only who have found it full while they were watching
            # it
            self._write()
        if not self._kept:
            self._rest()
        elif not self._watched:
            self._retry = RETRY_FIRST if self._size < before else min(self._retry * 2, RETRY_LAST)
            self._reactor.cancel(self._timer)
            self._timer = self._reactor.call_at(time.monotonic() + self._retry, self.flush)
        if self.blocked and self._size <= KEPT // 2:
            blocked, self.blocked = self.blocked, []
            for call in blocked:
                call()

    def _write(self) -> None:
        if len(self._kept) > 1:
            self._kept = [b"".join((self._kept[0][self._at :], *self._kept[1:]))]
            self._at = 0
        try:
            if self._torn and self._kept:
                self.writer.write(b"\n")
                self._torn = self._mid_line = False
            while self._kept:
                data = self._kept[0]
                written = self.writer.write(data[self._at : self._end_of_piece(data)])
                self._at += written
                self._size -= written
                self._mid_line = data[self._at - 1] != 0x0A
                if self._at == len(data):
                    del self._kept[0]
                    self._at = 0
        except BlockingIOError:
            pass
        except (
            OSError
        ):  # EPIPE, EIO: whoever read this is gone; ENOSPC: there may be room for the next line
            self._drop()

    def _end_of_piece(self, data: bytes) -> int:
        """Return where to stop for now.

        Into a pipe go whole lines, as many as are written in one piece: so they stay whole also
        beside what others write there.
        """
        end = self._at + PIPE_BUF
        if self.writer.whole or end >= len(data):
            return len(data)
        return data.rfind(b"\n", self._at, end) + 1 or end

    def _drop(self) -> None:
        self.lost += sum(data.count(b"\n") for data in self._kept)
        if self._kept and self._at:
            self.lost -= self._kept[0].count(b"\n", 0, self._at)
        self._kept, self._at, self._size = [], 0, 0
        self._torn = self._mid_line

    def _watch(self) -> bool:
        """Have flush() called when there is room; return whether that is new, and possible."""
        if self._watched or not self.writer.own:
            return False
        try:
            self._reactor.watch(self.writer.fd, self.flush, read=False, write=True)
        except (OSError, ImportError):  # no descriptor for the import
            return False
        self._watched = True
        return True

    def _rest(self) -> None:
        """Nothing is kept: be called no more."""
        if self._watched:
            import fcntl  # the reactor has loaded it

            self._reactor.unwatch(self.writer.fd)
            fcntl.fcntl(
                self.writer.fd, fcntl.F_SETFL, posix.O_NONBLOCK
            )  # no SIGIO for each key pressed at a terminal
            self._watched = False
        self._reactor.cancel(self._timer)
        self._timer, self._retry = None, RETRY_FIRST

    def close(self) -> None:
        """Write no more; what has not been written is lost."""
        self._drop()
        self._given_up = True
        self._rest()
        self.writer.close()


class Stream:
    """One pipe: what a program writes to its stdout, or to its stderr."""

    def __init__(
        self, reactor: Reactor, fault: Fault, target: Sink, shape: Shape | None, at_once: int
    ) -> None:
        self._reactor, self._fault, self._target, self._shape, self._at_once = (
            reactor,
            fault,
            target,
            shape,
            at_once,
        )
        self.on_line: Callable[[bytes], None] | None = None
        self._cutter = LineSplitter()
        self._last = b""
        self._taken = 0  # bytes that have been read
        self._ends: list[
            int
        ] = []  # how many had been written, each time that all of the program was gone
        self._silent_to = -1  # up to here its lines are told to nobody any more
        self.reading, self.writing = posix.pipe2(posix.O_CLOEXEC)
        try:
            posix.set_blocking(self.reading, False)
            self._watch()
        except BaseException:
            self.close()
            raise

    def _watch(self) -> None:
        self._reactor.watch(self.reading, self._readable)

    def _readable(self) -> None:
        """Read some of it, or nothing until there is room for it."""
        if self._target.full:
            self._reactor.unwatch(self.reading)
            self._target.blocked.append(self._resume)
            return
        try:
            self._read()
        except Exception as error:  # no memory: there may be some soon, and nobody else reads this
            self._fault(error)
            self._reactor.unwatch(self.reading)
            self._reactor.call_at(time.monotonic() + AFTER_FAULT, self._resume)

    def _resume(self) -> None:
        if self.reading >= 0:
            self._watch()

    def _read(self) -> bool:
        """Read once, not beyond where a line must end; return whether there was something."""
        limit = self._ends[0] - self._taken if self._ends else self._at_once
        try:
            data = posix.read(self.reading, min(limit, self._at_once))
        except BlockingIOError:
            self._taken = max((self._taken, *self._ends))
            self._end_line()
            return False
        self._taken += len(data)
        for piece in self._cutter.feed(data):
            self._pass_on(piece)
        self._end_line()
        return bool(data)

    def _end_line(self) -> None:
        """Give an end to the line that has begun, if all that its writer had written is read."""
        while self._ends and self._ends[0] <= self._taken:
            del self._ends[0]
            rest = self._cutter.end()
            if rest:
                self._pass_on(rest)

    def _pass_on(self, piece: bytes) -> None:
        """Write lines, or a part of one; then tell whoever listens for them, for nothing that fails
        there may cost a line."""
        data = piece
        self._last = piece[-LAST:] if len(piece) >= LAST else (self._last + piece)[-LAST:]
        if self._shape is not None:
            try:
                data = self._shape(piece if piece[-1] == 0x0A else piece + b"\n")
            except Exception as error:
                self._fault(error)
        self._target.put(data)
        if self.on_line is not None and self._taken > self._silent_to:
            for line in piece.removesuffix(b"\n").split(b"\n"):
                self._tell(line.removesuffix(b"\r"))

    def _tell(self, line: bytes) -> None:
        try:
            if self.on_line is not None:  # it may have heard what it listened for
                self.on_line(line)
        except Exception as error:
            self._fault(error)

    def last_lines(self) -> tuple[str, ...]:
        """Return the last lines that were read, shortened."""
        lines = self._last.decode(errors="backslashreplace").splitlines()[-LAST_LINES:]
        return tuple(line[:LAST_LINE] for line in lines)

    def mark(self) -> None:
        """All of the program is gone: what the pipe holds now is all that it wrote, and what it did
        not end is ended there."""
        import fcntl

        unread = memoryview(fcntl.ioctl(self.reading, _FIONREAD, bytes(4))).cast("i")[0]
        end = self._taken + unread
        if end not in self._ends:  # its order: more can only have come
            self._ends.append(end)

    def take(self, anyway: bool = False) -> bool:
        """Read up to the mark, as far as there is room (or *anyway*); return whether it has been
        reached."""
        self._end_line()
        while self._ends and (anyway or not self._target.full) and self._read():
            pass
        return not self._ends

    def silence(self) -> None:
        """Tell nobody of the lines up to the mark: they come so late that whoever listens may take
        them for the next life's."""
        self._silent_to = self._ends[-1]

    def close(self) -> None:
        """Read no more."""
        if self.reading >= 0:
            self._reactor.unwatch(self.reading)
            posix.close(self.reading)
            posix.close(self.writing)
            self.reading = self.writing = -1


class Output:
    """What one program writes.

    Attributes:
        stdio: What is to be its stdout and its stderr; kept open by us, so that it has the same
            ones after a restart.
    """

    def __init__(self, out: Stream, err: Stream) -> None:
        self.streams = out, err
        self.stdio = out.writing, err.writing

    def listen(self, on_line: Callable[[bytes], None] | None) -> None:
        """From now on call *on_line* with each line, without its end (LF or CRLF); None: no more.

        It may call listen() itself, but neither drain() nor close().
        """
        for stream in self.streams:
            stream.on_line = on_line

    def last_lines(self) -> dict[str, tuple[str, ...]]:
        """Return the last lines that it has written to each stream."""
        return dict(zip(("stdout", "stderr"), (stream.last_lines() for stream in self.streams)))

    def drain(self) -> None:
        """All of the program is gone: take in what its pipes hold, and end a line that has no end.

        If there is no room for all of it, the rest follows when there is.
        """
        for stream in self.streams:
            if stream.reading >= 0:
                posix.set_blocking(
                    stream.writing, True
                )  # Node leaves it otherwise, and the next one may not be Node
                stream.mark()
                if not stream.take():
                    stream.silence()

    def close(self) -> None:
        """The program will not be started again: take in what its pipes hold, and close them."""
        for stream in self.streams:
            if stream.reading >= 0:
                stream.mark()
                stream.take(anyway=True)
                stream.close()


class Outputs:
    """The output of all programs, and where it goes.

    Args:
        reactor: Where the pipes are watched.
        fault: Told what raises in a callback.
        ours: The descriptors that are our stdout and our stderr.
    """

    def __init__(self, reactor: Reactor, fault: Fault, ours: tuple[int, int] = (1, 2)) -> None:
        self._reactor, self._fault, self._ours = reactor, fault, ours
        self._targets: tuple[Sink, ...] = ()
        self._all: list[Output] = []

    @property
    def lost(self) -> int:
        """How many lines could not be written: a reader that has gone, a full disk, or no time left
        at the end."""
        return sum(target.lost for target in {*self._targets})

    def open(
        self, name: str, how: str, width: int, on_line: Callable[[bytes], None] | None = None
    ) -> Output:
        """Make the pipes of one program.

        Args:
            name: The program's.
            how: "through": its lines as they are; "prefix": with the name before each; "json": each
                as a JSON object.
            width: How long the longest name is.
            on_line: As for Output.listen().

        Raises:
            OSError: There is no descriptor to be had; the text says for what.
        """
        streams: list[Stream] = []
        try:
            if not self._targets:
                self._targets = _targets(self._reactor, self._fault, self._ours)
            for number, target in enumerate(self._targets):
                shape = self._shape(name, how, width, number)
                at_once = AT_ONCE_JSON if how == "json" else AT_ONCE
                streams.append(Stream(self._reactor, self._fault, target, shape, at_once))
        except (OSError, ImportError) as error:
            for stream in streams:
                stream.close()
            why = getattr(error, "strerror", None) or str(error)
            text = (
                f"no pipes for the output of {name or 'the command'}: {why}; it needs 4 "
                "descriptors (raise ulimit -n)"
            )
            raise OSError(getattr(error, "errno", None) or 0, text) from None
        output = Output(streams[0], streams[1])
        output.listen(on_line)
        self._all.append(output)
        return output

    def log(self, line: bytes) -> bool:
        """Write a line of our own to stderr, between those of the programs; return False if too
        much is kept already."""
        target = self._targets[1]
        if target.overfull:
            return False
        target.put(line)
        return True

    def _shape(self, name: str, how: str, width: int, number: int) -> Shape | None:
        if how == "json":
            return _json_lines(name, ("stdout", "stderr")[number])
        if how == "prefix":
            colour = (
                COLOURS[len(self._all) % len(COLOURS)] if _has_colours(self._ours[number]) else None
            )
            return _prefixed(name.ljust(width), colour)
        return None

    def _streams(self) -> list[Stream]:
        return [stream for output in self._all for stream in output.streams if stream.reading >= 0]

    def sources(self) -> list[tuple[int, int]]:
        """Return where to read, and to which of our descriptors that goes: for when nothing of this
        here works any more."""
        ours = {output.streams[i]: self._ours[i] for output in self._all for i in (0, 1)}
        return [(stream.reading, ours[stream]) for stream in self._streams()]

    def settle(self, until: float, patience: float = float("inf")) -> None:
        """Take in what the pipes hold now, and write all that can be written.

        Args:
            until: When to give up (monotonic).
            patience: Seconds after which to give up, too, if nothing at all could be written.

        Raises:
            OSError: As reading may; nothing is known that would make it.
        """
        streams = self._streams()
        for stream in streams:
            stream.mark()
        moved_at, before = time.monotonic(), -1
        while True:
            streams = [stream for stream in streams if not stream.take()]
            for target in self._targets:
                target.flush()
            waiting = [target.writer for target in self._targets if not target.empty]
            at, kept = time.monotonic(), sum(target.size for target in self._targets)
            moved_at, before = (at if kept != before else moved_at), kept
            left = min(until, moved_at + patience) - at
            if left <= 0 or not (streams or waiting):
                return
            if waiting:
                wait_until_one_is_idle(waiting, left)

    def close(self, until: float, patience: float = float("inf")) -> None:
        """Settle, and close everything; what could not be written is lost.  Never raises."""
        try:
            self.settle(until, patience)
        except Exception as error:
            self._fault(error)
        parts: tuple[Sink | Output, ...] = (
            *self._targets,
            *self._all,
        )  # so that what cannot even be read counts as lost
        for part in parts:
            try:
                part.close()
            except Exception as error:
                self._fault(error)
        self._all = []


def _targets(reactor: Reactor, fault: Fault, ours: tuple[int, int]) -> tuple[Sink, Sink]:
    """Return where stdout and stderr go; one and the same, if they do: then no line gets into
    another one."""
    out = Sink(reactor, fault, ours[0])
    try:
        first, second = posix.fstat(ours[0]), posix.fstat(ours[1])
        same = (first.st_dev, first.st_ino) == (second.st_dev, second.st_ino)
    except OSError:  # one of them is closed
        same = False
    return out, out if same else Sink(reactor, fault, ours[1])


def _has_colours(fd: int) -> bool:
    """Return whether it is a terminal, and nobody has asked for none (no-color.org)."""
    return (
        posix.isatty(fd)
        and not posix.environ.get(b"NO_COLOR")
        and posix.environ.get(b"TERM") != b"dumb"
    )


def _prefixed(name: str, colour: int | None) -> Shape:
    """Return what writes the name before each line."""
    shown = f"{name} |" if colour is None else f"\033[0;38;5;{colour}m{name} |\033[0m"
    prefix = f"{shown} ".encode(errors="backslashreplace")
    between = b"\n" + prefix

    def shape(lines: bytes) -> bytes:
        return prefix + lines[:-1].replace(b"\n", between) + b"\n"

    return shape


def _json_lines(name: str, stream: str) -> Shape:
    """Return what makes a JSON object of each line, with the time at which it was read.

    What is not UTF-8 is shown as \\xHH: of surrogates, which would keep the bytes, strict readers
    of JSON say that they are none.
    """
    rest = f', "source": "output", "program": {dumps(name)}, "stream": {dumps(stream)}, "message": '

    def shape(lines: bytes) -> bytes:
        begin = f'{{"time": {dumps(timestamp())}{rest}'
        texts = lines[:-1].decode("utf-8", "backslashreplace").split("\n")
        return (begin + ("}\n" + begin).join(map(dumps, texts)) + "}\n").encode("ascii")

    return shape
