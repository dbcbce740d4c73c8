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
        ("./server", ""),
        ("", ""),
    ],
)
def test_the_advice_is_the_programs_own(command, advice):
    assert foreground.advice(command.split()) == advice
