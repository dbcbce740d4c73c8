"""On a terminal, under a real interactive shell: the foreground goes to the child and back; Ctrl-C,
Ctrl-Z, fg and bg work."""

from __future__ import annotations

import fcntl
import os
import pty
import re
import signal
import subprocess
import termios
from collections.abc import Iterator
from pathlib import Path

import pytest

from processes import (
    GRACEWRAP,
    TALKER,
    Lines,
    alive,
    descendants,
    environment,
    require_root,
    state,
    wait_until,
)

PROMPT = "PROMPT> "
CTRL_C, CTRL_Z, CTRL_BACKSLASH = "\x03", "\x1a", "\x1c"


class Shell:
    """An interactive bash on a terminal of its own; or any command there."""

    def __init__(self, command: list[str]) -> None:
        self.master, slave = pty.openpty()
        # Only by a preexec_fn can a test make the terminal the controlling one; there are no
        # threads here.
        self.process = subprocess.Popen(
            command,
            stdin=slave,
            stdout=slave,
            stderr=slave,
            start_new_session=True,
            env=environment(PS1=PROMPT, TERM="dumb"),
            preexec_fn=lambda: fcntl.ioctl(0, termios.TIOCSCTTY, 0),  # noqa: PLW1509
        )
        os.close(slave)
        self.lines = Lines(self.master)

    def type(self, text: str) -> None:
        os.write(self.master, text.encode())

    def until(self, wanted: str) -> str:
        return self.lines.until(wanted)

    def pid_of(self, word: str) -> int:
        """Return the pid in a line `word PID`."""
        while not (found := re.search(rf"\b{word} (\d+)$", self.until(f"{word} "))):
            pass  # the echo of what was typed
        return int(found[1])

    def foreground(self) -> int:
        return os.tcgetpgrp(self.master)

    def close(self) -> None:
        for pid in [*descendants(self.process.pid), self.process.pid]:
            try:
                os.kill(pid, signal.SIGKILL)
            except ProcessLookupError:
                pass
        self.process.wait(30)
        os.close(self.master)


@pytest.fixture
def bash() -> Iterator[Shell]:
    shell = Shell(["bash", "--norc", "--noprofile", "-i"])
    yield shell
    shell.close()


WRAPPED = " ".join([*GRACEWRAP, "--"])
TALK = " ".join(TALKER)


def test_ctrl_c_ends_the_child_and_the_shell_goes_on(bash):
    bash.type(f"{WRAPPED} {TALK}\n")
    child = bash.pid_of("ready")
    assert bash.foreground() == child
    bash.type(CTRL_C)
    bash.until("2")
    bash.type(CTRL_BACKSLASH)
    bash.until("3")
    os.kill(child, signal.SIGTERM)
    bash.until("15")
    bash.type("echo status=$?\n")
    bash.until("status=0")
    assert bash.foreground() == bash.process.pid


def test_status_after_ctrl_c_is_130(bash):
    bash.type(f"{WRAPPED} sh -c 'echo started $$; exec sleep 60'\n")
    child = bash.pid_of("started")
    wait_until(lambda: Path(f"/proc/{child}/comm").read_text() == "sleep\n", "exec")
    bash.type(CTRL_C)
    bash.type("echo status=$?\n")
    bash.until("status=130")


def test_ctrl_z_stops_both_and_fg_and_bg_resume_both(bash):
    bash.type(f"{WRAPPED} sh -c 'echo started $$; exec sleep 60'\n")
    child = bash.pid_of("started")
    wait_until(lambda: Path(f"/proc/{child}/comm").read_text() == "sleep\n", "exec")
    wrapper = int(Path(f"/proc/{child}/stat").read_text().rpartition(")")[2].split()[1])
    for resume in ("fg", "bg"):
        bash.type(CTRL_Z)
        wait_until(lambda: state(child) == "T" and state(wrapper) == "T", "both are stopped")
        wait_until(lambda: bash.foreground() == bash.process.pid, "the shell has the terminal")
        bash.type(f"{resume}\n")
        wait_until(lambda: state(child) == "S" and state(wrapper) == "S", "both are resumed")
    assert bash.foreground() == bash.process.pid  # after bg
    # Of a running job: bash sends no SIGCONT, so the terminal is ours until the child reads.
    bash.type("fg\n")
    wait_until(lambda: bash.foreground() == os.getpgid(wrapper), "the job has the terminal")
    bash.type(CTRL_C)  # and so this is a stop request
    bash.until("stop requested: SIGINT from the terminal (Ctrl-C)")
    bash.type("echo status=$?\n")
    bash.until("status=143")


