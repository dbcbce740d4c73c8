"""Programs do not share flags of stdout, and a program of another user can open it again."""

from __future__ import annotations

import os
import pty
import subprocess
import sys
from pathlib import Path

import pytest

from gracewrap.linux import standard_streams
from processes import BOUND, GRACEWRAP, Lines, environment, require_other_user, running

PYTHON = f'"{sys.executable}", "-I", "-S", "-c"'
NONBLOCKING = "import os; [os.set_blocking(fd, False) for fd in (1, 2)]"
BLOCKING = "import os; print(*(os.get_blocking(fd) for fd in (1, 2)), flush=True)"
OPENS = "echo one >/dev/stdout; echo two >/dev/stderr; echo three >/proc/self/fd/1"


def config(tmp_path: Path, text: str) -> Path:
    (tmp_path / "g.toml").write_text(text)
    return tmp_path / "g.toml"


@pytest.fixture
def two(tmp_path: Path) -> Path:
    """Return a file of two programs: the second starts when the first has changed its flags."""
    return config(
        tmp_path,
        f"""
        [programs.node]
        command = [{PYTHON}, "{NONBLOCKING}"]
        oneshot = true
        [programs.other]
        command = [{PYTHON}, "{BLOCKING}"]
        depends_on = {{node = "completed"}}
        """,
    )


def test_flags_of_a_pipe_are_a_programs_own(two):
    with running("--config", two) as run:
        assert run.line() == "True True"
        assert run.wait() == 0


def test_flags_of_a_terminal_are_a_programs_own(two):
    master, slave = pty.openpty()
    try:
        with running("--config", two, stdout=slave, stderr=slave):
            os.close(slave)
            Lines(master).until("True True")
    finally:
        os.close(master)


def test_flags_of_a_hook_are_its_own(tmp_path):
    file = config(
        tmp_path,
        f"""
        command = ["sh", "-c", '''trap '{sys.executable} -I -S -c "{BLOCKING}"; exit 3' TERM
            echo up; sleep 60 & wait''']
        pre_stop = [{PYTHON}, "{NONBLOCKING}"]
        """,
    )
    with running("--config", file) as run:
        assert run.line() == "up"
        run.send(15)
        assert run.line() == "True True"
        assert run.wait() == 3


def test_programs_do_not_overwrite_each_other_in_a_file(tmp_path):
    file = config(
        tmp_path,
        """
        [programs.a]
        command = ["echo", "a"]
        oneshot = true
        [programs.b]
        command = ["echo", "b"]
        depends_on = {a = "completed"}
        """,
    )
    command = [*GRACEWRAP, "--config", file, "--log-level", "error"]
    with open(tmp_path / "out", "w") as out:
        subprocess.run(command, stdout=out, env=environment(), timeout=BOUND, check=True)
    assert (tmp_path / "out").read_text() == "a\nb\n"


def test_a_pipe_without_a_reader_keeps_nobody_waiting(tmp_path):
    os.mkfifo(tmp_path / "log")
    reading = os.open(tmp_path / "log", os.O_RDONLY | os.O_NONBLOCK)
    writing = os.open(tmp_path / "log", os.O_WRONLY)
    kept = os.dup(1)
    try:
        os.dup2(writing, 1)
        fd = standard_streams.reopened(1)
        assert fd >= 0 and os.get_blocking(fd) and not os.get_inheritable(fd)
        os.close(fd)
        os.close(reading)
        assert standard_streams.reopened(1) == -1
    finally:
        os.dup2(kept, 1)
        os.close(kept)
        os.close(writing)


@pytest.mark.root
@pytest.mark.parametrize("words", [(), ("--restart", "never"), ("--output", "prefix")])
def test_another_user_opens_its_streams_again(words):
    """As nginx, PHP-FPM and many scripts do; the pipes are ours, or of whoever has started us."""
    require_other_user()
    command = ["sh", "-c", f"{OPENS}; read x </dev/stdin; echo got $x"]
    command = [*GRACEWRAP, *words, "--stdin", "inherit", "--user", "34567", "--", *command]
    done = subprocess.run(
        command, input=b"four\n", capture_output=True, env=environment(), timeout=BOUND
    )
    out = [line.rpartition(b" ")[2] for line in done.stdout.splitlines()]
    assert out == [b"one", b"three", b"four"]
    assert b"two" in done.stderr and done.returncode == 0


@pytest.mark.root
def test_programs_of_different_users_open_the_same_stream_again(tmp_path):
    require_other_user()
    file = config(
        tmp_path,
        "".join(
            f"""
            [programs.p{uid}]
            command = ["sh", "-c", "for one in stdout stderr; do echo {uid} >/dev/$one; done"]
            on_exit = "ignore"
            user = "{uid}"
            """
            for uid in (34567, 34568)
        ),
    )
    with running("--config", file) as run:
        assert {run.line(), run.line()} == {"34567", "34568"}
