"""Start a program: own process group, clean signals, exec.  On the lean path: imports nothing that is not built in.

posix_spawn(3) shares our memory until the exec, where a fork copies our page tables and then page after page: 0.7 ms and 540 page
faults less, of some 10 ms.  What it cannot do (hand over a terminal, write the child's pid into LISTEN_PID, run a file without a
format by the shell) is done by posix/fork.py.  Signals that come while it waits for the exec stay pending.
"""

from __future__ import annotations

import _signal
import posix

from gracewrap.posix import read_file

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from typing import Any

    from gracewrap.posix.process import Process

ENOENT, ENOEXEC, EAGAIN, ENOMEM = 2, 8, 11, 12
SIGHUP = 1


def environment() -> dict[bytes, bytes]:
    """Return our environment as it was given to us, in bytes.

    In the C locale Python sets LC_CTYPE in its own environment (PEP 538); the child must not find that.
    """
    env: dict[bytes, bytes] = {name: value for name, value in posix.environ.items() if name}  # "=x" cannot be passed on
    if b"LC_CTYPE" in env and (given := read_file("/proc/self/environ")):
        original = [word for word in given.split(b"\0") if word.startswith(b"LC_CTYPE=")]
        if original:
            env[b"LC_CTYPE"] = original[0].partition(b"=")[2]
        else:
            del env[b"LC_CTYPE"]
    return env


def defaults() -> list[int]:
    """Return the signals to which the child gets the default action, as a program started by init has them.

    What we were started with does not count (a shell's `&` ignores SIGINT; a stop signal must work), except an ignored SIGHUP:
    that is nohup(1), and meant.  Python ignores SIGPIPE and SIGXFSZ for itself.
    """
    nohup = _signal.getsignal(SIGHUP) == _signal.SIG_IGN
    return [signum for signum in _signal.valid_signals() if signum not in (9, 19) and not (nohup and signum == SIGHUP)]


def spawn(
    argv: Sequence[str], tty: int | None, more: Mapping[bytes, bytes] | None = None, process: Process | None = None
) -> tuple[int, int, int]:
    """Start *argv* in a process group of its own.

    Args:
        argv: The command, looked up as execvp(3) does, and its arguments, passed on verbatim.
        tty: The controlling terminal whose foreground the child's group becomes, or None.
        more: Variables for its environment, beside those that we have.
        process: What it is to be, with its environment; None: as we are.

    Returns:
        The child's pid; a descriptor for fork.exec_failure(), where the exec is still to come, or -1; or no pid (0) and the errno
        of the exec that failed.

    Raises:
        OSError: If there is no process to be had; EAGAIN has been tried twice.
    """
    if not argv[0]:
        return 0, -1, ENOENT  # what execvp(3) says of an empty name
    env = {**(environment() if process is None else process.environment), **(more or {})}
    us = str(posix.getpid()).encode()
    if tty is None and process is None and us not in (env.get(b"LISTEN_PID"), env.get(b"WATCHDOG_PID")):
        try:
            return _spawn(argv, env), -1, 0
        except OSError as error:
            if error.errno in (EAGAIN, ENOMEM):
                raise
            if error.errno != ENOEXEC:
                return 0, -1, error.errno or 0
    from gracewrap.posix import fork

    return *fork.spawn(argv, env, tty, process), 0


def helper(argv: Sequence[str], stdout: int, more: Mapping[bytes, bytes], process: Process | None = None) -> int:
    """Start a helper in a process group of its own, without stdin, and return its pid.

    Args:
        argv: As for spawn().
        stdout: The descriptor that becomes its stdout, or -1: it has ours.
        more: Variables for its environment, beside those that the command has.
        process: What it is to be, with its environment; None: as we are.

    Raises:
        OSError: If it cannot be executed, or there is no process to be had.
    """
    if process is not None:
        from gracewrap.posix import fork

        return fork.helper(argv, {**process.environment, **more}, stdout, process)
    actions: list[tuple[Any, ...]] = [(posix.POSIX_SPAWN_OPEN, 0, "/dev/null", posix.O_RDONLY, 0)]
    if stdout >= 0:
        actions.append((posix.POSIX_SPAWN_DUP2, stdout, 1))
    return _spawn(argv, {**environment(), **more}, actions)


def _spawn(argv: Sequence[str], env: dict[bytes, bytes], actions: Sequence[tuple[Any, ...]] = ()) -> int:
    for last in (False, True):
        try:
            return posix.posix_spawnp(
                argv[0], list(argv), env, file_actions=actions, setpgroup=0, setsigmask=(), setsigdef=defaults()
            )
        except BlockingIOError:  # EAGAIN: a limit on processes; one of them may just have gone
            if last:
                raise
    raise AssertionError("not reached")
