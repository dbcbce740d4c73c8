"""The JSON Schema of a file, made from the table of settings: for editors (taplo), and for what
writes such files.

It knows which settings there are, in which table, and of which kind a value is.  What only shows
when several are seen together, gracewrap check says.
"""

from __future__ import annotations

from gracewrap.config import values
from gracewrap.config.parsers import hooks, lifecycle, preset_names, probes, process, urls
from gracewrap.config.schema import GLOBAL, SECTIONS, TABLE
from gracewrap.config.schema_core import Setting
from gracewrap.linux import signals
from gracewrap.record import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable
    from typing import Any

    Kind = dict[str, Any]

_NUMBER = r"(?:[0-9]+\.?[0-9]*|\.[0-9]+)"
_NAMES = "|".join((*signals.NUMBERS, *(name.lower() for name in signals.NUMBERS)))
_SIGNAL = rf"(?:SIG|sig)?(?:{_NAMES}|RTMIN(?:\+[0-9]+)?|RTMAX(?:-[0-9]+)?|[0-9]+)"
_OWN = ("command", "depends_on", "stop_after")  # of each program, never of all

TEXT: Kind = {"type": "string"}
FILLED: Kind = {"type": "string", "minLength": 1}
DURATION: Kind = {
    "anyOf": [
        {"type": "string", "pattern": rf"^\s*(?:0|(?:{_NUMBER}(?:ms|s|m|h))+)\s*$"},
        {"const": 0},
    ]
}
SIGNAL: Kind = {
    "anyOf": [
        {"type": "string", "pattern": rf"^\s*{_SIGNAL}\s*$"},
        {"type": "integer", "minimum": 1, "maximum": 64},
    ]
}
WORDS: Kind = {"type": "array", "items": TEXT, "minItems": 1}
TABLE_OF_ANY: Kind = {"type": "object"}
BOOLEAN: Kind = {"anyOf": [{"type": "boolean"}, {"enum": ["true", "false", "yes", "no"]}]}
NUMBER: Kind = {"anyOf": [{"type": "number"}, FILLED]}


def _list_of(kind: Kind) -> Kind:
    """Return a list, or all of it in one string, or a single number."""
    return {"anyOf": [{"type": "array", "items": kind}, TEXT, {"type": "integer"}]}


def _any_of(*kinds: Kind) -> Kind:
    return {"anyOf": list(kinds)}


def _map_to(*kinds: Kind) -> Kind:
    return {"type": "object", "additionalProperties": _any_of(*kinds)}


def _integer(least: int, most: int) -> Kind:
    return _any_of(
        {"type": "integer", "minimum": least, "maximum": most},
        {"type": "string", "pattern": r"^\s*[+-]?[0-9]+\s*$"},
    )


_STATUS = _any_of({"type": "integer", "minimum": 0, "maximum": 255}, TEXT)
_RUNG = {
    "type": "object",
    "properties": {"after": DURATION, "signal": SIGNAL},
    "required": ["after", "signal"],
    "additionalProperties": False,
}
_SECRET = {
    "type": "object",
    "properties": {"file": FILLED},
    "required": ["file"],
    "additionalProperties": False,
}
_ACTION = _any_of(FILLED, WORDS, TABLE_OF_ANY)

