"""What the child finds when it starts: signals, descriptors, group, environment, words; and what
gracewrap keeps."""

from __future__ import annotations

import os
import signal
import subprocess
import sys

import pytest

from gracewrap.linux import fork, spawn
from processes import (
    GRACEWRAP,
    MAIN,
    OTHER_USER,
    environment,
    require_other_user,
    require_root,
    running,
    wait_until,
)

SHOW = [sys.executable, "-I", "-S", "-c"]


# posix_spawn of glibc leaves its two internal signals ignored, in every program that starts
# children by it (make, Java); the threads library sets its own handlers when it needs them (glibc
# sysdeps/unix/sysv/linux/spawni.c).
OF_GLIBC = 1 << 31 | 1 << 32


def mask(text: str, name: str) -> int:
    return next(int(line.split()[1], 16) for line in text.splitlines() if line.startswith(name))


def output(*args: object, **options: object) -> str:
    options = {
        "env": environment(),
        "timeout": 30,
        "text": True,
        "stdout": subprocess.PIPE,
        **options,
    }
    return str(subprocess.run([*GRACEWRAP, *map(str, args)], **options).stdout)  # type: ignore[call-overload]


def test_child_has_an_empty_mask_and_default_dispositions():
    """Python ignores SIGPIPE and SIGXFSZ, and gracewrap blocks everything: neither may show."""
    text = output("--", "cat", "/proc/self/status")
    assert mask(text, "SigBlk") == 0
    assert mask(text, "SigIgn") & ~OF_GLIBC == 0


def start_with(blocked: set[int], ignored: set[int]) -> None:
    for signum in ignored:
        signal.signal(signum, signal.SIG_IGN)
    signal.pthread_sigmask(signal.SIG_SETMASK, blocked)


def test_being_started_with_signals_blocked_and_ignored_makes_no_difference():
    blocked, ignored = (
        {signal.SIGTERM, signal.SIGCHLD, signal.SIGUSR1},
        {signal.SIGINT, signal.SIGTERM, signal.SIGCHLD},
    )
    text = output("--", "cat", "/proc/self/status", preexec_fn=lambda: start_with(blocked, ignored))
    assert mask(text, "SigBlk") == 0
    assert mask(text, "SigIgn") & ~OF_GLIBC == 0


def test_stop_works_when_started_with_its_signals_ignored(talk):
    run = talk(
        "exit=4", preexec_fn=lambda: start_with({signal.SIGCHLD}, {signal.SIGTERM, signal.SIGCHLD})
    )
    run.ready()
    run.send(signal.SIGTERM)
    assert run.line() == "15"
    assert run.wait() == 4


def test_nohup_works_through_gracewrap():
    text = output(
        "--", "cat", "/proc/self/status", preexec_fn=lambda: start_with(set(), {signal.SIGHUP})
    )
    assert mask(text, "SigIgn") & ~OF_GLIBC == 1 << (signal.SIGHUP - 1)


def test_child_leads_a_process_group_of_its_own():
    pid, pgid = output("--", *SHOW, "import posix; print(posix.getpid(), posix.getpgrp())").split()
    assert pid == pgid


def test_argv_is_verbatim():
    words = ["--help", "-x", "", "a b", "$HOME", "*", "\udcff\udcfe", "--", "ü"]
    shown = output("--", *SHOW, "import sys; print(ascii(sys.argv[1:]))", *words)
    assert shown.strip() == ascii(words)


def test_environment_is_verbatim():
    """In the C locale Python sets LC_CTYPE for itself (PEP 538); the child must not see that."""
    env = {"PATH": os.environ["PATH"], "A": "1", "PYTHONPATH": "/nowhere"}
    assert sorted(output("--", "env", env=env).splitlines()) == sorted(
        f"{k}={v}" for k, v in env.items()
    )
    for given in ("C.UTF-8", "C", "POSIX", ""):
        assert (
            f"LC_CTYPE={given}" in output("--", "env", env={**env, "LC_CTYPE": given}).splitlines()
        )


def test_an_empty_environment_stays_empty():
    command = ["env", "-i", *GRACEWRAP, "--", "/usr/bin/env"]
    done = subprocess.run(command, stdout=subprocess.PIPE, timeout=30, check=True)
    assert done.stdout == b""


