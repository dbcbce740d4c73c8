"""Values as they were given, where each comes from, and parsing them one by one."""

from __future__ import annotations

from gracewrap.config.problems import Problem, show
from gracewrap.config.schema_core import CORE_BY_KEY
from gracewrap.config.values import BadValue
from gracewrap.record import TYPE_CHECKING, Record

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping
    from typing import Any


class RawValue(Record):
    """A value that somebody wrote: for which key, what, and where.

    *place* is the table of several programs that it stands in: "defaults" or "programs.NAME".
    There a *key* of "" says that the table is there, and *raw* nothing.
    """

    key: str
    raw: object
    origin: str
    place: str = ""

    @property
    def name(self) -> str:
        """The key as people find it in the file."""
        return f"{self.place}.{self.key}" if self.place else self.key


class Origins:
    """Where each setting is from, and what it is called there: stop_timeout is
    programs.web.stop_timeout in a file of several."""

    __slots__ = ("origins", "place", "places")

    def __init__(
        self, origins: Mapping[str, str], places: Mapping[str, str] | None = None, place: str = ""
    ) -> None:
        self.origins, self.places, self.place = origins, places or {}, place

    def __call__(self, key: str) -> str:
        """Return where a setting is from."""
        return self.origins.get(key, "default")

    def name(self, key: str) -> str:
        """Return what it is called."""
        place = self.places.get(key, self.place)
        return f"{place}.{key}" if place else key


def parse_each(
    given: Iterable[RawValue],
    values: dict[str, Any],
    origins: dict[str, str],
    problems: list[Problem],
) -> set[str]:
    """Parse what was given into *values* and *origins*, later ones winning; return the keys that
    could not be used."""
    unusable: set[str] = set()
    for one in given:
        raw = one.raw
        if one.key in CORE_BY_KEY:
            setting = CORE_BY_KEY[one.key]
        else:
            from gracewrap.config import redact
            from gracewrap.config.schema import BY_KEY

            setting = BY_KEY[one.key]
        try:
            values[setting.field], origins[one.key] = setting.parse(raw), one.origin
        except BadValue as fault:
            raw = redact.concealed(one.key, raw) if one.key not in CORE_BY_KEY else raw
            problems.append(Problem(f"cannot use {one.name} = {show(raw)} ({one.origin}): {fault}"))
            unusable.add(one.key)
    return unusable
