"""Finds the running gracewrap that is meant, and makes one request over its control socket."""

from __future__ import annotations

import posix
import time

from gracewrap.cli.unix_socket import connect
from gracewrap.linux.procfs import read_file
from gracewrap.record import TYPE_CHECKING, Record
from gracewrap.server import control_socket

if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

    from gracewrap.cli.unix_http import UnixConnection

    Find = Callable[[int | None, str | None], list[control_socket.Instance]]

MOST = 1 << 24  # bytes of an answer; a status of 10,000 processes has 1 MB
WAIT = 5.0  # seconds for an answer, unless --timeout says otherwise


class Unusable(Exception):
    """The arguments cannot be used; the text says why, and what to write instead."""


class NoAnswer(Exception):
    """There is no answer, or none in time; the text says why."""


class Gone(NoAnswer):
    """The gracewrap that was asked has ended."""


class Answer(Record):
    """An HTTP answer."""

    status: int
    body: bytes

    def fields(self) -> dict[str, Any]:
        """Return the JSON object in the body; an empty one if it holds something else."""
        from json import loads  # 15 ms, which a ready `gracewrap health` does without

        try:
            found = loads(self.body)
        except (ValueError, RecursionError):
            return {}
        return found if isinstance(found, dict) else {}

    def text(self) -> str:
        """Return the message of the answer, in one line."""
        from gracewrap.config.problems import one_line

        fields = self.fields()
        message = fields.get("error") or fields.get("message")
        if not message and not fields:
            message = self.body.decode(errors="replace")
        first = str(message or "").partition("\n")[0].strip()
        return one_line(first[:300]) or f"HTTP status {self.status}"


class Peer:
    """A running gracewrap."""

    def __init__(self, found: control_socket.Instance, timeout: float = WAIT) -> None:
        self.path, self.pid, self.timeout = found.path, found.pid, timeout
        self._uptime = 0.0

    def get(self, target: str) -> Answer:
        """Return the answer to a GET.  Raises NoAnswer."""
        return ask(self.path, "GET", target, self.timeout)

    def post(self, action: str, program: str = "", signal: str = "") -> Answer:
        """Return the answer to "drain", "undrain", "stop", "restart", "signal" or "reopen".

        Args:
            action: The request.
            program: The programs that it is about, separated by commas; "": all of them.
            signal: The name of a signal.
        """
        query = _query(program=program, signal=signal)
        return ask(self.path, "POST", f"/{action}{query}", self.timeout)

    def status(
        self, program: str = "", processes: bool = True, request: str = ""
    ) -> dict[str, Any]:
        """Return the document at /status.

        Args:
            program: The program that it is about; "": all of them.
            processes: Whether to list the processes, which takes gracewrap some milliseconds.
            request: The number of a request whose outcome to include.

        Raises:
            Unusable: If there is no such program.
            NoAnswer: If there is no answer, or one that cannot be read.
            Gone: Also if another gracewrap has taken its place since the last time.
        """
        answer = self.get(status_of(program, processes, request))
        fields = answer.fields()
        if program and answer.status == 404:
            raise Unusable(f"cannot use {program!r}: {answer.text()}")
        if answer.status != 200 or not fields:
            raise NoAnswer(f"gracewrap (pid {self.pid}) has no status: {answer.text()}")
        uptime = fields.get("uptime_seconds")
        if isinstance(uptime, int | float):
            if uptime < self._uptime:
                raise Gone("another gracewrap has taken its place")
            self._uptime = uptime
        return fields


class End:
    """A request that a gracewrap answers when its run has ended: how it ended."""

    def __init__(self, peer: Peer) -> None:
        from gracewrap.cli.unix_http import UnixConnection

        self.fields: dict[str, Any] = {}  # of the answer
        self._timeout = peer.timeout
        self._connection: UnixConnection | None = None
        try:
            self._connection = UnixConnection(peer.path, time.monotonic() + peer.timeout)
            self._connection.request("GET", "/end")
        except OSError:
            self._drop()

    def comes(self, seconds: float) -> bool:
        """Wait so long for the end; return whether the answer is there.

        An older gracewrap has none, and one that was killed has not said it: then it is as long,
        and False.
        """
        from select import select

        until = time.monotonic() + seconds
        if self._connection is not None and self._connection.sock is not None:
            if not select([self._connection.sock], [], [], seconds)[0]:
                return False
            self._read(self._connection)
        if not self.fields:
            time.sleep(max(0.0, until - time.monotonic()))
        return bool(self.fields)

    def _read(self, connection: UnixConnection) -> None:
        from http.client import HTTPException

        connection.extend(time.monotonic() + self._timeout)
        try:
            response = connection.getresponse()
            answer = Answer(response.status, response.read(MOST))
            self.fields = answer.fields() if answer.status == 200 else {}
        except (OSError, HTTPException):
            pass
        self._drop()

    def _drop(self) -> None:
        if self._connection is not None:
            self._connection.close()
        self._connection = None


