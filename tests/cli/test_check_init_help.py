"""What is for people: check, init, help, version; and what is generated from the same table."""

from __future__ import annotations

import importlib.util
import json
import os
import re
import subprocess
import sys
import threading
import tomllib
from pathlib import Path

import pytest

from gracewrap.cli.app import load
from gracewrap.cli.cmd_init import SCHEMA_LINE, template, value_text
from gracewrap.cli.help import help_text, short_text
from gracewrap.cli.help_topics import topic_text
from gracewrap.config.command_line import read_command_line
from gracewrap.config.load import resolve
from gracewrap.config.parsers.probes import PARSERS
from gracewrap.config.refused_combinations import OF_SEVERAL
from gracewrap.config.schema import BY_KEY, GLOBAL, TABLE
from gracewrap.config.subcommand_names import SUBCOMMANDS
from processes import GRACEWRAP, ROOT, environment
from required_options import REQUIRED_OPTIONS

BOUND = 60.0
INSTALLED = [sys.executable, "-m", "gracewrap"]


class Done:
    """What a gracewrap that has ended said."""

    def __init__(
        self,
        *words: object,
        env: dict[str, str] | None = None,
        program: list[str] = INSTALLED,
        **options: object,
    ) -> None:
        command = [*program, *map(str, words)]
        settings = {"stdin": subprocess.DEVNULL, "text": True, "timeout": BOUND, **options}
        done = subprocess.run(
            command,
            check=False,
            capture_output=True,
            env={**environment(), **(env or {})},
            **settings,
        )  # type: ignore[call-overload]
        self.status, self.out, self.err = done.returncode, done.stdout, done.stderr


def told(done: Done) -> str:
    """Return what check said before the plan."""
    return done.out.partition("\nAt worst (")[0]


# --- check ---------------------------------------------------------------------------------------


def test_check_says_what_is_in_force_and_where_it_comes_from(tmp_path):
    (tmp_path / "g.toml").write_text(
        'command = ["true"]\nstop_signal = "INT"\n[log]\nlevel = "debug"\n'
    )
    done = Done(
        "check",
        "--config",
        "g.toml",
        "--escalation",
        "5s=QUIT",
        cwd=tmp_path,
        env={"GRACEWRAP_STOP_TIMEOUT": "9s"},
    )
    assert (done.status, done.err) == (0, "")
    assert done.out.startswith("g.toml: ok\n")
    rows = {
        tuple(re.split(r"  +", row.strip()))
        for row in done.out.splitlines()
        if row.startswith("  ")
    }
    assert {
        ("command", '["true"]', "g.toml, line 1"),
        ("stop_signal", '"INT"', "g.toml, line 2"),
        ("stop_timeout", '"9s"', "environment, GRACEWRAP_STOP_TIMEOUT"),
        ("escalation", '[{after = "5s", signal = "QUIT"}]', "command line, --escalation"),
        ("log.level", '"debug"', "g.toml, line 4"),
    } <= rows
    story = " ".join(told(done).split()).partition("On SIGTERM or SIGINT: ")[2]
    assert (
        story
        == "SIGINT goes to true, then to what it leaves behind; after 5s SIGQUIT; after 9s what is "
        "left is killed."
    )


def test_check_says_who_is_told_in_every_mode():
    for mode, who in (("group", "the process group of true"), ("process", "true")):
        assert f": SIGTERM goes to {who}; 25s after" in " ".join(
            Done("check", "--kill-mode", mode, "true").out.split()
        )


STOPS = [
    (
        ["--drain-tcp", "auto"],
        "Drained means: no connection to the ports that it listens on has a "
        "request in flight (2 times in "
        "a row, asked every 0.25s). If it is drained but still running, gracewrap waits until "
        "the deadline (linger is off).",
    ),
    (
        ["--drain-tcp", "80,81", "--drain-mode", "no-connections", "--drain-linger", "1s"],
        "there is no connection to port 80, 81 (2 times in a row, asked every 0.25s). If it is "
        "drained and still running 1s later, "
        "it is killed then.",
    ),
    (
        [
            "--drain-http",
            "http://127.0.0.1:80/x",
            "--drain-json",
            "/a",
            "--drain-confirm",
            "1",
            "--drain-min-drain",
            "3s",
        ],
        "Drained means: GET http://127.0.0.1/x says at most 0 at /a (asked every 0.25s). Answers "
        "in the first 3s do not count.",
    ),
    (
        ["--drain-http", "unix:///run/x:/d?a=1", "--drain-json", "/a", "--drain-equals", "idle"],
        'GET unix:///run/x:/d?a=1 says "idle" at /a (',
    ),
    (
        ["--drain-http", "https://[::1]/", "--drain-status", "204", "--drain-method", "HEAD"],
        "HEAD https://[::1]/ answers 204 (",
    ),
    (
        ["--drain-exec", "/bin/true x"],
        "Drained means: true prints 0, or no number and exits with 0 (",
    ),
    (
        ["--drain-file", "/run/x", "--drain-contains", "y"],
        'Drained means: /run/x exists and holds "y" (',
    ),
    (["--drain-file", "/run/x", "--drain-file-is", "absent"], "Drained means: /run/x is gone ("),
    (["--drain-notify"], "Drained means: sh says so (X_GRACEWRAP=drained) ("),
    (
        ["--drain-tcp", "auto", "--drain-when", "before-signal", "--stop-timeout", "4s"],
        "SIGTERM goes to sh, then to what it leaves behind, once it is drained, but no later than "
        "21s after the request; after 4s what",
    ),
    (
        [
            "--health-listen",
            ":9000",
            "--propagation-delay",
            "2s",
            "--pre-stop",
            "/bin/true x",
            "--post-stop",
            "http://127.0.0.1/y",
            "--drain-start",
            "http://127.0.0.1/d",
        ],
        "On SIGTERM or SIGINT: /readyz says 503; true is run; POST http://127.0.0.1/d is sent; sh "
        "keeps serving for 2s; SIGTERM "
        "goes to sh, then to what it leaves behind; 25s after the request what is left is killed; "
        "when everything has ended, POST "
        "http://127.0.0.1/y is sent.",
    ),
]


