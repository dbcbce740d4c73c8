"""What an HTTP answer says about the drain: by its status, a place in its JSON, a metric, or a
text.  Asks nobody.

Only an answer that surely says "drained" counts as that.  One that cannot be used is INVALID, and
says what was found instead.
"""

from __future__ import annotations

import json
import re

from gracewrap.config.parsers import selectors
from gracewrap.http_client.safe_text import excerpt
from gracewrap.policy.model import BUSY, DRAINED, INVALID, UNREACHABLE, Reading
from gracewrap.probes import prometheus
from gracewrap.record import TYPE_CHECKING

if TYPE_CHECKING:
    from gracewrap.config.probe_specs import Expect
    from gracewrap.http_client.response import Response

    Number = int | float

# Statuses that no drain brings about: the request is wrong, or goes to the wrong place.
MISTAKES = {301, 302, 303, 307, 308, 400, 401, 403, 404, 405, 501}
# A text is searched so far.  Even an innocent regular expression can take the square of that (\d+
# jobs, in a page of digits: 19 s for 64 KiB), and nothing but its own end ends a search.
SEARCHED = 1 << 13


class Unusable(Exception):
    """An answer that says nothing, or an expectation that cannot be met; the text says why."""


def judge(expect: Expect, answer: Response) -> Reading:
    """Return what *answer* says."""
    if expect.how == "status":
        return _status(expect, answer)
    if answer.status >= 500 and answer.status != 501:
        return Reading(UNREACHABLE, None, answer.status_line)
    try:
        _usable(answer)
        return {"json": _json, "metric": _metric, "text": _text}[expect.how](expect, answer.body)
    except Unusable as error:
        return Reading(INVALID, None, str(error))


def _status(expect: Expect, answer: Response) -> Reading:
    if answer.status == expect.status:
        return Reading(DRAINED)
    if 300 <= answer.status < 400:
        return Reading(INVALID, None, _redirect(answer))
    return Reading(INVALID if answer.status in MISTAKES else BUSY, None, answer.status_line)


def _redirect(answer: Response) -> str:
    to = answer.header(b"location")
    return f"{answer.status_line}{f' to {excerpt(to)}' if to else ''}: redirects are not followed"


def _usable(answer: Response) -> None:
    """Look at what comes before the body.

    Raises:
        Unusable: If it is none to look into.
    """
    if 300 <= answer.status < 400:
        raise Unusable(_redirect(answer))
    if not 200 <= answer.status < 300:
        raise Unusable(answer.status_line)
    if not answer.complete:  # half of a list of metrics has half of their sum
        raise Unusable("the answer is longer than 1 MiB")
    coding = answer.header(b"content-encoding").strip().lower()
    if coding not in ("", "identity"):
        raise Unusable(f"the answer is compressed ({excerpt(coding)}), which was not asked for")


# What was found, against what is wanted.


def _compare(expect: Expect, value: object, place: str) -> Reading:
    """Return what a number, string or boolean that was found means.

    Numbers: drained at the wanted one or below; "3" is one too.  Strings and booleans: drained if
    they are the same.

    Raises:
        Unusable: If it is of another type than what is wanted.
    """
    limit = _wanted(expect)
    number = None if isinstance(value, bool) else _number(value)
    if limit is not None:
        if number is None:
            raise Unusable(f"{place} is {_shown(value)}, which is not a number{_instead(value)}")
        return _count(number, limit, place)
    if isinstance(expect.equals, bool):
        found = (
            {"true": True, "false": False}.get(value.lower()) if isinstance(value, str) else value
        )
        if not isinstance(found, bool):
            raise Unusable(
                f"{place} is {_shown(value)}, which is neither true nor false{_instead(value)}"
            )
        same = found is expect.equals
    elif isinstance(value, str):
        same = value == expect.equals
    else:
        raise Unusable(f"{place} is {_shown(value)}, which is not a string{_instead(value)}")
    return Reading(DRAINED) if same else Reading(BUSY, None, f"{place} is {_shown(value)}")