def test_a_variable_without_a_name_does_not_stop_the_start():
    env = ["env", "-i", "=x", "A=1", *GRACEWRAP, "--", "/usr/bin/env"]
    assert (
        subprocess.run(env, stdout=subprocess.PIPE, text=True, timeout=30, check=True).stdout
        == "A=1\n"
    )


def test_standard_descriptors_are_untouched(tmp_path):
    source = tmp_path / "in"
    source.write_text("hello\n")
    with source.open() as stdin:
        assert output("--", "cat", stdin=stdin) == "hello\n"


def test_no_descriptor_of_ours_reaches_the_child():
    shown = output("--", "ls", "/proc/self/fd", stdin=subprocess.DEVNULL)
    assert shown.split() == ["0", "1", "2", "3"]  # 3 is the directory that ls reads


def test_descriptors_for_the_child_reach_it_and_are_not_kept(start):
    """LISTEN_FDS and the like.  Were gracewrap to keep the pipe open, its reader would wait for
    ever."""
    reading, writing = os.pipe()
    os.set_inheritable(writing, True)
    script = (
        f"import posix; posix.write({writing}, b'x'); posix.close({writing}); print('closed', "
        "flush=1); input()"
    )
    run = start("--", *SHOW, script, pass_fds=(writing,), stdin=subprocess.PIPE)
    os.close(writing)
    assert run.line() == "closed"
    assert os.read(reading, 9) == b"x"
    assert (
        os.read(reading, 9) == b""
    )  # end of file: the child has closed it and gracewrap does not hold it
    os.close(reading)


def test_listen_pid_names_the_child():
    """sd_listen_fds(3) compares LISTEN_PID with the reader's own pid; the activator wrote
    gracewrap's."""
    show = ["sh", "-c", "echo $$ $LISTEN_PID $WATCHDOG_PID"]
    shell = ["sh", "-c", 'LISTEN_PID=$$ WATCHDOG_PID=$$ exec "$@"', "sh", *GRACEWRAP, "--", *show]
    pid, listen, watchdog = subprocess.run(
        shell, stdout=subprocess.PIPE, text=True, timeout=30, env=environment()
    ).stdout.split()
    assert pid == listen == watchdog
    kept = output("--", "sh", "-c", "echo $LISTEN_PID", env=environment(LISTEN_PID="1"))
    assert kept == "1\n"  # meant for somebody else


def test_keeps_no_working_directory(talk, tmp_path):
    run = talk(cwd=tmp_path)
    child = run.ready()
    wait_until(lambda: os.readlink(f"/proc/{run.pid}/cwd") == "/", "gracewrap has left it")
    assert os.readlink(f"/proc/{child}/cwd") == str(tmp_path)


@pytest.mark.parametrize("closed", [(0,), (1,), (2,), (0, 1), (0, 1, 2)])
def test_closed_standard_descriptors_are_survived(tmp_path, closed):
    """They stay closed for the child, and nothing of ours takes their place."""
    shown = tmp_path / "shown"
    close = " ".join(f"{fd}>&-" for fd in closed)
    script = (
        f"import posix\nopen({str(shown)!r}, 'w').write(' '.join(n for n in "
        "posix.listdir('/proc/self/fd') if int(n) < 3))"
    )
    shell = ["sh", "-c", f'exec "$@" {close}', "sh", *GRACEWRAP, "--", *SHOW, script]
    assert (
        subprocess.run(shell, timeout=30, env=environment(), stdin=subprocess.DEVNULL).returncode
        == 0
    )
    # Python's own open() and listdir() take free numbers, so only those that were left open are
    # certain.
    assert {str(fd) for fd in range(3) if fd not in closed} <= set(shown.read_text().split())


def run_status(*args: object) -> tuple[int, str]:
    done = subprocess.run(
        [*GRACEWRAP, *map(str, args)],
        env=environment(),
        stderr=subprocess.PIPE,
        text=True,
        timeout=30,
    )
    return done.returncode, done.stderr


def test_exit_status_is_the_child_s_whatever_it_is():
    for status in (0, 1, 2, 42, 125, 126, 127, 128, 255):
        assert run_status("--", "sh", "-c", f"exit {status}")[0] == status


