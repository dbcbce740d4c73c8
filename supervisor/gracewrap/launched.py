"""Entry point when the native launcher (launcher/launch.c) leaves a run to Python: run as
`python3 -I -S .../gracewrap/launched.py NOTE WORDS...` in the launcher's own process.

The note says what has happened so far (runtime/handover.py reads it).  Signals are blocked already,
but the interpreter may know more of them than the launcher's mask has.  Keep this file tiny: run as
a script it is compiled anew each time.
"""

import _signal  # not `signal`: that imports enum, 7 ms

_signal.pthread_sigmask(_signal.SIG_SETMASK, _signal.valid_signals())


def main() -> None:
    """Go on with what the launcher has begun, and exit with the run's status."""
    import posix
    import sys

    root = __file__.rpartition("/")[0].rpartition("/")[0]
    prefix = str(sys._xoptions.get("gracewrap_launcher")).rpartition("/bin/")[0]
    # The second one is for an editable installation, whose packages are not beside ours.
    sys.path += [root, prefix + "/lib/python%d.%d/site-packages" % sys.version_info[:2]]
    if sys.version_info < (3, 11):
        this = sys.version.split()[0] + " (" + sys.executable + ")"
        sys.stderr.write(
            "gracewrap: cannot start: it needs Python 3.11 or newer, and this is " + this + "\n"
        )
        posix._exit(125)
    from gracewrap.start import take_over

    posix._exit(take_over(sys.argv[1], sys.argv[2:]))


if __name__ == "__main__":
    main()
