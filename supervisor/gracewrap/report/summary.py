"""The end of a run: the summary in one line, and the report as a document for machines."""

from __future__ import annotations

from gracewrap.record import TYPE_CHECKING
from gracewrap.report import program_summary
from gracewrap.report.log import timestamp
from gracewrap.report.text import seconds

if TYPE_CHECKING:
    from gracewrap.report.program_history import ProgramHistory
    from gracewrap.report.recorder import Recorder
    from gracewrap.report.run_history import RunHistory


def summary_line(recorder: Recorder, status: int, at: float) -> tuple[str, str]:
    """Return level and text of the last line; *status* is the exit status."""
    run = recorder.run
    used = run.used(at)
    took = f"stopped in {seconds(round(used, 3))} of {seconds(run.budget)}"
    left = max(0.0, run.budget - used)
    parts = _ends(run)
    if run.paused:
        parts.append(f"gracewrap was not running for {seconds(round(run.paused, 2))} of that time")
    if run.orphans_reaped:
        parts.append(f"orphans reaped: {run.orphans_reaped}")
    if recorder.log.dropped:
        parts.append(f"log lines lost: {recorder.log.dropped}")
    text = f"{took}, {seconds(round(left, 3))} left: {'; '.join(parts)}; exit status {status}"
    text += _whose(run, status)
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


def _whose(run: RunHistory, status: int) -> str:
    """Return which program an exit status that is no success comes from."""
    history = _exit_code_from(run, status)
    return f" ({history.name}'s)" if history is not None and history.name else ""


def _own_status(run: RunHistory, status: int) -> str:
    """Return the signal whose number is in an exit status that says no more than that: it was
    stopped as it was asked to."""
    history = _exit_code_from(run, status)
    if history is None or run.requested is None:
        return ""
    return program_summary.own_status(history)


def _exit_code_from(run: RunHistory, status: int) -> ProgramHistory | None:
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


def summary_fields(run: RunHistory, status: int, at: float) -> dict[str, object]:
    """Return the summary for machines."""
    used = run.used(at)
    drained = [
        one.drained_after
        for one in run.programs
        if one.in_flight.probes or one.drained_after is not None
    ]
    all_drained = [after for after in drained if after is not None]
    return {
        "outcome": run.outcome(),
        "exit_status": status,
        "budget_seconds": run.budget,
        "used_seconds": round(used, 6),
        "paused_seconds": round(run.paused, 6),
        "left_seconds": round(max(0.0, run.budget - used), 6),
        "killed": [who for one in run.programs for who in one.killed],
        "interrupted": run.interrupted,
        **program_summary.cut_jobs_entry(run.all),
        "drained_after_seconds": round(max(all_drained), 6)
        if drained and len(all_drained) == len(drained)
        else None,
        "orphans_reaped": run.orphans_reaped,
    }


def end(recorder: Recorder, status: int, at: float) -> dict[str, object]:
    """Return how the run has ended: the summary for machines, and as text."""
    fields = summary_fields(recorder.run, status, at)
    return {**fields, "summary": _summary_text(recorder, status, at)}


def report(recorder: Recorder, status: int, at: float, version: str) -> dict[str, object]:
    """Return all of it as a JSON-able dict."""
    run = recorder.run
    return {
        "gracewrap": version,
        **end(recorder, status, at),
        **(_several(run, status) if run.several else _one(run)),
        "log_lines_lost": recorder.log.dropped,
        "output_lines_lost": run.output_lost,
        "signals_forwarded": run.signals_forwarded,
        "timeline": recorder.timeline,
        "timeline_omitted": recorder.omitted,
    }


def _summary_text(recorder: Recorder, status: int, at: float) -> str:
    run = recorder.run
    if run.is_worth_a_summary():
        return summary_line(recorder, status, at)[1]
    how = run.all.not_started or program_summary.how(run.all)
    return f"{how}; exit status {status}{_whose(run, status)}"


def _begun(run: RunHistory) -> dict[str, object]:
    asked = run.requested
    return {
        "started": _wall(run, run.started),
        "stop_began": None if run.since is None else _wall(run, run.since),
        "requested_by": None if asked is None else {"signal": asked.signal, "sender": asked.sender},
    }


def _wall(run: RunHistory, at: float) -> str:
    return timestamp(run.started_wall + at - run.started)


def _one(run: RunHistory) -> dict[str, object]:
    history = run.all
    return {
        "command": history.command,
        "pid": history.pid,
        **_begun(run),
        "signals_sent": history.sent,
        "leader": program_summary.leader_entry(history),
        "left_behind": history.leftover or None,
        "still_open": history.still_open or None,
        "streams_open": history.streams[0] or None,
        "streams_idle": history.streams[1] if history.streams[0] else None,
        **program_summary.held_up_entry(history),
        "unsent_connections": run.unsent,
        "drain": program_summary.drain_entry(history),
        "hooks": program_summary.hooks_entry(history),
    }


def _several(run: RunHistory, status: int) -> dict[str, object]:
    whose = _exit_code_from(run, status)
    return {
        **_begun(run),
        "cause": None if run.requested is not None else run.cause or None,
        "exit_code_from": None if whose is None else whose.name,
        "unsent_connections": run.unsent,
        "hooks": program_summary.hooks_entry(run.all),
        "programs": [
            {
                **program_summary.program_entry(one, run.since),
                "started": _wall(run, one.started) if one.pid else None,
            }
            for one in run.programs
        ],
    }
