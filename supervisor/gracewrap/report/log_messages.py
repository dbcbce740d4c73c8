"""Each log event as a line: its level, its sentence for people, its fields for machines."""

from __future__ import annotations

from gracewrap.linux.signals import name
from gracewrap.policy import log_events
from gracewrap.record import TYPE_CHECKING, assert_never, replace
from gracewrap.report import runtime_events
from gracewrap.report.in_flight import EVENT_LOOP, have_not_answered
from gracewrap.report.wording import (
    HOOKS,
    MOST,
    NOT_OURS,
    Line,
    because,
    in_flight_now,
    listed,
    ordinal,
    outcome,
    seconds,
    signal_name,
)

if TYPE_CHECKING:
    from collections.abc import Sequence

    from gracewrap.report import probe_events
    from gracewrap.report.program_history import ProgramHistory
    from gracewrap.report.run_history import RunHistory

    Event = log_events.LogEvent | runtime_events.RuntimeEvent | probe_events.ProbeEvent


_DOCKER = (
    " (docker stop kills after 10 s unless -t, --stop-timeout or stop_grace_period say otherwise; "
    "if they do not, use --shutdown-timeout 8s)"
)
KEYS = {2: "Ctrl-C", 3: "Ctrl-\\"}  # signals that a terminal sends
# Their sentences do not say by themselves which program they are about.
_NAMELESS = (
    log_events.Serving,
    log_events.HeldTooLong,
    log_events.Kill,
    log_events.GaveUp,
    log_events.DrainFailed,
    log_events.AgentsSilent,
    log_events.DrainTimeout,
    log_events.ProbeInvalid,
    log_events.HelperEnded,
    log_events.HeldUp,
    runtime_events.Unheard,
)


def describe(event: Event, history: ProgramHistory, run: RunHistory, at: float) -> Line:
    """Return the line of an event.

    Args:
        event: What happened, taken in by *history* and *run*.
        history: Of the program that it is about; run.all: it is about no single one.
        run: The run as a whole.
        at: When it happened.
    """
    nameless = False
    if isinstance(event, log_events.OfASignal):
        line = _signal(event, history, run)
    elif isinstance(event, log_events.OfAProgram):
        line = _program(event, history, run)
    elif isinstance(event, log_events.OfTheStop):
        line = _stop(event, history, run)
    elif isinstance(event, log_events.OfTheDrain):
        line = _drain(event, history, run)
    elif isinstance(event, runtime_events.OfAProcess):
        line = _life(event, history, run, at)
    elif isinstance(event, runtime_events.OfAProbe):
        from gracewrap.report import probe_log_messages  # loaded: there are probes

        line = probe_log_messages.describe(event, history, at)
        nameless = isinstance(event, probe_log_messages.NAMELESS)
    elif isinstance(event, runtime_events.OfTheRun):
        line = _run(event)
    else:
        assert_never(event)
    named = bool(run.several) and history is not run.all
    whose = f"{history.name}: " if named and (nameless or isinstance(event, _NAMELESS)) else ""
    fields = {k: v for k, v in line.fields.items() if v not in (None, "")}
    fields = {"program": history.name, **fields} if named else fields
    return replace(line, text=whose + line.text, fields=fields)


