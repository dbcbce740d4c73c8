"""Mistakes, end to end: a real gracewrap says in one line what is wrong, where, and what to write
instead, and starts nothing."""

from __future__ import annotations

import json
import os
import shutil
import socket
import subprocess
import time
from pathlib import Path

import pytest

from gracewrap.config.subcommand_names import OF_OTHERS
from processes import GRACEWRAP, environment, require

BOUND = 30.0


class Place:
    """A directory with a marker that the command would make."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.marker = path / "started"
        self.command = ["--", shutil.which("touch") or "touch", str(self.marker)]

    def run(
        self,
        *words: object,
        env: dict[str, str] | None = None,
        command: list[str] | None = None,
        **options: object,
    ):
        """Run gracewrap here and return (status, lines of stderr)."""
        words = (*map(str, words), *(self.command if command is None else command))
        settings = {
            "env": {**environment(), **(env or {})},
            "stdin": subprocess.DEVNULL,
            "cwd": self.path,
            **options,
        }
        done = subprocess.run(
            [*GRACEWRAP, *words], check=False, capture_output=True, timeout=BOUND, **settings
        )
        assert done.stdout == b""
        return done.returncode, done.stderr.decode(errors="replace").splitlines()

    def refuse(self, *words: object, **more: object) -> str:
        """Run a mistake: 125, one line, nothing started; return the line."""
        status, lines = self.run(*words, **more)
        assert status == 125, lines
        assert len(lines) == 1 and lines[0].startswith("gracewrap: "), lines
        assert "Traceback" not in lines[0] and "internal error" not in lines[0]
        assert not self.marker.exists()
        return lines[0]

    def file(self, content: str | bytes, name: str = "g.toml") -> Path:
        """Write a file here."""
        path = self.path / name
        path.write_bytes(content.encode() if isinstance(content, str) else content)
        return path


@pytest.fixture
def place(tmp_path: Path) -> Place:
    return Place(tmp_path)


def test_without_a_mistake_the_command_runs(place):
    assert place.run() == (0, [])
    assert place.marker.exists()


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (
            ["--shutdown-timeout", "10 min"],
            'shutdown_timeout = "10 min" (command line, --shutdown-timeout): not a duration; write '
            '"10m"',
        ),
        (["--shutdown-timeout", "10"], 'has no unit; write "10s"'),
        (["--shutdown-timeout", "-10s"], "is negative"),
        (["--shutdown-timeout=-10s"], "is negative"),
        (["--stop-signal", "TREM"], 'no such signal; did you mean "TERM"?'),
        (["--stop-signal", "SIGFOO"], "no such signal; write TERM, QUIT or 15"),
        (["--stop-on", "TERM,KILL"], "SIGKILL cannot be caught"),
        (["--stop-timeout", "40s"], "longer than the whole budget"),
        (["--escalation", "30s=INT"], "the step at 30s is never reached"),
        (["--signal-map", "TERM=QUIT"], "not forwarded"),
        (["--stop-timout", "4s"], "did you mean --stop-timeout?"),
        (["--stop-timeout"], "it needs a value"),
        (["--config"], "it needs a value"),
        (["--stopwaitsecs", "4"], "gracewrap calls this --stop-timeout"),
        (["--kill-delay=4s"], "gracewrap calls this --stop-timeout"),
        (["--stop-grace-period", "4s"], "gracewrap calls this --shutdown-timeout"),
        (["--terminationGracePeriodSeconds=30"], "gracewrap calls this --shutdown-timeout"),
        (["--TimeoutStopSec=30"], "gracewrap calls this --shutdown-timeout"),
        (["--graceful_timeout", "30"], "gracewrap calls this --stop-timeout"),
        (["--cmd", "x"], "write the command after --"),
        (["-g"], "--kill-mode group"),
        (["-s"], "leave -s out"),
        (["-v"], "--log-level debug"),
        (["-e", "143"], "--success-exit-codes"),
        (["-p", "SIGTERM"], "--parent-death-signal"),
        (["-r", "HUP:QUIT"], "--signal-map HUP=QUIT"),
        (["--single-child"], "remove it"),
        (["--strict"], "it is for check; use gracewrap check --strict"),
        (["--restart", "on-failure:5"], 'write restart = "on-failure" and max_restarts = 5'),
        (["--stop-timeout", "1s\x1b[31m\n2s"], "\\x1b[31m\\n"),
        (["--stop-\nx"], "--stop-\\nx"),
        (["--drain-http", "localhost:3000/x"], 'has no scheme; write "http://localhost:3000/x"'),
        (
            ["--drain-http", "http://h/", "--drain-tcp", "auto"],
            "there is http too; write all = [{http = ...}, {tcp = ...}]",
        ),
        (
            ["--drain-json", "/x"],
            'there is no probe that it could belong to; write http = "http://127.0.0.1:3000/drain" '
            "beside it",
        ),
        (["--drain-tcp", "auto", "--drain-json", "/x"], "a probe by tcp does not look at json"),
        (
            ["--drain-interval", "1s"],
            'there is no probe in [drain]; add one, such as tcp = "auto" (--drain-tcp auto)',
        ),
        (["--drain-url", "http://h/"], "did you mean --drain-http?"),
        (["--drain-exec", "a && b"], "gracewrap runs no shell to read its &&; write sh -c '...'"),
        (["--drain", "tcp"], "write what tells that it is drained, --drain-tcp auto"),
        (["--drain-all", "x"], "it can only be set in a file: all in [drain]"),
        (["--propagation-delay", "24s"], "it is 1s longer than the whole budget"),
        (["--shutdownDelay", "5s"], "gracewrap calls this --propagation-delay"),
        (
            ["--healthcheck", "x"],
            "gracewrap calls this --health-listen (the word comes from Docker)",
        ),
        (["--drain-timeoutt", "5s"], "did you mean --drain-timeout?"),
        ([b"--stop-timeout", b"\xff\xfe"], "\\udcff\\udcfe"),
        ([b"--\xff"], "no such option"),
    ],
)
def test_wrong_options(place, words, said):
    command = [
        word.decode(errors="surrogateescape") if isinstance(word, bytes) else word for word in words
    ]
    assert said in place.refuse(command=[*command, *place.command])


@pytest.mark.parametrize(
    ("variable", "value", "said"),
    [
        (
            "GRACEWRAP_SHUTDOWN_TIMEOUT",
            "10",
            '(environment, GRACEWRAP_SHUTDOWN_TIMEOUT): has no unit; write "10s"',
        ),
        ("GRACEWRAP_STOP_ON", "STOP", "cannot be caught"),
        ("GRACEWRAP_STOP_TIMEOUT", "30s", "longer than the whole budget"),
        ("GRACEWRAP_STOP_TIMOUT", "3s", "did you mean GRACEWRAP_STOP_TIMEOUT?"),
        ("GRACEWRAP_STOPWAITSECS", "3", "gracewrap calls this GRACEWRAP_STOP_TIMEOUT"),
        ("GRACEWRAP_KILL_DELAY", "3s", "gracewrap calls this GRACEWRAP_STOP_TIMEOUT"),
        ("GRACEWRAP_STOP_GRACE_PERIOD", "3s", "gracewrap calls this GRACEWRAP_SHUTDOWN_TIMEOUT"),
        (
            "GRACEWRAP_TERMINATION_GRACE_PERIOD_SECONDS",
            "30",
            "gracewrap calls this GRACEWRAP_SHUTDOWN_TIMEOUT",
        ),
        ("GRACEWRAP_COMMAND", "x", "the command cannot come from a variable; write it after --"),
        ("GRACEWRAP_CMD", "x", "write it after --"),
        (
            "GRACEWRAP_CONFIG",
            "/nowhere/g.toml",
            "(environment, GRACEWRAP_CONFIG): No such file or directory",
        ),
        (
            "GRACEWRAP_DRAIN_HTTP",
            "http://u:p@h/",
            'drain.http = "http://...@h/" (environment, GRACEWRAP_DRAIN_HTTP): names a user',
        ),
        ("GRACEWRAP_DRAIN_LINGER", "2s", "there is no probe in [drain]"),
        ("GRACEWRAP_DRAIN_ANY", "x", "it can only be set in a file: any in [drain]"),
        ("GRACEWRAP_DRAIN_URL", "http://h/", "did you mean GRACEWRAP_DRAIN_HTTP?"),
        ("GRACEWRAP_SHUTDOWN_DELAY", "5", "gracewrap calls this GRACEWRAP_PROPAGATION_DELAY"),
        (
            "GRACEWRAP_HEALTH_LISTEN",
            "localhost:9000",
            'write its address, "127.0.0.1:9000" for localhost',
        ),
        ("GRACEWRAP_STOP_SIGNAL", b"\xff\n", "\\udcff\\n"),
        (b"GRACEWRAP_STOP_TIMEOU\xff", "1s", "did you mean GRACEWRAP_STOP_TIMEOUT?"),
    ],
)
def test_wrong_variables(place, variable, value, said):
    assert said in place.refuse(env={variable: value})


def test_what_kubernetes_sets_for_a_service_stops_nothing_and_costs_nothing(place):
    env = {
        "GRACEWRAP_PORT": "tcp://10.0.0.1:80",
        "GRACEWRAP_SERVICE_HOST": "10.0.0.1",
        "GRACEWRAP_SERVICE_PORT_HTTP": "80",
        "GRACEWRAP_PORT_80_TCP_ADDR": "10.0.0.1",
    }
    words = [GRACEWRAP[0], "-X", "importtime", *GRACEWRAP[1:], *place.command]
    done = subprocess.run(
        words, check=False, env=environment(**env), capture_output=True, timeout=BOUND
    )
    assert done.returncode == 0 and place.marker.exists()
    assert b"gracewrap.config.load" in done.stderr
    assert b"suggestions" not in done.stderr and b"difflib" not in done.stderr


def test_an_unknown_variable_that_is_no_slip_stops_nothing(place):
    assert place.run(env={"GRACEWRAP_XYZZY": "1"}) == (0, [])


@pytest.mark.parametrize(
    "words", [[], ["--"], ["--stop-timeout", "2s"], ["--stop-timeout", "2s", "--"]]
)
def test_nothing_to_run(place, words):
    assert "nothing to run: use gracewrap -- COMMAND" in place.refuse(command=words)
    if "--stop-timeout" not in words:
        said = "nothing to run: use gracewrap drill --url URL -- COMMAND"
        assert said in place.refuse("drill", command=words)


def test_alone_it_runs_what_the_file_here_says_and_says_so(place):
    place.file(f'command = ["touch", "{place.marker}"]\n', "gracewrap.toml")
    for words in ([], ["run"], ["--stop-timeout", "2s"]):
        status, lines = place.run(command=words)
        assert status == 0 and place.marker.exists()
        assert lines == [
            "gracewrap: neither a command nor --config is given: it runs what gracewrap.toml here "
            "says"
        ]
        place.marker.unlink()
    place.file("")
    assert "there is no command in g.toml" in place.refuse("--config", "g.toml", command=[])
    assert place.run() == (0, [])  # with a command it is not read


def test_a_command_behind_run(place):
    assert place.run("run") == (0, [])
    assert place.marker.exists()
    place.marker.unlink()
    assert place.run("run", "--stop-timeout", "2s") == (0, [])
    place.marker.unlink()
    assert "did you mean --stop-timeout?" in place.refuse("run", "--stop-timout", "2s")


@pytest.mark.parametrize("word", sorted(OF_OTHERS))
def test_a_word_of_another_supervisor_alone_is_not_run(place, word):
    program = place.file(f"#!/bin/sh\ntouch {place.marker}\n", word)
    program.chmod(0o755)
    env = {"PATH": f"{place.path}:{os.environ['PATH']}"}
    line = place.refuse(command=[word], env=env)
    assert f"gracewrap -- {word}" in line and "there is no gracewrap" in line
    assert place.run(command=["--", word], env=env) == (0, [])
    assert place.marker.exists()


@pytest.mark.parametrize("words", [["shutdown", "-h", "now"], ["halt", "-p"], ["reboot", "-f"]])
def test_what_stops_the_machine_is_not_run_with_words_either(place, words):
    for name in ("shutdown", "halt", "reboot"):
        place.file(f"#!/bin/sh\ntouch {place.marker}\n", name).chmod(0o755)
    env = {"PATH": f"{place.path}:{os.environ['PATH']}"}
    assert f"gracewrap -- {' '.join(words)}" in place.refuse(command=words, env=env)


def test_a_command_that_is_not_there(place):
    for words in ([""], ["xyzzy"], ["--", "chekc"]):
        status, lines = place.run(command=words)
        assert status == 127
        assert f"cannot run {words[-1]!r}" in json.loads(lines[0])["message"]


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["chekc"], "check"),
        (["statsu", "web"], "status"),
        (["innit"], "init"),
        (["drian"], "drain"),
    ],
)
def test_a_misspelt_subcommand_is_told_in_plain_text(place, words, said):
    status, lines = place.run(command=words)
    assert status == 127
    assert lines == [
        f"gracewrap: cannot run {words[0]!r} (command line): it is not found; did you mean "
        f"gracewrap {said}?"
    ]


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["start", "web"], "use gracewrap run"),
        (["logs", "-f"], "docker logs"),
        (["web.toml"], "it is a settings file: use gracewrap --config web.toml"),
        (["other.toml"], "gracewrap init other.toml writes one"),
    ],
)
def test_a_subcommand_that_there_is_not(place, words, said):
    place.file('command = ["true"]\n', "web.toml")
    status, lines = place.run(command=words, env={"PATH": str(place.path / "bin")})
    assert status == 127 and said in lines[0] and lines[0].startswith("gracewrap: cannot run")


# --- files ---------------------------------------------------------------------------------------

DEEP = f"stop_on = {'[' * 5000}{']' * 5000}\n"


@pytest.mark.parametrize(
    ("content", "said"),
    [
        ('stop_timeout = "10 s"\n', "g.toml, line 1): not a duration"),
        ("\n\nstop_timeout = 10\n", 'g.toml, line 3): has no unit; write "10s"'),
        ('[log]\nlevel = "loud"\n', "log.level = "),
        ('stop_singal = "INT"\n', "did you mean stop_signal?"),
        (
            "stopwaitsecs = 10\n",
            "gracewrap calls this stop_timeout (the word comes from supervisord)",
        ),
        ('kill-delay = "10s"\n', "gracewrap calls this stop_timeout"),
        ('stop_grace_period = "10s"\n', "gracewrap calls this shutdown_timeout"),
        ("terminationGracePeriodSeconds = 30\n", "gracewrap calls this shutdown_timeout"),
        ("TimeoutStopSec = 30\n", "gracewrap calls this shutdown_timeout"),
        ("graceful_timeout = 30\n", "gracewrap calls this stop_timeout"),
        ('[report]\nstop_timeout = "10s"\n', "move the line up, above the first [table]"),
        (
            '[programs.web]\ncommand = ["true"]\n',
            "cannot use a command (command line): there are [programs] (",
        ),
        ('command = ["true"]\n', "cannot use two commands: one on the command line, one in "),
        (
            '[drain]\nall = [{tcp = "auto"}, {json = "/x"}]\n',
            "g.toml, line 2): its probe 2: json: there is no probe",
        ),
        (
            '[[drain.any]]\ntcp = "auto"\nqiet = "1s"\n',
            'line 1): its probe 1: qiet: no such key; did you mean "quiet"?',
        ),
        (
            '[drain]\ntcp = "auto"\n[drain.headers]\nX = "secret"\n',
            "g.toml, line 3): a probe by tcp does not look at headers",
        ),
        ('drain = "tcp"\n', "it is a table; write [drain]"),
        ('[drain]\ncommand = ["x"]\n', "did you mean exec in [drain]?"),
        (
            'ready = {all = [{tcp = "auto"}, {http = "x"}]}\n',
            'its probe 2: http: has no scheme; write "http://x"',
        ),
        ('preStop = ["x"]\n', "gracewrap calls this pre_stop (the word comes from Kubernetes)"),
        (
            "stop_timeout = 10s\n",
            "line 1, column 18: not TOML: expected newline or end of document after a statement",
        ),
        ("stop_timeout = 10s\n", '; text needs quotes: stop_timeout = "10s"'),
        ("stop_signal = QUIT\n", 'text needs quotes: stop_signal = "QUIT"'),
        ("shutdown_timeout: 10s\n", 'TOML is written like this: shutdown_timeout = "25s"'),
        ("---\nshutdown_timeout: 10s\n", "TOML is written like this"),
        ('{"shutdown_timeout": "10s"}\n', "TOML is written like this"),
        ("[program:web]\ncommand=true\n", "line 1, [program:web]: it is a file of supervisord"),
        (
            "[supervisord]\nnodaemon=true\n[program:x]\ncommand=node\n",
            'table "Coming from" in docs/migrate.md',
        ),
        ('command = ["node", server.js]\n', 'text needs quotes: "server.js"'),
        (
            'command = [\n  "a, b", # c, d,\n  server.js,\n]\n',
            'invalid value; text needs quotes: "server.js"',
        ),
        ('escalation = [{after = "10s", signal = INT}]\n', 'text needs quotes: "INT"'),
        (
            'stop_on = ["TERM", 2 3]\n',
            "line 1, column 22: not TOML: unclosed array; a comma is missing before 3",
        ),
        (
            'command = [\n  "node"\n  "server.js"\n]\n',
            'line 3, column 3: not TOML: unclosed array; a comma is missing before "s',
        ),
        (
            'command = ["sh", "-c", "echo "x""]\n',
            "a comma is missing, or a quote ends a text too early",
        ),
        (
            'command = ["a", "b"\nstop_signal = "INT"\n',
            "unclosed array; the [ in line 1 is never closed: write ] where it ends",
        ),
        (
            'command = ["a", "b",\nstop_signal = "INT"\n',
            "invalid value; the [ in line 1 is never closed: write ] where it ends",
        ),
        (
            'command = ["a",\n  "b",\n\n[log]\nlevel = "debug"\n',
            "line 4, column 2: not TOML: invalid value; the [ in line 1 is",
        ),
        (
            "ready = {all = [{tcp = 80}, {tcp = 81}\n",
            "(at its end); the [ in line 1 is never closed",
        ),
        (
            '\nready = {tcp = 80\nstop_signal = "INT"\n',
            "the { in line 2 is never closed: write } where it ends",
        ),
        ("ready = {tcp = 80]\n", "the { in line 1 is never closed: write } where it ends"),
        (
            '[programs.web]\nenv = {\n  A = "x",\n}\n',
            "stands in one line; write [programs.web.env], and below it one setting",
        ),
        (
            'env = {A = "x",\n  B = "y"}\n',
            "a table in braces stands in one line; write [env], and below it",
        ),
        ('env = {A = "x", B = "y",}\n', "no comma stands before the }"),
        ('env = {A = "x" B = "y"}\n', "a comma is missing before B"),
        ('env = {A = "x", A = "y"}\n', "line 1: 'A' is written twice in one table; leave one out"),
        ('command = ["true"]]\n', "there is one ] too many"),
        ('command = "node", "server.js"\n', "a list stands in brackets: [...]"),
        ('command = ("node")\n', 'a list stands in brackets: command = ["node"]'),
        ('[log] level = "debug"\n', "each setting, and each [table], has a line of its own"),
        ('stop_signal = "INT\n', "the quote that ends the text is missing in this line"),
        ("stop_signal = \u201cINT\u201d\n", '\u201c is no quote of TOML: write "'),
        ('command = ["grep", "\\d"]\n', "write \\\\, or put the text in '...'"),
        (
            '[programs.web]\ncommand = ["a"]\n[programs.db]\ncommand = '
            '["b"]\n[programs.web]\nready = "tcp"\n',
            "line 5: the table [programs.web] is there already, in line 1; put all of its settings "
            "below one header",
        ),
        (
            'log.level = "info"\n[log]\nformat = "text"\n',
            "line 2: the table [log] is there already, in line 1",
        ),
        (
            '[programs."my web"]\n[programs."my web"]\n',
            'line 2: the table [programs."my web"] is there already, in line 1',
        ),
        (
            'env = {A = "x"}\nenv.B = "y"\n',
            "line 2: env is a table in braces, in line 1; put all of its settings into",
        ),
        (
            '[programs.web]\ncommand = ["a"]\ncommand = ["b"]\n',
            "line 3: programs.web.command is written twice, ",
        ),
        ('log_level = "debug"\n', 'write level = "..." in [log]'),
        ('stop_on = ["TERM"\n', "not TOML: unclosed array"),
        (
            'stop_timeout = "1s"\nstop_timeout = "2s"\n',
            "line 2: stop_timeout is written twice, the first time in line 1; ",
        ),
        (b"# caf\xe9\n", "line 1 is not UTF-8 (byte 0xe9); save it as UTF-8"),
        ("stop_timeout = '1s'\n".encode("utf-16"), "line 1 is not UTF-8"),
        (b"stop_on = \0", "not TOML"),
        ('stop_signal = "A\\u0000B"\n', "A\\x00B"),
        ('[log]\nfile = "a\\u0000b"\n', "NUL character"),
        (DEEP, "nested too deeply"),
        (f"stop_on{'.a' * 150} = 1\n", "not a list"),
        (
            f"\nstop_on{'.a' * 120000} = 1\n",
            "line 2: a key of more than 200 parts is nested too deeply",
        ),
        (f"[{' a .' * 60000}a]\n", "line 1: a key of more than 200 parts"),
        (f"shutdown_timeout = {'9' * 5000}\n", "not TOML: exceeds the limit"),
        (f"shutdown_timeout = 0x{'f' * 5000}\n", "not a duration"),
        ("stop_on = 1\n" * 30000, "is it the right file?"),
    ],
    ids=lambda content: repr(content[:25]) if isinstance(content, str | bytes) else None,
)
def test_wrong_files(place, content, said):
    assert said in place.refuse("--config", place.file(content))


def test_a_file_of_another_program_is_not_commented_on_line_by_line(place):
    file = place.file("".join(f"key{number} = {number}\n" for number in range(15000)))
    status, lines = place.run("--config", file)
    assert status == 125
    assert len(lines) == 31 and "there are more; is it the right file?" in lines[-1]


def test_a_byte_order_mark_and_dos_line_ends_are_fine(place):
    file = place.file('\ufeffstop_timeout = "2s"\r\n[log]\r\nlevel = "debug"\r\n')
    status, lines = place.run("--config", file)
    assert status == 0 and place.marker.exists() and lines  # debug says something
    file.write_bytes(b'\r\n[log]\r\nlevel = "loud"\r\n')
    place.marker.unlink()
    assert f"{file}, line 3" in place.refuse("--config", file)


def test_files_that_are_none(place):
    assert "No such file or directory; gracewrap init writes one" in place.refuse(
        "--config", "missing.toml"
    )
    assert "its directory does not exist" in place.refuse("--config", "no/where.toml")
    assert "its name is empty" in place.refuse("--config", "")
    assert "it is a directory; name the file in it" in place.refuse("--config", place.path)
    assert "neither a file nor a pipe" in place.refuse("--config", "/dev/zero")
    assert "neither a file nor a pipe" in place.refuse("--config", "/dev/null")
    (place.path / "loop").symlink_to("loop")
    assert "symbolic links" in place.refuse("--config", "loop")
    assert "too long" in place.refuse("--config", "x" * 5000)
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(place.path / "socket"))
        assert "cannot read 'socket' (command line, --config): No such device" in place.refuse(
            "--config", "socket"
        )


def test_a_file_that_may_not_be_read(place):
    file = place.file("")
    file.chmod(0)
    if os.geteuid():
        assert f"Permission denied for user {os.geteuid()}; chmod or chown it" in place.refuse(
            "--config", file
        )
        return
    require(shutil.which("setpriv"), "setpriv(1)")
    # The interpreter and the package may lie where another user cannot look, so root's rights are
    # kept for all but the read.
    drop = [
        "setpriv",
        "--bounding-set=-dac_override,-dac_read_search",
        "--inh-caps=-dac_override,-dac_read_search",
    ]
    os.chown(file, 12345, 12345)
    done = subprocess.run(
        [*drop, *GRACEWRAP, "--config", str(file), *place.command],
        check=False,
        capture_output=True,
        timeout=BOUND,
        env=environment(),
    )
    assert done.returncode == 125 and not place.marker.exists()
    assert b"Permission denied for user 0; chmod or chown it" in done.stderr


def test_a_gigabyte_is_refused_at_once(place):
    file = place.path / "big.toml"
    with open(file, "wb") as out:
        out.truncate(1 << 30)
    before = time.monotonic()
    limited = [
        "sh",
        "-c",
        'ulimit -v 400000; exec "$@"',
        "sh",
        *GRACEWRAP,
        "--config",
        str(file),
        *place.command,
    ]
    done = subprocess.run(
        limited, check=False, capture_output=True, timeout=BOUND, env=environment()
    )
    assert done.returncode == 125 and b"it has 1073741824 bytes" in done.stderr
    assert time.monotonic() - before < 10  # a hundredth of that, but the machine may be loaded


def test_pipes(place):
    reading, writing = os.pipe()
    os.write(writing, b'stop_timeout = "x"\n')
    os.close(writing)
    assert f"/dev/fd/{reading}, line 1" in place.refuse(
        "--config", f"/dev/fd/{reading}", pass_fds=(reading,)
    )
    os.close(reading)
    script = f'exec "$@" --config <(echo \'command = ["touch", "{place.marker}"]\')'
    done = subprocess.run(
        ["bash", "-c", script, "bash", *GRACEWRAP],
        check=False,
        capture_output=True,
        timeout=BOUND,
        env=environment(),
    )
    assert (done.returncode, done.stderr) == (0, b"")
    assert place.marker.exists()


@pytest.mark.slow
def test_pipes_that_do_not_end_are_left_in_time(place):
    os.mkfifo(place.path / "fifo")
    assert "the pipe did not end within 5 s; is anybody writing to it?" in place.refuse(
        "--config", "fifo"
    )
    reading, writing = os.pipe()
    os.write(writing, b"#")  # and never closed
    assert "did not end" in place.refuse("--config", f"/dev/fd/{reading}", pass_fds=(reading,))
    os.close(reading)
    os.close(writing)


def test_an_endless_pipe_is_left(place):
    reading, writing = os.pipe()
    with subprocess.Popen(["yes"], stdout=writing) as yes:
        os.close(writing)
        assert "more than 262144 bytes" in place.refuse(
            "--config", f"/dev/fd/{reading}", pass_fds=(reading,)
        )
        yes.kill()
    os.close(reading)


def test_all_problems_are_said_at_once(place):
    file = place.file('flush_timeout = 1\ncolour = "red"\n')
    status, lines = place.run(
        "--config", file, "--stop-signal", "FOO", env={"GRACEWRAP_STOP_TIMOUT": "1s"}
    )
    assert status == 125 and len(lines) == 4 and not place.marker.exists()


def test_an_unreadable_stderr_does_not_change_the_status(place):
    for end in (">&-", "> /dev/full"):
        shell = [
            "sh",
            "-c",
            f'exec "$@" 2{end}',
            "sh",
            *GRACEWRAP,
            "--stop-timeout",
            "x",
            *place.command,
        ]
        assert (
            subprocess.run(shell, check=False, env=environment(), timeout=BOUND).returncode == 125
        )
    assert not place.marker.exists()
