"""What somebody may have meant: close names, and the words of other supervisors.  Imported only when something is wrong."""

from __future__ import annotations

import difflib
import os
import shlex
from collections.abc import Callable, Collection, Iterable

from gracewrap.config.checks import OF_SEVERAL
from gracewrap.config.load import DEFAULT_FILE, SUBCOMMANDS
from gracewrap.config.parsers import values
from gracewrap.config.schema import BY_KEY, GLOBAL, TABLE
from gracewrap.linux import signals

TIMEOUT, BUDGET, SIGNAL, MODE, MAP = "stop_timeout", "shutdown_timeout", "stop_signal", "kill_mode", "signal_map"
CODES, LEVEL, COMMAND = "success_exit_codes", "log.level", "command"
PROPAGATION, READY, LISTEN = "propagation_delay", "ready", "health.listen"
RESTART, BACK_OFF, MOST_RESTARTS, DEPENDS_ON = "restart", "backoff", "max_restarts", "depends_on"

# Names that others use -> what gracewrap calls this, and whose word it is ("": nobody's in particular).
# Here as below without case, dashes and underscores.
FOREIGN: dict[str, tuple[str, str]] = {
    "stopwaitsecs": (TIMEOUT, "supervisord"),
    "stopsignal": (SIGNAL, "supervisord and Docker"),
    "killdelay": (TIMEOUT, "pebble"),
    "gracefultimeout": (TIMEOUT, "gunicorn and circus"),
    "timeoutgracefulshutdown": (TIMEOUT, "uvicorn"),
    "stopgraceperiod": (BUDGET, "Compose"),
    "terminationgraceperiodseconds": (BUDGET, "Kubernetes"),
    "terminationmessagepath": ("report.termination_log", "Kubernetes"),
    "graceperiod": (BUDGET, ""),
    "gracetimeout": (BUDGET, ""),
    "killafter": (BUDGET, "timeout(1)"),
    "timeout": (BUDGET, ""),
    "timeoutsec": (BUDGET, "systemd"),
    "timeoutstopsec": (BUDGET, "systemd"),
    "killsignal": (SIGNAL, "systemd"),
    "successexitstatus": (CODES, "systemd"),
    "killtimeout": (BUDGET, "Nomad and Fly"),
    "stoptimeout": (TIMEOUT, "ECS and containerpilot"),
    "timeoutkill": (TIMEOUT, "s6"),
    "downsignal": (SIGNAL, "s6"),
    "shutdowntimeout": (BUDGET, ""),
    "parentdeathsig": ("parent_death_signal", "tini"),
    "rewrite": (MAP, "dumb-init"),
    "requestacceptgracetimeout": (PROPAGATION, "Traefik"),
    "shutdowndelay": (PROPAGATION, "Nomad and lightship"),
    "terminationdrainduration": (PROPAGATION, "Istio"),
    "beforeshutdown": (PROPAGATION, "terminus"),
    "deregistrationdelay": (PROPAGATION, "AWS load balancers"),
    "prestopsleep": (PROPAGATION, ""),
    "minimumdrainduration": ("drain.min_drain", "Istio"),
    "exitonzeroactiveconnections": ("drain.tcp", "Istio"),
    "draintimes": ("drain.timeout", "Envoy"),
    "draintimeout": ("drain.timeout", ""),
    "hardstopafter": (BUDGET, "HAProxy"),
    "workershutdowntimeout": (BUDGET, "nginx, Puma and Dramatiq"),
    "timeoutpershutdownphase": (BUDGET, "Spring Boot"),
    "gracefulshutdowntimeout": (BUDGET, "lightship"),
    "prestop": ("pre_stop", "Kubernetes"),
    "execstop": ("pre_stop", "systemd"),
    **dict.fromkeys(("stopcommand", "onstop"), ("pre_stop", "")),
    "execstoppost": ("post_stop", "systemd"),
    "preexit": ("post_stop", ""),
    "poststop": ("post_stop", "OCI hooks"),
    "readinessprobe": (READY, "Kubernetes and process-compose"),
    "readiness": (READY, ""),
    **dict.fromkeys(("readylogline", "logline"), (READY, "process-compose")),
    "startupprobe": (READY, "Kubernetes"),
    "healthcheck": (LISTEN, "Docker"),
    "livenessprobe": (LISTEN, "Kubernetes"),
    "liveness": (LISTEN, ""),
    "watchdogsec": ("watchdog", "systemd"),
    **dict.fromkeys(("uid", "runas"), ("user", "")),
    "runasuser": ("user", "Kubernetes"),
    "setuser": ("user", ""),
    **dict.fromkeys(("gid", "setgroup"), ("group", "")),
    "runasgroup": ("group", "Kubernetes"),
    "groupadd": ("supplementary_groups", "Docker"),
    **dict.fromkeys(("directory", "dir", "cwd", "chdir"), ("working_dir", "")),
    "workdir": ("working_dir", "Docker"),
    "workingdirectory": ("working_dir", "systemd"),
    **dict.fromkeys(("environment", "environ"), ("env", "")),
    "environmentfile": ("env_file", "systemd"),
    **dict.fromkeys(("ulimit", "ulimits"), ("rlimits", "Docker")),
    **dict.fromkeys(("limitnofile", "limitnproc", "limitcore", "limitmemlock"), ("rlimits", "systemd")),
    "minfds": ("rlimits", "supervisord"),
    "renice": ("nice", ""),
    "standardinput": ("stdin", "systemd"),
    "autorestart": (RESTART, "supervisord"),
    "restartpolicy": (RESTART, "Docker and Kubernetes"),
    **dict.fromkeys(("respawn", "autorespawn"), (RESTART, "")),
    **dict.fromkeys(("restartsec", "restartmaxdelaysec", "restartsteps"), (BACK_OFF, "systemd")),
    **dict.fromkeys(("backoffdelay", "backofffactor", "backofflimit"), (BACK_OFF, "pebble")),
    **dict.fromkeys(("backoffseconds", "restartdelay"), (BACK_OFF, "")),
    "startretries": (MOST_RESTARTS, "supervisord"),
    "startlimitburst": (MOST_RESTARTS, "systemd"),
    "maxretry": (MOST_RESTARTS, "circus"),
    **dict.fromkeys(("maxretries", "retries", "restarts", "maximumretrycount"), (MOST_RESTARTS, "")),
    "onsuccess": ("on_exit", "pebble"),
    **dict.fromkeys(("requires", "wants", "bindsto", "requisite", "after"), (DEPENDS_ON, "systemd and pebble")),
    **dict.fromkeys(("dependencies", "dependency", "needs", "links", "waitfor"), (DEPENDS_ON, "")),
    **dict.fromkeys(("isoneshot", "initcontainer", "runonce"), ("oneshot", "")),
    "loglevel": (LEVEL, ""),
    "command": (COMMAND, ""),
    "cmd": (COMMAND, ""),
    "entrypoint": (COMMAND, "Docker"),
    "exec": (COMMAND, ""),
    "execstart": (COMMAND, "systemd"),
    **dict.fromkeys(("args", "argv", "script"), (COMMAND, "")),
}