def test_a_signal_n_gives_128_plus_n():
    for signum in (1, 2, 3, 6, 9, 11, 15, 34, 64):
        assert (
            run_status("--", *SHOW, f"import posix; posix.kill(posix.getpid(), {signum})")[0]
            == 128 + signum
        )


def test_not_found_is_127(tmp_path):
    status, said = run_status("--", "no-such-command")
    assert (
        status == 127
        and "cannot run 'no-such-command': No such file or directory (searched PATH)" in said
    )
    status, said = run_status("--", "")
    assert status == 127 and "its name is empty" in said
    status, said = run_status("--", tmp_path / "missing")
    assert status == 127 and "No such file" in said
    status, said = run_status("--", "node server.js")
    assert status == 127 and "it is one word with spaces" in said


def test_what_looks_like_a_word_for_gracewrap_is_answered():
    """An ENTRYPOINT that ends in `--` makes a command of whatever `docker run` adds."""
    assert "did you mean gracewrap check?" in run_status("--", "chekc")[1]
    assert "GRACEWRAP_SHUTDOWN_TIMEOUT" in run_status("--", "--shutdown-timeout", "3s")[1]


def test_cannot_be_executed_is_126(tmp_path):
    status, said = run_status("--", tmp_path)
    assert status == 126 and "it is a directory" in said
    plain = tmp_path / "plain"
    plain.write_text("echo hi\n")
    status, said = run_status("--", plain)
    assert status == 126 and "chmod +x" in said


def test_missing_interpreter_is_127_and_named(tmp_path):
    script = tmp_path / "script"
    script.write_text("#!/no/such/interpreter -x\n")
    script.chmod(0o755)
    status, said = run_status("--", script)
    assert status == 127 and "its interpreter '/no/such/interpreter'" in said


def test_reasons_are_found_in_the_directory_it_was_started_in(tmp_path):
    script, plain = tmp_path / "script", tmp_path / "plain"
    script.write_text("#!/bin/bash\r\n")
    script.chmod(0o755)
    plain.write_text("")
    for name, said in (
        (
            "./script",
            "'/bin/bash' (first line of the file) was not found; it has Windows line ends",
        ),
        ("./plain", "chmod +x"),
    ):
        done = subprocess.run(
            [*GRACEWRAP, "--", name],
            cwd=tmp_path,
            env=environment(),
            stderr=subprocess.PIPE,
            text=True,
            timeout=30,
        )
        assert said in done.stderr


def test_a_file_without_a_format_is_run_by_the_shell(tmp_path):
    """ENOEXEC, as execvp(3) does it."""
    script = tmp_path / "script"
    script.write_text('echo "$0 $1"\n')
    script.chmod(0o755)
    assert output("--", script, "word").strip() == f"{script} word"


def test_path_is_searched_as_execvp_does(tmp_path):
    first, second = tmp_path / "first", tmp_path / "second"
    for directory, mode in ((first, 0o644), (second, 0o755)):
        directory.mkdir()
        (directory / "tool").write_text(f"#!/bin/sh\necho {directory.name}\n")
        (directory / "tool").chmod(mode)
    path = f"{first}:{second}:{os.environ['PATH']}"
    assert (
        output("--", "tool", env=environment(PATH=path)).strip() == "second"
    )  # what may not be executed is passed over
    (second / "tool").unlink()
    assert (
        subprocess.run(
            [*GRACEWRAP, "--", "tool"], env=environment(PATH=path), stderr=subprocess.DEVNULL
        ).returncode
        == 126
    )
    assert output("--", "true", env={"A": "1"}) == ""  # no PATH at all: /bin and /usr/bin


def test_fork_that_fails_is_tried_twice_then_125():
    """A user that may have one process, and has it: gracewrap itself."""
    require_other_user()
    limited = [
        "bash",
        "-c",
        'ulimit -u 1; exec "$@"',
        "bash",
        *OTHER_USER,
        *GRACEWRAP,
        "--",
        "true",
    ]
    done = subprocess.run(limited, env=environment(), stderr=subprocess.PIPE, text=True, timeout=30)
    assert done.returncode == 125, done.stderr
    assert "cannot start a process" in done.stderr and "ulimit -u" in done.stderr


