"""The http probe: sends a request, and interprets the answer by status, JSON value, metric or text.

Only an unambiguous answer counts as drained.  One that cannot be interpreted is INVALID, and the
reason says what was found instead.
"""

from __future__ import annotations

import json
import re

from gracewrap.config.parsers import answer_selectors
from gracewrap.http_client.exchange import Exchange
from gracewrap.http_client.response import REFUSED, Failure, Response
from gracewrap.http_client.safe_text import excerpt, printable
from gracewrap.policy.model import BUSY, DRAINED, FAILED, INVALID, UNREACHABLE, Reading
from gracewrap.probes import prometheus
from gracewrap.probes.base import Probe
from gracewrap.record import TYPE_CHECKING

if TYPE_CHECKING:
    from gracewrap.config.probe_specs import Expect, HttpProbeSpec
    from gracewrap.linux.hook_and_probe_process_groups import Helpers
    from gracewrap.linux.reactor import Reactor
    from gracewrap.probes.base import OnReading

    Number = int | float

# Statuses that have nothing to do with a drain: the request is wrong, or goes to the wrong place.
MISTAKES = {301, 302, 303, 307, 308, 400, 401, 403, 404, 405, 501}
# Bytes of a body that are searched for a text.  Even a harmless regular expression can take
# quadratic time (\d+ jobs, in a page of digits: 19 s for 64 KiB), and a search cannot be aborted.
MAX_SEARCHED = 1 << 13


class Uninterpretable(Exception):
    """The response does not say what is expected, or the expectation is invalid; the text says
    why."""


class HttpProbe(Probe):
    """Sends one request per sample."""

    def __init__(
        self, spec: HttpProbeSpec, reactor: Reactor, helpers: Helpers | None = None
    ) -> None:
        """*helpers* look up host names; see Exchange."""
        self._spec, self._reactor, self._helpers = spec, reactor, helpers
        self._exchange: Exchange | None = None

    def sample(self, on_reading: OnReading) -> None:
        """Take one sample."""
        self.cancel()
        self._exchange = Exchange(
            self._reactor,
            self._spec.request,
            lambda outcome: on_reading(reading(self._spec, outcome)),
            self._helpers,
        )

    def cancel(self) -> None:
        """Abort the sample in progress, if any."""
        if self._exchange is not None:
            self._exchange.cancel()
            self._exchange = None


def reading(spec: HttpProbeSpec, outcome: Response | Failure) -> Reading:
    """Return the reading for a response, or for the failure to get one."""
    if isinstance(outcome, Response):
        try:
            return interpret(spec.expect, outcome)
        except Exception as error:  # a bug, or no memory
            return Reading(INVALID, None, f"{type(error).__name__}: {printable(str(error))}")
    if outcome.kind == REFUSED:
        kind = {"drained": DRAINED, "fail": FAILED}.get(spec.on_refused, UNREACHABLE)
        return Reading(kind, None, outcome.why, refused=kind == UNREACHABLE)
    kind = INVALID if outcome.kind == INVALID else UNREACHABLE
    return Reading(kind, None, outcome.why, asked=outcome.asked)


def interpret(expect: Expect, response: Response) -> Reading:
    """Return the reading for *response*."""
    if expect.how == "status":
        return _status(expect, response)
    if response.status >= 500 and response.status != 501:
        return Reading(UNREACHABLE, None, response.status_line)
    try:
        _check_head(response)
        return {"json": _json, "metric": _metric, "text": _text}[expect.how](expect, response.body)
    except Uninterpretable as error:
        return Reading(INVALID, None, str(error))


def _status(expect: Expect, response: Response) -> Reading:
    if response.status == expect.status:
        return Reading(DRAINED)
    if 300 <= response.status < 400:
        return Reading(INVALID, None, _redirect(response))
    return Reading(INVALID if response.status in MISTAKES else BUSY, None, response.status_line)


def _redirect(response: Response) -> str:
    location = response.header(b"location")
    to = f" to {excerpt(location)}" if location else ""
    return f"{response.status_line}{to}: redirects are not followed"


