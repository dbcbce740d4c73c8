"""Entry point: block every signal first, then hand over to the lean path.

Until a signal is blocked or handled, the kernel drops it if we are PID 1 (pid_namespaces(7)):
whatever runs before the first statement here is a window in which `docker stop` is lost.  Keep this
file tiny: run as a script it is compiled anew each time.
"""

import _signal  # not `signal`: that imports enum, 7 ms

_signal.pthread_sigmask(_signal.SIG_SETMASK, _signal.valid_signals())


def main() -> None:
    """Run gracewrap with sys.argv and exit with its status (the console script calls this)."""
    import posix
    import sys

    if sys.version_info < (3, 11):
        this = sys.version.split()[0] + " (" + sys.executable + ")"
        sys.stderr.write(
            "gracewrap: cannot start: it needs Python 3.11 or newer, and this is " + this + "\n"
        )
        posix._exit(125)
    root = __file__.rpartition("/")[0].rpartition("/")[0]
    if sys.flags.isolated and sys.flags.no_site:
        more = sys._xoptions.get("gracewrap_path")  # of isolation.py: this is the second start
        sys.path += more.split(":") if isinstance(more, str) else [root]
    else:
        sys.path.insert(0, root)
        from gracewrap import isolation

        isolation.isolate(__file__)
    from gracewrap.start import main as start

    # Not sys.exit: the interpreter's own teardown would keep the exit status back for another 3 ms.
    posix._exit(start(sys.argv[1:]))


if __name__ == "__main__":
    main()
