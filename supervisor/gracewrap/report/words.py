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
    return f"stop requested: {_signal(f)} from {f['sender']}; {seconds(f['budget'])} to stop {f['who']}"


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
    return f"{f['who']} ignores {_signal(f)} and will not pass it on; sent it to its members: {f.get('members') or 'none'}"


def _kill(f: Fields) -> str:
    hint = f'; {f["who"]} kept the stop signal from {f["untold"]}: write exec, or kill_mode = "group"' if f["untold"] else ""
    return f"SIGKILL ({f['why']}): {f.get('members') or f['who']}{hint}"


def _asked_again(f: Fields) -> str:
    again = {
        "none": "taken as the same request",
        "stopping already": "it is stopping already",
        "nothing to skip": "there is no step to skip; a third request kills at once",
        "skip ahead": "skipping ahead",
        "kill": "asked three times",
    }
    return f"{_signal(f)} again: {again[str(f['effect'])]}"


def _waiting(f: Fields) -> str:
    return f"waiting for {f['who']}: {seconds(f['elapsed'])} gone, {seconds(f['remaining'])} until SIGKILL"


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
