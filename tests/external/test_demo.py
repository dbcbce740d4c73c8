"""`make demo`: what a newcomer runs first."""

from __future__ import annotations

import subprocess
import sys

import pytest

from processes import ROOT, environment


@pytest.mark.slow
def test_the_demo_saves_what_others_lose():
    done = subprocess.run(
        [sys.executable, str(ROOT / "examples" / "demo.py")],
        env=environment(),
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert "client: answered by pid" in done.stdout
    assert "passed: 0 lost of" in done.stdout  # else inconclusive, as the others lose nothing
