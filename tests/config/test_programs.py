"""[programs] and [defaults]: who says what of whom, what is refused in which words, and what is
left of the budget."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest
import tomli_w
from hypothesis import given
from hypothesis import strategies as st

from gracewrap.cli.cmd_init import value_text
from gracewrap.cli.format_settings import as_written
from gracewrap.config import command_line, load
from gracewrap.config.command_line import CommandLine
from gracewrap.config.origins import RawValue
from gracewrap.config.parsers import lifecycle
from gracewrap.config.probe_specs import HttpProbeSpec, LogLineProbeSpec, TcpProbeSpec
from gracewrap.config.programs import PROGRAMS
from gracewrap.config.programs import resolve as put_together
from gracewrap.config.schema import BY_KEY, GLOBAL, TABLE
from gracewrap.config.settings import Settings
from gracewrap.config.to_policy import policy_of
from gracewrap.config.values import BadValue
from gracewrap.policy import stop_order
from gracewrap.policy.model import BUSY, DRAINED, INVALID, BackOff, Reading
from gracewrap.probes.log_line import MAX_SEARCHED, LogLineProbe, LogLineState

WEB = '[programs.web]\ncommand = ["web"]\n'
DB = '[programs.db]\ncommand = ["db"]\n'


@pytest.fixture
def resolve(tmp_path, monkeypatch):
    """Return a function: what comes of the text of a file, and of flags and variables."""
    monkeypatch.chdir(tmp_path)

    def resolved(
        text: str, *words: str, **env: str
    ) -> tuple[Settings | None, list[str], list[str]]:
        (tmp_path / "g.toml").write_text(text)
        line = command_line.read_command_line(["--config", "g.toml", *words])
        settings, problems = load.resolve(
            line, {name.encode(): value.encode() for name, value in env.items()}
        )
        errors = [problem.text for problem in problems if not problem.warning]
        assert (settings is None) == bool(errors)
        assert all(problem.text.isprintable() for problem in problems)
        return settings, errors, [problem.text for problem in problems if problem.warning]

    return resolved


@pytest.fixture
def settings_of(resolve):
    def found(text: str, *words: str, **env: str) -> Settings:
        settings, errors, warnings = resolve(text, *words, **env)
        assert settings is not None and not warnings, errors + warnings
        return settings

    return found


# --- who says what -------------------------------------------------------------------------------

STACK = """\
shutdown_timeout = "20s"
[log]
level = "debug"

[defaults]
stop_timeout = "3s"
restart = "on-failure"
[defaults.drain]
interval = "1s"

