"""From what was written to what is meant: one parser a kind of value, the same for flag, variable
and file.

Every parser takes a string (flag, variable) or what TOML gives, and raises BadValue with the fault
and what to write instead.
"""

from __future__ import annotations

import posix

from gracewrap.config.settings import DRAINED, REOPEN, RESTART
from gracewrap.linux import signals
from gracewrap.record import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable


UNITS = {"ms": 0.001, "s": 1.0, "m": 60.0, "h": 3600.0}
LONGEST = 30 * 24 * 3600.0  # no grace period is longer; a larger number is a slip
_NO_DURATION = 'not a duration; write "10s", "500ms" or "1m30s"'


class BadValue(Exception):
    """A value that cannot be used; the text says why and what to write instead."""


def plain(raw: object) -> str:
    """Return a number as it is written, so that TOML's 143 and a flag's "143" are one thing."""
    # int() and str() refuse more than 4300 digits, to be quick (CVE-2020-10735); TOML can name such
    # a number in hexadecimal.
    return hex(raw) if isinstance(raw, int) and abs(raw) >= 1 << 64 else str(raw)


def duration(raw: object) -> float:
    """Return seconds from "10s", "500ms", "1m30s", "1.5h" or 0."""
    if isinstance(raw, bool) or not isinstance(raw, str | int | float):
        raise BadValue(_NO_DURATION)
    text = plain(raw).strip()
    seconds = 0.0 if text == "0" else _total(text)  # no unit could be meant by mistake
    if seconds is None:
        raise BadValue(_not_a_duration(text))
    if seconds > LONGEST:
        raise BadValue(
            f"is longer than {LONGEST / 3600:.0f}h; write less than the orchestrator grants, "
            'such as "25s" of 30s'
        )
    return seconds


def show_duration(seconds: float) -> str:
    """Return seconds as a duration that would be parsed back."""
    return f"{seconds:.6f}".rstrip("0").rstrip(".") + "s"


def _total(text: str) -> float | None:
    """Return the sum of a duration's parts in seconds, or None if it is none."""
    total, rest = 0.0, text
    while rest:
        digits = len(rest) - len(rest.lstrip("0123456789."))
        count, rest = rest[:digits], rest[digits:]
        letters = len(rest) - len(rest.lstrip("hms"))
        unit, rest = rest[:letters], rest[letters:]
        if count.count(".") > 1 or not count.strip(".") or unit not in UNITS:
            return None
        total += float(count) * UNITS[unit]
    return total if text else None


_UNIT_WORDS = {
    "sec": "s",
    "secs": "s",
    "second": "s",
    "seconds": "s",
    "min": "m",
    "mins": "m",
    "minute": "m",
    "minutes": "m",
}


_UNIT_WORDS |= {
    "hour": "h",
    "hours": "h",
    "hr": "h",
    "hrs": "h",
    "msec": "ms",
    "millisecond": "ms",
    "milliseconds": "ms",
}


def _not_a_duration(text: str) -> str:
    """Say what to write instead of *text*, guessing from its number and unit."""
    compact = text.lower().replace(" ", "").replace("_", "").replace(",", ".")
    if not compact:
        return 'is empty; write "10s", "500ms" or "1m30s"'
    if compact.lstrip("+-") in ("infinity", "infinite", "inf", "never", "none") or compact == "-1":
        return 'never ends, but a stop must; write a long one, such as "1h"'
    if compact.startswith("-") and compact[1:2].isdigit():
        return "is negative; write 0s or more"
    if _total(compact) is not None:
        return f'not a duration; write "{compact}"'
    count = compact.rstrip("abcdefghijklmnopqrstuvwxyz")
    unit = compact[len(count) :]
    if (
        not count.isascii()
        or not count.replace(".", "", 1).isdigit()
        or len(count) > 15
        or (unit and unit not in _UNIT_WORDS)
    ):
        return _NO_DURATION
    if not unit and float(count) >= 1000:
        return f'has no unit; write "{count}ms", or "{count}s" if seconds are meant'
    if not unit:
        return f'has no unit; write "{count}s"'
    unit = _UNIT_WORDS[unit]
    if unit == "m":
        return f'not a duration; write "{count}m" or "{show_duration(float(count) * 60)}"'
    return f'not a duration; write "{count}{unit}"'


def signal(raw: object) -> int:
    """Return a signal's number from TERM, SIGTERM, 15 or RTMIN+1."""
    if isinstance(raw, bool) or not isinstance(raw, str | int):
        raise BadValue('not a signal; write "TERM", "SIGTERM" or 15')
    text = plain(raw)
    try:
        return signals.number(text)
    except ValueError:
        meant = _close_to(text.strip().upper().removeprefix("SIG"), signals.NUMBERS)
        raise BadValue(f"no such signal{meant or '; write TERM, QUIT or 15'}") from None


