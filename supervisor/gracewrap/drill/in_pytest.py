"""Holds a drill for a test: as a process of its own, since it adopts what the command leaves."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest

import gracewrap
from gracewrap.drill.model import MOST_NAMED
from gracewrap.record import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence
    from typing import Any

ENDS = 15.0  # seconds that an interrupted drill has to end all that it started


def drill(*words: object, check: bool = True) -> dict[str, Any]:
    """Hold a drill; return what `gracewrap drill --json` prints.

    Args:
        words: What stands after `gracewrap drill`.
        check: Whether the test fails if the drill is not passed.
    """
    __tracebackhide__ = True
    status, out, error = _run([str(word) for word in words])
    if not out:
        pytest.fail(f"gracewrap drill ended with {status}: {error.strip()}", pytrace=False)
    found: dict[str, Any] = json.loads(out)
    if check and status != 0:
        pytest.fail("\n".join(_told(found)), pytrace=False)
    return found


def _run(words: Sequence[str]) -> tuple[int, bytes, str]:
    main = str(Path(gracewrap.__file__).with_name("__main__.py"))
    # Annotations are for the run as a whole, and pytest has its own report.
    ours = {name: value for name, value in os.environ.items() if not name.startswith("GITHUB_")}
    with tempfile.TemporaryFile() as errors:
        process = subprocess.Popen(
            [sys.executable, main, "drill", "--json", *words],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=errors,
            env=ours,
            start_new_session=True,  # Ctrl-C is for pytest, which tells it
        )
        try:
            out, _ = process.communicate()
        except BaseException:
            process.send_signal(signal.SIGINT)
            try:
                process.communicate(timeout=ENDS)
            except subprocess.TimeoutExpired:
                process.kill()
                process.communicate()
            raise
        errors.seek(0)
        return process.returncode, out, errors.read().decode(errors="replace")


def _told(found: dict[str, Any]) -> list[str]:
    """Return why a drill is not passed, and the first of the requests that were lost."""
    lines = [f"drill {found['verdict']}: {'; '.join(found['reasons'])}"]
    own = [run for run in found["runs"] if run["who"] == "gracewrap"]
    bad = [one for run in own for one in run["requests"] if one["fate"] != "ok"]
    for one in bad[:MOST_NAMED]:
        kind = f", {one['connection']} connection" if one["connection"] else ""
        why = f" ({one['why']})" if one["why"] else ""
        lines.append(f"  {one['url']} at {one['at']:+.2f} s{kind}: {one['fate']} at "
                     f"{one['ended']:+.2f} s{why}")  # fmt: skip
    if len(bad) > MOST_NAMED:
        lines.append(f"  and {len(bad) - MOST_NAMED} more")
    return lines