# Words that may be written in a table for what it calls otherwise; as above without case, dashes and underscores.
IN_TABLE = {
    "drain": {
        **dict.fromkeys(("url", "uri", "endpoint", "path", "socket", "httpget", "request"), "http"),
        **dict.fromkeys(("command", "cmd", "script"), "exec"),
        **dict.fromkeys(("port", "ports", "connections", "listen"), "tcp"),
        **dict.fromkeys(("period", "periodseconds", "every"), "interval"),
        **dict.fromkeys(("delay", "initialdelay", "initialdelayseconds", "startperiod"), "min_drain"),
        **dict.fromkeys(("successthreshold", "consecutive", "threshold", "times"), "confirm"),
        **dict.fromkeys(("timeoutseconds", "requesttimeout"), "probe_timeout"),
        **dict.fromkeys(("grace", "killafter"), "linger"),
        **dict.fromkeys(("pointer", "jsonpath", "jsonpointer", "key"), "json"),
        **dict.fromkeys(("prometheus", "gauge"), "metric"),
        **dict.fromkeys(("regex", "regexp", "pattern", "match"), "text"),
        **dict.fromkeys(("expect", "value", "equal", "is"), "equals"),
        **dict.fromkeys(("max", "atmost", "lessthan", "below"), "at_most"),
        **dict.fromkeys(("header",), "headers"),
        **dict.fromkeys(("code", "statuscode"), "status"),
        **dict.fromkeys(("cacert", "cafile", "cabundle"), "ca"),
        **dict.fromkeys(("skipverify", "tlsskipverify", "insecureskipverify", "verify"), "insecure"),
        **dict.fromkeys(("action", "begin"), "start"),
        **dict.fromkeys(("order", "phase", "before", "after"), "when"),
        **dict.fromkeys(("probes", "checks"), "all"),
    },
    "health": dict.fromkeys(("port", "address", "addr", "bind", "host", "socket"), "listen"),
    "control": dict.fromkeys(("path", "listen", "file"), "socket"),
}

