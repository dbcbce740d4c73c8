"""Start a program by fork(2), for what posix_spawn(3) cannot do; never waits, not even for the
exec.

There are no threads and no Python signal handlers here, so Python code between fork and exec is
safe.
"""

from __future__ import annotations

import _signal
import posix
import sys

from gracewrap.linux import exec_format
from gracewrap.linux.exec_errors import EACCES, ENOENT, ENOEXEC, TRY_NEXT, explain
from gracewrap.record import TYPE_CHECKING, replace

if TYPE_CHECKING:
    from collections.abc import Sequence

    from gracewrap.linux.between_fork_and_exec import ExecContext

_LONGEST = 4096  # bytes of why it failed: no more go into a pipe in one piece (pipe(7))
_DEFAULT_PATH = (
    b"/bin:/usr/bin"  # confstr(_CS_PATH) of glibc, which execvp(3) searches without PATH
)


def spawn(
    argv: Sequence[str],
    env: dict[bytes, bytes],
    resets: Sequence[int],
    tty: int | None,
    process: ExecContext | None = None,
    stdio: tuple[int, int] = (-1, -1),
    no_stdin: bool = False,
) -> tuple[int, int]:
    """Start *argv* in a process group of its own, in the foreground of *tty*, as *process*, and
    return at once.

    *resets* are the signals that get their default action. *stdio* and *no_stdin* are as for
    spawn.spawn(), only that here any descriptor will do.

    Returns:
        Its pid, and a descriptor for exec_failure(); -1: there was none to be had.

    Raises:
        OSError: If there is no process to be had; EAGAIN has been tried twice.
    """
    if no_stdin and not (process is not None and process.no_stdin):
        from gracewrap.linux.between_fork_and_exec import ExecContext

        process = (
            ExecContext(environment=env, no_stdin=True)
            if process is None
            else replace(process, no_stdin=True)
        )
    try:
        reading, writing = posix.pipe2(posix.O_CLOEXEC | posix.O_NONBLOCK)
    except OSError:  # EMFILE: then the child says itself what goes wrong
        reading, writing = -1, -1
    try:
        pid = _fork(argv, env, resets, tty, process, writing, stdio)
    except OSError:
        if reading >= 0:
            posix.close(reading)
        raise
    finally:
        if writing >= 0:
            posix.close(writing)
    return pid, reading


def helper(
    argv: Sequence[str],
    env: dict[bytes, bytes],
    resets: Sequence[int],
    stdio: tuple[int, int],
    process: ExecContext | None,
    captured: bool,
) -> int:
    """Start a helper as *process* (None: as we are), without stdin, and return its pid at once.

    One that cannot be run ends with 126 or 127, and says why: on its stdout if that is *captured*,
    so that somebody asks for it, else on its stderr.

    Raises:
        OSError: As spawn().
    """
    if process is None:
        from gracewrap.linux.between_fork_and_exec import ExecContext

        process = ExecContext(environment=env, no_stdin=True)
    return _fork(argv, env, resets, None, process, -1, stdio, 1 if captured else 2)


def _fork(
    argv: Sequence[str],
    env: dict[bytes, bytes],
    resets: Sequence[int],
    tty: int | None,
    process: ExecContext | None,
    status_fd: int,
    stdio: tuple[int, int],
    people: int = 2,
) -> int:
    try:
        pid = posix.fork()
    except BlockingIOError:  # EAGAIN: a limit on processes; one of them may just have gone
        pid = posix.fork()
    if pid == 0:
        _become(argv, env, resets, tty, process, status_fd, stdio, people)
    try:
        posix.setpgid(
            pid, pid
        )  # both sides do it: whoever is first, the group exists for both from here on
    except OSError:
        pass  # EACCES: it has done its exec, and so its own setpgid before; ESRCH: it has exited
    return pid


