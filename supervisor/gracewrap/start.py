"""The lean path: words and variables -> settings -> spawn -> supervise.  What is imported before
the spawn delays the child.

A plain `gracewrap -- COMMAND` needs no settings to start: they are read after the spawn.
Everything heavy (rich, tomllib, the policy, the reports) comes later still, or only when it
is asked for.
"""

from __future__ import annotations

import _signal
import gc
import posix
import sys
import time

from gracewrap.linux import spawn

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence

    from gracewrap.config.command_line import CommandLine
    from gracewrap.config.problems import Problem
    from gracewrap.config.settings import Settings
    from gracewrap.runtime.handover import Handover
    from gracewrap.runtime.prepare import Prepared

    # The fields pid, exec_fd, exec_errno, at and tty of Handover, which is not imported yet.
    Begun = tuple[int, int, int, float, int | None]

USAGE = 125  # exit status of our own mistakes, and of the user's in calling us
SIGPIPE, SIGCHLD, SIGXFSZ = 13, 17, 25


class _SignalWatch:
    """Notes when signals come while modules are imported, after the spawn, and nobody fetches them:
    a stop's budget counts from its request, and the imports take 5 to 15 ms.

    As a finder of sys.meta_path it is asked for each module, and looks; it finds none.
    """

    def __init__(self) -> None:
        self.pending_since: dict[int, float] = {}

    def find_spec(self, *_: object) -> None:
        for signum in _signal.sigpending():
            self.pending_since.setdefault(signum, time.monotonic())


_watch = _SignalWatch()


def main(args: Sequence[str]) -> int:
    """Run gracewrap with the words after its name, and return the exit status."""
    # Imports make thousands of objects and no garbage; looking for it takes a sixth of their time.
    gc.disable()
    if spawn.foreign_threads() > 0:
        from gracewrap import isolation

        isolation.without_preload()
    try:
        settings, prepared = None, None
        if not _is_plain(args):
            from gracewrap.config import command_line, load

            line = command_line.read_command_line(args)
            if line.action != "run":
                return _for_people(line, args)
            for problem in line.problems:
                if problem.warning:
                    _say(problem.text)
            found = load.found_file(line, posix.environ)
            settings, problems = load.resolve(line, posix.environ, otherwise=found)
            if settings is None:
                return _refuse(problems)
            if found is not None:
                _say(f"neither a command nor --config is given: it runs what {found} here says")
            if settings.is_managed:
                return manage(settings)
            if settings.needs_preparing:
                prepared = _prepare(settings)
                if prepared is None:
                    return USAGE
        if settings is None:
            begun = begin(args[1:], None)
        else:
            begun = begin(
                settings.command, settings.parent_death_signal, prepared, settings.needs_errands
            )
    except Exception as error:
        _say(f"cannot start: {type(error).__name__}: {error}; nothing is running. {_cure(error)}")
        return USAGE
    return USAGE if begun is None else look_after(begun, args, settings, prepared)


def _cure(error: Exception) -> str:
    """Return what to do about an error that has kept us from the start."""
    if "marshal data" in str(error):  # EOFError, or ValueError
        return (
            "A compiled file is damaged, as after a full disk: delete the __pycache__ directories "
            "of gracewrap and of Python"
        )
    if not isinstance(error, ImportError):
        return "This is a bug in gracewrap, please report it"
    if (error.name or "").partition(".")[0] == "gracewrap":
        return "Files of gracewrap are missing: install it again"
    # Debian's python3-minimal: enough to wrap a command, but not for a file, help or check
    return "This Python has no complete standard library: install python3, not only python3-minimal"


def _is_plain(args: Sequence[str]) -> bool:
    """Return whether there is a command and nothing else: no option, no variable, and so no setting
    but the defaults."""
    return (
        args[:1] == ["--"]
        and len(args) > 1
        and not any(name.startswith(b"GRACEWRAP_") for name in posix.environ)
    )


def _prepare(settings: Settings) -> Prepared | None:
    """Open what must be there before the command is; None, with a message said, if it cannot be
    had."""
    from gracewrap.runtime import prepare

    try:
        _fill_standard_fds()
        return prepare.prepare(settings)
    except prepare.Unprepared as fault:
        _say(str(fault))
        return None


