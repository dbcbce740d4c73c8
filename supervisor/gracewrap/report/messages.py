"""What each note says: its level and its sentence for people.  The fields beside it are for
machines."""

from __future__ import annotations

from gracewrap.linux.signals import name
from gracewrap.record import TYPE_CHECKING, Record

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    # Of several programs *program* is the name of the one that it is about, *several* how many
    # there are.
    Fields = Mapping[str, object]

MOST = 6  # so many programs are named in a line


class WaitedFor(Record):
    """What one of several programs is waited for; see Recorder.part."""

    program: str
    remaining: float
    doing: str = ""
    held: bool = False
    waits_for: tuple[str, ...] = ()
    numbers: str = ""
    in_flight: float | None = None
    why: str = ""

    def fields(self) -> dict[str, object]:
        """Return it for machines, the empty left out."""
        found: dict[str, object] = {
            "program": self.program,
            "doing": self.doing,
            "waits_for": list(self.waits_for),
            "in_flight": self.in_flight,
        }
        found = {key: value for key, value in found.items() if value not in (None, "", [])}
        return {**found, "remaining": round(self.remaining, 3)}


def seconds(value: object) -> str:
    """Return seconds for people: "25 s", "1.25 s", "12 ms"."""
    number = float(str(value))
    if 0 < number < 0.0995:
        return f"{number * 1000:.0f} ms"
    return f"{number:.0f} s" if number == int(number) else f"{number:.2f} s"


def listed(names: Sequence[str], most: int = MOST, last: str = "and") -> str:
    """Return names for people: "web", "web and worker", "web, worker and 44 more"; with *last*
    before the last one."""
    if len(names) > most:
        return f"{', '.join(names[:most])} and {len(names) - most} more"
    return f" {last} ".join(filter(None, (", ".join(names[:-1]), *names[-1:])))


def outcome(fields: Fields) -> str:
    """Return how a process ended: "exited with 0", "was ended by SIGKILL"."""
    signum = int(str(fields["signal"]))
    return f"was ended by {name(signum)}" if signum else f"exited with {fields['status']}"


def _signal(fields: Fields, key: str = "signal") -> str:
    return name(int(str(fields[key])))


def _stop_requested(f: Fields) -> str:
    who = f["by"] if f.get("by") else f"{_signal(f)} from {f['sender']}"
    return f"stop requested: {who}; {seconds(f['budget'])} to stop {f['who']}"


def _stop_signal(f: Fields) -> str:
    return f"sent {_signal(f)} to {'the process group of ' if f['to'] == 'group' else ''}{f['who']}"


def _unasked(f: Fields) -> str:
    """Return what there is to say of a signal that ended a program, and was not ours."""
    if not f["signal"] or f.get("ours"):
        return ""
    return ", which gracewrap did not send" + (
        " (out of memory?)" if int(str(f["signal"])) == 9 else ""
    )


def _several(f: Fields) -> int:
    """Return how many programs there are; 0: the one command."""
    return int(str(f.get("several", 0)))


def _others(f: Fields) -> str:
    """Return what follows for the others from the end of one, if that is the cause of the stop."""
    return "; the others are stopped because of it" if f.get("cause") and _several(f) > 1 else ""


def _exit_level(f: Fields) -> str:
    unasked = "warning" if f["signal"] and not f["typed"] else "debug"
    if not f.get("several"):
        return "warning" if f.get("restarts") else "info" if f["asked"] or f["left"] else unasked
    if f.get("cause"):
        return "warning" if f["status"] else "info"
    # Otherwise what is told next says it all: program_gone, restarts or program_ended.
    return "info" if f["left"] else "debug"


def _leader_exited(f: Fields) -> str:
    rest = "; something of it is left" if f["left"] else ""
    unasked = "" if f["asked"] else _unasked(f)
    if f["left"] and not f["asked"] and not f["status"]:
        rest += (
            " (if it went into the background, run it in the foreground: nginx -g 'daemon off;')"
        )
    return f"{f['who']} {outcome(f)}{unasked}{rest}{_no_more(f)}{_others(f)}"


def _leftover(f: Fields) -> str:
    told = f"sent {_signal(f)} to" if f["told"] else "waiting for"
    return (
        f"{told} what {f['who']} left behind: {f.get('members') or 'nothing that is still there'}"
    )


def _leftover_waits(f: Fields) -> str:
    behind = f.get("members") or "nothing that is still there"
    return (
        f"{f['who']} may have passed {_signal(f)} on to {behind}; what is left in "
        f"{seconds(f['after'])} is sent it"
    )


