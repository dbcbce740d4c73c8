"""Rules about who gets the stop signal: the command's form, inits, PID namespaces, neighbours."""

from __future__ import annotations

import os

from gracewrap.config.settings import REOPEN, RESTART
from gracewrap.linux import signals
from gracewrap.manifests import edits
from gracewrap.manifests.model import unset
from gracewrap.manifests.wrapped import is_sidecar, wrapped
from gracewrap.policy import stop_signal_recipients
from gracewrap.record import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator

    from gracewrap.manifests.finding import Place, Subject
    from gracewrap.manifests.model import Finding

INITS = stop_signal_recipients.INITS | {"init"}


def find(subject: Subject) -> Iterator[Finding]:
    """Yield what is wrong with the processes."""
    yield from find_without_settings(subject)
    yield from _signal(subject)
    yield from _restarts(subject)


def find_without_settings(place: Place) -> Iterator[Finding]:
    """Yield what is wrong with the processes whatever the settings are."""
    yield from _command(place)
    yield from _inits(place)
    yield from _namespaces(place)
    yield from _neighbours(place)


def _command(subject: Place) -> Iterator[Finding]:
    how = wrapped(subject.container)
    if how.how == "shell" and not how.execs:
        why = (
            "the shell is PID 1: the stop signal ends at it, gracewrap never has it, and all is "
            "killed at the end of the grace period"
        )
        yield subject.find("shell-form", how.node, why, "write the command as a list that begins "
                           'with "gracewrap"; or, in the shell, exec gracewrap ...')  # fmt: skip


def _signal(subject: Subject) -> Iterator[Finding]:
    one, settings = subject.container, subject.settings
    word = unset(one.stop_signal.text) if one.stop_signal is not None else one.default_signal
    try:
        number = signals.number(word)
    except ValueError:  # a variable, or nothing
        return
    if number in settings.stop_on or subject.is_later("stop_on"):
        return
    name = signals.name(number).removeprefix("SIG")
    stops = ",".join(sorted(signals.name(n).removeprefix("SIG") for n in
                            {*settings.stop_on, number}))  # fmt: skip
    what = "is passed on to the command"
    if settings.signal_map.get(number) is not None:
        words = {RESTART: "restarts it", REOPEN: "opens the log anew"}
        what = words.get(settings.signal_map[number], "is sent on as another")
    why = (
        f"the platform stops it with SIG{name}, which {what}: no drain begins, and SIGKILL follows"
    )
    text, edit = subject.setting("stop_on", stops)
    yield subject.find("stop-signal", one.stop_signal, why, text, edit)


def _inits(subject: Place) -> Iterator[Finding]:
    one, how = subject.container, wrapped(subject.container)
    if one.init is not None:
        why = (
            "the platform adds an init (tini) as PID 1; gracewrap reaps and forwards itself, and "
            "orphans would be adopted past it"
        )
        holder = one.node.get("linuxParameters") or one.node.get("LinuxParameters")
        value = holder.pair(one.init.text)[1] if holder is not None else None
        value = value or one.node.pair(one.init.text)[1]
        for config in ("config", "Config"):
            if value is None and (inner := one.node.get(config)) is not None:
                value = inner.pair(one.init.text)[1]
        edit = edits.replace_scalar(one.file, value, "false") if value is not None else None
        yield subject.find("init-beside", one.init, why, f"set {one.init.text}: false", edit)
    found = [word for word in how.before if os.path.basename(word) in INITS]
    if found:
        why = f"{found[0]} is PID 1, and gracewrap below it does the same again"
        yield subject.find("init-beside", how.node, why, f"leave out {' '.join(how.before)}")


def _namespaces(subject: Place) -> Iterator[Finding]:
    one = subject.container
    if one.shared_pid is not None:
        why = (
            "containers share one PID namespace, whose PID 1 is another: processes that the "
            "application leaves behind may be reaped past gracewrap, and any container can signal "
            "it"
        )
        yield subject.find("pid-namespace", one.shared_pid, why, f"remove {one.shared_pid.text}")
    if one.host_pid is not None:
        why = "gracewrap is not PID 1: when it is killed, what it started lives on"
        yield subject.find("pid-namespace", one.host_pid, why, f"remove {one.host_pid.text}")


def _neighbours(subject: Place) -> Iterator[Finding]:
    one = subject.container
    for name, image, node in one.neighbours:
        if not is_sidecar(name, image):
            continue
        if one.platform == "ecs":
            entry = f'{{"containerName": "{name}", "condition": "START"}}'
            remedy = f"add {entry} to dependsOn of {one.name}"
        else:
            remedy = (
                f"move {name} to initContainers with restartPolicy: Always (a native sidecar: it "
                "is stopped last)"
            )
        why = (
            f"it is sent the stop signal at the same time as {one.name}, whose last requests need "
            "it; if it ends first, they fail"
        )
        yield subject.find("sidecar-order", node, f"{name}: {why}", remedy)


def _restarts(subject: Subject) -> Iterator[Finding]:
    one, settings = subject.container, subject.settings
    again = [each for each in settings.each if each.restart != "never"]
    if not again:
        return
    if one.batch and not settings.programs:
        if again[0].restart == "always":
            why = "the Job can never complete: gracewrap starts the command again when it exits"
            text, edit = subject.setting("restart", "never")
            yield subject.find("restart-policy", one.restart, why, text, edit, level="error")
            return
        why = "the Job's backoffLimit counts containers, and gracewrap restarts inside of one"
        yield subject.find(
            "restart-policy", one.restart, why, subject.setting("restart", "never")[0]
        )
    elif one.restart_word and not settings.programs:
        unlimited = again[0].max_restarts is None
        why = "gracewrap restarts the command, so the platform does not see that it fails" + (
            ", however often" if unlimited else "")  # fmt: skip
        if unlimited:
            text = subject.setting("restart", "never")[0]
            yield subject.find("restart-policy", one.restart, why,
                               f"{text}; or set max_restarts")  # fmt: skip