def manage(settings: Settings) -> int:
    """Prepare what the programs need, and supervise them: the loop starts each when its time has
    come."""
    prepared = _prepare(settings)
    if prepared is None:
        return USAGE
    _settle(settings.parent_death_signal)
    from gracewrap.runtime.handover import Handover
    from gracewrap.runtime.supervise import supervise

    return supervise(
        Handover(0, time.monotonic(), listening=prepared.listening, equipment=prepared.equipment),
        settings,
    )


def _settle(parent_death_signal: int | None) -> None:
    """See to what must be so before there is a child."""
    # An inherited SIG_IGN would have the kernel reap our children itself, and their statuses would
    # be lost (wait(2)).
    _signal.signal(SIGCHLD, _signal.SIG_DFL)
    if (foreign := spawn.foreign_threads()) > 0:
        from gracewrap import isolation

        _say(isolation.why_not_alone(foreign))
    _fill_standard_fds()
    if posix.getpid() != 1 or parent_death_signal:
        _ask_the_kernel(parent_death_signal)


def begin(
    command: Sequence[str],
    parent_death_signal: int | None,
    prepared: Prepared | None = None,
    stays: bool = False,
) -> Begun | None:
    """Set up what has to exist before the child, spawn it, and close our copies of what is its own.

    Args:
        command: The child's words.
        parent_death_signal: What to ask the kernel for, or None.
        prepared: What has been opened for it.
        stays: Whether we stay in its directory, because hooks and probes are to run there.

    Returns None, after printing why, if no process can be created.
    """
    _settle(parent_death_signal)
    more, process = (
        (prepared.equipment[0].environment, prepared.equipment[0].process)
        if prepared
        else (None, None)
    )
    tty, interactive = _terminal()
    if process is not None and process.no_stdin:
        interactive = False  # as it is without the terminal as its stdin
    try:
        pid, exec_fd, errno = spawn.spawn(command, tty if interactive else None, more, process)
    except OSError as error:
        _say(
            f"cannot start a process: {error.strerror}; raise the limit on processes (ulimit -u, "
            "--pids-limit)"
        )
        return None
    at = time.monotonic()
    try:
        if pid:
            _let_go({exec_fd, tty, *(prepared.fds if prepared else ())})
            if not stays:
                posix.chdir("/")  # so that we pin no directory
    except (MemoryError, OSError):
        pass  # there is a child now: on with it
    return pid, exec_fd, errno, at, tty


def take_over(note: str, args: Sequence[str]) -> int:
    """Go on with what the native launcher has begun, and return the exit status.

    Args:
        note: What the launcher says about it (runtime/handover.py).
        args: The words after our name.
    """
    gc.disable()
    sys.meta_path.insert(0, _watch)
    _fill_standard_fds()  # the launcher's were for itself
    fields = {line.partition(" ")[0]: line.split(" ")[1:] for line in note.split("\n")}
    pid = int(fields["child"][0]) if "child" in fields else 0
    try:
        from gracewrap.record import replace
        from gracewrap.runtime import handover

        child = handover.read_note(note)
    except BaseException as error:
        _say(f"cannot load the rest of gracewrap ({error}); it only forwards signals and reaps")
        if pid and "request" in fields and "told" not in fields:
            posix.kill(pid, int(fields["request"][0]))
        return _simplest(pid) if pid else USAGE
    kept = posix.environ.pop(handover.REST_NOTE, b"")  # nobody whom we start is to find it
    settings = None
    if not _is_plain(args):
        try:
            from gracewrap.runtime import return_to_launcher

            settings = return_to_launcher.kept_settings(kept)
        except Exception:  # gracewrap or Python has been replaced by one that cannot read them
            settings = _settings_again(args)
    return _supervise(replace(child, words=tuple(args)), args, settings)


def _settings_again(args: Sequence[str]) -> Settings | None:
    """Return the settings, read once more; None if that is impossible by now."""
    try:
        from gracewrap.config import command_line, load

        line = command_line.read_command_line(args)
        found = load.found_file(line, posix.environ)
        return load.resolve(line, posix.environ, otherwise=found)[0]
    except Exception:
        return None


def look_after(
    begun: Begun, args: Sequence[str], settings: Settings | None, prepared: Prepared | None = None
) -> int:
    """Supervise what has begun; whatever cannot be loaded any more, the child is looked after all
    the same."""
    pid, exec_fd, errno, at, tty = begun
    sys.meta_path.insert(0, _watch)
    try:
        from gracewrap.record import replace
        from gracewrap.runtime.handover import Handover

        handover = Handover(pid, at, exec_fd=exec_fd, exec_errno=errno, tty=tty, words=tuple(args))
        if prepared is not None:
            handover = replace(handover, listening=prepared.listening, equipment=prepared.equipment)
    except BaseException as error:
        _say(f"cannot load the rest of gracewrap ({error}); it only forwards signals and reaps")
        return _simplest(pid) if pid else 126
    return _supervise(handover, args, settings)


