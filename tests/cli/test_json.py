"""What scripts read: check --json, health --json, and the commit in --version."""

from __future__ import annotations

import json
import sys
from typing import Any

from gracewrap.cli.version import commit_of
from processes import call, running, wait_until


def answered(*words: object) -> tuple[int, Any, str]:
    """Return the status, the JSON that was written to stdout, and stderr."""
    status, out, err = call(*words)
    return status, json.loads(out), err


def test_check_as_json():
    status, found, err = answered("check", "--json", "--preset", "nginx", "--", "nginx")
    assert (status, err, found["ok"], found["errors"]) == (0, "", True, [])
    assert found["settings"]["stop_signal"] == {"value": "QUIT", "origin": "preset nginx, line 6"}
    assert found["settings"]["command"] == {"value": ["nginx"], "origin": "command line"}
    assert found["settings"]["escalation"]["value"] == [{"after": "24s", "signal": "TERM"}]
    assert any("SIGQUIT" in text for text in found["stop"])
    assert "preset" in answered("check", "--json", "--", "nginx")[1]["notes"][0]


def test_mistakes_and_warnings_as_json():
    status, found, err = answered("check", "--json", "--stop-timeout", "10", "--", "true")
    assert (status, err, found["ok"]) == (125, "", False)
    assert len(found["errors"]) == 1 and 'write "10s"' in found["errors"][0]
    assert "settings" not in found
    words = ["--json", "--shutdown-timeout", "60s", "--", "true"]
    assert answered("check", *words)[0] == 0
    status, found, _ = answered("check", "--strict", *words)
    assert status == 125 and not found["ok"] and len(found["warnings"]) == 1


def test_several_programs_as_json(tmp_path):
    file = tmp_path / "g.toml"
    file.write_text("shutdown_timeout = '9s'\n[programs.web]\ncommand = ['sleep', '1']\n")
    status, found, _ = answered("check", "--json", "--config", file)
    assert status == 0 and found["file"] == str(file)
    assert list(found["settings"]) == ["shutdown_timeout"]
    assert list(found["programs"]["web"]) == ["command"]


def test_the_json_of_a_command_is_its_own():
    found = answered("check", "--json", "--", "jq", "--json")[1]
    assert found["settings"]["command"]["value"] == ["jq", "--json"]


def test_health_as_json():
    installed = [sys.executable, "-m", "gracewrap"]  # with h11, by which it answers
    with running("--", "sh", "-c", "echo here; exec sleep 60", command=installed) as run:
        assert run.line() == "here"
        answers = []  # the control socket is there soon after the start
        wait_until(
            lambda: (
                answers.append(answered("health", "--json", "--pid", run.pid)[:2])
                or answers[-1][0] == 0
            ),
            "it is healthy",
        )
        assert answers[-1][1]["healthy"] is True
    status, found, _ = answered("health", "--json", "--pid", 1 << 22)
    assert (status, found["healthy"]) == (1, False) and "no such process" in found["reason"]


def test_the_commit_is_read_from_git_s_files(tmp_path):
    one, other = "a" * 40, "b" * 40
    (tmp_path / "HEAD").write_text("ref: refs/heads/main\n")
    assert commit_of(str(tmp_path)) == ""
    (tmp_path / "packed-refs").write_text(f"# pack-refs\n{one} refs/heads/main\n")
    assert commit_of(str(tmp_path)) == one
    (tmp_path / "refs" / "heads").mkdir(parents=True)
    (tmp_path / "refs" / "heads" / "main").write_text(f"{other}\n")
    assert commit_of(str(tmp_path)) == other
    (tmp_path / "HEAD").write_text(f"{one}\n")
    assert commit_of(str(tmp_path)) == one
