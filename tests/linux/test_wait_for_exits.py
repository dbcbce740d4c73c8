"""Waiting for the processes of others when a run is over."""

from __future__ import annotations

import signal
import subprocess
import time

from gracewrap.linux import signal_and_kill
from processes import BOUND


def test_who_has_exited_or_was_never_there_is_not_waited_for():
    with subprocess.Popen(["cat"], stdin=subprocess.PIPE) as gone:
        began = time.monotonic()
        gone.communicate()
        signal_and_kill.wait_for_exits([0, gone.pid], BOUND)
    assert time.monotonic() - began < BOUND


def test_who_stays_is_waited_for_until_the_limit():
    with subprocess.Popen(["cat"], stdin=subprocess.PIPE) as stays:
        stays.send_signal(signal.SIGSTOP)
        began = time.monotonic()
        signal_and_kill.wait_for_exits([stays.pid], 0.2)
        waited = time.monotonic() - began
        stays.kill()
    assert 0.2 <= waited < BOUND
