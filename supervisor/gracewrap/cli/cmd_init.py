"""`gracewrap init`: a commented gracewrap.toml, made from the table of settings; with --programs a
short one to start from."""

from __future__ import annotations

import shlex
import sys
import textwrap

import tomli_w

from gracewrap.config.problems import DEFAULT_FILE
from gracewrap.config.schema import GLOBAL, SECTIONS, TABLE, section
from gracewrap.config.schema_core import Setting

_HEAD = """\
# gracewrap.toml: how gracewrap runs and stops a command.
#
# Several programs instead?  gracewrap init --programs  writes a short file to start from.  All
# that can be said of them, and how to make this file one of several programs, stands at its end.
#
# Lines that start with "#" and a setting show its default, or an example where there is none;
# remove the "#" to change it. Durations have a unit: "500ms", "10s", "1m30s".  Say what is in
# force, and what is wrong:  gracewrap check
"""
_ELSEWHERE = "They stand at the end of the file; this is said once for all of them."
_PROGRAMS = """

# Several programs, instead of the one command: take that out above, and the "#" away here.  Each
# program has its command, and any setting of a command; what is said for all of them stands in
# [defaults].  Only the settings that are about the whole run stay where they are
# (shutdown_timeout, stop_on, signal_map, on_repeat, flush_timeout, exit_code_from, [health],
# [log] and so on).

#[defaults]
#output = "prefix"

#[programs.db]
#command = ["postgres", "-D", "/var/lib/postgresql/data"]
#stop_signal = "INT"
#ready = {exec = ["pg_isready", "--quiet"]}

"""
# What --programs writes.
_SEVERAL = """\
# gracewrap.toml: how gracewrap starts and stops several programs.
#
# They start in the order in which they need each other, and stop in the inverse.  Put your own
# commands in.  What is in force, when each of them is stopped at the latest, and what is wrong,
# says:  gracewrap check
# All other settings, with their meaning and default:  gracewrap init -

# The whole budget for a stop of all, which they share.  Keep it below the orchestrator's grace
# period (Docker 10 s, Kubernetes and ECS 30 s).
shutdown_timeout = "25s"

# What is about the whole run stands here, above the tables: whose exit status is gracewrap's, and
# what a signal does.
#exit_code_from = "web"
#signal_map = {HUP = "restart"}

# What is said of each program that does not say otherwise.
[defaults]
# Each line of what it writes goes out behind its name.
output = "prefix"

# It runs once.  What depends on it starts when it has exited with 0; if it fails, nothing else is
# started.
[programs.migrate]
command = ["node", "migrate.js"]
oneshot = true

# When it ends by itself, all are stopped: that is what on_exit and on_failure say where they are
# left out.
[programs.web]
command = ["node", "server.js"]
depends_on = ["migrate"]
# It is ready when it listens.  Others: "http://127.0.0.1:3000/health", {exec = ["./healthy"]},
# {log_line = "listening on"}
ready = "tcp"

# When it fails it is started again, 5 times in a row at most; then all are stopped.
[programs.worker]
command = ["node", "worker.js"]
depends_on = ["migrate"]
restart = "on-failure"
max_restarts = 5
# From its stop signal to SIGKILL.  Without it: all that is left of the budget.
#stop_timeout = "20s"
# Variables of this one alone.
#[programs.worker.env]
#QUEUE = "mail"

# Answer /livez, /readyz (200 when all are ready), /metrics and /status.
#[health]
#listen = [":9000"]
"""
_WEB = """
#[programs.web]
#command = ["node", "server.js"]
"""


def init(file: str, force: bool, programs: bool = False) -> int:
    """Write the template, or that of several *programs*, to *file* ("-": standard output); return
    the exit status."""
    text = _SEVERAL if programs else template()
    option = "" if file in ("-", DEFAULT_FILE) else f" --config {shlex.quote(file)}"
    text = text.replace("gracewrap check\n", f"gracewrap check{option}\n")
    if file == "-":
        print(text, end="")
        return 0
    try:
        with open(file, "w" if force else "x", encoding="utf-8") as out:
            out.write(text)
    except FileExistsError:
        print(
            f"gracewrap: {file!r} is there already; write --force to replace it, or another name",
            file=sys.stderr,
        )
        return 125
    except OSError as error:
        print(f"gracewrap: cannot write {file!r}: {error.strerror}", file=sys.stderr)
        return 125
    what = "commands" if programs else "command"
    print(f"wrote {file}; put your {what} into it, then: gracewrap check{option}")
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
            parts.append(
                f"\n[{table}]\n{_comment(sentence)}"
                if table
                else f"\n\n# {heading}\n#\n{_comment(sentence)}"
            )
            before = here
        parts.append("\n" + _comment(setting.help) + _line(setting, name))
    return "".join(parts) + _programs()


def _programs() -> str:
    """Return an example of several programs, with the settings that only they have."""
    only = {
        s.key: _comment(s.help) + _line(s, s.key)
        for s in TABLE
        if section(s) == "programs" and s.key not in GLOBAL
    }
    return (
        _PROGRAMS + only.pop("stop_after") + _WEB + "".join(f"\n{text}" for text in only.values())
    )


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
