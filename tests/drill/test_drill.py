"""Drills of real servers: what loses requests fails and says which, its mended twin passes."""

from __future__ import annotations

import asyncio
import contextlib
import json
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path
from xml.etree import ElementTree

import psutil
import pytest

from gracewrap.cli import cmd_drill
from gracewrap.drill import formats, http_load, instance, verdict
from gracewrap.drill.fates import ELSEWHERE, Request
from gracewrap.drill.model import Asked, Run, Unready
from gracewrap.record import replace

SERVER = str(Path(__file__).with_name("server.py"))
URL = "http://127.0.0.1:{port}/"
MENDED = ("--propagation-delay", "1500ms", "--drain-tcp", "auto", "--drain-when", "before-signal")
READY = ("--ready-timeout", "90s", "--stop-after", "1s")


def drill(*words: str, server: tuple[str, ...] = ("drop",)) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "gracewrap", "drill", *READY, *words, "--", sys.executable, SERVER,
         "{port}", *server],
        capture_output=True,
        text=True,
        timeout=110,
    )  # fmt: skip


def test_a_server_that_drops_on_sigterm_fails_and_the_requests_are_named(tmp_path):
    file, page = tmp_path / "drill.xml", tmp_path / "drill.html"
    words = "--junit", str(file), "--html", str(page), "--github"
    done = drill("--url", URL, *words, server=("drop", "0.6"))
    assert done.returncode == 1, done.stdout + done.stderr
    assert "failed: " in done.stdout
    assert "requests lost, and at most 0 may be" in done.stdout
    assert "  lost: http://127.0.0.1:" in done.stdout
    assert "::error title=gracewrap drill::" in done.stdout
    suite = ElementTree.parse(file).getroot()
    assert (suite.get("tests"), suite.get("failures")) == ("2", "1")
    assert '<span class="failed">failed</span>' in page.read_text()
    assert done.stderr == ""  # a pipe: nobody watches how far it is


def test_its_mended_twin_passes_where_the_bare_one_loses():
    done = drill("--url", URL, "--compare", "bare", "--json", *MENDED, server=("drop", "0.6"))
    found = json.loads(done.stdout)
    own, bare = found["runs"]
    assert (done.returncode, found["verdict"]) == (0, "passed"), found["reasons"]
    assert set(own["fates"]) <= {"ok", ELSEWHERE}
    assert set(bare["fates"]) & {"reset", "refused", "cut"}
    assert own["report"]["exit_status"] == 0
    assert {one["connection"] for one in own["requests"]} == {"new", "kept-alive"}
    assert "at 95 % confidence" in found["reasons"][0]


def test_two_generations_lose_nothing_and_the_next_one_answers(tmp_path):
    """Also where the settings have one address for /readyz: each has its own, or the first one
    would say that the next is ready."""
    file = tmp_path / "gracewrap.toml"
    file.write_text(f'[health]\nlisten = "127.0.0.1:{instance.free_port()}"\n')
    words = "--config", str(file), "--json", "--ready", URL, *MENDED
    done = drill("--url", URL, "--rolling", *words)
    found = json.loads(done.stdout)
    assert found["verdict"] == "passed", found["reasons"]
    urls = {one["url"] for one in found["runs"][0]["requests"] if one["fate"] == "ok"}
    assert len(urls) == 2


def test_what_is_left_behind_fails():
    words = "--json", "--kill-mode", "process", "--shutdown-timeout", "5s", *MENDED
    done = drill("--url", URL, *words, server=("leave",))
    found = json.loads(done.stdout)
    # gracewrap itself leaves nothing: it kills what has outlived its leader.
    assert found["runs"][0]["leftovers"] == []
    bare = drill("--url", URL, "--compare", "bare", *words, server=("leave",))
    assert json.loads(bare.stdout)["runs"][1]["leftovers"][0].startswith("sleep (pid ")


@pytest.mark.parametrize(
    ("server", "said"),
    [
        (("quit",), "it exited with 3 before"),
        (("missing",), "answers 404; is the URL right?"),
    ],
)
def test_a_server_that_does_not_come_up_is_said(server, said):
    done = drill("--url", URL, "--ready-timeout", "8s" if server == ("missing",) else "60s",
                 server=server)  # fmt: skip
    assert (done.returncode, said in done.stderr) == (125, True), done.stderr
    assert server != ("quit",) or "no such database" in done.stderr


