"""Where the control socket is: found by both sides without configuration.

It is named after the pid and stands in the first directory that takes it; a client looks into all
of them.  Some of these can be written by anybody (/tmp), so a client believes the kernel
(SO_PEERCRED, unix(7)) and not the name.
"""

from __future__ import annotations

import _socket
import posix
import sys

from gracewrap.config.probe_specs import Address
from gracewrap.record import TYPE_CHECKING, Record
from gracewrap.server import listen

if TYPE_CHECKING:
    from collections.abc import Iterator

MODE = 0o600
# A container's root file system may be read-only, and its user may not be root: /dev/shm is a tmpfs
# of its own in most.
DIRECTORIES = ("/run", "/dev/shm", "/tmp")
PREFIX, SUFFIX = "gracewrap-", ".sock"


class Found(Record):
    """The control socket of a gracewrap that is alive."""

    path: str
    pid: int


def make(explicit: str | None = None) -> tuple[int, str] | None:
    """Return a listening descriptor and its path, at *explicit* or else in the first directory that
    takes it; None if none does.

    It never raises; listen.bind() says why an explicit path fails.  remove() removes the file
    again.
    """
    name = f"{PREFIX}{posix.getpid()}{SUFFIX}"
    for path in [explicit] if explicit else [f"{directory}/{name}" for directory in _directories()]:
        try:
            return listen.bind(Address(path=path), MODE), path
        except (
            OSError,
            ValueError,
        ):  # read-only, not ours, full, not there; ValueError: a NUL in it
            continue
    return None


remove = listen.remove  # knows what bind() has made


def find(pid: int | None = None, explicit: str | None = None) -> list[Found]:
    """Return the gracewraps that can be talked to: *pid*'s, the one at *explicit*, or all; those of
    root and our own.

    Root may also talk to other users', but only to those that it names: a name that root did not
    say might be a trap.
    """
    trusted = {0, posix.geteuid()}
    anybody = posix.geteuid() == 0 and bool(pid is not None or explicit)
    found: dict[int, Found] = {}
    for path, named in [(explicit, pid)] if explicit else _candidates(pid):
        try:
            owner = posix.lstat(path).st_uid
            answering, uid = _who_answers(path)
        except ConnectionRefusedError:  # whoever made it was killed
            _sweep(path, owner)
            continue
        except (OSError, ValueError):  # nobody any more, or not for us
            continue
        # A pid of 0: a process of another PID namespace, which shares the directory with us.
        mine = answering > 0 and named in (None, answering)
        if mine and (anybody or {owner, uid} <= trusted):
            found.setdefault(answering, Found(path, answering))
    return list(found.values())


def _directories() -> Iterator[str]:
    """Yield where to make the socket, the best place first."""
    own = posix.environ.get(b"XDG_RUNTIME_DIR", b"").decode(errors="surrogateescape")
    if own.startswith("/"):
        yield own.rstrip("/")
    yield from DIRECTORIES


def _candidates(pid: int | None) -> Iterator[tuple[str, int]]:
    """Yield what is called like a control socket, and the pid in its name."""
    # Where systemd makes XDG_RUNTIME_DIR, for clients that have lost the variable (sudo, cron).
    for directory in dict.fromkeys((*_directories(), f"/run/user/{posix.geteuid()}")):
        try:
            names = posix.listdir(directory) if pid is None else [f"{PREFIX}{pid}{SUFFIX}"]
        except OSError:
            continue
        for name in sorted(names):
            number = name.removeprefix(PREFIX).removesuffix(SUFFIX)
            if number.isdecimal() and name == f"{PREFIX}{number}{SUFFIX}":
                yield f"{directory}/{name}", int(number)


def _sweep(path: str, owner: int) -> None:
    """Remove a socket of ours at which nobody listens any more."""
    try:
        if owner == posix.geteuid() and posix.lstat(path).st_mode & 0o170000 == 0o140000:
            posix.unlink(path)
    except OSError:
        pass  # somebody else was quicker


def _who_answers(path: str) -> tuple[int, int]:
    """Return pid and uid of the process that listens at *path*.

    Raises:
        OSError: If none does, or it will not have us.
    """
    sock = _socket.socket(_socket.AF_UNIX, _socket.SOCK_STREAM)
    try:
        sock.setblocking(False)
        sock.connect(path)
        return peer(sock)
    finally:
        sock.close()


def peer(sock: _socket.socket) -> tuple[int, int]:
    """Return pid and uid of the process at the other end, from the struct ucred of SO_PEERCRED
    (unix(7)).

    The pid is 0 if that process is of another PID namespace.

    Raises:
        OSError: If it is no unix socket.
    """
    credentials = sock.getsockopt(_socket.SOL_SOCKET, _socket.SO_PEERCRED, 12)
    return int.from_bytes(credentials[:4], sys.byteorder), int.from_bytes(
        credentials[4:8], sys.byteorder
    )
