"""Declares a subcommand once: its options, its help, its function; reads its words with argparse.

argparse is in the standard library, so that every subcommand works wherever a run does, in an image
with nothing but our files too; and it takes 16 ms to import, of which `gracewrap health`, run every
few seconds and mostly without options, is spared.
"""

from __future__ import annotations

import posix

from gracewrap.cli.control_client import Unusable, choose
from gracewrap.record import TYPE_CHECKING, Record, replace

if TYPE_CHECKING:
    from argparse import ArgumentParser
    from collections.abc import Callable, Sequence
    from typing import NoReturn

    from gracewrap.server.control_socket import Instance

WIDTH = 79  # columns of a help text
SOCKET_VARIABLE = "GRACEWRAP_CONTROL_SOCKET"


class Arguments(Record):
    """The words after a subcommand."""

    names: tuple[str, ...] = ()  # of programs; of init: the file
    pid: int | None = None
    socket: str | None = None
    timeout: float | None = None  # seconds
    watch: bool = False
    json: bool = False
    wait: bool = False
    no_wait: bool = False
    live: bool = False
    force: bool = False
    programs: bool = False
    all: bool = False
    svg: str | None = None  # files to write
    html: str | None = None
    preset: str | None = None
    socket_origin: str = "--socket"  # where *socket* comes from


class Option(Record):
    """One option.  Without a *metavar* it takes no value."""

    names: tuple[str, ...]  # the long name last
    help: str
    metavar: str = ""
    example: str = ""  # a value, for the error about a missing one
    sets: str = ""  # the field of Arguments, where the name is none

    @property
    def field(self) -> str:
        """The field of Arguments that it sets."""
        return self.sets or self.names[-1].removeprefix("--").replace("-", "_")


class Subcommand(Record):
    """One subcommand."""

    name: str
    summary: str  # paragraphs
    usage: tuple[str, ...]  # without "gracewrap NAME"
    options: tuple[Option, ...]
    examples: str
    exit_status: str
    run: Callable[[Arguments], int]
    operand: tuple[str, str] = ("", "")  # what stands without a dash, and its help; "": nothing
    operands: int | None = None  # how many there may be; None: any number
    more: str = ""  # further paragraphs of the help


PID = Option(("--pid",), "The gracewrap with this pid.", "N", "1")
SOCKET = Option(
    ("--socket",),
    f"The gracewrap that listens here (its control.socket). [variable: {SOCKET_VARIABLE}]",
    "PATH",
    "/run/gracewrap-1.sock",
)
FINDING = """\
Which gracewrap:
  The only one that runs here. If several run: PID 1, the main process of a
  container; else use --pid N. A gracewrap can be found by its own user and by
  root, inside its own container: docker exec CONTAINER gracewrap ...
"""


def timeout(help: str) -> Option:
    """Return the option --timeout."""
    return Option(("--timeout",), help, "DURATION", "20s")


def chosen(arguments: Arguments) -> Instance:
    """Return the running gracewrap that the arguments mean.  Raises Unusable and NoAnswer."""
    return choose(arguments.pid, arguments.socket, arguments.socket_origin)


def terminal_width() -> int:
    """Return how wide a help text may be: as the terminal, or as 80 columns."""
    import shutil
    import sys

    if sys.stdout is None or not sys.stdout.isatty():
        return WIDTH
    return min(100, max(50, shutil.get_terminal_size().columns)) - 1


# --- help ----------------------------------------------------------------------------------------


def help_text(subcommand: Subcommand, width: int = WIDTH) -> str:
    """Return what `gracewrap SUBCOMMAND --help` prints."""
    import textwrap

    rows = [subcommand.operand] if subcommand.operand[1] else []
    rows += [(_spelled(option), option.help) for option in subcommand.options]
    rows.append(("-h, --help", "Print this help."))
    usage = "".join(
        f"  gracewrap {subcommand.name}{' ' * bool(line)}{line}\n" for line in subcommand.usage
    )
    paragraphs = subcommand.summary.strip().split("\n\n")
    summary = "\n\n".join(textwrap.fill(" ".join(one.split()), width) for one in paragraphs)
    parts = [summary, f"Usage:\n{usage}"]
    parts.append(
        "Options:\n" + "".join(_row(names, text, textwrap.wrap, width) for names, text in rows)
    )
    parts += [subcommand.more] if subcommand.more else []
    examples = "\n".join(f"  {line}" if line else "" for line in subcommand.examples.splitlines())
    parts += [f"Examples:\n{examples}\n", f"Exit status:\n{subcommand.exit_status}"]
    return "\n".join(part if part.endswith("\n") else part + "\n" for part in parts)


def _spelled(option: Option) -> str:
    names = ", ".join(option.names)
    return f"{names} {option.metavar}" if option.metavar else names


def _row(names: str, text: str, wrap: Callable[[str, int], list[str]], width: int) -> str:
    first, *rest = wrap(text, width - 22)
    rows = [f"  {names}", f"{'':22}{first}"] if len(names) > 18 else [f"  {names:<18}  {first}"]
    return "\n".join([*rows, *(f"{'':22}{line}" for line in rest)]) + "\n"


# --- words ---------------------------------------------------------------------------------------