def _ignored(f: Fields) -> str:
    sent = (
        f" and will not pass it on; sent it to its members: {f['members']}"
        if f.get("members")
        else ""
    )
    return f"{f['who']} ignores {_signal(f)}{sent}"


def _kill(f: Fields) -> str:
    hint = (
        f'; {f["who"]} kept the stop signal from {f["untold"]}: write exec, or kill_mode = "group"'
        if f["untold"]
        else ""
    )
    hint = (
        "; it ignores the stop signal, and so does what it has started since"
        if f["untold"] and f.get("ignores")
        else hint
    )
    return f"SIGKILL ({f['why']}): {f.get('members') or f['who']}{hint}"


def _in_flight(f: Fields) -> str:
    number = f.get("in_flight")
    return "" if number is None else f"; in flight: {float(str(number)):g}"


def _draining(f: Fields) -> str:
    then = "the stop signal goes when it is drained" if f["stopping"] else "it is not stopped"
    return f"draining {f['who']}: {then}"


def _undrained(f: Fields) -> str:
    return f"{f['who']} is busy again{_in_flight(f)}{_why(f)}"


def _why(f: Fields) -> str:
    return f" ({f['why']})" if f.get("why") else ""


def _held_too_long(f: Fields) -> str:
    waiting = {
        "waiting": "pre_stop has not ended",
        "starting": "drain.start has not ended",
        "draining": "it is not drained",
    }
    return (
        f"{waiting.get(str(f['doing']), f['doing'])} after {seconds(f['after'])}, and the "
        f"budget ends soon{_in_flight(f)}"
    )


_HOOKS = {
    "pre_stop": "pre_stop",
    "start": "drain.start",
    "post_stop": "post_stop",
    "push": "the push of metrics",
}


def _helper_ended(f: Fields) -> str:
    took = f" in {seconds(f['took'])}" if f.get("took") is not None else ""
    hook = _HOOKS[str(f["hook"])]
    return f"{hook} done{took}" if f["ok"] else f"{hook} failed{took}: {f['why']}; the stop goes on"


def _asked_again(f: Fields) -> str:
    again = {
        "none": "taken as the same request",
        "stopping already": "it is stopping already",
        "nothing to skip": "there is no step to skip; a third request kills at once",
        "skip ahead": "skipping ahead",
        "kill": "asked three times",
    }
    return f"{_signal(f) if f['signal'] else 'asked'} again: {again[str(f['effect'])]}"


def _restarts(f: Fields) -> str:
    after, number = seconds(round(float(str(f["after"])), 3)), _ordinal(int(str(f["restart"])))
    return (
        f"{f['who']} {f['ended']}{_unasked(f)}; it is started again in {after} ({number} "
        "restart in a row)"
    )


def _ordinal(number: int) -> str:
    suffix = (
        "th" if number % 100 in (11, 12, 13) else {1: "st", 2: "nd", 3: "rd"}.get(number % 10, "th")
    )
    return f"{number}{suffix}"


def _program_ended(f: Fields) -> str:
    if f["oneshot"] and not f["status"]:
        return f"{f['who']} has completed"
    return (
        f"{f['who']} "
        f"{f['ended']}{_unasked(f)}{_no_more(f)}{'; the others go on' if f.get('several') else ''}"
    )


def _no_more(f: Fields) -> str:
    """Return what there is to say of a program that is not started again, after max_restarts."""
    return (
        f"; it was started again {_times(f['restarts'])} in a row, and is not started any more"
        if f.get("restarts")
        else ""
    )


def _times(count: object) -> str:
    return "once" if count == 1 else f"{count} times"


def _program_gone(f: Fields) -> str:
    after = f" after {seconds(round(float(str(f['after'])), 3))}" if "after" in f else ""
    return f"{f.get('program') or f['who']} is gone{after} ({f['ended']})"


def _roll(f: Fields) -> str:
    what = (
        "all programs are restarted, one after the other"
        if _several(f)
        else f"{f['who']} is restarted"
    )
    return (
        f"{f['by']}: "
        f"{what}{'; that begins when all that is to be up is ready' if f['waits'] else ''}"
    )


def _told_to_all(f: Fields, how: str) -> str:
    """Return what is asked of all programs, and what they are to do."""
    return f"{f['who']} {_is(f)} {how}"


def _is(f: Fields) -> str:
    """Return the verb for what is about all programs."""
    return "are" if _several(f) > 1 else "is"


def _receivers(f: Fields) -> str:
    return "the programs" if _several(f) else "the command"