MEANT = {"signal": SIGNAL}  # close to several of ours, and this is the one
GROUP = {"stopasgroup", "killasgroup", "stopchildren"}  # of supervisord and circus: yes or no, and here a mode

# What others have a word for, and gracewrap does in another way, or not at all.
_ORDER = 'the order is not made of numbers; write depends_on = ["db"] in [programs.NAME]'
_EACH = "each program is one process; write a [programs.NAME] for each"
_RUNS_FIRST = "write it as a program of its own, with oneshot = true, and depends_on = [its name] in this one"
_OUTPUT = (
    'what it writes goes where gracewrap\'s own output goes; leave it out, or write output = "prefix" to see whose line it is'
)
_OF_CONTAINER = "it is about the container, and stays where that is described (compose.yaml, the Dockerfile); leave it out"
_RELOAD = 'SIGHUP and the like are forwarded to the command; signal_map = {HUP = "restart"} restarts it on one'
_NO_GROUPS = "there are no groups of programs; write [programs.NAME] for each, and name them one by one: gracewrap restart a b"
_LIVENESS = 'nothing is checked while it runs, but its watchdog; write watchdog = "30s" if it sends WATCHDOG=1, else leave it out'
ELSEWHERE = {
    **dict.fromkeys(
        ("autostart", "startup", "enabled", "disabled"),
        "every program in the file is started; leave it out (gracewrap stop NAME stops one)",
    ),
    "exitcodes": "0 is a success and all else a failure, but for success_exit_codes after a stop request; leave it out",
    **dict.fromkeys(("startsecs", "minuptime"), 'write backoff = {stable = "10s"}: so long it must run to count as started'),
    "startlimitintervalsec": 'write backoff = {stable = "10s"}: when it has run for so long, max_restarts counts anew',
    **dict.fromkeys(("priority", "startorder", "stoporder", "order", "weight"), _ORDER),
    "before": "the other program says it: depends_on, or stop_after, in its own [programs.NAME]",
    **dict.fromkeys(("numprocs", "numprocesses", "replicas", "scale", "instances"), _EACH),
    "availability": 'write restart = "on-failure", and below it backoff and max_restarts (it is a word of process-compose)',
    "shutdown": "write stop_signal, stop_timeout and pre_stop (it is a word of process-compose)",
    **dict.fromkeys(("exitonend", "exitonfailure"), "when it ends, all are stopped (on_exit, on_failure); leave it out"),
    "oncheckfailure": "nothing is checked while it runs, but its watchdog; write watchdog and on_watchdog",
    "type": 'write oneshot = true in [programs.NAME] if it is to run once, ready = "notify" if it says READY=1 '
    "(it is a word of systemd)",
    **dict.fromkeys(("execstartpre", "prestart"), _RUNS_FIRST),
    **dict.fromkeys(("execstartpost", "poststart"), "write it as a program with oneshot = true and depends_on = [this one]"),
    **dict.fromkeys(("execreload", "reloadsignal", "reloadcommand"), _RELOAD),
    **dict.fromkeys(
        ("timeoutstartsec", "starttimeout", "readytimeout", "timeoutstart", "launchtimeoutseconds"),
        "there is no limit for becoming ready, gracewrap only says that it takes long; leave it out",
    ),
    **dict.fromkeys(("isdaemon", "daemon"), "a program stays in the foreground; write the option that keeps it there"),
    **dict.fromkeys(
        (
            *("stdoutlogfile", "stderrlogfile", "redirectstderr", "standardoutput", "standarderror", "stdout", "stderr"),
            *("stdoutlogfilemaxbytes", "stderrlogfilemaxbytes", "stdoutlogfilebackups", "stderrlogfilebackups"),
            *("logfile", "loglocation", "logging", "stdoutpath", "stderrpath"),
        ),
        _OUTPUT,
    ),
    **dict.fromkeys(("image", "ports", "expose", "volumes", "networks", "build", "containername", "deploy"), _OF_CONTAINER),
    "shell": 'write command = ["sh", "-c", "exec ..."]',
    "groups": _NO_GROUPS,
    "nodaemon": "gracewrap stays in the foreground; leave it out",
}
# Tables that others put their programs in.
OF_PROGRAMS = {"program", "service", "services", "process", "processes", "proc", "app", "apps", "watcher", "task", "tasks"}

