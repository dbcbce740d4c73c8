"""Parses commands: a list of words, or a string split as a shell would split it."""

from __future__ import annotations

from gracewrap.config import values
from gracewrap.config.values import LETTERS, BadValue


def argv(raw: object) -> tuple[str, ...]:
    """Return the words of a command, from a list, or from a string as a shell would split it."""
    return values.command(split_words(raw) if isinstance(raw, str) else raw)


def split_words(text: str) -> list[str]:
    """Split as a shell does, and refuse what only a shell can do."""
    if done_by_a_shell := for_a_shell(text):
        raise BadValue(
            f"gracewrap runs no shell to read its {done_by_a_shell}; write sh -c '...', or put it "
            "in quotes if it is meant literally"
        )
    import shlex

    try:
        words = shlex.split(text)
    except ValueError as error:  # "No closing quotation"
        raise BadValue(
            f"cannot be split into words: {str(error).lower()}; write it as a list"
        ) from None
    if not words:
        raise BadValue('is empty; write ["./drained.sh"]')
    return words


_EXPANSIONS = ("`", *(f"${letter}" for letter in "({_" + LETTERS))
_OPERATORS = ("&&", "||", ">>", "<<", ";", "|", "&", "<", ">", "\n", *_EXPANSIONS)


def for_a_shell(text: str) -> str:
    """Return the first operator or expansion that no quotes keep from a shell (double quotes do not
    keep a $), or ""."""
    quote, at = "", 0
    while at < len(text):
        letter = text[at]
        if letter == "\\" and quote != "'":
            at += 2
            continue
        if letter in "'\"" and quote in ("", letter):
            quote = "" if quote else letter
        elif quote != "'":
            for word in _EXPANSIONS if quote else _OPERATORS:
                if text.startswith(word, at):
                    return "line end" if word == "\n" else word
        at += 1
    return ""
