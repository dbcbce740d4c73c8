"""Parses hooks: pre_stop, post_stop and drain.start, each a command or an HTTP request."""

from __future__ import annotations

from gracewrap.config.parsers.commands import argv
from gracewrap.config.parsers.http_request import parse_body, request
from gracewrap.config.parsers.probes import PARSERS
from gracewrap.config.parsers.tables import parsed
from gracewrap.config.parsers.urls import url
from gracewrap.config.probe_specs import Action, CommandAction, HttpAction, Request
from gracewrap.config.values import BadValue, KeyFault, span
from gracewrap.record import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any


_ACTION: dict[str, Callable[[object], object]] = {
    "command": argv,
    **{key: PARSERS[key] for key in ("http", "method", "headers", "ca", "insecure")},
    "body": parse_body,
    "timeout": span,
}


def action(raw: object) -> Action:
    """Return what a hook does: ["./script"] or "./script x" runs it; a URL is sent a POST; a table
    says more."""
    if isinstance(raw, str) and "://" in raw and len(raw.split()) == 1:
        return HttpAction(Request(url(raw), "POST"))
    if not isinstance(raw, dict):
        if not isinstance(raw, str | list):
            raise BadValue(
                'is neither a command nor a URL; write ["./script"] or '
                '"http://127.0.0.1:3000/drain"'
            )
        return CommandAction(argv(raw))
    try:
        given: dict[str, Any] = parsed(raw, _ACTION)
        timeout = given.pop("timeout", None)
        if ("command" in given) == ("http" in given):
            raise BadValue(
                'needs command or http, one of them; write {command = ["./script"], timeout = "5s"}'
            )
        if "command" in given:
            if strange := next((key for key in given if key != "command"), None):
                raise KeyFault(strange, "it is for http; remove it")
            return CommandAction(given["command"], timeout)
        return HttpAction(request(given, "POST", given.get("body", b"")), timeout)
    except KeyFault as fault:
        raise BadValue(f"{fault.key}: {fault}") from None
