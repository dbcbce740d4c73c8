"""What is injected into every Python of a container does not act on gracewrap's own."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from processes import BOUND, GRACEWRAP, MAIN, ROOT, environment, require, running, wait_until

WAYS = ["script", "module", "path", "path -I"]
# As an APM agent: a thread that receives signals, since no one has blocked them yet.
AGENT = """
import threading
threading.Thread(target=threading.Event().wait, args=(60,), daemon=True).start()
"""
TALKS = (
    "trap 'exit 7' TERM; trap 'n=$((n+1)); echo usr1 $n' USR1; echo up; while :; do read x; done"
)


@pytest.fixture(scope="module")
def venv(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Make a virtual environment in which gracewrap is installed; return its interpreter."""
    home = tmp_path_factory.mktemp("venv")
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", home], check=True, timeout=100)
    python = home / "bin" / "python"
    packages(python).joinpath("ours.pth").write_text(f"{MAIN.parent.parent}\n")
    script = (ROOT / "supervisor/scripts/gracewrap").read_text()
    (home / "bin" / "gracewrap").write_text(script.replace("#!python", f"#!{python}", 1))
    (home / "bin" / "gracewrap").chmod(0o755)
    return python


def packages(python: Path) -> Path:
    (found,) = python.parent.parent.glob("lib/python3*/site-packages")
    return found


def command(way: str, python: Path) -> list[str]:
    return {
        "script": [str(python.parent / "gracewrap")],
        "module": [str(python), "-m", "gracewrap"],
        "path": [str(python), str(MAIN)],
        "path -I": [str(python), "-I", str(MAIN)],  # with site-packages, and so with .pth files
    }[way]


@pytest.fixture
def agent(tmp_path: Path) -> Path:
    """Return a directory with an agent that comes in by PYTHONPATH."""
    (tmp_path / "agent").mkdir()
    (tmp_path / "agent" / "sitecustomize.py").write_text(AGENT)
    return tmp_path / "agent"


def threads(pid: int) -> int:
    return len(os.listdir(f"/proc/{pid}/task"))


@pytest.mark.parametrize("way", WAYS[:3])
def test_an_injected_thread_takes_no_signal(way, venv, agent):
    env = environment(PYTHONPATH=str(agent))
    words = ("--", "env", "-u", "PYTHONPATH", "sh", "-c", TALKS)
    with running(*words, command=command(way, venv), env=env, stdin=subprocess.PIPE) as run:
        assert run.line() == "up"
        assert threads(run.pid) == 1
        for number in range(1, 11):
            run.send(signal.SIGUSR1)
            run.process.stdin.write(b"\n")  # the shell is at its trap between two reads
            run.process.stdin.flush()
            assert run.line() == f"usr1 {number}"
        run.send(signal.SIGTERM)
        run.process.stdin.close()
        assert run.wait() == 7


@pytest.mark.parametrize("way", WAYS)
def test_nor_does_one_of_a_pth_file(way, venv):
    (packages(venv) / "agent.py").write_text(AGENT)
    (packages(venv) / "agent.pth").write_text("import agent\n")
    try:
        waits = "echo up; exec sleep 1000"
        with running("--", "sh", "-c", waits, command=command(way, venv)) as run:
            assert run.line() == "up"
            assert threads(run.pid) == 1
            run.send(signal.SIGTERM)
            assert run.wait() == 128 + signal.SIGTERM
    finally:
        (packages(venv) / "agent.pth").unlink()


@pytest.mark.parametrize("way", WAYS)
def test_the_command_finds_its_environment_and_its_words_as_they_were(way, venv, agent):
    given = {b"PYTHONPATH": str(agent).encode(), b"PATH": os.environb[b"PATH"], b"a.b-c": b"1"}
    given |= {b"EMPTY": b"", b"LATIN": b"\xe9=\n", b"PYTHONWARNINGS": b"error"}
    words = [
        "--",
        "sh",
        "-c",
        'cat /proc/$$/environ; printf "%s\\0" "$@"',
        "sh",
        b"\xff",
        "",
        "a b",
    ]
    done = subprocess.run(
        [*command(way, venv), *words], env=given, stdout=subprocess.PIPE, timeout=BOUND
    )
    expected = {name + b"=" + value for name, value in given.items()}
    found = done.stdout.split(b"\0")
    assert set(found[: len(given)]) == expected
    assert found[len(given) :] == [b"\xff", b"", b"a b", b""]


@pytest.mark.parametrize("way", WAYS)
def test_modules_on_pythonpath_are_not_ours(way, venv, tmp_path):
    for name in ("resource", "pwd", "tomllib", "h11", "select", "gracewrap"):
        (tmp_path / f"{name}.py").write_text("raise SystemExit('not meant for gracewrap')\n")
    if way in ("script", "module"):  # these find gracewrap as any module, and so the wrong one
        (tmp_path / "gracewrap.py").unlink()
    (tmp_path / "g.toml").write_text('rlimits = {nofile = "64"}\n')
    words = ("--config", tmp_path / "g.toml", "--", "sh", "-c", "ulimit -n")
    env = environment(PYTHONPATH=str(tmp_path))
    with running(*words, command=command(way, venv), env=env) as run:
        assert run.line() == "64"
        assert run.wait() == 0


