"""A probe by tcp sees requests, and a job that the program works on is none: what shows that it may
be at work keeps `linger` from ending it."""

from __future__ import annotations

import json
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from processes import BOUND, SUPPORT, Run

SERVER = [sys.executable, "-I", "-S", str(SUPPORT / "server_with_peer.py")]
OPTIONS = (
    *("--drain-tcp", "auto", "--drain-quiet", "200ms", "--drain-linger", "0s"),
    *("--drain-interval", "20ms", "--success-exit-codes", "drained"),
)


def answer(listener: socket.socket) -> None:
    """Answer one byte with one, and then nothing, as a queue without jobs does."""
    try:
        connection, _ = listener.accept()
        with connection:
            connection.sendall(connection.recv(1))
            connection.recv(1)
    except OSError:
        pass  # the test is over


@pytest.fixture
def queue() -> Iterator[str]:
    """A peer on a TCP port."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        thread = threading.Thread(target=answer, args=(listener,), daemon=True)
        thread.start()
        yield str(listener.getsockname()[1])
        listener.shutdown(socket.SHUT_RDWR)
    thread.join(BOUND)


@pytest.fixture
def database(tmp_path: Path) -> Iterator[str]:
    """A peer on a unix socket."""
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(tmp_path / "db.sock"))
        listener.listen()
        thread = threading.Thread(target=answer, args=(listener,), daemon=True)
        thread.start()
        yield str(tmp_path / "db.sock")
        listener.shutdown(socket.SHUT_RDWR)
    thread.join(BOUND)


@pytest.fixture
def serve(start: Callable[..., Run], tmp_path: Path) -> Callable[..., Run]:
    """Start a server: serve(PEER, WORD..., options=[...])."""

    def begin(*words: str, options: tuple[str, ...] = (), budget: str = "10m") -> Run:
        run = start(
            *("--report", tmp_path / "report.json", "--shutdown-timeout", budget),
            *OPTIONS, *options, "--", *SERVER, *words, stdin=subprocess.PIPE,
        )  # fmt: skip
        assert run.line().startswith("ready ")
        return run

    return begin


def order(run: Run, line: str) -> None:
    """Have the server do something, and wait until it has."""
    assert run.process.stdin is not None and run.out is not None
    run.process.stdin.write(f"{line}\n".encode())
    run.process.stdin.flush()
    run.out.until(line)


def report(folder: Path) -> dict[str, object]:
    found: dict[str, object] = json.loads((folder / "report.json").read_text())
    return found


def kills(run: Run) -> list[dict[str, object]]:
    return [line for line in run.log() if line["event"] == "kill"]


def test_a_silent_job_is_not_ended_early(serve, queue, tmp_path):
    """It fetched its job from a queue, and works on it without a word."""
    run = serve(queue, budget="2s")
    run.send(signal.SIGTERM)
    at_work = run.log_line("may_be_at_work")["work"]
    assert f"127.0.0.1:{queue}" in str(at_work)
    assert run.wait() == 137  # no success: it was not drained
    assert [line["why"] for line in kills(run)] == ["out of time"]
    assert report(tmp_path)["outcome"] == "killed"


def test_a_job_has_the_time_that_it_needs(serve, queue, tmp_path):
    run = serve(queue)
    run.send(signal.SIGTERM)
    run.log_line("may_be_at_work")
    order(run, "done")
    assert run.wait() == 0 and not kills(run)
    assert report(tmp_path)["outcome"] == "graceful"


def test_a_job_from_a_unix_socket_is_not_ended_early(serve, database):
    run = serve(database)
    run.send(signal.SIGTERM)
    assert database in str(run.log_line("may_be_at_work")["work"])
    order(run, "done")
    assert run.wait() == 0


def test_when_it_has_closed_its_connections_it_is_ended(serve, queue, tmp_path):
    run = serve(queue)
    run.send(signal.SIGTERM)
    run.log_line("may_be_at_work")
    order(run, "close")
    assert run.wait() == 0
    assert [line["why"] for line in kills(run)] == [
        "no request is in flight, and it is still running"
    ]
    summary = str(report(tmp_path)["summary"])
    assert "it did not exit although no request was in flight" in summary and "done" not in summary


@pytest.mark.parametrize(
    ("words", "options"),
    [((), ("--drain-outgoing", "quiet")), (("unused",), ())],
    ids=["quiet", "never-used"],
)
def test_what_is_still_open_is_told_when_it_is_killed(serve, queue, tmp_path, words, options):
    """Of a pool of idle connections the user may say that they are no work."""
    run = serve(queue, *words, options=options)
    run.send(signal.SIGTERM)
    assert run.wait() == 0
    (kill,) = kills(run)
    assert kill["still_open"] == f"connections to 127.0.0.1:{queue}"
    assert report(tmp_path)["still_open"] == kill["still_open"]


@pytest.mark.parametrize(("words", "said"), [((), True), (("unused",), False)])
def test_a_job_that_the_signal_may_have_cut_is_named(serve, queue, tmp_path, words, said):
    """Held back until no request is in flight, it ends what has no handler, with all else."""
    run = serve(queue, "plain", *words, options=("--drain-when", "before-signal"))
    run.send(signal.SIGTERM)
    assert run.wait() == 128 + signal.SIGTERM
    summary = str(report(tmp_path)["summary"])
    named = "if it was working on a job, that was lost" in summary and queue in summary
    assert "no request in flight after" in summary and named == said, summary


@pytest.mark.parametrize("quiet", ["200ms", "0s"])
def test_what_uses_the_cpu_is_not_ended_early(serve, quiet):
    run = serve("-", options=("--drain-quiet", quiet))
    order(run, "burn")
    run.send(signal.SIGTERM)
    assert "% of a CPU" in str(run.log_line("may_be_at_work")["work"])
    order(run, "rest")
    assert run.wait() == 0
    assert len(kills(run)) == 1
