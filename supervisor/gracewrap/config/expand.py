"""${NAME}, ${NAME:-otherwise} and $$ in the strings of a file, filled in from our environment.

Only where a command, a variable, a path, a URL or a user stands: a regular expression, say, has
dollars of its own.  On the command line the shell does this; in a variable whoever sets it.
"""

from __future__ import annotations

import re

from gracewrap.config.values import BadValue
from gracewrap.record import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping

# The last words of the settings, and of the keys within their tables, in which it is done.
PLACES = frozenset(
    {
        *(
            "command",
            "exec",
            "pre_stop",
            "post_stop",
            "start",
            "ready",
            "http",
            "pushgateway",
            "listen",
            "socket",
        ),
        *("user", "group", "supplementary_groups", "working_dir", "env", "env_file"),
        *("ca", "file", "termination_log", "prometheus_textfile"),
    }
)
# A string here is a command that is split into words, unless it is a URL: what a variable holds
# must not become several words.
_SPLIT = frozenset({"command", "exec", "pre_stop", "post_stop", "start"})

# Compiled when they are first needed.
_DOLLAR = r"\$(?:\$|\{([^}]*)(\}?))"
_NAME = r"(?s)([A-Za-z_][A-Za-z0-9_]*)(?::-(.*))?"


class Unexpanded(BadValue):
    """Something that cannot be filled in; *reference* is how it starts in the file."""

    def __init__(self, reference: str, text: str) -> None:
        super().__init__(text)
        self.reference = reference


def expanded(key: str, raw: object, env: Mapping[bytes, bytes]) -> object:
    """Return what was written for *key* with everything filled in.

    Raises:
        Unexpanded: If a variable is not there, or a reference cannot be read.
    """
    return _walk(key.rpartition(".")[2], raw, env)


def _walk(place: str, raw: object, env: Mapping[bytes, bytes]) -> object:
    if isinstance(raw, str):
        split = place in _SPLIT and "://" not in raw
        return _fill(raw, env) if place in PLACES and not split else raw
    if isinstance(raw, list):
        if place in _SPLIT and all(isinstance(one, str) for one in raw):
            return [_fill(one, env) for one in raw]
        return [_walk(place, one, env) for one in raw]
    if isinstance(raw, dict):
        return {
            name: _walk(place if place == "env" else str(name), one, env)
            for name, one in raw.items()
        }
    return raw


def _fill(text: str, env: Mapping[bytes, bytes]) -> str:
    def value(found: re.Match[str]) -> str:
        if found[0] == "$$":
            return "$"
        name = re.fullmatch(_NAME, found[1])
        if name is None or not found[2]:
            raise Unexpanded(
                found[0],
                f"{found[0]} is neither ${{NAME}} nor ${{NAME:-otherwise}}; write $$ for a "
                "literal $",
            )
        given = env.get(name[1].encode())
        if given or (given is not None and name[2] is None):
            return given.decode(errors="surrogateescape")
        if name[2] is None:
            raise Unexpanded(
                f"${{{name[1]}",
                f"there is no variable {name[1]} in the environment; set it, or write "
                f"${{{name[1]}:-otherwise}}; write $$ for a "
                "literal $",
            )
        return name[2]

    return re.sub(_DOLLAR, value, text) if "$" in text else text
