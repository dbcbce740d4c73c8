"""`gracewrap check`: everything that a start would refuse, all at once, and nothing is started."""

from __future__ import annotations

import os
import shlex
import shutil
import sys
import textwrap
from collections.abc import Iterator, Sequence

from gracewrap.cli import stop_timeline
from gracewrap.cli.check_warnings import doubts, exit_status
from gracewrap.cli.explain_stop import story
from gracewrap.cli.format_settings import shown
from gracewrap.config import command_line, load
from gracewrap.config import problems as problems_
from gracewrap.config.schema import BY_KEY, GLOBAL, TABLE
from gracewrap.config.settings import Settings

WIDTH = 80
Row = tuple[str, str, str]  # key, value, origin
STRICT = "--strict"  # the one option of check that a run does not have


def run(words: Sequence[str]) -> int:
    """Run `gracewrap check WORDS`; return the exit status.  The words are a run's, and --strict."""
    words, strict = _without_strict(words)
    line = command_line.read_command_line(words)
    if line.action == "help":
        print(HELP, end="")
        return 0
    return check(line, strict)


def _without_strict(words: Sequence[str]) -> tuple[list[str], bool]:
    """Return the words without gracewrap's own --strict, and whether it was there."""
    for at, word in enumerate(words):
        before = command_line.read_command_line(words[:at]) if word == STRICT else None
        if word == "--" or (
            before is not None and (before.command or before.problems or before.action != "run")
        ):
            break  # from here on they are the command's
        if before is not None:
            return _without_strict([*words[:at], *words[at + 1 :]])[0], True
    return list(words), False


def check(line: command_line.CommandLine, strict: bool = False) -> int:
    """Print every problem, or what would be in force; return 0 or 125, which a warning is enough
    for if this is *strict*."""
    if line.action != "run":  # `check init`: a program of that name
        line = command_line.CommandLine(
            line.given, (line.action, *line.command), line.config, "run", line.problems
        )
    if (
        line.config is None
        and len(line.command) == 1
        and line.command[0].endswith(".toml")
        and os.path.isfile(line.command[0])
    ):
        _complain(f"cannot check the command {line.command[0]!r}: it is a file of settings; write "
                  "gracewrap check --config "
                  f"{shlex.quote(line.command[0])}")  # fmt: skip
        return 125
    # A run never looks for the file, so what is checked beside a command is what a run with this
    # command would take.
    default = (
        problems_.DEFAULT_FILE
        if os.path.lexists(problems_.DEFAULT_FILE) and not line.command
        else None
    )
    config, origin = load.config_file(line, os.environb, default)
    settings, problems = load.resolve(line, os.environb, needs_command=False, otherwise=default)
    warnings = [problem.text for problem in problems if problem.warning]
    errors = [problem.text for problem in problems if not problem.warning]
    if settings is not None:
        warnings += doubts(settings)
    for text in [*(f"warning: {text}" for text in warnings), *errors]:
        _complain(text)
    if settings is None:
        _complain(f"{len(errors)} problem{'s' * (len(errors) != 1)}; nothing would be started")
        return 125
    if strict and warnings:
        _complain(
            f"{len(warnings)} warning{'s' * (len(warnings) != 1)}, and {STRICT}; a run would start "
            "all the same"
        )
        return 125
    if sys.stderr is not None:
        sys.stderr.flush()  # warnings before the rest, whatever the two go to
    _print_settings(settings, config)
    for note in exit_status(settings):
        print("\n" + _filled(note))
    if not settings.command and not settings.programs:
        where = f" in {config}" if config else ""
        print(
            "\n"
            + _filled(f"There is no command{where}; a start needs one, after -- or in the file.")
        )
    elif config is not None and origin == "default":
        print(f"\n  Start it: gracewrap --config {config}")
    return 0


def _complain(text: str) -> None:
    """Print a line to stderr; on a terminal broken between words, with what follows set in."""
    if sys.stderr is not None:
        line = f"gracewrap: {text}"
        if sys.stderr.isatty():
            columns = max(40, shutil.get_terminal_size().columns)
            line = textwrap.fill(
                line,
                columns,
                subsequent_indent="    ",
                break_long_words=False,
                break_on_hyphens=False,
            )
        print(line, file=sys.stderr)


def _print_settings(settings: Settings, config: str | None) -> None:
    """Print what would be in force where it is not the default, where it comes from, and what a
    stop would be."""
    print(f"{config or 'settings'}: ok\n")
    tables = list(_tables(settings))
    rows = [row for _, table in tables for row in table]
    keys, values = (
        max((len(row[0]) for row in rows), default=0),
        min(36, max((len(row[1]) for row in rows), default=0)),
    )
    for heading, table in tables:
        if heading:
            print(f"{heading}")
        for key, value, origin in table:
            print(f"  {key:<{keys}}  {value:<{values}}  {origin}")
        if settings.programs:
            print()
    print(
        "  All other settings have their defaults; gracewrap --help lists them.\n"
        if rows
        else "  Everything has its default.\n"
    )
    print(
        "\n\n".join(
            stop_timeline.lines(settings) if settings.programs else map(_filled, story(settings))
        )
    )


def _tables(settings: Settings) -> Iterator[tuple[str, list[Row]]]:
    """Yield headings, and below each what was said: for all, of every program that says nothing
    else, and of each."""
    if not settings.programs:
        yield "", _rows(settings)
        return
    if overall := [row for row in _rows(settings) if row[0] in GLOBAL]:
        yield "", overall
    each = [[row for row in _rows(one) if row[0] not in GLOBAL] for one in settings.programs]
    times: dict[Row, int] = {}
    for row in (row for rows in each for row in rows):
        times[row] = times.get(row, 0) + 1
    if shared := [row for row, often in times.items() if often > 1]:
        yield (
            "  For each program, unless it says otherwise:",
            sorted(shared, key=lambda row: list(BY_KEY).index(row[0])),
        )
    for one, rows in zip(settings.programs, each):
        yield f"  [programs.{one.name}]", [row for row in rows if times[row] == 1]


def _rows(settings: Settings) -> list[Row]:
    """Return what was said: key, value as TOML, and origin."""
    return [
        (s.key, shown(getattr(settings, s.field), s.key), settings.origins[s.key])
        for s in TABLE
        if s.key in settings.origins
    ]


def _filled(text: str) -> str:
    return textwrap.fill(
        text, WIDTH - 1, initial_indent="  ", subsequent_indent="  ", break_on_hyphens=False
    )


HELP = """\
gracewrap check reports everything that is wrong with options, variables and
file at once; or else what is in force, where it comes from, and how a stop
would go: with several programs, when each of them starts and stops. It starts
nothing.

Usage:
  gracewrap check [--strict] [OPTIONS] [--] [COMMAND [ARG...]]

Options:
  It takes all options of a run (gracewrap --help lists them), all variables
  (GRACEWRAP_*), and a command. Without --config and without a command it reads
  gracewrap.toml in the current directory, if there is one.
  --strict            Treat warnings as errors, for CI. A warning is about what
                      can be used but is probably a mistake; some are about this
                      machine: a command or a user that does not exist here.
  -h, --help          Print this help.

Examples:
  gracewrap check
  gracewrap check --strict --config web.toml
  gracewrap check --config nginx.toml
  gracewrap check --stop-timeout 10s -- node server.js

Exit status:
  0    everything can be used; there may be warnings, but not with --strict
  125  something cannot; with --strict: or there is a warning
"""