def _stop(event: log_events.StopEvent, history: ProgramHistory, run: RunHistory) -> Line:
    match event:
        case log_events.StopRequested(signum, by):
            text = f"stop requested: {by or f'{name(signum)} from {run.sender}'}; "
            sender = run.sender if signum else ""
            docker = _DOCKER if run.is_short_of_docker else ""
            return Line(
                "info",
                f"{text}{seconds(run.budget)} to stop {run.who()}{docker}",
                {"signal": signal_name(signum), "by": by, "sender": sender, "budget": run.budget},
            )
        case log_events.AskedAgain(signum, effect):
            asked = name(signum) if signum else "asked"
            if effect == "stopping already":  # by a program's exit: nobody has asked before
                asked = name(signum) if signum else "asked to stop"
            else:
                asked += " again"
            fields = {"signal": signal_name(signum), "effect": effect}
            return Line("info", f"{asked}: {_AGAIN[effect]}", fields)
        case log_events.StopWaits(_, programs):
            # With many programs these lines would be as many, and hide the others.
            level = "info" if run.several <= MOST else "debug"
            who = history.name or history.who
            text = f"{who} will stop after {listed(run.names(programs))}"
            return Line(level, text, _programs(programs, run))
        case log_events.Serving(_, time):
            until = "so that load balancers notice (propagation_delay)"
            text = f"the stop signal waits for {seconds(time)}, {until}"
            return Line("info", text, {"seconds": time})
        case log_events.HeldTooLong(_, doing, after):
            why = "sending the stop signal now, because the budget ends soon"
            text = f"{_HELD[doing]} after {seconds(after)}; {why}"
            return Line("warning", text, {"after": after})
        case log_events.Extended(_, remaining):
            text = f"{history.who} asks for more time; it has {seconds(remaining)} until SIGKILL"
            return Line("info", text, {"remaining": remaining})
        case log_events.AllEnded():
            return Line("info" if run.several else "debug", "all programs have ended")
        case log_events.TimeGap(time):
            text = (
                f"gracewrap was not running for {seconds(round(time, 2))} (paused, stopped, "
                "without CPU, or the machine was suspended); watchdogs start over, all other time "
                "limits are extended by as much"
            )
            return Line("warning", text, {"seconds": round(time, 6)})
        case log_events.CpuWait(time):
            text = (
                f"gracewrap waited {seconds(round(time, 2))} for a CPU: the machine is too busy; "
                "the time limits of the stop are not extended"
            )
            return Line("warning", text, {"seconds": round(time, 6)})
        case log_events.Unsent(connections):
            text = f"exiting with unsent data on {connections} connection(s)"
            return Line("warning", text, {"connections": connections})
        case _:
            return _part(event, run)


_AGAIN = {
    "none": "taken as the same request",
    "stopping already": "already stopping",
    "nothing to skip": "nothing to skip; a third request sends SIGKILL at once",
    "skip ahead": "skipping ahead",
    "kill": "third request, sending SIGKILL to everything",
}
_HELD = {
    "propagation_delay": "propagation_delay has not passed",
    "agent": "the agent has not answered",
    "pre_stop": "pre_stop has not ended",
    "drain.start": "drain.start has not ended",
    "drain": "not drained",
}


def _part(event: log_events.PartEvent | log_events.RollingRestart, run: RunHistory) -> Line:
    match event:
        case log_events.PartRequested(by, again, programs):
            what = f"{'restart' if again else 'stop'} {listed(run.names(programs))}"
            fields = {"by": by, "again": again, **_programs(programs, run)}
            return Line("info", f"asked to {what}: {by}", fields)
        case log_events.PartRefused(by, programs):
            text = f"{by} is rejected: another stop or restart is in progress"
            return Line("warning", text, {"by": by, **_programs(programs, run)})
        case log_events.PartStopped(programs, again):
            then = ", restarting" if again else ""
            fields = {"again": again, **_programs(programs, run)}
            return Line("info", f"{listed(run.names(programs))} stopped{then}", fields)
        case log_events.RollingRestart(by, waits):
            all_of = "restarting all programs, one after the other"
            what = all_of if run.several else f"restarting {run.all.who}"
            them = "all programs that should be up are" if run.several else "it is"
            then = f"; this begins when {them} ready" if waits else ""
            return Line("info", f"{by}: {what}{then}", {"by": by})
        case _:
            assert_never(event)


def _programs(programs: Sequence[int], run: RunHistory) -> dict[str, object]:
    """Return the names of programs as a field; the one command has none."""
    return {"programs": run.names(programs)} if run.several else {}


