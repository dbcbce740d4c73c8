"""Values, sources, checks and lines: what is accepted, what is refused and in which words, and
where it came from."""

from __future__ import annotations

import re
import time
import tomllib

import pytest
import tomli_w
from hypothesis import example, given
from hypothesis import strategies as st

from gracewrap.config import environment, values
from gracewrap.config import problems as problems_
from gracewrap.config.command_line import read_command_line
from gracewrap.config.did_you_mean import (
    unknown_command,
    unknown_key,
    unknown_option,
    unknown_variable,
)
from gracewrap.config.load import resolve
from gracewrap.config.redact import concealed
from gracewrap.config.schema import BY_KEY, TABLE
from gracewrap.config.settings import RESTART, Settings, defaults
from gracewrap.config.toml_errors import explained
from gracewrap.config.toml_lines import Lines
from gracewrap.config.values import BadValue
from gracewrap.linux import signals
from processes import ROOT
from required_options import REQUIRED_OPTIONS

RTMIN, RTMAX = signals.RTMIN, signals.RTMAX
WITH_FLAGS = [setting for setting in TABLE if setting.flag]


def short(raw: object) -> str:
    """Return a name for a test."""
    return getattr(raw, "key", None) or (
        problems_.show(raw)[:30] if isinstance(raw, str | int) else type(raw).__name__
    )


def fault(parse: object, raw: object) -> str:
    with pytest.raises(BadValue) as caught:
        parse(raw)  # type: ignore[operator]
    return str(caught.value)


# --- values --------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("10s", 10),
        ("500ms", 0.5),
        ("1m30s", 90),
        ("1.5h", 5400),
        ("0s", 0),
        ("0", 0),  # the one number that needs no unit
        (0, 0),
        (" 2s ", 2),
        (".5s", 0.5),
        ("1h1m1s1ms", 3661.001),
        ("2m", 120),
        ("720h", 2592000),
    ],
)
def test_durations(text, seconds):
    assert values.duration(text) == pytest.approx(seconds)


@pytest.mark.parametrize(
    ("raw", "said"),
    [
        ("10", 'has no unit; write "10s"'),
        (8000, 'has no unit; write "8000ms", or "8000s" if seconds are meant'),
        (10, 'has no unit; write "10s"'),
        (2.5, 'has no unit; write "2.5s"'),
        ("-5s", "is negative"),
        (-5, "is negative"),
        ("-5", "is negative"),
        ("10 min", 'write "10m" or "600s"'),
        ("10 seconds", 'write "10s"'),
        ("5 S", 'write "5s"'),
        ("1h 30m", 'write "1h30m"'),
        ("1,5s", 'write "1.5s"'),
        ("infinity", "never ends"),
        ("never", "never ends"),
        (-1, "never ends"),
        (float("inf"), "never ends"),
        (float("nan"), "not a duration"),
        ("", "is empty"),
        ("  ", "is empty"),
        ("s", "not a duration"),
        ("1.2.3s", "not a duration"),
        ("10d", "not a duration"),
        ("٣s", "not a duration"),
        ("721h", "longer than 720h"),
        ("9" * 400 + "s", "longer than"),
        (True, "not a duration"),
        ([], "not a duration"),
        (None, "not a duration"),
        (1 << 20000, "not a duration"),
        ("1e3s", "not a"),
    ],
    ids=short,
)
def test_no_durations(raw, said):
    assert said in fault(values.duration, raw)


@given(st.integers(0, int(values.LONGEST * 1000)))
def test_a_printed_duration_parses_back(milliseconds):
    assert values.duration(values.show_duration(milliseconds / 1000)) == pytest.approx(
        milliseconds / 1000
    )


@given(
    st.from_regex(
        r"[+-]?[0-9]{0,4}[.,]?[0-9]{0,2} ?(ms|s|m|h|sec|min|minutes|hours|S|d)?( [0-9]{1,2}m)?",
        fullmatch=True,
    )
)
def test_what_is_proposed_for_a_duration_is_one(text):
    try:
        values.duration(text)
    except BadValue as wrong:
        for proposed in re.findall(r'"([^"]*)"', str(wrong)):
            total = (
                values.duration(proposed) if len(proposed) < 5 else 1
            )  # of a longer one, no more than its form is looked at
            assert total >= 0 and values._total(proposed) is not None


@pytest.mark.parametrize(
    ("raw", "signum"),
    [
        ("TERM", 15),
        ("SIGTERM", 15),
        ("sigterm", 15),
        (" term ", 15),
        ("15", 15),
        (15, 15),
        ("RTMIN", RTMIN),
        ("RTMIN+2", RTMIN + 2),
        ("SIGRTMIN+0", RTMIN),
        ("RTMAX", RTMAX),
        ("RTMAX-1", RTMAX - 1),
        ("IOT", 6),
        ("CLD", 17),
        ("KILL", 9),
    ],
)
def test_signals(raw, signum):
    assert values.signal(raw) == signum


@pytest.mark.parametrize(
    "raw",
    [
        "",
        "TEM",
        "SIG",
        "0",
        0,
        -1,
        "65",
        99,
        "RTMIN+99",
        "RTMAX+1",
        "RTMIN-1",
        "RTMIN+",
        "9" * 5000,
        1 << 20000,
        "٣",
        True,
        1.5,
        None,
    ],
    ids=short,
)
def test_no_signals(raw):
    assert "signal" in fault(values.signal, raw)


@given(st.sampled_from(sorted(signals.BLOCKABLE | {9, 19})))
def test_a_printed_signal_parses_back(signum):
    assert values.signal(signals.name(signum)) == signum


def test_a_slip_in_a_signal_gets_a_proposal():
    assert fault(values.signal, "TREM") == 'no such signal; did you mean "TERM"?'
    assert fault(values.signal, "SIGHUPP") == 'no such signal; did you mean "HUP"?'


