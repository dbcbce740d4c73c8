"""A TOML file: its keys and their lines, and what its ${NAME}s stand for."""

from __future__ import annotations

import re
import tomllib

from gracewrap.config import expand
from gracewrap.config.origins import RawValue
from gracewrap.config.parsers.lifecycle import is_name
from gracewrap.config.problems import Problem
from gracewrap.config.safe_read import Unreadable, read, remedy
from gracewrap.config.schema import BY_KEY, TABLE
from gracewrap.config.toml_lines import Lines
from gracewrap.record import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping

MOST_PROBLEMS = 30  # of one file; it is the wrong file then

# tomllib takes time and memory by the square of a key's parts: 208 s and 24 GB for one line of 256
# KiB, a.a.a.a...
_KEY = r"""(?:[A-Za-z0-9_-]++|"[^"\n]*+"|'[^'\n]*+')"""
_MOST_PARTS = 200
_LONG_KEY = rf"(?<![A-Za-z0-9_-]){_KEY}(?:[ \t]*+\.[ \t]*+{_KEY}){{{_MOST_PARTS}}}"

_SUPERVISORD = r"(?m)^\[(program|group|eventlistener|fcgi-program):[^\]\n]{0,60}\]|^\[supervisord\]"
_FROM_SUPERVISORD = (
    'gracewrap init writes one of ours, and the table "Coming from" in docs/migrate.md '
    "has the name of each setting here"
)

TABLES = {setting.key.rpartition(".")[0] for setting in TABLE} - {""}


def read_toml(
    path: str, origin: str, env: Mapping[bytes, bytes], shown: str = ""
) -> tuple[list[RawValue], list[Problem]]:
    """Return the settings in the file, each with its line, and what is wrong with the others.

    Args:
        path: The file.
        origin: Who says that it is to be read.
        env: What ${NAME} stands for.
        shown: What the file is called in origins and messages; "": by its path.
    """
    try:
        content = read(path, "a configuration")
    except OSError as error:
        hint = "; gracewrap init writes one" if isinstance(error, FileNotFoundError) else ""
        return [], [
            Problem(
                f"cannot read {path!r} ({origin}): {error.strerror}{remedy(path, error) or hint}"
            )
        ]
    except Unreadable as fault:
        return [], [Problem(f"cannot read {path!r} ({origin}): {fault}")]
    return parse_toml(content, path, origin, env, shown)


def parse_toml(
    content: bytes, path: str, origin: str, env: Mapping[bytes, bytes], shown: str = ""
) -> tuple[list[RawValue], list[Problem]]:
    """Return what read_toml() does, for a file with this content."""
    try:
        text = _decode(content)
        tree = _parse(text)
    except Unreadable as fault:
        return [], [Problem(f"cannot read {path!r} ({origin}): {fault}")]
    return _flatten(shown or path, text, tree, env)


def _decode(content: bytes) -> str:
    try:
        return content.decode("utf-8").removeprefix(
            "\ufeff"
        )  # a byte order mark, as Windows editors write it
    except UnicodeDecodeError as error:
        line = content.count(b"\n", 0, error.start) + 1
        raise Unreadable(
            f"line {line} is not UTF-8 (byte 0x{content[error.start]:02x}); save it as UTF-8"
        ) from None


def _parse(text: str) -> dict[str, object]:
    dotted = any(line.count(".") >= _MOST_PARTS for line in text.split("\n"))
    if dotted and (long := re.search(_LONG_KEY, text)):
        line = text.count("\n", 0, long.start()) + 1
        raise Unreadable(
            f"line {line}: a key of more than {_MOST_PARTS} parts is nested too deeply"
        )
    try:
        return tomllib.loads(text)
    except RecursionError:
        raise Unreadable("it is nested too deeply") from None
    except ValueError as error:  # TOMLDecodeError, or what int() says to 5000 digits
        if section := re.search(_SUPERVISORD, text):
            at = text.count("\n", 0, section.start()) + 1
            raise Unreadable(
                f"line {at}, {section[0]}: it is a file of supervisord; {_FROM_SUPERVISORD}"
            ) from None
        from gracewrap.config.toml_errors import explained

        raise Unreadable(explained(text, error)) from None