@pytest.mark.parametrize(
    ("words", "said"),
    STOPS,
    ids=lambda words: " ".join(words)[:40] if isinstance(words, list) else None,
)
def test_check_says_what_a_stop_with_a_drain_would_be(words, said):
    done = Done("check", *words, "--", "sh", program=GRACEWRAP)
    assert done.status == 0, done.err
    assert said in " ".join(done.out.split())


def test_check_shows_no_value_of_a_header(tmp_path):
    (tmp_path / "g.toml").write_text(
        'command = ["true"]\npre_stop = {http = "http://127.0.0.1/", headers = {Cookie = '
        '"secret1"}, body = "secret2"}\n[drain]\n'
        'all = [{http = "http://127.0.0.1/", headers = {X = "secret3", Y = {env = "E", prefix = '
        '"secret4"}}}, {tcp = 80}]\n'
    )
    done = Done("check", "--config", "g.toml", cwd=tmp_path, program=GRACEWRAP)
    assert done.status == 0 and "secret" not in done.out + done.err
    assert 'headers = {X = "..."' in done.out


def test_check_shows_an_exit_status_as_the_signal_it_stands_for():
    assert (
        '[3, 128, "HUP", "TERM", 200]'
        in Done("check", "--success-exit-codes", "TERM,200,129,128,3", "true").out
    )


STACK = """\
shutdown_timeout = "28s"
signal_map = {HUP = "restart"}
exit_code_from = "web"
[defaults]
working_dir = "/"
[programs.db]
command = ["true"]
ready = {tcp = 5432}
stop_signal = "INT"
stop_timeout = "10s"
[programs.migrate]
command = ["true"]
depends_on = ["db"]
oneshot = true
[programs.web]
command = ["true"]
depends_on = ["migrate"]
[programs.worker]
command = ["true"]
depends_on = ["migrate"]
restart = "on-failure"
max_restarts = 5
propagation_delay = "1s"
[health]
listen = [":9000"]
"""


def test_check_says_when_each_program_starts_and_stops(tmp_path):
    (tmp_path / "g.toml").write_text(STACK)
    done = Done("check", "--config", "g.toml", cwd=tmp_path, program=GRACEWRAP)
    assert (done.status, done.err) == (0, "")
    rows = [tuple(re.split(r"  +", row.strip())) for row in done.out.splitlines()]
    # Each setting stands where it was written.
    places = [
        row[0]
        for row in rows
        if row[0].startswith(("For each", "[")) or row[0] in ("working_dir", "stop_signal")
    ]
    assert places == [
        "For each program, unless it says otherwise:",
        "working_dir",
        "[programs.db]",
        "stop_signal",
        "[programs.migrate]",
        "[programs.web]",
        "[programs.worker]",
    ]
    assert ("depends_on", '{migrate = "completed"}', "g.toml, line 17") in rows
    text = " ".join(done.out.split())
    assert "db: at once migrate: when db is ready web, worker: when migrate has completed" in text
    assert "db is ready when it listens on port 5432" in text and "SIGHUP restarts them" in text
    # Web and worker have what db leaves, and db has its time; migrate has completed by then.
    times = {row[0]: row[1:5] for row in rows if any(cell.startswith("|") for cell in row)}
    assert times == {
        "web, worker": ("at once", "SIGTERM", "18s", "18s"),
        "db": ("18s", "SIGINT", "10s", "28s"),
    }
    assert "It has completed by then, as it runs once: migrate." in text
    assert "worker: it keeps serving for 1s; SIGTERM goes to it" in text
    assert (
        "db, web: all are stopped, in order" in text
        and "migrate: it runs once; if it fails, all are stopped" in text
    )
    assert "5 times in a row at most (then all are stopped, in order)" in text
    assert text.endswith("The exit status is that of web.")
    assert max(map(len, done.out.splitlines())) < 80


def test_check_of_many_programs_fits_the_page(tmp_path):
    programs = (
        f"[programs.w-{i}]\ncommand = "
        f'["true"]\n{"stop_timeout = " + chr(34) + "5s" + chr(34) if i % 7 == 0 else ""}\n'
        for i in range(50)
    )
    (tmp_path / "g.toml").write_text("".join(programs))
    done = Done("check", "--config", "g.toml", cwd=tmp_path, program=GRACEWRAP)
    assert (done.status, done.err) == (0, "")
    assert max(map(len, done.out.splitlines())) < 80
    story = done.out.partition("The start:")[2]
    assert len(story.splitlines()) < 40 and all(f"w-{i}" in story for i in range(50))


@pytest.mark.parametrize(
    ("more", "said"),
    [
        (
            '[programs.a]\ncommand = ["true"]\n[programs.b]\ncommand = ["true"]\ndepends_on = '
            '["a"]\n',
            "nothing tells when a is ready",
        ),
        ('exit_code_from = "a"\n[programs.a]\ncommand = ["true"]\noneshot = true\n', "the others "
                                                                                     "go on; write "
                                                                                     "oneshot = "
                                                                                     "false"),
        (
            '[programs.a]\ncommand = ["nginx", "-g", "daemon off;"]\n',
            'a: nginx cuts requests on SIGTERM; write stop_signal = "QUIT"\n',
        ),
        (
            '[defaults]\nstop_signal = "KILL"\n[programs.a]\ncommand = '
            '["true"]\n[programs.b]\ncommand = ["true"]\n',
            'a and b: stop_signal = "KILL" stops nothing',
        ),
    ],
)  # fmt: skip
def test_check_warns_of_what_may_not_be_meant_of_several(more, said, tmp_path):
    (tmp_path / "g.toml").write_text(more)
    done = Done("check", "--config", "g.toml", cwd=tmp_path, program=GRACEWRAP)
    assert done.status == 0
    assert sum(said in f"{line}\n" for line in done.err.splitlines()) == 1, done.err