def _count(number: Number, limit: Number, place: str) -> Reading:
    if _is_nan(number) or number == -_INFINITY:
        raise Unusable(f"{place} is {_shown(number)}")
    try:
        in_flight = float(number)
    except OverflowError:  # an int beyond 1e308
        in_flight = _INFINITY if number > 0 else -_INFINITY
    if number <= limit:
        return Reading(DRAINED, in_flight)
    return Reading(BUSY, in_flight, f"{place} is {_shown(number)}")


_INFINITY = float("inf")


def _is_nan(number: Number) -> bool:
    return number != number  # noqa: PLR0124 - math is not built in everywhere


def _wanted(expect: Expect) -> Number | None:
    """Return the number that is wanted, or None: a string or a boolean is."""
    if expect.at_most is not None:
        return expect.at_most
    return None if isinstance(expect.equals, bool) else _number(expect.equals)


def _number(value: object) -> Number | None:
    """Return *value* if it is a number, or the number that a string writes in decimal; else
    None."""
    if isinstance(value, int | float):
        return value
    if isinstance(value, str) and len(value) <= 400:
        text = value.strip()
        if text and text[-1] in "0123456789." and not text.strip("0123456789.+-eE"):
            try:
                return int(text) if text.lstrip("+-").isdecimal() else float(text)
            except ValueError:
                pass
    return None


def _instead(value: object) -> str:
    if isinstance(value, bool):
        return f": write equals = {_shown(value)}"
    if isinstance(value, str):
        return ': write equals = "..."'
    return ": write equals = 0, or at_most" if isinstance(value, int | float) else ""


def _shown(value: object) -> str:
    if value is None or isinstance(value, bool):
        return {None: "null", True: "true", False: "false"}[value]
    if isinstance(value, str):
        return f'"{excerpt(value)}"'
    if isinstance(value, float):
        return f"{value:.15g}" if not _is_nan(value) else "NaN"
    if isinstance(value, int):
        return str(value) if abs(value) < 1 << 64 else f"beyond {'-' if value < 0 else ''}1e19"
    return "an object" if isinstance(value, dict) else "a list"


# JSON.


def _json(expect: Expect, body: bytes) -> Reading:
    try:
        value = json.loads(body)
    except RecursionError:
        raise Unusable("the answer is JSON that is nested too deep") from None
    except (
        ValueError
    ) as error:  # of the decoder, UnicodeDecodeError, or an int of more than 4300 digits
        if not body.strip():
            raise Unusable("the answer is empty, and not JSON") from None
        if isinstance(error, json.JSONDecodeError):
            start = excerpt(body[:40].decode(errors="replace"))
            raise Unusable(
                f"not JSON (line {error.lineno}, column {error.colno}): the answer starts with "
                f'"{start}"'
            ) from None
        raise Unusable(f"not JSON that can be read: {excerpt(str(error))}") from None
    value = _at(value, expect.what)
    place = expect.what or "the answer"
    if isinstance(value, dict | list) and _wanted(expect) is not None:
        value = _sum(value, place)
    return _compare(expect, value, place)


def _pointer(text: str) -> tuple[str, ...]:
    """Return the steps of a JSON Pointer.

    Raises:
        Unusable: If it is none.
    """
    try:
        return selectors.parse_pointer(text)
    except ValueError as error:
        raise Unusable(str(error)) from None


def _at(value: object, pointer: str) -> object:
    """Return what a JSON Pointer points to in *value*.

    Raises:
        Unusable: If there is nothing.
    """
    above = ""
    for written, step in zip(pointer.split("/")[1:], _pointer(pointer)):
        if isinstance(value, dict) and step in value:
            value = value[step]
        elif isinstance(value, list) and _index(step, len(value)):
            value = value[int(step)]
        else:
            raise Unusable(f"no {pointer} in the answer; {above or 'it'} {_holds(value)}")
        above += f"/{written}"
    return value