def _signal(event: log_events.SignalEvent, history: ProgramHistory, run: RunHistory) -> Line:
    who = history.who
    fields: dict[str, object]
    if history.refused and isinstance(event, _SENDS):
        return _refused(event, history)
    match event:
        case log_events.Forwarded(signum, sent):
            to = "the programs" if run.several else "the command"
            fields = {"signal": name(signum), "sent": signal_name(sent)}
            return Line("debug", f"{name(signum)}: sent {name(sent)} to {to}", fields)
        case log_events.Dropped(signum):
            gone = "the programs have exited" if run.several > 1 else "the command has exited"
            text = f'{name(signum)} not forwarded: signal_map maps it to "none", {gone}, or it '
            text += "requests a restart during a stop"
            return Line("debug", text, {"signal": name(signum)})
        case log_events.Spared(signum, programs):
            short = name(signum).removeprefix("SIG")
            write = (
                "set reload_signal" if signum == 1 else f'set signal_map = {{{short} = "{short}"}}'
            )
            names = run.names(programs)
            whom = "it" if len(names) == 1 else "them"
            text = f"{name(signum)} not forwarded to {listed(names)}: without a handler the "
            text += f"signal would end {whom} (to forward it, {write})"
            return Line("info", text, {"signal": name(signum), **_programs(programs, run)})
        case log_events.SignalSent(_, signum, by):
            text = f"sent {name(signum)} to {who}: {by}"
            return Line("info", text, {"signal": name(signum), "by": by})
        case log_events.StopSignal(_, signum, to):
            whom = f"the process group of {who}" if to == "group" else who
            return Line(
                "info", f"sent {name(signum)} to {whom}", {"signal": name(signum), "to": to}
            )
        case log_events.Rung(_, signum, why):
            text = f"sent {name(signum)} to {who} ({why})"
            return Line("info", text, {"signal": name(signum), "why": why})
        case log_events.WatchdogAbort(_, signum, remaining):
            text = f"sent {name(signum)} to {who}, which missed its watchdog; "
            fields = {"signal": name(signum), "remaining": remaining}
            return Line("warning", f"{text}SIGKILL in {seconds(remaining)}", fields)
        case log_events.FailedStop(_, signum, remaining):
            text = f"sent {name(signum)} to {who}, which has failed its health check; "
            fields = {"signal": name(signum), "remaining": remaining}
            return Line("warning", f"{text}SIGKILL in {seconds(remaining)}", fields)
        case log_events.StopSignalIgnored(_, signum):
            reached, who = history.reached(event.members), history.name_of(event.parent)
            others = f" and will not pass it on; sent it to {reached}"
            fields = {"signal": name(signum), "members": reached}
            return Line("info", f"{who} ignores {name(signum)}{others if reached else ''}", fields)
        case log_events.ShellWaits() | log_events.LastCall():
            return _told_late(event, history)
        case log_events.Kill():
            return _kill(event, history, run)
        case log_events.DumpSignal(_, signum, members):
            reached = history.reached(members)
            text = f"sent {name(signum)} to {reached}, for a dump of what it is doing (dump_signal)"
            return Line("info", text, {"signal": name(signum), "members": reached})
        case log_events.GaveUp(_, after):
            there = history.still_there or who
            text = f"gave up on {there}: still there {seconds(after)} after SIGKILL"
            return Line("error", text, {"after": after, "members": history.still_there})
        case _:
            return _leftover(event, history)


