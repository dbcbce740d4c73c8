"""The main job: a command, wrapped."""

from __future__ import annotations

import signal
import sys

from processes import MAIN


def test_passes_output_and_exit_status(start):
    run = start("--", "sh", "-c", "echo hi; exit 7")
    assert run.line() == "hi"
    assert run.wait() == 7
    assert run.log() == []  # a plain run says nothing


def test_stops_gracefully_and_says_so(talk):
    run = talk("exit=3")
    child = run.ready()
    run.send(signal.SIGTERM)
    assert run.line() == "15"
    assert run.wait() == 3
    events = [line["event"] for line in run.log()]
    assert events == ["stop_requested", "stop_signal", "leader_exited", "summary"]
    assert child != run.pid


# Whoever holds the child first (one day something else than start.py) hands it over with what has
# happened until then.
HAND_OVER = """
import sys, time
sys.path.insert(0, {source!r})
import gracewrap.__main__  # blocks the signals
import posix
from gracewrap.runtime import handover, supervise
from gracewrap.config import settings
from gracewrap.linux import spawn
command = {command!r}
pid, exec_fd, errno = spawn.spawn(command, None)
at = time.monotonic()
asked = handover.StopRequest(15, at, "somebody, before there was a loop")
value = handover.Handover(pid, at, stop_requests=(asked,), orphans_reaped=3)
posix._exit(supervise.supervise(value, settings.defaults(command)))
"""


def test_a_stop_request_that_is_handed_over_is_acted_on(start, tmp_path):
    script = tmp_path / "hand_over.py"
    script.write_text(HAND_OVER.format(source=str(MAIN.parent.parent), command=["sleep", "60"]))
    run = start(command=[sys.executable, "-I", "-S", str(script)])
    assert run.wait() == 143
    log = run.log()
    assert (
        log[0]["event"] == "stop_requested"
        and log[0]["sender"] == "somebody, before there was a loop"
    )
    assert log[-1]["orphans_reaped"] == 3