EXAMPLES = [
    (values.stop_signal, "QUIT", 3),
    (values.stop_signal, "KILL", 9),
    (values.stop_signal, "STOP", "ends no program"),
    (values.stop_signal, "CONT", "ends no program"),
    (values.stop_signal, "CHLD", "ends no program"),
    (values.request_signals, "TERM, INT", {15, 2}),
    (values.request_signals, ["TERM", 2], {15, 2}),
    (values.request_signals, 15, {15}),
    (values.request_signals, "KILL", "SIGKILL cannot be caught"),
    (values.request_signals, ["STOP"], "SIGSTOP cannot be caught"),
    (values.request_signals, "CHLD", "SIGCHLD says that a child changed"),
    (values.request_signals, "", "is empty"),
    (values.request_signals, [], "is empty"),
    (values.request_signals, {"TERM": 1}, "not a list"),
    (values.request_signals, True, "not a list"),
    (values.signal_map, "HUP=QUIT,USR1=none", {1: 3, 10: 0}),
    (values.signal_map, {"HUP": "QUIT", "USR1": "none", "USR2": 0}, {1: 3, 10: 0, 12: 0}),
    (values.signal_map, "", {}),
    (values.signal_map, "HUP=restart", {1: RESTART}),
    (values.signal_map, "HUP:QUIT", "write HUP=QUIT"),
    (values.signal_map, "HUP:USR1", "write HUP=USR1"),
    (values.signal_map, "HUP", "write HUP=QUIT"),
    (values.signal_map, "KILL=TERM", "SIGKILL is never forwarded"),
    (values.signal_map, "HUP=QIUT", 'did you mean "QUIT"?'),
    (values.signal_map, {"HUP": False}, "not a signal"),
    (values.signal_map, 3.5, "not a list"),
    (values.escalation, "10s=INT,15s=QUIT", ((10.0, 2), (15.0, 3))),
    (values.escalation, [{"after": "10s", "signal": "INT"}], ((10.0, 2),)),
    (values.escalation, [], ()),
    (values.escalation, "10s=INT,5s=QUIT", "its times must increase"),
    (values.escalation, "10s", "write 10s=INT"),
    (values.escalation, "10=INT", 'has no unit; write "10s"'),
    (values.escalation, "INT=3s", "the wrong way round; write 3s=INT"),
    (values.escalation, "3s:INT", "write 3s=INT"),
    (values.escalation, [{"after": "10s"}], "needs after and signal"),
    (values.escalation, [{"after": "10s", "signal": "INT", "then": 1}], "needs after and signal"),
    (values.escalation, "10s=STOP", "ends no program"),
    (values.escalation, [["10s", "INT"]], "write 10s=INT"),
    (values.success_codes, "143,INT", {143, 130}),
    (values.success_codes, [143, "INT", "0"], {143, 130, 0}),
    (values.success_codes, 143, {143}),
    (values.success_codes, "256", "from 0 to 255"),
    (values.success_codes, [-1], "from 0 to 255"),
    (values.success_codes, ["9" * 5000], "from 0 to 255"),
    (values.success_codes, [True], "not a signal"),
    (values.success_codes, [1.0], "not a signal"),
    (values.success_codes, [[1]], "not a signal"),
    (values.command, ["a", ""], ("a", "")),
    (values.command, "gunicorn -b ':80 x' app", 'write ["gunicorn", "-b", ":80 x", "app"]'),
    (values.command, "node server.js | tee log", 'split it; write ["node", "server.js"], or ["sh"'),
    (values.command, "it's", 'or ["sh"'),
    (values.command, [], "is empty"),
    (values.command, ["a", 1], "not a list of strings"),
    (values.command, {"a": 1}, "not a list of strings"),
    (values.command, ["a\0b"], "NUL"),
    (values.path, "", None),
    (values.path, "/a b", "/a b"),
    (values.path, "a\0", "NUL"),
    (values.path, 3, "not a path"),
    (BY_KEY["kill_mode"].parse, " Group ", "group"),
    (
        BY_KEY["kill_mode"].parse,
        "gruop",
        'must be one of mixed, group, process; did you mean "group"?',
    ),
    (BY_KEY["kill_mode"].parse, True, "must be one of"),
    (BY_KEY["kill_mode"].parse, [], "must be one of"),
]


@pytest.mark.parametrize(("parse", "raw", "wanted"), EXAMPLES, ids=short)
def test_examples(parse, raw, wanted):
    try:
        assert parse(raw) == wanted
    except BadValue as wrong:
        assert isinstance(wanted, str) and wanted in str(wrong)


