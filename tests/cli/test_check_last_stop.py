"""`gracewrap check` beside the report of the last stop."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from gracewrap.cli import check_last_stop
from gracewrap.config.command_line import read_command_line
from gracewrap.config.load import resolve
from processes import environment


def report(used: float, **more: object) -> dict[str, object]:
    return {"gracewrap": "1.0", "timeline": [], "stop_began": "2026-11-27T07:29:09.934Z",
            "used_seconds": used, "budget_seconds": 10.0, "killed": [], **more}  # fmt: skip


def warned(file: Path, *words: str) -> list[str]:
    line = read_command_line(["--report-file", str(file), "--shutdown-timeout", "10s", *words])
    settings, _ = resolve(line, {}, needs_command=False)
    assert settings is not None
    return list(check_last_stop.doubts(settings))


def test_a_stop_that_used_most_of_the_budget_is_warned_of(tmp_path):
    file = tmp_path / "stop.json"
    file.write_text(json.dumps(report(8.5, killed=["node (pid 7)"])))
    (text,) = warned(file)
    assert 'used 8.5 s, 85% of shutdown_timeout = "10s", and SIGKILL ended node (pid 7)' in text
    assert f"gracewrap learn {file}" in text
    # The budget that there is now counts.
    assert warned(file, "--shutdown-timeout", "20s") == []
    assert "170%" in warned(file, "--shutdown-timeout", "5s")[0]
    assert warned(file, "--shutdown-timeout", "0s") == []


@pytest.mark.parametrize(
    "content",
    [json.dumps(report(8.0)), json.dumps(report(9.0, stop_began=None)), "", "{}", "[1]", "\0"],
)
def test_other_reports_are_no_reason(content, tmp_path):
    file = tmp_path / "stop.json"
    file.write_text(content)
    assert warned(file) == []


def test_what_is_no_file_is_not_read(tmp_path):
    os.mkfifo(tmp_path / "pipe")
    for name in ("pipe", "none", "."):
        assert warned(tmp_path / name) == []


def test_strict_fails(tmp_path):
    file = tmp_path / "stop.json"
    file.write_text(json.dumps(report(24.0)))
    done = subprocess.run(
        [sys.executable, "-m", "gracewrap", "check", "--strict", "--report-file", str(file),
         "--", sys.executable],
        capture_output=True,
        text=True,
        timeout=60,
        env=environment(),
    )  # fmt: skip
    assert done.returncode == 125
    assert "warning: the last stop" in done.stderr
