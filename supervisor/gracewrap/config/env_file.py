"""Files of variables: lines of NAME=VALUE, as Docker, Compose and dotenv know them.

NAME=value         up to the line's end, or to a # after a space; spaces around it do not count
NAME='value'       as it stands, over several lines if need be
NAME="value"       the same, with \\n, \\t, \\r, \\", \\\\ and \\$
export NAME=value  the same as without the word; a shell can read such a file too

A $ stands for itself: no variable is filled in.  In bytes, for nobody says in which encoding such a
file is.
"""

from __future__ import annotations

from gracewrap.config.parsers.process import is_variable

_ESCAPED = {b"n": b"\n", b"t": b"\t", b"r": b"\r", b'"': b'"', b"\\": b"\\", b"$": b"$"}
LONGEST = 128 << 10  # bytes of a variable: MAX_ARG_STRLEN of execve(2)


class BadLine(Exception):
    """A line that cannot be read; the text says which, why, and what to write instead."""


def parse(content: bytes) -> dict[bytes, bytes]:
    """Return the variables of a file; of two of the same name the second counts.

    Raises:
        BadLine: With a message for people, in which no value is quoted: they may be secret.
    """
    rows = content.removeprefix(b"\xef\xbb\xbf").replace(b"\r\n", b"\n").split(b"\n")
    found: dict[bytes, bytes] = {}
    number = 0
    while number < len(rows):
        first, row = number + 1, rows[number].lstrip()
        number += 1
        if not row or row.startswith(b"#"):
            continue
        if row.startswith((b"export ", b"export\t")):
            row = row[7:].lstrip()
        name, equals, rest = row.partition(b"=")
        if not equals:
            raise BadLine(f"line {first} has no =; write NAME=value, or # before a comment")
        name, rest = name.rstrip(), rest.lstrip()
        if not is_variable(name.decode(errors="replace")):
            raise BadLine(
                f"line {first}: before the = stands no name of a variable; write NAME=value"
            )
        if rest[:1] in (b"'", b'"'):
            value, number = _quoted(rows, first, rest)
        else:
            value = b"" if rest.startswith(b"#") else _before_comment(rest)
        if b"\0" in value:
            raise BadLine(f"line {first} holds a NUL character, which no variable can")
        if len(name) + len(value) + 2 > LONGEST:
            raise BadLine(
                f"line {first}: the value has more than {LONGEST >> 10} KiB, and no variable can"
            )
        found[name] = value
    return found


def _before_comment(text: bytes) -> bytes:
    ends = [at for mark in (b" #", b"\t#") if (at := text.find(mark)) >= 0]
    return text[: min(ends, default=len(text))].rstrip()


def _quoted(rows: list[bytes], first: int, rest: bytes) -> tuple[bytes, int]:
    """Return a value in quotes that starts on line *first* with *rest*, and how many lines have
    been read."""
    quote, text, number = rest[:1], rest[1:], first
    value, at = bytearray(), 0
    while True:
        if at >= len(text):
            if number == len(rows):
                raise BadLine(
                    f"line {first}: its {quote.decode()} is never closed; write it at the end of "
                    "the value"
                )
            value += b"\n"
            text, at, number = rows[number], 0, number + 1
            continue
        letter = text[at : at + 1]
        at += 1
        if letter == quote:
            break
        if letter == b"\\" and quote == b'"':
            escaped = text[at : at + 1]
            letter, at = _ESCAPED.get(escaped, b"\\" + escaped), at + 1
        value += letter
    after = text[at:].strip()
    if after and not after.startswith(b"#"):
        raise BadLine(
            f"line {number}: something follows the closing {quote.decode()}; put all of the value "
            "into the quotes"
        )
    return bytes(value), number
