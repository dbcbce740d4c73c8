"""Some of the programs are stopped or started again while the others go on: rolling restarts,
missed watchdogs."""

from __future__ import annotations

import json
import os
import signal
import sys
import time
from pathlib import Path

from gracewrap.policy import model as m
from gracewrap.policy import run_phases, step
from gracewrap.policy.log_events import OfAPart
from gracewrap.report.log import Log
from gracewrap.report.recorder import Recorder
from gracewrap.runtime import partial_restart
from processes import alive, running, wait_until

# Says "up NAME PID", and "down NAME" on SIGTERM; then it exits with 0.
WRITER = """
trap 'echo down $GRACEWRAP_PROGRAM; exit 0' TERM
echo up $GRACEWRAP_PROGRAM $$
while :; do sleep 0.05; done
"""


# Forks, says over NOTIFY_SOCKET that the child is what counts, and leaves.
STARTER = """
import os, signal, socket, sys
pid = os.fork()
if pid == 0:
    signal.signal(signal.SIGTERM, lambda *_: os._exit(0))
    while True: signal.pause()
to = os.environ["NOTIFY_SOCKET"]
with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as sock:
    sock.sendto(f"MAINPID={pid}".encode(), to.replace("@", "\\0", 1))
print("named daemon", os.getpid(), flush=True)
sys.stdin.read()
"""


def config(folder: Path, programs: str, top: str = "") -> Path:
    """Write a file of settings in which COMMAND stands for a writer, and SAYS_UP for when it is
    ready."""
    path = folder / "gracewrap.toml"
    command = f"command = {json.dumps(['sh', '-c', WRITER])}"
    programs = programs.replace("COMMAND", command).replace("SAYS_UP", 'ready = {log_line = "^up"}')
    path.write_text(f'shutdown_timeout = "20s"\n{top}\n{programs}')
    return path


def words(line: str) -> tuple[str, str]:
    """Return what a line says, without the pid."""
    word, name, *_ = line.split()
    return word, name


def test_a_signal_restarts_one_stack_after_the_other(tmp_path):
    programs = """
[programs.db]
COMMAND
SAYS_UP
[programs.web]
COMMAND
SAYS_UP
depends_on = ["db"]
[programs.cache]
COMMAND
SAYS_UP
"""
    with running("--config", config(tmp_path, programs, 'signal_map = {HUP = "restart"}')) as run:
        assert {words(run.line()) for _ in range(3)} == {
            ("up", name) for name in ("db", "web", "cache")
        }
        run.send(signal.SIGHUP)
        seen = [words(run.line()) for _ in range(6)]
        stack = [("down", "web"), ("down", "db"), ("up", "db"), ("up", "web")]
        alone = [("down", "cache"), ("up", "cache")]
        assert seen in (stack + alone, alone + stack)
        run.send(signal.SIGTERM)
        assert {words(run.line()) for _ in range(3)} == {
            ("down", name) for name in ("db", "web", "cache")
        }
        assert run.wait() == 0


def test_the_next_stack_waits_until_the_one_before_is_ready(tmp_path):
    flag = tmp_path / "ready"
    programs = f"""
[programs.one]
COMMAND
ready = {{file = "{flag}"}}
[programs.two]
COMMAND
ready = {{file = "{flag}"}}
"""
    flag.touch()
    with running("--config", config(tmp_path, programs, 'signal_map = {USR1 = "restart"}')) as run:
        assert {words(run.line()) for _ in range(2)} == {("up", "one"), ("up", "two")}
        for _ in range(2):
            run.log_line("program_ready")
        flag.unlink()
        run.send(signal.SIGUSR1)
        down, up = words(run.line()), words(run.line())
        first = down[1]
        assert (down, up) == (("down", first), ("up", first))
        run.log_line("part_stopped")
        flag.touch()
        assert run.log_line("program_ready")["program"] == first
        second = {"one": "two", "two": "one"}[first]
        assert [words(run.line()) for _ in range(2)] == [("down", second), ("up", second)]