def _check_head(response: Response) -> None:
    """Check that the body can be interpreted.

    Raises:
        Uninterpretable: If it cannot.
    """
    if 300 <= response.status < 400:
        raise Uninterpretable(_redirect(response))
    if not 200 <= response.status < 300:
        raise Uninterpretable(response.status_line)
    if not response.complete:  # the sum of half of the metrics would be too small
        raise Uninterpretable("the response is longer than 1 MiB")
    encoding = response.header(b"content-encoding").strip().lower()
    if encoding not in ("", "identity"):
        raise Uninterpretable(
            f"the response is compressed ({excerpt(encoding)}), although the request forbids it"
        )


# Comparing the value found with the expected one.


def _compare(expect: Expect, value: object, place: str) -> Reading:
    """Return the reading for a number, string or boolean.

    A number (the string "3" is one too) means drained if it is not above the expected one; a string
    or boolean if it equals the expected one.

    Raises:
        Uninterpretable: If *value* is not of the expected type.
    """
    limit = _expected_number(expect)
    if limit is not None:
        number = None if isinstance(value, bool) else _number(value)
        if number is None:
            raise _wrong_type(place, value, "not a number")
        return _compare_number(number, limit, place)
    if isinstance(expect.equals, bool):
        if isinstance(value, str):
            value = {"true": True, "false": False}.get(value.lower(), value)
        if not isinstance(value, bool):
            raise _wrong_type(place, value, "neither true nor false")
        equal = value is expect.equals
    elif isinstance(value, str):
        equal = value == expect.equals
    else:
        raise _wrong_type(place, value, "not a string")
    return Reading(DRAINED) if equal else Reading(BUSY, None, f"{place} is {_shown(value)}")


def _compare_number(number: Number, limit: Number, place: str) -> Reading:
    if _is_nan(number) or number == -_INFINITY:
        raise Uninterpretable(f"{place} is {_shown(number)}")
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


def _expected_number(expect: Expect) -> Number | None:
    """Return the expected number, or None if a string or a boolean is expected."""
    if expect.at_most is not None:
        return expect.at_most
    return None if isinstance(expect.equals, bool) else _number(expect.equals)


def _number(value: object) -> Number | None:
    """Return *value* if it is a number, the number in a decimal string, else None."""
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


def _wrong_type(place: str, value: object, problem: str) -> Uninterpretable:
    """Return an error that suggests the setting for the type of *value*."""
    hint = ""
    if isinstance(value, bool):
        hint = f": set equals = {_shown(value)}"
    elif isinstance(value, str):
        hint = ': set equals = "..."'
    elif isinstance(value, int | float):
        hint = ": set equals = 0, or at_most"
    return Uninterpretable(f"{place} is {_shown(value)}, {problem}{hint}")


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
    value = _resolve(_load(body), expect.what)
    place = expect.what or "the response"
    if isinstance(value, dict | list) and _expected_number(expect) is not None:
        value = _sum(value, place)
    return _compare(expect, value, place)


def _load(body: bytes) -> object:
    """Return the JSON value of a body.

    Raises:
        Uninterpretable: If it is not JSON.
    """
    try:
        return json.loads(body)
    except RecursionError:
        raise Uninterpretable("the JSON is nested too deeply") from None
    except json.JSONDecodeError as error:
        if not body.strip():
            raise Uninterpretable("the response is empty, not JSON") from None
        start = excerpt(body[:40].decode(errors="replace"))
        raise Uninterpretable(
            f"not JSON (line {error.lineno}, column {error.colno}): the response starts with "
            f'"{start}"'
        ) from None
    except ValueError as error:  # UnicodeDecodeError, or an int of more than 4300 digits
        raise Uninterpretable(f"cannot parse the JSON: {excerpt(str(error))}") from None


def _resolve(value: object, pointer: str) -> object:
    """Return the part of *value* that a JSON Pointer refers to.

    Raises:
        Uninterpretable: If it does not exist, or the pointer is invalid.
    """
    try:
        steps = answer_selectors.parse_pointer(pointer)
    except ValueError as error:
        raise Uninterpretable(str(error)) from None
    parent = ""
    for written, step in zip(pointer.split("/")[1:], steps):
        if isinstance(value, dict) and step in value:
            value = value[step]
        elif isinstance(value, list) and _is_index(step, len(value)):
            value = value[int(step)]
        else:
            raise Uninterpretable(
                f"no {pointer} in the response; {parent or 'it'} {_description(value)}"
            )
        parent += f"/{written}"
    return value


