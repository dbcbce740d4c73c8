"""A wait for signals in which gracewrap is paused, by SIGSTOP or `docker pause`."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import gracewrap
from processes import pause

# A pause each time a signal has been fetched, which lasts until after the next wait.
PAUSED = """
import _signal, os, time
from gracewrap.linux.signals import BLOCKABLE, fetch
_signal.pthread_sigmask(_signal.SIG_BLOCK, BLOCKABLE)
print("up", flush=True)
fetched, until = [], time.monotonic() + {seconds}
while time.monotonic() < until:
    got = fetch(0.1)
    if got is not None:
        fetched.append(got.si_signo)
        if got.si_signo == _signal.SIGUSR1:
            print("fetched", flush=True)
print(*fetched)
"""


def test_what_a_pause_leaves_on_the_stack_is_no_signal():
    times = 4
    command = [sys.executable, "-c", PAUSED.format(seconds=times * 0.5 + 1)]
    environ = {**os.environ, "PYTHONPATH": str(Path(gracewrap.__file__).parents[1])}
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=environ) as process:
        assert process.stdout is not None and process.stdout.readline() == "up\n"
        for _ in range(times):
            process.send_signal(signal.SIGUSR1)
            assert process.stdout.readline() == "fetched\n"
            pause(process.pid, 0.3)
        found = process.stdout.read().split()
    assert [one for one in found if one != "18"] == ["10"] * times
