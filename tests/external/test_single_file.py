"""gracewrap as one file (make dist), with Python inside: in images that have nothing else."""

from __future__ import annotations

import json
import re
import shutil
import signal
import socket
import ssl
import subprocess
import sys
import tempfile
import urllib.request
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from containers import TALKER as BY_PYTHON
from containers import Container, docker, engine, unique_name
from gracewrap.http_client import dns
from launchers import BUILD
from processes import environment, require, require_root, wait_until

pytestmark = pytest.mark.timeout(BUILD)
# An image of nothing else has no command, but for the interpreter in the file itself.
TALKER = ("/gracewrap", "__python", "-c", BY_PYTHON[-1])
RESTRICTED = ("--read-only", "--user=1000", "--cap-drop=ALL", "--pids-limit=20")
PROGRAMS = f"""
[programs.first]
command = {json.dumps([*TALKER, "exit=3"])}

[programs.second]
command = {json.dumps([*TALKER, "exit=0"])}
depends_on = ["first"]
"""
# What gracewrap imports late, by name or for people.
HELLO = {"__hello__", "__hello_alias__", "__hello_only__", "__phello__", "__phello_alias__"}
OUTER = ("h11", "ssl", "rich.console", "rich.live", "rich.table", "rich.text", "tomli_w", "yaml")
IMPORTS = f"""
import _imp
inside = [name for name in _imp._frozen_module_names() if name.startswith("gracewrap")]
for name in (*inside, *{OUTER}):
    __import__(name)
print(len(inside))
"""
# What is compressed takes zlib.
A_RUN = """
import _imp, importlib, sys
rooms = "linux", "policy", "probes", "record", "report", "runtime", "server", "start"
names = [name for name in _imp._frozen_module_names()
         if name.startswith(tuple("gracewrap." + room for room in rooms))]
names += ["gracewrap.config.load", "gracewrap.config.toml_file", "gracewrap.config.programs"]
for name in names:
    importlib.import_module(name)
    assert "zlib" not in sys.modules, name
print(len(names))
"""


def run(single_file: Path, *words: object, **variables: str) -> subprocess.CompletedProcess[str]:
    command = [str(single_file), *map(str, words)]
    env = environment(**variables)
    return subprocess.run(command, env=env, capture_output=True, text=True, timeout=60)


# --- on this machine -----------------------------------------------------------------------------


def test_it_says_what_it_is(single_file):
    said = run(single_file, "--version").stdout
    assert "Python 3.11" in said and "single file" in said
    linked = subprocess.run(["ldd", single_file], capture_output=True, text=True)
    assert "not a dynamic executable" in linked.stderr or "statically" in linked.stdout
    assert single_file.stat().st_size < 13 << 20


def test_all_its_modules_are_there(single_file):
    done = run(single_file, "__python", "-c", IMPORTS)
    assert done.returncode == 0, done.stderr
    assert int(done.stdout) > 200


def test_nothing_that_a_run_loads_is_compressed(single_file):
    done = run(single_file, "__python", "-c", A_RUN)
    assert done.returncode == 0, done.stderr
    assert int(done.stdout) > 100
    assert run(single_file, "__python", "-c", f"import rich; {A_RUN}").returncode != 0


def test_nothing_else_is_inside(single_file):
    script = "import _imp; print(*{name.partition('.')[0] for name in _imp._frozen_module_names()})"
    found = set(run(single_file, "__python", "-c", script).stdout.split())
    ours = {"gracewrap", "gracewrap_files", "h11", "rich", "tomli_w", "yaml"}
    assert ours <= found and not found - ours - sys.stdlib_module_names - HELLO


def test_what_is_inside_is_listed_with_its_licence(single_file):
    bill = json.loads(single_file.with_name("gracewrap.spdx.json").read_text())
    versions = {one["name"]: one["versionInfo"] for one in bill["packages"]}
    own = {"gracewrap", "python3.11", "openssl", "zlib", "musl"}
    assert versions.keys() == own | {"h11", "rich", "tomli_w", "PyYAML"} and all(versions.values())
    notice = single_file.with_name("gracewrap.NOTICE").read_text()
    named = "PYTHON SOFTWARE FOUNDATION LICENSE", "Apache License", "Jean-loup Gailly", "musl"
    assert all(words in notice for words in named)


