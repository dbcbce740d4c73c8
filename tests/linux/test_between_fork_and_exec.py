"""What the command is: its user, directory, variables, limits, stdin; asked of real processes."""

from __future__ import annotations

import grp
import os
import pwd
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gracewrap.config import env_file, user_lookup
from gracewrap.config.command_line import read_command_line
from gracewrap.config.load import resolve
from gracewrap.config.parsers import process
from gracewrap.config.settings import FromFile
from gracewrap.config.values import BadValue
from gracewrap.linux.between_fork_and_exec import ExecContext
from processes import (
    BOUND,
    GRACEWRAP,
    OTHER_USER,
    environment,
    require,
    require_other_user,
    require_root,
)

PYTHON = [sys.executable, "-I", "-S", "-c"]
# The interpreter may lie in somebody's home: whoever the command becomes, it may read everything.
READING = (
    *("setpriv", "--inh-caps=+dac_read_search", "--ambient-caps=+dac_read_search"),
    "--securebits=+no_setuid_fixup",
)
NOBODY = pwd.getpwnam("nobody")


class Done:
    """A run that is over."""

    def __init__(self, *args: object, prefix: tuple[str, ...] = (), **options: object) -> None:
        options = {
            "env": environment(),
            "capture_output": True,
            "text": True,
            "timeout": 30,
            "stdin": subprocess.DEVNULL,
            **options,
        }
        done = subprocess.run([*prefix, *GRACEWRAP, *map(str, args)], **options)  # type: ignore[call-overload]
        self.status, self.out, self.err = done.returncode, done.stdout, done.stderr


def variables(*args: object, **options: object) -> dict[str, str]:
    """Return the environment of a command that is run like this."""
    done = Done(*args, "--", shutil.which("env"), "-0", **options)
    assert done.status == 0, done.err
    return dict(word.split("=", 1) for word in done.out.split("\0") if word)


def shown(*args: object, **options: object) -> dict[str, list[str]]:
    """Return what /proc/self/status says in a command that is run like this."""
    done = Done(*args, "--", "cat", "/proc/self/status", **options)
    assert done.status == 0, done.err
    return {
        name: words.split()
        for name, _, words in (line.partition(":") for line in done.out.splitlines())
    }


def ids(*numbers: int) -> list[str]:
    return [str(number) for number in sorted(set(numbers))]


def refusal(*args: object, **options: object) -> str:
    """Return what is said of a start that is refused before anything is started."""
    done = Done(*args, "--", "sh", "-c", "echo started", **options)
    assert (done.status, done.out) == (125, "")
    return done.err.removeprefix("gracewrap: ").rstrip("\n")


def failure(*args: object, **options: object) -> str:
    """Return what is said of a child that cannot become what it should."""
    done = Done("--log-format", "text", *args, "--", "sh", "-c", "echo started", **options)
    assert (done.status, done.out) == (126, "")
    return done.err


# --- user and groups -----------------------------------------------------------------------------


def test_a_user_by_name():
    require_root()
    found = shown("--user", "nobody")
    assert found["Uid"] == ids(NOBODY.pw_uid) * 4 and found["Gid"] == ids(NOBODY.pw_gid) * 4
    assert found["Groups"] == ids(*os.getgrouplist("nobody", NOBODY.pw_gid))
    env = variables("--user", NOBODY.pw_uid)
    assert [env[name] for name in ("HOME", "USER", "LOGNAME", "SHELL")] == [
        NOBODY.pw_dir,
        "nobody",
        "nobody",
        NOBODY.pw_shell,
    ]


def test_a_number_without_an_entry():
    require_root()
    found = shown("--user", "34567", "--working-dir", "/")
    assert (found["Uid"], found["Gid"], found["Groups"]) == (
        ["34567"] * 4,
        ["34567"] * 4,
        ["34567"],
    )
    env = variables("--user", "34567", env=environment(USER="root", SHELL="/bin/x"))
    assert env["HOME"] == "/" and not {"USER", "LOGNAME", "SHELL"}.intersection(env)
    assert variables("--user", "34567", "--env", "HOME=/data")["HOME"] == "/data"


