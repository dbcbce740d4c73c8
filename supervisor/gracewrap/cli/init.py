"""`gracewrap init`: a commented gracewrap.toml, made from the table of settings."""

from __future__ import annotations

import sys
import textwrap

import tomli_w

from gracewrap.config.table import TABLE, Setting

_HEAD = """\
# gracewrap.toml: how gracewrap runs and stops the command.
# A line that starts with "#" and a setting shows its default, or an example; remove the "#" to change it.
# Durations have a unit: "500ms", "10s", "1m30s".  `gracewrap check` says what is wrong, and what to write instead.
"""


def init(file: str, force: bool) -> int:
    """Write the template to *file* ("-": standard output); return the exit status."""
    text = template()
    if file == "-":
        sys.stdout.write(text)
        return 0
    try:
        with open(file, "w" if force else "x", encoding="utf-8") as out:
            out.write(text)
    except FileExistsError:
        print(f"gracewrap: {file!r} is there already; write --force to replace it, or another name", file=sys.stderr)
        return 125
    except OSError as error:
        print(f"gracewrap: cannot write {file!r}: {error.strerror}", file=sys.stderr)
        return 125
    print(f"wrote {file}: put your command into it, then run: gracewrap check --config {file}")
    return 0


def template() -> str:
    """Return the commented file."""
    parts = [_HEAD]
    section = ""
    for setting in TABLE:
        table, _, name = setting.key.rpartition(".")
        if table != section:
            parts.append(f"\n[{table}]\n")
            section = table
        parts.append("\n" + "\n".join(textwrap.wrap(setting.help, 98, initial_indent="# ", subsequent_indent="# ")) + "\n")
        parts.append(_line(setting, name))
    return "".join(parts)


def _line(setting: Setting, name: str) -> str:
    shown = setting.default if setting.default not in (None, [], {}) else setting.example
    if setting.key == "command":
        return _toml(name, shown)
    return f"#{_toml(name, shown)}"


def _toml(name: str, value: object) -> str:
    """Return `name = value` on one line."""
    if isinstance(value, list) and value and isinstance(value[0], dict):
        return f"{name} = [{', '.join(_inline(one) for one in value)}]\n"
    if isinstance(value, dict):
        return f"{name} = {_inline(value)}\n"
    if isinstance(value, list):
        return f"{name} = [{', '.join(_value(one) for one in value)}]\n"
    return tomli_w.dumps({name: value})


def _inline(table: dict[str, object]) -> str:
    return "{" + ", ".join(f"{key} = {_value(one)}" for key, one in table.items()) + "}"


def _value(value: object) -> str:
    return tomli_w.dumps({"x": value}).removeprefix("x = ").rstrip("\n")