def test_the_files_of_the_package_are_inside(single_file):
    assert "SIGQUIT" in run(single_file, "presets", "nginx").stdout
    assert run(single_file, "init", "-").stdout.startswith("#:schema")
    checked = run(single_file, "check", "--preset", "nginx", "--", "nginx")
    assert checked.returncode == 0 and "preset nginx" in checked.stdout


def test_it_looks_names_up(single_file):
    name = socket.gethostname()
    found = run(single_file, "__python", "-c", dns._HELPER, name)
    assert found.returncode == 0 and not found.stdout.startswith("!"), found


def test_the_first_real_time_signal_is_that_of_other_c_libraries(single_file):
    """musl keeps it for itself, and glibc's programs use it."""
    done = run(single_file, "check", "--stop-signal", "RTMIN+1", "--", "sleep", "1")
    assert done.returncode == 0, done.stderr
    script = "import _signal; print(_signal.SIGRTMIN, 34 in _signal.valid_signals())"
    assert run(single_file, "__python", "-c", script).stdout == "34 True\n"


def test_it_knows_users_by_name(single_file):
    require_root()
    done = run(single_file, "--user", "nobody", "--", "sh", "-c", "id -un; id -gn")
    assert done.stdout.split() == ["nobody", "nogroup"], done


def test_it_looks_for_nothing_in_the_image(single_file, tmp_path):
    require(shutil.which("strace"), "strace(1)")
    home = tmp_path / "home"
    home.mkdir()
    shutil.copy(single_file, home / "gracewrap")
    traced = tmp_path / "trace"
    words = ["strace", "-o", str(traced), "-e", "trace=file", home / "gracewrap", "help", "all"]
    subprocess.run(
        words, env=environment(PYTHONHOME="/x", PYTHONPATH="/y"), check=True, stdout=subprocess.PIPE
    )
    paths = set(re.findall(r'"([^"]+)"', traced.read_text()))
    assert not [path for path in paths if "python" in path or path.endswith((".cfg", "._pth"))]


def test_where_the_machine_is_emulated_it_is_still_alone(single_file):
    """The emulator has a thread of its own in the process."""
    require(shutil.which("qemu-x86_64"), "qemu-user")
    words = ["qemu-x86_64", single_file, "--shutdown-timeout", "8s", "--", "sh", "-c", "exit 3"]
    done = subprocess.run(words, env=environment(), capture_output=True, text=True, timeout=60)
    assert done.returncode == 3 and "thread" not in done.stderr, done