def test_check_leaves_alone_who_only_waits_for_the_start(tmp_path):
    text = (
        '[programs.a]\ncommand = ["true"]\n[programs.b]\ncommand = ["true"]\ndepends_on = {a = '
        '"started"}\n'
    )
    (tmp_path / "g.toml").write_text(text)
    assert Done("check", "--config", "g.toml", cwd=tmp_path, program=GRACEWRAP).err == ""


def test_check_says_when_a_command_is_started_again():
    done = Done(
        "check", "--restart", "on-failure", "--backoff", "1s", "--", "true", program=GRACEWRAP
    )
    said = " ".join(told(done).split())
    assert said.endswith(
        "When true exits by itself: if it fails, it is restarted after 1s, then longer each "
        "time, up to 30s; "
        "if it exits with 0, gracewrap exits too."
    )


def test_check_ends_with_the_plan_of_one_command_and_what_does_not_fit(tmp_path):
    words = ["--shutdown-timeout", "10s", "--drain-tcp", "auto", "--drain-when", "before-signal",
             "--drain-timeout", "9s", "--escalation", "9s=INT", "--", "true"]  # fmt: skip
    done = Done("check", *words, env={"LC_ALL": "C.UTF-8"})
    plan = " ".join(
        done.out.partition("\nAt worst (nothing drains, nobody exits): 10 s\n")[2].split()
    )
    assert "drain 9 s · SIGTERM at 9 s · SIGKILL at 10 s" in plan
    assert "! SIGINT after 9s never comes: SIGKILL is 8 s earlier; set a shorter time in" in plan
    assert (done.status, done.err, done.out.count("At worst")) == (0, "", 1)
    drawn = Done("plan", *words, env={"LC_ALL": "C.UTF-8"}).out
    assert drawn.partition("\n\n")[0] in done.out
    found = json.loads(Done("check", "--json", *words).out)
    assert found["plan"] == json.loads(Done("plan", "--json", *words).out)
    assert found["plan"]["faults"][0]["setting"] == "escalation"
    strict = Done("check", "--strict", *words)
    assert (strict.status, "warning: SIGINT after 9s never comes" in strict.err) == (125, True)


def test_check_of_several_has_one_time_axis_and_says_what_does_not_fit(tmp_path):
    (tmp_path / "g.toml").write_text(
        '[programs.db]\ncommand = ["true"]\n[programs.web]\ncommand = ["true"]\n'
        'depends_on = {db = "started"}\nescalation = [{after = "24s", signal = "INT"}]\n'
    )
    done = Done("check", "--config", "g.toml", cwd=tmp_path)
    said = " ".join(done.out.split())
    assert (done.status, done.err, "At worst (" in said) == (0, "", False)
    assert "! web: SIGINT after 24s never comes: SIGKILL is 1 s earlier; set a shorter" in said
    assert len([line for line in done.out.splitlines() if line.endswith("=|")]) == 1
    assert max(map(len, done.out.splitlines())) < 80


def test_check_says_that_there_is_no_command(tmp_path):
    done = Done("check", "--stop-timeout", "1s", cwd=tmp_path)
    assert done.out.splitlines()[-1].strip().startswith("There is no command; ")
    (tmp_path / "gracewrap.toml").write_text("")
    for words in (["check"], ["check", "--config", "gracewrap.toml"]):
        done = Done(*words, cwd=tmp_path)
        assert (done.status, done.err) == (0, "") and "Start it" not in done.out
        assert " ".join(done.out.split()).endswith(
            "There is no command in gracewrap.toml; a start needs one, after -- or in the file."
        )


def test_check_of_a_command_leaves_the_file_that_is_not_named(tmp_path):
    (tmp_path / "gracewrap.toml").write_text('command = ["true"]\nstop_timeout = 1\n')
    done = Done("check", "--", "true", cwd=tmp_path)
    assert (done.status, done.err) == (0, "") and done.out.startswith("settings: ok\n")
    assert "gracewrap.toml" not in done.out


def test_check_names_strangers_among_the_variables():
    done = Done("check", "true", env={"GRACEWRAP_BASE_IMAGE": "x", "GRACEWRAP_REPORT": "/tmp/x"})
    assert (
        done.err == "gracewrap: warning: GRACEWRAP_BASE_IMAGE is not a gracewrap setting; ignored\n"
    )
    assert "environment, GRACEWRAP_REPORT\n" in done.out


SCRIPTS = {
    "plain": "#!/bin/sh\nset -e\nserver\n",
    "env": "#!/usr/bin/env bash\nserver\n",
    "exec": '#!/bin/sh\nset -e\nexec "$@"\n',
    "trap": "#!/bin/sh\n[ x ] && trap 'exit 0' TERM\nserver & wait\n",
    "python": "#!/usr/bin/python3\nserver()\n",
}


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["npm", "start"], True),
        (["yarn", "dev"], True),
        (["./plain"], True),
        (["./env"], True),
        (["sh", "plain"], True),
        (["bash", "-e", "plain"], True),
        (["sh", "-c", "a && b"], True),
        (["sh", "-ec", "a\nb"], True),
        (["./exec"], False),
        (["./trap"], False),
        (["./python"], False),
        (["sh"], False),
        (["sh", "-c", "a; exec b"], False),
        (["sh", "-c", "node server.js"], False),
        (["sh", "missing"], False),
        (["true"], False),
        (["node", "server.js"], False),
    ],
)
def test_check_says_what_the_exit_status_of_a_good_stop_is(words, said, tmp_path):
    for name, text in SCRIPTS.items():
        (tmp_path / name).write_text(text)
        (tmp_path / name).chmod(0o755)
    note = (
        "the exit status after a good stop is 143. To have it count as 0: --success-exit-codes TERM"
    )
    assert (note in " ".join(Done("check", "--", *words, cwd=tmp_path).out.split())) == said
    for option in (["--success-exit-codes", "TERM"], ["--stop-signal", "KILL"]):
        assert "good stop" not in Done("check", *option, "--", *words, cwd=tmp_path).out


