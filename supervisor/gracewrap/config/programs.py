"""Several programs: what is said for all, what [defaults] says of each, and what each says of
itself, put checks.

A flag or a variable that is about one program is about all of them, and counts more than what the
file says.  Loaded only for a file that has programs.
"""

from __future__ import annotations

from gracewrap.config import origins as origins_
from gracewrap.config import probe_specs, program_checks, refused_combinations
from gracewrap.config.origins import Origins, RawValue
from gracewrap.config.parsers import probes
from gracewrap.config.problems import Problem
from gracewrap.config.refused_combinations_at_every_start import cross_check
from gracewrap.config.schema import BY_KEY, GLOBAL, OF_BOTH, TABLE
from gracewrap.config.settings import COMMAND_LINE, Settings
from gracewrap.record import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence
    from typing import Any

DEFAULTS, PROGRAMS = "defaults", "programs"
_OF_ONE = ("command", "depends_on", "stop_after")  # nothing that [defaults] could say of all
_NO_COMMAND = 'it has no command; write command = ["node", "server.js"]'
# What need not be kept for each program, since the class has it.
_CLASS = {
    name: getattr(Settings, name) for name in Settings.__match_args__ if hasattr(Settings, name)
}
_CHOOSING = (*probe_specs.KINDS, "all", "any")
# What nothing else within a program depends on.
_FREE = frozenset(
    (
        *_OF_ONE,
        "working_dir",
        "env",
        "env_file",
        "clear_env",
        "user",
        "group",
        "supplementary_groups",
        "umask",
        "nice",
        "rlimits",
    )
)
_OF_PROBES = {f"drain.{key}" for key in (*probes.PARSERS, "all", "any")}


class Layer:
    """What was said in one place, parsed: by flags and variables, by [defaults], or by
    [programs.NAME]."""

    def __init__(self, given: Iterable[RawValue], problems: list[Problem]) -> None:
        self.values: dict[str, Any] = {}
        self.origins: dict[str, str] = {}
        self.places: dict[str, str] = {}
        given = tuple(given)
        self.unusable = origins_.parse_each(given, self.values, self.origins, problems)
        self.places = {one.key: one.place for one in given}
        self.meant: set[str] = set()  # what means something to any of the programs
        self.kind = self._probe_kind()

    def _probe_kind(self) -> str:
        """Return which kind of probe it names for the drain; "": none."""
        for kind in _CHOOSING:
            key = f"drain.{kind}"
            if key in self.origins and self.values[BY_KEY[key].field] is not False:
                return kind
        return ""


def resolve(
    from_file: Sequence[RawValue], shared: Sequence[RawValue], command: Sequence[str], sound: bool
) -> tuple[Settings | None, list[Problem]]:
    """Return the settings of all programs, or None, and every problem there is.

    Args:
        from_file: What the file says, its programs too.
        shared: What variables and flags say.
        command: The command on the command line, which there must not be.
        sound: Whether there has been no problem so far; else nothing is said of what may come of
            it.
    """
    tables = {one.place: one.origin for one in from_file if not one.key}
    if PROGRAMS not in tables:
        return None, [_no_programs(tables[DEFAULTS])] if sound else []
    names = [
        place.removeprefix("programs.") for place in tables if place not in (DEFAULTS, PROGRAMS)
    ]
    problems = list(_misplaced(from_file, tables, command))
    if not names and sound:
        fault = "it has no program; write [programs.web], and its command below it"
        problems.append(Problem(f"cannot use [programs] ({tables[PROGRAMS]}): {fault}"))
    rest = [one for one in from_file if one.key and _is_in_place(one)]
    making = _making(rest, shared, problems)
    overall = making.overall
    by_place: dict[str, list[RawValue]] = {}
    for one in rest:
        by_place.setdefault(one.place, []).append(one)
    programs = []
    for name in names:
        place = f"programs.{name}"
        programs.append(making.program(name, tables[place], by_place.get(place, ()), problems))
    problems += program_checks.check_names(
        programs, overall.values.get("exit_code_from"), Origins(overall.origins)
    )
    if sound and not any(not problem.warning for problem in problems):
        problems += _unused((making.over, making.defaults))
    problems += program_checks.check_runs(programs)
    if not sound or any(not problem.warning for problem in problems):
        return None, problems
    settings = Settings(
        **making.base, origins=overall.origins, programs=tuple(map(making.settings, programs))
    )
    return settings, [*problems, *program_checks.check_budget(settings)]


def _making(
    rest: Iterable[RawValue], shared: Iterable[RawValue], problems: list[Problem]
) -> _Making:
    """Return what programs are made with, from what is for all or for several of them."""
    overall = Layer(
        [one for one in (*rest, *shared) if one.key in GLOBAL and not one.place], problems
    )
    over = Layer([one for one in shared if one.key not in GLOBAL], problems)
    defaults = Layer(
        [one for one in rest if one.place == DEFAULTS and one.key not in _OF_ONE], problems
    )
    return _Making(_for_all(overall, problems), overall, over, defaults)