def names(pid: int) -> list[str]:
    return [Path(f"/proc/{one}/comm").read_text().strip() for one in descendants(pid)]


def test_ctrl_z_stops_several_programs_and_fg_resumes_them(bash, tmp_path):
    file = tmp_path / "gracewrap.toml"
    file.write_text(
        """
[programs.web]
command = ["sh", "-c", "echo started $PPID; echo web $$$$; sleep 60; :"]
"""
    )
    bash.type(f"{' '.join(GRACEWRAP)} --config {file}\n")
    child = bash.pid_of("web")
    # Its parent waits in vfork(2) until it has executed its program, and cannot be stopped then.
    wait_until(lambda: names(child) == ["sleep"], "it has a child of its own")
    wrapper = int(Path(f"/proc/{child}/stat").read_text().rpartition(")")[2].split()[1])
    job = [wrapper, child, *descendants(child)]
    bash.type(CTRL_Z)
    wait_until(lambda: [state(pid) for pid in job] == ["T"] * 3, "all are stopped")
    bash.type("fg\n")
    wait_until(lambda: [state(pid) for pid in job] == ["S"] * 3, "all are resumed")
    bash.type(CTRL_C)
    bash.until("stop requested: SIGINT from the terminal (Ctrl-C)")
    bash.type("echo status=$?\n")
    bash.until("status=143")


def pending(pid: int, signum: int) -> bool:
    """Return whether a signal waits to be fetched by a process."""
    found = re.search(r"^ShdPnd:\s*(\w+)", Path(f"/proc/{pid}/status").read_text(), re.MULTILINE)
    return bool(found and int(found[1], 16) >> (signum - 1) & 1)


def test_ctrl_z_stops_none_of_several_programs_that_nobody_could_resume(tmp_path):
    file = tmp_path / "gracewrap.toml"
    file.write_text("""[programs.web]\ncommand = ["sh", "-c", "echo web $$$$; exec sleep 60"]\n""")
    shell = Shell([*GRACEWRAP, "--config", str(file)])
    try:
        child = shell.pid_of("web")
        shell.type(CTRL_Z + "\n")
        shell.lines.until("^Z")  # the echo comes after the signal
        wait_until(lambda: not pending(shell.process.pid, signal.SIGTSTP), "it has been seen to")
        shell.type(CTRL_BACKSLASH)  # passed on, and a process that is stopped would not end by it
        wait_until(lambda: not alive(child), "it has ended")
        assert shell.process.wait(30) == 131
    finally:
        shell.close()


def test_a_child_that_reads_the_terminal_gets_what_is_typed(bash):
    bash.type(f"{WRAPPED} sh -c 'read line; echo got-$line'\n")
    bash.type("some words\n")
    bash.until("got-some words")


def test_a_shell_as_child_has_its_own_job_control(bash):
    bash.type(f"{WRAPPED} bash --norc --noprofile -i\n")
    bash.type("sleep 61 & sleep 62\n")
    wait_until(
        lambda: any("62" in command(pid) for pid in descendants(bash.process.pid)), "sleep 62 runs"
    )
    bash.type(CTRL_Z)
    bash.type("jobs | cat; echo listed\n")
    bash.until("Stopped")
    bash.until("listed")
    bash.type("fg\n")
    wait_until(lambda: "62" in command(bash.foreground()), "sleep 62 is in the foreground again")
    bash.type(CTRL_C)
    bash.type("kill %1; wait; exit 5\n")
    bash.type("echo status=$?\n")
    bash.until("status=5")


