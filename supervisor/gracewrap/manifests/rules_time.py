"""Rules about time: one clock runs from the platform's stop to its SIGKILL, and all must fit."""

from __future__ import annotations

import math

from gracewrap.config.values import show_duration
from gracewrap.manifests import edits
from gracewrap.manifests.finding import number
from gracewrap.record import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator

    from gracewrap.manifests.finding import Subject
    from gracewrap.manifests.model import Edit, Finding

MARGIN = 1.0  # seconds before the platform's SIGKILL, for the report and the exit
SPARE = 5.0  # seconds that are proposed to be left


def find(subject: Subject) -> Iterator[Finding]:
    """Yield what is wrong with the times."""
    yield from _grace(subject)
    yield from _limit(subject)
    yield from _delays(subject)
    yield from _propagation(subject)


def _off_the_clock(subject: Subject) -> float:
    """Return the seconds that preStop takes off the grace period."""
    hook = subject.container.pre_stop
    return (hook.seconds or 0.0) if hook is not None and hook.counts else 0.0


def _grace(subject: Subject) -> Iterator[Finding]:
    one, budget = subject.container, subject.settings.shutdown_timeout
    grace = one.grace
    hook = _off_the_clock(subject)
    if grace.seconds is None:
        return
    over = budget + hook + MARGIN - grace.seconds
    if over > 0:
        wanted = float(math.ceil(budget + hook + SPARE))
        left = max(0.0, grace.seconds - hook)
        default = " (the default)" if grace.node is None else ""
        why = (
            f"gracewrap may take shutdown_timeout = {show_duration(budget)}, and {grace.key} "
            f"grants {number(grace.seconds)} s{default}"
        )
        why += f", of which preStop takes {number(hook)} s" if hook else ""
        if over > MARGIN:
            why += f": SIGKILL comes {number(round(over - MARGIN, 3))} s before the budget is over"
        else:
            why += f": only {number(round(MARGIN - over, 3))} s are left for the exit"
        shorter = math.floor(left - SPARE) if left > SPARE else 0
        also = ""
        if shorter >= 1:
            also = f"; or {subject.setting('shutdown_timeout', f'{shorter}s')[0]}"
        if grace.most is None or wanted <= grace.most:
            remedy = f"set {grace.key}: {_spelled(subject, wanted)}{also}"
            yield subject.find("grace-period", grace.node, why, remedy, _set(subject, wanted))
        elif shorter >= 1:
            text, edit = subject.setting(
                "shutdown_timeout", f"{math.floor(max(grace.most - hook - SPARE, 1))}s"
            )
            remedy = f"set {grace.key}: {_spelled(subject, grace.most)}, and {text}"
            yield subject.find(
                "grace-period", grace.node, why, remedy, _set(subject, grace.most), edit
            )
        else:
            yield subject.find("grace-period", grace.node, why, "remove preStop, or shorten it")
    if one.pre_stop is not None and one.pre_stop.seconds is None and one.pre_stop.counts:
        room = grace.seconds - budget - MARGIN
        why = (
            "it runs before the stop signal and takes its time off the grace period; "
            f"{number(max(0.0, room))} s are there for it"
        )
        remedy = "move it to gracewrap's pre_stop, which has its place in the budget"
        yield subject.find("pre-stop-unknown", one.pre_stop.key, why, remedy)


def _spelled(subject: Subject, seconds: float) -> str:
    unit = subject.container.grace.unit
    if unit == "ns":
        return str(int(seconds * 1e9))
    return f"{int(seconds)}{unit}"


def _set(subject: Subject, seconds: float) -> Edit | None:
    """Return the edit of the grace period."""
    one, grace = subject.container, subject.container.grace
    text = _spelled(subject, seconds)
    if grace.node is not None:
        return edits.replace_scalar(one.file, grace.node, text, seconds)
    quoted = f'"{text}"' if grace.unit == "s" and one.file.is_json else text
    return edits.add_key(one.file, grace.holder, grace.key, quoted, seconds)


def _limit(subject: Subject) -> Iterator[Finding]:
    """Find a grace period that the platform cuts."""
    one, grace = subject.container, subject.container.grace
    if grace.most is None or grace.node is None or (grace.seconds or 0) <= grace.most:
        return
    most = number(grace.most)
    edit = edits.replace_scalar(one.file, grace.node, _spelled(subject, grace.most))
    if one.platform == "ecs":
        why = f"Fargate refuses a {grace.key} above {most} s"
        yield subject.find("grace-limit", grace.node, why, f"set {grace.key}: {most}", edit)
        return
    why = (
        f"a Nomad client grants at most its max_kill_timeout, {most} s unless its configuration "
        "says otherwise"
    )
    remedy = f"raise max_kill_timeout in the client's configuration, or set {grace.key} to {most} s"
    yield subject.find("grace-limit", grace.node, why, remedy, level="warning")


def _delays(subject: Subject) -> Iterator[Finding]:
    """Find two that wait, one after the other, for the same thing."""
    one = subject.container
    delay = max(each.propagation_delay for each in subject.settings.each)
    hook = one.pre_stop
    if hook is None or not hook.seconds or not delay:
        return
    why = (
        f"{hook.key.text} waits {number(hook.seconds)} s, and then gracewrap waits "
        f"propagation_delay = {show_duration(delay)} for the same thing"
    )
    if hook.counts:
        why += "; both are taken off one grace period, and while preStop runs /readyz says 200"
    remedy = f"remove {hook.key.text}"
    edit = edits.remove_key(hook.holder, hook.key)
    if edit is None and hook.counts:
        key, value = one.node.pair("lifecycle")
        if key is not None and value is hook.holder:
            edit = edits.remove_key(one.node, key)
    yield subject.find("two-delays", hook.key, why, remedy, edit)


def _propagation(subject: Subject) -> Iterator[Finding]:
    """Find a stop that does not wait for the load balancers, or not long enough."""
    one, settings = subject.container, subject.settings
    delay = max(each.propagation_delay for each in settings.each)
    hook = one.pre_stop
    if one.serves is None or one.batch or settings.health_on_stop == "keep":
        return
    if not delay and (hook is None or hook.seconds == 0):
        where = {
            "kubernetes": "endpoints are removed while the stop signal is on its way",
            "ecs": "the load balancer deregisters the task while the stop signal is on its way",
        }.get(one.platform, "the service is deregistered while the stop signal is on its way")
        text, edit = subject.setting("propagation_delay", "5s")
        why = f"{where}, so new connections still come for seconds and are refused"
        yield subject.find("propagation-missing", one.serves, why, text, edit)
        return
    probe = one.probes.get("readinessProbe")
    waits = delay or (hook.seconds or 0.0 if hook is not None else 0.0)
    if probe is None or not waits:
        return
    notices = probe.period * probe.threshold
    if notices > waits:
        why = (
            f"whoever goes by the readiness probe notices after periodSeconds × failureThreshold = "
            f"{number(probe.period)} × {number(probe.threshold)} = {number(notices)} s; requests "
            f"are taken for {number(waits)} s only"
        )
        period = math.floor(waits / probe.threshold)
        text = subject.setting("propagation_delay", f"{math.ceil(notices)}s")[0]
        if period >= 1:
            node = probe.node.get("periodSeconds")
            edit = (
                edits.replace_scalar(one.file, node, str(period))
                if node is not None
                else edits.add_key(one.file, probe.node, "periodSeconds", str(period))
            )
            remedy = f"set periodSeconds: {period} in {probe.key}; or {text}"
            yield subject.find("propagation-short", probe.node, why, remedy, edit)
        else:
            yield subject.find("propagation-short", probe.node, why, text)
