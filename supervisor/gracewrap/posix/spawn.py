"""Start a program: fork, own process group, terminal, clean signals, exec.  Never waits, not even for the exec.

Fork by hand: posix_spawn and subprocess can neither hand over the terminal before the exec nor give LISTEN_PID the child's pid,
and subprocess would pass our signal mask on.  There are no threads and no Python signal handlers here, so Python code between
fork and exec is safe.
"""

from __future__ import annotations

import _signal
import posix
import sys

from gracewrap.posix.signals import BLOCKABLE, SIGHUP
from gracewrap.record import TYPE_CHECKING, Record

if TYPE_CHECKING:
    from collections.abc import Sequence

ENOENT, ENOEXEC, EAGAIN, EACCES, ENOTDIR = 2, 8, 11, 13, 20
# Errors after which execvp(3) tries the next directory of PATH: not there, not a directory, a network disk gone away.
_TRY_NEXT = {ENOENT, ENOTDIR, 19, 110, 116}
_DEFAULT_PATH = b"/bin:/usr/bin"  # confstr(_CS_PATH) of glibc, which execvp(3) searches without PATH


class Spawned(Record):
    """A child right after the fork.  *exec_fd* gets the errno of a failed exec, or end of file; -1: there was no descriptor."""

    pid: int
    exec_fd: int


def environment() -> dict[bytes, bytes]:
    """Return our environment as it was given to us, in bytes.

    In the C locale Python puts LC_CTYPE=C.UTF-8 into its own environment (PEP 538); the child must not find that.
    """
    env = dict(posix.environ)
    if b"LC_CTYPE" in env:
        try:
            fd = posix.open("/proc/self/environ", posix.O_RDONLY | posix.O_CLOEXEC)
        except OSError:
            return env
        given = b""
        while part := posix.read(fd, 1 << 16):
            given += part
        posix.close(fd)
        if b"\0LC_CTYPE=" not in b"\0" + given:
            del env[b"LC_CTYPE"]
    return env


def spawn(argv: Sequence[str], tty: int | None) -> Spawned:
    """Start *argv* in a process group of its own and return at once.

    Args:
        argv: The command, looked up as execvp(3) does, and its arguments, passed on verbatim.
        tty: The controlling terminal whose foreground the child's group becomes, or None.

    Raises:
        OSError: If there is no process to be had; EAGAIN has been tried twice.
    """
    try:
        reading, writing = posix.pipe2(posix.O_CLOEXEC | posix.O_NONBLOCK)
    except OSError:  # EMFILE: then the child says itself what goes wrong
        reading, writing = -1, -1
    try:
        pid = posix.fork()
    except BlockingIOError:  # EAGAIN: a limit on processes; one of them may just have gone
        pid = posix.fork()
    if pid == 0:
        _become(argv, tty, writing)
    if writing >= 0:
        posix.close(writing)
    try:
        posix.setpgid(pid, pid)  # both sides do it: whoever is first, the group exists for both from here on
    except OSError:
        pass  # EACCES: it has done its exec, and so its own setpgid before; ESRCH: it has exited
    return Spawned(pid, reading)


def _become(argv: Sequence[str], tty: int | None, status_fd: int) -> None:
    """In the child: become *argv*, or write the errno to *status_fd*, or else the reason to stderr.  Never returns."""
    failed = EACCES
    try:
        posix.setpgid(0, 0)
        if tty is not None:
            try:
                posix.tcsetpgrp(tty, posix.getpid())  # SIGTTOU is still blocked, so this does not stop us
            except OSError:
                pass  # the terminal hung up meanwhile
        env = environment()
        for name in (b"LISTEN_PID", b"WATCHDOG_PID"):  # sd_listen_fds(3): they name the receiver, which we are not
            if env.get(name) == str(posix.getppid()).encode():
                env[name] = str(posix.getpid()).encode()
        _reset_signals()
        failed = _exec(argv, env)
    except BaseException as error:
        failed = getattr(error, "errno", None) or failed
    finally:
        status, reason = explain(argv, failed)
        data = str(failed) if status_fd >= 0 else f"gracewrap: {reason}\n"
        posix.write(max(status_fd, 2), data.encode(errors="backslashreplace"))
        posix._exit(status)


