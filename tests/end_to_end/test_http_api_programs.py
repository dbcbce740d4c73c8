"""Several programs, asked from outside: how each stands, and stopping and restarting one while the
others go on."""

from __future__ import annotations

import contextlib
import json
import re
import signal
import socket
import subprocess
import time
from collections.abc import Callable
from pathlib import Path
from typing import BinaryIO

import pytest
from prometheus_client.parser import text_string_to_metric_families

from control_api import get
from processes import BOUND, INSTALLED, TALKER, Run, environment, wait_until

# Writes what happens to it into a journal, and makes a file while it is up; with a file beside it:
# fails at once, or ends late.
PROGRAM = """
cd "$(dirname "$0")"
trap 'rm -f $1.up; echo "$1 stops" >>journal
      while [ -e $1.late ]; do sleep 0.02; done; exit 0' TERM
echo "$1 starts" >>journal
[ -e $1.fails ] && exit 3
touch $1.up
while :; do sleep 0.02; done
"""

STACK = {
    "db": "",
    "web": 'depends_on = ["db"]',
    "worker": 'depends_on = ["web"]',
    "other": "",
}


class Stack:
    """A gracewrap with several programs, and its control socket."""

    def __init__(self, place: Path) -> None:
        self.place, self.socket, self.run = place, place / "c.sock", None
        (place / "program.sh").write_text(PROGRAM)

    def file(self, programs: dict[str, str], top: str = "") -> Path:
        command = ["sh", str(self.place / "program.sh")]
        tables = [
            f"[programs.{name}]\n"
            f"{'' if 'command =' in more else f'command = {[*command, name]}'}\n{more}\n"
            for name, more in programs.items()
        ]
        path = self.place / "g.toml"
        path.write_text(f'{top}\n[control]\nsocket = "{self.socket}"\n' + "\n".join(tables))
        return path

    def status(self, query: str = "") -> dict:
        return json.loads(get(self.socket, f"/status{query}")[1])

    def program(self, name: str) -> dict:
        return next(one for one in self.status()["programs"] if one["name"] == name)

    def phases(self) -> dict[str, str]:
        return {one["name"]: one["phase"] for one in self.status()["programs"]}

    def pids(self) -> dict[str, int]:
        return {one["name"]: one["pid"] for one in self.status()["programs"]}

    def post(self, action: str, name: str = "") -> tuple[int, dict]:
        status, body = get(self.socket, f"/{action}" + (f"?program={name}" if name else ""), "POST")
        return status, json.loads(body)

    def journal(self) -> list[str]:
        path = self.place / "journal"
        return path.read_text().splitlines() if path.exists() else []

    def until_ready(self) -> None:
        wait_until(lambda: get(self.socket, "/readyz")[0] == 200, "all are ready")
        wait_until(
            lambda: len([one for one in self.journal() if "starts" in one]) >= len(self.pids()),
            "all have begun",
        )

    def cli(self, *words: object) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [*INSTALLED, *map(str, words), "--socket", self.socket],
            capture_output=True,
            text=True,
            timeout=BOUND,
            env=environment(),
            stdin=subprocess.DEVNULL,
        )


@pytest.fixture
def stack(start: Callable[..., Run], tmp_path: Path) -> Callable[..., Stack]:
    """Start programs: stack({"web": 'depends_on = ["db"]', ...})."""

    def begin(
        programs: dict[str, str] | None = None,
        top: str = 'shutdown_timeout = "10m"',
        ready: bool = True,
    ) -> Stack:
        made = Stack(tmp_path)
        made.run = start(
            "--config", made.file(STACK if programs is None else programs, top), command=INSTALLED
        )
        wait_until(made.socket.exists, "the control socket is there")
        if ready:
            made.until_ready()
        return made

    return begin


# --- how each stands -----------------------------------------------------------------------------


