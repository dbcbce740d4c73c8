"""The plan of a stop: what the real policy would do, drawn; and what does not fit."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from xml.etree import ElementTree

import pytest

from gracewrap.config.command_line import read_command_line
from gracewrap.config.load import resolve
from gracewrap.picture import draw_svg, draw_text, planned_stop
from gracewrap.picture.chart import ticks

PROGRAMS = """\
shutdown_timeout = "20s"
[defaults]
post_stop = ["true"]
[programs.web]
command = ["node", "web.js"]
propagation_delay = "5s"
depends_on = ["worker", "db"]
[programs.worker]
command = ["worker"]
depends_on = ["db"]
escalation = [{after = "15s", signal = "INT"}]
drain.tcp = "auto"
[programs.db]
command = ["postgres"]
reserve = "5s"
stop_signal = "INT"
[programs.migrate]
command = ["migrate"]
oneshot = true
"""


def planned(*words: str, grace: float | None = None) -> planned_stop.Plan:
    settings, problems = resolve(read_command_line(words), {})
    assert settings is not None, problems
    return planned_stop.plan(settings, grace)


def steps(chart, name: str) -> list[tuple[str, float, float]]:
    (row,) = [row for row in chart.rows if row.name == name]
    return [
        (one.kind, round(one.start, 2), round(one.end, 2))
        for one in row.segments
        if one.end - one.start > 0.01
    ]


def test_one_command_at_worst_takes_the_whole_budget():
    made = planned("--propagation-delay", "5s", "--", "node", "server.js")
    assert steps(made.worst, "node") == [("propagation", 0, 5), ("stop", 5, 25)]
    (row,) = [row for row in made.worst.rows if row.name == "node"]
    assert [(mark.label, mark.at) for mark in row.marks] == [("SIGTERM", 5), ("SIGKILL", 25)]
    assert steps(made.drained, "node") == [("propagation", 0, 5)]
    assert not made.faults


def test_a_drain_before_the_signal_and_the_ladder_are_drawn():
    made = planned(
        *("--drain-tcp", "auto", "--drain-when", "before-signal", "--drain-timeout", "10s"),
        *("--escalation", "5s=QUIT", "--", "node"),
    )
    assert steps(made.worst, "node") == [("drain", 0, 10), ("stop", 10, 25)]
    (row,) = [row for row in made.worst.rows if row.name == "node"]
    assert [(mark.label, mark.at) for mark in row.marks] == [
        ("SIGTERM", 10), ("SIGQUIT", 15), ("SIGKILL", 25),
    ]  # fmt: skip


@pytest.fixture
def programs(tmp_path) -> Path:
    path = tmp_path / "shop.toml"
    path.write_text(PROGRAMS)
    return path


def test_programs_stop_one_after_the_other_within_the_budget(programs):
    made = planned("--config", str(programs))
    ends = {row.name: max(one.end for one in row.segments) for row in made.worst.rows}
    assert ends["web"] < ends["worker"] < ends["db"] <= 18  # two seconds are kept for post_stop
    assert ends["gracewrap"] == pytest.approx(20)
    assert "migrate" not in ends
    assert steps(made.worst, "worker")[0][0] == "waits"


def test_what_does_not_fit_names_the_setting_that_mends_it(tmp_path):
    path = tmp_path / "two.toml"
    path.write_text(
        'shutdown_timeout = "20s"\n[programs.web]\ncommand = ["web"]\nstop_timeout = "15s"\n'
        'reserve = "4s"\n[programs.db]\ncommand = ["db"]\nstop_after = ["web"]\n'
        'stop_timeout = "18s"\nreserve = "12s"\n'
    )
    first, second = planned("--config", str(path)).faults
    assert (first.program, first.setting) == ("web", "shutdown_timeout")
    assert "stop_timeout = 15s is cut by" in first.text
    assert (second.program, second.by) == ("db", 6)
    assert 'set shutdown_timeout = "26s", or a shorter stop_timeout' in second.text


def test_a_rung_that_never_comes_is_said(programs):
    (fault,) = planned("--config", str(programs)).faults
    assert (fault.program, fault.setting) == ("worker", "escalation")


def test_the_grace_period_must_hold_the_budget():
    assert not planned("--", "node", grace=30).faults
    (fault,) = planned("--", "node", grace=20).faults
    assert fault.by == 6
    assert 'set shutdown_timeout = "19s", or a grace period of 26 s' in fault.text


def test_no_budget_is_advised_that_the_settings_do_not_fit_into():
    (fault,) = planned("--stop-timeout", "22s", "--", "node", grace=20).faults
    assert 'set a grace period of 26 s; shutdown_timeout = "19s" would be too short' in fault.text


def test_a_grace_period_shorter_than_the_exit_needs_a_longer_one():
    (fault,) = planned("--", "node", grace=0.5).faults
    assert 'set a grace period of 26 s; shutdown_timeout = "0s" would be too short' in fault.text


def test_a_propagation_delay_that_others_leave_no_time_for_is_said(tmp_path):
    path = tmp_path / "two.toml"
    path.write_text(
        'shutdown_timeout = "26s"\n[programs.web]\ncommand = ["web"]\nstop_timeout = "15s"\n'
        'propagation_delay = "5s"\n[programs.db]\ncommand = ["db"]\nstop_after = ["web"]\n'
        'stop_timeout = "8s"\npropagation_delay = "4s"\n'
    )
    (fault,) = planned("--config", str(path)).faults  # db waits for longer than that anyway
    assert (fault.program, fault.by) == ("web", 2)
    assert "propagation_delay = 5s is cut by 2 s" in fault.text
    path.write_text(path.read_text().replace("26s", "28s"))
    assert not planned("--config", str(path)).faults


def test_a_step_that_takes_no_time_is_none():
    made = planned("--drain-tcp", "auto", "--drain-when", "before-signal", "--", "node")
    (row,) = made.drained.rows
    assert [one.kind for one in row.segments] == ["drain"]
    assert "linger" not in row.said
    assert "drained, still there" not in draw_text.plain(draw_text.lines((made.drained,), 80))


@pytest.mark.parametrize("width", [40, 50, 80, 160])
@pytest.mark.parametrize("ascii_only", [False, True])
def test_no_line_is_wider_than_the_terminal(width, ascii_only, programs):
    made = planned("--config", str(programs), grace=12)
    lines = draw_text.plain(
        draw_text.lines((made.worst, made.drained), width, ascii_only)
    ).splitlines()
    assert max(map(len, lines)) <= width
    assert not ascii_only or "".join(lines).isascii()
    assert any("SIGKILL at" in line for line in lines)


def test_the_svg_is_well_formed_and_has_light_and_dark(programs):
    made = planned("--config", str(programs), grace=12)
    root = ElementTree.fromstring(draw_svg.svg((made.worst, made.drained)))
    assert root.tag.endswith("svg")
    texts = " ".join(element.text or "" for element in root.iter())
    assert "the platform's SIGKILL" in texts
    assert "prefers-color-scheme:dark" in texts
    assert "worker" in texts


@pytest.mark.parametrize("span", [0.01, 0.5, 7, 25, 30, 95, 600, 7200])
def test_ticks_are_few_and_within(span):
    found = ticks(span, 6)
    assert 2 <= len(found) <= 7
    assert found[0] == 0
    assert found[-1] <= span + 1e-6


def run(*words: str | Path, cwd: Path | None = None) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "gracewrap", "plan", *map(str, words)],
        capture_output=True,
        text=True,
        timeout=60,
        cwd=cwd,
    )


def test_the_command_prints_and_writes(programs, tmp_path):
    done = run("--config", programs, "--grace", "12s")
    assert done.returncode == 1
    assert done.stdout.startswith("At worst")
    document = json.loads(run("--config", programs, "--json").stdout)
    assert [one["name"] for one in document["worst"]["programs"]][:3] == ["web", "worker", "db"]
    assert document["faults"][0]["setting"] == "escalation"
    done = run("--config", programs, "--svg", tmp_path / "p.svg", "--html", tmp_path / "p.html")
    assert (done.stdout, done.stderr) == ("", "")
    assert (tmp_path / "p.svg").read_text().startswith("<svg")
    assert "<script" not in (tmp_path / "p.html").read_text()


def test_a_file_that_cannot_be_written_is_named(tmp_path):
    done = subprocess.run(
        [sys.executable, "-m", "gracewrap", "plan", "--svg", str(tmp_path / "no" / "a.svg"),
         "--", "node"],
        capture_output=True,
        text=True,
        timeout=60,
    )  # fmt: skip
    assert done.returncode == 125
    assert f"cannot write {tmp_path}/no/a.svg: No such file or directory" in done.stderr


def test_it_reads_what_check_reads(programs):
    assert run(cwd=programs.parent).stdout.startswith("At worst")
    programs.rename(programs.with_name("gracewrap.toml"))
    assert "worker" in run(cwd=programs.parent).stdout
    assert run("--grace", "soon", "--", "x").returncode == 125
    assert run("--shutdown-timeout", "soon", "--", "x").returncode == 125
    assert "gracewrap plan" in run("--help").stdout


def test_an_agent_answers_at_once_and_takes_no_time_of_the_stop():
    made = planned("--preset", "node", "--", "node", "server.js")
    assert steps(made.worst, "node") == [("stop", 0, 25)]
    (row,) = made.drained.rows
    assert [(mark.label, mark.at) for mark in row.marks if mark.kind == "signal"] == [
        ("SIGTERM", 0)
    ]
