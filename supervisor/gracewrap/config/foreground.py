"""Which well-known programs go to the background, and what is to be written so that they do not."""

from __future__ import annotations

import os
import re

from gracewrap.record import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence

_APACHE = (re.compile(r"-D ?FOREGROUND\b|(^| )-X\b"), "-DFOREGROUND")
_APACHECTL = (
    re.compile(
        _APACHE[0].pattern
        + r"|(^| )(stop|graceful-stop|graceful|restart|status|fullstatus|configtest|-[tvVlLSM])\b"
    ),
    "-DFOREGROUND",
)
# Commands that fork and exit unless they are told not to: what tells them (searched in their
# words), and what to write.  Each was run (Debian 12), but for nginx and httpd (Apache's own name).
_STAYS = {
    "nginx": (
        re.compile(r"\bdaemon\s+off\b"),
        '-g "daemon off;" (or daemon off; in its configuration)',
    ),
    "php-fpm": (
        re.compile(r"(^| )(-\w*F|--nodaemonize\b)"),
        "-F (or daemonize = no in its configuration)",
    ),
    "httpd": _APACHE,
    "apache2": _APACHE,
    "apachectl": _APACHECTL,
    "apache2ctl": _APACHECTL,
    "squid": (re.compile(r"(^| )(-\w*N|--foreground\b)"), "--foreground"),
    "sshd": (re.compile(r"(^| )-\w*[DdtTi]"), "-D"),
    "named": (re.compile(r"(^| )-\w*[fgv]"), "-f"),
    "unbound": (re.compile(r"(^| )-\w*d"), "-d (or do-daemonize: no in its configuration)"),
    "varnishd": (re.compile(r"(^| )-[FCdVx]"), "-F"),
    "lighttpd": (re.compile(r"(^| )-\w*[Dtpv]"), "-D"),
    "slapd": (re.compile(r"(^| )-[dTV]"), "-d 0"),
    "supervisord": (
        re.compile(r"(^| )(-n|--nodaemon)\b"),
        "-n (or nodaemon=true in its configuration)",
    ),
    # It forks where it leads a process group, as what gracewrap starts does.
    "setsid": (re.compile(r"(^| )(-\w*w|--wait\b)"), "--wait"),
    "dovecot": (re.compile(r"(^| )-\w*F"), "-F"),
    "cron": (re.compile(r"(^| )-\w*f"), "-f"),
    "dnsmasq": (re.compile(r"(^| )(-\w*[kd]|--keep-in-foreground\b|--no-daemon\b)"), "-k"),
}
# Commands that do so when they are told to: what tells them, and what to write instead.
_LEAVES = {
    "memcached": (re.compile(r"(^| )(-d|--daemon)\b"), "memcached without -d"),
    "mosquitto": (re.compile(r"(^| )(-d|--daemon)\b"), "mosquitto without -d"),
    "gearmand": (re.compile(r"(^| )(-d|--daemon)\b"), "gearmand without -d"),
    "redis-server": (re.compile(r"(^| )--daemonize yes\b"), "redis-server without --daemonize yes"),
    "icecast2": (re.compile(r"(^| )-b\b"), "icecast2 without -b"),
    "postfix": (re.compile(r"(^| )start$"), "postfix start-fg"),
    "pg_ctl": (re.compile(r"(^| )start\b"), "postgres -D ... (the server itself) for pg_ctl start"),
}


def advice(command: Sequence[str]) -> str:
    """Return what to write so that a command stays in the foreground; "" if it does, or is not
    known."""
    if not command:
        return ""
    program, words = program_of(command[0]), " ".join(command[1:])
    if program in _STAYS:
        stays, add = _STAYS[program]
        return "" if stays.search(words) else f"{program} {add}"
    if program in _LEAVES:
        leaves, instead = _LEAVES[program]
        return instead if leaves.search(words) else ""
    return ""


def program_of(word: str) -> str:
    """Return a program's name without directory and version: php-fpm of /usr/sbin/php-fpm8.2,
    apache2 as it is."""
    name = os.path.basename(word)
    return "php-fpm" if re.fullmatch(r"php-fpm[\d.]*", name) else name
