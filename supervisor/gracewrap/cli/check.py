"""`gracewrap check`: everything that a start would refuse, all at once, and nothing is started."""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence

from gracewrap.config import sources
from gracewrap.config.table import BY_KEY, Settings

DEFAULT_FILE = "gracewrap.toml"


def check(args: Sequence[str]) -> int:
    """Print every problem and return 0 or 125."""
    line = sources.read_command_line(args)
    config = line.config
    if config is None and b"GRACEWRAP_CONFIG" not in os.environb and os.path.exists(DEFAULT_FILE):
        config = DEFAULT_FILE
    if line.action != "run":
        line = sources.CommandLine(line.given, (line.action, *line.command), line.config, "run", line.problems)
    line = sources.CommandLine(line.given, line.command, config, "run", line.problems)
    settings, problems = sources.resolve(line, os.environb, needs_command=config is not None)
    for problem in problems:
        print(f"gracewrap: {'warning: ' if problem.warning else ''}{problem.text}", file=sys.stderr)
    if settings is None:
        count = sum(not problem.warning for problem in problems)
        print(f"gracewrap: {count} problem{'s' * (count != 1)}; nothing would be started", file=sys.stderr)
        return 125
    for warning in _doubts(settings):
        print(f"gracewrap: warning: {warning}", file=sys.stderr)
    _print_settings(settings, config)
    return 0


def _doubts(settings: Settings) -> list[str]:
    """Return what can be used but may not be what was meant."""
    found = []
    if settings.shutdown_timeout == 0:
        found.append('shutdown_timeout = "0s" kills at once; nothing is stopped gracefully')
    elif settings.shutdown_timeout > 30:
        found.append(
            f'shutdown_timeout = "{settings.shutdown_timeout:g}s" is longer than what Docker (10 s), Kubernetes and ECS (30 s) '
            "grant by default: raise their limit (docker stop -t, terminationGracePeriodSeconds, stopTimeout)"
        )
    if settings.report_termination_log and settings.report_termination_log == settings.report_file:
        found.append("report.file and report.termination_log are the same file; the second one written wins")
    return found


def _print_settings(settings: Settings, config: str | None) -> None:
    """Print what would be in force where it differs from the defaults, and where it comes from."""
    print(f"{config or 'settings'}: ok")
    for key, origin in settings.origins.items():
        if key != "command":
            print(f"  {key} = {_shown(getattr(settings, BY_KEY[key].field), key)}  ({origin})")
    if settings.command:
        print(f"  command = {sources.show(list(settings.command))}  ({settings.origins['command']})")


def _shown(value: object, key: str) -> str:
    """Return a parsed value as it would stand in TOML."""
    from gracewrap.posix.signals import name

    if isinstance(value, float):
        return sources.show(f"{value:g}s")
    if isinstance(value, frozenset) and key == "stop_on":
        return sources.show([name(n).removeprefix("SIG") for n in sorted(value)])
    if isinstance(value, frozenset):
        return sources.show(sorted(value))
    if isinstance(value, dict):
        return sources.show({name(a).removeprefix("SIG"): name(b).removeprefix("SIG") if b else "none" for a, b in value.items()})
    if isinstance(value, tuple):
        return sources.show([{"after": f"{after:g}s", "signal": name(n).removeprefix("SIG")} for after, n in value])
    return sources.show(name(value).removeprefix("SIG") if isinstance(value, int) else value)
