"""From what was written to how programs are started, in which order, and what their ends mean.

Parsers as in config.values: they take a string (flag, variable) or what TOML gives, and raise
BadValue.
"""

from __future__ import annotations

from gracewrap.config import closest_name, values
from gracewrap.config import values as values_
from gracewrap.config.values import BadValue
from gracewrap.record import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

    from gracewrap.policy.model import BackOff

CONDITIONS = ("started", "ready", "completed")
LONGEST_NAME = 63  # as of a label in DNS: names become labels of metrics, and prefixes of lines
MOST_RESTARTS = 1_000_000
_NAME = frozenset("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789-_.")
# What the conditions are called by Compose, process-compose and ECS, without case, dashes and
# underscores.
_CONDITIONS_OF_OTHERS = {
    **dict.fromkeys(("servicestarted", "processstarted", "start", "running"), "started"),
    **dict.fromkeys(("servicehealthy", "processhealthy", "processlogready", "healthy"), "ready"),
    **dict.fromkeys(
        ("servicecompletedsuccessfully", "processcompletedsuccessfully", "processcompleted"),
        "completed",
    ),
    **dict.fromkeys(("success", "complete", "exited"), "completed"),
}


def is_name(name: str) -> bool:
    """Return whether a program may be called *name*."""
    return 0 < len(name) <= LONGEST_NAME and name[0] not in "-." and _NAME.issuperset(name)


def name(raw: object) -> str:
    """Return the name of a program; whether there is one is found out later."""
    if not isinstance(raw, str) or not is_name(raw):
        raise BadValue('not the name of a program; write "web"')
    return raw


def names(raw: object) -> tuple[str, ...]:
    """Return names of programs, from a list or a single one."""
    return tuple(dict.fromkeys(name(word) for word in values.words(raw, '["web"]')))


def depends_on(raw: object) -> dict[str, str]:
    """Return program -> condition, from {db = "ready"} or ["db"]; there, and where none is given,
    it is ""."""
    if not isinstance(raw, dict):
        return dict.fromkeys(names(raw), "")
    return {name(needed): _condition(str(needed), value) for needed, value in raw.items()}


def _condition(needed: str, raw: object) -> str:
    if isinstance(raw, dict) and set(raw) == {
        "condition"
    }:  # as Compose and process-compose write it
        raw = raw["condition"]
    if isinstance(raw, str):
        word = raw.strip().lower()
        if word in CONDITIONS:
            return word
        if meant := _CONDITIONS_OF_OTHERS.get(_bare(word)):
            raise BadValue(f'gracewrap calls {raw} "{meant}"; write {{{needed} = "{meant}"}}')
    hint = (
        closest_name.close_to(raw.strip().lower(), CONDITIONS)
        if isinstance(raw, str)
        else f'; write {{{needed} = "ready"}}'
    )
    raise BadValue(f"the condition of {needed} must be one of {', '.join(CONDITIONS)}{hint}")


def _bare(word: str) -> str:
    return word.replace("_", "").replace("-", "").lower()


def _choice(choices: tuple[str, ...], others: dict[str, str]) -> Callable[[object], str]:
    """Return a parser of *choices* that knows what *others* call them, without dashes and
    underscores."""
    parse = values.choice(*choices)

    def checked(raw: object) -> str:
        word = {True: "true", False: "false"}[raw] if isinstance(raw, bool) else raw
        if (
            isinstance(word, str)
            and word.strip().lower() not in choices
            and (meant := others.get(_bare(word.strip())))
        ):
            raise BadValue(f'must be one of {", ".join(choices)}; write "{meant}"')
        return parse(raw)

    return checked


_RESTARTS = ("never", "on-failure", "always")
_restart = _choice(
    _RESTARTS,
    {
        **dict.fromkeys(("no", "false", "off", "disabled", "none", "once"), "never"),
        **dict.fromkeys(("yes", "true", "on", "unlessstopped", "any"), "always"),
        **dict.fromkeys(
            ("onfailure", "unexpected", "onabnormal", "onabort"), "on-failure"
        ),  # supervisord; systemd
    },
)


