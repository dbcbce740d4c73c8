"""How a run has ended as a JSON document: the fields of the summary, and the report."""

from __future__ import annotations

from gracewrap.record import TYPE_CHECKING
from gracewrap.report.log import timestamp
from gracewrap.report.summary import exit_code_from, how, summary_line, whose
from gracewrap.report.wording import signal_name

if TYPE_CHECKING:
    from collections.abc import Sequence

    from gracewrap.policy.model import AgentCounts
    from gracewrap.report.in_flight import ProbeHistory
    from gracewrap.report.program_history import HookRun, ProgramHistory
    from gracewrap.report.recorder import Recorder
    from gracewrap.report.run_history import RunHistory


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
        **finished_entry(run.programs),
        "interrupted": run.interrupted,
        **cut_jobs_entry(run.all),
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
    ended = run.all.not_started or how(run.all)
    return f"{ended}; exit status {status}{whose(run, status)}"


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
        "leader": leader_entry(history),
        "left_behind": history.leftover or None,
        "still_open": history.still_open or None,
        "streams_open": history.streams[0] or None,
        "streams_idle": history.streams[1] if history.streams[0] else None,
        "not_accepted": history.not_accepted[0] or None,
        **held_up_entry(history),
        "unsent_connections": run.unsent,
        "drain": drain_entry(history),
        "hooks": hooks_entry(history),
    }


def _several(run: RunHistory, status: int) -> dict[str, object]:
    whose = exit_code_from(run, status)
    return {
        **_begun(run),
        "cause": None if run.requested is not None else run.cause or None,
        "exit_code_from": None if whose is None else whose.name,
        "unsent_connections": run.unsent,
        "hooks": hooks_entry(run.all),
        "programs": [
            {
                **program_entry(one, run.since),
                "started": _wall(run, one.started) if one.pid else None,
            }
            for one in run.programs
        ],
    }


def leader_entry(history: ProgramHistory) -> dict[str, object] | None:
    """Return how its leader ended."""
    leader = history.leader
    if leader is None:
        return None
    return {"status": leader.status, "signal": signal_name(leader.signum)}


def drain_entry(history: ProgramHistory) -> list[dict[str, object]]:
    """Return what its probes have said."""
    return [_probe(probe) for probe in history.in_flight.probes]


def hooks_entry(history: ProgramHistory) -> dict[str, dict[str, object]]:
    """Return how its hooks went."""
    return {name: _hook(run) for name, run in history.hooks.items()}


def held_up_entry(history: ProgramHistory) -> dict[str, object]:
    """Return what held it up; nothing if its stop was quick."""
    if not history.held_up:
        return {}
    from gracewrap.report import held_up

    return held_up.entries(history.held_up, history.sent)


def program_entry(history: ProgramHistory, since: float | None) -> dict[str, object]:
    """Return all of it, for the report of several programs; what is about the stop is in seconds
    from the request (*since*)."""
    return {
        "name": history.name,
        "command": history.command,
        "pid": history.pid or None,
        "outcome": history.outcome(),
        "exit_status": history.status(),
        "signal": None if history.leader is None else signal_name(history.leader.signum),
        "not_started": history.not_started or None,
        "ready_after_seconds": _rounded(history.ready_after),
        "restarts": history.restarts,
        "stop": {
            "signal_after_seconds": _from(since, history.told_at),
            "gone_after_seconds": _from(since, history.gone_at),
        },
        "signals_sent": history.sent,
        "killed": history.killed,
        "left_behind": history.leftover or None,
        "still_open": history.still_open or None,
        "streams_open": history.streams[0] or None,
        "streams_idle": history.streams[1] if history.streams[0] else None,
        "not_accepted": history.not_accepted[0] or None,
        **finished_entry((history,)),
        "interrupted": history.interrupted,
        **cut_jobs_entry(history),
        **held_up_entry(history),
        "drained_after_seconds": _rounded(history.drained_after),
        "drain": drain_entry(history),
        "hooks": hooks_entry(history),
    }


def agent_entry(counts: AgentCounts | None) -> dict[str, object]:
    """Return what an agent counts; nothing for other probes."""
    if counts is None:
        return {}
    jobs = [{"queue": one.queue, "active": one.active} for one in counts.jobs]
    numbers = {"requests": counts.requests, "streams": counts.streams}
    return {"counts": {**numbers, "websockets": counts.websockets, "jobs": jobs}}


def cut_jobs_entry(history: ProgramHistory) -> dict[str, object]:
    """Return the jobs that were cut, where an agent has named them."""
    jobs = [{"queue": one.queue, "active": one.active, "ids": one.ids} for one in history.cut_jobs]
    return {"interrupted_jobs": jobs} if jobs else {}


def finished_entry(programs: Sequence[ProgramHistory]) -> dict[str, object]:
    """Return how many requests have ended since the stop, where agents have counted them."""
    finished = sum(one.finished for one in programs)
    return {"requests_finished": finished} if finished else {}


def _rounded(value: float | None) -> float | None:
    return None if value is None else round(value, 6)


def _from(since: float | None, at: float | None) -> float | None:
    """Return the seconds between the two; None for what was before the stop."""
    return round(at - since, 6) if at is not None and since is not None and at >= since else None


def _hook(run: HookRun) -> dict[str, object]:
    if run.seconds is None:  # it was killed with the end of the run
        return {}
    return {"ok": run.ok, "why": run.why, "seconds": round(run.seconds, 6)}


def _probe(probe: ProbeHistory) -> dict[str, object]:
    return {
        "probe": probe.kind,
        "unit": probe.unit,
        "first": probe.first,
        "last": probe.last,
        "reading": probe.reading.kind,
        "why": probe.reading.why,
        "failures": probe.failures,
        **agent_entry(probe.counts),
    }
