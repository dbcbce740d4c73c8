"""What is wrong with a text that TOML cannot read, in the words of its file.  Imported only when
something is wrong.

tomllib says where it could not go on, which may be far from what was forgotten.
"""

from __future__ import annotations

import ast
import re

from gracewrap.config.schema import BY_KEY
from gracewrap.config.toml_lines import TOKENS, Lines, Path

_PLACE = re.compile(r" \(at (?:line (\d+), column (\d+)|end of document)\)$")
_STATEMENT = re.compile(
    r"""\s*(?:[\w.-]+|"[^"\n]*"|'[^'\n]*')\s*=(?!=)|\s*\[\[?\s*[A-Za-z_][\w.\s"'-]*\]\]?\s*(?:\#.*)?$"""
)
_PROCFILE = re.compile(
    r"([A-Za-z0-9][A-Za-z0-9_-]{0,62}):\s+([^\s=\[{].*)"
)  # as Foreman, Honcho and Overmind read it
_BARE = re.compile(r"(?:^|[\[,={])\s*(?![\d.+-]+\s*[,\]}]|true\b|false\b)([\w./+-]+)\s*(?=[,\]}])")
_CURLED = "\u201c\u201d\u201e\u2018\u2019\u201a\u00ab\u00bb"  # what word processors make of quotes


def explained(text: str, error: ValueError) -> str:
    """Return in which line TOML could not go on, why, and what to write."""
    said = str(error)
    place = _PLACE.search(said)
    if place is None:  # what int() says to 5000 digits
        return f"not TOML: {_small(said)}"
    text, what = text.replace("\r\n", "\n"), said[: place.start()]  # as tomllib reads it
    if whose := _yaml_of(text):
        return whose
    if place[1] is None:
        return f"not TOML: {_small(what)} (at its end){_brackets(text, len(text), what)}"
    line, column = int(place[1]), int(place[2])
    rows = text.split("\n")
    at = sum(len(row) + 1 for row in rows[: line - 1]) + column - 1
    if twice := _twice(text[:at], line, what):
        return twice
    row = rows[line - 1]
    hint = (
        _brackets(text, at, what)
        or _quotes(row, column - 1, what)
        or _after(row, column - 1, what)
        or not_toml(row.strip())
    )
    return f"line {line}, column {column}: not TOML: {_small(what)}{hint}"


def _yaml_of(text: str) -> str:
    """Say whose YAML it is, and what to write instead; "" if it is none that is known."""
    services = re.search(r"(?m)^services:\s*(?:#.*)?$", text)
    processes = re.search(r"(?m)^processes:\s*(?:#.*)?$", text)
    found = processes or services
    if found is None:
        return ""
    line = text.count("\n", 0, found.start()) + 1
    if processes:
        whose, entry = "process-compose", "each of its processes"
    else:
        whose, entry = "Docker Compose", "what is to run in one container"
    return (
        f"line {line}, {found[0].strip()}: it is a file of {whose}; write {entry} as "
        "[programs.NAME] with a command (gracewrap init --programs writes an example)"
    )


def _small(text: str) -> str:
    return text[:1].lower() + text[1:]


# --- what is there already -----------------------------------------------------------------------


class _Statements(Lines):
    """The lines of all keys, and the statement that stands last."""

    def __init__(self, text: str) -> None:
        self.last: tuple[Path, int] = ((), 0)
        super().__init__(text)

    def _note(self, path: Path, line: int) -> None:
        self.last = path, line
        super()._note(path, line)


def _twice(before: str, line: int, what: str) -> str:
    """Say what is written twice, and where it stands first; "" if that is not what is wrong."""
    if not what.startswith(
        ("Cannot declare ", "Cannot overwrite ", "Cannot mutate ", "Duplicate inline table key ")
    ):
        return ""
    if what.startswith("Duplicate "):
        key = what.removeprefix("Duplicate inline table key ")
        return f"line {line}: {key} is written twice in one table; leave one out"
    lines = _Statements(before)
    if what.startswith("Cannot overwrite "):
        path, here = lines.last
        first = lines.found.get(path, here)
        if first == here:  # a value that is taken for a table, or the other way round
            return ""
        return (
            f"line {here}: {_dotted(path)} is written twice, the first time in line {first}; "
            "remove one of them"
        )
    path = _named(what)
    known = lines.found.get(path)
    if known is None:
        return ""
    if what.startswith("Cannot mutate "):
        return (
            f"line {line}: {_dotted(path)} is a table in braces, in line {known}; "
            "put all of its settings into the braces"
        )
    return (
        f"line {line}: the table [{_dotted(path)}] is there already, in line {known}; "
        "put all of its settings below one header"
    )


def _named(what: str) -> Path:
    """Return the keys that tomllib names, as Python writes a tuple: Cannot declare ('programs',
    'web') twice."""
    try:
        found = ast.literal_eval(what[what.index("(") : what.rindex(")") + 1])
    except (ValueError, SyntaxError):
        return ()
    return (
        found if isinstance(found, tuple) and all(isinstance(part, str) for part in found) else ()
    )