@pytest.mark.parametrize("way", WAYS)
def test_a_home_for_another_python_is_not_ours(way, venv):
    """Even a usable one; with one that is not usable only -I and -E get any Python to start."""
    env = environment(PYTHONHOME=sys.base_prefix)
    words = ("--", "sh", "-c", 'echo "$PYTHONHOME"')
    with running(*words, command=command(way, venv), env=env) as run:
        assert run.line() == sys.base_prefix
        assert run.wait() == 0
    with running(*words, command=GRACEWRAP, env=environment(PYTHONHOME="/nowhere")) as run:
        assert run.line() == "/nowhere"
        assert run.wait() == 0


@pytest.mark.parametrize("way", WAYS)
def test_it_starts_once_where_nothing_is_injected(way, venv, tmp_path):
    """The variables that many images set, and PYTHONPATH itself, cost no second start."""
    env = environment(
        PYTHONPATH=str(tmp_path), PYTHONUNBUFFERED="1", PYTHONDONTWRITEBYTECODE="1", PYTHON_GIL="1"
    )
    wanted = ["sh", "-c", "echo up; exec sleep 1000"]
    with running("--", *wanted, command=command(way, venv), env=env) as run:
        assert run.line() == "up"
        words = Path(f"/proc/{run.pid}/cmdline").read_text().split("\0")
        assert "-S" not in words and words[-4:-1] == wanted
        run.send(signal.SIGTERM)
        assert run.wait() == 128 + signal.SIGTERM


def test_signals_that_come_before_the_second_start_are_kept(venv, tmp_path):
    """The agent itself sends one, as soon as it sees that they are blocked."""
    (tmp_path / "sitecustomize.py").write_text(
        "import os, signal, sys, threading\n"
        "class Finder:\n"
        "    def find_spec(self, name, path=None, target=None):\n"
        "        if name == 'gracewrap.isolation':\n"
        "            os.kill(os.getpid(), signal.SIGTERM)\n"
        "sys.meta_path.insert(0, Finder())\n"
    )
    env = environment(PYTHONPATH=str(tmp_path), GRACEWRAP_LOG_FORMAT="json")
    words = ("--", "env", "-u", "PYTHONPATH", "sleep", "60")
    with running(*words, command=command("module", venv), env=env) as run:
        assert run.wait() == 128 + signal.SIGTERM
        assert "stop_requested" in [line["event"] for line in run.log()]


def test_dependencies_are_found_after_the_second_start(agent, tmp_path):
    """h11 is where site-packages is, and our package elsewhere: an editable install."""
    socket = tmp_path / "control"
    env = environment(PYTHONPATH=str(agent), GRACEWRAP_CONTROL_SOCKET=str(socket))
    ours = [sys.executable, "-m", "gracewrap"]
    words = ("--", "sh", "-c", "echo up; read x")
    with running(*words, command=ours, env=env, stdin=subprocess.PIPE) as run:
        assert run.line() == "up"
        assert "-S" in Path(f"/proc/{run.pid}/cmdline").read_text().split("\0")
        wait_until(socket.exists, "it listens")  # the command has begun before that
        asked = [*ours, "health", "--socket", str(socket)]
        done = subprocess.run(asked, env=env, capture_output=True, text=True, timeout=BOUND)
        assert done.returncode == 0, done.stderr
        run.process.stdin.write(b"\n")
        run.process.stdin.close()
        assert run.wait() == 0


PRELOADED = """
#include <pthread.h>
#include <unistd.h>
static pthread_t thread;
static void *run(void *nothing) { for (;;) pause(); }
__attribute__((constructor)) static void begin(void) { pthread_create(&thread, 0, run, 0); }
"""


@pytest.mark.parametrize("way", [*WAYS, "path -I -S"])
def test_a_preloaded_library_is_the_commands_alone(way, venv, tmp_path):
    require(shutil.which("cc"), "cc")
    library = tmp_path / "agent.so"
    cc = ["cc", "-shared", "-fPIC", "-pthread", "-x", "c", "-", "-o", library]
    subprocess.run(cc, input=PRELOADED.encode(), check=True, timeout=BOUND)
    ours = GRACEWRAP if way == "path -I -S" else command(way, venv)
    env = environment(LD_PRELOAD=str(library), GRACEWRAP_LOG_FORMAT="json")
    words = ("--", "sh", "-c", 'echo "$LD_PRELOAD"; read x; exit 3')
    with running(*words, command=ours, env=env, stdin=subprocess.PIPE) as run:
        assert run.line() == str(library)
        assert threads(run.pid) == 1
        run.process.stdin.close()
        assert run.wait() == 3


def test_threads_that_no_exec_keeps_out_are_told():
    """As a library in /etc/ld.so.preload starts them: they are there again after each exec."""
    block = (
        "import _thread, time, sys; _thread.start_new_thread(time.sleep, (60,)); "
        f"sys.path.append({str(MAIN.parent.parent)!r}); sys.argv[1:] = ['--', 'cat']; "
        "from gracewrap.__main__ import main; main()"
    )
    ours = [sys.executable, "-I", "-S", "-c", block]
    with running(command=ours, stdin=subprocess.PIPE) as run:
        assert run.err.next().startswith("gracewrap: 1 foreign thread runs in gracewrap's own")