def _told_late(event: log_events.ShellWaits | log_events.LastCall, history: ProgramHistory) -> Line:
    reached = history.reached(event.members)
    why = (
        "is a shell, which waits for its command and passes no signal on until that has exited"
        if isinstance(event, log_events.ShellWaits)
        else "is still running and does not seem to have passed the signal on"
    )
    cure = ' (to avoid the wait, start the command with exec, or set kill_mode = "group")'
    from gracewrap.policy.stop_signal_recipients import ONE_BY_ONE

    if event.parent is not None and event.parent[0] in ONE_BY_ONE:
        why, cure = "stops its programs one after another, and may not have come to all of them", ""
    who = history.name_of(event.parent)
    text = f"{who} {why}; sent {name(event.signum)} to {reached}{cure}"
    return Line("info", text, {"signal": name(event.signum), "members": reached})


_SENDS = (
    log_events.StopSignal,
    log_events.SignalSent,
    log_events.Rung,
    log_events.WatchdogAbort,
    log_events.Kill,
    log_events.GaveUp,
)


def _refused(event: log_events.SignalEvent, history: ProgramHistory) -> Line:
    """Return the line of a signal that the kernel did not let us send."""
    signum = getattr(event, "signum", 9)
    text = f"could not send {name(signum)} to {history.who}: {history.refused}"
    return Line("error", text, {"signal": name(signum), "refused": history.refused})


def _leftover(
    event: log_events.Leftover | log_events.LeftoverWaits, history: ProgramHistory
) -> Line:
    behind = history.members or "nothing that is still running"
    match event:
        case log_events.Leftover(_, signum):
            done = f"sent {name(signum)} to" if signum else "waiting for"
            # One below it may have exited, as the shell that supervisord has started.
            whose = history.who if history.leader else f"a process below {history.who}"
            text = f"{done} what {whose} left behind: {behind}"
            return Line("info", text, {"signal": signal_name(signum), "members": history.members})
        case log_events.LeftoverWaits(_, signum, _, _, after):
            text = f"{history.who} left behind {behind}, which may already have the stop signal; "
            text += f"{name(signum)} goes to what is still running in {seconds(after)}"
            fields = {"signal": name(signum), "after": after, "members": history.members}
            return Line("info", text, fields)
        case _:
            assert_never(event)


def _kill(event: log_events.Kill, history: ProgramHistory, run: RunHistory) -> Line:
    untold, hint = history.untold, ""
    if untold:
        hint = f"; gracewrap had left it to {history.who} to stop {untold}"
    if untold and history.ignores:
        hint = "; it ignores the stop signal, and so do the processes it has started since"
    still = f"; still open: {history.still_open}" if history.still_open else ""
    return Line(
        "warning",
        f"SIGKILL ({event.why}{_unused(event, run)}): {history.members or history.who}{still}"
        f"{hint}",
        {
            "why": event.why,
            "still_open": history.still_open,
            "left": event.left or None,
            "limit": event.limit,
            "kept_for": run.names(event.kept_for) or None,
            "leader": event.leader,
            "members": history.members,
            "untold": untold,
        },
    )


def _unused(event: log_events.Kill, run: RunHistory) -> str:
    """Return why it is out of time, if not because the budget has ended."""
    if not event.left:
        return ""
    left = seconds(round(event.left, 2))
    if event.limit:
        return f": {event.limit} has passed; {left} of the budget left"
    kept_for = listed(run.names(event.kept_for)) if event.kept_for else "hooks and metrics"
    return f": the last {left} are kept for {kept_for}"


