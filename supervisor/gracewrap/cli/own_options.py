"""Takes a subcommand's own options out of words that are otherwise those of a run."""

from __future__ import annotations

from gracewrap.config import command_line
from gracewrap.config.settings import COMMAND_LINE
from gracewrap.record import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence


def taken(
    words: Sequence[str], options: Mapping[str, str]
) -> tuple[list[str], dict[str, list[str]], str]:
    """Return the words without these options, the values of each, and what is wrong with them.

    Args:
        words: The words after the subcommand.
        options: The name of each, and an example of its value; "": it takes none.
    """
    rest: list[str] = []
    found: dict[str, list[str]] = {}
    at = 0
    while at < len(words):
        name, equals, value = words[at].partition("=")
        if words[at] == "--":
            return [*rest, *words[at:]], found, ""
        if name not in options or not is_free(rest):
            rest.append(words[at])
            at += 1
            continue
        at += 1
        if options[name] and not equals:
            value, at = "".join(words[at : at + 1]), at + 1
            if not value or (value.startswith("-") and value != "-"):
                return rest, found, _no_value(name, options[name])
        found.setdefault(name, []).append(value)
    return rest, found, ""


def mistyped(words: Sequence[str], own: Iterable[str]) -> str:
    """Say which of the subcommand's *own* options was meant by one that there is not; "": none."""
    from gracewrap.config.closest_name import closest
    from gracewrap.config.schema import OPTIONS

    own, others = tuple(own), (*OPTIONS, *command_line.FLAGS, "--config", command_line.NO_DRAIN)
    for at, word in enumerate(words):
        name = word.partition("=")[0]
        if word == "--":
            break
        if not name.startswith("--") or name in own or name in others or not is_free(words[:at]):
            continue
        meant = closest(name, (*own, *others))
        if meant in own:
            return f"cannot use {name} ({COMMAND_LINE}): no such option; did you mean {meant}?"
        break
    return ""


def _no_value(name: str, example: str) -> str:
    return f"cannot use {name} ({COMMAND_LINE}): it needs a value; write {name} {example}"


def is_free(before: Sequence[str]) -> bool:
    """Return whether a word after these is an option, not a value or the command's."""
    line = command_line.read_command_line(before)
    return not line.command and not line.problems and line.action == "run"
