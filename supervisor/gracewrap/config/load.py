"""Where values come from: flags, GRACEWRAP_* variables, a TOML file, defaults; in this order of precedence.

On the lean path: reads no file unless one is named, and imports nothing that only an error or a file needs.
"""

from __future__ import annotations

from gracewrap.config.parsers.values import BadValue, plain, show_duration
from gracewrap.config.settings import CORE, CORE_BY_KEY, Setting, Settings
from gracewrap.record import TYPE_CHECKING, Record

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping, Sequence
    from typing import Any


class Given(Record):
    """A value that somebody wrote: for which key, what, and where.

    *place* is the table of several programs that it stands in: "defaults" or "programs.NAME".  There a *key* of "" says that
    the table is there, and *raw* nothing.
    """

    key: str
    raw: object
    origin: str
    place: str = ""

    @property
    def name(self) -> str:
        """The key as people find it in the file."""
        return f"{self.place}.{self.key}" if self.place else self.key


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


class Where:
    """Where each setting is from, and what it is called there: stop_timeout is programs.web.stop_timeout in a file of several."""

    __slots__ = ("origins", "place", "places")

    def __init__(self, origins: Mapping[str, str], places: Mapping[str, str] | None = None, place: str = "") -> None:
        self.origins, self.places, self.place = origins, places or {}, place

    def __call__(self, key: str) -> str:
        """Return where a setting is from."""
        return self.origins.get(key, "default")

    def name(self, key: str) -> str:
        """Return what it is called."""
        place = self.places.get(key, self.place)
        return f"{place}.{key}" if place else key


SUBCOMMANDS = ("check", "init", "status", "drain", "undrain", "stop", "restart", "health")
RESERVED = ("plan", "drill", "report")
FLAGS = {"-h": "help", "--help": "help", "-V": "version", "--version": "version"}
COMMAND_LINE = "command line"
CONFIG_VARIABLE = b"GRACEWRAP_CONFIG"
DEFAULT_FILE = "gracewrap.toml"  # what init writes and check reads; a run reads what is named
# What hooks are told (errands): a gracewrap that such a hook runs finds them in its environment, and they are nothing to it.
HOOK_VARIABLES = frozenset(
    f"GRACEWRAP_{fact}"
    for fact in ("OUTCOME", "EXIT_STATUS", "SIGNAL", "ELAPSED", "LEFT", "INTERRUPTED", "COMMAND_PID", "REASON", "PROGRAM")
)


def read_command_line(args: Sequence[str]) -> CommandLine:
    """Take the words after `gracewrap` apart: options first, then `--` or the first other word starts the command."""
    options = {name: s for s in CORE if s.flag for name in (s.option, *s.aliases)}
    given: dict[str, Given] = {}
    problems: list[Problem] = []
    config, action, command, i = None, "run", tuple[str, ...](), 0
    while i < len(args):
        word, i = args[i], i + 1
        if word in FLAGS:
            return CommandLine((), (), None, FLAGS[word], ())
        if word == "--":
            command = tuple(args[i:])
            break
        if not word.startswith("-") or word == "-":
            action, command = _first_word(args[i - 1 :], problems)
            break
        name, equals, value = word.partition("=")
        setting = options.get(name)
        if setting is None and name not in ("-c", "--config"):
            from gracewrap.config import schema as further  # the drain and the like, with all that they need

            options = further.OPTIONS
            setting = options.get(name)
        if setting is None and name not in ("-c", "--config"):
            problems.append(_unknown_option(name, options, value if equals else "".join(args[i : i + 1])))
            break  # whether the next word is its value or the command, nobody knows
        if not equals and setting is not None and setting.switch:
            # The next word may be the command, also one called `true`: that with more words after it is none.
            value = args[i] if i + 1 < len(args) and args[i] in ("true", "false") else ""
            i, value = i + bool(value), value or "true"
        elif not equals:
            if i == len(args) or args[i].startswith("--"):  # `--` and all that follows cannot be a value; write = for one that is
                problems.append(_no_value(name, setting))
                break
            value, i = args[i], i + 1
        if setting is None:
            config = value
        else:
            before = given.get(setting.key)
            if before is not None and setting.joined:
                value = f"{before.raw}{setting.joined}{value}"
            given[setting.key] = Given(setting.key, value, f"{COMMAND_LINE}, {name}")
    return CommandLine(tuple(given.values()), command, config, action, tuple(problems))