_NO_OPTION = "no such option; gracewrap --help lists them"
# Options of tini, dumb-init and catatonit, which people leave in an ENTRYPOINT when they change inits.
SHORT = {
    "-g": "tini's -g is --kill-mode group",
    "-s": "gracewrap is a subreaper whenever it is not PID 1; leave -s out",
    "-p": "tini's -p SIGNAL is --parent-death-signal SIGNAL",
    "-e": "tini's -e CODE is --success-exit-codes CODE",
    "-v": "write --log-level debug",
    "-q": "write --log-level warning",
    "-w": "gracewrap counts the orphans it reaps; leave -w out",
    "--single-child": "dumb-init's --single-child is what gracewrap does (kill_mode = mixed); leave it out",
    "--rewrite": "dumb-init's --rewrite HUP:QUIT is --signal-map HUP=QUIT",
    "--verbose": "write --log-level debug",
    # Nobody's, but what one may try first.
    "--strict": "it is for check; write gracewrap check --strict",
    "--drain": "write what tells that it is drained, --drain-tcp auto or --drain-http URL",
    "--health": "write where it is to answer, --health-listen :9000",
}


def _bare(word: str) -> str:
    """Return a name without what spellings differ in: stopGracePeriod, stop-grace-period and STOP_GRACE_PERIOD are one."""
    return word.lower().replace("_", "").replace("-", "").replace(".", "")


def closest(word: str, known: Iterable[str]) -> str | None:
    """Return the one of *known* that looks like *word*, or None."""
    found = difflib.get_close_matches(word[:100], known, 1, 0.7)  # no name of ours is longer, and difflib is quadratic
    return found[0] if found else None


def _known_word(word: str, spell: Callable[[str], str]) -> str:
    """Say what a word of others is here, or who does it; "" if it is none.  *spell* writes a key as it stands in that place."""
    bare = _bare(word)
    if bare in ELSEWHERE:
        return ELSEWHERE[bare]
    if bare in MEANT:
        return f"did you mean {spell(MEANT[bare])}?"
    key, whose = FOREIGN.get(bare, ("", ""))
    return f"gracewrap calls this {spell(key)}{f' (it is a word of {whose})' if whose else ''}" if key else ""


def _word_in_table(table: str, word: str) -> str:
    """Return the key that is meant by a word of others in a table; "" if it is none."""
    last = IN_TABLE.get(table, {}).get(_bare(word))
    return f"{table}.{last}" if last else ""


def _table_and_word(name: str) -> tuple[str, str]:
    """Take drain_url, as flags and variables have it, apart."""
    table, _, word = name.lower().replace("-", "_").partition("_")
    return (table, word) if table in IN_TABLE else ("", name)


def _is_command(word: str) -> bool:
    return FOREIGN.get(_bare(word), ("", ""))[0] == COMMAND


def unknown_option(name: str, options: Iterable[str], value: str = "") -> str:
    """Say what to write instead of an option that does not exist; *value* is what may have been meant for it."""
    if name == "--rewrite" or name.startswith("-r"):
        return _rewrite(value if name in ("--rewrite", "-r") else name[2:]) or SHORT["--rewrite"]
    if not name.startswith("--"):
        return f"write -c {name[2:]}" if name.startswith("-c") else SHORT.get(name[:2], _NO_OPTION)
    if name in SHORT:
        return SHORT[name]
    if _is_command(name):
        return "write the command after --"
    if _bare(name) in GROUP:
        return "write --kill-mode group"
    if only := next((s for s in TABLE if not s.flag and s.option == name and s.key != COMMAND), None):
        return f"it can stand in a file only: {_in_table(only.key)}"
    if meant := _word_in_table(*_table_and_word(name[2:])):
        return f"no such option; did you mean {_spelt(meant)}?"
    said = _known_word(name, _option)
    found = None if said else closest(name, options)
    return said or (f"no such option; did you mean {found}?" if found else _NO_OPTION)


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
    of, to = signals.name(before).removeprefix("SIG"), signals.name(after).removeprefix("SIG") if after else "none"
    if before not in values.request_signals(BY_KEY["stop_on"].default):
        return f"write --signal-map {of}={to}"
    return f"write --stop-signal {to}" if after else ""  # a stop request is never dropped


