"""Subcommands on a terminal: the live view, lines that are written over, Ctrl-C."""

from __future__ import annotations

import os
import signal
import sys
import termios

import pytest
from rich.console import Console

from control_stub import ACCEPTED, HEIGHT, STOP, WIDTH, a_status, ask, one_of, request, several
from gracewrap.cli import status_watch
from gracewrap.cli import wait_for_programs as part

SCREEN, NO_SCREEN = "\x1b[?1049h", "\x1b[?1049l"


def test_watch_shows_a_screen_until_it_has_gone(stub, terminal):
    stub.say("/status", (200, a_status()), (200, a_status("draining", STOP, "jobs 7 → 3")))
    shown = terminal("status", "-w", "--socket", stub.path)
    shown.until(SCREEN, "jobs 7 → 3", "24 s left of 25 s", "└ sh")
    stub.end()
    assert shown.wait() == 0
    rest = shown.seen.rpartition(NO_SCREEN)[2].strip().splitlines()
    assert (
        len(rest) == 1
        and "has gone 1.2 s after a stop requested by SIGTERM from pid 4; last seen: jobs 7 → 3"
        in rest[0]
    )


@pytest.mark.parametrize(
    ("how", "ends_with"), [("\x03", 0), (signal.SIGTERM, 143), (signal.SIGHUP, 129)]
)
def test_watch_gives_the_terminal_back_when_it_is_ended(stub, terminal, how, ends_with):
    shown = terminal("status", "--watch", "--socket", stub.path)
    shown.until(SCREEN, "node server.js")
    if isinstance(how, str):
        os.write(shown.master, how.encode())
    else:
        shown.process.send_signal(how)
    shown.until(NO_SCREEN, "\x1b[?25h")
    assert termios.tcgetattr(shown.slave) == shown.before
    assert shown.wait() == ends_with and "Traceback" not in shown.seen


def test_watch_says_that_there_is_no_answer(stub, terminal):
    stub.say("/status", (200, a_status()), (500, {"error": "a bug"}))
    terminal("status", "--watch", "--socket", stub.path).until("no answer for ", "node server.js")


def test_watch_without_rich_says_why_there_is_no_screen(monkeypatch, capsys):
    monkeypatch.setitem(sys.modules, "rich.console", None)
    monkeypatch.setattr(sys.stdout, "isatty", lambda: True)
    assert status_watch._console() is None
    assert "pip install rich" in capsys.readouterr().err


@pytest.mark.parametrize("term", ["dumb", None])
def test_watch_where_nothing_can_be_written_over_is_a_line_for_each_change(stub, terminal, term):
    same = [(200, a_status("draining", STOP, "jobs 3")) for _ in range(3)]
    stub.say("/status", *same, (200, a_status("stopping", STOP, "jobs 0")), None)
    if term:
        shown = terminal("status", "--watch", "--socket", stub.path, term=term)
        assert shown.wait() == 0
        lines = shown.seen.splitlines()
    else:
        lines = ask(stub, "status", "--watch").out.splitlines()
    asked = "; stop requested by SIGTERM from pid 4"
    assert [line.partition(" ")[2] for line in lines[:2]] == [
        f"draining, not ready: jobs 3{asked}",
        f"stopping, not ready: jobs 0{asked}",
    ]
    assert len(lines) == 3 and "has gone" in lines[2]


def test_the_view_fits_and_leaves_processes_out_first():
    members = [
        {"pid": pid, "parent": pid - 1, "name": f"worker {pid}", "state": "S"}
        for pid in range(7, 60)
    ]
    said = a_status("draining", STOP, "jobs 7 → 3" + " and more" * 30, processes=members)
    console = Console(width=WIDTH, height=HEIGHT, record=True, file=open(os.devnull, "w"))  # noqa: SIM115
    with console.file:
        console.print(status_watch.page(said, {}, WIDTH, HEIGHT))
        lines = console.export_text().splitlines()
    assert len(lines) == HEIGHT and max(map(len, lines)) <= WIDTH
    assert "24 s left of 25 s" in lines[1] and "worker 7" in "".join(lines)
    shown = sum("worker" in line for line in lines)
    assert (
        lines[-1].strip()
        == f"... and {len(members) - shown} more processes: gracewrap status lists all"
    )


def test_the_view_of_several_leaves_out_those_that_are_well_first():
    well = [one_of(f"program-{i}") for i in range(50)]
    said = several(
        "stopping", *well[:25], one_of("stuck", "stopping", left_seconds=3.2), *well[25:], stop=STOP
    )
    lines = status_watch.page(said, {}, WIDTH, HEIGHT).plain.split("\n")
    assert len(lines) == HEIGHT and max(map(len, lines)) <= WIDTH
    shown = sum(" program-" in line for line in lines)
    assert any("stuck" in line for line in lines) and shown > 10
    assert lines[-1].strip() == f"... and {50 - shown} more programs: gracewrap status lists all"
    assert "24 s left of 25 s" in lines[1]


