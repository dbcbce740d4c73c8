"""Rules about time: one clock runs from the platform's stop to its SIGKILL, and all must fit."""

from __future__ import annotations

import math

from gracewrap.config.values import show_duration
from gracewrap.manifests import edits
from gracewrap.manifests.finding import number
from gracewrap.record import TYPE_CHECKING, Record

if TYPE_CHECKING:
    from collections.abc import Iterator

    from gracewrap.manifests.finding import Subject
    from gracewrap.manifests.model import Edit, Finding, PreStop

MARGIN = 1.0  # seconds before the platform's SIGKILL, for the report and the exit
SPARE = 5.0  # seconds that are proposed to be left
DELAY = 5.0  # seconds of propagation_delay that are proposed where there are none
TRIES = 10  # whole seconds by which a longer budget is tried
# The budget is made longer before what needs it, where one edit a round can be made.
SECOND, FIRST = 1.0, 2.0


class Plan(Record):
    """Times that fit together: whatever is proposed about one of them fits the others."""

    delay: float  # propagation_delay
    budget: float  # shutdown_timeout
    drops: bool = False  # without what the platform waits before the stop signal
    grace: float | None = None  # the platform's grace period, if that has to be longer
    period: int = 0  # of the readiness probe, if that has to be shorter
    fits: bool = True  # False: nothing was found, and this is how it is


def find(subject: Subject) -> Iterator[Finding]:
    """Yield what is wrong with the times."""
    plan = _plan(subject)
    yield from _grace(subject, plan)
    yield from _probes(subject)
    yield from _limit(subject, plan)
    yield from _delays(subject, plan)
    yield from _propagation(subject, plan)


def _plan(subject: Subject) -> Plan:
    """Return the times to propose."""
    one, delay = subject.container, _delay(subject)
    hook = one.pre_stop.seconds or 0.0 if one.pre_stop is not None else 0.0
    wanted, period, drops = delay, 0, bool(hook and delay)
    if drops:  # the longer one of the two: who serves for that long must not for less
        wanted = max(hook, delay)
    elif _is_missing(subject):
        wanted = DELAY
    notices, waits = _notices(subject), wanted or hook
    if notices > waits > 0 and not _is_missing(subject):
        period = math.floor(waits / one.probes["readinessProbe"].threshold)
        if period < 1:
            wanted, drops = float(math.ceil(notices)), bool(hook)
    now = Plan(delay, subject.settings.shutdown_timeout, period=period, fits=False)
    budget = _budget(subject, wanted)
    if budget is None:
        return now
    grace = _longer(subject, budget, 0.0 if drops else _off_the_clock(subject))
    if grace is not None and one.grace.most is not None and grace > one.grace.most:
        return now
    return Plan(wanted, budget, drops, grace, period)


def _delay(subject: Subject) -> float:
    return max(each.propagation_delay for each in subject.settings.each)


def _budget(subject: Subject, delay: float) -> float | None:
    """Return the budget for a propagation_delay: that which is there if it is long enough."""
    budget, more = subject.settings.shutdown_timeout, delay - _delay(subject)
    if more <= 0 or _goes(subject, delay, budget):
        return budget
    least = math.ceil(budget + more)
    return next((float(one) for one in range(least, least + TRIES) if _goes(subject, delay, one)),
                None)  # fmt: skip


def _goes(subject: Subject, delay: float, budget: float) -> bool:
    """Return whether a run takes these two; nothing else of it changes."""
    values = {"propagation_delay": f"{delay:g}s", "shutdown_timeout": f"{budget:g}s"}
    return subject.effective.with_values(values) is not None


def _longer(subject: Subject, budget: float, hook: float) -> float | None:
    """Return the grace period for a budget, if that which is there is too short; it is enough for
    the budget that is there as well."""
    grace = subject.container.grace.seconds
    if grace is None or budget + hook + MARGIN <= grace:
        return None
    now = subject.settings.shutdown_timeout + _off_the_clock(subject)
    return float(math.ceil(max(budget + hook, now) + SPARE))


def _made(subject: Subject, plan: Plan) -> tuple[str, list[Edit]]:
    """Return how it becomes as planned, and the edits if all of it can be made in the manifest."""
    one = subject.container
    texts: list[str] = []
    made: list[Edit | None] = []
    for key, now, wanted, weight in (
        ("propagation_delay", _delay(subject), plan.delay, SECOND),
        ("shutdown_timeout", subject.settings.shutdown_timeout, plan.budget, FIRST),
    ):
        if wanted != now:
            text, edit = subject.setting(key, f"{wanted:g}s", weight)
            texts.append(text)
            made.append(edit)
    if plan.drops and one.pre_stop is not None:
        texts.append(f"remove {one.pre_stop.key.text}")
        made.append(_without_hook(subject, one.pre_stop))
    if plan.grace is not None:
        texts.append(f"set {one.grace.key}: {_spelled(subject, plan.grace)}")
        made.append(_set(subject, plan.grace))
    edits_made = [edit for edit in made if edit is not None]
    return ", and ".join(texts), edits_made if len(edits_made) == len(made) else []


