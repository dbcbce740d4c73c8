"""Creates the control socket where clients find it, and finds those of running gracewraps.

The socket is named after the pid, in the first directory that accepts it.  A client searches all of
these directories.  Which they are depends on no variable: an entrypoint may export XDG_RUNTIME_DIR,
TMPDIR or HOME, and `docker exec` does not know them.  Anyone can write to some of them (/tmp), so a
client trusts the kernel (SO_PEERCRED, unix(7)) and not the file name.
"""

from __future__ import annotations

import _socket
import posix
import sys

from gracewrap.record import TYPE_CHECKING, Record
from gracewrap.server import listen

if TYPE_CHECKING:
    from collections.abc import Iterator

MODE = 0o600
# systemd-logind makes /run/user/UID, private to its user.  A container's root file system
# may be read-only, and its user may not be root: /dev/shm is a tmpfs of its own in most.
DIRECTORIES = ("/run", "/run/user/{uid}", "/dev/shm", "/tmp")
PREFIX, SUFFIX = "gracewrap-", ".sock"
_S_IFMT, _S_IFSOCK = 0o170000, 0o140000  # inode(7)


class Instance(Record):
    """A running gracewrap: the path of its control socket, and its pid."""

    path: str
    pid: int


def create(explicit: str | None = None) -> tuple[int, str] | None:
    """Return a listening file descriptor and its path, or None if none can be created.

    The path is *explicit*, or else in the first directory that accepts the socket.  Never raises;
    listen.bind_unix() tells why an explicit path fails.  remove() removes the file again.
    """
    name = f"{PREFIX}{posix.getpid()}{SUFFIX}"
    for path in [explicit] if explicit else [f"{directory}/{name}" for directory in directories()]:
        try:
            return listen.bind_unix(path, MODE), path
        except (OSError, ValueError):
            # Read-only, not ours, full, does not exist; ValueError: the path contains a NUL.
            continue
    return None


adopt = listen.adopt
created = listen.created
remove = listen.remove  # listen.py remembers which files it has created


def find(pid: int | None = None, explicit: str | None = None) -> list[Instance]:
    """Return the running gracewraps of root and of our own user: all of them, only that of *pid*,
    or only the one at the path *explicit*.

    Root may also use the gracewraps of other users, but only when naming the pid or the path: a
    socket that root did not name might be a trap.
    """
    trusted = {0, posix.geteuid()}
    any_user = posix.geteuid() == 0 and bool(pid is not None or explicit)
    instances: dict[int, Instance] = {}
    for path, expected_pid in [(explicit, pid)] if explicit else _candidates(pid):
        try:
            owner = posix.lstat(path).st_uid
            peer_pid, peer_uid = _listening_process(path)
        except ConnectionRefusedError:  # its gracewrap was killed
            _remove_stale(path, owner)
            continue
        except (OSError, ValueError):  # gone, or no permission
            continue
        # A pid of 0: a process of another PID namespace, which shares the directory with us.
        genuine = peer_pid > 0 and expected_pid in (None, peer_pid)
        if genuine and (any_user or {owner, peer_uid} <= trusted):
            instances.setdefault(peer_pid, Instance(path, peer_pid))
    return list(instances.values())


def directories(uid: int | None = None) -> list[str]:
    """Return the directories for the socket of user *uid*, or ours, the best one first."""
    number = str(posix.geteuid() if uid is None else uid)
    return [directory.replace("{uid}", number) for directory in DIRECTORIES]


def _candidates(pid: int | None) -> Iterator[tuple[str, int]]:
    """Yield the paths that are named like a control socket, each with the pid in its name."""
    try:
        uid = None if pid is None else posix.stat(f"/proc/{pid}").st_uid
    except OSError:  # gone, or there is no /proc
        uid = None
    for directory in directories(uid):
        try:
            names = posix.listdir(directory) if pid is None else [f"{PREFIX}{pid}{SUFFIX}"]
        except OSError:
            continue
        for name in sorted(names):
            number = name.removeprefix(PREFIX).removesuffix(SUFFIX)
            if number.isdecimal() and name == f"{PREFIX}{number}{SUFFIX}":
                yield f"{directory}/{name}", int(number)


def _remove_stale(path: str, owner: int) -> None:
    """Remove a socket of our own user on which no process listens any more."""
    try:
        if owner == posix.geteuid() and posix.lstat(path).st_mode & _S_IFMT == _S_IFSOCK:
            posix.unlink(path)
    except OSError:
        pass  # another process has removed it first


def _listening_process(path: str) -> tuple[int, int]:
    """Return pid and uid of the process that listens at *path*.

    Raises:
        OSError: If no process listens, or we may not connect.
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

    The pid is 0 if that process is in another PID namespace.

    Raises:
        OSError: If *sock* is not a unix socket.
    """
    ucred = sock.getsockopt(_socket.SOL_SOCKET, _socket.SO_PEERCRED, 12)
    pid, uid = (int.from_bytes(ucred[at : at + 4], sys.byteorder) for at in (0, 4))
    return pid, uid
