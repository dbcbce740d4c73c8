"""Where values come from: flags, GRACEWRAP_* variables, a TOML file, defaults; in this order of precedence.

On the lean path: reads no file unless one is named, and imports nothing that only an error or a file needs.
"""

from __future__ import annotations

from gracewrap.config.table import BY_KEY, TABLE, Setting, Settings
from gracewrap.config.values import BadValue
from gracewrap.record import TYPE_CHECKING, Record

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence
    from typing import Any


class Given(Record):
    """A value that somebody wrote: for which key, what, and where."""

    key: str
    raw: object
    origin: str


class Problem(Record):
    """Something that cannot be used, in one line: what, where, and what to write instead.  A *warning* stops nothing."""

    text: str
    warning: bool = False


class CommandLine(Record):
    """The words after `gracewrap`, taken apart."""

    given: tuple[Given, ...]
    command: tuple[str, ...]
    config: str | None
    action: str  # "run", "help", "version", or a subcommand's name
    problems: tuple[Problem, ...]


SUBCOMMANDS = ("check", "init")
RESERVED = ("plan", "drill", "status", "drain", "undrain", "stop", "restart", "report", "health")
COMMAND_LINE = "command line"


def read_command_line(args: Sequence[str]) -> CommandLine:
    """Take the words after `gracewrap` apart: options first, then `--` or the first other word starts the command."""
    options = {name: s for s in TABLE if s.flag for name in (s.option, *s.aliases)}
    given: list[Given] = []
    problems: list[Problem] = []
    config, action, i = None, "run", 0
    while i < len(args):
        word, i = args[i], i + 1
        if word in ("-h", "--help", "-V", "--version"):
            return CommandLine((), (), None, "version" if word in ("-V", "--version") else "help", ())
        if word == "--":
            return CommandLine(tuple(given), tuple(args[i:]), config, action, tuple(problems))
        if not word.startswith("-") or word == "-":
            return _first_word(args, i - 1, given, config, problems)
        name, equals, value = word.partition("=")
        setting = options.get(name)
        if setting is None and name not in ("-c", "--config"):
            problems.append(_unknown_option(name, options))
            break  # whether the next word is its value or the command, nobody knows
        if not equals:
            if i == len(args) or args[i] == "--":
                problems.append(
                    Problem(f"cannot use {name} ({COMMAND_LINE}): it needs a value; write {name} {_metavar(setting)}")
                )
                break
            value, i = args[i], i + 1
        if setting is None:
            config = value
        else:
            given.append(Given(setting.key, value, f"{COMMAND_LINE}, {name}"))
    return CommandLine(tuple(given), (), config, action, tuple(problems))


def _first_word(args: Sequence[str], i: int, given: list[Given], config: str | None, problems: list[Problem]) -> CommandLine:
    """The first word that is no option is a subcommand, or starts the command."""
    word, action, command = args[i], "run", tuple(args[i:])
    if word in SUBCOMMANDS:
        action, command = word, tuple(args[i + 1 :])
    elif word in RESERVED:
        problems.append(Problem(f"cannot use {word!r} ({COMMAND_LINE}): the word is kept for a subcommand; to run a program of "
                                f"this name write: gracewrap -- {' '.join(command)}"))  # fmt: skip
    return CommandLine(tuple(given), command, config, action, tuple(problems))


def _metavar(setting: Setting | None) -> str:
    return setting.metavar if setting else "gracewrap.toml"


def _unknown_option(name: str, options: Mapping[str, Setting]) -> Problem:
    from gracewrap.config.hints import unknown_option

    return Problem(f"cannot use {name} ({COMMAND_LINE}): {unknown_option(name, options)}")


def read_environment(env: Mapping[bytes, bytes]) -> tuple[list[Given], list[Problem]]:
    """Return what GRACEWRAP_* variables say.  A slip of the pen is an error; a name that is nothing like ours may be meant for
    somebody else (Kubernetes sets GRACEWRAP_PORT for a service that is called gracewrap), and is a warning."""
    variables = {setting.variable: setting for setting in TABLE if setting.flag}
    given: list[Given] = []
    problems: list[Problem] = []
    for name_bytes, value in env.items():
        if not name_bytes.startswith(b"GRACEWRAP_") or name_bytes == b"GRACEWRAP_CONFIG":
            continue
        name, origin = name_bytes.decode(errors="replace"), f"environment, {name_bytes.decode(errors='replace')}"
        if name in variables:
            given.append(Given(variables[name].key, value.decode(errors="surrogateescape"), origin))
            continue
        from gracewrap.config.hints import unknown_variable

        hint, slip = unknown_variable(name, variables)
        problems.append(Problem(f"cannot use {name} (environment): {hint}", not slip))
    return given, problems


