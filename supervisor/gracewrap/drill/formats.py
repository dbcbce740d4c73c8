"""Shows what came of a drill: as text, JSON, JUnit, and as annotations of GitHub's workflows."""

from __future__ import annotations

import json
import textwrap
from collections import Counter
from xml.etree import ElementTree

from gracewrap.config.printable import printable
from gracewrap.config.recognise_command import recognised
from gracewrap.drill.fates import CUT, ELSEWHERE, FATES, NOT_DONE, OK, REFUSED, RESET, TWICE
from gracewrap.drill.model import FAIL, MOST_NAMED, PASSED
from gracewrap.drill.verdict import told
from gracewrap.picture import past_stop
from gracewrap.picture.chart import Chart, Row, Sample
from gracewrap.record import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from gracewrap.drill.model import Run, Verdict

CONNECTION = {None: None, True: "kept-alive", False: "new"}


def text(runs: Sequence[Run], verdict: Verdict, width: int | None = None) -> str:
    """Return the result for people.

    Args:
        runs: All stops.
        verdict: On them.
        width: Columns of the terminal; None: sentences are not broken, so that they can be found.
    """
    counts = [Counter(one.fate for one in run.sent) for run in runs]
    shown = [fate for fate in FATES if fate == OK or any(count[fate] for count in counts)]
    lines = [f"{'':10} {'stop at':>7} {'took':>7} {'exit':>4} " + " ".join(
        f"{fate:>{_width(fate)}}" for fate in shown)]  # fmt: skip
    for run, count in zip(runs, counts):
        status = "-" if run.exit_status is None else str(run.exit_status)
        fates = " ".join(f"{count[fate] or '.':>{_width(fate)}}" for fate in shown)
        took = f"{run.duration:.2f}s"
        lines.append(f"{run.who:10} {run.stop_after:6.2f}s {took:>7} {status:>4} {fates}")
    own = [run for run in runs if run.who == "gracewrap"]
    lines += ["", *_lost(own), *_killed(own), *_cures(own), *_lost_without(runs)]
    lines.append(f"{verdict.outcome}: {'; '.join(verdict.reasons)}")
    return "\n".join(lines if width is None else map(_wrapped(width), lines)) + "\n"


def timeline(run: Run) -> Chart | None:
    """Return the chart of a stop with what was in flight; None if there is no report of it."""
    try:
        found = past_stop.chart(run.report or {})
    except past_stop.NoReport:
        return None
    changes = Counter[float]()
    for one in run.sent:
        if one.ended > 0:
            changes[max(0.0, one.at)] += 1
            changes[one.ended] -= 1
    samples, now = list[Sample](), 0
    for at in sorted(changes):
        now += changes[at]
        samples.append(Sample(at, now))
    fates = Counter(one.fate for one in run.sent if one.ended > 0)
    said = "in the stop: " + (", ".join(f"{fates[fate]} {fate}" for fate in FATES if fates[fate])
                              or "none")  # fmt: skip
    row = Row("requests" if run.diverted is not None else "jobs", (), (), said,
              bool(run.lost or run.twice), tuple(samples))  # fmt: skip
    return Chart(found.title, (*found.rows, row), ())  # the budget would squeeze it


def _wrapped(width: int) -> Callable[[str], str]:
    """Return what breaks a line between words, but those of a table, which fit."""

    def broken(line: str) -> str:
        if len(line) <= width:
            return line
        indent = " " * (len(line) - len(line.lstrip()))
        return textwrap.fill(line.strip(), max(40, width), initial_indent=indent,
                             subsequent_indent=indent + "    ", break_long_words=False,
                             break_on_hyphens=False)  # fmt: skip

    return broken


def _width(fate: str) -> int:
    return max(5, len(fate))


def _lost(runs: Sequence[Run]) -> Iterator[str]:
    found = [one for run in runs for one in (*run.lost, *run.twice)]
    for one in found[:MOST_NAMED]:
        yield f"  {'twice' if one.fate == TWICE else 'lost'}: {told(one)}"
    if len(found) > MOST_NAMED:
        yield f"  and {len(found) - MOST_NAMED} more"


def _lost_without(runs: Sequence[Run]) -> Iterator[str]:
    """Yield what the twins have lost, each in all its stops."""
    said = []
    for who in dict.fromkeys(run.who for run in runs if run.who != "gracewrap"):
        of = [run for run in runs if run.who == who]
        bad = sum(len(run.lost) + len(run.twice) for run in of)
        said.append(f"{who} {bad} of {sum(len(run.sent) for run in of)}")
    if said:
        what = "lost or done twice" if any(run.twice for run in runs) else "lost"
        yield f"{what} without gracewrap: {', '.join(said)}"


def _killed(runs: Sequence[Run]) -> Iterator[str]:
    for run in runs:
        report = run.report or {}
        killed, why = report.get("killed"), report.get("held_up")
        if isinstance(killed, list) and killed:
            yield printable(f"  SIGKILL: {', '.join(map(str, killed))}{f'; {why}' if why else ''}")