@pytest.mark.parametrize(
    "command",
    [
        *("nginx", "nginx -c x", "/usr/sbin/php-fpm8.2 -y x", "httpd", "apache2 -D OTHER"),
        *("squid -f x", "/usr/sbin/sshd -f x", "named -p 53", "unbound -c x", "varnishd -b x"),
        *("lighttpd -f x", "dnsmasq -p 53", "memcached -d -m 64", "mosquitto -d"),
        "redis-server --daemonize yes",
    ],
)
def test_check_warns_of_a_command_that_goes_to_the_background(command):
    assert (
        "goes to the background, and a command that does so ends the run"
        in Done("check", "--", *command.split()).err
    )


@pytest.mark.parametrize(
    "command",
    [
        ["nginx", "-g", "user x; daemon  off;"],
        ["php-fpm", "-F"],
        ["php-fpm", "-RF"],
        ["php-fpm8.2", "--nodaemonize"],
        ["httpd", "-DFOREGROUND"],
        ["apache2", "-D", "FOREGROUND"],
        ["httpd", "-X"],
        ["apache2-foreground"],
        ["squid", "--foreground"],
        ["squid", "-NYCd", "1"],
        ["/usr/sbin/sshd", "-D", "-e"],
        ["named", "-g"],
        ["unbound", "-d"],
        ["varnishd", "-F"],
        ["lighttpd", "-Df", "x"],
        ["dnsmasq", "-k"],
        ["memcached", "-u", "nobody"],
        ["mosquitto", "-c", "a-d"],
        ["redis-server", "--daemonize", "no"],
    ],
)
def test_check_does_not_warn_of_one_that_stays(command):
    assert "background" not in Done("check", "--", *command).err


def test_check_says_what_quit_needs_besides_for_php_fpm():
    assert "process_control_timeout" in Done("check", "--", "php-fpm", "-F").err
    done = Done("check", "--stop-signal", "QUIT", "--", "php-fpm", "-F")
    assert "process_control_timeout" not in done.err


@pytest.mark.parametrize(
    ("lines", "said"),
    [
        ("[global]\n", True),
        (";process_control_timeout = 10\n", True),
        ("process_control_timeout = 0\n", True),
        ("process_control_timeout = 10s\n", False),
        ("include={folder}/*.part\n", False),
    ],
)
def test_check_warns_of_the_requests_that_quit_cuts(lines, said, tmp_path):
    (tmp_path / "a.part").write_text("process_control_timeout = 10s\n")
    (tmp_path / "fpm.conf").write_text(lines.format(folder=tmp_path))
    for file in (["-y", f"{tmp_path}/fpm.conf"], [f"--fpm-config={tmp_path}/fpm.conf"]):
        done = Done("check", "--preset", "php-fpm", "--", "php-fpm", "-F", *file)
        assert ("php-fpm cuts requests on SIGQUIT too" in done.err) == said


@pytest.mark.parametrize(
    ("command", "line"),
    [
        ("nginx -c {}", "daemon off;"),
        ("nginx -c {}", "pid x; daemon off;"),
        ("php-fpm8.2 -y {}", "daemonize = no"),
        ("unbound -c {}", "  do-daemonize: no"),
        ("supervisord -c {}", "nodaemon=true"),
        ("supervisord --configuration={}", "nodaemon = true"),
    ],
)
def test_check_reads_in_the_configuration_that_it_stays(command, line, tmp_path):
    file = tmp_path / "conf"
    for text, said in ((line, False), (f"#{line}", True)):
        file.write_text(f"x\n{text}\n")
        done = Done("check", "--", *command.format(file).split())
        assert ("goes to the background" in done.err) == said


def test_check_warns_of_script_of_util_linux_and_not_of_one_of_that_name():
    assert (
        "script forwards SIGTERM and sends SIGKILL" in Done("check", "--", "script", "-c", "x").err
    )
    assert "SIGKILL 2 s later" not in Done("check", "--", "./script").err


@pytest.mark.parametrize(
    "options, line, said",
    [
        ([], "", True),
        ([], "# shutdown_lifetime 10 seconds", True),
        ([], "shutdown_lifetime 10 seconds", False),
        (["--shutdown-timeout", "40s"], "", False),
        (["--stop-signal", "INT"], "", False),  # which waits for nobody
    ],
)
def test_check_warns_of_the_time_that_squid_takes(options, line, said, tmp_path):
    file = tmp_path / "squid.conf"
    file.write_text(f"http_port 3128\n{line}\n")
    done = Done("check", *options, "--", "squid", "--foreground", "-f", str(file))
    assert ("stays for all of shutdown_lifetime" in done.err) == said


SEVERAL = (
    '{}[programs.web]\ncommand = ["true"]\n[programs.db]\ncommand = '
    '["true"]\n[programs.x]\ncommand = ["true"]\n{}'
)


@pytest.mark.parametrize("setting", TABLE[1:], ids=lambda setting: setting.key)
def test_what_check_shows_is_toml_that_means_the_same(setting, tmp_path):
    raw = setting.default if setting.default not in (None, [], {}) else setting.example
    raw = {"depends_on": {"db": "ready"}}.get(setting.key, True if setting.switch else raw)
    table, _, name = setting.key.rpartition(".")
    file = tmp_path / "g.toml"
    written, words = (
        f"{name} = {value_text(raw)}\n",
        [*REQUIRED_OPTIONS.get(setting.key, ()), "true"],
    )
    if setting.key in OF_SEVERAL:  # what is named there are web and db
        file.write_text(SEVERAL.format(*(written, "") if setting.key in GLOBAL else ("", written)))
        words = []
    else:
        file.write_text(f"{f'[{table}]' if table else ''}\n{written}")
    done = Done("check", "--config", file, *words, program=GRACEWRAP)
    assert done.status == 0, done.err
    shown = next(row for row in done.out.splitlines() if row.split()[:1] == [setting.key])
    value = re.sub(r"  +\S*g\.toml, line.*", "", shown.strip().removeprefix(setting.key)).strip()
    assert setting.parse(tomllib.loads(f"x = {value}")["x"]) == setting.parse(raw)


