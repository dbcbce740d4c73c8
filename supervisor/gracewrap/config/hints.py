"""What somebody may have meant: close names, and the words of other supervisors.  Imported only when something is wrong."""

from __future__ import annotations

import difflib

TIMEOUT, BUDGET, SIGNAL, MODE, MAP = "stop_timeout", "shutdown_timeout", "stop_signal", "kill_mode", "signal_map"
CODES, LEVEL, COMMAND = "success_exit_codes", "log.level", "command"

# Names that others use -> what gracewrap calls this.  Compared without case, dashes and underscores.
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
    "graceperiod": (BUDGET, "most"),
    "timeoutstopsec": (BUDGET, "systemd"),
    "killsignal": (SIGNAL, "systemd"),
    "successexitstatus": (CODES, "systemd"),
    "killtimeout": (BUDGET, "Nomad and Fly"),
    "stoptimeout": (TIMEOUT, "ECS and containerpilot"),
    "timeoutkill": (TIMEOUT, "s6"),
    "downsignal": (SIGNAL, "s6"),
    "shutdowntimeout": (BUDGET, "many"),
    "parentdeathsig": ("parent_death_signal", "tini"),
    "rewrite": (MAP, "dumb-init"),
    "loglevel": (LEVEL, "others"),
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
    return word.lower().replace("_", "").replace("-", "").replace(".", "")


def closest(word: str, known: object) -> str | None:
    """Return the one of *known* (any iterable of strings) that looks like *word*, or None."""
    found = difflib.get_close_matches(word, list(known), 1, 0.7)  # type: ignore[call-overload]
    return str(found[0]) if found else None


def unknown_option(name: str, options: object) -> str:
    """Say what to write instead of an option that does not exist."""
    if name in SHORT or (name[:2] in SHORT and not name.startswith("--")):
        return SHORT.get(name) or SHORT[name[:2]]
    foreign = FOREIGN.get(_bare(name))
    if foreign:
        key, whose = foreign
        flag = "--" + key.replace(".", "-").replace("_", "-")
        return f"gracewrap calls this {flag} (it is a word of {whose})" if key != COMMAND else "write the command after --"
    found = closest(name, options)
    return f"no such option; did you mean {found}?" if found else "no such option; gracewrap --help lists them"


def unknown_key(key: str, known: object) -> str:
    """Say what to write instead of a TOML key that does not exist."""
    foreign = FOREIGN.get(_bare(key.rpartition(".")[2]))
    if foreign:
        name, whose = foreign
        table, _, last = name.rpartition(".")
        return f"gracewrap calls this {last}{f' in [{table}]' if table else ''} (it is a word of {whose})"
    found = closest(key, known)
    if not found:
        return "no such setting; gracewrap init writes a file with all of them"
    table, _, last = found.rpartition(".")
    return f"no such setting; did you mean {last}{f' in [{table}]' if table else ''}?"


def unknown_variable(name: str, variables: object) -> tuple[str, bool]:
    """Say what to write instead of a GRACEWRAP_ variable that is none, and whether it must be a slip of the pen."""
    foreign = FOREIGN.get(_bare(name.removeprefix("GRACEWRAP_")))
    if foreign and foreign[0] == COMMAND:
        return "the command cannot come from a variable; write it after --", True
    if foreign:
        key, whose = foreign
        return f"gracewrap calls this GRACEWRAP_{key.replace('.', '_').upper()} (it is a word of {whose})", True
    word = name.removeprefix("GRACEWRAP_")
    words = {str(v).removeprefix("GRACEWRAP_"): str(v) for v in variables}  # type: ignore[attr-defined]
    found = difflib.get_close_matches(word, list(words), 1, 0.75)
    if found:
        return f"no such setting; did you mean {words[found[0]]}?", True
    return "no such setting; ignored", False
