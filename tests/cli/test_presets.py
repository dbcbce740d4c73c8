"""Presets, for people: gracewrap presets, init --for, what check says, and a request that is
saved."""

from __future__ import annotations

import http.client
import signal
import subprocess
import sys
import threading
import tomllib

import pytest

from processes import ROOT, call, running


def test_they_are_listed():
    status, out, _ = call("presets")
    assert status == 0 and max(map(len, out.splitlines())) < 80
    names = {
        line.split()[0] for line in out.splitlines() if line.startswith("  ") and line[2] > " "
    }
    assert names == {file.stem for file in (ROOT / "configs").glob("*.toml")}


def test_one_is_printed_and_written(tmp_path):
    text = (ROOT / "configs" / "nginx.toml").read_text()
    assert call("presets", "nginx") == (0, text, "")
    status, out, _ = call("init", "--for", "nginx", cwd=tmp_path)
    written = (tmp_path / "gracewrap.toml").read_text()
    assert status == 0 and "wrote gracewrap.toml" in out
    assert tomllib.loads(written) == tomllib.loads(text)
    assert call("check", cwd=tmp_path)[0] == 0


@pytest.mark.parametrize("words", [["presets", "ngnix"], ["init", "--for", "ngnix", "-"]])
def test_one_that_is_not_there(words):
    status, out, err = call(*words)
    assert (status, out) == (125, "") and 'did you mean "nginx"?' in err


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--", "nginx"], "--preset nginx. Without it, SIGTERM cuts the requests in flight"),
        (["--", "celery", "worker"], "--preset celery"),
        (["--", "gunicorn", "a:b"], "--preset gunicorn"),
        (["--", "python3", "app.py"], "If python3 is an HTTP server, use --preset any-http-server"),
        (["--", "node", "server.js"], "--preset node"),
    ],
)
def test_check_says_which_one_fits(tmp_path, words, said):
    status, out, _ = call("check", *words, cwd=tmp_path)
    assert status == 0 and said in " ".join(out.split())


@pytest.mark.parametrize(
    "words", [["--preset", "nginx"], ["--stop-signal", "QUIT"], ["--drain-tcp", "auto"]]
)
def test_check_says_nothing_where_one_is_chosen(words):
    assert "preset nginx:" not in call("check", *words, "--", "nginx")[1].replace("\n", " ")
    assert "There is a preset" not in call("check", *words, "--", "nginx")[1]


def test_what_died_of_sigterm_at_once_is_told_of_the_preset():
    with running("--", "yes", "here") as run:
        assert run.line() == "here"
        run.send(signal.SIGTERM)
        assert "--preset any-http-server" in str(run.log())


SERVER = """
import http.server, sys, threading
class Handler(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        print("request", flush=True)
        go.wait()
        self.send_response(200); self.end_headers(); self.wfile.write(b"done")
    def log_message(self, *args): pass
go = threading.Event()
threading.Thread(target=lambda: (sys.stdin.readline(), go.set()), daemon=True).start()
server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
print("port", server.server_port, flush=True)
server.serve_forever()
"""


def test_one_word_saves_the_request_of_a_server_without_shutdown_code(tmp_path):
    """It has no handler for SIGTERM: without the preset the request is cut."""
    with running(
        *("--preset", "any-http-server", "--propagation-delay", "0s"),
        *("--health-listen", f"unix:{tmp_path}/h", "--", sys.executable, "-c", SERVER),
        stdin=subprocess.PIPE,
        command=[sys.executable, "-m", "gracewrap"],  # with h11, for /readyz
    ) as run:
        port = int(run.line().split()[1])
        answers = []

        def ask():
            connection = http.client.HTTPConnection("127.0.0.1", port, timeout=30)
            connection.request("GET", "/")
            answers.append(connection.getresponse().read())

        asking = threading.Thread(target=ask)
        asking.start()
        assert run.line() == "request"
        run.send(signal.SIGTERM)
        run.log_line("stop_requested")
        run.process.stdin.write(b"\n")
        run.process.stdin.flush()
        asking.join(30)
        assert answers == [b"done"] and run.wait() == 0
