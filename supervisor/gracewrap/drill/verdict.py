"""Judges a drill, and says what a pass means."""

from __future__ import annotations

import signal

from gracewrap.config.printable import printable
from gracewrap.drill.model import FAIL, INCONCLUSIVE, PASSED, Verdict
from gracewrap.record import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from gracewrap.drill.fates import Request
    from gracewrap.drill.model import Asked, Run


def judge(asked: Asked, runs: Sequence[Run]) -> Verdict:
    """Return the verdict on the runs of gracewrap; twins only show whether anything can be
    lost."""
    own = [run for run in runs if run.who == "gracewrap"]
    noun, mend = ("job", "slower jobs") if asked.job_command else ("request", "a slower URL")
    faults = [fault for run in own for fault in _faults(asked, run)]
    twice = sum(len(run.twice) for run in own)
    if twice > asked.max_twice:
        faults.insert(0, f"{_counted(twice, noun)} done twice, and at most {asked.max_twice} "
                         "may be")  # fmt: skip
    lost = sum(len(run.lost) for run in own)
    if lost > asked.max_lost:
        faults.insert(0, f"{_counted(lost, noun)} lost, and at most {asked.max_lost} may be")
    if faults:
        return Verdict(FAIL, tuple(dict.fromkeys(faults)))
    near = sum(1 for run in own for one in run.sent if one.ended >= 0)
    total = sum(len(run.sent) for run in own)
    if not near:
        other = "" if asked.job_command else ", or another --balancer"
        return Verdict(INCONCLUSIVE, (
            f"no {noun} was in flight or came after the stop request: raise --rate, use {mend}"
            f"{other}",))  # fmt: skip
    twins = [run for run in runs if run.who != "gracewrap"]
    if twins and not any(run.lost or run.twice for run in twins):
        return Verdict(INCONCLUSIVE, (
            f"nothing was lost without gracewrap either ({', '.join(asked.compare)}): this load "
            f"does not show a difference; raise --rate or use {mend}",))  # fmt: skip
    means = f"{lost} lost of {_counted(total, noun)}, {near} of them in the stop"
    if not lost:
        means += f": at 95 % confidence, less than {3 / near:.1%} of those in a stop are lost"
    return Verdict(PASSED, (means,))


def _faults(asked: Asked, run: Run) -> Iterator[str]:
    if run.exit_status is None:
        yield f"it did not exit within {run.duration:.1f} s"
    elif asked.expect_exit is not None and run.exit_status != asked.expect_exit:
        yield f"exit status {run.exit_status}, and {asked.expect_exit} was expected{_cure(run)}"
    if asked.max_duration is not None and run.duration > asked.max_duration:
        yield f"the stop took {run.duration:.1f} s, longer than {asked.max_duration:g} s"
    if run.early:
        yield (
            f"{run.early} of them by the next instance, which was ready too early: set ready to a "
            "URL that answers 200 once it serves (--ready URL)"
        )
    if killed := _killed(run.report or {}):
        yield f"SIGKILL ended {', '.join(killed)}, which had not ended before"
    if run.leftovers:
        yield f"it left behind {', '.join(run.leftovers)}"
    if run.ports:
        yield f"somebody still answers at port {', '.join(map(str, run.ports))}"


def _programs(report: Mapping[str, object]) -> list[Mapping[str, object]]:
    """Return the parts of a report of several programs."""
    parts = report.get("programs")
    return [one for one in parts if isinstance(one, dict)] if isinstance(parts, list) else []


def _killed(report: Mapping[str, object]) -> list[str]:
    """Return what SIGKILL ended, but for what was drained: that was no more than slow to leave."""
    found: list[str] = []
    for one in _programs(report) or [report]:
        killed = one.get("killed")
        if isinstance(killed, list) and one.get("outcome") != "drained":
            found += (printable(str(each)) for each in killed)
    return found


def _cure(run: Run) -> str:
    """Return what makes the exit status a success, if it only says that it died of the stop
    signal."""
    report, status = run.report or {}, run.exit_status or 0
    try:
        name = signal.Signals(status - 128).name
    except ValueError:
        return ""
    for one in (report, *_programs(report)):
        sent = one.get("signals_sent")
        if isinstance(sent, list) and name in sent and not one.get("killed"):
            drained = one.get("drained_after_seconds") is not None
            how = "after it was drained" if drained else "and was not seen to drain before"
            word = name.removeprefix("SIG")
            return (
                f": {name}, which gracewrap had sent, ended it {how}; if that is a success, "
                f'set success_exit_codes = ["{word}"] (--success-exit-codes {word})'
            )
    return ""


def _counted(count: int, noun: str) -> str:
    return f"{count} {noun}{'' if count == 1 else 's'}"


def told(one: Request) -> str:
    """Return a lost request, or a job, in a line."""
    kind = "" if one.kept is None else "kept-alive connection" if one.kept else "new connection"
    why = f" ({one.why})" if one.why else ""
    how = f", {kind}" if kind else ""
    return f"{one.url} at {one.at:+.2f} s{how}: {one.fate} at {one.ended:+.2f} s{why}"
