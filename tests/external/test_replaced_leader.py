"""Real masters that replace themselves on SIGUSR2: the new one is the program, and is stopped."""

from __future__ import annotations

import importlib.util
import os
import shutil
import signal
import sys
import time
from pathlib import Path

import pytest

from processes import require, wait_until

SERVERS = Path(__file__).parent / "servers"


def unicorn(pid_file: Path, socket: Path) -> list[object]:
    require(shutil.which("unicorn") is not None, "unicorn")
    config = pid_file.with_name("unicorn.rb")
    config.write_text(f'worker_processes 1\nlisten "{socket}"\npid "{pid_file}"\n')
    return ["unicorn", "-c", config, SERVERS / "config.ru"]


def gunicorn(pid_file: Path, socket: Path) -> list[object]:
    require(importlib.util.find_spec("gunicorn") is not None, "gunicorn")
    words = ["-p", pid_file, "-b", f"unix:{socket}", "--chdir", SERVERS, "wsgi:application"]
    return [sys.executable, "-m", "gunicorn", *words]


def _pid(file: Path) -> int:
    try:
        return int(file.read_text())
    except (OSError, ValueError):
        return 0


def _has_workers(pid: int) -> bool:
    try:
        return bool(Path(f"/proc/{pid}/task/{pid}/children").read_text().split())
    except OSError:
        return False


@pytest.mark.parametrize("server", [unicorn, gunicorn])
def test_the_new_master_is_the_program(start, tmp_path: Path, server):
    pid_file, socket = tmp_path / "pid", tmp_path / "socket"
    command = server(pid_file, socket)
    run = start("--stop-signal", "QUIT", "--", *command)
    wait_until(lambda: _pid(pid_file) and _has_workers(_pid(pid_file)), "it is up")
    old, since = _pid(pid_file), time.monotonic()
    wait_until(lambda: time.monotonic() > since + 1.2, "it is no start of a daemon")
    os.kill(old, signal.SIGUSR2)

    def new() -> int:
        files = [_pid(file) for file in tmp_path.glob("pid*")]
        return next((one for one in files if one not in (0, old) and _has_workers(one)), 0)

    wait_until(new, "the new master has workers")
    main = new()
    os.kill(old, signal.SIGQUIT)
    assert run.log_line("leader_replaced")["main"] == main
    run.send(signal.SIGTERM)
    assert run.wait() == 0
    summary = run.log_line("summary")
    assert summary["outcome"] == "graceful" and "left behind" not in str(summary["message"])
