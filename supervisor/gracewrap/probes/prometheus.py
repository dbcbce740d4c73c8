"""Sums a metric in Prometheus' text format (0.0.4 and 1.0.0) or OpenMetrics 1.0.

Only the lines of that metric are parsed.
"""

from __future__ import annotations

import re

from gracewrap.http_client.safe_text import excerpt
from gracewrap.record import TYPE_CHECKING, Record

if TYPE_CHECKING:
    from collections.abc import Iterator

_NAME, _VALUE = r"[a-zA-Z_:][a-zA-Z0-9_:]*", r'"([^"\\\n]*(?:\\.[^"\\\n]*)*)"'
_LABELS = r'\{[^"{}\n]*(?:"[^"\\\n]*(?:\\.[^"\\\n]*)*"[^"{}\n]*)*\}'
# After the name of the metric: labels, value and the rest of the line; or, if the line is not a
# valid sample, all of it.
_SAMPLE = rf"(?:(?:[ \t]*({_LABELS})[ \t]*|[ \t]+)([^ \t\r\n#{{]+)([^\n]*)|([ \t{{][^\n]*))"
_ANY = re.compile(rf"[ \t]*(?:{_NAME}(?=[ \t{{])|(?={{)){_SAMPLE}")
# A label whose name is not a plain word is quoted too (Prometheus 3).
_LABEL = re.compile(rf"(?:{_VALUE}|({_NAME}))[ \t]*=[ \t]*{_VALUE}")
_ESCAPED = re.compile(r"\\(.)")


class Selector(Record):
    """The name of a metric, and what its labels must be."""

    name: str
    lines: re.Pattern[str]  # finds the lines of the metric
    # Label, operator (= != =~ !~), value, and the value compiled if it is a regular expression.
    matchers: tuple[tuple[str, str, str, re.Pattern[str] | None], ...]


def line_pattern(name: str) -> re.Pattern[str]:
    """Return the pattern for the lines of a metric in a normalized body.

    It starts with a literal text, which makes the search fast.
    """
    return re.compile("\n" + re.escape(name) + _SAMPLE)


def normalize(body: bytes) -> str:
    """Decode a body so that each line follows a line break and is not indented."""
    text = "\n" + body.decode(errors="replace")
    if "\n " in text or "\n\t" in text:  # allowed, but rare
        text = "\n".join(line.lstrip(" \t") for line in text.split("\n"))
    return text


def total(selector: Selector, text: str) -> tuple[float, int]:
    """Return the sum of all series that match *selector*, and their number.

    Raises:
        ValueError: If a line of the metric cannot be parsed, or its value is not a number.
    """
    values = list(_values(selector, text))
    return sum(values), len(values)


def _values(selector: Selector, text: str) -> Iterator[float]:
    for labels, value_text, rest, invalid in selector.lines.findall(text):
        if invalid or (rest and not _is_tail(rest)):
            line = selector.name + (invalid or f"{labels} {value_text}{rest}")
            raise ValueError(f'cannot parse the line "{excerpt(line)}"')
        if selector.matchers and not _matches(selector, labels):
            continue
        value = _number(value_text)
        if value is None:
            raise ValueError(f'cannot parse the value "{excerpt(value_text)}" of {selector.name}')
        if not value > -float("inf"):  # NaN is not, either
            raise ValueError(f"{selector.name}{excerpt(labels)} is {excerpt(value_text)}")
        yield value


def _number(text: str) -> float | None:
    if "_" in text or not text.isascii():  # float() accepts these, but the format does not
        return None
    try:
        return float(text)
    except ValueError:
        return None


def _is_tail(rest: str) -> bool:
    """Return whether *rest* may follow a value: a timestamp, an exemplar, both or nothing."""
    words = rest.split(None, 1)
    if words and not words[0].strip("0123456789.+-eE"):
        del words[0]
    return not words or words[0].startswith("#")


def _matches(selector: Selector, labels: str) -> bool:
    """Return whether the labels of a series match; a missing label is empty, as in Prometheus."""
    # If *labels* is plain, label="value" appears in it literally.
    plain = not any(mark in labels for mark in (" ", "\t", "\\", '"='))
    for label, operator, wanted, _ in selector.matchers:
        if plain and operator == "=" and wanted and f'{label}="{wanted}"' not in labels:
            return False  # by far the most common case: 0.3 us instead of 3
    found = {quoted or name: _unescape(value) for quoted, name, value in _LABEL.findall(labels)}
    for label, operator, wanted, pattern in selector.matchers:
        value = found.get(label, "")
        equal = pattern.fullmatch(value) is not None if pattern else value == wanted
        if equal is not (operator in ("=", "=~")):
            return False
    return True


def _unescape(value: str) -> str:
    if "\\" not in value:
        return value
    return _ESCAPED.sub(lambda match: "\n" if match[1] == "n" else match[1], value)


def check_is_metrics(text: str) -> None:
    """Check by its first sample that a body without the metric contains metrics at all.

    An empty body is valid.

    Raises:
        ValueError: If it is something else; then it says nothing about the metric.
    """
    for line in text.split("\n"):
        if line.strip() and not line.startswith("#"):
            found = _ANY.match(line)
            if not found or found[4] or _number(found[2]) is None:
                raise ValueError(
                    f'not metrics in Prometheus\' text format: there is a line "{excerpt(line)}"'
                )
            return
