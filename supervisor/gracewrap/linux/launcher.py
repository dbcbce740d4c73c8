"""The native launcher (launcher/launch.c) that has started us, if one has."""

from __future__ import annotations

import posix
import sys

# The -X options by which it says where its file is, and which file and version of it that was.
OPTION, SAME = "gracewrap_launcher", "gracewrap_rest"
PYTHON = "__python"  # our first word, when the single file is to be a Python and nothing else


def path() -> str | None:
    """Return the launcher's file; None: Python was started without it."""
    found = sys._xoptions.get(OPTION)
    return found if isinstance(found, str) else None


def options() -> list[str]:
    """Return the options by which another Python knows of it."""
    given = ((name, sys._xoptions.get(name)) for name in (OPTION, SAME))
    return [word for name, value in given if value for word in ("-X", f"{name}={value}")]


def unchanged(version: str) -> str | None:
    """Return the launcher's file, if it is the one that has started us, and of this version of the
    notes; None: it must not be executed again."""
    file = path()
    if file is None:
        return None
    try:
        there = posix.stat(file)
    except OSError:
        return None
    # A file that takes its place may get its inode, and be as old to the second.
    seconds, nanoseconds = divmod(there.st_ctime_ns, 10**9)
    same = f"{version} {there.st_dev} {there.st_ino} {seconds}.{nanoseconds:09d}"
    return file if sys._xoptions.get(SAME) == same else None


def is_single_file() -> bool:
    """Return whether this Python is a part of the launcher's file (launcher/embed.c)."""
    return "_gracewrap" in sys.builtin_module_names


def python() -> tuple[str, ...]:
    """Return the words, before `-c CODE`, that start our Python once more, isolated."""
    if is_single_file():
        return (path() or "/proc/self/exe", PYTHON)
    return (sys.executable or "python3", "-I", "-S")