def _drain(event: log_events.DrainEvent, history: ProgramHistory, run: RunHistory) -> Line:
    who = history.who
    match event:
        case log_events.DrainRequested():
            return Line("info", f"drain requested: {run.who()} should take no new work")
        case log_events.UndrainRequested():
            return Line("info", f"drain cancelled: {run.who()} should take new work again")
        case log_events.DrainStart():
            return Line("info", f"drain.start: telling {who} to take no new work")
        case log_events.Draining(_, stopping):
            then = "the stop signal is sent once it is drained" if stopping else "it keeps running"
            return Line("info", f"draining {who}: {then}", {"stopping": stopping})
        case log_events.Drained(_, after):
            after = after if history.drained_after is None else history.drained_after
            only = history.in_flight.requests_only
            is_it = f"no request is in flight at {who}" if only else f"{who} is drained"
            text = f"{is_it} after {seconds(round(after, 3))}"
            return Line("info", text, {"after": after})
        case log_events.KeptAlive(_, connections):
            text = f"{connections} connections are kept alive by their clients, which keep sending"
            if connections == 1:
                text = "1 connection is kept alive by its client, which keeps sending"
            return Line("warning", f"{who}: {text}", {"connections": connections})
        case log_events.GoodMoment(_, in_flight, after):
            text = f"{who} cannot be drained while clients keep sending; "
            text += f"sending the stop signal now{in_flight_now(in_flight)}"
            told = {"in_flight": in_flight, "after": after}
            return Line("info", text, told)
        case log_events.MayBeAtWork(_, work):
            text = f"{who} is not ended early, because it may still be at work: {work}"
            return Line("info", text, {"work": work})
        case log_events.Undrained(_, probe, in_flight, why):
            text = f"{who} is busy again{in_flight_now(in_flight)}{because(why)}"
            kind = history.in_flight.probes[probe].kind
            return Line("warning", text, {"probe": kind, "in_flight": in_flight, "why": why})
        case log_events.DrainFailed(_, probe, why):
            kind = history.in_flight.probes[probe].kind
            text = f"the drain is abandoned{because(why)}"
            return Line("warning", text, {"probe": kind, "why": why})
        case log_events.AgentsSilent():
            silence = "the agent has not answered"
            if history.silent:
                silence = f"{have_not_answered(history.silent)}: {EVENT_LOOP}"
            text = f"{silence}; it is waited for no longer"
            return Line("warning", text, {"why": silence})
        case log_events.DrainTimeout(_, after, in_flight):
            text = f"not drained after {seconds(after)} (drain.timeout){in_flight_now(in_flight)}"
            return Line("warning", text, {"after": after, "in_flight": in_flight})
        case log_events.ProbeInvalid(_, probe, why):
            kind = history.in_flight.probes[probe].kind
            until = "until that is fixed it cannot report drained"
            text = f"probe {kind} is misconfigured: {why}; {until}"
            return Line("warning", text, {"probe": kind, "why": why})
        case log_events.HelperEnded(_, hook, ok, why):
            took = history.hooks[hook].seconds
            done = f"done in {seconds(took or 0)}" if ok else f"failed in {seconds(took or 0)}"
            what = "drain" if hook == "start" and run.since is None else "stop"
            text = f"{HOOKS[hook]} {done}" + ("" if ok else f": {why}; the {what} continues")
            fields = {"hook": hook, "ok": ok, "why": why, "took": took}
            return Line("info" if ok else "warning", text, fields)
        case _:
            assert_never(event)


