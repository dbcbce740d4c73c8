"""What is told: log lines, the summary, the report file, the termination log."""

from __future__ import annotations

import json
import math
import os
import re
import signal
import subprocess
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gracewrap.record import Record, replace
from gracewrap.report import json_encoder, log, report_files, wording
from gracewrap.report.json_encoder import dumps
from gracewrap.report.log import Log
from processes import BUSY_MACHINE, GRACEWRAP, environment, wait_until

json_values = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats(allow_nan=False, allow_infinity=False).map(lambda x: round(x, 6))
    | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4),
    max_leaves=20,
)


@given(json_values)
def test_our_json_is_json(value):
    assert json.loads(dumps(value)) == value


@given(st.text())
def test_our_json_needs_no_c_accelerator(text):
    assert json.loads('"' + "".join(map(json_encoder._escape, text)) + '"') == text


def test_json_has_no_surrogates():
    """Bytes of a name that are not UTF-8; serde_json, and so Vector, refuses the whole line."""
    value = {"name \udcff": ["caf\u00e9 \udce9", "\ud800"]}
    expected = {"name \\xff": ["caf\u00e9 \\xe9", "\\ud800"]}
    assert json.loads(dumps(value)) == expected
    assert json.loads(dumps(value, json_encoder.quote_readable)) == expected


def test_json_has_no_infinity():
    assert dumps([math.inf, math.nan, 1.0]) == "[null, null, 1.0]"


@given(st.text(), st.integers(0, 400), st.integers(40, 4095))
def test_a_shortened_report_fits_and_keeps_the_outcome(text, count, limit):
    report = {
        "outcome": "killed",
        "exit_status": 137,
        "command": [text] * count,
        "timeline": [{"at": 1.0, "event": text}] * count,
    }
    data = report_files.shorten(report, limit)
    assert len(data) <= max(limit, 50)
    assert json.loads(data)["exit_status"] == 137


def test_a_shortened_report_keeps_what_held_it_up():
    held_up = "held up by 1 connection from 10.0.3.7, kept alive, idle 41 s"
    look = {"moment": "half", "connections": [{"peer": "10.0.3.7:5000"}] * 100}
    report = {"outcome": "killed", "exit_status": 137, "timeline": []}
    data = report_files.shorten({**report, "held_up": held_up, "flight_record": [look]}, 1000)
    assert json.loads(data) == {"outcome": "killed", "exit_status": 137, "held_up": held_up}


def test_report_says_what_happened(talk, tmp_path):
    path = tmp_path / "report.json"
    run = talk("exit=3", "orphans=5", options=["--report", path, "--shutdown-timeout", "9s"])
    child = run.ready()
    children = Path(f"/proc/{run.process.pid}/task/{run.process.pid}/children")
    wait_until(lambda: children.read_text().split() == [str(child)], "the orphans are reaped")
    run.send(signal.SIGUSR1)
    run.line()
    run.send(signal.SIGTERM)
    assert run.wait() == 3
    report = json.loads(path.read_text())
    assert report["outcome"] == "graceful"
    assert report["exit_status"] == 3
    assert report["pid"] == child
    assert report["requested_by"]["signal"] == "SIGTERM"
    assert f"pid {os.getpid()}" in report["requested_by"]["sender"]
    assert report["budget_seconds"] == 9
    assert 0 < report["used_seconds"] < 9
    assert abs(report["left_seconds"] + report["used_seconds"] - 9) < 0.001
    assert report["signals_sent"] == ["SIGTERM"]
    assert report["signals_forwarded"] == 1
    assert report["orphans_reaped"] == 5
    told = [entry["event"] for entry in report["timeline"]]
    assert [event for event in told if event not in BUSY_MACHINE] == [
        "stop_requested",
        "stop_signal",
        "leader_exited",
    ]
    assert report["timeline"][0]["at"] == 0
    assert os.listdir(tmp_path) == ["report.json"]  # no temporary file is left


def test_report_of_a_plain_run(start, tmp_path):
    path = tmp_path / "report"
    run = start("--report", path, "--", "sh", "-c", "exit 4")
    assert run.wait() == 4
    report = json.loads(path.read_text())
    assert (report["outcome"], report["exit_status"], report["requested_by"]) == ("exited", 4, None)