def test_what_a_program_waits_for_is_not_cut_at_80_columns():
    waits = "waiting for " + "; ".join(f"web-{i}: requests 7 → 3" for i in range(6)) + " and more"
    figures = {"memory_bytes": 99 << 20, "in_flight": 12, "restarts": 3, "left_seconds": 9.4}
    said = several(
        "stopping",
        one_of("a-worker-with-a-long-name", "draining", waits, **figures),
        one_of("db"),
        stop=STOP,
        why=waits,
    )
    used = {"a-worker-with-a-long-name": 3.2}
    page = status_watch.page(said, {}, WIDTH, HEIGHT, cpu=used).plain
    assert max(map(len, page.split("\n"))) <= WIDTH
    flat = " ".join(page.split())
    assert flat.count(waits) == 2  # in the title, and below its row
    assert "NAME PHASE CPU MEMORY IN FLIGHT RESTARTS LEFT" in flat  # UP and PID matter least
    assert "24 s left of 25 s" in flat


def test_a_restart_on_a_terminal_writes_over_its_line(stub, terminal):
    answer = {
        "message": "restarting web",
        "request": 1,
        "named": ["web"],
        "programs": ["web"],
        "until": "restarted",
    }
    stub.say("/restart", (202, answer))
    part = {
        "programs": ["web"],
        "again": True,
        "elapsed_seconds": 1.2,
        "left_seconds": 18.8,
        "budget_seconds": 20,
    }
    stopping = one_of("web", "stopping", waiting_for="requests 7 → 3", left_seconds=8.8)
    stub.say(
        "/status",
        (200, several("restarting", stopping, one_of("db"), part=part, **request("begun"))),
    )
    shown = terminal("restart", "web", "--socket", stub.path)
    shown.until("\r\x1b[Kweb: requests 7 → 3, 0 s gone, 9 s until SIGKILL")
    stub.say(
        "/status",
        (200, several("running", one_of("web", restarts=1), one_of("db"), **request("over"))),
    )
    assert shown.wait() == 0
    assert shown.seen.rpartition("\x1b[K")[2].startswith("restarted web in ")
    assert stub.asked[0] == "POST /restart?program=web"


def test_drain_on_a_terminal_writes_over_its_line(stub, terminal):
    stub.say("/drain", ACCEPTED)
    stub.say("/status", (200, a_status("draining", waits="jobs 7 → 3" + " and more" * 30)))
    shown = terminal("drain", "--wait", "--socket", stub.path)
    shown.until("\r\x1b[Kjobs 7 → 3 and")
    assert max(len(part.removeprefix("\x1b[K")) for part in shown.seen.split("\r")) < WIDTH
    stub.say("/status", (200, a_status("drained")))
    assert shown.wait() == 0
    assert shown.seen.rpartition("\x1b[K")[2].startswith("drained after ")


def test_ctrl_c_ends_the_waiting(stub, terminal):
    stub.say("/drain", ACCEPTED)
    stub.say("/status", (200, a_status("draining", waits="jobs 7")))
    shown = terminal("drain", "--wait", "--socket", stub.path)
    shown.until("jobs 7")
    os.write(shown.master, b"\x03")
    assert shown.wait() == 130 and shown.seen.endswith("\n") and "Traceback" not in shown.seen


def test_watch_counts_down_to_each_sigkill(stub, terminal):
    part = {
        "programs": ["web", "db"],
        "again": True,
        "elapsed_seconds": 1.2,
        "left_seconds": 18.8,
        "budget_seconds": 20,
    }
    web = one_of("web", "stopping", left_seconds=3.2)
    db = one_of("db", why="waiting for web: stopping", waits_for=["web"], left_seconds=18.8)
    stub.say(
        "/status",
        (
            200,
            several(
                "restarting", web, db, one_of("migrate", "completed", "exited with 0"), part=part
            ),
        ),
    )
    shown = terminal("status", "--watch", "--socket", stub.path)
    shown.until(
        SCREEN,
        "1.2 s of 20 s gone, 19 s until the last SIGKILL",
        "19 s left of 20 s",
        "3 min 12 s  3 s",
        "completed",
    )


def test_who_waits_for_several_is_told_of_the_next_sigkill():
    waited = part.Waited(
        {"request": 1, "named": ["db"], "programs": ["web", "cache", "db"], "until": "restarted"},
        ["db"],
    )
    web, cache = (
        one_of("web", "stopping", left_seconds=8.2),
        one_of("cache", "draining", left_seconds=3.2),
    )
    db = one_of("db", waits_for=["web"], left_seconds=1)  # its turn has not come
    assert (
        waited.left(
            several("restarting", web, cache, db, one_of("x", "stopping", left_seconds=0.5))
        )
        == "3 s until cache's SIGKILL"
    )
    assert waited.left(several("running", one_of("web"), one_of("cache"), one_of("db"))) == ""
