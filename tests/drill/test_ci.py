"""Drills in CI: the fixture for pytest, GitHub's annotations, and the steps of action.yml."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from importlib.metadata import entry_points
from pathlib import Path

import pytest
import yaml

from processes import ROOT

SERVER = Path(__file__).with_name("server.py")
ACTION = yaml.safe_load((ROOT / "action.yml").read_text())
TESTS = f"""
import sys
import pytest

WORDS = ("--url", "http://127.0.0.1:{{port}}/", "--stop-after", "500ms", "--", sys.executable,
         {str(SERVER)!r}, "{{port}}")


def test_nothing_is_loaded_that_no_test_uses():
    ours = {{name for name in sys.modules if name.split(".")[0] == "gracewrap"}}
    assert ours == {{"gracewrap", "gracewrap.drill", "gracewrap.drill.pytest_plugin"}}


def test_what_loses(gracewrap_drill):
    gracewrap_drill(*WORDS, "drop", "0.6")


def test_what_may_lose(gracewrap_drill):
    found = gracewrap_drill("--max-lost", "900", *WORDS, "drain")
    assert found["verdict"] == "passed" and found["runs"][0]["who"] == "gracewrap"


def test_what_cannot_be_held(gracewrap_drill):
    gracewrap_drill("--", "true", check=False)
"""


def test_the_fixture_fails_a_test_and_costs_the_others_nothing(tmp_path):
    (found,) = [one for one in entry_points(group="pytest11") if one.name == "gracewrap"]
    assert found.value == "gracewrap.drill.pytest_plugin"
    (tmp_path / "test_stop.py").write_text(TESTS)
    ours = {name: value for name, value in os.environ.items() if not name.startswith("PYTEST")}
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "-p", "no:cacheprovider", "--rootdir", tmp_path, tmp_path],
        capture_output=True,
        text=True,
        timeout=110,
        env=ours,
        cwd=tmp_path,
    )
    assert "2 failed, 2 passed" in done.stdout, done.stdout
    assert re.search(r"drill failed: \d+ requests? lost, and at most 0 may be", done.stdout)
    assert re.search(r"connection: (reset|refused|cut) at", done.stdout)
    assert "gracewrap drill ended with 125: gracewrap: cannot hold a drill without --url" in (
        done.stdout
    )


@pytest.fixture
def runner(tmp_path: Path) -> dict[str, str]:
    """The variables of a step, on a runner."""
    found = {"RUNNER_TEMP": str(tmp_path), "GITHUB_ACTION_PATH": str(ROOT)}
    for name in ("GITHUB_OUTPUT", "GITHUB_STEP_SUMMARY"):
        (tmp_path / name).touch()
        found[name] = str(tmp_path / name)
    return {"PATH": os.environ["PATH"], "GITHUB_ACTIONS": "true", **found}


@pytest.fixture
def installed(runner: dict[str, str], tmp_path: Path) -> dict[str, str]:
    """The variables of a step after gracewrap has been installed."""
    (tmp_path / "gracewrap").symlink_to(sys.prefix)
    return runner


def step(name: str, inputs: dict[str, str], env: dict[str, str]) -> subprocess.CompletedProcess:
    """Run a step of the action as the runner does."""
    (one,) = [one for one in ACTION["runs"]["steps"] if one["name"] == name]
    values = {key: re.sub(r"\$\{\{ inputs\.(\w+) \}\}", lambda part: inputs[part[1]], value)
              for key, value in one["env"].items()}  # fmt: skip
    return subprocess.run(
        ["bash", "--noprofile", "--norc", "-eo", "pipefail", "-c", one["run"]],
        env={**env, **values},
        capture_output=True,
        text=True,
        timeout=110,
    )


@pytest.mark.slow
def test_the_action_installs_what_its_drill_needs(runner, tmp_path):
    pip = {name: value for name, value in os.environ.items() if name.startswith("PIP_")}
    done = step("Install gracewrap", {"python": sys.executable}, {**runner, **pip})
    assert done.returncode == 0, done.stdout + done.stderr
    words = f"""--url 'http://127.0.0.1:{{port}}/' --max-lost 900
      -- {sys.executable} {SERVER} '{{port}}' drain"""
    done = step("Drill", {"drill": words}, runner)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "verdict=passed\n" in (tmp_path / "GITHUB_OUTPUT").read_text()


def test_the_action_tells_the_workflow(installed, tmp_path):
    words = f"""--url 'http://127.0.0.1:{{port}}/' --stop-after 500ms
      -- {sys.executable} {SERVER} '{{port}}' drop 0.6"""
    done = step("Drill", {"drill": words}, installed)
    assert done.returncode == 1, done.stdout + done.stderr
    assert re.search(r"^::error title=gracewrap drill::drill failed: \d+ req", done.stdout, re.M)
    outputs = dict(
        line.split("=", 1) for line in (tmp_path / "GITHUB_OUTPUT").read_text().splitlines()
    )
    assert outputs["verdict"] == "failed"
    assert Path(outputs["page"]).read_text().startswith("<!doctype html>")
    assert "<failure" in Path(outputs["junit"]).read_text()
    assert (tmp_path / "GITHUB_STEP_SUMMARY").read_text().startswith("### gracewrap drill: failed")
    assert set(outputs) == set(ACTION["outputs"])


def test_the_action_fails_where_no_drill_can_be_held(installed, tmp_path):
    done = step("Drill", {"drill": "-- true"}, installed)
    assert (done.returncode, "without --url" in done.stderr) == (125, True)
    assert "verdict=\n" in (tmp_path / "GITHUB_OUTPUT").read_text()


def test_each_input_of_the_action_is_used_and_no_other():
    text = (ROOT / "action.yml").read_text()
    assert set(re.findall(r"inputs\.(\w+)", text)) == set(ACTION["inputs"])
    for one in ACTION["runs"]["steps"]:
        assert "${{" not in one["run"], "an input in a script is code"
        assert one["shell"] == "bash"
