"""Whether a shell is PID 1 in our place, and passes no signal on."""

from __future__ import annotations

import posix

from gracewrap.linux import process_tree
from gracewrap.linux.signals import SIGTERM
from gracewrap.policy.model import SHELLS

_MOST = 8  # shells from us to PID 1; more are no entrypoint


def deaf_shell() -> str:
    """Return the name of the shell that is PID 1 of our PID namespace, if a SIGTERM for PID 1 does
    not reach us; "" if there is none.

    What has no handler for a signal is not sent it as PID 1 (pid_namespaces(7)); a shell that runs
    a script waits for its command in the meantime.  Between it and us there are shells only, of its
    process group: one that a person types into puts each command in a group of its own.
    """
    if posix.getpid() == 1 or posix.getpgrp() != posix.getpgid(1):
        return ""
    pid = posix.getppid()  # 0: what `docker exec` has started comes from outside
    for _ in range(_MOST):
        name, fields = process_tree.stat(pid) if pid else ("", [])
        if not fields or name not in SHELLS:
            return ""
        if pid == 1:
            from gracewrap.linux import process_facts  # hardly any run comes here

            return "" if process_facts.catches(1, SIGTERM) else name
        pid = int(fields[1])
    return ""
