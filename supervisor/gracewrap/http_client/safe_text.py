"""Makes text from a peer safe for a log line: short, on one line, without control characters."""

from __future__ import annotations


def printable(text: str) -> str:
    """Return the first 120 characters of *text*, unprintable ones replaced by "?"."""
    return "".join(char if char.isprintable() else "?" for char in text[:120])


def excerpt(text: str) -> str:
    """Return the first 60 characters of *text* on one line, with "..." if there are more."""
    start = "".join(char if char.isprintable() else " " for char in text[:60])
    return " ".join(start.split()) + ("..." if len(text) > 60 else "")
