"""Summarizes samples, and renders the results file as Markdown."""

from __future__ import annotations

from dataclasses import dataclass

from benchmarks.peers import (
    BARE,
    CATATONIT,
    DIRECT,
    DUMB_INIT,
    GRACEWRAP,
    ISOLATED,
    NATIVE,
    PRESET,
    RESTING,
    S6,
    SINGLE,
    SINGLE_RESTING,
    SUPERVISORD,
    TINI,
)

# Series, statistic, title.
ROWS = (
    ("size", "p50", "Size of the file"),
    ("start", "p50", "Start: spawn to the child's first instruction"),
    ("start_pid1", "p50", "Start as PID 1: exec to the child's first instruction"),
    ("pss", "p50", "Memory at rest (PSS)"),
    ("rss", "p50", "Memory at rest (RSS)"),
    ("forward", "p50", "Forwarding a signal, median"),
    ("forward", "p99", "Forwarding a signal, p99"),
    ("forward_first", "p50", "Forwarding the first signal"),
    ("exit", "p50", "Child's exit to wrapper's exit"),
    ("exit_pid1", "p50", "Child's exit to wrapper's exit, as PID 1"),
    ("stop_handler", "p50", "First SIGTERM to the child's handler"),
    ("busy_handler", "p50", "… while other processes compute"),
    ("stop", "p50", "SIGTERM to wrapper's exit"),
    ("stop_exit", "p50", "… of it after the child's exit"),
    ("reap", "p50", "CPU time to reap an orphan"),
    ("sigkill", "p50", "SIGKILL after its deadline, median"),
    ("sigkill", "p99", "SIGKILL after its deadline, p99"),
    ("wakeups", "p50", "Wakeups at rest"),
    ("early", "mean", "Early SIGTERM as PID 1, lost"),
)
CONSOLE_SCRIPT = "gracewrap (console script)"  # of results from before --gracewrap
COLUMNS = (
    *(GRACEWRAP, CONSOLE_SCRIPT, NATIVE, RESTING, PRESET, SINGLE, SINGLE_RESTING, ISOLATED),
    *(TINI, DUMB_INIT, CATATONIT, S6, SUPERVISORD, BARE, DIRECT),
)


@dataclass(frozen=True)
class Target:
    """What gracewrap should reach: at most *limit*, in the unit of the series, or times *base*."""

    series: str
    statistic: str
    limit: float
    base: str | None = None
    peer: str = NATIVE


TARGETS = (
    Target("start", "p50", 0.8, TINI),
    Target("pss", "p50", 0.5, TINI),
    Target("pss", "p50", 1, peer=RESTING),
    Target("start", "p50", 0.8, TINI, SINGLE),
    Target("pss", "p50", 3.5, TINI, SINGLE),
    Target("pss", "p50", 1, peer=SINGLE_RESTING),
    Target("forward", "p50", 1.05, TINI),
    Target("forward", "p50", 1.05, TINI, RESTING),
    Target("exit", "p50", 1, TINI),
    Target("exit", "p50", 1, TINI, RESTING),
    Target("exit", "p50", 1, TINI, SINGLE),
    Target("exit_pid1", "p50", 1, TINI),
    Target("exit_pid1", "p50", 1, TINI, RESTING),
    Target("stop_handler", "p50", 1.5, TINI),
    Target("stop_handler", "p50", 1.5, TINI, RESTING),
    Target("busy_handler", "p50", 1.5, TINI),
    Target("stop", "p50", 25_000),
    Target("reap", "p50", 1, TINI),
    Target("sigkill", "p50", 1),
    Target("wakeups", "p50", 0),
    Target("early", "mean", 0),
    Target("start", "p50", 1.4, BARE, ISOLATED),
    Target("pss", "p50", 9, peer=ISOLATED),
    Target("reap", "p50", 2, TINI, ISOLATED),
)


def summary(values: list[float]) -> dict[str, float]:
    """Return the number of samples and their quantiles (nearest rank: each is a measured value)."""
    ordered = sorted(values)

    def rank(share: float) -> float:
        return round(ordered[min(len(ordered) - 1, round(share * (len(ordered) - 1)))], 4)

    named = {"min": 0.0, "p10": 0.1, "p50": 0.5, "p90": 0.9, "p99": 0.99, "max": 1.0}
    mean = round(sum(ordered) / len(ordered), 4)
    return {"n": len(ordered), "mean": mean} | {name: rank(share) for name, share in named.items()}


