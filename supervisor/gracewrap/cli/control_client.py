"""The client's side of the control socket: which gracewrap is meant, one request, its answer.

Written for `gracewrap health`, which is run every few seconds: http.client alone would double what
that costs (52 ms).
"""

from __future__ import annotations

import _socket
import errno
import posix
import time

from gracewrap.linux.procfs import read_file
from gracewrap.record import TYPE_CHECKING, Record
from gracewrap.server import control_socket

if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

    Find = Callable[[int | None, str | None], list[control_socket.Instance]]

MOST = 1 << 24  # bytes of an answer; a status of 10,000 processes has 1 MB
HEAD_MOST = 1 << 16
AGAIN = 0.01  # seconds until the next try where its queue of visitors is full
WAIT = 5.0  # seconds for an answer, where nobody says otherwise


class Unusable(Exception):
    """What was asked for cannot be used; the text says why, and what to write."""


class NoAnswer(Exception):
    """There is none, or none in time; the text says why."""


class Gone(NoAnswer):
    """Nobody listens there any more."""


class Answer(Record):
    """What was answered."""

    status: int
    body: bytes

    def fields(self) -> dict[str, Any]:
        """Return the body's JSON object; an empty one if it is none."""
        from json import loads  # not for `gracewrap health` of what is well: 15 ms

        try:
            found = loads(self.body)
        except (ValueError, RecursionError):
            return {}
        return found if isinstance(found, dict) else {}

    def text(self) -> str:
        """Return what it says to people, in one line."""
        from gracewrap.config.problems import one_line

        fields = self.fields()
        said = (
            fields.get("error")
            or fields.get("message")
            or ("" if fields else self.body.decode(errors="replace"))
        )
        return one_line(str(said).partition("\n")[0].strip()[:300]) or f"HTTP status {self.status}"


class Peer:
    """A running gracewrap."""

    def __init__(self, found: control_socket.Instance, timeout: float = WAIT) -> None:
        self.path, self.pid, self.timeout = found.path, found.pid, timeout
        self._uptime = 0.0

    def get(self, target: str) -> Answer:
        """Return the answer to a GET; raises NoAnswer."""
        return ask(self.path, "GET", target, self.timeout)

    def post(self, action: str, program: str = "") -> Answer:
        """Return the answer to "drain", "undrain", "stop" or "restart" (of programs: with commas in
        between); raises NoAnswer."""
        return ask(self.path, "POST", f"/{action}{_query(program=program)}", self.timeout)

    def status(
        self, program: str = "", processes: bool = True, request: str = ""
    ) -> dict[str, Any]:
        """Return what /status says.

        Args:
            program: Only of this one; "": of all.
            processes: Whether the processes are wanted; to look for them costs a gracewrap some
                milliseconds.
            request: The number of a request, of which is to be said how it went.

        Raises:
            Unusable: If there is no such program.
            NoAnswer: If there is none that can be read.
            Gone: Also if another gracewrap has taken its place since the last time.
        """
        answer = self.get(status_of(program, processes, request))
        fields = answer.fields()
        if program and answer.status == 404:
            raise Unusable(f"cannot use {program!r}: {answer.text()}")
        if answer.status != 200 or not fields:
            raise NoAnswer(f"gracewrap (pid {self.pid}) has no status to tell: {answer.text()}")
        uptime = fields.get("uptime_seconds")
        if isinstance(uptime, int | float):
            if uptime < self._uptime:
                raise Gone("another one has taken its place")
            self._uptime = uptime
        return fields


def status_of(program: str = "", processes: bool = True, request: str = "") -> str:
    """Return where the status is to be had; see Peer.status."""
    return f"/status{_query(program=program, processes='' if processes else 'no', request=request)}"


def _query(**options: str) -> str:
    """Return a URL's query; what is empty is left out."""
    given = [f"{name}={_encoded(value)}" for name, value in options.items() if value]
    return f"?{'&'.join(given)}" if given else ""