def test_groups():
    require_root()
    video = grp.getgrnam("video").gr_gid
    found = shown(
        "--user",
        "nobody",
        "--group",
        "video",
        "--supplementary-groups",
        "34568",
        "--supplementary-groups",
        "daemon",
    )
    assert found["Gid"] == ids(video) * 4
    assert found["Groups"] == ids(
        *os.getgrouplist("nobody", video), 34568, grp.getgrnam("daemon").gr_gid
    )
    found = shown("--group", "video")
    assert found["Uid"] == ["0"] * 4 and found["Gid"] == ids(video) * 4


def test_it_is_stopped_as_any_other(start):
    """gracewrap keeps its own user, and so may still signal it."""
    require_root()
    run = start(
        "--user",
        "nobody",
        "--",
        "sh",
        "-c",
        "trap 'exit 5' TERM; id -un; while :; do sleep 60 & wait; done",
    )
    assert run.line() == "nobody"
    assert os.stat(f"/proc/{run.pid}").st_uid == 0
    run.process.terminate()
    assert run.wait() == 5


def test_what_others_may_not(tmp_path):
    require_other_user()
    said = failure("--user", "nobody", prefix=OTHER_USER)
    assert (
        "cannot become user 'nobody': Operation not permitted; gracewrap runs as uid 34567" in said
    )
    assert "cannot get group 'video': Operation not permitted" in failure(
        "--group", "video", prefix=OTHER_USER
    )
    assert "cannot get supplementary_groups: " in failure(
        "--supplementary-groups", "video", prefix=OTHER_USER
    )
    assert "cannot set nice = -5: " in failure("--nice=-5", prefix=OTHER_USER)
    limited = (*OTHER_USER, "prlimit", "--nofile=100:200")
    said = failure("--rlimits", "nofile=300", prefix=limited)
    assert (
        "cannot set the limit nofile: Operation not permitted; the hard limit is 200, and "
        "gracewrap runs as uid 34567" in said
    )


def test_who_it_is_already_it_may_become():
    require_other_user()
    found = shown("--user", "34567", "--group", "34567", prefix=OTHER_USER)
    assert found["Uid"] == ["34567"] * 4


def test_a_user_or_group_that_is_not_there():
    said = refusal("--user", "nobdy")
    assert said.startswith(
        'cannot use user = "nobdy" (command line, --user): there is no such user here'
    )
    assert "no such group" in refusal("--group", "x-none") and "no such group" in refusal(
        "--supplementary-groups", "x-none"
    )


# --- directory, mask, limits, priority, stdin ----------------------------------------------------


def test_everything_at_once(tmp_path):
    found = Done(
        "--working-dir",
        tmp_path,
        "--umask",
        "027",
        "--nice",
        "7",
        "--",
        "sh",
        "-c",
        "pwd; umask; nice",
    )
    assert found.out.split() == [str(tmp_path), "0027", "7"]
    limits = Done(
        "--rlimits",
        "nofile=100:200",
        "--rlimits",
        "core=0",
        "--",
        "sh",
        "-c",
        "ulimit -n; ulimit -Hn; ulimit -c",
    )
    assert limits.out.split() == ["100", "200", "0"]


def test_the_command_is_looked_up_with_its_own_path_and_in_its_own_directory(tmp_path):
    (tmp_path / "bin").mkdir()
    for name, status in (("bin/only-here", 41), ("local", 42)):
        (tmp_path / name).write_text(f"#!/bin/sh\nexit {status}\n")
        (tmp_path / name).chmod(0o755)
    assert Done("--env", f"PATH={tmp_path}/bin", "--", "only-here").status == 41
    assert Done("--working-dir", tmp_path, "--", "./local").status == 42
    assert (
        Done("--working-dir", "bin", "--env", "PATH=.", "--", "only-here", cwd=tmp_path).status
        == 41
    )
    missing = Done("--working-dir", tmp_path, "--", "./missing")
    assert (
        missing.status == 127 and "cannot run './missing': No such file or directory" in missing.err
    )
    assert Done("--clear-env", "--", "only-here").status == 127


