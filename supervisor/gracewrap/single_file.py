"""Entry point in the single file (launcher/embed.c), in which the interpreter and this package are
parts of the native launcher.

The launcher has blocked every signal.
"""

from __future__ import annotations

from gracewrap.linux.launcher import PYTHON

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence


def run(note: str | None, words: Sequence[str]) -> int:
    """Run gracewrap, and return its exit status.

    Args:
        note: What the launcher says about the run that it has begun (runtime/handover.py); None:
            nothing has begun.
        words: The words after our name.
    """
    if words[:2] == [PYTHON, "-c"]:
        return _as_python(words[2], words[3:])
    from gracewrap import start

    return start.main(words) if note is None else start.take_over(note, words)


def _as_python(code: str, words: Sequence[str]) -> int:
    """Run *code* as `python -c` would: for helpers, which need an interpreter of their own."""
    import _signal
    import sys

    _signal.pthread_sigmask(_signal.SIG_SETMASK, ())
    sys.argv = ["-c", *words]
    exec(code, {"__name__": "__main__"})
    sys.stdout.flush()
    return 0
