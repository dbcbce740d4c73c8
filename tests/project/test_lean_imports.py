"""What is loaded before the child runs, and while it does: each import there keeps the child
waiting, or takes memory for good.

The interpreter itself says what it imports, and when (-X importtime); strace says in which order
with the fork.
"""

from __future__ import annotations

import importlib.util
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from processes import GRACEWRAP, MAIN, ROOT, environment, require, running, wait_until

# Loaded before the spawn of a plain `gracewrap -- COMMAND`.  Each costs the child 0.1 to 0.4 ms,
# _ctypes 0.6 (not as PID 1): argue for another one in its commit.
BEFORE_THE_SPAWN = {
    "gc",  # built in: switched off while we import
    "_ctypes",  # prctl(2) to become a subreaper; not when we are PID 1
    "gracewrap",
    "gracewrap.linux",
    "gracewrap.linux.procfs",
    "gracewrap.linux.prctl",
    "gracewrap.linux.spawn",
    "gracewrap.start",
}
# Only with options or variables, and then before it.
SETTINGS = {
    "gracewrap.config.refused_combinations_at_every_start",  # only if what can contradict is given
    "gracewrap.config.command_line",  # only with words to read
    "gracewrap.config.environment",  # only with a GRACEWRAP_* variable
    "gracewrap.config.load",
    "gracewrap.config.origins",
    "gracewrap.config.problems",
    "gracewrap.config.schema_core",
    "gracewrap.config.subcommand_names",  # only for a command without -- before it
    "gracewrap.config.values",
}
# Loaded after it (the settings before it, if any are given), to look after the child.
AFTER_THE_SPAWN = {
    "_json",  # only for reports and the log; C, 0.2 ms
    # The control socket, by which `gracewrap status` finds us: it is there, and what answers is
    # loaded when it is used.
    "_socket",
    "fcntl",
    "gracewrap.config",
    "gracewrap.config.recognise_command",  # what a program that died at once had better be given
    "gracewrap.config.settings",
    "gracewrap.config.to_policy",
    "gracewrap.linux.call_in_thread",  # a file that is written to must not hang the loop
    "gracewrap.linux.nonblocking_writer",
    "gracewrap.linux.launcher",  # whether the native one can take over again
    "gracewrap.linux.process_facts",
    "gracewrap.linux.process_tree",
    "gracewrap.linux.reactor",
    "gracewrap.linux.reaper",
    "gracewrap.linux.signal_and_kill",
    "gracewrap.linux.signals",
    "gracewrap.linux.terminal",
    "gracewrap.linux.unsent_bytes",
    "gracewrap.policy",
    "gracewrap.policy.advance",
    "gracewrap.policy.forwarding",
    "gracewrap.policy.drain",
    "gracewrap.policy.exit_status",
    "gracewrap.policy.run_end",
    "gracewrap.policy.log_events",
    "gracewrap.policy.held_up_looks",
    "gracewrap.policy.model",
    "gracewrap.policy.program_phases",
    "gracewrap.policy.program_stop",
    "gracewrap.policy.running",
    "gracewrap.policy.shutdown",
    "gracewrap.policy.stop_signal_recipients",
    "gracewrap.policy.readiness",
    "gracewrap.policy.step",
    "gracewrap.policy.run_phases",
    "gracewrap.record",
    "gracewrap.report",
    "gracewrap.report.in_flight",
    "gracewrap.report.json_encoder",
    "gracewrap.report.log",
    "gracewrap.report.log_messages",
    "gracewrap.report.program_history",
    "gracewrap.report.recorder",
    "gracewrap.report.report_document",
    "gracewrap.report.report_files",
    "gracewrap.report.run_history",
    "gracewrap.report.runtime_events",
    "gracewrap.report.signal_sender",
    "gracewrap.report.summary",
    "gracewrap.report.wording",
    "gracewrap.runtime",
    "gracewrap.runtime.program_processes",
    "gracewrap.runtime.control_requests",
    "gracewrap.runtime.cleanup_at_exit",
    "gracewrap.runtime.fallback",
    "gracewrap.runtime.final_reports",
    "gracewrap.runtime.gap_detector",
    "gracewrap.runtime.handover",
    "gracewrap.runtime.lazy_imports",
    "gracewrap.runtime.loop",
    "gracewrap.runtime.policy_commands",
    "gracewrap.runtime.program",
    "gracewrap.runtime.phase_in_words",
    "gracewrap.runtime.programs",
    "gracewrap.runtime.progress",
    "gracewrap.runtime.reaping",
    "gracewrap.runtime.record_policy_events",
    "gracewrap.runtime.side_tasks",
    "gracewrap.runtime.signal_router",
    "gracewrap.runtime.supervise",
    "gracewrap.server",
    "gracewrap.server.control_socket",
    "gracewrap.server.listen",
    "select",
}
ALL = BEFORE_THE_SPAWN | SETTINGS | AFTER_THE_SPAWN
# What the interpreter loads by itself (3.11 to 3.13), with -I -S.
INTERPRETER = {
    "_abc",
    "_codecs",
    "_collections_abc",
    "_frozen_importlib_external",
    "_imp",
    "_io",
    "_signal",
    "_thread",
    "_warnings",
    "_weakref",
    "__future__",
    "abc",
    "codecs",
    "encodings",
    "encodings.aliases",
    "encodings.ascii",
    "encodings.utf_8",
    "encodings.utf_8_sig",
    "io",
    "linecache",
    "marshal",
    "posix",
    "time",
    "zipimport",
}
HEAVY = {
    "typer",
    "rich",
    "psutil",
    "asyncio",
    "subprocess",
    "logging",
    "dataclasses",
    "tomllib",
    "json",
    "re",
    "enum",
    "signal",
    "typing",
    "contextlib",
    "collections",
    "functools",
    "inspect",
    "socket",
    "selectors",
    "argparse",
    "difflib",
    "tomli_w",
    "http",
}
PYTHON = [sys.executable, "-X", "importtime"]