def _become(
    argv: Sequence[str],
    env: dict[bytes, bytes],
    resets: Sequence[int],
    tty: int | None,
    process: ExecContext | None,
    status_fd: int,
    stdio: tuple[int, int],
    people: int,
) -> None:
    """In the child: become *argv*, or say why not, to *status_fd* or else to *people*.  Never
    returns."""
    status, reason = 126, "cannot be run"
    try:
        posix.setpgid(0, 0)
        if tty is not None:
            _take_terminal(tty)
        _name_receiver(env)
        _connect(stdio)
        if process is not None:
            from gracewrap.linux.between_fork_and_exec import become

            become(process)
        for signum in resets:
            _signal.signal(signum, _signal.SIG_DFL)
        # Last: a signal that came since the fork acts now, by its default action, and is not lost.
        _signal.pthread_sigmask(_signal.SIG_SETMASK, ())
        status, reason = explain(argv, *_exec(argv, env))
    except BaseException as error:
        errno = getattr(error, "errno", None)
        status, reason = (
            explain(argv, errno)
            if errno
            else (126, str(error) or f"cannot run {argv[0]!r}: {type(error).__name__}")
        )
    finally:
        data = f"{status} {reason}" if status_fd >= 0 else f"gracewrap: {reason}\n"
        target = status_fd if status_fd >= 0 else people
        posix.write(target, data.encode(errors="backslashreplace")[:_LONGEST])
        posix._exit(status)


def _take_terminal(tty: int) -> None:
    try:
        posix.tcsetpgrp(tty, posix.getpid())  # SIGTTOU is still blocked, so this does not stop us
    except OSError:
        pass  # the terminal hung up meanwhile


def _name_receiver(env: dict[bytes, bytes]) -> None:
    """Put our pid where our parent's is: these variables name the process that they are for
    (sd_listen_fds(3))."""
    for name in (b"LISTEN_PID", b"WATCHDOG_PID"):
        if env.get(name) == str(posix.getppid()).encode():
            env[name] = str(posix.getpid()).encode()


def _connect(stdio: tuple[int, int]) -> None:
    """In the child: make them its stdout and its stderr, whatever numbers they have."""
    out, err = stdio
    if out >= 0 and err == 1:
        err = posix.dup(1)  # or it would be lost in the next moment
    for fd, number in ((out, 1), (err, 2)):
        if fd == number:
            posix.set_inheritable(fd, True)  # dup2(2) would leave it to be closed by the exec
        elif fd >= 0:
            posix.dup2(fd, number)


def _exec(argv: Sequence[str], env: dict[bytes, bytes]) -> tuple[int, str]:
    """Execute as execvp(3): search PATH, prefer EACCES over ENOENT, run what has no format by
    /bin/sh, unless it is a binary.  Returns the errno, and of which file it is."""
    encoding, handler = sys.getfilesystemencoding(), sys.getfilesystemencodeerrors()
    args = [word.encode(encoding, handler) for word in argv]
    file, failed, tried = args[0], ENOENT, args[0]
    if b"/" in file:
        paths = [file]
    else:
        paths = (
            [(d or b".") + b"/" + file for d in env.get(b"PATH", _DEFAULT_PATH).split(b":")]
            if file
            else []
        )
    for path in paths:
        error = _try(path, args, env)
        if error == ENOEXEC and not exec_format.why_not_run(path):
            error = _try(b"/bin/sh", [b"/bin/sh", path, *args[1:]], env)
        if error == EACCES or failed != EACCES:
            failed, tried = error, path
        if error != EACCES and error not in TRY_NEXT:
            break
    return failed, tried.decode(encoding, handler)


def _try(path: bytes, args: list[bytes], env: dict[bytes, bytes]) -> int:
    try:
        posix.execve(path, args, env)
    except OSError as error:
        return error.errno or EACCES


def exec_failure(exec_fd: int) -> tuple[int, str] | None:
    """Return exit status and reason of what could not be run, or None if it was (or has not been
    tried yet)."""
    try:
        written = posix.read(exec_fd, _LONGEST)
    except OSError:  # EAGAIN: not yet; EBADF: there is none
        return None
    status, _, reason = written.decode(errors="replace").partition(" ")
    return (int(status), reason) if written else None
