"""Reads the words after `gracewrap`: options, subcommand, command."""

from __future__ import annotations

from gracewrap.config.origins import RawValue
from gracewrap.config.problems import COMMAND_LINE, DEFAULT_FILE, Problem
from gracewrap.config.schema_core import CORE, Setting
from gracewrap.record import TYPE_CHECKING, Record

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence


SUBCOMMANDS = ("check", "init", "status", "drain", "undrain", "stop", "restart", "health")
RESERVED = ("plan", "drill", "report")
FLAGS = {"-h": "help", "--help": "help", "-V": "version", "--version": "version"}


class CommandLine(Record):
    """The words after `gracewrap`, taken apart."""

    given: tuple[RawValue, ...]
    command: tuple[str, ...]
    config: str | None
    action: str  # "run", "help", "version", or a subcommand's name
    problems: tuple[Problem, ...]


def read_command_line(args: Sequence[str]) -> CommandLine:
    """Take the words after `gracewrap` apart: options first, then `--` or the first other word
    starts the command."""
    options = {name: s for s in CORE if s.flag for name in (s.option, *s.aliases)}
    given: dict[str, RawValue] = {}
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
            from gracewrap.config.schema import (
                OPTIONS,
            )  # the drain and the like, with all that they need

            options = OPTIONS
            setting = options.get(name)
        if setting is None and name not in ("-c", "--config"):
            problems.append(
                _unknown_option(name, options, value if equals else "".join(args[i : i + 1]))
            )
            break  # whether the next word is its value or the command, nobody knows
        if not equals and setting is not None and setting.switch:
            # The next word may be the command, also one called `true`: that with more words after
            # it is none.
            value = args[i] if i + 1 < len(args) and args[i] in ("true", "false") else ""
            i, value = i + bool(value), value or "true"
        elif not equals:
            if i == len(args) or args[i].startswith(
                "--"
            ):  # `--` and all that follows cannot be a value; write = for one that is
                problems.append(_no_value(name, setting))
                break
            value, i = args[i], i + 1
        if setting is None:
            config = value
        else:
            before = given.get(setting.key)
            if before is not None and setting.joined:
                value = f"{before.raw}{setting.joined}{value}"
            given[setting.key] = RawValue(setting.key, value, f"{COMMAND_LINE}, {name}")
    return CommandLine(tuple(given.values()), command, config, action, tuple(problems))


def _first_word(words: Sequence[str], problems: list[Problem]) -> tuple[str, tuple[str, ...]]:
    """Return action and command: the first word that is no option is a subcommand, or starts the
    command."""
    word = words[0]
    if word in SUBCOMMANDS:
        return word, tuple(words[1:])
    if word == "help":
        return word, ()
    if word in RESERVED:
        problems.append(Problem(f"cannot use {word!r} ({COMMAND_LINE}): the word is kept for a "
                                "subcommand; to run a program of "
                                f"this name write: gracewrap -- {' '.join(words)}"))  # fmt: skip
    return "run", tuple(words)


def _no_value(name: str, setting: Setting | None) -> Problem:
    shown = (setting.example, setting.default, setting.metavar) if setting else (DEFAULT_FILE,)
    example = next(value for value in shown if isinstance(value, str))
    return Problem(f"cannot use {name} ({COMMAND_LINE}): it needs a value; write {name} {example}")


def _unknown_option(name: str, options: Mapping[str, Setting], value: str) -> Problem:
    from gracewrap.config.suggestions import unknown_option

    return Problem(f"cannot use {name} ({COMMAND_LINE}): {unknown_option(name, options, value)}")
