"""Subcommands that talk to a real gracewrap."""

from __future__ import annotations

import json
import subprocess
import time

from control_stub import Done
from processes import BOUND, GRACEWRAP, INSTALLED, Lines, environment


def settled(*words: object) -> Done:
    """Ask until the control socket is there: it is made after the command has been started."""
    until = time.monotonic() + BOUND
    while time.monotonic() < until:
        done = Done(*words)
        if (
            "no such file" not in done.out + done.err
            and "nothing listens" not in done.out + done.err
        ):
            return done
    raise TimeoutError(done.out + done.err)


def test_a_real_one_is_healthy_until_it_drains_and_goes_when_it_is_asked_to(real, tmp_path):
    run = real("--drain-file", tmp_path / "drained")
    assert settled("health", *real.place).out == "ready\n"
    shown = Done("status", *real.place, program=INSTALLED)
    assert (
        shown.status == 0
        and f"(pid {run.pid}): running, ready" in shown.out
        and f"{run.child}" in shown.out
    )
    assert "MiB" in shown.out and "drain probe file: " in shown.out
    assert Done("drain", *real.place).status == 0
    done = Done("health", *real.place)
    assert (done.status, done.out) == (1, "not ready: draining\n") and Done(
        "health", "--live", *real.place
    ).out == "alive\n"
    waiting = subprocess.Popen(
        [*GRACEWRAP, "drain", "--wait", *map(str, real.place)],
        stdout=subprocess.PIPE,
        env=environment(),
    )
    with waiting:
        lines = Lines(waiting.stdout.fileno())
        lines.until("drain")
        (tmp_path / "drained").touch()
        lines.until("drained after ")
        assert waiting.wait(BOUND) == 0
    assert (
        Done("undrain", *real.place).status == 0 and settled("health", *real.place).out == "ready\n"
    )
    assert Done("stop", "--wait", *real.place).status == 0
    run.wait()
    assert Done("health", *real.place).status == 1


def test_a_real_one_is_found_by_its_pid_alone(talk):
    run = talk(command=INSTALLED)
    run.ready()
    until = time.monotonic() + BOUND
    while (
        done := Done("status", "--json", "--pid", run.pid)
    ).status == 1 and time.monotonic() < until:
        pass
    assert json.loads(done.out)["pid"] == run.pid
