"""The end of a run in one line: the summary."""

from __future__ import annotations

from gracewrap.record import TYPE_CHECKING
from gracewrap.report import program_summary
from gracewrap.report.wording import seconds

if TYPE_CHECKING:
    from gracewrap.report.program_history import ProgramHistory
    from gracewrap.report.recorder import Recorder
    from gracewrap.report.run_history import RunHistory


def summary_line(recorder: Recorder, status: int, at: float) -> tuple[str, str]:
    """Return level and text of the last line; *status* is the exit status."""
    run = recorder.run
    used = run.used(at)
    left = max(0.0, run.budget - used)
    took = f"stopped in {seconds(round(used, 3))} of {seconds(run.budget)}"
    took += f", {seconds(round(left, 3))} left"
    one = run.all
    if run.requested is None and not (run.several or one.leftover or one.killed or one.sent):
        took = "no stop was requested"
    parts = _ends(run)
    if run.paused:
        parts.append(f"gracewrap was not running for {seconds(round(run.paused, 2))} of that time")
    if run.orphans_reaped:
        parts.append(f"orphans reaped: {run.orphans_reaped}")
    if recorder.log.dropped:
        parts.append(f"log lines lost: {recorder.log.dropped}")
    text = f"{took}: {'; '.join(parts)}; exit status {status}"
    text += whose(run, status)
    if hint := _own_status(run, status):
        text += (
            f'; if nothing was lost, success_exit_codes = ["{hint.removeprefix("SIG")}"] makes it 0'
        )
    bad = any(
        one.gave_up
        or one.not_started
        or (one.killed and not one.early)
        or one.had_no_handler()
        or one.left_lost
        or one.exited_too_soon()
        or one.not_accepted[0]
        or one.killed_by_others()
        for one in run.programs
    )
    return "warning" if bad else "info", text


def _ends(run: RunHistory) -> list[str]:
    """Return how all of it ended, for people."""
    if not run.several:
        return [program_summary.how(run.all), *program_summary.particulars(run.all)]
    shown, rest = program_summary.most_telling(run.programs)
    ends = [
        ", ".join((program_summary.how(one), *program_summary.particulars(one))) for one in shown
    ]
    ends += [program_summary.counted(rest)] if rest else []
    return [f"{run.several} programs: {ends[0]}", *ends[1:]] if run.several > 1 else ends


def whose(run: RunHistory, status: int) -> str:
    """Return which program an exit status that is no success comes from."""
    history = exit_code_from(run, status)
    return f" ({history.name}'s)" if history is not None and history.name else ""


def _own_status(run: RunHistory, status: int) -> str:
    """Return the signal whose number is in an exit status that says no more than that: it was
    stopped as it was asked to."""
    history = exit_code_from(run, status)
    if history is None or run.requested is None:
        return ""
    return program_summary.own_status(history)


def exit_code_from(run: RunHistory, status: int) -> ProgramHistory | None:
    """Return the program with that status: the one of exit_code_from, else the first that ended so;
    None for a success."""
    if not status:
        return None
    chosen = None if run.exit_code_from is None else run.programs[run.exit_code_from]
    if chosen is not None and chosen.status() == status:
        return chosen
    such = [one for one in run.programs if one.status() == status]
    never = float("inf")
    return min(such, key=lambda one: never if one.leader is None else one.leader.at, default=None)