def _without_hook(subject: Subject, hook: PreStop) -> Edit | None:
    """Return the edit that removes what the platform waits."""
    one = subject.container
    edit = edits.remove_key(hook.holder, hook.key)
    if edit is None and hook.counts:
        key, value = one.node.pair("lifecycle")
        if key is not None and value is hook.holder:
            edit = edits.remove_key(one.node, key)
    return edit


def _off_the_clock(subject: Subject) -> float:
    """Return the seconds that preStop takes off the grace period."""
    hook = subject.container.pre_stop
    return (hook.seconds or 0.0) if hook is not None and hook.counts else 0.0


def _grace(subject: Subject, plan: Plan) -> Iterator[Finding]:
    one, budget = subject.container, subject.settings.shutdown_timeout
    granted = one.grace.seconds
    if granted is None:
        return
    over = budget + _off_the_clock(subject) + MARGIN - granted
    if over > 0 and not subject.is_later("shutdown_timeout"):
        yield _too_short(subject, plan, granted, over)
    if one.pre_stop is not None and one.pre_stop.seconds is None and one.pre_stop.counts:
        room = granted - budget - MARGIN
        why = (
            "it runs before the stop signal and takes its time off the grace period; "
            f"{number(max(0.0, room))} s are there for it"
        )
        remedy = "move it to gracewrap's pre_stop, which has its place in the budget"
        yield subject.find("pre-stop-unknown", one.pre_stop.key, why, remedy)


def _probes(subject: Subject) -> Iterator[Finding]:
    """Find probes that leave less time than the pod does when they end a container."""
    budget, grace = subject.settings.shutdown_timeout, subject.container.grace
    for probe in subject.container.probes.values():
        granted = probe.node.number(grace.key)
        needed = budget + _off_the_clock(subject) + MARGIN
        is_known = probe.grace is not None and not subject.is_later("shutdown_timeout")
        if probe.grace is None or not is_known or granted is None or granted >= needed:
            continue
        why = (
            f"if {probe.key} fails the container is stopped with {number(granted)} s, and "
            f"gracewrap may take shutdown_timeout = {show_duration(budget)}"
        )
        wanted = str(math.ceil(needed + SPARE - MARGIN))
        remedy = f"set {grace.key}: {wanted} in {probe.key}, or remove it there"
        edit = edits.replace_scalar(subject.container.file, probe.grace, wanted, float(wanted))
        yield subject.find("grace-period", probe.grace, why, remedy, edit, level="warning")


def _too_short(subject: Subject, plan: Plan, granted: float, over: float) -> Finding:
    """Return the finding about a grace period of *granted* seconds, *over* too few; the best remedy
    that is possible."""
    grace, budget = subject.container.grace, subject.settings.shutdown_timeout
    hook = _off_the_clock(subject)
    why = _why_too_short(subject, granted, over)
    wanted = max(float(math.ceil(budget + hook + SPARE)), plan.grace or 0.0)
    if grace.most is None or wanted <= grace.most:
        remedy = f"set {grace.key}: {_spelled(subject, wanted)}"
        if shorter := _shorter(subject, plan):
            remedy += f"; or {subject.setting('shutdown_timeout', f'{shorter}s')[0]}"
        return subject.find("grace-period", grace.node, why, remedy, _set(subject, wanted))
    longest = f"set {grace.key}: {_spelled(subject, grace.most)}, and"
    if most := _most(subject, plan):
        text, edit = subject.setting("shutdown_timeout", f"{most}s")
        longer = _set(subject, grace.most)
        return subject.find("grace-period", grace.node, why, f"{longest} {text}", longer, edit)
    remedy = f"{longest} shorten shutdown_timeout and what it has to hold"
    if hook:
        remedy = "remove preStop, or shorten it"
    return subject.find("grace-period", grace.node, why, remedy)


def _why_too_short(subject: Subject, granted: float, over: float) -> str:
    grace, hook = subject.container.grace, _off_the_clock(subject)
    default = " (the default)" if grace.node is None else ""
    why = (
        f"gracewrap may take shutdown_timeout = {show_duration(subject.settings.shutdown_timeout)}"
        f", and {grace.key} grants {number(granted)} s{default}"
    )
    why += f", of which preStop takes {number(hook)} s" if hook else ""
    if over > MARGIN:
        return f"{why}: SIGKILL comes {number(round(over - MARGIN, 3))} s before the budget is over"
    return f"{why}: only {number(round(MARGIN - over, 3))} s are left for the exit"


def _shorter(subject: Subject, plan: Plan) -> int:
    """Return the budget that fits into the grace period as it is; 0: none that goes with the rest
    of what is proposed."""
    return _within(subject, plan, subject.container.grace.seconds)


def _most(subject: Subject, plan: Plan) -> int:
    """Return the budget that fits into the most that the platform grants; 0: none does."""
    return _within(subject, plan, subject.container.grace.most)


def _within(subject: Subject, plan: Plan, grace: float | None) -> int:
    found = math.floor((grace or 0.0) - _off_the_clock(subject) - SPARE)
    if found < 1 or plan.budget != subject.settings.shutdown_timeout:
        return 0
    return found if _goes(subject, plan.delay, found) else 0


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


