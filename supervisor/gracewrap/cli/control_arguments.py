"""`gracewrap status | drain | undrain | stop | restart | health`: they talk to a running gracewrap
over its control socket.

Health is run every few seconds, by health checks: what it does not need is imported where it is
needed.
"""

from __future__ import annotations

import posix

from gracewrap.cli import control_client
from gracewrap.record import TYPE_CHECKING, Record, replace

if TYPE_CHECKING:
    from collections.abc import Sequence


VARIABLE = "GRACEWRAP_CONTROL_SOCKET"  # what it is for a run, in config.further


# Option -> the field that it sets, and whether a value follows.
_COMMON = {"--pid": ("pid", True), "--socket": ("socket", True), "--timeout": ("timeout", True)}
_WAIT = {"--wait": ("wait", False)}
_NO_WAIT = {"--no-wait": ("no_wait", False)}

OPTIONS = {
    "status": {
        "--watch": ("watch", False),
        "-w": ("watch", False),
        "--json": ("json", False),
        **_COMMON,
    },
    "drain": {**_WAIT, **_COMMON},
    "undrain": _COMMON,
    "stop": {**_WAIT, **_NO_WAIT, **_COMMON},
    "restart": {**_NO_WAIT, **_COMMON},
    "health": {"--live": ("live", False), **_COMMON},
}

NAMING = ("status", "stop", "restart")  # programs may be named; of status one


class Asked(Record):
    """The words after the subcommand."""

    programs: tuple[str, ...] = ()
    pid: int | None = None
    socket: str | None = None
    timeout: float | None = None  # seconds
    watch: bool = False
    json: bool = False
    wait: bool = False
    no_wait: bool = False
    live: bool = False
    origin: str = "--socket"  # who says *socket*


def read(action: str, words: Sequence[str]) -> Asked:
    """Take the words after the subcommand apart.

    Raises:
        Unusable: With the fault, and what to write instead.
    """
    options, given, names, rest = OPTIONS[action], dict[str, object](), list[str](), list(words)
    while rest:
        word = rest.pop(0)
        name, equals, value = word.partition("=")
        if action in NAMING and not word.startswith("-"):
            names.append(word)
            continue
        if name not in options:
            raise control_client.Unusable(_unknown(action, name))
        field, takes_value = options[name]
        if not takes_value:
            if equals:
                raise control_client.Unusable(
                    f"cannot use {word} (gracewrap {action}): it takes no value; write {name}"
                )
            given[field] = True
            continue
        if not equals:
            if not rest or rest[0].startswith("--"):
                raise control_client.Unusable(
                    f"cannot use {name} (gracewrap {action}): it needs a value; write {name} "
                    f"{_EXAMPLES[field]}"
                )
            value = rest.pop(0)
        given[field] = _value(action, name, field, value)
    asked = replace(Asked(), programs=_programs(action, names), **given)
    if asked.watch and asked.json:
        raise control_client.Unusable(
            "cannot use --watch with --json (gracewrap status): a view or data; write one of them"
        )
    if asked.wait and asked.no_wait:
        raise control_client.Unusable(
            f"cannot use --wait with --no-wait (gracewrap {action}): write one of them"
        )
    return asked if asked.socket or asked.pid else _from_environment(asked)


def _programs(action: str, names: list[str]) -> tuple[str, ...]:
    """Return the programs that were named; an empty name must not come to mean all of them."""
    if "" in names:
        raise control_client.Unusable(
            f'cannot use "" (gracewrap {action}): empty; write the name of a program, or leave it '
            "out"
        )
    if action == "status" and len(names) > 1:
        from gracewrap.config.problems import one_line

        both = " and ".join(map(one_line, names[:2]))
        raise control_client.Unusable(
            f"cannot use {both} (gracewrap {action}): one program at a time; write one of them, or "
            "none for all"
        )
    return tuple(names)


_EXAMPLES = {"pid": "1", "socket": "/run/gracewrap-1.sock", "timeout": "20s"}


def _value(action: str, name: str, field: str, value: str) -> object:
    fault = None
    if field == "pid":
        if value.isascii() and value.isdecimal() and 0 < int(value[:12]) < 1 << 31:
            return int(value)
        fault = "not a pid; write a number, as in --pid 1"
    elif field == "timeout":
        from gracewrap.config.values import BadValue, duration

        try:
            return duration(value)
        except BadValue as bad:
            fault = str(bad)
    elif not value or "\0" in value:
        fault = "empty; write a path"
    if fault:
        from gracewrap.config.problems import show

        raise control_client.Unusable(
            f"cannot use {name} = {show(value)} (gracewrap {action}): {fault}"
        )
    return value


def _unknown(action: str, name: str) -> str:
    from gracewrap.config.did_you_mean import closest
    from gracewrap.config.problems import one_line

    shown = one_line(name)
    if not name.startswith("-") or name in ("-", "--"):
        return (
            f"cannot use {shown!r} (gracewrap {action}): it takes options only; to run a "
            f"program write gracewrap -- {action} ..."
        )
    options = [option for option in OPTIONS[action] if option.startswith("--")]
    near = closest(name, options)
    return (
        f"cannot use {shown} (gracewrap {action}): no such option; write "
        f"{near or ' or '.join([*options, '--help'])}"
    )


def _from_environment(asked: Asked) -> Asked:
    """Take the socket that a variable names, as a run with the same variable does."""
    named = posix.environ.get(VARIABLE.encode(), b"").decode(errors="surrogateescape").strip()
    if named.lower() in (
        "",
        "auto",
        "off",
    ):  # "off" is about a gracewrap that this environment starts; another may be there
        return asked
    return replace(asked, socket=named, origin=f"environment, {VARIABLE}")


WHICH = """\
  --pid N             The gracewrap with this pid.
  --socket PATH       The one that listens here (its control.socket).
                      [variable: GRACEWRAP_CONTROL_SOCKET]
"""

FINDING = """
Which gracewrap:
  The only one that runs here. Of several: PID 1, which in a container is the
  one that is meant; else --pid N says which. It is found by its own user and
  by root, in its own container: docker exec CONTAINER gracewrap ...
"""
