"""Find a metric in Prometheus' text format, versions 0.0.4 and 1.0.0, or in OpenMetrics 1.0.  Only
its own lines are read."""

from __future__ import annotations

import re

from gracewrap.http_client.safe_text import excerpt
from gracewrap.record import TYPE_CHECKING, Record

if TYPE_CHECKING:
    from collections.abc import Iterator

_NAME, _VALUE = r"[a-zA-Z_:][a-zA-Z0-9_:]*", r'"([^"\\\n]*(?:\\.[^"\\\n]*)*)"'
_LABELS = r'\{[^"{}\n]*(?:"[^"\\\n]*(?:\\.[^"\\\n]*)*"[^"{}\n]*)*\}'
# What follows the name: labels, value, and the rest of the line; or, if it is no sample, the whole
# of it.
_SAMPLE = rf"(?:(?:[ \t]*({_LABELS})[ \t]*|[ \t]+)([^ \t\r\n#{{]+)([^\n]*)|([ \t{{][^\n]*))"
_ANY = re.compile(rf"[ \t]*(?:{_NAME}(?=[ \t{{])|(?={{)){_SAMPLE}")
# A label that is not a plain name is quoted too (Prometheus 3).
_LABEL = re.compile(rf"(?:{_VALUE}|({_NAME}))[ \t]*=[ \t]*{_VALUE}")
_ESCAPED = re.compile(r"\\(.)")


class Selector(Record):
    """A metric's name and what its labels must be."""

    name: str
    lines: re.Pattern[str]  # finds its lines
    matchers: tuple[
        tuple[str, str, str, re.Pattern[str] | None], ...
    ]  # label, one of = != =~ !~, value, regular expression


def lines_of(name: str) -> re.Pattern[str]:
    """Return what finds the lines of a metric in exposed(); it starts with a literal text, which
    makes it fast."""
    return re.compile("\n" + re.escape(name) + _SAMPLE)


def exposed(body: bytes) -> str:
    """Return an answer as it is searched: each line begins with a line end, and is not indented."""
    text = "\n" + body.decode(errors="replace")
    if "\n " in text or "\n\t" in text:  # allowed, and rarely seen
        text = "\n".join(line.lstrip(" \t") for line in text.split("\n"))
    return text


def total(selector: Selector, text: str) -> tuple[float, int]:
    """Return the sum of all series that *selector* means, and how many they are.

    Raises:
        ValueError: If one of its lines cannot be read, or is not a number.
    """
    values = list(_values(selector, text))
    return sum(values), len(values)


def _values(selector: Selector, text: str) -> Iterator[float]:
    for labels, written, rest, wrong in selector.lines.findall(text):
        if wrong or (rest and not _is_tail(rest)):
            raise ValueError(
                "cannot read the line "
                f'"{excerpt(selector.name + (wrong or labels + " " + written + rest))}"'
            )
        if selector.matchers and not _matches(selector, labels):
            continue
        value = _number(written)
        if value is None:
            raise ValueError(f'cannot read the value "{excerpt(written)}" of {selector.name}')
        if not value > -float("inf"):  # nor is NaN
            raise ValueError(f"{selector.name}{excerpt(labels)} is {excerpt(written)}")
        yield value


def _number(written: str) -> float | None:
    if "_" in written or not written.isascii():  # which float() reads, and the format does not have
        return None
    try:
        return float(written)
    except ValueError:
        return None


def _is_tail(rest: str) -> bool:
    """Return whether this can follow a value: a timestamp, an exemplar, both or nothing."""
    words = rest.split(None, 1)
    if words and not words[0].strip("0123456789.+-eE"):
        del words[0]
    return not words or words[0].startswith("#")


def _matches(selector: Selector, labels: str) -> bool:
    """Return whether the labels of a series are as wanted; one that it does not have is empty, as
    in Prometheus."""
    plain = not any(
        mark in labels for mark in (" ", "\t", "\\", '"=')
    )  # then label="value" stands there as it is
    for label, operator, wanted, _ in selector.matchers:
        if plain and operator == "=" and wanted and f'{label}="{wanted}"' not in labels:
            return False  # by far the commonest case: 0.3 us where the rest takes 3
    found = {quoted or name: _unescaped(value) for quoted, name, value in _LABEL.findall(labels)}
    for label, operator, wanted, pattern in selector.matchers:
        value = found.get(label, "")
        same = pattern.fullmatch(value) is not None if pattern else value == wanted
        if same is not (operator in ("=", "=~")):
            return False
    return True


def _unescaped(value: str) -> str:
    return (
        _ESCAPED.sub(lambda one: "\n" if one[1] == "n" else one[1], value)
        if "\\" in value
        else value
    )


def must_be_metrics(text: str) -> None:
    """Look whether an answer without the metric is one of metrics at all, by its first sample; an
    empty one is.

    Raises:
        ValueError: If it is a page of something else: then nothing is known.
    """
    for line in text.split("\n"):
        if line.strip() and not line.startswith("#"):
            found = _ANY.match(line)
            if not found or found[4] or _number(found[2]) is None:
                raise ValueError(
                    f'not metrics in Prometheus\' text format: there is a line "{excerpt(line)}"'
                )
            return
