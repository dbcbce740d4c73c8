"""Compiles the native launcher, and puts the package and an interpreter where it looks for them."""

from __future__ import annotations

import platform
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from processes import MAIN, ROOT, require

SOURCES = [ROOT / "launcher" / name for name in ("launch.c", "exec.c")]
BUILD = 1500  # seconds that the libraries of the single file may take on a busy machine
STRICT = ["-std=c11", "-Wall", "-Wextra", "-Werror"]


def compile_launcher(target: Path, *options: str) -> Path:
    """Compile the launcher to *target*; a warning is an error."""
    require(shutil.which("cc"), "a C compiler")
    target.parent.mkdir(parents=True, exist_ok=True)
    command = ["cc", *STRICT, "-O2", *options, "-o", str(target), *map(str, SOURCES)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=500)
    assert done.returncode == 0, done.stderr
    return target


def put_package(prefix: Path) -> None:
    """Put gracewrap and this interpreter into *prefix*, as pip --target does."""
    (prefix / "bin").mkdir(parents=True, exist_ok=True)
    (prefix / "bin" / "python3").symlink_to(sys.executable)
    (prefix / "gracewrap").symlink_to(MAIN.parent)
    import h11

    (prefix / "h11").symlink_to(Path(h11.__file__).parent)


def make_single_file(target: Path, machine: str = "x86_64") -> Path:
    """Make gracewrap as one file (make dist); CPython and OpenSSL are built once and kept.

    Its interpreter is CPython 3.11: the tests of other versions have nothing to say about it.
    """
    if sys.version_info[:2] != (3, 11) or platform.machine() != "x86_64":
        pytest.skip("the single file has Python 3.11, on x86_64")
    for tool in ("musl-gcc", "make", "dpkg-source", "apt-get"):
        require(shutil.which(tool), f"{tool}, to make the single file")
    command = [sys.executable, str(ROOT / "launcher" / "single_file"), str(target), machine]
    done = subprocess.run(command, capture_output=True, text=True, timeout=BUILD)
    require("cannot get the source" not in done.stderr, "Debian's source packages")
    assert done.returncode == 0, done.stdout + done.stderr
    return target
