"""From what was written to what a probe asks, an action does and an address is.  Imported only when
such a setting is given.

Parsers as in config.values: they take a string (flag, variable) or what TOML gives, and raise
BadValue.  Without re, which would keep the child waiting for 8 ms more, unless a selector needs it.
"""

from __future__ import annotations

from gracewrap.config import values
from gracewrap.config.parsers.commands import argv
from gracewrap.config.parsers.http_request import headers, method, request
from gracewrap.config.parsers.tables import parsed
from gracewrap.config.parsers.urls import ports, url
from gracewrap.config.probe_specs import (
    KINDS,
    AgentProbeSpec,
    CheckSpecs,
    ExecProbeSpec,
    Expect,
    FileProbeSpec,
    HttpProbeSpec,
    LogLineProbeSpec,
    NotifyProbeSpec,
    ProbeSpec,
    TcpProbeSpec,
)
from gracewrap.config.values import (
    DIGITS,
    LONGEST_TEXT,
    BadValue,
    KeyFault,
    boolean,
    number,
    path_like,
    text,
)
from gracewrap.record import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping
    from typing import Any


MOST_PROBES = 16


def confirm(raw: object) -> int:
    """Return how many in a row: 1 to 100."""
    text = (
        values.plain(raw).strip()
        if isinstance(raw, str | int) and not isinstance(raw, bool)
        else ""
    )
    if not (text.isascii() and text.isdigit()) or len(text) > 3 or not 1 <= int(text) <= 100:
        raise BadValue("not a number from 1 to 100")
    return int(text)


def status(raw: object) -> int:
    """Return an HTTP status."""
    text = (
        values.plain(raw).strip()
        if isinstance(raw, str | int) and not isinstance(raw, bool)
        else ""
    )
    if len(text) != 3 or set(text) - set(DIGITS) or text[0] not in "12345":
        raise BadValue("not a status of HTTP; write 200 or 204")
    return int(text)


def equals(raw: object) -> object:
    """Return a number, a bool or a text; "0" and "true" are what they look like, and '"0"' is the
    text."""
    if isinstance(raw, bool):
        return raw
    if isinstance(raw, int | float):
        return number(raw)
    if not isinstance(raw, str) or len(raw) > LONGEST_TEXT:
        raise BadValue('is neither a number nor a text nor true or false; write 0 or "idle"')
    word = raw.strip()
    if word in ("true", "false"):
        return word == "true"
    if len(word) > 1 and word[0] == word[-1] == '"':
        return word[1:-1]
    try:
        return number(raw)
    except BadValue:
        return raw


def unit(raw: object) -> str:
    """Return the word for what is counted."""
    if not isinstance(raw, str) or not raw.strip() or not raw.isprintable() or len(raw) > 40:
        raise BadValue('not a word for what is counted; write "jobs"')
    return raw.strip()


def _selector(parse: str, example: str) -> Callable[[object], str]:
    """Return a parser that keeps the text as it is, and has *parse* of answer_selectors look
    whether it can be read."""

    def check(raw: object) -> str:
        from gracewrap.config.parsers import answer_selectors

        if not isinstance(raw, str):
            raise BadValue(f"not a text; write {example}")
        try:
            getattr(answer_selectors, parse)(raw)
        except ValueError as fault:
            raise BadValue(str(fault)) from None
        return raw

    return check


def log_line(raw: object) -> str:
    """Return a regular expression for a line of the program."""
    if not isinstance(raw, str) or not raw:
        raise BadValue('not a regular expression; write "listening on"')
    return str(_selector("check_regex", '"listening on"')(raw))


# The settings of one probe: those of [drain], and the keys of an element of all, any and ready.
PARSERS: dict[str, Callable[[object], object]] = {
    "http": url,
    "method": method,
    "headers": headers,
    "ca": path_like("/etc/ssl/ca.pem"),
    "insecure": boolean,
    "status": status,
    "json": _selector("parse_pointer", '"/active/jobs"'),
    "metric": _selector("parse_selector", '"requests_in_flight"'),
    "text": _selector("check_regex", r'"in flight: (\\d+)"'),
    "equals": equals,
    "at_most": number,
    "absent": values.choice("busy", "zero"),
    "on_refused": values.choice("wait", "drained", "fail"),
    "tcp": ports,
    "mode": values.choice("idle", "listener-closed", "no-connections", "listening"),
    "quiet": values.duration,
    "outgoing": values.choice("wait", "quiet"),
    "exec": argv,
    "file": path_like("/run/drained"),
    "file_is": values.choice("exists", "absent"),
    "contains": text,
    "notify": boolean,
    "agent": boolean,
    "unit": unit,
}

