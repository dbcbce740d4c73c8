"""Presets: taken from configs/, beneath everything else that is said."""

from __future__ import annotations

import tomllib

import pytest

from gracewrap.config.apply_preset import path_of, text_of
from gracewrap.config.command_line import read_command_line
from gracewrap.config.load import resolve
from gracewrap.config.parsers.preset_names import FILES, PRESETS
from gracewrap.config.recognise_command import PRESET_OF, recognised
from processes import ROOT

SIGINT, SIGQUIT, SIGTERM = 2, 3, 15
COMMAND = ["--", "server"]


def settings_of(*words, env=None):
    found, problems = resolve(
        read_command_line([*words, *COMMAND]),
        {k.encode(): v.encode() for k, v in (env or {}).items()},
    )
    assert found is not None, problems
    assert not problems
    return found


def of_file(tmp_path, text, *words):
    file = tmp_path / "g.toml"
    file.write_text(text)
    found, problems = resolve(read_command_line(["--config", str(file), *words]), {})
    assert found is not None, problems
    return found


def test_every_file_in_configs_is_listed():
    files = {file.stem for file in (ROOT / "configs").glob("*.toml")}
    assert files == PRESETS.keys() | FILES.keys() and not PRESETS.keys() & FILES.keys()
    assert all(text_of(name) for name in files)


@pytest.mark.parametrize("name", PRESETS)
def test_every_preset_can_be_used_with_any_command_and_budget(name):
    found = settings_of("--preset", name)
    assert found.command == ("server",) and found.preset == name
    tree = tomllib.loads(text_of(name))
    assert "programs" not in tree
    said = {key for key in tree if key != "command" and not isinstance(tree[key], dict)}
    assert said <= found.origins.keys()
    assert settings_of("--preset", name, "--shutdown-timeout", "8s").shutdown_timeout == 8


def test_each_way_of_naming_one(tmp_path):
    flag = settings_of("--preset", "nginx")
    variable = settings_of(env={"GRACEWRAP_PRESET": "nginx"})
    file = of_file(tmp_path, 'preset = "nginx"\ncommand = ["x"]\n')
    for found in (flag, variable, file):
        assert found.stop_signal == SIGQUIT and found.drain is not None
        assert found.origins["stop_signal"].startswith("preset nginx, line ")


def test_whatever_else_is_said_counts_more(tmp_path):
    assert settings_of("--preset", "nginx", "--stop-signal", "INT").stop_signal == SIGINT
    env = {"GRACEWRAP_PRESET": "nginx", "GRACEWRAP_STOP_SIGNAL": "INT"}
    assert settings_of(env=env).stop_signal == SIGINT
    file = of_file(tmp_path, 'preset = "nginx"\ncommand = ["x"]\nstop_signal = "INT"\n')
    assert file.stop_signal == SIGINT and file.drain is not None
    assert of_file(tmp_path, 'preset = "npm"\ncommand = ["x"]\n', "--preset", "nginx").preset == (
        "nginx"
    )


def test_another_probe_takes_the_place_of_the_preset_s():
    found = settings_of("--preset", "nginx", "--drain-http", "http://127.0.0.1:1/")
    assert found.drain_tcp is None and found.drain_http is not None
    assert found.drain_linger == 0.5  # that is about any probe


@pytest.mark.parametrize(
    ("words", "rungs"),
    [
        ([], ((24, SIGTERM),)),
        (["--shutdown-timeout", "8s"], ((7, SIGTERM),)),
        (["--shutdown-timeout", "60s"], ((59, SIGTERM),)),
        (["--stop-timeout", "5s"], ((4, SIGTERM),)),
        (["--shutdown-timeout", "500ms"], ()),
    ],
)
def test_its_rungs_keep_their_distance_from_the_end(words, rungs):
    assert settings_of("--preset", "nginx", *words).escalation == rungs


def test_several_programs_have_their_own(tmp_path):
    text = """
shutdown_timeout = "10s"
[defaults]
preset = "any-http-server"
[programs.web]
command = ["web"]
[programs.proxy]
command = ["nginx"]
preset = "nginx"
[programs.worker]
command = ["worker"]
[programs.worker.drain]
file = "/run/drained"
"""
    web, proxy, worker = of_file(tmp_path, text).programs
    assert (web.stop_signal, web.drain_when, web.drain_tcp) == (SIGTERM, "before-signal", ())
    assert (proxy.stop_signal, proxy.drain_when) == (SIGQUIT, "after-signal")
    assert proxy.escalation == ((9, SIGTERM),)
    assert worker.drain_file == "/run/drained" and worker.drain_tcp is None


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("ngnix", 'did you mean "nginx"?'),
        ("zzz", "gracewrap presets lists them"),
        ("stack", "gracewrap init --for stack"),
        ("", "gracewrap presets lists them"),
    ],
)
def test_wrong_names(name, said):
    found, problems = resolve(read_command_line(["--preset", name, *COMMAND]), {})
    assert found is None and said in problems[0].text


@pytest.mark.parametrize(
    ("command", "preset"),
    [
        ("node server.js", "node"),
        ("/usr/local/bin/node --inspect server.js", "node"),
        ("node_modules/.bin/next start", "node"),
        ("pm2-runtime ecosystem.config.js", "node"),
        ("npm start", "npm"),
        ("waitress-serve --port 8000 app:app", "any-http-server"),
        ("nginx -g 'daemon off;'", "nginx"),
        ("php-fpm8.2 -F", "php-fpm"),
        ("python3.12 -m gunicorn app:app", "gunicorn"),
        ("python3 -m uvicorn app:app", "uvicorn"),
        ("python -m celery -A tasks worker", "celery"),
        ("python3 -u app.py", "any-http-server"),
        ("python3 -m http.server", "any-http-server"),
        ("bundle exec puma -C config.rb", "puma"),
        ("poetry run celery -A x worker", "celery"),
        ("gosu postgres postgres -D /data", "postgres"),
        ("docker-entrypoint.sh redis-server", "redis"),
        ("env A=1 B=2 haproxy -f x", "haproxy"),
        ("sh -c 'migrate && exec gunicorn app:app'", "gunicorn"),
        ("tini -- nginx", "nginx"),
        ("sleep 5", ""),
        ("sh", ""),
        ("sh -c '\"'", ""),
        ("env", ""),
        ("python3", "any-http-server"),
    ],
)
def test_programs_are_recognised(command, preset):
    import shlex

    assert recognised(shlex.split(command)) == preset


def test_what_is_recognised_is_a_preset():
    assert set(PRESET_OF.values()) <= PRESETS.keys()
    assert path_of("nginx").endswith("nginx.toml")
