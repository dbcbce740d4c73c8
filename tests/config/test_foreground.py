"""What is to be written so that a known program stays in the foreground."""

from __future__ import annotations

import pytest

from gracewrap.config import foreground


@pytest.mark.parametrize(
    "command, advice",
    [
        ("/usr/sbin/sshd -f x", "sshd -D"),
        ("nginx", 'nginx -g "daemon off;" (or daemon off; in its configuration)'),
        ("memcached -d", "memcached without -d"),
        ("sshd -D", ""),
        ("dovecot -F", ""),
        ("cron", "cron -f"),
        ("memcached", ""),
        ("apache2ctl -k start", "apache2ctl -DFOREGROUND"),
        ("apachectl", "apachectl -DFOREGROUND"),
        ("apachectl -D FOREGROUND", ""),
        ("apachectl configtest", ""),
        ("slapd -h ldap:///", "slapd -d 0"),
        ("slapd -d 0", ""),
        ("supervisord -c x", "supervisord -n (or nodaemon=true in its configuration)"),
        ("supervisord -n", ""),
        ("setsid ./server", "setsid --wait"),
        ("setsid -w ./server", ""),
        ("gearmand -d", "gearmand without -d"),
        ("icecast2 -b -c x", "icecast2 without -b"),
        ("postfix start", "postfix start-fg"),
        ("postfix start-fg", ""),
        ("pg_ctl -D x start", "postgres -D ... (the server itself) for pg_ctl start"),
        ("pg_ctl -D x promote", ""),
        ("./server", ""),
        ("", ""),
    ],
)
def test_the_advice_is_the_programs_own(command, advice):
    assert foreground.advice(command.split()) == advice
