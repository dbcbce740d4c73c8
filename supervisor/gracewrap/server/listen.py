"""Opens listening sockets, TCP and unix.

They are opened before the command is spawned, so that a port in use prevents the start.  Therefore
this module imports only what that needs.
"""

from __future__ import annotations

import _socket
import posix

from gracewrap.record import TYPE_CHECKING

if TYPE_CHECKING:
    from gracewrap.config.probe_specs import Address

# Connections that the kernel queues for us; net.core.somaxconn may reduce it.
BACKLOG = 512

_ENOENT, _ENAMETOOLONG, _EAFNOSUPPORT, _EADDRINUSE, _ECONNREFUSED = 2, 36, 97, 98, 111
_MAX_PATH = 107  # bytes, and a NUL (unix(7))
_S_IFMT, _S_IFSOCK = 0o170000, 0o140000  # inode(7)

# Path -> device and inode of the unix sockets that we have created: remove() removes no others.
_created: dict[str, tuple[int, int]] = {}


def bind(address: Address, mode: int = 0o660) -> int:
    """Return a file descriptor that listens at *address*, closed on exec.

    Without a host, one socket serves IPv4 and IPv6, or only IPv4 if the kernel has no IPv6.  The
    file of a unix socket has *mode* from the moment it exists.  A stale unix socket is replaced;
    anything else at its path is left alone.

    Raises:
        OSError: If it is impossible; EADDRINUSE if another process listens there.
    """
    if address.path:
        return bind_unix(address.path, mode)
    if ":" in address.host:
        return _bind_tcp(_socket.AF_INET6, address.host, address.port)
    if address.host:
        return _bind_tcp(_socket.AF_INET, address.host, address.port)
    try:
        return _bind_tcp(_socket.AF_INET6, "", address.port)
    except OSError as error:
        # EAFNOSUPPORT: the kernel was started with ipv6.disable=1, or built without IPv6.
        if error.errno != _EAFNOSUPPORT:
            raise
    return _bind_tcp(_socket.AF_INET, "", address.port)


def _bind_tcp(family: int, host: str, port: int) -> int:
    """Return a listening TCP socket; with IPv6 and no host, one for both families."""
    sock = _socket.socket(family, _socket.SOCK_STREAM)
    try:
        # Without it, connections of a gracewrap that has just exited would block the port for a
        # minute (TIME_WAIT, tcp(7)).
        sock.setsockopt(_socket.SOL_SOCKET, _socket.SO_REUSEADDR, 1)
        # Responses are written in one piece.  Accepted connections inherit this option.
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


def bind_unix(path: str, mode: int) -> int:
    """Return a file descriptor that listens at *path*; the rest is as in bind()."""
    if len(path.encode(errors="surrogateescape")) > _MAX_PATH:
        raise OSError(
            _ENAMETOOLONG, f"the path of a unix socket has at most {_MAX_PATH} bytes", path
        )
    # Created under another name: between bind and listen it would look like a stale socket, and
    # another gracewrap might remove it.
    temporary = f"{path.rpartition('/')[0]}/.gw-{posix.getpid()}"
    sock = _socket.socket(_socket.AF_UNIX, _socket.SOCK_STREAM)
    try:
        _remove_stale(path)
        _remove_stale(temporary)
        _create_file(sock, temporary, mode)
        try:
            sock.listen(BACKLOG)
            found = posix.lstat(temporary)
            posix.rename(temporary, path)
        except OSError:
            posix.unlink(temporary)
            raise
        _created[path] = found.st_dev, found.st_ino
    except BaseException:
        sock.close()
        raise
    return sock.detach()


def adopt(path: str, device: int, inode: int) -> None:
    """Count a unix socket that the launcher has created in this process among those of bind()."""
    _created[path] = device, inode


def created(path: str) -> tuple[int, int] | None:
    """Return device and inode of a unix socket that we have created; None: we have not."""
    return _created.get(path)


def remove(path: str) -> None:
    """Remove a unix socket that bind() has created, unless another file has replaced it.

    Never raises.
    """
    try:
        found = posix.lstat(path)
        if _created.pop(path, None) == (found.st_dev, found.st_ino):
            posix.unlink(path)
    except (OSError, ValueError):
        pass


def _create_file(sock: _socket.socket, path: str, mode: int) -> None:
    """Bind *sock*, which creates its file with *mode*.

    Done by the umask: before a chmod(2), another user could connect.
    """
    before = posix.umask(0o777 & ~mode)
    try:
        sock.bind(path)
    finally:
        posix.umask(before)


def _remove_stale(path: str) -> None:
    """Remove the file of a unix socket on which no process listens.

    Raises:
        OSError: EADDRINUSE if a process listens or may listen, or if it is not a socket.
    """
    try:
        if posix.lstat(path).st_mode & _S_IFMT != _S_IFSOCK:
            raise OSError(_EADDRINUSE, "the file exists and is not a socket", path)
        if is_listening(path):
            raise OSError(_EADDRINUSE, posix.strerror(_EADDRINUSE), path)
        posix.unlink(path)
    except FileNotFoundError:
        pass  # its owner has removed it


def is_listening(path: str) -> bool:
    """Return whether a process listens on a unix socket, or may: only a refusal rules it out."""
    sock = _socket.socket(_socket.AF_UNIX, _socket.SOCK_STREAM)
    try:
        sock.setblocking(False)
        # EAGAIN: a process listens, and its backlog is full.
        return sock.connect_ex(path) not in (_ECONNREFUSED, _ENOENT)
    finally:
        sock.close()