def waiting_for(parts: Sequence[WaitedFor]) -> str:
    """Return what several programs are waited for: "web: requests 7 → 3 · worker: jobs 2 · db waits
    for web and worker".

    Those that are being stopped come before those whose turn it is not yet; what there is no room
    for is counted.
    """
    in_turn = sorted(parts, key=lambda part: bool(part.waits_for))
    shown = [_part(part) for part in in_turn[:MOST]]
    return " · ".join(shown) + (f" and {len(parts) - MOST} more" if len(parts) > MOST else "")


def _part(part: WaitedFor) -> str:
    if part.waits_for:
        return f"{part.program} waits for {listed(part.waits_for, 3)}"
    known = part.numbers.replace(" · ", ", ") or part.why
    left = f"{'its stop signal' if part.held else 'SIGKILL'} in {seconds(round(part.remaining, 1))}"
    return f"{part.program}: {', '.join(filter(None, (part.doing, known, left)))}"


def _waiting(f: Fields) -> str:
    parts = f.get("parts")
    if isinstance(parts, list):
        return (
            f"waiting: {waiting_for(parts)}; {seconds(f['elapsed'])} gone, "
            f"{seconds(f['remaining'])} left for all"
        )
    numbers = f"{f['numbers']} · " if f.get("numbers") else ""
    until = "the stop signal" if f.get("held") else "SIGKILL"
    doing = f.get("doing") or f"waiting for {f['who']}"
    why = f" ({f['why']})" if f.get("why") else ""
    return (
        f"{doing}: {numbers}{seconds(f['elapsed'])} gone, {seconds(f['remaining'])} until "
        f"{until}{why}"
    )


def _watchdog(f: Fields) -> str:
    if not f["after"]:
        return f"{f['who']} says that it has failed (WATCHDOG=trigger)"
    return f"{f['who']} has sent no WATCHDOG=1 for {seconds(f['after'])}"


