"""`gracewrap health`, against a stub."""

from __future__ import annotations

import contextlib
import os
import socket
import subprocess
import sys
import time

import pytest

from control_stub import Done, ask
from gracewrap.cli import control_client
from gracewrap.server import control_socket
from processes import BOUND, GRACEWRAP, TALKER, environment, running, wait_until


def test_health_is_readiness_and_live_is_life(stub):
    done = ask(stub, "health")
    assert (done.status, done.out, done.err) == (0, "ready\n", "")
    stub.say("/readyz", (503, {"ready": False, "reason": "stopping", "seconds_left": 23.81}))
    done = ask(stub, "health")
    assert (done.status, done.out, done.err) == (1, "not ready: stopping, 23.8 s left\n", "")
    stub.say(
        "/readyz", (503, {"ready": False, "reason": "starting", "why": "tcp: connection refused"})
    )
    assert ask(stub, "health").out == "not ready: starting (tcp: connection refused)\n"
    stub.say("/readyz", (500, b"Something is wrong.\n"))
    assert ask(stub, "health").out == "not ready: Something is wrong.\n"
    assert ask(stub, "health", "--live").out == "alive\n"
    assert stub.asked == ["GET /readyz"] * 4 + ["GET /livez"]


def test_health_without_a_gracewrap_is_one_line(tmp_path):
    done = Done("health", "--socket", tmp_path / "none")
    assert (
        (done.status, done.err) == (1, "")
        and done.out.startswith("not healthy: ")
        and done.out.count("\n") == 1
    )


def test_health_waits_no_longer_than_its_timeout_for_one_that_is_stopped(tmp_path):
    with socket.socket(socket.AF_UNIX) as deaf:
        deaf.bind(str(tmp_path / "deaf"))
        deaf.listen(8)
        began = time.monotonic()
        done = Done("health", "--timeout", "200ms", "--socket", tmp_path / "deaf")
        assert (
            done.status == 1
            and "no answer in 0.2 s" in done.out
            and time.monotonic() - began < BOUND / 3
        )


def test_a_full_queue_of_visitors_is_waited_for_and_no_longer(tmp_path):
    path = str(tmp_path / "full")
    with socket.socket(socket.AF_UNIX) as full, contextlib.ExitStack() as stack:
        full.bind(path)
        full.listen(0)
        with pytest.raises(BlockingIOError):
            for _ in range(100):
                visitor = stack.enter_context(socket.socket(socket.AF_UNIX))
                visitor.setblocking(False)
                visitor.connect(path)
        with pytest.raises(control_client.NoAnswer, match="no answer in"):
            control_client.ask(path, "GET", "/livez", 0.1)


def test_health_loads_little(stub):
    """A health check runs every few seconds: no typer, rich or psutil, and no json where all is
    well."""
    done = subprocess.run(
        [sys.executable, "-X", "importtime", *GRACEWRAP[1:], "health"],
        capture_output=True, text=True, timeout=BOUND,
        env=environment(GRACEWRAP_CONTROL_SOCKET=stub.path),
    )  # fmt: skip
    loaded = {
        line.rpartition("|")[2].strip()
        for line in done.stderr.splitlines()
        if line.startswith("import time:")
    }
    assert done.stdout == "ready\n" and "gracewrap.cli.control_client" in loaded
    assert not loaded & {
        "typer",
        "rich",
        "psutil",
        "json",
        "re",
        "socket",
        "http.client",
        "enum",
        "os",
        "typing",
        "gracewrap.cli.help",
    }


@pytest.mark.parametrize("side", ["entrypoint", "visitor"])
def test_it_is_found_whatever_only_one_side_has_in_its_environment(side, tmp_path):
    """`docker exec` does not know what an entrypoint exports, and has a HOME of its own."""
    own = environment(
        XDG_RUNTIME_DIR=str(tmp_path), TMPDIR=str(tmp_path), HOME=str(tmp_path), TMP=str(tmp_path)
    )
    bare = {"PATH": os.environ["PATH"]}
    ours, theirs = (own, bare) if side == "entrypoint" else (bare, own)
    command = [sys.executable, "-m", "gracewrap"]
    with running("--", *TALKER, command=command, env=ours) as run:
        run.ready()
        wait_until(lambda: control_socket.find(run.pid), "it listens")
        words = [*command, "health", "--pid", str(run.pid)]
        done = subprocess.run(words, env=theirs, capture_output=True, text=True, timeout=BOUND)
        assert done.returncode == 0, done.stderr
        assert not list(tmp_path.iterdir())