def _index(step: str, length: int) -> bool:
    plain = step.isascii() and step.isdecimal() and (step == "0" or step[0] != "0")
    return plain and len(step) < 10 and int(step) < length


def _holds(value: object) -> str:
    if isinstance(value, dict):
        names = [excerpt(name) for name in list(value)[:8]]
        return (
            f"has: {', '.join(names)}{', ...' if len(value) > 8 else ''}" if names else "is empty"
        )
    if isinstance(value, list):
        return f"is a list of {len(value)}"
    return f"is {_shown(value)}"


def _sum(value: object, place: str) -> Number:
    """Return the sum of all numbers in a list or an object, at whatever depth; booleans are none.

    Raises:
        Unusable: If there is something in it, but no number: three names of jobs are not 0 jobs.
    """
    total: Number = 0
    numbers = others = 0
    todo = [value]
    while todo:
        one = todo.pop()
        if isinstance(one, dict):
            todo.extend(one.values())
        elif isinstance(one, list) and not set(map(type, one)) <= {int, float}:
            todo.extend(one)
        elif isinstance(one, list | int | float) and not isinstance(one, bool):
            some = one if isinstance(one, list) else [one]
            try:
                total += sum(some)
            except OverflowError:  # an int beyond 1e308 and a float
                raise Unusable(f"{place} has numbers that are too large to sum up") from None
            numbers += len(some)
        else:
            others += 1
    if others and not numbers:
        raise Unusable(f"{place} is {_shown(value)} with no number in it to sum up")
    return total


# Metrics.


_selectors: dict[str, prometheus.Selector] = {}


def _metric(expect: Expect, body: bytes) -> Reading:
    text = prometheus.exposed(body)
    try:
        total, count = prometheus.total(_selector(expect.what), text)
        if not count:
            prometheus.must_be_metrics(text)
    except ValueError as error:
        raise Unusable(str(error)) from None
    if count:
        return _count(total, _wanted(expect) or 0, expect.what)
    return (
        Reading(DRAINED, 0.0)
        if expect.absent == "zero"
        else Reading(BUSY, None, f"no {expect.what} in the answer")
    )


def _selector(text: str) -> prometheus.Selector:
    """Return what NAME or NAME{label="value", other=~"regex"} means.

    Raises:
        Unusable: If it cannot be read.
    """
    if text not in _selectors:
        try:
            name, found = selectors.parse_selector(text)
        except ValueError as error:
            raise Unusable(str(error)) from None
        matchers = tuple(
            (label, how, value, _compiled(value) if "~" in how else None)
            for label, how, value in found
        )
        _selectors[text] = prometheus.Selector(name, prometheus.lines_of(name), matchers)
    return _selectors[text]


# Text.


def _text(expect: Expect, body: bytes) -> Reading:
    text = body[:SEARCHED].decode(errors="replace")
    found = _compiled(expect.what).search(text)
    # What ends where the search ends may go on behind it: 1 of 1000.
    if not found or (len(body) > SEARCHED and found.end() == len(text)):
        within = f" within its first {SEARCHED >> 10} KiB" if len(body) > SEARCHED else ""
        raise Unusable(
            f'"{excerpt(expect.what)}" is not in the answer{within}, which starts with '
            f'"{excerpt(text[:60])}"'
        )
    group = found[1] if found.re.groups else found[0]
    if group is None:
        raise Unusable(
            f'the group in "{excerpt(expect.what)}" matched nothing in "{excerpt(found[0])}"'
        )
    return _compare(expect, group, f'"{excerpt(expect.what)}"')


_patterns: dict[str, re.Pattern[str]] = {}


def _compiled(pattern: str) -> re.Pattern[str]:
    """Return a regular expression, compiled.

    Raises:
        Unusable: If it is none, or one that can take for ever.
    """
    if pattern not in _patterns:
        try:
            _patterns[pattern] = selectors.compiled(pattern)
        except ValueError as error:
            raise Unusable(str(error)) from None
    return _patterns[pattern]