def _is_in_place(one: RawValue) -> bool:
    """Return whether something is said where it can be: for all programs, or of one."""
    return (one.key in GLOBAL) == (not one.place) or one.key in OF_BOTH


def _no_programs(origin: str) -> Problem:
    fault = (
        "it applies to several programs, and there are none; write [programs.NAME], or move its "
        "lines to the top of the file"
    )
    return Problem(f"cannot use [defaults] ({origin}): {fault}")


def _misplaced(
    given: Sequence[RawValue], tables: Mapping[str, str], command: Sequence[str]
) -> Iterable[Problem]:
    """Yield what is said in a place where it cannot be."""
    if command:
        fault = (
            f"there are [programs] ({tables[PROGRAMS]}); remove one of the two, or make the "
            "command one of the programs"
        )
        yield Problem(f"cannot use a command ({COMMAND_LINE}): {fault}")
    for one in given:
        table, _, last = one.key.rpartition(".")
        if not one.key:
            continue
        if not one.place and one.key == "command":
            fault = (
                f"there are [programs] ({tables[PROGRAMS]}); make it one of them, in "
                "[programs.NAME]"
            )
        elif not one.place and one.key not in GLOBAL:
            inner = f".{table}" if table else ""
            for_all = "" if one.key in _OF_ONE else f"[defaults{inner}], for all, or "
            fault = (
                f"there are [programs] ({tables[PROGRAMS]}); write {last} in "
                f"{for_all}[programs.NAME{inner}]"
            )
        elif one.place and one.key in GLOBAL and one.key not in OF_BOTH:
            where = (
                f"in [{table}], beside [programs]"
                if table
                else "at the top of the file, above the first [table]"
            )
            fault = f"it applies to all programs together; write {last} {where}"
        elif one.place == DEFAULTS and one.key in _OF_ONE:
            fault = "each program has its own; write it in [programs.NAME]"
        else:
            continue
        yield Problem(f"cannot use {one.name} ({one.origin}): {fault}")


def _for_all(overall: Layer, problems: list[Problem]) -> dict[str, Any]:
    """Return the values of all fields where no program says anything of its own, and check what is
    for all."""
    values = {setting.field: setting.initial() for setting in TABLE} | overall.values
    where = Origins(overall.origins)
    problems += cross_check(values, where, overall.unusable)
    problems += refused_combinations.put_together(values, overall.origins, overall.unusable, where)
    return values


class _Making:
    """Makes programs, one after the other, of what is said of all and of each.

    Args:
        base: What counts where nobody says anything, by field.
        overall: What is said for all.
        over: What flags and variables say of each.
        defaults: What [defaults] says of each.
    """

    def __init__(
        self, base: Mapping[str, Any], overall: Layer, over: Layer, defaults: Layer
    ) -> None:
        self.base, self.overall, self.over, self.defaults = base, overall, over, defaults
        self._kept = {field for field, value in base.items() if not _is_class(field, value)}
        self._said: set[str] = set()  # of which problems, whosever they are
        # Most say nothing that others depend on: what is true of the first of them is true of all,
        # and looked at once.
        self._first: program_checks.Program | None = None
        self._firsts: set[str] = set()  # the fields in which that one differs from the class
        self._alike: set[str] = set()  # the names of those of which it is true

    def program(
        self, name: str, origin: str, given: Iterable[RawValue], problems: list[Problem]
    ) -> program_checks.Program:
        """Return a program of which *given* is said by itself; add what is wrong with it."""
        place = f"programs.{name}"
        own = Layer(given, problems)
        if "command" not in own.places:
            problems.append(Problem(f"cannot use {place} ({origin}): {_NO_COMMAND}"))
        if own.unusable or not own.origins.keys() <= _FREE - self.over.origins.keys():
            made = program_checks.Program(name, origin, own.origins, *self._merged(place, own))
            problems += self._checked(made)
            return made
        if self._first is None:
            made = program_checks.Program(name, origin, {}, *self._merged(place, Layer((), [])))
            problems += self._checked(made)
            self._first = made
            self._firsts = {
                field for field, value in made.values.items() if not _is_class(field, value)
            }
        values, where = dict(self._first.values), self._first.where
        for key in own.origins:
            values[BY_KEY[key].field] = own.values[BY_KEY[key].field]
        where = Origins({**where.origins, **own.origins}, {**where.places, **own.places}, place)
        self._alike.add(name)
        return program_checks.Program(
            name, origin, own.origins, values, where, self._first.unusable
        )

    def settings(self, made: program_checks.Program) -> Settings:
        """Return the settings of a program; what the class has anyway takes no memory."""
        values, base = made.values, self.base
        if made.name in self._alike:
            fields = self._firsts.union(BY_KEY[key].field for key in made.own)
            kept = {field: values[field] for field in fields if not _is_class(field, values[field])}
        else:
            kept = {
                field: value
                for field, value in values.items()
                if (field in self._kept if value is base[field] else not _is_class(field, value))
            }
        return Settings(**kept, name=made.name, origins=made.where.origins)

    def _merged(self, place: str, own: Layer) -> tuple[dict[str, Any], Origins, set[str]]:
        """Return the values of the program of *place*, where they are from, and which are
        unusable."""
        values, origins = dict(self.base), dict(self.overall.origins)
        places = dict.fromkeys(GLOBAL, "")
        layers = self.over, own, self.defaults
        for layer, dropped in reversed(tuple(zip(layers, _dropped(layers)))):
            layer.meant |= layer.origins.keys() - dropped
            if self.over.kind or layer.kind:  # another probe is asked, but this is no mistake
                layer.meant |= layer.origins.keys() & _OF_PROBES
            for key, origin in layer.origins.items():
                if key not in dropped:
                    field = BY_KEY[key].field
                    values[field], origins[key], places[key] = (
                        layer.values[field],
                        origin,
                        layer.places[key],
                    )
        return (
            values,
            Origins(origins, places, place),
            self.overall.unusable.union(*(layer.unusable for layer in layers)),
        )

    def _checked(self, made: program_checks.Program) -> Iterable[Problem]:
        """Yield what does not go together within a program; what comes of [defaults] alone is said
        once."""
        found = [*cross_check(made.values, made.where, made.unusable)]
        found += refused_combinations.put_together(
            made.values, made.where.origins, made.unusable, made.where
        )
        for problem in found:
            whosoever = problem.text.replace(f"programs.{made.name}.", "programs.*.")
            if whosoever not in self._said:
                self._said.add(whosoever)
                yield problem


