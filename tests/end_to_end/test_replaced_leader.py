"""A master that starts its successor on SIGUSR2 and exits: the successor is the program then."""

from __future__ import annotations

import os
import signal
import sys
import time
from pathlib import Path

from processes import wait_until

MASTER = """
import os, signal, sys
worker = os.fork()
if not worker:
    while True: signal.pause()
def say(text): os.write(1, f"{text} {os.getpid()}\\n".encode())
def replace(*_):
    if not os.fork():
        os.execv(sys.executable, [sys.executable, "-I", "-S", *sys.argv])
def leave(signum, _):
    os.kill(worker, signal.SIGKILL)
    os.waitpid(worker, 0)
    say(f"got {signum}")
    os._exit(0)
signal.signal(signal.SIGUSR2, replace)
for one in (signal.SIGQUIT, signal.SIGTERM): signal.signal(one, leave)
say("ready")
while True: signal.pause()
"""


def test_the_successor_of_a_leader_is_the_program(start, tmp_path: Path):
    script = tmp_path / "master.py"
    script.write_text(MASTER)
    run = start("--", sys.executable, "-I", "-S", script)
    old, since = run.ready(), time.monotonic()
    wait_until(lambda: time.monotonic() > since + 1.2, "it is no start of a daemon")
    os.kill(old, signal.SIGUSR2)
    new = run.ready()
    assert new != old
    os.kill(old, signal.SIGQUIT)
    assert run.line() == f"got {int(signal.SIGQUIT)} {old}"
    line = run.log_line("leader_replaced")
    assert line["main"] == new
    run.send(signal.SIGTERM)
    assert run.line() == f"got {int(signal.SIGTERM)} {new}"
    assert run.wait() == 0
    assert run.log_line("summary")["outcome"] == "graceful"
    assert not [line for line in run.err.seen if "left behind" in line]
