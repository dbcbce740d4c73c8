"""Reads the words after `gracewrap`: options, subcommand, command."""

from __future__ import annotations

from gracewrap.config.origins import RawValue
from gracewrap.config.problems import DEFAULT_FILE, Problem
from gracewrap.config.schema_core import CORE, Setting
from gracewrap.config.settings import COMMAND_LINE
from gracewrap.record import TYPE_CHECKING, Record

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence


NO_DRAIN = "--no-drain"
CONFIG = ("-c", "--config")
# Options that hardly any other program has: behind the command, ours are meant.
OURS = (
    *("--shutdown-timeout", "--stop-timeout", "--stop-signal", "--kill-mode", "--pre-stop"),
    *("--post-stop", "--propagation-delay", "--success-exit-codes", "--flush-timeout"),
    *("--health-listen", "--termination-log", "--drain-tcp", "--drain-http", "--drain-when"),
    *("--drain-linger", "--drain-timeout", NO_DRAIN),
)
FLAGS = {"-h": "help", "--help": "help", "-V": "version", "--version": "version"}


class CommandLine(Record):
    """The words after `gracewrap`, taken apart."""

    given: tuple[RawValue, ...]
    command: tuple[str, ...]
    config: str | None
    action: str  # "run", "help", "version", or a subcommand's name
    problems: tuple[Problem, ...]
    no_drain: bool = False  # nothing is drained, whatever the file says


def read_command_line(args: Sequence[str]) -> CommandLine:
    """Take the words after `gracewrap` apart: options first, then `--` or the first other word
    starts the command."""
    options, i = _Options(), 0
    action, command = "run", tuple[str, ...]()
    explicit = no_drain = False  # explicit: `run` was written, so a command follows
    while i < len(args):
        word, i = args[i], i + 1
        if word in FLAGS:
            return CommandLine((), (), None, FLAGS[word], ())
        if word == "--":
            command = tuple(args[i:])
            break
        if word == "run" and not explicit:
            explicit = True
            continue
        if word == NO_DRAIN:
            no_drain = True
            continue
        if not word.startswith("-") or word == "-":
            command = tuple(args[i - 1 :])
            if not explicit:
                action, command = _first_word(command, options.problems)
            if action == "run":
                options.problems += _behind_the_command(command)
            break
        taken = options.take(word, args[i:])
        if taken is None:
            break
        i += taken
    given, problems = options.given, options.problems
    if no_drain:
        problems += _no_drain_beside(given)
    return CommandLine(
        tuple(given.values()), command, options.config, action, tuple(problems), no_drain
    )


class _Options:
    """What options have said so far."""

    def __init__(self) -> None:
        self.config: str | None = None
        self.given: dict[str, RawValue] = {}
        self.problems: list[Problem] = []
        self._known = {name: s for s in CORE if s.flag for name in (s.option, *s.aliases)}

    def take(self, word: str, following: Sequence[str]) -> int | None:
        """Take in one option; return how many of the words *following* it are its value.

        None: it cannot be used, and it is unknown whether the next word is its value or the
        command.
        """
        name, equals, value = word.partition("=")
        if name not in self._known and name not in CONFIG:
            from gracewrap.config.schema import OPTIONS  # the drain and others, loaded on demand

            self._known = OPTIONS
        setting = self._known.get(name)
        if setting is None and name not in CONFIG:
            value = value if equals else "".join(following[:1])
            self.problems.append(_unknown_option(name, self._known, value))
            return None
        taken = 0
        if not equals:
            words = _value(setting, following)
            if words is None:
                self.problems.append(_no_value(name, setting))
                return None
            value, taken = words[0] if words else "true", len(words)
        if setting is None:
            self.config = value
        else:
            _give(self.given, setting, value, name)
        return taken


def _value(setting: Setting | None, words: Sequence[str]) -> Sequence[str] | None:
    """Return those of *words* that are the value of the option before them: one, or none for a
    switch; None if there has to be one and there is not."""
    if setting is not None and setting.switch:
        # The next word may be the command, also one called `true`: that with more words after it
        # is none.
        return words[:1] if len(words) > 1 and words[0] in ("true", "false") else ()
    # `--` and all that follows cannot be a value; write = for one that is.
    return words[:1] if words and not words[0].startswith("--") else None