def test_a_directory_that_cannot_be_used(tmp_path):
    (tmp_path / "file").write_text("")
    assert "No such file or directory; write a directory" in refusal(
        "--working-dir", tmp_path / "none"
    )
    assert "it is not a directory" in refusal("--working-dir", tmp_path / "file")
    require_root()
    tmp_path.chmod(0o700)
    said = failure("--user", "34567", "--working-dir", tmp_path)
    assert f"cannot start in working_dir '{tmp_path}': Permission denied for user 34567" in said


def test_stdin_null():
    assert Done("--stdin", "null", "--", "cat", stdin=None, input="x\n").out == ""
    assert Done("--stdin", "inherit", "--", "cat", stdin=None, input="x\n").out == "x\n"


def test_nothing_of_it_is_loaded_without_such_a_setting():
    command = [sys.executable, "-X", "importtime", *GRACEWRAP[1:]]
    for words, wanted in (["--stop-timeout", "1s"], False), (["--nice", "1"], True):
        done = subprocess.run(
            [*command, *words, "--", "true"],
            env=environment(),
            capture_output=True,
            text=True,
            timeout=30,
        )
        for module in (
            "gracewrap.config.user_lookup",
            "gracewrap.linux.between_fork_and_exec",
            "gracewrap.config.env_file",
        ):
            assert (f" {module}\n" in done.stderr) == wanted, module
        assert " pwd\n" not in done.stderr and " resource\n" not in done.stderr


# --- variables -----------------------------------------------------------------------------------


def test_variables_and_their_order(tmp_path):
    (tmp_path / "a.env").write_text("A=file\nB=file\nC=file\n")
    (tmp_path / "b.env").write_text("C=second\n")
    files = ("--env-file", tmp_path / "a.env", "--env-file", tmp_path / "b.env")
    found = variables(
        *files, "--env", "A=x,y=z", "--env", "E=", env=environment(A="ours", B="ours", D="ours")
    )
    assert [found[name] for name in "ABCDE"] == ["x,y=z", "file", "second", "ours", ""]
    assert variables("--clear-env", "--env", "A=1", *files) == {
        "A": "1",
        "B": "file",
        "C": "second",
    }


def test_a_secret_from_a_file(tmp_path):
    (tmp_path / "db").write_bytes(b"s3cr\xff t\n")
    file = tmp_path / "g.toml"
    file.write_text(f'[env]\nDB_PASSWORD = {{file = "{tmp_path}/db"}}\nPORT = 3000\n')
    done = Done(
        "--config",
        file,
        "--",
        *PYTHON,
        "import posix; print(posix.environ[b'DB_PASSWORD'], posix.environ[b'PORT'])",
    )
    assert done.out == "b's3cr\\xff t' b'3000'\n"
    (tmp_path / "db").write_bytes(b"a\0b")
    assert (
        f'cannot use env = {{DB_PASSWORD = {{file = "{tmp_path}/db"}}}} ({file}, line 1): it holds '
        "a NUL" in refusal("--config", file)
    )
    (tmp_path / "db").unlink()
    assert "cannot read it: No such file or directory" in refusal("--config", file)


