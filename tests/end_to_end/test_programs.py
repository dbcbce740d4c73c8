"""Several real programs under one gracewrap: who is started and stopped when, by what they write to
a stdout that they share."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import tomli_w

from processes import (
    BOUND,
    GRACEWRAP,
    SUPPORT,
    Run,
    alive,
    pause,
    state,
    wait_until,
    wait_until_next_request,
)

PLAYER = [sys.executable, "-I", "-S", str(SUPPORT / "player.py")]
SOON = 1.0  # seconds; what is at once takes a few milliseconds, but not on a loaded machine
LONG = "60s"  # what nobody may wait for
AT_ONCE = {"first": "10ms", "factor": 1, "jitter": 0}  # a backoff


def player(name: str, *words: str, **settings: object) -> dict[str, object]:
    """Return what the file says of a program that tells what happens to it, and is ready when it
    has said that it is up."""
    return {"command": [*PLAYER, name, *words], "notify": True, "ready": "notify", **settings}


def oneshot(name: str, *words: str, **settings: object) -> dict[str, object]:
    return {"command": [*PLAYER, name, *words], "oneshot": True, **settings}


class Programs:
    """A running gracewrap with several programs, and what they have said."""

    def __init__(self, run: Run, report: Path) -> None:
        self.run, self.report_file = run, report
        self.pids: dict[str, int] = {}

    def line(self) -> str:
        """Return the next thing that one of them says: "web up"; "" when all is over."""
        name, _, rest = self.run.line().partition(" ")
        what, _, pid = rest.partition(" ")
        if what == "up":
            self.pids[name] = int(pid)
        return f"{name} {what}".strip()

    def lines(self, count: int) -> list[str]:
        return [self.line() for _ in range(count)]

    def rest(self) -> list[str]:
        """Return everything until all is over."""
        return list(iter(self.line, ""))

    def up(self, *names: str) -> None:
        """Wait until these, and no others, are up, in whatever order, and wait for signals."""
        assert sorted(self.lines(len(names))) == sorted(f"{name} up" for name in names)
        wait_until(lambda: all(state(self.pids[name]) != "R" for name in names), "they sleep")

    def tell(self, name: str, signum: int = signal.SIGUSR1) -> None:
        """Send one of them a signal: SIGUSR1 ends it."""
        os.kill(self.pids[name], signum)

    def stop(self) -> None:
        self.run.send(signal.SIGTERM)

    def status(self) -> int:
        return self.run.wait()

    def report(self) -> dict[str, Any]:
        found: dict[str, Any] = json.loads(self.report_file.read_text())
        return found


Begin = Callable[..., Programs]


@pytest.fixture
def begin(start: Callable[..., Run], tmp_path: Path) -> Begin:
    """Start programs: begin({"web": player("web")}, shutdown_timeout="3s")."""

    def begun(
        programs: dict[str, object], prefix: tuple[str, ...] = (), **settings: object
    ) -> Programs:
        file, report = tmp_path / "gracewrap.toml", tmp_path / "report.json"
        overall = {"shutdown_timeout": "20s", "report": {"file": str(report)}, **settings}
        file.write_text(tomli_w.dumps({**overall, "programs": programs}))
        return Programs(start("--config", file, prefix=prefix, command=GRACEWRAP), report)

    return begun


def chain(*names: str, **words: str) -> dict[str, object]:
    """Return programs of which each depends on the one before it; *words* are for each by its
    name."""
    return {
        name: player(
            name, *words.get(name, "").split(), depends_on=list(names[i - 1 : i] if i else ())
        )
        for i, name in enumerate(names)
    }


def before(lines: list[str], first: str, then: str) -> bool:
    return lines.index(first) < lines.index(then)


# --- the order of the start ----------------------------------------------------------------------


def test_nothing_is_started_before_what_it_needs_is_ready(begin: Begin, tmp_path: Path):
    gate = tmp_path / "gate"
    needs = player("web", f"needs={gate}", depends_on=["db"])
    programs = begin(
        {"web": needs, "db": player("db", ready={"file": str(gate)}), "other": player("other")}
    )
    programs.up("db", "other")
    gate.touch()
    assert programs.line() == "web up"
    programs.stop()
    assert programs.status() == 0


def test_started_is_enough_where_that_is_asked_for(begin: Begin, tmp_path: Path):
    never = {"file": str(tmp_path / "never")}
    programs = begin(
        {"web": player("web", depends_on={"db": "started"}), "db": player("db", ready=never)}
    )
    programs.up("db", "web")
    programs.stop()
    assert programs.rest() == ["web TERM", "web ends", "db TERM", "db ends"]


def test_a_line_that_it_writes_says_that_it_is_ready(begin: Begin):
    db = player("db", ready={"log_line": r"^db up \d+$"})
    programs = begin({"web": player("web", depends_on=["db"]), "db": db})
    programs.up("db", "web")
    programs.stop()
    assert programs.status() == 0


def test_a_oneshot_is_over_before_others_start(begin: Begin):
    migrate = oneshot("migrate", "wait", depends_on=["db"])
    programs = begin(
        {"web": player("web", depends_on=["migrate"]), "migrate": migrate, "db": player("db")}
    )
    assert programs.lines(2) == ["db up", "migrate up"]
    programs.tell("migrate")
    assert programs.lines(2) == ["migrate ends", "web up"]
    programs.stop()
    assert programs.rest() == ["web TERM", "web ends", "db TERM", "db ends"]
    assert programs.status() == 0


def test_a_oneshot_that_fails_is_the_end_of_all(begin: Begin):
    migrate = oneshot("migrate", "fail=9", depends_on=["db"])
    programs = begin(
        {"web": player("web", depends_on=["migrate"]), "migrate": migrate, "db": player("db")}
    )
    assert programs.rest() == ["db up", "migrate up", "db TERM", "db ends"]
    assert programs.status() == 9


def test_a_command_that_is_not_there_is_the_end_of_all(begin: Begin):
    programs = begin(
        {"web": {"command": ["no-such-command"], "depends_on": ["db"]}, "db": player("db")}
    )
    assert programs.rest() == ["db up", "db TERM", "db ends"]
    assert programs.status() == 127


# --- the order of the stop -----------------------------------------------------------------------


def test_a_chain_of_ten_ends_from_its_end(begin: Begin):
    names = [f"p{i}" for i in range(10)]
    programs = begin(chain(*names))
    assert programs.lines(10) == [f"{name} up" for name in names]
    programs.stop()
    assert programs.rest() == [
        f"{name} {what}" for name in reversed(names) for what in ("TERM", "ends")
    ]
    assert programs.status() == 0
    assert programs.report()["used_seconds"] < 10 * SOON


def test_what_depends_on_nothing_of_the_other_is_stopped_at_the_same_time(begin: Begin):
    programs = begin(
        {
            "db": player("db"),
            "web": player("web", "wait", depends_on=["db"]),
            "worker": player("worker", "wait", depends_on=["db"]),
        }
    )
    programs.up("db", "web", "worker")
    programs.stop()
    assert sorted(programs.lines(2)) == ["web TERM", "worker TERM"]
    programs.tell("worker")
    assert programs.line() == "worker ends"
    programs.tell("web")
    assert programs.rest() == ["web ends", "db TERM", "db ends"]


def test_stop_after_counts_for_the_stop_alone(begin: Begin):
    programs = begin(
        {"proxy": player("proxy", "wait", stop_after=["web"]), "web": player("web", "wait")}
    )
    programs.up("proxy", "web")
    programs.stop()
    assert programs.line() == "web TERM"
    programs.tell("web")
    assert programs.lines(2) == ["web ends", "proxy TERM"]
    programs.tell("proxy")
    assert programs.rest() == ["proxy ends"]


def test_the_stopsignal_of_an_image_stops_all_in_order(begin: Begin):
    """nginx's STOPSIGNAL is SIGQUIT.  Passed on, it would end the worker at once."""
    programs = begin(
        {
            "web": player("web", "on=3", stop_signal="QUIT", depends_on=["worker"]),
            "worker": player("worker", "on=15"),
        }
    )
    programs.up("web", "worker")
    programs.run.send(signal.SIGQUIT)
    assert programs.rest() == ["web TERM", "web ends", "worker TERM", "worker ends"]
    assert programs.status() == 0
    assert programs.report()["requested_by"]["signal"] == "SIGQUIT"