def test_a_relative_path_is_one_from_where_we_were_started(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert values.path("a/b") == f"{tmp_path}/a/b"
    assert values.path("./b") == f"{tmp_path}/b"


TOML_SCALARS = (
    st.none()
    | st.booleans()
    | st.integers()
    | st.just(1 << 80)
    | st.floats()
    | st.text()
    | st.dates()
)
TOML_VALUES = st.recursive(
    TOML_SCALARS,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=6,
)
NEARLY = st.text("0123456789.,=+- ;:smhTERMINSIGQUITKILLnone{}[]\"'\n\0٣ß", max_size=20)


@pytest.mark.parametrize("setting", TABLE, ids=short)
@given(raw=TOML_VALUES | NEARLY)
def test_anything_is_a_value_or_refused_in_one_line(setting, raw):
    try:
        setting.parse(raw)
    except BadValue as wrong:
        text = problems_.one_line(f"{problems_.show(raw)}: {wrong}")
        assert str(wrong) and text.isprintable()


# --- sources -------------------------------------------------------------------------------------

COMMAND = ("--", "true")


def by_flag(setting, text):
    return resolve(read_command_line([f"{setting.option}={text}", *COMMAND]), {})


def by_variable(setting, text, *more):
    return resolve(
        read_command_line([*more, *COMMAND]),
        {setting.variable.encode(): text.encode(errors="surrogateescape")},
    )


def by_file(setting, raw, directory, *more):
    table, _, name = setting.key.rpartition(".")
    text = tomli_w.dumps({table: {name: raw}} if table else {name: raw})
    file = directory / "g.toml"
    file.write_text(f"# first line\n\n{text}")
    settings, problems = resolve(read_command_line(["--config", str(file), *more, *COMMAND]), {})
    return settings, problems, f"{file}, line {4 if table and not isinstance(raw, dict) else 3}"


BAD = {
    "shutdown_timeout": ["10 min", "10", "-1s", "", "x\ny"],
    "stop_on": ["KILL", "TREM", ""],
    "stop_signal": ["STOP", "FOO"],
    "reload_signal": ["FOO"],
    "dump_signal": ["KILL", "CONT", "FOO"],
    "stop_timeout": ["soon"],
    "escalation": ["10s", "5s=INT,5s=INT", "1=INT"],
    "kill_mode": ["tree"],
    "signal_map": ["HUP:QUIT", "KILL=INT"],
    "success_exit_codes": ["300", "WHAT"],
    "on_repeat": ["explode"],
    "flush_timeout": ["1"],
    "parent_death_signal": ["DEATH"],
    "log.format": ["xml"],
    "log.level": ["verbose"],
    "log.time": ["x"],
    "log.file": [],
    "report.file": [],
    "report.termination_log": [],
    "user": ["", "a:b", "-1", "--0", "-x", "4294967295", "a b"],
    "group": ["x:y"],
    "supplementary_groups": ["video,-1"],
    "preset": ["ngnix", ""],
    "working_dir": [""],
    "env": ["PORT", "=x", "A B=x"],
    "env_file": [],
    "clear_env": ["x"],
    "umask": ["22x", "1777", "9", ""],
    "rlimits": ["nofile", "nofiles=1", "nofile=x", "nofile=2:1", "core=unlimited:1"],
    "nice": ["20", "-21", "x"],
    "stdin": ["tty"],
    "propagation_delay": ["5"],
    "pre_stop": ["a && b", "", "ftp://x/"],
    "post_stop": ["'"],
    "ready": ["soon", "http:///x"],
    "ready_timeout": ["0s", "5"],
    "live": ["soon", "notify"],
    "on_unhealthy": ["kill"],
    "agent": ["nodejs", "deno"],
    "notify": ["maybe"],
    "watchdog": ["0s"],
    "on_watchdog": ["restart"],
    "restart": ["no", "unless-stopped", "onfailure"],
    "backoff": ["1", "0s", ""],
    "max_restarts": ["0", "-1", "x"],
    "on_exit": ["stop", "restrat"],
    "on_failure": ["exit"],
    "output": ["log"],
    "exit_code_from": ["a b", ".x", ""],
    "drain.when": ["later"],
    "drain.start": ["http://u:p@h/"],
    "drain.http": ["localhost:3000/x", "http://a b/", ""],
    "drain.method": ["G"],
    "drain.headers": ["Accept", "Content-Length: 1"],
    "drain.ca": [""],
    "drain.insecure": ["x"],
    "drain.status": ["600", "ok"],
    "drain.json": ["active.jobs"],
    "drain.metric": ["a b", "a{b}"],
    "drain.text": ["(", "(a+)+"],
    "drain.equals": [],
    "drain.at_most": ["few", "inf"],
    "drain.absent": ["x"],
    "drain.on_refused": ["x"],
    "drain.tcp": ["0", "auto,1", ""],
    "drain.mode": ["iddle"],
    "drain.quiet": ["2"],
    "drain.outgoing": ["ignore"],
    "drain.streams": ["end"],
    "drain.exec": ["a|b", ""],
    "drain.file": [""],
    "drain.file_is": ["x"],
    "drain.contains": [""],
    "drain.notify": ["x"],
    "drain.agent": ["x"],
    "drain.unit": [""],
    "drain.interval": ["9ms", "1"],
    "drain.probe_timeout": ["0s"],
    "drain.timeout": ["x"],
    "drain.min_drain": ["x"],
    "drain.confirm": ["0", "101"],
    "drain.linger": ["never"],
    "health.listen": ["localhost:9000", "1:2:3", "x"],
    "health.on_stop": ["404"],
    "control.socket": ["", "/a/"],
    "report.prometheus_textfile": [],
    "report.pushgateway": ["unix:///x", "http://h/metrics"],
    "report.pushgateway_job": ["a/b"],
}


@pytest.mark.parametrize(
    ("setting", "text"),
    [(s, text) for s in WITH_FLAGS for text in BAD[s.key] if text],  # an empty variable is not set
    ids=short,
)
def test_one_fault_has_one_text_wherever_it_came_from(setting, text, tmp_path):
    flag, variable, (settings, problems, origin) = (
        by_flag(setting, text),
        by_variable(setting, text),
        by_file(setting, text, tmp_path),
    )
    texts = []
    for problem, where in (
        (flag[1][0], f"command line, {setting.option}"),
        (variable[1][0], f"environment, {setting.variable}"),
        (problems[0], origin),
    ):
        assert f" ({where}): " in problem.text
        texts.append(problem.text.replace(where, "HERE"))
        assert "u:p@" not in problem.text
    assert flag[0] is variable[0] is settings is None
    assert len(set(texts)) == 1
    assert texts[0].startswith(f"cannot use {setting.key} = ")
    assert texts[0].isprintable()


@pytest.mark.parametrize("setting", [s for s in WITH_FLAGS if "" in BAD[s.key]], ids=short)
def test_an_empty_value_is_a_fault_in_a_flag_and_in_a_file_and_nothing_in_a_variable(
    setting, tmp_path
):
    settings, problems, origin = by_file(setting, "", tmp_path)
    flag = by_flag(setting, "")
    assert settings is flag[0] is None
    assert problems[0].text.replace(origin, "X") == flag[1][0].text.replace(
        f"command line, {setting.option}", "X"
    )
    variable, nothing = by_variable(setting, "")
    assert nothing == [] and setting.key not in variable.origins


IN_A_FLAG = {
    "env": "PORT=3,000",
    "drain.headers": "Accept: text/plain\nX-A: b",
    "pre_stop": "./deregister --all",
    "post_stop": "./report 'a b'",
}


def shown(raw: object) -> str:
    """Return a value of the table as it would be written in a flag."""
    if isinstance(raw, list):
        return ",".join(
            shown(one) if not isinstance(one, dict) else f"{one['after']}={one['signal']}"
            for one in raw
        )
    return ",".join(f"{a}={b}" for a, b in raw.items()) if isinstance(raw, dict) else str(raw)


# exit_code_from needs programs: tests/config/test_programs.py has it.
@pytest.mark.parametrize(
    "setting", [one for one in WITH_FLAGS if one.key != "exit_code_from"], ids=short
)
def test_precedence_and_origins(setting, tmp_path):
    raw = setting.example if setting.example is not None else setting.default
    raw = True if setting.switch else raw
    wanted, more = setting.parse(raw), REQUIRED_OPTIONS.get(setting.key, ())
    settings, problems, origin = by_file(setting, raw, tmp_path, *more)
    assert (
        problems == []
        and getattr(settings, setting.field) == wanted
        and settings.origins[setting.key] == origin
    )
    text = IN_A_FLAG.get(setting.key) or (
        " ".join(raw) if setting.key == "drain.exec" else shown(raw)
    )
    wanted = setting.parse(text) if setting.key in IN_A_FLAG else wanted
    text = text if not setting.switch else "true"
    variable, problems = by_variable(setting, text, *more)
    assert problems == [] and getattr(variable, setting.field) == wanted
    assert variable.origins[setting.key] == f"environment, {setting.variable}"
    said = [one for one in variable.origins.values() if not one.startswith("preset ")]
    assert len(said) == 2 + len(more) // 2 and variable.origins["command"] == "command line"
    for name in (setting.option, *setting.aliases):
        flag, problems = resolve(read_command_line([*more, name, text, *COMMAND]), {})
        assert (
            problems == []
            and getattr(flag, setting.field) == wanted
            and flag.origins[setting.key] == f"command line, {name}"
        )
    nothing, problems = resolve(read_command_line(COMMAND), {})
    assert (
        problems == []
        and getattr(nothing, setting.field) == setting.initial()
        and setting.key not in nothing.origins
    )


@pytest.mark.parametrize(
    "setting", [setting for setting in WITH_FLAGS if setting.aliases], ids=short
)
def test_what_is_a_flag_by_another_name_is_a_variable_too(setting):
    for name in setting.more_variables:
        settings, problems = resolve(read_command_line(COMMAND), {name.encode(): b"/x"})
        assert problems == [] and getattr(settings, setting.field) == "/x"
        assert settings.origins[setting.key] == f"environment, {name}"
        both = {name.encode(): b"/x", setting.variable.encode(): b"/y"}
        for env in (both, dict(reversed(both.items()))):
            assert getattr(resolve(read_command_line(COMMAND), env)[0], setting.field) == "/y"


def test_flag_over_variable_over_file(tmp_path):
    (tmp_path / "g.toml").write_text('shutdown_timeout = "11s"\n')
    file, env = ["--config", str(tmp_path / "g.toml")], {b"GRACEWRAP_SHUTDOWN_TIMEOUT": b"12s"}
    assert resolve(read_command_line([*file, *COMMAND]), {})[0].shutdown_timeout == 11
    assert resolve(read_command_line([*file, *COMMAND]), env)[0].shutdown_timeout == 12
    settings, _ = resolve(read_command_line([*file, "--shutdown-timeout", "13s", *COMMAND]), env)
    assert settings.shutdown_timeout == 13
    assert settings.origins["shutdown_timeout"] == "command line, --shutdown-timeout"


def test_every_setting_is_a_field_and_has_its_own_names():
    fields = sorted(
        name
        for name in Settings.__match_args__
        if name not in ("origins", "drain", "name", "programs")
    )
    assert sorted(setting.field for setting in TABLE) == fields
    options = [name for setting in WITH_FLAGS for name in (setting.option, *setting.aliases)]
    assert len(options) == len(set(options))
    for setting in TABLE:
        assert setting.help.endswith("."), setting.key
        for raw in (setting.default, setting.example):
            assert raw is None or setting.parse(raw) is not None, setting.key


def test_the_defaults_need_no_table():
    """Settings has them as defaults of its own; with one further setting given, the rest comes from
    the tables."""
    plain = defaults(["true"])
    given, problems = resolve(read_command_line(["--propagation-delay=0s", *COMMAND]), {})
    assert problems == [] and given is not None
    for name in Settings.__match_args__:
        assert name == "origins" or getattr(plain, name) == getattr(given, name), name


@pytest.mark.parametrize("name", sorted(environment.HOOK_VARIABLES))
def test_what_hooks_are_told_is_nothing_to_a_run_within_one(name):
    assert resolve(read_command_line(COMMAND), {name.encode(): b"x"})[1] == []


@pytest.mark.parametrize(
    ("words", "notify", "command"),
    [
        (["--notify", "--", "x"], True, ("x",)),
        (["--notify", "node", "x"], True, ("node", "x")),
        (["--notify", "true"], True, ("true",)),
        (["--notify", "true", "x"], True, ("x",)),
        (["--notify", "false", "--", "x"], False, ("x",)),
        (["--notify=no", "x"], False, ("x",)),
        (["--notify", "--log-level", "debug", "x"], True, ("x",)),
    ],
)
def test_yes_or_no_needs_no_value(words, notify, command):
    settings, problems = resolve(read_command_line(words), {})
    assert (
        problems == []
        and settings is not None
        and (settings.notify, settings.command) == (notify, command)
    )


def test_what_is_secret_is_not_in_a_problem():
    header = {"Authorization": "Bearer secret", "X": {"env": "E", "prefix": "secret"}}
    for key, raw in {
        "drain.headers": header,
        "drain.all": [{"http": "http://secret@h/", "headers": header}],
        "pre_stop": {"http": "https://x:secret@h/", "headers": header},
        "drain.http": "http://user:secret@host/x",
    }.items():
        assert "secret" not in problems_.show(concealed(key, raw))
    (text,) = problem_texts(["--drain-headers", "Authorisation secret\nX", *COMMAND])
    assert "secret" not in text or "Authorisation secret" in text


def test_a_repeated_list_adds_up_and_a_repeated_value_is_replaced():
    words = [
        "--stop-on",
        "TERM",
        "--stop-on=USR1",
        "--escalation",
        "1s=INT",
        "--escalation",
        "2s=QUIT",
        "--stop-timeout",
        "3s",
    ]
    settings, problems = resolve(
        read_command_line([*words, "--stop-timeout", "4s", "--signal-map=HUP=QUIT", *COMMAND]), {}
    )
    assert problems == []
    assert settings.stop_on == {15, 10}
    assert settings.escalation == ((1.0, 2), (2.0, 3))
    assert settings.stop_timeout == 4
    settings, problems = resolve(
        read_command_line(["--escalation", "2s=INT", "--escalation", "1s=QUIT", *COMMAND]), {}
    )
    assert settings is None and "times must increase" in problems[0].text


@pytest.mark.parametrize(
    ("words", "command"),
    [
        (["true"], ("true",)),
        (["--", "true"], ("true",)),
        (["--stop-timeout", "1s", "sleep", "--", "-h"], ("sleep", "--", "-h")),
        (["--", "check"], ("check",)),
        (["--", "--", "x"], ("--", "x")),
        (["-"], ("-",)),
        (["--", "x", "--help"], ("x", "--help")),
    ],
)
def test_where_the_command_starts(words, command):
    line = read_command_line(words)
    assert (line.action, line.command, line.problems) == ("run", command, ())


@pytest.mark.parametrize(
    ("words", "action"),
    [(["-h"], "help"), (["--help"], "help"), (["help"], "help"), (["-V"], "version"),
     (["--stop-timeout", "1s", "--version"], "version"),
     (["check"], "check"), (["--config", "x", "check", "y"], "check"), (["init", "-"], "init")],
)  # fmt: skip
def test_actions(words, action):
    assert read_command_line(words).action == action


@pytest.mark.parametrize(
    ("words", "rest"), [(["status"], ()), (["drain", "--wait", "--", "-h"], ("--wait", "--", "-h"))]
)
def test_what_follows_a_subcommand_is_its_own(words, rest):
    line = read_command_line(["--config", "x", *words])
    assert (line.action, line.command, line.problems) == (words[0], rest, ())


def problem_texts(words, env=None):
    settings, problems = resolve(
        read_command_line(words), {k.encode(): v.encode() for k, v in (env or {}).items()}
    )
    assert (settings is None) == any(not problem.warning for problem in problems)
    return [problem.text for problem in problems]


def test_cross_checks():
    (text,) = problem_texts(["--stop-timeout", "30s", *COMMAND])
    assert (
        'stop_timeout = "30s" (command line, --stop-timeout)' in text
        and 'shutdown_timeout = "25s" (default)' in text
    )
    (text,) = problem_texts(
        COMMAND, {"GRACEWRAP_STOP_TIMEOUT": "9s", "GRACEWRAP_SHUTDOWN_TIMEOUT": "8s"}
    )
    assert (
        "environment, GRACEWRAP_STOP_TIMEOUT" in text
        and "environment, GRACEWRAP_SHUTDOWN_TIMEOUT" in text
    )
    assert problem_texts(["--stop-timeout", "25s", *COMMAND]) == []
    (text,) = problem_texts(["--escalation", "25s=INT", *COMMAND])
    assert (
        "the step at 25s is never reached" in text and 'shutdown_timeout = "25s", default' in text
    )
    (text,) = problem_texts(["--escalation", "6s=INT", "--stop-timeout", "5s", *COMMAND])
    assert 'stop_timeout = "5s", command line, --stop-timeout' in text
    (text,) = problem_texts(["--signal-map", "TERM=QUIT,INT=none,HUP=INT", *COMMAND])
    assert text.startswith("cannot use signal_map for INT, TERM (command line, --signal-map): ")
    assert problem_texts(["--signal-map", "TERM=QUIT", "--stop-on", "INT", *COMMAND]) == []


def test_an_unusable_value_does_not_cause_a_second_problem():
    (text,) = problem_texts(
        ["--shutdown-timeout", "60", "--stop-timeout", "50s", "--escalation", "40s=INT", *COMMAND]
    )
    assert "shutdown_timeout" in text


def test_all_problems_at_once(tmp_path):
    (tmp_path / "g.toml").write_text('flush_timeout = 1\ncolour = "red"\n')
    words = [
        "--config",
        str(tmp_path / "g.toml"),
        "--stop-timeout",
        "x",
        "--stop-signal",
        "FOO",
        *COMMAND,
    ]
    assert (
        len(problem_texts(words, {"GRACEWRAP_KILL_MODE": "tree", "GRACEWRAP_STOP_TIMOUT": "1s"}))
        == 6
    )


@given(
    st.lists(
        st.text(max_size=12)
        | st.sampled_from([*(s.option for s in WITH_FLAGS), "--", "-c", "check", "1s", "-g"]),
        max_size=5,
    )
)
def test_any_words_are_settings_or_problems(words):
    words = [word.replace("\0", "") for word in words]
    line = read_command_line(words)
    if line.action == "run" and line.config is None:
        settings, problems = resolve(line, {})
        assert (settings is None) == any(not problem.warning for problem in problems)
        assert all(problem.text.isprintable() for problem in problems)


@given(
    st.dictionaries(
        st.binary(max_size=12) | st.sampled_from([b"STOP_ON", b"STOP_TIMEOUT", b"PORT"]),
        st.binary(max_size=12),
        max_size=4,
    )
)
def test_any_environment_is_settings_or_problems(env):
    settings, problems = resolve(
        read_command_line(COMMAND),
        {b"GRACEWRAP_" + name: value for name, value in env.items() if name.upper() != b"CONFIG"},
    )
    assert (settings is None) == any(not problem.warning for problem in problems)
    assert all(problem.text.isprintable() for problem in problems)


LINKS = [
    "GRACEWRAP_SERVICE_HOST",
    "GRACEWRAP_SERVICE_PORT",
    "GRACEWRAP_SERVICE_PORT_HTTP",
    "GRACEWRAP_PORT",
    "GRACEWRAP_PORT_80_TCP",
    "GRACEWRAP_PORT_80_TCP_ADDR",
    "GRACEWRAP_PORT_80_TCP_PORT",
    "GRACEWRAP_PORT_80_TCP_PROTO",
    "GRACEWRAP_PORT_53_UDP",
    "GRACEWRAP_STOP_SERVICE_HOST",
]


@pytest.mark.parametrize("name", LINKS)
def test_service_links_of_kubernetes_are_nothing_to_us(name):
    assert problem_texts(COMMAND, {name: "tcp://10.0.0.1:80"}) == []


def test_slips_in_variables_are_errors_and_strangers_are_warnings():
    (text,) = problem_texts(COMMAND, {"GRACEWRAP_STOP_TIMOUT": "1s"})
    assert (
        text == "cannot use GRACEWRAP_STOP_TIMOUT (environment): no such setting; did you mean "
        "GRACEWRAP_STOP_TIMEOUT?"
    )
    settings, problems = resolve(read_command_line(COMMAND), {b"GRACEWRAP_XYZZY": b"1"})
    assert settings is not None and [problem.warning for problem in problems] == [True]
    for name in (
        "GRACEWRAP_BASE_IMAGE",
        "GRACEWRAP_DIR",
        "GRACEWRAP_ENVIRONMENT",
        "GRACEWRAP_TYPE",
    ):
        assert problem_texts(COMMAND, {name: "x"}) == [
            f"{name} is not a gracewrap setting; ignored"
        ]


# --- words of others -----------------------------------------------------------------------------

FOREIGN = [
    ("stopwaitsecs", "stop_timeout"),
    ("kill-delay", "stop_timeout"),
    ("stop_grace_period", "shutdown_timeout"),
    ("terminationGracePeriodSeconds", "shutdown_timeout"),
    ("TimeoutStopSec", "shutdown_timeout"),
    ("graceful_timeout", "stop_timeout"),
    ("stopsignal", "stop_signal"),
    ("KillSignal", "stop_signal"),
    ("loglevel", "log.level"),
    ("kill_timeout", "shutdown_timeout"),
    ("requestAcceptGraceTimeout", "propagation_delay"),
    ("shutdown_delay", "propagation_delay"),
    ("shutdownDelay", "propagation_delay"),
    ("terminationDrainDuration", "propagation_delay"),
    ("beforeShutdown", "propagation_delay"),
    ("timeout-per-shutdown-phase", "shutdown_timeout"),
    ("HEALTHCHECK", "health.listen"),
    ("readinessProbe", "ready"),
    ("preStop", "pre_stop"),
    ("ExecStop", "pre_stop"),
    ("ExecStopPost", "post_stop"),
    ("autorestart", "restart"),
    ("RestartSec", "backoff"),
    ("startretries", "max_restarts"),
    ("on-success", "on_exit"),
    ("poststop", "post_stop"),
    ("LimitNPROC", "rlimits"),
    ("EnvironmentFile", "env_file"),
    ("runAsUser", "user"),
    ("finish", "post_stop"),
]


@pytest.mark.parametrize(("word", "key"), FOREIGN)
def test_words_of_other_supervisors(word, key):
    setting = BY_KEY[key]
    table, _, last = key.rpartition(".")
    here = f"{last} in [{table}] (" if table else f"gracewrap calls this {last} ("
    here = 'write level = "..." in [log]' if word == "loglevel" else here
    assert here in unknown_key((word,), BY_KEY)
    flag = "--" + word.replace("_", "-")
    assert f"gracewrap calls this {setting.option}" in unknown_option(
        flag, [s.option for s in WITH_FLAGS]
    )
    text = unknown_variable(
        "GRACEWRAP_" + word.replace("-", "_").upper(), [s.variable for s in WITH_FLAGS]
    )
    assert f"gracewrap calls this {setting.variable}" in text


@pytest.mark.parametrize("word", ["grace_period", "timeout", "loglevel", "exec", "signal"])
def test_a_word_of_nobody_in_particular_is_not_said_to_be_of_somebody(word):
    for said in (
        unknown_key((word,), BY_KEY),
        unknown_option(f"--{word}", []),
        unknown_variable(f"GRACEWRAP_{word.upper()}", []),
    ):
        assert said and "word of" not in said and "no such" not in said


@pytest.mark.parametrize(
    ("word", "said"),
    [
        ("autostart", "every program in the file is started"),
        ("priority", "write depends_on"),
        ("numprocs", "for each"),
        ("availability", 'write restart = "on-failure"'),
        ("startsecs", "stable"),
        ("exitcodes", "0 is a success"),
        ("stop_exit_codes", "0 is a success"),  # pm2's: not what success_exit_codes is
        ("max_memory_restart", "where the container is described"),
        ("cron_restart", "by the clock"),
        ("watch", "no file is watched"),
        ("listen_timeout", "write ready_timeout"),
        ("wait_ready", "READY=1"),
        ("notification-fd", "READY=1"),
        ("start-delay", "write depends_on"),
        ("die-if-failed", "stops all"),
        ("termination", "write stop_signal and stop_timeout"),
        ("failure", "write on_failure"),
        ("healthiness", "write ready and live"),
        ("keep-env", "all variables are inherited"),
        ("stdout_logfile", "own output"),
        ("image", "about the container"),
        ("ExecStartPre", "oneshot = true"),
    ],
)
def test_what_gracewrap_does_not_do_and_who_does(word, said):
    assert said in unknown_key((word,), BY_KEY)
    assert said in unknown_option("--" + word.replace("_", "-"), [s.option for s in WITH_FLAGS])


@pytest.mark.parametrize("word", ["stopasgroup", "killasgroup", "stop_children"])
def test_yes_or_no_of_others_is_a_mode_here(word):
    assert unknown_key((word,), BY_KEY) == 'write kill_mode = "group"'
    assert unknown_option(f"--{word}", []) == "write --kill-mode group"
    assert unknown_variable(f"GRACEWRAP_{word.upper()}", []) == "write GRACEWRAP_KILL_MODE=group"


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--rewrite", "15:3"], "write --stop-signal QUIT"),
        (["--rewrite=INT:QUIT"], "write --stop-signal QUIT"),
        (["-r15:3"], "write --stop-signal QUIT"),
        (["-r", "1:10"], "write --signal-map HUP=USR1"),
        (["--rewrite", "USR1:0"], "write --signal-map USR1=none"),
        (["--rewrite", "15:0"], "is --signal-map HUP=QUIT"),
        (["--rewrite", "x"], "is --signal-map HUP=QUIT"),
        (["--rewrite"], "is --signal-map HUP=QUIT"),
    ],
)
def test_a_rewrite_of_dumb_init_in_the_users_own_signals(words, said):
    (text,) = problem_texts([*words, *COMMAND])
    assert said in text