def test_it_speaks_https(single_file, start, tmp_path):
    """Drained is what a server with a certificate of its own CA says."""
    require(shutil.which("openssl"), "openssl")
    key, certificate = tmp_path / "key", tmp_path / "certificate"
    subprocess.run(
        [
            *("openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256"),
            *("-nodes", "-days", "2", "-subj", "/CN=localhost", "-keyout", key, "-out"),
            *(certificate, "-addext", "subjectAltName=IP:127.0.0.1"),
        ],
        capture_output=True,
        check=True,
        timeout=60,
    )
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate, key)
    with socket.create_server(("127.0.0.1", 0)) as server:
        server.settimeout(60)
        url = f"https://127.0.0.1:{server.getsockname()[1]}/"
        config = tmp_path / "gracewrap.toml"
        config.write_text(f'ready = {{http = "{url}", ca = "{certificate}"}}\n')
        words = ("--config", config, "--", "sleep", "60")
        gracewrap = start(*words, command=[str(single_file)])
        conn, _ = server.accept()
        with context.wrap_socket(conn, server_side=True) as wrapped:
            assert wrapped.recv(4096).startswith(b"GET / HTTP/1.1\r\n")
            wrapped.sendall(b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n")
            assert gracewrap.log_line("ready")


@pytest.mark.node
@pytest.mark.parametrize("options", [(), ("--user", "nobody", "--umask", "0077")], ids=str)
def test_the_agent_of_node_is_inside(single_file, start, options):
    """Its files are written for the run, and removed with it; those of one that was killed too."""
    require(shutil.which("node"), "node")
    require_root()
    script = """
      const server = require('http').createServer((request, response) => {
        console.log('request')
        setTimeout(() => response.end(process.env.GRACEWRAP_AGENT_SOCKET), 500)
      }).listen(0, '127.0.0.1', () => console.log('port ' + server.address().port))
    """
    old = Path(f"/run/gracewrap-agent-{2**22}-1.files")
    old.mkdir(exist_ok=True)
    (old / "agent.cjs").touch()
    words = (*options, "--agent", "node", "--", "node", "-e", script)
    gracewrap = start(*words, command=[str(single_file)])
    port = gracewrap.line().rpartition(" ")[2]
    assert not old.exists()
    with ThreadPoolExecutor() as pool:
        url = f"http://127.0.0.1:{port}/"
        request = pool.submit(lambda: urllib.request.urlopen(url, timeout=60).read().decode())
        assert gracewrap.line() == "request"
        gracewrap.send(signal.SIGTERM)
        agent_socket = Path(request.result())
    assert gracewrap.wait() == 0
    assert not list(agent_socket.parent.glob(f"{agent_socket.name}*"))


@pytest.mark.parametrize("limit", ["2700000", "3500000", "4500000"])
def test_without_memory_for_python_it_stops_the_command_all_the_same(single_file, start, limit):
    require(shutil.which("prlimit"), "prlimit(1)")
    script = "trap 'exit 7' TERM; echo ready $$; sleep 60 & wait"
    command = ["prlimit", f"--data={limit}", str(single_file)]
    gracewrap = start("--", "sh", "-c", script, command=command)
    gracewrap.ready()
    gracewrap.send(signal.SIGTERM)
    assert gracewrap.wait() == 7


# --- in containers -------------------------------------------------------------------------------


def test_at_rest_the_python_inside_takes_no_memory(single_file, start):
    """Not even as pages of the file: a container's memory limit counts them."""
    run = start("--", "cat", command=[str(single_file)], stdin=subprocess.PIPE)
    rollup = Path(f"/proc/{run.pid}/smaps_rollup")

    def resident() -> int:
        found = re.search(r"^Rss: +(\d+)", rollup.read_text(), re.MULTILINE)
        return int(found[1]) if found is not None else 0  # kB

    wait_until(lambda: 0 < resident() < 600, "only the launcher in memory")
    run.process.stdin.close()
    assert run.wait() == 0


@pytest.fixture(scope="module")
def image(single_file: Path) -> Iterator[str]:
    """An image with the file, and a configuration, and nothing else."""
    require(engine(), "a Docker engine (DOCKER_HOST)")
    name = unique_name()
    with tempfile.TemporaryDirectory() as context:
        shutil.copy(single_file, Path(context, "gracewrap"))
        Path(context, "programs.toml").write_text(PROGRAMS)
        Path(context, "Dockerfile").write_text("FROM scratch\nCOPY gracewrap programs.toml /\n")
        docker("build", "--force-rm", "-t", name, context, bound=300)
    yield name
    docker("rmi", name, check=False)


@pytest.mark.docker
@pytest.mark.parametrize("settings", [(), ("--shutdown-timeout", "8s")], ids=["plain", "setting"])
@pytest.mark.parametrize("options", [(), RESTRICTED], ids=["root", "restricted"])
def test_in_an_image_of_nothing_else(image, settings, options):
    words = (*TALKER, "exit=3")
    container = Container(
        image, *words, options=options, entrypoint=("/gracewrap", *settings, "--")
    )
    try:
        assert container.out.next().startswith("ready")
        assert "gracewrap" in container.execute("/gracewrap", "status")
        assert container.execute("/gracewrap", "health") == "ready"
        assert container.stop() == 3
        assert container.out.next() == str(int(signal.SIGTERM))
        assert container.log()[-1]["event"] == "summary"
    finally:
        container.close()


@pytest.mark.docker
def test_several_programs_in_an_image_of_nothing_else(image):
    container = Container(image, entrypoint=("/gracewrap", "--config", "/programs.toml"))
    try:
        for _ in range(2):
            assert "ready" in container.out.next()
        status = json.loads(container.execute("/gracewrap", "status", "--json"))
        assert [one["name"] for one in status["programs"]] == ["first", "second"]
        assert container.stop() == 3
    finally:
        container.close()


def ask(container: Container) -> str:
    return docker("exec", container.name, "/gracewrap", "status", check=False)


@pytest.mark.docker
def test_a_name_of_the_container_is_looked_up(image):
    """By a helper, which is the file again."""
    options = ("--add-host=service:127.0.0.1",)
    entrypoint = ("/gracewrap", "--ready", "http://service:1/", "--")
    container = Container(image, *TALKER, options=options, entrypoint=entrypoint)
    try:
        assert container.out.next().startswith("ready")
        wait_until(lambda: "refused" in ask(container), "the look-up")
    finally:
        container.close()
