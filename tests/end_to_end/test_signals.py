"""Signals that are passed on, are a stop request because an image says so, or cannot be sent."""

from __future__ import annotations

import os
import shlex
import shutil
import signal
import struct
import sys
from pathlib import Path

import pytest

from processes import GRACEWRAP, TALKER, require, require_root

SLEEP = ("sh", "-c", "echo ready $$; exec sleep 600")


def message(run, event: str) -> str:
    return str(run.log_line(event)["message"])


def test_a_signal_that_was_passed_on_is_not_somebody_else_s(start):
    run = start("--", *SLEEP)
    run.ready()
    run.send(signal.SIGHUP)
    assert run.wait() == 129
    line = run.log_line("leader_exited")
    assert line["level"] == "warning"
    assert "was ended by SIGHUP, which gracewrap had forwarded" in str(line["message"])


ON_QUIT = """
import os, signal, sys
signal.signal(signal.SIGQUIT, lambda *_: sys.exit(0))
print("ready", os.getpid(), flush=True)
signal.pause()
"""


@pytest.mark.parametrize(
    "command",
    [
        (sys.executable, "-I", "-c", ON_QUIT),
        ("bash", "-c", "trap 'exit 0' QUIT; sleep 600 & echo ready $$; wait"),
    ],
    ids=["nothing left", "something left"],
)
def test_an_exit_after_a_signal_that_was_passed_on_names_the_cure(start, command):
    run = start("--", *command)
    run.ready()
    run.send(signal.SIGQUIT)
    line = run.log_line("leader_exited")
    assert line["level"] == "warning"
    assert "after gracewrap had forwarded SIGQUIT" in str(line["message"])
    assert "add QUIT to stop_on" in str(line["message"])
    run.wait()


def test_a_signal_from_elsewhere_is_said_to_be(start):
    run = start("--", *SLEEP)
    os.kill(run.ready(), signal.SIGHUP)
    assert run.wait() == 129
    assert "which gracewrap did not send" in message(run, "leader_exited")


@pytest.mark.parametrize("asked", [False, True])
def test_a_sigkill_from_elsewhere_has_a_summary_that_says_so(start, asked):
    run = start("--", "sh", "-c", "trap '' TERM; echo ready $$; exec sleep 600")
    pid = run.ready()
    if asked:
        run.send(signal.SIGTERM)
        run.log_line("stop_signal")
    os.kill(pid, signal.SIGKILL)
    assert "which gracewrap did not send" in message(run, "leader_exited")
    assert run.wait() == 137
    summary = run.log_line("summary")
    assert summary["level"] == "warning"
    assert "which gracewrap did not send" in str(summary["message"])
    assert "graceful" not in str(summary["outcome"])


def test_a_command_without_a_handler_is_a_warning(start):
    run = start("--", *SLEEP)
    run.ready()
    run.send(signal.SIGTERM)
    assert run.wait() == 143
    summary = run.log_line("summary")
    assert summary["level"] == "warning"
    assert "without a handler" in str(summary["message"])


FINISHES = """
import os, signal
def finish(*_):
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    os.kill(os.getpid(), signal.SIGTERM)
signal.signal(signal.SIGTERM, finish)
print("ready", os.getpid(), flush=True)
while True: signal.pause()
"""


@pytest.mark.parametrize(
    ("mode", "front"),
    [("mixed", ()), ("group", ()), ("process", ()), ("mixed", ("sh", "-c", '"$@"; true', "x"))],
    ids=["mixed", "group", "process", "behind a shell"],
)
def test_a_handler_that_ends_it_by_the_signal_is_not_said_to_be_missing(start, mode, front):
    """It may have been one of its runtime's, as that of Node.js: nobody can tell."""
    run = start("--kill-mode", mode, "--", *front, sys.executable, "-c", FINISHES)
    run.ready()
    run.send(signal.SIGTERM)
    assert run.wait() == 143
    summary = str(run.log_line("summary")["message"])
    assert "at once (unless a handler of its own did that" in summary
    assert "has no handler" not in summary


ENDS_BY_IT = """#!{python} -I
import os, signal
def finish(*_):
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    os.kill(os.getpid(), signal.SIGTERM)
signal.signal(signal.SIGTERM, finish)
print("ready", os.getpid(), flush=True)
while True:
    signal.pause()
"""


@pytest.mark.parametrize(
    ("name", "said"),
    [("server", "at once (unless a handler of its own did that,"), ("puma", "")],
    ids=["of whatever", "of a program that always ends so"],
)
def test_a_handler_that_ends_a_command_by_the_signal_is_not_said_to_be_missing(
    start, tmp_path, name, said
):
    """Puma, uvicorn and NestJS do so when all is done; if nothing was in flight, that is at
    once."""
    file = tmp_path / name
    file.write_text(ENDS_BY_IT.format(python=sys.executable))
    file.chmod(0o755)
    run = start("--", str(file))
    run.ready()
    run.send(signal.SIGTERM)
    assert run.wait() == 143
    text = message(run, "summary")
    assert "without a handler" not in text
    assert said in text if said else "at once" not in text


NO_HANDLER = """#!{python} -I
import os, signal
print("ready", os.getpid(), flush=True)
signal.pause()
"""


def test_what_only_starts_others_has_lost_nothing(start):
    run = start("--", "sh", "-c", f"echo x | xargs -I% {shlex.join(map(str, TALKER))} exit=0; true")
    run.ready()
    run.send(signal.SIGTERM)
    assert run.wait() == 143
    assert "at once" not in message(run, "summary")


