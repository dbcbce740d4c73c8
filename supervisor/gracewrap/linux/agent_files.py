"""The Node.js agent's files, written out where the command can read them: in the single file they
are a part of gracewrap itself; those of the package may be replaced or removed during the run, and
a Node.js that is to load a file that is not there does not start.

They lie beside the agent's socket, and are removed with it.
"""

from __future__ import annotations

import posix

from gracewrap.linux import launcher
from gracewrap.linux.agent_socket import PREFIX
from gracewrap.linux.procfs import read_whole
from gracewrap.record import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator

SUFFIX = ".files"
FOLDER = "agents/node/"  # of these in the package, and in the single file
_NEW = posix.O_WRONLY | posix.O_CREAT | posix.O_EXCL | posix.O_CLOEXEC | posix.O_NOFOLLOW


def unpack(socket: str) -> str:
    """Write the files beside the agent's *socket*, and return the directory; whoever the command
    runs as can read it.

    Raises:
        OSError: If there is no room for them; nothing is left behind.
    """
    directory = socket + SUFFIX
    posix.mkdir(directory, 0o700)
    try:
        posix.chmod(directory, 0o755)  # whatever our umask is
        for name, content in _files():
            _write(f"{directory}/{name}", content)
    except OSError:
        remove(socket)
        raise
    _sweep(socket)
    return directory


def _files() -> Iterator[tuple[str, bytes]]:
    """Yield the files, by name and content."""
    if launcher.is_single_file():
        from gracewrap_files import FILES

        for name, content in FILES.items():
            if name.startswith(FOLDER):
                yield name.removeprefix(FOLDER), content
        return
    directory = package_folder()
    for name in posix.listdir(directory):
        if name.endswith(".cjs"):
            yield name, read_whole(f"{directory}/{name}")


def package_folder() -> str:
    """Return the directory of the agent in the package."""
    return f"{__file__.rpartition('/')[0].rpartition('/')[0]}/{FOLDER.rstrip('/')}"


def _write(path: str, content: bytes) -> None:
    fd = posix.open(path, _NEW, 0o600)
    try:
        posix.fchmod(fd, 0o644)
        while content:
            content = content[posix.write(fd, content) :]
    finally:
        posix.close(fd)


def remove(socket: str) -> None:
    """Remove the files beside *socket*, if there are any."""
    directory = socket + SUFFIX
    try:
        for name in posix.listdir(directory):
            posix.unlink(f"{directory}/{name}")
        posix.rmdir(directory)
    except OSError:
        pass  # there are none, or the file system has become read-only


def _sweep(socket: str) -> None:
    """Remove the files of gracewraps that were killed: those whose socket has been swept."""
    place = socket.rpartition("/")[0]
    for name in posix.listdir(place):
        if name.startswith(PREFIX) and name.endswith(SUFFIX):
            other = f"{place}/{name.removesuffix(SUFFIX)}"
            try:
                posix.lstat(other)
            except FileNotFoundError:
                remove(other)