def heard(name: str, *signals: str, **settings: object) -> dict[str, object]:
    """Return a program that says which of these signals it gets, and has no handler for others."""
    traps = "; ".join(f"trap 'echo {name} {one}' {one}" for one in signals)
    script = f"{traps}; echo {name} up $$; trap 'exit 0' TERM; while :; do sleep 0.02; done"
    ready = {"log_line": f"{name} up"}
    return {"command": ["bash", "-c", script], "ready": ready, "output": "prefix", **settings}


def test_a_signal_that_would_end_a_program_is_kept_from_it(begin: Begin):
    """SIGHUP for nginx does not end the worker beside it."""
    sleeper = {"command": ["sleep", "600"]}
    programs = begin({"web": player("web"), "worker": sleeper}, log={"format": "json"})
    programs.up("web")
    programs.run.log_line("program_ready")
    programs.run.send(signal.SIGHUP)
    assert programs.run.log_line("spared")["programs"] == ["worker"]
    programs.stop()
    assert programs.rest() == ["web TERM", "web ends"]
    assert programs.report()["requested_by"]["signal"] == "SIGTERM"


def test_the_log_says_that_a_signal_was_passed_on_also_where_another_program_was_spared_it(
    begin: Begin,
):
    mapped = {"command": ["sleep", "600"], "signal_map": {"USR2": "HUP"}}
    spared = {"command": ["sleep", "600"]}
    programs = begin(
        {"web": player("web"), "mapped": mapped, "spared": spared}, log={"format": "json"}
    )
    programs.up("web")
    programs.run.log_line("program_ready")
    programs.run.send(signal.SIGUSR2)
    said = str(programs.run.log_line("leader_exited")["message"])
    assert "was ended by SIGHUP, which gracewrap had forwarded" in said


