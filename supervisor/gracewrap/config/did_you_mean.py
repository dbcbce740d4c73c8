"""What may have been meant: close names, and the words of other supervisors.  Imported only when
something is wrong."""

from __future__ import annotations

import difflib
import os
import shlex
from collections.abc import Callable, Collection, Iterable

from gracewrap.config import values
from gracewrap.config.closest_name import closest
from gracewrap.config.foreign_names import (
    BUDGET,
    COMMAND,
    ELSEWHERE,
    FOREIGN,
    GROUP,
    IN_TABLE,
    LIVENESS,
    MEANT,
    NO_GROUPS,
    NO_OPTION,
    OF_PROGRAMS,
    OUTPUT,
    SHORT,
    TIMEOUT,
)
from gracewrap.config.problems import DEFAULT_FILE
from gracewrap.config.refused_combinations import OF_SEVERAL
from gracewrap.config.schema import BY_KEY, GLOBAL, TABLE
from gracewrap.config.subcommand_names import SUBCOMMANDS
from gracewrap.linux import signals


def _bare(word: str) -> str:
    """Return a name without the differences of spelling: stopGracePeriod, stop-grace-period and
    STOP_GRACE_PERIOD are one."""
    return word.lower().replace("_", "").replace("-", "").replace(".", "")


def _known_word(word: str, spell: Callable[[str], str]) -> str:
    """Say what gracewrap calls a word of other tools, or what does that; "" if the word is unknown.
    *spell* writes a key as it is written in that place."""
    bare = _bare(word)
    if bare in ELSEWHERE:
        return ELSEWHERE[bare]
    if bare in MEANT:
        return f"did you mean {spell(MEANT[bare])}?"
    key, whose = FOREIGN.get(bare, ("", ""))
    return (
        f"gracewrap calls this {spell(key)}{f' (the word comes from {whose})' if whose else ''}"
        if key
        else ""
    )


def _word_in_table(table: str, word: str) -> str:
    """Return the key that a word of other tools means in a table; "" if it is unknown."""
    last = IN_TABLE.get(table, {}).get(_bare(word))
    return f"{table}.{last}" if last else ""


def _table_and_word(name: str) -> tuple[str, str]:
    """Take drain_url, as flags and variables have it, apart."""
    table, _, word = name.lower().replace("-", "_").partition("_")
    return (table, word) if table in IN_TABLE else ("", name)


def _is_command(word: str) -> bool:
    return FOREIGN.get(_bare(word), ("", ""))[0] == COMMAND


def unknown_option(name: str, options: Iterable[str], value: str = "") -> str:
    """Say what to write instead of an option that does not exist; *value* may have been meant as
    its value."""
    if name == "--rewrite" or name.startswith("-r"):
        return _rewrite(value if name in ("--rewrite", "-r") else name[2:]) or SHORT["--rewrite"]
    if not name.startswith("--"):
        return f"write -c {name[2:]}" if name.startswith("-c") else SHORT.get(name[:2], NO_OPTION)
    if name in SHORT:
        return SHORT[name]
    if _is_command(name):
        return "write the command after --"
    if _bare(name) in GROUP:
        return "write --kill-mode group"
    if only := next(
        (s for s in TABLE if not s.flag and s.option == name and s.key != COMMAND), None
    ):
        return f"it can only be set in a file: {_in_table(only.key)}"
    if meant := _word_in_table(*_table_and_word(name[2:])):
        return f"no such option; did you mean {_spelt(meant)}?"
    said = _known_word(name, _option)
    found = None if said else closest(name, options)
    return said or (f"no such option; did you mean {found}?" if found else NO_OPTION)


def _option(key: str) -> str:
    return BY_KEY[key].option


def _spelt(key: str) -> str:
    return _option(key) if BY_KEY[key].flag else f"{_in_table(key)}, in a file"


def _rewrite(pair: str) -> str:
    """Say what dumb-init's FROM:TO is here, in the user's own signals; "" if it is no such pair."""
    received, _, sent = pair.partition(":")
    try:
        before, after = signals.number(received), 0 if sent.strip() == "0" else signals.number(sent)
    except ValueError:
        return ""
    of, to = (
        signals.name(before).removeprefix("SIG"),
        signals.name(after).removeprefix("SIG") if after else "none",
    )
    if before not in values.request_signals(BY_KEY["stop_on"].default):
        return f"write --signal-map {of}={to}"
    return f"write --stop-signal {to}" if after else ""  # a stop request is never dropped


