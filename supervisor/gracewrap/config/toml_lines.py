"""On which line of a TOML text each key stands; tomllib does not tell.  The text is valid TOML:
tomllib has read it before."""

from __future__ import annotations

import re
import tomllib

# What matters for finding keys: strings (which may hold anything, line ends too), comments,
# brackets, line ends.  Most of what is in brackets, headers too, is taken in as a whole: there may
# be hundreds of programs.
TOKENS = re.compile(
    r"""
    (?P<string>\"\"\"(?:\\.|[^\\])*?\"{3,5}|'''.*?'{3,5}|"(?:\\.|[^"\\\n])*"|'[^'\n]*')
    |(?P<comment>\#[^\n]*)
    |(?P<newline>\n)
    |(?P<whole>\[[^"'\#\[\]{}\n]*(?:"(?!"")[^"\\\n]*"[^"'\#\[\]{}\n]*)*\])
    |(?P<open>[\[{])
    |(?P<close>[\]}])
    |(?P<equals>=)
    |(?P<other>[^"'\#\[\]{}=\n]+|["'])
    """,
    re.VERBOSE | re.DOTALL,
)
_PART = re.compile(r"""\s*("(?:\\.|[^"\\])*"|'[^']*'|[A-Za-z0-9_-]+)\s*(?:\.|$)""")

Path = tuple[str, ...]


def _parts(text: str) -> Path:
    """Split a dotted key: a."b.c".d"""
    return tuple(
        tomllib.loads(f"x={part}")["x"] if part[0] in "\"'" else part
        for part in _PART.findall(text)
    )


class Lines:
    """The lines (from 1) of all keys and tables of a text, found in one pass."""

    def __init__(self, text: str) -> None:
        self.found: dict[Path, int] = {}
        self.text = text
        self._table: Path = ()
        self._scan()

    def find(self, keys: Path) -> int | None:
        """Return the line on which *keys* is first written; for a key within an inline table, that
        table's line."""
        while keys and keys not in self.found:
            keys = keys[:-1]
        return self.found.get(keys)

    def find_text(self, keys: Path, text: str) -> int:
        """Return the first line from that of *keys* on that holds *text*; else that of *keys*."""
        first = self.find(keys) or 1
        rows = self.text.split("\n")[first - 1 :]
        return first + next((offset for offset, row in enumerate(rows) if text in row), 0)

    def _note(self, path: Path, line: int) -> None:
        for end in range(1, min(len(path), 8) + 1):  # deeper than any setting of ours
            self.found.setdefault(path[:end], line)

    def _scan(self) -> None:
        """Go through the tokens: a key is what stands before the first `=` of a line that is not
        within brackets."""
        line, depth, key, in_key, in_header = 1, 0, "", True, False
        for token in TOKENS.finditer(self.text):
            kind, value = token.lastgroup, token.group()
            if kind == "newline":
                line += 1
                if depth == 0:
                    key, in_key, in_header = "", True, False
            elif kind == "whole" and in_key and not key.strip():  # [x], or what is within [[x]]
                self._table, in_header, in_key = _parts(value[1:-1]), False, False
                self._note(self._table, line)
            elif in_header and kind in ("string", "other"):
                key += value
            elif in_header and kind == "close":  # of [[x]], the first of the two
                self._table, in_header, in_key = _parts(key), False, False
                self._note(self._table, line)
            elif kind == "open" and in_key and not key.strip():  # of [[x]], both
                in_header = True
            elif kind == "open":
                depth += 1
            elif kind == "close":
                depth = max(0, depth - 1)
            elif kind == "equals" and depth == 0 and in_key:
                self._note((*self._table, *_parts(key)), line)
                in_key = False
            elif in_key and depth == 0 and kind in ("string", "other"):
                key += value
            if kind == "string":
                line += value.count("\n")