def test_check_says_every_problem(tmp_path):
    (tmp_path / "g.toml").write_text('command = "true"\nstop_singal = "INT"\n')
    done = Done(
        "check",
        "--config",
        "g.toml",
        "--stop-timeout",
        "1",
        cwd=tmp_path,
        env={"GRACEWRAP_KILL_MODE": "x", "GRACEWRAP_XY": "1"},
    )
    lines = done.err.splitlines()
    assert (done.status, done.out, len(lines)) == (125, "", 6)
    assert lines[0] == "gracewrap: warning: GRACEWRAP_XY is not a gracewrap setting; ignored"
    assert all(line.startswith("gracewrap: cannot use ") for line in lines[1:5])
    assert lines[5] == "gracewrap: 4 problems; nothing would be started"


def test_check_finds_the_file(tmp_path):
    assert Done("check", "--", "true", cwd=tmp_path).out.startswith("settings: ok\n")
    (tmp_path / "gracewrap.toml").write_text('command = ["true"]\nstop_timeout = "1s"\n')
    done = Done("check", cwd=tmp_path)
    assert (
        done.status == 0
        and "gracewrap.toml, line 2" in done.out
        and done.out.endswith("Start it: gracewrap\n")
    )
    (tmp_path / "other.toml").write_text('command = ["true"]\nflush_timeout = "2s"\n')
    done = Done("check", cwd=tmp_path, env={"GRACEWRAP_CONFIG": "other.toml"})
    assert done.status == 0 and "other.toml, line 2" in done.out and "Start it" not in done.out
    for words in (["check", "--config", "other.toml"], ["--config", "other.toml", "check"]):
        assert Done(*words, cwd=tmp_path).out == done.out
    done = Done("--stop-timeout", "3s", "check", "--stop-signal", "INT", cwd=tmp_path)
    assert {"--stop-timeout", "--stop-signal"} <= {word.rstrip("\n") for word in done.out.split()}
    (tmp_path / "gracewrap.toml").write_text("stop_timeout = 1\n")
    assert Done("check", cwd=tmp_path).status == 125


def test_check_takes_a_command_and_starts_nothing(tmp_path):
    for words in (
        ["--", "touch", "x", "--help"],
        ["touch", "x"],
        ["--stop-timeout", "1s", "touch", "x"],
        ["--", "init"],
    ):
        done = Done("check", *words, cwd=tmp_path)
        assert done.status == 0 and "command line" in done.out
    assert list(tmp_path.iterdir()) == []
    (tmp_path / "g.toml").write_text('command = ["true"]\n')
    assert "two commands" in Done("check", "--config", "g.toml", "true", cwd=tmp_path).err


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--shutdown-timeout", "0s", "true"], "kills at once"),
        (["--shutdown-timeout", "1m", "true"], "terminationGracePeriodSeconds"),
        (["httpd", "-DFOREGROUND"], 'write stop_on = ["INT", "TERM", "WINCH"]'),
        (
            ["su", "app", "-c", "exec node server.js"],
            "su forwards SIGTERM and sends SIGKILL 2 s later",
        ),
        (
            ["sh", "-c", "cd /app && exec runuser -u app -c 'node x'"],
            "runuser forwards SIGTERM and sends SIGKILL",
        ),
        (["--report", "/no/where", "true"], "its directory does not exist"),
        (["--report", "/tmp/x", "--termination-log", "/tmp/x", "true"], "the same file"),
        (["no-such-program"], "not found or not executable here"),
        (["node server.js"], "one word with spaces"),
        (
            ["/opt/nginx", "-g", "daemon off;"],
            'nginx cuts requests on SIGTERM; write stop_signal = "QUIT"',
        ),
        (["postgres"], '"INT"'),
        (["starman", "app.psgi"], 'starman cuts requests on SIGTERM; write stop_signal = "QUIT"'),
        (["--kill-mode", "group", "celery"], "loses its tasks"),
        (["arq", "app.WorkerSettings"], "set job_completion_wait"),
        (["huey_consumer.py", "app.huey"], "loses its running tasks on SIGTERM; write stop_signal"),
        (
            ["--preset", "celery", "--shutdown-timeout", "8s", "true"],
            "is left out in 8s: what still runs then is lost by SIGKILL; write a longer budget, or "
            'escalation = [{after = "6s", signal = "QUIT"}]',
        ),
        (["--stop-signal", "KILL", "true"], "stops nothing gracefully"),
        (["--dump-signal", "TERM", "true"], "is a signal of the stop too"),
        (["--dump-signal", "INT", "--escalation", "5s=INT", "true"], "is a signal of the stop too"),
        (["--dump-signal", "QUIT", "--stop-timeout", "500ms", "true"], "is never sent"),
        (["--dump-signal", "USR1", "--", "node", "x.js"], "with --report-on-signal write USR2"),
        (["--dump-signal", "USR2", "--", "node", "x.js"], "only with --report-on-signal"),
        (["--dump-signal", "QUIT", "gunicorn"], "it stops by that signal"),
        (["--dump-signal", "QUIT", "starman"], "it stops by that signal"),
        (["--dump-signal", "ABRT", "true"], "just before SIGKILL only"),
        (["--propagation-delay", "1s", "true"], "propagation_delay without health.listen"),
        (["--report-prometheus-textfile", "/tmp/x", "true"], "does not end in .prom"),
        (["--drain-http", "http://10.0.0.1/", "true"], "is it the drain of another machine?"),
        (
            ["--drain-http", "http://127.0.0.1:9000/", "--health-listen", ":9000", "true"],
            "gracewrap itself answers",
        ),
        (
            ["--ready", "http://localhost:9000/", "--health-listen", ":9000", "true"],
            "gracewrap itself answers",
        ),
        (
            ["--drain-http", "unix:///run/x:/", "--health-listen", "unix:/run/x", "true"],
            "gracewrap itself answers",
        ),
        (
            ["--drain-http", "http://127.0.0.1/", "--", "nginx", "-g", "daemon off;"],
            "write a probe by tcp instead",
        ),
        (
            ["--drain-http", "http://127.0.0.1/", "--drain-on-refused", "drained", "--", "haproxy"],
            "requests are cut",
        ),
        (["--drain-tcp", "auto", "node"], 'write drain.linger = "2s"'),
        (
            ["--drain-tcp", "auto", "--shutdown-timeout", "1s", "true"],
            "little would ever be drained",
        ),
        (
            ["--drain-exec", "no-such-script", "true"],
            'drain runs "no-such-script", which is not found',
        ),
        (
            ["--pre-stop", "no-such-script -x", "true"],
            'pre_stop runs "no-such-script", which is not found',
        ),
        (
            ["--drain-http", "http://127.0.0.1/", "--drain-headers", "Authorization: x", "true"],
            "header in plain words",
        ),
    ],
)
def test_check_warns_of_what_may_not_be_meant(words, said, tmp_path):
    done = Done("check", *words, program=GRACEWRAP, cwd=tmp_path)
    assert done.status == 0
    assert any(
        line.startswith("gracewrap: warning: ") and said in line for line in done.err.splitlines()
    ), done.err