def test_what_is_secret_is_not_shown(tmp_path):
    file = tmp_path / "g.toml"
    file.write_text('env = {A = "s3cret", B = {file = "/etc/hostname"}}\n')
    done = Done("check", "--config", file, "true")
    assert (
        done.status == 0
        and "s3cret" not in done.out + done.err
        and 'B = {file = "/etc/hostname"}' in done.out
    )
    for words in (("--env", "A=s3cret", "--env", "s3cret"), ("--env", "=s3cret")):
        assert "s3cret" not in refusal(*words)
    file.write_text("A=fine\ns3cret\n")
    assert "line 2 has no =" in (said := refusal("--env-file", file)) and "s3cret" not in said


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("", {}),
        ("# x\n\n  # y\nA=1", {"A": "1"}),
        ("A = 1 \n", {"A": "1"}),
        ("A=1 # one\nB=1#2\nC=# x", {"A": "1", "B": "1#2", "C": ""}),
        ("export A=1\r\nB=2\r\n", {"A": "1", "B": "2"}),
        ("A='x # $Y \\n'", {"A": "x # $Y \\n"}),
        ('A="a\\nb\\"c\\$\\x"', {"A": 'a\nb"c$\\x'}),
        ("A='one\n  two\n'  # x\nB=3", {"A": "one\n  two\n", "B": "3"}),
        ("A=1\nA=2", {"A": "2"}),
        ("A=x=y", {"A": "x=y"}),
        ("A=it's", {"A": "it's"}),
        ("a.b-c=1", {"a.b-c": "1"}),
        ("A=$B${C}", {"A": "$B${C}"}),
        ("\ufeffA=1", {"A": "1"}),
        ("A=''", {"A": ""}),
    ],
)
def test_files_of_variables(text, found):
    assert env_file.parse(text.encode()) == {
        name.encode(): value.encode() for name, value in found.items()
    }


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("A=1\nB", "line 2 has no ="),
        ("\n=1", "line 2: before the = stands no name"),
        ("A B=1", "line 1: before the ="),
        ("A=1\nB='x\ny\n", "line 2: its ' is never closed"),
        ('A="x"y', 'line 1: something follows the closing "'),
        ("A='x\n' y", "line 2: something follows"),
        ("A=\0", "line 1 holds a NUL"),
        (f"A={'x' * (128 << 10)}", "line 1: the value has more"),
    ],
    ids=lambda text: text[:12].encode("unicode_escape").decode(),
)
def test_lines_that_cannot_be_read(text, said):
    with pytest.raises(env_file.BadLine, match=said.replace("'", ".")):
        env_file.parse(text.encode())


@given(st.binary(max_size=60) | st.text("A=B'\"\\n #\n\r\0$", max_size=30).map(str.encode))
def test_any_file_is_read_or_refused(content):
    try:
        found = env_file.parse(content)
    except env_file.BadLine as fault:
        assert str(fault).isprintable()
    else:
        assert all(
            name and b"\0" not in name + value and b"=" not in name for name, value in found.items()
        )


# --- values --------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("parse", "raw", "value"),
    [
        (process.account, 0, "0"),
        (process.account, "007", "7"),
        (process.account, "www-data", "www-data"),
        (process.umask, "022", 0o22),
        (process.umask, "0o077", 0o77),
        (process.umask, "0", 0),
        (process.nice, "-20", -20),
        (process.nice, "+5", 5),
        (
            process.limits,
            {"LimitNOFILE": 5, "RLIMIT_CORE": "unlimited"},
            {"nofile": (5, 5), "core": (-1, -1)},
        ),
        (process.limits, "nproc=1:infinity,cpu=2", {"nproc": (1, -1), "cpu": (2, 2)}),
        (process.variables, "A=1\0B=2,3", {"A": "1", "B": "2,3"}),
        (process.variables, ["A=1"], {"A": "1"}),
        (process.variables, {"A": {"file": "/x"}}, {"A": FromFile("/x")}),
        (process.places, "/a,/b", ("/a", "/b")),
    ],
)
def test_values(parse, raw, value):
    assert parse(raw) == value


@pytest.mark.parametrize(
    ("parse", "raw", "said"),
    [
        (process.account, "1000:1000", 'write user = "1000" and group = "1000"'),
        (process.account, True, "neither"),
        (process.umask, 22, 'write "022"'),
        (process.limits, {"nofiles": 1}, 'did you mean "nofile"'),
        (process.limits, {"nofile": True}, "write nofile = 65536"),
        (process.limits, "nofile=9:1", "the soft limit is above"),
        (process.variables, {"A": {"env": "X"}}, "neither text nor a file"),
        (process.variables, {"A": {"file": ""}}, "the file of A: is empty"),
        (process.variables, "A", "write NAME=VALUE"),
    ],
)
def test_no_values(parse, raw, said):
    with pytest.raises(BadValue) as caught:
        parse(raw)
    assert said in str(caught.value)


# --- checks and helpers --------------------------------------------------------------------------


