"""The receiving side of sd_notify(3): what the command says of itself, over the socket that its
NOTIFY_SOCKET names.

make() comes before the spawn and imports next to nothing.  A message is believed for who has sent
it, which the kernel says (SCM_CREDENTIALS of unix(7)), never because it could be sent: everybody
may write to the socket, so that a command which changes its user still can.

Facts of the protocol: sd_notify(3) of systemd 254.  As its manager does (src/core/manager.c),
messages of more than 4096 bytes and those with a NUL inside are ignored, the first counts of a key
that comes twice, and unwanted descriptors are closed.
"""

from __future__ import annotations

import _socket
import posix

from gracewrap.linux import process_tree
from gracewrap.linux.procfs import read_file
from gracewrap.record import TYPE_CHECKING, Record

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence

    from gracewrap.linux.reactor import Reactor

MESSAGE = 4096  # bytes of a message
# messages in one go: with the look at each sender (some 60 us a generation) about 1 ms; a flood
# waits in its senders
AT_ONCE = 16
STATUS = 200  # characters of STATUS= that are kept
LONGEST = 366 * 86400.0  # seconds; nothing is given more time, and "infinity" (2^64 - 1) is that

KEYS = frozenset(
    {
        *(
            "READY",
            "STOPPING",
            "STATUS",
            "EXTEND_TIMEOUT_USEC",
            "WATCHDOG",
            "WATCHDOG_USEC",
            "MAINPID",
        ),
        *("X_GRACEWRAP", "X_GRACEWRAP_IN_FLIGHT"),
    }
)

# A container's root file system may be read-only; /dev/shm is a tmpfs of its own in most.
DIRECTORIES = ("/run", "/dev/shm", "/tmp")
PREFIX = "gracewrap-notify-"
_SWEPT = 32  # files left behind that one start looks at
# seconds; the file is there a moment before its socket answers, so one so young is not called dead
_FRESH = 10.0

_S_IFMT, _S_IFSOCK = 0o170000, 0o140000  # inode(7)
_SCM_CREDENTIALS, _UCRED = 2, 12  # linux/socket.h: three 32 bit numbers, pid, uid and gid
_SCM_MAX_FD = 253  # net/scm.h: the kernel passes no more at once
_ANCILLARY = _socket.CMSG_SPACE(_UCRED) + _socket.CMSG_SPACE(4 * _SCM_MAX_FD)


def make() -> tuple[int, str]:
    """Return the descriptor to read from and the value of NOTIFY_SOCKET; to be called before the
    spawn.

    The value is a path, for not every sender can do abstract addresses, in the first directory that
    takes it; else an abstract address.  The name is new each time: a file that an earlier PID 1 has
    left is in nobody's way, and what is there already, put there by whomever, is never used
    (bind(2) refuses it).

    Raises:
        OSError: If not even the abstract address can be had.
    """
    import time

    sock = _socket.socket(
        _socket.AF_UNIX, _socket.SOCK_DGRAM | _socket.SOCK_NONBLOCK
    )  # closed on exec, as all of Python's
    try:
        sock.setsockopt(_socket.SOL_SOCKET, _socket.SO_PASSCRED, 1)
        name = f"{PREFIX}{posix.getpid()}-{time.time_ns():x}"
        for directory in directories():
            if bind(sock, directory, name):
                sweep(directory, name)
                return sock.detach(), f"{directory}/{name}"
        sock.bind(b"\0" + name.encode())
        return sock.detach(), f"@{name}"
    finally:
        sock.close()  # nothing is closed if it has been detached


def remove(value: str) -> None:
    """Remove what make() has made."""
    if value.startswith("/"):
        try:
            posix.unlink(value)
        except OSError:
            pass  # somebody else was quicker, or the file system has become read-only


def directories() -> Iterator[str]:
    """Yield where to make the socket, the best place first."""
    try:
        own = posix.environ.get(b"XDG_RUNTIME_DIR", b"").decode()
    except UnicodeDecodeError:  # it could be passed on, but is worth no trouble
        own = ""
    if own.startswith("/"):
        yield own.rstrip("/")
    yield from DIRECTORIES


def bind(sock: _socket.socket, directory: str, name: str) -> bool:
    """Bind to a file that everybody may write to, from its first moment on; return whether that was
    possible."""
    before = posix.umask(0o111)
    try:
        # Only root's command can become somebody else, and then it must still get there
        # (XDG_RUNTIME_DIR is 0700).
        if posix.geteuid() == 0 and not posix.stat(directory).st_mode & 0o001:
            return False
        sock.bind(f"{directory}/{name}")
    except (
        OSError,
        ValueError,
    ):  # not there, read-only, not ours, full, too long for an address; a NUL in it
        return False
    finally:
        posix.umask(before)
    return True


