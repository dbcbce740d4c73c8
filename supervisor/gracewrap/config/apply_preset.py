"""Presets: settings for well-known programs, taken from the files in configs/.

A preset counts less than anything that is said otherwise: what it says is put beneath the file, the
variables and the flags.  Loaded only when a preset is named, or for people.
"""

from __future__ import annotations

import os

import gracewrap
from gracewrap.config import probe_specs
from gracewrap.config.origins import RawValue
from gracewrap.config.parsers import probes
from gracewrap.config.parsers.preset_names import PRESETS
from gracewrap.config.problems import Problem
from gracewrap.config.schema import GLOBAL
from gracewrap.config.toml_file import parse_toml
from gracewrap.config.values import BadValue, duration, show_duration
from gracewrap.linux import launcher
from gracewrap.record import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

_CHOOSING = frozenset(f"drain.{kind}" for kind in (*probe_specs.KINDS, "all", "any"))
_OF_PROBES = frozenset(f"drain.{key}" for key in probes.PARSERS) | _CHOOSING
_DEFAULT_BUDGET = "25s"


def path_of(name: str) -> str:
    """Return the file of a preset: in the package if it is installed, else in the source tree."""
    package = os.path.dirname(os.path.abspath(gracewrap.__file__))
    shipped = f"{package}/presets/{name}.toml"
    return shipped if os.path.exists(shipped) else f"{package}/../../configs/{name}.toml"


def text_of(name: str) -> str:
    """Return the file of a preset, or of several programs.  Raises OSError."""
    if launcher.is_single_file():
        from gracewrap_files import FILES

        return FILES[f"presets/{name}.toml"].decode()
    with open(path_of(name), encoding="utf-8") as file:
        return file.read()


def settings_of(name: str, origin: str) -> tuple[list[RawValue], list[Problem]]:
    """Return what a preset says, and what is wrong with it.

    Args:
        name: The preset.
        origin: Who says that it is to be read, and what it is called in messages.
    """
    try:
        content = text_of(name).encode()
    except OSError as error:
        return [], [Problem(f"cannot read {path_of(name)!r} ({origin}): {error.strerror}")]
    return parse_toml(content, name, origin, {}, origin)


def beneath(
    from_file: Sequence[RawValue], shared: Sequence[RawValue]
) -> tuple[list[RawValue], list[Problem]]:
    """Return what the file says, with the presets that are named put beneath it, and what is wrong.

    Args:
        from_file: What the file says, its programs too.
        shared: What variables and flags say.
    """
    programs = [one.place for one in from_file if not one.key and one.place.startswith("programs.")]
    outer = _named(shared)
    defaults = _named([one for one in from_file if one.place == "defaults"])
    problems: list[Problem] = []
    added: list[RawValue] = []
    for place in programs or [""]:
        own = [one for one in from_file if one.place == place]
        name = outer or _named(own) or defaults
        said = [*own, *shared]
        if defaults and name == defaults:
            said += [one for one in from_file if one.place == "defaults"]
        if name in PRESETS:
            given, wrong = settings_of(name, f"preset {name}")
            problems += wrong
            said += [one for one in from_file if not one.place and one.key in GLOBAL]
            added += _fitting(given, place, said)
    return [*added, *from_file], problems


def _named(given: Iterable[RawValue]) -> str:
    names = [str(one.raw).strip().lower() for one in given if one.key == "preset"]
    return names[-1] if names else ""


def _fitting(given: Iterable[RawValue], place: str, said: Sequence[RawValue]) -> Iterable[RawValue]:
    """Yield what a preset says, without what does not go with what is *said*."""
    other_probe = any(one.key in _CHOOSING for one in said)
    budget = {one.key: one.raw for one in given}.get("shutdown_timeout", _DEFAULT_BUDGET)
    for one in given:
        if one.key == "command" or (place and one.key in GLOBAL):
            continue
        if other_probe and one.key in _OF_PROBES:
            continue
        raw = one.raw
        if one.key == "escalation":
            raw = _moved(raw, str(budget), said, bool(place))
            if not raw:
                continue
        yield RawValue(one.key, raw, one.origin, place)


def _moved(raw: object, budget: str, said: Sequence[RawValue], default: bool) -> object:
    """Return rungs that keep their distance from the end of the budget; *default* says that the
    preset's own budget does not count."""
    limits = {one.key: one.raw for one in said if one.key in ("shutdown_timeout", "stop_timeout")}
    limit = limits.get("stop_timeout", limits.get("shutdown_timeout"))
    limit = _DEFAULT_BUDGET if limit is None and default else limit
    if limit is None or not isinstance(raw, list):
        return raw
    try:
        less = duration(budget) - duration(limit)
        rungs = [{**rung, "after": duration(rung["after"]) - less} for rung in raw]
    except BadValue:  # of what is said: that is reported where it is parsed
        return raw
    return [{**rung, "after": show_duration(rung["after"])} for rung in rungs if rung["after"] > 0]
