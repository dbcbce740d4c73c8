"""How the agent gets into a command: NODE_OPTIONS, and when it is better left out."""

from __future__ import annotations

import json
import shutil
import subprocess

import pytest

from gracewrap.config import command_line, load
from gracewrap.config.probe_specs import kind
from gracewrap.config.refused_combinations import is_node
from gracewrap.config.settings import Settings
from gracewrap.runtime import node_agent
from processes import require

AGENT = "/opt/a b/agent.cjs"


@pytest.mark.parametrize(
    ("given", "then"),
    [
        (b"", b'--require "/opt/a b/agent.cjs"'),
        (b"--max-old-space-size=512", b'--require "/opt/a b/agent.cjs" --max-old-space-size=512'),
        (b'-r "/opt/a b/agent.cjs"', b'--require "/opt/a b/agent.cjs" -r "/opt/a b/agent.cjs"'),
    ],
)
def test_the_agent_is_added_to_what_there_is(given: bytes, then: bytes):
    assert node_agent.with_agent(given, AGENT) == then
    assert node_agent.with_agent(then, AGENT) == then


@pytest.mark.node
@pytest.mark.parametrize("name", ["a b", 'a"b', "a\\b", "a'b", "ä"])
def test_node_finds_it_whatever_the_path(name: str, tmp_path):
    require(shutil.which("node"), "node")
    folder = tmp_path / name
    folder.mkdir()
    (folder / "agent.cjs").write_text("globalThis.loaded = 1")
    options = node_agent.with_agent(b"--no-warnings", str(folder / "agent.cjs"))
    words = ["node", "-p", "JSON.stringify([globalThis.loaded, process.execArgv])"]
    found = subprocess.run(words, env={"PATH": "/usr/bin:/bin", "NODE_OPTIONS": options},
                           capture_output=True, check=True)  # fmt: skip
    assert json.loads(found.stdout)[0] == 1


@pytest.mark.parametrize(
    ("command", "why_not"),
    [
        (["node", "server.js"], ""),
        (["npm", "start"], ""),
        (["sh", "-c", "node server.js"], ""),
        (["./not-there"], ""),
        (["/bin/sleep", "1"], "/bin/sleep is not Node.js"),
        (["node", "--permission", "server.js"], "--permission"),
        (["sh", "-c", "exec node --experimental-permission --allow-fs-read=* x"], "--permission"),
        (["sh", "-c", "node x --permissions"], ""),
    ],
)
def test_it_is_left_out_where_it_cannot_work(command: list[str], why_not: str):
    loaded = node_agent.prepare(command, None)
    try:
        assert why_not in loaded.why_not
        assert bool(loaded.why_not) == bool(why_not) == (loaded.socket is None)
    finally:
        if loaded.socket is not None:
            import os

            os.close(loaded.socket[0])
            os.unlink(loaded.socket[1])


def test_it_is_left_out_where_a_script_of_npm_runs_node_with_permission(tmp_path, monkeypatch):
    """Node.js 20 and 22 would exit at once: ERR_ACCESS_DENIED."""
    script = "node --experimental-permission --allow-fs-read=/srv server.js"
    (tmp_path / "package.json").write_text(json.dumps({"scripts": {"start": script}}))
    monkeypatch.chdir(tmp_path)
    for command in (["npm", "start"], ["/usr/bin/env", "pnpm", "start"]):
        assert "package.json" in node_agent.prepare(command, None).why_not


def settings_of(*words: str) -> Settings:
    settings, problems = load.resolve(command_line.read_command_line(words), {})
    assert settings is not None, problems
    return settings


@pytest.mark.parametrize(
    ("command", "is_one"),
    [
        (["node", "x"], True),
        (["/usr/local/bin/node"], True),
        (["npm", "start"], True),
        (["./server.mjs"], True),
        (["cross-env", "A=1", "node", "server.js"], True),
        (["node_modules/.bin/concurrently", "node web.js", "node worker.js"], True),
        (["python3", "x.js"], False),
        (["nginx"], False),
        (["docker-entrypoint.sh", "node", "server.js"], True),
        (["/usr/bin/tini", "--", "npm", "start"], True),
        (["sh", "-c", "./migrate.sh && exec node server.js"], True),
        (["sh", "-c", "exec nginx"], False),
        (["sh", "-c", "'"], False),
    ],
)
def test_auto_looks_at_the_program(command: list[str], is_one: bool):
    assert is_node(command) is is_one
    settings = settings_of("--agent", "auto", "--", *command)
    assert settings.agent == ("node" if is_one else "off")
    assert bool(settings.drain) is is_one


def test_the_agents_probe_is_the_default_where_it_is_on():
    settings = settings_of("--agent", "node", "--", "node", "x")
    assert settings.drain is not None and settings.drain_linger is None
    assert type(settings.drain.probes[0]).__name__ == "AgentProbeSpec"
    other = settings_of("--agent", "node", "--drain-tcp", "auto", "--", "node", "x")
    assert type(other.drain.probes[0]).__name__ == "TcpProbeSpec"


@pytest.mark.parametrize(
    ("words", "probes"),
    [
        (["node"], ["agent", "tcp"]),
        (["node", "--agent", "off"], ["tcp"]),
        (["node", "--drain-file", "/x"], ["file"]),
        (["bullmq"], ["agent"]),
        (["bullmq", "--drain-tcp", "auto", "--agent", "off"], ["tcp"]),
    ],
)
def test_presets_switch_it_on_and_a_setting_off(words: list[str], probes: list[str]):
    settings = settings_of("--preset", *words, "--", "node", "x")
    assert settings.agent == ("off" if "off" in words else "node")
    found = settings.drain.probes if settings.drain else ()
    assert [kind(one) for one in found] == probes


def test_a_probe_without_an_agent_is_a_mistake():
    line = command_line.read_command_line(["--drain-agent", "--", "node", "x"])
    settings, problems = load.resolve(line, {})
    assert settings is None and 'add agent = "node"' in problems[0].text


def test_did_you_mean():
    line = command_line.read_command_line(["--agent", "nodejs", "--", "node", "x"])
    settings, problems = load.resolve(line, {})
    assert settings is None and 'did you mean "node"' in problems[0].text