def sweep(directory: str, own: str, prefix: str = PREFIX, kind: int = _socket.SOCK_DGRAM) -> None:
    """Remove the sockets of gracewraps that were killed: a container that is started again keeps
    its files.

    A socket that has once been closed is refused for ever; one that is alive may be another
    container's, in a shared directory.
    """
    try:
        others = [
            name for name in posix.listdir(directory) if name.startswith(prefix) and name != own
        ]
        now = posix.stat(f"{directory}/{own}").st_mtime
    except OSError:
        return
    for name in others[:_SWEPT]:
        path = f"{directory}/{name}"
        asking = _socket.socket(_socket.AF_UNIX, kind | _socket.SOCK_NONBLOCK)
        try:
            found = posix.lstat(path)
            if found.st_mode & _S_IFMT == _S_IFSOCK and found.st_mtime < now - _FRESH:
                asking.connect(path)
        except ConnectionRefusedError:
            remove(path)
        except OSError:
            pass  # gone meanwhile, or not for us
        finally:
            asking.close()


class Message(Record):
    """One message of a process of the command's."""

    pid: int
    fields: Mapping[str, str]  # of KEYS only

    @property
    def ready(self) -> bool:
        """Whether it says that the start is done."""
        return self.fields.get("READY") == "1"

    @property
    def stopping(self) -> bool:
        """Whether it says that the stop has begun."""
        return self.fields.get("STOPPING") == "1"

    @property
    def status(self) -> str | None:
        """What people are to read, on one line and without anything that moves a cursor; empty: no
        longer what it was."""
        text = self.fields.get("STATUS")
        if text is None:
            return None
        return "".join(char if char.isprintable() else " " for char in text[:STATUS]).strip()

    @property
    def extend_timeout(self) -> float | None:
        """The seconds from now on that it asks for."""
        return self._seconds("EXTEND_TIMEOUT_USEC") or None

    @property
    def watchdog(self) -> bool:
        """Whether it is a sign of life."""
        return self.fields.get("WATCHDOG") == "1"

    @property
    def watchdog_trigger(self) -> bool:
        """Whether it wants to be treated as if the watchdog had been missed."""
        return self.fields.get("WATCHDOG") == "trigger"

    @property
    def watchdog_timeout(self) -> float | None:
        """The seconds within which the next sign of life comes, from now on; 0.0: there will be
        none."""
        return self._seconds("WATCHDOG_USEC")

    @property
    def main_pid(self) -> int | None:
        """The pid of what it calls its main process; open_main() says whether that can be."""
        pid = self._number("MAINPID")
        return pid if pid is not None and 1 < pid < 1 << 31 else None

    @property
    def drained(self) -> bool | None:
        """Whether it says that it is drained, or that it is not, or neither."""
        return {"drained": True, "busy": False}.get(self.fields.get("X_GRACEWRAP", ""))

    @property
    def in_flight(self) -> int | None:
        """How much is in flight."""
        return self._number("X_GRACEWRAP_IN_FLIGHT")

    def _number(self, key: str) -> int | None:
        """Return what is said as a number; None if nothing is, or no number."""
        text = self.fields.get(key, "")
        return int(text) if text.isascii() and text.isdigit() and len(text) <= 20 else None

    def _seconds(self, key: str) -> float | None:
        usec = self._number(key)
        return None if usec is None else min(usec / 1_000_000, LONGEST)


def parse(data: bytes) -> dict[str, str]:
    """Return the assignments of a message that are known (KEYS); whatever else is in it is
    ignored."""
    fields: dict[str, str] = {}
    if b"\0" in data[:-1]:
        return fields
    for line in data.removesuffix(b"\0").decode(errors="replace").split("\n"):
        key, equals, value = line.partition("=")
        if equals and key in KEYS:
            fields.setdefault(key, value)
    return fields