[programs.db]
command = ["postgres"]
stop_signal = "INT"
[programs.migrate]
command = ["./migrate"]
oneshot = true
depends_on = ["db"]
[programs.web]
command = ["node", "server.js"]
depends_on = ["db", "migrate"]
stop_timeout = "5s"
ready = {log_line = "listening on"}
drain.tcp = "auto"
[programs.worker]
command = ["worker"]
depends_on = {db = "started", migrate = "completed"}
stop_after = ["web"]
"""


def test_a_stack(settings_of):
    top = settings_of(STACK)
    assert top.command == () and top.is_managed and top.each == top.programs
    assert [one.name for one in top.programs] == ["db", "migrate", "web", "worker"]
    db, migrate, web, worker = top.programs
    for one in top.programs:
        assert (one.shutdown_timeout, one.log_level, one.restart) == (20, "debug", "on-failure")
        assert (
            one.origins["shutdown_timeout"] == top.origins["shutdown_timeout"] == "g.toml, line 1"
        )
        assert one.origins["restart"] == "g.toml, line 7"
        assert one.each == (one,)
    assert [one.stop_timeout for one in top.programs] == [3, 3, 5, 3]
    assert (db.stop_signal, web.stop_signal) == (2, 15)
    assert (
        web.origins["stop_timeout"] == "g.toml, line 21"
        and db.origins["stop_timeout"] == "g.toml, line 6"
    )
    assert "restart" not in top.origins and "stop_timeout" not in top.origins
    assert web.depends_on == {
        "db": "ready",
        "migrate": "completed",
    }  # a oneshot is waited for until it has completed
    assert worker.depends_on == {"db": "started", "migrate": "completed"} and worker.stop_after == (
        "web",
    )
    assert migrate.oneshot and not db.oneshot
    assert web.ready is not None and web.ready.probes == (LogLineProbeSpec("listening on"),)
    assert (
        web.drain is not None and web.drain.probes == (TcpProbeSpec(),) and web.drain_interval == 1
    )
    assert db.drain is None and db.drain_interval == 0.25 and "drain.interval" not in db.origins
    policy = policy_of(top)
    assert [rules.name for rules in policy.programs] == ["db", "migrate", "web", "worker"]
    assert policy.programs[3].depends_on == ((0, "started"), (1, "completed")) and policy.programs[
        3
    ].stop_after == (2,)


@pytest.mark.parametrize(
    ("flag", "env", "own", "default", "wanted"),
    [
        ("4s", "3s", "2s", "1s", 4),
        (None, "3s", "2s", "1s", 3),
        (None, None, "2s", "1s", 2),
        (None, None, None, "1s", 1),
        (None, None, None, None, None),
        ("4s", None, None, "1s", 4),
    ],
)
def test_a_flag_over_a_variable_over_the_program_over_the_defaults(
    settings_of, flag, env, own, default, wanted
):
    text = f'[defaults]\nstop_timeout = "{default}"\n' if default else ""
    text += WEB + (f'stop_timeout = "{own}"\n' if own else "") + DB
    words = ["--stop-timeout", flag] if flag else []
    top = settings_of(text, *words, **({"GRACEWRAP_STOP_TIMEOUT": env} if env else {}))
    web, db = top.programs
    assert web.stop_timeout == wanted
    assert db.stop_timeout == (wanted if flag or env else 1 if default else None)
    where = web.origins.get("stop_timeout")
    assert where == (
        "command line, --stop-timeout"
        if flag
        else "environment, GRACEWRAP_STOP_TIMEOUT"
        if env
        else where
    )


def test_what_is_for_all_comes_from_flags_and_variables_too(settings_of):
    top = settings_of(
        f'exit_code_from = "web"\n{WEB}{DB}',
        "--shutdown-timeout",
        "9s",
        GRACEWRAP_EXIT_CODE_FROM="db",
    )
    assert top.exit_code_from == "db" and {
        one.shutdown_timeout for one in (top, *top.programs)
    } == {9.0}
    assert policy_of(top).exit_code_from == 1


def test_inline_tables_and_dotted_keys_are_the_same(settings_of):
    inline = (
        'programs = {web = {command = ["web"], drain = {tcp = "auto", timeout = "1s"}}, db = '
        '{command = ["db"]}}\n'
    )
    dotted = (
        '[programs]\nweb.command = ["web"]\nweb.drain.tcp = "auto"\nweb.drain.timeout = '
        '"1s"\ndb.command = ["db"]\n'
    )
    tables = f'{WEB}[programs.web.drain]\ntcp = "auto"\ntimeout = "1s"\n{DB}'
    found = [settings_of(text) for text in (inline, dotted, tables)]
    for one in found:
        assert [(each.name, each.command, each.drain_timeout) for each in one.programs] == [
            ("web", ("web",), 1.0),
            ("db", ("db",), None),
        ]
    assert found[0].programs[0].origins["drain.timeout"] == "g.toml, line 1"
    assert found[1].programs[0].origins["drain.timeout"] == "g.toml, line 4"
    assert found[2].programs[0].origins["drain.timeout"] == "g.toml, line 5"


def test_a_probe_of_its_own_takes_the_place_of_that_of_the_defaults(settings_of):
    text = '[defaults.drain]\ntcp = "auto"\nquiet = "1s"\nconfirm = 3\n'
    text += (
        f"{WEB}[programs.web.drain]\nhttp = "
        f'"http://127.0.0.1:3000/"\n{DB}[programs.x]\ncommand = ["x"]\ndrain.tcp = 80\n'
    )
    web, db, x = settings_of(text).programs
    assert (
        web.drain is not None
        and isinstance(web.drain.probes[0], HttpProbeSpec)
        and "drain.quiet" not in web.origins
    )
    assert db.drain is not None and db.drain.probes == (TcpProbeSpec(quiet=1.0),)
    assert x.drain is not None and x.drain.probes == (TcpProbeSpec((80,), quiet=1.0),)
    assert (web.drain_confirm, db.drain_confirm) == (3, 3)
    web, db, x = settings_of(text, "--drain-http", "http://127.0.0.1:1/").programs
    assert {one.drain.probes[0].request.url.port for one in (web, db, x)} == {1}


def test_defaults_that_mean_nothing_to_one_program_may_mean_something_to_another(resolve):
    text = '[defaults]\nmax_restarts = 3\non_watchdog = "ignore"\ndrain.interval = "1s"\n'
    settings, errors, _ = resolve(
        f'{text}{WEB}restart = "always"\nwatchdog = "5s"\ndrain.tcp = "auto"\n{DB}'
    )
    assert errors == []
    web, db = settings.programs
    assert (web.max_restarts, web.on_watchdog, web.drain_interval) == (3, "ignore", 1.0)
    assert (db.max_restarts, db.on_watchdog, db.drain_interval) == (None, "stop", 0.25)
    _, errors, _ = resolve(text + WEB + DB)
    assert [error.partition(":")[0] for error in errors] == [
        "cannot use defaults.max_restarts (g.toml, line 2)",
        "cannot use defaults.on_watchdog (g.toml, line 3)",
        "cannot use defaults.drain.interval (g.toml, line 4)",
    ]
    _, (error,), _ = resolve(WEB + DB, "--drain-interval", "1s")
    assert error.startswith(
        "cannot use drain.interval (command line, --drain-interval): it has no effect on any "
        "program"
    )


def test_variables_are_filled_in_and_a_missing_one_has_its_line(resolve):
    text = (
        f'{WEB}env = {{PORT = "${{PORT}}"}}\n[programs.web.drain]\nhttp = '
        f'"http://127.0.0.1:${{PORT}}/"\n'
    )
    settings, errors, _ = resolve(text, PORT="3000")
    assert errors == [] and settings.programs[0].env == {"PORT": "3000"}
    _, errors, _ = resolve(text)
    assert [error.partition(": ")[0] for error in errors[:2]] == [
        "cannot use programs.web.env (g.toml, line 3)",
        "cannot use programs.web.drain.http (g.toml, line 5)",
    ]


def test_what_is_secret_stays_so(resolve):
    _, errors, _ = resolve(
        f'{WEB}drain.http = "http://user:hunter2@h/"\nenv = {{"A B" = "hunter2"}}\npre_stop = '
        '"http://u:hunter2@h/"\n'
    )
    assert len(errors) == 3 and not any("hunter2" in error for error in errors)


def test_a_file_without_programs_is_what_it_was(settings_of):
    top = settings_of(
        'command = ["x"]\nrestart = "on-failure"\nbackoff = "1s"\n[drain]\ntcp = "auto"\n'
    )
    assert top.programs == () and top.each == (top,) and top.name == "" and top.is_managed
    assert top.backoff == BackOff(first=1.0)
    assert not settings_of('command = ["x"]\n').is_managed


@pytest.mark.parametrize("setting", TABLE, ids=lambda setting: setting.key)
def test_every_setting_has_its_place(setting, resolve):
    """What is for all stands at the top; everything else in a program, and but for what makes it
    this one in [defaults]."""
    table, _, last = setting.key.rpartition(".")
    raw = setting.example if setting.example is not None else setting.default
    for place in ("", "defaults", "programs.web"):
        text = '[programs.web]\ncommand = ["x"]\n[programs.db]\ncommand = ["x"]\n'
        row = f"{last} = {value_text(raw)}\n"
        if place == "programs.web" and not table:
            text = text.replace("[programs.db]", row * (setting.key != "command") + "[programs.db]")
        else:
            header = ".".join(part for part in (place, table) if part)
            text = f"[{header}]\n{row}{text}" if header else row + text
        _, errors, _ = resolve(text)
        misplaced = [
            error
            for error in errors
            if "it applies to all programs together" in error
            or "there are [programs]" in error
            or "each program has its own" in error
        ]
        right = setting.key in GLOBAL if not place else setting.key not in GLOBAL
        right = right and not (
            place == "defaults" and setting.key in ("command", "depends_on", "stop_after")
        )
        right = right or setting.key == "signal_map"  # for all, and of each program
        assert bool(misplaced) != right, (place, errors)


# --- what is refused -----------------------------------------------------------------------------

PROBLEMS = [
    # where things stand
    (
        "[programs]\n",
        "cannot use [programs] (g.toml, line 1): it has no program; write [programs.web]",
    ),
    ("programs = {}\n", "it has no program"),
    (
        "programs = 1\n",
        "cannot use programs (g.toml, line 1): it is a table of programs; write [programs.web]",
    ),
    (
        '[[programs]]\ncommand = ["x"]\n',
        "cannot use programs (g.toml, line 1): it is a table of programs",
    ),
    (
        '[programs]\ncommand = ["x"]\n',
        "cannot use programs.command (g.toml, line 2): in [programs] there are tables of programs "
        "only",
    ),
    (
        "[programs.web]\n",
        'cannot use programs.web (g.toml, line 1): it has no command; write command = ["node", '
        '"server.js"]',
    ),
    (
        '[defaults]\nstop_timeout = "1s"\n',
        "cannot use [defaults] (g.toml, line 1): it applies to several programs",
    ),
    (f"defaults = 1\n{WEB}", "write [defaults], and below it"),
    (
        f'command = ["x"]\n{WEB}',
        "cannot use command (g.toml, line 1): there are [programs] (g.toml, line 2); make it "
        "one of them",
    ),
    (
        f'stop_timeout = "1s"\n{WEB}',
        "cannot use stop_timeout (g.toml, line 1): there are [programs] (g.toml, line 2); "
        "write stop_timeout in [defaults], for all, or [programs.NAME]",
    ),
    (
        f'{WEB}[drain]\ntcp = "auto"\n',
        "write tcp in [defaults.drain], for all, or [programs.NAME.drain]",
    ),
    (f'depends_on = ["web"]\n{WEB}', "write depends_on in [programs.NAME]"),
    (
        f'{WEB}shutdown_timeout = "1s"\n',
        "cannot use programs.web.shutdown_timeout (g.toml, line 3): it applies to all programs "
        "together; write shutdown_timeout at the top of the file",
    ),
    (
        f'[defaults]\nstop_on = ["TERM"]\n{WEB}',
        "cannot use defaults.stop_on (g.toml, line 2): it applies to all programs together",
    ),
    (
        f'{WEB}[programs.web.log]\nlevel = "debug"\n',
        "programs.web.log.level (g.toml, line 4): it applies to all programs together; write level "
        "in [log], beside [programs]",
    ),
    (
        f'[defaults]\ncommand = ["x"]\n{WEB}',
        "defaults.command (g.toml, line 2): each program has its own",
    ),
    (
        f'[defaults]\ndepends_on = ["x"]\n{WEB}',
        "defaults.depends_on (g.toml, line 2): each program has its own",
    ),
    (
        'command = ["x"]\nreserve = "1s"\n',
        "cannot use reserve (g.toml, line 2): it only works with several programs, in "
        "[programs.NAME]",
    ),
    (
        'command = ["x"]\ndepends_on = ["y"]\n',
        "cannot use depends_on (g.toml, line 2): it only works with several programs",
    ),
    (
        'command = ["x"]\nexit_code_from = "y"\n',
        "cannot use exit_code_from (g.toml, line 2): it only works with several programs",
    ),
    (
        '[programs.web]\ncommand = ["${NO_SUCH}"]\n',
        "cannot use programs.web.command (g.toml, line 2): there is no variable NO_SUCH",
    ),
    ('programs = 1\n[defaults]\nstop_timeout = "1s"\n', "cannot use programs (g.toml, line 1)"),
    # names
    (
        '[programs."a b"]\ncommand = ["x"]\n',
        "cannot use programs.a b (g.toml, line 1): a program's name has up to 63 letters",
    ),
    ('[programs.-a]\ncommand = ["x"]\n', "starts with neither - nor ."),
    ('[programs.".a"]\ncommand = ["x"]\n', "starts with neither - nor ."),
    (f'[programs.{"a" * 64}]\ncommand = ["x"]\n', "up to 63 letters"),
    ('[programs."é"]\ncommand = ["x"]\n', "up to 63 letters"),
    (
        f'{WEB}depends_on = ["dbb"]\n{DB}',
        "cannot use programs.web.depends_on (g.toml, line 3): there is no program dbb; did you "
        'mean "db"?',
    ),
    (
        f'{WEB}depends_on = {{redis = "ready"}}\n{DB}',
        "there is no program redis; the programs are: web, db",
    ),
    (
        f'{WEB}stop_after = ["wrker"]\n[programs.worker]\ncommand = ["x"]\n',
        'there is no program wrker; did you mean "worker"?',
    ),
    (
        f'{WEB}depends_on = ["web"]\n',
        "programs.web.depends_on (g.toml, line 3): web cannot depend on itself; remove it",
    ),
    (
        f'{WEB}stop_after = ["web"]\n',
        "programs.web.stop_after (g.toml, line 3): web cannot stop after itself; remove it",
    ),
    (
        f'exit_code_from = "webb"\n{WEB}',
        'cannot use exit_code_from (g.toml, line 1): there is no program webb; did you mean "web"?',
    ),
    (
        f"{WEB}readyz = false\n",
        "programs.web.readyz (g.toml, line 3): at least one program must count",
    ),
    ('command = ["x"]\nreadyz = false\n', "it only works with several programs, in [programs"),
    # circles
    (
        f'{WEB}depends_on = ["db"]\n{DB}depends_on = ["web"]\n',
        "programs.web.depends_on (g.toml, line 3): circular dependency: web "
        "depends on db, db depends on web; remove one of them",
    ),
    (
        f'{WEB}depends_on = ["db"]\nstop_after = ["db"]\n{DB}',
        "circular dependency: web depends on db, web stops after db",
    ),
    (
        f'{WEB}stop_after = ["db"]\n{DB}stop_after = ["web"]\n',
        "circular dependency: db stops after web, web stops after db",
    ),
    # conditions
    (
        f'{WEB}depends_on = {{db = "service_healthy"}}\n{DB}',
        'gracewrap calls service_healthy "ready"; write {db = "ready"}',
    ),
    (
        f'{WEB}depends_on.db.condition = "process_completed_successfully"\n{DB}',
        'write {db = "completed"}',
    ),
    (
        f'{WEB}depends_on = {{db = "raedy"}}\n{DB}',
        'the condition of db must be one of started, ready, completed; did you mean "ready"?',
    ),
    (f"{WEB}depends_on = {{db = true}}\n{DB}", 'write {db = "ready"}'),
    (
        f'{WEB}depends_on = {{db = "completed"}}\n{DB}restart = "always"\n',
        "programs.web.depends_on (g.toml, line 3): db is restarted whenever it exits, "
        "so it never completes",
    ),
    (
        f'{WEB}oneshot = true\nrestart = "always"\n',
        "programs.web.restart (g.toml, line 4): web is a oneshot, which ends once it has "
        'completed; write restart = "on-failure" in [programs.web]',
    ),
    (
        f'[defaults]\nrestart = "always"\n{WEB}oneshot = true\n',
        "defaults.restart (g.toml, line 2): web is a oneshot",
    ),
    # values, and what is wrong between them
    (
        f'{WEB}stop_timeout = "1"\n',
        'cannot use programs.web.stop_timeout = "1" (g.toml, line 3): has no unit; write "1s"',
    ),
    (
        f'[defaults]\nstop_timeout = "30s"\n{WEB}{DB}',
        'cannot use defaults.stop_timeout = "30s" (g.toml, line 2): it is longer than '
        'the whole budget, shutdown_timeout = "25s" (default)',
    ),
    (
        f'{WEB}reserve = "30s"\n',
        'cannot use programs.web.reserve = "30s" (g.toml, line 3): it is longer than the whole '
        "budget",
    ),
    (
        f'[defaults]\nkill_mode = "x"\n{WEB}{DB}',
        'cannot use defaults.kill_mode = "x" (g.toml, line 2)',
    ),
    (
        f'[defaults]\ndrain.tcp = "auto"\ndrain.timeout = "30s"\n{WEB}{DB}',
        'cannot use defaults.drain.timeout = "30s"',
    ),
    (
        f'[defaults]\ndrain.tcp = "auto"\ndrain.timeout = "100ms"\n{WEB}{DB}',
        "programs.web.drain.confirm (default): 2 answers in a row",
    ),
    (
        f'{WEB}[programs.web.drain]\ntimeout = "1s"\n',
        "cannot use programs.web.drain.timeout (g.toml, line 4): there is no probe",
    ),
    (
        f'{WEB}drain = {{tcp = "auto", json = "/x"}}\n',
        "cannot use programs.web.drain.json (g.toml, line 3): a probe by tcp does not",
    ),
    (
        f'{WEB}drain = {{tcp = "auto", http = "http://h/"}}\n',
        "cannot use programs.web.drain.tcp (g.toml, line 3): there is http too",
    ),
    (
        f'{WEB}escalation = [{{after = "30s", signal = "INT"}}]\n',
        "cannot use programs.web.escalation (g.toml, line 3): the step at 30s is never reached",
    ),
    (
        f"{WEB}max_restarts = 3\n",
        "programs.web.max_restarts (g.toml, line 3): it has no effect without restart; add "
        'restart, "on-failure"',
    ),
    (
        f'{WEB}[group.x]\nprograms = ["web"]\n',
        "cannot use group (g.toml, line 3): there are no groups of programs",
    ),
    (
        f'{WEB}[groups.x]\nprograms = ["web"]\n',
        "cannot use groups (g.toml, line 3): there are no groups of programs",
    ),
    (
        f'{WEB}restart = "unless-stopped"\n',
        'must be one of never, on-failure, always; write "always"',
    ),
    (
        f'{WEB}on_exit = "success-shutdown"\n',
        'must be one of shutdown, restart, ignore; write "shutdown"',
    ),
    (f'{WEB}restart = "always"\nmax_restarts = 0\n', 'would be never; write restart = "never"'),
    (
        f'{WEB}restart = "always"\nbackoff = {{first = "1m", cap = "1s"}}\n',
        "its cap is shorter than first",
    ),
    (
        f'{WEB}restart = "always"\nbackoff = {{frist = "1m"}}\n',
        'there is no frist in it; did you mean "first"?',
    ),
    (
        f'{WEB}restart = "always"\nbackoff = {{factor = 0.5}}\n',
        "factor: not a number from 1 to 100",
    ),
    (f'{WEB}ready = {{log_line = "(a+)+"}}\n', "repeats what is repeated already"),
    (f'{WEB}ready = {{log_line = ""}}\n', "not a regular expression"),
    (
        f'{WEB}ready = {{log_line = "x", equals = 3}}\n',
        "a probe by log_line does not look at equals",
    ),
    (
        f'{WEB}drain.all = [{{log_line = "x"}}]\n',
        "log_line: it tells that a program is ready, not that it is drained; write it in ready",
    ),
    # the budget
    (
        f'{WEB}stop_timeout = "10s"\ndepends_on = ["worker"]\n[programs.worker]\ncommand = '
        f'["x"]\nreserve = "10s"\ndepends_on = ["db"]\n'
        f'{DB}stop_timeout = "8s"\n',
        'cannot use shutdown_timeout = "25s" (default): web (10s), worker (10s) and db (8s) '
        "are stopped one after the other and need 28s, 3s more than the budget; shorten one, or "
        "raise shutdown_timeout",
    ),
    (
        f'{WEB}stop_timeout = "13s"\ndepends_on = ["db"]\npost_stop = ["x"]\n{DB}stop_timeout = '
        '"12s"\n',
        "web (13s) and db (12s) are stopped one after the other and need 25s, 2s more than the 23s "
        "that hooks and metrics leave of it",
    ),
]


@pytest.mark.parametrize(("text", "said"), PROBLEMS, ids=[said[-40:] for _, said in PROBLEMS])
def test_what_is_refused_is_said_once(text, said, resolve):
    settings, errors, _ = resolve(text)
    assert settings is None
    assert len(errors) == 1, errors
    assert said in errors[0]


WARNINGS = [
    (
        f'{WEB}depends_on = {{db = "completed"}}\n{DB}',
        "programs.web.depends_on (g.toml, line 3): db is not a oneshot, and its exit stops "
        "everything; write oneshot = true in [programs.db]",
    ),
    (
        f'{WEB}depends_on = ["db"]\n{DB}until = "drained"\n',
        "programs.db.until (g.toml, line 6): none of the programs stopped before db (web) has "
        "a drain probe",
    ),
    (
        f'{WEB}until = "drained"\n',
        "programs.web.until (g.toml, line 3): nothing is stopped before web",
    ),
    (
        f'[defaults]\nuntil = "drained"\n{WEB}{DB}',
        "defaults.until (g.toml, line 2): no program that is stopped before another one",
    ),
    (
        f'{WEB}stop_timeout = "15s"\ndepends_on = ["cache"]\n[programs.cache]\ncommand = '
        f'["x"]\ndepends_on = ["db"]\n{DB}stop_timeout = "9s"\n',
        "web (15s) and db (9s) leave 1s of the budget for cache, stopped one after the other",
    ),
    (f'{WEB}stop_timeout = "25s"\npost_stop = ["x"]\n', "web needs 25s, "),
]


@pytest.mark.parametrize(("text", "said"), WARNINGS, ids=[said[-40:] for _, said in WARNINGS])
def test_what_may_not_be_meant_is_a_warning(text, said, resolve):
    settings, errors, warnings = resolve(text)
    assert settings is not None, errors
    assert len(warnings) == 1 and said in warnings[0], warnings


@pytest.mark.parametrize(
    "text",
    [
        # without a probe it is ready when it is started
        f'{WEB}depends_on = {{db = "ready"}}\n{DB}',
        f'{WEB}depends_on = {{db = "completed"}}\n{DB}on_exit = "ignore"\n',
        f'{WEB}depends_on = ["db"]\ndrain.tcp = "auto"\n{DB}until = "drained"\n',
        f'[defaults]\nuntil = "drained"\ndrain.tcp = "auto"\n{WEB}stop_after = ["db"]\n{DB}',
        f'{WEB}stop_timeout = "13s"\ndepends_on = ["db"]\n{DB}stop_timeout = "12s"\n',
        f'{WEB}stop_timeout = "25s"\n{DB}stop_timeout = "25s"\n',  # side by side
        f'{WEB}on_failure = "restart"\nmax_restarts = 3\n',
        f'shutdown_timeout = "0s"\n{WEB}depends_on = ["db"]\n{DB}',
        '[programs."a.b-c_D"]\ncommand = ["x"]\n',
        f'[defaults]\nrestart = "on-failure"\n{WEB}oneshot = true\n',
    ],
)
def test_what_is_fine(text, settings_of):
    settings_of(text)


def test_all_problems_at_once(resolve):
    _, errors, _ = resolve(
        f'stop_timeout = "1s"\n{WEB}depends_on = ["x"]\nstop_signal = "FOO"\ncolour = '
        f'1\n{DB}stop_timeout = "1m"\n[programs.y]\n'
    )
    assert len(errors) == 6


def test_a_command_beside_programs(resolve):
    _, errors, _ = resolve(WEB, "--", "true")
    assert errors == [
        "cannot use a command (command line): there are [programs] (g.toml, line 1); remove one "
        "of the two, or make the command one of the programs"
    ]


@pytest.mark.parametrize(
    "key", ["depends_on", "stop_after", "until", "reserve", "oneshot", "readyz"]
)
def test_what_can_stand_in_a_program_only(key, resolve):
    setting = BY_KEY[key]
    _, (error,), _ = resolve('command = ["x"]\n', f"{setting.option}=x")
    assert f"it can only be set in a file: {key} in [programs.NAME]" in error
    _, (error,), _ = resolve('command = ["x"]\n', **{setting.variable: "x"})
    assert f"it can only be set in a file: {key} in [programs.NAME]" in error


# --- words of others -----------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("key", "said"),
    [
        ("priority = 1", 'write depends_on = ["db"]'),
        ("autostart = true", "every program in the file is started"),
        ("startsecs = 5", 'write backoff = {stable = "10s"}'),
        ("startretries = 3", "gracewrap calls this max_restarts"),
        ("autorestart = true", "gracewrap calls this restart (the word comes from supervisord)"),
        ("exitcodes = 0", "0 is a success and all else a failure"),
        ("stopasgroup = true", 'write kill_mode = "group"'),
        ("stopwaitsecs = 1", "gracewrap calls this stop_timeout"),
        ("numprocs = 2", "write a [programs.NAME] for each"),
        ('stdout_logfile = "x"', 'remove it, or write output = "prefix"'),
        ("stderr_logfile_maxbytes = 0", "remove it, or write output"),
        ('start-after = ["x"]', "gracewrap calls this depends_on (the word comes from Horust)"),
        ('process_name = "x"', "its name is that of its table"),
        (
            'healthcheck.test = ["CMD", "x"]',
            'write ready = "http://127.0.0.1:3000/health", "tcp" or {exec = ["./healthy"]}',
        ),
        ("readiness_probe.http_get.port = 80", "gracewrap calls this ready; write ready = "),
        ("livenessProbe.x = 1", "gracewrap calls this live"),
        ("exit_on_end = true", "when it ends, all are stopped"),
        ('image = "x"', "it is about the container"),
        ("port = 80", "write ready = {tcp = 3000}"),
        ('ExecStart = "x"', "gracewrap calls this command (the word comes from systemd)"),
        ('ExecStartPre = "x"', "write it as a program of its own, with oneshot = true"),
        ('ExecReload = "x"', 'signal_map = {HUP = "restart"}'),
        ('ExecStopPost = "x"', "gracewrap calls this post_stop (the word comes from systemd)"),
        ("TimeoutStopSec = 3", "gracewrap calls this stop_timeout"),
        ("TimeoutStartSec = 3", 'write ready_timeout = "60s"'),
        ('Type = "notify"', 'ready = "notify"'),
        ("availability.restart = 1", 'write restart = "on-failure"'),
        ("backoff_seconds = 1", "gracewrap calls this backoff"),
        ("backoff-delay = 1", "gracewrap calls this backoff (the word comes from pebble)"),
        ("shutdown.signal = 15", "write stop_signal"),
        ('ready_log_line = "x"', "gracewrap calls this ready"),
        ('startup = "enabled"', "every program in the file is started"),
        ('on-success = "x"', "gracewrap calls this on_exit (the word comes from pebble)"),
        ("on-failure = 1", "did you mean on_failure?"),
        ("on-check-failure = 1", "write live and on_unhealthy"),
        ('after = ["x"]', "gracewrap calls this depends_on"),
        ('requires = ["x"]', "gracewrap calls this depends_on"),
        ('before = ["x"]', "the other program says it"),
        ('depends-on = ["x"]', "did you mean depends_on?"),
        ("kill-delay = 1", "gracewrap calls this stop_timeout"),
        ('stop_grace_period = "1s"', "gracewrap calls this stop_timeout"),
        ("TimeoutStopSec = 1", "gracewrap calls this stop_timeout"),
        ("healthcheck.test = 1", "gracewrap calls this ready"),
        ("replicas = 2", "for each"),
        ('type = "oneshot"', "oneshot = true"),
        ("RestartSec = 1", "gracewrap calls this backoff (the word comes from systemd)"),
        ('directory = "x"', "calls this working_dir"),
        ("stop_singal = 1", "did you mean stop_signal?"),
        ('drain.url = "x"', "did you mean http in [programs.web.drain]?"),
        ("drain.stop_timeout = 1", "move the line up, above [programs.web.drain]"),
        ("drain = 1", "write [programs.web.drain]"),
        ("drain_tcp = 80", 'write tcp = "..." in [programs.web.drain]'),
        ("qwertz = 1", "no such setting"),
        ('drain.log_line = "x"', "ready"),
    ],
)
def test_words_of_others_in_a_program(key, said, resolve):
    _, errors, _ = resolve(f"{WEB}{key}\n")
    assert len(errors) == 1 and said in errors[0], errors
    assert (
        f"cannot use programs.web.{key.partition(' = ')[0].partition('.')[0]}" in errors[0]
        and "line 3" in errors[0]
    )


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ('[services.web]\ncommand = ["x"]\n', "write [programs.NAME]"),
        ('[program.web]\ncommand = ["x"]\n', "write [programs.NAME]"),
        ("[program:web]\ncommand=x\n", "it is a file of supervisord"),
        (
            "web: node server.js\n",
            'if it is a Procfile: write [programs.web], and below it command = ["node", '
            '"server.js"]',
        ),
        ('priority = 1\ncommand = ["x"]\n', "in [programs.NAME]"),
        ('after = ["x"]\ncommand = ["x"]\n', "depends_on in [programs.NAME]"),
        ("processes:\n", "write each of its processes as [programs.NAME]"),
    ],
)
def test_files_of_others(text, said, resolve):
    _, errors, _ = resolve(text)
    assert said in errors[0], errors


# --- many ----------------------------------------------------------------------------------------


def many(count: int, folder: Path) -> CommandLine:
    """Return the command line for a file of so many programs."""
    rows = [
        'shutdown_timeout = "60s"',
        "[defaults]",
        'stop_timeout = "2s"',
        "[defaults.drain]",
        'tcp = "auto"',
    ]
    for n in range(count):
        rows += [
            f"[programs.p{n}]",
            f'command = ["server", "{n}"]',
            f'ready = "http://127.0.0.1:{n + 1}/"',
        ]
        rows += [
            f'env = {{PORT = "{n}"}}',
            f'depends_on = ["p{n - 1}"]' if n % 10 else 'working_dir = "/"',
        ]
    path = folder / f"{count}.toml"
    path.write_text("\n".join(rows))
    return command_line.read_command_line(["--config", str(path)])


def calls(line: CommandLine) -> int:
    """Return how many functions are called to read that file: not how long it takes, which the
    machine decides."""
    found = 0

    def count(_frame: object, event: str, _arg: object) -> None:
        nonlocal found
        found += event in ("call", "c_call")

    sys.setprofile(count)
    try:
        load.resolve(line, {})
    finally:
        sys.setprofile(None)
    return found


def test_reading_many_programs_does_not_grow_with_their_square(tmp_path):
    few, lots = many(50, tmp_path), many(200, tmp_path)
    calls(few)  # what is imported is imported
    assert calls(lots) < 4.5 * calls(few)


def test_what_is_the_same_for_200_programs_is_not_kept_200_times(tmp_path):
    settings, problems = load.resolve(many(200, tmp_path), {})
    assert problems == [] and settings is not None and len(settings.programs) == 200
    assert (
        max(sys.getsizeof(one.__dict__) + sys.getsizeof(one.origins) for one in settings.programs)
        < 4096
    )
    assert len(settings.programs[199].__dict__) < 30


# --- any order -----------------------------------------------------------------------------------

EDGES = st.lists(st.tuples(st.integers(0, 6), st.integers(0, 6), st.booleans()), max_size=9)


@given(EDGES)
def test_any_order_that_is_none_is_refused_and_no_other(edges):
    edges = [(a, b, depends) for a, b, depends in edges if a != b]
    found = [RawValue("", None, "f", PROGRAMS)]
    for n in range(7):
        place = f"programs.p{n}"
        found += [RawValue("", None, "f", place), RawValue("command", ["x"], "f", place)]
        found.append(
            RawValue(
                "depends_on", [f"p{b}" for a, b, depends in edges if a == n and depends], "f", place
            )
        )
        found.append(
            RawValue(
                "stop_after",
                [f"p{b}" for a, b, depends in edges if a == n and not depends],
                "f",
                place,
            )
        )
    settings, problems = put_together(found, (), (), True)
    after: dict[int, set[int]] = {n: set() for n in range(7)}  # stopped after it
    for a, b, depends in edges:
        after[a if depends else b].add(b if depends else a)
    for _ in range(7):  # reached in any number of steps
        after = {n: later.union(*(after[one] for one in later)) for n, later in after.items()}
    circular = any(n in later for n, later in after.items())
    errors = [problem.text for problem in problems if not problem.warning]
    assert (settings is None) == circular == bool(errors)
    if settings is None:
        assert len(errors) == 1 and "circular dependency" in errors[0]
    else:
        assert stop_order.cycle(policy_of(settings).programs) is None


SCALARS = (
    st.booleans()
    | st.integers(-3, 3)
    | st.text(max_size=5)
    | st.sampled_from(["1s", "web", "ready", "http://h/", "auto"])
)
ANYTHING = st.recursive(
    SCALARS,
    lambda one: (
        st.lists(one, max_size=3)
        | st.dictionaries(st.sampled_from(["web", "http", "x"]), one, max_size=3)
    ),
    max_leaves=4,
)
KEYS = st.sampled_from(
    [
        *(setting.key for setting in TABLE if "." not in setting.key),
        "drain",
        "log",
        "programs",
        "colour",
    ]
)
TREES = st.dictionaries(
    KEYS,
    ANYTHING | st.dictionaries(st.sampled_from(["tcp", "http", "interval", "all"]), ANYTHING),
    max_size=4,
)


@given(
    st.dictionaries(st.sampled_from(["web", "db", "-", "a.b"]), TREES | ANYTHING, max_size=3),
    TREES | ANYTHING,
    TREES,
)
def test_any_file_is_settings_or_problems(tmp_path_factory, programs, defaults, rest):
    file = tmp_path_factory.getbasetemp() / "any.toml"
    file.write_text(tomli_w.dumps({**rest, "programs": programs, "defaults": defaults}))
    settings, problems = load.resolve(command_line.read_command_line(["--config", str(file)]), {})
    assert (settings is None) == any(not problem.warning for problem in problems)
    assert all(problem.text.isprintable() and "line" in problem.text for problem in problems), (
        problems
    )


# --- values --------------------------------------------------------------------------------------

VALUES = [
    (lifecycle.depends_on, ["a", "b", "a"], {"a": "", "b": ""}),
    (lifecycle.depends_on, "a", {"a": ""}),
    (lifecycle.depends_on, {"a": " Ready "}, {"a": "ready"}),
    (lifecycle.depends_on, {"a": {"condition": "started"}}, {"a": "started"}),
    (
        lifecycle.depends_on,
        {"a": {"condition": "ready", "x": 1}},
        "the condition of a must be one of",
    ),
    (lifecycle.depends_on, {"a": "process_healthy"}, 'gracewrap calls process_healthy "ready"'),
    (lifecycle.depends_on, {"a": "SUCCESS"}, 'gracewrap calls SUCCESS "completed"'),
    (lifecycle.depends_on, [1], "not the name of a program"),
    (lifecycle.depends_on, ["a b"], "not the name of a program"),
    (lifecycle.depends_on, 1.5, "not a list"),
    (lifecycle.restart, "On-Failure", "on-failure"),
    (lifecycle.restart, True, 'write "always"'),
    (lifecycle.restart, False, 'write "never"'),
    (lifecycle.restart, "unexpected", 'write "on-failure"'),
    (lifecycle.restart, "alwys", 'did you mean "always"?'),
    (lifecycle.restart, "on-failure:5", 'write restart = "on-failure" and max_restarts = 5'),
    (lifecycle.restart, " On_Failure: 3 ", 'write restart = "on-failure" and max_restarts = 3'),
    (lifecycle.restart, "on-failure:x", 'write restart = "on-failure" and max_restarts = 5'),
    (lifecycle.restart, "on-failure:" + "9" * 5000, "and max_restarts = 5"),
    (lifecycle.restart, "no", 'write "never"'),
    (lifecycle.restart, "exit_on_failure", 'write "never": on_failure = "shutdown" is the default'),
    (lifecycle.restart, {"condition": "on-failure"}, 'is a word; write restart = "on-failure"'),
    (lifecycle.ending, "ignore", "ignore"),
    (lifecycle.ending, "exit", 'write "shutdown"'),
    (lifecycle.max_restarts, "5", 5),
    (lifecycle.max_restarts, -1, "not a number from 1"),
    (lifecycle.max_restarts, True, "not a number from 1"),
    (lifecycle.max_restarts, "9" * 5000, "not a number from 1"),
    (lifecycle.backoff, "2s", BackOff(first=2.0)),
    (lifecycle.backoff, "1m", BackOff(first=60.0, cap=60.0)),
    (
        lifecycle.backoff,
        {"factor": 1, "stable": "0s", "jitter": 0},
        BackOff(factor=1.0, stable=0.0, jitter=0.0),
    ),
    (lifecycle.backoff, {}, BackOff()),
    (lifecycle.backoff, 3, 'has no unit; write "3s"'),
    (lifecycle.backoff, "1ms", "is too short"),
    (lifecycle.backoff, {"jitter": 2}, "jitter: not a part"),
    (lifecycle.backoff, {"cap": "x"}, "cap: not a duration"),
]


@pytest.mark.parametrize(("parse", "raw", "wanted"), VALUES)
def test_values(parse, raw, wanted):
    try:
        assert parse(raw) == wanted
    except BadValue as wrong:
        assert isinstance(wanted, str) and wanted in str(wrong)


@pytest.mark.parametrize(
    ("key", "raw"),
    [
        ("depends_on", {"db": "ready"}),
        ("stop_after", ["web"]),
        ("reserve", "8s"),
        ("oneshot", True),
        ("max_restarts", 5),
        ("backoff", "1s"),
        ("backoff", {"first": "1s", "factor": 3, "cap": "1m", "jitter": 0.5, "stable": "1m"}),
        ("restart", "always"),
        ("output", "json"),
        ("exit_code_from", "web"),
        ("ready", {"log_line": "listening on"}),
        ("ready", {"all": ["tcp", {"exec": ["x"]}], "every": "1s", "failures": 1}),
        ("live", {"exec": ["x"], "every": "5s"}),
        ("live", {"any": [{"exec": ["x"]}, {"tcp": [80]}], "failures": 5}),
        ("ready", {"exec": ["x"], "passes": 3, "timeout": "10s"}),
        ("until", "drained"),
        ("signal_map", {"USR1": "reopen"}),
        ("signal_map", {"HUP": "restart", "USR1": "none", "USR2": "INT"}),
    ],
)
def test_what_is_shown_means_the_same(key, raw):
    parse = BY_KEY[key].parse
    assert parse(as_written(parse(raw), key)) == parse(raw)


# --- a line that says that it is ready -----------------------------------------------------------


def asked(probe: LogLineProbeSpec, state: LogLineState) -> Reading:
    found: list[Reading] = []
    LogLineProbe(probe, state).sample(found.append)
    (reading,) = found
    return reading


def test_a_line_makes_it_ready_once_and_for_all():
    first, second = LogLineProbeSpec(r"listening on \S+:\d+"), LogLineProbeSpec("^ready$")
    state = LogLineState((first, second))
    assert asked(first, state) == Reading(
        BUSY, None, r'no line of its output matches "listening on \S+:\d+" yet'
    )
    assert not state.feed(b"starting") and not state.feed(b"\xff\xfe listening")
    assert state.feed(b"INFO: listening on 0.0.0.0:80 \xff") and state.is_waiting
    assert asked(first, state).kind == DRAINED and asked(second, state).kind == BUSY
    assert not state.feed(b"not ready") and state.feed(b"\x1b[1;32mready\x1b[0m")
    assert asked(second, state).kind == DRAINED and not state.is_waiting
    assert not state.feed(b"ready")
    assert asked(first, LogLineState([first])).kind == BUSY  # of its next start


def test_a_long_line_is_looked_at_up_to_its_limit():
    state = LogLineState([LogLineProbeSpec("end")])
    assert not state.feed(b"x" * MAX_SEARCHED + b"end")
    assert state.feed(b"x" * (MAX_SEARCHED - 3) + b"end")


def test_an_expression_that_is_none_is_an_answer_too():
    probe = LogLineProbeSpec("(")
    state = LogLineState([probe])
    assert not state.feed(b"(") and asked(probe, state).kind == INVALID


def test_a_table_with_a_command_is_meant_to_be_a_program(resolve):
    _, errors, _ = resolve('[web]\ncommand = ["web"]\n[programs.db]\ncommand = ["db"]\n')
    assert errors == [
        "cannot use web (g.toml, line 1): if it is one of several programs, write [programs.web]"
    ]


def test_waiting_for_a_oneshot_whose_failure_is_ignored_is_warned_about(resolve):
    job = '[programs.job]\ncommand = ["job"]\noneshot = true\n'
    text = f'[programs.web]\ncommand = ["web"]\ndepends_on = ["job"]\n{job}'
    _, errors, warnings = resolve(f'{text}on_failure = "ignore"\n')
    assert not errors and warnings == [
        "programs.web.depends_on (g.toml, line 3): if job fails, that is ignored and web waits "
        'forever; write {job = "started"} if it need not have completed'
    ]
    assert resolve(text)[1:] == ([], [])
