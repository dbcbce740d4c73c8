"""Start a program: own process group, clean signals, exec.  On the lean path: imports nothing that
is not built in.

posix_spawn(3) shares our memory until the exec, where a fork copies our page tables and then page
after page: 0.7 ms and 540 page faults less, of some 10 ms.  What it cannot do (hand over a
terminal, write the child's pid into LISTEN_PID, run a file without a format by the shell) is done
by posix/fork.py.  Signals that come while it waits for the exec stay pending.
"""

from __future__ import annotations

import _signal
import posix
import sys

from gracewrap.linux.procfs import read_file

TYPE_CHECKING = False

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from typing import Any

    from gracewrap.linux.between_fork_and_exec import ExecContext


# Named here, as SIGHUP is: what has these names, and more, is not loaded before the spawn.
ENOENT, ENOEXEC, EAGAIN, ENOMEM = 2, 8, 11, 12
EPERM = 1  # of clone3(2), which an older container runtime does not know; fork(2) needs only clone
SIGHUP = 1
OURS = (-1, -1)  # stdout and stderr as we have them

# What isolation.py has taken from our environment, and the -X option by which it hands it on.
PRELOAD, PRELOADED = b"LD_PRELOAD", "gracewrap_preload"

_given: list[dict[bytes, bytes]] = []  # our environment, once it has been found out

_defaults: list[int] = []  # what defaults() has found out


def defaults() -> list[int]:
    """Return the signals to which the child gets the default action, as a program started by init
    has them.

    What we were started with does not count (a shell's `&` ignores SIGINT; a stop signal must
    work), except an ignored SIGHUP:
    that is nohup(1), and meant.  Python ignores SIGPIPE and SIGXFSZ for itself.
    """
    if not _defaults:
        kept = (9, 19, SIGHUP) if _signal.getsignal(SIGHUP) == _signal.SIG_IGN else (9, 19)
        _defaults.extend(signum for signum in _signal.valid_signals() if signum not in kept)
    return _defaults


def foreign_threads() -> int:
    """Return how many threads this process has beside the one that runs us, which is the only one
    that we start; 0 without /proc."""
    try:
        # A directory has two links, and one from each directory in it.
        found = posix.stat("/proc/self/task").st_nlink - 3
    except OSError:
        return 0
    if found > 0:
        from gracewrap.linux import launcher

        # Nothing gets into that one.  qemu-user has a thread of its own, which blocks every signal.
        if launcher.is_single_file():
            return 0
    return found


def environment() -> Mapping[bytes, bytes]:
    """Return our environment as it was given to us, in bytes.

    In the C locale Python sets LC_CTYPE in its own environment (PEP 538); the child must not find
    that.
    """
    if not _given:
        _given.append(_environment())
    return _given[0]


def _environment() -> dict[bytes, bytes]:
    env: dict[bytes, bytes] = {
        name: value for name, value in posix.environ.items() if name
    }  # "=x" cannot be passed on
    if b"LC_CTYPE" in env and (given := _environ_as_given()) is not None:
        original = [word for word in given.split(b"\0") if word.startswith(b"LC_CTYPE=")]
        if original:
            env[b"LC_CTYPE"] = original[0].partition(b"=")[2]
        else:
            del env[b"LC_CTYPE"]
    if isinstance(preload := sys._xoptions.get(PRELOADED), str):
        env[PRELOAD] = preload.encode(errors="surrogateescape")
    return env


def _environ_as_given() -> bytes | None:
    """Return the environment that the kernel has of us, which may be empty; None without /proc."""
    path = "/proc/self/environ"
    return read_file(path) if posix.access(path, posix.R_OK) else None


