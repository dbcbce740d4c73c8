"""`gracewrap check`: everything that a start would refuse, all at once, and nothing is started."""

from __future__ import annotations

import os
import shlex
import shutil
import sys
import textwrap
from collections.abc import Iterator, Sequence

from gracewrap.cli import (
    check_against,
    check_agent,
    check_json,
    check_last_stop,
    explain_programs,
    own_options,
    show_picture,
)
from gracewrap.cli.check_warnings import doubts, exit_status
from gracewrap.cli.explain_stop import story
from gracewrap.cli.format_settings import shown
from gracewrap.cli.preset_advice import advice
from gracewrap.config import command_line, load
from gracewrap.config import problems as problems_
from gracewrap.config.schema import BY_KEY, GLOBAL, OF_BOTH, TABLE
from gracewrap.config.settings import Settings
from gracewrap.picture import planned_stop
from gracewrap.record import replace

WIDTH = 80
NOTHING = (
    "there is neither a command nor a file to check; use gracewrap check -- COMMAND [ARG...], or "
    f"gracewrap check --config FILE (there is no {problems_.DEFAULT_FILE} here; gracewrap init "
    "writes one)"
)
Row = tuple[str, str, str]  # key, value, origin
STRICT, JSON = "--strict", "--json"  # options of check that a run does not have
OPTIONS = (STRICT, JSON, *check_against.OPTIONS, check_agent.FOR)


def run(words: Sequence[str]) -> int:
    """Run `gracewrap check WORDS`; return the exit status.  The words are a run's, and --strict."""
    with_agent = check_agent.taken(words)
    if with_agent is not None and not with_agent.help:
        return check_agent.run(with_agent)
    words, against = check_against.taken(["--help"] if with_agent else words)
    words, strict = _without(STRICT, words)
    words, as_json = _without(JSON, words)
    if mistyped := own_options.mistyped(words, OPTIONS):
        _complain(mistyped)
        return 125
    line = command_line.read_command_line(words)
    if line.action == "help":
        print(HELP, end="")
        return 0
    if against.asked:
        return check_against.run(replace(against, format="json") if as_json else against, line)
    return check(line, strict, as_json)


def _without(option: str, words: Sequence[str]) -> tuple[list[str], bool]:
    """Return the words without gracewrap's own *option*, and whether it was there."""
    for at, word in enumerate(words):
        before = command_line.read_command_line(words[:at]) if word == option else None
        if word == "--" or (
            before is not None and (before.command or before.problems or before.action != "run")
        ):
            break  # from here on they are the command's
        if before is not None:
            return _without(option, [*words[:at], *words[at + 1 :]])[0], True
    return list(words), False


def check(line: command_line.CommandLine, strict: bool = False, as_json: bool = False) -> int:
    """Print every problem, or what would be in force; return 0 or 125, which a warning is enough
    for if this is *strict*."""
    if line.action != "run":  # `check init`: a program of that name
        line = replace(line, command=(line.action, *line.command), action="run")
    if line.config is None and _is_settings_file(line.command):
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
    is_empty = settings is not None and config is None and not settings.command
    if is_empty:
        warnings.append(NOTHING)
    if settings is not None:
        warnings += doubts(settings)
        warnings += check_last_stop.doubts(settings)
        if strict:  # else what does not fit is said with the plan
            warnings += [fault.text for fault in planned_stop.plan(settings).faults]
    if as_json:
        return check_json.show(config, settings, errors, warnings, strict)
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
    if not is_empty or settings.origins:
        _print_all(settings, config, "gracewrap" if origin == "default" else "")
    return 0


def _is_settings_file(command: Sequence[str]) -> bool:
    return len(command) == 1 and command[0].endswith(".toml") and os.path.isfile(command[0])


