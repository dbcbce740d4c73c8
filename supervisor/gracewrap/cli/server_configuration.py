"""What a server's own configuration says, as far as `gracewrap check` can read it: nothing is
concluded from a file that is not there."""

from __future__ import annotations

import glob
import os
import re
from collections.abc import Iterator, Sequence

from gracewrap.config import foreground
from gracewrap.config.settings import Settings

# Of these, what keeps them in the foreground, and where it is written unless an option says so.
_STAYS = {
    "nginx": (("-c",), ("/etc/nginx/nginx.conf",), r"^[^#\n]*\bdaemon\s+off\b"),
    "php-fpm": (("-y", "--fpm-config"), (), r"^\s*daemonize\s*=\s*(no|off|false|0)\b"),
    "unbound": (("-c",), ("/etc/unbound/unbound.conf",), r"^\s*do-daemonize:\s*no\b"),
    "supervisord": (
        ("-c", "--configuration"),
        ("/etc/supervisord.conf", "/etc/supervisor/supervisord.conf"),
        r"^\s*nodaemon\s*=\s*(true|yes|on|1)\b",
    ),
}
# The seconds that php-fpm gives its requests after SIGQUIT; none by default.
_PHP_FPM_WAITS = re.compile(r"^\s*process_control_timeout\s*=\s*0*[1-9]", re.MULTILINE)
_PHP_FPM_INCLUDES = re.compile(r"^\s*include\s*=\s*(\S+)", re.MULTILINE)


def keeps_in_foreground(settings: Settings) -> bool:
    """Return whether the configuration of a command says that it stays in the foreground."""
    program = foreground.program_of(settings.command[0])
    if program not in _STAYS:
        return False
    options, defaults, stays = _STAYS[program]
    if program == "php-fpm":
        defaults = _php_fpm_files(settings.command[0])
    found = text(settings, options, defaults)
    return re.search(stays, found, re.MULTILINE) is not None


def about_php_fpm(settings: Settings) -> Iterator[str]:
    """Yield that SIGQUIT cuts requests of php-fpm, if its configuration can be read and says so."""
    word = settings.command[0]
    main = text(settings, ("-y", "--fpm-config"), _php_fpm_files(word))
    # A relative one is below the prefix of the official image.
    patterns = (os.path.join("/usr/local", one) for one in _PHP_FPM_INCLUDES.findall(main))
    included = (first_bytes(file) for one in patterns for file in sorted(glob.glob(one)))
    if main and not any(map(_PHP_FPM_WAITS.search, (main, *included))):
        yield (
            "php-fpm cuts requests on SIGQUIT too, for process_control_timeout is not set in its "
            "configuration, and is 0 by default; write there the seconds that a request may take, "
            "some below the budget"
        )


def _php_fpm_files(word: str) -> tuple[str, ...]:
    """Return where the official image and Debian's packages have it."""
    version = word.rpartition("php-fpm")[2]
    of_debian = (f"/etc/php/{version}/fpm/php-fpm.conf",) if version else ()
    return ("/usr/local/etc/php-fpm.conf", *of_debian)


def text(settings: Settings, options: Sequence[str], defaults: Sequence[str]) -> str:
    """Return what is in the file that one of the options of a command names, else in the first of
    the *defaults* that can be read; "" if there is none."""
    words = settings.command[1:]
    for position, word in enumerate(words):
        name, equals, file = word.partition("=")
        if equals and name in options:
            return first_bytes(_placed(settings, file))
        if word in options and position + 1 < len(words):
            return first_bytes(_placed(settings, words[position + 1]))
    return next(filter(None, map(first_bytes, defaults)), "")


def _placed(settings: Settings, file: str) -> str:
    return os.path.join(settings.working_dir, file) if settings.working_dir else file


def first_bytes(file: str, most: int = 1 << 20) -> str:
    """Return the start of a regular file; "" if it cannot be read."""
    try:
        if not os.path.isfile(file):
            return ""
        with open(file, "rb") as opened:
            return opened.read(most).decode(errors="replace")
    except OSError:
        return ""
