"""What the documentation says is so: files of several programs, links, and what `gracewrap check`
draws."""

from __future__ import annotations

import os
import re
import subprocess
from pathlib import Path

import pytest

from processes import GRACEWRAP, ROOT, environment

DOCS = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]
FILES = [
    (file, number, block)
    for file in DOCS
    for number, block in enumerate(
        re.findall(r"^```toml\n(.*?)^```", file.read_text(), re.MULTILINE | re.DOTALL)
    )
    if "[programs." in block and "shutdown_timeout" in block  # a whole file, and not a part of one
]


@pytest.fixture
def commands(tmp_path: Path) -> dict[str, str]:
    """An environment in which the programs of the examples can be found; none of them is
    started."""
    for name in ("postgres", "psql", "node", "gunicorn", "celery"):
        (tmp_path / name).symlink_to("/bin/true")
    more = {"PORT": "8000", "QUEUE": "mail", "PATH": f"{tmp_path}:{os.environ['PATH']}"}
    return {**environment(), **more}


def check(text: str, tmp_path: Path, env: dict[str, str]) -> subprocess.CompletedProcess[str]:
    (tmp_path / "g.toml").write_text(text.replace("/srv/app", str(tmp_path)))
    words = [*GRACEWRAP, "check", "--config", str(tmp_path / "g.toml")]
    return subprocess.run(
        words,
        check=False,
        capture_output=True,
        text=True,
        env=env,
        timeout=60,
        stdin=subprocess.DEVNULL,
    )


@pytest.mark.parametrize(
    ("file", "number", "block"),
    FILES,
    ids=lambda value: getattr(value, "name", None) or str(value)[:2],
)
def test_files_of_several_programs_are_accepted(file, number, block, tmp_path, commands):
    done = check(block, tmp_path, commands)
    # A long budget is warned of, and the text beside such a file says so too.
    left = [one for one in done.stderr.splitlines() if "raise their limit too" not in one]
    assert (done.returncode, left) == (0, [])


def test_the_drawing_is_that_of_check(tmp_path, commands):
    text = (ROOT / "docs" / "programs.md").read_text()
    block = next(block for file, _, block in FILES if file.name == "programs.md")
    drawn = next(
        drawn
        for drawn in re.findall(r"^```text\n(.*?)^```", text, re.MULTILINE | re.DOTALL)
        if "told " in drawn
    )
    assert drawn in check(block, tmp_path, commands).stdout


@pytest.mark.parametrize("file", DOCS, ids=lambda file: file.name)
def test_links_lead_somewhere(file: Path):
    for target in re.findall(r"\]\(([^)\s]+)\)", file.read_text()):
        if "://" in target:
            continue
        path, _, place = target.partition("#")
        found = (file.parent / path) if path else file
        assert found.exists(), target
        if place:
            headings = re.findall(r"^#+ (.*)$", found.read_text(), re.MULTILINE)
            assert place in {
                re.sub(r"[^\w\- ]", "", one.lower()).replace(" ", "-") for one in headings
            }, target