@pytest.mark.parametrize(
    ("word", "said"),
    [
        ("chek", "; did you mean gracewrap check?"),
        ("chekc", "; did you mean gracewrap check?"),
        ("innit", "; did you mean gracewrap init?"),
        ("tini", ""),
        ("./chek", ""),
        ("node", ""),
        ("", ""),
        ("x" * 100000, ""),
        (
            "--stop-timeout",
            "; it comes after --, so it is taken as the command; options go before the --, or "
            "use the variable "
            "GRACEWRAP_STOP_TIMEOUT",
        ),
        (
            "--report=/x",
            "; it comes after --, so it is taken as the command; options go before the --, or use "
            "the variable "
            "GRACEWRAP_REPORT_FILE",
        ),
        (
            "--config",
            "; it comes after --, so it is taken as the command; options go before the --, or use "
            "the variable GRACEWRAP_CONFIG",
        ),
        ("heath", "; did you mean gracewrap health?"),
        ("strat", ""),
        (
            "start",
            "; there is no gracewrap start: to start what gracewrap.toml defines use gracewrap "
            "run; to start a stopped program again, gracewrap restart NAME",
        ),
        (
            "up",
            "; there is no gracewrap up: to start what gracewrap.toml defines use gracewrap run",
        ),
        (
            "logs",
            "; there is no gracewrap logs: the output of programs goes to gracewrap's own stdout "
            "and stderr, so read it there: docker logs, kubectl logs, journalctl",
        ),
        ("version", "; there is no gracewrap version: use gracewrap --version"),
        (
            "exec",
            "; there is no gracewrap exec: to run a command use gracewrap run -- COMMAND; to "
            "start what gracewrap.toml defines use gracewrap run",
        ),
        ("ps", "; there is no gracewrap ps: use gracewrap status"),
        ("down", "; there is no gracewrap down: use gracewrap stop"),
        (
            "no/where.toml",
            "; a settings file goes after --config, and this one does not exist: "
            "gracewrap init no/where.toml "
            "writes one",
        ),
        ("--what", "; it comes after --, so it is taken as the command; options go before the --"),
    ],
)
def test_a_command_that_was_not_found(word, said):
    assert unknown_command(word) == said