def test_readiness_is_everybody_s_and_says_who_is_missing(stack, tmp_path):
    mark = tmp_path / "up"
    s = stack({**STACK, "web": f'depends_on = ["db"]\nready = {{file = "{mark}"}}'}, ready=False)
    wait_until(lambda: s.phases()["web"] == "running", "web runs")
    status, body = get(s.socket, "/readyz")
    said = json.loads(body)
    assert (status, said["reason"]) == (503, "starting")
    assert said["why"] == f"waiting for web: {mark} does not exist; worker waits for web"
    now = s.status()
    assert now["phase"] == "starting" and not now["ready"]
    web, worker = (
        next(one for one in now["programs"] if one["name"] == name) for name in ("web", "worker")
    )
    assert (web["phase"], web["ready"], web["why"]) == ("running", False, f"{mark} does not exist")
    assert (worker["phase"], worker["pid"], worker["waits_for"]) == ("pending", None, ["web"])
    assert worker["why"] == f"waiting for web: {mark} does not exist"
    mark.touch()
    s.until_ready()
    assert s.status()["phase"] == "running"
    assert s.program("web")["ready_after_seconds"] > 0


def test_each_program_has_its_own_processes_and_numbers(stack):
    s = stack({
        "web": f'command = {json.dumps([*TALKER, "fork"])}',
        "once": 'command = ["true"]\noneshot = true',
        "quiet": f"command = {json.dumps(TALKER)}",
    }, ready=False)  # fmt: skip
    wait_until(
        lambda: s.phases() == {"web": "running", "once": "completed", "quiet": "running"},
        "once has completed",
    )
    wait_until(lambda: len(s.program("web")["processes"]) == 2, "the straggler is web's")
    seen: list[dict] = []

    def looked_at_all() -> bool:
        seen[:] = s.status()["programs"]
        return all(one["all_processes"] for one in seen)

    wait_until(looked_at_all, "there was time to look at all")
    web, once, quiet = seen
    assert [one["pid"] for one in quiet["processes"]] == [quiet["pid"]]
    leader, straggler = web["processes"]
    assert (leader["pid"], straggler["parent"], leader["state"]) == (web["pid"], web["pid"], "S")
    assert (once["exit_status"], once["oneshot"], once["why"], once["pid"]) == (
        0,
        True,
        "exited with 0",
        None,
    )
    assert web["uptime_seconds"] > 0 and once["uptime_seconds"] is None
    assert get(s.socket, "/readyz")[0] == 200  # what has completed keeps nobody waiting


def test_status_of_one_and_without_processes(stack):
    s = stack()
    assert [one["name"] for one in s.status("?program=web")["programs"]] == ["web"]
    assert not any(
        one["processes"] or one["all_processes"] for one in s.status("?processes=no")["programs"]
    )
    assert get(s.socket, "/status?program=wbe")[0] == 404


def test_while_it_stops_each_says_what_it_waits_for(stack, tmp_path):
    (tmp_path / "worker.late").touch()
    mark = tmp_path / "busy"
    mark.touch()
    drain = f'[programs.worker.drain]\nfile = "{mark}"\nfile_is = "absent"'
    s = stack({**STACK, "worker": f'depends_on = ["web"]\n{drain}'})
    assert s.post("stop")[0] == 202
    wait_until(lambda: s.program("worker")["phase"] == "stopping", "worker is told")
    wait_until(lambda: str(mark) in s.program("worker")["waiting_for"], "worker's probe has spoken")
    now = {one["name"]: one for one in s.status()["programs"]}
    assert now["web"]["waits_for"] == ["worker"] and now["db"]["waits_for"] == ["web"]
    assert now["web"]["why"] == f"waiting for worker: {now['worker']['waiting_for']}"
    assert 0 < now["web"]["left_seconds"] < now["db"]["left_seconds"] <= 600
    assert s.status()["phase"] == "stopping"
    table = s.cli("status").stdout
    assert (
        "waiting for worker: " in table
        and "running" in table
        and "stop requested by gracewrap stop" in table
    )
    (tmp_path / "worker.late").unlink()
    assert s.run.wait() == 0
    assert [one for one in s.journal() if "stops" in one and "other" not in one] == [
        "worker stops",
        "web stops",
        "db stops",
    ]


