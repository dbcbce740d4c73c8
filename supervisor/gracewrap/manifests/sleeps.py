"""What a shell runs, and how long a command that only waits takes: what people write in preStop."""

from __future__ import annotations

import re
import shlex

from gracewrap.manifests.durations import seconds
from gracewrap.record import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence

SHELLS = {"sh", "bash", "ash", "dash", "busybox"}


def seconds_of(command: Sequence[str]) -> float | None:
    """Return the seconds that a command sleeps, or None if it does anything else."""
    words = without_shell(command)
    if len(words) == 2 and words[0].rpartition("/")[2] == "sleep":
        return seconds(words[1])
    return None


def without_shell(command: Sequence[str]) -> list[str]:
    """Return the words of a command, or those that the shell has which it starts."""
    words = list(command)
    while words and words[0].rpartition("/")[2] in SHELLS and len(words) > 1:
        if re.fullmatch(r"-\w*c", words[1]):
            words = split(words[2]) if len(words) > 2 else []
        else:
            words = words[1:]
    return words[1:] if words[:1] == ["exec"] else words


def split(text: str) -> list[str]:
    """Return a shell's words; of what is no plain command, the text as one word."""
    try:
        return shlex.split(text)
    except ValueError:
        return [text]