def _reset_signals() -> None:
    """Give the child default dispositions and an empty mask, as a program started by init has them.

    What we were started with does not count (a shell's `&` ignores SIGINT; a stop signal must work), except an ignored SIGHUP:
    that is nohup(1), and meant.  Python ignores SIGPIPE and SIGXFSZ for itself.
    """
    for signum in BLOCKABLE:
        if signum != SIGHUP or _signal.getsignal(signum) is not _signal.SIG_IGN:
            _signal.signal(signum, _signal.SIG_DFL)
    # Last: a signal that came since the fork acts now, by its default action, and is not lost.
    _signal.pthread_sigmask(_signal.SIG_SETMASK, ())


def _exec(argv: Sequence[str], env: dict[bytes, bytes]) -> int:
    """Execute as execvp(3): search PATH, prefer EACCES over ENOENT, run what has no format by /bin/sh.  Returns the errno."""
    encoding, handler = sys.getfilesystemencoding(), sys.getfilesystemencodeerrors()
    args = [word.encode(encoding, handler) for word in argv]
    file, failed = args[0], ENOENT
    if b"/" in file:
        paths = [file]
    else:
        paths = [(d or b".") + b"/" + file for d in env.get(b"PATH", _DEFAULT_PATH).split(b":")] if file else []
    for path in paths:
        error = _try(path, args, env)
        if error == ENOEXEC:
            error = _try(b"/bin/sh", [b"/bin/sh", path, *args[1:]], env)
        if error == EACCES or failed != EACCES:
            failed = error
        if error != EACCES and error not in _TRY_NEXT:
            break
    return failed


def _try(path: bytes, args: list[bytes], env: dict[bytes, bytes]) -> int:
    try:
        posix.execve(path, args, env)
    except OSError as error:
        return error.errno or EACCES


def exec_failure(exec_fd: int) -> int | None:
    """Return the errno of the exec, or None if it succeeded (or has not happened yet)."""
    try:
        written = posix.read(exec_fd, 16)
    except OSError:  # EAGAIN: not yet; EBADF: there is none
        return None
    return int(written) if written else None


def explain(argv: Sequence[str], errno: int) -> tuple[int, str]:
    """Return the exit status (126 cannot be executed, 127 not found) and the reason why *argv* could not be run."""
    file = argv[0]
    status = 127 if errno in _TRY_NEXT else 126
    reason = posix.strerror(errno)
    if errno == ENOENT and not file:
        reason = "its name is empty"
    elif errno == ENOENT and "/" not in file:
        reason += " (searched PATH)"
    elif errno == ENOENT and (interpreter := _interpreter(file)):
        reason = f"its interpreter {interpreter!r} (first line of the file) was not found"
    elif errno == EACCES:
        reason += _why_denied(file)
    if errno in (ENOENT, ENOTDIR) and " " in file.strip():
        reason += "; it is one word with spaces: write the arguments as words of their own, or sh -c '...'"
    return status, f"cannot run {file!r}: {reason}"


def _interpreter(file: str) -> str | None:
    """Return what the first line of a script names, if that is why a file that exists was not found."""
    try:
        with open(file, "rb") as script:
            first = script.readline(256)
    except OSError:
        return None
    words = first[2:].split() if first.startswith(b"#!") else []
    return words[0].decode(errors="replace") if words else None


def _why_denied(file: str) -> str:
    try:
        mode = posix.stat(file).st_mode
    except OSError:
        return ""
    if mode & 0o170000 == 0o040000:
        return " (it is a directory)"
    return "" if mode & 0o111 else " (no execute permission; chmod +x)"
