"""Parses what is sent in an HTTP request: method, headers, body."""

from __future__ import annotations

from gracewrap.config import values
from gracewrap.config.probe_specs import Header, Request
from gracewrap.config.values import DIGITS, LETTERS, LONGEST_BODY, BadValue, KeyFault
from gracewrap.record import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping
    from typing import Any


_TOKEN = frozenset(LETTERS + DIGITS + "!#$%&'*+-.^_`|~")  # RFC 9110, 5.6.2

_OURS = {
    "connection",
    "content-length",
    "transfer-encoding",
}  # headers that say how the request is sent


def headers(raw: object) -> tuple[Header, ...]:
    """Return headers from {Accept = "text/plain", Authorization = {file = "/run/secrets/x", prefix
    = "Bearer "}}.

    In a flag or a variable: "Accept: text/plain", further ones on lines of their own.
    """
    if isinstance(raw, str):
        pairs = [_header_line(line) for line in raw.split("\n") if line.strip()]
    elif isinstance(raw, dict):
        pairs = list(raw.items())
    elif isinstance(raw, list):
        pairs = [_header_line(line) for line in raw]
    else:
        raise BadValue('not headers; write {Accept = "text/plain"}')
    if len(pairs) > 50:
        raise BadValue("has more than 50 headers")
    return tuple(_header(str(name), value) for name, value in pairs)


def _header_line(raw: object) -> tuple[str, object]:
    name, colon, value = raw.partition(":") if isinstance(raw, str) else ("", "", "")
    if not colon:
        raise BadValue('each is a name and a value; write "Accept: text/plain"')
    return name.strip(), value.strip()


def _header(name: str, value: object) -> Header:
    if not name or not _TOKEN.issuperset(name):
        raise BadValue('has a name that no header can have; write {Accept = "text/plain"}')
    if name.lower() in _OURS:
        raise BadValue(f"{name} is written by gracewrap; remove it")
    if isinstance(value, str):
        return Header(name, _header_text(name, value))
    if (
        not isinstance(value, dict)
        or set(value) - {"env", "file", "prefix"}
        or ("env" in value) == ("file" in value)
    ):
        raise BadValue(
            f'{name} is neither text nor a place to find it; write {{env = "X"}} or {{file = '
            f'"/run/secrets/x"}}'
        )
    prefix = _header_text(name, value.get("prefix", ""))
    if "file" in value:
        path = values.path(value["file"])
        if path is None:
            raise BadValue(f'{name} has an empty file; write {{file = "/run/secrets/x"}}')
        return Header(name, prefix, file=path)
    variable = value["env"]
    if (
        not isinstance(variable, str)
        or not variable
        or "=" in variable
        or not variable.isprintable()
    ):
        raise BadValue(f'{name} has no name of a variable; write {{env = "TOKEN"}}')
    return Header(name, prefix, env=variable)


def _header_text(name: str, value: object) -> str:
    if (
        not isinstance(value, str)
        or not value.replace("\t", " ").isprintable()
        or not value.isascii()
    ):
        raise BadValue(f"{name} holds what no header can, a line end or a letter that is not ASCII")
    return value


def method(raw: object) -> str:
    """Return the method of a request."""
    word = raw.strip().upper() if isinstance(raw, str) else ""
    if not 3 <= len(word) <= 20 or set(word) - set(LETTERS) or word in ("CONNECT", "TRACE"):
        raise BadValue('not a method; write "GET" or "POST"')
    return word


def request(given: Mapping[str, Any], verb: str, body: bytes = b"") -> Request:
    """Put a request together; *verb* is its method if none was given."""
    url, ca, insecure = given["http"], given.get("ca"), given.get("insecure", False)
    for key in ("ca", "insecure"):
        if given.get(key) and url.scheme != "https":
            raise KeyFault(key, "it applies to https only, and the URL is not https; remove it")
    if ca and insecure:
        raise KeyFault(
            "insecure",
            "insecure skips certificate verification, so ca has no effect; remove one of them",
        )
    return Request(url, given.get("method", verb), given.get("headers", ()), body, ca, insecure)


def parse_body(raw: object) -> bytes:
    if not isinstance(raw, str) or len(raw) > LONGEST_BODY:
        raise BadValue(f"not a text of at most {LONGEST_BODY} characters")
    return raw.encode(errors="surrogateescape")
