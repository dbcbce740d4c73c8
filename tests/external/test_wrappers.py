"""Whatever stands in front of a worker, it hears of the stop once, and finishes: docs/wrappers.md
has what is seen here of each."""

from __future__ import annotations

import shlex
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from processes import ROOT, Run, environment, npm_packages, require

FOLDER = Path(__file__).with_name("wrappers")
DOCS = ROOT / "docs" / "wrappers.md"
PYTHON = f"{sys.executable} -I -S worker.py"
AT_ONCE, HALF = "at once", "at half of the time"

# What stands in front -> its command, and when the worker hears of the stop.
NODE = {
    "npm start": ("npm start", HALF),
    "npx": ("npx --no-install cross-env A=b node worker.js", AT_ONCE),
    "yarn start": ("yarn start", HALF),
    "yarn node": ("yarn node worker.js", AT_ONCE),
    "yarn exec": ("yarn exec -- node worker.js", AT_ONCE),
    "pnpm start": ("pnpm start", AT_ONCE),
    "pnpm exec": ("pnpm exec node worker.js", AT_ONCE),
    "env-cmd": ("env-cmd -f variables node worker.js", AT_ONCE),
    "dotenv": ("dotenv -e variables -- node worker.js", AT_ONCE),
    "cross-env": ("cross-env A=b node worker.js", AT_ONCE),
    "concurrently": ("concurrently --raw 'node worker.js'", AT_ONCE),
    "tsx": ("tsx worker.js", AT_ONCE),
}
DEBIAN = {
    "sh -c": (f"sh -c '{PYTHON}; true'", AT_ONCE),
    "a pipeline": (f"sh -c '{PYTHON} | cat'", AT_ONCE),
    "setpriv": (f"setpriv --no-new-privs {PYTHON}", AT_ONCE),
    "flock": (f"flock lock {PYTHON}", AT_ONCE),
    "strace": (f"strace -f -o /dev/null {PYTHON}", AT_ONCE),
    "unshare --fork": (f"unshare --pid --fork {PYTHON}", HALF),
    "dumb-init": (f"dumb-init {PYTHON}", AT_ONCE),
    "tini": (f"tini -s -- {PYTHON}", AT_ONCE),
}
PYPI = {
    "poetry run": ("poetry run python -I -S worker.py", AT_ONCE),
    "uv run": ("uv run python -I -S worker.py", AT_ONCE),
    "honcho start": ("honcho start --no-prefix", AT_ONCE),
}
PROJECT = '[project]\nname = "x"\nversion = "0"\nrequires-python = ">=3.11"\n'
# These end the worker, or tell it twice, by themselves.
OWN_DOING = ("nodemon", "pm2-runtime", "runuser", "su -c", "timeout")


@pytest.fixture(scope="session")
def pypi(request: pytest.FixtureRequest) -> Path:
    """Where the programs of what pip installs are: once, and kept in pytest's cache."""
    folder = Path(request.config.cache.mkdir("python-wrappers"))
    if not (folder / "installed").exists():
        shutil.rmtree(folder / "venv", ignore_errors=True)  # of one that was cut
        subprocess.run([sys.executable, "-m", "venv", folder / "venv"], check=True, timeout=200)
        pip = [folder / "venv" / "bin" / "pip", "install", "-q", "poetry", "uv", "honcho"]
        done = subprocess.run(pip, capture_output=True, text=True, timeout=600)
        require(done.returncode == 0, f"poetry, uv and honcho: {done.stderr[-500:]}")
        (folder / "installed").touch()
    return folder / "venv" / "bin"


def stop(start: Callable[..., Run], folder: Path, command: str, path: str) -> tuple[str, list[str]]:
    """Stop a worker that is up; return when it heard of that, and what it said."""
    quiet = {"npm_config_loglevel": "silent", "npm_config_update_notifier": "false"}
    python = {"POETRY_VIRTUALENVS_CREATE": "false", "UV_PYTHON": sys.executable}
    caches = {"npm_config_cache": "npm", "UV_CACHE_DIR": "uv", "POETRY_CACHE_DIR": "poetry"}
    kept = {name: str(folder / place) for name, place in caches.items()}
    env = environment(**quiet, **python, **kept, PATH=path)
    words = ("--shutdown-timeout", "10s", "--", *shlex.split(command))
    run = start(*words, cwd=folder, env=env, stderr=None)
    run.out.until("up")
    since = time.monotonic()
    run.send(signal.SIGTERM)
    run.out.until("told")
    # The patience is five seconds of ten.
    heard = AT_ONCE if time.monotonic() < since + 4 else HALF
    run.wait()
    return heard, [line for line in run.out.rest() if line in ("told", "dropped", "finished")]


def prepared(tmp_path: Path) -> Path:
    for file in FOLDER.iterdir():
        shutil.copy(file, tmp_path)
    (tmp_path / "pyproject.toml").write_text(PROJECT)
    (tmp_path / "Procfile").write_text(f"worker: {PYTHON}\n")
    (tmp_path / "variables").write_text("A=b\n")
    (tmp_path / "package.json").write_text('{"name": "x", "scripts": {"start": "node worker.js"}}')
    return tmp_path


@pytest.mark.node
@pytest.mark.parametrize("name", NODE)
def test_what_npm_installs(name, start, tmp_path, request):
    found = npm_packages(request.config.cache, FOLDER / "package.json")
    path = f"{found / '.bin'}:{environment()['PATH']}"
    (tmp_path / "node_modules").symlink_to(found)
    command, when = NODE[name]
    assert stop(start, prepared(tmp_path), command, path) == (when, ["finished"])
    assert f"| `{name}` | {when} |" in DOCS.read_text()


@pytest.mark.parametrize("name", DEBIAN)
def test_what_debian_has(name, start, tmp_path):
    command, when = DEBIAN[name]
    require(shutil.which(command.split()[0]), command.split()[0])
    assert stop(start, prepared(tmp_path), command, environment()["PATH"]) == (when, ["finished"])
    assert f"| `{name}` | {when} |" in DOCS.read_text()


@pytest.mark.timeout(900)  # the first one installs them
@pytest.mark.parametrize("name", PYPI)
def test_what_pypi_has(name, start, tmp_path, pypi):
    command, when = PYPI[name]
    path = f"{pypi}:{environment()['PATH']}"
    assert stop(start, prepared(tmp_path), command, path) == (when, ["finished"])
    assert f"| `{name}` | {when} |" in DOCS.read_text()


def test_the_table_names_what_ends_the_worker_by_itself_and_nothing_else():
    rows = [line.split("`")[1] for line in DOCS.read_text().splitlines() if line.startswith("| `")]
    assert sorted(rows) == sorted([*NODE, *DEBIAN, *PYPI, *OWN_DOING])
