"""gracewrap in containers that take rights away, inject something, or lack something.

Each test asserts what a user needs: nothing is lost, the exit status, and the words that help.
"""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterator

import pytest

from containers import ENTRYPOINT, TALKER, Container, build, derive, docker, engine
from processes import require

pytestmark = [pytest.mark.docker, pytest.mark.timeout(400)]

MAIN = ENTRYPOINT[-1]
CURE = "install python3, not only python3-minimal"
AGENT = "/otel/opentelemetry/instrumentation/auto_instrumentation"

# What the OpenTelemetry operator sets in every container of a pod; the exporters need no network.
EXPORTERS = tuple(
    word
    for signal in ("TRACES", "METRICS", "LOGS")
    for word in ("-e", f"OTEL_{signal}_EXPORTER=console")
)
INJECTED = {
    "PYTHONPATH": (*EXPORTERS, "-e", f"PYTHONPATH={AGENT}:/otel"),
    ".pth": EXPORTERS,
}

# A Python with gracewrap as pip installs it, and the agent; a second one that loads it by .pth.
WITH_AGENT = """
FROM {build}
RUN /venv/bin/pip install -q --no-cache-dir --no-deps . \\
    && /venv/bin/pip install -q --no-cache-dir --target=/otel opentelemetry-distro
RUN cp -a /venv /pth && cd /pth/lib/python3*/site-packages && echo /otel >agent.pth \\
    && echo 'import opentelemetry.instrumentation.auto_instrumentation.sitecustomize' >>agent.pth
"""

# Debian's python3-minimal is what is left without the packages of the rest.
MINIMAL = """
FROM {service}
USER root
RUN dpkg-query -W -f '${{Package}}\\n' | grep -E '^(lib)?python3.*' | grep -v minimal \\
    | xargs dpkg --purge --force-depends
ENV GRACEWRAP_READY=
USER 10001:10001
"""

WITH_NODE = """
FROM {node}
COPY --from={service} /opt/gracewrap /opt/gracewrap
"""

# Two programs that write as fast as they can; Node makes the pipe that is its stdout non-blocking.
LINES = 3000
BOTH = f"""
[programs.node]
command = ["node", "-e", '''
const line = "#".repeat(200) + "\\n";
let left = {LINES};
const more = () => {{
  while (left-- > 0)
    if (!process.stdout.write("node " + line)) return process.stdout.once("drain", more);
}};
more();
''']
on_exit = "ignore"

[programs.python]
command = ["python3", "-c", "for i in range({LINES}): print('python', i, '@' * 200)"]
on_exit = "ignore"
"""


@pytest.fixture(scope="module")
def images() -> Iterator[dict[str, str]]:
    """The images that our Dockerfile makes, by the name of the stage."""
    require(engine(), "a Docker engine (DOCKER_HOST)")
    made: dict[str, str] = {}
    try:
        for stage in ("build", "service"):
            made[stage] = build(stage)
        yield made
    finally:
        for name in reversed(made.values()):
            docker("rmi", name, check=False)


@pytest.fixture(scope="module")
def derived(images: dict[str, str]) -> Iterator[Callable[..., str]]:
    """Return the image of a Dockerfile, made once: derived(MINIMAL)."""
    made: dict[str, str] = {}

    def image(dockerfile: str, **more: str) -> str:
        if dockerfile not in made:
            made[dockerfile] = derive(dockerfile.format(**images, **more))
        return made[dockerfile]

    yield image
    for name in made.values():
        docker("rmi", name, check=False)


@pytest.fixture
def run() -> Iterator[Callable[..., Container]]:
    """Start containers of an image that are removed with the test."""
    containers: list[Container] = []

    def begin(image: str, *command: object, **more: object) -> Container:
        containers.append(Container(image, *command, **more))  # type: ignore[arg-type]
        return containers[-1]

    yield begin
    for container in reversed(containers):
        container.close()


def events(container: Container) -> dict[object, dict[str, object]]:
    return {line["event"]: line for line in container.log()}


# Rights


