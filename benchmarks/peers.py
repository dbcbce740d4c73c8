"""Who is measured, and how each is told to wrap a command.  Prepares everything that must exist
before, in a temporary folder."""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

SOURCE = Path(__file__).parent.parent / "supervisor" / "gracewrap"
CHILD_SOURCE = Path(__file__).with_name("child.c")

GRACEWRAP, CONSOLE_SCRIPT, BARE, DIRECT = (
    "gracewrap",
    "gracewrap (console script)",
    "python3 -I -S",
    "no wrapper",
)
TINI, DUMB_INIT, CATATONIT, SUPERVISORD = "tini", "dumb-init", "catatonit", "supervisord"
PACKAGES = {
    TINI: "tini",
    DUMB_INIT: "dumb-init",
    CATATONIT: "catatonit",
    SUPERVISORD: "supervisor",
}  # of Debian

# What pip (25.1 and later) writes for an entry point.
SCRIPT = """#!{python}
import sys
from gracewrap.__main__ import main
if __name__ == '__main__':
    sys.argv[0] = sys.argv[0].removesuffix('.exe')
    sys.exit(main())
"""
# The least a Python can do before the command runs: find the words, exec.
EXEC = "import posix, sys; posix.execv(sys.argv[1], sys.argv[1:])"

SUPERVISORD_CONF = """[supervisord]
nodaemon=true
logfile=/dev/null
logfile_maxbytes=0
pidfile={conf}.pid
[program:child]
command={command}
startsecs=0
autorestart=false
stdout_logfile=NONE
stderr_logfile=NONE
stopwaitsecs={stop_timeout}
"""


@dataclass(frozen=True)
class Peer:
    """One wrapper.  *wrap* makes its argv from the command's, *rests_in* is a word of the kernel
    function it sleeps in.

    *kills_after* is the stop timeout, in seconds, that it is given where SIGKILL is measured; None:
    it never kills.
    """

    name: str
    wrap: Callable[[list[str]], list[str]]
    rests_in: str = ""
    is_python: bool = False
    kills_after: float | None = None


@dataclass(frozen=True)
class Bench:
    """All that the measurements need: the folder to work in, the child, the peers, and who is
    missing."""

    folder: Path
    child: str
    peers: dict[str, Peer]
    missing: dict[str, str]  # name -> Debian package


def prepare(folder: Path, python: str) -> Bench:
    """Build the child, make a private compiled copy of gracewrap, and look for the peers."""
    child = build_child(folder)
    console_script = install(folder, python)
    main = str(copy_package(folder / "lean", python) / "__main__.py")
    peers = [
        Peer(
            GRACEWRAP,
            lambda cmd: [python, "-I", "-S", main, *_brief(cmd), "--", *cmd],
            "sigtimedwait",
            True,
            0.5,
        ),
        Peer(
            CONSOLE_SCRIPT,
            lambda cmd: [console_script, *_brief(cmd), "--", *cmd],
            "sigtimedwait",
            True,
            0.5,
        ),
        Peer(BARE, lambda cmd: [python, "-I", "-S", "-c", EXEC, *cmd], is_python=True),
        Peer(DIRECT, lambda cmd: cmd),
    ]
    found = {name: path for name, package in PACKAGES.items() if (path := shutil.which(name))}
    missing = {name: package for name, package in PACKAGES.items() if name not in found}
    # -s: as gracewrap does it, and without it tini prints a warning at each start.
    commands = {TINI: ["-s", "--"], DUMB_INIT: ["--"], CATATONIT: ["--"]}
    rests_in = {TINI: "sigtimedwait", DUMB_INIT: "sigtimedwait", CATATONIT: "signalfd"}
    for name in commands.keys() & found.keys():
        head = [found[name], *commands[name]]
        peers.append(Peer(name, lambda cmd, head=head: [*head, *cmd], rests_in[name]))  # type: ignore[misc]
    if SUPERVISORD in found:
        peers.append(_supervisord(found[SUPERVISORD]))
    return Bench(folder, child, {peer.name: peer for peer in peers}, missing)


def _brief(command: list[str]) -> list[str]:
    """Return the options for a child that must be killed: the shortest budget that is a fair
    one."""
    return ["--shutdown-timeout", "500ms"] if "stubborn" in command else []


def _supervisord(path: str) -> Peer:
    """supervisord takes its command from a file; stopwaitsecs is a whole number of seconds."""

    def wrap(command: list[str]) -> list[str]:
        conf = Path(f"{command[2]}.conf")
        conf.write_text(
            SUPERVISORD_CONF.format(conf=conf, command=" ".join(command), stop_timeout=1)
        )
        return [path, "-n", "-c", str(conf)]

    return Peer(SUPERVISORD, wrap, "poll", True, 1.0)


def build_child(folder: Path, static: bool = True) -> str:
    """Compile the child and return its path; *static* if that can be had: it starts sooner than
    what is linked as most are."""
    target = str(folder / "child")
    for options in (["-static"], []) if static else ([],):
        if (
            shutil.which("cc")
            and _run("cc", "-O2", *options, "-o", target, str(CHILD_SOURCE)).returncode == 0
        ):
            return target
    raise SystemExit(
        "benchmarks: cannot compile the child: a C compiler (cc) and the C library's headers are "
        "needed"
    )


def copy_package(parent: Path, python: str) -> Path:
    """Copy gracewrap's package below *parent* and compile it to byte code, as pip does it."""
    target = parent / "gracewrap"
    shutil.copytree(SOURCE, target, ignore=shutil.ignore_patterns("__pycache__"))
    _run(python, "-I", "-m", "compileall", "-q", str(target)).check_returncode()
    return target


def install(folder: Path, python: str) -> str:
    """Make a virtual environment with gracewrap and its console script as pip would, without pip;
    return the script."""
    venv = folder / "venv"
    _run(python, "-I", "-m", "venv", "--without-pip", str(venv)).check_returncode()
    copy_package(next(venv.glob("lib/python3*/site-packages")), python)
    script = venv / "bin" / "gracewrap"
    script.write_text(SCRIPT.format(python=venv / "bin" / "python"))
    script.chmod(0o755)
    return str(script)


def package_versions() -> dict[str, str]:
    """Return the Debian versions of the peers' packages, and the C library's, where dpkg knows
    them."""
    versions = {}
    for package in (*PACKAGES.values(), "libc6"):
        if shutil.which("dpkg-query"):
            asked = _run("dpkg-query", "-W", "-f", "${Version}", package)
            if asked.returncode == 0 and asked.stdout:
                versions[package] = asked.stdout
    return versions


def python_version(python: str) -> str:
    """Return the version of an interpreter, as in "3.11.2"."""
    return _run(
        python, "-I", "-S", "-c", "import sys; print(sys.version.split()[0])"
    ).stdout.strip()


def _run(*argv: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        argv, stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=120, check=False
    )