def test_one_that_is_to_be_started_again_says_when(stack, tmp_path):
    (tmp_path / "web.fails").touch()
    s = stack({"db": "", "web": 'restart = "always"\nbackoff = "10m"'}, ready=False)
    wait_until(lambda: s.phases()["web"] == "backing off", "it has failed")
    web, now = s.program("web"), s.status()
    assert (web["exit_status"], web["why"], web["pid"]) == (3, "exited with 3", None)
    assert 400 < web["next_start_seconds"] <= 600
    assert now["phase"] == "degraded" and now["why"].startswith(
        "waiting for web: exited with 3, and is started again in "
    )
    assert "exited with 3; starts in " in s.cli("status").stdout
    (tmp_path / "web.fails").unlink()
    done = s.cli("restart", "web")  # now, and not in ten minutes
    assert done.returncode == 0, done.stderr
    assert get(s.socket, "/readyz")[0] == 200


def test_metrics_tell_of_each(stack):
    s = stack()
    assert s.post("stop", "worker")[0] == 202
    wait_until(lambda: s.phases()["worker"] == "stopped", "worker is gone")
    assert s.cli("restart", "other").returncode == 0
    text = get(s.socket, "/metrics")[1]
    found = {
        (sample.name, *sample.labels.values()): sample.value
        for family in text_string_to_metric_families(text)
        for sample in family.samples
    }
    assert [found["gracewrap_program_up", name] for name in STACK] == [1, 1, 0, 1]
    assert [found["gracewrap_program_ready", name] for name in STACK] == [1, 1, 0, 1]
    assert [found["gracewrap_restarts_total", name] for name in STACK] == [0, 0, 0, 1]
    assert found["gracewrap_phase", "running"] == 1


# --- stopping and restarting one -----------------------------------------------------------------


def test_restart_takes_what_depends_on_it_and_nothing_else(stack):
    s = stack()
    before, told = s.pids(), len(s.journal())
    done = s.cli("restart", "web")
    assert (done.returncode, done.stderr) == (0, "")
    assert (
        "restarting web; worker, which depends on it, stops first and is started again"
        in done.stdout
    )
    assert done.stdout.splitlines()[-1].startswith("restarted web in ") and done.stdout.endswith(
        ", and with it worker\n"
    )
    wait_until(lambda: len(s.journal()) == told + 4, "both have begun again")
    assert s.journal()[told : told + 2] == ["worker stops", "web stops"]
    assert sorted(s.journal()[told + 2 :]) == [
        "web starts",
        "worker starts",
    ]  # ready when it is started: both write at once
    after = s.pids()
    assert [name for name in STACK if before[name] != after[name]] == ["web", "worker"]
    assert {one["name"]: one["restarts"] for one in s.status()["programs"]} == {
        "db": 0,
        "web": 1,
        "worker": 1,
        "other": 0,
    }
    assert "  started again 1 time\n" in s.cli("status", "web").stdout


def test_restart_waits_until_it_is_ready(stack, tmp_path):
    mark = tmp_path / "up"
    mark.touch()
    s = stack({"web": f'ready = {{file = "{mark}"}}', "worker": 'depends_on = ["web"]'})
    mark.unlink()
    with subprocess.Popen(
        [*INSTALLED, "restart", "web", "--socket", s.socket],
        stdout=subprocess.PIPE,
        text=True,
        env=environment(),
    ) as waiting:
        wait_until(lambda: s.program("web")["restarts"] == 1, "it is started again")
        wait_until(lambda: s.program("worker")["phase"] == "pending", "worker waits for it")
        assert waiting.poll() is None
        mark.touch()
        assert waiting.wait(BOUND) == 0
        assert "restarted web in " in waiting.stdout.read()
    assert s.phases() == {"web": "running", "worker": "running"}


def test_one_that_is_ready_as_soon_as_it_is_asked_comes_up(stack, tmp_path):
    (tmp_path / "always").touch()
    s = stack({"web": f'ready = {{file = "{tmp_path}/always"}}', "worker": 'depends_on = ["web"]'})
    for _ in range(3):
        done = s.cli("restart", "web", "--timeout", "10s")
        assert done.returncode == 0, done.stderr


