"""python -m benchmarks: measures gracewrap and its peers, writes results.json, prints the table."""

from __future__ import annotations

import argparse
import datetime
import json
import os
import platform
import shutil
import sys
import tempfile
from pathlib import Path

from benchmarks import peers, table
from benchmarks.measure import METRICS, Metric, Samples, stop_while_busy
from benchmarks.process import Failed

RESULTS = Path(__file__).with_name("results.json")
QUICK = 5  # --quick divides the number of rounds by this


def main() -> int:
    """Run the command line; return the exit status."""
    options = read_options()
    if options.table:
        print(table.render(json.loads(options.output.read_text())))
        return 0
    if options.real_time:
        _schedule(os.SCHED_RR)
    with tempfile.TemporaryDirectory(prefix="gracewrap-bench-") as folder:
        bench = peers.prepare(Path(folder), options.python, options.gracewrap)
        for name, how in bench.missing.items():
            print(f"{name} is missing: {how}", file=sys.stderr)
        results = describe(options, bench)
        for metric in METRICS:
            if options.only in (None, metric.name.removesuffix("-slow")):
                add(results, measure(bench, metric, options))
    results["load_average"]["after"] = round(os.getloadavg()[0], 2)
    if options.save:
        options.output.write_text(json.dumps(results, indent=1, ensure_ascii=False) + "\n")
    print(table.render(results))
    return 0


def read_options() -> argparse.Namespace:
    """Parse the command line."""
    names = dict.fromkeys(metric.name.removesuffix("-slow") for metric in METRICS)
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    parser.add_argument(
        "--table", action="store_true", help="only print the table of the last results"
    )
    parser.add_argument(
        "--only", choices=names, help="run one measurement, and do not write the results file"
    )
    parser.add_argument("--rounds", type=int, help="number of rounds of each measurement")
    parser.add_argument(
        "--quick",
        action="store_true",
        help=f"run 1/{QUICK} of the rounds, and do not write the results file",
    )
    parser.add_argument(
        "--real-time",
        action="store_true",
        help="with real-time priority, which other load of the machine hardly meets; not where the "
        "machine is to be busy",
    )
    peers.add_options(parser)
    parser.add_argument(
        "--output",
        type=Path,
        help=f"the results file (default: benchmarks/{RESULTS.name})",
    )
    options = parser.parse_args()
    options.python = shutil.which(options.python) or parser.error(
        f"no such interpreter: {options.python}"
    )
    # Partial or inexact results replace the results file only with --output.
    options.save = options.output is not None or not (options.only or options.quick)
    options.output = options.output or RESULTS
    return options


def describe(options: argparse.Namespace, bench: peers.Bench) -> dict:
    """Return the circumstances of the measurements, and no results yet."""
    return {
        "date": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
        "python": {"version": peers.python_version(os.path.realpath(options.python))},
        "gracewrap_started_by": peers.how(options.gracewrap),
        "kernel": platform.release(),
        "machine": platform.machine(),
        "cpus": os.cpu_count(),
        "real_time": options.real_time,
        "load_average": {"before": round(os.getloadavg()[0], 2)},
        "packages": peers.package_versions(),
        "missing": bench.missing,
        "series": {},
    }


def measure(bench: peers.Bench, metric: Metric, options: argparse.Namespace) -> Samples:
    """Run one measurement with the peers that are installed; a failure becomes a note."""
    rounds = options.rounds or max(1, metric.rounds // (QUICK if options.quick else 1))
    there = [bench.peers[name] for name in metric.peers if name in bench.peers]
    if options.real_time:
        _schedule(os.SCHED_OTHER if metric.take is stop_while_busy else os.SCHED_RR)
    try:
        return metric.take(bench, there, rounds)
    except (Failed, OSError) as fault:  # OSError: no unshare, no permission for /proc
        print(f"benchmarks: {metric.name}: {fault}", file=sys.stderr)
        return Samples("", {"failed": str(fault)})


def _schedule(policy: int) -> None:
    """Let us, and what is started from now on, be scheduled by *policy*."""
    os.sched_setscheduler(0, policy, os.sched_param(int(policy == os.SCHED_RR)))


def add(results: dict, samples: Samples) -> None:
    """Add the summaries of the samples, and the ratios of their medians, to the results."""
    for name, by_peer in samples.series.items():
        series = results["series"].setdefault(
            name, {"unit": samples.unit, "peers": {}, "notes": {}}
        )
        series["peers"] |= {peer: table.summary(values) for peer, values in by_peer.items()}
        series["notes"] |= {
            peer: why for peer, why in samples.notes.items() if peer not in results["missing"]
        }
        medians = {peer: found["p50"] for peer, found in series["peers"].items()}
        series["ratios"] = {
            base: {peer: round(median / medians[base], 3) for peer, median in medians.items()}
            for base in (peers.TINI, peers.BARE)
            if medians.get(base)
        }
    if "failed" in samples.notes:
        results.setdefault("failed", []).append(samples.notes["failed"])


if __name__ == "__main__":
    sys.exit(main())