class Receiver:
    """Reads the messages and passes on those of the command's own processes.

    A sender that has ended before we look (`systemd-notify` of a shell script without its barrier,
    `python -c`) can no longer be
    found in the tree: it is believed if it was root or of the leader's user.  So is one that we
    cannot look for, without /proc.
    A process that is alive and not of the tree is always refused.

    Args:
        reactor: Where the descriptor is watched.
        fd: From make(); ours from now on.
        leader: The command's pid.
        is_member: Whether a pid is a process of the command's.
        said: Takes each message.

    Attributes:
        leader: The command's pid; another one, if it is started again.
        refused: How many messages came from somebody else.
    """

    def __init__(
        self,
        reactor: Reactor,
        fd: int,
        leader: int,
        is_member: Callable[[int], bool],
        said: Callable[[Message], None],
    ) -> None:
        self._reactor, self.leader, self._is_member, self._said = reactor, leader, is_member, said
        self.refused = 0
        self._uids: set[int] = {0}
        # as long as it can be found out: later there may be no descriptor for it, or no leader
        self._trusted()
        self._socket = _socket.socket(fileno=fd)
        self._socket.setblocking(False)
        reactor.watch(fd, self.read)

    def close(self) -> None:
        """Read no more; a sender is refused from now on."""
        if self._socket.fileno() >= 0:
            self._reactor.unwatch(self._socket.fileno())
            self._socket.close()

    def read(self) -> None:
        """Read some of the messages that there are: more is offered again."""
        known: dict[tuple[int, int], bool] = {}  # within one go; a pid is not used again so soon
        for _ in range(AT_ONCE):
            if self._socket.fileno() < 0:  # closed by whom we told
                return
            try:
                data, ancillary, flags, _ = self._socket.recvmsg(
                    MESSAGE, _ANCILLARY, _socket.MSG_CMSG_CLOEXEC
                )
            except BlockingIOError:
                return
            sender = _sender(ancillary)
            fields = {} if flags & _socket.MSG_TRUNC else parse(data)
            if not fields:
                continue
            if sender not in known:
                known[sender] = self._is_believed(*sender)
            if known[sender]:
                self._said(Message(sender[0], fields))
            else:
                self.refused += 1

    def _is_believed(self, pid: int, uid: int) -> bool:
        if pid <= 0:  # of another PID namespace, outside of ours
            return False
        if self._is_member(pid):
            return True
        return (_is_gone(pid) or not read_file("/proc/self/stat")) and uid in self._trusted()

    def _trusted(self) -> set[int]:
        """Return the users whose processes are believed when they are gone: the leader's, as was
        last seen, and root."""
        user = process_tree.user_of(
            self.leader
        )  # the real one: what the kernel puts into the credentials
        if user is not None:
            self._uids = {0, user}
        return self._uids


def _is_gone(pid: int) -> bool:
    try:
        posix.kill(pid, 0)
    except ProcessLookupError:
        return True
    except OSError:
        pass  # EPERM: it is another user's
    return False


def _sender(ancillary: Sequence[tuple[int, int, bytes]]) -> tuple[int, int]:
    """Return pid and uid of a message's sender, or zeros if it has none; close the descriptors that
    came with it.

    That they are closed is what BARRIER=1 waits for, and what a service manager without a store
    does with FDSTORE=1.
    """
    sender = 0, 0
    for level, kind, data in ancillary:
        if level == _socket.SOL_SOCKET and kind == _SCM_CREDENTIALS and len(data) >= _UCRED:
            numbers = memoryview(data[:_UCRED]).cast("I")
            sender = numbers[0], numbers[1]
        elif level == _socket.SOL_SOCKET and kind == _socket.SCM_RIGHTS:
            for fd in memoryview(data[: len(data) // 4 * 4]).cast("i"):
                _close(fd)
    return sender


def _close(fd: int) -> None:
    """Close a descriptor of somebody else's without waiting.

    close(2) of a socket with SO_LINGER waits for its peer, for 3 s where it was set to 3 (seen),
    O_NONBLOCK or not.
    """
    try:
        sock = _socket.socket(fileno=fd)
    except OSError:  # not a socket
        sock = None
    try:
        if sock is None:
            posix.close(fd)
        else:
            if any(
                sock.getsockopt(_socket.SOL_SOCKET, _socket.SO_LINGER, 8)[4:]
            ):  # struct linger: on or off, seconds
                sock.setsockopt(_socket.SOL_SOCKET, _socket.SO_LINGER, bytes(8))
            sock.close()
    except OSError:
        pass  # an error in closing: it is closed nevertheless


def open_main(pid: int, is_member: Callable[[int], bool]) -> int | None:
    """Return a pidfd of a process that MAINPID names, or None if it is not one of the command's (or
    Linux is older than 5.3).

    It is opened first and looked at afterwards: as long as the pidfd finds somebody, the number
    cannot have passed to another.
    """
    import _signal

    try:
        fd = posix.pidfd_open(pid)
    except OSError:
        return None
    if is_member(pid):
        try:
            _signal.pidfd_send_signal(fd, 0)
            return fd
        except PermissionError:  # it changed its user, and is alive
            return fd
        except OSError:
            pass
    posix.close(fd)
    return None