def test_a_command_that_was_not_found_and_its_words(tmp_path):
    assert "use gracewrap run -- node 'my server.js'; to start" in unknown_command(
        "exec", "node", "my server.js"
    )
    (tmp_path / "my web.toml").touch()
    said = unknown_command(str(tmp_path / "my web.toml"))
    assert said == f"; it is a settings file: use gracewrap --config '{tmp_path}/my web.toml'"


@pytest.mark.parametrize(
    ("keys", "said"),
    [
        (("stop_singal",), "did you mean stop_signal?"),
        (("level",), "did you mean level in [log]?"),
        (("file",), "did you mean file in [drain] or file in [log] or file in [report]?"),
        (("log", "leveel"), "did you mean level in [log]?"),
        (("drain", "url"), "did you mean http in [drain]?"),
        (("drain", "command"), "did you mean exec in [drain]?"),
        (("drain", "intervall"), "did you mean interval in [drain]?"),
        (("drain", "qwertz"), "[drain] has when, start"),
        (("drain", "stop_timeout"), "move the line up"),
        (("health", "port"), "did you mean listen in [health]?"),
        (("drain",), "it is a table; write [drain]"),
        (("preStop",), "gracewrap calls this pre_stop (the word comes from Kubernetes)"),
        (("http",), "did you mean http in [drain]?"),
        (("drain_tcp",), 'write tcp = "..." in [drain]'),
        (("drain", "signal_map"), "move the line up"),
        (("drian",), "did you mean the table [drain]?"),
        (("loog",), "did you mean the table [log]?"),
        (("log",), "it is a table; write [log]"),
        (("log", "stop_signal"), "move the line up"),
        (("qwertz",), "gracewrap init lists them"),
        (("cmd",), "gracewrap calls this command"),
        (("signal",), "did you mean stop_signal?"),
        (("log_level",), 'write level = "..." in [log]'),
        (("report_file",), 'write file = "..." in [report]'),
    ],
)
def test_unknown_keys(keys, said):
    assert said in unknown_key(keys, BY_KEY)