def _first_word(words: Sequence[str], problems: list[Problem]) -> tuple[str, tuple[str, ...]]:
    """Return action and command: the first word that is no option is a subcommand, or starts the command."""
    word = words[0]
    if word in SUBCOMMANDS:
        return word, tuple(words[1:])
    if word == "help":
        return word, ()
    if word in RESERVED:
        problems.append(Problem(f"cannot use {word!r} ({COMMAND_LINE}): the word is kept for a subcommand; to run a program of "
                                f"this name write: gracewrap -- {' '.join(words)}"))  # fmt: skip
    return "run", tuple(words)


def _no_value(name: str, setting: Setting | None) -> Problem:
    shown = (setting.example, setting.default, setting.metavar) if setting else (DEFAULT_FILE,)
    example = next(value for value in shown if isinstance(value, str))
    return Problem(f"cannot use {name} ({COMMAND_LINE}): it needs a value; write {name} {example}")


def _unknown_option(name: str, options: Mapping[str, Setting], value: str) -> Problem:
    from gracewrap.config.suggestions import unknown_option

    return Problem(f"cannot use {name} ({COMMAND_LINE}): {unknown_option(name, options, value)}")


def read_environment(env: Mapping[bytes, bytes]) -> tuple[list[Given], list[Problem]]:
    """Return what GRACEWRAP_* variables say.

    A slip of the pen is an error.  A name that is nothing like ours may be meant for somebody else, and is a warning.
    """
    given: list[Given] = []
    problems: list[Problem] = []
    mine = [name for name in env if name.startswith(b"GRACEWRAP_") and name != CONFIG_VARIABLE]
    if not mine:
        return given, problems
    others = {name: setting for setting in CORE for name in setting.more_variables}
    variables = {setting.variable: setting for setting in CORE if setting.flag} | others
    for name_bytes in mine:
        name = name_bytes.decode(errors="replace")
        if name in HOOK_VARIABLES or (name not in variables and _service_link(name)):
            continue
        if name not in variables:
            from gracewrap.config import schema as further

            variables |= {setting.variable: setting for setting in further.FURTHER if setting.flag}
        if name in variables:
            raw = env[name_bytes].decode(errors="surrogateescape")
            place = 0 if name in others else len(given)  # of two names of one setting, the one it is called by wins
            given.insert(place, Given(variables[name].key, raw, f"environment, {name}"))
        else:
            from gracewrap.config.suggestions import unknown_variable

            hint = unknown_variable(name, variables)
            text = f"cannot use {name} (environment): {hint}" if hint else f"{name} is no setting of gracewrap; ignored"
            problems.append(Problem(text, not hint))
    return given, problems


def _service_link(name: str) -> bool:
    """Return whether Kubernetes sets *name* for a service whose name starts with gracewrap, as it does in every pod beside it.

    Source: kubernetes pkg/kubelet/envvars: X_SERVICE_HOST, X_SERVICE_PORT[_NAME], X_PORT, X_PORT_80_TCP[_PROTO|_PORT|_ADDR].
    """
    if name.endswith(("_SERVICE_HOST", "_PORT")) or "_SERVICE_PORT_" in name:
        return True
    return "_PORT_" in name and name.endswith(("_TCP", "_UDP", "_SCTP", "_PROTO", "_ADDR"))


