"""Imports point downward only, the policy is pure, only one place waits, and only one reaps."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

import gracewrap

SOURCE = Path(gracewrap.__file__).parent
# From the bottom up; a module may import what stands before it, and its own package.
LAYERS = [
    "__init__",
    "record",
    "policy",
    "linux",
    "config",
    "http_client",
    "report",
    "probes",
    "server",
    "runtime",
    "cli",
    "start",
    "__main__",
]
MODULES = sorted(SOURCE.rglob("*.py"))


def layer(module: str) -> int:
    """Return how high a module stands: gracewrap.linux.process_tree as posix."""
    return LAYERS.index([*module.split("."), "__init__"][1])


def name(path: Path) -> str:
    parts = path.relative_to(SOURCE.parent).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" and len(parts) > 2 else parts)


def imports(path: Path) -> set[str]:
    """Return every module that a file imports, also late and for types only."""
    found: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: relative import"
            inner = {f"{node.module}.{alias.name}" for alias in node.names}
            below = {
                one for one in inner if (SOURCE.parent / (one.replace(".", "/") + ".py")).exists()
            }
            found |= below | ({str(node.module)} if below != inner else set())
    return found


@pytest.mark.parametrize("path", MODULES, ids=[name(path) for path in MODULES])
def test_imports_point_downward(path):
    own = name(path)
    for module in imports(path):
        if module.split(".")[0] == "gracewrap":
            same_package = module.split(".")[:2] == own.split(".")[:2]
            assert same_package or layer(module) < layer(own), f"{own} imports {module}"


@pytest.mark.parametrize(
    "path", sorted((SOURCE / "policy").glob("*.py")), ids=lambda path: path.stem
)
def test_the_policy_is_pure(path):
    """No system call, no clock, no file: time is an argument, and what is done about it is
    returned."""
    outside = {
        module
        for module in imports(path)
        if module.split(".")[0] not in ("gracewrap", "__future__", "collections", "typing")
    }
    assert not outside
    called = {
        node.func.id
        for node in ast.walk(ast.parse(path.read_text()))
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name)
    }
    assert not called & {"open", "print", "exec", "eval", "__import__", "input"}


def users_of(*names: str) -> set[str]:
    """Return the modules that use an attribute of this name."""
    found = set()
    for path in MODULES:
        attributes = {
            node.attr
            for node in ast.walk(ast.parse(path.read_text()))
            if isinstance(node, ast.Attribute)
        }
        if attributes & set(names):
            found.add(name(path))
    return found


def running(modules: set[str]) -> set[str]:
    """Return those that are loaded while a command is looked after: what is for people may wait for
    them."""
    return {module for module in modules if not module.startswith("gracewrap.cli.")}


def test_only_the_loops_wait():
    loops = {
        "gracewrap.runtime.loop",
        "gracewrap.runtime.fallback",
        "gracewrap.start",
    }  # start: the loop for when not even bare can be loaded
    assert running(users_of("sigtimedwait", "sigwaitinfo", "sigwait", "pause", "sleep")) == loops
    # A pipe for --config, before anything runs; and a look at stderr that waits for nothing.
    # And the reactor, which polls without a timeout when SIGIO has come.
    assert running(users_of("select", "poll", "epoll")) <= {
        "gracewrap.config.safe_read",
        "gracewrap.linux.nonblocking_writer",
        "gracewrap.linux.reactor",
    }


def test_there_is_one_reaper():
    """A second waiter loses exit statuses; start has its own for when nothing else can be
    loaded."""
    assert running(
        users_of("waitpid", "wait", "wait3", "wait4", "waitid", "Popen", "run_until_complete")
    ) - {
        "gracewrap.runtime.loop"  # Loop.wait, for signals
    } == {"gracewrap.linux.reaper", "gracewrap.start"}


def test_people_s_libraries_stay_in_cli():
    for path in MODULES:
        heavy = {module.split(".")[0] for module in imports(path)} & {
            "typer",
            "rich",
            "psutil",
            "tomli_w",
            "click",
        }
        assert not heavy or name(path).startswith("gracewrap.cli."), f"{path}: {heavy}"


def test_the_package_is_never_imported_by_its_directory():
    """`supervisor` is the import name of PyPI's supervisord."""
    for path in [*MODULES, *Path(__file__).parents[1].rglob("*.py")]:
        assert not any(module.split(".")[0] == "supervisor" for module in imports(path)), path
    assert not (SOURCE.parent / "__init__.py").exists()
    assert "supervisor" not in gracewrap.__name__
