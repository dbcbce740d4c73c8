"""What `gracewrap check` finds, as JSON."""

from __future__ import annotations

import json
import tomllib
from collections.abc import Sequence

from gracewrap.cli import cmd_plan, explain_programs
from gracewrap.cli.check_warnings import exit_status
from gracewrap.cli.explain_stop import story
from gracewrap.cli.format_settings import shown
from gracewrap.cli.preset_advice import advice
from gracewrap.config.schema import GLOBAL, TABLE
from gracewrap.config.settings import Settings
from gracewrap.picture import planned_stop


def show(
    config: str | None,
    settings: Settings | None,
    errors: Sequence[str],
    warnings: Sequence[str],
    strict: bool,
) -> int:
    """Print it; return 0 or 125, as check does."""
    ok = settings is not None and not (strict and warnings)
    found: dict[str, object] = {
        "ok": ok,
        "file": config,
        "errors": list(errors),
        "warnings": list(warnings),
    }
    if settings is not None:
        found["settings"] = _settings(settings)
        found["programs"] = {one.name: _settings(one, True) for one in settings.programs}
        told = explain_programs.lines(settings) if settings.programs else story(settings)
        found["stop"] = list(told)
        found["plan"] = cmd_plan.document(planned_stop.plan(settings))
        found["notes"] = [*exit_status(settings), *advice(settings)]
    print(json.dumps(found, indent=2, ensure_ascii=False))
    return 0 if ok else 125


def _settings(settings: Settings, of_program: bool = False) -> dict[str, object]:
    """Return what was said: by key its value, as in TOML, and where it is from."""
    return {
        s.key: {
            "value": _value(shown(getattr(settings, s.field), s.key)),
            "origin": settings.origins[s.key],
        }
        for s in TABLE
        if s.key in settings.origins and not (of_program and s.key in GLOBAL)
    }


def _value(text: str) -> object:
    try:
        return tomllib.loads(f"x = {text}")["x"]
    except ValueError:  # shortened, or concealed
        return text
