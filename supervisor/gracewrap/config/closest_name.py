"""The known name that is closest to an unknown one."""

from __future__ import annotations

from gracewrap.record import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable


def close_to(word: str, known: Iterable[str]) -> str:
    """Return a did-you-mean for an error message."""
    found = closest(word, known)
    return f'; did you mean "{found}"?' if found else ""


def closest(word: str, known: Iterable[str]) -> str | None:
    """Return the one of *known* that looks like *word*, or None."""
    import difflib  # only when something is wrong

    known = tuple(known)
    # Two letters that have changed places are most of a short word: tpc.
    if swapped := next((one for one in known if sorted(one) == sorted(word)), None):
        return swapped
    # No name of ours is longer than 100 letters, and difflib is quadratic.
    found = difflib.get_close_matches(word[:100], known, 1, 0.7)
    return found[0] if found else None
