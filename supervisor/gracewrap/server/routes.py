"""The paths and methods of the HTTP server, and what each of them returns.

The content comes from a Backend, which the runtime implements.
"""

from __future__ import annotations

from gracewrap.record import TYPE_CHECKING, Record
from gracewrap.report.json_encoder import dumps

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from typing import Protocol
else:
    Protocol = object

METRICS_TYPE = "text/plain; version=0.0.4; charset=utf-8"  # of the Prometheus text format
JSON, TEXT = "application/json", "text/plain; charset=utf-8"


class Backend(Protocol):
    """What the HTTP server needs to know; implemented by the runtime.

    No method may block.  An exception is logged and answered with 500.
    """

    def is_ready(self) -> tuple[bool, Mapping[str, object]]:
        """Return whether new work is welcome, and further fields ("reason": "stopping")."""

    def is_live(self) -> tuple[bool, Mapping[str, object]]:
        """Return whether the programs are healthy, as far as that is known, and further fields."""

    def status(self, options: Mapping[str, str]) -> tuple[int, Mapping[str, object]]:
        """Return an HTTP status and the whole state: programs, phase, in flight, seconds left.

        Args:
            options: The parameters of the query; of a repeated one, the last value.
        """

    def metrics(self) -> str:
        """Return the metrics as Prometheus text (report/metrics.py)."""

    def act(
        self, action: str, options: Mapping[str, str], peer: str
    ) -> tuple[int, Mapping[str, object]]:
        """Perform an action; return an HTTP status and the fields of the response.

        Args:
            action: "drain", "undrain", "stop", "restart", "signal" or "reopen".
            options: The parameters of the query; of a repeated one, the last value.  "program"
                selects programs for a stop, a restart or a signal, separated by commas; "signal"
                names that.
            peer: The client, for people: "pid 7, uid 0".
        """


class Response(Record):
    """A response, apart from what HTTP itself adds."""

    status: int
    body: bytes
    content_type: str = TEXT
    headers: tuple[tuple[str, str], ...] = ()


def text(status: int, body: str, *headers: tuple[str, str]) -> Response:
    """Return a response for people."""
    return Response(status, (body + "\n").encode(), TEXT, headers)


def json(status: int, body: Mapping[str, object]) -> Response:
    """Return a response for machines: JSON on one line."""
    return Response(status, (dumps(dict(body)) + "\n").encode(), JSON)


def _live(backend: Backend, _: Mapping[str, str]) -> Response:
    live, more = backend.is_live()
    return json(200 if live else 503, {"live": live, **more})


def _ready(backend: Backend, _: Mapping[str, str]) -> Response:
    ready, more = backend.is_ready()
    return json(200 if ready else 503, {"ready": ready, **more})


def _metrics(backend: Backend, _: Mapping[str, str]) -> Response:
    return Response(200, backend.metrics().encode(errors="replace"), METRICS_TYPE)


def _status(backend: Backend, options: Mapping[str, str]) -> Response:
    return json(*backend.status(options))


PAGES: dict[str, Callable[[Backend, Mapping[str, str]], Response]] = {
    "/livez": _live,
    "/health/live": _live,
    "/readyz": _ready,
    "/health/ready": _ready,
    "/metrics": _metrics,
    "/status": _status,
}
ACTIONS = ("/drain", "/undrain", "/stop", "/restart", "/signal", "/reopen")
END = "/end"  # on the control socket: the answer comes when the run has ended, and is its summary
READ = ("GET", "HEAD")


def methods(control: bool) -> tuple[str, ...]:
    """Return the methods that are supported on at least one path."""
    return (*READ, "POST") if control else READ


def not_allowed(methods: tuple[str, ...]) -> Response:
    """Return the response to a method other than *methods*."""
    allowed = ", ".join(methods)
    return text(405, f"Method not allowed; use {' or '.join(methods)}.", ("Allow", allowed))


def waits_for_end(method: str, target: str, control: bool) -> bool:
    """Return whether a request is to be answered when the run has ended."""
    return control and method == "GET" and _without_origin(target).partition("?")[0] == END


def respond(backend: Backend, method: str, target: str, control: bool, peer: str = "") -> Response:
    """Return the response to a request; raises what *backend* raises.

    Args:
        backend: Provides the content.
        method: One of methods(control).
        target: From the request line: a path and a query, or a whole URL (RFC 9112, section 3.2.2).
        control: Whether the request came over the control socket, which accepts actions.
        peer: The client on the control socket.
    """
    path, _, query = _without_origin(target).partition("#")[0].partition("?")
    if path in PAGES:
        return PAGES[path](backend, parse_query(query)) if method in READ else not_allowed(READ)
    if control and path in ACTIONS:
        if method != "POST":
            return not_allowed(("POST",))
        return json(*backend.act(path[1:], parse_query(query), peer))
    actions = [END, *(f"POST {action}" for action in ACTIONS)] if control else []
    return text(404, "\n".join(["Not found. Available:", *PAGES, *actions]))


def _without_origin(target: str) -> str:
    """Return path and query of an absolute-form target; any other target unchanged."""
    scheme, found, rest = target.partition("://")
    if not found or not scheme.isalnum():
        return target
    path_at = min((at for at in map(rest.find, "/?") if at >= 0), default=len(rest))
    return rest[path_at:] if rest[path_at : path_at + 1] == "/" else "/" + rest[path_at:]


def parse_query(query: str) -> dict[str, str]:
    """Return the parameters of a query (application/x-www-form-urlencoded).

    A name without a value has the value "".
    """
    pairs = [part.partition("=") for part in query.split("&") if part]
    return {_unquote(name): _unquote(value) for name, _, value in pairs}


def _unquote(encoded: str) -> str:
    """Decode + and %XX; invalid sequences stay as they are."""
    first, *rest = encoded.replace("+", " ").encode(errors="replace").split(b"%")
    decoded = [first]
    for part in rest:
        try:
            if len(part[:2].strip()) != 2:
                raise ValueError  # bytes.fromhex() ignores blanks
            decoded += [bytes.fromhex(part[:2].decode()), part[2:]]
        except ValueError:
            decoded += [b"%", part]
    return b"".join(decoded).decode(errors="replace")