@pytest.mark.parametrize("way", ["posix_spawnp", "fork"])
def test_eagain_once_is_overcome(monkeypatch, way):
    """The kernel's rare failure, faked; everything else is real."""
    real, calls = getattr(spawn.posix, way), []

    def failing(*args: object, **options: object) -> int:
        calls.append(1)
        if len(calls) == 1:
            raise BlockingIOError(11, "Resource temporarily unavailable")
        return int(real(*args, **options))

    monkeypatch.setattr(spawn.posix, way, failing)
    if way == "fork":
        pid, exec_fd = fork.spawn(["true"], dict(os.environb), spawn.defaults(), None)
    else:
        pid, exec_fd, errno = spawn.spawn(["true"], None)
        assert errno == 0
    assert os.waitpid(pid, 0)[1] == 0
    assert len(calls) == 2
    if exec_fd >= 0:
        assert fork.exec_failure(exec_fd) is None
        os.close(exec_fd)


FORKED = [
    "sh",
    "-c",
    'LISTEN_PID=$$ exec "$@"',
    "sh",
]  # what posix_spawn cannot do, and so the other way to start a child


def test_both_ways_to_start_a_child_agree(tmp_path):
    """Status and reason of what cannot be run, what is run without a format, mask, group and
    environment."""
    script, plain = tmp_path / "script", tmp_path / "plain"
    script.write_text("exit 41\n")
    script.chmod(0o755)
    plain.write_text("exit 41\n")
    for command in (
        "no-such-command",
        "",
        str(tmp_path),
        str(tmp_path / "missing"),
        str(plain),
        str(script),
        "true",
    ):
        seen = []
        for before in ([], FORKED):
            done = subprocess.run(
                [*before, *GRACEWRAP, "--", command],
                env=environment(),
                stderr=subprocess.PIPE,
                text=True,
                timeout=30,
            )
            seen.append((done.returncode, done.stderr.partition('"message"')[2]))
        assert seen[0] == seen[1], command
    show = (
        "import posix; print(posix.getpid() == posix.getpgrp(), sorted(k for k in posix.environ "
        "if k != b'LISTEN_PID'))"
    )
    shown = [
        subprocess.run(
            [*before, *GRACEWRAP, "--", *SHOW, show],
            env={"A": "1"},
            stdout=subprocess.PIPE,
            timeout=30,
        ).stdout
        for before in ([], ["/bin/sh", *FORKED[1:]])
    ]
    assert shown[0].replace(b", b'PWD'", b"") == shown[1].replace(b", b'PWD'", b"") != b""


WAYS = {
    "posix_spawn": "spawn.spawn(argv, None, stdio=stdio, no_stdin={no_stdin})",
    "fork": "fork.spawn(argv, posix.environ, spawn.defaults(), None, None, stdio, {no_stdin})",
}
# What stands at 0, 1 and 2 when gracewrap itself spawns, and where the write ends of the pipes are:
# also there, and crosswise.
PLACES = [
    (11, 12),
    (1, 2),
    (2, 1),
    (2, 12),
    (12, 1),
    (1, 12),
    (11, 2),
    (0, 12),
    (1, 0),
    (2, 0),
    (11, 11),
    (2, 2),
    (1, 1),
]


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("places", PLACES, ids=str)
def test_a_child_gets_its_stdout_and_stderr_wherever_they_are(way, places):
    """Each is copied before something else takes its place, and neither is closed by the exec."""
    show = (
        "import posix; posix.write(1, b'out'); posix.write(2, b'err'); "
        "print(sorted(posix.listdir('/proc/self/fd')))"
    )
    script = f"""if True:
        import posix, sys
        sys.path.append({str(MAIN.parent.parent)!r})
        from gracewrap.linux import fork, spawn
        out, err = posix.pipe2(posix.O_CLOEXEC), posix.pipe2(posix.O_CLOEXEC)
        said = posix.dup(1)
        stdio, argv = {places!r}, {[*SHOW, show]!r}
        kept = [posix.dup(fd) for fd in (out[1], err[1])]
        for fd, place in zip(kept, stdio):
            posix.dup2(fd, place, False)
        got = {WAYS[way].format(no_stdin=0 in places)}
        for fd in (*stdio, *kept, out[1], err[1]):
            try:
                posix.close(fd)
            except OSError:
                pass
        status = posix.waitpid(got[0], 0)[1]
        posix.write(said, repr((status, posix.read(out[0], 99), posix.read(err[0], 99))).encode())
    """
    done = subprocess.run(
        [*SHOW, script],
        stdout=subprocess.PIPE,
        stdin=subprocess.DEVNULL,
        timeout=30,
        env=environment(),
    )
    listed = b"['0', '1', '2', '3']\n"  # 3 is the directory
    same = places[0] == places[1]
    assert done.stdout.decode() == repr(
        (0, b"" if same else b"out" + listed, b"outerr" + listed if same else b"err")
    )


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("no_stdin", [False, True])
def test_stdin_is_ours_or_empty(way, no_stdin):
    reading, writing = os.pipe()
    argv = [
        *SHOW,
        f"import posix; print(posix.readlink('/proc/self/fd/0'), posix.read(0, 1) if {no_stdin} "
        "else '')",
    ]
    stdio = (writing, -1)
    if way == "fork":
        pid = fork.spawn(argv, dict(os.environb), spawn.defaults(), None, None, stdio, no_stdin)[0]
    else:
        pid = spawn.spawn(argv, None, stdio=stdio, no_stdin=no_stdin)[0]
    os.close(writing)
    assert os.waitpid(pid, 0)[1] == 0
    with open(reading) as shown:
        assert shown.read().strip() == (
            "/dev/null b''" if no_stdin else os.readlink("/proc/self/fd/0")
        )


