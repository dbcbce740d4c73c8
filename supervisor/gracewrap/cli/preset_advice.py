"""Which preset fits a command, and what would be lost without one: for `gracewrap check`."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from gracewrap.config.apply_preset import settings_of
from gracewrap.config.parsers.preset_names import PRESETS
from gracewrap.config.recognise_command import recognised
from gracewrap.config.settings import Settings
from gracewrap.report.wording import listed

_NOT_ADVICE = {"command", "shutdown_timeout"}


def advice(settings: Settings) -> Iterator[str]:
    """Yield which presets fit the commands, each in a sentence or two; what runs once has neither
    requests nor jobs to lose."""
    fit: dict[str, list[Settings]] = {}
    for one in settings.programs or (settings,):
        preset = "" if one.oneshot else fitting(one)
        if preset:
            fit.setdefault(preset, []).append(one)
    for preset, those in fit.items():
        yield _sentence(those, preset)


def fitting(settings: Settings) -> str:
    """Return the preset for a command that has none, and none of its settings; else ""."""
    preset = recognised(settings.command) if settings.command and not settings.preset else ""
    if not preset:
        return ""
    given, _ = settings_of(preset, preset)
    keys = {one.key for one in given} - _NOT_ADVICE
    return "" if keys & settings.origins.keys() else preset


def _sentence(those: Sequence[Settings], preset: str) -> str:
    who = listed([one.name or one.command[0].rpartition("/")[2] for one in those])
    lost = PRESETS[preset][1]
    tables = [f"[programs.{one.name}]" for one in those if one.name]
    where = f'preset = "{preset}" in {listed(tables)}' if tables else f"--preset {preset}"
    if preset in ("any-http-server", "node"):  # what such a command is cannot be told by its name
        is_a = "is an HTTP server" if len(those) == 1 else "are HTTP servers"
        text = f"If {who} {is_a}, use {where}: without it, {lost}"
    elif lost:
        text = f"There is a preset for {who}: {where}. Without it, {lost}"
    else:
        text = f"There is a preset for {who}: {where}"
    return f"{text}. To see what is in it: gracewrap presets {preset}"
