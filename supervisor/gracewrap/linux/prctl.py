"""prctl(2) without the ctypes package, whose import costs 10 ms: only its C half is loaded, and
only when asked for."""

from __future__ import annotations

import sys

PR_SET_PDEATHSIG, PR_SET_CHILD_SUBREAPER = 1, 36  # linux/prctl.h


def prctl(option: int, argument: int) -> bool:
    """Call prctl and return whether it was possible: Python may have been built without ctypes
    (Debian's python3-minimal)."""
    if "_gracewrap" in sys.builtin_module_names:
        import _gracewrap

        return _gracewrap.prctl(option, argument)
    try:
        import _ctypes

        libc = _ctypes.dlopen(None, 0)  # type: ignore[arg-type]  # None is this process itself
        return bool(
            _ctypes.call_function(_ctypes.dlsym(libc, "prctl"), (option, argument, 0, 0, 0)) == 0
        )
    except (ImportError, AttributeError, OSError):
        return False