def unknown_key(keys: tuple[str, ...], known: Collection[str], place: str = "") -> str:
    """Say what to write instead of a TOML key that does not exist; *place* is the table of the
    program that it stands in."""
    if place:
        return _unknown_in_program(keys, known, place)
    if keys == ("group",):  # as a table
        return NO_GROUPS
    if keys[0] in OF_PROGRAMS:
        return (
            "gracewrap calls these programs; write [programs.NAME], and below it its command "
            "and settings"
        )
    if keys[0] in ("default", "defaults", "common") and len(keys) == 1:
        return (
            "the settings of all programs are a table; write [defaults], and below it their "
            "settings"
        )
    key, last = ".".join(keys), keys[-1]
    tables = {name.rpartition(".")[0] for name in known} - {""}
    if key == "drain":
        return (
            'it is a table; write [drain], and below it tcp = "auto", or http = '
            '"http://127.0.0.1:3000/drain"'
        )
    if key in tables:
        return f"it is a table; write [{key}], and its settings below"
    if len(keys) > 1 and (meant := _word_in_table(keys[0], last)):
        return f"no such setting; did you mean {_in_table(meant)}?"
    if len(keys) > 1 and last in known:
        return f"{last} is not in a table; move the line up, above the first [table]"
    flat = [
        name for name in known if "." in name and _bare(name) == _bare(last)
    ]  # log_level, as the flag is written
    if flat:
        table, _, name = flat[0].rpartition(".")
        return f'write {name} = "..." in [{table}]'
    if _bare(last) in GROUP:
        return 'write kill_mode = "group"'
    return _known_word(last, _in_table) or _close_key(keys, known, tables)


def _unknown_in_program(keys: tuple[str, ...], known: Collection[str], place: str) -> str:
    """Say what to write instead of a key in [programs.NAME] or [defaults] that does not exist.

    There the words for a time are about one program, and those for health about its readiness.
    """
    last = _bare(keys[-1])
    meant = FOREIGN.get(last, ("", ""))[0]
    if len(keys) == 1 and last in _OF_ONE:
        return _OF_ONE[last]
    if meant == BUDGET:
        return f"gracewrap calls this {TIMEOUT}"
    if len(keys) > 1 and keys[-1] in known:
        return f"{keys[-1]} is not in this table; move the line up, above [{place}.{keys[0]}]"
    said = unknown_key(keys, [key for key in known if key not in GLOBAL])
    return said.replace("[drain]", f"[{place}.drain]").replace(" in [programs.NAME]", "")


_PROBE = (
    'gracewrap calls this ready; write ready = "http://127.0.0.1:3000/health", "tcp" or {exec '
    '= ["./healthy"]}'
)


# In a table of one program, what others check it by, and its name.
_OF_ONE = {
    **dict.fromkeys(
        ("healthcheck", "health", "readinessprobe", "readiness", "startupprobe"), _PROBE
    ),
    **dict.fromkeys(("livenessprobe", "liveness"), LIVENESS),
    **dict.fromkeys(
        ("readylogline", "logline"),
        'gracewrap calls this ready; write ready = {log_line = "listening on"}',
    ),
    "logfile": OUTPUT,
    **dict.fromkeys(
        ("name", "processname"), "its name is that of its table, [programs.NAME]; remove it"
    ),
    **dict.fromkeys(("description", "comment"), "write it as a comment, after a #"),
    **dict.fromkeys(("program", "process"), "gracewrap calls this command"),
    "port": "write ready = {tcp = 3000} if it is ready when it listens there; to tell it the port, "
    'env = {PORT = "3000"}',
}


def _close_key(keys: tuple[str, ...], known: Collection[str], tables: Collection[str]) -> str:
    homes = [name for name in known if name.rpartition(".")[2] == keys[-1]]
    if homes:
        return f"no such setting; did you mean {' or '.join(map(_in_table, homes))}?"
    within = [
        name.partition(".")[2] for name in known if len(keys) > 1 and name.startswith(f"{keys[0]}.")
    ]
    if near := closest(keys[-1], within):
        return f"no such setting; did you mean {near} in [{keys[0]}]?"
    if within:
        return f"no such setting; [{keys[0]}] has {', '.join(within)}"
    if table := closest(keys[0], tables) if len(keys) == 1 else None:
        return f"no such setting; did you mean the table [{table}]?"
    found = closest(".".join(keys), known)
    return (
        f"no such setting; did you mean {_in_table(found)}?"
        if found
        else "no such setting; gracewrap init lists them"
    )


def _in_table(key: str) -> str:
    table, _, last = key.rpartition(".")
    if OF_SEVERAL.get(key, "").startswith("in "):
        return f"{key} {OF_SEVERAL[key]}"
    return f"{last} in [{table}]" if table else last


