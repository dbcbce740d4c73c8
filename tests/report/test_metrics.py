"""The metrics as text, read by Prometheus' own client, and where a Pushgateway takes them."""

from __future__ import annotations

import base64
import contextlib
import http.client
import json
import math
import shutil
import socket
import subprocess
from collections.abc import Iterator
from urllib.parse import unquote

import pytest
from hypothesis import given
from hypothesis import strategies as st
from prometheus_client.metrics_core import Metric
from prometheus_client.parser import text_string_to_metric_families

from gracewrap.record import replace
from gracewrap.report.metrics import BUCKETS, PHASES, Facts, ProgramFacts, exposition, push_path
from processes import BOUND, require, wait_until

PROGRAM = ProgramFacts("web", True, 0, (("requests", 3),), (("http", 2),))
FACTS = Facts("0.1.0", 1732443000.25, "running", (PROGRAM,), zombies_reaped=7, signals_forwarded=1)


def families(facts: Facts) -> dict[str, Metric]:
    """Return the families by name; a counter's name is without its _total."""
    found = list(text_string_to_metric_families(exposition(facts)))
    assert len({one.name for one in found}) == len(found)
    assert all(one.documentation and one.type != "untyped" for one in found)
    return {one.name: one for one in found}


def value(facts: Facts, name: str, **labels: str) -> float:
    """Return the one sample of that name and those labels."""
    found = [
        s.value
        for one in families(facts).values()
        for s in one.samples
        if s.name == name and s.labels == labels
    ]
    assert len(found) == 1, f"{name}{labels}: {found}"
    return float(found[0])


def test_all_of_a_running_program():
    assert value(FACTS, "gracewrap_build_info", version="0.1.0") == 1
    assert value(FACTS, "gracewrap_start_time_seconds") == 1732443000.25
    assert value(FACTS, "gracewrap_program_up", program="web") == 1
    assert value(FACTS, "gracewrap_restarts_total", program="web") == 0
    assert value(FACTS, "gracewrap_drain_in_flight", program="web", unit="requests") == 3
    assert value(FACTS, "gracewrap_probe_failures_total", program="web", probe="http") == 2
    assert value(FACTS, "gracewrap_zombies_reaped_total") == 7
    assert value(FACTS, "gracewrap_signals_forwarded_total") == 1
    assert value(FACTS, "gracewrap_interrupted_total") == 0
    assert not families(FACTS).keys() & {"gracewrap_seconds_left", "gracewrap_exit_status"}


def test_readiness_is_there_where_it_is_known():
    assert "gracewrap_program_ready" not in families(FACTS)
    facts = replace(
        FACTS,
        programs=(
            PROGRAM,
            replace(PROGRAM, name="db", ready=True),
            replace(PROGRAM, name="x", ready=False),
        ),
    )
    samples = families(facts)["gracewrap_program_ready"].samples
    assert {one.labels["program"]: one.value for one in samples} == {"db": 1, "x": 0}


def test_types():
    kinds = {one.name: one.type for one in families(FACTS).values()}
    assert kinds["gracewrap_shutdown_duration_seconds"] == "histogram"
    assert kinds["gracewrap_zombies_reaped"] == "counter"
    assert kinds["gracewrap_phase"] == "gauge"


@pytest.mark.parametrize("phase", PHASES)
def test_it_is_in_one_phase(phase):
    facts = replace(FACTS, phase=phase)
    assert {one: value(facts, "gracewrap_phase", phase=one) for one in PHASES} == {
        one: one == phase for one in PHASES
    }


def test_seconds_left_and_exit_status_when_there_are_such():
    facts = replace(FACTS, seconds_left=12.5, exit_status=143)
    assert value(facts, "gracewrap_seconds_left") == 12.5
    assert value(facts, "gracewrap_exit_status") == 143


@pytest.mark.parametrize("took", [None, 0.0, 1.0, 7.25, 30.0, 31.0])
def test_the_histogram_has_one_observation_or_none(took):
    facts = replace(FACTS, shutdown_duration=took)
    samples = families(facts)["gracewrap_shutdown_duration_seconds"].samples
    buckets = {float(s.labels["le"]): s.value for s in samples if s.name.endswith("_bucket")}
    assert list(buckets) == [*BUCKETS, math.inf]
    assert buckets == {le: took is not None and took <= le for le in buckets}
    assert (
        value(facts, "gracewrap_shutdown_duration_seconds_count")
        == (took is not None)
        == buckets[math.inf]
    )
    assert value(facts, "gracewrap_shutdown_duration_seconds_sum") == (took or 0)


