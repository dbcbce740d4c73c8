"""The picture of the stop that was, from its report."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from pathlib import Path
from xml.etree import ElementTree

import pytest

from gracewrap.picture import draw_svg, draw_text, past_stop
from processes import MAIN, environment

ONE = {
    "gracewrap": "1.0",
    "outcome": "killed",
    "exit_status": 137,
    "budget_seconds": 10.0,
    "used_seconds": 10.0,
    "killed": ["node (pid 7)"],
    "interrupted": 2,
    "drained_after_seconds": None,
    "summary": "stopped in 10 s of 10 s",
    "stop_began": "2026-11-27T07:29:09.934Z",
    "requested_by": {"signal": "SIGTERM", "sender": "docker (pid 1, uid 0)"},
    "command": ["/usr/bin/node", "server.js"],
    "left_behind": None,
    "timeline": [
        {"at": 42.0, "event": "ready"},
        {"at": 0.0, "event": "stop_requested", "signal": "SIGTERM", "budget": 10.0},
        {"at": 0.0, "event": "serving", "seconds": 2.0},
        {"at": 2.0, "event": "draining"},
        {"at": 2.1, "event": "in_flight", "in_flight": 7, "numbers": "7"},
        {"at": 3.0, "event": "in_flight", "in_flight": 2, "numbers": "7 → 2"},
        {"at": 5.0, "event": "stop_signal", "signal": "SIGTERM", "to": "leader"},
        {"at": 10.0, "event": "kill", "why": "out of time"},
        {"at": 10.0, "event": "leader_exited", "status": 137},
    ],
}


def test_the_steps_of_one_command_are_drawn():
    chart = past_stop.chart(ONE)
    (row,) = chart.rows
    assert row.name == "node"
    assert [(one.kind, one.start, one.end) for one in row.segments] == [
        ("propagation", 0, 2), ("drain", 2, 5), ("stop", 5, 10),
    ]  # fmt: skip
    assert [(mark.label, mark.at) for mark in row.marks] == [("SIGTERM", 5), ("SIGKILL", 10)]
    assert [(one.at, one.value) for one in row.samples] == [(2.1, 7), (3, 2), (10, 2)]
    assert row.bad
    assert "2 in flight cut · killed: node (pid 7)" in row.said
    assert "10 s of 10 s, exit status 137" in chart.title


def test_what_held_it_up_is_noted_unless_the_summary_says_so():
    held_up = "held up by 1 connection from 10.0.3.7, kept alive, idle 41 s"
    notes = [note.text for note in past_stop.chart({**ONE, "held_up": held_up}).notes]
    assert held_up in notes
    said = {**ONE, "held_up": held_up, "summary": f"stopped in 10 s of 10 s: {held_up}"}
    assert [note.text for note in past_stop.chart(said).notes] == [said["summary"]]


@pytest.mark.parametrize("width", [40, 60, 80, 160])
def test_it_fits_the_terminal_and_shows_what_was_in_flight(width):
    lines = draw_text.plain(draw_text.lines([past_stop.chart(ONE)], width)).splitlines()
    assert max(map(len, lines)) <= width
    assert any("█" in line and ("▃" in line or width < 60) for line in lines)
    assert not any(line.strip().startswith("s ") for line in lines)  # a unit by itself


def test_the_page_is_one_file_without_script():
    page = draw_svg.html([past_stop.chart(ONE)], "<The stop>", [("summary", "a < b")])
    assert "<script" not in page
    assert "http" not in page.replace("http://www.w3.org/2000/svg", "")
    assert "&lt;The stop&gt;" in page
    assert "a &lt; b" in page
    ElementTree.fromstring(page[page.index("<svg") : page.index("</svg>") + 6])


@pytest.mark.parametrize(
    ("document", "said"),
    [
        ({}, "it is not a report of gracewrap"),
        ({"verdict": "passed", "runs": []}, "it is a drill"),
        ({"gracewrap": "1", "timeline": [], "stop_began": None}, "there was no stop"),
    ],
)
def test_what_is_no_report_is_said(document, said):
    with pytest.raises(past_stop.NoReport, match=said):
        past_stop.chart(document)


@pytest.mark.parametrize("broken", [None, 3, "x", [], {}, [[]], [{"event": 7, "at": "x"}]])
@pytest.mark.parametrize("key", sorted(ONE))
def test_a_report_that_is_broken_is_drawn_as_far_as_it_goes(key, broken):
    try:
        draw_svg.svg([past_stop.chart({**ONE, key: broken})])
    except past_stop.NoReport:
        pass


@pytest.mark.parametrize(
    "junk",
    [float("nan"), float("inf"), -float("inf"), 1e308, 10**400, -5.0, True, "\x1b[2J\n\0", "\ud800",
     "</style><script>"],
    ids=str,
)  # fmt: skip
def test_what_a_report_can_hold_breaks_no_terminal_and_no_page(junk):
    """Each place in turn; a report may come from anywhere."""
    for at in range(len(ONE["timeline"])):
        entries = [dict(one) for one in ONE["timeline"]]
        entries[at] = dict.fromkeys(entries[at], junk) | {"event": entries[at]["event"]}
        document = {**dict.fromkeys(ONE, junk), "gracewrap": "1.0", "timeline": entries,
                    "command": [junk], "killed": [junk]}  # fmt: skip
        chart = past_stop.chart(document)
        for width in (40, 80):
            shown = draw_text.plain(draw_text.lines([chart], width))
            shown.encode()
            assert all(one.isprintable() for one in shown.splitlines())
        picture = draw_svg.svg([chart])
        ElementTree.fromstring(picture.encode())
        assert "<script" not in draw_svg.html([chart], str(junk), [("x", str(junk))])


# --- the command, after a real stop --------------------------------------------------------------


def report(*words: str | Path, stdin: str = "") -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "gracewrap", "report", *map(str, words)],
        input=stdin,
        capture_output=True,
        text=True,
        timeout=60,
    )


PROGRAMS = """\
shutdown_timeout = "5s"
[report]
file = "{file}"
[programs.web]
command = ["sh", "-c", "trap 'exit 0' TERM; echo ready; while :; do sleep 0.05; done"]
propagation_delay = "1s"
stop_after = ["worker"]
[programs.worker]
command = ["sh", "-c", "trap '' TERM; echo ready; while :; do sleep 0.05; done"]
stop_timeout = "300ms"
"""


def test_what_the_encoding_does_not_have_is_escaped():
    document = json.dumps({**ONE, "command": ["nöde€"]})
    done = subprocess.run(
        [sys.executable, "-m", "gracewrap", "report", "-"],
        input=document.encode(),
        capture_output=True,
        timeout=60,
        env={**os.environ, "PYTHONIOENCODING": "latin-1"},
    )
    assert (done.returncode, done.stderr) == (1, b"")
    assert b"n\xf6de\\u20ac" in done.stdout
    assert b"####" in done.stdout


def test_a_real_stop_of_two_programs_is_drawn(tmp_path):
    file = tmp_path / "stop.json"
    (tmp_path / "two.toml").write_text(PROGRAMS.format(file=file))
    command = [sys.executable, MAIN, "--config", str(tmp_path / "two.toml")]
    with subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, env=environment()
    ) as process:
        assert process.stdout is not None
        assert [process.stdout.readline() for _ in range(2)] == [b"ready\n"] * 2
        process.send_signal(signal.SIGTERM)
        process.wait(30)
    rows = {row.name: row for row in past_stop.chart(json.loads(file.read_text())).rows}
    assert [one.kind for one in rows["web"].segments] == ["waits", "propagation", "stop"]
    assert rows["worker"].segments[0].kind == "stop"
    assert rows["worker"].bad
    done = report(file)
    assert done.returncode == 1  # something was killed
    assert "SIGKILL at" in done.stdout
    assert report("-", stdin=file.read_text()).stdout == done.stdout
    assert report(file, "--html", tmp_path / "x.html").stdout == ""
    assert "<svg" in (tmp_path / "x.html").read_text()


@pytest.mark.parametrize(
    ("content", "said"),
    [("no", "it is not JSON"), ("[]", "it is not a report"), ("{}", "it has no timeline"),
     ('{"gracewrap": "1.0", "outcome": "killed"}', "as a termination log that was too long"),
     ('{"level": "info", "source": "gracewrap"}', "it is a log, not a report"),
     ('{"level": "info", "source": "gracewrap"}\n{"level": "info"}', "it is a log, not a report"),
     ("gracewrap: started node (pid 7)\n", "it is a log, not a report; name the file that a run"),
     ("", "it is empty; name the file that a run has written with --report-file FILE")],
)  # fmt: skip
def test_other_files_are_125(content, said, tmp_path):
    done = report("-", stdin=content)
    assert (done.returncode, said in done.stderr) == (125, True), done.stderr
    assert report(tmp_path / "none").returncode == 125
