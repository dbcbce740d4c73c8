"""log.file is opened anew, as logrotate needs it: by `gracewrap reopen`, and by a signal."""

from __future__ import annotations

import os
import signal
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from processes import INSTALLED, Run, wait_until


@pytest.fixture
def logging(talk: Callable[..., Run], tmp_path: Path) -> Run:
    """A talker whose gracewrap logs into tmp_path/log/g.log."""
    (tmp_path / "log").mkdir()
    run = talk(
        options=[
            *("--log-file", tmp_path / "log" / "g.log", "--log-level", "debug"),
            *("--control-socket", tmp_path / "control", "--signal-map", "USR1=reopen"),
        ],
        command=INSTALLED,
    )
    run.ready()
    wait_until((tmp_path / "log" / "g.log").exists, "there is a log")
    return run


def reopen(tmp_path: Path) -> subprocess.CompletedProcess[str]:
    words = [*INSTALLED, "reopen", "--socket", str(tmp_path / "control")]
    return subprocess.run(words, capture_output=True, text=True, check=False, timeout=60)


def test_after_a_rotation_lines_go_to_the_new_file(logging, tmp_path):
    log, old = tmp_path / "log" / "g.log", tmp_path / "log" / "g.log.1"
    log.rename(old)
    done = reopen(tmp_path)
    assert done.returncode == 0 and f"reopened {log}" in done.stdout + done.stderr
    assert "log_reopened" in log.read_text() and "log_reopened" not in old.read_text()
    before = old.read_text()
    logging.send(signal.SIGHUP)  # it is forwarded, and at this level that is logged
    assert logging.line() == "1"
    wait_until(lambda: "forwarded" in log.read_text(), "it is logged")
    assert old.read_text() == before


def test_a_signal_does_the_same_and_the_command_does_not_get_it(logging, tmp_path):
    log = tmp_path / "log" / "g.log"
    log.rename(tmp_path / "log" / "g.log.1")
    logging.send(signal.SIGUSR1)
    wait_until(log.exists, "there is a new log")
    logging.send(signal.SIGHUP)
    assert logging.line() == "1"


def test_a_file_that_cannot_be_opened_leaves_the_old_one_in_use(logging, tmp_path):
    log, away = tmp_path / "log" / "g.log", tmp_path / "away"
    os.rename(tmp_path / "log", away)
    done = reopen(tmp_path)
    assert done.returncode == 1 and "No such file" in done.stdout + done.stderr
    wait_until(lambda: "cannot reopen" in (away / log.name).read_text(), "the old file has it")


def test_without_a_file_there_is_nothing_to_open(talk, tmp_path):
    run = talk(options=["--control-socket", tmp_path / "control"], command=INSTALLED)
    run.ready()
    wait_until((tmp_path / "control").exists, "it can be asked")
    done = reopen(tmp_path)
    assert done.returncode == 1 and "there is no log.file" in done.stdout + done.stderr
