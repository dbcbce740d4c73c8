"""The summary: the end of a run in one line, and how each program ended in words."""

from __future__ import annotations

from gracewrap.linux import signals
from gracewrap.policy.model import in_words
from gracewrap.policy.program_phases import NO_REQUEST
from gracewrap.record import TYPE_CHECKING
from gracewrap.report.in_flight import have_not_answered, number
from gracewrap.report.program_history import OUTCOMES
from gracewrap.report.wording import MOST, NOT_OURS, seconds

if TYPE_CHECKING:
    from collections.abc import Sequence

    from gracewrap.report.program_history import ProgramHistory
    from gracewrap.report.recorder import Recorder
    from gracewrap.report.run_history import RunHistory


SHELLS = ("sh", "bash", "dash", "ash", "ksh", "zsh")
SU_KILLS = 1.9, 3.0  # seconds after its stop signal, on a machine with much to do


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
        or one.last_words.unseen
        or one.not_accepted[0]
        or one.killed_by_others()
        for one in run.programs
    )
    return "warning" if bad else "info", text


def _ends(run: RunHistory) -> list[str]:
    """Return how all of it ended, for people."""
    if not run.several:
        return [how(run.all), *_particulars(run.all)]
    shown, rest = _most_telling(run.programs)
    ends = [", ".join((how(one), *_particulars(one))) for one in shown]
    ends += [_counted(rest)] if rest else []
    return [f"{run.several} programs: {ends[0]}", *ends[1:]] if run.several > 1 else ends


def whose(run: RunHistory, status: int) -> str:
    """Return which program an exit status that is no success comes from."""
    history = exit_code_from(run, status)
    return f" ({history.name}'s)" if history is not None and history.name else ""


def _own_status(run: RunHistory, status: int) -> str:
    """Return the signal whose number is in an exit status that says no more than that: it was
    stopped as it was asked to."""
    history = exit_code_from(run, status)
    if history is None or run.requested is None or history.cut:
        return ""
    return _signal_of_status(history)


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


# --- one program ----------------------------------------------------------------------------------


def how(history: ProgramHistory) -> str:
    """Return in half a sentence how a program ended: "web exited with 0 after SIGTERM"."""
    text, leader = f"{history.name or history.who} {history.ended()}", history.leader
    if history.ended_by_stop_signal():
        lost = _lost(history) if history.had_no_handler() else ""
        return text + (lost or _killed_by_su(history))
    killed = history.killed and not history.early
    if history.name and killed and leader is not None and leader.signum == 9 and leader.killed:
        return f"{text} ({history.kill_why})"
    asked = leader is not None and leader.asked
    if history.killed_by_others():
        text += f", {NOT_OURS}"
    signalled = f" after {', '.join(dict.fromkeys(history.sent))}"
    return text + (signalled if history.sent and asked else "")


def _lost(history: ProgramHistory) -> str:
    """Return what is said of a program that a stop signal ended at once: what to do about it."""
    if history.label in SHELLS and not history.caught:
        return (
            " at once (it is a shell script without a handler for it: put exec before the last "
            "command, or trap the signal)"
        )
    return f" at once ({_cure(history, history.command)})"


def _cure(history: ProgramHistory, command: Sequence[str]) -> str:
    """Return what helps where *command*, or what it left behind, had no handler."""
    from gracewrap.config.recognise_command import recognised

    if history.silent:
        return (
            f"{have_not_answered(history.silent, 'had')}, because its event loop did not turn: any "
            "work in progress was lost; let long computations run in a worker thread"
        )
    if history.may_have_handled():
        lost = "unless a handler of its own did that, any work in progress was lost"
    else:
        lost = "it has no handler for the signal, so any work in progress was lost"
    asks = any(probe.kind == "agent" for probe in history.in_flight.probes)
    if asks and not history.without_agent:
        return (
            f"{lost}; handle the signal in it: the agent finishes requests and BullMQ jobs, but "
            "cannot see timers or other work"
        )
    preset = recognised(history.command)
    if preset != "npm":  # what a server has started is likely to be at work for it, as a CGI script
        preset = recognised(command) or preset or "any-http-server"
    if preset == history.preset:
        return f"{lost}; handle the signal in it: the preset in use does not help here"
    write = f"--preset {preset}"
    if history.name:
        write = f'preset = "{preset}" in [programs.{history.name}]'
    if (what := _FINISHES.get(preset)) is None:
        return f"{lost}; {write} lets it finish first"
    return f"{lost}; if it is {what}, {write} lets it finish first; else handle the signal in it"