KINDS: dict[Callable[[object], object], Kind] = {
    values.command: WORDS,
    values.duration: DURATION,
    values.span: DURATION,
    values.span_or_off: _any_of(DURATION, {"enum": ["off"]}),
    values.signal: SIGNAL,
    values.stop_signal: SIGNAL,
    values.dump_signal: SIGNAL,
    values.request_signals: _list_of(SIGNAL),
    values.escalation: _any_of({"type": "array", "items": _any_of(_RUNG, TEXT)}, TEXT),
    values.signal_map: _any_of(
        _map_to(SIGNAL, {"enum": ["none", "restart", "0", "", 0]}), {"type": "array"}, TEXT
    ),
    values.success_codes: _list_of(_STATUS),
    values.path: TEXT,
    values.text: FILLED,
    values.boolean: BOOLEAN,
    values.number: NUMBER,
    values.level: {"enum": ["debug", "info", "warning", "warn", "error"]},
    preset_names.name: {"enum": [*preset_names.PRESETS]},
    process.account: _any_of(FILLED, {"type": "integer", "minimum": 0}),
    process.accounts: _list_of(_any_of(TEXT, {"type": "integer", "minimum": 0})),
    process.place: FILLED,
    process.places: _any_of({"type": "array", "items": FILLED}, TEXT),
    process.variables: _any_of(
        _map_to(TEXT, {"type": "number"}, {"type": "boolean"}, _SECRET), WORDS, TEXT
    ),
    process.umask: {"type": "string", "pattern": r"^\s*(?:0[oO])?0?[0-7]{1,3}\s*$"},
    process.limits: _any_of(_map_to(TEXT, {"type": "integer"}), WORDS, TEXT),
    process.nice: _integer(-20, 19),
    hooks.action: _ACTION,
    lifecycle.restart: {"enum": ["never", "on-failure", "always"]},
    lifecycle.ending: {"enum": ["shutdown", "restart", "ignore"]},
    lifecycle.backoff: _any_of(DURATION, TABLE_OF_ANY),
    lifecycle.max_restarts: _integer(1, lifecycle.MOST_RESTARTS),
    lifecycle.depends_on: _any_of(_list_of(FILLED), _map_to(FILLED, TABLE_OF_ANY)),
    lifecycle.names: _list_of(FILLED),
    lifecycle.name: FILLED,
    probes.ready: _any_of(FILLED, TABLE_OF_ANY),
    probes.live: _any_of(FILLED, TABLE_OF_ANY),
    probes.elements: {"type": "array", "items": TABLE_OF_ANY, "minItems": 1},
    probes.confirm: _integer(1, 100),
    probes.PARSERS["http"]: FILLED,
    probes.PARSERS["method"]: FILLED,
    probes.PARSERS["headers"]: _any_of(TABLE_OF_ANY, {"type": "array"}, TEXT),
    probes.PARSERS["status"]: _any_of({"type": "integer"}, FILLED, {"type": "array"}),
    probes.PARSERS["tcp"]: _list_of(_any_of(TEXT, {"type": "integer", "minimum": 1})),
    probes.PARSERS["exec"]: _any_of(WORDS, FILLED),
    probes.PARSERS["unit"]: FILLED,
    urls.addresses: _any_of({"type": "array", "items": FILLED}, FILLED, {"type": "integer"}),
    urls.control_socket: FILLED,
    urls.gateway: FILLED,
    urls.job: FILLED,
}


def kind_of(setting: Setting) -> Kind:
    """Return what a value of a setting may be; without a rule for its parser, anything."""
    choices = getattr(setting.parse, "choices", None)
    if choices is not None:
        return {"enum": [*choices]}
    return KINDS.get(setting.parse, {})


def schema() -> Kind:
    """Return the whole schema."""
    one = _table(TABLE)
    programs = [s for s in TABLE if s.key not in GLOBAL]
    each = _table(programs)
    each["required"] = ["command"]
    return {
        "$schema": "http://json-schema.org/draft-07/schema#",
        "title": "gracewrap.toml",
        "description": "How gracewrap runs and stops a command, or several programs.",
        **one,
        "properties": {
            **one["properties"],
            "defaults": {
                **_table(s for s in programs if s.key not in _OWN),
                "description": "What is said of all programs.",
            },
            "programs": {
                "type": "object",
                "description": SECTIONS["programs"][1],
                "additionalProperties": each,
            },
        },
    }


def _table(settings: Iterable[Setting]) -> Kind:
    """Return a table of settings, with the tables in it; no other key may be there."""
    properties: dict[str, Kind] = {}
    for setting in settings:
        table, _, last = setting.key.rpartition(".")
        here = properties
        if table:
            inner = properties.setdefault(table, _empty(SECTIONS[table][1]))
            here = inner["properties"]
        here[last] = _described(setting)
    return {"type": "object", "properties": properties, "additionalProperties": False}


def _empty(description: str) -> Kind:
    return {
        "type": "object",
        "description": description,
        "properties": {},
        "additionalProperties": False,
    }


def _described(setting: Setting) -> Kind:
    found = {"description": setting.help, **kind_of(setting)}
    if setting.default is not None:
        found["default"] = setting.default
    return found