def resolve(
    line: CommandLine, env: Mapping[bytes, bytes], needs_command: bool = True, otherwise: str | None = None
) -> tuple[Settings | None, list[Problem]]:
    """Return the settings, or None and every problem there is; warnings may come with either.

    Args:
        line: What the command line says.
        env: Our environment.
        needs_command: Whether it is a problem that there is no command.
        otherwise: The file to read where neither of them names one.
    """
    problems = list(line.problems)
    from_env, wrong = read_environment(env)
    problems += wrong
    config, origin = config_file(line, env, otherwise)
    from_file: Iterable[Given] = ()
    if config is not None:
        from gracewrap.config.toml_file import read_toml  # tomllib costs 23 ms: only with a file

        from_file, wrong = read_toml(config, origin, env)
        problems += wrong
    if any(one.place for one in from_file):
        from gracewrap.config import programs

        settings, wrong = programs.resolve(tuple(from_file), (*from_env, *line.given), line.command, not _errors(problems))
        return _outcome(settings, [*problems, *wrong])
    if line.command:
        from_file = [g for g in from_file if not _second_command(g, problems)]
    elif needs_command and not any(g.key == "command" for g in from_file) and not _errors(problems):
        problems.append(_nothing_to_run(config))
    values, origins = _parse((*from_file, *from_env, *line.given), problems, line.command)
    return _outcome(None if _errors(problems) else Settings(**values, origins=origins), problems)


def _outcome(settings: Settings | None, problems: Iterable[Problem]) -> tuple[Settings | None, list[Problem]]:
    problems = [Problem(one_line(problem.text), problem.warning) for problem in problems]
    return (None if _errors(problems) else settings), problems


def _nothing_to_run(config: str | None) -> Problem:
    import posix  # built in

    text = "nothing to run: write gracewrap -- COMMAND [ARG...], or --config FILE with a command in it"
    if config is None:
        try:
            posix.lstat(DEFAULT_FILE)
            text += f"; there is a {DEFAULT_FILE} here: write gracewrap --config {DEFAULT_FILE}"
        except OSError:
            pass
    return Problem(text)


def defaults(command: Sequence[str]) -> Settings:
    """Return the settings of a plain `gracewrap -- COMMAND`."""
    values, origins = _parse((), [], tuple(command))
    return Settings(**values, origins=origins)


def config_file(line: CommandLine, env: Mapping[bytes, bytes], otherwise: str | None = None) -> tuple[str | None, str]:
    """Return the file to read, if any, and who says so."""
    if line.config is not None:
        return line.config, f"{COMMAND_LINE}, --config"
    named = env.get(CONFIG_VARIABLE, b"").decode(errors="surrogateescape")
    return (named, "environment, GRACEWRAP_CONFIG") if named else (otherwise, "default")


def _errors(problems: Iterable[Problem]) -> bool:
    return any(not problem.warning for problem in problems)


def _second_command(given: Given, problems: list[Problem]) -> bool:
    if given.key != "command":
        return False
    problems.append(Problem(f"cannot use two commands: one on the {COMMAND_LINE}, one in {given.origin}; remove one of them"))
    return True


def _parse(given: Sequence[Given], problems: list[Problem], command: tuple[str, ...]) -> tuple[dict[str, Any], dict[str, str]]:
    """Parse the values, later ones winning, and look whether they go together; the second result says where each is from."""
    values: dict[str, Any] = {setting.field: setting.initial() for setting in CORE}
    origins: dict[str, str] = {}
    unusable = parse_each(given, values, origins, problems)
    if command:
        values["command"], origins["command"] = command, COMMAND_LINE
    if given:
        problems += cross_check(values, Where(origins), unusable)
    if any(one.key not in CORE_BY_KEY for one in given):
        from gracewrap.config import checks as together

        problems += together.put_together(values, origins, unusable)
        problems += together.of_several_only(origins)
    return values, origins