def _is_index(step: str, length: int) -> bool:
    plain = step.isascii() and step.isdecimal() and (step == "0" or step[0] != "0")
    return plain and len(step) < 10 and int(step) < length


def _description(value: object) -> str:
    if isinstance(value, dict):
        names = ", ".join(excerpt(name) for name in list(value)[:8])
        return f"has: {names}{', ...' if len(value) > 8 else ''}" if value else "is empty"
    if isinstance(value, list):
        return f"is a list of {len(value)}"
    return f"is {_shown(value)}"


def _sum(container: object, place: str) -> Number:
    """Return the sum of all numbers in a list or an object, at any depth.  Booleans do not count.

    Raises:
        Uninterpretable: If it is not empty but has no number: three names of jobs are not 0 jobs.
    """
    total: Number = 0
    numbers = others = 0
    stack = [container]
    while stack:
        value = stack.pop()
        if isinstance(value, dict):
            stack.extend(value.values())
        elif isinstance(value, list) and not set(map(type, value)) <= {int, float}:
            stack.extend(value)
        elif isinstance(value, list | int | float) and not isinstance(value, bool):
            summands = value if isinstance(value, list) else [value]
            try:
                total += sum(summands)
            except OverflowError:  # an int beyond 1e308 and a float
                raise Uninterpretable(f"{place} has numbers that are too large to add") from None
            numbers += len(summands)
        else:
            others += 1
    if others and not numbers:
        raise Uninterpretable(f"{place} is {_shown(container)} without any number in it")
    return total


# Metrics.


_selectors: dict[str, prometheus.Selector] = {}


def _metric(expect: Expect, body: bytes) -> Reading:
    text = prometheus.normalize(body)
    try:
        total, count = prometheus.total(_selector(expect.what), text)
        if not count:
            prometheus.check_is_metrics(text)
    except ValueError as error:
        raise Uninterpretable(str(error)) from None
    if count:
        return _compare_number(total, _expected_number(expect) or 0, expect.what)
    if expect.absent == "zero":
        return Reading(DRAINED, 0.0)
    return Reading(BUSY, None, f"no {expect.what} in the response")


def _selector(text: str) -> prometheus.Selector:
    """Return the selector for NAME or NAME{label="value", other=~"regex"}.

    Raises:
        Uninterpretable: If it is invalid.
    """
    if text not in _selectors:
        try:
            name, labels = answer_selectors.parse_selector(text)
        except ValueError as error:
            raise Uninterpretable(str(error)) from None
        matchers = tuple(
            (label, operator, value, _compiled(value) if "~" in operator else None)
            for label, operator, value in labels
        )
        _selectors[text] = prometheus.Selector(name, prometheus.line_pattern(name), matchers)
    return _selectors[text]


# Text.


def _text(expect: Expect, body: bytes) -> Reading:
    text = body[:MAX_SEARCHED].decode(errors="replace")
    pattern = f'"{excerpt(expect.what)}"'
    match = _compiled(expect.what).search(text)
    truncated = len(body) > MAX_SEARCHED
    # A match at the very end of the searched part may be cut off: 1 of 1000.
    if not match or (truncated and match.end() == len(text)):
        part = (
            f"the first {MAX_SEARCHED >> 10} KiB of the response" if truncated else "the response"
        )
        raise Uninterpretable(f'no {pattern} in {part}, which starts with "{excerpt(text[:60])}"')
    group = match[1] if match.re.groups else match[0]
    if group is None:
        raise Uninterpretable(f'the group in {pattern} matched nothing in "{excerpt(match[0])}"')
    return _compare(expect, group, pattern)


_patterns: dict[str, re.Pattern[str]] = {}


def _compiled(pattern: str) -> re.Pattern[str]:
    """Return a regular expression, compiled.

    Raises:
        Uninterpretable: If it is invalid, or could take too long.
    """
    if pattern not in _patterns:
        try:
            _patterns[pattern] = answer_selectors.compiled(pattern)
        except ValueError as error:
            raise Uninterpretable(str(error)) from None
    return _patterns[pattern]
