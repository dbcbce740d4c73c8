"""`gracewrap init`: writes a commented gracewrap.toml, made from the table of settings."""

from __future__ import annotations

import shlex
import sys
import textwrap

from gracewrap.cli.cmd_presets import text_of
from gracewrap.cli.subcommand import Arguments, Option, Subcommand
from gracewrap.config.problems import DEFAULT_FILE
from gracewrap.config.schema import GLOBAL, SECTIONS, TABLE, section
from gracewrap.config.schema_core import Setting

# By this line taplo, and editors that use it, know the schema.
SCHEMA_LINE = "#:schema ./gracewrap.schema.json\n"
_HEAD = """\
# gracewrap.toml: how gracewrap runs and stops a command.
#
# For several programs, gracewrap init --programs writes a short file to start from.  The end of
# this file shows all of their settings, and how to turn this file into one of several programs.
#
# A line that starts with "#" and a setting shows its default, or an example if there is none;
# remove the "#" to change it.  Durations have a unit: "500ms", "10s", "1m30s".  To see which
# settings are in force, and what is wrong, run:  gracewrap check
#
# For an editor that completes and checks this file (taplo), run:
#   gracewrap schema > gracewrap.schema.json
"""
_ELSEWHERE = "They are at the end of the file; this one is for all of them together."
_PROGRAMS = """

# Several programs, instead of the one command: remove the command above, and the "#" here.  Each
# program has a command, and any setting of a command; [defaults] holds settings for all of them.
# Only the settings of the whole run stay where they are (shutdown_timeout, stop_on, signal_map,
# on_repeat, flush_timeout, exit_code_from, [health], [log] and so on).

#[defaults]
#output = "prefix"

#[programs.db]
#command = ["postgres", "-D", "/var/lib/postgresql/data"]
#stop_signal = "INT"
#ready = {exec = ["pg_isready", "--quiet"]}

"""
# What --for writes below a preset.
_FOR = """
# Replace the command with your own.  To see what is in force, and what is wrong, run:
# gracewrap check
# For all other settings, with their meaning and default, run:  gracewrap init -
"""
# What --programs writes.
_SEVERAL = """\
# gracewrap.toml: how gracewrap starts and stops several programs.
#
# They start in the order in which they depend on each other, and stop in the reverse order.
# Replace the commands with your own.  To see what is in force, when each program is stopped, and
# what is wrong, run:  gracewrap check
# For all other settings, with their meaning and default, run:  gracewrap init -

# The whole budget for stopping all of them.  It must be shorter than the orchestrator's grace
# period (Docker 10 s, Kubernetes and ECS 30 s).
shutdown_timeout = "25s"

# Settings of the whole run stand here, above the tables: whose exit status is gracewrap's, and what
# a signal does.
#exit_code_from = "web"
#signal_map = {HUP = "restart"}

# Settings of every program, unless the program has its own.
[defaults]
# Each line that a program writes is printed behind its name.
output = "prefix"

# It runs once.  The programs that depend on it start when it has exited with 0; if it fails,
# nothing else is started.
[programs.migrate]
command = ["node", "migrate.js"]
oneshot = true

# When it ends by itself, all programs are stopped (on_exit and on_failure can change that).
[programs.web]
command = ["node", "server.js"]
depends_on = ["migrate"]
# It is ready when it listens.  Others: "http://127.0.0.1:3000/health", {exec = ["./healthy"]},
# {log_line = "listening on"}
ready = "tcp"

# When it fails it is restarted, at most 5 times in a row; then all programs are stopped.
[programs.worker]
command = ["node", "worker.js"]
depends_on = ["migrate"]
restart = "on-failure"
max_restarts = 5
# From its stop signal to SIGKILL.  Default: all that is left of the budget.
#stop_timeout = "20s"
# Environment variables of this program only.
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


def init(arguments: Arguments) -> int:
    """Write a file with all settings, or one for several programs; return the exit status."""
    file = "".join(arguments.names) or DEFAULT_FILE
    if arguments.preset:
        text = text_of(arguments.preset, "init --for") + _FOR
    else:
        text = _SEVERAL if arguments.programs else template()
    option = "" if file in ("-", DEFAULT_FILE) else f" --config {shlex.quote(file)}"
    text = text.replace("gracewrap check\n", f"gracewrap check{option}\n")
    text = SCHEMA_LINE + text
    if file == "-":
        print(text, end="")
        return 0
    try:
        with open(file, "w" if arguments.force else "x", encoding="utf-8") as out:
            out.write(text)
    except FileExistsError:
        print(
            f"gracewrap: {file!r} exists; use --force to replace it, or another name",
            file=sys.stderr,
        )
        return 125
    except OSError as error:
        print(f"gracewrap: cannot write {file!r}: {error.strerror}", file=sys.stderr)
        return 125
    what = "commands" if arguments.programs else "command"
    print(f"wrote {file}; put your {what} into it, then run: gracewrap check{option}")
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
    import tomli_w  # the help must do without it

    return tomli_w.dumps({"x": value}).removeprefix("x = ").rstrip("\n")


INIT = Subcommand(
    "init",
    """\
gracewrap init writes a file with every setting, its meaning and its default,
commented out. Every setting is also an option of a run, except the command and
what is only for several programs, for which the file has an example.

gracewrap init --programs writes a short file for several programs instead: a
migration, a web server and a worker, to be replaced with your own.

gracewrap init --for NAME writes the settings for a well-known program; gracewrap
presets lists them.
""",
    ("[--programs | --for NAME] [--force] [FILE]",),
    (
        Option(("--programs",), "Write a file for several programs."),
        Option(
            ("--for",), "Write a preset, as listed by gracewrap presets.", "NAME", "nginx", "preset"
        ),
        Option(("--force",), "Replace an existing file."),
    ),
    """\
gracewrap init
gracewrap init --for nginx
gracewrap init --programs
gracewrap init --force web.toml
gracewrap init - | less
""",
    """\
  0    the file is written
  125  it cannot be written, or exists already
""",
    init,
    ("FILE", "Where to write it; - is standard output. [default: gracewrap.toml]"),
    1,
    """\
  There are no other options. The file has all options of a run, as listed by
  gracewrap help all; gracewrap check tells whether what you wrote can be used.
""",
)