@pytest.mark.parametrize(
    ("status", "gives_up"), [(404, True), (401, True), (503, False), (429, False)]
)
def test_a_url_that_says_no_for_a_while_is_taken_for_wrong(status, gives_up):
    """It is not waited for as long as one that is not up."""

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.closing(writer), contextlib.suppress(asyncio.IncompleteReadError):
            await reader.readuntil(b"\r\n\r\n")
            writer.write(
                b"HTTP/1.1 %d No\r\nContent-Length: 0\r\nConnection: close\r\n\r\n" % status
            )
            await writer.drain()

    async def attempt(limit: float) -> float:
        async with await asyncio.start_server(answer, "127.0.0.1", 0) as one:
            url = f"http://127.0.0.1:{one.sockets[0].getsockname()[1]}/"
            asked = Asked(("true",), urls=(url,), refused_timeout=0.2)
            made, began = instance.Instance(asked, "bare", 0), time.monotonic()
            with pytest.raises(Unready, match=f"answers {status}; is the URL right"):
                await made.answers(url, began + limit)
            await made.clean()
            return time.monotonic() - began

    if gives_up:
        assert asyncio.run(attempt(60.0)) < 30
    else:
        assert asyncio.run(attempt(1.0)) >= 1


def test_a_server_that_takes_two_seconds_to_answer_is_drilled():
    done = drill("--url", URL, "--rate", "2", *MENDED, server=("drain", "2"))
    assert done.returncode == 0, done.stdout + done.stderr