@pytest.mark.parametrize(
    "option",
    [
        "-g",
        "-s",
        "-v",
        "-vvv",
        "-e",
        "-p",
        "-r",
        "-w",
        "-q",
        "--single-child",
        "--rewrite",
        "--verbose",
    ],
)
def test_options_of_other_inits(option):
    assert "no such option" not in unknown_option(option, [])


def test_slips_in_options():
    assert "did you mean --stop-timeout?" in problem_texts(["--stop-timout", "1s", "true"])[0]
    assert "did you mean --stop-signal?" in problem_texts(["--signal", "INT", "true"])[0]
    assert "gracewrap help all lists them" in problem_texts(["-Z", "true"])[0]
    assert "write -c f.toml" in problem_texts(["-cf.toml", "true"])[0]
    assert "it needs a value; write --stop-timeout 20s" in problem_texts(["--stop-timeout"])[0]
    assert (
        "it needs a value; write --stop-timeout 20s"
        in problem_texts(["--stop-timeout", "--stop-signal", "INT", "true"])[0]
    )
    assert "it needs a value" in problem_texts(["--config", "--", "true"])[0]


# --- texts that TOML cannot read -----------------------------------------------------------------

WHOLE = """\
# A comment with [ and "
shutdown_timeout = "30s"
escalation = [{after = "10s", signal = "INT"}, {after = '12s', signal = "QUIT"}]
[programs."web"]
command = [
  "node",  # ]
  "server.js",
]
env = {A = "x", B = \"\"\"
y\"\"\"}
[programs.db]
command = ["db"]
"""


