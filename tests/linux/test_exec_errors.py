"""What cannot be run, and system calls that a container runtime refuses."""

from __future__ import annotations

import os
import platform
import shutil
import struct
import subprocess
import sys
from pathlib import Path

import pytest

from processes import BOUND, GRACEWRAP, environment, require

OTHER = 62 if platform.machine() != "x86_64" else 183  # e_machine of elf(5)
NAME = {62: "x86_64 (amd64)", 183: "aarch64 (arm64)"}[OTHER]


def run(*words: object, prefix: tuple[str, ...] = (), **more: str) -> tuple[int, str, str]:
    done = subprocess.run(
        [*prefix, *GRACEWRAP, *map(str, words)],
        env=environment(**more),
        capture_output=True,
        text=True,
        timeout=BOUND,
    )
    return done.returncode, done.stdout, done.stderr


@pytest.fixture
def app(tmp_path: Path) -> Path:
    """Return a program for another machine."""
    data = bytearray(Path(shutil.which("true") or "").read_bytes())
    data[18:20] = struct.pack("<H", OTHER)
    return executable(tmp_path / "app", bytes(data))


def executable(path: Path, content: bytes) -> Path:
    path.write_bytes(content)
    path.chmod(0o755)
    return path


@pytest.mark.parametrize("words", [(), ("--restart", "never"), ("--nice", "1")])
def test_a_program_for_another_machine_is_named_as_such(app, words):
    for name in (app, "app"):
        status, _, said = run(*words, "--", name, PATH=f"{app.parent}:{os.environ['PATH']}")
        assert status == 126
        assert f"it is built for {NAME}, and this machine is {platform.machine()}" in said
        assert "--platform" in said


def test_so_is_an_interpreter(app, tmp_path):
    """The shell would read a script of another language."""
    script = executable(tmp_path / "script", b"#!%s -x\necho by the shell\n" % bytes(app))
    status, out, said = run("--", script)
    assert (status, out) == (126, "")
    assert f"its interpreter {str(app)!r}: it is built for {NAME}" in said


@pytest.mark.parametrize(
    ("content", "status", "said"),
    [
        (b"", 0, ""),
        (b"exit 7", 7, ""),
        (b"exit 8\n\0\0", 8, ""),  # a script with an archive behind it
        (b"MZ\0\0\x01 exit 9\n", 126, "it is a binary, but not a program for Linux"),
        (b"\xcf\xfa\xed\xfe\0", 126, "it is a binary, but not a program for Linux"),
    ],
)
def test_only_a_script_is_run_by_the_shell(content, status, said, tmp_path):
    found, _, text = run("--", executable(tmp_path / "file", content))
    assert found == status and said in text


def test_a_damaged_program_is_told_from_one_for_another_machine(tmp_path):
    content = Path(shutil.which("true") or "").read_bytes()
    head = bytearray(content[:64])
    head[16:18] = b"\xfe\xfe"  # e_type
    status, _, said = run("--", executable(tmp_path / "file", bytes(head)))
    assert status == 126 and "it is a damaged program" in said


# A seccomp filter as of a container runtime that is older than the libc: unknown calls give EPERM.
REFUSING = """
import ctypes, os, struct, sys
numbers = [int(word) for word in sys.argv[1].split(",")]
code = [(0x20, 0, 0, 0)]  # load the number of the call
for at, number in enumerate(numbers):
    code.append((0x15, len(numbers) - at, 0, number))  # equal: to the last
code += [(6, 0, 0, 0x7FFF0000), (6, 0, 0, 0x00050001)]  # allow; EPERM
program = b"".join(struct.pack("HBBI", *one) for one in code)
held = ctypes.create_string_buffer(program)
filters = struct.pack("HxxxxxxQ", len(code), ctypes.addressof(held))
libc = ctypes.CDLL(None, use_errno=True)
assert libc.prctl(38, 1, 0, 0, 0) == 0
assert libc.prctl(22, 2, ctypes.create_string_buffer(filters), 0, 0) == 0, ctypes.get_errno()
os.execvp(sys.argv[2], sys.argv[2:])
"""
CLONE3, PWRITEV2 = "435", {"x86_64": "328"}.get(platform.machine(), "287")


def refusing(*numbers: str) -> tuple[str, ...]:
    return sys.executable, "-I", "-S", "-c", REFUSING, ",".join(numbers)


@pytest.mark.parametrize("words", [(), ("--restart", "never")])
def test_clone3_may_be_refused(words, tmp_path):
    (tmp_path / "hook.toml").write_text('post_stop = ["echo", "afterwards"]\n')
    words = ("--config", tmp_path / "hook.toml", *words, "--", "sh", "-c", "echo up; exit 3")
    require(shutil.which("strace"), "strace")
    assert run(*words, prefix=refusing(CLONE3))[:2] == (3, "up\nafterwards\n")
    # Else this test would prove nothing: it is really called, and really refused.
    traced = ("strace", "-f", "-e", "trace=clone3", *refusing(CLONE3))
    assert "EPERM" in run("--", "true", prefix=traced)[2]


STOPS = "kill -TERM $PPID; exec sleep 60"


def test_pwritev2_may_be_refused():
    """It is how we write to a socket that is our stderr."""
    import socket

    ours, theirs = socket.socketpair()
    with ours, theirs:
        command = [*refusing(PWRITEV2), *GRACEWRAP, "--", "sh", "-c", STOPS]
        done = subprocess.run(command, env=environment(), stderr=theirs, timeout=BOUND)
        assert done.returncode == 143
        theirs.close()
        with ours.makefile() as lines:
            assert "stop_requested" in lines.read()


@pytest.mark.parametrize(
    ("name", "content", "word", "cure"),
    [
        ("server.js", "1", "server.js", "write node server.js"),
        ("server.js", "1", "./server.js", "write node ./server.js"),
        ("run.py", "#!/usr/bin/env python3", "run.py", "it is in this directory: write ./run.py"),
        ("run", "#!/bin/sh", "./run", "chmod +x"),
        ("app", "", "app", "it is in this directory: write ./app"),
    ],
)
def test_a_script_without_its_interpreter_is_told_how_to_be_run(
    tmp_path, monkeypatch, name, content, word, cure
):
    (tmp_path / name).write_text(content)
    monkeypatch.chdir(tmp_path)
    status, _, said = run("--", word)
    assert (status, cure in said) == (126 if word.startswith(".") else 127, True), said