def unknown_key(keys: tuple[str, ...], known: Collection[str], place: str = "") -> str:
    """Say what to write instead of a TOML key that does not exist; *place* is the table of the program that it stands in."""
    if place:
        return _unknown_in_program(keys, known, place)
    if keys == ("group",):  # as a table
        return _NO_GROUPS
    if keys[0] in OF_PROGRAMS:
        return "gracewrap calls these programs; write [programs.NAME], and below it its command and settings"
    if keys[0] in ("default", "defaults", "common") and len(keys) == 1:
        return "what is said for all programs is a table; write [defaults], and below it their settings"
    key, last = ".".join(keys), keys[-1]
    tables = {name.rpartition(".")[0] for name in known} - {""}
    if key == "drain":
        return 'it is a table; write [drain], and below it tcp = "auto", or http = "http://127.0.0.1:3000/drain"'
    if key in tables:
        return f"it is a table; write [{key}], and its settings below"
    if len(keys) > 1 and (meant := _word_in_table(keys[0], last)):
        return f"no such setting; did you mean {_in_table(meant)}?"
    if len(keys) > 1 and last in known:
        return f"{last} is not in a table; move the line up, above the first [table]"
    flat = [name for name in known if "." in name and _bare(name) == _bare(last)]  # log_level, as the flag is written
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


_PROBE = 'gracewrap calls this ready; write ready = "http://127.0.0.1:3000/health", "tcp" or {exec = ["./healthy"]}'
# In a table of one program, what others check it by, and its name.
_OF_ONE = {
    **dict.fromkeys(("healthcheck", "health", "readinessprobe", "readiness", "startupprobe"), _PROBE),
    **dict.fromkeys(("livenessprobe", "liveness"), _LIVENESS),
    **dict.fromkeys(("readylogline", "logline"), 'gracewrap calls this ready; write ready = {log_line = "listening on"}'),
    "logfile": _OUTPUT,
    **dict.fromkeys(("name", "processname"), "its name is that of its table, [programs.NAME]; leave it out"),
    **dict.fromkeys(("description", "comment"), "write it as a comment, behind a #"),
    **dict.fromkeys(("program", "process"), "gracewrap calls this command"),
    "port": 'write ready = {tcp = 3000} if it is ready when it listens there; to tell it the port, env = {PORT = "3000"}',
}


def _close_key(keys: tuple[str, ...], known: Collection[str], tables: Collection[str]) -> str:
    homes = [name for name in known if name.rpartition(".")[2] == keys[-1]]
    if homes:
        return f"no such setting; did you mean {' or '.join(map(_in_table, homes))}?"
    within = [name.partition(".")[2] for name in known if len(keys) > 1 and name.startswith(f"{keys[0]}.")]
    if near := closest(keys[-1], within):
        return f"no such setting; did you mean {near} in [{keys[0]}]?"
    if within:
        return f"no such setting; in [{keys[0]}] there are {', '.join(within)}"
    if table := closest(keys[0], tables) if len(keys) == 1 else None:
        return f"no such setting; did you mean the table [{table}]?"
    found = closest(".".join(keys), known)
    return f"no such setting; did you mean {_in_table(found)}?" if found else "no such setting; gracewrap init lists them"


def _in_table(key: str) -> str:
    table, _, last = key.rpartition(".")
    if OF_SEVERAL.get(key, "").startswith("in "):
        return f"{key} {OF_SEVERAL[key]}"
    return f"{last} in [{table}]" if table else last


