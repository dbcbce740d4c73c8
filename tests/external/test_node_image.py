"""What the README says of a Node.js application of one's own, done in a real Docker engine."""

from __future__ import annotations

import json
import os
import re
import shutil
import urllib.request
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from containers import Container, docker, engine, unique_name
from load_balancer import free_ports
from processes import BOUND, ROOT, require, wait_until

pytestmark = [pytest.mark.docker, pytest.mark.timeout(600)]  # the first test builds the images

README = (ROOT / "README.md").read_text()
SERVER = """
require('node:http').createServer((request, response) => {
  console.log('request', request.url)
  setTimeout(() => response.end('my own'), request.url === '/mine' ? 1500 : 0)
}).listen(process.env.PORT, '127.0.0.1', () => console.log('listening'))
"""
WITH_NPM = """
FROM {node}
COPY npm /usr/local/lib/node_modules/npm
RUN ln -sf ../lib/node_modules/npm/bin/npm-cli.js /usr/local/bin/npm
"""
LOCK = {"name": "x", "version": "1.0.0", "lockfileVersion": 3, "packages": {"": {"name": "x"}}}


def build(folder: Path, *options: object) -> str:
    """Build an image with the classic builder, which knows less, and return its name."""
    name = unique_name()
    docker("build", "--network=host", "--force-rm", "-t", name, *options, folder, bound=500)
    return name


@pytest.fixture
def application(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """The image of an application in a directory of its own, made as the README says."""
    require(engine(), "a Docker engine (DOCKER_HOST)")
    monkeypatch.setenv("DOCKER_BUILDKIT", "0")
    command = re.search(r"^docker build -t gracewrap-node --target base -f (\S+) \.$", README, re.M)
    dockerfile = re.search(r"^FROM gracewrap-node\n(?:[A-Z#].+\n)+", README, re.M)
    assert command and dockerfile
    file = ROOT / command[1]
    made: list[str] = []
    try:
        arguments = []
        if base := os.environ.get("GRACEWRAP_BASE_IMAGE"):
            arguments += ["--build-arg", f"PYTHON_IMAGE={base}"]
        if node := os.environ.get("GRACEWRAP_NODE_IMAGE"):  # it has no npm
            npm = shutil.which("npm")
            require(npm, "npm")
            assert npm is not None
            context = tmp_path / "npm"
            shutil.copytree(Path(npm).resolve().parents[1], context / "npm", symlinks=True)
            (context / "Dockerfile").write_text(WITH_NPM.format(node=node))
            made.append(build(context))
            arguments += ["--build-arg", f"NODE_IMAGE={made[-1]}"]
        # By name too, or it would stay behind without one.
        made.append(build(ROOT, "--target", "gracewrap", "-f", file, *arguments))
        made.append(build(ROOT, "--target", "base", "-f", file, *arguments))
        folder = tmp_path / "application"
        (folder / "lib").mkdir(parents=True)
        (folder / "Dockerfile").write_text(dockerfile[0].replace("gracewrap-node", made[-1]))
        (folder / ".dockerignore").write_text("node_modules\n")
        (folder / "package.json").write_text('{"name": "x", "version": "1.0.0"}')
        (folder / "package-lock.json").write_text(json.dumps(LOCK))
        (folder / "server.js").write_text("require('./lib/server.js')")
        (folder / "lib" / "server.js").write_text(SERVER)
        made.append(build(folder))
        yield made[-1]
    finally:
        for name in reversed(made):
            docker("rmi", name, check=False)


def health(container: Container) -> str:
    return docker("exec", container.name, "gracewrap", "health", check=False)


def test_an_application_of_ones_own_is_built_and_finishes_its_request(application):
    [port] = free_ports(1)
    ready = ("-e", f"GRACEWRAP_READY=http://127.0.0.1:{port}/health")
    container = Container(application, options=("--network=host", "-e", f"PORT={port}", *ready))
    try:
        container.out.until("listening")
        wait_until(lambda: health(container) == "ready", "it is ready")
        container.out.until("request /health")
        with ThreadPoolExecutor() as pool:
            url = f"http://127.0.0.1:{port}/mine"
            answer = pool.submit(lambda: urllib.request.urlopen(url, timeout=BOUND).read())
            container.out.until("request /mine")
            assert container.stop() == 0
            assert answer.result() == b"my own"
    finally:
        container.close()
