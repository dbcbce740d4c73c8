"""Keeps what the command's environment injects into every Python out of gracewrap's own.

An APM agent comes in by PYTHONPATH (its sitecustomize) or by a .pth file of site-packages, before
our first statement, and starts threads: the kernel gives a signal to any thread that has not
blocked it, and its default action ends us, or loses it.  Only execve(2) ends such a thread, so then
we start again, without what could do it a second time (`-I -S`); that takes 10 ms.  Where nothing
was injected, it is enough to put sys.path in order.  A library in LD_PRELOAD can do the same.
"""

from __future__ import annotations

import posix
import sys

from gracewrap.linux.spawn import PRELOAD, PRELOADED, environment, foreign_threads

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

# What acts on any interpreter, beside PYTHONPATH.  Not here: what only says how to write or cache
# (PYTHONUNBUFFERED, PYTHONDONTWRITEBYTECODE), which many images set.
_ACTING = (
    b"PYTHONHOME",
    b"PYTHONPLATLIBDIR",
    b"PYTHONDEVMODE",
    b"PYTHONDEBUG",
    b"PYTHONINSPECT",
    b"PYTHONMALLOC",
    b"PYTHONPROFILEIMPORTTIME",
    b"PYTHONTRACEMALLOC",
    b"PYTHONVERBOSE",
    b"PYTHONWARNINGS",
)
# Modules that a .pth file of setuptools, virtualenv or an editable install loads: they only wait
# for an import that we never make.
_KNOWN = ("_distutils_hack", "_virtualenv", "__editable__")


def isolate(main: str) -> None:
    """Go on as `python -I -S` would, by another exec if need be, which takes the signals that are
    blocked and pending along.

    The first entry of sys.path is where our package is.

    Args:
        main: The path of our __main__.py.
    """
    path = _own_path()
    if foreign_threads() > 0 or any(name in posix.environ for name in _ACTING) or _strangers():
        _start_again(main, path)
    sys.path[:] = path


def without_preload() -> None:
    """Start again without LD_PRELOAD, which the command is given all the same; return if there is
    none, or it cannot be done."""
    given = posix.environ.get(PRELOAD)
    if given is None or PRELOADED in sys._xoptions:
        return
    import os

    kept = {name: value for name, value in environment().items() if name != PRELOAD}
    options = ("-X", f"{PRELOADED}={os.fsdecode(given)}")
    _execute([*options, *sys.orig_argv[1:]], kept)


def why_not_alone(number: int) -> str:
    """Return what to say of *number* threads that are not ours, and that no exec keeps out."""
    threads = "thread runs" if number == 1 else "threads run"
    return (
        f"{number} foreign {threads} in gracewrap's own process (is there an /etc/ld.so.preload?): "
        "a signal that one of them receives is lost, or ends gracewrap"
    )


def _own_path() -> list[str]:
    """Return sys.path without PYTHONPATH, without the directory of the script (`-m`: the current
    one), and with our own behind the standard library."""
    import os

    given = posix.environ.get(b"PYTHONPATH", b"") if not sys.flags.ignore_environment else b""
    foreign = {os.path.abspath(entry) for entry in os.fsdecode(given).split(":") if entry}
    root = sys.path[0]
    path = [
        entry
        for entry in sys.path[1 if sys.flags.safe_path else 2 :]
        if entry and os.path.abspath(entry) not in foreign
    ]
    return path if root in path else [*path, root]


def _strangers() -> bool:
    """Return whether a module has been loaded that is neither ours nor of the standard library."""
    library = f"{getattr(sys, '_stdlib_dir', '')}/"
    for name, module in [*sys.modules.items()]:
        file = getattr(module, "__file__", None)
        if (
            not file
            or name == "__main__"
            or name.partition(".")[0] == "gracewrap"
            or name.startswith(_KNOWN)
        ):
            continue
        if "/lib-dynload/" not in file and (
            not file.startswith(library) or file.startswith((f"{library}site-", f"{library}dist-"))
        ):
            return True
    return False


def _start_again(main: str, path: Sequence[str]) -> None:
    """Execute the interpreter once more, for the same words, with the environment as it was given
    to us; return if that cannot be done."""
    from gracewrap.linux import launcher

    options = ["-I", "-S", "-X", f"gracewrap_path={':'.join(path)}", *launcher.options()]
    if sys.dont_write_bytecode:
        options.append("-B")
    if sys.pycache_prefix:
        options += ["-X", f"pycache_prefix={sys.pycache_prefix}"]
    _execute([*options, main, *sys.argv[1:]], environment())


def _execute(words: Sequence[str], env: Mapping[bytes, bytes]) -> None:
    python = sys.executable or "/proc/self/exe"
    try:
        posix.execve(python, [python, *words], env)
    except OSError:
        pass  # the words and the environment are too long, or the file is gone