def test_sighup_goes_to_the_programs_that_reload_by_it(begin: Begin):
    programs = begin(
        {
            "proxy": heard("proxy", "USR2", "HUP", reload_signal="USR2"),
            "web": heard("web", "HUP", "USR1", signal_map={"USR1": "HUP"}),
        }
    )
    run = programs.run
    assert sorted(run.line().partition(" | ")[2].split()[0] for _ in range(2)) == ["proxy", "web"]
    run.send(signal.SIGHUP)
    assert run.line().partition(" | ")[2] == "proxy USR2"
    run.send(signal.SIGUSR1)
    assert run.line().partition(" | ")[2] == "web HUP"
    programs.stop()
    assert run.line() == ""
    assert programs.status() == 0


def test_fifty_programs_keep_their_order(begin: Begin):
    layers = [[f"p{layer}{i}" for i in range(10)] for layer in range(5)]
    under = dict(zip(map(tuple, layers[1:]), layers))
    programs = begin(
        {
            name: player(name, depends_on=under.get(tuple(layer), []))
            for layer in layers
            for name in layer
        }
    )
    seen = programs.lines(50)
    for layer, below in zip(layers[1:], layers):
        assert all(before(seen, f"{needed} up", f"{name} up") for name in layer for needed in below)
    programs.stop()
    seen = programs.rest()
    assert len(seen) == 100 and programs.status() == 0
    for layer, below in zip(layers[1:], layers):
        assert all(
            before(seen, f"{name} ends", f"{needed} TERM") for name in layer for needed in below
        )


@pytest.mark.parametrize("kind", ["member", "session", "orphan"])
def test_nobody_is_stopped_before_all_of_what_needs_it_is_gone(begin: Begin, kind: str):
    """The leader of web is gone long before something else of it is."""
    programs = begin(
        {
            "db": player("db"),
            "other": player("other", kind),
            "web": player("web", kind, depends_on=["db"]),
        }
    )
    programs.up("db", "other", "other+", "web", "web+")
    programs.stop()
    seen = programs.lines(6)
    assert sorted(seen) == [
        "other TERM",
        "other ends",
        "other+ TERM",
        "web TERM",
        "web ends",
        "web+ TERM",
    ]
    programs.tell("other+")
    assert programs.line() == "other+ ends"
    programs.tell("web+")
    assert programs.rest() == ["web+ ends", "db TERM", "db ends"]
    assert programs.status() == 0


