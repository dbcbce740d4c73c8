"""`gracewrap status` of real programs, on a terminal of 80 columns."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import time
from pathlib import Path

import pytest

from control_stub import WIDTH, Done
from processes import BOUND, INSTALLED, TALKER, environment, require_root, wait_until

ESCAPE = re.compile(r"\x1b\[[0-9;?]*[A-Za-z]")
STAYS = "trap 'exit 5' USR1; trap '' TERM; while :; do sleep 0.05; done"
SCREEN_ENDS = "\x1b[?1049l"
PROGRAMS = """
shutdown_timeout = "60s"
[control]
socket = "{place}/c.sock"
[programs.busy]
command = ["sh", "-c", "trap 'exit 7' TERM; while :; do :; done"]
[programs.a-worker-with-long-name]
command = ["sh", "-c", "{stays}"]
drain = {{exec = "cat {place}/jobs"}}
[programs.front]
command = ["sh", "-c", "{stays}"]
depends_on = ["a-worker-with-long-name"]
"""


@pytest.fixture
def several(start, tmp_path):
    """Start a busy program, one with jobs in flight that ignores SIGTERM, and one beside them."""
    (tmp_path / "jobs").write_text("12\n")
    (tmp_path / "g.toml").write_text(PROGRAMS.format(place=tmp_path, stays=STAYS))
    run = start("--config", tmp_path / "g.toml", command=INSTALLED)
    run.place = ("--socket", str(tmp_path / "c.sock"))
    until = time.monotonic() + BOUND
    while Done("health", *run.place).status:
        assert time.monotonic() < until
    return run


def of_all(run) -> dict[str, dict]:
    answer = json.loads(Done("status", "--json", *run.place).out)
    return {one["name"]: one for one in answer["programs"]}


def seen(text: str) -> list[str]:
    """Return what a terminal was sent as lines, without what moves its cursor."""
    return [ESCAPE.sub("", line).rstrip("\r") for line in re.split(r"\n|\x1b\[\d*;?\d*H", text)]


def test_several_have_cpu_memory_and_in_flight(several):
    until = time.monotonic() + BOUND
    rows = r"""(?x)\ +NAME\ +PHASE\ +PID\ +UP\ +CPU\ +MEMORY\ +IN\ FLIGHT\n
        \ +busy\ .*?\ [1-9]\d*%\ +\d+\ MiB\n
        \ +a-worker-.*?\ \d+%\ +\d+\ MiB\ +12\b"""
    while not re.search(rows, out := Done("status", *several.place).out):
        assert time.monotonic() < until, out  # it looks for a few milliseconds, and at rest asks


def test_the_figures_are_in_the_answer_for_machines(several):
    first = of_all(several)
    until = time.monotonic() + BOUND
    used: set[float] = set()
    while len(used) < 2:  # it grows
        assert time.monotonic() < until
        used |= {of_all(several)["busy"]["cpu_seconds"]} - {None}
    while (worker := of_all(several)["a-worker-with-long-name"])["in_flight"] != 12:
        assert time.monotonic() < until
    while (worker := of_all(several)["a-worker-with-long-name"])["memory_bytes"] is None:
        assert time.monotonic() < until
    assert worker["memory_bytes"] > 100_000 and worker["cpu_seconds"] >= 0
    assert first["front"]["in_flight"] is None


def test_the_view_at_80_columns_has_all_that_matters_and_ends_with_the_outcome(several, terminal):
    shown = terminal("status", "--watch", *several.place)
    shown.until("IN FLIGHT", "MiB", "%", "a-worker-with-long-name")
    assert max(map(len, seen(shown.seen))) <= WIDTH
    pids = [one["pid"] for name, one in of_all(several).items() if name != "busy"]
    several.send(signal.SIGTERM)
    shown.until("stop requested by SIGTERM", " left of 1 min 0 s", "waiting for front")
    assert max(map(len, seen(shown.seen))) <= WIDTH
    for pid in pids:
        os.kill(pid, signal.SIGUSR1)  # it ends
    assert shown.wait() == 0
    status = several.wait()
    last = shown.seen.rpartition(SCREEN_ENDS)[2].strip().splitlines()
    assert len(last) == 1
    assert re.search(r"^gracewrap \(pid \d+\) has ended, \w+", last[0].rpartition("\x1b[?25h")[2])
    assert f"exit status {status}" in last[0]
    (summary,) = (line for line in several.log() if line["event"] == "summary")
    assert last[0].endswith(f": {summary['message']}")  # word for word, and figure for figure


def test_the_view_says_what_was_last_seen_if_the_connection_breaks(several, terminal):
    shown = terminal("status", "--watch", *several.place)
    shown.until("IN FLIGHT")
    pids = [one["pid"] for one in of_all(several).values()]
    os.kill(several.pid, signal.SIGKILL)
    try:
        assert shown.wait() == 0
    finally:
        for pid in pids:
            os.kill(pid, signal.SIGKILL)
    last = shown.seen.rpartition(SCREEN_ENDS)[2].strip()
    assert "has gone; last seen: " in last and "it has not said how it ended" in last


def test_lines_where_there_is_no_screen_end_with_the_outcome_too(several, terminal):
    shown = terminal("status", "--watch", *several.place, term="dumb")
    shown.until("running, ready")
    pids = [one["pid"] for name, one in of_all(several).items() if name != "busy"]
    several.send(signal.SIGTERM)
    shown.until("stop requested by")
    for pid in pids:
        os.kill(pid, signal.SIGUSR1)  # it ends
    assert shown.wait() == 0
    assert f"exit status {several.wait()}" in shown.seen.splitlines()[-1]


def test_lines_end_when_nobody_reads_them(several):
    with subprocess.Popen(
        [*INSTALLED, "status", "--watch", *several.place],
        stdout=subprocess.PIPE,
        text=True,
        env=environment(),
    ) as shown:
        assert shown.stdout is not None
        assert "running, ready" in shown.stdout.readline()
        shown.stdout.close()  # as `| grep -m 1 ready` does; nothing changes from now on
        try:
            assert shown.wait(BOUND) == 0
        finally:
            shown.kill()


@pytest.mark.root
@pytest.mark.parametrize(
    ("words", "last"), [(("status", "--watch"), "has ended, "), (("stop",), "has gone")]
)
def test_who_is_told_the_end_by_pid_1_can_say_it_first(start, tmp_path, words, last):
    """As in `docker exec`: what is left in the PID namespace is killed when PID 1 goes."""
    require_root()
    place = ("--socket", tmp_path / "socket")
    run = start(
        *("--control-socket", place[1], "--", *TALKER),
        prefix=("unshare", "--pid", "--fork", "--mount-proc"),
        command=INSTALLED,
    )
    run.ready()
    wait_until(place[1].exists, "it listens")
    (first,) = Path(f"/proc/{run.pid}/task/{run.pid}/children").read_text().split()
    inside = ("nsenter", "--target", first, "--pid", "--mount", "--")
    visitor = start(*words, *place, prefix=inside, command=INSTALLED)
    assert visitor.line()  # it is being watched, or has been asked to stop
    if words[0] == "status":
        os.kill(int(first), signal.SIGTERM)
    said = visitor.out.rest()
    assert last in said[-1]
    assert visitor.wait() == 0
    run.wait()
