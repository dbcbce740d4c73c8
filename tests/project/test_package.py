"""The wheel: what is in it, and that it lives beside PyPI's supervisor, whose import name and
commands are its own."""

from __future__ import annotations

import re
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

from processes import ROOT, environment

pytestmark = [pytest.mark.slow, pytest.mark.timeout(600)]
BOUND = 300.0  # seconds; downloads are in it


def call(*command: object, **options: object) -> str:
    """Run a command that must succeed; return what it printed."""
    settings = {"cwd": "/", "env": environment(), "timeout": BOUND, **options}
    done = subprocess.run(
        list(map(str, command)), check=False, capture_output=True, text=True, **settings
    )  # type: ignore[call-overload]
    assert done.returncode == 0, f"{command}: {done.stdout}{done.stderr}"
    return str(done.stdout)


@pytest.fixture(scope="session")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Build the wheel as pip does it."""
    directory = tmp_path_factory.mktemp("wheel")
    call(
        sys.executable, "-m", "pip", "wheel", "--quiet", "--no-deps", "--wheel-dir", directory, ROOT
    )
    (found,) = directory.glob("*.whl")
    return found


@pytest.fixture(scope="session")
def installed(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Install the wheel and PyPI's supervisor into a new environment; return its bin directory."""
    directory = tmp_path_factory.mktemp("venv")
    call(sys.executable, "-m", "venv", directory)
    # supervisor 4 imports pkg_resources, which setuptools 81 no longer has.
    call(directory / "bin" / "pip", "install", "--quiet", wheel, "supervisor", "setuptools<81")
    return directory / "bin"


def test_the_wheel_holds_the_package_and_nothing_else(wheel):
    names = zipfile.ZipFile(wheel).namelist()
    assert {
        name.partition("/")[0]
        for name in names
        if not re.match(r"gracewrap-[\d.]+\.dist-info/", name)
    } == {"gracewrap"}
    sources = {
        f"gracewrap/{file.relative_to(ROOT / 'supervisor' / 'gracewrap')}"
        for file in (ROOT / "supervisor/gracewrap").rglob("*.py")
    }
    assert sources | {"gracewrap/py.typed"} == {
        name for name in names if name.startswith("gracewrap/")
    }
    entry = (
        zipfile.ZipFile(wheel)
        .read(next(name for name in names if name.endswith("entry_points.txt")))
        .decode()
    )
    assert entry.split() == ["[console_scripts]", "gracewrap", "=", "gracewrap.__main__:main"]


def test_it_lives_beside_supervisord(installed):
    assert re.fullmatch(r"\d+\.\d+\.\d+\n", call(installed / "supervisord", "--version"))
    assert call(installed / "gracewrap", "--", "echo", "hello") == "hello\n"
    script = "import gracewrap, supervisor; print(gracewrap.__file__); print(supervisor.__file__)"
    ours, theirs = map(Path, call(installed / "python", "-I", "-c", script).split())
    assert ours.parent.name == "gracewrap" and ours.parent.parent == theirs.parent.parent
    assert not (theirs.parent / "gracewrap").exists()
    call(installed / "pip", "check")
    call(installed / "pip", "uninstall", "--quiet", "--yes", "supervisor")
    assert call(installed / "gracewrap", "--", "echo", "still") == "still\n"


def test_an_installed_one_helps_checks_and_writes(installed, tmp_path):
    assert "Usage:" in call(installed / "gracewrap", "--help")
    assert "--force" in call(installed / "gracewrap", "init", "--help")
    assert "wrote gracewrap.toml" in call(installed / "gracewrap", "init", cwd=tmp_path)
    assert "gracewrap.toml: ok" in call(installed / "gracewrap", "check", cwd=tmp_path)
