"""Answers to the http probe: what a status, JSON, metrics or text mean."""

from __future__ import annotations

import json
import math
import string
import time

import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest
from prometheus_client.openmetrics.exposition import generate_latest as openmetrics
from prometheus_client.parser import text_string_to_metric_families

from gracewrap.config.probe_specs import Expect
from gracewrap.http_client.response import Response
from gracewrap.policy.model import BUSY, DRAINED, INVALID, UNREACHABLE, Reading
from gracewrap.probes.http import interpret


def answer(
    body: bytes | str = b"", status: int = 200, reason: str = "OK", **headers: str
) -> Response:
    named = tuple(
        (name.replace("_", "-").encode(), value.encode()) for name, value in headers.items()
    )
    return Response(status, reason, named, body.encode() if isinstance(body, str) else body)


def by_json(value: object, pointer: str = "/active", **wanted: object) -> Reading:
    return interpret(Expect("json", pointer, **wanted), answer(json.dumps(value)))


def by_metric(text: str, selector: str = "in_flight", **wanted: object) -> Reading:
    return interpret(Expect("metric", selector, **wanted), answer(text))


def by_text(text: str, pattern: str, **wanted: object) -> Reading:
    return interpret(Expect("text", pattern, **wanted), answer(text))


# Status.


@pytest.mark.parametrize(
    ("wanted", "status", "kind"),
    [
        (200, 200, DRAINED),
        (503, 503, DRAINED),
        (404, 404, DRAINED),
        (302, 302, DRAINED),
        (200, 503, BUSY),
        (200, 204, BUSY),
        (503, 200, BUSY),
        (200, 500, BUSY),
        (200, 429, BUSY),
        (204, 200, BUSY),
        (200, 404, INVALID),
        (200, 401, INVALID),
        (200, 403, INVALID),
        (200, 405, INVALID),
        (200, 501, INVALID),
        (200, 302, INVALID),
        (200, 308, INVALID),
        (200, 400, INVALID),
    ],
)
def test_status(wanted, status, kind):
    assert interpret(Expect(status=wanted), answer("", status, "So")).kind == kind


def test_the_reason_names_the_status():
    assert interpret(Expect(), answer("", 404, "Not Found")) == Reading(
        INVALID, None, "404 Not Found"
    )
    moved = interpret(Expect(), answer("", 302, "Found", location="/login"))
    assert moved.why == "302 Found to /login: redirects are not followed"


@pytest.mark.parametrize("how", ["json", "metric", "text"])
@pytest.mark.parametrize(
    ("status", "kind"),
    [(503, UNREACHABLE), (500, UNREACHABLE), (501, INVALID), (404, INVALID), (307, INVALID)],
)
def test_a_body_counts_only_with_a_2xx_status(how, status, kind):
    reading = interpret(
        Expect(how, "/a" if how == "json" else "a"), answer('{"a": 0}', status, "Such")
    )
    assert reading.kind == kind and str(status) in reading.why


@pytest.mark.parametrize("how", ["json", "metric", "text"])
def test_incomplete_and_compressed_responses_are_invalid(how):
    expect = Expect(how, "/a" if how == "json" else "a")
    assert (
        interpret(expect, Response(200, "OK", (), b'{"a": 0}', complete=False)).why
        == "the response is longer than 1 MiB"
    )
    assert "gzip" in interpret(expect, answer(b"\x1f\x8b", content_encoding="gzip")).why
    assert (
        interpret(Expect(), Response(200, "OK", (), b"", complete=False)).kind == DRAINED
    )  # but the status was expected


# JSON.