def _program(event: log_events.ProgramEvent, history: ProgramHistory, run: RunHistory) -> Line:
    who, signum = history.who, 0 if history.leader is None else history.leader.signum
    fields: dict[str, object]
    match event:
        case log_events.CommandReady(_, after) | log_events.ProgramReady(_, after):
            text = f"{who} is ready after {seconds(round(after, 3))}"
            return Line("info", text, {"after": after})
        case log_events.Unready(_, why):
            return Line("warning", f"{who} is no longer ready{because(why)}", {"why": why})
        case log_events.ReadyAgain(_, after):
            text = f"{who} is ready again, after {seconds(round(after, 3))}"
            return Line("info", text, {"after": after})
        case log_events.Unhealthy(_, why, then):
            text = f"{who} is not healthy{because(why)}"
            return Line("error", text, {"why": why, "then": then})
        case log_events.HealthyAgain(_, after):
            text = f"{who} is healthy again, after {seconds(round(after, 3))}"
            return Line("info", text, {"after": after})
        case log_events.NotReadyInTime(_, after, why):
            limit = round(after, 1 if after >= 1 else 2)  # as it was written, not 0 s for 200ms
            text = f"{who} is not ready after {seconds(limit)} (ready_timeout)"
            text += f": {why}" if why else ""
            fields = {"after": after, "why": why, "then": event.then}
            return Line("error", text, fields)
        case log_events.LeaderExited():
            return _leader_exited(event, history, run)
        case log_events.StartFailed(_, status, why):
            text = f"{who} cannot be started: {why}{_others(event, run)}"
            return Line("error", text, {"status": status, "why": why})
        case log_events.ProgramEnded(_, status):
            last = history.in_a_row if status else 0
            if history.oneshot and not status:
                text = f"{who} has completed"
            else:
                others = "; the others keep running" if run.several else ""
                text = f"{who} {history.ended()}{_unasked(history, run)}{_no_more(last)}{others}"
            fields = {"status": status, "signal": signal_name(signum), "restarts": last or None}
            return Line("warning" if signum or last else "info", text, fields)
        case log_events.Restarts(_, status, after, in_a_row):
            again = f"it will be restarted in {seconds(round(after, 3))}"
            text = f"{who} {history.ended()}{_unasked(history, run)}; {again} "
            fields = {"status": status, "after": after, "in_a_row": in_a_row, "restart": in_a_row}
            return Line(
                "warning",
                f"{text}({ordinal(in_a_row)} restart in a row)",
                {**fields, "signal": signal_name(signum)},
            )
        case log_events.Watchdog(_, after):
            text = (
                f"{who} has sent no WATCHDOG=1 for {seconds(after)}"
                if after
                else f"{who} says that it has failed (WATCHDOG=trigger)"
            )
            return Line("warning", text, {"after": after})
        case log_events.HeldUp():
            return _held_up(event, history)
        case _:
            assert_never(event)


def _held_up(event: log_events.HeldUp, history: ProgramHistory) -> Line:
    from gracewrap.report import held_up

    text = held_up.last_sentence(history.held_up, history.sent)
    return Line("info", text, {"moment": event.moment, "kind": event.cause.kind, "cause": text})


def _leader_exited(
    event: log_events.LeaderExited, history: ProgramHistory, run: RunHistory
) -> Line:
    status, signum, left, asked = event.status, event.signum, event.left, event.asked
    last = history.in_a_row if not asked and event.then == "shutdown" else 0
    rest = "; some of its processes are still running" if left else ""
    if left and not asked and not status:
        rest += _if_in_the_background(history)
    unasked = f", {NOT_OURS}" if history.killed_by_others() else ""
    if not asked:
        unasked = _by_a_key(event, history, run) or _unasked(history, run)
    text = f"{history.who} {outcome(status, signum)}{unasked}{rest}{_no_more(last)}"
    fields = {"status": status, "signal": signal_name(signum), "left": left}
    level = _exit_level(event, history, run, bool(last))
    return Line(level, text + _others(event, run), {**fields, "restarts": last or None})


def _if_in_the_background(history: ProgramHistory) -> str:
    """Return what to write if a program went into the background."""
    from gracewrap.config import foreground

    write = foreground.advice(history.command)
    how = f": write {write}" if write else ", by an option of its own"
    return f" (if it went into the background, run it in the foreground{how})"


def _by_a_key(event: log_events.LeaderExited, history: ProgramHistory, run: RunHistory) -> str:
    """Return what to say of a key that has ended the one command, although there is a drain: who
    tries gracewrap out may have expected that."""
    if event.signum not in KEYS or not run.interactive or run.several:
        return ""
    if not history.in_flight.probes:
        return ""
    return (
        f": {KEYS[event.signum]} goes to the command itself and is not a stop request; to stop it "
        "gracefully, use `gracewrap stop` or `kill -TERM`"
    )


