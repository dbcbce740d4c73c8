"""The JSON Schema of gracewrap.toml, by a validator that others have written."""

from __future__ import annotations

import importlib.util
import json
import subprocess
import tomllib

import jsonschema
import pytest

from gracewrap.cli.cmd_init import _SEVERAL, template, value_text
from gracewrap.config.json_schema import kind_of, schema
from gracewrap.config.schema import TABLE
from processes import GRACEWRAP, ROOT, environment

VALIDATOR = jsonschema.Draft7Validator(schema())


def faults(text: str) -> list[str]:
    return [error.message for error in VALIDATOR.iter_errors(tomllib.loads(text))]


def of_the_tests(name: str) -> object:
    """Return a table of another test."""
    path = ROOT / "tests" / "config" / "test_config.py"
    spec = importlib.util.spec_from_file_location("config_mistakes", path)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return getattr(module, name)


def test_it_is_a_schema_and_is_what_the_subcommand_prints():
    jsonschema.Draft7Validator.check_schema(schema())
    done = subprocess.run(
        [*GRACEWRAP, "schema"], capture_output=True, timeout=60, env=environment(), check=True
    )
    assert json.loads(done.stdout) == schema()


@pytest.mark.parametrize("file", sorted((ROOT / "configs").glob("*.toml")), ids=lambda f: f.name)
def test_it_accepts_what_comes_with_gracewrap(file):
    assert faults(file.read_text()) == []


def test_it_accepts_what_init_writes():
    assert faults(template()) == [] and faults(_SEVERAL) == []
    shown = "\n".join(
        line.removeprefix("#") if line[:2] != "# " else "" for line in template().splitlines()
    )
    assert shown  # every setting, one by one, is in the next test


@pytest.mark.parametrize("setting", TABLE, ids=lambda setting: setting.key)
def test_it_accepts_the_default_and_the_example_of_every_setting(setting):
    table, _, last = setting.key.rpartition(".")
    own = setting.key in ("depends_on", "stop_after", "until", "reserve", "oneshot")
    for value in (setting.default, setting.example):
        if value is not None:
            line = f"{last} = {value_text(value)}\n"
            head = f"[{table}]\n" if table else "[programs.web]\ncommand = ['x']\n" if own else ""
            assert faults(head + line) == []


def test_every_kind_of_setting_is_known():
    """Anything may stand only where a value is a text, a number or more."""
    free = [setting.key for setting in TABLE if not kind_of(setting)]
    assert len(free) < len(TABLE) / 10, free


# Of these every mistake shows by the kind of the value; of others gracewrap check says it.
SEEN = {
    *("kill_mode", "on_repeat", "log.format", "log.level", "umask", "restart", "on_exit"),
    *("on_failure", "output", "stdin", "clear_env", "drain.when", "drain.notify", "preset"),
    *("drain.absent", "drain.on_refused", "drain.mode", "drain.file_is", "health.on_stop"),
}


def test_it_refuses_the_mistakes_of_the_tests():
    bad = of_the_tests("BAD")
    assert isinstance(bad, dict)
    seen = 0
    for setting in TABLE:
        table, _, last = setting.key.rpartition(".")
        for text in bad.get(setting.key, ()):
            head = f"[{table}]\n" if table else ""
            found = faults(f"{head}{last} = {json.dumps(text)}\n")
            assert found or setting.key not in SEEN, (setting.key, text)
            seen += bool(found)
    assert seen > 50


@pytest.mark.parametrize(
    "text",
    [
        'stop_timout = "2s"\n',
        '[drain]\ntpc = "auto"\n',
        '[log]\nlevel = "loud"\n',
        'command = "node server.js"\n',
        "command = []\n",
        "shutdown_timeout = 25\n",
        'shutdown_timeout = "10 min"\n',
        'stop_signal = "TREM"\n',
        'preset = "ngnix"\n',
        'kill_mode = "all"\n',
        'restart = "yes"\n',
        "[programs.web]\noutput = 'prefix'\n",
        "[programs.web]\ncommand = ['x']\nshutdown_timeout = '2s'\n",
        "[defaults]\ncommand = ['x']\n",
        "[env]\nA = [1]\n",
        "[[drain]]\ntcp = 'auto'\n",
        "nice = 20\n",
        "umask = 22\n",
    ],
)
def test_it_refuses(text):
    assert faults(text)