def _cures(runs: Sequence[Run]) -> Iterator[str]:
    """Yield what helps against the losses that have an ordinary cause."""
    lost = [one for run in runs for one in run.lost if one.fate != NOT_DONE]
    if before := sum(one.ended < 0 for one in lost):
        yield f"  {before} of them lost before the stop request: the command does so without a stop"
    fates = {one.fate for one in lost if one.ended >= 0}
    if REFUSED in fates:
        longer = "a longer --propagation-delay" if any(map(_serves_on, runs)) else (
            "--propagation-delay 5s")  # fmt: skip
        yield ("  refused: it took no connections any more before the balancer had noticed; "
               f"{longer} lets it serve on")  # fmt: skip
    if fates & {RESET, CUT}:
        yield f"  reset or cut: it ended before it had answered; {_finishes(runs)}"


def _finishes(runs: Sequence[Run]) -> str:
    """Return what lets a command finish, other than what is in force."""
    if any(run.held for run in runs):
        return "a longer --shutdown-timeout, or --propagation-delay, lets it finish"
    holds = "--drain-tcp auto --drain-when before-signal"
    given = next((run.preset for run in runs if run.preset), "")
    if given:
        return f"{holds} beside the preset {given} lets it finish"
    name = next(filter(None, map(_preset, runs)), "")
    preset = f"--preset {name}" if name else "a --preset (gracewrap presets)"
    return f"{preset}, or {holds}, lets it finish"


def _serves_on(run: Run) -> bool:
    """Return whether there was a propagation_delay."""
    report = run.report or {}
    steps = report.get("timeline")
    return isinstance(steps, list) and any(
        isinstance(one, dict) and one.get("event") == "serving" for one in steps
    )


def _preset(run: Run) -> str:
    """Return the preset for a command that had no drain; "" if it is not known."""
    report = run.report or {}
    command = report.get("command")
    return recognised(command) if isinstance(command, list) and not report.get("drain") else ""


def as_json(runs: Sequence[Run], verdict: Verdict) -> str:
    """Return all of it for machines."""
    return json.dumps(
        {
            "verdict": verdict.outcome,
            "reasons": list(verdict.reasons),
            "runs": [_run(run) for run in runs],
        },
        indent=2,
    ) + "\n"  # fmt: skip


def _run(run: Run) -> dict[str, object]:
    return {
        "who": run.who,
        "stop_after_seconds": run.stop_after,
        "duration_seconds": round(run.duration, 3),
        "diverted_after_seconds": None if run.diverted is None else round(run.diverted, 3),
        "balancer": None
        if run.balancer is None
        else {"played": run.balancer.how, "chosen": run.balancer.chosen},
        "exit_status": run.exit_status,
        "lost_by_the_next_instance": run.early,
        "fates": dict(Counter(one.fate for one in run.requests)),
        "leftovers": list(run.leftovers),
        "ports_taken": list(run.ports),
        "report": run.report,
        "requests": [
            {
                "url": one.url,
                "at": round(one.at, 4),
                "ended": round(one.ended, 4),
                "fate": one.fate,
                "connection": CONNECTION[one.kept],
                "why": one.why,
            }
            for one in run.requests
            if one.fate != ELSEWHERE
        ],
    }


def junit(runs: Sequence[Run], verdict: Verdict) -> str:
    """Return it as JUnit XML: one case for each stop, and one for the verdict."""
    suite = ElementTree.Element("testsuite", name="gracewrap drill", tests=str(len(runs) + 1))
    suite.set("failures", str(int(verdict.outcome == FAIL)))
    suite.set("skipped", str(int(verdict.outcome not in (FAIL, PASSED))))
    for n, run in enumerate(runs, 1):
        case = ElementTree.SubElement(suite, "testcase", classname="gracewrap.drill")
        case.set("name", f"{run.who}, stop {n}")
        case.set("time", f"{run.duration:.3f}")
        ElementTree.SubElement(case, "system-out").text = "\n".join(
            map(told, (*run.lost, *run.twice))
        )
    case = ElementTree.SubElement(suite, "testcase", classname="gracewrap.drill", name="verdict")
    if verdict.outcome != PASSED:
        kind = "failure" if verdict.outcome == FAIL else "skipped"
        ElementTree.SubElement(case, kind, message="; ".join(verdict.reasons))
    return ElementTree.tostring(suite, encoding="unicode", xml_declaration=True) + "\n"


def github(runs: Sequence[Run], verdict: Verdict) -> str:
    """Return annotations for a GitHub workflow."""
    level = {FAIL: "error", PASSED: "notice"}.get(verdict.outcome, "warning")
    lines = [f"drill {verdict.outcome}: {'; '.join(verdict.reasons)}"]
    lines += _lost([run for run in runs if run.who == "gracewrap"])
    message = "\n".join(lines).replace("%", "%25").replace("\r", "%0D").replace("\n", "%0A")
    return f"::{level} title=gracewrap drill::{message}\n"


def markdown(runs: Sequence[Run], verdict: Verdict) -> str:
    """Return it for the summary of a step: GitHub shows Markdown."""
    shown = text(runs, verdict)
    fence = "```"
    while fence in shown:  # what comes from outside must not end the block
        fence += "`"
    return f"### gracewrap drill: {verdict.outcome}\n\n{fence}text\n{shown}{fence}\n"