def _dropped(layers: tuple[Layer, Layer, Layer]) -> tuple[set[str], set[str], set[str]]:
    """Return of each layer what says nothing of this program.

    [defaults] may say how often to ask, and there is nothing to ask here; or which probe, and here
    is another one.  What the
    program says of itself always counts: if it means nothing, that is a mistake.
    """
    over, own, defaults = layers
    dropped: tuple[set[str], set[str], set[str]] = (set(), set(), set())
    first = next((n for n, layer in enumerate(layers) if layer.kind), None)
    kind = layers[first].kind if first is not None else ""
    for n, layer in enumerate(layers):
        if n != first and not (layer is own and (first is None or n < first)):
            dropped[n].update(
                key for key in layer.origins if key in _OF_PROBES and not _belongs(key, kind)
            )
    said = {
        key: layer.values[BY_KEY[key].field]
        for layer, without in zip(reversed(layers), reversed(dropped))
        for key in layer.origins
        if key not in without
    }
    nothing = (
        set()
        if kind
        else {
            f"drain.{key}"
            for key in refused_combinations.OF_A_PROBE
            if key != "when" or not said.get("drain.start")
        }
    )
    if not said.get("watchdog"):
        nothing.add("on_watchdog")
    if not said.get("ready"):
        nothing.add("ready_timeout")
    if not said.get("live"):
        nothing.add("on_unhealthy")
    usual = {"restart": "never", "on_exit": "", "on_failure": "", "live": None}
    if not refused_combinations.starts_again({**usual, "on_unhealthy": "restart", **said}):
        nothing.update(refused_combinations.OF_A_RESTART)
    for layer, without in ((over, dropped[0]), (defaults, dropped[2])):
        without |= nothing & layer.origins.keys()
    return dropped


def _belongs(key: str, kind: str) -> bool:
    """Return whether a setting of a probe is looked at by a probe of this kind, and chooses no
    other one."""
    last = key.removeprefix("drain.")
    if last in _CHOOSING:
        return last == kind
    if last == "unit":
        return kind in ("http", "tcp", "exec")
    return probes.OF.get(last, "http") == kind


def _unused(layers: Iterable[Layer]) -> Iterable[Problem]:
    """Yield what is said of all programs and means nothing to any of them."""
    for layer in layers:
        where = Origins(layer.origins, layer.places)
        for key in layer.origins:
            if key not in layer.meant:
                yield Problem(
                    f"cannot use {where.name(key)} ({where(key)}): it has no effect on any "
                    f"program; {_missing(key)}"
                )


def _missing(key: str) -> str:
    if key in refused_combinations.OF_A_RESTART:
        return 'none is restarted; add restart = "on-failure", or remove it'
    if key == "on_watchdog":
        return 'none has a watchdog; add watchdog = "30s", or remove it'
    return "none has such a drain probe; add one, or remove it"


def _is_class(field: str, value: object) -> bool:
    """Return whether a field has the value that the class has for it."""
    return field in _CLASS and type(value) is type(_CLASS[field]) and value == _CLASS[field]