def test_check_warns_of_nothing_in_a_good_start():
    assert Done("check", "--", "true").err == ""
    assert Done("check", "--stop-signal", "TERM", "--", "sh").err == ""
    probe = [
        "--drain-http",
        "http://[::1]:9001/",
        "--health-listen",
        "127.0.0.1:9000",
        "--propagation-delay",
        "1s",
    ]
    assert Done("check", *probe, "--", "sh").err == ""
    assert (
        Done("check", "--drain-tcp", "3000", "--drain-linger", "off", "--", "node").err.count(
            "linger"
        )
        == 0
    )


def test_a_strict_check_fails_for_a_warning(tmp_path):
    for words in (
        ["--strict", "--kill-mode", "group", "celery"],
        ["--kill-mode", "group", "--strict", "--strict", "--", "celery"],
    ):
        done = Done("check", *words, program=GRACEWRAP)
        lines = done.err.splitlines()
        assert (done.status, done.out) == (125, "") and all(
            "warning: " in line for line in lines[:-1]
        )
        assert (
            lines[-1]
            == f"gracewrap: {len(lines) - 1} warning{'s' * (len(lines) != 2)}, and --strict; a run "
            "would start all the same"
        )
    assert Done("check", "--strict", "--", "true").out == Done("check", "--", "true").out
    (tmp_path / "g.toml").write_text('command = ["no-such-program"]\n')
    for words in (
        ["check", "--strict", "--config", "g.toml"],
        ["--config", "g.toml", "check", "--strict"],
    ):
        assert Done(*words, cwd=tmp_path).status == 125
    assert Done("check", "--config", "g.toml", cwd=tmp_path).status == 0


@pytest.mark.parametrize(
    "words",
    [
        ["sh", "--strict"],
        ["--", "--strict"],
        ["--stop-timeout", "1s", "sh", "--strict"],
        ["-c", "--strict"],
    ],
)
def test_what_is_strict_is_the_check_and_not_its_command(words):
    done = Done("check", *words, program=GRACEWRAP)
    assert done.status == (125 if words[0] == "-c" else 0)
    assert ("it needs a value" in done.err) == (words[0] == "-c")


# --- init ----------------------------------------------------------------------------------------


def test_init_writes_a_file_that_check_accepts(tmp_path):
    done = Done("init", cwd=tmp_path)
    assert (done.status, done.err) == (0, "")
    text = (tmp_path / "gracewrap.toml").read_text()
    tables = {"drain": {}, "health": {}, "control": {}, "log": {}, "report": {}}
    assert tomllib.loads(text) == {"command": ["node", "server.js"], **tables}
    assert max(map(len, text.splitlines())) <= 130
    assert Done("check", cwd=tmp_path).status == 0
    assert Done("init", "-", cwd=tmp_path).out == text == SCHEMA_LINE + template()
    done = Done("init", "x y.toml", cwd=tmp_path)
    assert done.status == 0 and done.out.endswith("gracewrap check --config 'x y.toml'\n")


def test_init_for_several_programs(tmp_path):
    done = Done("init", "--programs", cwd=tmp_path)
    assert (done.status, done.err) == (0, "") and "put your commands into it" in done.out
    text = (tmp_path / "gracewrap.toml").read_text()
    assert max(map(len, text.splitlines())) <= 130
    assert list(tomllib.loads(text)["programs"]) == ["migrate", "web", "worker"]
    assert (
        Done("init", "-", "--programs").out == text
        and "gracewrap init --programs" in template().partition("\ncommand")[0]
    )
    done = Done("check", cwd=tmp_path)
    assert done.status == 0 and "web, worker: when migrate has completed" in done.out
    (tmp_path / "all.toml").write_text(uncommented(text))
    settings, problems = resolve(read_command_line(["--config", str(tmp_path / "all.toml")]), {})
    assert (
        problems == []
        and settings is not None
        and settings.exit_code_from == "web"
        and settings.health_listen
    )
    assert settings.programs[2].stop_timeout == 20 and settings.programs[2].env == {"QUEUE": "mail"}


NODE = """\
import signal, socket, sys
signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
print(sys.argv[1], flush=True)
if sys.argv[1] != "migrate.js":
    if sys.argv[1] == "server.js":
        listener = socket.create_server(("127.0.0.1", 0))
    signal.pause()
"""


def test_what_init_writes_for_several_programs_runs(tmp_path):
    (tmp_path / "node").write_text(f"#!{sys.executable}\n{NODE}")
    (tmp_path / "node").chmod(0o755)
    assert Done("init", "--programs", cwd=tmp_path).status == 0
    env = {**environment(), "PATH": f"{tmp_path}:{os.environ['PATH']}"}
    words = [*GRACEWRAP, "--config", "gracewrap.toml", "--log-format", "text"]
    with subprocess.Popen(
        words, cwd=tmp_path, env=env, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, text=True
    ) as running:
        assert running.stdout is not None
        timer = threading.Timer(BOUND, running.kill)
        timer.start()
        try:
            lines = [running.stdout.readline() for _ in range(3)]
            running.terminate()
            assert running.wait(BOUND) == 0
        finally:
            timer.cancel()
    assert lines[0].split() == ["migrate", "|", "migrate.js"]
    assert sorted(line.split()[-1] for line in lines[1:]) == ["server.js", "worker.js"]