def unknown_variable(name: str, variables: Iterable[str]) -> str:
    """Say what to write instead of a GRACEWRAP_ variable that is none; "" if it is no slip, and may
    be meant for others."""
    word = name.removeprefix("GRACEWRAP_")
    if _bare(word) in ELSEWHERE or FOREIGN.get(_bare(word), ("",))[0] in ("env", "working_dir"):
        return ""  # GRACEWRAP_RESTART, GRACEWRAP_ENVIRONMENT: names that anybody might choose
    if _is_command(word):
        return "the command cannot come from a variable; write it after --"
    if _bare(word) in GROUP:
        return "write GRACEWRAP_KILL_MODE=group"
    if only := next((s for s in TABLE if not s.flag and s.variable == name), None):
        return f"it can only be set in a file: {_in_table(only.key)}"
    if (meant := _word_in_table(*_table_and_word(word))) and BY_KEY[meant].flag:
        return f"no such setting; did you mean {BY_KEY[meant].variable}?"
    if said := _known_word(word, lambda key: BY_KEY[key].variable):
        return said
    words = [variable.removeprefix("GRACEWRAP_") for variable in variables]
    found = difflib.get_close_matches(word[:100], [*words, "CONFIG"], 1, 0.75)
    return f"no such setting; did you mean GRACEWRAP_{found[0]}?" if found else ""


# Subcommands that others have, and what is done here instead.  Some are said of one program,
# `gracewrap start web`.
_LOG = (
    "the output of programs goes to gracewrap's own stdout and stderr, so read it there: docker "
    "logs, kubectl logs, journalctl"
)

_START = f"to start what {DEFAULT_FILE} defines use gracewrap run"

_DO = {
    **dict.fromkeys(("up", "serve", "supervise", "daemon", "launch", "begin"), _START),
    "start": f"{_START}; to start a stopped program again, gracewrap restart NAME",
    **dict.fromkeys(("log", "logs", "tail"), _LOG),
    "version": "use gracewrap --version",
    **dict.fromkeys(("ps", "ls", "list", "top", "info", "show", "jobs"), "use gracewrap status"),
    **dict.fromkeys(
        ("down", "shutdown", "kill", "quit", "exit", "halt", "terminate"), "use gracewrap stop"
    ),
    **dict.fromkeys(
        ("reload", "reread", "update", "hup"),
        "use gracewrap restart NAME; a changed file is read when gracewrap itself is restarted",
    ),
    **dict.fromkeys(
        ("validate", "verify", "lint", "config", "configtest", "doctor"), "use gracewrap check"
    ),
    **dict.fromkeys(("new", "create", "generate"), "use gracewrap init"),
    **dict.fromkeys(("healthz", "healthcheck", "ready", "ping"), "use gracewrap health"),
    **dict.fromkeys(("usage", "commands"), "use gracewrap --help"),
    **dict.fromkeys(("reboot", "poweroff"), "gracewrap stops what it runs, not the machine"),
}


def unknown_command(word: str, *more: str) -> str:
    """Return what may have been meant by a command that was not found, to go after the message; ""
    if that is unknown.

    *more* are the words that follow it.
    """
    if word.startswith("--"):
        return _option_as_command(word)
    if word.endswith(".toml"):
        return _file_as_command(word)
    if word in ("exec", "wrap"):
        return (
            f"; there is no gracewrap {word}: to run a command use gracewrap run -- "
            f"{_quoted(more) or 'COMMAND'}; {_START}"
        )
    if word in _DO:
        return f"; there is no gracewrap {word}: {_DO[word]}"
    if "/" in word or len(word) > 20:
        return ""
    # Both are stricter than closest(): tini has much in common with init.
    found = [one for one in SUBCOMMANDS if one[0] == word[:1] and sorted(one) == sorted(word)]
    found = found or difflib.get_close_matches(word, SUBCOMMANDS, 1, 0.78)
    return f"; did you mean gracewrap {found[0]}?" if found else ""


def _option_as_command(word: str) -> str:
    name = word.partition("=")[0]
    variable = next((s.variable for s in TABLE if s.flag and name in (s.option, *s.aliases)), "")
    variable = "GRACEWRAP_CONFIG" if name == "--config" else variable
    hint = f", or use the variable {variable}" if variable else ""
    return f"; it comes after --, so it is taken as the command; options go before the --{hint}"


def _file_as_command(word: str) -> str:
    if os.path.isfile(word):
        return f"; it is a settings file: use gracewrap --config {_quoted([word])}"
    return (
        "; a settings file goes after --config, and this one does not exist: gracewrap init "
        f"{_quoted([word])} writes one"
    )


def _quoted(words: Iterable[str]) -> str:
    return " ".join(map(shlex.quote, words))
