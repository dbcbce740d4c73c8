"""Parsed settings as they would stand in a file, with nothing secret in them: what `gracewrap
check` shows."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from gracewrap.config import problems
from gracewrap.config.parsers.process import shown_limit
from gracewrap.config.probe_specs import (
    Action,
    Address,
    AgentProbeSpec,
    CheckSpecs,
    CommandAction,
    ExecProbeSpec,
    FileProbeSpec,
    Header,
    HttpAction,
    HttpProbeSpec,
    LogLineProbeSpec,
    NotifyProbeSpec,
    ProbeSpec,
    ProbeSpecs,
    Request,
    TcpProbeSpec,
    Url,
)
from gracewrap.config.settings import DRAINED, REOPEN, RESTART, FromFile
from gracewrap.config.values import show_duration
from gracewrap.linux.signals import BLOCKABLE, RTMAX, SIGKILL
from gracewrap.linux.signals import name as signal_name

NUMBERS = {
    "drain.equals",
    "drain.at_most",
    "drain.status",
    "drain.confirm",
    "nice",
    "max_restarts",
}  # all other numbers are seconds or signals


def shown(value: object, key: str) -> str:
    """Return the parsed value of a setting as it would stand in TOML, shortened."""
    return problems.show(as_written(value, key))


def as_written(value: object, key: str) -> object:
    """Return what would be written for a parsed value, as tomllib returns it."""
    if key in _SPECIAL and value is not None:
        return _SPECIAL[key](value)
    if isinstance(value, bool) or key in NUMBERS:
        return number(value)
    if isinstance(value, float):
        return "wait" if value == float("inf") else show_duration(value)
    if isinstance(value, int):
        return _signal(value)
    if isinstance(value, frozenset):
        return [(_signal if key == "stop_on" else _status)(one) for one in sorted(value)]
    if isinstance(value, dict):
        return {
            _signal(a): {0: "none", RESTART: "restart", REOPEN: "reopen"}.get(b) or _signal(b)
            for a, b in value.items()
        }
    if value is None:
        return "off" if key == "drain.linger" else ""
    if isinstance(value, tuple):
        if key == "escalation":
            return [
                {"after": show_duration(after), "signal": _signal(signum)}
                for after, signum in value
            ]
        if key == "drain.tcp":
            return list(value) or "auto"
        return _headers(value) if key == "drain.headers" else [_one(one) for one in value]
    return _one(value)


def _back_off(wait: Any) -> object:
    """Return what differs from the default of a back-off (config.parsers.lifecycle.backoff)."""
    usual = type(wait)()
    changed = {
        name: getattr(wait, name)
        for name in wait.__match_args__
        if getattr(wait, name) != getattr(usual, name)
    }
    found = {
        name: number(one) if name in ("factor", "jitter") else show_duration(one)
        for name, one in changed.items()
    }
    return found if set(found) - {"first"} else show_duration(wait.first)


_SPECIAL: dict[str, Callable[[Any], object]] = {
    "depends_on": dict,
    "backoff": _back_off,
    "umask": lambda mask: f"{mask:03o}",
    "rlimits": lambda limits: {name: shown_limit(limit) for name, limit in limits.items()},
    "env": lambda env: {
        name: {"file": one.path} if isinstance(one, FromFile) else "..."
        for name, one in env.items()
    },
}


def _one(value: object) -> object:
    if isinstance(value, Url | Address):
        return value.shown
    if isinstance(value, CommandAction | HttpAction):
        return _action(value)
    if isinstance(value, CheckSpecs):
        several = [_probe(probe) for probe in value.probes]
        probes = {value.combine: several} if len(several) > 1 else several[0]
        return {**probes, **_how_asked(value)}
    if isinstance(value, ProbeSpecs):
        several = [_probe(probe) for probe in value.probes]
        return {value.combine: several} if len(several) > 1 else several[0]
    if isinstance(
        value,
        HttpProbeSpec
        | TcpProbeSpec
        | ExecProbeSpec
        | FileProbeSpec
        | NotifyProbeSpec
        | AgentProbeSpec
        | LogLineProbeSpec,
    ):
        return _probe(value)
    return value


def _how_asked(check: CheckSpecs) -> dict[str, object]:
    """Return how a check is asked, where that is not the default."""
    # How often is always written: the default is not the same for ready and live.
    usual = CheckSpecs((), every=0.0)
    spans = {key: getattr(check, key) for key in ("every", "timeout")}
    counts = {key: getattr(check, key) for key in ("failures", "passes")}
    found: dict[str, object] = {key: show_duration(one) for key, one in spans.items()}
    found |= counts
    return {key: one for key, one in found.items() if getattr(check, key) != getattr(usual, key)}


def number(value: object) -> object:
    """Return 0.0 as 0, and anything else as it is."""
    return (
        int(value)
        if isinstance(value, float) and value.is_integer() and abs(value) < 1 << 53
        else value
    )


def _headers(headers: tuple[Header, ...]) -> dict[str, object]:
    """Return headers: where a value is found, never what it is."""
    found: dict[str, object] = {}
    for header in headers:
        place = {"env": header.env} if header.env else {"file": header.file}
        prefix = (
            {"prefix": header.prefix}
            if header.prefix.rstrip() in ("Bearer", "Basic", "Token")
            else {}
        )
        prefix = prefix or ({"prefix": "..."} if header.prefix else {})
        found[header.name] = {**place, **prefix} if header.env or header.file else "..."
    return found


def _request(request: Request, method: str) -> dict[str, object]:
    """Return the keys of a request; *method* is the one that need not be written."""
    found: dict[str, object] = {"http": request.url.shown}
    found |= {"method": request.method} if request.method != method else {}
    found |= {"headers": _headers(request.headers)} if request.headers else {}
    found |= {"body": "..."} if request.body else {}
    found |= {"ca": request.ca} if request.ca else {}
    return found | ({"insecure": True} if request.insecure else {})


def _action(action: Action) -> object:
    timeout = {"timeout": show_duration(action.timeout)} if action.timeout is not None else {}
    if isinstance(action, CommandAction):
        return {"command": list(action.command), **timeout} if timeout else list(action.command)
    found = _request(action.request, "POST") | timeout
    return found["http"] if len(found) == 1 else found


def _probe(probe: ProbeSpec) -> dict[str, object]:
    match probe:
        case HttpProbeSpec(request, expect, on_refused):
            found = _request(request, "GET")
            if expect.how == "status":
                found |= {"status": expect.status} if expect.status != 200 else {}
            else:
                found |= {expect.how: expect.what}
                found |= (
                    {"equals": number(expect.equals)}
                    if expect.at_most is None
                    else {"at_most": number(expect.at_most)}
                )
            found |= {"absent": expect.absent} if expect.absent != "busy" else {}
            found |= {"on_refused": on_refused} if on_refused != "wait" else {}
        case TcpProbeSpec(ports, mode, quiet, _, outgoing):
            found = {"tcp": list(ports) or "auto"}
            found |= {"mode": mode} if mode not in ("idle", "listening") else {}
            found |= (
                {"quiet": show_duration(quiet)}
                if mode == "idle" and quiet != TcpProbeSpec().quiet
                else {}
            )
            found |= {"outgoing": outgoing} if outgoing != TcpProbeSpec().outgoing else {}
        case ExecProbeSpec(command):
            found = {"exec": list(command)}
        case FileProbeSpec(path, state, contains):
            found = {"file": path}
            found |= {"file_is": state} if state != "exists" else {}
            found |= {"contains": contains} if contains else {}
        case LogLineProbeSpec(log_line):
            found = {"log_line": log_line}
        case AgentProbeSpec():
            found = {"agent": True}
        case _:
            found = {"notify": True}
    unit = getattr(probe, "unit", "")
    return {**found, "unit": unit} if unit else found


def _status(code: int) -> int | str:
    """Return an exit status, by the signal's name if it is that of a command that died of one."""
    if code == DRAINED:
        return "drained"
    return (
        _signal(code - 128)
        if 128 < code <= 128 + RTMAX and code - 128 in BLOCKABLE | {SIGKILL}
        else code
    )


def _signal(signum: int) -> str:
    return signal_name(signum).removeprefix("SIG")