@pytest.mark.parametrize("kind", ["member", "session", "orphan", "stranger"])
def test_what_a_killed_leader_leaves_behind_is_still_its_own(begin: Begin, kind: str):
    programs = begin(
        {
            "db": player("db"),
            "web": player("web", kind, depends_on=["db"]),
            "other": player("other", "wait"),
        }
    )
    programs.up("db", "other", "web", "web+")
    programs.tell("web", signal.SIGKILL)
    assert sorted(programs.lines(2)) == ["other TERM", "web+ TERM"]
    programs.tell("other")
    assert programs.line() == "other ends"
    programs.tell("web+")
    assert programs.rest() == ["web+ ends", "db TERM", "db ends"]
    assert programs.status() == 137


def test_daemons_are_told_apart(begin: Begin):
    """The first program to end is not held up by what the other one has started."""
    programs = begin(
        {
            "db": player("db"),
            "cache": player("cache"),
            "web": player("web", "orphan", depends_on=["db"]),
            "worker": player("worker", "wait", "orphan", depends_on=["cache"]),
        }
    )
    programs.up("db", "cache", "web", "web+", "worker", "worker+")
    programs.stop()
    assert sorted(programs.lines(4)) == ["web TERM", "web ends", "web+ TERM", "worker TERM"]
    programs.tell("web+")
    assert programs.lines(3) == ["web+ ends", "db TERM", "db ends"]
    programs.tell("worker")
    assert programs.lines(2) == ["worker ends", "worker+ TERM"]
    programs.tell("worker+")
    assert programs.rest() == ["worker+ ends", "cache TERM", "cache ends"]
    assert programs.status() == 0


def test_a_daemon_that_nobody_knows_is_not_stopped_with_the_first_that_ends(begin: Begin):
    """It may be what the others need."""
    programs = begin(chain("db", "web", db="daemon"))
    programs.up("db", "db+", "web")
    programs.stop()
    assert programs.lines(5) == ["web TERM", "web ends", "db TERM", "db ends", "db+ TERM"]
    programs.tell("db+")
    assert programs.rest() == ["db+ ends"]
    assert programs.status() == 0


def test_daemons_that_cannot_be_told_apart_are_ended_all_the_same(begin: Begin):
    names = ("web", "worker", "other")
    programs = begin({name: player(name, "daemon") for name in names}, shutdown_timeout="1s")
    programs.up(*names, *(f"{name}+" for name in names))
    programs.stop()
    seen = [f"{name} {what}" for name in names for what in ("TERM", "ends")] + [
        f"{name}+ TERM" for name in names
    ]
    assert sorted(programs.rest()) == sorted(seen)
    assert programs.report()["used_seconds"] <= 1 + SOON
    assert not any(map(alive, programs.pids.values()))


# --- one budget ----------------------------------------------------------------------------------


def test_the_last_of_a_chain_is_stopped_gracefully_however_many_are_stuck(begin: Begin):
    names = ("db", "a", "b", "c")
    programs = begin(chain(*names, a="stuck", b="stuck", c="stuck"), shutdown_timeout="3s")
    programs.up(*names)
    began = time.monotonic()
    programs.stop()
    assert programs.rest() == ["c TERM", "b TERM", "a TERM", "db TERM", "db ends"]
    assert programs.status() == 137
    used = programs.report()["used_seconds"]
    assert used <= 3 and time.monotonic() - began <= 3 + SOON


def test_with_all_of_them_stuck_it_is_over_at_the_total(begin: Begin):
    names = ("a", "b", "c")
    programs = begin(chain(*names, a="stuck", b="stuck", c="stuck"), shutdown_timeout="3s")
    programs.up(*names)
    began = time.monotonic()
    programs.stop()
    assert programs.rest() == ["c TERM", "b TERM", "a TERM"]
    assert 3 <= time.monotonic() - began <= 3 + SOON
    assert programs.status() == 137
    assert not any(map(alive, programs.pids.values()))


