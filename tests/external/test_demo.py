"""`make demo`: what a newcomer runs first."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from processes import ROOT, environment, require

pytestmark = pytest.mark.slow


def demo(**env: str) -> str:
    done = subprocess.run(
        [sys.executable, str(ROOT / "examples" / "demo.py")],
        env=environment(**env),
        capture_output=True,
        text=True,
        timeout=180,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert "client: answered by pid" in done.stdout
    # Else inconclusive, as the others lose nothing.
    assert done.stdout.count("\npassed: 0 lost of") == 2, done.stdout
    assert done.stdout.count("\nlost without gracewrap: bare ") == 2, done.stdout
    return done.stdout


@pytest.mark.node
def test_the_demo_saves_requests_and_jobs_that_others_lose():
    for name in ("node", "npm", "redis-server", "tini"):
        require(shutil.which(name), name)
    shown = demo()
    assert "node node/server.js" in shown and "node node/worker.js" in shown
    assert "Skipped" not in shown


def test_where_only_python_is_the_demo_says_what_it_leaves_out():
    shown = demo(PATH=str(Path(sys.executable).parent))
    assert "worker_without_shutdown_code.py" in shown
    assert "Skipped: what needs nodejs (18 or newer), npm, redis-server, tini" in shown