@pytest.mark.parametrize(
    ("value", "wanted", "kind", "in_flight"),
    [
        (0, {}, DRAINED, 0),
        (3, {}, BUSY, 3),
        (-1, {}, DRAINED, -1),
        (0.0, {}, DRAINED, 0),
        (2.5, {}, BUSY, 2.5),
        (3, {"equals": 3}, DRAINED, 3),
        (2, {"equals": 3}, DRAINED, 2),
        (4, {"equals": 3.5}, BUSY, 4),
        (3, {"at_most": 5.0}, DRAINED, 3),
        (6, {"at_most": 5.0}, BUSY, 6),
        (6, {"equals": 9, "at_most": 5.0}, BUSY, 6),
        ("0", {}, DRAINED, 0),
        ("3", {}, BUSY, 3),
        (" 1.5 ", {"equals": "2"}, DRAINED, 1.5),
        (0, {"equals": "0"}, DRAINED, 0),
        ("idle", {"equals": "idle"}, DRAINED, None),
        ("busy", {"equals": "idle"}, BUSY, None),
        ("", {"equals": ""}, DRAINED, None),
        ("0", {"equals": "idle"}, BUSY, None),
        (True, {"equals": True}, DRAINED, None),
        (False, {"equals": True}, BUSY, None),
        (False, {"equals": False}, DRAINED, None),
        ("True", {"equals": True}, DRAINED, None),
        ([], {}, DRAINED, 0),
        ({}, {}, DRAINED, 0),
        ([1, 2, [3]], {}, BUSY, 6),
        ({"a": 1, "b": {"c": 2.5}}, {}, BUSY, 3.5),
        ({"a": 0, "on": True, "name": "x"}, {}, DRAINED, 0),
        ({"a": [], "b": {}}, {}, DRAINED, 0),
        ([0, 0], {}, DRAINED, 0),
        (10**400, {}, BUSY, math.inf),
        (10**400, {"at_most": 1e308}, BUSY, math.inf),
        (math.inf, {}, BUSY, math.inf),
    ],
)
def test_json_is_compared(value, wanted, kind, in_flight):
    reading = by_json({"active": value}, **wanted)
    assert (reading.kind, reading.in_flight) == (kind, in_flight), reading
    assert bool(reading.why) is (kind == BUSY)


@pytest.mark.parametrize(
    ("value", "wanted", "expected"),
    [
        (None, {}, "/active is null"),
        (True, {}, "set equals = true"),
        (False, {"at_most": 3.0}, "/active is false"),
        ("idle", {}, '/active is "idle", not a number: set equals = "..."'),
        (1, {"equals": True}, "neither true nor false"),
        (1, {"equals": "idle"}, "/active is 1, not a string"),
        ([1], {"equals": "idle"}, "a list"),
        ({}, {"equals": True}, "an object"),
        (math.nan, {}, "/active is NaN"),
        ([1, math.nan], {}, "NaN"),
        (-math.inf, {}, "-inf"),
        (["job-1", "job-2"], {}, "/active is a list without any number in it"),
        ([True], {}, "any number"),
        ({"a": None}, {}, "any number"),
        ([10**400, 0.5], {}, "too large"),
        ("nan", {}, "not a number"),
        ("1_000", {}, "not a number"),
        ("٣", {}, "not a number"),
    ],
)
def test_json_of_another_type_is_invalid(value, wanted, expected):
    reading = by_json({"active": value}, **wanted)
    assert reading.kind == INVALID and expected in reading.why, reading


DOCUMENT = {
    "foo": ["bar", "baz"],
    "": 0,
    "a/b": 1,
    "c%d": 2,
    "e^f": 3,
    "g|h": 4,
    "i\\j": 5,
    'k"l': 6,
    " ": 7,
    "m~n": 8,
}


@pytest.mark.parametrize(
    ("pointer", "value"),
    [
        ("/foo/0", "bar"),
        ("/", "0"),
        ("/a~1b", "1"),
        ("/c%d", "2"),
        ("/e^f", "3"),
        ("/g|h", "4"),
        ("/i\\j", "5"),
        ('/k"l', "6"),
        ("/ ", "7"),
        ("/m~0n", "8"),
    ],
)
def test_json_pointers_of_rfc_6901(pointer, value):
    """Its section 5."""
    assert by_json(DOCUMENT, pointer, equals=value).kind == DRAINED


@pytest.mark.parametrize(
    ("pointer", "expected"),
    [
        ("/active/jobs", "no /active/jobs in the response; it has: uptime, tasks"),
        ("/tasks/x", "/tasks is a list of 2"),
        ("/tasks/2", "a list of 2"),
        ("/tasks/-", "a list of 2"),
        ("/tasks/00", "a list of 2"),
        ("/tasks/٠", "a list"),
        ("/uptime/s", "/uptime is 7"),
        ("/tasks/0/a", "/tasks/0 is null"),
        ("/", "it has"),
    ],
)
def test_the_reason_shows_what_the_pointer_does_not_find(pointer, expected):
    reading = by_json({"uptime": 7, "tasks": [None, 1]}, pointer)
    assert reading.kind == INVALID and expected in reading.why, reading