def test_what_was_stopped_by_name_stays_so_until_it_is_started_by_name(stack):
    s = stack({"db": "", "web": 'restart = "always"\nbackoff = "10ms"'})
    done = s.cli("stop", "web")
    assert done.returncode == 0 and done.stdout.splitlines()[-1].startswith("stopped web in ")
    assert s.phases() == {"db": "running", "web": "stopped"} and get(s.socket, "/readyz")[0] == 200
    again = s.cli("stop", "web")
    assert again.returncode == 0 and "web is not running" in again.stdout
    assert s.journal().count("web starts") == 1
    done = s.cli("restart", "web")
    assert (
        done.returncode == 0
        and "starting web\n" in done.stdout
        and "started web in " in done.stdout
    )
    wait_until(lambda: s.journal().count("web starts") == 2, "it has begun again")


def test_it_says_what_it_will_be_without(stack):
    s = stack()
    assert s.cli("stop", "db").returncode == 0
    assert s.phases() == {
        "db": "stopped",
        "web": "stopped",
        "worker": "stopped",
        "other": "running",
    }
    status, body = s.post("restart", "web")
    assert (
        status == 202 and body["message"] == "starting web; db, on which it depends, is not running"
    )
    wait_until(lambda: s.phases()["web"] == "running", "it runs, and what cleans up finds it")


def test_with_the_last_one_gracewrap_ends(stack):
    s = stack({"db": "", "web": 'depends_on = ["db"]'})
    done = s.cli("stop", "db")
    assert (
        done.returncode == 0
        and "web, which depends on it, stops first; nothing else runs, and gracewrap ends"
        in done.stdout
    )
    assert done.stdout.splitlines()[-1].startswith("stopped db in ")
    assert s.run.wait() == 0


def test_one_that_had_to_be_killed(stack, tmp_path):
    (tmp_path / "web.late").touch()
    s = stack({"db": "", "web": 'stop_timeout = "200ms"'})
    done = s.cli("stop", "web")
    assert done.returncode == 1 and "web had to be killed" in done.stderr
    assert s.phases() == {"db": "running", "web": "stopped"}


def test_a_restart_that_does_not_come_up_is_a_failure(stack, tmp_path):
    def up(name: str) -> str:
        return f'ready = {{file = "{tmp_path}/{name}.up"}}'

    s = stack({
        "db": "",
        "lazy": f'on_failure = "ignore"\n{up("lazy")}',
        "web": f'restart = "on-failure"\nbackoff = "10m"\n{up("web")}',
        "vital": up("vital"),
    })  # fmt: skip
    for name in ("lazy", "web", "vital"):
        (tmp_path / f"{name}.fails").touch()
    for name, said in (
        ("lazy", "exited with 3\n"),
        ("web", "exited with 3; the next start is in "),
    ):
        done = s.cli("restart", name)
        assert done.returncode == 1 and f"{name} did not come up: it {said}" in done.stderr
    done = s.cli("restart", "vital")
    assert done.returncode == 1 and "vital is not restarted: " in done.stderr
    assert s.run.wait() == 3


def test_a_stop_of_all_ends_a_restart(stack, tmp_path):
    (tmp_path / "web.late").touch()
    s = stack()
    with subprocess.Popen(
        [*INSTALLED, "restart", "web", "--socket", s.socket],
        stderr=subprocess.PIPE,
        stdout=subprocess.DEVNULL,
        text=True,
        env=environment(),
    ) as waiting:
        wait_until(lambda: s.phases()["web"] == "stopping", "web is told")
        assert s.post("stop")[0] == 202
        assert waiting.wait(BOUND) == 1
        assert (
            "web is not restarted: all is being stopped (gracewrap stop (" in waiting.stderr.read()
        )
    assert s.post("restart", "web")[0] == 409
    (tmp_path / "web.late").unlink()
    assert s.run.wait() == 0
    assert s.journal().count("web starts") == 1


