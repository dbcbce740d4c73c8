"""`gracewrap --help` and `gracewrap help TOPIC`: made from the table of settings.  Plain text; on a
terminal, rich makes names bold if it is there."""

from __future__ import annotations

import shutil
import sys
import textwrap
from collections.abc import Callable, Sequence

from gracewrap.cli.help_topics import (
    EXIT_STATUS,
    ORDER,
    SHOWN,
    default_of,
    entry,
    indented,
    names_of,
    nearest,
    topic_text,
)
from gracewrap.cli.subcommand import Subcommand
from gracewrap.cli.wait import complain
from gracewrap.config.parsers.preset_names import PRESETS
from gracewrap.config.schema import SECTIONS, TABLE, section

_SHORT = """\
gracewrap wraps any command and stops it gracefully.

Run:
  gracewrap [OPTIONS] [--] COMMAND [ARG...]  a command, word for word
  gracewrap --config FILE                    what a file defines: a command or
                                             several programs
  gracewrap                                  what ./gracewrap.toml defines
Prepare:
  check [OPTIONS] [--] [COMMAND]  find mistakes, show the settings in force
  init [--for NAME] [FILE]        write a file with every setting, or a preset
  presets [NAME]                  settings for nginx, Node.js, Celery and others
  schema, completion, man         for editors, for shells, the manual page
  plan, report, drill             draw the next stop, draw a past one, rehearse
                                  one under load
  learn FILE...                   derive settings from observed stops
Control a running gracewrap:
  status [NAME]                   what it does, and what a stop would wait for
  health                          whether the service is ready
  drain, undrain                  finish the work in flight without a stop
  stop [NAME...]                  stop everything, or some programs
  restart NAME...                 restart some programs
  signal NAME SIGNAL, reopen      signal one program; reopen the log file
Common options:
  --preset NAME                   settings for a well-known program
  --shutdown-timeout 8s           the budget; less than Docker's 10 s
  --stop-signal QUIT              the signal that stops the command
  --drain-tcp auto                watch its connections
  --health-listen :9000           /livez, /readyz, /metrics, /status
  -c, --config FILE; -h, --help; -V, --version
More:
  gracewrap help all              every option, with examples
  gracewrap help TOPIC            {topics}
  gracewrap help drain.tcp        one setting
  gracewrap status --help         one subcommand
Exit status:
  the command's own; 128+N if signal N ended it
  125 a mistake in options or file, 126 not executable, 127 not found
"""
_HEAD = """\
gracewrap wraps any command and stops it gracefully.

It forwards signals and reaps zombies, as a PID 1 must. When it is asked to
stop, it sends the command its stop signal, gives everything that is running
one time budget to exit, sends SIGKILL to what is left, and reports what
happened.

Usage:
  gracewrap [OPTIONS] [--] COMMAND [ARG...]   wrap a command, word for word
  gracewrap --config gracewrap.toml           wrap what a file defines: one
                                              command or several programs
  gracewrap check [OPTIONS] [--] [COMMAND]    find mistakes, show the settings
                                              in force
  gracewrap init [--programs] [FILE]          write a file with every setting,
                                              or one for several programs
  gracewrap status|drain|undrain|stop|restart|signal|reopen|health
                                              control a running gracewrap

Examples:
  Docker, which kills 10 s after `docker stop`:
    ENTRYPOINT ["gracewrap", "--shutdown-timeout", "8s", "--"]
    CMD ["node", "server.js"]

  Kubernetes, which kills after 30 s, and keeps what is written to this file:
    command: ["gracewrap", "--termination-log", "/dev/termination-log", "--"]
    args: ["./server"]

  nginx, which cuts requests on SIGTERM and finishes them on SIGQUIT:
    gracewrap --stop-signal QUIT -- nginx -g "daemon off;"

  npm, which dies of SIGTERM before its server has ended; this is no failure:
    gracewrap --preset npm -- npm start

  A server that is done long before it exits, if it ever does: watch its
  connections, and kill it some seconds after the last answer:
    gracewrap --drain-tcp auto --drain-linger 2s -- node server.js

  A server that drops requests on SIGTERM, behind a load balancer: /readyz says
  503, it serves for 5 s more, and SIGTERM waits until no request is in flight:
    gracewrap --health-listen :9000 --propagation-delay 5s \\
      --drain-tcp auto --drain-when before-signal -- python3 server.py

  A worker that reports how many jobs it still has:
    gracewrap --drain-http http://127.0.0.1:3000/stats \\
      --drain-json /active/jobs -- ./worker

  Jobs that may take long: SIGINT after 10 minutes, SIGKILL after 15:
    gracewrap --shutdown-timeout 15m --escalation 10m=INT -- ./worker

  A worker that is restarted when it fails, at most 5 times in a row:
    gracewrap --restart on-failure --max-restarts 5 -- ./worker

  Several programs, in a file (gracewrap init --programs writes one). They start
  in the order of their dependencies, stop in reverse order, and share one
  budget; gracewrap check shows when each of them is stopped:
    [programs.db]
    command = ["postgres", "-D", "/data"]
    ready = {exec = ["pg_isready", "--quiet"]}
    stop_signal = "INT"
    [programs.web]
    command = ["node", "server.js"]
    depends_on = ["db"]
"""
_END = """
Durations have a unit: 500ms, 10s, 1m30s. Signals: TERM, SIGTERM, 15, RTMIN+1.
Lists and maps are written with commas, or by repeating the option; variables
(--env) only by repeating it.

Every option is also a variable and a key in the file; one setting, three ways:
  --log-level debug     GRACEWRAP_LOG_LEVEL=debug     [log] level = "debug"
An option overrides a variable, a variable overrides the file. An option that
is true or false needs no value: --notify, or --notify=false.

Exit status:
"""