def imported(stderr: str) -> list[str]:
    """Return the modules that -X importtime names, in its order."""
    return re.findall(r"^import time: +\d+ \| +\d+ \| +(\S+)$", stderr, re.MULTILINE)


def run(*command: str, **more: str) -> list[str]:
    done = subprocess.run(
        command, check=False, env=environment(**more), stderr=subprocess.PIPE, text=True, timeout=30
    )
    assert done.returncode == 0, done.stderr
    return imported(done.stderr)


def importtime(*words: str, **more: str) -> list[str]:
    return run(*PYTHON, "-I", "-S", str(MAIN), *words, **more)


def test_a_run_imports_what_is_on_the_list_and_nothing_else():
    found = set(importtime("--", "true"))
    assert found >= {"gracewrap.start", "gracewrap.runtime.loop"}  # the list is not just empty
    assert found - INTERPRETER <= BEFORE_THE_SPAWN | AFTER_THE_SPAWN
    assert not found & HEAVY


def test_flags_and_variables_import_nothing_more():
    words = [
        "--stop-timeout",
        "1s",
        "--escalation",
        "100ms=INT",
        "--signal-map=HUP=QUIT",
        "--success-exit-codes",
        "143",
        "--",
        "true",
    ]
    found = set(
        importtime(
            *words,
            GRACEWRAP_SHUTDOWN_TIMEOUT="8s",
            GRACEWRAP_LOG_FORMAT="json",
            GRACEWRAP_PORT="tcp://10.0.0.1:80",
        )
    )
    assert found - INTERPRETER <= ALL


def test_only_a_file_imports_what_reads_files(tmp_path):
    (tmp_path / "g.toml").write_text('stop_timeout = "1s"\n')
    assert "tomllib" in importtime("--config", str(tmp_path / "g.toml"), "--", "true")