def test_a_rolling_restart_goes_on_past_what_has_completed(tmp_path):
    programs = """
[programs.migrate]
command = ["true"]
oneshot = true
[programs.db]
COMMAND
[programs.late]
command = ["sh", "-c", "sleep 1.5; echo up late; exec sleep 60"]
"""
    with running("--config", config(tmp_path, programs, 'signal_map = {HUP = "restart"}')) as run:
        assert [words(run.line()) for _ in range(2)] == [
            ("up", "db"),
            ("up", "late"),
        ]  # now nothing wakes it but what we do
        began = time.monotonic()
        run.send(signal.SIGHUP)
        said = str(run.log_line("roll")["message"])
        assert said.startswith("SIGHUP from ") and said.endswith(
            ": restarting all programs, one after the other"
        )
        assert [words(run.line()) for _ in range(2)] == [("down", "db"), ("up", "db")]
        assert time.monotonic() - began < 5  # and not when it next looks whose the orphans are


def test_a_rolling_restart_that_cannot_begin_says_so(tmp_path):
    programs = """
[programs.job]
command = ["false"]
oneshot = true
on_failure = "ignore"
[programs.never]
COMMAND
depends_on = ["job"]
[programs.db]
COMMAND
"""
    with running("--config", config(tmp_path, programs, 'signal_map = {HUP = "restart"}')) as run:
        assert words(run.line()) == ("up", "db")
        run.log_line("program_ended")
        run.send(signal.SIGHUP)
        assert str(run.log_line("roll")["message"]).endswith(
            "; this begins when all programs that should be up are ready"
        )


def test_the_one_command_is_restarted_by_a_signal_too(tmp_path):
    with running(
        "--signal-map", "HUP=restart", "--", "sh", "-c", WRITER.replace("$GRACEWRAP_PROGRAM", "it")
    ) as run:
        before = run.line()
        run.send(signal.SIGHUP)
        assert run.line() == "down it"
        after = run.line()
        assert words(before) == words(after) == ("up", "it") and before != after
        run.send(signal.SIGTERM)
        assert run.line() == "down it"
        assert run.wait() == 0


def test_a_missed_watchdog_is_the_end_of_all_where_nothing_else_follows_from_a_failure(tmp_path):
    programs = """
[programs.web]
COMMAND
[programs.silent]
COMMAND
watchdog = "200ms"
"""
    with running("--config", config(tmp_path, programs)) as run:
        assert {words(run.line()) for _ in range(2)} == {("up", "web"), ("up", "silent")}
        assert run.log_line("watchdog")["program"] == "silent"
        assert {words(run.line()) for _ in range(2)} == {("down", "web"), ("down", "silent")}
        assert run.wait() == 0


def test_a_missed_watchdog_is_a_failure_and_counts_as_one(tmp_path):
    programs = """
[programs.web]
COMMAND
[programs.silent]
COMMAND
watchdog = "100ms"
restart = "always"
max_restarts = 2
backoff = "50ms"
"""
    with running("--config", config(tmp_path, programs)) as run:
        lines = [words(run.line()) for _ in range(4)]
        assert sorted(lines) == [("up", "silent")] * 3 + [("up", "web")]
        restarts = [run.log_line("restarts") for _ in range(2)]
        assert [one["signal"] for one in restarts] == ["SIGABRT"] * 2
        assert {words(run.line()) for _ in range(2)} == {
            ("down", "web"),
            ("down", "silent"),
        }  # the third is the end of all
        assert run.wait() == 0


def test_a_program_that_ignores_being_aborted_is_killed(tmp_path):
    programs = """
[programs.deaf]
command = ["sh", "-c", "trap '' ABRT; echo up deaf $$$$; while :; do sleep 0.05; done"]
watchdog = "100ms"
restart = "on-failure"
backoff = "50ms"
stop_timeout = "100ms"
"""
    with running("--config", config(tmp_path, programs)) as run:
        assert run.line() != run.line()
        assert run.log_line("restarts")["signal"] == "SIGKILL"