def test_two_probes_that_count_the_same_are_one_sample():
    twice = replace(
        PROGRAM, in_flight=(("jobs", 3), ("jobs", 4.5)), probe_failures=(("http", 1), ("http", 1))
    )
    facts = replace(FACTS, programs=(twice, replace(PROGRAM, name="worker")))
    assert value(facts, "gracewrap_drain_in_flight", program="web", unit="jobs") == 7.5
    assert value(facts, "gracewrap_probe_failures_total", program="web", probe="http") == 2
    assert value(facts, "gracewrap_program_up", program="worker") == 1


def test_what_is_not_there_is_left_out():
    bare = replace(FACTS, programs=(ProgramFacts("web", False),))
    assert not families(bare).keys() & {"gracewrap_drain_in_flight", "gracewrap_probe_failures"}
    assert value(bare, "gracewrap_program_up", program="web") == 0


@given(st.text(st.characters(exclude_categories=["Cs"])), st.floats())
def test_any_name_and_number_can_be_read_back(name, number):
    program = ProgramFacts(name, True, 0, ((name, number),))
    text = exposition(replace(FACTS, programs=(program,)))
    (line,) = [line for line in text.split("\n") if line.startswith("gracewrap_drain_in_flight{")]
    (family,) = text_string_to_metric_families(
        line.replace("\r", " ")
    )  # its reader takes a CR for a line's end
    assert family.samples[0].labels["unit"] == name.replace("\r", " ")
    assert family.samples[0].value == pytest.approx(number, nan_ok=True)


def test_a_name_that_is_no_unicode():
    assert (
        value(
            replace(FACTS, programs=(ProgramFacts("caf\udce9", True),)),
            "gracewrap_program_up",
            program="caf?",
        )
        == 1
    )


def test_where_it_is_pushed():
    assert push_path("web") == "/metrics/job/web"
    assert push_path("web", "host-1") == "/metrics/job/web/instance/host-1"
    # From the README of prometheus/pushgateway.
    assert (
        push_path("titan", "Προμηθεύς")
        == "/metrics/job/titan/instance/%CE%A0%CF%81%CE%BF%CE%BC%CE%B7%CE%B8%CE%B5%CF%8D%CF%82"
    )
    assert push_path("x", "/var/tmp").rstrip("=") == "/metrics/job/x/instance@base64/L3Zhci90bXA"
    assert push_path("..").startswith("/metrics/job@base64/")  # a router would go up


@given(
    st.text(st.characters(exclude_categories=["Cs"]), min_size=1),
    st.text(st.characters(exclude_categories=["Cs"])),
)
def test_any_grouping_can_be_read_back(job, instance):
    """As the gateway does: the path is split at each slash, then decoded."""
    parts = push_path(job, instance)[1:].split("/")
    assert (
        parts[0] == "metrics"
        and all(parts)
        and all(part.isascii() and part.isprintable() for part in parts)
    )
    read = {}
    for label, encoded in zip(parts[1::2], parts[2::2], strict=True):
        name, _, form = label.partition("@")
        read[name] = base64.urlsafe_b64decode(encoded).decode() if form else unquote(encoded)
    assert read == {"job": job} | ({"instance": instance} if instance else {})


@contextlib.contextmanager
def pushgateway() -> Iterator[int]:
    """Debian's Pushgateway, and its port."""
    require(shutil.which("prometheus-pushgateway"), "prometheus-pushgateway")
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    argv = [
        "prometheus-pushgateway",
        f"--web.listen-address=127.0.0.1:{port}",
        "--persistence.file=",
    ]
    with subprocess.Popen(argv, stderr=subprocess.DEVNULL) as process:
        try:
            wait_until(lambda: talk(port, "GET", "/-/ready") is not None, "the Pushgateway is up")
            yield port
        finally:
            process.kill()


def talk(port: int, method: str, path: str, text: str | None = None) -> tuple[int, bytes] | None:
    """Return status and body, or None if nobody listens."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=BOUND)
    try:
        connection.request(method, path, text)
        answer = connection.getresponse()
        return answer.status, answer.read()
    except ConnectionRefusedError:
        return None
    finally:
        connection.close()


def test_a_real_pushgateway_takes_it():
    groups = [
        ("web", "host-1"),
        ("a/b c", "Προμηθεύς"),
        ("..", "x%2Fy"),
        ("100%", "a+b?c#d"),
        ("web", ""),
    ]
    facts = replace(FACTS, phase="ended", shutdown_duration=7.25, seconds_left=0.0, exit_status=0)
    with pushgateway() as port:
        for group in groups:
            assert talk(port, "PUT", push_path(*group), exposition(facts)) == (200, b"")
        answer = talk(port, "GET", "/api/v1/metrics")
    assert answer is not None
    found = json.loads(answer[1])["data"]
    labels = [(one["labels"]["job"], one["labels"].get("instance", "")) for one in found]
    assert sorted(labels) == sorted(groups)
    assert all(one["gracewrap_shutdown_duration_seconds"]["type"] == "HISTOGRAM" for one in found)
