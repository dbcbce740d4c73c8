"""`gracewrap check --agent -- node server.js` says what the agent finds, and leaves nothing."""

from __future__ import annotations

import json
import shutil
import signal
import subprocess
import sys

import pytest

from processes import (
    BOUND,
    GRACEWRAP,
    Lines,
    alive,
    call,
    descendants,
    environment,
    require,
    wait_until,
)

SERVER = "require('http').createServer(() => {}).listen(0, '127.0.0.1');"
OWN = SERVER + "process.on('SIGTERM', () => process.exit(7));"
# What the agent takes for a worker, of a BullMQ whose inside it does not know.
WORKER = """
class Worker extends require('events') {
  processJob () {} waitUntilReady () {} pause () {} resume () {} close () {}
}
globalThis.worker = Object.assign(new Worker(), { name: 'mails', running: true });
setInterval(() => {}, 1000);
"""
THREAD = SERVER + (
    "new (require('worker_threads').Worker)("
    "`require('http').createServer(() => {}).listen(0, '127.0.0.1')`, { eval: true })"
)
# A Node.js that is too old, as far as can be told from outside.
OLD = """#!{python}
import os, signal, socket
peer = socket.socket(socket.AF_UNIX)
peer.connect(os.environ["GRACEWRAP_AGENT_SOCKET"])
peer.sendall(b'not JSON\\n{{"type": "found", "servers": ["a port"]}}\\n'
             b'{{"type": "hello", "version": 1, "runtime": "node 16.20.2"}}\\n'
             b'{{"type": "trouble", "why": "Node.js 16.20.2 is too old for the agent"}}\\n')
signal.pause()
"""


def check(*words: object, cwd=None) -> tuple[int, str, str]:
    return call("check", "--agent", *words, cwd=cwd)


@pytest.mark.node
@pytest.mark.parametrize(
    ("script", "said"),
    [
        (SERVER, ["port ", "handlers   none", "the agent finishes requests", "exit status 0"]),
        (OWN, ["port ", "handlers   SIGTERM", "before-signal", "exit status 7"]),
        (WORKER, ["workers    queue mails", "bullmq (version unknown)",
                  "problem    this version of BullMQ is not known"]),
        (THREAD, ["port ", ", thread 1)"]),
    ],
)  # fmt: skip
def test_it_says_what_the_agent_finds(script: str, said: list[str], tmp_path):
    require(shutil.which("node"), "node")
    (tmp_path / "server.js").write_text(script)
    status, out, err = check("--", "node", "server.js", cwd=tmp_path)
    assert status == 0, err
    assert all(one in out for one in said), out
    assert f"{tmp_path}/server.js (pid " in out


@pytest.mark.node
@pytest.mark.parametrize(
    ("script", "acts", "stopped"),
    [(SERVER, "agent", {"status": 0}), (OWN, "own", {"status": 7})],
)
def test_json_has_the_same_for_programs(script: str, acts: str, stopped: dict[str, object]):
    require(shutil.which("node"), "node")
    status, out, err = check("--json", "--", "node", "-e", script)
    assert status == 0, err
    found = json.loads(out)
    [process] = found["processes"]
    assert process["on_sigterm"] == acts and process["problems"] == []
    assert process["runtime"].startswith("node ") and process["thread"] == 0
    [server] = process["servers"]
    assert server.startswith("port ")
    assert found["stopped"].items() >= {"killed": False, "signal": None, **stopped}.items()


@pytest.mark.node
def test_a_command_behind_a_shell_is_looked_at_too(tmp_path):
    require(shutil.which("node"), "node")
    (tmp_path / "server.js").write_text(SERVER)
    status, out, err = check("--", "/bin/sh", "-c", "echo started; node server.js; exit 4",
                             cwd=tmp_path)  # fmt: skip
    assert status == 0 and "port " in out and "exit status 4" in out, out + err
    assert "started" in err and "started" not in out


@pytest.mark.node
def test_libraries_are_named_with_their_versions(tmp_path):
    require(shutil.which("node"), "node")
    versions = {"express": "9.8.7", "@nestjs/core": "1.2.3", "bullmq": "99.1.0", "other": "1.0.0"}
    for name in (*versions, "ioredis"):
        package = tmp_path / "node_modules" / name
        package.mkdir(parents=True)
        (package / "index.js").write_text("")
        if name in versions:
            text = json.dumps({"name": name, "version": versions[name]})
            (package / "package.json").write_text(text)
    loads = "".join(f"require('{name}');" for name in (*versions, "ioredis"))
    (tmp_path / "server.js").write_text(loads + SERVER)
    _, out, err = check("--", "node", "server.js", cwd=tmp_path)
    assert (
        "libraries  @nestjs/core 1.2.3, bullmq 99.1.0 (this version is not tested), express 9.8.7, "
        "ioredis (version unknown)\n" in out
    ), out + err


@pytest.mark.node
@pytest.mark.parametrize(
    ("script", "said"),
    [("process.exit(3)", "(exit status 3)"), ("throw new Error('no database')", "no database")],
)
def test_a_command_that_ends_by_itself_is_said(script: str, said: str):
    require(shutil.which("node"), "node")
    status, out, err = check("--", "node", "-e", script)
    assert status == 125 and said in err and "ended by itself after" in err, out + err


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--", "/bin/sleep", "60"], "/bin/sleep is not Node.js"),
        (["--", "/not/there/node"], "cannot start /not/there/node: No such file"),
        (["--for", "0.3s", "--", "/bin/sh", "-c", "sleep 60"], "no Node.js process"),
        ([], "use gracewrap check --agent -- node server.js"),
        (["--strict", "--", "node"], "cannot use --strict"),
        (["--for", "soon", "--", "node"], "cannot use --for = 'soon'"),
        (["--for", "--", "node"], "cannot use --for (command line): it needs a value"),
    ],
)
def test_what_stands_against_it_is_said(words: list[str], said: str):
    status, out, err = check(*words)
    assert status == 125 and said in err and not out, out + err


def test_an_old_node_is_said(tmp_path):
    node = tmp_path / "node"
    node.write_text(OLD.format(python=sys.executable))
    node.chmod(0o755)
    status, out, err = check("--for", "2s", "--", node)
    assert status == 125, err
    assert "node 16.20.2 (pid " in out and "is too old for the agent" in out
    assert "a port" not in out


def test_the_setting_of_that_name_still_has_its_value():
    status, out, _ = call("check", "--agent", "node", "--", "node", "server.js")
    assert status == 0 and 'agent    "node"' in out


@pytest.mark.node
@pytest.mark.parametrize("signum", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_nothing_is_left_when_it_is_interrupted(signum: int):
    require(shutil.which("node"), "node")
    script = "setsid sleep 600 & exec node -e 'console.log(1); setInterval(() => {}, 9)'"
    words = [*GRACEWRAP, "check", "--agent", "--for", "60s", "--", "/bin/sh", "-c", script]
    with subprocess.Popen(words, stderr=subprocess.PIPE, env=environment()) as process:
        try:
            assert process.stderr is not None
            lines = Lines(process.stderr.fileno())
            assert lines.next() == "1"
            wait_until(lambda: len(descendants(process.pid)) >= 2, "both run")
            below = descendants(process.pid)
            process.send_signal(signum)
            assert process.wait(BOUND) == 130
            assert "interrupted" in lines.next()
            assert not [pid for pid in below if alive(pid)]
        finally:
            process.kill()
