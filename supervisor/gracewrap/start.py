"""The lean path: words and variables -> settings -> spawn -> supervise.  What is imported here delays the child.

Everything heavy (typer, rich, tomllib, the policy, the reports) is imported later, or only when it is asked for.
"""

from __future__ import annotations

import _signal
import posix
import time

from gracewrap import bare
from gracewrap.config import sources
from gracewrap.handover import Handover
from gracewrap.posix import prctl, spawn, terminal
from gracewrap.posix.signals import SIGCHLD
from gracewrap.record import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence

    from gracewrap.config.table import Settings

USAGE = 125  # exit status of our own mistakes, and of the user's in calling us


def main(args: Sequence[str]) -> int:
    """Run gracewrap with the words after its name, and return the exit status."""
    try:
        line = sources.read_command_line(args)
        if line.action != "run":
            return _for_people(line, args)
        settings, problems = sources.resolve(line, posix.environ)
        if settings is None:
            return _refuse(problems)
        handover = begin(settings)
    except Exception as error:
        _say(f"cannot start: {type(error).__name__}: {error}; nothing is running. This is a bug in gracewrap, please report it")
        return USAGE
    if handover is None:
        return USAGE
    try:
        from gracewrap.supervise import supervise
    except BaseException as error:  # no descriptor, no memory, files gone: the child is looked after all the same
        _say(f"cannot load the rest of gracewrap ({error}); it only forwards signals, reaps, and kills in time")
        return bare.carry_on(bare.Remains(handover.pid), settings)
    return supervise(handover, settings)


def begin(settings: Settings) -> Handover | None:
    """Prepare what must be so before the child exists, spawn it, and let go of what is the child's.

    Returns None, with a message said, if there is no process to be had.
    """
    # An inherited SIG_IGN would have the kernel reap our children itself, and their statuses would be lost (wait(2)).
    _signal.signal(SIGCHLD, _signal.SIG_DFL)
    _fill_standard_fds()
    if posix.getpid() != 1 and not prctl.prctl(prctl.PR_SET_CHILD_SUBREAPER, 1):
        _say("cannot become a subreaper (no ctypes in this Python): orphans of the command go to PID 1 unseen")
    if settings.parent_death_signal and not prctl.prctl(prctl.PR_SET_PDEATHSIG, settings.parent_death_signal):
        _say("cannot set parent_death_signal: no ctypes in this Python")
    tty = terminal.controlling_terminal()
    try:
        child = spawn.spawn(settings.command, tty if tty is not None and terminal.is_interactive(tty) else None)
    except OSError as error:
        _say(f"cannot start a process: {error.strerror}; raise the limit on processes (ulimit -u, --pids-limit)")
        return None
    handover = Handover(child.pid, time.monotonic(), exec_fd=child.exec_fd, tty=tty)
    _let_go({child.exec_fd, tty})
    return handover


def _fill_standard_fds() -> None:
    """Open /dev/null where 0, 1 or 2 is closed, for ourselves only: else the next file we open would become our stderr."""
    try:
        while (fd := posix.open("/dev/null", posix.O_RDWR | posix.O_CLOEXEC)) <= 2:
            pass
        posix.close(fd)
    except OSError:
        pass  # no /dev/null, or no descriptors: the child may still work


def _let_go(ours: set[int | None]) -> None:
    """Close what we have inherited for the child, so that its readers see an end of file; and do not pin its directory."""
    try:
        inherited = [int(name) for name in posix.listdir("/proc/self/fd")]
    except OSError:
        inherited = list(range(256))
    for fd in inherited:
        if fd > 2 and fd not in ours:
            try:
                posix.close(fd)
            except OSError:
                pass  # the one that listdir had open
    try:
        posix.chdir("/")
    except OSError:
        pass


def _refuse(problems: Sequence[sources.Problem]) -> int:
    for problem in problems:
        if not problem.warning:
            _say(problem.text)
    return USAGE


def _say(text: str) -> None:
    """Write one plain line to stderr; nothing is running yet that a blocked reader could hold up."""
    try:
        posix.write(2, f"gracewrap: {text}\n".encode(errors="backslashreplace"))
    except OSError:
        pass


def _for_people(line: sources.CommandLine, args: Sequence[str]) -> int:
    """Help, version, subcommands: nothing is supervised, so signals act as usual again and typer may be loaded."""
    _signal.pthread_sigmask(_signal.SIG_SETMASK, ())
    from gracewrap.cli import app

    return app.run(line, args)