def _encoded(value: str) -> str:
    """Return *value* as it may stand in a URL (RFC 3986, section 2.1)."""
    plain = frozenset(b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-._~")
    return "".join(
        chr(one) if one in plain else f"%{one:02X}"
        for one in value.encode(errors="surrogateescape")
    )


def choose(
    pid: int | None,
    explicit: str | None,
    origin: str = "--socket",
    find: Find = control_socket.find,
) -> control_socket.Instance:
    """Return the gracewrap that is meant: the one that was named, the only one, or PID 1.

    Args:
        pid: Of the one that was named.
        explicit: Its socket.
        origin: Who says *explicit*.
        find: Finds the living ones.

    Raises:
        NoAnswer: If there is none.
        Unusable: If there are several.
    """
    found = find(pid, explicit)
    # Root is not led to other users' sockets by their names alone; but PID 1 is what a container is
    # about.
    found = found or (find(1, None) if pid is None and explicit is None else [])
    if not found:
        raise NoAnswer(_nobody(pid, explicit, origin))
    for one in found:
        if len(found) == 1 or one.pid == 1:
            return one
    listed = "".join(
        f"\n    --pid {one.pid:<8} {_command(one)}"
        for one in sorted(found, key=lambda one: one.pid)
    )
    raise Unusable(
        f"cannot tell which gracewrap is meant: {len(found)} are running; write one of:{listed}"
    )


def ask(path: str, method: str, target: str, timeout: float) -> Answer:
    """Return the answer to one request, all of it within *timeout* seconds; raises NoAnswer."""
    until = time.monotonic() + timeout
    length = "Content-Length: 0\r\n" if method == "POST" else ""
    request = f"{method} {target} HTTP/1.1\r\nHost: gracewrap\r\nConnection: close\r\n{length}\r\n"
    try:
        sock = _connect(path, until)
        try:
            sock.settimeout(max(0.001, until - time.monotonic()))
            sock.sendall(request.encode())
            return _read(sock, until)
        finally:
            sock.close()
    except TimeoutError:
        raise NoAnswer(f"no answer in {timeout:g} s from {path}") from None
    except (ConnectionError, FileNotFoundError) as error:
        raise Gone(f"nobody listens at {path} any more ({error.strerror})") from None
    except OSError as error:
        raise NoAnswer(f"no answer from {path}: {error.strerror or error}") from None


def _connect(path: str, until: float) -> _socket.socket:
    while True:
        sock = _socket.socket(_socket.AF_UNIX, _socket.SOCK_STREAM)
        try:
            sock.settimeout(max(0.001, until - time.monotonic()))
            sock.connect(path)
            return sock
        except (
            BlockingIOError
        ):  # too many are waiting to be accepted (unix(7)); a timeout does not wait for that
            sock.close()
            if time.monotonic() + AGAIN > until:
                raise TimeoutError from None
            time.sleep(AGAIN)
        except BaseException:
            sock.close()
            raise


def _read(sock: _socket.socket, until: float) -> Answer:
    data = bytearray()
    while b"\r\n\r\n" not in data:
        _receive(sock, until, data, HEAD_MOST)
    head, _, rest = bytes(data).partition(b"\r\n\r\n")
    status, length, body = _status(head), _length(head), bytearray(rest)
    try:
        while length is None or len(body) < length:
            _receive(sock, until, body, MOST)
    except ConnectionResetError:
        if length is not None:
            raise
    return Answer(status, bytes(body[:length]))


def _receive(sock: _socket.socket, until: float, data: bytearray, most: int) -> None:
    """Add what has come to *data*; raises OSError at the end, or if it is more than *most*."""
    sock.settimeout(max(0.001, until - time.monotonic()))
    part = sock.recv(1 << 16)
    if not part:
        raise ConnectionResetError(errno.ECONNRESET, "it hung up")
    data += part
    if len(data) > most:
        raise OSError(errno.EMSGSIZE, "the answer has no end")


def _status(head: bytes) -> int:
    words = head.split(None, 2)
    if len(words) < 2 or not words[0].startswith(b"HTTP/1.") or not words[1].isdigit():
        raise OSError(errno.EPROTO, "what listens there is no gracewrap")
    return int(words[1])


def _length(head: bytes) -> int | None:
    for line in head.split(b"\r\n")[1:]:
        name, _, value = line.partition(b":")
        if name.lower() == b"content-length" and value.strip().isdigit():
            return int(value)
    return None


def _command(one: control_socket.Instance) -> str:
    """Return the command of a gracewrap, for people; as it says itself, or else as the kernel
    says."""
    from gracewrap.cli.status_view import commands
    from gracewrap.config.problems import one_line

    try:
        return commands(Peer(one, 0.5).status())
    except NoAnswer:
        return one_line(
            read_file(f"/proc/{one.pid}/cmdline")
            .replace(b"\0", b" ")
            .decode(errors="replace")
            .strip()
        )[:100]


def _nobody(pid: int | None, explicit: str | None, origin: str) -> str:
    """Return why there is nobody to talk to, and what to do."""
    if explicit is not None:
        return f"cannot talk to a gracewrap at {explicit} ({origin}): {_why_not(explicit)}"
    if pid is not None:
        try:
            uid = posix.stat(f"/proc/{pid}").st_uid
        except OSError:
            return (
                f"cannot find a gracewrap with pid {pid} (--pid): no such process here; leave "
                "--pid out to see which there are"
            )
        mine = posix.geteuid()
        whose = (
            "" if uid == mine else f"another user's (it has uid {uid}, this has uid {mine}), or "
        )
        return (
            f"cannot talk to pid {pid} (--pid): it is {whose}no gracewrap, or its socket is "
            "elsewhere (--socket PATH) or off"
        )
    return (
        "cannot find a running gracewrap here; is it\n"
        "    in a container?    docker exec CONTAINER gracewrap ...  or  kubectl exec POD -- "
        "gracewrap ...\n"
        "    another user's?    run this as that user; root may write --pid N\n"
        "    at another place?  --socket PATH, where it has control.socket = PATH; it cannot be "
        "found where that is off"
    )


def _why_not(path: str) -> str:
    try:
        owner = posix.lstat(path).st_uid
        _connect(path, time.monotonic() + 1.0).close()
    except ConnectionRefusedError:
        return "nobody listens there any more; it has ended"
    except FileNotFoundError:
        return "there is no such file; is it running, and in this container?"
    except PermissionError:
        return (
            f"permission denied; it belongs to uid {owner}, and this runs with uid "
            f"{posix.geteuid()}: run it as that user"
        )
    except (OSError, ValueError) as error:
        return str(getattr(error, "strerror", None) or error)
    return (
        f"it is another user's (uid {owner}; this has uid {posix.geteuid()}), or in another PID "
        "namespace"
    )
