"""A problem with the configuration, and how a value is shown in its text."""

from __future__ import annotations

from gracewrap.config.values import plain
from gracewrap.record import Record


class Problem(Record):
    """Something that cannot be used, in one line: what, where, and what to write instead.  A
    *warning* stops nothing."""

    text: str
    warning: bool = False
    status: int = 125  # what gracewrap exits with


CONFIG_VARIABLE = b"GRACEWRAP_CONFIG"
DEFAULT_FILE = "gracewrap.toml"  # what init writes, and check and a run without a command read


def show(raw: object, depth: int = 4) -> str:
    """Return a value as it would stand in TOML, shortened."""
    if isinstance(raw, bool):
        text = str(raw).lower()
    elif isinstance(raw, str):
        quote = "'" if ("\\" in raw or '"' in raw) and "'" not in raw and raw.isprintable() else '"'
        text = quote + one_line(raw) + quote
    elif isinstance(raw, list | dict) and not depth:
        text = "..."
    elif isinstance(raw, list):
        text = "[" + ", ".join(show(one, depth - 1) for one in raw[:40]) + "]"
    elif isinstance(raw, dict):
        text = (
            "{"
            + ", ".join(
                f"{one_line(key)} = {show(one, depth - 1)}" for key, one in list(raw.items())[:40]
            )
            + "}"
        )
    else:
        text = plain(raw)
    return text if len(text) <= 80 else text[:76] + " ..."


def one_line(text: str) -> str:
    """Return *text* with what would break a line or play tricks on a terminal escaped."""
    if text.isprintable():
        return text
    return "".join(
        c if c.isprintable() else c.encode("unicode_escape", "backslashreplace").decode()
        for c in text
    )
