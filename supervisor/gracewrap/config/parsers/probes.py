"""From what was written to what a probe asks, an action does and an address is.  Imported only when such a setting is given.

Parsers as in config.values: they take a string (flag, variable) or what TOML gives, and raise BadValue.  Without re, which
would keep the child waiting for 8 ms more, unless a selector needs it.
"""

from __future__ import annotations

import _socket

from gracewrap.config.parsers import values
from gracewrap.config.parsers.values import BadValue
from gracewrap.config.probe_specs import (
    Action,
    Address,
    CommandAction,
    ExecProbe,
    Expect,
    FileProbe,
    Header,
    HttpAction,
    HttpProbe,
    LogLineProbe,
    NotifyProbe,
    Probe,
    Probes,
    Request,
    TcpProbe,
    Url,
)
from gracewrap.record import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from typing import Any

LONGEST_TEXT, LONGEST_URL, LONGEST_BODY = 1000, 4096, 1 << 16
LONGEST_PATH = 107  # bytes of a unix socket's name: sun_path of unix(7), less the NUL
MOST_PROBES = 16
SHORTEST = 0.01  # seconds; a shorter pause or limit only burns the processor
PORTS = {"http": 80, "https": 443}

_LETTERS = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ"
_DIGITS = "0123456789"
_TOKEN = frozenset(_LETTERS + _DIGITS + "!#$%&'*+-.^_`|~")  # RFC 9110, 5.6.2
_HOST = frozenset(_LETTERS + _DIGITS + "._-")
_OURS = {"connection", "content-length", "host", "transfer-encoding"}  # headers that say how the request is sent


class KeyFault(BadValue):
    """A setting of a probe that does not go with the others."""

    def __init__(self, key: str, text: str) -> None:
        super().__init__(text)
        self.key = key


# --- URLs and addresses -----------------------------------------------------------------------------------------------


def url(raw: object) -> Url:
    """Return a URL from "http://127.0.0.1:3000/drain", "https://..." or "unix:///run/app.sock:/drain"."""
    if not isinstance(raw, str):
        port = raw if isinstance(raw, int) and not isinstance(raw, bool) and 1 <= raw <= 65535 else 0
        raise BadValue(f'not a URL; write "http://127.0.0.1:{f"{port}/" if port else "3000/drain"}"')
    text = raw.strip()
    if len(text) > LONGEST_URL:
        raise BadValue(f"has more than {LONGEST_URL} characters")
    if not text.isascii() or not text.isprintable() or " " in text:
        raise BadValue("holds a space or another character that no URL can; write it with %, as %20")
    scheme, separator, rest = text.partition("://")
    scheme = scheme.lower()
    if not separator:
        raise BadValue(_no_scheme(text))
    if scheme not in (*PORTS, "unix"):
        raise BadValue("is neither http:// nor https:// nor unix://, and no others are spoken")
    if "#" in rest:
        raise BadValue("has a fragment, which is never sent; leave out the # and what follows it")
    return _unix(rest) if scheme == "unix" else _http(scheme, rest)


def _no_scheme(text: str) -> str:
    if not text:
        return 'is empty; write "http://127.0.0.1:3000/drain"'
    if text.startswith("/"):
        return f'has no host; write "http://127.0.0.1:3000{text}", or "unix://{text}:/" if it is a socket'
    scheme, _, rest = text.partition(":")
    if scheme.lower() in PORTS and (rest.isdigit() or (rest[:1] == "/" and rest[1:].isalpha())):
        host = f"127.0.0.1:{rest}/" if rest.isdigit() else f"127.0.0.1:3000{rest}"
        return f'has no host; write "{scheme.lower()}://{host}"'
    if scheme.lower() in (*PORTS, "unix"):
        return f'write "{scheme.lower()}://{"/" * (scheme == "unix")}{rest.lstrip("/")}"'
    return f'has no scheme; write "http://{"127.0.0.1" * text.startswith(":")}{text}"'


