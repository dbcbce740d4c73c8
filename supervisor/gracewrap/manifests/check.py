"""Checks manifests: reads them, finds the containers that run gracewrap, applies all rules."""

from __future__ import annotations

import os
import re
import shlex

from gracewrap.config.schema import BY_KEY
from gracewrap.manifests import (
    compose,
    edits,
    kubernetes,
    parse_text,
    recognise_platform,
    rules_probes,
    rules_process,
    rules_system,
    rules_time,
)
from gracewrap.manifests.finding import Place, Subject
from gracewrap.manifests.model import ERROR, Edit, Finding
from gracewrap.manifests.parse_text import Unreadable
from gracewrap.manifests.rules_table import RULES
from gracewrap.manifests.wrapped import chosen, effective, wrapped
from gracewrap.record import TYPE_CHECKING, Record

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from gracewrap.config.command_line import CommandLine
    from gracewrap.manifests.compose import Parts
    from gracewrap.manifests.model import Container
    from gracewrap.manifests.parse_text import File
    from gracewrap.manifests.wrapped import Effective

ROUNDS = 6
_FROM_STDIN = "gracewrap check --against -"
AGAIN = "correct that and check again: times and probes have not been looked at"
_RULES = (rules_time.find, rules_probes.find, rules_process.find, rules_system.find)


class Result(Record):
    """What was found, and in which containers it was looked for."""

    findings: tuple[Finding, ...]
    containers: tuple[Container, ...]
    files: tuple[File, ...]

    @property
    def errors(self) -> int:
        """How many findings are errors."""
        return sum(one.level == ERROR for one in self.findings)


class Asked(Record):
    """What manifests are compared with, and in which containers."""

    line: CommandLine  # gracewrap's options and command, as they would be for a run
    default: str | None = None  # the settings file where nothing names one
    only: tuple[str, ...] = ()  # names of containers; none: those that run gracewrap


def check(names: Sequence[str], asked: Asked) -> Result:
    """Return what is found in these files; "-" is standard input."""
    files: list[File] = []
    findings: list[Finding] = []
    for name in names:
        try:
            files.append(parse_text.read(name))
        except Unreadable as fault:
            findings.append(_unreadable(name, fault))
    return checked(files, findings, asked)


def checked(files: Sequence[File], unread: Sequence[Finding], asked: Asked) -> Result:
    """Return what is found in manifests that have been read; *unread* is about the others."""
    findings = list(unread)
    found: list[Container] = []
    beside = kubernetes.beside(files)
    for file in files:
        try:
            found += recognise_platform.containers([file], beside)
        except Unreadable as fault:
            findings.append(_unreadable(file.name, fault))
    those = chosen(found, asked.only)
    if found and not those:
        findings.append(_not_wrapped(found, asked.only))
    elif not found and not findings:
        findings.append(_empty(files))
    findings += _kinds_not_read(files)
    parts = compose.in_parts(files)
    whole = [one for one in those if _place(one) not in parts]
    findings += [_not_merged(one, parts[_place(one)]) for one in those if _place(one) in parts]
    for one in whole:
        findings += _of(one, asked)
    order = {file.name: n for n, file in enumerate(files)}
    unique = {(one.rule, one.file, one.line, one.why): one for one in reversed(findings)}
    findings = sorted(unique.values(), key=lambda one: (order.get(one.file, -1), one.line))
    return Result(tuple(findings), tuple(whole), tuple(files))


def _place(one: Container) -> tuple[str, str]:
    return os.path.dirname(one.file.name), one.workload


def _not_merged(one: Container, parts: Parts) -> Finding:
    rule = RULES["not-merged"]
    why = (
        f"{' and '.join(parts.names)} say it together, and are not merged here: nothing of it was "
        "checked"
    )
    files = " ".join(f"-f {shlex.quote(name)}" for name in parts.names)
    remedy = f"check what it is in the end: docker compose {files} config | {_FROM_STDIN}"
    return Finding(rule.id, rule.level, parts.file.name, parts.line, one.workload, why, remedy)


def _kinds_not_read(files: Sequence[File]) -> Iterator[Finding]:
    rule = RULES["kind-not-read"]
    remedy = (
        f"check the Deployment or the pods that it makes: kubectl get pods -o yaml | {_FROM_STDIN}"
    )
    for file in files:
        objects = (one for root in file.documents for one in kubernetes.objects(root))
        for one in kubernetes.unread(objects):
            kind = f"{one.string('kind')} ({one.string('apiVersion')})"
            why = f"it has containers, and a {kind} is not read: nothing of it was checked"
            yield Finding(
                rule.id, rule.level, file.name, one.line, kubernetes.title(one), why, remedy
            )


