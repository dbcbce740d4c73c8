"""`gracewrap health`: run every few seconds by health checks, so it loads as little as it can."""

from __future__ import annotations

import time

from gracewrap.cli import subcommand
from gracewrap.cli.control_client import MOST, Answer, NoAnswer, no_answer
from gracewrap.cli.subcommand import PID, SOCKET, Arguments, Option, Subcommand
from gracewrap.cli.unix_socket import connect
from gracewrap.cli.wait import limit_of, tell
from gracewrap.record import TYPE_CHECKING

if TYPE_CHECKING:
    from typing import Any

HEALTH_WAIT = 2.0  # seconds


def health(arguments: Arguments) -> int:
    """Print whether the service is ready, or alive; return the exit status."""
    try:
        path = subcommand.chosen(arguments).path
        answer = _get(
            path, "/livez" if arguments.live else "/readyz", limit_of(arguments, HEALTH_WAIT)
        )
    except NoAnswer as fault:
        if arguments.json:
            return _tell_json(False, {"reason": str(fault).partition("\n")[0]})
        said = str(fault).partition("\n")[0].partition("; is it")[0]
        tell(f"not healthy: {_what_python_lacks() or said}")
        return 1
    if arguments.json:
        return _tell_json(answer.status == 200, answer.fields())
    if answer.status == 200:
        tell("alive" if arguments.live else "ready")
        return 0
    fields = answer.fields()
    reason, why = fields.get("reason"), fields.get("why")
    text = " ".join(filter(None, (str(reason or ""), f"({why})" if why else "")))
    left = fields.get("seconds_left")
    seconds = f", {left:.1f} s left" if isinstance(left, int | float) else ""
    tell(f"{'not alive' if arguments.live else 'not ready'}: {text or answer.text()}{seconds}")
    return 1


def _what_python_lacks() -> str:
    """Return why nothing can answer, if that is so.

    With Debian's python3-minimal gracewrap runs a command, but cannot load what answers; who asks
    has the same Python.
    """
    try:
        import dataclasses  # noqa: F401 - the first that is missing there
    except ImportError:
        return (
            "gracewrap cannot answer with this Python, which has no complete standard library; "
            "install python3, not only python3-minimal"
        )
    return ""


def _tell_json(healthy: bool, fields: dict[str, Any]) -> int:
    """Print the answer as JSON; return the exit status."""
    from json import dumps

    tell(dumps({"healthy": healthy, **fields}, ensure_ascii=False))
    return 0 if healthy else 1


def _get(path: str, target: str, timeout: float) -> Answer:
    """Return the answer to a GET.  Raises NoAnswer.

    gracewrap closes the connection after the answer (Connection: close), so the answer ends where
    the connection does.  http.client would take 40 ms to import, as much as all the rest.
    """
    until = time.monotonic() + timeout
    data = b""
    try:
        sock = connect(path, until)
        try:
            sock.settimeout(max(0.001, until - time.monotonic()))
            sock.sendall(f"GET {target} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n".encode())
            while len(data) <= MOST and (part := sock.recv(1 << 16)):
                data += part
                sock.settimeout(max(0.001, until - time.monotonic()))
        finally:
            sock.close()
    except OSError as error:
        raise no_answer(path, timeout, error) from None
    head, _, body = data.partition(b"\r\n\r\n")
    words = head.split(None, 2)
    if len(words) < 2 or not words[0].startswith(b"HTTP/1.") or not words[1].isdigit():
        raise NoAnswer(f"no answer from {path}: this is not gracewrap's HTTP")
    return Answer(int(words[1]), body)


HEALTH = Subcommand(
    "health",
    """\
gracewrap health prints whether the service is ready, for a container's health
check. It is not ready while the command starts, drains or stops, so that a
proxy that uses the health check sends its requests elsewhere.
""",
    ("[--live] [--json] [OPTIONS]",),
    (
        Option(
            ("--live",),
            "Ask only whether it is alive, as /livez does: what `live` says. It also is while it "
            "starts, drains and stops.",
        ),
        Option(("--json",), "Print the answer as JSON."),
        PID,
        SOCKET,
        subcommand.timeout("Without an answer in this time, it is not healthy. [default: 2s]"),
    ),
    """\
Dockerfile; the default interval of 30 s would be too slow to notice a drain:
  HEALTHCHECK --interval=2s --timeout=3s CMD ["gracewrap", "health"]
Kubernetes, without a port (with one, httpGet on health.listen costs less):
  readinessProbe: {exec: {command: [gracewrap, health]}}
""",
    """\
  0    ready; with --live: alive
  1    not ready (not alive), and the line says why; or no gracewrap runs here
  125  a mistake in the options, or several gracewraps are running
""",
    health,
    more=subcommand.FINDING,
)