def show(words: Sequence[str], load: Callable[[str], Subcommand]) -> int:
    """Print the help about the topics, as wide as the terminal; return the exit status."""
    terminal = sys.stdout is not None and sys.stdout.isatty()
    width = min(100, max(50, shutil.get_terminal_size().columns)) if terminal else 80
    texts = []
    for word in words or ("",):
        text = short_text(width) if not word else help_text(width) if word == "all" else ""
        text = text or topic_text(word, width, load)
        if not text:
            near = nearest(word)
            hint = f"use {near}" if near else f"use one of {', '.join(('all', *SHOWN))}"
            if word in PRESETS:
                hint = f"for the preset use gracewrap presets {word}"
            complain(f"cannot help with {word!r}: there is no such topic; {hint}")
            return 125
        texts.append(text)
    text = "\n".join(texts)
    if not terminal or not _show_bold(text):
        print(text, end="")
    return 0


def short_text(width: int) -> str:
    """Return the help that fits a screen."""
    listed = "a part of the settings: " + ", ".join(SHOWN)
    topics = ("\n" + " " * 34).join(textwrap.wrap(listed, width - 35))
    return _SHORT.replace("{topics}", topics)


def help_text(width: int) -> str:
    """Return all options; their descriptions are as wide as *width*."""
    parts = [
        _HEAD,
        "\nOptions:\n",
        entry("-c, --config FILE", "Read settings from a TOML file.", width),
        entry("--no-drain", "Leave out the drain that a file or a preset has.", width),
        entry("-h, --help", "Print the short help.", width),
        entry("-V, --version", "Print the version.", width),
    ]
    for part in ORDER:
        heading, sentence = SECTIONS[part]
        parts.append(f"\n{heading}:\n{indented(sentence, width, 2)}\n")
        parts += [
            entry(names_of(s), s.help + default_of(s), width)
            for s in TABLE
            if s.flag and section(s) == part
        ]
    return "".join([*parts, _END, EXIT_STATUS])


def _show_bold(text: str) -> bool:
    """Print with headings and option names in bold, and return whether that was possible."""
    try:
        from rich.console import Console
        from rich.text import Text
    except ImportError:
        return False
    console = Console(highlight=False, soft_wrap=True)
    for line in text.splitlines():
        heading = line.endswith(":") and not line.startswith(" ")
        console.print(
            Text(line, style="bold" if heading or line.startswith(("  -", "gracewrap")) else "")
        )
    return True