# What these presets finish; the others are for one program each.
_FINISHES = {
    "any-http-server": "an HTTP server",
    "node": "an HTTP server or a BullMQ worker",
    "npm": "an HTTP server or a BullMQ worker in Node.js",
}


def _lost_behind(history: ProgramHistory) -> str:
    """Return what is said of a process that a program left behind, and that had no handler."""
    if history.left_lost is None:
        return ""
    name, pid = history.left_lost.name, history.left_lost.pid
    sent = signals.name(history.left_lost.signum)
    cure = _cure(history, [name])
    if history.leader is not None and not history.leader.asked:
        # No preset helps: it was stopped because the leader had exited.
        cure = cure.partition("; ")[0]
    return f"; {sent} ended {name} (pid {pid}) at once ({cure})"


def _killed_by_su(history: ProgramHistory) -> str:
    """Return what is said of su and runuser, which end 2 s after they have passed the signal on,
    and send SIGKILL then."""
    leader, told_at = history.leader, history.told_at
    if history.label not in ("su", "runuser") or leader is None or told_at is None:
        return ""
    if not SU_KILLS[0] <= leader.at - told_at <= SU_KILLS[1]:
        return ""
    return (
        f" after 2 s: {history.label} forwards the stop signal and sends SIGKILL 2 s later, "
        "whatever the budget; work that took longer was lost (use user = ..., setpriv or gosu "
        "instead)"
    )


def _particulars(history: ProgramHistory) -> list[str]:
    """Return what else people should know of its end."""
    parts = []
    if history.finished:
        parts.append(f"{history.finished} request{'' if history.finished == 1 else 's'} finished")
    if history.leftover:
        parts.append(f"it left behind {history.leftover}{_lost_behind(history)}")
    if history.early:
        parts.append(_early(history))
    elif history.killed and history.leader is not None:
        whole = history.leader.signum == 9 and history.leader.killed
        if not (whole and history.name):  # else how() says so
            parts.append("it had to be killed" if whole else "some of it had to be killed")
    if history.gave_up and history.leader is not None:
        parts.append(f"{history.still_there or 'some of its processes'} could not be killed")
    if history.interrupted:
        parts += _cut(history, history.interrupted)
    elif history.drained_after is not None:
        is_it = "no request in flight" if history.in_flight.requests_only else "drained"
        after = seconds(round(history.drained_after, 2))
        parts.append(f"{is_it} after {after}{_perhaps_cut(history)}")
    elif history.drain_began is not None and history.killed:
        parts += [history.unusable] if history.unusable else []
    parts += [_not_accepted(history)] if history.not_accepted[0] else []
    if history.killed and history.held_up and not history.still_open:
        from gracewrap.report import held_up

        told = history.interrupted and history.held_up[-1].cause.work  # as what was cut
        parts += [] if told else [held_up.last_sentence(history.held_up, history.sent)]
    if history.killed and history.silent:
        parts.append(f"{have_not_answered(history.silent, 'had')}: its event loop did not turn")
    if history.streams[0]:
        parts.append(f"when last seen, {in_words(*history.streams)}")
    return parts


def _cut(history: ProgramHistory, interrupted: float) -> list[str]:
    """Return what is said of work that was cut, apart from that of which it is not certain."""
    parts, unseen = [], history.last_words.unseen
    known = interrupted - sum(one.counts.in_flight - one.counts.streams for one in unseen)
    if known > 0:
        were = "were" if known != 1 else "was"
        parts.append(f"{number(known)} in flight {were} cut{_jobs(history)}{_too_soon(history)}")
    for one in unseen[:MOST]:
        was = "was" if one.counts.in_flight + one.counts.websockets == 1 else "were"
        text = f"{one.what} {was} in flight {seconds(one.before)} before pid {one.pid} ended"
        parts.append(f"{text} without a last word of its agent, and {was} probably cut")
    if len(unseen) > MOST:
        parts.append(f"so it was in {len(unseen) - MOST} more processes")
    return parts


