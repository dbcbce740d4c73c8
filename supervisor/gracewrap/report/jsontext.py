"""JSON without the json package: its import costs 15 ms, in the middle of a stop."""

from __future__ import annotations

try:
    from _json import encode_basestring_ascii as _quote
except ImportError:  # an interpreter without C accelerators
    from json.encoder import encode_basestring_ascii as _quote


def dumps(value: object) -> str:
    """Return *value* (None, bool, int, float, str, list, tuple, dict with string keys) as JSON on one line, in ASCII."""
    if isinstance(value, str):
        return _quote(value)
    if value is None or isinstance(value, bool):
        return {None: "null", True: "true", False: "false"}[value]
    if isinstance(value, int):
        return str(value)
    if isinstance(value, float):
        return repr(round(value, 6)) if value - value == 0 else "null"  # JSON has no infinity and no NaN
    if isinstance(value, dict):
        return "{" + ", ".join(f"{_quote(str(key))}: {dumps(one)}" for key, one in value.items()) + "}"
    if isinstance(value, list | tuple):
        return "[" + ", ".join(map(dumps, value)) + "]"
    return _quote(str(value))