def render(results: dict) -> str:
    """Return a results file as Markdown: table, targets, notes, circumstances."""
    parts = [peers_table(results), targets_table(results), *notes(results), setting(results)]
    return "\n\n".join(part for part in parts if part)


def peers_table(results: dict) -> str:
    """Return a table with a row for each series and a column for each peer; the ratio to tini in
    brackets."""
    series = results["series"]
    columns = [name for name in COLUMNS if any(name in one["peers"] for one in series.values())]
    head = ["", *columns]
    rows = [
        [title, *(cell(series[name], statistic, column) for column in columns)]
        for name, statistic, title in ROWS
        if name in series
    ]
    return markdown(head, rows)


def cell(series: dict, statistic: str, peer: str) -> str:
    """Return "14.2 ms (7.1×)", "never", or "–"."""
    if peer not in series["peers"]:
        return "never" if "never" in series["notes"].get(peer, "") else "–"
    value = series["peers"][peer][statistic]
    text = quantity(value, series["unit"])
    base = series["peers"].get(TINI, {}).get(statistic)
    return f"{text} ({number(value / base)}×)" if base and peer != TINI else text


def quantity(value: float, unit: str) -> str:
    """Return a value with a unit that keeps the number short."""
    if unit == "µs" and value >= 1000:
        return f"{number(value / 1000)} ms"
    if unit == "MiB" and value < 1:
        return f"{number(value * 1024)} KiB"
    return f"{number(value)}{unit}" if unit.startswith("/") else f"{number(value)} {unit}"


def number(value: float) -> str:
    """Return a number with about three digits, never with an exponent."""
    digits = 0 if abs(value) >= 100 else 1 if abs(value) >= 10 else 2
    return f"{value:.{digits}f}" if value else "0"


def targets_table(results: dict) -> str:
    """Return a table of gracewrap's targets and the measured values."""
    rows = []
    titles = {(name, statistic): title for name, statistic, title in ROWS}
    for target in TARGETS:
        series = results["series"].get(target.series)
        value = reached(series, target) if series else None
        if series is None or value is None:
            continue
        of = (
            f"× {target.base}"
            if target.base
            else series["unit"]
            if series["unit"].startswith("/")
            else f" {series['unit']}"
        )
        verdict = "met" if value <= target.limit else "**missed**"
        rows.append(
            [
                f"{titles[target.series, target.statistic]}{_of(target)}",
                f"≤ {target.limit:g}{of}",
                f"{number(value)}{of}",
                verdict,
            ]
        )
    return markdown(["Target", "at most", "measured", ""], rows) if rows else ""


def reached(series: dict, target: Target) -> float | None:
    """Return the value in terms of the target, or None if it was not measured."""
    peers = series["peers"]
    if target.peer not in peers or (target.base and target.base not in peers):
        return None
    base = peers[target.base][target.statistic] if target.base else 1.0
    return peers[target.peer][target.statistic] / base


def _of(target: Target) -> str:
    """Return which gracewrap a target is for, behind its title."""
    return "" if target.peer == NATIVE else f" ({target.peer.partition('(')[2]}"


def notes(results: dict) -> list[str]:
    """Return the notes on the peers, as a list in Markdown."""
    by_note: dict[str, dict[str, None]] = {}
    for series in results["series"].values():
        for peer, why in series["notes"].items():
            by_note.setdefault(why, {})[peer] = None
    lines = [f"- {', '.join(peers)}: {why}." for why, peers in by_note.items()]
    lines += [f"- {name} is missing ({how})." for name, how in results["missing"].items()]
    lines += [f"- Not measured: {why}." for why in results.get("failed", ())]
    return ["\n".join(lines)] if lines else []


def setting(results: dict) -> str:
    """Return the circumstances of the measurements."""
    packages = ", ".join(f"{name} {version}" for name, version in results["packages"].items())
    python = results["python"]
    load = " to ".join(str(load) for load in results["load_average"].values())
    started_by = results.get("gracewrap_started_by")
    parts = [f"gracewrap is started by {started_by}."] if started_by else []
    if results.get("real_time"):
        parts.append("All but what is measured on a busy machine had real-time priority.")
    parts += [
        f"{results['date'][:10]}, Python {python['version']}, Linux "
        f"{results['kernel']} {results['machine']}, {results['cpus']} CPUs, load {load}; "
        f"{packages}. In brackets: times tini."
    ]
    return " ".join(parts)


def markdown(head: list[str], rows: list[list[str]]) -> str:
    """Return a table in Markdown, with numbers aligned to the right."""
    lines = [head, ["---", *("---:" for _ in head[1:])], *rows]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)
