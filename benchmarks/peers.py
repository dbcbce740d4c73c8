"""The wrappers that are measured, and the command line of each.

gracewrap is started as users start it, by the console script that pip installs; the option
--gracewrap chooses another way.  The native launcher is compiled here, as the child is.
"""

from __future__ import annotations

import argparse
import os
import platform
import shutil
import subprocess
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

MAIN = Path(__file__).parent.parent / "supervisor" / "gracewrap" / "__main__.py"
CHILD_SOURCE = Path(__file__).with_name("child.c")
LAUNCHER = Path(__file__).parent.parent / "launcher"
# As in hatch_build.py.
FLAGS = (
    *("-std=c11", "-Os", "-s", "-static", "-fno-asynchronous-unwind-tables"),
    *("-ffunction-sections", "-fdata-sections", "-Wl,--gc-sections", "-Wl,-z,noseparate-code"),
)

GRACEWRAP, NATIVE, RESTING, PRESET, SINGLE, SINGLE_RESTING, ISOLATED, BARE, DIRECT = (
    "gracewrap",
    "gracewrap (native launcher)",
    "gracewrap (native launcher, --shutdown-timeout 8s)",
    "gracewrap (native launcher, --preset node)",
    "gracewrap (single file)",
    "gracewrap (single file, --shutdown-timeout 8s)",
    "gracewrap (python3 -I -S)",
    "python3 -I -S",
    "no wrapper",
)
TINI, DUMB_INIT, CATATONIT = "tini", "dumb-init", "catatonit"
S6, SUPERVISORD = "s6-supervise", "supervisord"
# Their Debian packages.
PACKAGES = {
    TINI: "tini",
    DUMB_INIT: "dumb-init",
    CATATONIT: "catatonit",
    S6: "s6",
    SUPERVISORD: "supervisor",
}
SINGLE_FILE = Path(__file__).parent.parent / "dist" / f"gracewrap-linux-{platform.machine()}"
EIGHT_SECONDS = ("--shutdown-timeout", "8s")

SCRIPT_WAY, ISOLATED_WAY, MODULE_WAY = "script", "isolated", "module"
HOW = {
    SCRIPT_WAY: "the console script that pip installs",
    ISOLATED_WAY: "python3 -I -S .../__main__.py",
    MODULE_WAY: "python3 -m gracewrap",
}

# The least that a Python program can do before the command runs: exec it.
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
    """One wrapper.

    *wrap* returns its argv for a command.  *rests_in* is part of the name of the kernel function in
    which it sleeps, *rests_as* part of its command line by then.  *kills_after* is its stop
    timeout, in seconds, when SIGKILL is measured; None: it never sends SIGKILL.
    """

    name: str
    wrap: Callable[[list[str]], list[str]]
    rests_in: str = ""
    kills_after: float | None = None
    rests_as: str = ""


@dataclass(frozen=True)
class Bench:
    """What the measurements need: a working directory, the child, the peers, the missing peers."""

    folder: Path
    child: str
    peers: dict[str, Peer]
    missing: dict[str, str]  # name -> how it is had


def add_options(parser: argparse.ArgumentParser) -> None:
    """Add the options that choose the gracewrap to measure; see gracewrap_command()."""
    parser.add_argument(
        "--python",
        default=sys.executable,
        help="the interpreter that runs gracewrap (default: this one)",
    )
    parser.add_argument(
        "--gracewrap",
        default=SCRIPT_WAY,
        metavar="WAY",
        help='how gracewrap is started: "script" (default): by the console script that pip has '
        'installed beside the interpreter, as users start it; "isolated": by python3 -I -S '
        '.../__main__.py, as the Dockerfile does; "module": by python3 -m gracewrap; anything '
        "else is the path of an executable",
    )


def gracewrap_command(way: str, python: str) -> list[str]:
    """Return the command that starts gracewrap in a *way* that --gracewrap describes."""
    if way == ISOLATED_WAY:
        return [os.path.realpath(python), "-I", "-S", str(MAIN)]
    if way == MODULE_WAY:
        return [python, "-m", "gracewrap"]
    path = Path(python).with_name("gracewrap") if way == SCRIPT_WAY else Path(way)
    if not shutil.which(path):
        raise SystemExit(f"benchmarks: {path} is not an executable; see --gracewrap in --help")
    return [str(path.absolute())]


def how(way: str) -> str:
    """Return for people in which *way* gracewrap is started."""
    return HOW.get(way, way)