def _limit(subject: Subject, plan: Plan) -> Iterator[Finding]:
    """Find a grace period that the platform cuts."""
    one, grace = subject.container, subject.container.grace
    if grace.most is None or grace.node is None or (grace.seconds or 0) <= grace.most:
        return
    most, shorter = number(grace.most), ""
    made = [edits.replace_scalar(one.file, grace.node, _spelled(subject, grace.most))]
    if subject.settings.shutdown_timeout + _off_the_clock(subject) + MARGIN > grace.most:
        fits = _most(subject, plan)
        if fits:
            text, edit = subject.setting("shutdown_timeout", f"{fits}s")
            shorter = f", and {text}"
            made.append(edit)
        else:
            shorter = ", and shorten shutdown_timeout and what it has to hold"
    if one.platform == "ecs":
        why = f"Fargate refuses a {grace.key} above {most} s"
        remedy = f"set {grace.key}: {most}{shorter}"
        yield subject.find("grace-limit", grace.node, why, remedy, *(made if all(made) else ()))
        return
    why = (
        f"a Nomad client grants at most its max_kill_timeout, {most} s unless its configuration "
        "says otherwise"
    )
    remedy = f"raise max_kill_timeout in the client's configuration, or set {grace.key} to {most} s"
    remedy += shorter
    yield subject.find("grace-limit", grace.node, why, remedy, level="warning")


def _delays(subject: Subject, plan: Plan) -> Iterator[Finding]:
    """Find two that wait, one after the other, for the same thing."""
    delay, hook = _delay(subject), subject.container.pre_stop
    if hook is None or not hook.seconds or not delay:
        return
    why = (
        f"{hook.key.text} waits {number(hook.seconds)} s, and then gracewrap waits "
        f"propagation_delay = {show_duration(delay)} for the same thing"
    )
    if hook.counts:
        why += "; both are taken off one grace period, and while preStop runs /readyz says 200"
    if plan.fits:
        remedy, made = _made(subject, plan)
    else:  # the platform grants no longer time
        remedy, made = subject.setting("propagation_delay", "0s")[0], []
    yield subject.find("two-delays", hook.key, why, remedy, *made)


def _is_missing(subject: Subject) -> bool:
    """Return whether nothing waits for the load balancers."""
    hook = subject.container.pre_stop
    waits = bool(_delay(subject)) or subject.is_later("propagation_delay")
    return _waits(subject) and not waits and (hook is None or hook.seconds == 0)


def _waits(subject: Subject) -> bool:
    """Return whether it takes connections that have to end first."""
    one = subject.container
    return one.serves is not None and not one.batch and subject.settings.health_on_stop != "keep"


def _notices(subject: Subject) -> float:
    """Return when the readiness probe has noticed; 0.0: there is none that matters."""
    probe = subject.container.probes.get("readinessProbe")
    return probe.period * probe.threshold if probe is not None and _waits(subject) else 0.0


def _propagation(subject: Subject, plan: Plan) -> Iterator[Finding]:
    """Find a stop that does not wait for the load balancers, or not long enough."""
    one, delay, hook = subject.container, _delay(subject), subject.container.pre_stop
    if _is_missing(subject):
        where = {
            "kubernetes": "endpoints are removed while the stop signal is on its way",
            "ecs": "the load balancer deregisters the task while the stop signal is on its way",
        }.get(one.platform, "the service is deregistered while the stop signal is on its way")
        why = f"{where}, so new connections still come for seconds and are refused"
        text, made = (
            _made(subject, plan)
            if plan.fits
            else ("shorten stop_timeout, and set propagation_delay", [])
        )
        yield subject.find("propagation-missing", one.serves, why, text, *made)
        return
    waits = max(delay, hook.seconds or 0.0 if hook is not None else 0.0)
    notices, probe = _notices(subject), one.probes.get("readinessProbe")
    if probe is None or subject.is_later("propagation_delay") or not notices > waits > 0:
        return
    why = (
        f"whoever goes by the readiness probe notices after periodSeconds × failureThreshold = "
        f"{number(probe.period)} × {number(probe.threshold)} = {number(notices)} s; requests "
        f"are taken for {number(waits)} s only"
    )
    if not plan.period:
        text = _made(subject, plan)[0] if plan.fits else "shorten periodSeconds × failureThreshold"
        yield subject.find("propagation-short", probe.node, why, text)
        return
    node = probe.node.get("periodSeconds")
    edit = (
        edits.replace_scalar(one.file, node, str(plan.period))
        if node is not None
        else edits.add_key(one.file, probe.node, "periodSeconds", str(plan.period))
    )
    remedy = f"set periodSeconds: {plan.period} in {probe.key}"
    longer, budget = float(math.ceil(notices)), subject.settings.shutdown_timeout
    budget = min(budget, _shorter(subject, plan) or budget)  # what is proposed beside it
    if delay == waits == plan.delay and _goes(subject, longer, budget):
        remedy += f"; or {subject.setting('propagation_delay', f'{longer:g}s')[0]}"
    yield subject.find("propagation-short", probe.node, why, remedy, edit)