def test_a_body_that_trickles_does_not_keep_the_drill_waiting():
    async def trickle(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 1000\r\n\r\n")
        with contextlib.closing(writer):
            while not await is_closed(reader, 0.05):
                writer.write(b".")

    async def is_closed(reader: asyncio.StreamReader, seconds: float) -> bool:
        try:
            return not await asyncio.wait_for(reader.read(1), seconds)
        except TimeoutError:
            return False
        except ConnectionError:
            return True

    async def ask() -> int:
        async with await asyncio.start_server(trickle, "127.0.0.1", 0) as server:
            port = server.sockets[0].getsockname()[1]
            return await asyncio.wait_for(http_load.status(f"http://127.0.0.1:{port}/", 30), 60)

    assert asyncio.run(ask()) == 200


def test_whether_it_is_up_is_asked_as_the_load_asks():
    """A route may take nothing but POST, and nobody without a token."""
    found = list[bytes]()

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        head = (await reader.readuntil(b"\r\n\r\n")).lower()
        found.append(head + await reader.readexactly(2))
        with contextlib.closing(writer):
            writer.write(b"HTTP/1.1 201 Created\r\nContent-Length: 0\r\n\r\n")
            await writer.drain()

    async def attempt() -> None:
        async with await asyncio.start_server(answer, "127.0.0.1", 0) as one:
            url = f"http://127.0.0.1:{one.sockets[0].getsockname()[1]}/"
            headers = {"Authorization": "Bearer x"}
            asked = Asked(("true",), urls=(url,), method="POST", body="{}", headers=headers)
            made = instance.Instance(asked, "bare", 0)
            await made.answers(url, time.monotonic() + 30)
            await made.clean()

    asyncio.run(asyncio.wait_for(attempt(), 60))
    assert found[-1].startswith(b"post / http/1.1\r\n") and found[-1].endswith(b"\r\n\r\n{}")
    assert b"authorization: bearer x\r\n" in found[-1]


def test_a_port_that_accepts_and_never_answers_is_said():
    async def attempt() -> None:
        asking: list[asyncio.StreamWriter] = []

        def accept(_reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            asking.append(writer)

        async with await asyncio.start_server(accept, "127.0.0.1", 0) as one:
            url = f"http://127.0.0.1:{one.sockets[0].getsockname()[1]}/"
            asked = Asked(("true",), urls=(url,), ready_timeout=0.3)
            made = instance.Instance(asked, "bare", 0)
            try:
                await made.answers(url, time.monotonic() + 0.3)
            finally:
                await made.clean()
                for writer in asking:
                    writer.close()
                    await writer.wait_closed()

    with pytest.raises(Unready, match=r"accepts connections, but .* no answer within 0.3 s"):
        asyncio.run(attempt())


def test_a_port_in_use_is_said():
    with socket.create_server(("127.0.0.1", 0)) as sock:
        port = sock.getsockname()[1]
        done = drill("--url", f"http://127.0.0.1:{port}/")
    assert (done.returncode, "something else answers at" in done.stderr) == (125, True)


@pytest.mark.parametrize("signum", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_a_signal_leaves_nothing_behind(signum):
    """Two of them neither: timeout signals its child, and then the group."""
    command = [sys.executable, "-m", "gracewrap", "drill", *READY, "--stop-after", "100s", "--url",
               URL, "--", sys.executable, SERVER, "{port}", "drain"]  # fmt: skip
    with subprocess.Popen(command, stderr=subprocess.PIPE, text=True) as process:
        below = []
        while not below:
            assert process.poll() is None
            below = [child.pid for child in psutil.Process(process.pid).children(recursive=True)
                     if SERVER in _command(child.pid)]  # fmt: skip
        process.send_signal(signum)
        process.send_signal(signum)
        assert process.wait(60) == 128 + signum
    assert not [pid for pid in below if SERVER in _command(pid)]


LATE = """
import asyncio, os, sys
from gracewrap.drill import rehearsal
from gracewrap.drill.model import Asked
signum = int(sys.argv[1])
try:
    asyncio.run(rehearsal.run(Asked(("true",)), lambda _step: os.kill(os.getpid(), signum)))
except rehearsal.Interrupted as fault:
    os.kill(os.getpid(), fault.signum)
    print("ended by", fault.signum)
"""


@pytest.mark.parametrize("signum", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_a_signal_that_comes_late_does_not_cut_the_last_words(signum):
    words = [sys.executable, "-c", LATE, str(signum)]
    done = subprocess.run(words, capture_output=True, text=True, timeout=60)
    assert (done.returncode, done.stdout) == (0, f"ended by {signum}\n"), done.stderr


def _command(pid: int) -> list[str]:
    try:
        return Path(f"/proc/{pid}/cmdline").read_bytes().decode().split("\0")
    except OSError:
        return []


@pytest.mark.parametrize(
    ("words", "said"),
    [
        ((), "without --url"),
        (("--url", "localhost:3000"), "it must start with http://"),
        (("--url", URL, "--balancer", "magic"), "one of readiness, lag, connections, none"),
        (("--url", URL, "--rate", "fast"), "it must be a number"),
        (("--url", URL, "--compare", "s6"), "one of bare, tini, dumb-init"),
        (("--url", "http://127.0.0.1:3000/", "--rolling"), "{port}"),
        (("--url", URL, "--rolling", "--health-listen", ":9000"), "leave it out"),
        (("--url", URL, "--header", "x"), "NAME: VALUE"),
        (("--url", URL, "--header", "a b: c"), "NAME: VALUE"),
        (("--url", URL, "--header", "X: ü"), "its value must be printable ASCII"),
        (("--url", URL, "--html", "/none/x.html"), "there is no directory /none"),
        (("--url", URL, "--junit", "/tmp"), "it is a directory"),
        (("--url", URL, "--method", "P T"), "it must be a word such as POST"),
        (("--url", "http://"), 'cannot use --url = "http://" (command line): write the host'),
        (("--url", "http://[::1"), 'cannot use --url = "http://[::1" (command line): Invalid'),
        (("--url", "http://x:99999/"), "Port out of range"),
        (("--url", URL, "--stop-timeout", "soon"), "cannot use stop_timeout"),
    ],
)
def test_wrong_options_are_125(words, said):
    done = drill(*words)
    assert (done.returncode, said in done.stderr) == (125, True), done.stderr


# --- fates, on a server that answers as it is told to --------------------------------------------

ANSWERS = {
    "/ok": b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok",
    "/failed": b"HTTP/1.1 503 Service Unavailable\r\nContent-Length: 0\r\n\r\n",
    "/cut": b"HTTP/1.1 200 OK\r\nContent-Length: 20\r\n\r\nhalf",
    "/reset": b"",
}


@pytest.mark.parametrize(
    ("path", "fate"),
    [("/ok", "ok"), ("/failed", "5xx"), ("/cut", "cut"), ("/reset", "reset"),
     ("/silent", "timed out"), ("", "refused")],
)  # fmt: skip
def test_each_request_has_one_fate(path, fate):
    async def answer(reader, writer):
        asked = (await reader.readuntil(b"\r\n\r\n")).split()[1].decode()
        if asked == "/silent":
            await reader.read()
        writer.write(ANSWERS.get(asked, b""))
        await writer.drain()
        writer.close()

    async def one() -> tuple[Request, ...]:
        server = await asyncio.start_server(answer, "127.0.0.1", 0)
        port = server.sockets[0].getsockname()[1]
        if not path:
            server.close()
            await server.wait_closed()
        asked = Asked((), rate=50, request_timeout=0.5 if path == "/silent" else 30)
        made = http_load.Load(asked, (f"http://127.0.0.1:{port}{path}",), lambda _kept: True)
        await made.run(lambda: len(made.requests) >= 4)
        await made.finish(20)
        server.close()
        return made.fates(0.0, 0.0)

    found = asyncio.run(one())
    assert len(found) >= 4
    assert {request.fate for request in found} == {fate}
    assert all(request.ended >= request.at for request in found)


def test_without_httpx_nothing_is_started_and_it_says_what_to_install(monkeypatch, capsys):
    monkeypatch.setitem(sys.modules, "httpx", None)
    assert cmd_drill.run(["--url", "http://127.0.0.1:1/", "--", "true"]) == 125
    said = capsys.readouterr().err
    assert said == "gracewrap: cannot hold the drill: " + http_load.WITHOUT + "\n"


# --- the verdict ---------------------------------------------------------------------------------


def ran(who: str = "gracewrap", fates: str = "ok", status: int | None = 0, **more) -> Run:
    requests = tuple(Request("http://x/", 0.1, 0.2, fate, False) for fate in fates.split())
    return Run(who, 1.0, requests, 2.0, status, **more)


@pytest.mark.parametrize(
    ("asked", "runs", "outcome", "said"),
    [
        ({}, [ran()], "passed", "0 lost of 1 request, 1 of them in the stop"),
        ({}, [ran(fates="ok reset")], "failed", "1 request lost"),
        ({"max_lost": 1}, [ran(fates="ok reset")], "passed", "1 lost of 2"),
        ({}, [ran(status=143)], "failed", "exit status 143, and 0 was expected"),
        (
            {},
            [ran(status=143, report={"signals_sent": ["SIGTERM"], "drained_after_seconds": 1.0})],
            "failed",
            "ended it after it was drained; if that is a success, set success_exit_codes = "
            '["TERM"]',
        ),
        ({"job_command": ("x",)}, [ran(fates="twice")], "failed", "1 job done twice"),
        ({"max_twice": 1}, [ran(fates="ok twice")], "passed", "0 lost of 2 requests"),
        ({"expect_exit": None}, [ran(status=143)], "passed", ""),
        ({"max_duration": 1.0}, [ran()], "failed", "took 2.0 s, longer than 1 s"),
        ({}, [ran(status=None)], "failed", "did not exit"),
        (
            {},
            [ran(report={"killed": ["sleep (pid 7)"], "outcome": "killed"})],
            "failed",
            "SIGKILL ended sleep (pid 7), which had not ended before",
        ),
        ({}, [ran(report={"killed": ["sleep (pid 7)"], "outcome": "drained"})], "passed", ""),
        ({}, [ran(early=3)], "failed", "3 of them by the next instance"),
        ({}, [ran(leftovers=("sleep (pid 7)",))], "failed", "it left behind sleep"),
        ({}, [ran(ports=(80,))], "failed", "port 80"),
        ({}, [ran(fates="elsewhere")], "inconclusive", "no request was in flight"),
        ({"compare": ("bare",)}, [ran(), ran("bare")], "inconclusive", "without gracewrap either"),
        ({"compare": ("bare",)}, [ran(), ran("bare", "cut")], "passed", ""),
    ],
)
def test_the_verdict(asked, runs, outcome, said):
    judged = verdict.judge(Asked((), **asked), runs)
    assert (judged.outcome, said in "; ".join(judged.reasons)) == (outcome, True), judged
    assert formats.text(runs, judged).endswith("\n")
    assert json.loads(formats.as_json(runs, judged))["verdict"] == outcome
    ElementTree.fromstring(formats.junit(runs, judged))
    assert formats.github(runs, judged).startswith("::")


@pytest.mark.parametrize(
    ("fates", "said"),
    [
        ("ok cut", "lost without gracewrap: bare 2 of 5, tini 1 of 2"),
        ("ok twice", "lost or done twice without gracewrap: bare 2 of 5, tini 1 of 2"),
    ],
)
def test_what_the_others_have_lost_is_one_line(fates, said):
    runs = [ran(), ran("bare", "cut ok elsewhere ok"), ran("bare", fates), ran("tini", fates)]
    judged = verdict.judge(Asked((), compare=("bare", "tini")), runs)
    assert said in formats.text(runs, judged).splitlines()
    assert "without gracewrap" not in formats.text(runs[:1], judged)


@pytest.mark.parametrize(
    ("report", "said"),
    [
        ({"command": ["node", "server.js"]}, "it had answered; --preset node, or"),
        ({"command": ["node", "server.js"], "drain": [{}]}, "a --preset (gracewrap presets), or"),
        ({"command": ["./serve"]}, "a --preset (gracewrap presets), or"),
    ],
)
def test_the_preset_for_a_command_that_lost_requests_is_named(report, said):
    runs = [ran(fates="ok reset", report=report)]
    assert said in formats.text(runs, verdict.judge(Asked(()), runs))


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ({"preset": "node"}, "--drain-when before-signal beside the preset node lets it finish"),
        ({"preset": "any-http-server", "held": True}, "answered; a longer --shutdown-timeout, or"),
    ],
)
def test_what_is_in_force_is_not_advised_again(given, said):
    runs = [ran(fates="ok cut", report={"command": ["node", "server.js"]}, **given)]
    told = formats.text(runs, verdict.judge(Asked(()), runs))
    assert said in told and "--preset" not in told


@pytest.mark.parametrize(
    ("timeline", "said"),
    [
        ([], "noticed; --propagation-delay 5s lets it serve on"),
        ([{"event": "serving"}], "noticed; a longer --propagation-delay lets it serve on"),
    ],
)
def test_what_is_refused_needs_a_propagation_delay_or_a_longer_one(timeline, said):
    runs = [ran(fates="ok refused", report={"timeline": timeline})]
    assert said in formats.text(runs, verdict.judge(Asked(()), runs))


def test_what_was_lost_before_the_stop_is_no_fault_of_the_stop():
    early = Request("http://x/", -0.6, -0.5, "cut", False)
    runs = [replace(ran(), requests=(early,))]
    shown = formats.text(runs, verdict.judge(Asked(()), runs))
    assert "  1 of them lost before the stop request: " in shown
    assert "--preset" not in shown


def test_names_of_processes_do_not_reach_the_terminal_or_the_xml_as_they_are():
    report = {"killed": ["\x1b[2J (pid 7)"], "outcome": "killed"}
    runs = [ran(status=137, report=report)]
    judged = verdict.judge(Asked(()), runs)
    assert "\x1b" not in formats.text(runs, judged)
    ElementTree.fromstring(formats.junit(runs, judged))


@pytest.mark.parametrize("why", ["", "; held up by 1 connection"])
def test_what_held_up_a_killed_command_is_said(why):
    report = {"killed": ["node (pid 7)"], "held_up": why[2:] or None}
    runs = [ran(status=137, report=report)]
    shown = formats.text(runs, verdict.judge(Asked(()), runs))
    assert f"  SIGKILL: node (pid 7){why}" in shown.splitlines()