def _unreadable(name: str, fault: Unreadable) -> Finding:
    rule = RULES["unreadable"]
    return Finding(rule.id, rule.level, name, fault.line or 1, "", str(fault), "")


def _empty(files: Sequence[File]) -> Finding:
    rule, names = RULES["not-wrapped"], ", ".join(file.name for file in files)
    why = f"there are no containers here of a kind that is read ({names}): nothing was checked"
    return Finding(rule.id, rule.level, files[0].name, 1, "", why, "name the manifest that does")


def _not_wrapped(found: Sequence[Container], only: Sequence[str]) -> Finding:
    rule, first = RULES["not-wrapped"], found[0]
    names = ", ".join(sorted({one.name for one in found}))
    if only:
        why = f"there is no container {', '.join(only)}; there are: {names}"
        return Finding(rule.id, rule.level, first.file.name, first.line, "", why, "")
    node = next((how.node for one in found if (how := wrapped(one)).node is not None), None)
    return Finding(
        rule.id,
        rule.level,
        first.file.name,
        node.line if node is not None else first.line,
        first.title,
        f"no container runs gracewrap ({names}): command replaces the image's entrypoint, and "
        "nothing of this file was checked",
        'write the command as a list that begins with "gracewrap", "--"',
    )


def _of(one: Container, asked: Asked) -> Iterator[Finding]:
    """Yield what is found about a container."""
    known = effective(one, asked.line, asked.default)
    node = wrapped(one).node
    at = node.line if node is not None else one.line
    wrong = [problem.text for problem in known.problems if not problem.warning]
    for text in wrong:
        where = _line_of(text, one) or at
        remedy = AGAIN if text == wrong[-1] else ""
        yield Finding("settings", ERROR, one.file.name, where, one.title, text, remedy)
    if known.unseen is not None:
        rule = RULES["config-not-read"]
        why = (
            f"{known.unseen} is in the container, and its settings are not known here: the "
            "defaults were taken"
        )
        remedy = "add --config FILE to the check"
        yield Finding(rule.id, rule.level, one.file.name, at, one.title, why, remedy)
    if one.unread:
        yield _in_part(one)
    if known.unused:
        yield _unused(known, one, at)
    if known.settings is not None:
        subject = Subject(one, known.settings, known)
        for find in _RULES:
            yield from find(subject)
    else:
        yield from rules_process.find_without_settings(Place(one))
        yield from rules_system.find_without_settings(Place(one))


def _in_part(one: Container) -> Finding:
    """Return what is found about a service whose base cannot be read."""
    rule = RULES["extends-not-read"]
    why = f"it extends {one.unread}, which cannot be read: what stands there is not known"
    remedy = f"check what the service is in the end: docker compose config | {_FROM_STDIN}"
    return Finding(rule.id, rule.level, one.file.name, one.line, one.title, why, remedy)


def _unused(known: Effective, one: Container, at: int) -> Finding:
    """Return what is found about options that were given to the check."""
    rule = RULES["options-not-used"]
    options = ", ".join(BY_KEY[each.key].option for each in known.unused)
    does = "is" if len(known.unused) == 1 else "are"
    why = (
        f"{options} of the check {does} not used: the container's command starts "
        "gracewrap, so its own options and its GRACEWRAP_ variables count"
    )
    remedy = (
        "write them in its command, after gracewrap; for the settings file in the image use "
        "--config"
    )
    return Finding(rule.id, rule.level, one.file.name, at, one.title, why, remedy)


def _line_of(text: str, one: Container) -> int:
    """Return the line of the variable that a problem names first; 0: it stands in no manifest."""
    nodes = (one.env.get(name) for name in re.findall(r"GRACEWRAP_\w+", text))
    return next((node.line for node in nodes if node is not None), 0)


def patched(result: Result, asked: Asked) -> Result:
    """Return what is left when all edits are made; its files have the new texts."""
    for _ in range(ROUNDS):  # one edit may show what another one mends
        if not any(one.edits for one in result.findings):
            break
        try:
            files = [
                parse_text.parse(file.name, edits.applied(file.text, _edits(result, file)).encode())
                for file in result.files
            ]
        except Unreadable:  # an edit that does not fit: better none, what is found says it
            break
        unread = [one for one in result.findings if one.rule == "unreadable"]
        result = checked(files, unread, asked)
    return result


def _edits(result: Result, file: File) -> list[Edit]:
    return [edit for one in result.findings if one.file == file.name for edit in one.edits]
