"""The launcher for aarch64, cross-built, under qemu-user.

The launcher is tested alone, without a Python that could take over: that would be one of this
machine, and qemu-user does not hand pending signals on to it.
"""

from __future__ import annotations

import importlib.util
import platform
import shutil
import signal
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

from launchers import BUILD, SOURCES, STRICT
from processes import ROOT, environment, require

pytestmark = pytest.mark.timeout(BUILD)
ELF_AARCH64 = 183  # EM_AARCH64 of elf.h, at 18 in the file


@pytest.fixture(scope="module")
def qemu() -> str:
    found = shutil.which("qemu-aarch64") or shutil.which("qemu-aarch64-static")
    if platform.machine() != "x86_64":
        pytest.skip("it is cross-built on x86_64")
    require(found, "qemu-user")
    require(importlib.util.find_spec("ziglang"), "ziglang: pip install --group cross")
    return str(found)


@pytest.fixture(scope="module")
def launcher(qemu: str, tmp_path_factory: pytest.TempPathFactory) -> list[str]:
    """Return the words that start the launcher of the cross-built wheel."""
    folder = tmp_path_factory.mktemp("wheel")
    pip = [sys.executable, "-m", "pip", "wheel", "--quiet", "--no-deps", "--wheel-dir", folder]
    cache = str(folder / "zig")
    env = environment(
        GRACEWRAP_ARCH="aarch64", ZIG_GLOBAL_CACHE_DIR=cache, ZIG_LOCAL_CACHE_DIR=cache
    )
    done = subprocess.run([*pip, ROOT], env=env, capture_output=True, text=True, timeout=500)
    assert done.returncode == 0, done.stderr
    (wheel,) = folder.glob("*.whl")
    assert wheel.name.endswith("-py3-none-manylinux_2_17_aarch64.musllinux_1_1_aarch64.whl")
    with zipfile.ZipFile(wheel) as archive:
        (name,) = [name for name in archive.namelist() if name.endswith("/scripts/gracewrap")]
        file = Path(archive.extract(name, folder))
    assert file.read_bytes()[18] == ELF_AARCH64 and file.stat().st_size < 200_000
    file.chmod(0o755)
    return [qemu, str(file)]


def run(command: list[str], *words: object) -> subprocess.CompletedProcess[str]:
    env = environment()
    return subprocess.run(
        [*command, *map(str, words)], env=env, capture_output=True, text=True, timeout=60
    )


def test_the_compiler_warns_of_nothing(qemu, tmp_path):
    zig = [sys.executable, "-m", "ziglang", "cc", "-target", "aarch64-linux-musl"]
    done = subprocess.run(
        [*zig, *STRICT, "-Os", "-c", *SOURCES],
        cwd=tmp_path,
        env=environment(ZIG_GLOBAL_CACHE_DIR=str(tmp_path), ZIG_LOCAL_CACHE_DIR=str(tmp_path)),
        capture_output=True,
        text=True,
        timeout=500,
    )
    assert (done.returncode, done.stderr) == (0, "")


def test_a_plain_command_has_its_output_and_status(launcher):
    assert run(launcher, "--", "true").returncode == 0
    done = run(launcher, "--", "sh", "-c", "echo said; exit 3")
    assert (done.returncode, done.stdout, done.stderr) == (3, "said\n", "")


def test_a_command_that_a_signal_ends(launcher):
    done = run(launcher, "--", "sh", "-c", "kill -KILL $$")
    assert done.returncode == 128 + signal.SIGKILL


@pytest.mark.parametrize("signum", [signal.SIGTERM, signal.SIGUSR1])
def test_signals_are_forwarded(launcher, talk, signum):
    gracewrap = talk("exit=7", command=launcher)
    gracewrap.ready()
    gracewrap.send(signum)
    assert gracewrap.line() == str(int(signum))
    if signum != signal.SIGTERM:
        gracewrap.send(signal.SIGTERM)
        assert gracewrap.line() == str(int(signal.SIGTERM))
    assert gracewrap.wait() == 7