def test_report_of_a_command_that_cannot_be_run(start, tmp_path):
    path = tmp_path / "report"
    run = start("--report", path, "--", "no-such-command")
    assert run.wait() == 127
    report = json.loads(path.read_text())
    assert (report["outcome"], report["exit_status"]) == ("not_started", 127)
    assert "searched PATH" in report["summary"]


def test_relative_paths_are_where_gracewrap_was_started(start, tmp_path):
    run = start(
        "--report",
        "report",
        "--log-file",
        "log",
        "--log-level",
        "debug",
        "--",
        "true",
        cwd=tmp_path,
    )
    assert run.wait() == 0
    assert sorted(os.listdir(tmp_path)) == ["log", "report"]


def test_termination_log_stays_small_and_keeps_what_the_command_wrote(start, tmp_path):
    path = tmp_path / "termination-log"
    path.write_text("the command's own last words\n")
    run = start(
        "--termination-log",
        path,
        "--shutdown-timeout",
        "5s",
        "--",
        "sh",
        "-c",
        "exit 9",
        *["x" * 300] * 100,
    )
    assert run.wait() == 9
    first, last = path.read_text().splitlines()
    assert first == "the command's own last words"
    assert json.loads(last)["exit_status"] == 9
    assert path.stat().st_size < 4096
    path.write_text("y" * 10_000)
    assert start("--termination-log", path, "--", "sh", "-c", "exit 9").wait() == 9
    assert path.stat().st_size < 4096
    assert json.loads(path.read_text().splitlines()[-1])["exit_status"] == 9


def test_a_second_report_replaces_the_first(start, tmp_path):
    """As PID 1 the pid in the temporary name is the same each time, and a crash may have left the
    file."""
    path = tmp_path / "report"
    for status in (1, 2):
        assert start("--report", path, "--", "sh", "-c", f"exit {status}").wait() == status
        assert json.loads(path.read_text())["exit_status"] == status


def test_a_report_through_a_link_leaves_the_link_alone(start, tmp_path):
    """/dev/stderr is one, and root could replace it for everybody."""
    (tmp_path / "link").symlink_to("real")
    (tmp_path / "error").write_text("before\n")
    (tmp_path / "stderr").symlink_to("/proc/self/fd/2")
    assert start("--report", tmp_path / "link", "--", "true").wait() == 0
    with (tmp_path / "error").open("a") as error:
        options = ("--report", tmp_path / "stderr", "--termination-log", tmp_path / "stderr")
        assert start(*options, "--", "true", stderr=error).wait() == 0
    assert (tmp_path / "link").is_symlink() and (tmp_path / "stderr").is_symlink()
    assert json.loads((tmp_path / "real").read_text())["exit_status"] == 0
    before, first, second = (tmp_path / "error").read_text().splitlines()
    assert (
        before == "before"
        and json.loads(first)["exit_status"] == json.loads(second)["exit_status"] == 0
    )


@pytest.mark.parametrize("option", ["--report", "--termination-log"])
def test_a_report_to_a_pipe_that_nobody_reads_is_lost_and_said_so(start, tmp_path, option):
    fifo = tmp_path / "fifo"
    os.mkfifo(fifo)
    run = start(option, fifo, "--", "true")
    assert run.wait() == 0
    assert any("No such device" in str(line["message"]) for line in run.log())


def test_log_levels(talk):
    run = talk(options=["--log-level", "error"])
    run.ready()
    run.send(signal.SIGTERM)
    assert run.wait() == 0
    assert run.log() == []


def test_debug_tells_of_forwarding(talk):
    run = talk(options=["--log-level", "debug"])
    run.ready()
    run.send(signal.SIGHUP)
    assert run.line() == "1"
    line = run.log_line("forwarded")
    assert (line["signal"], line["sent"]) == ("SIGHUP", "SIGHUP")


def test_a_child_killed_by_somebody_else_is_worth_a_warning(talk):
    """The kernel's OOM killer is the usual one; phusion's my_init reports that as success."""
    run = talk()
    os.kill(run.ready(), signal.SIGKILL)
    assert run.wait() == 137
    lines = run.log()
    assert [line["event"] for line in lines] == ["leader_exited", "summary"]
    assert all(line["level"] == "warning" for line in lines)
    assert all("out of memory?" in str(line["message"]) for line in lines)