def _exit_level(
    event: log_events.LeaderExited, history: ProgramHistory, run: RunHistory, last: bool
) -> str:
    by_a_key = run.interactive and event.signum in KEYS  # the terminal sent it
    if not run.several:
        unasked = "warning" if event.signum and not by_a_key else "debug"
        if by_a_key and _by_a_key(event, history, run):
            unasked = "info"
        if not event.asked and _was_passed(history, run):
            return "warning"
        return "warning" if last else "info" if event.asked or event.left else unasked
    if run.began_with is event:
        return "warning" if event.status or _was_passed(history, run) else "info"
    # Otherwise the next line says it all: program_gone, restarts or program_ended.
    return "info" if event.left else "debug"


def _was_passed(history: ProgramHistory, run: RunHistory) -> bool:
    """Return whether a signal that was passed on may have ended a program."""
    leader = history.leader
    if leader is None:
        return False
    passed = run.passed_on(history, leader.signum, leader.at)
    return passed is not None and not passed.by


def _unasked(history: ProgramHistory, run: RunHistory) -> str:
    """Return what there is to say of a signal that ended a program, or may have, and was not the
    stop signal."""
    leader = history.leader
    if leader is None or history.ended_by_us():
        return ""
    if passed := run.passed_on(history, leader.signum, leader.at):
        after = f"{seconds(round(leader.at - passed.at, 3))} after"
        if passed.by:
            did = f"sent by {passed.by}" if leader.signum else f"{after} {passed.by} had sent it"
            return f", {did} {'' if leader.signum else name(passed.received)}".rstrip()
        if leader.signum:
            return f", which gracewrap had forwarded{_cure(passed.received, run)}"
        text = f", {after} gracewrap had forwarded {name(passed.received)}"
        return text + _cure(passed.received, run)
    if not leader.signum:
        return ""
    return f", {NOT_OURS}" if leader.signum == 9 else ", which gracewrap did not send"


def _cure(received: int, run: RunHistory) -> str:
    """Return what keeps a signal that was passed on from ending a program."""
    short = name(received).removeprefix("SIG")
    if received in (1, 10, 12):  # HUP, USR1, USR2: seldom meant as a stop
        return f'; if it is not meant for this program, set signal_map = {{{short} = "none"}}'
    return (
        f"; if it should stop everything (an image's STOPSIGNAL), add {short} to stop_on "
        "or set STOPSIGNAL SIGTERM in the Dockerfile"
    )


def _no_more(restarts: int) -> str:
    """Return what there is to say of a program that is not started again, after max_restarts."""
    after = f"{restarts} restart{'' if restarts == 1 else 's in a row'}"
    return f"; after {after} it will not be restarted again" if restarts else ""


def _others(event: log_events.LeaderExited | log_events.StartFailed, run: RunHistory) -> str:
    """Return what follows for the other programs, if the stop began with this event."""
    stopped = run.began_with is event and run.several > 1
    return "; stopping the others because of it" if stopped else ""


def _life(
    event: runtime_events.LifeEvent, history: ProgramHistory, run: RunHistory, at: float
) -> Line:
    match event:
        case runtime_events.Started():
            return Line("info" if run.several else "debug", f"started {history.who}")
        case runtime_events.CannotRun(_, why, status):
            return Line("error", why, {"status": status})
        case runtime_events.LeaderReplaced(_, was, main):
            text = f"{was} has exited with 0; its successor (pid {main}) is now the program"
            return Line("info", text, {"main": main})
        case runtime_events.ProgramGone():
            return _program_gone(history, run, at)
        case runtime_events.ChildStopped(_, signum, done):
            text = f"{history.who} was stopped by {name(signum)}: {done}"
            return Line("info", text, {"signal": name(signum), "done": done})
        case runtime_events.Reaped(pid, status):
            text = f"reaped orphan {pid} (status {status})"
            return Line("debug", text, {"pid": pid, "status": status})
        case _:
            assert_never(event)