def _unix(rest: str) -> Url:
    path, colon, target = rest.partition(":")
    if not path.startswith("/"):
        raise BadValue('the path of a socket starts with /; write "unix:///run/app.sock:/drain"')
    if colon and not target.startswith("/"):
        raise BadValue('after the socket comes the path of the request; write "unix:///run/app.sock:/drain"')
    return Url("unix", _socket_path(path), 0, target or "/")


def _socket_path(path: str) -> str:
    """Return *path*; refuse what is no name of a unix socket."""
    if "\0" in path or len(path.encode(errors="surrogateescape")) > LONGEST_PATH or path.endswith("/"):
        raise BadValue(f"is no path of a socket: that has at most {LONGEST_PATH} bytes, and ends in a name")
    return path


def _http(scheme: str, rest: str) -> Url:
    end = min((at for at in (rest.find("/"), rest.find("?")) if at >= 0), default=len(rest))
    authority, target = rest[:end], rest[end:]
    if "@" in authority:
        raise BadValue('names a user, which would show in the log; write a header: {Authorization = {file = "/run/secrets/x"}}')
    host, port = host_and_port(authority)
    if not host:
        raise BadValue(f'has no host; write "{scheme}://127.0.0.1{":" * (port is not None)}{port or ""}{target}"')
    return Url(scheme, host, PORTS[scheme] if port is None else port, target if target.startswith("/") else f"/{target}")


def host_and_port(text: str) -> tuple[str, int | None]:
    """Take "name:80", "127.0.0.1", "[::1]:80", ":80" apart; an IPv6 address is returned without its brackets."""
    if text.startswith("["):
        host, bracket, rest = text[1:].partition("]")
        if not bracket or (rest and not rest.startswith(":")) or not _is_address(_socket.AF_INET6, host):
            raise BadValue('has no IPv6 address in its brackets; write "[::1]:3000"')
        return host.lower(), port_number(rest[1:]) if rest else None
    host, colon, number = text.partition(":")
    if ":" in number:
        raise BadValue('has an IPv6 address without brackets, or two ports; write "[::1]:3000"')
    port = port_number(number) if colon else None
    if host and (len(host) > 253 or not _HOST.issuperset(host) or host[0] in "._-" or host[-1] in "_-"):
        raise BadValue("its host is neither a name nor an address")
    if host and set(host) <= set("0123456789.") and not _is_address(_socket.AF_INET, host):
        raise BadValue('its host is no IPv4 address; write "127.0.0.1"')
    return host.lower(), port


def _is_address(family: int, text: str) -> bool:
    try:
        _socket.inet_pton(family, text)
    except (OSError, ValueError):  # ValueError: a NUL
        return False
    return True


def port_number(raw: object) -> int:
    """Return a port: 1 to 65535."""
    text = values.plain(raw).strip() if isinstance(raw, str | int) and not isinstance(raw, bool) else ""
    if not (text.isascii() and text.isdigit()) or len(text) > 9 or not 1 <= int(text) <= 65535:
        raise BadValue("a port goes from 1 to 65535")
    return int(text)


def addresses(raw: object) -> tuple[Address, ...]:
    """Return where to listen, from ["127.0.0.1:9000", "unix:/run/x.sock"] or the same with commas; "9000" and ":9000" are all."""
    found = tuple(_address(word) for word in values.words(raw, '["127.0.0.1:9000"]'))
    if len(set(found)) < len(found):
        raise BadValue("names an address twice; leave one out")
    if len(found) > 8:
        raise BadValue("names more than 8 addresses")
    return found


