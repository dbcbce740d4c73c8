"""What each note says: its level and its sentence for people.  The fields beside it are for machines."""

from __future__ import annotations

from gracewrap.posix.signals import name
from gracewrap.record import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    Fields = Mapping[str, object]


def seconds(value: object) -> str:
    """Return seconds for people: "25 s", "1.25 s", "12 ms"."""
    number = float(str(value))
    if 0 < number < 0.0995:
        return f"{number * 1000:.0f} ms"
    return f"{number:.0f} s" if number == int(number) else f"{number:.2f} s"


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


def _leader_exited(f: Fields) -> str:
    rest = "; something of it is left" if f["left"] else ""
    unasked = "" if f["asked"] or not f["signal"] else ", which gracewrap did not send"
    if unasked and int(str(f["signal"])) == 9:
        unasked += " (out of memory?)"
    if f["left"] and not f["asked"] and not f["status"]:
        rest += " (if it went into the background, run it in the foreground: nginx -g 'daemon off;')"
    return f"{f['who']} {outcome(f)}{unasked}{rest}"


def _leftover(f: Fields) -> str:
    told = f"sent {_signal(f)} to" if f["told"] else "waiting for"
    return f"{told} what {f['who']} left behind: {f.get('members') or 'nothing that is still there'}"


def _leftover_waits(f: Fields) -> str:
    behind = f.get("members") or "nothing that is still there"
    return f"{f['who']} may have passed {_signal(f)} on to {behind}; what is left in {seconds(f['after'])} is sent it"


def _ignored(f: Fields) -> str:
    sent = f" and will not pass it on; sent it to its members: {f['members']}" if f.get("members") else ""
    return f"{f['who']} ignores {_signal(f)}{sent}"


def _kill(f: Fields) -> str:
    hint = f'; {f["who"]} kept the stop signal from {f["untold"]}: write exec, or kill_mode = "group"' if f["untold"] else ""
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
    waiting = {"waiting": "pre_stop has not ended", "starting": "drain.start has not ended", "draining": "it is not drained"}
    return f"{waiting.get(str(f['doing']), f['doing'])} after {seconds(f['after'])}, and the budget ends soon{_in_flight(f)}"


_HOOKS = {"pre_stop": "pre_stop", "start": "drain.start", "post_stop": "post_stop", "push": "the push of metrics"}


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


def _waiting(f: Fields) -> str:
    numbers = f"{f['numbers']} · " if f.get("numbers") else ""
    until = "the stop signal" if f.get("held") else "SIGKILL"
    doing = f.get("doing") or f"waiting for {f['who']}"
    why = f" ({f['why']})" if f.get("why") else ""
    return f"{doing}: {numbers}{seconds(f['elapsed'])} gone, {seconds(f['remaining'])} until {until}{why}"


