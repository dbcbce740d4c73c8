"""A health check (`ready` or `live`): when each of its probes is asked, and what the answers mean
together.  Pure.

Loaded where a check is configured.

A probe passes once it has passed so often in a row, and fails once it has failed so often in a row;
between the two it stays what it was, so that one lost answer changes nothing.  Before the check has
passed for the first time the program is still starting: its probes are asked sooner.

Source: failureThreshold, successThreshold and periodSeconds of Kubernetes' probes.
"""

from __future__ import annotations

from gracewrap.record import Record, replace

# Seconds between two questions while the program starts: most are soon up, and others wait for it.
START_FIRST, START_INTERVAL = 0.02, 0.25
# Why a program fails all checks whose main process is stopped.
STOPPED = "it is stopped by a signal (SIGSTOP)"


class CheckPolicy(Record):
    """How a check is asked, and how often in a row its probes must pass or fail.

    *lasting*: for each probe, whether its passing lasts as long as the program runs, as a line that
    it has written does: such a probe is not asked again.  *limit*: seconds from the start until it
    must have passed for the first time; None: no limit.  *start_interval*: seconds between two
    questions before that.
    """

    lasting: tuple[bool, ...]
    combine: str = "all"  # or "any"
    every: float = 1.0
    failures: int = 3
    passes: int = 1
    limit: float | None = None
    start_interval: float = START_INTERVAL


class ProbeState(Record):
    """One probe: it is *passing*, *contrary* answers in a row have said otherwise since.

    It is asked at *next_at*; None: it is being asked, or need not be asked again.
    """

    next_at: float | None
    gap: float  # seconds to the next question while it starts
    asked_at: float = 0.0
    passing: bool = False
    contrary: int = 0


class Check(Record):
    """A check of a program that was started at *since*.

    *why*: what the last answer that did not pass said.  *changed_at*: since when it is *passing*,
    or is not.
    """

    since: float
    probes: tuple[ProbeState, ...]
    passing: bool = False
    has_passed: bool = False  # at least once since the program was started
    overdue: bool = False  # *limit* was over before it had passed
    changed_at: float = 0.0
    why: str = ""


def begin(policy: CheckPolicy, since: float, at: float) -> Check:
    """Return the check of a program that was started at *since*: each probe is asked at once."""
    probe = ProbeState(at, min(policy.every, START_FIRST))
    return Check(since, (probe,) * len(policy.lasting), changed_at=since)


def deadline(check: Check, policy: CheckPolicy) -> float | None:
    """Return when the check next needs a tick, or None."""
    times = [probe.next_at for probe in check.probes if probe.next_at is not None]
    if policy.limit is not None and not check.has_passed and not check.overdue:
        times.append(check.since + policy.limit)
    return min(times, default=None)


def tick(check: Check, policy: CheckPolicy, at: float) -> tuple[Check, tuple[int, ...]]:
    """Return the check, and which of its probes are asked now."""
    due = tuple(
        i
        for i, probe in enumerate(check.probes)
        if probe.next_at is not None and at >= probe.next_at
    )
    probes = tuple(
        replace(probe, next_at=None, asked_at=at) if i in due else probe
        for i, probe in enumerate(check.probes)
    )
    late = policy.limit is not None and at >= check.since + policy.limit
    overdue = check.overdue or (late and not check.has_passed)
    return replace(check, probes=probes, overdue=overdue), due


def hurry(check: Check, at: float) -> Check:
    """Return the check when the program has said something: what would be asked later is asked
    now."""
    probes = tuple(
        probe if probe.next_at is None else replace(probe, next_at=at) for probe in check.probes
    )
    return replace(check, probes=probes)


def answered(
    check: Check, policy: CheckPolicy, probe: int, passes: bool | None, why: str, at: float
) -> Check:
    """Return the check when a probe has answered; *why* says what is wrong.

    *passes* is None if nobody could be asked: that says nothing about the program, which would be
    ended for want of processes and then not be started again.

    Source: the kubelet throws away what a probe that cannot be run has brought.
    """
    states = list(check.probes)
    if passes is not None:
        states[probe] = _turned(states[probe], policy, passes)
    enough = all if policy.combine == "all" else any
    passing = enough(state.passing for state in states)
    changed = passing is not check.passing
    has_passed = check.has_passed or passing
    states[probe] = _scheduled(states[probe], policy, probe, has_passed, at)
    return replace(
        check,
        probes=tuple(states),
        passing=passing,
        has_passed=has_passed,
        changed_at=at if changed else check.changed_at,
        why=check.why if passes else why or check.why,
    )


def _turned(state: ProbeState, policy: CheckPolicy, passes: bool) -> ProbeState:
    if passes is state.passing:
        return replace(state, contrary=0)
    contrary = state.contrary + 1
    if contrary < (policy.passes if passes else policy.failures):
        return replace(state, contrary=contrary)
    return replace(state, passing=passes, contrary=0)


def _scheduled(
    state: ProbeState, policy: CheckPolicy, probe: int, has_passed: bool, at: float
) -> ProbeState:
    """Return the probe with the time when it is asked next."""
    if state.passing and policy.lasting[probe]:
        return replace(state, next_at=None)
    if has_passed:
        return replace(state, next_at=max(at, state.asked_at + policy.every))
    gap = min(policy.every, policy.start_interval, state.gap * 2)
    return replace(state, next_at=at + state.gap, gap=gap)