def _flatten(
    path: str, text: str, tree: dict[str, object], env: Mapping[bytes, bytes]
) -> tuple[list[RawValue], list[Problem]]:
    """Walk the tables; *tree* holds settings, tables of settings one level down, and the like of
    each program."""
    walk = _Walk(path, text, env)
    for name, value in tree.items():
        if name == "programs":
            walk.programs(value)
        elif name == "defaults" and isinstance(value, dict):
            walk.table(("defaults",), value)
        elif name == "group" and isinstance(
            value, dict
        ):  # [group.x]; a setting of this name says who runs it
            walk.unknown((), (name,), value)
        else:
            walk.add((), (name,), value)
    return walk.given, walk.problems


class _Walk:
    """What has been found so far in the file at *path*."""

    def __init__(self, path: str, text: str, env: Mapping[bytes, bytes]) -> None:
        self.given: list[RawValue] = []
        self.problems: list[Problem] = []
        self._path, self._env, self._lines = path, env, Lines(text)
        self._unknown = 0

    def _origin(self, keys: tuple[str, ...]) -> str:
        line = self._lines.find(keys)
        return f"{self._path}, line {line}" if line else self._path

    def programs(self, tree: object) -> None:
        """Walk [programs]."""
        if not isinstance(tree, dict):
            fault = (
                "it is a table of programs; write [programs.web], and below it its command and "
                "settings"
            )
            self.problems.append(
                Problem(f"cannot use programs ({self._origin(('programs',))}): {fault}")
            )
            return
        self.given.append(RawValue("", None, self._origin(("programs",)), "programs"))
        for name, table in tree.items():
            fault = ""
            if not isinstance(table, dict):
                below = name if name in BY_KEY else "its command and settings"
                fault = (
                    "in [programs] there are tables of programs only; write [programs.NAME], "
                    f"and {below} below it"
                )
            elif not is_name(name):
                fault = (
                    "a program's name has up to 63 letters, digits, -, _ and ., and starts "
                    "with neither - nor ."
                )
            if fault:
                self.problems.append(
                    Problem(
                        f"cannot use programs.{name} ({self._origin(('programs', name))}): {fault}"
                    )
                )
            else:
                self.table(("programs", name), table)

    def table(self, place: tuple[str, ...], tree: dict[str, object]) -> None:
        """Walk the settings of one program, or of [defaults]."""
        self.given.append(RawValue("", None, self._origin(place), ".".join(place)))
        for name, value in tree.items():
            self.add(place, (name,), value)

    def add(self, place: tuple[str, ...], keys: tuple[str, ...], value: object) -> None:
        """Take in a setting, or a table of them, that stands in *place*."""
        key, written = ".".join(keys), (*place, *keys)
        if key in BY_KEY and key.count(".") == len(keys) - 1:
            try:
                self.given.append(
                    RawValue(
                        key,
                        expand.expanded(key, value, self._env),
                        self._origin(written),
                        ".".join(place),
                    )
                )
            except expand.Unexpanded as wrong:
                line = self._lines.find_text(written, wrong.reference)
                if key == "command":  # there is one
                    self.given.append(RawValue(key, value, self._origin(written), ".".join(place)))
                self.problems.append(
                    Problem(f"cannot use {'.'.join(written)} ({self._path}, line {line}): {wrong}")
                )
        elif len(keys) == 1 and key in TABLES and isinstance(value, dict):
            for inner, inner_value in value.items():
                self.add(place, (key, inner), inner_value)
        else:
            self.unknown(place, keys, value)

    def unknown(self, place: tuple[str, ...], keys: tuple[str, ...], value: object) -> None:
        """Say that there is no such setting, or table."""
        self._unknown += 1
        if self._unknown <= MOST_PROBLEMS:
            from gracewrap.config.did_you_mean import unknown_key

            written = (*place, *keys)
            if len(written) == 1 and isinstance(value, dict) and "command" in value:
                hint = f"if it is one of several programs, write [programs.{keys[0]}]"
            else:
                hint = unknown_key(keys, BY_KEY, ".".join(place))
            self.problems.append(
                Problem(f"cannot use {'.'.join(written)} ({self._origin(written)}): {hint}")
            )
        elif self._unknown == MOST_PROBLEMS + 1:
            self.problems.append(
                Problem(f"cannot use {self._path!r}: and there are more; is it the right file?")
            )
