"""A drill fails for each way to lose work in a stop, says why, and passes on the mended twin."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from processes import ROOT, require

pytestmark = pytest.mark.slow
SCRIPTS = ROOT / "tests" / "drill"
URL = ("--url", "http://127.0.0.1:{port}/")
SERVER = ("--", sys.executable, str(SCRIPTS / "server.py"), "{port}")
DRAINED = ("--propagation-delay", "1s", "--drain-tcp", "auto", "--drain-when", "before-signal")
BALANCED = ("--balancer", "readiness=200ms", "--stop-after", "1s", "--ready-timeout", "60s")
SHORT = (*URL, *BALANCED, "--propagation-delay", "1500ms", "--rate", "5", "--shutdown-timeout")
LEAVES = (*URL, *BALANCED, *DRAINED, "--shutdown-timeout", "5s")
LATE = (*URL, *BALANCED, *DRAINED, "--rolling")
# What is wrong, the drill of it, what is said, and the drill of the mended twin.
TWINS = {
    "drops on SIGTERM": (
        (*URL, *BALANCED, *SERVER, "drop", "0.6"),
        "lost, and at most 0 may be",
        (*URL, *BALANCED, *DRAINED, *SERVER, "drop", "0.6"),
    ),
    "budget shorter than the longest handler": (
        (*SHORT, "3s", *SERVER, "drain", "4"),
        "which had not ended before",
        (*SHORT, "15s", *SERVER, "drain", "4"),
    ),
    "leaves a process behind": (
        (*LEAVES, "--kill-mode", "process", *SERVER, "leave"),
        "SIGKILL ended sleep (pid ",
        (*LEAVES, *SERVER, "leave"),
    ),
    "is ready too early": (
        (*LATE, *SERVER, "late", "60"),
        "by the next instance, which was ready too early",
        (*LATE, "--ready", URL[1], *SERVER, "late", "2"),
    ),
    "cuts jobs": (
        ("JOBS", "drop"),
        "1 job lost, and at most 0 may be",
        ("JOBS", "drain"),
    ),
    "npm start loses the signal": (
        (*URL, *BALANCED, "--", "npm", "start"),
        "lost, and at most 0 may be",
        (*URL, *BALANCED, *DRAINED, "--preset", "npm", "--", "npm", "start"),
    ),
}


def held(words: tuple[str, ...], place: Path) -> tuple[int, dict, str]:
    """Hold a drill; return its status, what it found, and what it complained of."""
    place.mkdir()
    if words[0] == "JOBS":
        script = str(SCRIPTS / "jobs.py")
        words = ("--job-command", f"{sys.executable} {script} {place}", "--job-timeout", "4s",
                 "--stop-after", "500ms", "--", sys.executable, script, str(place), "work",
                 words[1])  # fmt: skip
    if "npm" in words:
        package = {"name": "web", "scripts": {"start": "node server.js"}}
        (place / "package.json").write_text(json.dumps(package))
        shutil.copy(ROOT / "examples" / "node" / "server.js", place)
    done = subprocess.run(
        [sys.executable, "-m", "gracewrap", "drill", "--json", *words],
        capture_output=True,
        text=True,
        timeout=110,
        cwd=place,
    )
    return done.returncode, json.loads(done.stdout or "{}"), done.stderr


@pytest.mark.parametrize("name", TWINS)
def test_a_drill_fails_and_its_mended_twin_passes(name, tmp_path):
    if "npm" in name:
        require(shutil.which("npm"), "npm")
    bad, said, mended = TWINS[name]
    status, found, error = held(bad, tmp_path / "bad")
    assert (status, said in "; ".join(found.get("reasons", []))) == (1, True), found or error
    status, found, error = held(mended, tmp_path / "mended")
    assert (status, found.get("verdict")) == (0, "passed"), found or error
