"""Some of the programs are stopped or started again while the others go on: rolling restarts, missed watchdogs."""

from __future__ import annotations

import json
import signal
from pathlib import Path

import pytest
from support import running

# Says "up NAME PID", and "down NAME" on SIGTERM; then it exits with 0.
WRITER = """
trap 'echo down $GRACEWRAP_PROGRAM; exit 0' TERM
echo up $GRACEWRAP_PROGRAM $$
while :; do sleep 0.05; done
"""


def config(folder: Path, programs: str, top: str = "") -> Path:
    """Write a file of settings in which COMMAND stands for a writer."""
    path = folder / "gracewrap.toml"
    command = json.dumps(["sh", "-c", WRITER])
    path.write_text(f'shutdown_timeout = "20s"\n{top}\n' + programs.replace("COMMAND", f"command = {command}"))
    return path


def words(line: str) -> tuple[str, str]:
    """Return what a line says, without the pid."""
    word, name, *_ = line.split()
    return word, name


def test_a_signal_restarts_one_stack_after_the_other(tmp_path):
    programs = """
[programs.db]
COMMAND
[programs.web]
COMMAND
depends_on = ["db"]
[programs.cache]
COMMAND
"""
    with running("--config", config(tmp_path, programs, 'signal_map = {HUP = "restart"}')) as run:
        assert {words(run.line()) for _ in range(3)} == {("up", name) for name in ("db", "web", "cache")}
        run.send(signal.SIGHUP)
        seen = [words(run.line()) for _ in range(6)]
        stack = [("down", "web"), ("down", "db"), ("up", "db"), ("up", "web")]
        alone = [("down", "cache"), ("up", "cache")]
        assert seen in (stack + alone, alone + stack)
        run.send(signal.SIGTERM)
        assert {words(run.line()) for _ in range(3)} == {("down", name) for name in ("db", "web", "cache")}
        assert run.wait() == 0


def test_the_next_stack_waits_until_the_one_before_is_ready(tmp_path):
    flag = tmp_path / "ready"
    programs = f"""
[programs.one]
COMMAND
ready = {{file = "{flag}"}}
[programs.two]
COMMAND
ready = {{file = "{flag}"}}
"""
    flag.touch()
    with running("--config", config(tmp_path, programs, 'signal_map = {USR1 = "restart"}')) as run:
        assert {words(run.line()) for _ in range(2)} == {("up", "one"), ("up", "two")}
        for _ in range(2):
            run.log_line("program_ready")
        flag.unlink()
        run.send(signal.SIGUSR1)
        down, up = words(run.line()), words(run.line())
        first = down[1]
        assert (down, up) == (("down", first), ("up", first))
        run.log_line("part_stopped")
        flag.touch()
        assert run.log_line("program_ready")["program"] == first
        second = {"one": "two", "two": "one"}[first]
        assert [words(run.line()) for _ in range(2)] == [("down", second), ("up", second)]


def test_the_one_command_is_restarted_by_a_signal_too(tmp_path):
    with running("--signal-map", "HUP=restart", "--", "sh", "-c", WRITER.replace("$GRACEWRAP_PROGRAM", "it")) as run:
        before = run.line()
        run.send(signal.SIGHUP)
        assert run.line() == "down it"
        after = run.line()
        assert words(before) == words(after) == ("up", "it") and before != after
        run.send(signal.SIGTERM)
        assert run.line() == "down it"
        assert run.wait() == 0


@pytest.mark.parametrize("restart", ["on-failure", "never"])
def test_a_missed_watchdog_is_a_failure_of_its_program(tmp_path, restart):
    """What is to be started again after a failure is; else it is the end of all."""
    programs = f"""
[programs.web]
COMMAND
[programs.silent]
COMMAND
watchdog = "200ms"
restart = "{restart}"
"""
    with running("--config", config(tmp_path, programs)) as run:
        assert {words(run.line()) for _ in range(2)} == {("up", "web"), ("up", "silent")}
        assert run.log_line("watchdog")["program"] == "silent"
        first = words(run.line())
        if restart == "never":
            assert {first, words(run.line())} == {("down", "web"), ("down", "silent")}
            assert run.wait() == 0
        else:
            assert [first, words(run.line())] == [("down", "silent"), ("up", "silent")]