def _supervise(handover: Handover, args: Sequence[str], settings: Settings | None) -> int:
    from gracewrap.runtime import fallback  # it is loaded

    try:
        if settings is None:
            from gracewrap.config.settings import defaults

            settings = defaults(args[1:])
        from gracewrap.record import replace
        from gracewrap.runtime.supervise import supervise

        _watch.find_spec()
        sys.meta_path.remove(_watch)
        handover = replace(handover, pending_since=_watch.pending_since)
    except BaseException as error:  # no descriptor, no memory, files gone
        _say(
            f"cannot load the rest of gracewrap ({error}); it only forwards signals, reaps, and "
            "kills in time"
        )
        rules = fallback.rules_of(settings)
        return 126 if handover.exec_errno else fallback.run(handover.fallback_state(rules), rules)
    return supervise(handover, settings)


def _simplest(pid: int) -> int:
    """Forward every signal to the child and reap until it is gone: needs no file, no memory to
    speak of, no module."""
    while True:
        got = _signal.sigwaitinfo(_signal.valid_signals())
        if got.si_signo not in (SIGPIPE, SIGCHLD, SIGXFSZ):
            try:
                posix.kill(pid, got.si_signo)
            except OSError:
                pass  # it has changed its user
        ended = -1
        while ended:
            ended, status = posix.waitpid(-1, posix.WNOHANG)
            if ended == pid and not posix.WIFSTOPPED(status):
                return (
                    posix.WEXITSTATUS(status)
                    if posix.WIFEXITED(status)
                    else 128 + posix.WTERMSIG(status)
                )


def _fill_standard_fds() -> None:
    """Open /dev/null where 0, 1 or 2 is closed, for ourselves only: else the next file we open
    would become our stderr."""
    try:
        while (fd := posix.open("/dev/null", posix.O_RDWR | posix.O_CLOEXEC)) <= 2:
            pass
        posix.close(fd)
    except OSError:
        pass  # no /dev/null, or no descriptors: the child may still work


def _ask_the_kernel(parent_death_signal: int | None) -> None:
    """Become a subreaper, so that orphans come to us, before there is a child that could leave
    one."""
    from gracewrap.linux import prctl

    if posix.getpid() != 1 and not prctl.prctl(prctl.PR_SET_CHILD_SUBREAPER, 1):
        _say(
            "cannot become a subreaper (no ctypes in this Python, or an emulator such as qemu): "
            "orphans of the command go to PID 1 unseen"
        )
    if parent_death_signal and not prctl.prctl(prctl.PR_SET_PDEATHSIG, parent_death_signal):
        _say("cannot set parent_death_signal: no ctypes in this Python")


def _terminal() -> tuple[int | None, bool]:
    """Return our controlling terminal, if we have one, and whether the child is to have it from its
    first instruction on."""
    try:
        tty = posix.open("/dev/tty", posix.O_RDWR | posix.O_CLOEXEC | posix.O_NOCTTY)
    except OSError:  # ENXIO: none; ENOENT: no /dev
        return None, False
    from gracewrap.linux import terminal

    return tty, terminal.is_interactive(tty)


def _let_go(ours: set[int | None]) -> None:
    """Close what we have inherited for the child, so that its readers see an end of file."""
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


def _refuse(problems: Sequence[Problem]) -> int:
    errors = [problem for problem in problems if not problem.warning]
    for problem in errors:
        _say(problem.text)
    return errors[0].status if len(errors) == 1 else USAGE


def _say(text: str) -> None:
    """Write one plain line to stderr, for what there is no log for yet; never wait for its reader,
    for signals are blocked."""
    try:
        from gracewrap.linux.nonblocking_writer import Writer

        Writer().write(f"gracewrap: {text}\n".encode(errors="backslashreplace"))
    except (OSError, ImportError):
        pass


def _for_people(line: CommandLine, args: Sequence[str]) -> int:
    """Run help, version or a subcommand; nothing is supervised, so signals act as usual again."""
    _signal.pthread_sigmask(_signal.SIG_SETMASK, ())
    gc.enable()
    from gracewrap.cli import app

    return app.run(line, args)
