"""`gracewrap check`: everything that a start would refuse, all at once, and nothing is started."""

from __future__ import annotations

import os
import shutil
import sys
import textwrap
from collections.abc import Iterator

from gracewrap.config import sources
from gracewrap.config.table import TABLE, Settings
from gracewrap.config.values import show_duration
from gracewrap.posix.signals import name as signal_name

DEFAULT_FILE = "gracewrap.toml"
WIDTH = 80

# Commands for which SIGTERM is the wrong stop signal: what they want, and what SIGTERM does.
WANTED = {
    "nginx": ("QUIT", "cuts requests"),
    "unicorn": ("QUIT", "cuts requests"),
    "php-fpm": ("QUIT", "cuts requests"),
    "haproxy": ("USR1", "cuts requests"),
    "httpd": ("WINCH", "cuts requests"),
    "apache2": ("WINCH", "cuts requests"),
    "postgres": ("INT", "waits until every client has gone"),
}


def check(line: sources.CommandLine) -> int:
    """Print every problem, or what would be in force; return 0 or 125."""
    if line.action != "run":  # `check init`: a program of that name
        line = sources.CommandLine(line.given, (line.action, *line.command), line.config, "run", line.problems)
    default = DEFAULT_FILE if os.path.lexists(DEFAULT_FILE) else None
    config, origin = sources.config_file(line, os.environb, default)
    settings, problems = sources.resolve(line, os.environb, needs_command=False, otherwise=default)
    warnings = [problem.text for problem in problems if problem.warning]
    errors = [problem.text for problem in problems if not problem.warning]
    if settings is not None:
        warnings += _doubts(settings, config)
    for text in [*(f"warning: {text}" for text in warnings), *errors]:
        _complain(text)
    if settings is None:
        _complain(f"{len(errors)} problem{'s' * (len(errors) != 1)}; nothing would be started")
        return 125
    if sys.stderr is not None:
        sys.stderr.flush()  # warnings before the rest, whatever the two go to
    _print_settings(settings, config)
    if config is not None and origin == "default":  # a start does not look for it
        print(f"\n  Start it: gracewrap --config {config}")
    return 0


def _complain(text: str) -> None:
    """Print a line to stderr; on a terminal broken between words, with what follows set in."""
    if sys.stderr is not None:
        line = f"gracewrap: {text}"
        if sys.stderr.isatty():
            columns = max(40, shutil.get_terminal_size().columns)
            line = textwrap.fill(line, columns, subsequent_indent="    ", break_long_words=False, break_on_hyphens=False)
        print(line, file=sys.stderr)


def _doubts(settings: Settings, config: str | None) -> Iterator[str]:
    """Yield what can be used but may not be what was meant."""
    budget = settings.shutdown_timeout
    if budget == 0:
        yield 'shutdown_timeout = "0s" kills at once; nothing is stopped gracefully'
    elif budget > 30:
        yield (
            f'shutdown_timeout = "{show_duration(budget)}" is longer than what Docker (10 s), Kubernetes and ECS (30 s) grant: '
            "raise their limit too (docker stop -t, terminationGracePeriodSeconds, stopTimeout)"
        )
    if settings.report_termination_log and settings.report_termination_log == settings.report_file:
        yield "report.file and report.termination_log are the same file; the second one written wins"
    for key in ("log.file", "report.file", "report.termination_log"):
        file = getattr(settings, key.replace(".", "_"))
        if file and not os.path.isdir(os.path.dirname(file)):
            yield f'{key} = "{file}" cannot be written here: its directory does not exist'
    if settings.command:
        yield from _doubts_about_command(settings)
    elif config is not None:
        yield f"there is no command in {config}; a start needs one, in the file or after --"


def _doubts_about_command(settings: Settings) -> Iterator[str]:
    word = settings.command[0]
    if shutil.which(word) is None:
        words = "; it is one word with spaces: write the arguments as words of their own" if " " in word.strip() else ""
        yield f"the command {sources.show(word)} is not found or not executable here{words}"
    program = os.path.basename(word)
    signum, what = WANTED.get(program, ("", ""))
    if signum and "stop_signal" not in settings.origins:
        yield f'{program} {what} on SIGTERM; write stop_signal = "{signum}" (--stop-signal {signum})'
    if program == "celery" and settings.kill_mode == "group":
        yield 'celery loses its tasks if all its processes get the stop signal; leave kill_mode at "mixed"'


def _print_settings(settings: Settings, config: str | None) -> None:
    """Print what would be in force where it is not the default, where it comes from, and what a stop would be."""
    print(f"{config or 'settings'}: ok\n")
    rows = [
        (s.key, _shown(getattr(settings, s.field), s.key), settings.origins[s.key]) for s in TABLE if s.key in settings.origins
    ]
    keys, values = max((len(row[0]) for row in rows), default=0), min(36, max((len(row[1]) for row in rows), default=0))
    for key, value, origin in rows:
        print(f"  {key:<{keys}}  {value:<{values}}  {origin}")
    print(
        "  All other settings have their defaults; gracewrap --help lists them.\n" if rows else "  Everything has its default.\n"
    )
    print(textwrap.fill(_story(settings), WIDTH - 1, initial_indent="  ", subsequent_indent="  "))


def _story(settings: Settings) -> str:
    """Return what a stop would be, in a sentence."""
    it = os.path.basename(settings.command[0]) if settings.command else "the command"
    requests = " or ".join(signal_name(signum) for signum in sorted(settings.stop_on, reverse=True))
    who = f"the process group of {it}" if settings.kill_mode == "group" else it
    steps = [f"{signal_name(settings.stop_signal)} goes to {who}"]
    steps += [f"after {show_duration(after)} {signal_name(signum)}" for after, signum in settings.escalation]
    if settings.stop_timeout is not None and settings.stop_timeout < settings.shutdown_timeout:
        steps.append(f"after {show_duration(settings.stop_timeout)} what is left of it is killed")
    else:
        steps.append(f"{show_duration(settings.shutdown_timeout)} after the request what is left of it is killed")
    return f"On {requests}: {', '.join(steps)}."


def _shown(value: object, key: str) -> str:
    """Return a parsed value as it would stand in TOML."""
    if isinstance(value, float):
        return sources.show(show_duration(value))
    if isinstance(value, frozenset) and key == "stop_on":
        return sources.show([_signal(signum) for signum in sorted(value)])
    if isinstance(value, frozenset):
        return sources.show(sorted(value))
    if isinstance(value, dict):
        return sources.show({_signal(a): _signal(b) if b else "none" for a, b in value.items()})
    if isinstance(value, tuple) and key == "escalation":
        return sources.show([{"after": show_duration(after), "signal": _signal(signum)} for after, signum in value])
    if isinstance(value, tuple):
        return sources.show(list(value))
    return sources.show(_signal(value) if isinstance(value, int) else value)


def _signal(signum: int) -> str:
    return signal_name(signum).removeprefix("SIG")
