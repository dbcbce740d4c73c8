"""Puts into the wheel the commit that it is made from, for gracewrap --version, and the `gracewrap`
command: the native launcher, if there is a C compiler.

A statically linked launcher runs on any Linux of its architecture, so that one wheel serves
manylinux and musllinux.  Without a compiler, or with GRACEWRAP_PURE=1, it is a script for Python,
and the wheel is a pure one.  With GRACEWRAP_ARCH=aarch64 it is cross-built, by PyPI's ziglang.
"""

from __future__ import annotations

import importlib.util
import os
import platform
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

from hatchling.builders.hooks.plugin.interface import BuildHookInterface

SCRIPT = "supervisor/scripts/gracewrap"
MACHINES = ("x86_64", "aarch64")
FLAGS = (
    *("-std=c11", "-Os", "-s", "-Wall", "-Wextra"),
    *("-ffunction-sections", "-fdata-sections", "-Wl,--gc-sections"),  # every page counts
    "-fno-asynchronous-unwind-tables",
)
# Two mappings fewer to set up and to take down, and 12 KB less memory; ziglang does not know it.
TOGETHER = "-Wl,-z,noseparate-code"


def architecture() -> str:
    """Return the one that the wheel is for."""
    return os.environ.get("GRACEWRAP_ARCH") or platform.machine()


def compilers() -> list[tuple[list[str], bool]]:
    """Return the commands to try, the best one first, and whether each links statically."""
    ziglang = [sys.executable, "-m", "ziglang", "cc", "-target", f"{architecture()}-linux-musl"]
    cc = os.environ.get("CC", "cc").split()
    is_cross = architecture() != platform.machine()
    found = []
    if shutil.which("musl-gcc") and not is_cross:
        found.append((["musl-gcc", "-static", TOGETHER], True))
    if importlib.util.find_spec("ziglang"):
        found.append(([*ziglang, "-static"], True))
    if cc and shutil.which(cc[0]) and not is_cross:
        found += [([*cc, "-static", TOGETHER], True), ([*cc, TOGETHER], False)]
    return found


class WheelHook(BuildHookInterface):  # type: ignore[misc, type-arg]
    """Adds gracewrap/commit.txt and the command."""

    def dependencies(self) -> list[str]:
        """Return what pip installs to build it."""
        return ["ziglang"] if architecture() != platform.machine() else []

    def initialize(self, version: str, build_data: dict[str, Any]) -> None:
        """Add both."""
        self.folder = tempfile.TemporaryDirectory(prefix="gracewrap-build-")
        self._add_commit(version, build_data)
        self._add_command(version, build_data)

    def finalize(self, version: str, build_data: dict[str, Any], artifact_path: str) -> None:
        """Remove what was made for the wheel."""
        self.folder.cleanup()

    def _add_commit(self, version: str, build_data: dict[str, Any]) -> None:
        git = Path(self.root) / ".git"
        head = _read(git / "HEAD")
        name = head.removeprefix("ref: ")
        commit = head if name == head else _read(git / name) or _packed(git, name)
        if commit and version == "standard":
            file = Path(self.folder.name) / "commit.txt"
            file.write_text(commit + "\n")
            build_data["force_include"][str(file)] = "gracewrap/commit.txt"

    def _add_command(self, version: str, build_data: dict[str, Any]) -> None:
        """Compile the launcher; say in one line if there is none."""
        launcher = Path(self.folder.name) / "gracewrap"
        source = f"{self.root}/supervisor" if version == "editable" else ""
        is_static, why = self._compile(launcher, source)
        if is_static is None and os.environ.get("GRACEWRAP_ARCH"):
            sys.exit(f"gracewrap: cannot make the launcher for GRACEWRAP_ARCH: {why}")
        if is_static is None:
            self.app.display_warning(f"gracewrap: without the native launcher: {why}")
            build_data["shared_scripts"][f"{self.root}/{SCRIPT}"] = "gracewrap"
            return
        machine = architecture()
        every = f"manylinux_2_17_{machine}.musllinux_1_1_{machine}"
        build_data["shared_scripts"][str(launcher)] = "gracewrap"
        build_data["pure_python"] = False
        build_data["tag"] = f"py3-none-{every if is_static else f'linux_{machine}'}"

    def _compile(self, target: Path, source: str) -> tuple[bool | None, str]:
        """Return whether the launcher is linked statically, or None and why there is none."""
        if os.environ.get("GRACEWRAP_PURE"):
            return None, "GRACEWRAP_PURE is set"
        machine = architecture()
        if sys.platform != "linux" or machine not in MACHINES or sys.maxsize < 2**32:
            return None, f"it is for Linux on {' and '.join(MACHINES)}"
        files = [f"{self.root}/launcher/{name}" for name in ("launch.c", "exec.c")]
        define = [f'-DGRACEWRAP_SOURCE="{source}"'] if source else []
        why = "no C compiler was found (cc, musl-gcc or ziglang)"
        for command, is_static in compilers():
            done = subprocess.run(
                [*command, *FLAGS, *define, "-o", str(target), *files],
                stdin=subprocess.DEVNULL,
                capture_output=True,
                text=True,
                errors="replace",
                check=False,
            )
            if done.returncode == 0:
                target.chmod(0o755)
                return is_static, ""
            why = f"{command[0]}: {(done.stderr.strip().splitlines() or ['failed'])[-1]}"
        return None, why


def _packed(git: Path, name: str) -> str:
    rows = _read(git / "packed-refs").splitlines()
    return next((row.partition(" ")[0] for row in rows if row.endswith(f" {name}")), "")


def _read(path: Path) -> str:
    try:
        return path.read_text().strip()
    except OSError:
        return ""