def test_a_pause_in_which_a_wait_would_have_ended_is_survived(begin: Begin):
    """A moment after the start it finds out whose child is whose, and while it is stopping, it
    looks after itself every second."""
    programs = begin({"web": player("web", "wait"), "db": player("db", "wait")})
    programs.up("web", "db")
    pause(programs.run.pid, 1.6)
    programs.stop()
    assert sorted(programs.lines(2)) == ["db TERM", "web TERM"]
    pause(programs.run.pid, 1.6)
    for name in ("web", "db"):
        programs.tell(name)
    assert sorted(programs.rest()) == ["db ends", "web ends"]
    assert programs.status() == 0
    report = programs.report()
    assert report["outcome"] == "graceful"
    assert report["signals_forwarded"] <= 2  # SIGCONT


def test_time_that_one_does_not_use_is_the_next_ones(begin: Begin):
    """Of 1.5 s the last one has not 0.5 s, but almost all."""
    programs = begin(chain("a", "b", "c", a="stuck"), shutdown_timeout="1500ms")
    programs.up("a", "b", "c")
    began = time.monotonic()
    programs.stop()
    assert programs.rest() == ["c TERM", "c ends", "b TERM", "b ends", "a TERM"]
    assert 1.5 <= time.monotonic() - began <= 1.5 + SOON


def test_half_of_the_budget_is_not_kept_for_what_needs_a_moment(begin: Begin):
    programs = begin(chain("db", "worker", worker="takes=2.4"), shutdown_timeout="4s")
    programs.up("db", "worker")
    programs.stop()
    assert programs.rest() == ["worker TERM", "worker ends", "db TERM", "db ends"]
    assert programs.status() == 0 and programs.report()["killed"] == []


def test_what_is_killed_before_the_budget_ends_says_for_whom_the_rest_is_kept(begin: Begin):
    programs = begin(chain("db", "web", web="stuck"), shutdown_timeout="2s")
    programs.up("db", "web")
    programs.stop()
    assert programs.rest() == ["web TERM", "db TERM", "db ends"]
    kill = next(line for line in programs.report()["timeline"] if line["event"] == "kill")
    assert kill["kept_for"] == ["db"] and 0 < kill["left"] <= 0.2


def test_what_is_reserved_is_kept(begin: Begin):
    """What claims nothing has what the others leave."""
    programs = begin(
        {
            "db": player("db", "wait", stop_timeout="2s"),
            "web": player("web", "stuck", depends_on=["db"]),
        },
        shutdown_timeout="3s",
    )
    programs.up("db", "web")
    began = time.monotonic()
    programs.stop()
    assert programs.lines(2) == ["web TERM", "db TERM"]
    assert time.monotonic() - began < 1 + SOON
    programs.tell("db")
    assert programs.rest() == ["db ends"]
    assert programs.status() == 137


def test_a_third_request_kills_all_at_once(begin: Begin):
    programs = begin(chain("a", "b", "c", a="stuck", b="stuck", c="stuck"), shutdown_timeout=LONG)
    programs.up("a", "b", "c")
    programs.stop()
    assert programs.line() == "c TERM"
    for effect in ("nothing to skip", "kill"):
        wait_until_next_request()
        programs.stop()
        assert programs.run.log_line("asked_again")["effect"] == effect
    assert programs.status() == 137
    assert not any(map(alive, programs.pids.values()))


# --- a program that ends -------------------------------------------------------------------------


def test_a_program_that_dies_stops_the_others_in_order(begin: Begin):
    programs = begin(chain("db", "api", "web"))
    programs.up("db", "api", "web")
    programs.tell("api", signal.SIGKILL)
    assert programs.rest() == ["web TERM", "web ends", "db TERM", "db ends"]
    assert programs.status() == 137


def test_a_program_that_dies_while_others_stop_holds_nobody_up(begin: Begin):
    programs = begin(
        {**chain("db", "api", "web", web="wait"), "queue": player("queue", stop_after=["web"])}
    )
    programs.up("db", "api", "web", "queue")
    programs.stop()
    assert programs.line() == "web TERM"
    programs.tell("api", signal.SIGKILL)
    assert programs.run.log_line("program_gone")["program"] == "api"
    programs.tell("web")
    seen = programs.rest()
    assert seen[0] == "web ends"
    assert sorted(seen[1:]) == ["db TERM", "db ends", "queue TERM", "queue ends"]
    assert programs.status() == 137


