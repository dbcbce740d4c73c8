"""`gracewrap init`: a commented gracewrap.toml, made from the table of settings."""

from __future__ import annotations

import shlex
import sys
import textwrap

import tomli_w

from gracewrap.config.further import GLOBAL, SECTIONS, TABLE, section
from gracewrap.config.sources import DEFAULT_FILE
from gracewrap.config.table import Setting

_HEAD = """\
# gracewrap.toml: how gracewrap runs and stops a command, or several programs (at the end of the file).
#
# Lines that start with "#" and a setting show its default, or an example where there is none; remove the "#" to change it.
# Durations have a unit: "500ms", "10s", "1m30s".  Say what is in force, and what is wrong:  gracewrap check
"""
_ELSEWHERE = "They stand at the end of the file; this is said once for all of them."
_PROGRAMS = """

# Several programs, instead of the one command: take that out above, and the "#" away here.  Each program has its command, and any
# setting of a command; what is said for all of them stands in [defaults].  Only the settings that are about the whole run stay
# where they are (shutdown_timeout, stop_on, signal_map, on_repeat, flush_timeout, exit_code_from, [health], [log] and so on).

#[defaults]
#output = "prefix"

#[programs.db]
#command = ["postgres", "-D", "/var/lib/postgresql/data"]
#stop_signal = "INT"
#ready = {exec = ["pg_isready", "--quiet"]}

"""
_WEB = """
#[programs.web]
#command = ["node", "server.js"]
"""


def init(file: str, force: bool) -> int:
    """Write the template to *file* ("-": standard output); return the exit status."""
    text = template()
    if file == "-":
        print(text, end="")
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
    option = "" if file == DEFAULT_FILE else f" --config {shlex.quote(file)}"
    print(f"wrote {file}; put your command into it, then: gracewrap check{option}")
    return 0


def template() -> str:
    """Return the commented file."""
    parts = [_HEAD]
    before = ""
    for setting in TABLE:
        table, _, name = setting.key.rpartition(".")
        here = section(setting)
        if here == "programs" and setting.key not in GLOBAL:
            continue
        if here != before:
            heading, sentence = SECTIONS[here]
            sentence = _ELSEWHERE if here == "programs" else sentence
            parts.append(f"\n[{table}]\n{_comment(sentence)}" if table else f"\n\n# {heading}\n#\n{_comment(sentence)}")
            before = here
        parts.append("\n" + _comment(setting.help) + _line(setting, name))
    return "".join(parts) + _programs()


def _programs() -> str:
    """Return an example of several programs, with the settings that only they have."""
    only = {s.key: _comment(s.help) + _line(s, s.key) for s in TABLE if section(s) == "programs" and s.key not in GLOBAL}
    return _PROGRAMS + only.pop("stop_after") + _WEB + "".join(f"\n{text}" for text in only.values())


def _comment(text: str) -> str:
    return "\n".join(textwrap.wrap(text, 98, initial_indent="# ", subsequent_indent="# ")) + "\n"


def _line(setting: Setting, name: str) -> str:
    shown = setting.default if setting.default not in (None, [], {}) else setting.example
    return f"{'' if setting.key == 'command' else '#'}{name} = {value_text(shown)}\n"


def value_text(value: object) -> str:
    """Return a value as TOML, on one line."""
    if isinstance(value, list):
        return f"[{', '.join(value_text(one) for one in value)}]"
    if isinstance(value, dict):
        return "{" + ", ".join(f"{key} = {value_text(one)}" for key, one in value.items()) + "}"
    return tomli_w.dumps({"x": value}).removeprefix("x = ").rstrip("\n")