def _address(raw: object) -> Address:
    example = 'write "127.0.0.1:9000", "[::1]:9000", ":9000" or "unix:/run/gracewrap-health.sock"'
    if isinstance(raw, bool) or not isinstance(raw, str | int):
        raise BadValue(f"not an address; {example}")
    text = values.plain(raw).strip()
    if text.startswith("unix:"):
        path = text.removeprefix("unix:").removeprefix("//")
        if not path.startswith("/"):
            raise BadValue('the path of a socket starts with /; write "unix:/run/gracewrap-health.sock"')
        return Address(path=_socket_path(path))
    if "/" in text:
        raise BadValue(f"not an address: {example}")
    if text.isascii() and text.isdigit():
        return Address("", port_number(text))
    host, port = host_and_port(text)
    if host and ":" not in host and not _is_address(_socket.AF_INET, host):
        raise BadValue(
            'names a host; write its address, "127.0.0.1:9000" for localhost' if port else f"not an address; {example}"
        )
    if port is None:
        raise BadValue(f'has no port; write "{f"[{host}]" if ":" in host else host}:9000"')
    return Address(host, port)


def control_socket(raw: object) -> str:
    """Return "auto", "off", or an absolute path."""
    if isinstance(raw, str) and raw.strip().lower() in ("auto", "off"):
        return raw.strip().lower()
    found = values.path(raw)
    if found is None:
        raise BadValue('is empty; write "auto", "off" or a path')
    return _socket_path(found)


def gateway(raw: object) -> Url:
    """Return the URL of a Prometheus Pushgateway; the path of the job is added when metrics are pushed."""
    found = url(raw)
    if found.scheme == "unix":
        raise BadValue('a pushgateway has a host; write "http://pushgateway:9091"')
    if "/metrics" in found.target or "?" in found.target:
        raise BadValue('the path is added by gracewrap; write "http://pushgateway:9091", and the job as pushgateway_job')
    return found


def job(raw: object) -> str:
    """Return a job's name, as it stands in the path of a push."""
    if not isinstance(raw, str) or not raw.strip() or "/" in raw or not raw.isprintable() or len(raw) > 100:
        raise BadValue('not a name of a job; write "web"')
    return raw.strip()


# --- words and headers ------------------------------------------------------------------------------------------------


def argv(raw: object) -> tuple[str, ...]:
    """Return the words of a command, from a list, or from a string as a shell would split it."""
    return values.command(split_words(raw) if isinstance(raw, str) else raw)


def split_words(text: str) -> list[str]:
    """Split as a shell does, and refuse what only a shell can do."""
    if done_by_a_shell := for_a_shell(text):
        raise BadValue(
            f"no shell would read its {done_by_a_shell}; write sh -c '...', or put it in quotes if it is meant as it stands"
        )
    import shlex

    try:
        words = shlex.split(text)
    except ValueError as error:  # "No closing quotation"
        raise BadValue(f"cannot be split into words: {str(error).lower()}; write it as a list") from None
    if not words:
        raise BadValue('is empty; write ["./drained.sh"]')
    return words


_EXPANSIONS = ("`", *(f"${letter}" for letter in "({_" + _LETTERS))
_OPERATORS = ("&&", "||", ">>", "<<", ";", "|", "&", "<", ">", "\n", *_EXPANSIONS)


def for_a_shell(text: str) -> str:
    """Return the first operator or expansion that no quotes keep from a shell (double quotes do not keep a $), or ""."""
    quote, at = "", 0
    while at < len(text):
        letter = text[at]
        if letter == "\\" and quote != "'":
            at += 2
            continue
        if letter in "'\"" and quote in ("", letter):
            quote = "" if quote else letter
        elif quote != "'":
            for word in _EXPANSIONS if quote else _OPERATORS:
                if text.startswith(word, at):
                    return "line end" if word == "\n" else word
        at += 1
    return ""