def test_no_wait_and_a_limit(stack, tmp_path):
    (tmp_path / "web.late").touch()
    s = stack()
    done = s.cli("restart", "web", "--no-wait")
    assert done.returncode == 0 and done.stdout.count("\n") == 1
    wait_until(lambda: s.phases()["web"] == "stopping", "web is told")
    part = s.status()["part"]
    assert (part["programs"], part["again"]) == (["web", "worker"], True) and 0 < part[
        "left_seconds"
    ] <= 600
    assert s.status()["phase"] == "restarting"
    status, body = s.post("stop", "other")
    assert (
        status == 409
        and body["error"] == "web and worker are being restarted; ask again after that"
    )
    shown = s.cli("status").stdout
    assert "restarting web and worker: " in shown
    assert json.loads(get(s.socket, "/readyz")[1])["why"] == "waiting for web: stopping"
    (tmp_path / "web.late").unlink()
    s.until_ready()
    (tmp_path / "web.late").touch()
    done = s.cli("stop", "web", "--timeout", "300ms")
    assert done.returncode == 1 and "not stopped in 0.3 s: web: stopping" in done.stderr
    (tmp_path / "web.late").unlink()


def test_a_name_that_is_none(stack):
    s = stack()
    status, body = s.post("restart", "wroker")
    assert (
        status == 404
        and body["error"]
        == "there is no program 'wroker'; did you mean worker, of db, web, worker and other?"
    )
    assert s.post("stop", "%00x")[0] == 404
    status, body = s.post("restart")
    assert status == 400 and "db, web, worker or other" in body["error"]
    for words in (
        ["restart"],
        ["restart", "x"],
        ["stop", ""],
        ["stop", "x"],
        ["restart", "db", "x"],
        ["stop", "x", "db"],
        ["status", "x"],
    ):
        done = s.cli(*words)
        assert (done.returncode, done.stdout) == (125, "") and done.stderr.count("\n") == 1, words
    assert s.phases() == dict.fromkeys(STACK, "running")


def test_one_command_cannot_be_named_but_one_that_is_restarted_is_the_only_one(start, tmp_path):
    socket = tmp_path / "c.sock"
    plain = start("--control-socket", socket, "--", *TALKER, command=INSTALLED)
    plain.ready()
    wait_until(socket.exists, "the control socket is there")
    for action, said in (("stop", "use gracewrap stop"), ("restart", "write --restart always")):
        status, body = get(socket, f"/{action}?program=python3", "POST")
        assert status == 409 and said in json.loads(body)["error"]
    assert get(socket, "/stop", "POST")[0] == 202
    assert plain.line() == "15" and plain.wait() == 0
    again = start(
        "--restart", "always", "--control-socket", socket, "--", *TALKER, command=INSTALLED
    )
    first = again.ready()
    wait_until(socket.exists, "the control socket is there")
    assert get(socket, "/restart", "POST")[0] == 202
    assert again.line() == "15"
    assert again.ready() != first


def test_two_hundred_programs_are_told_of_in_time(stack):
    """It is deaf while it looks for processes, so of many programs not all are looked for; all are
    told of."""
    s = stack({f"p{i}": 'command = ["sleep", "1000"]' for i in range(200)}, ready=False)
    wait_until(lambda: get(s.socket, "/readyz")[0] == 200, "all are ready")
    s.status()
    took = []
    for _ in range(5):
        began = time.monotonic()
        now = s.status()
        took.append(time.monotonic() - began)
    assert len(now["programs"]) == 200 and {one["phase"] for one in now["programs"]} == {"running"}
    assert not now["programs"][-1]["all_processes"]
    assert len(s.status("?program=p199")["programs"][0]["processes"]) == 1
    assert min(took) < 0.25, took
    assert s.cli("status").stdout.count("running") == 201


# --- how a program has ended ---------------------------------------------------------------------


ENDS = {
    "web": "",
    "up": "",
    "once": 'command = ["true"]\noneshot = true',
    "job": 'command = ["sh", "-c", "exit 1"]\non_failure = "ignore"',
    "task": 'command = ["true"]\non_exit = "ignore"',
    "nothing": 'command = ["/nonexistent"]\non_failure = "ignore"',
    "loop": 'command = ["sh", "-c", "exit 3"]\nrestart = "always"\nbackoff = "10m"',
}