def restart(raw: object) -> str:
    """Return when to start again: never, on-failure or always."""
    if isinstance(
        raw, dict
    ):  # as in Compose's deploy.restart_policy and process-compose's availability
        raise BadValue(
            'is a word; write restart = "on-failure", and max_restarts = 5 and backoff = "1s" '
            "beside it"
        )
    word, colon, times = raw.partition(":") if isinstance(raw, str) else ("", "", "")
    if colon and _bare(word.strip()) in ("onfailure", "always"):  # as Docker writes it
        word = "always" if _bare(word.strip()) == "always" else "on-failure"
        digits = times.strip()
        times = (
            digits
            if digits.isascii() and digits.isdigit() and len(digits) < 7 and int(digits)
            else "5"
        )
        raise BadValue(
            f'how many times is a setting of its own; write restart = "{word}" and max_restarts = '
            f"{times}"
        )
    if isinstance(raw, str) and _bare(raw.strip()) == "exitonfailure":  # process-compose
        raise BadValue(
            'must be one of never, on-failure, always; write "never": on_failure = "shutdown" is '
            "the default"
        )
    return _restart(raw)


_ENDS = ("shutdown", "restart", "ignore")
ending = _choice(
    _ENDS,
    {
        **dict.fromkeys(
            (
                "stop",
                "exit",
                "exitonend",
                "exitonfailure",
                "successshutdown",
                "failureshutdown",
                "true",
            ),
            "shutdown",
        ),
        **dict.fromkeys(("continue", "nothing", "none", "false"), "ignore"),
    },
)


def max_restarts(raw: object) -> int:
    """Return how many times in a row: 1 or more."""
    text = (
        values.plain(raw).strip()
        if isinstance(raw, str | int) and not isinstance(raw, bool)
        else ""
    )
    if text == "0":
        raise BadValue(
            'would be never; write restart = "never", or leave max_restarts out if there is to be '
            "no limit"
        )
    if (
        not (text.isascii() and text.isdigit())
        or len(text) > 7
        or not 1 <= int(text) <= MOST_RESTARTS
    ):
        raise BadValue(f"not a number from 1 to {MOST_RESTARTS}; write 5")
    return int(text)


def backoff(raw: object) -> BackOff:
    """Return how long to wait between restarts, from "1s" (the first time) or {first = "1s", cap =
    "1m", ...}."""
    from gracewrap.policy.model import BackOff

    table = raw if isinstance(raw, dict) else {"first": raw}
    given: dict[str, Any] = {}
    for key, value in table.items():
        if key not in _BACK_OFF:
            known = ", ".join(_BACK_OFF)
            raise BadValue(
                f"there is no {key} in it{closest_name.close_to(str(key), _BACK_OFF)}; there are "
                f"{known}"
            )
        try:
            given[key] = _BACK_OFF[key](value)
        except BadValue as fault:
            raise BadValue(f"{key}: {fault}" if isinstance(raw, dict) else str(fault)) from None
    found = BackOff(**given)
    if "cap" not in given:  # "1m" alone is meant
        found = BackOff(**{**given, "cap": max(found.cap, found.first)})
    if found.cap < found.first:
        raise BadValue("its cap is shorter than first; write a longer cap")
    return found


def _factor(raw: object) -> float:
    found = values_.number(raw)
    if not 1 <= found <= 100:
        raise BadValue("not a number from 1 to 100; write 2")
    return found


def _jitter(raw: object) -> float:
    found = values_.number(raw)
    if not 0 <= found <= 1:
        raise BadValue("not a part, from 0 to 1; write 0.25")
    return found


_BACK_OFF: dict[str, Callable[[object], float]] = {
    "first": values_.span,  # one of no length would burn the processor
    "factor": _factor,
    "cap": values_.span,
    "jitter": _jitter,
    "stable": values.duration,
}
