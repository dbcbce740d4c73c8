"""Where values come from: flags, GRACEWRAP_* variables, a TOML file, defaults; in this order of
precedence.

On the lean path: reads no file unless one is named, and imports nothing that only an error or a
file needs.
"""

from __future__ import annotations

from gracewrap.config.command_line import CommandLine
from gracewrap.config.origins import Origins, RawValue, parse_each
from gracewrap.config.problems import (
    CONFIG_VARIABLE,
    DEFAULT_FILE,
    Problem,
    one_line,
)
from gracewrap.config.schema_core import CORE, CORE_BY_KEY
from gracewrap.config.settings import COMMAND_LINE, Settings
from gracewrap.record import TYPE_CHECKING, replace

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence
    from typing import Any

# A core setting without any of these in force contradicts nothing.
COMPARED = frozenset(("stop_timeout", "escalation", "signal_map"))


def resolve(
    line: CommandLine,
    env: Mapping[bytes, bytes],
    needs_command: bool = True,
    otherwise: str | None = None,
) -> tuple[Settings | None, list[Problem]]:
    """Return the settings, or None and every problem there is; warnings may come with either.

    Args:
        line: What the command line says.
        env: Our environment.
        needs_command: Whether it is a problem that there is no command.
        otherwise: The file to read where neither of them names one.
    """
    problems = list(line.problems)
    config, origin = config_file(line, env, otherwise)
    from_file, from_env = _read(line, env, config, origin, problems)
    if any(one.place for one in from_file):
        from gracewrap.config import programs

        settings, wrong = programs.resolve(
            from_file, (*from_env, *line.given), line.command, not _errors(problems)
        )
        return _outcome(settings, [*problems, *wrong])
    if line.command:
        from_file = tuple(g for g in from_file if not _second_command(g, problems))
    elif needs_command and not any(g.key == "command" for g in from_file) and not _errors(problems):
        problems.append(_nothing_to_run(config))
    values, origins = _parse((*from_file, *from_env, *line.given), problems, line.command)
    return _outcome(None if _errors(problems) else Settings(**values, origins=origins), problems)


def _read(
    line: CommandLine,
    env: Mapping[bytes, bytes],
    config: str | None,
    origin: str,
    problems: list[Problem],
) -> tuple[tuple[RawValue, ...], tuple[RawValue, ...]]:
    """Return what the file says, with the preset beneath it, and what variables say."""
    from_env: Iterable[RawValue] = ()
    if any(name.startswith(b"GRACEWRAP_") for name in env):
        from gracewrap.config.environment import read_environment

        from_env, wrong = read_environment(env)
        problems += wrong
    from_file: Iterable[RawValue] = ()
    if config is not None:
        from gracewrap.config.toml_file import read_toml  # tomllib costs 23 ms: only with a file

        from_file, wrong = read_toml(config, origin, env)
        problems += wrong
    if any(one.key == "preset" for one in (*from_file, *from_env, *line.given)):
        from gracewrap.config import apply_preset

        from_file, wrong = apply_preset.beneath(tuple(from_file), (*from_env, *line.given))
        problems += wrong
    if line.no_drain:
        from_file = [one for one in from_file if not one.key.startswith("drain.")]
        from_env = [one for one in from_env if not one.key.startswith("drain.")]
    return tuple(from_file), tuple(from_env)


def _outcome(
    settings: Settings | None, problems: Iterable[Problem]
) -> tuple[Settings | None, list[Problem]]:
    problems = [replace(problem, text=one_line(problem.text)) for problem in problems]
    return (None if _errors(problems) else settings), problems


def _nothing_to_run(config: str | None) -> Problem:
    if config is None:
        text = (
            "nothing to run: use gracewrap -- COMMAND [ARG...], or --config FILE with a command "
            f"in it; there is no {DEFAULT_FILE} here either (gracewrap init writes one)"
        )
    else:
        text = f"nothing to run: there is no command in {config}, and none after --"
    return Problem(text)


def found_file(line: CommandLine, env: Mapping[bytes, bytes]) -> str | None:
    """Return the file of the current directory, if a run without command and file is to read it."""
    if line.command or config_file(line, env)[0] is not None:
        return None
    import posix  # built in

    try:
        posix.lstat(DEFAULT_FILE)
    except OSError:
        return None
    return DEFAULT_FILE


def config_file(
    line: CommandLine, env: Mapping[bytes, bytes], otherwise: str | None = None
) -> tuple[str | None, str]:
    """Return the file to read, if any, and who says so."""
    if line.config is not None:
        return line.config, f"{COMMAND_LINE}, --config"
    named = env.get(CONFIG_VARIABLE, b"").decode(errors="surrogateescape")
    return (named, "environment, GRACEWRAP_CONFIG") if named else (otherwise, "default")


def _errors(problems: Iterable[Problem]) -> bool:
    return any(not problem.warning for problem in problems)


def _second_command(given: RawValue, problems: list[Problem]) -> bool:
    if given.key != "command":
        return False
    problems.append(
        Problem(
            f"cannot use two commands: one on the {COMMAND_LINE}, one in {given.origin}; remove "
            "one of them"
        )
    )
    return True


def _parse(
    given: Sequence[RawValue], problems: list[Problem], command: tuple[str, ...]
) -> tuple[dict[str, Any], dict[str, str]]:
    """Parse the values, later ones winning, and look whether they go together; the second result
    says where each is from."""
    values: dict[str, Any] = {setting.field: setting.initial() for setting in CORE}
    origins: dict[str, str] = {}
    unusable = parse_each(given, values, origins, problems)
    if command:
        values["command"], origins["command"] = command, COMMAND_LINE
    if not COMPARED.isdisjoint(origins):
        from gracewrap.config.refused_combinations_at_every_start import cross_check

        problems += cross_check(values, Origins(origins), unusable)
    if any(one.key not in CORE_BY_KEY for one in given):
        from gracewrap.config import refused_combinations

        problems += refused_combinations.put_together(values, origins, unusable)
        problems += refused_combinations.of_several_only(origins)
    return values, origins
