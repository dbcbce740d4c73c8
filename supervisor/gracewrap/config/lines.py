"""On which line of a TOML text a key stands; tomllib does not tell.  Only asked once something is wrong, or for origins."""

from __future__ import annotations

import re

# What matters for finding keys: strings (which may hold anything, line ends too), comments, headers, brackets, line ends.
_TOKENS = re.compile(
    r"""
    (?P<string>\"\"\"(?:\\.|[^\\])*?\"{3,5}|'''.*?'{3,5}|"(?:\\.|[^"\\\n])*"|'[^'\n]*')
    |(?P<comment>\#[^\n]*)
    |(?P<newline>\n)
    |(?P<open>[\[{])
    |(?P<close>[\]}])
    |(?P<equals>=)
    |(?P<other>[^\s"'\#\[\]{}=]+|[ \t\r]+|["'])
    """,
    re.VERBOSE | re.DOTALL,
)
_PART = re.compile(r"""\s*("(?:\\.|[^"\\])*"|'[^']*'|[A-Za-z0-9_-]+)\s*(?:\.|$)""")


def _parts(text: str) -> list[str]:
    """Split a dotted key: a."b.c".d"""
    return [part.strip("\"'") for part in _PART.findall(text)]


def find_line(text: str, keys: list[str]) -> int | None:
    """Return the line (from 1) on which the key path *keys*, or the first table under it, is written."""
    line, depth, table, pending, at_start = 1, 0, list[str](), "", True
    header: str | None = None
    for token in _TOKENS.finditer(text):
        kind, value = token.lastgroup, token.group()
        if header is not None:
            if kind == "close":
                if value == "]" and header.strip():
                    table = _parts(header)
                    if table[: len(keys)] == keys:
                        return line
                    header = None
                    at_start = False
            elif kind != "open":
                header += value
            continue
        if kind == "newline":
            line += 1
            if depth == 0:
                pending, at_start = "", True
        elif kind == "open":
            if depth == 0 and at_start and value == "[" and not pending.strip():
                header = ""
            else:
                depth += 1
        elif kind == "close":
            depth = max(0, depth - 1)
        elif kind == "equals" and depth == 0 and at_start:
            path = [*table, *_parts(pending)]
            if path[: len(keys)] == keys or keys[: len(path)] == path:
                return line
            at_start = False
        elif kind in ("other", "string") and depth == 0 and at_start:
            pending += value
        if kind == "string":
            line += value.count("\n")
    return None
