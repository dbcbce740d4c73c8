"""`gracewrap --help`: made from the table of settings.  Plain text; on a terminal, rich makes names
bold if it is there."""

from __future__ import annotations

import shutil
import sys
import textwrap

from gracewrap.config.problems import show as as_toml
from gracewrap.config.schema import SECTIONS, TABLE, section
from gracewrap.config.schema_core import Setting

_HEAD = """\
gracewrap wraps any command and stops it gracefully.

It forwards signals and reaps zombies, as a PID 1 must. When it is asked to
stop, it sends the command its stop signal, gives everything that is running
one budget of time to end, SIGKILLs what is left, and says what happened.

Usage:
  gracewrap [OPTIONS] [--] COMMAND [ARG...]   wrap a command, word for word
  gracewrap --config gracewrap.toml           wrap what a file says, one command
                                              or several programs
  gracewrap check [OPTIONS] [--] [COMMAND]    what is wrong, or what is in force
  gracewrap init [--programs] [FILE]          write a file with every setting,
                                              or one for several programs
  gracewrap status|drain|undrain|stop|restart|health
                                              talk to a gracewrap that runs

Examples:
  Docker, which kills 10 s after `docker stop`:
    ENTRYPOINT ["gracewrap", "--shutdown-timeout", "8s", "--"]
    CMD ["node", "server.js"]

  Kubernetes, which kills after 30 s, and keeps what is written to this file:
    command: ["gracewrap", "--termination-log", "/dev/termination-log", "--"]
    args: ["./server"]

  nginx, which cuts requests on SIGTERM and finishes them on SIGQUIT:
    gracewrap --stop-signal QUIT -- nginx -g "daemon off;"

  npm, which dies of SIGTERM before its server has ended; that is no failure:
    gracewrap --success-exit-codes TERM -- npm start

  A server that is done long before it exits, if it ever does: watch its
  connections, and kill it some seconds after the last answer:
    gracewrap --drain-tcp auto --drain-linger 2s -- node server.js

  A server that drops requests on SIGTERM, behind a load balancer: /readyz says
  503, it serves for 5 s more, and SIGTERM waits until no request is in flight:
    gracewrap --health-listen :9000 --propagation-delay 5s \\
      --drain-tcp auto --drain-when before-signal -- python3 server.py

  A worker that says how many jobs it still has:
    gracewrap --drain-http http://127.0.0.1:3000/stats \\
      --drain-json /active/jobs -- ./worker

  Jobs that may take long: SIGINT after 10 minutes, SIGKILL after 15:
    gracewrap --shutdown-timeout 15m --escalation 10m=INT -- ./worker

  A worker that is started again when it fails, 5 times in a row at most:
    gracewrap --restart on-failure --max-restarts 5 -- ./worker

  Several programs, in a file (gracewrap init shows all of it). They start in
  the order in which they need each other, stop in the inverse, and share one
  budget; gracewrap check says when each of them is stopped:
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

Every option is also a variable and a key of the file; here is one three ways:
  --log-level debug     GRACEWRAP_LOG_LEVEL=debug     [log] level = "debug"
An option wins over a variable, a variable over the file. What is yes or no
needs no value as an option: --notify, or --notify=false.

Exit status:
  the command's own; 128+N if signal N ended it (143: SIGTERM, 137: SIGKILL);
  of several programs that of the first which failed, else 0 (exit_code_from)
  125  a mistake in options, variables or file; nothing was started
  126  the command cannot be executed
  127  the command was not found
"""

# What most look for comes first; the drain has as many options as all others.
ORDER = (
    "",
    "log",
    "report",
    "running",
    "programs",
    "process",
    "around",
    "health",
    "control",
    "drain",
)


def show() -> int:
    """Print the help, as wide as the terminal; 80 columns if the output is no terminal."""
    terminal = sys.stdout is not None and sys.stdout.isatty()
    width = min(100, max(50, shutil.get_terminal_size().columns)) if terminal else 80
    text = help_text(width)
    if not terminal or not _show_bold(text):
        print(text, end="")
    return 0


def help_text(width: int) -> str:
    """Return the help; its options' descriptions are as wide as *width*."""
    parts = [
        _HEAD,
        "\nOptions:\n",
        _entry("-c, --config FILE", "Read settings from a TOML file.", width),
    ]
    parts += [
        _entry("-h, --help", "Print this.", width),
        _entry("-V, --version", "Print the version.", width),
    ]
    for part in ORDER:
        heading, sentence = SECTIONS[part]
        parts.append(f"\n{heading}:\n{_indented(sentence, width, 2)}\n")
        parts += [
            _entry(_names(s), s.help + _default(s), width)
            for s in TABLE
            if s.flag and section(s) == part
        ]
    parts.append(_END)
    return "".join(parts)


def _entry(names: str, text: str, width: int) -> str:
    if len(names) <= 18 and 22 + len(text) < width:
        return f"  {names:<18}  {text}\n"
    return f"  {names}\n{_indented(text, width, 6)}\n"


def _indented(text: str, width: int, by: int) -> str:
    return textwrap.fill(text, width - 1, initial_indent=" " * by, subsequent_indent=" " * by)


def _names(setting: Setting) -> str:
    names = ", ".join((setting.option, *setting.aliases))
    return names if setting.switch else f"{names} {setting.metavar}"


def _default(setting: Setting) -> str:
    if setting.default in (None, [], {}, False):
        return ""
    value = setting.default
    shown = ",".join(map(str, value)) if isinstance(value, list) else as_toml(value).strip('"')
    return f" [default: {shown}]"


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