def test_the_cure_for_what_a_known_server_has_started_is_that_of_the_server(start, tmp_path):
    """As Apache's CGI scripts."""
    for name, text in (("page", NO_HANDLER), ("apachectl", "#!/bin/sh\n{folder}/page; true\n")):
        (tmp_path / name).write_text(text.format(python=sys.executable, folder=tmp_path))
        (tmp_path / name).chmod(0o755)
    run = start("--", tmp_path / "apachectl")
    run.ready()
    run.send(signal.SIGTERM)
    assert run.wait() == 143
    summary = message(run, "summary")
    assert "SIGTERM ended page" in summary
    assert "--preset httpd lets it finish first" in summary


def test_no_preset_is_named_for_what_ends_because_its_starter_has_exited(start, tmp_path):
    (tmp_path / "server").write_text(NO_HANDLER.format(python=sys.executable))
    (tmp_path / "server").chmod(0o755)
    os.mkfifo(tmp_path / "up")
    starter = './server >up & read line <up; echo "$line"'
    run = start("--", "sh", "-c", starter, cwd=tmp_path)
    run.ready()
    assert run.wait() == 0
    summary = message(run, "summary")
    assert "SIGTERM ended server" in summary
    assert "--preset" not in summary


LEAVES_ONE_BEHIND = """
import os, signal, subprocess, sys
signal.signal(signal.SIGTERM, lambda *_: None)
between = "import subprocess; p = subprocess.Popen(['sleep', '600']); print(flush=True); p.wait()"
behind = subprocess.Popen([sys.executable, "-I", "-c", between], stdout=subprocess.PIPE)
behind.stdout.readline()
signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGTERM})  # it may come before we wait for it
print("ready", os.getpid(), flush=True)
signal.sigwait({signal.SIGTERM})
behind.terminate()
behind.wait()
sys.stdin.readline()
"""


def test_a_leader_that_is_still_there_is_not_said_to_have_left_itself_behind(start):
    """As concurrently: the shell that it has started dies of the signal that it passes on."""
    run = start("--", sys.executable, "-I", "-c", LEAVES_ONE_BEHIND, stdin=-1)
    leader = run.ready()
    run.send(signal.SIGTERM)
    assert "sleep (pid " in message(run, "leftover")
    run.process.stdin.write(b"\n")
    run.process.stdin.flush()
    assert run.wait() == 0
    left = message(run, "summary").partition("left behind ")[2]
    assert left.startswith("sleep (pid ") and f"(pid {leader})" not in left


def test_a_shell_without_a_trap_is_told_to_exec(start):
    run = start("--", "sh", "-c", "echo ready $$; read never", stdin=-1)
    run.ready()
    run.send(signal.SIGTERM)
    assert run.wait() == 143
    assert "put exec before the last command" in message(run, "summary")


# --- users ---------------------------------------------------------------------------------------


def without(*options: str) -> tuple[str, ...]:
    require(shutil.which("setpriv") is not None, "setpriv, of util-linux")
    return ("setpriv", *options)


def test_without_cap_kill_a_command_of_another_user_is_told_all_the_same(start):
    require_root()
    prefix = without("--bounding-set", "-kill", "--inh-caps", "-kill")
    script = "trap 'echo told; exit 0' TERM; echo ready $$; while :; do sleep 0.05; done"
    run = start("--user", "nobody", "--", "/bin/sh", "-c", script, prefix=prefix, command=GRACEWRAP)
    run.ready()
    run.send(signal.SIGTERM)
    assert run.line() == "told"
    assert run.wait() == 0
    assert run.log_line("summary")["killed"] == []
    assert not [line for line in run.err.seen if "may not signal" in line]


def test_a_signal_that_is_refused_is_said_to_be_and_why(start, tmp_path: Path):
    """gracewrap without any capability, and a command with a file capability to change its user."""
    require_root()
    prefix = without("--securebits", "+noroot", "--inh-caps", "-all", "--ambient-caps", "-all")
    other = tmp_path / "setpriv"
    shutil.copy(str(shutil.which("setpriv")), other)
    effective, setuid = 0x02000001, 1 << 7  # vfs_cap_data of linux/capability.h, version 2
    try:
        os.setxattr(other, "security.capability", struct.pack("<5I", effective, setuid, 0, 0, 0))
    except OSError as error:
        require(None, f"a file system with file capabilities: {error}")
    run = start(
        *("--shutdown-timeout", "1s", "--", other, "--reuid", "65534", *SLEEP),
        prefix=prefix,
        command=GRACEWRAP,
    )
    pid = run.ready()
    try:
        run.send(signal.SIGTERM)
        run.wait()
        line = run.log_line("stop_signal")
        assert line["level"] == "error"
        assert "could not send SIGTERM to" in str(line["message"])
        assert "without CAP_KILL" in str(line["message"])
        assert not [line for line in run.err.seen if "sent SIG" in line]
    finally:
        os.kill(pid, signal.SIGKILL)


def test_what_su_kills_is_not_said_to_have_ended_well(start):
    require_root()
    require(shutil.which("su") is not None, "su")
    script = "trap '' TERM; echo ready $$; while :; do sleep 0.1; done"
    run = start("--", "su", "nobody", "-s", "/bin/sh", "-c", script)
    run.ready()
    run.send(signal.SIGTERM)
    run.wait()
    assert "su forwards the stop signal and sends SIGKILL 2 s later" in message(run, "summary")