def test_a_stop_imports_nothing_heavy():
    """From SIGTERM to the report: the allowed modules do for all of it."""
    prefix = ("env", "-u", "GRACEWRAP_X")  # so that the interpreter can be given -X
    command = [
        *prefix,
        *PYTHON,
        "-I",
        "-S",
        str(MAIN),
        "--",
        "sh",
        "-c",
        "trap 'exit 0' TERM; echo ready; while :; do sleep 1 & wait; done",
    ]
    process = subprocess.Popen(
        command, env=environment(), stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    try:
        assert process.stdout is not None and process.stdout.readline() == "ready\n"
        process.terminate()
        _, stderr = process.communicate(timeout=30)
    finally:
        process.kill()
        process.wait()
    assert process.returncode == 0
    found = set(imported(stderr))
    assert found - INTERPRETER <= ALL
    assert not found & HEAVY


def test_what_is_imported_before_the_spawn():
    """strace sees the lines of -X importtime being written, and the fork, in their order."""
    require(shutil.which("strace"), "strace")
    command = [
        "strace",
        "-qq",
        "-s",
        "300",
        "-e",
        "trace=write,clone,clone3,fork,vfork",
        *PYTHON,
        "-I",
        "-S",
        str(MAIN),
        "--",
        "true",
    ]
    done = subprocess.run(
        command, check=False, env=environment(), stderr=subprocess.PIPE, text=True, timeout=60
    )
    assert done.returncode == 0
    before, fork, after = re.split(
        r"^((?:clone3?|v?fork)\(.*)$", done.stderr, maxsplit=1, flags=re.MULTILINE
    )
    assert fork
    first, second = (set(re.findall(r"\| +([A-Za-z_.0-9]+)\\n", part)) for part in (before, after))
    assert "gracewrap.start" in first and "gracewrap.runtime.loop" in second
    assert first - INTERPRETER <= BEFORE_THE_SPAWN
    assert second <= AFTER_THE_SPAWN
    assert not first & HEAVY


def test_as_pid_1_not_even_ctypes_is_loaded():
    require(os.geteuid() == 0 and shutil.which("unshare"), "root and unshare(1), for namespaces")
    found = run(
        "unshare", "--pid", "--fork", "--mount-proc", *PYTHON, "-I", "-S", str(MAIN), "--", "true"
    )
    assert "gracewrap.runtime.loop" in found and "_ctypes" not in found


def test_the_console_script_loads_nothing_more(tmp_path):
    """In a directory of its own with nothing but our package; site itself is not ours to judge."""
    script = tmp_path / "gracewrap"
    script.write_text((ROOT / "supervisor/scripts/gracewrap").read_text())
    bare = set(run(*PYTHON, "-I", "-c", "pass"))
    found = set(run(*PYTHON, "-I", str(script), "--", "true"))
    assert "gracewrap.runtime.loop" in found
    assert found - bare <= ALL | {
        "gracewrap.__main__",
        "gracewrap.isolation",  # puts sys.path in order
        "__future__",
        "time",
        "_signal",
    }


def wait_until_at_rest(pid: int) -> None:
    """Wait until a process sleeps and has not run for fifty looks in a row (0.1 s or more)."""
    seen: list[str] = []

    def has_not_run() -> bool:
        text = Path(f"/proc/{pid}/status").read_text()
        seen.append("".join(re.findall(r"^(?:State|\w*ctxt_switches):.*\n", text, re.MULTILINE)))
        return len(seen) > 50 and len(set(seen[-50:])) == 1 and "sleeping" in seen[-1]

    wait_until(has_not_run, "gracewrap is at rest")


@pytest.mark.parametrize("way", ["bare", "installed"])
def test_at_rest_no_heavy_library_is_mapped(way):
    """What a C extension has mapped stays in /proc/PID/maps, whoever imported it and whenever."""
    options = {"program": GRACEWRAP if way == "bare" else [sys.executable, "-m", "gracewrap"]}
    command = [*options["program"], "--", "sh", "-c", "echo ready; read x"]
    process = subprocess.Popen(
        command, env=environment(), stdin=subprocess.PIPE, stdout=subprocess.PIPE
    )
    try:
        assert process.stdout is not None and process.stdout.readline() == b"ready\n"
        wait_until_at_rest(process.pid)
        mapped = {
            Path(path).name.partition(".")[0]
            for path in re.findall(r"\S+\.so\S*$", maps(process.pid), re.MULTILINE)
        }
        process.communicate(b"\n", timeout=30)
    finally:
        process.kill()
        process.wait()
    assert process.returncode == 0
    ours = {name for name in mapped if name.startswith("_") or "python" in name} - {
        "_ctypes",
        "_json",
        "libpython3",
    }
    assert ours <= {"_bisect", "_heapq", "_socket"}, ours  # _socket: the control socket


def maps(pid: int) -> str:
    return Path(f"/proc/{pid}/maps").read_text()


def test_a_run_needs_no_package_but_our_own(tmp_path):
    """Our files alone, in a directory of nothing else: neither typer nor rich nor anything
    installed can be found."""
    package = tmp_path / "gracewrap"
    shutil.copytree(MAIN.parent, package, ignore=shutil.ignore_patterns("__pycache__", "cli"))
    done = subprocess.run(
        [
            sys.executable,
            "-I",
            "-S",
            str(package / "__main__.py"),
            "--stop-timeout",
            "x",
            "--",
            "true",
        ],
        check=False,
        env=environment(),
        capture_output=True,
        text=True,
        timeout=30,
    )
    assert done.returncode == 125 and done.stderr.startswith("gracewrap: cannot use stop_timeout")
    with running("--", "sh", "-c", "exit 3") as ours:
        assert ours.wait() == 3
    assert run(sys.executable, "-I", "-S", str(package / "__main__.py"), "--", "true") == []


# What Debian's python3-minimal does not have, of what anybody here would like to import.
NOT_MINIMAL = (
    "_ctypes",
    "_json",
    "json",
    "shutil",
    "tomllib",
    "socket",
    "subprocess",
    "dataclasses",
    "textwrap",
    "difflib",
    "http",
    "shlex",
)
CURE = "install python3, not only python3-minimal"


@pytest.mark.parametrize(
    ("words", "status", "said"),
    [
        (["--", "sh", "-c", "exit 3"], 3, ""),
        (["--report", "/dev/stderr", "--", "sh", "-c", "exit 3"], 3, '"exit_status": 3'),
        (["--config", "/dev/null", "--", "true"], 125, CURE),
        (["--help"], 125, CURE),
        (["--health-listen", "127.0.0.1:9", "--", "true"], 125, CURE),
        (["--", "no-such-command"], 127, "No such file or directory (searched PATH)"),
        (["--", "/no/such/command"], 127, "No such file or directory"),
    ],
)
def test_a_minimal_python_is_enough_to_wrap_a_command(words, status, said):
    block = (
        f"import sys; sys.modules.update(dict.fromkeys({NOT_MINIMAL!r})); sys.argv[1:] = "
        f"{words!r}; "
    )
    main = (
        f"sys.path.append({str(MAIN.parent.parent)!r}); from gracewrap.__main__ import main; main()"
    )
    command = [sys.executable, "-I", "-S", "-c", block + main]
    done = subprocess.run(command, env=environment(), stderr=subprocess.PIPE, text=True, timeout=30)
    assert done.returncode == status, done.stderr
    assert said in done.stderr


@pytest.mark.parametrize(
    ("damage", "said"),
    [
        (lambda compiled, _: os.truncate(compiled, 100), "delete the __pycache__ directories"),
        (lambda _, source: source.unlink(), "Files of gracewrap are missing: install it again"),
    ],
)
def test_a_damaged_installation_is_said_with_its_cure(tmp_path, damage, said):
    package = tmp_path / "gracewrap"
    shutil.copytree(MAIN.parent, package, ignore=shutil.ignore_patterns("__pycache__"))
    source = package / "config" / "load.py"
    compiled = Path(importlib.util.cache_from_source(str(source)))
    command = [sys.executable, "-I", "-S", package / "__main__.py", "--no-drain", "--", "true"]
    assert subprocess.run(command, env=environment(), timeout=30).returncode == 0
    damage(compiled, source)
    done = subprocess.run(command, env=environment(), stderr=subprocess.PIPE, text=True, timeout=30)
    assert (done.returncode, said in done.stderr) == (125, True), done.stderr
