"""Parses inline tables: each key with its own parser; unknown keys get a suggestion."""

from __future__ import annotations

from gracewrap.config import closest_name
from gracewrap.config.values import BadValue, KeyFault
from gracewrap.record import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping


def parsed(
    table: Mapping[object, object], parsers: Mapping[str, Callable[[object], object]]
) -> dict[str, object]:
    """Parse the keys of an inline table.

    Raises:
        KeyFault: If a value cannot be used, or there is no such key.
    """
    found = {}
    for key, raw in table.items():
        name = str(key)
        if name == "log_line" and name not in parsers:
            raise KeyFault(
                name, "it tells that a program is ready, not that it is drained; write it in ready"
            )
        if name not in parsers:
            raise KeyFault(name, _no_key(name, table, parsers))
        try:
            found[name] = parsers[name](raw)
        except KeyFault:
            raise
        except BadValue as fault:
            raise KeyFault(name, _no_table(name, raw) or str(fault)) from None
    return found


def _no_key(
    name: str, table: Mapping[object, object], parsers: Mapping[str, Callable[[object], object]]
) -> str:
    from gracewrap.config import probe_suggestions

    close = f"no such key{closest_name.close_to(name, parsers)}; there are {', '.join(parsers)}"
    return probe_suggestions.key(name, table, parsers) or close


def _no_table(name: str, raw: object) -> str:
    from gracewrap.config import probe_suggestions

    return probe_suggestions.value(name, raw)