def test_the_status_is_that_of_the_first_failure(begin: Begin):
    programs = begin(chain("a", "b", "c", a="exit=3", b="exit=4"))
    programs.up("a", "b", "c")
    programs.stop()
    assert programs.status() == 4


def test_the_status_is_that_of_the_one_that_counts(begin: Begin):
    programs = begin(chain("a", "b", "c", a="exit=3", b="exit=4", c="exit=5"), exit_code_from="a")
    programs.up("a", "b", "c")
    programs.stop()
    assert programs.status() == 3


def test_a_failure_that_is_ignored_ends_nothing(begin: Begin):
    cron = player("cron", "fail=7", on_failure="ignore")
    programs = begin(
        {"web": player("web"), "cron": cron, "after": player("after", depends_on={"cron": "ready"})}
    )
    programs.up("web", "cron", "after")
    programs.stop()
    assert sorted(programs.rest()) == ["after TERM", "after ends", "web TERM", "web ends"]
    assert programs.status() == 0


def test_what_is_to_complete_and_fails_lets_nothing_start_that_waits_for_it(begin: Begin):
    cron = player("cron", "fail=7", on_failure="ignore")
    programs = begin(
        {
            "web": player("web"),
            "cron": cron,
            "after": player("after", depends_on={"cron": "completed"}),
        }
    )
    programs.up("web", "cron")
    programs.run.log_line("program_ended")
    programs.stop()
    assert sorted(programs.rest()) == ["web TERM", "web ends"]
    assert programs.status() == 7


def test_signals_are_counted_although_one_has_completed(begin: Begin):
    programs = begin(
        {
            "migrate": oneshot("migrate", "fail=0"),
            "web": player("web", "wait", depends_on=["migrate"]),
        }
    )
    assert programs.lines(2) == ["migrate up", "web up"]
    programs.run.send(signal.SIGUSR1)
    assert programs.rest() == ["web ends"]
    assert programs.status() == 0
    assert programs.report()["signals_forwarded"] == 1


def test_when_the_last_one_has_ended_all_is_over(begin: Begin):
    programs = begin({name: player(name, "wait", on_exit="ignore") for name in ("a", "b")})
    programs.up("a", "b")
    programs.tell("a")
    assert programs.line() == "a ends"
    programs.tell("b")
    assert programs.rest() == ["b ends"]
    assert programs.status() == 0


def test_a_failure_restarts_it_until_that_is_enough(begin: Begin):
    web = player(
        "web", "fail=7", restart="on-failure", max_restarts=3, backoff=AT_ONCE, depends_on=["db"]
    )
    programs = begin({"db": player("db"), "web": web})
    assert programs.rest() == ["db up", *["web up"] * 4, "db TERM", "db ends"]
    assert programs.status() == 7


def test_a_success_is_no_reason_to_restart_on_failure(begin: Begin):
    programs = begin(
        {"db": player("db"), "web": player("web", "wait", restart="on-failure", depends_on=["db"])}
    )
    programs.up("db", "web")
    programs.tell("web")
    assert programs.rest() == ["web ends", "db TERM", "db ends"]
    assert programs.status() == 0


def test_pauses_between_restarts_grow(begin: Begin):
    backoff = {"first": "100ms", "factor": 2, "jitter": 0}
    web = player("web", "fail=7", restart="always", max_restarts=3, backoff=backoff)
    programs = begin({"db": player("db"), "web": web})
    times = []
    while programs.line():
        times.append(time.monotonic())
    pauses = [then - first for first, then in zip(times, times[1:])]
    print(pauses)
    assert programs.status() == 7
    log = [one["after"] for one in programs.run.log() if one["event"] == "restarts"]
    assert log == pytest.approx([0.1, 0.2, 0.4], abs=0.001)


def test_it_is_not_restarted_before_all_of_it_is_gone(begin: Begin):
    web = player("web", "session", restart="on-failure", backoff=AT_ONCE)
    programs = begin({"db": player("db"), "web": web})
    programs.up("db", "web", "web+")
    first = programs.pids["web+"]
    programs.tell("web", signal.SIGKILL)
    assert programs.line() == "web+ TERM"
    programs.tell("web+")
    assert programs.line() == "web+ ends"
    programs.up("web", "web+")
    assert not alive(first)
    programs.stop()
    assert sorted(programs.lines(5)) == ["db TERM", "db ends", "web TERM", "web ends", "web+ TERM"]
    programs.tell("web+")
    assert programs.rest() == ["web+ ends"]
    assert programs.status() == 0


