"""gracewrap with a Python of its own (launcher/Dockerfile), in images that have none."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from containers import Container, docker, engine, unique_name
from processes import ROOT, require

pytestmark = [pytest.mark.docker, pytest.mark.timeout(600)]  # the first test builds the image
RESTRICTED = ("--read-only", "--user=1000", "--cap-drop=ALL", "--pids-limit=20")
GRACEWRAP = "/gracewrap/bin/gracewrap"
SERVICE = """
trap 'echo stopped; exit 3' TERM
echo ready
while :; do read -r line <&9; done
"""


@pytest.fixture(scope="module")
def image() -> Iterator[str]:
    """The image with the directory alone: FROM scratch."""
    require(engine(), "a Docker engine (DOCKER_HOST)")
    name = unique_name()
    base = os.environ.get("GRACEWRAP_BASE_IMAGE")
    arguments = ["--build-arg", f"BASE_IMAGE={base}"] if base else []
    file = ROOT / "launcher" / "Dockerfile"
    options = ("--network=host", "--force-rm", "-f", file, "-t", name, *arguments)
    docker("build", *options, ROOT, bound=590)
    yield name
    docker("rmi", name, check=False)


@pytest.fixture(scope="module")
def without_python(image: str) -> Iterator[str]:
    """A Debian image whose Python and libraries of it have been removed."""
    base = os.environ.get("GRACEWRAP_BASE_IMAGE", "debian:stable-slim")
    name = unique_name()
    with tempfile.TemporaryDirectory() as context:
        Path(context, "Dockerfile").write_text(
            f"FROM {base}\n"
            "RUN rm -rf /usr/bin/python3* /usr/lib/python3* /usr/local/bin/python3*"
            " /usr/local/lib/python3*\n"
            f"COPY --from={image} /gracewrap /gracewrap\n"
        )
        docker("build", "--force-rm", "-t", name, context, bound=300)
    yield name
    docker("rmi", name, check=False)


def test_in_an_image_of_nothing_else_all_its_modules_are_there(image):
    """The loader, the libraries and the standard library are the directory's own."""
    python = docker("run", "--rm", "--entrypoint", GRACEWRAP, image, "--version")
    assert "native launcher" in python
    version = python.split("Python ")[1].rpartition(".")[0]
    script = (
        f"import sys; sys.path.append('/gracewrap/lib/python{version}/site-packages'); "
        "import ssl, json, ctypes, hashlib, h11, rich, tomli_w, gracewrap; print('all')"
    )
    words = ("--", f"/gracewrap/bin/python{version}", "-c", script)
    done = docker("run", "--rm", "--network=none", *RESTRICTED, image, *words)
    assert done.splitlines()[-1] == "all"


@pytest.mark.parametrize("settings", [(), ("--shutdown-timeout", "8s")], ids=["plain", "setting"])
@pytest.mark.parametrize("options", [(), RESTRICTED], ids=["root", "restricted"])
def test_a_service_without_python_is_held_asked_and_stopped(without_python, settings, options):
    script = f"exec 9<>/dev/shm/pipe\n{SERVICE}"
    words = ("sh", "-c", f"mkfifo /dev/shm/pipe; {script}")
    entrypoint = (GRACEWRAP, *settings, "--")
    container = Container(without_python, *words, options=options, entrypoint=entrypoint)
    try:
        assert container.out.next() == "ready"
        assert "sh" in container.execute(GRACEWRAP, "status")
        assert container.stop() == 3
        assert container.out.next() == "stopped"
    finally:
        container.close()
