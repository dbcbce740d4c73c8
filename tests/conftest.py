"""Fixtures: a place for what every test cleans up."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from launchers import BUILD, compile_launcher, make_single_file, put_package
from processes import GRACEWRAP, TALKER, Run

# What wraps a command is tested twice: by Python alone, and by the native launcher.
TWICE = (
    *("test_run", "test_signals", "test_spawn", "test_stop", "test_flush"),
    "test_replaced_leader",
)
# And by the single file, where the C library or the interpreter could make a difference.
BY_SINGLE_FILE = ("test_signals",)


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    module = metafunc.module.__name__.rpartition(".")[2]
    if module in TWICE:
        single = pytest.param("single_file", marks=pytest.mark.timeout(BUILD))
        more = [single] if module in BY_SINGLE_FILE else []
        metafunc.parametrize("started_by", ["python", "launcher", *more], indirect=True)


@pytest.fixture(scope="session")
def launcher(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The native launcher, compiled."""
    prefix = tmp_path_factory.mktemp("launcher")
    prefix.chmod(0o755)
    put_package(prefix)
    return compile_launcher(prefix / "bin" / "gracewrap")


@pytest.fixture(scope="session")
def single_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """gracewrap as one file; beside it is what is inside."""
    folder = tmp_path_factory.mktemp("single")
    folder.chmod(0o755)
    return make_single_file(folder / "gracewrap")


@pytest.fixture(autouse=True)
def started_by(request: pytest.FixtureRequest) -> Iterator[str]:
    """Make GRACEWRAP Python alone, the launcher or the single file, and say which."""
    chosen = getattr(request, "param", "python")
    python = list(GRACEWRAP)
    if chosen != "python":
        GRACEWRAP[:] = [str(request.getfixturevalue(chosen))]
    yield chosen
    GRACEWRAP[:] = python


@pytest.fixture
def start() -> Iterator[Callable[..., Run]]:
    """Start gracewraps that are ended with the test: start("--stop-timeout", "1s", "--", "sleep",
    "9")."""
    runs: list[Run] = []

    def begin(*args: object, **options: object) -> Run:
        runs.append(Run(*args, **options))  # type: ignore[arg-type]
        return runs[-1]

    yield begin
    for run in runs:
        run.close()


@pytest.fixture
def talk(start: Callable[..., Run]) -> Callable[..., Run]:
    """Start a talker under gracewrap: talk("exit=3", options=["--stop-timeout", "1s"])."""

    def begin(
        *words: object, options: tuple[object, ...] | list[object] = (), **more: object
    ) -> Run:
        return start(*options, "--", *TALKER, *words, **more)

    return begin
