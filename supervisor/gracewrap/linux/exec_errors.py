"""Why a command could not be run, in words that say what to do."""

from __future__ import annotations

import posix

from gracewrap.linux import exec_format
from gracewrap.record import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence


ENOENT, EACCES, ENOTDIR = 2, 13, 20
ENOEXEC = 8
INTERPRETERS = {
    **dict.fromkeys((".js", ".mjs", ".cjs"), "node"),
    ".py": "python3",
    ".sh": "sh",
    ".rb": "ruby",
    ".php": "php",
    ".ts": "npx tsx",
}
# Errors after which execvp(3) tries the next directory of PATH: not there, not a directory, a
# network disk gone away.
TRY_NEXT = {ENOENT, ENOTDIR, 19, 110, 116}


def explain(argv: Sequence[str], errno: int, found: str = "") -> tuple[int, str]:
    """Return the exit status (126 cannot be executed, 127 not found) and the reason why *argv*
    could not be run.

    *found* is the file that PATH has led to, if that is known.
    """
    file = argv[0]
    status = 127 if errno in TRY_NEXT else 126
    reason = posix.strerror(errno)
    if errno == ENOENT and not file:
        reason = "its name is empty"
    elif errno == ENOENT and "/" not in file:
        reason += f" (searched PATH){_as_script(file)}"
    elif errno == ENOENT and (interpreter := _interpreter(file)):
        windows = "; it has Windows line ends: dos2unix" if interpreter.endswith("\r") else ""
        reason = (
            f"its interpreter {interpreter.rstrip()!r} (first line of the file) was not "
            f"found{windows}"
        )
    elif errno == EACCES:
        reason += _why_denied(file)
    elif errno == ENOEXEC and (why := exec_format.why_not_run(found or file)):
        reason = why
    if errno in (ENOENT, ENOTDIR) and " " in file.strip():
        reason += (
            "; it is one word with spaces: write the arguments as words of their own, or sh "
            "-c '...'"
        )
    return status, f"cannot run {file!r}: {reason}"


def _interpreter(file: str) -> str | None:
    """Return what the first line of a script names, if that is why a file that exists was not
    found."""
    try:
        with open(file, "rb") as script:
            first = script.readline(256)
    except OSError:
        return None
    words = (
        first[2:].rstrip(b"\n").replace(b"\t", b" ").split(b" ") if first.startswith(b"#!") else []
    )
    return next((word.decode(errors="replace") for word in words if word), None)


def _why_denied(file: str) -> str:
    try:
        mode = posix.stat(file).st_mode
    except OSError:
        return ""
    if mode & 0o170000 == 0o040000:
        return " (it is a directory)"
    if mode & 0o111:
        return ""
    return _as_script(file) or " (no execute permission; chmod +x)"


def _as_script(file: str) -> str:
    """Return how to run a script that is there and names no interpreter in its first line."""
    by = next((by for end, by in INTERPRETERS.items() if file.endswith(end)), "")
    try:
        posix.stat(file)
    except OSError:
        return ""
    if by and _interpreter(file) is None:
        return f"; write {by} {file}"
    return "" if "/" in file else f"; it is in this directory: write ./{file}"
