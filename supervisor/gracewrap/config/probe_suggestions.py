"""What may have been meant by what is no probe, or by a key that no probe has.  Imported only when
something is wrong.

Nothing is taken for what it may have been meant for: the text says what to write.
"""

from __future__ import annotations

from gracewrap.config import probe_specs, values
from gracewrap.config.foreign_names import IN_TABLE
from gracewrap.config.parsers import commands
from gracewrap.config.problems import show
from gracewrap.config.redact import concealed
from gracewrap.record import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping

_URL = "http://127.0.0.1:3000/"
_USUAL = f'write "tcp", "notify", "{_URL}" or {{exec = ["./script"]}}'
# What others call the keys of a check, in a table of ready.
_OF_CHECK = {
    **dict.fromkeys(("interval", "period", "periodseconds"), 'every = "1s"'),
    **dict.fromkeys(("timeoutseconds", "probetimeout"), 'timeout = "2s"'),
    **dict.fromkeys(("retries", "failurethreshold"), "failures = 3"),
    **dict.fromkeys(("successthreshold", "confirm"), "passes = 1"),
}
_AT_ONCE = "it is asked from the start on, and how long that may take is ready_timeout; remove it"

# What stands before a colon or a space ("tcp:80"), and what kind of probe that is; as in hints
# without dashes and underscores.
_KINDS = {
    **dict.fromkeys(("tcp", "port", "ports", "listen", "socket", "tcpsocket"), "tcp"),
    **dict.fromkeys(("exec", "cmd", "command", "script", "sh", "shell"), "exec"),
    **dict.fromkeys(("file", "path", "exists"), "file"),
    **dict.fromkeys(("log", "logline", "readylogline", "stdout", "regex"), "log_line"),
}
_WORDS = {
    **dict.fromkeys(("tcp", "port", "listen", "listens", "listening", "socket"), '"tcp"'),
    **dict.fromkeys(("notify", "sdnotify", "systemd", "ready=1"), '"notify"'),
    **dict.fromkeys(("http", "https", "url"), f'"{_URL}"'),
}
# Keys of tables beside those of [drain] in hints, and what else they are in a table of ready.
_KEYS = {
    **dict.fromkeys(("tcpsocket", "listen", "host", "address", "connections"), "tcp"),
    **dict.fromkeys(("test", "run", "shell", "exec"), "exec"),
    "url": "http",
}
_OF_READY = dict.fromkeys(
    ("log", "logline", "readylogline", "stdout", "regex", "regexp", "pattern"), "log_line"
)
_TIMES = {
    *(
        "interval",
        "period",
        "periodseconds",
        "every",
        "timeout",
        "timeoutseconds",
        "retries",
        "startperiod",
        "startinterval",
    ),
    *(
        "initialdelay",
        "initialdelayseconds",
        "failurethreshold",
        "successthreshold",
        "probetimeout",
        "confirm",
        "delay",
    ),
}


def _bare(word: str) -> str:
    return word.lower().replace("_", "").replace("-", "")


def probe(raw: object) -> str:
    """Say what to write instead of *raw*, which is no probe, if that is plain; else which probes
    there are."""
    if isinstance(raw, list):
        return _list(raw)
    text = (
        values.plain(raw).strip()
        if isinstance(raw, str | int) and not isinstance(raw, bool)
        else ""
    )
    if _is_port(text):
        return _USUAL.replace('"tcp"', f"{{tcp = {text}}}")
    word = text.split(":")[0].lower()
    if ":" in text and word not in ("http", "https", "unix"):
        return _with_colon(text) or _USUAL
    if meant := _WORDS.get(_bare(text)):
        return f"write {meant}"
    if text.startswith("/") and " " not in text:
        return (
            f'write "http://127.0.0.1:3000{text}" (it answers 200), '
            f'{{exec = ["{text}"]}} (it exits with 0) or {{file = "{text}"}} (it is there)'
        )
    kind, space, rest = text.partition(" ")
    if space and _bare(kind) in _KINDS and rest.strip():
        return f"write {{{_one(_KINDS[_bare(kind)], rest.strip())}}}"
    return f"write {{{_one('exec', text)}}}" if space or text.startswith("./") else _USUAL


def with_colon(text: str) -> str:
    """Say what to write instead of a text with a colon that is no URL: "tcp:80", ":80",
    "redis://..."; "" if nobody knows."""
    meant = _with_colon(text)
    return f"not a probe; {meant}" if meant else ""


def _with_colon(text: str) -> str:
    kind, _, rest = text.partition(":")
    kind, remote = _bare(kind), rest.startswith("//")
    rest = rest.removeprefix("//").strip()
    port = rest.rpartition(":")[2].partition("/")[0]
    if kind in ("http", "https", "unix"):
        return ""  # those are known, and what is wrong with the URL has been said
    if kind in _KINDS:
        return (
            f"write {{{_one(_KINDS[kind], rest)}}}"
            if rest and rest != "auto"
            else f'write "{kind}"'
        )
    if remote:
        return (
            f'write {{tcp = {port}}} (it listens), or {{exec = ["./script"]}} that asks it'
            if _is_port(port)
            else ""
        )
    if _is_port(rest):  # ":80", "localhost:80"
        host = text.partition(":")[0]
        host = "127.0.0.1" if host in ("", "*", "0.0.0.0") else host
        return f'write {{tcp = {rest}}} (it listens), or "http://{host}:{rest}/" (it answers 200)'
    return ""


