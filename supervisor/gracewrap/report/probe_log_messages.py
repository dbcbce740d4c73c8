"""Each log event about probes, hooks and agents as a line: its level, its sentence for people, its
fields for machines."""

from __future__ import annotations

from gracewrap.record import TYPE_CHECKING, assert_never
from gracewrap.report import probe_events
from gracewrap.report.wording import HOOKS, Line, because, in_flight_now, seconds

if TYPE_CHECKING:
    from gracewrap.report.program_history import ProgramHistory

# Their sentences do not say by themselves which program they are about.
NAMELESS = (
    probe_events.ProbeSilent,
    probe_events.ProbeSeen,
    probe_events.InFlightChanged,
    probe_events.HookStarted,
    probe_events.AgentExited,
    probe_events.AgentUnseen,
    probe_events.AgentTrouble,
    probe_events.AgentsAnswered,
)


def describe(event: probe_events.ProbeEvent, history: ProgramHistory, at: float) -> Line:
    """Return the line of an event; the arguments are those of messages.describe()."""
    who, probes = history.who, history.in_flight.probes
    match event:
        case probe_events.NotReady(_, after, why):
            text = f"{who} is not ready after {seconds(round(after))}{because(why)}"
            return Line("warning", text, {"after": after, "why": why})
        case probe_events.NotYetHealthy(_, after, why):
            text = f"{who} has not passed its live check once in {seconds(round(after))}"
            text += f"{because(why)}; failures do not count until it has passed once"
            return Line("warning", text, {"after": after, "why": why})
        case probe_events.ProbeSilent(_, probe, why, after):
            kind = probes[probe].kind
            text = f"probe {kind} has had no answer in {seconds(round(after))}{because(why)}"
            return Line("warning", text, {"probe": kind, "why": why, "after": after})
        case probe_events.ProbeSeen(_, probe, reading):
            kind, number, why = probes[probe].kind, reading.in_flight, reading.why
            text = f"probe {kind}: {reading.kind}{in_flight_now(number)}{because(why)}"
            fields = {"probe": kind, "reading": reading.kind, "in_flight": number, "why": why}
            return Line("debug", text, fields)
        case probe_events.InFlightChanged():
            numbers, total = history.in_flight.shown(at), history.in_flight.total()
            text = f"in flight: {numbers}"
            fields = {"numbers": numbers, "in_flight": total}
            return Line("debug", text, fields, on_change=True)
        case probe_events.HookStarted(_, hook, command):
            text = f"running {HOOKS[hook]}: {command}"
            return Line("info", text, {"hook": hook, "command": command})
        case probe_events.Said(_, said):
            return Line("info", f"{who} says: {said}", {"text": said})
        case probe_events.MainPid(_, was, main):
            text = f"{was} says that its main process is {main}; signals go there"
            return Line("info", text, {"main": main})
        case probe_events.AgentOff() | probe_events.AgentConnected():
            return _agent(event, who)
        case probe_events.AgentTrouble() | probe_events.AgentsAnswered():
            return _agent(event, who)
        case probe_events.AgentExited() | probe_events.AgentUnseen():
            return _agent(event, who)
        case _:
            assert_never(event)


def _agent(event: probe_events.AgentEvent, who: str) -> Line:
    match event:
        case probe_events.AgentOff(_, why):
            return Line("warning", f"{who} runs without gracewrap's agent: {why}", {"why": why})
        case probe_events.AgentConnected(_, pid, runtime, thread):
            where = f", thread {thread}" if thread else ""
            text = f"agent in {runtime} (pid {pid}{where}) connected"
            fields = {"pid": pid, "runtime": runtime, "thread": thread or None}
            return Line("debug", text, fields)
        case probe_events.AgentTrouble(_, pid, why):
            text = f"gracewrap's agent (pid {pid}): {why}"
            return Line("warning", text, {"pid": pid, "why": why})
        case probe_events.AgentExited(_, pid, counts, what, exception):
            cut = "it is" if counts.in_flight + counts.websockets == 1 else "they are"
            why = f" (after {exception})" if exception else ""
            text = f"pid {pid} exits{why} with {what} in flight: {cut} cut"
            jobs = counts.in_flight - counts.requests
            named = {"exception": exception} if exception else {}
            fields = {"pid": pid, "requests": counts.requests, "jobs": jobs, **named}
            return Line("warning", text, fields)
        case probe_events.AgentUnseen(_, pid, counts, what, before):
            one = counts.in_flight + counts.websockets == 1
            was, cut = ("was", "it was") if one else ("were", "they were")
            text = f"pid {pid} has ended without a last word of its agent; {what} {was} in flight "
            text += f"{seconds(before)} before: {cut} probably cut"
            jobs = counts.in_flight - counts.requests
            fields = {"pid": pid, "requests": counts.requests, "jobs": jobs, "before": before}
            return Line("warning", text, fields)
        case probe_events.AgentsAnswered(_, own, agent, none):
            parts = [
                f"{count} process{'' if count == 1 else 'es'} {what}"
                for count, what in (
                    (own, "with its own handler"),
                    (agent, "where it finishes the work"),
                    (none, "with nothing to finish"),
                )
                if count
            ]
            text = f"told gracewrap's agent inside {who} of the stop: {', '.join(parts)}"
            return Line("info" if own or agent else "debug", text, {"own": own, "agent": agent})
        case _:
            assert_never(event)
