"""Parses URLs, addresses to listen on and ports."""

from __future__ import annotations

import _socket

from gracewrap.config import values
from gracewrap.config.probe_specs import Address, Url
from gracewrap.config.values import DIGITS, LETTERS, LONGEST_URL, BadValue

LONGEST_PATH = 107  # bytes of a unix socket's name: sun_path of unix(7), less the NUL
PORTS = {"http": 80, "https": 443}
_HOST = frozenset(LETTERS + DIGITS + "._-")


def url(raw: object) -> Url:
    """Return a URL from "http://127.0.0.1:3000/drain", "https://..." or
    "unix:///run/app.sock:/drain"."""
    if not isinstance(raw, str):
        port = (
            raw if isinstance(raw, int) and not isinstance(raw, bool) and 1 <= raw <= 65535 else 0
        )
        raise BadValue(
            f'not a URL; write "http://127.0.0.1:{f"{port}/" if port else "3000/drain"}"'
        )
    text = raw.strip()
    if len(text) > LONGEST_URL:
        raise BadValue(f"has more than {LONGEST_URL} characters")
    if not text.isascii() or not text.isprintable() or " " in text:
        raise BadValue(
            "holds a space or another character that no URL can; write it with %, as %20"
        )
    scheme, separator, rest = text.partition("://")
    scheme = scheme.lower()
    if not separator:
        raise BadValue(_no_scheme(text))
    if scheme not in (*PORTS, "unix"):
        raise BadValue("must start with http://, https:// or unix://")
    if "#" in rest:
        raise BadValue("has a fragment, which is never sent; leave out the # and what follows it")
    return _unix(rest) if scheme == "unix" else _http(scheme, rest)


def _no_scheme(text: str) -> str:
    if not text:
        return 'is empty; write "http://127.0.0.1:3000/drain"'
    if text.startswith("/"):
        return (
            f'has no host; write "http://127.0.0.1:3000{text}", or "unix://{text}:/" if it is a '
            "socket"
        )
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
        raise BadValue(
            'after the socket comes the path of the request; write "unix:///run/app.sock:/drain"'
        )
    return Url("unix", _socket_path(path), 0, target or "/")


def _socket_path(path: str) -> str:
    """Return *path*; refuse what is no name of a unix socket."""
    if (
        "\0" in path
        or len(path.encode(errors="surrogateescape")) > LONGEST_PATH
        or path.endswith("/")
    ):
        raise BadValue(
            f"is no path of a socket: that has at most {LONGEST_PATH} bytes, and ends in a name"
        )
    return path


def _http(scheme: str, rest: str) -> Url:
    end = min((at for at in (rest.find("/"), rest.find("?")) if at >= 0), default=len(rest))
    authority, target = rest[:end], rest[end:]
    if "@" in authority:
        raise BadValue(
            "names a user, which would show in the log; write a header: {Authorization = {file = "
            '"/run/secrets/x"}}'
        )
    host, port = host_and_port(authority)
    if not host:
        raise BadValue(
            "has no host; write "
            f'"{scheme}://127.0.0.1{":" * (port is not None)}{port or ""}{target}"'
        )
    return Url(
        scheme,
        host,
        PORTS[scheme] if port is None else port,
        target if target.startswith("/") else f"/{target}",
    )


def host_and_port(text: str) -> tuple[str, int | None]:
    """Take "name:80", "127.0.0.1", "[::1]:80", ":80" apart; an IPv6 address is returned without its
    brackets."""
    if text.startswith("["):
        host, bracket, rest = text[1:].partition("]")
        if (
            not bracket
            or (rest and not rest.startswith(":"))
            or not _is_address(_socket.AF_INET6, host)
        ):
            raise BadValue('has no IPv6 address in its brackets; write "[::1]:3000"')
        return host.lower(), port_number(rest[1:]) if rest else None
    host, colon, number = text.partition(":")
    if ":" in number:
        raise BadValue('has an IPv6 address without brackets, or two ports; write "[::1]:3000"')
    port = port_number(number) if colon else None
    if host and (
        len(host) > 253 or not _HOST.issuperset(host) or host[0] in "._-" or host[-1] in "_-"
    ):
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
    text = (
        values.plain(raw).strip()
        if isinstance(raw, str | int) and not isinstance(raw, bool)
        else ""
    )
    if not (text.isascii() and text.isdigit()) or len(text) > 9 or not 1 <= int(text) <= 65535:
        raise BadValue("a port goes from 1 to 65535")
    return int(text)


def addresses(raw: object) -> tuple[Address, ...]:
    """Return where to listen, from ["127.0.0.1:9000", "unix:/run/x.sock"] or the same with commas;
    "9000" and ":9000" are all."""
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
            raise BadValue(
                'the path of a socket starts with /; write "unix:/run/gracewrap-health.sock"'
            )
        return Address(path=_socket_path(path))
    if "/" in text:
        raise BadValue(f"not an address: {example}")
    if text.isascii() and text.isdigit():
        return Address("", port_number(text))
    host, port = host_and_port(text)
    if host and ":" not in host and not _is_address(_socket.AF_INET, host):
        raise BadValue(
            'names a host; write its address, "127.0.0.1:9000" for localhost'
            if port
            else f"not an address; {example}"
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
    """Return the URL of a Prometheus Pushgateway; the path of the job is added when metrics are
    pushed."""
    found = url(raw)
    if found.scheme == "unix":
        raise BadValue('a pushgateway has a host; write "http://pushgateway:9091"')
    if "/metrics" in found.target or "?" in found.target:
        raise BadValue(
            'the path is added by gracewrap; write "http://pushgateway:9091", and the job as '
            "pushgateway_job"
        )
    return found


def job(raw: object) -> str:
    """Return a job's name, as it stands in the path of a push."""
    if (
        not isinstance(raw, str)
        or not raw.strip()
        or "/" in raw
        or not raw.isprintable()
        or len(raw) > 100
    ):
        raise BadValue('not a name of a job; write "web"')
    return raw.strip()


def ports(raw: object) -> tuple[int, ...]:
    """Return ports from "auto" or true (none: those that the program listens on), [3000, 3001],
    3000 or "3000,3001"."""
    if raw is True or (isinstance(raw, str) and raw.strip().lower() in ("auto", "true")):
        return ()
    if isinstance(raw, bool) or not isinstance(raw, str | int | list):
        raise BadValue('is neither "auto" nor ports; write "auto" or [3000]')
    try:
        found = tuple(dict.fromkeys(port_number(word) for word in values.words(raw, "[3000]")))
    except BadValue as fault:
        _, colon, port = raw.rpartition(":") if isinstance(raw, str) else ("", "", "")
        if colon and port.isascii() and port.isdigit():
            raise BadValue(
                "names a host, and it is the ports of the program that are looked at; write "
                f"[{port}]"
            ) from None
        raise BadValue(f'{fault}; write "auto" or [3000]') from None
    if not found or len(found) > 100:
        raise BadValue('names no port, or more than 100; write "auto" or [3000]')
    return found