def _is_port(text: str) -> bool:
    return text.isascii() and text.isdigit() and len(text) <= 5 and 1 <= int(text) <= 65535


def _list(raw: list[object]) -> str:
    if raw and all(isinstance(one, str) for one in raw):
        return f"write {{exec = {show(concealed('exec', raw))}}}"
    return "write {all = [...]}, or {any = [...]} if one of them will do" if raw else _USUAL


def _one(kind: str, value: object, beside: Mapping[object, object] | None = None) -> str:
    """Return a probe of this *kind* as it is written in a table, with as much as can be used of
    *value*."""
    if isinstance(value, dict):
        return _one(kind, *_inner(kind, value))
    if kind == "tcp":
        return f"tcp = {_port(value, beside or {})}"
    if kind == "http":
        return f"http = {_url(value, beside or {})}"
    if kind in ("exec", "command"):
        return f"{kind} = {_command(value)}"
    example = {"file": "/run/ready"}.get(kind, "listening on")
    return f"{kind} = {show(value if isinstance(value, str) and value.strip() else example)}"


def _inner(kind: str, table: Mapping[object, object]) -> tuple[object, Mapping[object, object]]:
    """Return what a table of Kubernetes or process-compose says: {port = 80}, {path = "/x", port =
    80}, {command = [...]}."""
    first = {
        "tcp": ("port",),
        "http": ("url", "path", "port"),
        "exec": ("command", "test", "cmd"),
    }.get(kind, ())
    found = next(
        (table[key] for key in first if key in table and not isinstance(table[key], dict)), None
    )
    return found, table


def _port(value: object, beside: Mapping[object, object]) -> str:
    for one in (value, beside.get("port")):
        several = one if isinstance(one, list) else [one]
        ports = [
            values.plain(port).strip().rpartition(":")[2]
            for port in several
            if isinstance(port, str | int)
        ]
        if ports and all(map(_is_port, ports)):
            return f"[{', '.join(ports)}]" if isinstance(one, list) else ports[0]
    return '"auto"'


def _url(value: object, beside: Mapping[object, object]) -> str:
    text = value.strip() if isinstance(value, str) else ""
    if "://" in text and "@" not in text:  # what is secret is not repeated
        return show(text)
    port = _port(None if text else value, beside)
    path = text if text.startswith("/") else "/"
    return f'"http://127.0.0.1:{port if _is_port(port) else 3000}{path}"'


def _command(value: object) -> str:
    if isinstance(value, str) and value.strip():
        value = ["sh", "-c", value] if commands.for_a_shell(value) else value
    if isinstance(value, list) and value[:1] == ["CMD"]:  # as Compose writes it
        value = value[1:]
    elif isinstance(value, list) and value[:1] == ["CMD-SHELL"]:
        value = ["sh", "-c", *value[1:2]]
    usable = value and (
        isinstance(value, str)
        or (isinstance(value, list) and all(isinstance(word, str) for word in value))
    )
    return show(concealed("exec", value)) if usable else '["./script"]'


def key(name: str, table: Mapping[object, object], known: Collection[str]) -> str:
    """Say what to write instead of a key that no probe, hook or action has, in a table with *known*
    keys; "" if nobody knows."""
    word, is_ready = _bare(name), "log_line" in known
    if word in _TIMES and "http" in known and "timeout" not in known:
        if not is_ready:
            return "it is said once for all probes; write it in [drain], beside them"
        if word in _OF_CHECK:
            return f"gracewrap calls this {_OF_CHECK[word].split()[0]}; write {_OF_CHECK[word]}"
        if word in ("every", "timeout"):
            return "it is said once for all probes; write it beside all or any"
        return _AT_ONCE
    meant = _OF_READY.get(word, "") if is_ready and "http" not in table else ""
    meant = meant or _KEYS.get(word) or IN_TABLE["drain"].get(word, "")
    if word == "path" and "port" not in table and is_ready:
        meant = "file"
    if meant == "exec" and meant not in known:
        meant = "command"
    if meant not in known or meant in table:
        return ""
    if meant not in (*probe_specs.KINDS, "command"):
        return f"gracewrap calls this {meant}"
    return f"gracewrap calls this {meant}; write {{{_one(meant, table[name], table)}}}"


def value(name: str, raw: object) -> str:
    """Say what to write instead of a table, {port = 80} or {command = [...]}, that stands for the
    value of a key."""
    return (
        f"its value is no table; write {{{_one(name, raw)}}}"
        if isinstance(raw, dict) and name in probe_specs.KINDS
        else ""
    )
