"""Sockets to listen at.  Opened before the command is spawned, so that a port in use is a mistake
and not a surprise: no more is imported here than that needs.
"""

from __future__ import annotations

import _socket
import posix

from gracewrap.record import TYPE_CHECKING

if TYPE_CHECKING:
    from gracewrap.config.probe_specs import Address

BACKLOG = (
    512  # connections that the kernel keeps for us meanwhile; net.core.somaxconn may make it less
)

_ENOENT, _ENAMETOOLONG, _EAFNOSUPPORT, _EADDRINUSE, _ECONNREFUSED = 2, 36, 97, 98, 111
_PATH_MOST = 107  # bytes, and a NUL (unix(7))
_S_IFMT, _S_IFSOCK = 0o170000, 0o140000  # inode(7)

_made: dict[
    str, tuple[int, int]
] = {}  # device and inode of the files that we have made: no others are ours to remove


def bind(address: Address, mode: int = 0o660) -> int:
    """Return a descriptor that listens at *address*, closed on exec.

    Without a host, IPv4 and IPv6 are served by one socket, or IPv4 alone where the kernel has
    nothing else.  The file of a unix socket has *mode* from its first moment on.  One to which
    nobody answers any more is replaced; what is no socket never is.

    Raises:
        OSError: If it cannot be listened at; EADDRINUSE if somebody else does.
    """
    if address.path:
        return _bind_unix(address.path, mode)
    if ":" in address.host:
        return _bind_tcp(_socket.AF_INET6, address.host, address.port)
    if address.host:
        return _bind_tcp(_socket.AF_INET, address.host, address.port)
    try:
        return _bind_tcp(_socket.AF_INET6, "", address.port)
    except OSError as error:
        if (
            error.errno != _EAFNOSUPPORT
        ):  # the kernel was started with ipv6.disable=1, or built without it
            raise
    return _bind_tcp(_socket.AF_INET, "", address.port)


def _bind_tcp(family: int, host: str, port: int) -> int:
    """Return a listening TCP socket; for IPv6 and no host, one for both families."""
    sock = _socket.socket(family, _socket.SOCK_STREAM)
    try:
        # Without it, connections of a gracewrap that has just ended would hold the port for a
        # minute (TIME_WAIT, tcp(7)).
        sock.setsockopt(_socket.SOL_SOCKET, _socket.SO_REUSEADDR, 1)
        # Answers are sent whole; accepted connections inherit this.
        sock.setsockopt(_socket.IPPROTO_TCP, _socket.TCP_NODELAY, 1)
        if family == _socket.AF_INET6:
            if not host:
                sock.setsockopt(_socket.IPPROTO_IPV6, _socket.IPV6_V6ONLY, 0)
            host, _, zone = (host or "::").partition("%")
            scope = int(zone) if zone.isdecimal() else _socket.if_nametoindex(zone) if zone else 0
            sock.bind((host, port, 0, scope))
        else:
            sock.bind((host or "0.0.0.0", port))
        sock.listen(BACKLOG)
    except BaseException:
        sock.close()
        raise
    return sock.detach()


def _bind_unix(path: str, mode: int) -> int:
    """Return a listening unix socket."""
    if len(path.encode(errors="surrogateescape")) > _PATH_MOST:
        raise OSError(
            _ENAMETOOLONG, f"the path of a unix socket has {_PATH_MOST} bytes at most", path
        )
    # Made under another name: between bind and listen it would look like one that was left behind,
    # and be removed for it.
    new = f"{path.rpartition('/')[0]}/.gw-{posix.getpid()}"
    sock = _socket.socket(_socket.AF_UNIX, _socket.SOCK_STREAM)
    try:
        _remove_stale(path)
        _remove_stale(new)
        _make_file(sock, new, mode)
        try:
            sock.listen(BACKLOG)
            there = posix.lstat(new)
            posix.rename(new, path)
        except OSError:
            posix.unlink(new)
            raise
        _made[path] = there.st_dev, there.st_ino
    except BaseException:
        sock.close()
        raise
    return sock.detach()


def remove(path: str) -> None:
    """Remove the file of a unix socket that bind() has made, unless another has taken its place;
    never raises."""
    try:
        there = posix.lstat(path)
        if _made.pop(path, None) == (there.st_dev, there.st_ino):
            posix.unlink(path)
    except (OSError, ValueError):
        pass


def _make_file(sock: _socket.socket, path: str, mode: int) -> None:
    """Bind *sock*, which makes the file: by the umask, for after a chmod(2) somebody could be
    connected already."""
    before = posix.umask(0o777 & ~mode)
    try:
        sock.bind(path)
    finally:
        posix.umask(before)


def _remove_stale(path: str) -> None:
    """Remove the file of a socket to which nobody answers.

    Raises:
        OSError: EADDRINUSE if somebody does, or may, or if it is no socket.
    """
    try:
        if posix.lstat(path).st_mode & _S_IFMT != _S_IFSOCK:
            raise OSError(_EADDRINUSE, "there is something there that is no socket", path)
        if answers(path):
            raise OSError(_EADDRINUSE, posix.strerror(_EADDRINUSE), path)
        posix.unlink(path)
    except FileNotFoundError:
        pass  # whose it was has removed it


def answers(path: str) -> bool:
    """Return whether somebody listens at a unix socket, or may: only a refusal says that nobody
    does."""
    sock = _socket.socket(_socket.AF_UNIX, _socket.SOCK_STREAM)
    try:
        sock.setblocking(False)
        return sock.connect_ex(path) not in (
            _ECONNREFUSED,
            _ENOENT,
        )  # EAGAIN: somebody whose backlog is full
    finally:
        sock.close()