@given(
    st.integers(0, len(WHOLE)),
    st.integers(0, 12),
    st.sampled_from(["", "[", "]", "{", "}", '"', "'", "=", ",", "\n", "x", "("]),
)
@example(0, 0, WHOLE)
def test_any_slip_is_explained(at, width, written):
    text = WHOLE[:at] + written + WHOLE[at + width :]
    try:
        tomllib.loads(text)
    except ValueError as error:
        said = explained(text, error)
        assert said.startswith(("line ", "not TOML: ")) and len(said) < 400
        found = re.match(r"line (\d+)", said)
        assert found is None or 1 <= int(found[1]) <= text.count("\n") + 1


@pytest.mark.parametrize(
    "text",
    [
        "[" * 200_000,
        "x = [" + "'a' " * 50_000,
        "x = {\n" * 2,
        "x = [1\n" + "#\n" * 100_000,
        "a." * 150,
    ],
)
def test_a_large_slip_is_explained_in_time(text):
    began = time.process_time()
    with pytest.raises((ValueError, RecursionError)) as caught:
        tomllib.loads(text)
    if isinstance(caught.value, ValueError):
        assert explained(text, caught.value)
    assert time.process_time() - began < 5


# --- lines ---------------------------------------------------------------------------------------

NASTY = '''\
# stop_on = 1
command = ["a", # command = 2
  """
stop_on = 3
[log]
""", 'x = "',
]
text = """\\
   stop_signal = "no" \\
   \\"""" # "
"quoted key" = 1
'literal # key' = 2
"esc\\u0041\\"]" = 3
a . b."c.d" = { x = 1, y = [1,
  2], z = "= [" }
multi = \'\'\'
[[fake]]
stop_on = 4\'\'\'\'\'
nested = [[1, 2], [
  3]]
stop_on = 5
  [ log ]  # [report]
level = "x"
[report."x.y"]
file = 1
[[programs]]
name = 1
[[programs]]
name = 2
'''