def parse_each(given: Iterable[Given], values: dict[str, Any], origins: dict[str, str], problems: list[Problem]) -> set[str]:
    """Parse what was given into *values* and *origins*, later ones winning; return the keys that could not be used."""
    unusable: set[str] = set()
    for one in given:
        raw = one.raw
        if one.key in CORE_BY_KEY:
            setting = CORE_BY_KEY[one.key]
        else:
            from gracewrap.config import schema as further

            setting = further.BY_KEY[one.key]
        try:
            values[setting.field], origins[one.key] = setting.parse(raw), one.origin
        except BadValue as fault:
            raw = further.concealed(one.key, raw) if one.key not in CORE_BY_KEY else raw
            problems.append(Problem(f"cannot use {one.name} = {show(raw)} ({one.origin}): {fault}"))
            unusable.add(one.key)
    return unusable


def show(raw: object, depth: int = 4) -> str:
    """Return a value as it would stand in TOML, shortened."""
    if isinstance(raw, bool):
        text = str(raw).lower()
    elif isinstance(raw, str):
        quote = "'" if ("\\" in raw or '"' in raw) and "'" not in raw and raw.isprintable() else '"'
        text = quote + one_line(raw) + quote
    elif isinstance(raw, list | dict) and not depth:
        text = "..."
    elif isinstance(raw, list):
        text = "[" + ", ".join(show(one, depth - 1) for one in raw[:40]) + "]"
    elif isinstance(raw, dict):
        text = "{" + ", ".join(f"{one_line(key)} = {show(one, depth - 1)}" for key, one in list(raw.items())[:40]) + "}"
    else:
        text = plain(raw)
    return text if len(text) <= 80 else text[:76] + " ..."


def one_line(text: str) -> str:
    """Return *text* with what would break a line or play tricks on a terminal escaped."""
    if text.isprintable():
        return text
    return "".join(c if c.isprintable() else c.encode("unicode_escape", "backslashreplace").decode() for c in text)


def cross_check(values: Mapping[str, Any], where: Where, unusable: set[str]) -> Iterable[Problem]:
    """Find what no single value is wrong with, but two together are.  What comes of an unusable value is no news."""
    for keys, find in _CHECKS:
        text = None if unusable.intersection(keys) else find(values, where)
        if text is not None:
            yield Problem(text)


def _over_budget(values: Mapping[str, Any], where: Where) -> str | None:
    budget, timeout = values["shutdown_timeout"], values["stop_timeout"]
    if timeout is None or timeout <= budget:
        return None
    return (
        f'cannot use {where.name("stop_timeout")} = "{show_duration(timeout)}" ({where("stop_timeout")}): it is longer than the '
        "whole budget, "
        f'shutdown_timeout = "{show_duration(budget)}" ({where("shutdown_timeout")}); write at most "{show_duration(budget)}", '
        "or a larger budget"
    )


def _never_climbed(values: Mapping[str, Any], where: Where) -> str | None:
    rungs, budget, timeout = values["escalation"], values["shutdown_timeout"], values["stop_timeout"]
    limit, key = (budget, "shutdown_timeout") if timeout is None or timeout > budget else (timeout, "stop_timeout")
    if not rungs or rungs[-1][0] < limit:
        return None
    last = show_duration(rungs[-1][0])
    return (
        f"cannot use {where.name('escalation')} ({where('escalation')}): its rung at {last} would never be climbed, "
        f'SIGKILL comes first ({key} = "{show_duration(limit)}", {where(key)}); write an earlier one'
    )


def _never_forwarded(values: Mapping[str, Any], where: Where) -> str | None:
    both = sorted(values["stop_on"].intersection(values["signal_map"]))
    if not both:
        return None
    from gracewrap.linux.signals import name

    names = ", ".join(name(signum).removeprefix("SIG") for signum in both)
    return (
        f"cannot use signal_map for {names} ({where('signal_map')}): a stop request (stop_on, {where('stop_on')}) is not "
        "forwarded; write stop_signal for what the command is sent, or leave it out of stop_on"
    )


_CHECKS: tuple[tuple[tuple[str, ...], Callable[[Mapping[str, Any], Where], str | None]], ...] = (
    (("stop_timeout", "shutdown_timeout"), _over_budget),
    (("escalation", "stop_timeout", "shutdown_timeout"), _never_climbed),
    (("signal_map", "stop_on"), _never_forwarded),
)