def command(pid: int) -> str:
    try:
        return Path(f"/proc/{pid}/cmdline").read_text()
    except OSError:
        return ""


def test_in_a_pipeline_the_terminal_stays_with_the_job(bash):
    """`gracewrap -- server | less`: the pager is in our group; Ctrl-C reaches us, and is a stop
    request."""
    bash.type(f"{WRAPPED} {TALK} | cat\n")
    child = bash.pid_of("ready")
    assert bash.foreground() == os.getpgid(
        int(Path(f"/proc/{child}/stat").read_text().rpartition(")")[2].split()[1])
    )
    bash.type(CTRL_C)
    bash.type("echo status=$?\n")
    bash.until("status=")
    wait_until(lambda: not alive(child), "the child has stopped")


def test_a_background_job_takes_no_terminal(bash):
    bash.type(f"{WRAPPED} {TALK} &\n")
    child = bash.pid_of("ready")
    assert bash.foreground() == bash.process.pid
    os.kill(child, signal.SIGTERM)
    bash.until("15")


def test_a_background_job_that_reads_stops_until_fg(bash):
    bash.type(f"{WRAPPED} sh -c 'echo started $$; read line; echo got-$line' &\n")
    child = bash.pid_of("started")
    wrapper = int(Path(f"/proc/{child}/stat").read_text().rpartition(")")[2].split()[1])
    wait_until(
        lambda: state(child) == "T" and state(wrapper) == "T",
        "SIGTTIN stopped the child, and we stopped with it",
    )
    bash.type("fg\n")
    wait_until(lambda: bash.foreground() == child, "the child has the terminal")
    bash.type("words\n")
    bash.until("got-words")


def test_hang_up_reaches_the_child():
    shell = Shell([*GRACEWRAP, "--", *TALKER, "exit=0"])
    child = shell.pid_of("ready")
    try:
        os.close(shell.master)
        shell.master = os.open("/dev/null", os.O_RDONLY)
        # SIGHUP goes to the foreground group by the kernel; the talker says so into a closed
        # terminal and ends by EIO.
        wait_until(lambda: not alive(child), "the child is gone")
        shell.process.wait(30)
    finally:
        shell.close()


@pytest.mark.root
def test_as_pid_1_ctrl_z_does_not_stop_a_plain_child_for_ever():
    """Nobody could resume it: tini leaves it stopped."""
    require_root()
    shell = Shell(
        [
            "unshare",
            "--pid",
            "--fork",
            "--mount-proc",
            *GRACEWRAP,
            "--",
            "sh",
            "-c",
            "echo started $$; exec sleep 60",
        ]
    )
    try:
        shell.pid_of("started")
        wait_until(
            lambda: any("60" in command(pid) for pid in descendants(shell.process.pid)), "exec"
        )
        shell.type(CTRL_Z)
        shell.until("resumed, since nobody else could")
        shell.type(CTRL_C)
        assert shell.process.wait(30) == 130
    finally:
        shell.close()


def test_a_child_killed_in_the_foreground_leaves_the_terminal_usable(bash):
    bash.type(f"{WRAPPED} sh -c 'echo started $$; exec sleep 60'\n")
    child = bash.pid_of("started")
    os.kill(child, signal.SIGKILL)
    bash.type("read word; echo got-$word\n")
    bash.type("it\n")
    bash.until("got-it")


def test_a_stop_request_on_a_terminal_tells_its_story_as_text():
    shell = Shell([*GRACEWRAP, "--", *TALKER])
    try:
        shell.until("ready ")
        shell.process.send_signal(signal.SIGTERM)
        assert "stop requested: SIGTERM from" in shell.until("stop requested")
        assert "exit status 0" in shell.until("stopped in")
        assert shell.process.wait(30) == 0
    finally:
        shell.close()
