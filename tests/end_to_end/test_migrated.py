"""The file in docs/migrate.md that is made of one of supervisord's, run: what the old one said is
what happens."""

from __future__ import annotations

import configparser
import os
import re
import shlex
import signal
import sys
import tomllib
from pathlib import Path

from processes import ROOT, SUPPORT, Run, environment, running

# What stands in for gunicorn and celery: it says how it was started, then what happens to it.
COMMAND = """#!{python} -IS
import os, sys
name = os.path.basename(sys.argv[0])
print(name, os.getcwd(), os.environ["APP_ENV"], *sys.argv[1:], flush=True)
os.execv(sys.executable, [sys.executable, "-I", "-S", {player!r}, name])
"""
WEB = "web    | gunicorn {} production --bind 0.0.0.0:8000 app:app"
WORKER = "worker | celery {} production -A tasks worker --queues mail"


def block(language: str) -> str:
    text = (ROOT / "docs" / "migrate.md").read_text()
    (found,) = re.findall(rf"^```{language}\n(.*?)^```", text, re.MULTILINE | re.DOTALL)
    return str(found)


def up(run: Run, *names: str) -> tuple[set[str], dict[str, int]]:
    """Return how programs say that they were started, and their pids; they come in any order."""
    lines = [run.line() for _ in range(2 * len(names))]
    pids = {words[2]: int(words[4]) for line in lines if (words := line.split())[3] == "up"}
    assert set(pids) == set(names)
    return {line for line in lines if line.split()[3] != "up"}, pids


def test_the_migrated_file_does_what_the_old_one_said(tmp_path: Path):
    place, app = tmp_path / "bin", tmp_path / "app"
    place.mkdir()
    app.mkdir()
    for name in ("gunicorn", "celery"):
        content = COMMAND.format(python=sys.executable, player=str(SUPPORT / "player.py"))
        (place / name).write_text(content)
        (place / name).chmod(0o755)
    file = tmp_path / "gracewrap.toml"
    file.write_text(block("toml").replace("/srv/app", str(app)))
    env = environment(PORT="8000", QUEUE="mail", PATH=f"{place}:{os.environ['PATH']}")
    with running("--config", file, env=env) as run:
        told, pids = up(run, "gunicorn", "celery")
        assert told == {WEB.format(app), WORKER.format(app)}
        os.kill(pids["celery"], signal.SIGKILL)  # the other one goes on
        assert up(run, "celery")[0] == {WORKER.format(app)}
        os.kill(pids["gunicorn"], signal.SIGUSR1)  # it exits with 0, and is started again
        assert run.line() == "web    | gunicorn ends"
        assert up(run, "gunicorn")[0] == {WEB.format(app)}
        run.send(signal.SIGTERM)
        assert sorted(run.line() for _ in range(4)) == [
            *("web    | gunicorn TERM", "web    | gunicorn ends"),
            *("worker | celery TERM", "worker | celery ends"),
        ]
        assert run.wait() == 0


def test_both_files_say_the_same():
    old = configparser.RawConfigParser()
    old.read_string(block("ini"))
    new = tomllib.loads(block("toml"))
    for name, program in new["programs"].items():
        was = old[f"program:{name}"]
        command = re.sub(r"%\(ENV_(\w+)\)s", r"${\1}", was["command"])
        assert shlex.split(command) == program["command"]
        assert f"{was['stopwaitsecs']}s" == program["stop_timeout"]
        assert was["directory"] == new["defaults"]["working_dir"]
        assert was["environment"] == 'APP_ENV="{APP_ENV}"'.format(**new["defaults"]["env"])
