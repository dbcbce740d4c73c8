"""JSON without the json package: its import costs 15 ms, in the middle of a stop; and Debian's
python3-minimal has none."""

from __future__ import annotations

from gracewrap.record import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable

try:
    from _json import encode_basestring_ascii as _quote
except ImportError:

    def _quote(text: str, /) -> str:
        return '"' + "".join(map(_escape, text)) + '"'


def _escape(char: str) -> str:
    """Return a character as it stands in a JSON string (RFC 8259, section 7)."""
    if char in '"\\':
        return "\\" + char
    if " " <= char <= "~":
        return char
    code = ord(char)
    if code < 0x10000:
        return f"\\u{code:04x}"
    code -= 0x10000
    return f"\\u{0xD800 + (code >> 10):04x}\\u{0xDC00 + (code & 0x3FF):04x}"


def quote_ascii(text: str) -> str:
    """Return a text as a JSON string in ASCII."""
    return _quote(text if text.isascii() else _without_surrogates(text))


def _without_surrogates(text: str) -> str:
    """Return a text with \\xHH for each byte that is not UTF-8: of surrogates, which would keep the
    bytes, strict readers of JSON make nothing."""
    try:
        data = text.encode(errors="surrogateescape")
    except UnicodeEncodeError:  # of other surrogates, which no byte has become
        data = text.encode(errors="backslashreplace")
    return data.decode(errors="backslashreplace")


def quote_readable(text: str) -> str:
    """Return a text as a JSON string in which whatever can be printed stands for itself."""
    if text.isascii() or not text.isprintable():
        return quote_ascii(text)
    return '"' + text.replace("\\", "\\\\").replace('"', '\\"') + '"'


def dumps(value: object, quote: Callable[[str], str] = quote_ascii) -> str:
    """Return *value* (None, bool, int, float, str, list, tuple, dict with string keys) as JSON on
    one line; in ASCII, unless *quote* is quote_readable."""
    if isinstance(value, str):
        return quote(value)
    if value is None or isinstance(value, bool):
        return {None: "null", True: "true", False: "false"}[value]
    if isinstance(value, int):
        return str(value)
    if isinstance(value, float):
        return (
            repr(round(value, 6)) if value - value == 0 else "null"
        )  # JSON has no infinity and no NaN
    if isinstance(value, dict):
        return (
            "{"
            + ", ".join(f"{quote(str(key))}: {dumps(one, quote)}" for key, one in value.items())
            + "}"
        )
    if isinstance(value, list | tuple):
        return "[" + ", ".join([dumps(one, quote) for one in value]) + "]"
    return quote(str(value))