def unknown_variable(name: str, variables: Iterable[str]) -> str:
    """Say what to write instead of a GRACEWRAP_ variable that is none; "" if it is no slip, and may be meant for others."""
    word = name.removeprefix("GRACEWRAP_")
    if _bare(word) in ELSEWHERE or FOREIGN.get(_bare(word), ("",))[0] in ("env", "working_dir"):
        return ""  # GRACEWRAP_RESTART, GRACEWRAP_ENVIRONMENT: names that anybody might choose
    if _is_command(word):
        return "the command cannot come from a variable; write it after --"
    if _bare(word) in GROUP:
        return "write GRACEWRAP_KILL_MODE=group"
    if only := next((s for s in TABLE if not s.flag and s.variable == name), None):
        return f"it can stand in a file only: {_in_table(only.key)}"
    if (meant := _word_in_table(*_table_and_word(word))) and BY_KEY[meant].flag:
        return f"no such setting; did you mean {BY_KEY[meant].variable}?"
    if said := _known_word(word, lambda key: BY_KEY[key].variable):
        return said
    words = [variable.removeprefix("GRACEWRAP_") for variable in variables]
    found = difflib.get_close_matches(word[:100], [*words, "CONFIG"], 1, 0.75)
    return f"no such setting; did you mean GRACEWRAP_{found[0]}?" if found else ""


# Subcommands that others have, and what is done here instead.  Some are said of one program, `gracewrap start web`.
_LOG = "what is written goes to gracewrap's own stdout and stderr, so ask for it there: docker logs, kubectl logs, journalctl"
_START = f"to start what a file says write gracewrap --config {DEFAULT_FILE}"
_DO = {
    **dict.fromkeys(("up", "serve", "supervise", "daemon", "launch", "begin"), _START),
    "start": f"{_START}; to start a program again that was stopped, gracewrap restart NAME",
    **dict.fromkeys(("log", "logs", "tail"), _LOG),
    "version": "write gracewrap --version",
    **dict.fromkeys(("ps", "ls", "list", "top", "info", "show", "jobs"), "write gracewrap status"),
    **dict.fromkeys(("down", "shutdown", "kill", "quit", "exit", "halt", "terminate"), "write gracewrap stop"),
    **dict.fromkeys(
        ("reload", "reread", "update", "hup"),
        "write gracewrap restart NAME; a changed file is read when gracewrap itself is started again",
    ),
    **dict.fromkeys(("validate", "verify", "lint", "config", "configtest", "doctor"), "write gracewrap check"),
    **dict.fromkeys(("new", "create", "generate"), "write gracewrap init"),
    **dict.fromkeys(("healthz", "healthcheck", "ready", "ping"), "write gracewrap health"),
    **dict.fromkeys(("usage", "man", "commands"), "write gracewrap --help"),
}


def unknown_command(word: str, *more: str) -> str:
    """Return what may have been meant by a command that was not found, to go after the message; "" if nobody knows.

    *more* are the words that follow it.
    """
    if word.startswith("--"):
        return _option_as_command(word)
    if word.endswith(".toml"):
        return _file_as_command(word)
    if word in ("run", "exec", "wrap"):
        return f"; there is no gracewrap {word}: to run a command write gracewrap -- {_quoted(more) or 'COMMAND'}; {_START}"
    if word in _DO:
        return f"; there is no gracewrap {word}: {_DO[word]}"
    if "/" in word or len(word) > 20:
        return ""
    found = difflib.get_close_matches(word, SUBCOMMANDS, 1, 0.78)  # more than tini has in common with init
    return f"; did you mean gracewrap {found[0]}?" if found else ""


def _option_as_command(word: str) -> str:
    name = word.partition("=")[0]
    variable = next((s.variable for s in TABLE if s.flag and name in (s.option, *s.aliases)), "")
    variable = "GRACEWRAP_CONFIG" if name == "--config" else variable
    hint = f", or use the variable {variable}" if variable else ""
    return f"; it stands after --, so it is the command; options go before the --{hint}"


def _file_as_command(word: str) -> str:
    if os.path.isfile(word):
        return f"; it is a file of settings: write gracewrap --config {_quoted([word])}"
    return f"; a file of settings stands after --config, and this one is not here: gracewrap init {_quoted([word])} writes one"


def _quoted(words: Iterable[str]) -> str:
    return " ".join(map(shlex.quote, words))