def test_check_says_what_a_start_would_refuse_here(tmp_path):
    done = Done(
        "check",
        "--user",
        "nobdy",
        "--working-dir",
        tmp_path / "none",
        "--env-file",
        tmp_path / "x",
        "true",
    )
    lines = done.err.splitlines()
    assert (
        done.status == 0
        and len(lines) == 3
        and all(line.startswith("gracewrap: warning: cannot use ") for line in lines)
    )
    (tmp_path / "g.toml").write_text(
        'command = ["true"]\n[env]\nA = "1"\nshutdown_timeout = "5s"\n'
    )
    assert (
        "env has a variable shutdown_timeout, which is a setting too"
        in Done("check", "--config", tmp_path / "g.toml").err
    )


@pytest.fixture
def anybodys():
    """A directory that every user may write to: pytest's own are behind one that only we may
    enter."""
    with tempfile.TemporaryDirectory() as directory:
        os.chmod(directory, 0o777)
        yield Path(directory)


def test_hooks_and_probes_are_what_the_command_is(start, anybodys):
    require_root()
    options = (
        "--user",
        "34567",
        "--working-dir",
        anybodys,
        "--env",
        "A=1",
        "--umask",
        "077",
        "--log-format",
        "json",
    )
    hook = anybodys / "hook"
    hook.write_text('#!/bin/sh\necho hook $(id -u) $(pwd) "$A" "$GRACEWRAP_OUTCOME"\n')
    probe = anybodys / "probe"
    probe.write_text("#!/bin/sh\ntest $(id -u) = 34567 && test -e stopping && : >seen\n")
    for script in (hook, probe):
        script.chmod(0o755)
    command = "trap ': >stopping' TERM; echo up; while :; do sleep 60 & wait; done"
    run = start(
        *options, "--post-stop", "./hook", "--drain-exec", "./probe", "--", "sh", "-c", command
    )
    assert run.line() == "up"
    run.process.terminate()
    assert run.line() == f"hook 34567 {anybodys} 1 drained"
    run.wait()
    for name in ("stopping", "seen"):
        found = (anybodys / name).stat()
        assert (found.st_uid, found.st_mode & 0o777) == (34567, 0o600)


def test_a_hook_that_cannot_be_run_is_told(start):
    run = start("--nice", "1", "--pre-stop", "/no/such", "--", "sh", "-c", "echo up; exec sleep 60")
    assert run.line() == "up"
    run.process.terminate()
    assert "cannot run '/no/such'" in run.err.until("cannot run")
    assert "127" in run.err.until("/no/such")
    assert run.wait() == 143


def test_notify_still_works(start):
    require_root()
    send = (
        "import _socket as s, os; s.socket(1, 2).sendto(b'READY=1', "
        "os.environ['NOTIFY_SOCKET']); print('sent', flush=1); input()"
    )
    options = (
        "--user",
        "34567",
        "--working-dir",
        "/",
        "--ready",
        "notify",
        "--log-level",
        "debug",
        "--log-format",
        "json",
    )
    run = start(*options, "--", *PYTHON, send, stdin=subprocess.PIPE, prefix=READING)
    assert run.line() == "sent"
    assert run.log_line("ready")


def test_root_s_own_environment_is_not_in_the_way():
    require(os.geteuid() == 0, "root")
    settings, _ = resolve(read_command_line(["--user", "root", "--", "true"]), {})
    assert settings is not None
    found = user_lookup.resolve_exec_context(settings)
    assert isinstance(found, ExecContext) and (found.uid, found.gid, found.groups) == (0, 0, None)


@pytest.mark.root
@pytest.mark.parametrize("lost", ["setuid", "setgid"])
def test_that_it_may_not_become_another_user_is_all_that_is_said(lost):
    require_other_user()
    bounds = f"--bounding-set=-kill,-{lost}", f"--inh-caps=-kill,-{lost}"
    user = "--user", "34567", "--group", "34567"
    command = ["setpriv", *bounds, *GRACEWRAP, *user, "--", "true"]
    done = subprocess.run(command, capture_output=True, text=True, env=environment(), timeout=BOUND)
    assert done.returncode == 126
    assert "Operation not permitted" in done.stderr and "CAP_KILL" not in done.stderr