# --- a stop request while programs are being started ---------------------------------------------


def assert_it_ends_at_once(programs: Programs, rest: list[str], status: int = 0) -> None:
    programs.stop()
    assert programs.rest() == rest
    assert programs.status() == status
    assert programs.report()["used_seconds"] < SOON


def test_a_stop_while_others_are_not_ready(begin: Begin, tmp_path: Path):
    db = player("db", ready={"file": str(tmp_path / "never")})
    programs = begin({"db": db, "web": player("web", depends_on=["db"])})
    programs.up("db")
    assert_it_ends_at_once(programs, ["db TERM", "db ends"])


def test_a_stop_while_a_oneshot_runs(begin: Begin):
    migrate = oneshot("migrate", depends_on=["db"])
    programs = begin(
        {"db": player("db"), "migrate": migrate, "web": player("web", depends_on=["migrate"])}
    )
    programs.up("db", "migrate")
    assert_it_ends_at_once(programs, ["migrate TERM", "migrate ends", "db TERM", "db ends"])


def test_a_stop_during_the_pause_before_a_restart(begin: Begin):
    web = player("web", "fail=7", restart="on-failure", backoff=LONG, depends_on=["db"])
    programs = begin({"db": player("db"), "web": web})
    programs.up("db", "web")
    programs.run.log_line("restarts")
    assert_it_ends_at_once(programs, ["db TERM", "db ends"], status=7)


def test_a_stop_while_fifty_are_being_started(begin: Begin):
    """Those that are up are stopped, the others are not started."""
    programs = begin({f"p{i}": player(f"p{i}") for i in range(50)})
    seen = [programs.line()]
    programs.stop()
    seen += programs.rest()
    assert programs.status() in (0, 143)  # 143: one that was not far enough to hear of it
    up, ended = (
        {line.split()[0] for line in seen if line.endswith(what)} for what in ("up", "ends")
    )
    assert up == ended
    assert programs.report()["used_seconds"] < 2 * SOON


@pytest.mark.parametrize(
    ("how", "first"), [("prefix", b"gracewrap: started a"), ("json", b'{"time": "')]
)
def test_our_own_lines_are_for_those_who_read_the_programs(tmp_path: Path, how: str, first: bytes):
    file = tmp_path / "gracewrap.toml"
    file.write_text(
        tomli_w.dumps({"programs": {"a": {"command": ["echo", "hello"], "output": how}}})
    )
    done = subprocess.run(
        [*GRACEWRAP, "--config", str(file)], capture_output=True, timeout=BOUND, check=False
    )
    assert done.returncode == 0 and b"hello" in done.stdout
    assert done.stderr.startswith(first)


def test_what_ends_at_once_has_been_started_nevertheless(tmp_path: Path):
    """Some are reaped before the policy has heard of their start; it hears of it first, and
    post_stop is run for each."""
    names = [f"p{i}" for i in range(40)]
    program = {
        "command": ["true"],
        "oneshot": True,
        "post_stop": ["sh", "-c", f"echo x >> {tmp_path}/ended"],
    }
    file = tmp_path / "gracewrap.toml"
    file.write_text(
        tomli_w.dumps(
            {
                "programs": dict.fromkeys(names, program),
                "report": {"file": str(tmp_path / "report.json")},
            }
        )
    )
    done = subprocess.run(
        [*GRACEWRAP, "--config", str(file)], capture_output=True, timeout=BOUND, check=False
    )
    lines = [json.loads(line) for line in done.stderr.splitlines()]
    assert sorted(line["program"] for line in lines if line["event"] == "started") == sorted(names)
    report = json.loads((tmp_path / "report.json").read_text())
    assert [one["restarts"] for one in report["programs"]] == [0] * 40
    assert (tmp_path / "ended").read_text() == "x\n" * 40
    assert done.returncode == 0