@pytest.mark.parametrize(
    ("body", "expected"),
    [
        (b"", "empty"),
        (b"  \n", "empty"),
        (b"<!doctype html>", 'starts with "<!doctype html>"'),
        (b"{", "line 1, column 2"),
        (b"\xff\xfe\x00", "JSON"),
        (b"[" * 1_000_000, "too deep"),
        (b'{"a": ' * 100_000, "too deep"),
        (b'{"active": ' + b"9" * 5000 + b"}", "4300 digits"),
        (b"\x80", "JSON"),
        (b"NaN", "the response is NaN"),
        (b'"\\ud800"', "not a number"),
    ],
)
def test_the_reason_shows_what_is_not_json(body, expected):
    reading = interpret(Expect("json", ""), answer(body))
    assert reading.kind == INVALID and expected in reading.why, reading


def test_json_in_other_encodings():
    for encoding in ("utf-8-sig", "utf-16", "utf-32"):
        assert (
            interpret(
                Expect("json", "/ä"),
                answer(json.dumps({"ä": 0}, ensure_ascii=False).encode(encoding)),
            ).kind
            == DRAINED
        )


leaves = st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5)
trees = st.recursive(
    leaves,
    lambda inner: (
        st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=3), inner, max_size=4)
    ),
)
wanteds = st.one_of(
    st.fixed_dictionaries(
        {"equals": st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=4)}
    ),
    st.fixed_dictionaries({"at_most": st.floats(allow_nan=False)}),
)


@given(trees, st.text(st.sampled_from("/ab01~-"), max_size=6), wanteds)
def test_any_json_gives_a_reading(tree, pointer, wanted):
    reading = by_json(tree, pointer, **wanted)
    assert reading.kind in (DRAINED, BUSY, INVALID)
    assert reading.why or reading.kind == DRAINED


@given(trees)
def test_every_value_has_a_pointer(tree):
    def walk(value: object, pointer: str):
        yield pointer, value
        if isinstance(value, dict):
            for key, one in value.items():
                yield from walk(one, f"{pointer}/{key.replace('~', '~0').replace('/', '~1')}")
        if isinstance(value, list):
            for number, one in enumerate(value):
                yield from walk(one, f"{pointer}/{number}")

    for pointer, value in walk(tree, ""):
        if isinstance(value, str) or (isinstance(value, int) and abs(value) < 1 << 53):
            assert by_json(tree, pointer, equals=value).kind == DRAINED


@given(st.binary(max_size=60), st.sampled_from(["status", "json", "metric", "text"]))
def test_any_bytes_give_a_reading(body, how):
    assert interpret(Expect(how, "" if how == "json" else "a"), answer(body)).kind in (
        DRAINED,
        BUSY,
        INVALID,
    )


# Metrics.

EXPOSED = """\
# HELP in_flight Requests, and a line in_flight 99 that is none.
# TYPE in_flight gauge
in_flight{method="GET",path="/a\\"b\\\\c,x=\\"y\\"}"} 3
in_flight{method="POST",path="/",} 4 1395066363000
in_flight {  method = "PUT" , path = "two\\nlines" } 5e0
  in_flight{method="DELETE"}	6
in_flight_total 100
other{in_flight="1"} 50
not_in_flight 7
empty 0
bare 2
up{}1
big +Inf
odd NaN
less -Inf
hex 0x10
under 1_000
with_exemplar_bucket{le="1"} 5 1520879607.789 # {trace_id="}KOO5S4vxi0o"} 0.67
with_exemplar_total 6 # {trace_id="a b"} 0.67 1520879607.789
"quoted" 1
{"utf.8", a="b"} 1
broken{a="b" 0
broken_too{a=b} 0 x
"""


@pytest.mark.parametrize(
    ("selector", "value"),
    [
        ("in_flight", 18),
        ('in_flight{method="GET"}', 3),
        ('in_flight{method!="GET"}', 15),
        ('in_flight{method=~"P.*"}', 9),
        ('in_flight{method=~"P"}', None),
        ('in_flight{method!~"P.*"}', 9),
        ('in_flight{method=~"GET|PUT",path!="/"}', 8),
        ('in_flight{path="/a\\"b\\\\c,x=\\"y\\"}"}', 3),
        ('in_flight{path="two\\nlines"}', 5),
        ('in_flight{path=""}', 6),
        ('in_flight{path=~"|/"}', 10),
        ('in_flight{nobody=""}', 18),
        ('in_flight{nobody!=""}', None),
        ('in_flight{x="y"}', None),
        ("in_flight_total", 100),
        ("bare", 2),
        ("up", 1),
        ("big", math.inf),
        ("with_exemplar_bucket", 5),
        ("with_exemplar_total", 6),
        ('with_exemplar_bucket{le="1"}', 5),
        ('with_exemplar_bucket{trace_id=""}', 5),
        ("with_exemplar", None),
        ("flight", None),
        ("in", None),
    ],
)
def test_metrics_are_summed_over_their_labels(selector, value):
    reading = by_metric(EXPOSED, selector)
    assert reading.kind == BUSY and reading.in_flight == value, reading
    if value is not None:
        assert by_metric(EXPOSED, selector, at_most=value).kind == DRAINED


