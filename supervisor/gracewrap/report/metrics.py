"""Metrics as Prometheus text, for /metrics, a textfile and a Pushgateway.  Pure: facts in, text
out.

Format: the Prometheus text exposition format, version 0.0.4; names as its naming practices ask
(base units, _total).
"""

from __future__ import annotations

from gracewrap.record import TYPE_CHECKING, Record

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping, Sequence

    from gracewrap.policy.model import AgentCounts
    from gracewrap.report.program_history import ProgramHistory

    Sample = tuple[str, Mapping[str, str], float]  # suffix of the name, labels, value

PHASES = ("running", "draining", "stopping", "killing", "ended")
# name: type, what it is
FAMILIES = {
    "gracewrap_build_info": ("gauge", "Always 1; which gracewrap this is."),
    "gracewrap_start_time_seconds": ("gauge", "When the run began, since the epoch."),
    "gracewrap_phase": ("gauge", "1 for the phase it is in, 0 for the others."),
    "gracewrap_program_up": ("gauge", "Whether the program is running."),
    "gracewrap_program_ready": ("gauge", "Whether the program is ready for new work."),
    "gracewrap_program_live": ("gauge", "Whether the program is healthy, as its live check says."),
    "gracewrap_restarts_total": ("counter", "How often the program was started again."),
    "gracewrap_drain_in_flight": (
        "gauge",
        "What it still works on, as its probes said last.",
    ),
    "gracewrap_agent_in_flight": ("gauge", "What the agents in the program have counted last."),
    "gracewrap_probe_failures_total": ("counter", "How often a probe got no answer."),
    "gracewrap_seconds_left": ("gauge", "Seconds until what is left is killed."),
    "gracewrap_interrupted_total": ("counter", "What was in flight when it was killed."),
    "gracewrap_zombies_reaped_total": ("counter", "Orphans whose exit was collected."),
    "gracewrap_signals_forwarded_total": ("counter", "Signals passed on to the programs."),
    "gracewrap_shutdown_duration_seconds": ("histogram", "From the stop request to the last exit."),
    "gracewrap_exit_status": ("gauge", "The exit status that gracewrap ends with."),
}
BUCKETS = (1, 5, 10, 15, 20, 25, 30)  # seconds

_UNRESERVED = frozenset(
    b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-._~"
)  # RFC 3986, section 2.3


class ProgramFacts(Record):
    """What is known of one program."""

    name: str
    up: bool
    restarts: int = 0
    in_flight: tuple[
        tuple[str, float], ...
    ] = ()  # what is counted ("jobs"), and how many; several of a name are summed
    probe_failures: tuple[
        tuple[str, int], ...
    ] = ()  # a probe's kind, and how often there was no answer; summed likewise
    ready: bool | None = None  # None: nothing tells whether it is
    live: bool | None = None  # likewise
    agents: tuple[AgentCounts, ...] = ()  # of each probe that asks agents


class Facts(Record):
    """What is known of all."""

    version: str
    started: float  # seconds since the epoch
    phase: str  # one of PHASES
    programs: tuple[ProgramFacts, ...]
    zombies_reaped: int = 0
    signals_forwarded: int = 0
    interrupted: float = 0  # in flight when it was killed
    seconds_left: float | None = None  # until SIGKILL; while stopping
    shutdown_duration: float | None = None  # seconds, once it is over
    exit_status: int | None = None  # once it is known


def facts_of(
    history: ProgramHistory, up: bool, ready: bool | None = None, live: bool | None = None
) -> ProgramFacts:
    """Return what is known of a program; whether it is *up*, *ready* and *live* only the policy
    knows."""
    return ProgramFacts(
        history.label,
        up,
        history.restarts,
        tuple(
            (one.unit or one.kind, one.last)
            for one in history.in_flight.probes
            if one.last is not None
        ),
        tuple((one.kind, one.failures) for one in history.in_flight.probes),
        ready,
        live,
        tuple(one.counts for one in history.in_flight.probes if one.counts is not None),
    )


def exposition(facts: Facts) -> str:
    """Return the metrics; a family without a sample is left out."""
    lines: list[str] = []
    for name, samples in _samples(facts).items():
        kind, what = FAMILIES[name]
        shown = [
            f"{name}{suffix}{_labels(labels)} {_number(value)}" for suffix, labels, value in samples
        ]
        if shown:
            lines += [f"# HELP {name} {what}", f"# TYPE {name} {kind}", *shown]
    return "\n".join(lines) + "\n"


def _agents(programs: Sequence[ProgramFacts]) -> list[tuple[dict[str, str], float]]:
    found: list[tuple[dict[str, str], float]] = []
    for one in programs:
        for counts in one.agents:
            name = one.name
            found += [
                ({"program": name, "kind": "requests", "queue": ""}, counts.requests),
                ({"program": name, "kind": "streams", "queue": ""}, counts.streams),
                ({"program": name, "kind": "websockets", "queue": ""}, counts.websockets),
            ]
            for queue in counts.jobs:
                labels = {"program": name, "kind": "jobs", "queue": queue.queue}
                found.append((labels, queue.active))
    return found