def test_what_is_not_up_says_how_it_ended(stack):
    s = stack(ENDS, ready=False)
    wait_until(
        lambda: s.phases()["loop"] == "backing off" and s.phases()["job"] == "failed",
        "they have ended",
    )
    s.cli("stop", "web", "loop")
    said = {one["name"]: (one["phase"], one["why"]) for one in s.status()["programs"]}
    assert said == {
        "web": ("stopped", "exited with 0"),
        "up": ("running", ""),
        "once": ("completed", "exited with 0"),
        "job": ("failed", "exited with 1"),
        "task": ("exited", "exited with 0"),
        "nothing": ("failed", "could not be started"),
        "loop": ("stopped", "exited with 3"),
    }
    rows = {
        row.split()[0]: " ".join(row.split()[1:]) for row in s.cli("status").stdout.splitlines()[3:]
    }
    assert (rows["once"], rows["job"]) == ("completed exited with 0", "failed exited with 1")
    shown = s.cli("status", "job").stdout
    assert "job: failed  sh -c exit 1\n  exited with 1\n" in shown and "drain" not in shown
    assert "?" not in s.cli("status").stdout + shown


def test_in_a_stop_of_all_those_that_are_gone_are_stopped_or_ended_before(stack, tmp_path):
    (tmp_path / "db.late").touch()
    s = stack({
        "db": "",
        "web": 'depends_on = ["db"]',
        "once": 'command = ["true"]\noneshot = true',
        "job": 'command = ["sh", "-c", "exit 1"]\non_failure = "ignore"',
        "never": 'depends_on = {job = "completed"}',
    }, ready=False)  # fmt: skip
    wait_until(lambda: "web starts" in s.journal() and s.phases()["job"] == "failed", "web runs")
    assert s.post("stop")[0] == 202
    wait_until(lambda: s.phases()["db"] == "stopping", "db is told")
    assert {name: phase for name, phase in s.phases().items() if name != "db"} == {
        "web": "stopped", "once": "completed", "job": "failed", "never": "stopped",
    }  # fmt: skip
    assert s.program("never")["why"] == "was never started"
    (tmp_path / "db.late").unlink()
    assert s.run.wait() == 1


def test_a_restart_of_a_oneshot_waits_until_it_has_completed(stack, tmp_path):
    job = (
        f'command = ["sh", "-c", "sleep 0.3; exit $(cat {tmp_path}/job)"]\non_failure = '
        '"ignore"\noneshot = true'
    )
    s = stack({"db": "", "job": job}, ready=False)
    for status, said in ((0, "started job in "), (3, "job did not come up: it exited with 3")):
        wait_until(lambda: s.phases()["job"] in ("completed", "failed"), "it has ended")
        (tmp_path / "job").write_text(str(status))
        done = s.cli("restart", "job")
        assert (done.returncode, said in done.stdout + done.stderr) == (int(bool(status)), True), (
            done
        )
        assert s.phases()["job"] == ("failed" if status else "completed")


def test_an_empty_name_is_not_all_of_them(stack):
    s = stack()
    for asked in ("stop?program=", "stop?program=,", "restart?program="):
        assert s.post(asked)[0] == 400
    assert s.phases() == dict.fromkeys(STACK, "running")


def test_who_is_killed_with_gracewrap_is_not_taken_to_have_stopped_well(stack, tmp_path):
    s = stack({"db": 'stop_timeout = "300ms"'})
    (tmp_path / "db.late").touch()
    done = s.cli("stop", "db")
    assert done.returncode == 1 and "db had to be killed" in done.stdout + done.stderr, done
    s.run.wait()


# --- several at once, and two at a time ----------------------------------------------------------


def test_several_are_restarted_in_their_order_as_one_part(stack):
    s = stack()
    before, told = s.pids(), len(s.journal())
    done = s.cli("restart", "db", "other", "db")
    assert (done.returncode, done.stderr) == (0, "")
    first, *_, last = done.stdout.splitlines()
    assert first.endswith(
        "restarting db and other; worker and web, which depend on them, stop first and are started "
        "again"
    )
    assert last.startswith("restarted db and other in ") and last.endswith(
        ", and with them worker and web"
    )
    wait_until(lambda: len(s.journal()) == told + 8, "all have begun again")
    stops = [one.split()[0] for one in s.journal()[told:] if "stops" in one]
    assert [name for name in stops if name != "other"] == ["worker", "web", "db"]
    after = s.pids()
    assert all(before[name] != after[name] for name in STACK)