def stop_signal(raw: object) -> int:
    """Return a signal that can end a program."""
    signum = signal(raw)
    if signum in (signals.SIGSTOP, signals.SIGCONT, signals.SIGCHLD):
        raise BadValue('ends no program; write "TERM", "QUIT" or "INT"')
    return signum


def dump_signal(raw: object) -> int:
    """Return a signal that a program can handle by writing what it is doing."""
    signum = signal(raw)
    if signum in (signals.SIGKILL, signals.SIGSTOP, signals.SIGCONT, signals.SIGCHLD):
        raise BadValue('makes no program write a dump; write "QUIT", "USR1" or "USR2"')
    return signum


def request_signals(raw: object) -> frozenset[int]:
    """Return a set of signals that can reach us, from a list or "TERM,INT"."""
    found = frozenset(signal(word) for word in words(raw, '["TERM", "INT"]'))
    for signum in (signals.SIGKILL, signals.SIGSTOP, signals.SIGCHLD):
        if signum in found:
            why = "says that a child changed" if signum == signals.SIGCHLD else "cannot be caught"
            raise BadValue(f"{signals.name(signum)} {why}; remove it")
    if not found:
        raise BadValue('is empty, so no signal could stop the command; write ["TERM", "INT"]')
    return found


def words(raw: object, example: str) -> list[object]:
    """Return the elements of a list, or of a string with commas; a single number is a list of one,
    as it is in a flag."""
    if isinstance(raw, str):
        return [word.strip() for word in raw.split(",") if word.strip()]
    if isinstance(raw, list):
        return raw
    if isinstance(raw, int) and not isinstance(raw, bool):
        return [raw]
    raise BadValue(f"not a list; write {example}")


def signal_map(raw: object) -> dict[int, int]:
    """Return received -> sent from {HUP = "QUIT", USR1 = "none"} or "HUP=QUIT,USR1=none".

    none (or 0) drops a signal; restart (RESTART) makes it one that restarts the programs, one after
    the other, and reopen (REOPEN) one that opens the log file anew.
    """
    table = (
        raw
        if isinstance(raw, dict)
        else dict(_pair(word, "HUP=QUIT") for word in words(raw, '{HUP = "QUIT"}'))
    )
    found: dict[int, int] = {}
    for received, sent in table.items():
        signum = signal(received)
        if signum in (signals.SIGKILL, signals.SIGSTOP, signals.SIGCHLD):
            raise BadValue(f"{signals.name(signum)} is never forwarded; remove it")
        dropped = (
            sent == 0 if not isinstance(sent, str) else sent.strip().lower() in ("none", "0", "")
        )
        word = sent.strip().lower() if isinstance(sent, str) else ""
        if word in ("restart", "reopen"):
            found[signum] = RESTART if word == "restart" else REOPEN
        else:
            found[signum] = 0 if dropped and not isinstance(sent, bool) else signal(sent)
    return found


def _pair(word: object, example: str) -> tuple[str, str]:
    text = word if isinstance(word, str) else ""
    left, equals, right = text.partition("=")
    if not equals:
        before, _, after = text.partition(":")  # as dumb-init writes it
        raise BadValue(
            f"each must be a pair; write {f'{before}={after}' if before and after else example}"
        )
    return left.strip(), right.strip()


def escalation(raw: object) -> tuple[tuple[float, int], ...]:
    """Return (seconds after the stop signal, signal) from [{after = "10s", signal = "INT"}] or
    "10s=INT,15s=QUIT"."""
    rungs: list[tuple[float, int]] = []
    for rung in words(raw, '[{after = "10s", signal = "INT"}]'):
        if isinstance(rung, dict):
            if set(rung) != {"after", "signal"}:
                raise BadValue(
                    'each step needs after and signal; write {after = "10s", signal = "INT"}'
                )
            after, signum = rung["after"], rung["signal"]
        else:
            after, signum = _pair(rung, "10s=INT")
            if _total(signum) is not None and not after[:1].isdigit():
                raise BadValue(f"the wrong way round; write {signum}={after}")
        rungs.append((duration(after), stop_signal(signum)))
    for (before, _), (later, _) in zip(rungs, rungs[1:]):
        if later <= before:
            raise BadValue("its times must increase; write the earliest step first")
    return tuple(rungs)


def success_codes(raw: object) -> frozenset[int]:
    """Return exit statuses (a signal N as 128 + N, drained as DRAINED) from [143, "INT", "drained"]
    or "143,INT,drained"."""
    found = set()
    for word in words(raw, "[143]"):
        text = plain(word).strip() if isinstance(word, str | int) else ""
        digits = text.removeprefix("-")
        if text.lower() == "drained":
            found.add(DRAINED)
        elif isinstance(word, bool) or not (digits.isascii() and digits.isdigit()):
            found.add(128 + signal(word))
        elif digits != text or len(digits.lstrip("0")) > 3 or int(digits) > 255:
            raise BadValue("an exit status must be from 0 to 255")
        else:
            found.add(int(digits))
    return frozenset(found)


