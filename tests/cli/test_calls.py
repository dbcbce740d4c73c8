"""Sixty wrong and right calls, as newcomers make them: what is written, the exit status, and the
line that helps."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from processes import environment

BOUND = 60.0
GRACEWRAP = [sys.executable, "-m", "gracewrap"]
HERE = {
    "gracewrap.toml": 'command = ["echo", "from the file"]\n',
    "web.toml": '[programs.web]\ncommand = ["true"]\n[programs.db]\ncommand = ["true"]\n',
    "drain.toml": 'command = ["true"]\n[drain]\ntcp = "auto"\nlinger = "1s"\n',
    "env.toml": 'command = ["sh", "-c", "echo $A $B $C"]\n[env]\nA = 3000\nB = true\nC = 0.5\n',
    "warn.toml": 'command = ["true"]\n[log]\nlevel = "warn"\n',
    "nginx.toml": 'preset = "nginx"\ncommand = ["echo", "nginx"]\n',
    "wrong.toml": 'command = ["true"]\nstop_timout = "2s"\n',
    "string.toml": 'command = "node server.js"\n',
    "compose.yaml": "services:\n  web:\n    image: nginx\n",
    "process-compose.yaml": "version: '0.5'\nprocesses:\n  web:\n    command: nginx\n",
    "Procfile": "web: node server.js\nworker: node worker.js\n",
    "supervisord.conf": "[supervisord]\nnodaemon=true\n[program:web]\ncommand=node server.js\n",
}
FILE = "it runs what gracewrap.toml here says"

# What is written, the exit status, and what stands in the output (of check and such: stdout too).
CALLS = [
    # The ways to run a command.
    ("", 0, "from the file"),
    ("", 0, FILE),
    ("run", 0, "from the file"),
    ("--shutdown-timeout 8s", 0, FILE),
    ("echo hello", 0, "hello"),
    ("-- echo hello", 0, "hello"),
    ("run echo hello", 0, "hello"),
    ("run -- echo hello", 0, "hello"),
    ("run --stop-timeout 5s -- echo hello", 0, "hello"),
    ("-- sh -c 'exit 3'", 3, ""),
    ("--config warn.toml", 0, ""),
    ("--log-level warn -- echo hello", 0, "hello"),
    ("--config env.toml", 0, "3000 true 0.5"),
    ("--config nginx.toml", 0, "nginx"),
    ("--preset nginx -- echo hello", 0, "hello"),
    ("--preset nginx --no-drain -- echo hello", 0, "hello"),
    ("--config drain.toml --no-drain", 0, ""),
    ("-- stop", 127, "cannot run 'stop'"),
    # Words that are no command.
    ("shutdown", 125, "there is no gracewrap shutdown: use gracewrap stop"),
    ("shutdown -h now", 125, "gracewrap -- shutdown -h now"),
    ("ps", 125, "use gracewrap status"),
    ("top", 125, "use gracewrap status"),
    ("kill", 125, "use gracewrap stop"),
    ("logs", 125, "docker logs"),
    ("start", 125, "gracewrap restart NAME"),
    ("reload", 125, "use gracewrap restart NAME"),
    ("up", 125, "use gracewrap run"),
    ("version", 125, "use gracewrap --version"),
    ("statsu", 127, "did you mean gracewrap status?"),
    ("chekc --strict", 127, "did you mean gracewrap check?"),
    ("inti", 127, "did you mean gracewrap init?"),
    ("drain api", 125, "it is for all programs at once; use gracewrap drain"),
    ("plan --against k8s.yaml", 125, "it is for check; use gracewrap check --against FILE"),
    ("--url http://127.0.0.1:80/ -- true", 125, "use gracewrap drill --url URL"),
    ("web.toml", 127, "use gracewrap --config web.toml"),
    ("-- --stop-timeout 2s", 127, "options go before the --"),
    # Options, variables and files.
    ("--stop-timout 2s -- true", 125, "did you mean --stop-timeout?"),
    ("--stop-timeout 10 -- true", 125, 'has no unit; write "10s"'),
    ("--grace-period 10s -- true", 125, "gracewrap calls this"),
    ("--preset ngnix -- true", 125, 'did you mean "nginx"?'),
    ("--preset stack -- true", 125, "gracewrap init --for stack"),
    ("--no-drain --drain-tcp auto -- true", 125, "there is --drain-tcp too; use one"),
    ("--env PORT -- true", 125, "write NAME=VALUE"),
    ("echo x --shutdown-timeout 8s", 0, "gracewrap --shutdown-timeout ... -- echo ..."),
    ("echo x --shutdown-timeout=8s", 0, "so echo gets it"),
    ("check echo x --no-drain", 0, "so echo gets it"),
    ("check --strict echo x --drain-linger 1s", 125, "so echo gets it"),
    ("tail worker", 1, "there is no gracewrap tail: the output of programs goes to"),
    ("GRACEWRAP_STOP_TIMEOUT= true", 0, ""),
    ("GRACEWRAP_STOP_TIMEOUT=10 true", 125, 'has no unit; write "10s"'),
    ("GRACEWRAP_STOP_TIMOUT=10s true", 125, "did you mean GRACEWRAP_STOP_TIMEOUT?"),
    ("GRACEWRAP_PRESET=nginx echo hello", 0, "hello"),
    ("--config wrong.toml", 125, "did you mean stop_timeout?"),
    ("--config string.toml", 125, 'write ["node", "server.js"]'),
    ("--config compose.yaml", 125, "line 1, services:: it is a file of Docker Compose"),
    ("--config process-compose.yaml", 125, "it is a file of process-compose"),
    ("--config Procfile", 125, "if it is a Procfile: write [programs.web]"),
    ("--config supervisord.conf", 125, "it is a file of supervisord"),
    ("--config missing.toml", 125, "gracewrap init writes one"),
    # What is for people.
    ("check", 0, "gracewrap.toml: ok"),
    ("check -- nginx -g 'daemon off;'", 0, "There is a preset for nginx: --preset nginx"),
    ("check -- node worker.js", 0, "If node is an HTTP server, use --preset node"),
    ("check -- celery -Q %(ENV_QUEUE)s", 0, '(ENV_QUEUE)s of "%(ENV_QUEUE)s": write ${QUEUE} in a'),
    ("check --env A=%(here)s -- true", 0, 'supervisord\'s %(here)s of "%(here)s": write the value'),
    ("check -- node server.js --port $PORT", 0, "no shell fills in the $PORT"),
    ("check -- sh -c 'exec node $PORT'", 0, "settings: ok"),
    ("check --strict -- nginx", 125, "nginx cuts requests on SIGTERM"),
    ("presets", 0, "any HTTP server, also one without shutdown code"),
    ("presets nginx", 0, 'stop_signal = "QUIT"'),
    ("init --for nginx -", 0, 'stop_signal = "QUIT"'),
    ("init", 125, "'gracewrap.toml' exists; use --force to replace it"),
    ("init --for ngnix -", 125, 'did you mean "nginx"?'),
    ("stop --pid 4194304", 1, "there is no such process here"),
    ("stop --all web", 125, "use one of them"),
    ("restart --wiat web", 125, "no such option"),
    ("status --json --watch", 125, "use one"),
    ("health --pid 4194304", 1, "not healthy: cannot find a gracewrap with pid 4194304"),
]

# What needs no hint.
QUIET = [
    "check --strict --ready http://127.0.0.1/ -- echo x",  # for gracewrap health
    "-- echo x --shutdown-timeout 8s",
    "echo x --log-level debug --user me --port 80",
    "-- tail web.toml",
    "tail web.toml",
    "ls -a",
]


def test_there_are_enough_of_them():
    assert len(CALLS) >= 60


@pytest.mark.parametrize(("call", "status", "said"), CALLS, ids=[call[0] for call in CALLS])
def test_call(tmp_path: Path, call: str, status: int, said: str):
    done = called(tmp_path, call)
    shown = " ".join((done.stdout + done.stderr).split())
    assert (done.returncode, said in shown) == (status, True), shown
    assert "Traceback" not in shown and "internal error" not in shown


@pytest.mark.parametrize("call", QUIET)
def test_a_call_that_needs_no_hint(tmp_path: Path, call: str):
    done = called(tmp_path, call)
    assert done.returncode == 0 and "gracewrap -- " not in done.stderr


@pytest.mark.parametrize(("words", "status"), [((), 0), (("--strict",), 125)])
def test_a_check_of_nothing_says_so(tmp_path: Path, words: tuple[str, ...], status: int):
    done = subprocess.run(
        [*GRACEWRAP, "check", *words],
        capture_output=True,
        text=True,
        timeout=BOUND,
        cwd=tmp_path,
        env=environment(),
    )
    assert done.returncode == status
    assert "neither a command nor a file to check" in done.stderr and not done.stdout


def called(tmp_path: Path, call: str) -> subprocess.CompletedProcess[str]:
    """Make a call in a directory with the files of HERE."""
    for name, content in HERE.items():
        (tmp_path / name).write_text(content)
    import shlex

    words = shlex.split(call)
    env = {}
    while words and words[0].startswith("GRACEWRAP_"):
        name, _, value = words.pop(0).partition("=")
        env[name] = value
    return subprocess.run(
        [*GRACEWRAP, *words],
        capture_output=True,
        text=True,
        stdin=subprocess.DEVNULL,
        timeout=BOUND,
        cwd=tmp_path,
        env={**environment(), **env, "PATH": os.environ["PATH"]},
    )