# Seconds between two questions whether the program is healthy, where nothing else is said.
LIVE_INTERVAL = 10.0
# How a check is asked; these stand beside its probe, or beside all and any.
CHECK_PARSERS: dict[str, Callable[[object], object]] = {
    "every": values.span,
    "failures": confirm,
    "passes": confirm,
    "timeout": values.span,
}

READY_PARSERS = PARSERS | {"log_line": log_line}  # of ready, and of an element of all and any there

OF = {
    "mode": "tcp",
    "quiet": "tcp",
    "outgoing": "tcp",
    "file_is": "file",
    "contains": "file",
}  # all others are of http, but unit

_EXAMPLES = {
    "http": 'http = "http://127.0.0.1:3000/drain"',
    "tcp": 'tcp = "auto"',
    "exec": 'exec = ["./drained"]',
    "file": 'file = "/run/drained"',
    "notify": "notify = true",
    "agent": "agent = true",
}


def probe(given: Mapping[str, Any], ready: bool = False) -> ProbeSpec:
    """Put one probe together from what was given for it, parsed.

    Args:
        given: By the names of PARSERS; what was not given is not in it.
        ready: It says whether the program is ready, and not whether it is drained.

    Raises:
        KeyFault: If they do not go together.
    """
    given = {
        key: value
        for key, value in given.items()
        if value is not False or key not in ("notify", "agent", "insecure")
    }
    kind = _kind(given)
    counted = given.get("unit", "")
    match kind:
        case "http":
            return _http_probe(given, counted, ready)
        case "tcp":
            return _tcp_probe(given, counted, ready)
        case "exec":
            return ExecProbeSpec(given["exec"], counted, counts=not ready)
        case "file":
            return _file_probe(given)
        case "log_line":
            return LogLineProbeSpec(given["log_line"])
        case "agent":
            if ready:
                raise KeyFault("agent", 'it says what is in flight, for a drain; use "tcp"')
            return AgentProbeSpec()
        case _:
            return NotifyProbeSpec("READY=1") if ready else NotifyProbeSpec()


def _kind(given: Mapping[str, Any]) -> str:
    """Return which kind of probe was given.

    Raises:
        KeyFault: If it is none, or more than one, or something does not go with it.
    """
    kinds = [key for key in KINDS if key in given]
    if not kinds:
        key = next(iter(given), "")
        raise KeyFault(
            key, f"there is no probe that it could belong to; write {_example(key)} beside it"
        )
    if len(kinds) > 1:
        first, second = kinds[:2]
        raise KeyFault(
            second,
            f"there is {first} too; write all = [{{{first} = ...}}, {{{second} = ...}}], or any if "
            "one will do",
        )
    kind = kinds[0]
    for key in given:
        if (
            key not in KINDS
            and kind != OF.get(key, "http")
            and (key != "unit" or kind in ("file", "notify", "agent", "log_line"))
        ):
            what = "counts nothing" if key == "unit" else f"does not look at {key}"
            raise KeyFault(
                key,
                f"a probe by {kind} {what}; remove it, or write {_example(key)} instead of {kind}",
            )
    return kind


def _file_probe(given: Mapping[str, Any]) -> FileProbeSpec:
    state, contains = given.get("file_is", "exists"), given.get("contains", "")
    if state == "absent" and contains:
        raise KeyFault(
            "contains", "a file that is absent holds nothing; leave out this one or file_is"
        )
    return FileProbeSpec(given["file"], state, contains)


def _example(key: str) -> str:
    return _EXAMPLES[OF.get(key, "http")]


def _http_probe(given: Mapping[str, Any], counted: str, ready: bool) -> HttpProbeSpec:
    sent = request(given, "GET")
    asked = [key for key in ("status", "json", "metric", "text") if key in given]
    if len(asked) > 1:
        raise KeyFault(
            asked[1],
            f"{asked[0]} is set too, and only one of them can judge an answer; remove the other",
        )
    how = asked[0] if asked else "status"
    if "equals" in given and "at_most" in given:
        raise KeyFault("at_most", "equals is set too; remove one of them")
    compared = next((key for key in ("equals", "at_most") if key in given), None)
    if compared and how == "status":
        raise KeyFault(
            compared,
            'it needs json, metric or text to read a value from; write json = "/active", or '
            "set another status",
        )
    if "absent" in given and how != "metric":
        raise KeyFault("absent", 'only a metric can be absent; write metric = "requests_in_flight"')
    if "on_refused" in given and ready:
        raise KeyFault("on_refused", "it is for a drain; a refused connection is never ready")
    if sent.method == "HEAD" and how != "status":
        raise KeyFault("method", f'an answer to HEAD has no body to look for {how} in; write "GET"')
    if how == "metric" and not isinstance(given.get("equals", 0.0), float):
        raise KeyFault("equals", "a metric is a number; write 0")
    if ready and how != "status" and not compared:
        raise KeyFault(how, 'nobody can tell which value means ready; add equals, as equals = "ok"')
    expect = Expect(
        how,
        given.get(how, "") if how != "status" else "",
        given.get("status", 200),
        given.get("equals", 0.0),
        given.get("at_most"),
        given.get("absent", "busy"),
    )
    return HttpProbeSpec(sent, expect, given.get("on_refused", "wait"), counted)