def prepare(folder: Path, python: str, way: str) -> Bench:
    """Compile the child, and look for the peers."""
    child = build_child(folder)
    gracewrap, isolated = gracewrap_command(way, python), gracewrap_command(ISOLATED_WAY, python)
    bare = [os.path.realpath(python), "-I", "-S", "-c", EXEC]
    native = [build_launcher(folder, python)]
    peers = [
        _gracewrap(GRACEWRAP, gracewrap),
        _gracewrap(NATIVE, native),
        _gracewrap(RESTING, native, EIGHT_SECONDS, "--rest="),
        _gracewrap(PRESET, native, ("--preset", "node")),
        _gracewrap(SINGLE, [str(SINGLE_FILE)]),
        _gracewrap(SINGLE_RESTING, [str(SINGLE_FILE)], EIGHT_SECONDS, "--rest="),
        _gracewrap(ISOLATED, isolated),
        Peer(BARE, lambda cmd: [*bare, *cmd]),
        Peer(DIRECT, lambda cmd: cmd),
    ]
    found = {name: path for name, package in PACKAGES.items() if (path := shutil.which(name))}
    missing = {
        name: f"apt-get install {package}"
        for name, package in PACKAGES.items()
        if name not in found
    }
    if not SINGLE_FILE.exists():
        peers = [peer for peer in peers if peer.name not in (SINGLE, SINGLE_RESTING)]
        missing |= dict.fromkeys((SINGLE, SINGLE_RESTING), "make dist")
    # -s: be a subreaper, as gracewrap is; without it tini prints a warning at each start.
    commands = {TINI: ["-s", "--"], DUMB_INIT: ["--"], CATATONIT: ["--"]}
    rests_in = {TINI: "sigtimedwait", DUMB_INIT: "sigtimedwait", CATATONIT: "signalfd"}
    for name in commands.keys() & found.keys():
        head = [found[name], *commands[name]]
        peers.append(Peer(name, lambda cmd, head=head: [*head, *cmd], rests_in[name]))  # type: ignore[misc]
    if S6 in found:
        peers.append(_s6(found[S6]))
    if SUPERVISORD in found:
        peers.append(_supervisord(found[SUPERVISORD]))
    return Bench(folder, child, {peer.name: peer for peer in peers}, missing)


def _gracewrap(
    name: str, command: list[str], options: Sequence[str] = (), rests_as: str = ""
) -> Peer:
    def wrap(child: list[str]) -> list[str]:
        # A child that must be killed gets a short budget, to save time.
        given = ["--shutdown-timeout", "500ms"] if "stubborn" in child else options
        return [*command, *given, "--", *child]

    return Peer(name, wrap, "sigtimedwait", 0.5, rests_as)


def _s6(path: str) -> Peer:
    """Return s6-supervise, which reads its command from a directory."""

    def wrap(command: list[str]) -> list[str]:
        service = Path(f"{command[2]}.s6")
        service.mkdir()
        (service / "run").write_text(f"#!/bin/sh\nexec {' '.join(command)}\n")
        (service / "run").chmod(0o755)
        return [path, str(service)]

    return Peer(S6, wrap, "poll")


def _supervisord(path: str) -> Peer:
    """Return supervisord, which reads its command from a file; stopwaitsecs must be an integer."""

    def wrap(command: list[str]) -> list[str]:
        conf = Path(f"{command[2]}.conf")
        conf.write_text(
            SUPERVISORD_CONF.format(conf=conf, command=" ".join(command), stop_timeout=1)
        )
        return [path, "-n", "-c", str(conf)]

    return Peer(SUPERVISORD, wrap, "poll", 1.0)


def build_launcher(folder: Path, python: str) -> str:
    """Compile the native launcher into an environment of its own, with the package and nothing
    else; return its path."""
    made = _run(python, "-m", "venv", "--without-pip", str(folder))
    if made.returncode:
        raise SystemExit(f"benchmarks: {python} -m venv fails: {made.stderr or made.stdout}")
    library = next(folder.glob("lib/python3*/site-packages"))
    (library / "gracewrap").symlink_to(MAIN.parent)
    target = str(folder / "bin" / "gracewrap")
    sources = [str(LAUNCHER / "launch.c"), str(LAUNCHER / "exec.c")]
    for compiler in ("musl-gcc", "cc"):
        if (
            shutil.which(compiler)
            and _run(compiler, *FLAGS, "-o", target, *sources).returncode == 0
        ):
            return target
    raise SystemExit("benchmarks: cannot compile the launcher: cc, or musl-gcc, is needed")


def build_child(folder: Path, static: bool = True) -> str:
    """Compile the child and return its path; *static*: link it statically if possible, which makes
    it start sooner."""
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


def package_versions() -> dict[str, str]:
    """Return the Debian versions of the peers and of the C library, as far as dpkg knows them."""
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