def command(raw: object) -> tuple[str, ...]:
    """Return an argv list."""
    if isinstance(raw, str):
        raise BadValue(f"is a string, and gracewrap runs no shell to split it; {_as_list(raw)}")
    if not isinstance(raw, list) or not all(isinstance(word, str) for word in raw):
        raise BadValue('not a list of strings; write ["node", "server.js"]')
    if not raw:
        raise BadValue('is empty; write ["node", "server.js"]')
    if any("\0" in word for word in raw):
        raise BadValue("contains a NUL character, which no argument can")
    return tuple(raw)


def _as_list(text: str) -> str:
    """Return how to write a command that was given as a string."""
    import json
    import shlex

    try:
        split = shlex.split(text)
    except ValueError:  # a quotation mark without its other half
        split = []
    only_for_a_shell = any(char in text for char in "$`|&;<>*?~\n")
    if not split or only_for_a_shell:
        return 'write ["node", "server.js"], or ["sh", "-c", "..."]'
    return f"write {json.dumps(split, ensure_ascii=False)}"


def path(raw: object) -> str | None:
    """Return the absolute form of a path to write to; "" is none.

    Absolute, for it is used after we have left the directory we were started in.
    """
    if not isinstance(raw, str):
        raise BadValue('not a path; write "/run/gracewrap.json"')
    if "\0" in raw:
        raise BadValue("contains a NUL character, which no path can")
    if not raw or raw.startswith("/"):
        return raw or None
    try:
        return f"{posix.getcwd()}/{raw.removeprefix('./')}"
    except OSError:
        raise BadValue(
            "is relative to a directory that was removed; write a path that starts with /"
        ) from None


def _close_to(word: str, known: Iterable[str]) -> str:
    from gracewrap.config.closest_name import close_to  # only when something is wrong

    return close_to(word, known)


def choice(*choices: str) -> Callable[[object], str]:
    """Return a parser that takes one of *choices*, in any case."""

    def parse(raw: object) -> str:
        if isinstance(raw, str) and raw.strip().lower() in choices:
            return raw.strip().lower()
        hint = _close_to(raw.strip().lower(), choices) if isinstance(raw, str) else ""
        raise BadValue(f"must be one of {', '.join(choices)}{hint}")

    parse.__dict__["choices"] = choices  # for the schema
    return parse


_level = choice("debug", "info", "warning", "error")


def level(raw: object) -> str:
    """Return how much to log; warn is warning."""
    return _level("warning" if isinstance(raw, str) and raw.strip().lower() == "warn" else raw)


LONGEST_TEXT, LONGEST_URL, LONGEST_BODY = 1000, 4096, 1 << 16
SHORTEST = 0.01  # seconds; a shorter pause or limit only burns the processor
LETTERS = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ"
DIGITS = "0123456789"


class KeyFault(BadValue):
    """A setting of a probe that does not go with the others."""

    def __init__(self, key: str, text: str) -> None:
        super().__init__(text)
        self.key = key


def boolean(raw: object) -> bool:
    """Return yes or no."""
    word = raw.strip().lower() if isinstance(raw, str) else raw
    if word in ("true", "yes", "on", "1") or word is True:
        return True
    if word in ("false", "no", "off", "0") or word is False:
        return False
    raise BadValue("must be true or false")


def span(raw: object) -> float:
    """Return a duration that is not nothing."""
    seconds = duration(raw)
    if seconds < SHORTEST:
        raise BadValue(
            f'is too short; write at least "{show_duration(SHORTEST * 1000).removesuffix("s")}ms"'
        )
    return seconds


def span_or_off(raw: object) -> float | None:
    """Return a duration, or None for "off"."""
    return None if isinstance(raw, str) and raw.strip().lower() == "off" else duration(raw)


def duration_or_wait(raw: object) -> float:
    """Return a duration, or infinity for "wait"."""
    if isinstance(raw, str) and raw.strip().lower() == "wait":
        return float("inf")
    return duration(raw)


def number(raw: object) -> float:
    """Return a number."""
    text = (
        plain(raw).strip()
        if isinstance(raw, str | int | float) and not isinstance(raw, bool)
        else ""
    )
    try:
        found = float(text) if len(text) <= 40 and not set(text) - set(DIGITS + "+-.eE") else None
    except ValueError:
        found = None
    if found is None or abs(found) > 1e300:  # 1e999 is infinite
        raise BadValue("not a number; write 0")
    return found


def path_like(example: str) -> Callable[[object], str]:
    """Return a parser that takes a path and returns it absolute; an empty one is refused."""

    def parse(raw: object) -> str:
        found = path(raw)
        if found is None:
            raise BadValue(f'is empty; write "{example}"')
        return found

    return parse


def text(raw: object) -> str:
    """Return a text that is not empty."""
    if not isinstance(raw, str) or not raw or len(raw) > LONGEST_TEXT:
        raise BadValue(f"must be a string of 1 to {LONGEST_TEXT} characters")
    return raw