def resolve(line: CommandLine, env: Mapping[bytes, bytes], needs_command: bool = True) -> tuple[Settings | None, list[Problem]]:
    """Return the settings, or None and every problem there is; warnings may come with either."""
    problems = list(line.problems)
    from_env, wrong = read_environment(env)
    problems += wrong
    config = line.config
    if config is None and b"GRACEWRAP_CONFIG" in env:
        config = env[b"GRACEWRAP_CONFIG"].decode(errors="surrogateescape") or None
    from_file: Iterable[Given] = ()
    if config is not None:
        from gracewrap.config.toml import read_toml  # tomllib costs 23 ms: only with a file

        from_file, wrong = read_toml(config)
        problems += wrong
    if line.command:
        from_file = [g for g in from_file if not _second_command(g, problems)]
    elif needs_command and not any(g.key == "command" for g in from_file) and not _errors(problems):
        problems.append(Problem("nothing to run: write gracewrap -- COMMAND [ARG...], or --config FILE with a command in it"))
    values, origins = _parse((*from_file, *from_env, *line.given), problems)
    if line.command:
        values["command"], origins["command"] = line.command, COMMAND_LINE
    problems += _cross_check(values, origins)
    return (None if _errors(problems) else Settings(**values, origins=origins)), problems


def _errors(problems: Iterable[Problem]) -> bool:
    return any(not problem.warning for problem in problems)


def _second_command(given: Given, problems: list[Problem]) -> bool:
    if given.key != "command":
        return False
    problems.append(Problem(f"cannot use two commands: one on the {COMMAND_LINE}, one in {given.origin}; remove one of them"))
    return True


def _parse(given: Iterable[Given], problems: list[Problem]) -> tuple[dict[str, Any], dict[str, str]]:
    """Parse the values, later ones winning; a repeated list or map flag adds to itself."""
    values: dict[str, Any] = {
        s.field: (() if s.key == "command" else None if s.default is None else s.parse(s.default)) for s in TABLE
    }
    origins: dict[str, str] = {}
    for one in given:
        setting = BY_KEY[one.key]
        try:
            value = setting.parse(one.raw)
        except BadValue as fault:
            problems.append(Problem(f"cannot use {one.key} = {show(one.raw)} ({one.origin}): {fault}"))
            continue
        before = values[setting.field]
        if origins.get(one.key) == one.origin:
            if isinstance(value, dict) and isinstance(before, dict):
                value = {**before, **value}
            elif isinstance(value, tuple) and isinstance(before, tuple):
                value = (*before, *value)
            elif isinstance(value, frozenset) and isinstance(before, frozenset):
                value = before | value
        values[setting.field], origins[one.key] = value, one.origin
    return values, origins


def show(raw: object) -> str:
    """Return a value as it would stand in TOML, shortened."""
    if isinstance(raw, bool):
        text = str(raw).lower()
    elif isinstance(raw, str):
        text = '"' + raw.encode(errors="backslashreplace").decode().replace("\n", "\\n") + '"'
    elif isinstance(raw, list):
        text = "[" + ", ".join(show(one) for one in raw) + "]"
    elif isinstance(raw, dict):
        text = "{" + ", ".join(f"{key} = {show(one)}" for key, one in raw.items()) + "}"
    else:
        text = str(raw)
    return text if len(text) <= 80 else text[:76] + " ..."


def _cross_check(values: Mapping[str, object], origins: Mapping[str, str]) -> list[Problem]:
    """Find what no single value is wrong with, but two together are."""
    found: list[Problem] = []
    budget, timeout, rungs = values["shutdown_timeout"], values["stop_timeout"], values["escalation"]
    assert isinstance(budget, float) and isinstance(rungs, tuple)

    def where(key: str) -> str:
        return origins.get(key, "default")

    if isinstance(timeout, float) and timeout > budget:
        found.append(
            Problem(
                f'cannot use stop_timeout = "{timeout:g}s" ({where("stop_timeout")}): it is longer than the whole budget, '
                f'shutdown_timeout = "{budget:g}s" ({where("shutdown_timeout")}); write at most "{budget:g}s", or a larger budget'
            )
        )
    limit, name = (timeout, "stop_timeout") if isinstance(timeout, float) else (budget, "shutdown_timeout")
    if rungs and rungs[-1][0] >= limit:
        found.append(
            Problem(
                f"cannot use escalation ({where('escalation')}): its rung at {rungs[-1][0]:g}s would never be climbed, "
                f'SIGKILL comes first ({name} = "{limit:g}s", {where(name)}); write an earlier one'
            )
        )
    stop_on, mapped = values["stop_on"], values["signal_map"]
    if isinstance(stop_on, frozenset) and isinstance(mapped, dict) and (both := sorted(stop_on & set(mapped))):
        from gracewrap.posix.signals import name as signal_name

        word = signal_name(both[0]).removeprefix("SIG")
        found.append(
            Problem(
                f"cannot use signal_map for {word} ({where('signal_map')}): {word} is a stop request (stop_on, "
                f"{where('stop_on')}) and not forwarded; write stop_signal for what the command is sent"
            )
        )
    return found
