"""`gracewrap man`: the manual page, made from the table of settings and the subcommands."""

from __future__ import annotations

from collections.abc import Callable

from gracewrap import __version__
from gracewrap.cli.help_topics import EXIT_STATUS, ORDER, default_of, names_of
from gracewrap.cli.subcommand import Arguments, Subcommand
from gracewrap.config.schema import SECTIONS, TABLE, section
from gracewrap.config.subcommand_names import SUBCOMMANDS
from gracewrap.record import replace


def declared(load: Callable[[str], Subcommand]) -> Subcommand:
    """Return the declaration; *load* returns those of the others."""

    def show(arguments: Arguments) -> int:
        print(text(load), end="")
        return 0

    return replace(MAN, run=show)


def text(load: Callable[[str], Subcommand]) -> str:
    """Return the page in the macros of man(7)."""
    parts = [
        f'.TH GRACEWRAP 1 "" "gracewrap {__version__}" "User Commands"',
        ".SH NAME\ngracewrap \\- wrap a command and stop it gracefully",
        ".SH SYNOPSIS\n.B gracewrap\n"
        "[\\fIOPTIONS\\fR] [\\fB\\-\\-\\fR] \\fICOMMAND\\fR [\\fIARG\\fR...]\n.br\n"
        ".B gracewrap\n\\fISUBCOMMAND\\fR [\\fIOPTIONS\\fR]",
        ".SH DESCRIPTION\ngracewrap runs a command, or the programs of a file, forwards signals "
        "and reaps zombies, as a PID 1 must. When it is asked to stop, it sends the command its "
        "stop signal, gives everything that is running one budget of time to end, kills what is "
        "left, and says what happened.",
        ".SH SUBCOMMANDS",
        *(_subcommand(name, load) for name in SUBCOMMANDS if name != "run"),
        ".SH OPTIONS\nEvery option is also a variable, GRACEWRAP_ and its name in capitals, and a "
        "key of the file. An option wins over a variable, a variable over the file.",
        ".TP\n\\fB\\-c\\fR, \\fB\\-\\-config\\fR \\fIFILE\\fR\nRead settings from a TOML file.",
        ".TP\n\\fB\\-\\-no\\-drain\\fR\nLeave out the drain that a file or a preset has.",
    ]
    for part in ORDER:
        heading, sentence = SECTIONS[part]
        parts.append(f".SS {_plain(heading)}\n{_plain(sentence)}")
        parts += [
            _option(names_of(setting), setting.help + default_of(setting))
            for setting in TABLE
            if setting.flag and section(setting) == part
        ]
    parts.append(".SH EXIT STATUS\n" + ".br\n".join(_lines(EXIT_STATUS)))
    parts.append(
        ".SH FILES\n.TP\n.I gracewrap.toml\nWhat gracewrap without a command, and gracewrap check, "
        "read in the current directory."
    )
    return "\n".join(parts) + "\n"


def _option(names: str, text: str) -> str:
    return f".TP\n\\fB{_plain(names)}\\fR\n{_plain(text)}"


def _subcommand(name: str, load: Callable[[str], Subcommand]) -> str:
    if name == "check":
        from gracewrap.cli.cmd_check import HELP

        said = HELP
    elif name == "plan":
        from gracewrap.cli import cmd_plan

        said = cmd_plan.HELP
    elif name == "drill":
        from gracewrap.cli import cmd_drill

        said = cmd_drill.HELP
    else:
        said = load(name).summary
    paragraph = " ".join(said.strip().partition("\n\n")[0].split())
    return f".TP\n\\fB{name}\\fR\n{_plain(paragraph)}"


def _lines(text: str) -> list[str]:
    return [_plain(line.strip()) + "\n" for line in text.strip().splitlines()]


def _plain(text: str) -> str:
    """Return a text so that roff takes nothing in it for its own."""
    text = text.replace("\\", "\\e").replace("-", "\\-")
    return "\\&" + text if text.startswith((".", "'")) else text


MAN = Subcommand(
    "man",
    "gracewrap man prints the manual page.\n",
    ("",),
    (),
    """\
gracewrap man | man -l -
gracewrap man > /usr/local/share/man/man1/gracewrap.1
""",
    "  0    it is printed\n",
    lambda arguments: 125,
)
