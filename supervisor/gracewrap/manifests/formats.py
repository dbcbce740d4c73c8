"""Shows findings: as text, as JSON, as SARIF 2.1.0 (code scanning), and as annotations of GitHub's
workflows."""

from __future__ import annotations

import json
import re
import textwrap

from gracewrap import __version__
from gracewrap.config.printable import printable
from gracewrap.manifests.rules_table import RULES
from gracewrap.record import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from gracewrap.manifests.check import Result
    from gracewrap.manifests.model import Finding

WIDTH = 80


def text(result: Result) -> str:
    """Return the findings for people."""
    parts = [_paragraph(one) for one in result.findings]
    count = len(result.containers)
    where = f"{count} container{'s' * (count != 1)} checked"
    if not result.findings:
        parts.append(f"{_names(result)}: ok ({where})")
    else:
        warnings = len(result.findings) - result.errors
        parts.append(
            f"{result.errors} error{'s' * (result.errors != 1)}, "
            f"{warnings} warning{'s' * (warnings != 1)} ({where})"
        )
    return "\n\n".join(parts) + "\n"


def _names(result: Result) -> str:
    return ", ".join(file.name for file in result.files)


def _paragraph(one: Finding) -> str:
    head = f"{one.file}:{one.line}: {one.level}: {one.rule}"
    lines = [printable(f"{head} ({one.container})" if one.container else head)]
    for label, said in (("", printable(one.why)), ("fix: ", printable(one.remedy))):
        if said:
            lines.append(
                textwrap.fill(
                    label + said,
                    WIDTH - 1,
                    initial_indent="  ",
                    subsequent_indent="  " + " " * len(label),
                    break_long_words=False,
                    break_on_hyphens=False,
                )
            )
    return "\n".join(lines)


def as_json(result: Result) -> str:
    """Return the findings as a JSON document."""
    document = {
        "findings": [
            {
                "rule": one.rule,
                "level": one.level,
                "file": one.file,
                "line": one.line,
                "container": one.container,
                "why": one.why,
                "fix": one.remedy,
                "fixable": bool(one.edits),
            }
            for one in result.findings
        ],
        "containers": [
            {"file": one.file.name, "line": one.line, "container": one.title}
            for one in result.containers
        ],
        "errors": result.errors,
        "warnings": len(result.findings) - result.errors,
    }
    return json.dumps(document, indent=2, ensure_ascii=False) + "\n"


def sarif(result: Result) -> str:
    """Return the findings as a SARIF log, for code scanning."""
    used = list(dict.fromkeys(one.rule for one in result.findings))
    rules = [
        {
            "id": name,
            "shortDescription": {"text": RULES[name].summary},
            "help": {"text": f"See docs/manifests.md, {name}."},
            "defaultConfiguration": {"level": RULES[name].level},
        }
        for name in used
    ]
    results = [
        {
            "ruleId": one.rule,
            "ruleIndex": used.index(one.rule),
            "level": one.level,
            "message": {"text": _message(one)},
            "locations": [
                {
                    "physicalLocation": {
                        "artifactLocation": {"uri": _uri(one.file)},
                        "region": {"startLine": max(1, one.line)},
                    }
                }
            ],
        }
        for one in result.findings
    ]
    driver = {"name": "gracewrap", "version": __version__, "rules": rules}
    log = {
        "$schema": "https://json.schemastore.org/sarif-2.1.0.json",
        "version": "2.1.0",
        "runs": [{"tool": {"driver": driver}, "results": results}],
    }
    return json.dumps(log, indent=2, ensure_ascii=False) + "\n"


def _uri(name: str) -> str:
    from urllib.parse import quote

    # A reference that begins with a slash cannot be combined with a base (SARIF1004).
    return f"file://{quote(name)}" if name.startswith("/") else quote(name)


def _message(one: Finding) -> str:
    where = f"{one.container}: " if one.container else ""
    return f"{where}{one.why}" + (f". Fix: {one.remedy}" if one.remedy else "")


def github(result: Result) -> str:
    """Return the findings as workflow commands, which GitHub shows beside the lines."""
    return "".join(_annotations(result))


def _annotations(result: Result) -> Iterator[str]:
    for one in result.findings:
        title = _escaped(f"gracewrap: {one.rule}", True)
        yield (
            f"::{one.level} file={_escaped(one.file, True)},line={max(1, one.line)},"
            f"title={title}::{_escaped(_message(one))}\n"
        )


def _escaped(said: str, in_property: bool = False) -> str:
    """Return a text as a workflow command takes it; in a property : and , are escaped as well."""
    pattern = "[%\r\n:,]" if in_property else "[%\r\n]"
    return re.sub(pattern, lambda found: f"%{ord(found[0]):02X}", said)


FORMATS: dict[str, Callable[[Result], str]] = {
    "text": text,
    "json": as_json,
    "sarif": sarif,
    "github": github,
}
