"""`gracewrap help TOPIC`: a part of the settings, one setting, or a subcommand."""

from __future__ import annotations

import textwrap
from collections.abc import Callable

from gracewrap.cli.subcommand import Subcommand
from gracewrap.cli.subcommand import help_text as subcommand_help
from gracewrap.config.problems import show as as_toml
from gracewrap.config.schema import BY_KEY, GLOBAL, SECTIONS, TABLE, section
from gracewrap.config.schema_core import Setting
from gracewrap.config.subcommand_names import SUBCOMMANDS

# What most look for comes first; the drain has as many options as all others.
ORDER = (
    *("", "log", "report", "running", "programs", "process", "around", "health"),
    *("control", "drain"),
)
# What the parts are called as topics, where their table is no word for people.
TOPICS = {"stop": "", "hooks": "around"} | {part: part for part in ORDER if part}
SHOWN = tuple(topic for topic in TOPICS if topic != "around")
EXIT_STATUS = """\
  the command's own; 128+N if signal N ended it (143: SIGTERM, 137: SIGKILL);
  with several programs that of the first one to fail, else 0 (exit_code_from)
  125  a mistake in options, variables or file; nothing was started
  126  the command cannot be executed
  127  the command was not found
"""


def topic_text(word: str, width: int, load: Callable[[str], Subcommand]) -> str:
    """Return what there is to say about a topic; "" if it is none."""
    setting = _setting(word)
    parts = [] if setting is None else [_one(setting, width)]
    if word in TOPICS:
        parts.append(_part(TOPICS[word], width))
    if word in SUBCOMMANDS and word != "run":
        parts.append(_subcommand(word, width, load))
    return ("\n" + "-" * 20 + "\n\n").join(parts)


def nearest(word: str) -> str:
    """Return what may have been meant by a topic that is none."""
    from gracewrap.config.closest_name import closest

    known = [*TOPICS, *SUBCOMMANDS, *BY_KEY, *(setting.option for setting in TABLE)]
    return closest(word, known) or ""


def entry(names: str, text: str, width: int) -> str:
    """Return an option and what it does."""
    if len(names) <= 18 and 22 + len(text) < width:
        return f"  {names:<18}  {text}\n"
    return f"  {names}\n{indented(text, width, 6)}\n"


def indented(text: str, width: int, by: int) -> str:
    """Return a text broken into lines that start *by* columns from the left."""
    return textwrap.fill(text, width - 1, initial_indent=" " * by, subsequent_indent=" " * by)


def names_of(setting: Setting) -> str:
    """Return the flags of a setting, with what its value is."""
    names = ", ".join((setting.option, *setting.aliases))
    return names if setting.switch else f"{names} {setting.metavar}"


def default_of(setting: Setting) -> str:
    """Return the default, to go behind the help; "" if there is none to speak of."""
    if setting.default in (None, [], {}, False):
        return ""
    value = setting.default
    shown = ",".join(map(str, value)) if isinstance(value, list) else as_toml(value).strip('"')
    return f" [default: {shown}]"


def _setting(word: str) -> Setting | None:
    for setting in TABLE:
        variables = setting.variable, *setting.more_variables
        named = (setting.key, setting.option, *variables, *setting.aliases)
        if word in named:
            return setting
    return None


def _one(setting: Setting, width: int) -> str:
    """Return all about one setting: what it does, and how it is written in each place."""
    table, _, last = setting.key.rpartition(".")
    rows = [f"{setting.key}\n{indented(setting.help + default_of(setting), width, 2)}\n"]
    example = setting.example if setting.example is not None else setting.default
    if example is not None:
        head = f"[{table}] " if table else ""
        rows.append(f"  in a file   {head}{last} = {as_toml(example)}")
    if setting.flag:
        rows.append(f"  an option   {names_of(setting)}")
        rows.append(f"  a variable  {' or '.join((setting.variable, *setting.more_variables))}")
    else:
        rows.append("  It can only be set in a file.")
    if setting.key in GLOBAL:
        rows.append("  With several programs: it applies to all of them together.")
    name = next((name for name, part in TOPICS.items() if part == section(setting)), "")
    rows.append(f"\nRelated settings: gracewrap help {name}")
    return "\n".join(rows) + "\n"


def _part(part: str, width: int) -> str:
    heading, sentence = SECTIONS[part]
    rows = [f"{heading}:\n{indented(sentence, width, 2)}\n\n"]
    for setting in TABLE:
        if section(setting) == part:
            names = names_of(setting) if setting.flag else f"{setting.key} (in a file)"
            rows.append(entry(names, setting.help + default_of(setting), width))
    return "".join(rows)


def _subcommand(word: str, width: int, load: Callable[[str], Subcommand]) -> str:
    if word == "check":
        from gracewrap.cli.cmd_check import HELP

        return HELP
    return subcommand_help(load(word), width - 1)