def spawn(
    argv: Sequence[str],
    tty: int | None,
    more: Mapping[bytes, bytes] | None = None,
    process: ExecContext | None = None,
    stdio: tuple[int, int] = OURS,
    no_stdin: bool = False,
) -> tuple[int, int, int]:
    """Start *argv* in a process group of its own.

    Args:
        argv: The command, looked up as execvp(3) does, and its arguments, passed on verbatim.
        tty: The controlling terminal whose foreground the child's group becomes, or None.
        more: Variables for its environment, beside those that we have.
        process: What it is to be, with its environment; None: as we are.
        stdio: The descriptors that become its stdout and its stderr; -1: it has ours.
        no_stdin: Whether its stdin is empty, as it also is if *process* says so.

    Returns:
        The child's pid; a descriptor for fork.exec_failure(), where the exec is still to come, or
        -1; or no pid (0) and the errno of the exec that failed.

    Raises:
        OSError: If there is no process to be had; EAGAIN has been tried twice.
    """
    if not argv[0]:
        return 0, -1, ENOENT  # what execvp(3) says of an empty name
    env = {**(environment() if process is None else process.environment), **(more or {})}
    us = str(posix.getpid()).encode()
    if (
        tty is None
        and process is None
        and us not in (env.get(b"LISTEN_PID"), env.get(b"WATCHDOG_PID"))
        and _is_simple(stdio)
    ):
        try:
            return _spawn(argv, env, _actions(stdio, no_stdin)), -1, 0
        except OSError as error:
            if error.errno in (EAGAIN, ENOMEM):
                raise
            if error.errno not in (ENOEXEC, EPERM) and not (no_stdin and _has_no_null()):
                return 0, -1, error.errno or 0
    from gracewrap.linux import fork

    return *fork.spawn(argv, env, defaults(), tty, process, stdio, no_stdin), 0


def helper(
    argv: Sequence[str],
    stdout: int,
    more: Mapping[bytes, bytes],
    process: ExecContext | None = None,
) -> int:
    """Start a helper in a process group of its own, without stdin, and return its pid.

    Args:
        argv: As for spawn().
        stdout: The descriptor that becomes its stdout, or -1: it has ours.
        more: Variables for its environment, beside those that the command has.
        process: What it is to be, with its environment; None: as we are.

    Raises:
        OSError: If it cannot be executed, or there is no process to be had.
    """
    from gracewrap.linux import standard_streams

    stdio, opened = standard_streams.own((stdout, -1))
    env = {**(environment() if process is None else process.environment), **more}
    try:
        if process is None:
            try:
                return _spawn(argv, env, _actions(stdio, no_stdin=True))
            except PermissionError as error:
                if error.errno != EPERM:
                    raise
        from gracewrap.linux import fork

        return fork.helper(argv, env, defaults(), stdio, process, stdout >= 0)
    finally:
        for fd in opened:
            posix.close(fd)


def _is_simple(stdio: tuple[int, int]) -> bool:
    """Return whether none of them stands where another one, or stdin, is to come: we were started
    without a stdout or stderr.

    The order of copying would matter then, and dup2(2) of a number onto itself leaves it to be
    closed by the exec.
    """
    return stdio == OURS or not {0, 1, 2} & {*stdio}


def _actions(stdio: tuple[int, int], no_stdin: bool) -> list[tuple[Any, ...]]:
    actions: list[tuple[Any, ...]] = [
        (posix.POSIX_SPAWN_DUP2, fd, number) for number, fd in enumerate(stdio, 1) if fd >= 0
    ]
    if no_stdin:
        actions.append((posix.POSIX_SPAWN_OPEN, 0, "/dev/null", posix.O_RDONLY, 0))
    return actions


def _has_no_null() -> bool:
    """Return whether it was /dev/null that could not be opened, and not the command; by fork(2) it
    can say so."""
    try:
        posix.close(posix.open("/dev/null", posix.O_RDONLY | posix.O_CLOEXEC))
    except OSError:
        return True
    return False


def _spawn(
    argv: Sequence[str], env: dict[bytes, bytes], actions: Sequence[tuple[Any, ...]] = ()
) -> int:
    for last in (False, True):
        try:
            return posix.posix_spawnp(
                argv[0],
                list(argv),
                env,
                file_actions=actions,
                setpgroup=0,
                setsigmask=(),
                setsigdef=defaults(),
            )
        except BlockingIOError:  # EAGAIN: a limit on processes; one of them may just have gone
            if last:
                raise
    raise AssertionError("not reached")
