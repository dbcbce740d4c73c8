"""Loads of the user's own: jobs that are enqueued and asked for, and lines as of vegeta."""

from __future__ import annotations

import asyncio
import json
import math
import subprocess
import sys
from pathlib import Path

import pytest

from gracewrap.drill.load_command import LoadCommand, parsed
from gracewrap.drill.model import Asked, Unready
from gracewrap.drill.user_commands import Helpers

HERE = Path(__file__).parent
URL = "http://127.0.0.1:{port}/"


def drill(*words: str, command: tuple[str, ...]) -> tuple[int, dict, str]:
    done = subprocess.run(
        [sys.executable, "-m", "gracewrap", "drill", "--json", "--stop-after", "500ms", *words,
         "--", sys.executable, *command],
        capture_output=True,
        text=True,
        timeout=110,
    )  # fmt: skip
    return done.returncode, json.loads(done.stdout or "{}"), done.stderr


def of_jobs(place: Path, mode: str, *words: str) -> tuple[int, dict, str]:
    script = str(HERE / "jobs.py")
    keeper = f"{sys.executable} {script} {place}"
    command = script, str(place), "work", mode
    return drill("--job-command", keeper, "--job-timeout", "4s", *words, command=command)


def test_a_worker_that_cuts_its_job_fails_and_the_job_is_named(tmp_path):
    status, found, _ = of_jobs(tmp_path, "drop")
    fates = found["runs"][0]["fates"]
    assert (status, fates["not done"]) == (1, 1), fates
    assert "1 job lost, and at most 0 may be" in found["reasons"][0]
    assert "set success_exit_codes" in found["reasons"][1]  # it died of the stop signal
    (lost,) = [one for one in found["runs"][0]["requests"] if one["fate"] == "not done"]
    assert lost["url"].startswith("job ") and lost["connection"] is None


def test_its_mended_twin_passes_and_the_next_worker_does_the_rest(tmp_path):
    status, found, error = of_jobs(tmp_path, "drain")
    assert (status, set(found["runs"][0]["fates"])) == (0, {"ok"}), found["reasons"]
    assert found["runs"][0]["leftovers"] == []
    assert len(error.splitlines()) == 1, error  # the verdict: nothing of asyncio's own
    assert len((tmp_path / "done").read_text().split()) == found["runs"][0]["fates"]["ok"] + 1


def test_a_job_that_is_done_twice_fails(tmp_path):
    status, found, _ = of_jobs(tmp_path, "repeat")
    assert (status, found["runs"][0]["fates"]["twice"]) == (1, 1), found["runs"][0]["fates"]
    assert found["reasons"] == ["1 job done twice, and at most 0 may be"]


@pytest.mark.parametrize(
    ("keeper", "said"),
    [
        ("false", "cannot enqueue a job: enqueue ended with 1"),
        ("sh -c '[ $0 = enqueue ] || { echo no broker >&2; exit 4; }'",
         "cannot ask for jobs: sh -c [ $0 = enqueue ] || { echo no broker >&2; exit 4; } ask ended "
         "with 4: no broker"),
        ("no-such-program", "cannot run no-such-program: No such file"),
        ("sh 'x", "cannot use --job-command"),
    ],
)  # fmt: skip
def test_a_job_command_that_fails_is_said(keeper, said):
    status, _, error = drill("--job-command", keeper, command=("-c", "import time; time.sleep(60)"))
    assert (status, said in error) == (125, True), error


def test_the_lines_of_a_load_command_are_judged():
    attack = f"{sys.executable} {HERE / 'attack.py'} {URL} 20 4"
    server = str(HERE / "server.py"), "{port}", "drop", "0.3"
    status, found, _ = drill("--url", URL, "--load-command", attack, command=server)
    fates = found["runs"][0]["fates"]
    assert (status, fates["ok"] > 0, fates["reset"] > 0) == (1, True, True), fates
    assert set(fates) <= {"ok", "reset", "refused", "elsewhere"} and sum(fates.values()) == 80
    assert "connection refused" in str(found) or "EOF" in str(found)


LINE = ('{"attack":"","seq":3,"code":%d,"timestamp":"2026-05-04T10:00:00.123456789+02:00",'
        '"latency":1500000000,"bytes_out":0,"bytes_in":2,"error":%s,"body":"b2s=",'
        '"method":"GET","url":"http://x/a","headers":{}}\n')  # fmt: skip


@pytest.mark.parametrize(
    ("code", "error", "fate"),
    [
        (200, "", "ok"),
        (404, "404 Not Found", "ok"),
        (503, "503 Service Unavailable", "5xx"),
        (0, 'Get "http://x/a": dial tcp 127.0.0.1:1: connect: connection refused', "refused"),
        (0, 'Get "http://x/a": EOF', "reset"),
        (0, 'Post "http://x/a": read tcp 127.0.0.1:5->127.0.0.1:1: read: connection reset by peer',
         "reset"),
        (0, "unexpected EOF", "cut"),
        (0, "read tcp 127.0.0.1:5->127.0.0.1:1: read: connection reset by peer", "cut"),
        (0, 'Get "http://x/a": context deadline exceeded (Client.Timeout exceeded while awaiting '
         'headers)', "timed out"),
        (0, "context deadline exceeded (Client.Timeout or context cancellation while reading body)",
         "timed out"),
    ],
)  # fmt: skip
def test_a_line_of_vegeta_is_one_request(code, error, fate):
    found = parsed((LINE % (code, json.dumps(error))).encode(), "http://other/")
    assert found is not None
    assert (found.url, found.fate, found.why) == ("http://x/a", fate, "" if fate == "ok" else error)
    assert found.ended - found.at == pytest.approx(1.5)
    assert found.at == pytest.approx(1777881600.123456, abs=1e-5)


@pytest.mark.parametrize(
    "line", [b"", b"\n", b"no JSON\n", b"[]\n", b"7\n", b"{}\n", b'{"timestamp": 7}\n', b"[" * 9000,
             b'{"timestamp":"today","latency":1,"code":200}', b"\xff\x00"]
)  # fmt: skip
def test_what_is_no_result_is_none(line):
    assert parsed(line, "http://x/") is None


def test_what_a_load_says_does_not_reach_the_terminal_or_the_xml_as_it_is():
    line = {"timestamp": "2026-05-04T08:00:00Z", "latency": 1e9, "code": 0,
            "error": "\x1b[2J\ud800", "url": "http://x/\x07"}  # fmt: skip
    found = parsed(json.dumps(line).encode(), "http://y/")
    assert found is not None
    assert (found.url, found.why) == ("http://x/\\x07", "\\x1b[2J\\ud800")
    assert parsed(json.dumps({**line, "latency": math.inf}).encode(), "http://y/") is None


def test_a_load_command_without_results_is_said():
    helpers = Helpers({"PATH": "/usr/bin:/bin"})
    made = LoadCommand(Asked((), urls=("http://x/",)), "echo hello; echo no >&2; exit 7", helpers)

    async def attempt() -> None:
        await made.run(lambda: False)
        await made.finish(20)

    try:
        with pytest.raises(Unready, match="it ended with 7; it printed 'hello': no"):
            asyncio.run(attempt())
    finally:
        helpers.close()