# note -> (level, sentence).  A callable level looks at the fields.
MESSAGES: dict[str, tuple[str | Callable[[Fields], str], Callable[[Fields], str]]] = {
    "started": (lambda f: "info" if f.get("several") else "debug", lambda f: f"started {f['who']}"),
    "cannot_run": ("error", lambda f: str(f["who"])),
    "stop_requested": ("info", _stop_requested),
    "stop_signal": ("info", _stop_signal),
    "leader_exited": (_exit_level, _leader_exited),
    "leftover": ("info", _leftover),
    "last_call": (
        "info",
        lambda f: (
            f"{f['who']} is a shell that still waits; sent {_signal(f)} to "
            f"{f.get('members') or 'nobody else'}"
        ),
    ),
    "leftover_waits": ("info", _leftover_waits),
    "stop_signal_ignored": ("info", _ignored),
    "rung": ("info", lambda f: f"sent {_signal(f)} to {f['who']} ({f['why']})"),
    "kill": ("warning", _kill),
    "gave_up": (
        "error",
        lambda f: f"gave up on {f['who']}: still there {seconds(f['after'])} after SIGKILL",
    ),
    "asked_again": ("info", _asked_again),
    "serving": (
        "info",
        lambda f: (
            f"serving for another {seconds(f['seconds'])}, until every load balancer has noticed"
        ),
    ),
    "drain_requested": (
        "info",
        lambda f: f"drain requested: {_told_to_all(f, 'to take no new work')}",
    ),
    "undrain_requested": ("info", lambda f: f"drain taken back: {_told_to_all(f, 'ready again')}"),
    "drain_start": ("info", lambda f: f"drain.start: telling {f['who']} to take no new work"),
    "draining": ("info", _draining),
    "drained": (
        "info",
        lambda f: f"{f['who']} is drained after {seconds(round(float(str(f['after'])), 3))}",
    ),
    "undrained": ("warning", _undrained),
    "drain_failed": ("warning", lambda f: f"the drain is given up{_why(f)}"),
    "drain_timeout": (
        "warning",
        lambda f: f"not drained after {seconds(f['after'])} (drain.timeout){_in_flight(f)}",
    ),
    "held_too_long": ("warning", _held_too_long),
    "probe_invalid": (
        "warning",
        lambda f: (
            f"a probe cannot be used: {f['probe']}: {f['why']}; it never says drained like this"
        ),
    ),
    "probe_silent": (
        "warning",
        lambda f: (
            f"probe {f['probe']} has had no answer in "
            f"{seconds(round(float(str(f['after']))))}{_why(f)}"
        ),
    ),
    "not_ready": (
        "warning",
        lambda f: (
            f"{f['who']} is not ready after {seconds(round(float(str(f['after']))))}{_why(f)}"
        ),
    ),
    "probe_seen": (
        "debug",
        lambda f: f"probe {f['probe']}: {f['reading']}{_in_flight(f)}{_why(f)}",
    ),
    "in_flight": ("debug", lambda f: f"in flight: {f['numbers']}"),
    "hook": ("info", lambda f: f"running {_HOOKS[str(f['hook'])]}: {f['command']}"),
    "helper_ended": (lambda f: "info" if f["ok"] else "warning", _helper_ended),
    "extended": (
        "info",
        lambda f: f"{f['who']} asks for more time; it has {seconds(f['remaining'])} until SIGKILL",
    ),
    # With many programs these lines would be as many, and hide the others.
    "stop_waits": (
        lambda f: "info" if _several(f) <= MOST else "debug",
        lambda f: f"{f.get('program') or f['who']} is stopped after {f['named']}",
    ),
    "program_ready": (
        "info",
        lambda f: f"{f['who']} is ready after {seconds(round(float(str(f['after'])), 3))}",
    ),
    "program_ended": (
        lambda f: "warning" if f["signal"] or f.get("restarts") else "info",
        _program_ended,
    ),
    "program_gone": (
        lambda f: "info" if f["asked"] and f.get("several") else "debug",
        _program_gone,
    ),
    "restarts": ("warning", _restarts),
    "start_failed": ("error", lambda f: f"{f['who']} cannot be started: {f['why']}{_others(f)}"),
    "all_ended": (
        lambda f: "info" if f.get("several") else "debug",
        lambda f: "all programs have ended",
    ),
    "roll": ("info", _roll),
    "part_requested": (
        "info",
        lambda f: f"asked to {'restart' if f['again'] else 'stop'} {f['named']}: {f['by']}",
    ),
    "part_refused": ("warning", lambda f: f"{f['by']} is refused: another part is being stopped"),
    "part_stopped": (
        "info",
        lambda f: f"{f['named']} stopped{'; to be started again' if f['again'] else ''}",
    ),
    "ready": (
        "info",
        lambda f: f"{f['who']} is ready after {seconds(round(float(str(f['after'])), 3))}",
    ),
    "said": ("info", lambda f: f"{f['who']} says: {f['text']}"),
    "watchdog": ("warning", _watchdog),
    "watchdog_abort": (
        "warning",
        lambda f: (
            f"sent {_signal(f)} to {f['who']}, which missed its watchdog; SIGKILL in "
            f"{seconds(f['remaining'])}"
        ),
    ),
    "main_pid": (
        "info",
        lambda f: f"{f['who']} says that its main process is {f['main']}; signals go there",
    ),
    "fault": (
        "warning",
        lambda f: f"a bug in gracewrap, beside the command: {f['error']}; it goes on without",
    ),
    "unheard": ("warning", lambda f: str(f["why"])),
    "waiting": ("info", _waiting),
    "output_lost": (
        "warning",
        lambda f: f"lines of output lost: {f['lines']}; nobody read them, or there was no room",
    ),
    "forwarded": ("debug", lambda f: f"{_signal(f)}: sent {_signal(f, 'sent')} to {_receivers(f)}"),
    "dropped": (
        "debug",
        lambda f: f"{_signal(f)}: dropped: signal_map says so, or {_receivers(f)} {_is(f)} gone",
    ),
    "unsent": (
        "warning",
        lambda f: f"leaving although bytes are unsent on {f['connections']} connection(s)",
    ),
    "reaped": ("debug", lambda f: f"reaped orphan {f['pid']} (status {f['status']})"),
    "child_stopped": ("info", lambda f: f"{f['who']} was stopped by {_signal(f)}: {f['done']}"),
    "bug": (
        "error",
        lambda f: (
            f"a bug in gracewrap: {f['error']}; from now on it only forwards, reaps, and kills in "
            "time"
        ),
    ),
}


# What does not say by itself whose it is.
_NAMELESS = {
    *(
        "serving",
        "drain_failed",
        "drain_timeout",
        "held_too_long",
        "probe_invalid",
        "probe_silent",
        "probe_seen",
    ),
    *("in_flight", "hook", "helper_ended", "kill", "unheard"),
}


def describe(what: str, fields: Fields) -> tuple[str, str]:
    """Return the level and the sentence of a note."""
    level, sentence = MESSAGES[what]
    whose = f"{fields['program']}: " if fields.get("program") and what in _NAMELESS else ""
    return (level if isinstance(level, str) else level(fields)), whose + sentence(fields)
