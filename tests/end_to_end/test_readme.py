"""The Kubernetes block of the README, with a real server in the place of the container's command:
its variables, its probes, and a pod's end."""

from __future__ import annotations

import re
import signal
import socket
import subprocess
import sys
import urllib.error
import urllib.request
from collections.abc import Callable

import pytest
import yaml

from processes import INSTALLED, ROOT, Run, environment, wait_until

# Listens when it is told to, and no sooner; has no code for a shutdown.
SERVER = """
import http.server, sys
class Handler(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        self.send_response(200); self.send_header("Content-Length", "2"); self.end_headers()
        self.wfile.write(b"ok")
    def log_message(self, *_): pass
print("loading", flush=True)
sys.stdin.readline()
server = http.server.ThreadingHTTPServer(("127.0.0.1", int(sys.argv[1])), Handler)
print("listening", flush=True)
server.serve_forever()
"""


def free_port() -> int:
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        return int(found.getsockname()[1])


def status(url: str) -> int:
    """Return the status of an answer; 0: there is none."""
    try:
        with urllib.request.urlopen(url, timeout=10) as answer:
            return int(answer.status)
    except urllib.error.HTTPError as error:
        return error.code
    except OSError:
        return 0


def container() -> dict[str, object]:
    text = (ROOT / "README.md").read_text()
    section = text[text.index("## Kubernetes") :]
    (block,) = re.findall(r"^```yaml\n(.*?)^```", section, re.MULTILINE | re.DOTALL)[:1]
    (found,) = yaml.safe_load(block)["spec"]["containers"]
    return dict(found)


@pytest.fixture
def pod(start: Callable[..., Run]) -> tuple[Run, str, dict[str, str]]:
    """A server with the variables of the block; the URL of the server, and those of the probes."""
    block, probes, port = container(), {}, free_port()
    env = {one["name"]: str(one["value"]) for one in block["env"]}  # type: ignore[index, attr-defined]
    (health,) = re.findall(r"\d+", env["GRACEWRAP_HEALTH_LISTEN"])
    env["GRACEWRAP_HEALTH_LISTEN"] = f"127.0.0.1:{free_port()}"  # 9000 may be taken here
    for kind in ("readinessProbe", "livenessProbe"):
        asked = block[kind]["httpGet"]  # type: ignore[index, call-overload]
        assert str(asked["port"]) == health
        probes[kind] = f"http://{env['GRACEWRAP_HEALTH_LISTEN']}{asked['path']}"
    run = start(
        "--", sys.executable, "-c", SERVER, port,
        command=INSTALLED, env={**environment(), **env}, stdin=subprocess.PIPE,
    )  # fmt: skip
    return run, f"http://127.0.0.1:{port}/", probes


def test_a_new_pod_gets_requests_only_when_it_can_answer_them_and_to_its_end(pod):
    run, url, probes = pod
    assert run.line() == "loading"
    assert status(probes["readinessProbe"]) == 503 and status(probes["livenessProbe"]) == 200
    run.process.stdin.write(b"go\n")
    run.process.stdin.flush()
    assert run.line() == "listening"
    wait_until(lambda: status(probes["readinessProbe"]) == 200, "the pod is ready")
    assert status(url) == 200
    run.send(signal.SIGTERM)
    wait_until(lambda: status(probes["readinessProbe"]) == 503, "the pod is not ready any more")
    # The proxies have not heard of it yet; and nobody restarts it for that.
    assert status(url) == 200 and status(probes["livenessProbe"]) == 200
    assert run.wait() == 128 + signal.SIGTERM
