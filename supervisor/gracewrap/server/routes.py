"""What there is to be asked, and what is answered: known to the server by its path, and to the rest
by Source alone."""

from __future__ import annotations

from gracewrap.record import TYPE_CHECKING, Record
from gracewrap.report.json_text import dumps

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from typing import Protocol
else:
    Protocol = object

METRICS_TYPE = "text/plain; version=0.0.4; charset=utf-8"  # of the Prometheus text format
JSON, TEXT = "application/json", "text/plain; charset=utf-8"


class Source(Protocol):
    """What answers are made of: the loop implements it.  None of these may wait; what they raise
    becomes a 500 and is told."""

    def is_ready(self) -> tuple[bool, Mapping[str, object]]:
        """Return whether new work is welcome, and what else to say about it ("reason":
        "stopping")."""

    def status(self, options: Mapping[str, str]) -> tuple[int, Mapping[str, object]]:
        """Return HTTP status and everything that is known: programs, phase, in flight, seconds
        left.

        Args:
            options: What stands in the query, the last of each name.
        """

    def metrics(self) -> str:
        """Return the metrics as Prometheus text (report/metrics.py)."""

    def act(
        self, action: str, options: Mapping[str, str], peer: str
    ) -> tuple[int, Mapping[str, object]]:
        """Do what *peer* (in people's words) asks for, and return HTTP status and answer.

        Args:
            action: "drain", "undrain", "stop" or "restart".
            options: What stands in the query, the last of each name: "program", for a stop and a
                restart; several with commas.
            peer: Who asks: "pid 7, uid 0".
        """


class Answer(Record):
    """What is answered, but for what HTTP needs."""

    status: int
    body: bytes
    content_type: str = TEXT
    headers: tuple[tuple[str, str], ...] = ()


def text(status: int, body: str, *headers: tuple[str, str]) -> Answer:
    """Return an answer for people."""
    return Answer(status, (body + "\n").encode(), TEXT, headers)


def json(status: int, body: Mapping[str, object]) -> Answer:
    """Return an answer for machines: JSON on one line."""
    return Answer(status, (dumps(dict(body)) + "\n").encode(), JSON)


def _live(_: Source, __: Mapping[str, str]) -> Answer:
    return json(200, {"live": True})


def _ready(source: Source, _: Mapping[str, str]) -> Answer:
    ready, more = source.is_ready()
    return json(200 if ready else 503, {"ready": ready, **more})


def _metrics(source: Source, _: Mapping[str, str]) -> Answer:
    return Answer(200, source.metrics().encode(errors="replace"), METRICS_TYPE)


def _status(source: Source, options: Mapping[str, str]) -> Answer:
    return json(*source.status(options))


PAGES: dict[str, Callable[[Source, Mapping[str, str]], Answer]] = {
    "/livez": _live,
    "/health/live": _live,
    "/readyz": _ready,
    "/health/ready": _ready,
    "/metrics": _metrics,
    "/status": _status,
}
ACTIONS = ("/drain", "/undrain", "/stop", "/restart")
READ = ("GET", "HEAD")


def methods(control: bool) -> tuple[str, ...]:
    """Return the methods that there is any use for."""
    return (*READ, "POST") if control else READ


def not_allowed(methods: tuple[str, ...]) -> Answer:
    """Return the answer to another method."""
    return text(405, f"There is only {', '.join(methods)} here.", ("Allow", ", ".join(methods)))


def answer(source: Source, method: str, target: str, control: bool, peer: str = "") -> Answer:
    """Return the answer to a request whose method is one of methods(control); raises what *source*
    raises.

    Args:
        source: Who knows.
        method: GET, HEAD or, on a control socket, POST.
        target: From the request line: a path and a query, or a whole URL (RFC 9112, section 3.2.2).
        control: Whether it came by a control socket, on which actions are taken.
        peer: Who asks there.
    """
    path, _, query = _without_origin(target).partition("#")[0].partition("?")
    if path in PAGES:
        return PAGES[path](source, options(query)) if method in READ else not_allowed(READ)
    if control and path in ACTIONS:
        return (
            json(*source.act(path[1:], options(query), peer))
            if method == "POST"
            else not_allowed(("POST",))
        )
    return text(
        404,
        "\n".join(
            [
                "There is no such path. There are:",
                *PAGES,
                *(f"POST {one}" for one in ACTIONS if control),
            ]
        ),
    )


def _without_origin(target: str) -> str:
    """Return path and query of an absolute-form target; any other as it is."""
    scheme, found, rest = target.partition("://")
    if not found or not scheme.isalnum():
        return target
    cut = min((at for at in map(rest.find, "/?") if at >= 0), default=len(rest))
    return rest[cut:] if rest[cut : cut + 1] == "/" else "/" + rest[cut:]


def options(query: str) -> dict[str, str]:
    """Return what a query says (application/x-www-form-urlencoded); a name without a value has the
    value ""."""
    pairs = [part.partition("=") for part in query.split("&") if part]
    return {_decoded(name): _decoded(value) for name, _, value in pairs}


def _decoded(encoded: str) -> str:
    """Return *encoded* without its + and %XX; what is not well-formed stays as it is."""
    first, *rest = encoded.replace("+", " ").encode(errors="replace").split(b"%")
    out = [first]
    for part in rest:
        try:
            out += (
                [bytes.fromhex(part[:2].decode()), part[2:]]
                if len(part[:2].strip()) == 2
                else [b"%", part]
            )
        except ValueError:
            out += [b"%", part]
    return b"".join(out).decode(errors="replace")