def test_a_stop_while_a_program_is_aborted_keeps_its_own_time(tmp_path):
    """Neither the watchdog's SIGKILL nor a second signal comes in between, and what ends by SIGKILL
    is said to."""
    programs = """
[programs.deaf]
command = ["sh", "-c", '''
  trap "" ABRT; trap "echo down deaf" TERM; echo up deaf $$$$; while :; do sleep 0.05; done''']
watchdog = "100ms"
restart = "on-failure"
stop_timeout = "2s"
"""
    top = f'[report]\nfile = "{tmp_path / "report.json"}"\n'
    with running("--config", config(tmp_path, programs, top)) as run:
        assert words(run.line()) == ("up", "deaf")
        run.log_line("watchdog")
        aborted = time.monotonic()
        wait_until(lambda: time.monotonic() > aborted + 0.7, "some of its time has passed")
        run.send(signal.SIGTERM)
        run.log_line("stop_requested")
        kill = run.log_line("kill")
        assert kill["elapsed"] >= 2.0
        assert run.wait() == 137
        assert run.out.rest() == []  # no second signal
    report = json.loads((tmp_path / "report.json").read_text())
    assert (report["outcome"], report["programs"][0]["outcome"]) == ("killed", "killed")
    assert report["programs"][0]["signals_sent"] == ["SIGABRT"]
    assert "success_exit_codes" not in report["summary"]


def test_a_program_cannot_take_anothers_process_for_its_main_one(tmp_path):
    """Signals would go astray, and the exit of one be taken for that of the other."""
    notify = """
import os, socket, sys, time
pid = int(open(sys.argv[1]).read())
with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as s:
    path = os.environ["NOTIFY_SOCKET"]
    s.connect("\\0" + path[1:] if path[0] == "@" else path)
    s.send(b"MAINPID=%d\\nSTATUS=said" % pid)
    print("up liar", os.getpid(), flush=True)
    time.sleep(1000)
"""
    pid = tmp_path / "pid"
    programs = f"""
[programs.web]
command = ["sh", "-c", '''
  echo $$$$ > {pid}; trap "echo down web; exit 0" TERM; echo up web $$$$
  while :; do sleep 0.05; done''']
[programs.liar]
command = {json.dumps([sys.executable, "-c", notify.replace("$", "$$"), str(pid)])}
notify = true
depends_on = ["web"]
ready = {{notify = true}}
success_exit_codes = ["TERM"]
"""
    with running("--config", config(tmp_path, programs)) as run:
        assert [words(run.line()) for _ in range(2)] == [("up", "web"), ("up", "liar")]
        assert run.log_line("said")["program"] == "liar"
        run.send(signal.SIGTERM)
        assert run.line() == "down web"
        assert run.wait() == 0
        assert not [one for one in run.log() if one["event"] == "main_pid"]


def test_a_missed_watchdog_after_a_stable_time_is_the_first_failure_again(tmp_path):
    programs = """
[programs.silent]
COMMAND
watchdog = "100ms"
restart = "always"
max_restarts = 1
backoff = {first = "50ms", stable = "0s"}
"""
    with running("--config", config(tmp_path, programs)) as run:
        assert [words(run.line()) for _ in range(4)] == [("up", "silent")] * 4


def test_what_has_been_told_to_stop_owes_no_more_signs_of_life(tmp_path):
    flag = tmp_path / "leave"
    leave = f"echo down slow; until [ -e {flag} ]; do sleep 0.05; done; exit 0"
    busy = f"trap '{leave}' TERM; echo up slow; while :; do sleep 0.05; done"
    programs = f"""
[programs.slow]
command = {json.dumps(["sh", "-c", busy])}
watchdog = "1s"
"""
    with running("--config", config(tmp_path, programs, 'signal_map = {HUP = "restart"}')) as run:
        assert words(run.line()) == ("up", "slow")
        run.send(signal.SIGHUP)
        assert words(run.line()) == ("down", "slow")
        run.log_line("watchdog")
        flag.touch()
        assert words(run.line()) == ("up", "slow")


