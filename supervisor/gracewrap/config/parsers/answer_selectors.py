"""How a probe says what it looks for in an answer: JSON Pointers, metric selectors, regular
expressions.

Pure; a ValueError says what is wrong and what to write instead.
"""

from __future__ import annotations

import re
import warnings

from gracewrap.record import TYPE_CHECKING

if TYPE_CHECKING:
    from typing import Any

LONGEST = 1000  # characters; whoever writes more has pasted something else

_METRIC = re.compile(r"[a-zA-Z_:][a-zA-Z0-9_:]*")  # Prometheus data model: metric names and labels
_LABEL = re.compile(
    r"""\s*([a-zA-Z_][a-zA-Z0-9_]*)\s*(=~|!~|!=|=)\s*("(?:\\.|[^"\\\n])*"|'(?:\\.|[^'\\\n])*')\s*(,|$)"""
)
_ESCAPES = {r"\n": "\n", r"\\": "\\", r"\"": '"', r"\'": "'"}

Matcher = tuple[str, str, str]  # label, one of = != =~ !~, value


def parse_pointer(text: str) -> tuple[str, ...]:
    """Return the keys on the way that a JSON Pointer (RFC 6901) names; none of them: the whole
    document."""
    if len(text) > LONGEST:
        raise ValueError(f"has more than {LONGEST} characters; is it a JSON Pointer?")
    if text and not text.startswith("/"):
        keys = [
            key for key in re.split(r"[.\[\]/]", text.removeprefix("#").removeprefix("$")) if key
        ]
        raise ValueError(f'not a JSON Pointer, which starts with /; write "/{"/".join(keys)}"')
    if wrong := re.search(r"~(?![01]).?", text):
        raise ValueError(
            f'in a JSON Pointer ~ is written ~0, and / within a key ~1; "{wrong[0]}" is neither'
        )
    return tuple(part.replace("~1", "/").replace("~0", "~") for part in text.split("/")[1:])


def parse_selector(text: str) -> tuple[str, tuple[Matcher, ...]]:
    """Return the name and the label matchers of `name` or `name{label="value", other=~"a|b"}`.

    A regular expression must match the whole value, as in Prometheus.
    """
    if len(text) > LONGEST:
        raise ValueError(f"has more than {LONGEST} characters; is it a metric?")
    name, brace, rest = text.strip().partition("{")
    if not _METRIC.fullmatch(name.strip()):
        raise ValueError(
            """not a metric; write "requests_in_flight", or 'requests_in_flight{handler="api"}'"""
        )
    if brace and not rest.endswith("}"):
        raise ValueError("its } is missing, or something follows it; write 'name{label=\"value\"}'")
    matchers: list[Matcher] = []
    inner, at = rest.removesuffix("}").strip(), 0
    while at < len(inner):
        found = _LABEL.match(inner, at)
        if not found:
            raise ValueError(
                f'cannot read {inner[at : at + 40].strip()}; write label="value" (or !=, =~, !~), '
                "with commas between"
            )
        label, how, value = (
            found[1],
            found[2],
            re.sub(r"\\.", lambda m: _ESCAPES.get(m[0], m[0]), found[3][1:-1]),
        )
        if "~" in how:
            check_regex(value)
        matchers.append((label, how, value))
        at = found.end()
    return name.strip(), tuple(matchers)


def check_regex(text: str) -> None:
    """Raise if *text* is no regular expression, or one whose search may take for ever."""
    compiled(text)


def compiled(text: str) -> re.Pattern[str]:
    """Return a regular expression, compiled."""
    if not text:
        raise ValueError("is empty; write 'active: (\\d+)'")
    if len(text) > LONGEST:
        raise ValueError(f"has more than {LONGEST} characters; is it a regular expression?")
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of what a later Python will read differently
            found = re.compile(text)
            tree = re._parser.parse(text)  # type: ignore[attr-defined]
    except (re.error, OverflowError, RecursionError) as error:
        raise ValueError(f"not a regular expression: {error}") from None
    if _explodes(tree, False):
        # Each more letter would double the time, and nothing but its own end ends a search: the
        # stop would wait for it.
        raise ValueError(
            "repeats what is repeated already, which can take for ever; write it without, or with "
            '"++"'
        )
    return found


def _explodes(tree: Any, repeated: bool) -> bool:
    """Return whether in a parsed regular expression something of no fixed length is repeated, and
    that again."""
    items = getattr(tree, "data", tree)
    if not isinstance(items, tuple | list):
        return False
    kind = str(items[0]) if items else ""
    if kind in ("ATOMIC_GROUP", "POSSESSIVE_REPEAT"):
        return False
    if kind in ("MAX_REPEAT", "MIN_REPEAT"):
        low, high, inner = items[1]
        endless = high != low and high > 10
        return (endless and repeated) or _explodes(inner, repeated or endless)
    return any(_explodes(item, repeated) for item in items)