def headers(raw: object) -> tuple[Header, ...]:
    """Return headers from {Accept = "text/plain", Authorization = {file = "/run/secrets/x", prefix = "Bearer "}}.

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
        raise BadValue(f"{name} is written by gracewrap; leave it out")
    if isinstance(value, str):
        return Header(name, _header_text(name, value))
    if not isinstance(value, dict) or set(value) - {"env", "file", "prefix"} or ("env" in value) == ("file" in value):
        raise BadValue(f'{name} is neither text nor a place to find it; write {{env = "X"}} or {{file = "/run/secrets/x"}}')
    prefix = _header_text(name, value.get("prefix", ""))
    if "file" in value:
        path = values.path(value["file"])
        if path is None:
            raise BadValue(f'{name} has an empty file; write {{file = "/run/secrets/x"}}')
        return Header(name, prefix, file=path)
    variable = value["env"]
    if not isinstance(variable, str) or not variable or "=" in variable or not variable.isprintable():
        raise BadValue(f'{name} has no name of a variable; write {{env = "TOKEN"}}')
    return Header(name, prefix, env=variable)


def _header_text(name: str, value: object) -> str:
    if not isinstance(value, str) or not value.replace("\t", " ").isprintable() or not value.isascii():
        raise BadValue(f"{name} holds what no header can, a line end or a letter that is not ASCII")
    return value


def method(raw: object) -> str:
    """Return the method of a request."""
    word = raw.strip().upper() if isinstance(raw, str) else ""
    if not 3 <= len(word) <= 20 or set(word) - set(_LETTERS) or word in ("CONNECT", "TRACE"):
        raise BadValue('not a method; write "GET" or "POST"')
    return word


# --- small values -----------------------------------------------------------------------------------------------------


def boolean(raw: object) -> bool:
    """Return yes or no."""
    word = raw.strip().lower() if isinstance(raw, str) else raw
    if word in ("true", "yes", "on", "1") or word is True:
        return True
    if word in ("false", "no", "off", "0") or word is False:
        return False
    raise BadValue("is neither true nor false")


def span(raw: object) -> float:
    """Return a duration that is not nothing."""
    seconds = values.duration(raw)
    if seconds < SHORTEST:
        raise BadValue(f'is too short; write at least "{values.show_duration(SHORTEST * 1000).removesuffix("s")}ms"')
    return seconds


def span_or_off(raw: object) -> float | None:
    """Return a duration, or None for "off"."""
    return None if isinstance(raw, str) and raw.strip().lower() == "off" else values.duration(raw)


def confirm(raw: object) -> int:
    """Return how many in a row: 1 to 100."""
    text = values.plain(raw).strip() if isinstance(raw, str | int) and not isinstance(raw, bool) else ""
    if not (text.isascii() and text.isdigit()) or len(text) > 3 or not 1 <= int(text) <= 100:
        raise BadValue("not a number from 1 to 100")
    return int(text)


def status(raw: object) -> int:
    """Return an HTTP status."""
    text = values.plain(raw).strip() if isinstance(raw, str | int) and not isinstance(raw, bool) else ""
    if len(text) != 3 or set(text) - set(_DIGITS) or text[0] not in "12345":
        raise BadValue("not a status of HTTP; write 200 or 204")
    return int(text)


def equals(raw: object) -> object:
    """Return a number, a bool or a text; "0" and "true" are what they look like, and '"0"' is the text."""
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


def number(raw: object) -> float:
    """Return a number."""
    text = values.plain(raw).strip() if isinstance(raw, str | int | float) and not isinstance(raw, bool) else ""
    try:
        found = float(text) if len(text) <= 40 and not set(text) - set(_DIGITS + "+-.eE") else None
    except ValueError:
        found = None
    if found is None or abs(found) > 1e300:  # 1e999 is infinite
        raise BadValue("not a number; write 0")
    return found


def ports(raw: object) -> tuple[int, ...]:
    """Return ports from "auto" or true (none: those that the program listens on), [3000, 3001], 3000 or "3000,3001"."""
    if raw is True or (isinstance(raw, str) and raw.strip().lower() in ("auto", "true")):
        return ()
    if isinstance(raw, bool) or not isinstance(raw, str | int | list):
        raise BadValue('is neither "auto" nor ports; write "auto" or [3000]')
    try:
        found = tuple(dict.fromkeys(port_number(word) for word in values.words(raw, "[3000]")))
    except BadValue as fault:
        _, colon, port = raw.rpartition(":") if isinstance(raw, str) else ("", "", "")
        if colon and port.isascii() and port.isdigit():
            raise BadValue(f"names a host, and it is the ports of the program that are looked at; write [{port}]") from None
        raise BadValue(f'{fault}; write "auto" or [3000]') from None
    if not found or len(found) > 100:
        raise BadValue('names no port, or more than 100; write "auto" or [3000]')
    return found


def _path(example: str) -> Callable[[object], str]:
    """Return a parser that takes a path and returns it absolute; an empty one is refused."""

    def parse(raw: object) -> str:
        found = values.path(raw)
        if found is None:
            raise BadValue(f'is empty; write "{example}"')
        return found

    return parse


def text(raw: object) -> str:
    """Return a text that is not empty."""
    if not isinstance(raw, str) or not raw or len(raw) > LONGEST_TEXT:
        raise BadValue("not a text, or empty, or very long")
    return raw


def unit(raw: object) -> str:
    """Return the word for what is counted."""
    if not isinstance(raw, str) or not raw.strip() or not raw.isprintable() or len(raw) > 40:
        raise BadValue('not a word for what is counted; write "jobs"')
    return raw.strip()


def _selector(parse: str, example: str) -> Callable[[object], str]:
    """Return a parser that keeps the text as it is, and has *parse* of config.selectors look whether it can be read."""

    def check(raw: object) -> str:
        from gracewrap.config.parsers import selectors

        if not isinstance(raw, str):
            raise BadValue(f"not a text; write {example}")
        try:
            getattr(selectors, parse)(raw)
        except ValueError as fault:
            raise BadValue(str(fault)) from None
        return raw

    return check


def log_line(raw: object) -> str:
    """Return a regular expression for a line of the program."""
    if not isinstance(raw, str) or not raw:
        raise BadValue('not a regular expression; write "listening on"')
    return str(_selector("check_regex", '"listening on"')(raw))


# --- probes -----------------------------------------------------------------------------------------------------------

# The settings of one probe: those of [drain], and the keys of an element of all, any and ready.
PARSERS: dict[str, Callable[[object], object]] = {
    "http": url,
    "method": method,
    "headers": headers,
    "ca": _path("/etc/ssl/ca.pem"),
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
    "exec": argv,
    "file": _path("/run/drained"),
    "file_is": values.choice("exists", "absent"),
    "contains": text,
    "notify": boolean,
    "unit": unit,
}
READY_PARSERS = PARSERS | {"log_line": log_line}  # of ready, and of an element of all and any there
KINDS = ("http", "tcp", "exec", "file", "notify", "log_line")
OF = {"mode": "tcp", "quiet": "tcp", "file_is": "file", "contains": "file"}  # all others are of http, but unit
_EXAMPLES = {
    "http": 'http = "http://127.0.0.1:3000/drain"',
    "tcp": 'tcp = "auto"',
    "exec": 'exec = ["./drained"]',
    "file": 'file = "/run/drained"',
    "notify": "notify = true",
}


def probe(given: Mapping[str, Any], ready: bool = False) -> Probe:
    """Put one probe together from what was given for it, parsed.

    Args:
        given: By the names of PARSERS; what was not given is not in it.
        ready: It says whether the program is ready, and not whether it is drained.

    Raises:
        KeyFault: If they do not go together.
    """
    given = {key: value for key, value in given.items() if value is not False or key not in ("notify", "insecure")}
    kinds = [key for key in KINDS if key in given]
    if not kinds:
        key = next(iter(given), "")
        raise KeyFault(key, f"there is no probe that it could belong to; write {_example(key)} beside it")
    if len(kinds) > 1:
        first, second = kinds[:2]
        raise KeyFault(
            second, f"there is {first} too; write all = [{{{first} = ...}}, {{{second} = ...}}], or any if one will do"
        )
    kind = kinds[0]
    for key in given:
        if key not in KINDS and kind != OF.get(key, "http") and (key != "unit" or kind in ("file", "notify", "log_line")):
            what = "counts nothing" if key == "unit" else f"does not look at {key}"
            raise KeyFault(key, f"a probe by {kind} {what}; leave it out, or write {_example(key)} instead of {kind}")
    counted = given.get("unit", "")
    match kind:
        case "http":
            return _http_probe(given, counted, ready)
        case "tcp":
            return _tcp_probe(given, counted, ready)
        case "exec":
            return ExecProbe(given["exec"], counted)
        case "file":
            state, contains = given.get("file_is", "exists"), given.get("contains", "")
            if state == "absent" and contains:
                raise KeyFault("contains", "a file that is absent holds nothing; leave out this one or file_is")
            return FileProbe(given["file"], state, contains)
        case "log_line":
            return LogLineProbe(given["log_line"])
        case _:
            return NotifyProbe("READY=1") if ready else NotifyProbe()


def _example(key: str) -> str:
    return _EXAMPLES[OF.get(key, "http")]


def _http_probe(given: Mapping[str, Any], counted: str, ready: bool) -> HttpProbe:
    sent = request(given, "GET")
    asked = [key for key in ("status", "json", "metric", "text") if key in given]
    if len(asked) > 1:
        raise KeyFault(asked[1], f"there is {asked[0]} too, and an answer is judged by one of them; leave the other out")
    how = asked[0] if asked else "status"
    if "equals" in given and "at_most" in given:
        raise KeyFault("at_most", "there is equals too; leave one of them out")
    compared = next((key for key in ("equals", "at_most") if key in given), None)
    if compared and how == "status":
        raise KeyFault(compared, 'it is compared with what json, metric or text finds; write json = "/active", or another status')
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
    return HttpProbe(sent, expect, given.get("on_refused", "wait"), counted)


def _tcp_probe(given: Mapping[str, Any], counted: str, ready: bool) -> TcpProbe:
    mode = given.get("mode", "listening" if ready else "idle")
    if ready != (mode == "listening"):
        which = "a program that listens is ready; leave it out" if ready else 'that is for ready; write "idle"'
        raise KeyFault("mode", which)
    if "quiet" in given and mode != "idle":
        raise KeyFault("quiet", 'it is looked at with mode = "idle" only; leave it out')
    return TcpProbe(given["tcp"], mode, given.get("quiet", 2.0), counted)


def request(given: Mapping[str, Any], verb: str, body: bytes = b"") -> Request:
    """Put a request together; *verb* is its method if none was given."""
    url, ca, insecure = given["http"], given.get("ca"), given.get("insecure", False)
    for key in ("ca", "insecure"):
        if given.get(key) and url.scheme != "https":
            raise KeyFault(key, "it is for https, and the URL says something else; leave it out")
    if ca and insecure:
        raise KeyFault("insecure", "with it nobody looks at the certificate, and ca is of no use; leave one of them out")
    return Request(url, given.get("method", verb), given.get("headers", ()), body, ca, insecure)


def parsed(table: Mapping[object, object], parsers: Mapping[str, Callable[[object], object]]) -> dict[str, object]:
    """Parse the keys of an inline table.

    Raises:
        KeyFault: If a value cannot be used, or there is no such key.
    """
    found = {}
    for key, raw in table.items():
        name = str(key)
        if name == "log_line" and name not in parsers:
            raise KeyFault(name, "it tells that a program is ready, not that it is drained; write it in ready")
        if name not in parsers:
            raise KeyFault(name, _no_key(name, table, parsers))
        try:
            found[name] = parsers[name](raw)
        except KeyFault:
            raise
        except BadValue as fault:
            raise KeyFault(name, _no_table(name, raw) or str(fault)) from None
    return found


def _no_key(name: str, table: Mapping[object, object], parsers: Mapping[str, Callable[[object], object]]) -> str:
    from gracewrap.config import probe_suggestions as meant

    close = f"no such key{values.close_to(name, parsers)}; there are {', '.join(parsers)}"
    return meant.key(name, table, parsers) or close


def _no_table(name: str, raw: object) -> str:
    from gracewrap.config import probe_suggestions as meant

    return meant.value(name, raw)


def element(raw: object, ready: bool = False) -> Probe:
    """Return one probe from a table, or from "tcp", "notify" or a URL."""
    if isinstance(raw, str):
        word = raw.strip()
        if word in ("tcp", "notify"):
            return probe({word: () if word == "tcp" else True}, ready)
        if "://" in word or ":" in word:
            try:
                return probe({"http": url(word)}, ready)
            except BadValue as fault:
                from gracewrap.config import probe_suggestions as meant

                raise BadValue(meant.with_colon(word) or str(fault)) from None
    if not isinstance(raw, dict):
        from gracewrap.config import probe_suggestions as meant

        raise BadValue(f"not a probe; {meant.probe(raw)}")
    try:
        return probe(parsed(raw, READY_PARSERS if ready else PARSERS), ready)
    except KeyFault as fault:
        raise BadValue(f"{fault.key}: {fault}" if fault.key else 'is empty; write {tcp = "auto"}') from None


def elements(raw: object, ready: bool = False) -> tuple[Probe, ...]:
    """Return several probes from a list of tables."""
    if not isinstance(raw, list) or not raw or len(raw) > MOST_PROBES:
        raise BadValue(
            f'not a list of 1 to {MOST_PROBES} probes; write [{{tcp = "auto"}}, {{http = "http://127.0.0.1:3000/drain"}}]'
        )
    found = []
    for position, one in enumerate(raw, 1):
        try:
            found.append(element(one, ready))
        except BadValue as fault:
            raise BadValue(f"its probe {position}: {fault}") from None
    return tuple(found)


def ready(raw: object) -> Probes:
    """Return what says that the program is ready: one probe, or {all = [...]}, {any = [...]}."""
    if isinstance(raw, dict) and ("all" in raw or "any" in raw):
        if len(raw) > 1:
            raise BadValue("has all or any, and something beside it; put that into the list")
        combine = next(iter(raw))
        return Probes(elements(raw[combine], True), combine)
    return Probes((element(raw, True),))


# --- actions ----------------------------------------------------------------------------------------------------------


def _body(raw: object) -> bytes:
    if not isinstance(raw, str) or len(raw) > LONGEST_BODY:
        raise BadValue(f"not a text of at most {LONGEST_BODY} characters")
    return raw.encode(errors="surrogateescape")


_ACTION: dict[str, Callable[[object], object]] = {
    "command": argv,
    **{key: PARSERS[key] for key in ("http", "method", "headers", "ca", "insecure")},
    "body": _body,
    "timeout": span,
}


def action(raw: object) -> Action:
    """Return what a hook does: ["./script"] or "./script x" runs it; a URL is sent a POST; a table says more."""
    if isinstance(raw, str) and "://" in raw and len(raw.split()) == 1:
        return HttpAction(Request(url(raw), "POST"))
    if not isinstance(raw, dict):
        if not isinstance(raw, str | list):
            raise BadValue('is neither a command nor a URL; write ["./script"] or "http://127.0.0.1:3000/drain"')
        return CommandAction(argv(raw))
    try:
        given: dict[str, Any] = parsed(raw, _ACTION)
        timeout = given.pop("timeout", None)
        if ("command" in given) == ("http" in given):
            raise BadValue('needs command or http, one of them; write {command = ["./script"], timeout = "5s"}')
        if "command" in given:
            if strange := next((key for key in given if key != "command"), None):
                raise KeyFault(strange, "it is for http; leave it out")
            return CommandAction(given["command"], timeout)
        return HttpAction(request(given, "POST", given.get("body", b"")), timeout)
    except KeyFault as fault:
        raise BadValue(f"{fault.key}: {fault}") from None