def _samples(facts: Facts) -> dict[str, list[Sample]]:
    """Return the samples of each family."""
    return {
        "gracewrap_build_info": _one(1, {"version": facts.version}),
        "gracewrap_start_time_seconds": _one(facts.started),
        "gracewrap_phase": [("", {"phase": one}, one == facts.phase) for one in PHASES],
        **_samples_of(facts.programs),
        "gracewrap_seconds_left": _one(facts.seconds_left),
        "gracewrap_interrupted_total": _one(facts.interrupted),
        "gracewrap_zombies_reaped_total": _one(facts.zombies_reaped),
        "gracewrap_signals_forwarded_total": _one(facts.signals_forwarded),
        "gracewrap_shutdown_duration_seconds": _histogram(facts.shutdown_duration),
        "gracewrap_exit_status": _one(facts.exit_status),
    }


def _samples_of(programs: Sequence[ProgramFacts]) -> dict[str, list[Sample]]:
    def each(value: Callable[[ProgramFacts], float | None]) -> list[Sample]:
        found = [({"program": one.name}, value(one)) for one in programs]
        return _summed([(labels, known) for labels, known in found if known is not None])

    in_flight = [
        ({"program": one.name, "unit": unit}, value)
        for one in programs
        for unit, value in one.in_flight
    ]
    failures = [
        ({"program": one.name, "probe": kind}, count)
        for one in programs
        for kind, count in one.probe_failures
    ]
    return {
        "gracewrap_program_up": each(lambda one: one.up),
        "gracewrap_program_ready": each(lambda one: one.ready),
        "gracewrap_program_live": each(lambda one: one.live),
        "gracewrap_restarts_total": each(lambda one: one.restarts),
        "gracewrap_drain_in_flight": _summed(in_flight),
        "gracewrap_agent_in_flight": _summed(_agents(programs)),
        "gracewrap_probe_failures_total": _summed(failures),
    }


def _one(value: float | None, labels: Mapping[str, str] | None = None) -> list[Sample]:
    return [] if value is None else [("", labels or {}, value)]


def _summed(values: Iterable[tuple[Mapping[str, str], float]]) -> list[Sample]:
    """Return one sample for each set of labels: two of the same would make the whole text
    invalid."""
    sums: dict[tuple[tuple[str, str], ...], float] = {}
    for labels, value in values:
        key = tuple(labels.items())
        sums[key] = sums.get(key, 0) + value
    return [("", dict(key), value) for key, value in sums.items()]


def _histogram(value: float | None) -> list[Sample]:
    """Return the samples of a histogram with one observation, or none."""
    count = int(value is not None)
    within: list[Sample] = [
        ("_bucket", {"le": str(most)}, value is not None and value <= most) for most in BUCKETS
    ]
    return [
        *within,
        ("_bucket", {"le": "+Inf"}, count),
        ("_sum", {}, value or 0),
        ("_count", {}, count),
    ]


def _labels(labels: Mapping[str, str]) -> str:
    if not labels:
        return ""
    return "{" + ",".join(f'{name}="{_escaped(value)}"' for name, value in labels.items()) + "}"


def _escaped(value: str) -> str:
    r"""Return a label's value as it is written: \, " and the line feed escaped; what is no Unicode
    is replaced by a ?."""
    whole = value.encode(errors="replace").decode()
    return whole.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n")


def _number(value: float) -> str:
    """Return a number as Go writes and reads it."""
    if value - value != 0:  # infinite, or no number
        return {"inf": "+Inf", "-inf": "-Inf"}.get(str(value), "NaN")
    return str(int(value)) if value == int(value) else repr(float(value))


def push_path(job: str, instance: str = "") -> str:
    """Return the path at which a Pushgateway takes our metrics (PUT): the grouping key {job=...,
    instance=...}.

    *job* must not be empty; an empty *instance* is left out.

    Source: the README of prometheus/pushgateway, "URL".
    """
    return f"/metrics/{_grouping('job', job)}" + (
        f"/{_grouping('instance', instance)}" if instance else ""
    )


def _grouping(label: str, value: str) -> str:
    """Return a label and its value as two segments of a path."""
    encoded = value.encode(errors="replace")
    # The gateway decodes %2F before it splits the path, and its router resolves dots.
    if b"/" in encoded or encoded in (b".", b".."):
        import binascii

        urlsafe = binascii.b2a_base64(encoded, newline=False).translate(
            bytes.maketrans(b"+/", b"-_")
        )
        return f"{label}@base64/{urlsafe.decode()}"
    return f"{label}/" + "".join(
        chr(byte) if byte in _UNRESERVED else f"%{byte:02X}" for byte in encoded
    )