@pytest.mark.parametrize("end", ["\n", "\r\n"])
@pytest.mark.parametrize(
    ("keys", "line"),
    [
        (["command"], 2),
        (["text"], 8),
        (["quoted key"], 11),
        (["literal # key"], 12),
        (['escA"]'], 13),
        (["a"], 14),
        (["a", "b", "c.d"], 14),
        (["a", "b", "c.d", "z"], 14),
        (["multi"], 16),
        (["nested"], 19),
        (["stop_on"], 21),
        (["log"], 22),
        (["log", "level"], 23),
        (["report"], 24),
        (["report", "x.y", "file"], 25),
        (["programs"], 26),
        (["programs", "name"], 27),
        (["fake"], None),
        (["stop_signal"], None),
    ],
)
def test_lines_of_a_nasty_file(keys, line, end):
    text = NASTY.replace("\n", end)
    tomllib.loads(text)
    assert Lines(text).find(tuple(keys)) == line


@pytest.mark.parametrize(
    "whole", ['["""]"]"""]', '["""x"""", "]"]', '["", "]", ""]', '[["a]"], []]', "['\"]\"']"]
)
def test_a_bracket_within_a_string_ends_nothing(whole):
    text = f'x = {whole}\ny = 1\nz = """a"""\n[t."]"]\nlast = 2\n'
    tomllib.loads(text)
    lines = Lines(text)
    assert [
        lines.find(keys) for keys in (("x",), ("y",), ("z",), ("t", "]"), ("t", "]", "last"))
    ] == [1, 2, 3, 4, 5]


KEYS = st.text(
    st.characters(codec="utf-8", exclude_characters="\0"), min_size=1, max_size=6
) | st.sampled_from(["log", "a.b", '"', "x"])
SCALARS = (
    st.booleans()
    | st.integers(-(2**63), 2**63 - 1)
    | st.text(max_size=12)
    | st.sampled_from(["\nx = 1\n[log]\n", "a\\", "#", "'''"])
)
INNER = st.recursive(
    SCALARS,
    lambda one: st.lists(one, max_size=3) | st.dictionaries(KEYS, one, max_size=3),
    max_leaves=8,
)


@given(st.dictionaries(KEYS, INNER, max_size=5), st.booleans())
def test_every_key_of_any_file_is_found_on_its_line(tree, multiline):
    text = tomli_w.dumps(tree, multiline_strings=multiline)
    assert tomllib.loads(text) is not None
    lines, rows = Lines(text), text.split("\n")
    for key in tree:
        line = lines.find((key,))
        assert line is not None
        start = rows[line - 1].strip()
        part = start.strip("[]") if start.startswith("[") else start
        written = part if start.startswith("[") else part.partition("=")[0]
        # The line, read on its own, starts with this key: a bare one stands there as it is, a
        # quoted one is unquoted by tomllib.
        assert written.startswith(key) or first_key(start) == key


def first_key(row: str) -> str:
    """Return the first key of a line that is a header or starts a setting, as tomllib reads it."""
    quoted = re.match(r'\[*\s*("(?:\\.|[^"\\])*")', row)
    assert quoted is not None
    return str(tomllib.loads(f"x = {quoted[1]}")["x"])


# --- the files that come with it -----------------------------------------------------------------


def test_layers_import_downward_only():
    """config imports nothing of ours but values from below (linux.signals, policy.model); nobody
    but start imports cli."""
    package = ROOT / "supervisor" / "gracewrap"
    found = {}
    for file in package.rglob("*.py"):
        part = file.relative_to(package).parts[0]
        for name in re.findall(
            r"^\s*from gracewrap(?:\.([a-z_.]+))? import", file.read_text(), re.MULTILINE
        ):
            found.setdefault(part, set()).add(name.partition(".")[0])
    assert found["config"] <= {"config", "policy", "linux", "record"}
    assert found["linux"] <= {"linux", "policy", "record"}
    assert found["policy"] <= {"policy", "record"}
    assert "cli" not in set().union(
        *(names for part, names in found.items() if part not in ("cli", "start.py"))
    )


def test_only_people_load_what_is_for_people():
    for file in (ROOT / "supervisor" / "gracewrap").rglob("*.py"):
        if file.parent.name != "cli":
            assert not re.search(
                r"\b(import|from) (typer|rich|psutil|tomli_w)\b", file.read_text()
            ), file