# note -> (level, sentence).  A callable level looks at the fields.
WORDS: dict[str, tuple[str | Callable[[Fields], str], Callable[[Fields], str]]] = {
    "started": ("debug", lambda f: f"started {f['who']}"),
    "cannot_run": ("error", lambda f: str(f["who"])),
    "stop_requested": ("info", _stop_requested),
    "stop_signal": ("info", _stop_signal),
    "leader_exited": (
        lambda f: "info" if f["asked"] or f["left"] else "warning" if f["signal"] and not f["typed"] else "debug",
        _leader_exited,
    ),
    "leftover": ("info", _leftover),
    "last_call": (
        "info",
        lambda f: f"{f['who']} is a shell that still waits; sent {_signal(f)} to {f.get('members') or 'nobody else'}",
    ),
    "leftover_waits": ("info", _leftover_waits),
    "stop_signal_ignored": ("info", _ignored),
    "rung": ("info", lambda f: f"sent {_signal(f)} to {f['who']} ({f['why']})"),
    "kill": ("warning", _kill),
    "gave_up": ("error", lambda f: f"gave up on {f['who']}: still there {seconds(f['after'])} after SIGKILL"),
    "asked_again": ("info", _asked_again),
    "serving": ("info", lambda f: f"serving for another {seconds(f['seconds'])}, until every load balancer has noticed"),
    "drain_requested": ("info", lambda f: f"drain requested: {f['who']} is to take no new work"),
    "undrain_requested": ("info", lambda f: f"drain taken back: {f['who']} is ready again"),
    "drain_start": ("info", lambda f: f"drain.start: telling {f['who']} to take no new work"),
    "draining": ("info", _draining),
    "drained": ("info", lambda f: f"{f['who']} is drained after {seconds(round(float(str(f['after'])), 3))}"),
    "undrained": ("warning", _undrained),
    "drain_failed": ("warning", lambda f: f"the drain is given up{_why(f)}"),
    "drain_timeout": ("warning", lambda f: f"not drained after {seconds(f['after'])} (drain.timeout){_in_flight(f)}"),
    "held_too_long": ("warning", _held_too_long),
    "probe_invalid": ("warning", lambda f: f"a probe cannot be used: {f['probe']}: {f['why']}; it never says drained like this"),
    "probe_silent": (
        "warning",
        lambda f: f"probe {f['probe']} has had no answer in {seconds(round(float(str(f['after']))))}{_why(f)}",
    ),
    "not_ready": ("warning", lambda f: f"{f['who']} is not ready after {seconds(round(float(str(f['after']))))}{_why(f)}"),
    "probe_seen": ("debug", lambda f: f"probe {f['probe']}: {f['reading']}{_in_flight(f)}{_why(f)}"),
    "in_flight": ("debug", lambda f: f"in flight: {f['numbers']}"),
    "hook": ("info", lambda f: f"running {_HOOKS[str(f['hook'])]}: {f['command']}"),
    "helper_ended": (lambda f: "info" if f["ok"] else "warning", _helper_ended),
    "extended": ("info", lambda f: f"{f['who']} asks for more time; it has {seconds(f['remaining'])} until SIGKILL"),
    "stop_waits": ("info", lambda f: f"{f['who']} is stopped after {f['programs']}"),
    "program_ready": ("info", lambda f: f"{f['who']} is ready after {seconds(round(float(str(f['after'])), 3))}"),
    "program_ended": ("info", lambda f: f"{f['who']} ended with status {f['status']}; the others go on"),
    "restarts": (
        "warning",
        lambda f: (
            f"{f['who']} ended with status {f['status']}; it is started again in {seconds(round(float(str(f['after'])), 3))}"
        ),
    ),
    "start_failed": ("error", lambda f: f"{f['who']} cannot be started: {f['why']}"),
    "all_ended": ("info", lambda f: "all programs have ended"),
    "part_requested": ("info", lambda f: f"asked to {'restart' if f['again'] else 'stop'} {f['programs']}: {f['by']}"),
    "part_refused": ("warning", lambda f: f"{f['by']} is refused: another part is being stopped"),
    "part_stopped": ("info", lambda f: f"{f['programs']} stopped{', and started again' if f['again'] else ''}"),
    "ready": ("info", lambda f: f"{f['who']} is ready after {seconds(round(float(str(f['after'])), 3))}"),
    "said": ("info", lambda f: f"{f['who']} says: {f['text']}"),
    "watchdog": ("warning", lambda f: f"{f['who']} has sent no WATCHDOG=1 for {seconds(f['after'])}"),
    "main_pid": ("info", lambda f: f"{f['who']} says that its main process is {f['main']}; signals go there"),
    "fault": ("warning", lambda f: f"a bug in gracewrap, beside the command: {f['error']}; it goes on without"),
    "unheard": ("warning", lambda f: str(f["why"])),
    "waiting": ("info", _waiting),
    "forwarded": ("debug", lambda f: f"{_signal(f)}: sent {_signal(f, 'sent')} to the command"),
    "dropped": ("debug", lambda f: f"{_signal(f)}: dropped: signal_map says so, or the command is gone"),
    "unsent": ("warning", lambda f: f"leaving although bytes are unsent on {f['connections']} connection(s)"),
    "reaped": ("debug", lambda f: f"reaped orphan {f['pid']} (status {f['status']})"),
    "child_stopped": ("info", lambda f: f"{f['who']} was stopped by {_signal(f)}: {f['done']}"),
    "bug": ("error", lambda f: f"a bug in gracewrap: {f['error']}; from now on it only forwards, reaps, and kills in time"),
}


def describe(what: str, fields: Fields) -> tuple[str, str]:
    """Return the level and the sentence of a note."""
    level, sentence = WORDS[what]
    return (level if isinstance(level, str) else level(fields)), sentence(fields)