def test_metrics_compare_and_can_be_absent():
    assert by_metric(EXPOSED, "empty") == Reading(DRAINED, 0.0)
    assert by_metric(EXPOSED, "bare", equals=2) == Reading(DRAINED, 2.0)
    assert by_metric(EXPOSED, "gone") == Reading(BUSY, None, "no gone in the response")
    assert by_metric(EXPOSED, "gone", absent="zero") == Reading(DRAINED, 0.0)
    assert by_metric(EXPOSED, 'in_flight{x="y"}', absent="zero").kind == DRAINED
    assert by_metric("", "gone", absent="zero").kind == DRAINED  # Envoy's ?usedonly
    assert by_metric("a 0\r\nb 1\r\n", "a").kind == DRAINED


@pytest.mark.parametrize("selector", ["odd", "less", "hex", "under", "broken", "broken_too"])
def test_metrics_that_cannot_be_summed(selector):
    reading = by_metric(EXPOSED, selector, absent="zero")
    assert reading.kind == INVALID and selector in reading.why, reading


@pytest.mark.parametrize(
    "page",
    ["<html><body>in_flight 0</body></html>", '{"in_flight": 0}', "in flight: none", "\n\n  <p>"],
)
def test_a_page_without_metrics_is_invalid(page):
    reading = by_metric(page, absent="zero")
    assert reading.kind == INVALID and "not metrics" in reading.why


label_names = st.text(string.ascii_letters + "_", min_size=1, max_size=3).filter(
    lambda name: not name.startswith("__") and name != "le"
)
label_values = st.text(st.sampled_from('ab{}",= \\\n#ä'), max_size=6)
names = st.sampled_from(["in_flight", "in_flight_now", "jobs:active"])
sample_values = st.floats(-1e300, 1e300) | st.sampled_from(
    [math.inf, -math.inf]
)  # no sum of which overflows
samples = st.lists(
    st.tuples(names, st.dictionaries(label_names, label_values, max_size=3), sample_values),
    max_size=8,
)


def escaped(value: str) -> str:
    return value.replace("\\", "\\\\").replace("\n", "\\n").replace('"', '\\"')


@given(samples, names, st.dictionaries(label_names, label_values, max_size=2))
@example(
    [("in_flight", {"a": "\\n"}, 1.0), ("in_flight", {"a": "\n"}, 2.0)], "in_flight", {"a": "\\n"}
)
def test_metrics_are_read_as_prometheus_client_reads_them(written, name, wanted):
    def labels(some: dict[str, str]) -> str:
        return (
            "{" + ",".join(f'{key}="{escaped(value)}"' for key, value in some.items()) + "}"
            if some
            else ""
        )

    text = "".join(f"{one}{labels(some)} {value!r}\n" for one, some, value in written)
    values = [
        sample.value
        for family in text_string_to_metric_families(text)
        for sample in family.samples
        if sample.name == name
        and all(sample.labels.get(key, "") == value for key, value in wanted.items())
    ]
    reading = by_metric(text, name + labels(wanted))
    if -math.inf in values:
        assert reading.kind == INVALID
    else:
        assert reading.in_flight == (sum(values) if values else None)


def test_what_prometheus_client_exposes():
    registry = CollectorRegistry()
    gauge = Gauge("jobs", "Jobs", ["queue"], registry=registry)
    gauge.labels("a b").set(2)
    gauge.labels('"').set(3)
    Counter("done", "Done", registry=registry).inc(7, {"trace": "x"})
    Histogram("took", "Took", registry=registry, buckets=(1, 2)).observe(1.5, {"trace": "y"})
    for text in (generate_latest(registry).decode(), openmetrics(registry).decode()):
        assert by_metric(text, "jobs").in_flight == 5
        assert by_metric(text, 'jobs{queue="\\""}').in_flight == 3
        assert by_metric(text, "done_total").in_flight == 7
        assert by_metric(text, 'took_bucket{le="2.0"}').in_flight == 1


