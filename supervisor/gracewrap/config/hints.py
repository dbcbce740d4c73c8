"""What somebody may have meant: close names, and the words of other supervisors.  Imported only when something is wrong."""

from __future__ import annotations

import difflib
from collections.abc import Collection, Iterable

TIMEOUT, BUDGET, SIGNAL, MODE, MAP = "stop_timeout", "shutdown_timeout", "stop_signal", "kill_mode", "signal_map"
CODES, LEVEL, COMMAND = "success_exit_codes", "log.level", "command"

# Names that others use -> what gracewrap calls this, and whose word it is.  Without case, dashes and underscores.
FOREIGN: dict[str, tuple[str, str]] = {
    "stopwaitsecs": (TIMEOUT, "supervisord"),
    "stopsignal": (SIGNAL, "supervisord and Docker"),
    "stopasgroup": (MODE, "supervisord"),
    "killasgroup": (MODE, "supervisord"),
    "exitcodes": (CODES, "supervisord"),
    "killdelay": (TIMEOUT, "pebble"),
    "gracefultimeout": (TIMEOUT, "gunicorn and circus"),
    "timeoutgracefulshutdown": (TIMEOUT, "uvicorn"),
    "stopchildren": (MODE, "circus"),
    "stopgraceperiod": (BUDGET, "Compose"),
    "terminationgraceperiodseconds": (BUDGET, "Kubernetes"),
    "terminationmessagepath": ("report.termination_log", "Kubernetes"),
    "graceperiod": (BUDGET, "others"),
    "gracetimeout": (BUDGET, "others"),
    "killafter": (BUDGET, "timeout(1)"),
    "timeout": (BUDGET, "others"),
    "timeoutsec": (BUDGET, "systemd"),
    "timeoutstopsec": (BUDGET, "systemd"),
    "killsignal": (SIGNAL, "systemd"),
    "successexitstatus": (CODES, "systemd"),
    "killtimeout": (BUDGET, "Nomad and Fly"),
    "stoptimeout": (TIMEOUT, "ECS and containerpilot"),
    "timeoutkill": (TIMEOUT, "s6"),
    "downsignal": (SIGNAL, "s6"),
    "shutdowntimeout": (BUDGET, "others"),
    "parentdeathsig": ("parent_death_signal", "tini"),
    "rewrite": (MAP, "dumb-init"),
    "loglevel": (LEVEL, "others"),
    "command": (COMMAND, "its files"),
    "cmd": (COMMAND, "others"),
    "entrypoint": (COMMAND, "Docker"),
    "exec": (COMMAND, "others"),
}

# Short options of tini, dumb-init and catatonit, which people leave in an ENTRYPOINT when they change inits.
SHORT = {
    "-g": "tini's -g is --kill-mode group",
    "-s": "gracewrap is a subreaper whenever it is not PID 1; leave -s out",
    "-p": "tini's -p SIGNAL is --parent-death-signal SIGNAL",
    "-e": "tini's -e CODE is --success-exit-codes CODE",
    "-r": "dumb-init's -r HUP:QUIT is --signal-map HUP=QUIT",
    "-v": "write --log-level debug",
    "-q": "write --log-level warning",
    "-w": "gracewrap counts the orphans it reaps; leave -w out",
    "--single-child": "dumb-init's --single-child is what gracewrap does (kill_mode = mixed); leave it out",
    "--rewrite": "dumb-init's --rewrite HUP:QUIT is --signal-map HUP=QUIT",
    "--verbose": "write --log-level debug",
}


def _bare(word: str) -> str:
    """Return a name without what spellings differ in: stopGracePeriod, stop-grace-period and STOP_GRACE_PERIOD are one."""
    return word.lower().replace("_", "").replace("-", "").replace(".", "")


def closest(word: str, known: Iterable[str]) -> str | None:
    """Return the one of *known* that looks like *word*, or None."""
    found = difflib.get_close_matches(word[:100], known, 1, 0.7)  # no name of ours is longer, and difflib is quadratic
    return found[0] if found else None


def unknown_option(name: str, options: Iterable[str]) -> str:
    """Say what to write instead of an option that does not exist."""
    if not name.startswith("--"):
        if name.startswith("-c"):
            return f"write -c {name[2:]}"
        return SHORT.get(name[:2], "no such option; gracewrap --help lists them")
    if name in SHORT:
        return SHORT[name]
    foreign = FOREIGN.get(_bare(name))
    if foreign and foreign[0] == COMMAND:
        return "write the command after --"
    if foreign:
        key, whose = foreign
        return f"gracewrap calls this --{key.replace('.', '-').replace('_', '-')} (it is a word of {whose})"
    found = closest(name, options)
    return f"no such option; did you mean {found}?" if found else "no such option; gracewrap --help lists them"


def unknown_key(keys: tuple[str, ...], known: Collection[str]) -> str:
    """Say what to write instead of a TOML key that does not exist."""
    key, last = ".".join(keys), keys[-1]
    tables = {name.rpartition(".")[0] for name in known} - {""}
    if key in tables:
        return f"it is a table; write [{key}], and its settings below"
    if len(keys) > 1 and last in known:
        return f"{last} is not in a table; move the line up, above the first [table]"
    foreign = FOREIGN.get(_bare(last))
    if foreign:
        name, whose = foreign
        return f"gracewrap calls this {_in_table(name)} (it is a word of {whose})"
    homes = [name for name in known if name.rpartition(".")[2] == last]
    if homes:
        return f"no such setting; did you mean {' or '.join(map(_in_table, homes))}?"
    if table := closest(keys[0], tables) if len(keys) == 1 else None:
        return f"no such setting; did you mean the table [{table}]?"
    found = closest(key, known)
    return f"no such setting; did you mean {_in_table(found)}?" if found else "no such setting; gracewrap init lists them"


def _in_table(key: str) -> str:
    table, _, last = key.rpartition(".")
    return f"{last} in [{table}]" if table else last


def unknown_variable(name: str, variables: Iterable[str]) -> tuple[str, bool]:
    """Say what to write instead of a GRACEWRAP_ variable that is none, and whether it must be a slip of the pen."""
    word = name.removeprefix("GRACEWRAP_")
    foreign = FOREIGN.get(_bare(word))
    if foreign and foreign[0] == COMMAND:
        return "the command cannot come from a variable; write it after --", True
    if foreign:
        key, whose = foreign
        return f"gracewrap calls this GRACEWRAP_{key.replace('.', '_').upper()} (it is a word of {whose})", True
    words = [variable.removeprefix("GRACEWRAP_") for variable in variables]
    found = difflib.get_close_matches(word, [*words, "CONFIG"], 1, 0.75)
    if found:
        return f"no such setting; did you mean GRACEWRAP_{found[0]}?", True
    return "no such setting; ignored", False


def not_toml(line: str) -> str:
    """Say how to write a line that TOML cannot read; "" if there is nothing to say."""
    key, equals, value = (part.strip() for part in line.partition("="))
    if not equals and (line == "---" or line[:1] in '{"' or ":" in line):
        return '; TOML is written like this: shutdown_timeout = "25s"'
    word = value.partition("#")[0].strip()
    if equals and word and word[0] not in "\"'[{":
        return f'; text needs quotes: {key} = "{word}"'
    return ""