def test_init_leaves_a_file_that_is_there(tmp_path):
    (tmp_path / "gracewrap.toml").write_text("mine")
    done = Done("init", cwd=tmp_path)
    assert done.status == 125 and "exists; use --force" in done.err
    assert (tmp_path / "gracewrap.toml").read_text() == "mine"
    assert Done("init", "--force", cwd=tmp_path).status == 0
    assert (tmp_path / "gracewrap.toml").read_text() == SCHEMA_LINE + template()


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["no/where.toml"], "No such file or directory"),
        (["/proc/x"], "cannot write '/proc/x'"),
        (["a", "b"], "b"),
        (["--forse"], "--force"),
    ],
)
def test_init_that_cannot(words, said, tmp_path):
    done = Done("init", *words, cwd=tmp_path)
    assert done.status == 125
    assert done.err.startswith("gracewrap: ") and said in done.err and done.err.count("\n") == 1
    assert list(tmp_path.iterdir()) == []


def uncommented(text: str) -> str:
    return re.sub(r"^#(?! )(?=\w+ = |\[)", "", text, flags=re.MULTILINE)


def test_every_line_of_the_template_can_be_uncommented(tmp_path):
    text = uncommented(template().partition("#[defaults]")[0])
    tree = tomllib.loads(text)
    tables = ("drain", "health", "control", "log", "report")
    keys = {key for key in tree if key not in tables}
    keys |= {f"{table}.{key}" for table in tables for key in tree[table]}
    assert keys == {
        setting.key for setting in TABLE if setting.key not in OF_SEVERAL or setting.key in GLOBAL
    }
    # All kinds of probe at once are one too many; but each value can be used, and all that is no
    # probe together.
    for key in keys:
        table, _, name = key.rpartition(".")
        setting = BY_KEY[key]
        raw = setting.default if setting.default not in (None, [], {}) else setting.example
        assert setting.parse(tree[table][name] if table else tree[key]) == setting.parse(raw), key
    probe = {"all", "any", *PARSERS} - {"tcp", "mode", "quiet"}
    within = re.search(r"\[drain\]\n(.*?)\n\[health\]", text, re.DOTALL)
    assert within is not None
    kept = "\n".join(row for row in within[1].splitlines() if row.partition(" = ")[0] not in probe)
    of_several = f"exit_code_from = {value_text(tree['exit_code_from'])}\n"
    alone = text.replace(within[1], kept).replace("notify = false\n", "").replace(of_several, "")
    # What restarts by a signal is for those that are started again.
    (tmp_path / "g.toml").write_text(alone.replace('restart = "never"', 'restart = "on-failure"'))
    settings, problems = resolve(read_command_line(["--config", str(tmp_path / "g.toml")]), {})
    assert problems == [] and settings is not None and settings.drain is not None


def test_the_programs_of_the_template_can_be_uncommented(tmp_path):
    text = template()
    for setting in ("#exit_code_from", "command"):
        line = next(row for row in text.splitlines() if row.startswith(setting))
        text = text.replace(f"\n{line}\n", f"\n{line[1:]}\n" if line[0] == "#" else "\n", 1)
    before, marker, after = text.partition("#[defaults]")
    (tmp_path / "g.toml").write_text(before + uncommented(marker + after))
    settings, problems = resolve(read_command_line(["--config", str(tmp_path / "g.toml")]), {})
    assert problems == [] and settings is not None and settings.exit_code_from == "web"
    db, web = settings.programs
    assert (db.name, web.name, web.depends_on, db.stop_after, web.reserve) == (
        "db",
        "web",
        {"db": "ready"},
        ("web",),
        8.0,
    )
    written = {key for one in settings.programs for key in one.origins}
    assert written.issuperset(OF_SEVERAL)


# --- help ----------------------------------------------------------------------------------------


def test_help_fits_80_columns_and_has_everything():
    for program in (INSTALLED, GRACEWRAP):  # with rich and without
        done = Done("help", "all", program=program)
        assert (done.status, done.err) == (0, "")
        assert done.out == help_text(80)
    assert max(map(len, done.out.splitlines())) <= 80
    assert "\x1b" not in done.out
    for setting in TABLE:
        assert not setting.flag or f"  {setting.option}" in done.out
    # What most look for comes first, and the drain, which is long, last.
    places = [
        done.out.index(f"\n{word}:\n")
        for word in ("Usage", "Examples", "Options", "The stop", "Log", "Drain", "Exit status")
    ]
    assert places == sorted(places)
    for word in (
        "ENTRYPOINT",
        "Kubernetes",
        "--stop-signal QUIT -- nginx",
        "npm start",
        "125",
        "126",
        "127",
        "128+N",
        "gracewrap init",
    ):
        assert word in done.out


def test_the_short_help_fits_a_screen_and_names_every_subcommand():
    for program in (INSTALLED, GRACEWRAP):
        for word in ("--help", "-h", "help"):
            done = Done(word, program=program)
            assert (done.status, done.err, done.out) == (0, "", short_text(80))
    lines = done.out.splitlines()
    assert len(lines) <= 40 and max(map(len, lines)) <= 80
    for name in SUBCOMMANDS:
        assert name == "run" or re.search(rf"\b{name}\b", done.out), name
    for topic in re.findall(
        r"[a-z]+", done.out.partition("settings:")[2].partition("gracewrap")[0]
    ):
        assert topic_text(topic, 80, load)


