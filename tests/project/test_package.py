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
ONLY_NATIVE = pytest.mark.parametrize("kind", ["native"], indirect=True)


def call(*command: object, **options: object) -> str:
    """Run a command that must succeed; return what it printed."""
    settings = {"cwd": "/", "env": environment(), "timeout": BOUND, **options}
    done = subprocess.run(
        list(map(str, command)), check=False, capture_output=True, text=True, **settings
    )  # type: ignore[call-overload]
    assert done.returncode == 0, f"{command}: {done.stdout}{done.stderr}"
    return str(done.stdout)


@pytest.fixture(scope="session", params=["native", "pure"])
def kind(request: pytest.FixtureRequest) -> str:
    """Whether there is a C compiler for the launcher, when the wheel is built."""
    return str(request.param)


@pytest.fixture(scope="session")
def wheel(kind: str, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Build the wheel as pip does it."""
    directory = tmp_path_factory.mktemp("wheel")
    env = environment(**({"GRACEWRAP_PURE": "1"} if kind == "pure" else {}))
    pip = sys.executable, "-m", "pip", "wheel", "--quiet", "--no-deps"
    call(*pip, "--wheel-dir", directory, ROOT, env=env)
    (found,) = directory.glob("*.whl")
    return found


@pytest.fixture(scope="session")
def installed(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Install the wheel and PyPI's supervisor into a new environment; return its bin directory."""
    directory = tmp_path_factory.mktemp("venv")
    if wheel.name.endswith("-any.whl"):  # enough to look at its script
        call(sys.executable, "-m", "venv", "--without-pip", directory)
        pip = sys.executable, "-m", "pip", "--python", directory / "bin" / "python"
        call(*pip, "install", "--quiet", "--no-deps", wheel)
        return directory / "bin"
    call(sys.executable, "-m", "venv", directory)
    # supervisor 4 imports pkg_resources, which setuptools 81 no longer has.
    call(directory / "bin" / "pip", "install", "--quiet", wheel, "supervisor", "setuptools<81")
    return directory / "bin"


def test_the_wheel_holds_the_package_and_nothing_else(wheel, kind):
    names = zipfile.ZipFile(wheel).namelist()
    assert {
        name.partition("/")[0]
        for name in names
        if not re.match(r"gracewrap-[\d.]+\.(dist-info|data/scripts)/", name)
    } == {"gracewrap"}
    sources = {
        f"gracewrap/{file.relative_to(ROOT / 'supervisor' / 'gracewrap')}"
        for kind in ("*.py", "*.cjs")
        for file in (ROOT / "supervisor/gracewrap").rglob(kind)
    }
    presets = {f"gracewrap/presets/{file.name}" for file in (ROOT / "configs").glob("*.toml")}
    commit = {"gracewrap/commit.txt"} & {*names}  # built from a clone
    assert sources | presets | commit | {"gracewrap/py.typed"} == {
        name for name in names if name.startswith("gracewrap/")
    }
    (points,) = [name for name in names if name.endswith("entry_points.txt")]
    # A script among them would win over ours.
    assert zipfile.ZipFile(wheel).read(points).split() == [
        b"[pytest11]", b"gracewrap", b"=", b"gracewrap.drill.pytest_plugin"
    ]  # fmt: skip
    (script,) = [name for name in names if ".data/scripts/" in name]
    head = b"#!python\n" if kind == "pure" else b"\x7fELF"
    assert zipfile.ZipFile(wheel).read(script).startswith(head)
    is_pure = wheel.name.endswith("-py3-none-any.whl")
    assert is_pure if kind == "pure" else "linux" in wheel.name


def test_the_installed_script_is_isolated(installed, kind, tmp_path):
    """As pip writes it: no thread of an agent, nor the application's modules, get in."""
    said = call(installed / "gracewrap", "--version")
    assert ("native launcher" in said) is (kind == "native")
    if kind == "pure":
        first = (installed / "gracewrap").read_text().partition("\n")[0]
        assert first.startswith(f"#!{installed / 'python'}")
    (tmp_path / "sitecustomize.py").write_text(
        "import threading\n"
        "threading.Thread(target=threading.Event().wait, args=(60,), daemon=True).start()\n"
    )
    words = "--", "sh", "-c", 'ls /proc/$PPID/task | wc -l; echo "$PYTHONPATH"'
    env = environment(PYTHONPATH=str(tmp_path))
    assert call(installed / "gracewrap", *words, env=env).split() == ["1", str(tmp_path)]


@ONLY_NATIVE
def test_it_lives_beside_supervisord(installed):
    assert re.fullmatch(r"\d+\.\d+\.\d+\n", call(installed / "supervisord", "--version"))
    assert call(installed / "gracewrap", "--", "echo", "hello") == "hello\n"
    assert call(installed / "gracewrap", "--preset", "npm", "--", "echo", "hello") == "hello\n"
    assert 'stop_signal = "QUIT"' in call(installed / "gracewrap", "presets", "nginx")
    script = "import gracewrap, supervisor; print(gracewrap.__file__); print(supervisor.__file__)"
    ours, theirs = map(Path, call(installed / "python", "-I", "-c", script).split())
    assert ours.parent.name == "gracewrap" and ours.parent.parent == theirs.parent.parent
    assert not (theirs.parent / "gracewrap").exists()
    call(installed / "pip", "check")
    call(installed / "pip", "uninstall", "--quiet", "--yes", "supervisor")
    assert call(installed / "gracewrap", "--", "echo", "still") == "still\n"


@ONLY_NATIVE
def test_an_installed_one_helps_checks_and_writes(installed, tmp_path):
    assert "Run:" in call(installed / "gracewrap", "--help")
    assert "--force" in call(installed / "gracewrap", "init", "--help")
    assert "wrote gracewrap.toml" in call(installed / "gracewrap", "init", cwd=tmp_path)
    assert "gracewrap.toml: ok" in call(installed / "gracewrap", "check", cwd=tmp_path)