def _dotted(path: Path) -> str:
    """Return keys as they stand in a file."""
    return ".".join(part if re.fullmatch(r"[A-Za-z0-9_-]+", part) else f'"{part}"' for part in path)


# --- brackets and quotes -------------------------------------------------------------------------


def _open(before: str) -> list[tuple[str, int]]:
    """Return the brackets that are open at the end of a text, the outermost first, each with its
    line."""
    line, found = 1, list[tuple[str, int]]()
    for token in TOKENS.finditer(before):
        kind, value = token.lastgroup, token.group()
        if kind == "open":
            found.append((value, line))
        elif kind == "close" and found:
            found.pop()
        line += value.count("\n")
    return found


def _brackets(text: str, at: int, what: str) -> str:
    """Say which bracket is never closed, or what is missing between two elements; "" if it is
    neither."""
    found = _open(text[:at])
    if not found:
        return ""
    line = text.count("\n", 0, at) + 1
    row = text[text.rfind("\n", 0, at) + 1 :].partition("\n")[0]
    outside = [(bracket, opened) for bracket, opened in found if opened < line]
    if (
        outside and outside[-1][0] == "[" and _STATEMENT.match(row)
    ):  # the next setting, or the next table
        return _never_closed(*outside[0])
    bracket, opened = found[-1]
    rest = text[at:].lstrip(" \t")
    if bracket == "{" and rest[:1] in ("\n", "#", ""):
        return _over_lines(text, at, opened)
    closing = "}" if bracket == "{" else "]"
    if rest[:1] == closing:
        return f"; no comma stands before the {closing}" if text[:at].rstrip()[-1:] == "," else ""
    if what not in ("Unclosed array", "Unclosed inline table"):
        return ""
    if closing not in rest or rest[:1] in ("]", "}"):
        return _never_closed(bracket, opened)
    if text[at - 1 : at] == '"' and rest[:1] not in ("", '"', "'", "[", "{"):
        return (
            '; a comma is missing, or a quote ends a text too early: within one write \\", '
            "or put it all in '...'"
        )
    word = re.match(r"""["']?[^\s,\]}"']*["']?""", rest)
    return f"; a comma is missing before {word[0][:40] if word else rest[:1]}"


def _never_closed(bracket: str, line: int) -> str:
    closing = "}" if bracket == "{" else "]"
    return f"; the {bracket} in line {line} is never closed: write {closing} where it ends"


def _over_lines(text: str, at: int, opened: int) -> str:
    """Say what is wrong with a table in braces that goes on in the next line: that, or it is never
    closed."""
    for row in text[at:].split("\n")[1:]:
        if row.strip()[:1] == "}" or (row.rstrip()[-1:] == "}" and "{" not in row):
            path = _Statements(text[:at]).last[0]
            write = f"; write [{_dotted(path)}], and below it one setting a line" if path else ""
            return f"; a table in braces stands in one line{write}"
        if row.lstrip().startswith("["):
            break
    return _never_closed("{", opened)


def _quotes(row: str, column: int, what: str) -> str:
    """Say which quotes are missing, or are none."""
    if what.startswith("Illegal character '\\n'") or what == "Unterminated string":
        return "; the quote that ends the text is missing in this line"
    if curled := next((letter for letter in row[column : column + 1] if letter in _CURLED), ""):
        return f'; {curled} is no quote of TOML: write "'
    if what.startswith("Unescaped '\\'"):
        return r"; write \\, or put the text in '...'"
    return ""


def _after(row: str, column: int, what: str) -> str:
    """Say what is wrong with the rest of a line, after a statement that is whole."""
    rest = row[column:].strip()
    if not what.startswith("Expected newline") or not rest:
        return ""
    if rest[0] in "]}":
        return f"; there is one {rest[0]} too many"
    if rest[0] == ",":
        return "; a list stands in brackets: [...]"
    return (
        "; each setting, and each [table], has a line of its own" if _STATEMENT.match(rest) else ""
    )


# --- other languages -----------------------------------------------------------------------------


def not_toml(line: str) -> str:
    """Say how to write a line that TOML cannot read; "" if there is nothing to say."""
    key, equals, value = (part.strip() for part in line.partition("="))
    if (row := _PROCFILE.fullmatch(line)) and row[1] not in BY_KEY:
        words = ", ".join(f'"{word}"' for word in row[2].replace('"', "").split()[:8])
        return f"; if it is a Procfile: write [programs.{row[1]}], and below it command = [{words}]"
    if not equals and (line == "---" or line[:1] == "{" or ":" in line):
        return '; TOML is written like this: shutdown_timeout = "25s"'
    word = value.partition("#")[0].strip()
    if equals and word[:1] == "(":
        return f"; a list stands in brackets: {key} = [{word[1:].rstrip(')')}]"
    if equals and key and word and word[0] not in "\"'[{":
        return f'; text needs quotes: {key} = "{word}"'
    bare = _BARE.search(
        re.sub(r'"[^"]*"|' r"'[^']*'", '""', line)
    )  # in a list or an inline table; what has quotes is not meant
    return f'; text needs quotes: "{bare[1]}"' if bare and line[:1] != "[" else ""
