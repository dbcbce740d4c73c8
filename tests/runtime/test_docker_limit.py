"""Under plain Docker a budget may be longer than what `docker stop` grants, the default one as much
as a chosen one: the line of the stop request says so."""

from __future__ import annotations

import posix

import pytest

from gracewrap.config.command_line import read_command_line
from gracewrap.config.load import resolve
from gracewrap.policy.log_events import StopRequested
from gracewrap.report.log import Log
from gracewrap.report.recorder import Recorder
from gracewrap.runtime import record_policy_events


@pytest.mark.parametrize(
    ("words", "pid", "variables", "docker", "says"),
    [
        ([], 1, {}, True, True),
        (["--preset", "nginx"], 1, {}, True, True),
        (["--preset", "docker-default"], 1, {}, True, False),
        (["--shutdown-timeout", "25s"], 1, {}, True, True),
        (["--shutdown-timeout", "25s"], 1, {b"KUBERNETES_SERVICE_HOST": b"10.0.0.1"}, True, False),
        (["--shutdown-timeout", "25s"], 1, {}, False, False),
        (["--shutdown-timeout", "10s"], 1, {}, True, False),
        (["--shutdown-timeout", "8s"], 1, {}, True, False),
        ([], 2, {}, True, False),
        ([], 1, {b"KUBERNETES_SERVICE_HOST": b"10.0.0.1"}, True, False),
        ([], 1, {b"ECS_CONTAINER_METADATA_URI_V4": b"http://x"}, True, False),
        ([], 1, {}, False, False),
    ],
)
def test_only_where_it_looks_like_docker(monkeypatch, words, pid, variables, docker, says):
    settings, _ = resolve(read_command_line([*words, "--", "true"]), {})
    assert settings is not None

    def lstat(path):
        assert path == "/.dockerenv"
        if not docker:
            raise FileNotFoundError(2, "none", path)

    monkeypatch.setattr(posix, "getpid", lambda: pid)
    monkeypatch.setattr(posix, "environ", variables)
    monkeypatch.setattr(posix, "lstat", lstat)
    found = record_policy_events.exceeds_docker(settings)
    monkeypatch.undo()
    assert found is says


@pytest.mark.parametrize("short", [True, False])
def test_the_stop_request_says_it(short, tmp_path):
    file = tmp_path / "log"
    recorder = Recorder(Log("text", "info", str(file)), 25.0, 0.0, 0.0, [("", ["true"])])
    recorder.run.is_short_of_docker = short
    recorder.record(StopRequested(15), 1.0)
    assert ("docker stop kills after 10 s" in file.read_text()) is short
    assert file.read_text().count("\n") == 1