@pytest.mark.parametrize(
    "rights",
    [
        ("--user=0",),
        ("--user=0", "--cap-drop=ALL"),
        ("--user=1000",),
        ("--read-only",),
        ("--read-only", "--user=1000", "--cap-drop=ALL"),
    ],
    ids=" ".join,
)
def test_docker_exec_finds_it_and_nothing_is_lost(images, run, rights):
    # What the entrypoint alone has must not decide where the socket is.
    ours = ("-e", "TMPDIR=/nowhere", "-e", "XDG_RUNTIME_DIR=/nowhere", "-e", "HOME=/nowhere")
    ours += ("-e", "GRACEWRAP_READY=")  # the talker answers no HTTP
    container = run(images["service"], *TALKER, "orphans=20", "exit=3", options=(*rights, *ours))
    container.out.until("ready")
    visitor = ("exec", "-e", "TMPDIR=/tmp", "-e", "XDG_RUNTIME_DIR=")
    assert docker(*visitor, container.name, "gracewrap", "health") == "ready"
    status = json.loads(docker(*visitor, container.name, "gracewrap", "status", "--json"))
    assert (status["pid"], status["phase"], status["zombies_reaped"]) == (1, "running", 20)
    assert "SIGUSR1" in docker(*visitor, container.name, "gracewrap", "signal", "USR1")
    assert container.out.next() == "10"
    assert container.stop() == 3
    assert container.out.rest() == ["15"]
    assert events(container)["summary"]["outcome"] == "graceful"
    assert container.killed_with() == ["15"]


def test_without_cap_kill_a_command_of_another_user_is_stopped_all_the_same(images, run):
    options = ("--user=0", "--cap-drop=KILL", "-e", "GRACEWRAP_USER=1000")
    container = run(images["service"], *TALKER, "exit=3", options=options)
    container.out.until("ready")
    assert container.stop() == 3
    assert container.out.rest() == ["15"]
    assert "CAP_KILL" not in " ".join(container.err.rest())


@pytest.mark.parametrize("output", ["plain", "prefix"])
def test_a_program_of_another_user_opens_dev_stdout(images, run, output):
    how = ("-e", "GRACEWRAP_OUTPUT=prefix") if output == "prefix" else ()
    options = ("--user=0", "-e", "GRACEWRAP_USER=1000", *how)
    write = "id -u >/dev/stdout && echo wrong >/dev/stderr && exit 3"
    container = run(images["service"], "sh", "-c", write, options=options)
    assert container.wait() == 3
    assert [line.split()[-1] for line in container.out.rest()] == ["1000"]
    assert container.err.until("wrong")


@pytest.mark.parametrize("name", ["QUIT", "USR1", "INT"])
def test_the_stop_signal_of_an_image_is_a_stop_request(images, run, name):
    number = {"QUIT": "3", "USR1": "10", "INT": "2"}[name]
    options = (f"--stop-signal=SIG{name}", "-e", f"GRACEWRAP_STOP_SIGNAL={name}")
    code = (
        f"import signal, sys; signal.signal({number}, lambda *_: sys.exit(4))\n"
        "print('up', flush=True)\n"
        "while True: signal.pause()"
    )
    container = run(images["service"], "python3", "-c", code, options=options)
    container.out.until("up")
    assert container.stop() == 4
    log = events(container)
    assert log["stop_requested"]["signal"] == log["stop_signal"]["signal"] == f"SIG{name}"
    assert container.killed_with() == [number]


# An injected agent


@pytest.mark.parametrize("way", INJECTED)
@pytest.mark.parametrize("start", ["script", "-m", "path"])
def test_an_injected_agent_does_not_act_on_gracewrap(derived, run, way, start):
    image, bin = derived(WITH_AGENT), "/venv/bin" if way == "PYTHONPATH" else "/pth/bin"
    first = {
        # cp -a leaves the first line of a script as it was, so a copied one is given its Python
        "script": (f"{bin}/python", f"{bin}/gracewrap") if way == ".pth" else (f"{bin}/gracewrap",),
        "-m": (f"{bin}/python", "-m", "gracewrap"),
        "path": (f"{bin}/python", MAIN.replace("/opt/gracewrap", "/src/supervisor")),
    }[start]
    # It is the agent that tells: without one, this would show nothing.
    names = "import threading; print([t.name for t in threading.enumerate()])"
    alone = run(image, entrypoint=(f"{bin}/python", "-c", names), options=INJECTED[way])
    assert alone.wait() == 0
    assert "OtelPeriodicExportingMetricReader" in alone.out.until("MainThread")

    for _ in range(2):  # a thread of the agent could take SIGCHLD, and then this would never end
        short = run(
            image,
            entrypoint=(*first, "--", "sh", "-c", "grep Threads /proc/1/status; exit 7"),
            options=INJECTED[way],
        )
        assert short.wait() == 7
        assert "Threads:\t1" in short.out.rest()
    stopped = run(image, entrypoint=(*first, "--", *TALKER, "exit=3"), options=INJECTED[way])
    stopped.out.until("ready")
    for signal in ("HUP", "USR1", "IO"):
        docker("kill", "-s", signal, stopped.name)
    assert sorted(stopped.out.next() for _ in range(3)) == ["1", "10", "29"]
    assert stopped.stop() == 3
    given = run(image, entrypoint=(*first, "--", "printenv", "PYTHONPATH"), options=INJECTED[way])
    assert given.wait() == (0 if way == "PYTHONPATH" else 1)
    assert given.out.rest() == ([f"{AGENT}:/otel"] if way == "PYTHONPATH" else [])


