"""The launcher and the single file for aarch64, cross-built, under qemu-user.

The launcher is tested alone, without a Python that could take over: that would be one of this
machine, and qemu-user does not hand pending signals on to it.
"""

from __future__ import annotations

import importlib.util
import json
import platform
import shutil
import signal
import socket
import subprocess
import sys
import zipfile
from collections.abc import Callable
from pathlib import Path

import pytest

from launchers import BUILD, SOURCES, STRICT, make_single_file
from processes import ROOT, Run, environment, require

pytestmark = pytest.mark.timeout(BUILD)
ELF_AARCH64 = 183  # EM_AARCH64 of elf.h, at 18 in the file
SERVER = """
import signal, socket
signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGTERM])
listening = socket.create_server(("127.0.0.1", 0))
print(listening.getsockname()[1], flush=True)
connection, _ = listening.accept()
print("accepted", flush=True)
connection.recv(1)
connection.close()
print(int(signal.sigwait([signal.SIGTERM])), flush=True)
raise SystemExit(4)
"""


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


@pytest.fixture(scope="module")
def single_file(qemu: str, tmp_path_factory: pytest.TempPathFactory) -> list[str]:
    """Return the words that start the single file."""
    file = make_single_file(tmp_path_factory.mktemp("single") / "gracewrap", "aarch64")
    assert file.read_bytes()[18] == ELF_AARCH64
    return [qemu, str(file)]


@pytest.fixture(params=["launcher", "single_file"])
def either(request: pytest.FixtureRequest) -> list[str]:
    found: list[str] = request.getfixturevalue(request.param)
    return found


def run(command: list[str], *words: object) -> subprocess.CompletedProcess[str]:
    env = environment()
    return subprocess.run(
        [*command, *map(str, words)], env=env, capture_output=True, text=True, timeout=60
    )


# --- both ----------------------------------------------------------------------------------------


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


def test_a_plain_command_has_its_output_and_status(either):
    assert run(either, "--", "true").returncode == 0
    done = run(either, "--", "sh", "-c", "echo said; exit 3")
    assert (done.returncode, done.stdout, done.stderr) == (3, "said\n", "")


def test_a_command_that_a_signal_ends(either):
    done = run(either, "--", "sh", "-c", "kill -KILL $$")
    assert done.returncode == 128 + signal.SIGKILL


@pytest.mark.parametrize("signum", [signal.SIGTERM, signal.SIGUSR1])
def test_signals_are_forwarded(either, talk, signum):
    gracewrap = talk("exit=7", command=either)
    gracewrap.ready()
    gracewrap.send(signum)
    assert gracewrap.line() == str(int(signum))
    if signum != signal.SIGTERM:
        gracewrap.send(signal.SIGTERM)
        assert gracewrap.line() == str(int(signal.SIGTERM))
    assert gracewrap.wait() == 7


# --- the single file -----------------------------------------------------------------------------


def test_it_says_what_it_is(single_file):
    said = run(single_file, "--version").stdout
    assert "Python 3.11" in said and "single file" in said
    about = "import os, ssl; print(os.uname().machine, ssl.OPENSSL_VERSION)"
    done = run(single_file, "__python", "-c", about)
    assert done.stdout.startswith("aarch64 OpenSSL 3."), done


def test_the_first_real_time_signal_is_that_of_other_c_libraries(single_file):
    script = "import _signal; print(_signal.SIGRTMIN, 34 in _signal.valid_signals())"
    assert run(single_file, "__python", "-c", script).stdout == "34 True\n"


def test_settings_are_checked(single_file):
    done = run(single_file, "check", "--preset", "nginx", "--", "nginx")
    assert done.returncode == 0 and "preset nginx" in done.stdout, done
    assert run(single_file, "check", "--shutdown-timeout", "x", "--", "true").returncode == 125


def test_a_stop_waits_until_it_is_drained(single_file, start: Callable[..., Run]):
    drain = ("--drain-tcp", "auto", "--drain-when", "before-signal", "--drain-linger", "0s")
    gracewrap = start(*drain, "--", sys.executable, "-c", SERVER, command=single_file)
    with socket.create_connection(("127.0.0.1", int(gracewrap.line())), timeout=60) as client:
        assert gracewrap.line() == "accepted"
        gracewrap.send(signal.SIGTERM)
        gracewrap.log_line("in_flight")
        client.sendall(b"x")
        gracewrap.log_line("drained")
        gracewrap.log_line("stop_signal")
    assert gracewrap.line() == str(int(signal.SIGTERM))
    assert gracewrap.wait() == 4
    assert gracewrap.log_line("summary")["outcome"] == "graceful"


def test_what_is_inside_is_listed_with_its_licence(single_file):
    file = Path(single_file[1])
    bill = json.loads(file.with_name("gracewrap.spdx.json").read_text())
    versions = {one["name"]: one["versionInfo"] for one in bill["packages"]}
    assert versions.keys() >= {"gracewrap", "python3.11", "openssl", "musl", "ziglang"}
    assert all(versions.values())
    assert "musl" in file.with_name("gracewrap.NOTICE").read_text()