def _program_gone(history: ProgramHistory, run: RunHistory, at: float) -> Line:
    after = None if history.told_at is None else at - history.told_at
    took = "" if after is None else f" after {seconds(round(after, 3))}"
    who, asked = history.name or history.who, history.leader is not None and history.leader.asked
    signum = 0 if history.leader is None else history.leader.signum
    return Line(
        "info" if asked and run.several else "debug",
        f"{who} is gone{took} ({history.ended()})",
        {"after": after, "status": history.status(), "signal": signal_name(signum)},
    )


def _run(event: runtime_events.RunEvent) -> Line:
    match event:
        case runtime_events.WaitingForPrograms(parts, elapsed, remaining):
            times_left = f"{seconds(elapsed)} gone, {seconds(remaining)} left for all"
            fields = {"elapsed": elapsed, "remaining": remaining}
            return Line(
                "info",
                f"waiting: {waiting_for(parts)}; {times_left}",
                {**fields, "programs": [part.fields() for part in parts]},
            )
        case runtime_events.WaitingForCommand():
            return _waiting_for_command(event)
        case runtime_events.OutputLost(lines):
            s = "" if lines == 1 else "s"
            text = f"{lines} line{s} of output lost: nothing read the output, or there was no room"
            return Line("warning", text, {"lines": lines})
        case runtime_events.ShellInFront(shell):
            text = (
                f"PID 1 is {shell}, which passes no signal on: docker stop (or the kubelet) will "
                'not reach gracewrap; use ENTRYPOINT ["gracewrap", "--"], or exec gracewrap in the '
                "script"
            )
            return Line("warning", text, {"shell": shell})
        case runtime_events.LogReopened(file):
            return Line("info", f"reopened the log file {file}", {"file": file})
        case runtime_events.Unheard(what, why, cure):
            text = f"{what}: {why}{'; ' if cure else ''}{cure}"
            return Line("warning", text, {"why": why})
        case runtime_events.Fault(error):
            text = f"internal error: {error}; the command keeps running"
            return Line("warning", text, {"error": error})
        case runtime_events.Bug(error):
            text = f"internal error: {error}; from now on gracewrap only forwards signals, "
            return Line("error", f"{text}reaps, and kills in time", {"error": error})
        case _:
            assert_never(event)


def _waiting_for_command(event: runtime_events.WaitingForCommand) -> Line:
    numbers = f"{event.numbers} · " if event.numbers else ""
    until = "the stop signal" if event.held else "SIGKILL"
    left = f"{seconds(event.elapsed)} gone, {seconds(event.remaining)} until {until}"
    doing = event.doing or f"waiting for {event.who}"
    return Line(
        "info",
        f"{doing}: {numbers}{left}{because(event.why)}",
        {
            "remaining": event.remaining,
            "elapsed": event.elapsed,
            "numbers": event.numbers,
            "in_flight": event.in_flight,
            "why": event.why,
        },
    )


def waiting_for(parts: Sequence[runtime_events.WaitedFor]) -> str:
    """Return what several programs are waited for: "web: requests 7 → 3 · worker: jobs 2 · db waits
    for web and worker".

    Those that are being stopped come before those whose turn it is not yet; what there is no room
    for is counted.
    """
    in_turn = sorted(parts, key=lambda part: bool(part.waits_for))
    shown = [_waited_for(part) for part in in_turn[:MOST]]
    return " · ".join(shown) + (f" and {len(parts) - MOST} more" if len(parts) > MOST else "")


def _waited_for(part: runtime_events.WaitedFor) -> str:
    if part.waits_for:
        return f"{part.program} waits for {listed(part.waits_for, 3)}"
    known = ", ".join(filter(None, (part.numbers.replace(" · ", ", "), part.why)))
    left = f"{'its stop signal' if part.held else 'SIGKILL'} in {seconds(round(part.remaining, 1))}"
    return f"{part.program}: {', '.join(filter(None, (part.doing, known, left)))}"
