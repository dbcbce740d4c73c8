"""Imports point downward only and in no circle, the policy is pure, only one place waits, and only
one reaps."""

from __future__ import annotations

import ast
from graphlib import CycleError, TopologicalSorter
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
    "manifests",
    "picture",
    "learn",
    "drill",
    "http_client",
    "report",
    "probes",
    "server",
    "runtime",
    "cli",
    "isolation",
    "start",
    "launched",
    "single_file",
    "__main__",
]
MODULES = sorted(SOURCE.rglob("*.py"))


# What stands in no room: the first module of every start, and what all records are made with.
OUTSIDE = {"__init__", "__main__", "record", "isolation", "launched", "single_file", "start"}


def layer(module: str) -> int:
    """Return how high a module stands: gracewrap.linux.process_tree as linux."""
    return LAYERS.index([*module.split("."), "__init__"][1])


def name(path: Path) -> str:
    parts = path.relative_to(SOURCE.parent).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" and len(parts) > 2 else parts)


NAMES = {name(path) for path in MODULES}


def imports(path: Path) -> set[str]:
    """Return every module that a file imports, also late, by a name in a string, and for types
    only."""
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
        elif isinstance(node, ast.Constant) and str(node.value).startswith("gracewrap."):
            found |= {one for one in [str(node.value)] if one in NAMES}
    return found


@pytest.mark.parametrize("path", MODULES, ids=[name(path) for path in MODULES])
def test_imports_point_downward(path):
    own = name(path)
    for module in imports(path):
        if module.split(".")[0] == "gracewrap":
            same_package = module.split(".")[:2] == own.split(".")[:2]
            assert same_package or layer(module) < layer(own), f"{own} imports {module}"


def circle(graph: dict[str, set[str]]) -> list[str]:
    """Return modules of which each imports the one before it, the first and the last being the
    same; or nothing."""
    try:
        TopologicalSorter(graph).prepare()
    except CycleError as error:
        return list(error.args[1])
    return []


def test_no_modules_import_each_other_in_a_circle():
    """An import that a function makes late counts: it only hides that two modules are one."""
    graph = {name(path): imports(path) - {name(path)} for path in MODULES}
    assert circle({**graph, "a": {"b"}, "b": {"c"}, "c": {"a"}})  # it can see one
    assert not circle(graph)


def test_every_module_stands_in_a_room():
    rooms = {path.relative_to(SOURCE).parts[0] for path in MODULES if path.parent != SOURCE}
    assert {path.stem for path in SOURCE.glob("*.py")} == OUTSIDE
    assert rooms == {*LAYERS} - OUTSIDE
    for room in rooms:
        assert (SOURCE / room / "__init__.py").exists(), f"{room} is no package"
    deep = {path.parent for path in MODULES if len(path.relative_to(SOURCE).parts) > 2}
    assert deep == {SOURCE / "config" / "parsers"}


def test_imports_of_functions_and_of_type_checkers_are_seen(tmp_path):
    source = tmp_path / "one.py"
    source.write_text(
        "from gracewrap.linux import signals\n"
        "if TYPE_CHECKING:\n    from gracewrap.record import Record\n"
        "def late():\n    import gracewrap.linux.spawn\n    __import__('gracewrap.linux.fork')\n"
    )
    assert imports(source) == {
        "gracewrap.linux.signals",
        "gracewrap.record",
        "gracewrap.linux.spawn",
        "gracewrap.linux.fork",
    }


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
    people = ("gracewrap.cli.", "gracewrap.drill.")
    return {module for module in modules if not module.startswith(people)}


def test_only_the_loops_wait():
    loops = {
        "gracewrap.runtime.loop",
        "gracewrap.linux.signals",  # fetch(), for the loop and the fallback
        "gracewrap.start",
    }  # start: the loop for when not even bare can be loaded
    assert running(users_of("sigtimedwait", "sigwaitinfo", "sigwait", "pause", "sleep")) == loops
    # A pipe for --config, before anything runs; and a look at stderr that waits for nothing.
    # And the reactor, which polls without a timeout when SIGIO has come; and when all is over, a
    # PID 1 that has visitors.
    assert running(users_of("select", "poll", "epoll")) <= {
        "gracewrap.config.safe_read",
        "gracewrap.linux.nonblocking_writer",
        "gracewrap.linux.reactor",
        "gracewrap.linux.signal_and_kill",
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


def test_each_room_says_what_is_in_it():
    for path in SOURCE.rglob("__init__.py"):
        said = ast.get_docstring(ast.parse(path.read_text())) or ""
        assert len(said.split()) > 3, f"{path} says {said!r}"


SCREEN = 45  # lines, docstring included
# One sentence for each event, which is easier to find in one list.
TABLES = {
    ("gracewrap.report.log_messages", one) for one in ("_drain", "_program", "_signal", "_stop")
}


def test_a_function_fits_on_a_screen():
    long = {
        (name(path), node.name)
        for path in MODULES
        for node in ast.walk(ast.parse(path.read_text()))
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)
        and node.end_lineno is not None
        and node.end_lineno - node.lineno >= SCREEN
    }
    assert long == TABLES