def _tcp_probe(given: Mapping[str, Any], counted: str, ready: bool) -> TcpProbeSpec:
    mode = given.get("mode", "listening" if ready else "idle")
    if ready != (mode == "listening"):
        which = (
            "a program that listens is ready; remove it"
            if ready
            else 'that is for ready; write "idle"'
        )
        raise KeyFault("mode", which)
    if "quiet" in given and mode != "idle":
        raise KeyFault("quiet", 'it is looked at with mode = "idle" only; remove it')
    if "outgoing" in given and ready:
        raise KeyFault("outgoing", "it is looked at in a drain only; remove it")
    return TcpProbeSpec(
        given["tcp"], mode, given.get("quiet", 2.0), counted, given.get("outgoing", "wait")
    )


def element(raw: object, ready: bool = False) -> ProbeSpec:
    """Return one probe from a table, or from "tcp", "notify" or a URL."""
    if isinstance(raw, str):
        word = raw.strip()
        if word in ("tcp", "notify", "agent"):
            return probe({word: () if word == "tcp" else True}, ready)
        if "://" in word or ":" in word:
            try:
                return probe({"http": url(word)}, ready)
            except BadValue as fault:
                from gracewrap.config import probe_suggestions

                raise BadValue(probe_suggestions.with_colon(word) or str(fault)) from None
    if not isinstance(raw, dict):
        from gracewrap.config import probe_suggestions

        raise BadValue(f"not a probe; {probe_suggestions.probe(raw)}")
    try:
        return probe(parsed(raw, READY_PARSERS if ready else PARSERS), ready)
    except KeyFault as fault:
        raise BadValue(
            f"{fault.key}: {fault}" if fault.key else 'is empty; write {tcp = "auto"}'
        ) from None


def elements(raw: object, ready: bool = False) -> tuple[ProbeSpec, ...]:
    """Return several probes from a list of tables."""
    if not isinstance(raw, list) or not raw or len(raw) > MOST_PROBES:
        raise BadValue(
            f'not a list of 1 to {MOST_PROBES} probes; write [{{tcp = "auto"}}, {{http = '
            f'"http://127.0.0.1:3000/drain"}}]'
        )
    found = []
    for position, one in enumerate(raw, 1):
        try:
            found.append(element(one, ready))
        except BadValue as fault:
            raise BadValue(f"its probe {position}: {fault}") from None
    return tuple(found)


def ready(raw: object) -> CheckSpecs:
    """Return what says that the program is ready: one probe, or {all = [...]}, {any = [...]}; in a
    table also how it is asked (CHECK_PARSERS)."""
    how, probes, combine = _check(raw)
    return CheckSpecs(probes, combine, **{"every": usual_interval(probes), **how})


def live(raw: object) -> CheckSpecs:
    """Return what says that the program is healthy, as ready()."""
    how, probes, combine = _check(raw)
    for one in probes:
        if isinstance(one, LogLineProbeSpec):
            raise BadValue("log_line tells that a program is ready, not that it is still healthy")
        if isinstance(one, NotifyProbeSpec):
            raise BadValue(
                'what tells by notify that it is healthy is a watchdog; write watchdog = "30s"'
            )
    return CheckSpecs(probes, combine, **{"every": LIVE_INTERVAL, **how})


def _check(raw: object) -> tuple[dict[str, Any], tuple[ProbeSpec, ...], str]:
    """Return how a check is asked, its probes, and how they are combined."""
    how: dict[str, Any] = {}
    if isinstance(raw, dict):
        try:
            how = parsed({key: raw[key] for key in raw if key in CHECK_PARSERS}, CHECK_PARSERS)
        except KeyFault as fault:
            raise BadValue(f"{fault.key}: {fault}") from None
        raw = {key: value for key, value in raw.items() if key not in CHECK_PARSERS}
        if how and not raw:
            raise BadValue('has no probe; add http = "http://127.0.0.1:3000/health"')
    if not isinstance(raw, dict) or not {"all", "any"}.intersection(raw):
        return how, (element(raw, True),), "all"
    if len(raw) > 1:
        raise BadValue("has all or any, and something beside it; put that into the list")
    combine = next(iter(raw))
    return how, elements(raw[combine], True), combine


def usual_interval(probes: Iterable[ProbeSpec]) -> float:
    """Return the seconds between two questions whether the program is ready, where nothing else is
    said: a command that is run costs more than a question."""
    return 5.0 if any(isinstance(one, ExecProbeSpec) for one in probes) else 1.0