def status_of(program: str = "", processes: bool = True, request: str = "") -> str:
    """Return the path and query of a status; see Peer.status."""
    return f"/status{_query(program=program, processes='' if processes else 'no', request=request)}"


def _query(**options: str) -> str:
    """Return the query of a URL, without the options that are empty."""
    given = [f"{name}={_encoded(value)}" for name, value in options.items() if value]
    return f"?{'&'.join(given)}" if given else ""


def _encoded(value: str) -> str:
    """Return *value* percent-encoded (RFC 3986, section 2.1)."""
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
        pid: The pid that was named, if any.
        explicit: The path of the socket that was named, if any.
        origin: Where *explicit* comes from.
        find: Returns the running gracewraps.

    Raises:
        NoAnswer: If none is running.
        Unusable: If several are, and none of them is PID 1.
    """
    found = find(pid, explicit)
    # Root does not follow the names of other users' sockets; but PID 1 is what a container is for.
    found = found or (find(1, None) if pid is None and explicit is None else [])
    if not found:
        raise NoAnswer(_none_found(pid, explicit, origin))
    for instance in found:
        if len(found) == 1 or instance.pid == 1:
            return instance
    listed = "".join(
        f"\n    --pid {instance.pid:<8} {_command(instance)}"
        for instance in sorted(found, key=lambda instance: instance.pid)
    )
    raise Unusable(f"{len(found)} gracewraps are running; choose one:{listed}")


def ask(path: str, method: str, target: str, timeout: float) -> Answer:
    """Return the answer to one request, all of it within *timeout* seconds.

    Raises:
        Gone: If nothing listens at the path any more.
        NoAnswer: If there is no whole answer in time.
    """
    from http.client import HTTPException  # 40 ms, which `gracewrap health` does without

    from gracewrap.cli.unix_http import UnixConnection

    connection = UnixConnection(path, time.monotonic() + timeout)
    try:
        connection.request(method, target)
        response = connection.getresponse()
        body = response.read(MOST + 1)
        if len(body) > MOST:
            raise NoAnswer(f"no answer from {path}: it is longer than {MOST} bytes")
        if response.length:
            raise NoAnswer(f"no answer from {path}: it ends in the middle")
        return Answer(response.status, body)
    except OSError as error:  # before HTTPException: http.client's RemoteDisconnected is both
        raise no_answer(path, timeout, error) from None
    except HTTPException as error:
        from gracewrap.config.problems import one_line

        why = one_line(str(error).strip()[:100]) or type(error).__name__
        raise NoAnswer(f"no answer from {path}: this is not gracewrap's HTTP ({why})") from None
    finally:
        connection.close()


def no_answer(path: str, timeout: float, error: OSError) -> NoAnswer:
    """Return what an error of a connection to *path* means."""
    if isinstance(error, TimeoutError):
        return NoAnswer(f"no answer in {timeout:g} s from {path}")
    if isinstance(error, ConnectionError | FileNotFoundError):
        return Gone(f"nothing listens at {path} any more ({error.strerror or error})")
    return NoAnswer(f"no answer from {path}: {error.strerror or error}")


def _command(instance: control_socket.Instance) -> str:
    """Return the command of a gracewrap, as it says itself, or else as the kernel does."""
    from gracewrap.cli.status_view import commands
    from gracewrap.config.problems import one_line

    try:
        return commands(Peer(instance, 0.5).status())
    except NoAnswer:
        words = read_file(f"/proc/{instance.pid}/cmdline").replace(b"\0", b" ")
        return one_line(words.decode(errors="replace").strip())[:100]


def _none_found(pid: int | None, explicit: str | None, origin: str) -> str:
    """Return why no gracewrap was found, and what to do."""
    if explicit is not None:
        return f"cannot reach a gracewrap at {explicit} ({origin}): {_why_not(explicit)}"
    if pid is None:
        return (
            "cannot find a running gracewrap here; is it\n"
            "    in a container?    use docker exec CONTAINER gracewrap ... or kubectl exec POD -- "
            "gracewrap ...\n"
            "    another user's?    run this as that user; root can use --pid N\n"
            "    elsewhere?         use --socket PATH with the path in its control.socket; if that "
            "is off, it cannot be found"
        )
    try:
        uid = posix.stat(f"/proc/{pid}").st_uid
    except OSError:
        return (
            f"cannot find a gracewrap with pid {pid} (--pid): there is no such process here; leave "
            "--pid out to see which are running"
        )
    mine = posix.geteuid()
    other = "" if uid == mine else f"it belongs to another user (uid {uid}, yours is {mine}), or "
    return (
        f"cannot reach pid {pid} (--pid): {other}that process is not gracewrap, or its socket is "
        "elsewhere (--socket PATH) or off"
    )


def _why_not(path: str) -> str:
    try:
        owner = posix.lstat(path).st_uid
        connect(path, time.monotonic() + 1.0).close()
    except ConnectionRefusedError:
        return "nothing listens there any more; it has ended"
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
        f"it belongs to another user (uid {owner}, yours is {posix.geteuid()}), or is in another "
        "PID namespace"
    )