def test_nothing_is_left_of_a_starter_that_has_named_another_and_gone(tmp_path):
    gone = tmp_path / "gone"
    os.mkfifo(gone)
    starter = [sys.executable, "-I", "-S", "-c", STARTER]
    programs = f"""
[programs.web]
COMMAND
[programs.daemon]
command = {json.dumps(["sh", "-c", f'exec "$@" < {gone}', "sh", *starter])}
notify = true
"""
    with running("--config", config(tmp_path, programs)) as run:
        with gone.open("w"):
            said = [run.line() for _ in range(2)]
            assert {words(line) for line in said} == {("up", "web"), ("named", "daemon")}
            starter = next(line.split()[-1] for line in said if line.startswith("named"))
            named = run.log_line("main_pid")
            assert f"(pid {starter})" in str(named["message"]) and named["main"] != int(starter)
        wait_until(lambda: not alive(int(starter)), "the starter has been reaped")
        began = time.monotonic()
        run.send(signal.SIGTERM)
        assert words(run.line()) == ("down", "web")
        assert run.wait() == 0
        assert time.monotonic() - began < 5  # of 20
        assert not [line for line in run.log() if line["event"] == "kill"]


# --- what is asked from outside, before the policy has heard of it -------------------------------


class ControlApi:
    """Two programs that are up, and requests for them; the policy hears of those with hear()."""

    def __init__(self) -> None:
        self.policy = m.Policy((m.ProgramPolicy(), m.ProgramPolicy()))
        self.system: run_phases.System = run_phases.begin(self.policy, (0, 1))
        self.posted: list[m.Event] = []
        names = [("web", ["web"]), ("db", ["db"])]
        recorder = Recorder(Log("json", "error", os.devnull), 25.0, 0.0, 0.0, names)
        self.parts = partial_restart.PartialRestart(
            recorder, self.policy, lambda: self.system, self.posted.append
        )

    def ask(self, names: str) -> tuple[int, dict]:
        status, answer = self.parts.act(names, True, "pid 7, uid 0", 1.0)
        return status, dict(answer)

    def hear(self) -> None:
        while self.posted:
            self.feed(self.posted.pop(0))

    def feed(self, event: m.Event) -> None:
        self.system, commands = step.step(self.system, event, self.policy)
        for command in commands:
            if isinstance(command, OfAPart):
                self.parts.noted(command, 1.0)


def test_while_one_is_asked_for_another_is_refused():
    control_api = ControlApi()
    assert control_api.ask("web")[0] == 202
    assert control_api.ask("db") == (409, {"error": "web is being restarted; ask again after that"})
    control_api.hear()
    assert control_api.parts.tell("1") == {"number": 1, "state": "begun", "why": "", "killed": []}
    assert control_api.ask("db")[0] == 409


def test_one_that_the_policy_refuses_after_all_is_told_with_what_is_in_its_way():
    control_api = ControlApi()
    assert control_api.ask("web")[0] == 202
    control_api.feed(m.PartRequested((1,), "a signal for a rolling restart", True, 1.0))
    assert control_api.parts.tell("1")["state"] == "asked"
    control_api.hear()
    assert control_api.parts.tell("1") == {
        "number": 1,
        "state": "refused",
        "why": "db is being restarted",
        "killed": [],
    }


def test_of_many_requests_the_last_are_known():
    control_api = ControlApi()
    for _ in range(partial_restart.KEPT + 2):
        assert control_api.ask("web")[0] == 202
        control_api.hear()
        control_api.system = run_phases.begin(control_api.policy, (0, 1))
    assert (
        control_api.parts.tell("2") is None
        and control_api.parts.tell(str(partial_restart.KEPT + 2))["state"] == "begun"
    )
    assert [control_api.parts.tell(number) for number in ("0", "x", "-1", "9" * 99, "\u0663")] == [
        None
    ] * 5