def _give(given: dict[str, RawValue], setting: Setting, value: str, name: str) -> None:
    """Add the value of an option to those given: the last one counts, or all of them, joined."""
    before = given.get(setting.key)
    if before is not None and setting.joined:
        value = f"{before.raw}{setting.joined}{value}"
    given[setting.key] = RawValue(setting.key, value, f"{COMMAND_LINE}, {name}")


def _no_drain_beside(given: Mapping[str, RawValue]) -> Iterator[Problem]:
    """Yield what is wrong with --no-drain beside other options."""
    key = next((one for one in given if one.startswith("drain.")), "")
    if key:
        origin = given[key].origin.partition(", ")[2]
        yield Problem(f"cannot use {NO_DRAIN} ({COMMAND_LINE}): there is {origin} too; use one")


def _first_word(words: Sequence[str], problems: list[Problem]) -> tuple[str, tuple[str, ...]]:
    """Return action and command: the first word that is no option is a subcommand, or starts the
    command."""
    from gracewrap.config.subcommand_names import (
        OF_OTHERS,
        OF_THE_MACHINE,
        SUBCOMMANDS,
    )

    word = words[0]
    if word in SUBCOMMANDS:
        return word, tuple(words[1:])
    if word == "help":
        return word, tuple(words[1:])
    if word in OF_OTHERS and (len(words) == 1 or word in OF_THE_MACHINE):
        problems.append(_of_another(words))
    elif word in OF_OTHERS and _is_in_path(word) and _is_a_name(words[1:]):
        problems.append(
            Problem(f"it runs the command {word!r}{_unknown(words)}; without this line: gracewrap "
                    f"-- {' '.join(words)}", warning=True)
        )  # fmt: skip
    elif "/" not in word and not _is_in_path(word) and (hint := _unknown(words)):
        text = f"cannot run {word!r} ({COMMAND_LINE}): it is not found{hint}"
        problems.append(Problem(text, status=127))
    return "run", tuple(words)


def _behind_the_command(words: Sequence[str]) -> Iterator[Problem]:
    """Yield a warning if one of our options stands behind a command that no `--` stands before."""
    at = next((i for i, word in enumerate(words) if word.partition("=")[0] in OURS), 0)
    if at:
        name = words[at].partition("=")[0]
        yield Problem(
            f"{name} is behind the command, so {words[0]} gets it; for gracewrap write it first: "
            f"gracewrap {name} ... -- {words[0]} ...; if {words[0]} has it: gracewrap -- "
            f"{words[0]} ...",
            warning=True,
        )


def _of_another(words: Sequence[str]) -> Problem:
    hint = _unknown(words) or f"; there is no gracewrap {words[0]}"
    return Problem(
        f"cannot use {words[0]!r} ({COMMAND_LINE}){hint}; to run a program of this name write: "
        f"gracewrap -- {' '.join(words)}"
    )


def _unknown(words: Sequence[str]) -> str:
    from gracewrap.config.did_you_mean import unknown_command

    return unknown_command(*words)


def _is_a_name(words: Sequence[str]) -> bool:
    """Return whether these are the name of a program rather than a command's arguments: one word,
    which is no option, file or number."""
    if len(words) != 1 or not words[0][:1].isalpha() or "/" in words[0]:
        return False
    import posix  # built in

    try:
        posix.lstat(words[0])
    except OSError:
        return True
    return False


def _is_in_path(word: str) -> bool:
    """Return whether a command may be found; it is the start that knows."""
    import posix  # built in

    for directory in posix.environ.get(b"PATH", b"/bin:/usr/bin").split(b":"):
        try:
            posix.stat(directory + b"/" + word.encode(errors="surrogateescape"))
            return True
        except (OSError, ValueError):
            pass
    return False


def _no_value(name: str, setting: Setting | None) -> Problem:
    shown = (setting.example, setting.default, setting.metavar) if setting else (DEFAULT_FILE,)
    example = next(value for value in shown if isinstance(value, str))
    return Problem(f"cannot use {name} ({COMMAND_LINE}): it needs a value; write {name} {example}")


def _unknown_option(name: str, options: Mapping[str, Setting], value: str) -> Problem:
    from gracewrap.config.did_you_mean import unknown_option

    return Problem(f"cannot use {name} ({COMMAND_LINE}): {unknown_option(name, options, value)}")
