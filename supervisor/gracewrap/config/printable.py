"""Text from a file, for a terminal or a page."""

from __future__ import annotations


def printable(text: str) -> str:
    """Return a text on one line, what is not printable as an escape: \\x1b.

    A name in a manifest or a report may have any character in it; what a terminal would act on, XML
    forbids, or UTF-8 cannot encode (half a surrogate pair) is shown instead.
    """
    if text.isprintable():
        return text
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in text)