def test_several_are_stopped_and_those_that_run_no_more_are_named(stack):
    s = stack()
    assert s.cli("stop", "worker").returncode == 0
    done = s.cli("stop", "worker", "web", "other")
    assert done.returncode == 0 and "stopping web and other; worker is not running\n" in done.stdout
    assert done.stdout.splitlines()[-1].startswith("stopped web and other in ")
    assert s.phases() == {
        "db": "running",
        "web": "stopped",
        "worker": "stopped",
        "other": "stopped",
    }
    again = s.cli("stop", "web", "worker")
    assert again.returncode == 0 and again.stdout.endswith(": web and worker are not running\n")
    done = s.cli("restart", "db", "web")
    assert (
        done.returncode == 0
        and "restarting db and starting web\n" in done.stdout
        and "restarted db and web in " in done.stdout
    )
    assert s.phases() == {
        "db": "running",
        "web": "running",
        "worker": "stopped",
        "other": "stopped",
    }
    assert s.cli("restart", "--all").returncode == 0
    assert set(s.phases().values()) == {"running"}


def test_with_one_name_that_is_none_nothing_is_stopped(stack):
    s = stack()
    told = len(s.journal())
    done = s.cli("stop", "web", "wroker")
    assert (done.returncode, done.stdout) == (125, "")
    assert done.stderr == (
        "gracewrap: cannot stop web wroker: there is no program 'wroker'; did you mean worker, of "
        "db, web, worker and other?\n"
    )
    status, body = s.post("restart", "x,db,y")
    assert (
        status == 404
        and body["error"] == "there are no programs 'x' and 'y'; write db, web, worker or other"
    )
    assert s.post("stop", ",")[0] == 400  # and not a stop of all
    assert s.phases() == dict.fromkeys(STACK, "running") and len(s.journal()) == told


def test_one_program_is_sent_a_signal(stack):
    s = stack()
    assert s.cli("signal", "wroker", "USR1").returncode == 125
    assert s.cli("signal", "worker", "NONSENSE").returncode == 125
    assert s.post("signal", "worker&signal=NONSENSE")[0] == 400
    pids = s.pids()
    done = s.cli("signal", "worker", "SIGURG")
    assert done.returncode == 0 and "sending SIGURG to worker" in done.stdout
    line = s.run.log_line("signal_sent")
    assert (line["program"], line["signal"]) == ("worker", "SIGURG")
    assert "gracewrap signal" in str(line["by"])
    assert s.pids() == pids
    assert s.cli("stop", "other").returncode == 0
    refused = s.cli("signal", "other", "URG")
    assert refused.returncode == 1 and "other is not running" in refused.stderr


def test_of_two_that_ask_at_once_the_second_is_told_to_ask_again(stack):
    """Both have been answered before the policy hears of the first."""
    s = stack()
    with contextlib.ExitStack() as all_of_them:
        asking = [all_of_them.enter_context(socket.socket(socket.AF_UNIX)) for _ in range(2)]
        answers = []
        for asked in asking:
            asked.settimeout(BOUND)
            asked.connect(str(s.socket))
            answers.append(all_of_them.enter_context(asked.makefile("rb")))
            asked.sendall(b"GET /livez HTTP/1.1\r\nHost: x\r\n\r\n")  # so both have been let in
        assert [(said_in(answer)) for answer in answers] == [(200, {"live": True})] * 2
        s.run.send(signal.SIGSTOP)
        for asked, name in zip(asking, ("web", "other")):
            head = f"POST /restart?program={name} HTTP/1.1\r\nHost: x\r\nContent-Length: 0"
            asked.sendall(f"{head}\r\n\r\n".encode())
        s.run.send(signal.SIGCONT)
        said = [said_in(answer) for answer in answers]
    taken, refused = (0, 1) if said[0][0] == 202 else (1, 0)
    busy = ("web and worker are", "other is")[taken]
    assert said[taken][0] == 202
    assert said[refused] == (409, {"error": f"{busy} being restarted; ask again after that"})
    names = ("web", "other")
    wait_until(lambda: s.program(names[taken])["restarts"] == 1, "one is done")
    assert s.program(names[refused])["restarts"] == 0
    s.until_ready()
    assert s.cli("restart", names[refused]).returncode == 0