def read(subcommand: Subcommand, words: Sequence[str]) -> Arguments:
    """Return the words after a subcommand, taken apart.

    Raises:
        Unusable: With what is wrong, and what to write instead.
    """
    given = vars(_parsed(subcommand, words)) if words else {}
    names = tuple(given.pop("names", ()))
    given = {key: value for key, value in given.items() if value is not None}
    for option in subcommand.options:
        if option.metavar and option.field in given:
            given[option.field] = _value(subcommand, option, given[option.field])
    arguments = replace(Arguments(), names=_names(subcommand, names), **given)
    if arguments.watch and arguments.json:
        raise _refusal(subcommand, "--watch with --json", "one is a view, the other data; use one")
    if arguments.wait and arguments.no_wait:
        raise _refusal(subcommand, "--wait with --no-wait", "use one of them")
    if arguments.all and arguments.names:
        raise _refusal(subcommand, "--all with a NAME", "use one of them")
    named = arguments.socket or arguments.pid or SOCKET not in subcommand.options
    return arguments if named else _with_socket_of_environment(arguments)


def _refusal(subcommand: Subcommand, what: str, why: str) -> Unusable:
    return Unusable(f"cannot use {what} (gracewrap {subcommand.name}): {why}")


def _parsed(subcommand: Subcommand, words: Sequence[str]) -> object:
    import argparse

    parser = _parser(subcommand)
    try:
        found, unknown = parser.parse_known_intermixed_args(list(words))
    except argparse.ArgumentError as error:
        raise _misused(subcommand, error, words) from None
    if unknown:
        raise _unknown(subcommand, unknown[0])
    return found


def _parser(subcommand: Subcommand) -> ArgumentParser:
    """Return a parser whose errors are all ArgumentErrors: their words are ours."""
    import argparse

    class Parser(argparse.ArgumentParser):
        def error(self, message: str) -> NoReturn:
            raise argparse.ArgumentError(None, message)

    parser = Parser(add_help=False, allow_abbrev=False, exit_on_error=False)
    for option in subcommand.options:
        if option.metavar:
            parser.add_argument(*option.names, dest=option.field)
        else:
            parser.add_argument(*option.names, dest=option.field, action="store_true", default=None)
    if subcommand.operand[0]:
        parser.add_argument("names", nargs="*")
    return parser


def _misused(subcommand: Subcommand, error: Exception, words: Sequence[str]) -> Unusable:
    """Return what is wrong with an option that argparse has refused."""
    name = str(getattr(error, "argument_name", None) or "").rpartition("/")[2]
    option = next((one for one in subcommand.options if name in one.names), None)
    if option is None:
        return Unusable(f"cannot read the words after gracewrap {subcommand.name}: {error}")
    if option.metavar:
        why = f"it needs a value; write {name} {option.example}"
        return _refusal(subcommand, name, why)
    word = next((one for one in words if one.partition("=")[0] in option.names), name)
    return _refusal(subcommand, word, f"it takes no value; write {name}")


def _unknown(subcommand: Subcommand, word: str) -> Unusable:
    from gracewrap.config.closest_name import closest
    from gracewrap.config.problems import one_line

    name = one_line(word.partition("=")[0])
    if not word.startswith("-") or word == "-":
        run = f"to run a program called {subcommand.name} use gracewrap -- {subcommand.name} ..."
        only = "it takes options only"
        if subcommand.name in ("drain", "undrain"):
            only = f"it is for all programs at once; use gracewrap {subcommand.name}"
        return _refusal(subcommand, repr(name), f"{only}; {run}")
    options = [option.names[-1] for option in subcommand.options]
    near = closest(name, [*options, "--help"])
    return _refusal(
        subcommand, name, f"no such option; use {near or ' or '.join([*options, '--help'])}"
    )


def _names(subcommand: Subcommand, names: tuple[str, ...]) -> tuple[str, ...]:
    """Return the names that were given; an empty one must not come to mean all programs."""
    most = subcommand.operands
    if "" in names:
        what = subcommand.operand[0].strip("[]. ")
        raise _refusal(subcommand, '""', f"it is empty; write a {what}, or remove it")
    if most is not None and len(names) > most:
        from gracewrap.config.problems import one_line

        listed = " and ".join(map(one_line, names[: most + 1]))
        raise _refusal(subcommand, listed, "one at a time; write one of them, or none")
    return names


def _value(subcommand: Subcommand, option: Option, text: str) -> object:
    """Return the value of an option, parsed."""
    why = ""
    if option.metavar == "N":
        if text.isascii() and text.isdecimal() and 0 < int(text[:12]) < 1 << 31:
            return int(text)
        why = f"not a pid; write a number, as in {option.names[-1]} {option.example}"
    elif option.metavar == "DURATION":
        from gracewrap.config.values import BadValue, duration

        try:
            return duration(text)
        except BadValue as fault:
            why = str(fault)
    elif not text or "\0" in text:
        why = f"it is empty; write a {option.metavar.lower()}"
    if why:
        from gracewrap.config.problems import show

        raise _refusal(subcommand, f"{option.names[-1]} = {show(text)}", why)
    return text


def _with_socket_of_environment(arguments: Arguments) -> Arguments:
    """Return the arguments with the socket that a variable names, as a run with it does.

    "off" there is about a gracewrap that this environment starts; another one may be running.
    """
    named = posix.environ.get(SOCKET_VARIABLE.encode(), b"").decode(errors="surrogateescape")
    if named.strip().lower() in ("", "auto", "off"):
        return arguments
    return replace(arguments, socket=named.strip(), socket_origin=f"environment, {SOCKET_VARIABLE}")
