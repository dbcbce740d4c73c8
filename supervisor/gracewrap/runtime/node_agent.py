"""Prepares the Node.js agent: its socket, and NODE_OPTIONS, by which it is loaded.

Whatever stands against it, the command is started without it, and why is logged: the agent must
never keep a command from starting.
"""

from __future__ import annotations

import posix

from gracewrap.linux import agent_files, agent_socket, launcher, sd_notify
from gracewrap.linux.spawn import environment
from gracewrap.record import TYPE_CHECKING, Record

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from gracewrap.linux.between_fork_and_exec import ExecContext

SOCKET = b"GRACEWRAP_AGENT_SOCKET"
_OPTIONS = b"NODE_OPTIONS"
_FILE = "agent.cjs"
_NAMES = (b"node", b"nodejs", b"iojs")
# With the permission model the agent's file, and its socket, are out of reach: Node.js would exit.
_REFUSED = (b"--permission", b"--experimental-permission")
_READ_PACKAGE = (b"npm", b"npx", b"yarn", b"pnpm", b"pnpx", b"corepack")


class Loaded(Record):
    """How the agent gets into the command; *why_not* says why it does not."""

    variables: Mapping[bytes, bytes] = {}
    socket: tuple[int, str] | None = None
    why_not: str = ""


def prepare(command: Sequence[str], process: ExecContext | None) -> Loaded:
    """Make the agent's socket, and return the variables that load the agent into *command*."""
    given = environment() if process is None else process.environment
    options = given.get(_OPTIONS, b"")
    folder = "." if process is None else process.working_dir or "."
    if why := _why_not(command, given, options, folder):
        return Loaded(why_not=why)
    try:
        fd, socket = agent_socket.make()
    except OSError as error:
        return Loaded(why_not=f"there is no place for its socket: {error.strerror}")
    try:
        path = _unpacked(socket)
        why = "" if _readable(path, process) else f"the command's user cannot read {path}"
    except OSError as error:
        path, why = "", f"there is no place for its files: {error.strerror}"
    if why:
        posix.close(fd)
        remove(socket)
        return Loaded(why_not=why)
    variables = {SOCKET: socket.encode(), _OPTIONS: with_agent(options, path)}
    return Loaded(variables, (fd, socket))


def remove(socket: str) -> None:
    """Remove what prepare() has made: the socket, and files beside it."""
    sd_notify.remove(socket)
    agent_files.remove(socket)


def _unpacked(socket: str) -> str:
    """Return the path of the agent, beside its *socket* if there is room for it."""
    try:
        return f"{agent_files.unpack(socket)}/{_FILE}"
    except OSError:
        if launcher.is_single_file():
            raise
        return agent_file()


def agent_file() -> str:
    """Return the path of the agent in the package."""
    return f"{agent_files.package_folder()}/{_FILE}"


def with_agent(options: bytes, path: str) -> bytes:
    """Return NODE_OPTIONS with the agent loaded first; as they are if that is in them already.

    Node.js reads a word in double quotes as one, with \\ before a quote or another \\ in it.
    """
    quoted = path.replace("\\", "\\\\").replace('"', '\\"').encode(errors="surrogateescape")
    word = b'--require "' + quoted + b'"'
    if word in options:
        return options
    return word + b" " + options if options else word


def _why_not(
    command: Sequence[str], given: Mapping[bytes, bytes], options: bytes, folder: str
) -> str:
    words = [word.encode(errors="surrogateescape") for word in command]
    # A word may be the text of a shell, or of "npm exec -c".
    if _refuses(b" ".join([*words[1:], options])):
        return "Node.js runs with --permission, under which the agent cannot be read"
    reads_package = any(word.rpartition(b"/")[2] in _READ_PACKAGE for word in words[:3])
    if reads_package and _refuses(_head(f"{folder}/package.json", 1 << 20)):
        return "package.json runs Node.js with --permission, under which the agent cannot be read"
    found = _find(command[0], given)
    if found is not None and _is_another_binary(found):
        return f"{command[0]} is not Node.js"
    return ""


def _readable(path: str, process: ExecContext | None) -> bool:
    """Return whether the user of the command can read the agent."""
    uid = None if process is None else process.uid
    try:
        if uid in (None, 0, posix.geteuid()):
            return posix.access(path, posix.R_OK)
        parts = path.split("/")
        above = ("/".join(parts[:depth]) or "/" for depth in range(1, len(parts)))
        return bool(posix.stat(path).st_mode & 0o004) and all(
            posix.stat(directory).st_mode & 0o001 for directory in above
        )
    except OSError:
        return False


def _find(word: str, given: Mapping[bytes, bytes]) -> str | None:
    """Return the file of a command, as execvp(3) finds it; None if that is not to be found out."""
    if "/" in word:
        return word
    for directory in given.get(b"PATH", b"/bin:/usr/bin").split(b":"):
        path = f"{directory.decode(errors='surrogateescape') or '.'}/{word}"
        if posix.access(path, posix.X_OK):
            return path
    return None


def _is_another_binary(path: str) -> bool:
    """Return whether a file is certainly not Node.js, and does not start it either.

    A script may: npm is one.  So may a shell.  A binary of another name may be an application in a
    single executable, which takes no --require.
    """
    name = path.rpartition("/")[2].encode(errors="surrogateescape")
    if not _head(path).startswith(b"\x7fELF"):
        return False
    return name.rstrip(b"0123456789.") not in (*_NAMES, *_STARTERS)


# Binaries that start others, with the environment that they have.
_STARTERS = (
    *(b"sh", b"bash", b"dash", b"ash", b"busybox", b"zsh", b"ksh", b"env", b"nice", b"timeout"),
    *(b"setpriv", b"gosu", b"su-exec", b"sudo", b"su", b"runuser", b"chroot", b"setsid"),
    *(b"tini", b"dumb-init", b"catatonit", b"python", b"make", b"strace", b"pnpm"),
    *(b"volta", b"volta-shim", b"fnm", b"mise", b"doppler", b"infisical", b"chamber"),
)


def _refuses(text: bytes) -> bool:
    words = text.replace(b'"', b" ").replace(b"'", b" ").split()
    return any(word.partition(b"=")[0] in _REFUSED for word in words)


def _head(path: str, size: int = 4) -> bytes:
    try:
        fd = posix.open(path, posix.O_RDONLY | posix.O_CLOEXEC | posix.O_NONBLOCK)
    except OSError:
        return b""
    try:
        return posix.read(fd, size)
    except OSError:  # a directory
        return b""
    finally:
        posix.close(fd)