def test_without_dev_null_it_is_not_the_command_that_cannot_be_found():
    require_root()
    script = f"""if True:
        import posix, sys
        sys.path.append({str(MAIN.parent.parent)!r})
        from gracewrap.linux import fork, spawn
        for command in ("true", "no-such-command"):
            pid, fd, errno = spawn.spawn([command], None, no_stdin=True)
            posix.waitpid(pid, 0)
            print(fork.exec_failure(fd), errno)
    """
    command = [
        "unshare",
        "--mount",
        "sh",
        "-c",
        'mount -t tmpfs none /dev && exec "$@"',
        "sh",
        *SHOW,
        script,
    ]
    done = subprocess.run(command, stdout=subprocess.PIPE, text=True, timeout=30, env=environment())
    said = (126, "cannot give it an empty stdin: /dev/null: No such file or directory")
    assert done.stdout == f"{said} 0\n" * 2


def test_parent_death_signal(tmp_path):
    """When gracewrap's parent dies, gracewrap is asked to stop; tini's -p."""
    shown = tmp_path / "stopped"
    script = f"trap 'echo stopped > {shown}; exit' TERM; echo ready; while :; do read x; done"
    shell = [
        "sh",
        "-c",
        '"$@" & echo; wait',
        "sh",
        *GRACEWRAP,
        "--parent-death-signal",
        "TERM",
        "--",
        "sh",
        "-c",
        script,
    ]
    parent = subprocess.Popen(
        shell,
        stdout=subprocess.PIPE,
        stdin=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        env=environment(),
    )
    assert parent.stdout and parent.stdin
    while parent.stdout.readline() != b"ready\n":
        pass
    parent.kill()
    parent.wait(30)
    wait_until(
        lambda: shown.exists() and shown.read_text() == "stopped\n", "gracewrap stopped its child"
    )
    parent.stdin.close()
    parent.stdout.close()


def test_subreaper_when_not_pid_1():
    """An orphan comes to gracewrap, which reaps it and says so in its report."""
    with running(
        "--log-level", "debug", "--", "sh", "-c", "(sh -c 'exit 3' &); exec sleep 60"
    ) as run:
        assert run.log_line("reaped")["status"] == 3


NO_PROCESS = """
import posix, resource
from gracewrap.linux import fork
resource.setrlimit(resource.RLIMIT_NPROC, (0, 0))
before = posix.listdir("/proc/self/fd")
try:
    fork.spawn(["true"], {}, (), None)
except BlockingIOError:
    print("none", posix.listdir("/proc/self/fd") == before)
"""


def test_a_start_for_which_there_is_no_process_keeps_no_descriptor():
    """A program of several is tried again and again."""
    require_other_user()
    done = subprocess.run(
        [*OTHER_USER, sys.executable, "-c", NO_PROCESS],
        env=environment(),
        timeout=30,
        text=True,
        stdout=subprocess.PIPE,
        check=True,
    )
    assert done.stdout == "none True\n"
