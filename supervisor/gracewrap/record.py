"""Record: frozen value classes without dataclasses, whose import costs 30 ms and a megabyte after
the spawn.

A subclass lists its fields as annotations, with defaults if it likes; mypy reads it as a frozen
dataclass.
"""

from __future__ import annotations

TYPE_CHECKING = False  # what typing.TYPE_CHECKING is; importing typing costs 8 ms
if TYPE_CHECKING:
    from collections.abc import Mapping
    from typing import Any, TypeVar, dataclass_transform
    from typing import assert_never as assert_never  # noqa: PLC0414 - exported from here

    Self = TypeVar("Self", bound="Record")
else:

    def dataclass_transform(**_options):
        return lambda cls: cls

    def assert_never(value):
        raise AssertionError(f"nobody handles {value!r}")


_NOT_KNOWN_YET = frozenset(("",))  # no record has such a field


@dataclass_transform(frozen_default=True)
class Record:
    """A frozen value: equal by class and fields, matched by position, shown with its fields."""

    __slots__ = ("__dict__",)
    __match_args__: tuple[str, ...] = ()
    # Found out when the first instance is made: most classes of a run are never used.
    _known: frozenset[str] = frozenset()
    _needed: frozenset[str] = _NOT_KNOWN_YET  # the fields without a default

    def __init_subclass__(cls) -> None:
        if own := cls.__dict__.get("__annotations__"):
            inherited = cls.__match_args__
            names = [name for name in own if name[0] != "_" and name not in inherited]
            setattr(cls, "__match_args__", (*inherited, *names))  # noqa: B010 - mypy forbids the plain assignment
        if cls._needed is not _NOT_KNOWN_YET:  # it inherits from a record that has been made
            cls._needed = _NOT_KNOWN_YET

    def __init__(self, *args: Any, **fields: Any) -> None:
        values = fields
        if args:
            names = self.__match_args__
            if len(args) > len(names):
                raise TypeError(f"{type(self).__name__} takes {len(names)} fields, got {len(args)}")
            values = dict(zip(names, args))
            if not fields.keys().isdisjoint(values):
                raise TypeError(
                    f"{type(self).__name__} got a second {min(fields.keys() & values.keys())!r}"
                )
            values.update(fields)
        # Thousands are made between two starts of programs: right values are recognised at once.
        if not (self._needed.issubset(values) and self._known.issuperset(values)):
            self._check(values)
        self.__dict__.update(values)

    @classmethod
    def _check(cls, values: Mapping[str, object]) -> None:
        """Raise TypeError for a field that is not known, or that is missing."""
        cls._known = frozenset(cls.__match_args__)
        cls._needed = frozenset(name for name in cls.__match_args__ if not hasattr(cls, name))
        if unknown := values.keys() - cls._known:
            raise TypeError(f"{cls.__name__} got an unknown {min(unknown)!r}")
        if missing := cls._needed - values.keys():
            raise TypeError(f"{cls.__name__} needs {min(missing)!r}")

    def __setattr__(self, name: str, value: object) -> None:
        raise AttributeError(f"{type(self).__name__} is frozen: cannot set {name!r}")

    def __delattr__(self, name: str) -> None:
        raise AttributeError(f"{type(self).__name__} is frozen: cannot delete {name!r}")

    def _fields(self) -> tuple[object, ...]:
        return tuple(getattr(self, name) for name in self.__match_args__)

    def __eq__(self, other: object) -> bool:
        return (
            type(other) is type(self)
            and isinstance(other, Record)
            and self._fields() == other._fields()
        )

    def __hash__(self) -> int:
        return hash((type(self), self._fields()))

    def __repr__(self) -> str:
        fields = ", ".join(f"{n}={getattr(self, n)!r}" for n in self.__match_args__)
        return f"{type(self).__name__}({fields})"


def replace(record: Self, **changes: Any) -> Self:
    """Return a copy of *record* with *changes* in it, checked as at its making."""
    if not record._known.issuperset(changes):
        raise TypeError(
            f"{type(record).__name__} got an unknown {min(changes.keys() - record._known)!r}"
        )
    made = object.__new__(type(record))
    made.__dict__.update(record.__dict__, **changes)
    return made
