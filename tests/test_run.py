"""The main job: a command, wrapped."""

from __future__ import annotations

import signal


def test_passes_output_and_exit_status(start):
    run = start("--", "sh", "-c", "echo hi; exit 7")
    assert run.line() == "hi"
    assert run.wait() == 7
    assert run.log() == []  # a plain run says nothing


def test_stops_gracefully_and_says_so(talk):
    run = talk("exit=3")
    child = run.ready()
    run.send(signal.SIGTERM)
    assert run.line() == "15"
    assert run.wait() == 3
    events = [line["event"] for line in run.log()]
    assert events == ["stop_requested", "stop_signal", "leader_exited", "summary"]
    assert child != run.pid