@pytest.mark.parametrize(
    ("topic", "said"),
    [
        ("drain", ["--drain-tcp auto|PORTS", "gracewrap drain makes a running gracewrap drain"]),
        ("status", ["gracewrap status", "--watch"]),
        ("check", ["gracewrap check reports"]),
        ("stop", ["--shutdown-timeout", "gracewrap stop asks"]),
        ("restart", ["restart = ", "--restart WHEN", "gracewrap restart NAME"]),
        ("programs", ["depends_on (in a file)"]),
        ("drain.tcp", ['[drain] tcp = "auto"', "--drain-tcp", "GRACEWRAP_DRAIN_TCP"]),
        ("--stop-signal", ["stop_signal", "GRACEWRAP_STOP_SIGNAL", "[default: TERM]"]),
        ("GRACEWRAP_REPORT", ["report.file", "--report"]),
        ("depends_on", ["only be set in a file"]),
    ],
)
def test_help_about_a_part_a_setting_or_a_subcommand(topic, said):
    done = Done("help", topic, program=GRACEWRAP)
    assert (done.status, done.err) == (0, "")
    assert all(one in done.out for one in said), done.out
    assert max(map(len, done.out.splitlines())) <= 80


def test_help_about_something_that_is_not_there():
    done = Done("help", "drian")
    assert (done.status, done.out) == (125, "") and "use drain\n" in done.err
    assert "all, stop, hooks" in Done("help", "zzzzzz").err


def test_every_setting_has_a_topic():
    for setting in TABLE:
        assert setting.key in topic_text(setting.key, 80, load)


def test_the_examples_in_the_help_are_right():
    for words in re.findall(
        r"^    gracewrap (.*)$", help_text(80).replace("\\\n", " "), re.MULTILINE
    ):
        done = Done("check", *(word.strip('"') for word in words.split()), program=GRACEWRAP)
        assert done.status == 0, done.err
        assert "on SIGTERM; write stop_signal" not in done.err


def test_help_on_a_terminal_is_bold_and_as_wide_as_it():
    main, terminal = os.openpty()
    command = ["sh", "-c", 'stty cols 60; exec "$@"', "sh", *INSTALLED, "help", "all"]
    env = environment(TERM="xterm")
    env.pop("NO_COLOR", None)
    for name in ("COLUMNS", "LINES"):
        env.pop(name, None)
    with subprocess.Popen(
        command, stdin=terminal, stdout=terminal, stderr=terminal, env=env
    ) as process:
        os.close(terminal)
        shown = b""
        while True:
            try:
                part = os.read(main, 65536)
            except OSError:  # EIO: the other side has closed
                break
            shown += part
        assert process.wait(BOUND) == 0
    os.close(main)
    assert b"\x1b[1m" in shown
    plain = (
        re.sub(rb"\x1b\[[0-9;]*m", b"", shown)
        .decode()
        .replace("\r", "")
        .partition("Options:")[2]
        .splitlines()
    )
    assert max(len(line) for line in plain if line.startswith("      ")) < 60


def test_help_of_subcommands_and_version():
    for program in (INSTALLED, GRACEWRAP):
        for name, words in {
            "check": ("all options of a run", "everything can be used"),
            "init": ("all options of a run", "--force"),
        }.items():
            done = Done(name, "--help", program=program)
            assert (done.status, done.err) == (0, "") and Done(
                name, "-h", program=program
            ).out == done.out
            assert (
                done.out.startswith(f"gracewrap {name} ")
                and "\n\nUsage:\n" in done.out
                and "\nExit status:\n" in done.out
            )
            assert max(map(len, done.out.splitlines())) <= 80
            assert all(word in " ".join(done.out.split()) for word in words)
        pattern = r"gracewrap \d+\.\d+\.\d+ \((commit [0-9a-f]{12}, )?Python 3\.\d+\.\d+\)\n"
        assert re.fullmatch(pattern, Done("--version", program=program).out)
    assert Done("-V").out == Done("--version").out


@pytest.mark.parametrize(
    "words", ["--help", "check --help", "init -", "--version", "check -- true"]
)
def test_a_closed_stdout_is_no_traceback(words, tmp_path):
    """`| head -0`, a closed descriptor, a full disk."""
    for end, status in (("| true", 0), (">&-", 0), (">/dev/full", 125)):
        shell = f'"$@" {words} {end}'
        done = Done(
            program=["bash", "-o", "pipefail", "-c", shell, "bash", *INSTALLED], cwd=tmp_path
        )
        assert "Traceback" not in done.err and "Exception" not in done.err
        assert done.status == status, (end, done.err)
        assert (done.err != "") == (status == 125)


def test_what_needs_an_installation_says_so():
    done = Done("init", "-", program=GRACEWRAP)  # -I -S: no site-packages
    assert done.status == 125
    assert "pip install gracewrap" in done.err and done.err.count("\n") == 1


# --- what comes with it --------------------------------------------------------------------------


@pytest.mark.parametrize(
    "file", sorted((ROOT / "configs").glob("*.toml")), ids=lambda file: file.name
)
def test_ready_made_files_are_accepted(file: Path):
    done = Done("check", "--config", file, program=GRACEWRAP)
    assert done.status == 0, done.err
    # Neither are the programs, their users and files here, nor can a file raise the orchestrator's
    # limit.
    known = (
        "not found or not executable here|raise their limit too|/dev/termination-log|No such "
        "file or directory|there is no user"
    )
    for line in done.err.splitlines():
        assert re.search(known, line), line
    tree = tomllib.loads(file.read_text())
    assert "shutdown_timeout" in tree and file.read_text().startswith("# ")


def test_what_is_generated_is_up_to_date():
    spec = importlib.util.spec_from_file_location("generate", ROOT / "docs" / "generate.py")
    assert spec is not None and spec.loader is not None
    generate = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(generate)
    before = "a\n<!-- settings -->\nold\n<!-- /settings -->\nz\n"
    after = generate.rewritten(before)
    assert all(f"`{setting.key}`" in after for setting in TABLE) and "\nold\n" not in after
    assert generate.rewritten(after) == after
    for file in generate.files():
        text = file.read_text()
        assert generate.rewritten(text) == text, f"{file.name}: run make docs"