@given(st.text(st.sampled_from('in_flight{}"\\=,# \t\n\r01.eNa+-<')))
def test_any_metric_text_gives_a_reading(text):
    for selector in ("in_flight", 'in_flight{a="1"}', 'i{a!~"1"}'):
        assert by_metric(text, selector).kind in (DRAINED, BUSY, INVALID)


MIB = 1 << 20


@pytest.mark.parametrize(
    "body",
    [
        b'm{a="b"} 1\n' * (MIB // 11),
        b"m 1\n" * (MIB // 4),
        b'm{a="' * (MIB // 5),
        b"m{" + b'"' * MIB,
        b"m" + b" " * MIB,
        b"m 1" + b" " * MIB + b"x",
        b"m 1 " + b"1" * MIB + b"x",
        b"\n" * MIB,
        b" m 1\n" * (MIB // 5),
        b'm{a="' + b"\\" * MIB + b'"} 1',
        b"m{" + b'a="b",' * (MIB // 6),
        b"m" * MIB,
        b"\xff" * MIB,
    ],
    ids=map(str, range(13)),
)
def test_parsing_takes_linear_time(body):
    """1 MiB usually takes 5 ms, the worst of these 0.25 s; quadratic time would exceed 8 s."""
    began = time.process_time()
    interpret(Expect("metric", 'm{a!="c"}'), answer(body))
    interpret(Expect("metric", "m"), answer(body))
    assert time.process_time() - began < 8


# Text.


@pytest.mark.parametrize(
    ("text", "pattern", "wanted", "kind", "in_flight"),
    [
        ("Active connections: 1 \n", r"Active connections: (\d+)", {"at_most": 1.0}, DRAINED, 1),
        ("Reading: 0 Writing: 3 Waiting: 2", r"Writing: (\d+)", {"equals": 1}, BUSY, 3),
        ("42", r"\d+", {}, BUSY, 42),
        ("0", r"\d+", {}, DRAINED, 0),
        ("load -0.5", r"-?[\d.]+", {}, DRAINED, -0.5),
        ("state: idle", r"state: (\w+)", {"equals": "idle"}, DRAINED, None),
        ("state: busy", r"state: (\w+)", {"equals": "idle"}, BUSY, None),
        ("drained true", r"true|false", {"equals": True}, DRAINED, None),
        ("a=1 b=2", r"a=(\d) b=(\d)", {}, BUSY, 1),
    ],
)
def test_text_is_searched(text, pattern, wanted, kind, in_flight):
    reading = by_text(text, pattern, **wanted)
    assert (reading.kind, reading.in_flight) == (kind, in_flight), reading


@pytest.mark.parametrize(
    ("text", "pattern", "expected"),
    [
        ("hello", r"jobs: (\d+)", 'in the response, which starts with "hello"'),
        ("state: busy", r"state: (\w+)", "not a number"),
        ("ab", "a(x)?", "matched nothing"),
        ("x" * 8192 + "jobs: 0", r"jobs: (\d+)", "in the first 8 KiB"),
        (" " * (8192 - 7) + "jobs: 100", r"jobs: (\d+)", "in the first 8 KiB"),
    ],
)
def test_text_that_is_invalid(text, pattern, expected):
    reading = by_text(text, pattern, at_most=1.0)
    assert reading.kind == INVALID and expected in reading.why, reading


@given(st.text(), st.sampled_from([r"(\d+)", r"a(b)?", r".*", r"\w+ (\S+)", ""]), wanteds)
def test_any_text_gives_a_reading(text, pattern, wanted):
    assert by_text(text, pattern, **wanted).kind in (DRAINED, BUSY, INVALID)


# Expectations that the configuration refuses.


@pytest.mark.parametrize(
    "expect",
    [
        Expect("json", "active.jobs"),
        Expect("metric", "a b"),
        Expect("metric", 'a{b=~"("}'),
        Expect("text", "(a+)+b"),
    ],
)
def test_an_invalid_expectation_is_never_met(expect):
    assert interpret(expect, answer("a 0\n")).kind == INVALID


@given(
    st.sampled_from(["json", "metric", "text"]),
    st.text(max_size=12) | st.text(st.sampled_from('a{}="~!(+*/\\')),
)
def test_any_expectation_gives_a_reading(how, what):
    assert interpret(Expect(how, what), answer("a 0\n")).kind in (DRAINED, BUSY, INVALID)