def _print_all(settings: Settings, config: str | None, start: str) -> None:
    """Print what would be in force; *start*: how to start it, if the file says all."""
    if sys.stderr is not None:
        sys.stderr.flush()  # warnings before the rest, whatever the two go to
    _print_settings(settings, config)
    for note in (*exit_status(settings), *advice(settings)):
        print("\n" + _filled(note))
    _print_plan(settings)
    if not settings.command and not settings.programs:
        where = f" in {config}" if config else ""
        print(
            "\n"
            + _filled(f"There is no command{where}; a start needs one, after -- or in the file.")
        )
    elif config is not None and start:
        print(f"\n  Start it: {start}")


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
        "  All other settings have their defaults; gracewrap help all lists them.\n"
        if rows
        else "  Everything has its default.\n"
    )
    print(
        "\n\n".join(
            explain_programs.lines(settings) if settings.programs else map(_filled, story(settings))
        )
    )


def _print_plan(settings: Settings) -> None:
    """Print the stop at worst on a time axis, which several programs have above, and what does not
    fit."""
    made = planned_stop.plan(settings)
    if not settings.programs:
        print()
        show_picture.show((made.worst,))
        return
    for fault in made.faults:
        print("\n" + _filled(f"! {fault.text}"))


def _tables(settings: Settings) -> Iterator[tuple[str, list[Row]]]:
    """Yield headings, and below each what was said: for all, of every program that says nothing
    else, and of each."""
    if not settings.programs:
        yield "", _rows(settings)
        return
    if overall := [row for row in _rows(settings) if row[0] in GLOBAL]:
        yield "", overall
    each = [
        [
            row
            for row in _rows(one)
            if row[0] not in GLOBAL or (row[0] in OF_BOTH and row not in overall)
        ]
        for one in settings.programs
    ]
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
would go: with several programs, when each of them starts and stops. It ends
with the stop at worst on a time axis, and with what does not fit (gracewrap
plan has more). It starts nothing, except with --agent.

Usage:
  gracewrap check [--strict] [--json] [OPTIONS] [--] [COMMAND [ARG...]]
  gracewrap check --against FILE... [--format F] [--fix] [OPTIONS]
  gracewrap check --agent [--for DURATION] [--json] -- COMMAND [ARG...]

Options:
  It takes all options of a run (gracewrap help all lists them), all variables
  (GRACEWRAP_*), and a command. Without --config and without a command it reads
  gracewrap.toml in the current directory, if there is one.
  --strict            Treat warnings as errors, for CI. A warning is about what
                      can be used but is probably a mistake; some are about this
                      machine: a command or a user that does not exist here.
                      What does not fit into the stop's time is one as well, and
                      that there is neither a command nor a file.
  --against FILE...   Check the manifest that will run it as well: Kubernetes,
                      Compose, Swarm stack, ECS task definition, Nomad job in
                      JSON; "-" reads standard input. Settings in the manifest
                      (its command, GRACEWRAP_* variables) count. It needs
                      PyYAML: pip install PyYAML
  --container NAME    Only this container of the manifest.
  --format FORMAT     text, json, sarif, or github (annotations).
  --fix               Print the manifest with all that can be mended mended.
  --agent             Run the command for a moment with the agent for Node.js
                      loaded, until 1 s after it listens; say which libraries
                      and versions, servers, workers, clients and handlers of
                      signals the agent finds, and how it stops. It really runs:
                      a worker takes jobs.
  --for DURATION      How long the command has to listen. [default: 10s]
  --json              Print problems and settings as JSON; with --agent what has
                      been found, with --against what --format json prints.
  -h, --help          Print this help.

Examples:
  gracewrap check
  gracewrap check --config web.toml --against k8s/web.yaml
  gracewrap check --strict --config web.toml
  gracewrap check --config nginx.toml
  gracewrap check --stop-timeout 10s -- node server.js
  gracewrap check --agent -- node server.js

Exit status:
  0    everything can be used; there may be warnings, but not with --strict
  1    there is an error in a manifest (--against)
  125  something cannot; with --strict: or there is a warning; with --agent: the
       command did not run on, or the agent was not loaded
  130  interrupted (--agent); the command has been ended
"""