# System calls that the runtime refuses


REFUSED = {
    "defaultAction": "SCMP_ACT_ALLOW",
    "syscalls": [
        {"names": ["clone3", "preadv2", "pwritev2"], "action": "SCMP_ACT_ERRNO", "errnoRet": 1}
    ],
}


@pytest.mark.parametrize("output", ["inherit", "prefix"])
@pytest.mark.parametrize("user", ["0", "1000"])
def test_a_profile_older_than_the_libc_costs_nothing(images, run, tmp_path, output, user):
    """An old Docker refuses with EPERM what it does not know, where glibc expects ENOSYS."""
    profile = tmp_path / "seccomp.json"
    profile.write_text(json.dumps(REFUSED))
    variables = {"GRACEWRAP_OUTPUT": output, "GRACEWRAP_LOG_FORMAT": "json"}
    options = [word for name, value in variables.items() for word in ("-e", f"{name}={value}")]
    options += ["--user", user, "--security-opt", f"seccomp={profile}"]
    container = run(images["service"], *TALKER, "exit=3", options=options)
    container.out.until("ready")
    assert container.stop() == 3
    log = events(container)
    assert log["summary"]["outcome"] == "graceful"
    assert not {"bug", "fault"} & log.keys()


# Debian's python3-minimal


@pytest.fixture(scope="module")
def minimal(derived: Callable[..., str], images: dict[str, str]) -> str:
    debian = "test -x /usr/bin/python3 && ! test -x /usr/local/bin/python3"
    require(
        "yes" in docker("run", "--rm", "--network=none", "--entrypoint", "sh", images["service"],
                        "-c", f"{debian} && echo yes || echo no"),
        "a base image with Debian's own Python (GRACEWRAP_BASE_IMAGE)",
    )  # fmt: skip
    return derived(MINIMAL)


@pytest.mark.parametrize(
    ("command", "options", "status", "said"),
    [
        (("sh", "-c", "exit 7"), (), 7, ""),
        (("no-such-command",), (), 127, "No such file or directory (searched PATH)"),
        (("true",), ("-e", "GRACEWRAP_HEALTH_LISTEN=:9000"), 125, CURE),
        (("true",), ("-e", "GRACEWRAP_CONFIG=/dev/null"), 125, CURE),
    ],
)
def test_a_minimal_python_runs_a_command_or_says_what_it_needs(
    minimal, run, command, options, status, said
):
    container = run(minimal, *command, options=options)
    assert container.wait() == status
    assert said in "\n".join(container.err.rest())


def test_a_minimal_python_stops_gracefully_and_says_why_nobody_answers(minimal, run):
    container = run(minimal, *TALKER, "exit=3")
    container.out.until("ready")
    for _ in range(2):  # the second one finds nobody who listens
        said = docker("exec", container.name, "gracewrap", "health", check=False)
        assert said.startswith("not healthy: ") and CURE in said
    assert container.stop() == 3
    log = events(container)
    assert CURE in str(log["unheard"]["message"])
    assert log["summary"]["outcome"] == "graceful"


# Programs that share a stdout


@pytest.mark.parametrize("output", ["plain", "prefix"])
def test_no_line_is_lost_beside_a_node_program(derived, run, output):
    node = os.environ.get("GRACEWRAP_NODE_IMAGE", "")
    require(node, "an image with Node and Python (GRACEWRAP_NODE_IMAGE)")
    image = derived(WITH_NODE, node=node)
    how = ("-e", "GRACEWRAP_OUTPUT=prefix") if output == "prefix" else ()
    begin = (
        f'printf %s "$BOTH" >/tmp/both.toml; exec {" ".join(ENTRYPOINT)} --config /tmp/both.toml'
    )
    container = run(image, entrypoint=("sh", "-c", begin), options=("-e", f"BOTH={BOTH}", *how))
    assert container.wait() == 0
    # Counted by character: two programs that write more than PIPE_BUF at once may cut each other's
    # lines (write(2)), which loses nothing.
    text = "".join(container.out.rest())
    assert (text.count("#"), text.count("@")) == (LINES * 200, LINES * 200)
