"""What can be used but may not be what was meant: what `gracewrap check` warns of.  Nothing is started to find out."""

from __future__ import annotations

import os
import re
import shutil
from collections.abc import Iterator, Sequence

from gracewrap.config import sources
from gracewrap.config.table import Settings
from gracewrap.config.values import show_duration
from gracewrap.posix import told
from gracewrap.posix.signals import SIGKILL, SIGTERM

# Commands for which SIGTERM is the wrong stop signal: what they want, and what SIGTERM does.
WANTED = {
    "nginx": ("QUIT", "cuts requests"),
    "unicorn": ("QUIT", "cuts requests"),
    "php-fpm": ("QUIT", "cuts requests"),
    "haproxy": ("USR1", "cuts requests"),
    "httpd": ("WINCH", "cuts requests"),
    "apache2": ("WINCH", "cuts requests"),
    "postgres": ("INT", "waits until every client has gone"),
}
# Commands that fork and exit unless they are told not to: what tells them (searched in their words), and what to write.
_APACHE = (re.compile(r"-D ?FOREGROUND\b|(^| )-X\b"), "-DFOREGROUND")
STAYS = {
    "nginx": (re.compile(r"\bdaemon\s+off\b"), '-g "daemon off;" (or daemon off; in its configuration)'),
    "php-fpm": (re.compile(r"(^| )(-\w*F|--nodaemonize\b)"), "-F (or daemonize = no in its configuration)"),
    "httpd": _APACHE,
    "apache2": _APACHE,
}
SHELLS = told.SHELLS - {"busybox"}  # which is many a program
RUNNERS = {"npm", "npx", "pnpm", "yarn"}  # they start the server beside themselves, in a shell
# A script that replaces itself, or that handles signals, does not die of the stop signal.
_HANDLED = re.compile(r"(^|[;&|]|\bthen|\belse|\bdo)\s*(exec|trap)\s", re.MULTILINE)


def doubts(settings: Settings) -> Iterator[str]:
    """Yield what may not be meant, each in a line."""
    budget = settings.shutdown_timeout
    if budget == 0:
        yield 'shutdown_timeout = "0s" kills at once; nothing is stopped gracefully'
    elif budget > 30:
        yield (
            f'shutdown_timeout = "{show_duration(budget)}" is longer than what Docker (10 s), Kubernetes and ECS (30 s) grant: '
            "raise their limit too (docker stop -t, terminationGracePeriodSeconds, stopTimeout)"
        )
    if settings.stop_signal == SIGKILL:
        yield 'stop_signal = "KILL" stops nothing gracefully: no program can handle it'
    if settings.report_termination_log and settings.report_termination_log == settings.report_file:
        yield "report.file and report.termination_log are the same file; the second one written wins"
    for key in ("log.file", "report.file", "report.termination_log"):
        file = getattr(settings, key.replace(".", "_"))
        if file and not os.path.isdir(os.path.dirname(file)):
            yield f'{key} = "{file}" cannot be written here: its directory does not exist'
    if settings.command:
        yield from _about_command(settings)


def _about_command(settings: Settings) -> Iterator[str]:
    word, *words = settings.command
    if shutil.which(word) is None:
        hint = "; it is one word with spaces: write the arguments as words of their own" if " " in word.strip() else ""
        yield f"the command {sources.show(word)} is not found or not executable here{hint}"
    program = _program(word)
    signum, what = WANTED.get(program, ("", ""))
    if signum and "stop_signal" not in settings.origins:
        yield f'{program} {what} on SIGTERM; write stop_signal = "{signum}" (--stop-signal {signum})'
    stays, advice = STAYS.get(program, (None, ""))
    if stays and not stays.search(" ".join(words)):
        yield f"{program} goes to the background, and a command that does so ends the run: write {program} {advice}"
    if program == "celery" and settings.kill_mode == "group":
        yield 'celery loses its tasks if all its processes get the stop signal; leave kill_mode at "mixed"'


def _program(word: str) -> str:
    """Return a program's name without directory and version: php-fpm of /usr/sbin/php-fpm8.2, apache2 as it is."""
    name = os.path.basename(word)
    return "php-fpm" if re.fullmatch(r"php-fpm[\d.]*", name) else name


def exit_status(settings: Settings) -> str:
    """Return what is to be said of a command whose exit status after a good stop looks like a failure; or ""."""
    if not settings.command or settings.stop_signal != SIGTERM or 128 + SIGTERM in settings.success_exit_codes:
        return ""
    program = _program(settings.command[0])
    if program in RUNNERS:
        why = f"{program} dies of SIGTERM itself, whatever its server does"
    elif (script := _script(settings.command)) and not _HANDLED.search(script):
        why = f"{program} runs a shell script without exec or trap, which dies of SIGTERM"
    else:
        return ""
    return f"{why}: the exit status after a good stop is 143. To have it count as 0: --success-exit-codes TERM"


def _script(command: Sequence[str]) -> str:
    """Return the text of the shell script that *command* runs; "" if it is none, or cannot be read."""
    word, *words = command
    if _program(word) not in SHELLS:
        text = _first_bytes(shutil.which(word) or "")
        first = text.partition("\n")[0].split()
        return text if first and text.startswith("#!") and SHELLS.intersection(map(os.path.basename, first)) else ""
    for position, option in enumerate(words):
        if re.fullmatch(r"-\w*c", option):
            text = "".join(words[position + 1 : position + 2])
            return text if re.search(r"[;&|\n]", text.strip()) else ""  # a single command takes the shell's place
        if option[:1] not in "-+":
            return _first_bytes(option)
    return ""


def _first_bytes(file: str) -> str:
    """Return the start of a regular file, as far as a script would go."""
    try:
        if not os.path.isfile(file):
            return ""
        with open(file, "rb") as script:
            return script.read(1 << 16).decode(errors="replace")
    except OSError:
        return ""