def _not_accepted(history: ProgramHistory) -> str:
    """Return what is said of clients that it let wait until it exited, as gunicorn does: its
    listener stays open for as long as it finishes, and nobody accepts."""
    count, ago = history.not_accepted
    waited = "s with a request were" if count != 1 else " with a request was"
    before = seconds(round(ago, 2))
    return (
        f"{count} connection{waited} still waiting to be accepted {before} before it exited, and "
        "such are reset; with a longer propagation_delay load balancers send them elsewhere first"
    )


def _perhaps_cut(history: ProgramHistory) -> str:
    """Return what else was to be seen of a program without a handler, when no request was in flight
    and the stop signal ended it: what requests have nothing to do with was lost."""
    work = history.in_flight.work()
    if not (work and history.in_flight.requests_only and history.ended_at_once()):
        return ""
    if history.may_have_handled():
        return f"; if it was working on a job, that may be lost ({work})"
    return f"; if it was working on a job, that was lost: it has no handler for the signal ({work})"


def _early(history: ProgramHistory) -> str:
    if history.kill_why != NO_REQUEST:
        return "it was drained, but did not exit"
    still = f"; still open: {history.still_open}" if history.still_open else ""
    return f"it did not exit although no request was in flight{still}"


def _too_soon(history: ProgramHistory) -> str:
    """Return why it exited by itself with work in flight, or what helps."""
    if exception := history.last_words.exception:
        return f" ({exception} ended the process)"
    if not history.exited_too_soon():
        return ""
    write = "--drain-when before-signal"
    if history.name:
        write = f'drain.when = "before-signal" in [programs.{history.name}]'
    return f" (it exited before that was done; {write} lets it finish first)"


def _signal_of_status(history: ProgramHistory) -> str:
    """Return the signal with whose number it exited (128 + N) after a stop that may well have been
    a good one; else ""."""
    status, leader = history.status() or 0, history.leader
    if status <= 128 or leader is None or not leader.asked:
        return ""
    if history.killed or history.aborted or history.had_no_handler() or history.left_lost:
        return ""
    if history.not_accepted[0]:
        return ""
    name = signals.name(status - 128)
    return name if name in history.sent else ""


def _is_troubled(history: ProgramHistory) -> bool:
    """Return whether people will want to know how it ended."""
    if history.outcome() in ("not_started", "gave_up", "killed", "ended_by_other_signal"):
        return True
    if history.leftover or history.interrupted or history.not_accepted[0]:
        return True
    failed = history.leader is not None and bool(history.leader.status)
    return failed and not history.early and not history.ended_by_stop_signal()


def _most_telling(
    histories: Sequence[ProgramHistory],
) -> tuple[list[ProgramHistory], list[ProgramHistory]]:
    """Return the programs whose end is told one by one, and the rest: all of a few, else the worst
    of those with trouble."""
    if len(histories) <= MOST:
        return list(histories), []
    troubled = sorted(
        filter(_is_troubled, histories), key=lambda history: OUTCOMES.index(history.outcome())
    )
    shown = troubled[:MOST]
    return shown, [history for history in histories if history not in shown]


def _counted(histories: Sequence[ProgramHistory]) -> str:
    """Return how many programs ended how: "44 stopped gracefully, 2 had ended before"."""
    ends = [history.outcome() for history in histories]
    return ", ".join(f"{ends.count(end)} {_COUNTED[end]}" for end in OUTCOMES if end in ends)


_COUNTED = {
    "not_started": "could not be started",
    "gave_up": "could not be killed",
    "killed": "had to be killed",
    "ended_by_other_signal": "ended by another signal",
    "interrupted": "exited with work in flight",
    "drained": "were drained and killed",
    "ended_by_signal": "ended by the stop signal",
    "graceful": "ended in time",
    "exited": "had ended before",
    "skipped": "were never started",
}


def _jobs(history: ProgramHistory) -> str:
    """Return the jobs that were cut for certain, for people."""
    elsewhere = [queue for one in history.last_words.unseen for queue in one.counts.jobs]
    named = [
        f"{one.queue} {', '.join(one.ids)}"
        for one in history.cut_jobs
        if one.ids and one not in elsewhere
    ]
    return f" (jobs: {'; '.join(named)})" if named else ""