def test_waiting_is_told_now_and_then(talk):
    run = talk("ignore=15", options=["--log-format", "text", "--shutdown-timeout", "1500ms"])
    run.ready()
    run.send(signal.SIGTERM)
    assert run.err is not None
    run.err.until("waiting for")
    assert run.wait() == 137


def test_text_format_and_variables():
    env = environment(GRACEWRAP_LOG_FORMAT="text", GRACEWRAP_LOG_LEVEL="debug")
    done = subprocess.run(
        [*GRACEWRAP, "--", "true"],
        env=env,
        stderr=subprocess.PIPE,
        text=True,
        timeout=30,
        check=True,
    )
    assert done.stderr.startswith("gracewrap: started true (pid ")


def test_log_file_is_appended_to(start, tmp_path):
    path = tmp_path / "log"
    path.write_text("before\n")
    run = start("--log-file", path, "--log-level", "debug", "--", "true")
    assert run.wait() == 0
    assert run.log() == []
    first, *rest = path.read_text().splitlines()
    assert first == "before"
    assert json.loads(rest[0])["event"] == "started"


def test_timestamps_are_rfc_3339():
    assert log.timestamp(0.25) == "1970-01-01T00:00:00.250Z"


@pytest.mark.parametrize(
    ("value", "shown"),
    [(25.0, "25 s"), (1.254, "1.25 s"), (0.012, "12 ms"), (0, "0 s"), (0.5, "0.50 s")],
)
def test_seconds_for_people(value, shown):
    assert wording.seconds(value) == shown


def test_a_fifo_in_the_place_of_the_report_holds_nobody_up(tmp_path):
    path = tmp_path / "report.json"
    os.mkfifo(f"{path}.{os.getpid()}.tmp")
    assert report_files.write_report(str(path), {"exit_status": 0}) is None
    assert json.loads(path.read_text()) == {"exit_status": 0}


class Point(Record):
    x: int
    y: int = 2


class Place(Point):
    y: int = 3
    name: str


class Origin(Record):
    """A value without a field."""


def test_records_are_frozen_values():
    point = Point(1)
    assert (point.x, point.y) == (1, 2)
    assert point == Point(1, 2) == Point(x=1) and hash(point) == hash(Point(1))
    assert point != Point(1, 3)
    assert repr(replace(point, y=5)) == "Point(x=1, y=5)"
    with pytest.raises(AttributeError):
        point.x = 2  # type: ignore[misc]
    with pytest.raises(AttributeError):
        del point.x
    for wrong in (Point, lambda: Point(1, 2, 3), lambda: Point(1, x=1), lambda: Point(1, z=1)):  # type: ignore[call-arg]
        with pytest.raises(TypeError):
            wrong()
    match point:
        case Point(x, y):
            assert (x, y) == (1, 2)


def test_a_record_may_add_fields_to_those_of_another():
    for _ in range(2):  # the first time its fields are found out
        for wrong in (Place, lambda: Place(1), lambda: Place(1, name="x", z=1)):  # type: ignore[call-arg]
            with pytest.raises(TypeError):
                wrong()
    assert Place(1, name="x") == Place(1, 3, "x") != Point(1, 3)
    assert Origin() == Origin()
    with pytest.raises(TypeError):
        Origin(1)  # type: ignore[call-arg]


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("jobs 3 → 1", '"jobs 3 → 1"'),
        ('caf\u00e9 "x" \\ y', '"caf\u00e9 \\"x\\" \\\\ y"'),
        ("a\nb → c", '"a\\nb \\u2192 c"'),  # what plays tricks on a terminal stays escaped
        ("\x9b31m", '"\\u009b31m"'),
        ("plain", '"plain"'),
    ],
)
def test_what_can_be_printed_is_not_escaped_in_json_lines(text, said, tmp_path):
    file = tmp_path / "log"
    log = Log("json", "info", str(file))
    log.say("info", "x", text, {"words": [text], text: 1})
    line = file.read_text()
    assert f'"message": {said}, "words": [{said}]' in line
    assert json.loads(line)["message"] == text and json.loads(line)[text] == 1


def test_lines_of_text_can_have_a_time(tmp_path):
    for times, pattern in (
        (False, r"gracewrap: hello\n"),
        (True, r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z gracewrap: hello\n"),
    ):
        file = tmp_path / str(times)
        Log("text", "info", str(file), times).say("info", "x", "hello", {})
        assert re.fullmatch(pattern, file.read_text())
