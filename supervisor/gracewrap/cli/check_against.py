"""`gracewrap check --against FILE`: the settings beside the manifest that will run them."""

from __future__ import annotations

import os
import sys

from gracewrap.cli import own_options
from gracewrap.cli.wait import complain
from gracewrap.config.printable import printable
from gracewrap.config.problems import DEFAULT_FILE
from gracewrap.config.settings import COMMAND_LINE
from gracewrap.record import TYPE_CHECKING, Record

if TYPE_CHECKING:
    from collections.abc import Sequence

    from gracewrap.config import command_line
    from gracewrap.manifests.check import Result

AGAINST, FORMAT, FIX, CONTAINER = "--against", "--format", "--fix", "--container"
OPTIONS = (AGAINST, FORMAT, FIX, CONTAINER)
FORMATS = ("text", "json", "sarif", "github")


class Against(Record):
    """What the options of this part of check say."""

    files: tuple[str, ...] = ()
    format: str = "text"
    fix: bool = False
    containers: tuple[str, ...] = ()
    problem: str = ""

    @property
    def asked(self) -> bool:
        """Whether there is a manifest to check, or a mistake in these options to tell."""
        return bool(self.files or self.problem)


def taken(words: Sequence[str]) -> tuple[list[str], Against]:
    """Return the words without these options, and what they say."""
    rest: list[str] = []
    files: list[str] = []
    names: list[str] = []
    form, fix, problem, at = "text", False, "", 0
    while at < len(words):
        name, equals, value = words[at].partition("=")
        if name not in OPTIONS or not own_options.is_free(rest):
            rest.append(words[at])
            if words[at] == "--":
                rest += words[at + 1 :]
                break
            at += 1
            continue
        at += 1
        if name == FIX:
            fix = True
            continue
        if not equals:
            value, at = "".join(words[at : at + 1]), at + 1
        if not value or (value.startswith("-") and value != "-"):
            problem = f"cannot use {name} ({COMMAND_LINE}): it needs a value; {_example(name)}"
            break
        if name == FORMAT:
            form = value
        elif name == CONTAINER:
            names.append(value)
        else:
            files.append(value)
            while not equals and at < len(words) and _is_file(words[at]):
                files.append(words[at])
                at += 1
    if form not in FORMATS:
        problem = f"cannot use {FORMAT} = \"{form}\" ({COMMAND_LINE}): it must be one of " + (
            ", ".join(FORMATS))  # fmt: skip
    elif not files and not problem and (fix or names or form != "text"):
        problem = (
            f"cannot use {FIX}, {FORMAT} or {CONTAINER} without a manifest; {_example(AGAINST)}"
        )
    return rest, Against(tuple(files), form, fix, tuple(names), problem)


def _is_file(word: str) -> bool:
    """Return whether a further word is one more manifest: `--against k8s/*.yaml`."""
    ends = (".yaml", ".yml", ".json", ".hcl", ".nomad")
    return word == "-" or (not word.startswith("-") and word.endswith(ends))


def _example(name: str) -> str:
    return {
        AGAINST: f"write {AGAINST} deployment.yaml",
        FORMAT: f"write {FORMAT} json",
    }.get(name, f"write {name} web")


def run(against: Against, line: command_line.CommandLine) -> int:
    """Print what is found; return 0, 1 if there is an error among it, 125 for wrong options."""
    from gracewrap.manifests import check, formats

    if against.problem or line.problems:
        for text in [against.problem, *(problem.text for problem in line.problems)]:
            if text:
                complain(text)
        return 125
    default = DEFAULT_FILE if os.path.isfile(DEFAULT_FILE) else None
    asked = check.Asked(line, default, against.containers)
    result = check.check(against.files, asked)
    if not against.fix:
        sys.stdout.write(formats.FORMATS[against.format](result))
        return 1 if result.errors else 0
    return _fix(check.patched(result, asked))


def _fix(result: Result) -> int:
    """Print the patched manifests; what no edit has mended goes to stderr."""
    for number, file in enumerate(result.files):
        text = file.text
        if number and not file.is_json:
            sys.stdout.write("" if text.startswith("---") else "---\n")
        sys.stdout.write(text if text.endswith("\n") else text + "\n")
    for one in result.findings:
        remedy = f"; {one.remedy}" if one.remedy else ""
        text = f"{one.file}:{one.line}: {one.level}: {one.rule}: {one.why}{remedy}"
        complain(printable(text))
    return 1 if result.errors else 0