def said_in(answer: BinaryIO) -> tuple[int, dict]:
    """Read one answer of several on a connection."""
    status, length = int(answer.readline().split()[1]), 0
    while header := answer.readline().strip():
        name, _, value = header.lower().partition(b":")
        length = int(value) if name == b"content-length" else length
    return status, json.loads(answer.read(length))


# --- what had to be killed -----------------------------------------------------------------------


def test_a_restart_says_what_had_to_be_killed(stack, tmp_path):
    (tmp_path / "web.late").touch()
    s = stack({"db": "", "web": 'depends_on = ["db"]\nstop_timeout = "300ms"'})
    done = s.cli("restart", "db")
    assert (done.returncode, done.stderr) == (0, "")
    last, pid = done.stdout.splitlines()[-1], s.program("web")["pid"]
    assert last.startswith("restarted db in ")
    # On a busy machine it may be 0.4 s.
    said = rf".*, and with it web; web was killed after 0\.[3-9] s, and started again \(pid {pid}\)"
    assert re.fullmatch(said, last), last
    (tmp_path / "web.late").unlink()
    assert "killed" not in s.cli("restart", "web").stdout


def test_a_start_says_nothing_of_how_it_was_killed_before(stack, tmp_path):
    (tmp_path / "web.late").touch()
    s = stack({"db": "", "web": 'stop_timeout = "200ms"'})
    assert s.cli("stop", "web").returncode == 1
    done = s.cli("restart", "web")
    assert done.returncode == 0 and "killed" not in done.stdout


def test_each_counts_down_to_its_own_sigkill(stack, tmp_path):
    (tmp_path / "web.late").touch()
    s = stack(
        {
            "db": "",
            "web": 'depends_on = ["db"]\nstop_timeout = "1m"',
            "other": 'stop_timeout = "30s"',
        }
    )
    (tmp_path / "other.late").touch()
    assert s.post("restart", "other")[0] == 202
    wait_until(lambda: s.phases()["other"] == "stopping", "other is told")
    now = s.status()
    assert 20 < s.program("other")["left_seconds"] <= 30 and 20 < now["part"]["left_seconds"] <= 30
    assert abs(now["part"]["budget_seconds"] - 30) < 1
    assert " of 30 s gone, " in s.cli("status").stdout
    (tmp_path / "other.late").unlink()
    s.until_ready()
    assert s.post("restart", "db")[0] == 202
    wait_until(lambda: s.phases()["web"] == "stopping", "web is told")
    now = {one["name"]: one for one in s.status()["programs"]}
    assert 50 < now["web"]["left_seconds"] <= 60 and 500 < now["db"]["left_seconds"] <= 600
    assert (
        " until the last SIGKILL\n" in s.cli("status").stdout
        and "s until SIGKILL\n" in s.cli("status", "web").stdout
    )
    done = s.cli("stop", "other", "--timeout", "300ms")
    assert (
        done.returncode == 1
        and "db and web are being restarted; ask again after that" in done.stderr
    )
    (tmp_path / "web.late").unlink()
    s.until_ready()


def test_what_is_held_back_counts_down_to_its_sigkill_too(stack, tmp_path):
    mark = tmp_path / "busy"
    mark.touch()
    drain = (
        f'stop_timeout = "2m"\n[programs.web.drain]\nfile = "{mark}"\nfile_is = "absent"\nwhen '
        '= "before-signal"'
    )
    s = stack({"db": "", "web": drain})
    assert s.post("stop", "web")[0] == 202
    wait_until(lambda: s.phases()["web"] == "draining", "web is drained")
    assert (
        590 < s.program("web")["left_seconds"] <= 600
    )  # and not the time until its stop signal, 8 minutes
    mark.unlink()
    wait_until(lambda: s.phases()["web"] == "stopped", "web has stopped")
