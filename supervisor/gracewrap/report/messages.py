"""Each log event as a line: its level, its sentence for people, its fields for machines."""

from __future__ import annotations

from gracewrap.linux.signals import name
from gracewrap.policy import log_events
from gracewrap.record import TYPE_CHECKING, Record, assert_never
from gracewrap.report import runtime_events
from gracewrap.report.text import (
    MOST,
    listed,
    ordinal,
    outcome,
    seconds,
    signal_name,
    times,
)

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from gracewrap.report.program_history import ProgramHistory
    from gracewrap.report.run_history import RunHistory

    Event = log_events.LogEvent | runtime_events.RuntimeEvent


class Line(Record):
    """One log line.  Of the fields those that are None or "" are left out."""

    level: str
    text: str
    fields: Mapping[str, object] = {}


# Their sentences do not say by themselves which program they are about.
_NAMELESS = (
    log_events.Serving,
    log_events.HeldTooLong,
    log_events.Kill,
    log_events.DrainFailed,
    log_events.DrainTimeout,
    log_events.ProbeInvalid,
    log_events.HelperEnded,
    runtime_events.ProbeSilent,
    runtime_events.ProbeSeen,
    runtime_events.InFlightChanged,
    runtime_events.HookStarted,
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
        line = _probe(event, history)
    elif isinstance(event, runtime_events.OfTheRun):
        line = _run(event)
    else:
        assert_never(event)
    named = bool(run.several) and history is not run.all
    whose = f"{history.name}: " if named and isinstance(event, _NAMELESS) else ""
    fields = {k: v for k, v in line.fields.items() if v not in (None, "")}
    return Line(
        line.level, whose + line.text, {"program": history.name, **fields} if named else fields
    )


def _stop(event: log_events.StopEvent, history: ProgramHistory, run: RunHistory) -> Line:
    match event:
        case log_events.StopRequested(signum, by):
            text = f"stop requested: {by or f'{name(signum)} from {run.sender}'}; "
            sender = run.sender if signum else ""
            return Line(
                "info",
                f"{text}{seconds(run.budget)} to stop {run.who()}",
                {"signal": signal_name(signum), "by": by, "sender": sender, "budget": run.budget},
            )
        case log_events.AskedAgain(signum, effect):
            asked = name(signum) if signum else "asked"
            fields = {"signal": signal_name(signum), "effect": effect}
            return Line("info", f"{asked} again: {_AGAIN[effect]}", fields)
        case log_events.StopWaits(_, programs):
            # With many programs these lines would be as many, and hide the others.
            level = "info" if run.several <= MOST else "debug"
            who = history.name or history.who
            text = f"{who} is stopped after {listed(run.names(programs))}"
            return Line(level, text, _programs(programs, run))
        case log_events.Serving(_, time):
            until = "until every load balancer has noticed"
            return Line("info", f"serving for another {seconds(time)}, {until}", {"seconds": time})
        case log_events.HeldTooLong(_, doing, after):
            text = f"{_HELD[doing]} after {seconds(after)}, and the budget ends soon"
            return Line("warning", text, {"after": after})
        case log_events.Extended(_, remaining):
            text = f"{history.who} asks for more time; it has {seconds(remaining)} until SIGKILL"
            return Line("info", text, {"remaining": remaining})
        case log_events.AllEnded():
            return Line("info" if run.several else "debug", "all programs have ended")
        case log_events.Unsent(connections):
            text = f"leaving although bytes are unsent on {connections} connection(s)"
            return Line("warning", text, {"connections": connections})
        case _:
            return _part(event, run)


_AGAIN = {
    "none": "taken as the same request",
    "stopping already": "it is stopping already",
    "nothing to skip": "there is no step to skip; a third request kills at once",
    "skip ahead": "skipping ahead",
    "kill": "asked three times",
}
_HELD = {
    "propagation_delay": "still serving",
    "pre_stop": "pre_stop has not ended",
    "drain.start": "drain.start has not ended",
    "drain": "it is not drained",
}


def _part(event: log_events.PartEvent | log_events.RollingRestart, run: RunHistory) -> Line:
    match event:
        case log_events.PartRequested(by, again, programs):
            what = f"{'restart' if again else 'stop'} {listed(run.names(programs))}"
            fields = {"by": by, "again": again, **_programs(programs, run)}
            return Line("info", f"asked to {what}: {by}", fields)
        case log_events.PartRefused(by, programs):
            text = f"{by} is refused: another part is being stopped"
            return Line("warning", text, {"by": by, **_programs(programs, run)})
        case log_events.PartStopped(programs, again):
            then = "; to be started again" if again else ""
            fields = {"again": again, **_programs(programs, run)}
            return Line("info", f"{listed(run.names(programs))} stopped{then}", fields)
        case log_events.RollingRestart(by, waits):
            all_of = "all programs are restarted, one after the other"
            what = all_of if run.several else f"{run.all.who} is restarted"
            then = "; that begins when all that is to be up is ready" if waits else ""
            return Line("info", f"{by}: {what}{then}", {"by": by})
        case _:
            assert_never(event)


def _programs(programs: Sequence[int], run: RunHistory) -> dict[str, object]:
    """Return the names of programs as a field; the one command has none."""
    return {"programs": run.names(programs)} if run.several else {}


def _signal(event: log_events.SignalEvent, history: ProgramHistory, run: RunHistory) -> Line:
    who, members = history.who, history.members
    fields: dict[str, object]
    match event:
        case log_events.Forwarded(signum, sent):
            to = "the programs" if run.several else "the command"
            fields = {"signal": name(signum), "sent": signal_name(sent)}
            return Line("debug", f"{name(signum)}: sent {name(sent)} to {to}", fields)
        case log_events.Dropped(signum):
            gone = f"the programs {_are(run)}" if run.several else "the command is"
            text = f"{name(signum)}: dropped: signal_map says so, or {gone} gone"
            return Line("debug", text, {"signal": name(signum)})
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
        case log_events.StopSignalIgnored(_, signum):
            others = f" and will not pass it on; sent it to its members: {members}"
            fields = {"signal": name(signum), "members": members}
            return Line("info", f"{who} ignores {name(signum)}{others if members else ''}", fields)
        case log_events.LastCall(_, signum):
            text = f"{who} is a shell that still waits; sent {name(signum)} to "
            fields = {"signal": name(signum), "members": members}
            return Line("info", text + (members or "nobody else"), fields)
        case log_events.Kill():
            return _kill(event, history)
        case log_events.GaveUp(_, after):
            text = f"gave up on {who}: still there {seconds(after)} after SIGKILL"
            return Line("error", text, {"after": after})
        case _:
            return _leftover(event, history)


def _leftover(
    event: log_events.Leftover | log_events.LeftoverWaits, history: ProgramHistory
) -> Line:
    behind = history.members or "nothing that is still there"
    match event:
        case log_events.Leftover(_, signum):
            done = f"sent {name(signum)} to" if signum else "waiting for"
            text = f"{done} what {history.who} left behind: {behind}"
            return Line("info", text, {"signal": signal_name(signum), "members": history.members})
        case log_events.LeftoverWaits(_, signum, after):
            text = f"{history.who} may have passed {name(signum)} on to {behind}; what is left in "
            fields = {"signal": name(signum), "after": after, "members": history.members}
            return Line("info", f"{text}{seconds(after)} is sent it", fields)
        case _:
            assert_never(event)


def _kill(event: log_events.Kill, history: ProgramHistory) -> Line:
    untold, hint = history.untold, ""
    if untold:
        kept = f"{history.who} kept the stop signal from {untold}"
        hint = f'; {kept}: write exec, or kill_mode = "group"'
    if untold and history.ignores:
        hint = "; it ignores the stop signal, and so does what it has started since"
    return Line(
        "warning",
        f"SIGKILL ({event.why}): {history.members or history.who}{hint}",
        {
            "why": event.why,
            "leader": event.leader,
            "members": history.members,
            "untold": untold,
        },
    )


def _drain(event: log_events.DrainEvent, history: ProgramHistory, run: RunHistory) -> Line:
    who = history.who
    match event:
        case log_events.DrainRequested():
            return Line("info", f"drain requested: {run.who()} {_are(run)} to take no new work")
        case log_events.UndrainRequested():
            return Line("info", f"drain taken back: {run.who()} {_are(run)} ready again")
        case log_events.DrainStart():
            return Line("info", f"drain.start: telling {who} to take no new work")
        case log_events.Draining(_, stopping):
            then = "the stop signal goes when it is drained" if stopping else "it is not stopped"
            return Line("info", f"draining {who}: {then}", {"stopping": stopping})
        case log_events.Drained(_, after):
            after = after if history.drained_after is None else history.drained_after
            text = f"{who} is drained after {seconds(round(after, 3))}"
            return Line("info", text, {"after": after})
        case log_events.Undrained(_, probe, in_flight, why):
            text = f"{who} is busy again{_in_flight(in_flight)}{_because(why)}"
            kind = history.in_flight.probes[probe].kind
            return Line("warning", text, {"probe": kind, "in_flight": in_flight, "why": why})
        case log_events.DrainFailed(_, probe, why):
            kind = history.in_flight.probes[probe].kind
            text = f"the drain is given up{_because(why)}"
            return Line("warning", text, {"probe": kind, "why": why})
        case log_events.DrainTimeout(_, after, in_flight):
            text = f"not drained after {seconds(after)} (drain.timeout){_in_flight(in_flight)}"
            return Line("warning", text, {"after": after, "in_flight": in_flight})
        case log_events.ProbeInvalid(_, probe, why):
            kind = history.in_flight.probes[probe].kind
            text = f"a probe cannot be used: {kind}: {why}; it never says drained like this"
            return Line("warning", text, {"probe": kind, "why": why})
        case log_events.HelperEnded(_, hook, ok, why):
            took = history.hooks[hook].seconds
            done = f"done in {seconds(took or 0)}" if ok else f"failed in {seconds(took or 0)}"
            text = f"{_HOOKS[hook]} {done}" + ("" if ok else f": {why}; the stop goes on")
            fields = {"hook": hook, "ok": ok, "why": why, "took": took}
            return Line("info" if ok else "warning", text, fields)
        case _:
            assert_never(event)


_HOOKS = {
    "pre_stop": "pre_stop",
    "start": "drain.start",
    "post_stop": "post_stop",
    "push": "the push of metrics",
}


def _in_flight(number: float | None) -> str:
    return "" if number is None else f"; in flight: {number:g}"


def _because(why: str) -> str:
    return f" ({why})" if why else ""


def _are(run: RunHistory) -> str:
    """Return the verb of a sentence about all programs."""
    return "are" if run.several > 1 else "is"


def _program(event: log_events.ProgramEvent, history: ProgramHistory, run: RunHistory) -> Line:
    who, signum = history.who, 0 if history.leader is None else history.leader.signum
    fields: dict[str, object]
    match event:
        case log_events.CommandReady(_, after) | log_events.ProgramReady(_, after):
            text = f"{who} is ready after {seconds(round(after, 3))}"
            return Line("info", text, {"after": after})
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
                others = "; the others go on" if run.several else ""
                text = f"{who} {history.ended()}{_unasked(history)}{_no_more(last)}{others}"
            fields = {"status": status, "signal": signal_name(signum), "restarts": last or None}
            return Line("warning" if signum or last else "info", text, fields)
        case log_events.Restarts(_, status, after, in_a_row):
            again = f"it is started again in {seconds(round(after, 3))}"
            text = f"{who} {history.ended()}{_unasked(history)}; {again} "
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
        case _:
            assert_never(event)


def _leader_exited(
    event: log_events.LeaderExited, history: ProgramHistory, run: RunHistory
) -> Line:
    status, signum, left, asked = event.status, event.signum, event.left, event.asked
    last = history.in_a_row if not asked and event.then == "shutdown" else 0
    rest = "; something of it is left" if left else ""
    if left and not asked and not status:
        rest += (
            " (if it went into the background, run it in the foreground: nginx -g 'daemon off;')"
        )
    unasked = "" if asked else _unasked(history)
    text = f"{history.who} {outcome(status, signum)}{unasked}{rest}{_no_more(last)}"
    fields = {"status": status, "signal": signal_name(signum), "left": left}
    level = _exit_level(event, run, bool(last))
    return Line(level, text + _others(event, run), {**fields, "restarts": last or None})


def _exit_level(event: log_events.LeaderExited, run: RunHistory, last: bool) -> str:
    by_a_key = run.interactive and event.signum in (2, 3)  # Ctrl-C, Ctrl-\: the terminal sent it
    if not run.several:
        unasked = "warning" if event.signum and not by_a_key else "debug"
        return "warning" if last else "info" if event.asked or event.left else unasked
    if run.began_with is event:
        return "warning" if event.status else "info"
    # Otherwise the next line says it all: program_gone, restarts or program_ended.
    return "info" if event.left else "debug"


def _unasked(history: ProgramHistory) -> str:
    """Return what there is to say of a signal that ended a program and was not ours."""
    signum = 0 if history.leader is None else history.leader.signum
    if not signum or history.ended_by_us():
        return ""
    return ", which gracewrap did not send" + (" (out of memory?)" if signum == 9 else "")


def _no_more(restarts: int) -> str:
    """Return what there is to say of a program that is not started again, after max_restarts."""
    again = f"it was started again {times(restarts)} in a row"
    return f"; {again}, and is not started any more" if restarts else ""


def _others(event: log_events.LeaderExited | log_events.StartFailed, run: RunHistory) -> str:
    """Return what follows for the other programs, if the stop began with this event."""
    stopped = run.began_with is event and run.several > 1
    return "; the others are stopped because of it" if stopped else ""


def _life(
    event: runtime_events.LifeEvent, history: ProgramHistory, run: RunHistory, at: float
) -> Line:
    match event:
        case runtime_events.Started():
            return Line("info" if run.several else "debug", f"started {history.who}")
        case runtime_events.CannotRun(_, why, status):
            return Line("error", why, {"status": status})
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


def _probe(event: runtime_events.ProbeEvent, history: ProgramHistory) -> Line:
    who, probes = history.who, history.in_flight.probes
    match event:
        case runtime_events.NotReady(_, after, why):
            text = f"{who} is not ready after {seconds(round(after))}{_because(why)}"
            return Line("warning", text, {"after": after, "why": why})
        case runtime_events.ProbeSilent(_, probe, why, after):
            kind = probes[probe].kind
            text = f"probe {kind} has had no answer in {seconds(round(after))}{_because(why)}"
            return Line("warning", text, {"probe": kind, "why": why, "after": after})
        case runtime_events.ProbeSeen(_, probe, reading):
            kind, number, why = probes[probe].kind, reading.in_flight, reading.why
            text = f"probe {kind}: {reading.kind}{_in_flight(number)}{_because(why)}"
            fields = {"probe": kind, "reading": reading.kind, "in_flight": number, "why": why}
            return Line("debug", text, fields)
        case runtime_events.InFlightChanged():
            numbers, total = history.in_flight.shown(), history.in_flight.total()
            text = f"in flight: {numbers}"
            return Line("debug", text, {"numbers": numbers, "in_flight": total})
        case runtime_events.HookStarted(_, hook, command):
            text = f"running {_HOOKS[hook]}: {command}"
            return Line("info", text, {"hook": hook, "command": command})
        case runtime_events.Said(_, said):
            return Line("info", f"{who} says: {said}", {"text": said})
        case runtime_events.MainPid(_, was, main):
            text = f"{was} says that its main process is {main}; signals go there"
            return Line("info", text, {"main": main})
        case _:
            assert_never(event)


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
            text = f"lines of output lost: {lines}; nobody read them, or there was no room"
            return Line("warning", text, {"lines": lines})
        case runtime_events.Unheard(why):
            return Line("warning", why, {"why": why})
        case runtime_events.Fault(error):
            text = f"a bug in gracewrap, beside the command: {error}; it goes on without"
            return Line("warning", text, {"error": error})
        case runtime_events.Bug(error):
            text = f"a bug in gracewrap: {error}; from now on it only forwards, reaps, and kills in"
            return Line("error", f"{text} time", {"error": error})
        case _:
            assert_never(event)


def _waiting_for_command(event: runtime_events.WaitingForCommand) -> Line:
    numbers = f"{event.numbers} · " if event.numbers else ""
    until = "the stop signal" if event.held else "SIGKILL"
    left = f"{seconds(event.elapsed)} gone, {seconds(event.remaining)} until {until}"
    doing = event.doing or f"waiting for {event.who}"
    return Line(
        "info",
        f"{doing}: {numbers}{left}{_because(event.why)}",
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
    known = part.numbers.replace(" · ", ", ") or part.why
    left = f"{'its stop signal' if part.held else 'SIGKILL'} in {seconds(round(part.remaining, 1))}"
    return f"{part.program}: {', '.join(filter(None, (part.doing, known, left)))}"
